"""Text of cells with whatever between them as rows: CSV, TSV, what Anki and Excel write."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.reading.encoding import Encoding, encoding_of
from training.reading.headers import are_names, as_row, column_names, names_a_shape, no_header, titled
from training.reading.rows import BadRow, Bounds, Part, Row

SAMPLE = 262_144
SAMPLED_RECORDS = 100
MOST_ABOVE = 5
_DELIMITERS = (",", ";", "\t", "|")
# What Anki writes above its notes: the separator first, then what its other columns are.
_ANKI = re.compile(r"#separator:(\w+|\S)[ ]*\r?\n(?:#[a-z ]+:[^\n]*\n)*")
_ANKI_DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "colon": ":", "space": " "}
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written; `skip` are lines before its header, if it `may_name` its columns in one. Where nothing
    `is_quoted`, a quote is a letter.
    """

    delimiter: str
    escape: str | None = None
    skip: int = 0
    is_quoted: bool = True
    may_name: bool = True

    def reader(self, lines: Iterator[str] | Sequence[str]) -> Any:
        """Python's reader of it."""
        return csv.reader(lines, delimiter=self.delimiter, quotechar='"', doublequote=self.escape is None,
                          escapechar=self.escape, skipinitialspace=self.delimiter != "\t", strict=False,
                          quoting=csv.QUOTE_MINIMAL if self.is_quoted else csv.QUOTE_NONE)


def csv_part(path: Path, name: str, bounds: Bounds, hint: str = "") -> Part:
    """The data rows of a CSV or TSV file; `hint` is the delimiter that its name promises."""
    encoding = encoding_of(path, name)
    with path.open(encoding=encoding.name, errors=encoding.errors, newline="") as file:
        start = file.read(SAMPLE).removeprefix("\ufeff")
        is_cut = bool(file.read(1))
    above = _lines_above(start, hint, is_cut)
    dialect = sniffed("\n".join(start.split("\n")[above:]), hint, is_cut)
    dialect = replace(dialect, skip=dialect.skip + above)
    place, size = [0], max(path.stat().st_size, 1)
    notes = [encoding.note] if encoding.note else []
    header, is_header = _header(dialect, start, bounds, name)
    titles = [line.strip(' \t\r",;|') for line in start.split("\n")[:above]]
    notes += [titled(name, title) for title in filter(None, titles)]
    if not is_header:
        notes.append(no_header(name))
    rows = _csv_rows(path, encoding, dialect, (header, is_header, bounds, place))
    return Part(name, rows, lambda: min(place[0] / size, 1.0), notes)


def is_table(path: Path, name: str) -> bool:
    """Whether a text file is a table of cells between tabs, as Excel and Anki write them."""
    encoding = encoding_of(path, name)
    with path.open(encoding=encoding.name, errors=encoding.errors, newline="") as file:
        start = file.read(SAMPLE).removeprefix("\ufeff")
        is_cut = bool(file.read(1))
    return _ANKI.match(start) is not None or _score(Dialect("\t"), start, is_cut)[0] == 1


def sniffed(sample: str, hint: str = "", is_cut: bool = False) -> Dialect:
    """The dialect in which most records of the sample have as many cells as its header, and more than one."""
    first = sample.split("\n", 1)[0].strip().strip('"')
    if first.lower().startswith("sep=") and len(first) == 5:
        return Dialect(first[4], skip=1)
    anki = _ANKI.match(sample)
    if anki:
        return Dialect(_ANKI_DELIMITERS.get(anki[1].lower(), anki[1]), skip=anki[0].count("\n"), may_name=False)
    # A backslash before a quote escapes it, or ends a cell such as a path: the records tell.
    escapes = ("\\", None) if '\\"' in sample and '""' not in sample.replace('\\""', "") else (None,)
    candidates = [*([hint] if hint else ()), *(one for one in _DELIMITERS if one != hint)]
    found = max((Dialect(one, escape) for one in candidates for escape in escapes),
                key=lambda dialect: (_score(dialect, sample, is_cut), dialect.delimiter == hint))
    plain = replace(found, is_quoted=False)
    is_plain = _quotes_nothing(found, sample) and _score(plain, sample, is_cut) >= _score(found, sample, is_cut)
    return plain if is_plain else found


def _quotes_nothing(dialect: Dialect, sample: str) -> bool:
    """Whether the quotes with which cells between tabs begin are letters, as in files that know no quoting: one ends
    where its cell doesn't, and few cells are whole in theirs.
    """
    if dialect.delimiter != "\t" or dialect.escape is not None:
        return False
    begun = [cell for line in sample.splitlines() for cell in line.split("\t") if cell.startswith('"')]
    try:
        for _ in csv.reader(io.StringIO(sample, newline=""), delimiter="\t", strict=True):
            pass
    except csv.Error as problem:
        return "expected after" in str(problem) and 2 * sum(map(bool, map(_QUOTED.fullmatch, begun))) < len(begun)
    return False


def _lines_above(sample: str, hint: str, is_cut: bool) -> int:
    """How many lines of a title, of one cell at most each, stand above a table's header."""
    lines = sample.split("\n")
    if _ANKI.match(sample) or sample.lstrip('"').lower().startswith("sep="):
        return 0
    for above in range(1, min(MOST_ABOVE, len(lines) - 2) + 1):
        if len(list(filter(None, re.split(r"[,;\t|]", lines[above - 1].strip().strip('"'))))) > 1:
            return 0
        rest = "\n".join(lines[above:])
        dialect = sniffed(rest, hint, is_cut)
        records = _records(dialect, rest)
        is_table = len(records) > 1 and len(records[0]) > 1 and dialect.skip == 0 and are_names(records[0])
        if is_table and (names_a_shape(records[0]) or (len(records) > 2 and _score(dialect, rest, is_cut)[0] == 1)):
            return above
    return 0


def _score(dialect: Dialect, sample: str, is_cut: bool) -> tuple[float, int]:
    records = _records(dialect, sample)
    if is_cut and len(records) > 1:
        records = records[:-1]
    if not records or len(records[0]) < 2:
        return 0.0, 0
    width = len(records[0])
    alike = sum(len(record) == width for record in records) / len(records)
    empty = sum(not cell.strip() for cell in records[0]) / width
    return round(alike - empty, 3), width


def _records(dialect: Dialect, sample: str) -> list[list[str]]:
    records = []
    try:
        for record in dialect.reader(io.StringIO(sample, newline="")):
            if record:
                records.append(record)
            if len(records) > SAMPLED_RECORDS:
                break
    except csv.Error:
        pass  # what was read up to here is told apart all the same
    return records


def _header(dialect: Dialect, sample: str, bounds: Bounds, name: str) -> tuple[list[str], bool]:
    lines = io.StringIO(sample, newline="")
    for _ in range(dialect.skip):
        lines.readline()
    records = _records(dialect, lines.read())
    first = records[0] if records else []
    if len(first) > bounds.columns:
        raise ValueError(f"{name} has {len(first):,} columns, and {bounds.columns:,} can be read.")
    cells = [cell.strip() for cell in first]
    is_header = dialect.may_name and are_names(cells)
    return column_names(cells if is_header else [""] * len(cells)), is_header


def _csv_rows(path: Path, encoding: Encoding, dialect: Dialect,
              how: tuple[list[str], bool, Bounds, list[int]]) -> Iterator[Row]:
    names, is_header, bounds, place = how
    with path.open("rb") as raw, io.TextIOWrapper(raw, encoding.name, encoding.errors, newline="") as file:
        for _ in range(dialect.skip):
            file.readline()
        # The module's own bound on a cell is one for the whole process; ours is looked at row by row.
        csv.field_size_limit(max(csv.field_size_limit(), bounds.cell * 4))
        lines: list[str] = []
        reader, number, waits_for_header = dialect.reader(_remembered(file, lines)), 0, is_header
        for cells in _until_broken(reader):
            if not cells:
                lines.clear()
                continue
            if waits_for_header:
                waits_for_header = False
                lines.clear()
                continue
            number += 1
            place[0] = raw.tell()
            row = BadRow(cells) if isinstance(cells, str) else as_row(names, cells, bounds)
            # Only the last record can end inside quotes: at the file's end.
            if len(lines) > 1 and dialect.escape is None and sum(line.count('"') for line in lines) % 2 == 1:
                row = BadRow(f"a quote that is never closed, over {len(lines):,} lines")
            lines.clear()
            yield number, row


def _remembered(file: Iterator[str], lines: list[str]) -> Iterator[str]:
    """The lines of a file; those of the record that is being read are kept in `lines`."""
    for line in file:
        lines.append(line)
        yield line


def _until_broken(reader: Any) -> Iterator[list[str] | str]:
    """The records; where one can't be read, why, as the last."""
    try:
        yield from reader
    except csv.Error as problem:
        yield f"not CSV from here on: {problem}"
