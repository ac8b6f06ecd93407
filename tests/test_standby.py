"""A process that has loaded everything becomes the next run's trainer; where there is none, a fresh one does."""

import signal
import subprocess
import sys
import time

import pytest

from adapters.library import Library
from training.standby import SECONDS_TO_SPARE, Standby

SETTINGS = {"max_steps": 3, "r": 2, "learning_rate": 5e-3, "per_device_train_batch_size": 4}


class Fresh:
    """Counts the trainers that were started anew, and starts none."""

    def __init__(self):
        self.asked = []

    def __call__(self, run):
        self.asked.append(run.id)
        return "a fresh one"


@pytest.fixture
def fresh():
    return Fresh()


@pytest.fixture
def standby(fresh):
    made = Standby(fresh)
    yield made
    leave(made)


def leave(standby):
    """Whoever might have named a run is gone."""
    process = standby._waiting
    if process:
        process.stdin.close()
        assert process.wait(60) in (0, -signal.SIGKILL)


def weights(home, name):
    return (Library(home).get(name).folder / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_whoever_stands_by_trains_what_a_fresh_trainer_does_and_logs_into_its_run(new_run, home, standby, fresh):
    from training import lease

    standby.call()
    usual = new_run("usual")
    lease.start(usual)
    assert [*usual.follow()][-1].type == "finished"
    sooner = new_run("sooner")
    process = standby.train(sooner)
    assert [*sooner.follow()][-1].type == "finished", sooner.log()
    assert process.wait(60) == 0 and not fresh.asked
    assert weights(home, "sooner") == weights(home, "usual")
    assert (sooner.folder / "log.txt").is_file()
    pid = next(event.values["pid"] for event in sooner.events() if event.type == "started")
    assert pid == process.pid


@pytest.mark.slow
def test_one_that_fails_to_begin_is_reported_in_its_run(new_run, standby):
    run = new_run("broken")
    (run.folder / "lock").unlink()
    (run.folder / "lock").mkdir()  # so the trainer dies before it can say anything
    standby.call()
    standby.train(run)
    end = [*run.follow()][-1]
    assert end.type == "failed" and "before it began" in end.values["message"]
    assert "IsADirectoryError" in end.values["log"]


def test_only_one_stands_by_and_it_trains_only_once(new_run, standby, fresh):
    run = new_run("only")
    assert standby.train(run) == "a fresh one"
    standby.call()
    first = standby._waiting
    standby.call()
    assert standby._waiting is first
    first.kill()
    first.wait()
    assert standby.train(run) == "a fresh one" and fresh.asked == [run.id, run.id]


@pytest.mark.slow
def test_one_that_is_about_to_leave_is_told_of_no_run(new_run, fresh):
    standby = Standby(fresh, seconds=SECONDS_TO_SPARE)
    standby.call()
    process = standby._waiting
    assert standby.train(new_run("late")) == "a fresh one"
    process.stdin.close()
    assert process.wait(60) == 0


def test_one_that_nobody_needs_leaves_by_itself():
    waits = subprocess.Popen([sys.executable, "-c", "from training.standby import awaited; print(awaited(0.2))"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    began = time.monotonic()
    assert waits.stdout.read() == "None\n" and time.monotonic() - began < 30
    waits.stdin.close()
    assert waits.wait(30) == 0
