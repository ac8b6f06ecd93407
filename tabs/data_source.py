"""Where one's own data comes from: files, a paste, a dataset on the Hub; and which of its columns are what."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import theme
from tabs.events import Changes
from tabs.studio import Studio
from training.columns import Columns
from training.data import Source, UnknownColumns, source_of
from training.hub_data import USUAL_ROWS, HubRows, hub_id
from training.reading.containers import SUFFIXES


@dataclass(frozen=True)
class OwnPart:
    """The components of one's own data.

    `hub` holds what was asked of the Hub with the button, so that a half typed id asks nothing; `columns` which columns
    were chosen, and for which data.
    """

    column: gr.Column
    file: gr.File
    text: gr.Textbox
    id: gr.Textbox
    config: gr.Textbox
    split: gr.Textbox
    read: gr.Button
    no_repeats: gr.Checkbox
    asking: gr.Column
    prompt_column: gr.Dropdown
    answer_column: gr.Dropdown
    use: gr.Button
    hub: gr.State
    columns: gr.State

    def inputs(self) -> dict[str, Component]:
        """What says which data this is, by argument of `own_source`."""
        return {"file": self.file, "text": self.text, "hub": self.hub, "columns": self.columns,
                "no_repeats": self.no_repeats}

    def asked(self, problem: UnknownColumns) -> Changes:
        """The two choices, filled with the best guess."""
        return {self.asking: gr.update(visible=True),
                self.prompt_column: gr.update(choices=list(problem.columns), value=problem.guess.prompt),
                self.answer_column: gr.update(choices=list(problem.columns), value=problem.guess.answer)}


def build() -> OwnPart:
    """Draw this source, hidden, where this is called."""
    with gr.Column(visible=False, elem_classes="own-data") as column:
        file = gr.File(label=theme.UPLOAD, file_types=list(SUFFIXES), file_count="multiple", type="filepath",
                       height=120, elem_id="upload")
        text = gr.Textbox(label=theme.PASTE, info=theme.OWN_HINT, placeholder=theme.PASTE_HINT, lines=3, max_lines=8,
                          elem_id="paste")
        with gr.Accordion(theme.HUB, open=False, elem_classes="fold"):
            id = gr.Textbox(label=theme.HUB_ID, info=theme.HUB_ID_HINT, max_lines=1, elem_id="hub-id")
            config = gr.Textbox(label=theme.HUB_CONFIG, info=theme.HUB_OPTIONAL, max_lines=1, elem_id="hub-config")
            split = gr.Textbox(label=theme.HUB_SPLIT, info=theme.HUB_OPTIONAL, max_lines=1, elem_id="hub-split")
            read = gr.Button(theme.HUB_READ, elem_id="hub-read", elem_classes="fit")
        no_repeats = gr.Checkbox(label=theme.NO_REPEATS, value=False, elem_id="no-repeats")
        with gr.Column(visible=False, elem_id="columns", elem_classes="asking") as asking:
            theme.markup(f'<h3>{theme.COLUMNS_TITLE}</h3><p class="muted">{theme.COLUMNS_LEAD}</p>')
            with gr.Row(elem_classes="numbers-row"):
                prompt, answer = (gr.Dropdown([], label=label, allow_custom_value=True, elem_id=id_)
                                  for label, id_ in ((theme.PROMPT_COLUMN, "prompt-column"),
                                                     (theme.ANSWER_COLUMN, "answer-column")))
            use = gr.Button(theme.USE_COLUMNS, variant="primary", elem_id="use-columns", elem_classes="fit")
    return OwnPart(column, file, text, id, config, split, read, no_repeats, asking, prompt, answer, use, gr.State(None),
                   gr.State(None))


def own_source(studio: Studio, file: Any = None, text: str | None = None, hub: Any = None, columns: Any = None,
               **more: Any) -> Source:
    """Files before a paste before a dataset on the Hub; ValueError where there is none of them."""
    return source_from(studio, file, text, hub, columns=chosen_columns(file, text, hub, columns),
                       without_repeats=bool(more.get("no_repeats")))


def source_from(studio: Studio, file: Any = None, text: str | None = None, hub: Any = None, **said: Any) -> Source:
    """The same, with what else was said of it: fields of `Source`."""
    said = {**said, "bounds": studio.limits.bounds}
    if file:
        return source_of([file] if isinstance(file, str) else list(file), **said)
    if text and text.strip():
        return Source("pasted text", "paste", text=text, **said)
    if hub:
        rows = min(studio.limits.rows or USUAL_ROWS, USUAL_ROWS)
        asked = HubRows(hub_id(hub[0]), hub[1].strip(), hub[2].strip(), rows, own_token=not studio.many_visitors)
        # `datasets` looks into transformers, and trips where that is still being imported behind the first page.
        studio.tokenizer.result()
        return Source(asked.id, "hub", hub=asked, **said)
    raise ValueError(theme.NO_DATA_YET)


def ask_hub(id: str, config: str, split: str) -> tuple[list[str], None, str]:
    """What is asked of the Hub from now on, instead of files and paste; ValueError where the id is none."""
    return [hub_id(id), config or "", split or ""], None, ""


def choose_columns(prompt: str, answer: str, file: Any, text: str | None, hub: Any) -> dict[str, Any]:
    """The columns of just this data; ValueError where they are one."""
    return {"of": which(file, text, hub), "chosen": list(astuple(columns_of(prompt, answer)))}


def chosen_columns(file: Any, text: str | None, hub: Any, columns: Any) -> Columns | None:
    """Which columns were chosen for this data; None where they were for other data, or none."""
    return Columns(*columns["chosen"]) if columns and columns.get("of") == which(file, text, hub) else None


def columns_of(prompt: str, answer: str) -> Columns:
    """Which column asks and which answers, as somebody said; ValueError where they are not two."""
    if not prompt or not answer or prompt == answer:
        raise ValueError(f"The column of the prompts is {prompt!r} and that of the answers {answer!r}. Give two "
                         "different columns.")
    return Columns(prompt, answer)


def which(file: Any, text: str | None, hub: Any) -> str:
    """One text for the same files, paste or dataset on the Hub."""
    return json.dumps([file or "", "" if file else text or "", "" if file or text else hub or ""])
