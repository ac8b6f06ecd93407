"""The code of a run: short, whole, and when it is run it makes the same adapter."""

import ast
import json
import subprocess
import sys

import pytest

from adapters.library import Library
from phi3.template import encode_conversation
from tests.phi3_folder import byte_tokenizer
from training.config import RunConfig
from training.data import read_data
from training.runs import Runs
from training.script import script_of

QUICK = {"name": "mine", "max_steps": 12, "eval_steps": 1000, "save_steps": 1000, "r": 4, "lora_dropout": 0.0,
         "learning_rate": 5e-3, "warmup_steps": 1, "lr_scheduler_type": "constant_with_warmup"}


@pytest.mark.parametrize("settings", [{}, {"method": "qlora", "bf16": True}, {"method": "loralib"}, {"held_out": 0},
                                      {"early_stopping": 3}, {"early_stopping": 3, "method": "loralib"},
                                      {"target_modules": "qkv_proj, o_proj", "name": "it's \"mine\""[:3]}])
@pytest.mark.parametrize("data", ["data.parquet", "my chats.jsonl"])
def test_the_script_is_python_and_holds_both_dictionaries(settings, data):
    config = RunConfig.from_settings(settings)
    assert "train: False" not in script_of(config, data)
    tree = ast.parse(script_of(config, data, spares=True))
    values = {node.targets[0].id: node.value for node in tree.body
              if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
    assert ast.literal_eval(values["training_config"]) == config.training_config()
    assert ast.literal_eval(values["peft_config"]) == config.peft_config()


@pytest.mark.parametrize("method", ["lora", "loralib"])
def test_the_script_on_the_embedded_base_says_where_to_take_it_from(method):
    said = "phi3/tiny is not on the Hub"
    assert said in script_of(RunConfig(method=method), "data.parquet")
    assert said not in script_of(RunConfig(method=method, base="microsoft/Phi-3-mini-4k-instruct"), "data.parquet")


def test_the_script_of_a_run_that_trains_an_adapter_further_starts_from_it():
    script = script_of(RunConfig(start_from="pirate"), "data.parquet")
    ast.parse(script)
    assert "PeftModel.from_pretrained(model, 'start', is_trainable=True)" in script
    assert "LoraConfig" not in script and "peft_config=" not in script


def test_before_there_is_a_run_the_script_says_where_the_adapter_is_that_it_starts_from():
    here, there = (script_of(RunConfig(start_from=name), "chats.jsonl") for name in ("pirate", "ada/captain@abc123"))
    assert "# Name its folder: `python -m adapters list --json` has pirate's.\nmodel = PeftModel." in here
    assert "from_pretrained(model, 'ada/captain', revision='abc123', is_trainable=True)" in there
    assert "Name its folder" not in there + script_of(RunConfig(start_from="pirate"), "data.parquet")


def test_a_loralib_script_that_starts_from_pefts_adapter_gives_q_k_and_v_its_one_a_each():
    """loralib has an A for each of the three, three times as many rows."""
    import torch

    class Model:
        def state_dict(self):
            return {"qkv_proj.lora_A": torch.zeros(12, 5), "qkv_proj.lora_B": torch.zeros(9, 4)}

        def load_state_dict(self, loaded, strict):
            self.loaded = loaded

    model, start = Model(), {"qkv_proj.lora_A": torch.rand(4, 5), "qkv_proj.lora_B": torch.rand(9, 4)}
    script = script_of(RunConfig(start_from="pirate", method="loralib"), "data.parquet")
    exec(script.split("\n# Made of the adapter")[1].split("\n", 1)[1].split("\ntrainer = ")[0],
         {"load_file": lambda path: start, "model": model})
    assert torch.equal(model.loaded["qkv_proj.lora_A"], start["qkv_proj.lora_A"].repeat(3, 1))
    assert torch.equal(model.loaded["qkv_proj.lora_B"], start["qkv_proj.lora_B"])


def test_the_script_of_rows_with_spared_answers_learns_the_others_alone():
    """As TRL would tokenise them, by the template that the script writes."""
    from trl.chat_template_utils import get_training_chat_template

    tokenizer = byte_tokenizer()
    lines = script_of(RunConfig(), "data.parquet", spares=True).split("\ntokenizer = ")[1].split("\n", 1)[1]
    exec(lines.split("\nmodel = ")[0],
         {"tokenizer": tokenizer, "get_training_chat_template": get_training_chat_template})
    rows = [("user", "Two?", None), ("assistant", "Three.", False), ("user", "No.", None), ("assistant", "Two.", True)]
    messages = [{"role": role, "content": said, "train": train} for role, said, train in rows]
    theirs = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ours = encode_conversation(tokenizer, messages)
    assert theirs["input_ids"] == ours.input_ids
    learned = [tokenizer.decode([token for token, is_one in zip(ours.input_ids, marks, strict=True) if is_one])
               for marks in (theirs["assistant_masks"], ours.trained)]
    assert "Two." in learned[0] and "Three" not in learned[0] and learned[0].split() == learned[1].split()


def loss_by_script(run, folder):
    """Run the script of a run in this folder, outside the app; the held-out loss that it prints."""
    (folder / "data.parquet").write_bytes((run.folder / "data.parquet").read_bytes())
    (folder / "script.py").write_text(script_of(run.config, "data.parquet", run.spares))
    ran = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=240,
                         check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    *_, printed = [line for line in ran.stdout.splitlines() if line.startswith("{'eval_loss'")]
    return float(ast.literal_eval(printed)["eval_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_script_outside_the_app_makes_what_the_app_makes(home, chats, small_base, tmp_path, method):
    from safetensors.torch import load_file

    from training.train import run_lease

    config = RunConfig.from_settings({**QUICK, "base": str(small_base), "method": method})
    run = Runs(home).create(config, read_data(chats))
    here = run_lease(run).values

    assert loss_by_script(run, tmp_path) == pytest.approx(here["loss"], rel=0.02)

    ours = load_file(Library(home).get("mine").folder / "adapter_model.safetensors")
    theirs = load_file(tmp_path / "mine" / "adapter_model.safetensors")
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
    assert json.loads((tmp_path / "mine" / "adapter_config.json").read_text())["r"] == 4
