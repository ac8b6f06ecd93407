"""Where a lease runs: here a fresh subprocess in its own session, so that no crash takes the app down."""

import subprocess
import sys
import threading
from pathlib import Path

from training.run import Run

_ROOT = Path(__file__).resolve().parent.parent
_LAST_WORDS = 600


def start(run: Run) -> None:
    """Train the run in a process of its own; its output goes to log.txt in the run's folder."""
    with (run.folder / "log.txt").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "training", "lease", str(run.folder)], cwd=_ROOT,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
    threading.Thread(target=_watch, args=(process, run), daemon=True).start()


def _watch(process: subprocess.Popen, run: Run) -> None:
    """Wait for the trainer; one that ended before it could say anything gets its `failed` event from here."""
    code = process.wait()
    if run.folder.is_dir() and run.state() == "preparing":
        why = "was ended by the system (out of memory?)" if code < 0 else f"ended with code {code}"
        last_words = (run.folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:]
        run.append("failed", message=f"The trainer {why} before it began.", advice="The run's log.txt holds the "
                   "details.", log=last_words)
