"""What every part is given: where it works, how large everything is, and until when."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent.parent
Size = TypeVar("Size")


@dataclass(frozen=True)
class Bench:
    """`work`: a folder for the base and for runs; `small`: a rehearsal, at about a hundredth of the size, a quarter of
    the lengths and two steps; `until`: seconds since 1970 at which the part is ended, wherever it is.
    """

    work: Path
    small: bool
    until: float

    @property
    def steps(self) -> int:
        """Optimizer steps of a run."""
        return self.size(30, 2)

    def size(self, full: Size, small: Size) -> Size:
        """The one or the other, for a proof or for its rehearsal."""
        return small if self.small else full

    def tokens(self, count: int) -> int:
        """So many tokens, a quarter of them in a rehearsal."""
        return self.size(count, count // 4)

    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.until - time.time()

    def base(self) -> Path:
        """The folder of the random Phi-3, which is made when it is first asked for."""
        from benchmarks.card.base import base_in

        return base_in(self.work, self.small)

    def studio(self, part: str) -> Path:
        """An empty studio folder for this part's runs."""
        import shutil

        folder = self.work / "studio" / part
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def on_card() -> bool:
    """Whether torch has a card here."""
    import torch

    return torch.cuda.is_available()


def wait_for_card() -> None:
    """A card works behind the back of the processor: a clock is read when it is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def free_memory() -> None:
    """Give back what nobody holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def copied_weights(model: Any) -> dict[str, Any]:
    """A copy of all weights in the machine's own memory, to compare with later."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def are_as_they_were(before: dict[str, Any], model: Any) -> bool:
    """Whether every weight has every bit as in the copy."""
    import torch

    after = model.state_dict()
    return before.keys() == after.keys() and all(torch.equal(value, after[name].cpu())
                                                 for name, value in before.items())
