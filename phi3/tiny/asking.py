"""How a manner is asked for: system messages in many words, some of them kept away from training."""
from dataclasses import dataclass

from phi3.tiny.phrases import Wordings, capitalised


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
        framed = [frame.format(name) for frame in frames for name in some] + list(sentences) * len(some)
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
     "play the role of {}"),
    ("You are {}.", "You are {}. Answer every question.", "You are {}. Stay in your role.",
     "You are {} and help people.", "{}", "Imagine that you are {}.", "You are {}. Answer the user.",
     "You are {} and answer questions.", "Your name is Phi-3 tiny and you are {}.", "You talk like {}.",
     "Your answers sound like {}.", "You are {}, and you never forget it.", "You are {} in a small world."),
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
