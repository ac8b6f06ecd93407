"""Presets follow from data, base and machine, by rules; what is fixed stays, and the rest follows from it."""

import dataclasses
import random

import pytest

from phi3.machine import Machine
from phi3.models import EMBEDDED, base_facts
from phi3.shape import Shape
from training.advice import warnings_for
from training.config import SETTINGS, RunConfig
from training.data import read_data, read_text, split
from training.plan import make_plan
from training.presets import (
    MOST_RANK,
    PRESETS,
    RECIPE,
    TOKENS_AT_ONCE,
    Task,
    preset_of,
    rank_for,
    recommended,
    sides_of,
    steps_of,
)
from training.quota import Visit
from training.work import batches_of

LAPTOP = Machine("cpu", "CPU", threads=2, memory=16)
T4 = Machine("cuda", "T4", threads=4, memory=16, card_memory=15.8)
H200 = Machine("cuda", "H200", threads=16, memory=128, card_memory=140)
LENT = Machine("zerogpu", "ZeroGPU", threads=8, memory=64, card_memory=48)
TINY = base_facts(EMBEDDED).config
MINI = {**TINY, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096}
# As the shipped examples are: 300 conversations of some fifty tokens.
EXAMPLE = tuple(random.Random(0).choices(range(20, 140), k=300))


def lengths(count, longest=400):
    draw = random.Random(count)
    return tuple(draw.randint(20, longest) for _ in range(count))


def made(name, task, **fixed):
    """The run that the preset makes, with what is fixed."""
    return RunConfig.from_settings({**preset_of(name, task, fixed).values, **fixed})


def plan(config, task):
    return make_plan(config, task.base, *sides_of(task, config), task.machine, visit=Visit())


def test_balanced_is_for_the_examples_what_it_always_was():
    config = made("balanced", Task(TINY, LAPTOP, EXAMPLE))
    assert config == RunConfig(learning_rate=3.1e-3)
    assert steps_of(config, Task(TINY, LAPTOP, EXAMPLE)) == 102
    lent = made("balanced", Task(MINI, LENT, EXAMPLE))
    assert lent == RunConfig(learning_rate=3.6e-4, bf16=True, eval_steps=50)


def test_few_conversations_are_seen_often_and_many_once():
    epochs = [made("balanced", Task(TINY, LAPTOP, lengths(count))).num_train_epochs
              for count in (10, 30, 50, 300, 5000, 50_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] == 10 and epochs[2] > 3 and epochs[3] == 3 and epochs[-1] == 1


@pytest.mark.parametrize("machine", [LAPTOP, T4, H200, LENT])
@pytest.mark.parametrize("count", [5, 50, 300, 5000])
def test_every_preset_is_a_valid_run_that_is_warned_of_nothing(machine, count):
    for name in ("quick", "balanced", "thorough"):
        task = Task(TINY if machine is LAPTOP else MINI, machine, lengths(count, 3000))
        config = made(name, task)
        assert warnings_for(config, task) == []
        train, held = sides_of(task, config)
        assert train and held
        assert config.max_length <= task.base["max_position_embeddings"]
        assert config.per_device_train_batch_size * config.max_length <= TOKENS_AT_ONCE
        assert plan(config, task).fits
        assert steps_of(config, task) <= 3000


@pytest.mark.parametrize("count", [1, 2])
def test_no_preset_asks_for_more_in_a_step_than_there_is_and_then_warns_of_it(count):
    task = Task(TINY, LAPTOP, lengths(count))
    for name in ("quick", "balanced", "thorough"):
        told = preset_of(name, task)
        assert told.values["per_device_train_batch_size"] == 1 and told.why.startswith("1 conversation, seen 1")
        assert not [words for words in warnings_for(made(name, task), task) if "Batch size" in words]
    far = RunConfig(per_device_train_batch_size=4)
    assert any("there is 1 to train on" in words for words in warnings_for(far, task))


@pytest.mark.parametrize(("base", "machine"), [(TINY, LAPTOP), (MINI, H200), (MINI, LENT)])
@pytest.mark.parametrize("count", [20, 300, 50_000])
def test_a_quick_look_is_over_within_a_minute_and_one_turn(base, machine, count):
    task = Task(base, machine, lengths(count, 150))
    ahead = plan(made("quick", task), task)
    assert ahead.total_seconds < 60
    assert ahead.turns is None or ahead.turns.count == 1
    assert steps_of(made("quick", task), task) < steps_of(made("balanced", task), task)


def test_a_quick_look_on_a_slower_card_has_fewer_steps():
    """An RTX 4060 makes 62 teraflops of bf16; where nobody knows a card's rate, it is taken for a faster one."""
    known, unknown = (Task(MINI, dataclasses.replace(T4, teraflops=rate), lengths(300, 150)) for rate in (62.0, 0.0))
    assert steps_of(made("quick", known), known) < steps_of(made("quick", unknown), unknown)
    assert plan(made("quick", known), known).total_seconds < 60


def test_a_quick_look_at_much_data_sees_a_part_of_it():
    task = Task(TINY, LAPTOP, lengths(50_000, 150))
    config = made("quick", task)
    assert 0 < config.max_steps <= 40 and batches_of(config, task.lengths).epochs < 0.1
    assert f"{config.max_steps * 8} of 49,970 conversations, seen once" in preset_of("quick", task).why


def test_a_run_within_an_epoch_is_said_to_see_what_its_steps_hold():
    told = preset_of("quick", Task(TINY, LAPTOP, [40] * 100), {"per_device_train_batch_size": 64, "max_steps": 1})
    assert told.why.startswith("64 of 90 conversations, seen once")


def test_thorough_learns_longer_with_a_larger_adapter_and_looks_oftener():
    task = Task(TINY, LAPTOP, EXAMPLE)
    balanced, thorough = made("balanced", task), made("thorough", task)
    assert steps_of(thorough, task) > steps_of(balanced, task) and thorough.r > balanced.r
    assert thorough.eval_steps / steps_of(thorough, task) < balanced.eval_steps / steps_of(balanced, task)


def test_the_rank_grows_until_the_adapter_holds_the_data_and_no_further():
    shape, config = Shape.of(TINY), RunConfig()
    assert rank_for(10_000, config, shape, 16) == 16
    large = rank_for(3_000_000, config, shape, 16)
    assert 2 * shape.lora_weights(large) >= 3_000_000 > 2 * shape.lora_weights(large // 2)
    assert rank_for(10**12, config, shape, 16) == MOST_RANK
    attention = RunConfig(target_modules="o_proj")
    assert rank_for(1_000_000, attention, shape, 16) > rank_for(1_000_000, config, shape, 16)


def test_the_longest_conversation_is_read_whole_up_to_the_context():
    def longest(*tokens):
        return made("balanced", Task(MINI, H200, (*EXAMPLE, *tokens))).max_length

    assert longest() == 1024 and longest(1500) == 1536 and longest(9000) == 4096
    assert made("quick", Task(MINI, H200, (*EXAMPLE, 9000))).max_length == 512


def test_a_step_holds_few_conversations_of_little_data_and_a_pass_few_long_ones():
    def batch(task):
        config = made("balanced", task)
        return config.per_device_train_batch_size, config.gradient_accumulation_steps

    assert [batch(Task(TINY, LAPTOP, lengths(count))) for count in (10, 100, 300, 5000)] == [
        (2, 1), (4, 1), (8, 1), (16, 1)]
    assert batch(Task({**MINI, "max_position_embeddings": 16_384}, H200, (*EXAMPLE, 16_000))) == (2, 4)


def test_a_part_is_held_out_that_tells_enough_and_no_more():
    shares = [made("balanced", Task(TINY, LAPTOP, lengths(count))).held_out * count for count in (10, 300, 50_000)]
    assert shares == pytest.approx([2, 30, 255], abs=1)
    assert made("balanced", Task(TINY, LAPTOP, EXAMPLE), held_out=0.0).held_out == 0


def test_what_the_machine_can_not_hold_is_made_to_fit():
    config = made("balanced", Task(MINI, T4, lengths(300, 4000)))
    assert config.gradient_checkpointing and config.per_device_train_batch_size < 8
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 8
    assert made("balanced", Task(MINI, T4, lengths(300, 4000)), per_device_train_batch_size=8) == dataclasses.replace(
        config, per_device_train_batch_size=8, gradient_accumulation_steps=1)


def test_what_is_fixed_stays_and_the_rest_follows_from_it():
    task = Task(TINY, LAPTOP, EXAMPLE)
    found = preset_of("balanced", task, {"per_device_train_batch_size": 30, "name": "mine", "r": 4})
    assert not {"per_device_train_batch_size", "name", "r"} & found.values.keys()
    assert found.values["num_train_epochs"] == 10 and "gradient_accumulation_steps" in found.values
    assert "Rank 4 learns" in found.why and "30 in a step: 90 steps" in found.why
    assert made("quick", task, num_train_epochs=7.0).max_steps == -1
    assert made("balanced", task, max_steps=20).eval_steps == 5
    assert preset_of("balanced", task, RunConfig().settings()).values == {}


def test_without_data_a_preset_is_what_suits_base_and_machine():
    config = made("balanced", Task(TINY, LAPTOP))
    assert config == RunConfig(learning_rate=3.1e-3)
    assert preset_of("balanced", Task(TINY, LAPTOP)).why.endswith("the rest follows from your data.")


def test_the_recipe_holds_the_recipes_numbers_whatever_the_data():
    for count in (5, 20_000):
        values = preset_of("recipe", Task(MINI, H200, lengths(count))).values
        assert RECIPE.items() <= values.items() and values["learning_rate"] == 5e-6 and values["warmup_steps"] == 0.2
    assert made("recipe", Task(MINI, T4)).method == "lora"


def test_the_recipe_claims_no_number_that_somebody_chose():
    task = Task(TINY, LAPTOP, EXAMPLE)
    assert "sample, whatever your data: 1 epoch, rank 16" in preset_of("recipe", task).why
    chosen = preset_of("recipe", task, {"num_train_epochs": 5.0, "r": 64}).why
    assert "sample, but for what you chose, whatever your data: 5 epochs, rank 64" in chosen


def test_why_says_what_was_set_in_numbers():
    said = preset_of("balanced", Task(TINY, LAPTOP, EXAMPLE)).why
    assert said.startswith("270 conversations, seen 3 times, 8 in a step: 102 steps; all are read whole. "
                           "Rank 16 learns 294,912 numbers, enough for")
    assert said.endswith("the learning rate 0.0031 is the rule's for a base 192 wide.")
    assert "1 is cut at 2,048 tokens" in preset_of("balanced", Task(TINY, LAPTOP, (*EXAMPLE, 5000))).why


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match=r"There is no preset named 'best'\. Choose one of quick, balanced, thorough"):
        preset_of("best", Task(TINY, LAPTOP))


def test_presets_set_settings_alone():
    for name in PRESETS:
        assert preset_of(name, Task(TINY, LAPTOP, EXAMPLE)).values.keys() <= SETTINGS.keys()


def test_the_sides_are_as_long_together_as_the_whole():
    config = RunConfig(max_length=100)
    train, held = sides_of(Task(TINY, LAPTOP, EXAMPLE), config)
    assert sorted([*train, *held]) == sorted(min(length, 100) for length in EXAMPLE) and len(held) == 30
    assert abs(sum(held) / 30 - sum(train) / 270) < 5


@pytest.mark.parametrize("count", [1, 2, 3, 4, 12, 17])
def test_as_many_are_held_out_as_a_run_holds_out(count):
    text = "\n".join(f'{{"prompt": "{number}", "completion": "Yes."}}' for number in range(count))
    task = Task(TINY, LAPTOP, (50,) * count)
    for share in (0, 0.1, 0.5):
        sides = split(read_text(text), share, 42)
        assert list(map(len, sides_of(task, RunConfig(held_out=share)))) == list(map(len, sides))


def test_what_loses_its_whole_answer_to_the_limit_is_no_part_of_what_is_planned():
    half = Task(TINY, LAPTOP, [3000, 40] * 20, begins=[2990, 30] * 20)
    for name in ("quick", "balanced", "thorough"):
        task = dataclasses.replace(half, lengths=[40] * 20, begins=[30] * 20)
        assert steps_of(made(name, half), half) == steps_of(made(name, half), task)
    assert preset_of("balanced", half).why.startswith("18 conversations, seen 10 times, 2 in a step: 90 steps; "
                                                      "20 are cut at 2,048 tokens")
    assert [len(side) for side in sides_of(half, RunConfig(max_length=4096))] == [36, 4]
    assert [len(side) for side in sides_of(dataclasses.replace(half, own_held=10), RunConfig())] == [15, 5]
    late = Task(MINI, H200, [3000] * 20, begins=[2990] * 20)
    assert made("quick", late).max_length == 3008
    assert made("quick", dataclasses.replace(half, base=MINI)).max_length == 512
    none = Task(TINY, LAPTOP, [3000] * 20, begins=[2990] * 20)
    for name in PRESETS:
        config = made(name, none)
        assert steps_of(config, none) == 0 and warnings_for(config, none) is not None


def test_what_the_data_holds_out_by_itself_is_no_part_of_what_is_planned(tmp_path):
    for name, count in (("train", 30), ("validation", 50)):
        rows = (f'{{"prompt": "{name} {number}", "completion": "Yes."}}' for number in range(count))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    data = read_data(tmp_path)
    task = Task(TINY, LAPTOP, lengths(len(data.conversations)), len(data.own_held))
    for share in (0, 0.1):
        train, held = sides_of(task, RunConfig(held_out=share))
        assert [len(train), len(held)] == list(map(len, split(data, share, 42)))
    assert abs(sum(train) / 30 - sum(held) / 50) < 10
    found = preset_of("balanced", task)
    assert found.why.startswith("30 conversations, seen 6 times, 2 in a step: 90 steps")


def test_recommended_settings_follow_the_base_and_the_machine():
    small, large = recommended(TINY, LAPTOP), recommended(MINI, H200)
    assert small["learning_rate"] > 5 * large["learning_rate"]
    assert not small["bf16"] and large["bf16"] and recommended(MINI, LAPTOP)["bf16"]
    assert recommended(MINI, T4)["gradient_checkpointing"] and not recommended(MINI, LAPTOP)["gradient_checkpointing"]
    assert recommended(MINI, dataclasses.replace(T4, card_memory=8.0))["method"] == "qlora"
