"""What DoRA takes beside LoRA, in numbers, bytes and operations, as PEFT computes it; pure.

A layer's output is c·(W x + s·B A x), where c is the learned magnitude of each output over the norm of its row of
W + s·B A (Liu et al., "DoRA", 2024, equation 5). PEFT makes the whole of B A and that sum anew in every forward pass,
however many tokens there are, and multiplies W with what dropout leaves of x besides (`DoraLinearLayer.forward`).
"""

from __future__ import annotations

from phi3.machine import Machine
from phi3.shape import Shape
from training.config import RunConfig
from training.work import Batches, Work, adapted

# Where the adapter is in float32 beside a bf16 base, so are DoRA's products, which leaves the units for bf16 idle:
# 67e12 operations a second of float32 on an H100 (NVIDIA's data sheet), against the 180e12 that a plan expects. On a
# processor with such units it is about as much.
FLOAT32_TIMES = 3


def magnitudes(config: RunConfig, shape: Shape) -> int:
    """Learned numbers: one for each output of each adapted layer; none without DoRA."""
    return shape.layers * sum(out for _, out in _sizes(config, shape)) if config.use_dora else 0


def kept_bytes_per_token(config: RunConfig, shape: Shape, width: int, adapter_width: int, machine: Machine) -> float:
    """Bytes that the adapted layers of a block keep of the forward pass for each token, LoRA's part among them: what A
    sees and A's product, and c's two factors, the base's output and the adapter's.

    Dropout keeps its scaled noise on a CPU, else a byte for each number. Without it the base's output is the layer's
    own, as wide as the model (`width`); all else is as wide as the adapter's weights.
    """
    noise = (adapter_width if machine.kind == "cpu" else 1) if config.lora_dropout else 0
    outputs = adapter_width + (adapter_width if config.lora_dropout else width)
    return sum((adapter_width + noise) * into + adapter_width * config.r + outputs * out
               for into, out in _sizes(config, shape))


def kept_bytes(config: RunConfig, shape: Shape, width: int, adapter_width: int) -> float:
    """Bytes that a block keeps however many tokens there are: with dropout the base's weights as they were multiplied
    a second time, where they had to be made for that, out of 4 bits or another type.
    """
    if not config.lora_dropout or not _is_made_anew(config, width, adapter_width):
        return 0
    return adapter_width * sum(into * out for into, out in _sizes(config, shape))


def transient_bytes(config: RunConfig, shape: Shape, width: int, adapter_width: int) -> float:
    """Bytes that the largest adapted layer's forward pass holds and gives back: the identity that is sent through A and
    B, their product, the same scaled, its sum with W, and W where it isn't at hand.
    """
    made = width + adapter_width if _is_made_anew(config, width, adapter_width) else 0
    return max(adapter_width * (into * into + 3 * into * out) + made * into * out
               for into, out in _sizes(config, shape))


def passes(config: RunConfig, shape: Shape, count: float) -> Work:
    """What so many forward passes take besides, whatever their tokens: B A out of the identity, and the norms of its
    sum with W, in all layers. Without dropout that is all.
    """
    sizes = _sizes(config, shape)
    operations = sum(2 * config.r * into * (into + out) + 3 * into * out for into, out in sizes)
    written = 4 * sum(into * into + (5 if config.method == "qlora" else 3) * into * out for into, out in sizes)
    return Work(0, count * shape.layers * operations / 1e9, count * shape.layers * written / 1e9)


def training_work(config: RunConfig, shape: Shape, batches: Batches, recomputed: int, times: float) -> Work:
    """What all steps take besides: the passes' own part and, with dropout, the base's product with what it leaves,
    forward and backward, for each token, whose operations are counted `times` each (see `slowdown`).
    """
    again = recomputed / shape.layers
    products = 2 * (2 + again) * _weights(config, shape) if config.lora_dropout else 0
    whole = passes(config, shape, batches.forwards * (1 + again))
    return whole.plus(Work(0, batches.tokens * products * times / 1e9, 0))


def slowdown(width: int, adapter_width: int, machine: Machine) -> float:
    """How many times an operation's time one of DoRA's takes."""
    has_units = machine.kind != "cpu" or machine.multiplies_bf16
    return FLOAT32_TIMES if has_units and width < adapter_width else 1


def _weights(config: RunConfig, shape: Shape) -> int:
    """Weights of all adapted layers."""
    return shape.layers * sum(into * out for into, out in _sizes(config, shape))


def _is_made_anew(config: RunConfig, width: int, adapter_width: int) -> bool:
    return config.method == "qlora" or width != adapter_width


def _sizes(config: RunConfig, shape: Shape) -> list[tuple[int, int]]:
    """(in, out) of a block's adapted layers."""
    return [shape.widths()[name] for name in adapted(config)]
