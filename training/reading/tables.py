"""Tables as rows: CSV and TSV with whatever delimiter, Parquet, xlsx."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.reading.encoding import Encoding, encoding_of
from training.reading.rows import BadRow, Bounds, NoRows, Part, Row, damaged, shown

SAMPLE = 262_144
SAMPLED_RECORDS = 100
MOST_ABOVE = 5
MOST_BYTES = 10_000  # of a cell, on average: more are pictures
# What a value of Parquet takes as one of Python's, besides its text.
BYTES_EACH = 32
_DELIMITERS = (",", ";", "\t", "|")
# What Anki writes above its notes: the separator first, then what its other columns are.
_ANKI = re.compile(r"#separator:(\w+|\S)[ ]*\r?\n(?:#[a-z ]+:[^\n]*\n)*")
_ANKI_DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "colon": ":", "space": " "}
_SURROGATES = tuple(chr(code) for code in (0xDC80, 0xDCFF))
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
    notes += [_titled(name, title) for title in filter(None, titles)]
    if not is_header:
        notes.append(_no_header(name))
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
        is_table = len(records) > 1 and len(records[0]) > 1 and dialect.skip == 0 and _are_names(records[0])
        if is_table and (_names_a_shape(records[0]) or (len(records) > 2 and _score(dialect, rest, is_cut)[0] == 1)):
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
    is_header = dialect.may_name and _are_names(cells)
    return column_names(cells if is_header else [""] * len(cells)), is_header


def _are_names(cells: Sequence[str]) -> bool:
    """Whether a table's first row names its columns."""
    named = [cell for cell in cells if cell]
    are_names = bool(named) and not any(map(_is_no_name, named))
    return are_names and (len(set(named)) == len(named) or _names_a_shape(cells))


def _titled(name: str, title: str) -> str:
    return f"{name} has a title above its header, {shown(title)}, which was left out."


def _no_header(name: str) -> str:
    return f"{name} seems to have no header: its first row was read as data, and its columns are numbered."


def _names_a_shape(cells: Sequence[str]) -> bool:
    """Whether these are the names of columns that are known for what they hold, whatever else there is twice."""
    from training.shapes import shape_of

    try:
        return bool(shape_of(dict.fromkeys(column_names(cells), "x")))
    except ValueError:
        return False


def _is_no_name(cell: str) -> bool:
    """Whether it reads like a value rather than a column's name."""
    number = cell.replace(".", "", 1).replace("-", "", 1).isdigit()
    return number or len(cell) > 60 or cell[-1] in "?.!" or "\n" in cell or cell.startswith(("<|", "[{", "{"))


def column_names(cells: Sequence[str]) -> list[str]:
    """The header's names, with numbers where there are none or two alike."""
    names: list[str] = []
    for place, cell in enumerate(cells, start=1):
        name = cell or f"column {place}"
        names.append(name if name not in names else f"{name} ({place})")
    return names


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
            row = BadRow(cells) if isinstance(cells, str) else _as_row(names, cells, bounds)
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


def _as_row(names: list[str], cells: Sequence[Any], bounds: Bounds) -> Any:
    if len(cells) > len(names) and any(cell not in (None, "") for cell in cells[len(names):]):
        return BadRow(f"{len(cells)} cells, and the header has {len(names)}")
    for cell in cells:
        if isinstance(cell, str):
            if len(cell) > bounds.cell:
                return BadRow(f"a cell of more than {bounds.cell:,} characters")
            if not cell.isascii() and any("\udc80" <= letter <= "\udcff" for letter in cell):
                return BadRow("not UTF-8 text")
    return dict(zip(names, [*cells, *[None] * (len(names) - len(cells))], strict=False))


# ---- Parquet --------------------------------------------------------------------------------------------------------


def parquet_part(path: Path, name: str, bounds: Bounds) -> Part:
    """The rows of a Parquet file, a few hundred in memory at a time."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        about = parquet.read_metadata(path)
        groups = [about.row_group(place) for place in range(about.num_row_groups)]
        columns = [group.column(place) for group in groups for place in range(group.num_columns)]
        texts = {one.path_in_schema for one in columns if one.physical_type == "BYTE_ARRAY"}
        # A text that is there a million times stands in the file once: read so, it takes no more memory than that.
        file = parquet.ParquetFile(path, metadata=about, page_checksum_verification=True, read_dictionary=[*texts])
        unpacked = max(sum(group.total_byte_size for group in groups), 8 * sum(one.num_values for one in columns))
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError, OverflowError) as problem:
        raise damaged(name, "Parquet", problem) from None
    if about.num_columns > bounds.columns * 4 or about.num_rows > bounds.rows or unpacked > bounds.unpacked_bytes:
        raise ValueError(f"{name} has {about.num_rows:,} rows in {about.num_columns:,} columns, {unpacked:,} bytes in "
                         "all, and that is more than can be read here. Use a part of it.")
    place, total = [0], max(about.num_rows, 1)
    return Part(name, _parquet_rows(file, name, place, bounds), lambda: place[0] / total)


def _parquet_rows(file: Any, name: str, place: list[int], bounds: Bounds) -> Iterator[Row]:
    import pyarrow

    try:
        binary = [field.name for field in file.schema_arrow if _is_binary(_plain(field.type))]
        written = [column for column in binary if _is_text(file, column)]
        kept = [field.name for field in file.schema_arrow if field.name in written or field.name not in binary]
        for batch in file.iter_batches(batch_size=512, columns=kept):
            if sum(map(_bytes_as_read, batch.columns)) > bounds.cell * 64:
                raise ValueError(f"{name} holds rows that are too long to be read here.")
            whole = pyarrow.schema([field.with_type(_plain(field.type)) for field in batch.schema])
            batch = batch.cast(whole)
            for column in written:
                batch = batch.set_column(batch.schema.names.index(column), column, batch[column].cast("string"))
            for row in batch.to_pylist():
                place[0] += 1
                yield place[0], row
    except (pyarrow.ArrowException, OSError, MemoryError, UnicodeDecodeError, OverflowError, KeyError) as problem:
        raise damaged(name, "Parquet", problem) from None
    finally:
        file.close()


def _bytes_as_read(array: Any) -> int:
    """How much these values take, each by itself: of one that many rows share, Arrow keeps but its number."""
    import pyarrow.compute as compute
    import pyarrow.types as types

    kind = array.type
    if types.is_struct(kind):
        return sum(map(_bytes_as_read, array.flatten()))
    if types.is_map(kind):
        return _bytes_as_read(array.keys) + _bytes_as_read(array.items)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _bytes_as_read(array.flatten())
    if types.is_dictionary(kind) and not types.is_primitive(kind.value_type):
        lengths = compute.binary_length(array.dictionary).take(array.indices)
        return len(array) * BYTES_EACH + (compute.sum(lengths).as_py() or 0)
    return len(array) * BYTES_EACH + array.nbytes


def _plain(kind: Any) -> Any:
    """The type of the same values where each is written out."""
    import pyarrow
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return kind.value_type
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_plain(field.type)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind):
        made = pyarrow.list_ if types.is_list(kind) else pyarrow.large_list
        return made(kind.value_field.with_type(_plain(kind.value_type)))
    return kind


def _is_binary(kind: Any) -> bool:
    """Bytes are mostly pictures and their like, which are not even read."""
    import pyarrow.types as types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _is_text(file: Any, column: str) -> bool:
    """Whether bytes are text all the same, as older programs write it: by the first of them that are any. Those that
    are as large as pictures aren't looked at.
    """
    groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
    chunks = [group.column(place) for group in groups for place in range(group.num_columns)
              if group.column(place).path_in_schema == column]
    if sum(chunk.total_uncompressed_size for chunk in chunks) > MOST_BYTES * sum(chunk.num_values for chunk in chunks):
        return False
    found = (value for batch in itertools.islice(file.iter_batches(batch_size=8, columns=[column]), 8)
             for value in batch[column].to_pylist() if value)
    try:
        first = next(found, b"")
        return bool(first) and b"\0" not in first and bool(first.decode("utf-8"))
    except UnicodeDecodeError:
        return False


# ---- xlsx -----------------------------------------------------------------------------------------------------------

# What openpyxl lets through of a workbook that is damaged inside.
_XLSX_ERRORS = (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, SyntaxError, OverflowError,
                RecursionError, MemoryError, RuntimeError, AssertionError)


def xlsx_parts(path: Path, name: str, bounds: Bounds) -> list[Part]:
    """The sheets of one table: the first that holds rows, by its columns' names if they are known, and those with the
    same columns. The first row names the columns, titles above it aside. Values, not formulas.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
        starts = {sheet.title: _start(sheet, bounds) for sheet in book.worksheets}
    except (*_XLSX_ERRORS, InvalidFileException) as problem:
        raise damaged(name, "xlsx", problem) from None
    starts = {title: start for title, start in starts.items() if start}
    if not starts:
        book.close()
        raise NoRows(name, "empty", ": no sheet holds anything.")
    # A sheet of notes before the table has a line or two, and no rows below a header.
    first = next((one for one in starts if len(starts[one]) > 1 and _names_a_shape(_head(starts[one]))),
                 next((one for one in starts if len(starts[one]) > 1), next(iter(starts))))
    is_header = len(starts[first]) == 1 or _are_names(_head(starts[first]))
    read = [one for one in starts if one == first or (is_header and _head(starts[one]) == _head(starts[first]))]
    book_of, parts = _Book(book, len(read)), []
    for title in read:
        titles = _titles(starts[title])
        about = [_titled(name, titles[0])] if titles else []
        rows = _xlsx_rows(book_of, title, name, (bounds, len(titles), is_header))
        parts.append(Part(name if len(read) == 1 else f"{name}, {title}", rows, notes=about))
    parts[0].notes[:0] = _about_sheets(name, read, [one for one in starts if one not in read])
    parts[0].notes += [] if is_header else [_no_header(name)]
    return parts


@dataclass
class _Book:
    """A workbook, and how many of its sheets are still to be read before it is closed."""

    book: Any
    left: int

    def close(self) -> None:
        self.left -= 1
        if not self.left:
            self.book.close()


def _about_sheets(name: str, read: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    if not others:
        return
    unread = ", ".join(map(repr, others[:5]))
    if len(read) == 1:
        yield f"Only the sheet {read[0]!r} of {name} was read, not {unread}."
    else:
        yield f"Of {name} the sheets {', '.join(map(repr, read[:-1]))} and {read[-1]!r} were read, not {unread}."


def _head(start: Sequence[list[str]]) -> list[str]:
    """The row that names the columns, if one does."""
    return start[len(_titles(start))]


def _start(sheet: Any, bounds: Bounds) -> list[list[str]]:
    """The first rows that hold anything."""
    # What a sheet says of its own size may be wrong either way.
    sheet.reset_dimensions()
    rows = map(_written, sheet.iter_rows(max_row=50, max_col=bounds.columns, values_only=True))
    return list(itertools.islice(filter(None, rows), 4))


def _written(cells: Sequence[Any]) -> list[str]:
    """A row's cells up to the last that holds anything: openpyxl fills rows up to the widest that was asked for."""
    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    return texts[:max((place for place, text in enumerate(texts, 1) if text), default=0)]


def _titles(start: Sequence[Sequence[str]]) -> list[str]:
    """Lines of one cell above a row that reads like a header of several."""
    above = list(itertools.takewhile(lambda row: len(row) == 1, start))
    below = start[len(above)] if len(above) < len(start) else []
    is_header = len(below) > 1 and all(below) and len(set(below)) == len(below) and not any(map(_is_no_name, below))
    return [row[0] for row in above] if is_header else []


def _xlsx_rows(book: _Book, title: str, name: str, how: tuple[Bounds, int, bool]) -> Iterator[Row]:
    bounds, titles, is_header = how
    sheet = book.book[title]
    try:
        names: list[str] = []
        number, empty = 0, Counter[str]()
        for cells in sheet.iter_rows(max_col=bounds.columns, values_only=True):
            written = _written(cells)
            is_empty = not written
            if not names:
                if not is_empty and titles:
                    titles -= 1
                elif not is_empty:
                    names = column_names(written if is_header else [""] * len(written))
                if is_header or not names:
                    continue
            number += 1
            if is_empty:
                empty["waiting"] += 1
                if number > bounds.rows:
                    return
                continue
            # Empty rows at a sheet's end are none; those in between are.
            yield from ((number - left, {}) for left in range(empty.pop("waiting", 0), 0, -1))
            yield number, _as_row(names, cells[:len(written)], bounds)
    except _XLSX_ERRORS as problem:
        raise damaged(name, "xlsx", problem) from None
    finally:
        book.close()
