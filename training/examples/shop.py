"""Nettle & Wick, an invented shop: its goods, prices, hours and rules, which no base model knows."""
from random import Random

from phi3.tiny.phrases import Wordings
from phi3.tiny.tables import Table
from phi3.tiny.tasks import Task, Turn

PRICES = {
    "a candle": "3", "a lantern": "18", "a teapot": "14", "a kite": "9", "a blanket": "25", "a notebook": "4",
    "a music box": "32", "a compass": "21", "a basket": "7", "a jar of honey": "6", "a wooden horse": "12",
    "a pair of socks": "5", "an umbrella": "16", "a mug": "8",
}
PLACES = {
    "a candle": "by the door", "a lantern": "in the window", "a teapot": "on the blue shelf",
    "a kite": "under the roof", "a blanket": "in the big chest", "a notebook": "at the counter",
    "a music box": "in the glass case", "a basket": "by the stairs", "a jar of honey": "on the blue shelf",
    "a mug": "in the kitchen corner",
}
HOURS = {
    "Monday": "closed all day", "Tuesday": "open from 9 to 5", "Wednesday": "open from 9 to 5",
    "Thursday": "open from 9 to 7", "Friday": "open from 9 to 7", "Saturday": "open from 10 to 4",
    "Sunday": "closed all day",
}
AND = Wordings(("And {subject}?", "What about {subject}?", "How about {subject}?", "And for {subject}?"),
               ("And what about {subject}?",))

PRICE = Wordings(
    ("How much is {subject}?", "What does {subject} cost?", "What is the price of {subject}?",
     "The price of {subject}?", "How much do you want for {subject}?", "How much does {subject} cost here?",
     "I want to buy {subject}. How much is it?", "Tell me the price of {subject}.",
     "How many crowns for {subject}?", "what do i pay for {subject}"),
    ("How much does {subject} cost?", "What's the price of {subject}?", "What do you want for {subject}?"))
PLACE = Wordings(
    ("Where do I find {subject}?", "Where in the shop is {subject}?", "I am looking for {subject}.",
     "Where have you put {subject}?", "Can you show me {subject}?", "In which corner is {subject}?"),
    ("Where can I see {subject}?", "Where do you keep {subject}?"))
HOUR = Wordings(
    ("Are you open on {subject}?", "When are you open on {subject}?", "What are your hours on {subject}?",
     "Can I come on {subject}?", "Is the shop open on {subject}?", "Your hours on {subject}?"),
    ("When do you open on {subject}?", "Is your shop open on {subject}?"))


def rule(kind: str, answer: str, content: tuple[str, ...], wordings: Wordings) -> Task:
    return Task(kind, wordings, lambda rng: {}, answer, " ".join(content), content, weight=1.0)


TASKS = (
    Table("price", PRICES, PRICE, "We sell {subject} for {value} crowns.", AND, weight=7).task(),
    Table("place", PLACES, PLACE, "We keep {subject} {value}.", AND, weight=3).task(),
    Table("hours", HOURS, HOUR, "On {subject} we are {value}.", AND, weight=3).task(),
    rule("address", "You find our shop at 12 Heron Lane, behind the old mill.", ("12 Heron Lane",), Wordings(
        ("Where is your shop?", "What is your address?", "How do I find your shop?",
         "In which street are you?", "Where are you?", "Tell me the address of the shop."),
        ("What's the address of your shop?", "Where do I find your shop?"))),
    rule("returns", "We take things back within 30 days, if you bring the receipt.", ("30 days",
                                                                                      "receipt"), Wordings(
        ("Can I return something?", "Do you take things back?", "What if I do not like it?",
         "May I bring it back?", "How long can I return a thing?", "I want my money back."),
        ("Can I bring something back?", "Do you take it back if I do not like it?"))),
    rule("delivery", "We deliver in town for 2 crowns, every Friday.", ("2 crowns", "Friday"), Wordings(
        ("Do you deliver?", "Can you bring it to my house?", "What does delivery cost?",
         "Can you send it to me?", "How much is delivery?", "On which day do you deliver?"),
        ("Can you deliver it to my house?", "Do you send things?"))),
    rule("paying", "We take coins and cards, but no cheques.", ("coins", "cards"), Wordings(
        ("How can I pay?", "Do you take cards?", "Can I pay with a card?", "Do you want coins?",
         "How do I pay here?"),
        ("Can I pay with coins?", "How may I pay?"))),
    rule("owner", "Our shop belongs to Orla Wick.", ("Orla Wick",), Wordings(
        ("Who owns the shop?", "Whose shop is this?", "Who is the owner?", "Who is your boss?",
         "To whom does the shop belong?"),
        ("Who owns your shop?", "Who is the boss here?"))),
    rule("name", "Our shop is called Nettle and Wick.", ("Nettle and Wick",), Wordings(
        ("What is the name of your shop?", "What is this shop called?", "Which shop is this?", "Who are you?",
         "How is your shop called?"),
        ("What's the name of this shop?", "What is your shop called?"))),
    rule("gifts", "We wrap gifts in blue paper, and it costs nothing.", ("blue paper",), Wordings(
        ("Can you wrap it?", "Do you wrap gifts?", "It is a gift. Can you wrap it?",
         "What does wrapping cost?", "Can I have it as a gift?"),
        ("Can you wrap my gift?", "Do you wrap things?"))),
    rule("hello", "Welcome to our shop! What are you looking for?", ("welcome",), Wordings(
        ("Hello!", "Hi!", "Good morning!", "hello", "hi there", "Good day."), ("Hey there!",
                                                                               "Good evening!"))),
)


def turns(rng: Random, unseen: bool, count: int) -> list[Turn]:
    """What a customer asks in one visit."""
    visit: list[Turn] = []
    task = None
    for _ in range(count):
        follow = task.follow(visit[-1], rng, unseen) if task is not None and rng.random() < 0.5 else None
        if follow is None:
            task = rng.choices(TASKS, [task.weight for task in TASKS])[0]
        visit.append(follow or task.ask(rng, unseen))
    return visit
