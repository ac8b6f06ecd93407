"""Fetched adapters stay within a size: those that were used longest ago make room, and can be fetched again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.files import CONFIG, MEBIBYTE, WEIGHTS
from adapters.library import LOCAL, OWNER, PROVENANCE, USED, object_in, out_of_sight


@dataclass(frozen=True)
class Room:
    """How many mebibytes of fetched adapters are kept: of `all` owners together, and of `each`."""

    all: int
    each: int


# One's own machine, and a Space that many share: there nobody's adapters push out all of the others'.
ONES_OWN = Room(20 * 1024, 20 * 1024)
SHARED = Room(4 * 1024, 1024)
# An adapter that a lane asked for so lately may be answering still.
SECONDS_IN_USE = 900


@dataclass(frozen=True)
class Fetched:
    """An adapter in the library that came from the Hub. `used`: seconds since 1970; when it came, where no lane asked
    for it yet.
    """

    folder: Path
    owner: str
    bytes: int
    used: float


def make_room(library: Path, needed: int, owner: str, room: Room | None = None) -> list[str]:
    """Remove fetched adapters, the longest unused first, until `needed` bytes more of this owner's have room; the names
    of the folders that went. What was trained here, what ships and what is in use stay.

    ValueError where there is no room for it, even so; nothing is removed then.
    """
    room = room or (ONES_OWN if owner == LOCAL else SHARED)
    there = sorted(fetched(library), key=lambda one: one.used)
    leaving: list[Fetched] = []
    for most, counted in ((room.each, [one for one in there if one.owner == owner]), (room.all, there)):
        held = sum(one.bytes for one in counted if one not in leaving)
        idle = iter([one for one in counted if one not in leaving and one.used < time.time() - SECONDS_IN_USE])
        while held + needed > most * MEBIBYTE:
            oldest = next(idle, None)
            if oldest is None:
                raise ValueError(f"It has {needed / MEBIBYTE:,.0f} MB, and {most:,} MB of fetched adapters are kept "
                                 "here; those that are in use stay. Delete one, or try again later.")
            held -= oldest.bytes
            leaving.append(oldest)
    for one in leaving:
        # A half removed one is never loaded.
        shutil.rmtree(out_of_sight(one.folder), ignore_errors=True)
    return [one.folder.name for one in leaving]


def fetched(library: Path) -> Iterator[Fetched]:
    """The adapters in a library's folder that came from the Hub, whoever's they are."""
    folders = [one for one in library.iterdir() if not one.name.startswith(".")] if library.is_dir() else []
    for folder in folders:
        provenance = object_in(folder / PROVENANCE)
        if isinstance(provenance.get("hub"), dict) and not provenance.get("run") and (folder / CONFIG).is_file():
            noted = folder / USED if (folder / USED).exists() else folder / PROVENANCE
            owner = (folder / OWNER).read_text(encoding="utf-8") if (folder / OWNER).is_file() else LOCAL
            size = sum((folder / name).stat().st_size for name in (CONFIG, WEIGHTS) if (folder / name).is_file())
            yield Fetched(folder, owner, size, noted.stat().st_mtime)
