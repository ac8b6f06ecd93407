"""Conversations that are kept as trees, of which one branch is taken: exports of ChatGPT and DeepSeek, OpenAssistant's.

ChatGPT's `conversations.json` (OpenAI's help centre, "How do I export my ChatGPT history") has for each conversation a
`mapping` of nodes and the `current_node`, whose branch is what the person last saw; DeepSeek's has a `mapping` alone. A
line of OpenAssistant's `*_trees.jsonl` (LAION-AI/Open-Assistant, oasst-data) has a `prompt` with `replies`, of which
the best ranked is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from phi3.template import Message
from training.turns import CALLS_A_TOOL, no_text, said_by, text_of

# What ChatGPT keeps beside what was said: what it knew of the person, and how it came to its answer.
_UNSAID = {"user_editable_context", "model_editable_context", "thoughts", "reasoning_recap", "system_error"}
_SAID = {"text", "multimodal_text"}
# What DeepSeek keeps of a message, beside what was thought and searched.
_FRAGMENTS = {"REQUEST": "user", "RESPONSE": "assistant"}


def tree_of(row: Mapping[str, Any]) -> tuple[str, Callable[[], list[Message]]] | None:
    """Whose tree this row is, and what gives the turns of the branch that is taken, or a ValueError that says why it
    can't be learned from; None where it is no tree.
    """
    if isinstance(row.get("mapping"), dict) and all(isinstance(node, dict) for node in row["mapping"].values()):
        said = [node["message"] for node in row["mapping"].values() if isinstance(node.get("message"), dict)]
        whose = "deepseek" if any("fragments" in one for one in said) else "chatgpt"
        return f"{whose} export", lambda: list(_chatgpts(row))
    prompt = row.get("prompt")
    if isinstance(prompt, dict) and isinstance(prompt.get("replies"), list) and isinstance(prompt.get("text"), str):
        return "openassistant tree", lambda: list(_openassistants(prompt))
    return None


def _chatgpts(row: Mapping[str, Any]) -> Iterator[Message]:
    nodes = row["mapping"]
    branch: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    at = row.get("current_node") or _last_of(nodes)
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        branch.append(nodes[at])
        at = nodes[at].get("parent")
    said = [node["message"] for node in reversed(branch) if isinstance(node.get("message"), dict)]
    turns = [turn for one in said for turn in _chatgpts_turn(one) if turn["role"] != "system" or turn["content"]]
    # An empty message is begun and left where the next one of the same author takes its place.
    for turn, after in itertools.zip_longest(turns, turns[1:]):
        if turn["content"].strip() or after is None or after["role"] != turn["role"]:
            yield turn


def _last_of(nodes: Mapping[str, Any]) -> str | None:
    """The newest node that nothing follows, for an export that doesn't say where the person was."""
    ends = [name for name, node in nodes.items() if not node.get("children")]
    return ends[-1] if ends else None


def _chatgpts_turn(said: Mapping[str, Any]) -> Iterator[Message]:
    if isinstance(said.get("fragments"), list):
        parts = [part for part in said["fragments"] if isinstance(part, dict)]
        yield from (said_by(_FRAGMENTS[part["type"]], text_of(part.get("content")))
                    for part in parts if part.get("type") in _FRAGMENTS)
        return
    about, content = said.get("metadata"), said.get("content")
    is_hidden = isinstance(about, dict) and about.get("is_visually_hidden_from_conversation") is True
    kind = content.get("content_type") if isinstance(content, dict) else None
    if is_hidden or kind in _UNSAID:
        return
    if said.get("recipient", "all") != "all":
        raise ValueError(CALLS_A_TOOL)
    turn = said_by(said.get("author"), text_of(content) if kind in _SAID else "")
    if kind not in _SAID:
        raise no_text(kind)
    yield turn


def _openassistants(prompt: Mapping[str, Any]) -> Iterator[Message]:
    node: Mapping[str, Any] | None = prompt
    while node is not None:
        yield said_by(node.get("role"), text_of(node.get("text")))
        replies = node.get("replies")
        kept = [one for one in replies if isinstance(one, dict) and not one.get("deleted")] \
            if isinstance(replies, list) else []
        node = min(kept, key=_rank, default=None)


def _rank(reply: Mapping[str, Any]) -> float:
    """The best is 0; who wasn't ranked comes after those who were."""
    rank = reply.get("rank")
    return rank if isinstance(rank, int | float) else float("inf")
