"""Where a run overfits: it stops early and goes back, or its checkpoint of lowest loss becomes an adapter."""

import json

import pytest

from adapters.check import check
from adapters.library import Library
from phi3.models import EMBEDDED, load_base
from tests.conftest import ROOT
from tests.staged import overfitted
from tests.test_script import loss_by_script
from training.checkpoint import CHECKPOINTS, seal
from training.config import RunConfig
from training.data import read_data
from training.lowest import adapter_of, better_checkpoint
from training.run import Run
from training.runs import Runs
from training.runs_terminal import in_words
from training.train import run_lease
from training.verdict import Overfit, lowest_of, since_lowest

# Few rows, learned by heart at a high rate: held-out loss falls, then rises.
BY_HEART = {"learning_rate": 5e-3, "r": 16, "lora_dropout": 0.0, "per_device_train_batch_size": 8, "eval_steps": 3,
            "max_steps": 30, "base": EMBEDDED, "held_out": 0.4, "warmup_steps": 0, "lr_scheduler_type": "constant"}


@pytest.fixture
def few(tmp_path):
    """Twenty rows whose answers follow from nothing."""
    words = [f"{first}{rest}" for first in "bdfg" for rest in ("ash", "ell", "ink", "oat", "urn")]
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(json.dumps({"messages": [
        {"role": "user", "content": word}, {"role": "assistant", "content": words[(7 * place + 3) % 20] * 3},
    ]}) for place, word in enumerate(words)), encoding="utf-8")
    return path


def run_of(home, data, **settings):
    config = RunConfig.from_settings({**BY_HEART, "name": "few", **settings})
    return Runs(home).create(config, read_data(data))


def test_the_lowest_is_the_earliest_of_equals_and_never_the_base():
    assert lowest_of([(0, 1.0)]) is None and since_lowest([(0, 1.0)]) == 0
    assert lowest_of([(0, 1.0), (5, 3.0), (10, 2.0), (15, 2.0), (20, 4.0)]) == (10, 2.0)
    assert since_lowest([(0, 1.0), (5, 3.0), (10, 2.0), (15, 2.0), (20, 4.0)]) == 2


@pytest.mark.parametrize(("method", "steps"), [("lora", 30), pytest.param("loralib", 48, marks=pytest.mark.slow)])
def test_the_checkpoint_before_it_overfitted_becomes_an_adapter(home, few, method, steps):
    run = run_of(home, few, method=method, max_steps=steps)
    end = run_lease(run)
    found = better_checkpoint(run)
    assert found and found.step < end.step == steps and f"overfits since step {found.step}" in end.values["verdict"]
    assert (run.folder / CHECKPOINTS / f"step-{found.step}").is_dir()
    made = adapter_of(run)
    assert made.name == f"few-step-{found.step}" and made.provenance["outcome"]["loss"] == round(found.lowest, 5)
    base = load_base(EMBEDDED, "fp32", "cpu")
    assert check(made.folder, base.facts, base).ok
    own = Library(home).get("few").folder / "adapter_model.safetensors"
    assert own.read_bytes() != (made.folder / "adapter_model.safetensors").read_bytes()


def test_it_stops_early_and_goes_back(home, few):
    run = run_of(home, few, early_stopping=3)
    end = run_lease(run)
    assert end.type == "finished" and end.step < 30
    losses = [(event.step, event.values["loss"]) for event in run.course() if event.type == "evaluated"]
    lowest = lowest_of(losses)
    assert end.values["went_back_to"] == lowest[0] == end.step - 9 and end.values["loss"] == lowest[1]
    assert "overfits" not in end.values["verdict"] and run.state() == "finished"
    checkpoint = run.folder / CHECKPOINTS / f"step-{lowest[0]}" / "adapter_model.safetensors"
    from safetensors.torch import load_file

    kept, made = load_file(checkpoint), load_file(Library(home).get("few").folder / "adapter_model.safetensors")
    assert kept.keys() == made.keys() and all(kept[name].equal(made[name]) for name in kept)


def test_one_that_was_interrupted_after_it_stopped_early_makes_no_step_more_unless_it_is_given_some(home, few):
    class Interrupted(Run):
        """A run whose trainer ends when all but its last word is said."""

        def append(self, kind, step=None, **values):
            if kind == "finished":
                raise KeyboardInterrupt
            return super().append(kind, step, **values)

    run = run_of(home, few, early_stopping=1, save_steps=3)
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder))
    losses = [(event.step, event.values["loss"]) for event in run.course() if event.type == "evaluated"]
    assert since_lowest(losses) == 1
    end = run_lease(run)
    assert (end.type, end.step, end.values["went_back_to"]) == ("finished", losses[-1][0], lowest_of(losses)[0])
    assert Runs(home).resume(run, max_steps=29) and run_lease(run).step == end.step + 3


@pytest.mark.slow
def test_the_script_of_a_run_stops_early_and_goes_back_as_well(home, few, tmp_path):
    run = run_of(home, few, early_stopping=3)
    end = run_lease(run).values
    (tmp_path / "phi3").symlink_to(ROOT / "phi3")
    assert loss_by_script(run, tmp_path) == pytest.approx(end["loss"], rel=0.02)


@pytest.mark.slow
def test_a_look_at_it_where_somebody_stopped_it_makes_it_stop_early_no_sooner(home, few, monkeypatch):
    straight = run_lease(run_of(home, few, early_stopping=3))
    run = run_of(home, few, early_stopping=3, name="halted")
    stop = straight.values["went_back_to"] + 1
    with monkeypatch.context() as patched:
        patched.setattr(Run, "is_asked_to_stop", lambda self: self.last_event().step == stop - 1)
        halted = run_lease(run)
    assert halted.type == "stopped" and halted.step == stop
    end = run_lease(run)
    assert (end.type, end.step, end.values["went_back_to"]) == \
        ("finished", straight.step, straight.values["went_back_to"])
    one, other = (Library(home).get(name).folder / "adapter_model.safetensors" for name in ("few", "halted"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("went_back", "better"), [({}, 10), ({"went_back_to": 10}, None)])
def test_a_run_that_went_back_by_itself_is_offered_nothing_better(home, chats, went_back, better):
    run = run_of(home, chats)
    overfitted(run)
    kept = run.folder / CHECKPOINTS / "checkpoint-10"
    kept.mkdir(parents=True)
    seal(kept, 10)
    run.append("finished", 35, adapter="few", steps=35, **went_back)
    found = better_checkpoint(run)
    assert found == (better and Overfit(10, 1.0, 2.0))


def test_a_terminal_says_that_a_run_stopped_early_and_lists_the_loss_of_the_adapter_that_it_is(home, chats):
    run = run_of(home, chats, early_stopping=3)
    overfitted(run)
    assert run.summary()["loss"] == 2.0
    end = run.append("finished", 35, adapter="few", steps=35, seconds=9.0, loss_before=3.0, loss=1.0, went_back_to=10)
    assert run.summary()["loss"] == 1.0
    assert in_words(end) == ("Finished after 9 s: few. Held-out loss 3.0000 → 1.0000. That loss fell no further, so "
                             "it stopped early and is the adapter of step 10.")


def test_a_run_that_did_not_overfit_has_nothing_to_go_back_to(home, chats):
    run = run_of(home, chats, max_steps=4, eval_steps=2)
    run_lease(run)
    assert better_checkpoint(run) is None
    with pytest.raises(ValueError, match="no checkpoint from before it overfitted"):
        adapter_of(run)
