"""Phi-3's forward pass for training: packed rows in, loss out, through whatever stands in for its linear layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from phi3 import on_card, trusted
from phi3.decoder import Turns
from phi3.fused import Gated, HeadLoss, LoraLinear, Normed, Turned, head_judged
from phi3.packed import Attention, Packed, is_one_call, without_cudnn

Layer = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Places:
    """What all blocks need to know of the packed rows: `cos` and `sin` turn each token by its place (the first `half`
    of a head's numbers with the next), and `attention` knows which rows it belongs to.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    half: int
    attention: Attention
    kernels: Any = None  # a card's own (phi3/on_card.py)


class Learner:
    """Training's own way through the modules of a Phi3ForCausalLM, as `Decoder` is that of answers.

    It computes what the model's `forward` and cross-entropy do, on rows that lie end to end. The head sees trained
    tokens only; a layer with plain LoRA is computed with the base's in one function, and any other stand-in for a
    linear layer is called as it is. `recomputed` of the blocks forget what they computed until the backward pass.
    """

    def __init__(self, model: Any, recomputed: int = 0) -> None:
        """`model` is a Phi3ForCausalLM, or PEFT's wrapper of one."""
        from peft import PeftModel

        self.causal = model.get_base_model() if isinstance(model, PeftModel) else model
        config = self.causal.config
        core = self.causal.model
        self._core, self._recomputed = core, recomputed
        self._window = config.sliding_window or config.max_position_embeddings
        self._turns = Turns(core.rotary_emb, core.layers[0].self_attn.head_dim)
        self._way = config._attn_implementation
        self._chance = on_card.Chance()
        self._blocks = [_Block(layer, self._chance) for layer in core.layers]

    def install(self) -> None:
        """Let the model's own `forward` take packed rows, as `packed`, so that what is wrapped around it sees them."""
        usual = self.causal.forward

        def forward(*given: Any, packed: Packed | None = None, **named: Any) -> Any:
            if packed is None:
                return usual(*given, **named)
            # Autocast would cast weights that have their type already, in every call.
            with torch.autocast(self.causal.device.type, enabled=False):
                return self.loss(packed)

        self.causal.forward = forward

    def loss(self, packed: Packed) -> torch.Tensor:
        """Negative log-likelihood of the trained tokens, summed: a float32 scalar."""
        return HeadLoss.apply(*self._trained(packed), packed.filled)

    @torch.no_grad()
    def judged(self, packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        """The same without a gradient, and how many of the tokens were the likeliest word."""
        return head_judged(*self._trained(packed))

    def stays_in_place(self, longest: int) -> bool:
        """Whether a pack's steps are the same calls over the same places for all packs of its size: attention is one
        call, each linear layer is ours or the base's, nothing is computed twice, and no row so long turns its places
        by other angles. The angles of rows so long are there from now on.
        """
        weight = self._core.embed_tokens.weight
        stays = (is_one_call(weight.dtype, weight.device, self._way) and not self._recomputed
                 and not self._turns.offset(longest) and all(block.is_ours for block in self._blocks))
        if stays:
            self._turns.at(torch.zeros(1, dtype=torch.int64, device=weight.device), longest, weight)
        return stays

    def means(self, packs: Sequence[Packed]) -> tuple[float, float]:
        """(mean negative log-likelihood of the trained tokens of all packs, share of them that were the likeliest)."""
        total = torch.zeros(2, dtype=torch.float64, device=self.causal.device)
        with torch.autocast(self.causal.device.type, enabled=False):
            for pack in packs:
                total += torch.stack([one.double() for one in self.judged(pack.to(self.causal.device))])
        loss, share = (total / sum(len(pack.trained) for pack in packs)).tolist()
        return loss, share

    def hidden(self, packed: Packed) -> torch.Tensor:
        """What the head sees of each token: (tokens, width)."""
        hidden = self._core.embed_tokens(packed.ids)
        attention = Attention(packed.lengths, self._window, hidden, self._way, packed.ends)
        offsets = [self._turns.offset(length) for length in packed.lengths]
        places = packed.places
        if any(offsets):
            each = torch.tensor(offsets).repeat_interleave(torch.tensor(packed.lengths))
            places = places + each.to(places.device, non_blocking=True)
        cos, sin = self._turns.at(places, packed.lengths[0], hidden)
        kernels = trusted.kernels_on(hidden.device)
        shared = _Places(cos, sin, self._turns.rotated // 2, attention, kernels)
        if kernels is not None:
            self._chance.draw(hidden.device)
        is_learning, more = torch.is_grad_enabled(), None
        with nullcontext() if attention.is_even else without_cudnn(hidden.device):
            for number, block in enumerate(self._blocks):
                if is_learning and number < self._recomputed:
                    # One tensor is kept until then, and not two.
                    hidden = hidden if more is None else hidden + more
                    hidden, more = checkpoint(block, hidden, None, shared, use_reentrant=False)
                else:
                    hidden, more = block(hidden, more, shared)
        return _added_and_normed(hidden, more, self._core.norm, kernels)[1]

    def _trained(self, packed: Packed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the head sees of the trained tokens, the head, and the words that are to follow."""
        hidden, places = self.hidden(packed), packed.trained
        return hidden.index_select(0, places), self.causal.lm_head.weight, packed.targets.index_select(0, places)


class _Block:
    """One layer of the model; its linear layers as functions of (tokens, in)."""

    def __init__(self, layer: Any, chance: on_card.Chance) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.layer, self.scaling = layer, attention.scaling
        self.heads, self.kept = attention.config.num_attention_heads, attention.num_key_value_heads
        self.attention_dropout = attention.attention_dropout
        self.qkv, self.out, self.gate_up, self.down = (
            linear(one, chance) for one in (attention.qkv_proj, attention.o_proj, mlp.gate_up_proj, mlp.down_proj))
        self.activation, self.is_silu = mlp.activation_fn, mlp.config.hidden_act == "silu"

    @property
    def is_ours(self) -> bool:
        """Whether its attention is one call, and each of its linear layers is one of our functions or a plain one."""
        return not self.attention_dropout and all(
            type(one) is torch.nn.Linear or not isinstance(one, torch.nn.Module)
            for one in (self.qkv, self.out, self.gate_up, self.down))

    def __call__(self, hidden: torch.Tensor, more: torch.Tensor | None,
                 places: _Places) -> tuple[torch.Tensor, torch.Tensor]:
        """What the next layer gets, in two parts that are still to be added up; so does this one."""
        layer, heads, kept = self.layer, self.heads, self.kept
        hidden, normed = _added_and_normed(hidden, more, layer.input_layernorm, places.kernels)
        parts = self.qkv(normed).unflatten(-1, (heads + 2 * kept, -1))
        if places.kernels is None:
            turning, values = parts.split((heads + kept, kept), dim=-2)
            turned = Turned.apply(turning, places.cos, places.sin, places.half)
        else:
            turned, values = on_card.Turned.apply(parts, places.cos, places.sin, places.half, heads + kept,
                                                  places.kernels)
        queries, keys = turned.split((heads, kept), dim=-2)
        dropout = self.attention_dropout if layer.training else 0.0
        attended = self.out(places.attention(queries, keys, values, self.scaling, dropout))
        hidden, normed = _added_and_normed(hidden, _dropped(attended, layer.resid_attn_dropout),
                                           layer.post_attention_layernorm, places.kernels)
        gated = self._gated(self.gate_up(normed), places.kernels)
        return hidden, _dropped(self.down(gated), layer.resid_mlp_dropout)

    def _gated(self, both: torch.Tensor, kernels: Any) -> torch.Tensor:
        if self.is_silu:
            return Gated.apply(both) if kernels is None else on_card.Gated.apply(both, kernels)
        gate, up = both.chunk(2, -1)
        return up * self.activation(gate)


def linear(module: torch.nn.Module, chance: on_card.Chance) -> Layer:
    """The fastest way to what this layer computes: with plain LoRA around it `LoraLinear`, else the module itself."""
    from peft.tuners.lora import LoraLayer

    if not isinstance(module, LoraLayer):
        return module
    active = module.active_adapters
    base = module.get_base_layer()
    weight = _weight_of(base)
    is_plain = len(active) == 1 and not (module.merged or module.disable_adapters or module.use_dora.get(active[0])
                                         or module.lora_bias.get(active[0]) or module.lora_variant.get(active[0]))
    if not is_plain or weight is None or base.bias is not None:
        return module
    name = active[0]
    a, b, drop = module.lora_A[name].weight, module.lora_B[name].weight, module.lora_dropout[name]
    place = chance.place()

    def computed(x: torch.Tensor) -> torch.Tensor:
        dropout = drop.p if isinstance(drop, torch.nn.Dropout) and drop.training else 0.0
        kernels = trusted.kernels_on(x.device)
        if kernels is not None:
            return on_card.LoraLinear.apply(x, a, b, weight, module.scaling[name], dropout, (chance.seeds, place),
                                            kernels)
        return LoraLinear.apply(x, a, b, weight, module.scaling[name], dropout)

    return computed


def _weight_of(layer: torch.nn.Module) -> Callable[[], torch.Tensor] | None:
    """Gives the weights of a linear layer, whole, in the type that they are multiplied in; None for other layers."""
    if type(layer) is torch.nn.Linear:
        return lambda: layer.weight
    if type(layer).__name__ != "Linear4bit":
        return None
    from bitsandbytes.functional import dequantize_4bit

    return lambda: dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(layer.compute_dtype)


def _added_and_normed(hidden: torch.Tensor, more: torch.Tensor | None, module: Any,
                      kernels: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(hidden + more, its norm). On a card torch has one kernel for the norm, forward and backward; on a CPU none."""
    if kernels is not None and more is not None:
        return on_card.AddedAndNormed.apply(hidden, more, module.weight, module.variance_epsilon, kernels)
    total = hidden if more is None else hidden + more
    if total.device.type == "cuda":
        return total, functional.rms_norm(total, module.weight.shape, module.weight, module.variance_epsilon)
    return total, Normed.apply(total, module.weight, module.variance_epsilon)


def _dropped(hidden: torch.Tensor, module: torch.nn.Dropout) -> torch.Tensor:
    return functional.dropout(hidden, module.p, True) if module.p and module.training else hidden
