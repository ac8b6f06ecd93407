"""What every benchmark writes down beside its figures, and the table that it prints."""

import argparse
import json
import logging
import platform
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from phi3.machine import this_machine

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes")


def circumstances() -> dict[str, Any]:
    """Machine, versions and date of a measurement."""
    machine = this_machine()
    return {
        "date": time.strftime("%Y-%m-%d"), "machine": machine.name, "threads": machine.threads,
        "memory_gib": round(machine.memory), "card_memory_gib": round(machine.card_memory),
        "processor": _processor(), "python": platform.python_version(),
        "versions": versions(PACKAGES),
    }


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Of each package; None where it isn't installed."""
    found: dict[str, str | None] = dict.fromkeys(packages)
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def asked_of_a_card(name: str, about: str, arguments: Sequence[str] | None = None) -> argparse.Namespace | None:
    """The command line of a script that only measures a card: `--out`. None, and a sentence, where there is no card."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args(arguments)
    if this_machine().kind == "cuda":
        return asked
    print("There is no CUDA card here.", file=sys.stderr)
    return None


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned text, a row a line."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in cells)


def spread(of: str, found: Mapping[tuple[str, str], Sequence[float]], digits: int) -> list[dict[str, Any]]:
    """A row for each (one, what) that was measured several times: its median, least and most, which are printed too.
    `of` names what the ones are.
    """
    rows = [{of: one, "what": what, "median": statistics.median(some), "least": min(some), "most": max(some)}
            for (one, what), some in found.items()]
    kinds = ("median", "least", "most")
    print(table([of, "", *kinds],
                [[row[of], row["what"], *(f"{row[kind]:.{digits}f}" for kind in kinds)] for row in rows]))
    return rows


def write(name: str, figures: Any, folder: Path | None = None) -> Path:
    """The figures as JSON, with their circumstances; among the results where no other folder is named."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**circumstances(), "figures": figures}, indent=2) + "\n", encoding="utf-8")
    return path


def quietly() -> None:
    """Only the figures are of interest here, not what the libraries say of their versions."""
    from transformers.utils import logging as transformers_logging

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _processor() -> str:
    """The processor's name where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def told_by_driver(fields: str) -> list[str]:
    """What NVIDIA's driver says of each card, a line a card; nothing where there is none."""
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    return [] if answer.returncode else [line.strip() for line in answer.stdout.splitlines() if line.strip()]
