"""A Hub: who somebody is there, what a name is, and which adapters there are for a base."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from adapters.card import APP_TAG, base_tag
from adapters.disclosure import on_the_hub
from adapters.files import printable
from adapters.hub_refusals import plainly
from phi3.models import PHI3_MINI

PUBLIC_HUB = "https://huggingface.co"
# How long a request may go without a word from the Hub.
SECONDS_OF_SILENCE = 30.0
MOST_FOUND, PAGE, MOST_PAGES = 60, 30, 10
# Bases of one shape: an adapter for one of them loads on the others, and may answer worse there.
SIBLINGS: tuple[tuple[str, ...], ...] = (
    (PHI3_MINI, "microsoft/Phi-3-mini-128k-instruct", "microsoft/Phi-3.5-mini-instruct"),
    ("microsoft/Phi-3-medium-4k-instruct", "microsoft/Phi-3-medium-128k-instruct"),
)
Standing = Literal["free", "mine", "someone else's"]
_TOKEN = re.compile(r"[!-~]{1,4096}")
_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]{0,94}(?<![.-])", re.ASCII)
_FACTS = ("author", "cardData", "downloads", "gated", "lastModified", "likes", "private", "sha", "tags", "usedStorage")


@dataclass(frozen=True)
class Account:
    """Who a token stands for. `may_write` is False where the Hub says that it can only read."""

    name: str
    organisations: tuple[str, ...] = ()
    may_write: bool = True

    def owns(self, repository: str) -> bool:
        """Whether a repository's owner is this account or one of its organisations."""
        return repository.split("/")[0].lower() in {one.lower() for one in (self.name, *self.organisations)}


@dataclass(frozen=True)
class Found:
    """An adapter on the Hub, as its listing tells. `bytes` and `rank` are None where nobody wrote them down."""

    repository: str
    revision: str | None
    base: str
    likes: int
    downloads: int
    changed: str | None
    bytes: int | None
    rank: int | None
    private: bool
    gated: bool
    mine: bool
    for_a_sibling: bool


class Hub:
    """One Hub, by its address; HF_ENDPOINT's, else the public one, where none is given.

    A token is an argument of each call and is kept nowhere. Where there is none the call is anonymous: huggingface_hub
    would take this machine's own, which on a Space belongs to whoever runs it and not to the visitor.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = (address or os.environ.get("HF_ENDPOINT", "").strip() or PUBLIC_HUB).rstrip("/")

    def is_reachable(self, seconds: float = 2.0) -> bool:
        """Whether the Hub answers anything at all, known after this long: looking up a name has no limit of its own."""
        answered: Future[bool] = Future()
        threading.Thread(target=self._look, args=(answered, seconds), daemon=True).start()
        try:
            return answered.result(seconds)
        except TimeoutError:
            return False

    def _look(self, answered: Future[bool], seconds: float) -> None:
        from huggingface_hub.errors import HTTPError
        from huggingface_hub.utils import get_session

        try:
            get_session().head(self.address, timeout=seconds)
            answered.set_result(True)
        except (HTTPError, OSError):
            answered.set_result(False)

    def account(self, token: str) -> Account:
        """Whose token it is; ValueError where it is none or the Hub doesn't take it. Ask once, not at every key: the
        public Hub allows few of these questions.
        """
        token = checked_token(token)
        with plainly(self.address):
            told = self.api().whoami(token=token)
            role = told.get("auth", {}).get("accessToken", {}).get("role")
            return Account(told["name"], tuple(one["name"] for one in told.get("orgs", [])), role != "read")

    def standing(self, repository: str, account: Account, token: str) -> Standing:
        """What a name is to this account: free to take, its own already, or under somebody else's account."""
        if not account.owns(repository):
            return "someone else's"
        return "free" if self.there(repository, token) is None else "mine"

    def there(self, repository: str, token: str | None = None, revision: str | None = None) -> Any | None:
        """huggingface_hub's ModelInfo with its files' sizes; None where there is no such repository, or another one
        has left its old name there. ValueError for everything else.
        """
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        with plainly(self.address, repository):
            try:
                info = self.api().model_info(repository, revision=revision, files_metadata=True,
                                             token=checked_token(token) if token else False, timeout=SECONDS_OF_SILENCE)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None
            return info if info.id.lower() == repository.lower() else None

    def find(self, base: str, text: str = "", token: str | None = None, account: Account | None = None,
             most: int = MOST_FOUND) -> list[Found]:
        """Adapters for a base whose names hold `text`: the account's own, then the most downloaded ones for the base,
        then those for its siblings. One request for each page, and none is repeated: whoever types asks again.
        """
        asked = [({"author": account.name}, base)] if account else []
        asked += [({}, one) for one in (base, *siblings_of(base))]
        found: dict[str, Found] = {}
        for more, made_for in asked:
            for row in self._listed({"filter": marks_of(made_for), "search": text.strip()[:100], **more}, token, most):
                one = _found(row, made_for, account, made_for != base)
                if one is not None and len(found) < most:
                    found.setdefault(one.repository, one)
        return list(found.values())

    def api(self) -> Any:
        """huggingface_hub's own, with a limit to how long it waits for a silent Hub: by itself it has none."""
        from huggingface_hub import HfApi
        from huggingface_hub.utils import get_session

        get_session().timeout = SECONDS_OF_SILENCE
        return HfApi(endpoint=self.address, token=False)

    def _listed(self, asked: Mapping[str, Any], token: str | None, most: int) -> Iterator[dict[str, Any]]:
        """Rows of the Hub's list of models, page by page. `HfApi.list_models` would try six times for half a minute."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = build_hf_headers(token=checked_token(token) if token else False)
        url: str | None = f"{self.address}/api/models"
        params: Mapping[str, Any] | None = {**asked, "sort": "downloads", "limit": PAGE, "expand": _FACTS}
        for _ in range(MOST_PAGES):
            with plainly(self.address):
                answer = get_session().get(url, params=params, headers=headers, timeout=SECONDS_OF_SILENCE)
                hf_raise_for_status(answer)
                rows = answer.json()
                if not isinstance(rows, list):
                    raise TypeError("a listing is a list")
                url, params = answer.links.get("next", {}).get("url"), None
            yield from (row for row in rows[:most] if isinstance(row, dict))
            most -= len(rows)
            if most <= 0 or not url or not url.startswith(f"{self.address}/"):
                return


def marks_of(base: str) -> list[str]:
    """The tags that adapters for a base have on the Hub: derived from their cards, or the app's own where the base
    isn't there.
    """
    return ["peft", f"base_model:adapter:{base}"] if on_the_hub(base) else ["peft", APP_TAG, base_tag(base)]


def siblings_of(base: str) -> Sequence[str]:
    """Other bases of the same shape."""
    family = next((one for one in SIBLINGS if base.lower() in map(str.lower, one)), ())
    return [one for one in family if one.lower() != base.lower()]


def checked_token(token: str) -> str:
    """The token where it can be one; ValueError doesn't repeat what was given. Requests would, if a header can't hold
    it.
    """
    if not isinstance(token, str) or not _TOKEN.fullmatch(token.strip()):
        raise ValueError("What was given as an access token can't be one. Sign in, or copy it again from the Hub.")
    return token.strip()


def repository_name(name: str, owner: str = "") -> str:
    """owner/name out of a name, an id, or the address of a model's page; ValueError where it is none of these."""
    short = re.sub(r"^(hf:|https?://[^/]+)/*", "", name.strip()).rstrip("/")
    parts = short.split("/")
    if len(parts) == 1 and owner:
        parts = [owner, *parts]
    if len(parts) != 2 or not all(_NAME.fullmatch(one) for one in parts) or parts[1].endswith(".git"):
        raise ValueError(f"{printable(name, 120)!r} can't be a repository's name on the Hub. Write it as owner/name, "
                         "with letters, digits, dots, dashes and underscores.")
    return "/".join(parts)


def _found(row: Mapping[str, Any], base: str, account: Account | None, for_a_sibling: bool) -> Found | None:
    """One row of a listing; None where what it calls itself is no repository's name."""
    try:
        repository = repository_name(str(row.get("id")))
    except ValueError:
        return None
    card = row.get("cardData") if isinstance(row.get("cardData"), dict) else {}
    changed = row.get("lastModified")
    return Found(repository, row["sha"] if isinstance(row.get("sha"), str) else None, base,
                 _count(row.get("likes")) or 0, _count(row.get("downloads")) or 0,
                 changed[:10] if isinstance(changed, str) else None, _count(row.get("usedStorage")),
                 _count(card.get("lora_rank")), bool(row.get("private")), bool(row.get("gated")),
                 account is not None and account.owns(repository), for_a_sibling)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**53 else None
