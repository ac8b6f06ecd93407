"""What the doors of the terminal share: a sentence for what the user can mend, and libraries that keep quiet."""

import codecs
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable

from phi3.machine import NO_MEMORY, is_disk_full, is_out_of_memory


def status_of(command: Callable[[], int]) -> int:
    """What the command returns; 2 with its sentence on stderr for a ValueError, a full disk, memory that ran out and a
    file that is another user's, 130 where it was interrupted, 141 where nobody reads what it prints any more, as after
    `| head`.
    """
    _print_every_sign()
    _be_quiet()
    try:
        status = command()
        print(end="", flush=True)  # where there is no stdout this does nothing
        return status
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _print_nowhere()
        return 141
    except PermissionError as problem:
        print(f"{problem.filename} can't be used ({problem.strerror}): it is another user's of this machine. Do this "
              "as that user, or in a folder of your own: STUDIO_HOME=FOLDER.", file=sys.stderr)
        return 2
    except Exception as problem:
        if is_out_of_memory(problem):
            print(NO_MEMORY.format("this", "try again"), file=sys.stderr)
        elif is_disk_full(problem):
            print("The disk is full. Free some space, and try again.", file=sys.stderr)
        else:
            raise
        return 2


def say(line: str) -> None:
    """Print a line of a work that goes on whether or not somebody reads along: the pipe or the terminal may be closed,
    or the disk full that the lines go to.
    """
    try:
        print(line, flush=True)
    except OSError:
        _print_nowhere()


def _print_every_sign() -> None:
    """A sign that the terminal's encoding hasn't is escaped, as JSON does it: lines of JSON still say the same."""
    codecs.register_error("as in JSON", lambda problem: (
        json.dumps(problem.object[problem.start:problem.end])[1:-1], problem.end))
    if isinstance(sys.stdout, io.TextIOWrapper):  # a notebook's is none
        sys.stdout.reconfigure(errors="as in JSON")


def _print_nowhere() -> None:
    """Python would complain at its end of what is still to be printed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _be_quiet() -> None:
    """Libraries' progress bars and notices would stand between the lines; some are told when they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
