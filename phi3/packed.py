"""Rows of a batch end to end, without padding: their places, and attention in which no row sees another."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch.nn import functional

from phi3.fused import Gathered, Spread

# Rows are attended over together while the shortest has this share of the longest: more calls cost less than the
# padding of fewer.
ALIKE = 0.8
LEAST_EVEN = 1024
# NVIDIA's generation of the A100, by its compute capability: the first with bf16.
AMPERE = (8, 0)


@dataclass(frozen=True)
class Packed:
    """Rows end to end, longest first. `ids`, `places` (each token's in its row) and `targets` (the word that is to
    follow, -100 where none is trained) are (tokens,), int64; `trained` says where one is; `lengths` are the rows', and
    `ends`, (rows + 1,), int32, is where each begins, and the last one ends.

    Where it is `filled` up (`phi3.captured_learning`), some of `trained` stand where nothing is, rows may be empty, and
    `lengths` only says how long one may be.
    """

    ids: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor
    trained: torch.Tensor
    ends: torch.Tensor
    lengths: tuple[int, ...]
    filled: bool = False

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Packed:
        """From `input_ids` and `labels` of each row, as TRL names them: a label stands where its word stands."""
        ordered = sorted(rows, key=lambda row: -len(row[0]))
        lengths = tuple(len(ids) for ids, _ in ordered)
        ids = torch.tensor([one for row, _ in ordered for one in row])
        targets = torch.tensor([one for _, labels in ordered for one in (*labels[1:], -100)])
        places = torch.cat([torch.arange(length) for length in lengths])
        ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        # Found here, where nothing waits for a card to count them.
        return cls(ids, places, targets, (targets != -100).nonzero().flatten(), ends, lengths)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Packed:
        """The same on another device."""
        held = (self.ids, self.places, self.targets, self.trained, self.ends)
        return Packed(*(one.to(device, non_blocking=non_blocking) for one in held), self.lengths, self.filled)


@dataclass(frozen=True)
class _Group:
    """Rows that follow each other and are attended over at once. Tokens and slots are None where all are as long."""

    size: int
    rows: int
    longest: int
    tokens: torch.Tensor | None
    slots: torch.Tensor | None


class Attention:
    """Causal attention over packed rows, each seeing itself alone and at most `window` tokens back, exactly.

    On a card with torch's variable-length kernel that is one call for all rows. Elsewhere rows of like length are
    filled up on their right, where causal attention needs no mask to hide what fills up; a mask is made only for rows
    that are longer than the window.
    """

    def __init__(self, lengths: Sequence[int], window: int, like: torch.Tensor, way: str = "sdpa",
                 ends: torch.Tensor | None = None) -> None:
        """`like` is of the device and type of what is attended over; `way` as transformers names it; `ends` as a pack
        has it on that device, None where it is to be made.
        """
        self._lengths, self._window, self._device, self._way = lengths, window, like.device, way
        self._longest = max(lengths)
        # Long rows that are all as long were cut at the same limit, so their shape comes again, and cuDNN's kernels are
        # worth a plan: for four of 2,047 tokens they take 1.2 ms on an H200, forward and backward, and torch's 1.6.
        self.is_even = way == "sdpa" and like.device.type == "cuda" and len(lengths) > 1 and \
            LEAST_EVEN <= min(lengths) == self._longest <= window
        self._is_varlen = is_one_call(like.dtype, like.device, way) and not self.is_even
        if self._is_varlen and ends is None:
            ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
            ends = ends.to(like.device, non_blocking=True)
        self._ends = ends

    def __call__(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float,
                 dropout: float = 0.0) -> torch.Tensor:
        """Queries (tokens, heads, head size), keys and values (tokens, kept heads, head size) → (tokens, heads · head
        size).
        """
        if self._is_varlen and not dropout:
            return self._by_varlen(queries, keys, values, scaling).flatten(1)
        sizes = [group.size for group in self._groups]
        # Divided at once, so that the gradients of the parts are joined at once, too.
        divided = zip(self._groups, *(part.split(sizes) for part in (queries, keys, values)), strict=True)
        parts = [self._of_group(group, some, scaling, dropout) for group, *some in divided]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @cached_property
    def _groups(self) -> list[_Group]:
        return [_group(some, self._device) for some in _alike(self._lengths)]

    def _by_varlen(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
                   scaling: float) -> torch.Tensor:
        back = self._window - 1 if self._window < self._longest else -1
        if self._way == "flash_attention_2":
            from flash_attn import flash_attn_varlen_func

            return flash_attn_varlen_func(queries, keys, values, self._ends, self._ends, self._longest, self._longest,
                                          softmax_scale=scaling, causal=True, window_size=(back, 0))
        from torch.nn.attention.varlen import varlen_attn

        times, more = queries.shape[1] // keys.shape[1], {}
        if times > 1 and "enable_gqa" in _parameters(varlen_attn):
            more = {"enable_gqa": True}
        elif times > 1:
            keys, values = (part.repeat_interleave(times, 1) for part in (keys, values))
        return varlen_attn(queries, keys, values, self._ends, self._ends, self._longest, self._longest, scale=scaling,
                           window_size=(back, 0), **more)

    def _of_group(self, group: _Group, parts: Sequence[torch.Tensor], scaling: float, dropout: float) -> torch.Tensor:
        if group.tokens is not None:
            parts = [Spread.apply(part, group.tokens, group.slots) for part in parts]
        query, key, value = (part.unflatten(0, (group.rows, group.longest)).transpose(1, 2) for part in parts)
        mixed = self._attended(query, key, value, scaling, dropout).transpose(1, 2).flatten(0, 1).flatten(1)
        return mixed if group.slots is None else Gathered.apply(mixed, group.slots)

    def _attended(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float,
                  dropout: float) -> torch.Tensor:
        longest = query.shape[2]
        is_grouped = query.shape[1] != key.shape[1]
        if self._way == "eager":
            key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], 1) for part in (key, value))
            scores = (query @ key.transpose(2, 3)).float().mul(scaling)
            seen = band(self._window, longest, query.device)
            shares = scores.masked_fill(~seen, -torch.inf).softmax(-1)
            return functional.dropout(shares.to(query.dtype), dropout, bool(dropout)) @ value
        given = {"dropout_p": dropout, "scale": scaling, "enable_gqa": is_grouped}
        first = min(longest, self._window)
        parts = [attended(query[:, :, :first], key[:, :, :first], value[:, :, :first], is_causal=True, **given)]
        # What lies further on sees its window alone, so it is attended over a window at a time.
        for start in range(first, longest, self._window):
            end, back = min(start + self._window, longest), start - self._window
            mask = band(self._window, end, query.device, start, back)
            parts.append(attended(query[:, :, start:end], key[:, :, back:end], value[:, :, back:end], mask, **given))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None,
             **given: Any) -> torch.Tensor:
    """torch's attention, in the type that this card has a kernel for which keeps no scores; `mask` is of booleans."""
    dtype = attends_in(query.dtype, query.device)
    if dtype is query.dtype:
        return functional.scaled_dot_product_attention(query, key, value, mask, **given)
    with torch.autocast(query.device.type, enabled=False):  # it would make them narrow again
        wide = (part.to(dtype) for part in (query, key, value))
        return functional.scaled_dot_product_attention(*wide, mask, **given).to(query.dtype)


def attends_in(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """What attention is computed in. Before Ampere cards have none of torch's kernels for bf16 but the plain one, which
    holds every score of every head, in float32; they have one for float32 that doesn't.
    """
    is_narrow = device.type == "cuda" and dtype is torch.bfloat16
    return torch.float32 if is_narrow and torch.cuda.get_device_capability(device) < AMPERE else dtype


def without_cudnn(device: torch.device) -> AbstractContextManager[None]:
    """In here a card attends by torch's own kernels: cuDNN plans each new shape anew, which takes some 0.2 s, and rows
    of chats have thousands of shapes.
    """
    if device.type != "cuda":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def is_one_call(dtype: torch.dtype, device: torch.device, way: str) -> bool:
    """Whether one call attends over all rows, wherever they end; `way` as transformers names it."""
    # Flash attention knows the two half types alone, whoever wrote it.
    return dtype in (torch.float16, torch.bfloat16) and \
        (way == "flash_attention_2" or (way == "sdpa" and has_varlen(device)))


def has_varlen(device: torch.device) -> bool:
    """Whether torch's variable-length attention, with a window, runs on this device (CUDA, since torch 2.11; heads that
    share keys since a later one).
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < AMPERE:
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"window_size", "scale"} <= _parameters(varlen_attn)


@cache
def _parameters(function: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def band(window: int, end: int, device: torch.device, start: int = 0, first: int = 0) -> torch.Tensor:
    """Which of the tokens from `first` to `end` those from `start` to `end` see: (queries, keys), booleans."""
    back = torch.arange(start, end, device=device)[:, None] - torch.arange(first, end, device=device)
    return (back >= 0) & (back < window)


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """The lengths of rows, longest first, in groups of like length."""
    groups: list[list[int]] = []
    for length in lengths:
        if not groups or length < ALIKE * groups[-1][0]:
            groups.append([])
        groups[-1].append(length)
    return groups


def _group(lengths: Sequence[int], device: torch.device) -> _Group:
    rows, longest, total = len(lengths), lengths[0], sum(lengths)
    if total == rows * longest:
        return _Group(total, rows, longest, None, None)
    each = torch.tensor(lengths)
    firsts = each.cumsum(0) - each
    slot = torch.arange(longest)
    tokens = (firsts[:, None] + torch.minimum(slot, each[:, None] - 1)).flatten()
    slots = (slot < each[:, None]).flatten().nonzero().flatten()
    return _Group(total, rows, longest, *(one.to(device, non_blocking=True) for one in (tokens, slots)))
