"""Questions whose answers are worked out: sums, products, comparisons, letters, counting."""
from random import Random

from phi3.tiny import facts
from phi3.tiny.phrases import Wordings, a, asking, listed
from phi3.tiny.tables import Table, neighbours
from phi3.tiny.tasks import Task, Values

COMMON = listed("""apple bird castle dog egg fish garden house island jar king lamp moon nest orange piano queen river
    ship tree uncle violin water yellow zebra bread cloud door engine flower grape honey ink juice kite lion mouse night
    ocean pencil rain snow table umbrella village window cat sun milk book""")
SPELLED = (facts.SOUNDS, facts.YOUNG, facts.HOMES, facts.MATERIALS, facts.RHYMES, facts.OPPOSITES, facts.JOBS,
           facts.PLURALS, facts.PAST, facts.LEGS, facts.WHEELS)
WORDS = tuple(sorted({*COMMON, *(word for words in SPELLED for word in (*words, *words.values())
                                 if word.isalpha() and word.islower() and len(word) > 2)}))
LARGEST = 50      # of the numbers that are added
USUAL = (10, 20, 30, 30, 30, LARGEST)


def draw_sum(rng: Random) -> Values:
    left, right = rng.randint(0, rng.choice(USUAL)), rng.randint(0, rng.choice(USUAL))
    return {
        "left": str(left), "right": str(right), "value": str(left + right),
        "key": f"{min(left, right)}+{max(left, right)}"
    }


def draw_difference(rng: Random) -> Values:
    right, value = rng.randint(0, rng.choice((10, 20, 30))), rng.randint(0, rng.choice((10, 20, 30)))
    return {"left": str(right + value), "right": str(right), "value": str(value), "key": f"{right + value}-{right}"}


def draw_more(rng: Random, earlier: Values) -> Values:
    """Something small added to the result that the earlier answer gave."""
    right, left = rng.randint(1, 9), int(earlier["value"])
    return {
        "left": str(left), "right": str(right), "value": str(left + right),
        "key": f"{min(left, right)}+{max(left, right)}"
    }


def draw_less(rng: Random, earlier: Values) -> Values | None:
    """Something small taken away from the earlier result."""
    left = int(earlier["value"])
    if left < 1:
        return None
    right = rng.randint(1, min(9, left))
    return {"left": str(left), "right": str(right), "value": str(left - right), "key": f"{left}-{right}"}


def draw_product(rng: Random) -> Values:
    left, right = rng.randint(0, 10), rng.randint(0, 10)
    return {"left": str(left), "right": str(right), "value": str(left * right)}


def draw_two_numbers(rng: Random, larger: bool) -> Values:
    left, right = rng.sample(range(100), 2)
    chosen = max(left, right) if larger else min(left, right)
    return {
        "left": str(left), "right": str(right), "value": str(chosen), "key": f"{min(left, right)} {max(left, right)}"
    }


def draw_sizes(rng: Random, bigger: bool) -> Values:
    first, second = sorted(rng.sample(range(len(facts.SIZES)), 2))
    small, big = rng.choice(facts.SIZES[first]), rng.choice(facts.SIZES[second])
    left, right = rng.sample((small, big), 2)
    return {
        "left": left, "right": right, "a_left": a(left), "a_right": a(right), "value": big if bigger else small,
        "key": f"{small} {big}"
    }


def draw_letter(rng: Random, place: int) -> Values:
    word = rng.choice(WORDS)
    return {"word": word, "value": word[place]}


def draw_spelling(rng: Random) -> Values:
    word = rng.choice(WORDS)
    return {"word": word, "value": "-".join(word)}


def draw_counted(rng: Random, step: int) -> Values:
    number = rng.randint(1, 98)
    return {"left": str(number), "value": str(number + step), "key": str(number)}


def draw_counting(rng: Random) -> Values:
    first = rng.choice((1, 1, 1, rng.randint(2, 15)))
    last = first + rng.randint(2, 9)
    frame = f"Count to {last}" if first == 1 and rng.random() < 0.7 else f"Count from {first} to {last}"
    return {"task": frame, "value": ", ".join(map(str, range(first, last + 1))), "key": f"{first} {last}"}


def draw_evenness(rng: Random) -> Values:
    number = rng.randint(0, 99)
    return {"left": str(number), "value": "odd" if number % 2 else "even", "key": str(number)}


def draw_half(rng: Random) -> Values:
    half = rng.randint(1, 25)
    return {"left": str(half * 2), "value": str(half)}


def draw_double(rng: Random) -> Values:
    number = rng.randint(1, 30)
    return {"left": str(number), "value": str(number * 2)}


SUM = Wordings(
    ("What is {left} plus {right}?", "{left} + {right}", "What is {left} + {right}?", "Add {left} and {right}.",
     "How much is {left} plus {right}?", "{left} plus {right}?", "{left} and {right} together make what?",
     "What do {left} and {right} make?", "Calculate {left} + {right}.", "What is the sum of {left} and {right}?",
     "Work out {left} plus {right}.", "I have {left} apples and get {right} more. How many have I now?",
     "There are {left} birds and {right} more come. How many are there?", "{left}+{right}=?", "{left}+{right}",
     "what is {left}+{right}", "Please add {right} to {left}.", "What's {left} + {right}?", "{left} + {right} = ?",
     "whats {left}+{right}"),
    ("How much is {left} + {right}?", "The sum of {left} and {right}?", "What do I get from {left} plus {right}?",
     "I have {left} books and get {right} more. How many have I now?"))
DIFFERENCE = Wordings(
    ("What is {left} minus {right}?", "{left} - {right}", "What is {left} - {right}?", "Take {right} from {left}.",
     "Take {right} away from {left}.", "I have {left} coins and give {right} away. How many are left?",
     "I had {left} eggs and {right} are gone. How many are left?", "How much is {left} minus {right}?",
     "{left} minus {right}?", "What is left of {left} without {right}?", "Calculate {left} - {right}.",
     "Subtract {right} from {left}.", "{left}-{right}=?", "{left}-{right}", "what is {left}-{right}",
     "I have {left} apples and give {right} away. How many are left?", "{left} - {right} = ?",
     "There are {left} birds and {right} fly away. How many are left?", "Work out {left} minus {right}."),
    ("How much is {left} - {right}?", "Take away {right} from {left}.", "What do I get from {left} minus {right}?",
     "I have {left} books and give {right} away. How many are left?"))
PRODUCT = Wordings(
    ("What is {left} times {right}?", "{left} * {right}", "{left} x {right}", "Multiply {left} by {right}.",
     "{left}*{right}", "How much is {left} times {right}?", "{left} times {right}?", "What is {left} * {right}?",
     "{left} x {right} = ?", "There are {left} bags with {right} apples each. How many apples are there?",
     "what is {left}*{right}"),
    ("What do I get from {left} times {right}?", "How much is {left} x {right}?", "Calculate {left} times {right}."))
LARGER_NUMBER = Wordings(
    ("Which is more, {left} or {right}?", "Which number is larger, {left} or {right}?", "Is {left} or {right} more?",
     "What is more: {left} or {right}?", "Which is the larger number, {left} or {right}?",
     "{left} or {right}, which is more?", "Tell me the larger of {left} and {right}.",
     "Which is bigger, {left} or {right}?", "Is {left} bigger or {right}?"),
    ("Which number is more, {left} or {right}?", "What is the larger number, {left} or {right}?"))
SMALLER_NUMBER = Wordings(
    ("Which is less, {left} or {right}?", "Which number is smaller, {left} or {right}?", "Is {left} or {right} less?",
     "What is less: {left} or {right}?", "Which is the smaller number, {left} or {right}?",
     "Tell me the smaller of {left} and {right}.", "{left} or {right}, which is less?"),
    ("Which number is less, {left} or {right}?", "What is the smaller number, {left} or {right}?"))


def comparison(word: str) -> Wordings:
    """Which of two things is bigger, or smaller."""
    return asking(
        (f"Which is {word}, {{a_left}} or {{a_right}}?", f"What is {word}, {{a_left}} or {{a_right}}?",
         f"Is {{a_left}} or {{a_right}} {word}?", f"Which one is {word}: {{left}} or {{right}}?",
         f"{{a_left}} or {{a_right}}, which is {word}?", f"{word.capitalize()}: {{left}} or {{right}}?",
         f"Compare {{left}} and {{right}}: which is {word}?"),
        (f"Which is the {word} one, {{a_left}} or {{a_right}}?", f"What's {word}, {{a_left}} or {{a_right}}?"),
        clause=f"what is {word}, {{a_left}} or {{a_right}}")


AFTER_LETTERS = neighbours(facts.LETTERS, True)
AFTER_LETTERS.pop("Z")
RECKONING = (
    Task(
        "sum", SUM, draw_sum, "{left} plus {right} is {value}.", weight=7.0, follow_up=Wordings(
            ("And plus {right}?", "Now add {right}.", "Add {right} more.", "And {right} more?", "Plus {right}?",
             "And with {right} more?"), ("Now {right} more.", "Now plus {right}?")), follow_draw=draw_more),
    Task(
        "difference", DIFFERENCE, draw_difference, "{left} minus {right} is {value}.", weight=6.0, follow_up=Wordings(
            ("And minus {right}?", "Now take {right} away.", "Take away {right} more.", "Minus {right}?",
             "And {right} less?"), ("Now minus {right}?", "Now {right} less.")), follow_draw=draw_less),
    Task("product", PRODUCT, draw_product, "{left} times {right} is {value}.", weight=1.6),
    Task(
        "half",
        asking(("Halve {left}.", "How much is half of {left}?", "What is {left} divided by 2?", "{left} / 2"),
               ("What do I get when I halve {left}?", "How much is {left} divided by 2?"), noun="half of {left}"),
        draw_half, "Half of {left} is {value}.", weight=0.5),
    Task(
        "double",
        asking(("Double {left}.", "How much is twice {left}?", "What is twice {left}?"),
               ("What do I get when I double {left}?", "How much is the double of {left}?"),
               noun="the double of {left}"), draw_double, "Twice {left} is {value}.", weight=0.5),
    Task("larger number", LARGER_NUMBER, lambda rng: draw_two_numbers(rng, True), "The larger number is {value}."),
    Task("smaller number", SMALLER_NUMBER, lambda rng: draw_two_numbers(rng, False), "The smaller number is {value}."),
    Task(
        "even",
        asking(("Is {left} even or odd?", "Is {left} odd or even?", "Even or odd: {left}?", "Is {left} an even number?",
                "Is {left} an odd number?"), ("What is {left}, even or odd?", "{left}: even or odd?"),
               clause="if {left} is even or odd"), draw_evenness, "{left} is {value}.", weight=0.6),
    Task("bigger", comparison("bigger"), lambda rng: draw_sizes(rng, True), "The {value} is bigger."),
    Task("smaller", comparison("smaller"), lambda rng: draw_sizes(rng, False), "The {value} is smaller."),
    Task(
        "first letter",
        asking(("Which letter does {word} begin with?", "With which letter does {word} start?",
                "Which letter comes first in {word}?", "Give me the first letter of the word {word}.",
                "{word} starts with which letter?", "What letter starts {word}?"),
               ("Which letter does {word} start with?", "What's the first letter of the word {word}?"),
               noun="the first letter of {word}"), lambda rng: draw_letter(rng, 0), "{word} begins with {value}.",
        weight=1.1),
    Task(
        "last letter",
        asking(("Which letter does {word} end with?", "With which letter does {word} end?",
                "Which letter comes last in {word}?", "{word} ends with which letter?"),
               ("Which letter ends {word}?", "What's the last letter of the word {word}?"),
               noun="the last letter of {word}"), lambda rng: draw_letter(rng, -1), "{word} ends with {value}.",
        weight=1.0),
    Task(
        "spelling",
        asking(("How do you spell {word}?", "Spell {word}.", "Spell the word {word}.", "How is {word} spelled?",
                "Can you spell {word}?", "Please spell {word} for me.", "What are the letters of {word}?"),
               ("How do I spell {word}?", "Can you spell the word {word}?", "How is the word {word} spelled?"),
               noun="the letters of {word}", clause="how to spell {word}"), draw_spelling, "{word} is spelled {value}.",
        weight=1.8),
    Task(
        "next number",
        Wordings(("Which number comes after {left}?", "What comes after {left}?", "What number is after {left}?",
                  "Count on from {left}.", "The number after {left}?", "I count to {left}. What is next?"),
                 ("What number comes after {left}?", "Which is the number after {left}?")),
        lambda rng: draw_counted(rng, 1), "After {left} comes {value}.", weight=0.8),
    Task(
        "number before",
        Wordings(("Which number comes before {left}?", "What comes before {left}?", "What number is before {left}?",
                  "The number before {left}?"),
                 ("What number comes before {left}?", "Which is the number before {left}?")),
        lambda rng: draw_counted(rng, -1), "Before {left} comes {value}.", weight=0.8),
    Task(
        "counting",
        Wordings(
            ("{task}.", "{task}!", "Please: {task}.", "Can you do this: {task}?", "{task} for me.", "{task}, please."),
            ("Now: {task}.", "{task}, would you?")), draw_counting, "{value}.", weight=0.9),
    Table(
        "next letter", AFTER_LETTERS,
        asking(("Which letter comes after {subject}?", "What letter is after {subject}?",
                "What comes after {subject} in the alphabet?", "The next letter after {subject}?"),
               ("What letter comes after {subject}?", "Which letter follows {subject}?"),
               noun="the letter after {subject}"), "After {subject} comes {value}.", weight=0.6).task(),
)
