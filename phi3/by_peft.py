"""Adapters that are more than two matrices beside a layer: PEFT's own model of each, which is slower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from phi3.lora_files import opened, whole_layer
from phi3.models import Base, shell_of


def served_by_peft(base: Base, folder: Path) -> Any:
    """PEFT's own model of one adapter, on a shell of the base that shares with it all that the adapter can't write to.
    """
    from peft import PeftModel

    shell = shell_of(base)
    layers = dict(shell.named_modules())
    with opened(folder) as weights:
        for path in {whole_layer(key) for key in weights.keys()} & layers.keys():  # noqa: SIM118 - no dictionary
            # PEFT copies what an adapter brings of such a layer over the weights that it finds.
            layers[path].weight = nn.Parameter(layers[path].weight.detach().clone(), requires_grad=False)
    return PeftModel.from_pretrained(shell, str(folder), is_trainable=False, autocast_adapter_dtype=False).eval()
