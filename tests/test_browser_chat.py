"""The Chat tab in a real browser: lanes, tools, and what happens when something is wrong."""

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gradio import Blocks
from playwright.sync_api import Browser, Page, expect

from adapters.library import Library
from phi3.generate import Answer, Lane
from phi3.machine import this_machine
from phi3.models import base_facts, load_tokenizer
from tabs import theme
from tabs.page import build as build_page
from tabs.studio import Studio
from tests.browser import answered, ask, free_port, loaded_again, lose_words, pick, to_chat
from tests.staged import PROMPTS, StagedRun
from training.presets import recommended
from training.runs import Runs


class Endless:
    """An answerer that goes on until it is asked to stop; its text grows as long as a long answer does. Snapshots come
    25 times a second at most.
    """

    def __init__(self, seconds_between: float = 0.04) -> None:
        self.seconds_between = seconds_between

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        for count in itertools.count(1):
            time.sleep(self.seconds_between)
            asked = stop()
            text = "It goes " + "and on " * min(count, 120)
            yield [Answer(text, count, count / 50, "asked" if asked else "") for _ in lanes]
            if asked:
                return


class Lingering:
    """An answerer whose last words are there at once, but which ends only when it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        yield [Answer(f"You said: {lane.messages[-1]['content']}", 4, 0.1, "stop") for lane in lanes]
        self.may_end.wait(60)


class Said:
    """An answerer that says just this."""

    def __init__(self, text: str) -> None:
        self.text = text

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        yield [Answer(self.text, 9, 0.1, "stop") for _ in lanes]


class Broken:
    """An answerer that can't."""

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        raise OSError("the disk is gone")


@contextmanager
def served(home: Path, answerer: Any, browser: Browser) -> Iterator[tuple[Page, Blocks]]:
    """A page of the app's own parts, with this answerer instead of a base, and who serves it."""
    facts, machine = base_facts("phi3/tiny"), this_machine()
    studio = Studio(home, machine, facts, recommended(facts.config, machine), Runs(home), Library(home))
    studio.tokenizer.set_result(load_tokenizer(facts))
    studio.answerer.set_result(answerer)
    blocks = build_page(studio)
    _, address, _ = blocks.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True,
                                  quiet=True, css_paths=[theme.STYLESHEET])
    page = browser.new_page()
    page.goto(address)
    yield page, blocks
    page.close()
    blocks.close()


@pytest.fixture
def endless(home, browser):
    """`(page, blocks)` with the endless answerer."""
    with served(home, Endless(), browser) as shown:
        yield shown


def answered_once(page: Page, question: str) -> None:
    """Ask the endless answerer, and stop it."""
    to_chat(page)
    ask(page, question)
    expect(page.locator("#newest-A .answer .text")).to_contain_text("and on")
    page.keyboard.press("Escape")
    answered(page, "A")


@pytest.fixture
def endless_page(endless):
    """Its page alone."""
    return endless[0]


@pytest.mark.slow
def test_compare_asks_base_and_adapter_the_runs_own_question(visit, app):
    staged = StagedRun(app.home, name="compared")
    staged.begin()
    staged.train(1, 60)
    staged.end("finished")
    page = visit(f"?run={staged.run.id}")
    page.locator("#compare").click()
    answered(page, "A")
    expect(page.locator("#newest-A .question")).to_have_text(PROMPTS[0])
    # The staged run has no adapter on the disk: its lane says so, and the other one answers all the same.
    expect(page.locator("#newest-B .problem")).to_contain_text(f"There is no adapter named {staged.run.config.name}")


def test_lanes_come_and_go_and_keep_their_conversations(visit):
    page = visit()
    to_chat(page)
    before = page.locator(".lane:visible").count()
    ask(page, "What day comes after Monday?")
    answered(page, "A")
    said = page.locator("#newest-A .answer .text").inner_text()
    for _ in range(4 - before):
        page.locator("#add-lane").click()
        before += 1
        expect(page.locator(".lane:visible")).to_have_count(before)
    expect(page.locator("#add-lane")).to_be_hidden()
    page.locator("#remove-D").click()
    expect(page.locator(".lane:visible")).to_have_count(3)
    expect(page.locator("#newest-A .answer .text")).to_have_text(said)
    pick(page, "A", "nobody")
    ask(page, "And after that?")
    expect(page.locator("#newest-A .problem")).to_contain_text("There is no adapter named nobody")
    expect(page.locator("#before-A .answer .text")).to_have_text(said)
    answered(page, "C")


@pytest.mark.slow
def test_retry_undo_and_clear(visit):
    page = visit()
    to_chat(page)
    page.locator("#retry").click()
    expect(page.locator(".toast-body")).to_contain_text("no answer yet")
    ask(page, "What day comes after Monday?")
    answered(page, "A")
    pick(page, "A", "nobody")  # so that the second answer differs from the first
    page.locator("#retry").click()
    expect(page.locator("#newest-A .problem")).to_contain_text("There is no adapter named nobody")
    expect(page.locator("#newest-A .question")).to_have_count(1)
    pick(page, "A", "base")
    page.locator("#undo").click()
    expect(page.locator("#message textarea")).to_have_value("What day comes after Monday?")
    expect(page.locator("#newest-A .question")).to_have_count(0)
    page.locator("#send").click()
    answered(page, "A")
    page.locator("#clear").click()
    expect(page.locator("#newest-A .question")).to_have_count(0)


def test_a_sampling_value_out_of_its_range_is_named_and_nothing_hangs(visit):
    page = visit()
    to_chat(page)
    page.locator(".composer .fold > button").click()
    temperature = page.locator("#sampling-temperature input")
    expect(temperature).to_have_value("0")
    # The server's word on something else comes after all that it said while the page was being loaded.
    page.locator("#add-lane").click()
    expect(page.locator("#picker-C input")).to_be_visible()
    temperature.fill("-3")
    temperature.press("Tab")
    ask(page, "Hello")
    expect(page.locator(".toast-body")).to_contain_text("Temperature is -3, and must be between 0 and 5")
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#message textarea")).to_have_value("Hello")
    expect(page.locator("#newest-A .question")).to_have_count(0)


def test_an_empty_message_is_answered_with_a_sentence(visit):
    page = visit()
    to_chat(page)
    page.locator("#send").click()
    expect(page.locator(".toast-body")).to_contain_text("Write a message first")


def test_the_next_question_may_come_while_the_last_answer_is_still_ending(home, browser):
    answerer = Lingering()
    with served(home, answerer, browser) as (page, _):
        to_chat(page)
        ask(page, "One.")
        expect(page.locator("#newest-A .answer")).to_contain_text("You said: One.")
        ask(page, "Two.")
        expect(page.locator("#newest-A .question")).to_have_text("Two.")
        answerer.may_end.set()
        answered(page, "A")
        expect(page.locator("#newest-A .answer")).to_contain_text("You said: Two.")
        expect(page.locator("#before-A .answer")).to_contain_text("You said: One.")


@pytest.mark.slow
@pytest.mark.parametrize("of, never_asked", [("answer", False), ("answer", True), ("rest", False), ("rest", True)])
def test_answers_come_though_the_page_never_hears_of_what_gives_them(visit, of, never_asked):
    page = visit()
    to_chat(page)
    lost = lose_words(page, of, never_asked)
    ask(page, "What day comes after Monday?")
    answered(page, "A")
    assert lost
    expect(page.locator("#newest-A .answer .text")).not_to_be_empty()
    ask(page, "And after that?")
    expect(page.locator("#newest-A .question")).to_have_text("And after that?")
    answered(page, "A")


def test_stop_ends_the_answers_and_keeps_what_was_said(endless_page):
    """By keyboard, too: Send and Stop go away under it."""
    page = endless_page
    to_chat(page)
    message = page.locator("#message textarea")
    message.fill("Tell me everything.")
    page.locator("#send").press("Enter")
    expect(page.locator("#newest-A .answer")).to_contain_text("and on and on")
    expect(message).to_be_focused()
    page.locator("#stop-answer").press("Enter")
    expect(page.locator("#newest-A .by")).to_contain_text("stopped")
    expect(page.locator("#send")).to_be_visible()
    expect(message).to_be_focused()
    page.locator("#undo").click()
    expect(message).to_have_value("Tell me everything.")


@pytest.mark.slow
def test_what_is_kept_of_an_open_editor_is_of_the_message_that_it_was_opened_for(home, browser):
    """Once all was cleared the next message has the number of the first one, and lanes move up when one goes."""
    with served(home, Said("Ahoy!"), browser) as (page, _):
        to_chat(page)
        ask(page, "How much is 2 plus 2?")
        answered(page, "B")
        page.locator("#newest-B button[data-does=like]").click()
        page.locator("#edited textarea").fill("Four.")
        page.locator("#clear").click()
        expect(page.locator("#newest-B .question")).to_have_count(0)
        ask(page, "Who are you?")
        answered(page, "B")
        page.locator("#teach-it").click()
        expect(page.locator(".toast-body")).to_contain_text("no longer there")
        expect(page.locator("#edited textarea")).to_have_value("Four.")
        page.locator("#newest-B button[data-does=like]").click()
        expect(page.get_by_label("What json should have said")).to_have_value("Ahoy!")
        page.locator("#edited textarea").fill("A robot.")
        page.locator("#remove-A").click()
        expect(page.locator("#picker-B")).not_to_be_visible()
        page.locator("#teach-it").click()
        expect(page.locator("#correction-rows")).to_contain_text("1 correction of json")


@pytest.mark.slow
def test_escape_closes_an_editor_and_keeps_what_was_written_in_it(endless_page):
    page = endless_page
    answered_once(page, "Who are you?")
    edited = page.locator("#edited textarea")
    page.locator("#newest-A button[data-does=edit]").click()
    expect(edited).to_be_focused()
    expect(page.locator("#editor")).to_contain_text("Escape closes this")
    edited.fill("And who am I?")
    edited.press("Escape")
    expect(edited).to_be_hidden()
    expect(page.locator("#message textarea")).to_be_focused()
    page.locator("#newest-A button[data-does=edit]").click()
    expect(edited).to_have_value("And who am I?")
    ask(page, "What comes next?")
    expect(page.locator("#newest-A .answer .text")).to_contain_text("and on")
    edited.press("Escape")
    expect(edited).to_be_hidden()
    expect(page.locator("#stop-answer")).to_be_visible()
    page.keyboard.press("Escape")
    answered(page, "A")
    page.locator("#newest-A button[data-does=edit]").click()
    expect(edited).to_have_value("What comes next?")


@pytest.mark.slow
def test_on_a_telephone_a_conversation_fills_its_lane(home, browser):
    """Also beside a higher one, whose adapter has a strength."""
    with served(home, Said("It goes on. " * 200), browser) as (page, _):
        page.set_viewport_size({"width": 390, "height": 844})
        to_chat(page)
        ask(page, "How?")
        answered(page, "A")
        lanes = [page.locator(f".lane-{letter}").bounding_box() for letter in "AB"]
        panes = [page.locator(f".pane-{letter}").bounding_box() for letter in "AB"]
        assert lanes[0]["height"] == lanes[1]["height"] < 844
        for lane, pane in zip(lanes, panes, strict=True):
            assert 0 <= lane["y"] + lane["height"] - pane["y"] - pane["height"] < 16


@pytest.mark.slow
@pytest.mark.parametrize("is_secure", [True, False])
def test_an_answer_is_copied_as_the_model_wrote_it(home, browser, is_secure):
    """On plain http from another machine the page is given no clipboard."""
    written = 'Two steps:\n\n1. Say "hello".\n2. Go.\n\n> & that\'s <b>it</b>\n\n```\n  kept\n```'
    with served(home, Said(written), browser) as (page, _):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        to_chat(page)
        ask(page, "How?")
        answered(page, "A")
        if not is_secure:
            page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
        page.locator("#newest-A [data-does=copy]").click()
        expect(page.locator("#newest-A [data-does=copy]")).to_have_text("Copied")
        page.evaluate("delete navigator.clipboard")
        assert page.evaluate("navigator.clipboard.readText()") == written


def test_a_table_and_a_quote_in_an_answer_can_be_told_from_its_text(home, browser):
    columns = "|".join(["adapter"] * 9)
    written = f"Text.\n\n> A quote.\n\n|{columns}|\n|{'---|' * 9}\n|{columns}|"
    with served(home, Said(written), browser) as (page, _):
        to_chat(page)
        ask(page, "How?")
        answered(page, "A")
        text = page.locator("#newest-A .text")
        assert text.locator("td").first.evaluate("one => getComputedStyle(one).borderBottomWidth") == "1px"
        assert text.locator("blockquote").evaluate("one => getComputedStyle(one).borderInlineStartWidth") == "3px"
        # Many columns scroll in the answer; their words stay whole, and the lane is no wider.
        assert text.locator("td").first.evaluate("one => one.clientHeight") < 50
        assert page.locator(".pane-A").evaluate("one => one.scrollWidth <= one.clientWidth")


@pytest.mark.slow
def test_headings_lists_and_code_in_an_answer_read_as_such(home, browser):
    written = "# First\n\n## Second\n\nText.\n\n- one\n\n```\ncode\n```"
    with served(home, Said(written), browser) as (page, _):
        to_chat(page)
        ask(page, "How?")
        answered(page, "A")
        text = page.locator("#newest-A .text")
        first, second, plain = (text.locator(tag).evaluate("one => parseFloat(getComputedStyle(one).fontSize)")
                                for tag in ("h1", "h2", "p"))
        assert first >= second > plain and first < 22  # that of the page's own headings
        assert text.locator("pre").evaluate("one => getComputedStyle(one).direction") == "ltr"
        ask_many(page, "One.")
        # In a table, too, the dots of a list stand in its cell.
        one = page.locator("#many-table td ul").first
        assert one.evaluate("one => parseFloat(getComputedStyle(one).paddingInlineStart)") >= 18


def ask_many(page: Page, prompts: str) -> None:
    to_chat(page)
    page.locator("#many > button").click()
    page.locator("#many-prompts textarea").fill(prompts)
    page.locator("#ask-many").click()


def test_many_prompts_that_can_not_be_answered_leave_send_where_it_was(home, browser):
    with served(home, Broken(), browser) as (page, _):
        ask_many(page, "One.")
        expect(page.locator(".toast-body")).to_contain_text("Something went wrong")
        expect(page.locator("#send")).to_be_visible()
        expect(page.locator("#stop-answer")).to_be_hidden()


@pytest.mark.slow
def test_a_message_ends_many_prompts_and_can_be_stopped_itself(endless_page):
    page = endless_page
    ask_many(page, "One.")
    expect(page.locator("#stop-answer")).to_be_visible()
    ask(page, "Go on for ever.")
    expect(page.locator("#take-table")).to_be_visible()
    expect(page.locator("#newest-A .answer")).to_contain_text("and on and on")
    page.locator("#stop-answer").click()
    expect(page.locator("#newest-A .by")).to_contain_text("stopped")
    expect(page.locator("#send")).to_be_visible()


@pytest.mark.slow
def test_many_prompts_end_the_answers_that_still_come_and_keep_stop_for_themselves(home, browser):
    with served(home, Endless(seconds_between=0.3), browser) as (page, _):
        to_chat(page)
        page.locator("#many > button").click()
        page.locator("#many-prompts textarea").fill("One.")
        ask(page, "Go on for ever.")
        expect(page.locator("#newest-A .answer")).to_contain_text("and on and on")
        page.locator("#ask-many").click()
        expect(page.locator("#newest-A .by")).to_contain_text("stopped")
        expect(page.locator("#retry")).to_be_enabled()
        expect(page.locator("#stop-answer")).to_be_visible()
        expect(page.locator("#send")).to_be_hidden()
        page.keyboard.press("Escape")
        expect(page.locator("#many-table")).to_contain_text("1 of 1")
        expect(page.locator("#send")).to_be_visible()


@pytest.mark.slow
def test_an_adapter_that_arrives_is_offered_without_a_reload(visit, app):
    page = visit()
    to_chat(page)
    folder = app.home / "adapters" / "arrived"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "phi3/tiny"}', encoding="utf-8")
    page.locator("#picker-A input").click()
    expect(page.get_by_role("option", name="arrived")).to_be_visible()
    # A folder without weights is an adapter in name only; its lane says what is missing.
    page.get_by_role("option", name="arrived").click()
    ask(page, "Hello")
    expect(page.locator("#newest-A .problem")).to_contain_text("adapter_model.safetensors is missing")
    shutil.rmtree(folder)


@pytest.mark.slow
def test_what_was_said_outlives_a_server_that_forgets_the_page_just_before_a_message(endless):
    page, blocks = endless
    answered_once(page, "Go on for ever.")
    blocks.app.state_holder.session_data.clear()
    ask(page, "Once more.")
    expect(page.locator("#newest-A .answer .text")).to_contain_text("and on")
    page.keyboard.press("Escape")
    answered(page, "A")
    for _ in ("as it is", "loaded again"):
        expect(page.locator("#before-A .question")).to_contain_text("Go on for ever.")
        expect(page.locator("#newest-A .question")).to_contain_text("Once more.")
        loaded_again(page, page.reload)


@pytest.mark.slow
def test_what_was_said_outlives_a_server_that_forgets_the_page_while_answers_end(endless):
    page, blocks = endless
    to_chat(page)
    lost = lose_words(page, "rest")
    ask(page, "Go on for ever.")
    expect(page.locator("#newest-A .answer .text")).to_contain_text("and on")
    page.keyboard.press("Escape")
    while not lost:
        page.wait_for_timeout(50)
    # The page asks how its lanes do, and takes what it is told then.
    blocks.app.state_holder.session_data.clear()
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#newest-A .question")).to_contain_text("Go on for ever.")
    loaded_again(page, page.reload)
    expect(page.locator("#newest-A .question")).to_contain_text("Go on for ever.")


@pytest.mark.slow
@pytest.mark.parametrize("never_asked", [False, True])
def test_what_was_said_comes_back_though_the_page_never_hears_of_what_brings_it(endless, never_asked):
    page, _ = endless
    answered_once(page, "Go on for ever.")
    lost = lose_words(page, "open_lanes", never_asked)
    loaded_again(page, page.reload)
    expect(page.locator("#newest-A .question")).to_contain_text("Go on for ever.")
    assert lost


@pytest.mark.slow
def test_a_page_that_the_server_has_forgotten_loads_itself_again_with_what_was_said(endless):
    page, blocks = endless
    answered_once(page, "Go on for ever.")
    loaded_again(page, blocks.app.state_holder.session_data.clear)
    expect(page.locator("#newest-A .question")).to_contain_text("Go on for ever.")
    # Once is enough: many pages that the server can't all know would push each other out for ever.
    page.evaluate("window.isTheOldPage = true")
    blocks.app.state_holder.session_data.clear()
    expect(page.locator("#page-lost textarea, #page-lost input")).to_have_value("lost")
    page.locator("#add-lane").click()
    expect(page.locator("#picker-C input")).to_be_visible()
    assert page.evaluate("window.isTheOldPage")
