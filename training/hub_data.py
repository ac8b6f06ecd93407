"""Rows of a dataset on the Hub, streamed: only as many as are needed, and never a script of anybody's."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.hub import Hub
from training.reading.rows import Bounds, Part, Row, bounded

_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_ADDRESSES = ("https://huggingface.co/datasets/", "hf://datasets/")
# Without a number of one's own: more than a run of hours on one card goes through.
USUAL_ROWS = 100_000
SECONDS_TO_REACH = 10
_HELD = ("validation", "valid", "val", "dev", "eval")


@dataclass(frozen=True)
class HubRows:
    """Rows of one dataset: an id as OWNER/NAME, its configuration and split where they were named.

    `own_token`: whether this machine's Hugging Face token may be used, as on one's own machine.
    """

    id: str
    config: str = ""
    split: str = ""
    rows: int = USUAL_ROWS
    own_token: bool = False

    @contextmanager
    def opened(self, bounds: Bounds) -> Iterator[list[Part]]:
        """The rows for training, and those that the dataset itself holds out where it names them."""
        yield list(self._parts(self._splits(), bounds))

    def _splits(self) -> dict[str, Any]:
        from datasets import load_dataset

        # `datasets` would take a folder of that name for the dataset.
        if Path(self.id).exists():
            raise ValueError(f"{self.id} is a folder beside the app as well. Give the dataset's id on the Hub.")
        # `datasets` would ask six times, for half a minute, before it says so.
        if not Hub().is_reachable(SECONDS_TO_REACH):
            raise self._unreachable()
        try:
            return dict(load_dataset(self.id, self.config or None, streaming=True,
                                     token=None if self.own_token else False))
        except _failures() as problem:
            raise self._explained(problem) from None

    def _parts(self, splits: dict[str, Any], bounds: Bounds) -> Iterator[Part]:
        if not splits or (self.split and self.split not in splits):
            raise ValueError(f"{self.id} has no split {self.split or 'at all'}. It has: "
                             f"{', '.join(splits) or 'none'}.")
        train = self.split or next((name for name in splits if name.startswith("train")), next(iter(splits)))
        yield self._part(train, splits[train], bounds, "train")
        held = next((name for name in splits if name.split("_")[0] in _HELD and name != train), None)
        if held and not self.split:
            yield self._part(held, splits[held], bounds, "validation")

    def _part(self, split: str, rows: Any, bounds: Bounds, use: str) -> Part:
        part = Part(f"{self.id}, {split}", iter(()), split=use)
        read = [0]
        part.rows = bounded(self._rows(rows, read, part), part.name, bounds)
        part.share = lambda: min(read[0] / self.rows, 1.0)
        return part

    def _rows(self, rows: Any, read: list[int], part: Part) -> Iterator[Row]:
        try:
            # Pictures and sound stay bytes that nobody looks at.
            undecoded = rows.decode(False) if rows.features else rows
            for row in itertools.islice(undecoded, self.rows):
                read[0] += 1
                yield read[0], row
        except _failures() as problem:
            raise self._explained(problem) from None
        if read[0] == self.rows:
            part.notes.append(f"Only the first {self.rows:,} rows of {part.name} were read.")

    def _explained(self, problem: BaseException) -> ValueError:
        said = " ".join(str(problem).split())
        kind = type(problem).__name__
        if "scripts are no longer supported" in said:
            return ValueError(f"{self.id} is made by a script of its own, and scripts are never run here. Choose a "
                              "dataset of data files, such as its Parquet copy.")
        if kind == "DatasetNotFoundError" and "gated" in said:
            return ValueError(f"{self.id} is gated: ask for access on its page, and use it on a machine that holds "
                              "your token.")
        if kind == "DatasetNotFoundError":
            where = "" if self.own_token else " Only public ones can be read here."
            return ValueError(f"There is no dataset {self.id} on the Hub that can be read.{where}")
        if kind in ("ConnectionError", "ConnectError", "OfflineModeIsEnabled", "ConnectTimeout", "ReadTimeout"):
            return self._unreachable()
        return ValueError(f"{self.id} can't be read from the Hub: {said[:300] or kind}")

    def _unreachable(self) -> ValueError:
        return ValueError(f"The Hub can't be reached from here, so {self.id} can't be read. Upload a file instead.")


def hub_id(what: str) -> str:
    """The id in what somebody typed, an address included; ValueError where it is none."""
    name = what.strip()
    for address in _ADDRESSES:
        name = name.removeprefix(address)
    name = "/".join(name.split("?")[0].rstrip("/").split("/")[:2])
    if not _ID.fullmatch(name) or ".." in name:
        raise ValueError(f"{what.strip()[:80]!r} is no dataset's id. It looks like OWNER/NAME.")
    return name


def is_hub_id(what: str) -> bool:
    """Whether it can only be meant as a dataset on the Hub: an address, or OWNER/NAME and no file's place."""
    if what.startswith(_ADDRESSES):
        return True
    return "/" in what and _ID.fullmatch(what) is not None and not Path(what).suffix and not Path(what).exists()


def _failures() -> tuple[type[BaseException], ...]:
    """What `datasets` and what it stands on let through."""
    import pyarrow
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError  # httpx's own, under either of its names

    return (DatasetsError, HTTPError, pyarrow.ArrowException, OSError, RuntimeError, ValueError,
            TypeError, KeyError, NotImplementedError, ImportError)
