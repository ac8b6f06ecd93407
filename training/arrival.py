"""A kept run that comes back: every file is named, bounded and read as plain values; nothing in it is run or unpickled.

Whoever signs in on a shared Space can put anything into their own repository, so it is trusted no more than an upload.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.disclosure import is_verdict
from adapters.fetch import Wish, download, is_on_a_hub, repository_at
from adapters.files import (
    CONFIG,
    MEBIBYTE,
    WEIGHTS,
    as_object,
    left_aside,
    printable,
    read_header,
    read_object,
    sha256_of,
)
from adapters.hub import Hub
from adapters.library import Library, checked_name
from adapters.peft_config import settings_from
from training import checkpoint
from training.config import RunConfig
from training.conversations import Conversation, Conversations, gathered
from training.data import LISTED_DROPS, ChatData, DroppedRow
from training.evaluate import FILE as EVALUATION
from training.evaluate import Evaluation
from training.group import checked_group
from training.limits import Limits
from training.numbers import STATE, TENSORS, write_state
from training.owners import Owners
from training.run import START, Event, Run, write_events
from training.runs import Runs, fill
from training.shapes import as_messages

FORMAT = 1
ABOUT, ROWS, EVENTS, CHECKPOINT = "run.json", "rows.jsonl", "events.jsonl", "checkpoint"
LOWEST = "lowest"  # what an earlier checkpoint had learned, where held-out loss was lower than at the newest
LORALIB = ("loralib/lora.json", "loralib/lora.safetensors")
TRAINER_STATE = "trainer_state.json"
STARTED = (CONFIG, WEIGHTS, "about.json")
LONGEST_TEXT, MOST_PROMPTS = 20_000, 8
# What a trainer keeps for going on, of everything that `TrainerState` could hold; the events hold the losses.
_STATE = ("epoch", "global_step", "max_steps", "num_train_epochs", "num_input_tokens_seen", "total_flos",
          "train_batch_size", "logging_steps", "eval_steps", "save_steps")
# The events that are kept, with what each may say (training/train.py writes them).
_NUMBER, _NUMBER_OR_NONE, _TEXT, _TEXTS = "number", "number or none", "text", "texts"
_BEGUN = {"rows": _NUMBER, "held_out": _NUMBER, "data": _TEXT}
_EVENTS: dict[str, dict[str, str]] = {
    "queued": _BEGUN, "created": _BEGUN,
    "started": {"base": _TEXT, "method": _TEXT, "device": _TEXT, "threads": _NUMBER, "steps": _NUMBER,
                "trainable_parameters": _NUMBER, "planned_seconds": _NUMBER, "planned_peak_bytes": _NUMBER},
    "step": {"loss": _NUMBER, "learning_rate": _NUMBER_OR_NONE, "epoch": _NUMBER, "seconds": _NUMBER,
             "seconds_left": _NUMBER, "tokens_per_second": _NUMBER},
    "evaluated": {"loss": _NUMBER, "accuracy": _NUMBER_OR_NONE, "general_loss": _NUMBER_OR_NONE},
    "sampled": {"prompts": _TEXTS, "answers": _TEXTS},
}

# What an evaluation says of each measure and of each row that it shows (training/evaluate.py).
_COMPARISON = {"measure": _TEXT, "before": _NUMBER, "adapter": _NUMBER, "low": _NUMBER_OR_NONE, "high": _NUMBER_OR_NONE,
               "count": _NUMBER}
_ANSWERED = {"prompt": _TEXT, "reference": _TEXT, "before": _TEXT, "adapter": _TEXT, "gain": _NUMBER}


@dataclass(frozen=True)
class Files:
    """The files of a kept run in a folder; the Hub's have the same names. No other name is ever fetched."""

    folder: Path

    @staticmethod
    def weights(method: str) -> tuple[str, ...]:
        """The files of a checkpoint that hold what was learned."""
        return LORALIB if method == "loralib" else (CONFIG, WEIGHTS)

    @staticmethod
    def bounds() -> dict[str, int]:
        """Every name that there may be, with the most bytes that are read of it."""
        large, small = 2048 * MEBIBYTE, MEBIBYTE
        return {ABOUT: 4 * small, ROWS: 128 * small, EVENTS: 64 * small, EVALUATION: 4 * small,
                f"{CHECKPOINT}/{CONFIG}": small, f"{CHECKPOINT}/{WEIGHTS}": large, f"{CHECKPOINT}/{LORALIB[0]}": small,
                f"{CHECKPOINT}/{LORALIB[1]}": large, f"{CHECKPOINT}/{TRAINER_STATE}": small,
                f"{CHECKPOINT}/{STATE}": small, f"{CHECKPOINT}/{TENSORS}": 2 * large,
                f"{LOWEST}/{CONFIG}": small, f"{LOWEST}/{WEIGHTS}": large, f"{LOWEST}/{LORALIB[0]}": small,
                f"{LOWEST}/{LORALIB[1]}": large,
                f"{START}/{CONFIG}": small, f"{START}/{WEIGHTS}": large, f"{START}/about.json": small}

    def here(self) -> Iterator[tuple[str, Path]]:
        """Those that are in the folder, but for the one that lists the others."""
        for name in self.bounds():
            if name != ABOUT and (self.folder / name).is_file():
                yield name, self.folder / name

    def needed(self, config: RunConfig) -> set[str]:
        """The names that a run with these settings can't do without."""
        held = [*self.weights(config.method), TRAINER_STATE, STATE, TENSORS]
        started = [f"{START}/{name}" for name in STARTED] if config.start_from else []
        return {ROWS, EVENTS, *(f"{CHECKPOINT}/{name}" for name in held), *started}

    def extra(self, config: RunConfig) -> set[str]:
        """Those that one may have besides."""
        return {EVALUATION, *(f"{LOWEST}/{name}" for name in self.weights(config.method))}


@dataclass(frozen=True)
class Home:
    """Where a run comes back to, and whose it is then: of `owner`, who is signed in and has `owners`' other runs too.
    `bases` are those that are trained here.
    """

    runs: Runs
    limits: Limits
    owner: str
    owners: Owners
    bases: Sequence[str]


@dataclass(frozen=True)
class Arrived:
    """What was read of a kept run, checked."""

    config: RunConfig
    data: ChatData
    sides: tuple[list[Conversation], list[Conversation]]
    events: list[dict[str, Any]]
    step: int
    lowest: int | None = None  # the step of the checkpoint of lowest held-out loss, where it is an earlier one
    evaluation: Evaluation | None = None


def bring_back(hub: Hub, repository: str, token: str, home: Home) -> tuple[Run, str]:
    """A kept run as a new run of this studio, paused at its checkpoint, and the revision that it came from.

    Its files are listed first and come from that one revision. ValueError with a sentence where something else lies
    there, a name is none of a kept run's and could hold code, a file is too large, damaged or says what no trainer
    wrote, the base is another one, or a limit forbids it; nothing is left behind then.
    """
    there = repository_at(hub, repository, token)
    listing = _checked_listing({one.rfilename: one.size if isinstance(one.size, int) else 0
                                for one in there.siblings or []})
    home.runs.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".arriving-", dir=home.runs.home, ignore_cleanup_errors=True) as folder:
        files = Files(Path(folder))
        download(hub, there, ABOUT, files.folder, token)
        about = read_object(files.folder / ABOUT, Files.bounds()[ABOUT])
        config = _config(about, home)
        missing = files.needed(config) - set(listing)
        if missing:
            raise ValueError(f"{min(missing)} is missing in {repository}. Keep the run again, where it still is.")
        home.limits.check_kept(_size(listing, files.needed(config)))
        # An older commit may have left some behind.
        wanted = files.needed(config) | files.extra(config) & set(listing) & set(_sealed(about))
        for name in sorted(wanted if home.limits.holds_kept(_size(listing, wanted)) else files.needed(config)):
            download(hub, there, name, files.folder, token)
            _is_as_sealed(files.folder / name, name, about)
        arrived = _read(files.folder, about, config)
        own = home.runs.of(home.owners)
        home.limits.check_run(arrived.config, arrived.data, own, home.runs)
        return _settled(arrived, files.folder, home, repository), there.sha


def told_events(lines: Iterable[Mapping[str, Any]], step: int, config: RunConfig) -> list[dict[str, Any]]:
    """The events up to a step that tell of the training itself, each with nothing but what belongs to it. What says
    something that no trainer wrote is left out: a page has to show them, and a queue to read them.
    """
    kept: list[dict[str, Any]] = []
    for line in lines:
        known, at = _EVENTS.get(str(line.get("type")), {}), line.get("step")
        told = {name: line.get(name) for name in known}
        is_sound = known and _is_time(line.get("time")) and all(_is_said(told[name], known[name]) for name in known)
        if known is _BEGUN and (group := checked_group(line.get("group"), config)):
            told["group"] = group
        is_stepwise = line.get("type") not in ("queued", "created", "started")
        if is_sound and (type(at) is int and 0 <= at <= step if is_stepwise else at is None):
            kept.append({"type": line["type"], "time": line["time"], **({"step": at} if is_stepwise else {}), **told})
    prompts = next((len(one["prompts"]) for one in kept if one["type"] == "sampled"), 0)
    return [one for one in kept if one["type"] != "sampled" or len(one["prompts"]) == len(one["answers"]) == prompts]


def told_evaluation(path: Path) -> Evaluation | None:
    """What was measured at the run's end, in nothing but words of ours and numbers, and texts that a page can show;
    None where nothing was, or something else stands there.
    """
    plain = read_object(path, Files.bounds()[EVALUATION]) if path.is_file() else {}
    compared, rows = plain.get("comparisons"), [plain.get(name) for name in ("best", "worst")]
    general = [] if plain.get("general") is None else [plain["general"]]
    is_sound = is_verdict(plain.get("verdict")) and isinstance(plain.get("continued"), bool) and _are_said(
        compared, _COMPARISON) and _are_said(general, _COMPARISON) and all(_are_said(some, _ANSWERED) for some in rows)
    return Evaluation.from_json(plain) if is_sound else None


def trainer_state(path: Path, step: int) -> dict[str, Any]:
    """The numbers of a trainer_state.json that a trainer needs for going on; ValueError where it holds others."""
    whole = read_object(path, 64 * MEBIBYTE)
    state = {name: whole[name] for name in _STATE if whole.get(name) is not None}
    if state.get("global_step") != step or not all(_is_said(value, _NUMBER) for value in state.values()):
        raise ValueError(f"{TRAINER_STATE} says what no trainer wrote. Keep the run again.")
    return state


def _checked_listing(sizes: Mapping[str, int]) -> dict[str, int]:
    """The files that may be fetched, out of all that lie there."""
    if ABOUT not in sizes:
        raise ValueError(f"It holds no {ABOUT}, so it is no run that was kept. Choose another one.")
    pickles = [name for name in left_aside(sizes) if not name.endswith(".py")]
    if pickles:
        raise ValueError(f"It holds {printable(pickles[0])}, a pickle, which can run code when it is opened, and no "
                         "kept run holds one. Nothing of it was taken.")
    bounds = Files.bounds()
    listing = {name: size for name, size in sizes.items() if name in bounds}
    for name, size in listing.items():
        if not 0 < size <= bounds[name]:
            raise ValueError(f"{name} has {size:,} bytes; between 1 and {bounds[name]:,} are read.")
    return listing


def _size(listing: Mapping[str, int], names: Iterable[str]) -> int:
    """Bytes of these files together."""
    return sum(listing[name] for name in names)


def _config(about: Mapping[str, Any], home: Home) -> RunConfig:
    """The run's settings, with a name that its owner has free."""
    settings = about.get("settings")
    if about.get("format") != FORMAT or not isinstance(settings, dict) or not all(
            isinstance(value, (str, int, float)) for value in settings.values()):
        raise ValueError(f"{ABOUT} can't be read by this version of the app. Keep the run again, with this one.")
    config = RunConfig.from_settings(settings)
    if config.base not in home.bases:
        raise ValueError(f"The run's base is {printable(config.base, 120)}, and here {' and '.join(home.bases)} "
                         f"{'is' if len(home.bases) == 1 else 'are'} trained. Bring it back where its base is.")
    if config.start_from:
        _demand_a_name(config.start_from)
    taken = {*Library(home.runs.home, {home.owner, *home.owners}).names(),
             *(run.config.name for run in home.runs.of(home.owners))}
    name = checked_name(config.name)
    free = next(one for one in (name, *(f"{name[:58].rstrip('.')}-{number}" for number in range(2, 10_000)))
                if one not in taken)
    return RunConfig.from_settings({**config.settings(), "name": free})


def _demand_a_name(start: str) -> None:
    """ValueError where a run could not name so what it starts from: by a library's name, or a commit on the Hub. It
    stands in the run's script, which others may run.
    """
    wish = Wish.of(start) if is_on_a_hub(start) else None
    if (f"{wish.repository}@{wish.revision}" if wish else checked_name(start)) != start:
        raise ValueError(f"The run starts from {printable(start, 120)}, which names no adapter. Keep the run again.")


def _sealed(about: Mapping[str, Any]) -> dict[str, Any]:
    """Size and hash of each file that was kept."""
    files = about.get("files")
    return files if isinstance(files, dict) else {}


def _is_as_sealed(path: Path, name: str, about: Mapping[str, Any]) -> None:
    if _sealed(about).get(name) != {"bytes": path.stat().st_size, "sha256": sha256_of(path)}:
        raise ValueError(f"{name} is not as it was sealed, so nothing was taken. Keep the run again, where it still "
                         "is.")


def _read(folder: Path, about: Mapping[str, Any], config: RunConfig) -> Arrived:
    step = about.get("step")
    if type(step) is not int or not 0 < step <= 10_000_000:
        raise ValueError(f"{ABOUT} names no step that a checkpoint could be of. Keep the run again.")
    sides = ([], [])
    for line in _lines(folder / ROWS):
        if type(line.get("row")) is not int or type(line.get("held_out")) is not bool:
            raise ValueError(f"{ROWS} holds a line that is no row of a run. Keep the run again.")
        sides[line["held_out"]].append(_conversation(line["row"], line.get("messages")))
    if not sides[0]:
        raise ValueError(f"{ROWS} holds no conversation to train on. Keep the run again.")
    data = _data(about.get("data"), gathered((*sides[0], *sides[1])))
    lowest = about.get("lowest")
    is_there = type(lowest) is int and 0 < lowest < step and all(
        (folder / LOWEST / name).is_file() for name in Files.weights(config.method))
    return Arrived(config, data, sides, told_events(_lines(folder / EVENTS), step, config), step,
                   lowest if is_there else None, told_evaluation(folder / EVALUATION))


def _are_said(values: Any, known: Mapping[str, str]) -> bool:
    """Whether they are few enough to show, each with these fields and no others."""
    return isinstance(values, list) and len(values) <= MOST_PROMPTS and all(
        isinstance(one, dict) and one.keys() == known.keys()
        and all(_is_said(one[name], kind) for name, kind in known.items()) for one in values)


def _conversation(row: int, messages: Any) -> Conversation:
    try:
        return Conversation(row, tuple(as_messages({"messages": messages})))
    except ValueError as problem:
        raise ValueError(f"Row {row} of {ROWS} can't be used: {problem}. Keep the run again.") from None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield as_object(line, path.name)


def _data(said: Any, conversations: Conversations) -> ChatData:
    """What is known of the data; the counts are made anew."""
    said = said if isinstance(said, dict) else {}
    name, kind, form = (said.get(key) if _is_said(said.get(key), _TEXT) else "" for key in ("name", "kind", "format"))
    listed = said.get("rows_dropped") if isinstance(said.get("rows_dropped"), list) else []
    dropped = tuple(DroppedRow(one["row"], one["reason"]) for one in listed[:LISTED_DROPS] if isinstance(one, dict)
                    and type(one.get("row")) is int and _is_said(one.get("reason"), _TEXT))
    return ChatData(name[:200] or "kept rows", kind[:20], form[:40], conversations, dropped)


def _settled(arrived: Arrived, came: Path, home: Home, repository: str) -> Run:
    """The run's folder, made of what was read."""
    told = {"reason": "brought back", "advice": "Resume it, and it goes on from there.",
            "message": f"It was brought back from {repository} on the Hub."}
    with home.runs.arriving(arrived.config.name) as (run, folder):
        fill(folder, arrived.config, arrived.data, arrived.sides, home.owner)
        events = [Event(one.pop("type"), run.id, one.pop("time"), one.pop("step", None), one)
                  for one in arrived.events]
        write_events(folder, [*events, Event("lease_ended", run.id, time.time(), arrived.step, told)])
        if arrived.evaluation:
            arrived.evaluation.write(folder)
        if arrived.config.start_from:
            _settle_start(came / START, folder / START)
        written = folder / checkpoint.CHECKPOINTS / "checkpoint-arriving"
        _settle_weights(came / CHECKPOINT, written, arrived.config)
        _settle_state(came / CHECKPOINT, written, arrived.step)
        checkpoint.seal(written, arrived.step)
        if arrived.lowest:
            _settle_weights(came / LOWEST, written, arrived.config)
            checkpoint.seal(written, arrived.lowest, goes_on=False)
    return run


def _settle_start(came: Path, folder: Path) -> None:
    settings_from(read_object(came / CONFIG))
    read_header(came / WEIGHTS)
    about = read_object(came / "about.json")
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        (came / name).rename(folder / name)
    told: dict[str, Any] = {name: about[name] for name in ("name", "run", "sha256") if _is_said(about.get(name), _TEXT)}
    hub = about.get("hub")
    if isinstance(hub, dict):
        told["hub"] = {name: hub[name] for name in ("repository", "revision", "address")
                       if _is_said(hub.get(name), _TEXT)}
    (folder / "about.json").write_text(json.dumps(told), encoding="utf-8")


def _settle_weights(came: Path, written: Path, config: RunConfig) -> None:
    """What a checkpoint has learned."""
    for name in Files.weights(config.method):
        path = came / name
        if path.suffix == ".safetensors":
            read_header(path)
        elif name == CONFIG:
            settings_from(read_object(path))
        (written / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(written / name)


def _settle_state(came: Path, written: Path, step: int) -> None:
    """What `Trainer` needs to go on: its three pickles are written here, from numbers."""
    # A place for what the trainer notes of itself at its next checkpoint; it reads nothing there.
    state = {**trainer_state(came / TRAINER_STATE, step), "stateful_callbacks": {"TrainerControl": {}}}
    (written / TRAINER_STATE).write_text(json.dumps(state), encoding="utf-8")
    write_state(came, written)


def _is_said(value: Any, kind: str) -> bool:
    """Whether it is of the kind that it should be, and of a size that a page can show."""
    if kind in (_NUMBER, _NUMBER_OR_NONE):
        return (type(value) in (int, float) and abs(value) < 1e18) or (value is None and kind == _NUMBER_OR_NONE)
    if kind == _TEXT:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT
    return isinstance(value, list) and len(value) <= MOST_PROMPTS and all(_is_said(one, _TEXT) for one in value)


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= time.time() + 60
