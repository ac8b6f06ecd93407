"""Base and adapter as one model: the same logits, in bf16 or fp32, in shards, with all that a model's folder needs."""

import json
import tracemalloc

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters.formats import attached, fused, read_peft
from adapters.layers import shape_of
from adapters.merge import merge
from phi3.models import base_facts, load_base
from tests.adapter_folder import SPLIT_NAMES, logits, random_lora, small_phi3


@pytest.fixture(scope="module")
def facts(small_base):
    return base_facts(str(small_base))


def close(one, other):
    """Equal to a hundred-thousandth of the largest logit: sums of fp32 in another order."""
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


def with_adapter(facts, lora):
    shape = shape_of(facts.config)
    return logits(attached(load_base(facts.id).model, fused(lora, shape), shape))


def test_the_merged_model_says_what_base_and_adapter_say(facts, tmp_path):
    lora = random_lora(shape_of(facts.config), (*SPLIT_NAMES, "lm_head", "embed_tokens"))
    made = merge(lora, facts, tmp_path / "merged", "fp32", shard_bytes=200_000)
    assert made.precision == "fp32" and made.layers == 10 and len(made.shards) > 2
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    close(logits(loaded), with_adapter(facts, lora))
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(made.shards)
    assert index["metadata"]["total_size"] == 4 * sum(value.numel() for value in loaded.state_dict().values())


def test_a_base_in_bf16_stays_so_and_every_weight_is_rounded_once(facts, tmp_path):
    lora = random_lora(shape_of(facts.config), ("o_proj",))
    made = merge(lora, facts, tmp_path / "merged")
    assert made.precision == "bf16" and made.shards == ("model.safetensors",)
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    base = load_base(facts.id).model.state_dict()
    for key, value in weights.items():
        path = key.removesuffix(".weight")
        exact = base[key]
        if path in lora.pairs:
            pair = lora.pairs[path]
            exact = torch.addmm(exact, pair.b, pair.a, alpha=pair.scaling)
        assert torch.equal(value, exact.to(torch.bfloat16)), key


def test_the_folder_holds_tokenizer_config_and_card_and_no_code(facts, tmp_path):
    merge(random_lora(shape_of(facts.config)), facts, tmp_path / "mine")
    folder = tmp_path / "mine"
    names = {one.name for one in folder.iterdir()}
    assert names >= {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert not [name for name in names if name.endswith((".py", ".bin"))]
    assert not [one for one in folder.glob("*.json") if "auto_map" in one.read_text()]
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers") and "# mine" in card and str(facts.folder) not in card
    tokenizer = AutoTokenizer.from_pretrained(folder)
    message = [{"role": "user", "content": "Hello"}]
    assert tokenizer.apply_chat_template(message, tokenize=False) == load_base(facts.id).tokenizer.apply_chat_template(
        message, tokenize=False)
    assert base_facts(str(folder)).config["model_type"] == "phi3"


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_a_tied_embedding_and_head_part_when_one_of_them_changes(target, tmp_path):
    tied = small_phi3(tie_word_embeddings=True)
    tied.save_pretrained(tmp_path / "tied")
    facts = base_facts(str(tmp_path / "tied"))
    lora = random_lora(shape_of(facts.config), (target,))
    merge(lora, facts, tmp_path / "merged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert not loaded.config.tie_word_embeddings
    close(logits(loaded), logits(attached(tied, lora, shape_of(facts.config))))


def test_only_a_layer_at_a_time_is_read(tmp_path):
    small_phi3(hidden_size=256, intermediate_size=512, num_hidden_layers=6).save_pretrained(tmp_path / "base")
    facts = base_facts(str(tmp_path / "base"))
    tracemalloc.start()  # it sees what is read from the disk
    merge(random_lora(shape_of(facts.config)), facts, tmp_path / "merged")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole, largest = (tmp_path / "base" / "model.safetensors").stat().st_size, 2 * 512 * 256 * 4
    assert whole > 12 * largest and peak < 4 * largest


def test_what_cannot_be_merged_into_is_refused_and_nothing_is_left(facts, tmp_path, small_base):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((small_base / name).read_bytes())
    lora = random_lora(shape_of(facts.config))
    hollow = base_facts(str(tmp_path))
    with pytest.raises(ValueError, match=r"no file model\.safetensors"):
        merge(lora, hollow, tmp_path / "out")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../elsewhere.safetensors"}}')
    with pytest.raises(ValueError, match=r"no file \.\./elsewhere"):
        merge(lora, hollow, tmp_path / "out")
    (tmp_path / "model.safetensors.index.json").unlink()
    save_file({"model.norm.weight": torch.ones(64)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"hold no model\.layers"):
        merge(lora, hollow, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_the_embedded_base_merges_with_an_adapter_that_ships(tmp_path):
    facts = base_facts("phi3/tiny")
    lora = read_peft(facts.folder / "adapters" / "pirate", shape_of(facts.config))
    merge(lora, facts, tmp_path / "pirate", "fp32")
    close(logits(load_base(str(tmp_path / "pirate")).model), with_adapter(facts, lora))
