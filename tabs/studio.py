"""The parts that the page is made of: built in app.py, handed to every tab."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.library import Library
from phi3.machine import Machine
from phi3.models import BaseFacts
from training.run import Runs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from phi3.generate import Answerer


@dataclass(frozen=True)
class Studio:
    """`tokenizer` and `answerer` are still loading when the page opens; whoever needs one waits for its result."""

    home: Path
    machine: Machine
    facts: BaseFacts
    suited: dict[str, Any]
    runs: Runs
    library: Library
    tokenizer: Future[PreTrainedTokenizerFast] = field(default_factory=Future)
    answerer: Future[Answerer] = field(default_factory=Future)
