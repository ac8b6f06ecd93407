"""Which container a file is, by its bytes before its name; archives are unpacked within bounds, out of reach."""

from __future__ import annotations

import gzip
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from training.chat_text import looks_like_chat
from training.reading.arrow_stream import BEGINS, arrow_part
from training.reading.delimited import csv_part, is_table
from training.reading.json_rows import SPLITS, begins_json, chat_text, json_lines, json_whole
from training.reading.parquet import parquet_part
from training.reading.rows import MEBIBYTE, Bounds, NoRows, Part, bounded
from training.reading.workbook import xlsx_parts

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".xlsx", ".txt", ".gz", ".zip")
_FORMATS = "JSONL, JSON, CSV, TSV, Parquet, Arrow, xlsx, or gz and zip of these"
# What a file can be that is no table of conversations, by its first bytes.
_STRANGE = ((b"\xff\xd8\xff", "a JPEG picture"), (b"\x89PNG", "a PNG picture"), (b"GIF8", "a GIF picture"),
            (b"%PDF", "a PDF"), (b"\xd0\xcf\x11\xe0", "an old Office file (.xls or .doc)"),
            (b"7z\xbc\xaf", "a 7z archive"), (b"Rar!", "a RAR archive"),
            (b"BZh", "a bzip2 file"), (b"\xfd7zXZ", "an xz file"),
            (b"\x28\xb5\x2f\xfd", "a Zstandard file"), (b"SQLite format 3", "an SQLite database"),
            (b"ARROW1", "a Feather file"), (b"\x7fELF", "a program"), (b"\x93NUMPY", "a NumPy array"))
_TAR = (257, b"ustar")
# What a download brings where it went wrong.
_NOT_ITSELF = ((b"version https://git-lfs", "a pointer of Git LFS"), (b"<!doctype html", "a web page"),
               (b"<html", "a web page"))
_ABOUT = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json", "readme.txt",
          "license.txt", "metadata.json", "requirements.txt", "schema.json", "readme.md", "readme", "license",
          "license.md", "licence")
_MOST_NAMED = 5
_CHUNK = MEBIBYTE
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
                   OverflowError, MemoryError)
_SPLIT_WORD = re.compile(r"[^a-z]+")


@dataclass
class _Left:
    """What may still be unpacked from one source, and which of its files were left out."""

    bounds: Bounds
    bytes: int
    files: int
    strays: list[NoRows] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def copy(self, source: BinaryIO, target: BinaryIO, name: str) -> None:
        """Copy to the end; ValueError as soon as it is more than may be unpacked, whatever was declared."""
        while chunk := source.read(_CHUNK):
            self.bytes -= len(chunk)
            if self.bytes < 0:
                raise ValueError(f"{name} unpacks to more than {self.bounds.unpacked_bytes // MEBIBYTE:,} MB, and no "
                                 "more can be read here. Use a part of it.")
            target.write(chunk)


@contextmanager
def opened(paths: Sequence[Path], bounds: Bounds, splits: Sequence[str] = ()) -> Iterator[list[Part]]:
    """The tables that these files hold, ready to be read once; ValueError says what can't be read and why. `splits` are
    those of the files where somebody said so, an empty one where nobody did.

    What is unpacked lies in a folder of its own under names of ours, and is gone afterwards.
    """
    _check_sizes(paths, bounds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rows-")))
        left = _Left(bounds, bounds.unpacked_bytes, bounds.files)
        parts = [part for path, split in zip_longest(paths, splits, fillvalue="")
                 for part in _placed(path, _parts_or_none(path, path.name, folder, left), split)]
        if left.strays and not parts:
            raise left.strays[0]
        for part in sorted(parts, key=lambda part: part.split == "test")[:1]:  # a test split may stay unread
            part.notes.extend(_left_out(left))
        for part in parts:
            part.rows = bounded(part.rows, part.name, bounds)
        yield parts


def files_in(folder: Path, bounds: Bounds) -> tuple[list[Path], str]:
    """The files of a folder and those below that may hold rows, in the order of their names, and a sentence on others.
    """
    found, others = [], []
    for path in sorted(folder.rglob("*")):
        place = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_file() and not _is_beside(place):
            if place.suffix.lower() in SUFFIXES:
                found.append(path)
            else:
                others.append(path.name)
        if len(found) > bounds.files:
            raise ValueError(f"{folder.name} holds more than {bounds.files:,} files, and no more can be read at once.")
    if not found:
        raise ValueError(f"The folder {folder.name} holds no file that can be read: {_FORMATS}.")
    return found, _not_looked_at(others)


def split_of(name: str) -> str:
    """train, validation or test where a file's name says so as a word of its own; else empty."""
    words = _SPLIT_WORD.split(PurePosixPath(name).name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def _left_out(left: _Left) -> Iterator[str]:
    """Sentences on the files that aren't read, where others are."""
    if left.strays:
        yield f"Left out: {_named([f'{one.name} ({one.what})' for one in left.strays])}."
    if left.others:
        yield _not_looked_at(left.others)


def _not_looked_at(names: Sequence[str]) -> str:
    return f"Not looked into, going by their names: {_named(names)}." if names else ""


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"


def _placed(path: Path, parts: list[Part], split: str) -> list[Part]:
    """A file's parts with their split: its own, else the one that somebody said, their file's name says or their
    folder's is.
    """
    for part in parts:
        place = PurePosixPath(path.parent.name, part.name)
        said, by_folder = part.split or split or split_of(part.name), SPLITS.get(place.parent.name.lower(), "")
        if not said and by_folder and part.name == path.name:
            part.name = str(place)  # files in the folders of splits are often called the same
        part.split = said or by_folder
    return parts


def _check_sizes(paths: Sequence[Path], bounds: Bounds) -> None:
    if len(paths) > bounds.files:
        raise ValueError(f"These are {len(paths):,} files, and {bounds.files:,} can be read at once.")
    size = sum(path.stat().st_size for path in paths)
    if size > bounds.file_bytes:
        names = paths[0].name if len(paths) == 1 else f"These {len(paths)} files"
        raise ValueError(f"{names}: {size / MEBIBYTE:,.0f} MB, and {bounds.file_bytes // MEBIBYTE:,} MB can be read "
                         "here. Use a part of it.")


def _parts_or_none(path: Path, name: str, folder: Path, left: _Left, depth: int = 0) -> list[Part]:
    """A file's parts; none of one that holds no rows, which is remembered."""
    try:
        return _parts(path, name, folder, left, depth)
    except NoRows as problem:
        left.strays.append(problem)
        return []


def _parts(path: Path, name: str, folder: Path, left: _Left, depth: int = 0) -> list[Part]:
    with path.open("rb") as file:
        start = file.read(512)
    if not start.strip():
        raise NoRows(name, "empty")
    strange = next((what for mark, what in _STRANGE if start.startswith(mark)), None)
    if start[_TAR[0]:_TAR[0] + len(_TAR[1])] == _TAR[1]:
        strange = "a tar archive"
    if strange:
        raise NoRows(name, strange, f", which can't be read here. Save the conversations as {_FORMATS}.")
    instead = next((what for mark, what in _NOT_ITSELF if start.lstrip().lower().startswith(mark)), None)
    if instead:
        raise ValueError(f"{name} is {instead}, not the file that it stands for. Download that: on the Hub by the "
                         "button beside its name, in a clone by `git lfs pull`.")
    if depth > 2:
        raise ValueError(f"{name} is an archive in an archive in an archive. Unpack it first.")
    if start.startswith(b"\x1f\x8b"):
        return _parts(*_unzipped(path, name, folder, left), folder, left, depth + 1)
    if start.startswith(b"PK\x03\x04"):
        return _zip_or_xlsx(path, name, folder, left, depth)
    if start.startswith(b"PAR1"):
        return [parquet_part(path, name, left.bounds)]
    if start.startswith(BEGINS):
        return [arrow_part(path, name, left.bounds)]
    return _text_parts(path, name, start, left.bounds)


def _text_parts(path: Path, name: str, start: bytes, bounds: Bounds) -> list[Part]:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in (".parquet", ".arrow", ".xlsx", ".zip", ".gz"):
        raise ValueError(f"{name} is called {suffix}, but isn't one. It is damaged, or something else.")
    if suffix in (".jsonl", ".ndjson"):
        return json_lines(path, name, bounds)
    if suffix == ".json":
        return json_whole(path, name, bounds)
    if suffix in (".csv", ".tsv", ".tab"):
        return [csv_part(path, name, bounds, "\t" if suffix != ".csv" else "")]
    text = start.decode("utf-8", "replace")
    if begins_json(text):
        return json_lines(path, name, bounds)
    if suffix == ".txt" and not looks_like_chat(text) and is_table(path, name):
        return [csv_part(path, name, bounds, "\t")]
    if suffix in (".txt", ".md", ".text", ""):
        return chat_text(path, name, bounds)
    raise NoRows(name, "no file of conversations", f" that can be read here. Save them as {_FORMATS}.")


def _unzipped(path: Path, name: str, folder: Path, left: _Left) -> tuple[Path, str]:
    """What a gz file holds, and what it is called."""
    inner = name[:-3] if name.lower().endswith(".gz") else name
    target = _new_file(folder)
    try:
        with gzip.open(path) as source, target.open("wb") as out:
            left.copy(source, out, name)
    except (gzip.BadGzipFile, zlib.error, EOFError, OSError) as problem:
        raise ValueError(f"{name} can't be unpacked ({problem}). It is cut off or damaged.") from None
    return target, inner


def _zip_or_xlsx(path: Path, name: str, folder: Path, left: _Left, depth: int) -> list[Part]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, name, left)
            if any(entry.filename == "xl/workbook.xml" for entry in entries):
                _look_through(archive, entries, name, left)
                return xlsx_parts(_linked(path, folder), name, left.bounds)
            entries = [entry for entry in entries if not _is_beside(_place(entry))]
            wanted = [entry for entry in entries if _place(entry).suffix.lower() in SUFFIXES]
            if not wanted:
                raise NoRows(name, "an archive of no file that can be read", f": {_FORMATS}.")
            left.others += [_place(entry).name for entry in entries if entry not in wanted]
            return [part for entry in wanted for part in _entry_parts(archive, entry, (name, folder, left, depth))]
    except ValueError:
        raise
    except _ARCHIVE_ERRORS as problem:
        raise ValueError(f"{name} can't be unpacked ({problem or type(problem).__name__}). It is damaged, or locked "
                         "with a password.") from None


def _entries(archive: zipfile.ZipFile, name: str, left: _Left) -> list[zipfile.ZipInfo]:
    """The archive's files; ValueError where what they declare is too much, or leads out of it."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > left.files:
        raise ValueError(f"{name} holds {len(entries):,} files, and {left.files:,} can be read at once.")
    if sum(entry.file_size for entry in entries) > left.bytes:
        raise ValueError(f"{name} unpacks to more than {left.bounds.unpacked_bytes // MEBIBYTE:,} MB, and no more can "
                         "be read here. Use a part of it.")
    for entry in entries:
        place = _place(entry)
        if place.is_absolute() or ".." in place.parts or stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"{name} holds a file that leads out of it ({entry.filename[:60]!r}), and isn't read.")
    return entries


def _entry_parts(archive: zipfile.ZipFile, entry: zipfile.ZipInfo,
                 where: tuple[str, Path, _Left, int]) -> list[Part]:
    name, folder, left, depth = where
    target = _new_file(folder)
    with archive.open(entry) as source, target.open("wb") as out:
        left.copy(source, out, name)
    left.files -= 1
    return _parts_or_none(target, f"{name}/{entry.filename}", folder, left, depth + 1)


def _look_through(archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], name: str, left: _Left) -> None:
    """Unpack a workbook to nowhere first: its sizes and checksums are then known, and that it declares no entities."""
    with tempfile.TemporaryFile() as nowhere:
        for entry in entries:
            nowhere.seek(0)
            nowhere.truncate()
            with archive.open(entry) as source:
                left.copy(source, nowhere, name)
            nowhere.seek(0)
            if entry.filename.endswith((".xml", ".rels")) and b"<!" in nowhere.read(4096).replace(b"<!--", b""):
                raise ValueError(f"{name} declares entities in {entry.filename[:60]}, and isn't read.")


def _linked(path: Path, folder: Path) -> Path:
    """openpyxl goes by the name's end."""
    if path.suffix.lower() == ".xlsx":
        return path
    link = folder / f"{len(list(folder.iterdir()))}.xlsx"
    link.symlink_to(path.resolve())
    return link


def _place(entry: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(entry.filename.replace("\\", "/"))


def _is_beside(place: PurePosixPath) -> bool:
    """Files about a dataset rather than of it, hidden ones, and what `datasets` keeps beside it of earlier work."""
    is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in place.parts)
    is_kept = place.name.startswith("cache-") and place.suffix == ".arrow"
    return is_hidden or is_kept or place.name.lower() in _ABOUT


def _new_file(folder: Path) -> Path:
    return folder / str(len(list(folder.iterdir())))
