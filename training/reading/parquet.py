"""Parquet files as rows: a few hundred at a time, bounded by what they come to, and pictures left unread."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.reading.rows import Bounds, Part, Row, damaged

MOST_BYTES = 10_000  # of a cell, on average: more are pictures
# What a value takes as one of Python's, besides its text.
BYTES_EACH = 32


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
