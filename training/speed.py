"""How long runs really took on this machine against the guess, kept for the next plan."""

from __future__ import annotations

import json
import os
from pathlib import Path

from phi3.machine import Machine
from training.config import RunConfig

FILE = "speeds.json"


def slower_than_guessed(home: Path, machine: Machine, config: RunConfig) -> float | None:
    """How many times as long as guessed the last such run took; None where none was finished here."""
    value = _read(home / FILE).get(_kind(machine, config))
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def keep(home: Path, machine: Machine, config: RunConfig, slower: float) -> None:
    """Note it for the next plan; whole or not at all."""
    path = home / FILE
    noted = {**_read(path), _kind(machine, config): round(slower, 4)}
    arriving = path.with_name(f".{FILE}.{os.getpid()}")
    arriving.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
    arriving.replace(path)


def _kind(machine: Machine, config: RunConfig) -> str:
    """Runs that are equally far from the guess: on one machine, base and method."""
    saving = "checkpointing" if config.gradient_checkpointing else "plain"
    return f"{machine.name}, {machine.threads} threads: {config.base}, {config.method}, {saving}"


def _read(path: Path) -> dict[str, object]:
    """What was noted; a file that is missing or damaged only costs the correction."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
