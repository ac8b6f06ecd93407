"""Adapters resident beside each layer of a shell of the base: each row of a batch names its slot and its strength."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.linalg import vector_norm

from phi3.captured import MOST_CAPTURED_ROWS
from phi3.lora_files import demand_no_other_ends, opened, pairs_of
from phi3.machine import this_machine
from phi3.models import Base, shell_of
from phi3.products import Call, gate_of, is_small, product_of
from phi3.trusted import are_own, kernels_on

RESIDENT_ADAPTERS = 8
# The app trains rank 16, so most slots are never enlarged.
USUAL_RANK = 16


@dataclass(frozen=True)
class Mix:
    """Whose adapter each row of a batch has, slot 0 for the base's alone, and how strongly it speaks."""

    slots: tuple[int, ...]
    strengths: tuple[float, ...]


class Beside(nn.Module):
    """A layer of the base with slots for A and B beside it.

    `a` is (slots, capacity, inputs) and `b` (slots, capacity, outputs), with the adapter's scaling in it; both are made
    when the first adapter changes this layer. Slot 0 is all zero: the base. So is what lies beyond an adapter's rank.
    """

    def __init__(self, layer: nn.Module, slots: int, product: Call | None = None, gate: Call | None = None) -> None:
        """`product` is a faster way from the layer's inputs to its outputs, where there is one, and `gate` one to silu
        of the first half of these times the other.
        """
        super().__init__()
        self.layer, self._product, self._gate = layer, product, gate
        self.ranks = [0] * (slots + 1)
        self.a: torch.Tensor | None = None
        self.b: torch.Tensor | None = None
        self._places: tuple[torch.Tensor, torch.Tensor] | None = None  # (rows, capacity, …), for what stays there
        self._one: tuple[torch.Tensor, torch.Tensor, torch.Tensor | float] | None = None
        self._each: tuple[torch.Tensor, torch.Tensor] | None = None
        self._named: tuple[torch.Tensor, torch.Tensor, Any] | None = None
        self.moves = 0  # how often what stays at its place got another one
        self._is_halved = False  # whether A and B are bf16 on a processor

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The layer's outputs, and what each row's adapter adds to them."""
        if self._named is not None:
            return self._by_name(inputs, *self._named)
        outputs = self.layer(inputs) if self._product is None else self._product(inputs)
        if self._one is not None:
            self._add_one(*self._one, inputs, outputs)
        elif self._each is not None:
            self._add_each(*self._each, inputs, outputs)
        return outputs

    def gated(self, inputs: torch.Tensor, kernels: Any) -> torch.Tensor:
        """Of a layer whose outputs are gate and up: silu(gate) · up, by a card's own kernels."""
        if self._named is self._one is self._each is None and self._gate is not None:
            found = self._gate(inputs)
            if found is not None:
                return found
        return kernels.gated(self(inputs))

    def rest(self) -> None:
        """Only the base speaks."""
        self._one = self._each = self._named = None

    def share(self, slot: int, shares: torch.Tensor | float) -> None:
        """One adapter speaks: as strongly in all rows, or in each as strongly as `shares` (rows, 1) says.

        It needs no gathering, and its matrices are read once for all rows.
        """
        self.rest()
        rank = self.ranks[slot]
        if rank:
            self._one = self.a[slot, :rank].t(), self.b[slot, :rank], shares

    def gather(self, slots: torch.Tensor, used: Sequence[int], strengths: torch.Tensor | None) -> None:
        """Each row has its own adapter: its A and B are gathered here, once for all steps of these rows.

        `strengths` (rows, 1, 1) is None where all are 1.
        """
        self.rest()
        rank = max(self.ranks[slot] for slot in used)
        if rank:
            self._put_beside(*(side[:, :rank].index_select(0, slots) for side in (self.a, self.b)), strengths)

    def name(self, slots: torch.Tensor, strengths: torch.Tensor, kernels: Any) -> None:
        """Each row's slot and strength, (rows,) each, are read anew in every step, by a card's own kernel; whatever
        stands there then, nothing else has to be told, and nothing copied.
        """
        self.rest()
        self._named = slots, strengths, kernels

    def settle(self, slots: torch.Tensor, strengths: torch.Tensor | None) -> None:
        """As `gather`, but at places that stay the same from mix to mix, for whoever reads there without asking."""
        self.rest()
        rows, capacity = len(slots), self.a.shape[1]
        if self._places is None or self._places[0].shape[0] < rows or self._places[0].shape[1] != capacity:
            self.moves += 1
            most = 1 << (rows - 1).bit_length()
            self._places = tuple(side.new_zeros(most, *side.shape[1:]) for side in (self.a, self.b))
        self._put_beside(*(torch.index_select(side, 0, slots, out=held[:rows])
                           for side, held in zip((self.a, self.b), self._places, strict=True)), strengths)

    def put(self, slot: int, pair: tuple[torch.Tensor, torch.Tensor], scaling: float) -> torch.Tensor:
        """Copy A (rank, inputs) and B (outputs, rank) into a slot; their size, which is finite if all of them are, and
        so far from infinite that no input makes them so: what rows of the base get beside them is multiplied by 0.
        """
        a, b = pair
        rank, before = a.shape[0], self.ranks[slot]
        if self.a is None or self.a.shape[1] < rank:
            self._enlarge(rank, a.shape[1], b.shape[0])
        own_a, own_b = self.a[slot, :rank], self.b[slot, :rank]
        own_a.copy_(a)
        b = b.to(own_b.device)  # as it lies in the file, and turned over there
        if b.dtype is own_b.dtype:
            torch.mul(b.T, scaling, out=own_b)
        else:
            own_b.copy_((b.float() * scaling).T)
        for side in (self.a, self.b):
            side[slot, rank:before] = 0
        self.ranks[slot] = rank
        return vector_norm(own_a, dtype=torch.float32) + vector_norm(own_b, dtype=torch.float32)

    def clear(self, slot: int) -> None:
        """Nothing is in the slot any more."""
        for side in (self.a, self.b) if self.ranks[slot] else ():
            side[slot, :self.ranks[slot]] = 0
        self.ranks[slot] = 0

    def _by_name(self, inputs: torch.Tensor, slots: torch.Tensor, strengths: torch.Tensor,
                 kernels: Any) -> torch.Tensor:
        """By the kernels where a step is captured with them, and as torch does it where one is not yet."""
        product = self._product or self.layer
        if are_own():
            parts = kernels.beside_down(inputs, self.a, slots)
            return kernels.beside_up(parts, self.b, slots, strengths, product(inputs))
        outputs = product(inputs)
        narrow = self._down_each(inputs, self.a.index_select(0, slots).transpose(1, 2))
        outputs.unsqueeze(1).baddbmm_(narrow * strengths[:, None, None].to(narrow.dtype),
                                      self.b.index_select(0, slots))
        return outputs

    def _put_beside(self, a: torch.Tensor, b: torch.Tensor, strengths: torch.Tensor | None) -> None:
        """Each row speaks with its own copy, A (rows, rank, inputs) and B (rows, rank, outputs)."""
        self._each = a.transpose(1, 2), b if strengths is None else b.mul_(strengths)

    def _add_one(self, a: torch.Tensor, b: torch.Tensor, shares: torch.Tensor | float, inputs: torch.Tensor,
                 outputs: torch.Tensor) -> None:
        narrow = self._down(inputs, a)
        if not isinstance(shares, float):
            narrow, shares = narrow * (shares if narrow.dim() == 2 else shares[:, None]), 1.0
        if outputs.dim() == 3:
            narrow, outputs = narrow.flatten(0, 1), outputs.view(-1, b.shape[1])
        if self._is_halved and outputs.shape[0] == 1:
            # As torch multiplies bf16 by itself (`Decoder.step`), a matrix takes six times as long as a vector here.
            outputs[0].addmv_(b.t(), narrow[0], alpha=shares)
        else:
            outputs.addmm_(narrow, b, alpha=shares)

    def _add_each(self, a: torch.Tensor, b: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        narrow = self._down_each(inputs, a)
        (outputs if outputs.dim() == 3 else outputs.unsqueeze(1)).baddbmm_(narrow, b)

    def _down(self, inputs: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """(..., rank) of inputs (..., inputs), and A (inputs, rank)."""
        return torch.matmul(inputs, a)

    def _down_each(self, inputs: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, rank) of inputs (rows, inputs) or (rows, tokens, inputs), and A (rows, inputs, rank)."""
        return torch.bmm(inputs if inputs.dim() == 3 else inputs.unsqueeze(1), a)

    def _enlarge(self, rank: int, inputs: int, outputs: int) -> None:
        """Room for a larger rank in every slot: the next power of two, so that this happens a few times at most."""
        capacity, like = max(USUAL_RANK, 1 << (rank - 1).bit_length()), self._like()
        grown = [like.new_zeros(len(self.ranks), capacity, width) for width in (inputs, outputs)]
        if self.a is not None:
            for new, old in zip(grown, (self.a, self.b), strict=True):
                new[:, :old.shape[1]] = old
        self.a, self.b = grown
        self.moves += 1
        self._is_halved = like.device.type == "cpu" and like.dtype is torch.bfloat16

    def _like(self) -> torch.Tensor:
        """A tensor on the layer's device, of the type that it computes in."""
        weight = self.layer.weight
        dtype = weight.dtype if weight.is_floating_point() else self.layer.compute_dtype
        return torch.empty(0, device=weight.device, dtype=dtype)


class BesideEmbedding(Beside):
    """The same beside the embedding: its input is a token, which picks a column of A (ranks, vocabulary)."""

    def name(self, slots: torch.Tensor, strengths: torch.Tensor, kernels: Any) -> None:
        """No kernel knows of tokens."""
        self.settle(slots, strengths[:, None, None].to(self.a.dtype))

    def _down(self, inputs: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return a.index_select(0, inputs.flatten()).reshape(*inputs.shape, a.shape[1])

    def _down_each(self, inputs: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        rows = inputs.view(a.shape[0], -1, 1).expand(-1, -1, a.shape[2])
        return a.gather(1, rows)


class Slots:
    """A shell of the base with slots beside each linear layer and the embedding, and who is in which.

    No module is replaced when an adapter comes or goes: it is copied into a slot that nobody uses, or else into the
    one that was used longest ago.
    """

    def __init__(self, base: Base, slots: int = RESIDENT_ADAPTERS, captures: bool = True) -> None:
        """`captures`: on a card steps will be captured, with its own kernels."""
        self.model = shell_of(base)
        small, has_room = is_small(self.model), base.facts.shape.lies_twice(this_machine())
        self._layers: dict[str, Beside] = {}
        for path, layer in list(self.model.named_modules()):
            # bitsandbytes' Linear4bit is an nn.Linear as well.
            if isinstance(layer, nn.Linear | nn.Embedding):
                kind = Beside if isinstance(layer, nn.Linear) else BesideEmbedding
                ways = (product_of(layer, small, has_room, captures), gate_of(layer) if captures else None)
                self._layers[path] = kind(layer, slots, *ways)
                self.model.set_submodule(path, self._layers[path])
        self._free = list(range(1, slots + 1))
        self._resident: dict[Any, int] = {}  # key → slot, oldest use first
        self._users: Counter[int] = Counter()
        self._used: tuple[Mix, bool] | None = None
        self._kernels = kernels_on(self.model.device) if captures else None
        # Of the rows of a captured step: whose adapter each has, and how strongly it speaks.
        self._slots = torch.zeros(MOST_CAPTURED_ROWS, dtype=torch.int64, device=self.model.device)
        self._strengths = torch.zeros(MOST_CAPTURED_ROWS, device=self.model.device)
        self.form: Hashable | None = None

    def held(self, key: Any) -> int | None:
        """The slot of a resident adapter, held once more; None where it isn't here."""
        slot = self._resident.pop(key, None)
        if slot is not None:
            self._resident[key] = slot
            self._users[slot] += 1
        return slot

    def has_room(self) -> bool:
        """Whether one more adapter can be loaded without overwriting one in use."""
        return bool(self._free) or any(not self._users[slot] for slot in self._resident.values())

    def demand_no_other_ends(self, folder: Path) -> None:
        """ValueError where an adapter brings an embedding or a head of its own."""
        demand_no_other_ends(folder, self._plain())

    def _plain(self) -> dict[str, nn.Module]:
        return {path: layer.layer for path, layer in self._layers.items()}

    def load(self, key: Any, folder: Path) -> int:
        """Read an adapter from its folder into a slot, which is held from now on.

        Unsuited where only PEFT can serve it; ValueError where nobody can, or where all slots are in use.
        """
        with opened(folder) as weights:
            pairs = pairs_of(folder, weights, self._plain())
            slot, sizes = self._emptied(), []
            self._used = None
            for path, layer in self._layers.items():
                if path in pairs:
                    names, scaling = pairs[path]
                    pair = weights.get_tensor(names["A"]), weights.get_tensor(names["B"])
                    sizes.append(layer.put(slot, pair, scaling))
                else:
                    layer.clear(slot)
            if not bool(torch.stack(sizes).isfinite().all()):
                for layer in self._layers.values():
                    layer.clear(slot)
                raise ValueError("It holds numbers that are not finite (NaN or infinite), or nearly so. Train it again "
                                 "with a lower learning rate.")
        self._free.remove(slot)
        self._resident[key] = slot
        self._users[slot] += 1
        return slot

    def give_back(self, slot: int) -> None:
        """The slot is held once less; what is in it stays until somebody needs the room."""
        self._users[slot] -= 1

    def use(self, mix: Mix, stays: bool = False) -> None:
        """The next forward pass has these rows. Nothing is done where it is the mix that was used last.

        Where it `stays`, each row's adapter is put where that row's was before, so that a captured step goes on with
        it: `form` is the same as long as those places are.
        """
        if (mix, stays) == self._used:
            return
        self._used = mix, stays
        spoken = [(slot, strength) if slot and strength else (0, 0.0)
                  for slot, strength in zip(mix.slots, mix.strengths, strict=True)]
        used = sorted({slot for slot, _ in spoken if slot})
        alike = len(set(spoken)) == 1
        device = self.model.device
        strengths = torch.tensor([strength for _, strength in spoken], device=device)[:, None]
        slots = torch.tensor([slot for slot, _ in spoken], device=device)
        plain = all(strength in (0, 1) for _, strength in spoken)
        is_named = stays and self._kernels is not None
        if is_named:
            rows = len(spoken)
            slots, strengths = self._slots[:rows].copy_(slots), self._strengths[:rows].copy_(strengths[:, 0])
        for layer in self._layers.values():
            if not used or layer.a is None:
                layer.rest()
                continue
            if is_named:
                layer.name(slots, strengths, self._kernels)
                continue
            if len(used) == 1 and not stays:
                layer.share(used[0], float(spoken[0][1]) if alike else strengths.to(layer.a.dtype))
                continue
            by_row = None if plain else strengths[:, :, None].to(layer.a.dtype)
            if stays:
                layer.settle(slots, by_row)
            else:
                layer.gather(slots, used, by_row)
        moves = sum(layer.moves for layer in self._layers.values())
        self.form = (moves if used else "base") if stays else None

    def _emptied(self) -> int:
        """A slot that is free now: if need be that of the adapter that was used longest ago."""
        if not self._free:
            idle = next((key for key, slot in self._resident.items() if not self._users[slot]), None)
            if idle is None:
                raise ValueError(f"All {len(self._resident)} places for adapters are in use. Try again in a moment.")
            self._free.append(self._resident.pop(idle))
        return self._free[0]
