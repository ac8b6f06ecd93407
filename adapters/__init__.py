"""Keeps the adapters that were made or fetched."""
