"""loralib's checkpoints: read safely, turned into an adapter in PEFT's terms with the same logits, and back."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapters.files import MEBIBYTE, MOST_TENSORS, arriving, opened, printable, read_header, read_object
from adapters.formats import Lora, Pair, blocks_of, fused
from adapters.layers import EMBEDDING, FUSED, WHOLE, Phi3Shape, last_name
from adapters.loralib_layers import LoralibLayer, part_paths
from adapters.peft_config import MOST_RANK, LoraSettings

STATE, ABOUT = "lora.safetensors", "lora.json"
PICKLED = (".pt", ".pth", ".bin")
MOST_BYTES = 8 * 1024 * MEBIBYTE


@dataclass(frozen=True)
class Checkpoint:
    """A state dict of `<path>.lora_A` and `<path>.lora_B`, and how each layer was made, by path.

    loralib keeps neither alpha nor which parts are switched on: `layers` comes from the file beside it, or is guessed
    from the shapes.
    """

    weights: Mapping[str, torch.Tensor]
    layers: Mapping[str, LoralibLayer]
    base: str | None = None
    revision: str | None = None
    says_alpha: bool = True


@dataclass(frozen=True)
class _Known:
    """What is known of a checkpoint besides its tensors: the base's sizes, the file beside it, what was asked for."""

    shape: Phi3Shape
    said: Mapping[str, Any]
    lora_alpha: float | None
    enable: tuple[str, ...]


def read_checkpoint(path: Path, shape: Phi3Shape, lora_alpha: float | None = None,
                    enable: tuple[str, ...] = ()) -> Checkpoint:
    """Read a checkpoint: a file (torch's or safetensors), or a folder that holds lora.safetensors or one such file.

    `lora_alpha` and `enable` (last names such as q_proj) say what a bare state dict doesn't. ValueError where the file
    can't be trusted, doesn't fit the base, or leaves open what it means.
    """
    if lora_alpha is not None and not 0 < abs(lora_alpha) < 1e9:
        raise ValueError(f"alpha is {lora_alpha}, and should be a number below a billion that isn't 0, with which an "
                         "adapter does nothing.")
    if not WHOLE.keys() >= set(enable):
        raise ValueError(f"{', '.join(enable)} can't be switched on. Give names out of {', '.join(WHOLE)}.")
    file = _file_of(path)
    weights = _plain_tensors(file)
    if not weights:
        raise ValueError(f"{file.name} holds no tensors named lora_A and lora_B, so it is no checkpoint of loralib.")
    about = file.with_name(ABOUT)
    known = _Known(shape, read_object(about) if about.is_file() else {}, lora_alpha, enable)
    layers = {name: _made(name, weights, known) for name in dict.fromkeys(key.rpartition(".")[0] for key in weights)}
    says_alpha = lora_alpha is not None or all(_said_of(known.said, name) for name in layers)
    return Checkpoint(weights, layers, _name(known.said, "base"), _name(known.said, "revision"), says_alpha)


def lora_of(checkpoint: Checkpoint, base: str | None = None, revision: str | None = None) -> Lora:
    """The adapter that gives the same logits: a MergedLinear's blocks become pairs of q, k and v.

    `base` and `revision` are written down where the checkpoint says none.
    """
    pairs: dict[str, Pair] = {}
    for path, how in checkpoint.layers.items():
        a, b = checkpoint.weights[f"{path}.lora_A"], checkpoint.weights[f"{path}.lora_B"]
        scaling = how.lora_alpha / how.r
        if how.kind != "MergedLinear":
            pairs[path] = Pair(a, b, scaling)
            continue
        parts = part_paths(path, how)
        for part, own_a, own_b in zip(parts, a.chunk(len(parts)), b.chunk(len(parts)), strict=True):
            pairs[part] = Pair(own_a.clone(), own_b.clone(), scaling)
    usual = next(iter(checkpoint.layers.values()))
    named = (checkpoint.base, checkpoint.revision) if checkpoint.base else (base, revision)
    return Lora(pairs, LoraSettings(*named, usual.r, usual.lora_alpha))


def checkpoint_of(lora: Lora, shape: Phi3Shape) -> Checkpoint:
    """The checkpoint of loralib's layers that give the same logits as an adapter.

    A fused projection whose parts are equally wide and have ranks of their own, all alike, becomes a MergedLinear;
    any other a Linear, which can hold everything that plain LoRA can. ValueError for a DoRA adapter.
    """
    if lora.settings.is_dora:
        raise ValueError("It is a DoRA adapter, and loralib's layers have no magnitudes. Keep it in PEFT's format, or "
                         "merge it into its base: python -m adapters merge.")
    weights, layers = {}, {}
    for path, pair in fused(lora, shape).pairs.items():
        merged = _merged(pair, path, shape) if last_name(path) in FUSED else None
        a, b, layers[path] = merged or (pair.a, pair.b, LoralibLayer(
            "Embedding" if path == EMBEDDING else "Linear", pair.rank, _alpha(pair.scaling, pair.rank)))
        weights |= {f"{path}.lora_A": a.contiguous(), f"{path}.lora_B": b.contiguous()}
    return Checkpoint(weights, layers, lora.settings.base, lora.settings.revision)


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write lora.safetensors (the state dict) and lora.json (how its layers are made) into a new or empty folder."""
    from safetensors.torch import save_file

    about = {"format": "loralib", "base": checkpoint.base, "revision": checkpoint.revision,
             "layers": {path: how.as_json() for path, how in checkpoint.layers.items()}}
    with arriving(folder) as unfinished:
        save_file({key: value.clone() for key, value in checkpoint.weights.items()}, unfinished / STATE,
                  metadata={"format": "pt"})
        (unfinished / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def convolutions_of(a: torch.Tensor, b: torch.Tensor, kernel: int) -> tuple[torch.Tensor, torch.Tensor]:
    """PEFT's two convolutions for loralib's Conv2d without groups: A (R, inputs, k, k) and B (outputs, R, 1, 1).

    loralib's A is (r·k, inputs·k) and B (outputs·k, r·k), and its change is B·A viewed as (outputs, inputs, k, k). Row
    o·k + i of B·A is the i-th of k equal stretches of output o, so R = r·k² and A is block-diagonal over the k.
    """
    rank, width = a.shape
    outputs, inputs = b.shape[0] // kernel, width // kernel
    stacked = torch.block_diag(*[a] * kernel).view(kernel * rank, inputs, kernel, kernel)
    return stacked, b.reshape(outputs, kernel * rank, 1, 1)


def _merged(pair: Pair, path: str, shape: Phi3Shape) -> tuple[torch.Tensor, torch.Tensor, LoralibLayer] | None:
    """A fused pair as a MergedLinear's A, B and making, where it is block-diagonal with equal blocks."""
    rows = shape.parts(last_name(path))
    blocks = blocks_of(pair, rows) if shape.has_equal_parts(last_name(path)) else None
    if not blocks or len({int(mask.sum()) for mask in blocks.values()}) > 1:
        return None
    a = torch.cat([pair.a[mask] for mask in blocks.values()])
    b = torch.cat([pair.b[rows[part]][:, mask] for part, mask in blocks.items()])
    return a, b, LoralibLayer("MergedLinear", b.shape[1], _alpha(pair.scaling, b.shape[1]),
                              tuple(part in blocks for part in rows))


def _alpha(scaling: float, rank: int) -> float:
    alpha = scaling * rank
    return round(alpha) if abs(alpha - round(alpha)) < 1e-9 else alpha


def _file_of(path: Path) -> Path:
    """The one file of a checkpoint; ValueError where there is none, or more than one to choose from."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"There is no checkpoint {path}.")
    files = [one for one in sorted(path.iterdir()) if one.suffix in (*PICKLED, ".safetensors") and one.is_file()]
    if (path / STATE) in files:
        return path / STATE
    if len(files) != 1:
        raise ValueError(f"{path} holds {len(files)} files that could be the checkpoint. Name the file itself.")
    return files[0]


def _plain_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The LoRA tensors of a checkpoint's file; a pickle may hold nothing but tensors (`weights_only`)."""
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file.name} has {file.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read.")
    if file.suffix == ".safetensors":
        header = read_header(file)
        with opened(file) as weights:
            state = {key: weights.get_tensor(key) for key in header}
    else:
        state = _unpickled(file)
    if not isinstance(state, dict) or len(state) > MOST_TENSORS or \
            not all(isinstance(key, str) and _is_plain(value) for key, value in state.items()):
        raise ValueError(f"{file.name} holds something else than a state dict of tensors. Save loralib's "
                         "lora_state_dict(model) alone.")
    return {key: value.detach() for key, value in state.items() if key.endswith((".lora_A", ".lora_B"))}


def _is_plain(value: Any) -> bool:
    return type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided and \
        not value.is_quantized and value.device.type == "cpu"


def _unpickled(file: Path) -> Any:
    """torch.load with `weights_only`, of a zip whose parts are stored as they are: it can't unfold into more."""
    try:
        with zipfile.ZipFile(file) as parts:
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise ValueError(f"{file.name} is compressed, which torch.save never does, so it isn't opened.")
        return torch.load(file, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile:
        raise ValueError(f"{file.name} is not what torch.save writes today. Load it with the torch that wrote it, and "
                         "save it again.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, AttributeError) as problem:
        said = (str(problem) or type(problem).__name__).splitlines()[0][:200]
        raise ValueError(f"{file.name} can't be opened as plain tensors: {said} Save loralib's lora_state_dict(model) "
                         "alone.") from None


def _made(path: str, weights: Mapping[str, torch.Tensor], known: _Known) -> LoralibLayer:
    """How a layer was made: as the file beside the checkpoint says, else as the shapes do, checked against them."""
    name, size = printable(path, 120), known.shape.size_of(path)
    if size is None:
        raise ValueError(f"The checkpoint changes {name}, which this base doesn't have. Choose the base that it was "
                         "trained on with --base.")
    a, b = (weights.get(f"{path}.{side}") for side in ("lora_A", "lora_B"))
    if a is None or b is None:
        raise ValueError(f"The checkpoint holds only one of {name}'s two matrices, lora_A and lora_B. Save it again.")
    shapes = f"{name}: lora_A is {str(list(a.shape))[:60]} and lora_B {str(list(b.shape))[:60]}"
    if a.dim() != 2 or b.dim() != 2 or not 1 <= b.shape[1] <= MOST_RANK or \
            not (a.is_floating_point() and b.is_floating_point()):
        raise ValueError(f"{shapes}, which are no two matrices of numbers. Save lora_state_dict(model) again.")
    how = _said_of(known.said, path) or _guessed(path, a.shape[0], b.shape, known)
    if known.lora_alpha is not None:
        how = replace(how, lora_alpha=known.lora_alpha)
    count, parts = sum(how.enable_lora) or 1, len(how.enable_lora) or 1
    if tuple(a.shape) != (how.r * count, size[1]) or tuple(b.shape) != (size[0] // parts * count, how.r):
        raise ValueError(f"{shapes}, which fit no {how.kind} of rank {how.r} here: the layer has {size[0]} outputs and "
                         f"{size[1]} inputs. Choose the base that it was trained on with --base.")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError(f"{name} holds numbers that are not finite (NaN or infinite). Train it again with a lower "
                         "learning rate.")
    return how


def _guessed(path: str, rows_of_a: int, shape_of_b: tuple[int, ...], known: _Known) -> LoralibLayer:
    """A layer's making by its shapes: A has r rows and B all outputs in a Linear; in a MergedLinear only parts of them.

    loralib's own default for lora_alpha is 1.
    """
    name, (outputs, _), (rows_of_b, rank) = last_name(path), known.shape.size_of(path), shape_of_b
    if path == EMBEDDING:
        return LoralibLayer("Embedding", rank, 1)
    if name not in FUSED or not known.shape.has_equal_parts(name) or (rows_of_a, rows_of_b) == (rank, outputs):
        return LoralibLayer("Linear", rank, 1)
    parts = FUSED[name]
    count = rows_of_b * len(parts) // outputs
    enabled = tuple(count == len(parts) or part in known.enable for part in parts)
    if sum(enabled) != count:
        raise ValueError(f"{path} has {count} of {', '.join(parts)} switched on, and the checkpoint doesn't say which. "
                         "Say it: --enable q_proj,v_proj.")
    return LoralibLayer("MergedLinear", rank, 1, enabled)


def _said_of(said: Mapping[str, Any], path: str) -> LoralibLayer | None:
    """What the file beside a checkpoint says of a layer; ValueError where that is no making of one."""
    layers = said.get("layers")
    about = layers.get(path) if isinstance(layers, dict) else None
    if about is None:
        return None
    try:
        kind, r, alpha, enabled = (about[key] for key in ("kind", "r", "lora_alpha", "enable_lora"))
        fits = type(r) is int and 1 <= r <= MOST_RANK and not isinstance(alpha, bool) and abs(alpha) < 1e9 and \
            all(isinstance(one, bool) for one in enabled) and kind == _kind(path, tuple(enabled))
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise ValueError(f"{ABOUT} says nothing usable of {printable(path, 120)}. Remove the file, and give --alpha "
                         "and --enable.")
    return LoralibLayer(kind, r, alpha, tuple(enabled))


def _kind(path: str, enabled: tuple[bool, ...]) -> str:
    if path == EMBEDDING:
        return "Embedding"
    return "MergedLinear" if any(enabled) and len(enabled) == len(FUSED.get(last_name(path), ())) else "Linear"


def _name(said: Mapping[str, Any], key: str) -> str | None:
    value = said.get(key)
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 512 else None
