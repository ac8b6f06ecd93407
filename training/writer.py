"""What a trainer does, as events and sealed checkpoints in the run's folder; a request to stop becomes a stop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from torch.nn.utils import get_total_norm
from transformers import TrainerCallback

from phi3.bounds import Bounds
from phi3.generate import Lane, Sampling, answer_all
from phi3.machine import is_out_of_memory
from phi3.models import Base
from phi3.template import Message
from training import checkpoint, speed
from training.answers import PROMPTS_AT_THE_END, PROMPTS_WHERE_LENT, SPOKEN_TOKENS
from training.checkpoint import CHECKPOINTS
from training.conversations import Conversation
from training.evaluate import FILE as EVALUATION
from training.evaluate import Evaluation, evaluate_trained, losses_up_to
from training.plan import Plan
from training.quota import TRAINER_MARGIN_SECONDS
from training.run import ADAPTER, EVALUATING, START, Run
from training.verdict import lowest_of, on_schedule, since_lowest

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState

    from training.trainer import Trainer

# A checkpoint by the clock as well, however long a step takes; fewer are written where writing one takes long.
SECONDS_BETWEEN_CHECKPOINTS = 60.0
CHECKPOINT_SHARE = 0.05
# How often an evaluation is begun that takes its trainer down.
MOST_TRIES = 2


@dataclass(frozen=True)
class Lease:
    """How long a trainer may work: `seconds` from its making, or without end."""

    seconds: float | None = None
    checkpoint_every: float = SECONDS_BETWEEN_CHECKPOINTS
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds until it ends."""
        return float("inf") if self.seconds is None else self.began + self.seconds - time.monotonic()


class Writer(TrainerCallback):
    """Turns what the trainer does into events and sealed checkpoints, and a request to stop into a stop."""

    def __init__(self, run: Run, base: Base, prompts: list[list[Message]], trainer: Trainer, lease: Lease,
                 bounds: Bounds) -> None:
        self.run, self.base, self.prompts, self.trainer, self.lease = run, base, prompts, trainer, lease
        self.bounds = bounds
        course = run.course()
        self.held_out_losses = [(one.step, one.values["loss"]) for one in course if one.type == "evaluated"]
        self.seconds_before = max((one.values["seconds"] for one in course if one.type == "step"), default=0.0)
        self.asked_to_stop = self.out_of_time = self.diverged = False
        # Its trainer may have been interrupted before it could say so.
        said_since = takewhile(lambda one: one.type != "evaluated", reversed(course))
        self.stopped_early = self._is_out_of_patience and all(one.type != "finished" for one in said_since)
        self.trained = self.spoke = 0.0  # seconds of this trainer's steps, and of answers
        self.began: float | None = None  # seconds of the first step, in which much is done once and never again
        self._paused = 0.0  # seconds spent on evaluation and speaking, which are no part of a step
        self._looks = 0
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
        """A `step` event for each logged training loss; the end where that is no number."""
        if logs is None or "loss" not in logs or self._first is None:
            return
        if not math.isfinite(logs["loss"]):
            self._diverge(control)
            return
        start, first_step, paused_before = self._first
        seconds = time.monotonic() - start - (self._paused - paused_before)
        done = max(1, state.global_step - first_step)
        self.run.append("step", state.global_step, loss=round(logs["loss"], 5),
                        learning_rate=logs.get("learning_rate"), epoch=round(state.epoch or 0.0, 3),
                        seconds=round(self.seconds_before + seconds, 2),
                        seconds_left=round(seconds / done * (state.max_steps - state.global_step)
                                           + self._seconds_of_looks(state), 1),
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
        speaks = self.trainer.eval_dataset is None and state.global_step % args.eval_steps == 0
        if (control.should_save or speaks) and not self._is_sound():
            self._diverge(control)
        elif speaks:
            self.sample(state.global_step, self.trainer.model)
        return control

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict | None = None,
                    **kwargs: Any) -> None:
        """An `evaluated` event, and what the model says now; the end where its loss is no number.

        ValueError where it is none before the first step.
        """
        paused_before = self._paused
        loss = (metrics or {}).get("eval_loss")
        if loss is not None and not math.isfinite(loss):
            if state.global_step == 0:
                raise ValueError("Before the first step its loss on the held-out conversations is no number (NaN or "
                                 "infinite): what it begins from is damaged, or can't be computed in this precision.")
            self._diverge(control)
            return
        if loss is not None:
            self._paused += metrics.get("eval_runtime", 0.0)
            self.held_out_losses.append((state.global_step, loss))
            general = metrics.get("eval_general_loss")
            self.run.append("evaluated", state.global_step, loss=round(loss, 5),
                            accuracy=round(metrics["eval_mean_token_accuracy"], 4),
                            general_loss=None if general is None else round(general, 5))
            if self.lowest == (state.global_step, loss):
                control.should_save = True  # if it is never as low again, this is the one to go back to
            if self._is_out_of_patience:
                self.stopped_early = control.should_training_stop = True
        self.sample(state.global_step, self.trainer.model)
        self._longest_look = max(self._longest_look, self._paused - paused_before)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal what the trainer wrote, and a `checkpointed` event."""
        folder = self.run.folder / CHECKPOINTS
        began = time.monotonic()
        sealed = checkpoint.seal(folder / f"checkpoint-{state.global_step}", state.global_step)
        checkpoint.prune(folder, spare=self.lowest[0] if self.lowest else None)
        self._saved_at = time.monotonic()
        # Written before this is called, in about the time that the hashes take.
        self._longest_save = max(self._longest_save, 2 * (self._saved_at - began))
        self._paused += self._saved_at - began
        self.run.append("checkpointed", state.global_step, folder=f"{CHECKPOINTS}/{sealed.folder.name}")

    @property
    def lowest(self) -> tuple[int, float] | None:
        """(step, held-out loss) of the lowest after the first step; None before there is one."""
        return lowest_of(self._on_schedule)

    @property
    def _is_out_of_patience(self) -> bool:
        """Whether held-out loss was at its lowest so many evaluations ago that it is to stop early."""
        patience = self.run.config.early_stopping
        return bool(patience) and since_lowest(self._on_schedule) >= patience

    @property
    def _on_schedule(self) -> list[tuple[int, float]]:
        return on_schedule(self.held_out_losses, self.run.config.eval_steps)

    def _seconds_of_looks(self, state: TrainerState) -> float:
        """What the looks at the model that are to come will take: those between here and the last step, the one after
        it, and at the end both sides' answers, each of which counts as one.
        """
        every, last = self.run.config.eval_steps, state.max_steps
        seen = max(state.global_step - 1, self._sampled_at)
        looks = last // every - seen // every + (last % every > 0 and seen < last)
        if self.trainer.eval_dataset is not None and not self._is_lent:
            looks += 2
        return self._paused / max(1, self._looks) * looks

    def _diverge(self, control: TrainerControl) -> None:
        """It won't recover: end now, and keep and measure nothing of it."""
        self.diverged = control.should_training_stop = True
        control.should_save = control.should_evaluate = False

    def _is_sound(self) -> bool:
        """Whether all that was learned are numbers: a checkpoint of others would take a good one's place."""
        learned = [weight.detach() for weight in self.trainer.model.parameters() if weight.requires_grad]
        return bool(get_total_norm(learned).isfinite())

    def outcome(self, plan: Plan, seconds: float) -> speed.Outcome:
        """What a whole run took, of so many seconds in all, for the next plan: what its first step took longer than
        the others counts as loading.
        """
        steps = plan.batches.steps
        training = (self.trained - self.began) * steps / (steps - 1) if steps > 1 else self.trained
        config = self.run.config
        return speed.Outcome(config.base, config.method, plan.work.parts(), training, plan.spoken, self.spoke,
                             max(0.0, seconds - training - self._paused), plan.reading.parts())

    def sample(self, step: int, model: Any) -> None:
        """What the model says to the fixed prompts, once per step."""
        if step == self._sampled_at:
            return
        self._sampled_at = step
        self._looks += 1
        began = time.monotonic()
        greedy = Sampling(max_new_tokens=SPOKEN_TOKENS)
        lanes = [Lane(tuple(prompt), sampling=greedy) for prompt in self.prompts]
        answers = answer_all(model, self.base, lanes, self.bounds)
        self.run.append("sampled", step, prompts=[prompt[-1]["content"] for prompt in self.prompts],
                        answers=[answer.text for answer in answers])
        took = time.monotonic() - began
        self.spoke += took
        self._paused += took
        self._longest_look = max(self._longest_look, took)

    def evaluate(self, last: int | None = None) -> Evaluation | None:
        """The adapter, which was written, against what it began from on held-out rows, kept in the run's folder; None
        where there are none, or no time or memory. It is that of the `last` step, where that isn't the run's. What was
        measured of an earlier adapter goes.

        A run that is trained is worth more than its figures: what an evaluation lacks doesn't fail it, and one that
        took its trainer down again and again is left out.
        """
        (self.run.folder / EVALUATION).unlink(missing_ok=True)
        _, held = self.run.conversations()
        if not held or (self._is_lent and self.lease.left() < 4 * self._longest_look + TRAINER_MARGIN_SECONDS):
            return None
        tries = self.run.folder / EVALUATING
        tried = tries.stat().st_size if tries.exists() else 0
        if tried >= MOST_TRIES:
            return None
        tries.write_text("." * (tried + 1), encoding="utf-8")
        found = self._evaluated(held, last)
        tries.unlink()
        if found:
            found.write(self.run.folder)
        return found

    @property
    def _is_lent(self) -> bool:
        return self.lease.seconds is not None

    def _evaluated(self, held: Sequence[Conversation], last: int | None) -> Evaluation | None:
        began = time.monotonic()
        try:
            most = PROMPTS_WHERE_LENT if self._is_lent else PROMPTS_AT_THE_END
            first = self._as_it_began() if self.run.config.continues else None
            return evaluate_trained(self.trainer.model, self.base, held, losses_up_to(self.run, last), most, first,
                                    self.bounds)
        except (MemoryError, RuntimeError) as problem:
            if not is_out_of_memory(problem):
                raise
            return None
        finally:
            self.spoke += time.monotonic() - began
            self._paused += time.monotonic() - began

    @contextmanager
    def _as_it_began(self) -> Iterator[Any]:
        """The model with the adapter that it trained further, and after that as it was written."""
        method, model = self.trainer.method, self.trainer.model
        method.begin_from(model, self.run.folder / START)
        try:
            yield model
        finally:
            method.begin_from(model, self.run.folder / ADAPTER)
