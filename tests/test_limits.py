"""How much a visitor may: each limit answers in a sentence with its number, and old runs of nobody's name go."""

import shutil
import time
from collections import namedtuple

import pytest

from adapters.library import Library
from chat.vote import Vote, Votes
from phi3.machine import Machine
from tabs import openings
from tabs.studio import Studio
from tabs.visitor import Visitor
from training.config import RunConfig
from training.corrections import Correction, Corrections
from training.data import read_data
from training.limits import ONES_OWN, SECONDS_A_DAY, Limits, sweep
from training.owners import LOCAL, owner_by_key, owner_by_name
from training.runs import Beginning, Runs, lengthened
from training.turns import message

OWNER = owner_by_key("secret")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def data(chats):
    return read_data(chats)


def run_of(home, data, owner=OWNER, name=""):
    return Runs(home).create(RunConfig.from_settings({"name": name}), data, owner, beginning=Beginning("in turn"))


def check(limits, home, data, own=(), **settings):
    limits.check_run(RunConfig.from_settings(settings), data, own, Runs(home))


def test_a_run_of_few_steps_is_not_given_more_epochs_than_are_allowed():
    longer = lengthened(RunConfig(max_steps=2), {"num_train_epochs": 9})
    with pytest.raises(ValueError, match="45 steps, and 9 are allowed"):
        Limits(steps=9).check_steps(longer, 40)


@pytest.mark.parametrize(("limits", "settings", "words"), [
    (Limits(rows=39), {}, "40 conversations, and a run here may use 39"),
    (Limits(steps=9), {"num_train_epochs": 2.0}, "10 steps, and 9 are allowed"),
    (Limits(steps=9), {"max_steps": 10}, "10 steps, and 9 are allowed"),
    (Limits(tokens_at_once=1000), {"max_length": 512}, "4,096 tokens, and 1,000 may be computed"),
    (Limits(steps=9, tokens_at_once=9000), {"max_steps": 9, "gradient_accumulation_steps": 4096, "max_length": 1024},
     "368,640 tokens, and 81,000 are allowed"),
    (Limits(waiting=0), {}, "0 runs are waiting already")])
def test_what_passes_a_limit_is_refused_with_its_number(home, data, limits, settings, words):
    with pytest.raises(ValueError, match=words):
        check(limits, home, data, **settings)


def test_a_visitors_runs_are_counted_and_those_of_others_are_not(home, data):
    run = run_of(home, data)
    run_of(home, data, owner_by_key("other"))
    own = Runs(home).of({OWNER})
    with pytest.raises(ValueError, match=f"Your run {run.config.name} is still going or waiting"):
        check(Limits(runs_at_once=1), home, data, own)
    run.append("failed", message="", advice="")
    check(Limits(runs_at_once=1), home, data, own)
    with pytest.raises(ValueError, match="You have 1 runs, and 1 are kept"):
        check(Limits(runs_kept=1), home, data, own)
    check(Limits(runs_kept=2), home, data, own)


def test_a_visitor_has_no_more_runs_going_by_resuming_them(home, data, monkeypatch):
    runs = [run_of(home, data, name=name) for name in ("first", "second")]
    for run in runs:
        run.append("failed", message="", advice="")
    studio = Studio(home, Machine("cpu", "CPU", 2, 24.0), None, {}, Runs(home), Library(home), many_visitors=True)
    visitor = Visitor(studio, frozenset({OWNER}))
    openings.resume(visitor, runs[0])
    with pytest.raises(ValueError, match="Your run first is still going or waiting"):
        openings.resume(visitor, runs[1])
    assert [run.state() for run in runs] == ["queued", "failed"]
    monkeypatch.setattr(type(studio), "limits", Limits(waiting=1))
    with pytest.raises(ValueError, match="1 runs are waiting already"):
        openings.resume(visitor, runs[1])


def test_on_ones_own_machine_only_the_disk_is_a_limit(home, data, monkeypatch):
    check(ONES_OWN, home, data, [run_of(home, data, LOCAL) for _ in range(3)], num_train_epochs=1000.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**12, 10**12, 10 * 1024**2))
    with pytest.raises(ValueError, match="nearly full: 10 MB are left, and a run needs 200 MB"):
        check(ONES_OWN, home, data)


def test_a_file_that_is_too_large_is_refused(tmp_path):
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(3 * 1024**2)
    Limits(upload_mebibytes=3).check_upload(path)
    with pytest.raises(ValueError, match=r"large.jsonl has 3 MB, and 2 MB"):
        Limits(upload_mebibytes=2).check_upload(path)


def test_old_runs_of_nobodys_name_are_swept_and_others_stay(home, data):
    old, named, local, going = (run_of(home, data, owner) for owner in (
        OWNER, owner_by_name("ada"), LOCAL, OWNER))
    for run in (old, named, local):
        run.append("failed", message="", advice="")
    soon = time.time() + 2 * SECONDS_A_DAY
    assert sweep(Runs(home), Limits(days_kept=3), soon) == []
    assert sweep(Runs(home), Limits(), soon * 2) == []
    assert sweep(Runs(home), Limits(days_kept=1), soon) == [old.id]
    assert {run.id for run in Runs(home).all()} == {named.id, local.id, going.id}


class ResumedMeanwhile(Runs):
    """Runs of which each is resumed by its visitor just before it is swept."""

    def delete(self, run):
        self.resume(run, "in turn")
        super().delete(run)


def test_a_run_that_is_resumed_just_before_it_is_swept_stays_and_keeps_nothing_else_from_going(home, data):
    run = run_of(home, data)
    run.append("failed", message="", advice="")
    Corrections(home, OWNER, "pirate").add(Correction((message("user", "Hi"),), "Ahoy!", "Hello"))
    gone = sweep(ResumedMeanwhile(home), Limits(days_kept=1), time.time() + 2 * SECONDS_A_DAY)
    assert run.state() == "queued" and len(gone) == 2 and not Corrections(home, OWNER, "pirate").all()


def test_nothing_else_of_nobodys_outlives_its_time_and_what_has_a_name_stays(home, data, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (made / name).write_text("{}")
    owners, going = (OWNER, owner_by_name("ada"), LOCAL), run_of(home, data)
    for number, owner in enumerate(owners):
        Library(home, {owner}).put(f"mate-{number}-step-6", made, {"run": f"gone-{number}"}, owner)
        Corrections(home, owner, "pirate").add(Correction((message("user", "Hi"),), "Ahoy!", "Hello"))
        Votes(home, owner).add(Vote((), "tie", None))
    Library(home, {OWNER}).put("going-step-6", made, {"run": going.id}, OWNER)
    assert sweep(Runs(home), Limits(days_kept=1)) == []
    gone = sweep(Runs(home), Limits(days_kept=1), time.time() + 2 * SECONDS_A_DAY)
    assert gone[0] == "mate-0-step-6" and len(gone) == 4  # with the corrections and their lock
    assert {*Library(home, owners).names()[:3]} == {"going-step-6", "mate-1-step-6", "mate-2-step-6"}
    for owner in owners:
        stays = owner != OWNER
        assert bool(Corrections(home, owner, "pirate").all()) is bool(Votes(home, owner).all()) is stays
