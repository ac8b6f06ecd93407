"""How each method puts LoRA into a base's shell, what of it a checkpoint holds, and how that becomes an adapter."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from adapters.layers import shape_of
from adapters.library import WEIGHTS
from phi3.models import Base, shell_of
from training.config import LINEAR_LAYERS, RunConfig


class Method(Protocol):
    """What a trainer needs to know of a method. `keeps_itself`: a checkpoint is written by `keep`, not by the model."""

    peft_config: Any
    keeps_itself: bool

    def model(self) -> Any:
        """What is trained: a shell of the base, whose own tensors stay as they are."""

    def keep(self, model: Any, folder: Path) -> None:
        """Write what a checkpoint needs of the model: the LoRA weights alone."""

    def load(self, model: Any, folder: Path) -> None:
        """Put the LoRA weights of a checkpoint into the model, in the dtype that they are trained in."""

    def begin_from(self, model: Any, adapter: Path) -> None:
        """Start from an adapter in PEFT's format instead of a fresh one."""

    def write_adapter(self, model: Any, folder: Path) -> None:
        """The adapter in PEFT's format, naming the base by its canonical id; whole or not at all."""


def method_of(config: RunConfig, base: Base) -> Method:
    """The method that the run asks for, on this base."""
    return Loralib(config, base) if config.method == "loralib" else Peft(config, base)


class Peft:
    """lora and qlora: PEFT's layers, which TRL puts around the base's."""

    keeps_itself = False

    def __init__(self, config: RunConfig, base: Base) -> None:
        from peft import LoraConfig

        self.base = base
        self.peft_config = LoraConfig(**config.peft_config())

    def model(self) -> Any:
        return shell_of(self.base)

    def keep(self, model: Any, folder: Path) -> None:
        model.save_pretrained(folder)

    def load(self, model: Any, folder: Path) -> None:
        """In place. PEFT's `load_adapter`, which is called otherwise, makes the weights anew in float32, and a QLoRA
        run that TRL trains in bf16 would go on as another one.
        """
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(model, load_file(folder / WEIGHTS))

    def begin_from(self, model: Any, adapter: Path) -> None:
        """By the layers that its tensors name, as the check and the chat read them: PEFT says nothing of a tensor that
        is spelled otherwise, and would leave the fresh one in its place.
        """
        from peft import set_peft_model_state_dict

        from adapters.formats import read_peft

        pairs = read_peft(adapter, shape_of(self.base.facts.config)).pairs
        weights = {name: value for path, pair in pairs.items() for name, value in pair.weights(path).items()}
        set_peft_model_state_dict(model, weights)

    def write_adapter(self, model: Any, folder: Path) -> None:
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        with _arriving(folder) as arriving:
            weights = get_peft_model_state_dict(model, save_embedding_layers=False)
            save_file({name: value.contiguous().cpu() for name, value in weights.items()}, arriving / WEIGHTS,
                      metadata={"format": "pt"})
            config = copy.copy(model.peft_config["default"])
            config.base_model_name_or_path, config.revision = self.base.facts.id, self.base.facts.revision
            config.inference_mode = True
            # PEFT spells "all-linear" out as full paths; other servers know layers by their last name.
            config.target_modules = sorted({name.rsplit(".", 1)[-1] for name in config.target_modules})
            config.save_pretrained(arriving)


class Loralib:
    """loralib: the library's own layers take the place of Phi-3's, only what is LoRA's is trainable, a checkpoint is
    `lora_state_dict` alone, and loading is `strict=False` after the base (Hu et al., "LoRA", 2021).
    """

    peft_config = None
    keeps_itself = True

    def __init__(self, config: RunConfig, base: Base) -> None:
        from adapters.loralib_layers import layers_for

        self.config, self.base, self.shape = config, base, shape_of(base.facts.config)
        named = config.layers()
        # loralib divides alpha by the rank and knows of no root.
        alpha = config.lora_alpha * (math.sqrt(config.r) if config.use_rslora else 1)
        self.layers = layers_for(self.shape, LINEAR_LAYERS if named == "all-linear" else named, config.r, alpha)

    def model(self) -> Any:
        from adapters.loralib_layers import put_loralib

        return put_loralib(shell_of(self.base), self.layers, self.config.lora_dropout)

    def keep(self, model: Any, folder: Path) -> None:
        from adapters.loralib_files import write_checkpoint

        held = folder / "loralib"
        shutil.rmtree(held, ignore_errors=True)
        write_checkpoint(self._checkpoint(model), held)

    def load(self, model: Any, folder: Path) -> None:
        from adapters.loralib_files import read_checkpoint

        self._put(model, read_checkpoint(folder / "loralib", self.shape))

    def begin_from(self, model: Any, adapter: Path) -> None:
        from adapters.formats import fused, read_peft
        from adapters.loralib_files import checkpoint_of

        made = checkpoint_of(fused(read_peft(adapter, self.shape), self.shape), self.shape)
        self._put(model, replace(made, weights={name: self._divided(made, name) for name in made.weights}))

    def write_adapter(self, model: Any, folder: Path) -> None:
        from adapters.formats import fused, write_peft
        from adapters.loralib_files import lora_of

        lora = lora_of(self._checkpoint(model), self.base.facts.id, self.base.facts.revision)
        shutil.rmtree(folder, ignore_errors=True)
        write_peft(fused(lora, self.shape), folder, self.shape)

    def _divided(self, made: Any, name: str) -> Any:
        """The weight as this run's layer takes it: PEFT's one A for q, k and v becomes one for each of them."""
        path, _, which = name.rpartition(".")
        ours, theirs = self.layers.get(path), made.layers[path]
        is_divided = ours is not None and ours.kind == "MergedLinear" and theirs.kind == "Linear"
        value = made.weights[name]
        return value.repeat(len(ours.enable_lora), 1) if is_divided and which == "lora_A" else value

    def _checkpoint(self, model: Any) -> Any:
        from adapters.loralib_files import Checkpoint
        from adapters.loralib_layers import lora_weights

        return Checkpoint(lora_weights(model), self.layers, self.base.facts.id, self.base.facts.revision)

    def _put(self, model: Any, checkpoint: Any) -> None:
        from adapters.loralib_layers import load_lora_weights

        loaded = load_lora_weights(model, checkpoint.weights)
        if loaded.missing or loaded.unexpected:
            raise ValueError(f"The loralib checkpoint doesn't fit this run's layers. {loaded.sentence()}")


@contextmanager
def _arriving(folder: Path) -> Iterator[Path]:
    """A folder that takes the other's place when everything is in it."""
    arriving = folder.with_name(f".{folder.name}.arriving")
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    yield arriving
    shutil.rmtree(folder, ignore_errors=True)
    arriving.rename(folder)
