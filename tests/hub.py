"""A small Hub for the tests, faithful to what huggingface_hub asks of one, with faults that can be switched on."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from tests.hub_cards import card_data

HEX = re.compile(r"[0-9a-f]{4,40}")
MOST_PER_PAGE = 1000


@dataclass(frozen=True)
class Blob:
    """The content of one file in one commit."""

    content: bytes
    is_lfs: bool = False

    @property
    def git_oid(self) -> str:
        """git's hash of the file, or of the pointer that stands in for it."""
        inside = self.pointer if self.is_lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(inside) + inside).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
                f"size {len(self.content)}\n").encode()

    @property
    def lfs(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    oid: str
    files: Mapping[str, Blob]
    message: str
    date: datetime


@dataclass
class Repository:
    """A model on this Hub; its last commit is the head of `main`."""

    id: str
    private: bool = False
    gated: bool = False
    likes: int = 0
    downloads: int = 0
    made_by_app: bool = False  # with `contribute-repos`, which may touch nothing else
    commits: list[Commit] = field(default_factory=list)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def add(self, files: Mapping[str, Blob], message: str) -> Commit:
        """A commit whose files are exactly these."""
        told = repr((self.id, len(self.commits), message, sorted((path, blob.sha256) for path, blob in files.items())))
        commit = Commit(hashlib.sha1(told.encode()).hexdigest(), dict(files), message, datetime.now(UTC))
        self.commits.append(commit)
        return commit

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch or of an id, whole or shortened."""
        if revision == "main":
            return self.head
        found = [one for one in self.commits if HEX.fullmatch(revision) and one.oid.startswith(revision)]
        return found[0] if found else None

    def card(self, commit: Commit | None = None) -> dict[str, Any]:
        """The YAML at the top of README.md."""
        readme = (commit or self.head).files.get("README.md")
        return card_data(readme.content.decode()) or {} if readme else {}


@dataclass(frozen=True)
class Token:
    """Who it stands for and what it may do: read, write, or `contribute-repos` (make repositories and touch those)."""

    account: str
    role: Literal["read", "write", "contribute-repos"]


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of a method to an address that holds `path`.

    `status` answers with that number; `cut` closes the connection in the middle of what is sent or received; `slow`
    waits that many seconds first; `hold` reads half of what is sent, sets `reached`, and goes no further.
    """

    kind: Literal["status", "cut", "slow", "hold"]
    method: str = ""
    path: str = ""
    value: float = 503
    times: float = 1
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Request:
    """One request as it arrived, for a test to look through."""

    method: str
    path: str
    headers: str
    body: bytes


class TestHub:
    """Accounts, tokens, repositories and stored objects; everything that ever arrived is in `requests`."""

    __test__ = False  # pytest takes it for a test otherwise

    def __init__(self) -> None:
        self.address = ""
        self.organisations: dict[str, tuple[str, ...]] = {}
        self.tokens: dict[str, Token] = {}
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.objects: dict[str, bytes] = {}
        self.instead: dict[str, bytes] = {}  # what is sent where an object of that hash is asked for
        self.answers: dict[str, bytes] = {}  # what these addresses say, whatever is asked of them
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.page = MOST_PER_PAGE
        self.next_page_at = ""  # another address that listings send on to
        self.lock = threading.RLock()

    def token(self, account: str, role: Literal["read", "write", "contribute-repos"] = "write",
              organisations: tuple[str, ...] = ()) -> str:
        """A new token of an account, which exists from then on."""
        self.organisations.setdefault(account, organisations)
        made = f"hf_{account}_{role}_{len(self.tokens)}"
        self.tokens[made] = Token(account, role)
        return made

    def expire(self, token: str) -> None:
        """The token is worth nothing from now on."""
        del self.tokens[token]

    def repository(self, repository: str, files: Mapping[str, bytes], **facts: Any) -> Repository:
        """A repository that is there already, with one commit."""
        made = self.repositories[repository] = Repository(repository, **facts)
        made.add({path: Blob(content, self.is_lfs(path, content)) for path, content in files.items()}, "initial commit")
        return made

    def rename(self, old: str, new: str) -> None:
        """The old name leads to the new one."""
        found = self.repositories[new] = self.repositories.pop(old)
        found.id, self.renamed[old] = new, new

    def fault(self, kind: Literal["status", "cut", "slow", "hold"], method: str = "", path: str = "",
              **more: Any) -> Fault:
        """Switch a fault on."""
        self.faults.append(Fault(kind, method, path, **more))
        return self.faults[-1]

    def strikes(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, counted."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method in ("", method) and fault.path in path:
                    fault.times -= 1
                    return fault
        return None

    def everything_that_came(self) -> bytes:
        """All requests in one: addresses and bodies, and what stands in bodies as base64, without the headers."""
        told = [f"{one.method} {one.path}".encode() + b"\n" + one.body for one in self.requests]
        inside = [base64.b64decode(found) for one in self.requests
                  for found in re.findall(rb'"(?:content|sample)": ?"([A-Za-z0-9+/=]+)"', one.body)]
        return b"\n".join((*told, *inside))

    @staticmethod
    def is_lfs(path: str, sample: bytes) -> bool:
        return path.endswith((".safetensors", ".bin", ".pt")) or b"\0" in sample

    def owns(self, account: str | None, repository: str) -> bool:
        """Whether an account, or an organisation of its, is the repository's owner."""
        owner = repository.split("/")[0]
        return account is not None and owner in (account, *self.organisations.get(account, ()))
