"""A group of runs: one Start with several values of a setting or two; each is an ordinary run that names its group."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from training.config import SETTINGS, RunConfig, converted, value_in_words
from training.owners import Owners
from training.run import Run

if TYPE_CHECKING:
    from training.data import ChatData
    from training.runs import Runs

# The values of each setting that is tried.
Tried = Mapping[str, Sequence[Any]]
MOST_RUNS, MOST_SETTINGS = 8, 2
# Characters that one value may take of a name.
LONGEST_VALUE = 20
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # as `members_of` makes them, of an adapter's name
# What says nothing about how a run learns, or would make it one that can't be compared with the others.
_NOT_TRIED = ("held_out", "logging_steps", "eval_steps", "save_steps", "report_to")
TRYABLE = tuple(one.name for one in SETTINGS.values()
                if (one.group != "run" or one.name == "method") and one.name not in _NOT_TRIED)
# An adapter that a run starts from keeps its own.
KEPT_FROM_START = ("r", "lora_alpha", "target_modules", "use_rslora", "use_dora")


@dataclass(frozen=True)
class Group:
    """Where a run belongs: the group's id, the run's place in it from 1 on, how many there are, and its own values of
    the settings that are tried.
    """

    id: str
    place: int
    of: int
    tried: Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """A run that isn't there yet: what it is asked for, and where it belongs."""

    config: RunConfig
    group: Group


def values_of(name: str, text: str) -> tuple[Any, ...]:
    """The several values of a setting, from what somebody wrote: separated by commas, or by semicolons where a value
    holds commas. ValueError where the setting can't be tried, or a value is none of its.
    """
    if name not in TRYABLE:
        if name in SETTINGS:
            raise ValueError(f"{SETTINGS[name].called} can't be tried with several values: all runs of a group learn "
                             "from the same base and are measured on the same conversations. Choose another setting.")
        converted({name: text})  # says that there is none of that name, and which is near
    parts = [part.strip() for part in re.split(";" if ";" in text else ",", text) if part.strip()]
    values = tuple(dict.fromkeys(converted({name: part})[name] for part in parts))
    if len(values) < 2:
        raise ValueError(f"{SETTINGS[name].called} is {text.strip()!r}, and needs at least two different values, "
                         f"such as {_example(name)}.")
    return values


def members_of(config: RunConfig, tried: Tried) -> list[Member]:
    """The runs that try every combination of these values, otherwise as `config` says; their names are the config's
    with the values behind. ValueError where there are too many settings or runs, or where a value can't be used.
    """
    if not 1 <= len(tried) <= MOST_SETTINGS:
        raise ValueError(f"{len(tried)} settings are to be tried, and one Start can try one or {MOST_SETTINGS}.")
    kept = [name for name in tried if name in KEPT_FROM_START]
    if config.start_from and kept:
        raise ValueError(f"{SETTINGS[kept[0]].called} can't be tried on runs that start from an adapter: its rank "
                         "and layers are kept.")
    products = [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]
    if len(products) > MOST_RUNS:
        raise ValueError(f"{' times '.join(str(len(values)) for values in tried.values())} values are "
                         f"{len(products)} runs, and one Start begins {MOST_RUNS} at most. Try fewer values.")
    steps = max(values.get("max_steps", config.max_steps) for values in products)
    if "num_train_epochs" in tried and steps > 0:
        raise ValueError(f"{SETTINGS['num_train_epochs'].called} can't be tried while {SETTINGS['max_steps'].called} "
                         f"is {steps:,}, which overrides them. Set it to -1.")
    group_id = f"{config.name or 'group'}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return [Member(RunConfig.from_settings({**config.settings(), **values}),
                   Group(group_id, place, len(products), values)) for place, values in enumerate(products, 1)]


def named(members: Sequence[Member], data: ChatData, runs: Runs, owners: Owners) -> list[Member]:
    """The same with names that nobody has yet; ValueError where one that was asked for is taken."""
    tails = _tails([one.group.tried for one in members])
    names = runs.free_names(members[0].config.name, data, owners, tails)
    return [replace(one, config=RunConfig.from_settings({**one.config.settings(), "name": name}))
            for one, name in zip(members, names, strict=True)]


def on_one_side(data: ChatData, config: RunConfig) -> ChatData:
    """The same data with the split of `config` settled, so that every run holds the same conversations out, whatever
    its seed.
    """
    from training.data import split

    if not config.held_out or data.own_held:
        return data
    _, held = split(data, config.held_out, config.seed)
    places = {place: number for number, place in enumerate(data.conversations.places.tolist())}
    return replace(data, own_held=tuple(places[place] for place in held.places.tolist()))


def group_of(run: Run) -> Group | None:
    """Where a run belongs, as its first event says; None for one of its own, as all were before there were groups."""
    first = run.first_event()
    told = first.values.get("group") if first else None
    names = [one.name for one in fields(Group)]
    return Group(*map(told.get, names)) if isinstance(told, dict) and told.keys() >= set(names) else None


def checked_group(told: Any, config: RunConfig) -> dict[str, Any] | None:
    """What an event says of a run's group, where a Start could have written it of a run with these settings; None for
    all else. It may come from anybody.
    """
    if not isinstance(told, dict) or told.keys() != {one.name for one in fields(Group)}:
        return None
    place, of, tried = told["place"], told["of"], told["tried"]
    is_counted = type(place) is int and type(of) is int and 1 <= place <= of <= MOST_RUNS
    is_named = isinstance(told["id"], str) and _ID.fullmatch(told["id"])
    settings = config.settings()
    is_tried = isinstance(tried, dict) and 1 <= len(tried) <= MOST_SETTINGS and all(
        name in TRYABLE and type(value) is type(settings[name]) and value == settings[name]
        for name, value in tried.items())
    return told if is_counted and is_named and is_tried else None


def runs_of(group_id: str, runs: Sequence[Run]) -> list[Run]:
    """Those of these runs that belong to a group, in its order."""
    found = [(group.place, run) for run in runs if (group := group_of(run)) and group.id == group_id]
    return [run for _, run in sorted(found, key=lambda one: one[0])]


def in_words(tried: Mapping[str, Any]) -> str:
    """A run's own values: "learning_rate 0.0001, r 8"."""
    return ", ".join(f"{name} {value_in_words(value)}" for name, value in tried.items())


def _tails(tried: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each name ends with: the values, and where these look alike in a name, the place as well."""
    tails = ["".join(f"-{_in_a_name(name, value)}" for name, value in one.items()) for one in tried]
    return tails if len(set(tails)) == len(tails) else [f"-{place}{tail}" for place, tail in enumerate(tails, 1)]


def _in_a_name(name: str, value: Any) -> str:
    words = f"{name}-{value_in_words(value)}" if isinstance(value, bool) else value_in_words(value)
    return re.sub(r"[^A-Za-z0-9._]+", "-", words.replace("e+", "e"))[:LONGEST_VALUE].strip("-.")


def _example(name: str) -> str:
    setting = SETTINGS[name]
    if setting.choices:
        return ", ".join(setting.choices[:2])
    if setting.type is bool:
        return "yes, no"
    if setting.type is str:
        return "all-linear; qkv_proj"
    return ", ".join(map(value_in_words, (setting.default, _other(setting))))


def _other(setting: Any) -> Any:
    doubled = setting.type(setting.default * 2) or 1
    return doubled if setting.minimum <= doubled <= setting.maximum else setting.type(setting.default / 2)
