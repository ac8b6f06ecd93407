"""What the Hub told, as HTML: rows of adapters that were found, how a name stands, a card, and what was published."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from urllib.parse import quote

from adapters.card import PICTURE, Card, Example
from adapters.hub import Found, Standing
from adapters.publish import Published
from tabs import theme
from tabs.text import as_markdown, as_written, count, escaped

_FRONT_MATTER = re.compile(r"---\n.*?\n---\n+", re.DOTALL)
_FOLD = re.compile(r"</?details>(<summary>.*?</summary>)?")
_PICTURE = re.compile(rf"!\[[^\]]*\]\({re.escape(PICTURE)}\)")


def said(words: str) -> str:
    """What goes on, quietly."""
    return f'<p class="muted" dir="auto">{escaped(words)}</p>' if words else ""


def problem(words: str) -> str:
    """What went wrong, and what to do."""
    return f'<p class="problem" dir="auto">{escaped(words)}</p>'


def rows(found: Sequence[Found]) -> str:
    """Adapters on the Hub, each with a button that puts it into a lane."""
    return f'<ul class="found">{"".join(map(_row, found))}</ul>' if found else ""


def _row(one: Found) -> str:
    marks = [theme.MARKS["mine"]] * one.mine + [theme.MARKS["private"]] * one.private + \
        [theme.MARKS["gated"]] * one.gated + [theme.MARKS["sibling"].format(base=one.base)] * one.for_a_sibling
    facts = [count(one.likes, "like"), count(one.downloads, "download"), one.changed or "",
             f"{one.bytes / 1e6:.1f} MB" if one.bytes else "", f"rank {one.rank}" if one.rank else ""]
    shown = "".join(f'<span class="state">{escaped(mark)}</span>' for mark in marks)
    name = escaped(one.repository)
    return (f'<li><div><p><strong dir="auto">{name}</strong>{shown}</p>'
            f'<p class="facts">{escaped(" · ".join(filter(None, facts)))}</p></div>'
            f'<button type="button" data-repository="{name}" data-revision="{escaped(one.revision or "")}" '
            f'aria-label="{theme.PUT_INTO_LANE}: {name}">{theme.PUT_INTO_LANE}</button></li>')


def standing(name: str, stands: Standing, account: str) -> str:
    """How a name on the Hub stands to the one who would publish under it."""
    words = theme.STANDING[stands].format(name=name, account=account)
    return problem(words) if stands == "someone else's" else said(words)


def examples(shown: Sequence[Example]) -> str:
    """The questions and answers that a card would show."""
    return "".join(f'<article class="said"><h4 class="asked" dir="auto">{escaped(one.prompt)}</h4><div class="sides">'
                   f'<section class="now"><h4>{theme.NOW_SAYS}</h4>{as_written(one.adapter)}</section>'
                   f'<section class="before"><h4>{theme.SAID_BEFORE}</h4>{as_written(one.before)}</section></div>'
                   "</article>"
                   for one in shown)


def card(made: Card) -> str:
    """A card as the Hub would show it, then its text."""
    body = _FOLD.sub("", _FRONT_MATTER.sub("", made.text, count=1))
    before, *after = _PICTURE.split(body, maxsplit=1)
    picture = f'<img alt="{theme.LOSS_TITLE}" src="data:image/png;base64,{base64.b64encode(made.picture).decode()}">' \
        if made.picture else ""
    shown = as_markdown(before) + picture + "".join(map(as_markdown, after))
    return (f'<div class="hub-card">{shown}</div><details class="behind"><summary>{theme.CARD_TEXT}</summary>'
            f'<pre class="log" tabindex="0" role="region" aria-label="{theme.CARD_TEXT}" dir="auto">'
            f"{escaped(made.text)}</pre></details>")


def published(done: Published, space: str | None, hub: str) -> str:
    """Where it is now, and where it can be tried."""
    words = theme.PUBLISHED_PRIVATE if done.private else theme.PUBLISHED
    again = "" if done.is_new else f" {theme.UNCHANGED}"
    there = f"{hub}/spaces/{space}?adapter={quote(done.repository)}" if space else ""
    opened = f'<p><a href="{escaped(there)}">{theme.OPEN_IN_SPACE}</a></p>' if space else ""
    return (f'<div class="published"><p><a href="{escaped(done.address)}" target="_blank" rel="noopener" dir="auto">'
            f"{escaped(done.repository)}</a> {words}.{again} <code>{escaped(done.revision[:12])}</code></p>"
            f"{opened}</div>")
