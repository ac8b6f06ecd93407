"""The described source in a real browser: fast with a parrot for a base, and one whole visit that really trains."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from adapters.library import Library
from phi3.generate import Answer, Lane
from phi3.machine import this_machine
from phi3.models import base_facts, load_tokenizer
from tabs import colours, theme
from tabs.page import build as build_page
from tabs.studio import Studio
from tests.browser import answered, free_port, running_app
from training.examples.measures import manner_shown
from training.presets import recommended
from training.runs import Runs

QUESTIONS = 20
TRAINING = 600_000  # milliseconds that a run may take on a busy machine


class Parrot:
    """Answers "Arr!" where a system message says how to answer; it holds its beak while `may_answer` is not set."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        while not self.may_answer.wait(0.05):
            if stop():
                yield [Answer(end="asked") for _ in lanes]
                return
        yield [self._one(lane) for lane in lanes]

    def _one(self, lane: Lane) -> Answer:
        question, system = lane.messages[-1]["content"], lane.messages[0]["content"]
        return Answer(f"Arr! {question}" if "pirate" in system else "Just so.", 3, 0.1, "stop")


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def open_page(home, browser, parrot):
    """Opens pages of the app's own parts, with the parrot instead of a base."""
    facts, machine = base_facts("phi3/tiny"), this_machine()
    studio = Studio(home, machine, facts, recommended(facts.config, machine), Runs(home), Library(home),
                    questions_at_once=QUESTIONS)
    studio.tokenizer.set_result(load_tokenizer(facts))
    studio.answerer.set_result(parrot)
    blocks = build_page(studio)
    _, address, _ = blocks.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True,
                                  quiet=True, css_paths=[theme.STYLESHEET], theme=colours.studio_theme())
    contexts = []

    def opened(**options: object) -> Page:
        contexts.append(browser.new_context(viewport={"width": 390, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.goto(address)
        page.get_by_role("radio", name="Describe it").check()
        expect(page.locator("#description textarea, #description input")).to_be_visible()
        return page

    yield opened
    for context in contexts:
        context.close()
    blocks.close()


def describe(page: Page, sentence: str) -> None:
    page.get_by_label("How should it answer?").fill(sentence)
    page.get_by_role("button", name="Write the answers").or_(page.get_by_role("button", name="Write them anew")).click()


def written(page: Page, sentence: str = "like a pirate", told: str = f"{QUESTIONS} answers of {QUESTIONS}") -> None:
    describe(page, sentence)
    expect(page.locator("#writing-state")).to_contain_text(told)


def mend(answer: Locator, words: str) -> None:
    answer.fill(words)
    answer.blur()


@pytest.mark.slow
def test_answers_are_written_mended_struck_out_and_saved(open_page):
    page = open_page()
    written(page)
    expect(page.locator("#data-summary")).to_contain_text(f"{QUESTIONS} rows read")
    first = page.locator("#described-0 textarea")
    expect(first).to_have_value(f"Arr! {page.locator('#described-0 label span').first.inner_text()}")
    mend(first, "Aye aye, captain!")
    expect(page.locator("#writing-state")).to_contain_text("1 edited")
    page.locator("#strike-1 input").check()
    expect(page.locator("#writing-state")).to_contain_text("1 edited, 1 struck out")
    expect(page.locator("#data-summary")).to_contain_text(f"{QUESTIONS - 1} rows read")
    expect(page.locator("#seen")).to_contain_text("Aye aye, captain!")
    struck = page.locator("#described-1 textarea").input_value()
    with page.expect_download() as saving:
        page.locator("#download-answers").click()
    assert saving.value.suggested_filename == "conversations.jsonl"
    lines = Path(saving.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == QUESTIONS - 1 and "Aye aye, captain!" in lines[0]
    assert not [line for line in lines if f'"{struck}"' in line]


@pytest.mark.slow
def test_a_reload_finds_the_answers_as_they_were_left(open_page):
    page = open_page()
    written(page)
    mend(page.locator("#described-0 textarea"), "Aye!")
    page.locator("#strike-1 input").check()
    expect(page.locator("#writing-state")).to_contain_text("1 edited, 1 struck out")
    page.reload()
    page.get_by_role("radio", name="Describe it").check()
    expect(page.get_by_label("How should it answer?")).to_have_value("like a pirate")
    expect(page.locator("#described-0 textarea")).to_have_value("Aye!")
    expect(page.locator("#strike-1 input")).to_be_checked()
    expect(page.locator("#data-summary")).to_contain_text(f"{QUESTIONS - 1} rows read")


@pytest.mark.slow
def test_others_are_shown_and_edits_stay(open_page):
    page = open_page()
    written(page)
    first = page.locator("#described-0 textarea")
    mend(first, "Aye!")
    page.locator("#other-answers").click()
    expect(first).not_to_have_value("Aye!")
    for _ in range(QUESTIONS // 5 - 1):
        before = first.input_value()
        page.locator("#other-answers").click()
        expect(first).not_to_have_value(before)
    expect(first).to_have_value("Aye!")


@pytest.mark.slow
def test_more_questions_are_asked_until_none_is_left(open_page):
    page = open_page()
    written(page)
    for asked in range(2 * QUESTIONS, 161, QUESTIONS):
        page.locator("#ask-more").click()
        expect(page.locator("#writing-state")).to_contain_text(f"{asked} answers of {asked}")
    page.locator("#ask-more").click()
    expect(page.locator(".toast-body")).to_contain_text("are asked already")


@pytest.mark.slow
def test_stop_keeps_what_was_written_and_asks_on_later(open_page, parrot):
    page = open_page()
    parrot.may_answer.clear()
    describe(page, "like a pirate")
    expect(page.locator("#writing-bar [role=progressbar]")).to_be_visible()
    expect(page.locator("#write-answers")).to_be_disabled()
    page.locator("#stop-writing").click()
    expect(page.locator("#writing-state")).to_contain_text("stopped before a question was answered")
    parrot.may_answer.set()
    page.locator("#ask-more").click()
    expect(page.locator("#writing-state")).to_contain_text(f"{QUESTIONS} answers of {QUESTIONS}")


@pytest.mark.slow
def test_what_can_not_be_trained_on_is_said_in_a_sentence(open_page):
    page = open_page()
    expect(page.locator("#data-summary")).to_contain_text("When the answers are written")
    page.locator("#write-answers").click()
    expect(page.locator(".toast-body").last).to_contain_text("The description is empty")
    describe(page, "x" * 5000)
    expect(page.locator(".toast-body").last).to_contain_text("5000 characters long")
    written(page, "like nobody", "doesn't follow this description at all")
    expect(page.locator("#data-summary .problem")).to_contain_text("No answer followed the description")
    page.locator("#start").click()
    expect(page.locator(".toast-body").last).to_contain_text("No answer followed the description")


@pytest.mark.slow
def test_axe_finds_nothing_serious_and_nothing_is_too_wide(open_page):
    page = open_page(color_scheme="dark")
    written(page)
    page.locator("#strike-1 input").check()
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    assert page.evaluate("""() => [...document.querySelectorAll('.described *')]
        .filter(one => one.getBoundingClientRect().right > window.innerWidth).length""") == 0


@pytest.mark.slow
def test_a_manner_is_described_mended_trained_and_compared(tmp_path_factory, browser):
    folder = tmp_path_factory.mktemp("described")
    with running_app(folder / "studio", folder / "app.log") as app:
        page = app.open(browser)
        page.get_by_role("radio", name="Describe it").check()
        written(page, "like a pirate", "can be learned from")
        mend(page.locator("#described-0 textarea"), "Arr, me hearty, ask the parrot!")
        page.locator("#strike-1 input").check()
        expect(page.locator("#writing-state")).to_contain_text("1 edited, 1 struck out")
        struck = page.locator("#described-1 label").inner_text()
        with page.expect_download() as saving:
            page.locator("#download-answers").click()
        saved = Path(saving.value.path()).read_text(encoding="utf-8")
        page.locator("#start").click()
        page.locator("#compare").click(timeout=TRAINING)
        for letter in "AB":
            answered(page, letter)
        base, adapter = (page.locator(f"#newest-{letter} .answer .text").inner_text() for letter in "AB")
        assert base != adapter and manner_shown("pirate", adapter)
        run, = Runs(app.home).all()
        trained = [turn for one in itertools.chain(*run.conversations()) for turn in one.messages]
        assert run.config.name == "like-a-pirate-1"
        assert {turn["role"] for turn in trained} == {"user", "assistant"}
        said = [turn["content"] for turn in trained]
        assert "Arr, me hearty, ask the parrot!" in said and struck.strip() not in said
        assert len(trained) == 2 * len(saved.splitlines())
        page.close()
