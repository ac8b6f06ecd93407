"""The dataset front door in a real browser: what is read, what is asked, what is refused, and what is seen."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from adapters.library import Library
from phi3.machine import this_machine
from phi3.models import base_facts, load_tokenizer
from tabs.page import build as build_page
from tabs.studio import Studio
from tests.browser import free_port
from training.data import ChatData
from training.presets import recommended
from training.report import Counted
from training.runs import Runs
from training.shelf import Shelf

pytestmark = pytest.mark.slow


LONG = "It is said that " * 8


class Slow(Shelf):
    """Never comes to an end with counting what was pasted."""

    def counted(self, data: ChatData, tokenizer: object) -> Iterator[float | Counted]:
        while data.kind == "paste":
            time.sleep(0.1)
            yield 0.5
        yield from super().counted(data, tokenizer)


@pytest.fixture
def slow_page(home, browser):
    """A page of the app's own parts that counts a paste for ever."""
    facts, machine = base_facts("phi3/tiny"), this_machine()
    studio = Studio(home, machine, facts, recommended(facts.config, machine), Runs(home), Library(home), shelf=Slow())
    studio.tokenizer.set_result(load_tokenizer(facts))
    blocks = build_page(studio)
    _, address, _ = blocks.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True,
                                  quiet=True)
    page = browser.new_page()
    page.goto(address)
    yield page
    page.close()
    blocks.close()


@pytest.fixture
def own(visit):
    """A page on which one's own data is chosen."""

    def opened(**options):
        page = visit(**options)
        page.get_by_role("radio", name="Your own").check()
        expect(page.locator("#upload")).to_be_visible()
        return page

    return opened


def upload(page, *paths):
    page.locator("#upload input[type=file]").set_input_files([str(path) for path in paths])


def partly_bad(folder) -> Path:
    rows = [json.dumps({"prompt": f"q{number}", "completion": f"{LONG[:number * 4]} an answer, number {number}"})
            for number in range(30)]
    rows[3], rows[7], rows[9] = "{broken", json.dumps({"prompt": "no answer"}), rows[8]
    rows[11] = json.dumps({"messages": [{"role": "narrator", "content": "x"}]})
    path = folder / "chats.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_a_partly_bad_file_is_reported_row_by_row(own, tmp_path):
    page = own()
    upload(page, partly_bad(tmp_path))
    expect(page.locator("#data-summary")).to_contain_text("30 rows read")
    expect(page.locator("#data-summary")).to_contain_text("27 kept, 3 left out · 1 conversation more than once")
    page.get_by_role("button", name="3 rows are left out, and why").click()
    expect(page.locator("table.reasons")).to_contain_text("unknown role 'narrator'")
    with page.expect_download() as saving:
        page.locator("#download-dropped").click()
    lines = list(csv.reader(Path(saving.value.path()).read_text(encoding="utf-8").splitlines()))
    assert [line[1] for line in lines] == ["row", "4", "8", "12"]
    page.locator("#no-repeats input").check()
    expect(page.get_by_role("button", name="4 rows are left out, and why")).to_be_visible()


def test_files_are_named_on_a_telephone_and_nothing_lies_over_their_label(own, tmp_path):
    page = own(width=390)
    for name in ("first", "second"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "Hello", "completion": "Ahoy!"}', encoding="utf-8")
    upload(page, tmp_path / "first.jsonl", tmp_path / "second.jsonl")
    expect(page.locator("#upload .stem")).to_have_count(2)
    expect(page.locator("#seen figcaption")).to_have_text(["first.jsonl, row 1", "second.jsonl, row 1"])
    assert page.locator("#upload .stem").evaluate_all("all => all.every((one) => one.scrollWidth <= one.clientWidth)")
    label, tools = (page.locator(f"#upload > {part}").bounding_box() for part in ("label", ".icon-button-wrapper"))
    assert label["x"] + label["width"] <= tools["x"]
    expect(page.locator("#upload .icon-button").first).to_have_attribute("aria-label", "Add files")


def test_other_data_is_seen_at_once_though_a_large_one_is_still_being_read(slow_page):
    page = slow_page
    page.get_by_role("radio", name="Your own").check()
    page.locator("#paste textarea").fill('{"prompt": "a", "completion": "b"}')
    expect(page.locator("#data-summary")).to_contain_text("Counting their tokens")
    # A setting is no other data: what is counted already isn't counted anew.
    page.locator("#setting-max_length input").fill("512")
    expect(page.locator("#setting-max_length input")).to_have_value("512")
    page.get_by_role("radio", name="A pirate").check()
    expect(page.locator("#data-summary")).to_contain_text("300 rows read", timeout=20_000)
    expect(page.locator("#paste")).to_be_hidden()


def test_a_row_is_found_by_its_number(own, tmp_path):
    page = own()
    upload(page, partly_bad(tmp_path))
    expect(page.locator("#data-summary")).to_contain_text("30 rows read")
    expect(page.locator("#seen figure")).to_have_count(3)
    page.locator("#find-row input").fill("21")
    page.locator("#show-row").click()
    expect(page.locator("#seen figure")).to_have_count(1)
    expect(page.locator("#seen")).to_contain_text("an answer, number 20")
    expect(page.locator("#seen mark.trained")).to_contain_text("<|end|>")
    page.locator("#find-row input").fill("4")
    page.locator("#find-row input").press("Enter")
    expect(page.locator("#seen")).to_contain_text("not JSON")


def test_what_is_seen_stays_where_the_visitor_turned_when_a_setting_changes(own, tmp_path):
    page = own()
    upload(page, partly_bad(tmp_path))
    page.get_by_role("button", name="How long they are").click()
    page.locator("#find-row input").fill("21")
    page.locator("#show-row").click()
    expect(page.locator("#seen")).to_contain_text("an answer, number 20")
    page.locator("#setting-max_length input").fill("16")
    expect(page.locator("#histogram")).to_contain_text("longer than 16 tokens")
    expect(page.locator("#seen")).not_to_contain_text("an answer, number 20")
    expect(page.locator("#seen figcaption")).to_have_text(["Row 21"])
    page.get_by_role("button", name="Show others").click()
    expect(page.locator("#seen figcaption")).to_have_text(["Row 5", "Row 6", "Row 7"])
    page.locator("#setting-num_train_epochs input").fill("2")
    page.locator("#setting-max_length input").fill("1024")
    expect(page.locator("#histogram")).to_contain_text("None is longer than 1,024 tokens")
    expect(page.locator("#seen")).to_contain_text("an answer, number 4")
    page.get_by_role("radio", name="Pirate").check()
    expect(page.locator("#seen figcaption")).to_have_text(["Row 1", "Row 2", "Row 3"])
    page.get_by_role("radio", name="Your own").check()
    expect(page.locator("#seen figcaption")).to_have_text(["Row 5", "Row 6", "Row 7"])


def test_the_columns_of_an_unknown_table_are_asked_for(own, tmp_path):
    path = tmp_path / "faq.csv"
    rows = (f"{one};Wo ist {one}?;Dort, bei {one}." for one in range(25))
    path.write_text("\n".join(["nr;Kundenfrage;Unsere Worte", *rows]))
    page = own()
    upload(page, path)
    expect(page.locator("#columns")).to_be_visible()
    # A question and a guess, not an error.
    expect(page.locator("#data-summary .empty")).to_contain_text("Once you have said which is which")
    expect(page.locator("#data-summary .problem")).to_have_count(0)
    expect(page.locator("#prompt-column input")).to_have_value("Kundenfrage")
    expect(page.locator("#answer-column input")).to_have_value("Unsere Worte")
    page.locator("#use-columns").click()
    expect(page.locator("#data-summary")).to_contain_text("25 rows read in chosen columns form")
    expect(page.locator("#seen mark.trained").first).to_contain_text("Dort, bei 0.")
    expect(page.locator("#columns")).to_be_visible()
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "a", "completion": "b"}')
    page.locator("#upload").get_by_label("Clear").click()
    upload(page, other)
    expect(page.locator("#data-summary")).to_contain_text("1 row read")
    expect(page.locator("#columns")).to_be_hidden()


def test_data_with_nothing_to_train_is_refused_at_start(own, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "word " * 400, "completion": f"yes {one}"}) for one in range(22)))
    page = own()
    page.locator("#setting-max_length input").fill("64")
    upload(page, path)
    expect(page.locator("#data-summary .warning").first).to_contain_text("Nothing to train")
    page.locator("#start").click()
    expect(page.locator(".toast-body")).to_contain_text("Nothing to train")
    expect(page.locator(".run-heading")).to_have_count(0)


def test_a_hopeless_file_is_answered_with_a_sentence(own, tmp_path):
    page = own()
    path = tmp_path / "photo.jsonl"
    path.write_bytes(bytes(range(256)))
    upload(page, path)
    expect(page.locator("#data-summary .problem")).to_contain_text("binary file")


def test_lengths_stand_against_the_limit(own, tmp_path):
    page = own()
    upload(page, partly_bad(tmp_path))
    page.locator("#setting-max_length input").fill("16")
    page.get_by_role("button", name="How long they are").click()
    expect(page.locator("#histogram .over").first).to_be_visible()
    expect(page.locator("#histogram")).to_contain_text("longer than 16 tokens and cut")
    page.get_by_text("The lengths as a table").click()
    expect(page.locator("#histogram table")).to_be_visible()


def test_several_files_are_read_together(own, tmp_path):
    more = tmp_path / "validation.csv"
    more.write_text("question,answer\nnew?,held\n,\n")
    train = partly_bad(tmp_path).rename(tmp_path / "train.jsonl")
    page = own()
    upload(page, train, more)
    expect(page.locator("#data-summary")).to_contain_text("32 rows read")
    page.get_by_role("button", name="4 rows are left out, and why").click()
    expect(page.locator("table.reasons")).to_contain_text("validation.csv 2")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1600, "light"), (1600, "dark")])
def test_the_front_door_fits_every_screen(own, tmp_path, width, scheme):
    page = own(width=width, scheme=scheme)
    upload(page, partly_bad(tmp_path))
    expect(page.locator("#seen figure")).to_have_count(3)
    page.get_by_role("button", name="3 rows are left out, and why").click()
    page.get_by_role("button", name="How long they are").click()
    page.get_by_role("button", name="Or a dataset on the Hub").click()
    expect(page.locator("#hub-read")).to_be_visible()
    expect(page.locator("#histogram span").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.screenshot(path=tmp_path / f"data-{width}-{scheme}.png", full_page=True)
