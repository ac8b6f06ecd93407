"""Adapters on the Hub: published as one commit, found by their base, fetched whole or not at all, else a sentence."""

import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import replace

import pytest

from adapters.card import Card, Story, card_of
from adapters.fetch import Wish, fetch
from adapters.files import CONFIG, WEIGHTS
from adapters.hub import Account, Hub, checked_token, marks_of, repository_name, siblings_of
from adapters.library import SHIPPED_FOLDER, Library
from adapters.publish import Published, parcel, publish, publishing
from phi3.models import EMBEDDED, PHI3_MINI, base_facts
from tests.adapter_folder import write_random
from tests.files import ROOT
from tests.hub_server import address_of_nobody, running_hub

PIRATE = SHIPPED_FOLDER / "pirate"
CARD = Card("---\nlibrary_name: peft\nlicense: mit\n---\n\n# captain\n")
CANARY = "canary-7f3a"


@pytest.fixture
def hub(test_hub):
    return Hub()


@pytest.fixture
def ada(test_hub):
    return test_hub.token("ada", organisations=("nettles",))


@pytest.fixture
def library(home):
    return Library(home)


@pytest.fixture(scope="module")
def facts():
    return base_facts(EMBEDDED)


def files_of(folder) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def pirate_card(repository: str, **more) -> Card:
    provenance = json.loads((PIRATE / "provenance.json").read_text())
    provenance["losses"] = {"train": [[1, 2.0], [2, 1.5], [3, 1.0]]}
    return card_of(Story(repository, provenance, json.loads((PIRATE / CONFIG).read_text()), **more))


# Publishing


def test_an_adapter_travels_as_one_commit_and_comes_back_the_same(hub, test_hub, ada, library, facts):
    done = publish(hub, PIRATE, "captain", ada, pirate_card("ada/captain"), private=False)
    there = test_hub.repositories["ada/captain"]
    assert [one.message for one in there.commits] == ["initial commit", "Publish captain"]
    assert there.head.files.keys() == {".gitattributes", "README.md", CONFIG, WEIGHTS, "provenance.json", "loss.png"}
    assert done == Published("ada/captain", there.head.oid, f"{test_hub.address}/ada/captain", False, True,
                             done.snippet) and '"ada/captain"' in done.snippet
    got = fetch(hub, Wish.of("ada/captain"), library, facts)
    assert files_of(got.adapter.folder) == files_of(PIRATE)
    assert got.adapter.name == "captain" and got.revision == done.revision and got.is_new
    assert got.adapter.provenance == {"hub": {"repository": "ada/captain", "revision": done.revision,
                                              "address": test_hub.address}}


def test_each_step_is_told_and_the_last_is_what_was_published(hub, ada):
    told = list(publishing(hub, PIRATE, "ada/captain", ada, CARD))
    assert all(isinstance(one, str) and one.endswith(".") for one in told[:-1]) and len(told) == 4
    assert "Making ada/captain." in told and told[-1].private


def test_publishing_the_same_again_changes_nothing_and_something_else_is_a_new_revision(hub, test_hub, ada):
    first, again = (publish(hub, PIRATE, "captain", ada, pirate_card("ada/captain")) for _ in range(2))
    assert again == replace(first, is_new=False)
    other = publish(hub, SHIPPED_FOLDER / "json", "captain", ada, CARD)
    there = test_hub.repositories["ada/captain"]
    assert other.is_new and len(there.commits) == 3 and there.head.oid == other.revision
    assert there.head.files[WEIGHTS].content == (SHIPPED_FOLDER / "json" / WEIGHTS).read_bytes()
    assert "loss.png" not in there.head.files, "the picture of what was there before stayed"
    assert there.at(first.revision).files[WEIGHTS].content == (PIRATE / WEIGHTS).read_bytes()


def test_private_is_private_and_never_becomes_public_by_publishing_again(hub, test_hub, ada):
    assert publish(hub, PIRATE, "secret", ada, CARD).private and test_hub.repositories["ada/secret"].private
    assert publish(hub, PIRATE, "secret", ada, CARD, private=False).private
    publish(hub, PIRATE, "open", ada, CARD, private=False)
    with pytest.raises(ValueError, match=r"ada/open is public on the Hub, and you asked for a private one"):
        publish(hub, PIRATE, "open", ada, CARD, private=True)


def test_a_repository_that_holds_something_else_is_not_buried(hub, test_hub, ada):
    test_hub.repository("ada/thesis", {"README.md": b"my thesis", "model.safetensors": b"weights"})
    with pytest.raises(ValueError, match=r"holds something else already \(model.safetensors\)"):
        publish(hub, PIRATE, "ada/thesis", ada, CARD, private=False)
    assert len(test_hub.repositories["ada/thesis"].commits) == 1


def test_a_name_is_free_or_mine_or_somebody_elses(hub, test_hub, ada):
    test_hub.token("bo")
    test_hub.repository("bo/captain", {"x": b"1"})
    test_hub.repository("ada/mine", {"x": b"1"}, private=True)
    test_hub.rename("ada/mine", "ada/moved")
    account = hub.account(ada)
    assert account == Account("ada", ("nettles",), True)
    standing = {name: hub.standing(name, account, ada) for name in (
        "ada/new", "nettles/new", "ada/moved", "ADA/moved", "bo/captain", "bo/unseen", "ada/mine")}
    assert standing == {"ada/new": "free", "nettles/new": "free", "ada/moved": "mine", "ADA/moved": "free",
                        "bo/captain": "someone else's", "bo/unseen": "someone else's", "ada/mine": "free"}
    assert publish(hub, PIRATE, "ada/mine", ada, CARD).is_new
    assert test_hub.repositories["ada/moved"].head.files.keys() == {"x"}, "the one that had the name stays as it is"


def test_somebody_elses_name_and_a_token_that_may_not_write_are_refused_before_anything_is_made(hub, test_hub, ada):
    with pytest.raises(ValueError, match=r"bo/captain is under somebody else's account, and you are ada"):
        publish(hub, PIRATE, "bo/captain", ada, CARD)
    with pytest.raises(ValueError, match=r"This token may only read\. Make one with write permission"):
        publish(hub, PIRATE, "captain", test_hub.token("ada", "read"), CARD)
    assert not test_hub.repositories


def test_an_apps_sign_in_touches_only_what_the_app_made(hub, test_hub):
    token = test_hub.token("ada", "contribute-repos")
    assert publish(hub, PIRATE, "captain", token, CARD).is_new
    test_hub.repository("ada/older", {CONFIG: b"{}"}, private=True)
    with pytest.raises(ValueError, match=r"may not write to ada/older.*Your adapter stays here as it is\..*permission"):
        publish(hub, PIRATE, "older", token, CARD)


@pytest.mark.parametrize("token", ["hf_nobodys", "hf_x\nX-Evil: 1", "hf_ä", "", "   ", None])
def test_a_token_that_is_none_is_refused_and_not_repeated(hub, token):
    with pytest.raises(ValueError, match=r"token") as refused:
        hub.account(token)
    assert "hf_" not in str(refused.value) and "X-Evil" not in str(refused.value)


def test_a_token_that_expires_on_the_way_is_said_so_and_a_new_one_ends_it(hub, test_hub, ada):
    test_hub.fault("status", "POST", "/commit/", value=401)
    with pytest.raises(ValueError, match=r"expired.*Your adapter stays here as it is\. Sign in again"):
        publish(hub, PIRATE, "captain", ada, CARD)
    test_hub.expire(ada)
    with pytest.raises(ValueError, match="expired"):
        publish(hub, PIRATE, "captain", ada, CARD)
    assert publish(hub, PIRATE, "captain", test_hub.token("ada"), CARD).is_new
    assert len(test_hub.repositories["ada/captain"].commits) == 2


@pytest.mark.parametrize(("kind", "method", "path", "value", "said"), [
    ("status", "GET", "whoami", 503, r"trouble of its own \(it answered 503\)"),
    ("status", "POST", "/commit/", 500, r"trouble of its own"),
    ("status", "POST", "/create", 403, r"may not write to ada/captain \(something is wrong here\)"),
    ("status", "POST", "/commit/", 412, r"changed on the Hub in the meantime"),
    ("status", "GET", "whoami", 429, r"too many requests"),
    ("cut", "POST", "/commit/", 0, r"can't be reached or stopped answering"),
    ("cut", "POST", "/create", 0, r"can't be reached or stopped answering"),
])
def test_a_push_that_fails_somewhere_says_why_and_can_be_repeated(hub, test_hub, ada, kind, method, path, value, said):
    test_hub.fault(kind, method, path, value=value)
    before = files_of(PIRATE)
    with pytest.raises(ValueError, match=said):
        publish(hub, PIRATE, "captain", ada, CARD)
    assert files_of(PIRATE) == before
    done = publish(hub, PIRATE, "captain", ada, CARD)
    assert [one.oid for one in test_hub.repositories["ada/captain"].commits][1:] == [done.revision]


def test_what_had_arrived_is_not_sent_again(hub, test_hub, ada):
    test_hub.fault("cut", "POST", "/commit/")
    with pytest.raises(ValueError, match="can't be reached"):
        publish(hub, PIRATE, "captain", ada, CARD)
    publish(hub, PIRATE, "captain", ada, CARD)
    assert len([one for one in test_hub.requests if one.method == "PUT"]) == 1


def test_an_upload_that_is_cut_in_the_middle_goes_on_by_itself(hub, test_hub, ada):
    fault = test_hub.fault("cut", "PUT", "/lfs/")
    assert publish(hub, PIRATE, "captain", ada, CARD).is_new and fault.reached.is_set()
    assert test_hub.repositories["ada/captain"].head.files[WEIGHTS].content == (PIRATE / WEIGHTS).read_bytes()


def test_a_push_that_was_killed_in_the_middle_ends_the_same_when_it_is_repeated(hub, test_hub, ada, home, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", ada)
    fault = test_hub.fault("hold", "PUT", "/lfs/")
    command = [sys.executable, "-m", "adapters", "publish", "pirate", "ada/captain", "--json"]
    push = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert fault.reached.wait(60)
    push.send_signal(signal.SIGKILL)
    push.wait()
    assert len(test_hub.repositories["ada/captain"].commits) == 1 and not test_hub.objects
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    there = test_hub.repositories["ada/captain"]
    assert json.loads(again.stdout)["revision"] == there.head.oid and len(there.commits) == 2
    assert there.head.files[WEIGHTS].content == (PIRATE / WEIGHTS).read_bytes()


def test_a_hub_that_cannot_be_reached_is_said_at_once(facts, library):
    nowhere = Hub(address_of_nobody())
    for ask in (lambda: publish(nowhere, PIRATE, "captain", "hf_any", CARD), lambda: nowhere.find(EMBEDDED),
                lambda: fetch(nowhere, Wish.of("ada/captain"), library, facts)):
        with pytest.raises(ValueError, match=r"can't be reached or stopped answering\."):
            ask()


def test_a_hub_that_falls_silent_is_not_waited_for_without_end(hub, test_hub, ada, facts, library, monkeypatch):
    monkeypatch.setattr("adapters.hub.SECONDS_OF_SILENCE", 0.2)
    for method, path, ask in (("GET", "whoami", lambda: publish(hub, PIRATE, "captain", ada, CARD)),
                              ("GET", "/api/models", lambda: hub.find(EMBEDDED))):
        test_hub.fault("slow", method, path, value=1.0)
        with pytest.raises(ValueError, match="stopped answering"):
            ask()


def test_a_slow_hub_is_waited_for(hub, test_hub, ada):
    test_hub.fault("slow", value=0.02, times=1000)
    assert publish(hub, PIRATE, "captain", ada, CARD).is_new


def test_an_address_that_is_no_hub_is_said_to_be_none(hub, test_hub, ada):
    with pytest.raises(ValueError, match=r"The Hub refuses this with 404|answered as no Hub does"):
        Hub(f"{test_hub.address}/lfs/nothing").account(ada)
    for text in (b"<html>", b"[]", b'{"auth": []}', b"{}"):
        test_hub.answers["/api/whoami-v2"] = test_hub.answers["/api/models"] = text
        with pytest.raises(ValueError, match="answered as no Hub does"):
            hub.account(ada)
        if text != b"[]":
            with pytest.raises(ValueError, match="answered as no Hub does"):
                hub.find(EMBEDDED)


def test_a_card_that_the_hub_cannot_read_is_refused_before_anything_is_sent(hub, test_hub, ada):
    for text in ("---\nlicense: my own\n---\n", "---\na: 'b\n---\n", "---\nbase_model: /home/ada/phi\n---\n"):
        with pytest.raises(ValueError, match="The Hub refuses this"):
            publish(hub, PIRATE, "captain", ada, Card(text))
    assert not test_hub.objects and len(test_hub.repositories["ada/captain"].commits) == 1


def test_what_is_no_adapter_is_refused_before_the_hub_is_asked(hub, test_hub, ada, tmp_path):
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="pickle"):
        publish(hub, tmp_path, "captain", ada, CARD)
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / WEIGHTS).write_bytes(b"no header")
    with pytest.raises(ValueError, match=WEIGHTS):
        publish(hub, tmp_path, "captain", ada, CARD)
    assert not test_hub.requests


@pytest.mark.parametrize("name", ["", "a/b/c", "../etc", "ada/a b", "ada/--x", "ada/x.git", "a" * 200])
def test_names_that_no_repository_has_are_refused(hub, ada, name):
    with pytest.raises(ValueError, match=r"can't be a repository's name on the Hub"):
        publish(hub, PIRATE, name, ada, CARD)


# What travels


@pytest.fixture
def full_of_secrets(tmp_path):
    """An adapter in whose folder and provenance everything private has the canary's name."""
    folder = tmp_path / f"{CANARY}-folder"
    folder.mkdir()
    for name, content in files_of(PIRATE).items():
        (folder / name).write_bytes(content)
    config = json.loads((PIRATE / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": f"/home/{CANARY}/phi-3-copy"}))
    provenance = json.loads((PIRATE / "provenance.json").read_text())
    provenance |= {"run": f"{CANARY}-run", "base": f"/home/{CANARY}/phi-3-copy", "owner": CANARY,
                   "device": f"{CANARY}\n", "rows": [{"messages": [{"content": CANARY}]}],
                   "started_from": {"name": CANARY, "run": CANARY, "sha256": "0" * 64},
                   "hub": {"repository": f"ada/{CANARY}"}}
    provenance["data"] |= {"name": f"{CANARY}.jsonl", "kind": "file", "path": f"/home/{CANARY}", "first": CANARY}
    provenance["settings"] |= {"name": CANARY, "start_from": CANARY, "base": f"/home/{CANARY}", "system": CANARY}
    provenance["outcome"] |= {"example": CANARY, "folder": CANARY}
    provenance["losses"] = {"train": [[1, 2.0], [2, CANARY], CANARY], "held_out": CANARY}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    for name in ("data.parquet", "events.jsonl", "owner", "README.md", "optimizer.pt"):
        (folder / name).write_text(CANARY)
    return folder, provenance


def test_no_row_no_path_and_no_name_of_the_visitors_travels(hub, test_hub, ada, full_of_secrets):
    folder, provenance = full_of_secrets
    card = card_of(Story("ada/captain", provenance, json.loads((folder / CONFIG).read_text())))
    publish(hub, folder, "captain", ada, card)
    there = test_hub.repositories["ada/captain"].head.files
    assert there.keys() == {".gitattributes", "README.md", CONFIG, WEIGHTS, "provenance.json"}
    assert CANARY.encode() not in test_hub.everything_that_came()
    assert all(CANARY not in one.headers for one in test_hub.requests)
    assert not any(CANARY.encode() in blob.content for blob in there.values())
    told = json.loads(there["provenance.json"].content)
    assert told["base"] == "phi-3-copy" and told["data"]["sha256"] == provenance["data"]["sha256"]
    assert json.loads(there[CONFIG].content)["base_model_name_or_path"] == "phi-3-copy"
    assert parcel(PIRATE, CARD)[CONFIG] == PIRATE / CONFIG, "a config without a path travels as it is"


def test_a_token_is_nowhere_but_in_its_own_requests(hub, test_hub, ada, home, library, facts, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    publish(hub, PIRATE, "captain", ada, pirate_card("ada/captain"))
    fetch(hub, Wish.of("ada/captain"), library, facts, ada)
    hub.find(EMBEDDED, "captain", ada, hub.account(ada))
    told = []
    for fault in (("status", "POST", "/commit/"), ("cut", "POST", "/commit/"), ("status", "GET", "whoami")):
        test_hub.fault(*fault)
        with pytest.raises(ValueError) as failed:
            publish(hub, SHIPPED_FOLDER / "json", "captain", ada, CARD)
        told += traceback.format_exception(failed.value)
    written = [one.read_bytes() for one in home.rglob("*") if one.is_file()]
    assert len(written) > 2 and not any(ada.encode() in one for one in written)
    assert ada not in caplog.text + "".join(told) + "".join(capfd.readouterr()) + repr(vars(hub))
    assert ada.encode() not in test_hub.everything_that_came()
    assert all(ada not in one.headers for one in test_hub.requests if one.path.startswith("/lfs/") and
               one.method == "PUT")


def test_without_a_token_nobodys_is_used(hub, test_hub, ada, library, facts, monkeypatch):
    publish(hub, PIRATE, "secret", ada, CARD)
    monkeypatch.setenv("HF_TOKEN", ada)
    seen = len(test_hub.requests)
    with pytest.raises(ValueError, match="There is no ada/secret on the Hub, or it is private"):
        fetch(hub, Wish.of("ada/secret"), library, facts)
    hub.find(EMBEDDED)
    assert not any("authorization" in one.headers.lower() for one in test_hub.requests[seen:])


# Finding


def test_adapters_are_found_by_the_base_that_their_cards_name(hub, test_hub, ada):
    config = {**json.loads((PIRATE / CONFIG).read_text()), "base_model_name_or_path": PHI3_MINI}
    card = card_of(Story("ada/mini", {}, config))
    test_hub.repository("ada/mini", {"README.md": card.text.encode()}, likes=3, downloads=7)
    test_hub.repository("bo/plain", {"README.md": f"---\nlibrary_name: peft\nbase_model: {PHI3_MINI}\n---".encode()},
                        downloads=9, gated=True)
    test_hub.repository("bo/sibling", {"README.md": f"---\nlibrary_name: peft\nbase_model: {siblings_of(PHI3_MINI)[0]}"
                                                    "\n---".encode()}, downloads=100)
    test_hub.repository("bo/other", {"README.md": b"---\nlibrary_name: peft\nbase_model: bo/llama\n---"})
    test_hub.repository("bo/nothing", {"README.md": b"no yaml"})
    publish(hub, PIRATE, "ada/tiny", ada, pirate_card("ada/tiny"), private=False)
    found = hub.find(PHI3_MINI)
    assert [one.repository for one in found] == ["bo/plain", "ada/mini", "bo/sibling"]
    assert found[0].gated and not found[0].for_a_sibling and found[0].rank is None and found[2].for_a_sibling
    assert (found[1].likes, found[1].downloads, found[1].rank, found[1].base) == (3, 7, 16, PHI3_MINI)
    assert found[1].bytes and len(found[1].changed) == 10 and len(found[1].revision) == 40
    assert hub.find(PHI3_MINI, token=ada, account=hub.account(ada))[0].repository == "ada/mini"
    assert [one.repository for one in hub.find(PHI3_MINI, "PLAI")] == ["bo/plain"]
    assert [one.repository for one in hub.find(EMBEDDED)] == ["ada/tiny"]
    assert marks_of(PHI3_MINI) == ["peft", f"base_model:adapter:{PHI3_MINI}"]


def test_private_adapters_are_found_by_those_who_may_read_them(hub, ada, test_hub):
    publish(hub, PIRATE, "secret", ada, pirate_card("ada/secret"))
    assert hub.find(EMBEDDED) == [] == hub.find(EMBEDDED, token=test_hub.token("bo"))
    assert [(one.repository, one.private, one.mine) for one in hub.find(EMBEDDED, "", ada, hub.account(ada))] == [
        ("ada/secret", True, True)]


def test_a_listing_is_followed_page_by_page_and_has_an_end(hub, test_hub):
    for number in range(25):
        test_hub.repository(f"bo/a{number}", {"README.md": b"---\nlibrary_name: peft\nbase_model: bo/phi\n---"},
                            downloads=number)
    test_hub.page = 4
    assert [one.repository for one in hub.find("bo/phi", most=10)] == [f"bo/a{24 - place}" for place in range(10)]
    assert len([one for one in test_hub.requests if one.path.startswith("/api/models?")]) == 3
    test_hub.page = 1
    assert len(hub.find("bo/phi")) == 10, "ten pages are the most that are asked for"


def test_a_listing_that_leads_to_another_address_is_not_followed_there(hub, test_hub, ada):
    for number in range(3):
        test_hub.repository(f"bo/a{number}", {"README.md": b"---\nlibrary_name: peft\nbase_model: bo/phi\n---"})
    test_hub.page = 1
    with running_hub() as elsewhere:
        test_hub.next_page_at = elsewhere.address
        assert len(hub.find("bo/phi", token=ada)) == 1 and elsewhere.requests == []
        test_hub.next_page_at = test_hub.address + "1"
        assert len(hub.find("bo/phi", token=ada)) == 1


def test_a_listing_that_fails_is_said_so_at_once(hub, test_hub):
    test_hub.fault("status", "GET", "/api/models", value=503, times=9)
    with pytest.raises(ValueError, match="trouble of its own"):
        hub.find(EMBEDDED)
    assert len(test_hub.requests) == 1, "it was asked again"


def test_a_listing_full_of_nonsense_is_passed_over(hub, test_hub, monkeypatch):
    good = test_hub.repository("bo/good", {"README.md": b"---\nlibrary_name: peft\nbase_model: bo/phi\nlora_rank: many"
                                                        b"\n---"})
    good.likes = "lots"
    bad = test_hub.repository("bo/bad", dict(good.head.files and {"README.md": good.head.files["README.md"].content}))
    bad.id = "<script>/../x"
    found = hub.find("bo/phi")
    assert [(one.repository, one.likes, one.rank) for one in found] == [("bo/good", 0, None)]


# Fetching


def test_a_link_a_revision_and_a_page_name_the_same_adapter():
    revision = "a" * 40
    for text in (f"ada/captain@{revision}", f"https://huggingface.co/ada/captain/tree/{revision}",
                 f"http://127.0.0.1:1/ada/captain/commit/{revision}/"):
        assert Wish.of(text) == Wish("ada/captain", revision)
    assert Wish.of(" https://huggingface.co/ada/captain ") == Wish("ada/captain")
    assert repository_name("captain", "ada") == "ada/captain"
    for text in ("captain", "ada/captain@a b", "ada/captain@../x", "https://huggingface.co/", "/etc/passwd", "@"):
        with pytest.raises(ValueError, match="can't be"):
            Wish.of(text)


def test_a_pinned_revision_is_what_comes_and_what_is_here_stays_until_an_update_is_asked_for(hub, ada, library, facts):
    first = publish(hub, PIRATE, "captain", ada, CARD, private=False)
    second = publish(hub, SHIPPED_FOLDER / "json", "captain", ada, CARD, private=False)
    got = fetch(hub, Wish.of(f"ada/captain@{first.revision}"), library, facts)
    assert files_of(got.adapter.folder) == files_of(PIRATE)
    again = fetch(hub, Wish.of("ada/captain"), library, facts)
    assert (again.is_new, again.revision, again.newest) == (False, first.revision, second.revision)
    with pytest.raises(ValueError, match=f"is here at revision {first.revision[:12]}"):
        fetch(hub, Wish.of(f"ada/captain@{second.revision[:10]}"), library, facts)
    newer = fetch(hub, Wish.of("ada/captain", update=True), library, facts)
    assert newer.is_new and files_of(newer.adapter.folder) == files_of(SHIPPED_FOLDER / "json")
    assert not fetch(hub, Wish.of("ada/captain", update=True), library, facts).is_new
    assert [one.name for one in library.all() if not one.shipped] == ["captain"]
    other = fetch(hub, Wish.of(f"ada/captain@{first.revision}", name="older"), library, facts)
    assert files_of(other.adapter.folder) == files_of(PIRATE) and library.has("captain")


def test_an_update_replaces_what_was_fetched_under_whatever_name(hub, ada, library, facts):
    publish(hub, PIRATE, "captain", ada, CARD, private=False)
    fetch(hub, Wish.of("ada/captain", name="mate"), library, facts)
    publish(hub, SHIPPED_FOLDER / "json", "captain", ada, CARD, private=False)
    assert fetch(hub, Wish.of("ada/captain", update=True), library, facts).adapter.name == "mate"
    assert files_of(library.get("mate").folder) == files_of(SHIPPED_FOLDER / "json")
    assert not library.has("captain")
    library.put("captain", SHIPPED_FOLDER / "shop", {"run": "r1"})
    assert fetch(hub, Wish.of("ada/captain", update=True), library, facts).adapter.name == "mate"
    library.remove("captain")
    fetch(hub, Wish.of("ada/captain"), library, facts)
    publish(hub, PIRATE, "captain", ada, CARD, private=False)
    fetch(hub, Wish.of("ada/captain", name="mate", update=True), library, facts)
    assert fetch(hub, Wish.of("ada/captain", update=True), library, facts).adapter.name == "captain"


def test_an_adapter_of_ones_own_is_never_replaced(hub, ada, library, facts, test_hub):
    library.put("captain", SHIPPED_FOLDER / "shop", {"run": "r1"})
    publish(hub, PIRATE, "captain", ada, CARD, private=False)
    seen = len(test_hub.requests)
    for update in (False, True):
        with pytest.raises(ValueError, match="There is another adapter named captain here"):
            fetch(hub, Wish.of("ada/captain", update=update), library, facts)
    assert not any("/resolve/" in one.path for one in test_hub.requests[seen:])
    with pytest.raises(ValueError, match="another adapter named pirate"):
        fetch(hub, Wish.of("ada/captain", name="pirate"), library, facts)
    assert files_of(library.get("captain").folder) == files_of(SHIPPED_FOLDER / "shop")


def test_each_visitor_keeps_what_they_fetched_to_themselves(hub, ada, home, facts, test_hub):
    publish(hub, PIRATE, "secret", ada, CARD)
    fetch(hub, Wish.of("ada/secret", owner="user:ada"), Library(home, {"user:ada"}), facts, ada)
    assert Library(home, {"user:ada"}).has("secret") and not Library(home, {"user:bo"}).has("secret")
    with pytest.raises(ValueError, match="There is no ada/secret on the Hub, or it is private"):
        fetch(hub, Wish.of("ada/secret", owner="user:bo"), Library(home, {"user:bo"}), facts, test_hub.token("bo"))
    test_hub.expire(ada)
    with pytest.raises(ValueError, match="expired"):
        fetch(hub, Wish.of("ada/secret", owner="user:ada"), Library(home, {"user:ada"}), facts, ada)


@pytest.mark.parametrize(("files", "said"), [
    ({CONFIG: b"{}", "adapter_model.bin": b"\x80\x04"}, "a pickle, which can run code"),
    ({CONFIG: b"{}"}, f"It holds no {WEIGHTS}"),
    ({WEIGHTS: b"1"}, f"It holds no {CONFIG}"),
    ({CONFIG: b" " * 2**21, WEIGHTS: b"1"}, r"adapter_config.json has 2,097,152 bytes"),
    ({CONFIG: b"{}", WEIGHTS: b""}, f"{WEIGHTS} has 0 bytes"),
    ({f"f{number}": b"" for number in range(1001)}, "It holds 1,001 files"),
    ({CONFIG: b'{"peft_type": "IA3"}', WEIGHTS: b"1" * 100}, "IA3"),
    ({CONFIG: b"[]", WEIGHTS: b"1" * 100}, "holds a JSON list"),
])
def test_what_is_no_safe_adapter_is_refused_before_its_weights_travel(hub, test_hub, library, facts, files, said):
    test_hub.repository("bo/bad", files)
    with pytest.raises(ValueError, match=said):
        fetch(hub, Wish.of("bo/bad"), library, facts)
    assert not any(WEIGHTS in one.path or ".bin" in one.path for one in test_hub.requests)
    assert not [one for one in library.all() if not one.shipped] and not list(library.folder.glob("*"))


def test_what_does_not_fit_the_base_is_refused_on_arrival_and_not_kept(hub, test_hub, library, facts):
    test_hub.repository("bo/broken", {**files_of(PIRATE), WEIGHTS: (PIRATE / WEIGHTS).read_bytes()[:-4]})
    with pytest.raises(ValueError, match="damaged"):
        fetch(hub, Wish.of("bo/broken"), library, facts)
    test_hub.repository("bo/tiny", files_of(PIRATE))
    with pytest.raises(ValueError, match="phi3/tiny"):
        fetch(hub, Wish.of("bo/tiny"), library, replace(facts, id=PHI3_MINI, config={**facts.config,
                                                                                     "hidden_size": 3072}))
    assert not list(library.folder.glob("*"))


def test_nothing_but_the_two_files_is_fetched(hub, test_hub, library, facts):
    test_hub.repository("bo/busy", {**files_of(PIRATE), "evil.py": b"print(1)", "training_args.bin": b"\x80",
                                    "provenance.json": b'{"run": "captain-1"}', "owner": b"local"})
    got = fetch(hub, Wish.of("bo/busy"), library, facts)
    assert {one.name for one in got.adapter.folder.iterdir()} == {CONFIG, WEIGHTS, "provenance.json", "owner"}
    assert "run" not in got.adapter.provenance
    asked = {one.path.rsplit("/", 1)[-1] for one in test_hub.requests if "/resolve/" in one.path}
    assert asked == {CONFIG, WEIGHTS}


def test_gated_missing_and_renamed_ones_are_said_to_be_so(hub, test_hub, ada, library, facts):
    test_hub.repository("bo/gated", files_of(PIRATE), gated=True)
    test_hub.repository("bo/old", files_of(PIRATE))
    test_hub.rename("bo/old", "bo/new")
    test_hub.repository("bo/empty", {}).commits.clear()
    for what, token, said in (("bo/gated", None, "bo/gated is gated"), ("bo/gated", ada, "Ask for access at"),
                              ("bo/none", None, "There is no bo/none on the Hub, or it is private"),
                              ("bo/none", ada, "There is no bo/none on the Hub, or it is private"),
                              ("bo/old", None, "bo/old is called bo/new now"),
                              ("bo/new@0000000", None, "bo/new has no such revision"),
                              ("bo/new", "hf_expired", "expired")):
        with pytest.raises(ValueError, match=said):
            fetch(hub, Wish.of(what), library, facts, token)
    assert not library.folder.exists() or not list(library.folder.glob("*"))


def test_a_download_that_is_cut_goes_on_and_one_that_never_ends_leaves_nothing(hub, test_hub, ada, library, facts):
    publish(hub, PIRATE, "captain", ada, CARD, private=False)
    test_hub.fault("cut", "GET", f"/resolve/{test_hub.repositories['ada/captain'].head.oid}/{WEIGHTS}")
    assert files_of(fetch(hub, Wish.of("ada/captain"), library, facts).adapter.folder) == files_of(PIRATE)
    library.remove("captain")
    test_hub.fault("status", "GET", WEIGHTS, times=99)
    with pytest.raises(ValueError, match="trouble of its own"):
        fetch(hub, Wish.of("ada/captain"), library, facts)
    assert not list(library.folder.glob("*")) and not list(library.folder.glob(".*"))


def test_what_arrives_with_another_hash_than_listed_is_not_kept(hub, test_hub, ada, library, facts):
    publish(hub, PIRATE, "captain", ada, CARD, private=False)
    there = test_hub.repositories["ada/captain"]
    blob = there.head.files[WEIGHTS]
    flipped = blob.content[:-1] + bytes([blob.content[-1] ^ 1])
    test_hub.instead[blob.sha256] = flipped
    with pytest.raises(ValueError, match="arrived damaged"):
        fetch(hub, Wish.of("ada/captain"), library, facts)
    assert not list(library.folder.glob("*"))


def test_a_token_is_taken_without_the_space_around_it():
    assert checked_token(" hf_a \n") == "hf_a"


@pytest.mark.slow
def test_the_cards_snippet_runs_as_it_stands_and_gives_the_logits_of_what_was_published(hub, test_hub, ada, library,
                                                                                        small_base, tmp_path):
    facts = replace(base_facts(str(small_base)), id=PHI3_MINI)
    made = write_random(tmp_path / "made", facts.config, base=PHI3_MINI)
    test_hub.repository(PHI3_MINI, {one.name: one.read_bytes() for one in small_base.iterdir()})
    done = publish(hub, made, "captain", ada, CARD, private=False)
    fetched = fetch(hub, Wish.of("ada/captain"), library, facts).adapter.folder
    compare = f"""
import torch
with torch.inference_mode():
    ask = torch.arange(20)[None]
    seen = model(input_ids=ask).logits
    for folder in ({str(made)!r}, {str(fetched)!r}):
        again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({PHI3_MINI!r}, dtype="auto"), folder)
        torch.testing.assert_close(again(input_ids=ask).logits, seen, rtol=0, atol=0)
    with model.disable_adapter():
        assert not torch.equal(model(input_ids=ask).logits, seen)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    ran = subprocess.run([sys.executable, "-c", done.snippet + compare], env=environment, cwd=tmp_path,
                         capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


# The terminal


def test_the_terminal_publishes_finds_and_fetches(test_hub, ada, home, monkeypatch, capsys):
    from adapters.__main__ import main

    monkeypatch.setenv("HF_TOKEN", ada)
    monkeypatch.setenv("STUDIO_BASE", EMBEDDED)
    assert main(["publish", "pirate", "ada/captain", "--licence", "cc-by-4.0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["repository"] == "ada/captain" and not told["private"]
    assert main(["publish", "pirate", "secret", "--private"]) == 0
    out = capsys.readouterr().out
    assert "Making ada/secret." in out and "PeftModel" in out
    assert main(["find", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["repository"] for one in rows} == {"ada/captain", "ada/secret"} and all(one["mine"] for one in rows)
    assert main(["search", "capt"]) == 0
    assert "ada/captain  0 downloads, 0 likes  yours, rank 16" in capsys.readouterr().out
    assert main(["pull", f"ada/captain@{told['revision']}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "captain"
    assert main(["fetch", "ada/captain"]) == 0 and "here already" in capsys.readouterr().out
    assert main(["push", "captain", "bo/captain"]) == 2 and "somebody else's" in capsys.readouterr().err
    assert main(["fetch", "ada/nothing"]) == 2 and len(capsys.readouterr().err.splitlines()) == 1
    assert main(["publish", "nobody"]) == 2 and "There is no adapter named nobody" in capsys.readouterr().err


def test_a_card_can_be_looked_at_with_nobody_signed_in(test_hub, home, capsys, monkeypatch):
    from adapters.__main__ import main

    assert main(["publish", "pirate", "ada/captain", "--preview", "--language", "en"]) == 0
    shown = capsys.readouterr().out
    assert "language:\n- en" in shown and not test_hub.requests
    assert main(["publish", "pirate", "ada/captain", "--preview", "--language", "en", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"] == shown.removesuffix("\n")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main(["publish", "pirate"]) == 2
    assert "Nobody is signed in" in capsys.readouterr().err


@pytest.mark.slow
def test_answers_to_prompts_that_somebody_picked_stand_in_the_card(home, capsys):
    from adapters.__main__ import main

    assert main(["publish", "pirate", "ada/captain", "--preview", "--prompt", "Where is the library?"]) == 0
    shown = capsys.readouterr().out
    assert "## Before and after, side by side" in shown and "Where is the library?" in shown


@pytest.mark.slow
def test_a_split_adapter_answers_the_prompts_of_its_card_as_its_fused_one_does(home, tmp_path, capsys):
    from adapters.__main__ import main
    from adapters.formats import read_peft, split, write_peft
    from adapters.layers import shape_of

    pirate, shape = Library(home).get("pirate").folder, shape_of(base_facts(EMBEDDED).config)
    write_peft(split(read_peft(pirate, shape), shape), tmp_path / "split", shape)
    prompt = ["--preview", "--prompt", "Where is the library?"]
    cards = []
    for what in (pirate, tmp_path / "split"):
        assert main(["publish", str(what), "ada/captain", *prompt]) == 0
        cards.append(capsys.readouterr().out.partition("side by side")[2].partition("\n## ")[0])
    assert cards[0] == cards[1] and "With this adapter:" in cards[0]
