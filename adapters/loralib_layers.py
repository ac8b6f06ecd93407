"""loralib's own layers in a Phi-3: which go where, put in over the base's weights, saved alone and loaded after it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import loralib
import torch
from torch import nn

from adapters.layers import EMBEDDING, FUSED, WHOLE, Phi3Shape, last_name, sibling


@dataclass(frozen=True)
class LoralibLayer:
    """How one of loralib's layers is made: its class and what it is given. `enable_lora` is a MergedLinear's."""

    kind: Literal["Linear", "MergedLinear", "Embedding"]
    r: int
    lora_alpha: float
    enable_lora: tuple[bool, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "enable_lora": list(self.enable_lora)}


@dataclass(frozen=True)
class Loaded:
    """What `load_state_dict(strict=False)` found: LoRA keys of the model that were missing, and unexpected ones."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def sentence(self) -> str:
        """Both lists in words; empty where every key had its place."""
        told = [f"{len(names)} keys {what}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}."
                for what, names in (("missing", self.missing), ("unexpected", self.unexpected)) if names]
        return " ".join(told)


def layers_for(shape: Phi3Shape, targets: Sequence[str], r: int, lora_alpha: float) -> dict[str, LoralibLayer]:
    """Which of loralib's layers take the place of the layers with these last names, fused or split, by full path.

    qkv_proj becomes a MergedLinear with q, k and v each on its own where they are equally wide; where they aren't
    (grouped heads) a Linear over all three. q_proj and the like switch parts of a MergedLinear on, which needs equal
    widths: ValueError says so where they differ, and where a name is none of Phi-3's layers.
    """
    layers = {}
    parts = {name for name in targets if name in WHOLE}
    both = {WHOLE[name] for name in parts}.intersection(targets)
    if both:
        raise ValueError(f"{both.pop()} is named as a whole and in parts. Name one or the other.")
    for name in dict.fromkeys(WHOLE.get(name, name) for name in targets):
        paths = shape.paths((name,))
        if not paths:
            raise ValueError(f"Phi-3 has no layer {name}. It has embed_tokens, qkv_proj (or q_proj, k_proj, v_proj), "
                             "o_proj, gate_up_proj (or gate_proj, up_proj), down_proj and lm_head.")
        enabled = tuple(part in parts for part in FUSED.get(name, ()))
        made = _layer(name, shape, r, lora_alpha, enabled)
        layers.update(dict.fromkeys(paths, made))
    return layers


def put_loralib(model: Any, layers: Mapping[str, LoralibLayer], dropout: float = 0.0,
                merge_weights: bool = False) -> Any:
    """Replace a Phi-3's layers by loralib's over the same weights, of which only LoRA's are left trainable.

    Give it a shell of the base. With `merge_weights` loralib's eval() adds B·A to the weight in place, which for a
    shell is the resident base's own: only for a model that owns its weights. ValueError on a 4-bit base.
    """
    for path, how in layers.items():
        old = model.get_submodule(path)
        if type(old) not in (nn.Linear, nn.Embedding):
            raise ValueError(f"{path} is a {type(old).__name__}, and loralib replaces plain layers only. Train with "
                             "method lora or qlora instead.")
        model.set_submodule(path, _over(old, how, dropout, merge_weights))
    loralib.mark_only_lora_as_trainable(model)
    return model


def lora_weights(model: Any) -> dict[str, torch.Tensor]:
    """The checkpoint of a model with loralib's layers: its LoRA weights alone, on the CPU."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in loralib.lora_state_dict(model).items()}


def load_lora_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> Loaded:
    """Load such a checkpoint over the base's weights, which it doesn't hold; says what had no place on either side.

    ValueError where a weight has another shape than the model's.
    """
    was_training = model.training
    model.train()  # takes out what loralib had merged; put back below with what was loaded
    try:
        result = model.load_state_dict(dict(weights), strict=False)
    except RuntimeError as problem:
        first = str(problem).splitlines()[-1].strip()
        raise ValueError(f"The checkpoint doesn't fit these layers: {first[:300]} Use the rank and the layers that it "
                         "was trained with.") from None
    finally:
        model.train(was_training)
    return Loaded(tuple(name for name in result.missing_keys if "lora_" in name), tuple(result.unexpected_keys))


def _layer(name: str, shape: Phi3Shape, r: int, lora_alpha: float, enabled: tuple[bool, ...]) -> LoralibLayer:
    if name == last_name(EMBEDDING):
        return LoralibLayer("Embedding", r, lora_alpha)
    if any(enabled):
        if not shape.has_equal_parts(name):
            raise ValueError(f"This base's q, k and v are of unequal width, and loralib's MergedLinear divides {name} "
                             f"evenly, so they can't be switched on one by one. Name {name} as a whole.")
        return LoralibLayer("MergedLinear", r, lora_alpha, enabled)
    # MergedLinear multiplies its matrices out on each pass: worth it for q, k, v, too much for gate_up_proj.
    if name == "qkv_proj" and shape.has_equal_parts(name):
        return LoralibLayer("MergedLinear", r, lora_alpha, (True,) * len(FUSED[name]))
    return LoralibLayer("Linear", r, lora_alpha)


def _over(old: Any, how: LoralibLayer, dropout: float, merge_weights: bool) -> Any:
    """The layer of loralib's over an old one's weight. Made on `meta`, so that no second weight is drawn."""
    weight = old.weight
    given = {"r": how.r, "lora_alpha": how.lora_alpha, "merge_weights": merge_weights, "device": "meta",
             "dtype": weight.dtype}
    if how.kind == "Embedding":
        layer = loralib.Embedding(old.num_embeddings, old.embedding_dim, padding_idx=old.padding_idx, **given)
    elif how.kind == "MergedLinear":
        layer = loralib.MergedLinear(old.in_features, old.out_features, lora_dropout=dropout, bias=False,
                                     enable_lora=list(how.enable_lora), **given)
        on = torch.zeros(len(how.enable_lora), old.out_features // len(how.enable_lora), dtype=torch.bool)
        on[list(how.enable_lora)] = True
        layer.lora_ind = on.view(-1).to(weight.device)
    else:
        layer = loralib.Linear(old.in_features, old.out_features, lora_dropout=dropout, bias=False, **given)
    layer.weight = weight
    _begin(layer, how, weight)
    # Not layer.train(): with merge_weights loralib's would merge the start into the weight, before any is loaded.
    nn.Module.train(layer, old.training)
    return layer


def _begin(layer: Any, how: LoralibLayer, weight: torch.Tensor) -> None:
    """LoRA's start as loralib draws it (Hu et al., 2021): one matrix random, the other zero."""
    a = torch.empty(layer.lora_A.shape, device=weight.device, dtype=weight.dtype)
    b = torch.zeros(layer.lora_B.shape, device=weight.device, dtype=weight.dtype)
    if how.kind == "Embedding":
        a.zero_()
        b.normal_()
    else:
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
    layer.lora_A, layer.lora_B = nn.Parameter(a), nn.Parameter(b)


def part_paths(path: str, how: LoralibLayer) -> list[str]:
    """Full paths of the parts that a MergedLinear at `path` has switched on, in their order."""
    names = FUSED[last_name(path)]
    return [sibling(path, name) for name, on in zip(names, how.enable_lora, strict=True) if on]
