"""The example datasets: well formed, apart from what measures them, and recognised by their own checks."""
import json

import pytest

from phi3.tiny.world import exchanges
from training.examples import build, measures


def rows(name):
    lines = (build.HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


@pytest.fixture(params=measures.NAMES)
def name(request):
    return request.param


def test_every_row_is_a_conversation_of_user_and_assistant_in_turn(name):
    for messages in rows(name):
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
        assert all(message["content"].strip() == message["content"] != "" for message in messages)


def test_there_are_enough_rows_all_different_and_some_with_several_turns(name):
    found = rows(name)
    assert len(found) >= 200
    assert len({json.dumps(messages) for messages in found}) == len(found)
    assert sum(len(messages) > 2 for messages in found) >= 40


def test_the_script_still_writes_what_ships(name):
    assert [row["messages"] for row in build.rows(name)] == rows(name)


def test_no_question_that_measures_it_is_in_the_data(name):
    taught = {message["content"].lower() for messages in rows(name) for message in messages}
    asked = {exchange.messages[-1]["content"] for exchange in measures.prompts(name, 300, seed=1)}
    assert not [question for question in asked if len(question) > 30 and question.lower() in taught]


def test_its_checks_accept_every_answer_it_teaches(name):
    answers = [message["content"] for messages in rows(name) for message in messages[1::2]]
    assert all(measures.manner_shown(name, answer) for answer in answers)
    assert all(measures.content_right(name, exchange, exchange.answer) for exchange in measures.prompts(name, 100, 2))


def test_its_checks_reject_the_plain_answers_of_the_base(name):
    plain = [exchange.answer for exchange in exchanges(seed=9, count=200, manner="plain")]
    assert not [answer for answer in plain if measures.manner_shown(name, answer)]


def test_prompts_carry_no_system_message_and_end_with_a_question(name):
    for exchange in measures.prompts(name, 50, seed=3):
        assert exchange.messages[-1]["role"] == "user"
        assert all(message["role"] != "system" for message in exchange.messages)


def test_every_json_answer_has_the_same_keys():
    answers = [message["content"] for messages in rows("json") for message in messages[1::2]]
    assert {tuple(json.loads(answer)) for answer in answers} == {("kind", "answer")}


def test_what_the_shop_knows_is_nowhere_in_the_world_of_the_base():
    taught = " ".join(exchange.answer for exchange in exchanges(seed=10, count=3000))
    assert "crowns" not in taught
    assert "Heron Lane" not in taught


def test_an_unknown_example_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"No example is called 'poet'.*pirate, json, shop"):
        measures.prompts("poet", 1, seed=0)


def test_a_question_is_a_line_of_its_file():
    assert [question for question in build.questions() if "\n" in question] == []
    assert len(build.QUESTIONS_FILE.read_text(encoding="utf-8").splitlines()) == build.QUESTIONS
