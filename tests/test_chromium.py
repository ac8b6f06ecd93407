"""The browser of the tests is found where it is, installed where that can be done, and asked for elsewhere."""

from pathlib import Path

import pytest

from tests import chromium


@pytest.fixture
def commands(tmp_path, monkeypatch) -> Path:
    """The only folder in which commands are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(chromium, "MAC", tmp_path / "no such browser")
    return tmp_path


def command(folder: Path, name: str, script: str = "") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_any_of_the_usual_browsers_will_do(commands):
    chrome = command(commands, "google-chrome")
    assert chromium.find_or_install() == str(chrome)


def test_the_browser_that_is_named_is_taken_before_the_usual_ones(commands, monkeypatch):
    command(commands, "chromium")
    own = command(commands, "my-browser")
    monkeypatch.setenv("CHROMIUM", str(own))
    assert chromium.find_or_install() == str(own)


def test_a_missing_browser_is_installed_from_the_systems_packages(commands):
    browser = commands / "chromium"
    command(commands, "sudo", 'shift; exec "$@"')
    command(commands, "apt-get", f'[ "$1" = install ] || exit 0; echo > {browser}; /bin/chmod +x {browser}')
    assert chromium.find_or_install() == str(browser)


def test_where_no_browser_can_be_had_a_sentence_says_what_to_do(commands):
    with pytest.raises(FileNotFoundError, match="set CHROMIUM to its path"):
        chromium.find_or_install()


def test_a_named_browser_that_is_not_there_is_not_replaced_by_another(commands, monkeypatch):
    command(commands, "chromium")
    monkeypatch.setenv("CHROMIUM", str(commands / "gone"))
    with pytest.raises(FileNotFoundError, match="Install either"):
        chromium.find_or_install()
