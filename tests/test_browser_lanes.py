"""What lanes can do beyond answering: strength, edits, blind votes, corrections, files, links, many prompts."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser import answered, ask, loaded_again, to_chat

pytestmark = pytest.mark.slow


@pytest.fixture(params=[390, 1600])
def chat(request, app, browser):
    page = app.open(browser, width=request.param)
    to_chat(page)
    yield page
    page.close()


def said(page, letter):
    return page.locator(f"#newest-{letter} .answer .text").inner_text()


def downloaded(page, button):
    with page.expect_download() as download:
        page.locator(button).click()
    return download.value.path().read_text(encoding="utf-8-sig")


def unfold(page, fold):
    page.locator(f"#{fold} > button").click()


def test_a_message_is_edited_and_one_lane_answers_again(chat):
    ask(chat, "How much is 2 plus 3?")
    answered(chat, "B")
    ask(chat, "What is the capital of Spain?")
    answered(chat, "B")
    chat.locator("#before-A button[data-does=edit]").click()
    expect(chat.locator("#edited textarea")).to_have_value("How much is 2 plus 3?")
    chat.locator("#edited textarea").fill("How much is 4 plus 4?")
    chat.locator("#send-again").click()
    expect(chat.locator("#newest-A .question")).to_have_text("How much is 4 plus 4?")
    answered(chat, "B")
    expect(chat.locator("#newest-A .answer .text")).to_contain_text("8")
    expect(chat.locator("#before-A .turn")).to_have_count(0)
    expect(chat.locator("#editor")).to_be_hidden()
    first = said(chat, "A")
    chat.locator("#newest-B button[data-does=retry]").click()
    answered(chat, "B")
    assert said(chat, "A") == first


def test_strength_nought_is_the_base(chat):
    chat.locator("#strength-B input[type=number]").fill("0")
    chat.locator("#strength-B input[type=number]").press("Tab")
    ask(chat, "What is the capital of France?")
    answered(chat, "B")
    assert said(chat, "A") == said(chat, "B")
    expect(chat.locator("#newest-B .by")).to_contain_text("pirate at 0") if "pirate" in chat.locator(
        "#picker-B input").input_value() else None


def test_a_blind_vote_names_the_lanes_and_counts(chat):
    chat.locator("#blind input").check()
    ask(chat, "Who are you?")
    expect(chat.locator("#best-A")).to_be_visible()
    expect(chat.locator("#newest-A .by")).to_contain_text("somebody")
    expect(chat.locator("#picker-A")).to_be_hidden()
    for letter in "AB":
        expect(chat.locator(f".lane-{letter} .block.lane-name")).to_be_visible()
    expect(chat.locator("#add-lane")).to_be_disabled()
    chat.locator("#best-A").click()
    expect(chat.locator("#add-lane")).to_be_enabled()
    expect(chat.locator(".lane-A .block.lane-name")).to_be_hidden()
    expect(chat.locator("#newest-A .by")).not_to_contain_text("somebody")
    expect(chat.locator("#picker-A")).to_be_visible()
    expect(chat.locator("#tally-table tbody tr")).to_have_count(2)
    pair = json.loads(downloaded(chat, "#take-pairs").splitlines()[-1])
    assert pair["prompt"][-1]["content"] == "Who are you?" and pair["chosen"] != pair["rejected"]
    chat.locator("#forget-votes").click()
    expect(chat.locator("#tally-table .empty")).to_be_visible()


def test_a_blind_comparison_is_still_blind_after_a_reload(chat):
    chat.locator("#blind input").check()
    ask(chat, "Who are you?")
    expect(chat.locator("#best-A")).to_be_visible()
    loaded_again(chat, chat.reload)
    expect(chat.locator("#newest-A .by")).to_contain_text("somebody")
    expect(chat.locator("#best-A")).to_be_visible()
    expect(chat.locator("#blind input")).to_be_checked()


def test_a_correction_is_kept_shown_taken_and_removed(chat):
    ask(chat, "What is the capital of Spain?")
    answered(chat, "B")
    chat.locator("#newest-B button[data-does=like]").click()
    expect(chat.locator("#edited textarea")).to_have_value(said(chat, "B"))
    chat.locator("#edited textarea").fill("Madrid it be, on the chart!")
    chat.locator("#teach-it").click()
    expect(chat.locator("#correction-rows .should")).to_have_text("Madrid it be, on the chart!")
    row = json.loads(downloaded(chat, "#take-corrections"))
    assert row["messages"][-1] == {"role": "assistant", "content": "Madrid it be, on the chart!"}
    expect(chat.locator("#train-corrections")).to_be_visible()
    chat.locator("#correction-rows button").click()
    expect(chat.locator("#correction-rows .empty")).to_be_visible()
    expect(chat.locator("#train-corrections")).to_be_hidden()


def test_what_was_said_is_taken_away_and_a_link_brings_the_lanes_back(chat, app, browser):
    ask(chat, "Who are you?")
    answered(chat, "B")
    unfold(chat, "take-away")
    assert "> Who are you?" in downloaded(chat, "#take-markdown")
    assert len(json.loads(downloaded(chat, "#take-json"))["lanes"]) == 2
    chat.locator("#strength-B input[type=number]").fill("0.5")
    chat.locator("#strength-B input[type=number]").press("Tab")
    chat.locator("#link-lanes").click()
    link = chat.locator("#lanes-link a").get_attribute("href")
    again = app.open(browser, link.removeprefix("/"))
    expect(again.locator("#strength-B input[type=number]")).to_have_value("0.5")
    expect(again.locator("#picker-B input")).to_have_value(chat.locator("#picker-B input").input_value())
    again.close()


def test_many_prompts_make_a_table(chat):
    unfold(chat, "many")
    chat.locator("#many-prompts textarea").fill("How much is 1 plus 1?\nWhat is the capital of Spain?\nWho are you?")
    chat.locator("#ask-many").click()
    expect(chat.locator("#many-table tbody tr")).to_have_count(3)
    expect(chat.locator("#many-table")).to_contain_text("3 of 3")
    table = downloaded(chat, "#take-table")
    assert table.startswith("prompt,base,") and "Who are you?" in table


def test_prompts_can_be_read_beside_the_answers_of_four_lanes(chat):
    while chat.locator("#add-lane").is_visible():
        before = chat.locator(".lane:visible").count()
        chat.locator("#add-lane").click()
        expect(chat.locator(".lane:visible")).to_have_count(before + 1)
    unfold(chat, "many")
    chat.locator("#many-prompts textarea").fill("What is the capital of Spain?")
    chat.locator("#ask-many").click()
    expect(chat.locator("#many-table tbody td")).to_have_count(4)
    assert chat.locator("#many-table tbody th").bounding_box()["width"] >= 120
