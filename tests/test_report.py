"""What is said of a dataset before Start: counts at any limit, lengths, spelling, and every warning in words."""

import json

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some

from phi3.template import encode_conversation
from tests.phi3_folder import byte_tokenizer
from training.config import RunConfig
from training.data import read_data, read_text
from training.report import check_trainable, count_steps, lengths_of, make_report, report_of

TOKENIZER = byte_tokenizer()


def rows(count, answer="an answer"):
    return "\n".join(json.dumps({"prompt": f"question {number}", "completion": answer}) for number in range(count))


def counted(data):
    *_, found = count_steps(data.conversations, TOKENIZER)
    return found


def warned(data, **asked):
    return " ".join(report_of(data, counted(data), TOKENIZER, RunConfig(**asked)).warnings)


def test_a_conversation_whose_answer_is_cut_away_is_no_row_of_a_plan():
    data = read_text("\n".join((rows(3), json.dumps({"prompt": "far " * 50, "completion": "an answer"}))))
    assert len(lengths_of(data.conversations, TOKENIZER, 500)) == 4
    assert lengths_of(data.conversations, TOKENIZER, 100) == lengths_of(data.conversations[:3], TOKENIZER, 100)


@given(some.lists(some.tuples(some.text(min_size=1, max_size=30), some.text(min_size=1, max_size=30)), min_size=1,
                  max_size=4), some.integers(1, 90))
def test_counts_at_any_limit_are_those_of_the_cut_conversation(pairs, limit):
    try:
        data = read_text("\n".join(json.dumps({"prompt": one, "completion": other}) for one, other in pairs))
    except ValueError:
        return
    cut = [encode_conversation(TOKENIZER, one.messages).cut(limit) for one in data.conversations]
    assert counted(data).cut(limit).tolist() == [len(one.input_ids) for one in cut]
    assert counted(data).trained(limit).tolist() == [sum(one.trained) for one in cut]


def test_a_conversation_teaches_something_where_its_first_answer_begins_within_the_limit():
    found = counted(read_text("\n".join((rows(3), json.dumps({"prompt": "far " * 50, "completion": "an answer"})))))
    for limit in (5, 40, 100, 500):
        assert ((found.trained(limit) > 0) == (found.begins() < limit)).all()


def test_the_histogram_holds_every_conversation_and_the_limit_is_an_edge():
    data = read_text(rows(50) + "\n" + rows(3, "long " * 40))
    for limit in (16, 30, 64, 1000):
        bars = counted(data).bars(limit)
        assert sum(bar.count for bar in bars) == 53
        assert sum(bar.count for bar in bars if bar.over) == int((counted(data).lengths > limit).sum())


def test_the_cost_of_a_cut_is_told_in_trained_tokens():
    data = read_text(rows(30))
    whole, cut = make_report(data, TOKENIZER, 1000), make_report(data, TOKENIZER, 20)
    assert whole.lost == 0 and cut.lost == whole.tokens.trained - cut.tokens.trained > 0
    assert cut.truncated == 30 and "are longer than the limit" in " ".join(cut.warnings)


def test_nothing_to_train_is_refused():
    found = counted(read_text(rows(2)))
    check_trainable(found, 1000)
    with pytest.raises(ValueError, match="Nothing to train"):
        check_trainable(found, 5)


def test_the_json_has_the_promised_keys_and_the_first_thousand_dropped_rows():
    report = make_report(read_text(rows(3) + "\nbroken" * 1500), TOKENIZER, 100)
    plain = json.loads(json.dumps(report.as_json()))
    assert list(plain) == ["format", "rows_read", "rows_kept", "rows_dropped", "dropped_total", "duplicates", "tokens",
                           "truncated", "warnings"]
    assert len(plain["rows_dropped"]) == 1000 and plain["dropped_total"] == 1500
    assert set(plain["rows_dropped"][0]) == {"row", "reason"}


@pytest.mark.parametrize(("text", "asked", "words"), [
    (rows(3), {}, "Only 3 conversations"), (rows(30), {"num_train_epochs": 60.0}, "seen 60 times"),
    (rows(30), {"max_steps": 300}, "seen 75 times"), ("\n".join([rows(1)] * 30), {}, "none can be held out"),
    (rows(30) + "\nx", {}, "1 of 31 rows can't be used and is left out."),
    (rows(30) + "\nx" * 2, {}, "2 of 32 rows can't be used and are left out."),
    (rows(1), {}, "Only 1 conversation: an adapter of so few mostly repeats it."),
    (rows(1, "word " * 30), {"max_length": 100}, "1 of 1 conversations is longer than the limit and is cut."),
    (rows(30, "Grüße aus Köln"), {}, "spells this language in bytes")])
def test_what_to_know_is_said_in_words(text, asked, words):
    assert words in warned(read_text(text), **asked)


@pytest.mark.parametrize(("asked", "seen"), [
    ({"max_steps": 30, "per_device_train_batch_size": 64}, 30),  # an epoch is a single step
    ({"max_steps": 60, "per_device_train_batch_size": 8, "held_out": 0.5}, 30),
    ({"max_steps": 15, "per_device_train_batch_size": 64, "held_out": 0.0}, 0)])
def test_how_often_a_conversation_is_seen_is_told_as_it_is_trained(asked, seen):
    told = warned(read_text(rows(30)), **asked)
    assert (f"Every conversation is seen {seen} times" if seen else "") in told and ("is seen" in told) == bool(seen)


def test_a_base_without_a_system_role_says_what_is_done_instead():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("== 'system'", "== 'never'")
    data = read_text(json.dumps({"system": "Be brief.", "prompt": "a", "completion": "b"}))
    assert "no system role" in " ".join(make_report(data, tokenizer, 100).warnings)
    assert "no system role" not in " ".join(make_report(data, TOKENIZER, 100).warnings)


def test_rows_on_both_sides_are_told(tmp_path):
    (tmp_path / "train.jsonl").write_text(rows(30))
    (tmp_path / "validation.jsonl").write_text(rows(2))
    assert "All 2 of the dataset's own validation rows" in warned(read_data(tmp_path))
    (tmp_path / "validation.jsonl").write_text(rows(2) + '\n{"prompt": "new", "completion": "held"}')
    assert "2 of the dataset's own validation rows" in warned(read_data(tmp_path))


def test_repeats_are_counted_and_go_where_that_is_asked():
    text = "\n".join([rows(3), rows(2)])
    assert make_report(read_text(text), TOKENIZER, 100).duplicates == 2
    data = read_text(text, without_repeats=True)
    assert [(one.row, one.reason) for one in data.dropped] == [(4, "the same as row 1"), (5, "the same as row 2")]
    assert make_report(data, TOKENIZER, 100).duplicates == 0
    assert numpy.array_equal(data.conversations.column("row"), [1, 2, 3])
