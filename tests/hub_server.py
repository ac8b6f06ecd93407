"""The tests' Hub as a server: what huggingface_hub may ask of it, and what it answers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from tests.hub import MOST_PER_PAGE, Blob, Commit, Fault, Repository, Request, TestHub, Token
from tests.hub_cards import complaints, tags_of

# A real Hub adds this with the first commit of every repository.
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
NOTHING: Mapping[str, str] = {}


@contextmanager
def running_hub() -> Iterator[TestHub]:
    """A Hub at an address of this machine, for the time of a test."""
    hub = TestHub()
    server = _Server(("127.0.0.1", 0), _Exchange)
    server.hub = hub
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        for fault in hub.faults:
            fault.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def address_of_nobody() -> str:
    """An address of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


class _Server(ThreadingHTTPServer):
    hub: TestHub
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in a test is no news."""


class _Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str = "", **more: Any) -> None:
        self.status, self.message, self.code, self.more = status, message, code, more


_REPO = r"(?P<repo>(?:datasets/)?[^/]+/[^/]+)"  # a dataset's is kept under its id after "datasets/"
_ROUTES = [(method, re.compile(pattern), name) for method, pattern, name in (
    ("HEAD", r"/", "front"), ("GET", r"/", "front"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"), ("DELETE", r"/api/repos/delete", "delete"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", r"/api/models", "models"),
    ("PUT", rf"/api/models/{_REPO}/settings", "settings"),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<rev>[^/]+)", "preupload"),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", rf"/lfs/{_REPO}/(?P<oid>[0-9a-f]{{64}})", "store"),
    ("POST", rf"/lfs/{_REPO}/(?P<oid>[0-9a-f]{{64}})/verify", "verify"),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<rev>[^/]+)", "commit"),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<rev>[^/]+)(?P<path>/.*)?", "tree"),
    ("POST", rf"/api/models/{_REPO}/paths-info/(?P<rev>[^/]+)", "paths_info"),
    ("GET", rf"/api/models/{_REPO}/refs", "refs"),
    ("GET", rf"/api/models/{_REPO}/commits/(?P<rev>[^/]+)", "history"),
    ("GET", rf"/api/models/{_REPO}(/revision/(?P<rev>[^/]+))?", "model"),
    ("HEAD", rf"/{_REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
    ("GET", rf"/{_REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
)]


class _Exchange(BaseHTTPRequestHandler):
    """One connection to the Hub; each public method answers one kind of request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: a test prints what it needs."""

    def _exchange(self) -> None:
        self.hub = self.server.hub
        self.url = urlsplit(self.path)
        self.query = parse_qs(self.url.query)
        fault = self.hub.strikes(self.command, self.url.path)
        if fault and fault.kind == "slow":
            time.sleep(fault.value)
        self.cut_answer = fault is not None and fault.kind == "cut" and self.command == "GET"
        if fault and fault.kind in ("cut", "hold") and not self.cut_answer:
            return self._break_off(fault)
        self.body = self._received()
        shown = str(self.headers)
        self.hub.requests.append(Request(self.command, self.path, shown, self.body))
        try:
            if fault and fault.kind == "status":
                raise _Refused(int(fault.value), "something is wrong here")
            if self.url.path in self.hub.answers:
                return self._answer(self.hub.answers[self.url.path])
            self._route()
        except _Refused as refusal:
            self._refuse(refusal)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _exchange  # the standard library looks for these names

    def _break_off(self, fault: Fault) -> None:
        """Read half of what comes, say nothing, and close."""
        self.rfile.read(int(self.headers.get("Content-Length", 2)) // 2)
        fault.reached.set()
        if fault.kind == "hold":
            fault.released.wait(60)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _received(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _route(self) -> None:
        path = self.url.path.replace("/api/datasets/", "/api/models/datasets/", 1)
        for method, pattern, name in _ROUTES:
            found = pattern.fullmatch(path)
            if found and method == self.command:
                named = {key: unquote(value) for key, value in found.groupdict().items() if value is not None}
                if named.get("repo") in self.hub.renamed:
                    return self._moved(named["repo"])
                with self.hub.lock:
                    return getattr(self, name)(**named)
        raise _Refused(404, f"no such address: {self.url.path}")

    def _moved(self, old: str) -> None:
        there = self.path.replace(old, self.hub.renamed[old], 1)
        self._answer(b"", 307, {"Location": there})

    # Answers

    def _answer(self, body: bytes, status: int = 200, headers: Mapping[str, str] = NOTHING) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.cut_answer:
            self.wfile.write(body[:len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] = NOTHING) -> None:
        self._answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **headers})

    def _refuse(self, refusal: _Refused) -> None:
        headers = {"X-Error-Message": refusal.message.encode("ascii", "replace").decode()}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        self._json({"error": refusal.message, **refusal.more}, refusal.status, headers)

    # Who may do what

    def _token(self) -> Token | None:
        """Whose request this is; an invalid token is refused, on public repositories too."""
        given = self.headers.get("Authorization", "")
        if not given:
            return None
        if given.removeprefix("Bearer ") not in self.hub.tokens:
            raise _Refused(401, "Invalid credentials in Authorization header")
        return self.hub.tokens[given.removeprefix("Bearer ")]

    def _signed_in(self) -> Token:
        token = self._token()
        if token is None:
            raise _Refused(401, "Invalid username or password.")
        return token

    def _readable(self, repo: str) -> Repository:
        token, found = self._token(), self.hub.repositories.get(repo)
        if found is None or (found.private and not self.hub.owns(token and token.account, repo)):
            raise _Refused(404 if token else 401, "Repository not found", "RepoNotFound")
        return found

    def _writable(self, repo: str) -> Repository:
        token = self._signed_in()
        found = self._readable(repo)
        if not self.hub.owns(token.account, repo) or token.role == "read" or (
                token.role == "contribute-repos" and not found.made_by_app):
            raise _Refused(403, f"You don't have the rights to write to {repo}")
        return found

    def _commit_of(self, repo: Repository, rev: str) -> Commit:
        found = repo.at(rev)
        if found is None:
            raise _Refused(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return found

    # What can be asked

    def front(self) -> None:
        self._answer(b"a Hub")

    def whoami(self) -> None:
        token = self._signed_in()
        kind = "oauth" if token.role == "contribute-repos" else "access_token"
        role = {} if kind == "oauth" else {"accessToken": {"displayName": "test", "role": token.role}}
        self._json({"type": "user", "id": f"id-{token.account}", "name": token.account, "fullname": token.account,
                    "email": f"{token.account}@example.org", "avatarUrl": "",
                    "orgs": [{"type": "org", "name": one} for one in self.hub.organisations[token.account]],
                    "auth": {"type": kind, **role}})

    def create(self) -> None:
        token, asked = self._signed_in(), json.loads(self.body)
        repo = f"{asked.get('organization') or token.account}/{asked['name']}"
        if not self.hub.owns(token.account, repo) or token.role == "read":
            raise _Refused(403, f"You don't have the rights to create a model under the namespace {repo.split('/')[0]}")
        url = f"{self.hub.address}/{repo}"
        if repo in self.hub.repositories:
            raise _Refused(409, "You already created this model repo", url=url)
        made = self.hub.repositories[repo] = Repository(
            repo, asked.get("visibility") == "private", made_by_app=token.role == "contribute-repos")
        self.hub.renamed.pop(repo, None)
        made.add({".gitattributes": Blob(ATTRIBUTES)}, "initial commit")
        self._json({"url": url, "name": repo})

    def delete(self) -> None:
        token, asked = self._signed_in(), json.loads(self.body)
        repo = f"{asked.get('organization') or token.account}/{asked['name']}"
        self._writable(repo)
        del self.hub.repositories[repo]
        self._json({})

    def settings(self, repo: str) -> None:
        self._writable(repo).private = json.loads(self.body)["visibility"] == "private"
        self._json({})

    def validate(self) -> None:
        wrong = complaints(json.loads(self.body)["content"])
        self._json({"errors": [{"message": one} for one in wrong], "warnings": []}, 400 if wrong else 200)

    def preupload(self, repo: str, rev: str) -> None:
        files = self._commit_of(self._writable(repo), rev).files
        told = []
        for asked in json.loads(self.body)["files"]:
            path, there = asked["path"], files.get(asked["path"])
            mode = "lfs" if self.hub.is_lfs(path, base64.b64decode(asked["sample"])) else "regular"
            oid = {"oid": there.sha256 if there.is_lfs else there.git_oid} if there else {}
            told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **oid})
        self._json({"files": told})

    def batch(self, repo: str) -> None:
        self._writable(repo)
        told = []
        for asked in json.loads(self.body)["objects"]:
            one = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.objects:
                place = f"{self.hub.address}/lfs/{repo}/{asked['oid']}"
                one["actions"] = {"upload": {"href": place, "header": {}}, "verify": {"href": f"{place}/verify"}}
            told.append(one)
        self._json({"transfer": "basic", "objects": told}, headers={"Content-Type": "application/vnd.git-lfs+json"})

    def store(self, repo: str, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refused(400, "the content has another hash")
        self.hub.objects[oid] = self.body
        self._answer(b"")

    def verify(self, repo: str, oid: str) -> None:
        self._writable(repo)
        if len(self.hub.objects.get(oid, b"")) != json.loads(self.body)["size"]:
            raise _Refused(422, "the object is not there")
        self._json({})

    def commit(self, repo: str, rev: str) -> None:
        found = self._writable(repo)
        head = self._commit_of(found, rev)
        lines = [json.loads(line) for line in self.body.splitlines() if line]
        if rev != "main" or lines[0]["key"] != "header":
            raise _Refused(400, "a commit goes to main, and begins with its header")
        parent = lines[0]["value"].get("parentCommit")
        if parent and not head.oid.startswith(parent):
            raise _Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in lines[1:]:
            self._apply(line["key"], line["value"], files)
        readme = files.get("README.md")
        if readme and complaints(readme.content.decode()):
            raise _Refused(400, complaints(readme.content.decode())[0])
        made = found.add(files, lines[0]["value"]["summary"])
        self._json({"commitUrl": f"{self.hub.address}/{repo}/commit/{made.oid}", "commitOid": made.oid,
                    "pullRequestUrl": None})

    def _apply(self, key: str, value: dict[str, Any], files: dict[str, Blob]) -> None:
        path = value["path"]
        if path.startswith("/") or ".." in path.split("/"):
            raise _Refused(400, f"invalid path {path}")
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in self.hub.objects:
                raise _Refused(400, f"LFS pointer pointed to a file that does not exist: {path}")
            files[path] = Blob(self.hub.objects[value["oid"]], is_lfs=True)
        elif path not in files and key == "deletedFile":
            raise _Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        else:
            for name in [one for one in files if one == path or one.startswith(path.rstrip("/") + "/")]:
                del files[name]

    def models(self) -> None:
        token = self._token()
        author, search = (self.query.get(name, [""])[0].lower() for name in ("author", "search"))
        shown = [one for one in self.hub.repositories.values()
                 if not one.private or self.hub.owns(token and token.account, one.id)]
        shown = [one for one in shown if (not author or one.id.split("/")[0].lower() == author)
                 and search in one.id.lower() and {*self.query.get("filter", [])} <= {*tags_of(one.card())}]
        order = self.query.get("sort", ["downloads"])[0]
        shown.sort(key=lambda one: one.head.date if order == "lastModified" else one.downloads, reverse=True)
        size = min(int(self.query.get("limit", [MOST_PER_PAGE])[0]), self.hub.page)
        start = int(self.query.get("cursor", ["0"])[0])
        more = urlencode({**self.query, "cursor": [start + size]}, doseq=True)
        next_page = f"{self.hub.next_page_at or self.hub.address}/api/models?{more}"
        link = {"Link": f'<{next_page}>; rel="next"'} if start + size < len(shown) else {}
        self._json([self._info(one, one.head) for one in shown[start:start + size]], headers=link)

    def model(self, repo: str, rev: str = "main") -> None:
        found = self._readable(repo)
        self._json(self._info(found, self._commit_of(found, rev)))

    def _info(self, repo: Repository, commit: Commit) -> dict[str, Any]:
        card = repo.card(commit)
        files = [{"rfilename": path, **({"size": len(blob.content), "blobId": blob.git_oid, **(
            {"lfs": blob.lfs} if blob.is_lfs else {})} if "blobs" in self.query else {})}
            for path, blob in sorted(commit.files.items())]
        whole = {"author": repo.id.split("/")[0], "sha": commit.oid, "lastModified": _written(commit.date),
                 "createdAt": _written(repo.commits[0].date), "private": repo.private,
                 "gated": "manual" if repo.gated else False, "disabled": False, "downloads": repo.downloads,
                 "likes": repo.likes, "tags": tags_of(card), "pipeline_tag": card.get("pipeline_tag"),
                 "library_name": card.get("library_name"), "cardData": card, "siblings": files,
                 "usedStorage": sum(len(blob.content) for blob in commit.files.values())}
        asked = self.query.get("expand")
        shown = {name: value for name, value in whole.items() if not asked or name in asked}
        return {"_id": hashlib.md5(repo.id.encode()).hexdigest()[:24], "id": repo.id, "modelId": repo.id, **shown}

    def tree(self, repo: str, rev: str, path: str = "") -> None:
        files = self._commit_of(self._readable(repo), rev).files
        inside = {name: blob for name, blob in files.items() if name.startswith(path.lstrip("/"))}
        if path and not inside:
            raise _Refused(404, "no such path", "EntryNotFound")
        self._json([_entry(name, blob) for name, blob in sorted(inside.items())])

    def paths_info(self, repo: str, rev: str) -> None:
        files = self._commit_of(self._readable(repo), rev).files
        self._json([_entry(name, files[name]) for name in parse_qs(self.body.decode()).get("paths", [])
                    if name in files])

    def refs(self, repo: str) -> None:
        head = self._readable(repo).head.oid
        self._json({"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": head}], "converts": [],
                    "tags": []})

    def history(self, repo: str, rev: str) -> None:
        found = self._readable(repo)
        last = found.commits.index(self._commit_of(found, rev))
        self._json([{"id": one.oid, "title": one.message, "message": "", "authors": [], "date": _written(one.date)}
                    for one in reversed(found.commits[:last + 1])])

    def resolve(self, repo: str, rev: str, path: str) -> None:
        found, token = self._readable(repo), self._token()
        commit = self._commit_of(found, rev)
        if found.gated and not self.hub.owns(token and token.account, repo):
            raise _Refused(403 if token else 401, f"Access to model {repo} is restricted", "GatedRepo")
        blob = commit.files.get(path)
        if blob is None:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.sha256 if blob.is_lfs else blob.git_oid}"',
                   "Accept-Ranges": "bytes", "Content-Disposition": f"inline; filename={quote(path)}"}
        if blob.is_lfs:
            headers["X-Linked-Size"] = str(len(blob.content))
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and self.command == "GET":
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(blob.content) - 1}/{len(blob.content)}"
            return self._answer(blob.content[first:], 206, headers)
        self._answer(self.hub.instead.get(blob.sha256, blob.content), 200, headers)


def _written(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(blob.content), "oid": blob.git_oid,
            **({"lfs": {**blob.lfs, "oid": blob.sha256}} if blob.is_lfs else {})}
