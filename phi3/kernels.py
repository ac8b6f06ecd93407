"""Triton kernels for a card: what lies between the products, in training and in a step of an answer.

Each makes one pass over memory, computes in float32 and rounds once. None asks the processor for anything, so all of
them can be captured in a CUDA graph. Widths and heads are compiled in; how many tokens there are is not, so no batch
has to wait for the compiler. Tensors are contiguous where nothing else is said, and none is checked: a call should cost
little more than its launch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

# Of philox4x32: as few as still pass all tests of BigCrush (Salmon et al., "Parallel random numbers", 2011, table 2).
ROUNDS = tl.constexpr(7)
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
    _add_and_norm[(rows,)](hidden, more, total, normed, weight, epsilon, width, block, num_warps=_warps(block))
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
    _add_and_norm_back[(rows,)](grad_total, grad_normed.contiguous(), total, weight, grad, epsilon, width, block,
                                num_warps=_warps(block))
    return grad


def gated(both: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up (tokens, width) of gate and up, which lie side by side in `both` (tokens, 2 · width)."""
    tokens, width = both.shape[0], both.shape[1] // 2
    out = both.new_empty((tokens, width))
    block = min(_power_of_two(width), GATES_AT_ONCE)
    _gate[(tokens * -(-width // block),)](both, out, width, block)
    return out


def gated_back(grad: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """The gradient of `both` (tokens, 2 · width) from that of `gated` (tokens, width)."""
    tokens, width = grad.shape
    out = torch.empty_like(both)
    block = min(_power_of_two(width), GATES_AT_ONCE)
    _gate_back[(tokens * -(-width // block),)](grad.contiguous(), both, out, width, block)
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
    _drop[(-(-count // (4 * QUARTER)),)](x, out, seeds, place, _least(dropout), count, False, QUARTER)
    return out


def add_dropped(target: torch.Tensor, x: torch.Tensor, dropout: float, seeds: torch.Tensor,
                place: int) -> torch.Tensor:
    """Add to `target`, in place, what dropout leaves of `x`: the same numbers as in `dropped`, of the same shape."""
    count = x.numel()
    _drop[(-(-count // (4 * QUARTER)),)](x, target, seeds, place, _least(dropout), count, True, QUARTER)
    return target


def turned_into_cache(qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, lengths: torch.Tensor,
                      keys: torch.Tensor, values: torch.Tensor, heads: int, half: int) -> torch.Tensor:
    """The turned queries (rows, heads, head size) of a step; its keys and values are put into the cache.

    `qkv` is (rows, (heads + 2 · kept heads) · head size), `cos` and `sin` as in `turned`, and `lengths` (rows,) int64
    counts each row's tokens, this one included: it is written at token `lengths` - 1 of `keys` and `values` (at least
    rows, kept heads, room, head size).
    """
    rows = qkv.shape[0]
    _, kept, room, size = keys.shape
    queries = qkv.new_empty((rows, heads, size))
    at_once = HEADS_AT_ONCE_IN_A_STEP
    programs = -(-heads // at_once) - 2 * (-kept // at_once)
    _turn_into_cache[(programs, rows)](qkv, cos, sin, lengths, queries, keys, values, room, heads, kept, half, size,
                                       at_once, *_blocks(half, size))
    return queries


def beside_down(inputs: torch.Tensor, a: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """What A in each row's own slot makes of `inputs` (rows, in), in parts that `beside_up` adds up: (rows, parts,
    rank) in float32. `a` is (slots, rank, in), and `slots` (rows,) int64 says which of them each row has.
    """
    (rows, wide), rank = inputs.shape, a.shape[1]
    chunks, block = -(-wide // INPUTS_AT_ONCE), _power_of_two(rank)
    parts = torch.empty((rows, chunks, rank), dtype=torch.float32, device=inputs.device)
    # Up to rank 16 one warp holds all that it sums, so that its threads need not wait for each other.
    _down[(chunks, rows)](inputs, a, slots, parts, wide, rank, chunks, INPUTS_AT_ONCE, block,
                          num_warps=4 if block <= 16 else 8)
    return parts


def beside_up(parts: torch.Tensor, b: torch.Tensor, slots: torch.Tensor, strengths: torch.Tensor,
              outputs: torch.Tensor) -> torch.Tensor:
    """Add to `outputs` (rows, out), in place, what B in each row's slot makes of these parts, times `strengths`
    (rows,), float32. `b` is (slots, rank, out); slot 0 adds nothing, whatever is in it.
    """
    (rows, chunks, rank), out = parts.shape, b.shape[2]
    block = _power_of_two(rank)
    _up[(-(-out // OUTPUTS_AT_ONCE), rows)](parts, b, slots, strengths, outputs, out, rank, chunks, OUTPUTS_AT_ONCE,
                                            block, _power_of_two(chunks), num_warps=1 if block <= 16 else 8)
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
    _turn_tokens[(tokens * groups,)](x, values, cos, sin, out, sign, x.stride(0), x.stride(1), *strides, heads, kept,
                                     half, size, at_once, *_blocks(half, size))


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


@triton.jit
def _add_and_norm(hidden, more, total, normed, weight, epsilon, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """One row."""
    start = tl.program_id(0).to(tl.int64) * WIDTH
    columns = tl.arange(0, BLOCK)
    is_here = columns < WIDTH
    scales = tl.load(weight + columns, mask=is_here, other=0.0).to(tl.float32)
    x = tl.load(hidden + start + columns, mask=is_here, other=0.0).to(tl.float32)
    if more is not None:
        x += tl.load(more + start + columns, mask=is_here, other=0.0).to(tl.float32)
        rounded = x.to(total.dtype.element_ty)
        tl.store(total + start + columns, rounded, mask=is_here)
        x = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 0) / WIDTH + epsilon)
    tl.store(normed + start + columns, (x * scale * scales).to(normed.dtype.element_ty), mask=is_here)


@triton.jit
def _add_and_norm_back(grad_total, grad_normed, total, weight, out, epsilon, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """One row. Of y = x s with s = (mean x² + ε)^-1/2: dx = s (g - x s² mean(g x))."""
    start = tl.program_id(0).to(tl.int64) * WIDTH
    columns = tl.arange(0, BLOCK)
    is_here = columns < WIDTH
    x = tl.load(total + start + columns, mask=is_here, other=0.0).to(tl.float32)
    grad = tl.load(grad_normed + start + columns, mask=is_here, other=0.0).to(tl.float32)
    grad *= tl.load(weight + columns, mask=is_here, other=0.0).to(tl.float32)
    square = 1.0 / (tl.sum(x * x, 0) / WIDTH + epsilon)
    along = tl.sum(grad * x, 0) / WIDTH * square
    result = (grad - x * along) * tl.sqrt(square)
    if grad_total is not None:
        result += tl.load(grad_total + start + columns, mask=is_here, other=0.0).to(tl.float32)
    tl.store(out + start + columns, result.to(out.dtype.element_ty), mask=is_here)


@triton.jit
def _gate(both, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """A block of one token's gates."""
    BLOCKS: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    token = (tl.program_id(0) // BLOCKS).to(tl.int64)
    columns = tl.program_id(0) % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    is_here = columns < WIDTH
    both += token * (2 * WIDTH)
    gate = tl.load(both + columns, mask=is_here, other=0.0).to(tl.float32)
    up = tl.load(both + WIDTH + columns, mask=is_here, other=0.0).to(tl.float32)
    result = gate * tl.sigmoid(gate) * up
    tl.store(out + token * WIDTH + columns, result.to(out.dtype.element_ty), mask=is_here)


@triton.jit
def _gate_back(grad, both, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """A block of one token's gates. Of silu(g) = g σ(g): dg = σ (1 + g (1 - σ))."""
    BLOCKS: tl.constexpr = (WIDTH + BLOCK - 1) // BLOCK
    token = (tl.program_id(0) // BLOCKS).to(tl.int64)
    columns = tl.program_id(0) % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    is_here = columns < WIDTH
    both += token * (2 * WIDTH)
    out += token * (2 * WIDTH)
    gate = tl.load(both + columns, mask=is_here, other=0.0).to(tl.float32)
    up = tl.load(both + WIDTH + columns, mask=is_here, other=0.0).to(tl.float32)
    slope = tl.load(grad + token * WIDTH + columns, mask=is_here, other=0.0).to(tl.float32)
    opened = tl.sigmoid(gate)
    of_gate = slope * up * opened * (1.0 + gate * (1.0 - opened))
    tl.store(out + columns, of_gate.to(out.dtype.element_ty), mask=is_here)
    tl.store(out + WIDTH + columns, (slope * gate * opened).to(out.dtype.element_ty), mask=is_here)


@triton.jit
def _turn_heads(x, out, is_head, cos, sin, sign, HALF: tl.constexpr, HALF_BLOCK: tl.constexpr, SIZE: tl.constexpr,
                REST_BLOCK: tl.constexpr):
    """Some heads of a token. `x` and `out` (heads, 1) point to where each begins, `cos` and `sin` to the token's."""
    columns = tl.arange(0, HALF_BLOCK)[None, :]
    in_half = columns < HALF
    is_here = is_head & in_half
    one = tl.load(x + columns, mask=is_here, other=0.0).to(tl.float32)
    two = tl.load(x + HALF + columns, mask=is_here, other=0.0).to(tl.float32)
    cos_one = tl.load(cos + columns, mask=in_half, other=0.0).to(tl.float32)
    cos_two = tl.load(cos + HALF + columns, mask=in_half, other=0.0).to(tl.float32)
    sin_one = tl.load(sin + columns, mask=in_half, other=0.0).to(tl.float32) * sign
    sin_two = tl.load(sin + HALF + columns, mask=in_half, other=0.0).to(tl.float32) * sign
    first, second = one * cos_one + two * sin_one, two * cos_two + one * sin_two
    tl.store(out + columns, first.to(out.dtype.element_ty), mask=is_here)
    tl.store(out + HALF + columns, second.to(out.dtype.element_ty), mask=is_here)
    if REST_BLOCK > 0:
        rest = 2 * HALF + tl.arange(0, REST_BLOCK)[None, :]
        as_is = tl.load(x + rest, mask=is_head & (rest < SIZE), other=0.0).to(tl.float32)
        as_is *= tl.load(cos + rest, mask=rest < SIZE, other=0.0).to(tl.float32)
        tl.store(out + rest, as_is.to(out.dtype.element_ty), mask=is_head & (rest < SIZE))


@triton.jit
def _copy_heads(x, out, is_head, SIZE: tl.constexpr, SIZE_BLOCK: tl.constexpr):
    columns = tl.arange(0, SIZE_BLOCK)[None, :]
    is_here = is_head & (columns < SIZE)
    tl.store(out + columns, tl.load(x + columns, mask=is_here), mask=is_here)


@triton.jit
def _turn_tokens(x, values, cos, sin, out, sign, between_tokens, between_heads, between_values, between_value_heads,
                 HEADS: tl.constexpr, KEPT: tl.constexpr, HALF: tl.constexpr, SIZE: tl.constexpr,
                 HEADS_BLOCK: tl.constexpr, HALF_BLOCK: tl.constexpr, REST_BLOCK: tl.constexpr,
                 SIZE_BLOCK: tl.constexpr):
    """A block of one token's heads: first come those that are turned, then those that are copied."""
    TURNING: tl.constexpr = (HEADS + HEADS_BLOCK - 1) // HEADS_BLOCK
    GROUPS: tl.constexpr = TURNING + (KEPT + HEADS_BLOCK - 1) // HEADS_BLOCK
    token = (tl.program_id(0) // GROUPS).to(tl.int64)
    group = tl.program_id(0) % GROUPS
    each = tl.arange(0, HEADS_BLOCK)[:, None].to(tl.int64)
    out += token * ((HEADS + KEPT) * SIZE)
    if group < TURNING:
        heads = group * HEADS_BLOCK + each
        _turn_heads(x + token * between_tokens + heads * between_heads, out + heads * SIZE, heads < HEADS,
                    cos + token * SIZE, sin + token * SIZE, sign, HALF, HALF_BLOCK, SIZE, REST_BLOCK)
    else:
        if KEPT > 0:
            heads = (group - TURNING) * HEADS_BLOCK + each
            _copy_heads(values + token * between_values + heads * between_value_heads, out + (HEADS + heads) * SIZE,
                        heads < KEPT, SIZE, SIZE_BLOCK)


# Whether these can be divided by 16 says nothing about what is read at once.
@triton.jit(do_not_specialize=["lengths", "room"])
def _turn_into_cache(qkv, cos, sin, lengths, queries, keys, values, room, HEADS: tl.constexpr, KEPT: tl.constexpr,
                     HALF: tl.constexpr, SIZE: tl.constexpr, HEADS_BLOCK: tl.constexpr, HALF_BLOCK: tl.constexpr,
                     REST_BLOCK: tl.constexpr, SIZE_BLOCK: tl.constexpr):
    """A block of one row's heads: queries, then keys, then values."""
    QUERIES: tl.constexpr = (HEADS + HEADS_BLOCK - 1) // HEADS_BLOCK
    KEYS: tl.constexpr = (KEPT + HEADS_BLOCK - 1) // HEADS_BLOCK
    group, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    each = tl.arange(0, HEADS_BLOCK)[:, None]
    qkv += row * ((HEADS + 2 * KEPT) * SIZE)
    cos += row * SIZE
    sin += row * SIZE
    if group < QUERIES:
        heads = group * HEADS_BLOCK + each
        _turn_heads(qkv + heads * SIZE, queries + row * (HEADS * SIZE) + heads * SIZE, heads < HEADS, cos, sin, 1.0,
                    HALF, HALF_BLOCK, SIZE, REST_BLOCK)
    else:
        kept = (group - QUERIES) % KEYS * HEADS_BLOCK + each
        places = ((row * KEPT + kept) * room + tl.load(lengths + row) - 1) * SIZE
        if group < QUERIES + KEYS:
            _turn_heads(qkv + (HEADS + kept) * SIZE, keys + places, kept < KEPT, cos, sin, 1.0, HALF, HALF_BLOCK, SIZE,
                        REST_BLOCK)
        else:
            _copy_heads(qkv + (HEADS + KEPT + kept) * SIZE, values + places, kept < KEPT, SIZE, SIZE_BLOCK)


# `count` is left to be specialised: only where it can be divided by 16 is a whole 16 bytes in bounds or out of them.
@triton.jit(do_not_specialize=["place", "least"])
def _drop(x, out, seeds, place, least, count, ADDS: tl.constexpr, QUARTER: tl.constexpr):
    """A block of numbers. The n-th four drawn belong to the n-th of each quarter, so that no thread hands them on."""
    block = tl.program_id(0)
    start = block.to(tl.int64) * (4 * QUARTER)
    numbers = tl.arange(0, QUARTER)
    first, second, third, fourth = tl.randint4x(tl.load(seeds + place), block * QUARTER + numbers, ROUNDS)
    left = count - start
    x += start
    out += start
    _drop_quarter(x, out, numbers, left, first, least, ADDS)
    _drop_quarter(x, out, numbers + QUARTER, left, second, least, ADDS)
    _drop_quarter(x, out, numbers + 2 * QUARTER, left, third, least, ADDS)
    _drop_quarter(x, out, numbers + 3 * QUARTER, left, fourth, least, ADDS)


@triton.jit
def _drop_quarter(x, out, numbers, left, drawn, least, ADDS: tl.constexpr):
    is_here = numbers < left
    kept = tl.where(drawn.to(tl.int32, bitcast=True) >= least, tl.load(x + numbers, mask=is_here, other=0.0), 0.0)
    if ADDS:
        kept = kept.to(tl.float32) + tl.load(out + numbers, mask=is_here, other=0.0).to(tl.float32)
    tl.store(out + numbers, kept.to(out.dtype.element_ty), mask=is_here)


@triton.jit
def _down(inputs, a, slots, parts, INPUTS: tl.constexpr, RANK: tl.constexpr, CHUNKS: tl.constexpr,
          CHUNK: tl.constexpr, RANK_BLOCK: tl.constexpr):
    """One row's inputs times A, summed over a chunk of them."""
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    slot = tl.load(slots + row)
    ranks = tl.arange(0, RANK_BLOCK)
    columns = (chunk * CHUNK + tl.arange(0, CHUNK))[None, :]
    is_here = (ranks[:, None] < tl.where(slot > 0, RANK, 0)) & (columns < INPUTS)
    side = tl.load(a + slot * (RANK * INPUTS) + ranks[:, None] * INPUTS + columns, mask=is_here, other=0.0)
    # Asked for once for each rank, so that it comes to where A is: else both are handed on between threads.
    x = tl.load(inputs + row * INPUTS + tl.zeros_like(ranks)[:, None] + columns, mask=is_here, other=0.0)
    side, x = side.to(tl.float32), x.to(tl.float32)
    tl.store(parts + (row * CHUNKS + chunk) * RANK + ranks, tl.sum(side * x, 1), mask=ranks < RANK)


@triton.jit
def _up(parts, b, slots, strengths, outputs, OUTPUTS: tl.constexpr, RANK: tl.constexpr, CHUNKS: tl.constexpr,
        BLOCK: tl.constexpr, RANK_BLOCK: tl.constexpr, CHUNKS_BLOCK: tl.constexpr):
    """A block of one row's outputs. B is asked for first, because it takes longest to come."""
    row = tl.program_id(1).to(tl.int64)
    slot = tl.load(slots + row)
    strength = tl.load(strengths + row)
    ranks = tl.arange(0, RANK_BLOCK)
    chunks = tl.arange(0, CHUNKS_BLOCK)[:, None]
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_here = columns < tl.where(slot > 0, OUTPUTS, 0)
    side = tl.load(b + slot * (RANK * OUTPUTS) + ranks[:, None] * OUTPUTS + columns[None, :],
                   mask=(ranks[:, None] < RANK) & is_here[None, :], other=0.0).to(tl.float32)
    before = tl.load(outputs + row * OUTPUTS + columns, mask=is_here, other=0.0).to(tl.float32)
    summed = tl.load(parts + row * (CHUNKS * RANK) + chunks * RANK + ranks[None, :],
                     mask=(chunks < CHUNKS) & (ranks[None, :] < RANK), other=0.0)
    narrow = tl.sum(summed, 0) * strength
    after = before + tl.sum(side * narrow[:, None], 0)
    tl.store(outputs + row * OUTPUTS + columns, after.to(outputs.dtype.element_ty), mask=is_here)
