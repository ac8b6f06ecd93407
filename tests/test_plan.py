"""The plan: arithmetic that can be checked by hand, on Phi-3-mini's public numbers."""

import itertools
import math
import random
from dataclasses import replace

import pytest

from phi3.machine import GIBIBYTE, Machine
from training.config import RunConfig
from training.plan import Shape, batches_of, expected_longest, made_to_fit, make_plan

MINI = {"num_hidden_layers": 32, "hidden_size": 3072, "num_attention_heads": 32, "num_key_value_heads": 32,
        "intermediate_size": 8192, "vocab_size": 32064, "tie_word_embeddings": False}
MEDIUM = {**MINI, "num_hidden_layers": 40, "hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 10,
          "intermediate_size": 17920}
CPU = Machine("cpu", "CPU", 2, 24.0)
T4 = Machine("cuda", "Tesla T4", 8, 30.0, card_memory=15.0)
H200 = Machine("cuda", "NVIDIA H200", 16, 128.0, card_memory=139.0)


def test_the_weights_of_phi3_mini_are_counted_right():
    shape = Shape.of(MINI)
    assert shape.linear_weights() + shape.vocabulary * shape.hidden == 3_722_379_264  # with the head: 3.72 G
    assert shape.linear_weights() + shape.table_weights() == 3_821_079_552
    assert shape.lora_weights(16) == 25_165_824


def test_grouped_heads_make_qkv_narrower():
    assert Shape.of(MEDIUM).widths()["qkv_proj"] == (5120, 5120 + 2 * 1280)
    assert Shape.of(MEDIUM).linear_weights() + Shape.of(MEDIUM).table_weights() == 13_960_238_080


def test_the_base_takes_what_it_takes_in_each_precision():
    plan = {method: make_plan(RunConfig(method=method, bf16=True), MINI, [100] * 80, [100] * 8, H200)
            for method in ("lora", "qlora")}
    assert plan["lora"].precision == "bf16" and plan["lora"].memory["base"] == 2 * 3_821_079_552
    assert plan["qlora"].precision == "nf4"
    assert 2.1 * GIBIBYTE < plan["qlora"].memory["base"] < 2.2 * GIBIBYTE
    on_cpu = make_plan(RunConfig(bf16=True), MINI, [100] * 80, [], CPU)
    assert on_cpu.precision == "fp32" and on_cpu.memory["base"] == 4 * 3_821_079_552


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_the_expected_longest_of_a_batch_is_the_mean_over_all_batches(size):
    lengths = [3, 9, 4, 1, 7, 7, 12]
    every = [max(batch) for batch in itertools.combinations(lengths, size)]
    assert expected_longest(lengths, size) == pytest.approx(sum(every) / len(every))


def test_a_batch_larger_than_the_data_is_all_of_it():
    assert expected_longest([3, 5], 8) == 5


def test_steps_are_counted_as_the_trainer_counts_them():
    lengths = [50] * 100
    config = RunConfig(per_device_train_batch_size=8, gradient_accumulation_steps=2, num_train_epochs=3)
    batches = batches_of(config, lengths)
    assert batches.steps == 3 * math.ceil(math.ceil(100 / 8) / 2) and batches.examples_per_step == 16
    assert batches.tokens == batches.padded == 3 * 5000
    assert batches_of(RunConfig(max_steps=5), lengths).steps == 5


def test_padding_is_counted():
    rng = random.Random(0)
    lengths = [round(rng.lognormvariate(5, 0.6)) for _ in range(500)]
    batches = batches_of(RunConfig(per_device_train_batch_size=8, num_train_epochs=1), lengths)
    assert 1.5 * batches.tokens < batches.padded < 3 * batches.tokens


def test_checkpointing_takes_less_memory_and_more_time():
    plain, saving = (make_plan(RunConfig(bf16=True, gradient_checkpointing=on), MINI, [2000] * 64, [], H200)
                     for on in (False, True))
    assert saving.memory["activations"] < plain.memory["activations"] / 10
    assert saving.seconds["training"] > 1.3 * plain.seconds["training"]


def test_what_does_not_fit_is_said():
    config = RunConfig(bf16=True, per_device_train_batch_size=8)
    assert not make_plan(config, MINI, [1000] * 64, [], T4).fits
    assert make_plan(config, MINI, [1000] * 64, [], H200).fits


def test_what_a_run_took_corrects_the_next_plan():
    guessed = make_plan(RunConfig(), MINI, [100] * 80, [90] * 8, CPU)
    corrected = make_plan(RunConfig(), MINI, [100] * 80, [90] * 8, CPU, slower=1.7)
    assert corrected.is_measured and not guessed.is_measured
    assert corrected.seconds == {part: pytest.approx(1.7 * seconds) for part, seconds in guessed.seconds.items()}
    assert corrected.memory == guessed.memory


def test_without_held_out_rows_nothing_is_evaluated():
    assert make_plan(RunConfig(held_out=0), MINI, [100] * 80, [], CPU).seconds["evaluation"] == 0


def plans_on(machine, base=MINI, length=1000):
    return lambda config: make_plan(config, base, [min(length, config.max_length)] * 64, [], machine)


def test_one_change_is_enough_where_one_is():
    plan_of, config = plans_on(Machine("cuda", "A100", 8, 80.0, card_memory=40.0)), RunConfig(bf16=True)
    assert not plan_of(config).fits
    assert made_to_fit(config, plan_of) == {"gradient_checkpointing": True}


def test_more_changes_are_taken_only_where_they_are_needed():
    plan_of, config = plans_on(T4), RunConfig(bf16=True)
    changes = made_to_fit(config, plan_of)
    assert plan_of(replace(config, **changes)).fits
    for name in changes:
        fewer = {other: value for other, value in changes.items() if other != name}
        assert not plan_of(replace(config, **fewer)).fits or name == "gradient_accumulation_steps"


def test_the_examples_of_a_step_stay_what_was_asked():
    config = RunConfig(bf16=True, gradient_checkpointing=True, method="qlora", per_device_train_batch_size=64)
    changes = made_to_fit(config, plans_on(T4))
    assert changes["per_device_train_batch_size"] * changes["gradient_accumulation_steps"] == 64


def test_what_can_not_be_made_to_fit_is_said():
    with pytest.raises(ValueError, match="No change of the settings makes this run fit"):
        made_to_fit(RunConfig(bf16=True), plans_on(Machine("cuda", "small", 4, 8.0, card_memory=1.0)))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="No conversation is left"):
        make_plan(RunConfig(), MINI, [], [], CPU)
