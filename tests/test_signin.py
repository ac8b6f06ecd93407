"""Signing in with Hugging Face: whose runs are whose then, and a Space's real sign-in walked through in a browser."""

import threading
import time
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import yaml
from playwright.sync_api import expect

from adapters.library import Library
from chat.vote import Vote
from phi3.machine import Machine
from tabs import signin, theme
from tabs.hub import Reach
from tabs.studio import Studio
from tabs.teaching import corrections_of
from tabs.visitor import FETCHED, signed_in_name, visitor_of
from tabs.voting import votes_of
from tests.browser import running_app, to_chat
from tests.files import ROOT
from tests.openid import running_provider
from tests.test_browser_visitors import ROWS, begin
from tests.test_owners import put
from training.config import RunConfig
from training.corrections import Correction
from training.data import read_text
from training.owners import LOCAL, new_key, owner_by_key, owner_by_name
from training.runs import Beginning, Runs

ADA = owner_by_name("ada")


def request_of(name="ada", site="same-origin", seconds_left=60):
    """What Gradio makes of a request that carries the cookie of a session in which somebody is signed in."""
    session = {"oauth_info": {"userinfo": {"preferred_username": name}, "expires_at": time.time() + seconds_left}}
    return SimpleNamespace(headers={"sec-fetch-site": site}, request=SimpleNamespace(scope={"session": session}))


NOBODY = SimpleNamespace(headers={"sec-fetch-site": "same-origin"}, request=SimpleNamespace(scope={}))


@pytest.fixture
def studio(home):
    """A studio to which many visitors come; nothing is trained in it."""
    return Studio(home, Machine("cpu", "CPU", 2, 24.0), None, {}, Runs(home), Library(home), many_visitors=True)


def ended_run(home, name, key="", owner=""):
    """A run that ended without an adapter: of whoever has this key, or of this owner."""
    run = Runs(home).create(RunConfig.from_settings({"name": name}), read_text(ROWS), owner or owner_by_key(key),
                            beginning=Beginning("in turn"))
    run.append("failed", message="It was never trained.", advice="")
    return run


# ---- Whose runs are whose -------------------------------------------------------------------------------------------


def test_a_session_names_who_is_signed_in_until_it_ends():
    assert signed_in_name(request_of()) == "ada"
    assert signed_in_name(request_of(seconds_left=-1)) == ""
    assert signed_in_name(NOBODY) == "" and signed_in_name(None) == ""


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", ""])
def test_a_request_that_another_page_sends_is_nobodys(site):
    assert signed_in_name(request_of(site=site)) == ""


def test_on_ones_own_machine_no_name_counts(studio):
    own = visitor_of(SimpleNamespace(**{**vars(studio), "many_visitors": False}), request_of())
    assert own.owners == {LOCAL} and own.name == "" and own.new_owner() == (LOCAL, "")


def test_a_run_that_is_begun_while_signed_in_belongs_to_the_name_and_has_no_key(studio):
    assert visitor_of(studio, request_of()).new_owner() == (ADA, "")
    owner, key = visitor_of(studio, NOBODY).new_owner()
    assert owner == owner_by_key(key)


def test_signing_in_claims_the_runs_whose_keys_are_held_and_no_others(studio, home, tmp_path):
    mine, shown, others = new_key(), new_key(), new_key()
    runs = [ended_run(home, f"run-{place}", key) for place, key in enumerate((mine, shown, others))]
    put(home, tmp_path / "made", runs[0])
    look = runs[2].share()
    visitor = visitor_of(studio, request_of(), {runs[0].id: mine, runs[2].id: look})
    claimed = visitor.holding(runs[1].id, shown).holding(runs[2].id, look).claiming()
    assert [Runs(home).get(run.id).owner for run in runs] == [ADA, ADA, owner_by_key(others)]
    assert {run.id for run in claimed.runs()} == {runs[0].id, runs[1].id}
    assert runs[0].id not in dict(claimed.keys) and runs[1].id not in dict(claimed.keys)
    assert Library(home, {ADA}).has("run-0")
    assert visitor_of(studio, NOBODY, {runs[0].id: mine}).runs() == []
    assert visitor_of(studio, NOBODY).seen_run(runs[2].id, look) == runs[2]


def test_who_is_not_signed_in_claims_nothing(studio, home):
    key = new_key()
    run = ended_run(home, "kept", key)
    visitor = visitor_of(studio, NOBODY, {run.id: key})
    assert visitor.claiming() is visitor and Runs(home).get(run.id).owner == owner_by_key(key)


def test_two_tabs_that_claim_at_once_give_each_run_once(studio, home, tmp_path):
    keys = {}
    for place in range(6):
        key = new_key()
        run = ended_run(home, f"run-{place}", key)
        put(home, tmp_path / str(place), run)
        keys[run.id] = key
    tabs = [threading.Thread(target=visitor_of(studio, request_of(), keys).claiming) for _ in range(4)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert {run.owner for run in Runs(home).all()} == {ADA}
    own = [adapter.name for adapter in Library(home, {ADA}).all() if not adapter.shipped]
    assert sorted(own) == [f"run-{place}" for place in range(6)]


def test_corrections_stay_with_an_adapter_that_gets_another_name_when_it_is_claimed(studio, home, tmp_path):
    put(home, tmp_path / "older", ended_run(home, "one", owner=ADA))
    run, key = ended_run(home, "one", mine := new_key()), new_key()
    put(home, tmp_path / "made", run)
    before = Reach(visitor_of(studio, NOBODY, {FETCHED: key, run.id: mine}), owner_by_key(key))
    corrections_of(before, "one").add(Correction(({"role": "user", "content": "Hi"},), "Aye!", "Hello."))
    visitor = visitor_of(studio, request_of(), dict(before.visitor.keys)).claiming()
    signed_in = Reach(visitor, ADA)
    assert [one.name for one in visitor.library.all() if not one.shipped] == ["one-2", "one"]
    assert [len(corrections_of(signed_in, name).all()) for name in ("one-2", "one")] == [1, 0]


def test_votes_from_before_the_sign_in_are_the_names_from_then_on(studio):
    def votes(request, keys=None):
        return votes_of(Reach(*visitor_of(studio, request, keys).fetching()))

    before = Reach(*visitor_of(studio, NOBODY).fetching())
    keys = dict(before.visitor.keys)
    votes_of(before).add(Vote((), "tie"))
    votes(request_of()).add(Vote((), "all bad"))
    assert [one.verdict for one in votes(request_of(), keys).all()] == ["all bad", "tie"]
    assert len(votes(request_of(), keys).all()) == len(votes(request_of()).all()) == 2
    assert votes(NOBODY, keys).all() == votes(request_of("bob"), keys).all() == []


def test_a_key_for_looking_is_not_held(studio, home):
    run = ended_run(home, "shown", new_key())
    visitor = visitor_of(studio, NOBODY)
    assert visitor.holding(run.id, run.share()) is visitor
    assert visitor.holding("nothing-there", "key") is visitor and visitor.holding("", "") is visitor


# ---- What the page says ---------------------------------------------------------------------------------------------


def test_a_name_is_shown_as_text():
    assert "<img" not in signin.standing("<img src=x>")
    assert theme.SIGN_IN in signin.standing("")


@pytest.mark.parametrize(("target", "place"), [
    ("/?run=one&key=two", "/?run=one&key=two"), ("https://elsewhere.test/?run=one", "/?run=one"),
    ("//elsewhere.test", "/"), ("////elsewhere.test/x", "/"), ("", "/")])
def test_a_sign_in_that_is_given_up_leads_back_to_the_page_and_nowhere_else(target, place):
    request = SimpleNamespace(query_params={"_target_url": target})
    assert signin.back_to_the_page(request, Exception()).headers["location"] == place


def test_nothing_is_asked_for_but_to_create_repositories():
    metadata = yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert metadata["hf_oauth"] is True and metadata["hf_oauth_scopes"] == ["contribute-repos"]


# ---- A Space's sign-in, in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider():
    with running_provider("ada", "bob") as running:
        yield running


@pytest.fixture(scope="module")
def space(tmp_path_factory, provider):
    """The app as a Space runs it, with sign-in."""
    folder = tmp_path_factory.mktemp("space")
    with running_app(folder / "studio", folder / "app.log", **provider.settings()) as app:
        yield app


def opened(visitor, app, query=""):
    page = visitor.new_page()
    page.goto(app.address + query)
    page.locator("#who a").wait_for()
    page.locator("#past-runs p, #past-runs ul").first.wait_for()
    return page


def sign_in(page, name):
    page.locator("#sign-in").click()
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.locator("#who")).to_contain_text(f"{theme.SIGNED_IN} {name}")
    page.locator("#past-runs p, #past-runs ul").first.wait_for()


def everything_kept(app):
    """All that the app wrote: its studio's folder and its log."""
    paths = [path for path in app.home.rglob("*") if path.is_file()]
    return b"\0".join(path.read_bytes() for path in (*paths, app.log))


@pytest.mark.slow
def test_a_run_is_claimed_by_its_address_alone_and_found_by_name_in_another_browser(space, provider, visitors):
    mine = visitors()
    page = opened(mine, space)
    begin(page, "claimed", steps=60)
    asked = parse_qs(urlsplit(page.url).query)
    came_back = []
    page.on("framenavigated", lambda frame: came_back.append(parse_qs(urlsplit(frame.url).query)))
    page.locator("#sign-in").click()
    page.get_by_role("link", name="ada", exact=True).wait_for()
    mine.new_cdp_session(page).send("Storage.clearDataForOrigin", {"origin": space.address.rstrip("/"),
                                                                   "storageTypes": "local_storage"})
    page.get_by_role("link", name="ada", exact=True).click()
    expect(page.locator("#who")).to_contain_text("ada")
    expect(page.locator(".run-heading")).to_contain_text("claimed")
    assert asked in came_back and set(asked) == {"run", "key"}
    run = Runs(space.home).get(asked["run"][0])
    assert run.owner == ADA
    expect(page.locator(".outcome")).to_contain_text("is ready", timeout=240_000)
    assert Library(space.home, {ADA}).has("claimed")
    assert provider.asked[-1]["scope"].split() == ["openid", "profile", "contribute-repos"]

    other = opened(visitors(), space)
    expect(other.locator("#past-runs")).not_to_contain_text("claimed")
    sign_in(other, "ada")
    other.locator("#past-runs a", has_text="claimed").click()
    expect(other.locator("#delete-run")).to_be_visible()
    to_chat(other)
    other.locator("#picker-B input").click()
    expect(other.get_by_role("option", name="claimed")).to_be_visible()

    for stranger in (opened(visitors(), space), opened(visitors(), space)):
        expect(stranger.locator("#past-runs")).not_to_contain_text("claimed")
        sign_in(stranger, "bob")
        expect(stranger.locator("#past-runs")).not_to_contain_text("claimed")
        stranger.goto(space.address + f"?run={run.id}&key={asked['key'][0]}")
        expect(stranger.get_by_text("that you may open")).to_be_visible()


@pytest.mark.slow
def test_signed_in_runs_have_no_key_and_signing_out_shows_the_anonymous_page_again(space, visitors):
    ended_run(space.home, "by-name", owner=ADA)
    anonymous = new_key()
    held = ended_run(space.home, "by-key", anonymous)
    visitor = visitors()
    page = opened(visitor, space, f"?run={held.id}&key={anonymous}")
    expect(page.locator(".run-heading")).to_contain_text("by-key")
    page.close()
    page = opened(visitor, space)
    expect(page.locator("#past-runs")).to_contain_text("by-key")
    sign_in(page, "ada")
    for name in ("by-name", "by-key"):
        expect(page.locator("#past-runs")).to_contain_text(name)
    page.locator("#past-runs a", has_text="by-key").click()
    expect(page.locator("#share-run")).to_be_visible()
    assert "key=" not in page.url
    page.locator("#share-run").click()
    link = page.locator("#shared-link a").get_attribute("href")
    page.locator("#sign-out").click()
    page.locator("#sign-in").wait_for()
    expect(page.locator("#past-runs")).to_contain_text(theme.NO_RUNS)
    looking = opened(visitors(), space, link)
    expect(looking.locator(".run-heading")).to_contain_text("Somebody showed you this run")


@pytest.mark.slow
def test_a_page_elsewhere_cannot_use_the_sign_in(space, provider, visitors):
    ended_run(space.home, "private", owner=ADA)
    page = opened(visitors(), space)
    sign_in(page, "ada")
    ask = """async (address) => {
      const about = {method: 'POST', credentials: 'include', headers: {'Content-Type': 'application/json'},
                     body: JSON.stringify({data: [[]]})};
      const {event_id} = await (await fetch(address + 'gradio_api/call/runs', about)).json();
      return await (await fetch(address + 'gradio_api/call/runs/' + event_id, {credentials: 'include'})).text();
    }"""
    assert "private" in page.evaluate(ask, space.address)
    page.goto(provider.address + "/nothing")
    said = page.evaluate(ask, space.address)
    assert "complete" in said and "private" not in said


@pytest.mark.slow
def test_who_refuses_is_back_on_the_page_with_the_run_and_nobody_is_signed_in(space, visitors):
    key = new_key()
    run = ended_run(space.home, "mine", key)
    page = opened(visitors(), space, f"?run={run.id}&key={key}")
    page.locator("#sign-in").click()
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("#sign-in")).to_be_visible()
    expect(page.locator(".run-heading")).to_contain_text("mine")
    assert parse_qs(urlsplit(page.url).query) == {"run": [run.id], "key": [key]}


@pytest.mark.slow
def test_a_page_in_a_frame_that_is_denied_storage_works_and_signs_in_in_a_tab_of_its_own(space, provider, visitors):
    key = new_key()
    run = ended_run(space.home, "framed", key)
    visitor = visitors()
    page = visitor.new_page()
    app = quote(f"{space.address}?run={run.id}&key={key}", safe="")
    page.goto(f"{provider.address.replace('127.0.0.1', 'localhost')}/around?app={app}")  # another site, to a browser
    frame = page.frame_locator("iframe")
    expect(frame.locator(".run-heading")).to_contain_text("framed")
    with visitor.expect_page() as tab:
        frame.locator("#sign-in").click()
    tab.value.get_by_role("link", name="ada", exact=True).click()
    expect(tab.value.locator("#who")).to_contain_text("ada")
    expect(tab.value.locator(".run-heading")).to_contain_text("framed")
    assert Runs(space.home).get(run.id).owner == ADA


@pytest.mark.slow
def test_no_token_is_kept_anywhere(space, provider, visitors):
    page = opened(visitors(), space)
    sign_in(page, "ada")
    kept, shown = everything_kept(space), page.content()
    assert provider.tokens
    for token in (*provider.tokens, *provider.identities):
        assert token.encode() not in kept and token not in shown
    assert "access_token" not in page.evaluate("JSON.stringify(window.localStorage) + document.cookie")


# ---- One's own machine ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_ones_own_machine_the_hub_is_asked_for_the_tokens_owner_only_on_a_click(tmp_path, provider, visitors):
    provider.tokens["a-token-of-the-tests"] = "ada"
    with running_app(tmp_path / "studio", tmp_path / "app.log", HF_TOKEN="a-token-of-the-tests",
                     HF_ENDPOINT=provider.address) as app:
        provider.paths.clear()
        page = visitors().new_page()
        page.goto(app.address)
        expect(page.locator("#who")).to_contain_text(theme.TOKEN_HERE)
        page.locator("#past-runs p, #past-runs ul").first.wait_for()
        assert provider.paths == []
        page.locator("#whose").click()
        expect(page.locator("#who")).to_contain_text(f"{theme.SIGNED_IN} ada")
        del provider.tokens["a-token-of-the-tests"]
        page.reload()
        page.locator("#whose").click()
        expect(page.get_by_text("doesn't take this token")).to_be_visible()
        assert b"a-token-of-the-tests" not in everything_kept(app)
