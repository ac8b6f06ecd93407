"""How the chat's base and a run share a card's memory: what the base is held in for answers, and what that leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from phi3.machine import GIBIBYTE, Machine, this_machine
from phi3.models import Precision, base_facts, load_base, usual_precision
from phi3.shape import NF4_BYTES, WIDTHS, Shape

if TYPE_CHECKING:
    from phi3.models import Base

# What a process takes of a card before it holds a model: the CUDA context and its libraries.
PROCESS_BYTES = 0.6 * GIBIBYTE
# What answers take beside the weights: the cache of a few conversations, and what reading one computes.
ANSWERS_BYTES = 1.0 * GIBIBYTE
# What a run takes beside a 4-bit base: an adapter, its optimizer, and what a short pass computes.
RUN_BYTES = 1.25 * GIBIBYTE


def answers_precision(shape: Shape, machine: Machine) -> Precision:
    """What a base of these sizes is held in for answers: as usual, but in 4 bits on one's own card where beside the
    usual one there is no room for any run.
    """
    usual = usual_precision(shape, machine.kind)
    run = PROCESS_BYTES + _weight_bytes(shape, "nf4") + RUN_BYTES
    is_short = machine.kind == "cuda" and _answers_bytes(shape, usual) + run > machine.card_memory * GIBIBYTE
    return "nf4" if is_short else usual


def beside_answers(machine: Machine, shape: Shape) -> Machine:
    """The machine as a run finds it while the page holds a base of these sizes for answers. On a processor weights are
    read from the file where both find them, and a card that is lent has one base for all.
    """
    if machine.kind != "cuda":
        return machine
    taken = _answers_bytes(shape, answers_precision(shape, machine)) / GIBIBYTE
    return replace(machine, card_taken=min(taken, machine.card_memory))


def base_for_answers(name: str) -> Base:
    """The base of this name, loaded as this machine holds it for answers."""
    return load_base(name, answers_precision(base_facts(name).shape, this_machine()))


def _answers_bytes(shape: Shape, precision: Precision) -> float:
    return PROCESS_BYTES + _weight_bytes(shape, precision) + ANSWERS_BYTES


def _weight_bytes(shape: Shape, precision: Precision) -> float:
    """On a card."""
    if precision == "nf4":
        return NF4_BYTES * shape.linear_weights() + WIDTHS["bf16"] * shape.table_weights()
    return WIDTHS[precision] * shape.weights()
