"""The methods of training: PEFT's layers and loralib's end as the same kind of adapter."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from adapters.check import check
from adapters.library import Library
from phi3.models import base_facts, load_base
from tests.interrupted import Interrupted
from tests.test_script import loss_by_script
from training.evaluate import read_evaluation
from training.runs import Runs
from training.train import Lease, run_lease

SETTINGS = {"method": "loralib", "max_steps": 6, "eval_steps": 3, "save_steps": 2, "learning_rate": 5e-3, "r": 4,
            "lora_dropout": 0.1, "per_device_train_batch_size": 4}


def weights(home, name):
    return (Library(home).get(name).folder / "adapter_model.safetensors").read_bytes()


def test_loralib_trains_an_adapter_that_fits_and_checks_out(new_run, home, small_base):
    end = run_lease(new_run("classic"))
    assert end.type == "finished" and end.values["check"]["ok"], end.values
    assert end.values["loss"] < end.values["loss_before"]
    base = load_base(base_facts(str(small_base)).id)
    verdict = check(Library(home).get("classic").folder, base.facts, base)
    assert verdict.ok and not verdict.unmatched


def test_its_checkpoint_holds_lora_weights_alone(new_run):
    run = new_run("small", max_steps=2)
    run_lease(run)
    folder = run.folder / "checkpoints" / "step-2"
    kept = load_file(folder / "loralib" / "lora.safetensors")
    assert kept and all(name.endswith((".lora_A", ".lora_B")) for name in kept)
    assert not list(folder.glob("model*")) and not list(folder.glob("adapter_model*"))


@pytest.mark.parametrize("after", [7, pytest.param(12, marks=pytest.mark.slow)])
def test_an_interrupted_loralib_run_ends_with_the_same_bytes(new_run, home, after):
    run_lease(new_run("straight"))
    run = new_run("cut")
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder, after), Lease(checkpoint_every=0))
    assert run_lease(run).type == "finished"
    assert weights(home, "cut") == weights(home, "straight")


@pytest.mark.parametrize("settings", [{"use_rslora": True}, {"target_modules": "qkv_proj, down_proj"},
                                      {"gradient_checkpointing": True}])
def test_the_adapter_gives_stock_pefts_model_the_logits_that_were_trained(new_run, home, small_base, settings):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from training.methods import Loralib

    run = new_run("same", max_steps=3, **settings)
    run_lease(run)
    base = load_base(base_facts(str(small_base)).id)
    method = Loralib(run.config, base)
    trained = method.model().eval()
    method.load(trained, run.folder / "checkpoints" / "step-3")
    stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(small_base, dtype=torch.float32),
                                      Library(home).get("same").folder).eval()
    ids = torch.arange(3, 40)[None] % base.facts.config["vocab_size"]
    with torch.inference_mode():
        assert torch.allclose(trained(ids).logits, stock(ids).logits, atol=1e-4)
        assert not torch.allclose(base.model(ids).logits, stock(ids).logits, atol=1e-3)


def test_an_adapter_of_pefts_is_trained_further_with_loralib(new_run, home):
    run_lease(new_run("first", method="lora", max_steps=2))
    end = run_lease(new_run("second", start_from="first", max_steps=2))
    assert end.type == "finished"
    assert end.values["loss_before"] < next(event for event in Runs(home).all()[-1].events()
                                            if event.type == "evaluated").values["loss"]


def test_an_adapter_whose_base_is_elsewhere_on_this_disk_is_trained_further(new_run, home, small_base, tmp_path):
    """As where it came from another machine, or from the Hub, which is told no more than a folder's last name."""
    run_lease(new_run("first", method="lora", max_steps=1))
    moved = shutil.copytree(small_base, tmp_path / small_base.name)
    assert [one.name for one in Library(home, base=str(moved)).suited()] == ["first"]
    assert run_lease(new_run("second", start_from="first", base=str(moved), max_steps=1)).type == "finished"
    other = shutil.copytree(small_base, tmp_path / "other-phi3")
    assert Library(home, base=str(other)).suited() == []
    with pytest.raises(ValueError, match=r"first is an adapter for .*small-phi3, and this run's base is .*other-phi3"):
        new_run("third", start_from="first", base=str(other))


@pytest.mark.parametrize(("method", "settings"), [
    ("lora", {}), ("loralib", {"use_rslora": True, "target_modules": "qkv_proj, o_proj", "r": 2})])
def test_an_adapter_of_loralibs_is_trained_further_by_loralib(new_run, home, method, settings):
    first = new_run("first", max_steps=2, **settings)
    ended = run_lease(first).values
    second = new_run("second", method=method, start_from="first", max_steps=2)
    config = second.config
    assert (config.method, config.r, config.lora_alpha, config.use_rslora) == \
        ("loralib", first.config.r, first.config.lora_alpha, first.config.use_rslora)
    assert run_lease(second).values["loss_before"] == pytest.approx(ended["loss"], rel=1e-3)
    with pytest.raises(ValueError, match="first was made by loralib, which trains no 4-bit base"):
        new_run("third", method="qlora", start_from="first")


@pytest.mark.parametrize("pattern", [{"alpha_pattern": {"o_proj": 64}}, {"rank_pattern": {"o_proj": 2}}])
def test_an_adapter_whose_layers_no_method_makes_so_is_not_trained_further(new_run, home, pattern):
    run_lease(new_run("first", method="lora", max_steps=1))
    config = Library(home).get("first").folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **pattern}))
    with pytest.raises(ValueError, match=f"first can't be trained further here: it uses {next(iter(pattern))}"):
        new_run("second", start_from="first")


@pytest.mark.parametrize("method", ["lora", "loralib"])
def test_an_adapter_that_is_trained_further_is_compared_with_what_it_was(new_run, home, method):
    first = new_run("first", method="lora", max_steps=2)
    run_lease(first)
    second = new_run("second", method=method, start_from="first", max_steps=2, learning_rate=0.02)
    run_lease(second)
    was, now = read_evaluation(first.folder), read_evaluation(second.folder)
    assert now.continued and not was.continued
    assert now.general.before == pytest.approx(was.general.adapter, abs=1e-4) != was.general.before
    assert now.general.adapter != pytest.approx(now.general.before, abs=1e-4)


@pytest.mark.slow
def test_the_script_of_a_loralib_run_makes_what_the_run_made(new_run, home, tmp_path):
    run = new_run("scripted", max_steps=8, lora_dropout=0.0, eval_steps=100)
    here = run_lease(run).values
    assert loss_by_script(run, tmp_path) == pytest.approx(here["loss"], rel=0.02)
    kept = torch.load(tmp_path / "scripted" / "lora.pt", weights_only=True)
    assert all("lora_" in name for name in kept)
