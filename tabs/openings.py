"""Which run the page shows: the one that was just begun, that the address names or that goes on, or none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

import gradio as gr
from gradio.components import Component

from tabs import run_panel, run_view, theme
from tabs.events import AT_ONCE, LOOKING, QUIETLY, Changes, anew
from tabs.looks import SECONDS_UNTIL_AGAIN
from tabs.plainly import plainly
from tabs.studio import Studio
from tabs.text import sign_of
from tabs.visitor import Visitor, visitor_of
from training.config import RunConfig
from training.data import ChatData
from training.group import Tried, members_of, named, on_one_side
from training.run import Run
from training.runs import Beginning, lengthened
from training.start import start_of

# The browser knows nothing of a state's value, so what belongs into the address stands in a hidden text. A run is
# shorter than the form that it was begun with: another one than before is seen from its top.
REMEMBER_IN_ADDRESS = """(query) => {
  const address = new URL(window.location);
  if (new URLSearchParams(query).get('run') !== address.searchParams.get('run')) window.scrollTo(0, 0);
  for (const name of ['run', 'key']) address.searchParams.delete(name);
  new URLSearchParams(query).forEach((value, name) => address.searchParams.set(name, value));
  window.history.replaceState(null, '', address);
}"""


@dataclass(frozen=True)
class Openings:
    """The parts that show runs, and what they show when another one is opened. `past` lists them all; `listed` is the
    sign of how they stood then, and `unlisted` changes when they stand otherwise. `keys` is what the browser keeps.
    """

    setup: gr.Column
    panel: run_panel.RunPanel
    past: gr.HTML
    listed: gr.Textbox
    unlisted: gr.Textbox
    keys: gr.BrowserState
    address: gr.Textbox
    studio: Studio

    def outputs(self) -> list[Component]:
        """Everything that an opening may change."""
        return [self.setup, *self.listing(), self.keys, self.address, *self.panel.outputs()]

    def listing(self) -> list[Component]:
        """What `list_of` changes."""
        return [self.past, self.listed]

    def list_of(self, visitor: Visitor) -> Changes:
        """All runs of this visitor, as they stand now."""
        runs = visitor.runs()
        return {self.listed: _standing_of(runs), self.past: run_view.listed(runs)}

    def list_anew(self, keys: Any, request: gr.Request) -> Changes:
        """The same, for whoever asks."""
        return self.list_of(visitor_of(self.studio, request, keys))

    def look(self, visitor: Visitor, listed: str) -> Changes:
        """That the list is wanted anew where the runs stand otherwise than it says: whoever trains, or another window,
        has changed them.
        """
        return {self.unlisted: gr.skip() if _standing_of(visitor.runs()) == listed else anew()}

    def none_shown(self, visitor: Visitor) -> Changes:
        """No run, but what a new one needs."""
        return {self.setup: gr.update(visible=True), self.panel.column: gr.update(visible=False),
                self.panel.run_id: "", self.panel.turn: "", self.panel.look: "", self.address: "",
                **self.panel.looks.going(False), **self.list_of(visitor)}

    def begun(self, visitor: Visitor, run: Run) -> Changes:
        """A run that its visitor began or resumed. Where the GPU is lent, this page takes the first turn."""
        begin(self.studio, run)
        shown = {**self.shown(visitor, run), self.keys: dict(visitor.keys)}
        return {**shown, self.panel.turn: anew()} if self.studio.is_lent(run.config.base) else shown

    def shown(self, visitor: Visitor, run: Run, look: str = "") -> Changes:
        """This run on the page, followed from now on."""
        key = look or dict(visitor.keys).get(run.id, "")
        query = {"run": run.id, **({"key": key} if key else {})}
        return {self.setup: gr.update(visible=False), **self.list_of(visitor),
                self.panel.look: look, self.address: urlencode(query),
                **self.panel.show(run, run_panel.Standing.of(self.studio, visitor, run))}


def _standing_of(runs: list[Run]) -> str:
    """The sign of which runs there are, in which states."""
    return sign_of([(run.id, run.state()) for run in runs])


def begin_run(visitor: Visitor, config: RunConfig, data: ChatData, token: str = "") -> tuple[Visitor, Run]:
    """A new run of this visitor, who is its owner from now on: the visitor with its key, and the run. An adapter of the
    Hub's that it starts from is fetched with this token, or without one.

    ValueError where a limit forbids it, or where that adapter can't be used.
    """
    studio = visitor.studio
    visitor.limits.check_run(config, data, visitor.runs(), studio.runs)
    owner, key = visitor.new_owner()
    with start_of(config, token or None, visitor.limits.adapter_bytes) as (config, start):
        beginning = Beginning(studio.how_it_goes(config.base), start)
        run = studio.runs.create(config, data, owner, visitor.owners, beginning)
    return visitor.holding(run.id, key), run


def foreseen(visitor: Visitor, config: RunConfig, data: ChatData, token: str = "") -> RunConfig:
    """The settings that `begin_run` would give the run; ValueError where it would refuse its name or the adapter that
    it starts from.
    """
    runs = visitor.studio.runs
    with start_of(config, token or None, visitor.limits.adapter_bytes) as (config, start):
        name, = runs.free_names(config.name, data, visitor.owners)
        config, _ = runs.going_on(config, visitor.owners, start)
        return RunConfig.from_settings({**config.settings(), "name": name})


def begin_group(visitor: Visitor, config: RunConfig, tried: Tried, data: ChatData,
                token: str = "") -> tuple[Visitor, list[Run]]:
    """A run for each combination of the values that are tried, of this visitor, all of which wait for their turn: the
    visitor with their keys, and the runs in their order.

    ValueError, before any is begun, where a limit forbids so many or one of them, or where the GPU is lent.
    """
    studio = visitor.studio
    if studio.is_lent(config.base):
        raise ValueError(theme.SEVERAL_NOT_LENT)
    visitor.limits.check_runs([one.config for one in members_of(config, tried)], data, visitor.runs(), studio.runs)
    begun = []
    with start_of(config, token or None, visitor.limits.adapter_bytes) as (config, start):
        members = named(members_of(config, tried), data, studio.runs, visitor.owners)
        data = on_one_side(data, config)
        for one in members:
            owner, key = visitor.new_owner()
            beginning = Beginning("in turn", start, asdict(one.group))
            begun.append(studio.runs.create(one.config, data, owner, visitor.owners, beginning))
            visitor = visitor.holding(begun[-1].id, key)
    return visitor, begun


def begin_runs(visitor: Visitor, config: RunConfig, tried: Tried, data: ChatData,
               token: str = "") -> tuple[Visitor, list[Run]]:
    """A group where something is tried, else one run: as `begin_group` and `begin_run`."""
    if tried:
        return begin_group(visitor, config, tried, data, token)
    visitor, run = begin_run(visitor, config, data, token)
    return visitor, [run]


def begin(studio: Studio, run: Run) -> None:
    """Let a run that waits begin as soon as it can; one on a lent GPU begins with the page's first turn."""
    if not studio.is_lent(run.config.base):
        studio.queue.look()


def resume(visitor: Visitor, run: Run, **more: Any) -> None:
    """Make a run ready to go on, for longer where `more` says so; ValueError where a limit or its state forbids it."""
    studio = visitor.studio
    if more:
        longer = {name: value for name, value in more.items() if value is not None}
        visitor.limits.check_steps(lengthened(run.config, longer), run.about_data["train"])
    visitor.limits.check_going([one for one in visitor.runs() if one.id != run.id], studio.runs)
    visitor.limits.check_disk(studio.home)
    studio.runs.resume(run, studio.how_it_goes(run.config.base), **more)


def stop(studio: Studio, run: Run, turn: str) -> None:
    """Stop it after its step: between two turns that this page takes of a GPU, after the first one of the next turn."""
    if turn and run_panel.is_between_turns(run.course()):
        run.ask_to_stop()
    else:
        studio.runs.stop(run)


def connect(runs: Openings, page: gr.Blocks) -> None:
    """Open, follow, stop and resume a run, and go back for a new one."""
    runs.address.change(None, runs.address, js=REMEMBER_IN_ADDRESS, show_progress="hidden")
    _connect_list(runs, page)
    _connect_opening(runs, page)
    _connect_following(runs)
    _connect_changing(runs)


def _connect_list(runs: Openings, page: gr.Blocks) -> None:
    """The list of all runs, and seldom a look whether it is still true."""
    def look(listed: str, keys: Any, request: gr.Request) -> Changes:
        return runs.look(visitor_of(runs.studio, request, keys), listed)

    gr.on([page.load, runs.unlisted.change], plainly(runs.list_anew), runs.keys, runs.listing(), **AT_ONCE)
    # Whether or not the one before was answered: a look that got lost must not be the last.
    gr.Timer(SECONDS_UNTIL_AGAIN).tick(plainly(look), [runs.listed, runs.keys], runs.unlisted, trigger_mode="multiple",
                                       **LOOKING)


def _connect_opening(runs: Openings, page: gr.Blocks) -> None:
    """What the address names, or what goes on; and back to none."""
    panel, studio = runs.panel, runs.studio

    def opened(keys: Any, request: gr.Request) -> Changes:
        named, key = request.query_params.get("run", ""), request.query_params.get("key", "")
        came = visitor_of(studio, request, keys)
        visitor = came.holding(named, key).claiming()
        # What hasn't changed isn't sent: a run that was begun meanwhile has added its key.
        kept = {} if visitor.keys == came.keys else {runs.keys: dict(visitor.keys)}
        run = visitor.seen_run(named, key) if named else visitor.going()
        if run is None:
            return {panel.run_id: "", **kept}
        return {**runs.shown(visitor, run, "" if visitor.owns(run) else key), **kept}

    def go_back(keys: Any, request: gr.Request) -> Changes:
        return runs.none_shown(visitor_of(studio, request, keys))

    page.load(plainly(opened), runs.keys, runs.outputs(), **AT_ONCE)
    panel.new.click(plainly(go_back), runs.keys, runs.outputs(), **AT_ONCE)


def _connect_following(runs: Openings) -> None:
    """The run that is shown, as it gets on."""
    panel, studio = runs.panel, runs.studio

    def follow(run_id: str, seen: str, drawn: str, turn: str, look: str, keys: Any, request: gr.Request) -> Changes:
        visitor = visitor_of(studio, request, keys)
        try:
            run = visitor.seen_run(run_id, look)
        except ValueError as problem:  # deleted, taken back or claimed in another window
            return {panel.gone: str(problem)}
        return panel.follow(run, run_panel.Standing.of(studio, visitor, run), seen, drawn, turn)

    def show(run_id: str, seen: str, turn: str, look: str, keys: Any, request: gr.Request) -> Changes:
        visitor = visitor_of(studio, request, keys)
        run = visitor.seen_run(run_id, look)
        changes = panel.show(run, run_panel.Standing.of(studio, visitor, run), turn)
        is_news = run_panel.state_in(changes[panel.seen]) != run_panel.state_in(seen)
        return {**changes, **runs.list_of(visitor)} if is_news else changes

    def let_go(gone: str, keys: Any, request: gr.Request) -> Any:
        if not gone:
            return gr.skip()
        gr.Warning(gone, duration=None)
        return runs.none_shown(visitor_of(studio, request, keys))

    which = [panel.turn, panel.look, runs.keys]
    panel.looks.connect(follow, [panel.run_id, panel.seen, panel.drawn, *which], [*panel.followed(), panel.gone])
    panel.wanted.change(plainly(show), [panel.run_id, panel.seen, *which], [*runs.listing(), *panel.outputs()],
                        **AT_ONCE)
    panel.gone.change(plainly(let_go), [panel.gone, runs.keys], runs.outputs(), **AT_ONCE)


def _connect_changing(runs: Openings) -> None:
    """Stop it, or let it go on."""
    panel, studio = runs.panel, runs.studio

    def halt(run_id: str, turn: str, keys: Any, request: gr.Request) -> Changes:
        visitor = visitor_of(studio, request, keys)
        run = visitor.run(run_id)
        stop(studio, run, turn)
        return panel.show(run, run_panel.Standing.of(studio, visitor, run), turn)

    def go_on(run_id: str, keys: Any, request: gr.Request) -> Changes:
        visitor = visitor_of(studio, request, keys)
        run = visitor.run(run_id)
        resume(visitor, run)
        return runs.begun(visitor, run)

    panel.stop.click(plainly(halt), [panel.run_id, panel.turn, runs.keys], panel.outputs(), **AT_ONCE)
    panel.resume.click(plainly(go_on), [panel.run_id, runs.keys], runs.outputs(), **QUIETLY)
