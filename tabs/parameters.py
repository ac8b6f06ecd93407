"""A call as other programs see it: for a dataclass or `**more` that it takes, a parameter for each thing to be said."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import update_wrapper, wraps
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

_IN_WORDS = {str: "a text", dict: "an object, a value for each name", list[str]: "a list of texts"}


@dataclass(frozen=True)
class Told:
    """One thing that may be said: its default (`inspect.Parameter.empty` without one), its type and what it means."""

    name: str
    default: Any
    kind: Any
    means: str

    def parameter(self) -> inspect.Parameter:
        """Given by its place or its name: Gradio passes all by their places."""
        return inspect.Parameter(self.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=self.default,
                                 annotation=self.kind)


def told(means: str, default: Any = MISSING) -> Any:
    """A field of a dataclass that a call takes, and what it means."""
    return field(default=default, metadata={"means": means})


def spelled_out(call: Callable[..., Any], more: Sequence[Told] = ()) -> Callable[..., Any]:
    """The call with a parameter for each field of the dataclasses that it takes, and for each of `more` instead of
    `**more`; its docstring says what they mean. What is streamed is announced by the type of one.
    """
    seen = inspect.signature(call, eval_str=True)
    groups: dict[str, tuple[type, list[Told]]] = {}
    parameters: list[inspect.Parameter] = []
    for one in seen.parameters.values():
        if is_dataclass(one.annotation):
            kinds = get_type_hints(one.annotation)
            groups[one.name] = one.annotation, [_told(part, kinds[part.name]) for part in fields(one.annotation)]
            parameters += [part.parameter() for part in groups[one.name][1]]
        elif one.kind is one.VAR_KEYWORD:
            parameters += [part.parameter() for part in more]
        else:
            parameters.append(one)
    is_streamed = inspect.isgeneratorfunction(call)
    returned = get_args(seen.return_annotation)[0] if is_streamed else seen.return_annotation
    signature = inspect.Signature(parameters, return_annotation=returned)

    def bound(given: Sequence[Any], named: dict[str, Any]) -> dict[str, Any]:
        values = dict(signature.bind(*given, **named).arguments)
        for name, (kind, parts) in groups.items():
            values[name] = kind(**{part.name: values.pop(part.name) for part in parts if part.name in values})
        return values

    def streamed(*given: Any, **named: Any) -> Any:
        yield from call(**bound(given, named))

    def answered(*given: Any, **named: Any) -> Any:
        return call(**bound(given, named))

    asked = update_wrapper(streamed if is_streamed else answered, call)
    asked.__signature__ = signature
    asked.__annotations__ = {one.name: one.annotation for one in parameters}
    asked.__doc__ = _explained(inspect.getdoc(call) or "", [*(part for _, parts in groups.values() for part in parts),
                                                            *more])
    return asked


def of_its_kind(call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that was spelled out, which says in a sentence where a text, a list or an object is something else. None
    is what was left out.
    """
    signature = inspect.signature(call)

    @wraps(call)
    def asked(*given: Any, **named: Any) -> Any:
        values = {name: value for name, value in signature.bind(*given, **named).arguments.items()
                  if value is not None or signature.parameters[name].default is inspect.Parameter.empty}
        for name, value in values.items():
            _demand(name, value, signature.parameters[name].annotation)
        return call(**values)

    return asked


def _demand(name: str, value: Any, kind: Any) -> None:
    """ValueError where a value is none of its parameter's kind."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    for one, words in _IN_WORDS.items():
        whole, parts = get_origin(one) or one, get_args(one)
        if one in kinds and not (isinstance(value, whole) and all(isinstance(part, parts) for part in value if parts)):
            raise ValueError(f"{name} is {value!r:.60}, and must be {words}.")


def _told(part: Field, kind: Any) -> Told:
    default = inspect.Parameter.empty if part.default is MISSING else part.default
    return Told(part.name, default, kind, part.metadata["means"])


def _explained(text: str, parts: Sequence[Told]) -> str:
    """A docstring with what its parameters mean, after those that it explains itself."""
    head = [] if "\nParameters:" in text else ["", "Parameters:"]
    return "\n".join([text, *head, *(f"    {part.name}: {part.means}" for part in parts)])
