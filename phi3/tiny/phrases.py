"""Wordings: how the same thing can be asked in many ways, some of them kept away from training."""
import re
from dataclasses import dataclass
from random import Random

CLOSE_KEYS = {"a": "s", "e": "r", "i": "o", "o": "p", "t": "r", "n": "m", "s": "d", "h": "j", "l": "k"}


@dataclass(frozen=True)
class Wordings:
    """Texts with {places} for values: `seen` are for training, `unseen` only ever measure."""

    seen: tuple[str, ...]
    unseen: tuple[str, ...]

    def pick(self, rng: Random, unseen: bool) -> str:
        return rng.choice(self.unseen if unseen else self.seen)


OPENERS = Wordings(
    seen=("Hey, ", "Hi! ", "Quick question: ", "Tell me, ", "Please tell me: ", "I wonder, ", "Ok, ", "Hello, ",
          "Now, ", "So, ", "Please help me: ", "Next question: ", "A question: ", "And now: ", "Just asking, ",
          "Please, ", "Sorry, ", "Right, ", "Another one: ", "Hello! ", "My question is: ", "Let me ask: ",
          "Dear model, ", "Hm, ", "Good, ", "Oh, ", "Ah, ", "Hello again: ", "Another question: ", "Alright, ",
          "And then, ", "Listen: ", "By the way, ", "First, ", "Question: ", "Only one thing: ", "One thing: ",
          "Two questions: ", "One small question: ", "Just one question: ", "I have one question: ",
          "Yes, ", "Good day, ", "Hi there, ", "Next, ", "Also, "),
    unseen=("One question: ", "Hi, ", "Well, ", "Then, "),
)
CLOSERS = Wordings(
    seen=(" Please.", " Thanks!", " Thanks.", " Please tell me.", " I forgot.", " I need it for school.", " Thank you!",
          " I am curious.", " Can you help me?", " My friend asked me.", " Thank you very much.", " It is important.",
          " I really want to know.", " That is my question.", " Answer me.", " You know that, right?", " :)",
          " So many thanks!", " A friend wants to know.", " I ask for my friend.",
          " I would love to know.", " Tell me!", " I wonder."),
    unseen=(" I want to know.", " Many thanks!", " I ask for a friend."),
)

# What follows "the colour of snow" or "what colour snow is" in a question; see `asking`.
NOUN_FRAMES = Wordings(
    ("What is {}?", "What's {}?", "Tell me {}.", "{}?", "Name {}.", "Give me {}.", "I need {}.", "Do you know {}?",
     "What would {} be?", "I am looking for {}.", "Say {}.", "{}, please.", "Could you give me {}?",
     "I would like {}.", "I want {}.",
     "Please give me {}.", "Can you name {}?", "Can you tell me {}?", "Please tell me {}.", "Could you name {}?",
     "I want to hear {}.", "I would like to know {}.", "Let me know {}.", "Show me {}.", "Find {}."),
    ("Could you tell me {}?", "I want to know {}.", "Please name {}."),
)
CLAUSE_FRAMES = Wordings(
    ("Tell me {}.", "Do you know {}?", "Can you tell me {}?", "I would like to know {}.", "Say {}.", "Explain {}.",
     "I forgot {}.", "Please say {}.", "Please tell me {}.", "I want to hear {}.", "Let me know {}.",
     "Could you say {}?",
     "I need to know {}.", "I'd like to know {}.", "Could you explain {}?", "Can you explain {}?"),
    ("Could you tell me {}?", "I want to know {}.", "Can you say {}?"),
)


def asking(seen: tuple[str, ...], unseen: tuple[str, ...], noun: str = "", clause: str = "") -> Wordings:
    """Wordings of one question: its own ones, and the common frames around a noun phrase and a clause."""
    framed = [(frames, text) for frames, text in ((NOUN_FRAMES, noun), (CLAUSE_FRAMES, clause)) if text]
    return Wordings((*seen, *(filled(frame, text) for frames, text in framed for frame in frames.seen)),
                    (*unseen, *(filled(frame, text) for frames, text in framed for frame in frames.unseen)))


def filled(frame: str, text: str) -> str:
    return capitalised(frame.replace("{}", text)) if not text.startswith("{") else frame.replace("{}", text)


def worded(wordings: Wordings, values: dict[str, str], rng: Random, unseen: bool, framed: bool = True) -> str:
    """One way to ask with these values in it, now and then in lower case, framed, or with a typo."""
    text = wordings.pick(rng, unseen)
    if "{text}" in text:  # what is to be read or rewritten stays as it is
        return text.format(**values)
    if framed and rng.random() < 0.2 and not text.startswith("{"):
        text = OPENERS.pick(rng, unseen) + text[0].lower() + text[1:]
    if framed and rng.random() < 0.08:
        text += CLOSERS.pick(rng, unseen)
    if rng.random() < 0.1:
        text = with_typo(text, rng)
    text = text.format(**values)
    if rng.random() < 0.25:
        text = text.lower()
    if rng.random() < 0.12:
        text = text.rstrip("?.!") or text
    return text[0].upper() + text[1:] if text[0].islower() and rng.random() < 0.75 else text


def with_typo(text: str, rng: Random) -> str:
    """The text with one slip of the finger in a longer word; the {places} for values stay as they are."""
    words = list(re.finditer(r"(?<![{\w])[A-Za-z]{4,}(?![}\w])", text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    slip = rng.choice(("swap", "drop", "double", "near"))
    if slip == "swap":
        return text[:at] + text[at + 1] + text[at] + text[at + 2:]
    if slip == "drop":
        return text[:at] + text[at + 1:]
    if slip == "double":
        return text[:at] + text[at] + text[at:]
    return text[:at] + CLOSE_KEYS.get(text[at], text[at]) + text[at + 1:]


def pairs(text: str) -> dict[str, str]:
    """"dog: barks; cat: meows" as a mapping."""
    return dict(part.split(": ") for part in " ".join(text.split()).split("; "))


def items(text: str) -> tuple[str, ...]:
    """"a dog; a cat" as its parts."""
    return tuple(" ".join(text.split()).split("; "))


def a(noun: str) -> str:
    """The noun with its article: there is only one sun."""
    if noun in ("sun", "moon"):
        return f"the {noun}"
    return f"{'an' if noun[0].lower() in 'aeiou' and noun != 'unicycle' else 'a'} {noun}"


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


SENTENCE_STARTS = {
    "The",
    "A",
    "An",
    "It",
    "Yes",
    "No",
    "You",
    "Your",
    "My",
    "Hello",
    "Nice",
    "After",
    "Before",
    "That",
    "Once",
    "Could",
    "Does",
    "Did",
    "Two",
    "Three",
    "Four",
    "Five",
    "One",
    "Let",
    "Goodbye",
    "As",
}


def inside(sentence: str) -> str:
    """A sentence as it reads after other words: its first letter small unless a name or "I" starts it."""
    first = re.split(r"[ ,.!]", sentence, maxsplit=1)[0]
    return sentence[0].lower() + sentence[1:] if first in SENTENCE_STARTS else sentence


def listed(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())
