"""Hugging Face's side of a sign-in, small: discovery, consent, codes, tokens and who somebody is, as OpenID Connect."""

from __future__ import annotations

import base64
import html
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "an-app-of-the-tests", "a secret of the tests"
SCOPES = "openid profile contribute-repos"
SECONDS_VALID = 8 * 3600  # a Space's default
NOTHING: Mapping[str, str] = {}


@dataclass
class Provider:
    """Who could sign in, and what was asked. `tokens` are those given out with whose they are, `identities` the signed
    words about them, `asked` each request for consent, and `paths` what anybody wanted.
    """

    accounts: tuple[str, ...]
    seconds_valid: int = SECONDS_VALID
    address: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    identities: list[str] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    codes: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"use": "sig", "kid": "tests"}))

    def settings(self) -> dict[str, str]:
        """What a Space with `hf_oauth: true` finds in its environment."""
        return {"SYSTEM": "spaces", "SPACE_ID": "tests/studio", "OAUTH_CLIENT_ID": CLIENT,
                "OAUTH_CLIENT_SECRET": SECRET, "OAUTH_SCOPES": SCOPES, "OPENID_PROVIDER_URL": self.address}

    def metadata(self) -> dict[str, Any]:
        """`/.well-known/openid-configuration`, the parts that a client needs."""
        at = f"{self.address}/oauth"
        return {"issuer": self.address, "authorization_endpoint": f"{at}/authorize", "token_endpoint": f"{at}/token",
                "userinfo_endpoint": f"{at}/userinfo", "jwks_uri": f"{at}/jwks", "response_types_supported": ["code"],
                "scopes_supported": SCOPES.split(), "id_token_signing_alg_values_supported": ["RS256"],
                "subject_types_supported": ["public"], "grant_types_supported": ["authorization_code"]}

    def userinfo(self, name: str) -> dict[str, Any]:
        """Who an account is, in the fields that huggingface.co gives to the scope `profile`."""
        return {"sub": f"id-of-{name}", "name": f"{name.title()} of the Tests", "preferred_username": name,
                "profile": f"{self.address}/{name}", "picture": f"{self.address}/avatars/{name}.svg",
                "isPro": False, "orgs": []}

    def consent(self, asked: dict[str, str]) -> str:
        """A page that names what is asked for, with a link for each account and one that refuses."""
        answers = {**{name: f"?{urlencode({**asked, 'account': name})}" for name in self.accounts},
                   "Cancel": f"?{urlencode({**asked, 'account': ''})}"}
        links = "".join(f'<p><a href="{html.escape(to)}">{name}</a></p>' for name, to in answers.items())
        return f"<!doctype html><title>Consent</title><h1>{html.escape(asked['scope'])}</h1>{links}"

    def answer(self, asked: dict[str, str]) -> str:
        """Where the browser goes with an account's consent, or with its refusal."""
        if not asked["account"]:
            told = {"error": "access_denied", "error_description": "The user refused"}
        else:
            code = secrets.token_urlsafe()
            self.codes[code] = (asked["account"], asked)
            told = {"code": code}
        joint = "&" if urlsplit(asked["redirect_uri"]).query else "?"
        return asked["redirect_uri"] + joint + urlencode({**told, "state": asked["state"]})

    def token(self, form: dict[str, str]) -> dict[str, Any] | None:
        """An access token and an identity for a code that nobody used before; None for others."""
        name, asked = self.codes.pop(form.get("code", ""), ("", {}))
        if not name or form.get("redirect_uri") != asked["redirect_uri"]:
            return None
        access, now = f"oauth-token-{secrets.token_urlsafe(24)}", int(time.time())
        self.tokens[access] = name
        claims = {**self.userinfo(name), "iss": self.address, "aud": CLIENT, "iat": now,
                  "exp": now + SECONDS_VALID, "nonce": asked["nonce"]}
        self.identities.append(jwt.encode({"alg": "RS256", "kid": "tests"}, claims, self.key))
        return {"access_token": access, "token_type": "bearer", "expires_in": self.seconds_valid,
                "scope": asked["scope"], "id_token": self.identities[-1]}


@contextmanager
def running_provider(*accounts: str, **facts: Any) -> Iterator[Provider]:
    """A provider on a free port of this machine, for as long as the context lasts."""
    provider = Provider(accounts, **facts)
    server = _Server(("127.0.0.1", 0), _Exchange)
    server.provider = provider
    provider.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    provider: Provider


class _Exchange(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Quietly."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = _flat(address.query)
        self.server.provider.paths.append(address.path)
        if address.path == "/.well-known/openid-configuration":
            return self._json(self.server.provider.metadata())
        if address.path == "/oauth/jwks":
            return self._json({"keys": [self.server.provider.key.as_dict(private=False)]})
        if address.path in ("/oauth/userinfo", "/api/whoami-v2"):
            return self._userinfo(address.path)
        if address.path == "/oauth/authorize":
            return self._authorize(asked)
        if address.path == "/around":  # as a Space's page on the same site frames the app
            frame = f'<iframe src="{html.escape(asked["app"])}" width="1200" height="800"></iframe>'
            return self._send(frame.encode(), "text/html; charset=utf-8")
        return self._json({"error": "not_found"}, 404)

    def do_POST(self) -> None:
        form = _flat(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {basic}":
            return self._json({"error": "invalid_client"}, 401)
        given = self.server.provider.token(form) if form.get("grant_type") == "authorization_code" else None
        return self._json(given) if given else self._json({"error": "invalid_grant"}, 400)

    def _authorize(self, asked: dict[str, str]) -> None:
        unknown = set(asked.get("scope", "").split()) - set(SCOPES.split())
        if asked.get("client_id") != CLIENT or asked.get("response_type") != "code" or unknown:
            return self._json({"error": "invalid_request"}, 400)
        if "account" in asked:
            return self._send(b"", "text/plain", 302, {"Location": self.server.provider.answer(asked)})
        self.server.provider.asked.append(asked)
        return self._send(self.server.provider.consent(asked).encode(), "text/html; charset=utf-8")

    def _userinfo(self, path: str) -> None:
        """As the provider says it, or as the Hub does, which stands at the same address."""
        name = self.server.provider.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if not name:
            return self._json({"error": "Invalid credentials in Authorization header"}, 401)
        told = {"type": "user", "id": f"id-of-{name}", "name": name, "orgs": []}
        return self._json(told if path == "/api/whoami-v2" else self.server.provider.userinfo(name))

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: int = 200, headers: Mapping[str, str] = NOTHING) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
