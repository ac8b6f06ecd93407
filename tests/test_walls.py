"""The walls of the house: who may import whom, what is imported late, and what stands in no file."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.files import ROOT, project_files, python_files

# Higher may import lower, never the other way round; equals never import each other.
FLOORS = {"app": 5, "tabs": 4, "training": 3, "chat": 3, "adapters": 2, "phi3": 1}
OUTSIDE = {"tests", "benchmarks"}
HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "accelerate"}
BANNED_WORDS = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "handler", "handlers"}
BANNED_TEXT = {
    "a path of somebody's machine": r"(?<![\w./-])/(work|root|opt)/",
    "a package registry's host": r"pypi\.org|pythonhosted\.org|registry\.npmjs\.org|deb\.debian\.org"
                                 r"|download\.pytorch\.org|conda\.anaconda\.org",
    "an access token": r"\bhf_[A-Za-z0-9]{20,}",
    "remote code switched on": r"trust_remote_code\W{1,4}True\b",
}

FILES = python_files()
CORE_FILES = [path for path in FILES if path.relative_to(ROOT).parts[0] in ("training", "chat", "adapters", "phi3")]


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, relative ones resolved, in their order."""
    package = path.relative_to(ROOT).parent.parts
    statements = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                  if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in sorted(statements, key=lambda node: node.lineno):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            above = package[:len(package) - node.level + 1] if node.level else ()
            yield ".".join(filter(None, (*above, node.module)))


def tops(path: Path) -> list[str]:
    return [name.split(".")[0] for name in imported(path)]


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in FLOORS], ids=short)
def test_imports_go_down_and_never_across(path):
    own = room(path)
    wrong = [name for name in tops(path) if name in FLOORS and name != own and FLOORS[name] >= FLOORS[own]]
    assert not wrong, f"{short(path)} imports {wrong}, which stands above it or beside it"
    assert not OUTSIDE.intersection(tops(path)), f"{short(path)} imports tests or benchmarks"


@pytest.mark.parametrize("path", [path for path in FILES if room(path) not in ("app", "tabs", "tests")], ids=short)
def test_only_the_app_and_its_tabs_know_gradio(path):
    assert "gradio" not in tops(path)


@pytest.mark.parametrize("path", [path for path in FILES if room(path) == "tabs"], ids=short)
def test_tabs_do_not_know_torch(path):
    assert not {"torch", "peft", "trl", "bitsandbytes"}.intersection(tops(path))


def test_spaces_is_imported_in_the_app_alone():
    assert [short(path) for path in FILES if "spaces" in tops(path) and room(path) != "tests"] == ["app.py"]


def test_the_app_imports_spaces_before_anything_that_could_import_torch():
    foreign = [name for name in tops(ROOT / "app.py") if name not in sys.stdlib_module_names]
    assert foreign[0] == "spaces"


def doors() -> list[str]:
    """The modules at which a visit starts: each room's __main__ and the app, which brings the tabs."""
    mains = [f"{room(path)}.__main__" for path in CORE_FILES if path.name == "__main__.py"]
    return mains + ["app" for path in FILES if path == ROOT / "app.py"]


@pytest.mark.parametrize("door", doors())
def test_a_door_opens_without_waiting_for_torch(door):
    look = f"import sys, {door}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    seen = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.split() == [], f"importing {door} imports these as well; import them where they are used"


@pytest.mark.parametrize("path", FILES, ids=short)
def test_a_file_begins_with_one_sentence_about_itself(path):
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert about, f"{short(path)} has no docstring"
    assert about.splitlines()[0].endswith("."), f"{short(path)}: the first line is no whole sentence"


def words(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase."""
    return set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_"))


@pytest.mark.parametrize("path", FILES, ids=short)
def test_nothing_has_a_name_that_says_nothing(path):
    defined = [node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
               if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))]
    parts = path.relative_to(ROOT).with_suffix("").parts
    assert not {name for name in (*defined, *parts) if words(name) & BANNED_WORDS}


@pytest.mark.parametrize("what", BANNED_TEXT)
def test_no_file_holds(what):
    banned = re.compile(BANNED_TEXT[what])
    found = []
    for path in project_files():
        data = path.read_bytes()
        if b"\0" not in data:
            lines = data.decode("utf-8", errors="replace").splitlines()
            found += [f"{short(path)}:{number}: {line.strip()}" for number, line in enumerate(lines, 1)
                      if banned.search(line)]
    assert not found, f"{what} in " + "\n".join(found)


def test_the_walls_stand_where_code_is():
    assert {"training", "phi3", "adapters"} <= {room(path) for path in CORE_FILES}
