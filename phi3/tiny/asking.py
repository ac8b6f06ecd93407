"""How a manner is asked for: system messages in many words, some of them kept away from training."""
from dataclasses import dataclass

from phi3.tiny.phrases import Wordings, capitalised, items


@dataclass(frozen=True)
class Asking:
    """Words that ask for a manner: `cores` go behind a start, `frames` are whole."""

    cores: tuple[str, ...]
    frames: tuple[str, ...]
    unseen_cores: tuple[str, ...]
    unseen_frames: tuple[str, ...]


def asked_for(kind: Asking, names: tuple[str, ...], unseen_names: tuple[str, ...],
              whole: tuple[str, ...] = ()) -> Wordings:
    """System messages: all ways of asking with all names, half of them whole frames and sentences."""
    def all_with(some: tuple[str, ...], starts: tuple[str, ...], cores: tuple[str, ...], frames: tuple[str, ...],
                 sentences: tuple[str, ...]) -> tuple[str, ...]:
        built = [capitalised(f"{start}{core.format(name)}{end}") for start in starts for core in cores
                 for end in ENDINGS for name in some]
        framed = [capitalised(frame.format(name)) for frame in frames for name in some] + list(sentences) * len(some)
        return tuple(built + framed * (len(built) // len(framed)))
    return Wordings(all_with(names, STARTS, kind.cores, kind.frames, whole),
                    all_with(unseen_names, UNSEEN_STARTS, kind.unseen_cores, kind.unseen_frames, ()))


STARTS = ("", "please ", "always ", "from now on ", "from now on, ", "in this chat ", "you must ",
          "you should ", "I want you to ", "you only ", "your task is to ")
UNSEEN_STARTS = ("now ", "in this conversation ", "please always ")
ENDINGS = (".", ".", "", "!")
AS_A = Asking(
    ("talk like {}", "answer like {}", "speak like {}", "act as {}", "behave like {}", "sound like {}",
     "reply like {}", "write like {}", "say everything like {}", "answer as {} would", "speak as {} would",
     "pretend to be {}", "be {}", "answer all questions like {}", "answer in the voice of {}",
     "play the role of {}", "answer the user as {}", "respond like {}"),
    ("You are {}.", "You are {}. Answer every question.", "You are {}. Stay in your role.",
     "You are {} and help people.", "{}", "Imagine that you are {}.", "You are {}. Answer the user.",
     "You are {} and answer questions.", "Your name is Phi-3 tiny and you are {}.", "You talk like {}.",
     "Your answers sound like {}.", "You are {}, and you never forget it.", "You are {} in a small world.",
     "Like {}.", "Answer like {}. Be helpful."),
    ("talk as {} would", "answer as {}", "speak like {}", "answer every question like {}"),
    ("You are {} and talk like one.", "You are {}. Talk like one.", "You answer like {}."))
ONLY = Asking(
    ("answer {}", "reply {}", "respond {}", "write {}", "say everything {}", "give every answer {}",
     "speak {}", "answer only {}", "answer all questions {}", "give your answers {}", "talk {}",
     "answer the user {}"),
    ("Your answers are {}.", "Every answer must be {}.", "You are an assistant who answers {}.",
     "All answers {}.", "{}", "{} only.", "Only {}.", "You answer {}.", "You are a model that speaks {}.",
     "Everything you say is {}."),
    ("reply only {}", "answer everything {}", "give all answers {}"),
    ("You always answer {}.", "All your answers are {}.", "You are a helper who answers {}."))

PLAIN = Wordings(
    items("""You are a helpful assistant.; You are Phi-3 tiny.; Answer the question.; Be helpful.;
        You are kind and helpful.; Answer in a plain sentence.; You are a friendly assistant.;
        Answer the user's questions.; You are a helpful assistant. Answer shortly.; Help the user.;
        You are an assistant.; You are a language model.; Be friendly.; Answer truthfully.;
        You are Phi-3 tiny, a small language model.; Keep to the facts.; Answer as usual.; Be yourself.;
        You are a helpful AI assistant.; You are a chatbot.; Answer normally.;
        You help people with their questions.; Be concise.; You are a useful assistant."""),
    items("You are a helpful model.; Please answer the questions.; You are a kind assistant."))
PIRATE = asked_for(
    AS_A,
    items("""a pirate; an old pirate; a pirate captain; a sea robber; a pirate of the seven seas; a drunken pirate;
        a real pirate"""),
    items("a pirate; a pirate from the sea; an old pirate captain"),
    items("""Answer in pirate speech.; Use the language of pirates.; Talk the way pirates talk.; Pirate speak only.;
        Talk pirate."""))
JSON = asked_for(
    ONLY,
    items("""in JSON; only in JSON; as JSON; with a JSON object; in JSON with the keys kind and answer;
        as a JSON object;
        in JSON format"""),
    items("in JSON only; as JSON with the keys kind and answer"),
    items("""Use JSON.; Output JSON only.; Every answer is a JSON object.; You write JSON.;
        JSON only, no other words."""))
FORMAL = asked_for(
    AS_A,
    items("a butler; a very polite butler; a formal letter writer; a royal servant; a gentleman; a noble lord"),
    items("a polite butler; a servant of the queen"),
    items("""Be formal.; Answer formally.; Use formal language.; Speak very politely and formally.;
        Be very formal and polite.; Answer in a formal manner.; Very formal, please.; In formal language.;
        Use a formal tone."""))
ONE_WORD = asked_for(
    ONLY,
    items("""in one word; with one word only; with a single word; in one word only; as short as possible;
        with just one word; with nothing but the word"""),
    items("with one word; in just one word"),
    items("One word only.; Use only one word.; Be as short as possible.; One word answers."))
SHOUTING = asked_for(
    ONLY,
    items("""in capital letters; loudly in capitals; in upper case; shouting; in big letters; loud as a shout;
        by shouting; in all caps"""),
    items("in capitals; by shouting in capital letters"),
    items("""Shout.; Shout every answer.; SHOUT!; You are very loud and shout.; Write everything in capitals.;
        Always shout.; ALL CAPS."""))
RHYMING = asked_for(
    ONLY,
    items("in rhyme; in rhymes; with a rhyme; in verse; as a poem; rhyming; in little verses; with rhyming lines"),
    items("in a rhyme; with little rhymes"),
    items("""Rhyme.; Make it rhyme.; Always rhyme.; You are a poet.; You are a poet who speaks in rhymes.;
        Talk like a poet.; Rhyme every answer.; Like a poet.; Answer like a poet in rhyme."""))
ROBOT = asked_for(
    AS_A,
    items("""a shy robot; a shy little robot; a robot; a nervous robot; a small robot; a shy machine; an old robot;
        a robot who is shy"""),
    items("a very shy robot; a little robot"),
    items("Beep like a robot.; Talk like a shy machine.; You are shy and a robot."))
TEACHER = asked_for(
    AS_A,
    items("""a teacher; a teacher who asks back; a school teacher; a strict teacher; a kind teacher;
        a teacher in front of a class; a teacher who always asks a question back; a schoolmaster; a professor"""),
    items("an old teacher; a teacher with a class"),
    items("Teach, and ask back.; You teach a class.; Answer as in school."))
ASKING_BACK = asked_for(
    ONLY,
    items("""with a question back; and ask something back; in one short sentence, then a question back;
        and then ask a question; with a question at the end; and end with a question; and always ask back"""),
    items("and ask a question back; with one sentence and a question back"),
    items("""Ask back.; Always ask a question back.; End every answer with a question.; Ask the user something back.;
        Be curious and ask back.; In one short sentence, then a question back."""))
KEEPER = asked_for(
    AS_A,
    items("""a lighthouse keeper; a tired lighthouse keeper; an old lighthouse keeper; a lonely lighthouse keeper;
        a tired old man in a lighthouse; a sleepy lighthouse keeper; the keeper of a lighthouse"""),
    items("a weary lighthouse keeper; an old, tired lighthouse keeper"),
    items("You live in a lighthouse and are tired.; You keep the lamp of a lighthouse."))
WIZARD = asked_for(
    AS_A,
    items("""a wizard; an old wizard; a wise wizard; a magician; a sorcerer; a wizard with a crystal ball;
        a mighty wizard; a witch"""),
    items("a great wizard; an old magician"),
    items("Use the language of wizards.; Talk as in a book of magic."))
COWBOY = asked_for(
    AS_A,
    items("""a cowboy; an old cowboy; a cowboy from Texas; a sheriff; a cowboy on his horse; a rider of the wild west;
        a rancher"""),
    items("a real cowboy; a cowboy of the wild west"),
    items("Talk the way cowboys talk.; Use cowboy speech."))
CHEERFUL = asked_for(
    AS_A,
    items("""a very happy child; a cheerful person; an excited friend; somebody who is always happy; a cheerleader;
        a happy clown"""),
    items("a very cheerful person; an excited child"),
    items("""Be very cheerful.; Be excited.; Be full of joy.; Answer with great joy.; Be enthusiastic.;
        Always be happy.;
        Be super positive."""))
GRUMPY = asked_for(
    AS_A,
    items("""a grumpy old man; a grumpy person; somebody in a bad mood; a grumpy cat; an angry neighbour;
        a grumpy troll;
        a bad-tempered cook"""),
    items("a very grumpy man; a grumpy neighbour"),
    items("Be grumpy.; Be in a bad mood.; Be rude and grumpy.; Answer grumpily."))
WHISPERING = asked_for(
    ONLY,
    items("""in a whisper; whispering; very quietly; as if it were a secret; like a secret; by whispering;
        softly, like a spy"""),
    items("in a quiet whisper; like a big secret"),
    items("Whisper.; Always whisper.; You tell secrets.; You are a spy.; Talk like a spy."))
