"""Phi-3's forward pass for answers: a few calls a layer, and a cache in which each row has its own length."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from phi3.cache import TOKENS_AT_A_TIME, Cache
from phi3.captured import MOST_CAPTURED_ROWS, Capture, Captures
from phi3.fused import inverse_root
from phi3.packed import attended, band, without_cudnn
from phi3.products import Call, is_small
from phi3.trusted import are_own, kernels_on, own_kernels


class Decoder:
    """Answers' own way through the modules of a Phi3ForCausalLM, whatever stands in for its linear layers.

    It computes what the model's `forward` does. Left out is what that does for callers with other wishes: masks made
    anew in every pass, a cache that is copied for every token, and norms in six steps. Rows begin at column 0 of the
    cache and are as long as they are, so a row needs no padding to its left and may join or leave at any token.
    """

    def __init__(self, model: Any, capture: Capture | None = None) -> None:
        """`model` is a Phi3ForCausalLM, or PEFT's wrapper of one; `capture` makes its steps one call each."""
        from peft import PeftModel

        causal = model.get_base_model() if isinstance(model, PeftModel) else model
        self._core, self._head = causal.model, causal.lm_head
        self._heads, self._kept = causal.config.num_attention_heads, causal.config.num_key_value_heads
        self._window = causal.config.sliding_window or causal.config.max_position_embeddings
        self._norm = _normed(self._core.norm)
        self._layers = [_Layer.of(layer) for layer in self._core.layers]
        self._kernels = kernels_on(causal.device) if capture is not None and _is_usual(self._core) else None
        head_size = self._core.layers[0].self_attn.head_dim
        self._turns = Turns(self._core.rotary_emb, head_size)
        self.device = causal.device
        self._for_one = _way_of_one(causal)
        self.cache = Cache(len(self._layers), self._kept, head_size, stays=capture is not None)
        self.captures = None if capture is None else Captures(capture, self.device)
        self._captured_of = 0  # which of the places that the cache had

    @property
    def longest_short(self) -> int:
        """Tokens that a row may have before its positions are turned by other angles (longrope); 0 where none are."""
        return self._turns.longest_short

    def read(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """New rows, from their first token to their last, added to the cache; logits (rows, vocabulary) of the last.

        Rows are filled up on their right: a token never attends to what comes after it.
        """
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.device)
        hidden = self._core.embed_tokens(ids)
        offsets = torch.tensor([[self._turns.offset(len(row))] for row in rows], device=self.device)
        cos, sin = self._turns.at(torch.arange(longest, device=self.device) + offsets, longest, hidden)
        band = self._band(longest)
        self.cache.reserve(len(rows), longest, hidden)
        for index, layer in enumerate(self._layers):
            projected = self._projected(layer, hidden, cos, sin)
            query, key, value = (part.transpose(1, 2) for part in projected)
            self.cache.put(index, key, value)
            with without_cudnn(self.device):
                mixed = attended(query, key, value, band, is_causal=band is None, scale=layer.scaling,
                                 enable_gqa=self._is_grouped)
            hidden = layer.after_attention(hidden, mixed.transpose(1, 2).flatten(2))
        self.cache.lengths += map(len, rows)
        ends = torch.tensor([len(row) - 1 for row in rows], device=self.device)
        return self._head(self._norm(hidden[torch.arange(len(rows), device=self.device), ends]))

    def captures_steps_of(self, rows: int) -> bool:
        """Whether steps of so many rows are captured, where what they read stays at its place."""
        return self.captures is not None and not self.captures.is_given_up and rows <= MOST_CAPTURED_ROWS

    def step(self, tokens: Sequence[int], form: Hashable | None = None) -> torch.Tensor:
        """The next token of every row in the cache; logits (rows, vocabulary) of what comes after it, until the next
        step.

        `form` says which places hold what the layers read for these rows; None where those don't stay from step to
        step.
        """
        cache = self.cache
        cache.lengthen()
        inputs = (tokens, cache.lengths, [length - 1 + self._turns.offset(length) for length in cache.lengths])
        plain = partial(self._plainly, longest=max(cache.lengths), is_masked=not cache.is_all_seen(self._window))
        if form is None or not self.captures_steps_of(len(tokens)):
            with self._for_one() if len(tokens) == 1 else nullcontext():
                return plain(torch.tensor(inputs, device=self.device))
        if cache.moves != self._captured_of:
            self.captures.forget()
            self._captured_of = cache.moves
        return self.captures.step((len(tokens), form), torch.tensor(inputs), plain,
                                  partial(self._to_be_captured, longest=cache.room))

    def _plainly(self, inputs: torch.Tensor, longest: int, is_masked: bool) -> torch.Tensor:
        """A step that isn't captured: each has another shape than the one before."""
        with without_cudnn(self.device):
            return self._stepped(inputs, longest, is_masked)

    def _to_be_captured(self, inputs: torch.Tensor, longest: int) -> torch.Tensor:
        """A step at fixed places, by a card's own kernels where there are any."""
        with own_kernels() if self._kernels is not None else nullcontext():
            return self._stepped(inputs, longest, is_masked=True)

    def _stepped(self, inputs: torch.Tensor, longest: int, is_masked: bool) -> torch.Tensor:
        """A step out of (tokens, lengths of the rows, places of their tokens), each (rows,) on the device, beside the
        first `longest` tokens of the cache. It asks the processor for nothing.
        """
        tokens, lengths, places = inputs
        hidden = self._core.embed_tokens(tokens)
        cos, sin = self._turns.at(places, longest, hidden)
        mask = None
        if is_masked:
            mask = self.cache.mask(lengths, longest, self._window, hidden)
        if are_own():
            return self._by_kernels(hidden, cos, sin, lengths, longest, mask)
        where = self.cache.where(lengths)
        for index, layer in enumerate(self._layers):
            query, key, value = self._projected(layer, hidden, cos, sin)
            keys, values = self.cache.add(index, where, key, value, longest)
            mixed = functional.scaled_dot_product_attention(query[:, :, None], keys, values, mask,
                                                            scale=layer.scaling, enable_gqa=self._is_grouped)
            hidden = layer.after_attention(hidden, mixed.flatten(1))
        return self._head(self._norm(hidden))

    def _by_kernels(self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, lengths: torch.Tensor,
                    longest: int, mask: torch.Tensor | None) -> torch.Tensor:
        """The same by a card's own kernels: of what lies between the products each is one."""
        kernels, more, half = self._kernels, None, self._turns.rotated // 2
        for index, (layer, block) in enumerate(zip(self._layers, self._core.layers, strict=True)):
            first, second = block.input_layernorm, block.post_attention_layernorm
            hidden, normed = kernels.added_and_normed(hidden, more, first.weight, first.variance_epsilon)
            held = self.cache.held(index)
            queries = kernels.turned_into_cache(layer.qkv(normed), cos, sin, lengths, *held, half)
            keys, values = (one[:len(queries), :, :longest] for one in held)
            mixed = functional.scaled_dot_product_attention(queries[:, :, None], keys, values, mask,
                                                            scale=layer.scaling, enable_gqa=self._is_grouped)
            hidden, normed = kernels.added_and_normed(hidden, layer.out(mixed.flatten(1)), second.weight,
                                                      second.variance_epsilon)
            more = layer.down(layer.gated(normed, kernels))
        last = self._core.norm
        return self._head(kernels.added_and_normed(hidden, more, last.weight, last.variance_epsilon)[1])

    @property
    def _is_grouped(self) -> bool:
        return self._kept != self._heads

    def _projected(self, layer: _Layer, hidden: torch.Tensor, cos: torch.Tensor,
                   sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Queries (..., heads, head size), keys and values (..., kept heads, head size), turned by their place."""
        parts = layer.qkv(layer.before(hidden)).unflatten(-1, (self._heads + 2 * self._kept, -1))
        turning, values = parts.split((self._heads + self._kept, self._kept), dim=-2)
        turned = torch.addcmul(turning * cos, turning.index_select(-1, self._turns.partners), sin)
        return (*turned.split((self._heads, self._kept), dim=-2), values)

    def _band(self, longest: int) -> torch.Tensor | None:
        """Which tokens of a prompt see which, where that isn't simply all before them."""
        return None if longest <= self._window else band(self._window, longest, self.device)


@dataclass(frozen=True)
class _Layer:
    """What a layer computes with, looked up once: a step calls each of these for every token.

    Of modules it is their own `forward`: calling one looks for hooks each time, and none has any.
    """

    before: Call
    qkv: Call
    scaling: float
    out: Call
    after: Call
    gate_up: Call
    activation: Call
    down: Call
    gate: Callable[..., torch.Tensor] | None = None  # both of these at once

    @classmethod
    def of(cls, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return cls(_normed(layer.input_layernorm), attention.qkv_proj.forward, attention.scaling,
                   attention.o_proj.forward, _normed(layer.post_attention_layernorm), mlp.gate_up_proj.forward,
                   mlp.activation_fn.forward, mlp.down_proj.forward, getattr(mlp.gate_up_proj, "gated", None))

    def gated(self, normed: torch.Tensor, kernels: Any) -> torch.Tensor:
        """silu(gate) · up, by a card's own kernels."""
        return kernels.gated(self.gate_up(normed)) if self.gate is None else self.gate(normed, kernels)

    def after_attention(self, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """What comes after the attention in a layer."""
        hidden = hidden + self.out(attended)
        gate, up = self.gate_up(self.after(hidden)).chunk(2, dim=-1)
        return hidden + self.down(up * self.activation(gate))


class Turns:
    """By which angles queries and keys are turned at each place (Su et al., 2021), from the base's own module.

    With longrope a row longer than the base was first trained for is turned by other angles from its first token on:
    both tables stand one after the other.
    """

    def __init__(self, rotary: Any, head_size: int) -> None:
        self._rotary, self._size = rotary, head_size
        is_long = rotary.rope_type == "longrope"
        self.longest_short = rotary.config.rope_parameters["original_max_position_embeddings"] if is_long else 0
        self._places = 0
        self._cos: torch.Tensor | None = None
        self._sin: torch.Tensor | None = None
        self.partners: torch.Tensor | None = None
        self.rotated = 0  # of a head's numbers, so many are turned

    def offset(self, length: int) -> int:
        """Where the angles of a row of this length begin."""
        return self.longest_short if self.longest_short and length > self.longest_short else 0

    def at(self, places: torch.Tensor, longest: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines (..., 1, head size) at these places; the longest row has so many tokens."""
        if self._cos is None or longest > self._places or self._cos.dtype != like.dtype:
            self._fill(max(longest, 2 * self._places, TOKENS_AT_A_TIME), like)
        return self._cos[places].unsqueeze(-2), self._sin[places].unsqueeze(-2)

    def _fill(self, count: int, like: torch.Tensor) -> None:
        self._places = count
        counts = [self.longest_short, max(count, self.longest_short + 1)] if self.longest_short else [count]
        angles = [self._rotary(like, torch.arange(own, device=like.device)[None]) for own in counts]
        cos, sin = (torch.cat([pair[side][0] for pair in angles]) for side in (0, 1))
        half = cos.shape[-1] // 2
        self.rotated = 2 * half
        sin = torch.cat([-sin[:, :half], sin[:, half:]], -1)
        # A partial rotation leaves the last dimensions of a head as they are.
        left = self._size - 2 * half
        self._cos, self._sin = functional.pad(cos, (0, left), value=1.0), functional.pad(sin, (0, left))
        places = torch.arange(self._size, device=like.device)
        self.partners = torch.cat([places[half:2 * half], places[:half], places[2 * half:]])


def _is_usual(core: Any) -> bool:
    """Whether what lies between the products is what a card's own kernels compute."""
    from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm

    norms = [one for layer in core.layers for one in (layer.input_layernorm, layer.post_attention_layernorm)]
    return core.config.hidden_act == "silu" and all(type(one) is Phi3RMSNorm for one in (*norms, core.norm))


def _way_of_one(model: Any) -> Callable[[], AbstractContextManager[None]]:
    """What makes a step of one row faster on this model's device."""
    if is_small(model):
        return _one_thread
    return _without_onednn if model.device.type == "cpu" and model.dtype is torch.bfloat16 else nullcontext


@contextmanager
def _without_onednn() -> Iterator[None]:
    """torch's own product of one row reads bf16 weights as they were published a third faster than oneDNN's
    (`products.Packed`); with more rows it is the other way round.
    """
    # Whoever finds it switched off leaves it so: else two threads might leave it off for good.
    switched = torch.backends.mkldnn.enabled
    if switched:
        torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        if switched:
            torch.backends.mkldnn.enabled = True


@contextmanager
def _one_thread() -> Iterator[None]:
    """The calling thread computes alone in here. Entering and leaving takes a microsecond."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _normed(module: torch.nn.Module) -> Call:
    """A Phi-3 norm in one call; whatever stands in for one is called as it is."""
    from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm

    if type(module) is not Phi3RMSNorm:
        return module
    weight, epsilon = module.weight, module.variance_epsilon
    if weight.device.type == "cpu" and weight.dtype is torch.float32:
        return partial(_normed_on_a_cpu, weight=weight, epsilon=weight.new_tensor(epsilon))
    return partial(functional.rms_norm, normalized_shape=(weight.shape[0],), weight=weight, eps=epsilon)


def _normed_on_a_cpu(hidden: torch.Tensor, weight: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    return hidden.mul(inverse_root(hidden, epsilon)).mul_(weight)
