"""Where a run starts from: a fresh adapter, one that is here, or one of the Hub's, pinned and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adapters.fetch import Wish, lent
from adapters.hub import Hub
from adapters.library import Adapter
from phi3.models import base_facts
from training.config import RunConfig


@contextmanager
def start_of(config: RunConfig, token: str | None = None,
             most_bytes: int | None = None) -> Iterator[tuple[RunConfig, Adapter | None]]:
    """The settings, and for as long as the context lasts the adapter that `start_from` names on the Hub: owner/name,
    owner/name@revision, or the address of a page of the model's. The settings name its commit then. None for a name
    of the library's, which can hold no slash, and where the run starts afresh.

    ValueError with a sentence where it is missing, no sound adapter, or not for the run's base, and before its weights
    travel where they have more than `most_bytes`, if this is set.
    """
    if "/" not in config.start_from:
        yield config, None
        return
    with lent(Hub(), Wish.of(config.start_from, most_bytes=most_bytes), base_facts(config.base), token) as adapter:
        source = adapter.provenance["hub"]
        pinned = f"{source['repository']}@{source['revision']}"
        yield RunConfig.from_settings({**config.settings(), "start_from": pinned}), adapter
