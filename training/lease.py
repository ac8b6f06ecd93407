"""Where a lease runs: in a fresh subprocess of its own session, or on a GPU that is lent for a short while."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from phi3.giving import let_go
from phi3.lending import Refusal, Refused, refusal_of, shorter_turn
from training import checkpoint
from training.run import LOG, Run
from training.tokens import tokens_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from phi3.models import Base

_ROOT = Path(__file__).resolve().parent.parent
_LAST_WORDS = 600
_log = logging.getLogger("studio")
# A lent GPU is given back so long before it would be taken, besides what a step and a checkpoint take.
MARGIN_SECONDS = 3
# Whoever is killed without a warning loses no more than this.
SECONDS_BETWEEN_CHECKPOINTS = 15.0
# Less than this is spent on beginning and ending.
SHORTEST_TURN = 15
# What `take` is given: it trains the run of that id on the lent GPU for so many seconds.
Lend = Callable[[str, int], None]


@dataclass(frozen=True)
class Taken:
    """How one turn on a lent GPU ended. `step` is the newest that is saved; `goes_on`: the next turn may follow."""

    run: str
    state: str
    step: int
    reason: str = ""
    message: str = ""
    goes_on: bool = False


def start(run: Run, environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Train the run in a process of its own, which is returned; its output goes to log.txt in the run's folder."""
    with log_of(run.folder) as log:
        return watched(run, lambda: trainer(str(run.folder), output=log, environment=environment))


def trainer(*folder: str, output: Any, stdin: int = subprocess.DEVNULL,
            environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """A process in a session of its own that trains the run of this folder, or of the one that it reads there."""
    return subprocess.Popen([sys.executable, "-m", "training", "lease", *folder], cwd=_ROOT, stdin=stdin, stdout=output,
                            stderr=subprocess.STDOUT, start_new_session=True, env=environment)


def log_of(folder: Path) -> IO[bytes]:
    """Where a run's trainer prints."""
    return (folder / LOG).open("ab")


def watched(run: Run, begin: Callable[[], subprocess.Popen]) -> subprocess.Popen:
    """The process that `begin` sets to work on the run; where it ends without a word, the run says so."""
    before = len(run.events())
    process = begin()
    threading.Thread(target=_watch, args=(process, run, before), daemon=True).start()
    return process


def start_without_card(run: Run) -> None:
    """The same on this machine's processor, where its GPU is only lent."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("SPACES_ZERO_GPU", "ZEROGPU_")) and name != "OMP_NUM_THREADS"}
    start(run, {**kept, "CUDA_VISIBLE_DEVICES": ""})


def take(run: Run, lend: Lend, seconds: int, tokenizer: PreTrainedTokenizerBase | None = None) -> Taken:
    """Train the run for one turn of a lent GPU, from its newest whole checkpoint; a shorter one where the visitor has
    no more left. Where none is lent, or it is taken back, the run is paused with the reason. With the tokenizer its
    rows become tokens before the GPU is asked for.

    ValueError where the run is being trained already; what goes wrong in the training itself is raised as it is.
    """
    if run.is_held():
        raise ValueError(f"{run.id} is being trained already.")
    if tokenizer is not None:
        tokens_of(run, tokenizer)
    before = saved_step(run)
    if run.state() == "finished":
        return _taken(run, before)
    if run.state() != "preparing":
        run.append("resuming")
    try:
        _borrow(run, lend, seconds)
    except BaseException as problem:
        _pause(run, refusal_of(str(problem)))
        raise
    return _taken(run, before)


def train_within(base: Base, run: Run, seconds: int) -> None:
    """Train on the resident base, in the process that has the GPU, until `seconds` are nearly over.

    The process may serve another visitor next: nothing of this run stays in its memory.
    """
    import torch

    from training.train import Lease, run_lease

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # it may have served another visitor before
    try:
        run_lease(run, Lease(max(0, seconds - MARGIN_SECONDS), SECONDS_BETWEEN_CHECKPOINTS), base)
    finally:
        let_go()


def saved_step(run: Run) -> int:
    """The step of the newest checkpoint that is whole; 0 where there is none."""
    found, _ = checkpoint.newest(run.folder / "checkpoints")
    return found.step if found else 0


def _borrow(run: Run, lend: Lend, seconds: int) -> None:
    asked: int | None = seconds
    while asked is not None:
        try:
            return lend(run.id, asked)
        except Refused as refused:
            asked = shorter_turn(asked, refused.refusal, SHORTEST_TURN)
            if asked is None:
                _pause(run, refused.refusal)


def _pause(run: Run, refusal: Refusal) -> None:
    """Say why the run does not go on, unless its trainer has said how it ended, or another turn goes on with it."""
    if run.state() in ("preparing", "interrupted") and not run.is_held():
        run.append("lease_ended", saved_step(run), reason=refusal.reason, message=refusal.message,
                   advice=refusal.advice, again_in=refusal.again_in)


def _taken(run: Run, before: int) -> Taken:
    """A run that got nowhere is not sent on: it would only use up the visitor's time."""
    state, end, saved = run.state(), run.events()[-1], saved_step(run)
    reason = end.values.get("reason", "")
    goes_on = state == "paused" and reason in ("time", "aborted") and saved > before
    return Taken(run.id, state, saved, reason, end.values.get("message", ""), goes_on)


def could_not_begin(run: Run, problem: Exception) -> None:
    """The run failed before it had a trainer, with the reason."""
    _log.error("%s could not be begun", run.id, exc_info=problem)
    why = getattr(problem, "strerror", None) or type(problem).__name__
    run.append("failed", message=f"The training could not be begun: {why}.", advice="Resume it to try again.")


def _watch(process: subprocess.Popen, run: Run, before: int) -> None:
    """Wait for the trainer; one that ended before it could say anything, so that there are as many events as `before`
    it began, gets its `failed` event from here. (One that is slow to end may see the run resumed meanwhile.)
    """
    code = process.wait()
    # One that was preparing for long, on a busy machine, is taken for interrupted.
    if run.folder.is_dir() and run.state() in ("preparing", "interrupted") and len(run.events()) == before:
        why = "was ended by the system (out of memory?)" if code < 0 else f"ended with code {code}"
        run.append("failed", message=f"The trainer {why} before it began.", advice="The run's log.txt holds the "
                   "details.", log=run.log(_LAST_WORDS))
