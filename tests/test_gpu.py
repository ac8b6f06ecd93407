"""The proof on a card: what its runner does with parts that are done, fail, hang or don't fit, and its report."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.card.figure import Figure
from benchmarks.card.report import JSON, MARKDOWN, Report
from benchmarks.card.runner import Order, Part, proved
from benchmarks.goals import ROOFLINE
from benchmarks.gpu import PARTS
from tests.files import ROOT

MACHINE = {"date": "today", "machine": "a machine", "driver": None, "python": "3",
           "versions": {"torch": "2", "trl": None}}
HEAD = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from benchmarks.card.figure import Check, Figure, Section
from benchmarks.goals import FOUR_LANES
"""
QUICK = """
def measured(bench):
    yield Figure("four lanes", 1.5, "×", "eight tokens", FOUR_LANES, Check("the same words | as PEFT", True))
    yield Figure("four lanes", 1.2, "×", "more tokens", FOUR_LANES, Check("the same words | as PEFT", True))
SECTIONS = (Section("lanes", measured),)
"""
FAILING = """
def broken(bench):
    yield Figure("before it broke", 1.0)
    raise RuntimeError("the card is on fire")
def sound(bench):
    yield Figure("after it broke", 2.0)
SECTIONS = (Section("first", broken), Section("second", sound))
"""
# It says something, begins a process of its own, and then waits for ever.
HANGING = """
def hung(bench):
    child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    yield Figure("child", float(child.pid))
    threading.Event().wait()
SECTIONS = (Section("for ever", hung),)
"""
KILLED = """
def killed(bench):
    print("one last word", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    yield Figure("never", 1.0)
SECTIONS = (Section("killed", killed),)
"""
# It ends only when the report has its first figure, and says how the report calls it until then.
WATCHING = """
def watched(bench):
    yield Figure("first", 1.0)
    report = bench.work.parent / "report.json"
    while '"first"' not in (report.read_text() if report.exists() else ""):
        time.sleep(0.01)
    yield Figure("second", report.read_text())
SECTIONS = (Section("watched", watched),)
"""
LACKING = """
def measured(bench):
    yield Figure("speed", 1.0)
SECTIONS = (Section("with it", measured, ("no_such_package",)), Section("without it", measured))
"""
LACKING_ALL = LACKING.replace(', Section("without it", measured)', ",")
UNSOUND = """
def measured(bench):
    yield Figure("speed", 9.0, check=Check("the same words", False))
SECTIONS = (Section("speed", measured),)
"""
# Two of these end only beside each other.
MEETING = """
def met(bench):
    (bench.work / f"{NAME} is here").touch()
    while not (bench.work / f"{OTHER} is here").exists():
        time.sleep(0.01)
    yield Figure("met", 1.0)
SECTIONS = (Section("met", met),)
"""
SILENT = """
SECTIONS = ()
"""


@pytest.fixture
def prove(tmp_path, monkeypatch):
    """Runs parts of these names and sources, (source, seconds) each; returns whether all is well, and the report."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "part_rates.py").write_text(HEAD + SILENT)

    def run(parts, minutes=1.0, small=False, only=(), resume=False, shares=False):
        made = []
        for name, (source, seconds) in parts.items():
            (tmp_path / f"part_{name}.py").write_text(HEAD + source)
            made.append(Part(name, f"part_{name}", seconds, seconds, shares))
        report = Report(tmp_path / "out", list(parts), small)
        if resume:
            report.take_up()
        is_well = proved(made, Order(minutes, tmp_path / "out/work", small, only), report, MACHINE,
                         Part("rates", "part_rates", 10, 10))
        return is_well, {part["name"]: part for part in told(tmp_path / "out")["parts"]}

    return run


def told(folder):
    return json.loads((folder / JSON).read_text(encoding="utf-8"))


def test_a_part_that_is_done_has_its_figures_beside_goals_and_checks(prove, tmp_path):
    is_well, parts = prove({"chat": (QUICK, 1)})
    assert is_well and parts["chat"]["status"] == "done" and parts["chat"]["seconds"] > 0
    assert parts["chat"]["figures"] == [{
        "name": "four lanes", "value": 1.2, "unit": "×", "note": "more tokens", "reached": True, "passed": True,
        "goal": "I2, four lanes ÷ one lane: ≤ 1.25", "check": "the same words | as PEFT"}]
    text = (tmp_path / "out" / MARKDOWN).read_text(encoding="utf-8")
    assert ("| four lanes | 1.2 × | more tokens | I2, four lanes ÷ one lane: ≤ 1.25: reached | the same words / as "
            "PEFT: passed |") in text
    assert "a machine; driver none" in text and "trl missing" in text


def test_a_rehearsal_names_goals_and_judges_none(prove, tmp_path):
    _, parts = prove({"chat": (QUICK, 1)}, small=True)
    figure, = parts["chat"]["figures"]
    assert figure["goal"] and figure["reached"] is None and figure["passed"] is True
    assert told(tmp_path / "out")["rehearsal"] is True


def test_a_part_that_fails_is_told_with_its_traceback_and_the_others_go_on(prove, tmp_path):
    is_well, parts = prove({"speed": (FAILING, 1), "chat": (QUICK, 1)})
    failed = parts["speed"]
    assert not is_well and failed["status"] == "failed" and failed["reason"] == "It failed in: first."
    assert [figure["name"] for figure in failed["figures"]] == ["before it broke", "after it broke"]
    assert "RuntimeError: the card is on fire" in failed["tracebacks"][0]["traceback"]
    assert parts["chat"]["status"] == "done"
    assert "the card is on fire" in (tmp_path / "out" / MARKDOWN).read_text(encoding="utf-8")


def test_a_part_that_dies_is_told_with_its_last_words(prove):
    is_well, parts = prove({"speed": (KILLED, 1), "chat": (QUICK, 1)})
    assert not is_well and "SIGKILL" in parts["speed"]["reason"] and "one last word" in parts["speed"]["reason"]
    assert parts["chat"]["status"] == "done"


def test_a_part_that_takes_too_long_is_ended_with_all_that_it_began(prove):
    is_well, parts = prove({"speed": (HANGING, 0.5), "chat": (QUICK, 30)}, minutes=0.04)
    hung, late = parts["speed"], parts["chat"]
    assert not is_well and hung["status"] == "failed" and "It was ended after" in hung["reason"]
    child = int(hung["figures"][0]["value"])
    assert is_gone(child), "its child goes on"
    assert late["status"] == "not run" and "It takes about 30 s" in late["reason"] and not late["figures"]


def is_gone(pid):
    """Whether the process has ended; whoever inherits it may not have noticed yet."""
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_part_that_would_not_fit_leaves_its_time_to_a_smaller_one(prove):
    is_well, parts = prove({"speed": (QUICK, 1000), "chat": (QUICK, 1)})
    assert is_well and [part["status"] for part in parts.values()] == ["not run", "done"]


def test_parts_that_share_the_card_run_beside_each_other(prove):
    parts = {name: (f"NAME, OTHER = {name!r}, {other!r}\n{MEETING}", 20) for name, other in ("ab", "ba")}
    is_well, told = prove(parts, shares=True)
    assert is_well and [part["status"] for part in told.values()] == ["done", "done"]


def test_the_report_is_written_while_a_part_still_runs(prove):
    _, parts = prove({"speed": (WATCHING, 5)})
    assert parts["speed"]["status"] == "done"
    earlier, = json.loads(parts["speed"]["figures"][1]["value"])["parts"]
    assert earlier["status"] == "failed" and "still running" in earlier["reason"]
    assert [figure["name"] for figure in earlier["figures"]] == ["first"]


def test_what_a_missing_package_prevents_is_named_and_the_rest_goes_on(prove, tmp_path):
    is_well, parts = prove({"speed": (LACKING, 1), "chat": (LACKING_ALL, 1)})
    assert is_well and parts["speed"]["status"] == "done" and len(parts["speed"]["figures"]) == 1
    assert parts["speed"]["left_out"] == [{"section": "with it", "reason": "not installed: no_such_package"}]
    assert parts["chat"]["status"] == "not run" and parts["chat"]["reason"] == "not installed: no_such_package."
    assert "Not run, with it: not installed: no_such_package." in \
        (tmp_path / "out" / MARKDOWN).read_text(encoding="utf-8")


def test_a_check_that_fails_is_no_success(prove):
    is_well, parts = prove({"speed": (UNSOUND, 1)})
    assert not is_well and parts["speed"]["status"] == "done"


def test_a_part_without_a_figure_is_no_success(prove):
    is_well, parts = prove({"speed": (SILENT, 1)})
    assert not is_well and parts["speed"]["reason"] == "It gave no figure."


def test_resume_runs_what_is_not_done_and_keeps_the_rest(prove, tmp_path):
    prove({"works": (QUICK, 1), "speed": (FAILING, 1), "chat": (QUICK, 1000)})
    done = told(tmp_path / "out")["parts"][0]
    is_well, parts = prove({"works": (FAILING, 1), "speed": (QUICK, 1), "chat": (QUICK, 1)}, resume=True)
    assert is_well and [part["status"] for part in parts.values()] == ["done"] * 3
    assert parts["works"] == done and [part["call"] for part in parts.values()] == [0, 1, 1]
    assert len(told(tmp_path / "out")["calls"]) == 2


def test_a_rehearsal_does_not_go_on_with_a_proof(prove):
    prove({"works": (QUICK, 1)})
    with pytest.raises(ValueError, match="is of a proof at full size, and this is a rehearsal"):
        prove({"works": (QUICK, 1)}, small=True, resume=True)


def test_only_the_parts_that_are_named_are_run(prove):
    _, parts = prove({"works": (QUICK, 1), "chat": (QUICK, 1)}, only=("chat",))
    assert [part["status"] for part in parts.values()] == ["not run", "done"]
    assert parts["works"]["reason"] == "it was not asked for"


def test_a_goal_is_reached_from_its_side_and_words_reach_none():
    assert Figure("share", 0.7, goal=ROOFLINE).as_json(True)["reached"] is True
    assert Figure("share", 0.6, goal=ROOFLINE).as_json(True)["reached"] is False
    assert Figure("share", "out of memory", goal=ROOFLINE).as_json(True)["reached"] is None


def test_the_command_says_that_there_is_no_card(terminal, tmp_path):
    ended = terminal("benchmarks.gpu", "--out", str(tmp_path), env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert ended.returncode == 2 and "--rehearse" in ended.stderr and not list(tmp_path.iterdir())


def test_no_part_needs_gradio_or_waits_for_torch():
    look = f"""
import sys
for name in ("gradio", "spaces", "torch", "trl"):
    sys.modules[name] = None
import importlib, benchmarks.gpu
for name in {[part.module for part in PARTS]}:
    assert importlib.import_module(name).SECTIONS
"""
    ended = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


# The command as it is, where gradio and spaces can't be imported, one part fails and another is too slow.
REHEARSED = """
import sys
from dataclasses import replace
from benchmarks.gpu import PARTS, main
changed = {"memory and time against the plan": ("part_slow", 2), "chat": ("part_failing", 5)}
sys.exit(main(parts=[replace(part, module=changed[part.name][0], rehearsed=changed[part.name][1])
                     if part.name in changed else part for part in PARTS]))
"""


@pytest.mark.slow
def test_the_rehearsal_without_gradio_and_with_one_part_failing_and_one_too_slow(tmp_path):
    for name, source in (("part_slow", HEAD + HANGING), ("part_failing", HEAD + FAILING),
                         ("sitecustomize", "import sys\nsys.modules['gradio'] = sys.modules['spaces'] = None\n")):
        (tmp_path / f"{name}.py").write_text(source)
    out = tmp_path / "out"
    ended = subprocess.run([sys.executable, "-c", REHEARSED, "--rehearse", "--minutes", "15", "--out", str(out)],
                           cwd=ROOT, capture_output=True, text=True, timeout=1000, check=False,
                           env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    assert ended.returncode == 1, ended.stderr
    report = told(out)
    assert report["rehearsal"] and report["versions"]["torch"] and len(report["rates"]) == 3
    parts = {part["name"]: part for part in report["parts"]}
    slow, failing = parts.pop("memory and time against the plan"), parts.pop("chat")
    assert (slow["status"], failing["status"]) == ("failed", "failed")
    assert "It was ended after" in slow["reason"] and slow["figures"]
    assert "the card is on fire" in failing["tracebacks"][0]["traceback"] and len(failing["figures"]) == 2
    assert len(parts) == 5
    for name, part in parts.items():
        assert part["status"] == "done" and part["figures"], (name, part)
        assert not [figure for figure in part["figures"] if figure["passed"] is False], name
    assert {one["reason"] for one in parts["a lent card"]["left_out"]} == {"not installed: spaces, gradio"}
    assert (out / MARKDOWN).is_file()
