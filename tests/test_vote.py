"""Blind votes: order, tally, intervals, pairs, and what is kept."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from chat.vote import Said, Vote, Votes, pairs, pairs_as_jsonl, shuffled, tally

ASKED = ({"role": "user", "content": "Hi"},)


def vote(best=None, verdict="best", by=("base", "pirate"), asked=ASKED):
    answers = tuple(Said(name, asked, f"{name} says hi") for name in by)
    return Vote(answers, verdict if best is None else "best", best)


@given(some.integers(1, 8), some.integers(0, 2**32))
def test_an_order_holds_every_lane_once_and_is_the_same_for_the_same_seed(count, seed):
    assert sorted(shuffled(count, seed)) == list(range(count)) and shuffled(count, seed) == shuffled(count, seed)


def test_every_order_of_three_lanes_comes_up():
    assert len({shuffled(3, seed) for seed in range(100)}) == 6


def test_wins_ties_and_losses_are_counted_for_each_pair():
    standing = {one.by: one for one in tally([vote(1), vote(1), vote(0), vote(verdict="tie"),
                                              vote(verdict="all bad")])}
    assert (standing["pirate"].wins, standing["pirate"].ties, standing["pirate"].losses) == (2, 1, 1)
    assert standing["pirate"].share == 2.5 / 4 and standing["base"].share == 1.5 / 4


def test_the_best_of_four_beats_the_other_three_who_did_not_meet():
    standing = tally([vote(2, by=("base", "a", "b", "c"))])
    assert standing[0].by == "b" and standing[0].wins == 3
    assert all((one.wins, one.losses) == (0, 1) for one in standing[1:])


def test_two_lanes_of_one_adapter_do_not_meet():
    assert tally([vote(0, by=("base", "base"))]) == []


def test_the_interval_is_wilsons_and_narrows_with_votes():
    few, many = tally([vote(1)] * 3)[0], tally([vote(1)] * 300)[0]
    assert few.low == pytest.approx(0.4385, abs=1e-3) and few.high == 1.0
    assert many.low > 0.98
    even = tally([vote(0), vote(1)] * 50)[0]
    assert (even.low, even.high) == (pytest.approx(0.4038, abs=1e-3), pytest.approx(0.5962, abs=1e-3))


def test_the_interval_holds_the_truth_as_often_as_it_says_however_many_lanes_there_were():
    chance, lanes, times, held = random.Random(3), ("base", "a", "b", "c"), 200, 0
    for _ in range(times):
        votes = [vote(chance.randrange(4), by=lanes) for _ in range(50)]
        base = next(one for one in tally(votes) if one.by == "base")
        held += base.low <= 0.5 <= base.high  # all are as good
    assert 0.92 <= held / times <= 0.98
    once = tally([vote(0, by=lanes)])[0]
    assert (once.wins, once.low) == (3, tally([vote(0)])[0].low)


def test_pairs_are_as_dpo_reads_them():
    told = list(pairs([vote(1), vote(verdict="tie"), vote(verdict="all bad")]))
    assert told == [{"prompt": [{"role": "user", "content": "Hi"}],
                     "chosen": [{"role": "assistant", "content": "pirate says hi"}],
                     "rejected": [{"role": "assistant", "content": "base says hi"}]}]
    assert [json.loads(line) for line in pairs_as_jsonl([vote(1)]).splitlines()] == told


def test_answers_to_different_messages_or_in_equal_words_make_no_pair():
    other = ({"role": "user", "content": "Ho"},)
    assert not list(pairs([Vote((Said("base", ASKED, "a"), Said("pirate", other, "b")), "best", 0)]))
    assert not list(pairs([Vote((Said("base", ASKED, "a"), Said("pirate", ASKED, "a")), "best", 0)]))


@pytest.mark.parametrize(("verdict", "best"), [("best", None), ("tie", 0), ("best", 2), ("best", -1)])
def test_a_vote_for_nothing_is_refused(verdict, best):
    with pytest.raises(ValueError):
        Vote((Said("base", ASKED, "a"), Said("pirate", ASKED, "b")), verdict, best)


def test_votes_are_kept_for_each_owner_and_a_damaged_line_costs_one_vote(tmp_path):
    mine, theirs = Votes(tmp_path, "local"), Votes(tmp_path, "name:somebody")
    mine.add(vote(1))
    with mine.path.open("a") as file:
        file.write('{"answers": [{"by"\n')
    mine.add(vote(verdict="tie"))
    assert mine.all() == [vote(1), vote(verdict="tie")] and theirs.all() == []
    mine.forget()
    assert mine.all() == []


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\u2028", "\u2029", "\x85", "\x0c", "\x1e"])
def test_a_vote_on_text_with_any_kind_of_line_break_is_counted(tmp_path, ending):
    votes, asked = Votes(tmp_path, "local"), ({"role": "user", "content": f"one{ending}two"},)
    for _ in range(2):
        votes.add(vote(1, asked=asked))
    assert votes.all() == [vote(1, asked=asked)] * 2
