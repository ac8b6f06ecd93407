"""The app's door: what it refuses in a sentence, and that its parts fit together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import free_port

ROOT = Path(__file__).resolve().parent.parent


def start(home: Path, **environment: str) -> subprocess.CompletedProcess:
    settings = {**os.environ, "STUDIO_HOME": str(home), "GRADIO_SERVER_PORT": str(free_port()), **environment}
    return subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=settings, capture_output=True, text=True,
                          timeout=120, check=False)


def refused_in_a_sentence(ended: subprocess.CompletedProcess) -> str:
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr.strip().splitlines()[-1]


def test_a_port_in_use_is_named(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused_in_a_sentence(start(home, GRADIO_SERVER_PORT=str(port)))
    assert str(port) in said and f"GRADIO_SERVER_PORT={port + 1}" in said


@pytest.mark.parametrize("port", ["abc", "0", "70000"])
def test_a_port_that_is_none_is_refused(home, port):
    assert port in refused_in_a_sentence(start(home, GRADIO_SERVER_PORT=port))


def test_a_base_of_another_family_is_refused(home, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    assert "model_type llama" in refused_in_a_sentence(start(home, STUDIO_BASE=str(tmp_path)))
