"""What the page says and does about the Hub, without a browser: tokens, names, cards, lanes, and what is fetched."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from types import SimpleNamespace

import gradio as gr
import pytest

from adapters.card import APP_TAG, Example, base_tag
from adapters.fetch import Wish, bring, here
from adapters.files import CONFIG, WEIGHTS
from adapters.hub import Account, Found, Hub
from adapters.library import LOCAL, SHIPPED_FOLDER, Library
from adapters.publish import Published
from chat import conversation
from chat.conversation import Talk
from phi3.generate import Answer
from phi3.machine import Machine
from phi3.models import EMBEDDED, base_facts
from tabs import arrivals, find, hub, hub_view, publish, theme
from tabs.hub import Known, reach_of
from tabs.studio import Studio
from tabs.visitor import FETCHED, token_of, visitor_of
from tests.hub_server import address_of_nobody
from tests.staged import StagedRun
from training.limits import SECONDS_A_DAY, SHARED, sweep
from training.owners import is_nobodys, owner_by_name
from training.runs import Runs

CPU = Machine("cpu", "CPU", 2, 24.0)
FACTS = base_facts(EMBEDDED)


def studio_of(home, **more) -> Studio:
    return Studio(home, CPU, FACTS, {}, Runs(home), Library(home), **more)


def request_of(token="a-token", name="ada", site="same-origin", seconds_left=60):
    """What Gradio makes of a request in whose session somebody is signed in."""
    signed_in = {"userinfo": {"preferred_username": name}, "expires_at": time.time() + seconds_left,
                 "access_token": token}
    return SimpleNamespace(headers={"sec-fetch-site": site},
                           request=SimpleNamespace(scope={"session": {"oauth_info": signed_in}}))


NOBODY = SimpleNamespace(headers={"sec-fetch-site": "same-origin"}, request=SimpleNamespace(scope={}))


@pytest.fixture
def own(home, test_hub, monkeypatch):
    """One's own machine, where ada's token lies."""
    monkeypatch.setenv("HF_TOKEN", test_hub.token("ada", organisations=("nettles",)))
    return studio_of(home)


@pytest.fixture
def space(home, test_hub):
    return studio_of(home, many_visitors=True, signs_in=True)


def published_by(test_hub, repository, of="pirate", **facts):
    """An adapter for the embedded base, as somebody published it."""
    tags = f"- {APP_TAG}\n- {base_tag(EMBEDDED)}\n"
    files = {"README.md": f"---\nlibrary_name: peft\nlicense: mit\ntags:\n{tags}---\n".encode(),
             **{name: (SHIPPED_FOLDER / of / name).read_bytes() for name in (CONFIG, WEIGHTS)}}
    return test_hub.repository(repository, files, **facts)


def trained(home, name="captain", **settings):
    """A finished run with an adapter that knows of it."""
    staged = StagedRun(home, name=name, **settings)
    staged.begin()
    staged.train(1, 60)
    staged.end("finished", adapter_from=SHIPPED_FOLDER / "pirate")
    path = home / "adapters" / name / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "run": staged.run.id}), encoding="utf-8")
    return staged


# ---- The token of a request ------------------------------------------------------------------------------------------


def test_on_a_space_a_token_counts_where_the_name_does(space):
    assert token_of(space, request_of()) == "a-token"
    for nobody in (request_of(site="cross-site"), request_of(site="none"), request_of(seconds_left=-1), NOBODY, None):
        assert token_of(space, nobody) == ""


def test_the_machines_own_token_is_nobodys_where_many_come(home, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "the-machines")
    assert token_of(studio_of(home, many_visitors=True), NOBODY) == ""
    assert token_of(studio_of(home, many_visitors=True, signs_in=True), NOBODY) == ""
    assert token_of(studio_of(home), NOBODY) == "the-machines"
    assert token_of(studio_of(home), request_of(site="cross-site")) == ""


def test_a_reach_never_shows_its_token(space):
    reach = reach_of(space, request_of())
    assert reach.token == "a-token" and "a-token" not in repr(reach)
    assert "a-token" not in repr(reach.visitor) and "a-token" not in str(dataclasses.asdict(Known()))


# ---- Who is asked, and how soon one knows that nobody answers --------------------------------------------------------


def test_the_account_is_asked_once_for_a_page(own, test_hub):
    reach = reach_of(own, NOBODY)
    known = reach.acquainted(None)
    assert known == Known(Account("ada", ("nettles",), True)) and reach.acquainted(known) is known
    for name in ("ada/one", "ada/two"):
        assert "is free" in publish.stands(reach, name, known)
    assert [one.path for one in test_hub.requests].count("/api/whoami-v2") == 1


def test_a_hub_out_of_reach_is_one_sentence_and_a_silent_one_is_soon_known(own, test_hub, monkeypatch):
    test_hub.fault("slow", "HEAD", value=3.0)
    began = time.monotonic()
    assert not Hub().is_reachable(0.3) and time.monotonic() - began < 2
    assert Hub().is_reachable()
    monkeypatch.setenv("HF_ENDPOINT", address_of_nobody())
    with pytest.raises(ValueError, match=r"can't be reached from here\. Everything but"):
        find.looked(reach_of(own, NOBODY), "", None)


# ---- Find ------------------------------------------------------------------------------------------------------------


def test_ones_own_come_first_and_private_ones_show_to_their_owner_alone(own, space, test_hub):
    published_by(test_hub, "bo/mate", downloads=9)
    published_by(test_hub, "ada/secret", private=True)
    _, found = find.looked(reach_of(own, NOBODY), "", None)
    assert [one.repository for one in found] == ["ada/secret", "bo/mate"]
    _, theirs = find.looked(reach_of(space, NOBODY), "", None)
    assert [one.repository for one in theirs] == ["bo/mate"]
    _, named = find.looked(reach_of(own, NOBODY), f"{test_hub.address}/bo/mate", None)
    assert [one.repository for one in named] == ["bo/mate"]


def test_a_row_says_all_that_is_known_and_nothing_in_it_is_markup():
    row = hub_view.rows([Found('bo/"><b>', "0" * 40, "microsoft/other", 1, 1200, "2026-01-02", 2_500_000, 16, True,
                               True, True, True)])
    for part in ("1 like", "1,200 downloads", "2026-01-02", "2.5 MB", "rank 16", "yours", "private", "gated",
                 "for microsoft/other", "0" * 40):
        assert part in row
    assert "<b>" not in row
    assert hub_view.rows([]) == "" and find.told([], "x") == theme.NONE_FOUND and find.told([], " ") == theme.NONE_YET


# ---- Any name -------------------------------------------------------------------------------------------------------


def test_a_name_with_a_slash_is_fetched_once_and_then_is_here(own, test_hub):
    published_by(test_hub, "bo/mate")
    reach = reach_of(own, NOBODY)
    assert not reach.has("bo/mate")
    adapter = reach.bring(f"{test_hub.address}/bo/mate")
    asked = len(test_hub.requests)
    assert reach.has("bo/mate") and reach.bring("bo/mate") == adapter == here("bo/mate", own.library)
    assert len(test_hub.requests) == asked, "what is here was asked for again"
    assert reach.bring("mate") == adapter and reach.bring("pirate").shipped


def test_a_lane_says_what_should_be_known_of_its_adapter_and_its_base(own):
    reach = reach_of(own, NOBODY)
    assert "pirate" not in (said := arrivals._looked_at(reach, Talk("pirate"))) and theme.EMPTY_LANE_ADAPTER in said
    folder = own.library.put("captain", SHIPPED_FOLDER / "pirate", {}).folder
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": "ada/another"}))
    assert "It was trained on ada/another, and the base here is" in arrivals._looked_at(reach, Talk("captain"))
    (folder / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": ""}))
    assert "say which base it was trained on; its layers fit" in arrivals._looked_at(reach, Talk("captain"))
    assert "There is no adapter named nobody" in arrivals._looked_at(reach, Talk("nobody"))


def test_a_name_that_is_taken_here_gets_another_one(own, test_hub):
    published_by(test_hub, "bo/pirate", "json")
    published_by(test_hub, "cy/pirate", "json")
    names = [reach_of(own, NOBODY).bring(name).name for name in ("bo/pirate", "cy/pirate")]
    assert names == ["bo-pirate", "cy-pirate"]
    assert here("cy/pirate", own.library).name == "cy-pirate"


def test_another_revision_is_another_adapter_unless_the_old_one_is_to_be_replaced(own, test_hub):
    there = published_by(test_hub, "bo/mate")
    first, reach = there.head.oid, reach_of(own, NOBODY)
    reach.bring("bo/mate")
    there.add({**there.head.files, CONFIG: there.head.files[CONFIG]}, "again")
    assert reach.bring("bo/mate").provenance["hub"]["revision"] == first
    assert reach.bring(f"bo/mate@{first[:9]}").name == "mate"
    assert reach.bring(f"bo/mate@{there.head.oid}", update=True).provenance["hub"]["revision"] == there.head.oid
    assert own.library.names().count("mate") == 1 and not own.library.has("bo-mate")


def test_two_that_fetch_the_same_at_once_have_it_once(own, tmp_path):
    provenance = {"hub": {"repository": "bo/mate", "revision": "0" * 40, "address": "x"}}
    library, place = Library(own.home), own.home / "adapters" / "mate"
    library.put("mate", SHIPPED_FOLDER / "pirate", provenance)
    shutil.copytree(place, tmp_path / "arriving")
    library._settle(tmp_path / "arriving", place, provenance)
    assert library.has("mate") and not (tmp_path / "arriving").exists()


def test_who_has_no_name_sees_what_they_fetched_and_no_other_does(space, test_hub):
    published_by(test_hub, "bo/mate")
    reach = reach_of(space, NOBODY)
    reach.bring("bo/mate")
    keys = reach.keys
    assert set(keys) == {FETCHED} and reach_of(space, NOBODY, keys).keys == keys
    assert visitor_of(space, NOBODY, keys).library.has("mate") and not visitor_of(space, NOBODY).library.has("mate")
    signed_in = reach_of(space, request_of(test_hub.token("ada", "contribute-repos")))
    assert signed_in.owner == owner_by_name("ada") and not signed_in.has("bo/mate")
    signed_in.bring("bo/mate")
    assert visitor_of(space, request_of()).library.has("mate")


def test_what_is_fetched_is_limited_and_nobodys_goes_after_a_while(space, test_hub, monkeypatch):
    published_by(test_hub, "bo/mate")
    reach = reach_of(space, NOBODY)
    small = Wish.of("bo/mate", owner=reach.owner, most_bytes=1000)
    with pytest.raises(ValueError, match=r"bo/mate has 1 MB, and 0 MB are taken here"):
        bring(reach.hub, small, reach.visitor.library, FACTS)
    adapter = reach.bring("bo/mate")
    limits = dataclasses.replace(SHARED, adapters_fetched=1)
    with pytest.raises(ValueError, match="You have fetched 1 adapters, and 1 are kept here"):
        limits.check_fetch(reach.visitor.library.all(), space.home)
    assert is_nobodys(reach.owner) and sweep(space.runs, SHARED) == []
    assert sweep(space.runs, SHARED, time.time() + 8 * SECONDS_A_DAY) == ["mate"] and not adapter.folder.exists()


def test_lanes_are_those_that_the_address_names():
    assert conversation.named(["bo/mate"]) == (Talk(), Talk("bo/mate"))
    assert conversation.named(["base"]) == (Talk(),)
    assert conversation.named(["pirate", "bo/mate"]) == (Talk("pirate"), Talk("bo/mate"))
    assert len(conversation.named(["pirate"] * 9)) == 4


def test_what_was_fetched_gets_a_lane_or_the_last_ones_place():
    talks = (Talk(), Talk("a"), Talk("b"))
    assert conversation.joined(talks, "c") == (*talks, Talk("c"))
    assert conversation.joined((*talks, Talk("c")), "d") == (*talks, Talk("d"))
    assert conversation.joined(talks, "a") == talks
    asked = conversation.with_question(talks, "Hello")
    assert conversation.are_answering(asked) and not conversation.are_answering(talks)
    assert conversation.without_answer(asked, 1, "No.")[1].turns[-1].answer == Answer(end="error", note="No.")
    assert conversation.without_answer(talks, 1, "No.") == talks


# ---- Publish --------------------------------------------------------------------------------------------------------


def test_only_what_was_trained_here_is_offered(own, test_hub):
    published_by(test_hub, "bo/mate")
    reach_of(own, NOBODY).bring("bo/mate")
    trained(own.home)
    assert publish.own_names(own.library) == ["captain"]


def test_ones_own_questions_go_into_the_card_only_after_a_tick(own):
    trained(own.home)
    reach, adapter = reach_of(own, NOBODY), own.library.get("captain")
    form = {"name": "captain", "licence": "mit", "own": False}
    assert publish.shown_of(reach.visitor, adapter).are_own
    assert "capital of France" not in publish.made_card(reach, adapter, "ada/captain", form).text
    assert "capital of France" in publish.made_card(reach, adapter, "ada/captain", {**form, "own": True}).text
    with pytest.raises(ValueError, match="'wtfpl' is no licence that is offered here"):
        publish.made_card(reach, adapter, "ada/captain", {**form, "licence": "wtfpl"})
    with pytest.raises(ValueError, match="captain doesn't say which base it was trained on"):
        publish.made_card(reach, dataclasses.replace(adapter, base=""), "ada/captain", form)


def test_the_questions_of_a_shipped_example_need_no_tick(own):
    staged = trained(own.home)
    about = staged.run.folder / "data.json"
    about.write_text(json.dumps({**staged.run.about_data, "kind": "example"}), encoding="utf-8")
    shown = publish.shown_of(visitor_of(own, NOBODY), own.library.get("captain"))
    assert not shown.are_own and len(shown.examples) == 3
    assert shown.examples[0] == Example("What is the capital of France?", "The capital of France is Paris.",
                                        "Arr! The capital o' France be Paris, matey!")


def test_a_push_that_is_cut_is_a_sentence_and_can_be_sent_again(own, test_hub):
    trained(own.home)
    reach, adapter = reach_of(own, NOBODY), own.library.get("captain")
    form = {"name": "captain", "licence": "mit", "own": False, "private": True}
    test_hub.fault("cut", "POST", "/commit/")
    with pytest.raises(ValueError, match="Your adapter stays here as it is"):
        list(publish.sent(reach, adapter, None, form))
    *told, done = publish.sent(reach, adapter, None, form)
    assert all(isinstance(one, str) for one in told) and isinstance(done, Published)
    assert done.repository == "ada/captain" and done.private and test_hub.repositories["ada/captain"].private


def test_who_is_not_signed_in_is_told_how(own, space, test_hub):
    trained(space.home)
    reach = reach_of(space, NOBODY)
    with pytest.raises(ValueError, match="under your own name"):
        publish.sent(reach, own.library.get("captain"), None, {"name": "captain"})
    assert 'class="sign-in"' in publish.way_in(space, reach)
    assert "hf auth login" in publish.way_in(own, reach) and f"{test_hub.address}/settings/tokens" in \
        publish.way_in(own, reach)


def test_what_was_published_leads_to_the_hub_and_on_a_space_back_here(monkeypatch):
    done = Published("ada/captain", "0" * 40, "https://hub/ada/captain", True, False, "code")
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert hub.this_space() is None and theme.OPEN_IN_SPACE not in hub_view.published(done, None, "https://hub")
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("SPACE_ID", "ada/studio")
    shown = hub_view.published(done, hub.this_space(), "https://hub")
    assert 'href="https://hub/spaces/ada/studio?adapter=ada/captain"' in shown and theme.UNCHANGED in shown
    assert theme.PUBLISHED_PRIVATE in shown and done.address in shown


def test_a_card_is_shown_as_it_will_be_without_its_yaml_and_with_its_picture(own):
    trained(own.home)
    adapter = own.library.get("captain")
    losses = {"train": [[1, 2.0], [2, 1.0]]}
    adapter = dataclasses.replace(adapter, provenance={**adapter.provenance, "losses": losses})
    form = {"name": "captain", "licence": "mit", "own": False}
    made = publish.made_card(reach_of(own, NOBODY), adapter, "ada/captain", form)
    rendered, text = hub_view.card(made).split('<details class="behind">')
    assert "library_name" not in rendered and "library_name" in text
    assert "data:image/png" in rendered and "&lt;details" not in rendered and "<h1>captain" in rendered


def test_another_adapter_closes_the_form_and_the_one_that_it_is_open_for_does_not():
    with gr.Blocks():
        panel = publish._drawn("Publish", "publish")
    assert panel.closed("captain", "") == {panel.made_for: ""}
    assert panel.closed("captain", "captain") == {panel.made_for: "captain"}
    assert panel.closed("mate", "captain")[panel.fold]["open"] is False


def test_only_ones_own_adapter_can_be_published(space, test_hub):
    trained(space.home)
    with pytest.raises(ValueError, match="no adapter yet that was trained here"):
        publish._of_library(visitor_of(space, NOBODY), "captain")
    assert LOCAL not in visitor_of(space, NOBODY).owners
