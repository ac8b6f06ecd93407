"""Every setting of a run, declared once, with its label, help and limits; form, command line and table follow."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

METHODS = ("lora", "qlora", "loralib")
LINEAR_LAYERS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
# Trackers that transformers can report to, by its names (transformers 5.24, integration_utils.INTEGRATION_TO_CALLBACK),
# without flyte and kubeflow, which join by themselves where they run.
TRACKERS = ("azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "mlflow", "neptune", "swanlab",
            "tensorboard", "trackio", "wandb")


@dataclass(frozen=True)
class Setting:
    """What form, command line and README need to know of one field of `RunConfig`."""

    name: str
    type: type
    default: Any
    label: str
    help: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...] | None
    group: Literal["run", "main", "training", "lora"]

    @property
    def called(self) -> str:
        """As a sentence names it, on the page and in the terminal: "Rank (r)", "Epochs (num_train_epochs)"."""
        label = self.label.split(" (")[0]
        return label if label.lower().replace(" ", "_") == self.name else f"{label} ({self.name})"


def _setting(default: Any, label: str, help: str, group: str, low: float | None = None,
             high: float | None = None, choices: tuple[str, ...] | None = None) -> Any:
    about = {"label": label, "help": help, "group": group, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class RunConfig:
    """What was asked for. TRL's and PEFT's own names; immutable; plain values only.

    `RunConfig.from_settings` is the door: it converts, checks and explains. Groups: `run` (what is trained),
    `main` (the few that matter), `training` (TRL's `SFTConfig`), `lora` (PEFT's `LoraConfig`).
    """

    name: str = _setting("", "Name", "What the adapter will be called. Empty: a name is made from the data.", "run")
    base: str = _setting("phi3/tiny", "Base model", "A Hub id or a folder whose config says model_type phi3.", "run")
    method: str = _setting("lora", "Method", "lora keeps the base as it is; qlora holds it in 4 bits (NF4): "
                           "a quarter of the memory, a little slower; loralib trains the layers of the library that "
                           "LoRA began with.", "run", choices=METHODS)

    start_from: str = _setting("", "Start from", "An adapter to train further: its name in the Chat tab, or owner/name "
                               "on the Hub; its rank and layers are kept. Empty: a fresh one.", "run")

    num_train_epochs: float = _setting(3.0, "Epochs", "How often each conversation is seen.", "main", 0.01, 1000)
    learning_rate: float = _setting(2e-4, "Learning rate", "How far each step moves the adapter. Unset, it follows "
                                    "from the base's width.", "main", 1e-7, 0.1)
    r: int = _setting(16, "Rank (r)", "How much the adapter can hold.", "main", 1, 512)
    max_length: int = _setting(1024, "Longest conversation (tokens)", "What is longer is cut at its end.", "main",
                               16, 131072)

    max_steps: int = _setting(-1, "Steps at most", "Overrides epochs when above zero; -1 leaves it to epochs.",
                              "training", -1, 10_000_000)
    per_device_train_batch_size: int = _setting(8, "Batch size", "Conversations per forward pass.", "training",
                                                1, 4096)
    gradient_accumulation_steps: int = _setting(1, "Gradient accumulation", "Forward passes per optimizer step.",
                                                "training", 1, 4096)
    warmup_steps: float = _setting(0.1, "Warm-up", "Steps in which the learning rate rises; below 1 it is a share "
                                   "of all steps.", "training", 0, 1_000_000)
    lr_scheduler_type: str = _setting("cosine", "Schedule", "How the learning rate falls after warm-up.", "training",
                                      choices=("cosine", "linear", "constant_with_warmup", "constant"))
    weight_decay: float = _setting(0.0, "Weight decay", "Pulls the adapter's weights to zero.", "training", 0, 1)
    max_grad_norm: float = _setting(1.0, "Gradient clipping", "The longest gradient that a step may use.", "training",
                                    0, 1000)
    bf16: bool = _setting(False, "bf16", "Compute in bfloat16: right for all but a small base on a CPU.", "training")
    gradient_checkpointing: bool = _setting(False, "Gradient checkpointing", "Less memory for up to a third more time: "
                                            "no more blocks compute twice than it takes.", "training")
    attn_implementation: str = _setting("sdpa", "Attention", "How attention is computed.", "training",
                                        choices=("sdpa", "eager", "flash_attention_2"))
    held_out: float = _setting(0.1, "Held-out share", "Conversations kept from training, to measure what was "
                               "learned. 0 trains on all.", "training", 0, 0.5)
    logging_steps: int = _setting(1, "Log every (steps)", "How often the loss is drawn.", "training", 1, 1_000_000)
    eval_steps: int = _setting(25, "Evaluate every (steps)", "How often held-out loss is measured and the model "
                               "says something.", "training", 1, 10_000_000)
    early_stopping: int = _setting(0, "Stop early after (evaluations)", "Ends the run when held-out loss hasn't fallen "
                                   "for so many evaluations, and goes back to where it was lowest. 0: never.",
                                   "training", 0, 1000)
    save_steps: int = _setting(100, "Checkpoint every (steps)", "How often the adapter so far is saved.", "training",
                               1, 10_000_000)
    seed: int = _setting(42, "Seed", "The same seed gives the same run.", "training", 0, 2**32 - 1)
    report_to: str = _setting("none", "Report to", "Where the run's numbers go besides: none, or names of trackers "
                              "separated by commas, such as trackio, tensorboard or wandb. Their packages must be "
                              "installed.", "training")

    lora_alpha: int = _setting(32, "LoRA alpha", "The adapter counts alpha / r times.", "lora", 1, 4096)
    lora_dropout: float = _setting(0.05, "LoRA dropout", "Share of inputs that the adapter doesn't see in training.",
                                   "lora", 0, 0.9)
    target_modules: str = _setting("all-linear", "Layers", "all-linear, or names separated by commas: "
                                   + ", ".join(LINEAR_LAYERS) + ".", "lora")
    use_rslora: bool = _setting(False, "rsLoRA", "The adapter counts alpha / √r times instead, so that high ranks "
                                "learn as fast as low ones; an alpha of 2·√r is then as strong as usual.", "lora")
    use_dora: bool = _setting(False, "DoRA", "Also learns how large each output of a layer is, beside the direction "
                              "that LoRA turns it to: often better at low ranks. A step takes up to twice as long, "
                              "much less without dropout, and chatting is slower too.", "lora")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "RunConfig":
        """Convert and check what a form, a command line or a file gave; ValueError says what to change."""
        config = cls(**converted(settings))
        config.layers()
        config.trackers()
        if config.use_dora and config.method == "loralib":
            raise ValueError("use_dora is on, and loralib's layers know no DoRA. Choose the method lora or qlora, or "
                             "leave DoRA out.")
        return config

    def layers(self) -> str | list[str]:
        """`target_modules` as PEFT takes it: "all-linear" or a list. ValueError names a layer Phi-3 hasn't."""
        if self.target_modules.strip() == "all-linear":
            return "all-linear"
        names = [name.strip() for name in self.target_modules.split(",") if name.strip()]
        strange = [name for name in names if name not in LINEAR_LAYERS]
        if strange or not names:
            raise ValueError(f"{SETTINGS['target_modules'].called} is {self.target_modules!r}, but Phi-3's layers are "
                             f"{', '.join(LINEAR_LAYERS)} (or all-linear for all of them).")
        return names

    def trackers(self) -> list[str]:
        """`report_to` as transformers takes it; empty for none. ValueError names a tracker that it doesn't know."""
        names = [name.strip() for name in self.report_to.split(",") if name.strip()]
        if names in ([], ["none"]):
            return []
        strange = [name for name in names if name not in TRACKERS]
        if strange:
            raise ValueError(f"report_to is {self.report_to!r}, and must be none, or of these: {', '.join(TRACKERS)}.")
        return names

    @property
    def continues(self) -> bool:
        """Whether it trains an adapter further, with which it is compared then, and not with the base."""
        return bool(self.start_from)

    def training_config(self) -> dict[str, Any]:
        """The recipe's first dictionary: keyword arguments of TRL's `SFTConfig`. Trackers know the run by its name."""
        asked = {name: getattr(self, name) for name in SETTINGS if name in _TRL}
        steps, trackers = asked.pop("max_steps"), self.trackers()
        return {
            **asked,
            **({"max_steps": steps} if steps > 0 else {}),
            "assistant_only_loss": True,
            "eval_strategy": "steps" if self.held_out else "no",
            "save_strategy": "steps",
            "data_seed": self.seed,
            "report_to": trackers or "none",
            **({"run_name": self.name} if trackers and self.name else {}),
        }

    def peft_config(self) -> dict[str, Any]:
        """The recipe's second dictionary: keyword arguments of PEFT's `LoraConfig`."""
        asked = {name: getattr(self, name) for name in ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")}
        return {**asked, "target_modules": self.layers(), "bias": "none", "task_type": "CAUSAL_LM"}

    def settings(self) -> dict[str, Any]:
        """All fields as plain values, in the order of declaration."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        """The file that `python -m training run FILE.yaml` reads."""
        import yaml

        return yaml.safe_dump(self.settings(), sort_keys=False)


def _described(one: dataclasses.Field) -> Setting:
    about = one.metadata
    return Setting(one.name, type(one.default), one.default, about["label"], about["help"], about["low"],
                   about["high"], about["choices"], about["group"])


SETTINGS: dict[str, Setting] = {one.name: _described(one) for one in dataclasses.fields(RunConfig)}

# What TRL is told under its own name; the rest is PEFT's or the studio's.
_TRL = ("num_train_epochs", "learning_rate", "max_length", "max_steps", "per_device_train_batch_size",
        "gradient_accumulation_steps", "warmup_steps", "lr_scheduler_type", "weight_decay", "max_grad_norm", "bf16",
        "gradient_checkpointing", "logging_steps", "eval_steps", "save_steps", "seed")

def count_held_out(count: int, share: float) -> int:
    """How many of so many conversations are held out: where any are, one at least, and never the last."""
    return min(max(round(count * share), 1), max(count - 1, 0)) if share else 0


def converted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given, each as its own type and within its limits; None is left out. ValueError names what
    is unknown, or is no value for its setting.
    """
    settings = _in_todays_names(settings)
    unknown = [name for name in settings if name not in SETTINGS]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), SETTINGS, n=1)
        hint = f" Did you mean {near[0]}?" if near else " See `python -m training run --help` for the list."
        raise ValueError(f"There is no setting named {unknown[0]}.{hint}")
    return {name: _converted(SETTINGS[name], value) for name, value in settings.items() if value is not None}


def value_in_words(value: Any) -> str:
    """A setting's value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != "" else "none"


def in_digits(value: float, digits: int) -> str:
    """A number with so many digits that count, and all of its whole ones: 1.67, 20,000 and never 2e+04."""
    words = f"{value:,.{digits}g}"
    return f"{value:,.0f}" if "e+" in words else words


def _in_todays_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's `warmup_ratio` left transformers 5; `warmup_steps` below 1 says the same."""
    renamed = dict(settings)
    ratio = renamed.pop("warmup_ratio", None)
    if ratio is not None:
        renamed["warmup_steps"] = ratio
    layers = renamed.get("target_modules")
    if isinstance(layers, (list, tuple)):
        renamed["target_modules"] = ", ".join(str(layer) for layer in layers)
    return renamed


_SPOKEN = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _converted(setting: Setting, value: Any) -> Any:
    if setting.type is str:
        return _chosen(setting, str(value))
    if setting.type is bool:
        spoken = _SPOKEN.get(str(value).strip().lower())
        if spoken is None:
            raise _refused(setting, repr(value), "true or false")
        return spoken
    return _number(setting, value)


def _chosen(setting: Setting, value: str) -> str:
    if setting.choices and value not in setting.choices:
        raise _refused(setting, repr(value), f"one of: {', '.join(setting.choices)}")
    return value


def _number(setting: Setting, value: Any) -> float | int:
    kind = "a whole number" if setting.type is int else "a number"
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _refused(setting, f"{value!r:.60}", kind) from None
    if isinstance(value, bool) or not math.isfinite(number) or (setting.type is int and number != int(number)):
        raise _refused(setting, repr(value), kind)
    if not setting.minimum <= number <= setting.maximum:
        low, high = (f"{int(bound):,}" if setting.type is int else f"{bound:g}"
                     for bound in (setting.minimum, setting.maximum))
        raise _refused(setting, value, f"between {low} and {high}")
    if setting.name == "max_steps" and number == 0:
        raise ValueError(f"{setting.called} is 0, and would train nothing. Use -1 to train by epochs.")
    return setting.type(number)


def _refused(setting: Setting, shown: Any, allowed: str) -> ValueError:
    return ValueError(f"{setting.called} is {shown}, and must be {allowed}.")
