"""DoRA: it trains, ends as an adapter that stock PEFT loads, is checked, converted, merged, and served by the chat."""

import itertools
import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.check import check, ready_folder
from adapters.files import CONFIG, WEIGHTS
from adapters.formats import attached, fused, read_peft, split, write_peft
from adapters.layers import shape_of
from adapters.library import Library
from adapters.loralib_files import checkpoint_of
from adapters.merge import merge
from phi3.generate import Answerer, Lane, Sampling
from phi3.models import base_facts, load_base, shell_of
from phi3.rounds import MOST_BY_PEFT
from tests.adapter_folder import SPLIT_NAMES, logits, random_lora, write_random
from tests.interrupted import Interrupted
from training.config import RunConfig
from training.plan import EXPANDED_SHARE
from training.train import Lease, run_lease

SETTINGS = {"use_dora": True, "max_steps": 6, "eval_steps": 3, "save_steps": 2, "learning_rate": 5e-3, "r": 4,
            "lora_dropout": 0.1, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def base(small_base):
    return load_base(base_facts(str(small_base)).id)


@pytest.fixture(scope="module")
def shape(base):
    return shape_of(base.facts.config)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def folder_of(home, name):
    return Library(home).get(name).folder


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "target_modules": "qkv_proj, down_proj"},
                                      {"gradient_checkpointing": True}])
def test_it_trains_an_adapter_that_stock_peft_and_the_chat_take(new_run, home, small_base, base, settings):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    end = run_lease(new_run("dora", **settings))
    assert end.type == "finished" and end.values["check"]["ok"], end.values
    assert end.values["loss"] < end.values["loss_before"]
    folder = folder_of(home, "dora")
    magnitudes = {key: value for key, value in load_file(folder / WEIGHTS).items() if "magnitude" in key}
    norms = {f"base_model.model.{path}.lora_magnitude_vector": layer.weight.norm(dim=1)
             for path, layer in base.model.named_modules() if path.endswith("_proj")}
    assert magnitudes and all(not torch.equal(value, norms[key]) for key, value in magnitudes.items())
    stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(small_base, dtype=torch.float32),
                                      folder).eval()
    ours = attached(shell_of(base), read_peft(folder, shape_of(base.facts.config)), shape_of(base.facts.config))
    assert torch.equal(logits(stock), logits(ours))
    assert not torch.allclose(logits(stock), logits(base.model), atol=1e-3)
    lane = Lane(({"role": "user", "content": "Say 3."},), str(folder), Sampling(max_new_tokens=4))
    *_, answers = Answerer(base, lambda one: ready_folder(one, base.facts, home / "kept")).answer([lane])
    assert answers[0].end != "error" and "slower: it has DoRA" in answers[0].note


@pytest.mark.slow
@pytest.mark.parametrize("expanded", [True, False])
def test_with_a_base_in_four_bits_it_trains_and_goes_on_with_the_same_bytes(new_run, home, monkeypatch, expanded):
    if not expanded:
        monkeypatch.setitem(EXPANDED_SHARE, "cpu", 0.0)
    end = run_lease(new_run("straight", method="qlora"))
    assert end.type == "finished" and end.values["check"]["ok"] and end.values["loss"] < end.values["loss_before"]
    assert _after_a_cut(new_run, home, method="qlora") == (folder_of(home, "straight") / WEIGHTS).read_bytes()


def test_an_interrupted_run_ends_with_the_same_bytes(new_run, home):
    run_lease(new_run("straight"))
    assert _after_a_cut(new_run, home) == (folder_of(home, "straight") / WEIGHTS).read_bytes()


def _after_a_cut(new_run, home, **settings):
    run = new_run("cut", **settings)
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder, 9), Lease(checkpoint_every=0))
    assert run.state() == "interrupted" and run_lease(run).type == "finished"
    return (folder_of(home, "cut") / WEIGHTS).read_bytes()


def test_it_is_trained_further_as_dora_whatever_the_settings_say(new_run, home):
    first = run_lease(new_run("first")).values
    run = new_run("second", start_from="first", use_dora=False, max_steps=2)
    assert run.config.use_dora
    assert run_lease(run).values["loss_before"] == pytest.approx(first["loss"], abs=1e-4)
    plain = new_run("third", use_dora=False, max_steps=1)
    run_lease(plain)
    assert not new_run("fourth", start_from="third", max_steps=1).config.use_dora


def test_loralib_has_no_dora():
    with pytest.raises(ValueError, match=r"loralib's layers know no DoRA\. Choose the method"):
        RunConfig.from_settings({"use_dora": True, "method": "loralib"})


def test_fused_split_and_merged_say_the_same(base, shape, tmp_path):
    lora = random_lora(shape, is_dora=True)
    said = logits(attached(shell_of(base), lora, shape))
    apart = split(lora, shape)
    assert {path.rsplit(".", 1)[-1] for path in apart.pairs} == set(SPLIT_NAMES)
    write_peft(apart, tmp_path / "split", shape)
    assert check(tmp_path / "split", base.facts, base).ok
    close(logits(attached(shell_of(base), fused(read_peft(tmp_path / "split", shape), shape), shape)), said)
    merge(lora, base.facts, tmp_path / "merged", "fp32")
    from transformers import AutoModelForCausalLM

    close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()), said)


def test_parts_without_magnitudes_make_no_whole_and_loralib_takes_none(shape):
    with pytest.raises(ValueError, match="DoRA adapter on q_proj, v_proj without k_proj"):
        fused(random_lora(shape, ("q_proj", "v_proj"), is_dora=True), shape)
    with pytest.raises(ValueError, match="loralib's layers have no magnitudes"):
        checkpoint_of(random_lora(shape, is_dora=True), shape)


@pytest.mark.parametrize(("change", "said"), [
    (lambda key, value: None if "magnitude" in key else value, "holds none of DoRA's magnitudes"),
    (lambda key, value: value[:3].clone() if "magnitude" in key else value, r"has magnitudes of \[3\]"),
    (lambda key, value: value * float("nan") if "magnitude" in key else value, "not finite"),
])
def test_magnitudes_that_are_missing_or_wrong_are_refused(base, shape, tmp_path, change, said):
    write_peft(random_lora(shape, is_dora=True), tmp_path / "odd", shape)
    weights = {key: change(key, value) for key, value in load_file(tmp_path / "odd" / WEIGHTS).items()}
    save_file({key: value for key, value in weights.items() if value is not None}, tmp_path / "odd" / WEIGHTS)
    verdict = check(tmp_path / "odd", base.facts)
    assert not verdict.ok
    assert re.search(said, verdict.verdict), verdict.verdict


def test_a_dora_adapter_is_no_plain_one(base, shape, tmp_path):
    write_peft(random_lora(shape, is_dora=True), tmp_path / "a", shape)
    write_peft(random_lora(shape), tmp_path / "b", shape)
    (tmp_path / "b" / "adapter_config.json").replace(tmp_path / "a" / "adapter_config.json")
    assert "holds some of DoRA's magnitudes" in check(tmp_path / "a", base.facts).verdict


def test_more_of_them_than_peft_serves_at_once_are_answered_in_turn_and_asked_alone_say_the_same(base, tmp_path):
    lanes = [Lane(({"role": "user", "content": "hm"},),
                  str(write_random(tmp_path / str(seed), base.facts.config, seed=seed, is_dora=True)),
                  Sampling(max_new_tokens=8)) for seed in range(MOST_BY_PEFT + 2)]
    rounds = itertools.count()

    def stop() -> bool:
        assert next(rounds) < 200, "some lane never ends"
        return False

    looked_at = []
    *_, together = Answerer(base, lambda folder: looked_at.append(folder) or folder).answer(lanes, stop)
    assert len(looked_at) == len(lanes), "whoever waits isn't looked over for every token of the others"
    alone = [list(Answerer(base).answer([lane]))[-1][0] for lane in lanes]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert len({answer.text for answer in together}) > 1


@pytest.mark.parametrize("config", [{"bias": None}, {"eva_config": [1]}, {"corda_config": "x"}])
def test_a_config_that_peft_stumbles_over_ends_its_own_lane_and_no_other(base, tmp_path, config):
    folder = write_random(tmp_path / "odd", base.facts.config, is_dora=True)
    told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps(told | config), encoding="utf-8")
    answerer = Answerer(base, lambda one: ready_folder(one, base.facts, tmp_path / "kept"))
    asked = [Lane(({"role": "user", "content": "hm"},), one, Sampling(max_new_tokens=4)) for one in (None, str(folder))]
    *_, (plain, odd) = answerer.answer(asked)
    assert plain.end != "error" and odd.end == "error" and "could not be loaded" in odd.note
