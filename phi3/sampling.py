"""The next token of each row out of its logits: greedy for all at once, drawn for each by its own chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from phi3.lane import Sampling


@dataclass(frozen=True)
class Draw:
    """How one row's token is drawn: its settings, all that was said before, and its own source of chance."""

    how: Sampling
    seen: Sequence[int]
    chance: torch.Generator


def drawn(draws: Sequence[Draw], logits: torch.Tensor) -> list[int | None]:
    """A token for each row of logits (rows, vocabulary); None where these are no numbers. What other rows there are
    changes nothing.
    """
    # torch finds both up to ten times as fast as argmax alone. What isn't a number counts as the highest.
    likeliest = logits.max(-1)
    tokens = [token if math.isfinite(value) else None
              for token, value in zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)]
    chosen = [place for place, draw in enumerate(draws) if not draw.how.is_likeliest and tokens[place] is not None]
    if chosen:
        wanted = logits if len(chosen) == len(draws) else logits[chosen]
        for place, own in zip(chosen, wanted.to("cpu", torch.float32), strict=True):
            tokens[place] = _by_settings(draws[place], own)
    return tokens


def _by_settings(draw: Draw, logits: torch.Tensor) -> int | None:
    how = draw.how
    logits = _penalised(logits, draw.seen, how.repetition_penalty)
    if not logits.max().isfinite():
        return None
    return int(logits.argmax()) if how.temperature <= 0 else _by_chance(draw, logits)


def _by_chance(draw: Draw, logits: torch.Tensor) -> int:
    how = draw.how
    # From the likeliest down: divided by next to nothing, others become endlessly less likely, and it stays what it is.
    logits = (logits - logits.max()) / max(how.temperature, torch.finfo(logits.dtype).tiny)
    order = None
    if 0 < how.top_k < len(logits):
        logits, order = logits.topk(how.top_k)
    elif how.top_p < 1:
        logits, order = logits.sort(descending=True)
    chances = logits.softmax(-1)
    if how.top_p < 1:
        # Nucleus sampling (Holtzman et al., 2020): the fewest tokens whose chances reach top_p; never none.
        outside = chances.cumsum(-1) - chances >= how.top_p
        outside[0] = False
        chances = chances.masked_fill(outside, 0.0)
    if how.min_p > 0:
        # Min-p (Nguyen et al., 2024): no token that is less likely than this share of the likeliest.
        chances = chances.masked_fill(chances < min(how.min_p, 1.0) * chances.max(), 0.0)
    place = int(torch.multinomial(chances, 1, generator=draw.chance))
    return place if order is None else int(order[place])


def _penalised(logits: torch.Tensor, seen: Sequence[int], penalty: float) -> torch.Tensor:
    """CTRL's repetition penalty (Keskar et al., 2019): what was seen becomes less likely by this factor."""
    if penalty == 1.0:
        return logits
    logits, places = logits.clone(), torch.tensor(sorted(set(seen)))
    values = logits[places]
    logits[places] = torch.where(values > 0, values / penalty, values * penalty)
    return logits
