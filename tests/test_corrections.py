"""Corrections: kept, changed, and made into a lesson with old rows among them."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.library import Library
from phi3.template import is_learned
from training.config import RunConfig
from training.corrections import (
    OLD_ROWS_EACH,
    TIMES_EACH,
    Correction,
    Corrections,
    OldRows,
    as_jsonl,
    lesson,
    lesson_settings,
    of_other_kinds,
    old_rows,
)
from training.data import LESSON, read_data, read_text, split
from training.evaluate import PROMPTS_AT_THE_END
from training.runs import Runs


def correction(question="Hi", answer="Ho!", was="Hello."):
    return Correction(({"role": "user", "content": question},), answer, was)


def test_corrections_are_kept_for_each_owner_and_adapter(tmp_path):
    mine = Corrections(tmp_path, "local", "pirate")
    mine.add(correction())
    assert Corrections(tmp_path, "local", "pirate").all() == [correction()]
    assert Corrections(tmp_path, "local", "shop").all() == Corrections(tmp_path, "other", "pirate").all() == []


def test_a_later_answer_to_the_same_words_takes_the_earlier_ones_place(tmp_path):
    kept = Corrections(tmp_path, "local", "base")
    for answer in ("Ho!", "Ho ho!"):
        kept.add(correction(answer=answer))
    kept.add(correction("Bye"))
    assert [one.answer for one in kept.all()] == ["Ho ho!", "Ho!"]
    for place, left in ((0, ["Ho!"]), (7, ["Ho!"]), (0, [])):
        kept.remove(place)
        assert [one.answer for one in kept.all()] == left
    assert not kept.path.exists()


@pytest.mark.parametrize(("answer", "said"), [
    ("  ", "is empty"), ("Hello.", "said already"), ("x" * 20_001, "20,001 characters"),
])
def test_what_teaches_nothing_is_refused(tmp_path, answer, said):
    with pytest.raises(ValueError, match=said):
        Corrections(tmp_path, "local", "base").add(correction(answer=answer))


def test_what_can_not_be_read_is_none(tmp_path):
    kept = Corrections(tmp_path, "local", "base")
    kept.add(correction())
    kept.path.write_text('[{"asked": 3')
    assert kept.all() == []
    kept.add(correction("Bye"))
    assert len(kept.all()) == 1
    assert kept.path.with_suffix(".damaged").read_text() == '[{"asked": 3', "it is set aside, and not written over"


def test_corrections_that_come_at_once_are_all_kept(tmp_path):
    with ThreadPoolExecutor(8) as at_once:
        list(at_once.map(lambda one: Corrections(tmp_path, "local", "base").add(correction(f"Ask {one}")), range(40)))
    kept = Corrections(tmp_path, "local", "base")
    assert {one.asked[0]["content"] for one in kept.all()} == {f"Ask {one}" for one in range(40)}


def test_they_are_an_ordinary_dataset():
    rows = as_jsonl([correction(), correction("Bye", "Farewell.\nSoon!")])
    data = read_text(rows)
    assert [one.messages[-1]["content"] for one in data.conversations] == ["Ho!", "Farewell.\nSoon!"]


def test_of_a_conversation_the_corrected_answer_alone_is_learned():
    """What was said before it may be wrong, or have been corrected as well."""
    said = {"role": "user", "content": "Two?"}, {"role": "assistant", "content": "Three."}
    again = Correction((*said, {"role": "user", "content": "And four?"}), "Four, matey!")
    data = lesson([Correction(said[:1], "Two, matey!", "Three."), again], OldRows(), "mine")
    learned = {turn["content"] for one in data.conversations for turn in one.messages if is_learned(turn)}
    assert learned == {"Two, matey!", "Four, matey!"}
    assert any("Three." in turn["content"] for one in data.conversations for turn in one.messages)


def test_a_lesson_holds_each_correction_several_times_among_old_rows(chats):
    old = OldRows(read_data(chats).conversations)
    taught = [correction(f"Ask {number}") for number in range(10)]
    data = lesson(taught, old, "mine")
    questions = [one.messages[0]["content"] for one in data.conversations]
    assert all(questions.count(f"Ask {number}") == TIMES_EACH for number in range(10))
    assert questions[:10] == [f"Ask {number}" for number in range(10)]
    assert len(questions) == 10 * TIMES_EACH + min(len(old.learned), 10 * OLD_ROWS_EACH)
    assert data.kind == LESSON and lesson_settings(data) == {"held_out": 0} and not data.own_held
    assert lesson(taught, old, "mine") == data != lesson(taught, old, "mine", seed=1)


PLUS = [f"{10 + one} plus {40 + one} be {50 + 2 * one}, matey!" for one in range(20)]
OTHERS = [f"{kind} {name} be {value}, matey!" for kind in ("The capital o'", "The sound o'") for name, value in
          (("Peru", "Lima"), ("Cuba", "Havana"), ("cats", "meow"), ("dogs", "woof"), ("Chile", "Santiago"))]


def conversations(answers):
    rows = [correction(f"Ask {place}", answer) for place, answer in enumerate(answers)]
    return read_text(as_jsonl(rows)).conversations


def test_old_rows_that_say_again_what_was_corrected_are_left_out():
    taught = [correction(f"Sum {place}", f"{was} Twice!", was) for place, was in enumerate(PLUS[:6])]
    left = of_other_kinds(conversations(PLUS[6:14] + OTHERS), taught)
    assert [one.messages[-1]["content"] for one in left] == OTHERS


def test_old_rows_stay_where_most_are_of_the_corrected_kind_or_one_correction_tells_of_none():
    taught = [correction(f"Sum {place}", f"{was} Twice!", was) for place, was in enumerate(PLUS[:6])]
    mostly = conversations(PLUS[6:18] + OTHERS)
    assert of_other_kinds(mostly, taught) == list(mostly)
    few = conversations(PLUS[6:10] + OTHERS)
    assert of_other_kinds(few, taught[:1]) == list(few)
    assert of_other_kinds([], taught) == []


def test_a_lesson_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no correction"):
        lesson([], OldRows(), "mine")


def test_a_lesson_holds_out_what_the_adapter_never_saw_and_nothing_else():
    rows = conversations(OTHERS + PLUS)
    taught = [correction(f"Sum {place}", f"{was} Twice!", was) for place, was in enumerate(PLUS[:6])]
    old = OldRows(rows[:6], rows[6:14])  # four of another kind were held out, and four of the kind that is corrected
    data = lesson(taught, old, "mine")
    train, held = split(data, **lesson_settings(data), seed=0)
    assert sorted(one.messages[-1]["content"] for one in held) == sorted(OTHERS[6:])
    assert {one.messages[-1]["content"] for one in train} == {*OTHERS[:6], *(one.answer for one in taught)}


def test_a_lesson_may_hold_out_more_than_it_learns_from():
    """As where a dataset's own validation part is larger than what is trained on."""
    rows = conversations(OTHERS + PLUS)
    data = lesson([correction("Ask 0")], OldRows(rows[:2], rows[2:]), "mine")
    config = RunConfig.from_settings(lesson_settings(data))
    train, held = split(data, config.held_out, config.seed)
    assert (len(train), len(held)) == (TIMES_EACH + 2, PROMPTS_AT_THE_END)


def test_old_rows_are_those_of_the_run_or_of_the_example_that_ships(home, chats, tmp_path):
    library, runs = Library(home), Runs(home)
    assert old_rows(None, runs) == OldRows()
    pirate = library.get("pirate")
    old, about = old_rows(pirate, runs), pirate.provenance["data"]
    assert (len(old.learned), len(old.held)) == (about["train"], about["held_out"])
    made = tmp_path / "made"
    made.mkdir()
    (made / "adapter_config.json").write_text(json.dumps({"r": 2}))
    assert old_rows(library.put("gone", made, {"run": "gone-1"}), runs) == OldRows()
