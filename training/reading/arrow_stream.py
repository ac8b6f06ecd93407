"""Arrow's streams as rows, as `datasets` writes them into the folders of `save_to_disk`; from anybody, so with care."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training.reading.rows import Bounds, Part, Row, damaged

if TYPE_CHECKING:
    import pyarrow

BEGINS = b"\xff\xff\xff\xff"
ROWS_AT_ONCE = 512
# Fields of Arrow's tables, by their numbers in format/Message.fbs.
_HEADER, _COMPRESSION = 2, 3


def arrow_part(path: Path, name: str, bounds: Bounds) -> Part:
    """The rows of a stream, a few hundred in memory at a time. What is compressed is refused, since a few bytes could
    stand for more than there is memory; what isn't lies on the disk as it is read.
    """
    import pyarrow

    try:
        schema, batches = _looked_through(path)
    except (pyarrow.ArrowException, OSError, MemoryError, struct.error, IndexError) as problem:
        raise damaged(name, "Arrow", problem) from None
    if len(schema.names) > bounds.columns:
        raise ValueError(f"{name} has {len(schema.names):,} columns, and {bounds.columns:,} can be read. Use a part of "
                         "it.")
    if batches is None:
        raise ValueError(f"{name} is an Arrow file that is compressed or holds categories, which can't be read here. "
                         "Save the conversations as Parquet.")
    place = [0]
    return Part(name, _rows(path, name, place), lambda: place[0] / max(batches, 1))


def _looked_through(path: Path) -> tuple[pyarrow.Schema, int | None]:
    """The columns, and how many batches of rows there are; None where one of them can't be read as it lies there."""
    import pyarrow

    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as reader:
        schema = reader.schema
    batches = 0
    with pyarrow.memory_map(str(path)) as source:
        for message in pyarrow.ipc.MessageReader.open_stream(source):
            if message.type == "schema":
                continue
            if message.type != "record batch" or _is_compressed(message.metadata.to_pybytes()):
                return schema, None
            batches += 1
    return schema, batches


def _rows(path: Path, name: str, place: list[int]) -> Iterator[Row]:
    import pyarrow

    count = 0
    try:
        with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as reader:
            kept = [column for column, field in enumerate(reader.schema) if _is_read(field.type)]
            for batch in reader:
                batch.validate(full=True)
                batch = batch.select(kept)
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    for row in batch.slice(start, ROWS_AT_ONCE).to_pylist():
                        count += 1
                        yield count, row
                place[0] += 1
    except (pyarrow.ArrowException, OSError, MemoryError, UnicodeDecodeError, OverflowError) as problem:
        raise damaged(name, "Arrow", problem) from None


def _is_read(kind: pyarrow.DataType, in_list: bool = False) -> bool:
    """Whether a column of this type is read: bytes are no text, and of some types a few bytes stand for any number of
    values.
    """
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return _is_read(kind.value_type, in_list=True)
    if types.is_struct(kind):
        return bool(kind.num_fields) and all(_is_read(field.type, in_list) for field in kind)
    if types.is_null(kind):
        return not in_list
    return types.is_string(kind) or types.is_large_string(kind) or types.is_primitive(kind)


def _is_compressed(message: bytes) -> bool:
    """Whether a message's batch of rows is: pyarrow doesn't tell before it has unpacked it."""
    table = struct.unpack_from("<I", message, 0)[0]
    header = _field(message, table, _HEADER)
    batch = header + struct.unpack_from("<I", message, header)[0]
    return bool(_field(message, batch, _COMPRESSION))


def _field(message: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table lies; 0 where it has none."""
    fields = table - struct.unpack_from("<i", message, table)[0]
    size = struct.unpack_from("<H", message, fields)[0]
    at = 4 + 2 * number
    offset = struct.unpack_from("<H", message, fields + at)[0] if at < size else 0
    return table + offset if offset else 0
