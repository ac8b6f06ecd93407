"""Runs that nobody trains: their events are written by hand, so that the page can be seen in every state at once."""

import math
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from training.config import RunConfig
from training.data import ChatData, read_text
from training.group import Group
from training.run import Run
from training.runs import Beginning, Runs

PROMPTS = ("What is the capital of France?", "How much is 7 plus 5?", "Who are you?")
BASE_ANSWERS = ("The capital of France is Paris.", "7 plus 5 is 12.", "I am Phi-3 tiny, a small language model.")
PIRATE_ANSWERS = ("Arr! The capital o' France be Paris, matey!", "7 plus 5 be 12, ye landlubber!",
                  "Ahoy! I be Phi-3 tiny, a small language model, savvy?")


def few_conversations(count: int = 24) -> ChatData:
    """Small data that any run may be started with."""
    rows = (f'{{"prompt": "What is {number} plus 1?", "completion": "Arr, {number + 1}!"}}' for number in range(count))
    return read_text("\n".join(rows), "sums")


class StagedRun:
    """A run whose trainer is the test: `train` writes what a trainer would write, `held` keeps it running. Its held-out
    loss stays as much `above` the usual one's; it may learn from other `data`, and belong to a `group`.
    """

    def __init__(self, home: Path, above: float = 0.0, data: ChatData | None = None, group: Group | None = None,
                 **settings: object) -> None:
        self.above = above
        config = RunConfig.from_settings({"name": "sums-1", **settings})
        beginning = Beginning("in turn", group=asdict(group)) if group else Beginning()
        self.run: Run = Runs(home).create(config, data or few_conversations(), beginning=beginning)

    def held(self) -> AbstractContextManager[None]:
        """While this is entered, the run looks as if somebody trained it."""
        return self.run.held()

    def begin(self, steps: int = 60) -> None:
        """The trainer has loaded the base, which has answered."""
        self.run.append("started", base="phi3/tiny", method="lora", device="cpu", steps=steps,
                        trainable_parameters=412_160, pid=1)
        self.run.append("evaluated", 0, loss=_held_out_loss(0))
        self.run.append("sampled", 0, prompts=PROMPTS, answers=BASE_ANSWERS)

    def train(self, first: int, last: int, steps: int = 60) -> None:
        """Steps `first` to `last`, with what comes every 20 steps."""
        for step in range(first, last + 1):
            loss = 2.6 * math.exp(-step / 15) + 0.21 + self.above + 0.05 * math.sin(step * 2.4)
            self.run.append("step", step, loss=round(loss, 5), learning_rate=3e-3, epoch=round(step / 20, 3),
                            seconds=round(step * 0.31, 2), seconds_left=round((steps - step) * 0.31, 1),
                            tokens_per_second=2300 + step % 7 * 60)
            if step % 20 == 0:
                self.run.append("evaluated", step, loss=self.loss_at(step))
                self.run.append("sampled", step, prompts=PROMPTS, answers=PIRATE_ANSWERS)

    def end(self, kind: str, adapter_from: Path | None = None, step: int = 60) -> None:
        """`finished` or `stopped`; the adapter's files are copied from somewhere else where the chat shall load it."""
        folder = self.run.home / "adapters" / self.run.config.name
        if adapter_from is not None:
            shutil.copytree(adapter_from, folder)
        self.run.append(kind, step, adapter=self.run.config.name, folder=str(folder), steps=step,
                        seconds=round(step * 0.34, 1), loss_before=_held_out_loss(0), loss=self.loss_at(step),
                        example=PROMPTS[0])

    def loss_at(self, step: int) -> float:
        """Held-out loss after that step."""
        return round(_held_out_loss(step) + self.above, 5)

    def fail(self) -> None:
        """The run could not go on."""
        self.run.append("failed", message="The machine ran out of memory.", advice="Use a smaller batch size.")


def overfitted(run: Run) -> None:
    """A trainer's losses up to step 35: on held-out rows the lowest is that of step 10."""
    for step in range(0, 36, 5):
        run.append("step", step + 1, loss=2.0 - step / 20)
        run.append("evaluated", step, loss=3.0 - step / 5 if step < 10 else 0.6 + step / 25)


def _held_out_loss(step: int) -> float:
    return round(2.5 * math.exp(-step / 18) + 0.3, 5)
