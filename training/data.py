"""Chat data: read it from wherever it lies, say which rows were no conversations and why, and split it."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from phi3.machine import MEBIBYTE, path_of
from training.chat_text import looks_like_chat
from training.columns import Columns, guess_columns
from training.config import count_held_out
from training.conversations import Conversation as Conversation
from training.conversations import Conversations, Writer, firsts, groups_of
from training.hub_data import HubRows
from training.message_rows import put_together
from training.reading.containers import files_in, opened
from training.reading.json_rows import begins_json
from training.reading.repository import described
from training.reading.rows import Bounds, Part
from training.report import DataReport as DataReport
from training.report import as_the_model_sees as as_the_model_sees
from training.report import lengths_of as lengths_of
from training.report import make_report as make_report
from training.shapes import COLUMNS_WE_KNOW, as_chat

if TYPE_CHECKING:
    import numpy

EXAMPLES_FOLDER = Path(__file__).parent / "examples"
# The kinds of data that corrected answers (training/corrections.py) and a description (training/describe.py) make.
LESSON, DESCRIBED = "lesson", "described"
LISTED_DROPS = 1000
ROWS_LOOKED_AT = 50
ROWS_BETWEEN_SHARES = 500
MOST_SHOWN_COLUMNS = 12
MOST_NOTES = 10
LONGEST_NAME = 255

Result = TypeVar("Result")


@dataclass(frozen=True)
class DroppedRow:
    """A row that can't be trained on, and why; `file` only where there are several."""

    row: int
    reason: str
    file: str = ""


@dataclass(frozen=True)
class ChatData:
    """What a source holds: conversations, and the rows that are none. `kind` is example, file, paste, hub, described
    or lesson.

    `own_held` are the places of those conversations that the dataset itself holds out; `files` the names of its files
    where there are several; `notes` what a person should know of how it was read.
    """

    name: str
    kind: str
    format: str
    conversations: Conversations
    dropped: tuple[DroppedRow, ...]
    own_held: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows_read(self) -> int:
        """Rows seen, kept or not."""
        return len(self.conversations) + len(self.dropped)


class UnknownColumns(ValueError):
    """No shape fits, but two columns of the table could be question and answer; `guess` is the likeliest pair."""

    def __init__(self, sentence: str, columns: Sequence[str], guess: Columns) -> None:
        super().__init__(sentence)
        self.columns, self.guess = tuple(columns), guess


@dataclass(frozen=True)
class Source:
    """Where rows come from, and what a person said of them: which columns, and whether repeated rows go; `splits` are
    those of the paths where the folder they are in says so, and `notes` what is to be told of it.
    """

    name: str
    kind: str
    paths: tuple[Path, ...] = ()
    text: str = ""
    hub: HubRows | None = None
    columns: Columns | None = None
    without_repeats: bool = False
    bounds: Bounds = field(default_factory=Bounds)
    splits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @contextmanager
    def opened(self) -> Iterator[list[Part]]:
        """Its tables, to be read once."""
        with ExitStack() as stack:
            paths = self.paths
            if self.kind == "paste":
                paths = (_written(self, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paste-")))),)
            yield stack.enter_context(self.hub.opened(self.bounds) if self.hub
                                      else opened(paths, self.bounds, self.splits))


def example_names() -> list[str]:
    """Datasets that ship with the app."""
    return sorted(path.stem for path in EXAMPLES_FOLDER.glob("*.jsonl"))


def source_of(what: str | Path | Sequence[str | Path], **more: Any) -> Source:
    """An example by its name, a file, several, or a folder of them; ValueError where there is none.

    `more` are fields of `Source`.
    """
    if isinstance(what, (str, Path)) and str(what) in example_names():
        return Source(str(what), "example", (EXAMPLES_FOLDER / f"{what}.jsonl",), **more)
    named = [what] if isinstance(what, (str, Path)) else list(what)
    paths: list[Path] = []
    splits: list[str] = []
    notes: list[str] = []
    for one in named:
        path = path_of(one)
        if len(path.name) > LONGEST_NAME:
            raise ValueError(f"There is no file of so long a name ({len(path.name)} characters).")
        if path.is_dir():
            about = described(path)
            files, others = (about.files, "") if about.files else files_in(path, more.get("bounds", Bounds()))
            paths += files
            splits += about.splits or [""] * len(files)
            notes += filter(None, [about.note, others])
        elif path.is_file():
            paths.append(path)
            splits.append("")
        else:
            examples = example_names()
            raise ValueError(f"{one} is an example, which is read alone. Leave out the rest, or leave it out."
                             if str(one) in examples else
                             f"There is no file {one}. Examples that ship with the app: {', '.join(examples)}.")
    if not paths:
        raise ValueError("No file was named.")
    name = path_of(named[0]).resolve().name
    return Source(name if len(named) == 1 else f"{name} and {len(named) - 1} more", "file", tuple(paths),
                  splits=tuple(splits), notes=tuple(notes), **more)


def read_data(what: str | Path | Sequence[str | Path], **more: Any) -> ChatData:
    """Read an example by its name, a file, several, or a folder; ValueError says what was seen and what to do.

    `more` are fields of `Source`: columns, without_repeats, bounds.
    """
    return last(read_steps(source_of(what, **more)))


def read_text(text: str, name: str = "pasted text", **more: Any) -> ChatData:
    """Read pasted JSONL, JSON, a pasted table, or text in ChatML; ValueError as `read_data`."""
    return last(read_steps(Source(name, "paste", text=text, **more)))


def read_steps(source: Source) -> Iterator[float | ChatData]:
    """Read a source; yields the share that is read, from 0 to 1, and at last the data. ValueError as `read_data`."""
    reader = _Reader(source)
    with _named(source), source.opened() as parts:
        chosen = _with_own_split(parts, reader)
        for place, part in enumerate(chosen):
            for share in reader.read(part, place, len(chosen) > 1):
                yield (place + share) / len(chosen)
    yield reader.data([part.name for part in chosen])


def last(steps: Iterable[float | Result]) -> Result:
    """What steps come to."""
    *_, result = steps
    return result


def split(data: ChatData, held_out: float, seed: int, keeps_apart: bool = True) -> tuple[Conversations, Conversations]:
    """(train, held out): seeded, and conversations that ask the same or begin each other on one side only. Where that
    can't be, or `keeps_apart` is off, equal ones are.

    A dataset's own validation rows are the ones held out, less those that are trained on as well. Where nothing
    would be left to train on, nothing is held out.
    """
    import numpy

    count, digests = len(data.conversations), data.conversations.keys("digest")
    if data.own_held and held_out:
        own = numpy.isin(numpy.arange(count), data.own_held)
        held = own & ~numpy.isin(digests, digests[~own])
        return data.conversations.chosen(numpy.flatnonzero(~own)), data.conversations.chosen(numpy.flatnonzero(held))
    wanted, alike = count_held_out(count, held_out), firsts(digests)
    order = numpy.unique(alike).tolist()
    random.Random(seed).shuffle(order)
    apart = groups_of(data.conversations) if keeps_apart and wanted else alike
    held = _drawn(order, apart, wanted)
    if not held.any():
        held = _drawn(order, alike, wanted)
    return data.conversations.chosen(numpy.flatnonzero(~held)), data.conversations.chosen(numpy.flatnonzero(held))


def _drawn(order: Sequence[int], groups: numpy.ndarray, wanted: int) -> numpy.ndarray:
    """Which are held out: whole groups, so many conversations together at most, those first that are first in order."""
    import numpy

    sizes = numpy.bincount(groups).tolist()
    first_of, drawn, left = groups.tolist(), set(), wanted
    for place in order:
        group = first_of[place]
        if group not in drawn and sizes[group] <= left:
            drawn.add(group)
            left -= sizes[group]
    return numpy.isin(groups, list(drawn))


class _Reader:
    """Takes the rows of all parts, and sorts them into conversations and dropped rows."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.writer = Writer()
        self.dropped: list[tuple[int, DroppedRow]] = []
        self.notes: list[str] = list(source.notes)
        self.held: list[int] = []
        self.shapes: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.columns: Counter[str] = Counter()
        self.strange: list[Mapping[str, Any]] = []

    def read(self, part: Part, place: int, of_several: bool) -> Iterator[float]:
        """Read one part, perhaps `of_several`, to its end; yields the share of it that is read."""
        rows = put_together(part, of_several) if self.source.columns is None else part.rows
        for count, (number, row) in enumerate(rows):
            if count % ROWS_BETWEEN_SHARES == 0:
                yield part.share()
            try:
                chat = as_chat(row, self.source.columns)
            except (ValueError, RecursionError) as problem:
                why = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
                self._drop(row, DroppedRow(number, why, part.name), place)
                continue
            self.shapes[chat.format] += 1
            self.changes.update(chat.changes)
            if part.split == "validation":
                self.held.append(self.writer.count)
            self.writer.add(number, place, chat.messages)
            if self.writer.characters > self.source.bounds.unpacked_bytes:
                raise ValueError(f"{part.name} comes to more than {self.source.bounds.unpacked_bytes // MEBIBYTE:,} MB "
                                 "of text, and no more can be read here. Use a part of it.")
        self.notes += part.notes

    def data(self, names: list[str]) -> ChatData:
        """What was read; ValueError where nothing of it can be trained on."""
        if not self.writer.count:
            raise self._nothing_usable()
        several = len(names) > 1
        conversations, held, dropped = self.writer.finished(), self.held, self.dropped
        if len(held) == self.writer.count:
            held = []
            self.notes.insert(0, "No row for training can be used: the dataset's own validation rows are divided "
                                 "instead.")
        if self.source.without_repeats:
            conversations, held, dropped = _without_repeats(conversations, held, dropped, names)
        rows = tuple(one if several else DroppedRow(one.row, one.reason)
                     for _, one in sorted(dropped, key=lambda pair: (pair[0], pair[1].row)))
        changed = [f"In {count:,} conversation{'s' if count > 1 else ''}, {words}."
                   for words, count in self.changes.most_common()]
        return ChatData(self.source.name, self.source.kind, self.shapes.most_common(1)[0][0], conversations, rows,
                        tuple(held), tuple(names) if several else (), (*self._few_notes(), *changed))

    def _few_notes(self) -> list[str]:
        """What is said of the first files, where all of many have something to be said of."""
        more = len(self.notes) - MOST_NOTES
        return self.notes if more < 2 else [*self.notes[:MOST_NOTES], f"{more:,} more such notes, of other files."]

    def _drop(self, row: Any, dropped: DroppedRow, place: int) -> None:
        self.dropped.append((place, dropped))
        if isinstance(row, dict) and len(self.strange) < ROWS_LOOKED_AT:
            self.strange.append(row)
            self.columns.update(str(name)[:40] for name in list(row)[:100])

    def _nothing_usable(self) -> ValueError:
        name, columns = self.source.name, list(self.columns)
        first = self.dropped[0][1] if self.dropped else None
        said = f"Row {first.row}: {first.reason}." if first else "It holds no rows."
        seen = f" Columns seen: {', '.join(columns[:MOST_SHOWN_COLUMNS])}." if columns else ""
        guess = guess_columns(self.strange)
        sentence = f"{name} holds no conversation that can be trained on. {said}{seen}"
        strange = any("columns" in one.reason for _, one in self.dropped[:ROWS_LOOKED_AT])
        if guess and strange and self.source.columns is None:
            return UnknownColumns(f"{sentence} Say which column is the prompt and which the answer "
                                  f"(--prompt_column, --answer_column in a terminal). {COLUMNS_WE_KNOW}",
                                  columns, guess)
        return ValueError(f"{sentence} {COLUMNS_WE_KNOW}")


@contextmanager
def _named(source: Source) -> Iterator[None]:
    """What goes wrong inside a reader without words of its own is damage; the sentence names the source."""
    try:
        yield
    except (EOFError, OSError, MemoryError) as problem:
        raise ValueError(f"{source.name} can't be read to its end ({problem or type(problem).__name__}). It may be "
                         "damaged, or the disk full.") from None


def _with_own_split(parts: list[Part], reader: _Reader) -> list[Part]:
    """The parts to read: those for training, then the dataset's own validation rows, where it names both."""
    by_split: dict[str, list[Part]] = {}
    for part in parts:
        by_split.setdefault(part.split, []).append(part)
    held = by_split.get("validation") or by_split.get("test") or []
    train = [*by_split.get("train", ()), *by_split.get("", ())]
    if not train or not held:
        for part in parts:
            part.split = ""
        return parts
    for part in held:
        part.split = "validation"
    left = by_split.get("test", []) if by_split.get("validation") else []
    if left:
        reader.notes.append(f"Rows for testing are left out: {', '.join(part.name for part in left)}.")
    return [*train, *held]


def _without_repeats(conversations: Conversations, held: Sequence[int], dropped: Sequence[tuple[int, DroppedRow]],
                     names: Sequence[str]) -> tuple[Conversations, list[int], list[tuple[int, DroppedRow]]]:
    """Each conversation once: its first; the others are dropped rows."""
    rows, parts = conversations.column("row"), conversations.column("part")
    more, kept = list(dropped), []
    for place, first in enumerate(firsts(conversations.keys("digest")).tolist()):
        if first == place:
            kept.append(place)
        else:
            more.append((parts[place], DroppedRow(rows[place], f"the same as row {rows[first]}", names[parts[place]])))
    own = set(held)
    return conversations.chosen(kept), [new for new, old in enumerate(kept) if old in own], more


def _written(source: Source, folder: Path) -> Path:
    """A pasted text as a file."""
    text = source.text.removeprefix("\ufeff")  # as a program hands on a file that it read
    if not text.strip():
        raise ValueError(f"{source.name} is empty.")
    path = folder / f"{source.name}{_suffix_of(text)}"
    path.write_bytes(text.encode("utf-8", "replace"))
    return path


def _suffix_of(text: str) -> str:
    """What a pasted text is, as the end of a file's name."""
    start = text.lstrip()[:1]
    if begins_json(text):
        return ".jsonl" if start == "{" else ".json"
    if start == "<" or looks_like_chat(text) not in (None, "chatml"):
        return ".txt"
    first = text.strip().split("\n", 1)[0]
    if not any(mark in first for mark in ("\t", ",", ";")) or "\n" not in text.strip():
        return ".jsonl" if start == '"' or "\n{" in text else ".txt"
    return ".csv"
