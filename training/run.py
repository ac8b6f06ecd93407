"""A run is a folder: whoever trains writes into it, whoever watches reads from it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adapters.library import WEIGHTS, Adapter, Library, checked_name
from training.config import RunConfig
from training.data import LISTED_DROPS, ChatData, Conversation, split
from training.owners import LOCAL, Owners, new_key

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_STATE_BY_EVENT = {
    "queued": "queued", "created": "preparing", "resuming": "preparing", "lease_ended": "paused", "stopped": "stopped",
    "finished": "finished", "failed": "failed",
}
ENDED = ("stopped", "finished", "failed", "interrupted")
# Somebody trains it, is about to, or will when its turn has come.
BUSY = ("queued", "preparing", "running")
# The adapter that a run trains further, in its folder.
START = "start"
# What an adapter may hold beyond plain LoRA weights, and a run of ours wouldn't keep.
_PLAIN_ONLY = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform", "lora_bias",
               "trainable_token_indices", "target_parameters", "exclude_modules")
# A trainer that has not taken the run's lock by then never began: its app was ended in between.
SECONDS_TO_BEGIN = 300
# Nothing more happens by itself; a paused run is one that its next lease goes on with.
RESTING = (*ENDED, "paused")
# What a trainer says step by step: undone where a resume began before it.
_STEPWISE = ("step", "evaluated", "sampled")


@dataclass(frozen=True)
class Event:
    """One line of events.jsonl. `values` are plain and depend on the type; `time` is seconds since 1970."""

    type: str
    run: str
    time: float
    step: int | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, as the file holds it and `--json` prints it."""
        step = {} if self.step is None else {"step": self.step}
        whole = {"type": self.type, "run": self.run, "time": round(self.time, 3), **step, **self.values}
        return json.dumps(whole, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Event:
        """The inverse of `to_json`."""
        values = json.loads(line)
        kind, run, moment = values.pop("type"), values.pop("run"), values.pop("time")
        return cls(kind, run, moment, values.pop("step", None), values)


@dataclass(frozen=True)
class Run:
    """One run, read from its folder whenever it is asked."""

    folder: Path

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def home(self) -> Path:
        """The studio's folder that this run lies in."""
        return self.folder.parent.parent

    @cached_property
    def config(self) -> RunConfig:
        """What was asked for."""
        import yaml

        return RunConfig.from_settings(yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8")))

    @cached_property
    def about_data(self) -> dict[str, Any]:
        """Name, kind, format and row counts of the data as it was at Start."""
        return json.loads((self.folder / "data.json").read_text(encoding="utf-8"))

    @cached_property
    def owner(self) -> str:
        """Whose it is: see training/owners.py."""
        return (self.folder / "owner").read_text(encoding="utf-8").strip()

    def shared_key(self) -> str:
        """The key with which anybody may look at it; empty while it isn't shared.

        It stands in the folder as it is: whoever can read it there can read the run as well.
        """
        path = self.folder / "shared"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def share(self) -> str:
        """Let whoever has the key that is returned look at it."""
        if not self.shared_key():
            (self.folder / "shared").write_text(new_key(), encoding="utf-8")
        return self.shared_key()

    def unshare(self) -> None:
        """Nobody else looks at it any more; a later link is another one."""
        (self.folder / "shared").unlink(missing_ok=True)

    def is_opened_by(self, key: str) -> bool:
        """Whether this is the key that its owner gave away for looking."""
        shared = self.shared_key()
        return bool(shared) and secrets.compare_digest(shared.encode(), key.encode())

    def give_to(self, owner: str) -> None:
        """It belongs to somebody else from now on, with the adapter that it made."""
        library = Library(self.home, {self.owner})
        name = self.config.name
        if library.has(name) and library.get(name).provenance.get("run") == self.id:
            library.give(name, owner)
        arriving = self.folder / ".owner"
        arriving.write_text(owner, encoding="utf-8")
        arriving.replace(self.folder / "owner")
        self.__dict__.pop("owner", None)

    def summary(self) -> dict[str, Any]:
        """What a list of runs says of it, as plain values."""
        losses = [event.values["loss"] for event in self.course() if event.type == "evaluated"]
        return {"run": self.id, "name": self.config.name, "state": self.state(), "method": self.config.method,
                "data": self.about_data["name"], "loss": losses[-1] if losses else None}

    def events(self) -> list[Event]:
        """All events so far; a last line that a power cut left half written is not one."""
        path = self.folder / "events.jsonl"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return [Event.from_json(line) for line in text.split("\n")[:-1] if line]

    def last_event(self) -> Event | None:
        """The newest event; what a long run said before is not read for it."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return None
        with path.open("rb") as lines:
            end = _whole_lines(path)
            start, part = end, b""
            while start and part.count(b"\n") < 2:
                start = max(0, start - 4096)
                lines.seek(start)
                part = lines.read(end - start)
        whole = [line for line in part.split(b"\n") if line]
        return Event.from_json(whole[-1].decode("utf-8", errors="replace")) if whole else None

    def course(self) -> list[Event]:
        """The events without what a resume has undone: what came after the checkpoint that it went on from."""
        kept: list[Event] = []
        for event in self.events():
            if event.type == "resumed":
                kept = [one for one in kept if one.type not in _STEPWISE
                        or (event.values["checkpoint"] and one.step <= event.step)]
            kept.append(event)
        return kept

    def append(self, kind: str, step: int | None = None, **values: Any) -> Event:
        """Write one event, flushed to the disk."""
        event = Event(kind, self.id, time.time(), step, values)
        path = self.folder / "events.jsonl"
        with path.open("ab") as lines:
            lines.truncate(_whole_lines(path))
            lines.write(event.to_json().encode() + b"\n")
            lines.flush()
            os.fsync(lines.fileno())
        return event

    def state(self) -> str:
        """queued, preparing, running, interrupted, paused, stopped, finished or failed: what the events say.

        Never asked by the trainer of its own run: a POSIX lock is lost when its holder closes any descriptor of
        the file.
        """
        last = self.last_event()
        named = _STATE_BY_EVENT.get(last.type) if last else "preparing"
        if named == "preparing" and last and time.time() - last.time > SECONDS_TO_BEGIN:
            named = None
        return named or ("running" if self.is_held() else "interrupted")

    def follow(self, pause: float = 0.2) -> Iterator[Event]:
        """Events as they come, until the run has ended (or nobody is training it any more)."""
        seen = 0
        while True:
            state = self.state()
            events = self.events()
            yield from events[seen:]
            seen = len(events)
            if state in RESTING:
                return
            time.sleep(pause)

    def conversations(self) -> tuple[list[Conversation], list[Conversation]]:
        """(train, held out), as frozen at Start."""
        import pyarrow.parquet as parquet

        rows = parquet.read_table(self.folder / "data.parquet").to_pylist()
        kept = [(row["held_out"], Conversation(row["row"], tuple(row["messages"]))) for row in rows]
        return [one for held, one in kept if not held], [one for held, one in kept if held]

    def began(self) -> bool:
        """Whether a trainer ever got as far as its first event."""
        return any(event.type in ("started", "resumed") for event in self.events())

    def log(self, most: int = 20_000) -> str:
        """The end of what its trainer's process printed; nothing where there was none or it was quiet."""
        path = self.folder / "log.txt"
        return path.read_text(encoding="utf-8", errors="replace")[-most:] if path.is_file() else ""

    def ask_to_stop(self) -> None:
        """Please stop after this step; what was learned is kept."""
        (self.folder / "stop").touch()

    def ask_to_go_on(self) -> None:
        """Take back what was asked by `ask_to_stop`."""
        (self.folder / "stop").unlink(missing_ok=True)

    def is_asked_to_stop(self) -> bool:
        """Whether somebody asked."""
        return (self.folder / "stop").exists()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run's lock: one trainer per run. ValueError where another holds it.

        `lockf`, not `flock`: the latter stays held by a forked child of a trainer that was killed.
        """
        with (self.folder / "lock").open("a") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(f"The run {self.id} is being trained already.") from None
            yield

    def is_held(self) -> bool:
        """Whether somebody is training it now."""
        with (self.folder / "lock").open("a") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


class Runs:
    """All runs under one studio folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "runs"

    def create(self, config: RunConfig, data: ChatData, owner: str = LOCAL, owners: Owners = (),
               waits: bool = False, beside: bool = False) -> Run:
        """Make the folder of a new run, whole or not at all; its first event is `created`, or `queued` where it
        `waits` for its turn (training/queue.py gives it one). `owners` are all that its visitor is besides `owner`.

        ValueError where a run is going already, unless this one waits or goes `beside` others, as on GPUs that are
        lent; or where the adapter's name is taken.
        """
        if not waits and not beside:
            self._refuse_a_second()
        library = Library(self.home, {owner, *owners})
        config = self._named(config, data, library)
        start = library.get(config.start_from) if config.start_from else None
        config = _like(config, start) if start else config
        train, held = split(data, config.held_out, config.seed)
        run_id = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.folder.mkdir(parents=True, exist_ok=True)
        arriving = self.folder / f".{run_id}"
        arriving.mkdir()
        try:
            _fill(arriving, config, data, train, held, owner)
            if start:
                _copy_start(start, arriving / START)
            arriving.rename(self.folder / run_id)
        except BaseException:
            shutil.rmtree(arriving, ignore_errors=True)
            raise
        run = Run(self.folder / run_id)
        run.append("queued" if waits else "created", rows=len(train), held_out=len(held), data=data.name)
        return run

    def resume(self, run: Run, waits: bool = False, beside: bool = False, **more: Any) -> bool:
        """Make a run ready to go on, with more epochs or steps where these are given; whether there is more to do.

        False for a finished run that nothing was added to. ValueError where it is being trained, where another one is
        and this one neither waits nor goes `beside` it, or where `more` asks for what would make it another run.
        """
        if run.state() in BUSY or run.is_held():
            raise ValueError(f"{run.id} is being trained already.")
        if not waits and not beside:
            self._refuse_a_second()
        given = {name: value for name, value in more.items() if value is not None}
        if run.state() == "finished" and not given:
            return False
        if given:
            _extend(run, given)
        run.ask_to_go_on()
        run.append("queued" if waits else "resuming")
        return True

    def begin(self, run: Run) -> None:
        """The turn of a run that waited has come: it is about to be trained."""
        if any(event.type == "created" for event in run.events()):
            run.append("resuming")
        else:
            about = run.about_data
            run.append("created", rows=about["train"], held_out=about["held_out"], data=about["name"])

    def leave_queue(self, run: Run) -> None:
        """A run that waits for its turn waits no longer; it can go on whenever it is resumed."""
        run.append("lease_ended", 0, reason="left", message="It was taken out of the queue.",
                   advice="Resume it to wait for its turn again.")

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
        there = _RUN_ID.fullmatch(run_id) and (run.folder / "config.yaml").is_file()
        if there and (owners is None or run.owner in owners):
            return run
        if owners is None:
            raise ValueError(f"There is no run {run_id}. See `python -m training list`.")
        # The same words for both: who has no key learns nothing of what there is.
        raise ValueError(f"There is no run {run_id} here that you may open. Use the link that you kept: its key shows "
                         "that the run is yours.")

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
        runs = [Run(one) for one in folders if (one / "config.yaml").is_file()]
        return sorted(runs, key=lambda run: run.folder.stat().st_ctime, reverse=True)

    def going(self) -> Run | None:
        """The run that is being trained or about to be."""
        return next((run for run in self.all() if run.state() in ("preparing", "running")), None)

    def _refuse_a_second(self) -> None:
        going = self.going()
        if going is not None:
            raise ValueError(f"{going.id} is still training. Wait for it, or stop it first.")

    def _named(self, config: RunConfig, data: ChatData, library: Library) -> RunConfig:
        if config.name:
            if library.has(checked_name(config.name)):
                raise ValueError(f"There is already an adapter named {config.name}. Choose another name.")
            return config
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(data.name).stem).strip("-").lower()[:40] or "adapter"
        taken = {*library.names(), *(run.config.name for run in self.of(library.owners))}
        number = next(n for n in range(1, 100_000) if f"{stem}-{n}" not in taken)
        return RunConfig.from_settings({**config.settings(), "name": f"{stem}-{number}"})


def _extend(run: Run, more: dict[str, Any]) -> None:
    """Write longer training into the run's config; nothing else may change, or it would be another run."""
    other = set(more) - {"num_train_epochs", "max_steps"}
    if other:
        raise ValueError(f"{', '.join(sorted(other))} can't change when a run goes on, only num_train_epochs and "
                         "max_steps. Start a new run for that.")
    config = RunConfig.from_settings({**run.config.settings(), **more})
    arriving = run.folder / ".config.yaml"
    arriving.write_text(config.to_yaml(), encoding="utf-8")
    arriving.replace(run.folder / "config.yaml")
    run.__dict__.pop("config", None)


def _like(config: RunConfig, start: Adapter) -> RunConfig:
    """The settings with the adapter's own rank, alpha and layers; ValueError where it can't be trained further."""
    if start.base != config.base:
        raise ValueError(f"{start.name} is an adapter for {start.base}, and this run's base is {config.base}. Start "
                         "from an adapter of this base, or from none.")
    made = json.loads((start.folder / "adapter_config.json").read_text(encoding="utf-8"))
    strange = [name for name in _PLAIN_ONLY if made.get(name)]
    if strange or made.get("peft_type") != "LORA" or not isinstance(made.get("target_modules"), list):
        raise ValueError(f"{start.name} can't be trained further here: it uses {', '.join(strange) or 'another form'}, "
                         "and only plain LoRA adapters can. Start from another one.")
    kept = {name: made[name] for name in ("r", "lora_alpha", "use_rslora", "target_modules")}
    return RunConfig.from_settings({**config.settings(), **kept})


def _copy_start(start: Adapter, folder: Path) -> None:
    """The adapter as it was at Start: the run needs nobody else's files to go on."""
    folder.mkdir()
    for name in ("adapter_config.json", WEIGHTS):
        shutil.copyfile(start.folder / name, folder / name)
    about = {"name": start.name, "run": start.provenance.get("run"),
             "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _fill(folder: Path, config: RunConfig, data: ChatData, train: Sequence[Conversation],
          held: Sequence[Conversation], owner: str) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    rows = [{"row": one.row, "held_out": side, "messages": list(one.messages)}
            for side, part in ((False, train), (True, held)) for one in part]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "data.parquet")
    about = {"name": data.name, "kind": data.kind, "format": data.format, "rows": data.rows_read,
             "dropped": len(data.dropped), "train": len(train), "held_out": len(held),
             "rows_dropped": [asdict(one) for one in data.dropped[:LISTED_DROPS]]}
    (folder / "data.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (folder / "owner").write_text(owner, encoding="utf-8")
    (folder / "lock").touch()


def _whole_lines(path: Path) -> int:
    """Bytes up to the end of the last whole line: half a line, left by a power cut, is no event."""
    with path.open("rb") as lines:
        end = lines.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            lines.seek(start)
            found = lines.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
