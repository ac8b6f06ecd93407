"""Talking to the base and to adapters, side by side."""
