"""Fused and split adapters say the same, to stock PEFT as well, whatever their ranks, alphas and layers."""

import json
import random

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from adapters.formats import Lora, attached, fused, merged_weight, read_peft, split, write_peft
from adapters.layers import FUSED, last_name, shape_of
from tests.adapter_folder import FUSED_NAMES, SIZES, SPLIT_NAMES, logits, random_lora, small_phi3, unfused

EQUAL, GROUPED = 4, 2  # heads of k and v, of four of q


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5)


def same(one: Lora, other: Lora) -> bool:
    return one.pairs.keys() == other.pairs.keys() and all(
        torch.equal(pair.a, other.pairs[path].a) and torch.equal(pair.b, other.pairs[path].b)
        and pair.scaling == pytest.approx(other.pairs[path].scaling, rel=1e-12) for path, pair in one.pairs.items())


@pytest.fixture(scope="module", params=[EQUAL, GROUPED], ids=["equal heads", "grouped heads"])
def phi3(request):
    return small_phi3(num_key_value_heads=request.param)


def shape_for(model):
    return shape_of(model.config.to_dict())


def test_a_split_adapter_of_plain_peft_says_the_same_on_the_fused_base(phi3, tmp_path):
    twin = unfused(phi3)
    close(logits(twin), logits(phi3))
    torch.manual_seed(1)
    made = get_peft_model(twin, LoraConfig(r=3, lora_alpha=7, target_modules=list(SPLIT_NAMES), task_type="CAUSAL_LM",
                                           init_lora_weights=False)).eval()
    made.save_pretrained(tmp_path / "made")
    shape = shape_for(phi3)
    write_peft(fused(read_peft(tmp_path / "made", shape), shape), tmp_path / "fused", shape)
    loaded = PeftModel.from_pretrained(small_phi3(num_key_value_heads=phi3.config.num_key_value_heads),
                                       tmp_path / "fused")
    close(logits(loaded), logits(made))
    assert not torch.allclose(logits(made), logits(phi3), atol=0.01)


def test_a_fused_adapter_says_the_same_on_an_unfused_base(phi3, tmp_path):
    shape = shape_for(phi3)
    lora = random_lora(shape)
    write_peft(split(lora, shape), tmp_path / "split", shape)
    on_twin = PeftModel.from_pretrained(unfused(phi3), tmp_path / "split")
    whole = attached(small_phi3(num_key_value_heads=phi3.config.num_key_value_heads), lora, shape)
    close(logits(on_twin), logits(whole))


@pytest.mark.parametrize("seed", range(6))
def test_any_adapter_says_the_same_fused_and_split(seed, tmp_path):
    draw = random.Random(seed)
    heads = draw.choice([EQUAL, GROUPED])
    phi3 = small_phi3(num_key_value_heads=heads)
    shape = shape_for(phi3)
    names = draw.choice([SPLIT_NAMES, FUSED_NAMES, ("qkv_proj", "gate_proj", "up_proj")])
    lora = random_lora(shape, draw.sample(names, draw.randint(1, len(names))), ranks=draw.sample([1, 2, 3, 5, 8], 3),
                       alphas=draw.sample([1, 4, 6, 16], draw.randint(1, 2)), rank_stabilised=draw.random() < 0.5,
                       seed=seed)
    write_peft(split(lora, shape), tmp_path / "split", shape)
    write_peft(fused(lora, shape), tmp_path / "fused", shape)
    on_twin = PeftModel.from_pretrained(unfused(phi3), tmp_path / "split")
    on_phi3 = PeftModel.from_pretrained(small_phi3(num_key_value_heads=heads), tmp_path / "fused")
    close(logits(on_twin), logits(on_phi3))
    assert not torch.allclose(logits(on_phi3), logits(phi3), atol=0.01)


@pytest.mark.parametrize("heads", [EQUAL, GROUPED])
def test_there_and_back_is_the_same_adapter_to_the_bit(heads, tmp_path):
    shape = shape_of(SIZES | {"num_key_value_heads": heads})
    whole = random_lora(shape, FUSED_NAMES, ranks=(3, 5), alphas=(6,), rank_stabilised=True)
    assert same(fused(split(whole, shape), shape), whole)
    parts = random_lora(shape, SPLIT_NAMES, ranks=(3,), alphas=(6,))
    assert same(split(fused(parts, shape), shape), parts)
    some = random_lora(shape, ("q_proj", "v_proj"), ranks=(2,))
    assert same(split(fused(some, shape), shape), some)
    write_peft(whole, tmp_path / "whole", shape)
    assert same(read_peft(tmp_path / "whole", shape), whole)


def test_what_is_alike_needs_no_patterns(tmp_path):
    shape = shape_of(SIZES)
    write_peft(split(random_lora(shape, ranks=(4,), alphas=(8,)), shape), tmp_path / "plain", shape)
    config = json.loads((tmp_path / "plain" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (4, 8, {}, {})
    assert sorted(config["target_modules"]) == sorted(SPLIT_NAMES)
    assert config["base_model_name_or_path"] == "someone/phi-3" and config["inference_mode"]


def test_layers_that_differ_are_named_and_scaled_alike(tmp_path):
    shape = shape_of(SIZES)
    lora = random_lora(shape, ("q_proj", "k_proj", "v_proj", "o_proj"), ranks=(4,), alphas=(8,))
    write_peft(fused(lora, shape), tmp_path / "mixed", shape)
    config = json.loads((tmp_path / "mixed" / "adapter_config.json").read_text())
    ranks = {name: config["rank_pattern"].get(name, config["r"]) for name in ("qkv_proj", "o_proj")}
    alphas = {name: config["alpha_pattern"].get(name, config["lora_alpha"]) for name in ("qkv_proj", "o_proj")}
    assert ranks == {"qkv_proj": 12, "o_proj": 4}
    # Servers that know no patterns divide the one alpha by the one rank: that comes to the same.
    assert {alphas[name] / ranks[name] for name in ranks} == {config["lora_alpha"] / config["r"]} == {2.0}


def test_some_layers_alone_are_named_by_their_paths(tmp_path):
    shape = shape_of(SIZES)
    lora = random_lora(shape, ("qkv_proj",))
    first = Lora({path: pair for path, pair in lora.pairs.items() if ".0." in path}, lora.settings)
    write_peft(first, tmp_path / "first", shape)
    config = json.loads((tmp_path / "first" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["model.layers.0.self_attn.qkv_proj"]
    loaded = PeftModel.from_pretrained(small_phi3(), tmp_path / "first")
    close(logits(loaded), logits(attached(small_phi3(), first, shape)))


@pytest.mark.parametrize("targets", [("embed_tokens", "lm_head", "qkv_proj"), ("down_proj",), SPLIT_NAMES])
def test_merged_and_beside_the_base_say_the_same(targets):
    phi3, beside = small_phi3(), small_phi3()
    shape = shape_for(phi3)
    lora = fused(random_lora(shape, targets), shape)
    with torch.no_grad():
        for path, pair in lora.pairs.items():
            weight = phi3.get_submodule(path).weight
            weight.copy_(merged_weight(weight, pair, path))
    close(logits(phi3), logits(attached(beside, lora, shape)))


def test_a_layer_named_whole_and_in_parts_is_refused():
    shape = shape_of(SIZES)
    both = {**random_lora(shape, ("qkv_proj",)).pairs, **random_lora(shape, ("q_proj",)).pairs}
    with pytest.raises(ValueError, match="no model has both"):
        fused(Lora(both, random_lora(shape).settings), shape)


def test_a_folder_that_holds_something_is_not_written_over(tmp_path):
    shape = shape_of(SIZES)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="there already"):
        write_peft(random_lora(shape), tmp_path / "there", shape)
    assert [one.name for one in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("sizes", [
    {"hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 32},
    {"hidden_size": 5120, "intermediate_size": 17920, "num_attention_heads": 40, "num_key_value_heads": 10},
    {"hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 24, "num_key_value_heads": 8,
     "partial_rotary_factor": 0.75, "tie_word_embeddings": True, "vocab_size": 200064},
], ids=["Phi-3-mini", "Phi-3-medium and Phi-4", "Phi-4-mini"])
def test_every_layer_of_the_family_has_the_size_that_it_has_in_transformers(sizes):
    with torch.device("meta"):
        model = small_phi3(**sizes)
    shape = shape_for(model)
    for path in shape.paths((*FUSED_NAMES, "lm_head")):
        assert shape.size_of(path) == tuple(model.get_submodule(path).weight.shape)
    assert shape.size_of("model.embed_tokens") == tuple(model.model.embed_tokens.weight.T.shape)
    assert shape.has_equal_parts("qkv_proj") == (sizes["num_attention_heads"] == sizes["num_key_value_heads"])


def test_the_fused_projections_rows_are_q_then_k_then_v_then_gate_then_up():
    shape = shape_of(SIZES | {"num_key_value_heads": GROUPED})
    assert shape.parts("qkv_proj") == {"q_proj": slice(0, 32), "k_proj": slice(32, 48), "v_proj": slice(48, 64)}
    assert shape.parts("gate_up_proj") == {"gate_proj": slice(0, 48), "up_proj": slice(48, 96)}
    assert not shape.has_equal_parts("qkv_proj") and shape.has_equal_parts("gate_up_proj")
    modules = dict(small_phi3(num_key_value_heads=GROUPED).named_modules())
    for path in shape.paths((*FUSED, "o_proj", "down_proj")):
        assert shape.size_of(path) == (modules[path].out_features, modules[path].in_features)
    assert shape.size_of("model.layers.2.self_attn.q_proj") is None, "there are two layers"
    assert shape.size_of("model.layers.0.mlp.q_proj") is None and last_name("lm_head") == "lm_head"
