"""loralib's layers in a Phi-3: trained alone, saved alone, loaded after the base, and the same as a PEFT adapter."""

import zipfile

import loralib
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from adapters.formats import attached, fused, split, write_peft
from adapters.layers import shape_of
from adapters.loralib_files import (
    Checkpoint,
    checkpoint_of,
    convolutions_of,
    lora_of,
    read_checkpoint,
    write_checkpoint,
)
from adapters.loralib_layers import layers_for, load_lora_weights, lora_weights, put_loralib
from tests.adapter_folder import FUSED_NAMES, SIZES, logits, random_lora, small_phi3

EVERYTHING = (*FUSED_NAMES, "embed_tokens", "lm_head")
QUERIES_AND_VALUES = ("q_proj", "v_proj")


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5)


def trained(model):
    """The model with loralib's matrices as after a training: none of them zero."""
    torch.manual_seed(3)
    for name, value in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(value.data, std=0.2)
    return model


def with_loralib(targets=EVERYTHING, r=3, alpha=6, merge_weights=False, **sizes):
    phi3 = small_phi3(**sizes)
    layers = layers_for(shape_of(phi3.config.to_dict()), targets, r, alpha)
    return trained(put_loralib(phi3, layers, merge_weights=merge_weights)), layers


def test_the_layers_are_loralibs_own_and_begin_as_the_base_speaks():
    phi3 = small_phi3()
    layers = layers_for(shape_of(phi3.config.to_dict()), EVERYTHING, 3, 6)
    model = put_loralib(phi3, layers)
    close(logits(model), logits(small_phi3()))
    first = model.model.layers[0]
    assert type(first.self_attn.qkv_proj) is loralib.MergedLinear and first.self_attn.qkv_proj.enable_lora == [True] * 3
    assert type(first.self_attn.o_proj) is type(first.mlp.gate_up_proj) is loralib.Linear
    assert type(model.model.embed_tokens) is loralib.Embedding


def test_only_lora_is_trained_and_only_lora_is_saved():
    model, _ = with_loralib()
    named = {name for name, value in model.named_parameters() if value.requires_grad}
    assert named and named == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert named == lora_weights(model).keys()


def test_a_step_of_training_changes_lora_and_leaves_the_base(tmp_path):
    base = small_phi3()
    layers = layers_for(shape_of(base.config.to_dict()), EVERYTHING, 3, 6)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = put_loralib(base, layers, dropout=0.1).train()
    start = lora_weights(model)
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], 0.5)
    tokens = torch.arange(12)[None]
    for _ in range(2):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(not torch.equal(value, after[name]) for name, value in start.items())


def test_merged_and_unmerged_say_the_same():
    model, _ = with_loralib(merge_weights=True)
    beside = logits(model.train())
    merged = logits(model.eval())
    assert model.model.layers[0].self_attn.qkv_proj.merged
    close(merged, beside)
    close(logits(model.train()), beside)


def test_a_checkpoint_is_loaded_after_the_base_and_says_what_had_no_place():
    model, layers = with_loralib()
    weights = lora_weights(model)
    other = put_loralib(small_phi3(), layers, merge_weights=True)
    assert load_lora_weights(other, weights).sentence() == ""
    close(logits(other.eval()), logits(model))
    some = {name: value for name, value in weights.items() if "o_proj" not in name}
    some["model.stray.lora_A"] = torch.ones(1)
    loaded = load_lora_weights(other, some)
    assert len(loaded.missing) == 4 and all("o_proj" in name for name in loaded.missing)
    assert loaded.unexpected == ("model.stray.lora_A",)
    assert loaded.sentence().startswith("4 keys missing: ") and "1 keys unexpected: model.stray" in loaded.sentence()
    with pytest.raises(ValueError, match="doesn't fit these layers"):
        load_lora_weights(other, {name: value[:1] for name, value in weights.items()})


@pytest.mark.parametrize("targets", [EVERYTHING, QUERIES_AND_VALUES, ("k_proj", "down_proj"), ("up_proj",)])
def test_a_checkpoint_becomes_an_adapter_of_the_same_logits_and_comes_back_to_the_bit(targets, tmp_path):
    model, layers = with_loralib(targets)
    shape = shape_of(SIZES)
    said = logits(model)
    write_checkpoint(Checkpoint(lora_weights(model), layers), tmp_path / "loralib")
    read = read_checkpoint(tmp_path / "loralib", shape)
    assert read.layers == layers
    write_peft(fused(lora_of(read), shape), tmp_path / "peft", shape)
    close(logits(PeftModel.from_pretrained(small_phi3(), tmp_path / "peft")), said)
    back = checkpoint_of(fused(lora_of(read), shape), shape)
    assert back.layers == layers
    assert all(torch.equal(back.weights[name], value) for name, value in read.weights.items())


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_any_plain_adapter_becomes_a_checkpoint_of_the_same_logits(heads, rank_stabilised):
    phi3 = small_phi3(num_key_value_heads=heads)
    shape = shape_of(phi3.config.to_dict())
    lora = random_lora(shape, ("q_proj", "v_proj", *FUSED_NAMES[1:]), ranks=(2, 3), alphas=(4, 5),
                       rank_stabilised=rank_stabilised)
    made = checkpoint_of(lora, shape)
    model = put_loralib(small_phi3(num_key_value_heads=heads), made.layers)
    assert load_lora_weights(model, made.weights).sentence() == ""
    close(logits(model), logits(attached(phi3, fused(lora, shape), shape)))


def test_grouped_heads_take_a_linear_and_parts_of_them_are_refused():
    grouped = shape_of(SIZES | {"num_key_value_heads": 2})
    assert {how.kind for how in layers_for(grouped, ("qkv_proj",), 3, 6).values()} == {"Linear"}
    with pytest.raises(ValueError, match="unequal width"):
        layers_for(grouped, ("q_proj",), 3, 6)
    with pytest.raises(ValueError, match="as a whole and in parts"):
        layers_for(grouped, ("qkv_proj", "q_proj"), 3, 6)
    with pytest.raises(ValueError, match="no layer c_attn"):
        layers_for(grouped, ("c_attn",), 3, 6)


def test_a_bare_state_dict_is_read_with_what_it_does_not_say(tmp_path):
    model, layers = with_loralib(EVERYTHING)
    torch.save(loralib.lora_state_dict(model), tmp_path / "lora.pt")
    read = read_checkpoint(tmp_path / "lora.pt", shape_of(SIZES), lora_alpha=6)
    assert read.layers == layers and read.says_alpha
    assert not read_checkpoint(tmp_path / "lora.pt", shape_of(SIZES)).says_alpha
    two, layers = with_loralib(QUERIES_AND_VALUES)
    torch.save(loralib.lora_state_dict(two), tmp_path / "two.pt")
    with pytest.raises(ValueError, match="2 of q_proj, k_proj, v_proj switched on"):
        read_checkpoint(tmp_path / "two.pt", shape_of(SIZES), lora_alpha=6)
    assert read_checkpoint(tmp_path / "two.pt", shape_of(SIZES), 6, QUERIES_AND_VALUES).layers == layers


class Mischief:
    """Pickles as a call of `print`."""

    def __reduce__(self):
        return print, ("code was run",)


def test_a_checkpoint_that_cannot_be_trusted_is_refused(tmp_path, capsys):
    shape, file = shape_of(SIZES), tmp_path / "lora.pt"
    path = "model.layers.0.self_attn.o_proj"

    def refused(content, match):
        torch.save(content, file)
        with pytest.raises(ValueError, match=match):
            read_checkpoint(file, shape)

    refused({"a": Mischief()}, "can't be opened as plain tensors")
    refused([1, 2], "something else than a state dict")
    refused({f"{path}.lora_A": torch.ones(2, 32)}, "only one of")
    refused({f"{path}.weight": torch.ones(2, 32)}, "no tensors named lora_A")
    refused({f"{path}.lora_A": torch.ones(2, 31), f"{path}.lora_B": torch.ones(32, 2)}, "fit no Linear of rank 2")
    # A stride of 0 makes one stored number look like a billion; nothing may be computed with it.
    huge = torch.ones(1).expand(10**6, 32 * 10**3)
    refused({f"{path}.lora_A": huge, f"{path}.lora_B": torch.ones(32, 2)}, "fit no Linear")
    refused({f"{path}.lora_A": torch.full((2, 32), torch.nan), f"{path}.lora_B": torch.ones(32, 2)}, "not finite")
    refused({"model.layers.9.self_attn.o_proj.lora_A": torch.ones(2, 32),
             "model.layers.9.self_attn.o_proj.lora_B": torch.ones(32, 2)}, "doesn't have")
    with zipfile.ZipFile(file) as whole:
        parts = {part.filename: whole.read(part) for part in whole.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as squeezed:
        for name, content in parts.items():
            squeezed.writestr(name, content)
    with pytest.raises(ValueError, match="is compressed"):
        read_checkpoint(file, shape)
    file.write_bytes(b"\x80\x04]q\x00.")
    with pytest.raises(ValueError, match=r"torch\.save"):
        read_checkpoint(file, shape)
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize("body", [b"", b"\x80\x02.", b"\x80\x02t.", b"\x80\x02]R."])
def test_a_checkpoint_whose_pickle_is_damaged_is_refused_in_a_sentence(tmp_path, body):
    path = tmp_path / "lora.pt"
    with zipfile.ZipFile(path, "w") as parts:
        for name, content in (("data.pkl", body), ("version", b"3\n"), ("byteorder", b"little")):
            parts.writestr(f"archive/{name}", content)
    with pytest.raises(ValueError, match="can't be opened as plain tensors"):
        read_checkpoint(path, shape_of(SIZES))


def test_an_alpha_of_nought_is_refused(tmp_path):
    with pytest.raises(ValueError, match="alpha is 0, and should be a number"):
        read_checkpoint(tmp_path / "lora.pt", shape_of(SIZES), 0)


def test_what_stands_beside_a_checkpoint_is_not_trusted_either(tmp_path):
    model, layers = with_loralib(("o_proj",))
    write_checkpoint(Checkpoint(lora_weights(model), layers), tmp_path / "made")
    about = tmp_path / "made" / "lora.json"
    for wrong, right in (('"r": 3', '"r": 4'), ('"r": 3', '"r": "x"'), ('"Linear"', '"Conv9d"'), (": 6", ": 1e99")):
        kept = about.read_text()
        about.write_text(kept.replace(wrong, right))
        with pytest.raises(ValueError, match=r"fit no Linear|says nothing usable"):
            read_checkpoint(tmp_path / "made", shape_of(SIZES))
        about.write_text(kept)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_conv2d_says_the_same_in_peft(kernel):
    torch.manual_seed(0)
    own = loralib.Conv2d(5, 7, kernel, r=2, lora_alpha=6, padding=1)
    for matrix in (own.lora_A, own.lora_B):
        nn.init.normal_(matrix.data)
    picture = torch.randn(2, 5, 8, 8)
    a, b = convolutions_of(own.lora_A.detach(), own.lora_B.detach(), kernel)
    plain = nn.Sequential(nn.Conv2d(5, 7, kernel, padding=1))
    plain[0].load_state_dict(own.conv.state_dict())
    rank = a.shape[0]
    peft = get_peft_model(plain, LoraConfig(r=rank, lora_alpha=6 / 2 * rank, target_modules=["0"]))
    layer = peft.base_model.model[0]
    layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = a, b
    with torch.no_grad():
        beside = own(picture)
        close(peft.eval()(picture), beside)
        own.eval()
        close(own(picture), beside)


class Quantised(nn.Linear):
    """A kind of Linear that isn't plain, as bitsandbytes' Linear4bit is."""


def test_a_four_bit_layer_is_refused_in_a_sentence():
    phi3 = small_phi3()
    phi3.model.layers[0].self_attn.o_proj = Quantised(32, 32)
    with pytest.raises(ValueError, match="is a Quantised, and loralib replaces plain layers only"):
        put_loralib(phi3, layers_for(shape_of(SIZES), ("o_proj",), 2, 2))


def test_a_loralib_run_reaches_servers_that_want_split_names():
    model, layers = with_loralib(QUERIES_AND_VALUES)
    shape = shape_of(SIZES)
    lora = lora_of(Checkpoint(lora_weights(model), layers))
    apart = split(fused(lora, shape), shape)
    assert {path.rsplit(".", 1)[-1] for path in apart.pairs} == set(QUERIES_AND_VALUES)
    close(logits(attached(small_phi3(), fused(apart, shape), shape)), logits(model))
