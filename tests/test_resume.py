"""Interrupted runs that go on: the same adapter, byte for byte, wherever they were interrupted."""

import json
import math
import random
import signal
import subprocess
import time

import pytest

from adapters.library import Library
from tests.interrupted import Interrupted
from training import lease
from training.checkpoint import newest
from training.config import RunConfig
from training.data import read_data
from training.run import Run
from training.runs import Runs

SETTINGS = {"max_steps": 12, "eval_steps": 4, "save_steps": 5, "learning_rate": 5e-3, "r": 4, "lora_dropout": 0.1,
            "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


@pytest.fixture(scope="module")
def studio(tmp_path_factory, small_base):
    """Makes runs in one studio of this file, and remembers the adapter of each uninterrupted one."""
    return Studio(tmp_path_factory.mktemp("resumed"), small_base)


class Studio:
    """Runs over the same forty conversations."""

    def __init__(self, home, base):
        self.home, self.base, self.straight = home, base, {}
        self.chats = home / "chats.jsonl"
        self.chats.write_text("\n".join(json.dumps({"messages": [
            {"role": "user", "content": f"Say {number}."},
            {"role": "assistant", "content": f"Arr, {number}, matey!"}]}) for number in range(40)), encoding="utf-8")

    def run(self, name, **settings):
        config = RunConfig.from_settings({**SETTINGS, "name": name, "base": str(self.base), **settings})
        return Runs(self.home).create(config, read_data(self.chats))

    def bytes_of(self, name):
        return (Library(self.home).get(name).folder / "adapter_model.safetensors").read_bytes()

    def uninterrupted(self, method):
        from training.train import run_lease

        if method not in self.straight:
            run_lease(self.run(f"straight-{method}", method=method))
            self.straight[method] = self.bytes_of(f"straight-{method}")
        return self.straight[method]


@pytest.mark.parametrize(("method", "after"), [
    ("lora", 1), ("lora", 9), ("lora", 14), ("qlora", 14),
    pytest.param("qlora", 1, marks=pytest.mark.slow), pytest.param("qlora", 9, marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_with_the_same_bytes(studio, method, after):
    from training.train import Lease, run_lease

    wanted = studio.uninterrupted(method)
    run = studio.run(f"cut-{method}-{after}", method=method)
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder, after), Lease(checkpoint_every=0))
    assert run.state() == "interrupted"
    assert run_lease(run).type == "finished"
    assert studio.bytes_of(run.config.name) == wanted


@pytest.mark.parametrize("method", ["lora", pytest.param("loralib", marks=pytest.mark.slow)])
def test_a_run_interrupted_after_its_last_step_makes_no_step_more(studio, method):
    from training.train import run_lease

    asked = {"method": method, "max_steps": 6, "eval_steps": 100, "lr_scheduler_type": "constant"}
    straight = studio.run(f"whole-{method}", **asked)
    run_lease(straight)
    run = studio.run(f"cut-at-its-end-{method}", **asked)
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder, len(straight.events()) - 2))
    assert [event.type for event in run.events()][-1] == "checkpointed" and run.events()[-1].step == 6
    end = run_lease(run)
    assert (end.type, end.step) == ("finished", 6)
    assert studio.bytes_of(run.config.name) == studio.bytes_of(straight.config.name)


@pytest.mark.slow
def test_a_base_held_in_four_bits_ends_with_the_same_bytes_too(studio, monkeypatch):
    from training import plan
    from training.train import Lease, run_lease

    monkeypatch.setitem(plan.EXPANDED_SHARE, "cpu", 0.0)
    run_lease(studio.run("straight-4-bits", method="qlora"))
    cut = studio.run("cut-4-bits", method="qlora")
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(cut.folder, 9), Lease(checkpoint_every=0))
    run_lease(cut)
    assert json.loads((cut.folder / "plan.json").read_text())["expanded"] is False
    assert studio.bytes_of("cut-4-bits") == studio.bytes_of("straight-4-bits")


def test_what_a_resume_has_undone_is_no_part_of_the_course(studio):
    from training.train import run_lease

    run = studio.run("undone", save_steps=5)
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder, 14))  # after step 8, whose newest checkpoint is of step 5
    assert max(event.step or 0 for event in run.events()) > 5
    run_lease(run)
    resumed = next(event for event in run.events() if event.type == "resumed")
    assert resumed.step == 5 and resumed.values["checkpoint"] == "step-5" and resumed.values["skipped"] == []
    steps = [event.step for event in run.course() if event.type == "step"]
    assert steps == list(range(1, 13))
    assert [event.step for event in run.course() if event.type == "evaluated"] == [0, 4, 8, 12]
    seconds = [event.values["seconds"] for event in run.course() if event.type == "step"]
    assert seconds == sorted(seconds)
    end = run.events()[-1].values
    assert end["loss_before"] == next(event for event in run.course() if event.type == "evaluated").values["loss"]


def test_a_damaged_newest_checkpoint_is_skipped_and_named(studio):
    from training.train import run_lease

    wanted = studio.uninterrupted("lora")
    run = studio.run("damaged")
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder, 22))
    checkpoints = run.folder / "checkpoints"
    assert [one.name for one in sorted(checkpoints.iterdir())] == ["step-10", "step-4", "step-5"]  # of step 4, the loss
    with (checkpoints / "step-10" / "optimizer.pt").open("r+b") as file:
        file.write(b"something else")
    run_lease(run)
    resumed = next(event for event in run.events() if event.type == "resumed")
    assert resumed.step == 5 and resumed.values["skipped"] == ["step-10: optimizer.pt is damaged"]
    assert studio.bytes_of("damaged") == wanted


def test_a_lease_ends_before_its_time_is_over_and_the_next_one_goes_on(studio):
    from training.train import Lease, run_lease

    run = studio.run("leased", max_steps=100_000, eval_steps=100_000, save_steps=100_000)
    begun = Lease(seconds=8)
    end = run_lease(run, begun)
    assert end.type == "lease_ended" and end.values["reason"] == "time" and run.state() == "paused"
    assert 0 < begun.left() < 8
    assert newest(run.folder / "checkpoints")[0].step == end.step > 0
    run.ask_to_stop()
    assert run_lease(run).type == "stopped"
    assert run.events()[-1].step == end.step + 1


def test_a_stopped_run_goes_on_to_its_planned_end(studio):
    from training.train import run_lease

    wanted = studio.uninterrupted("lora")
    run = studio.run("stopped")
    run.ask_to_stop()
    assert run_lease(run).type == "stopped"
    assert Library(studio.home).get("stopped").provenance["outcome"]["steps"] == 1
    assert Runs(studio.home).resume(run)
    assert run_lease(run).type == "finished"
    assert studio.bytes_of("stopped") == wanted


def test_a_finished_run_needs_no_resume_but_can_be_given_more_steps(studio):
    from training.train import run_lease

    run, runs = studio.run("longer", max_steps=4), Runs(studio.home)
    run_lease(run)
    assert not runs.resume(run)
    with pytest.raises(ValueError, match="learning_rate can't change"):
        runs.resume(run, learning_rate=1.0)
    assert runs.resume(run, max_steps=6)
    end = run_lease(run)
    assert end.type == "finished" and end.step == 6
    # The first step more has the rate of the longer schedule, too: at the end of the shorter one it was 0.
    rates = [event.values["learning_rate"] for event in run.course() if event.type == "step"]
    assert rates[4:] == pytest.approx([5e-3 * (1 + math.cos(math.pi * share)) / 2 for share in (0.6, 0.8)])
    assert Runs(studio.home).get(run.id).config.max_steps == 6
    with pytest.raises(ValueError, match=r"has made 6 steps, .* already\. Ask for more than that"):
        runs.resume(run, max_steps=5)
    with pytest.raises(ValueError, match=r"has made 6 steps, .* already\. Ask for more than that"):
        runs.resume(run, num_train_epochs=0.01)
    assert run.state() == "finished" and Runs(studio.home).get(run.id).config.num_train_epochs == 3


def test_a_run_that_is_held_can_not_be_resumed(studio):
    run = studio.run("held")
    run.append("started", base="b", method="lora", device="cpu", steps=1, trainable_parameters=1, pid=1)
    script = ("import sys, pathlib\nfrom training.run import Run\n"
              "with Run(pathlib.Path(sys.argv[1])).held():\n    print('held', flush=True); sys.stdin.read()")
    import sys

    with subprocess.Popen([sys.executable, "-c", script, str(run.folder)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="being trained already"):
            Runs(studio.home).resume(run)
        holder.stdin.close()
    assert run.state() == "interrupted"


def test_half_a_last_line_is_no_event_and_the_run_goes_on(studio):
    from training.train import run_lease

    wanted = studio.uninterrupted("lora")
    run = studio.run("torn")
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder, 12))
    path = run.folder / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-25])
    assert run.state() == "interrupted"
    run_lease(run)
    assert studio.bytes_of("torn") == wanted


def killed_at(run: Run, count: int) -> None:
    """Train in a process of its own, and kill it as soon as it has said so much."""
    lease.start(run)
    for seen, event in enumerate(run.follow(0.01), 1):
        if event.type in ("started", "resumed"):
            pid = event.values["pid"]
        if seen >= count:
            subprocess.run(["kill", f"-{int(signal.SIGKILL)}", str(pid)], check=False)
            break
    deadline = time.monotonic() + 30
    while run.state() == "running" and time.monotonic() < deadline:
        time.sleep(0.02)


def killed_and_resumed(studio: Studio, method: str, seed: int) -> None:
    from training.train import run_lease

    wanted = studio.uninterrupted(method)
    run = studio.run(f"killed-{method}-{seed}", method=method)
    killed_at(run, random.Random(seed).randint(2, 24))
    assert run.state() == "interrupted"
    run_lease(run)
    assert studio.bytes_of(run.config.name) == wanted


@pytest.mark.parametrize(("method", "seed"), [("lora", 1), pytest.param("qlora", 2, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_same_bytes(studio, method, seed):
    killed_and_resumed(studio, method, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 22))
def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(studio, seed):
    killed_and_resumed(studio, ("lora", "qlora")[seed % 2], seed)
