"""Tokens of a run's rows: worked out once, and again only where they would be others."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from phi3.models import base_facts, load_tokenizer
from phi3.template import encode_conversation
from training import tokens
from training.config import RunConfig
from training.data import read_data
from training.run import Run
from training.runs import Runs
from training.tokens import FILE, tokens_of


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(base_facts("phi3/tiny"))


@pytest.fixture
def run(home, chats):
    return Runs(home).create(RunConfig.from_settings({"name": "one"}), read_data(chats))


@pytest.fixture
def refuses_to_encode(monkeypatch):
    """From here on nothing may be worked out anew."""
    def refuse(*given):
        raise AssertionError("It was worked out before.")
    return lambda: monkeypatch.setattr(tokens, "encode_conversation", refuse)


def test_both_sides_are_what_the_template_gives(run, tokenizer):
    train, held = tokens_of(run, tokenizer)
    for rows, conversations in zip((train, held), run.conversations(), strict=True):
        assert len(rows) == len(conversations) > 0
        for row, one in zip(rows, conversations, strict=True):
            encoded = encode_conversation(tokenizer, one.messages)
            assert row["input_ids"] == list(encoded.input_ids) and row["labels"] == list(encoded.labels())


def test_they_are_read_again_as_they_were(run, tokenizer, refuses_to_encode):
    first = tokens_of(run, tokenizer)
    refuses_to_encode()
    assert tokens_of(Run(run.folder), tokenizer) == first


def test_two_who_work_them_out_at_once_get_the_same(run, tokenizer):
    started = threading.Barrier(4)

    def work_out(_):
        started.wait(20)
        return tokens_of(Run(run.folder), tokenizer)

    with ThreadPoolExecutor(4) as several:
        first, *others = several.map(work_out, range(4))
    assert all(one == first for one in others) and [one.name for one in run.folder.glob("*token*")] == [FILE]


def test_another_length_or_a_damaged_file_is_worked_out_anew(run, tokenizer):
    first = tokens_of(run, tokenizer)
    path = run.folder / FILE
    path.write_bytes(path.read_bytes()[:-20])
    assert tokens_of(run, tokenizer) == first
    settings = (run.folder / "config.yaml").read_text().replace("max_length: 1024", "max_length: 20")
    (run.folder / "config.yaml").write_text(settings)
    assert max(len(row["input_ids"]) for row in tokens_of(Run(run.folder), tokenizer)[0]) <= 20
