"""A run to take away: adapter, settings, script and story in one zip file."""

from __future__ import annotations

import os
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from adapters.files import WANTED
from training import checkpoint
from training.run import ADAPTER, START, Run
from training.script import script_of

# Whoever asked for one has it by then; it holds conversations, and their run may be deleted.
SECONDS_KEPT = 3600


def pack(run: Run, folder: Path) -> Path:
    """Write the zip file into this folder, which holds parcels alone, whole or not at all, and return its path.

    The adapter is the finished one, else that of the newest whole checkpoint, else none; the rows are in it, since the
    script trains on them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old(folder)
    path = parcel_of(run.id, folder)
    number, arriving = tempfile.mkstemp(prefix=f".{run.id}.", dir=folder)
    try:
        with os.fdopen(number, "wb") as file, _zip_in(file) as parcel:
            parcel.writestr(f"{run.config.name}/train.py", script_of(run.config, "data.parquet", run.spares))
            for source, name in _files(run):
                parcel.write(source, f"{run.config.name}/{name}")
        Path(arriving).replace(path)
    except BaseException:
        Path(arriving).unlink()
        raise
    return path


def parcel_of(run_id: str, folder: Path) -> Path:
    """Where `pack` puts this run into the folder."""
    return folder / f"{run_id}.zip"


def _zip_in(file: BinaryIO) -> zipfile.ZipFile:
    # A file may seem older than zip files can say, where a clock was wrong.
    return zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False)


def _remove_old(folder: Path) -> None:
    """Those that were written long ago, of whatever run."""
    for path in folder.glob("*.zip"):
        with suppress(FileNotFoundError):  # another visitor's click was quicker
            if path.stat().st_mtime < time.time() - SECONDS_KEPT:
                path.unlink()


def _files(run: Run) -> Iterator[tuple[Path, str]]:
    """Each file and its name in the parcel."""
    for name in ("config.yaml", "data.parquet", "data.json", "plan.json", "events.jsonl", "evaluation.json"):
        if (run.folder / name).is_file():
            yield run.folder / name, name
    yield from ((path, f"{START}/{path.name}") for path in sorted((run.folder / START).glob("*")))
    adapter = run.folder / ADAPTER
    if not adapter.is_dir():
        found, _ = checkpoint.newest(run.folder / "checkpoints")
        adapter = found.folder if found else adapter
    # Optimizer and random state are for going on, not for taking away.
    yield from ((adapter / name, f"adapter/{name}") for name in WANTED if (adapter / name).is_file())
    # What loralib's own checkpoint holds: `python -m adapters convert` makes an adapter of it.
    yield from ((path, f"adapter/{path.name}") for path in sorted((adapter / "loralib").glob("lora.*")))
