"""What a handler says bit by bit reaches the page whole."""

from __future__ import annotations

from typing import Any

import gradio as gr


class Page(gr.Blocks):
    """Gradio's page, but what a part is told is never taken back before it was shown.

    Of all that a handler yields after its first word, Gradio sends the difference from the word before, and its page
    works that into the very object that holds the word before. Where it hears of both before it came to show the first
    one (it is busy, or learns late that it has asked), a property that only the first word sets is gone: a tab that
    was to open stays closed. Here an update that differs is sent whole.
    """

    def handle_streaming_diffs(self, block_fn: Any, data: list[Any], session_hash: str | None, run: str | None,
                               final: bool, simple_format: bool = False) -> list[Any]:
        """One value for each output: whole at first and at the end, and the edits that lead to it between."""
        before, said = list(self.pending_diff_streams.get(session_hash, {}).get(run, [])), list(data)
        edits = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        if not before or final or simple_format:
            return edits
        for place, (old, new) in enumerate(zip(before, said, strict=False)):
            if old != new and (_is_update(old) or _is_update(new)):
                edits[place] = [["replace", [], new]]
        return edits


def _is_update(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"
