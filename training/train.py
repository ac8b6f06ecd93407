"""Train one run with TRL inside one lease; everything it has to say goes into the run's folder."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from adapters.check import check
from adapters.library import Library
from phi3.machine import GIBIBYTE, Machine, this_machine
from phi3.models import Base, expanded, load_base, quantised, with_attention
from phi3.template import Message, encode_conversation
from training import checkpoint, speed
from training.advice import after_diverging
from training.answers import SHOWN_PROMPTS
from training.checkpoint import CHECKPOINTS
from training.config import RunConfig
from training.data import Conversation
from training.evaluate import general_rows, questions
from training.failure import Failure, against_plan, explained, keep_trace
from training.memory import PROCESS_BYTES, precision_of, width_of
from training.methods import method_of
from training.outcome import peak_bytes, provenance, seconds_so_far
from training.plan import Plan
from training.planning import kept, planner
from training.run import ADAPTER, LOG, START, Event, Run
from training.sharing import wanted_for_answers
from training.tokens import tokens_of
from training.trainer import Lesson, Trainer, trainer_of
from training.writer import Lease, Writer


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
            _write_failure(run, failure, problem)
            if failure.mendable:
                raise ValueError(failure.sentence) from problem
            raise


def _train(run: Run, lease: Lease, resident: Base | None) -> Event:
    from transformers import set_seed

    checkpoint.remove_unsealed(run.folder / CHECKPOINTS)
    base = _base_of(run.config, resident)
    train, held = run.conversations()
    set_seed(run.config.seed)  # the adapter's own random start; TRL seeds only after it was made
    plan_of = planner(run, base.facts, base.tokenizer, _as_it_is_now(this_machine()))
    plan = kept(run, plan_of(run.config))
    if plan.expanded:
        base = expanded(base)
        gc.collect()  # bitsandbytes' weights know their layers, so they don't go by themselves
    trainer = _trainer(run, base, plan)
    found, skipped = checkpoint.newest(run.folder / CHECKPOINTS)
    _announce(run, base, trainer, plan, found, skipped)
    prompts = _corrected(train) if run.is_lesson else _first_asked(held or train)
    writer = Writer(run, base, prompts, trainer, lease, plan.bounds)
    trainer.add_callback(writer)
    with against_plan(run.config, plan_of, peak_bytes):
        if found is None:
            if run.config.continues:
                trainer.method.begin_from(trainer.model, run.folder / START)
            _speak(trainer, writer, step=0)
        if found and (writer.stopped_early or found.step >= plan.batches.steps):
            _take_up(trainer, found)
        else:
            trainer.train(resume_from_checkpoint=str(found.folder) if found else None)
    is_over = writer.stopped_early or writer.diverged or trainer.state.global_step >= trainer.state.max_steps
    if writer.out_of_time and not is_over:
        return run.append("lease_ended", trainer.state.global_step, reason="time")
    return _finish(run, base, trainer, writer, plan)


def _base_of(config: RunConfig, resident: Base | None) -> Base:
    """The base as the run wants it: loaded, or made from the resident one, whose weights are shared or quantised."""
    if resident is None:
        return load_base(config.base, precision_of(config), attention=config.attn_implementation)
    if config.base != resident.facts.id:
        raise ValueError(f"This run's base is {config.base}, and here only {resident.facts.id} is trained. Start a new "
                         "run.")
    return with_attention(quantised(resident) if config.method == "qlora" else resident, config.attn_implementation)


def _as_it_is_now(machine: Machine) -> Machine:
    """The machine with what others leave of its card at this moment, of which the page may want a part for answers
    (training/sharing.py): it may hold that already, still load its base, or have let it go for this run.
    """
    if machine.kind != "cuda":
        return machine
    import torch

    free, whole = torch.cuda.mem_get_info()
    others = (whole - free - torch.cuda.memory_reserved() - PROCESS_BYTES[machine.kind]) / GIBIBYTE
    wanted = wanted_for_answers()
    return replace(machine, card_memory=machine.card_memory - max(0.0, others - wanted), card_taken=wanted)


def _announce(run: Run, base: Base, trainer: Trainer, plan: Plan, found: checkpoint.Checkpoint | None,
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


def _trainer(run: Run, base: Base, plan: Plan) -> Trainer:
    """The trainer over a shell of the base, on rows that were tokenised by the app's own template code."""
    from transformers.trainer_callback import PrinterCallback

    train, held = tokens_of(run, base.tokenizer)
    general = [encode_conversation(base.tokenizer, row) for row in general_rows(base.facts.id)] if held else []
    lesson = Lesson(train, held, [{"input_ids": one.input_ids, "labels": one.labels()} for one in general])
    trainer = trainer_of(run.config, method_of(run.config, base), plan, lesson, run.folder / CHECKPOINTS,
                         base.tokenizer)
    trainer.remove_callback(PrinterCallback)  # the events say what it would print
    return trainer


def _corrected(rows: Sequence[Conversation]) -> list[list[Message]]:
    """What was asked before a few of the answers that were corrected, with which a lesson begins."""
    return [list(one.messages) for one in questions(rows[:SHOWN_PROMPTS])]


def _first_asked(rows: Sequence[Conversation]) -> list[list[Message]]:
    """The first question of a few conversations that differ in it, with its system message."""
    found: dict[str, list[Message]] = {}
    for one in rows:
        end = next(place for place, turn in enumerate(one.messages) if turn["role"] == "user") + 1
        found.setdefault(one.messages[end - 1]["content"], list(one.messages[:end]))
    return list(found.values())[:SHOWN_PROMPTS]


def _take_up(trainer: Trainer, last: checkpoint.Checkpoint) -> None:
    """The model as it was after its last step: `Trainer` would make one step more before it sees that none is left."""
    trainer.method.load(trainer.model, last.folder)
    trainer.state.global_step = trainer.state.max_steps = last.step


def _speak(trainer: Trainer, writer: Writer, step: int) -> None:
    """Held-out loss and answers of the model as it is, before training has begun."""
    if trainer.eval_dataset is not None:
        trainer.evaluate()  # the writer notes it
    else:
        writer.sample(step, trainer.model)


def _finish(run: Run, base: Base, trainer: Trainer, writer: Writer, plan: Plan) -> Event:
    """Last evaluation, the adapter in PEFT's format, its place in the library, and the last event."""
    step = trainer.state.global_step
    if not writer.diverged and trainer.eval_dataset is not None and writer.held_out_losses[-1][0] != step:
        trainer.evaluate()
    if not writer.diverged:
        writer.sample(step, trainer.model)
    back = _go_back(run, trainer, writer) if writer.stopped_early or writer.diverged else None
    if writer.diverged:
        advice = after_diverging(step, back, run.config.learning_rate, base.facts.shape.hidden)
        if back is None:
            raise ValueError(advice)
    losses = dict(writer.held_out_losses)
    loss = losses.get(step if back is None else back)
    went_back = {} if back is None else {"went_back_to": back}
    trainer.method.write_adapter(trainer.model, run.folder / ADAPTER)
    evaluation = writer.evaluate(back)
    judged = {"verdict": evaluation.verdict} if evaluation else {}
    outcome = {"steps": step, "seconds": round(seconds_so_far(run, writer), 1),
               "loss_before": round(next(iter(losses.values())), 5) if losses else None,
               "loss": None if loss is None else round(loss, 5), **went_back,
               "planned_seconds": round(plan.total_seconds, 1), "planned_peak_bytes": plan.peak,
               "peak_bytes": peak_bytes(), **judged}
    run.read_anew()  # somebody may have claimed it since
    library = Library(run.home, {run.owner})
    adapter = library.put(run.config.name, run.folder / ADAPTER, provenance(run, base, outcome), run.owner)
    kind = "stopped" if writer.asked_to_stop and step < trainer.state.max_steps else "finished"
    if kind == "finished" and not (writer.seconds_before or went_back):
        machine = this_machine()
        speed.keep(run.home, machine, width_of(run.config, base.facts.config, machine),
                   writer.outcome(plan, outcome["seconds"]))
    verdict = check(run.folder / ADAPTER, base.facts, base)
    run.read_anew()  # nor has the adapter its name for good, or its place
    return run.append(kind, step, adapter=run.config.name, folder=str(adapter.folder), **outcome,
                      check={"ok": verdict.ok, "verdict": verdict.verdict, "warnings": list(verdict.warnings)},
                      **({"diverged_at": step, "advice": advice} if writer.diverged else {}),
                      example=writer.prompts[0][-1]["content"])


def _go_back(run: Run, trainer: Trainer, writer: Writer) -> int | None:
    """The model as it was when held-out loss was lowest or, where there is none, as it was last saved; which step
    that was, None where nothing was saved. Of a lesson that diverged, what was last saved knows the most corrections.
    """
    folder = run.folder / CHECKPOINTS
    lowest = None if writer.diverged and run.is_lesson else writer.lowest
    found = checkpoint.of_step(folder, lowest[0]) if lowest else None
    if found is None or found.damage():
        found, _ = checkpoint.newest(folder)
    if found:
        trainer.method.load(trainer.model, found.folder)
    return found.step if found else None


def _write_failure(run: Run, failure: Failure, problem: BaseException) -> None:
    """The `failed` event, and for what nobody can mend the details. A disk that is too full even for that keeps the
    events that there were.
    """
    try:
        run.append("failed", message=failure.message, advice=failure.advice, **failure.told)
        if not failure.mendable:
            keep_trace(problem, run.folder / LOG)
    except OSError as problem:
        print(f"The event could not be written: {problem}", file=sys.stderr)
