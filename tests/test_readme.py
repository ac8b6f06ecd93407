"""README.md and CONTRIBUTING.md say what is so: their generated parts are fresh, and what they name is there."""

import importlib.util
import re

import pytest

from tests.files import ROOT, project_files
from tests.readme import GUIDE, README, regenerated, settings_table, tree
from training.config import SETTINGS

ROOMS = ("app.py", "tabs", "training", "chat", "adapters", "phi3")
TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", [README, GUIDE], ids=lambda file: file.name)
def test_the_generated_parts_are_fresh(file):
    text = file.read_text(encoding="utf-8")
    assert regenerated(file, text) == text, "run `python -m tests.readme`"


def test_every_setting_stands_in_the_table_once():
    table = settings_table(SETTINGS.values())
    assert [table.count(f"| `{name}` |") for name in SETTINGS] == [1] * len(SETTINGS)
    assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_the_tree_has_a_phrase_for_every_line():
    files = [ROOT / "training/config.py", ROOT / "training/data.py", ROOT / "tests/test_readme.py"]
    lines = tree(files).splitlines()
    assert [line.split()[0] for line in lines] == ["training/", "config.py", "data.py", "tests/"]
    assert all(len(line.split()) > 2 for line in lines)
    assert [line.split()[0] for line in tree(files, is_whole=False).splitlines()] == ["training/", "tests/"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_files_and_headings_that_are_linked_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    assert links and not [link for link in links if not ((ROOT / name).parent / link.split("#")[0]).exists()]
    headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
                for line in re.findall(r"^#+ (.+)", text, re.MULTILINE)}
    assert headings.issuperset(re.findall(r"\]\(#([^)]+)\)", text))


def test_every_variable_that_the_app_is_told_by_is_named():
    """`python app.py --help` says so."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in project_files()
                     if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ROOMS)
    read = set(re.findall(r"environ\.get\(\"((?:STUDIO|GRADIO|HF)_\w+)\"", code))
    assert "STUDIO_HOME" in read and not [name for name in read if f"| `{name}` |" not in TEXT]


def test_every_command_that_people_give_is_named(terminal):
    for module in ("training", "adapters"):
        there = re.findall(r"^    (\w+) ", terminal(module, "--help").stdout, re.MULTILINE)
        named = re.findall(rf"^python -m {module} (\w+)", TEXT, re.MULTILINE)
        assert len(there) > 5 and {*there} - {"lease"} <= {*named}  # the page alone starts that one


def test_commands_that_are_named_exist():
    modules = set(re.findall(r"python -m ([\w.]+)", TEXT))
    assert {"training", "chat", "tests"} <= modules
    assert not [name for name in modules if importlib.util.find_spec(name) is None]


def test_options_that_are_named_exist(terminal):
    for module in ("training run", "chat"):
        command = re.compile(rf"python -m {module} .*")
        named = {option for line in command.findall(TEXT) for option in re.findall(r"(?<!\S)--\w+", line)}
        assert named <= set(re.findall(r"--\w+", terminal(*module.split(), "--help").stdout))


def test_files_that_changed_too_much_are_refused_by_the_generator():
    try:
        regenerated(README, "no markers")
    except ValueError as problem:
        assert "<!-- folders -->" in str(problem)
    else:
        raise AssertionError("a README without markers was accepted")
