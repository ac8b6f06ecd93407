"""All runs of a studio: make one, whole or not at all, find it for its owner, let it go on, delete it."""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from adapters.files import moved
from adapters.library import LONGEST_NAME, Adapter, Library, checked_name
from training import further
from training.config import RunConfig, in_digits
from training.data import LISTED_DROPS, ChatData, Conversation, split
from training.lease import saved_step
from training.owners import LOCAL, Owners
from training.run import BUSY, START, UNDERWAY, Event, Run, write_events
from training.tracking import demand_trackers

_log = logging.getLogger("studio")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# The files that tell of a run, the one that never changes first.
_TELLING = ("data.json", "config.yaml", "owner")
_ROUNDED = 1.001  # what the epochs that are noted may have lost to rounding
# Alone on this machine; when its turn comes (training/queue.py gives it one); or beside others, on GPUs that are lent.
Goes = Literal["alone", "in turn", "beside others"]


@dataclass(frozen=True)
class Beginning:
    """How a new run begins. `goes`: when it is trained; `start`: the adapter that `start_from` names on the Hub
    (training/start.py), for by a name it is found here; `group`: what its first event says of the runs it belongs to
    (training/group.py).
    """

    goes: Goes = "alone"
    start: Adapter | None = None
    group: Mapping[str, Any] | None = None


USUAL_BEGINNING = Beginning()
# A POSIX lock keeps processes apart, not the threads of one.
_LOCAL = threading.Lock()


class Runs:
    """All runs under one studio folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "runs"
        self._known: dict[Path, tuple[list[tuple[int, int]], bool]] = {}

    def create(self, config: RunConfig, data: ChatData, owner: str = LOCAL, owners: Owners = (),
               beginning: Beginning = USUAL_BEGINNING) -> Run:
        """Make the folder of a new run, whole or not at all; its first event is `created`, or `queued` where it goes
        in turn. `owners` are all that its visitor is besides `owner`.

        ValueError where this one goes alone and another is going, where the adapter's name is taken, or where a tracker
        isn't installed.
        """
        demand_trackers(config)
        if beginning.goes == "alone":
            self._refuse_a_second()
        name, = self.free_names(config.name, data, {owner, *owners})
        config = RunConfig.from_settings({**config.settings(), "name": name})
        config, start = self.going_on(config, {owner, *owners}, beginning.start)
        train, held = split(data, config.held_out, config.seed)
        kind, group = ("queued" if beginning.goes == "in turn" else "created"), dict(beginning.group or {})
        told = {"rows": len(train), "held_out": len(held), "data": data.name, **({"group": group} if group else {})}
        with self.arriving(config.name) as (run, folder):
            fill(folder, config, data, (train, held), owner)
            if start:
                further.copy_start(start, folder / START)
            write_events(folder, [Event(kind, run.id, time.time(), None, told)])
        return run

    def going_on(self, config: RunConfig, owners: Owners, start: Adapter | None = None
                 ) -> tuple[RunConfig, Adapter | None]:
        """The settings as a run has them that trains an adapter further, and that adapter: `start`, or by its name one
        of these owners'. ValueError where there is none or it can't be trained further.
        """
        if config.start_from and start is None:
            start = Library(self.home, owners).get(config.start_from)
        return (further.like(config, start) if start else config), start

    @contextmanager
    def arriving(self, name: str) -> Iterator[tuple[Run, Path]]:
        """A new run of this name, and the folder to fill for it, which is the run's when all went well; else nothing is
        left behind.
        """
        run_id = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.folder.mkdir(parents=True, exist_ok=True)
        arriving = self.folder / f".{run_id}"
        arriving.mkdir()
        try:
            yield Run(self.folder / run_id), arriving
            moved(arriving, self.folder / run_id)
        except BaseException:
            shutil.rmtree(arriving, ignore_errors=True)
            raise

    def resume(self, run: Run, goes: Goes = "alone", **more: Any) -> bool:
        """Make a run ready to go on, with more epochs or steps where these are given; whether there is more to do.

        False for a finished run that nothing was added to. ValueError where it is being trained, where another one is
        and this one goes alone, where its adapter's name is another's by now, where a finished one has seen as much as
        `more` says, or where that asks for what would make it another run.
        """
        if run.state() == "queued":
            raise ValueError(f"{run.id} waits for its turn already, which the app gives it. Stop it first to begin it "
                             "otherwise.")
        if run.state() in BUSY or run.is_held():
            raise ValueError(f"{run.id} is being trained already.")
        if goes == "alone":
            self._refuse_a_second()
        given = {name: value for name, value in more.items() if value is not None}
        if run.state() == "finished" and not given:
            return False
        self._refuse_a_taken_name(run)
        if given:
            _extend(run, given)
        run.ask_to_go_on()
        run.append("queued" if goes == "in turn" else "resuming")
        return True

    def begin(self, run: Run) -> None:
        """The turn of a run that waited has come: it is about to be trained."""
        if any(event.type == "created" for event in run.events()):
            run.append("resuming")
        else:
            about = run.about_data
            run.append("created", rows=about["train"], held_out=about["held_out"], data=about["name"])

    def stop(self, run: Run) -> None:
        """Stop it after its step; one that waits for its turn waits no longer, and can be resumed whenever. ValueError
        where it neither waits nor is trained.
        """
        with self.alone():  # its turn may come just now
            state = run.state()
            if state == "queued":
                _leave_queue(run)
        if state in UNDERWAY:
            run.ask_to_stop()
        elif state != "queued":
            raise ValueError(f"{run.id} is not being trained: it is {state}.")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Whose turn it is changes for one at a time: two apps on one folder never begin two runs at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # In this order: a POSIX lock is lost when another thread of the process closes a descriptor of the file.
        with _LOCAL, (self.folder / ".queue").open("a") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            yield

    def delete(self, run: Run) -> None:
        """Remove the run with its rows, its checkpoints and the adapter that it made.

        ValueError while it is being trained. It is out of sight at once, and a half removed one never comes back.
        """
        if run.state() in BUSY or run.is_held():
            raise ValueError(f"{run.id} is being trained. Stop it first.")
        library = Library(self.home, {run.owner})
        name = run.config.name
        if library.has(name) and library.get(name).provenance.get("run") == run.id:
            library.remove(name)
        leaving = self.folder / f".{run.id}.leaving"
        run.folder.rename(leaving)
        shutil.rmtree(leaving, ignore_errors=True)

    def get(self, run_id: str, owners: Owners | None = None) -> Run:
        """The run of that id; ValueError where there is none, or where it is none of these `owners`' (None: whoever
        asks may see all, as in a terminal).
        """
        run = Run(self.folder / run_id)
        there = _RUN_ID.fullmatch(run_id) and _is_whole(run.folder)
        if there and (owners is None or run.owner in owners):
            return run
        if owners is None:
            raise ValueError(f"There is no run {run_id}. See `python -m training list`.")
        way_out = "It may have been deleted. Choose one of those that are listed." if LOCAL in owners else \
            "Use the link that you kept, whose key shows that it is yours, or sign in where it belongs to your name. " \
            "It may have been deleted, or is shown no more."
        # The same words for both: who has no key learns nothing of what there is.
        raise ValueError(f"There is no run {run_id} here that you may open. {way_out}")

    def readable(self, run_id: str, owners: Owners, key: str = "") -> Run:
        """The run of that id to look at: of one of these owners, or shared with this key; ValueError for others."""
        try:
            return self.get(run_id, owners)
        except ValueError:
            shared = Run(self.folder / run_id)
            if _RUN_ID.fullmatch(run_id) and shared.folder.is_dir() and shared.is_opened_by(key):
                return shared
            raise

    def of(self, owners: Owners) -> list[Run]:
        """The runs of these owners, newest first."""
        return [run for run in self.all() if run.owner in owners]

    def all(self) -> list[Run]:
        """Newest first."""
        folders = [one for one in self.folder.iterdir() if not one.name.startswith(".")] \
            if self.folder.is_dir() else []
        # The newest by what is written once: the folder itself changes with whatever becomes of the run.
        told = [(files[0], one) for one in folders if (files := self._told_by(one))]
        return [Run(one) for _, one in sorted(told, reverse=True)]

    def _told_by(self, folder: Path) -> list[tuple[int, int]] | None:
        """When each of the files was written that tell of a run (nanoseconds), and its bytes; None where they can't be
        read, of which the log hears once. They are read again only where one has changed.
        """
        try:
            files = [(one.st_mtime_ns, one.st_size) for one in ((folder / name).stat() for name in _TELLING)]
        except OSError:
            files = []
        known, is_readable = self._known.get(folder, (None, False))
        if files != known:
            is_readable = _is_whole(folder) and _is_readable(Run(folder))
            self._known[folder] = files, is_readable
        return files if is_readable else None

    def going(self) -> Run | None:
        """The run that is being trained or about to be."""
        return next((run for run in self.all() if run.state() in UNDERWAY), None)

    def _refuse_a_second(self) -> None:
        going = self.going()
        if going is not None:
            raise ValueError(f"{going.id} is still training. Wait for it, or stop it first.")

    def _refuse_a_taken_name(self, run: Run) -> None:
        """ValueError where this run could not keep its adapter in the end: another has its name, or will have it."""
        library, name = Library(self.home, {run.owner}), run.config.name
        if library.has(name) and library.get(name).provenance.get("run") != run.id:
            raise ValueError(f"There is an adapter named {name} by now that this run didn't make, so it could not keep "
                             "its own. Delete that one first, or start a new run under another name.")
        self._refuse_a_coming_name([name], [run.owner])

    def coming_names(self, owners: Owners) -> dict[str, str]:
        """The names of the adapters that runs of these owners will make which wait or are trained, with their ids."""
        return {one.config.name: one.id for one in self.of(owners) if one.state() in BUSY}

    def _refuse_a_coming_name(self, names: Sequence[str], owners: Owners) -> None:
        """ValueError where a run that waits or is trained will make an adapter of such a name."""
        coming = self.coming_names(owners)
        name = next((one for one in names if one in coming), None)
        if name:
            raise ValueError(f"The run {coming[name]} is about to make an adapter named {name}. Choose another name, "
                             "or stop that run first.")

    def free_names(self, name: str, data: ChatData, owners: Owners, tails: Sequence[str] = ("",)) -> list[str]:
        """The names of new adapters of these owners: this one, or one made from the data, with each of the tails behind
        it. ValueError where one that was asked for can't be a name, or is taken, by a run that goes on already as well.
        """
        library = Library(self.home, set(owners))
        room = LONGEST_NAME - max(map(len, tails))
        if name:
            names = [f"{name[:room] if tail else name}{tail}" for tail in tails]
            taken = next((one for one in names if library.has(checked_name(one))), None)
            if taken:
                raise ValueError(f"There is already an adapter named {taken}. Choose another name.")
            self._refuse_a_coming_name(names, library.owners)
            return names
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(data.name).stem).strip("-").lower()[:min(40, room - 6)] or "adapter"
        taken = {*library.names(), *(run.config.name for run in self.of(library.owners))}
        tried = ([f"{stem}-{number}{tail}" for tail in tails] for number in range(1, 100_000))
        return next(names for names in tried if taken.isdisjoint(names))


def _is_whole(folder: Path) -> bool:
    """Whether a run can be told of. Power that fails may leave files without a byte; such a run hides no other."""
    return all(path.is_file() and path.stat().st_size for path in (folder / "config.yaml", folder / "data.json"))


def _is_readable(run: Run) -> bool:
    """Whether its settings, its owner and what is known of its data can be read: a run of a later version, or one whose
    files the disk has damaged, hides no other.
    """
    import yaml

    try:
        return bool(run.config.base and run.about_data["name"]) and isinstance(run.owner, str)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as problem:
        _log.warning("The run %s can't be read, so it isn't listed: %s", run.id, " ".join(str(problem).split()))
        return False


def _leave_queue(run: Run) -> None:
    run.append("lease_ended", 0, reason="left", message="It was taken out of the queue.",
               advice="Resume it to wait for its turn again.")


def lengthened(config: RunConfig, more: Mapping[str, Any]) -> RunConfig:
    """The settings with more epochs or steps; a number of steps that was told before overrides no epochs that are asked
    for now. ValueError where one is no value.
    """
    return RunConfig.from_settings({**config.settings(), **({"max_steps": -1} if more else {}), **more})


def _extend(run: Run, more: dict[str, Any]) -> None:
    """Write longer training into the run's config; nothing else may change, or it would be another run."""
    other = set(more) - {"num_train_epochs", "max_steps"}
    if other:
        raise ValueError(f"{', '.join(sorted(other))} can't change when a run goes on, only num_train_epochs and "
                         "max_steps. Start a new run for that.")
    config = lengthened(run.config, more)
    _refuse_less(run, config)
    run.settle(config)


def _refuse_less(run: Run, config: RunConfig) -> None:
    """ValueError where a finished run has seen as much, or any other more: its settings would tell less than what its
    adapter learned.
    """
    steps, is_finished = [event for event in run.course() if event.type == "step"], run.state() == "finished"
    if not steps:
        return
    step = run.last_event().step if is_finished else saved_step(run)  # not each step is logged
    epoch = steps[-1].values["epoch"] * step / steps[-1].step
    made, asked, rounded = (step, config.max_steps, 1) if config.max_steps > 0 else (
        epoch, config.num_train_epochs, _ROUNDED)
    if made * rounded >= asked if is_finished else made > asked * rounded:
        raise ValueError(f"{run.id} has made {step:,} steps, {in_digits(epoch, 3)} epochs, already. Ask for more than "
                         "that.")


def fill(folder: Path, config: RunConfig, data: ChatData, sides: tuple[Sequence[Conversation], Sequence[Conversation]],
         owner: str) -> None:
    """Write what every run begins with: rows, what is known of them, settings and owner. `sides`: train, held out."""
    train, held = sides
    unlearned = _write_rows(folder / "data.parquet", train, held)
    about = {"name": data.name, "kind": data.kind, "format": data.format, "rows": data.rows_read,
             "dropped": len(data.dropped), "train": len(train), "held_out": len(held), "unlearned": unlearned,
             "rows_dropped": [asdict(one) for one in data.dropped[:LISTED_DROPS]]}
    (folder / "data.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (folder / "owner").write_text(owner, encoding="utf-8")
    (folder / "lock").touch()


def _write_rows(path: Path, train: Sequence[Conversation], held: Sequence[Conversation]) -> int:
    """The conversations of both sides as they are frozen at Start; only some at a time are Python's. Returns how many
    of their answers are read and not learned.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    turn = pyarrow.struct([("content", pyarrow.string()), ("role", pyarrow.string()), ("train", pyarrow.bool_())])
    schema = pyarrow.schema([("row", pyarrow.int64()), ("held_out", pyarrow.bool_()),
                             ("messages", pyarrow.list_(turn))])
    rows = ({"row": one.row, "held_out": side, "messages": list(one.messages)}
            for side, part in ((False, train), (True, held)) for one in part)
    batches = [pyarrow.RecordBatch.from_pylist(some, schema=schema)
               for some in iter(lambda: list(itertools.islice(rows, 1000)), [])]
    table = pyarrow.Table.from_batches(batches, schema=schema)
    parquet.write_table(table, path)
    return sum(len(some.flatten().field("train").drop_null()) for some in table.column("messages").chunks)
