"""What a run's events say, gathered into one picture that the page can draw."""

from dataclasses import dataclass, field
from typing import Any

from training.run import RESTING, Event, Run

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class Progress:
    """A run as a visitor sees it. Points are (step, value); `said` is the newest answers, `said_before` the first:
    the base's, or where the run has `continued` an adapter, that one's.
    """

    id: str
    name: str
    method: str
    base: str
    data: dict[str, Any]
    state: str
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None
    device: str = ""
    trainable: int = 0
    losses: Points = field(default_factory=list)
    held_out: Points = field(default_factory=list)
    right: Points = field(default_factory=list)    # percent of held-out words that were the likeliest
    general: Points = field(default_factory=list)  # loss on general rows
    speeds: Points = field(default_factory=list)
    prompts: tuple[str, ...] = ()
    said_before: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    said_at: int = 0
    stopping: bool = False
    skipped: tuple[str, ...] = ()
    shared: bool = False
    continued: bool = False
    is_lesson: bool = False
    ending: dict[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in RESTING

    @property
    def can_go_on(self) -> bool:
        """Whether a resume has something to do."""
        return self.state in ("interrupted", "paused", "stopped", "failed")

    @property
    def adapter(self) -> str:
        """The name of the adapter that the run made, or nothing."""
        return self.ending.get("adapter", "")


def progress_of(run: Run, events: list[Event], state: str) -> Progress:
    """Read once from the events; the same events always give the same picture."""
    seen: dict[str, Any] = {"losses": [], "held_out": [], "right": [], "general": [], "speeds": []}
    for event in events:
        _note(seen, event)
    return Progress(run.id, run.config.name, run.config.method, run.config.base, run.about_data, state,
                    stopping=state == "running" and run.is_asked_to_stop(), shared=bool(run.shared_key()),
                    continued=run.config.continues, is_lesson=run.is_lesson, **seen)


def _note(seen: dict[str, Any], event: Event) -> None:
    values = event.values
    # Of whatever names the newest step, since a loss may be logged but now and then; a resume goes back.
    seen["step"] = max(0 if event.type == "resumed" else seen.get("step", 0), event.step or 0)
    if event.type in ("started", "resumed"):
        seen |= {"steps": values["steps"], "device": values["device"], "trainable": values["trainable_parameters"],
                 "skipped": tuple(values.get("skipped", ())), "ending": {}}
    elif event.type == "step":
        seen["losses"].append((event.step, values["loss"]))
        seen["speeds"].append((event.step, values["tokens_per_second"]))
        seen |= {"seconds": values["seconds"], "seconds_left": values["seconds_left"]}
    elif event.type == "evaluated":
        seen["held_out"].append((event.step, values["loss"]))
        if values.get("accuracy") is not None:
            seen["right"].append((event.step, 100 * values["accuracy"]))
        if values.get("general_loss") is not None:
            seen["general"].append((event.step, values["general_loss"]))
    elif event.type == "sampled":
        answers = tuple(values["answers"])
        seen |= {"prompts": tuple(values["prompts"]), "said": answers, "said_at": event.step}
        seen.setdefault("said_before", answers)
    elif event.type in ("finished", "stopped", "failed", "lease_ended"):
        seen |= {"ending": values}
