"""Runs beside each other from a terminal: a group is trained one after another, compared, and stopped with Ctrl-C."""

import json
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.staged import StagedRun
from training.config import RunConfig
from training.data import read_data
from training.group import group_of
from training.runs import Beginning, Runs

QUICK = ["--max_steps", "2", "--eval_steps", "500", "--save_steps", "500", "--r", "4", "--name", "mine"]


@pytest.mark.slow
def test_a_group_is_trained_told_and_compared_again(terminal, home, chats, small_base):
    ran = terminal("training", "run", "--data", str(chats), "--base", str(small_base), *QUICK, "--json",
                   "--try", "learning_rate=1e-3,3e-3")
    assert ran.returncode == 0, ran.stderr
    *ended, whole = map(json.loads, ran.stdout.splitlines())
    assert [event["type"] for event in ended] == ["finished"] * 2 and whole["type"] == "compared"
    assert [event["adapter"] for event in ended] == ["mine-0.001", "mine-0.003"]
    assert whole["differing"] == {"learning_rate": [0.001, 0.003]}
    assert [run["loss"] for run in whole["runs"]] == [event["loss"] for event in ended]
    assert whole["best"] == min(whole["runs"], key=lambda run: run["loss"])["run"]
    assert whole["runs"][0]["measures"] and whole["runs"][0]["peak_bytes"] > 0 and whole["runs"][0]["held_out"] == 4

    ids = [run["run"] for run in whole["runs"]]
    runs = [Runs(home).get(one) for one in ids]
    assert [group_of(run).place for run in runs] == [1, 2] and group_of(runs[0]).id == group_of(runs[1]).id
    assert json.loads(terminal("training", "compare", *ids, "--json").stdout) == whole
    told = terminal("training", "compare", ids[1]).stdout
    assert "A mine-0.001" in told and "learning_rate" in told and whole["sentence"] in told


@pytest.mark.slow
def test_a_run_that_fails_takes_no_other_with_it(terminal, home, chats, small_base):
    chats.write_text(chats.read_text(encoding="utf-8").replace("Say", "Say, if you please,"), encoding="utf-8")
    ran = terminal("training", "run", "--data", str(chats), "--base", str(small_base), *QUICK,
                   "--try", "max_length=16,256")
    assert ran.returncode == 2
    assert "1 of 2: mine-16, max_length 16" in ran.stdout and "2 of 2: mine-256, max_length 256" in ran.stdout
    states, = (line.split() for line in ran.stdout.splitlines() if line.startswith("State"))
    assert states == ["State", "failed", "finished"]
    assert ran.stderr.splitlines()[-1].startswith("mine-16: No conversation has an answer within max_length")


def two_begun(chats, small_base, max_steps):
    """The process that trains a group of two runs."""
    command = [sys.executable, "-m", "training", "run", "--data", str(chats), "--base", str(small_base), *QUICK,
               "--max_steps", str(max_steps), "--try", "r=4,8"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_ctrl_c_stops_the_run_and_begins_no_other(home, chats, small_base):
    with two_begun(chats, small_base, max_steps=100_000) as training:
        next(line for line in training.stdout if line.startswith("step 1 "))
        training.send_signal(signal.SIGINT)
        last = list(training.stdout)[-1]
        assert "no other run begins" in training.stderr.read()
    assert training.returncode == 0 and last.startswith("Stopped after")
    assert [run.state() for run in Runs(home).all()] == ["stopped"]


@pytest.mark.slow
def test_ctrl_c_while_a_group_waits_for_another_run_begins_no_other(home, chats, small_base):
    with two_begun(chats, small_base, max_steps=1) as training:
        next(line for line in training.stdout if line.startswith("step 1 "))
        other = Runs(home).create(RunConfig(name="other"), read_data(chats), beginning=Beginning("beside others"))
        next(line for line in training.stdout if line.startswith(f"Waiting until {other.id}"))
        training.send_signal(signal.SIGINT)
        next(line for line in training.stderr if "no other run begins" in line)
        assert training.wait(30) == 0
    assert {run.config.name: run.state() for run in Runs(home).all()} == {"other": "preparing", "mine-4": "finished"}


@pytest.mark.parametrize(("arguments", "said"), [
    (["run", "--data", "CHATS", "--try", "r=8"], "Rank (r) is '8', and needs at least two different values"),
    (["run", "--data", "CHATS", "--try", "held_out=0.1,0.2"],
     "Held-out share (held_out) can't be tried with several values"),
    (["compare", "nowhere", "elsewhere"], "There is no run nowhere."),
    (["compare", "RUN"], "1 run is named, and 2 to 6 can be compared."),
    (["compare", "RUN", "RUN"], "A run can't be compared with itself."),
])
def test_what_the_user_can_mend_is_one_sentence(terminal, home, chats, arguments, said):
    run = StagedRun(home).run
    given = {"CHATS": str(chats), "RUN": run.id}
    ended = terminal("training", *[given.get(one, one) for one in arguments])
    assert ended.returncode == 2 and ended.stdout == ""
    assert said in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert [one.id for one in Runs(home).all()] == [run.id]
