"""Conversations as one text with marks between the turns: ChatML, the forms of Phi-3, Llama and Gemma, older ones."""

import re
from collections.abc import Iterator

# Each form by what it begins with, and how one turn of it looks: who, and what they said.
_CHATML = re.compile(r"<\|im_start\|>[ \t]*([^\n<|]{0,40})\r?\n?(.*?)(?:<\|im_end\|>|(?=<\|im_start\|>)|\Z)", re.DOTALL)
_PHI3_ROLES = r"<\|(?:system|user|assistant)\|>"
_PHI3 = re.compile(r"<\|(system|user|assistant)\|>[ \t]*\r?\n?(.*?)"
                   rf"(?:<\|end\|>|<\|endoftext\|>|</s>|(?={_PHI3_ROLES})|\Z)", re.DOTALL)
_LLAMA3 = re.compile(r"<\|start_header_id\|>[ \t]*([^\n<|]{0,40})<\|end_header_id\|>[ \t]*(?:\r?\n){0,2}(.*?)"
                     r"(?:<\|eot_id\|>|<\|eom_id\|>|<\|end_of_text\|>|(?=<\|start_header_id\|>)|\Z)", re.DOTALL)
_GEMMA = re.compile(r"<start_of_turn>[ \t]*([^\n<|]{0,40})\r?\n(.*?)(?:<end_of_turn>|<eos>|(?=<start_of_turn>)|\Z)",
                    re.DOTALL)
_MARKED = {"chatml": _CHATML, "phi-3": _PHI3, "llama-3 text": _LLAMA3, "gemma text": _GEMMA}
# What begins and ends Alpaca's turns, mark by mark: a pattern of a whole turn takes forever where its end is missing.
_ALPACA = re.compile(r"### ?(Instruction|Input|Response) ?:|</s>|<\|endoftext\|>|### ?End\b")
_ALPACA_NEXT = {"": ("Instruction",), "Instruction": ("Input", "Response"), "Input": ("Response",),
                "Response": ("Instruction", None)}
_SYS = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_NAMED = re.compile(r"(?:^[^\S\n]*|(?=### ?[A-Z]))(?:### ?)?(Human|User|Assistant|System|Bot|GPT|AI) ?:[ \t]*",
                    re.MULTILINE)
_ASKS = r"[ \t]*(?:### ?)?(?:Human|HUMAN|User|USER|System|SYSTEM) ?:"
_ANSWERS = r"[ \t]*(?:### ?)?(?:Assistant|ASSISTANT|Bot|GPT|AI) ?:"
_SHOUTED = re.compile(r"^[^\S\n]*(HUMAN|USER|ASSISTANT|SYSTEM|FUNCTION RESPONSE) ?:[ \t]*", re.MULTILINE)
_BEGINS = {"llama-3 text": "<|begin_of_text|>", "gemma text": "<bos>"}
_FORMS = (("chatml", re.compile(r"\A.{0,200}?<\|im_start\|>", re.DOTALL)),
          ("phi-3", re.compile(rf"\A\s*(?:<s>|<\|endoftext\|>)?\s*{_PHI3_ROLES}")),
          ("llama-3 text", re.compile(r"\A\s*(?:<\|begin_of_text\|>)?\s*<\|start_header_id\|>")),
          ("gemma text", re.compile(r"\A\s*(?:<bos>)?\s*<start_of_turn>")),
          # What Stanford's Alpaca says above the instruction is its template's, and no turn.
          ("alpaca text", re.compile(r"\A(?:[^#]{0,400}\n)?\s*### ?Instruction ?:")),
          ("inst text", re.compile(r"\A\s*(?:<s>)?\s*\[INST\]")),
          ("human assistant text", re.compile(rf"\A\s*{_ASKS}")))


def looks_like_chat(text: str) -> str | None:
    """Which form the text has; None where it is no conversation."""
    text = text.lstrip()
    return next((name for name, begins in _FORMS if begins.match(text)), None)


def is_templated(text: str) -> bool:
    """Whether a text begins as a chat template of some model does, or names who speaks and waits for the assistant."""
    if text.lstrip()[:1] in ("<", "["):
        return looks_like_chat(text) in (*_MARKED, "inst text")
    return text.rstrip().endswith("Assistant:") and looks_like_chat(text) == "human assistant text"


def turns_of_text(text: str, form: str) -> Iterator[tuple[str, str]]:
    """(who, what they said) of each turn; what a mark spells inside a turn stays as it is."""
    if form in _MARKED:
        for turn in _MARKED[form].finditer(text):
            yield turn[1].strip(), turn[2].strip("\r\n")
    elif form == "alpaca text":
        yield from _alpacas(text)
    elif form == "inst text":
        yield from _insts(text)
    else:
        pieces = (_SHOUTED if _SHOUTED.match(text.lstrip()) else _NAMED).split(text)
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True):
            yield who, said.strip().removesuffix("<|endoftext|>").removesuffix("</s>").rstrip()


def _alpacas(text: str) -> Iterator[tuple[str, str]]:
    said: dict[str, str] = {}
    part, begin = "", 0
    for mark in [*_ALPACA.finditer(text), None]:
        name = mark[1] if mark else None
        if name not in _ALPACA_NEXT[part]:
            continue
        said[part] = text[begin:mark.start() if mark else len(text)].strip()
        if part == "Response":
            yield "user", "\n\n".join(filter(None, (said["Instruction"], said.get("Input"))))
            yield "assistant", said["Response"]
            said.clear()
        part, begin = name or "", mark.end() if mark else len(text)


def _insts(text: str) -> Iterator[tuple[str, str]]:
    for piece in text.split("[INST]")[1:]:
        asked, is_answered, answer = piece.partition("[/INST]")
        if is_answered:
            system = _SYS.match(asked)
            if system:
                yield "system", system[1].strip()
            yield "user", asked[system.end() if system else 0:].strip()
            yield "assistant", answer.split("</s>", 1)[0].rstrip().removesuffix("<s>").strip()


def conversations_of_text(text: str) -> list[str]:
    """A text file's conversations: `<|endoftext|>` after a turn's end parts them, a blank line before a question, and a
    system turn that follows an answer; in the forms of Llama 3 and Gemma, the mark with which a text begins, and in
    Alpaca's each instruction.
    """
    form = looks_like_chat(text)
    if form in _BEGINS:
        return [one for one in text.split(_BEGINS[form]) if one.strip()]
    if form == "alpaca text":
        above = "|".join(filter(None, (r"Below is an instruction[^\n]*", re.escape(text.partition("###")[0].strip()))))
        parted = re.split(rf"^(?:(?:{above})\s*)?### ?Instruction ?:", text.strip(), flags=re.MULTILINE)
        return [f"### Instruction:{one}" for one in parted[1:]]
    if form == "human assistant text":
        return _named_conversations(text)
    if form not in ("chatml", "phi-3"):
        return [text]
    is_chatml = form == "chatml"
    end = r"<\|im_end\|>" if is_chatml else r"<\|end\|>"
    turn = r"<\|im_start\|>{}" if is_chatml else rf"(?={_PHI3_ROLES})<\|{{}}"
    start, system = turn.format(""), turn.format(r"\s*system")
    asks, speaks = turn.format(r"(?!\s*assistant)"), turn.format(r"(?!\s*system)")
    parted = re.split(rf"(?<=\|>)[ \t]*(?:\r?\n)*<\|endoftext\|>\s*(?={start})"
                      rf"|(?<=\|>)[ \t]*\r?\n[ \t]*\r?\n\s*(?={asks})|(?<=\|>)\s*(?={system})", text)
    whole, before = [], ""
    for one in parted:
        before += one
        if re.search(speaks, one):  # a system turn by itself belongs to what follows
            whole.append(before)
            before = ""
    return [one for one in [*whole, before] if re.search(start, one) and (re.search(end, one) or len(parted) == 1)]


def _named_conversations(text: str) -> list[str]:
    """Those between blank lines; where a blank line stands before answers too, it parts turns, and nothing more."""
    if re.search(rf"\n[ \t]*\r?\n{_ANSWERS}", text):
        return [text]
    whole, before = [], ""
    for one in re.split(rf"\n[ \t]*\r?\n(?={_ASKS})", text):
        before += f"{one}\n\n"
        if re.search(rf"^{_ANSWERS}", one, re.MULTILINE):  # what asks by itself belongs to what follows
            whole.append(before)
            before = ""
    return [*whole, before] if before else whole
