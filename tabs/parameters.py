"""A call as other programs see it: instead of `**more` a parameter for each thing that may be said."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def spelled_out(asked: Callable[..., Any], call: Callable[..., Any], signature: inspect.Signature,
                said: Mapping[str, str]) -> Callable[..., Any]:
    """`asked`, which stands for `call`, with this signature, and the call's docstring with what each parameter means
    that is not explained there.
    """
    functools.update_wrapper(asked, call)
    asked.__signature__ = signature
    asked.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    asked.__doc__ = "\n".join([inspect.getdoc(call) or "", *(f"    {name}: {means}" for name, means in said.items())])
    return asked


def parameter(name: str, default: Any, kind: Any) -> inspect.Parameter:
    """One that can be given by its place or its name: Gradio passes all by their places."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
