"""A row in every shape that people use becomes the same turns, and each oddity is met by its rule."""

import json
import time
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from phi3.template import encode_conversation
from tests.phi3_folder import CONTROL_TOKENS, byte_tokenizer
from training.beside import CHOICES_UNDER, CONTEXT_FIRST, REASONED, TOLD_TWICE, TOOLED
from training.columns import Columns, guess_columns
from training.shapes import as_chat, as_messages, shape_of
from training.turns import ANSWERED, CONTEXT, ROLES, TRAILING

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
SYSTEM = {"role": "system", "content": "Be brief."}
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
SAME = [
    ("messages", {"messages": TURNS}), ("sharegpt", {"conversations": SHAREGPT}),
    ("sharegpt", {"conversation": SHAREGPT}),
    ("messages", {"dialog": TURNS}), ("messages", {"Chat": TURNS}), ("messages", {"whatever": TURNS}),
    ("messages", {"messages": json.dumps(TURNS)}), ("messages", {"messages": repr(TURNS)}),
    ("messages", {"messages": json.dumps(json.dumps(TURNS))}), ("messages", TURNS), ("messages", json.dumps(TURNS)),
    ("messages", {"messages": {"role": ["user", "assistant"], "content": ["Hi", "Ho"]}}),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "H"},
                                                            {"type": "text", "text": "i"}]}, TURNS[1]]}),
    ("messages", {"data": ["Hi", "Ho"]}), ("messages", {"conversation": [["Hi", "Ho"]]}),
    ("messages", {"conversation": [{"human": "Hi", "assistant": "Ho"}]}),
    ("messages", {"conversation": [{"input": "Hi", "output": "Ho"}]}),
    ("messages", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]},
                               {"role": "model", "parts": [{"text": "Ho"}]}]}),
    ("alpaca", {"instruction": "Hi", "input": "", "output": "Ho"}),
    ("alpaca", {"instruction": "Hi", "response": "Ho"}),
    ("prompt-completion", {"prompt": "Hi", "completion": "Ho"}),
    ("prompt-completion", {"prompt": TURNS[:1], "completion": TURNS[1:]}),
    ("question and answer", {"question": "Hi", "answer": "Ho"}),
    ("question and answer", {"QUESTION": "Hi", "Answer ": "Ho"}),
    ("question and answer", {"User Input": "Hi", "bot-response": "Ho"}),
    ("question and answer", {"q": "Hi", "a": "Ho"}), ("question and answer", {"input": "Hi", "output": "Ho"}),
    ("question and answer", {"prompt": "Hi", "response": "Ho"}),
    ("preference", {"prompt": "Hi", "chosen": "Ho", "rejected": "No"}),
    ("preference", {"chosen": TURNS, "rejected": TURNS[:1]}),
    ("preference", {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": TURNS[1:]}),
    ("preference", {"prompt": "Hi", "chosen": TURNS[1], "rejected": TURNS[1]}),
    ("preference", {"input": {"messages": TURNS[:1], "tools": []}, "preferred_output": TURNS[1:],
                    "non_preferred_output": TURNS[1:]}),
    ("preference", {"chosen": "\n\nHuman: Hi\n\nAssistant: Ho", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}),
    ("chatml", {"text": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"}),
    ("phi-3", {"text": "<|user|>\nHi<|end|>\n<|assistant|>\nHo<|end|>\n<|endoftext|>"}),
    ("phi-3", "<|user|>Hi<|end|><|assistant|>Ho<|end|>"), ("inst text", {"text": "<s>[INST] Hi [/INST] Ho </s>"}),
    ("llama-3 text", {"text": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                              "<|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>"}),
    ("gemma text", {"text": "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n"}),
    ("alpaca text", {"text": "Below is a task.\n\n### Instruction:\nHi\n\n### Response:\nHo</s>"}),
    ("human assistant text", {"text": "### Human: Hi### Assistant: Ho"}),
    ("human assistant text", {"text": "Human: Hi\nAI: Ho"}),
    ("human assistant text", {"system": " ", "chat": "USER: Hi\n\n\nASSISTANT: Ho <|endoftext|>\n\n\n"}),
]


@pytest.mark.parametrize(("shape", "row"), SAME)
def test_every_shape_becomes_the_same_turns(shape, row):
    assert as_messages(row) == TURNS
    assert shape_of(row) == shape


@pytest.mark.parametrize("role", ["human", "USER", "prompter", "customer", " Human "])
@pytest.mark.parametrize("answerer", ["gpt", "Assistant", "bot", "model", "chatgpt", "AI", "chat-gpt"])
def test_roles_are_known_in_every_spelling(role, answerer):
    assert as_messages({"conversations": [{"from": role, "value": "Hi"}, {"from": answerer, "value": "Ho"}]}) == TURNS


@pytest.mark.parametrize("row", [
    {"system": "Be brief.", "instruction": "Hi", "output": "Ho"}, {"system": "Be brief.", "conversations": SHAREGPT},
    {"system_prompt": "Be brief.", "question": "Hi", "response": "Ho"},
    {"system": "Be brief.", "text": "### Human: Hi### Assistant: Ho"},
    {"system": "SYSTEM: Be brief.\n", "chat": "USER: Hi\n\n\nASSISTANT: Ho <|endoftext|>"},
    {"sample": "SYSTEM: Be brief.\nUSER: Hi\nASSISTANT: Ho <|endoftext|>"},
    {"text": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
             "<|im_start|>assistant\nHo<|im_end|>"},
    {"text": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Ho </s>"}])
def test_a_system_column_or_turn_comes_first(row):
    assert as_messages(row) == [SYSTEM, *TURNS]


@pytest.mark.parametrize(("turns", "why"), [
    ([], "no list of turns"), (TURNS[:1], "no answer by the assistant"), (TURNS[1:], "no question by the user"),
    ([*TURNS, {"role": "tool", "content": "x"}], "a turn of a tool"),
    ([TURNS[0], {**TURNS[1], "role": "narrator", "name": "gpt"}], "unknown role 'narrator', where user or assistant"),
    ([TURNS[0], {"role": "assistant", "content": ""}], "an empty answer"),
    ([TURNS[0], {"role": "assistant", "content": None}], "an empty answer"),
    ([{"role": "user", "content": " "}, TURNS[1]], "an empty question"),
    ([TURNS[0], {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}], "calls a tool"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, TURNS[1]], "an image"),
    ([{"role": "user", "content": {"a": 1}}, TURNS[1]], "where text is due"), ([7], "not an object"),
    ([{"role": ["x"] * 9000, "content": "a"}, TURNS[1]], "unknown role a list"), ([{"text": "x"}], "without a role")])
def test_a_row_that_is_no_conversation_says_why(turns, why):
    with pytest.raises(ValueError, match=why):
        as_messages({"messages": turns})


def test_rules_for_what_is_before_between_and_after_are_told():
    greeting = {"role": "assistant", "content": "Welcome!"}
    chat = as_chat({"messages": [SYSTEM, greeting, *TURNS, TURNS[1], TURNS[0]]})
    assert chat.messages == [SYSTEM, TURNS[0], {"role": "assistant", "content": "Ho\n\nHo"}]
    assert len(chat.changes) == 3


def test_a_system_that_answers_where_nobody_else_does_is_the_assistant():
    spoken = [{"speaker": "USER", "utterance": "Hi"}, {"speaker": "SYSTEM", "utterance": "Ho"}]
    assert as_chat({"turns": spoken * 2}).messages == TURNS * 2
    assert as_chat({"turns": spoken * 2}).changes == (ANSWERED,)
    for unanswered in ([SYSTEM, TURNS[0]], spoken, [*spoken, SYSTEM, TURNS[0]]):
        with pytest.raises(ValueError, match="no answer by the assistant"):
            as_chat({"turns": unanswered})


def test_text_is_kept_as_it_is():
    odd = "\u202eمرحبا 👩‍👩‍👧 \u200d\x00 <|end|> \u2028"
    assert as_messages({"prompt": odd, "completion": odd})[1]["content"] == odd
    chat = as_chat({"prompt": "a", "completion": "half \ud83d of one"})
    assert chat.messages[1]["content"] == "half � of one" and "lone surrogates" in chat.changes[0]


@pytest.mark.parametrize("prompt", ["<|user|>\nHi<|end|>\n<|assistant|>\n", "<s>[INST] Hi [/INST]",
                                    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
                                    "\n\nHuman: Hi\n\nAssistant:", "Human:a\nAssistant:b\nHuman:c\nAssistant: \n"])
def test_a_question_that_somebodys_template_wrote_is_kept_and_told(prompt):
    for row in ({"prompt": prompt, "completion": "Ho"}, {"prompt": prompt, "chosen": "Ho", "rejected": "No"},
                {"messages": [SYSTEM, {"role": "user", "content": prompt}, TURNS[1]]}):
        chat = as_chat(row)
        assert chat.messages[-2]["content"] == prompt
        assert len(chat.changes) == 1 and "chat template" in chat.changes[0]
    for plain in ("What does <|user|> mean?", "User: Ada\nWho is she?", "Is this right?\nAssistant:"):
        assert not as_chat({"prompt": plain, "completion": "Ho"}).changes
    assert not as_chat({"text": "<|user|>\nHi<|end|>\n<|assistant|>\nHo<|end|>"}).changes


@pytest.mark.parametrize("written", ["[{'role': 'user', 'content': 'Hi'}\n {'role': 'assistant', 'content': 'Ho'}]",
                                     "[{'from': 'human', 'value': 'Hi'} {'from': 'gpt', 'value': 'Ho'}]", "[{'role"])
def test_a_list_of_turns_that_lost_its_commas_in_a_table_says_so(written):
    for name in ("messages", "conversations"):
        with pytest.raises(ValueError, match=f"its {name} are no list that can be read .* as JSON or Parquet"):
            as_messages({"id": 1, name: written})


def test_an_empty_list_of_turns_beside_a_question_and_its_answer_is_none():
    for empty in ([], "[]"):
        assert as_messages({"messages": empty, "problem": "Hi", "solution": "Ho"}) == TURNS
        assert as_messages({"chat": empty, "prompt": "Hi", "completion": "Ho"}) == TURNS
    with pytest.raises(ValueError, match="no list of turns"):
        as_messages({"messages": [], "prompt": "Hi"})


def test_numbers_in_a_table_are_text():
    assert as_messages({"question": 7, "answer": 3.0}) == [
        {"role": "user", "content": "7"}, {"role": "assistant", "content": "3"}]
    with pytest.raises(ValueError, match="an empty answer"):
        as_messages({"question": "a", "answer": float("nan")})


def test_alpacas_history_and_a_context_join_the_question():
    assert [turn["content"] for turn in as_messages(
        {"instruction": "c", "output": "d", "history": [["a", "b"]], "context": "e"})] == ["a", "b", "c\n\ne", "d"]


def test_what_belongs_to_the_question_is_asked_before_a_preferred_answer_too():
    answers = {"chosen": "d", "rejected": "x"}
    for row in ({"instruction": "c", **answers}, {"prompt": "c", **answers},
                {"prompt": "c", "output": [{"role": "assistant", "content": "d"}]}):
        asked = as_messages({**row, "history": [["a", "b"]], "input": "e"})
        assert [turn["content"] for turn in asked] == ["a", "b", "c\n\ne", "d"]


@pytest.mark.parametrize("history", [[["Hi", "Ho"]], TURNS, json.dumps(TURNS)])
def test_what_was_said_before_comes_before_the_question_beside_it(history):
    for name in ("history", "chat_history", "Conversation History"):
        assert [turn["content"] for turn in as_messages({name: history, "question": "c", "answer": "d"})] == [
            "Hi", "Ho", "c", "d"]
    assert as_messages({"chat_history": [], "question": "Hi", "answer": "Ho"}) == TURNS


@pytest.mark.parametrize("row", [
    {"messages": TURNS[:1], "completion": "Ho"}, {"conversation": SHAREGPT[:1], "response": "Ho"},
    {"messages": TURNS[:1], "completion": TURNS[1:]}, {"messages": TURNS[:1], "chosen": "Ho", "rejected": "No"},
    {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": "No"}}])
def test_an_answer_beside_turns_that_end_with_the_question_is_the_last_turn(row):
    assert as_messages(row) == TURNS
    assert as_messages({"messages": TURNS, "answer": "another"}) == TURNS


def test_a_question_comes_before_its_answer_whichever_is_written_first():
    pairs = [{"answer": "Ho", "question": "Hi", "system": "Be brief."}, {"answer": "d", "question": "c"}]
    assert [turn["content"] for turn in as_messages({"conversation": pairs})] == ["Be brief.", "Hi", "Ho", "c", "d"]


def test_a_preferred_answer_is_learned_after_turns_that_answered_before():
    row = {"conversations": [*SHAREGPT, {"from": "human", "value": "And?"}],
           "chosen": {"from": "gpt", "value": "More"}, "rejected": {"from": "gpt", "value": "No"}}
    assert [turn["content"] for turn in as_messages(row)] == ["Hi", "Ho", "And?", "More"]


@pytest.mark.parametrize("row", [
    {"prompt": "Hi", "model": "gpt-4", "generated": "Ho"}, {"source": "wiki", "answer": "Ho", "title": "Hi"},
    {"messages": TURNS[:1], "model": "gpt-4"}, {"prompt": "Hi", "user": "u-81", "model": "gpt-4"}])
def test_who_answered_and_where_a_row_comes_from_are_neither_question_nor_answer(row):
    with pytest.raises(ValueError, match=r"columns aren't known|no answer"):
        as_messages(row)
    assert as_messages({"user": "Hi", "model": "Ho"}) == as_messages({"source": "Hi", "target": "Ho"}) == TURNS


@pytest.mark.parametrize("written", ['[{"type": "PERSON", "text": "Ada"}]', '[{"name": "Ada", "message": "Hi"}]',
                                     "[{'type': 'city', 'text': 'Bern'}]"])
def test_a_list_that_is_asked_for_or_about_as_text_stays_text(written):
    assert as_messages({"instruction": "Find the names", "input": "x", "output": written})[1]["content"] == written
    assert as_messages({"prompt": written, "completion": "Ho"})[0]["content"] == written
    assert as_messages({"prompt": json.dumps(TURNS[:1]), "completion": repr(TURNS[1:])}) == TURNS


def test_answers_that_are_the_same_are_one_and_none_is_an_empty_one():
    asked = {"context": "c", "question": "q"}
    squad = {**asked, "answers": {"text": ["Ho", "Ho", "Ho"], "answer_start": [1, 1, 1]}}
    assert as_messages(squad)[1]["content"] == as_messages({**asked, "answer": ["Ho", "Ho"]})[1]["content"] == "Ho"
    for none in ({"text": [], "answer_start": []}, []):
        with pytest.raises(ValueError, match="an empty answer"):
            as_messages({**asked, "answers": none})
    with pytest.raises(ValueError, match="a list where text is due"):
        as_messages({**asked, "answers": {"text": ["Ho", "Hoho"]}})


def test_a_number_joins_the_question_and_what_is_no_text_drops_its_row():
    asked = {"instruction": "Double it.", "output": 42}
    assert as_messages({**asked, "input": 21})[0]["content"] == "Double it.\n\n21"
    assert as_messages({**asked, "input": 0})[0]["content"] == "Double it.\n\n0"
    assert as_messages({**asked, "input": ["21"], "context": {"text": "Twice."}})[0]["content"].endswith("21\n\nTwice.")
    for nothing in (None, "", " ", [], {}, float("nan")):
        assert as_messages({**asked, "input": nothing})[0]["content"] == "Double it."
    for more in (["one passage", "another"], {"title": ["a"], "sentences": [["b"]]}):
        with pytest.raises(ValueError, match=r"context: a (list|dict) where text is due"):
            as_messages({"question": "Who?", "context": more, "answer": "Ada"})


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False},
                                  {"loss": False}, {"train": "False"}])
def test_an_answer_that_should_not_be_learned_is_read_and_spared(mark):
    spared = {**TURNS[1], **mark}
    chat = as_chat({"messages": [TURNS[0], spared, *TURNS]})
    assert chat.messages == [TURNS[0], {**TURNS[1], "train": False}, *TURNS] and chat.changes == (CONTEXT,)
    assert as_messages({"messages": chat.messages}) == chat.messages
    # Nothing is learned from what follows the last answer that is, and nothing at all where none is.
    assert as_chat({"messages": [*TURNS, TURNS[0], spared]}).changes == (TRAILING,)
    with pytest.raises(ValueError, match="every answer is marked not to be learned"):
        as_messages({"conversations": [SHAREGPT[0], {**SHAREGPT[1], **mark}]})
    with pytest.raises(ValueError, match="answers in a row, of which some are marked"):
        as_messages({"messages": [*TURNS, spared, *TURNS]})
    twice = as_messages({"messages": [TURNS[0], spared, spared, *TURNS]})
    assert twice[1] == {"role": "assistant", "content": "Ho\n\nHo", "train": False}
    marked = [{**TURNS[0], **mark}, {**TURNS[1], "weight": 1, "train": True}]
    assert as_messages({"messages": marked}) == TURNS


def test_a_completion_that_is_labelled_bad_is_not_learned():
    assert as_messages({"prompt": "Hi", "completion": "Ho", "label": True}) == TURNS
    assert as_messages({"prompt": "Hi", "completion": "Ho", "label": 0}) == TURNS
    assert as_messages({"messages": TURNS, "label": True}) == as_messages({"messages": TURNS, "label": "x"}) == TURNS
    for row in ({"prompt": TURNS[:1], "completion": TURNS[1:], "label": False}, {"messages": TURNS, "label": False},
                {"conversations": SHAREGPT, "kto_tag": False}):
        with pytest.raises(ValueError, match=r"(label|kto_tag) is false"):
            as_messages(row)


def claudes(*asked, **more):
    """A conversation as Claude's export has it; `more` stands beside the question."""
    thinks = {"type": "thinking", "thinking": "Hm.", "summaries": []}
    return {"uuid": "1", "name": "Greeting", "chat_messages": [
        {"uuid": "2", "sender": "human", "text": "Hi", "content": [*asked, {"type": "text", "text": "Hi"}], **more},
        {"uuid": "3", "sender": "assistant", "text": "Ho", "content": [thinks, {"type": "text", "text": "Ho"}]}]}


def test_claudes_export_gives_what_was_attached_and_not_what_was_thought():
    assert as_messages(claudes(attachments=[], files=[])) == TURNS
    attached = claudes(attachments=[{"file_name": "a.txt", "extracted_content": "One."}, {"extracted_content": ""},
                                    {"file_name": "a.txt", "extracted_content": "Two."}])
    assert [turn["content"] for turn in as_messages(attached)] == ["One.\n\nTwo.\n\nHi", "Ho"]
    assert as_messages(claudes(attachments=[{"file_name": "a", "extracted_content": "One."}],
                               files=[{"file_name": "a"}]))[0]["content"] == "One.\n\nHi"
    with pytest.raises(ValueError, match=r"a turn with a file \('a.png'\)"):
        as_messages(claudes(attachments=[], files=[{"file_uuid": "4", "file_name": "a.png"}]))


def test_the_conversation_that_won_is_learned():
    battle = {"conversation_a": [TURNS[0], {**TURNS[1], "content": "No"}], "conversation_b": TURNS, "turn": 1}
    assert as_messages({**battle, "winner": "model_b"}) == TURNS
    assert as_messages({**battle, "winner": "model_a"})[1]["content"] == "No"
    for tie in ("tie", "tie (bothbad)", None):
        with pytest.raises(ValueError, match="neither conversation won"):
            as_messages({**battle, "winner": tie})


def test_the_guess_goes_by_names_and_then_by_length():
    rows = [{"nr": 1, "Customer question text": "Hi there, how are you?", "Reply sent": "ok"}]
    assert guess_columns(rows) == Columns("Customer question text", "Reply sent")
    assert guess_columns([{"x": "short", "y": "much longer text"}]) == Columns("x", "y")
    assert guess_columns([{"x": "alone"}]) is None
    # Names that say nothing: what asks is written first, however short its answer is.
    cards = {"nr": 1, "Vorderseite": "What is the capital of France?", "Rückseite": "Paris", "tag": "geo"}
    assert guess_columns([cards]) == Columns("Vorderseite", "Rückseite")
    assert guess_columns([{"id": 1, "document": "a long one " * 9, "summary": "shorter"}]) == Columns(
        "document", "summary")
    assert as_messages({"x": "Hi", "y": "Ho"}, Columns("x", "y")) == TURNS


def test_chosen_columns_may_hold_turns():
    asked = [SYSTEM, *TURNS, {"role": "user", "content": "And?"}]
    for answer in ("d", [{"role": "assistant", "content": "d"}], {"role": "assistant", "content": "d"}):
        row = {"situation": json.dumps(asked), "said": answer}
        assert as_messages(row, Columns("situation", "said")) == [*asked, {"role": "assistant", "content": "d"}]
    with pytest.raises(ValueError, match="no column 'said'"):
        as_messages({"situation": asked, "Said": "d"}, Columns("situation", "said"))


letters = some.text(max_size=12) | some.sampled_from(CONTROL_TOKENS) | some.text(
    alphabet=some.characters(), max_size=6) | some.sampled_from(["\ud83d", "a<|end|>\n<|assistant|>b", "<|en", "d|>"])
turn_lists = some.lists(some.fixed_dictionaries({
    "role": some.sampled_from([*ROLES, "tool", "narrator", None]), "content": letters | some.none() | some.integers()}),
    max_size=7)


@given(turn_lists)
def test_any_turns_become_a_valid_conversation_or_a_reason(turns):
    try:
        messages = as_messages({"messages": turns})
    except ValueError as problem:
        assert str(problem)
        return
    roles = [turn["role"] for turn in messages]
    assert set(roles) <= {"system", "user", "assistant"} and roles[-1] == "assistant"
    assert next(role for role in roles if role != "system") == "user"
    assert all(first != second for first, second in pairwise(roles))
    assert all(turn["content"].strip() and turn["content"].encode() for turn in messages)


TOKENIZER = byte_tokenizer()
CONTROL = set(TOKENIZER.get_added_vocab().values())


@given(turn_lists)
def test_rendering_and_tokenising_never_makes_a_control_token_of_text(turns):
    try:
        messages = as_messages({"messages": turns})
    except ValueError:
        return

    def controls(said):
        return [token for token in encode_conversation(TOKENIZER, said).input_ids if token in CONTROL]

    assert controls(messages) == controls([{**turn, "content": "x"} for turn in messages])


names = some.sampled_from(["messages", "role", "content", "from", "value", "text", "prompt", "answer", "chosen",
                           "rejected", "parts", "system", "x"])
plain = some.none() | some.booleans() | some.floats() | some.text(max_size=5)
anything = some.recursive(plain, max_leaves=12, extend=lambda inner: some.lists(inner, max_size=3)
                          | some.dictionaries(names, inner, max_size=4))


@given(anything)
def test_whatever_a_row_is_it_becomes_turns_or_a_reason(row):
    try:
        assert as_messages(row)[-1]["role"] == "assistant"
    except ValueError as problem:
        assert str(problem)


@pytest.mark.parametrize("said", ["Be brief.", {"parts": [{"text": "Be brief."}]},
                                  {"role": "system", "parts": [{"text": "Be "}, {"text": "brief."}]}])
@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction", "system"])
def test_a_system_message_beside_the_turns_is_kept_however_it_is_written(name, said):
    row = {name: said, "contents": [{"role": "user", "parts": [{"text": "Hi"}]},
                                    {"role": "model", "parts": [{"text": "Ho"}]}]}
    assert as_messages(row) == [SYSTEM, *TURNS]


def test_alpaca_s_text_has_its_input_under_the_instruction_and_as_many_turns_as_are_written():
    text = ("### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n3\n\n"
            "### Instruction:\nOnce more.\n\n### Response:\n6\n### End")
    assert as_messages({"text": text}) == [
        {"role": "user", "content": "Add.\n\n1 and 2"}, {"role": "assistant", "content": "3"},
        {"role": "user", "content": "Once more."}, {"role": "assistant", "content": "6"}]


@pytest.mark.parametrize("text", [
    "### Instruction:" + " " * 100_000, "### Instruction: x\n" * 10_000, "### Instruction: x ### Response: y" +
    "\n" * 100_000 + "z", "[INST] x\n" * 50_000, "[INST] x [/INST] y" + " " * 100_000 + "z",
    "Human: x" + "\n" * 100_000 + "y\nAssistant: z", " " * 100_000 + "x", "\n" * 100_000 + "Human: x"])
def test_marks_that_never_end_and_long_white_space_take_no_longer_than_other_text(text):
    begun = time.process_time()
    with suppress(ValueError):  # that it is no conversation is as good an answer
        as_messages({"text": text})
    assert time.process_time() - begun < 2


def test_what_a_function_said_in_a_text_drops_its_row_and_is_no_answer():
    chat = "USER: Hi\n\n\nASSISTANT: <functioncall> {} <|endoftext|>\n\n\nFUNCTION RESPONSE: 1\n\n\nASSISTANT: Ho"
    with pytest.raises(ValueError, match="a turn of a tool"):
        as_messages({"chat": chat})
    assert as_messages({"text": "USER: Hi\nASSISTANT: User: is no name\nHuman: no"})[1]["content"].startswith("User:")


def test_marks_between_turns_are_found_where_they_are_marks():
    named = "System: s\n\n  Human: Hi, User: is no name\n\n\nAssistant: Ho\r\nUser: b### Assistant: c"
    assert [turn["content"] for turn in as_messages({"text": named})] == ["s", "Hi, User: is no name", "Ho", "b", "c"]
    inst = "<s>[INST] Hi [/INST] Ho </s> <s>[INST] b [/INST] c <s>\n[INST] d [/INST] e [INST] without an answer"
    assert [turn["content"] for turn in as_messages({"text": inst})] == ["Hi", "Ho", "b", "c", "d", "e"]
    alpaca = "### Instruction: Hi </s> ### Input: x ### Response: Ho ### Input: is no mark here ### End\nno turn"
    said = [turn["content"] for turn in as_messages({"text": alpaca})]
    assert said == ["Hi </s>\n\nx", "Ho ### Input: is no mark here"]


REASONED_TURN = {**TURNS[1], "reasoning_content": "Hm."}


@pytest.mark.parametrize(("row", "told"), [
    ({"messages": [TURNS[0], REASONED_TURN]}, REASONED), ([TURNS[0], REASONED_TURN], REASONED),
    ({"messages": json.dumps([TURNS[0], REASONED_TURN])}, REASONED),
    ({"messages": [TURNS[0], {"role": "assistant", "content": [{"type": "reasoning", "text": "Hm."},
                                                               {"type": "text", "text": "Ho"}]}]}, REASONED),
    ({"Question": "Hi", "Complex_CoT": "Hm.", "Response": "Ho"}, REASONED),
    ({"messages": TURNS, "tools": [{"name": "add"}]}, TOOLED),
    ({"query": "Hi", "answer": "Ho", "tools": "[{}]"}, TOOLED)])
def test_what_stands_beside_an_answer_and_is_not_learned_is_told(row, told):
    assert as_chat(row).messages == TURNS and as_chat(row).changes == (told,)


@pytest.mark.parametrize("nothing", [None, "", " ", [], "[]", {}])
def test_what_stands_beside_an_answer_and_says_nothing_is_not_told(nothing):
    turn = {**TURNS[1], "reasoning": nothing, "thinking": nothing}
    row = {"messages": [TURNS[0], turn], "tools": nothing, "functions": nothing, "thoughts": nothing}
    assert as_chat(row).changes == () and as_messages(row) == TURNS


def test_instructions_and_a_context_beside_the_turns_become_the_system_message():
    for name in ("custom_instructions", "system_prompt", "system"):
        row = {"messages": TURNS, "system": "", "context": "Not this.", name: "Be brief."}
        assert as_messages(row) == [SYSTEM, *TURNS]
    palm = as_chat({"context": "Be brief.", "messages": [{"author": "user", "content": "Hi"},
                                                         {"author": "bot", "content": "Ho"}]})
    assert palm.messages == [SYSTEM, *TURNS] and palm.changes == (CONTEXT_FIRST,)


def test_what_the_chat_template_is_given_beside_the_turns_is_used_and_told():
    given = {"custom_instructions": "Be brief.", "enable_thinking": False, "python_tools": [], "xml_tools": ["{}"]}
    chat = as_chat({"messages": TURNS, "chat_template_kwargs": given})
    assert chat.messages == [SYSTEM, *TURNS] and chat.changes == (TOOLED,)
    given = json.dumps({"custom_instructions": "", "xml_tools": []})
    assert as_chat({"messages": TURNS, "chat_template_kwargs": given}).messages == TURNS


def test_a_system_message_beside_turns_that_have_their_own_is_told_where_it_differs():
    assert as_chat({"system": "Be loud.", "messages": [SYSTEM, *TURNS]}).changes == (TOLD_TWICE,)
    assert as_chat({"system": "Be brief.", "messages": [SYSTEM, *TURNS]}).changes == ()


MT_BENCH = {"question_id": 81, "category": "math", "turns": ["Hi", "Sum?"]}


@pytest.mark.parametrize("row", [{**MT_BENCH, "reference": ["Ho", "6"]},
                                 {"prompt": ["Hi", "Sum?"], "reference": ["Ho", "6"]},
                                 {"questions": '["Hi", "Sum?"]', "answers": "['Ho', '6']"}])
def test_questions_in_one_list_are_answered_by_those_of_another(row):
    assert as_messages(row) == [*TURNS, {"role": "user", "content": "Sum?"}, {"role": "assistant", "content": "6"}]


def test_questions_without_answers_are_called_that_and_none_answers_another():
    for none in ({}, {"reference": None}, {"reference": []}):
        with pytest.raises(ValueError, match="questions without answers"):
            as_messages({**MT_BENCH, **none})
    with pytest.raises(ValueError, match=r"aren't as many \(2 and 1\)"):
        as_messages({**MT_BENCH, "reference": ["Ho"]})
    assert as_messages({"turns": ["Hi", "Ho"], "id": 1}) == TURNS
    assert as_messages({"turns": ["Hi"], "response": "Ho"}) == TURNS
    lists = {"input": '["cat", "dog"]', "output": '["Katze", "Hund"]'}
    assert [turn["content"] for turn in as_messages(lists)] == list(lists.values())


@pytest.mark.parametrize(("row", "answer"), [
    ({"question": "Which?", "choices": ["Hi", "Ho"], "answer": 1}, "B"),
    ({"question": "Which?", "choices": "['Hi', 'Ho']", "answer": "Ho"}, "Ho"),
    ({"question": "Which?", "choices": {"text": ["Hi", "Ho"], "label": ["A", "B"]}, "answerKey": "B"}, "B"),
    ({"question": "Which?", "options": {"A": "Hi", "B": "Ho"}, "answer": "Ho"}, "Ho"),
    ({"question": "Which?", "options": [{"key": "A", "value": "Hi"}, {"key": "B", "value": "Ho"}], "answer": "B"},
     "B"),
    ({"question": "Which?", "A": "Hi", "B": "Ho", "answer": "B"}, "B"),
    ({"Question": "Which?", "Option A": "Hi", "Option B": "Ho", "Correct Answer": "B"}, "B")])
def test_the_choices_beside_a_question_are_asked_with_it(row, answer):
    chat = as_chat(row)
    assert [turn["content"] for turn in chat.messages] == ["Which?\n\nA. Hi\nB. Ho", answer]
    assert chat.changes == (CHOICES_UNDER,)


def test_choices_that_stand_in_the_question_already_or_are_none_change_nothing():
    row = {"question": "Hi or Ho?", "answer": "Ho"}
    for more in ({"choices": ["Hi", "Ho"]}, {"choices": []}, {"choices": None}, {"options": "-v"}, {"a": "x"}):
        assert [turn["content"] for turn in as_messages({**row, **more})] == ["Hi or Ho?", "Ho"]
        assert as_chat({**row, **more}).changes == ()
    assert as_messages({"q": "Hi", "a": "Ho", "b": "x"}) == TURNS


ASKED, REPLIED = {"messages": TURNS[:1]}, {"choices": [{"index": 0, "message": TURNS[1]}]}


@pytest.mark.parametrize("row", [
    {"input": json.dumps(ASKED), "output": json.dumps(TURNS[1])}, {"input": json.dumps(TURNS[:1]), "output": "Ho"},
    {"request": ASKED, "response": REPLIED}, {**ASKED, **REPLIED}, {**ASKED, "response": REPLIED},
    {"messages": json.dumps(TURNS[:1]), "response": json.dumps(REPLIED)},
    {"input": "Hi", "output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant",
                                                                  "content": [{"type": "output_text", "text": "Ho"}]}]},
    {"inputs": {"question": "Hi"}, "outputs": {"answer": "Ho"}},
    {"inputs": {"input": "Hi"}, "outputs": {"output": "Ho"}},
    {"inputs": ASKED, "outputs": {"output": {"type": "ai", "content": "Ho"}}},
    {"id": 1, "fields": {"prompt": "Hi", "response": "Ho"}, "metadata": {}, "responses": []},
    {"id": 1, "annotations": [], "data": {"dialogue": [{"author": "user", "text": "Hi"},
                                                       {"author": "bot", "text": "Ho"}]}}])
def test_logs_and_labelled_rows_that_nest_what_was_said_are_read(row):
    assert as_messages(row) == TURNS


@pytest.mark.parametrize("turns", [
    [{"type": "human", "data": {"content": "Hi", "type": "human"}}, {"type": "ai", "data": {"content": "Ho"}}],
    [{"lc": 1, "type": "constructor", "id": ["langchain", "schema", f"{who}Message"], "kwargs": {"content": text}}
     for who, text in (("Human", "Hi"), ("AI", "Ho"))]])
def test_messages_as_langchain_writes_them_are_turns(turns):
    assert as_messages({"messages": turns}) == TURNS


def test_objects_that_hold_the_same_names_are_not_mixed():
    with pytest.raises(ValueError, match="its columns aren't known"):
        as_messages({"first": {"question": "Hi", "answer": "Ho"}, "second": {"question": "You?", "answer": "Me."}})


def test_an_object_that_is_asked_about_as_text_stays_text():
    row = {"input": '{"name": "Ada"}', "output": '{"first": "Ada"}'}
    assert [turn["content"] for turn in as_messages(row)] == list(row.values())


def test_instructions_beside_an_input_and_a_passage_beside_a_question_are_not_lost():
    row = {"instructions": "Be brief.", "input": "Hi", "output": "Ho"}
    assert as_messages(row) == as_messages({**row, "input": TURNS[:1]}) == [SYSTEM, *TURNS]
    assert as_messages({"instructions": "Hi", "outputs": "Ho"}) == TURNS
    for name in ("passage", "paragraph", "story"):
        assert as_messages({"question": "Who?", name: "Ada wrote it.", "answer": "Ada"})[0]["content"] == (
            "Who?\n\nAda wrote it.")


def test_who_speaks_is_told_by_the_field_that_holds_a_role():
    turns = [{"speaker": "Ann", "type": "customer", "text": "Hi"}, {"speaker": "Bob", "type": "agent", "text": "Ho"}]
    assert as_messages({"turns": turns}) == TURNS
    with pytest.raises(ValueError, match="unknown role 'U1'"):
        as_messages([{"type": "message", "user": "U1", "text": "Hi"}])


@pytest.mark.parametrize("names", [("user", "assistant", "user (2)", "assistant (2)"),
                                   ("prompt_1", "response_1", "prompt_2", "response_2"),
                                   ("Question1", "Answer1", "Question2", "Answer2")])
def test_columns_that_are_numbered_are_turns_of_one_conversation(names):
    row = dict(zip(names, ("Hi", "Ho", "You?", "Me."), strict=True))
    assert [turn["content"] for turn in as_messages(row)] == ["Hi", "Ho", "You?", "Me."]
    assert as_messages({**row, names[2]: "", names[3]: None, "system": "Be brief."}) == [SYSTEM, *TURNS]
    with pytest.raises(ValueError, match="no answer"):
        as_messages({"prompt": "Hi", "response_1": "Ho", "response_2": "No"})
