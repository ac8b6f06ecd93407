"""Makes adapters with random weights, and small Phi-3s to try them on: Phi-3's own and one that isn't fused."""

import random
from pathlib import Path

import torch

from adapters.formats import Lora, Pair, write_peft
from adapters.layers import FUSED, Phi3Shape, last_name, shape_of
from adapters.peft_config import LoraSettings

FUSED_NAMES = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
SPLIT_NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SIZES = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64}


def small_phi3(**sizes):
    """A Phi-3 of random fp32 weights that answers differently to each token; the same at each call."""
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    config = Phi3Config(**{**SIZES, **sizes}, pad_token_id=0, bos_token_id=None, eos_token_id=None,
                        initializer_range=0.2)
    return Phi3ForCausalLM(config).eval().requires_grad_(False)


def unfused(model):
    """The same function as a Llama: Phi-3 is one with its projections fused, so stock PEFT can name q_proj there."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = shape_of(model.config.to_dict())
    alike = (*SIZES, "rms_norm_eps", "tie_word_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")
    config = LlamaConfig(**{name: getattr(model.config, name) for name in alike})
    weights = {}
    for key, value in model.state_dict().items():
        path = key.removesuffix(".weight")
        if last_name(path) in FUSED:
            weights |= {key.replace(last_name(path), part): value[rows]
                        for part, rows in shape.parts(last_name(path)).items()}
        else:
            weights[key] = value
    llama = LlamaForCausalLM(config)
    llama.load_state_dict(weights)
    return llama.eval().requires_grad_(False)


def logits(model) -> torch.Tensor:
    """What a model says to a fixed row of tokens."""
    with torch.inference_mode():
        return model(input_ids=(torch.arange(20)[None] * 7 + 3).remainder(model.config.vocab_size)).logits.clone()


def random_lora(shape: Phi3Shape, targets=FUSED_NAMES, ranks=(4,), alphas=(8,), rank_stabilised=False, seed=0,
                base="someone/phi-3", revision=None, is_dora=False) -> Lora:
    """An adapter on all layers with these last names, each with a rank and an alpha drawn from those given; with
    magnitudes where it is DoRA's.
    """
    draw, chance = random.Random(seed), torch.Generator().manual_seed(seed)
    settings = LoraSettings(base, revision, ranks[0], alphas[0], rank_stabilised, is_dora=is_dora)
    pairs = {}
    for path in shape.paths(tuple(targets)):
        rank, (outputs, inputs) = draw.choice(ranks), shape.size_of(path)
        pairs[path] = Pair(torch.randn(rank, inputs, generator=chance) * 0.3,
                           torch.randn(outputs, rank, generator=chance) * 0.3,
                           settings.scaling(rank, draw.choice(alphas)),
                           torch.rand(outputs, generator=chance) + 0.5 if is_dora else None)
    return Lora(pairs, settings)


def write_random(folder: Path, config: dict, **options) -> Path:
    """A folder with such an adapter for a base's config."""
    shape = shape_of(config)
    write_peft(random_lora(shape, **options), folder, shape)
    return folder
