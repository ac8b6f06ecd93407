"""A run's rows as tokens: worked out once, before a GPU is asked for, and kept in the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.files import arriving_at
from phi3.template import encode_conversation
from training.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "tokens.parquet"
_MADE_FOR = b"made_for"
Rows = list[dict[str, list[int]]]


def tokens_of(run: Run, tokenizer: PreTrainedTokenizerBase) -> tuple[Rows, Rows]:
    """(train, held out): `input_ids` and `labels` of each conversation that has an answer within `max_length`, from the
    run's folder where they were worked out before for this tokenizer.
    """
    path, made_for = run.folder / FILE, _made_for(run, tokenizer)
    rows = _read(path, made_for)
    if rows is None:
        rows = list(_encoded(run, tokenizer))
        _write(path, made_for, rows)
    parts = ([row for row in rows if row["held_out"] is side] for side in (False, True))
    train, held = ([{name: row[name] for name in ("input_ids", "labels")} for row in part] for part in parts)
    return train, held


def _encoded(run: Run, tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Any]]:
    for side, part in zip((False, True), run.conversations(), strict=True):
        for one in part:
            encoded = encode_conversation(tokenizer, one.messages).cut(run.config.max_length)
            if any(encoded.trained):
                yield {"held_out": side, "input_ids": list(encoded.input_ids), "labels": list(encoded.labels())}


def _made_for(run: Run, tokenizer: PreTrainedTokenizerBase) -> bytes:
    """What the tokens depend on besides the rows, which are frozen."""
    template = hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()
    return json.dumps([run.config.max_length, len(tokenizer), template]).encode()


def _read(path: Path, made_for: bytes) -> list[dict[str, Any]] | None:
    """The rows, or None where there are none, other ones, or damaged ones."""
    import pyarrow
    import pyarrow.parquet as parquet

    if not path.is_file():
        return None
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError):
        return None
    if (table.schema.metadata or {}).get(_MADE_FOR) != made_for:
        return None
    return table.to_pylist()


def _write(path: Path, made_for: bytes, rows: list[dict[str, Any]]) -> None:
    """Whole or not at all."""
    import pyarrow
    import pyarrow.parquet as parquet

    ids = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema([("held_out", pyarrow.bool_()), ("input_ids", ids), ("labels", ids)],
                            metadata={_MADE_FOR: made_for})
    with arriving_at(path) as arriving:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), arriving)
