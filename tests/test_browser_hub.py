"""An adapter's journey in a browser: published from one app, found, fetched and asked in another that never saw it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from adapters.card import APP_TAG, base_tag
from adapters.files import WEIGHTS
from adapters.library import SHIPPED_FOLDER, Library
from phi3.models import EMBEDDED
from tabs import theme
from tests.browser import answered, ask, running_app, to_chat
from tests.hub import TestHub, Token
from tests.hub_server import address_of_nobody, running_hub
from tests.openid import Provider, running_provider
from tests.staged import StagedRun
from tests.test_browser import BROKEN_WORDS, SMALL_TARGETS, serious

pytestmark = pytest.mark.slow
CAPTAIN = "ada/captain"
NO_WIDER = "document.documentElement.scrollWidth <= window.innerWidth"


@pytest.fixture(scope="module")
def hub():
    with running_hub() as running:
        yield running


@pytest.fixture(scope="module")
def token(hub):
    return hub.token("ada")


@pytest.fixture(scope="module")
def provider():
    with running_provider("ada", "bob") as running:
        yield running


def app_of(folder: Path, hub: TestHub, **settings: str):
    """An app that knows this Hub and nothing else: its home, its cache and its token's place are its own."""
    folder.mkdir(exist_ok=True)
    return running_app(folder / "studio", folder / "app.log", HF_ENDPOINT=hub.address, HF_HOME=str(folder / "cache"),
                       HF_HUB_DISABLE_XET="1", **settings)


@pytest.fixture(scope="module")
def first(hub, token, tmp_path_factory):
    """One's own machine, with a token."""
    with app_of(tmp_path_factory.mktemp("first"), hub, HF_TOKEN=token) as app:
        yield app


@pytest.fixture(scope="module")
def second(hub, tmp_path_factory):
    """Another machine: it never saw the adapter, and holds no token."""
    with app_of(tmp_path_factory.mktemp("second"), hub, HF_TOKEN="") as app:
        yield app


@pytest.fixture(scope="module")
def space(hub, provider, tmp_path_factory):
    """The app as a Space runs it, with sign-in."""
    with app_of(tmp_path_factory.mktemp("space"), hub, HF_TOKEN="", **provider.settings()) as app:
        yield app


def trained(home: Path, name: str) -> StagedRun:
    """A finished run whose adapter is the one that ships as a pirate."""
    staged = StagedRun(home, name=name)
    staged.begin()
    staged.train(1, 60)
    staged.end("finished", adapter_from=SHIPPED_FOLDER / "pirate")
    folder = home / "adapters" / name
    told = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    told |= {"run": staged.run.id, "losses": {"train": [[1, 1.2294]], "held_out": [[60, 0.2932]]}}
    (folder / "provenance.json").write_text(json.dumps(told), encoding="utf-8")
    return staged


def visited(visitor, app, query=""):
    page = visitor.new_page()
    page.goto(app.address + query)
    page.locator("#past-runs p, #past-runs ul").first.wait_for(state="attached")
    return page


def fold(page, name):
    page.locator(f"#{name} > button").click()


def lanes_of(page):
    return [box.input_value() for box in page.locator(".lane:visible input[role=combobox]").all()]


def everything_kept(app):
    """All that an app wrote: its studio's folder, its Hub's cache and its log."""
    paths = [path for path in app.home.parent.rglob("*") if path.is_file()]
    return b"\0".join(path.read_bytes() for path in paths)


def test_an_adapter_is_published_though_the_push_was_cut_and_chats_in_an_app_that_never_saw_it(
        hub, token, first, second, visitors):
    staged = trained(first.home, "captain")
    page = visited(visitors(), first, f"?run={staged.run.id}")
    fold(page, "publish")
    expect(page.locator("#publish-name input, #publish-name textarea")).to_have_value(CAPTAIN)
    expect(page.locator("#publish-note")).to_contain_text("is free")
    page.locator("#publish-visibility").get_by_text(theme.VISIBILITIES["public"]).click()
    hub.fault("cut", "POST", "/commit/")
    page.locator("#publish-send").click()
    expect(page.locator("#publish-said .problem")).to_contain_text("Your adapter stays here as it is")
    page.locator("#publish-send").click()
    expect(page.locator("#publish-done")).to_contain_text(f"{CAPTAIN} {theme.PUBLISHED}")
    expect(page.locator("#publish-snippet code")).to_contain_text(f'"{CAPTAIN}"')
    expect(page.locator("#publish-done")).not_to_contain_text(theme.OPEN_IN_SPACE)
    there = hub.repositories[CAPTAIN]
    assert len(there.commits) == 2 and not there.private
    card = there.head.files["README.md"].content.decode()
    assert "Base and adapter side by side" not in card, "the visitor's questions went along without a tick"

    other = visited(visitors(), second)
    to_chat(other)
    fold(other, "from-hub")
    row = other.locator("#found li", has_text=CAPTAIN)
    expect(row).to_contain_text("downloads")
    other.locator("#find-text input, #find-text textarea").fill("nothing of that kind")
    expect(other.locator("#find-said")).to_contain_text(theme.NONE_FOUND)
    other.locator("#find-text input, #find-text textarea").fill("capt")
    row.get_by_role("button").click()
    expect(other.locator("#picker-C input")).to_have_value("captain")
    ask(other, "What is the capital of France?")
    answered(other, "C")
    expect(other.locator("#newest-C .by")).to_contain_text("captain")
    adapter = Library(second.home).get("captain")
    assert adapter.provenance["hub"]["revision"] == there.head.oid
    assert (adapter.folder / WEIGHTS).read_bytes() == (SHIPPED_FOLDER / "pirate" / WEIGHTS).read_bytes()
    for app, shown in ((first, page), (second, other)):
        assert token.encode() not in everything_kept(app) and token not in shown.content()


def test_own_questions_are_shown_in_the_card_only_after_a_tick_that_shows_them(hub, first, visitors):
    staged = trained(first.home, "teller")
    page = visited(visitors(), first, f"?run={staged.run.id}")
    fold(page, "publish")
    expect(page.locator("#publish-examples .said")).to_have_count(0)
    page.locator("#publish-own input").check()
    expect(page.locator("#publish-examples .said")).to_have_count(3)
    page.locator("#publish-name input, #publish-name textarea").fill("bob/teller")
    expect(page.locator("#publish-note")).to_contain_text("somebody else's account")
    page.locator("#publish-name input, #publish-name textarea").fill("ada/teller")
    expect(page.locator("#publish-note")).to_contain_text("ada/teller is free")
    page.locator("#publish-send").click()
    expect(page.locator("#publish-done")).to_contain_text(theme.PUBLISHED_PRIVATE)
    assert "What is the capital of France?" in hub.repositories["ada/teller"].head.files["README.md"].content.decode()
    page.locator("#publish-send").click()
    expect(page.locator("#publish-done")).to_contain_text(theme.UNCHANGED)


def test_a_name_of_the_hub_works_in_a_lane_and_one_that_is_none_is_a_sentence_there(hub, second, visitors):
    page = visited(visitors(), second)
    hub.repository("bo/sailor", dict(_files()), private=False)
    to_chat(page)
    for letter, name in (("A", f"{hub.address}/bo/sailor"), ("B", "bo/nobody")):
        page.locator(f"#picker-{letter} input").fill(name)
        page.locator(f"#picker-{letter} input").press("Enter")
    expect(page.locator("#before-B .problem")).to_contain_text("There is no bo/nobody on the Hub")
    ask(page, "Who are you?")
    answered(page, "A")
    expect(page.locator("#newest-B .problem")).to_contain_text("There is no bo/nobody on the Hub")
    assert Library(second.home).has("sailor")


def test_the_address_names_the_lanes(hub, second, visitors):
    hub.repository("bo/mate", dict(_files()))
    page = visited(visitors(), second, "?adapter=bo/mate")
    expect(page.locator("#message textarea")).to_be_visible()
    assert lanes_of(page) == ["base", "bo/mate"]
    ask(page, "Who are you?")
    answered(page, "B")
    page = visited(visitors(), second, "?adapter=pirate&adapter=bo/mate&adapter=bo/nobody")
    expect(page.locator("#before-C .problem")).to_contain_text("There is no bo/nobody")
    assert lanes_of(page) == ["pirate", "bo/mate", "bo/nobody"]


def test_on_a_space_one_publishes_under_ones_own_name_and_private_ones_show_to_their_owner_alone(
        hub, provider: Provider, space, visitors):
    hub.repository("bo/gunner", dict(_files()))
    hub.repository("ada/secret", dict(_files()), private=True)
    visitor = visitors()
    page = visited(visitor, space)
    to_chat(page)
    fold(page, "from-hub")
    expect(page.locator("#found")).to_contain_text("bo/gunner")
    expect(page.locator("#found")).not_to_contain_text("ada/secret")
    page.locator("#who .sign-in").click()
    page.get_by_role("link", name="ada", exact=True).click()
    expect(page.locator("#who")).to_contain_text("ada")
    for given, account in provider.tokens.items():
        hub.organisations.setdefault(account, ())
        hub.tokens[given] = Token(account, "contribute-repos")
    folder = space.home / "adapters"
    shutil.copytree(SHIPPED_FOLDER / "shop", folder / "clerk")
    library = Library(space.home)
    (folder / "clerk" / "owner").write_text("local", encoding="utf-8")
    library.give("clerk", "name:ada")
    to_chat(page)
    fold(page, "publish-another")
    fold(page, "publish-any")
    expect(page.locator("#publish-any-name input, #publish-any-name textarea")).to_have_value("ada/clerk")
    page.locator("#publish-any-send").click()
    expect(page.locator("#publish-any-done")).to_contain_text(theme.PUBLISHED_PRIVATE)
    link = page.locator("#publish-any-done a", has_text=theme.OPEN_IN_SPACE)
    assert link.get_attribute("href") == f"{hub.address}/spaces/tests/studio?adapter=ada/clerk"
    fold(page, "from-hub")
    expect(page.locator("#found")).to_contain_text("ada/secret")
    expect(page.locator("#found li").first).to_contain_text(theme.MARKS["mine"])
    expect(page.locator("#found li", has_text="ada/clerk")).to_contain_text(theme.MARKS["private"])
    page.locator("#found li", has_text="ada/clerk").get_by_role("button").click()
    expect(page.locator("#picker-C input")).to_have_value("ada-clerk")
    stranger = visited(visitors(), space, "?adapter=ada/clerk")
    expect(stranger.locator("#before-B .problem")).to_contain_text("There is no ada/clerk on the Hub")
    assert provider.tokens
    for given in provider.tokens:
        assert given.encode() not in everything_kept(space) and given not in page.content()


def test_who_has_no_name_fetches_for_their_own_browser(hub, space, visitors):
    hub.repository("bo/bosun", dict(_files()))
    visitor = visitors()
    page = visited(visitor, space, "?adapter=bo/bosun")
    ask(page, "Who are you?")
    answered(page, "B")
    page.reload()
    page = visited(visitor, space)
    to_chat(page)
    page.locator("#picker-B input").click()
    expect(page.get_by_role("option", name="bosun")).to_be_visible()
    stranger = visited(visitors(), space)
    to_chat(stranger)
    stranger.locator("#picker-B input").click()
    expect(stranger.get_by_role("option", name="shop")).to_be_visible()
    expect(stranger.get_by_role("option", name="bosun")).to_have_count(0)


def test_without_a_hub_the_page_says_so_quietly_and_soon(tmp_path, visitors):
    with running_app(tmp_path / "studio", tmp_path / "app.log", HF_ENDPOINT=address_of_nobody(), HF_TOKEN="") as app:
        page = visited(visitors(), app)
        to_chat(page)
        began = time.monotonic()
        fold(page, "from-hub")
        expect(page.locator("#find-said")).to_contain_text(theme.HUB_AWAY)
        assert time.monotonic() - began < 5
        expect(page.locator(".toast-body")).to_have_count(0)
        ask(page, "Who are you?")
        answered(page, "A")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1600, "dark")])
def test_what_the_hub_adds_fits_every_screen_and_every_finger(first, browser, width, scheme):
    staged = trained(first.home, f"shown-{width}")
    page = first.open(browser, f"?run={staged.run.id}", width=width, scheme=scheme)
    fold(page, "publish")
    page.locator("#publish-own input").check()
    page.locator("#publish .fold > button").click()
    expect(page.locator("#publish-card .hub-card")).to_be_visible()
    expect(page.locator("#publish-examples .said")).to_have_count(3)
    assert page.evaluate(BROKEN_WORDS, "#publish-card table") == []
    left, right = page.locator("#whose").evaluate(
        "one => ['paddingLeft', 'paddingRight'].map((side) => getComputedStyle(one)[side])")
    assert left == right != "0px"
    assert page.evaluate(NO_WIDER) and page.evaluate(SMALL_TARGETS) == [] and serious(page) == []
    to_chat(page)
    fold(page, "from-hub")
    fold(page, "publish-another")
    expect(page.locator("#found li").first).to_be_visible()
    assert page.evaluate(NO_WIDER) and page.evaluate(SMALL_TARGETS) == [] and serious(page) == []
    page.close()


def _files():
    """An adapter of the embedded base as somebody else published it."""
    tags = f"- {APP_TAG}\n- {base_tag(EMBEDDED)}\n"
    yield "README.md", f"---\nlibrary_name: peft\nlicense: mit\ntags:\n{tags}---\n".encode()
    for name in ("adapter_config.json", WEIGHTS):
        yield name, (SHIPPED_FOLDER / "pirate" / name).read_bytes()
