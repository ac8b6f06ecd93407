"""Reloads, and connections that break: nothing that was said or written is lost, and a run is followed again."""

import itertools
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser import (
    ENDS_LATE,
    HEARS_AT_ONCE,
    answered,
    ask,
    loaded_again,
    lose_an_answer,
    lose_words,
    pick,
    to_chat,
)
from tests.cable import cable_to
from tests.staged import StagedRun

pytestmark = pytest.mark.slow
names = (f"lost-{number}" for number in itertools.count(1))


@pytest.fixture
def cabled(app, browser):
    """Opens pages whose connections go through a cable: `(page, cable)`."""
    opened = []
    with cable_to(urlsplit(app.address).port) as cable:
        def visit(query: str = "") -> tuple[Page, object]:
            page = replace(app, address=f"http://127.0.0.1:{cable.port}/").open(browser, query)
            opened.append(page)
            return page, cable

        yield visit
        for page in opened:
            page.close()


def test_a_reload_keeps_conversation_lanes_settings_and_what_was_being_written(visit):
    page = visit()
    to_chat(page)
    pick(page, "B", "json")
    page.get_by_role("button", name="Add a lane").click()
    expect(page.locator("#picker-C input")).to_be_visible()
    page.get_by_role("button", name="How answers are drawn").click()
    page.locator("#system textarea").fill("Be brief.")
    ask(page, "How much is 7 plus 5?")
    for letter in "ABC":
        answered(page, letter)
    said = [page.locator(f"#newest-{letter} .text").all_inner_texts() for letter in "ABC"]
    page.locator("#message textarea").fill("And what")
    loaded_again(page, page.reload)
    expect(page.locator("#newest-C .by")).to_contain_text("per second")
    assert [page.locator(f"#newest-{letter} .text").all_inner_texts() for letter in "ABC"] == said
    expect(page.locator("#message textarea")).to_have_value("And what")
    expect(page.locator("#picker-B input")).to_have_value("json")
    page.get_by_role("button", name="How answers are drawn").click()
    expect(page.locator("#system textarea")).to_have_value("Be brief.")
    ask(page, "And 3 more?")
    answered(page, "A")
    expect(page.locator("#before-A .question")).to_contain_text("How much is 7 plus 5?")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#newest-A .question")).to_have_count(0)
    loaded_again(page, page.reload)
    expect(page.locator("#picker-A input")).to_be_visible()
    expect(page.locator("#newest-A .question")).to_have_count(0)


def test_who_reloads_again_before_the_page_has_opened_loses_nothing(visit):
    page = visit()
    to_chat(page)
    page.locator("#message textarea").fill("And what")
    lost = lose_words(page, "open_lanes", never_asked=True)
    loaded_again(page, page.reload)
    assert lost
    loaded_again(page, page.reload)
    expect(page.locator("#message textarea")).to_have_value("And what")


def test_another_tab_knows_nothing_of_it(visit):
    page = visit()
    to_chat(page)
    ask(page, "Who are you?")
    answered(page, "A")
    other = visit()
    to_chat(other)
    expect(other.locator("#newest-A .question")).to_have_count(0)


def test_an_address_with_lanes_opens_those_whatever_was_said_before(visit, app):
    page = visit()
    to_chat(page)
    ask(page, "Who are you?")
    answered(page, "A")
    page.goto(f"{app.address}?adapter=json")
    expect(page.locator("#picker-B input")).to_have_value("json")
    expect(page.locator("#newest-A .question")).to_have_count(0)


def test_a_connection_that_breaks_while_it_answers_costs_no_more_than_that_answer(cabled):
    page, cable = cabled()
    to_chat(page)
    ask(page, "Who are you?")
    answered(page, "A")
    ask(page, "Tell me a long story about the sea.")
    expect(page.locator("#newest-A .question")).to_contain_text("story")

    def breaks():
        cable.pull()
        expect(page.get_by_text("Connection to the server was lost")).to_be_visible()
        cable.put_in()

    loaded_again(page, breaks)
    expect(page.locator("#before-A .question")).to_contain_text("Who are you?")
    expect(page.locator("#newest-A .question")).to_contain_text("story")
    page.locator("#newest-A").get_by_role("button", name="Again").click()
    answered(page, "A")
    expect(page.locator("#newest-A .answer .text")).not_to_be_empty()


def test_nothing_waits_for_ever_though_the_page_learns_late_that_a_stream_has_ended(browser, app):
    page = app.open(browser, first=ENDS_LATE)
    for name, answers in (("Answers as JSON", '{"'), ("A pirate", "!")):
        page.get_by_role("radio", name=name).check()
        expect(page.locator("#seen mark.trained").first).to_contain_text(answers)
    to_chat(page)
    for question in ("Who are you?", "What day comes after Monday?"):
        ask(page, question)
        expect(page.locator("#newest-A .question")).to_have_text(question)
        answered(page, "A")
    page.close()


def test_all_that_was_said_bit_by_bit_is_shown_where_the_page_hears_of_it_at_once(browser, app):
    page = app.open(browser, "?adapter=pirate&adapter=json&adapter=base", first=HEARS_AT_ONCE)
    expect(page.locator("#picker-C input")).to_be_visible()
    assert [page.locator(f"#picker-{letter} input").input_value() for letter in "ABC"] == ["pirate", "json", "base"]
    ask(page, "Who are you?")
    for letter in "ABC":
        answered(page, letter)
    expect(page.locator("#message textarea")).to_have_value("")
    page.close()


def test_a_run_is_followed_to_its_end_though_the_connection_breaks(cabled, app):
    staged = StagedRun(app.home, name=next(names))
    with staged.held():
        staged.begin()
        staged.train(1, 20)
        page, cable = cabled(f"?run={staged.run.id}")
        expect(page.locator("#run-bar")).to_contain_text("Step 20")
        cable.pull()
        expect(page.get_by_text("Connection to the server was lost")).to_be_visible()
        staged.train(21, 60)
        staged.end("finished")
        loaded_again(page, cable.put_in)
    expect(page.locator("#compare")).to_be_visible()


def test_a_run_is_followed_to_its_end_though_an_answer_of_the_app_never_comes(visit, app):
    staged = StagedRun(app.home, name=next(names))
    with staged.held():
        staged.begin()
        staged.train(1, 20)
        page = visit(f"?run={staged.run.id}")
        expect(page.locator("#run-bar")).to_contain_text("Step 20")
        # A look at the run says what of it the page has: "running" and a hash.
        lose_an_answer(page, '"running ')
        staged.train(21, 60)
        staged.end("finished")
    expect(page.locator("#compare")).to_be_visible()


def test_a_reload_keeps_what_was_set_up_for_a_run_that_is_not_begun(visit):
    page = visit()
    page.get_by_role("radio", name="Your own").check()
    rows = [f'{{"prompt": "Say {number}.", "completion": "{number}!"}}' for number in range(30)]
    page.locator("#paste textarea").fill("\n".join(rows))
    expect(page.locator("#data-summary")).to_contain_text("30")
    page.get_by_role("radio", name="Thorough").check()
    expect(page.locator("#setting-r input")).to_have_value("32")
    page.locator("#setting-r input").fill("7")
    page.locator("#setting-name input").fill("mine")
    page.locator("#setting-name input").press("Tab")
    page.wait_for_function("sessionStorage.getItem('phi3-lora-studio-setup')?.includes('mine')")
    loaded_again(page, page.reload)
    expect(page.locator("#data-summary")).to_contain_text("30")
    expect(page.get_by_role("radio", name="Thorough")).to_be_checked()
    expect(page.locator("#setting-r input")).to_have_value("7")
    expect(page.locator("#setting-name input")).to_have_value("mine")
