"""What a run takes over from the adapter that it trains further: its settings, and a copy of its files."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

from adapters.check import demand
from adapters.files import CONFIG, WANTED, WEIGHTS
from adapters.fit import is_same_base
from adapters.library import Adapter
from phi3.models import base_facts
from training.config import RunConfig

# What an adapter may hold beyond plain LoRA weights, and a run of ours wouldn't keep.
_PLAIN_ONLY = ("modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform", "lora_bias",
               "trainable_token_indices", "target_parameters", "exclude_modules")
_PATTERNS = {"rank_pattern", "alpha_pattern"}


def like(config: RunConfig, start: Adapter) -> RunConfig:
    """The settings with the adapter's own rank, alpha and layers; ValueError where it can't be trained further."""
    if not start.base:
        demand(start.folder, base_facts(config.base))
    elif not is_same_base(start.base, config.base):
        raise ValueError(f"{start.name} is an adapter for {start.base}, and this run's base is {config.base}. Start "
                         "from an adapter of this base, or from none.")
    made = json.loads((start.folder / CONFIG).read_text(encoding="utf-8"))
    strange = [name for name in _PLAIN_ONLY if made.get(name)]
    by_loralib = _as_loralib(config, start) if strange and {*strange} <= _PATTERNS else None
    if by_loralib:
        return by_loralib
    if strange or made.get("peft_type") != "LORA" or not isinstance(made.get("target_modules"), list):
        raise ValueError(f"{start.name} can't be trained further here: it uses {', '.join(strange) or 'another form'}, "
                         "and only plain LoRA and DoRA adapters can. Start from another one.")
    # What PEFT takes for a rank and an alpha that the config leaves out is 8.
    kept = {"r": made.get("r", 8), "lora_alpha": made.get("lora_alpha", 8), "target_modules": made["target_modules"],
            **{name: bool(made.get(name)) for name in ("use_rslora", "use_dora")}}
    return RunConfig.from_settings({**config.settings(), **kept})


def _as_loralib(config: RunConfig, start: Adapter) -> RunConfig | None:
    """The settings with which loralib makes an adapter of these layers, whose q, k and v have each their own A; None
    where it makes none such.
    """
    from adapters.formats import fused, read_peft
    from adapters.layers import last_name, shape_of
    from adapters.loralib_files import checkpoint_of
    from adapters.loralib_layers import layers_for

    shape = shape_of(base_facts(config.base).config)
    try:
        layers = checkpoint_of(fused(read_peft(start.folder, shape), shape), shape).layers
        targets, usual = sorted(set(map(last_name, layers))), next(iter(layers.values()))
        made = layers_for(shape, targets, usual.r, usual.lora_alpha)
    except ValueError:  # loralib has no such layers
        return None
    use_rslora = usual.lora_alpha != round(usual.lora_alpha)
    alpha = usual.lora_alpha / (math.sqrt(usual.r) if use_rslora else 1)
    if layers != made or not math.isclose(alpha, round(alpha)):
        return None
    if config.method == "qlora":
        raise ValueError(f"{start.name} was made by loralib, which trains no 4-bit base. Train it further with the "
                         "method loralib.")
    return RunConfig.from_settings({**config.settings(), "method": "loralib", "r": usual.r, "lora_alpha": round(alpha),
                                    "use_rslora": use_rslora, "use_dora": False, "target_modules": targets})


def copy_start(start: Adapter, folder: Path) -> None:
    """The adapter as it was at Start: the run needs nobody else's files to go on."""
    folder.mkdir()
    for name in WANTED:
        shutil.copyfile(start.folder / name, folder / name)
    hub = start.provenance.get("hub")
    about = {"name": start.name, "run": start.provenance.get("run"), **({"hub": hub} if isinstance(hub, dict) else {}),
             "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
