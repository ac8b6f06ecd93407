"""The app on a rehearsed ZeroGPU: the real `spaces` client, forked workers, and a service that refuses and kills."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

from adapters.library import Library
from phi3.models import base_facts
from tests.browser import answered, ask
from tests.files import ROOT
from tests.zerogpu import EXPIRED, NO_GPU, Service, out_of_quota, rehearsed, visitors_pass
from training.config import RunConfig
from training.data import read_data
from training.runs import Runs

pytestmark = pytest.mark.slow
SETTINGS = {"eval_steps": 100_000, "save_steps": 10, "learning_rate": 5e-3, "r": 4, "lora_dropout": 0.1, "bf16": True,
            "per_device_train_batch_size": 4}
MOST_TURNS = 60
STRAIGHT = """
import pathlib, sys
from phi3.models import load_base
from training.run import Run
from training.train import run_lease
run = Run(pathlib.Path(sys.argv[1]))
run_lease(run, None, load_base(run.config.base, "bf16", "cpu"))
"""


def new_run(home, base, chats, name, **settings):
    config = RunConfig.from_settings({**SETTINGS, "name": name, "base": base_facts(str(base)).id, **settings})
    return Runs(home).create(config, read_data(chats))


def weights(home, name):
    return (Library(home).get(name).folder / "adapter_model.safetensors").read_bytes()


def trained_straight(home, base, chats, **settings):
    """The adapter of the same run without leases, in a process with as many threads."""
    run = new_run(home, base, chats, "straight", **settings)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run([sys.executable, "-c", STRAIGHT, str(run.folder)], cwd=ROOT, env=environment, check=True,
                   capture_output=True, timeout=900)
    return weights(home, "straight")


def until(condition, patience=120.0):
    give_up = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < give_up, "It did not come about."
        time.sleep(0.02)


def opened(app, browser, query=""):
    """The page in a browser that sends a visitor's pass with everything, as the one around a Space's page does."""
    page = browser.new_page(extra_http_headers={"x-ip-token": visitors_pass("visitor")})
    page.set_default_timeout(120_000)
    page.goto(f"{app.address}/{query}")
    page.locator("#past-runs p, #past-runs ul").first.wait_for()
    return page


def killed_in_the_middle(app, run):
    """A turn whose worker is killed once it has saved a step of its own."""
    before = len(run.events())
    with ThreadPoolExecutor(1) as calling:
        taken = calling.submit(app.call, "lease", run.id, "")
        until(lambda: any(event.type == "checkpointed" for event in run.events()[before:]))
        app.service.kill(app.service.lent[-1])
        return taken.result(120)


def trained_to_its_end(app, run, visitor="visitor"):
    """Turn after turn, as the page takes them."""
    for _ in range(MOST_TURNS):
        taken = app.call("lease", run.id, "", visitor=visitor)
        if not taken["goes_on"]:
            return taken
    raise AssertionError(f"Not finished after {MOST_TURNS} turns: {taken}")


def test_a_run_of_many_leases_killed_and_refused_ends_with_the_same_bytes(tmp_path, small_base, chats):
    steps = 800
    wanted = trained_straight(tmp_path / "straight", small_base, chats, max_steps=steps)
    with rehearsed(tmp_path, small_base, Service(), turn_seconds=8) as app:
        assert app.service.started == 1
        run = new_run(app.home, small_base, chats, "leased", max_steps=steps)
        app.service.is_busy = True
        first = app.call("lease", run.id, "")
        app.service.is_busy = False
        assert (first["state"], first["reason"], first["goes_on"]) == ("paused", "time", True)
        killed = killed_in_the_middle(app, run)
        assert (killed["state"], killed["reason"], killed["goes_on"]) == ("paused", "aborted", True)
        assert killed["step"] > first["step"]
        for reply, reason in ((out_of_quota(3), "quota"), (EXPIRED, "token"), (NO_GPU, "refused")):
            app.service.answer_next(reply)
            taken = app.call("lease", run.id, "")
            assert (taken["state"], taken["reason"], taken["goes_on"]) == ("paused", reason, False)
            assert taken["step"] == killed["step"]
        end = trained_to_its_end(app, run)
        assert (end["state"], end["step"]) == ("finished", steps)
        assert len(app.service.lent) >= 4
        assert any(one.was_killed for one in app.service.lent)
    assert [event.step for event in run.course() if event.type == "step"] == list(range(1, steps + 1))
    assert weights(app.home, "leased") == wanted
    assert "Traceback" not in app.log.read_text(), app.log.read_text()[-3000:]


def test_two_visitors_on_one_warm_worker_get_what_they_would_get_alone(tmp_path, small_base, chats):
    wanted = trained_straight(tmp_path / "straight", small_base, chats, max_steps=20)
    with rehearsed(tmp_path, small_base, Service()) as app:
        for visitor in ("first", "second"):
            run = new_run(app.home, small_base, chats, visitor, max_steps=20)
            assert trained_to_its_end(app, run, visitor)["state"] == "finished"
            assert weights(app.home, visitor) == wanted
        workers = [one.pid for one in app.service.lent]
    assert workers[0] and workers[1:] == [None], "the second visitor was not served by the warm worker"


def test_a_visitor_who_leaves_finds_a_run_that_goes_on(tmp_path, small_base, chats):
    with rehearsed(tmp_path, small_base, Service(), turn_seconds=8) as app:
        run = new_run(app.home, small_base, chats, "left", max_steps=100_000)
        app.begin("lease", run.id, "")  # and nobody waits for what it says
        until(lambda: run.state() == "paused")
        assert run.events()[-1].values["reason"] == "time"
        saved = run.events()[-1].step
        until(lambda: app.service.lent[-1].is_over)
        assert len(app.service.lent) == 1
        again = app.call("lease", run.id, "", visitor="the same, tomorrow")
        assert again["goes_on"] and again["step"] > saved


def test_what_is_wrong_in_a_worker_reaches_the_visitor_as_its_sentence(tmp_path, small_base, chats):
    with rehearsed(tmp_path, small_base, Service()) as app:
        run = new_run(app.home, small_base, chats, "foreign")
        settings = (run.folder / "config.yaml").read_text().replace(str(small_base), "phi3/tiny")
        (run.folder / "config.yaml").write_text(settings)
        with pytest.raises(AssertionError) as refused:
            app.call("lease", run.id, "")
        with pytest.raises(AssertionError, match="run_id is 5, and must be a text"):
            app.call("lease", 5, "")
    assert "This run's base is phi3/tiny" in json.dumps(refused.value.args)
    assert run.state() == "failed"


def test_an_anonymous_visitor_trains_compares_and_chats_within_two_minutes_of_gpu(tmp_path, small_base, browser):
    with rehearsed(tmp_path, small_base, Service(quota=120), STUDIO_VISITORS="many") as app:
        page = opened(app, browser)
        page.locator("#start").click()
        page.locator("#compare").click(timeout=240_000)
        for letter in "AB":
            expect(page.locator(f"#newest-{letter} .note")).to_contain_text("From the training")
        turns = len(app.service.lent)
        for question in ("What is the capital of France?", "And of Italy?", "Thank you."):
            ask(page, question)
            for letter in "AB":
                expect(page.locator(f"#newest-{letter} .question")).to_contain_text(question)
                answered(page, letter)
        page.close()
    run, = Runs(app.home).all()
    assert run.state() == "finished"
    assert len(app.service.lent) == turns + 3, "the comparison took a turn of its own"
    assert not any(one.was_killed for one in app.service.lent)
    assert app.service.used[visitors_pass("visitor")] <= 120


def test_a_visitor_without_gpu_time_trains_the_embedded_phi_3_instead(tmp_path, small_base, browser):
    with rehearsed(tmp_path, small_base, Service(quota=1), STUDIO_VISITORS="many") as app:
        page = opened(app, browser)
        page.get_by_role("button", name="More training settings").click()
        page.locator("#setting-max_steps input").fill("3")
        page.locator("#start").click()
        expect(page.locator(".outcome")).to_contain_text("Your GPU time is used up")
        page.locator("#train-elsewhere").click()
        expect(page.locator(".run-heading")).to_contain_text("phi3/tiny")
        expect(page.locator(".outcome")).to_contain_text("is ready", timeout=240_000)
        expect(page.locator("#compare")).to_be_hidden()  # the chat's base is another
        expect(page.locator("#says-now")).to_contain_text("It says now")
        page.close()
    here, there = Runs(app.home).all()
    assert here.config.base == "phi3/tiny" and there.config.base != here.config.base
    assert here.conversations() == there.conversations()
    assert not app.service.lent


def test_the_page_takes_turn_after_turn_until_its_visitor_leaves_and_goes_on_when_they_are_back(
        tmp_path, small_base, chats, browser):
    with rehearsed(tmp_path, small_base, Service(), turn_seconds=8) as app:
        run = new_run(app.home, small_base, chats, "long", max_steps=100_000)
        run.append("lease_ended", 0, reason="time")
        page = opened(app, browser, f"?run={run.id}")
        page.locator("#resume-run").click()
        until(lambda: len(app.service.lent) >= 3)
        expect(page.locator("#resume-run")).to_be_hidden()
        page.close()
        until(lambda: run.state() == "paused" and app.service.lent[-1].is_over)
        turns = len(app.service.lent)
        page = opened(app, browser, f"?run={run.id}")
        expect(page.locator(".outcome")).to_contain_text("is paused")
        assert len(app.service.lent) == turns
        page.locator("#resume-run").click()
        expect(page.locator("#stop-run")).to_be_visible()
        page.locator("#stop-run").click()
        expect(page.locator(".outcome")).to_contain_text("what it learned is kept")
        page.close()
    assert Library(app.home).has("long")
