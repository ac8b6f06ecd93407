"""What runs took is kept for the next plan, by machine; a few prices explain it."""

import json
import random
from dataclasses import replace

import pytest

from phi3.machine import Machine
from phi3.models import EMBEDDED, base_facts
from phi3.shape import Shape
from training.config import RunConfig
from training.speed import FILE, KEPT, Outcome, keep, measured, prices
from training.work import guessed_speed

CPU = Machine("cpu", "CPU", 2, 24.0)
LARGE = Machine("cpu", "CPU", 64, 512.0)
TINY = base_facts(EMBEDDED).config
GUESS = guessed_speed(CPU, Shape.of(TINY), 4).prices
# Seconds for a pass, 1e9 operations and 1e9 bytes on a made-up machine.
TRUE = (1e-3, 0.04, 0.1)
WORKS = [(280, 150, 10), (280, 700, 48), (280, 900, 20), (420, 90, 30), (280, 160, 25)]


def outcome(work, took=1.0, **others) -> Outcome:
    seconds = took * sum(price * part for price, part in zip(TRUE, work, strict=True))
    return Outcome(**{"base": "phi3/tiny", "method": "lora", "work": work, "training": seconds, "spoken": 1000,
                      "speaking": 2.0, "load": 9.0, **others})


def off(found, work) -> float:
    taken = sum(price * part for price, part in zip(TRUE, work, strict=True))
    return abs(sum(price * part for price, part in zip(found, work, strict=True)) / taken - 1)


def test_one_run_scales_the_guess():
    found = prices([outcome(WORKS[1])], GUESS)
    assert off(found, WORKS[1]) < 0.02


def test_several_runs_tell_the_prices_apart():
    rng = random.Random(0)
    noisy = [outcome(work, 1 + rng.uniform(-0.03, 0.03)) for work in WORKS * 2]
    found = prices(noisy, GUESS)
    assert max(off(found, work) for work in WORKS) < 0.06
    assert off(found, (280, 400, 30)) < 0.06  # a run that was never made
    assert all(price > 0 for price in found)


def test_one_slow_run_among_many_hardly_counts():
    found = prices([*(outcome(work) for work in WORKS), outcome(WORKS[0], 3.0), *(outcome(work) for work in WORKS)],
                   GUESS)
    assert off(found, WORKS[2]) < 0.2


def test_a_machine_learns_from_its_own_runs_and_loading_from_those_of_the_same_method(tmp_path):
    lora, qlora = RunConfig(), RunConfig(method="qlora")
    assert measured(tmp_path, CPU, lora, TINY) is None
    keep(tmp_path, CPU, 4, outcome(WORKS[0]))
    keep(tmp_path, CPU, 4, outcome(WORKS[4], method="qlora", load=15.0, speaking=8.0))
    assert measured(tmp_path, LARGE, lora, TINY) is None
    assert measured(tmp_path, CPU, lora, TINY).load == 9 and measured(tmp_path, CPU, qlora, TINY).load == 15
    assert measured(tmp_path, CPU, qlora, TINY).word == 4 * measured(tmp_path, CPU, lora, TINY).word
    assert measured(tmp_path, CPU, lora, TINY).prices == measured(tmp_path, CPU, qlora, TINY).prices


def test_what_reading_took_is_no_part_of_a_spoken_words_price(tmp_path):
    """The same words after longer prompts take longer, and are as long."""
    reading = (0.0, 100.0, 0.0)
    keep(tmp_path, CPU, 4, outcome(WORKS[0]))
    short = measured(tmp_path, CPU, RunConfig(), TINY)
    (tmp_path / "long").mkdir()
    keep(tmp_path / "long", CPU, 4, outcome(WORKS[0], speaking=2.0 + 100 * short.prices[1], reading=reading))
    long = measured(tmp_path / "long", CPU, RunConfig(), TINY)
    assert long.prices == short.prices and long.word == pytest.approx(short.word)


def test_a_run_of_an_earlier_version_that_does_not_say_what_it_read_still_counts(tmp_path):
    keep(tmp_path, CPU, 4, outcome(WORKS[0]))
    path = tmp_path / FILE
    noted = json.loads(path.read_text())
    del noted["CPU, 2 threads"][0]["reading"]
    path.write_text(json.dumps(noted))
    assert measured(tmp_path, CPU, RunConfig(), TINY).word == 2.0 / 1000


def test_only_the_newest_runs_are_kept(tmp_path):
    for load in range(KEPT + 5):
        keep(tmp_path, CPU, 4, outcome(WORKS[0], load=float(load)))
    noted = json.loads((tmp_path / FILE).read_text())["CPU, 2 threads"]
    assert [one["load"] for one in noted] == list(range(5, KEPT + 5))


@pytest.mark.parametrize("text", ["{half", "[]", '{"a": null}', '{"CPU, 2 threads": 3.5}',
                                  '{"CPU, 2 threads": [7, {"work": "x"}, {"work": [1, 2, 3], "training": "NaN"}]}'])
def test_a_damaged_file_costs_only_the_correction(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert measured(tmp_path, CPU, RunConfig(), TINY) is None
    keep(tmp_path, CPU, 4, outcome(WORKS[0]))
    assert measured(tmp_path, CPU, RunConfig(), TINY).load == 9


@pytest.mark.parametrize("damage", [{"training": 0}, {"training": -1}, {"work": [0, 1, 1]}, {"work": [1, 1]},
                                    {"load": "soon"}, {"spoken": None}, {"work": [1, 1, float("inf")]},
                                    {"work": [1, 1, 1, 1]}])
def test_a_damaged_run_is_left_out_and_the_others_count(tmp_path, damage):
    keep(tmp_path, CPU, 4, outcome(WORKS[0]))
    noted = json.loads((tmp_path / FILE).read_text())
    noted["CPU, 2 threads"].append({**noted["CPU, 2 threads"][0], **damage})
    (tmp_path / FILE).write_text(json.dumps(noted))
    assert off(measured(tmp_path, CPU, RunConfig(), TINY).prices, WORKS[0]) < 0.02


def test_a_processor_has_prices_of_its_own_for_bf16(tmp_path):
    """The same machine multiplies it several times as fast, or as slowly, as float32."""
    asked = RunConfig(bf16=True)
    keep(tmp_path, CPU, 4, outcome(WORKS[0]))
    assert measured(tmp_path, CPU, asked, TINY) is None
    keep(tmp_path, CPU, 2, outcome(WORKS[0], 0.25))
    found = measured(tmp_path, CPU, asked, TINY)
    assert found.prices[1] == pytest.approx(measured(tmp_path, CPU, RunConfig(), TINY).prices[1] / 4, rel=0.01)
    card = replace(CPU, kind="cuda", name="H100", card_memory=79.0)
    keep(tmp_path, card, 2, outcome(WORKS[0]))
    assert measured(tmp_path, card, RunConfig(), TINY) is not None
