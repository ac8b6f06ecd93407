"""Settings that are known to be bad are named with their value, what happens and what to do; good ones are not."""

import pytest

from tests.test_presets import EXAMPLE, H200, LAPTOP, MINI, TINY
from training.advice import warnings_for
from training.config import RunConfig
from training.presets import PRESETS, Task, preset_of

USUAL = {"learning_rate": 3.1e-3}


def warned(lengths=EXAMPLE, base=TINY, machine=LAPTOP, **settings):
    return warnings_for(RunConfig.from_settings({**USUAL, **settings}), Task(base, machine, lengths))


def test_good_settings_are_not_warned_of():
    assert warned() == [] == warned(())


@pytest.mark.parametrize(("settings", "words"), [
    ({"learning_rate": 0.05}, ("Learning rate is 0.05", "gives 0.0031", "diverges", "Lower it to about 0.0031.")),
    ({"learning_rate": 5e-6}, ("Learning rate is 5e-06", "teaches little", "Raise it")),
    ({"r": 256, "lora_alpha": 128}, ("Rank (r) is 256: 4,718,592 numbers", "teaches nothing more",
                                     "Rank 16 holds them.")),
    ({"r": 8, "lora_alpha": 512}, ("LoRA alpha is 512", "rank 8 without rsLoRA", "counts 64 times", "Lower it to 16")),
    ({"r": 64, "lora_alpha": 4}, ("LoRA alpha is 4", "counts 0.0625 times", "Raise it to 128", "tick rsLoRA")),
    ({"r": 16, "use_rslora": True}, ("at rank 16 with rsLoRA", "counts 8 times", "Lower it to 8")),
    ({"lora_dropout": 0.5}, ("LoRA dropout is 0.5", "less than half", "0.05 to 0.1 is usual")),
    ({"num_train_epochs": 40}, ("Epochs (num_train_epochs) is 40", "270 conversations", "learned by heart", "3 to 10")),
    ({"max_steps": 2000}, ("Steps at most (max_steps) is 2000", "seen 58.8 times", "learned by heart")),
    ({"warmup_steps": 200}, ("Warm-up (warmup_steps) is 200", "the run has 102", "A tenth (0.1) is usual")),
    ({"max_steps": 1}, ("Warm-up (warmup_steps) is 0.1, and the run has one step", "at a rate of 0", "Set it to 0")),
    ({"warmup_steps": 0.8}, ("Warm-up (warmup_steps) is 0.8", "more than half", "A tenth (0.1) is usual")),
    ({"per_device_train_batch_size": 512}, ("Batch size (per_device_train_batch_size) is 512", "there are 270",
                                            "Make it smaller")),
    ({"gradient_accumulation_steps": 64}, ("Gradient accumulation (gradient_accumulation_steps) is 64",
                                           "512 conversations", "Make it")),
    ({"bf16": True}, ("bf16 is on", "as small as this one", "Leave it off")),
    ({"base": MINI, "learning_rate": 3.6e-4}, ("bf16 is off", "twice the memory")),
    ({"max_length": 4096}, ("Longest conversation (max_length) is 4,096", "reads 2,048 tokens", "Lower it to 2048")),
    ({"eval_steps": 500}, ("Evaluate every (eval_steps) is 500", "ends after 102", "25 shows")),
    ({"held_out": 0}, ("Held-out share (held_out) is 0, so a validation part of the data's own is trained on as well",
                       "memorised", "0.1 holds that out, or else a tenth")),
    ({"target_modules": "qkv_proj, o_proj"}, ("Layers (target_modules) is qkv_proj, o_proj", "attention alone",
                                              "all-linear")),
])
def test_a_bad_choice_is_named_with_what_happens_and_what_to_do(settings, words):
    said = warned(**settings)
    assert len(said) == 1, said
    assert not [word for word in words if word not in said[0]], said


def test_stopping_early_by_a_loss_that_nobody_measures_is_named():
    for said in (warned(held_out=0, early_stopping=3), warned((50,), per_device_train_batch_size=1, early_stopping=3)):
        assert len(said) == 2 and "(early_stopping) is 3, and nothing is held out" in said[1]
    assert warned(early_stopping=3) == []


def test_a_share_that_holds_nobody_out_is_named():
    said = warned((50,), per_device_train_batch_size=1)
    assert len(said) == 1
    assert "Held-out share (held_out) is 0.1, and of a single conversation none can be spared" in said[0]
    assert warned((50,) * 4, per_device_train_batch_size=2) == []


@pytest.mark.parametrize("settings", [
    {"bf16": True, "learning_rate": 3.6e-4, "base": MINI, "machine": H200},
    {"r": 16, "lora_alpha": 8, "use_rslora": True}, {"warmup_steps": 10}, {"warmup_steps": 0},
    {"max_steps": 1, "warmup_steps": 0}, {"max_steps": 1, "lr_scheduler_type": "constant"},
    {"warmup_steps": 200, "lr_scheduler_type": "constant"}, {"warmup_steps": 0.8, "lr_scheduler_type": "constant"},
    {"target_modules": "down_proj"}, {"max_steps": 2, "eval_steps": 100}, {"r": 64}, {"r": 4}, {"lora_dropout": 0.1},
])
def test_what_is_unusual_and_still_fine_is_not_warned_of(settings):
    assert warned(**settings) == []


def test_a_low_rate_is_fine_where_there_are_many_steps():
    many = (50,) * 40_000
    assert not [one for one in warned(many, learning_rate=5e-6) if "learning_rate" in one]


def test_what_needs_the_data_waits_for_it():
    assert warned((), num_train_epochs=500, r=512, lora_alpha=512, eval_steps=10_000) == []
    assert len(warned((), learning_rate=0.09, held_out=0)) == 2


def test_the_published_recipe_is_warned_of_on_little_data():
    task = Task(TINY, LAPTOP, EXAMPLE)
    said = {name: warnings_for(RunConfig(**preset_of(name, task).values), task) for name in PRESETS}
    assert [len(said[name]) for name in PRESETS] == [0, 0, 0, 1] and "teaches little" in said["recipe"][0]
