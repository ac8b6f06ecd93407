"""On which rows held-out losses were measured, so that only those are compared that were measured on the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from training.conversations import digest
from training.run import Run
from training.tokens import FILE as TOKENS


@dataclass(frozen=True)
class Measured:
    """What one run's held-out loss was measured on: `rows` is a hash of the conversations, and `tokens` one of what
    the base saw of them, which differs where they were cut elsewhere or where the base's words are others.
    """

    rows: str
    tokens: str


class Yardsticks:
    """What runs were measured on. It is remembered: rows are frozen at Start, and reading many takes a while."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def of(self, runs: Sequence[Run]) -> list[Measured]:
        """Of each of these runs. The tokens are those that the trainers kept; where one kept none, as older versions
        did, base and limit stand for them in all, so that the answers can be compared with each other.
        """
        kept = all((run.folder / TOKENS).is_file() for run in runs)
        return [Measured(self._known_or("rows", run), self._known_or("tokens", run) if kept else
                         f"{self._known_or('rows', run)} {run.config.base} {run.config.max_length}") for run in runs]

    def _known_or(self, kind: str, run: Run) -> str:
        if (kind, run.id) not in self._known:
            self._known[kind, run.id] = _rows_of(run) if kind == "rows" else _tokens_of(run)
        return self._known[kind, run.id]


def _rows_of(run: Run) -> str:
    """A hash of the conversations that were held out, in whatever order."""
    rows = _held_out(run, "data.parquet", ["messages"])
    return _hash(sorted(digest(row["messages"]) for row in rows))


def _tokens_of(run: Run) -> str:
    """A hash of their tokens, with what of them counts, in whatever order."""
    rows = _held_out(run, TOKENS, ["input_ids", "labels"])
    return _hash(sorted(_hash([str(row["input_ids"]).encode(), str(row["labels"]).encode()]).encode() for row in rows))


def _held_out(run: Run, name: str, columns: list[str]) -> list[dict]:
    import pyarrow.parquet as parquet

    return parquet.read_table(run.folder / name, columns=columns, filters=[("held_out", "==", True)]).to_pylist()


def _hash(parts: Sequence[bytes]) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()
