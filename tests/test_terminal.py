"""The same from a terminal: train, list, inspect, ask; quick help; one sentence where something is wrong."""

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors import SafetensorError

from adapters.files import CONFIG, WEIGHTS
from adapters.library import SHIPPED_FOLDER, Library
from chat.__main__ import _adapter as adapter_for_a_lane
from phi3.models import EMBEDDED, base_facts
from phi3.terminal import status_of
from tests.conftest import ROOT
from training.__main__ import main
from training.config import RunConfig
from training.data import read_data
from training.run import EVALUATING, Event, Run
from training.runs import Runs
from training.runs_terminal import in_words, train_here

QUICK = ["--max_steps", "3", "--eval_steps", "500", "--save_steps", "500", "--r", "4"]


@pytest.mark.slow
def test_training_and_asking_print_json(terminal, home, chats, small_base, monkeypatch):
    monkeypatch.setenv("STUDIO_BASE", str(small_base))
    ran = terminal("training", "run", "--data", str(chats), "--name", "mine", *QUICK, "--json")
    assert ran.returncode == 0, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert all({"type", "run"} <= event.keys() for event in events)
    last = events[-1]
    assert last["type"] == "finished" and last["adapter"] == "mine"
    assert (home / "adapters" / "mine" / "adapter_model.safetensors").is_file()
    assert last["folder"] == str(home / "adapters" / "mine")

    listed = terminal("training", "list", "--json")
    assert json.loads(listed.stdout)["state"] == "finished"

    asked = terminal("chat", "Say 3.", "--with", "base", "--with", "mine", "--with", last["folder"],
                     "--temperature", "0", "--max_new_tokens", "8", "--json")
    assert asked.returncode == 0, asked.stderr
    lanes = json.loads(asked.stdout)["lanes"]
    assert [lane["adapter"] for lane in lanes] == ["base", "mine", last["folder"]]
    assert all(lane["tokens"] <= 8 and lane["seconds"] > 0 for lane in lanes)
    assert lanes[1]["text"] == lanes[2]["text"]

    again = terminal("training", "run", "--data", str(chats), "--name", "mine", *QUICK)
    assert again.returncode == 2 and "already an adapter named mine" in again.stderr


def test_a_saved_config_runs(terminal, home, chats, small_base, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {chats}\nbase: {small_base}\nname: fromfile\nmax_steps: 2\nr: 2\nwarmup_ratio: 0.5\n")
    ran = terminal("training", "run", str(config), "--r", "4")
    assert ran.returncode == 0 and "Loading weights" not in ran.stderr, ran.stderr
    settings = json.loads((home / "adapters" / "fromfile" / "provenance.json").read_text())["settings"]
    assert settings["r"] == 4 and settings["warmup_steps"] == 0.5


def test_inspect_prints_what_a_file_holds(terminal, home, chats, small_base, monkeypatch):
    monkeypatch.setenv("STUDIO_BASE", str(small_base))
    with chats.open("a") as lines:
        lines.write("\n{half\n")
    shown = terminal("training", "inspect", str(chats), "--json")
    report = json.loads(shown.stdout)
    assert shown.returncode == 0 and report["rows_kept"] == 40
    assert report["rows_dropped"][0]["row"] == 41 and report["tokens"]["trained"] > 0
    assert report["run"]["settings"]["num_train_epochs"] > 3 and report["run"]["warnings"] == []
    told = terminal("training", "inspect", str(chats), "--max_length", "100000").stdout
    assert "40 of 41 rows kept" in told and "A run would be: 36 conversations, seen" in told
    assert "Longest conversation (max_length) is 100,000, and the base reads" in told


@pytest.mark.parametrize("command", [["inspect"], ["plan", "--data"]])
def test_of_a_row_that_is_cut_nothing_is_said_but_by_the_report(terminal, home, tmp_path, command):
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "Say a lot.", "completion": "word " * 3000}))
    ended = terminal("training", *command, str(tmp_path / "long.jsonl"))
    assert ended.returncode == 0 and "1 is cut" in ended.stdout and "1 are" not in ended.stdout and ended.stderr == ""


def test_a_plan_says_what_a_run_would_need_without_making_one(terminal, home, chats, small_base):
    asked = ["training", "plan", "--data", str(chats), "--base", str(small_base), "--max_steps", "7"]
    plan = json.loads(terminal(*asked, "--json").stdout)
    assert plan["batches"]["steps"] == 7 and plan["fits"] and plan["peak"] == sum(plan["memory"].values())
    assert plan["settings"]["per_device_train_batch_size"] == plan["batches"]["examples_per_step"] == 2
    assert plan["warnings"] == [] and plan["why"].startswith("14 of 36 conversations, seen once, 2 in a step: 7 steps")
    told = terminal(*asked, "--lora_dropout", "0.6", "--preset", "recipe").stdout
    assert "7 steps of 4 conversations" in told and "Warning: LoRA dropout is 0.6" in told
    assert "the published sample" in told and not home.exists()


def test_a_plan_of_an_adapter_that_is_trained_further_has_its_rank_and_layers(home, chats, capsys):
    """As the run has them (training/further.py), whatever the preset or the command line says."""
    shutil.copytree(SHIPPED_FOLDER / "pirate", home / "adapters" / "mine")
    config = home / "adapters" / "mine" / CONFIG
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 8}))
    asked = ["plan", "--data", str(chats), "--base", EMBEDDED, "--preset", "thorough"]
    assert main([*asked, "--start_from", "mine", "--lora_alpha", "512", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["settings"]["r"], plan["settings"]["lora_alpha"], plan["warnings"]) == (16, 8, [])
    assert "Rank 16 learns 294,912 numbers" in plan["why"]
    assert main([*asked, "--start_from", "stranger"]) == 2
    assert "There is no adapter named stranger." in capsys.readouterr().err


def test_data_of_which_the_length_limit_leaves_no_answer_is_refused_before_there_is_a_run(home, tmp_path, capsys):
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"{number} {'please ' * 30}", "completion": "Yes."})
                              for number in range(12)))
    for command in ("plan", "run"):
        assert main([command, "--data", str(path), "--max_length", "16"]) == 2
        assert "no answer is left within the length limit, Longest" in capsys.readouterr().err
    assert Runs(home).all() == []


@pytest.mark.slow
def test_what_is_known_to_be_bad_is_said_on_stderr_before_the_run(terminal, home, chats, small_base):
    asked = ["training", "run", "--data", str(chats), "--base", str(small_base), *QUICK, "--json"]
    ran = terminal(*asked, "--learning_rate", "0.09", "--preset", "quick")
    assert ran.returncode == 0 and "Warning: Learning rate is 0.09, and the rule for this base gives" in ran.stderr
    assert all(json.loads(line) for line in ran.stdout.splitlines())
    assert terminal("training", "list", "--json").stdout.count("finished") == 1
    missing = terminal(*asked, "--report_to", "neptune")
    assert missing.returncode == 2 and "report_to names neptune, and its package isn't installed" in missing.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "said"), [
    (["training", "run", "--data", "nowhere.jsonl"], "There is no file nowhere.jsonl"),
    (["training", "run"], "Which data?"),
    (["training", "run", "--data", ""], "Which data?"),
    (["training", "inspect", ""], "Which data?"),
    (["training", "run", "--data", "CHATS", "--r", "0"], "Rank (r) is 0, and must be between 1 and 512."),
    (["training", "run", "--data", "CHATS", "--base", "no such base"], "can't be a Hub id"),
    (["training", "run", "--data", "CHATS", "--name", "../x"], "can't be a name"),
    (["training", "run", "nowhere.yaml", "--data", "CHATS"], "nowhere.yaml can't be read"),
    (["training", "describe", "in one word", "--out", "nowhere/rows.jsonl"], "There is no folder nowhere"),
    (["training", "describe", "in one word", "--out", "training"], "training is a folder"),
    (["training", "describe", "in one word", "--out", "README.md"], "README.md is there already"),
    (["training", "inspect", "nowhere.jsonl"], "There is no file nowhere.jsonl"),
    (["training", "inspect", "~nowhere.jsonl"], "There is no file ~nowhere.jsonl"),
    (["adapters", "publish", "~stranger"], "There is no adapter named ~stranger"),
    (["chat", "hello", "--base", "~nowhere"], "There is no folder ~nowhere"),
    (["chat", "hello", "--with", "stranger"], "There is no adapter named stranger"),
    (["chat", "  "], "The prompt is empty"),
    (["chat", "hello", "--temperature", "-1"], "temperature is -1"),
    (["chat", "hello", *["--with", "base"] * 9], "8 at most"),
    (["chat", "hello", "--with", "pirate:2.5"], "strength is 2.5, and must be between 0 and 2."),
    (["chat", "--with", "stranger"], "There is no adapter named stranger"),
    (["chat", "--with", "stranger:0.5"], "There is no adapter named stranger."),
    (["chat", "--json"], "Write the question too"),
])
def test_what_the_user_can_mend_is_one_sentence_and_exit_2(terminal, home, chats, arguments, said):
    ended = terminal(*[str(chats) if one == "CHATS" else one for one in arguments])
    assert ended.returncode == 2
    assert said in ended.stderr and "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


@pytest.mark.parametrize(("written", "said"), [
    ("data: pirate\n1: 2\n", "There is no setting named 1."),
    ("data: pirate\non: yes\n", "There is no setting named True."),
    ("data: 5\n", "There is no file 5."),
    ("data:\n  path: here\n", "There is no file {'path': 'here'}."),
    ("data: pirate\nr: [\n", "run.yaml can't be read as settings: while parsing"),
    ("- data\n", "run.yaml holds no settings."),
    ("data: pirate\nseed: 1" + "0" * 400, "Seed is 1000"),
])
def test_a_file_of_settings_that_holds_something_else_is_one_sentence(home, tmp_path, capsys, written, said):
    from training.__main__ import main

    (tmp_path / "run.yaml").write_text(written)
    assert main(["plan", str(tmp_path / "run.yaml")]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1


def test_a_studio_folder_that_can_not_be_made_is_named_before_anything_is_trained_or_fetched(terminal, tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "STUDIO_HOME": str(tmp_path / "file" / "studio")}
    for command in (["training", "run", "--data", "pirate"], ["adapters", "fetch", "ada/captain"]):
        ended = terminal(*command, env=environment)
        assert ended.returncode == 2 and ended.stderr.startswith(f"Nothing can be kept in {tmp_path}")


@pytest.mark.parametrize("problem", [
    MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 96.00 MiB."),
    torch.AcceleratorError("CUDA error: out of memory")])
def test_memory_that_runs_out_is_one_sentence(problem, capsys):
    """As beside a page that is open on the same card."""
    def command():
        raise problem

    assert status_of(command) == 2
    assert capsys.readouterr().err.startswith("There is no memory left for this.")


def test_a_full_disk_is_one_sentence(capsys):
    def command():
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    assert status_of(command) == 2
    assert capsys.readouterr().err == "The disk is full. Free some space, and try again.\n"


def test_a_command_prints_where_stdout_is_no_file(monkeypatch):
    notebook = io.StringIO()
    monkeypatch.setattr("sys.stdout", notebook)
    assert status_of(lambda: print("1 → 2") or 0) == 0
    assert notebook.getvalue() == "1 → 2\n"


def test_a_command_can_be_called_where_there_is_no_stdout(monkeypatch):
    """As by `>&-`, and by some schedulers: Python prints nowhere then."""
    monkeypatch.setattr("sys.stdout", None)
    assert status_of(lambda: print("done") or 0) == 0


@pytest.mark.parametrize("module", ["training", "chat"])
def test_help_answers_in_under_a_second(module):
    fastest = 9.0
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        fastest = min(fastest, time.monotonic() - start)
    assert fastest < 1.0


@pytest.mark.slow
def test_ctrl_c_stops_after_the_step_and_the_run_can_go_on(terminal, home, chats, small_base):
    command = [sys.executable, "-m", "training", "run", "--data", str(chats), "--base", str(small_base),
               "--name", "mine", *QUICK, "--max_steps", "100000", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        started = next(event for event in map(json.loads, training.stdout) if event["type"] == "step")
        training.send_signal(signal.SIGINT)
        *_, last = map(json.loads, training.stdout)
        assert "Ctrl-C again stops at once" in training.stderr.read()
    assert training.returncode == 0 and last["type"] == "stopped"
    run = started["run"]
    again = terminal("training", "stop", run)
    assert again.returncode == 2 and "is not being trained: it is stopped" in again.stderr

    refused = terminal("training", "resume", run, "--max_steps", "none")
    assert refused.returncode == 2 and "Steps at most (max_steps) is 'none'" in refused.stderr
    longer = terminal("training", "resume", run, "--max_steps", str(last["step"] + 2), "--json")
    assert longer.returncode == 0, longer.stderr
    events = [json.loads(line) for line in longer.stdout.splitlines()]
    resumed = next(event for event in events if event["type"] == "resumed")
    assert resumed["step"] == last["step"] and events[-1]["type"] == "finished"

    same = terminal("training", "resume", run, "--json")
    assert same.returncode == 0 and json.loads(same.stdout) == events[-1]
    shown = json.loads(terminal("training", "show", run, "--json").stdout)
    assert shown["state"] == "finished" and shown["events"][-1] == events[-1]
    steps = [event["step"] for event in shown["events"] if event["type"] == "step"]
    assert steps == list(range(1, last["step"] + 3))


@pytest.fixture
def unread():
    """Where to print so that nobody reads it, as after `| head`."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.slow
def test_a_run_goes_on_when_nobody_reads_its_lines_any_more(home, chats, small_base, unread):
    command = [sys.executable, "-m", "training", "run", "--data", str(chats), "--base", str(small_base), *QUICK]
    ran = subprocess.run(command, cwd=ROOT, stdout=unread, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 0 and "Error" not in ran.stderr
    assert [run.state() for run in Runs(home).all()] == ["finished"]


def test_a_work_that_goes_on_is_not_ended_by_a_terminal_that_was_closed():
    ours, theirs = pty.openpty()
    os.close(ours)
    work = "import sys; from phi3.terminal import say; say('step 1'); say('step 2'); print('done', file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", work], cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE, text=True,
                         check=False)
    os.close(theirs)
    assert ran.returncode == 0 and ran.stderr == "done\n"


def test_a_run_of_another_user_is_a_sentence(home, chats, monkeypatch, capsys):
    run = Runs(home).create(RunConfig(name="mine"), read_data(chats))
    run.append("stopped", 2, adapter="mine")

    def forbidden(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self.folder / "events.jsonl"))  # root may write it anyway

    monkeypatch.setattr(Run, "append", forbidden)
    assert main(["resume", run.id]) == 2
    said = capsys.readouterr().err
    assert "events.jsonl can't be used (Permission denied): it is another user's" in said and "Traceback" not in said


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_can_not_show_is_escaped_as_json_does_it(encoding):
    work = ("import json; from phi3.terminal import say, status_of; "
            "status_of(lambda: say(json.dumps({'loss': '1 → 2', 'cut': '\\ud83d', 'é': '🙂'}, ensure_ascii=False)))")
    ran = subprocess.run([sys.executable, "-c", work], cwd=ROOT, capture_output=True, check=False,
                         env={**os.environ, "PYTHONIOENCODING": encoding})
    assert ran.stderr == b""
    assert json.loads(ran.stdout.decode(encoding)) == {"loss": "1 → 2", "cut": "\ud83d", "é": "🙂"}


@pytest.mark.parametrize("arguments", [["adapters", "list"], ["training", "inspect", "pirate"]])
def test_a_command_whose_lines_nobody_reads_ends_without_a_complaint(home, unread, arguments):
    ran = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, stdout=unread, stderr=subprocess.PIPE,
                         text=True, check=False)
    assert ran.returncode == 141 and ran.stderr == ""


def test_what_was_asked_and_answered_in_several_lines_stands_apart_from_the_runs_own():
    told = {"prompts": ["Text: one.\nQuestion: two?"], "answers": ["step 1\nstep 2"]}
    assert in_words(Event("sampled", "mine", 0.0, 5, told)).splitlines() == [
        "    Text: one.", "    Question: two?", "    > step 1", "      step 2"]


class InterruptedAtOnce(Run):
    """A run whose person presses Ctrl-C before its trainer has begun."""

    def events(self):
        raise KeyboardInterrupt


def test_ctrl_c_before_the_training_has_begun_keeps_no_other_run_waiting(home, chats, capsys):
    runs = Runs(home)
    run = runs.create(RunConfig(name="mine"), read_data(chats))
    assert train_here(InterruptedAtOnce(run.folder), as_json=False) == 130
    assert f"python -m training resume {run.id}" in capsys.readouterr().err
    assert run.state() == "paused" and runs.going() is None
    assert runs.create(RunConfig(name="other"), read_data(chats)).state() == "preparing"


def test_an_evaluation_that_was_broken_off_by_hand_is_no_try_that_took_its_trainer_down(home, chats, capsys):
    run = Runs(home).create(RunConfig(name="mine"), read_data(chats))
    run.append("checkpointed", 2, folder="checkpoints/step-2")
    (run.folder / EVALUATING).write_text("..", encoding="utf-8")
    assert train_here(InterruptedAtOnce(run.folder), as_json=False) == 130
    assert run.state() == "interrupted" and not (run.folder / EVALUATING).exists()


def test_a_name_on_the_hub_is_fetched_where_an_adapter_is_asked_for(home, test_hub):
    test_hub.repository("bo/mate", {one: (SHIPPED_FOLDER / "pirate" / one).read_bytes() for one in (CONFIG, WEIGHTS)})
    library = Library(home)
    assert adapter_for_a_lane(library, "bo/mate", base_facts(EMBEDDED)) == library.get("mate")
    with pytest.raises(ValueError, match="There is no bo/nobody on the Hub"):
        adapter_for_a_lane(library, "bo/nobody", base_facts(EMBEDDED))
