"""Slots: every lane gets its own adapter, as stock PEFT would give it, whatever comes and goes beside it."""

import json
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.check import ready_folder
from adapters.formats import read_peft, split, write_peft
from adapters.layers import shape_of
from phi3.batch import Batch
from phi3.generate import Answerer, Lane, Sampling
from phi3.lora_files import MOST_RANK, Unsuited
from phi3.models import load_base, shell_of
from phi3.row import row_of
from phi3.slots import Beside, Mix, Slots
from phi3.template import encode_prompt

TEXTS = ("a", "a much longer question than the others", "three words here", "x", "why", "tell me of it", "hm", "and so")
TOKENS = 10
# Two tokens whose logits lie closer than this may change places by rounding alone.
NEARLY_TIED = 2e-5
ALL = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
KINDS = {
    "rank 1": {"r": 1, "target_modules": ALL},
    "rank 4": {"r": 4, "lora_alpha": 16, "target_modules": ALL},
    "rank 16, rsLoRA": {"r": 16, "use_rslora": True, "target_modules": ALL},
    "rank 64": {"r": 64, "lora_alpha": 3, "target_modules": ALL},
    "patterns": {"r": 4, "rank_pattern": {"o_proj": 7}, "alpha_pattern": {"down_proj": 2}, "target_modules": ALL},
    "some modules": {"r": 8, "target_modules": ("qkv_proj", "down_proj")},
    "one layer": {"r": 8, "target_modules": ALL, "layers_to_transform": [1]},
    "embedding and head": {"r": 5, "target_modules": (*ALL, "embed_tokens", "lm_head")},
    "DoRA": {"r": 4, "use_dora": True, "target_modules": ALL},
    "head of its own": {"r": 4, "target_modules": ALL, "modules_to_save": ["lm_head"]},
}
IN_SLOTS = tuple(KINDS)[:8]


@pytest.fixture(scope="module", params=["fp32", "nf4"])
def base(request, small_base):
    return load_base(str(small_base), request.param, "cpu")


@pytest.fixture(scope="module")
def plain(small_base):
    return load_base(str(small_base), "fp32", "cpu")


@pytest.fixture(scope="module")
def folders(small_base, tmp_path_factory):
    """An adapter of each kind, random, made with plain PEFT."""
    from peft import LoraConfig, get_peft_model

    base, made = load_base(str(small_base), "fp32", "cpu"), {}
    for seed, (kind, options) in enumerate(KINDS.items()):
        torch.manual_seed(seed)
        config = LoraConfig(task_type="CAUSAL_LM", **{**options, "target_modules": list(options["target_modules"])})
        model = get_peft_model(shell_of(base), config)
        for name, value in model.named_parameters():
            if "lora_B" in name or "lora_embedding_B" in name:
                torch.nn.init.normal_(value, std=0.2)
            elif "modules_to_save" in name or "magnitude" in name:
                value.data += torch.randn_like(value) * 0.2
        made[kind] = tmp_path_factory.mktemp("kinds") / kind.replace(" ", "-").replace(",", "")
        model.save_pretrained(made[kind])
    return made


def by_peft(base, folder: Path | None):
    """Stock PEFT's model of one adapter, or the plain base."""
    from peft import PeftModel

    shell = shell_of(base)
    if folder is None:
        return shell
    # PEFT writes an adapter's copy of embedding and head over those that it finds.
    for layer in (shell.model.embed_tokens, shell.lm_head):
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    return PeftModel.from_pretrained(shell, str(folder), autocast_adapter_dtype=False).eval()


def lane(text: str, folder: Path | None, **options) -> Lane:
    return Lane(({"role": "user", "content": text},), str(folder) if folder else None,
                Sampling(max_new_tokens=TOKENS, **options))


def last(answerer, lanes):
    *_, answers = answerer.answer(lanes)
    return answers


def said_by_peft(base, one: Lane) -> tuple[str, bool]:
    """PEFT's greedy answer to a lane, and whether it ends before a token that was nearly tied with another."""
    model = by_peft(base, Path(one.adapter) if one.adapter else None)
    prompt = encode_prompt(base.tokenizer, one.messages)
    ids = torch.tensor([prompt])
    with torch.no_grad():
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              max_new_tokens=TOKENS)[0, len(prompt):].tolist()
        logits = model(input_ids=torch.tensor([prompt + made])).logits[0, len(prompt) - 1:-1]
    tied = [place for place, pair in enumerate(logits.topk(2).values) if pair[0] - pair[1] < NEARLY_TIED]
    sure = made[:tied[0]] if tied else [token for token in made if token not in base.stop_tokens]
    text = base.tokenizer.decode(sure, skip_special_tokens=True).strip()
    return text.rstrip("\ufffd") if tied else text, bool(tied)


def demand(answer, expected: tuple[str, bool]) -> None:
    text, is_beginning = expected
    assert answer.text.startswith(text) if is_beginning else answer.text == text


@pytest.fixture(scope="module")
def pairs(base, folders):
    """Nine lanes, each with what PEFT says to it."""
    lanes = [lane(text, folders.get(kind)) for text, kind in zip((*TEXTS, "last"), (None, *IN_SLOTS), strict=True)]
    return [(one, said_by_peft(base, one)) for one in lanes]


@pytest.mark.parametrize("count", range(1, 9))
def test_every_lane_of_any_company_says_what_stock_peft_says(base, pairs, count):
    chosen = [*pairs[count:], *pairs[:count]][:count]
    answers = last(Answerer(base), [one for one, _ in chosen])
    for answer, (_, expected) in zip(answers, chosen, strict=True):
        assert answer.end != "error" and not answer.note
        demand(answer, expected)


def test_an_adapter_of_split_layers_is_served_through_its_fused_copy(plain, folders, tmp_path):
    shape = shape_of(plain.facts.config)
    write_peft(split(read_peft(folders["rank 64"], shape), shape), tmp_path / "split", shape)
    answerer = Answerer(plain, lambda folder: ready_folder(folder, plain.facts, tmp_path / "kept"))
    apart, fused, other = last(answerer, [lane("hm", tmp_path / "split"), lane("hm", folders["rank 64"]),
                                          lane("hm", folders["rank 4"])])
    assert apart.text == fused.text != other.text and not apart.note


@pytest.mark.parametrize("kind", ["DoRA", "head of its own"])
def test_what_slots_cannot_express_is_served_by_peft_and_said_to_be_slower(plain, folders, kind):
    before = {name: value.clone() for name, value in plain.model.state_dict().items()}
    lanes = [lane("why", folders[kind]), lane("why", None), lane("why", folders["rank 4"]), lane("x", folders[kind])]
    answers = last(Answerer(plain), lanes)
    for one, answer in zip(lanes, answers, strict=True):
        demand(answer, said_by_peft(plain, one))
    assert ["slower" in answer.note for answer in answers] == [True, False, False, True]
    assert all(torch.equal(value, before[name]) for name, value in plain.model.state_dict().items())


def test_a_rank_above_the_largest_is_served_by_peft(plain, tmp_path):
    from tests.adapter_folder import write_random

    folder = write_random(tmp_path / "wide", plain.facts.config, targets=("qkv_proj",), ranks=(MOST_RANK + 1,))
    with pytest.raises(Unsuited, match="rank"):
        Slots(plain).load("wide", folder)
    lanes = [lane("why", folder)]
    answers = last(Answerer(plain), lanes)
    for one, answer in zip(lanes, answers, strict=True):
        demand(answer, said_by_peft(plain, one))
    assert "slower" in answers[0].note


def first_logits(base, slots: Slots, rows) -> torch.Tensor:
    """What a batch of (text, slot, strength) says at first, and to one more token (rows, 2, vocabulary)."""
    batch = Batch(slots.model, slots)
    made = [row_of(base, Lane(({"role": "user", "content": text},), strength=strength)) for text, _, strength in rows]
    with torch.inference_mode():
        slots.use(Mix(tuple(slot for _, slot, _ in rows), tuple(strength for *_, strength in rows)))
        first = batch._decoder.read([row.prompt for row in made])
        return torch.stack([first, batch._decoder.step([7] * len(rows))], 1)


def peft_logits(base, model, text: str) -> torch.Tensor:
    prompt = row_of(base, Lane(({"role": "user", "content": text},))).prompt
    with torch.inference_mode():
        return model(input_ids=torch.tensor([[*prompt, 7]])).logits[0, -2:]


@pytest.fixture(scope="module")
def known(plain, folders):
    """What stock PEFT says with each adapter to each text."""
    models = {kind: by_peft(plain, folders.get(kind)) for kind in (None, *IN_SLOTS)}
    return {(kind, text): peft_logits(plain, model, text) for kind, model in models.items() for text in TEXTS}


ROWS = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from((None, *IN_SLOTS))), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(mixes=st.lists(ROWS, min_size=1, max_size=4), count=st.integers(1, 8))
def test_any_mixes_loads_and_evictions_leave_each_row_its_own_adapter(plain, folders, known, mixes, count):
    slots = Slots(plain, count)
    for mix in mixes:
        rows, held = [], []
        for text, kind in mix:
            slot = 0 if kind is None else slots.held(kind)
            if slot is None:
                if not slots.has_room():
                    with pytest.raises(ValueError, match="in use"):
                        slots.load(kind, folders[kind])
                    continue
                slot = slots.load(kind, folders[kind])
            if slot:
                held.append(slot)
            rows.append((text, kind, slot))
        for given_out in {slot for *_, slot in rows if slot}:
            assert len({kind for _, kind, slot in rows if slot == given_out}) == 1
        if rows:
            logits = first_logits(plain, slots, [(text, slot, 1.0) for text, _, slot in rows])
            expected = torch.stack([known[kind, text] for text, kind, _ in rows])
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        for slot in held:
            slots.give_back(slot)


def test_strength_0_is_the_base_and_strength_scales_what_one_layer_adds(plain, folders):
    slots = Slots(plain)
    one, other = (slots.load(kind, folders[kind]) for kind in ("rank 4", "rank 16, rsLoRA"))
    said = first_logits(plain, slots, [("hm", 0, 1.0), ("hm", one, 0.0), ("hm", other, 0.0)])
    assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])
    layer = slots.model.model.layers[0].self_attn.qkv_proj
    inputs = torch.randn(4, layer.layer.in_features)
    inputs[:] = inputs[0]
    for company in (one, other):  # alone it goes through one product for all rows, in company through each row's own
        with torch.inference_mode():
            slots.use(Mix((0, one, one, company), (1.0, 0.5, 2.0, 1.0)))
            base, half, double, _ = layer(inputs)
        torch.testing.assert_close((half - base) * 4, double - base, rtol=1e-4, atol=1e-5)
    alone = first_logits(plain, slots, [("hm", one, 0.5)])
    torch.testing.assert_close(alone, first_logits(plain, slots, [("x", other, 2.0), ("hm", one, 0.5)])[1:],
                               rtol=1e-4, atol=1e-4)


def test_strength_is_peft_scaled(plain, folders):
    from peft.tuners.lora import LoraLayer

    model = by_peft(plain, folders["patterns"])
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(1.5)
    slots = Slots(plain)
    slot = slots.load("patterns", folders["patterns"])
    torch.testing.assert_close(first_logits(plain, slots, [("why", slot, 1.5)])[0], peft_logits(plain, model, "why"),
                               rtol=1e-4, atol=1e-4)


def test_no_module_is_replaced_and_no_base_weight_changed_while_adapters_come_and_go(base, folders):
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    slots = Slots(base, 2)
    modules = [id(module) for module in slots.model.modules()]
    for kind in IN_SLOTS:
        slot = slots.load(kind, folders[kind])
        first_logits(base, slots, [("hm", slot, 1.0), ("hm", 0, 1.0)])
        slots.give_back(slot)
    assert modules == [id(module) for module in slots.model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in base.model.state_dict().items())


def changed(folder: Path, to: Path, **config) -> Path:
    """A copy of an adapter whose config says something else."""
    to.mkdir()
    (to / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes())
    said = json.loads((folder / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps({**said, **config}))
    return to


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_adapter_is_put_beside_a_layer_on_another_device(dtype):
    """Its file is read into the machine's memory, and a card's layers are on the card; a device without numbers asks
    for the same care as one with them.
    """
    beside = Beside(torch.nn.Linear(8, 6, bias=False, device="meta", dtype=torch.bfloat16), slots=2)
    total = beside.put(1, (torch.randn(4, 8, dtype=dtype), torch.randn(6, 4, dtype=dtype)), 2.0)
    assert total.device.type == "meta" and beside.ranks == [0, 4, 0]


@pytest.mark.parametrize(("config", "said"), [
    ({"r": 9}, "says rank 9"), ({"peft_type": "IA3"}, "IA3"), ({"init_lora_weights": "pissa"}, "more than LoRA"),
    ({"alora_invocation_tokens": [1]}, "more than LoRA"),
])
def test_an_adapter_that_nobody_can_serve_as_it_stands_is_refused(plain, folders, tmp_path, config, said):
    with pytest.raises(ValueError, match=said):
        Slots(plain).load("changed", changed(folders["rank 4"], tmp_path / "changed", **config))


@pytest.mark.parametrize("path", ["lm_head", "model.embed_tokens"])
def test_a_head_that_was_trained_and_no_config_tells_of_is_refused_where_its_copy_leaves_it_out(plain, folders,
                                                                                              tmp_path, path):
    from safetensors.torch import load_file, save_file

    def ready(folder):
        return ready_folder(folder, plain.facts, tmp_path / "ready")

    folder = changed(folders["rank 4"], tmp_path / "with a head")
    weights, own = load_file(folder / "adapter_model.safetensors"), plain.model.get_submodule(path).weight
    for weight, refused in ((own.clone(), False), (own + 1, True)):
        save_file({**weights, f"base_model.model.{path}.weight": weight}, folder / "adapter_model.safetensors")
        *_, (answer,) = Answerer(plain, ready).answer([Lane(({"role": "user", "content": "hm"},), str(folder),
                                                            Sampling(max_new_tokens=2))])
        assert (f"brings its own {path}" in answer.note) == (answer.end == "error") == refused, answer


@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf, 3e38])
def test_weights_that_are_no_numbers_or_nearly_none_are_refused_and_leave_nothing_behind(plain, folders, tmp_path,
                                                                                         spoiled):
    from safetensors.torch import load_file, save_file

    folder = changed(folders["rank 4"], tmp_path / "broken")
    weights = load_file(folder / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = spoiled
    save_file(weights, folder / "adapter_model.safetensors")
    slots = Slots(plain, 1)
    with pytest.raises(ValueError, match="not finite"):
        slots.load("broken", folder)
    slot = slots.load("one layer", folders["one layer"])
    expected = peft_logits(plain, by_peft(plain, folders["one layer"]), "hm")
    torch.testing.assert_close(first_logits(plain, slots, [("hm", slot, 1.0)])[0], expected, rtol=1e-4, atol=1e-4)


def test_callers_who_share_a_batch_get_exactly_what_each_gets_alone(plain, folders):
    kinds = (None, "rank 4", "rank 64", "DoRA", "some modules", "patterns")
    asked = [[lane(text, folders.get(kind), temperature=temperature, seed=number)
              for text, temperature in zip(TEXTS[number:number + 2], (0.0, 0.9), strict=True)]
             for number, kind in enumerate(kinds)]
    alone = [[answer.text for answer in last(Answerer(plain), lanes)] for lanes in asked]
    answerer, together = Answerer(plain), {}
    start = threading.Barrier(len(asked))

    def ask(number: int) -> None:
        start.wait()
        together[number] = [answer.text for answer in last(answerer, asked[number])]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [together[number] for number in range(len(asked))] == alone
