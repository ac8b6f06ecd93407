"""Train one run with TRL inside one lease; everything it has to say goes into the run's folder."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from trl import SFTTrainer

from adapters.check import check
from adapters.library import Library
from adapters.picture import thinned
from phi3.generate import Lane, Sampling, answer_all
from phi3.machine import this_machine
from phi3.models import Base, expanded, load_base, quantised, with_attention
from phi3.template import Message
from training import checkpoint, speed
from training.config import RunConfig
from training.data import Conversation
from training.evaluate import PROMPTS_AT_THE_END, PROMPTS_WHERE_LENT, Evaluation, evaluate_trained, losses_of
from training.failure import Failure, against_plan, explained
from training.methods import Method, method_of
from training.plan import Plan, make_plan
from training.quota import TRAINER_MARGIN_SECONDS
from training.run import START, Event, Run
from training.tokens import tokens_of
from training.work import SPOKEN_TOKENS

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState

CHECKPOINTS = "checkpoints"
SHOWN_PROMPTS = 3
# A checkpoint by the clock as well, however long a step takes; fewer are written where writing one takes long.
SECONDS_BETWEEN_CHECKPOINTS = 60.0
CHECKPOINT_SHARE = 0.05


@dataclass(frozen=True)
class Lease:
    """How long a trainer may work: `seconds` from its making, or without end."""

    seconds: float | None = None
    checkpoint_every: float = SECONDS_BETWEEN_CHECKPOINTS
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds until it ends."""
        return float("inf") if self.seconds is None else self.began + self.seconds - time.monotonic()


def run_lease(run: Run, lease: Lease | None = None, resident: Base | None = None) -> Event:
    """Train the run from its newest whole checkpoint to its end, until it is asked to stop, or until the lease is
    nearly over; returns the last event. A base that is `resident` already is trained on as it is, and stays so.

    Whatever goes wrong is written as a `failed` event with a sentence and advice, and raised again: as a ValueError
    with that sentence where the user can mend it (memory, disk, data), else as it was. An interruption from the
    keyboard is no failure: the run is seen as interrupted and can go on.
    """
    with run.held():
        try:
            return _train(run, lease or Lease(), resident)
        except KeyboardInterrupt:
            raise
        except BaseException as problem:
            failure = explained(problem)
            checkpoint.remove_unsealed(run.folder / CHECKPOINTS)
            _write_failure(run, failure)
            if failure.mendable:
                raise ValueError(failure.sentence) from problem
            raise


def _train(run: Run, lease: Lease, resident: Base | None) -> Event:
    from transformers import set_seed

    checkpoint.remove_unsealed(run.folder / CHECKPOINTS)
    base = _base_of(run.config, resident)
    train, held = run.conversations()
    set_seed(run.config.seed)  # the adapter's own random start; TRL seeds only after it was made
    plan_of = _planner(run, base)
    plan = _planned(run, plan_of)
    if plan.expanded:
        base = expanded(base)
    trainer = _trainer(run, base)
    found, skipped = checkpoint.newest(run.folder / CHECKPOINTS)
    _announce(run, base, trainer, plan, found, skipped)
    writer = _Writer(run, base, _prompts(held or train), trainer, lease)
    trainer.add_callback(writer)
    with against_plan(run.config, plan_of, _peak_bytes):
        if found is None:
            if run.config.start_from:
                trainer.method.begin_from(trainer.model, run.folder / START)
            _speak(trainer, writer, step=0)
        trainer.train(resume_from_checkpoint=str(found.folder) if found else None)
    if writer.out_of_time and trainer.state.global_step < trainer.state.max_steps:
        return run.append("lease_ended", trainer.state.global_step, reason="time")
    return _finish(run, base, trainer, writer, plan)


def _base_of(config: RunConfig, resident: Base | None) -> Base:
    """The base as the run wants it: loaded, or made from the resident one, whose weights are shared or quantised."""
    if resident is None:
        precision = "nf4" if config.method == "qlora" else _precision(config)
        return load_base(config.base, precision, attention=config.attn_implementation)
    if config.base != resident.facts.id:
        raise ValueError(f"This run's base is {config.base}, and here only {resident.facts.id} is trained. Start a new "
                         "run.")
    return with_attention(quantised(resident) if config.method == "qlora" else resident, config.attn_implementation)


def _planner(run: Run, base: Base) -> Callable[[RunConfig], Plan]:
    """What plans a run with these settings over the rows as they were tokenised."""
    machine = this_machine()
    every = [[len(row["input_ids"]) for row in rows] for rows in tokens_of(run, base.tokenizer)]
    if not every[0]:
        raise ValueError("No conversation has an answer within max_length, so there is nothing to train. Raise it.")

    def plan_of(config: RunConfig) -> Plan:
        train, held = ([min(length, config.max_length) for length in lengths] for lengths in every)
        return make_plan(config, base.facts.config, train, held, machine, speed.measured(run.home, machine, config))

    return plan_of


def _planned(run: Run, plan_of: Callable[[RunConfig], Plan]) -> Plan:
    """The run's plan; it is kept in its folder."""
    plan = plan_of(run.config)
    (run.folder / "plan.json").write_text(json.dumps(plan.as_json(), indent=1) + "\n", encoding="utf-8")
    return plan


def _announce(run: Run, base: Base, trainer: SFTTrainer, plan: Plan, found: checkpoint.Checkpoint | None,
              skipped: Sequence[str]) -> None:
    """`started` for a run's first trainer, `resumed` for every later one."""
    import torch

    about = {"base": base.facts.id, "method": run.config.method, "device": str(base.model.device),
             "threads": torch.get_num_threads(), "steps": plan.batches.steps, "pid": os.getpid(),
             "trainable_parameters": trainer.model.num_parameters(only_trainable=True),
             "planned_seconds": round(plan.total_seconds, 1), "planned_peak_bytes": plan.peak}
    if run.began():
        run.append("resumed", found.step if found else 0, checkpoint=found.folder.name if found else None,
                   skipped=list(skipped), **about)
    else:
        run.append("started", **about)


def _precision(config: RunConfig) -> Any:
    import torch

    return "bf16" if config.bf16 and torch.cuda.is_available() else "fp32"


def _trainer(run: Run, base: Base) -> SFTTrainer:
    """TRL's trainer over a shell of the base, on rows that were tokenised by the app's own template code."""
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig

    asked = run.config.training_config()
    train, held = tokens_of(run, base.tokenizer)
    on_card = torch.cuda.is_available()
    # The labels mark the answers already (`encode_conversation`), so TRL has nothing left to prepare.
    ours = {"assistant_only_loss": False, "dataset_kwargs": {"skip_prepare_dataset": True},
            "use_cpu": not on_card, "bf16": asked["bf16"] and on_card,
            "eval_strategy": asked["eval_strategy"] if held else "no",
            "per_device_eval_batch_size": asked["per_device_train_batch_size"], "disable_tqdm": True,
            "dataloader_pin_memory": on_card, "logging_first_step": True}
    arguments = SFTConfig(output_dir=str(run.folder / CHECKPOINTS), **{**asked, **ours})
    rows = [Dataset.from_list(part) if part else None for part in (train, held)]
    trainer = _Resumable(method_of(run.config, base), args=arguments, train_dataset=rows[0], eval_dataset=rows[1],
                         processing_class=base.tokenizer)
    trainer.remove_callback(PrinterCallback)  # the events say what it would print
    return trainer


class _Resumable(SFTTrainer):
    """TRL's trainer; what it keeps of the model, and how it takes that up again, is the method's."""

    def __init__(self, method: Method, **given: Any) -> None:
        self.method = method
        super().__init__(model=method.model(), peft_config=method.peft_config, **given)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.method.load(self.model, Path(resume_from_checkpoint))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.method.keeps_itself:
            self.method.keep(self.model, Path(output_dir or self.args.output_dir))
        else:
            super()._save(output_dir, state_dict)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None at each checkpoint: the run's folder says more, and its owner decides what becomes public."""


def _prompts(rows: Sequence[Conversation]) -> list[list[Message]]:
    """The first question of a few conversations that differ in it, with its system message."""
    found: dict[str, list[Message]] = {}
    for one in rows:
        end = next(place for place, turn in enumerate(one.messages) if turn["role"] == "user") + 1
        found.setdefault(one.messages[end - 1]["content"], list(one.messages[:end]))
    return list(found.values())[:SHOWN_PROMPTS]


def _speak(trainer: SFTTrainer, writer: _Writer, step: int) -> None:
    """Held-out loss and answers of the model as it is, before training has begun."""
    if trainer.eval_dataset is not None:
        trainer.evaluate()  # the writer notes it
    else:
        writer.sample(step, trainer.model)


class _Writer(TrainerCallback):
    """Turns what the trainer does into events and sealed checkpoints, and a request to stop into a stop."""

    def __init__(self, run: Run, base: Base, prompts: list[list[Message]], trainer: SFTTrainer, lease: Lease) -> None:
        self.run, self.base, self.prompts, self.trainer, self.lease = run, base, prompts, trainer, lease
        course = run.course()
        self.held_out_losses = [(one.step, one.values["loss"]) for one in course if one.type == "evaluated"]
        self.seconds_before = max((one.values["seconds"] for one in course if one.type == "step"), default=0.0)
        self.asked_to_stop = self.out_of_time = False
        self.trained = self.spoke = 0.0  # seconds of this trainer's steps, and of answers
        self.began: float | None = None  # seconds of the first step, in which much is done once and never again
        self._paused = 0.0  # seconds spent on evaluation and speaking, which are no part of a step
        self._first: tuple[float, int, float] | None = None
        self._sampled_at = max((one.step for one in course if one.type == "sampled"), default=-1)
        self._saved_at = self._step_began = time.monotonic()
        self._longest_step = self._longest_save = self._longest_look = 0.0

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Steps are timed from the first one's beginning."""
        self._step_began = time.monotonic()
        if self._first is None:
            self._first = (self._step_began, state.global_step, self._paused)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict | None = None,
               **kwargs: Any) -> None:
        """A `step` event for each logged training loss."""
        if logs is None or "loss" not in logs or self._first is None:
            return
        start, first_step, paused_before = self._first
        seconds = time.monotonic() - start - (self._paused - paused_before)
        done = max(1, state.global_step - first_step)
        self.run.append("step", state.global_step, loss=round(logs["loss"], 5),
                        learning_rate=logs.get("learning_rate"), epoch=round(state.epoch or 0.0, 3),
                        seconds=round(self.seconds_before + seconds, 2),
                        seconds_left=round(seconds / done * (state.max_steps - state.global_step), 1),
                        tokens_per_second=round(logs.get("num_tokens", 0) / max(seconds, 1e-9)))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        """Stop after this step where somebody asked or the lease is nearly over; what was learned is saved."""
        now = time.monotonic()
        self._longest_step = max(self._longest_step, now - self._step_began)
        start, _, paused_before = self._first
        self.trained = now - start - (self._paused - paused_before)
        self.began = self.trained if self.began is None else self.began
        if self.run.is_asked_to_stop():
            self.asked_to_stop = True
        # A step may be followed by an evaluation before it is saved.
        needed = self._longest_step + self._longest_look + self._longest_save + TRAINER_MARGIN_SECONDS
        self.out_of_time = self.lease.left() < needed
        if self.asked_to_stop or self.out_of_time:
            control.should_training_stop = control.should_save = True
        elif now - self._saved_at > max(self.lease.checkpoint_every, self._longest_save / CHECKPOINT_SHARE):
            control.should_save = True
        if self.trainer.eval_dataset is None and state.global_step % args.eval_steps == 0:
            self.sample(state.global_step, self.trainer.model)
        return control

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict | None = None,
                    **kwargs: Any) -> None:
        """An `evaluated` event, and what the model says now."""
        paused_before = self._paused
        loss = (metrics or {}).get("eval_loss")
        if loss is not None:
            self._paused += metrics.get("eval_runtime", 0.0)
            self.held_out_losses.append((state.global_step, loss))
            self.run.append("evaluated", state.global_step, loss=round(loss, 5))
        self.sample(state.global_step, self.trainer.model)
        self._longest_look = max(self._longest_look, self._paused - paused_before)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal what the trainer wrote, and a `checkpointed` event."""
        folder = self.run.folder / CHECKPOINTS
        began = time.monotonic()
        sealed = checkpoint.seal(folder / f"checkpoint-{state.global_step}", state.global_step)
        checkpoint.prune(folder)
        self._saved_at = time.monotonic()
        # Written before this is called, in about the time that the hashes take.
        self._longest_save = max(self._longest_save, 2 * (self._saved_at - began))
        self._paused += self._saved_at - began
        self.run.append("checkpointed", state.global_step, folder=f"{CHECKPOINTS}/{sealed.folder.name}")

    def outcome(self, plan: Plan, seconds: float) -> speed.Outcome:
        """What a whole run took, of so many seconds in all, for the next plan: what its first step took longer than
        the others counts as loading.
        """
        steps = plan.batches.steps
        training = (self.trained - self.began) * steps / (steps - 1) if steps > 1 else self.trained
        return speed.outcome_of(self.run.config, plan.work, training, plan.spoken, self.spoke,
                                max(0.0, seconds - training - self._paused))

    def sample(self, step: int, model: Any) -> None:
        """What the model says to the fixed prompts, once per step."""
        if step == self._sampled_at:
            return
        self._sampled_at = step
        began = time.monotonic()
        greedy = Sampling(max_new_tokens=SPOKEN_TOKENS)
        answers = answer_all(model, self.base, [Lane(tuple(prompt), sampling=greedy) for prompt in self.prompts])
        self.run.append("sampled", step, prompts=[prompt[-1]["content"] for prompt in self.prompts],
                        answers=[answer.text for answer in answers])
        took = time.monotonic() - began
        self.spoke += took
        self._paused += took
        self._longest_look = max(self._longest_look, took)

    def evaluate(self) -> Evaluation | None:
        """Base and adapter on held-out rows, kept in the run's folder; None where there are none, or no time or memory.

        A run that is trained is worth more than its figures: what an evaluation lacks doesn't fail it.
        """
        import torch

        _, held = self.run.conversations()
        is_lent = self.lease.seconds is not None
        if not held or (is_lent and self.lease.left() < 4 * self._longest_look + TRAINER_MARGIN_SECONDS):
            return None
        began = time.monotonic()
        try:
            found = evaluate_trained(self.trainer.model, self.base, held, losses_of(self.run.course()),
                                     PROMPTS_WHERE_LENT if is_lent else PROMPTS_AT_THE_END)
        except torch.OutOfMemoryError:
            return None
        finally:
            self.spoke += time.monotonic() - began
            self._paused += time.monotonic() - began
        if found:
            found.write(self.run.folder)
        return found


def _finish(run: Run, base: Base, trainer: SFTTrainer, writer: _Writer, plan: Plan) -> Event:
    """Last evaluation, the adapter in PEFT's format, its place in the library, and the last event."""
    step = trainer.state.global_step
    if trainer.eval_dataset is not None and writer.held_out_losses[-1][0] != step:
        trainer.evaluate()
    writer.sample(step, trainer.model)
    trainer.method.write_adapter(trainer.model, run.folder / "adapter")
    evaluation = writer.evaluate()
    judged = {"verdict": evaluation.verdict} if evaluation else {}
    losses = writer.held_out_losses
    outcome = {"steps": step, "seconds": round(_seconds_so_far(run, writer), 1),
               "base_loss": round(losses[0][1], 5) if losses else None,
               "loss": round(losses[-1][1], 5) if losses else None,
               "planned_seconds": round(plan.total_seconds, 1), "planned_peak_bytes": plan.peak,
               "peak_bytes": _peak_bytes(), **judged}
    library = Library(run.home, {run.owner})
    adapter = library.put(run.config.name, run.folder / "adapter", _provenance(run, base, outcome), run.owner)
    kind = "stopped" if writer.asked_to_stop and step < trainer.state.max_steps else "finished"
    if kind == "finished" and not writer.seconds_before:
        speed.keep(run.home, this_machine(), writer.outcome(plan, outcome["seconds"]))
    verdict = check(adapter.folder, base.facts, base)
    return run.append(kind, step, adapter=adapter.name, folder=str(adapter.folder), **outcome,
                      check={"ok": verdict.ok, "verdict": verdict.verdict, "warnings": list(verdict.warnings)},
                      example=writer.prompts[0][-1]["content"])


def _seconds_so_far(run: Run, writer: _Writer) -> float:
    """From Start, with the imports; where a GPU is lent or a run was resumed, of this lease and the steps before it."""
    if writer.seconds_before or this_machine().kind == "zerogpu":
        return writer.seconds_before + time.monotonic() - writer.lease.began
    began = next(event.time for event in reversed(run.events()) if event.type in ("created", "resuming"))
    return time.time() - began


def _peak_bytes() -> int:
    """The most memory that this process held at once: the card's, or resident memory on a CPU."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _provenance(run: Run, base: Base, outcome: dict[str, Any]) -> dict[str, Any]:
    """How the adapter came to be: enough to judge it and to make it again."""
    from importlib.metadata import version

    rows = hashlib.sha256((run.folder / "data.parquet").read_bytes()).hexdigest()
    about = run.folder / START / "about.json"
    started_from = {"started_from": json.loads(about.read_text(encoding="utf-8"))} if about.is_file() else {}
    return {
        "run": run.id, "base": base.facts.id, "base_revision": base.facts.revision,
        "chat_template": hashlib.sha256(base.tokenizer.chat_template.encode()).hexdigest(),
        "data": {**run.about_data, "sha256": rows}, "settings": run.config.settings(), **started_from,
        "outcome": outcome, "losses": _losses(run), "device": str(base.model.device),
        "hardware": this_machine().hardware(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    }


def _losses(run: Run) -> dict[str, list[tuple[int, float]]]:
    """(step, loss) while training and on held-out rows, thinned: a provenance stays small, however long the run."""
    course = run.course()
    return {name: thinned([(event.step, event.values["loss"]) for event in course if event.type == kind])
            for name, kind in (("train", "step"), ("held_out", "evaluated"))}


def _write_failure(run: Run, failure: Failure) -> None:
    """The `failed` event. A disk that is too full even for that keeps the events that there were."""
    try:
        run.append("failed", message=failure.message, advice=failure.advice, **failure.told)
    except OSError as problem:
        print(f"The event could not be written: {problem}", file=sys.stderr)
