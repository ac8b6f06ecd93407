"""Conversations taken away, and lanes as an address."""

import json
from urllib.parse import parse_qs

import pytest
from markdown_it import MarkdownIt

from chat.conversation import Asking, Talk, Turn
from chat.export import as_json, as_markdown, as_query, asking_of, strengths_of
from phi3.generate import Answer, Sampling

SAID = (Talk("base", (Turn(1, "Hi", "base", Answer("Hello.", 2, 0.1, "stop")),)),
        Talk("pirate", (Turn(1, "Hi", "pirate", Answer("Ahoy!", 2, 0.1, "stop", "Cut."), 0.5),), 0.5))


def test_markdown_has_each_message_with_every_answer_under_it():
    text = as_markdown(SAID, Asking("Be brief."))
    assert text.index("> Be brief.") < text.index("> Hi") < text.index("**base**\n\nHello.")
    assert "**pirate at 0.5**\n\nAhoy!\n\n*Cut.*" in text


@pytest.mark.parametrize("answer", ["Look:\n```py\nx = 1", "````md\n```\nx\n```\n", "~~~\n```\nx", "```\nx\n```",
                                    "``` a ``` b", "   ```\nx\n    ```", "```\n```py", "1\n\n```\ny\n```\nz"])
def test_an_answer_that_was_cut_in_a_block_of_code_leaves_the_next_lane_out_of_it(answer):
    talks = (Talk("base", (Turn(1, "Hi", "base", Answer(answer, 2, 0.1, "length", "Cut.")),)), SAID[1])
    html = MarkdownIt("commonmark").render(as_markdown(talks, Asking()))
    assert "<em>Cut.</em>" in html and "<strong>pirate at 0.5</strong>" in html
    assert answer in as_markdown(talks, Asking())


def test_json_has_each_lane_in_openais_form():
    lanes = json.loads(as_json(SAID, Asking("Be brief.", Sampling(seed=3))))
    assert lanes["sampling"]["seed"] == 3
    assert [turn["role"] for turn in lanes["lanes"][1]["messages"]] == ["system", "user", "assistant"]
    assert lanes["lanes"][1]["answers"][0]["by"] == "pirate" and lanes["lanes"][1]["strength"] == 0.5


def test_json_tells_of_each_answer_among_the_messages_whose_it_was():
    failed = Turn(1, "Hi", "base", Answer(end="error", note="No answer came."))
    later = [Turn(2, "Ho", "pirate", Answer("Ahoy!", 2, 0.1, "stop")), Turn(3, "Hm", "shop", Answer(end="error"))]
    (lane,) = json.loads(as_json((Talk("shop", (failed, *later)),), Asking()))["lanes"]
    assert [turn["content"] for turn in lane["messages"]] == ["Ho", "Ahoy!", "Hm"]
    assert [answer["by"] for answer in lane["answers"]] == ["pirate"]


def test_an_address_brings_lanes_and_settings_back_and_nothing_that_was_said():
    asking = Asking("Be brief & kind.", Sampling(temperature=0.7, top_k=5, stop_texts=("END", "a b")))
    query = parse_qs(as_query(SAID, asking))
    assert query["adapter"] == ["base", "pirate"] and strengths_of(query["strength"], 2) == [1.0, 0.5]
    assert asking_of({name: values[0] for name, values in query.items()}) == asking
    assert "Ahoy" not in as_query(SAID, asking) and "Hi" not in as_query(SAID, asking)


@pytest.mark.parametrize("sampling", [Sampling(seed=123_456_789), Sampling(seed=2**32 - 1), Sampling(temperature=1e-7),
                                      Sampling(top_p=0.123456789, top_k=1_000_000, min_p=1.0, max_new_tokens=100_000)])
def test_an_address_says_every_digit_of_a_setting(sampling):
    query = parse_qs(as_query(SAID, Asking(sampling=sampling)))
    assert asking_of({name: values[0] for name, values in query.items()}).sampling == sampling


def test_what_an_address_says_wrongly_is_as_usual():
    assert asking_of({"temperature": "hot", "seed": "-1", "top_k": "1e400", "run": "x"}) == Asking()
    assert strengths_of(["9", "x", "0.5"], 4) == [1.0, 1.0, 0.5, 1.0]
