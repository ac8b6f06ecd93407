"""The first rows of a table: whether they name its columns or stand above those names; and the rows under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.reading.rows import BadRow, Bounds, shown


def are_names(cells: Sequence[str]) -> bool:
    """Whether a table's first row names its columns."""
    named = [cell for cell in cells if cell]
    is_each_name = bool(named) and not any(map(is_no_name, named))
    return is_each_name and (len(set(named)) == len(named) or names_a_shape(cells))


def names_a_shape(cells: Sequence[str]) -> bool:
    """Whether these are the names of columns that are known for what they hold, whatever else there is twice."""
    from training.shapes import shape_of

    try:
        return bool(shape_of(dict.fromkeys(column_names(cells), "x")))
    except ValueError:
        return False


def is_no_name(cell: str) -> bool:
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


def titled(name: str, title: str) -> str:
    """What is told of a title."""
    return f"{name} has a title above its header, {shown(title)}, which was left out."


def no_header(name: str) -> str:
    """What is told of a table whose columns are named nowhere."""
    return f"{name} seems to have no header: its first row was read as data, and its columns are numbered."


def as_row(names: list[str], cells: Sequence[Any], bounds: Bounds) -> Any:
    """The cells by their columns' names; a BadRow where they are more, too long or not whole."""
    if len(cells) > len(names) and any(cell not in (None, "") for cell in cells[len(names):]):
        return BadRow(f"{len(cells)} cells, and the header has {len(names)}")
    for cell in cells:
        if isinstance(cell, str):
            if len(cell) > bounds.cell:
                return BadRow(f"a cell of more than {bounds.cell:,} characters")
            if not cell.isascii() and any("\udc80" <= letter <= "\udcff" for letter in cell):
                return BadRow("not UTF-8 text")
    return dict(zip(names, [*cells, *[None] * (len(names) - len(cells))], strict=False))
