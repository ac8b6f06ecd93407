"""Names and words that were hardly ever said before, so that saying them means having read them."""
from random import Random

from phi3.tiny.phrases import listed
from phi3.tiny.tasks import Values

NAMES = listed("""
Anna Tom Mia Ben Lena Max Ida Paul Nora Leo Emma Finn Sara Omar Yuki Ravi Olga Hugo Zoe Karl
Alex Maria David Laura Peter Julia Simon Clara Felix Grace Henry Ines Jack Kate Liam Maya Noah
Petra Quinn Rosa Sam Tina Ugo Vera Walter Xenia Yara Zack Amir Bella Chen Dora Elias Farah
George Hana Ivan Jonas Kira Lucas Marta Nils Otto Pia Robin Sofia Theo Uma Victor Wanda Ali Bob
Carol Dan Eva Fred Gina Harry Irene Jane
""")
ONSETS = listed("b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh st t tr v w x y z th")
VOWELS = listed("a e i o u ai ee ou ia ea")
CODAS = ("", "", "n", "r", "s", "l", "m", "t", "ck", "x", "nd", "rt")


def invented_word(rng: Random) -> str:
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.randint(1, 3))) + rng.choice(CODAS)


def draw_any_name(rng: Random) -> str:
    return rng.choice(NAMES) if rng.random() < 0.6 else invented_word(rng).capitalize()


def draw_name(rng: Random) -> Values:
    name = draw_any_name(rng)
    return {"name": name, "key": name}


def draw_word(rng: Random) -> Values:
    word = rng.choice(NAMES).lower() if rng.random() < 0.3 else invented_word(rng)
    return {"word": word, "key": word}
