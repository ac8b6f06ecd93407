"""`python -m tests [--slow] [pytest's arguments]`: installs what the tests need, lints, and runs them."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests import chromium

ROOT = Path(__file__).parent.parent


def main() -> int:
    """The exit status of the first step that failed, or 0; 2 where no browser could be had."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--slow", action="store_true", help="run the slow tests as well")
    asked, for_pytest = parser.parse_known_args()
    try:
        environment = {**os.environ, "CHROMIUM": chromium.find_or_install()}
    except FileNotFoundError as problem:
        print(problem, file=sys.stderr)
        return 2
    # pyproject.toml leaves the slow tests out; the last -m wins, and an empty one takes all.
    which = ["-m", ""] if asked.slow else []
    steps = (["pip", "install", "--quiet", "--disable-pip-version-check", "-r", "tests/requirements.txt"],
             ["ruff", "check", "."],
             ["pytest", *which, *for_pytest])
    for step in steps:
        command = [sys.executable, "-m", *step]
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
