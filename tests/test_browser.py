"""The page in a real browser, with runs that are staged: fast, so that every state can be seen."""

import itertools
import re
import zipfile

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import answered, ask, to_chat
from tests.staged import BASE_ANSWERS, PIRATE_ANSWERS, StagedRun
from training.runs import Runs

# Words that stand on more than one line.
BROKEN_WORDS = """(within) => [...document.querySelectorAll(within)].flatMap((one) => {
  const walker = document.createTreeWalker(one, NodeFilter.SHOW_TEXT), broken = [];
  while (walker.nextNode()) for (const {0: word, index} of walker.currentNode.data.matchAll(/[^ ]+/g)) {
    const range = document.createRange();
    range.setStart(walker.currentNode, index);
    range.setEnd(walker.currentNode, index + word.length);
    if (new Set([...range.getClientRects()].map((rect) => rect.top)).size > 1) broken.push(word);
  }
  return broken;
})"""

names = (f"staged-{number}" for number in itertools.count(1))
# A radio or checkbox is pressed by its whole label, an input by itself.
SMALL_TARGETS = """() => [...document.querySelectorAll('button, a, [role=tab], label:has(> input), textarea, input')]
    .filter(one => one.offsetParent && !one.closest('[aria-hidden=true]'))
    .filter(one => !one.matches('input[type=radio], input[type=checkbox]'))
    .map(one => [one.tagName, one.innerText, one.getBoundingClientRect().height])
    .filter(([tag, text, height]) => height > 0 && height < 44)"""


@pytest.fixture
def staged(app):
    """A run in the app's studio, trained by the test."""
    return StagedRun(app.home, name=next(names))


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


def test_a_telephone_gives_its_width_to_what_is_read(visit):
    page = visit(width=390)
    card = page.locator(".card:visible").first
    assert card.bounding_box()["x"] == 12
    assert card.evaluate("one => getComputedStyle(one).paddingLeft") == "16px"


def test_nothing_moves_for_who_wants_less_motion(visit):
    page = visit()
    page.emulate_media(reduced_motion="reduce")
    assert page.locator("#start").evaluate("one => getComputedStyle(one).transitionProperty") == "none"


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 768, 1600])
def test_start_lies_in_its_card(visit, width):
    page = visit(width=width)
    card, start = (page.locator(one).bounding_box() for one in (".card:has(#start)", "#start"))
    assert start["x"] + start["width"] <= card["x"] + card["width"]


def test_texts_of_several_lines_have_the_whole_width(visit):
    page = visit(width=1600)
    to_chat(page)
    for fold in ("#many > button", ".composer .fold > button"):
        page.locator(fold).click()
    for text in ("#many-prompts textarea", "#system textarea"):
        expect(page.locator(text)).to_be_visible()
        assert page.locator(text).bounding_box()["width"] > 1000


def test_tables_of_numbers_break_no_word_on_a_telephone(visit, staged):
    staged.begin()
    staged.train(1, 60)
    staged.end("finished")
    page = visit(f"?run={staged.run.id}", width=390)
    page.get_by_role("button", name="The losses as a table").click()
    expect(page.locator(".scroll th", has_text="Step").first).to_be_visible()
    expect(page.get_by_role("region", name="The losses as a table", exact=True)).to_be_visible()
    assert page.evaluate(BROKEN_WORDS, ".scroll .numbers:has(thead)") == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_on_a_telephone_the_adapters_of_the_second_lane_are_chosen_where_they_can_be_seen(visit):
    page = visit(width=390)
    to_chat(page)
    page.locator(".lanes").evaluate("one => one.scrollTo({left: one.scrollWidth, behavior: 'instant'})")
    page.locator("#picker-B input").click()
    option = page.get_by_role("option", name="shop")
    expect(option).to_be_visible()
    lane, place = page.locator(".lane-B").bounding_box(), option.bounding_box()
    assert lane["x"] <= place["x"] and place["x"] + place["width"] <= lane["x"] + lane["width"] <= 390
    assert place["y"] + place["height"] <= lane["y"] + lane["height"]
    option.click()
    expect(page.locator("#picker-B input")).to_have_value("shop")


def test_a_list_to_choose_from_looks_like_a_text_to_fill_in(visit):
    page = visit()
    to_chat(page)
    looks = "one => [getComputedStyle(one).borderColor, getComputedStyle(one).borderRadius]"
    message, chosen, corrected = (page.locator(one) for one in (
        "#message textarea", "#picker-A .wrap:has(> .wrap-inner)", "#corrected .wrap:has(> .wrap-inner)"))
    assert chosen.evaluate(looks) == message.evaluate(looks)
    page.locator("#corrections > button").click()
    expect(corrected).to_be_visible()
    assert corrected.bounding_box()["height"] == chosen.bounding_box()["height"] < 48


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
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


def test_who_comes_by_keyboard_sees_where_they_are(visit):
    page = visit()
    to_chat(page)
    for part in ("#strength-B input[type=range]", "#strength-B input[type=number]", "#blind input",
                 "#message textarea"):
        page.locator(part).focus()
        for key in ("Shift+Tab", "Tab"):
            page.keyboard.press(key)
        expect(page.locator(part)).to_be_focused()
        assert page.locator(part).evaluate("one => getComputedStyle(one).outlineStyle") == "solid", part


def test_who_makes_a_button_go_away_by_keyboard_goes_on_at_what_came_in_its_place(visit, app):
    page = visit()
    staged = StagedRun(app.home, name=next(names))
    heading = page.locator("#run-heading [tabindex]")
    with staged.held():
        staged.begin()
        page.locator("#start").press("Enter")
        expect(page.locator("#run-bar")).to_contain_text("as soon as the run before it has ended")
        expect(heading).to_be_focused()
        page.locator("#stop-run").press("Enter")
        expect(page.locator("#resume-run")).to_be_visible()
        expect(heading).to_be_focused()
    page.locator("#new-run").press("Enter")
    expect(page.get_by_role("radio", name="A pirate")).to_be_focused()
    to_chat(page)
    while page.locator("#add-lane").is_visible():
        before = page.locator(".lane:visible").count()
        page.locator("#add-lane").press("Enter")
        expect(page.locator(".lane:visible")).to_have_count(before + 1)
    expect(page.locator("#message textarea")).to_be_focused()


def test_arrow_keys_go_from_one_choice_to_the_next(visit):
    page = visit()
    expect(page.locator("#seen figure").first).to_be_visible()
    page.get_by_role("tab", name="Train").focus()
    chosen = page.locator("#preset input:checked")
    chosen.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="Thorough")).to_be_checked()
    expect(chosen).to_have_count(1)
    expect(page.locator("#preset-why")).to_contain_text("seen 5 times")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#preset-why")).to_contain_text("seen 3 times")


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
    expect(page.locator("#data-summary")).to_contain_text("Upload a file, paste")
    page.locator("#paste textarea").fill("this is no conversation")
    expect(page.locator("#data-summary .problem")).to_contain_text("plain text without turns")
    page.locator("#paste textarea").fill('{"colour": "a", "size": "b"}')
    expect(page.locator("#data-summary .empty")).to_contain_text("Once you have said which is which")
    page.locator("#start").click()
    expect(page.locator(".toast-body")).to_contain_text("Columns seen")
    binary = tmp_path / "photo.jsonl"
    binary.write_bytes(bytes(range(256)))
    page.locator("#upload input[type=file]").set_input_files(binary)
    expect(page.locator("#data-summary .problem")).to_contain_text("is a binary file")
    assert "Traceback" not in page.content()


def test_pasted_conversations_are_counted_and_the_rest_is_explained(visit):
    page = visit()
    page.get_by_role("radio", name="Your own").check()
    page.locator("#paste textarea").fill('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}')
    expect(page.locator("#data-summary")).to_contain_text("1 of 2 rows can't be used")
    page.get_by_role("button", name="1 row is left out, and why").click()
    expect(page.locator("table.reasons")).to_contain_text("no answer: its columns are prompt")


# ---- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_code_follows_the_settings(visit):
    page = visit()
    page.get_by_role("button", name="See the code").click()
    expect(page.locator("#code")).to_contain_text("peft_config")
    page.locator("#setting-r input").fill("24")
    expect(page.locator("#code")).to_contain_text("'r': 24")
    page.get_by_role("radio", name="As in the recipe").check()
    expect(page.locator("#code")).to_contain_text("5e-06")
    expect(page.locator("#settings-note")).to_contain_text("teaches little")


@pytest.mark.slow
def test_a_preset_follows_the_data_and_leaves_what_was_set_by_hand(visit):
    page = visit()
    expect(page.locator("#preset-why")).to_contain_text("270 conversations, seen 3 times, 8 in a step: 102 steps")
    page.get_by_role("radio", name="Thorough").check()
    expect(page.locator("#setting-r input")).to_have_value("32")
    expect(page.locator("#setting-num_train_epochs input")).to_have_value("5")
    page.locator("#setting-r input").fill("300")
    expect(page.locator("#settings-note")).to_contain_text("Rank (r) is 300")
    page.get_by_role("radio", name="Your own").check()
    expect(page.locator("#preset-why")).to_contain_text("the rest follows from your data")
    page.locator("#paste textarea").fill("\n".join(f'{{"prompt": "{one}?", "completion": "{one}"}}'
                                                   for one in range(40)))
    expect(page.locator("#preset-why")).to_contain_text("36 conversations, seen 9 times")
    expect(page.locator("#preset-why")).to_contain_text("As you set it: Rank (r).")
    expect(page.locator("#setting-num_train_epochs input")).to_have_value("9")
    expect(page.locator("#setting-r input")).to_have_value("300")
    page.get_by_role("radio", name="Balanced").check()
    expect(page.locator("#setting-r input")).to_have_value("16")
    expect(page.locator("#settings-note")).to_have_text("")


def test_a_setting_out_of_its_range_is_named(visit):
    page = visit()
    page.locator("#setting-r input").fill("9000")
    expect(page.locator("#settings-note")).to_contain_text("Rank (r) is 9000, and must be between 1 and 512")


def test_what_is_typed_into_a_setting_is_shown_as_text(visit):
    page = visit()
    page.get_by_role("button", name="More LoRA settings").click()
    page.locator("#setting-target_modules").get_by_role("textbox").fill("<img src=x> qkv_proj")
    expect(page.locator("#settings-note .problem")).to_contain_text("'<img src=x> qkv_proj'")
    expect(page.locator("#settings-note img")).to_have_count(0)


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
        expect(page.locator("#losses .legend .unseen")).to_be_visible()
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


def test_a_second_start_waits_and_can_leave_the_queue(visit, app):
    page = visit()
    staged = StagedRun(app.home, name=next(names))
    with staged.held():
        staged.begin()
        page.locator("#start").click()
        expect(page.locator("#run-bar")).to_contain_text("as soon as the run before it has ended")
        page.locator("#stop-run").click()
        expect(page.locator(".outcome")).to_contain_text("It was taken out of the queue.")
        expect(page.locator("#resume-run")).to_be_visible()


def test_a_run_that_begins_on_a_telephone_is_seen_from_its_top(visit, app):
    page = visit(width=390)
    staged = StagedRun(app.home, name=next(names))
    with staged.held():
        staged.begin()
        page.locator("#start").click()
        expect(page.locator("#run-bar")).to_contain_text("as soon as the run before it has ended")
        expect(page.locator("#run-bar")).to_be_in_viewport()
        page.locator("#stop-run").click()
        expect(page.locator("#resume-run")).to_be_visible()


@pytest.mark.slow
def test_interrupted_and_failed_runs_say_what_happened(visit, staged, app):
    staged.begin()
    staged.train(1, 7)
    page = visit(f"?run={staged.run.id}")
    expect(page.locator(".outcome")).to_contain_text("interrupted after step 7")
    failed = StagedRun(app.home, name=next(names))
    failed.fail()
    page = visit(f"?run={failed.run.id}")
    expect(page.locator(".outcome")).to_contain_text("ran out of memory. Use a smaller batch size.")


@pytest.mark.slow
def test_a_run_that_is_resumed_elsewhere_is_followed_again(visit, staged):
    staged.begin()
    staged.train(1, 7)
    staged.end("stopped", step=7)
    page = visit(f"?run={staged.run.id}")
    expect(page.locator("#resume-run")).to_be_visible()
    with staged.held():
        staged.run.append("resumed", 7, checkpoint="step-7", skipped=[], steps=60, device="cpu",
                          trainable_parameters=412_160)
        staged.train(8, 12)
        expect(page.locator("#run-bar")).to_contain_text("Step 12 of 60")
        expect(page.locator("#resume-run")).to_be_hidden()


@pytest.mark.slow
def test_the_list_of_runs_follows_what_becomes_of_them_elsewhere(visit, app):
    page = visit()
    staged = StagedRun(app.home, name=next(names))
    row = page.locator(f'#past-runs a[href="?run={staged.run.id}"]')
    expect(row).to_contain_text("getting ready")
    staged.end("finished")
    expect(row).to_contain_text("finished")
    Runs(app.home).delete(staged.run)
    expect(row).to_have_count(0)


@pytest.mark.slow
def test_a_run_that_is_deleted_elsewhere_is_let_go_of_and_said_so(visit, staged, app):
    staged.begin()
    staged.train(1, 60)
    staged.end("finished")
    page = visit(f"?run={staged.run.id}")
    expect(page.locator(".run-heading h2")).to_have_text(staged.run.config.name)
    Runs(app.home).delete(staged.run)
    expect(page.locator(".toast-body")).to_contain_text(f"There is no run {staged.run.id} here")
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator(".run-heading h2")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("run="))
    expect(page.locator("#past-runs")).not_to_contain_text(staged.run.config.name)


@pytest.mark.slow
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


# ---- Keep ---------------------------------------------------------------------------------------------------------


def test_a_run_is_taken_away_as_a_file_and_deleted_only_when_one_is_sure(visit, staged, app):
    staged.begin()
    staged.train(1, 12)
    staged.run.append("stopped", 12, adapter="", folder="", steps=12, seconds=4.0, loss_before=2.0, loss=1.0,
                      example="?")
    page = visit(f"?run={staged.run.id}")
    with page.expect_download() as saving:
        page.locator("#download-run").click()
    assert saving.value.suggested_filename == f"{staged.run.id}.zip"
    assert zipfile.is_zipfile(saving.value.path())
    answers = iter(("dismiss", "accept"))
    page.on("dialog", lambda dialog: getattr(dialog, next(answers))())
    page.locator("#delete-run").click()
    expect(page.locator("#download-run")).to_be_visible()
    assert staged.run.folder.is_dir()
    page.locator("#delete-run").click()
    expect(page.locator("#start")).to_be_visible()
    expect(page).not_to_have_url(re.compile(staged.run.id))
    assert not staged.run.folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1600])
def test_a_shown_run_has_its_link_and_nothing_that_was_hidden(visit, staged, width):
    with staged.held():
        staged.begin()
        staged.train(1, 60)
    staged.end("finished")
    page = visit(f"?run={staged.run.id}", width=width)
    page.locator("#share-run").click()
    expect(page.locator("#shared-link a")).to_contain_text("can see and change all else as well")
    expect(page.locator("#share-run")).to_have_text("Stop showing it to others")
    for hidden in ("#parcel", "#address", ".tools input[type=checkbox]"):
        expect(page.locator(hidden)).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1600])
def test_the_plan_follows_the_settings(visit, width):
    page = visit(width=width)
    expect(page.locator("#plan")).to_contain_text("steps")
    before = page.locator("#plan .plan-line").inner_text()
    page.get_by_label("Epochs").fill("9")
    page.get_by_label("Epochs").blur()
    expect(page.locator("#plan .plan-line")).not_to_have_text(before)
    expect(page.locator("#make-it-fit")).to_be_hidden()
