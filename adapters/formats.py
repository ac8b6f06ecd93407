"""Adapters in PEFT's format, fused as Phi-3 is or split as many in the wild are: read both, turn one into the other."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapters.files import CONFIG, WEIGHTS, arriving, opened, read_header, read_object
from adapters.layers import EMBEDDING, FUSED, WHOLE, Phi3Shape, last_name, sibling
from adapters.library import PROVENANCE
from adapters.peft_config import MAGNITUDE, LoraSettings, key_of, place_of, settings_from


@dataclass(frozen=True)
class Pair:
    """What LoRA adds to one layer: scaling · B·A, with A (rank, inputs) and B (outputs, rank).

    Beside an embedding A is (rank, vocabulary) and B (width, rank), and what is added is the transposed product. A DoRA
    adapter has a `magnitude` (outputs,) besides: the norm to which each row of the sum of weight and product is scaled.
    """

    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None = None

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a.shape[0]

    def weights(self, path: str) -> dict[str, torch.Tensor]:
        """Its tensors by their names in PEFT's format, beside the layer of this path."""
        sides = {"A": self.a, "B": self.b, MAGNITUDE: self.magnitude}
        return {key_of(path, side): value for side, value in sides.items() if value is not None}


@dataclass(frozen=True)
class Lora:
    """An adapter in memory: a pair for each layer by its full path, and the config that it came with."""

    pairs: Mapping[str, Pair]
    settings: LoraSettings


def read_peft(folder: Path, shape: Phi3Shape) -> Lora:
    """An adapter's weights out of a folder that `check` found sound; tensors keep their dtype and stay on the CPU."""
    settings = settings_from(read_object(folder / CONFIG))
    places = {place_of(key): key for key in read_header(folder / WEIGHTS) if place_of(key)}
    paths = list(dict.fromkeys(path for path, _ in places if shape.size_of(path)))
    with opened(folder / WEIGHTS) as weights:
        pairs = {path: Pair(weights.get_tensor(places[path, "A"]), weights.get_tensor(places[path, "B"]), scaling,
                            weights.get_tensor(places[path, MAGNITUDE]) if settings.is_dora else None)
                 for path, (_, scaling) in zip(paths, settings.ranks_and_scalings(paths), strict=True)}
    return Lora(pairs, settings)


def write_peft(lora: Lora, folder: Path, shape: Phi3Shape, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a folder that stock PEFT, and this app, load; it must be new or empty."""
    from safetensors.torch import save_file

    with arriving(folder) as unfinished:
        weights = {key: value.contiguous() for path, pair in lora.pairs.items()
                   for key, value in pair.weights(path).items()}
        save_file(weights, unfinished / WEIGHTS, metadata={"format": "pt"})
        peft_config(lora, shape).save_pretrained(str(unfinished))
        if provenance:
            written = json.dumps(dict(provenance), indent=2, ensure_ascii=False)
            (unfinished / PROVENANCE).write_text(written, encoding="utf-8")


def peft_config(lora: Lora, shape: Phi3Shape) -> Any:
    """PEFT's LoraConfig for an adapter: the ranks and alphas that most layers have, patterns for the others."""
    from peft import LoraConfig

    found = {path: (pair.rank, lora.settings.alpha_for(pair.rank, pair.scaling)) for path, pair in lora.pairs.items()}
    rank, alpha = Counter(found.values()).most_common(1)[0][0]
    return LoraConfig(
        task_type="CAUSAL_LM", inference_mode=True, base_model_name_or_path=lora.settings.base,
        revision=lora.settings.revision, r=rank, lora_alpha=alpha, lora_dropout=lora.settings.dropout,
        use_rslora=lora.settings.rank_stabilised, use_dora=lora.settings.is_dora, target_modules=_targets(lora, shape),
        rank_pattern=_patterns({path: own for path, (own, _) in found.items()}, rank),
        alpha_pattern=_patterns({path: own for path, (_, own) in found.items()}, alpha))


def fused(lora: Lora, shape: Phi3Shape) -> Lora:
    """The same adapter on Phi-3's own layers: q, k, v become one pair on qkv_proj, gate and up one on gate_up_proj.

    What the layers add is the same to the bit, up to where parts had unequal scalings: those go into B.
    """
    pairs, parts = {}, defaultdict(dict)
    for path, pair in lora.pairs.items():
        name = last_name(path)
        if name in WHOLE:
            parts[sibling(path, WHOLE[name])][name] = pair
        else:
            pairs[path] = pair
    for path, found in parts.items():
        if path in pairs:
            raise ValueError(f"It changes {path} as a whole, and {', '.join(found)} besides; no model has both.")
        pairs[path] = _joined(found, shape.parts(last_name(path)))
    return replace(lora, pairs=pairs)


def split(lora: Lora, shape: Phi3Shape) -> Lora:
    """The same adapter for servers that want q, k, v and gate, up apart; the inverse of `fused`."""
    pairs = {}
    for path, pair in lora.pairs.items():
        if last_name(path) not in FUSED:
            pairs[path] = pair
            continue
        for part, own in parts_of(pair, shape.parts(last_name(path))).items():
            pairs[sibling(path, part)] = own
    return replace(lora, pairs=pairs)


def parts_of(pair: Pair, rows: Mapping[str, slice]) -> dict[str, Pair]:
    """A fused projection's pair as one for each part: rows of B, and the rows of A that they use.

    Where each row of A serves one part only, as in what was made from parts, each gets its own and those without any
    are left out; else all get the whole of A. A part with magnitudes of its own is never left out.
    """
    blocks = blocks_of(pair, rows)
    if blocks is None or (pair.magnitude is not None and len(blocks) < len(rows)):
        return {part: Pair(pair.a.clone(), pair.b[own].clone(), pair.scaling, _rows_of(pair.magnitude, own))
                for part, own in rows.items()}
    return {part: Pair(pair.a[used].clone(), pair.b[rows[part]][:, used].clone(), pair.scaling,
                       _rows_of(pair.magnitude, rows[part])) for part, used in blocks.items()}


def _rows_of(magnitude: torch.Tensor | None, own: slice) -> torch.Tensor | None:
    """DoRA scales each row of a weight by itself, so the magnitudes of a fused projection divide as its rows do."""
    return None if magnitude is None else magnitude[own].clone()


def blocks_of(pair: Pair, rows: Mapping[str, slice]) -> dict[str, torch.Tensor] | None:
    """Which rows of A each part uses, as masks, where B is block-diagonal; None where parts share a row of A."""
    used = {part: (pair.b[own] != 0).any(0) for part, own in rows.items()}
    if not (torch.stack(list(used.values())).sum(0) == 1).all():
        return None
    return {part: mask for part, mask in used.items() if mask.any()}


def attached(model: Any, lora: Lora, shape: Phi3Shape) -> Any:
    """PEFT's model around `model`, with a fused adapter in it. Give it a shell: PEFT changes what it wraps."""
    from peft import PeftModelForCausalLM, set_peft_model_state_dict

    wrapped = PeftModelForCausalLM(model, peft_config(lora, shape), autocast_adapter_dtype=False)
    weights = {key: value for path, pair in lora.pairs.items() for key, value in pair.weights(path).items()}
    set_peft_model_state_dict(wrapped, weights)
    return wrapped.eval()


def merged_weight(weight: torch.Tensor, pair: Pair, path: str) -> torch.Tensor:
    """A layer's weight with the pair in it, as fp32 on the weight's device."""
    a, b = (one.to(weight.device, torch.float32) for one in (pair.a, pair.b))
    left, right = (a.T, b.T) if path == EMBEDDING else (b, a)
    merged = torch.addmm(weight.float(), left, right, alpha=pair.scaling)
    if pair.magnitude is None:
        return merged
    scale = pair.magnitude.to(weight.device, torch.float32) / merged.norm(dim=1)
    return merged * scale[:, None]


def _joined(parts: Mapping[str, Pair], rows: Mapping[str, slice]) -> Pair:
    """One pair for a fused projection: A's stacked, B block-diagonal with zero rows for parts that have none.

    Parts that share one A, as those made from a fused pair do, need it only once.
    """
    pairs = list(parts.values())
    scaling = max((pair.scaling for pair in pairs), key=abs)
    shared = all(pair.scaling == scaling and torch.equal(pair.a, pairs[0].a) for pair in pairs)
    rank = pairs[0].rank if shared else sum(pair.rank for pair in pairs)
    outputs = max(own.stop for own in rows.values())
    alike = len({(pair.scaling, pair.b.dtype) for pair in pairs}) == 1
    dtype = pairs[0].b.dtype if alike else torch.float32
    b, start = torch.zeros(outputs, rank, dtype=dtype), 0
    for part, own in rows.items():
        if part in parts:
            pair = parts[part]
            ratio = pair.scaling / scaling if scaling else 1.0
            b[own, start:start + pair.rank] = pair.b.to(dtype) * ratio if ratio != 1.0 else pair.b.to(dtype)
            start += 0 if shared else pair.rank
    a = pairs[0].a if shared else torch.cat([parts[part].a.to(dtype) for part in rows if part in parts])
    if pairs[0].magnitude is None:
        return Pair(a, b, scaling)
    if len(parts) < len(rows):
        raise ValueError(f"It is a DoRA adapter on {', '.join(parts)} without {', '.join(rows.keys() - parts.keys())}, "
                         "and the whole projection needs the magnitudes of all. Merge it into its base with PEFT's "
                         "merge_and_unload.")
    return Pair(a, b, scaling, torch.cat([parts[part].magnitude for part in rows]))


def _targets(lora: Lora, shape: Phi3Shape) -> list[str]:
    """Last names of layers where all that are named so are changed, which other servers know; else full paths."""
    names = Counter(map(last_name, lora.pairs))
    whole = {name for name, count in names.items() if count == len(shape.paths((name,)))}
    return sorted(whole | {path for path in lora.pairs if last_name(path) not in whole})


def _patterns(values: Mapping[str, float], usual: float) -> dict[str, float]:
    """What differs from the usual, by last name where all layers of that name agree, else by full path."""
    by_name: dict[str, set[float]] = defaultdict(set)
    for path, value in values.items():
        by_name[last_name(path)].add(value)
    found = {}
    for path, value in values.items():
        if by_name[last_name(path)] == {value}:
            found[last_name(path)] = value
        else:
            found[path] = value
    return {key: value for key, value in found.items() if value != usual}
