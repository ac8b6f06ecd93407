"""Whose a run is: one's own machine's, a signed-in name's, or whoever holds its key, of which only a hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable

from adapters.library import BY_KEY, LOCAL, is_nobodys

__all__ = ["LOCAL", "Owners", "is_nobodys", "new_key", "owner_by_key", "owner_by_name", "owners_by_keys"]

Owners = Collection[str]


def new_key() -> str:
    """The secret of one run: it goes to the visitor who began it and is kept nowhere."""
    return secrets.token_urlsafe(24)


def owner_by_key(key: str) -> str:
    """What is written into a run that belongs to whoever holds this key."""
    return f"{BY_KEY}{hashlib.sha256(key.encode()).hexdigest()}"


def owner_by_name(name: str) -> str:
    """What is written into a run of somebody who is signed in."""
    return f"name:{name}"


def owners_by_keys(keys: Iterable[str]) -> frozenset[str]:
    """All owners that a visitor with these keys is."""
    return frozenset(owner_by_key(key) for key in keys if key)
