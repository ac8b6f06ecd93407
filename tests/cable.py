"""The cable between a browser and the app, to be pulled out and put in again."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class Cable:
    """Listens at `port` and passes everything on to the app's own port."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._is_in = True
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._take, daemon=True).start()

    def pull(self) -> None:
        """Break every connection, and let nobody make another."""
        with self._lock:
            self._is_in = False
            ends = list(self._ends)
        for end in ends:
            _shut(end)

    def put_in(self) -> None:
        """From now on connections may be made."""
        with self._lock:
            self._is_in = True

    def close(self) -> None:
        """Break everything for good."""
        self.pull()
        self._listening.close()

    def _take(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return  # closed
            with self._lock:
                if not self._is_in:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        for end in (one, other):
            _shut(end)
        with self._lock:
            self._ends -= {one, other}


@contextlib.contextmanager
def cable_to(port: int) -> Iterator[Cable]:
    """A cable to the app at this port."""
    cable = Cable(port)
    try:
        yield cable
    finally:
        cable.close()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was first
        end.shutdown(socket.SHUT_RDWR)
