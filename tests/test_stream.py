"""What a handler says bit by bit, as Gradio's page works it together."""

import copy
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tabs.stream import Page

few = some.lists(some.text("ab", max_size=2), max_size=3)
properties = some.dictionaries(some.sampled_from(["selected", "visible", "label", "value"]),
                               some.one_of(some.booleans(), some.text("ab", max_size=4), few), max_size=3)
updates = properties.map(lambda told: {**told, "__type__": "update"})
nested = some.one_of(updates, some.tuples(properties, updates).map(
    lambda told: {**told[0], "props": told[1], "__type__": "update"}))
values = some.one_of(some.none(), some.text("ab", max_size=6), some.integers(0, 3), few, properties, nested)


@pytest.fixture(scope="module")
def page():
    return Page(analytics_enabled=False)


def heard_at_once(page: Page, words: list[list]) -> list[list]:
    """What the page holds of each word once it has heard them all and shown none."""
    function, held = SimpleNamespace(outputs=words[0]), []
    for word in words:
        sent = page.handle_streaming_diffs(function, copy.deepcopy(word), "visit", "run", final=False)
        held.append([_with_edits(held[-1][place], copy.deepcopy(one)) for place, one in enumerate(sent)]
                    if held else copy.deepcopy(sent))
    last = page.handle_streaming_diffs(function, [None] * len(words[0]), "visit", "run", final=True)
    assert last == words[-1] and not page.pending_diff_streams, "the end says it all once more, and keeps nothing"
    return held


def _with_edits(value, edits):
    """As Gradio's page does it (client/js/src/utils/stream.ts): in the very object that the word before is."""
    for act, path, told in edits:
        value = _with_edit(value, act, path, told)
    return value


def _with_edit(value, act, path, told):
    if not path:
        return told if act == "replace" else value + told
    *way, last = path
    place = value
    for step in way:
        place = place[step]
    if act == "delete":
        del place[last]
    elif act == "add" and isinstance(place, list):
        place.insert(last, told)
    else:
        place[last] = place[last] + told if act == "append" else told
    return value


@given(some.integers(1, 3).flatmap(lambda width: some.lists(some.lists(values, min_size=width, max_size=width),
                                                            min_size=1, max_size=4)))
def test_no_word_takes_back_what_another_one_told_a_part(page, words):
    held = heard_at_once(page, words)
    assert held[-1] == words[-1]
    for word, kept in zip(words, held, strict=True):
        for said, shown in zip(word, kept, strict=True):
            if isinstance(said, dict) and said.get("__type__") == "update":
                assert shown == said


def test_a_text_that_grows_is_sent_as_what_it_grew_by(page):
    function = SimpleNamespace(outputs=["text"])
    sent = [page.handle_streaming_diffs(function, [text], "visit", "run", final=False)
            for text in ("Once", "Once upon", "Once upon")]
    assert sent == [["Once"], [[["append", [], " upon"]]], [[]]]
    page.handle_streaming_diffs(function, [None], "visit", "run", final=True)


@pytest.mark.parametrize("who", [(None, "run"), ("visit", None)])
def test_a_program_that_asks_for_no_edits_gets_whole_words(page, who):
    function = SimpleNamespace(outputs=["text"])
    for text in ("Once", "Once upon"):
        assert page.handle_streaming_diffs(function, [text], *who, final=False) == [text]
    assert not page.pending_diff_streams
