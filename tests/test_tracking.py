"""Trackers: a run reports to those whose packages are there, and is refused before it begins where one is missing."""

from typing import ClassVar

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from training.config import RunConfig
from training.data import read_data
from training.limits import ONES_OWN, SHARED
from training.runs import Runs

QUICK = {"name": "told", "max_steps": 2, "eval_steps": 50, "r": 2}


class Recorder(TrainerCallback):
    """Stands for a tracker's callback, which the trainer makes by itself."""

    told: ClassVar[list] = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.told.append((args.run_name, sorted(logs)))


@pytest.fixture
def with_trackio(monkeypatch):
    """As if trackio were installed."""
    monkeypatch.setattr(integration_utils, "is_trackio_available", lambda: True)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Recorder)
    monkeypatch.setattr(Recorder, "told", [])


def test_a_tracker_is_told_what_the_run_logs(home, small_base, chats, with_trackio):
    from training.train import run_lease

    config = RunConfig.from_settings({**QUICK, "base": str(small_base), "report_to": "trackio"})
    assert run_lease(Runs(home).create(config, read_data(chats))).type == "finished"
    assert {name for name, _ in Recorder.told} == {"told"}
    assert any("loss" in logs for _, logs in Recorder.told) and any("eval_loss" in logs for _, logs in Recorder.told)


def test_no_tracker_is_told_anything_unasked(home, small_base, chats, with_trackio):
    from training.train import run_lease

    run_lease(Runs(home).create(RunConfig.from_settings({**QUICK, "base": str(small_base)}), read_data(chats)))
    assert Recorder.told == []


def test_a_missing_package_is_named_before_the_run_begins(home, chats, monkeypatch):
    monkeypatch.setattr(integration_utils, "is_comet_available", lambda: False)
    with pytest.raises(ValueError, match=r"report_to names comet_ml, and its package isn't installed here\. "
                                         r"Install it \(pip install comet-ml\), or set report_to to none"):
        Runs(home).create(RunConfig.from_settings({"report_to": "comet_ml"}), read_data(chats))
    assert Runs(home).all() == []


def test_where_many_visitors_come_no_run_reports(home, chats, with_trackio):
    config = RunConfig.from_settings({"report_to": "trackio"})
    with pytest.raises(ValueError, match="report_to is trackio, and runs of visitors report to no tracker here"):
        SHARED.check_run(config, read_data(chats), (), Runs(home))
    ONES_OWN.check_run(config, read_data(chats), (), Runs(home))
