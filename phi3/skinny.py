"""Products of a decode step's few rows on a card, written in Triton: what counts is how fast weights are read."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

MOST_ROWS = 8
# Numbers of bf16 that a thread reads at once: 16 bytes.
WIDE = tl.constexpr(8)
# What the side that holds the rows needs at least; with 8, Triton takes the slower tensor instructions of older cards.
NARROWEST = 16


class Way(NamedTuple):
    """How a product is shared out. A program makes `block` outputs (of a gated product, as many pairs).

    Where it `has_dots`, it lays `slices` parts of its weights' inputs under each other, so that few outputs fill a
    tensor core, and `stages` tiles of `chunk` inputs are on their way at a time. Else its threads multiply, each 8
    inputs at a time, and `stages` tiles are asked for before the first is used; one that is `early` asks for them while
    the kernel before it ends. Inputs shared out among several programs were never the fastest.
    """

    has_dots: bool
    block: int
    chunk: int
    warps: int
    stages: int
    slices: int = 1
    early: bool = False


# By (outputs, inputs) of the weights, for up to so many rows: those of Phi-3-mini that an H200 computes faster so than
# by cuBLAS, as it was measured there (torch 2.11, Triton 3.6).
WAYS = {
    (9216, 3072): {1: Way(False, 2, 1024, 4, 3, early=True), 2: Way(False, 4, 1024, 4, 3, early=True),
                   4: Way(False, 4, 512, 2, 6, early=True), 8: Way(True, 16, 128, 4, 3, slices=4)},
    (3072, 3072): {1: Way(False, 4, 1024, 4, 3, early=True), 2: Way(False, 4, 512, 2, 6, early=True),
                   4: Way(True, 8, 128, 4, 3, slices=8), 8: Way(True, 16, 128, 4, 3, slices=4)},
    (16384, 3072): {1: Way(False, 2, 1024, 4, 3, early=True), 2: Way(False, 4, 1024, 4, 3, early=True)},
    (3072, 8192): {1: Way(False, 2, 2048, 8, 4, early=True), 2: Way(False, 4, 1024, 4, 8, early=True),
                   4: Way(True, 8, 128, 4, 3, slices=8), 8: Way(True, 16, 128, 4, 3, slices=4)},
    (32064, 3072): {1: Way(False, 2, 1024, 4, 3, early=True), 2: Way(False, 2, 1024, 4, 3, early=True),
                    4: Way(False, 4, 512, 2, 6, early=True), 8: Way(True, 32, 128, 4, 4, slices=2)},
}
GATED_WAYS = {(16384, 3072): {1: Way(False, 1, 1024, 4, 3, early=True), 2: Way(False, 2, 1024, 4, 3, early=True)}}


def is_suited(weight: torch.Tensor, is_gated: bool = False) -> bool:
    """Whether products with these weights (outputs, inputs) are faster here, as far as was measured."""
    return weight.dtype is torch.bfloat16 and most_rows(weight, is_gated) > 0 and weight.is_contiguous()


def most_rows(weight: torch.Tensor, is_gated: bool = False) -> int:
    """For up to so many rows, that is; 0 where for none."""
    return max((GATED_WAYS if is_gated else WAYS).get(tuple(weight.shape), {0: None}))


def few_rows(x: torch.Tensor, weight: torch.Tensor, way: Way | None = None) -> torch.Tensor:
    """x (rows, inputs) times weight (outputs, inputs), as `functional.linear`; at most 8 rows, both contiguous."""
    return _launched(x, weight, False, way)


def gated_rows(x: torch.Tensor, weight: torch.Tensor, way: Way | None = None) -> torch.Tensor:
    """silu(gate) * up (rows, width), of x (rows, inputs) and weight (2 * width, inputs), first all gates and then all
    ups; rounded once.
    """
    return _launched(x, weight, True, way)


def is_right(device: torch.device | str) -> bool:
    """Whether a product of one row and one of five are on this device what float32 says, of random numbers in bf16.

    The weights have the shape of Phi-3-mini's `o_proj`, so what is compiled here is used afterwards.
    """
    draw = torch.Generator(device).manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw, device=device, dtype=torch.bfloat16)

    weight = some(3072, 3072)
    return all(torch.allclose(few_rows(x, weight).float(), x.float() @ weight.float().t(), rtol=2 ** -7, atol=0.1)
               for x in (some(1, 3072), some(5, 3072)))


def way_of(outputs: int, inputs: int, rows: int, is_gated: bool) -> Way:
    """The fastest way that was measured for this shape, or a fair one."""
    measured = (GATED_WAYS if is_gated else WAYS).get((outputs, inputs), {})
    most = min((most for most in measured if most >= rows), default=None)
    if most is not None:
        return measured[most]
    if rows > 2:
        return Way(True, 8 if is_gated else 16, 128, 4, 5, slices=4)
    # A program's threads hold all of its weights at once, up to 128 registers each.
    held = -(-inputs // 1024)
    return Way(False, 2 if is_gated else 4, 1024, 4, min(held, 8))


def _launched(x: torch.Tensor, weight: torch.Tensor, is_gated: bool, way: Way | None) -> torch.Tensor:
    (rows, inputs), made = x.shape, weight.shape[0] // (1 + is_gated)
    if not 0 < rows <= MOST_ROWS:
        raise ValueError(f"There are {rows} rows, and these products are made for 1 to {MOST_ROWS}. Use "
                         "functional.linear.")
    way = way or way_of(weight.shape[0], inputs, rows, is_gated)
    out = x.new_empty(rows, made)
    grid, constants = launch_of(way, rows, weight.shape[0], inputs, is_gated, x.is_cuda)
    kernel = _by_dots if way.has_dots else _by_threads
    kernel[grid](x, weight, out, rows, **constants)
    return out


def launch_of(way: Way, rows: int, outputs: int, inputs: int, is_gated: bool,
              on_a_card: bool = True) -> tuple[tuple[int], dict[str, int | bool]]:
    """The grid, and what a kernel is compiled for: as many rows as a power of two, and these weights."""
    made = outputs // (1 + is_gated)
    lanes = triton.next_power_of_2(rows)
    if way.has_dots:
        lanes = max(lanes, NARROWEST // way.slices)
    # Each of the slices that share the inputs has as many whole chunks; the last may have too many.
    steps = triton.cdiv(inputs, way.chunk * way.slices)
    constants = {"OUTPUTS": made, "INPUTS": inputs, "BLOCK": way.block, "CHUNK": way.chunk, "STEPS": steps,
                 "LANES": lanes, "GATED": is_gated, "num_warps": way.warps}
    if way.has_dots:
        constants |= {"SLICES": way.slices, "num_stages": way.stages}
    else:
        constants |= {"HELD": min(way.stages, steps), "EARLY": way.early, "ON_A_CARD": on_a_card, "num_stages": 1,
                      "launch_pdl": way.early}
    return (triton.cdiv(made, way.block),), constants


@triton.jit(do_not_specialize=["rows"])
def _by_threads(x_at, weight_at, out_at, rows, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, BLOCK: tl.constexpr,
                CHUNK: tl.constexpr, STEPS: tl.constexpr, LANES: tl.constexpr, GATED: tl.constexpr,
                EARLY: tl.constexpr, HELD: tl.constexpr, ON_A_CARD: tl.constexpr):
    """Each thread multiplies 8 inputs of all the program's outputs at a time, straight out of its registers."""
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()
    WIDTH: tl.constexpr = 2 * BLOCK if GATED else BLOCK
    PART: tl.constexpr = STEPS * CHUNK
    # One row of numbers: so those of x lie in the same threads as the weights that they are multiplied by.
    columns = tl.arange(0, CHUNK)[None, :]
    outputs, weight_rows = _rows_of(tl.arange(0, WIDTH), OUTPUTS, BLOCK, GATED)
    lines = (weight_at + weight_rows.to(tl.int64) * INPUTS)[:, None] + columns
    is_out = (outputs < OUTPUTS)[:, None]
    sums = ()
    for _ in tl.static_range(LANES):
        sums = sums + (tl.zeros((WIDTH, CHUNK // WIDE), tl.float32),)  # noqa: RUF005 - Triton knows no stars
    for first in tl.static_range(0, STEPS, HELD):
        tiles = ()
        for step in tl.static_range(first, min(first + HELD, STEPS)):
            at = lines + step * CHUNK
            if PART == INPUTS and OUTPUTS % BLOCK == 0:
                tile = tl.load(at, eviction_policy="evict_first")
            else:
                is_in = is_out & (columns + step * CHUNK < INPUTS)
                tile = tl.load(at, is_in, 0.0, eviction_policy="evict_first")
            tiles = tiles + (tile,)  # noqa: RUF005 - Triton knows no stars
        if ON_A_CARD:
            # Where nobody has to be waited for, nobody is; but ptxas leaves all loads of weights on this side of it,
            # and so all that is held is asked for before any of it is used. It would ask for seven tiles' worth.
            tl.extra.cuda.gdc_wait()
        for step in tl.static_range(first, min(first + HELD, STEPS)):
            tile = tiles[step - first].to(tl.float32)
            fresh = ()
            for lane in tl.static_range(LANES):
                # A row that isn't there is the last one again; it is never written.
                at = x_at + tl.minimum(lane, rows - 1) * INPUTS + columns + step * CHUNK
                if PART == INPUTS:
                    x = tl.load(at)
                else:
                    x = tl.load(at, columns + step * CHUNK < INPUTS, 0.0)
                products = tl.reshape(tile * x.to(tl.float32), (WIDTH, CHUNK // WIDE, WIDE))
                fresh = fresh + (sums[lane] + tl.sum(products, 2),)  # noqa: RUF005 - Triton knows no stars
            sums = fresh
    lanes = tl.arange(0, LANES)
    made = tl.zeros((WIDTH, LANES), tl.float32)
    for lane in tl.static_range(LANES):
        made = tl.where(lanes[None, :] == lane, tl.sum(sums[lane], 1)[:, None], made)
    _write(made, out_at, rows, OUTPUTS, BLOCK, LANES, GATED)


@triton.jit(do_not_specialize=["rows"])
def _by_dots(x_at, weight_at, out_at, rows, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, BLOCK: tl.constexpr,
             CHUNK: tl.constexpr, STEPS: tl.constexpr, LANES: tl.constexpr, GATED: tl.constexpr,
             SLICES: tl.constexpr):
    """A slice of the inputs of each weight lies under the next slice, and beside each other lie those of x; of what a
    slice makes with each, only what it makes with its own is wanted: tensor cores have the time.
    """
    WIDTH: tl.constexpr = 2 * BLOCK if GATED else BLOCK
    PART: tl.constexpr = STEPS * CHUNK
    EVEN: tl.constexpr = PART * SLICES == INPUTS
    high, wide = tl.arange(0, SLICES * WIDTH), tl.arange(0, SLICES * LANES)
    outputs, weight_rows = _rows_of(high % WIDTH, OUTPUTS, BLOCK, GATED)
    lane = wide % LANES
    chunk = tl.arange(0, CHUNK)
    down = ((high // WIDTH) * PART)[:, None] + chunk[None, :]
    across = ((wide // LANES) * PART)[None, :] + chunk[:, None]
    weights = weight_at + (weight_rows.to(tl.int64) * INPUTS)[:, None] + down
    # A row that isn't there is the last one again, which is cheaper than a mask; it is never written.
    xs = x_at + (tl.minimum(lane, rows - 1) * INPUTS)[None, :] + across
    is_out = (outputs < OUTPUTS)[:, None]
    sums = tl.zeros((SLICES * WIDTH, SLICES * LANES), tl.float32)
    for step in range(STEPS):
        on = step * CHUNK
        if EVEN and OUTPUTS % BLOCK == 0:
            tile = tl.load(weights + on, eviction_policy="evict_first")
        else:
            tile = tl.load(weights + on, is_out & (down + on < INPUTS), 0.0, eviction_policy="evict_first")
        if EVEN:
            x = tl.load(xs + on)
        else:
            x = tl.load(xs + on, across + on < INPUTS, 0.0)
        sums = tl.dot(tile, x, sums)
    if SLICES > 1:
        own = (high // WIDTH)[:, None] == (wide // LANES)[None, :]
        parted = tl.reshape(tl.where(own, sums, 0.0), (SLICES, WIDTH, SLICES, LANES))
        made = tl.sum(tl.sum(parted, 2), 0)
    else:
        made = sums
    _write(made, out_at, rows, OUTPUTS, BLOCK, LANES, GATED)


@triton.jit
def _rows_of(place, OUTPUTS: tl.constexpr, BLOCK: tl.constexpr, GATED: tl.constexpr):
    """Which outputs stand at these places of the program's block, and in which rows of the weights: of a gated product
    each gate is followed by its up. A row that isn't there is never read, or read in vain.
    """
    first = tl.program_id(0) * BLOCK
    if GATED:
        outputs = first + place // 2
        return outputs, outputs + (place % 2) * OUTPUTS
    return first + place, first + place


@triton.jit
def _write(made, out_at, rows, OUTPUTS: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr, GATED: tl.constexpr):
    """What a program made (its outputs, rows)."""
    if GATED:
        gate, up = tl.split(tl.permute(tl.reshape(made, (BLOCK, 2, LANES)), (0, 2, 1)))
        made = gate * tl.sigmoid(gate) * up
    output = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK))[:, None]
    lane = tl.arange(0, LANES)[None, :]
    at, is_wanted = lane * OUTPUTS + output, (output < OUTPUTS) & (lane < rows)
    tl.store(out_at + at, made.to(out_at.dtype.element_ty), is_wanted)
