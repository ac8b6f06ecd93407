"""What was read and counted lately, so that a click doesn't read a large file again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any

from training.data import ChatData, Source, read_steps
from training.report import Counted, count_steps

# Data that is kept at once; its rows lie on the disk.
MOST_KEPT = 8


class Shelf:
    """The newest few datasets with their token counts; safe for several threads."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, source: Source) -> Iterator[float | ChatData]:
        """As `read_steps`; at once where the source was read before."""
        yield from self._followed(("data", source, _versions(source)), lambda: read_steps(source))

    def counted(self, data: ChatData, tokenizer: Any) -> Iterator[float | Counted]:
        """As `count_steps` of the data's conversations."""
        yield from self._followed(("counted", id(data.conversations), id(tokenizer)),
                                  lambda: count_steps(data.conversations, tokenizer), beside=data)

    def _followed(self, key: Hashable, steps: Any, beside: Any = None) -> Iterator[Any]:
        with self._lock:
            kept = self._kept.get(key)
            if kept:
                self._kept.move_to_end(key)
        if kept:
            yield kept[0]
            return
        result: Any = None
        for result in steps():
            if isinstance(result, float):
                yield result
        with self._lock:
            # What it was counted of is kept with it, so that its identity stays its own.
            self._kept[key] = (result, beside)
            while len(self._kept) > 2 * self._most:
                self._kept.popitem(last=False)
        yield result


def _versions(source: Source) -> tuple[Hashable, ...]:
    """A file that changed is another one."""
    return tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in source.paths if path.is_file())
