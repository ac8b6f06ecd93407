"""The report of a proof: report.json, which is its memory, and report.md, which people read; both written whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

JSON, MARKDOWN = "report.json", "report.md"
Values = dict[str, Any]


class Report:
    """What all calls have found so far. `parts` stand in their order of worth, each once."""

    def __init__(self, folder: Path, names: Sequence[str], rehearsal: bool) -> None:
        self.folder, self._names, self._rehearsal = folder, list(names), rehearsal
        self._calls: list[Values] = []
        self._parts: dict[str, Values] = {}

    def take_up(self) -> None:
        """Go on with the report that is in the folder; ValueError where that is of another kind of proof."""
        path = self.folder / JSON
        if not path.is_file():
            return
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["rehearsal"] is not self._rehearsal:
            kinds = {True: "a rehearsal", False: "a proof at full size"}
            raise ValueError(f"{path} is of {kinds[held['rehearsal']]}, and this is {kinds[self._rehearsal]}. Give "
                             "another --out.")
        self._calls = held["calls"]
        self._parts = {part["name"]: part for part in held["parts"]}

    def begin(self, call: Values) -> None:
        """This call's machine and versions."""
        self._calls.append(call)
        self.write()

    def is_done(self, name: str) -> bool:
        """Whether this part needs nothing more."""
        return self._parts.get(name, {}).get("status") == "done"

    def put(self, name: str, status: str, **values: Any) -> None:
        """What is known of a part now; written at once."""
        self._parts[name] = {"name": name, "status": status, "call": len(self._calls) - 1, **values}
        self.write()

    def parts(self) -> list[Values]:
        """In their order; those that nobody has come to are not run."""
        unknown = {"status": "not run", "reason": "it was not asked for", "figures": []}
        known = [name for name in self._parts if name not in self._names]
        return [self._parts.get(name, {"name": name, **unknown}) for name in (*self._names, *known)]

    def write(self) -> None:
        """Both files, each whole or not at all."""
        whole = {**(self._calls[-1] if self._calls else {}), "rehearsal": self._rehearsal, "calls": self._calls,
                 "parts": self.parts()}
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((JSON, json.dumps(whole, indent=1, ensure_ascii=False) + "\n"), (MARKDOWN, markdown(whole))):
            arriving = self.folder / f".{name}"
            arriving.write_text(text, encoding="utf-8")
            os.replace(arriving, self.folder / name)


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report for a reader: what ran where, and each part's figures beside their goals and checks."""
    return "\n".join(_lines(report)) + "\n"


def is_well(parts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no part failed, and no check did."""
    return not any(part["status"] == "failed" or _unsound(part) for part in parts)


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield "# Phi-3 on a card: the rehearsal" if report["rehearsal"] else "# Phi-3 on a card: the proof"
    yield ""
    if report["rehearsal"]:
        yield ("A Phi-3 of the same shape at about a hundredth of the size, a quarter of the lengths and two steps: it "
               "shows that every part runs. Goals are named and not judged.")
        yield ""
    for number, call in enumerate(report["calls"], 1):
        yield f"Call {number}, {call['date']}: {_about(call)}"
        yield ""
    yield from table(("part", "status", "seconds", "figures", "goals reached", "checks passed"),
                     [(part["name"], part["status"], part.get("seconds", ""), len(part["figures"]),
                       _share(part, "reached"), _share(part, "passed")) for part in report["parts"]])
    for part in report["parts"]:
        yield from _part(part)


def _about(call: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in call["versions"].items())
    rates = "; ".join(f"{one['name']} {one['value']} {one['unit']}".strip() for one in call["rates"]) or "no rates"
    return (f"{call['machine']}; driver {call['driver'] or 'none'}; {call['minutes']:g} minutes. {rates}. "
            f"Python {call['python']}, {versions}.")


def _part(part: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {part['name']}: {part['status']}"
    if part.get("reason"):
        yield ""
        yield part["reason"]
    for left in part.get("left_out", ()):
        yield ""
        yield f"Not run, {left['section']}: {left['reason']}."
    if part["figures"]:
        yield ""
        yield from table(("figure", "value", "beside it", "goal", "check"), list(map(_row, part["figures"])))
    for failure in part.get("tracebacks", ()):
        yield ""
        yield f"{failure['section']} failed:"
        yield ""
        yield f"```\n{failure['traceback'].strip()}\n```"


def _row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    said = {None: "", True: ": reached", False: ": **missed**"}[figure["reached"]]
    held = {None: "", True: ": passed", False: ": **failed**"}[figure["passed"]]
    value = f"{figure['value']} {figure['unit']}".strip()
    return figure["name"], value, figure["note"], f"{figure['goal']}{said}", f"{figure['check']}{held}"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    for row in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(str(cell).replace('|', '/').replace(chr(10), ' ') for cell in row)} |"


def _share(part: Mapping[str, Any], what: str) -> str:
    judged = [figure[what] for figure in part["figures"] if figure[what] is not None]
    return f"{sum(judged)} of {len(judged)}" if judged else ""


def _unsound(part: Mapping[str, Any]) -> bool:
    return any(figure["passed"] is False for figure in part["figures"])
