"""One file per module, no network, no sleeping; `python -m tests` runs them, `--slow` with the long ones."""
