"""TRL's trainer with the studio's step in it: packed rows, `Learner`'s forward pass, nothing that waits for a card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from trl import SFTTrainer

from phi3.captured import capture_on
from phi3.captured_learning import CapturedLearning
from phi3.learner import Learner
from phi3.packed import Packed
from training.config import RunConfig
from training.methods import Method
from training.packing import Collator, packs_of
from training.plan import Plan
from training.tokens import Rows


@dataclass(frozen=True)
class Lesson:
    """Rows as tokens: those that are trained on, and those that the model is judged by, of its own data and of any."""

    train: Rows
    held: Rows = field(default_factory=list)
    general: Rows = field(default_factory=list)


def trainer_of(config: RunConfig, method: Method, plan: Plan, lesson: Lesson, folder: Path, tokenizer: Any,
               captures: bool = False) -> Trainer:
    """A trainer for these rows, which keeps its checkpoints in the folder.

    A batch of its loader is a whole optimizer step; the plan says how it is divided and which blocks recompute. With
    `captures` steps are captured on a card where the plan leaves room; no run asks for that before a card has shown it
    (`benchmarks.card.training` races it).
    """
    from datasets import Dataset
    from trl import SFTConfig

    asked = config.training_config()
    on_card = torch.cuda.is_available()
    # The labels mark the answers already (`encode_conversation`), so TRL has nothing left to prepare.
    ours = {"assistant_only_loss": False, "dataset_kwargs": {"skip_prepare_dataset": True},
            "use_cpu": not on_card, "bf16": asked["bf16"] and on_card,
            "per_device_train_batch_size": plan.batches.examples_per_step, "gradient_accumulation_steps": 1,
            "gradient_checkpointing": False, "eval_strategy": asked["eval_strategy"] if lesson.held else "no",
            "disable_tqdm": True, "dataloader_pin_memory": False, "logging_first_step": True,
            "logging_nan_inf_filter": False, "remove_unused_columns": False}
    rows = [Dataset.from_list(part) if part else None for part in (lesson.train, lesson.held)]
    budget = plan.batches.budget
    judged_by = (packs_of([(row["input_ids"], row["labels"]) for row in part], budget)
                 for part in (lesson.held, lesson.general))
    arguments = SFTConfig(output_dir=str(folder), **{**asked, **ours})
    # Of several cards the first: TRL refuses to share a process's model out among them.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    trainer = Trainer(method, plan.recomputed, budget, *judged_by, args=arguments, train_dataset=rows[0],
                      eval_dataset=rows[1], processing_class=tokenizer)
    if captures and plan.has_room_twice:
        trainer.captured_for = plan.batches.examples_per_step, plan.batches.longest_row
    return trainer


class Trainer(SFTTrainer):
    """A batch of its loader is a whole optimizer step, computed in as many packs as `budget` tokens each ask for.

    `held` and `general` are the rows that it is judged by at each evaluation. What it keeps of the model, and how it
    takes that up again, is the method's.
    """

    def __init__(self, method: Method, recomputed: int, budget: int, held: Sequence[Packed] = (),
                 general: Sequence[Packed] = (), **given: Any) -> None:
        self.method, self.held, self.general = method, held, general
        super().__init__(model=method.model(), peft_config=method.peft_config, data_collator=Collator(budget), **given)
        self.learner = Learner(self.model, recomputed)
        self.learner.install()
        # Rows of a pack at most, and tokens of a row, where steps are captured; made when the weights are where they
        # are trained.
        self.captured_for: tuple[int, int] | None = None
        self.captured: CapturedLearning | None = None

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward over all packs of the step; its loss for each trained token, on the device."""
        model.train()
        device, packs = self.args.device, inputs["packs"]
        words = torch.as_tensor(num_items_in_batch, device=device).clamp(min=1)
        total = torch.zeros((), device=device)
        captured = self._captured_learning()
        for number, pack in enumerate(packs, 1):
            loss = None if captured is None else captured.learned(pack, 1 / words)
            if loss is not None:
                total += loss / words
                continue
            with self._alone(model, number == len(packs)):
                # Several processes' gradients are averaged, and `words` counts those of all of them.
                loss = model(packed=pack.to(device)) / words * self.accelerator.num_processes
                self.accelerator.backward(loss)
            total += loss.detach()
        self._total_train_tokens += sum(len(pack.ids) for pack in packs)
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return total

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None,
                 metric_key_prefix: str = "eval") -> dict[str, float]:
        """Loss for each trained token of the held-out rows, the share of them that were the likeliest word, and the
        loss on general rows; logged, and told to the callbacks.
        """
        began = time.monotonic()
        self.model.eval()
        loss, share = self.learner.means(self.held)
        found = {"loss": loss, "mean_token_accuracy": share}
        if self.general:
            found["general_loss"], _ = self.learner.means(self.general)
        found["runtime"] = time.monotonic() - began
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """None are counted: the plan knows better, and Trainer's count asks for a padded batch."""
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None at each checkpoint: the run's folder says more, and its owner decides what becomes public."""

    def _captured_learning(self) -> CapturedLearning | None:
        """None where each step's kernels are begun as they come: on a processor, where several processes train
        together, and where the plan leaves no room.
        """
        capture = capture_on(self.args.device)
        if self.captured is None and self.captured_for and capture and self.accelerator.num_processes == 1:
            weights = [weight for weight in self.model.parameters() if weight.requires_grad]
            self.captured = CapturedLearning(self.learner, weights, capture, *self.captured_for)
        return self.captured

    def _alone(self, model: Any, is_last: bool) -> AbstractContextManager[None]:
        """Where several processes train together, they exchange gradients after the last pack of a step alone."""
        return model.no_sync() if not is_last and hasattr(model, "no_sync") else nullcontext()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.method.load(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """With the learning rate that this run's own schedule has for the next step: a run that was given more steps
        would make it at that of the shorter schedule, which may have come to its end at 0.
        """
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint:
            self.lr_scheduler.last_epoch -= 1
            self.lr_scheduler.step()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.method.keeps_itself:
            self.method.keep(self.model, Path(output_dir or self.args.output_dir))
        else:
            super()._save(output_dir, state_dict)
