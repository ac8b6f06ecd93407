"""The base model: which Phi-3 models are known, how one is loaded, and how it answers."""

import os

# GNU OpenMP reads this when torch is loaded. A thread that waits for its sibling would spin for milliseconds, on a core
# that the sibling may need: two runs beside each other took 25 s instead of 13 (python -m benchmarks.together).
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
