"""What every reader gives, rows with a person's row numbers, and how much any of them may read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from phi3.machine import MEBIBYTE

Row = tuple[int, Any]


@dataclass(frozen=True)
class Bounds:
    """How much may be read from one source; a file that is larger is refused before it is read.

    `cell` is in characters: a row with a longer text is dropped and named, and so is a longer line.
    """

    file_bytes: int = 8192 * MEBIBYTE      # as they come, all files together
    unpacked_bytes: int = 16384 * MEBIBYTE  # out of gz, zip, xlsx and parquet; and of all text that was read
    files: int = 2000
    rows: int = 10_000_000
    columns: int = 1000
    cell: int = 8_000_000


@dataclass(frozen=True)
class BadRow:
    """A row that couldn't be read, in its place among the others, so that row numbers stay a person's."""

    why: str


class NoRows(ValueError):
    """A file that is `what`, in words, and holds no rows: alone it is refused with advice, beside others left out."""

    def __init__(self, name: str, what: str, advice: str = "") -> None:
        super().__init__(f"{name} is {what}{advice or '.'}")
        self.name, self.what = name, what


@dataclass
class Part:
    """One table of rows: `split` is train, validation or test where its place says so.

    `share` tells how much of it is read, from 0 to 1; `notes` what a person should know of how it was read.
    """

    name: str
    rows: Iterator[Row]
    share: Callable[[], float] = lambda: 0.0
    notes: list[str] = field(default_factory=list)
    split: str = ""


def bounded(rows: Iterator[Row], name: str, bounds: Bounds) -> Iterator[Row]:
    """The same rows; ValueError where there are more of them than may be read."""
    for count, row in enumerate(rows, start=1):
        if count > bounds.rows:
            raise ValueError(f"{name} has more than {bounds.rows:,} rows, and no more can be read here. Use a part of "
                             "it.")
        yield row


def damaged(name: str, kind: str, problem: Exception) -> ValueError:
    """A file that its reader broke off at, in a sentence."""
    said = " ".join(str(problem).split())[:150]
    return ValueError(f"{name} can't be read as {kind} ({said or type(problem).__name__}). It is damaged, or something "
                      "else.")


def shown(text: Any, most: int = 40) -> str:
    """A value of the data inside a sentence: short, and on one line."""
    if not isinstance(text, str):
        return str(text) if isinstance(text, (int, float, bool)) or text is None else f"a {type(text).__name__}"
    line = " ".join(text.split())
    return repr(line if len(line) <= most else line[:most] + "…")
