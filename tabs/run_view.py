"""One run as HTML: where it stands, what the model says now and said before, its curves, and how it ended."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from phi3.machine import GIBIBYTE
from tabs import curves, theme
from tabs.progress import Progress
from tabs.text import as_written, count, duration, escaped, table
from training.config import SETTINGS
from training.measures import JUDGE
from training.run import Run

SHOWN_DROPS = 20


def steps_bar(current: int) -> str:
    """Data → Train → Compare → Keep, with the current one marked; 0 is Data."""
    items = []
    for place, name in enumerate(theme.STEPS):
        kind = "done" if place < current else "now" if place == current else "later"
        here = ' aria-current="step"' if place == current else ""
        items.append(f'<li class="{kind}"{here}><span aria-hidden="true">{place + 1}</span>{name}</li>')
    return f'<ol class="steps" aria-label="Steps">{"".join(items)}</ol>'


def heading(run: Progress, is_own: bool = True) -> str:
    """Name and state of the run, what it is made of, and whether somebody else showed it."""
    made_of = [f"{escaped(run.method.upper().replace('LORA', 'LoRA'))} on {escaped(run.base)}",
               f"{escaped(run.data['name'])}: {count(run.data['train'], 'conversation')}"]
    if run.data["held_out"]:
        made_of.append(f"{run.data['held_out']} held out")
    if run.trainable:
        made_of.append(f"{run.trainable:,} numbers learned")
    return (f'<div class="run-heading"><h2 dir="auto">{escaped(run.name)}</h2>'
            f'<span class="state {run.state}">{theme.STATES[run.state]}</span>'
            f'<p class="muted">{" · ".join(made_of)}</p>{"" if is_own else f"<p>{theme.LOOKING}</p>"}</div>')


def announcement(run: Progress) -> str:
    """The sentence that screen readers hear: it changes with the state and with each quarter, not each step."""
    if run.state == "running" and run.steps:
        quarter = 4 * run.step // run.steps * 25
        return f"{escaped(run.name)} is training{f', {quarter} % done' if quarter else ''}."
    return f"{escaped(run.name)}: {theme.STATES[run.state]}. {outcome(run)}"


def bar(run: Progress, before: int = 0) -> str:
    """How far the run is, as a bar and in words; a waiting one says how many come `before` it."""
    share = 100 * run.step / run.steps if run.steps else 0
    waiting = " waiting" if run.state in ("queued", "preparing") or (run.state == "running" and not run.step) else ""
    return (f'<div class="bar {run.state}{waiting}" role="progressbar" aria-label="Progress" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{share:.0f}"><div style="width:{share:.1f}%"></div></div>'
            f'<p class="bar-words">{escaped(standing(run, before))}</p>')


def standing(run: Progress, before: int = 0) -> str:
    """Where the run is, in one line."""
    if run.state == "queued":
        return theme.QUEUED_BEHIND.format(count=before) if before > 1 else theme.QUEUED_NEXT
    if run.stopping:
        return "Stopping after this step; what was learned is kept."
    if run.state == "running" and run.skipped and run.step:
        return f"Step {run.step:,} of {run.steps:,}. A damaged checkpoint was skipped ({'; '.join(run.skipped)})."
    if run.state == "running" and run.step:
        left = f", about {duration(run.seconds_left)} left" if run.seconds_left else ""
        now = theme.MEASURED_LAST if run.step == run.steps else ""
        return f"Step {run.step:,} of {run.steps:,}{now}{left}"
    if run.state == "running":
        return theme.ASKING_FIRST
    if run.state == "preparing":
        return "Loading the base. This takes a few seconds …"
    steps = f"Step {run.step:,} of {run.steps:,}" if run.steps else "No step was made"
    return f"{steps}, after {duration(run.ending.get('seconds') or run.seconds)}"


def outcome(run: Progress) -> str:
    """How the run ended, in a sentence or two; empty while it goes on."""
    ending = run.ending
    if run.state == "failed":
        return escaped(f"{ending.get('message', 'The training failed.')} {ending.get('advice', '')}".strip())
    if run.state == "interrupted":
        return (f"The training was interrupted after step {run.step:,}: its process ended before the run did. "
                "Resume it, and it goes on from its newest checkpoint as if nothing had happened.")
    if run.state == "paused":
        why = f"{ending.get('message', '')} {ending.get('advice', '')}".strip()
        return escaped(f"The training is paused after step {run.step:,}. {why or theme.GOES_ON}")
    if run.state not in ("finished", "stopped"):
        return ""
    stopped = f"was stopped after step {run.step:,}, and what it learned is kept"
    verb = "is ready" if run.state == "finished" else stopped
    said = f"{_went_back(ending)}{_verdict(run)}{_judged(ending)}{_checked(ending.get('check'))}"
    return f"<strong>{escaped(run.adapter)}</strong> {verb}. {said}"


def _judged(ending: Mapping[str, Any]) -> str:
    """Its answers against those before, and what the number means by which they are judged."""
    words = ending.get("verdict", "")
    meaning = f' <span class="muted">{theme.CHRF}</span>' if JUDGE in words else ""
    return f' <span class="judged">{escaped(words)}{meaning}</span>' if words else ""


def _went_back(ending: Mapping[str, Any]) -> str:
    if "diverged_at" in ending:
        return f'<span class="warning">{escaped(ending["advice"])}</span> '
    return theme.WENT_BACK.format(step=ending["went_back_to"]) if "went_back_to" in ending else ""


def _checked(check: Mapping[str, Any] | None) -> str:
    """What is wrong with the adapter, where something is."""
    said = [] if not check else [*([] if check["ok"] else [check["verdict"]]), *check["warnings"]]
    return "".join(f' <span class="warning">{escaped(words)}</span>' for words in said)


def _verdict(run: Progress) -> str:
    before, after = run.ending.get("loss_before"), run.ending.get("loss")
    if not before or after is None:
        return ""
    if run.is_lesson and run.continued:
        return theme.LESSON_LOSS.format(before=before, after=after)
    if after >= before:
        first = "before" if run.continued else "the base"
        return (f"On conversations it never saw it does no better than {first} (loss {before:.2f} before, "
                f"{after:.2f} now). More epochs or a higher learning rate may help.")
    return f"On conversations it never saw, its loss fell from {before:.2f} to {after:.2f}."


def said(run: Progress) -> str:
    """What the model says now, beside what it said before, question by question."""
    if not run.prompts:
        words = theme.SAYS_WAITING if not run.over else "The run ended before the model could say anything."
        return f'<p class="empty">{words}</p>'
    changed = run.said_at > 0
    cards = zip(run.prompts, run.said_before, run.said, strict=True)
    when = f"after step {run.said_at:,}" if changed else "" if run.over else "soon"
    waiting = f'<div class="text muted">{theme.NEVER_ASKED if run.over else theme.FIRST_WORDS_SOON}</div>'
    who = theme.said_before(run.continued)
    return "".join(_card(prompt, (who, before), as_written(now) if changed else waiting, when)
                   for prompt, before, now in cards)


def _card(prompt: str, first: tuple[str, str], spoken: str, when: str) -> str:
    return (f'<article class="said"><h3 class="asked" dir="auto">{escaped(prompt)}</h3><div class="sides">'
            f'<section class="now"><h4>{theme.NOW_SAYS} <span>{when}</span></h4>{spoken}</section>'
            f'<section class="before"><h4>{first[0]}</h4>{as_written(first[1])}</section></div></article>')


def losses(run: Progress) -> str:
    """Both losses as a drawing with its newest values."""
    lines = loss_curves(run)
    if not any(line.points for line in lines):
        return _no_numbers(run)
    legend = "".join(f'<div class="{line.kind}"><dt>{line.label}</dt><dd>{_newest(line)}</dd></div>' for line in lines)
    return f'<dl class="legend">{legend}</dl>{curves.drawing(lines, run.steps, theme.LOSS_TITLE)}'


def _no_numbers(run: Progress) -> str:
    return f'<p class="empty">{theme.NO_LOSS if run.over else theme.LOSS_WAITING}</p>'


def loss_curves(run: Progress) -> list[curves.Curve]:
    """Training loss and held-out loss."""
    return [curves.Curve("learned", theme.TRAINING_LOSS, run.losses),
            curves.Curve("unseen", theme.HELD_OUT_LOSS, run.held_out, dots=True)]


def _newest(line: curves.Curve) -> str:
    if not line.points:
        return "–"
    first, last = line.points[0][1], line.points[-1][1]
    return f"{last:.2f}" if len(line.points) == 1 else f'<span class="first">{first:.2f} →</span> {last:.2f}'


def loss_table(run: Progress) -> str:
    """The losses as numbers, and what else was measured at each evaluation."""
    perplexity = [(step, math.exp(min(loss, 50))) for step, loss in run.held_out]
    more = ((theme.PERPLEXITY, perplexity), (theme.WORDS_RIGHT, run.right), (theme.GENERAL_LOSS, run.general))
    return curves.table([*loss_curves(run), *(curves.Curve("unseen", name, points) for name, points in more if points)])


def speed(run: Progress) -> str:
    """Tokens per second, drawn and as a table."""
    if not run.speeds:
        return _no_numbers(run)
    lines = [curves.Curve("learned", "tokens per second", run.speeds)]
    newest = f'<p class="muted">{run.speeds[-1][1]:,.0f} tokens per second on {escaped(run.device)}</p>'
    return newest + curves.drawing(lines, run.steps, theme.SPEED) + curves.table(lines)


def kept(run: Progress, home: str) -> str:
    """Where the adapter is, for a run that made one."""
    if not run.adapter:
        return ""
    if not home:
        return (f'<p>It is in the Chat tab already, under <strong>{escaped(run.adapter)}</strong>. The download holds '
                "its files, in PEFT's format.</p>")
    return (f'<p>It is in the Chat tab already, under <strong>{escaped(run.adapter)}</strong>. Its files, in PEFT\'s '
            f'format:</p><p class="path"><code>{escaped(home)}/adapters/{escaped(run.adapter)}</code></p>')


def about(run: Run, picture: Progress, log: str) -> str:
    """What the run was asked for, what it learned from, and what became of the plan; its trainer's log where given."""
    settings = [(SETTINGS[name].label, value) for name, value in run.config.settings().items() if value != ""]
    parts = [table(theme.RUN_SETTINGS, settings), table(theme.RUN_DATA, _data_rows(picture.data))]
    if picture.ending.get("check"):
        parts.append(f'<p class="checked">{escaped(picture.ending["check"]["verdict"])}</p>')
    if "planned_seconds" in picture.ending:
        parts.append(_plan_and_outcome(picture.ending))
    if log.strip():
        parts.append(f'<h4>{theme.RUN_LOG}</h4><pre class="log" tabindex="0">{escaped(log.strip())}</pre>')
    return "".join(parts)


def _data_rows(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    dropped = [(f"Row {one['row']}", one["reason"]) for one in data.get("rows_dropped", ())[:SHOWN_DROPS]]
    return [("Name", data["name"]), ("Form", data["format"]), ("Rows read", f"{data['rows']:,}"),
            ("Left out", f"{data['dropped']:,}"), *dropped, ("Trained on", f"{data['train']:,}"),
            ("Held out", f"{data['held_out']:,}")]


def _plan_and_outcome(ending: Mapping[str, Any]) -> str:
    rows = [("Time", duration(ending["planned_seconds"]), duration(ending["seconds"])),
            ("Memory", *(f"{ending[name] / GIBIBYTE:.2f} GB" for name in ("planned_peak_bytes", "peak_bytes")))]
    lines = "".join(f'<tr><th scope="row">{name}</th><td>{planned}</td><td>{was}</td></tr>'
                    for name, planned, was in rows)
    return (f'<table class="numbers"><caption>{theme.RUN_PLAN}</caption><thead><tr><td></td><th scope="col">planned'
            f'</th><th scope="col">was</th></tr></thead><tbody>{lines}</tbody></table>')


def link(run_id: str, key: str, many_visitors: bool) -> str:
    """The link with which others look at the run; nothing while it isn't shared. Where each visitor doesn't see their
    own things alone, it opens no less than the app itself does.
    """
    if not key:
        return ""
    words = theme.SHARED_LINK if many_visitors else theme.SHARED_HERE
    return (f'<p class="shared"><a href="?run={escaped(run_id)}&amp;key={escaped(key)}">{words}</a> '
            f'<button type="button" class="copy">{theme.COPY_LINK}</button>'
            f'<span class="copied" role="status"></span></p>')


def listed(runs: Sequence[Run]) -> str:
    """All runs, newest first, each a link that opens it."""
    if not runs:
        return f'<p class="empty">{theme.NO_RUNS}</p>'
    return f'<ul class="runs">{"".join(_row(run) for run in runs)}</ul>'


def _row(run: Run) -> str:
    state, first, last = run.state(), run.first_event(), run.last_event()
    ending = last.values if last else {}
    before, after = ending.get("loss_before"), ending.get("loss")
    fell = f"held-out loss {before:.2f} → {after:.2f}" if before and after is not None else ""
    began = time.strftime("%d %b %Y, %H:%M", time.localtime(first.time)) if first else ""
    facts = "".join(f"<span>{escaped(fact)}</span>" for fact in (run.about_data["name"], fell, began))
    return (f'<li><a href="?run={escaped(run.id)}"><strong dir="auto">{escaped(run.config.name)}</strong>'
            f'<span class="state {state}">{theme.STATES[state]}</span>{facts}</a></li>')
