"""A folder that is a dataset's repository: which of its files hold rows, and for what, where its README says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from training.reading.containers import split_of

README = "README.md"


@dataclass(frozen=True)
class Described:
    """The files of one configuration, the split of each (empty where its name tells), and a sentence on the others."""

    files: tuple[Path, ...] = ()
    splits: tuple[str, ...] = ()
    note: str = ""


def described(folder: Path) -> Described:
    """What the README's `configs` say, as the Hub's datasets have them: of the one that is called default or marked so,
    or of the only one. Nothing where they name no file that is here.

    ValueError where there are several and none is the usual one.
    """
    configs = {str(one.get("config_name", "default")): one for one in _configs(folder)}
    found = {name: list(dict.fromkeys(_files(folder, one))) for name, one in configs.items()}
    found = {name: files for name, files in found.items() if files}
    if not found:
        return Described()
    usual = next((name for name in found if configs[name].get("default") is True), None)
    name = usual or ("default" if "default" in found else next(iter(found)))
    if len(found) > 1 and usual is None and name != "default":
        raise ValueError(f"The folder {folder.name} holds several sets of rows: {', '.join(found)}. Name the files of "
                         "one of them.")
    first: dict[str, str] = {}  # as `datasets`' own names are taken: of several for training, the first
    kept = [(path, split) for path, split in found[name]
            if first.setdefault(split_of(split) or split, split) == split]
    others = [*(other for other in found if other != name),
              *dict.fromkeys(split for _, split in found[name] if split not in first.values())]
    note = f"{README} names other rows, which aren't read: {', '.join(others)}." if others else ""
    return Described(tuple(path for path, _ in kept), tuple(split_of(split) for _, split in kept), note)


def _configs(folder: Path) -> list[Mapping[str, Any]]:
    import yaml
    from huggingface_hub import metadata_load

    path = folder / README
    try:
        about = metadata_load(path) if path.is_file() else None
    except (OSError, ValueError, yaml.YAMLError):  # somebody's README, which needn't be a dataset's
        return []
    configs = (about or {}).get("configs")
    return [one for one in configs if isinstance(one, dict)] if isinstance(configs, list) else []


def _files(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for split, pattern in _patterns(config):
        place = PurePosixPath(pattern)
        if not pattern or place.is_absolute() or ".." in place.parts or "://" in pattern:
            continue  # nothing outside of the folder
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                yield path, split


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(split, pattern) of each."""
    said = config.get("data_files")
    if said is None and isinstance(config.get("data_dir"), str):
        yield "", f"{config['data_dir'].strip('/')}/**/*.*"
    by_split = said if isinstance(said, dict) else {}
    listed = said if isinstance(said, list) else [said]
    named = [(one.get("split"), one.get("path")) if isinstance(one, dict) else ("train", one) for one in listed]
    for split, patterns in (by_split.items() if by_split else named):
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            if isinstance(pattern, str):
                yield str(split), pattern
