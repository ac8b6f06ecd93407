"""The first step of the Train tab: choose what to learn from, and see what the model will read."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import data_rows, data_source, data_view, describe, theme
from tabs.events import AT_ONCE, QUIETLY, Changes, hidden_text, saves
from tabs.form import Form, asked
from tabs.lengths import Lengths
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.text import sign_of
from training.config import RunConfig
from training.data import ChatData, UnknownColumns, example_names, last, source_of
from training.report import Counted, DataReport, report_of

FIRST_EXAMPLE = "pirate"
SECONDS_BETWEEN_SHARES = 0.4
# The settings that the report speaks of.
TOLD_SETTINGS = ("max_length", "num_train_epochs", "max_steps", "held_out")


@dataclass(frozen=True)
class DataStep:
    """The components of this step. `source` is an example's name, DESCRIBED, or OWN_DATA for what `own` holds."""

    source: gr.Radio
    described: describe.DescribePart
    own: data_source.OwnPart
    summary: gr.HTML
    left_out: gr.Accordion
    reasons: gr.HTML
    download: gr.Button
    dropped: gr.Textbox
    long: gr.Accordion
    histogram: gr.HTML
    rows: data_rows.RowsPart
    lengths: gr.State      # `Lengths` of the conversations, uncut; None where there is none

    def inputs(self) -> dict[str, Component]:
        """What says which data is chosen, by argument of `chosen_data`."""
        return {"source": self.source, **self.own.inputs(), **self.described.inputs()}

    def shown(self) -> list[Component]:
        """Everything that a look at the data changes."""
        own = self.own
        return [own.column, own.asking, own.prompt_column, own.answer_column, self.described.column, self.summary,
                self.left_out, self.reasons, self.long, self.histogram, self.rows.looked, self.lengths]


def chosen_data(studio: Studio, **chosen: Any) -> ChatData:
    """The data that the visitor chose; ValueError says what is wrong with it."""
    return last(_reading(studio, **chosen))


def counted_data(studio: Studio, **chosen: Any) -> tuple[ChatData, Counted]:
    """The same, and how many tokens its conversations have."""
    data = chosen_data(studio, **chosen)
    return data, last(studio.shelf.counted(data, studio.tokenizer.result()))


def build(studio: Studio) -> DataStep:
    """Draw the step where this is called."""
    names = sorted(example_names(), key=lambda name: name != FIRST_EXAMPLE)
    sources = (*names, theme.DESCRIBED, theme.OWN_DATA)
    choices = [(theme.EXAMPLES.get(name, name.capitalize()), name) for name in sources]
    theme.markup(f'<h2 class="step-title"><span aria-hidden="true">1</span>{theme.STEPS[0]}</h2>')
    source = gr.Radio(choices, value=choices[0][1],
                      label=theme.DATA_QUESTION, elem_id="source", elem_classes="cards")
    described = describe.build(studio)
    own = data_source.build()
    summary = theme.markup(f'<p class="empty">{theme.READING}</p>', elem_id="data-summary")
    with gr.Accordion("", open=False, visible=False, elem_classes="fold") as left_out:
        reasons = theme.markup()
        download = gr.Button(theme.DOWNLOAD_DROPPED, elem_id="download-dropped", elem_classes="quiet fit")
        dropped = hidden_text()
    with gr.Accordion(theme.LENGTHS_TITLE, open=False, visible=False, elem_classes="fold") as long:
        histogram = theme.markup(elem_id="histogram")
    return DataStep(source, described, own, summary, left_out, reasons, download, dropped, long, histogram,
                    data_rows.build(), gr.State(None))


def connect(step: DataStep, studio: Studio, form: Form, page: gr.Blocks) -> None:
    """Look at the data again whenever the choice or what the report speaks of changes, and when the page opens."""
    told = {name: form[name] for name in TOLD_SETTINGS}
    meant: dict[str, str] = {}  # for each browser tab where the data lies that its visitor chose last

    @plainly
    def look(request: gr.Request, **given: Any) -> Iterator[Changes]:
        config = _config(studio, {name: given.pop(name) for name in told})
        sources = meant[request.session_hash] = _sources(**given)
        for changes in _looked_at(step, studio, given, config):
            yield changes
            if meant.get(request.session_hash) != sources:
                return  # the look that waits for this one shows what is meant by now

    def turn(request: gr.Request, **given: Any) -> None:
        meant[request.session_hash] = _sources(**given)

    def leave(request: gr.Request) -> None:
        meant.pop(request.session_hash, None)

    quietly = {**QUIETLY, "trigger_mode": "always_last"}
    inputs = {**step.inputs(), **told}
    looking = {"fn": look, "inputs_kwargs": inputs, "outputs": step.shown(), "concurrency_limit": None, **quietly}
    own = step.own
    changed = (step.source, own.file, own.text, own.hub, own.columns, own.no_repeats, *told.values())
    gr.on([page.load, *(part.change for part in changed)], **looking)
    # A look waits for the one before it, which therefore hears by another event that other data is meant.
    sources = {"source": step.source, "file": own.file, "text": own.text, "hub": own.hub}
    gr.on([part.change for part in sources.values()], turn, inputs_kwargs=sources, trigger_mode="multiple", **AT_ONCE)
    page.unload(leave)
    for one in describe.connect(step.described, studio, page):
        one.success(**looking)
    gr.on([own.read.click, own.id.submit], plainly(data_source.ask_hub), [own.id, own.config, own.split],
          [own.hub, own.file, own.text], **quietly)
    own.use.click(plainly(data_source.choose_columns),
                  [own.prompt_column, own.answer_column, own.file, own.text, own.hub], own.columns, **quietly)
    _connect_reading(step, studio, form)


def _connect_reading(step: DataStep, studio: Studio, form: Form) -> None:
    """Other conversations, one by its row, and the rows that are left out as a file."""
    def read(max_length: float | None, **chosen: Any) -> tuple[ChatData, int]:
        return chosen_data(studio, **chosen), _limit(max_length)

    def save(**chosen: Any) -> str:
        out = io.StringIO()
        rows = ((one.file, one.row, one.reason) for one in chosen_data(studio, **chosen).dropped)
        csv.writer(out).writerows([("file", "row", "reason"), *rows])
        return out.getvalue()

    data_rows.connect(step.rows, studio, read, {**step.inputs(), "max_length": form["max_length"]})
    saves(step.download, save, step.dropped, "left-out.csv", inputs_kwargs=step.inputs())


def _reading(studio: Studio, source: str, **chosen: Any) -> Iterator[float | ChatData]:
    own = {name: chosen.pop(name) for name in ("file", "text", "hub", "columns", "no_repeats")}
    if source == theme.DESCRIBED:
        yield describe.chosen(chosen).data()
    elif source == theme.OWN_DATA:
        yield from studio.shelf.read(data_source.own_source(studio, **own))
    elif source in example_names():
        yield from studio.shelf.read(source_of(source))
    else:
        raise ValueError(f"There is no example named {source!r}. Choose one of {', '.join(example_names())}.")


def _looked_at(step: DataStep, studio: Studio, chosen: dict[str, Any], config: RunConfig) -> Iterator[Changes]:
    is_own = chosen["source"] == theme.OWN_DATA
    columns = data_source.chosen_columns(*(chosen[name] for name in ("file", "text", "hub", "columns")))
    parts = {step.own.column: gr.update(visible=is_own),
             step.described.column: gr.update(visible=chosen["source"] == theme.DESCRIBED),
             step.own.asking: gr.update(visible=is_own and columns is not None)}
    try:
        data = counted = None
        for data in _told_now_and_then(_reading(studio, **chosen)):
            if isinstance(data, float):
                yield {**parts, step.summary: data_view.progress(theme.READING, data)}
        for counted in _told_now_and_then(studio.shelf.counted(data, studio.tokenizer.result())):
            if isinstance(counted, float):
                yield {**parts, step.summary: data_view.progress(theme.COUNTING, counted)}
        report = report_of(data, counted, studio.tokenizer.result(), config)
    except UnknownColumns as problem:
        yield {**parts, **_nothing(step, ValueError(theme.NO_COLUMNS_YET)), **step.own.asked(problem)}
    except ValueError as problem:
        yield {**parts, **_nothing(step, problem)}
    else:
        looked = data_rows.Looked(_name_of(chosen), sign_of([chosen, config.max_length]))
        yield {**parts, **_shown(step, (data, counted, report), config.max_length), step.rows.looked: looked}


def _told_now_and_then(steps: Iterator[Any]) -> Iterator[Any]:
    """The same steps, with shares no oftener than a page can show."""
    told = time.monotonic()
    for one in steps:
        if not isinstance(one, float):
            yield one
        elif time.monotonic() - told > SECONDS_BETWEEN_SHARES:
            told = time.monotonic()
            yield one


def _nothing(step: DataStep, problem: ValueError) -> Changes:
    """What is wrong with the data stands where its numbers would stand, and stays there."""
    hidden = gr.update(visible=False)
    words = data_view.problem(str(problem), nothing_yet=str(problem) in theme.NOTHING_YET)
    return {step.summary: words, step.left_out: hidden, step.reasons: "", step.long: hidden, step.histogram: "",
            step.rows.looked: None, step.lengths: None}


def _shown(step: DataStep, found: tuple[ChatData, Counted, DataReport], max_length: int) -> Changes:
    data, counted, report = found
    rows = "1 row is left out" if report.dropped_total == 1 else f"{report.dropped_total:,} rows are left out"
    return {
        step.summary: data_view.summary(data, report),
        step.left_out: gr.update(label=f"{rows}, and why", visible=report.dropped_total > 0),
        step.reasons: data_view.left_out(report.rows_dropped, report.dropped_total),
        step.long: gr.update(visible=True),
        step.histogram: data_view.histogram(report, max_length),
        step.lengths: Lengths.of(counted, data),
    }


def _name_of(chosen: dict[str, Any]) -> str:
    """One name for the same data, however it is read or mended."""
    which = ""
    if chosen["source"] == theme.DESCRIBED:
        which = describe.which(chosen)
    elif chosen["source"] == theme.OWN_DATA:
        which = data_source.which(chosen["file"], chosen["text"], chosen["hub"])
    return sign_of([chosen["source"], which])


def _sources(source: str, file: Any, text: str | None, hub: Any, **more: Any) -> str:
    """One text for the same places that data is read from."""
    return sign_of([source, data_source.which(file, text, hub)])


def _config(studio: Studio, told: dict[str, Any]) -> RunConfig:
    """What is typed may be half a number; the form says so in its own place."""
    try:
        return asked(told, studio.suited)
    except ValueError:
        return RunConfig(max_length=_limit(told["max_length"]))


def _limit(max_length: float | None) -> int:
    return max(int(max_length), 1) if max_length else 1024
