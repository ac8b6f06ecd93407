"""The one wrapper around the page's handlers: whatever goes wrong reaches the visitor as a sentence."""

import functools
import inspect
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from phi3.machine import is_disk_full
from tabs import theme

_log = logging.getLogger("studio")
# What a browser would read as markup: Gradio shows the text of a notice as HTML. Callers of the API read it as it is.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_WORD_JOINER = "\u2060"


def plainly(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A ValueError becomes a notice with its own sentence, a full disk one that says so, and anything else one with the
    number of its log entry.
    """
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


def literal(text: str) -> str:
    """The text of a notice, that reads the same where it is shown: an invisible word joiner parts what would be taken
    for a tag or a character reference."""
    return _MARKUP.sub(lambda found: found[0] + _WORD_JOINER, text)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except ValueError as problem:
        raise gr.Error(literal(str(problem)), duration=None, print_exception=False) from problem
    except Exception as problem:
        if is_disk_full(problem):
            raise gr.Error(theme.DISK_FULL, duration=None, print_exception=False) from problem
        number = secrets.token_hex(3)
        _log.exception("Log entry %s", number)
        raise gr.Error(theme.UNEXPECTED.format(number=number), duration=None, print_exception=False) from problem
