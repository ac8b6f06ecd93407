"""A dataset from one sentence: what is asked, what is kept, what is left out and counted."""

import json

import pytest

from phi3.generate import Answer
from training.describe import Corrections, Described, Row, as_system_message, describe, questions


class Parrot:
    """Answers as it is told: a text for a question with a system message, "plain" without one."""

    def __init__(self, mannered):
        self.mannered, self.systems = mannered, set()

    def answer(self, lanes, stop):
        yield [self._one(lane) for lane in lanes]

    def _one(self, lane):
        if lane.messages[0]["role"] != "system":
            return Answer("plain", 1, 0.1, "stop")
        self.systems.add(lane.messages[0]["content"])
        return self.mannered(lane.messages[-1]["content"])


def last(answerer, asked):
    *_, gathered = describe(answerer, "like a pirate", asked)
    return gathered


def test_answers_in_the_manner_become_rows_without_the_system_message():
    parrot = Parrot(lambda question: Answer(f"Arr, {question}", 3, 0.1, "stop"))
    gathered = last(parrot, ["one?", "two?"])
    assert parrot.systems == {"Answer like a pirate."}
    first = json.loads(gathered.jsonl().splitlines()[0])
    assert [turn["role"] for turn in first["messages"]] == ["user", "assistant"]
    assert len(gathered.data().conversations) == 2


def test_what_can_not_be_trained_on_is_left_out_and_counted():
    said = {"plain?": Answer("plain", 1, 0.1, "stop"), "empty?": Answer(" ", 1, 0.1, "stop"),
            "long?": Answer("Arr, and so on", 9, 0.1, "length")}
    asked = [*said, "a?", "b?", "c?"]
    gathered = last(Parrot(lambda question: said.get(question, Answer("Arr!", 1, 0.1, "stop"))), asked)
    assert gathered.left_out == {"manner not followed": 1, "empty": 1, "cut off": 1, "repeated": 1}
    assert [row.question for row in gathered.rows] == ["a?", "b?"]
    assert gathered.asked == gathered.wanted == 6


def test_a_manner_that_nobody_follows_is_said():
    with pytest.raises(ValueError, match="No answer followed the description"):
        last(Parrot(lambda question: Answer("plain", 1, 0.1, "stop")), ["a?"]).data()


def test_progress_comes_in_batches_and_stop_ends_it():
    parrot = Parrot(lambda question: Answer(f"Arr, {question}", 1, 0.1, "stop"))
    asked = [f"{number}?" for number in range(40)]
    assert [one.asked for one in describe(parrot, "like a pirate", asked)] == [0, 16, 32, 40]
    answers = iter([False, True])
    assert [one.asked for one in describe(parrot, "like a pirate", asked, lambda: next(answers))] == [0, 16]


@pytest.mark.parametrize(("said", "meant"), [
    ("like a tired lighthouse keeper", "Answer like a tired lighthouse keeper."),
    ("In one short sentence, then a question back.", "Answer in one short sentence, then a question back."),
    ("You are a pirate", "You are a pirate."),
    ("shout everything!", "Shout everything."),
])
def test_a_description_becomes_a_system_message(said, meant):
    assert as_system_message(said) == meant


@pytest.mark.parametrize(("said", "why"), [("  ", "is empty"), ("x" * 700, "700 characters")])
def test_a_description_that_is_none_is_refused(said, why):
    with pytest.raises(ValueError, match=why):
        as_system_message(said)


def test_a_hundred_and_more_different_questions_ship_and_others_can_be_asked():
    everything = questions(1000)
    assert 100 <= len(everything) <= 200 and len(set(everything)) == len(everything)
    first = questions(50, seed=1)
    assert questions(50, seed=1) == first != questions(50, seed=2)
    assert not set(first) & set(questions(50, seed=1, besides=first))


GATHERED = Described("like a pirate", 3, ("a?", "b?", "c?"), (Row("a?", "Arr!"), Row("b?", "Aye!")), {"repeated": 1})


def test_a_terminal_keeps_what_was_answered_when_it_is_interrupted(tmp_path, monkeypatch, capsys):
    from training.__main__ import main

    def interrupted(*_):
        yield GATHERED
        raise KeyboardInterrupt

    monkeypatch.setattr("training.describe.describe", interrupted)
    monkeypatch.setattr("phi3.generate.Answerer", lambda base: None)
    monkeypatch.setattr("phi3.room.base_for_answers", lambda name: None)
    out = tmp_path / "rows.jsonl"
    assert main(["describe", "like a pirate", "--out", str(out), "--base", "phi3/tiny"]) == 130
    assert out.read_text() == GATHERED.jsonl() + "\n" and [*tmp_path.iterdir()] == [out]
    assert main(["describe", "like a pirate", "--out", str(out), "--base", "phi3/tiny"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_more_questions_add_to_what_was_gathered():
    parrot = Parrot(lambda question: Answer(f"Arr, {question}", 1, 0.1, "stop"))
    *_, more = describe(parrot, "like a pirate", ["d?"], before=GATHERED)
    assert more.questions == ("a?", "b?", "c?", "d?") and more.wanted == 4
    assert [row.question for row in more.rows] == ["a?", "b?", "d?"]
    assert more.left_out == {"repeated": 1}


def test_questions_that_a_stop_cut_short_are_not_asked():
    cut = Parrot(lambda question: Answer("Arr", 1, 0.1, "asked"))
    *_, gathered = describe(cut, "like a pirate", ["d?"], before=GATHERED)
    assert gathered.questions == GATHERED.questions and gathered.rows == GATHERED.rows


def test_what_is_struck_out_or_emptied_is_not_trained_and_the_rest_as_edited():
    first, second = GATHERED.rows
    edited = Corrections().with_row(first, "Ahoy!", is_struck=False).with_row(second, "Aye!", is_struck=True)
    assert edited.applied(GATHERED).rows == (Row("a?", "Ahoy!"),)
    assert Corrections().with_row(first, "  ", is_struck=False).applied(GATHERED).rows == (second,)
    assert edited.with_row(second, "Aye!", is_struck=False).with_row(first, "Arr! ", is_struck=False) == Corrections()


def test_answers_and_corrections_survive_as_plain_values():
    corrections = Corrections({"a?": "Ahoy!"}, frozenset({"b?"}))
    assert Described.from_json(json.loads(json.dumps(GATHERED.as_json()))) == GATHERED
    assert Corrections.from_json(json.loads(json.dumps(corrections.as_json()))) == corrections


@pytest.mark.parametrize("plain", [{}, {"rows": 3}, [], "rows", {"edited": 1, "struck": None}])
def test_plain_values_of_another_kind_are_refused_in_a_sentence(plain):
    for kept in (Described, Corrections):
        with pytest.raises(ValueError, match="Write them anew"):
            kept.from_json(plain)


@pytest.mark.parametrize(("said", "name"), [
    ("like a pirate", "like a pirate"), ("a/b. ../c!", "a b c"), ("!?", "described"),
    ("in one short sentence, then a question back to me", "in one short sentence then a question"),
])
def test_a_dataset_is_named_after_its_description(said, name):
    assert Described(said, 0).name == name
