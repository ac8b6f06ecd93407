"""What was gathered from a description as HTML: how far the asking is, what was kept, and what was left out and why."""

from collections.abc import Sequence

from tabs import theme
from tabs.text import as_written, count, escaped
from training.describe import Corrections, Described, Row

# Below this share of answers in the described manner, other words are worth trying.
FEW_FOLLOWED = 0.25


def bar(described: Described | None) -> str:
    """How far the asking is, as a bar; one that waits where nothing is answered yet."""
    share = 100 * described.asked / described.wanted if described and described.wanted else 0
    waiting = "" if share else " waiting"
    return (f'<div class="bar{waiting}" role="progressbar" aria-label="{theme.ASKING_PROGRESS}" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{share:.0f}"><div style="width:{share:.1f}%"></div></div>')


def asking(described: Described) -> str:
    """How far the asking is, in a line."""
    answered = f"{described.asked:,} of {count(described.wanted, 'question')} answered, {len(described.rows):,} kept"
    return f'<p class="bar-words">{answered}</p>'


def arriving(rows: Sequence[Row]) -> str:
    """The first answers, to be read while the others come."""
    return "".join(f'<article class="arriving"><h4 dir="auto">{escaped(row.question)}</h4>{as_written(row.answer)}'
                   "</article>" for row in rows)


def gathered(described: Described | None, corrections: Corrections) -> str:
    """What there is to train on, what was left out and why, and what the visitor changed."""
    if described is None:
        return ""
    sentences = [f"<strong>{count(len(described.rows), 'answer')} of {described.asked:,}</strong> can be learned from.",
                 _left_out(described), _corrected(described, corrections)]
    return f'<p class="bar-words">{" ".join(filter(None, sentences))}</p>{_warning(described)}'


def _left_out(described: Described) -> str:
    reasons = [f"{number:,} {theme.LEFT_OUT.get(why, escaped(why))}"
               for why, number in sorted(described.left_out.items(), key=lambda one: -one[1])]
    return f"{sum(described.left_out.values()):,} left out: {', '.join(reasons)}." if reasons else ""


def _corrected(described: Described, corrections: Corrections) -> str:
    kept = len(corrections.applied(described).rows)
    struck = sum(row.question in corrections.struck for row in described.rows)
    emptied = len(described.rows) - kept - struck
    edited = sum(row.question in corrections.edited for row in described.rows) - sum(
        not corrections.answer_to(row).strip() for row in described.rows)
    parts = [f"{number:,} {words}" for number, words in (
        (edited, "edited"), (struck, "struck out"), (emptied, "emptied, so left out too")) if number > 0]
    return f"By you: {', '.join(parts)}." if parts else ""


def _warning(described: Described) -> str:
    if described.rows and len(described.rows) >= FEW_FOLLOWED * described.asked:
        return ""
    if not described.asked:
        return f'<p class="warning">{theme.NOTHING_ASKED}</p>'
    return f'<p class="warning">{theme.HARDLY_FOLLOWED if described.rows else theme.NOBODY_FOLLOWED}</p>'
