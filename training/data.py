"""Chat data: read it, say what was wrong with it, split it, and show what the model will see."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3.template import Message, encode_conversation, has_system_role
from training.shapes import COLUMNS_WE_KNOW, BadLine, as_messages, shape_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EXAMPLES_FOLDER = Path(__file__).parent / "examples"
LISTED_DROPS = 1000


@dataclass(frozen=True)
class Conversation:
    """Turns that end with the assistant's; `row` counts from 1 as a person would count in the file."""

    row: int
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class DroppedRow:
    """A row that can't be trained on, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class ChatData:
    """What a file holds: conversations, and the rows that are none. `kind` is example, file or paste."""

    name: str
    kind: str
    format: str
    conversations: tuple[Conversation, ...]
    dropped: tuple[DroppedRow, ...]

    @property
    def rows_read(self) -> int:
        """Rows seen, kept or not."""
        return len(self.conversations) + len(self.dropped)


@dataclass(frozen=True)
class TokenCounts:
    """Tokens over all kept conversations, each cut at `max_length`; longest and median before the cut."""

    total: int
    trained: int
    longest: int
    median: int


@dataclass(frozen=True)
class DataReport:
    """What a visitor reads before Start, and what `python -m training inspect --json` prints."""

    format: str
    rows_read: int
    rows_kept: int
    rows_dropped: tuple[DroppedRow, ...]
    dropped_total: int
    duplicates: int
    tokens: TokenCounts
    truncated: int
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)


def example_names() -> list[str]:
    """Datasets that ship with the app."""
    return sorted(path.stem for path in EXAMPLES_FOLDER.glob("*.jsonl"))


def read_data(what: str | Path) -> ChatData:
    """Read an example by its name, or a JSONL or JSON file; ValueError says what was seen and what to do."""
    if str(what) in example_names():
        path, kind = EXAMPLES_FOLDER / f"{what}.jsonl", "example"
    else:
        path, kind = Path(what).expanduser(), "file"
    if path.is_dir():
        raise ValueError(f"{what} is a folder. Name a .jsonl or .json file in it.")
    if not path.is_file():
        raise ValueError(f"There is no file {what}. Examples that ship with the app: {', '.join(example_names())}.")
    name = path.stem if kind == "example" else path.name
    return _read(_decoded(path.read_bytes(), name), name, kind, is_json=path.suffix.lower() == ".json")


def read_text(text: str, name: str = "pasted text") -> ChatData:
    """Read pasted JSONL or JSON."""
    return _read(text, name, "paste", is_json=text.lstrip().startswith("["))


def make_report(data: ChatData, tokenizer: PreTrainedTokenizerFast, max_length: int) -> DataReport:
    """Count tokens and say in words what the data's owner should know before Start."""
    encoded = [encode_conversation(tokenizer, one.messages) for one in data.conversations]
    lengths = [len(one.input_ids) for one in encoded]
    kept = [one.cut(max_length) for one in encoded]
    trained = [sum(one.trained) for one in kept]
    counts = TokenCounts(sum(len(one.input_ids) for one in kept), sum(trained), max(lengths),
                         int(statistics.median(lengths)))
    repeats = Counter(_content(one) for one in data.conversations)
    truncated = sum(length > max_length for length in lengths)
    report = DataReport(data.format, data.rows_read, len(data.conversations), data.dropped[:LISTED_DROPS],
                        len(data.dropped), sum(count - 1 for count in repeats.values()), counts, truncated, ())
    warnings = _warnings(data, report, untaught=trained.count(0), system_shown=has_system_role(tokenizer))
    return DataReport(**{**vars(report), "warnings": tuple(warnings)})


def split(data: ChatData, held_out: float, seed: int) -> tuple[list[Conversation], list[Conversation]]:
    """(train, held out): seeded, by conversation, equal conversations on one side only.

    Where that would leave nothing to train on, nothing is held out.
    """
    groups: dict[str, list[Conversation]] = {}
    for one in data.conversations:
        groups.setdefault(_content(one), []).append(one)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    wanted = round(len(order) * held_out) if held_out else 0
    wanted = min(max(wanted, 1 if held_out else 0), len(order) - 1)
    held = sorted((one for group in order[:wanted] for one in group), key=lambda one: one.row)
    train = sorted((one for group in order[wanted:] for one in group), key=lambda one: one.row)
    return train, held


def lengths_of(rows: Sequence[Conversation], tokenizer: PreTrainedTokenizerFast, max_length: int) -> list[int]:
    """Tokens of each conversation, cut at `max_length`."""
    return [min(len(encode_conversation(tokenizer, one.messages).input_ids), max_length) for one in rows]


def as_the_model_sees(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message],
                      max_length: int) -> list[tuple[str, bool]]:
    """The conversation's rendered text in runs of (text, trained), control tokens visible."""
    encoded = encode_conversation(tokenizer, messages).cut(max_length)
    runs: list[tuple[list[int], bool]] = []
    for token, trained in zip(encoded.input_ids, encoded.trained, strict=True):
        if not runs or runs[-1][1] != trained:
            runs.append(([], trained))
        runs[-1][0].append(token)
    return [(tokenizer.decode(ids), trained) for ids, trained in runs]


def _decoded(raw: bytes, name: str) -> str:
    if not raw.strip():
        raise ValueError(f"{name} is empty.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ValueError(f"{name} is not UTF-8 text (byte {problem.start}). Save it as JSONL or JSON in UTF-8.") \
            from None
    if "\x00" in text[:4096]:
        raise ValueError(f"{name} is a binary file. Save the conversations as JSONL or JSON in UTF-8.")
    return text


def _read(text: str, name: str, kind: str, is_json: bool) -> ChatData:
    if not text.strip():
        raise ValueError(f"{name} is empty.")
    rows = _json_rows(text, name) if is_json else _jsonl_rows(text)
    conversations: list[Conversation] = []
    dropped: list[DroppedRow] = []
    shapes: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for number, row in rows:
        try:
            messages = as_messages(row)
        except ValueError as problem:
            dropped.append(DroppedRow(number, str(problem)))
            columns.update(row if isinstance(row, dict) else ())
        else:
            shapes[shape_of(row)] += 1
            conversations.append(Conversation(number, tuple(messages)))
    if not conversations:
        raise ValueError(_nothing_usable(name, dropped, columns))
    return ChatData(name, kind, shapes.most_common(1)[0][0], tuple(conversations), tuple(dropped))


def _jsonl_rows(text: str) -> Iterator[tuple[int, Any]]:
    # Only "\n" ends a line: JSON strings may hold U+2028 and its like, which splitlines() would cut at.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _parsed_line(line)


def _parsed_line(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as problem:
        return BadLine(f"not JSON: {problem}")


def _json_rows(text: str, name: str) -> Iterator[tuple[int, Any]]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"{name} is not whole JSON ({problem}). Was it cut off? "
                         "With one conversation per line, call it .jsonl.") from None
    if isinstance(whole, dict):
        lists = {key: value for key, value in whole.items() if isinstance(value, list)}
        whole = next(iter(lists.values())) if len(lists) == 1 and "messages" not in lists else [whole]
    if not isinstance(whole, list):
        raise ValueError(f"{name} holds {type(whole).__name__}, not a list of conversations.")
    yield from enumerate(whole, start=1)


def _nothing_usable(name: str, dropped: Sequence[DroppedRow], columns: Iterable[str]) -> str:
    first = f"Row {dropped[0].row}: {dropped[0].reason}." if dropped else "It holds no rows."
    seen = sorted(columns)
    listed = f" Columns seen: {', '.join(seen[:12])}." if seen else ""
    return f"{name} holds no conversation that can be trained on. {first}{listed} {COLUMNS_WE_KNOW}"


def _content(one: Conversation) -> str:
    return json.dumps(one.messages, ensure_ascii=False, sort_keys=True)


def _warnings(data: ChatData, report: DataReport, untaught: int, system_shown: bool) -> Iterator[str]:
    if report.tokens.trained == 0:
        yield "Nothing to train: no answer is left within the length limit. Raise max_length."
    elif untaught:
        yield f"{untaught} conversations lose their whole answer to the length limit and teach nothing."
    if report.rows_kept < 20:
        yield f"Only {report.rows_kept} conversations: an adapter of so few mostly repeats them."
    if report.truncated * 2 > report.rows_kept:
        yield f"{report.truncated} of {report.rows_kept} conversations are longer than the limit and are cut."
    if report.dropped_total:
        yield f"{report.dropped_total} of {report.rows_read} rows can't be used and are left out."
    has_system = any(turn["role"] == "system" for one in data.conversations for turn in one.messages)
    if has_system and not system_shown:
        yield "This base has no system role; system messages are put before the first question instead."
