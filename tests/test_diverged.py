"""A training whose numbers are none any more: it ends there, and keeps what was good before."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.library import Library
from tabs.progress import progress_of
from tabs.run_view import outcome
from training.checkpoint import CHECKPOINTS
from training.data import LESSON
from training.run import ADAPTER
from training.runs_terminal import in_words
from training.train import run_lease
from training.trainer import Trainer
from training.verdict import lowest_of

SETTINGS = {"r": 4, "per_device_train_batch_size": 4, "learning_rate": 2e-3, "max_steps": 12, "eval_steps": 3,
            "max_length": 128}


@pytest.fixture
def diverges_at(monkeypatch):
    """From this step on what is learned are no numbers, as after gradients that grew beyond all bounds."""
    plain = Trainer.training_step

    def at(number, after=False):
        def step(self, model, *given):
            if self.state.global_step + 1 != number:
                return plain(self, model, *given)
            loss = plain(self, model, *given) if after else None
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.requires_grad:
                        weight.fill_(torch.nan)
            return plain(self, model, *given) if loss is None else loss

        monkeypatch.setattr(Trainer, "training_step", step)

    return at


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def strictly(run) -> list[dict]:
    """The events' lines, as a reader takes them that knows no NaN."""
    def refused(word):
        raise AssertionError(word)

    return [json.loads(line, parse_constant=refused)
            for line in (run.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("method", ["lora", pytest.param("loralib", marks=pytest.mark.slow)])
def test_it_ends_there_and_is_the_adapter_of_lowest_held_out_loss(new_run, home, diverges_at, method):
    diverges_at(8)
    run = new_run("mine", method=method)
    end = run_lease(run)
    assert end.type == "finished" and end.step == end.values["diverged_at"] == 8
    lowest = lowest_of([(one.step, one.values["loss"]) for one in run.course() if one.type == "evaluated"])
    assert end.values["went_back_to"] == lowest[0] in (3, 6) and end.values["loss"] == lowest[1]
    assert end.values["check"]["ok"] and [one["step"] for one in strictly(run) if one["type"] == "step"][-1] == 7
    made = weights_of(Library(home).get("mine").folder)
    assert all(weight.isfinite().all() for weight in made.values())
    if method == "lora":
        saved = weights_of(run.folder / CHECKPOINTS / f"step-{lowest[0]}")
        assert made.keys() == saved.keys() and all(made[name].equal(saved[name]) for name in made)
    said = in_words(end)
    assert "at step 8 its loss was no number any more" in said and "try 0.0002" in said
    shown = outcome(progress_of(run, run.course(), run.state()))
    assert f"the adapter of step {lowest[0]}" in shown and "try 0.0002" in shown


def test_a_lesson_is_the_newest_that_was_saved_since_it_knows_the_most_corrections(new_run, home, diverges_at):
    diverges_at(5)
    run = new_run("mine", save_steps=1)
    about = json.loads((run.folder / "data.json").read_text(encoding="utf-8"))
    (run.folder / "data.json").write_text(json.dumps({**about, "kind": LESSON}), encoding="utf-8")
    assert run.is_lesson and run_lease(run).values["went_back_to"] == 4


def test_without_held_out_rows_it_is_the_newest_that_was_saved(new_run, home, diverges_at):
    diverges_at(5)
    run = new_run("mine", held_out=0, save_steps=1)
    end = run_lease(run)
    assert (end.values["diverged_at"], end.values["went_back_to"], end.values["loss"]) == (5, 4, None)
    saved, made = weights_of(run.folder / CHECKPOINTS / "step-4"), weights_of(run.folder / ADAPTER)
    assert all(made[name].equal(saved[name]) for name in saved) and strictly(run)


def test_what_is_no_number_never_takes_a_good_checkpoints_place(new_run, home, diverges_at):
    diverges_at(5, after=True)  # its loss was one, and what it made of the weights is none
    run = new_run("mine", held_out=0, save_steps=1, logging_steps=100)
    end = run_lease(run)
    assert (end.values["diverged_at"], end.values["went_back_to"]) == (5, 4)
    assert sorted(one.name for one in (run.folder / CHECKPOINTS).iterdir()) == ["step-3", "step-4"]


def test_what_is_no_number_is_not_asked_what_it_says(new_run, home, diverges_at):
    diverges_at(5, after=True)
    run = new_run("mine", held_out=0, save_steps=2, eval_steps=1, logging_steps=100)
    end = run_lease(run)
    assert (end.values["diverged_at"], end.values["went_back_to"]) == (5, 4)
    assert [one.step for one in run.events() if one.type == "sampled"] == [0, 1, 2, 3, 4]


def test_a_last_look_that_finds_no_number_goes_back_and_asks_nothing(new_run, home, monkeypatch):
    plain = Trainer.evaluate

    def damaged(self, *given, **named):
        if self.state.global_step == 4:
            with torch.no_grad():
                for weight in self.model.parameters():
                    if weight.requires_grad:
                        weight.fill_(torch.nan)
        return plain(self, *given, **named)

    monkeypatch.setattr(Trainer, "evaluate", damaged)
    run = new_run("mine", save_steps=1)
    monkeypatch.setattr(type(run), "is_asked_to_stop", lambda self: len([
        one for one in self.course() if one.type == "step"]) >= 3)  # after step 4, which is logged later
    end = run_lease(run)
    assert (end.type, end.values["diverged_at"], end.values["went_back_to"]) == ("stopped", 4, 3)
    assert [one.step for one in run.events() if one.type == "sampled"] == [0, 3]


def test_asked_to_stop_at_that_step_it_keeps_what_was_good(new_run, home, diverges_at, monkeypatch):
    diverges_at(5)
    run = new_run("mine", held_out=0, save_steps=1)
    monkeypatch.setattr(type(run), "is_asked_to_stop", lambda self: len([
        one for one in self.course() if one.type == "step"]) >= 4)
    end = run_lease(run)
    assert all(weight.isfinite().all() for weight in weights_of(Library(home).get("mine").folder).values())
    assert end.values.get("went_back_to", end.step) == 4


def test_where_nothing_was_saved_it_fails_with_what_to_do(new_run, diverges_at):
    diverges_at(2)
    run = new_run("mine", learning_rate=0.1)
    with pytest.raises(ValueError, match=r"at step 2 its loss was no number any more .* nothing had been saved"):
        run_lease(run)
    failed = strictly(run)[-1]
    assert failed["type"] == "failed" and "it was 0.1; try 0.0" in failed["message"]


def test_a_base_that_computes_none_is_told_before_the_first_step(new_run, small_base):
    weights = next(small_base.glob("*.safetensors"))
    whole = load_file(weights)
    name = next(name for name in whole if name.endswith("o_proj.weight"))
    damaged = {**whole, name: torch.full_like(whole[name], torch.nan)}
    kept = weights.read_bytes()
    try:
        save_file(damaged, weights, metadata={"format": "pt"})
        run = new_run("mine")
        with pytest.raises(ValueError, match=r"Before the first step its loss .* is no number"):
            run_lease(run)
    finally:
        weights.write_bytes(kept)
    assert not any(one["type"] == "step" for one in strictly(run))
