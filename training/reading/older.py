"""Text that is no Unicode: in which of the older encodings its letters were written, and a word of it to look at."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

# By Python's names; those of other scripts than Latin are told apart by charset_normalizer.
_FOREIGN = {"cp932": "Shift JIS (Japanese)", "euc_jp": "EUC-JP (Japanese)", "gb18030": "GBK (Chinese)",
            "big5": "Big5 (Chinese)", "cp949": "EUC-KR (Korean)", "cp1251": "Windows-1251 (Cyrillic)",
            "koi8_r": "KOI8-R (Cyrillic)", "cp1253": "Windows-1253 (Greek)", "cp1255": "Windows-1255 (Hebrew)",
            "cp1256": "Windows-1256 (Arabic)", "cp874": "Windows-874 (Thai)"}
_LATIN = {"cp1252": "Windows-1252 (Western European)", "cp1250": "Windows-1250 (Central European)",
          "cp1254": "Windows-1254 (Turkish)"}
NAMES = {**_FOREIGN, **_LATIN}
SAMPLE = 65536
CHUNK = 1024**2
ENOUGH = 4096
# Letters of other scripts stand beside each other; accented ones of Latin, between plain ones.
_RUNS = re.compile(rb"[\x80-\xff]{3,}")
_PLAIN = bytes(range(128))
_RUN_SHARE = 0.5
# What others look like as Windows-1252: Polish and Slovak have signs inside words; Czech, Hungarian, Croatian, Romanian
# and Turkish two letters that no language of the West has both.
_INNER_SIGN = re.compile(r"[^\W\d_][¹³¿¾º£¥¯ª][^\W\d_]")
_BOTH_LETTERS = {"øì": "cp1250", "õû": "cp1250", "ðè": "cp1250", "þã": "cp1250", "çý": "cp1254"}
_WORD = re.compile(r"[^\W\d_]*[^\W\d_\x00-\x7f][^\W\d_]*")
_LONGEST_WORD = 20


def older_encoding(path: Path) -> str:
    """Python's name of the likeliest one in which every byte of the file is something; empty where none is."""
    sample = _beyond_ascii(path)
    return next((one for one in _candidates(sample) if _fits(path, one)), "")


def word_of(path: Path, encoding: str) -> str:
    """A word of the file by whose letters a person sees whether they are right."""
    words = _WORD.findall(_beyond_ascii(path).decode(encoding, "ignore"))
    return max(words[:100], key=lambda word: len(word) <= _LONGEST_WORD and len(word), default="")[:_LONGEST_WORD]


def _beyond_ascii(path: Path) -> bytes:
    """The first lines of the file that aren't ASCII."""
    lines: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(CHUNK), b""):
            if not line.isascii():
                lines.append(line[:SAMPLE])
                size += len(lines[-1])
            if size > SAMPLE:
                break
    return b"".join(lines)


def _candidates(sample: bytes) -> Iterator[str]:
    beyond = len(sample.translate(None, _PLAIN))
    if sum(map(len, _RUNS.findall(sample))) >= _RUN_SHARE * beyond:
        yield from _foreign(sample)
    text = sample.decode("cp1252", "ignore")
    if _INNER_SIGN.search(text):
        yield "cp1250"
    yield from (kind for both, kind in _BOTH_LETTERS.items() if all(letter in text for letter in both))
    yield from _LATIN


def _foreign(sample: bytes) -> Iterator[str]:
    """Those of other scripts, the likeliest first; of equally likely ones, the more usual."""
    from charset_normalizer import from_bytes

    often = sample * max(1, ENOUGH // len(sample))  # it weighs how often a letter comes
    found = sorted(from_bytes(often, cp_isolation=list(_FOREIGN)),
                   key=lambda match: (match.chaos - match.coherence, list(_FOREIGN).index(match.encoding)))
    yield from (match.encoding for match in found)


def _fits(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True
