"""Fixtures that several test files share: a small Phi-3 folder, an empty studio, some chat data."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import pytest

from tests.phi3_folder import make_phi3_folder

ROOT = Path(__file__).resolve().parent.parent
# Read when huggingface_hub is imported, and the tests' Hub knows plain uploads alone.
os.environ["HF_HUB_DISABLE_XET"] = "1"
# Read when Triton is imported, by whomever: without a card its kernels are interpreted.
if shutil.which("nvidia-smi") is None:
    os.environ["TRITON_INTERPRET"] = "1"
# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def small_base(tmp_path_factory) -> Path:
    """A Phi-3 of random weights, laid out as a public repository is; tests leave it as it is."""
    return make_phi3_folder(tmp_path_factory.mktemp("bases") / "small-phi3")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty studio folder that this process and its children use."""
    folder = tmp_path / "studio"
    monkeypatch.setenv("STUDIO_HOME", str(folder))
    monkeypatch.delenv("STUDIO_BASE", raising=False)
    return folder


@pytest.fixture
def test_hub(monkeypatch):
    """A Hub of our own, at HF_ENDPOINT; nobody is signed in."""
    from tests.hub_server import running_hub

    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def chats(tmp_path) -> Path:
    """Forty conversations as a JSONL file of messages."""
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps({"messages": [
        {"role": "user", "content": f"Say {number}."}, {"role": "assistant", "content": f"Arr, {number}, matey!"},
    ]}) for number in range(40)), encoding="utf-8")
    return path


@pytest.fixture
def new_run(home, small_base, chats, request):
    """Makes a run on the small base and the forty conversations, with the test file's own SETTINGS."""
    from training.config import RunConfig
    from training.data import read_data
    from training.runs import Runs

    def made(name, **settings):
        config = RunConfig.from_settings({**request.module.SETTINGS, "name": name, "base": str(small_base), **settings})
        return Runs(home).create(config, read_data(chats))

    return made


@pytest.fixture
def terminal():
    """Runs `python -m …` in the project's folder and returns the finished process."""

    def run(*arguments: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=300, check=False, **options)

    return run


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    """The app, running with a studio folder of its own; started once for all browser tests."""
    from tests.browser import running_app

    folder = tmp_path_factory.mktemp("app")
    with running_app(folder / "studio", folder / "app.log") as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, for all browser tests."""
    from playwright.sync_api import sync_playwright

    from tests.browser import launched

    with sync_playwright() as playwright:
        chromium = launched(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(app, browser):
    """Opens pages of the app, `visit("?run=ID", width=390, scheme="dark")`, and closes them afterwards."""
    pages = []

    def opened(query: str = "", **options):
        pages.append(app.open(browser, query, **options))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()


@pytest.fixture
def visitors(browser):
    """Browsers that know nothing of each other, and reach nothing but this machine; `visitors()` is a new one."""
    from tests.browser import PATIENCE

    contexts = []

    def one(width: int = 1280):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        contexts[-1].set_default_timeout(PATIENCE)
        # Gradio's frame around a Space asks huggingface.co about it, and Google for fonts.
        here = ("127.0.0.1", "localhost")
        contexts[-1].route(lambda url: urlsplit(url).hostname not in here, lambda route: route.abort())
        return contexts[-1]

    yield one
    for context in contexts:
        context.close()


@pytest.fixture
def made(tmp_path):
    """A folder that looks like an adapter's."""
    folder = tmp_path / "made"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text("{}")
    return folder
