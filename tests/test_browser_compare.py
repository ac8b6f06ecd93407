"""Runs side by side in a real browser: a group that goes on is found, followed and stopped; any runs are picked."""

import itertools

import pytest
from playwright.sync_api import expect

from tests.browser import lose_an_answer
from tests.staged import StagedRun, few_conversations
from tests.test_browser import SMALL_TARGETS, serious
from training.group import Group
from training.runs import Runs

pytestmark = pytest.mark.slow
names = (f"side-{number}" for number in itertools.count(1))


def finished(app, name: str, above: float, **settings) -> StagedRun:
    staged = StagedRun(app.home, above, few_conversations(120), name=name, **settings)
    if staged.run.state() == "queued":
        Runs(app.home).begin(staged.run)
    staged.begin()
    for step in (1, 20, 40, 60):
        staged.train(step, step)
    staged.end("finished")
    return staged


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1600, "dark")])
def test_a_group_is_followed_and_any_runs_are_compared(visit, app, width, scheme):
    name = next(names)
    groups = [Group(name, place, 2, {"learning_rate": rate}) for place, rate in enumerate((1e-4, 3e-4), 1)]
    first = finished(app, f"{name}-first", 0.5, group=groups[0], learning_rate=1e-4)
    other = finished(app, f"{name}-other", 1.0, r=8)
    going = StagedRun(app.home, 0.0, few_conversations(120), groups[1], name=f"{name}-second", learning_rate=3e-4)
    Runs(app.home).begin(going.run)
    with going.held():
        going.begin()
        going.train(20, 40)
        page = visit(f"?run={first.run.id}", width=width, scheme=scheme)
        expect(page.locator("#run-group")).to_contain_text("One of 2 runs that try Learning rate")
        standing, tables = page.locator("#compare-standing"), page.locator("#compare-tables")
        expect(standing).to_contain_text(f"So far, with 1 of 2 runs over, {name}-second has the lowest loss")
        expect(tables.locator("table").first.locator("tbody th")).to_have_text(["Learning rate"])
        expect(page.locator("#compare-chart svg path.held:not(.dot)")).to_have_count(4)  # two samples, two curves
        going.train(60, 60)
        page.locator("#stop-these").click()
        expect(page.locator("#stop-these")).to_be_disabled()
        assert going.run.is_asked_to_stop()
        going.end("stopped")
    expect(page.locator("#stop-these")).to_be_hidden()
    expect(standing).to_have_text(f"{name}-second has the lowest loss on the same 12 held-out "
                                  "conversations: 0.3892.")
    expect(tables.locator("td.best")).to_contain_text("(lowest)")
    expect(page.get_by_label(f"{name}-second (stopped)")).to_be_checked()
    expect(page.locator("#past-runs li", has_text=f"{name}-second")).to_contain_text("stopped")

    page.get_by_label(f"{name}-other (finished)").check()
    expect(tables.locator("table").first.locator("tbody th")).to_have_text(["Learning rate", "Rank (r)"])
    page.get_by_role("button", name="These losses as a table").click()
    expect(page.locator("#compare-runs .scroll table")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert serious(page) == [] and page.evaluate(SMALL_TARGETS) == []
    page.get_by_label(f"{name}-other (finished)").uncheck()
    page.get_by_label(f"{name}-first (finished)").uncheck()
    expect(standing).to_have_text("Choose at least two.")
    expect(tables).to_be_hidden()
    assert other.run.folder.is_dir()


def test_a_state_of_two_words_stands_on_one_line(visit, app):
    name = next(names)
    group = [Group(name, place, 3, {"r": rank}) for place, rank in enumerate((4, 8, 16), 1)]
    runs = [StagedRun(app.home, group=one, name=f"{name}-of-a-captain-{place}") for place, one in enumerate(group)]
    Runs(app.home).begin(runs[0].run)
    with runs[0].held():
        page = visit(f"?run={runs[0].run.id}", width=1600)
        states = page.locator("#compare-tables .state")
        expect(states.first).to_have_text("getting ready")
        assert states.evaluate_all("all => all.every((one) => one.getClientRects().length === 1)")
        for one in runs[1:]:
            Runs(app.home).stop(one.run)
        runs[0].end("stopped")


def test_several_values_are_planned_and_begun_with_one_start(visit, app):
    page = visit(width=390)
    expect(page.locator("#plan")).to_contain_text("steps")
    page.get_by_role("button", name="Try several values").click()
    page.locator("#several-values-1 textarea, #several-values-1 input").first.fill("1e-4, 3e-4")
    expect(page.locator("#settings-note")).to_contain_text("no setting that they are for")
    page.locator("#several-setting-1 input").click()
    page.get_by_role("option", name="Learning rate").click()
    expect(page.locator("#several-plan")).to_contain_text("2 runs, one after another")
    expect(page.locator("#start")).to_have_text("Start 2 runs")
    assert page.evaluate(SMALL_TARGETS) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("#setting-name input, #setting-name textarea").first.fill("tries")
    blocker = StagedRun(app.home, name=next(names))
    with blocker.held():
        blocker.begin()
        page.locator("#start").click()
        expect(page.locator("#run-group")).to_contain_text("0.0001 (this one)")
        expect(page.locator("#compare-tables")).to_contain_text("tries-0.0003")
        page.locator("#stop-these").click()
        expect(page.locator("#stop-these")).to_be_hidden()
    assert {run.state() for run in Runs(app.home).all() if run.config.name.startswith("tries-")} == {"paused"}


def test_runs_are_followed_to_their_end_though_an_answer_of_the_app_never_comes(visit, app):
    name = next(names)
    first = finished(app, f"{name}-first", 0.5)
    going = StagedRun(app.home, 0.0, few_conversations(120), name=f"{name}-second")
    Runs(app.home).begin(going.run)
    with going.held():
        going.begin()
        going.train(20, 40)
        page = visit(f"?run={first.run.id}")
        page.get_by_label(f"{name}-first (finished)").check()
        page.get_by_label(f"{name}-second (training)").check()
        expect(page.locator("#compare-standing")).to_contain_text("So far, with 1 of 2 runs over")
        seen = page.locator("#compare-seen textarea, #compare-seen input").input_value()
        assert seen
        # A look at them says what of them the page has: a hash.
        lose_an_answer(page, f'"{seen}"')
        going.train(60, 60)
        going.end("finished")
    expect(page.locator("#compare-standing")).not_to_contain_text("So far")
