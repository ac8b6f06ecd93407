"""What may leave this machine of how an adapter came to be: numbers, hashes, and words that are nobody's own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from phi3.models import EMBEDDED

# The settings whose values are words of PEFT's or TRL's, and never a visitor's.
_SPOKEN_SETTINGS = ("method", "lr_scheduler_type", "attn_implementation", "target_modules")
_COUNTS = ("rows", "dropped", "train", "held_out")
_OUTCOMES = ("steps", "went_back_to", "seconds", "loss_before", "loss", "peak_bytes")
_WORD = re.compile(r"[A-Za-z0-9][\w.,+:()/ -]{0,79}", re.ASCII)
# Where rows may come from (training/data.py), and what may be said of their form (training/shapes.py).
_DATA_WORDS = {
    "kind": frozenset(("example", "file", "paste", "hub", "described", "lesson")),
    "format": frozenset(("messages", "sharegpt", "alpaca", "preference", "prompt-completion", "question and answer",
                         "chosen columns", "chatml", "phi-3", "llama-3 text", "gemma text", "alpaca text", "inst text",
                         "human assistant text", "chatgpt export", "openassistant tree")),
}
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
# A verdict (training/verdict.py) is made of these words and of numbers; a sentence with any other is somebody else's.
_VERDICT_WORDS = frozenset((
    "a", "adapter", "against", "answers", "are", "base", "Better", "by", "can", "chrF", "conversation", "conversations",
    "difference", "fell", "few", "forgot", "from", "everything", "in", "made", "manner", "new", "or",
    "general", "held-out", "interval", "is", "it", "its", "judge",
    "loss", "never", "No", "of", "on", "overfits", "questions", "rose", "saw", "show", "since", "step", "than",
    "that", "the", "to", "too", "training", "was", "while", "Worse",
))
LONGEST_VERDICT = 500
MOST_POINTS = 5_000


def disclosed(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """A provenance without anything private, in the same shape (training/outcome.py makes it).

    It is made by taking what is known to be harmless, not by leaving out what isn't: numbers, hashes, versions, PEFT's
    and TRL's own words. Names of files, of runs and of other adapters stay here, and so does whatever else may be
    written into a provenance one day. Rows are never in one.
    """
    base = provenance.get("base")
    shown = {
        "base": public_base(base) if isinstance(base, str) else None,
        "base_revision": _hash(provenance.get("base_revision")),
        "chat_template": _hash(provenance.get("chat_template")),
        "data": _data(_mapping(provenance, "data")),
        "settings": _settings(_mapping(provenance, "settings")),
        "started_from": _kept({"sha256": _hash(_mapping(provenance, "started_from").get("sha256"))}),
        "outcome": _outcome(_mapping(provenance, "outcome")),
        "losses": {name: _points(_mapping(provenance, "losses").get(name)) for name in ("train", "held_out")},
        "device": _word(provenance.get("device")), "hardware": _word(provenance.get("hardware")),
        "versions": _kept({name: _word(value) for name, value in _mapping(provenance, "versions").items()
                           if _word(name)}),
    }
    shown["losses"] = _kept(shown["losses"])
    return _kept(shown)


def public_base(base: str) -> str:
    """A base as others can know it: its Hub id, the embedded one's name, or the last name of a folder."""
    if base == EMBEDDED or on_the_hub(base):
        return base
    return re.sub(r"[^\w.-]", "-", base.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1], flags=re.ASCII) or "a-folder"


def on_the_hub(base: str) -> bool:
    """Whether a base's name is a Hub id; the embedded Phi-3's isn't, and neither is a folder's path."""
    return base != EMBEDDED and _HUB_ID.fullmatch(base) is not None


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Where the rows came from by kind, how many there were, and their hash; only an example's name is no secret."""
    said = {name: data[name] for name, words in _DATA_WORDS.items() if str(data.get(name)) in words}
    told = {**said, **_numbers(data, _COUNTS), "sha256": _hash(data.get("sha256"))}
    if data.get("kind") == "example":
        told["name"] = _word(data.get("name"))
    return _kept(told)


def _outcome(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Figures, and a verdict that holds nobody's own word."""
    said = outcome.get("verdict")
    return {**_numbers(outcome, _OUTCOMES), **({"verdict": said} if is_verdict(said) else {})}


def is_verdict(said: Any) -> bool:
    """Whether it is a sentence of a verdict's words and numbers alone."""
    return isinstance(said, str) and len(said) <= LONGEST_VERDICT and all(map(_is_of_a_verdict, said.split(" ")))


def _is_of_a_verdict(part: str) -> bool:
    bare = part.strip("(),;:.%")
    return bare in _VERDICT_WORDS or re.fullmatch(r"[+-]?[\d,]*(\.\d+)?", bare, re.ASCII) is not None


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    spoken = {name: _word(settings.get(name)) for name in _SPOKEN_SETTINGS}
    return _kept({name: spoken.get(name, value if _is_number(value) else None)
                  for name, value in settings.items() if _word(name)})


def _numbers(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if _is_number(values.get(name))}


def _points(points: Any) -> list[list[float]]:
    """(step, loss) pairs."""
    if not isinstance(points, (list, tuple)):
        return []
    return [list(one) for one in points[:MOST_POINTS]
            if isinstance(one, (list, tuple)) and len(one) == 2 and all(map(_is_number, one))]


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _hash(value: Any) -> str | None:
    return value if isinstance(value, str) and _HASH.fullmatch(value) else None


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is unknown or empty."""
    return {name: value for name, value in values.items() if value is not None and value not in ({}, [])}
