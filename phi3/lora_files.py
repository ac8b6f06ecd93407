"""An adapter's files: which A and B in them belong to which layer, and why PEFT alone can serve it, or nobody."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from phi3.models import ADAPTER_CONFIG as CONFIG
from phi3.models import ADAPTER_WEIGHTS as WEIGHTS

# Two matrices of this rank are as dear as a small layer of their own; PEFT serves what is larger.
MOST_RANK = 256
# One number rounded to bf16 in two ways is no farther apart than a step of bf16; and fp16's smallest number.
ROUNDED, LEAST_OF_FP16 = 2**-7, 2**-24
# The layers at a base's both ends, of which PEFT writes copies beside an adapter.
ENDS = ("model.embed_tokens", "lm_head")
_KEY = re.compile(r"(?:base_model\.model\.)?(?P<path>.+?)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.default)?"
                  r"(?:\.weight)?")
# What makes an adapter more than two matrices beside a layer and PEFT can do within the layer, and what that is.
BY_PEFT = {"use_dora": "DoRA", "modules_to_save": "whole layers of its own", "lora_bias": "biases",
           "trainable_token_indices": "rows of the embedding", "target_parameters": "parameters of its own"}
# What takes more than the layer: not served at all.
_BEYOND = ("layer_replication", "use_qalora", "use_bdlora", "velora_config", "monteclora_config", "arrow_config",
           "kasa_config", "alora_invocation_tokens", "megatron_config", "ensure_weight_tying")
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


class Unsuited(ValueError):
    """What two matrices beside a layer can't express; PEFT can."""


def pairs_of(folder: Path, weights: Any,
             layers: Mapping[str, nn.Module]) -> dict[str, tuple[dict[str, str], float]]:
    """For each layer that an adapter changes the names of its A and B in the file, and their scaling.

    Everything is looked at before anything is read. Unsuited where only PEFT can serve the adapter, ValueError where
    nobody can.
    """
    config = _config(folder)
    found: dict[str, dict[str, str]] = {}
    for key in weights.keys():  # noqa: SIM118 - it is no dictionary
        place = _KEY.fullmatch(key)
        if place:
            found.setdefault(place["path"], {})[place["side"]] = key
        else:
            _demand_the_bases_own(key, weights, layers)
    if not found:
        raise ValueError("It holds no LoRA weights.")
    return {path: (names, _scaling(config, path, _rank(path, names, weights, layers)))
            for path, names in found.items()}


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{CONFIG} is missing in {folder.name}.")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise ValueError(f"Its peft_type is {str(config.get('peft_type'))[:60]}; only LORA adapters are used here.")
    beyond = [key for key in _BEYOND if config.get(key)]
    if beyond or config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        raise ValueError(f"Its {(beyond or ['init_lora_weights'])[0]} asks for more than LoRA beside a layer, which is "
                         "not served here. Merge it into its base with PEFT's merge_and_unload.")
    for key, what in BY_PEFT.items():
        if config.get(key):
            raise Unsuited(f"it has {what}")
    if config.get("bias", "none") != "none":
        raise Unsuited("it has biases")
    return config


def _rank(path: str, names: Mapping[str, str], weights: Any, layers: Mapping[str, nn.Module]) -> int:
    """The rank of one layer's pair, once its shapes are known to fit."""
    if path not in layers or set(names) != {"A", "B"}:
        raise ValueError(f"It changes {path[:80]}, which this base doesn't have, or only half of it.")
    (rank, inputs), (outputs, other) = (weights.get_slice(names[side]).get_shape() for side in ("A", "B"))
    layer = layers[path]
    sizes = (layer.out_features, layer.in_features) if isinstance(layer, nn.Linear) \
        else (layer.embedding_dim, layer.num_embeddings)
    if rank != other or (outputs, inputs) != sizes:
        raise ValueError(f"Beside {path} it has A ({rank}, {inputs}) and B ({outputs}, {other}), and this base's layer "
                         f"makes {sizes[0]} out of {sizes[1]}. It belongs to another base.")
    if rank > MOST_RANK:
        raise Unsuited(f"its rank {rank} is above {MOST_RANK}")
    return rank


def _scaling(config: Mapping[str, Any], path: str, rank: int) -> float:
    """What B·A is multiplied with: alpha / r, or alpha / √r with rsLoRA (Kalajdzievski, 2023)."""
    from peft.utils.other import get_pattern_key

    alphas, ranks = config.get("alpha_pattern") or {}, config.get("rank_pattern") or {}
    said = ranks.get(get_pattern_key(ranks, path), config.get("r"))
    if said != rank:
        raise ValueError(f"Its config says rank {said} for {path}, and its weights have {rank}.")
    alpha = alphas.get(get_pattern_key(alphas, path), config.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def demand_no_other_ends(folder: Path, layers: Mapping[str, nn.Module]) -> None:
    """ValueError where an adapter brings an embedding or a head that was trained, whatever its config says of it:
    without them it is not what was trained.
    """
    with opened(folder) as weights:
        for key in weights.keys():  # noqa: SIM118 - it is no dictionary
            if not _KEY.fullmatch(key) and whole_layer(key) in ENDS:
                _demand_the_bases_own(key, weights, layers)


def _demand_the_bases_own(key: str, weights: Any, layers: Mapping[str, nn.Module]) -> None:
    """PEFT writes the embedding and the head into an adapter that changes them; fine where they are the base's."""
    path, value = whole_layer(key), weights.get_tensor(key)
    own = layers[path].weight if path in layers else None
    if own is None or not is_copy(value, own):
        raise ValueError(f"It brings its own {path[:80]}, which differs from the base's; only LoRA weights are used.")


def is_copy(value: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether a weight in an adapter is the base's own, as another machine holds it: rounded to bf16 there or here, or
    to fp16, which has smaller steps but for the smallest numbers.
    """
    own = own.detach().to("cpu", torch.float32)
    return own.shape == value.shape and torch.allclose(value.float(), own, rtol=ROUNDED, atol=LEAST_OF_FP16)


def whole_layer(key: str) -> str:
    """The path of the layer whose own weight is named so in an adapter."""
    return key.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".base_layer")


def opened(folder: Path) -> Any:
    """Its weights, none of them read yet; ValueError where they are missing or damaged."""
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS
    if not path.is_file():
        raise ValueError(f"{WEIGHTS} is missing in {folder.name}.")
    try:
        return safe_open(str(path), framework="pt")
    except SafetensorError as problem:
        raise ValueError(f"{WEIGHTS} can't be read: {problem}") from None
