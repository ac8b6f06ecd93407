"""One lane's conversation as HTML: what was asked, what was answered by whom, and how fast."""

from phi3.generate import Answer
from tabs import theme
from tabs.lanes import Talk, Turn
from tabs.text import as_markdown, as_written, count, escaped


def said_before(talk: Talk) -> str:
    """All turns but the newest; empty lanes say what they are. The class gives the lane its colour."""
    is_base = talk.adapter == theme.BASE_NAME
    said = "".join(map(turn_html, talk.turns[:-1]))
    empty = f'<p class="empty">{theme.EMPTY_LANE_BASE if is_base else theme.EMPTY_LANE_ADAPTER}</p>'
    return f'<div class="talk {"with-base" if is_base else "with-adapter"}">{said if talk.turns else empty}</div>'


def newest(talk: Talk, why_waiting: str = "") -> str:
    """The newest turn, which is the only one that changes while an answer streams."""
    return turn_html(talk.turns[-1], why_waiting) if talk.turns else ""


def turn_html(turn: Turn, why_waiting: str = "") -> str:
    """One question with its answer, or with what the answer waits for."""
    answer = turn.answer
    if answer.text:
        words = as_markdown(answer.text)
    elif answer.end == "error":
        words = f'<p class="problem">{escaped(answer.note)}</p>'
    elif answer.done:
        words = '<p class="muted">An empty answer.</p>'
    else:
        words = f'<p class="typing"><i></i><i></i><i></i> {escaped(why_waiting or answer.note)}</p>'
    note = f'<p class="note">{escaped(answer.note)}</p>' if answer.note and answer.text else ""
    return (f'<div class="turn"><div class="question">{as_written(turn.question)}</div>'
            f'<div class="answer">{words}{note}<p class="by">{_by(turn.by, answer)}</p></div></div>')


def _by(by: str, answer: Answer) -> str:
    facts = [f"<b>{escaped(by)}</b>"]
    if answer.tokens:
        facts.append(count(answer.tokens, "token"))
    if answer.tokens and answer.seconds > 0:
        facts.append(count(round(answer.tokens / answer.seconds), "token") + " per second")
    if answer.end in theme.ENDS:
        facts.append(theme.ENDS[answer.end])
    return " · ".join(facts)


def announcement(talks: tuple[Talk, ...]) -> str:
    """What screen readers hear: that answers are coming, and that they are there."""
    last = [talk.turns[-1] for talk in talks if talk.turns]
    if not last:
        return ""
    if all(turn.answer.done for turn in last):
        return f"{count(len(last), 'lane has', 'lanes have')} answered."
    return f"{count(len(last), 'lane is', 'lanes are')} answering."
