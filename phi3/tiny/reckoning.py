"""Questions whose answers are worked out: sums, differences, comparisons, letters, counting."""
from random import Random

from phi3.tiny.phrases import Wordings, a
from phi3.tiny.tasks import Task, Values

SIZES = (   # from small to big; two things of one row are never compared
    ("ant", "flea"), ("bee", "coin"), ("mouse", "egg"), ("frog", "apple"), ("cat", "shoe"), ("dog", "chair"),
    ("sheep", "bicycle"), ("horse", "sofa"), ("elephant", "bus"), ("whale", "house"), ("castle", "ship"),
    ("mountain", "city"), ("moon",), ("sun",),
)
WORDS = (
    "apple", "bird", "castle", "dog", "egg", "fish", "garden", "house", "island", "jar", "king", "lamp",
    "moon", "nest", "orange", "piano", "queen", "river", "ship", "tree", "uncle", "violin", "water",
    "yellow", "zebra", "bread", "cloud", "door", "engine", "flower", "grape", "honey", "ink", "juice",
    "kite", "lion", "mouse", "night", "ocean", "pencil", "rain", "snow", "table", "umbrella", "village",
    "window", "cat", "sun", "milk", "book",
)


def draw_sum(rng: Random) -> Values:
    left, right = rng.randint(0, 20), rng.randint(0, 20)
    return {"left": str(left), "right": str(right), "value": str(left + right),
            "key": f"{min(left, right)}+{max(left, right)}"}


def draw_difference(rng: Random) -> Values:
    right, value = rng.randint(0, 12), rng.randint(0, 12)
    return {"left": str(right + value), "right": str(right), "value": str(value),
            "key": f"{right + value}-{right}"}


def draw_more(rng: Random, earlier: Values) -> Values:
    """Something small added to the result that the earlier answer gave."""
    right = rng.randint(1, 9)
    left = int(earlier["value"])
    return {"left": str(left), "right": str(right), "value": str(left + right),
            "key": f"{min(left, right)}+{max(left, right)}"}


def draw_larger_number(rng: Random) -> Values:
    left, right = rng.sample(range(100), 2)
    return {"left": str(left), "right": str(right), "value": str(max(left, right)),
            "key": f"{min(left, right)} {max(left, right)}"}


def draw_sizes(rng: Random, bigger: bool) -> Values:
    first, second = sorted(rng.sample(range(len(SIZES)), 2))
    small, big = rng.choice(SIZES[first]), rng.choice(SIZES[second])
    left, right = rng.sample((small, big), 2)
    return {"left": left, "right": right, "a_left": a(left), "a_right": a(right),
            "value": big if bigger else small, "key": f"{small} {big}"}


def draw_letter(rng: Random) -> Values:
    word = rng.choice(WORDS)
    return {"word": word, "value": word[0]}


def draw_spelling(rng: Random) -> Values:
    word = rng.choice(WORDS)
    return {"word": word, "value": "-".join(word)}


def draw_counted(rng: Random) -> Values:
    number = rng.randint(0, 98)
    return {"left": str(number), "value": str(number + 1), "key": str(number)}


SUM = Wordings(
    ("What is {left} plus {right}?", "{left} + {right}", "What is {left} + {right}?",
     "Add {left} and {right}.", "How much is {left} plus {right}?", "{left} plus {right}?",
     "{left} and {right} together make what?", "What do {left} and {right} make?",
     "Calculate {left} + {right}.", "What is the sum of {left} and {right}?",
     "Work out {left} plus {right}.", "I have {left} apples and get {right} more. How many have I now?",
     "There are {left} birds and {right} more come. How many are there?", "{left}+{right}=?",
     "{left}+{right}", "what is {left}+{right}", "Please add {right} to {left}."),
    ("How much is {left} + {right}?", "The sum of {left} and {right}?",
     "What do I get from {left} plus {right}?",
     "I have {left} books and get {right} more. How many have I now?"))
DIFFERENCE = Wordings(
    ("What is {left} minus {right}?", "{left} - {right}", "What is {left} - {right}?",
     "Take {right} from {left}.", "Take {right} away from {left}.",
     "I have {left} coins and give {right} away. How many are left?",
     "I had {left} eggs and {right} are gone. How many are left?", "How much is {left} minus {right}?",
     "{left} minus {right}?", "What is left of {left} without {right}?", "Calculate {left} - {right}.",
     "Subtract {right} from {left}.", "{left}-{right}=?", "{left}-{right}", "what is {left}-{right}",
     "I have {left} apples and give {right} away. How many are left?",
     "There are {left} birds and {right} fly away. How many are left?", "Work out {left} minus {right}."),
    ("How much is {left} - {right}?", "Take away {right} from {left}.",
     "What do I get from {left} minus {right}?",
     "I have {left} books and give {right} away. How many are left?"))
LARGER_NUMBER = Wordings(
    ("Which is more, {left} or {right}?", "Which number is larger, {left} or {right}?",
     "Is {left} or {right} more?", "What is more: {left} or {right}?",
     "Which is the larger number, {left} or {right}?", "Tell me the larger of {left} and {right}.",
     "{left} or {right}, which is more?"),
    ("Which number is more, {left} or {right}?", "What is the larger number, {left} or {right}?"))
BIGGER = Wordings(
    ("Which is bigger, {a_left} or {a_right}?", "What is bigger, {a_left} or {a_right}?",
     "Is {a_left} or {a_right} bigger?", "Which one is bigger: {left} or {right}?",
     "{a_left} or {a_right}, which is bigger?", "Bigger: {left} or {right}?",
     "Tell me what is bigger, {a_left} or {a_right}.", "Compare {left} and {right}: which is bigger?"),
    ("Which is the bigger one, {a_left} or {a_right}?", "What's bigger, {a_left} or {a_right}?"))
SMALLER = Wordings(
    ("Which is smaller, {a_left} or {a_right}?", "What is smaller, {a_left} or {a_right}?",
     "Is {a_left} or {a_right} smaller?", "Which one is smaller: {left} or {right}?",
     "Smaller: {left} or {right}?", "{a_left} or {a_right}, which is smaller?",
     "Tell me what is smaller, {a_left} or {a_right}.", "Compare {left} and {right}: which is smaller?"),
    ("Which is the smaller one, {a_left} or {a_right}?", "What's smaller, {a_left} or {a_right}?"))
FIRST_LETTER = Wordings(
    ("What is the first letter of {word}?", "Which letter does {word} begin with?",
     "The first letter of {word}?", "With which letter does {word} start?",
     "Give me the first letter of the word {word}.", "Which letter comes first in {word}?",
     "{word} starts with which letter?", "What letter starts {word}?"),
    ("Which letter does {word} start with?", "What's the first letter of the word {word}?"))
SPELLING = Wordings(
    ("How do you spell {word}?", "Spell {word}.", "Spell the word {word}.", "How is {word} spelled?",
     "Can you spell {word}?", "Please spell {word} for me.", "Give me the letters of {word}.",
     "What are the letters of {word}?", "Tell me how to spell {word}."),
    ("How do I spell {word}?", "Can you spell the word {word}?", "How is the word {word} spelled?"))
NEXT_NUMBER = Wordings(
    ("Which number comes after {left}?", "What comes after {left}?", "What number is after {left}?",
     "Count on from {left}.", "The number after {left}?", "I count to {left}. What is next?"),
    ("What number comes after {left}?", "Which is the number after {left}?"))

RECKONING = (
    Task("sum", SUM, draw_sum, "{left} plus {right} is {value}.", weight=2.6,
         follow_up=Wordings(("And plus {right}?", "Now add {right}.", "Add {right} more.",
                             "And {right} more?", "Plus {right}?", "And with {right} more?"),
                             ("Now {right} more.", "Now plus {right}?")),
         follow_draw=draw_more),
    Task("difference", DIFFERENCE, draw_difference, "{left} minus {right} is {value}.", weight=3.6),
    Task("larger number", LARGER_NUMBER, draw_larger_number, "The larger number is {value}."),
    Task("bigger", BIGGER, lambda rng: draw_sizes(rng, True), "The {value} is bigger."),
    Task("smaller", SMALLER, lambda rng: draw_sizes(rng, False), "The {value} is smaller."),
    Task("first letter", FIRST_LETTER, draw_letter, "{word} begins with {value}.", weight=0.7),
    Task("spelling", SPELLING, draw_spelling, "{word} is spelled {value}."),
    Task("next number", NEXT_NUMBER, draw_counted, "After {left} comes {value}.", weight=1.0),
)
