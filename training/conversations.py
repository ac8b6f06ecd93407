"""Conversations as they lie on the disk, in Arrow, and are read back one by one: many take no more memory than few."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from phi3.template import Message, is_learned

if TYPE_CHECKING:
    import numpy
    import pyarrow

BATCH = 1000


@dataclass(frozen=True)
class Conversation:
    """Turns that end with the assistant's; `row` counts from 1 as a person would count in the file."""

    row: int
    messages: tuple[Message, ...]


class Conversations(Sequence[Conversation]):
    """Some conversations of a table on the disk, in the order of `places`; a slice or a choice shares the table."""

    def __init__(self, table: pyarrow.Table, places: numpy.ndarray) -> None:
        self._table, self.places = table, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Conversation: ...
    @overload
    def __getitem__(self, place: slice) -> Conversations: ...

    def __getitem__(self, place: int | slice) -> Conversation | Conversations:
        if isinstance(place, slice):
            return Conversations(self._table, self.places[place])
        return next(iter(_read(self._table.slice(int(self.places[place]), 1))))

    def __iter__(self) -> Iterator[Conversation]:
        for start in range(0, len(self), BATCH):
            some = self.places[start:start + BATCH]
            is_run = len(some) == some[-1] - some[0] + 1 and (some[1:] > some[:-1]).all()
            yield from _read(self._table.slice(int(some[0]), len(some)) if is_run else self._table.take(some))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None

    def chosen(self, places: Sequence[int] | numpy.ndarray) -> Conversations:
        """Those at these places of this sequence."""
        import numpy

        return Conversations(self._table, self.places[numpy.asarray(places, dtype=numpy.int64)])

    def column(self, name: str) -> list[Any]:
        """One of the columns that say something of each: row, part, roles."""
        return self._table.column(name).take(self.places).to_pylist()

    def keys(self, name: str) -> numpy.ndarray:
        """16 bytes of each: `digest`, or `asked`, the digest of what its last answer answers, whatever the case and the
        spaces.
        """
        return _as_keys(self._table.column(name).take(self.places))

    def begins(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(digests, owners): of each beginning that ends with an answer, and in which place of this sequence the
        conversation is whose beginning it is.
        """
        import numpy

        column = self._table.column("begins").take(self.places).combine_chunks()
        return _as_keys(column.flatten()), numpy.repeat(numpy.arange(len(column)), column.value_lengths().to_numpy())

    def places_of(self, row: int) -> list[int]:
        """Where the conversations of this row stand: one for each file that has it."""
        import numpy

        return numpy.flatnonzero(self._table.column("row").to_numpy()[self.places] == row).tolist()


class Writer:
    """Takes conversations one by one, and gives them back as a sequence; the file has no name and leaves no trace."""

    def __init__(self) -> None:
        import pyarrow

        texts = pyarrow.list_(pyarrow.string())
        self._schema = pyarrow.schema([("row", pyarrow.int64()), ("part", pyarrow.int32()), ("roles", texts),
                                       ("contents", texts), ("unlearned", pyarrow.list_(pyarrow.int32())),
                                       ("digest", pyarrow.binary(16)), ("asked", pyarrow.binary(16)),
                                       ("begins", pyarrow.list_(pyarrow.binary(16)))])
        self._file = tempfile.TemporaryFile(prefix="conversations-")  # noqa: SIM115 (lives as long as its map)
        self._out = pyarrow.ipc.new_file(pyarrow.PythonFile(self._file, "w"), self._schema)
        self._waiting: list[list[Any]] = [[] for _ in self._schema]
        self._characters = self.count = self.characters = 0

    def add(self, row: int, part: int, messages: Sequence[Message]) -> None:
        """One more conversation, the row of a file (`part` counts the files)."""
        roles, contents = [turn["role"] for turn in messages], [turn["content"] for turn in messages]
        signs = _digests(messages)
        begins = [signs[place] for place in range(2, len(messages)) if roles[place] == "user"]
        values = (row, part, roles, contents, unlearned(messages), signs[-1], _asked(messages), begins)
        for column, value in zip(self._waiting, values, strict=True):
            column.append(value)
        self.count += 1
        length = sum(map(len, contents))
        self._characters += length
        self.characters += length
        if len(self._waiting[0]) >= BATCH or self._characters > 16_000_000:
            self._write()

    def finished(self) -> Conversations:
        """All of them, in the order in which they came."""
        import numpy
        import pyarrow

        self._write()
        self._out.close()
        self._file.flush()
        mapped = pyarrow.py_buffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        self._file.close()
        table = pyarrow.ipc.open_file(pyarrow.BufferReader(mapped)).read_all()
        return Conversations(table, numpy.arange(self.count))

    def _write(self) -> None:
        import pyarrow

        if self._waiting[0]:
            self._out.write_batch(pyarrow.record_batch(
                [pyarrow.array(values, field.type) for values, field in zip(self._waiting, self._schema, strict=True)],
                schema=self._schema))
        for column in self._waiting:
            column.clear()
        self._characters = 0


def gathered(some: Iterable[Conversation]) -> Conversations:
    """Conversations that are at hand, as a sequence on the disk."""
    writer = Writer()
    for one in some:
        writer.add(one.row, 0, one.messages)
    return writer.finished()


def digest(messages: Sequence[Message]) -> bytes:
    """16 bytes that are the same for equal conversations, and for no others."""
    return _digests(messages)[-1]


def _digests(messages: Sequence[Message]) -> list[bytes]:
    """The digest of each beginning, from the empty one to the whole: each turn is gone through once."""
    so_far, spared = hashlib.blake2b(digest_size=16), set(unlearned(messages))
    signs = [so_far.digest()]
    for place, turn in enumerate(messages):
        told = f"\x1e{turn['role']}\x1f{len(turn['content'])}\x1f{turn['content']}{place in spared:d}"
        so_far.update(told.encode("utf-8", "surrogatepass"))
        signs.append(so_far.digest())
    return signs


def firsts(keys: numpy.ndarray) -> numpy.ndarray:
    """For each key the place of the first that is equal."""
    import numpy

    _, first, which = numpy.unique(keys, return_index=True, return_inverse=True)
    return first[which]


def groups_of(conversations: Conversations) -> numpy.ndarray:
    """For each conversation the place of the first of its group. Those of a group leak into each other if they are
    divided: they are the same, ask the same, or one is the other's beginning.
    """
    import numpy

    wholes, (begins, owners) = conversations.keys("digest"), conversations.begins()
    leads = firsts(conversations.keys("asked"))
    same = firsts(numpy.concatenate([wholes, begins]))[len(wholes):]
    joined = same < len(wholes)
    if not joined.any():
        return leads

    def lead(place: int) -> int:
        while leads[place] != place:
            leads[place] = place = leads[leads[place]]
        return place

    for one, other in zip(owners[joined].tolist(), same[joined].tolist(), strict=True):
        first, second = sorted((lead(one), lead(other)))
        leads[second] = first
    return numpy.array([lead(place) for place in range(len(leads))])


def _asked(messages: Sequence[Message]) -> bytes:
    return digest([{"role": turn["role"], "content": " ".join(turn["content"].casefold().split())}
                   for turn in messages[:-1]])


def unlearned(messages: Sequence[Message]) -> list[int]:
    """The places of answers that are read and never learned."""
    return [place for place, turn in enumerate(messages) if turn["role"] == "assistant" and not is_learned(turn)]


def _as_keys(column: pyarrow.ChunkedArray | pyarrow.Array) -> numpy.ndarray:
    """Of a column of 16 bytes each."""
    import numpy
    import pyarrow

    column = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    return numpy.frombuffer(column.buffers()[1] or b"", dtype="V16")[column.offset:column.offset + len(column)]


def _read(table: pyarrow.Table) -> Iterator[Conversation]:
    names = ("row", "roles", "contents", "unlearned")
    for row, who, said, places in zip(*(table.column(name).to_pylist() for name in names), strict=True):
        messages: list[Message] = [{"role": role, "content": text} for role, text in zip(who, said, strict=True)]
        for place in places:
            messages[place]["train"] = False
        yield Conversation(row, tuple(messages))


def _same(one: Conversation, other: object) -> bool:
    return one == other
