"""Small talk, what the model says of itself, and the questions that it cannot answer."""
from random import Random

from phi3.tiny.phrases import Wordings, listed
from phi3.tiny.tasks import Task, Values

NAMES = listed("""
Anna Tom Mia Ben Lena Max Ida Paul Nora Leo Emma Finn Sara Omar Yuki Ravi Olga Hugo Zoe Karl
Alex Maria David Laura Peter Julia Simon Clara Felix Grace Henry Ines Jack Kate Liam Maya Noah
Petra Quinn Rosa Sam Tina Ugo Vera Walter Xenia Yara Zack Amir Bella Chen Dora Elias Farah
George Hana Ivan Jonas Kira Lucas Marta Nils Otto Pia Robin Sofia Theo Uma Victor Wanda Ali Bob
Carol Dan Eva Fred Gina Harry Irene Jane
""")
THINGS = ("the telephone", "the radio", "gold", "the train", "the theatre", "my keys", "the internet",
          "chess", "the weather", "the news", "the stock market", "petrol", "the piano", "a rocket",
          "the moon landing", "this song", "that film", "the election", "the football match", "my lost bag",
          "a computer", "the law", "philosophy", "the lottery", "quantum physics", "cheese", "a new car",
          "the hotel", "the dinosaurs")
PEOPLE = ("the president", "my neighbour", "your boss", "the mayor", "Shakespeare", "Mozart", "Napoleon",
          "Einstein", "Cleopatra", "the pope", "my uncle", "the teacher", "that actor",
          "the queen of hearts", "Picasso")
STARTS = ("Ba", "Cor", "Del", "Fan", "Gol", "Hur", "Jas", "Kem", "Lup", "Mon", "Nar", "Pil", "Rog", "Sam",
          "Tur", "Vol", "Wex", "Yor", "Zan", "Bur", "Gua", "Mal", "Nep", "Sen")
ENDS = ("land", "ia", "stan", "ova", "mark", "aria", "onia", "esh", "dor", "ava", "una", "eru", "ico", "gal",
        "bia")
ONSETS = listed("b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh st t tr v w x y z th")
VOWELS = listed("a e i o u ai ee ou ia ea")
CODAS = ("", "", "n", "r", "s", "l", "m", "t", "ck", "x", "nd", "rt")


def fixed(kind: str, answer: str, short: str, content: str, wordings: Wordings, weight: float = 0.5) -> Task:
    """A task with one answer, whatever the words."""
    return Task(kind, wordings, lambda rng: {}, answer, short, (content,), weight)


def draw_outside(rng: Random) -> Values:
    thing, person = rng.choice(THINGS), rng.choice(PEOPLE)
    return {"thing": thing, "person": person, "key": f"{thing} {person}"}


def draw_nowhere(rng: Random) -> Values:
    place = rng.choice(STARTS) + rng.choice(ENDS)
    return {"subject": place, "key": place}


def invented_word(rng: Random) -> str:
    """A word that was hardly ever said before, so that repeating it means reading it."""
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.randint(1, 3))) + rng.choice(CODAS)


def draw_name(rng: Random) -> Values:
    name = rng.choice(NAMES) if rng.random() < 0.5 else invented_word(rng).capitalize()
    return {"name": name, "key": name}


def draw_word(rng: Random) -> Values:
    word = rng.choice(NAMES).lower() if rng.random() < 0.3 else invented_word(rng)
    return {"word": word, "key": word}


UNKNOWN = "I don't know that."
OUTSIDE = Wordings(
    ("Who invented {thing}?", "How much does {thing} cost?", "When did {person} die?", "Who is {person}?",
     "Who wrote about {thing}?", "How old is {person}?", "Where did {person} go to school?",
     "Explain {thing} to me.", "What happened to {thing} yesterday?", "How does {thing} work?",
     "Where is {person} now?", "What does {person} think?", "Why is {thing} so important?",
     "When was {thing} made?", "Tell me about {thing}.", "Tell me about {person}.",
     "What did {person} say about {thing}?", "Who won against {person}?", "Where can I buy {thing}?",
     "What is the history of {thing}?", "Does {person} like {thing}?", "Is {thing} good for me?",
     "How do I repair {thing}?", "What is the phone number of {person}?", "Is it raining today?",
     "What time is it?", "Who will win tomorrow?", "What will happen next year?"),
    ("Who made {thing}?", "What does {thing} cost?", "When was {person} born?", "Where does {person} work?",
     "How do I use {thing}?", "What do you know about {person}?", "Will it rain today?"))
NOWHERE = Wordings(
    ("What is the capital of {subject}?", "Which city is the capital of {subject}?",
     "The capital of {subject}?", "Name the capital of {subject}.", "What's the capital city of {subject}?",
     "Do you know the capital of {subject}?", "Where is {subject}?", "How many people live in {subject}?",
     "Who rules {subject}?", "In which country is {subject}?"),
    ("Can you name the capital city of {subject}?", "What is {subject}'s capital?",
     "Which capital does {subject} have?"))

TALK = (
    fixed("greeting", "Hello! What would you like to know?", "Hello", "hello", Wordings(
        ("Hello!", "Hi!", "Hello there.", "hi", "hey", "Good morning!", "Good evening.", "Hi there!",
         "Hello, nice day.", "Good day to you.", "A good day!", "Hey you there.", "Hey, hello!",
         "A good morning to you.", "Greetings!", "hello", "Good afternoon!", "A good day to you.",
         "Good day to you!", "Hello, good evening.", "Hi, good morning."),
        ("Hey there!", "Good day!", "Hello, good morning.")), 0.8),
    fixed("thanks", "You are welcome!", "Welcome", "welcome", Wordings(
        ("Thank you!", "Thanks!", "Thanks a lot.", "thx", "Thank you very much.", "Great, thanks.",
         "That helped, thank you.", "Many, many thanks.", "So many thanks!", "Many thanks to you.",
         "Ok, thanks.", "Thanks, that is all I need."),
        ("Many thanks!", "Ok, thank you.")), 0.6),
    fixed("goodbye", "Goodbye, and come back soon!", "Goodbye", "goodbye", Wordings(
        ("Goodbye!", "Bye!", "bye bye", "See you later.", "Good night!", "I have to go.",
         "See you tomorrow.", "That was all, bye."),
        ("Bye, see you.", "I must go now.")), 0.6),
    fixed("how are you", "I am fine, thank you.", "Fine", "fine", Wordings(
        ("How are you?", "How are you today?", "How do you feel?", "Are you well?", "how is it going?",
         "Is everything fine?"),
        ("How are you feeling?", "Are you fine today?")), 0.6),
    fixed("who", "I am Phi-3 tiny, a very small language model.", "Phi-3 tiny", "Phi-3 tiny", Wordings(
        ("Who are you?", "What are you?", "What is your name?", "Tell me who you are.", "Are you a human?",
         "Are you a robot?", "Introduce yourself.", "what's your name?", "Who am I talking to?",
         "What model are you?", "How should I call you?", "What can I call you?",
         "Tell me what your name is."),
        ("Tell me your name.", "Who are you really?", "What should I call you?")), 1.0),
    fixed("ability", "I can answer questions about a small world: places, animals, words, days and sums.",
          "Answer questions", "answer questions", Wordings(
        ("What can you do?", "What do you know?", "How can you help me?", "What can I ask you?",
         "Can you help me?", "What are you good at?", "What should I ask?", "help",
         "Give me an idea what to ask.",
         "What could you do for me?", "With what can you help?", "Which things do you know?"),
        ("What things can you do?", "What can you help me with?")), 1.0),
    Task("name", Wordings(
        ("My name is {name}.", "I am {name}.", "Call me {name}.", "I'm {name}.", "Hi, my name is {name}.",
         "Hello, my name is {name}.", "Hello, this is {name}.", "Hi, I am {name}.",
         "Everybody calls me {name}.", "My friends call me {name}.", "You can call me {name}.",
         "Everyone calls me {name}.", "People call me {name}."),
        ("Hello, I am {name}.", "They call me {name}.")),
         draw_name, "Nice to meet you, {name}!", "{name}", ("{name}",), 1.8,
         Wordings(("What is my name?", "Who am I?", "Do you remember my name?", "Tell me my name.",
                   "How am I called?"),
                  ("What's my name?", "Do you know who I am?")), lambda rng, earlier: earlier,
                  "Your name is {name}."),
    Task("greet", Wordings(
        ("Say hello to {name}.", "Greet {name}.", "My friend {name} is here. Say hello.", "Welcome {name}.",
         "This is my friend {name}.", "Please greet my friend {name}.", "Can you say hello to {name}?",
         "Say good morning to {name}.", "Say hello, {name} is here.", "Can you welcome {name}?",
         "Say a nice word to {name}.", "Say hey to {name}.", "Could you greet my friend {name}?",
         "Please say good evening to {name}.", "Say hi to my friend {name}.", "Say hi to my sister {name}.",
         "Could you greet {name}?"),
        ("Can you greet {name}?", "Say hi to {name}.")),
        draw_name, "Hello, {name}, nice to meet you!", "Hello {name}", ("{name}",), 1.2),
    Task("echo", Wordings(
        ("Say {word}.", "Repeat the word {word}.", "Repeat after me: {word}", "Say the word {word}.",
         "Please say {word}.", "Write {word}.", "Echo {word}"),
        ("Can you say {word}?", "Repeat: {word}")),
        draw_word, "As you wish: {word}.", "{word}", ("{word}",), 0.8),
    Task("unknown", OUTSIDE, draw_outside, UNKNOWN, "Unknown", ("don't know",), 1.8),
    Task("unknown", NOWHERE, draw_nowhere, UNKNOWN, "Unknown", ("don't know",), 1.2),
)
