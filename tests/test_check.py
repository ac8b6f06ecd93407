"""An adapter is looked over before it is used: what is unsafe, doesn't fit or does nothing is refused in a sentence."""

import json
import os
import random
import time

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from adapters.check import MOST_CONVERTED, about, check, demand, logits_moved, ready_folder
from adapters.files import MOST_FILES, wanted
from adapters.formats import attached, fused, read_peft
from adapters.layers import shape_of
from adapters.peft_config import BEYOND, INERT, READ, settings_from
from phi3.models import base_facts, load_base, shell_of
from phi3.slots import Slots
from tests.adapter_folder import FUSED_NAMES, SPLIT_NAMES, logits, write_random

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BOMB = "(([a-z._0-9]+)+)+!"
# Within so many seconds, once everything is imported, an adapter is refused or loads.
SECONDS = 2


@pytest.fixture(scope="module")
def base(small_base):
    return load_base(str(small_base))


@pytest.fixture
def sound(base, tmp_path):
    """An adapter that there is nothing to say against."""
    return write_random(tmp_path / "sound", base.facts.config, base=base.facts.id, revision=base.facts.revision)


def reconfigured(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))
    return folder


def reweighed(folder, change):
    """The folder with its tensors as `change` makes them of a dictionary."""
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def refusal(folder, facts):
    """The one sentence, which comes fast and says something on stderr."""
    began = time.monotonic()
    verdict = check(folder, facts)
    assert time.monotonic() - began < SECONDS
    assert not verdict.ok and verdict.verdict and "\n" not in verdict.verdict and len(verdict.verdict) < 600
    with pytest.raises(ValueError, match=r".") as raised:
        demand(folder, facts)
    assert str(raised.value) == verdict.verdict
    return verdict.verdict


# The hostile and broken adapters, and the words of each refusal; None for what loads, and then as stock PEFT loads it
# (test_what_is_unusual_loads_as_stock_peft_would_load_it).
HOSTILE = {
    "pickle only": "a pickle, which can run code", "another base": "other/base as the base",
    "wrong shapes": "A is [4, 63]", "rank 100000": "r is 100000", "NaN": "not finite", "zero B": "changes nothing",
    "regex bomb": "not matched within", "bomb among the targets": None, "paths in names": None,
    "6 GB header": "declares a header of 6,442,450,944 bytes", "10 GB header": "should have 10,737,418,240 bytes",
    "20 GB file": "has 21,474,836,480 bytes", "unknown type": "peft_type is 'LOHA'", "future key": None, "DoRA": "DoRA",
    "rsLoRA": None, "rank patterns": None, "modules_to_save": "modules_to_save",
    "link out": "link that leaves its folder", "code": None,
}


class Mischief:
    """Pickles as a shell command that leaves a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch '{self.trace}'",)


def case_of(case, folder):
    """Make a sound adapter's folder the case of that name."""
    weights = folder / WEIGHTS
    configured = {"rank 100000": {"r": 100_000}, "regex bomb": {"rank_pattern": {BOMB: 4}}, "DoRA": {"use_dora": True},
                  "bomb among the targets": {"target_modules": BOMB}, "unknown type": {"peft_type": "LOHA"},
                  "future key": {"quantum": {"a": 1}}, "rsLoRA": {"use_rslora": True},
                  "rank patterns": {"rank_pattern": {"o_proj": 4}, "alpha_pattern": {"down_proj": 3}},
                  "modules_to_save": {"modules_to_save": ["lm_head"]}}
    changed = {"wrong shapes": lambda all: all | {f"{QKV}A.weight": torch.ones(4, 63)},
               "NaN": lambda all: all | {f"{QKV}B.weight": torch.full((192, 4), torch.nan)},
               "zero B": lambda all: {key: value * ("lora_A" in key) for key, value in all.items()}}
    if case in configured:
        reconfigured(folder, **configured[case])
    elif case in changed:
        reweighed(folder, changed[case])
    elif case == "pickle only":
        weights.unlink()
        torch.save(Mischief(folder.parent / "trace"), folder / "adapter_model.bin")
    elif case == "another base":
        reconfigured(folder, base_model_name_or_path="other/base")
        reweighed(folder, renamed("layers.1", "layers.7"))
    elif case == "paths in names":
        for name in ("..evil", "~root", "C:\\evil.dll", "a\nb", "-rf", "%2e%2e"):
            (folder / name).touch()
    elif "GB" in case:
        with weights.open("wb") as file:
            file.write((int(case.split()[0]) * 2**30).to_bytes(8, "little"))
            # A file with a hole: it takes no room on the disk.
            file.truncate(20 * 2**30 if case == "20 GB file" else 7 * 2**30)
    elif case == "link out":
        weights.rename(folder.parent / "elsewhere")
        weights.symlink_to(folder.parent / "elsewhere")
    elif case == "code":
        (folder / "modeling_phi3.py").write_text("raise RuntimeError('remote code was run')")
        reconfigured(folder, auto_map={"AutoModel": "modeling_phi3.Evil"})


@pytest.mark.parametrize(("case", "words"), HOSTILE.items())
def test_each_case_is_refused_in_a_sentence_or_loads_right_within_two_seconds(base, sound, tmp_path, case, words):
    case_of(case, sound)
    if words is not None:
        assert words in refusal(sound, base.facts)
    else:
        began = time.monotonic()
        ready = ready_folder(sound, base.facts, tmp_path / "ready")
        loaded = logits(PeftModel.from_pretrained(shell_of(base), ready).eval())
        assert time.monotonic() - began < SECONDS
        assert loaded.isfinite().all() and not torch.equal(loaded, logits(base.model))
    assert not (tmp_path / "trace").exists()


def spoken(value):
    """A test's name in brackets: the words that are expected, not a megabyte of bytes."""
    return value if isinstance(value, str) else ""


def test_a_sound_adapter_is_told_in_a_line_and_a_table(base, sound):
    before = logits(base.model)
    verdict = check(sound, base.facts, base)
    assert verdict.ok and verdict.verdict.startswith(f"Fits {base.facts.id}: rank 4, ")
    assert "it moves the logits by up to" in verdict.verdict
    assert list(verdict.as_json()) == ["ok", "verdict", "base", "rank", "parameters", "matched", "unmatched",
                                       "warnings"]
    assert (verdict.base, verdict.rank, verdict.matched, verdict.unmatched) == (base.facts.id, 4, 16, ())
    assert verdict.parameters == sum(value.numel() for value in load_file(sound / WEIGHTS).values())
    assert verdict.warnings == ()
    assert {name for name, _ in verdict.rows} >= {"qkv_proj", "o_proj", "gate_up_proj", "down_proj", "logits"}
    assert torch.equal(logits(base.model), before), "the resident base is as it was"


def test_the_cheap_part_needs_no_model(base, sound):
    verdict = check(sound, base.facts)
    assert verdict.ok and "logits" not in verdict.verdict


def test_the_adapters_that_ship_are_sound():
    facts = base_facts("phi3/tiny")
    for folder in sorted((facts.folder / "adapters").iterdir()):
        assert demand(folder, facts).warnings == ()


def test_a_split_adapter_fits_as_well(base, tmp_path):
    folder = write_random(tmp_path / "split", base.facts.config, targets=SPLIT_NAMES, base=base.facts.id)
    verdict = check(folder, base.facts, base)
    assert verdict.ok and verdict.matched == 28 and ("form", "split") in verdict.rows


@pytest.mark.parametrize("changes", [
    {"use_rslora": True, "lora_alpha": 3}, {"rank_pattern": {"o_proj": 4}, "r": 4, "alpha_pattern": {"qkv_proj": 1}},
    {"alpha_pattern": {r"layers\.(0|1)\.self_attn\..*": 16}}, {"target_modules": r".*\.(qkv|o|gate_up|down)_proj"},
    {"target_modules": "all-linear"}, {"target_modules": BOMB}, {"exclude_modules": BOMB},
    {"auto_mapping": {"base_model_class": "Evil", "parent_library": "os"}}, {"auto_map": {"AutoConfig": "evil.Evil"}},
    {"lora_quantum_entanglement": 7, "another_new_key": None},
])
def test_what_is_unusual_loads_as_stock_peft_would_load_it(base, sound, tmp_path, changes):
    reconfigured(sound, **changes)
    verdict = check(sound, base.facts)
    assert verdict.ok, verdict.verdict
    ready = ready_folder(sound, base.facts, tmp_path / "ready")
    loaded = logits(PeftModel.from_pretrained(shell_of(base), ready).eval())
    config = json.loads((sound / CONFIG).read_text())
    # Stock PEFT, given what it knows of the config, with the layers named plainly.
    kept = {key: config[key] for key in ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")}
    plain = LoraConfig(task_type="CAUSAL_LM", target_modules=list(FUSED_NAMES), **kept)
    stock = logits(PeftModel.from_pretrained(shell_of(base), sound, config=plain).eval())
    torch.testing.assert_close(loaded, stock, rtol=1e-5, atol=1e-5)


def test_newer_keys_and_patterns_are_told(base, sound):
    reconfigured(sound, quantum=1, target_modules=BOMB, auto_map={"AutoConfig": "evil.Evil"})
    told = " ".join(check(sound, base.facts).warnings)
    assert "dropped: quantum" in told and "It was not run" in told and "names code to be imported" in told


def test_our_lists_of_keys_are_those_of_the_installed_peft():
    known = LoraConfig().to_dict().keys() | {"runtime_config"}
    assert READ | INERT | BEYOND.keys() == known


@pytest.mark.parametrize("changes, words", [
    ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"), ({"peft_type": None}, "peft_type is None"),
    ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS'"), ({"use_dora": True}, "DoRA"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"), ({"r": 100_000}, "r is 100000"), ({"r": True}, "r is True"),
    ({"r": 2}, "the config gives it rank 2"), ({"lora_alpha": "16"}, "lora_alpha is '16'"),
    ({"lora_alpha": float("nan")}, "lora_alpha is nan"), ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
    ({"layer_replication": [[0, 2]]}, "layer_replication"), ({"megatron_config": {"a": 1}}, "Megatron"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices"), ({"target_modules": "x" * 2000}, "2,000 characters"),
    ({"target_modules": ["x" * 300]}, "names of layers"), ({"target_modules": [1]}, "names of layers"),
    ({"rank_pattern": {str(number): 4 for number in range(600)}}, "rank_pattern must be at most 512"),
    ({"rank_pattern": {BOMB: 4}}, "not matched within"), ({"alpha_pattern": {"(": 4}}, "none that can be read"),
    ({"rank_pattern": {"o_proj": "x"}}, "a rank is a whole number"), ({"rank_pattern": [1]}, "rank_pattern must be"),
    ({"base_model_name_or_path": "a\nb"}, "which is no name"), ({"lora_dropout": 2}, "lora_dropout is 2"),
])
def test_a_config_that_asks_for_more_is_refused(base, sound, changes, words):
    assert words in refusal(reconfigured(sound, **changes), base.facts)


@pytest.mark.parametrize("text, words", [
    (b"", "has 0 bytes"), (b"{", "no JSON"), (b"[1]", "JSON list"), (b"\xff\xfe", "no JSON"),
    (b"[" * 200_000, "no JSON"), (b'{"r": 1, "r": 2}', "stands in it twice"), (b" " * 2_000_000, "2,000,000 bytes"),
    (b'{"r": ' + b"9" * 5000 + b"}", "no JSON"),
], ids=spoken)
def test_a_config_that_is_none_is_refused(base, sound, text, words):
    (sound / CONFIG).write_bytes(text)
    assert words in refusal(sound, base.facts)


def entry(dtype="F32", shape=(4, 4), first=0, last=64):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


@pytest.mark.parametrize("header, data, words", [
    (b"\xff" * 7, b"", "cut off"), ((10 * 2**30).to_bytes(8, "little"), b"{}", "cut off"),
    ((9_000_000).to_bytes(8, "little") + b" " * 9_000_000, b"", "declares a header"), ({}, b"1234", "is damaged"),
    ({"a.lora_A.weight": entry()}, b"", "is damaged"), ({"a": entry(shape=(2**40, 2**40))}, b"0" * 64, "is damaged"),
    ({"a": entry(shape=(-4, -4))}, b"0" * 64, "is damaged"), ({"a": entry(dtype="I8")}, b"0" * 64, "only F64"),
    ({"a": entry(dtype=["F32"])}, b"0" * 64, "only F64"), ({"a": entry(shape="44")}, b"0" * 64, "is damaged"),
    ({"a": entry(), "b": entry()}, b"0" * 64, "overlap"), ({"a": "x"}, b"", "nothing usable"),
    ({f"t{number}": entry(shape=(0,), last=0) for number in range(5000)}, b"", "5,000 tensors"),
    ({"a": entry()}, b"0" * 64, "no LoRA weights at all"), ({"a": {}, "__metadata__": 3}, b"", "nothing usable"),
], ids=spoken)
def test_a_file_of_weights_that_is_none_is_refused(base, sound, header, data, words):
    if isinstance(header, dict):
        text = json.dumps(header).encode()
        header = len(text).to_bytes(8, "little") + text
    (sound / WEIGHTS).write_bytes(header + data)
    assert words in refusal(sound, base.facts)


def test_whatever_bytes_are_wrong_there_is_a_verdict(base, sound):
    chance = random.Random(0)
    for name in (CONFIG, WEIGHTS) * 100:
        whole = (sound / name).read_bytes()
        torn = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            torn[chance.randrange(min(len(torn), 2500))] = chance.choice(b'\x00\xff{}[]",:0123456789aeE.-tfn')
        (sound / name).write_bytes(torn[:chance.choice((len(torn), chance.randrange(len(torn))))])
        assert check(sound, base.facts).verdict
        (sound / name).write_bytes(whole)
    assert check(sound, base.facts).ok


def test_what_only_safetensors_itself_finds_amiss_is_a_sentence_too(base, sound):
    whole = (sound / WEIGHTS).read_bytes()
    (sound / WEIGHTS).write_bytes(whole.replace(b'{"format":"pt"}', b'{"format": 77 }'))
    assert "can't be read" in refusal(sound, base.facts)


def renamed(old, new):
    return lambda weights: {key.replace(old, new): value for key, value in weights.items()}


QKV = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_"


@pytest.mark.parametrize("change, words", [
    (renamed("layers.1", "layers.7"), "layers.7"), (renamed("qkv_proj", "c_attn"), "c_attn"),
    (renamed("lora_A", "lora_C"), "belong to layers"), (renamed("layers.0", "layers.00"), "layers.00"),
    (lambda weights: {key: value for key, value in weights.items() if "lora_A" in key}, "only one of its two"),
    (renamed("lora_A", "lora_magnitude_vector"), "only one of its two"),
    (lambda weights: weights | {f"{QKV}A.weight": torch.ones(4, 63)}, "qkv_proj A is [4, 63]"),
    (lambda weights: weights | {f"{QKV}B.weight": torch.ones(192)}, "qkv_proj B is [192]"),
    (lambda weights: weights | {f"{QKV}B.weight": torch.full((192, 4), torch.nan)}, "not finite"),
    (lambda weights: weights | {f"{QKV}A.weight": torch.full((4, 64), -torch.inf)}, "not finite"),
    (lambda weights: {key: value * ("lora_A" in key) for key, value in weights.items()}, "changes nothing"),
    (lambda weights: weights | {f"{QKV.replace('qkv', 'q')}{side}.weight": torch.ones(size)
                                for side, size in (("A", (4, 64)), ("B", (64, 4)))}, "no model has both"),
    (lambda weights: weights | {f"{QKV}A.default.weight": torch.ones(4, 64)}, "twice"),
    (lambda weights: weights | {"base_model.model.lm_head.base_layer.weight": torch.ones(9, 64)}, "vocabulary"),
])
def test_weights_that_do_not_fit_are_refused(base, sound, change, words):
    assert words in refusal(reweighed(sound, change), base.facts)


def test_an_adapter_for_another_base_is_refused_with_its_name(base, tmp_path):
    other = base.facts.config | {"hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 8}
    folder = write_random(tmp_path / "other", other, base="microsoft/Phi-3-mini-4k-instruct")
    told = refusal(folder, base.facts)
    assert "microsoft/Phi-3-mini-4k-instruct as the base" in told and base.facts.id in told


def test_an_adapter_for_a_base_that_is_built_alike_is_warned_about(base, tmp_path):
    folder = write_random(tmp_path / "alike", base.facts.config, base="microsoft/Phi-3.5-mini-instruct")
    verdict = check(folder, base.facts)
    assert verdict.ok and len(verdict.warnings) == 1
    assert "microsoft/Phi-3.5-mini-instruct" in verdict.warnings[0] and base.facts.id in verdict.warnings[0]
    elsewhere = reconfigured(folder, base_model_name_or_path=f"/home/somebody/{base.facts.folder.name}")
    assert check(elsewhere, base.facts).warnings == ()
    nameless = reconfigured(folder, base_model_name_or_path=None)
    assert "doesn't say which base" in check(nameless, base.facts).warnings[0]


def test_another_revision_is_told_where_both_are_known(base, sound):
    told = check(reconfigured(sound, revision="0" * 40), base.facts).warnings
    assert len(told) == 1 and "revision 000000000000" in told[0] and base.facts.revision[:12] in told[0]
    assert check(reconfigured(sound, revision="main"), base.facts).warnings == ()


def test_a_base_that_is_not_named_is_told_where_the_layers_fit_this_one(base, sound):
    assert about(sound, base.facts) == []
    reconfigured(sound, base_model_name_or_path=None)
    assert about(sound, base.facts) == [f"It doesn't say which base it was trained on; its layers fit {base.facts.id}."]
    reweighed(sound, renamed("layers.1", "layers.7"))
    with pytest.raises(ValueError, match=f"belong to layers that {base.facts.id} lacks"):
        about(sound, base.facts)


def test_what_moves_no_logit_is_refused_when_the_base_is_asked(base, sound):
    reweighed(sound, lambda weights: {key: value * 1e-20 for key, value in weights.items()})
    assert check(sound, base.facts).ok
    verdict = check(sound, base.facts, base)
    assert not verdict.ok and "moves no logit" in verdict.verdict


def test_what_counts_for_nothing_is_refused_without_asking_the_base(base, sound):
    verdict = check(reconfigured(sound, lora_alpha=0), base.facts)
    assert not verdict.ok and "It changes nothing: its lora_alpha is 0" in verdict.verdict
    assert check(reconfigured(sound, alpha_pattern={"o_proj": 8}), base.facts).ok


def test_an_adapter_that_breaks_the_logits_is_refused(base, sound):
    verdict = check(reweighed(sound, lambda weights: {key: value * 1e25 for key, value in weights.items()}), base.facts,
                    base)
    assert not verdict.ok and "no numbers any more" in verdict.verdict


def test_layers_that_change_nothing_are_counted(base, sound):
    reweighed(sound, lambda weights: {key: value * ("o_proj.lora_B" not in key) for key, value in weights.items()})
    assert check(sound, base.facts).warnings == ("2 of its 8 layers change nothing: A or B is all zero there.",)


def test_names_without_weights_and_weights_without_use_are_told(base, sound, tmp_path):
    config = reconfigured(sound, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "lm_head"])
    reweighed(config, lambda weights: weights | {"base_model.model.model.rotary.inv_freq": torch.ones(3)})
    verdict = check(sound, base.facts)
    assert verdict.unmatched == ("base_model.model.model.rotary.inv_freq",) and verdict.matched == 16
    assert any("names lm_head" in told for told in verdict.warnings)
    assert any("rotary.inv_freq" in told for told in verdict.warnings)
    ready = ready_folder(sound, base.facts, tmp_path / "ready")
    assert ready != sound and check(ready, base.facts).warnings == ()
    reconfigured(sound, exclude_modules=["lm_head"])
    assert not any("names lm_head" in told for told in check(sound, base.facts).warnings), "it was left out on purpose"


def test_copies_that_peft_was_given_stay_within_a_number_and_the_oldest_go(base, sound, tmp_path):
    kept, made = tmp_path / "ready", []
    for alpha in range(1, MOST_CONVERTED + 3):
        reconfigured(sound, quantum=1, lora_alpha=alpha)
        made.append(ready_folder(sound, base.facts, kept))
        os.utime(made[-1], (alpha, alpha))
        if alpha == MOST_CONVERTED:
            assert ready_folder(sound, base.facts, kept) == made[-1] and all(one.is_dir() for one in made)
    assert set(kept.iterdir()) == set(made[2:]) and (made[-1] / WEIGHTS).is_file()


def test_a_copy_of_the_embedding_never_reaches_the_resident_base(base, sound, tmp_path):
    key = "base_model.model.model.embed_tokens.weight"
    own = base.model.model.embed_tokens.weight.clone()
    reweighed(sound, lambda weights: weights | {key: own})
    assert "copy of layers of its base" in check(sound, base.facts, base).warnings[0]
    assert key not in load_file(ready_folder(sound, base.facts, tmp_path / "ready") / WEIGHTS)
    reweighed(sound, lambda weights: weights | {key: own + 1})
    assert "brings its own model.embed_tokens" in check(sound, base.facts, base).verdict
    assert torch.equal(base.model.model.embed_tokens.weight, own)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_copy_of_the_head_in_whatever_precision_is_none_that_was_trained(base, sound, dtype):
    """PEFT writes one into an adapter beside the head, in fp16 where a card knows no bf16."""
    own = base.model.lm_head.weight
    key = "base_model.model.lm_head.base_layer.weight"
    reweighed(sound, lambda weights: weights | {key: own.to(dtype)})
    assert check(sound, base.facts, base).ok
    trained = own.to(dtype, copy=True)
    trained[5] += 1e-3
    reweighed(sound, lambda weights: weights | {key: trained})
    assert "brings its own lm_head" in check(sound, base.facts, base).verdict


def test_a_link_out_of_the_folder_is_not_followed(base, sound, tmp_path):
    for name in (CONFIG, WEIGHTS):
        (sound / name).rename(tmp_path / name)
        (sound / name).symlink_to(tmp_path / name)
        assert "link that leaves its folder" in refusal(sound, base.facts)
        (sound / name).unlink()
        (tmp_path / name).rename(sound / name)
    assert check(sound, base.facts).ok


def test_what_is_no_file_is_not_opened(base, sound):
    (sound / CONFIG).unlink()
    os.mkfifo(sound / CONFIG)
    assert "is no file" in refusal(sound, base.facts)
    (sound / CONFIG).unlink()
    (sound / CONFIG).mkdir()
    assert "is no file" in refusal(sound, base.facts)


def test_pickles_and_code_are_left_aside_or_refused(base, sound):
    for name in ("adapter_model.bin", "modeling_phi3.py", "training_args.bin"):
        (sound / name).write_bytes(b"cos\nsystem\n")
    verdict = check(sound, base.facts)
    assert verdict.ok and "were not opened: adapter_model.bin, modeling_phi3.py" in verdict.warnings[0]
    (sound / WEIGHTS).unlink()
    assert "only as adapter_model.bin, a pickle" in refusal(sound, base.facts)
    (sound / "adapter_model.bin").unlink()
    assert "so it is no adapter in PEFT's format" in refusal(sound, base.facts)


def test_folders_that_hold_no_adapter_are_refused(base, sound, tmp_path):
    assert "no folder" in refusal(tmp_path / "nowhere", base.facts)
    assert "no folder" in refusal(sound / CONFIG, base.facts)
    (sound / CONFIG).unlink()
    assert "holds no adapter_config.json" in refusal(sound, base.facts)


def test_names_that_strangers_chose_stay_on_one_line_and_in_ascii(base, sound):
    (sound / "evil\x1b[2J\nname.py").touch()
    reconfigured(sound, **{"new\nkey\x1b[1m": 1}, target_modules=["qkv_proj\n", "\u202eo_proj"])
    reweighed(sound, lambda weights: weights | {"a\n\u202eb": torch.ones(1)})
    told = check(sound, base.facts).warnings
    assert len(told) == 4 and all(text.isascii() and text.isprintable() for text in told)
    reconfigured(sound, rank_pattern={"\n\x1b": "x"})
    assert refusal(sound, base.facts).isprintable()


def test_a_folder_of_too_many_files_is_refused(base, sound):
    for number in range(MOST_FILES + 1):
        (sound / f"file{number}").touch()
    assert "files" in refusal(sound, base.facts)


def test_only_two_files_are_ever_fetched():
    listing = {CONFIG: 800, WEIGHTS: 10**6, "README.md": 3, "../../adapter_config.json": 9, "training_args.bin": 5}
    assert wanted(listing) == [CONFIG, WEIGHTS]
    for wrong, words in (({"adapter_model.bin": 5, CONFIG: 800}, "pickle"), ({CONFIG: 800}, "no adapter_model"),
                         ({"model.safetensors": 10**6, "training_args.bin": 5}, "no adapter in PEFT's format"),
                         ({f"last/{WEIGHTS}": 10**6, f"last/{CONFIG}": 800, "last/optimizer.pt": 5}, "folder .* last,"),
                         (listing | {WEIGHTS: 10**12}, "1,000,000,000,000 bytes"),
                         (listing | {CONFIG: 10**7}, "10,000,000 bytes")):
        with pytest.raises(ValueError, match=words):
            wanted(wrong)


def test_what_peft_can_take_is_given_as_it_stands_and_a_copy_is_made_once(base, sound, tmp_path):
    assert ready_folder(sound, base.facts, tmp_path / "ready") == sound
    split = write_random(tmp_path / "split", base.facts.config, targets=SPLIT_NAMES, base=base.facts.id)
    ready = ready_folder(split, base.facts, tmp_path / "ready")
    made = (ready / WEIGHTS).stat().st_mtime_ns
    assert ready_folder(split, base.facts, tmp_path / "ready") == ready
    assert (ready / WEIGHTS).stat().st_mtime_ns == made
    shape = shape_of(base.facts.config)
    stock = logits(PeftModel.from_pretrained(shell_of(base), ready).eval())
    torch.testing.assert_close(stock, logits(attached(shell_of(base), fused(read_peft(split, shape), shape), shape)))
    with pytest.raises(ValueError, match="peft_type"):
        ready_folder(reconfigured(sound, peft_type="IA3"), base.facts, tmp_path / "ready")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_config_that_a_windows_editor_wrote_is_given_to_peft_as_it_reads_it(base, sound, tmp_path, encoding):
    expected = logits(PeftModel.from_pretrained(shell_of(base), sound).eval())
    (sound / CONFIG).write_text((sound / CONFIG).read_text(), encoding=encoding)
    assert check(sound, base.facts).ok
    ready = ready_folder(sound, base.facts, tmp_path / "ready")
    torch.testing.assert_close(logits(PeftModel.from_pretrained(shell_of(base), ready).eval()), expected)
    Slots(base).load("saved", ready)


def test_the_first_pattern_that_fits_counts_as_it_does_in_peft():
    from peft.utils.other import get_pattern_key

    paths = [f"model.layers.{layer}.{name}" for layer in range(12) for name in ("self_attn.q_proj", "mlp.up_proj")]
    for keys in (["q_proj", "layers.1.self_attn.q_proj"], [r"layers\.1\.self_attn\.q_proj", "up_proj"],
                 [r".*\.(1|2)\..*", "q_proj"], ["proj"], ["^model.layers.0.mlp.up_proj"]):
        settings = settings_from({"peft_type": "LORA", "r": 99, "rank_pattern": dict(zip(keys, (1, 2), strict=False))})
        expected = [settings.rank_pattern.get(get_pattern_key(keys, path), 99) for path in paths]
        assert [rank for rank, _ in settings.ranks_and_scalings(paths)] == expected


def test_the_probe_is_the_same_each_time(base, sound):
    assert logits_moved(base, sound) == logits_moved(base, sound) > 0
