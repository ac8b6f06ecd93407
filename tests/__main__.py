"""`python -m tests [--slow] [pytest's arguments]`: installs what the tests need, lints, and runs them."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests import chromium

ROOT = Path(__file__).parent.parent


def main() -> int:
    """The exit status of what failed, or 0; 2 where no browser could be had."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--slow", action="store_true", help="run the slow tests as well")
    asked, for_pytest = parser.parse_known_args()
    try:
        os.environ["CHROMIUM"] = chromium.find_or_install()
    except FileNotFoundError as problem:
        print(problem, file=sys.stderr)
        return 2
    failed = run("pip", "install", "--quiet", "--disable-pip-version-check", "-r", "tests/requirements.txt")
    if failed:
        return failed
    lint = run("ruff", "check", ".")
    # pyproject.toml leaves the slow tests out; the last -m wins, and an empty one takes all.
    return run("pytest", *(["-m", ""] if asked.slow else []), *for_pytest) or lint


def run(*module: str) -> int:
    """The exit status of `python -m module`, run in the project's folder."""
    return subprocess.run([sys.executable, "-m", *module], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
