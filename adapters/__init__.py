"""Keeps, checks, converts, publishes and fetches adapters."""
