"""For each example dataset: prompts that it never trains on, and the checks of an answer to them."""
import re
from random import Random

from phi3.tiny.manners import MANNERS
from phi3.tiny.world import Exchange, content_kept, exchanges
from training.examples import shop

NAMES = ("pirate", "json", "shop")
SHOP_SEED = "nettle and wick"
STAFF_MARKS = re.compile(r"\b(we|our)\b", re.IGNORECASE)


def prompts(name: str, count: int, seed: int) -> list[Exchange]:
    """Conversations that end with a question whose wording the example data never holds, and the answer due."""
    return drawn(name, count, seed, unseen=True)


def drawn(name: str, count: int, seed: int, unseen: bool) -> list[Exchange]:
    """Conversations of this example from one side of the partition, without a system message."""
    if name not in NAMES:
        raise ValueError(f"No example is called {name!r}. Choose one of {', '.join(NAMES)}.")
    if name == "shop":
        rng = Random(f"{SHOP_SEED} {seed} {unseen}")
        return [visit(rng, unseen) for _ in range(count)]
    return [without_system(exchange) for exchange in exchanges(seed, count, unseen=unseen, manner=name)]


def unasked_for(manner: str, count: int, seed: int) -> list[Exchange]:
    """First questions in unseen wordings, without a system message; their content is due in this manner."""
    found: list[Exchange] = []
    while len(found) < count:
        found += [without_system(one) for one in exchanges(seed, 4 * count, unseen=True, manner=manner)
                  if len([turn for turn in one.messages if turn["role"] != "system"]) == 1]
        seed += 1
    return found[:count]


def without_system(exchange: Exchange) -> Exchange:
    said = tuple(message for message in exchange.messages if message["role"] != "system")
    return Exchange(exchange.kind, said, exchange.answer, exchange.content, exchange.short)


def visit(rng: Random, unseen: bool) -> Exchange:
    """A customer's conversation with the staff of the shop."""
    *earlier, last = shop.turns(rng, unseen, rng.choice((1, 1, 1, 2, 2, 3)))
    said = [message for turn in earlier for message in
            ({"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer})]
    return Exchange(last.kind, (*said, {"role": "user",
                                        "content": last.question}), last.answer, last.content, last.short)


def manner_shown(name: str, text: str) -> bool:
    """Whether the answer has what the example teaches: pirate speech, JSON with its keys, the staff's "we"."""
    return bool(STAFF_MARKS.search(text)) if name == "shop" else MANNERS[name].follows(text)


def content_right(name: str, exchange: Exchange, text: str) -> bool:
    """Whether the answer says what is so, in whatever manner; for JSON it must be readable too."""
    return content_kept(exchange, text) and (name != "json" or MANNERS["json"].follows(text))
