"""What a CUDA graph does, on a processor: the operations of a function once, and then those again, where they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# What a card can't do while it is captured: wait for the processor to read a number, or take one from its memory.
_READS = ("_local_scalar_dense", "lift_fresh", "item", "nonzero", "is_nonzero", "equal", "unique")


class Replays:
    """Captures as `phi3.captured.Capture` says, and counts: `made` captures, `replayed` steps.

    No Python of the function runs again: each operation gets the very tensors and numbers of the first time, and what
    it makes is put where it was then.
    """

    def __init__(self) -> None:
        self.made = self.replayed = 0
        self.operations: set[str] = set()

    def __call__(self, body: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """Run it once, noting what it does."""
        with _Noting() as noted:
            made = body()
        self.made += 1
        self.operations |= {str(operation) for operation, *_ in noted.done}

        def replay() -> None:
            self.replayed += 1
            for operation, given, named, first in noted.done:
                again = operation(*given, **named)
                at_hand = {_place(one) for one in _tensors((given, named))}
                for old, new in zip(_tensors(first), _tensors(again), strict=True):
                    if _place(old) not in at_hand:
                        old.copy_(new)

        return replay, made

    def reads(self) -> list[str]:
        """Operations among them that a card could not be captured in."""
        return [one for one in self.operations if any(f"aten.{name}." in one for name in _READS)]


class _Noting(TorchDispatchMode):
    """Notes each operation with what it was given and what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, tuple, dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.done.append((func, *(tree_map(_apart, tree) for tree in (args, kwargs or {}, made))))
        return made


def _apart(one: Any) -> Any:
    """The same place in memory, of which autograd knows nothing."""
    return one.detach() if isinstance(one, torch.Tensor) else one


def _place(one: torch.Tensor) -> int | None:
    """Where a tensor lies in memory; None where only oneDNN knows."""
    return None if one.is_mkldnn else one.untyped_storage().data_ptr()


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
