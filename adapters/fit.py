"""Does an adapter fit a base? Its tensors' names and shapes against the base's layers, and words for what is amiss."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapters.files import Entry, printable
from adapters.layers import EMBEDDING, WHOLE, last_name, shape_of, sibling
from adapters.peft_config import MAGNITUDE, LoraSettings, place_of
from phi3.models import EMBEDDED, BaseFacts

# Revisions that say no more than "the newest".
_ANY_REVISION = (None, "main", "master")
_HASH = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class AdaptedLayer:
    """One layer that an adapter changes: its two matrices as the file declares them, its rank and its scaling, and the
    magnitudes of a DoRA adapter.
    """

    a: Entry
    b: Entry
    rank: int
    scaling: float
    magnitude: Entry | None = None

    @property
    def parameters(self) -> int:
        """Numbers in A, B and the magnitudes."""
        return self.a.count + self.b.count + (self.magnitude.count if self.magnitude else 0)


def unmatched(entries: Mapping[str, Entry], facts: BaseFacts) -> list[str]:
    """Names of the tensors that are no LoRA weights of a layer of the base."""
    shape, places = shape_of(facts.config), {key: place_of(key) for key in entries}
    return [key for key, place in places.items() if place is None or shape.size_of(place[0]) is None]


def layers_of(entries: Mapping[str, Entry], settings: LoraSettings, facts: BaseFacts) -> dict[str, AdaptedLayer]:
    """The layers that an adapter changes, by their full paths; ValueError where one of them doesn't fit the base."""
    _no_strangers(entries, settings, facts)
    pairs = _pairs(entries, settings, facts)
    shape = shape_of(facts.config)
    layers = {}
    for (path, pair), (rank, scaling) in zip(pairs.items(), settings.ranks_and_scalings(list(pairs)), strict=True):
        outputs, inputs = shape.size_of(path)
        _right_shape(f"{path} A", pair["A"], (rank, inputs), settings, facts)
        _right_shape(f"{path} B", pair["B"], (outputs, rank), settings, facts)
        if settings.is_dora and pair[MAGNITUDE].shape != (outputs,):
            raise ValueError(f"{path} has magnitudes of {str(list(pair[MAGNITUDE].shape))[:60]}, and they would have "
                             f"to be [{outputs}]. Save or fetch the adapter again.")
        layers[path] = AdaptedLayer(pair["A"], pair["B"], rank, scaling, pair.get(MAGNITUDE))
    for path in layers:
        whole = WHOLE.get(last_name(path))
        if whole and sibling(path, whole) in layers:
            raise ValueError(f"It changes {sibling(path, whole)} as a whole, and {last_name(path)} besides; no model "
                             "has both.")
    return layers


def is_same_base(one: str, other: str) -> bool:
    """Whether two names mean one base: the Hub ignores case, and a folder is known by its last name."""
    if one.lower() == other.lower():
        return True
    is_a_folder = [name.startswith(("/", ".", "~")) or "\\" in name for name in (one, other)]
    ends = {name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower() for name in (one, other)}
    return any(is_a_folder) and len(ends) == 1 and EMBEDDED not in (one, other)


def about_base(settings: LoraSettings, facts: BaseFacts) -> Iterator[str]:
    """What should be said where the base that an adapter names is not quite the one it would sit on."""
    if settings.base is None:
        yield f"It doesn't say which base it was trained on; its layers fit {facts.id}."
    elif not is_same_base(settings.base, facts.id):
        yield (f"It was trained on {settings.base}, and the base here is {facts.id}: they are built alike, so it "
               "loads, but it may answer worse than on its own.")
    elif _HASH.fullmatch(settings.revision or "") and facts.revision not in (*_ANY_REVISION, settings.revision):
        yield (f"It was trained on revision {settings.revision[:12]} of {facts.id}, and the one here is "
               f"{facts.revision[:12]}.")


def about_leftovers(names: list[str]) -> Iterator[str]:
    """What should be said of tensors that are not used."""
    copies = [key for key in names if _is_a_layers_own(key)]
    others = [key for key in names if key not in copies]
    if copies:
        yield f"It holds a copy of layers of its base ({short(copies[0])}), which is not used."
    if others:
        yield f"{len(others)} of its tensors are no LoRA weights and are not used, such as {short(others[0])}."


def about_targets(settings: LoraSettings, layers: Mapping[str, AdaptedLayer]) -> Iterator[str]:
    """What should be said where the config names layers that the file holds no weights for."""
    names = {last_name(path) for path in layers}
    absent = [name for name in settings.targets or () if last_name(name) not in names]
    if absent:
        yield f"It names {', '.join(map(printable, absent[:5]))} among its layers and holds no weights for them."


def table(layers: Mapping[str, AdaptedLayer], settings: LoraSettings,
          largest: Mapping[str, float]) -> list[tuple[str, str]]:
    """A row for each kind of layer: how many, their ranks and scalings, parameters, and the largest number in B."""
    by_name: dict[str, list[AdaptedLayer]] = defaultdict(list)
    for path, layer in layers.items():
        by_name[last_name(path)].append(layer)
    form = "split" if by_name.keys() & WHOLE.keys() else "fused"
    rows = [("made for", settings.base or "not said"), ("form", f"{form}, DoRA" if settings.is_dora else form)]
    for name, alike in sorted(by_name.items()):
        rows.append((name, f"{len(alike)} layers, rank {_range({layer.rank for layer in alike})}, "
                           f"scaling {_range({layer.scaling for layer in alike})}, "
                           f"{sum(layer.parameters for layer in alike):,} parameters, "
                           f"largest in B {largest.get(name, 0.0):.3g}"))
    return rows


def short(key: str) -> str:
    """A tensor's name as it can stand in a sentence."""
    return printable(key.removeprefix("base_model.model."), 120)


def _no_strangers(entries: Mapping[str, Entry], settings: LoraSettings, facts: BaseFacts) -> None:
    """Refuse LoRA weights for layers that the base lacks, and an embedding or head of another size."""
    strange = unmatched(entries, facts)
    lora = [key for key in strange if ".lora_" in key]
    if lora:
        raise ValueError(_unlike(f"{len(lora)} of its {len(entries)} tensors belong to layers that {facts.id} lacks, "
                                 f"such as {short(lora[0])}", settings, facts))
    if len(strange) == len(entries):
        raise ValueError("It holds no LoRA weights at all. Save the adapter again with PEFT's save_pretrained.")
    sizes = (facts.config["vocab_size"], facts.config["hidden_size"])
    for key in filter(_is_a_layers_own, strange):
        if ("embed_tokens." in key or "lm_head." in key) and entries[key].shape != sizes:
            raise ValueError(f"It brings {short(key)} of {list(entries[key].shape)}, so its vocabulary is another than "
                             f"that of {facts.id}, and only LoRA weights are used here.")


def _pairs(entries: Mapping[str, Entry], settings: LoraSettings, facts: BaseFacts) -> dict[str, dict[str, Entry]]:
    """A and B of each layer, both there and each there once, and with them the magnitudes where it is DoRA's."""
    strange, pairs = set(unmatched(entries, facts)), defaultdict(dict)
    for key, entry in entries.items():
        if key not in strange:
            path, side = place_of(key)
            if side in pairs[path]:
                raise ValueError(f"It holds {short(key)} twice, under two names. Save it again with PEFT.")
            pairs[path][side] = entry
    for path, pair in pairs.items():
        if not {"A", "B"} <= pair.keys():
            raise ValueError(f"{path} has only one of its two matrices, A and B. Save or fetch the adapter again.")
        if (MAGNITUDE in pair) != settings.is_dora:
            said, held = ("is", "none") if settings.is_dora else ("isn't", "some")
            raise ValueError(f"Its config says that it {said} a DoRA adapter, and beside {path} it holds {held} of "
                             "DoRA's magnitudes. Config and weights are of two adapters; save or fetch both again.")
        if settings.is_dora and path == EMBEDDING:
            raise ValueError(f"It is a DoRA adapter that changes {path}; here DoRA is used beside linear layers only. "
                             "Merge it into its base with PEFT's merge_and_unload.")
    return pairs


def _right_shape(what: str, entry: Entry, expected: tuple[int, int], settings: LoraSettings, facts: BaseFacts) -> None:
    if entry.shape == expected:
        return
    shown = str(list(entry.shape))[:60]
    rank_at = 0 if what.endswith("A") else 1
    if len(entry.shape) == 2 and entry.shape[1 - rank_at] == expected[1 - rank_at]:
        raise ValueError(f"{what} is {shown}, and the config gives it rank {expected[rank_at]}. Config and weights are "
                         "of two adapters; save or fetch both again.")
    raise ValueError(_unlike(f"{what} is {shown} and would have to be {list(expected)}", settings, facts))


def _unlike(what: str, settings: LoraSettings, facts: BaseFacts) -> str:
    """The sentence on an adapter whose layers are not the base's."""
    if settings.base and not is_same_base(settings.base, facts.id):
        return (f"It was made for {settings.base}, which is built differently from {facts.id}: {what}. Use it with "
                f"{settings.base} as the base.")
    return f"It doesn't fit {facts.id}: {what}. Fetch it again, or use the base that it was trained on."


def _is_a_layers_own(key: str) -> bool:
    return key.endswith((".base_layer.weight", "embed_tokens.weight", "lm_head.weight"))


def _range(values: set[float]) -> str:
    return f"{min(values):.4g}" if len(values) == 1 else f"{min(values):.4g} to {max(values):.4g}"
