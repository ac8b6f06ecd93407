"""An adapter merged into its base's full weights, in bf16 or fp32, one layer in memory at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch

from adapters.files import MEBIBYTE, Entry, arriving, read_header, read_object
from adapters.formats import Lora, fused, merged_weight
from adapters.layers import EMBEDDING, HEAD, shape_of
from phi3.models import BaseFacts

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
SHARD_BYTES = 4 * 1024 * MEBIBYTE
# What a model's folder needs besides weights and config; a licence travels with what it covers.
BESIDE = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
          "added_tokens.json", "tokenizer.model", "chat_template.jinja", "LICENSE", "NOTICE.md")
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_WRITTEN = {"bf16": "BF16", "fp32": "F32"}


@dataclass(frozen=True)
class Merged:
    """A model that was written: its folder, its files of weights, the precision, and how many layers had changed."""

    folder: Path
    shards: tuple[str, ...]
    precision: Literal["bf16", "fp32"]
    layers: int


@dataclass(frozen=True)
class _Source:
    """One weight of the base: where it lies, and as what."""

    file: Path
    entry: Entry


def merge(lora: Lora, facts: BaseFacts, folder: Path, precision: Literal["bf16", "fp32"] | None = None,
          shard_bytes: int = SHARD_BYTES) -> Merged:
    """Write base and adapter as one model into a new or empty folder, with tokenizer, config and card.

    The base's own full weights are read, whatever precision the adapter was trained on: sums are made in fp32 and
    kept as `precision` (unset: fp32 where the base is kept so, else bf16). Each weight is read, changed and written
    before the next. ValueError where the base has no such weights or the folder can't be written.
    """
    source = _base_folder(facts)
    weights = _weights_of(source, facts)
    pairs = {f"{path}.weight": (path, pair) for path, pair in fused(lora, shape_of(facts.config)).pairs.items()}
    unties = bool(facts.config.get("tie_word_embeddings")) and not {f"{EMBEDDING}.weight", f"{HEAD}.weight"}.isdisjoint(
        pairs)
    if unties:  # one of the two changes, so that they can be one tensor no more
        weights.setdefault(f"{HEAD}.weight", weights[f"{EMBEDDING}.weight"])
    absent = sorted(pairs.keys() - weights.keys())
    if absent:
        raise ValueError(f"The weights of {facts.id} hold no {absent[0]}, which the adapter changes.")
    if precision is None:
        precision = "fp32" if all(one.entry.dtype == "F32" for one in weights.values()) else "bf16"
    with arriving(folder) as unfinished:
        shards = _shards(weights, precision, shard_bytes)
        for name, keys in shards.items():
            _write_shard(unfinished / name, keys, weights, pairs, precision)
        _write_index(unfinished, shards, weights, precision)
        _write_beside(unfinished, source, facts, precision, unties)
        (unfinished / "README.md").write_text(_card(lora, facts, folder.name, precision), encoding="utf-8")
    return Merged(folder, tuple(shards), precision, len(pairs))


def _base_folder(facts: BaseFacts) -> Path:
    """Where the base's files are on this disk; those of a Hub's base are fetched, code never among them."""
    if facts.folder is not None:
        return facts.folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(facts.id, allow_patterns=["config.json", "*.safetensors", INDEX, *BESIDE]))
    except OSError as problem:
        raise ValueError(f"The weights of {facts.id} can't be fetched: {str(problem).splitlines()[0][:200]}") from None


def _weights_of(folder: Path, facts: BaseFacts) -> dict[str, _Source]:
    """Every weight of the base by name, out of its index or its single file."""
    names = {SINGLE}
    if (folder / INDEX).is_file():
        listed = read_object(folder / INDEX, 16 * MEBIBYTE).get("weight_map")
        names = {str(name) for name in listed.values()} if isinstance(listed, dict) else set()
    weights = {}
    for name in sorted(names):
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{facts.id} has no file {name[:80]} with its weights as safetensors, so nothing can be "
                             "merged into it.")
        for key, entry in read_header(folder / name).items():
            weights[key] = _Source(folder / name, entry)
    return weights


def _shards(weights: Mapping[str, _Source], precision: str, shard_bytes: int) -> dict[str, list[str]]:
    """Names of the files to write, each with its weights, as transformers names them."""
    size = 2 if precision == "bf16" else 4
    groups, held = [[]], 0
    for key, source in weights.items():
        more = source.entry.count * size
        if groups[-1] and held + more > shard_bytes:
            groups.append([])
            held = 0
        groups[-1].append(key)
        held += more
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    return {f"model-{place:05d}-of-{len(groups):05d}.safetensors": group for place, group in enumerate(groups, 1)}


def _write_shard(path: Path, keys: list[str], weights: Mapping[str, _Source], pairs: Mapping[str, Any],
                 precision: str) -> None:
    """A safetensors file written weight after weight: its header is known before any of them is read."""
    written = _WRITTEN[precision]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key in keys:
        entry = Entry(written, weights[key].entry.shape)
        header[key] = {"dtype": written, "shape": list(entry.shape), "data_offsets": [end, end + entry.bytes]}
        end += entry.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in _values(keys, weights, pairs):
            value.to(_DTYPES[written]).contiguous().view(torch.uint8).numpy().tofile(file)


def _values(keys: list[str], weights: Mapping[str, _Source], pairs: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """The weights one by one, with the adapter in those that it changes."""
    for key in keys:
        with weights[key].file.open("rb") as file:
            value = _read(file, weights[key].entry)
        if key in pairs:
            path, pair = pairs[key]
            value = merged_weight(value, pair, path)
        yield value


def _read(file: BinaryIO, entry: Entry) -> torch.Tensor:
    file.seek(entry.start)
    held = bytearray(entry.bytes)
    file.readinto(held)
    return torch.frombuffer(held, dtype=_DTYPES[entry.dtype]).view(entry.shape)


def _write_index(folder: Path, shards: Mapping[str, list[str]], weights: Mapping[str, _Source],
                 precision: str) -> None:
    if list(shards) == [SINGLE]:
        return
    total = sum(source.entry.count for source in weights.values()) * (2 if precision == "bf16" else 4)
    index = {"metadata": {"total_size": total}, "weight_map": {key: name for name, keys in shards.items()
                                                               for key in keys}}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_beside(folder: Path, source: Path, facts: BaseFacts, precision: str, unties: bool) -> None:
    """Config, tokenizer and licence as the base has them, without what names code (`auto_map`)."""
    dtype = {"dtype": "bfloat16" if precision == "bf16" else "float32"}
    left_out = ("auto_map", "torch_dtype", "_name_or_path", "_commit_hash", "quantization_config")
    config = {key: value for key, value in facts.config.items() if key not in left_out} | dtype
    if unties:
        config["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in BESIDE:
        if not (source / name).is_file():
            continue
        if name == "tokenizer_config.json":
            tokenizer = {key: value for key, value in read_object(source / name, 16 * MEBIBYTE).items()
                         if key != "auto_map"}
            (folder / name).write_text(json.dumps(tokenizer, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(source / name, folder / name)


def _card(lora: Lora, facts: BaseFacts, name: str, precision: str) -> str:
    """A short model card; a base that only this machine knows is not linked."""
    base = [f"base_model: {facts.id}", "base_model_relation: finetune"] if facts.folder is None else []
    front = "\n".join(["---", *base, "library_name: transformers", "pipeline_tag: text-generation",
                       "tags:", "- phi-3", "- lora", "- merged", "---"])
    shown = facts.id if facts.folder is None else f"`{facts.id.rstrip('/').rsplit('/', 1)[-1]}`"
    return f"""{front}

# {name}

{shown} with a LoRA adapter merged into {len(lora.pairs)} of its layers, in {precision}.

```python
from transformers import pipeline

chat = pipeline("text-generation", "{name}")
print(chat([{{"role": "user", "content": "Hello!"}}])[0]["generated_text"][-1]["content"])
```

What it was trained on is told by the adapter's own card. It shares the base's limits and licence.
"""
