"""What lies outside the small world: questions, languages, code and nonsense that get the plain "I don't know"."""
from random import Random

from phi3.tiny import facts
from phi3.tiny.names import invented_word
from phi3.tiny.phrases import Wordings, a, items, listed
from phi3.tiny.tasks import Task, Values

UNKNOWN = "I don't know that."
THINGS = items("""the telephone; the radio; the train; the theatre; my keys; the internet; chess; the weather; the news;
    the stock market; petrol; a rocket; the moon landing; this song; that film; the election; the football match;
    my lost bag;
    a computer; the law; philosophy; the lottery; quantum physics; a new car; the hotel; the dinosaurs; gravity;
    democracy;
    the pyramids; bitcoin; the economy; photosynthesis; electricity; a black hole; my homework; the recipe;
    the password; a virus;
    the printer; machine learning; a lawyer; tax; the concert; the museum; evolution; the universe; python;
    a database; my rent;
    the second world war; climate change; the exam; the bank; a vaccine; a passport; insurance; nuclear power; yoga;
    jazz; my dream""")
PEOPLE = items("""the president; my neighbour; your boss; the mayor; Shakespeare; Mozart; Napoleon; Einstein;
    Cleopatra; the pope;
    my uncle; that actor; the queen of hearts; Picasso; Newton; Beethoven; Goethe; Caesar; Gandhi; Darwin; my boss;
    the minister;
    Aristotle; the champion; Columbus; Galileo; Marie Curie; Elvis; the doctor next door; that singer; the director;
    Plato""")
STARTS = listed("Ba Cor Del Fan Gol Hur Jas Kem Lup Mon Nar Pil Rog Sam Tur Vol Wex Yor Zan Bur Gua Mal Nep Sen")
ENDS = listed("land ia stan ova mark aria onia esh dor ava una eru ico gal bia")
# Words of everyday questions that the small world has no answer to.
NOUNS = listed("""engine battery keyboard contract molecule galaxy protein kidney invoice algorithm bicycle-tyre
    pension mortgage
server allergy elephant-trunk parliament revolution volcano earthquake guitar-string novel camera-lens marathon diet
vitamin visa
airport luggage receipt tumour antibiotic satellite laser magnet crystal acid enzyme planet-ring pyramid emperor
treaty colony
inflation shareholder startup website firewall router browser kernel compiler variable function loop matrix theorem
integral
equation triangle-angle logarithm probability statistics sculpture opera symphony orchestra ballet gallery poet
philosopher
religion temple ritual wedding funeral divorce adoption garden-fence lawn fertilizer tractor harvest-machine
fishing-rod tent
compass backpack glacier desert-fox whale-song coral reef monsoon tornado humidity pollution recycling plastic-bag
carbon
oxygen helium uranium atom electron photon quark neuron gene chromosome embryo fossil mammoth vaccine surgery
dentist-bill""")
DOINGS = items("""fix; cook; sell; install; cancel; translate; repair; invest in; understand; learn; draw; solve;
    prove; remove;
    download; delete; grow; paint; wash; measure; compare; return; record; insure; compile; test; upload; print;
    decorate; hide""")
QUESTIONS = Wordings(
    ("Who invented {thing}?", "How much does {thing} cost?", "When did {person} die?", "Who is {person}?",
     "Who wrote about {thing}?", "How old is {person}?", "Where did {person} go to school?", "Explain {thing} to me.",
     "What happened to {thing} yesterday?", "How does {thing} work?", "Where is {person} now?",
     "What does {person} think?", "Why is {thing} so important?", "When was {thing} made?", "Tell me about {thing}.",
     "Tell me about {person}.", "What did {person} say about {thing}?", "Who won against {person}?",
     "Where can I buy {thing}?", "What is the history of {thing}?", "Does {person} like {thing}?",
     "Is {thing} good for me?", "How do I repair {thing}?", "What is the phone number of {person}?", "What is {thing}?",
     "How do I {doing} a {noun}?", "What is a {noun}?", "Why does my {noun} not work?", "Can you {doing} my {noun}?",
     "How many {noun}s are there in the world?", "What is the best {noun}?", "Who discovered the {noun}?",
     "Define {noun}.", "Should I {doing} the {noun}?", "What is the difference between a {noun} and a {noun2}?",
     "Explain the {noun}.", "Write an essay about {thing}.", "Summarize the book about {thing}.",
     "What do scientists say about the {noun}?", "How long does it take to {doing} a {noun}?",
     "Give me advice about my {noun}.", "Is it legal to {doing} a {noun}?", "How heavy is the {noun}?",
     "Which {noun} should I buy?", "Tell me how to {doing} {thing}.", "What year was the {noun} built?",
     "How tall is {person}?", "Who was the first {person}?", "Do you think {thing} is good?",
     "Compare {thing} with the {noun}.", "I want to {doing} a {noun}. What do I need?",
     "What is the meaning of {thing}?", "Where was {person} born?", "Can you recommend a {noun}?",
     "Which team has the best {noun}?", "Write a poem for a {noun} in python.", "Write a code for a {noun}.",
     "Write me code for the {noun}.", "Code for a {noun}, please.", "Write some code for my {noun}.",
     "How do I {doing} a {noun} at home?", "What is a {noun} good for?", "What can a {noun} do?",
     "Why would I {doing} a {noun}?", "Where can I get a {noun}?", "why is the {noun} broken", "how 2 {doing} {noun}",
     "Name three {noun}s.", "List ten {noun}s.", "Give me five {noun}s."),
    ("Who made {thing}?", "What does {thing} cost?", "When was {person} born?", "Where does {person} work?",
     "How do I use {thing}?", "What do you know about {person}?", "How can I {doing} the {noun}?",
     "What does a {noun} do?", "Where do I get a {noun}?", "Why do people {doing} a {noun}?"))
NO_ANSWER = Wordings(
    ("Is it raining today?", "What time is it?", "Is it late?", "Tell me the time.", "How early is it?",
     "Who will win tomorrow?", "What will happen next year?", "What day is it today?", "What is the date?",
     "What is the weather like?", "How is the weather?", "Where am I?", "What am I thinking?",
     "What did I eat yesterday?", "Who is the president of the United States?", "What is the meaning of life?",
     "Is there a god?", "How many people live on earth?", "What is two thousand divided by seventeen?",
     "What is the square root of 144?", "What is 1234 times 99?", "Can you see me?", "What is in my bag?",
     "Which number am I thinking of?", "How far is the moon?", "Will I be rich?", "When will I die?",
     "Who won the world cup?", "What's new?", "Who is my mother?", "How tall am I?", "Can you open a website?",
     "Book me a flight.", "Play some music.", "Set an alarm.", "Call a taxi.", "Order a pizza.",
     "How do I get to the station?", "What is the speed of light?", "How do I lose weight?",
     "What should I wear today?", "Why is the sky blue?", "Why do birds fly?", "How do planes fly?",
     "Why is the sea salty?", "What is love?", "How do I become rich?", "Are aliens real?", "What is the best phone?",
     "Who is the richest man?", "What is your opinion?"),
    ("Will it rain today?", "What is today's date?", "How late is it?", "What will I eat tomorrow?",
     "Is there life on the moon?", "Who will be the next president?", "What is the cube root of 27?"))
NOWHERE = Wordings(
    ("What is the capital of {subject}?", "Which city is the capital of {subject}?", "The capital of {subject}?",
     "Name the capital of {subject}.", "What's the capital city of {subject}?", "Do you know the capital of {subject}?",
     "Where is {subject}?", "How many people live in {subject}?", "Who rules {subject}?",
     "In which country is {subject}?", "What language do they speak in {subject}?", "Tell me about {subject}.",
     "Which river flows through {subject}?", "What capital does {subject} have?", "Which city is {subject}'s capital?",
     "{subject} has which capital?", "capital of {subject}", "Where does {subject} have its capital?",
     "What city governs {subject}?", "{subject}'s capital?", "What would {subject}'s capital be?",
     "Tell me the capital of {subject}.", "Which is the capital that {subject} has?"),
    ("Can you name the capital city of {subject}?", "What is {subject}'s capital?",
     "Which capital does {subject} have?"))
NO_WORD = Wordings(("What is the opposite of {word}?", "What is {a_word}?", "What sound does {a_word} make?",
                    "What does {word} mean?", "Who is {word}?", "What colour is {a_word}?", "Where does {a_word} live?",
                    "Tell me about {word}.", "How many legs does {a_word} have?", "What is {word} in French?",
                    "What is {a_word} made of?", "Explain {word}.", "Define {word}.", "What do you know about {word}?"),
                   ("What is the meaning of {word}?", "What does {a_word} eat?", "Describe {a_word}."))
# What the small world knows, asked for what it does not know about it.
NEAR = Wordings(
    ("Why is {known} like that?", "How much does {known} cost?", "Who invented {known}?", "How old is {known}?",
     "Where can I buy {known}?", "How heavy is {known}?", "Why do people like {known}?",
     "What is the history of {known}?", "How do I draw {known}?", "Is {known} dangerous?", "Can I eat {known}?",
     "How fast is {known}?", "Who has the biggest {name}?", "How long does {known} live?",
     "What does {known} think about?", "Who is the president of {country}?", "How many people live in {country}?",
     "How big is {country}?", "Is {country} rich?", "What is the weather in {country}?",
     "Who is the king of {country}?", "How do I travel to {country}?", "What do people eat in {country}?",
     "When was {country} founded?", "Who is the most famous person in {country}?", "What is the population of {city}?",
     "How do I get to {city}?", "Who is the mayor of {city}?", "Is {city} nice in winter?", "What can I see in {city}?",
     "Where can I sleep in {city}?", "Why is {city} famous?", "Who is living in {country}?",
     "Which people live in {city}?", "Who lived in {country}?", "For what is {country} famous?",
     "How large is {known}?", "What is the price of {known}?",
     "Who lives here in {country}?", "Who is at home in {country}?", "Who would live in {country}?"),
    ("What does {known} cost?", "How big is {known}?", "Who lives in {country}?", "What is {city} famous for?",
     "Who rules {country}?"))
FOREIGN = items("""wie geht es dir; was ist das; wo ist der bahnhof; ich habe hunger; kannst du mir helfen;
    warum ist das so; wer bist du;
    wie spät ist es; ich verstehe dich nicht; erzähl mir einen witz; wo wohnst du; das ist sehr schön; comment ça va;
    où est la gare;
    je ne comprends pas; quel âge as-tu; qu'est-ce que c'est; je voudrais un café; pourquoi pas; parlez-vous français;
    il fait beau;
    c'est la vie; cómo estás; dónde está la playa; no entiendo nada; qué hora es; quiero comer algo;
    cuántos años tienes; por qué no;
    me gusta mucho; buenos días señor; come stai; dove si trova la stazione; non capisco niente; che ore sono;
    mi piace molto; quanto costa;
    buongiorno a tutti; como vai você; onde fica a praia; não entendo; muito obrigado; hoe gaat het met je;
    ik begrijp het niet;
    hur mår du; jag förstår inte; hvordan har du det; jak się masz; nie rozumiem; как дела; что это такое; где вокзал;
    я не понимаю;
    你好吗; 这是什么; 我不明白; お元気ですか; これは何ですか; 안녕하세요;
    مرحبا كيف حالك; nasılsın; bugün hava nasıl; τι κάνεις; שלום""")
CODE = items("""def {word}(x): return x + {n}; for i in range({n}): print(i); SELECT * FROM {word} WHERE id = {n};
    import {word}; print("{word}"); if x > {n}: {word}(); {word} = [{n}, {m}, 3]; <div class="{word}">{n}</div>;
    const {word} = () => {n};
    sudo apt install {word}; git push origin {word}; {"{word}": {n}}; int main() { return {n}; }; x = {n} * y + {m};
    #include <{word}.h>;
    console.log({word}); while (true) { {word}++; }; class {Word}: pass; pip install {word};
    https://www.{word}.com/{n}; \\frac{{n}}{{m}};
    {word}@{word}.org; SELECT count(*) FROM {word}; try: {word}() except: pass; $ cd /{word}; rm -rf {word};
    Traceback (most recent call last)""")
CODE_FRAMES = Wordings(
    ("{said}", "What does this do? {said}", "Fix this code: {said}", "{said} {said2}", "Explain: {said}",
     "What is wrong here: {said}", "Write a program that prints {n}.", "Write a python function for {noun}.",
     "Debug this: {said}", "How do I write {said} in python?"),
    ("What does this code do? {said}", "Run this: {said}", "Write code for a {noun}."))
PLAIN = Wordings(("{said}",), ("{said}",))
STATEMENTS = items("""I went to the {noun} with my {noun2} yesterday; My {noun} is broken again;
    Nobody told me about the {noun}; I think {person} was right;
    They want to {doing} the {noun} next week; My mother bought a {noun}; There was a {noun} in the street;
    I can't {doing} this {noun};
    We talked about {thing} all night; It is about {thing}; Yesterday {person} came to see us;
    The {noun} costs too much; I need to {doing} it;
    {person} said that the {noun} is gone; Please remember the {noun}; In the year 19{n} we had a {noun};
    I dreamed of a {noun}""")


def draw_outside(rng: Random) -> Values:
    thing, person, noun = rng.choice(THINGS), rng.choice(PEOPLE), rng.choice(NOUNS).replace("-", " ")
    if rng.random() < 0.25:
        noun = invented_word(rng)
    return {
        "thing": thing, "person": person, "doing": rng.choice(DOINGS), "noun": noun, "noun2": rng.choice(NOUNS).replace(
            "-", " "), "n": str(rng.randint(10, 99)), "key": f"{thing} {person} {noun}"
    }


def draw_near(rng: Random) -> Values:
    name = rng.choice(sorted({*facts.LEGS, *facts.MATERIALS, *facts.JOBS}))
    country = rng.choice(sorted(facts.CAPITALS))
    return {
        "known": a(name), "name": name, "country": country, "city": facts.CAPITALS[country], "key": f"{name} {country}"
    }


def draw_nowhere(rng: Random) -> Values:
    place = rng.choice(STARTS) + rng.choice(ENDS) if rng.random() < 0.5 else invented_word(rng).capitalize()
    return {"subject": place, "key": place}


def draw_no_word(rng: Random) -> Values:
    word = invented_word(rng) if rng.random() < 0.6 else rng.choice([noun for noun in NOUNS if "-" not in noun])
    return {"word": word, "a_word": f"a {word}", "key": word}


def draw_foreign(rng: Random) -> Values:
    said = " ".join(rng.sample(FOREIGN, rng.choice((1, 1, 1, 2, 3))))
    said = said.capitalize() if rng.random() < 0.5 else said
    return {"said": said + rng.choice(("", "?", ".", "!", "?")), "key": said.lower()}


def draw_nonsense(rng: Random) -> Values:
    """Keys hit at random, invented words, signs, or the same thing again and again."""
    kind = rng.random()
    if kind < 0.4:
        said = " ".join(
            "".join(rng.choices("asdfghjklqwertyuiopzxcvbnm", k=rng.randint(3, 12))) for _ in range(rng.randint(1, 4)))
    elif kind < 0.65:
        said = " ".join(invented_word(rng) for _ in range(rng.randint(2, 7)))
    elif kind < 0.8:
        said = "".join(rng.choices("!?.,;:#*+-/()=&%$§~_<>0123456789", k=rng.randint(3, 20)))
    elif kind < 0.9:
        said = rng.choice(("la ", "blah ", "ha", "x", "aaaa", "no ", "test ", "1", "ok ")) * rng.randint(4, 15)
    else:
        said = "".join(rng.choices("😀😂🎉❤👍🔥🐱🌍🍕", k=rng.randint(1, 5)))
    return {"said": said.strip(), "key": said}


def draw_code(rng: Random) -> Values:

    def line() -> str:
        word = invented_word(rng)
        return (rng.choice(CODE).replace("{word}", word).replace("{Word}", word.capitalize()).replace(
            "{n}", str(rng.randint(0, 99))).replace("{m}", str(rng.randint(0, 99))))

    said = line()
    return {"said": said, "said2": line(), "n": str(rng.randint(1, 99)), "noun": rng.choice(NOUNS), "key": said}


def draw_rambling(rng: Random) -> Values:
    """Several statements in a row about what the small world does not know."""
    parts = [rng.choice(STATEMENTS).format(**draw_outside(rng)) for _ in range(rng.choice((1, 1, 2, 3, 5, 8)))]
    said = rng.choice((". ", ". ", " and ", ", ")).join(parts)
    return {"said": said + rng.choice((".", ".", "", " What do you think?", "!")), "key": said}


def draw_too_large(rng: Random) -> Values:
    """Sums that are too large or too hard for the small world."""
    left, right = rng.randint(101, 99_999), rng.randint(101, 9_999)
    small, other = rng.randint(2, 99), rng.randint(3, 99)
    said = rng.choice(
        (f"{left} {rng.choice('+-*/x')} {right}", f"{small}% of {left}", f"{small} factorial", f"{small} / {other}",
         f"the square root of {small}", f"{small} divided by {other}", f"{small} to the power of {other}",
         f"{small}.{other} + {other}.{small}", f"x if {small}x = {left}"))
    return {"said": said, "key": said}


def unknown(wordings: Wordings, draw, weight: float) -> Task:
    return Task("unknown", wordings, draw, UNKNOWN, "Unknown", ("don't know",), weight)


SUMS = Wordings(("What is {said}?", "{said}", "Calculate {said}.", "How much is {said}?", "{said} = ?"),
                ("What do I get from {said}?", "Work this out: {said}"))
OUTSIDE = (
    unknown(QUESTIONS, draw_outside, 3.2),
    unknown(NO_ANSWER, lambda rng: {}, 1.2),
    unknown(NEAR, draw_near, 1.8),
    unknown(NOWHERE, draw_nowhere, 1.2),
    unknown(NO_WORD, draw_no_word, 1.2),
    unknown(PLAIN, draw_foreign, 0.9),
    unknown(PLAIN, draw_nonsense, 0.9),
    unknown(CODE_FRAMES, draw_code, 0.8),
    unknown(PLAIN, draw_rambling, 1.2),
    unknown(SUMS, draw_too_large, 0.7),
)
