"""Publish an adapter: its files, its card and what may be known of its making go to the Hub as one commit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.card import PICTURE, Card, snippet
from adapters.disclosure import disclosed, public_base
from adapters.files import CONFIG, WEIGHTS, found, printable, read_header, read_object, wanted
from adapters.hub import Hub, checked_token, repository_name
from adapters.hub_refusals import plainly
from adapters.library import PROVENANCE

README = "README.md"
# What a repository may hold already besides an adapter, so that publishing there buries nothing.
_HARMLESS = (".gitattributes", README, PICTURE, PROVENANCE)
_OID = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Published:
    """Where an adapter is now. `is_new` is False where the Hub had just these files already."""

    repository: str
    revision: str
    address: str
    private: bool
    is_new: bool
    snippet: str


def publish(hub: Hub, adapter: Path, name: str, token: str, card: Card, private: bool = True) -> Published:
    """Send an adapter's folder to `name` (owner/name, or a name under the token's own account).

    Nothing but adapter_config.json, adapter_model.safetensors, the card with its picture, and a provenance without
    anything private travels, as one commit. After an interruption it can be repeated and ends the same: what had
    arrived isn't sent again. Under a name of one's own that holds an adapter already it makes a new revision.

    ValueError with a sentence where the adapter is none, the name is somebody else's or holds something else, the token
    is expired or may not write, or the Hub can't be reached; the adapter stays as it is.
    """
    *_, last = publishing(hub, adapter, name, token, card, private)
    return last


def publishing(hub: Hub, adapter: Path, name: str, token: str, card: Card,
               private: bool = True) -> Iterator[str | Published]:
    """The same, step by step: a sentence as each begins, and at the end what was published."""
    files = parcel(adapter, card)
    token = checked_token(token)
    yield "Asking the Hub who you are."
    account = hub.account(token)
    repository = repository_name(name, account.name)
    if not account.owns(repository):
        raise ValueError(f"{repository} is under somebody else's account, and you are {account.name} on the Hub. "
                         f"Publish under {account.name}/ instead. Your adapter stays here as it is.")
    if not account.may_write:
        raise ValueError(f"This token may only read. Make one with write permission at {hub.address}/settings/tokens. "
                         "Your adapter stays here as it is.")
    there = hub.there(repository, token)
    if there is None:
        yield f"Making {repository}."
        with plainly(hub.address, repository, writes=True):
            hub.api().create_repo(repository, private=private, exist_ok=True, token=token)
        there = hub.there(repository, token)
    _may_go_there(there, repository, private, hub.address)
    size = sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in files.values())
    yield f"Sending {size / 1e6:.1f} MB."
    yield _committed(hub, repository, files, there, token)


def parcel(adapter: Path, card: Card) -> dict[str, bytes | Path]:
    """All that travels, by its name on the Hub; ValueError where the folder holds no sound adapter.

    A base that is a folder of this machine is named by its last name alone: a path says nothing to others, and may say
    too much.
    """
    wanted(found(adapter))
    config = read_object(adapter / CONFIG)
    read_header(adapter / WEIGHTS)
    files: dict[str, bytes | Path] = {CONFIG: adapter / CONFIG, WEIGHTS: adapter / WEIGHTS, README: card.text.encode()}
    base = config.get("base_model_name_or_path")
    if isinstance(base, str) and public_base(base) != base:
        files[CONFIG] = _as_json({**config, "base_model_name_or_path": public_base(base)})
    provenance = adapter / PROVENANCE
    told = disclosed(read_object(provenance)) if provenance.is_file() else {}
    if told:
        files[PROVENANCE] = _as_json(told)
    if card.picture:
        files[PICTURE] = card.picture
    return files


def _may_go_there(there: Any | None, repository: str, private: bool, address: str) -> None:
    if there is None:
        raise ValueError(f"{repository} was made on the Hub, and can't be seen there yet. Publish again in a minute. "
                         "Your adapter stays here as it is.")
    names = [one.rfilename for one in there.siblings or []]
    others = [one for one in names if one not in _HARMLESS]
    if others and CONFIG not in names:
        raise ValueError(f"{repository} holds something else already ({printable(others[0])}), which an adapter would "
                         "bury. Choose another name.")
    if private and not there.private:
        raise ValueError(f"{repository} is public on the Hub, and you asked for a private one. Choose another name, or "
                         f"make it private at {address}/{repository}/settings first.")


def _committed(hub: Hub, repository: str, files: Mapping[str, bytes | Path], there: Any, token: str) -> Published:
    """One commit on top of what was there when we looked; a file that hasn't changed isn't sent."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    changes: list[Any] = [CommitOperationAdd(name, content) for name, content in files.items()]
    changes += [CommitOperationDelete(one.rfilename) for one in there.siblings or []
                if one.rfilename in (PICTURE, PROVENANCE) and one.rfilename not in files]
    parent = there.sha if _OID.fullmatch(there.sha or "") else None
    with plainly(hub.address, repository, writes=True):
        done = hub.api().create_commit(repository, changes, commit_message=f"Publish {repository.split('/')[1]}",
                                       token=token, parent_commit=parent)
    config = files[CONFIG]
    base = (json.loads(config) if isinstance(config, bytes) else read_object(config)).get("base_model_name_or_path")
    return Published(repository, done.oid, f"{hub.address}/{repository}", bool(there.private), done.oid != parent,
                     snippet(base if isinstance(base, str) else "", repository))


def _as_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
