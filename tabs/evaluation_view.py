"""How a run's adapter does on conversations it never saw, as HTML: the measures, and the rows for its owner."""

from collections.abc import Sequence

from tabs import theme
from tabs.text import as_written, escaped
from training.evaluate import Answered, Evaluation
from training.measures import Comparison


def evaluation(one: Evaluation | None, is_own: bool, over: bool = True) -> str:
    """The verdict and the table; the best and worst rows only for whoever owns the run."""
    if one is None:
        return f'<p class="empty">{theme.NOT_EVALUATED if over else theme.EVALUATION_WAITING}</p>'
    general = (one.general,) if one.general else ()
    rows = "".join(_rows(title, some, theme.said_before(one.continued)) for title, some in (
        (theme.BEST_ROWS, one.best), (theme.WORST_ROWS, one.worst))) if is_own else ""
    return f"<p>{escaped(one.verdict)}</p>{_table((*one.comparisons, *general), one.against)}{rows}"


def _table(comparisons: Sequence[Comparison], before: str) -> str:
    lines = "".join(f'<tr><th scope="row">{escaped(one.measure)}</th><td>{one.before:.2f}</td>'
                    f"<td>{one.adapter:.2f}</td><td>{one.difference:+.2f}{one.interval}</td></tr>"
                    for one in comparisons)
    heads = "".join(f'<th scope="col">{name}</th>' for name in (before, "adapter", "difference (95 % interval)"))
    return (f'<table class="numbers"><caption>{theme.MEASURES}</caption><thead><tr><td></td>{heads}</tr></thead>'
            f'<tbody>{lines}</tbody></table><p class="muted">{theme.MEASURES_LEAD}</p>')


def _rows(title: str, rows: Sequence[Answered], said_before: str) -> str:
    if not rows:
        return ""
    cards = "".join(f'<article class="said"><p class="asked" dir="auto">{escaped(row.prompt)}</p>'
                    + "".join(f"<h5>{name}</h5>{as_written(text)}" for name, text in (
                        (theme.WANTED, row.reference), (said_before, row.before), (theme.ADAPTER_SAID, row.adapter)))
                    + "</article>" for row in rows)
    return f"<h4>{title}</h4>{cards}"
