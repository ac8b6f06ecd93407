"""What a trainer keeps beside the weights, as plain numbers and back: optimizer, schedule and random state, unpickled.

`Trainer` writes these three with torch.save, which pickles, and a pickle can run code when it is opened. So none of
them ever travels: they are written as JSON with their tensors in a safetensors file, and what comes back is built from
numbers, texts, lists and dictionaries alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapters.files import MOST_TENSORS, opened, read_object

STATE, TENSORS = "state.json", "state.safetensors"
# By the names that `Trainer` gives them (transformers 5, trainer.py: OPTIMIZER_NAME, SCHEDULER_NAME, _save_rng_state).
PICKLED = {"optimizer": "optimizer.pt", "schedule": "scheduler.pt", "random": "rng_state.pth"}


def write_numbers(checkpoint: Path, folder: Path) -> None:
    """Write the three files of a checkpoint of this machine into `folder` as state.json and state.safetensors.

    ValueError where one of them holds something that is no number, text, list, dictionary or tensor.
    """
    import torch
    from safetensors.torch import save_file
    from transformers.trainer_pt_utils import safe_globals

    tensors: dict[str, Any] = {}
    told = {}
    with safe_globals():
        for name, file in PICKLED.items():
            whole = torch.load(checkpoint / file, map_location="cpu", weights_only=True)
            told[name] = _told(whole, tensors)
    (folder / STATE).write_text(json.dumps(told) + "\n", encoding="utf-8")
    save_file(tensors, folder / TENSORS)


def write_state(arrived: Path, checkpoint: Path) -> None:
    """Write optimizer.pt, scheduler.pt and rng_state.pth from state.json and state.safetensors, which nobody vouches
    for; ValueError where these are damaged or something else. Nothing in them is run or unpickled.
    """
    import torch

    told = read_object(arrived / STATE)
    if told.keys() != PICKLED.keys():
        raise ValueError(f"{STATE} should hold {', '.join(PICKLED)}, and holds something else. Keep the run again.")
    with opened(arrived / TENSORS) as tensors:
        names = set(tensors.keys())
        if len(names) > 4 * MOST_TENSORS:
            raise ValueError(f"{TENSORS} holds {len(names):,} tensors; at most {4 * MOST_TENSORS:,} are read.")

        def tensor_of(name: Any) -> Any:
            if not isinstance(name, str) or name not in names:
                raise ValueError(f"{STATE} names a tensor that {TENSORS} doesn't hold. Keep the run again.")
            return tensors.get_tensor(name)

        try:
            for name, file in PICKLED.items():
                torch.save(_made(told[name], tensor_of), checkpoint / file)
        except RecursionError:
            raise ValueError(f"{STATE} is nested deeper than any trainer writes it. Keep the run again.") from None


def _told(value: Any, tensors: dict[str, Any]) -> Any:
    """The value as JSON can hold it; what JSON has no word for is an object of one key, and so is every dictionary."""
    import numpy
    import torch

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [_told(one, tensors) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[_told(key, tensors), _told(one, tensors)] for key, one in value.items()]}
    name = str(len(tensors))
    if isinstance(value, torch.Tensor):
        tensors[name] = value.contiguous().clone()
        return {"tensor": name}
    if isinstance(value, numpy.ndarray) and value.dtype == numpy.uint32:
        tensors[name] = torch.from_numpy(value.astype(numpy.int64))
        return {"uint32": name}
    raise ValueError(f"A checkpoint holds a {type(value).__name__}, which can't be told in plain numbers.")


def _made(told: Any, tensor_of: Callable[[Any], Any]) -> Any:
    """The inverse of `_told`, which makes nothing else whatever it is given."""
    if told is None or isinstance(told, (bool, int, float, str)):
        return told
    kind, inside = next(iter(told.items())) if isinstance(told, Mapping) and len(told) == 1 else ("", None)
    if kind == "tensor":
        return tensor_of(inside)
    if kind == "uint32":
        return tensor_of(inside).numpy().astype("uint32")
    if kind in ("list", "tuple") and isinstance(inside, list):
        return (list if kind == "list" else tuple)(_made(one, tensor_of) for one in inside)
    if kind == "dict" and isinstance(inside, list) and all(_is_entry(one) for one in inside):
        return {key: _made(one, tensor_of) for key, one in inside}
    raise ValueError(f"{STATE} holds something that no trainer wrote. Keep the run again.")


def _is_entry(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and isinstance(one[0], (int, str))
