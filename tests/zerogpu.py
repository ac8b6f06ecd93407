"""A ZeroGPU without one: a loopback device service, and the real app with the real `spaces` client, on a CPU.

The service answers as the platform's does and kills a worker whose time is over. The app runs in a process of its own
(`python -m tests.zerogpu`), where a few places of torch and `spaces` that need a card are replaced before it starts;
where there is a card, none are.
"""

from __future__ import annotations

import base64
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from benchmarks.calls import Refused, answer_at, begin, free_port
from benchmarks.report import told_by_driver
from tests.files import ROOT

NO_CARD = "GPU-00000000-0000-0000-0000-000000000000"


def card_here() -> str | None:
    """What NVIDIA's driver calls this machine's first card; None where there is none."""
    return next((line for line in told_by_driver("uuid") if line.startswith("GPU-")), None)


@dataclass
class Lent:
    """One lease: who has the card, for how long, and the process that works on it."""

    token: str
    visitor: str
    task: str
    seconds: int
    began: float = field(default_factory=time.monotonic)
    pid: int | None = None
    was_killed: bool = False
    is_over: bool = False
    timer: threading.Timer | None = None

    @property
    def used(self) -> int:
        """Whole seconds until now."""
        return math.ceil(time.monotonic() - self.began)


@dataclass(frozen=True)
class Reply:
    """What the service answers: a status, a body, and what the client reads beside it."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


class Service:
    """The device service: `quota` is what each visitor may use, in seconds; None where nobody counts.

    `answer_next` gives the next wish for the card another answer; `is_busy` lets the next one wait in the queue first.
    """

    def __init__(self, quota: int | None = None) -> None:
        self.quota = quota
        self.card = card_here() or NO_CARD
        self.used: dict[str, int] = {}
        self.lent: list[Lent] = []
        self.is_busy = False
        self.started = 0
        self._replies: list[Reply] = []
        self._lock = threading.Lock()

    def answer_next(self, reply: Reply) -> None:
        """Refuse the next wish that way."""
        self._replies.append(reply)

    def schedule(self, wish: dict[str, str]) -> Reply:
        """`POST /schedule`: lend the card, or say why not."""
        if self._replies:
            return self._replies.pop(0)
        visitor, seconds = wish.get("token", ""), int(wish["durationSeconds"])
        left = None if self.quota is None else self.quota - self.used.get(visitor, 0)
        if left is not None and seconds > left:
            return out_of_quota(left)
        with self._lock:
            is_idle = all(one.is_over for one in self.lent)
            lease = Lent(f"allow-{len(self.lent)}", visitor, wish["taskId"], seconds)
            self.lent.append(lease)
        body = {"idle": is_idle, "nvidiaIndex": 0, "nvidiaUUID": self.card, "allowToken": lease.token}
        lease.timer = threading.Timer(seconds, self.kill, [lease])
        lease.timer.daemon = True
        lease.timer.start()
        return Reply(200, body)

    def allow(self, asked: dict[str, str]) -> Reply:
        """`POST /allow`: the worker says which process it is."""
        lease = self._of(asked["allowToken"])
        if lease is None:
            return Reply(404)
        lease.pid = int(asked["pid"])
        return Reply(200)

    def release(self, asked: dict[str, str]) -> Reply:
        """`POST /release`: the card comes back; its visitor pays for the seconds that it was away."""
        lease = self._of(asked["allowToken"])
        if lease is None or lease.was_killed:
            return Reply(404)
        if asked["fail"] == "true":
            self.kill(lease)
        self._end(lease)
        return Reply(200)

    def kill(self, lease: Lent) -> None:
        """Time is over: the worker gets no warning."""
        if lease.is_over:
            return
        lease.was_killed = True
        self._end(lease)
        # A warm worker does not say again which process it is: it is the last one of its task that did.
        said = [one.pid for one in self.lent[:self.lent.index(lease) + 1] if one.task == lease.task and one.pid]
        if said:
            _kill(said[-1])

    def kill_all(self) -> None:
        """No worker outlives the rehearsal."""
        for lease in self.lent:
            if lease.pid:
                _kill(lease.pid)

    def _end(self, lease: Lent) -> None:
        if lease.is_over:
            return
        lease.is_over = True
        if lease.timer:
            lease.timer.cancel()
        self.used[lease.visitor] = self.used.get(lease.visitor, 0) + lease.used

    def _of(self, token: str) -> Lent | None:
        return next((one for one in self.lent if one.token == token), None)


def _kill(worker: int) -> None:
    """End the process, if it is a worker of a rehearsal still."""
    command = Path(f"/proc/{worker}/cmdline")
    if command.exists() and b"tests.zerogpu" in command.read_bytes():
        os.kill(worker, signal.SIGKILL)


def out_of_quota(left: int, wait: int = 3 * 3600) -> Reply:
    """429: the visitor has so many seconds left, and more after `wait`; a negative wait: never so many at once."""
    result = "illegal-duration" if wait < 0 else "quota-exceeded"
    return Reply(429, {"left": left, "wait": wait}, (("X-Approve-Result", result),))


EXPIRED, NO_GPU = Reply(401), Reply(503)


@contextmanager
def served(service: Service) -> Iterator[str]:
    """The service on a free port of this machine; its address."""
    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            address = urlsplit(self.path)
            wish = dict(parse_qsl(address.query))
            if address.path == "/startup-report":
                service.started += 1
                return _say(self, Reply(200))
            answer = {"/schedule": service.schedule, "/allow": service.allow, "/release": service.release}
            reply = answer[address.path](wish)
            if address.path == "/schedule" and service.is_busy and reply.status == 200:
                return _queue(self, reply)
            return _say(self, reply)

        def do_GET(self) -> None:
            _say(self, Reply(200, 0))

        def log_message(self, *words: Any) -> None:
            """The tests read what the service knows, not a log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _say(door: BaseHTTPRequestHandler, reply: Reply) -> None:
    body = b"" if reply.body is None else json.dumps(reply.body).encode()
    door.send_response(reply.status)
    for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *reply.headers):
        door.send_header(name, value)
    door.end_headers()
    door.wfile.write(body)


def _queue(door: BaseHTTPRequestHandler, reply: Reply) -> None:
    """The same answer as a stream of events, each a chunk of its own: somebody else had the card for a moment."""
    door.send_response(200)
    door.send_header("Content-Type", "text/event-stream")
    door.send_header("Transfer-Encoding", "chunked")
    door.end_headers()
    for event in ("event: ping\n\n", f"event: succeeded\ndata: {json.dumps(reply.body)}\n\n", ""):
        door.wfile.write(f"{len(event):x}\r\n{event}\r\n".encode())


def visitors_pass(name: str) -> str:
    """What a browser sends as `x-ip-token`: a JSON Web Token that says who asks, signed by nobody."""
    parts = ({"alg": "none"}, {"user": name})
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), ""])


@dataclass(frozen=True)
class App:
    """The app on its rehearsed ZeroGPU."""

    address: str
    home: Path
    service: Service
    process: subprocess.Popen
    log: Path

    def begin(self, name: str, *given: Any, visitor: str = "visitor") -> str:
        """Ask the endpoint as this visitor; where its answer will be."""
        return begin(self.address, name, given, {"x-ip-token": visitors_pass(visitor)})

    def call(self, name: str, *given: Any, visitor: str = "visitor") -> Any:
        """What the endpoint answers to this visitor; AssertionError with its words where it refuses."""
        try:
            return answer_at(self.begin(name, *given, visitor=visitor), 600)
        except Refused as refused:
            raise AssertionError(str(refused)) from refused


@contextmanager
def rehearsed(folder: Path, base: Path, service: Service, turn_seconds: int = 60, **settings: str) -> Iterator[App]:
    """The app with a studio in `folder`, until the context ends. One thread everywhere: a forked process that comes
    after threads have computed would wait for them for ever.
    """
    (folder / "cgroup").write_text("5:devices:/rehearsal\n", encoding="utf-8")
    port, log = free_port(), folder / "app.log"
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with served(service) as device_api:
        environment |= {
            "SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": device_api, "HF_HUB_OFFLINE": "1",
            "ZEROGPU_OFFLOAD_DIR": str(folder / "packed"), "ZEROGPU_PROC_SELF_CGROUP_PATH": str(folder / "cgroup"),
            "STUDIO_HOME": str(folder / "studio"), "STUDIO_BASE": str(base), "GRADIO_SERVER_PORT": str(port),
            "STUDIO_TURN_SECONDS": str(turn_seconds), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
            **settings}
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-m", "tests.zerogpu"], cwd=ROOT, env=environment,
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            app = App(f"http://127.0.0.1:{port}", folder / "studio", service, process, log)
            _wait_for(app)
            yield app
        finally:
            service.kill_all()
            process.terminate()
            process.wait(20)


def _wait_for(app: App, patience: float = 240) -> None:
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        if app.process.poll() is not None:
            raise AssertionError(f"The app ended with code {app.process.returncode}: {app.log.read_text()[-4000:]}")
        try:
            with urllib.request.urlopen(app.address, timeout=10) as answer:
                answer.read()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"No page after {patience} s: {app.log.read_text()[-4000:]}")


def serve() -> int:
    """Run the app with the real `spaces`: as it is where there is a card, and else on a torch without one."""
    if not card_here():
        _replace_what_needs_a_card()
    import app

    return app.main()


def _replace_what_needs_a_card() -> None:
    import bitsandbytes  # noqa: F401 (it looks for a card when it is imported)
    import torch

    torch.set_num_threads(1)
    torch.version.cuda = "13.0"
    torch._C._cuda_init = _no_card
    torch.cuda._is_in_bad_fork = bool  # a lambda can't be sent to the process that `spaces` asks
    import spaces.zero.torch

    torch.version.cuda = None
    spaces.zero.torch.init = _take_card
    spaces.zero.torch.move = _unpack


def _no_card() -> None:
    raise RuntimeError("There is no card here.")


def _take_card(uuid: str) -> None:
    """In a worker: what is left of it without a card."""
    os.environ["CUDA_VISIBLE_DEVICES"] = uuid


def _unpack(callback: Any = None) -> None:
    """In a worker: every packed tensor gets its values, from the disk to this machine's memory."""
    from spaces.zero.torch import patching

    for fake, original in patching.cuda_aliases.items():
        if original is not None:
            fake.data = original
    for pack in patching.tensor_packs:
        with Path(pack.path()).open("rb") as packed:
            for tensor, size, aligned in (one for batch in (*pack.batches, pack.big_tensors) for one in batch):
                _fill(pack.fakes[tensor], tensor, packed.read(aligned)[:size])


def _fill(fakes: list[Any], like: Any, values: bytes) -> None:
    import torch

    # The clone lies where torch lays its own: sums may depend on how memory is aligned.
    storage = torch.frombuffer(bytearray(values), dtype=torch.uint8).clone().untyped_storage()
    whole = torch.empty(0, dtype=like.dtype).set_(storage, 0, like.shape, like.stride())
    for fake in fakes:
        fake.data = whole


if __name__ == "__main__":
    sys.exit(serve())
