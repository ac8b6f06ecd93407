"""Adapters from the terminal: listed, checked, converted, merged; one sentence where something is wrong."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from adapters.__main__ import main
from adapters.library import Library
from phi3.models import EMBEDDED_FOLDER
from tests.adapter_folder import write_random

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def run(home, small_base, monkeypatch, capsys):
    """Runs a command in this process against the small base: (exit status, stdout, stderr)."""
    monkeypatch.setenv("STUDIO_BASE", str(small_base))

    def ran(*arguments):
        capsys.readouterr()
        try:
            status = main([str(one) for one in arguments])
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return ran


@pytest.fixture
def mine(home, small_base, tmp_path):
    """An adapter of the small base in the library."""
    config = json.loads((small_base / "config.json").read_text())
    folder = write_random(tmp_path / "made", config, base=str(small_base))
    return Library(home).put("mine", folder, {"run": "r1"})


def test_help_comes_in_a_blink_and_names_every_command(terminal):
    shown = terminal("adapters", "--help")
    assert shown.returncode == 0 and all(name in shown.stdout for name in ("list", "check", "convert", "merge"))


def test_a_real_terminal_checks_an_adapter_that_ships(terminal, home):
    ran = terminal("adapters", "check", "pirate", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["ok"] and told["base"] == "phi3/tiny" and told["rank"] == 16 and told["matched"] == 48
    assert told["unmatched"] == told["warnings"] == [] and "moves the logits" in told["verdict"]
    ran = terminal("adapters", "check", str(EMBEDDED_FOLDER))
    assert ran.returncode == 2 and ran.stdout == "" and len(ran.stderr.splitlines()) == 1


def test_all_adapters_are_listed(run, mine):
    status, out, _ = run("list")
    assert status == 0 and out.splitlines()[0].startswith("mine  for ") and "pirate" in out
    rows = [json.loads(line) for line in run("list", "--json")[1].splitlines()]
    assert rows[0]["name"] == "mine" and rows[0]["provenance"] == {"run": "r1"} and rows[-1]["shipped"]


def test_a_check_is_a_line_and_a_table(run, mine):
    status, out, _ = run("check", "mine")
    lines = out.splitlines()
    assert status == 0 and lines[0].startswith("Fits ") and "moves the logits" in lines[0]
    rows = ["made", "form", "down_proj", "gate_up_proj", "o_proj", "qkv_proj", "logits"]
    assert [line.split()[0] for line in lines[1:]] == rows
    assert "moves" not in run("check", mine.folder, "--no-probe")[1]


@pytest.mark.parametrize("arguments", [["check", "~$mine"], ["convert", "~$mine", "out", "--to", "split"],
                                       ["publish", "~$mine", "--preview"], ["check", "mine", "--base", "~$base"]])
def test_a_name_that_only_begins_as_somebodys_home_is_refused_in_a_sentence(run, mine, arguments):
    status, _, err = run(*arguments)
    assert status == 2 and "~$" in err and len(err.splitlines()) == 1


def test_a_refusal_is_one_sentence_on_stderr_and_told_as_json_too(run, mine):
    (mine.folder / CONFIG).write_text('{"peft_type": "IA3"}')
    status, out, err = run("check", "mine", "--json")
    told = json.loads(out)
    assert status == 2 and not told["ok"] and told["verdict"] == err.strip() and "IA3" in err
    assert run("check", "mine")[:2] == (2, "")
    for command in (["convert", "mine", "out", "--to", "peft"], ["merge", "mine", "out"]):
        status, out, err = run(*command)
        assert status == 2 and "IA3" in err and not out


def test_who_names_no_base_is_listed_so_and_is_published_for_none(run, mine):
    config = json.loads((mine.folder / CONFIG).read_text())
    (mine.folder / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": None}))
    assert run("list")[1].splitlines()[0] == "mine  for a base that it doesn't name"
    status, out, err = run("publish", "mine", "ada/mine", "--preview")
    assert status == 2 and not out and "doesn't say which base it was trained on" in err


def test_an_adapter_that_ships_does_not_fit_another_base(run):
    status, _, err = run("check", "pirate")
    assert status == 2 and "phi3/tiny as the base" in err
    assert run("check", "pirate", "--base", "phi3/tiny", "--no-probe")[0] == 0


@pytest.mark.parametrize("arguments", [
    ("check", "nobody"), ("check", "."), ("check", "mine", "--base", "/nowhere/at/all"),
    ("convert", "nobody", "out", "--to", "peft"), ("convert", "mine", "mine-again", "--to", "peft", "--alpha", "3"),
    ("merge", "nobody", "out"), ("convert", "README.md", "out", "--to", "peft"),
    ("convert", "tests", "out", "--to", "loralib"),
])
def test_what_is_not_there_is_a_sentence(run, mine, arguments):
    status, out, err = run(*arguments)
    assert status == 2 and out == "" and len(err.splitlines()) == 1 and "Traceback" not in err


def test_split_and_back_is_the_same_file(run, mine, tmp_path):
    for what, to, out in (("mine", "split", "split"), (tmp_path / "split", "peft", "back")):
        status, told, err = run("convert", what, tmp_path / out, "--to", to, "--json")
        assert status == 0, err
        assert json.loads(told)["format"] == to
    first, last = (load_file(folder / WEIGHTS) for folder in (mine.folder, tmp_path / "back"))
    assert first.keys() == last.keys() and all(torch.equal(first[key], last[key]) for key in first)
    assert run("check", tmp_path / "split")[0] == run("check", tmp_path / "back")[0] == 0
    assert json.loads((tmp_path / "split" / "provenance.json").read_text()) == {"run": "r1"}
    assert "there already" in run("convert", "mine", tmp_path / "back", "--to", "peft")[2]


def test_the_folder_that_one_is_in_takes_no_adapter(run, mine, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for out in (".", ""):
        status, _, err = run("convert", "mine", out, "--to", "split")
        assert status == 2 and "Name a folder that is new or empty" in err
    assert list((tmp_path / "empty").iterdir()) == []


def test_loralib_and_back_is_the_same_adapter(run, mine, tmp_path):
    assert run("convert", "mine", tmp_path / "lora", "--to", "loralib")[0] == 0
    assert {one.name for one in (tmp_path / "lora").iterdir()} == {"lora.safetensors", "lora.json"}
    assert run("convert", tmp_path / "lora", tmp_path / "back", "--to", "peft")[0] == 0
    first, last = (load_file(folder / WEIGHTS) for folder in (mine.folder, tmp_path / "back"))
    assert all(torch.equal(first[key], last[key]) for key in first)
    assert json.loads((tmp_path / "back" / CONFIG).read_text())["lora_alpha"] == 8


def test_a_bare_checkpoint_is_taken_with_its_alpha_and_said_to_lack_it(run, mine, tmp_path):
    run("convert", "mine", tmp_path / "lora", "--to", "loralib")
    torch.save(load_file(tmp_path / "lora" / "lora.safetensors"), tmp_path / "bare.pt")
    shutil.rmtree(tmp_path / "lora")
    status, out, _ = run("convert", tmp_path / "bare.pt", tmp_path / "guessed", "--to", "peft")
    assert status == 0 and "--alpha 16" in out
    status, out, _ = run("convert", tmp_path / "bare.pt", tmp_path / "told", "--to", "peft", "--alpha", "8", "--json")
    assert status == 0 and json.loads(out)["warnings"] == []
    assert json.loads((tmp_path / "told" / CONFIG).read_text())["lora_alpha"] == 8
    for option, value in (("--alpha", "nan"), ("--enable", "x_proj")):
        assert run("convert", tmp_path / "bare.pt", tmp_path / "no", "--to", "peft", option, value)[0] == 2


def test_a_merge_says_where_it_went(run, mine, tmp_path):
    status, out, _ = run("merge", "mine", tmp_path / "whole", "--precision", "fp32", "--json")
    told = json.loads(out)
    assert status == 0 and told["precision"] == "fp32" and told["layers"] == 8
    assert (tmp_path / "whole" / "model.safetensors").is_file()
    assert "there already" in run("merge", "mine", tmp_path / "whole")[2]


def test_a_damaged_adapter_hides_no_other(run, mine):
    for name, text in (("torn", "{"), ("odd", "[]"), ("deep", "[" * 100_000),
                       ("strange", '{"base_model_name_or_path": 7}')):
        (mine.folder.parent / name).mkdir()
        (mine.folder.parent / name / CONFIG).write_text(text)
        (mine.folder.parent / name / "provenance.json").write_text(text)
    status, out, _ = run("list")
    assert status == 0 and {"mine", "torn", "odd", "deep", "strange"} <= {line.split()[0] for line in out.splitlines()}
    assert run("check", "torn")[0] == 2
