"""The layers of a Phi-3 that an adapter can change, and how its fused projections divide into q, k, v and gate, up."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
_ENDS = {"embed_tokens": EMBEDDING, "lm_head": HEAD}
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
WHOLE = {part: whole for whole, parts in FUSED.items() for part in parts}
_BLOCK = {"self_attn": ("qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj"),
          "mlp": ("gate_up_proj", "gate_proj", "up_proj", "down_proj")}
_PATH = re.compile(r"model\.layers\.(0|[1-9]\d{0,3})\.(self_attn|mlp)\.([a-z_]+)")


@dataclass(frozen=True)
class Phi3Shape:
    """The sizes of one Phi-3 that its adapters depend on."""

    layers: int
    widths: Mapping[str, tuple[int, int]]  # last name of a layer → (outputs, inputs)

    def size_of(self, path: str) -> tuple[int, int] | None:
        """(outputs, inputs) of a layer by its full path, fused or split; None where this base has no such layer.

        An embedding is given as (width, vocabulary): what its adapter's B and A border on.
        """
        if path in (EMBEDDING, HEAD):
            return self.widths[path]
        found = _PATH.fullmatch(path)
        if found is None or int(found[1]) >= self.layers or found[3] not in _BLOCK[found[2]]:
            return None
        return self.widths[found[3]]

    def parts(self, whole: str) -> dict[str, slice]:
        """Rows of a fused projection by the last names of its parts: `parts("qkv_proj")["k_proj"]`."""
        rows, start = {}, 0
        for part in FUSED[whole]:
            rows[part] = slice(start, start + self.widths[part][0])
            start = rows[part].stop
        return rows

    def has_equal_parts(self, whole: str) -> bool:
        """Whether loralib's MergedLinear can stand for it: that divides its outputs evenly."""
        return len({rows.stop - rows.start for rows in self.parts(whole).values()}) == 1

    def paths(self, last_names: tuple[str, ...]) -> list[str]:
        """Full paths of all layers with these last names, fused or split, in the order of the model."""
        blocks = [f"model.layers.{layer}.{block}.{name}" for layer in range(self.layers)
                  for block, names in _BLOCK.items() for name in names if name in last_names]
        return [*(path for name, path in _ENDS.items() if name in last_names), *blocks]


def shape_of(config: Mapping[str, Any]) -> Phi3Shape:
    """The sizes out of a config with model_type phi3, as transformers' Phi3Attention and Phi3MLP read it."""
    hidden, middle, heads = (config[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
    head = config.get("head_dim") or hidden // heads
    key_value = (config.get("num_key_value_heads") or heads) * head
    widths = {"q_proj": (heads * head, hidden), "k_proj": (key_value, hidden), "v_proj": (key_value, hidden),
              "qkv_proj": (heads * head + 2 * key_value, hidden), "o_proj": (hidden, heads * head),
              "gate_proj": (middle, hidden), "up_proj": (middle, hidden), "gate_up_proj": (2 * middle, hidden),
              "down_proj": (hidden, middle),
              EMBEDDING: (hidden, config["vocab_size"]), HEAD: (config["vocab_size"], hidden)}
    return Phi3Shape(config["num_hidden_layers"], widths)


def last_name(path: str) -> str:
    """`qkv_proj` of `model.layers.0.self_attn.qkv_proj`."""
    return path.rsplit(".", 1)[-1]


def sibling(path: str, name: str) -> str:
    """The path of the layer `name` in the same block."""
    return path[:len(path) - len(last_name(path))] + name
