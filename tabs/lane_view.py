"""One lane's conversation as HTML: what was asked, what was answered by whom, and how fast."""

from dataclasses import replace

from chat.conversation import BASE, Talk, Turn
from tabs import theme
from tabs.text import as_markdown, as_written, count, escaped


def said_before(talk: Talk, note: str = "", problem: str = "") -> str:
    """All turns but the newest; empty lanes say what they are. The class gives the lane its colour. A `note` says what
    should be known of the lane's adapter, and a `problem` why it can't be had.
    """
    is_base = talk.adapter == BASE
    said = "".join(turn_html(turn, is_unnamed=talk.is_unnamed) for turn in talk.turns[:-1])
    empty = f'<p class="empty">{theme.EMPTY_LANE_BASE if is_base else theme.EMPTY_LANE_ADAPTER}</p>'
    told = f'<p class="empty">{escaped(note)}</p>' if note else ""
    told += f'<p class="problem">{escaped(problem)}</p>' if problem else ""
    said += told or ("" if talk.turns else empty)
    kind = "unnamed" if talk.is_unnamed else "with-base" if is_base else "with-adapter"
    return f'<div class="talk {kind}">{said}</div>'


def newest(talk: Talk, why_waiting: str = "") -> str:
    """The newest turn, which is the only one that changes while an answer streams."""
    return turn_html(talk.turns[-1], why_waiting, True, talk.is_unnamed) if talk.turns else ""


def turn_html(turn: Turn, why_waiting: str = "", is_newest: bool = False, is_unnamed: bool = False) -> str:
    """One question with its answer, or with what the answer waits for; and what can be done with both."""
    answer = turn.answer
    if is_unnamed and answer.tokens and answer.end != "error":
        answer = replace(answer, note="")  # of one that is answering it tells how it is served, and so which one it is
    if answer.text:
        words = as_markdown(answer.text)
    elif answer.end == "error":
        words = f'<p class="problem">{escaped(answer.note)}</p>'
    elif answer.done:
        words = '<p class="muted">An empty answer.</p>'
    else:
        words = f'<p class="typing"><i></i><i></i><i></i> {escaped(why_waiting or answer.note)}</p>'
    note = f'<p class="note">{escaped(answer.note)}</p>' if answer.note and answer.text else ""
    tools = _tools(turn, is_newest) if answer.done and not is_unnamed else ("", "")
    return (f'<div class="turn"><div class="question">{as_written(turn.question)}</div>{tools[0]}'
            f'<div class="answer">{words}{note}<p class="by">{_by(turn, is_unnamed)}</p>{tools[1]}</div></div>')


def _tools(turn: Turn, is_newest: bool) -> tuple[str, str]:
    """(beside the question, below the answer): buttons that the lane's script turns into events."""
    again = _button("retry", turn, theme.RETRY_ONE) if is_newest else ""
    teach = _button("like", turn, theme.TEACH) if turn.answer.text else ""
    copy = (f'<button type="button" data-does="copy" data-text="{escaped(turn.answer.text)}">{theme.COPY}</button>'
            if turn.answer.text else "")
    return _button("edit", turn, theme.EDIT), f'<div class="turn-tools">{again}{copy}{teach}</div>'


def _button(event: str, turn: Turn, words: str) -> str:
    return f'<button type="button" data-does="{event}" data-sent="{turn.sent}">{words}</button>'


def _by(turn: Turn, is_unnamed: bool) -> str:
    answer = turn.answer
    facts = [theme.UNNAMED if is_unnamed else f"<b>{escaped(turn.author)}</b>"]
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
