"""How one click stops the answers that another click asked for, in the same browser tab."""

import threading


class Stops:
    """For each browser tab, whether the answers that were asked for last shall stop."""

    def __init__(self) -> None:
        self._asked: dict[str, threading.Event] = {}

    def begin(self, tab: str) -> None:
        """New answers are asked for: whatever still runs for this tab stops, the new ones don't."""
        self.ask(tab)
        self._asked[tab] = threading.Event()

    def ask(self, tab: str) -> None:
        """Please stop after this token."""
        self._asked.setdefault(tab, threading.Event()).set()

    def of(self, tab: str) -> threading.Event:
        """Set once the answers asked for last shall stop."""
        return self._asked.setdefault(tab, threading.Event())

    def forget(self, tab: str) -> None:
        """The tab was closed: whatever still runs for it stops."""
        self.ask(tab)
        self._asked.pop(tab)
