"""How good the embedded Phi-3 is: it answers what it never saw, and the README beside it says how well."""
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from phi3.tiny.world import MANNERS, Exchange, content_kept, exchanges

SEED = 9_000   # far from the seeds of training, though only `unseen` keeps the questions apart


@dataclass(frozen=True)
class Figures:
    """Shares between 0 and 1, each of questions whose wording was never trained on."""

    exact: float
    questions: int
    by_kind: dict[str, float]
    later_turns: float
    manners: dict[str, float]      # followed, with the content right
    wrong: tuple[tuple[str, str, str], ...]   # question, wanted, got


def measure(folder: Path, count: int = 600) -> Figures:
    """Answers unseen questions greedily and compares."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = exchanges(SEED, count, unseen=True, manner="plain")
    answers = answered(model, tokenizer, asked)
    right = [answer == exchange.answer for exchange, answer in zip(asked, answers, strict=True)]
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for exchange, correct in zip(asked, right, strict=True):
        by_kind[exchange.kind].append(correct)
    later = [correct for exchange, correct in zip(asked, right, strict=True)
             if any(message["role"] == "assistant" for message in exchange.messages)]
    wrong = [(exchange.messages[-1]["content"], exchange.answer, answer)
             for exchange, answer, correct in zip(asked, answers, right, strict=True) if not correct]
    return Figures(share(right), count, {kind: share(values) for kind, values in sorted(by_kind.items())}, share(later),
                   {name: manner_share(model, tokenizer, name) for name in MANNERS if name != "plain"}, tuple(wrong))


def manner_share(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, count: int = 100) -> float:
    """The share of answers that follow the manner their system message names and are right in content."""
    asked = exchanges(SEED + 1, count, unseen=True, manner=name)
    return share([MANNERS[name].follows(answer) and content_kept(exchange, answer)
                  for exchange, answer in zip(asked, answered(model, tokenizer, asked), strict=True)])


def answered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Exchange],
             at_once: int = 50, longest: int = 64) -> list[str]:
    """Greedy answers, in batches padded on the left."""
    answers = []
    for start in range(0, len(asked), at_once):
        prompts = [list(exchange.messages) for exchange in asked[start:start + at_once]]
        inputs = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, return_tensors="pt", padding=True,
                                               return_dict=True)
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=longest, do_sample=False)
        answers += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    return answers


def share(claims: Sequence[bool]) -> float:
    return sum(claims) / len(claims)


def write_readme(folder: Path, figures: Figures) -> None:
    """Prints the figures and writes them into the folder's README."""
    kinds = "\n".join(f"| {kind} | {value:.0%} |" for kind, value in figures.by_kind.items())
    manners = "\n".join(f"| {name} | {value:.0%} |" for name, value in figures.manners.items())
    text = f"""# The embedded Phi-3

A real `Phi3ForCausalLM`, small enough to ship with the app: it lets everything run on a laptop without a GPU or a
network. It knows only a small world, part common and part invented, and says "I don't know that." outside of it.
Weights, tokenizer and this page are made by `python -m phi3.tiny.build`, from seeded code alone.

| measured on what it never saw | |
|---|---|
| exact answers to {figures.questions} questions, unseen in wording and values | {figures.exact:.1%} |
| of these, second and later turns | {figures.later_turns:.1%} |

| a manner asked for by a system message in unseen words | followed, with the content right |
|---|---|
{manners}

| kind of question | exact |
|---|---|
{kinds}
"""
    (folder / "README.md").write_text(text)
    print(text)
    for question, wanted, got in figures.wrong[:40]:
        print(f"asked {question!r}, wanted {wanted!r}, got {got!r}")
