"""Conversations that are kept as trees: the branch that is taken, and what isn't learned from."""

import json

import pytest

from training.data import read_data
from training.shapes import as_chat, shape_of

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


def node(name, parent, role="", text="", children=(), **more):
    """A node as ChatGPT's export has it; a root says nothing."""
    said = {"id": name, "author": {"role": role, "name": None, "metadata": {}}, "create_time": 1.0, "recipient": "all",
            "content": {"content_type": "text", "parts": [text]}, "metadata": {}, **more} if role else None
    return {"id": name, "message": said, "parent": parent, "children": list(children)}


def export(*nodes, **more):
    """A conversation of ChatGPT's export."""
    return {"title": "Greeting", "create_time": 1.0, "mapping": {one["id"]: one for one in nodes}, **more}


BEGUN = (node("root", None, children=["sys"]),
         node("sys", "root", "system", "", ["context"]),
         node("context", "sys", "user", children=["hi"], content={
             "content_type": "user_editable_context", "user_profile": "A sailor."}),
         node("hi", "context", "user", "Hi", ["no", "thinks"]),
         node("no", "hi", "assistant", "No."),
         node("thinks", "hi", "assistant", children=["ho"], content={"content_type": "thoughts", "thoughts": []}),
         node("ho", "thinks", "assistant", "Ho"))


def test_chatgpts_export_gives_the_branch_that_was_on_the_screen():
    row = export(*BEGUN, current_node="ho")
    assert shape_of(row) == "chatgpt export"
    assert as_chat(row).messages == TURNS
    assert as_chat(export(*BEGUN, current_node="no")).messages[1]["content"] == "No."


def test_without_a_place_the_newest_branch_is_taken():
    assert as_chat(export(*BEGUN)).messages == TURNS


def test_what_chatgpt_was_told_to_be_is_kept_and_what_was_hidden_is_not():
    told = export(node("sys", None, "system", "Be brief."), node("hi", "sys", "user", "Hi"),
                  node("secret", "hi", "system", "Hidden.", metadata={"is_visually_hidden_from_conversation": True}),
                  node("ho", "secret", "assistant", "Ho"), current_node="ho")
    assert as_chat(told).messages == [{"role": "system", "content": "Be brief."}, *TURNS]


def test_an_empty_message_before_another_of_the_same_person_is_none():
    begun = (node("hi", None, "user", "Hi"), node("nothing", "hi", "assistant"), node("sys", "nothing", "system"))
    assert as_chat(export(*begun, node("ho", "sys", "assistant", "Ho"), current_node="ho")).messages == TURNS
    with pytest.raises(ValueError, match="an empty answer"):
        as_chat(export(*begun[:2], node("b", "nothing", "user", "b"), node("c", "b", "assistant", "c"),
                       current_node="c"))


@pytest.mark.parametrize(("last", "why"), [
    (node("ho", "hi", "assistant", "search()", recipient="browser"), "calls a tool"),
    (node("ho", "hi", "tool", "found"), "a turn of a tool"),
    (node("ho", "hi", "assistant", content={"content_type": "code", "text": "1"}), "a part that is no text"),
    (node("ho", "hi", "user", content={"content_type": "multimodal_text", "parts": [
        {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}, "?"]}), "with an image"),
    (node("ho", "hi", "assistant", content=None), "a part that is no text"),
    (node("ho", "hi", "wizard", "Ho"), "unknown role")])
def test_what_is_no_text_drops_the_conversation_with_its_reason(last, why):
    with pytest.raises(ValueError, match=why):
        as_chat(export(node("hi", None, "user", "Hi"), last, current_node="ho"))


@pytest.mark.parametrize("nodes", [
    [node("a", "b", "user", "Hi"), node("b", "a", "assistant", "Ho")],  # a ring
    [node("b", "gone", "assistant", "Ho")], [node("b", 7, "assistant", "Ho")], []])
def test_a_damaged_tree_is_no_endless_one(nodes):
    try:
        assert as_chat(export(*nodes, current_node="b")).messages == TURNS
    except ValueError as problem:
        assert str(problem)


def test_openassistants_trees_give_the_best_ranked_branch():
    row = {"message_tree_id": "1", "prompt": {"role": "prompter", "text": "Hi", "replies": [
        {"role": "assistant", "text": "Unranked.", "replies": []},
        {"role": "assistant", "text": "Deleted.", "rank": 0, "deleted": True, "replies": []},
        {"role": "assistant", "text": "Worse.", "rank": 2, "replies": []},
        {"role": "assistant", "text": "Ho", "rank": 1, "replies": [
            {"role": "prompter", "text": "And?", "rank": None, "replies": []}]}]}}
    assert shape_of(row) == "openassistant tree"
    assert as_chat(row).messages == TURNS


def test_deepseeks_export_gives_what_was_asked_and_answered_and_not_what_was_thought():
    def fragments(name, parent, *parts):
        said = {"model": "deepseek-chat", "fragments": [{"type": kind, "content": text} for kind, text in parts]}
        return {"id": name, "parent": parent, "children": [], "message": said}

    row = export({"id": "root", "parent": None, "message": None, "children": ["1"]},
                 {**fragments("1", "root", ("REQUEST", "Hi")), "children": ["2"]},
                 fragments("2", "1", ("THINK", "Hm."), ("SEARCH", None), ("RESPONSE", "Ho")))
    assert shape_of(row) == "deepseek export"
    assert as_chat(row).messages == TURNS


def test_an_export_is_read_as_the_file_that_it_is(tmp_path):
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([export(*BEGUN, current_node="ho"),
                                export(node("hi", None, "user", "Hi"), current_node="hi")]))
    data = read_data(path)
    assert [list(one.messages) for one in data.conversations] == [TURNS]
    assert "no answer" in data.dropped[0].reason


def test_a_column_named_mapping_is_no_tree():
    assert shape_of({"question": "Hi", "answer": "Ho", "mapping": {"a": 1}}) == "question and answer"
