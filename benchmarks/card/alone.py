"""One part in a process of its own: `python -m benchmarks.card.alone MODULE FILE BENCH`; a line of JSON per figure."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.card.bench import Bench, free_memory
from benchmarks.card.figure import CORE, Section


def main(arguments: list[str]) -> int:
    """Measure every section of the part; 1 where one failed, and 0 where none did."""
    module, file, told = arguments
    given = json.loads(told)
    bench = Bench(Path(given["work"]), given["small"], given["until"])
    # A card is counted without touching it: a process that touched it can't fork one that uses it.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    with Path(file).open("a", encoding="utf-8") as lines:
        failed = [section.name for section in importlib.import_module(module).SECTIONS
                  if not _measured(section, bench, lines)]
    return 1 if failed else 0


def _measured(section: Section, bench: Bench, lines: Any) -> bool:
    """Whether it came to its end, or could not even begin for want of a package."""
    began = time.monotonic()
    missing = [name for name in (*CORE, *section.needs) if importlib.util.find_spec(name) is None]
    if missing:
        _say(lines, section=section.name, left_out=f"not installed: {', '.join(missing)}")
        return True
    try:
        for figure in section.measure(bench):
            _say(lines, section=section.name, figure=figure.as_json(counts=not bench.small))
    except Exception:  # noqa: BLE001 - whatever it was, the report tells it, and the other sections go on
        _say(lines, section=section.name, traceback=traceback.format_exc())
        return False
    finally:
        if "torch" in sys.modules:
            free_memory()
    _say(lines, section=section.name, seconds=round(time.monotonic() - began, 1))
    return True


def _say(lines: Any, **values: Any) -> None:
    lines.write(json.dumps(values, ensure_ascii=False) + "\n")
    lines.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
