"""Train from the terminal: plan, run, resume, stop, show, evaluate, list, inspect, describe."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3.machine import studio_home, this_machine
from phi3.terminal import be_quiet, status_of
from training.config import SETTINGS, RunConfig, Setting, recommended
from training.evaluate_terminal import add_command as add_evaluate
from training.hub_data import USUAL_ROWS
from training.run import Event, Run
from training.runs import Runs

if TYPE_CHECKING:
    from training.data import ChatData, Conversation, DataReport, Source

_WHAT = ("a file (JSONL, JSON, CSV, TSV, Parquet, xlsx, gz, zip), a folder of them, a dataset on the Hub as "
         "OWNER/NAME, or an example's name")
BAR = 30


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
        one.add_argument("config", nargs="?", metavar="CONFIG.yaml", help="settings saved by an earlier run")
        one.add_argument("--data", help=f"{_WHAT} (pirate, json, shop)")
        _add_data_options(one)
        one.add_argument("--json", action="store_true", help=f"print {printed}")
        for setting in SETTINGS.values():
            one.add_argument(f"--{setting.name}", metavar=_placeholder(setting), help=_help(setting))
        one.set_defaults(do=do)
    _add_run_commands(commands)
    add_evaluate(commands, _add_data_options, _rows)
    listing = commands.add_parser("list", help="runs and their states")
    listing.add_argument("--json", action="store_true", help="one object per line")
    listing.set_defaults(do=_list)
    inspect = commands.add_parser("inspect", help="what data holds, and what is wrong with it")
    inspect.add_argument("data", nargs="+", metavar="WHAT", help=_WHAT)
    _add_data_options(inspect)
    inspect.add_argument("--max_length", type=int, default=SETTINGS["max_length"].default, help="tokens kept")
    inspect.add_argument("--base", help="whose tokenizer counts (default: this machine's base)")
    inspect.add_argument("--json", action="store_true", help="print one object")
    inspect.set_defaults(do=_inspect)
    describe = commands.add_parser("describe", help="make a dataset from one sentence")
    describe.add_argument("description", help='how it should answer: "like a pirate", "in one word"')
    describe.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSONL file to write")
    describe.add_argument("--count", type=int, default=160, help="questions to ask (default 160)")
    describe.add_argument("--seed", type=int, default=0, help="which questions, in which order")
    describe.add_argument("--base", help="who answers (default: this machine's base)")
    describe.add_argument("--json", action="store_true", help="print the progress as one object per line")
    describe.set_defaults(do=_describe)
    lease = commands.add_parser("lease", help="train a run's folder (what the page starts)")
    lease.add_argument("folder", type=Path)
    lease.set_defaults(do=_lease)
    return parser


def _add_data_options(parser: argparse.ArgumentParser) -> None:
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


def _source(what: str | list[str], asked: argparse.Namespace) -> Source:
    """What was named on the command line: an example, files, a folder, or a dataset on the Hub."""
    from training.data import Source, source_of
    from training.hub_data import HubRows, hub_id, is_hub_id
    from training.shapes import Columns

    if bool(asked.prompt_column) != bool(asked.answer_column):
        raise ValueError("Give both --prompt_column and --answer_column, or neither.")
    columns = Columns(asked.prompt_column, asked.answer_column) if asked.prompt_column else None
    more = {"columns": columns, "without_repeats": asked.no_repeats}
    named = [what] if isinstance(what, str) else what
    if len(named) == 1 and is_hub_id(named[0]):
        if asked.rows < 1:
            raise ValueError(f"rows is {asked.rows}, and must be 1 or more.")
        id = hub_id(named[0])
        return Source(id, "hub", hub=HubRows(id, asked.subset, asked.split, asked.rows, own_token=True), **more)
    return source_of(named[0] if len(named) == 1 else named, **more)


def _rows(asked: argparse.Namespace) -> Sequence[Conversation]:
    """The conversations of what was named with --data."""
    from training.data import last, read_steps

    return last(read_steps(_source(asked.data, asked))).conversations


def _add_run_commands(commands: Any) -> None:
    """What is done with a run that is there already."""
    resume = commands.add_parser("resume", help="go on with a run from its newest whole checkpoint")
    resume.add_argument("run", metavar="RUN", help="its id, as `list` shows it")
    resume.add_argument("--num_train_epochs", help="train for so many epochs in all")
    resume.add_argument("--max_steps", help="train for so many steps in all")
    resume.add_argument("--json", action="store_true", help="print the events, one per line")
    resume.set_defaults(do=_resume)
    stop = commands.add_parser("stop", help="stop a run after its step, with a checkpoint")
    stop.add_argument("run", metavar="RUN")
    stop.add_argument("--json", action="store_true", help="print one object")
    stop.set_defaults(do=_stop)
    show = commands.add_parser("show", help="what a run is, and what became of it")
    show.add_argument("run", metavar="RUN")
    show.add_argument("--json", action="store_true", help="print one object")
    show.set_defaults(do=_show)


def _placeholder(setting: Setting) -> str:
    return "|".join(setting.choices) if setting.choices else setting.type.__name__.upper()


def _help(setting: Setting) -> str:
    text = f"{setting.help} (default {setting.default})" if setting.default != "" else setting.help
    return text.replace("%", "%%")


def _run(asked: argparse.Namespace) -> int:
    from huggingface_hub import get_token

    from training.start import start_of

    config, rows = _asked_for(asked)
    with start_of(config, get_token()) as (pinned, start):
        run = Runs(studio_home()).create(pinned, rows, start=start)
    return _train_here(run, as_json="json" in asked)


def _plan(asked: argparse.Namespace) -> int:
    from phi3.models import base_facts, load_tokenizer
    from training.data import lengths_of, split
    from training.plan import in_words, make_plan
    from training.speed import measured

    config, rows = _asked_for(asked)
    facts = base_facts(config.base)
    tokenizer = load_tokenizer(facts)
    train, held = (lengths_of(part, tokenizer, config.max_length)
                   for part in split(rows, config.held_out, config.seed))
    machine = this_machine()
    plan = make_plan(config, facts.config, train, held, machine,
                     measured(studio_home(), machine, config))
    if "json" in asked:
        print(json.dumps(plan.as_json()))
    else:
        print("\n".join(in_words(plan)))
    return 0


def _asked_for(asked: argparse.Namespace) -> tuple[RunConfig, ChatData]:
    """Settings and rows from the command line, and from a file of settings where one is named."""
    from training.data import last, read_steps

    given = {name: value for name, value in vars(asked).items() if name in SETTINGS}
    saved = _saved(asked.config) if "config" in asked else {}
    data = asked.data if "data" in asked else saved.pop("data", None)
    saved.pop("data", None)
    if data is None:
        raise ValueError("Which data? Give --data FILE, or an example's name: --data pirate.")
    rows = last(read_steps(_source(data, asked)))
    return _config({**saved, **given}), rows


def _saved(path: str) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise ValueError(f"{path} can't be read as settings: {problem}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no settings. Write them as `name: value`, one per line.")
    return values


def _config(given: dict[str, Any]) -> RunConfig:
    """What was given, on top of what suits the base and this machine."""
    from phi3.models import base_facts, chosen_base

    machine = this_machine()
    base = given.get("base") or chosen_base(machine.kind != "cpu")
    RunConfig.from_settings(given)  # a mistyped setting is named before the base is looked up
    facts = base_facts(base)
    return RunConfig.from_settings({**recommended(facts.hidden_size, machine), **given, "base": facts.id})


def _train_here(run: Run, as_json: bool, told_before: bool = False) -> int:
    """The terminal's lease runs in this process. Ctrl-C stops after the step, a second one at once."""
    be_quiet()
    told = _ToldRun(run.folder, as_json)
    for event in [] if told_before else run.events():
        told.tell(event)
    from training.train import run_lease

    usual = signal.signal(signal.SIGINT, lambda number, frame: _stop_after_this_step(run))
    try:
        run_lease(told)
    except KeyboardInterrupt:
        print(f"Interrupted. To go on: python -m training resume {run.id}", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, usual)
    return 0


def _stop_after_this_step(run: Run) -> None:
    run.ask_to_stop()
    print("Stopping after this step; what was learned is kept. Ctrl-C again stops at once.", file=sys.stderr)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _resume(asked: argparse.Namespace) -> int:
    runs = Runs(studio_home())
    run = runs.get(asked.run)
    if runs.resume(run, num_train_epochs=asked.num_train_epochs, max_steps=asked.max_steps):
        return _train_here(run, asked.json, told_before=True)
    _ToldRun(run.folder, asked.json).tell(run.events()[-1])
    return 0


def _stop(asked: argparse.Namespace) -> int:
    runs = Runs(studio_home())
    run = runs.get(asked.run)
    state = run.state()
    runs.stop(run)
    words = "left the queue" if state == "queued" else "stops after its step; what was learned is kept"
    print(json.dumps({"run": run.id, "state": state, "asked_to_stop": True}) if asked.json else f"{run.id} {words}.")
    return 0


def _show(asked: argparse.Namespace) -> int:
    run = Runs(studio_home()).get(asked.run)
    course = run.course()
    if asked.json:
        whole = {**_summary(run), "settings": run.config.settings(), "about_data": run.about_data,
                 "events": [json.loads(event.to_json()) for event in course]}
        print(json.dumps(whole, ensure_ascii=False))
        return 0
    print(f"{run.id}: {run.state()}\n{run.folder}\n\n{run.config.to_yaml()}")
    print("\n".join(filter(None, map(in_words, course))))
    return 0


class _ToldRun(Run):
    """A run whose events are printed as they are written."""

    def __init__(self, folder: Path, as_json: bool) -> None:
        super().__init__(folder)
        object.__setattr__(self, "as_json", as_json)

    def append(self, kind: str, step: int | None = None, **values: Any) -> Event:
        event = super().append(kind, step, **values)
        self.tell(event)
        return event

    def tell(self, event: Event) -> None:
        """One line of JSON, or of words."""
        line = event.to_json() if self.as_json else in_words(event)
        if line:
            print(line, flush=True)


def in_words(event: Event) -> str:
    """An event as a line for a person; empty where it says nothing new to one."""
    told = event.values
    match event.type:
        case "created":
            return f"{event.run}: {told['rows']} conversations to train on, {told['held_out']} held out."
        case "started":
            return f"Training {told['base']} with {told['method']} on {told['device']}: {told['steps']} steps."
        case "resumed":
            skipped = f" Skipped {'; '.join(told['skipped'])}." if told["skipped"] else ""
            return f"Going on after step {event.step} of {told['steps']}.{skipped}"
        case "lease_ended":
            return f"Paused after step {event.step}. To go on: python -m training resume {event.run}"
        case "step":
            return f"step {event.step}  loss {told['loss']:.4f}  about {told['seconds_left']:.0f} s left"
        case "evaluated":
            return f"step {event.step}  held-out loss {told['loss']:.4f}"
        case "sampled":
            pairs = zip(told["prompts"], told["answers"], strict=True)
            return "\n".join(f"    {prompt}\n    > {answer}" for prompt, answer in pairs)
        case "finished" | "stopped":
            change = f" It was planned for {told['planned_seconds']:.0f} s." if "planned_seconds" in told else ""
            change += f" Held-out loss {told['base_loss']:.4f} → {told['loss']:.4f}." if told["loss"] else ""
            wrong = f" {told['check']['verdict']}" if "check" in told and not told["check"]["ok"] else ""
            judged = f" {told['verdict']}" if "verdict" in told else ""
            return f"{event.type.capitalize()} after {told['seconds']:.0f} s: {told['adapter']}.{change}{judged}{wrong}"
        case "failed":
            return f"{told['message']} {told['advice']}".strip()
    return ""


def _list(asked: argparse.Namespace) -> int:
    rows = [_summary(run) for run in Runs(studio_home()).all()]
    for row in rows:
        loss = f"{row['loss']:.4f}" if row["loss"] is not None else "-"
        print(json.dumps(row) if asked.json else f"{row['run']}  {row['state']}  {row['method']}  loss {loss}")
    if not rows and not asked.json:
        print("No runs yet. Try: python -m training run --data pirate")
    return 0


def _summary(run: Run) -> dict[str, Any]:
    return {**run.summary(), "folder": str(run.folder)}


def _inspect(asked: argparse.Namespace) -> int:
    from phi3.models import base_facts, chosen_base, load_tokenizer
    from training.data import read_steps
    from training.report import count_steps, report_of

    if asked.max_length < 1:
        raise ValueError(f"max_length is {asked.max_length}, and must be 1 or more.")
    data = _followed("Reading", read_steps(_source(asked.data, asked)))
    tokenizer = load_tokenizer(base_facts(asked.base or chosen_base(this_machine().kind != "cpu")))
    counted = _followed("Counting tokens", count_steps(data.conversations, tokenizer))
    report = report_of(data, counted, tokenizer, replace(RunConfig(), max_length=asked.max_length))
    if asked.json:
        print(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        print("\n".join(_report_in_words(data.name, report)))
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
    cut = f" at the cost of {report.lost:,} trained tokens" if report.lost else ""
    yield (f"{report.tokens.total:,} tokens, {report.tokens.trained:,} of them trained; the longest conversation has "
           f"{report.tokens.longest:,}, the median {report.tokens.median:,}. {report.truncated:,} are cut{cut}.")
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


def _describe(asked: argparse.Namespace) -> int:
    from phi3.models import base_facts, chosen_base
    from training.describe import as_system_message, describe, questions

    if asked.count < 1:
        raise ValueError(f"count is {asked.count}, and must be 1 or more.")
    as_system_message(asked.description)  # refused before the base is loaded
    facts = base_facts(asked.base or chosen_base(this_machine().kind != "cpu"))
    be_quiet()
    from phi3.generate import Answerer
    from phi3.models import load_base

    told = None
    for told in describe(Answerer(load_base(facts.id)), asked.description, questions(asked.count, asked.seed)):
        shown = {"asked": told.asked, "wanted": told.wanted, "rows": len(told.rows), "left_out": told.left_out}
        print(json.dumps(shown) if asked.json else f"{told.asked} of {told.wanted} asked, {len(told.rows)} kept")
    told.data()  # says so where nothing is left
    asked.out.write_text(told.jsonl() + "\n", encoding="utf-8")
    if not asked.json:
        print(f"{len(told.rows)} conversations are in {asked.out}; left out: {told.left_out or 'none'}.")
    return 0


def _lease(asked: argparse.Namespace) -> int:
    be_quiet()
    from training.train import run_lease

    run_lease(Run(asked.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
