"""Reads files of conversations, whatever container they come in: bytes in, rows out, bounded everywhere."""
