"""Which data another program means: an example, a text, an uploaded file or a dataset on the Hub, and its columns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from tabs.data_source import source_from
from tabs.parameters import parameter, spelled_out
from tabs.studio import Studio
from training.data import ChatData, example_names, last, source_of
from training.shapes import Columns

# What may be said of the data in a call, and what it means; all of it text but the file.
SAID = {
    "example": "The name of an example: pirate, json or shop.",
    "text": "The text of a JSONL file, instead.",
    "file": "An uploaded file, instead: JSONL, JSON, CSV, TSV, Parquet, xlsx, gz or zip.",
    "hub": "A dataset on the Hub, instead: OWNER/NAME or its page's address.",
    "subset": "Of a dataset on the Hub: its configuration. Empty: its only or default one.",
    "split": "Of a dataset on the Hub: its split. Empty: the one for training.",
    "prompt_column": "The column that holds the prompts, where the columns' names don't say it.",
    "answer_column": "The column that holds the answers; both or neither.",
}


def with_data(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call as programs see it: instead of `**data` a parameter for each way to say which data is meant."""
    *own, _ = inspect.signature(call, eval_str=True).parameters.values()
    request = [one for one in own if one.name == "request"]
    more = [parameter(name, None, dict | None) if name == "file" else parameter(name, "", str) for name in SAID]
    signature = inspect.Signature([*request, *more, *own[len(request):]], return_annotation=dict)

    def asked(*given: Any, **named: Any) -> Any:
        bound = signature.bind(*given, **named)
        return call(**bound.arguments)

    return spelled_out(asked, call, signature, SAID)


def data_of(studio: Studio, example: str = "", text: str = "", file: dict | None = None, hub: str = "",
            subset: str = "", split: str = "", prompt_column: str = "", answer_column: str = "") -> ChatData:
    """The data that a call means, read as the Train tab reads it; ValueError where there is none, or where it is no
    example and nothing that was uploaded.
    """
    said = {"example": example, "text": text.strip(), "file": file, "hub": hub.strip()}
    given = [name for name, value in said.items() if value]
    if len(given) != 1:
        raise ValueError(f"Which data? Given: {', '.join(given) or 'nothing'}. Give one of {', '.join(said)}.")
    if (subset or split) and not hub:
        raise ValueError("A subset and a split are those of a dataset on the Hub. Give its id as hub.")
    columns = _columns(prompt_column, answer_column)
    if example:
        if example not in example_names():
            raise ValueError(f"There is no example named {example!r}. Give one of {', '.join(example_names())}.")
        return last(studio.shelf.read(source_of(example, columns=columns)))
    place = str(_uploaded(studio, file)) if file else None
    return last(studio.shelf.read(source_from(studio, place, text, [hub, subset, split], columns=columns)))


def _columns(prompt: str, answer: str) -> Columns | None:
    if not prompt and not answer:
        return None
    if not prompt or not answer or prompt == answer:
        raise ValueError(f"prompt_column is {prompt!r} and answer_column {answer!r}. Give two different columns, or "
                         "neither.")
    return Columns(prompt, answer)


def _uploaded(studio: Studio, file: dict) -> Path:
    """The file's place; a path on this machine that nobody uploaded is refused."""
    path = Path(str(file.get("path", ""))).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise ValueError("Only a file that was uploaded can be read here. Upload it first (gradio_client: "
                         "handle_file), or send its text.")
    studio.limits.check_upload(path)
    return path
