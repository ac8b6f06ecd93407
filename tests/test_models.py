"""Bases: found by name, refused in a sentence, loaded without remote code, never changed."""

import json
import time

import pytest

from phi3.models import (
    EMBEDDED,
    EMBEDDED_FOLDER,
    Base,
    base_facts,
    chosen_base,
    expanded,
    load_base,
    load_tokenizer,
    shell_of,
)


def test_attention_whose_package_is_missing_is_a_sentence(small_base, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="flash-attn, isn't installed here"):
        load_base(str(small_base), attention="flash_attention_2")


def test_a_folder_laid_out_like_the_public_one_loads_without_its_remote_code(small_base):
    base = load_base(str(small_base))
    assert type(base.model).__name__ == "Phi3ForCausalLM"
    assert len(list(small_base.glob("*.safetensors"))) >= 2
    assert "auto_map" not in base.model.config.to_dict()
    names = base.tokenizer.convert_ids_to_tokens(list(base.stop_tokens))
    assert set(names) == {"<|endoftext|>", "<|assistant|>", "<|end|>"}


def test_nf4_is_four_bits_with_double_quantisation(small_base):
    from bitsandbytes.nn import Linear4bit

    layer = load_base(str(small_base), "nf4").model.model.layers[0].self_attn.qkv_proj
    assert isinstance(layer, Linear4bit)
    assert layer.weight.quant_type == "nf4" and layer.weight.quant_state.nested


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_a_shell_shares_the_weights_and_leaves_the_base_as_it_was(small_base, precision):
    import torch
    from peft import LoraConfig, get_peft_model

    base = load_base(str(small_base), precision)
    before = {name: value.clone() for name, value in base.model.named_parameters()}
    ids = torch.tensor([[1, 2, 3]])
    expected = base.model(ids).logits
    shell = shell_of(base)
    assert torch.equal(shell(ids).logits, expected)
    assert shell.lm_head.weight.data_ptr() == base.model.lm_head.weight.data_ptr()
    wrapped = get_peft_model(shell, LoraConfig(target_modules="all-linear", r=2, task_type="CAUSAL_LM"))
    wrapped(ids, labels=ids).loss.backward()
    assert not any("lora" in name for name, _ in base.model.named_modules())
    after = dict(base.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert torch.equal(base.model(ids).logits, expected)
    assert all(parameter.grad is None for parameter in base.model.parameters())


def test_an_evaluation_before_training_leaves_nf4s_gradients_right(small_base):
    import torch
    from peft import LoraConfig, get_peft_model

    def gradients(evaluate_first: bool) -> torch.Tensor:
        torch.manual_seed(0)
        lora = LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False, task_type="CAUSAL_LM")
        model = get_peft_model(shell_of(load_base(str(small_base), "nf4")), lora)
        ids = torch.arange(40)[None]
        if evaluate_first:
            with torch.no_grad():
                model.eval()(ids)
        model.train()(ids, labels=ids).loss.backward()
        return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])

    assert torch.equal(gradients(evaluate_first=True), gradients(evaluate_first=False))


def test_four_bits_made_whole_once_give_the_same_logits_and_gradients(small_base):
    import torch
    from peft import LoraConfig, get_peft_model

    base = load_base(str(small_base), "nf4")
    before = {name: value.clone() for name, value in base.model.named_parameters()}
    whole = expanded(base)
    ids = torch.arange(40)[None]
    assert whole.precision == "fp32" and not hasattr(whole.model.config, "quantization_config")
    assert torch.allclose(whole.model(ids).logits, base.model(ids).logits, rtol=1e-5, atol=1e-6)
    assert whole.model.lm_head.weight.data_ptr() == base.model.lm_head.weight.data_ptr()

    def gradients(held: Base) -> torch.Tensor:
        torch.manual_seed(0)
        lora = LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False, task_type="CAUSAL_LM")
        model = get_peft_model(shell_of(held), lora)
        model.train()(ids, labels=ids).loss.backward()
        return torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])

    cosine = torch.nn.functional.cosine_similarity(gradients(whole), gradients(base), dim=0)
    assert cosine > 0.99999
    assert all(torch.equal(value, before[name]) for name, value in base.model.named_parameters())


@pytest.mark.parametrize(("kind", "said"), [
    ("phi3small", "only as remote code"), ("phimoe", "another architecture"), ("llama", "model_type llama"),
])
def test_another_architecture_is_refused_with_what_to_choose_instead(tmp_path, kind, said):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ValueError, match=said) as refusal:
        base_facts(str(tmp_path))
    assert EMBEDDED in str(refusal.value)


@pytest.mark.parametrize(("content", "said"), [
    (None, "no config.json"), ("{half", "can't be read as JSON"), ("[1]", "holds no object"),
    ('{"model_type": "phi3"}', "doesn't say its num_hidden_layers"),
])
def test_a_folder_that_is_no_model_is_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=said):
        base_facts(str(tmp_path))


@pytest.mark.parametrize("name", ["not a name", "/no/such/folder", "../up"])
def test_a_name_that_can_be_nothing_is_refused_without_asking_the_hub(name):
    with pytest.raises(ValueError, match="can't be a Hub id"):
        base_facts(name)


def test_an_unreachable_hub_is_said_in_a_sentence_and_soon(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(ValueError, match="Hub can't be reached"):
        base_facts("microsoft/Phi-3-mini-4k-instruct")
    assert time.monotonic() - began < 5  # the Hub's own client would try again for half a minute


def test_weights_that_are_missing_are_said_in_a_sentence(tmp_path, small_base):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((small_base / name).read_bytes())
    with pytest.raises(ValueError, match="could not be read"):
        load_base(str(tmp_path))


def test_the_embedded_base_has_one_canonical_id():
    assert base_facts(EMBEDDED).id == base_facts(str(EMBEDDED_FOLDER)).id == EMBEDDED
    assert len(base_facts(EMBEDDED).revision) == 40


def test_studio_base_names_another_base(monkeypatch):
    monkeypatch.setenv("STUDIO_BASE", "someone/phi")
    assert chosen_base(on_a_gpu=False) == "someone/phi"
    monkeypatch.delenv("STUDIO_BASE")
    assert chosen_base(on_a_gpu=False) == EMBEDDED
    assert chosen_base(on_a_gpu=True).startswith("microsoft/")


def test_a_base_without_a_tokenizer_is_refused(tmp_path, small_base):
    (tmp_path / "config.json").write_bytes((small_base / "config.json").read_bytes())
    with pytest.raises(ValueError, match=r"can't be read: .*\. It needs a tokenizer\.json"):
        load_tokenizer(base_facts(str(tmp_path)))


def test_a_base_without_a_chat_template_is_refused(tmp_path, small_base):
    for source in small_base.iterdir():
        if source.name != "chat_template.jinja":
            (tmp_path / source.name).write_bytes(source.read_bytes())
    with pytest.raises(ValueError, match="no chat template"):
        load_tokenizer(base_facts(str(tmp_path)))
