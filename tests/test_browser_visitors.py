"""Many visitors at one app, as on a Space: what each one's browser keeps, shows and gives away."""

import json
import re
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.browser import free_port, running_app, to_chat

pytestmark = pytest.mark.slow
ROWS = "\n".join(json.dumps({"prompt": f"Say {number}.", "completion": f"Arr, {number}!"}) for number in range(16))


@pytest.fixture
def place(tmp_path_factory):
    """Where the app is, whether it runs or not: its studio's folder and its port, which a browser's memory hangs on."""
    return tmp_path_factory.mktemp("visitors"), free_port()


@contextmanager
def many(place):
    folder, port = place
    with running_app(folder / "studio", folder / "app.log", port, STUDIO_VISITORS="many") as app:
        yield app


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """One app for the visitors of several tests."""
    with many((tmp_path_factory.mktemp("crowded"), free_port())) as app:
        yield app


def opened(visitor, app, query=""):
    page = visitor.new_page()
    page.goto(app.address + query)
    page.locator("#past-runs p, #past-runs ul").first.wait_for()
    return page


def begin(page, name, steps=None, address=r"run=.*key="):
    """Start a run on a few pasted rows."""
    page.locator("#source").get_by_text("Your own").click()
    page.locator("#paste textarea").fill(ROWS)
    expect(page.locator("#data-summary")).to_contain_text("16")
    page.locator("#setting-name input, #setting-name textarea").fill(name)
    if steps:
        page.get_by_role("button", name="More training settings").click()
        wanted = page.locator("#setting-max_steps input")
        expect(wanted).to_have_value("-1")  # what has just been unfolded takes a moment to get its value
        wanted.fill(str(steps))
        wanted.press("Tab")
        expect(wanted).to_have_value(str(steps))
    page.locator("#start").click()
    page.wait_for_url(re.compile(address))


def test_a_closed_tab_and_a_restarted_app_lose_nothing(place, visitors):
    mine, other = visitors(), visitors()
    with many(place) as app:
        page = opened(mine, app)
        begin(page, "kept", steps=120)
        expect(page.locator("#run-bar")).to_contain_text("Step", timeout=120_000)
        page.close()
        again = opened(mine, app)  # no address: the browser knows which run is its visitor's
        expect(again.locator(".run-heading")).to_contain_text("kept")
        stranger = opened(other, app)
        expect(stranger.locator("#past-runs")).not_to_contain_text("kept")
        expect(stranger.locator("#start")).to_be_visible()
    with many(place) as app:
        page = opened(mine, app)
        expect(page.locator("#past-runs")).to_contain_text("kept")
        page.locator("#past-runs a").first.click()
        expect(page.locator(".outcome")).to_contain_text("is ready", timeout=240_000)
        to_chat(page)
        page.locator("#picker-B input").click()
        expect(page.get_by_role("option", name="kept")).to_be_visible()
        stranger = opened(other, app)
        to_chat(stranger)
        stranger.locator("#picker-B input").click()
        expect(stranger.get_by_role("option", name="shop")).to_be_visible()
        expect(stranger.get_by_role("option", name="kept")).to_have_count(0)


def test_a_link_shows_a_run_to_browsers_that_know_nothing(crowded, visitors):
    page = opened(visitors(), crowded)
    begin(page, "shown", steps=4)
    expect(page.locator(".outcome")).to_contain_text("is ready", timeout=240_000)
    page.locator("#share-run").click()
    link = page.locator("#shared-link a")
    expect(link).to_contain_text("can change nothing")
    address = link.get_attribute("href")
    for width in (390, 1600):
        looking = opened(visitors(width), crowded, address)
        expect(looking.locator(".run-heading")).to_contain_text("Somebody showed you this run")
        expect(looking.locator("#says-now")).to_contain_text("It says now")
        for hidden in ("#delete-run", "#share-run", "#resume-run", "#stop-run", "#compare", "#download-run"):
            expect(looking.locator(hidden)).to_be_hidden()
        expect(looking.get_by_role("button", name="Train your own")).to_be_visible()
        assert looking.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        looking.reload()
        expect(looking.locator(".run-heading")).to_contain_text("shown")
    page.locator("#share-run").click()
    expect(link).to_have_count(0)
    late = visitors().new_page()
    late.goto(crowded.address + address)
    expect(late.get_by_text("that you may open")).to_be_visible()
    expect(late.locator("#start")).to_be_visible()


def test_the_owners_own_address_opens_the_run_for_good_in_another_browser(crowded, visitors):
    page = opened(visitors(), crowded)
    begin(page, "carried", steps=4)
    expect(page.locator(".outcome")).to_contain_text("is ready", timeout=240_000)
    other = visitors()
    there = other.new_page()
    there.goto(page.url)
    expect(there.locator("#delete-run")).to_be_visible()
    there.close()
    later = opened(other, crowded)
    expect(later.locator("#past-runs")).to_contain_text("carried")


def test_who_waits_sees_the_place_and_can_leave(crowded, visitors):
    first, second, third = (opened(visitors(), crowded) for _ in range(3))
    begin(first, "first", steps=2500)
    begin(second, "second", steps=4)
    begin(third, "third", steps=4)
    expect(second.locator("#run-bar")).to_contain_text("as soon as the run before it has ended")
    expect(third.locator("#run-bar")).to_contain_text("2 runs come before it")
    second.locator("#stop-run").click()
    expect(second.locator(".outcome")).to_contain_text("taken out of the queue")
    expect(third.locator("#run-bar")).to_contain_text("as soon as the run before it has ended")
    first.locator("#stop-run").click()
    expect(first.locator(".outcome")).to_contain_text("what it learned is kept", timeout=240_000)
    expect(third.locator(".outcome")).to_contain_text("is ready", timeout=240_000)
