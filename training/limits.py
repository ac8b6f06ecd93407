"""How much one visitor may keep and ask for where many share a machine; every such number stands here."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.library import NOBODYS, Adapter, nobodys
from training.config import RunConfig
from training.owners import is_nobodys
from training.reading.rows import MEBIBYTE, Bounds
from training.run import BUSY, Run
from training.work import batches_of

if TYPE_CHECKING:
    from training.data import ChatData
    from training.runs import Runs

SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class Limits:
    """What one visitor may have; None is no limit. `days_kept` is for runs, adapters, corrections and votes that belong
    to a key and no name.
    """

    runs_kept: int | None = None
    runs_at_once: int | None = None
    waiting: int | None = None       # runs of all visitors together
    rows: int | None = None
    upload_mebibytes: int | None = None
    steps: int | None = None
    tokens_at_once: int | None = None
    days_kept: int | None = None
    adapters_fetched: int | None = None
    adapter_mebibytes: int | None = None
    kept_mebibytes: int | None = None   # of one run that is brought back from the Hub
    free_mebibytes: int = 500        # that must be left on the disk when a run begins
    bounds: Bounds = field(default_factory=Bounds)  # what may be read from one source
    may_report: bool = True          # to a tracker elsewhere, with whatever accounts this machine has

    @property
    def adapter_bytes(self) -> int | None:
        """How large an adapter of the Hub's may be."""
        return None if self.adapter_mebibytes is None else self.adapter_mebibytes * MEBIBYTE

    def check_run(self, config: RunConfig, data: ChatData, own: Sequence[Run], runs: Runs) -> None:
        """ValueError with a sentence where a new run of this visitor, who has `own` runs, would pass a limit."""
        self.check_runs([config], data, own, runs)

    def check_runs(self, configs: Sequence[RunConfig], data: ChatData, own: Sequence[Run], runs: Runs) -> None:
        """The same for a group of new runs, all counted before any is begun."""
        self.check_going(own, runs, len(configs))
        self._check_kept_here(len(configs), own)
        for config in configs:
            self._check_one(config, data)
        self.check_disk(runs.home, len(configs))

    def _check_one(self, config: RunConfig, data: ChatData) -> None:
        if config.trackers() and not self.may_report:
            raise ValueError(f"report_to is {config.report_to}, and runs of visitors report to no tracker here. Set it "
                             "to none, or duplicate this Space.")
        if self.rows is not None and len(data.conversations) > self.rows:
            raise ValueError(f"{data.name} has {len(data.conversations):,} conversations, and a run here may use "
                             f"{self.rows:,}. Use a part of them, or duplicate this Space.")
        at_once = config.per_device_train_batch_size * config.max_length
        if self.tokens_at_once is not None and at_once > self.tokens_at_once:
            raise ValueError(f"Batch size times longest conversation is {at_once:,} tokens, and {self.tokens_at_once:,}"
                             " may be computed at once here. Make one of them smaller.")
        self.check_steps(config, len(data.conversations))

    def check_steps(self, config: RunConfig, conversations: int) -> None:
        """ValueError where a run over so many conversations would make more steps than one may here, or larger ones
        than such steps are without gradient accumulation.
        """
        batches = batches_of(config, [1] * conversations)
        steps = batches.steps
        if self.steps is not None and steps > self.steps:
            raise ValueError(f"This run would make {steps:,} steps, and {self.steps:,} are allowed here. Choose fewer "
                             "epochs, or set max_steps.")
        tokens = steps * min(batches.examples_per_step, conversations) * config.max_length
        most = self.steps * self.tokens_at_once if self.steps and self.tokens_at_once else tokens
        if tokens > most:
            raise ValueError(f"This run would compute up to {tokens:,} tokens, and {most:,} are allowed here. Choose "
                             "fewer epochs, less gradient accumulation or shorter conversations, or set max_steps.")

    def holds_kept(self, size: int) -> bool:
        """Whether a run that was kept on the Hub may be brought back with so many bytes."""
        return self.kept_mebibytes is None or size <= self.kept_mebibytes * MEBIBYTE

    def check_kept(self, size: int) -> None:
        """ValueError where a run that was kept on the Hub has more bytes than may be brought back."""
        if not self.holds_kept(size):
            raise ValueError(f"The kept run has {size / MEBIBYTE:,.0f} MB, and {self.kept_mebibytes:,} MB may be "
                             "brought back here. Duplicate this Space to go on with it.")

    def check_disk(self, home: Path, count: int = 1) -> None:
        """ValueError where the disk has hardly any room left for so many runs."""
        place = next(one for one in (home, *home.parents) if one.exists())
        free = shutil.disk_usage(place).free // MEBIBYTE
        needed = count * self.free_mebibytes
        if free < needed:
            what = "a run needs" if count == 1 else f"{count} runs need"
            raise ValueError(f"The disk is nearly full: {free:,} MB are left, and {what} {needed:,} MB to begin. "
                             "Delete runs that aren't needed any more, or free some space.")

    def check_fetch(self, own: Sequence[Adapter], home: Path) -> None:
        """ValueError where a visitor with these adapters may fetch no more."""
        fetched = sum("hub" in adapter.provenance for adapter in own)
        if self.adapters_fetched is not None and fetched >= self.adapters_fetched:
            raise ValueError(f"You have fetched {fetched} adapters, and {self.adapters_fetched} are kept here for each "
                             "visitor. Use one of those, or duplicate this Space.")
        self.check_disk(home)

    def check_upload(self, path: Path) -> None:
        """ValueError where a file is larger than may be uploaded."""
        size = path.stat().st_size / MEBIBYTE
        if self.upload_mebibytes is not None and size > self.upload_mebibytes:
            raise ValueError(f"{path.name} has {size:.0f} MB, and {self.upload_mebibytes} MB may be uploaded here. Use "
                             "a part of it, or duplicate this Space.")

    def check_going(self, own: Sequence[Run], runs: Runs, count: int = 1) -> None:
        """ValueError where so many more runs of this visitor, who has `own` ones, may not go or wait now."""
        going = [run for run in own if run.state() in BUSY]
        if self.runs_at_once is not None and len(going) + count > self.runs_at_once:
            if going:
                raise ValueError(f"Your run {going[0].config.name} is still going or waiting. Wait for it, or stop it "
                                 "first.")
            raise ValueError(f"These are {count} runs, and {self.runs_at_once} of each visitor's may go or wait here "
                             "at a time. Start them one after the other, or duplicate this Space.")
        waiting = sum(run.state() == "queued" for run in runs.all()) if self.waiting is not None else 0
        if self.waiting is not None and waiting + count > self.waiting:
            more = "" if count == 1 else f", {self.waiting} may, and these are {count} more"
            raise ValueError(f"{waiting} runs are waiting already{more}. Try again when some of them have ended.")

    def _check_kept_here(self, count: int, own: Sequence[Run]) -> None:
        if self.runs_kept is not None and len(own) + count > self.runs_kept:
            more = "" if count == 1 else f", these are {count} more"
            raise ValueError(f"You have {len(own)} runs{more}, and {self.runs_kept} are kept here for each visitor. "
                             "Delete one first; its page has a button for that.")


# One's own machine: whoever owns the disk decides.
ONES_OWN = Limits(free_mebibytes=200)
# A Space that many share.
SHARED = Limits(runs_kept=12, runs_at_once=1, waiting=40, rows=20_000, upload_mebibytes=50, steps=3_000,
                tokens_at_once=65_536, days_kept=7, adapters_fetched=20, adapter_mebibytes=1_024, kept_mebibytes=2_048,
                may_report=False,
                bounds=Bounds(file_bytes=50 * MEBIBYTE, unpacked_bytes=400 * MEBIBYTE, files=100, rows=200_000,
                              columns=500, cell=1_000_000))


def sweep(runs: Runs, limits: Limits, now: float | None = None) -> list[str]:
    """Delete what belongs to nobody's name and is older than is promised: runs, adapters that none of the runs left
    made, corrections and votes. The ids of those runs, and the names of the others.
    """
    if limits.days_kept is None:
        return []
    oldest = (time.time() if now is None else now) - limits.days_kept * SECONDS_A_DAY
    gone = []
    for run in runs.all():
        if is_nobodys(run.owner) and run.state() not in BUSY and _last_change(run) < oldest:
            with suppress(ValueError):  # somebody has just resumed it
                runs.delete(run)
                gone.append(run.id)
    left = {run.id for run in runs.all()}
    for adapter, came in nobodys(runs.home):
        if came < oldest and adapter.provenance.get("run") not in left:
            shutil.rmtree(adapter.folder, ignore_errors=True)
            gone.append(adapter.name)
    for path in runs.home.glob(f"*/{NOBODYS}*"):
        if path.is_file() and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
            gone.append(path.name)
    return gone


def _last_change(run: Run) -> float:
    events = run.events()
    return events[-1].time if events else run.folder.stat().st_mtime
