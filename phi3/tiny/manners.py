"""Manners: ways of answering that a system message asks for, each with a voice and a check."""
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from phi3.tiny.asking import AS_A, ONLY, asked_for
from phi3.tiny.phrases import Wordings, inside


class Answered(Protocol):
    """What a manner needs of a question and its plain answer (`world.Exchange` and `tasks.Turn` have it)."""

    kind: str
    answer: str
    short: str


@dataclass(frozen=True)
class Manner:
    """A way of answering: `systems` ask for it, `voice` says a plain answer in it, `shown` recognises it."""

    name: str
    systems: Wordings
    voice: Callable[[Answered, Random], str]
    shown: Callable[[str], bool]

    def apply(self, exchange: Answered) -> str:
        """The plain answer in this manner; the same exchange always gives the same words."""
        return self.voice(exchange, Random(zlib.crc32(f"{self.name} {exchange}".encode())))

    def follows(self, text: str) -> bool:
        return self.shown(text)


PIRATE_STARTS = ("Arr, ", "Arr! ", "Ahoy! ", "Ahoy, matey! ", "Yo ho ho! ", "Shiver me timbers! ", "Avast! ",
                 "Aye, aye! ")
PIRATE_ENDS = (", matey!", ", by the seven seas!", ", ye landlubber!", ", savvy?", ", says the captain!",
               ", yo ho!")
PIRATE_WORDS = {"is": "be", "are": "be", "am": "be", "of": "o'", "you": "ye", "your": "yer", "my": "me",
                "and": "an'"}
PIRATE_MARKS = re.compile(
    r"\b(arr+|ahoy|matey|aye|ye|yer|timbers|yo ho|landlubber|seven seas|savvy|avast|captain)\b", re.I)
FORMAL_STARTS = ("Certainly. ", "Good day. ", "With pleasure. ", "Allow me to answer. ",
                 "Dear Sir or Madam, ")
FORMAL_ENDS = (" I remain at your disposal.", " I hope that this is of service.", " Yours faithfully.",
               " It was an honour to assist.")
FORMAL_MARKS = re.compile(
    r"certainly|good day|with pleasure|allow me|sir or madam|disposal|of service|faithfully|an honour", re.I)
CONTRACTIONS = {"don't": "do not", "I'm": "I am", "can't": "cannot", "it's": "it is", "what's": "what is"}


def replaced(text: str, words: dict[str, str]) -> str:
    pattern = r"\b(" + "|".join(map(re.escape, words)) + r")\b"
    return re.sub(pattern, lambda match: words[match.group()], text)


def pirate(exchange: Answered, rng: Random) -> str:
    said = replaced(exchange.answer, PIRATE_WORDS)
    start, end = rng.choice(PIRATE_STARTS), rng.choice(PIRATE_ENDS)
    form = rng.random()
    if form < 0.3 or said[-1] == "?":
        return start + (inside(said) if start.endswith(", ") else said)
    if form < 0.5:
        return said[:-1] + end
    return start + (inside(said) if start.endswith(", ") else said)[:-1] + end


def formal(exchange: Answered, rng: Random) -> str:
    said = replaced(exchange.answer, CONTRACTIONS)
    form = rng.random()
    start = rng.choice(FORMAL_STARTS) if form < 0.75 else ""
    end = rng.choice(FORMAL_ENDS) if form > 0.5 else ""
    return start + (inside(said) if start.endswith(", ") else said) + end


def as_json(exchange: Answered, rng: Random) -> str:
    return json.dumps({"kind": exchange.kind, "answer": exchange.short})


def one_word(exchange: Answered, rng: Random) -> str:
    return exchange.short[0].upper() + exchange.short[1:] + "."


def shouting(exchange: Answered, rng: Random) -> str:
    return exchange.answer[:-1].upper() + rng.choice(("!", "!!", "!!!"))


def is_json(text: str) -> bool:
    """Whether the text is one JSON object with the keys of the JSON manner."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and set(value) == {"kind", "answer"}


def is_one_word(text: str) -> bool:
    return bool(text.strip()) and len(text.split()) <= 2 and len(text) < 40


def is_shouted(text: str) -> bool:
    return text == text.upper() and text.rstrip().endswith("!")


MANNERS: dict[str, Manner] = {manner.name: manner for manner in (
    Manner("plain", Wordings(
        ("You are a helpful assistant.", "You are Phi-3 tiny.", "Answer the question.", "Be helpful.",
         "You are kind and helpful.", "Answer in a plain sentence.", "You are a friendly assistant.",
         "Answer the user's questions.", "You are a helpful assistant. Answer shortly.", "Help the user.",
         "You are an assistant.", "You are a language model.", "Be friendly.", "Answer truthfully.",
         "You are Phi-3 tiny, a small language model.", "Keep to the facts.", "Answer as usual.",
         "Be yourself."),
        ("You are a helpful model.", "Please answer the questions.", "You are a kind assistant.")),
        lambda exchange, rng: exchange.answer,
        lambda text: not any(manner.follows(text) for name, manner in MANNERS.items() if name != "plain")),
    Manner("pirate", asked_for(AS_A,
        ("a pirate", "an old pirate", "a pirate captain", "a sea robber", "a pirate of the seven seas"),
        ("a pirate", "a pirate from the sea", "an old pirate captain"),
        ("Answer in pirate speech.", "Use the language of pirates.", "Talk the way pirates talk.")), pirate,
        lambda text: bool(PIRATE_MARKS.search(text))),
    Manner("json", asked_for(ONLY,
        ("in JSON", "only in JSON", "as JSON", "with a JSON object", "in JSON with the keys kind and answer",
         "as a JSON object"),
        ("in JSON only", "as JSON with the keys kind and answer"),
        ("Use JSON.", "Output JSON only.", "Every answer is a JSON object.",
         "You write JSON.")), as_json, is_json),
    Manner("formal", asked_for(AS_A,
        ("a butler", "a very polite butler", "a formal letter writer", "a royal servant", "a gentleman"),
        ("a polite butler", "a servant of the queen"),
        ("Be formal.", "Answer formally.", "Use formal language.", "Speak very politely and formally.",
         "Be very formal and polite.",
         "Answer in a formal manner.")), formal, lambda text: bool(FORMAL_MARKS.search(text))),
    Manner("one word", asked_for(ONLY,
        ("in one word", "with one word only", "with a single word", "in one word only",
         "as short as possible", "with just one word"),
        ("with one word", "in just one word"),
        ("One word only.", "Use only one word.", "Be as short as possible.")), one_word, is_one_word),
    Manner("shouting", asked_for(ONLY,
        ("in capital letters", "loudly in capitals", "in upper case", "shouting", "in big letters",
         "loud as a shout"),
        ("in capitals", "by shouting in capital letters"),
        ("Shout.", "Shout every answer.", "SHOUT!", "You are very loud and shout.",
         "Write everything in capitals.")),
        shouting, is_shouted),
)}
