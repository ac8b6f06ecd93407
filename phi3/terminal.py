"""What the doors of the terminal share: a sentence for what the user can mend, and libraries that keep quiet."""

import logging
import os
import sys
import warnings
from collections.abc import Callable


def status_of(command: Callable[[], int]) -> int:
    """What the command returns; 2 with its sentence on stderr for a ValueError, 130 where it was interrupted."""
    try:
        return command()
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def be_quiet() -> None:
    """Libraries' progress bars and notices would stand between the lines."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
