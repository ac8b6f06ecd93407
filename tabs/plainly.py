"""The one wrapper around the page's handlers: whatever goes wrong reaches the visitor as a sentence."""

import functools
import inspect
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from tabs import theme

_log = logging.getLogger("studio")


def plainly(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A ValueError becomes a notice with its own sentence; anything else one with the number of its log entry."""
    if inspect.isgeneratorfunction(handler):
        @functools.wraps(handler)
        def streamed(*inputs: Any, **settings: Any) -> Iterator[Any]:
            with _in_words():
                yield from handler(*inputs, **settings)
        return streamed

    @functools.wraps(handler)
    def answered(*inputs: Any, **settings: Any) -> Any:
        with _in_words():
            return handler(*inputs, **settings)
    return answered


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except ValueError as problem:
        raise gr.Error(str(problem), duration=None, print_exception=False) from problem
    except Exception as problem:
        number = secrets.token_hex(3)
        _log.exception("Log entry %s", number)
        raise gr.Error(theme.UNEXPECTED.format(number=number), duration=None, print_exception=False) from problem
