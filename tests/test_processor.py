"""A base that no cache holds is held and computed in bf16 on a processor, in chat as in training."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from adapters.library import Library
from phi3.decoder import Decoder
from phi3.generate import Answerer, Lane, Sampling
from phi3.models import EMBEDDED, Base, base_facts, load_base, quantised, usual_precision
from phi3.packed import Packed
from phi3.slots import Mix, Slots
from phi3.template import encode_prompt
from tests.interrupted import Interrupted
from tests.phi3_folder import make_phi3_folder
from training.train import Lease, run_lease

SETTINGS = {"max_steps": 6, "eval_steps": 3, "save_steps": 3, "learning_rate": 5e-3, "r": 4, "bf16": True,
            "per_device_train_batch_size": 4}
# Many words make many weights, and hardly more work.
WORDS = 70_000
# bf16 keeps three digits.
LEAST_COSINE = 0.999


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_phi3_folder(tmp_path_factory.mktemp("bases") / "many-words", vocab_size=WORDS)


@pytest.fixture(scope="module")
def base(folder) -> Base:
    return load_base(str(folder), device="cpu")


@pytest.fixture
def make_run(new_run, folder):
    return partial(new_run, base=str(folder))


def test_only_a_base_that_the_caches_hold_is_wider_than_it_was_published(base, folder):
    embedded = base_facts(EMBEDDED).shape
    assert embedded.is_small and not base.facts.shape.is_small
    assert usual_precision(embedded, "cpu") == "fp32" and usual_precision(embedded, "cuda") == "bf16"
    assert base.precision == "bf16" and {value.dtype for value in base.model.parameters()} == {torch.bfloat16}
    assert load_base(str(folder), "fp32", "cpu").model.dtype is torch.float32, "where it is asked for"
    for layer in quantised(base).model.modules():
        assert type(layer).__name__ != "Linear4bit" or layer.compute_dtype is torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
def test_lanes_compute_what_stock_peft_computes(base, make_run, home, count):
    from peft import PeftModel

    from phi3.models import shell_of

    run_lease(make_run("parrot"))
    adapter = Library(home).get("parrot").folder
    theirs = PeftModel.from_pretrained(shell_of(base), str(adapter), autocast_adapter_dtype=False).eval()
    slots = Slots(base)
    slots.use(Mix((slots.load("pirate", adapter),) + (0,) * (count - 1), (1.0,) * count))
    decoder = Decoder(slots.model)
    rows = [encode_prompt(base.tokenizer, [{"role": "user", "content": text}]) for text in ("Say 7.", "Who?", "", "!")]
    with torch.inference_mode():
        decoder.read(rows[:count])
        ours = decoder.step([9] * count)
        expected = [model(torch.tensor([[*row, 9]])).logits[0, -1] for model, row in
                    zip((theirs, *[base.model] * 3), rows[:count], strict=False)]
    cosines = torch.cosine_similarity(ours.float(), torch.stack(expected).float(), dim=-1)
    assert ours.dtype is torch.bfloat16 and cosines.min() > LEAST_COSINE


def test_answers_are_the_same_alone_and_in_company(base):
    lanes = [Lane(({"role": "user", "content": text},), None, Sampling(max_new_tokens=9)) for text in ("Hi", "Why?")]
    *_, together = Answerer(base).answer(lanes)
    for lane, one in zip(lanes, together, strict=True):
        *_, (alone,) = Answerer(base).answer([lane])
        assert alone.text == one.text and not one.note


@pytest.mark.parametrize(("method", "settings"), [
    ("lora", {}), ("qlora", {}), pytest.param("loralib", {}, marks=pytest.mark.slow),
    pytest.param("lora", {"use_dora": True}, marks=pytest.mark.slow),
    pytest.param("lora", {"gradient_checkpointing": True, "lora_dropout": 0.0}, marks=pytest.mark.slow)])
def test_every_method_learns_in_it(make_run, home, method, settings):
    run = make_run("mine", method=method, **settings)
    end = run_lease(run).values
    assert end["loss"] < end["loss_before"] - 0.3 and end["check"]["ok"]
    plan = json.loads((run.folder / "plan.json").read_text())
    assert plan["precision"] == ("nf4" if method == "qlora" else "bf16")
    assert [name.endswith(", bf16") for name in json.loads((home / "speeds.json").read_text())] == [True]


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bytes(make_run, home):
    run_lease(make_run("whole"))
    cut = make_run("cut")
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(cut.folder, 7), Lease(checkpoint_every=0))
    assert run_lease(cut).type == "finished"
    files = [Library(home).get(name).folder / "adapter_model.safetensors" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_its_gradients_are_those_of_float32(base, folder):
    from peft import LoraConfig, get_peft_model

    from phi3.learner import Learner
    from phi3.models import shell_of

    config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    packed = Packed.of([(range(10, 90), range(10, 90)), (range(40, 60), range(40, 60))])
    found = []
    for one in (base, load_base(str(folder), "fp32", "cpu")):
        torch.manual_seed(0)
        model = get_peft_model(shell_of(one), config)
        Learner(model).loss(packed).backward()
        found.append(torch.cat([value.grad.flatten() for value in model.parameters() if value.requires_grad]))
    assert torch.cosine_similarity(*found, dim=0) > LEAST_COSINE
