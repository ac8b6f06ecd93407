"""How good the embedded Phi-3 is: it answers what it never saw, and the README beside it says how well."""
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from phi3.tiny.world import MANNERS, Exchange, content_kept, exchanges

SEED = 9_000   # far from the seeds of training, though only `unseen` keeps the questions apart
DRAWN_AT_ONCE = 500


@dataclass(frozen=True)
class Figures:
    """Shares between 0 and 1, each of questions whose wording was never trained on."""

    exact: float
    questions: int
    by_kind: dict[str, float]
    leaning: float                 # exact answers to later turns that need the ones before them
    leaning_questions: int
    outside: float                 # says that it doesn't know what it can't know
    outside_questions: int
    manners: dict[str, float]      # followed, with the content right
    wrong: tuple[tuple[str, str, str], ...]   # question, wanted, got


def measure(folder: Path, count: int = 600) -> Figures:
    """Answers unseen questions greedily and compares."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    mixed = exchanges(SEED, count, unseen=True, manner="plain")
    leaning = drawn_where(lambda exchange: exchange.leans, count // 2)
    outside = drawn_where(lambda exchange: exchange.kind == "unknown", count // 2)
    exact, leaning_exact, outside_exact = (judged(model, tokenizer, asked) for asked in (mixed, leaning, outside))
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for asked, right, _ in exact:
        by_kind[asked.kind].append(right)
    wrong = [(asked.messages[-1]["content"], asked.answer, answer)
             for asked, right, answer in (*exact, *leaning_exact, *outside_exact) if not right]
    return Figures(
        right_share(exact), count, {kind: share(values) for kind, values in sorted(by_kind.items())},
        right_share(leaning_exact), len(leaning), right_share(outside_exact), len(outside),
        {name: manner_share(model, tokenizer, name) for name in MANNERS if name != "plain"}, tuple(wrong))


def drawn_where(wanted: Callable[[Exchange], bool], count: int) -> list[Exchange]:
    """So many plain exchanges of one sort."""
    found: list[Exchange] = []
    seed = SEED + 100
    while len(found) < count:
        found += filter(wanted, exchanges(seed, DRAWN_AT_ONCE, unseen=True, manner="plain"))
        seed += 1
    return found[:count]


Judged = list[tuple[Exchange, bool, str]]


def judged(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Exchange]) -> Judged:
    """Each exchange, whether its answer is exactly the one that is due, and the answer."""
    answers = answered(model, tokenizer, asked)
    return [(exchange, answer == exchange.answer, answer) for exchange, answer in zip(asked, answers, strict=True)]


def right_share(some: Judged) -> float:
    return share([right for _, right, _ in some])


def manner_share(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, count: int = 100) -> float:
    """The share of answers that follow the manner their system message names and are right in content."""
    asked = exchanges(SEED + 1, count, unseen=True, manner=name)
    return share([MANNERS[name].follows(answer) and content_kept(exchange, answer)
                  for exchange, answer in zip(asked, answered(model, tokenizer, asked), strict=True)])


def answered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Exchange],
             at_once: int = 50, longest: int = 128) -> list[str]:
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
network. It knows only a small world, part common and part invented: places, animals, things, words, days, numbers up to
a hundred, short texts to read, lists, sentences to rewrite, little stories and small talk. Outside of it it says "I
don't know that." A system message can ask it for one of {len(figures.manners)} manners. Weights, tokenizer and this
page are made by `python -m phi3.tiny.build`, from seeded code alone. The weights that ship are an average: three
quarters of those after 11,500 steps, and a quarter of the same ones refined twice as the world grew (`--refine 1800`,
`--refine 1000 --seed 2`). So a rebuild from nothing gives an equivalent model and not the same bytes.

| measured on what it never saw | |
|---|---|
| exact answers to {figures.questions} questions, unseen in wording and values | {figures.exact:.1%} |
| exact answers to {figures.leaning_questions} later turns that lean on the ones before them | {figures.leaning:.1%} |
| says that it doesn't know, to {figures.outside_questions} questions from outside its world | {figures.outside:.1%} |

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
