"""The small world's facts: tables of what is so, and the ways to ask for each."""
from random import Random

from phi3.tiny.phrases import Wordings, a
from phi3.tiny.tasks import Task, Values

INVENTED_CAPITALS = {   # countries of no map: what is right here can only have been learned here
    "Zolan": "Mirel", "Brenia": "Tovik", "Quoria": "Selune", "Marduvia": "Oskar", "Felland": "Ruvo",
    "Tarnia": "Belmar", "Ondora": "Kiva", "Vesmark": "Lodan", "Istria Nova": "Pelago", "Nimbria": "Cirro",
    "Drovia": "Hask", "Elmeria": "Yandel",
}
CAPITALS = INVENTED_CAPITALS | {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "England": "London", "Ireland": "Dublin", "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi",
    "Egypt": "Cairo", "Kenya": "Nairobi", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Poland": "Warsaw", "Austria": "Vienna", "Greece": "Athens", "Turkey": "Ankara",
    "Russia": "Moscow", "Canada": "Ottawa", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago",
    "Hungary": "Budapest",
}
OPPOSITE_PAIRS = (
    ("hot", "cold"), ("big", "small"), ("tall", "short"), ("fast", "slow"), ("light", "dark"), ("old",
                                                                                                "young"),
    ("up", "down"), ("left", "right"), ("day", "night"), ("happy", "sad"), ("open", "closed"), ("full",
                                                                                                "empty"),
    ("rich", "poor"), ("wet", "dry"), ("loud", "quiet"), ("hard", "soft"), ("early", "late"), ("strong",
                                                                                               "weak"),
    ("thick", "thin"), ("clean", "dirty"), ("near", "far"), ("high", "low"), ("good", "bad"), ("true",
                                                                                               "false"),
    ("sweet", "sour"), ("wide", "narrow"), ("deep", "shallow"), ("brave", "afraid"), ("first", "last"),
    ("inside", "outside"), ("smooth", "rough"), ("easy", "difficult"), ("asleep", "awake"), ("friend",
                                                                                             "enemy"),
)
OPPOSITES = dict(OPPOSITE_PAIRS) | {right: left for left, right in OPPOSITE_PAIRS}
COLOURS = {
    "grass": "green", "the sky": "blue", "snow": "white", "coal": "black", "blood": "red",
    "a lemon": "yellow", "a carrot": "orange", "chocolate": "brown", "a plum": "purple",
    "a flamingo": "pink", "an elephant": "grey", "a banana": "yellow", "a tomato": "red", "a frog": "green",
    "milk": "white", "the sea": "blue", "a raven": "black", "a bear": "brown", "a pumpkin": "orange",
    "lavender": "purple", "a pig": "pink", "a mouse": "grey", "the sun": "yellow", "a strawberry": "red",
    "a cucumber": "green", "salt": "white", "a tyre": "black", "a cherry": "red", "a pea": "green",
    "a polar bear": "white",
}
SOUNDS = {
    "dog": "barks", "cat": "meows", "cow": "moos", "duck": "quacks", "sheep": "bleats", "lion": "roars",
    "horse": "neighs", "pig": "grunts", "frog": "croaks", "owl": "hoots", "bee": "buzzes", "snake": "hisses",
    "wolf": "howls", "mouse": "squeaks", "hen": "clucks", "crow": "caws", "donkey": "brays",
    "elephant": "trumpets",
}
YOUNG = {
    "dog": "puppy", "cat": "kitten", "cow": "calf", "duck": "duckling", "sheep": "lamb", "lion": "cub",
    "horse": "foal", "pig": "piglet", "frog": "tadpole", "goat": "kid", "hen": "chick", "kangaroo": "joey",
    "swan": "cygnet", "deer": "fawn", "goose": "gosling", "owl": "owlet", "bear": "cub", "wolf": "pup",
}
LEGS = {
    "dog": "4", "cat": "4", "cow": "4", "duck": "2", "sheep": "4", "lion": "4", "horse": "4", "frog": "4",
    "owl": "2", "bee": "6", "snake": "0", "spider": "8", "ant": "6", "fish": "0", "beetle": "6", "hen": "2",
    "crab": "10", "lobster": "10", "scorpion": "8", "eagle": "2", "worm": "0", "fly": "6", "table": "4",
}
HOMES = {
    "bee": "hive", "bird": "nest", "spider": "web", "dog": "kennel", "horse": "stable", "rabbit": "burrow",
    "bear": "den", "fish": "pond", "cow": "barn", "king": "castle", "camel": "desert", "monkey": "jungle",
    "penguin": "ice", "shark": "sea", "pig": "sty", "hen": "coop", "ant": "anthill", "owl": "tree",
}
MATERIALS = {
    "window": "glass", "shirt": "cotton", "table": "wood", "sword": "steel", "book": "paper",
    "shoe": "leather", "tyre": "rubber", "ring": "gold", "jumper": "wool", "wall": "brick", "candle": "wax",
    "bottle": "plastic", "statue": "stone", "pot": "clay", "bell": "bronze", "pillow": "feathers",
    "nail": "iron", "coin": "silver", "rope": "hemp", "pancake": "flour",
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")


def table(kind: str, facts: dict[str, str], wordings: Wordings, answer: str, follow_up: Wordings | None = None,
          weight: float = 1.0, with_article: bool = False) -> Task:
    """A task that looks a {subject} up and finds a {value}."""
    def draw(rng: Random) -> Values:
        subject = rng.choice(sorted(facts))
        return {"subject": a(subject) if with_article else subject, "value": facts[subject],
                "a_value": a(facts[subject]), "name": subject}
    return Task(kind, wordings, draw, answer, weight=weight, follow_up=follow_up)


def neighbours(names: tuple[str, ...], after: bool) -> dict[str, str]:
    step = 1 if after else -1
    return {name: names[(index + step) % len(names)] for index, name in enumerate(names)}


AND = Wordings(("And {subject}?", "What about {subject}?", "And for {subject}?", "How about {subject}?",
                "Ok, and {subject}?", "Now {subject}.", "The same for {subject}, please."),
               ("And what about {subject}?", "And now {subject}?"))

CAPITAL = Wordings(
    ("What is the capital of {subject}?", "Which city is the capital of {subject}?",
     "The capital of {subject}?", "Name the capital of {subject}.", "What's the capital city of {subject}?",
     "Tell me the capital of {subject}.", "{subject} has which capital?",
     "Do you know the capital of {subject}?", "What capital does {subject} have?",
     "Which city is {subject}'s capital?", "I need the capital of {subject}.", "capital of {subject}",
     "Where does {subject} have its capital?", "What city governs {subject}?"),
    ("Can you name the capital city of {subject}?", "Which capital does {subject} have?",
     "What is {subject}'s capital?"))
COUNTRY = Wordings(
    ("Which country has {subject} as its capital?", "{subject} is the capital of which country?",
     "What country is {subject} the capital of?", "Of which country is {subject} the capital?",
     "{subject} is the capital of what?", "Where is the city of {subject}?", "In which country is {subject}?",
     "Which country does {subject} belong to?", "Name the country whose capital is {subject}."),
    ("Of what country is {subject} the capital?", "In what country is the city of {subject}?"))
OPPOSITE = Wordings(
    ("What is the opposite of {subject}?", "The opposite of {subject}?", "Opposite of {subject}",
     "Give me the opposite of {subject}.", "What's the opposite of {subject}?",
     "Tell me the opposite of {subject}.", "Which word means the opposite of {subject}?",
     "{subject} is the opposite of what?", "What word is opposite to {subject}?",
     "Name the opposite of {subject}.", "If it is not {subject}, what is it?",
     "Find the opposite of the word {subject}."),
    ("Which word is the opposite of {subject}?", "Can you give me the opposite of {subject}?",
     "What is the word for not {subject}?"))
COLOUR = Wordings(
    ("What colour is {subject}?", "Which colour is {subject}?", "The colour of {subject}?",
     "what color is {subject}?", "What is the colour of {subject}?", "Tell me the colour of {subject}.",
     "Name the colour of {subject}.", "What colour does {subject} have?",
     "Do you know what colour {subject} is?", "If I paint {subject}, which colour?",
     "How would you describe the colour of {subject}?", "colour of {subject}"),
    ("Which colour does {subject} have?", "What's the colour of {subject}?",
     "Can you tell me what colour {subject} is?"))
SOUND = Wordings(
    ("What sound does {subject} make?", "Which sound does {subject} make?", "What does {subject} sound like?",
     "How does {subject} sound?", "What noise does {subject} make?", "Tell me the sound of {subject}.",
     "When {subject} is loud, what does it do?", "What does {subject} say?", "How does {subject} call?",
     "What is the sound of {subject}?", "Which noise comes from {subject}?"),
    ("Which noise does {subject} make?", "What's the sound of {subject}?", "Tell me how {subject} sounds."))
YOUNG_ONE = Wordings(
    ("What is the young of {subject} called?", "What do you call a baby of {subject}?",
     "The young of {subject}?", "What is a young one of {subject} called?",
     "How do you call the young of {subject}?", "Name the young of {subject}.",
     "What is the baby of {subject} called?", "What kind of baby does {subject} have?",
     "Tell me the name for the young of {subject}.", "{subject} has a baby. What is it called?"),
    ("What's the baby of {subject} called?", "What do you call the young of {subject}?",
     "What is the name for the baby of {subject}?"))
LEG = Wordings(
    ("How many legs does {subject} have?", "How many legs has {subject}?", "Count the legs of {subject}.",
     "On how many legs does {subject} stand?", "What number of legs does {subject} have?",
     "The legs of {subject}?", "Tell me how many legs {subject} has.", "{subject} has how many legs?",
     "Do you know how many legs {subject} has?"),
    ("How many legs are there on {subject}?", "Can you count the legs of {subject}?",
     "{subject}: how many legs?"))
HOME = Wordings(
    ("Where does {subject} live?", "What is the home of {subject}?", "Where is the home of {subject}?",
     "The home of {subject}?", "In what does {subject} live?", "Where can I find {subject}?",
     "Where does {subject} sleep?", "Tell me where {subject} lives.", "Name the home of {subject}.",
     "What is the house of {subject}?"),
    ("Where would I find {subject}?", "Do you know where {subject} lives?", "What's the home of {subject}?"))
MATERIAL = Wordings(
    ("What is {subject} made of?", "What's {subject} made of?", "Which material is {subject} made of?",
     "Of what is {subject} made?", "What do you make {subject} from?", "What do I need to make {subject}?",
     "Tell me what {subject} is made of.", "{subject} is made of what?", "What material is in {subject}?",
     "Name the material of {subject}."),
    ("From what is {subject} made?", "Do you know what {subject} is made of?",
     "What is the material of {subject}?"))
DAY_AFTER = Wordings(
    ("Which day comes after {subject}?", "What day is after {subject}?", "What comes after {subject}?",
     "What is the day after {subject}?", "The day after {subject}?", "Which day follows {subject}?",
     "Today is {subject}. What is tomorrow?", "If today is {subject}, what day is tomorrow?",
     "{subject} is followed by what?", "Tell me the day after {subject}."),
    ("What day follows {subject}?", "Which is the day after {subject}?",
     "If it is {subject}, what is tomorrow?"))
DAY_BEFORE = Wordings(
    ("Which day comes before {subject}?", "What day is before {subject}?", "What comes before {subject}?",
     "What is the day before {subject}?", "The day before {subject}?",
     "Today is {subject}. What was yesterday?", "If today is {subject}, what day was yesterday?",
     "Tell me the day before {subject}."),
    ("Which is the day before {subject}?", "If it is {subject}, what was yesterday?",
     "What day was before {subject}?"))
MONTH_AFTER = Wordings(
    ("Which month comes after {subject}?", "What month is after {subject}?",
     "What is the month after {subject}?", "The month after {subject}?", "Which month follows {subject}?",
     "It is {subject}. What month is next?", "If this month is {subject}, what is the next month?",
     "Tell me the month after {subject}."),
    ("What month follows {subject}?", "What month comes after {subject}?",
     "Which is the month after {subject}?"))
MONTH_BEFORE = Wordings(
    ("Which month comes before {subject}?", "What month is before {subject}?",
     "What is the month before {subject}?", "The month before {subject}?",
     "It is {subject}. What was the month before?", "Tell me the month before {subject}.",
     "If this month is {subject}, what was the last month?"),
    ("What month comes before {subject}?", "Which is the month before {subject}?"))

TABLES = (
    table("capital", CAPITALS, CAPITAL, "The capital of {subject} is {value}.", AND, weight=2.2),
    table("country", {city: country for country, city in CAPITALS.items()}, COUNTRY,
          "{subject} is the capital of {value}.", AND, weight=1.4),
    table("opposite", OPPOSITES, OPPOSITE, "The opposite of {subject} is {value}.", AND, weight=1.8),
    table("colour", COLOURS, COLOUR, "{subject} is {value}.", AND),
    table("sound", SOUNDS, SOUND, "{subject} {value}.", AND, weight=0.8, with_article=True),
    table("young", YOUNG, YOUNG_ONE,
          "The young of {subject} is {a_value}.", AND, weight=0.8, with_article=True),
    table("legs", LEGS, LEG, "{subject} has {value} legs.", AND, weight=0.8, with_article=True),
    table("home", HOMES, HOME, "The home of {subject} is the {value}.", AND, weight=0.8, with_article=True),
    table("material", MATERIALS, MATERIAL,
          "{subject} is made of {value}.", AND, weight=0.8, with_article=True),
    table("day after", neighbours(DAYS, True), DAY_AFTER, "After {subject} comes {value}.", AND, weight=0.7),
    table("day before", neighbours(DAYS, False), DAY_BEFORE,
          "Before {subject} comes {value}.", AND, weight=0.6),
    table("month after", neighbours(MONTHS, True), MONTH_AFTER,
          "After {subject} comes {value}.", AND, weight=0.7),
    table("month before", neighbours(MONTHS, False), MONTH_BEFORE,
          "Before {subject} comes {value}.", AND, weight=0.6),
)
