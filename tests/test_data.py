"""Chat data: what is read, what is dropped and why, and what the model will see."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.phi3_folder import byte_tokenizer
from training.data import as_the_model_sees, example_names, make_report, read_data, read_text, split

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
SAME_CHAT = {
    "messages": {"messages": TURNS},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Ho"},
    "prompt-completion": {"prompt": "Hi", "completion": "Ho"},
}


def lines(*rows) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


@pytest.mark.parametrize("shape", SAME_CHAT)
def test_four_shapes_become_the_same_conversation(shape):
    data = read_text(lines(SAME_CHAT[shape]))
    assert data.format == shape
    assert list(data.conversations[0].messages) == TURNS


def test_prompt_and_completion_may_be_lists_of_messages():
    assert list(read_text(lines({"prompt": TURNS[:1], "completion": TURNS[1:]})).conversations[0].messages) == TURNS


def test_alpacas_input_joins_the_question():
    messages = read_text(lines({"instruction": "Sort", "input": "b a", "output": "a b"})).conversations[0].messages
    assert messages[0]["content"] == "Sort\n\nb a"


def test_dropped_rows_keep_a_persons_row_numbers_and_say_why():
    data = read_text(lines(SAME_CHAT["messages"], "", "{broken", {"messages": []}, {"messages": TURNS[:1]},
                           {"messages": [{"role": "tool", "content": "x"}]}, SAME_CHAT["alpaca"]))
    assert [one.row for one in data.conversations] == [1, 7]
    reasons = {drop.row: drop.reason for drop in data.dropped}
    assert reasons[3].startswith("not JSON") and reasons[4] == "no list of turns"
    assert reasons[5] == "no answer by the assistant" and reasons[6] == "a turn of a tool (role 'tool')"


def test_turns_of_one_role_are_joined_and_what_follows_the_last_answer_is_left_out():
    messages = read_text(lines({"messages": [TURNS[0], TURNS[0], TURNS[1], TURNS[0]]})).conversations[0].messages
    assert [turn["content"] for turn in messages] == ["Hi\n\nHi", "Ho"]


def test_a_json_list_or_a_list_under_one_key_is_read(tmp_path):
    for content in ([SAME_CHAT["messages"]], {"data": [SAME_CHAT["messages"]]}):
        path = tmp_path / "chats.json"
        path.write_text(json.dumps(content))
        assert len(read_data(path).conversations) == 1


@pytest.mark.parametrize(("name", "content", "said"), [
    ("empty.jsonl", b"", "empty.jsonl is empty."),
    ("blank.jsonl", b" \n\n", "blank.jsonl is empty."),
    ("photo.jsonl", b"\xff\xd8\xff\xe0", "photo.jsonl is a JPEG picture"),
    ("turkish.jsonl", b"{\"a\": \"\x81\"}", "turkish.jsonl is not UTF-8 text (byte 7)"),
    ("nul.jsonl", b"PK\x00\x00", "nul.jsonl is a binary file."),
    ("half.json", b'[{"prompt": "a", "compl', "half.json is not whole JSON"),
    ("table.jsonl", b'{"colour": "red", "size": 1}', "Columns seen: colour, size."),
    ("number.json", b"7", "holds int, not a list"),
])
def test_a_file_that_holds_nothing_usable_is_refused_in_a_sentence(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError) as refusal:
        read_data(path)
    assert said in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"There is no file ~\$book\.xlsx"):
        read_data("~$book.xlsx")
    with pytest.raises(ValueError, match=r"There is no file nowhere\.jsonl"):
        read_data("nowhere.jsonl")
    with pytest.raises(ValueError, match="holds no file that can be read"):
        read_data(tmp_path)


def test_an_example_among_others_is_not_said_to_be_missing():
    with pytest.raises(ValueError, match="pirate is an example, which is read alone"):
        read_data(["pirate", "shop"])


def test_examples_are_found_by_name():
    assert {"pirate", "json", "shop"} <= set(example_names())
    assert read_data("pirate").kind == "example"


def test_a_separator_that_only_json_knows_is_no_line_end():
    assert read_text('{"prompt": "a\u2028b", "completion": "c"}').rows_read == 1


def test_the_report_counts_tokens_duplicates_and_cuts():
    tokenizer = byte_tokenizer()
    long = {"prompt": "x" * 300, "completion": "y"}
    report = make_report(read_text(lines(*[SAME_CHAT["messages"]] * 3, long)), tokenizer, max_length=64)
    # <|user|> Hi <|end|> <|assistant|> Ho <|end|> <|endoftext|>, a token a letter.
    assert report.tokens.median == 9 and report.tokens.longest == 306
    assert report.tokens.trained == 3 * 4
    assert report.duplicates == 2 and report.truncated == 1
    assert any("whole answer" in warning for warning in report.warnings)
    assert json.loads(json.dumps(report.as_json()))["tokens"]["total"] == 3 * 9 + 64


def test_nothing_left_to_train_is_the_first_warning():
    report = make_report(read_text(lines({"prompt": "x" * 50, "completion": "y"})), byte_tokenizer(), max_length=16)
    assert report.tokens.trained == 0 and report.warnings[0].startswith("Nothing to train")


def test_the_split_is_seeded_and_keeps_equal_conversations_on_one_side():
    rows = [{"prompt": f"q{number % 10}", "completion": "a"} for number in range(40)]
    data = read_text(lines(*rows))
    train, held = split(data, 0.2, seed=1)
    asked = [{one.messages[0]["content"] for one in side} for side in (train, held)]
    assert not asked[0] & asked[1] and len(asked[1]) == 2
    assert split(data, 0.2, seed=1) == (train, held) != split(data, 0.2, seed=2)


def talk(*said):
    return {"messages": [{"role": "user" if place % 2 == 0 else "assistant", "content": text}
                         for place, text in enumerate(said)]}


def test_what_asks_the_same_and_what_begins_another_is_on_one_side():
    rows = [row for number in range(20) for row in (
        talk(f"Question {number}", "one"), talk(f"question  {number} ", "another"),
        talk(f"Question {number}", "one", "And?", "x"))]
    data = read_text(lines(*rows))
    for seed in range(5):
        train, held = split(data, 0.1, seed)
        asked = [{one.messages[0]["content"].split()[-1] for one in side} for side in (train, held)]
        assert not asked[0] & asked[1] and len(held) == 6 and len(train) == 54
    assert not any("held out" in one for one in make_report(data, byte_tokenizer(), 64).warnings)
    # A greeting that many begin with alike keeps nobody together.
    greeted = read_text(lines(*[talk("Hi", "Hello!", f"Question {number}", "one") for number in range(20)]))
    assert len(split(greeted, 0.1, 0)[1]) == 2


def test_too_few_questions_are_divided_all_the_same_and_that_is_said():
    data = read_text(lines(*[talk("Tell me a joke.", f"Joke {number}") for number in range(20)]))
    assert [len(side) for side in split(data, 0.1, 0)] == [18, 2]
    warnings = make_report(data, byte_tokenizer(), 64).warnings
    assert any(one.startswith("Too few different questions") for one in warnings)


def test_own_validation_rows_that_ask_what_is_trained_on_are_told(tmp_path):
    for name, answer in (("train", "a"), ("validation", "b")):
        (tmp_path / f"{name}.jsonl").write_text(lines(
            *[talk(f"{name if number else 'both'} {number}", answer) for number in range(4)]))
    data = read_data(tmp_path)
    told = [one for one in make_report(data, byte_tokenizer(), 64).warnings if "validation" in one]
    assert told == ["The questions of 1 of the dataset's own validation rows are trained on as well, with another "
                    "answer or further on: those rows say little of questions that are new."]
    assert len(split(data, 0.1, 0)[1]) == 4


def test_one_kind_of_conversation_leaves_nothing_held_out():
    train, held = split(read_text(lines(*[SAME_CHAT["messages"]] * 5)), 0.1, seed=0)
    assert len(train) == 5 and not held


def test_what_the_model_sees_shows_control_tokens_and_marks_the_answer():
    assert as_the_model_sees(byte_tokenizer(), TURNS, 64) == [
        ("<|user|>Hi<|end|><|assistant|>", False), ("Ho<|end|><|endoftext|>", True)]


turns = some.fixed_dictionaries({"role": some.sampled_from(["system", "user", "assistant", "human", "tool"]),
                                 "content": some.text(max_size=8)})


@given(some.lists(turns, max_size=6))
def test_any_list_of_turns_becomes_a_conversation_or_a_reason(messages):
    good = {"prompt": "q", "completion": "a"}
    data = read_text(lines(good, {"messages": messages}))
    assert data.rows_read == 2
    for one in data.conversations:
        roles = [turn["role"] for turn in one.messages]
        assert roles[-1] == "assistant" and "user" in roles
        assert all(first != second for first, second in pairwise(roles))
