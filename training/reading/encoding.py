"""Which characters a text file's bytes stand for: UTF-8 with or without BOM, UTF-16, or an older encoding."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from training.reading.older import NAMES, older_encoding, word_of

SAMPLE = 65536
CHUNK = 1024**2
# A text of this share of control characters is none.
_BINARY_SHARE = 0.02
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b")) + b"\x7f"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NON_ASCII_LINES = 5000


@dataclass(frozen=True)
class Encoding:
    """Python's name of it; `whole` where every byte fits; `note` says what was guessed, in words."""

    name: str
    whole: bool = True
    note: str = ""

    @property
    def is_utf8(self) -> bool:
        """Whether a line's bytes are UTF-8 (its first line may begin with a BOM)."""
        return self.name == "utf-8-sig"

    @property
    def errors(self) -> str:
        """How Python's decoder marks what doesn't fit, so that the row it stands in can be named."""
        return "surrogateescape" if self.is_utf8 else "replace"


def encoding_of(path: Path, name: str) -> Encoding:
    """The file's encoding; ValueError where it is no text, or one in an encoding that isn't read here."""
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    marked = next((kind for mark, kind in _MARKS if start.startswith(mark)), None)
    if marked and marked != "utf-8-sig":
        return Encoding(marked)
    is_binary = len(start.translate(None, _CONTROLS)) < len(start) * (1 - _BINARY_SHARE)
    wide = _without_mark(start) or (_wide_text(start) if is_binary else "")
    if wide:
        return Encoding(wide, note=f"{name} was read as UTF-16.")
    if is_binary:
        raise ValueError(f"{name} is a binary file. Save the conversations as JSONL, JSON, CSV, Parquet or xlsx.")
    wrong = _first_wrong_byte(path)
    if wrong is None:
        return Encoding("utf-8-sig")
    if marked or _mostly_utf8(path):
        return Encoding("utf-8-sig", whole=False)
    older = older_encoding(path)
    if not older:
        raise ValueError(f"{name} is not UTF-8 text (byte {wrong}), nor in an older encoding that is known here. Save "
                         "it in UTF-8.")
    return Encoding(older, note=f"{name} is not UTF-8 and was read as {NAMES[older]}. Look whether its letters are "
                                f"right, as in {word_of(path, older)!r}; if they aren't, save it in UTF-8.")


def text_of(path: Path, name: str) -> tuple[str, Encoding]:
    """The whole file as text; ValueError where a byte doesn't fit."""
    encoding = encoding_of(path, name)
    if not encoding.whole:
        raise ValueError(f"{name} is not whole UTF-8 text (byte {_first_wrong_byte(path)} is none). Was it damaged?")
    return path.read_bytes().decode(encoding.name, encoding.errors), encoding


def _without_mark(start: bytes) -> str:
    """UTF-16 that doesn't say so: in most scripts every other byte of it is zero."""
    if len(start) < 4:
        return ""
    sample = start[:4096]
    even, odd = sample[::2].count(0) / len(sample[::2]), sample[1::2].count(0) / len(sample[1::2])
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else ""


def _wide_text(start: bytes) -> str:
    """UTF-16 that doesn't say so, in a script whose letters have no zero in them: as such it can all be printed."""
    for kind in ("utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(kind)().decode(start[:4096])
        except UnicodeDecodeError:
            continue
        if "\n" in text and all(letter.isprintable() or letter.isspace() for letter in text):
            return kind
    return ""


def _first_wrong_byte(path: Path) -> int | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    place = 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as problem:
                return place - held + problem.start
            if not chunk:
                return None
            place += len(chunk)


def _mostly_utf8(path: Path) -> bool:
    """Whether more of the lines beyond ASCII are UTF-8 than not: then the others are damaged, not in Windows-1252."""
    right = wrong = 0
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(CHUNK), b""):
            if not line.isascii():
                try:
                    line.decode("utf-8")
                    right += 1
                except UnicodeDecodeError:
                    wrong += 1
                if right + wrong > _NON_ASCII_LINES:
                    break
    return right > wrong
