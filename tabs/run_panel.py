"""The second half of the Train tab: one run, followed live or opened again, until it can be compared and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from tabs import code_view, compare_view, evaluation_view, run_view, theme
from tabs.events import Changes, anew, hidden_text
from tabs.looks import Looks
from tabs.progress import Progress, progress_of
from tabs.studio import Studio
from tabs.text import sign_of
from tabs.visitor import Visitor
from training.evaluate import read_evaluation
from training.group import group_of, runs_of
from training.lowest import better_checkpoint
from training.run import Event, Run
from training.script import script_of

SECONDS_BETWEEN_LOOKS = 1
ANNOUNCED = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"


# Of these a run has many, and only its curves and what it says tell of them.
OFTEN = ("step", "evaluated", "sampled")
# Why a run waits for a GPU that is not lent: it could go on without one.
NOT_LENT = ("quota", "refused", "token", "visitor left", "aborted")


@dataclass(frozen=True)
class Standing:
    """How the visitor stands to the run that is shown: whether it is theirs, what they can do with it here, how many
    runs come before it, and those of its group. Where many visitors come, nobody is told where things lie on the disk.
    """

    is_own: bool = True
    can_compare: bool = True
    can_go_elsewhere: bool = False
    before: int = 0
    many_visitors: bool = False
    group: tuple[Run, ...] = ()

    @classmethod
    def of(cls, studio: Studio, visitor: Visitor, run: Run) -> Standing:
        """Of this visitor to this run."""
        is_own, is_on_base = visitor.owns(run), run.config.base == studio.facts.id
        group = group_of(run) if is_own else None
        return cls(is_own, is_own and is_on_base, is_own and studio.is_lent(run.config.base),
                   studio.queue.before(run), studio.many_visitors,
                   tuple(runs_of(group.id, visitor.runs())) if group else ())


def state_in(seen: str) -> str:
    """The run's state in the sign of what is on the page; empty where nothing is."""
    return seen.partition(" ")[0]


@dataclass(frozen=True)
class RunPanel:
    """Components that show a run; `run_id` is the one shown, `seen` its state and the sign of what of it is on the page
    already, `drawn` the sign of its curves. The page itself holds both, so what was sent and never came is sent again.
    `wanted` changes when all of it is to be shown, `gone` says why it can't be any more. `turn` is set while this page
    borrows the GPU for it, turn after turn; `look` is the key of a run that somebody else showed.
    """

    column: gr.Column
    steps: gr.HTML
    heading: gr.HTML
    announced: gr.HTML
    bar: gr.HTML
    group: gr.HTML
    stop: gr.Button
    resume: gr.Button
    new: gr.Button
    ending: gr.HTML
    elsewhere: gr.Button
    better: gr.Button
    compare: gr.Button
    said: gr.HTML
    losses: gr.HTML
    loss_table: gr.HTML
    evaluation: gr.HTML
    speed: gr.HTML
    about: gr.HTML
    code: gr.HTML
    keep: gr.Group
    kept: gr.HTML
    take: gr.Button
    parcel: gr.DownloadButton
    share: gr.Button
    link: gr.HTML
    delete: gr.Button
    sure: gr.Checkbox
    publish: gr.Column
    looks: Looks
    run_id: gr.State
    seen: gr.Textbox
    drawn: gr.Textbox
    wanted: gr.Textbox
    gone: gr.Textbox
    turn: gr.State
    look: gr.State

    def outputs(self) -> list[Component]:
        """Everything that `show` may change."""
        return [*(part for part in vars(self).values() if part is not self.looks), *self.looks.both()]

    def followed(self) -> list[Component]:
        """What `follow` may change."""
        return [self.announced, self.bar, self.said, self.losses, self.loss_table, self.speed, self.drawn, self.wanted]

    def show(self, run: Run, standing: Standing, turn: str = "") -> Changes:
        """All of the run as it is now."""
        now = _Moment.of(run, standing, turn)
        picture = now.picture(run)
        over = picture.over
        rows = "data.parquet" if standing.many_visitors else str(run.folder / "data.parquet")
        return {
            **self._drawn(picture, standing.before),
            self.column: gr.update(visible=True),
            self.steps: run_view.steps_bar(2 if picture.adapter else 1),
            self.heading: run_view.heading(picture, standing.is_own),
            self.group: compare_view.siblings(run, standing.group),
            self.ending: gr.update(value=f'<p class="outcome {now.state}">{run_view.outcome(picture)}</p>',
                                   visible=over),
            **self._choices(picture, standing),
            self.better: _better(run if over and standing.is_own and picture.adapter else None),
            self.evaluation: evaluation_view.evaluation(read_evaluation(run.folder) if picture.adapter else None,
                                                        standing.is_own, over),
            self.about: run_view.about(run, picture, run.log() if over and standing.is_own else ""),
            self.code: code_view.script(script_of(run.config, rows, run.spares)),
            self.kept: run_view.kept(picture, "" if standing.many_visitors else str(run.home)),
            self.link: run_view.link(run.id, run.shared_key(), standing.many_visitors),
            **self.looks.going(not over, may_go_on=True),
            self.run_id: run.id, self.seen: now.seen, self.drawn: now.drawn, self.gone: "",
        }

    def follow(self, run: Run, standing: Standing, seen: str, drawn: str, turn: str = "") -> Changes:
        """Its curves and what it says, as far as `drawn` is not that already; that all of it is wanted where `seen` is
        not what it should be.
        """
        now = _Moment.of(run, standing, turn)
        if now.seen != seen:
            return {self.wanted: anew()}
        if now.drawn == drawn:
            return {self.drawn: drawn}
        return {**self._drawn(now.picture(run), standing.before), self.drawn: now.drawn}

    def _drawn(self, picture: Progress, before: int) -> Changes:
        """What changes with every step."""
        return {self.announced: run_view.announcement(picture), self.bar: run_view.bar(picture, before),
                self.said: run_view.said(picture), self.losses: run_view.losses(picture),
                self.loss_table: run_view.loss_table(picture), self.speed: run_view.speed(picture)}

    def _choices(self, picture: Progress, standing: Standing) -> Changes:
        """The buttons that make sense for this run and this visitor."""
        over, own = picture.over, standing.is_own
        waits = picture.state == "queued"
        not_lent = picture.state == "paused" and picture.ending.get("reason") in NOT_LENT
        return {
            self.stop: gr.update(visible=own and not over, interactive=not picture.stopping,
                                 value=theme.LEAVE_QUEUE if waits else theme.STOP_RUN),
            # What a stopped run learned is there: comparing it comes first then.
            self.resume: gr.update(visible=own and picture.can_go_on,
                                   variant="secondary" if picture.adapter else "primary"),
            self.new: gr.update(visible=over or not own, value=theme.NEW_RUN if own else theme.TRAIN_ONES_OWN),
            self.elsewhere: gr.update(visible=standing.can_go_elsewhere and not_lent),
            self.compare: gr.update(visible=over and standing.can_compare and bool(picture.adapter),
                                    value=theme.COMPARE_CONTINUED if picture.continued else theme.COMPARE),
            self.keep: gr.update(visible=over and own),
            self.publish: gr.update(visible=bool(picture.adapter)),
            self.share: theme.UNSHARE_RUN if picture.shared else theme.SHARE_RUN,
        }


@dataclass(frozen=True)
class _Moment:
    """A run as it is now: `seen` is its state and the sign of what seldom changes, `drawn` the sign of the rest."""

    events: list[Event]
    state: str
    seen: str
    drawn: str

    @classmethod
    def of(cls, run: Run, standing: Standing, turn: str) -> _Moment:
        """While this page takes turns of a GPU, a run between two of them is being prepared."""
        state, events = run.state(), run.course()
        state = "preparing" if turn and is_between_turns(events) else state
        seldom = [event.type for event in events if event.type not in OFTEN]
        seen = sign_of((run.id, seldom, run.is_asked_to_stop(), run.shared_key()))
        return cls(events, state, f"{state} {seen}", sign_of((run.id, len(events), standing.before)))

    def picture(self, run: Run) -> Progress:
        """What its events say."""
        return progress_of(run, self.events, self.state)


def _better(run: Run | None) -> Any:
    """The button that makes an adapter of an earlier checkpoint, where this run has one that is better than its end."""
    found = better_checkpoint(run) if run else None
    return gr.update(visible=bool(found), value=theme.USE_STEP.format(step=found.step) if found else "")


def is_between_turns(events: Sequence[Event]) -> bool:
    """Whether the run waits for nothing but the next turn of a GPU."""
    return bool(events) and events[-1].type == "lease_ended" and events[-1].values["reason"] in ("time", "aborted")


def build() -> RunPanel:
    """Draw the panel, hidden, where this is called."""
    with gr.Column(visible=False, elem_classes="run") as column:
        steps = theme.markup()
        with gr.Row(elem_classes="run-top"):
            heading = theme.markup(elem_id="run-heading", elem_classes="grow", js_on_load="element.tabIndex = -1;")
            stop = gr.Button(theme.STOP_RUN, elem_id="stop-run", elem_classes="fit")
            resume = gr.Button(theme.RESUME_RUN, variant="primary", visible=False, elem_id="resume-run",
                               elem_classes="fit")
            new = gr.Button(theme.NEW_RUN, visible=False, elem_id="new-run", elem_classes="fit")
        announced = theme.markup(js_on_load=ANNOUNCED, elem_classes="heard", elem_id="run-state")
        bar = theme.markup(elem_id="run-bar")
        group = theme.markup(elem_id="run-group")
        with gr.Row(elem_classes="run-ending"):
            ending = theme.markup(visible=False, elem_classes="grow")
            elsewhere = gr.Button(theme.ELSEWHERE, visible=False, elem_id="train-elsewhere", elem_classes="fit")
            better = gr.Button(visible=False, elem_id="use-step", elem_classes="fit")
            compare = gr.Button(theme.COMPARE, variant="primary", size="lg", visible=False, elem_id="compare",
                                elem_classes="fit")
        with gr.Row(elem_classes="split"):
            with gr.Column(scale=7, min_width=320):
                with gr.Column(elem_classes="card"):
                    theme.markup(f'<h3 class="large">{theme.SAYS_NOW}</h3>')
                    said = theme.markup(elem_id="says-now")
                with gr.Column(elem_classes="card", visible=False) as keep:
                    theme.markup(f"<h3>{theme.STEPS[3]}</h3>")
                    kept = theme.markup()
                    with gr.Row(elem_classes="tools"):
                        take = gr.Button(theme.DOWNLOAD_RUN, elem_id="download-run", elem_classes="quiet fit")
                        parcel = gr.DownloadButton(visible="hidden", elem_id="parcel", elem_classes="never-shown")
                        share = gr.Button(theme.SHARE_RUN, elem_id="share-run", elem_classes="quiet fit")
                        delete = gr.Button(theme.DELETE_RUN, elem_id="delete-run", elem_classes="quiet fit")
                        # A state would not take what the browser says.
                        sure = gr.Checkbox(visible="hidden", elem_classes="never-shown")
                    link = theme.markup(elem_id="shared-link", js_on_load=code_view.COPY)
                    publish = gr.Column(visible=False)
            with gr.Column(scale=4, min_width=300, elem_classes="card"):
                losses, loss_table, evaluation, speed, about, code = _numbers()
    hidden = [hidden_text() for _ in ("seen", "drawn", "wanted", "gone")]
    return RunPanel(column, steps, heading, announced, bar, group, stop, resume, new, ending, elsewhere, better,
                    compare, said, losses, loss_table, evaluation, speed, about, code, keep, kept, take, parcel, share,
                    link, delete, sure, publish, Looks.every(SECONDS_BETWEEN_LOOKS), gr.State(""), *hidden,
                    gr.State(""), gr.State(""))


def _numbers() -> tuple[gr.HTML, gr.HTML, gr.HTML, gr.HTML, gr.HTML, gr.HTML]:
    theme.markup(f'<h3>{theme.LOSS_TITLE}</h3><p class="muted">{theme.LOSS_LEAD}</p>')
    losses = theme.markup(elem_id="losses")
    with gr.Accordion(theme.LOSS_TABLE, open=False, elem_classes="fold"):
        loss_table = theme.markup(elem_classes="scroll", js_on_load=SCROLLED)
    with gr.Accordion(theme.EVALUATION, open=False, elem_classes="fold"):
        evaluation = theme.markup(elem_id="evaluation", elem_classes="scroll", js_on_load=SCROLLED)
    with gr.Accordion(theme.SPEED, open=False, elem_classes="fold"):
        speed = theme.markup(elem_classes="scroll", js_on_load=SCROLLED)
    with gr.Accordion(theme.ABOUT_RUN, open=False, elem_classes="fold"):
        about = theme.markup(elem_id="about-run", elem_classes="scroll", js_on_load=SCROLLED)
    with gr.Accordion(theme.CODE, open=False, elem_classes="fold"):
        theme.markup(f'<p class="muted">{theme.RUN_CODE_LEAD}</p>')
        code = theme.markup(js_on_load=code_view.COPY)
    return losses, loss_table, evaluation, speed, about, code


# A part that scrolls by itself must be reachable by keyboard, and says which one it is.
SCROLLED = """element.tabIndex = 0; element.setAttribute('role', 'region');
element.setAttribute('aria-label', element.closest('.fold').querySelector('button > span').innerText);"""
