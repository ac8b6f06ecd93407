"""PEFT's adapter_config.json as this app reads it: within bounds, no pattern run freely, and nothing imported."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.files import printable
from adapters.layers import EMBEDDING

MOST_RANK = 8_192
MOST_PATTERNS, MOST_PATTERN_LENGTH = 512, 256
MOST_TARGETS = 2_048
PATTERN_SECONDS = 1.5

# Keys that this file reads.
READ = {"peft_type", "task_type", "base_model_name_or_path", "revision", "r", "lora_alpha", "use_rslora", "use_dora",
        "lora_dropout", "target_modules", "rank_pattern", "alpha_pattern", "init_lora_weights"}
# Keys of PEFT 0.21 that say how training went or where the weights belong, which the weights' own names say as well.
INERT = {"auto_mapping", "bias", "corda_config", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
         "layers_pattern", "layers_to_transform", "loftq_config", "lora_ga_config", "megatron_core", "peft_version",
         "qalora_group_size", "runtime_config"}
# Keys of PEFT 0.21 that make an adapter more than two matrices beside a layer, with the words for what they do.
BEYOND = {
    "modules_to_save": "brings whole layers of its own",
    "trainable_token_indices": "brings rows of the embedding",
    "target_parameters": "changes parameters instead of layers",
    "lora_bias": "has biases of its own",
    "layer_replication": "repeats layers of the base",
    "use_qalora": "is a QA-LoRA adapter", "use_bdlora": "is a BD-LoRA adapter", "velora_config": "is a VeLoRA adapter",
    "monteclora_config": "is a MonteCLoRA adapter", "arrow_config": "is an Arrow router",
    "kasa_config": "is a KaSA adapter", "alora_invocation_tokens": "is an activated LoRA (it waits for certain tokens)",
    "megatron_config": "is made for Megatron", "ensure_weight_tying": "ties its weights to other layers",
}
# What PEFT calls DoRA's third part beside A and B (Liu et al., "DoRA", 2024): the norm of each output's weights.
MAGNITUDE = "magnitude_vector"
# How PEFT may have begun the weights without touching the base's.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_PLAIN_PATTERN = re.compile(r"(?:[A-Za-z0-9_.-]|\\\.)+")
_KEY = re.compile(r"(?:base_model\.model\.)?(?P<path>.+?)\.lora_(?:(?:embedding_)?(?P<side>[AB])|"
                  rf"(?P<magnitude>{MAGNITUDE}))(?:\.default)?(?:\.weight)?")
# PEFT's own rule (peft.utils.other.get_pattern_key): the first key that matches the end of a layer's path.
_RULE = r"(.*\.)?({})$"
_MATCH_APART = (
    "import json, re, sys; keys, names = json.load(sys.stdin); "
    f"rules = [re.compile({_RULE!r}.format(key)) for key in keys]; "
    "print(json.dumps([next((i for i, rule in enumerate(rules) if rule.match(name)), None) for name in names]))"
)


@dataclass(frozen=True)
class LoraSettings:
    """What an adapter's config says of its weights. `targets` is None where it gave a pattern instead of names, or
    names from which others are excluded.
    """

    base: str | None
    revision: str | None
    rank: int
    alpha: float
    rank_stabilised: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_plain: bool = False  # PEFT may be given the config as it stands
    is_dora: bool = False   # each layer has magnitudes besides

    def scaling(self, rank: int, alpha: float) -> float:
        """What B·A is multiplied with: alpha / r, or alpha / √r with rsLoRA (Kalajdzievski, 2023)."""
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank

    def alpha_for(self, rank: int, scaling: float) -> float:
        """The alpha that gives this scaling at this rank; a whole number where it is one."""
        alpha = scaling * (math.sqrt(rank) if self.rank_stabilised else rank)
        return round(alpha) if math.isclose(alpha, round(alpha), rel_tol=1e-12) else alpha

    def ranks_and_scalings(self, paths: Sequence[str]) -> list[tuple[int, float]]:
        """Rank and scaling of each layer, by its full path; ValueError where the patterns can't be followed."""
        ranks = _by_pattern(self.rank_pattern, self.rank, paths)
        alphas = _by_pattern(self.alpha_pattern, self.alpha, paths)
        return [(int(rank), self.scaling(int(rank), alpha)) for rank, alpha in zip(ranks, alphas, strict=True)]


def place_of(key: str) -> tuple[str, str] | None:
    """(layer's path, "A", "B" or MAGNITUDE) of a tensor's name in PEFT's format, or None where it is no LoRA weight.

    PEFT names them `base_model.model.<path>.lora_A.weight`, `<path>.lora_embedding_A` beside an embedding, and
    `<path>.lora_magnitude_vector`; some writers leave the adapter's name "default" in between.
    """
    found = _KEY.fullmatch(key)
    return (found["path"], found["side"] or found["magnitude"]) if found else None


def key_of(path: str, side: str) -> str:
    """The name of a LoRA weight in PEFT's format."""
    if side == MAGNITUDE:
        return f"base_model.model.{path}.lora_{MAGNITUDE}"
    return f"base_model.model.{path}.lora_embedding_{side}" if path == EMBEDDING \
        else f"base_model.model.{path}.lora_{side}.weight"


def settings_from(config: Mapping[str, Any]) -> LoraSettings:
    """Read an adapter_config.json; ValueError where it asks for more than LoRA, or for something out of bounds."""
    if config.get("peft_type") != "LORA":
        raise ValueError(f"Its peft_type is {_shown(config.get('peft_type'))}; only LORA adapters are used here.")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise ValueError(f"Its task_type is {_shown(config['task_type'])}; only CAUSAL_LM adapters chat.")
    for key, what in BEYOND.items():
        if config.get(key):
            raise ValueError(f"It {what} ({key}). Only plain LoRA is used here: train it so, or merge it into its base "
                             "with PEFT's merge_and_unload.")
    start = config.get("init_lora_weights", True)
    if not isinstance(start, bool | str | None) or start not in _PLAIN_STARTS:
        raise ValueError(f"It began as {_shown(start)} (init_lora_weights), which changes the base's own weights. "
                         "Convert it with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...).")
    targets = _targets(config.get("target_modules"))
    return LoraSettings(
        base=_text(config, "base_model_name_or_path"), revision=_text(config, "revision"),
        rank=_rank(config.get("r", 8), "r"), alpha=_number(config.get("lora_alpha", 8), "lora_alpha"),
        rank_stabilised=bool(config.get("use_rslora")), dropout=_dropout(config.get("lora_dropout", 0.0)),
        targets=None if config.get("exclude_modules") else targets,
        rank_pattern=_pattern(config, "rank_pattern", _rank), alpha_pattern=_pattern(config, "alpha_pattern", _number),
        notes=tuple(_notes(config)), is_plain=_is_plain(config), is_dora=bool(config.get("use_dora")))


def _is_plain(config: Mapping[str, Any]) -> bool:
    """Whether PEFT, given this config, matches names only, runs no pattern and starts in no special way."""
    if _notes(config) or not isinstance(config.get("target_modules"), list):
        return False
    if any(config.get(key) for key in ("exclude_modules", "layers_pattern", "layers_to_transform", "loftq_config")):
        return False
    patterns = (*(config.get("rank_pattern") or ()), *(config.get("alpha_pattern") or ()))
    return config.get("init_lora_weights", True) is True and all(map(_PLAIN_PATTERN.fullmatch, patterns))


def _notes(config: Mapping[str, Any]) -> list[str]:
    """What was left out of account, in sentences."""
    notes = []
    if config.get("auto_map") or config.get("auto_mapping"):
        notes.append("Its config names code to be imported (auto_map); nothing of it was.")
    newer = sorted(printable(key, 40) for key in config.keys() - READ - INERT - BEYOND.keys() - {"auto_map"})
    if newer:
        more = f" and {len(newer) - 5} more" if len(newer) > 5 else ""
        notes.append(f"Its config has keys that this version doesn't know, so they were dropped: "
                     f"{', '.join(newer[:5])}{more}.")
    if isinstance(config.get("target_modules"), str) and config["target_modules"] != "all-linear":
        notes.append("Its target_modules is a pattern. It was not run: the weights' own names say where they belong.")
    return notes


def _targets(value: Any) -> tuple[str, ...] | None:
    if value is None or isinstance(value, str):
        if isinstance(value, str) and len(value) > MOST_PATTERN_LENGTH * 4:
            raise ValueError(f"Its target_modules is a pattern of {len(value):,} characters; at most "
                             f"{MOST_PATTERN_LENGTH * 4:,} are accepted. Name the layers in a list.")
        return None
    if not isinstance(value, list) or len(value) > MOST_TARGETS or \
            not all(isinstance(name, str) and len(name) <= MOST_PATTERN_LENGTH for name in value):
        raise ValueError(f"Its target_modules must be at most {MOST_TARGETS:,} names of layers of at most "
                         f"{MOST_PATTERN_LENGTH} characters.")
    return tuple(value)


def _pattern(config: Mapping[str, Any], key: str, number: Callable[[Any, str], Any]) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict) or len(value) > MOST_PATTERNS or \
            any(len(one) > MOST_PATTERN_LENGTH for one in value):
        raise ValueError(f"Its {key} must be at most {MOST_PATTERNS} patterns of at most {MOST_PATTERN_LENGTH} "
                         "characters, each with a number.")
    return {pattern: number(one, f"{key}[{printable(pattern, 40)}]") for pattern, one in value.items()}


def _rank(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value <= MOST_RANK:
        raise ValueError(f"Its {name} is {_shown(value)}, and a rank is a whole number from 1 to {MOST_RANK:,}.")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ValueError(f"Its {name} is {_shown(value)}, and should be a number below a billion.")
    return value


def _dropout(value: Any) -> float:
    number = _number(0.0 if value is None else value, "lora_dropout")
    if not 0 <= number < 1:
        raise ValueError(f"Its lora_dropout is {number}, and should be from 0 to below 1.")
    return number


def _text(config: Mapping[str, Any], key: str) -> str | None:
    value = config.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 512 or not value.isprintable():
        raise ValueError(f"Its {key} is {_shown(value)}, which is no name.")
    return value


def _shown(value: Any) -> str:
    return ascii(value)[:60]


def _by_pattern(values: Mapping[str, float], otherwise: float, paths: Sequence[str]) -> list[float]:
    """For each path the value of the first key that matches it as PEFT would have it, else `otherwise`."""
    if not values:
        return [otherwise] * len(paths)
    keys = list(values)
    if all(map(_PLAIN_PATTERN.fullmatch, keys)):
        rules = [re.compile(_RULE.format(key)) for key in keys]
        hits = [next((place for place, rule in enumerate(rules) if rule.match(path)), None) for path in paths]
    else:
        hits = _matched_apart(keys, paths)
    return [otherwise if hit is None else values[keys[hit]] for hit in hits]


def _matched_apart(keys: list[str], paths: Sequence[str]) -> list[int | None]:
    """Match in a process of its own: Python's re can't be stopped in this one, and a pattern can take years."""
    asked = json.dumps([keys, list(paths)])
    try:
        done = subprocess.run([sys.executable, "-I", "-S", "-c", _MATCH_APART], input=asked, capture_output=True,
                              text=True, timeout=PATTERN_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        raise ValueError(f"A pattern of its ranks or alphas was not matched within {PATTERN_SECONDS} s. Name the "
                         "layers plainly.") from None
    except subprocess.CalledProcessError:
        raise ValueError(f"A pattern of its ranks or alphas is none that can be read, such as {_shown(keys[0])}. Name "
                         "the layers plainly.") from None
    return json.loads(done.stdout)
