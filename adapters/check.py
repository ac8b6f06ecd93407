"""Is this adapter safe, does it fit this base, does it do anything? Asked on every load and after each training."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.files import CONFIG, WEIGHTS, found, left_aside, opened, printable, read_header, read_object, wanted
from adapters.fit import AdaptedLayer, about_base, about_leftovers, about_targets, layers_of, short, table, unmatched
from adapters.layers import EMBEDDING, HEAD, WHOLE, last_name, shape_of
from adapters.peft_config import LoraSettings, key_of, place_of, settings_from
from phi3.models import Base, BaseFacts, shell_of

if TYPE_CHECKING:
    import torch

PROBE_TOKENS = 24
# In the studio's folder: copies of adapters that PEFT could not take as they are.
CONVERTED = ".converted"
# They are read once, when an adapter is loaded, and can be made anew.
MOST_CONVERTED = 16


@dataclass(frozen=True)
class Verdict:
    """What a check found. `verdict` is one line, `rows` a table of what and how much.

    `base` is the one that the adapter names, `rank` its largest, `matched` the number of tensors that belong to layers
    of the base, and `unmatched` the names of those that don't.
    """

    ok: bool
    verdict: str
    base: str | None = None
    rank: int | None = None
    parameters: int = 0
    matched: int = 0
    unmatched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`: all but the table."""
        return {"ok": self.ok, "verdict": self.verdict, "base": self.base, "rank": self.rank,
                "parameters": self.parameters, "matched": self.matched, "unmatched": list(self.unmatched),
                "warnings": list(self.warnings)}


@dataclass
class _Findings:
    """What is known so far of an adapter that is being looked at."""

    settings: LoraSettings | None = None
    layers: Mapping[str, AdaptedLayer] = field(default_factory=dict)
    matched: int = 0
    unmatched: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows: list[tuple[str, str]] = field(default_factory=list)

    def verdict(self, ok: bool, sentence: str) -> Verdict:
        layers = self.layers.values()
        return Verdict(ok, sentence, self.settings.base if self.settings else None,
                       max((layer.rank for layer in layers), default=self.settings.rank if self.settings else None),
                       sum(layer.parameters for layer in layers), self.matched, tuple(self.unmatched),
                       tuple(self.warnings), tuple(self.rows))


def check(folder: Path, facts: BaseFacts, base: Base | None = None) -> Verdict:
    """Look an adapter over against a base: cheap without a loaded one, which is asked whether its logits move.

    Nothing of the adapter is run, and its weights are read only when its files, its config and all its shapes are as
    they should be. An adapter that can't be used gives a verdict whose `ok` is False and whose sentence says why.
    """
    findings = _Findings()
    try:
        return findings.verdict(True, _judged(folder, facts, base, findings))
    except ValueError as problem:
        return findings.verdict(False, str(problem))


def demand(folder: Path, facts: BaseFacts, base: Base | None = None) -> Verdict:
    """The verdict on an adapter that can be used; ValueError with its sentence where it can't."""
    verdict = check(folder, facts, base)
    if not verdict.ok:
        raise ValueError(verdict.verdict)
    return verdict


def about(folder: Path, facts: BaseFacts) -> list[str]:
    """What should be said of the base that an adapter was trained on: nothing where that is this one. ValueError where
    the adapter can't be used with this one.
    """
    notes = list(about_base(settings_from(read_object(folder / CONFIG)), facts))
    if notes:
        demand(folder, facts)
    return notes


def ready_folder(folder: Path, facts: BaseFacts, kept: Path) -> Path:
    """The folder to give to PEFT for a sound adapter: its own, or a copy under `kept` where PEFT couldn't take that.

    A copy is needed for split names, patterns among the targets, a config that isn't in UTF-8, and tensors that are no
    LoRA weights (PEFT would write those over the resident base's). ValueError with the verdict's sentence where the
    adapter can't be used.
    """
    demand(folder, facts)
    settings = settings_from(read_object(folder / CONFIG))
    places = {key: place_of(key) for key in read_header(folder / WEIGHTS)}
    is_in_utf8 = json.detect_encoding((folder / CONFIG).read_bytes()) == "utf-8"
    if settings.is_plain and is_in_utf8 and all(place and key_of(*place) == key and last_name(place[0]) not in WHOLE
                                                for key, place in places.items()):
        return folder
    from adapters.formats import fused, read_peft, write_peft

    ready = kept / _identity(folder, facts)
    if not (ready / CONFIG).is_file():
        shape = shape_of(facts.config)
        try:
            write_peft(fused(read_peft(folder, shape), shape), ready, shape)
        except ValueError:
            if not (ready / CONFIG).is_file():  # it is there where somebody else was quicker
                raise
    with suppress(OSError):  # a disk that is full keeps nobody from talking
        os.utime(ready)
    _forget_the_oldest(kept)
    return ready


def logits_moved(base: Base, folder: Path) -> float:
    """How far a sound adapter moves the base's logits on a fixed row of tokens: the largest change of any of them."""
    import torch

    from adapters.formats import attached, fused, read_peft

    shape = shape_of(base.facts.config)
    probe = (torch.arange(PROBE_TOKENS) * 7919 + 13).remainder(base.facts.config["vocab_size"])[None]
    probe = probe.to(base.model.device)
    with torch.inference_mode():
        before = base.model(input_ids=probe).logits.float()
        model = attached(shell_of(base), fused(read_peft(folder, shape), shape), shape)
        return float((model(input_ids=probe).logits.float() - before).abs().max())


def _judged(folder: Path, facts: BaseFacts, base: Base | None, findings: _Findings) -> str:
    """The sentence on an adapter that can be used, after every question in the order of what it costs."""
    sizes = found(folder)
    wanted(sizes)
    aside = left_aside(sizes)
    if aside:
        findings.warnings.append(f"Files that could hold code were not opened: {', '.join(map(printable, aside[:3]))}"
                                 f"{' and others' if len(aside) > 3 else ''}.")
    findings.settings = settings = settings_from(read_object(folder / CONFIG))
    findings.warnings += [*settings.notes, *about_base(settings, facts)]
    entries = read_header(folder / WEIGHTS)
    findings.unmatched = unmatched(entries, facts)
    findings.matched = len(entries) - len(findings.unmatched)
    findings.layers = layers_of(entries, settings, facts)
    findings.warnings += [*about_leftovers(findings.unmatched), *about_targets(settings, findings.layers)]
    findings.rows += table(findings.layers, settings, _weights_looked_at(folder, base, findings))
    told = (f"Fits {facts.id}: rank {max(layer.rank for layer in findings.layers.values())}, "
            f"{sum(layer.parameters for layer in findings.layers.values()):,} parameters, {findings.matched} of "
            f"{len(entries)} tensors matched")
    if base is None:
        return f"{told}."
    moved = logits_moved(base, folder)
    _moves(moved, facts)
    findings.rows.append(("logits", f"moved by up to {moved:.4g} on a probe of {PROBE_TOKENS} tokens"))
    return f"{told}; it moves the logits by up to {moved:.3g}."


def _moves(moved: float, facts: BaseFacts) -> None:
    if moved == 0:
        raise ValueError(f"It changes nothing: it loads, and moves no logit of {facts.id}. Train it longer or with a "
                         "higher learning rate.")
    if not moved < float("inf"):
        raise ValueError(f"With it the logits of {facts.id} are no numbers any more. Train it again with a lower "
                         "learning rate.")


def _weights_looked_at(folder: Path, base: Base | None, findings: _Findings) -> dict[str, float]:
    """Read every number once: all finite, and some layer with neither A nor B all zero. The largest in B by name."""
    sizes: dict[str, dict[str, float]] = defaultdict(dict)
    with opened(folder / WEIGHTS) as weights:
        for key in weights.keys():  # noqa: SIM118 - it is no dictionary
            place = place_of(key)
            if place is not None and place[0] in findings.layers:
                sizes[place[0]][place[1]] = _largest(key, weights.get_tensor(key))
            elif base is not None and (f"{EMBEDDING}." in key or f"{HEAD}." in key):
                _is_the_bases_own(key, weights.get_tensor(key), base)
    if not any(layer.scaling for layer in findings.layers.values()):
        raise ValueError("It changes nothing: its lora_alpha is 0, so what it learned counts 0 times. Set it to what "
                         "it was trained with.")
    idle = [path for path, size in sizes.items() if not (size["A"] and size["B"])]
    if len(idle) == len(sizes):
        raise ValueError("It changes nothing: in every layer A or B is all zero, as before the first step of a "
                         "training. Train it, or fetch the trained one.")
    if idle:
        findings.warnings.append(f"{len(idle)} of its {len(sizes)} layers change nothing: A or B is all zero there.")
    largest: dict[str, float] = defaultdict(float)
    for path, size in sizes.items():
        largest[last_name(path)] = max(largest[last_name(path)], size["B"])
    return largest


def _largest(key: str, value: torch.Tensor) -> float:
    size = float(value.abs().max())
    if not size < float("inf"):
        raise ValueError(f"{short(key)} holds numbers that are not finite (NaN or infinite), as after a training that "
                         "diverged. Train it again with a lower learning rate.")
    return size


def _is_the_bases_own(key: str, value: torch.Tensor, base: Base) -> None:
    """Refuse a copy of embedding or head that was trained: it would have to replace the base's."""
    from phi3.lora_files import is_copy

    for path, module in ((EMBEDDING, base.model.model.embed_tokens), (HEAD, base.model.lm_head)):
        own = module.weight
        if f"{path}." in key and value.shape == own.shape and not is_copy(value, own):
            raise ValueError(f"It brings its own {path}, which differs from that of {base.facts.id}; only LoRA weights "
                             "are used here.")


def _forget_the_oldest(kept: Path) -> None:
    """Of the copies that PEFT was given stay those that were asked for last, whose adapters are most likely here."""
    times = {one: one.stat().st_mtime for one in kept.iterdir() if not one.name.startswith(".")}
    for one in sorted(times, key=times.__getitem__)[:-MOST_CONVERTED]:
        shutil.rmtree(one, ignore_errors=True)


def _identity(folder: Path, facts: BaseFacts) -> str:
    """A name for a copy: what it was made from, as that was then, and for which base."""
    made_from = [str(folder.resolve()), *((folder / name).stat().st_mtime_ns for name in (CONFIG, WEIGHTS)), facts.id]
    return hashlib.sha256(repr(made_from).encode()).hexdigest()[:32]
