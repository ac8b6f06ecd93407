"""Adapters from the terminal: list, check, convert, merge; publish, find, fetch."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.check import Verdict, check, demand
from adapters.files import CONFIG
from adapters.hub_terminal import add_commands
from adapters.library import Library, as_plain
from phi3.machine import path_of, studio_home, this_machine
from phi3.models import BaseFacts, base_facts, chosen_base
from phi3.terminal import status_of

if TYPE_CHECKING:
    from adapters.formats import Lora


def main(arguments: list[str] | None = None) -> int:
    """Parse and do; 0 when done, 2 with one sentence on stderr where the user can mend it."""
    asked = _parser().parse_args(arguments)
    return status_of(lambda: asked.do(asked))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m adapters", description="Keep, check, convert and share adapters.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the adapters on this machine")
    listing.add_argument("--json", action="store_true", help="one object per line")
    listing.set_defaults(do=_list)
    look = commands.add_parser("check", help="is it safe, does it fit the base, does it do anything")
    _add_what(look, "a name, as `list` shows it, or a folder")
    look.add_argument("--no-probe", action="store_true", help="don't load the base to see whether its logits move")
    look.set_defaults(do=_check)
    convert = commands.add_parser("convert", help="write an adapter in another form")
    _add_what(convert, "a name, a folder, or a checkpoint of loralib (.pt or .safetensors)")
    convert.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    convert.add_argument("--to", required=True, choices=("peft", "split", "loralib"),
                         help="peft: on Phi-3's fused layers; split: on q_proj and so on; loralib: its state dict")
    convert.add_argument("--alpha", type=float, help="the lora_alpha of a loralib checkpoint, which doesn't hold it")
    convert.add_argument("--enable", default="", metavar="NAMES",
                         help="the parts that its MergedLinear layers have switched on: q_proj,v_proj")
    convert.set_defaults(do=_convert)
    merge = commands.add_parser("merge", help="write base and adapter as one model")
    _add_what(merge, "a name, or a folder")
    merge.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    merge.add_argument("--precision", choices=("bf16", "fp32"), help="unset: fp32 where the base is, else bf16")
    merge.set_defaults(do=_merge)
    add_commands(commands)
    return parser


def _add_what(command: argparse.ArgumentParser, help: str) -> None:
    command.add_argument("what", metavar="WHAT", help=help)
    command.add_argument("--base", help="the base that it is for (default: this machine's base)")
    command.add_argument("--json", action="store_true", help="print one object")


def _list(asked: argparse.Namespace) -> int:
    for adapter in Library(studio_home()).all():
        base = adapter.base or "a base that it doesn't name"
        print(json.dumps(as_plain(adapter), ensure_ascii=False) if asked.json else
              f"{adapter.name}  for {base}{'  (ships with the app)' if adapter.shipped else ''}")
    return 0


def _check(asked: argparse.Namespace) -> int:
    facts = _facts(asked)
    folder = _folder(asked.what)
    verdict = check(folder, facts)
    if verdict.ok and not asked.no_probe:
        verdict = check(folder, facts, _loaded(facts))
    if asked.json:
        print(json.dumps(verdict.as_json()))
    if not verdict.ok:
        raise ValueError(verdict.verdict)
    if not asked.json:
        print("\n".join(_in_words(verdict)))
    return 0


def _in_words(verdict: Verdict) -> list[str]:
    """The verdict as one line, a table, and what else should be known."""
    width = max(len(name) for name, _ in verdict.rows)
    return [verdict.verdict, *(f"  {name:{width}}  {told}" for name, told in verdict.rows), *verdict.warnings]


def _convert(asked: argparse.Namespace) -> int:
    facts = _facts(asked)
    from adapters import formats
    from adapters.layers import shape_of
    from adapters.loralib_files import checkpoint_of, write_checkpoint

    shape = shape_of(facts.config)
    lora, provenance, notes = _read(asked, facts)
    if asked.to == "loralib":
        write_checkpoint(checkpoint_of(lora, shape), asked.out)
    else:
        lora = (formats.fused if asked.to == "peft" else formats.split)(lora, shape)
        formats.write_peft(lora, asked.out, shape, provenance)
    told = {"folder": str(asked.out), "format": asked.to, "base": lora.settings.base, "layers": len(lora.pairs),
            "warnings": notes}
    print(json.dumps(told) if asked.json else "\n".join(
        [f"{asked.what} is in {asked.out} as {asked.to}.", *notes]))
    return 0


def _merge(asked: argparse.Namespace) -> int:
    facts = _facts(asked)
    folder = _folder(asked.what)
    verdict = demand(folder, facts)
    from adapters.formats import read_peft
    from adapters.layers import shape_of
    from adapters.merge import merge

    made = merge(read_peft(folder, shape_of(facts.config)), facts, asked.out, asked.precision)
    told = {"folder": str(made.folder), "precision": made.precision, "shards": list(made.shards),
            "layers": made.layers, "base": facts.id, "warnings": list(verdict.warnings)}
    print(json.dumps(told) if asked.json else "\n".join(
        [f"{asked.what} is merged into {facts.id}, in {made.precision}: {made.folder}.", *verdict.warnings]))
    return 0


def _read(asked: argparse.Namespace, facts: BaseFacts) -> tuple[Lora, dict[str, Any], list[str]]:
    """The adapter or checkpoint that was named, how it came to be where somebody wrote that down, and notes."""
    from adapters.formats import read_peft
    from adapters.layers import shape_of
    from adapters.loralib_files import lora_of, read_checkpoint

    shape = shape_of(facts.config)
    path = path_of(asked.what)
    is_there = path.is_file() or (path.is_dir() and not (path / CONFIG).exists())
    if is_there and not Library(studio_home()).has(asked.what):
        checkpoint = read_checkpoint(path, shape, asked.alpha, tuple(filter(None, asked.enable.split(","))))
        notes = [] if checkpoint.says_alpha else ["It doesn't hold its lora_alpha, so loralib's own default of 1 was "
                                                  "taken. If it was trained with another, give it: --alpha 16."]
        return lora_of(checkpoint, facts.id, facts.revision), {}, notes
    if asked.alpha is not None or asked.enable:
        raise ValueError(f"{asked.what} is an adapter in PEFT's format, which says its alpha and layers itself. Leave "
                         "out --alpha and --enable.")
    folder = _folder(asked.what)
    verdict = demand(folder, facts)
    provenance = next((one.provenance for one in Library(studio_home()).all() if one.folder == folder), {})
    return read_peft(folder, shape), provenance, list(verdict.warnings)


def _folder(what: str) -> Path:
    """The folder of a name in the library, or one on this disk; ValueError names the adapters there are."""
    library = Library(studio_home())
    if library.has(what) or not path_of(what).is_dir():
        return library.get(what).folder
    return path_of(what)


def _facts(asked: argparse.Namespace) -> BaseFacts:
    return base_facts(asked.base or chosen_base(this_machine().kind != "cpu"))


def _loaded(facts: BaseFacts) -> Any:
    from phi3.room import base_for_answers

    return base_for_answers(facts.id)


if __name__ == "__main__":
    sys.exit(main())
