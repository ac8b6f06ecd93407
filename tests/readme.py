"""`python -m tests.readme` rewrites what README.md and CONTRIBUTING.md take from the code: trees, table of settings."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

from tests.files import ROOT, project_files
from training.config import SETTINGS, Setting

README, GUIDE = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
ORDER = ("app.py", "tabs", "training", "chat", "adapters", "phi3", "benchmarks", "tests")
# Folders that the tree names without their files, and what it says of them where no __init__.py does.
CLOSED = {"tests": "", ".github": "workflows, issue forms, the upload to a Space", ".ci": "what must pass"}
GROUPS = {"run": "What is trained", "main": "The few that matter", "training": "TRL's `SFTConfig`",
          "lora": "PEFT's `LoraConfig`"}


def parts_of(file: Path) -> dict[str, str]:
    """What one of the two files takes from the code, by the names of its markers."""
    if file == GUIDE:
        return {"files": f"```\n{tree(project_files())}\n```"}
    return {"folders": f"```\n{tree(project_files(), is_whole=False)}\n```",
            "settings": settings_table(SETTINGS.values())}


def regenerated(file: Path, text: str) -> str:
    """The file's text with its generated parts made anew; ValueError where a marker is missing."""
    for name, content in parts_of(file).items():
        marked = re.compile(f"(<!-- {name} -->\n).*(<!-- /{name} -->)", re.DOTALL)
        if not marked.search(text):
            raise ValueError(f"{file.name} lacks <!-- {name} --> or <!-- /{name} -->. Put both markers back.")
        text = marked.sub(lambda found, made=content: f"{found[1]}{made}\n{found[2]}", text)
    return text


def phrase(path: Path) -> str:
    """The first line of a Python file's docstring, without its full stop; empty where there is none."""
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return about.split("\n")[0].removesuffix(".")


def tree(files: Iterable[Path], is_whole: bool = True) -> str:
    """The code as an indented tree, a phrase beside each Python file and each folder that holds one; where it isn't
    whole, of the top level alone.
    """
    shown: dict[Path, str] = {}
    for path in sorted((path.relative_to(ROOT) for path in files), key=_place):
        closed = next((above for above in path.parents if above.as_posix() in CLOSED), None)
        for folder in reversed(path.parents[:-1]):
            if (closed or path.suffix == ".py") and (closed is None or folder in (closed, *closed.parents)):
                shown.setdefault(folder, _folder_phrase(folder))
        if closed is None and path.suffix == ".py" and path.name != "__init__.py":
            shown[path] = phrase(ROOT / path)
    names = {path: "  " * (len(path.parts) - 1) + path.name + ("" if path.suffix == ".py" else "/")
             for path in shown if is_whole or len(path.parts) == 1}
    width = max(map(len, names.values()), default=0) + 2
    return "\n".join(f"{name:{width}}{shown[path]}".rstrip() for path, name in names.items())


def _place(path: Path) -> tuple[int, list[tuple[bool, str]]]:
    """The order of reading: from the app down to the base model, then what stands beside; files first."""
    top = ORDER.index(path.parts[0]) if path.parts[0] in ORDER else len(ORDER)
    return top, [(part != path.name, part) for part in path.parts]


def _folder_phrase(folder: Path) -> str:
    start = ROOT / folder / "__init__.py"
    return (phrase(start) if start.exists() else "") or CLOSED.get(folder.as_posix(), "")


def settings_table(settings: Iterable[Setting]) -> str:
    """One Markdown table with a heading row for each group, in the order of declaration."""
    lines = ["| setting | default | allowed | what it does |", "| --- | --- | --- | --- |"]
    group = None
    for setting in settings:
        if setting.group != group:
            group = setting.group
            lines.append(f"| **{GROUPS[group]}** | | | |")
        about = setting.help.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| `{setting.name}` | {_default(setting)} | {_allowed(setting)} | {about} |")
    return "\n".join(lines)


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "by base and machine"
    if isinstance(setting.default, bool):
        return _spoken(setting.default)
    return f"`{setting.default}`" if setting.default != "" else "none"


def _spoken(value: bool) -> str:
    return "yes" if value else "no"


def _allowed(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.minimum is None or setting.maximum is None:
        return "yes, no" if setting.type is bool else "text"
    return f"{setting.minimum:,.10g} to {setting.maximum:,.10g}"


if __name__ == "__main__":
    for file in (README, GUIDE):
        file.write_text(regenerated(file, file.read_text(encoding="utf-8")), encoding="utf-8")
