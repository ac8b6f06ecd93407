"""What goes wrong between here and a Hub, as sentences: what happened, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adapters.files import printable


@contextmanager
def plainly(address: str, repository: str = "", writes: bool = False) -> Iterator[None]:
    """Whatever huggingface_hub raises inside comes out as a ValueError with a sentence.

    The original is not shown beside it: its request holds the token. Only calls of the library belong inside.
    """
    from huggingface_hub.errors import HTTPError  # httpx's own, under either of its names

    try:
        yield
    except (HTTPError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as problem:
        sentence = in_words(_innermost(problem), address, repository, writes)
    else:
        return
    raise ValueError(sentence) from None


def in_words(problem: BaseException, address: str, repository: str, writes: bool) -> str:
    """The sentence for one exception of huggingface_hub's, httpx's or the system's."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

    host = address.split("://")[-1]
    if isinstance(problem, HfHubHTTPError):
        return _answered(problem, address, repository, writes)
    if isinstance(problem, HFValidationError):
        return f"{printable(repository)!r} can't be a repository's name. Write it as owner/name."
    if isinstance(problem, OfflineModeIsEnabled):
        return "The Hub is switched off here (HF_HUB_OFFLINE is set). Unset it to reach the Hub."
    if isinstance(problem, (HTTPError, ConnectionError, TimeoutError)):
        return (f"The Hub at {host} can't be reached or stopped answering. {_kept(writes)} Look at the network, and "
                "try again.")
    if isinstance(problem, (json.JSONDecodeError, KeyError, TypeError, AttributeError)):
        return f"{host} answered as no Hub does. See that HF_ENDPOINT is the address of a Hub, and try again."
    if "Consistency check" in str(problem):
        return f"{printable(repository)} arrived incomplete, so nothing of it was kept. Try again."
    if isinstance(problem, OSError) and problem.strerror:
        return f"This machine could not read or write: {problem.strerror}. See that its disk has space, and try again."
    told = printable(" ".join(str(problem).split()), 300)
    if isinstance(problem, ValueError):
        return f"The Hub refuses this: {told}"
    return f"Something between here and the Hub failed: {told}. {_kept(writes)} Try again."


def _answered(problem: Any, address: str, repository: str, writes: bool) -> str:
    """The sentence for an answer of the Hub's that is an error."""
    from huggingface_hub import errors

    status, name = problem.response.status_code, printable(repository, 120)
    told = problem.response.headers.get("X-Error-Message", "")
    if isinstance(problem, errors.GatedRepoError):
        return f"{name} is gated: its owner decides who gets it. Ask for access at {address}/{repository}."
    if isinstance(problem, errors.RevisionNotFoundError):
        return f"{name} has no such revision. Leave it out, or copy one from {address}/{repository}/commits/main."
    if isinstance(problem, errors.EntryNotFoundError):
        return f"A file of {name} is gone from the Hub. Look at {address}/{repository}."
    if isinstance(problem, errors.DisabledRepoError):
        return f"The Hub has switched {name} off. Choose another one."
    is_anonymous = "authorization" not in problem.response.request.headers
    if isinstance(problem, errors.RepositoryNotFoundError) or (status == 401 and is_anonymous and repository):
        return (f"There is no {name} on the Hub, or it is private and this sign-in can't read it. See how it is "
                "spelled, or sign in as somebody who may read it.")
    if status == 401:
        return ("The Hub doesn't take this token: it has expired, was revoked or isn't whole. "
                f"{_kept(writes)} Sign in again, or make a new one at {address}/settings/tokens.")
    return _by_status(status, name, printable(told, 200), address, writes)


def _by_status(status: int, name: str, told: str, address: str, writes: bool) -> str:
    because = f" ({told})" if told else ""
    if status == 403:
        may = f"write to {name}" if writes else f"read {name}"
        return (f"This token may not {may}{because}. {_kept(writes)} Use one with that permission "
                f"({address}/settings/tokens), or a name under your own account.")
    if status in (409, 412):
        return f"{name} has changed on the Hub in the meantime. {_kept(writes)} Look at {address}/{name}, then publish."
    if status == 429:
        return f"The Hub has had too many requests from here. {_kept(writes)} Wait a few minutes, and try again."
    if status >= 500 or status == 408:
        return f"The Hub has trouble of its own (it answered {status}). {_kept(writes)} Try again in a few minutes."
    return f"The Hub refuses this with {status}{because}. {_kept(writes)}"


def _kept(writes: bool) -> str:
    return "Your adapter stays here as it is." if writes else "Nothing was changed here."


def _innermost(problem: BaseException) -> BaseException:
    """huggingface_hub wraps what failed while uploading in a RuntimeError, and what failed before a download in one of
    its own that says nothing of it.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(problem, (RuntimeError, LocalEntryNotFoundError)) and problem.__cause__ is not None:
        problem = problem.__cause__
    return problem
