"""Things to write: lists, a sentence said another way, little stories and verses."""
import zlib
from random import Random

from phi3.tiny import facts
from phi3.tiny.names import NAMES, invented_word
from phi3.tiny.outside import NOUNS
from phi3.tiny.phrases import Wordings, a, asking, capitalised, items
from phi3.tiny.tasks import Task, Values

# ---- Lists ---------------------------------------------------------------------------------------------------------

COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def plural(name: str) -> str:
    return facts.MANY.get(name, name + "s")


def enumerated(things: tuple[str, ...]) -> str:
    return ", ".join(things[:-1]) + f" and {things[-1]}"


def draw_list(rng: Random) -> Values:
    name, count = rng.choice(sorted(facts.CATEGORIES)), rng.choice(sorted(COUNTS))
    return listing(name, count, rng.random() < 0.7)


def listing(name: str, count: int, in_words: bool = True) -> Values:
    """The first `count` things of a category, always in the same order."""
    things = facts.CATEGORIES[name][:count]
    return {
        "category": name, "things": plural(name), "count": COUNTS[count] if in_words else str(count),
        "Count": COUNTS[count].capitalize(), "number": str(count), "value": enumerated(things), "first": things[0],
        "last": things[-1]
    }


def draw_one_more(rng: Random, earlier: Values) -> Values | None:
    """The next thing of the list that was given."""
    if "number" not in earlier or int(earlier["number"]) >= len(facts.CATEGORIES[earlier["category"]]):
        return None
    count = int(earlier["number"])
    thing = facts.CATEGORIES[earlier["category"]][count]
    return {"category": earlier["category"], "number": str(count + 1), "value": thing, "first": thing, "last": thing}


LIST = Wordings(
    ("Name {count} {things}.", "Give me {count} {things}.", "List {count} {things}.", "Tell me {count} {things}.",
     "I need {count} {things}.", "Can you name {count} {things}?", "Write down {count} {things}.",
     "What are {count} {things}?", "Say {count} {things}.", "Which {count} {things} do you know?",
     "A list of {count} {things}, please.", "Make a list of {count} {things}."),
    ("Could you list {count} {things}?", "Please name {count} {things}.", "Do you know {count} {things}?"))
ONE_MORE = Wordings(
    ("One more?", "And one more.", "Another one.", "Give me another.", "Do you know one more?", "Name one more.",
     "One more of them.", "Please, one more.", "And another, please.", "One more of those, please."),
    ("And another one?", "One more, please."))
FIXED_LISTS = (
    ("the days of the week", enumerated(facts.DAYS)),
    ("the months", enumerated(facts.MONTHS)),
    ("the seasons", "spring, summer, autumn and winter"),
    ("the colours of the rainbow", "red, orange, yellow, green, blue, indigo and violet"),
    ("the five senses", "seeing, hearing, smelling, tasting and feeling"),
    ("the continents", "Africa, Antarctica, Asia, Australia, Europe, North America and South America"),
)


def draw_fixed_list(rng: Random) -> Values:
    name, value = rng.choice(FIXED_LISTS)
    return {"subject": name, "value": value, "first": value.split(",")[0], "last": value.split(" and ")[-1]}


# ---- The same sentence in another way ----------------------------------------------------------------------------

VERBS = tuple(
    tuple(triple.split(" ")) for triple in items(
        """sleeps sleep slept; sings sing sang; runs run ran; waits wait waited; works work worked; eats eat ate;
        plays play played;
    sits sit sat; reads read read; dances dance danced; stands stand stood; cooks cook cooked; dreams dream dreamed;
    lives live lived; swims swim swam; laughs laugh laughed"""))
SUBJECTS = items("""the cat; the dog; the king; my friend; the teacher; the old man; the baker; the bird; my sister;
    the child;
    the farmer; my uncle; the horse; our neighbour; the sailor; the girl; the boy; the fox""")
WHERE = items("""in the garden; in the house; at the lake; on the hill; near the river; by the fire; under the tree;
    in the park;
    at school; on the roof; in the kitchen; behind the wall; by the sea; in the barn""")
ADJECTIVES = items("very old; big; small; tired; friendly; hungry; brave; quiet; rather slow; happy; lonely; clever")
ADVERBS = items("""all day long; every morning; very often; as always; for many hours; again and again; with great joy;
        on Sundays""")
COMMANDS = items("""close the door; open the window; bring me the book; wait for me; give me the key; call my brother;
    clean the table; help me; send the letter; turn off the light; come here; sit down; be quiet; show me the way;
    write it down; feed the dog; wash the cups; pass the salt; tell me the truth; carry my bag; cut the bread;
    read the text;
    pay the bill; stop the music; buy some milk; fix the lamp; move your car; answer the phone""")


def draw_sentence(rng: Random) -> Values:
    return sentence(rng.choice(VERBS), rng.choice(SUBJECTS + NAMES), rng.choice(WHERE))


def sentence(verb: tuple[str, ...], who: str, where: str) -> Values:
    now, plain, past = verb
    said = {
        "text": f"{capitalised(who)} {now} {where}.", "as_question": f"Does {who} {plain} {where}?",
        "negated": f"{capitalised(who)} does not {plain} {where}.", "past": f"{capitalised(who)} {past} {where}.",
        "future": f"{capitalised(who)} will {plain} {where}.", "last": where.split(" ")[-1]
    }
    return said | {"key": said["text"]}


def draw_long_sentence(rng: Random) -> Values:
    """A sentence with more words than it needs, and the same one without them."""
    verb, who, where = rng.choice(VERBS)[0], rng.choice(SUBJECTS[:3] + SUBJECTS[4:5] + SUBJECTS[6:8]), rng.choice(WHERE)
    first, noun = who.split(" ")
    text = f"{first.capitalize()} {rng.choice(ADJECTIVES)} {noun} {verb} {where} {rng.choice(ADVERBS)}."
    return {"text": text, "value": f"{capitalised(who)} {verb} {where}.", "last": where.split(" ")[-1], "key": text}


def draw_command(rng: Random) -> Values:
    command = rng.choice(COMMANDS)
    return {
        "text": f"{capitalised(command)}{rng.choice('.!')}", "value": f"Could you please {command}?",
        "last": command.split(" ")[-1]
    }


def rewriting(*asks: str) -> tuple[str, ...]:
    """Frames in which a text stands with what is to be done to it."""
    return tuple(frame for ask in asks for small in (ask[0].lower() + ask[1:],)
                 for frame in (f"{ask}: {{text}}", f"{ask}: {{text}}", f"{{text}} {ask}.", f"{ask}.\n{{text}}",
                               f"Please {small}: {{text}}", f"{small}: {{text}}", f"{ask}: \"{{text}}\"",
                               f"Can you {small}? {{text}}"))


def way(kind: str, answer: str, asks: tuple[str, ...], unseen: tuple[str, ...], then: tuple[str, ...],
        then_unseen: tuple[str, ...], weight: float = 0.9) -> Task:
    """One way to say a sentence anew; `then` asks for it of the sentence that was given before."""
    return Task(kind, Wordings(rewriting(*asks), rewriting(*unseen)), draw_sentence, answer, answer, ("{last}",),
                weight, its=Wordings(then, then_unseen), about="sentence")


WAYS = (
    way("as question", "{as_question}", ("Make it a question", "Turn this into a question", "Rewrite as a question",
                                         "Ask this", "Say it as a question", "As a question"),
        ("Write it as a question", "Make this a question"),
        ("Now as a question.", "And as a question?", "Make it a question."),
        ("Now make it a question.", "Then as a question?")),
    way("negated", "{negated}",
        ("Say the opposite", "Make it negative", "Negate this", "Put a not into it", "Rewrite it with not"),
        ("Make this negative", "Write it with not"), ("Now with not.", "And negated?", "Make it negative."),
        ("Now make it negative.", "Now negated.")),
    way("in the past", "{past}", ("Put it into the past", "Say it in the past", "Rewrite in the past tense",
                                  "Make it past", "As if it were yesterday"),
        ("Write it in the past tense", "Put this into the past"),
        ("Now in the past.", "And in the past?", "And yesterday?"),
        ("Now put it into the past.", "And in the past tense?")),
    way("in the future", "{future}",
        ("Put it into the future", "Say it in the future", "Rewrite in the future tense", "As if it were tomorrow"),
        ("Write it in the future tense", "Put this into the future"),
        ("Now in the future.", "And in the future?", "And tomorrow?"),
        ("Now put it into the future.", "And in the future tense?"), 0.7),
)
SHORTER = Task(
    "shorter",
    Wordings(
        rewriting("Make it shorter", "Shorten this", "Say it shorter",
                  "Rewrite it shorter", "Use fewer words", "Summarize"),
        rewriting("Write it shorter", "Make this shorter")), draw_long_sentence, "{value}", content=("{last}",),
    weight=1.2)
POLITER = Task(
    "politer",
    Wordings(
        rewriting("Make it polite", "Say it politely", "Make it more polite",
                  "Rewrite this politely", "Be politer", "Say this in a nice way"),
        rewriting("Write it politely", "Make this more polite")), draw_command, "{value}", content=("{last}",),
    weight=0.9)

# ---- Stories and verses ----------------------------------------------------------------------------------------------

HEROES = items("""fox; king; dog; cat; sailor; baker; mouse; bear; witch; robot; queen; farmer; owl; dragon; child;
    knight; wolf; frog""")
FINDS = items("""lamp; boat; bell; map; key; flute; stone; cake; star; book; ring; kite; hat; door; drum; egg;
    mirror; rope""")
STORIES = (
    "Once upon a time {a_hero} found {a_find} in the forest. Nobody knew whose it was, "
    "so the {hero} took it home and was happy.",
    "There was {a_hero} who wanted {a_find} more than anything. "
    "One day a friend brought the {find}, and they danced all night.",
    "Long ago {a_hero} lost {a_find} at the river. "
    "The {hero} looked for three days, and then a fish brought the {find} back.",
    "One winter {a_hero} gave {a_find} to a stranger. "
    "The stranger smiled, and from then on the {hero} was never alone.",
)
VERSES = (
    "The {find} is near, the {find} is far, it shines for me just like a star.",
    "I saw the {find}, I heard it sing, it was a small and lovely thing.",
    "Oh little {find}, so old, so new, I wrote this little verse for you.",
)


def always_one_of(texts: tuple[str, ...], word: str, known: tuple[str, ...]) -> str:
    """The same text for the same word, and the first one for a word that is new."""
    return texts[zlib.crc32(word.encode()) % len(texts)] if word in known else texts[0]


def tale(hero: str, find: str) -> Values:
    values = {"hero": hero, "find": find, "a_hero": a(hero), "a_find": a(find)}
    return values | {"value": always_one_of(STORIES, hero, HEROES).format(**values), "key": f"{hero} {find}"}


def draw_any(rng: Random, known: tuple[str, ...]) -> str:
    """Mostly one of the usual, else whatever a visitor may think of."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(known)
    return rng.choice([noun for noun in NOUNS if "-" not in noun]) if kind < 0.8 else invented_word(rng)


def draw_tale(rng: Random) -> Values:
    return tale(draw_any(rng, HEROES), draw_any(rng, FINDS))


def draw_own_tale(rng: Random) -> Values:
    """A story for which only the hero was asked for: each has a thing of their own."""
    hero = draw_any(rng, HEROES)
    values = tale(hero, FINDS[HEROES.index(hero)] if hero in HEROES else FINDS[0])
    values.pop("key")
    return values


def draw_verse(rng: Random) -> Values:
    find = draw_any(rng, FINDS)
    return {"find": find, "a_find": a(find), "value": always_one_of(VERSES, find, FINDS).format(find=find)}


TALE = Wordings(
    ("Tell me a story about {a_hero} and {a_find}.", "Write a story about {a_hero} and {a_find}.",
     "A story with {a_hero} and {a_find}, please.", "Make up a story about {a_hero} and {a_find}.",
     "I want a story about {a_hero} with {a_find}.", "Story: {hero}, {find}",
     "Write a little story with these words: {hero}, {find}.", "Can you tell a story about {a_hero} and {a_find}?",
     "A tale of {a_hero} and {a_find}."),
    ("Could you write a story about {a_hero} and {a_find}?", "Tell a little story with {a_hero} and {a_find}."))
OWN_TALE = Wordings(
    ("Tell me a story about {a_hero}.", "Write a story about {a_hero}.", "A story with {a_hero}, please.",
     "Make up a story about {a_hero}.", "I want a story about {a_hero}.", "Can you tell me a story about {a_hero}?",
     "Tell the tale of the {hero}."), ("Could you write a story about {a_hero}?", "Tell a little story with {a_hero}."))
VERSE = Wordings(("Write a poem about {a_find}.", "A poem about {a_find}, please.", "Make a rhyme about the {find}.",
                  "Can you write a poem about the {find}?", "Write a verse about {a_find}.",
                  "Sing me something about the {find}.", "I want a poem about the {find}."),
                 ("Could you write a poem about {a_find}?", "Give me a verse about the {find}."))

WRITING = (
    Task("list", LIST, draw_list, "{Count} {things} are {value}.", content=("{first}", "{last}"), weight=2.2,
         follow_up=ONE_MORE, follow_draw=draw_one_more, follow_answer="One more is {value}."),
    Task(
        "fixed list",
        asking(("What are {subject}?", "List {subject}.", "Which are {subject}?", "Can you list {subject}?"),
               ("Could you list {subject}?", "Please list {subject}."), noun="{subject}"), draw_fixed_list,
        "{subject} are {value}.", content=("{first}", "{last}"), weight=0.5),
    *WAYS,
    SHORTER,
    POLITER,
    Task(
        "story", TALE, draw_tale, "{value}", content=("{hero}", "{find}"), weight=1.1, follow_up=Wordings(
            ("What was the story about?", "Who was in the story?", "Who was it about?"),
            ("Who was that story about?", "What was it about?")), follow_draw=lambda rng, earlier: earlier,
        follow_answer="It was about {a_hero} and {a_find}.", follow_short="{hero} and {find}"),
    Task("own story", OWN_TALE, draw_own_tale, "{value}", content=("{hero}", "{find}"), weight=0.8),
    Task("verse", VERSE, draw_verse, "{value}", content=("{find}",), weight=0.7),
)
