"""The checkpoint at which held-out loss was lowest: kept while a run goes on, and an adapter of its own where asked."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from adapters.layers import shape_of
from adapters.library import Adapter, Library, with_tail
from phi3.models import ADAPTER_CONFIG, ADAPTER_WEIGHTS, base_facts
from training.checkpoint import CHECKPOINTS, Checkpoint, of_step
from training.evaluate import losses_up_to
from training.run import ADAPTER, Run
from training.verdict import Overfit, lowest_of, on_schedule, overfit


def better_checkpoint(run: Run) -> Overfit | None:
    """Since when the run overfits, where the checkpoint of that step is still whole; None elsewhere, where the run went
    back to it by itself, and for a lesson, whose earlier checkpoints know less of the corrections.
    """
    ending = run.last_event()
    found = overfit(losses_up_to(run, ending.values.get("went_back_to") if ending else None))
    return found if found and not _checkpoint(run, found.step).damage() else None


def lowest_checkpoint(run: Run, newest: int) -> Checkpoint | None:
    """What a run of which `newest` is the newest step goes back to where it stops early or overfits, if that is another
    checkpoint; None where it isn't whole."""
    lowest = lowest_of(on_schedule(losses_up_to(run, newest).held_out, run.config.eval_steps))
    found = _checkpoint(run, lowest[0]) if lowest and lowest[0] < newest else None
    return found if found and not found.damage() else None


def adapter_of(run: Run) -> Adapter:
    """That checkpoint as an adapter beside the run's own, NAME-step-N; ValueError where there is none."""
    found = better_checkpoint(run)
    if found is None:
        raise ValueError("This run has no checkpoint from before it overfitted. Use the adapter that it made.")
    library = Library(run.home, {run.owner})
    own = library.get(run.config.name)
    outcome = {name: value for name, value in own.provenance["outcome"].items() if name != "verdict"}
    about = {**own.provenance, "outcome": {**outcome, "steps": found.step, "loss": round(found.lowest, 5)}}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / ADAPTER
        _write(run, _checkpoint(run, found.step).folder, own, made)
        return library.put(with_tail(run.config.name, f"-step-{found.step}"), made, about, run.owner)


def _checkpoint(run: Run, step: int) -> Checkpoint:
    return of_step(run.folder / CHECKPOINTS, step)


def _write(run: Run, checkpoint: Path, own: Adapter, folder: Path) -> None:
    """The adapter in PEFT's format: what describes it is the finished one's, and the weights are the checkpoint's."""
    if run.config.method == "loralib":
        from adapters.formats import fused, write_peft
        from adapters.loralib_files import lora_of, read_checkpoint

        facts = base_facts(run.config.base)
        shape = shape_of(facts.config)
        lora = lora_of(read_checkpoint(checkpoint / "loralib", shape), facts.id, facts.revision)
        write_peft(fused(lora, shape), folder, shape)
        return
    folder.mkdir()
    shutil.copyfile(own.folder / ADAPTER_CONFIG, folder / ADAPTER_CONFIG)
    shutil.copyfile(checkpoint / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
