"""How near answers come to their references, before and with an adapter on the same prompts, with intervals; pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESAMPLES = 2000
SEED = 0
# The 97.5 % point of the normal distribution: what a 95 % interval reaches to each side.
NORMAL = 1.959964
# The judge is named before anybody looks: of several measures one would differ by chance more often.
JUDGE = "chrF"


@dataclass(frozen=True)
class Pair:
    """One prompt's reference, and what was answered to it before, by the base as a rule, and by the adapter."""

    reference: str
    before: str
    adapter: str


@dataclass(frozen=True)
class Comparison:
    """One measure's means before and for the adapter over `count` rows, and the interval (95 %) of their difference."""

    measure: str
    before: float
    adapter: float
    low: float
    high: float
    count: int

    @property
    def difference(self) -> float:
        """The adapter's mean less the one before."""
        return self.adapter - self.before

    @property
    def interval(self) -> str:
        """" (-0.20 to +1.30)", to stand behind the difference; empty where too few rows bound it."""
        is_known = math.isfinite(self.low) and math.isfinite(self.high)
        return f" ({self.low:+.2f} to {self.high:+.2f})" if is_known else ""


def compare(pairs: Sequence[Pair]) -> list[Comparison]:
    """All measures that fit the references, the judge first; ValueError where there is no pair."""
    if not pairs:
        raise ValueError("There is no answer to measure. Give at least one conversation.")
    found = []
    for name, measure in measures().items():
        before = [measure(pair.reference, pair.before) for pair in pairs]
        found.append(compared(name, before, [measure(pair.reference, pair.adapter) for pair in pairs]))
    wanted = [pair for pair in pairs if is_json(pair.reference)]
    if wanted:
        sides = ([100.0 * is_json(text) for text in texts]
                 for texts in ([pair.before for pair in wanted], [pair.adapter for pair in wanted]))
        found.append(compared("Valid JSON", *sides))
    return found


def measures() -> dict[str, Callable[[str, str], float]]:
    """Each measure of (reference, answer) by its name; all but the length ratio go from 0 to 100."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    chrf, rouge = CHRF(), RougeScorer(["rougeL"], tokenizer=_Words())

    def characters(reference: str, answer: str) -> float:
        """chrF (Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015), as sacrebleu has it."""
        return chrf.sentence_score(answer, [reference]).score

    def longest(reference: str, answer: str) -> float:
        """ROUGE-L's F (Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004), as rouge-score has it."""
        return 100 * rouge.score(reference, answer)["rougeL"].fmeasure

    return {JUDGE: characters, "ROUGE-L": longest, "Exact match": exact, "Length ratio": length_ratio}


def exact(reference: str, answer: str) -> float:
    """100 where both are the same but for white space, else 0."""
    return 100.0 * (reference.split() == answer.split())


def length_ratio(reference: str, answer: str) -> float:
    """Characters of the answer for each of the reference."""
    return len(answer.strip()) / max(1, len(reference.strip()))


def is_json(text: str) -> bool:
    """Whether the text is a JSON object or list, and nothing else."""
    text = text.strip()
    if text[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def compared(name: str, before: Sequence[float], adapter: Sequence[float]) -> Comparison:
    """The means of two lists whose values belong together row by row, and the interval of their difference."""
    low, high = interval([after - first for first, after in zip(before, adapter, strict=True)])
    return Comparison(name, sum(before) / len(before), sum(adapter) / len(adapter), low, high, len(before))


def interval(differences: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED) -> tuple[float, float]:
    """The 95 % interval of their mean by paired bootstrap, the same for the same seed; it always holds the mean.

    Percentiles of few rows are too narrow: they are widened by sqrt(n / (n - 1)) and Student's t over the normal's z
    (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 3.2; t by its first Cornish-Fisher
    term). Of one row nothing is known, and the interval has no bounds.
    """
    import numpy

    values = numpy.asarray(differences, dtype=float)
    count, mean = len(values), float(values.mean())
    if count < 2:
        return -math.inf, math.inf
    generator = numpy.random.default_rng(seed)
    means = numpy.array([values[generator.integers(0, count, count)].mean() for _ in range(resamples)])
    low, high = numpy.percentile(means, [2.5, 97.5])
    wider = math.sqrt(count / (count - 1)) * (1 + (NORMAL ** 2 + 1) / (4 * (count - 1)))
    return min(mean, mean + wider * (float(low) - mean)), max(mean, mean + wider * (float(high) - mean))


class _Words:
    """Splits into words of any script; rouge-score's own tokenizer knows a to z alone."""

    def tokenize(self, text: str) -> list[str]:
        """The words, in small letters; of scripts without spaces, each letter."""
        return re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+", text.lower())
