"""A few sentences to read, questions about them, and fields to take out of them."""
from dataclasses import dataclass
from random import Random

from phi3.tiny import facts
from phi3.tiny.names import draw_any_name
from phi3.tiny.phrases import Wordings, items
from phi3.tiny.tasks import Task, Values

THINGS = items(
    """ball; kite; boat; hat; lamp; drum; bicycle; coat; cup; book; map; bell; rope; chair; key; box; basket; flute""")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "purple", "orange", "grey")
CITIES = tuple(sorted(facts.CAPITALS.values()))
FOODS = items(
    """apples; bread; cheese; soup; honey; fish; cake; plums; rice; eggs; nuts; cherries; beans; pancakes; grapes""")
JOBS = tuple(sorted(facts.JOBS))
PLACES = items("market; school; lake; forest; castle; park; beach; library; mill; harbour; church; hill")
SPOTS = items("""on the table; under the bed; in the box; behind the door; in the garden; on the roof; by the window;
        in the bag""")
NOT_SAID = "The text does not say that."


@dataclass(frozen=True)
class Told:
    """A kind of sentence about somebody: how it is told, asked and answered. {n} is the name, {v} the value."""

    sentence: str
    questions: tuple[str, ...]
    unseen: tuple[str, ...]
    values: tuple[str, ...]
    short: str = "{v}"
    whose: tuple[str, ...] = ()  # questions for the name


TOLD = (
    Told("{n} lives in {v}.",
         ("Where does {n} live?", "Say where {n} lives.", "Which city is the home of {n}?",
          "In which city does {n} live?", "What city does {n} live in?", "In which city is {n} at home?",
          "Do you know where {n} lives?", "I want to know where {n} lives."),
         ("Which city does {n} live in?", "In what city does {n} live?"), CITIES, whose=("Who lives in {v}?",)),
    Told("{n} likes {v}.", ("What does {n} like?", "Say what {n} likes.", "Which food does {n} like to eat?",
                            "Which food does {n} like?", "What is liked by {n}?", "What kind of food does {n} like?",
                            "Do you know what {n} likes?", "Please tell what {n} likes."),
         ("What food does {n} like?", "Tell me what {n} likes."), FOODS, whose=("Who likes {v}?",)),
    Told("{n} is {v} years old.",
         ("How old is {n}?", "Say how old {n} is.", "How many years has {n}?", "What age is {n}?",
          "How many years old is {n}?", "{n}'s age?", "Do you know how old {n} is?", "Please tell how old {n} is."),
         ("What is the age of {n}?", "Tell me how old {n} is."),
         tuple(str(age) for age in range(5, 90)), whose=("Who is {v} years old?",)),
    Told("{n} is a {v}.",
         ("What is the job of {n}?", "Say what {n} does.", "Which job has {n}?", "What is the work of {n}?",
          "What does {n} work as?", "Which job does {n} have?", "What kind of job does {n} have?", "{n}'s job?",
          "Which is {n}'s job?"), ("What job does {n} have?", "What is {n}'s job?"),
         tuple(job for job in JOBS if job[0] not in "aeiou"), whose=("Who is a {v}?",)),
    Told("{n} went to the {v}.", ("Where did {n} go?", "Say where {n} went.", "To what place did {n} go?",
                                  "Which place did {n} go to?", "To which place did {n} go?", "Where has {n} gone?",
                                  "What place has {n} gone to?", "Please tell where {n} went."),
         ("What place did {n} go to?", "Tell me where {n} went."), PLACES, whose=("Who went to the {v}?",)),
    Told("{n} has a {v}.", ("What does {n} have?", "Which thing does {n} have?", "Say what {n} has.",
                            "What is owned by {n}?", "What thing has {n}?", "What belongs to {n}?",
                            "What things does {n} own?", "Which thing does {n} own?", "Please tell what {n} has.",
                            "I ask what {n} has.",
                            "Do you know what {n} owns?", "What may {n} own?"),
         ("What does {n} own?", "Tell me what {n} has."),
         tuple(f"{colour} {thing}" for colour in COLOURS if colour != "orange"
               for thing in THINGS), whose=("Who has the {v}?", "Whose is the {v}?", "Who has a {v}?")),
    Told("{n} comes on {v}.", ("When does {n} come?", "Say when {n} comes.", "Which day does {n} come on?",
                               "On which day does {n} come?", "What day does {n} come?", "Please tell when {n} comes.",
                               "Do you know when {n} comes?", "On what day will {n} come?"),
         ("On what day does {n} come?", "Tell me when {n} comes."), facts.DAYS, whose=("Who comes on {v}?",)),
    Told("The key of {n} is {v}.", ("Where is the key of {n}?", "Say where the key of {n} is.", "{n}'s key is where?",
                                    "Where can I find the key of {n}?", "Where does {n} have the key?"),
         ("Where is {n}'s key?", "In which place is the key of {n}?"), SPOTS),
)
PASSAGE = Wordings(
    ("{text} {question}", "Read this: {text} {question}", "{text} Question: {question}", "{text}\n{question}",
     "Here is a text: {text} {question}", "Please read: {text} Now tell me: {question}",
     "Text: {text}\nQuestion: {question}", "{question} {text}", "I tell you something. {text} {question}",
     "Read: {text} {question}", "A story: {text} {question}", "Read the story: {text} {question}",
     "The text: {text} {question}", "Read this text. {text} {question}", "{text} I ask: {question}",
     "{text} Here is my question: {question}", "{text} One question: {question}", "Listen: {text} {question}"),
    ("Read the text: {text} {question}", "{text} My question: {question}", "Story: {text} {question}"))


def draw_passage(rng: Random) -> Values:
    """Two to four sentences about two or three people, no value twice, and a question about one of them."""
    people = [draw_any_name(rng) for _ in range(rng.choice((1, 2, 2, 3)))]
    told: dict[str, tuple[int, str, str]] = {}
    for _ in range(rng.randint(2, 4)):
        index, name = rng.randrange(len(TOLD)), rng.choice(people)
        value = rng.choice(TOLD[index].values)
        if f"{index} {name}" not in told and value not in [old for _, _, old in told.values()]:
            told[f"{index} {name}"] = (index, name, value)
    text = " ".join(TOLD[index].sentence.format(n=name, v=value) for index, name, value in told.values())
    packed = ";".join(f"{index},{name},{value}" for index, name, value in told.values())
    return asked_about(rng, {"text": text, "told": packed, "people": ",".join(people)})


def asked_about(rng: Random, values: Values) -> Values:
    """The same text with a new question, its answer, and now and then one that the text does not answer."""
    told = [tuple(part.split(",")) for part in values["told"].split(";")]
    if rng.random() < 0.2:
        missing = [(index, name)
                   for index in range(len(TOLD))
                   for name in values["people"].split(",")
                   if (str(index), name) not in {(at, who)
                                                 for at, who, _ in told}]
        index, name = rng.choice(missing)
        return values | {
            "seen_q": rng.choice(TOLD[index].questions).format(n=name), "unseen_q": rng.choice(
                TOLD[index].unseen).format(n=name), "answer": NOT_SAID, "value": "Not said", "content": "not say",
            "key": f"{values['text']} {name} {index}"
        }
    at, name, value = rng.choice(told)
    kind = TOLD[int(at)]
    is_about_name = bool(kind.whose) and rng.random() < 0.35
    question = rng.choice(kind.whose) if is_about_name else ""
    answer = kind.sentence.format(n=name, v=value)
    if "has a" in kind.sentence and is_about_name:
        answer = f"{name} has the {value}."
    wanted = name if is_about_name else kind.short.format(v=value)
    return values | {
        "seen_q": (question or rng.choice(kind.questions)).format(
            n=name, v=value), "unseen_q": (question or rng.choice(kind.unseen)).format(n=name, v=value),
        "answer": answer, "value": wanted, "content": wanted, "key": f"{values['text']} {at} {name}"
    }


def side(values: Values, unseen: bool) -> Values:
    return values | {"question": values["unseen_q" if unseen else "seen_q"]}


@dataclass(frozen=True)
class Reading(Task):
    """A task whose question inside the text has a wording of its own for each side of the partition."""

    def values_for(self, draw, unseen):
        values = super().values_for(draw, unseen)
        return side(values, unseen) if values else None


# ---- Fields ----------------------------------------------------------------------------------------------------------

ABOUT_PEOPLE = ("{name} is {age} years old and lives in {city}.", "I am {name} from {city}, and I am {age}.",
                "{name}, {age}, {city}.", "My name is {name}, I am {age} years old and I live in {city}.",
                "In {city} lives {name}, who is {age}.", "This is {name}. Age {age}. Home: {city}.")
ABOUT_ORDERS = ("{name} wants {count} {thing}s on {day}.", "Please send {count} {thing}s to {name} on {day}.",
                "On {day} {name} bought {count} {thing}s.", "Order of {name}: {count} {thing}s, for {day}.",
                "{count} {thing}s for {name}, please, on {day}.")
TAKE_OUT = Wordings(
    ("Extract {fields}: {text}", "Take out {fields}: {text}", "{text} Take out {fields}.", "{text} Give me {fields}.",
     "{text} Find out {fields}.", "In this text, find {fields}: {text}", "Find {fields} in this text: {text}",
     "{text} Extract {fields}.", "Give me {fields} from this: {text}", "What are {fields} here? {text}",
     "Get {fields} from: {text}", "Please extract {fields} from the text: {text}"),
    ("Extract {fields} from this text: {text}", "{text} Find {fields}.", "From this text, take {fields}: {text}"))


def draw_fields(rng: Random) -> Values:
    is_order = rng.random() < 0.5
    values = {
        "name": draw_any_name(rng), "age": str(rng.randint(5, 89)), "city": rng.choice(CITIES), "count": str(
            rng.randint(2, 40)), "thing": rng.choice([thing for thing in THINGS if thing[-1] != "x"]),
        "day": rng.choice(facts.DAYS)
    }
    names = ["name", "count", "thing", "day"] if is_order else ["name", "age", "city"]
    wanted = rng.sample(names, rng.randint(2, len(names)))
    text = rng.choice(ABOUT_ORDERS if is_order else ABOUT_PEOPLE).format(**values)
    spoken = ", ".join(f"the {name}" for name in wanted[:-1]) + f" and the {wanted[-1]}"
    if rng.random() < 0.4:
        spoken = ", ".join(wanted[:-1]) + f" and {wanted[-1]}"
    return {
        "text": text, "fields": spoken, "answer": " ".join(f"{name.capitalize()}: {values[name]}." for name in wanted),
        "value": ", ".join(
            values[name] for name in wanted), "first": values[wanted[0]], "last": values[wanted[-1]], "key": text
    }


READING = (
    Reading(
        "reading", PASSAGE, draw_passage, "{answer}", content=("{content}",), weight=12.0,
        follow_up=Wordings(("{question}", "And now: {question}", "{question}", "Next: {question}",
                            "One more question: {question}", "Another one: {question}", "Also: {question}",
                            "Good. {question}", "One thing more: {question}"),
                           ("{question}", "One more: {question}")), follow_draw=asked_about),
    Task("fields", TAKE_OUT, draw_fields, "{answer}", content=("{first}", "{last}"), weight=2.2),
)
