"""Fetch an adapter from the Hub: listed first, refused before its weights travel, kept whole or not at all."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.cache import make_room
from adapters.check import Verdict, demand
from adapters.disclosure import public_base
from adapters.files import CONFIG, WEIGHTS, printable, read_object, sha256_of, wanted
from adapters.hub import SECONDS_OF_SILENCE, Hub, checked_token, repository_name
from adapters.hub_refusals import plainly
from adapters.library import LOCAL, Adapter, Library, checked_name
from adapters.peft_config import settings_from
from phi3.models import BaseFacts

# Characters of what somebody names as an adapter: a name here, a Hub id or a link.
LONGEST_NAME = 300
_REVISION = re.compile(r"[\w.-]{1,100}", re.ASCII)
_PAGE = re.compile(r"(?P<repository>[^@]+?)/(?:tree|blob|commit|resolve)/(?P<revision>[^/]+).*")


@dataclass(frozen=True)
class Wish:
    """What to fetch, under which name here (unset: the repository's last), and for whom.

    `update` replaces what was fetched from there before; without it that stays, at the revision that it has. Weights
    of more than `most_bytes` are not taken, where this is set.
    """

    repository: str
    revision: str | None = None
    name: str = ""
    update: bool = False
    owner: str = LOCAL
    most_bytes: int | None = None

    @classmethod
    def of(cls, text: str, **more: Any) -> Wish:
        """A wish out of owner/name, owner/name@revision, or the address of a page of the model's."""
        address = _PAGE.fullmatch(text.strip())
        repository, _, revision = (address["repository"], "", address["revision"]) if address else \
            text.strip().partition("@")
        if revision and not _REVISION.fullmatch(revision):
            raise ValueError(f"{printable(revision)!r} can't be a revision. Use a commit's id, a branch or a tag.")
        return cls(repository_name(repository), revision or None, **more)


@dataclass(frozen=True)
class Fetched:
    """An adapter that is here now. `is_new` is False where it was here before; `newest` is the Hub's revision."""

    adapter: Adapter
    revision: str
    newest: str
    is_new: bool
    warnings: tuple[str, ...] = ()


def is_on_a_hub(name: str) -> bool:
    """Whether a name is a repository's or a page's: those of a library have no slash."""
    return "/" in name


def here(name: str, library: Library) -> Adapter:
    """The adapter of a name that is here: the library's, or what was fetched from owner/name or a page's address.
    ValueError where there is none; nothing is asked of the Hub.
    """
    if not is_on_a_hub(name):
        return library.get(name)
    wish = Wish.of(name)
    found = _fetched_before(wish, library)
    if found is None:
        raise ValueError(f"{wish.repository} was not fetched from the Hub yet. Ask again, and it is.")
    return found


def bring(hub: Hub, wish: Wish, library: Library, facts: BaseFacts, token: str | None = None) -> Adapter:
    """What a wish names, as it is here, else fetched under a name that is free here; ValueError as `fetch`.

    What is here is asked of nobody: it is in its owner's library, and works without a network.
    """
    older = _fetched_before(wish, library, hub.address)
    if older is not None and not wish.update:
        return older
    owner, last = (part[:64].rstrip(".") for part in wish.repository.split("/"))
    name = older.name if older is not None else library.free(last, f"{owner}-{last}"[:64].rstrip("."))
    return fetch(hub, replace(wish, name=name), library, facts, token).adapter


def fetch(hub: Hub, wish: Wish, library: Library, facts: BaseFacts, token: str | None = None) -> Fetched:
    """Put an adapter of the Hub's into the library.

    The Hub is asked each time, so that what became private or was taken away is not handed out because it is here.
    Its files are listed first, its config is read before its weights, and only these two travel; then it is checked
    against the base. Its provenance here names repository and commit, and nothing that its author wrote.

    ValueError with a sentence where it is missing, renamed, gated, no adapter, not safe or not for this base, where the
    name is taken here, or the Hub can't be reached; nothing is left behind then.
    """
    there = repository_at(hub, wish.repository, token, wish.revision)
    name = checked_name(wish.name or _usual_name(wish, library, hub.address))
    older = _older(library, name, wish.repository, hub.address)
    if older is not None and not wish.update:
        return _as_it_is(older, wish, there.sha)
    if older is not None and _source(older).get("revision") == there.sha:
        return Fetched(older, there.sha, there.sha, is_new=False)
    sizes = {one.rfilename: one.size if isinstance(one.size, int) else 0 for one in there.siblings or []}
    wanted(sizes)
    _small_enough(wish, sizes[WEIGHTS])
    library.folder.mkdir(parents=True, exist_ok=True)
    make_room(library.folder, sizes[CONFIG] + sizes[WEIGHTS], wish.owner)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=library.folder, ignore_cleanup_errors=True) as folder:
        arrived, verdict = _arrived(hub, there, Path(folder), facts, token)
        adapter = library.put(name, arrived, _provenance(hub, there, wish), wish.owner)
    return Fetched(adapter, there.sha, there.sha, is_new=True, warnings=verdict.warnings)


@contextmanager
def lent(hub: Hub, wish: Wish, facts: BaseFacts, token: str | None = None) -> Iterator[Adapter]:
    """An adapter of the Hub's for as long as the context lasts, pinned and checked as `fetch` does it, in no library.

    Its provenance names repository and commit. ValueError as `fetch` raises it.
    """
    there = repository_at(hub, wish.repository, token, wish.revision)
    sizes = {one.rfilename: one.size if isinstance(one.size, int) else 0 for one in there.siblings or []}
    wanted(sizes)
    _small_enough(wish, sizes[WEIGHTS])
    with tempfile.TemporaryDirectory(prefix="adapter-", ignore_cleanup_errors=True) as folder:
        arrived, verdict = _arrived(hub, there, Path(folder), facts, token)
        # A base that is a folder is named by its last name alone where others can read it.
        base = facts.id if verdict.base in (None, public_base(facts.id)) else verdict.base
        yield Adapter(wish.repository, arrived, base, shipped=False, provenance=_provenance(hub, there, wish))


def repository_at(hub: Hub, repository: str, token: str | None, revision: str | None = None) -> Any:
    """huggingface_hub's ModelInfo of a repository at a revision, with its files' sizes and its commit in `sha`;
    ValueError where it isn't there under that name.
    """
    with plainly(hub.address, repository):
        info = hub.api().model_info(repository, revision=revision, files_metadata=True,
                                    token=checked_token(token) if token else False, timeout=SECONDS_OF_SILENCE)
    if info.id.lower() != repository.lower():
        raise ValueError(f"{repository} is called {printable(info.id, 120)} now. If that is the one you mean, "
                         "fetch it by its new name.")
    if not isinstance(info.sha, str) or not re.fullmatch(r"[0-9a-f]{40}", info.sha):
        raise ValueError(f"{repository} is empty. Choose another one.")
    return info


def _small_enough(wish: Wish, size: int) -> None:
    if wish.most_bytes is not None and size > wish.most_bytes:
        raise ValueError(f"{wish.repository} has {size / 1e6:,.0f} MB, and {wish.most_bytes / 1e6:,.0f} MB are taken "
                         "here. Choose a smaller adapter, one of a lower rank.")


def _provenance(hub: Hub, there: Any, wish: Wish) -> dict[str, Any]:
    return {"hub": {"repository": wish.repository, "revision": there.sha, "address": hub.address}}


def _usual_name(wish: Wish, library: Library, address: str) -> str:
    """The repository's last name; for an update where nothing from there is called so, what is from there."""
    last = wish.repository.split("/")[1][:64].rstrip(".")
    theirs = [one.name for one in library.all() if _is_from(one, wish.repository, address)] if wish.update else []
    return theirs[0] if theirs and last not in theirs else last


def _older(library: Library, name: str, repository: str, address: str) -> Adapter | None:
    """What was fetched from there under this name before; ValueError where the name is another adapter's."""
    if not library.has(name):
        return None
    older = library.get(name)
    if not older.shipped and _is_from(older, repository, address):
        return older
    raise ValueError(f"There is another adapter named {name} here. Give this one another name.")


def _fetched_before(wish: Wish, library: Library, address: str = "") -> Adapter | None:
    """The newest that came from there (from the Hub at this address, where one is given) and is what is wished."""
    for adapter in library.all():
        source = _source(adapter)
        is_there = str(source.get("repository")).lower() == wish.repository.lower() and (
            not address or source.get("address") == address)
        if is_there and (wish.update or str(source.get("revision")).startswith(wish.revision or "")):
            return adapter
    return None


def _is_from(adapter: Adapter, repository: str, address: str) -> bool:
    source = _source(adapter)
    return (source.get("address"), source.get("repository")) == (address, repository)


def _source(adapter: Adapter) -> Mapping[str, Any]:
    source = adapter.provenance.get("hub")
    return source if isinstance(source, dict) else {}


def _as_it_is(older: Adapter, wish: Wish, newest: str) -> Fetched:
    here = str(_source(older).get("revision"))
    if wish.revision and here != newest:
        raise ValueError(f"{older.name} is here at revision {here[:12]}, and you ask for {newest[:12]}. Ask for an "
                         "update to replace it, or give this one another name.")
    return Fetched(older, here, newest, is_new=False)


def _arrived(hub: Hub, there: Any, folder: Path, facts: BaseFacts, token: str | None) -> tuple[Path, Verdict]:
    """The two files in a folder of their own, as the listing said they would be, and the verdict on them."""
    for name in (CONFIG, WEIGHTS):
        download(hub, there, name, folder / "arriving", token)
        if name == CONFIG:
            settings_from(read_object(folder / "arriving" / CONFIG))
    arrived = folder / "adapter"
    arrived.mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / "arriving" / name).rename(arrived / name)
    return arrived, demand(arrived, facts)


def download(hub: Hub, there: Any, name: str, folder: Path, token: str | None) -> None:
    """One listed file of a repository, at the listing's commit, into a folder; ValueError where it arrives otherwise
    than it was listed.
    """
    from huggingface_hub import hf_hub_download

    listed = next(one for one in there.siblings if one.rfilename == name)
    with plainly(hub.address, there.id):
        hf_hub_download(there.id, name, revision=there.sha, local_dir=folder, endpoint=hub.address,
                        token=checked_token(token) if token else False, etag_timeout=SECONDS_OF_SILENCE)
    path = folder / name
    promised = listed.lfs.sha256 if listed.lfs else None
    if path.stat().st_size != listed.size or (promised and promised != sha256_of(path)):
        raise ValueError(f"{name} of {there.id} arrived damaged, so nothing of it was kept. Fetch it again.")
