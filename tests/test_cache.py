"""Fetched adapters make room for newer ones, the longest unused first; what is trained, ships or is in use stays."""

import json
import os
import time

import pytest

from adapters.cache import Room, fetched, make_room
from adapters.fetch import Wish, fetch
from adapters.files import CONFIG, MEBIBYTE, WEIGHTS
from adapters.hub import Hub
from adapters.library import LOCAL, PROVENANCE, SHIPPED_FOLDER, USED, Library
from chat import conversation
from phi3.models import EMBEDDED, base_facts

PIRATE = SHIPPED_FOLDER / "pirate"


@pytest.fixture
def came(home, tmp_path):
    """Puts adapters of 1 MiB into the library as if they came from the Hub, or out of a run, so long ago."""

    def put(name, owner=LOCAL, minutes=100, **provenance):
        made = tmp_path / f"{name}-{owner}"
        made.mkdir()
        (made / CONFIG).write_text(json.dumps({"base_model_name_or_path": EMBEDDED}))
        (made / WEIGHTS).write_bytes(b"0" * MEBIBYTE)
        hub = {"hub": {"repository": f"bo/{name}", "revision": "0" * 40, "address": "http://127.0.0.1"}}
        adapter = Library(home, {owner}).put(name, made, provenance or hub, owner)
        long_ago = time.time() - 60 * minutes
        os.utime(adapter.folder / PROVENANCE, (long_ago, long_ago))
        return adapter

    return put


def folder(home):
    return home / "adapters"


def test_those_that_were_used_longest_ago_make_room(home, came):
    for name, minutes in (("old", 300), ("older", 400), ("new", 100)):
        came(name, minutes=minutes)
    assert make_room(folder(home), MEBIBYTE // 2, LOCAL, Room(2, 2)) == ["older", "old"]
    assert [one.folder.name for one in fetched(folder(home))] == ["new"]
    assert not list(folder(home).glob(".*"))


def test_a_lane_that_asks_for_an_adapter_keeps_it_here(home, came):
    for name, minutes in (("old", 300), ("new", 100)):
        came(name, minutes=minutes)
    talks = conversation.with_question((conversation.Talk("old"),), "Ahoy?")
    next(conversation.answered(talks, None, Library(home), conversation.Asking(), lambda: False))
    assert (Library(home).get("old").folder / USED).exists()
    assert make_room(folder(home), MEBIBYTE // 2, LOCAL, Room(2, 2)) == ["new"]


def test_what_a_leaving_that_broke_off_left_behind_hinders_no_later_one(home, came, tmp_path, monkeypatch):
    monkeypatch.setattr("adapters.cache.shutil.rmtree", lambda folder, **how: None)
    for number in range(2):
        came("mine")
        assert make_room(folder(home), MEBIBYTE // 2, LOCAL, Room(1, 1)) == ["mine"]
        (tmp_path / f"mine-{LOCAL}").rename(tmp_path / str(number))


def test_what_was_trained_here_never_goes(home, came):
    came("trained", minutes=10_000, run="r1")
    came("older-still", minutes=10_000, run="r2", hub={"repository": "bo/start"})
    came("fetched")
    assert make_room(folder(home), 0, LOCAL, Room(2, 2)) == []
    assert make_room(folder(home), MEBIBYTE, LOCAL, Room(2, 2)) == ["fetched"]
    assert {one.name for one in Library(home).all() if not one.shipped} == {"trained", "older-still"}
    assert Library(home).has("pirate")


def test_where_all_are_in_use_a_sentence_says_so_and_nothing_goes(home, came):
    came("busy", minutes=1)
    came("old")
    with pytest.raises(ValueError, match="It has 2 MB, and 2 MB of fetched adapters are kept here"):
        make_room(folder(home), 2 * MEBIBYTE, LOCAL, Room(2, 2))
    assert len(list(fetched(folder(home)))) == 2


def test_one_visitor_pushes_out_their_own_first(home, came):
    came("theirs", owner="name:bo", minutes=900)
    came("mine", owner="name:ada")
    assert make_room(folder(home), MEBIBYTE, "name:ada", Room(9, 1))[0].startswith("mine@")
    assert [one.owner for one in fetched(folder(home))] == ["name:bo"]


def test_a_fetch_makes_room_before_anything_travels(home, came, test_hub, monkeypatch):
    came("old")
    monkeypatch.setattr("adapters.cache.ONES_OWN", Room(2, 2))
    test_hub.repository("bo/captain", {name: (PIRATE / name).read_bytes() for name in (CONFIG, WEIGHTS)})
    fetch(Hub(), Wish.of("bo/captain"), Library(home), base_facts(EMBEDDED))
    assert [one.folder.name for one in fetched(folder(home))] == ["captain"]
    monkeypatch.setattr("adapters.cache.ONES_OWN", Room(0, 0))
    test_hub.requests.clear()
    with pytest.raises(ValueError, match="0 MB of fetched adapters are kept here"):
        fetch(Hub(), Wish.of("bo/captain", name="another"), Library(home), base_facts(EMBEDDED))
    assert not any("/resolve/" in one.path for one in test_hub.requests)


def test_a_private_adapter_that_is_here_answers_nobody_elses_lane(home, test_hub):
    token = test_hub.token("ada")
    files = {name: (PIRATE / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    test_hub.repository("ada/secret", files, private=True)
    mine, other = (Library(home, {f"name:{name}"}) for name in ("ada", "bo"))
    fetch(Hub(), Wish.of("ada/secret", owner="name:ada"), mine, base_facts(EMBEDDED), token)
    talks = conversation.with_question((conversation.Talk("secret"),), "Ahoy?")
    (refused,), = conversation.answered(talks, None, other, conversation.Asking(), lambda: False)
    assert refused.turns[-1].answer.end == "error" and "There is no adapter named secret" in \
        refused.turns[-1].answer.note
    (waits,) = next(conversation.answered(talks, None, mine, conversation.Asking(), lambda: False))
    assert waits.turns[-1].answer.end != "error"
    for secret in ("secret", mine.get("secret").folder.name, str(mine.get("secret").folder)):
        with pytest.raises(ValueError, match="There is no adapter named"):
            other.get(secret)
