"""Trains the adapters that ship beside the embedded Phi-3: `python -m training.examples.ship [pirate …]`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from adapters.files import WANTED
from adapters.library import PROVENANCE, SHIPPED_FOLDER
from training.examples.measures import NAMES


def main() -> None:
    """Train each with the default settings, as a visitor would, and put it in its place."""
    parser = argparse.ArgumentParser(prog="python -m training.examples.ship", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), help=f"which (default: {', '.join(NAMES)})")
    for name in parser.parse_args().names:
        with tempfile.TemporaryDirectory() as home:
            # The plain name belongs to the adapter that ships already.
            command = [sys.executable, "-m", "training", "run", "--data", name, "--name", f"new-{name}"]
            subprocess.run(command, check=True, env={**os.environ, "STUDIO_HOME": home})
            put(Path(home) / "adapters" / f"new-{name}", SHIPPED_FOLDER / name)


def put(made: Path, place: Path) -> None:
    """Copy the adapter, and how it was made without what changes from one making to the next."""
    place.mkdir(parents=True, exist_ok=True)
    for name in WANTED:
        shutil.copyfile(made / name, place / name)
    provenance = json.loads((made / PROVENANCE).read_text(encoding="utf-8"))
    provenance.pop("run")
    provenance["outcome"].pop("seconds")
    provenance["settings"]["name"] = place.name
    (place / PROVENANCE).write_text(json.dumps(provenance, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
