"""The base model: which Phi-3 models are known, how one is loaded, and how it answers."""
