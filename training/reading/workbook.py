"""Excel's workbooks as rows: the sheets of one table, found among others."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.reading.headers import are_names, as_row, column_names, is_no_name, names_a_shape, no_header, titled
from training.reading.rows import Bounds, NoRows, Part, Row, damaged

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
    first = next((one for one in starts if len(starts[one]) > 1 and names_a_shape(_head(starts[one]))),
                 next((one for one in starts if len(starts[one]) > 1), next(iter(starts))))
    is_header = len(starts[first]) == 1 or are_names(_head(starts[first]))
    read = [one for one in starts if one == first or (is_header and _head(starts[one]) == _head(starts[first]))]
    book_of, parts = _Book(book, len(read)), []
    for title in read:
        titles = _titles(starts[title])
        about = [titled(name, titles[0])] if titles else []
        rows = _xlsx_rows(book_of, title, name, (bounds, len(titles), is_header))
        parts.append(Part(name if len(read) == 1 else f"{name}, {title}", rows, notes=about))
    parts[0].notes[:0] = _about_sheets(name, read, [one for one in starts if one not in read])
    parts[0].notes += [] if is_header else [no_header(name)]
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
    is_header = len(below) > 1 and all(below) and len(set(below)) == len(below) and not any(map(is_no_name, below))
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
            yield number, as_row(names, cells[:len(written)], bounds)
    except _XLSX_ERRORS as problem:
        raise damaged(name, "xlsx", problem) from None
    finally:
        book.close()
