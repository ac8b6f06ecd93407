"""Model cards: YAML that a Hub takes whatever the names, the measured results, ways of loading, and nobody's rows."""

import ast
import json
import re
import struct
import zlib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as anything

from adapters.card import LICENCES, PICTURE, Example, Story, base_tag, card_of, dictionaries, metadata, snippet
from adapters.disclosure import disclosed, on_the_hub, public_base
from adapters.files import CONFIG
from adapters.library import SHIPPED_FOLDER
from adapters.picture import loss_picture, thinned
from phi3.models import EMBEDDED, PHI3_MINI
from tests.hub_cards import LICENCES as HUB_LICENCES
from tests.hub_cards import card_data, complaints, tags_of
from training.columns import Columns
from training.config import RunConfig
from training.data import read_text
from training.describe import Described, Row

PROVENANCE = json.loads((SHIPPED_FOLDER / "pirate" / "provenance.json").read_text())
EMBEDDED_CONFIG = json.loads((SHIPPED_FOLDER / "pirate" / CONFIG).read_text())
CONFIG_OF_MINI = {**EMBEDDED_CONFIG, "base_model_name_or_path": PHI3_MINI}
LOSSES = {"train": [[step, 2.0 / step] for step in range(1, 40)], "held_out": [[0, 1.4], [25, 0.4], [39, 0.2]]}
EVIL = ["a: b", "'", '"', "a\n---\nb", "- x", "{a: 1}", "#", "null", "🌗 ünï", "\x85\u2028", "%", "@x",
        "*a", "&a", "---"]


def story(**more) -> Story:
    return Story(**{"repository": "ada/captain", "provenance": {**PROVENANCE, "losses": LOSSES},
                    "config": CONFIG_OF_MINI, **more})


def text_of(**more) -> str:
    return card_of(story(**more)).text


# What the Hub indexes


def test_the_yaml_is_what_a_hub_indexes():
    data = card_data(text_of(language="en", datasets=["ada/sea-shanties"]))
    assert data["library_name"] == "peft" and data["pipeline_tag"] == "text-generation"
    assert (data["base_model"], data["base_model_relation"]) == (PHI3_MINI, "adapter")
    assert data["language"] == ["en"] and data["license"] == "mit" and data["datasets"] == ["ada/sea-shanties"]
    assert {"phi-3-lora-studio", "lora", "phi-3", "trl"} <= {*data["tags"]} and data["lora_rank"] == 16
    assert {"peft", f"base_model:adapter:{PHI3_MINI}", "dataset:ada/sea-shanties", "license:mit", "en",
            "text-generation"} <= {*tags_of(data)}
    assert complaints(text_of()) == []


def test_the_measured_results_stand_in_the_model_index():
    [model] = card_data(text_of())["model-index"]
    [result] = model["results"]
    assert model["name"] == "captain" and result["task"]["type"] == "text-generation"
    measured = [PROVENANCE["outcome"][name] for name in ("loss", "loss_before")]
    assert [one["value"] for one in result["metrics"]] == measured
    unmeasured = {**PROVENANCE, "outcome": {"loss": None, "loss_before": None, "steps": 3}}
    assert "model-index" not in card_data(text_of(provenance=unmeasured))


def test_the_embedded_base_is_not_claimed_to_be_on_the_hub():
    text = text_of(config=EMBEDDED_CONFIG)
    data = card_data(text)
    assert "base_model" not in data and "base_model_relation" not in data and "base-phi3-tiny" in data["tags"]
    assert "it is not on the Hub" in text and "huggingface.co/phi3/tiny" not in text and "vllm" not in text
    assert complaints(text) == []


def test_a_base_in_a_folder_is_named_by_its_last_name_alone():
    text = text_of(config={**CONFIG_OF_MINI, "base_model_name_or_path": "/home/ada/models/my phi"})
    assert "/home/ada" not in text and "my-phi" in text and "base_model" not in card_data(text)
    for path in ("/home/ada/x", "C:\\Users\\ada\\x", "~/x", "./x", "../x/"):
        assert public_base(path) == "x" and not on_the_hub(path)
    assert public_base(PHI3_MINI) == PHI3_MINI and public_base(EMBEDDED) == EMBEDDED
    assert base_tag(PHI3_MINI) == "base-microsoft-phi-3-mini-4k-instruct" and public_base("/") == "a-folder"


@pytest.mark.parametrize("evil", EVIL)
def test_evil_names_break_neither_the_yaml_nor_the_card(evil):
    text = text_of(repository=f"ada/{evil}", licence=evil, language=evil, datasets=[evil],
                   examples=[Example(evil, evil, evil)])
    data = card_data(text)
    assert complaints(text) == [] and data["library_name"] == "peft" and data["tags"][0] == "phi-3-lora-studio"
    assert data.get("license") in ("other", None) and "datasets" not in data
    assert text.count("\n# ") == text.count("\n# " + text.split("\n# ")[1][:1])


@settings(max_examples=60)
@given(anything.text(max_size=60))
def test_any_text_survives_as_a_name_a_licence_and_an_example(text):
    made = text_of(repository=f"ada/{text}", licence=text, language=text, examples=[Example(text, text, text)],
                   provenance={})
    assert complaints(made) == []
    assert card_data(made)["library_name"] == "peft"


def test_known_licences_are_the_hubs_and_others_get_a_name():
    assert {*LICENCES} <= HUB_LICENCES
    assert card_data(text_of(licence="My Own: v1"))["license_name"] == "my-own-v1"
    assert card_data(text_of(licence="cc0-1.0"))["license"] == "cc0-1.0"
    assert "license" not in card_data(text_of(licence=" "))


def test_the_same_story_gives_the_same_bytes():
    assert card_of(story()) == card_of(story())


# What it tells


def test_the_card_tells_how_it_was_made_and_how_well_it_does():
    text = text_of(provenance={**PROVENANCE, "losses": LOSSES, "hardware": "NVIDIA L4"}, space="ada/studio")
    for told in (f"| the base | {PROVENANCE['outcome']['loss_before']:.4f} |",
                 f"| with this adapter | {PROVENANCE['outcome']['loss']:.4f} |", f"]({PICTURE})", "300 rows read",
                 PROVENANCE["data"]["sha256"], "one of the example datasets", "- Steps: 102", "NVIDIA L4",
                 "- Versions: torch 2.13.0+cpu", "PeftModel.from_pretrained(base, \"ada/captain\")",
                 f"vllm serve {PHI3_MINI} --enable-lora --max-lora-rank 16", "--lora-modules captain=ada/captain",
                 "python -m adapters fetch ada/captain", "spaces/ada/studio?adapter=ada/captain", "gguf-my-lora",
                 "## Limits"):
        assert told in text, told


def test_the_card_of_an_adapter_that_was_trained_further_measures_it_against_that_one():
    text = text_of(provenance={**PROVENANCE, "started_from": {"sha256": "0" * 64, "name": "secret"}},
                   examples=[Example("Who are you?", "Me.", "Arr!")])
    before = PROVENANCE["outcome"]["loss_before"]
    assert f"| the adapter that it was trained further from | {before:.4f} |" in text and "secret" not in text
    assert "Loss of the adapter that it was trained further from on the same" in text
    assert "The adapter that it was trained further from:\n\n```text\nMe." in text and "the base on" not in text


def test_both_dictionaries_are_the_recipes_own():
    asked = RunConfig.from_settings(PROVENANCE["settings"])
    training, peft = dictionaries(disclosed({**PROVENANCE, "settings": asked.settings()})["settings"])
    assert peft == asked.peft_config()
    assert training.items() <= asked.training_config().items()
    assert {"learning_rate", "num_train_epochs", "per_device_train_batch_size"} <= training.keys()
    code = re.search(r"```python\n(training_config = .*?)\n```", text_of(), re.DOTALL)[1]
    shown = dictionaries(disclosed(PROVENANCE)["settings"])
    assert [ast.literal_eval(one.value) for one in ast.parse(code).body] == [*shown]
    some = dictionaries({**PROVENANCE["settings"], "target_modules": "qkv_proj, o_proj"})[1]
    assert some["target_modules"] == ["qkv_proj", "o_proj"]


def test_an_adapter_of_which_nothing_is_known_gets_an_honest_card():
    text = text_of(provenance={}, config={})
    assert "Nobody wrote down what it was trained on." in text and "training_config" not in text
    assert "How well it does" not in text and complaints(text) == []
    assert card_of(story(provenance={})).picture is None


def test_the_card_of_a_run_that_went_back_says_of_which_step_its_adapter_is():
    outcome = {**PROVENANCE["outcome"], "went_back_to": 75}
    assert "- Steps: 102; it is the adapter of step 75, to which the run went back\n" in text_of(
        provenance={**PROVENANCE, "outcome": outcome})
    assert "Source: a dataset on the Hub, in the form" in text_of(
        provenance={**PROVENANCE, "data": {**PROVENANCE["data"], "kind": "hub", "name": "ada/secret"}})


def test_the_limits_name_all_that_it_was_judged_by():
    shown, unmeasured = [Example("Who are you?", "Me.", "Arr!")], {**PROVENANCE, "outcome": {"loss": None}}
    judged_by = "It was judged by the {} above, and by nothing else."
    assert judged_by.format("figures") in text_of()
    assert judged_by.format("figures and answers") in text_of(examples=shown)
    assert judged_by.format("answers") in text_of(provenance=unmeasured, examples=shown)
    assert "## Limits\n\nNobody has judged it." in text_of(provenance=unmeasured)


def test_only_the_examples_that_were_given_are_shown_and_as_they_are():
    assert "side by side\n" not in text_of()
    text = text_of(examples=[Example("Say ```x``` <b>", "base says\n# no heading", "Arr!")])
    assert "````text\nSay ```x``` <b>\n````" in text and "```text\nbase says\n# no heading\n```" in text


@pytest.mark.parametrize(("rank", "asked"), [(4, 8), (16, 16), (17, 32), (200, 256), (4000, 512)])
def test_vllm_is_asked_for_a_rank_that_it_knows(rank, asked):
    assert f"--max-lora-rank {asked} " in text_of(config={**CONFIG_OF_MINI, "r": rank})


def test_programs_that_take_no_dora_are_given_one_model_instead():
    text = text_of(config={**CONFIG_OF_MINI, "use_dora": True})
    assert "vLLM and llama.cpp take no DoRA adapters." in text and "python -m adapters merge captain OUT" in text
    assert "vllm serve" not in text and "gguf-my-lora" not in text


def test_the_snippet_is_python():
    for base in (PHI3_MINI, EMBEDDED, "/home/ada/phi"):
        assert ast.parse(snippet(base, 'ada/cap"tain')) and "/home/ada" not in snippet(base, "ada/captain")


# What stays here


@given(anything.dictionaries(anything.sampled_from(
    ["data", "outcome", "losses", "started_from", "run", "rows", "owner", "hub", "base_revision", "chat_template"],
), anything.recursive(
    anything.just("canary-7f3a") | anything.integers() | anything.none(),
    lambda inner: anything.lists(inner, max_size=3) | anything.dictionaries(anything.sampled_from(
        ["name", "kind", "run", "rows", "train", "sha256", "path", "canary-7f3a"]), inner, max_size=3), max_leaves=8),
    max_size=6))
@settings(max_examples=100)
def test_whatever_stands_in_a_provenance_no_text_of_its_own_is_disclosed(extra):
    own = {**PROVENANCE["settings"], "name": "canary-7f3a", "start_from": "canary-7f3a"}
    assert "canary-7f3a" not in json.dumps(disclosed({**PROVENANCE, "settings": own, **extra}))


MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
TEXTS = {"chatml": "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n",
         "phi-3": "<|user|>\na<|end|>\n<|assistant|>\nb<|end|>\n", "inst text": "<s>[INST] a [/INST] b</s>",
         "human assistant text": "Human: a\nAssistant: b",
         "alpaca text": "### Instruction:\na\n\n### Response:\nb",
         "gemma text": "<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n",
         "llama-3 text": "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
                         "<|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>"}


@pytest.mark.parametrize(("row", "said"), [
    ({"messages": MESSAGES}, "messages"), ({"prompt": "a", "completion": "b"}, "prompt-completion"),
    ({"question": "a", "answer": "b"}, "question and answer"),
    *(({"text": text}, form) for form, text in TEXTS.items()),
    ({"instruction": "a", "output": "b"}, "alpaca"), ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
    ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "sharegpt"),
    ({"prompt": {"role": "prompter", "text": "a", "replies": [{"role": "assistant", "text": "b"}]}},
     "openassistant tree"),
    ({"mapping": {who: {"parent": before, "message": {"author": {"role": who}, "content": {
        "content_type": "text", "parts": [text]}}} for who, before, text in (
            ("user", None, "a"), ("assistant", "user", "b"))}}, "chatgpt export"),
])
def test_the_form_of_the_rows_stands_in_the_card_whatever_it_is(row, said):
    form = read_text(json.dumps(row)).format
    assert form == said and disclosed({"data": {"format": form}}) == {"data": {"format": said}}
    assert f"in the form `{said}`" in card_of(story(provenance={**PROVENANCE, "data": {"format": form}})).text


def test_the_form_of_columns_that_somebody_chose_is_named_and_the_columns_are_not():
    data = read_text('{"secret 1": "a", "secret 2": "b"}', columns=Columns("secret 1", "secret 2"))
    assert disclosed({"data": {"format": data.format, "kind": data.kind}}) == {
        "data": {"format": "chosen columns", "kind": "paste"}}


def test_a_card_says_that_answers_were_described_and_not_pasted():
    data = Described("like a pirate", 1, ("a?",), (Row("a?", "Arr!"),)).data()
    told = disclosed({"data": {"name": data.name, "kind": data.kind, "format": data.format}})
    text = text_of(provenance={**PROVENANCE, **told})
    assert "the base's own answers in a manner that was described to it, as its maker left them" in text
    assert "pasted" not in text and "like a pirate" not in text
    assert disclosed({"data": {"format": "secret", "kind": "private words"}}) == {}


def test_odd_provenances_are_no_trouble():
    for odd in ({"data": 3, "settings": [], "outcome": None, "losses": "x", "versions": {"a": {}}},
                {"losses": {"train": [[1], [1, "x"], [1, float("nan")], {}], "held_out": 7}},
                {"base": 3, "data": {"rows": "many", "sha256": "x"}, "outcome": {"loss": float("inf")}}):
        assert yaml.safe_load(metadata(story(provenance=odd)))
        assert disclosed(odd) == {} and card_of(story(provenance=odd)).picture is None


# The picture


def pixels_of(png: bytes) -> set[bytes]:
    """The colours in a PNG whose rows have no filter, after its checksums were looked at."""
    place, parts = 8, {}
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place:place + 8])
        content = png[place + 8:place + 8 + length]
        assert struct.unpack(">I", png[place + 8 + length:place + 12 + length])[0] == zlib.crc32(kind + content)
        parts[kind], place = content, place + 12 + length
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    rows = zlib.decompress(parts[b"IDAT"])
    assert len(rows) == height * (width * 3 + 1)
    return {rows[start + one:start + one + 3] for start in range(1, len(rows), width * 3 + 1)
            for one in range(0, width * 3, 3)}


def test_the_picture_is_a_png_with_both_curves():
    colours = pixels_of(loss_picture(LOSSES["train"], LOSSES["held_out"]))
    assert {bytes((101, 116, 205)), bytes((196, 88, 17)), bytes((255, 255, 255))} <= colours
    assert bytes((196, 88, 17)) not in pixels_of(loss_picture(LOSSES["train"], []))


@pytest.mark.parametrize("points", [[], [(1, 2.0)], [(1, 1.0), (1, 1.0)], [(1, -3.0), (5, 1e9)], [(0, 0.0), (9, 0.0)]])
def test_few_and_odd_points_are_drawn_or_left(points):
    made = loss_picture(points, [])
    assert made is None if len(points) < 2 else pixels_of(made)


def test_many_points_are_thinned_and_keep_their_ends():
    points = [(step, 1.0) for step in range(10_000)]
    assert len(thinned(points)) == 300 and thinned(points)[0] == points[0] and thinned(points)[-1] == points[-1]
