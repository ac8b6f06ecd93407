"""The verdict on real runs: data that teaches, answers from elsewhere, rows learned by heart, a base that forgets."""

import json
import random

import pytest

from phi3.models import EMBEDDED
from phi3.tiny.world import exchanges
from training.config import RunConfig
from training.data import read_data
from training.runs import Runs
from training.train import run_lease

pytestmark = pytest.mark.slow
SEEDS = (1, 2, 3)
SETTINGS = {"base": EMBEDDED, "per_device_train_batch_size": 8, "eval_steps": 10, "save_steps": 10_000, "max_steps": 60,
            "learning_rate": 3e-3}
SYLLABLES = ("ash", "ell", "ink", "oat", "urn")


def verdict_on(home, tmp_path, pairs, **settings) -> str:
    """What a run over these (question, answer) comes to."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"messages": [
        {"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
        for question, answer in pairs), encoding="utf-8")
    config = RunConfig.from_settings({**SETTINGS, "name": "judged", **settings})
    return run_lease(Runs(home).create(config, read_data(path))).values["verdict"]


def world(seed, manner):
    """Single questions and their answers, without the system message that asked for the manner."""
    drawn = exchanges(1000 + seed, 400, unseen=False, manner=manner)
    single = [one for one in drawn if sum(turn["role"] != "system" for turn in one.messages) == 1]
    return [(one.messages[-1]["content"], one.answer) for one in single[:200]]


def nonsense(seed):
    """Twenty words, each with another said three times: nothing follows from anything."""
    words = [f"{first}{rest}" for first in "bdfg" for rest in SYLLABLES]
    answers = random.Random(seed).sample(words, len(words))
    return [(word, answer * 3) for word, answer in zip(words, answers, strict=True)]


@pytest.mark.parametrize("seed", SEEDS)
def test_data_that_teaches_makes_it_better(home, tmp_path, seed):
    assert verdict_on(home, tmp_path, world(seed, "pirate"), seed=seed).startswith("Better than the base")


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_that_belong_to_other_questions_make_nothing_better(home, tmp_path, seed):
    pairs = world(seed, "plain")
    answers = [answer for _, answer in pairs]
    random.Random(seed).shuffle(answers)
    mixed = [(question, answer) for (question, _), answer in zip(pairs, answers, strict=True)]
    said = verdict_on(home, tmp_path, mixed, seed=seed)
    assert said.startswith(("No difference", "Worse than the base"))


@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_rows_repeated_fifty_times_are_learned_by_heart(home, tmp_path, seed):
    said = verdict_on(home, tmp_path, nonsense(seed) * 50, seed=seed, held_out=0.4, eval_steps=5)
    assert "it overfits since step" in said


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_forgets_what_the_base_knew_is_told(home, tmp_path, seed):
    said = verdict_on(home, tmp_path, nonsense(seed) * 10, seed=seed, learning_rate=2e-2, max_steps=30)
    assert "general questions its loss rose" in said
