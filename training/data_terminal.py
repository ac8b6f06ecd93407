"""Data in the terminal: how a person names it, and `python -m training inspect`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from phi3.machine import this_machine
from training.advice import warnings_for
from training.config import SETTINGS, RunConfig
from training.hub_data import USUAL_ROWS
from training.presets import USUAL_PRESET, Task, preset_of

if TYPE_CHECKING:
    from training.data import Conversation, DataReport, Source

WHAT = ("a file (JSONL, JSON, CSV, TSV, Parquet, Arrow, xlsx, gz, zip), a folder of them, a dataset on the Hub as "
         "OWNER/NAME, or an example's name")
NONE_NAMED = "Which data? Name a file, or an example such as pirate; for a run as --data FILE or --data pirate."
BAR = 30


def add_command(commands: Any) -> None:
    """`inspect` among the other commands."""
    inspect = commands.add_parser("inspect", help="what data holds, and what is wrong with it")
    inspect.add_argument("data", nargs="+", metavar="WHAT", help=WHAT)
    add_data_options(inspect)
    inspect.add_argument("--max_length", type=int, default=SETTINGS["max_length"].default, help="tokens kept")
    inspect.add_argument("--base", help="whose tokenizer counts (default: this machine's base)")
    inspect.add_argument("--json", action="store_true", help="print one object")
    inspect.set_defaults(do=_inspect)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """What a person says of their data."""
    parser.set_defaults(prompt_column="", answer_column="", subset="", split="", rows=USUAL_ROWS, no_repeats=False)
    usual = {"default": argparse.SUPPRESS}
    parser.add_argument("--prompt_column", metavar="NAME", help="the column that holds the prompts", **usual)
    parser.add_argument("--answer_column", metavar="NAME", help="the column that holds the answers", **usual)
    parser.add_argument("--subset", metavar="NAME", help="of a dataset on the Hub: its configuration", **usual)
    parser.add_argument("--split", metavar="NAME", help="of a dataset on the Hub: its split", **usual)
    parser.add_argument("--rows", type=int, metavar="INT",
                        help=f"of a dataset on the Hub: rows to read (default {USUAL_ROWS})", **usual)
    parser.add_argument("--no_repeats", action="store_true", help="leave out repeated conversations",
                        **usual)


def source(what: str | list[str], asked: argparse.Namespace) -> Source:
    """What was named on the command line: an example, files, a folder, or a dataset on the Hub."""
    from training.columns import Columns
    from training.data import Source, source_of
    from training.hub_data import HubRows, hub_id, is_hub_id

    if bool(asked.prompt_column) != bool(asked.answer_column):
        raise ValueError("Give both --prompt_column and --answer_column, or neither.")
    columns = Columns(asked.prompt_column, asked.answer_column) if asked.prompt_column else None
    more = {"columns": columns, "without_repeats": asked.no_repeats}
    named = what if isinstance(what, list) else [what]
    if not all(isinstance(one, str) and one.strip() for one in named):
        raise ValueError(NONE_NAMED)
    if len(named) == 1 and is_hub_id(named[0]):
        if asked.rows < 1:
            raise ValueError(f"rows is {asked.rows}, and must be 1 or more.")
        id = hub_id(named[0])
        return Source(id, "hub", hub=HubRows(id, asked.subset, asked.split, asked.rows, own_token=True), **more)
    return source_of(named[0] if len(named) == 1 else named, **more)


def conversations_of(asked: argparse.Namespace) -> Sequence[Conversation]:
    """The conversations of what was named with --data."""
    from training.data import last, read_steps

    return last(read_steps(source(asked.data, asked))).conversations


def _inspect(asked: argparse.Namespace) -> int:
    from phi3.models import base_facts, chosen_base, load_tokenizer
    from training.data import read_steps
    from training.report import count_steps, report_of

    if asked.max_length < 1:
        raise ValueError(f"{SETTINGS['max_length'].called} is {asked.max_length}, and must be 1 or more.")
    data = _followed("Reading", read_steps(source(asked.data, asked)))
    machine = this_machine()
    facts = base_facts(asked.base or chosen_base(machine.kind != "cpu"))
    tokenizer = load_tokenizer(facts)
    counted = _followed("Counting tokens", count_steps(data.conversations, tokenizer))
    report = report_of(data, counted, tokenizer, replace(RunConfig(), max_length=asked.max_length))
    fixed = {} if asked.max_length == SETTINGS["max_length"].default else {"max_length": asked.max_length}
    task = Task.of(facts, machine, data, counted)
    usual = preset_of(USUAL_PRESET, task, fixed)
    warnings = warnings_for(RunConfig(**{**usual.values, **fixed}), task)
    if asked.json:
        suited = {"settings": dict(usual.values), "why": usual.why, "warnings": warnings}
        print(json.dumps({**report.as_json(), "run": suited}, ensure_ascii=False))
    else:
        print("\n".join([*_report_in_words(data.name, report), f"A run would be: {usual.why}", *warnings]))
    if not report.tokens.trained:
        raise ValueError(report.warnings[0])
    return 0


def _followed(words: str, steps: Iterable[float | Any]) -> Any:
    """What the steps come to; a bar follows them on a terminal's stderr."""
    result: Any = None
    is_shown = sys.stderr.isatty()
    for result in steps:
        if is_shown and isinstance(result, float):
            filled = round(result * BAR)
            print(f"\r{words} {'█' * filled}{'·' * (BAR - filled)} {result:4.0%}", end="", file=sys.stderr, flush=True)
    if is_shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return result


def _report_in_words(name: str, report: DataReport) -> Iterator[str]:
    yield f"{name}: {report.format}, {report.rows_kept} of {report.rows_read} rows kept."
    cut = f"{report.truncated:,} {'is' if report.truncated == 1 else 'are'} cut"
    cost = f" at the cost of {report.lost:,} trained tokens" if report.lost else ""
    yield (f"{report.tokens.total:,} tokens, {report.tokens.trained:,} of them trained; the longest conversation has "
           f"{report.tokens.longest:,}, the median {report.tokens.median:,}. {cut}{cost}.")
    yield (f"{report.duplicates:,} conversations are repeats of others. A word takes "
           f"{report.spelling.tokens_per_word} tokens.")
    yield from _histogram(report)
    yield from report.warnings
    yield from (f"  {drop.file + ', ' if drop.file else ''}row {drop.row}: {drop.reason}"
                for drop in report.rows_dropped[:20])
    if report.dropped_total > 20:
        yield f"  and {report.dropped_total - 20:,} rows more (--json lists them)"


def _histogram(report: DataReport) -> Iterator[str]:
    """Conversations by their tokens; those over the limit are marked."""
    most = max((bar.count for bar in report.bars), default=1)
    for bar in report.bars:
        drawn = "█" * -(-bar.count * BAR // most) or "·"
        yield f"  {bar.low:>6,} to {bar.high:>6,}  {drawn} {bar.count:,}{' cut' if bar.over and bar.count else ''}"
