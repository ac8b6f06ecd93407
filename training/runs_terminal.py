"""Runs in the terminal: trained in this process and told line by line; resumed, stopped, shown, listed."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from phi3.machine import studio_home
from phi3.terminal import say
from training.lease import saved_step
from training.run import EVALUATING, Event, Run
from training.runs import Runs
from training.standby import awaited


def add_commands(commands: Any) -> None:
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
    listing = commands.add_parser("list", help="runs and their states")
    listing.add_argument("--json", action="store_true", help="one object per line")
    listing.set_defaults(do=_list)
    lease = commands.add_parser("lease", help="train a run's folder (what the page starts)")
    lease.add_argument("folder", type=Path, nargs="?",
                       help="left out: it is read from the standard input, once everything is loaded")
    lease.set_defaults(do=_lease)


def train_here(run: Run, as_json: bool, told_before: bool = False) -> int:
    """The terminal's lease runs in this process. Ctrl-C stops after the step; a second one, or one that comes before
    the training has begun, at once.
    """
    usual = signal.getsignal(signal.SIGINT)
    try:
        told = _ToldRun(run.folder, as_json)
        for event in [] if told_before else run.events():
            told.tell(event)
        with run.held():
            from training.train import run_lease

            signal.signal(signal.SIGINT, lambda number, frame: _stop_after_this_step(run))
            run_lease(told)
    except KeyboardInterrupt:
        tell_interrupted(run)
        return 130
    finally:
        signal.signal(signal.SIGINT, usual)
    return 0


def tell_interrupted(run: Run) -> None:
    """Say how an interrupted run goes on. One that nobody had begun to train is paused: it would pass for one that is
    being prepared, and keep others waiting for minutes. An evaluation that a person broke off took nobody down.
    """
    (run.folder / EVALUATING).unlink(missing_ok=True)
    if run.last_event().type in ("created", "resuming"):
        run.append("lease_ended", saved_step(run), reason="left", message="It was interrupted before it began.",
                   advice="Resume it, and it begins.")
    print(f"Interrupted. To go on: python -m training resume {run.id}", file=sys.stderr)


def _stop_after_this_step(run: Run) -> None:
    run.ask_to_stop()
    print("Stopping after this step; what was learned is kept. Ctrl-C again stops at once.", file=sys.stderr)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _resume(asked: argparse.Namespace) -> int:
    runs = Runs(studio_home())
    run = runs.get(asked.run)
    if runs.resume(run, num_train_epochs=asked.num_train_epochs, max_steps=asked.max_steps):
        return train_here(run, asked.json, told_before=True)
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
    summary, course = _summary(run), run.course()
    if asked.json:
        whole = {**summary, "settings": run.config.settings(), "about_data": run.about_data,
                 "events": [json.loads(event.to_json()) for event in course]}
        print(json.dumps(whole, ensure_ascii=False))
        return 0
    print(f"{run.id}: {summary['state']}\n{run.folder}\n\n{run.config.to_yaml()}")
    print("\n".join(filter(None, map(in_words, course))))
    return 0


def _list(asked: argparse.Namespace) -> int:
    rows = [_summary(run) for run in Runs(studio_home()).all()]
    for row in rows:
        loss = f"{row['loss']:.4f}" if row["loss"] is not None else "-"
        print(json.dumps(row) if asked.json else f"{row['run']}  {row['state']}  {row['method']}  loss {loss}")
    if not rows and not asked.json:
        print("No runs yet. Try: python -m training run --data pirate")
    return 0


def _lease(asked: argparse.Namespace) -> int:
    if asked.folder is None:
        import training.train  # noqa: F401 - while nobody waits for it

    folder = asked.folder or awaited()
    if folder is not None:
        run = Run(folder)
        with run.held():
            from training.train import run_lease

            run_lease(run)
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
            say(line)


def _below(text: str, mark: str = "") -> str:
    """Indented with all its lines, so that none of them passes for one of the run's own."""
    return f"    {mark}{text}".replace("\n", f"\n    {' ' * len(mark)}")


def _more_measured(told: dict[str, Any]) -> str:
    """What a run of an earlier version didn't note is left out."""
    parts = [("{:.0%} of the tokens right", told.get("accuracy")), ("on general rows {:.4f}", told.get("general_loss"))]
    return "".join(f"  {words.format(value)}" for words, value in parts if value is not None)


def _went_back(told: dict[str, Any]) -> str:
    """That a run stopped early, where it did."""
    if "went_back_to" not in told:
        return ""
    return f" That loss fell no further, so it stopped early and is the adapter of step {told['went_back_to']:,}."


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
            return f"step {event.step}  held-out loss {told['loss']:.4f}{_more_measured(told)}"
        case "sampled":
            pairs = zip(told["prompts"], told["answers"], strict=True)
            return "\n".join(_below(prompt) + "\n" + _below(answer, "> ") for prompt, answer in pairs)
        case "finished" | "stopped":
            change = f" It was planned for {told['planned_seconds']:.0f} s." if "planned_seconds" in told else ""
            change += f" Held-out loss {told['loss_before']:.4f} → {told['loss']:.4f}." if told["loss"] else ""
            change += f" {told['advice']}" if "diverged_at" in told else _went_back(told)
            wrong = f" {told['check']['verdict']}" if "check" in told and not told["check"]["ok"] else ""
            judged = f" {told['verdict']}" if "verdict" in told else ""
            return f"{event.type.capitalize()} after {told['seconds']:.0f} s: {told['adapter']}.{change}{judged}{wrong}"
        case "failed":
            return f"{told['message']} {told['advice']}".strip()
    return ""


def _summary(run: Run) -> dict[str, Any]:
    return {**run.summary(), "folder": str(run.folder)}
