"""Questions about facts: each looks a subject up, in many wordings, and can be asked again with "it"."""
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from phi3.tiny import facts
from phi3.tiny.phrases import Wordings, a, asking
from phi3.tiny.tasks import Task, Values

AND = Wordings(
    ("And {subject}?", "What about {subject}?", "And for {subject}?", "How about {subject}?", "Ok, and {subject}?",
     "Now {subject}.", "The same for {subject}, please.", "and {subject}", "Then {subject}?", "Also {subject}?",
     "And then {subject}?", "And now for {subject}?", "Now, {subject}?", "And {subject} now?", "And next {subject}?",
     "And also {subject}?", "And how about {subject}?", "Now what about {subject}?", "Next: {subject}.",
     "Ok, what about {subject}?", "So {subject}?", "And what is it for {subject}?", "Now {subject}?",
     "What of {subject}?"), ("And what about {subject}?", "And now {subject}?"))


@dataclass(frozen=True)
class Table:
    """Facts in which a {subject} is looked up and a {value} found; `its` asks about the subject as "it", which is
    understood of what an earlier turn was `about`.
    """

    kind: str
    known: Mapping[str, str]
    wordings: Wordings
    answer: str
    follow_up: Wordings | None = AND
    weight: float = 0.7
    with_article: bool = False
    its: Wordings | None = None
    about: str = ""

    def task(self) -> Task:
        """The task that asks for it."""
        return Task(self.kind, self.wordings, self.draw, self.answer, weight=self.weight, follow_up=self.follow_up,
                    its=self.its, about=self.about, of=lambda name: self.values(name) if name in self.known else None)

    def draw(self, rng: Random) -> Values:
        """Some subject."""
        return self.values(rng.choice(sorted(self.known)))

    def values(self, name: str) -> Values:
        """What the texts' places say of this subject."""
        subject = a(name) if self.with_article else name
        return {
            "subject": subject, "value": self.known[name], "a_value": a(self.known[name]), "name": name,
            "Subject": name if subject.startswith("the ") else subject
        }


def neighbours(names: tuple[str, ...], after: bool) -> dict[str, str]:
    """Each name's next one, or the one before it."""
    step = 1 if after else -1
    return {name: names[(index + step) % len(names)] for index, name in enumerate(names)}


COUNTRIES = (
    Table(
        "capital", facts.CAPITALS,
        asking(
            ("Which city is the capital of {subject}?", "What's the capital city of {subject}?",
             "{subject} has which capital?", "What capital does {subject} have?", "Which city is {subject}'s capital?",
             "capital of {subject}", "Where does {subject} have its capital?", "What city governs {subject}?"),
            ("Can you name the capital city of {subject}?", "Which capital does {subject} have?",
             "What is {subject}'s capital?"), noun="the capital of {subject}"), "The capital of {subject} is {value}.",
        weight=2.2, about="country", its=Wordings(
            ("What is its capital?", "And its capital?", "Which city is its capital?", "What's the capital there?"),
            ("And what is its capital?", "Which capital does it have?"))),
    Table(
        "country", {city: country
                    for country, city in facts.CAPITALS.items()},
        asking(("Which country has {subject} as its capital?", "{subject} is the capital of which country?",
                "What country is {subject} the capital of?", "Of which country is {subject} the capital?",
                "{subject} is the capital of what?", "Where is the city of {subject}?",
                "In which country is {subject}?", "Which country does {subject} belong to?", "Where is {subject}?"),
               ("Of what country is {subject} the capital?", "In what country is the city of {subject}?"),
               noun="the country whose capital is {subject}"), "{subject} is the capital of {value}.", weight=1.4),
    Table(
        "continent", facts.CONTINENTS,
        asking(("On which continent is {subject}?", "What continent is {subject} in?",
                "Which continent does {subject} belong to?", "{subject} is on which continent?",
                "In which part of the world is {subject}?"),
               ("On what continent is {subject}?", "Which continent is {subject} in?"),
               noun="the continent of {subject}"), "{subject} is in {value}.", about="country",
        its=Wordings(("Which continent is it in?", "On which continent is it?", "And its continent?"),
                     ("On what continent is it?", "What continent is it in?"))),
    Table(
        "language", facts.LANGUAGES,
        asking(("What language do they speak in {subject}?", "Which language is spoken in {subject}?",
                "What do people speak in {subject}?", "Which language do people in {subject} speak?",
                "I travel to {subject}. What language do they speak?"),
               ("What is spoken in {subject}?", "Which language do they speak in {subject}?"),
               noun="the language of {subject}"), "People in {subject} speak {value}.", about="country",
        its=Wordings(
            ("What language do they speak there?", "And which language is spoken there?", "What is its language?"),
            ("Which language do they speak there?", "What is spoken there?"))),
    Table(
        "money", facts.MONEY,
        asking(("What money do they use in {subject}?", "How do people pay in {subject}?",
                "Which money is used in {subject}?", "With what do I pay in {subject}?",
                "What currency does {subject} have?"),
               ("Which currency does {subject} use?", "What do people pay with in {subject}?"),
               noun="the currency of {subject}"), "People in {subject} pay with {value}.", about="country",
        its=Wordings(("How do they pay there?", "What money do they use there?", "And its currency?"),
                     ("What do people pay with there?", "Which currency does it use?"))),
    Table(
        "river", facts.RIVERS,
        asking(("Which river flows through {subject}?", "What river is in {subject}?",
                "Which river does {subject} have?", "Name a river in {subject}.", "Do you know a river in {subject}?"),
               ("What river flows through {subject}?", "Which is the river of {subject}?"),
               noun="the river of {subject}"), "The river of {subject} is {value}.", weight=0.5),
)
ANIMALS = (
    Table(
        "sound", facts.SOUNDS,
        asking(("Which sound does {subject} make?", "What sound does {subject} make?",
                "What does {subject} sound like?", "How does {subject} sound?", "What noise does {subject} make?",
                "When {subject} is loud, what does it do?", "What does {subject} say?", "How does {subject} call?",
                "Which noise comes from {subject}?", "Say how {subject} sounds.", "Do you know how {subject} sounds?"),
               ("Which noise does {subject} make?", "Tell me how {subject} sounds."), noun="the sound of {subject}"),
        "{subject} {value}.", with_article=True, about="animal", its=Wordings(
            ("What sound does it make?", "And what noise does it make?", "How does it sound?"),
            ("Which sound does it make?", "And how does it sound?"))),
    Table(
        "young", facts.YOUNG,
        asking(("What is the young of {subject} called?", "What do you call a baby of {subject}?",
                "What is a young one of {subject} called?", "How do you call the young of {subject}?",
                "What is the baby of {subject} called?", "What kind of baby does {subject} have?",
                "{subject} has a baby. What is it called?"),
               ("What's the baby of {subject} called?", "What do you call the young of {subject}?"),
               noun="the young of {subject}"), "The young of {subject} is {a_value}.", with_article=True,
        about="animal", its=Wordings(("What is its young called?", "And its baby?", "What do you call its young?"),
                                     ("What is its baby called?", "And what is its young?"))),
    Table(
        "legs", facts.LEGS,
        asking(("How many legs does {subject} have?", "How many legs has {subject}?", "How many legs are on {subject}?",
                "How many legs are there for {subject}?", "Count the legs of {subject}.",
                "On how many legs does {subject} stand?", "What number of legs does {subject} have?",
                "{subject} has how many legs?"), ("How many legs are there on {subject}?", "{subject}: how many legs?"),
               clause="how many legs {subject} has"), "{subject} has {value} legs.", with_article=True, about="animal",
        its=Wordings(("How many legs does it have?", "And how many legs?", "How many legs has it?"),
                     ("And how many legs does it have?", "On how many legs does it stand?"))),
    Table(
        "home", facts.HOMES,
        asking(("Where does {subject} live?", "In what does {subject} live?", "Where can I find {subject}?",
                "Where does {subject} sleep?", "What is the house of {subject}?"),
               ("Where would I find {subject}?", "Do you know {subject}'s home?"), noun="the home of {subject}",
               clause="where {subject} lives"), "The home of {subject} is the {value}.", with_article=True,
        about="animal", its=Wordings(("Where does it live?", "And where does it live?", "What is its home?"),
                                     ("Where is its home?", "And its home?"))),
    Table(
        "food", facts.FOOD,
        asking(("What does {subject} eat?", "What do I feed {subject}?", "Which food does {subject} like?",
                "What can I give {subject} to eat?", "{subject} eats what?", "What does {subject} like to eat?"),
               ("What food does {subject} eat?", "What should {subject} eat?"), noun="the food of {subject}",
               clause="what {subject} eats"), "{subject} eats {value}.", with_article=True, about="animal",
        its=Wordings(("What does it eat?", "And what does it eat?", "What do I feed it?"),
                     ("What does it like to eat?", "And its food?"))),
)
THINGS = (
    Table(
        "colour", facts.COLOURS,
        asking(("What colour is {subject}?", "Which colour is {subject}?", "what color is {subject}?",
                "What colour does {subject} have?", "If I paint {subject}, which colour?",
                "How would you describe the colour of {subject}?", "colour of {subject}",
                "What is the color of {subject}?"),
               ("Which colour does {subject} have?", "What color does {subject} have?"), noun="the colour of {subject}",
               clause="what colour {subject} is"), "{subject} is {value}.", weight=1.0),
    Table(
        "material", facts.MATERIALS,
        asking(("What is {subject} made of?", "What's {subject} made of?", "Which material is {subject} made of?",
                "Of what is {subject} made?", "What do you make {subject} from?", "What do I need to make {subject}?",
                "{subject} is made of what?", "What material is in {subject}?"),
               ("From what is {subject} made?", "Do you know the material of {subject}?"),
               clause="what {subject} is made of"), "{subject} is made of {value}.", with_article=True),
    Table(
        "use", facts.USES,
        asking(("What is {subject} for?", "What do I do with {subject}?", "What can I use {subject} for?",
                "Why do people have {subject}?", "For what do we use {subject}?", "What's the use of {subject}?"),
               ("What is {subject} used for?", "What do people do with {subject}?"), clause="what {subject} is for"),
        "{subject} is for {value}."),
    Table(
        "job", facts.JOBS,
        asking(("What does {subject} do?", "What is the work of {subject}?", "How does {subject} earn money?",
                "What does {subject} do all day?", "What is {subject}'s job?"),
               ("What work does {subject} do?", "What's the job of {subject}?"), clause="what {subject} does"),
        "{subject} {value}.", with_article=True),
    Table(
        "taste", facts.TASTES,
        asking(("How does {subject} taste?", "What does {subject} taste like?",
                "Is {subject} sweet, sour, salty or bitter?", "What taste has {subject}?"),
               ("What taste does {subject} have?", "What's the taste of {subject}?"), clause="how {subject} tastes"),
        "{subject} tastes {value}.", weight=0.5),
    Table(
        "shape", facts.SHAPES,
        asking(("What shape is {subject}?", "Which shape does {subject} have?", "What form has {subject}?",
                "Is {subject} round or square?"), ("What shape does {subject} have?", "Which shape is {subject}?"),
               noun="the shape of {subject}"), "{subject} is {value}.", weight=0.5),
    Table(
        "warmth", facts.WARMTH,
        asking(("Is {subject} hot or cold?", "Is {subject} cold or hot?", "How warm is {subject}?",
                "Would I call {subject} hot or cold?", "Hot or cold: {subject}?"),
               ("How hot is {subject}?", "Does {subject} feel hot or cold?"), clause="if {subject} is hot or cold"),
        "{subject} is {value}.", weight=0.5),
    Table(
        "wheels", facts.WHEELS,
        asking(("How many wheels does {subject} have?", "How many wheels has {subject}?",
                "Count the wheels of {subject}.", "On how many wheels does {subject} roll?"),
               ("How many wheels are on {subject}?", "What number of wheels does {subject} have?"),
               clause="how many wheels {subject} has"), "{subject} has {value} wheels.", weight=0.4, with_article=True),
    Table(
        "count", facts.COUNTS,
        asking(("How many {subject}?", "Number of {subject}?", "How many {subject} are there?", "Count the {subject}."),
               ("How many are the {subject}?", "What number of {subject} are there?"), noun="the number of {subject}"),
        "There are {value} {subject}.", weight=0.9),
    Table(
        "record", facts.RECORDS,
        asking(("Which is the {subject}?", "Who is the {subject}?", "What do we call the {subject}?", "{subject}?"),
               ("Which one is the {subject}?", "What might the {subject} be?"), noun="the {subject}"),
        "The {subject} is {value}.", weight=0.8),
)
TIME = (
    Table(
        "day after", neighbours(facts.DAYS, True),
        asking(("Which day comes after {subject}?", "What day is after {subject}?", "What comes after {subject}?",
                "Which day follows {subject}?", "Today is {subject}. What is tomorrow?",
                "If today is {subject}, what day is tomorrow?", "{subject} is followed by what?"),
               ("What day follows {subject}?", "If it is {subject}, what is tomorrow?"),
               noun="the day after {subject}"), "After {subject} comes {value}."),
    Table(
        "day before", neighbours(facts.DAYS, False),
        asking(("Which day comes before {subject}?", "What day is before {subject}?", "What comes before {subject}?",
                "Today is {subject}. What was yesterday?", "If today is {subject}, what day was yesterday?"),
               ("If it is {subject}, what was yesterday?", "What day was before {subject}?"),
               noun="the day before {subject}"), "Before {subject} comes {value}.", weight=0.6),
    Table(
        "month after", neighbours(facts.MONTHS, True),
        asking(
            ("Which month comes after {subject}?", "What month is after {subject}?", "Which month follows {subject}?",
             "It is {subject}. What month is next?", "If this month is {subject}, what is the next month?"),
            ("What month follows {subject}?", "What month comes after {subject}?"), noun="the month after {subject}"),
        "After {subject} comes {value}."),
    Table(
        "month before", neighbours(facts.MONTHS, False),
        asking(("Which month comes before {subject}?", "What month is before {subject}?",
                "It is {subject}. What was the month before?", "If this month is {subject}, what was the last month?"),
               ("What month comes before {subject}?", "Which was the month before {subject}?"),
               noun="the month before {subject}"), "Before {subject} comes {value}.", weight=0.6),
    Table(
        "season", facts.SEASONS,
        asking(("Which season is it in {subject}?", "What season does {subject} belong to?",
                "Is {subject} in summer or winter?", "{subject} is in which season?",
                "It is {subject}. Which season is that?"),
               ("In which season is {subject}?", "What season is it in {subject}?"), noun="the season of {subject}"),
        "{subject} is in {value}.", weight=0.5),
    Table(
        "month's days", facts.MONTH_DAYS,
        asking(("How many days does {subject} have?", "How many days has {subject}?", "How long is {subject}?",
                "Count the days of {subject}."),
               ("How many days are in {subject}?", "What number of days does {subject} have?"),
               clause="how many days {subject} has"), "{subject} has {value} days.", weight=0.5),
    Table(
        "feast", facts.FEASTS,
        asking(("When is {subject}?", "In which month is {subject}?", "Which month has {subject}?",
                "When do people celebrate {subject}?"), ("In what month is {subject}?", "When do we have {subject}?"),
               noun="the month of {subject}"), "{subject} is in {value}.", weight=0.5),
)
WORDS = (
    Table(
        "opposite", facts.OPPOSITES,
        asking(("Opposite of {subject}", "Which word means the opposite of {subject}?",
                "{subject} is the opposite of what?", "What word is opposite to {subject}?",
                "If it is not {subject}, what is it?", "Find the opposite of the word {subject}."),
               ("Which word is the opposite of {subject}?", "What is the word for not {subject}?"),
               noun="the opposite of {subject}"), "The opposite of {subject} is {value}.", weight=1.8),
    Table(
        "number word", facts.NUMBER_WORDS,
        asking(("How do you write {subject} in words?", "Write {subject} in words.", "{subject} in words?",
                "Write the number {subject} as a word.", "How is {subject} written in letters?"),
               ("How do I write {subject} in words?", "Which word is the number {subject}?"),
               noun="the word for the number {subject}"), "{subject} in words is {value}.", weight=0.6),
    Table(
        "word's number", {word: number
                          for number, word in facts.NUMBER_WORDS.items()},
        asking(("Write {subject} in digits.", "Which number is {subject}?", "{subject} in digits?",
                "What number is {subject}?", "Write {subject} as a number."),
               ("How do I write {subject} in digits?", "What are the digits of {subject}?"),
               noun="{subject} as a number"), "{subject} as a number is {value}.", weight=0.6),
    Table(
        "plural", facts.PLURALS,
        asking(("What do you call more than one {subject}?", "One {subject}, two what?", "Plural of {subject}",
                "How do you say {subject} for many?", "I have one {subject}. You have two of what?"),
               ("What are two of {subject} called?", "Make {subject} plural."), noun="the plural of {subject}"),
        "The plural of {subject} is {value}."),
    Table(
        "past", facts.PAST,
        asking(("Today I {subject}, yesterday I what?", "Past tense of {subject}", "Put {subject} into the past.",
                "How do you say {subject} in the past?", "What was {subject} yesterday?"),
               ("How do I say {subject} in the past tense?", "Today they {subject}, yesterday they what?"),
               noun="the past of {subject}"), "The past of {subject} is {value}."),
    Table(
        "rhyme", facts.RHYMES,
        asking(("What rhymes with {subject}?", "Which word rhymes with {subject}?", "Give me a rhyme for {subject}.",
                "Find a rhyme for {subject}.", "A rhyme for {subject}?", "I need a word that rhymes with {subject}."),
               ("Name a word that rhymes with {subject}.", "Do you have a rhyme for {subject}?")),
        "{subject} rhymes with {value}."),
    *(Table(
        language.lower(), words,
        asking((f"What is {{subject}} in {language}?", f"How do you say {{subject}} in {language}?",
                f"Translate {{subject}} into {language}.", f"{{subject}} in {language}?",
                f"The {language} word for {{subject}}?", f"Say {{subject}} in {language}.",
                f"How do I say {{subject}} in {language}?", f"Translate to {language}: {{subject}}",
                f"The {language} for {{subject}}?", f"What's the {language} word for {{subject}}?",
                f"What is {language} for {{subject}}?", f"I need the {language} for {{subject}}."),
               (f"What is the {language} for {{subject}}?", f"How would you say {{subject}} in {language}?")),
        f"In {language}, {{subject}} is {{value}}.", weight=0.7)
      for language, words in (("French", facts.FRENCH), ("Spanish", facts.SPANISH), ("German", facts.GERMAN))),
)


def kinds() -> dict[str, str]:
    """Each thing's category, where it has only one."""
    named = [(thing, name) for name, things in facts.CATEGORIES.items() for thing in things]
    return {thing: name
            for thing, name in named
            if name != "animal"} | dict.fromkeys(facts.CATEGORIES["animal"], "animal")


KIND = Table(
    "category", kinds(),
    Wordings(("What kind of thing is {subject}?", "What is {subject}?", "What kind is {subject}?",
              "What sort of thing is {subject}?", "To which group does {subject} belong?", "Say what {subject} is.",
              "Do you know what {subject} is?"),
             ("What sort is {subject}?", "Can you say what {subject} is?", "What type of thing is {subject}?")),
    "{subject} is {a_value}.", weight=1.4)


TABLES = tuple(one.task() for one in (*COUNTRIES, *ANIMALS, *THINGS, *TIME, *WORDS, KIND))
