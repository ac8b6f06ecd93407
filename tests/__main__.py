"""`python -m tests [--slow] [pytest's arguments]`: installs what the tests need, lints, and runs them."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests import chromium

ROOT = Path(__file__).parent.parent
# A process of the tests has the browser, an app and its trainers: more of them need more memory than a laptop has.
MOST_AT_ONCE = 4


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
    return tested(asked.slow, for_pytest) or lint


def tested(slow: bool, for_pytest: list[str]) -> int:
    """The exit status of the fast tests, and of the slow ones after them, a file's tests on each core.

    Whoever has arguments for pytest wants to see one process with them. So does a card, which the tests would share.
    """
    # pyproject.toml leaves the slow tests out; the last -m wins, and an empty one takes all.
    if for_pytest:
        return run("pytest", *(["-m", ""] if slow else []), *for_pytest)
    at_once = 1 if shutil.which("nvidia-smi") else min(MOST_AT_ONCE, os.cpu_count() or 1)
    # In the order of their names, so that the browser's long files don't come last.
    beside = ["-n", str(at_once), "--dist", "loadfile", "--no-loadscope-reorder"] if at_once > 1 else []
    # Threads that wait for each other on cores that others use cost more than they gain.
    threads = {"OMP_NUM_THREADS": "1"} if beside else {}
    fast = run("pytest", *beside, **threads)
    return (run("pytest", "-m", "slow", *beside, **threads) if slow else 0) or fast


def run(*module: str, **environment: str) -> int:
    """The exit status of `python -m module`, run in the project's folder with these variables as well."""
    return subprocess.run([sys.executable, "-m", *module], cwd=ROOT, check=False,
                          env={**os.environ, **environment}).returncode


if __name__ == "__main__":
    sys.exit(main())
