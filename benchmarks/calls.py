"""One call of an app's named endpoint by plain HTTP: what it answers, or the words with which it refuses."""

import json
import socket
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Refused(Exception):
    """The app answered with an error; its words are the message."""


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def begin(address: str, name: str, given: Sequence[Any] | Mapping[str, Any],
          headers: Mapping[str, str] | None = None) -> str:
    """Ask the app at this address, with all values in their order or with some by name; where its answer will be."""
    call = f"{address.rstrip('/')}/gradio_api/call/{name}"
    at, body = (call.replace("/call/", "/call/v2/"), given) if isinstance(given, Mapping) else (call, {"data": given})
    asked = urllib.request.Request(at, json.dumps(body).encode(),
                                   {"Content-Type": "application/json", **(headers or {})})
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return f"{call}/{json.load(answer)['event_id']}"


def answer_at(place: str, patience: float) -> Any:
    """The answer that comes there within so many seconds of silence; Refused where it is an error, ValueError where
    none comes.
    """
    *_, last = answers_at(place, patience)
    return last


def answers_at(place: str, patience: float) -> Iterator[Any]:
    """The same while it grows: what a streaming endpoint says from time to time, the whole of it last."""
    kind = ""
    with urllib.request.urlopen(place, timeout=patience) as stream:
        for line in stream:
            words = line.decode().strip()
            if words.startswith("event:"):
                kind = words.removeprefix("event:").strip()
            elif words.startswith("data:") and kind in ("generating", "complete", "error"):
                said = json.loads(words.removeprefix("data:"))
                if kind == "error":
                    raise Refused(said.get("error") or str(said) if isinstance(said, dict) else str(said))
                yield said[0]
                if kind == "complete":
                    return
    raise ValueError("The app said nothing.")
