"""Turns of a lent GPU: a run goes on from turn to turn, waits where none is lent, and leaves the base alone."""

import dataclasses
import subprocess
import sys

import pytest

from adapters.library import Library
from phi3.lending import Refused, refusal_of
from phi3.models import base_facts, load_base, quantised
from training import lease
from training.config import RunConfig
from training.data import read_data
from training.run import SECONDS_TO_BEGIN, Event
from training.runs import Runs

SETTINGS = {"max_steps": 6, "eval_steps": 3, "save_steps": 2, "learning_rate": 5e-3, "r": 4, "lora_dropout": 0.1,
            "per_device_train_batch_size": 4}


# Another process that takes a run's lock when it is told to, until nothing more comes.
HOLD = """import fcntl, sys
sys.stdin.readline()
with open(sys.argv[1], "a") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


class Turns:
    """Lends nothing but what it was told: each turn an error, or a trainer that stops after so many events."""

    def __init__(self, runs, base, *ends):
        self.runs, self.base, self.ends, self.asked = runs, base, list(ends), []

    def __call__(self, run_id, seconds):
        self.asked.append(seconds)
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, Exception):
            raise end
        if isinstance(end, int):
            self.killed(run_id, end)
        lease.train_within(self.base, self.runs.get(run_id), seconds)

    def killed(self, run_id, after):
        """What a killed worker leaves behind: its events so far, and no word about its end."""
        from tests.test_resume import Interrupted
        from training.train import Lease, run_lease

        with pytest.raises(KeyboardInterrupt):
            run_lease(Interrupted(self.runs.get(run_id).folder, after), Lease(checkpoint_every=0), self.base)
        raise refused("GPU task aborted")


def refused(said: str) -> Refused:
    return Refused(refusal_of(said))


@pytest.fixture
def runs(home):
    return Runs(home)


@pytest.fixture(scope="module")
def base(small_base):
    return load_base(base_facts(str(small_base)).id)


@pytest.fixture
def new_run(runs, base, chats):
    return lambda name, **settings: runs.create(
        RunConfig.from_settings({**SETTINGS, "name": name, "base": base.facts.id, **settings}), read_data(chats))


def weights(runs, name):
    return (Library(runs.home).get(name).folder / "adapter_model.safetensors").read_bytes()


def test_turns_that_are_cut_off_or_killed_end_with_the_same_bytes(runs, base, new_run):
    lease.take(new_run("straight"), Turns(runs, base), 600)
    run = new_run("turns")
    lend = Turns(runs, base, 8, refused("Expired ZeroGPU proxy token"))
    killed = lease.take(run, lend, 600)
    assert (killed.state, killed.reason, killed.goes_on) == ("paused", "aborted", True) and killed.step == 2
    expired = lease.take(run, lend, 600)
    assert (expired.state, expired.reason, expired.goes_on) == ("paused", "token", False)
    short = lease.take(run, lend, 0)
    assert (short.state, short.reason, short.goes_on) == ("paused", "time", True) and short.step == 3
    done = lease.take(run, lend, 600)
    assert (done.state, done.step, done.goes_on) == ("finished", 6, False)
    assert weights(runs, "turns") == weights(runs, "straight")
    assert lease.take(run, lend, 600) == done


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_run_on_the_resident_base_is_a_run_on_a_loaded_one_and_leaves_it_as_it_was(runs, base, new_run, method):
    from training.train import run_lease

    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    config = base.model.config.to_dict()
    run_lease(new_run("loaded", method=method))
    lease.take(new_run("resident", method=method), Turns(runs, base), 600)
    assert weights(runs, "resident") == weights(runs, "loaded")
    assert base.model.config.to_dict() == config
    assert all((value == before[name]).all() for name, value in base.model.state_dict().items())
    assert not any("lora" in name for name, _ in base.model.named_modules())


def test_the_resident_base_in_four_bits_is_the_one_that_is_loaded_so(base, small_base):
    made, loaded = quantised(base).model.state_dict(), load_base(str(small_base), "nf4").model.state_dict()
    assert made.keys() == loaded.keys()
    assert all(made[name].dtype == loaded[name].dtype and (made[name] == loaded[name]).all() for name in made)


def test_a_run_waits_with_a_sentence_where_no_gpu_is_lent(runs, base, new_run):
    run = new_run("waiting")
    taken = lease.take(run, Turns(runs, base, refused("(90s requested vs. 3s left). Try again in 3:00:00.")), 60)
    end = run.events()[-1]
    assert (taken.state, taken.reason, taken.goes_on) == ("paused", "quota", False)
    assert end.values["again_in"] == "3:00:00" and end.values["message"] and end.values["advice"]
    assert runs.resume(run)


def test_what_is_left_of_the_quota_is_used(runs, base, new_run):
    lend = Turns(runs, base, refused("(90s requested vs. 45s left). Try again in 3:00:00."))
    assert lease.take(new_run("short"), lend, 60).state == "finished"
    assert lend.asked == [60, 30]


def test_a_turn_that_saved_nothing_is_not_followed_by_another(runs, base, new_run):
    taken = lease.take(new_run("stuck"), Turns(runs, base, refused("GPU task aborted")), 60)
    assert (taken.state, taken.reason, taken.goes_on) == ("paused", "aborted", False)


def test_whatever_else_goes_wrong_leaves_a_run_that_can_go_on(runs, base, new_run):
    run = new_run("broken")
    with pytest.raises(ConnectionError):
        lease.take(run, Turns(runs, base, ConnectionError("no route")), 60)
    assert run.state() == "paused" and run.events()[-1].values["reason"] == "refused"


def test_a_turn_that_comes_too_late_leaves_the_one_alone_that_trains(new_run):
    run = new_run("twice")

    def lend_late(run_id, seconds):
        holder.stdin.write("now\n")
        holder.stdin.flush()
        holder.stdout.readline()
        raise ValueError(f"The run {run_id} is being trained already.")

    command = [sys.executable, "-c", HOLD, str(run.folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        with pytest.raises(ValueError, match="is being trained already"):
            lease.take(run, lend_late, 60)
        assert run.state() == "preparing"


def test_a_stop_between_turns_ends_the_run_after_a_step(runs, base, new_run):
    run, lend = new_run("stopped"), Turns(runs, base)
    assert lease.take(run, lend, 0).reason == "time"
    run.ask_to_stop()
    assert lease.take(run, lend, 600).state == "stopped"
    assert Library(runs.home).has("stopped")


def test_a_run_for_another_base_is_refused(runs, base, new_run):
    other = dataclasses.replace(base, facts=dataclasses.replace(base.facts, id="another"))
    run = new_run("foreign")
    with pytest.raises(ValueError, match="only another is trained"):
        lease.take(run, Turns(runs, other), 60)
    assert run.state() == "failed"


class Ended:
    """A trainer's process that has ended."""

    def wait(self):
        return 0


def test_a_trainer_that_is_slow_to_end_does_not_fail_the_run_that_was_resumed_meanwhile(new_run, runs):
    run = new_run("slow-to-end")
    (run.folder / "log.txt").touch()
    before = len(run.events())
    run.append("finished", 2, adapter="slow-to-end", loss=None)
    runs.resume(run, max_steps=50)
    lease._watch(Ended(), run, before)
    assert run.state() == "preparing"
    lease._watch(Ended(), run, len(run.events()))
    assert run.state() == "failed" and "ended with code 0 before it began" in run.events()[-1].values["message"]


class Killed:
    """A trainer's process that the system ended."""

    def wait(self):
        return -9


def test_a_trainer_that_took_long_to_begin_and_was_killed_is_reported_all_the_same(new_run):
    run = new_run("crowded")
    (run.folder / "log.txt").touch()
    line = Event("created", run.id, run.events()[0].time - SECONDS_TO_BEGIN - 1).to_json()
    (run.folder / "events.jsonl").write_text(line + "\n")
    lease._watch(Killed(), run, 1)
    assert run.state() == "failed" and "out of memory?" in run.events()[-1].values["message"]


def test_a_worker_that_served_another_run_counts_the_memory_of_this_one_alone(base, new_run, monkeypatch):
    from training import train

    done = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda: done.append("counts anew"))
    monkeypatch.setattr(train, "run_lease", lambda *_: done.append("trains"))
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: done.append("gives back"))
    lease.train_within(base, new_run("second"), 60)
    assert done == ["counts anew", "trains", "gives back"]
