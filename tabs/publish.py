"""Publish an adapter on the Hub: the one of a run, or any that was trained here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from adapters.card import LICENCES, Card, Example, Story, card_of
from adapters.files import CONFIG, read_object
from adapters.hub import repository_name
from adapters.library import Adapter, Library, demand_base
from adapters.publish import Published, publishing
from tabs import code_view, hub, hub_view, signin, theme
from tabs.events import AT_ONCE, Changes
from tabs.hub import Known, Reach, reach_of
from tabs.plainly import plainly
from tabs.progress import progress_of
from tabs.run_panel import ANNOUNCED, RunPanel
from tabs.studio import Studio
from tabs.text import escaped
from tabs.visitor import Visitor, visitor_of

AdapterOf = Callable[[Visitor, str], Adapter]


@dataclass(frozen=True)
class Shown:
    """What a card may show of a run's answers. `are_own`: the questions are the visitor's data."""

    examples: tuple[Example, ...] = ()
    are_own: bool = False


@dataclass(frozen=True)
class PublishPanel:
    """`form` shows when somebody is signed in; `why` says why not, `note` how the name stands, `said` how it goes.
    `made_for` is what it was opened for.
    """

    fold: gr.Accordion
    why: gr.HTML
    form: gr.Column
    name: gr.Textbox
    note: gr.HTML
    visibility: gr.Radio
    licence: gr.Radio
    lead: gr.HTML
    own: gr.Checkbox
    examples: gr.HTML
    card: gr.HTML
    send: gr.Button
    said: gr.HTML
    done: gr.HTML
    snippet: gr.HTML
    made_for: gr.State

    def outputs(self) -> list[Component]:
        """Everything that may change."""
        return list(vars(self).values())

    def asked(self) -> dict[str, Component]:
        """What the form holds, by argument."""
        return {"name": self.name, "licence": self.licence, "own": self.own}

    def closed(self, which: str | None, made_for: str) -> Changes:
        """As it was at first, where another adapter is meant than the one that it was opened for."""
        if made_for in ("", which):
            return {self.made_for: made_for}
        return {self.made_for: "", self.own: False, self.fold: gr.update(open=False),
                self.form: gr.update(visible=False),
                **dict.fromkeys((self.why, self.note, self.said, self.done, self.snippet), "")}


def build_for_run(studio: Studio, panel: RunPanel, keys: gr.BrowserState, known: gr.State) -> None:
    """Draw it into the run's panel."""
    with panel.publish:
        drawn = _drawn(theme.TO_HUB, "publish")
    _connect(drawn, _Asked(studio, panel.run_id, _of_run, keys, known))


def build_for_any(studio: Studio, keys: gr.BrowserState, known: gr.State) -> None:
    """Draw it where this is called, with a choice among the visitor's own adapters."""
    with gr.Accordion(theme.TO_HUB_OWN, open=False, elem_classes="fold", elem_id="publish-another") as fold:
        which = gr.Dropdown([], label=theme.WHICH_ADAPTER, allow_custom_value=True, visible=False,
                            elem_id="publish-which")
        none = theme.markup(elem_id="publish-none")
        with gr.Column(visible=False) as inside:
            drawn = _drawn(theme.TO_HUB, "publish-any")

    def choices(chosen: str | None, kept: Any, request: gr.Request) -> Changes:
        names = own_names(visitor_of(studio, request, kept).library)
        now = chosen if chosen in names else next(iter(names), None)
        return {which: gr.update(choices=names, value=now, visible=bool(names)), inside: gr.update(visible=bool(names)),
                none: "" if names else hub_view.said(theme.NOTHING_TO_PUBLISH)}

    fold.expand(plainly(choices), [which, keys], [which, none, inside], **AT_ONCE)
    _connect(drawn, _Asked(studio, which, _of_library, keys, known))


def own_names(library: Library) -> list[str]:
    """The adapters that were trained here: neither those that ship nor those of the Hub."""
    return [one.name for one in library.all() if not one.shipped and "hub" not in one.provenance]


def _of_run(visitor: Visitor, run_id: str) -> Adapter:
    return visitor.library.get(visitor.run(run_id).config.name)


def _of_library(visitor: Visitor, name: str) -> Adapter:
    if name not in own_names(visitor.library):
        raise ValueError(theme.NOTHING_TO_PUBLISH)
    return visitor.library.get(name)


# ---- The parts -------------------------------------------------------------------------------------------------------


def _drawn(title: str, name: str) -> PublishPanel:
    with gr.Accordion(title, open=False, elem_classes="fold hub-part", elem_id=name) as fold:
        theme.markup(f'<p class="muted">{theme.TO_HUB_LEAD}</p>')
        why = theme.markup(elem_id=f"{name}-why", js_on_load=signin.BRING_BACK)
        with gr.Column(visible=False) as form:
            repository = gr.Textbox(label=theme.REPOSITORY, max_lines=1, elem_id=f"{name}-name",
                                    elem_classes="typed-slowly")
            note = theme.markup(elem_id=f"{name}-note", js_on_load=ANNOUNCED + hub.WHEN_TYPED)
            visibility = gr.Radio([(words, one) for one, words in theme.VISIBILITIES.items()], value="private",
                                  label=theme.VISIBILITY, elem_id=f"{name}-visibility")
            licence = gr.Radio(list(LICENCES), value="mit", label=theme.LICENCE, elem_id=f"{name}-licence")
            lead = theme.markup()
            own = gr.Checkbox(label=theme.OWN_EXAMPLES, visible=False, elem_id=f"{name}-own")
            examples = theme.markup(elem_id=f"{name}-examples")
            with gr.Accordion(theme.CARD, open=False, elem_classes="fold"):
                theme.markup(f'<p class="muted">{theme.CARD_LEAD}</p>')
                card = theme.markup(elem_id=f"{name}-card")
            send = gr.Button(theme.PUBLISH, variant="primary", elem_id=f"{name}-send", elem_classes="fit")
        said = theme.markup(elem_id=f"{name}-said", js_on_load=ANNOUNCED)
        done = theme.markup(elem_id=f"{name}-done")
        snippet = theme.markup(elem_id=f"{name}-snippet", js_on_load=code_view.COPY)
    return PublishPanel(fold, why, form, repository, note, visibility, licence, lead, own, examples, card, send, said,
                        done, snippet, gr.State(""))


@dataclass(frozen=True)
class _Asked:
    """Which adapter is meant: what `which` holds, looked up by `adapter_of`; and whose it is."""

    studio: Studio
    which: Component
    adapter_of: AdapterOf
    keys: gr.BrowserState
    known: gr.State

    def inputs(self) -> dict[str, Component]:
        return {"which": self.which, "kept": self.keys, "known": self.known}

    def by(self, which: str, kept: Any, request: gr.Request) -> tuple[Reach, Adapter]:
        """What the request reaches, and the adapter; ValueError where it isn't the visitor's."""
        reach = reach_of(self.studio, request, kept)
        return reach, self.adapter_of(reach.visitor, which)


# ---- What it does ----------------------------------------------------------------------------------------------------


def _connect(panel: PublishPanel, asked: _Asked) -> None:
    asked.which.change(panel.closed, [asked.which, panel.made_for], panel.outputs(), **AT_ONCE)
    _connect_form(panel, asked)
    _connect_sending(panel, asked)


def _connect_form(panel: PublishPanel, asked: _Asked) -> None:
    """Who publishes, under which name, with which card."""
    def opened(which: str, kept: Any, known: Known | None, request: gr.Request) -> Iterator[Changes]:
        yield {panel.why: hub_view.said(theme.ASKING_WHO), panel.form: gr.update(visible=False), panel.made_for: which}
        reach, adapter = asked.by(which, kept, request)
        try:
            known = reach.acquainted(known)
        except ValueError as problem:
            yield {panel.why: hub_view.said(str(problem))}
            return
        if known.account is None:
            yield {panel.why: way_in(asked.studio, reach), asked.known: known}
            return
        name = f"{known.account.name}/{adapter.name}"
        yield {panel.why: "", panel.form: gr.update(visible=True), panel.name: name, asked.known: known,
               panel.send: gr.update(value=theme.PUBLISH, interactive=True),
               **_looked(panel, reach, adapter, known, {"name": name, "licence": "mit", "own": False})}

    def look(which: str, kept: Any, known: Known | None, request: gr.Request, **form: Any) -> Changes:
        reach, adapter = asked.by(which, kept, request)
        return _looked(panel, reach, adapter, known, form)

    outputs = [*panel.outputs(), asked.known]
    panel.fold.expand(plainly(opened), inputs_kwargs=asked.inputs(), outputs=outputs, **AT_ONCE)
    gr.on([panel.note.submit, panel.name.submit, panel.licence.input, panel.own.input], plainly(look),
          inputs_kwargs={**asked.inputs(), **panel.asked()}, outputs=panel.outputs(), trigger_mode="always_last",
          **AT_ONCE)


def way_in(studio: Studio, reach: Reach) -> str:
    """What somebody does who isn't signed in."""
    if studio.signs_in:
        return f'<p class="who"><span class="muted">{theme.SIGN_IN_TO_PUBLISH}</span>{signin.way_in()}</p>'
    return f'<p class="muted">{escaped(theme.TOKEN_TO_PUBLISH.format(address=reach.hub.address))}</p>'


def _looked(panel: PublishPanel, reach: Reach, adapter: Adapter, known: Known | None, form: dict[str, Any]) -> Changes:
    """How the name stands, and what would be shown."""
    shown, words = shown_of(reach.visitor, adapter), ""
    if shown.examples:
        words = hub_view.said(theme.OWN_EXAMPLES_LEAD if shown.are_own else theme.SHIPPED_EXAMPLES_LEAD)
    changes: Changes = {panel.lead: words, panel.own: gr.update(visible=shown.are_own),
                        panel.examples: hub_view.examples(_chosen(shown, form["own"]))}
    try:
        repository = repository_name(form["name"] or "", known.account.name if known and known.account else "")
        made = made_card(reach, adapter, repository, form)
        return {**changes, panel.note: stands(reach, repository, known), panel.card: hub_view.card(made)}
    except ValueError as problem:
        return {**changes, panel.note: hub_view.problem(str(problem))}


def stands(reach: Reach, repository: str, known: Known | None) -> str:
    """How a name stands to the one who is signed in; nothing for nobody."""
    if known is None or known.account is None or not reach.token:
        return ""
    found = reach.hub.standing(repository, known.account, reach.token)
    return hub_view.standing(repository, found, known.account.name)


def shown_of(visitor: Visitor, adapter: Adapter) -> Shown:
    """What base and adapter said while it was trained; nothing where the run is gone or none of the visitor's."""
    try:
        run = visitor.run(str(adapter.provenance.get("run")))
    except ValueError:
        return Shown()
    picture = progress_of(run, run.course(), "")
    if not picture.said_at:
        return Shown()
    spoken = zip(picture.prompts, picture.said_before, picture.said, strict=True)
    return Shown(tuple(Example(*one) for one in spoken), run.about_data["kind"] != "example")


def _chosen(shown: Shown, own: bool) -> tuple[Example, ...]:
    """Rows of the visitor's own only where they ticked it; the questions of a shipped example are no secret."""
    return shown.examples if own or not shown.are_own else ()


def made_card(reach: Reach, adapter: Adapter, repository: str, form: dict[str, Any]) -> Card:
    """The card that goes with it."""
    if form["licence"] not in LICENCES:
        raise ValueError(f"{form['licence']!r} is no licence that is offered here. Choose one of "
                         f"{', '.join(LICENCES)}.")
    demand_base(adapter)
    examples = _chosen(shown_of(reach.visitor, adapter), form["own"] is True)
    return card_of(Story(repository, adapter.provenance, read_object(adapter.folder / CONFIG), form["licence"],
                         examples, space=hub.this_space()))


def _connect_sending(panel: PublishPanel, asked: _Asked) -> None:
    def send(which: str, kept: Any, known: Known | None, request: gr.Request, visibility: str,
             **form: Any) -> Iterator[Changes]:
        yield {panel.send: gr.update(interactive=False), panel.said: hub_view.said(theme.PUBLISHING),
               panel.done: "", panel.snippet: ""}
        ready = gr.update(value=theme.PUBLISH_AGAIN, interactive=True)
        try:
            reach, adapter = asked.by(which, kept, request)
            for told in sent(reach, adapter, known, {**form, "private": visibility != "public"}):
                yield _told(panel, told, reach) if isinstance(told, Published) else {panel.said: hub_view.said(told)}
        except ValueError as problem:
            yield {panel.said: hub_view.problem(str(problem)), panel.send: ready}
        else:
            yield {panel.send: ready}

    panel.send.click(plainly(send), inputs_kwargs={**asked.inputs(), **panel.asked(), "visibility": panel.visibility},
                     outputs=panel.outputs(), **AT_ONCE)


def sent(reach: Reach, adapter: Adapter, known: Known | None, form: dict[str, Any]) -> Iterator[str | Published]:
    """Publish it with the token of this very request; sentences as it goes on, and at the end where it is."""
    if not reach.token:
        raise ValueError(theme.SIGN_IN_TO_PUBLISH)
    account = reach.acquainted(known).account
    repository = repository_name(form["name"] or "", account.name if account else "")
    card = made_card(reach, adapter, repository, form)
    return publishing(reach.hub, adapter.folder, repository, reach.token, card, form["private"])


def _told(panel: PublishPanel, done: Published, reach: Reach) -> Changes:
    return {panel.said: "", panel.done: hub_view.published(done, hub.this_space(), reach.hub.address),
            panel.snippet: code_view.script(done.snippet), panel.note: ""}
