"""The app's door: what it refuses in a sentence, and that its parts fit together."""

import os
import socket
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
import torch

import app
from phi3.lending import Refused
from tests.browser import free_port

ROOT = Path(__file__).resolve().parent.parent


def start(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    settings = {**os.environ, "STUDIO_HOME": str(home), "GRADIO_SERVER_PORT": str(free_port()), **environment}
    return subprocess.run([sys.executable, "app.py", *arguments], cwd=ROOT, env=settings, capture_output=True,
                          text=True, timeout=120, check=False)


def refused_in_a_sentence(ended: subprocess.CompletedProcess) -> str:
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_help_says_how_it_is_told_something_and_an_option_that_it_lacks_is_refused(home):
    asked = start(home, "--help")
    assert asked.returncode == 0 and "GRADIO_SERVER_PORT" in asked.stdout
    said = refused_in_a_sentence(start(home, "--port", "7999"))
    assert "--port 7999" in said and "GRADIO_SERVER_PORT" in said


def test_a_port_in_use_is_named(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused_in_a_sentence(start(home, GRADIO_SERVER_PORT=str(port)))
    assert str(port) in said and f"GRADIO_SERVER_PORT={port + 1}" in said


@pytest.mark.slow
@pytest.mark.parametrize("port", ["abc", "0", "70000"])
def test_a_port_that_is_none_is_refused(home, port):
    assert port in refused_in_a_sentence(start(home, GRADIO_SERVER_PORT=port))


@pytest.mark.slow
def test_a_base_of_another_family_is_refused(home, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    assert "model_type llama" in refused_in_a_sentence(start(home, STUDIO_BASE=str(tmp_path)))


@pytest.mark.slow
def test_a_studio_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "studio"):
        said = refused_in_a_sentence(start(home))
        assert said.startswith(f"Nothing can be kept in {home}") and "STUDIO_HOME" in said


@pytest.mark.parametrize("entrance", ["app", "training.__main__", "chat.__main__", "adapters.__main__"])
def test_on_windows_itself_a_sentence_says_where_it_runs(entrance):
    """Before anything is imported that Windows lacks."""
    look = f"import sys, {'spaces, gradio, ' if entrance == 'app' else ''}os; sys.platform = 'win32'; import {entrance}"
    ended = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, timeout=120,
                           check=False)
    assert "WSL 2" in refused_in_a_sentence(ended)


@pytest.mark.parametrize("seconds", ["4", "3601", "a minute"])
def test_a_turn_of_no_sensible_length_is_refused(seconds):
    with pytest.raises(ValueError, match="STUDIO_TURN_SECONDS is"):
        app.turn_seconds(seconds)
    assert app.turn_seconds("") == 60 and app.turn_seconds("30") == 30


def test_many_come_to_a_space_and_one_to_ones_own_machine(monkeypatch):
    assert not app.many_come("") and app.many_come("many") and not app.many_come("one")
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("SPACE_ID", "ada/studio")
    assert app.many_come("") and not app.many_come("one")
    with pytest.raises(ValueError, match="STUDIO_VISITORS is 'few'"):
        app.many_come("few")


def refuse(problem):
    raise problem


def refuse_streaming(problem):
    yield "a word"
    raise problem


@pytest.mark.parametrize(("problem", "reason"), [
    (gr.Error("Expired ZeroGPU proxy token", title="ZeroGPU client error", print_exception=False), "token"),
    (gr.Error("GPU task aborted", title="ZeroGPU worker error", print_exception=False), "aborted")])
def test_what_the_platform_refuses_reaches_the_page_as_a_reason_and_a_sentence(problem, reason):
    with pytest.raises(Refused) as refused:
        app.lent(refuse, lambda problem: 1)(problem)
    assert refused.value.refusal.reason == reason
    answers = app.lent(refuse_streaming, lambda problem: 1)(problem)
    assert next(answers) == "a word"
    with pytest.raises(Refused):
        next(answers)


def test_what_goes_wrong_in_the_work_itself_keeps_its_sentence():
    with pytest.raises(gr.Error, match="Use a smaller batch") as failed:
        app.lent(refuse, lambda problem: 1)(ValueError("Use a smaller batch."))
    assert not isinstance(failed.value, Refused)


def test_a_base_that_finds_no_memory_is_told_of_in_a_sentence_and_holds_none():
    def load():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 96.00 MiB.")

    promised = Future()
    app._fill(promised, load)
    with pytest.raises(ValueError, match="no memory left for the base that answers") as told:
        promised.result()
    # What was loaded until then would stay for as long as whatever knows where it was raised.
    assert told.value.__cause__ is told.value.__context__ is None


def test_a_full_disk_at_the_start_keeps_nothing_from_being_swept(home, monkeypatch):
    class FullAtFirst:
        """A queue that can't begin whoever waits, the first time that it is asked to."""

        looks = 0

        def look(self):
            self.looks += 1
            if self.looks == 1:
                raise OSError(28, "No space left on device")

    class Ended(BaseException):
        """What ends a thread that goes on for as long as its app."""

    def swept(*_):
        raise Ended

    queue = FullAtFirst()
    monkeypatch.setattr(app, "SECONDS_BETWEEN_SWEEPS", 0)
    monkeypatch.setattr(app, "sweep", swept)
    with pytest.raises(Ended):
        app.tidy_behind(SimpleNamespace(queue=queue, home=home, runs=None, limits=None, many_visitors=True))
    assert queue.looks == 2
