"""Any run as a short stand-alone TRL script with the recipe's two dictionaries."""

import pprint
from pathlib import Path

from phi3.models import EMBEDDED
from training.config import LINEAR_LAYERS, RunConfig

# Settings, rows and base, in both kinds of script.
_MODEL = '''training_config = {training_config}

peft_config = {peft_config}
{stops_early}
set_seed({seed})
{rows}{embedded}
tokenizer = AutoTokenizer.from_pretrained({base!r}){spared}
model = AutoModelForCausalLM.from_pretrained({base!r}, {model_options})
'''

_SCRIPT = '''"""Fine-tune {base} with {method_name}: the run "{name}", as a script of its own."""

import torch
from datasets import load_dataset
from peft import {peft_import}
from transformers import AutoModelForCausalLM, AutoTokenizer{quantisation_import}, {callback_import}set_seed
from trl import SFTConfig, SFTTrainer
{template_import}
''' + _MODEL + '''{start}trainer = SFTTrainer(
    model=model,
    args=SFTConfig(output_dir={output!r}, use_cpu=not torch.cuda.is_available(), **training_config),
    train_dataset=train,
    eval_dataset={held_out},
    processing_class=tokenizer,{peft_argument}{callbacks}
)
trainer.train()
{evaluate}trainer.save_model({output!r})
'''

_LORALIB = '''"""Fine-tune {base} with loralib: the run "{name}", as a script of its own."""

import math
from pathlib import Path

import loralib
import torch
from datasets import load_dataset
{start_import}from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer
{template_import}
''' + _MODEL + '''

def with_lora(name, layer):
    """loralib's layer over the same weight: q, k and v each on its own where they are equally wide."""
    alpha = peft_config["lora_alpha"] * (math.sqrt(peft_config["r"]) if peft_config["use_rslora"] else 1)
    given = {{"r": peft_config["r"], "lora_alpha": alpha, "lora_dropout": peft_config["lora_dropout"], "bias": False,
             "merge_weights": False, "dtype": layer.weight.dtype}}
    grouped = model.config.num_key_value_heads != model.config.num_attention_heads
    if name.endswith("qkv_proj") and not grouped:
        new = loralib.MergedLinear(layer.in_features, layer.out_features, enable_lora=[True] * 3, **given)
    else:
        new = loralib.Linear(layer.in_features, layer.out_features, **given)
    new.weight = layer.weight
    return new


targets = {targets}
for name, layer in list(model.named_modules()):
    if isinstance(layer, torch.nn.Linear) and name.rsplit(".", 1)[-1] in targets:
        model.set_submodule(name, with_lora(name, layer))
loralib.mark_only_lora_as_trainable(model)
{checkpointing}{start}trainer = SFTTrainer(
    model=model,
    args=SFTConfig(output_dir={output!r}, use_cpu=not torch.cuda.is_available(),
                   **{{**training_config, "save_strategy": "no"}}),
    train_dataset=train,
    eval_dataset={held_out},
    processing_class=tokenizer,
)
trainer.train()
{evaluate}# Load it after the base, with strict=False.
Path({output!r}).mkdir(exist_ok=True)
torch.save(loralib.lora_state_dict(model), Path({output!r}, "lora.pt"))
'''

_FROZEN_ROWS = '''rows = load_dataset("parquet", data_files={data!r}, split="train")
train = rows.filter(lambda row: not row["held_out"]).select_columns("messages")
{held_line}'''

_OWN_ROWS = '''rows = load_dataset("json", data_files={data!r}, split="train")
{split_line}'''


_EMBEDDED = f"""
# {EMBEDDED} is not on the Hub: copy Phi-3 LoRA Studio's folder of that name to where this is run."""

_STOPS_EARLY = """
# Ends where held-out loss didn't fall at {patience} evaluations, and goes back to where it was lowest.
training_config |= {{"metric_for_best_model": "eval_loss", "load_best_model_at_end": True, "save_steps": {steps}}}
"""
_STOPS_NEVER = """
# The run may stop early and go back to where held-out loss was lowest; this script trains to its end.
"""

_LORALIB_START = """# Made of the adapter {name}: python -m adapters convert {folder} start_loralib --to loralib
start, fresh = load_file("start_loralib/lora.safetensors"), model.state_dict()
# Where it has one A for q, k and v, each of them begins with that.
start = {{name: value.repeat(len(fresh[name]) // len(value), 1) for name, value in start.items()}}
model.load_state_dict(start, strict=False)
"""

_SPARED = """
# An answer that says `train: False` is read and not learned: it is written like one, outside of TRL's marks.
tokenizer.chat_template = get_training_chat_template(tokenizer).replace(
    "{%- elif message['role'] == 'assistant' %}",
    "{%- elif message['train'] is false %}{{- '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{%- elif message['role'] == 'assistant' %}")"""


def script_of(config: RunConfig, data: str, spares: bool = False) -> str:
    """The script of a run; `data` is a run's data.parquet (same split as the run) or a JSONL file of messages, and
    `spares` whether some of its answers are read and not learned.
    """
    return (_LORALIB if config.method == "loralib" else _SCRIPT).format(
        base=config.base, name=config.name or "adapter", seed=config.seed,
        method_name="4-bit QLoRA" if config.method == "qlora" else "LoRA",
        quantisation_import=", BitsAndBytesConfig" if config.method == "qlora" else "",
        training_config=_dictionary(config.training_config()), peft_config=_dictionary(config.peft_config()),
        rows=_rows(config, data), model_options=_model_options(config),
        output=f"{config.name or 'adapter'}",
        peft_import="PeftModel" if config.start_from else "LoraConfig", start=_start(config, data),
        peft_argument="" if config.start_from else "\n    peft_config=LoraConfig(**peft_config),",
        held_out="held_out" if config.held_out else "None",
        **_early_stopping(config), embedded=_EMBEDDED if config.base == EMBEDDED else "",
        spared=_SPARED if spares else "",
        template_import="from trl.chat_template_utils import get_training_chat_template\n" if spares else "",
        evaluate="print(trainer.evaluate())\n" if config.held_out else "",
        start_import="from safetensors.torch import load_file\n" if config.start_from else "",
        targets=repr(tuple(LINEAR_LAYERS if config.layers() == "all-linear" else config.layers())),
        checkpointing="model.enable_input_require_grads()\n" if config.gradient_checkpointing else "",
    )


def _early_stopping(config: RunConfig) -> dict[str, str]:
    patience, is_peft = config.early_stopping if config.held_out else 0, config.method != "loralib"
    if not patience or not is_peft:
        return {"stops_early": _STOPS_NEVER if patience else "", "callback_import": "", "callbacks": ""}
    words = _STOPS_EARLY.format(patience=patience, steps=config.eval_steps)
    return {"stops_early": words, "callback_import": "EarlyStoppingCallback, ",
            "callbacks": f"\n    callbacks=[EarlyStoppingCallback(early_stopping_patience={patience})],"}


def _start(config: RunConfig, data: str) -> str:
    """The adapter that is trained further lies beside a run's frozen rows; before there is a run, in the library or on
    the Hub.
    """
    if not config.start_from:
        return ""
    if Path(data).suffix == ".parquet":
        folder, revision, where = str(Path(data).with_name("start")), "", ""
    else:
        folder, _, revision = config.start_from.partition("@")
        where = "" if "/" in folder else f"# Name its folder: `python -m adapters list --json` has {folder}'s.\n"
    if config.method == "loralib":
        return _LORALIB_START.format(name=config.start_from, folder=folder)
    at = f", revision={revision!r}" if revision else ""
    return f"{where}model = PeftModel.from_pretrained(model, {folder!r}{at}, is_trainable=True)\n"


def _rows(config: RunConfig, data: str) -> str:
    if Path(data).suffix == ".parquet":
        held = 'held_out = rows.filter(lambda row: row["held_out"]).select_columns("messages")'
        return _FROZEN_ROWS.format(data=data, held_line=held if config.held_out else "")
    halves = f"halves = rows.train_test_split(test_size={config.held_out}, seed={config.seed})\n" \
             'train, held_out = halves["train"], halves["test"]'
    return _OWN_ROWS.format(data=data, split_line=halves if config.held_out else "train = rows")


def _model_options(config: RunConfig) -> str:
    kind = "torch.bfloat16" if config.bf16 else "torch.float32"
    options = f"dtype={kind}, attn_implementation={config.attn_implementation!r}"
    if config.method != "qlora":
        return options
    return (f"{options},\n    quantization_config=BitsAndBytesConfig(\n"
            "        load_in_4bit=True, bnb_4bit_quant_type=\"nf4\", bnb_4bit_use_double_quant=True,\n"
            f"        bnb_4bit_compute_dtype={kind},\n    ),\n")


def _dictionary(values: dict) -> str:
    return pprint.pformat(values, sort_dicts=False, width=100)
