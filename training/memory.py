"""How much memory a run takes at its worst moment, term by term, and how much there is; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phi3.machine import GIBIBYTE, LOGITS_AT_ONCE, Machine
from phi3.models import Precision, usual_precision
from phi3.room import PROCESS_BYTES as CARD_PROCESS_BYTES
from phi3.shape import NF4_BYTES, WIDTHS, Shape
from training import dora
from training.config import RunConfig
from training.work import Batches, adapted

# AdamW keeps two moments for each trained weight (Loshchilov and Hutter, 2019).
MOMENTS = 2
# What a trainer's process takes before it holds a model, measured as resident memory: Python with torch, transformers,
# PEFT and TRL on a CPU, and what they allocate at the first step; the CUDA context and its libraries on a card.
PROCESS_BYTES = {"cpu": 0.56 * GIBIBYTE, "cuda": CARD_PROCESS_BYTES, "zerogpu": CARD_PROCESS_BYTES}
# Blocks of many sizes leave gaps in the C library's heap: resident memory over what torch asked for, as measured on
# a CPU (benchmarks/plan.py): 1.1 with packs of 10,000 tokens, up to 1.4 with some of 2,000. A card's allocator is
# counted by what it gave out.
HEAP = {"cpu": 1.27, "cuda": 1.0, "zerogpu": 1.0}


def memory_of(config: RunConfig, shape: Shape, precision: Precision, batches: Batches, machine: Machine,
              recomputed: int) -> dict[str, int]:
    """Bytes by term at the worst moment of a step: the backward pass of the largest pack.

    It begins with the head's buffers beside what all blocks keep; once they are gone, a block's own gradients come,
    and what it computes again where it forgot it. On a card the larger of the two counts, while a CPU's heap was
    measured to hold both.
    """
    width, tokens = width_in(precision, shape, machine), batches.largest
    linear = shape.linear_weights() * (NF4_BYTES if precision == "nf4" else width)
    adapter_width = adapter_bytes(config.method)
    trainable = trained_weights(config, shape)
    block = block_bytes(config, shape, width, machine, tokens, batches.longest_row)
    passing = tokens * gradient_bytes_per_token(shape, width)
    if config.use_dora:
        passing = max(passing, dora.transient_bytes(config, shape, width, adapter_width))
    kept = (shape.layers - recomputed) * block + recomputed * tokens * shape.hidden * width
    head = head_bytes(shape, tokens, width)
    again = passing + (block if recomputed else 0)
    if machine.kind != "cpu":
        head, again = (head if head > again else 0, again if again >= head else 0)
    terms = {
        "base": linear + shape.table_weights() * width,
        "adapter": trainable * adapter_width,
        "gradients": trainable * adapter_width,
        "optimizer": trainable * adapter_width * MOMENTS,
        "activations": (kept + again) * HEAP[machine.kind],
        "logits": head * HEAP[machine.kind],
        "overhead": PROCESS_BYTES[machine.kind],
    }
    return {name: int(value) for name, value in terms.items()}


def trained_weights(config: RunConfig, shape: Shape) -> int:
    """Numbers that are learned."""
    return shape.lora_weights(config.r, adapted(config)) + dora.magnitudes(config, shape)


def adapter_bytes(method: str) -> int:
    """PEFT keeps an adapter's weights in float32 beside a bf16 base; TRL trains QLoRA's in bf16."""
    return 2 if method == "qlora" else 4


def block_bytes(config: RunConfig, shape: Shape, width: int, machine: Machine, tokens: int, length: int) -> float:
    """Bytes that one block keeps of the forward pass of so many tokens, in rows so long."""
    once = dora.kept_bytes(config, shape, width, adapter_bytes(config.method)) if config.use_dora else 0
    return once + tokens * block_bytes_per_token(config, shape, width, machine, length)


def block_bytes_per_token(config: RunConfig, shape: Shape, width: int, machine: Machine, length: int) -> float:
    """Bytes that one block keeps of the forward pass for each token of rows so long.

    Counted tensor by tensor over `phi3/learner.py` (after the way of Korthikanti et al., "Reducing Activation
    Recomputation in Large Transformer Models", 2022, section 4); what autograd saves is held to it by a test.
    """
    norms = 2 * (width * shape.hidden + 4)             # each norm's input, and the scale that it found
    # Queries and keys after their rotation, the whole of qkv, of which the values are a view, and for each head the sum
    # of its scores in float32. What comes out is what o_proj sees; on a CPU each group of rows has its own besides.
    out = machine.kind == "cpu" or "o_proj" not in adapted(config)
    attention = width * ((2 + out) * shape.queries + 3 * shape.keys) + 4 * shape.heads
    gates = width * 2 * shape.intermediate
    # What LoRA's A sees, and its product; where there is dropout a byte for each number besides, which a card draws
    # again instead. loralib's own layers keep what dropout made of it, and on a CPU the scaled noise.
    loralib = width * (2 if machine.kind == "cpu" else 1) if config.method == "loralib" else 0
    mask = (loralib or (1 if machine.kind == "cpu" else 0)) if config.lora_dropout else 0
    lora = sum((width + mask) * shape.widths()[name][0] + width * config.r for name in adapted(config))
    if config.use_dora:
        lora = dora.kept_bytes_per_token(config, shape, width, adapter_bytes(config.method), machine)
    return norms + attention + gates + lora + score_bytes(config, shape, width, length)


def score_bytes(config: RunConfig, shape: Shape, width: int, length: int) -> float:
    """Bytes a token that attention keeps for each position: eager attention every head's scores, in float32 and as they
    were multiplied; the others none.
    """
    return shape.heads * (4 + width) * length if config.attn_implementation == "eager" else 0


def gradient_bytes_per_token(shape: Shape, width: int) -> float:
    """What the backward pass of one block holds at once besides: the MLP's gradients, and their halves."""
    return width * 5 * shape.intermediate


def head_bytes(shape: Shape, tokens: int, width: int) -> float:
    """A tile of logits in float32 and, where they are narrower, as they were multiplied and as their gradient is; the
    last norm's input and result, what of it is trained, and its gradient.
    """
    tile = min(tokens * shape.vocabulary, LOGITS_AT_ONCE) * (4 + (2 * width if width < 4 else 0))
    return tile + tokens * shape.hidden * 4 * width


def precision_of(config: RunConfig) -> Precision:
    """What the base is held in: "nf4", "bf16" or "fp32"."""
    if config.method == "qlora":
        return "nf4"
    return "bf16" if config.bf16 else "fp32"


def width_of(config: RunConfig, base: Mapping[str, Any], machine: Machine) -> int:
    """Bytes of a number that passes from layer to layer of the base with this config.json."""
    return width_in(precision_of(config), Shape.of(base), machine)


def width_in(precision: Precision, shape: Shape, machine: Machine) -> int:
    """Bytes of a number that passes from layer to layer."""
    return WIDTHS[usual_precision(shape, machine.kind) if precision == "nf4" else precision]


def machine_bytes(machine: Machine, shape: Shape) -> float:
    """Bytes, without what is kept of a card for answers, and what the page's own answers take on a processor beside the
    base, of which there is one for all.
    """
    if machine.kind != "cpu":
        return machine.card_left * GIBIBYTE
    return machine.memory * GIBIBYTE - (WIDTHS["bf16"] * shape.weights() if shape.lies_twice(machine) else 0)
