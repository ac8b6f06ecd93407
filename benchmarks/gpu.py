"""Full-size random Phi-3-mini on a card: LoRA, QLoRA and a chat answer. `python -m benchmarks.gpu [--rehearse]`."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.report import circumstances, quietly, table, write
from training.config import METHODS

# microsoft/Phi-3-mini-4k-instruct, from its public config.json.
PHI3_MINI = {
    "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096, "sliding_window": 2047, "rms_norm_eps": 1e-5,
}
# The same shape at about a hundredth of the parameters, for a machine without a card.
REHEARSAL = {**PHI3_MINI, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
             "num_attention_heads": 4, "num_key_value_heads": 4}
EMBEDDED_TOKENIZER = Path(__file__).parent.parent / "phi3" / "tiny"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class Part:
    """One part's figures. Memory is the peak in GiB: the card's, or this process's on a CPU."""

    name: str
    seconds: float
    peak_gib: float
    detail: str


def main() -> int:
    """Run the parts, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="a hundredth of the size, on the CPU")
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps per method (default 30; rehearsal 3)")
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    asked = parser.parse_args()
    import torch

    if not asked.rehearse and not torch.cuda.is_available():
        print("There is no CUDA card here. --rehearse does the same at a hundredth of the size.", file=sys.stderr)
        return 2
    quietly()
    steps = min(asked.steps, 3) if asked.rehearse else asked.steps
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STUDIO_HOME"] = str(Path(folder) / "studio")
        parts = _parts(Path(folder), REHEARSAL if asked.rehearse else PHI3_MINI, steps)
    print(json.dumps(circumstances()))
    print(table(["part", "seconds", "peak GiB", "detail"], [list(asdict(part).values()) for part in parts]))
    write("gpu-rehearsal" if asked.rehearse else "gpu", [asdict(part) for part in parts], asked.out)
    return 0


def make_base(folder: Path, shape: dict[str, Any]) -> Path:
    """Random bf16 weights (std 0.02, made where they are fast to make) as a sharded folder with `auto_map`."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(EMBEDDED_TOKENIZER)
    ends = [tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|assistant|>", "<|end|>")]
    config = Phi3Config(**shape, bos_token_id=None, eos_token_id=ends[0], pad_token_id=ends[0], dtype="bfloat16")
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.set_default_dtype(torch.bfloat16)
        model = Phi3ForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder, max_shard_size="4GB" if shape is PHI3_MINI else "30MB")
    for name in TOKENIZER_FILES:
        shutil.copyfile(EMBEDDED_TOKENIZER / name, folder / name)
    written = json.loads((folder / "config.json").read_text())
    written["auto_map"] = {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    (folder / "config.json").write_text(json.dumps(written))
    return folder


def make_chats(path: Path, words: int, rows: int = 400) -> Path:
    """Chats of log-normal length (median about `words` words an answer), seeded."""
    rng = Random(0)
    vocabulary = ["the", "a", "sea", "ship", "black", "moon", "water", "bread", "near", "far", "goes", "when", "and"]

    def text(median: float) -> str:
        return " ".join(rng.choices(vocabulary, k=max(2, min(int(rng.lognormvariate(0, 0.6) * median), 4 * words))))

    turns = [{"messages": [{"role": "user", "content": text(words / 4)}, {"role": "assistant", "content": text(words)}]}
             for _ in range(rows)]
    path.write_text("\n".join(json.dumps(turn) for turn in turns), encoding="utf-8")
    return path


def _parts(folder: Path, shape: dict[str, Any], steps: int) -> list[Part]:
    rehearsing = shape is not PHI3_MINI
    base, made = _measured("make and save the base", lambda: make_base(folder / "phi-3-random", shape))
    chats = make_chats(folder / "chats.jsonl", words=20 if rehearsing else 150)
    parts = [made]
    for method in METHODS:
        _, part = _measured(f"{method}, {steps} steps", lambda method=method: _train(base, chats, method, steps))
        parts.append(part)
    _, part = _measured("base and both adapters answer", lambda: _chat(base, 8 if rehearsing else 64))
    return [*parts, part]


def _train(base: Path, chats: Path, method: str, steps: int) -> str:
    """A run through its folder; says seconds per step and the fall of the loss."""
    from phi3.machine import studio_home, this_machine
    from phi3.models import base_facts
    from training.config import RunConfig
    from training.data import read_data
    from training.presets import recommended
    from training.runs import Runs
    from training.train import run_lease

    suited = recommended(base_facts(str(base)).hidden_size, this_machine())
    config = RunConfig.from_settings({**suited, "base": str(base), "method": method, "name": f"gpu-{method}",
                                      "max_steps": steps, "eval_steps": 10**6, "save_steps": 10**6})
    run = Runs(studio_home()).create(config, read_data(chats))
    run_lease(run)
    told = [event.values for event in run.events() if event.type == "step"]
    return (f"{told[-1]['seconds'] / len(told):.3f} s a step, {told[-1]['tokens_per_second']:,} tokens/s, "
            f"loss {told[0]['loss']:.3f} to {told[-1]['loss']:.3f}")


def _chat(base: Path, tokens: int) -> str:
    from adapters.library import Library
    from phi3.generate import Answerer, Lane, Sampling
    from phi3.machine import studio_home
    from phi3.models import load_base

    library = Library(studio_home())
    adapters = [None, *(str(library.get(f"gpu-{method}").folder) for method in METHODS)]
    question = ({"role": "user", "content": "Where is the ship?"},)
    answerer = Answerer(load_base(str(base)))
    *_, answers = answerer.answer([Lane(question, adapter, Sampling(max_new_tokens=tokens)) for adapter in adapters])
    return ", ".join(f"{answer.tokens} tokens in {answer.seconds:.2f} s" for answer in answers)


def _measured(name: str, work: Any) -> tuple[Any, Part]:
    """Do it; seconds and peak memory beside what it returned. What it says (a string) becomes the detail."""
    import torch

    on_card = torch.cuda.is_available()
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    result = work()
    seconds = time.monotonic() - started
    if on_card:
        peak = torch.cuda.max_memory_allocated() / 1024**3
        torch.cuda.empty_cache()
    else:
        peak = _peak_of_process()
    return result, Part(name, round(seconds, 1), round(peak, 2), result if isinstance(result, str) else "")


def _peak_of_process() -> float:
    """Peak resident memory so far, in GiB (Linux counts it in KiB, macOS in bytes)."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**3 if sys.platform == "darwin" else 1024**2)


if __name__ == "__main__":
    sys.exit(main())
