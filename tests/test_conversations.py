"""Conversations on the disk behave like a sequence, and what was read lately isn't read again."""

import gc
import os
import time

import pytest

from tests.phi3_folder import byte_tokenizer
from training.conversations import Conversation, Writer, digest
from training.data import last, source_of
from training.shelf import Shelf


def pair(number):
    return ({"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}"})


@pytest.fixture
def many():
    writer = Writer()
    for number in range(2500):
        writer.add(number + 1, 0, pair(number))
    return writer.finished()


def test_they_are_read_back_as_they_were_written(many):
    assert len(many) == 2500
    assert many[1234] == Conversation(1235, pair(1234)) and many[-1].row == 2500
    assert [one.row for one in many] == list(range(1, 2501))
    assert [one.row for one in many[10:13]] == [11, 12, 13]
    with pytest.raises(IndexError):
        many[2500]


def test_a_choice_keeps_its_order(many):
    assert [one.row for one in many.chosen([7, 3, 2000]).chosen([2, 0])] == [2001, 8]
    assert many.chosen([5]).places_of(6) == [0] and many.chosen([5]).places_of(7) == []
    assert list(many.chosen([])) == []


def test_each_beginning_has_the_digest_that_it_has_alone():
    writer, spared = Writer(), {"role": "assistant", "content": "No.", "train": False}
    writer.add(1, 0, messages := (*pair(1), pair(2)[0], spared, *pair(3)))
    begins, _ = writer.finished().begins()
    assert begins.tolist() == [digest(messages[:place]) for place in (2, 4)]
    assert digest(messages[:4]) != digest((*messages[:3], {**spared, "train": True}))


def test_a_conversation_of_very_many_turns_is_gone_through_once():
    began, writer = time.process_time(), Writer()
    writer.add(1, 0, pair(1) * 8000)
    assert len(writer.finished().begins()[0]) == 7999 and time.process_time() - began < 5


def test_they_leave_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    writer = Writer()
    writer.add(1, 0, pair(1))
    kept = writer.finished()
    assert os.listdir(tmp_path) == [] and kept[0].messages == pair(1)
    del kept
    gc.collect()


def test_what_was_read_lately_is_not_read_again(chats):
    shelf, tokenizer = Shelf(most=1), byte_tokenizer()
    data = last(shelf.read(source_of(chats)))
    counted = last(shelf.counted(data, tokenizer))
    assert list(shelf.read(source_of(chats))) == [data] and list(shelf.counted(data, tokenizer)) == [counted]
    chats.write_text('{"prompt": "a", "completion": "b"}')
    assert len(last(shelf.read(source_of(chats))).conversations) == 1


def test_a_shelf_keeps_only_the_newest(chats, tmp_path):
    shelf = Shelf(most=1)
    first = last(shelf.read(source_of(chats)))
    for number in range(2):
        path = tmp_path / f"{number}.jsonl"
        path.write_text('{"prompt": "a", "completion": "b"}')
        last(shelf.read(source_of(path)))
    assert last(shelf.read(source_of(chats))) is not first
