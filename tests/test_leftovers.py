"""What a process that was killed leaves behind is removed, and nothing else."""

import signal
import subprocess
import sys
import time

import pytest

from adapters.library import Library
from tests.conftest import ROOT
from training.config import RunConfig
from training.data import read_data
from training.leftovers import SECONDS_UNTOUCHED, remove_leftovers
from training.runs import Runs

KILLED = """
import os, pathlib, signal, shutil, sys
from adapters import files
from adapters.library import Library
from training.config import RunConfig
from training.data import read_data
from training.runs import Runs

home, chats, made = map(pathlib.Path, sys.argv[2:])

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

match sys.argv[1]:
    case "run made":
        os.rename = pathlib.Path.rename = die
        Runs(home).create(RunConfig(name="other"), read_data(chats))
    case "run removed":
        shutil.rmtree = die
        Runs(home).delete(next(run for run in Runs(home).all() if run.config.name == "gone"))
    case "adapter made":
        pathlib.Path.rename = die
        Library(home).put("new", made, {"run": "x"})
    case "adapter replaced":
        shutil.rmtree = die
        Library(home).put("mine", made, {"run": "mine"})
"""


@pytest.mark.parametrize("when", ["run made", "run removed", "adapter made", "adapter replaced"])
def test_what_was_half_made_or_half_removed_goes_a_day_later(home, chats, made, when):
    for name in ("stays", "gone"):
        Runs(home).create(RunConfig(name=name), read_data(chats)).append("stopped")
    Library(home).put("mine", made, {"run": "mine"})
    before = {one.relative_to(home) for one in home.glob("*/*")}
    killed = subprocess.run([sys.executable, "-c", KILLED, when, str(home), str(chats), str(made)], cwd=ROOT,
                            check=False)
    assert killed.returncode == -signal.SIGKILL
    left, = {one.relative_to(home) for one in home.glob("*/*")} - before
    assert left.name.startswith(".") and any((home / left).iterdir())
    shown = [one.id for one in Runs(home).all()], Library(home).names()
    assert remove_leftovers(home) == [] and (home / left).is_dir()  # somebody may be at it still
    assert remove_leftovers(home, time.time() + SECONDS_UNTOUCHED + 60) == [left.name]
    assert not (home / left).exists() and ([one.id for one in Runs(home).all()], Library(home).names()) == shown


def test_what_travelled_goes_and_what_else_is_hidden_stays(home, chats):
    run = Runs(home).create(RunConfig(name="mine"), read_data(chats))
    for folder in (home / ".arriving-ab12", run.folder / ".leaving-ab12", home / "adapters" / ".fetching-ab12",
                   home / ".git", home / "runs" / ".ipynb_checkpoints", home / "adapters" / ".old"):
        folder.mkdir(parents=True)
    gone = remove_leftovers(home, time.time() + SECONDS_UNTOUCHED + 60)
    assert sorted(gone) == [".arriving-ab12", ".fetching-ab12", ".leaving-ab12"]
    assert run.folder.is_dir() and (home / ".git").is_dir() and (home / "adapters" / ".old").is_dir()
    assert (home / "runs" / ".ipynb_checkpoints").is_dir()
