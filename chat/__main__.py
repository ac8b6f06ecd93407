"""Ask the base and adapters the same question from the terminal, or talk with them side by side."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.check import CONVERTED, about, ready_folder
from adapters.fetch import Wish, bring, is_on_a_hub
from adapters.hub_terminal import own_token, quiet_hub
from adapters.library import Adapter, Library, adapter_in, in_use
from chat.conversation import BASE, Asking
from chat.drawing import LIMITS, SAMPLING_LABELS, checked_strength, in_range
from chat.session import Session, converse
from chat.speakers import Conversation, Speaker, check_count, note_of, strength_in
from phi3.lane import Answer, Sampling
from phi3.machine import path_of, studio_home, this_machine
from phi3.models import BaseFacts, base_facts, chosen_base
from phi3.terminal import status_of

if TYPE_CHECKING:
    from phi3.generate import Answerer


def main(arguments: list[str] | None = None) -> int:
    """Parse and answer; 0 when done, 2 with one sentence on stderr where the user can mend it."""
    asked = _parser().parse_args(arguments)
    return status_of(lambda: _talk(asked) if asked.prompt is None else _ask(asked))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chat", description="Up to eight answers to each question.")
    parser.add_argument("prompt", nargs="?", help="what to ask; left out, you can talk, and /help says how")
    parser.add_argument("--with", dest="lanes", action="append", metavar="base|NAME[:STRENGTH]|FOLDER|OWNER/NAME",
                        help="who answers, from the Hub too; repeat it for more lanes (default: base)")
    parser.add_argument("--system", default="", help="a system message for all lanes")
    parser.add_argument("--base", help="base model (default: this machine's)")
    usual = Sampling()
    for name, (*_, kind) in LIMITS.items():
        default = vars(usual)[name]
        parser.add_argument(f"--{name}", type=kind, default=default,
                            help=f"{SAMPLING_LABELS[name][1]} (default {default:g})")
    parser.add_argument("--stop", dest="stop_texts", action="append", default=[], metavar="TEXT",
                        help="an answer ends before this text; repeat it for more")
    parser.add_argument("--strength", type=float, default=1.0,
                        help="of the adapters whose name says none, from 0 to 2 (default 1)")
    parser.add_argument("--json", action="store_true", help="print one object")
    return parser


def _ask(asked: argparse.Namespace) -> int:
    if not asked.prompt.strip():
        raise ValueError("The prompt is empty. Write a question.")
    conversation = _begun(asked)
    answers = _answers(asked, conversation)
    if asked.json:
        lanes = [{"adapter": talk.adapter, "strength": talk.strength, "text": answer.text,
                  "tokens": answer.tokens, "seconds": round(answer.seconds, 4), "end": answer.end,
                  **({"error": answer.note} if answer.end == "error" else {})}
                 for talk, answer in zip(conversation.talks, answers, strict=True)]
        print(json.dumps({"lanes": lanes}, ensure_ascii=False))
    else:
        print("\n\n".join(map(_in_words, conversation.labels, answers)))
    return _verdict([talk.adapter for talk in conversation.talks], answers)


def _talk(asked: argparse.Namespace) -> int:
    """A chat that goes on until its user ends it."""
    if asked.json:
        raise ValueError("--json prints the answers to one question. Write the question too.")
    conversation = _begun(asked)
    print("Loading the base …", file=sys.stderr, flush=True)
    session = Session(conversation, _answerer(_facts(asked)), lambda name: _speaker(asked, name))
    print("Write a question, or /help.", file=sys.stderr, flush=True)
    return converse(session)


def _begun(asked: argparse.Namespace) -> Conversation:
    """The lanes, nothing said; ValueError where a name or a value is none."""
    names = asked.lanes or [BASE]
    check_count(names)
    checked_strength(asked.strength)
    for name in LIMITS:
        in_range(name, vars(asked)[name], name)
    asking = Asking(asked.system, _sampling(asked))
    return Conversation(asking=asking).among([_speaker(asked, name) for name in names])


def _facts(asked: argparse.Namespace) -> BaseFacts:
    return base_facts(asked.base or chosen_base(this_machine().kind != "cpu"))


def _speaker(asked: argparse.Namespace, written: str) -> Speaker:
    """The base, or an adapter: NAME, FOLDER, OWNER/NAME or its page, and with :STRENGTH behind it."""
    name, strength = (written, None) if path_of(written).is_dir() else strength_in(written)
    if name == BASE:
        return Speaker(BASE)
    facts = _facts(asked)
    adapter = _adapter(Library(studio_home()), name, facts)
    for note in about(adapter.folder, facts):
        print(f"{name}: {note}", file=sys.stderr)
    return Speaker(name, str(adapter.folder), asked.strength if strength is None else strength)


def _adapter(library: Library, name: str, facts: BaseFacts) -> Adapter:
    """An adapter of the library, a folder, or one of the Hub's, fetched where it isn't here yet."""
    if not library.has(name) and path_of(name).is_dir():
        return adapter_in(path_of(name))
    return in_use(bring(quiet_hub(), Wish.of(name), library, facts, own_token()) if is_on_a_hub(name) else
                  library.get(name))


def _answers(asked: argparse.Namespace, conversation: Conversation) -> Sequence[Answer]:
    *_, last = _answerer(_facts(asked)).answer(conversation.lanes(asked.prompt))
    return last


def _answerer(facts: BaseFacts) -> Answerer:
    from phi3.generate import Answerer
    from phi3.room import base_for_answers

    kept = studio_home() / CONVERTED
    return Answerer(base_for_answers(facts.id), lambda folder: ready_folder(folder, facts, kept))


def _sampling(asked: argparse.Namespace) -> Sampling:
    drawn = {name: vars(asked)[name] for name in LIMITS}
    return Sampling(**drawn, stop_texts=tuple(filter(None, asked.stop_texts)))


def _in_words(name: str, answer: Answer) -> str:
    speed = f"  ({answer.tokens} tokens, {answer.tokens / answer.seconds:.0f} a second)" if answer.seconds else ""
    return "\n".join(filter(None, (name + speed, answer.text, note_of(answer))))


def _verdict(names: Sequence[str], answers: Sequence[Answer]) -> int:
    for name, answer in zip(names, answers, strict=True):
        if answer.end == "error":
            raise ValueError(f"{name}: {answer.note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
