"""A Phi-3 of random weights as a folder, laid out as the public repository is, and chats to train it on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

# microsoft/Phi-3-mini-4k-instruct, from its public config.json.
PHI3_MINI = {
    "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096, "sliding_window": 2047, "rms_norm_eps": 1e-5,
}
# The same shape, with heads as wide, at about a hundredth of the weights and a quarter of the lengths.
REHEARSAL = {**PHI3_MINI, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
             "num_attention_heads": 4, "num_key_value_heads": 4, "sliding_window": 511}
EMBEDDED_TOKENIZER = Path(__file__).parent.parent.parent / "phi3" / "tiny"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# What the public repository's config names, and here would be noticed if it were ever run.
REMOTE_CODE = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
LOUD = "raise RuntimeError('remote code was run')\n"
WORDS = ("the", "a", "sea", "ship", "black", "moon", "water", "bread", "near", "far", "goes", "when", "and")


def base_in(work: Path, small: bool) -> Path:
    """The folder of the base; it is made where it isn't there yet, whole or not at all."""
    folder = work / ("phi-3-rehearsal" if small else "phi-3-mini-random")
    if not (folder / "config.json").is_file():
        arriving = folder.with_name(f".{folder.name}")
        shutil.rmtree(arriving, ignore_errors=True)
        make_base(arriving, REHEARSAL if small else PHI3_MINI, "30MB" if small else "4GB")
        arriving.rename(folder)
    return folder


def make_base(folder: Path, shape: dict[str, Any], shard: str) -> Path:
    """Random bf16 weights (std 0.02, seeded, made on the card where there is one) as shards of at most this size."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

    from benchmarks.card.bench import free_memory

    tokenizer = PreTrainedTokenizerFast.from_pretrained(EMBEDDED_TOKENIZER)
    ends = [tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|assistant|>", "<|end|>")]
    config = Phi3Config(**shape, bos_token_id=None, eos_token_id=ends[0], pad_token_id=ends[0], dtype="bfloat16")
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.set_default_dtype(torch.bfloat16)
        model = Phi3ForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = ends
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, max_shard_size=shard)
    del model
    free_memory()
    for name in TOKENIZER_FILES:
        shutil.copyfile(EMBEDDED_TOKENIZER / name, folder / name)
    name_remote_code(folder)
    return folder


def name_remote_code(folder: Path) -> None:
    """Let the folder's config name code of its own, as the public repository's does; it fails aloud if it is run."""
    for module in {path.split(".")[0] for path in REMOTE_CODE.values()}:
        (folder / f"{module}.py").write_text(LOUD, encoding="utf-8")
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**written, "auto_map": REMOTE_CODE}), encoding="utf-8")


def make_chats(path: Path, tokens: int, rows: int = 400) -> Path:
    """Conversations of log-normal length (median about so many tokens, at most six times that), seeded."""
    rng = Random(0)

    def text(median: float) -> str:
        # A word is a token, a space another one, or nearly so.
        return " ".join(rng.choices(WORDS, k=max(2, round(min(rng.lognormvariate(0, 0.8), 6) * median))))

    turns = [{"messages": [{"role": "user", "content": f"{number} {text(tokens / 4)}"},
                           {"role": "assistant", "content": text(tokens * 3 / 4)}]} for number in range(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(turn) for turn in turns), encoding="utf-8")
    return path
