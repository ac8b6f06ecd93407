"""Many prompts through all lanes."""

import pytest

from adapters.library import Library
from chat.batch import MOST_PROMPTS, as_csv, authors_of, compared, prompts_in
from chat.conversation import Asking, Talk, Turn
from phi3.generate import Answer


class Loud:
    """Says the question back, and counts its batches."""

    def __init__(self):
        self.sizes = []

    def answer(self, lanes, stop):
        self.sizes.append(len(lanes))
        assert all(len(lane.messages) == 1 for lane in lanes)
        yield [Answer(lane.messages[-1]["content"].upper(), 1, 0.1, "stop") for lane in lanes]


def test_each_prompt_is_asked_of_each_lane_as_a_conversation_of_its_own(home):
    loud, talks = Loud(), (Talk("base", (Turn(1, "before", "base"),)), Talk(), Talk())
    *_, rows = compared([f"p{number}" for number in range(5)], talks, loud, Library(home), Asking(), lambda: False)
    assert [row.prompt for row in rows] == [f"p{number}" for number in range(5)]
    assert all([one.text for one in row.answers] == [row.prompt.upper()] * 3 for row in rows)
    assert loud.sizes == [6, 6, 3]


def test_it_stops_between_batches(home):
    assert not list(compared(["a", "b"], (Talk(),), Loud(), Library(home), Asking(), lambda: True))


@pytest.mark.parametrize(("written", "said"), [(" \n ", "at least one"), ("x\n" * (MOST_PROMPTS + 1), "101 prompts")])
def test_none_and_too_many_are_refused(written, said):
    with pytest.raises(ValueError, match=said):
        prompts_in(written)


def test_a_table_for_spreadsheets_runs_no_formula(home):
    talks = (Talk(), Talk("pirate", strength=0.5))
    *_, rows = compared(["=1+1", 'say "a, b"'], talks[:1], Loud(), Library(home), Asking(), lambda: False)
    table = as_csv(rows, authors_of(talks))
    assert table.splitlines()[0] == "prompt,base,pirate at 0.5"
    assert table.splitlines()[1:] == ["'=1+1,'=1+1", '"say ""a, b""","SAY ""A, B"""']
