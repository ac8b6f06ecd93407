"""JSON and JSON Lines as rows, one at a time; a list under a key, columns and splits are found."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from training.chat_text import conversations_of_text, looks_like_chat
from training.reading.encoding import Encoding, encoding_of, text_of
from training.reading.rows import BadRow, Bounds, NoRows, Part, Row
from training.turns import is_turn

_DECODER = json.JSONDecoder()
_BEGINS = re.compile(r'\s*(?:\{|\[\s*(?:[\[{"\]]|\Z))')
_SPACE = " \t\r\n"
_ROW_LISTS = ("data", "rows", "examples", "items", "conversations", "messages", "train", "dataset", "records",
              "dialogs", "chats")
# A list of turns under one of these names is a part of a row, and no row by itself.
_OF_A_ROW = {"messages", "conversations", "prompt", "completion", "chosen", "preferred_output", "conversation_a"}
SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
          "dev": "validation", "eval": "validation", "test": "test"}


def begins_json(text: str) -> bool:
    """Whether a text begins as JSON of rows does; "[INST]" or "[12/05/24, 10:01]" don't."""
    return _BEGINS.match(text.removeprefix("\ufeff")) is not None


def json_lines(path: Path, name: str, bounds: Bounds) -> list[Part]:
    """A row a line; a file that is one JSON list all the same is read as such."""
    encoding = encoding_of(path, name)
    if _begins_a_larger_value(path, encoding):
        try:
            return json_whole(path, name, bounds)
        except ValueError:
            pass  # then it is lines, some of which are none
    return [lines_part(path, name, encoding, bounds)]


def lines_part(path: Path, name: str, encoding: Encoding, bounds: Bounds) -> Part:
    """The lines of a file, parsed."""
    size, place = max(path.stat().st_size, 1), [0]
    notes = [encoding.note] if encoding.note else []
    return Part(name, _lines(path, encoding, bounds, place), lambda: place[0] / size, notes)


def json_whole(path: Path, name: str, bounds: Bounds) -> list[Part]:
    """One JSON value; ValueError where the file doesn't parse, unless every line of it does."""
    text, encoding = text_of(path, name)
    text = text.removeprefix("\ufeff")
    notes = [encoding.note] if encoding.note else []
    try:
        _check(text)
    except (ValueError, RecursionError) as problem:
        if _is_lines(text):
            return [lines_part(path, name, encoding, bounds)]
        objects = _objects(text)
        if len(objects) > 1:
            return [Part(name, iter(enumerate(objects, start=1)), notes=notes)]
        raise ValueError(f"{name} is not whole JSON ({_said(problem)}). Was it cut off? "
                         "With one conversation per line, call it .jsonl.") from None
    parts = list(_parts(text, name))
    for part in parts:
        part.notes.extend(notes)
    return parts


def chat_text(path: Path, name: str, bounds: Bounds) -> list[Part]:
    """A plain text file: lines of JSON, or conversations in ChatML or the like."""
    text, encoding = text_of(path, name)
    text = text.removeprefix("\ufeff")
    if begins_json(text):
        return json_lines(path, name, bounds)
    if looks_like_chat(text) is None:
        raise NoRows(name, "plain text without turns", ". Begin each question with User: and each answer with "
                     "Assistant:, a blank line before each conversation, or write it in ChatML (<|im_start|>user …), "
                     "JSONL, JSON, CSV, Parquet or xlsx.")
    rows = enumerate(conversations_of_text(text), start=1)
    return [Part(name, iter(rows), notes=[encoding.note] if encoding.note else [])]


def parsed(line: bytes | str) -> Any:
    """The value of one line, or why it is none."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    # The standard library reads more (NaN, half characters, long numbers), and says in words what is wrong.
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        return json.loads(text.rstrip().removesuffix(","))  # lines that were cut out of a list end so
    except UnicodeDecodeError as problem:
        return BadRow(f"not UTF-8 text (byte {problem.start} of the line)")
    except (ValueError, RecursionError) as problem:
        return BadRow(f"not JSON: {_said(problem)}")


def _lines(path: Path, encoding: Encoding, bounds: Bounds, place: list[int]) -> Iterator[Row]:
    """Only "\\n" ends a line: JSON strings may hold U+2028 and its like. `place` follows the bytes that are read."""
    longest = bounds.cell * 4
    opened = path.open("rb") if encoding.is_utf8 else path.open(encoding=encoding.name, errors="replace", newline="\n")
    with opened as file:
        blank, end = ("", "\n") if not encoding.is_utf8 else (b"", b"\n")
        for number in itertools.count(1):
            line = file.readline(longest)
            if not line:
                return
            place[0] += len(line)
            too_long = len(line) == longest and not line.endswith(end)
            while too_long:
                rest = file.readline(longest)
                place[0] += len(rest)
                if not rest or rest.endswith(end):
                    break
            if number == 1:
                line = line.removeprefix("\ufeff" if not encoding.is_utf8 else b"\xef\xbb\xbf")
            if line.strip() != blank:
                yield number, BadRow(f"a line of more than {longest:,} characters") if too_long else parsed(line)


def _begins_a_larger_value(path: Path, encoding: Encoding) -> bool:
    """Whether the first line is no JSON by itself, but the beginning of some."""
    with path.open(encoding=encoding.name, errors="replace") as file:
        start = file.read(65536).removeprefix("\ufeff").lstrip()
    first = start.split("\n", 1)[0]
    if start[:1] == "[" and len(start) == 65536 and first == start:
        return True
    if start[:1] not in ("[", "{"):
        return False
    value = parsed(first)
    if isinstance(value, list):
        return bool(value) and not is_turn(value[0]) and not isinstance(value[0], str) and "\n{" not in start
    return isinstance(value, BadRow) and (start[:1] == "[" or first.strip() == "{")


def _said(problem: Exception) -> str:
    return "nested too deeply" if isinstance(problem, RecursionError) else str(problem)[:200]


def _is_lines(text: str) -> bool:
    """Whether every line is an object of its own, as many files are that are called .json all the same."""
    lines = [line for line in text.split("\n") if line.strip()]
    return len(lines) > 1 and all(isinstance(parsed(line), dict) for line in lines)


def _objects(text: str) -> list[dict[str, Any]]:
    """Objects one after another over many lines, as jq writes them, or with commas between; none where there is else.
    """
    place, found = _skip(text, 0), []
    while place < len(text):
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict):
            return []
        found.append(value)
        place = _skip(text, place)
        if text[place:place + 1] == ",":
            place = _skip(text, place + 1)
    return found


# ---- One JSON value, without its whole tree in memory ---------------------------------------------------------------


def _check(text: str) -> None:
    """ValueError where the text isn't one JSON value."""
    start = _skip(text, 0)
    if text[start:start + 1] == "[":
        for _ in _items(text, start):
            pass
        end = _end_of_items(text, start)
    else:
        _, end = _DECODER.raw_decode(text, start)
    if _skip(text, end) != len(text):
        raise json.JSONDecodeError("Extra data", text, end)


def _parts(text: str, name: str) -> Iterator[Part]:
    start = _skip(text, 0)
    if text[start:start + 1] == "[":
        yield _list_part(text, start, name)
        return
    whole = json.loads(text)
    if not isinstance(whole, dict):
        raise ValueError(f"{name} holds {type(whole).__name__}, not a list of conversations.")
    yield from _parts_of_object(whole, name)


def _list_part(text: str, start: int, name: str) -> Part:
    first = next(_items(text, start), None)
    if is_turn(first):
        return Part(name, iter([(1, json.loads(text))]))
    place = [0]
    return Part(name, _numbered(text, start, place), lambda: place[0] / len(text))


def _numbered(text: str, start: int, place: list[int]) -> Iterator[Row]:
    for number, (value, end) in enumerate(_items_and_ends(text, start), start=1):
        place[0] = end
        yield number, value


def _parts_of_object(whole: dict[str, Any], name: str) -> Iterator[Part]:
    """Rows under one key, under the names of splits, as columns, or the object as a row of its own."""
    lists = {key: value for key, value in whole.items() if isinstance(value, list) and value}
    splits = {key: rows for key, rows in lists.items() if key.lower() in SPLITS and isinstance(rows[0], (dict, list))}
    rows = _named_cells(whole) or next(
        (lists[key] for key in _ROW_LISTS if key in lists and _are_rows(lists[key])), None)
    if len(splits) > 1:
        for key, split in splits.items():
            yield Part(f"{name}, {key}", iter(enumerate(split, start=1)), split=SPLITS[key.lower()])
        return
    of_rows = {key: value for key, value in lists.items() if _are_rows(value)}
    if rows is None and len(of_rows) > 1 and len(of_rows) == len(whole) and all(
            map(_is_known, (some[0] for some in of_rows.values()))):
        for key, some in of_rows.items():
            yield Part(f"{name}, {key}", iter(enumerate(some, start=1)))
        return
    rows = rows or _columns(whole, lists)
    if not rows and len(of_rows) == 1 and len(lists) <= len(of_rows) + _plain_lists(lists):
        rows = next(iter(of_rows.values()))
    rows = rows or _named_rows(whole) or _rows_within(whole) or [whole]
    yield Part(name, iter(enumerate(rows, start=1)))


def _rows_within(whole: dict[str, Any]) -> list[Any]:
    """The rows of an object that stands in another, as what servers answer does: of the only one that does."""
    found = [value[key] for value in whole.values() if isinstance(value, dict)
             for key in value if isinstance(value[key], list) and value[key] and _is_known(value[key][0])]
    return found[0] if len(found) == 1 else []


def _is_known(row: Any) -> bool:
    """Whether an object is a conversation in a shape that is known."""
    from training.shapes import shape_of

    try:
        return isinstance(row, dict) and bool(shape_of(row))
    except (ValueError, RecursionError):
        return False


def _plain_lists(lists: dict[str, list[Any]]) -> int:
    """How many hold no objects and lists, but names or numbers."""
    return sum(not isinstance(value[0], (dict, list)) for value in lists.values())


def _are_rows(value: list[Any]) -> bool:
    return isinstance(value[0], (dict, list)) and not is_turn(value[0])


def _named_cells(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an object that names its columns apart from their cells, as pandas writes it split."""
    names, rows = whole.get("columns"), whole.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not all(isinstance(name, str) for name in names):
        return []
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return []
    return [dict(zip(names, row, strict=True)) for row in rows]


def _columns(whole: dict[str, Any], lists: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The rows of an object that holds a list, or an object by row number, for each column."""
    by_number = all(isinstance(one, dict) and one and all(key.isdigit() for key in one) for one in whole.values())
    if by_number and whole:
        numbers = list(dict.fromkeys(key for one in whole.values() for key in one))
        return [{name: column.get(number) for name, column in whole.items()} for number in numbers]
    plain = len(lists) > 1 and len(lists) == len(whole) and len({len(one) for one in lists.values()}) == 1
    if plain and not any(is_turn(one[0]) for one in lists.values()):
        return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
    return []


def _named_rows(whole: dict[str, Any]) -> list[Any]:
    """The rows of an object that holds each under a name of its own, be it an object or a list of turns."""
    values = list(whole.values())
    if len(values) > 1 and all(isinstance(one, list) and one and is_turn(one[0]) for one in values):
        return [] if whole.keys() & _OF_A_ROW else values
    if len(values) < 2 or not all(isinstance(one, dict) for one in values) or is_turn(values[0]):
        return []
    return values if len({tuple(one) for one in values}) == 1 else []


def _items(text: str, start: int) -> Iterator[Any]:
    return (value for value, _ in _items_and_ends(text, start))


def _items_and_ends(text: str, start: int) -> Iterator[tuple[Any, int]]:
    """The items of the list that begins at `start`, each with the place after it."""
    place = _skip(text, start + 1)
    while text[place:place + 1] != "]":
        value, place = _DECODER.raw_decode(text, place)
        yield value, place
        place = _skip(text, place)
        if text[place:place + 1] == ",":
            place = _skip(text, place + 1)
            if text[place:place + 1] == "]":
                raise json.JSONDecodeError("Illegal trailing comma before end of array", text, place)
        elif text[place:place + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, place)


def _end_of_items(text: str, start: int) -> int:
    last = start + 1
    for _, end in _items_and_ends(text, start):
        last = end
    return _skip(text, last) + 1


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in _SPACE:
        place += 1
    return place
