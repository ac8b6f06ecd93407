"""A lent GPU: what a refusal means, how long answers need it, and how a stop and an end reach whoever answers."""

from pathlib import Path

import pytest

from phi3.generate import Answer, Lane, Sampling
from phi3.lending import (
    LONGEST_TURN,
    TIME_IS_OVER,
    LentAnswerer,
    answered_within,
    refusal_of,
    seconds_for,
    shorter_turn,
)
from phi3.models import load_base

QUOTA = "You have exceeded your ZeroGPU quota (90s requested vs. 35s left). Try again in 3:22:11. "


def lane(tokens: int, adapter: str | None = None) -> Lane:
    return Lane(({"role": "user", "content": "Hello"},), adapter, Sampling(max_new_tokens=tokens))


@pytest.mark.parametrize(("said", "reason"), [
    (QUOTA, "quota"),
    ("You have exceeded your ZeroGPU runs limit. ", "quota"),
    ("Space app has reached its GPU limit. Try re-running outside of examples", "quota"),
    ("You have too many ZeroGPU credits allocated to running tasks. ", "quota"),
    ("The requested GPU duration (7200s) is larger than the maximum allowed", "refused"),
    ("No GPU was available after 60s. Retry later", "refused"),
    ("No GPU was available", "refused"),
    ("Expired ZeroGPU proxy token", "token"),
    ("GPU task aborted", "aborted"),
    ("Connection closed by visitor while queueing", "visitor left"),
    ("ZeroGPU API /schedule error: 500 (Internal Server Error)", "refused"),
])
def test_what_the_platform_says_becomes_a_reason_and_a_sentence_with_what_to_do(said, reason):
    refusal = refusal_of(said)
    assert refusal.reason == reason
    assert refusal.message.endswith(".") and refusal.advice.endswith(".")


def test_a_spent_quota_says_what_is_left_and_when_there_is_more():
    refusal = refusal_of(QUOTA)
    assert (refusal.requested, refusal.left, refusal.again_in) == (90, 35, "3:22:11")
    assert "35 seconds" in refusal.message and "3:22:11" in refusal.advice
    assert refusal_of(QUOTA.replace("3:22:11", "1 day, 0:00:05")).again_in == "1 day, 0:00:05"
    assert refusal_of("(90s requested vs. -4s left). Try again in 0:10:00.").left == 0


def test_a_refused_turn_is_shortened_to_what_is_left_as_the_service_counts_it():
    assert shorter_turn(60, refusal_of(QUOTA), 15) == 23  # 60 were sent as 90, so 35 of those are 23
    assert shorter_turn(60, refusal_of(QUOTA), 24) is None
    assert shorter_turn(60, refusal_of("No GPU was available"), 15) is None
    assert shorter_turn(60, refusal_of("(60s requested vs. 60s left)"), 15) is None


def test_answers_ask_for_the_seconds_that_they_need():
    assert seconds_for([lane(256)]) == 13
    assert seconds_for([lane(256), lane(16)]) == 13
    assert seconds_for([lane(256), lane(256, "a"), lane(256, "a")]) == 14
    assert seconds_for([lane(1)]) == 6
    assert seconds_for([lane(4000), lane(4000, "a"), lane(4000, "b")]) == LONGEST_TURN


def test_a_stop_reaches_the_worker_as_a_file_that_is_gone_afterwards(tmp_path):
    seen = []

    def lend(lanes, flag, seconds):
        for _ in range(3):
            seen.append(Path(flag).exists())
            yield [Answer("so far") for _ in lanes]

    asked = iter([False, True, True])
    assert len(list(LentAnswerer(lend, tmp_path).answer([lane(8)], lambda: next(asked)))) == 3
    assert seen == [False, False, True]
    assert list(tmp_path.iterdir()) == []


def test_a_reader_who_leaves_ends_what_was_lent(tmp_path):
    ended = []

    def lend(lanes, flag, seconds):
        try:
            while True:
                yield [Answer()]
        finally:
            ended.append(True)

    snapshots = LentAnswerer(lend, tmp_path).answer([lane(8)])
    next(snapshots)
    snapshots.close()
    assert ended == [True] and list(tmp_path.iterdir()) == []


def test_answers_end_before_the_gpu_is_taken_back(small_base, tmp_path):
    base = load_base(str(small_base))
    first, *_, last = answered_within(base, [lane(200)], str(tmp_path / "flag"), seconds=1)
    assert first == [Answer()]
    assert last[0].end == "asked" and last[0].tokens == 1 and last[0].note == TIME_IS_OVER


def test_answers_end_when_the_flag_is_there(small_base, tmp_path):
    base, flag = load_base(str(small_base)), tmp_path / "flag"
    flag.touch()
    *_, last = answered_within(base, [lane(200), lane(200)], str(flag), seconds=60)
    assert [(answer.tokens, answer.note) for answer in last] == [(1, ""), (1, "")]
