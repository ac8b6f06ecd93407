"""Adapters on this disk, by name: those that ship with the app and those that were trained here."""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapters.files import CONFIG, WEIGHTS, moved, read_object
from adapters.fit import is_same_base
from phi3.models import EMBEDDED_FOLDER

SHIPPED_FOLDER = EMBEDDED_FOLDER / "adapters"
PROVENANCE = "provenance.json"
LONGEST_NAME = 64
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
# The owner of what is trained on one's own machine, and where an adapter's owner is written.
LOCAL = "local"
OWNER = "owner"
# How the owner begins who has a key and no name, and the name of a file that is kept for one.
BY_KEY, NOBODYS = "key:", "nobody-"
# Touched whenever a lane asks for the adapter: see adapters/cache.py.
USED = "used"
# Words that lanes and command lines use for "no adapter"; Windows and dot files are kept out by the pattern.
_TAKEN = ("base", "none")


@dataclass(frozen=True)
class Adapter:
    """One adapter in PEFT's format. `provenance` says how it was made, `base` for which one (empty where nobody wrote
    it down).
    """

    name: str
    folder: Path
    base: str
    shipped: bool
    provenance: dict[str, Any] = field(default_factory=dict)


def with_tail(name: str, tail: str) -> str:
    """A name with something behind it, shortened so that it is still one."""
    return name[:LONGEST_NAME - len(tail)] + tail


def checked_name(name: str) -> str:
    """The name itself where it can be an adapter's and a folder's; ValueError says what a name may be."""
    if not _NAME.fullmatch(name) or name.endswith(".") or name.lower() in _TAKEN:
        raise ValueError(f"{name!r} can't be a name. Use up to {LONGEST_NAME} letters from a to z, digits, dots, "
                         "dashes and underscores, no spaces, beginning with a letter or digit, and not 'base' or "
                         "'none'.")
    return name


class Library:
    """The adapters of some owners under one folder, and those that ship.

    Names are each owner's own: whoever is not `local` finds theirs in folders that end with a sign of the owner.
    """

    def __init__(self, home: Path, owners: Collection[str] = (LOCAL,), base: str = "") -> None:
        """With a `base` only those of the shipped ones are listed that were made for it: others can't answer on it."""
        self.home, self.owners, self.base = home, frozenset(owners), base
        self.folder = home / "adapters"

    def of(self, owners: Collection[str]) -> "Library":
        """The same folder, as these owners see it."""
        return Library(self.home, owners, self.base)

    def all(self) -> list[Adapter]:
        """Own adapters, newest first, then the shipped ones."""
        own = sorted((one for one in _adapters_in(self.folder) if _owner_of(one) in self.owners), key=_made_at,
                     reverse=True)
        shipped = (_read(folder, shipped=True) for folder in sorted(_adapters_in(SHIPPED_FOLDER)))
        return [*(_read(folder, shipped=False) for folder in own),
                *filter(self._suits, shipped)]

    def suited(self) -> list[Adapter]:
        """Those that were made for the base, in the same order: what may answer without being asked for by name."""
        return list(filter(self._suits, self.all()))

    def _suits(self, one: Adapter) -> bool:
        return not self.base or is_same_base(self.base, one.base)

    def names(self) -> list[str]:
        """Names in the order of `all`."""
        return [adapter.name for adapter in self.all()]

    def get(self, name: str) -> Adapter:
        """The adapter of that name, or in that folder; ValueError names those there are."""
        if _NAME.fullmatch(name):
            own = [(self._place(name, owner), False) for owner in sorted(self.owners)]
            for folder, shipped in (*own, (SHIPPED_FOLDER / name, True)):
                if (folder / CONFIG).is_file():
                    return _read(folder, shipped)
        there = self.all()
        found = next((one for one in there if one.name == name), None)  # in a folder that somebody put there
        if found is None:
            known = ", ".join(one.name for one in there) or "none yet"
            raise ValueError(f"There is no adapter named {name}. Adapters here: {known}.")
        return found

    def has(self, name: str) -> bool:
        """Whether the name is taken."""
        return name in self.names()

    def put(self, name: str, made: Path, provenance: dict[str, Any], owner: str = LOCAL) -> Adapter:
        """Copy an adapter's files in under a name that its owner has free, whole or not at all.

        What the same run made under that name before, when it was stopped, makes room, and so does what came from the
        same repository on the Hub.
        """
        checked_name(name)
        older = self.get(name) if self.has(name) else None
        if older and (older.shipped or not _same_origin(older.provenance, provenance)):
            raise ValueError(f"There is already an adapter named {name}. Choose another name.")
        self.folder.mkdir(parents=True, exist_ok=True)
        arriving = self.folder / f".{name}.{time.time_ns()}"
        leaving = arriving.with_name(f"{arriving.name}.leaving")
        try:
            shutil.copytree(made, arriving)
            written = json.dumps(provenance, indent=2, ensure_ascii=False)
            (arriving / PROVENANCE).write_text(written, encoding="utf-8")
            (arriving / OWNER).write_text(owner, encoding="utf-8")
            if older:
                older.folder.rename(leaving)
            self._settle(arriving, self._place(name, owner), provenance)
        except BaseException:
            shutil.rmtree(arriving, ignore_errors=True)
            if leaving.exists() and not older.folder.exists():
                leaving.rename(older.folder)
            raise
        shutil.rmtree(leaving, ignore_errors=True)
        return self.get(name)

    def _settle(self, arriving: Path, place: Path, provenance: dict[str, Any]) -> None:
        """Move it to its place; where two put the same there at once, the quicker one has done it."""
        try:
            moved(arriving, place)
        except OSError:
            if not (place.is_dir() and _same_origin(_read(place, shipped=False).provenance, provenance)):
                raise
            shutil.rmtree(arriving)

    def remove(self, name: str) -> None:
        """Delete one of one's own adapters. It is out of sight at once, and a half removed one never comes back."""
        adapter = self.get(name)
        if adapter.shipped:
            raise ValueError(f"{name} ships with the app and can't be removed.")
        shutil.rmtree(out_of_sight(adapter.folder), ignore_errors=True)

    def free(self, *wished: str, promised: Iterable[str] = ()) -> str:
        """The first of these names that is none's here and can be one, and that is `promised` to nobody, else the last
        with a number behind it.
        """
        taken = {name.lower() for name in (*_TAKEN, *self.names(), *promised)}
        names = (*wished, *(f"{wished[-1][:58]}-{number}" for number in range(2, 10_000)))
        return next(name for name in names if name.lower() not in taken and _NAME.fullmatch(name))

    def give(self, name: str, owner: str, wished: str = "") -> None:
        """One of one's own adapters belongs to somebody else from now on, under the name that is `wished`, else the
        same, where they have it free, else under one with a number behind it.
        """
        adapter, free = self.get(name), self.of({owner}).free(wished or name)
        (adapter.folder / OWNER).write_text(owner, encoding="utf-8")
        adapter.folder.rename(self._place(free, owner))

    def _place(self, name: str, owner: str) -> Path:
        """The folder of this owner's adapter of that name."""
        if owner == LOCAL:
            return self.folder / name
        return self.folder / f"{name}@{hashlib.sha256(owner.encode()).hexdigest()[:12]}"


def out_of_sight(folder: Path) -> Path:
    """Where an adapter's folder is now, that is about to go: nobody finds it there."""
    return folder.rename(folder.with_name(f".{folder.name}.{time.time_ns()}.leaving"))


def in_use(adapter: Adapter) -> Adapter:
    """The adapter, for a lane that answers with it: when that was is noted, so that what is in use stays here."""
    if not adapter.shipped:
        with suppress(OSError):  # a disk that is full keeps nobody from talking
            (adapter.folder / USED).touch()
    return adapter


def demand_base(adapter: Adapter) -> None:
    """ValueError where it names no base: who has it from somebody else could not use it."""
    if not adapter.base:
        raise ValueError(f"{adapter.name} doesn't say which base it was trained on, so nobody could use it. Write that "
                         f"into its {CONFIG}, as base_model_name_or_path.")


def adapter_in(folder: Path) -> Adapter:
    """An adapter anywhere on this disk (the terminal's way); ValueError where the folder holds none."""
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no adapter ({CONFIG} and {WEIGHTS}).")
    return _read(folder.resolve(), shipped=False)


def nobodys(home: Path) -> list[tuple[Adapter, float]]:
    """The adapters that belong to no name, with the time (seconds since 1970) when each of them came."""
    return [(_read(folder, shipped=False), _made_at(folder)) for folder in _adapters_in(home / "adapters")
            if is_nobodys(_owner_of(folder))]


def is_nobodys(owner: str) -> bool:
    """Whether something belongs to whoever has its key, and to no name."""
    return owner.startswith(BY_KEY)


def file_name(owner: str, sign: str) -> str:
    """What a file is called that is kept for an owner: one of nobody's can be told, since it isn't kept for good."""
    return f"{NOBODYS}{sign}" if is_nobodys(owner) else sign


def as_plain(adapter: Adapter) -> dict[str, Any]:
    """Plain values for `--json`."""
    return {**asdict(adapter), "folder": str(adapter.folder)}


def _adapters_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [one for one in folder.iterdir() if (one / CONFIG).is_file()
            and not one.name.startswith(".")]


def _owner_of(folder: Path) -> str:
    """Whose the adapter in this folder is; what was put there without a word is the machine's own."""
    written = folder / OWNER
    return written.read_text(encoding="utf-8") if written.is_file() else LOCAL


def _same_origin(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two provenances name one run, or one repository on one Hub."""
    return any(_origin(one)) and _origin(one) == _origin(other)


def _origin(provenance: dict[str, Any]) -> tuple[Any, Any, Any]:
    hub = provenance.get("hub")
    hub = hub if isinstance(hub, dict) else {}
    return provenance.get("run"), hub.get("address"), hub.get("repository")


def _made_at(folder: Path) -> float:
    return (folder / CONFIG).stat().st_mtime


def _read(folder: Path, shipped: bool) -> Adapter:
    base = object_in(folder / CONFIG).get("base_model_name_or_path")
    return Adapter(folder.name.split("@")[0], folder, base if isinstance(base, str) else "", shipped,
                   object_in(folder / PROVENANCE))


def object_in(path: Path) -> dict[str, Any]:
    """What a file says, or nothing: one damaged adapter must not hide the others, and `check` says what is wrong."""
    try:
        return read_object(path) if path.is_file() else {}
    except ValueError:
        return {}
