"""Finds a Chromium or Chrome for the browser tests, and installs the system's own where there is none."""

import os
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find() -> str | None:
    """The browser's path: `CHROMIUM` where it is set, else the first of the usual names."""
    asked = os.environ.get("CHROMIUM")
    if asked:
        return shutil.which(asked)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or (str(MAC) if MAC.exists() else None)


def find_or_install() -> str:
    """The browser's path, after an `apt-get install chromium` where that is needed and allowed.

    FileNotFoundError says what to do where the system's packages are out of reach.
    """
    found = find()
    if not found and not os.environ.get("CHROMIUM"):
        _install_with_apt()
        found = find()
    if not found:
        raise FileNotFoundError("The browser tests found no Chromium or Chrome and could not install one. "
                                "Install either, or set CHROMIUM to its path, and run the tests again.")
    return found


def _install_with_apt() -> None:
    """As root, or with a sudo that asks nothing; elsewhere nothing happens, and the caller says so."""
    if not shutil.which("apt-get"):
        return
    may = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if may and not shutil.which("sudo"):
        return
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdin": subprocess.DEVNULL,
             "stdout": subprocess.DEVNULL}
    subprocess.run([*may, "apt-get", "update", "-qq"], check=False, **quiet)
    subprocess.run([*may, "apt-get", "install", "-qq", "-y", "chromium"], check=False, **quiet)
