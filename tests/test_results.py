"""benchmarks/README.md quotes what the committed results say, and names what is there."""

import importlib.util
import re

import pytest

from tests.files import ROOT
from tests.results import README, REHEARSAL, regenerated, result

TEXT = README.read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_results():
    assert regenerated(TEXT) == TEXT, "run `python -m tests.results`"


def test_a_table_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="<!-- scripts -->"):
        regenerated("no markers")


def test_every_script_is_named_with_its_question():
    named = re.findall(r"^\| `(\w+)` \| (.+?) \|", TEXT, re.MULTILINE)
    assert {"training", "gpu", "chat", "plan"} <= {name for name, _ in named}
    assert all(question.endswith(("?", ".")) or len(question) > 20 for _, question in named)


def test_files_and_commands_that_are_named_exist():
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", TEXT)
    assert links and not [link for link in links if not (README.parent / link).exists()]
    modules = set(re.findall(r"python -m ((?:benchmarks|tests)\.\w+)", TEXT))
    assert modules and not [name for name in modules if importlib.util.find_spec(name) is None]


def test_every_part_of_the_rehearsal_ended_in_a_figure_and_no_check_failed():
    report = result(REHEARSAL)
    assert report["rehearsal"] and len(report["parts"]) == 7 and len(report["rates"]) == 3
    for part in report["parts"]:
        assert part["status"] == "done" and part["figures"], part["name"]
        assert not [figure for figure in part["figures"] if figure["passed"] is False], part["name"]
    assert sum(part["seconds"] for part in report["parts"]) < 600


def test_no_card_is_claimed_before_there_is_a_report_of_one():
    is_there = (ROOT / "benchmarks/results/gpu.json").exists()
    assert ("No card's report is here yet" in TEXT) is not is_there
