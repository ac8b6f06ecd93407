"""Text that models and visitors wrote, made safe for the page; and numbers as people read them."""

import hashlib
import html
import json
import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline

# Raw HTML stays text, and nothing is fetched or linked because a model named it.
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True})
_MARKDOWN.enable("table").disable(["image", "link", "autolink"])
_FORMULA = re.compile(r"\\\(.+?\\\)|\\\[.+?\\\]|\$\$.+?\$\$", re.DOTALL)


def _formula(state: StateInline, silent: bool) -> bool:
    """A formula in TeX stays as it was written: Markdown would take its backslashes and read its underscores."""
    found = _FORMULA.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


_MARKDOWN.inline.ruler.before("escape", "formula", _formula)


def escaped(text: str) -> str:
    """For HTML, inside quotes too."""
    return html.escape(text, quote=True)


def as_written(text: str) -> str:
    """Line by line as it was typed; its own direction, left or right."""
    return f'<div class="text written" dir="auto">{escaped(text)}</div>'


def as_markdown(text: str) -> str:
    """A model's answer with its lists, tables and code."""
    return f'<div class="text" dir="auto">{_MARKDOWN.render(text)}</div>'


def sign_of(value: Any) -> str:
    """A short hash of a value of plain ones: the same for the same."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def mapping_of(text: Any) -> dict[str, Any]:
    """The JSON object that a browser kept; empty where it is none, since it sends whatever somebody wrote there."""
    try:
        found = json.loads(text) if isinstance(text, str) and text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def table(title: str, rows: Sequence[tuple[str, Any]]) -> str:
    """Names and values, a row each, under a title."""
    lines = "".join(f'<tr><th scope="row">{escaped(name)}</th><td dir="auto">{escaped(str(value))}</td></tr>'
                    for name, value in rows)
    return f'<table class="numbers"><caption>{escaped(title)}</caption><tbody>{lines}</tbody></table>'


def count(number: float, one: str, many: str = "") -> str:
    """"1 row", "1,200 rows"."""
    return f"{number:,.0f} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """"8 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
