"""The Phi-3 family: find a base by name, refuse what isn't one, load it in fp32, bf16 or NF4."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from phi3.machine import path_of
from phi3.shape import Shape

if TYPE_CHECKING:
    from transformers import Phi3ForCausalLM, PreTrainedTokenizerFast

EMBEDDED = "phi3/tiny"
SECONDS_FOR_THE_HUB = 5
EMBEDDED_FOLDER = Path(__file__).parent / "tiny"
# The two files of an adapter, in PEFT's format.
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PHI3_MINI = "microsoft/Phi-3-mini-4k-instruct"
Precision = Literal["fp32", "bf16", "nf4"]

# What every Phi-3's config says of how large it is.
_SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size",
          "max_position_embeddings")
_REFUSALS = {
    "phi3small": "Phi-3-small exists only as remote code, which is never run here.",
    "phimoe": "Phi-3.5-MoE has another architecture.",
    "phi3_v": "Phi-3-vision has another architecture.",
    "phi": "Phi-1 and Phi-2 have another architecture.",
}


@dataclass(frozen=True)
class BaseFacts:
    """What can be known of a base without loading it. `folder` is None where it has to come from the Hub."""

    id: str
    folder: Path | None
    config: dict[str, Any]

    @property
    def context(self) -> int:
        """Tokens that the base can attend over."""
        return self.config["max_position_embeddings"]

    @property
    def shape(self) -> Shape:
        """Its sizes."""
        return Shape.of(self.config)

    @property
    def source(self) -> str:
        """What `from_pretrained` is given."""
        return self.id if self.folder is None else str(self.folder)

    @cached_property
    def revision(self) -> str | None:
        """Hash of the weights (embedded base, folders), or None where the Hub's own revision counts."""
        if self.folder is None:
            return self.config.get("_commit_hash")
        digest = hashlib.sha256()
        for shard in sorted(self.folder.glob("*.safetensors")):
            with shard.open("rb") as weights:
                digest.update(hashlib.file_digest(weights, "sha256").digest())
        return digest.hexdigest()[:40]


@dataclass(frozen=True)
class Base:
    """A loaded base: `model` is never changed by those who use it."""

    facts: BaseFacts
    model: Phi3ForCausalLM
    tokenizer: PreTrainedTokenizerFast
    precision: Precision
    stop_tokens: tuple[int, ...]


def chosen_base(on_a_gpu: bool) -> str:
    """The base this machine serves: STUDIO_BASE, else Phi-3-mini on a GPU and the embedded Phi-3 elsewhere."""
    return os.environ.get("STUDIO_BASE", "").strip() or (PHI3_MINI if on_a_gpu else EMBEDDED)


def base_facts(name: str) -> BaseFacts:
    """Read the base's config.json (embedded, folder or Hub); ValueError says why a name is refused."""
    name = name.strip()
    if name == EMBEDDED or (Path(name).is_dir() and Path(name).resolve() == EMBEDDED_FOLDER):
        return _checked(BaseFacts(EMBEDDED, EMBEDDED_FOLDER, _json(EMBEDDED_FOLDER / "config.json")))
    if path_of(name).is_dir():
        folder = path_of(name).resolve()
        if not (folder / "config.json").is_file():
            raise ValueError(f"The folder {name} holds no config.json, so it is no model.")
        return _checked(BaseFacts(str(folder), folder, _json(folder / "config.json")))
    return _checked(BaseFacts(name, None, _json(_from_hub(name))))


def load_tokenizer(facts: BaseFacts) -> PreTrainedTokenizerFast:
    """The base's tokenizer; imports no torch, so the page's process can count tokens."""
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(facts.source, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        told = str(problem).splitlines()[0].rstrip(" .:")
        raise ValueError(f"The tokenizer of {facts.id} can't be read: {told}. It needs a tokenizer.json.") from problem
    if tokenizer.chat_template is None:
        raise ValueError(f"{facts.id} has no chat template, so it can't be taught to chat. "
                         "Choose an instruct model of the Phi-3 family.")
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(name: str, precision: Precision | None = None, device: str | None = None,
              attention: str = "sdpa") -> Base:
    """Load a base for training or chat.

    `precision` defaults to what `usual_precision` says; "nf4" is 4-bit NormalFloat with double quantisation (Dettmers
    et al., 2023). Raises ValueError where the name is refused or the weights can't be read.
    """
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    _check_attention(attention)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it offers a CPU kernel from the Hub; we need none
    facts = base_facts(name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision or usual_precision(facts.shape, device)
    # The public repositories name their old remote code here; the native class is the one that runs, and is saved.
    config = Phi3Config.from_dict({key: value for key, value in facts.config.items() if key != "auto_map"})
    options: dict[str, Any] = {"config": config, "attn_implementation": attention, "trust_remote_code": False}
    if precision == "nf4":
        options |= {"quantization_config": nf4(facts.shape, device), "device_map": {"": device},
                    "dtype": _dtype(usual_precision(facts.shape, device))}
    else:
        options["dtype"] = _dtype(precision)
    try:
        model = Phi3ForCausalLM.from_pretrained(facts.source, **options)
    except OSError as problem:
        raise ValueError(f"The weights of {facts.id} could not be read: {problem}") from problem
    model = _apart_from_its_file(_unpacked(model)) if precision == "nf4" else model.to(device)
    tokenizer = load_tokenizer(facts)
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    return Base(facts, model.eval().requires_grad_(False), tokenizer, precision, _stop_tokens(model, tokenizer))


def usual_precision(shape: Shape, device: str) -> Literal["fp32", "bf16"]:
    """What a base of these sizes is held and computed in: in bf16, as Phi-3's weights are published, everywhere but on
    a processor whose caches hold the whole base, where nothing is won by reading less. `device` is torch's name of one
    or a machine's kind.

    Phi-3-mini at its full size, on two cores: 7.6 GB in place of 15.3 (benchmarks/processor.py).
    """
    return "fp32" if shape.is_small and device == "cpu" else "bf16"


def nf4(shape: Shape, device: str) -> Any:
    """The recipe's 4-bit settings: NF4, double quantisation, and the type in which such a base is computed there."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                              bnb_4bit_compute_dtype=_dtype(usual_precision(shape, device)))


def shell_of(base: Base) -> Phi3ForCausalLM:
    """A second module over the same weights, for whoever must wrap or train it: the base stays as it is.

    Built on `meta` and filled with `load_state_dict(assign=True)`, so that every parameter is shared.
    NF4 layers keep their quantisation state outside the state dict, so there the modules are copied shallowly.
    """
    import copy

    import torch
    from transformers import Phi3ForCausalLM

    if base.precision == "nf4":
        weights = {id(value): value for value in (*base.model.parameters(), *base.model.buffers())}
        return copy.deepcopy(base.model, memo=weights)
    with torch.device("meta"):
        # Whoever trains the shell may write into its config.
        shell = Phi3ForCausalLM(copy.deepcopy(base.model.config))
    shell.load_state_dict(base.model.state_dict(), assign=True)
    # Rotary frequencies are computed, not saved; the shell takes the base's own.
    shell.model.rotary_emb = copy.deepcopy(base.model.model.rotary_emb)
    shell.generation_config = copy.deepcopy(base.model.generation_config)
    return shell.eval().requires_grad_(False)


def with_attention(base: Base, attention: str) -> Base:
    """The same weights, attended over in another way; the base itself where it does so already."""
    if base.model.config._attn_implementation == attention:
        return base
    _check_attention(attention)
    shell = shell_of(base)
    shell.set_attn_implementation(attention)
    return replace(base, model=shell)


def quantised(base: Base) -> Base:
    """The base in 4 bits, made from its own weights where they are: nothing is read from a disk.

    The layers become what `load_base(…, "nf4")` gives; embedding, norms and head are shared with the base.
    """
    import copy

    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers import Phi3ForCausalLM
    from transformers.quantizers import AutoHfQuantizer

    device = base.model.device
    quantizer = AutoHfQuantizer.from_config(nf4(base.facts.shape, device.type), pre_quantized=False)
    with torch.device("meta"):
        model = Phi3ForCausalLM(copy.deepcopy(base.model.config))
    quantizer.preprocess_model(model, device_map={"": device})
    weights = base.model.state_dict()
    for name, layer in model.named_modules():
        if isinstance(layer, Linear4bit):
            whole = weights.pop(f"{name}.weight")
            layer.weight = Params4bit(whole, requires_grad=False, **vars(layer.weight)).to(device)
    model.load_state_dict(weights, assign=True, strict=False)
    model.model.rotary_emb = copy.deepcopy(base.model.model.rotary_emb)
    model.generation_config = copy.deepcopy(base.model.generation_config)
    model.hf_quantizer = quantizer
    quantizer.postprocess_model(model)
    return replace(base, model=_unpacked(model).eval().requires_grad_(False), precision="nf4")


def expanded(base: Base) -> Base:
    """A 4-bit base with its weights made whole once, in the type that they are computed in: the numbers with which
    bitsandbytes multiplies, which makes them anew in every pass. What isn't quantised is shared with the base.
    """
    import copy

    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit
    from transformers import Phi3ForCausalLM

    layers = {name: layer for name, layer in base.model.named_modules() if isinstance(layer, Linear4bit)}
    weights = {name: value for name, value in base.model.state_dict().items()
               if not any(name.startswith(f"{layer}.") for layer in layers)}
    for name, layer in layers.items():
        whole = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        weights[f"{name}.weight"] = whole.to(layer.compute_dtype)
    config = copy.deepcopy(base.model.config)
    del config.quantization_config
    with torch.device("meta"):
        model = Phi3ForCausalLM(config)
    model.load_state_dict(weights, assign=True)
    model.model.rotary_emb = copy.deepcopy(base.model.model.rotary_emb)
    model.generation_config = copy.deepcopy(base.model.generation_config)
    precision = usual_precision(base.facts.shape, base.model.device.type)
    return replace(base, model=model.eval().requires_grad_(False), precision=precision)


def _check_attention(attention: str) -> None:
    """ValueError where the package for this way to attend isn't installed."""
    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise ValueError("attn_implementation is flash_attention_2, and its package, flash-attn, isn't installed here. "
                         "Choose sdpa, or install it: pip install flash-attn.")


def _unpacked(model: Phi3ForCausalLM) -> Phi3ForCausalLM:
    """Keep bitsandbytes from repacking 4-bit weights in place at the first evaluation on some CPUs.

    On a CPU with avx512_bf16 it would change the resident weights, and the backward pass after that is wrong
    (cosine -0.3 to the true gradients with 0.50.2): a run that evaluates before it trains would learn noise.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def _apart_from_its_file(model: Phi3ForCausalLM) -> Phi3ForCausalLM:
    """Copy what wasn't quantised: on a CPU it lies in the file, all of which would be kept in memory by it."""
    for value in (*model.parameters(), *model.buffers()):
        if value.device.type == "cpu" and value.is_floating_point():
            value.data = value.data.clone()
    return model


def _dtype(precision: Literal["fp32", "bf16"]) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def _stop_tokens(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Where an answer ends: what generation_config.json lists, the end of text, and Phi-3's `<|end|>`."""
    listed = model.generation_config.eos_token_id
    listed = listed if isinstance(listed, list) else [listed]
    end = tokenizer.get_added_vocab().get("<|end|>")
    return tuple(sorted({token for token in (*listed, tokenizer.eos_token_id, end) if token is not None}))


def _checked(facts: BaseFacts) -> BaseFacts:
    kind = facts.config.get("model_type")
    if kind == "phi3":
        return _with_sizes(facts)
    why = _REFUSALS.get(str(kind), f"Its config says model_type {kind}.")
    raise ValueError(f"{facts.id} can't be used: {why} Choose a model whose config says model_type phi3, "
                     f"such as {PHI3_MINI} or {EMBEDDED}.")


def _with_sizes(facts: BaseFacts) -> BaseFacts:
    unsaid = [name for name in _SIZES if type(facts.config.get(name)) is not int]
    if unsaid:
        raise ValueError(f"{facts.id} can't be used: its config.json doesn't say its {unsaid[0]}. Save the model "
                         "again, or fetch it whole.")
    return facts


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        if not _is_cached(name) and not _hub_answers():
            raise LocalEntryNotFoundError(name)  # without a network its own retries would take half a minute
        return Path(hf_hub_download(name, "config.json"))
    except HFValidationError:
        raise ValueError(f"There is no folder {name}, and it can't be a Hub id (owner/name).") from None
    except LocalEntryNotFoundError:
        raise ValueError(f"There is no folder {name}, and the Hub can't be reached to look for a model of that "
                         f"name. {EMBEDDED} works without a network.") from None
    except (RepositoryNotFoundError, OSError) as problem:
        raise ValueError(f"No model {name} on the Hub: {str(problem).splitlines()[0]}") from None


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _hub_answers() -> bool:
    """Whether the Hub can be reached at all; whatever it answers will do."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS_FOR_THE_HUB)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(f"{path} can't be read as JSON: {problem}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no object, so it is no model's. Save the model again, or fetch it whole.")
    return value
