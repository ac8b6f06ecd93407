"""Checkpoints of a run: sealed with sizes and hashes of their files, so that a resume never trusts a damaged one."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from adapters.files import flush, sha256_of

# Where a run keeps them.
CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"
KEPT = 2
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A sealed checkpoint: `step` optimizer steps were made when it was written."""

    folder: Path
    step: int

    def damage(self) -> str:
        """What is wrong with it, in a few words; empty where every file is as it was sealed."""
        try:
            sealed = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, KeyError):
            return "its manifest can't be read"
        for name, file in sealed.items():
            path = self.folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != file["bytes"] or sha256_of(path) != file["sha256"]:
                return f"{name} is damaged"
        return ""

    @property
    def goes_on(self) -> bool:
        """Whether a trainer can go on from it; one of a run that came back may hold what was learned alone. Of one that
        is whole."""
        return json.loads((self.folder / MANIFEST).read_text(encoding="utf-8")).get("goes_on", True)


def of_step(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of a step, whether or not it is there."""
    return Checkpoint(folder / f"step-{step}", step)


def seal(written: Path, step: int, goes_on: bool = True) -> Checkpoint:
    """Flush every file of a written checkpoint, note sizes and hashes, and give it the name that makes it exist.
    `goes_on`: whether a trainer finds there what it needs.

    Whatever happens in between, either the whole checkpoint is there under its name or none is; OSError where the disk
    can't take it.
    """
    sealed = of_step(written.parent, step)
    if sealed.folder.exists():
        if not sealed.damage() and sealed.goes_on:
            shutil.rmtree(written)  # the same step again: the one that is there is as good
            return sealed
        shutil.rmtree(sealed.folder)
    files = {}
    for path in sorted(one for one in written.rglob("*") if one.is_file()):
        flush(path)
        files[str(path.relative_to(written))] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    manifest = written / MANIFEST
    about = {"step": step, "files": files, **({} if goes_on else {"goes_on": False})}
    manifest.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    flush(manifest)
    written.rename(sealed.folder)
    flush(sealed.folder.parent)
    return sealed


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole and that a trainer can go on from, and a few words on each newer one that is
    damaged.
    """
    skipped = []
    for checkpoint in sorted(_all(folder), key=lambda one: -one.step):
        damage = checkpoint.damage()
        if damage:
            skipped.append(f"{checkpoint.folder.name}: {damage}")
        elif checkpoint.goes_on:
            return checkpoint, skipped
    return None, skipped


def prune(folder: Path, spare: int | None = None, keep: int = KEPT) -> None:
    """Remove all but the newest few, and the one of the step that is to be spared."""
    for checkpoint in sorted(_all(folder), key=lambda one: -one.step)[keep:]:
        if checkpoint.step != spare:
            shutil.rmtree(checkpoint.folder, ignore_errors=True)


def remove_unsealed(folder: Path) -> None:
    """Remove what was being written when its trainer ended: it helps nobody, and fills the disk."""
    for half in folder.glob("checkpoint-*"):
        shutil.rmtree(half, ignore_errors=True)


def _all(folder: Path) -> list[Checkpoint]:
    named = ((one, _NAME.fullmatch(one.name)) for one in folder.iterdir()) if folder.is_dir() else ()
    return [Checkpoint(one, int(match[1])) for one, match in named if match]
