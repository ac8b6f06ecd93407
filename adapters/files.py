"""An adapter's two files, read within bounds: nothing else in its folder is opened, and nothing it names is run."""

import hashlib
import json
import math
import os
import shutil
import stat
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3.machine import MEBIBYTE
from phi3.models import ADAPTER_CONFIG as CONFIG
from phi3.models import ADAPTER_WEIGHTS as WEIGHTS

# The only files of an adapter that are ever fetched, opened or copied.
WANTED = (CONFIG, WEIGHTS)
# What PEFT wrote the weights to before there were safetensors.
UNSAFE_WEIGHTS = "adapter_model.bin"
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

MOST_FILES = 1_000
MOST_BYTES = {CONFIG: MEBIBYTE, WEIGHTS: 8 * 1024 * MEBIBYTE}
MOST_HEADER_BYTES = 4 * MEBIBYTE
MOST_TENSORS = 4_096
# safetensors' own names for the types that weights are kept in, with their bytes.
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Entry:
    """One tensor as the header of a safetensors file declares it; its bytes begin at `start` in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int = 0

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes they take."""
        return self.count * DTYPES[self.dtype]


def wanted(sizes: Mapping[str, int]) -> list[str]:
    """The files to fetch out of a listing of names and bytes; ValueError where it holds no adapter to be fetched."""
    if len(sizes) > MOST_FILES:
        raise ValueError(f"It holds {len(sizes):,} files; an adapter with more than {MOST_FILES:,} is not looked at.")
    if WEIGHTS not in sizes:
        raise ValueError(_nothing_safe(sizes))
    if CONFIG not in sizes:
        raise ValueError(f"It holds no {CONFIG}, so it is no adapter. Save it with PEFT's save_pretrained.")
    for name in WANTED:
        if not 0 < sizes[name] <= MOST_BYTES[name]:
            raise ValueError(f"{name} has {sizes[name]:,} bytes; between 1 and {MOST_BYTES[name]:,} are read.")
    return list(WANTED)


def found(folder: Path) -> dict[str, int]:
    """Names of what stands in a folder itself, with the bytes of the two wanted files, which must be plain files."""
    sizes: dict[str, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(sizes) > MOST_FILES:
                    break
                sizes[entry.name] = _plain_file(folder, entry.name).st_size if entry.name in WANTED else 0
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"There is no folder {folder}.") from None
    except OSError as problem:
        raise ValueError(f"{folder} can't be read: {problem.strerror}.") from None
    return sizes


def left_aside(names: Iterable[str]) -> list[str]:
    """Files that could hold code and are therefore not opened, by name."""
    return sorted(name for name in names if name.lower().endswith((*PICKLED, ".py")))


def printable(name: Any, most: int = 60) -> str:
    """A name that a stranger chose, as it can stand in a sentence: short, on one line, in ASCII."""
    return ascii(str(name))[1:-1][:most]


def sha256_of(path: Path) -> str:
    """The file's hash, without reading the whole of it at once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_object(path: Path, most_bytes: int = MEBIBYTE) -> dict[str, Any]:
    """A JSON object out of a file that nobody vouches for; ValueError says what is wrong with it."""
    try:
        with path.open("rb") as file:
            text = file.read(most_bytes + 1)
    except OSError as problem:
        raise ValueError(f"{path.name} can't be read: {problem.strerror}.") from None
    if len(text) > most_bytes:
        raise ValueError(f"{path.name} has more than {most_bytes:,} bytes, which is no {path.name}.")
    return as_object(text, path.name)


def as_object(text: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `text`; ValueError where it is none, or names a key twice."""
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"{name} is no JSON that can be read: {str(problem)[:200]}.") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds a JSON {type(value).__name__}, where an object belongs.")
    return value


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of a safetensors file by name, checked against the file's size, without reading any weight.

    The format: 8 bytes with the header's length N (little-endian), N bytes of JSON that give dtype, shape and
    data_offsets for each tensor, then the data (https://huggingface.co/docs/safetensors, "Format").
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ValueError(f"{path.name} is cut off: its header should have {length:,} bytes, and the whole file "
                                 f"has {size:,}. Fetch or save it again.")
            if length > MOST_HEADER_BYTES:
                raise ValueError(f"{path.name} declares a header of {length:,} bytes; at most {MOST_HEADER_BYTES:,} "
                                 "are read.")
            declared = as_object(file.read(length), f"the header of {path.name}")
    except OSError as problem:
        raise ValueError(f"{path.name} can't be read: {problem.strerror}.") from None
    declared.pop("__metadata__", None)
    return _entries(declared, 8 + length, size, path.name)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """safetensors' own reader of a file whose header was read; what it finds amiss beyond that is a ValueError too."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as weights:
            yield weights
    except (SafetensorError, OSError) as problem:
        raise ValueError(f"{path.name} can't be read: {printable(problem, 200)}. Fetch or save it again.") from None


@contextmanager
def arriving(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the name of `folder` when all went well; else nothing is left behind."""
    if not folder.name:
        raise ValueError(f"{folder} is the folder that you are in. Name a folder that is new or empty, such as "
                         "./adapter.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already. Name a folder that is new or empty.")
    unfinished = folder.with_name(f".{folder.name}.arriving-{_mine()}")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except OSError as problem:
        raise ValueError(f"{folder} can't be written: {problem.strerror or problem}.") from problem
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """The text in place of what the file says, whole or not at all."""
    with arriving_at(path) as arriving:
        arriving.write_text(text, encoding="utf-8")


@contextmanager
def arriving_at(path: Path) -> Iterator[Path]:
    """A place of one's own to write to; what is written there takes the file's place when all went well."""
    arriving = path.with_name(f".{path.name}.{_mine()}")
    try:
        yield arriving
        arriving.replace(path)
    except BaseException:
        arriving.unlink(missing_ok=True)
        raise


def _mine() -> str:
    """What no other process and no other thread writes under."""
    return f"{os.getpid()}-{threading.get_ident()}"


def flush(path: Path) -> None:
    """A file's bytes, or a folder's names, to the disk itself: a power cut can't leave a name without its content."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def moved(written: Path, place: Path) -> None:
    """A folder that is written takes its name, with every file of it on the disk before that."""
    for path in written.rglob("*"):
        flush(path)
    flush(written)
    written.rename(place)
    flush(place.parent)


def _entries(declared: Mapping[str, Any], begin: int, size: int, name: str) -> dict[str, Entry]:
    if len(declared) > MOST_TENSORS:
        raise ValueError(f"{name} declares {len(declared):,} tensors; at most {MOST_TENSORS:,} are read.")
    entries = {key: _entry(printable(key, 120), about, begin, name) for key, about in declared.items()}
    end = begin
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.bytes)):
        if entry.start != end:
            raise ValueError(f"{name} is damaged: its tensors overlap or leave gaps. Fetch or save it again.")
        end += entry.bytes
    if end != size:
        raise ValueError(f"{name} is damaged: its header tells of {end - begin:,} bytes of weights, and there are "
                         f"{size - begin:,}. Fetch or save it again.")
    return entries


def _entry(key: str, about: Any, begin: int, name: str) -> Entry:
    try:
        dtype, shape, (first, last) = about["dtype"], tuple(about["shape"]), about["data_offsets"]
        plain = all(type(number) is int and 0 <= number < 2**48 for number in (*shape, first, last))
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{name} is damaged: its header says nothing usable of {key}.") from None
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{key} is kept as {str(dtype)[:20]}; only {', '.join(DTYPES)} are read. Save it in one of "
                         "these.")
    if not plain or len(shape) > 8 or last - first != math.prod(shape) * DTYPES[dtype]:
        raise ValueError(f"{name} is damaged: {key} is said to be {str(list(shape))[:80]}, which doesn't fit its "
                         "bytes. Fetch or save it again.")
    return Entry(dtype, shape, begin + first)


def _plain_file(folder: Path, name: str) -> os.stat_result:
    """The file's facts; ValueError where it is a link that leaves the folder, or no file at all."""
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name} is a link that leaves its folder, so it is not read. Put the file itself there.")
    try:
        facts = path.stat()
    except OSError as problem:
        raise ValueError(f"{name} can't be read: {problem.strerror}.") from None
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError(f"{name} is no file. Put the adapter's own file there.")
    return facts


def _nothing_safe(names: Collection[str]) -> str:
    within = sorted(name.removesuffix(f"/{WEIGHTS}") for name in names if name.endswith(f"/{WEIGHTS}"))
    if within:
        return (f"Its {WEIGHTS} is in a folder of its own, {printable(within[0])}, and only one at the top is fetched. "
                "Download that folder, and name it in the terminal, or publish it by itself.")
    if UNSAFE_WEIGHTS in names:
        return (f"It holds its weights only as {UNSAFE_WEIGHTS}, a pickle, which can run code when it is opened. Save "
                "it as safetensors, as PEFT's save_pretrained does.")
    return f"It holds no {WEIGHTS}, so it is no adapter in PEFT's format."


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise ValueError("a key stands in it twice")
    return whole
