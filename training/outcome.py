"""What a run came to: its seconds, the memory that it held, and how its adapter came to be."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import Any

from adapters.picture import thinned
from phi3.machine import this_machine
from phi3.models import Base
from training.run import START, Run
from training.writer import Writer


def seconds_so_far(run: Run, writer: Writer) -> float:
    """From Start, with the imports; where a GPU is lent or a run was resumed, of this lease and the steps before it."""
    of_this_lease = time.monotonic() - writer.lease.began
    if writer.seconds_before or this_machine().kind == "zerogpu":
        return writer.seconds_before + of_this_lease
    began = next(event.time for event in reversed(run.events()) if event.type in ("created", "resuming"))
    return max(of_this_lease, time.time() - began)  # a clock may have been put back since


def peak_bytes() -> int:
    """The most memory that this process held at once: the card's, or resident memory on a CPU."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def provenance(run: Run, base: Base, outcome: dict[str, Any]) -> dict[str, Any]:
    """How the adapter came to be: enough to judge it and to make it again."""
    from importlib.metadata import version

    rows = hashlib.sha256((run.folder / "data.parquet").read_bytes()).hexdigest()
    about = run.folder / START / "about.json"
    started_from = {"started_from": json.loads(about.read_text(encoding="utf-8"))} if about.is_file() else {}
    return {
        "run": run.id, "base": base.facts.id, "base_revision": base.facts.revision,
        "chat_template": hashlib.sha256(base.tokenizer.chat_template.encode()).hexdigest(),
        "data": {**run.about_data, "sha256": rows}, "settings": run.config.settings(), **started_from,
        "outcome": outcome, "losses": _losses(run), "device": str(base.model.device),
        "hardware": this_machine().hardware(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    }


def _losses(run: Run) -> dict[str, list[tuple[int, float]]]:
    """(step, loss) while training and on held-out rows, thinned: a provenance stays small, however long the run."""
    course = run.course()
    return {name: thinned([(event.step, event.values["loss"]) for event in course if event.type == kind])
            for name, kind in (("train", "step"), ("held_out", "evaluated"))}
