"""Folders that a process was filling or emptying when it was killed: hidden from everybody, and removed a day later."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

SECONDS_UNTOUCHED = 86_400
# A run that came or went (training/runs.py), an adapter that did (adapters/library.py, adapters/cache.py), and what
# travelled between here and the Hub (training/afar.py, training/arrival.py, adapters/fetch.py).
_RUN = re.compile(r"\..+-\d{8}-\d{6}-[0-9a-f]{4}(\.leaving)?")
_ADAPTER = re.compile(r"\..+\.(\d{19})(\.leaving)?")
_TRAVELLING = re.compile(r"\.(arriving|leaving|fetching)-.+")


def remove_leftovers(home: Path, now: float | None = None) -> list[str]:
    """Remove those that nobody has touched for so long; their names. What else is hidden there stays."""
    oldest = (time.time() if now is None else now) - SECONDS_UNTOUCHED
    gone = [one for one, since in _leftovers(home) if since < oldest]
    for one in gone:
        shutil.rmtree(one, ignore_errors=True)
    return [one.name for one in gone]


def _leftovers(home: Path) -> Iterator[tuple[Path, float]]:
    """Each of them, with the time (seconds since 1970) since when it is one."""
    for folder in (home, home / "runs", home / "adapters", *(home / "runs").glob("[!.]*")):
        for one in filter(Path.is_dir, folder.glob(".*")):
            adapter = _ADAPTER.fullmatch(one.name)
            if adapter:
                yield one, int(adapter[1]) / 1e9  # one that makes room is older than that
            elif _RUN.fullmatch(one.name) or _TRAVELLING.fullmatch(one.name):
                yield one, one.stat().st_mtime
