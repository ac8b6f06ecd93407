"""From training to somebody else's machine and on: what arrives is what was made, and no row came along."""

import json
import os
import subprocess
import sys

import pytest
import torch

from adapters.card import Story, card_of
from adapters.fetch import Wish, fetch
from adapters.files import CONFIG, read_object
from adapters.hub import Hub
from adapters.library import Library
from adapters.publish import publish
from phi3.models import base_facts
from tests.files import ROOT
from training.config import RunConfig
from training.data import read_text
from training.runs import Runs

CANARY = "canary-91c4"
BASE = "ada/phi-3-small"
ROWS = "\n".join(json.dumps({"messages": [{"role": "user", "content": f"Say {number} {CANARY}."},
                                          {"role": "assistant", "content": f"Arr, {number} {CANARY}!"}]})
                 for number in range(24))
CHAT = """
import sys
from phi3.generate import Answerer, Lane, Sampling
from phi3.models import load_base
words = ({"role": "user", "content": "Ahoy?"},)
lanes = [Lane(words, folder, Sampling(max_new_tokens=4)) for folder in (None, sys.argv[2])]
*_, answers = Answerer(load_base(sys.argv[1])).answer(lanes)
print("ended", *(answer.end for answer in answers))
"""


def test_what_was_trained_and_published_answers_the_same_elsewhere_and_no_row_came_along(test_hub, home, small_base,
                                                                                         tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from training.train import run_lease

    config = RunConfig.from_settings({"base": str(small_base), "name": "captain", "max_steps": 3, "eval_steps": 3,
                                      "learning_rate": 5e-3, "r": 4})
    run = Runs(home).create(config, read_text(ROWS, f"{CANARY}.jsonl"))
    run_lease(run)
    made, token = Library(home).get("captain"), test_hub.token("ada")
    card = card_of(Story("ada/captain", made.provenance, read_object(made.folder / CONFIG)))
    publish(Hub(), made.folder, "captain", token, card, private=False)
    assert CANARY.encode() in (run.folder / "events.jsonl").read_bytes()
    assert CANARY.encode() not in test_hub.everything_that_came()
    assert not any(CANARY.encode() in blob.content for blob in test_hub.repositories["ada/captain"].head.files.values())

    got = fetch(Hub(), Wish.of("ada/captain"), Library(tmp_path / "elsewhere"), base_facts(str(small_base)))
    said = []
    for folder in (made.folder, got.adapter.folder):
        base = AutoModelForCausalLM.from_pretrained(small_base, dtype=torch.float32, trust_remote_code=False)
        with torch.inference_mode():
            plain = base(torch.arange(20)[None]).logits
            said.append(PeftModel.from_pretrained(base, folder).eval()(torch.arange(20)[None]).logits)
    torch.testing.assert_close(said[0], said[1], rtol=1e-5, atol=0)
    assert not torch.allclose(said[0], plain, atol=1e-4)


@pytest.mark.slow
def test_a_base_of_the_hubs_is_trained_on_and_talked_with_and_its_code_is_never_fetched(test_hub, home, small_base,
                                                                                      tmp_path):
    config = json.loads((small_base / "config.json").read_text())
    assert config["auto_map"] and len(list(small_base.glob("*.safetensors"))) >= 2
    test_hub.repository(BASE, {one.name: one.read_bytes() for one in small_base.iterdir()})
    token = test_hub.token("ada")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": token}

    def ran(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stderr
        assert "remote code was run" not in done.stdout + done.stderr
        return done.stdout

    chats = tmp_path / "chats.jsonl"
    chats.write_text(ROWS, encoding="utf-8")
    few = ("--base", BASE, "--data", str(chats), "--max_steps", "2", "--eval_steps", "2", "--json")
    assert '"type": "finished"' in ran("-m", "training", "run", "--name", "mine", *few)
    mine = home / "adapters" / "mine"
    assert json.loads((mine / CONFIG).read_text())["base_model_name_or_path"] == BASE
    assert "ended length length" in ran("-c", CHAT, BASE, str(mine)).replace("stop", "length")
    ran("-m", "adapters", "publish", "mine", "ada/mine", "--private", "--json")
    ran("-m", "training", "run", "--name", "further", "--start_from", "ada/mine", *few)
    told = json.loads((home / "adapters" / "further" / "provenance.json").read_text())["started_from"]["hub"]
    assert told["revision"] == test_hub.repositories["ada/mine"].head.oid and told["repository"] == "ada/mine"
    asked = {one.path.rsplit("/", 1)[-1] for one in test_hub.requests if one.path.startswith(f"/{BASE}/resolve/")}
    assert "config.json" in asked and not any(name.endswith(".py") for name in asked)
