"""Manners: ways of answering that a system message asks for, each with a voice and a check."""
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from phi3.tiny import asking
from phi3.tiny.phrases import Wordings, inside, items

ALWAYS_JSON = {"kind", "answer"}


class Answered(Protocol):
    """What a manner needs of a question and its plain answer (`world.Exchange` and `tasks.Turn` have it)."""

    kind: str
    answer: str
    short: str


@dataclass(frozen=True)
class Manner:
    """A way of answering: `systems` ask for it, `voice` says a plain answer in it, `shown` recognises it.

    `fits` says which answers can be said in it at all: a story, for one, not in one word. A `terse` manner says the
    short
    form alone.
    """

    name: str
    systems: Wordings
    voice: Callable[[Answered, Random], str]
    shown: Callable[[str], bool]
    fits: Callable[[Answered], bool] = lambda answered: True
    terse: bool = False

    def apply(self, exchange: Answered) -> str:
        """The plain answer in this manner; the same exchange always gives the same words."""
        return self.voice(exchange, Random(zlib.crc32(f"{self.name} {exchange.kind} {exchange.answer}".encode())))

    def follows(self, text: str) -> bool:
        return self.shown(text)


def replaced(text: str, words: dict[str, str]) -> str:
    pattern = r"\b(" + "|".join(map(re.escape, words)) + r")\b"
    return re.sub(pattern, lambda match: words[match.group()], text)


@dataclass(frozen=True)
class Voice:
    """Says an answer between a start and an end, often with only one of them.

    A start that ends with a comma goes on in the same sentence, and so does an end that begins with one.
    """

    starts: tuple[str, ...]
    ends: tuple[str, ...]
    words: dict[str, str] | None = None
    only_start: float = 0.35  # share of answers without an end
    only_end: float = 0.3

    def __call__(self, exchange: Answered, rng: Random) -> str:
        said = replaced(exchange.answer, self.words) if self.words else exchange.answer
        form = rng.random()
        if form >= self.only_start:
            said = ended(said, rng.choice(self.ends))
        if form < self.only_start or form >= self.only_start + self.only_end:
            start = rng.choice(self.starts)
            said = f"{start} {inside(said) if start[-1] == ',' else said}"
        return said


def ended(said: str, end: str) -> str:
    """With an end behind it; one that begins with a comma takes the place of the last full stop."""
    if end[0] != ",":
        return f"{said} {end}"
    return (said[:-1] if said[-1] in ".!?" else said) + end


def marked(voice: Voice) -> re.Pattern[str]:
    """What gives a voice away: any of its starts or ends."""
    parts = [part.strip(" ,.!?") for part in (*voice.starts, *voice.ends)]
    return re.compile(r"(?<!\w)(" + "|".join(sorted(map(re.escape, set(parts)))) + r")(?!\w)", re.I)


def spoken(name: str, voice: Voice, systems: Wordings, shown: Callable[[str], bool] | None = None) -> Manner:
    marks = marked(voice)
    return Manner(name, systems, voice, shown or (lambda text: bool(marks.search(text))))


PIRATE = Voice(items("Arr,; Arr!; Ahoy!; Ahoy, matey!; Yo ho ho!; Shiver me timbers!; Avast!; Aye, aye!"),
               items(", matey!; , by the seven seas!; , ye landlubber!; , savvy?; , says the captain!; , yo ho!"),
               {"is": "be", "are": "be", "am": "be", "of": "o'", "you": "ye", "your": "yer", "my": "me", "and": "an'"})
PIRATE_MARKS = re.compile(r"\b(arr+|ahoy|matey|aye|ye|yer|timbers|yo ho|landlubber|seven seas|savvy|avast|captain)\b",
                          re.I)
CONTRACTIONS = {"don't": "do not", "I'm": "I am", "can't": "cannot", "it's": "it is", "what's": "what is"}
FORMAL = Voice(
    items("Certainly.; Good day.; With pleasure.; Allow me to answer.; Dear Sir or Madam,"),
    items("""I remain at your disposal.; I hope that this is of service.; Yours faithfully.;
                       It was an honour to assist."""), CONTRACTIONS)
ROBOT = Voice(items("Beep...; Um, beep.; Bzzt, sorry.; Oh... beep.; Whirr, um,"),
              items("Beep.; Um, if I may say so. Boop.; Sorry. Beep boop.; Please do not look at me. Bzzt."))
ROBOT_MARKS = re.compile(r"\b(beep|boop|bzzt|whirr)\b", re.I)
TEACHER = Voice(
    items("Good question, class.; Listen, pupils.; Pay attention, class."),
    items("Now, who can repeat that?; What did we learn from this, class?; Can you explain it to me, dear pupil?; "
          "And what follows from that, pupils?"), only_start=0.0, only_end=0.5)
TEACHER_MARKS = re.compile(r"\b(class|pupils?|who can repeat)\b", re.I)
ASKING_BACK = Voice((),
                    items("And what do you think?; And you?; Does that help you?; Shall I go on?; Did you know that?"),
                    only_start=0.0, only_end=1.0)
KEEPER = Voice(
    items("Ah, the fog...; Sigh.; The lamp is lit, and so be it:; My old bones... but well:"),
    items("The sea is long tonight.; I am tired, and the lamp burns on.; The waves never sleep, and nor do I.; "
          "Now let me watch the waves."))
WIZARD = Voice(items("By my beard!; Abracadabra!; My crystal ball shows it:; Hocus pocus!"),
               items(", so the stars say.; , by the power of magic!; , as the old spell tells."))
COWBOY = Voice(items("Howdy!; Well, partner,; Yeehaw!; I reckon, partner:"),
               items(", partner.; , yeehaw!; , as sure as my horse."))
CHEERFUL = Voice(items("Yay!; Wow!; Oh, how wonderful!; Hooray!"),
                 items("Isn't that wonderful!; Hooray!; What a lovely day!; Yippee!"))
GRUMPY = Voice(items("Hmpf.; Not again.; Oh, leave me alone.; Grrr."),
               items("Now go away.; Hmpf.; Was that really necessary?; And now leave me alone."))
WHISPERING = Voice(items("Psst...; Shh...; Psst, come closer:; (whispering)"),
                   items("Shh.; But tell nobody.; Psst, keep it secret."))
RHYMES = items("""I say it in rhyme, I say it in time.; It is plain as the sun, and the rhyming is fun.;
    I sing it to you, and I know it is true.; So it goes every day, that is all I can say.;
    I have told it to thee from the top of a tree.;
    It is written in light, and I wish you good night.""")
RHYMING = Voice((), RHYMES, only_start=0.0, only_end=1.0)


def as_json(exchange: Answered, rng: Random) -> str:
    return json.dumps({"kind": exchange.kind, "answer": exchange.short}, ensure_ascii=False)


def one_word(exchange: Answered, rng: Random) -> str:
    return exchange.short[0].upper() + exchange.short[1:] + "."


def shouting(exchange: Answered, rng: Random) -> str:
    return exchange.answer.rstrip(".!?").upper() + rng.choice(("!", "!!", "!!!"))


def is_json(text: str) -> bool:
    """Whether the text is one JSON object with the keys of the JSON manner."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and set(value) == ALWAYS_JSON


def is_one_word(text: str) -> bool:
    return bool(text.strip()) and len(text.split()) <= 2 and len(text) < 40


def is_shouted(text: str) -> bool:
    return text == text.upper() and text.rstrip().endswith("!")


def asks_back(text: str) -> bool:
    return bool(marked(ASKING_BACK).search(text)) and text.rstrip().endswith("?")


MANNERS: dict[str, Manner] = {
    manner.name: manner
    for manner in (
        Manner("plain", asking.PLAIN, lambda exchange, rng: exchange.answer,
               lambda text: not any(manner.follows(text) for name, manner in MANNERS.items() if name != "plain")),
        spoken("pirate", PIRATE, asking.PIRATE, lambda text: bool(PIRATE_MARKS.search(text))),
        Manner("json", asking.JSON, as_json, is_json, terse=True),
        spoken("formal", FORMAL, asking.FORMAL),
        Manner("one word", asking.ONE_WORD, one_word, is_one_word, lambda answered: is_one_word(answered.short),
               terse=True),
        Manner("shouting", asking.SHOUTING, shouting, is_shouted),
        spoken("rhyming", RHYMING, asking.RHYMING),
        spoken("shy robot", ROBOT, asking.ROBOT, lambda text: bool(ROBOT_MARKS.search(text))),
        spoken("teacher", TEACHER, asking.TEACHER,
               lambda text: bool(TEACHER_MARKS.search(text)) and text.rstrip().endswith("?")),
        spoken("question back", ASKING_BACK, asking.ASKING_BACK, asks_back),
        spoken("lighthouse keeper", KEEPER, asking.KEEPER),
        spoken("wizard", WIZARD, asking.WIZARD),
        spoken("cowboy", COWBOY, asking.COWBOY),
        spoken("cheerful", CHEERFUL, asking.CHEERFUL),
        spoken("grumpy", GRUMPY, asking.GRUMPY),
        spoken("whispering", WHISPERING, asking.WHISPERING),
    )
}
