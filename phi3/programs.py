"""The programs in Triton that a card runs for phi3/kernels.py, which says what they compute.

They take their pointers, strides and sizes one by one: Triton compiles a program for what each of them is.
"""

import triton
import triton.language as tl

# Of philox4x32: as few as still pass all tests of BigCrush (Salmon et al., "Parallel random numbers", 2011, table 2).
ROUNDS = tl.constexpr(7)


@triton.jit
def add_and_norm(hidden, more, total, normed, weight, epsilon, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
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
def add_and_norm_back(grad_total, grad_normed, total, weight, out, epsilon, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
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
def gate(both, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
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
def gate_back(grad, both, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
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
def turn_tokens(x, values, cos, sin, out, sign, between_tokens, between_heads, between_values, between_value_heads,
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
def turn_into_cache(qkv, cos, sin, lengths, queries, keys, values, room, HEADS: tl.constexpr, KEPT: tl.constexpr,
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
def drop(x, out, seeds, place, least, count, ADDS: tl.constexpr, QUARTER: tl.constexpr):
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
def down(inputs, a, slots, parts, INPUTS: tl.constexpr, RANK: tl.constexpr, CHUNKS: tl.constexpr,
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
def up(parts, b, slots, strengths, outputs, OUTPUTS: tl.constexpr, RANK: tl.constexpr, CHUNKS: tl.constexpr,
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
