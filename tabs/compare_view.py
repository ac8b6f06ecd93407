"""Runs beside each other as HTML: their curves in one drawing, the settings that differ, and what each reached."""

from __future__ import annotations

from collections.abc import Sequence

from tabs import curves, theme
from tabs.text import escaped
from training.compare import LETTERS, LOWEST, Compared, Result, rows_of
from training.config import SETTINGS, value_in_words
from training.group import group_of
from training.run import Run


def choices(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """(what is read, id) of each run: its name and its state."""
    return [(f"{run.config.name} ({theme.STATES[run.state()]})", run.id) for run in runs]


def chart(whole: Compared) -> str:
    """All curves in one frame. Which run is which is told by letter, dashes and colour."""
    entries = "".join(f'<li>{_sample(place)}<b>{LETTERS[place]}</b> <span dir="auto">{escaped(one.name)}</span></li>'
                      for place, one in enumerate(whole.results))
    drawn = curves.drawing(lines(whole), max(one.steps for one in whole.results), theme.COMPARED_LOSSES)
    if not drawn:
        return f'<p class="empty">{theme.LOSS_WAITING}</p>'
    return (f'<ul class="series">{entries}</ul><p class="muted">{theme.COMPARED_THICK}; {theme.COMPARED_THIN}.</p>'
            f"{drawn}")


def lines(whole: Compared) -> list[curves.Curve]:
    """The training curves, and over them the held-out ones."""
    training = [curves.Curve(f"series-{place} training", f"{LETTERS[place]}, {theme.TRAINING_LOSS}", one.losses.train)
                for place, one in enumerate(whole.results)]
    return training + [curves.Curve(f"series-{place} held", f"{LETTERS[place]}, {theme.HELD_OUT_LOSS}",
                                    one.losses.held_out, dots=True) for place, one in enumerate(whole.results)]


def tables(whole: Compared) -> str:
    """The settings that differ, what each run reached, and what its evaluation says."""
    heads = "".join(map(_head, range(len(whole.results)), whole.results))
    differing = [(_label(name), [value_in_words(value) for value in values])
                 for name, values in whole.differing.items()]
    first = _table(theme.DIFFERS, heads, differing) if differing else (
        f'<h4>{theme.DIFFERS}</h4><p class="muted">{theme.DIFFERS_NOWHERE}</p>')
    return first + _table(theme.REACHED, heads, rows_of(whole)) + _verdicts(whole.results)


def loss_table(whole: Compared) -> str:
    """The same curves as numbers."""
    return curves.table([line for line in lines(whole) if line.points])


def siblings(run: Run, group: Sequence[Run]) -> str:
    """The runs of this one's group by what they try, each a link; nothing for a run of its own."""
    own = group_of(run)
    if own is None or len(group) < 2:
        return ""
    settings = " and ".join(SETTINGS[name].label if name in SETTINGS else escaped(name) for name in own.tried)
    words = theme.IN_GROUP.format(count=len(group), settings=f"<b>{settings}</b>")
    links = "".join(f"<li>{_sibling(one, one.id == run.id)}</li>" for one in group)
    return (f'<nav class="siblings" aria-label="{theme.COMPARED_BELOW}"><p>{words}</p><ul>{links}</ul>'
            f'<a href="#compare-runs">{theme.COMPARED_BELOW}</a></nav>')


def _sibling(one: Run, is_shown: bool) -> str:
    group = group_of(one)
    values = escaped(", ".join(map(value_in_words, group.tried.values()))) if group else escaped(one.config.name)
    if is_shown:
        return f'<b aria-current="page">{values} ({theme.THIS_ONE})</b>'
    return f'<a href="?run={escaped(one.id)}">{values}</a>'


def _label(name: str) -> str:
    return theme.LEARNED_FROM if name == "data" else SETTINGS[name].label


def _sample(place: int) -> str:
    """A piece of the run's line, as it is drawn."""
    return (f'<svg class="sample" viewBox="0 0 48 12" aria-hidden="true" focusable="false">'
            f'<path class="series-{place} held" d="M2 6H46"/></svg>')


def _head(place: int, one: Result) -> str:
    return (f'<th scope="col"><span class="letter">{LETTERS[place]}</span> <a href="?run={escaped(one.run)}" '
            f'dir="auto">{escaped(one.name)}</a> <span class="state {one.state}">{theme.STATES[one.state]}</span></th>')


def _table(title: str, heads: str, rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A column for each run."""
    lines = "".join(f'<tr><th scope="row">{escaped(name)}</th>{"".join(map(_cell, cells))}</tr>'
                    for name, cells in rows)
    return (f'<h4>{title}</h4><div class="beside" role="region" aria-label="{title}" tabindex="0">'
            f'<table class="numbers"><thead><tr><td></td>{heads}</tr></thead><tbody>{lines}</tbody></table></div>')


def _cell(words: str) -> str:
    """Its parts in a line each; what won is marked, beside what it says in words."""
    kind = ' class="best"' if words.endswith(LOWEST) else ""
    return f"<td{kind}>{'<br>'.join(escaped(part) for part in words.split(', '))}</td>"


def _verdicts(results: Sequence[Result]) -> str:
    said = "".join(f'<li><b>{letter}</b> {escaped(one.verdict)}</li>'
                   for letter, one in zip(LETTERS, results, strict=False) if one.verdict)
    return f'<h4>{theme.JUDGED}</h4><ul class="verdicts">{said}</ul>' if said else ""
