"""A dataset as HTML: how much of it can be learned from, what was left out and why, and how the model reads it."""

import re
from collections.abc import Sequence

from tabs import theme
from tabs.text import count, escaped
from training.data import ChatData, DataReport, DroppedRow

LISTED_DROPS = 50
SEEN_CHARACTERS = 1500
_CONTROL = re.compile(r"&lt;\|[a-z_0-9]+\|&gt;")


def summary(data: ChatData, report: DataReport) -> str:
    """The numbers that a visitor wants before Start, and what they should know."""
    kept = "conversation" if report.rows_kept == 1 else "conversations"
    figures = ((report.rows_kept, kept), (report.tokens.total, "tokens"),
               (report.tokens.trained, "of them learned"), (report.tokens.longest, "in the longest"),
               (report.spelling.tokens_per_word, "tokens a word"))
    shown = "".join(f'<div><dt>{words}</dt><dd>{number:,}</dd></div>' for number, words in figures)
    warned = "".join(f'<p class="warning">{escaped(warning)}</p>' for warning in report.warnings)
    repeats = f" · {count(report.duplicates, 'conversation')} more than once" if report.duplicates else ""
    dropped = f", {report.rows_kept:,} kept, {report.dropped_total:,} left out" if report.dropped_total else ""
    read = f"{count(report.rows_read, 'row')} read in {escaped(data.format)} form{dropped}{repeats}"
    return f'<dl class="figures">{shown}</dl><p class="muted">{read}</p>{warned}'


def left_out(dropped: Sequence[DroppedRow], total: int) -> str:
    """Row numbers and reasons."""
    rows = "".join(f'<tr><th scope="row" dir="auto">{_place(one)}</th>'
                   f'<td dir="auto">{escaped(one.reason)}</td></tr>' for one in dropped[:LISTED_DROPS])
    more = f'<p class="muted">And {total - LISTED_DROPS:,} more.</p>' if total > LISTED_DROPS else ""
    return (f'<table class="numbers reasons"><thead><tr><th scope="col">Row</th><th scope="col">Why</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>{more}")


def _place(one: DroppedRow) -> str:
    return f"{escaped(one.file)} {one.row:,}" if one.file else f"{one.row:,}"


def progress(words: str, share: float) -> str:
    """How far the reading of something large is."""
    return (f'<p class="bar-words">{words}</p><div class="bar" role="progressbar" aria-label="{words}" '
            f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{100 * share:.0f}">'
            f'<div style="width:{100 * share:.1f}%"></div></div>')


def histogram(report: DataReport, max_length: int) -> str:
    """How many conversations are how long, against the limit; drawn, in words and as a table."""
    most = max((bar.count for bar in report.bars), default=1)
    columns = "".join(f'<span class="{"over" if bar.over else "within"}" style="height:{100 * bar.count / most:.1f}%">'
                      "</span>" for bar in report.bars)
    are = "is" if report.truncated == 1 else "are"
    cut = (f"{count(report.truncated, 'conversation')} of {report.rows_kept:,} {are} longer than {max_length:,} "
           f"tokens and cut, which costs {count(report.lost, 'learned token')}."
           if report.truncated else f"None is longer than {max_length:,} tokens, so nothing is cut.")
    rows = "".join(f'<tr><th scope="row">{bar.low:,} to {bar.high:,}</th><td>{bar.count:,}</td>'
                   f'<td>{"cut" if bar.over and bar.count else ""}</td></tr>' for bar in report.bars)
    last = report.bars[-1].high if report.bars else 0
    return (f'<p class="muted">{theme.LENGTHS_LEAD}</p>'
            f'<div class="histogram" role="img" aria-label="{cut}">{columns}</div>'
            f'<div class="histogram-marks" aria-hidden="true"><span>1</span><span>{last:,} tokens</span></div>'
            f"<p>{cut}</p>"
            f'<details class="behind"><summary>{theme.LENGTHS_TABLE}</summary><table class="numbers"><thead><tr>'
            '<th scope="col">Tokens</th><th scope="col">Conversations</th><th scope="col"></th></tr></thead>'
            f"<tbody>{rows}</tbody></table></details>")


def legend() -> str:
    """What the marks in the conversations mean."""
    return (f'<p class="seen-legend"><span class="trained">{theme.SEEN_LEGEND}</span>'
            f"<span>{theme.SEEN_LEGEND_REST}</span></p>")


def conversation(row: int, runs: Sequence[tuple[str, bool]], file: str = "") -> str:
    """One conversation as the model reads it: control tokens visible, learned text marked. `file` where there are
    several.
    """
    marked, left = [], SEEN_CHARACTERS
    for text, trained in runs:
        shown, left = text[:max(left, 0)], left - len(text)
        if shown:
            marked.append(f'<mark class="trained">{_readable(shown)}</mark>' if trained else _readable(shown))
    cut = f'<span class="muted"> … and {-left:,} characters more</span>' if left < 0 else ""
    place = f"{escaped(file)}, row {row:,}" if file else f"Row {row:,}"
    return (f'<figure class="seen"><figcaption dir="auto">{place}</figcaption>'
            f'<div class="written" dir="auto">{"".join(marked)}{cut}</div></figure>')


def _readable(text: str) -> str:
    """Safe, with the control tokens set apart."""
    return _CONTROL.sub(r'<span class="control">\g<0></span>', escaped(text))


def problem(sentence: str, nothing_yet: bool = False) -> str:
    """Why this data can't be used, or that there is none yet."""
    kind = 'class="empty"' if nothing_yet else 'class="problem" role="alert"'
    return f"<p {kind}>{escaped(sentence)}</p>"
