"""An adapter against what it began from on conversations that neither was trained on: answers, measures, a verdict."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.files import write_whole
from phi3.bounds import USUAL, Bounds
from phi3.lane import Lane, Sampling
from phi3.models import EMBEDDED
from phi3.template import Message, encode_conversation, plain_ids_of
from training.answers import GENERAL_ROWS, PROMPTS_AT_THE_END, TOKENS_AT_THE_END
from training.conversations import Conversation, digest
from training.measures import Comparison, Pair, compare, compared
from training.verdict import Losses, verdict

if TYPE_CHECKING:
    from phi3.generate import Answerer
    from phi3.models import Base
    from training.run import Event, Run

FILE = "evaluation.json"
GENERAL_FILE = Path(__file__).parent / "general.jsonl"
PROMPTS_AT_ONCE = 16
LONGEST_ANSWER = 256
GENERAL_SEED = 11
GENERAL_LOSS = "Loss on general questions"
# What an adapter is compared with, as the head of a column: the base, or the adapter that it was made from.
AGAINST = ("base", "before")
SHOWN_ROWS = 3
SAMPLE_SEED = 5


@dataclass(frozen=True)
class Question:
    """A conversation cut before its last answer, and that answer."""

    messages: tuple[Message, ...]
    reference: str


@dataclass(frozen=True)
class Answered:
    """One prompt with its reference and both answers; `gain` is how much nearer (chrF) the adapter came."""

    prompt: str
    reference: str
    before: str
    adapter: str
    gain: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and what it comes to. `best` and `worst` are rows by gain; `general` compares losses. The
    adapter is compared with the base, or where it was `continued`, with the adapter that it was made from.
    """

    verdict: str
    comparisons: tuple[Comparison, ...]
    best: tuple[Answered, ...]
    worst: tuple[Answered, ...]
    general: Comparison | None = None
    continued: bool = False

    @property
    def against(self) -> str:
        """What the adapter is compared with, as the head of a column."""
        return AGAINST[self.continued]

    def as_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same again; unknown bounds are None, as JSON has no infinity.
        """
        plain = asdict(self)
        for one in filter(None, (*plain["comparisons"], plain["general"])):
            one |= {name: round(one[name], 4) if abs(one[name]) < float("inf") else None
                    for name in ("before", "adapter", "low", "high")}
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Evaluation:
        """The inverse of `as_json`, to four digits."""
        rows = {name: tuple(Answered(**one) for one in plain[name]) for name in ("best", "worst")}
        general = _comparison(plain["general"]) if plain["general"] else None
        return cls(plain["verdict"], tuple(map(_comparison, plain["comparisons"])), general=general,
                   continued=plain["continued"], **rows)

    def write(self, folder: Path) -> None:
        """Into evaluation.json, whole or not at all."""
        write_whole(folder / FILE, json.dumps(self.as_json(), ensure_ascii=False, indent=1) + "\n")


def read_evaluation(folder: Path) -> Evaluation | None:
    """What a run's folder holds of it; None where nothing was measured."""
    path = folder / FILE
    return Evaluation.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def questions(rows: Sequence[Conversation], most: int | None = None) -> list[Question]:
    """Conversations cut before the last assistant turn, equal ones once; of many, `most` that a seed chose, in their
    order. Rows that are repeated would pass for so many that agree.
    """
    different = list({digest(one.messages): one for one in rows}.values())
    places = range(len(different))
    if most is not None and most < len(different):
        places = sorted(random.Random(SAMPLE_SEED).sample(places, most))
    found = []
    for one in (different[place] for place in places):
        last = max((place for place, turn in enumerate(one.messages) if turn["role"] == "assistant"), default=0)
        if last:
            found.append(Question(tuple(one.messages[:last]), one.messages[last]["content"]))
    return found


def cut(one: Question, tokenizer: Any, most: int) -> Question:
    """With as much of the reference as an answer of so many tokens may hold."""
    ids, = plain_ids_of(tokenizer, [one.reference])
    if len(ids) <= most:
        return one
    return Question(one.messages, tokenizer.decode(ids[:most], skip_special_tokens=True))


def evaluation_of(asked: Sequence[Question], before: Sequence[str], adapter: Sequence[str],
                  losses: Losses | None = None, general: Comparison | None = None,
                  continued: bool = False, unseen: bool = True) -> Evaluation:
    """What the answers (texts, in the order of the questions) come to; ValueError where there are none. `losses`,
    `general`, `continued` and `unseen` are for the verdict.
    """
    from training.measures import JUDGE, measures

    pairs = [Pair(one.reference, *texts) for one, *texts in zip(asked, before, adapter, strict=True)]
    comparisons = tuple(compare(pairs))
    judge = measures()[JUDGE]
    rows = [Answered(one.messages[-1]["content"], pair.reference, pair.before, pair.adapter,
                     round(judge(pair.reference, pair.adapter) - judge(pair.reference, pair.before), 2))
            for one, pair in zip(asked, pairs, strict=True)]
    ordered = sorted(rows, key=lambda row: -row.gain)
    shown = min(SHOWN_ROWS, len(rows) // 2) or 1
    worst = tuple(reversed(ordered[shown:][-shown:]))
    said = verdict(comparisons, losses, general, continued, unseen)
    return Evaluation(said, comparisons, tuple(ordered[:shown]), worst, general, continued)


def losses_of(course: Sequence[Event]) -> Losses:
    """A run's losses, from its events."""
    points = {kind: [(event.step, event.values["loss"]) for event in course if event.type == kind]
              for kind in ("step", "evaluated")}
    return Losses(points["step"], points["evaluated"])


def losses_up_to(run: Run, last: int | None) -> Losses:
    """What an adapter has behind it that is of this step of the run, or of its newest: an adapter that is of an earlier
    one knows nothing of what came after. None of a lesson, whose loss on what it held out tells of forgetting, not of
    overfitting.
    """
    if run.is_lesson:
        return Losses()
    return losses_of([event for event in run.course() if last is None or (event.step or 0) <= last])


def answered(answerer: Answerer, asked: Sequence[Question], adapter: Path,
             before: Path | None = None) -> Iterator[tuple[str, str]]:
    """(before, adapter): both greedy answers to each question, some questions at a time, in one batch. Before it was
    another adapter, or else the base.

    ValueError where a question can't be answered, as when it is longer than the base reads.
    """
    greedy = Sampling(max_new_tokens=LONGEST_ANSWER)
    both = before and str(before), str(adapter)
    for start in range(0, len(asked), PROMPTS_AT_ONCE):
        some = asked[start:start + PROMPTS_AT_ONCE]
        *_, last = answerer.answer([Lane(one.messages, folder, greedy) for folder in both for one in some])
        problem = next((one.note for one in last if one.end == "error"), "")
        if problem:
            raise ValueError(problem)
        texts = [one.text for one in last]
        yield from zip(texts[:len(some)], texts[len(some):], strict=True)


def evaluate_trained(model: Any, base: Base, rows: Sequence[Conversation], losses: Losses,
                     most: int = PROMPTS_AT_THE_END, began: AbstractContextManager[Any] | None = None,
                     bounds: Bounds = USUAL) -> Evaluation | None:
    """The model as it was trained against what it began from, on at most so many held-out rows; None where there are
    none.

    It began from the base, whose model shares its weights and never had an adapter, whatever the method; or else
    `began` gives a model with the adapter that it was made from. Answers end after a few tokens, so the references are
    cut to as many. Nothing is drawn at random here.
    """
    from phi3.generate import answer_all

    asked = [cut(one, base.tokenizer, TOKENS_AT_THE_END) for one in questions(rows, most)]
    if not asked:
        return None
    lanes = [Lane(one.messages, sampling=Sampling(max_new_tokens=TOKENS_AT_THE_END)) for one in asked]
    general = general_rows(base.facts.id)
    adapter = answer_all(model, base, lanes, bounds), row_losses(model, base, general)
    with began or nullcontext(base.model) as first:
        before = answer_all(first, base, lanes, bounds), row_losses(first, base, general)
    both, forgotten = zip(before, adapter, strict=True)
    kept = [place for place, pair in enumerate(zip(*both, strict=True)) if all(one.end != "error" for one in pair)]
    if not kept:
        return None
    texts = [[answers[place].text for place in kept] for answers in both]
    return evaluation_of([asked[place] for place in kept], *texts, losses, compared(GENERAL_LOSS, *forgotten),
                         continued=began is not None)


def general_rows(base: str) -> list[tuple[Message, ...]]:
    """Conversations that any adapter should leave as they are: of the embedded base's own world, or of everybody's."""
    if base != EMBEDDED:
        rows = map(json.loads, GENERAL_FILE.read_text(encoding="utf-8").splitlines())
        return [_conversation(row["prompt"], row["completion"]) for row in rows]
    from phi3.tiny.world import exchanges

    drawn = exchanges(GENERAL_SEED, 6 * GENERAL_ROWS, unseen=True, manner="plain")
    rows = [_conversation(one.messages[0]["content"], one.answer) for one in drawn if len(one.messages) == 1]
    return rows[:GENERAL_ROWS]


def row_losses(model: Any, base: Base, rows: Sequence[tuple[Message, ...]]) -> list[float]:
    """The mean loss (nats for each token of the answers) of each conversation.

    The model is put into eval mode for it and back.
    """
    from phi3.learner import Learner
    from phi3.packed import Packed

    encoded = [encode_conversation(base.tokenizer, row) for row in rows]
    packs = [Packed.of([(one.input_ids, one.labels())]) for one in encoded]
    was_training = model.training
    model.eval()
    try:
        learner = Learner(model)
        return [learner.means([pack])[0] for pack in packs]
    finally:
        model.train(was_training)


def in_words(one: Evaluation, show: Callable[[str], str] = str) -> Iterator[str]:
    """The table, the rows where the adapter gained and lost most, and the verdict, as lines for a terminal."""
    yield f"{'':14}{one.against:>9}{'adapter':>9}{'difference':>12}   95 % interval"
    for line in one.comparisons:
        yield (f"{line.measure:14}{line.before:9.2f}{line.adapter:9.2f}{line.difference:+12.2f}   {line.low:+.2f} to "
               f"{line.high:+.2f}")
    for title, rows in (("Best", one.best), ("Worst", one.worst)):
        for row in rows:
            yield f"\n{title}, chrF {row.gain:+.1f}: {show(row.prompt)}"
            yield from (f"  {name:10}{show(text)}" for name, text in (
                ("wanted", row.reference), (one.against, row.before), ("adapter", row.adapter)))
    yield f"\n{one.verdict}"


def _conversation(prompt: str, answer: str) -> tuple[Message, ...]:
    return {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}


def _comparison(plain: dict[str, Any]) -> Comparison:
    infinite = float("inf")
    low, high = (value if value is not None else bound
                 for value, bound in ((plain["low"], -infinite), (plain["high"], infinite)))
    return Comparison(plain["measure"], plain["before"], plain["adapter"], low, high, plain["count"])
