"""The terminal's commands that reach the Hub: publish, find and fetch."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from adapters.card import LICENCES, Card, Example, Story, card_of
from adapters.check import CONVERTED, ready_folder
from adapters.files import CONFIG, read_object
from adapters.hub import Found, Hub, repository_name
from adapters.library import Adapter, Library, adapter_in, demand_base
from phi3.machine import path_of, studio_home, this_machine, writable_home
from phi3.models import base_facts, chosen_base

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXAMPLE_TOKENS = 160


def add_commands(commands: _SubParsersAction) -> None:
    """Add them to a parser; each may also be called as git's users would."""
    _add_publish(commands.add_parser("publish", aliases=["push"], help="send an adapter to the Hub"))
    find = commands.add_parser("find", aliases=["search"], help="adapters on the Hub that were made for the base")
    find.add_argument("text", nargs="?", default="", metavar="TEXT", help="what their names hold")
    find.set_defaults(do=_find)
    fetch = commands.add_parser("fetch", aliases=["pull"], help="take an adapter from the Hub, checked")
    fetch.add_argument("what", metavar="OWNER/NAME[@REVISION]", help="which one; a model page's address works too")
    fetch.add_argument("--name", default="", help="what it is called here (default: its name there)")
    fetch.add_argument("--update", action="store_true", help="replace what was fetched from there before")
    fetch.set_defaults(do=_fetch)
    for command in (find, fetch):
        command.add_argument("--base", help="the base that it is for (default: this machine's base)")
        command.add_argument("--json", action="store_true", help="print one object for each adapter")


def _add_publish(publish: argparse.ArgumentParser) -> None:
    publish.add_argument("what", metavar="WHAT", help="a name, as `list` shows it, or a folder")
    publish.add_argument("where", nargs="?", default="", metavar="OWNER/NAME",
                         help="under which name (default: yours, and the adapter's)")
    publish.add_argument("--private", action="store_true", help="for your eyes only")
    publish.add_argument("--licence", "--license", default="mit", help=f"{', '.join(LICENCES)}, or one's own name")
    publish.add_argument("--language", help="what it speaks, such as en")
    publish.add_argument("--prompt", action="append", default=[], metavar="TEXT",
                         help="show how base and adapter answer this; the card is public where the adapter is")
    publish.add_argument("--base", help="the base that answers the prompts (default: the adapter's)")
    publish.add_argument("--preview", action="store_true", help="print the card, and send nothing")
    publish.add_argument("--json", action="store_true", help="print one object")
    publish.set_defaults(do=_publish)


def _publish(asked: argparse.Namespace) -> int:
    from adapters.publish import Published, publishing

    adapter, hub = _adapter(asked.what), quiet_hub()
    if asked.preview:
        text = _card(asked, adapter, repository_name(asked.where or adapter.name, "you")).text
        print(json.dumps({"card": text}, ensure_ascii=False) if asked.json else text)
        return 0
    token = _required_token(hub)
    account = hub.account(token)
    repository = repository_name(asked.where or adapter.name, account.name)
    card = _card(asked, adapter, repository)
    for told in publishing(hub, adapter.folder, repository, token, card, asked.private):
        if isinstance(told, Published):
            shown = f"{told.repository} is at {told.address}, revision {told.revision[:12]}" + (
                "." if told.is_new else ", as it was already.") + f"\n\n{told.snippet}"
            print(json.dumps(asdict(told)) if asked.json else shown)
        elif not asked.json:
            print(told)
    return 0


def _find(asked: argparse.Namespace) -> int:
    hub, token = quiet_hub(), own_token()
    account = hub.account(token) if token else None
    found = hub.find(_base(asked), asked.text, token, account)
    if asked.json:
        print("".join(json.dumps(asdict(one)) + "\n" for one in found), end="")
    else:
        print("\n".join(map(_in_words, found)) or "There is none. Leave out the text to see all of them.")
    return 0


def _in_words(one: Found) -> str:
    marks = [*(["yours"] if one.mine else []), *(["private"] if one.private else []),
             *(["gated"] if one.gated else []), *([f"for {one.base}"] if one.for_a_sibling else []),
             *([f"rank {one.rank}"] if one.rank else []), *([f"{one.bytes / 1e6:.1f} MB"] if one.bytes else []),
             *([one.changed] if one.changed else [])]
    return f"{one.repository}  {one.downloads} downloads, {one.likes} likes  {', '.join(marks)}".rstrip()


def _fetch(asked: argparse.Namespace) -> int:
    from adapters.fetch import Wish, fetch

    wish = Wish.of(asked.what, name=asked.name, update=asked.update)
    got = fetch(quiet_hub(), wish, Library(writable_home()), base_facts(_base(asked)), own_token())
    told = {"name": got.adapter.name, "folder": str(got.adapter.folder), "base": got.adapter.base,
            "repository": wish.repository, "revision": got.revision, "newest": got.newest, "is_new": got.is_new,
            "warnings": list(got.warnings)}
    older = "" if got.newest == got.revision else f" The Hub has {got.newest[:12]}; --update takes it."
    print(json.dumps(told) if asked.json else "\n".join(
        [f"{wish.repository} is {'here now' if got.is_new else 'here already'} as {got.adapter.name}, at revision "
         f"{got.revision[:12]}.{older}", *got.warnings]))
    return 0


def _card(asked: argparse.Namespace, adapter: Adapter, repository: str) -> Card:
    demand_base(adapter)
    examples = _answered(asked, adapter) if asked.prompt else []
    return card_of(Story(repository, adapter.provenance, read_object(adapter.folder / CONFIG), asked.licence, examples,
                         asked.language, space=os.environ.get("SPACE_ID")))


def _answered(asked: argparse.Namespace, adapter: Adapter) -> Sequence[Example]:
    """The prompts, answered by the base and by the adapter."""
    from phi3.generate import Answerer, Lane, Sampling
    from phi3.room import base_for_answers

    facts, kept = base_facts(asked.base or adapter.base), studio_home() / CONVERTED
    answerer = Answerer(base_for_answers(facts.id), lambda folder: ready_folder(folder, facts, kept))
    sampling, examples = Sampling(max_new_tokens=EXAMPLE_TOKENS), []
    for prompt in asked.prompt:
        messages = ({"role": "user", "content": prompt},)
        *_, (base, own) = answerer.answer([Lane(messages, folder, sampling) for folder in (None, str(adapter.folder))])
        if own.end == "error" or base.end == "error":
            raise ValueError(f"{adapter.name} could not answer: {own.note or base.note}")
        examples.append(Example(prompt, base.text, own.text))
    return examples


def _adapter(what: str) -> Adapter:
    """The adapter of a name in the library, or in a folder of this disk."""
    library, folder = Library(studio_home()), path_of(what)
    return library.get(what) if library.has(what) or not folder.is_dir() else adapter_in(folder)


def _base(asked: argparse.Namespace) -> str:
    return asked.base or chosen_base(this_machine().kind != "cpu")


def quiet_hub() -> Hub:
    """The Hub, without the library's progress bars and notices between the lines."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    return Hub()


def own_token() -> str | None:
    """The token of this machine's `hf auth login`, or HF_TOKEN."""
    from huggingface_hub import get_token

    return get_token()


def _required_token(hub: Hub) -> str:
    token = own_token()
    if not token:
        raise ValueError(f"Nobody is signed in to the Hub here. Make a token with write permission at {hub.address}"
                         "/settings/tokens, and give it to `hf auth login` or put it into HF_TOKEN.")
    return token
