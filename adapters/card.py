"""The model card of an adapter: YAML that the Hub indexes, and how it was made, how well it does, and how to use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.disclosure import disclosed, on_the_hub, public_base
from adapters.picture import loss_picture, thinned
from phi3.models import EMBEDDED

APP, APP_TAG = "Phi-3 LoRA Studio", "phi-3-lora-studio"
PICTURE = "loss.png"
# Licences that the Hub knows by these ids, as offered to whoever publishes; any other one is named in the card.
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "openrail")
TO_GGUF = "https://huggingface.co/spaces/ggml-org/gguf-my-lora"
# vLLM takes no other numbers for --max-lora-rank.
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_PEFT_SETTINGS = ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules")
# Settings of the studio's own, which are keyword arguments of neither TRL nor PEFT.
_OWN_SETTINGS = ("method", "held_out", "attn_implementation", "early_stopping")
_SOURCES = {"example": "one of the example datasets that ship with the app", "file": "a file of conversations",
            "paste": "conversations that were pasted in", "hub": "a dataset on the Hub",
            "described": "the base's own answers in a manner that was described to it, as its maker left them",
            "lesson": "corrections of its answers, among rows that it had learned from before"}
_TABLE_ROWS = 12


@dataclass(frozen=True)
class Example:
    """One prompt whose owner wants it shown, with the answers before and of the adapter."""

    prompt: str
    before: str
    adapter: str


@dataclass(frozen=True)
class Story:
    """What a card is made from.

    `provenance` is the adapter's own (training/outcome.py): only what `disclosed` lets through gets into the card.
    `config` is its adapter_config.json. Nobody's rows are here, unless somebody puts them among the `examples`, which
    are printed as they are. `datasets` are ids of public datasets on the Hub; `space` is the id of a Space of this app.
    """

    repository: str
    provenance: Mapping[str, Any]
    config: Mapping[str, Any]
    licence: str = "mit"
    examples: Sequence[Example] = ()
    language: str | None = None
    datasets: Sequence[str] = ()
    space: str | None = None

    @property
    def name(self) -> str:
        """What the adapter is called: the repository's last name."""
        return self.repository.rsplit("/", 1)[-1]

    @property
    def base(self) -> str:
        """The base as others know it."""
        named = self.config.get("base_model_name_or_path") or self.provenance.get("base")
        return public_base(named) if isinstance(named, str) else EMBEDDED

    @property
    def rank(self) -> int | None:
        """The rank that most of its layers have."""
        rank = self.config.get("r")
        return rank if isinstance(rank, int) and rank > 0 else None


@dataclass(frozen=True)
class Card:
    """README.md, and the picture (a PNG) that it shows where losses were kept."""

    text: str
    picture: bytes | None = None


def card_of(story: Story) -> Card:
    """The whole card; the same story gives the same bytes."""
    told = disclosed(story.provenance)
    losses = told.get("losses", {})
    picture = loss_picture(losses.get("train", []), losses.get("held_out", []))
    parts = [f"---\n{metadata(story)}---", f"# {_inline(story.name)}", _opening(story, told), _learned_from(told),
             _how_well(told, picture is not None), _side_by_side(story.examples, told), _how_made(story, told),
             _use(story), _limits(story, told)]
    return Card("\n\n".join(part for part in parts if part) + "\n", picture)


def metadata(story: Story) -> str:
    """The card's YAML, without its fences. Text that somebody chose is quoted by YAML's own writer.

    The Hub finds adapters by `base_model`. A base that isn't on the Hub is not named there, since the name might be
    somebody else's one day; a tag of the app's own stands for it.
    """
    import yaml

    told = disclosed(story.provenance)
    fields: dict[str, Any] = {"library_name": "peft"}
    if on_the_hub(story.base):
        fields |= {"base_model": story.base, "base_model_relation": "adapter"}
    fields["pipeline_tag"] = "text-generation"
    if story.language:
        fields["language"] = [_one_line(story.language)]
    if story.datasets:
        fields["datasets"] = [one for one in story.datasets if on_the_hub(one)]
    fields |= _licence(story.licence)
    method = told.get("settings", {}).get("method")
    fields["tags"] = [APP_TAG, base_tag(story.base), "phi-3", "lora", *(["qlora"] if method == "qlora" else []),
                      *(["trl", "sft"] if "trl" in told.get("versions", {}) else [])]
    if story.rank:
        fields["lora_rank"] = story.rank
    results = _results(told)
    if results:
        fields["model-index"] = [{"name": _one_line(story.name), "results": [results]}]
    return yaml.safe_dump({name: value for name, value in fields.items() if value}, sort_keys=False,
                          allow_unicode=True, width=10_000)


def base_tag(base: str) -> str:
    """The app's own tag for adapters of a base, by which those of a base that isn't on the Hub are found."""
    return "base-" + re.sub(r"[^a-z0-9.-]+", "-", public_base(base).lower())


def snippet(base: str, repository: str) -> str:
    """How PEFT loads the adapter, as Python."""
    where = base if on_the_hub(base) else f"the/folder/of/{public_base(base)}"
    return (f"from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(where)})\n"
            f"base = AutoModelForCausalLM.from_pretrained({json.dumps(where)}, dtype=\"auto\")\n"
            f"model = PeftModel.from_pretrained(base, {json.dumps(repository)})\n\n"
            f"messages = [{{\"role\": \"user\", \"content\": \"Where is the library?\"}}]\n"
            f"inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors=\"pt\",\n"
            f"                                       return_dict=True)\n"
            f"answer = model.generate(**inputs, max_new_tokens=100)\n"
            f"print(tokenizer.decode(answer[0][inputs[\"input_ids\"].shape[1]:], skip_special_tokens=True))")


def dictionaries(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`training_config` and `peft_config` as they were asked for, out of a run's settings."""
    training = {name: value for name, value in settings.items()
                if name not in (*_PEFT_SETTINGS, *_OWN_SETTINGS) and (name, value) != ("max_steps", -1)}
    peft = {name: settings[name] for name in _PEFT_SETTINGS if name in settings}
    layers = peft.get("target_modules")
    if layers and layers != "all-linear":
        peft["target_modules"] = [one.strip() for one in layers.split(",")]
    return training, {**peft, "bias": "none", "task_type": "CAUSAL_LM"} if peft else {}


def _licence(licence: str) -> dict[str, str]:
    """The Hub knows some licences by their ids; what else somebody writes is a name of its own."""
    named = _one_line(licence)
    if not named or named in LICENCES:
        return {"license": named} if named else {}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.-]+", "-", named.lower()).strip("-") or "other"}


def _results(told: Mapping[str, Any]) -> dict[str, Any] | None:
    outcome = told.get("outcome", {})
    if "loss" not in outcome:
        return None
    metrics = [{"type": "loss", "name": "Loss on held-out conversations", "value": outcome["loss"]}]
    if "loss_before" in outcome:
        metrics.append({"type": "loss", "name": f"Loss of {_before(told)} on the same",
                        "value": outcome["loss_before"]})
    return {"task": {"type": "text-generation", "name": "Text generation"},
            "dataset": {"type": "custom", "name": "Conversations held out of the training data"}, "metrics": metrics}


def _before(told: Mapping[str, Any]) -> str:
    """What the adapter is measured against."""
    return "the adapter that it was trained further from" if "started_from" in told else "the base"


def _opening(story: Story, told: Mapping[str, Any]) -> str:
    link = f"[{story.base}](https://huggingface.co/{story.base})" if on_the_hub(story.base) else f"`{story.base}`"
    rank = f" of rank {story.rank}" if story.rank else ""
    made = f", made with {APP}" if told.get("settings") else f", published with {APP}"
    text = f"A LoRA adapter{rank} for {link}{made}."
    if story.base == EMBEDDED:
        return (f"{text} Its base is the small Phi-3 that ships inside the app: it is not on the Hub, and the adapter "
                "works with no other model.")
    if not on_the_hub(story.base):
        return f"{text} Its base was a folder on the machine where it was trained, and is not named by a Hub id."
    return text


def _learned_from(told: Mapping[str, Any]) -> str:
    data = told.get("data", {})
    if not data:
        return "## What it learned from\n\nNobody wrote down what it was trained on."
    source = _SOURCES.get(data.get("kind", ""), "conversations")
    named = f" (`{data['name']}`)" if "name" in data else ""
    form = f", in the form `{data['format']}`" if "format" in data else ""
    lines = [f"Source: {source}{named}{form}."]
    counts = [f"{data[key]:,} {words}" for key, words in (("rows", "rows read"), ("dropped", "left out"), (
        "train", "trained on"), ("held_out", "held out to measure")) if key in data]
    if counts:
        lines.append(f"Rows: {', '.join(counts)}.")
    if "sha256" in data:
        lines.append(f"SHA-256 of the rows as they were kept: `{data['sha256']}`. The rows themselves are not here.")
    return "## What it learned from\n\n" + "\n".join(lines)


def _how_well(told: Mapping[str, Any], has_picture: bool) -> str:
    outcome, losses = told.get("outcome", {}), told.get("losses", {})
    parts = [outcome["verdict"]] if "verdict" in outcome else []
    if "loss" in outcome:
        parts.append("| | loss on held-out conversations |\n| --- | --- |\n"
                     + "".join(f"| {who} | {outcome[key]:.4f} |\n" for who, key in ((_before(told), "loss_before"), (
                         "with this adapter", "loss")) if key in outcome).rstrip())
    if has_picture:
        parts.append(f"![Loss by step: a thin line while training, a thick one with dots on held-out conversations. "
                     f"The numbers stand below.]({PICTURE})")
        parts.append(_curve_in_numbers(losses))
    return "## How well it does\n\n" + "\n\n".join(parts) if parts else ""


def _curve_in_numbers(losses: Mapping[str, Any]) -> str:
    rows = [f"| {step:.0f} | {which} | {loss:.4f} |" for which, key in (("training rows", "train"), (
        "held-out rows", "held_out")) for step, loss in thinned(losses.get(key, []), _TABLE_ROWS)]
    table = "\n".join(["| step | measured on | loss |", "| --- | --- | --- |", *rows])
    return f"<details><summary>The curve in numbers</summary>\n\n{table}\n\n</details>"


def _side_by_side(examples: Sequence[Example], told: Mapping[str, Any]) -> str:
    before = _before(told)
    shown = [f"**Prompt**\n\n{_fenced(one.prompt)}\n\n{before.capitalize()}:\n\n{_fenced(one.before)}\n\n"
             f"With this adapter:\n\n{_fenced(one.adapter)}" for one in examples]
    return "\n\n".join(["## Before and after, side by side", *shown]) if shown else ""


def _how_made(story: Story, told: Mapping[str, Any]) -> str:
    training, peft = dictionaries(told.get("settings", {}))
    facts = [(label, value) for label, value in (
        ("Method", told.get("settings", {}).get("method")), ("Base revision", told.get("base_revision")),
        ("Trained further from an adapter with the SHA-256", told.get("started_from", {}).get("sha256")),
        ("Steps", _steps(told.get("outcome", {}))), ("Seconds", told.get("outcome", {}).get("seconds")),
        ("Hardware", told.get("hardware") or told.get("device")), ("Most memory held", _memory(told)),
        ("Versions", ", ".join(f"{name} {one}" for name, one in told.get("versions", {}).items())),
        ("SHA-256 of the chat template", told.get("chat_template"))) if value]
    if not facts and not training:
        return ""
    parts = ["## How it was made", "\n".join(f"- {label}: {value}" for label, value in facts)]
    if training:
        parts.append(_fenced(f"training_config = {_as_python(training)}\n\npeft_config = {_as_python(peft)}", "python"))
    return "\n\n".join(part for part in parts if part)


def _steps(outcome: Mapping[str, Any]) -> str | int | None:
    """How many were made, and of which one the adapter is where its run went back."""
    steps, back = outcome.get("steps"), outcome.get("went_back_to")
    return f"{steps}; it is the adapter of step {back}, to which the run went back" if steps and back else steps


def _memory(told: Mapping[str, Any]) -> str | None:
    held = told.get("outcome", {}).get("peak_bytes")
    return f"{held / 1e9:.1f} GB" if held else None


def _as_python(values: Mapping[str, Any]) -> str:
    return "{\n" + "".join(f"    {name!r}: {value!r},\n" for name, value in values.items()) + "}"


def _use(story: Story) -> str:
    known = on_the_hub(story.base)
    name = re.sub(r"[^\w.-]", "-", story.name, flags=re.ASCII)
    where = "" if known else ", and the base in a folder" if story.base != EMBEDDED else \
        ", and the app's own folder phi3/tiny as the base"
    parts = ["## How to use it", f"With PEFT{where}:",
             _fenced(snippet(story.base, story.repository), "python"),
             f"In {APP}, from the terminal:",
             _fenced(f"python -m adapters fetch {story.repository}\n"
                     f"python -m chat \"Where is the library?\" --with base --with {name}", "sh")]
    if story.space and on_the_hub(story.space):
        parts.append(f"Or in its Space: [chat with base and adapter side by side](https://huggingface.co/spaces/"
                     f"{story.space}?adapter={story.repository}).")
    if known:
        parts += _elsewhere(story, name)
    return "\n\n".join(parts)


def _elsewhere(story: Story, name: str) -> list[str]:
    """In other programs. DoRA is refused by vLLM (lora/peft_helper.py) and by llama.cpp (convert_lora_to_gguf.py)."""
    if story.config.get("use_dora"):
        return ["vLLM and llama.cpp take no DoRA adapters. Base and adapter as one model, which they do take: "
                f"`python -m adapters merge {name} OUT`."]
    rank = next((one for one in _VLLM_RANKS if one >= (story.rank or 16)), _VLLM_RANKS[-1])
    return ["In vLLM:", _fenced(f"vllm serve {story.base} --enable-lora --max-lora-rank {rank} \\\n"
                                f"    --lora-modules {name}={story.repository}", "sh"),
            f"For llama.cpp and its like, [this Space]({TO_GGUF}) turns a PEFT adapter into GGUF. A server that wants "
            f"q_proj, k_proj and v_proj instead of qkv_proj: `python -m adapters convert {name} OUT --to split`."]


def _limits(story: Story, told: Mapping[str, Any]) -> str:
    judges = [*(["figures"] if {"loss", "verdict"} & told.get("outcome", {}).keys() else []),
              *(["answers"] if story.examples else [])]
    judged = f"It was judged by the {' and '.join(judges)} above, and by nothing else." if judges else \
        "Nobody has judged it."
    small = " The base has a few million parameters and knows a small invented world; expect nothing beyond it." \
        if story.base == EMBEDDED else ""
    return (f"## Limits\n\n{judged} What it learned came from its training data, mistakes and leanings included; what "
            "those don't cover, it answers as its base does, or worse. It may state what is false. Don't rely on it "
            f"where a wrong answer does harm. The base's own limits and licence hold for the two together.{small}")


def _one_line(text: str) -> str:
    """Text that somebody chose, on one line and of bounded length."""
    return " ".join(text.split())[:200]


def _inline(text: str) -> str:
    """Text that somebody chose, as it can stand in a heading: Markdown's and HTML's own signs mean nothing in it."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~])", r"\\\1", _one_line(text))


def _fenced(text: str, language: str = "text") -> str:
    """A block that shows the text as it is, whatever fences it holds itself."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
