"""Train from the terminal: plan, run, resume, stop, show, compare, evaluate, list, inspect, describe."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.files import write_whole
from adapters.library import Library
from phi3.machine import studio_home, this_machine, writable_home
from phi3.terminal import say, status_of
from training import compare_terminal, data_terminal, evaluate_terminal, runs_terminal
from training.advice import warnings_for
from training.config import SETTINGS, RunConfig, Setting, converted
from training.data_terminal import NONE_NAMED, WHAT, add_data_options, source
from training.group import KEPT_FROM_START, members_of
from training.presets import PRESETS, USUAL_PRESET, Task, preset_of
from training.runs import Beginning, Runs
from training.runs_terminal import train_here

if TYPE_CHECKING:
    from adapters.library import Adapter
    from phi3.models import BaseFacts
    from training.data import ChatData


def main(arguments: list[str] | None = None) -> int:
    """Parse and do; 0 when done, 2 with one sentence on stderr where the user can mend it."""
    asked = _parser().parse_args(arguments)
    return status_of(lambda: asked.do(asked))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Fine-tune Phi-3 with LoRA or QLoRA.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, help, do, printed in (("run", "train an adapter", _run, "the events, one per line"),
                                    ("plan", "what a run would do and need", _plan, "one object")):
        one = commands.add_parser(name, help=help, argument_default=argparse.SUPPRESS)
        one.add_argument("config", nargs="?", metavar="CONFIG.yaml", help="a file of settings: an earlier run's "
                         "config.yaml, or your own, which may name the data too")
        one.add_argument("--data", help=f"{WHAT} (pirate, json, shop)")
        add_data_options(one)
        one.add_argument("--json", action="store_true", help=f"print {printed}")
        one.add_argument("--preset", choices=PRESETS, help="what the settings below are that you don't give, by data, "
                         f"base and machine (default {USUAL_PRESET})")
        for setting in SETTINGS.values():
            one.add_argument(f"--{setting.name}", metavar=_placeholder(setting), help=_help(setting))
        if do is _run:
            compare_terminal.add_try(one)
        one.set_defaults(do=do)
    runs_terminal.add_commands(commands)
    compare_terminal.add_command(commands)
    evaluate_terminal.add_command(commands)
    data_terminal.add_command(commands)
    describe = commands.add_parser("describe", help="make a dataset from one sentence")
    describe.add_argument("description", help='how it should answer: "like a pirate", "in one word"')
    describe.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSONL file to write")
    describe.add_argument("--count", type=int, default=160, help="questions to ask (default 160)")
    describe.add_argument("--seed", type=int, default=0, help="which questions, in which order")
    describe.add_argument("--base", help="who answers (default: this machine's base)")
    describe.add_argument("--json", action="store_true", help="print the progress as one object per line")
    describe.set_defaults(do=_describe)
    return parser


def _placeholder(setting: Setting) -> str:
    return "|".join(setting.choices) if setting.choices else setting.type.__name__.upper()


def _help(setting: Setting) -> str:
    text = f"{setting.help} (usually {setting.default})" if setting.default != "" else setting.help
    return text.replace("%", "%%")


def _run(asked: argparse.Namespace) -> int:
    tried = compare_terminal.tried_of(asked.tries) if "tries" in asked else {}
    home = writable_home()
    with _asked_for(asked) as given:
        members = members_of(given.config, tried) if tried else []
        for warning in _warnings([one.config for one in members] or [given.config], given.task):
            print(f"Warning: {warning}", file=sys.stderr)
        if members:
            return compare_terminal.train_group(members, given.rows, given.start, as_json="json" in asked)
        run = Runs(home).create(given.config, given.rows, beginning=Beginning(start=given.start))
    return train_here(run, as_json="json" in asked)


def _warnings(configs: Sequence[RunConfig], task: Task) -> list[str]:
    """What is known to be bad about any of these, each sentence once."""
    return list(dict.fromkeys(warning for config in configs for warning in warnings_for(config, task)))


def _plan(asked: argparse.Namespace) -> int:
    from phi3.models import base_facts, load_tokenizer
    from training.data import lengths_of, split
    from training.plan import in_words, make_plan
    from training.speed import measured

    with _asked_for(asked) as given:
        config, task = given.config, given.task
    tokenizer = load_tokenizer(base_facts(config.base))
    train, held = (lengths_of(part, tokenizer, config.max_length)
                   for part in split(given.rows, config.held_out, config.seed))
    plan = make_plan(config, task.base, train, held, task.machine,
                     measured(studio_home(), task.machine, config, task.base))
    warnings = warnings_for(config, task)
    if "json" in asked:
        print(json.dumps({**plan.as_json(), "settings": config.settings(), "warnings": warnings,
                          "why": given.why}))
    else:
        print("\n".join([given.why, *in_words(plan), *(f"Warning: {warning}" for warning in warnings)]))
    return 0


@dataclass(frozen=True)
class _Given:
    """What a command line asks for: settings, rows, what the settings followed from, and why they are so."""

    config: RunConfig
    rows: ChatData
    task: Task
    why: str
    start: Adapter | None = None


@contextmanager
def _asked_for(asked: argparse.Namespace) -> Iterator[_Given]:
    """Settings and rows from the command line, and from a file of settings where one is named; what wasn't given
    follows from the adapter that is trained further, and else from the preset. `start` is the Hub's, as long as the
    context lasts.
    """
    from huggingface_hub import get_token

    from phi3.models import base_facts, chosen_base
    from training.data import last, read_steps
    from training.start import start_of

    given = {name: value for name, value in vars(asked).items() if name in SETTINGS}
    saved = _saved(asked.config) if "config" in asked else {}
    data = asked.data if "data" in asked else saved.pop("data", None)
    saved.pop("data", None)
    if data is None:
        raise ValueError(NONE_NAMED)
    given = {**saved, **given}
    known = converted(given)  # a mistyped setting is named before the data is read
    rows = last(read_steps(source(data, asked)))
    facts = base_facts(known.get("base") or chosen_base(this_machine().kind != "cpu"))
    with start_of(RunConfig.from_settings({**known, "base": facts.id}), get_token()) as (pinned, start):
        fixed = {**known, "base": facts.id, **_kept_from(pinned, start)}
        settled = _settled(fixed, rows, facts, asked.preset if "preset" in asked else USUAL_PRESET)
        yield replace(settled, start=start)


def _kept_from(config: RunConfig, start: Adapter | None) -> dict[str, Any]:
    """What settings a run keeps from the adapter that it trains further: `start`, or the library's of that name."""
    if not config.continues:
        return {}
    from training.further import like

    liked = like(config, start or Library(studio_home()).get(config.start_from))
    return {name: getattr(liked, name) for name in ("start_from", "method", *KEPT_FROM_START)}


def _saved(path: str) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise ValueError(f"{path} can't be read as settings: {' '.join(str(problem).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings. Write them as `name: value`, one per line.")
    # YAML makes a number, a truth value or a date of a word that looks like one.
    named = {str(name): value for name, value in values.items()}
    data = named.get("data")
    if data is not None:
        named["data"] = [str(one) for one in data] if isinstance(data, list) else str(data)
    return named


def _settled(fixed: dict[str, Any], rows: ChatData, facts: BaseFacts, preset: str) -> _Given:
    """What is fixed, and the preset's values for the rest. ValueError where no answer is left within max_length."""
    from phi3.models import load_tokenizer
    from training.data import last
    from training.report import check_trainable, count_steps

    counted = last(count_steps(rows.conversations, load_tokenizer(facts)))
    task = Task.of(facts, this_machine(), rows, counted)
    rest = preset_of(preset, task, fixed)
    config = RunConfig.from_settings({**rest.values, **fixed})
    check_trainable(counted, config.max_length)
    return _Given(config, rows, task, rest.why)


def _describe(asked: argparse.Namespace) -> int:
    from phi3.models import base_facts, chosen_base
    from training.describe import as_system_message, describe, questions

    if asked.count < 1:
        raise ValueError(f"count is {asked.count}, and must be 1 or more.")
    as_system_message(asked.description)  # refused before the base is loaded, which answers for minutes
    _check_place(asked.out)
    facts = base_facts(asked.base or chosen_base(this_machine().kind != "cpu"))
    from phi3.generate import Answerer
    from phi3.room import base_for_answers

    told = None
    answerer = Answerer(base_for_answers(facts.id))
    for told in describe(answerer, asked.description, questions(asked.count, asked.seed)):
        shown = {"asked": told.asked, "wanted": told.wanted, "rows": len(told.rows), "left_out": told.left_out}
        say(json.dumps(shown) if asked.json else f"{told.asked} of {told.wanted} asked, {len(told.rows)} kept")
        if told.rows:  # whatever ends the asking, what was answered stays
            write_whole(asked.out, told.jsonl() + "\n")
    told.data()  # says so where nothing is left
    if not asked.json:
        print(f"{len(told.rows)} conversations are in {asked.out}; left out: {told.left_out or 'none'}.")
    return 0


def _check_place(out: Path) -> None:
    """ValueError where no file can be written there, or one is there: rows may have been mended by hand."""
    if not out.parent.is_dir():
        raise ValueError(f"There is no folder {out.parent} for {out.name}. Make it, or choose another place.")
    if out.is_dir():
        raise ValueError(f"{out} is a folder. Name the file to write in it: {out / 'rows.jsonl'}.")
    if out.exists():
        raise ValueError(f"{out} is there already. Choose another name.")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"{out} can't be written: you may not write there. Choose another place.")


if __name__ == "__main__":
    sys.exit(main())
