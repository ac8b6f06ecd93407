"""A run beyond this disk: its newest checkpoint in a private repository of its owner's, from where it can go on.

What it had learned where held-out loss was lowest lies beside that, where that was earlier.

Each run has a repository of its own, under the account of whoever keeps it. Two runs that are kept at once never stand
in each other's way, one can be deleted on the Hub without the others, with all that its older commits still hold, and
the rows of one dataset never lie beside those of another. Each time one commit is made, and the files have the same
names in every commit, so that the listing holds the newest checkpoint alone.

Nothing that travels is a pickle: the trainer's state goes as numbers (training/numbers.py), rows and events as lines of
JSON, weights as safetensors. What comes back is read by training/arrival.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.files import printable, sha256_of, write_whole
from adapters.hub import Hub, checked_token
from adapters.hub_refusals import plainly
from training import checkpoint
from training.arrival import (
    ABOUT,
    CHECKPOINT,
    EVALUATION,
    EVENTS,
    FORMAT,
    LOWEST,
    ROWS,
    Files,
    told_events,
    trainer_state,
)
from training.lowest import lowest_checkpoint
from training.numbers import write_numbers
from training.run import START, Run

# The tag by which a visitor's kept runs are found, and what their repositories' names begin with.
TAG, PREFIX = "phi3-lora-studio-run", "phi3-run-"
# In the run's folder: where it is kept, and how far. Never a token.
NOTE = "afar.json"
MOST_LISTED = 60
_HARMLESS = (".gitattributes", "README.md")
_CARD = """---
tags:
- {tag}
run_name: {name}
run_step: {step}
---

# {name}, kept

A training run of Phi-3 LoRA Studio, up to step {step}: settings, events, the newest
checkpoint and **the conversations that it learned from**. The app made this repository private and keeps nothing here
if it becomes public. Sign in where the app runs to bring the run back; delete the repository to end the keeping.
"""


@dataclass(frozen=True)
class Note:
    """How a run is kept: whether its owner wants it, where, up to which step and with which evaluation (its file's
    hash; empty without one), when it was tried last (seconds since 1970), and what went wrong then.
    """

    wanted: bool = False
    repository: str = ""
    step: int = 0
    evaluation: str = ""
    revision: str = ""
    tried: float = 0.0
    wrong: str = ""


@dataclass(frozen=True)
class KeptRun:
    """A run that lies on the Hub, as the listing tells: its name, how far it got, and the day of its last commit."""

    repository: str
    name: str
    step: int | None
    changed: str


def note_of(run: Run) -> Note:
    """What is noted of a run; nothing wanted where nothing is."""
    path = run.folder / NOTE
    return Note(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else Note()


def write_note(folder: Path, note: Note) -> None:
    """Note it in the run's folder, whole or not at all."""
    write_whole(folder / NOTE, json.dumps(dataclasses.asdict(note)))


def repository_of(run: Run, account: str) -> str:
    """Where a run is kept: where it was kept before, or under a name made of its id."""
    last = re.sub(r"[^A-Za-z0-9]+", "-", run.id)[-80:].strip("-")
    return note_of(run).repository or f"{account}/{PREFIX}{last}"


def newest_step(run: Run) -> int:
    """The step of the newest checkpoint by its event, without reading its files; 0 where there is none."""
    return max((event.step or 0 for event in run.course() if event.type == "checkpointed"), default=0)


def evaluation_at(folder: Path) -> str:
    """The hash of the evaluation that lies in a folder; empty where there is none."""
    path = folder / EVALUATION
    return sha256_of(path) if path.is_file() else ""


def keep(hub: Hub, run: Run, account: str, token: str) -> Note:
    """Send the run with its newest whole checkpoint to its private repository, which is made where there is none, as
    one commit; what is noted of it then.

    The rows travel with it. ValueError with a sentence where there is no checkpoint yet, the repository is public or
    holds something else, the token is expired or may not write, or the Hub can't be reached; the run stays as it is.
    """
    token, repository = checked_token(token), repository_of(run, account)
    found, _ = checkpoint.newest(run.folder / "checkpoints")
    if found is None:
        raise ValueError(f"{run.config.name} has no checkpoint yet. It is kept as soon as there is one.")
    there = hub.there(repository, token)
    if there is None:
        with plainly(hub.address, repository, writes=True):
            hub.api().create_repo(repository, private=True, exist_ok=True, token=token)
        there = hub.there(repository, token)
    _may_hold_rows(there, repository, hub.address)
    with tempfile.TemporaryDirectory(prefix=".leaving-", dir=run.folder, ignore_cleanup_errors=True) as folder:
        try:
            _pack(run, found, Path(folder))
        except FileNotFoundError:
            raise ValueError("The checkpoint made room for a newer one while it was read. That one is kept next.") \
                from None
        measured = evaluation_at(Path(folder))
        revision = _sent(hub, repository, Path(folder), token)
    return Note(True, repository, found.step, measured, revision, time.time())


def kept_runs(hub: Hub, account: str, token: str) -> list[KeptRun]:
    """The runs of an account that lie on the Hub; ValueError where it can't be asked."""
    rows = hub.listed({"author": account, "filter": [TAG]}, token, MOST_LISTED)
    return [found for found in map(_listed, rows) if found.repository.split("/")[0].lower() == account.lower()]


def _listed(row: Any) -> KeptRun:
    card = row.get("cardData") if isinstance(row.get("cardData"), dict) else {}
    repository, step, changed = printable(row.get("id"), 200), card.get("run_step"), row.get("lastModified")
    return KeptRun(repository, printable(card.get("run_name") or repository.split("/")[-1], 64),
                   step if type(step) is int else None, printable(changed, 10) if isinstance(changed, str) else "")


def _may_hold_rows(there: Any | None, repository: str, address: str) -> None:
    if there is None:
        raise ValueError(f"{repository} was made on the Hub, and can't be seen there yet. Try again in a minute.")
    if there.private is not True:
        raise ValueError(f"{repository} is public on the Hub, and conversations are kept in private repositories only. "
                         f"Make it private at {address}/{repository}/settings, or delete it there.")
    names = [one.rfilename for one in there.siblings or []]
    others = [name for name in names if name not in _HARMLESS]
    if others and ABOUT not in names:
        raise ValueError(f"{repository} holds something else already ({printable(others[0])}). Rename it on the Hub, "
                         "and the run is kept.")


def _pack(run: Run, found: checkpoint.Checkpoint, folder: Path) -> None:
    """Everything that travels, in a folder of its own; the trainer may meanwhile remove the checkpoint."""
    files, lowest = Files(folder), lowest_checkpoint(run, found.step)
    for one, place in ((found, CHECKPOINT), *([(lowest, LOWEST)] if lowest else [])):
        for name in files.weights(run.config.method):
            path = folder / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(one.folder / name, path)
    state = trainer_state(found.folder / "trainer_state.json", found.step)
    (folder / CHECKPOINT / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    write_numbers(found.folder, folder / CHECKPOINT)
    if (run.folder / START).is_dir():
        (folder / START).mkdir()
        for path in (run.folder / START).iterdir():
            _link(path, folder / START / path.name)
    sides = zip((False, True), run.conversations(), strict=True)
    rows = [{"row": one.row, "held_out": held, "messages": one.messages} for held, part in sides for one in part]
    _write_lines(folder / ROWS, rows)
    _write_lines(folder / EVENTS, told_events([json.loads(one.to_json()) for one in run.course()], found.step,
                                              run.config))
    if (run.folder / EVALUATION).is_file():
        _link(run.folder / EVALUATION, folder / EVALUATION)
    about = {"format": FORMAT, "step": found.step, "lowest": lowest.step if lowest else None,
             "settings": run.config.settings(), "data": run.about_data,
             "files": {name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in files.here()}}
    (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_CARD.format(tag=TAG, name=run.config.name, step=found.step), encoding="utf-8")


def _sent(hub: Hub, repository: str, folder: Path, token: str) -> str:
    """One commit of everything in the folder; its id. What the Hub has already isn't sent again."""
    from huggingface_hub import CommitOperationAdd

    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with plainly(hub.address, repository, writes=True):
        changes = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]
        done = hub.api().create_commit(repository, changes, commit_message="Keep the run", token=token)
    return done.oid


def _link(source: Path, path: Path) -> None:
    """The file under a second name, which stays when the first one goes; a copy where the disk has no such names."""
    try:
        os.link(source, path)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, path)


def _write_lines(path: Path, values: list[Any]) -> None:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in values), encoding="utf-8")
