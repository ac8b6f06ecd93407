"""The page in a real browser, with runs that are staged: fast, so that every state can be seen."""

import itertools
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from adapters.library import Library
from phi3.generate import Answer, Lane
from phi3.machine import this_machine
from phi3.models import base_facts, load_tokenizer
from tabs.page import build as build_page
from tabs.studio import Studio
from tests.browser import free_port
from tests.staged import BASE_ANSWERS, PIRATE_ANSWERS, PROMPTS, StagedRun
from training.config import recommended
from training.run import Runs

names = (f"staged-{number}" for number in itertools.count(1))
PATIENCE = 30_000
# A radio or checkbox is pressed by its whole label, an input by itself.
SMALL_TARGETS = """() => [...document.querySelectorAll('button, a, [role=tab], label:has(> input), textarea, input')]
    .filter(one => one.offsetParent && !one.closest('[aria-hidden=true]'))
    .filter(one => !one.matches('input[type=radio], input[type=checkbox]'))
    .map(one => [one.tagName, one.innerText, one.getBoundingClientRect().height])
    .filter(([tag, text, height]) => height > 0 && height < 44)"""


@pytest.fixture(autouse=True)
def patient():
    expect.set_options(timeout=PATIENCE)


@pytest.fixture
def staged(app):
    """A run in the app's studio, trained by the test."""
    return StagedRun(app.home, name=next(names))


class Endless:
    """An answerer that goes on until it is asked to stop."""

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        for count in itertools.count(1):
            time.sleep(0.02)  # as long as a token takes
            asked = stop()
            yield [Answer("It goes " + "and on " * count, count, count / 50, "asked" if asked else "") for _ in lanes]
            if asked:
                return


@pytest.fixture
def endless_page(home, browser):
    """A page of the app's own parts, with the endless answerer instead of a base."""
    facts, machine = base_facts("phi3/tiny"), this_machine()
    studio = Studio(home, machine, facts, recommended(facts.hidden_size, machine), Runs(home), Library(home))
    studio.tokenizer.set_result(load_tokenizer(facts))
    studio.answerer.set_result(Endless())
    blocks = build_page(studio)
    _, address, _ = blocks.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True,
                                  quiet=True)
    page = browser.new_page()
    page.goto(address)
    yield page
    page.close()
    blocks.close()


def to_chat(page: Page) -> None:
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#message textarea")).to_be_visible()


def ask(page: Page, question: str) -> None:
    page.locator("#message textarea").fill(question)
    page.locator("#message textarea").press("Enter")


def pick(page: Page, letter: str, adapter: str) -> None:
    page.locator(f"#picker-{letter} input").fill(adapter)
    page.locator(f"#picker-{letter} input").press("Enter")


def answered(page: Page, letter: str) -> None:
    """Wait until the lane says who answered and how fast, and nothing streams any more."""
    expect(page.locator(f"#newest-{letter} .by")).to_contain_text("per second")
    expect(page.locator("#send")).to_be_visible()


# ---- The page itself ------------------------------------------------------------------------------------------------


def test_the_page_answers_soon_after_the_start(app):
    # An idle machine with two cores takes three to four seconds; tests rarely have it to themselves.
    assert app.seconds_to_page < 15


def test_the_page_asks_no_other_machine_for_anything(app, visit):
    page = visit()
    expect(page.locator("#seen figure").first).to_be_visible()
    to_chat(page)
    assert app.asked_elsewhere == []
    assert app.wrong == []


@pytest.mark.parametrize("width", [390, 1600])
def test_nothing_is_wider_than_the_screen(visit, staged, width):
    staged.begin()
    staged.train(1, 30)
    page = visit(f"?run={staged.run.id}", width=width)
    expect(page.locator(".said").first).to_be_visible()
    wide = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(wide)
    page.locator("#new-run").click()
    expect(page.locator("#seen figure").first).to_be_visible()
    assert page.evaluate(wide)
    to_chat(page)
    assert page.evaluate(wide)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, staged, scheme):
    staged.begin()
    staged.train(1, 45)
    page = visit(scheme=scheme)
    expect(page.locator("#seen figure").first).to_be_visible()
    for fold in page.locator(".setup .fold > button").all():
        fold.click()
    assert serious(page) == []
    page.goto(page.url.split("?")[0] + f"?run={staged.run.id}")
    expect(page.locator(".said").first).to_be_visible()
    assert serious(page) == []
    to_chat(page)
    page.locator(".composer .fold > button").click()
    ask(page, "What day comes after Monday?")
    answered(page, "A")
    assert serious(page) == []


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in found if one["impact"] in ("serious", "critical")
            for node in one["nodes"]]


def test_what_is_pressed_is_large_enough_for_a_finger(visit):
    page = visit(width=390)
    expect(page.locator("#seen figure").first).to_be_visible()
    small = page.evaluate(SMALL_TARGETS)
    assert small == []


# ---- Data -----------------------------------------------------------------------------------------------------------


def test_an_example_is_chosen_and_shows_what_is_learned_from_it(visit):
    page = visit()
    expect(page.get_by_role("radio", name="A pirate")).to_be_checked()
    expect(page.locator("#data-summary")).to_contain_text("conversations")
    expect(page.locator("#seen mark.trained").first).to_contain_text("<|end|>")
    first = page.locator("#seen").inner_text()
    page.get_by_role("button", name="Show others").click()
    expect(page.locator("#seen")).not_to_have_text(first, use_inner_text=True)


def test_bad_data_is_answered_with_a_sentence_in_its_place(visit, tmp_path):
    page = visit()
    page.get_by_role("radio", name="Your own").check()
    expect(page.locator("#data-summary")).to_contain_text("Upload a file or paste")
    page.locator("#paste textarea").fill("this is no conversation")
    expect(page.locator("#data-summary .problem")).to_contain_text("not JSON")
    page.locator("#paste textarea").fill('{"question": "a", "reply": "b"}')
    expect(page.locator("#data-summary .problem")).to_contain_text("Columns seen: question, reply")
    page.locator("#start").click()
    expect(page.locator(".toast-body")).to_contain_text("Columns seen")
    binary = tmp_path / "photo.jsonl"
    binary.write_bytes(bytes(range(256)))
    page.locator("#upload input[type=file]").set_input_files(binary)
    expect(page.locator("#data-summary .problem")).to_contain_text("not UTF-8")
    assert "Traceback" not in page.content()


def test_pasted_conversations_are_counted_and_the_rest_is_explained(visit):
    page = visit()
    page.get_by_role("radio", name="Your own").check()
    page.locator("#paste textarea").fill('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}')
    expect(page.locator("#data-summary")).to_contain_text("1 of 2 rows can't be used")
    page.get_by_role("button", name="1 row is left out, and why").click()
    expect(page.locator("table.reasons")).to_contain_text("its columns aren't known")


# ---- Settings -------------------------------------------------------------------------------------------------------


def test_the_code_follows_the_settings(visit):
    page = visit()
    page.get_by_role("button", name="See the code").click()
    expect(page.locator("#code")).to_contain_text("peft_config")
    page.locator("#setting-r input").fill("24")
    expect(page.locator("#code")).to_contain_text("'r': 24")
    page.get_by_role("radio", name="The published recipe's").check()
    expect(page.locator("#code")).to_contain_text("5e-06")
    expect(page.locator("#settings-note")).to_contain_text("teaches little")


def test_a_setting_out_of_its_range_is_named(visit):
    page = visit()
    page.locator("#setting-r input").fill("9000")
    expect(page.locator("#settings-note")).to_contain_text("r is 9000, and must be between 1 and 512")


# ---- A run ----------------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_is_found_and_followed(visit, staged):
    with staged.held():
        staged.begin()
        staged.train(1, 25)
        page = visit()
        expect(page.locator(".run-heading")).to_contain_text("training")
        expect(page.locator("#run-bar")).to_contain_text("Step 25 of 60, about 11 s left")
        expect(page.locator(".said .now").first).to_contain_text(PIRATE_ANSWERS[0])
        expect(page.locator(".said .before").first).to_contain_text(BASE_ANSWERS[0])
        staged.train(26, 41)
        expect(page.locator("#run-bar")).to_contain_text("Step 41 of 60")
        expect(page.locator("#losses svg path.unseen.dot")).to_have_count(3)
        page.reload()
        expect(page.locator("#run-bar")).to_contain_text("Step 41 of 60")
        second = visit()
        expect(second.locator("#run-bar")).to_contain_text("Step 41 of 60")
        staged.end("finished")
        expect(page.locator("#compare")).to_be_visible()
        expect(second.locator(".outcome")).to_contain_text("is ready")


def test_every_curve_has_its_table(visit, staged):
    staged.begin()
    staged.train(1, 25)
    page = visit(f"?run={staged.run.id}")
    page.get_by_role("button", name="The losses as a table").click()
    expect(page.locator("table.numbers").first.locator("tbody tr")).to_have_count(26)
    page.get_by_role("button", name="Speed").click()
    expect(page.get_by_role("columnheader", name="tokens per second")).to_be_visible()


def test_stop_asks_the_run_to_stop_and_says_so(visit, staged):
    with staged.held():
        staged.begin()
        staged.train(1, 5)
        page = visit()
        page.locator("#stop-run").click()
        expect(page.locator("#run-bar")).to_contain_text("Stopping after this step")
        assert staged.run.is_asked_to_stop()
        staged.end("stopped", step=6)
        expect(page.locator(".outcome")).to_contain_text("was stopped after step")


def test_a_second_start_is_refused_in_a_sentence(visit, app):
    page = visit()
    staged = StagedRun(app.home, name=next(names))
    with staged.held():
        staged.begin()
        page.locator("#start").click()
        expect(page.locator(".toast-body")).to_contain_text(f"{staged.run.id} is still training")


def test_interrupted_and_failed_runs_say_what_happened(visit, staged, app):
    staged.begin()
    staged.train(1, 7)
    page = visit(f"?run={staged.run.id}")
    expect(page.locator(".outcome")).to_contain_text("interrupted after step 7")
    failed = StagedRun(app.home, name=next(names))
    failed.fail()
    page = visit(f"?run={failed.run.id}")
    expect(page.locator(".outcome")).to_contain_text("ran out of memory. Use a smaller batch size.")


def test_past_runs_open_again_from_their_list(visit, staged):
    staged.begin()
    staged.train(1, 60)
    staged.end("finished")
    page = visit()
    page.locator(f'#past-runs a[href="?run={staged.run.id}"]').click()
    expect(page.locator(".run-heading h2")).to_have_text(staged.run.config.name)
    expect(page.locator(".outcome")).to_contain_text("its loss fell from 2.80 to")
    page.locator("#new-run").click()
    expect(page.locator("#start")).to_be_visible()
    expect(page).not_to_have_url(re.compile("run="))


def test_a_run_that_is_not_there_is_a_sentence(visit):
    page = visit("?run=never-was")
    expect(page.locator(".toast-body")).to_contain_text("There is no run never-was")


# ---- Chat -----------------------------------------------------------------------------------------------------------


def test_compare_asks_base_and_adapter_the_runs_own_question(visit, staged):
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
    page.locator("#sampling-temperature input").fill("-3")
    ask(page, "Hello")
    expect(page.locator(".toast-body")).to_contain_text("Temperature is -3, and must be between 0 and 5")
    expect(page.locator("#send")).to_be_visible()


def test_an_empty_message_is_answered_with_a_sentence(visit):
    page = visit()
    to_chat(page)
    page.locator("#send").click()
    expect(page.locator(".toast-body")).to_contain_text("Write a message first")


def test_stop_ends_the_answers_and_keeps_what_was_said(endless_page):
    page = endless_page
    to_chat(page)
    ask(page, "Tell me everything.")
    expect(page.locator("#newest-A .answer")).to_contain_text("and on and on")
    page.locator("#stop-answer").click()
    expect(page.locator("#newest-A .by")).to_contain_text("stopped")
    expect(page.locator("#send")).to_be_visible()
    page.locator("#undo").click()
    expect(page.locator("#message textarea")).to_have_value("Tell me everything.")


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
