"""The base model: which Phi-3 models are known, how one is loaded, and how it answers."""

import os
import sys

# GNU OpenMP reads this when torch is loaded. A thread that waits for its sibling would spin for milliseconds, on a core
# that the sibling may need; `python -m benchmarks.together` measures what that costs. So many turns, some tens of
# microseconds, reach from one product of an answer's step to the next: with 1,000 the threads fell asleep in between,
# and two to eight lanes took up to a quarter longer.
SPINS = "3000"
os.environ.setdefault("GOMP_SPINCOUNT", SPINS)

# Every door leads through here, before it imports what Windows lacks: locks that end with their process.
if sys.platform == "win32":
    print("This runs on Linux and macOS, and on Windows inside of WSL 2, which uses the same card: wsl --install, and "
          "there as README.md says.", file=sys.stderr)
    sys.exit(2)
