"""The plan: arithmetic that can be checked by hand, on Phi-3-mini's public numbers."""

import math
import random
from dataclasses import replace

import pytest

from phi3.machine import GIBIBYTE, Machine
from phi3.models import EMBEDDED, base_facts, load_tokenizer
from phi3.shape import Shape
from training.config import RunConfig
from training.data import lengths_of, read_data, split
from training.fitting import change_after_memory_ran_out, changes_in_words, made_to_fit, one_change
from training.memory import block_bytes, precision_of
from training.plan import USABLE_SHARE, in_words, make_plan
from training.presets import recommended
from training.quota import QUOTA_SECONDS, Visit, counted, described, turns_of
from training.work import Speed, batches_of, expected_most

MINI = {"num_hidden_layers": 32, "hidden_size": 3072, "num_attention_heads": 32, "num_key_value_heads": 32,
        "intermediate_size": 8192, "vocab_size": 32064, "tie_word_embeddings": False}
MEDIUM = {**MINI, "num_hidden_layers": 40, "hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 10,
          "intermediate_size": 17920}
CPU = Machine("cpu", "CPU", 2, 24.0)
T4 = Machine("cuda", "Tesla T4", 8, 30.0, card_memory=15.0)
LENT = Machine("zerogpu", "ZeroGPU", 8, 64.0, card_memory=48.0)
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
    assert plan["qlora"].precision == "nf4" and plan["qlora"].expanded and not plan["lora"].expanded
    assert plan["qlora"].memory == plan["lora"].memory and plan["qlora"].seconds == plan["lora"].seconds
    on_a_small_card = make_plan(RunConfig(method="qlora", bf16=True), MINI, [100] * 80, [100] * 8, T4)
    assert on_a_small_card.precision == "nf4" and not on_a_small_card.expanded
    assert 2.1 * GIBIBYTE < on_a_small_card.memory["base"] < 2.2 * GIBIBYTE
    on_cpu = {bf16: make_plan(RunConfig(bf16=bf16), MINI, [100] * 80, [], CPU) for bf16 in (True, False)}
    assert on_cpu[True].precision == "bf16" and on_cpu[True].memory["base"] == 2 * 3_821_079_552
    assert on_cpu[False].precision == "fp32" and on_cpu[False].memory["base"] == 4 * 3_821_079_552


def test_on_a_processor_the_pages_own_second_layout_is_left_free():
    """Only where it multiplies bf16, and its memory would hold the weights three times."""
    weights = 2 * 3_821_079_552
    for memory, multiplies, second in ((24.0, True, weights), (24.0, False, 0), (16.0, True, 0)):
        machine = replace(CPU, memory=memory, multiplies_bf16=multiplies)
        assert Shape.of(MINI).lies_twice(machine) == bool(second)
        plan = make_plan(RunConfig(bf16=True), MINI, [100] * 80, [], machine)
        assert plan.available == int((memory * GIBIBYTE - second) * USABLE_SHARE)
    assert not Shape.of(base_facts(EMBEDDED).config).lies_twice(replace(CPU, multiplies_bf16=True))


def test_a_4_bit_base_is_made_whole_on_a_processor_wherever_lora_would_fit():
    for memory in (9.0, 12.0, 24.0):
        both = (RunConfig(bf16=True, method=method, per_device_train_batch_size=2) for method in ("lora", "qlora"))
        lora, qlora = (make_plan(one, MINI, [300] * 80, [], replace(CPU, memory=memory)) for one in both)
        assert qlora.expanded == lora.fits and qlora.fits
    assert qlora.expanded and qlora.memory == lora.memory
    small = make_plan(RunConfig(bf16=True, method="qlora", per_device_train_batch_size=2), MINI, [300] * 80, [],
                      replace(CPU, memory=9.0))
    assert not small.expanded and small.memory["base"] < lora.memory["base"] / 3
    assert small.spoken == 8 * qlora.spoken


def test_a_processor_that_multiplies_bf16_is_expected_to_be_several_times_as_fast():
    slow, fast = (make_plan(RunConfig(bf16=True), MINI, [300] * 80, [], replace(CPU, multiplies_bf16=by_itself))
                  for by_itself in (False, True))
    assert slow.seconds["training"] > 3 * fast.seconds["training"]
    in_4_bits = make_plan(RunConfig(bf16=True, method="qlora"), MINI, [300] * 80, [], CPU)
    assert in_4_bits.seconds["loading"] > slow.seconds["loading"] + 60, "it is quantised first"
    assert slow.spoken == fast.spoken and slow.seconds["speaking"] > fast.seconds["speaking"], "prompts are read sooner"
    assert fast.seconds["speaking"] > 10 * make_plan(
        RunConfig(), base_facts(EMBEDDED).config, [300] * 80, [], CPU).seconds["speaking"]


def test_the_largest_batch_that_is_expected_is_about_the_largest_of_many_draws():
    rng = random.Random(0)
    lengths = [round(rng.lognormvariate(5, 0.6)) for _ in range(500)]
    for size, steps in ((4, 20), (8, 60), (16, 200)):
        most = [max(sum(rng.sample(lengths, size)) for _ in range(steps)) for _ in range(40)]
        assert expected_most(lengths, size, steps) == pytest.approx(sum(most) / len(most), rel=0.12)


def test_a_batch_of_all_rows_is_as_large_as_they_are():
    assert expected_most([3, 5], 2, 10) == 8


def test_steps_are_counted_as_the_trainer_counts_them():
    lengths = [50] * 100
    config = RunConfig(per_device_train_batch_size=8, gradient_accumulation_steps=2, num_train_epochs=3)
    batches = batches_of(config, lengths)
    assert batches.steps == 3 * math.ceil(math.ceil(100 / 8) / 2) and batches.examples_per_step == 16
    assert batches.tokens == 3 * 5000 and batches.largest == batches.budget == 8 * 50
    assert batches_of(RunConfig(max_steps=5), lengths).steps == 5


def test_an_epoch_that_is_not_finished_leaves_the_smaller_batch_for_later():
    config = RunConfig(per_device_train_batch_size=64, max_steps=1)
    assert batches_of(config, [10] * 90).tokens == 640
    assert batches_of(replace(config, max_steps=3), [10] * 90).tokens == 900 + 640
    assert batches_of(replace(config, max_steps=4), [10] * 90).tokens == 1800


def test_a_pack_holds_no_more_than_the_largest_padded_batch_would():
    rng = random.Random(0)
    lengths = [round(rng.lognormvariate(5, 0.6)) for _ in range(500)]
    batches = batches_of(RunConfig(per_device_train_batch_size=2, gradient_accumulation_steps=8), lengths)
    assert batches.largest <= batches.budget == 2 * max(lengths)
    assert batches.forwards < 8 * batches.steps  # packs are fuller than batches


def test_checkpointing_takes_less_memory_and_more_time_and_no_more_of_it_than_it_must():
    rows = [2000] * 64
    machines = [replace(H200, card_memory=memory) for memory in (139.0, 42.0)]
    some, most = (make_plan(RunConfig(bf16=True, gradient_checkpointing=True), MINI, rows, [], machine)
                  for machine in machines)
    plain = make_plan(RunConfig(bf16=True), MINI, rows, [], machines[0])
    assert plain.recomputed == 0 < some.recomputed < most.recomputed <= 32
    assert 0.7 * plain.peak < some.peak <= 0.75 * plain.peak
    assert most.memory["activations"] < some.memory["activations"] < plain.memory["activations"]
    assert most.seconds["training"] > some.seconds["training"] > plain.seconds["training"]


def test_what_does_not_fit_is_said():
    config = RunConfig(bf16=True, per_device_train_batch_size=8)
    assert not make_plan(config, MINI, [1000] * 64, [], T4).fits
    assert make_plan(config, MINI, [1000] * 64, [], H200).fits


def test_what_runs_took_corrects_the_next_plan():
    guessed = make_plan(RunConfig(), MINI, [100] * 80, [90] * 8, CPU)
    slower = Speed((3e-3, 0.05, 0.4), 20.0, 3e-3)
    corrected = make_plan(RunConfig(), MINI, [100] * 80, [90] * 8, CPU, slower)
    assert corrected.is_measured and not guessed.is_measured
    assert corrected.seconds["training"] == pytest.approx(slower.seconds(guessed.work))
    assert corrected.seconds["loading"] == 20 and corrected.memory == guessed.memory


def kept_and_counted(folder, config, kept_heads):
    """(bytes that autograd keeps of a forward pass of this base, bytes that the plan counts)."""
    import torch
    from peft import LoraConfig, get_peft_model

    from phi3.learner import Learner
    from phi3.models import load_base, shell_of
    from phi3.packed import Packed
    from tests.phi3_folder import make_phi3_folder

    precision, width = precision_of(config), 2 if config.bf16 else 4
    base = load_base(str(make_phi3_folder(folder / "base", num_key_value_heads=kept_heads)), precision, "cpu")
    model = get_peft_model(shell_of(base), LoraConfig(**config.peft_config())).train()
    if precision == "nf4":  # as TRL does
        for one in (one for one in model.parameters() if one.requires_grad):
            one.data = one.data.bfloat16()
    learner = Learner(model)
    packed = Packed.of([(range(10, 210), range(10, 210))] * 8 + [(range(10, 90), range(10, 90))] * 2)
    weights = {one.untyped_storage().data_ptr() for one in learner.causal.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(value):
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        hidden = learner.hidden(packed)
    assert hidden.requires_grad
    shape = Shape.of(base.facts.config)
    counted = shape.layers * block_bytes(config, shape, width, CPU, len(packed.ids), 200)
    # The first norm keeps nothing, since nothing before it is trained, and the last one as much as another.
    angles = len(packed.ids) * width * 2 * shape.queries // shape.heads
    return sum(one.nbytes() for one in kept.values()), counted + angles


@pytest.mark.parametrize("changes", [{}, {"target_modules": "qkv_proj, o_proj"}, {"r": 128}, {"lora_dropout": 0.0},
                                     {"bf16": True}, {"bf16": True, "r": 128, "lora_dropout": 0.0}])
@pytest.mark.parametrize("kept_heads", [4, 2])
def test_a_block_is_counted_as_autograd_keeps_it(tmp_path, changes, kept_heads):
    kept, counted = kept_and_counted(tmp_path, replace(RunConfig(), **changes), kept_heads)
    assert kept == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("changes", [{}, {"target_modules": "qkv_proj, o_proj"}, {"r": 128}, {"lora_dropout": 0.0}])
def test_a_block_with_dora_is_counted_as_autograd_keeps_it(tmp_path, changes, method):
    config = replace(RunConfig(method=method, use_dora=True), **changes)
    kept, counted = kept_and_counted(tmp_path, config, 2)
    assert kept == pytest.approx(counted, rel=0.02)  # the first dropout's noise isn't kept


def test_dora_learns_a_number_more_for_each_output():
    plain, with_dora = (make_plan(RunConfig(use_dora=use), MINI, [100] * 80, [], CPU) for use in (False, True))
    more = 32 * (9216 + 3072 + 16384 + 3072)
    assert with_dora.trainable - plain.trainable == more
    for name, times in (("adapter", 4), ("gradients", 4), ("optimizer", 8)):
        assert with_dora.memory[name] - plain.memory[name] == times * more


def test_dora_takes_longer_most_of_all_with_dropout_and_where_passes_are_small():
    def seconds(length, **settings):
        return make_plan(RunConfig(**settings), MINI, [length] * 80, [length] * 8, CPU).seconds

    plain, with_dora, bare = (seconds(400, **settings) for settings in (
        {}, {"use_dora": True}, {"use_dora": True, "lora_dropout": 0.0}))
    assert plain["training"] < bare["training"] < with_dora["training"]
    # The base is multiplied a second time with what dropout leaves, forward and backward.
    assert with_dora["training"] == pytest.approx(2 * plain["training"], rel=0.15)
    short, short_with_dora = seconds(10, lora_dropout=0.0), seconds(10, use_dora=True, lora_dropout=0.0)
    assert short_with_dora["training"] / short["training"] > bare["training"] / plain["training"]
    assert with_dora["speaking"] > plain["speaking"] and with_dora["evaluation"] > plain["evaluation"]


def test_dora_beside_a_bf16_base_keeps_the_base_in_float32_where_there_is_dropout():
    plans = {dropout: make_plan(RunConfig(bf16=True, use_dora=True, lora_dropout=dropout), MINI, [10] * 80, [], H200)
             for dropout in (0.0, 0.1)}
    weights = Shape.of(MINI).linear_weights()
    more = plans[0.1].memory["activations"] - plans[0.0].memory["activations"]
    assert more == pytest.approx(4 * weights, rel=0.02)


def test_without_held_out_rows_nothing_is_evaluated():
    assert make_plan(RunConfig(held_out=0), MINI, [100] * 80, [], CPU).seconds["evaluation"] == 0


def plans_on(machine, base=MINI, length=1000):
    return lambda config: make_plan(config, base, [min(length, config.max_length)] * 64, [], machine)


def test_one_change_is_enough_where_one_is():
    plan_of, config = plans_on(Machine("cuda", "A100", 8, 80.0, card_memory=36.0)), RunConfig(bf16=True)
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


def shipped(name):
    """The lengths of an example's rows, as its run splits them. Phi-3-mini's own tokenizer has sixteen times the
    words, so its rows are shorter still.
    """
    parts = split(read_data(name), RunConfig().held_out, RunConfig().seed)
    tokenizer = load_tokenizer(base_facts("phi3/tiny"))
    return [lengths_of(part, tokenizer, RunConfig().max_length) for part in parts]


@pytest.mark.parametrize("example", ["pirate", "json", "shop"])
def test_the_default_run_fits_one_turn_and_leaves_an_anonymous_visitor_a_comparison(example):
    config = RunConfig.from_settings(recommended(MINI, LENT))
    plan = make_plan(config, MINI, *shipped(example), LENT)
    assert plan.fits and plan.turns.count == 1 and plan.turns.asked == 90
    assert plan.turns.left == 30 and plan.turns.leaves_a_comparison and plan.turns.tier == "anonymous"
    assert "One GPU turn." in in_words(plan)


def test_a_long_run_takes_as_many_turns_as_it_must_each_with_its_cold_start():
    turns = turns_of(total=306, load=6, longest=9, visit=Visit(60))
    assert turns.count == math.ceil(300 / (60 - 3 - 2 - 6 - 9)) and turns.asked == turns.count * 90
    assert turns.left < 0 and not turns.leaves_a_comparison and turns.tier == "pro"
    assert turns_of(306, 6, 9, Visit(400)).count == 1


def test_longer_turns_are_fewer_and_a_page_must_stay_open_for_more_than_one():
    lengths = [900] * 1200
    plans = [make_plan(RunConfig(bf16=True), MINI, lengths, [], LENT, visit=Visit(seconds)) for seconds in (60, 240)]
    assert plans[0].turns.count > plans[1].turns.count > 1
    assert any("GPU turns: keep this page open" in line for line in in_words(plans[0]))


def test_questions_before_the_run_are_counted_too():
    config = RunConfig.from_settings(recommended(MINI, LENT))
    without, with_them = (make_plan(config, MINI, [50] * 100, [50] * 10, LENT, visit=Visit(questions=count)).turns
                          for count in (0, 120))
    assert without.described == 0 and with_them.described == described(120) == 8 * counted(10)
    assert with_them.left == without.left - described(120) and with_them.tier == "free"
    assert described(17) == 2 * described(16)


def test_only_a_gpu_that_is_lent_has_turns_and_a_quota():
    assert make_plan(RunConfig(), MINI, [100] * 80, [], H200).turns is None
    assert QUOTA_SECONDS == {"anonymous": 120, "free": 300, "pro": 2400} and counted(60) == 90


def test_the_single_change_that_is_enough_is_named_and_none_where_none_is():
    plan_of, config = plans_on(Machine("cuda", "A100", 8, 80.0, card_memory=36.0)), RunConfig(bf16=True)
    change = one_change(config, plan_of)
    assert change == {"gradient_checkpointing": True}
    assert changes_in_words(config, change) == "Gradient checkpointing: off → on"
    assert one_change(config, plans_on(Machine("cuda", "small", 4, 8.0, card_memory=1.0))) == {}


def test_after_an_out_of_memory_the_plan_is_made_smaller_by_what_was_missing():
    config, plan_of = RunConfig(bf16=True, gradient_checkpointing=True, method="qlora"), plans_on(H200)
    planned = plan_of(config).peak
    changes = change_after_memory_ran_out(config, plan_of, held=20 * GIBIBYTE, asked=2 * GIBIBYTE)
    assert plan_of(replace(config, **changes)).peak <= planned * 20 / 22
    assert set(changes) == {"per_device_train_batch_size", "gradient_accumulation_steps"}
    assert change_after_memory_ran_out(config, plan_of, held=1, asked=GIBIBYTE) == {}
