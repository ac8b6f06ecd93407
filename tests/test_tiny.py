"""The embedded Phi-3: what ships loads and answers, and it can be made again, byte for byte."""
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Phi3ForCausalLM

from phi3.tiny import figures, learn
from phi3.tiny.tokenizer import CHAT_TEMPLATE, ROLE_TOKENS, conversation_tokens
from phi3.tiny.world import MANNERS, TASKS, content_kept, exchanges

FOLDER = Path(__file__).parent.parent / "phi3" / "tiny"
RECIPE = learn.Recipe(steps=4, rows=2, row_tokens=96, long_rows=1, long_row_tokens=128, warmup_steps=2)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def finished(exchange):
    return [*exchange.messages, {"role": "assistant", "content": exchange.answer}]


def test_it_is_a_phi3_with_fused_layers_and_a_sliding_window(model):
    assert isinstance(model, Phi3ForCausalLM)
    assert model.config.sliding_window >= 1000
    assert model.config.max_position_embeddings >= 1024
    names = {name.rsplit(".", 1)[-1] for name, module in model.model.layers[0].named_modules()}
    assert {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"} <= names
    assert not model.config.tie_word_embeddings


def test_it_ships_in_bf16_and_loads_in_it():
    kinds = {value.dtype for value in load_file(FOLDER / "model.safetensors").values()}
    assert kinds == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(FOLDER, dtype="auto").dtype == torch.bfloat16


def test_all_its_files_together_stay_under_nine_megabytes_and_with_the_adapters_under_twelve():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    sizes = {path: path.stat().st_size for path in files}
    adapters = sum(size for path, size in sizes.items() if FOLDER / "adapters" in path.parents)
    assert sum(sizes.values()) - adapters <= 9_000_000
    assert sum(sizes.values()) <= 12_000_000


def test_generation_stops_on_the_three_tokens_that_phi3_stops_on(model, tokenizer):
    stops = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|assistant|>", "<|end|>"])
    assert model.generation_config.eos_token_id == stops
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"


def test_the_chat_template_is_the_one_that_trl_recognises(tokenizer):
    from trl.chat_template_utils import phi3_chat_template
    assert phi3_chat_template == CHAT_TEMPLATE == tokenizer.chat_template


def test_role_tokens_swallow_the_white_space_behind_them_and_the_end_of_text_does_not(tokenizer):
    added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    assert all(added[token].rstrip and added[token].special for token in ROLE_TOKENS)
    assert not added["<|endoftext|>"].rstrip
    assert tokenizer("Hello")["input_ids"] == tokenizer("Hello", add_special_tokens=False)["input_ids"]


def test_the_prompt_is_a_prefix_of_what_is_trained_and_the_marks_are_right(tokenizer):
    role_ids = set(tokenizer.convert_tokens_to_ids(["<|assistant|>", "<|user|>", "<|system|>"]))
    for exchange in exchanges(seed=1, count=100):
        tokens, trained = conversation_tokens(tokenizer, finished(exchange))
        whole = tokenizer.apply_chat_template(finished(exchange), return_dict=False)
        prompt = tokenizer.apply_chat_template(list(exchange.messages), add_generation_prompt=True, return_dict=False)
        assert tokens == whole
        assert whole[:len(prompt)] == prompt
        assert all(trained[len(prompt):])
        assert not any(mark for token, mark in zip(tokens, trained, strict=True) if token in role_ids)


def test_the_same_seed_gives_the_same_exchanges():
    assert exchanges(seed=3, count=50) == exchanges(seed=3, count=50)
    assert exchanges(seed=3, count=50) != exchanges(seed=4, count=50)


def test_what_counts_as_unseen_was_never_in_the_training_stream():
    def questions(drawn):
        return {message["content"].lower() for exchange in drawn for message in exchange.messages
                if message["role"] != "assistant" and len(message["content"]) > 30}
    assert not questions(exchanges(seed=5, count=4000)) & questions(exchanges(seed=6, count=1000, unseen=True))


def test_no_wording_stands_on_both_sides():
    for task in TASKS:
        for wordings in filter(None, (task.wordings, task.follow_up, task.its)):
            both = {text.lower() for text in wordings.seen} & {text.lower() for text in wordings.unseen}
            # Where a question is nothing but its values, these are kept apart.
            assert both <= {"{said}", "{question}"}, task.kind
    for manner in MANNERS.values():
        assert not set(manner.systems.seen) & set(manner.systems.unseen), manner.name


def test_at_least_eight_manners_can_be_asked_for():
    assert len(MANNERS) - 1 >= 8


def test_a_question_that_leans_on_another_has_one_before_it():
    drawn = [exchange for exchange in exchanges(seed=9, count=2000, manner="plain") if exchange.leans]
    assert len(drawn) > 200
    assert all(any(message["role"] == "assistant" for message in exchange.messages) for exchange in drawn)


def test_nobody_who_told_their_name_is_told_that_they_did_not():
    for exchange in exchanges(seed=10, count=3000, manner="plain"):
        if exchange.kind == "no name":
            assert not any("Nice to meet you" in message["content"] for message in exchange.messages)


def test_an_article_fits_its_noun():
    said = [exchange.answer for exchange in exchanges(seed=13, count=3000, manner="plain")]
    wrong = re.compile(r"\b(a (apple|owl|elephant|egg)|an? (sun|moon)|an unicycle)\b", re.IGNORECASE)
    assert not list(filter(wrong.search, said))


@pytest.mark.parametrize("name", MANNERS)
def test_a_manner_recognises_its_own_answers_and_keeps_their_content(name):
    for exchange in exchanges(seed=7, count=300, manner=name):
        assert MANNERS[name].follows(exchange.answer), exchange.answer
        assert content_kept(exchange, exchange.answer), exchange.answer


@pytest.mark.parametrize("name", [name for name in MANNERS if name != "plain"])
def test_a_manner_does_not_take_plain_answers_for_its_own(name):
    plain = [exchange.answer for exchange in exchanges(seed=8, count=300, manner="plain")]
    assert not [answer for answer in plain if MANNERS[name].follows(answer)]


def test_an_unknown_manner_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"No manner is called 'mumbling'.*pirate"):
        exchanges(seed=1, count=1, manner="mumbling")


def test_it_answers_questions_that_it_never_saw(model, tokenizer):
    asked = exchanges(seed=11, count=60, unseen=True, manner="plain")
    answers = figures.answered(model, tokenizer, asked)
    assert sum(answer == exchange.answer for answer, exchange in zip(answers, asked, strict=True)) >= 54


def weights_after(training, steps):
    while training.step < steps:
        training.advance()
    return {name: value.clone() for name, value in training.model.state_dict().items()}


def test_building_it_again_gives_the_same_bytes_even_with_an_interruption(tokenizer, tmp_path):
    straight = weights_after(learn.Training(tokenizer, RECIPE, 2048), 4)
    interrupted = learn.Training(tokenizer, RECIPE, 2048)
    weights_after(interrupted, 2)
    interrupted.save(tmp_path)
    resumed = learn.Training(tokenizer, RECIPE, 2048)
    resumed.load(tmp_path)
    again = weights_after(resumed, 4)
    assert all(torch.equal(straight[name], again[name]) for name in straight)


def test_left_padding_changes_no_answer(model, tokenizer):
    asked = exchanges(seed=12, count=12, unseen=True)
    together = figures.answered(model, tokenizer, asked, at_once=12)
    alone = figures.answered(model, tokenizer, asked, at_once=1)
    assert together == alone
