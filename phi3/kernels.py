"""A card's own kernels: what lies between the products, in training and in a step of an answer.

Each makes one pass over memory, computes in float32 and rounds once. None asks the processor for anything, so all of
them can be captured in a CUDA graph. Widths and heads are compiled in; how many tokens there are is not, so no batch
has to wait for the compiler. Tensors are contiguous where nothing else is said, and none is checked: a call should cost
little more than its launch.
"""

from __future__ import annotations

import torch

from phi3 import programs

# Dropout draws four numbers at once, for as many numbers of each quarter of a block.
QUARTER = 1024
# Gates, and outputs of LoRA, that one program computes.
GATES_AT_ONCE, OUTPUTS_AT_ONCE = 2048, 256
# Inputs of LoRA that one program sums over.
INPUTS_AT_ONCE = 256
# Heads that one program turns: of a step there are few tokens, and more programs for each.
HEADS_AT_ONCE, HEADS_AT_ONCE_IN_A_STEP = 32, 16


def added_and_normed(hidden: torch.Tensor, more: torch.Tensor | None, weight: torch.Tensor,
                     epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(hidden + more, rounded to their type, and its root mean square norm), both (rows, width), width at most 8,192.

    `weight` is (width,). Where `more` is None the sum is `hidden` itself.
    """
    rows, width = hidden.shape
    block = _power_of_two(width)
    total = hidden if more is None else torch.empty_like(hidden)
    normed = torch.empty_like(hidden)
    programs.add_and_norm[(rows,)](hidden, more, total, normed, weight, epsilon, width, block, num_warps=_warps(block))
    return total, normed


def added_and_normed_back(grad_total: torch.Tensor | None, grad_normed: torch.Tensor, total: torch.Tensor,
                          weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The gradient (rows, width) of `total`, and so of both that were added, from those of the sum and of its norm.

    `grad_total` is None where nobody else asked for the sum.
    """
    rows, width = total.shape
    block = _power_of_two(width)
    grad = torch.empty_like(total)
    if grad_total is not None:
        grad_total = grad_total.contiguous()
    programs.add_and_norm_back[(rows,)](grad_total, grad_normed.contiguous(), total, weight, grad, epsilon, width,
                                        block, num_warps=_warps(block))
    return grad


def gated(both: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up (tokens, width) of gate and up, which lie side by side in `both` (tokens, 2 · width)."""
    tokens, width = both.shape[0], both.shape[1] // 2
    out = both.new_empty((tokens, width))
    block = min(_power_of_two(width), GATES_AT_ONCE)
    programs.gate[(tokens * -(-width // block),)](both, out, width, block)
    return out


def gated_back(grad: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """The gradient of `both` (tokens, 2 · width) from that of `gated` (tokens, width)."""
    tokens, width = grad.shape
    out = torch.empty_like(both)
    block = min(_power_of_two(width), GATES_AT_ONCE)
    programs.gate_back[(tokens * -(-width // block),)](grad.contiguous(), both, out, width, block)
    return out


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, half: int, sign: float) -> torch.Tensor:
    """x cos + sign · partner sin, where the partner of a number stands `half` a rotated head away (`fused.Turned`).

    `x` is (tokens, heads, head size) with any strides but the last. `cos` and `sin` are (tokens, 1, head size), `sin`
    with the sign of each partner. What lies beyond 2 · `half` is x cos.
    """
    tokens, heads, size = x.shape
    out = x.new_empty((tokens, heads, size))
    _turn(x, None, cos, sin, out, half, sign)
    return out


def turned_with_rest(grad_turned: torch.Tensor, grad_values: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
                     half: int) -> torch.Tensor:
    """The gradient of queries, keys and values (tokens, heads + 2 · kept heads, head size) before the turn.

    `grad_turned` (tokens, heads + kept heads, head size) is turned back, and `grad_values` (tokens, kept heads, head
    size) stands behind it as it is; both with any strides but the last.
    """
    tokens, heads, size = grad_turned.shape
    out = grad_turned.new_empty((tokens, heads + grad_values.shape[1], size))
    _turn(grad_turned, grad_values, cos, sin, out, half, -1.0)
    return out


def dropped(x: torch.Tensor, dropout: float, seeds: torch.Tensor, place: int) -> torch.Tensor:
    """What dropout leaves of `x`, of any shape: the rest is 0, and what is left counts no more than before.

    The numbers left depend on `seeds[place]` (int64, on the device) and on nothing else, and each is dropped with
    probability `dropout`, to 32 bits.
    """
    out = torch.empty_like(x)
    count = x.numel()
    programs.drop[(-(-count // (4 * QUARTER)),)](x, out, seeds, place, _least(dropout), count, False, QUARTER)
    return out


def add_dropped(target: torch.Tensor, x: torch.Tensor, dropout: float, seeds: torch.Tensor,
                place: int) -> torch.Tensor:
    """Add to `target`, in place, what dropout leaves of `x`: the same numbers as in `dropped`, of the same shape."""
    count = x.numel()
    programs.drop[(-(-count // (4 * QUARTER)),)](x, target, seeds, place, _least(dropout), count, True, QUARTER)
    return target


def turned_into_cache(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, lengths: torch.Tensor,
                      keys: torch.Tensor, values: torch.Tensor, half: int) -> torch.Tensor:
    """The turned queries (rows, heads, head size) of a step; its keys and values are put into the cache.

    `qkv` is (rows, (heads + 2 · kept heads) · head size), `cos` and `sin` as in `turned`, and `lengths` (rows,) int64
    counts each row's tokens, this one included: it is written at token `lengths` - 1 of `keys` and `values` (at least
    rows, kept heads, room, head size).
    """
    rows = qkv.shape[0]
    _, kept, room, size = keys.shape
    heads = qkv.shape[1] // size - 2 * kept
    queries = qkv.new_empty((rows, heads, size))
    at_once = HEADS_AT_ONCE_IN_A_STEP
    groups = -(-heads // at_once) - 2 * (-kept // at_once)
    programs.turn_into_cache[(groups, rows)](qkv, cos, sin, lengths, queries, keys, values, room, heads, kept, half,
                                             size, at_once, *_blocks(half, size))
    return queries


def beside_down(inputs: torch.Tensor, a: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """What A in each row's own slot makes of `inputs` (rows, in), in parts that `beside_up` adds up: (rows, parts,
    rank) in float32. `a` is (slots, rank, in), and `slots` (rows,) int64 says which of them each row has.
    """
    (rows, wide), rank = inputs.shape, a.shape[1]
    chunks, block = -(-wide // INPUTS_AT_ONCE), _power_of_two(rank)
    parts = torch.empty((rows, chunks, rank), dtype=torch.float32, device=inputs.device)
    # Up to rank 16 one warp holds all that it sums, so that its threads need not wait for each other.
    programs.down[(chunks, rows)](inputs, a, slots, parts, wide, rank, chunks, INPUTS_AT_ONCE, block,
                                   num_warps=4 if block <= 16 else 8)
    return parts


def beside_up(parts: torch.Tensor, b: torch.Tensor, slots: torch.Tensor, strengths: torch.Tensor,
              outputs: torch.Tensor) -> torch.Tensor:
    """Add to `outputs` (rows, out), in place, what B in each row's slot makes of these parts, times `strengths`
    (rows,), float32. `b` is (slots, rank, out); slot 0 adds nothing, whatever is in it.
    """
    (rows, chunks, rank), out = parts.shape, b.shape[2]
    block = _power_of_two(rank)
    programs.up[(-(-out // OUTPUTS_AT_ONCE), rows)](parts, b, slots, strengths, outputs, out, rank, chunks,
                                                    OUTPUTS_AT_ONCE, block, _power_of_two(chunks),
                                                    num_warps=1 if block <= 16 else 8)
    return outputs


def _turn(x: torch.Tensor, values: torch.Tensor | None, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor,
          half: int, sign: float) -> None:
    tokens, heads, size = x.shape
    if x.stride(2) != 1:
        x = x.contiguous()
    kept, strides = 0, (0, 0)
    if values is not None:
        if values.stride(2) != 1:
            values = values.contiguous()
        kept, strides = values.shape[1], (values.stride(0), values.stride(1))
    at_once = min(_power_of_two(heads), HEADS_AT_ONCE)
    groups = -(-heads // at_once) - (-kept // at_once)
    programs.turn_tokens[(tokens * groups,)](x, values, cos, sin, out, sign, x.stride(0), x.stride(1), *strides, heads,
                                             kept, half, size, at_once, *_blocks(half, size))


def _power_of_two(count: int) -> int:
    """The next one: as long as Triton's blocks are."""
    return 1 << (count - 1).bit_length()


def _blocks(half: int, size: int) -> tuple[int, int, int]:
    """Powers of two for half a rotated head, for what is not rotated (0 where that is nothing), and for a head."""
    rest = size - 2 * half
    return _power_of_two(half), _power_of_two(rest) if rest else 0, _power_of_two(size)


def _warps(block: int) -> int:
    """So many that each thread has up to four loads of 16 bytes in bf16."""
    return max(1, min(8, block // 1024))


def _least(dropout: float) -> int:
    """The least of all int32 that is kept, where all are as likely."""
    return round(dropout * 2 ** 32) - 2 ** 31
