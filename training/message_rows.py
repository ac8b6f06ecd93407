"""Tables that have a message, or a question and its answer, a row: what belongs together is found and put together."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from phi3.template import Message
from training.beside import SYSTEMS
from training.columns import columns_by_name
from training.reading.rows import BadRow, Part, Row, shown
from training.shapes import as_chat, shape_of
from training.turns import ROLE_KEYS, ROLES, TEXT_KEYS, TOOL_ROLES, bare, cell, unpacked

LOOKED_AT = 200
# Of a cell that says who, when or where; one of more words is a text of its own.
MOST_WORDS = 4
_NAMED = ("from", "speaker", "author", "sender", "participant", "user", "username", "user_name", "from_name",
          "author_name", "sender_name")
_WHO = ("role", "author_role", "message_role", "sender_role", "speaker_role", "sender_type", "author_type", *_NAMED,
        *ROLE_KEYS)
# Columns that say yes or no, and who speaks where it is yes and where it is no.
_FLAGS = {**dict.fromkeys(("is_bot", "is_assistant", "from_bot", "is_ai"), ("assistant", "user")),
          **dict.fromkeys(("is_user", "is_human", "from_user", "inbound", "is_customer"), ("user", "assistant"))}
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")
_TEXT = (*TEXT_KEYS, "message_text", "message_content", "message_body", "transcript")
_THREADS = ("conversation", "conv", "convo", "dialogue", "dialog", "thread", "chat", "session", "message_tree", "tree",
            "ticket", "case", "call", "trace", "interaction")
_IDS = (*(f"{name}{end}" for name in _THREADS for end in ("_id", "id", "_hash", "_no", "_number")), "thread_ts")
_OWN = ("message_id", "messageid", "msg_id", "tweet_id", "uuid", "node_id", "id")
_PARENTS = ("parent_id", "parentid", "parent_message_id", "parent", "parent_uuid", "in_reply_to", "in_reply_to_id",
            "reply_to", "reply_to_id", "in_response_to_tweet_id")
_TURNS = ("turn", "turn_id", "turn_index", "turn_idx", "turn_number", "turn_no")
_ORDERS = (*_TURNS, "message_index", "message_idx", "message_number", "message_no", "message_order", "utterance_idx",
           "index", "idx", "order", "position", "sequence", "seq", "step", "number", "no", "timestamp", "time",
           "datetime", "date", "created_at", "create_time", "created", "created_date", "sent_at", "ts")


@dataclass(frozen=True)
class _Layout:
    """Which columns say what of a message; None where none does."""

    who: str
    text: str
    thread: str | None
    own: str | None
    parent: str | None
    orders: Sequence[str]
    rank: str | None


@dataclass(frozen=True)
class _Message:
    number: int
    row: Mapping[str, Any]
    who: str


def put_together(part: Part, of_several: bool = False) -> Iterator[Row]:
    """The rows of a table; of one with a message a row, its conversations, numbered by the first message of each. Where
    none says which it belongs to, a short table `of_several` is one conversation.
    """
    first = list(itertools.islice(part.rows, LOOKED_AT))
    rows = itertools.chain(first, part.rows)
    sample = [row for _, row in first if isinstance(row, dict) and any(row.values())]
    layout = _layout(sample)
    columns = _exchanges(sample) if layout is None else None
    if columns is not None:
        yield from _linked(rows, *columns, part)
    elif layout is not None and not any(_is_role(row, layout.who) for row in sample):
        yield from ((number, _sides_unknown(row, layout)) for number, row in rows)
    elif layout is not None and of_several and not (layout.thread or layout.parent) and len(first) < LOOKED_AT:
        yield from _alone(first, layout, part)
    elif layout is None or not (layout.thread or layout.parent):
        yield from rows
    else:
        messages = []
        for number, row in rows:
            if isinstance(row, dict) and _key(row.get(layout.thread or layout.own)):
                messages.append(_Message(number, row, _speaker(row, layout.who)))
            else:
                yield number, row
        yield from _joined(messages, layout, part)


def _layout(rows: Sequence[Mapping[str, Any]]) -> _Layout | None:
    """The columns of a table of single messages; None where the rows are conversations, or something else."""
    if len(rows) < 2 or 2 * sum(map(_is_known, rows)) > len(rows):
        return None
    names = columns_by_name(dict.fromkeys(name for row in rows for name in row))
    text = next((names[name] for name in _TEXT if name in names and any(row.get(names[name]) for row in rows)), None)
    others = {name: column for name, column in names.items() if column != text}
    who = _who(rows, others)
    if text is None or who is None:
        return None
    thread = next((others[name] for name in (*_IDS, *_THREADS, "id") if name in others
                   and (name in _IDS or _repeats(rows, others[name]))), None)
    own, parent = (next((others[name] for name in some if name in others and others[name] != thread), None)
                   for some in (_OWN, _PARENTS))
    orders = tuple(others[name] for name in _ORDERS if name in others and others[name] not in (who, thread))
    layout = _Layout(who, text, thread, own, parent if own else None, orders, others.get("rank"))
    is_talk = bool(orders) and not any(len(_key(row.get(column)).split()) > MOST_WORDS
                                       for row in rows for column in others.values())
    is_message = thread or layout.parent or is_talk or any(_is_role(row, who) for row in rows)
    return layout if is_message else None


def _is_known(row: Mapping[str, Any]) -> bool:
    try:
        return bool(shape_of(row))
    except (ValueError, RecursionError):
        return False


def _who(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str | None:
    """The column whose values are mostly roles, or yes and no; else one of names that come again and again."""
    columns = [names[name] for name in (*_WHO, *_FLAGS) if name in names]
    by_role = next((one for one in columns if 2 * sum(_is_role(row, one) for row in rows) >= len(rows)), None)
    return by_role or next((names[name] for name in _NAMED if name in names and _repeats(rows, names[name])), None)


def _is_role(row: Mapping[str, Any], column: str) -> bool:
    speaker = _speaker(row, column)
    return speaker in ROLES or speaker in TOOL_ROLES


def _speaker(row: Mapping[str, Any], column: str) -> str:
    """Who speaks, as a role's name where the column says yes or no."""
    said, flag = bare(_key(row.get(column))), _FLAGS.get(bare(column))
    if flag and said in (*_YES, *_NO):
        return flag[said in _NO]
    return said


def _repeats(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    values = [value for value in (_key(row.get(column)) for row in rows) if value]
    return len(set(values)) < len(values)


def _sides_unknown(row: Any, layout: _Layout) -> Any:
    if not isinstance(row, dict):
        return row
    return BadRow(f"one message by itself, by {shown(row.get(layout.who))}, and its {shown(layout.who)} doesn't say "
                  "who is the user and who the assistant. Write user and assistant there instead of the names")


def _exchanges(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The columns that say to which conversation a row's question and answer belong, and at which place; None where
    the rows are something else.
    """
    names = columns_by_name(dict.fromkeys(name for row in rows for name in row))
    thread, order = (next((names[name] for name in some if name in names), None) for some in (_IDS, _TURNS))
    if thread is None or order is None or not _repeats(rows, thread):
        return None
    places = [(_key(row.get(thread)), _place(row.get(order))) for row in rows]
    is_exchange = len(set(places)) == len(places) and all(place is not None for _, place in places)
    return (thread, order) if is_exchange and 2 * sum(map(bool, map(_exchange, rows))) > len(rows) else None


def _exchange(row: Any) -> list[Message]:
    """A row's question and answer, and what the system says before them; empty where it is something else."""
    try:
        chat = as_chat(row)
    except (ValueError, RecursionError):
        return []
    is_pair = chat.format in ("question and answer", "prompt-completion", "alpaca")
    return chat.messages if is_pair and [turn["role"] for turn in chat.messages].count("user") == 1 else []


# ---- Putting together -----------------------------------------------------------------------------------------------


def _joined(messages: Sequence[_Message], layout: _Layout, part: Part) -> Iterator[Row]:
    threads = _grown(messages, layout, part) or (_grouped(messages, layout, part) if layout.thread else [])
    if threads:
        yield from ((thread[0].number, _conversation(thread, layout)) for thread in threads)
    else:
        yield from ((one.number, one.row) for one in messages)


def _alone(rows: Sequence[Row], layout: _Layout, part: Part) -> Iterator[Row]:
    """The one conversation of a file."""
    said = [(number, row) for number, row in rows if isinstance(row, dict) and any(row.values())]
    messages = [_Message(number, row, _speaker(row, layout.who)) for number, row in said]
    order = _order_of(messages, layout)
    messages.sort(key=lambda one: _place(one.row[order]) if order else 0)
    part.notes.append(f"{part.name} has one message a row, and was read as one conversation.")
    yield from (one for one in rows if one not in said)
    yield messages[0].number, _conversation(messages, layout)


def _order_of(messages: Sequence[_Message], layout: _Layout) -> str | None:
    """The first column by which all can be sorted."""
    return next((name for name in layout.orders if all(_place(one.row.get(name)) is not None for one in messages)),
                None)


def _linked(rows: Iterator[Row], thread: str, order: str, part: Part) -> Iterator[Row]:
    """The conversations of a table that has a question and its answer a row."""
    threads: dict[str, list[tuple[float, int, list[Message]]]] = {}
    for number, row in rows:
        turns = _exchange(row)
        place = _place(row.get(order)) if turns else None
        if place is None or not _key(row.get(thread)):
            yield number, row
        else:
            threads.setdefault(_key(row[thread]), []).append((place, number, turns))
    for told in threads.values():
        told.sort(key=lambda one: one[0])
        later = (turn for _, _, turns in told[1:] for turn in turns if turn["role"] != "system")
        yield told[0][1], {"messages": [*told[0][2], *later]}
    count = sum(map(len, threads.values()))
    part.notes.append(f"{_became(part, 'question and answer', count, threads)} by {shown(thread)}, in the order of "
                      f"{shown(order)}.")


def _conversation(thread: Sequence[_Message], layout: _Layout) -> dict[str, Any]:
    """A row that holds the turns, and the system message that stands beside the first."""
    turns = [{**{name: unpacked(value) for name, value in one.row.items() if name != layout.text},
              "role": one.who, "content": one.row.get(layout.text)} for one in thread]
    return {"messages": turns, **{name: value for name, value in thread[0].row.items() if bare(name) in SYSTEMS}}


def _grouped(messages: Sequence[_Message], layout: _Layout, part: Part) -> list[list[_Message]]:
    """The messages of each conversation that a column names."""
    threads: dict[str, list[_Message]] = {}
    for one in messages:
        threads.setdefault(_key(one.row[layout.thread]), []).append(one)
    order = _order_of(messages, layout)
    if order:
        for thread in threads.values():
            thread.sort(key=lambda one: _place(one.row[order]))
    part.notes.append(f"{_became(part, 'message', len(messages), threads)} by {shown(layout.thread)}, in the order of "
                      f"{shown(order) if order else 'the rows'}.")
    return list(threads.values())


def _grown(messages: Sequence[_Message], layout: _Layout, part: Part) -> list[list[_Message]]:
    """The best branch of each tree whose messages name the one that they answer; none where few do so."""
    if layout.parent is None:
        return []
    ids = {_key(one.row.get(layout.own)) for one in messages} - {""}
    answers: dict[str, list[_Message]] = {}
    for one in messages:
        parent = _key(one.row.get(layout.parent))
        is_answer = parent in ids and parent != _key(one.row.get(layout.own))
        answers.setdefault(parent if is_answer else "", []).append(one)
    roots = answers.pop("", [])
    threads = {_key(one.row.get(layout.thread)) for one in messages} if layout.thread else ()
    if not answers or (threads and len(roots) > len(threads)):
        return []
    branches = [_branch(root, answers, layout) for root in roots]
    left = len(messages) - sum(map(len, branches))
    best = "the best ranked" if layout.rank else "the first"
    about = f" Where several answer one, {best} was taken, and {left:,} were left out." if left else ""
    part.notes.append(f"{_became(part, 'message', len(messages), branches)} by {shown(layout.parent)}.{about}")
    return branches


def _became(part: Part, what: str, count: int, threads: Collection[Any]) -> str:
    are = "conversation" if len(threads) == 1 else "conversations"
    return f"{part.name} has one {what} a row: {count:,} were put together to {len(threads):,} {are}"


def _branch(root: _Message, answers: dict[str, list[_Message]], layout: _Layout) -> list[_Message]:
    branch: list[_Message] = []
    at: _Message | None = root
    while at is not None:
        branch.append(at)
        kept = [one for one in answers.pop(_key(at.row.get(layout.own)), ())
                if _key(one.row.get("deleted")).lower() not in _YES]
        at = min(kept, key=lambda one: _rank(one, layout), default=None)
    return branch


def _rank(message: _Message, layout: _Layout) -> float:
    place = _place(message.row.get(layout.rank)) if layout.rank else None
    return float("inf") if place is None else place


def _key(value: Any) -> str:
    """An id as it is compared: tables with gaps write 7 as 7.0."""
    return "" if isinstance(value, list | dict) else cell(value).strip().removesuffix(".0")


def _place(value: Any) -> float | None:
    """A number, or a time, as what can be sorted."""
    try:
        return float(cell(value))
    except ValueError:
        pass
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
