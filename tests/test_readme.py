"""README.md says what the tree holds: its generated parts are fresh, and what it names is there."""

import importlib.util
import re

from tests.files import ROOT
from tests.readme import README, regenerated, settings_table, tree
from training.config import SETTINGS

TEXT = README.read_text(encoding="utf-8")


def test_the_generated_parts_are_fresh():
    assert regenerated(TEXT) == TEXT, "run `python -m tests.readme`"


def test_every_setting_stands_in_the_table_once():
    table = settings_table(SETTINGS.values())
    assert [table.count(f"| `{name}` |") for name in SETTINGS] == [1] * len(SETTINGS)
    assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_the_tree_has_a_phrase_for_every_line():
    files = [ROOT / "training/config.py", ROOT / "training/data.py", ROOT / "tests/test_readme.py"]
    lines = tree(files).splitlines()
    assert [line.split()[0] for line in lines] == ["training/", "config.py", "data.py", "tests/"]
    assert all(len(line.split()) > 2 for line in lines)


def test_files_that_are_linked_exist():
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", TEXT)
    assert links and not [link for link in links if not (ROOT / link).exists()]


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
        regenerated("no markers")
    except ValueError as problem:
        assert "<!-- tree -->" in str(problem)
    else:
        raise AssertionError("a README without markers was accepted")
