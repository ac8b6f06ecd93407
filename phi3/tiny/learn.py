"""Trains the embedded Phi-3 from random weights on the small world: a plain loop that can stop and go on."""
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

from phi3.tiny.muon import Muon, fast_dtype
from phi3.tiny.tokenizer import conversation_tokens
from phi3.tiny.world import exchanges


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights; the same recipe and thread count give the same bytes."""

    steps: int = 11_000
    more_steps: int = 500            # that may be added later, on the cosine of the longer schedule
    rows: int = 12
    row_tokens: int = 224
    long_every: int = 4           # every so many steps have longer rows, for conversations of many turns
    long_rows: int = 5
    long_row_tokens: int = 512
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    seed: int = 0
    threads: int = 2

    @property
    def all_steps(self) -> int:
        """Both parts of the schedule."""
        return self.steps + self.more_steps

    def shape_at(self, step: int) -> tuple[int, int]:
        """(rows, tokens in each) of a step."""
        if (step + 1) % self.long_every == 0:
            return self.long_rows, self.long_row_tokens
        return self.rows, self.row_tokens


@dataclass(frozen=True)
class Batch:
    """Packed rows: positions start again with each conversation, and no mask is passed (TRAPS: packed rows)."""

    tokens: torch.Tensor      # (rows, row_tokens)
    positions: torch.Tensor   # (rows, row_tokens)
    targets: torch.Tensor     # (rows, row_tokens): the next token where it is trained, else -100


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int, context: int) -> Phi3ForCausalLM:
    """A small Phi-3 with random weights."""
    torch.manual_seed(seed)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|assistant|>",
                                                                       "<|end|>")}
    model = Phi3ForCausalLM(Phi3Config(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=context, original_max_position_embeddings=context,
        sliding_window=context // 2 - 1, tie_word_embeddings=False, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ids["<|endoftext|>"], pad_token_id=ids["<|endoftext|>"]))
    model.generation_config.eos_token_id = list(ids.values())
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model


def make_batch(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, step: int) -> Batch:
    """The rows of one step; they depend on nothing but the recipe and the step."""
    end = tokenizer.eos_token_id
    rows, row_tokens = recipe.shape_at(step)
    tokens = torch.full((rows, row_tokens), end)
    positions = torch.zeros((rows, row_tokens), dtype=torch.long)
    targets = torch.full((rows, row_tokens), -100)
    stream = conversations(tokenizer, recipe.seed * 1_000_003 + step, row_tokens)
    ids, trained = next(stream)
    for row in range(rows):
        at = 0
        while at + len(ids) <= row_tokens:
            until = at + len(ids)
            tokens[row, at:until] = torch.tensor(ids)
            positions[row, at:until] = torch.arange(len(ids))
            targets[row, at:until - 1] = torch.where(torch.tensor(trained), torch.tensor(ids), -100)[1:]
            at = until
            ids, trained = next(stream)
        positions[row, at:] = torch.arange(row_tokens - at)
    return Batch(tokens, positions, targets)


def conversations(tokenizer: PreTrainedTokenizerFast, seed: int,
                  longest: int) -> Iterator[tuple[list[int], list[bool]]]:
    """Tokens and training marks of conversation after conversation, none longer than `longest`."""
    part = 0
    while True:
        for exchange in exchanges(seed * 1_009 + part, 64):
            said = {"role": "assistant", "content": exchange.answer}
            ids, trained = conversation_tokens(tokenizer, (*exchange.messages, said))
            if len(ids) <= longest:
                yield ids, trained
        part += 1


def loss_of(model: Phi3ForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean loss of the trained tokens; the vocabulary's logits are computed for these alone.

    Where the processor has bf16, its products and attention written out take 0.56 of the time of fp32 and sdpa;
    elsewhere fp32 and sdpa are the faster pair.
    """
    wanted = batch.targets != -100
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() is torch.bfloat16):
        hidden = model.model(batch.tokens, position_ids=batch.positions, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[wanted])
    return cross_entropy(logits.float(), batch.targets[wanted])


def learning_rate_at(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth; the steps that were added follow the longer cosine."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    planned = recipe.steps if step < recipe.steps else recipe.all_steps
    done = (step - recipe.warmup_steps) / max(1, planned - recipe.warmup_steps)
    return recipe.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def optimizers_for(model: Phi3ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings, head and norms."""
    pieces: dict[int, list[torch.nn.Parameter]] = {1: [], 2: [], 3: []}
    for name, weight in model.model.layers.named_parameters():
        if weight.dim() > 1:
            pieces[3 if "qkv_proj" in name else 2 if "gate_up_proj" in name else 1].append(weight)
    tables = [model.model.embed_tokens.weight, model.lm_head.weight]
    norms = [weight for weight in model.parameters() if weight.dim() == 1]
    return [
        Muon([{"params": weights,
               "pieces": count} for count, weights in pieces.items()], recipe.learning_rate,
             recipe.weight_decay),
        torch.optim.AdamW([{"params": tables, "weight_decay": recipe.weight_decay},
                           {"params": norms,
                            "weight_decay": 0.0}], lr=recipe.learning_rate, betas=(0.9, 0.98)),
    ]


class Training:
    """The model, its optimizers and the step they are at."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, context: int) -> None:
        torch.set_num_threads(recipe.threads)
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # everything is written before it is read
        self.tokenizer, self.recipe, self.step = tokenizer, recipe, 0
        self.model = new_model(tokenizer, recipe.seed, context).train()
        self.model.set_attn_implementation("eager" if fast_dtype() is torch.bfloat16 else "sdpa")
        self.optimizers = optimizers_for(self.model, recipe)

    def begin_from(self, folder: Path) -> None:
        """Starts from the weights of a model that was written before, with fresh optimizers."""
        weights = load_file(folder / "model.safetensors")
        self.model.load_state_dict({name: value.float() for name, value in weights.items()})

    def advance(self) -> float:
        """One step; returns its loss."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate_at(self.recipe, self.step)
        loss = loss_of(self.model, make_batch(self.tokenizer, self.recipe, self.step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss.item()

    def save(self, folder: Path) -> None:
        """Writes a checkpoint beside the old one, then puts it in its place."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                state |= {f"optimizer{number}.{index}.{name}": value for name, value in values.items()}
        state["step"] = torch.tensor(self.step)
        save_file(state, folder / "checkpoint.tmp", metadata={"recipe": str(asdict(self.recipe))})
        os.replace(folder / "checkpoint.tmp", folder / "checkpoint.safetensors")

    def load(self, folder: Path) -> None:
        """Goes on from the checkpoint in this folder."""
        state = load_file(folder / "checkpoint.safetensors")
        self.step = int(state.pop("step"))
        self.model.load_state_dict({name.removeprefix("model."): value for name, value in state.items()
                                    if name.startswith("model.")})
        for number, optimizer in enumerate(self.optimizers):
            kept: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in state.items():
                prefix, index, key = name.split(".", 2)
                if prefix == f"optimizer{number}":
                    kept.setdefault(int(index), {})[key] = value
            optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
