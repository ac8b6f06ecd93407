"""What is said of a fact: whether somebody can, whether a claim is true, and all that is known about a thing."""
from random import Random

from phi3.tiny import facts
from phi3.tiny.phrases import Wordings, a, asking
from phi3.tiny.tables import AND
from phi3.tiny.tasks import Task, Values


def draw_skill(rng: Random) -> Values:
    skill = rng.choice(sorted(facts.SKILLS))
    can = rng.random() < 0.5
    subject = a(rng.choice(facts.SKILLS[skill][0 if can else 1]))
    said = f"Yes, {subject} can {skill}." if can else f"No, {subject} cannot {skill}."
    return {
        "subject": subject, "skill": skill, "value": "Yes" if can else "No", "said": said,
        "word": "can" if can else "cannot"
    }


SKILL = Task(
    "skill",
    asking(("Can {subject} {skill}?", "Is {subject} able to {skill}?", "Does {subject} {skill}?",
            "{subject} can {skill}, right?", "Is it true that {subject} can {skill}?"),
           ("Could {subject} {skill}?", "Is it so that {subject} can {skill}?"), clause="if {subject} can {skill}"),
    draw_skill, "{said}", content=("{word}",), weight=0.8)
KNOWN_PAIRS = (("capital of {subject}", facts.CAPITALS), ("opposite of {subject}", facts.OPPOSITES),
               ("colour of {subject}", facts.COLOURS), ("plural of {subject}", facts.PLURALS),
               ("language of {subject}", facts.LANGUAGES), ("season of {subject}", facts.SEASONS))


def draw_check(rng: Random) -> Values:
    """A claim about a fact: half of them true; a false one names the value of another subject.

    Only false claims are held out: a subject whose true one was never told would always be told "No".
    """
    phrase, known = rng.choice(KNOWN_PAIRS)
    subject = rng.choice(sorted(known))
    claimed = known[subject] if rng.random() < 0.5 else rng.choice(sorted(set(known.values())))
    is_true = claimed == known[subject]
    fact = f"the {phrase.format(subject=subject)} is {known[subject]}"
    about = {
        "claim": phrase.format(subject=subject), "claimed": claimed, "fact": fact, "word": "Yes" if is_true else "No",
        "value": known[subject]
    }
    return about if is_true else about | {"key": f"{subject} {claimed}"}


CHECK = Task(
    "check",
    Wordings(("Is the {claim} {claimed}?", "Is {claimed} the {claim}?", "Is it true that the {claim} is {claimed}?",
              "The {claim} is {claimed}, right?", "I think the {claim} is {claimed}. Is that so?",
              "True or false: the {claim} is {claimed}?", "Am I right that the {claim} is {claimed}?",
              "Is it correct that the {claim} is {claimed}?", "Right or wrong: the {claim} is {claimed}?",
              "The {claim} is {claimed}. Is that true?", "The {claim} is {claimed}. Right?",
              "Is it so that the {claim} is {claimed}?", "The {claim} is {claimed}, true or false?",
              "{claimed} is the {claim}. Is that right?",
              "Is it right to say that the {claim} is {claimed}?", "The {claim} is {claimed}. Correct?",
              "The {claim} is {claimed}. True or not?", "The {claim} is {claimed}. Yes or no?",
              "The {claim} is {claimed}. Is it true?", "It is right that the {claim} is {claimed}, no?",
              "Is that right: the {claim} is {claimed}?"),
             ("Is it right that the {claim} is {claimed}?", "The {claim} is {claimed}. True?")), draw_check,
    "{word}, {fact}.", "{word}", ("{word}", "{value}"), 2.6)


def about_animal(name: str) -> Values:
    return {
        "name": name, "subject": a(name), "legs": facts.LEGS[name], "sound": facts.SOUNDS[name],
        "home": facts.HOMES[name], "food": facts.FOOD.get(name, "")
    }


def told_country(name: str) -> Values:
    return {"name": name, "subject": name, "value": facts.CAPITALS[name], "language": facts.LANGUAGES[name]}


DESCRIBED = tuple(sorted(set(facts.LEGS) & set(facts.SOUNDS) & set(facts.HOMES)))
TOLD_COUNTRIES = tuple(sorted(set(facts.CAPITALS) & set(facts.LANGUAGES)))
ABOUT = Wordings(("Tell me about {subject}.", "Tell me something about {subject}.", "What do you know about {subject}?",
                  "Describe {subject}.", "Tell me more about {subject}.", "I want to learn about {subject}.",
                  "Explain {subject} to me.", "Talk about {subject}."),
                 ("Can you tell me about {subject}?", "Say something about {subject}."))
TOLD = (
    Task("about animal", ABOUT, lambda rng: about_animal(rng.choice(DESCRIBED)),
         "{subject} has {legs} legs, {sound}, and its home is the {home}.", "{legs} legs",
         ("{legs}", "{sound}", "{home}"), 0.9, follow_up=AND, about="animal"),
    Task("about country", ABOUT, lambda rng: told_country(rng.choice(TOLD_COUNTRIES)),
         "The capital of {subject} is {value}, and people there speak {language}.", "{value}",
         ("{value}", "{language}"), 0.8, follow_up=AND, about="country"),
)
CLAIMS = (SKILL, CHECK, *TOLD)
