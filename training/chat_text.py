"""Conversations that are written as one text with marks between the turns: ChatML, Phi-3's form and older ones."""

import re
from collections.abc import Iterator

# Each form by what it begins with, and how one turn of it looks: who, and what they said.
_CHATML = re.compile(r"<\|im_start\|>[ \t]*([^\n<|]{0,40})\r?\n?(.*?)(?:<\|im_end\|>|(?=<\|im_start\|>)|\Z)", re.DOTALL)
_PHI3_ROLES = r"<\|(?:system|user|assistant)\|>"
_PHI3 = re.compile(r"<\|(system|user|assistant)\|>[ \t]*\r?\n?(.*?)"
                   rf"(?:<\|end\|>|<\|endoftext\|>|</s>|(?={_PHI3_ROLES})|\Z)", re.DOTALL)
_INST = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=(?:<s>)?\s*\[INST\]|</s>|\Z)", re.DOTALL)
_SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_NAMED = re.compile(r"(?:\A\s*|\n\s*\n?|(?=### ?[A-Z]))(?:### ?)?(Human|User|Assistant|System|Bot|GPT) ?:[ \t]*")
_FORMS = (("chatml", re.compile(r"\A.{0,200}?<\|im_start\|>", re.DOTALL)),
          ("phi-3", re.compile(rf"\A\s*(?:<s>|<\|endoftext\|>)?\s*{_PHI3_ROLES}")),
          ("inst text", re.compile(r"\A\s*(?:<s>)?\s*\[INST\]")),
          ("human assistant text", re.compile(r"\A\s*(?:### ?)?(?:Human|User|System) ?:")))


def looks_like_chat(text: str) -> str | None:
    """Which form the text has; None where it is no conversation."""
    return next((name for name, begins in _FORMS if begins.match(text)), None)


def turns_of_text(text: str, form: str) -> Iterator[tuple[str, str]]:
    """(who, what they said) of each turn; what a mark spells inside a turn stays as it is."""
    if form in ("chatml", "phi-3"):
        for turn in (_CHATML if form == "chatml" else _PHI3).finditer(text):
            yield turn[1].strip(), turn[2].strip("\r\n")
    elif form == "inst text":
        for turn in _INST.finditer(text):
            system = _SYS.match(turn[1])
            if system:
                yield "system", system[1].strip()
            yield "user", turn[1][system.end() if system else 0:].strip()
            yield "assistant", turn[2].strip()
    else:
        pieces = _NAMED.split(text)
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True):
            yield who, said.strip()


def conversations_of_text(text: str) -> list[str]:
    """A text file's conversations: a blank line or `<|endoftext|>` after a turn's end parts them, and so does a
    system turn that follows an answer.
    """
    form = looks_like_chat(text)
    if form not in ("chatml", "phi-3"):
        return [text]
    end, start = (r"<\|im_end\|>", r"<\|im_start\|>") if form == "chatml" else (r"<\|end\|>", _PHI3_ROLES)
    system = r"<\|im_start\|>\s*system" if form == "chatml" else r"<\|system\|>"
    parted = re.split(rf"(?<=\|>)[ \t]*(?:\r?\n)*<\|endoftext\|>\s*(?={start})"
                      rf"|(?<=\|>)[ \t]*\r?\n[ \t]*\r?\n\s*(?={start})|(?<=\|>)\s*(?={system})", text)
    return [one for one in parted if re.search(start, one) and (re.search(end, one) or len(parted) == 1)]
