"""Conversations side by side, answered by a stand-in that answers at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import get_type_hints

import pytest

from adapters.library import Library
from chat import conversation
from chat.conversation import BASE, NO_ANSWER, Asking, Talk
from chat.drawing import SAMPLING_LABELS, sampling_of
from phi3.generate import Answer, Lane, Sampling
from tabs import lane_view


class Echo:
    """Answers every lane with its last question, word by word; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Lane] = []

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        self.asked = list(lanes)
        for words in (1, 99):
            said = [" ".join(lane.messages[-1]["content"].split()[:words]) for lane in lanes]
            yield [Answer(one, words, 0.5, "stop" if words > 1 else "") for one in said]


@pytest.fixture
def library(home):
    return Library(home)


def after(talks, echo, library, system=""):
    *_, last = conversation.answered(talks, echo, library, Asking(system), lambda: False)
    return last


def test_a_fresh_studio_shows_the_base_and_whatever_ships(library):
    talks = conversation.first_lanes(library)
    assert talks[0].adapter == BASE
    assert len(talks) == min(2, 1 + len(library.all()))


def test_with_another_base_a_fresh_studio_shows_the_base_alone(home):
    library = Library(home, base="somebody/phi-3")
    talks = conversation.first_lanes(library)
    assert [talk.adapter for talk in talks] == [BASE] == conversation.who_can_answer(library)
    assert [talk.adapter for talk in conversation.added(talks, library)] == [BASE, BASE]


def test_every_lane_gets_the_question_and_keeps_its_own_answers(library):
    echo = Echo()
    talks = after(conversation.with_question((Talk(), Talk()), "Who are you?"), echo, library)
    talks = after(conversation.with_question(talks, "And now?"), echo, library, system="Be brief.")
    assert [turn.answer.text for turn in talks[1].turns] == ["Who are you?", "And now?"]
    assert [message["content"] for message in echo.asked[0].messages] == ["Be brief.", "Who are you?", "Who are you?",
                                                                          "And now?"]


def test_another_adapter_keeps_the_conversation_and_is_named_from_then_on(library):
    talks = after(conversation.with_question((Talk(),), "One"), Echo(), library)
    talks = conversation.with_question(conversation.picked(talks, {"picked_A": "nobody"}), "Two")
    assert [turn.by for turn in talks[0].turns] == [BASE, "nobody"]


def test_an_unknown_adapter_is_a_sentence_in_its_lane_and_the_others_answer(library):
    talks = after(conversation.with_question((Talk(), Talk("nobody")), "Hello"), Echo(), library)
    assert talks[0].turns[-1].answer.text == "Hello"
    assert "There is no adapter named nobody" in lane_view.newest(talks[1])


def test_a_failed_answer_is_not_told_to_the_model(library):
    echo = Echo()
    talks = after(conversation.with_question((Talk("nobody"),), "First"), echo, library)
    after(conversation.with_question(conversation.picked(talks, {"picked_A": BASE}), "Second"), echo, library)
    assert [message["content"] for message in echo.asked[0].messages] == ["Second"]


def test_trying_again_asks_the_last_message_only_of_lanes_that_had_it(library):
    talks = (*after(conversation.with_question((Talk(),), "One"), Echo(), library), Talk())
    again = conversation.asked_again(talks)
    assert not again[0].turns[-1].answer.done and again[0].turns[-1].question == "One"
    assert again[1].turns == ()


def test_undo_gives_the_message_back_and_clear_leaves_nothing(library):
    talks = after(conversation.with_question((Talk(), Talk()), "One"), Echo(), library)
    before, question = conversation.undone(conversation.with_question(talks, "Two"))
    assert question == "Two" and before == talks
    assert not conversation.has_answers(conversation.cleared(talks))


def test_lanes_are_one_to_four(library):
    talks = (Talk(),)
    for _ in range(6):
        talks = conversation.added(talks, library)
    assert len(talks) == 4
    for _ in range(6):
        talks = conversation.removed(talks, 0)
    assert len(talks) == 1


def test_what_still_waits_when_answering_broke_says_so():
    given_up = conversation.given_up(conversation.with_question((Talk(),), "One"))
    assert NO_ANSWER in lane_view.newest(given_up[0])


def test_an_answer_that_the_next_question_overtakes_is_stopped_and_waits_no_more(library):
    asked = conversation.with_question((Talk(), Talk("nobody")), "One by one")
    begun = list(conversation.answered(asked, Echo(), library, Asking(), lambda: False))[1]
    for talks in (asked, begun):
        shown = lane_view.said_before(conversation.with_question(talks, "Two")[0])
        assert "typing" not in shown and "stopped" in shown and 'data-does="edit"' in shown


def test_an_answer_shows_who_gave_it_how_long_it_is_and_how_fast(library):
    talks = after(conversation.with_question((Talk(),), "One"), Echo(), library)
    shown = lane_view.newest(talks[0])
    assert "<b>base</b>" in shown and "99 tokens" in shown and "198 tokens per second" in shown
    assert lane_view.announcement(talks) == "1 lane has answered."


@pytest.mark.parametrize(("name", "value"), [("temperature", -1), ("top_p", 0), ("top_k", 2.5), ("max_new_tokens", 0)])
def test_a_sampling_value_out_of_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=SAMPLING_LABELS[name][0].split(" (")[0]):
        sampling_of({name: value})


def test_emptied_sampling_fields_take_the_defaults_and_whole_numbers_stay_whole():
    sampling = sampling_of({"temperature": 0.7, "seed": 3.0, "top_k": None})
    assert sampling == Sampling(temperature=0.7, seed=3)
    assert isinstance(sampling.seed, int)


def test_a_lane_that_waits_for_a_place_says_so():
    talks = conversation.with_question((Talk(),), "One")
    turn = replace(talks[0].turns[-1], answer=Answer(note="Waiting for the next free place."))
    assert "Waiting for the next free place." in lane_view.turn_html(turn)


def test_stop_texts_are_written_one_a_line_and_are_not_too_many():
    assert sampling_of({"stop_texts": "END\n\n two words \n"}).stop_texts == ("END", " two words ")
    assert sampling_of({"stop_texts": None, "min_p": 0.1}) == Sampling(min_p=0.1)
    with pytest.raises(ValueError, match="Stop texts are 9"):
        sampling_of({"stop_texts": "x\n" * 9})


def test_what_was_answered_before_is_shown_without_asking_anybody(library):
    echo = Echo()
    answers = [Answer(text, end="stop", note="From the training.") for text in ("Phi-3.", "Arr!")]
    talks = conversation.told((Talk(), Talk("captain")), "Who are you?", answers)
    assert [talk.turns[-1].by for talk in talks] == [BASE, "captain"]
    *_, last = conversation.answered(talks, echo, library, Asking(), lambda: False)
    assert [talk.turns[-1].answer.text for talk in last] == ["Phi-3.", "Arr!"] and echo.asked == []
    assert "From the training." in lane_view.newest(last[1])


def test_a_strength_goes_to_the_model_and_is_named_with_the_answer(library):
    echo = Echo()
    shipped = library.all()[0].name
    talks = conversation.picked((Talk(), Talk()), {"picked_B": shipped, "strength_B": 0.5, "strength_A": None})
    talks = after(conversation.with_question(talks, "Hello"), echo, library)
    assert [lane.strength for lane in echo.asked] == [1.0, 0.5]
    assert [talk.turns[-1].author for talk in talks] == [BASE, f"{shipped} at 0.5"]


@pytest.mark.parametrize("strength", [-0.1, 2.1])
def test_a_strength_out_of_its_range_is_refused(strength):
    with pytest.raises(ValueError, match="between 0 and 2"):
        conversation.picked((Talk(),), {"strength_A": strength})


def test_an_edited_message_is_answered_anew_and_what_came_after_it_is_gone(library):
    talks = (Talk(), Talk())
    for question in ("One", "Two", "Three"):
        talks = after(conversation.with_question(talks, question), Echo(), library)
    talks = conversation.edited((*talks, Talk()), 2, "Zwei")
    assert [[turn.question for turn in talk.turns] for talk in talks] == [["One", "Zwei"], ["One", "Zwei"], []]
    assert not talks[0].turns[-1].answer.done and talks[0].turns[-1].sent == 2


def test_one_lane_alone_answers_again(library):
    talks = after(conversation.with_question((Talk(), Talk()), "One"), Echo(), library)
    again = conversation.asked_again(talks, 1)
    assert again[0] == talks[0] and not again[1].turns[-1].answer.done


def test_a_blind_comparison_hides_who_answers_until_the_vote(library):
    shipped = library.all()[0].name
    talks = conversation.unnamed((Talk(), Talk(shipped)), seed=3)
    assert {talk.adapter for talk in talks} == {BASE, shipped} and not conversation.can_be_voted_on(talks)
    talks = after(conversation.with_question(talks, "Who are you?"), Echo(), library, "Be brief.")
    assert conversation.can_be_voted_on(talks)
    assert not any(shipped in lane_view.newest(talk) or f"<b>{BASE}" in lane_view.newest(talk) for talk in talks)
    vote = conversation.voted(talks, "best", 0, "Write a poem.")
    assert [one.by for one in vote.answers] == [talk.adapter for talk in talks]
    # As it was answered, not as the form says by now.
    assert [turn["content"] for turn in vote.answers[0].asked] == ["Be brief.", "Who are you?"]
    named = conversation.named_again(talks)
    assert any(shipped in lane_view.newest(talk) for talk in named) and not conversation.can_be_voted_on(named)


def test_lanes_are_named_again_where_nothing_is_left_to_vote_on(library):
    talks = conversation.unnamed((Talk(), Talk("pirate")), seed=3)
    talks = after(conversation.with_question(talks, "Who are you?"), Echo(), library)
    for left in (conversation.cleared(talks), conversation.undone(talks)[0]):
        assert not any(talk.is_unnamed for talk in left)


def test_how_an_adapter_is_served_does_not_tell_who_answers_before_the_vote():
    asked = conversation.unnamed((Talk("dora"), Talk("dora")), seed=3)
    told = "PEFT serves this adapter, which is slower: it has DoRA."
    for answer in (Answer("", 1, 0.1, "", told), Answer("Hi", 2, 0.1, "", told), Answer("Hi", 2, 0.1, "stop", told)):
        talks = conversation.told(asked, "Who are you?", [answer, answer])
        assert not any("DoRA" in lane_view.newest(talk) for talk in talks)
        assert all("DoRA" in lane_view.newest(talk) for talk in conversation.named_again(talks))
    waiting, failed = Answer(note="Waiting for the next free place."), Answer(end="error", note="Try again.")
    first, second = conversation.told(asked, "Who are you?", [waiting, failed])
    assert waiting.note in lane_view.newest(first) and failed.note in lane_view.newest(second)


@pytest.mark.parametrize(("end", "can"), [("stop", True), ("length", True), ("asked", True), ("error", False),
                                          ("", False)])
def test_a_lane_that_failed_is_no_answer_to_vote_against(end, can):
    asked = conversation.unnamed((Talk(), Talk("pirate")), seed=3)
    talks = conversation.told(asked, "Who are you?", [Answer("Hi", 1, 0.1, "stop"), Answer("", 0, 0.0, end)])
    assert conversation.can_be_voted_on(talks) == can


def test_what_a_correction_was_about_ends_with_its_question(library):
    talks = (Talk(),)
    for question in ("One", "Two"):
        talks = after(conversation.with_question(talks, question), Echo(), library)
    assert [turn["content"] for turn in talks[0].messages("", 1)] == ["One"]
    assert [turn["content"] for turn in talks[0].messages("", 2)] == ["One", "One", "Two"]
    with pytest.raises(ValueError, match="no longer there"):
        conversation.turn_of(talks, 0, 9)


def test_a_message_is_no_other_one_that_has_its_number(library):
    asked = after(conversation.with_question((Talk(), Talk("pirate"), Talk("json")), "One"), Echo(), library)
    was = asked[1].turns[0]
    moved = conversation.removed(asked, 0)
    assert conversation.with_answer_of(moved, was) == (moved[0], was)
    again = after(conversation.asked_again(asked), Echo(), library)
    assert conversation.with_answer_of(again, was)[0].adapter == "pirate"
    assert len(conversation.with_message(conversation.removed(asked, 1), was)) == 2
    other = after(conversation.with_question(conversation.cleared(asked), "Two"), Echo(), library)
    for talks, find in ((other, conversation.with_message), (other, conversation.with_answer_of),
                        (conversation.removed(asked, 1), conversation.with_answer_of)):
        with pytest.raises(ValueError, match="no longer there"):
            find(talks, was)


def test_gradio_can_read_what_is_wanted_of_lanes():
    # It asks for type hints to know where the request goes, and gives up on all of them where one can't be read.
    def asked(talks: conversation.Talks) -> None: ...

    namespace = {"Talks": conversation.Talks}
    asked.__annotations__ = {"talks": "Talks"}
    assert get_type_hints(asked, namespace) == {"talks": tuple[Talk, ...]}


def test_half_a_character_in_a_question_is_replaced_so_that_it_can_be_shown_and_kept():
    (talk,) = conversation.with_question((Talk(),), "half \ud83d of one")
    assert talk.turns[0].question == "half � of one"
    assert conversation.edited((talk,), 1, "\ude00?")[0].turns[0].question == "�?"
