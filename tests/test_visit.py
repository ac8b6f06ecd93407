"""Whole visits with real training: three clicks from a fresh page to base and adapter side by side."""

import os
import signal

import pytest
from playwright.sync_api import Page, expect

from tests.browser import running_app
from training.examples.measures import manner_shown
from training.runs import Runs

pytestmark = pytest.mark.slow
TRAINING = 600_000  # milliseconds that a run may take on a busy machine


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """An app of its own: these tests need a studio where nothing was trained before."""
    folder = tmp_path_factory.mktemp("visit")
    with running_app(folder / "studio", folder / "app.log") as running:
        yield running


def wait_for_step(page: Page, step: int) -> None:
    page.wait_for_function(f"""() => Number((document.querySelector('#run-bar')?.innerText
        .match(/Step ([0-9,]+)/) || [0, '0'])[1].replace(',', '')) >= {step}""", timeout=TRAINING)


def test_three_clicks_lead_from_a_fresh_page_to_base_and_adapter_side_by_side(visit):
    page = visit()
    page.locator("#start").click()
    wait_for_step(page, 3)
    page.reload()
    wait_for_step(page, 5)
    expect(page.locator(".said")).not_to_have_count(0)
    page.locator("#compare").click(timeout=TRAINING)
    for letter in "AB":
        expect(page.locator(f"#newest-{letter} .by")).to_contain_text("per second", timeout=60_000)
    expect(page.locator("#send")).to_be_visible()
    base, adapter = (page.locator(f"#newest-{letter} .answer .text").inner_text() for letter in "AB")
    assert base != adapter
    assert manner_shown("pirate", adapter)
    assert not manner_shown("pirate", base)


def test_a_killed_run_shows_as_interrupted_the_app_still_serves_and_the_run_goes_on(visit, app):
    page = visit()
    page.locator("#start").click()
    wait_for_step(page, 2)
    run = Runs(app.home).going()
    trainer = next(event.values["pid"] for event in run.events() if event.type == "started")
    os.kill(trainer, signal.SIGKILL)
    expect(page.locator(".outcome")).to_contain_text("was interrupted", timeout=30_000)
    page.get_by_role("tab", name="Chat").click()
    page.locator("#message textarea").fill("What day comes after Monday?")
    page.locator("#message textarea").press("Enter")
    expect(page.locator("#newest-A .by")).to_contain_text("per second", timeout=60_000)
    page.get_by_role("tab", name="Train").click()
    page.locator("#resume-run").click()
    expect(page.locator("#stop-run")).to_be_visible()
    wait_for_step(page, 3)
    page.locator("#stop-run").click()
    expect(page.locator(".outcome")).to_contain_text("what it learned is kept", timeout=TRAINING)
    assert any(event.type == "resumed" for event in run.events())


def test_stop_keeps_what_was_learned(visit, app):
    page = visit()
    page.get_by_role("radio", name="Answers as JSON").check()
    page.locator("#start").click()
    wait_for_step(page, 2)
    page.locator("#stop-run").click()
    expect(page.locator(".outcome")).to_contain_text("what it learned is kept", timeout=TRAINING)
    expect(page.locator("#compare")).to_be_visible()
