"""The base model: which Phi-3 models are known, how one is loaded, and how it answers."""

import os

# GNU OpenMP reads this when torch is loaded. A thread that waits for its sibling would spin for milliseconds, on a core
# that the sibling may need; `python -m benchmarks.together` measures what that costs. So many turns, some tens of
# microseconds, reach from one product of an answer's step to the next: with 1,000 the threads fell asleep in between,
# and two to eight lanes took up to a quarter longer.
SPINS = "3000"
os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
