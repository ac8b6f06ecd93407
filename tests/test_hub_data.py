"""A dataset on the Hub: its id, its splits, only as many rows as are needed, and a sentence where it can't be read."""

import time

import pytest
from huggingface_hub.utils import httpx

from training.data import Source, last, read_steps, split
from training.hub_data import HubRows, hub_id, is_hub_id


class Rows:
    """Stands for a streamed split; counts how many rows were taken from it."""

    features = None

    def __init__(self, rows, problem=None):
        self.rows, self.problem, self.taken = rows, problem, 0

    def __iter__(self):
        for row in self.rows:
            self.taken += 1
            yield row
        if self.problem:
            raise self.problem


class Staged(HubRows):
    """A dataset whose splits are at hand."""

    def _splits(self):
        return SPLITS[self.id]


def pairs(name, count):
    return [{"prompt": f"{name} {number}", "completion": "yes"} for number in range(count)]


SPLITS = {
    "ada/whole": {"train": Rows(pairs("train", 500)), "validation": Rows(pairs("held", 3)), "test": Rows([])},
    "ada/broken": {"train": Rows(pairs("train", 2), ConnectionError("gone"))},
    "ada/silent": {"train": Rows(pairs("train", 2), httpx.ReadTimeout("silent"))},
}


def read(id, **more):
    return last(read_steps(Source(id, "hub", hub=Staged(id, **more))))


def test_only_the_rows_that_are_needed_are_taken_and_its_own_split_is_held_out():
    data = read("ada/whole", rows=100)
    assert data.rows_read == 103 and SPLITS["ada/whole"]["train"].taken == 100
    assert len(split(data, 0.1, seed=0)[1]) == 3
    assert "Only the first 100 rows" in data.notes[0]
    assert read("ada/whole", split="validation").rows_read == 3


def test_a_split_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ValueError, match=r"no split dev\. It has: train, validation, test"):
        read("ada/whole", split="dev")


@pytest.mark.parametrize("id", ["ada/broken", "ada/silent"])
def test_a_hub_that_goes_away_is_a_sentence(id):
    with pytest.raises(ValueError, match="The Hub can't be reached"):
        read(id)


def test_a_hub_that_is_not_there_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    began = time.monotonic()
    with pytest.raises(ValueError, match="The Hub can't be reached from here, so ada/nothing can't be read"):
        last(read_steps(Source("ada/nothing", "hub", hub=HubRows("ada/nothing"))))
    assert time.monotonic() - began < 10  # and not after six attempts


@pytest.mark.parametrize(("typed", "id"), [
    ("ada/chats", "ada/chats"), (" https://huggingface.co/datasets/ada/chats/viewer?x=1 ", "ada/chats"),
    ("hf://datasets/ada/chats", "ada/chats"), ("chats", "chats")])
def test_an_id_or_its_address_is_understood(typed, id):
    assert hub_id(typed) == id


@pytest.mark.parametrize("typed", ["", "../chats", "/etc/passwd", "a b/c", "ada/..", "http://elsewhere/ada/chats/x"])
def test_what_is_no_id_is_refused(typed):
    with pytest.raises(ValueError, match="is no dataset's id"):
        hub_id(typed)


def test_a_file_is_no_id(chats, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").mkdir()
    assert is_hub_id("ada/chats") and not is_hub_id("a/b") and not is_hub_id("data/chats.jsonl")
    with pytest.raises(ValueError, match="is a folder beside the app"):
        last(read_steps(Source("a/b", "hub", hub=HubRows("a/b"))))
