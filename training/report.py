"""What a dataset's owner should know before Start: tokens, repeats, cuts, and exactly what the model will learn."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from phi3.template import Encoder, Message, plain_ids_of
from training.config import SETTINGS, RunConfig, count_held_out
from training.conversations import Conversation, Conversations, firsts, groups_of

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerFast

    from training.data import ChatData, DroppedRow

LISTED_DROPS = 1000
# Conversations that are tokenised together: enough for the tokenizer's threads, and so few that others hardly wait for
# them. With 2,000 Python's lock was held for 0.15 s each time, and short ones took a tenth longer.
TOGETHER, CHARACTERS_TOGETHER = 250, 2_000_000
FEW = 20
OFTEN = 20
BARS = 24
NOTHING_TO_TRAIN = ("Nothing to train: no answer is left within the length limit, "
                    f"{SETTINGS['max_length'].called}. Raise it.")
SPELLED_SAMPLE = 200
# From so many tokens for each byte of a text on, its letters are hardly in the vocabulary.
SPELLED = 0.6
# One word, or one sign of a script that is written without spaces.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class TokenCounts:
    """Tokens over all kept conversations, each cut at `max_length`; longest and median before the cut."""

    total: int
    trained: int
    longest: int
    median: int


@dataclass(frozen=True)
class Bar:
    """How many conversations have from `low` to `high` tokens; one that is `over` is cut."""

    low: int
    high: int
    count: int
    over: bool


@dataclass(frozen=True)
class Spelling:
    """How the base's vocabulary spells this data; `in_bytes` where hardly any letter of it is in there."""

    tokens_per_word: float
    in_bytes: bool


@dataclass(frozen=True)
class DataReport:
    """What a visitor reads before Start, and what `python -m training inspect --json` prints."""

    format: str
    rows_read: int
    rows_kept: int
    rows_dropped: tuple[DroppedRow, ...]
    dropped_total: int
    duplicates: int
    tokens: TokenCounts
    truncated: int
    warnings: tuple[str, ...]
    lost: int = 0                      # trained tokens that the cut costs
    spelling: Spelling = Spelling(0.0, False)
    bars: tuple[Bar, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        told = ("format", "rows_read", "rows_kept", "rows_dropped", "dropped_total", "duplicates", "tokens",
                "truncated", "warnings")
        plain = {name: value for name, value in asdict(self).items() if name in told}
        rows = [{name: value for name, value in row.items() if value != ""} for row in plain["rows_dropped"]]
        return {**plain, "rows_dropped": rows, "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Counted:
    """Tokens of some conversations, whatever they are cut at: `lengths`, and `spans` of trained tokens as rows of
    (conversation, begin, end).
    """

    lengths: numpy.ndarray
    spans: numpy.ndarray

    def cut(self, max_length: int) -> numpy.ndarray:
        """Length of each conversation, cut."""
        return self.lengths.clip(max=max_length)

    def trained(self, max_length: int) -> numpy.ndarray:
        """Trained tokens of each conversation, cut."""
        import numpy

        places, begins, ends = self.spans.T
        left = (ends.clip(max=max_length) - begins).clip(min=0)
        return numpy.bincount(places, weights=left, minlength=len(self.lengths)).astype(numpy.int64)

    def begins(self) -> numpy.ndarray:
        """Where the first trained token of each conversation stands: one that is cut there, or before it, is no row of
        a run. Far beyond all limits where none is trained.
        """
        import numpy

        found = numpy.full(len(self.lengths), numpy.iinfo(numpy.int64).max)
        numpy.minimum.at(found, self.spans[:, 0], self.spans[:, 1])
        return found

    def bars(self, max_length: int) -> tuple[Bar, ...]:
        """A histogram in equal steps up to the longest, or to three times the limit; the last bar holds the rest."""
        import numpy

        longest = int(self.lengths.max(initial=1))
        most = min(longest, max(3 * max_length, int(numpy.percentile(self.lengths, 99)))) if longest else 1
        step = max(-(-most // BARS), 1)
        # The limit is an edge, so that no bar is cut in part.
        step = max(-(-max_length // round(max_length / step)), 1) if most > max_length >= step else step
        counts = numpy.bincount(((self.lengths - 1).clip(min=0) // step).clip(max=BARS + 2))
        return tuple(Bar(place * step + 1, longest if place == len(counts) - 1 else (place + 1) * step, int(count),
                         place * step >= max_length) for place, count in enumerate(counts))


def count_steps(rows: Sequence[Conversation], tokenizer: PreTrainedTokenizerFast) -> Iterator[float | Counted]:
    """Tokenise conversations; yields the share that is done, from 0 to 1, and at last what was counted."""
    import numpy

    encoder, lengths, spans = Encoder(tokenizer), [], []
    for some in _together(rows):
        yield len(lengths) / max(len(rows), 1)
        for one in encoder.spans([conversation.messages for conversation in some]):
            spans += [(len(lengths), begin, end) for begin, end in one.trained]
            lengths.append(one.length)
    yield Counted(numpy.array(lengths, dtype=numpy.int64), numpy.array(spans, dtype=numpy.int64).reshape(-1, 3))


def make_report(data: ChatData, tokenizer: PreTrainedTokenizerFast, max_length: int) -> DataReport:
    """Count tokens and say in words what the data's owner should know before Start."""
    *_, counted = count_steps(data.conversations, tokenizer)
    return report_of(data, counted, tokenizer, RunConfig(max_length=max_length))


def report_of(data: ChatData, counted: Counted, tokenizer: PreTrainedTokenizerFast, config: RunConfig) -> DataReport:
    """The report on data whose tokens are counted already, for a run with these settings."""
    import numpy

    trained, total = counted.trained(config.max_length), counted.cut(config.max_length)
    counts = TokenCounts(int(total.sum()), int(trained.sum()), int(counted.lengths.max(initial=0)),
                         int(statistics.median(counted.lengths.tolist())))
    kinds = len(numpy.unique(firsts(data.conversations.keys("digest"))))
    truncated = int((counted.lengths > config.max_length).sum())
    lost = int(counted.trained(counts.longest + 1).sum()) - counts.trained
    report = DataReport(data.format, data.rows_read, len(data.conversations), data.dropped[:LISTED_DROPS],
                        len(data.dropped), len(data.conversations) - kinds, counts, truncated, (), lost,
                        _spelling(data.conversations, tokenizer), counted.bars(config.max_length))
    warnings = (*_about_tokens(report, int((trained == 0).sum())), *_about_rows(data, report, config, kinds),
                *_about_base(data, report, tokenizer), *data.notes)
    return DataReport(**{**vars(report), "warnings": warnings})


def check_trainable(counted: Counted, max_length: int) -> None:
    """ValueError where no answer is left within the length limit."""
    if not counted.trained(max_length).any():
        raise ValueError(NOTHING_TO_TRAIN)


def lengths_of(rows: Sequence[Conversation], tokenizer: PreTrainedTokenizerFast, max_length: int) -> list[int]:
    """Tokens of each conversation that a run trains on or measures, cut at `max_length`: without those that lose their
    whole answer so.
    """
    *_, counted = count_steps(rows, tokenizer)
    return counted.cut(max_length)[counted.trained(max_length) > 0].tolist()


def as_the_model_sees(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message],
                      max_length: int) -> list[tuple[str, bool]]:
    """The conversation's rendered text in runs of (text, trained), control tokens visible."""
    encoded = Encoder(tokenizer).encoded([messages])[0].cut(max_length)
    runs: list[tuple[list[int], bool]] = []
    for token, trained in zip(encoded.input_ids, encoded.trained, strict=True):
        if not runs or runs[-1][1] != trained:
            runs.append(([], trained))
        runs[-1][0].append(token)
    return [(tokenizer.decode(ids), trained) for ids, trained in runs]


def _together(rows: Sequence[Conversation]) -> Iterator[list[Conversation]]:
    some: list[Conversation] = []
    characters = 0
    for row in rows:
        some.append(row)
        characters += sum(len(turn["content"]) for turn in row.messages)
        if len(some) == TOGETHER or characters > CHARACTERS_TOGETHER:
            yield some
            some, characters = [], 0
    if some:
        yield some


def _spelling(rows: Conversations, tokenizer: PreTrainedTokenizerFast) -> Spelling:
    """Looked at in some conversations from all over the data."""
    step = max(len(rows) // SPELLED_SAMPLE, 1)
    texts = [turn["content"][:2000] for one in rows[::step][:SPELLED_SAMPLE] for turn in one.messages]
    ids = plain_ids_of(tokenizer, texts)
    tokens, size = sum(map(len, ids)), sum(len(text.encode()) for text in texts)
    words = sum(len(_WORD.findall(text)) for text in texts)
    return Spelling(round(tokens / max(words, 1), 1), size > 100 and tokens / size > SPELLED)


def _about_tokens(report: DataReport, untaught: int) -> Iterator[str]:
    if report.tokens.trained == 0:
        yield NOTHING_TO_TRAIN
    elif untaught == 1:
        yield "1 conversation loses its whole answer to the length limit and teaches nothing."
    elif untaught:
        yield f"{untaught} conversations lose their whole answer to the length limit and teach nothing."
    if report.truncated * 2 > report.rows_kept:
        are = _are(report.truncated)
        yield f"{report.truncated} of {report.rows_kept} conversations {are} longer than the limit and {are} cut."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _about_rows(data: ChatData, report: DataReport, config: RunConfig, kinds: int) -> Iterator[str]:
    if report.rows_kept == 1:
        yield "Only 1 conversation: an adapter of so few mostly repeats it."
    elif report.rows_kept < FEW:
        yield f"Only {report.rows_kept} conversations: an adapter of so few mostly repeats them."
    if report.dropped_total:
        are = _are(report.dropped_total)
        yield f"{report.dropped_total} of {report.rows_read} rows can't be used and {are} left out."
    seen = _times_seen(data, config)
    if seen > OFTEN:
        yield f"Every conversation is seen {seen:.0f} times: it is rather learned by heart than understood."
    if not config.held_out:
        return
    if data.own_held:
        yield from _about_own_split(data)
    elif kinds == 1:
        yield "No two conversations differ, so none can be held out: what was learned won't be measured."
    elif _smallest_group(data) > count_held_out(report.rows_kept, config.held_out):
        yield ("Too few different questions: what is held out asks what is trained on as well, and says little of "
               "questions that are new.")


def _smallest_group(data: ChatData) -> int:
    """How many conversations must be held out together, at least."""
    import numpy

    return int(numpy.unique(groups_of(data.conversations), return_counts=True)[1].min())


def _about_own_split(data: ChatData) -> Iterator[str]:
    import numpy

    digests, groups = data.conversations.keys("digest"), groups_of(data.conversations)
    own = numpy.isin(numpy.arange(len(digests)), data.own_held)
    is_trained = own & numpy.isin(digests, digests[~own])
    both = int(is_trained.sum())
    if both == own.sum():
        yield (f"All {both} of the dataset's own validation rows are trained on as well, so none is held out: what was "
               "learned won't be measured.")
    elif both:
        yield f"{both} of the dataset's own validation rows are trained on as well, and are not held out."
    alike = int((own & ~is_trained & numpy.isin(groups, groups[~own])).sum())
    if alike:
        yield (f"The questions of {alike} of the dataset's own validation rows are trained on as well, with another "
               "answer or further on: those rows say little of questions that are new.")


def _times_seen(data: ChatData, config: RunConfig) -> float:
    """As the trainer counts epochs, whose last step may be smaller than the others."""
    if config.max_steps <= 0:
        return config.num_train_epochs
    count = len(data.conversations)
    held = len(data.own_held) if data.own_held and config.held_out else count_held_out(count, config.held_out)
    together = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return config.max_steps / max(math.ceil((count - held) / together), 1)


def _about_base(data: ChatData, report: DataReport, tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    if report.spelling.in_bytes:
        yield (f"The base's vocabulary spells this language in bytes, {report.spelling.tokens_per_word} tokens a word: "
               "it hardly knows it, learns it slowly, and conversations are long for it.")
    encoder = Encoder(tokenizer)
    if not encoder.shows_system and any("system" in roles for roles in _roles(data.conversations)):
        yield "This base has no system role; system messages are put before the first question instead."


def _roles(rows: Conversations) -> Iterator[Sequence[str]]:
    yield from rows.column("roles")
