"""Answers: the same as stock PEFT's, lane by lane; sampling, ends, and lanes that fail."""

import copy
import itertools
import time
from dataclasses import replace

import pytest

from phi3.bounds import MOST_ROWS
from phi3.generate import Answerer, Lane, Sampling
from phi3.models import load_base
from tests.replayed import Replays


def ask(text: str, adapter: str | None = None, **sampling) -> Lane:
    return Lane(({"role": "user", "content": text},), adapter, Sampling(**{"max_new_tokens": 12, **sampling}))


def last(answerer, *lanes, **options):
    *_, answers = answerer.answer(lanes, **options)
    return answers


@pytest.fixture(scope="module")
def base(small_base):
    return load_base(str(small_base))


@pytest.fixture(scope="module")
def adapters(small_base, tmp_path_factory):
    """Two adapters of random weights, of different ranks and layers, made with plain PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Phi3ForCausalLM

    folders = []
    for seed, (rank, layers) in enumerate([(4, "all-linear"), (8, ["qkv_proj"])]):
        torch.manual_seed(seed)
        plain = Phi3ForCausalLM.from_pretrained(small_base, dtype=torch.float32, trust_remote_code=False)
        model = get_peft_model(plain, LoraConfig(r=rank, target_modules=layers, task_type="CAUSAL_LM"))
        for name, value in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value, std=0.2)
        folder = tmp_path_factory.mktemp("adapters") / f"adapter-{seed}"
        model.save_pretrained(folder, save_embedding_layers=False)
        folders.append(str(folder))
    return folders


def by_peft(small_base, folder: str | None, prompt_ids: list[int], count: int) -> list[int]:
    """Stock transformers and PEFT, one conversation alone, greedy."""
    import torch
    from peft import PeftModel
    from transformers import Phi3ForCausalLM

    model = Phi3ForCausalLM.from_pretrained(small_base, dtype=torch.float32, trust_remote_code=False).eval()
    if folder:
        model = PeftModel.from_pretrained(model, folder).eval()
    ids = torch.tensor([prompt_ids])
    with torch.no_grad():
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count)
    return made[0, len(prompt_ids):].tolist()


def test_every_lane_of_a_mixed_batch_says_what_stock_peft_says(small_base, base, adapters):
    from phi3.template import encode_prompt

    texts = ["a", "a much longer question than the others", "three words here", "x"]
    lanes = [ask(text, adapter) for text, adapter in zip(texts, [None, *adapters, adapters[0]], strict=True)]
    answers = last(Answerer(base), *lanes)
    for lane, answer in zip(lanes, answers, strict=True):
        expected = by_peft(small_base, lane.adapter, encode_prompt(base.tokenizer, lane.messages), 12)
        expected = [token for token in expected if token not in base.stop_tokens]
        assert answer.text == base.tokenizer.decode(expected, skip_special_tokens=True).strip()
        assert answer.tokens == len(expected)
    assert len({answer.text for answer in answers}) > 1


def test_the_same_lane_says_the_same_alone_and_in_company(base, adapters):
    answerer = Answerer(base)
    lanes = [ask("tell", None, temperature=0.9, seed=3),
             ask("tell me", adapters[0], temperature=1.2, top_p=0.8, seed=5),
             ask("tell me more", adapters[1], temperature=0.7, top_k=5, repetition_penalty=1.3)]
    together = last(answerer, *lanes)
    assert [last(answerer, lane)[0].text for lane in lanes] == [answer.text for answer in together]


def test_the_seed_decides(base):
    answerer = Answerer(base)
    texts = [last(answerer, ask("hm", temperature=1.0, seed=seed, max_new_tokens=24))[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_greedy_ignores_the_other_settings(base):
    answerer = Answerer(base)
    plain = last(answerer, ask("hm"))[0].text
    assert last(answerer, ask("hm", top_p=0.1, top_k=1, min_p=0.5, seed=9))[0].text == plain


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_a_greedy_answer_repeats_itself_as_its_penalty_says(base, penalty):
    import torch

    from phi3.template import encode_prompt

    prompt = encode_prompt(base.tokenizer, [{"role": "user", "content": "hm"}])
    ids = torch.tensor([prompt])
    made = base.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12,
                               repetition_penalty=penalty)
    theirs = base.tokenizer.decode(made[0, len(prompt):], skip_special_tokens=True)
    ours = last(Answerer(base), ask("hm", repetition_penalty=penalty), ask("hm"))
    plain = last(Answerer(base), ask("hm"))[0].text
    assert ours[0].text == theirs.strip() != plain == ours[1].text


def test_a_tiny_top_p_still_leaves_the_likeliest_token(base):
    answerer = Answerer(base)
    plain = last(answerer, ask("hm"))[0].text
    assert last(answerer, ask("hm", temperature=1.0, top_p=0.0))[0].text == plain


@pytest.mark.parametrize("temperature", [1e-3, 1e-38, 1e-40, 1e-300])
def test_a_temperature_next_to_nothing_takes_the_likeliest_token(base, temperature):
    answerer = Answerer(base)
    plain = last(answerer, ask("hm"))[0].text
    for how in ({}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}):
        assert last(answerer, ask("hm", temperature=temperature, **how))[0].text == plain


def test_stop_ends_every_lane_within_a_token(base):
    asked = iter([False, False, True])
    answers = last(Answerer(base), ask("hm", max_new_tokens=100), stop=lambda: next(asked))
    assert answers[0].end in ("asked", "stop") and answers[0].tokens <= 3


def test_a_closed_stream_frees_the_answerer(base):
    answerer = Answerer(base)
    stream = answerer.answer([ask("hm", max_new_tokens=200)])
    stream.close()
    half = answerer.answer([ask("hm", max_new_tokens=200)])
    next(half)
    half.close()
    assert last(answerer, ask("hm", max_new_tokens=2))[0].done


def test_a_broken_adapter_is_a_state_of_its_lane(base, adapters, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    answers = last(Answerer(base), ask("hm"), ask("hm", str(tmp_path)), ask("hm", str(tmp_path / "none")),
                   ask("hm", adapters[0]))
    assert [answer.end == "error" for answer in answers] == [False, True, True, False]
    assert "could not be loaded" in answers[1].note and str(tmp_path) not in answers[2].note


@pytest.fixture(scope="module")
def overflowing(adapters, tmp_path_factory):
    """An adapter whose numbers are all finite, and so large that what it makes of a text isn't."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("overflowing") / "adapter"
    shutil.copytree(adapters[0], folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: value * 1e12 for name, value in weights.items()}, folder / "adapter_model.safetensors")
    return str(folder)


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0}, {"temperature": 1.0, "repetition_penalty": 0.1}])
def test_an_adapter_that_leads_beyond_numbers_ends_its_own_lane_and_no_other(base, adapters, overflowing, how):
    answerer = Answerer(base)
    beside = answerer.answer([ask("hm", adapters[0], **how)])
    next(beside)
    good, bad, plain = last(answerer, ask("hm", adapters[0], **how), ask("hm", overflowing, **how), ask("hm", **how))
    assert bad.end == "error" and "no numbers" in bad.note and not bad.text
    *_, answers = beside
    assert answers[0].text == good.text and good.end != "error" != plain.end


def test_what_was_no_number_is_gone_from_the_cache_with_its_row(base, overflowing):
    long, short, middle = ask("b" * 300, overflowing), ask("hm", max_new_tokens=60), ask("m" * 150, max_new_tokens=60)
    answerer = Answerer(base)
    alone = [last(answerer, lane)[0].text for lane in (short, middle)]
    first = answerer.answer([long, short, middle])
    assert next(first)[0].end == "error"
    *_, (_, *answers) = first
    assert [answer.text for answer in answers] == alone


def test_an_adapter_that_was_trained_again_is_read_again(base, adapters, tmp_path):
    import shutil

    folder = tmp_path / "again"
    shutil.copytree(adapters[0], folder)
    answerer = Answerer(base)
    first = last(answerer, ask("hm", str(folder)))[0].text
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(f"{adapters[1]}/{name}", folder / name)
    assert last(answerer, ask("hm", str(folder)))[0].text == last(answerer, ask("hm", adapters[1]))[0].text != first


def test_an_adapter_whose_config_alone_was_written_anew_is_read_again(base, adapters, tmp_path):
    import json
    import shutil

    shutil.copytree(adapters[0], tmp_path / "again")
    answerer = Answerer(base)
    first = last(answerer, ask("hm", str(tmp_path / "again")))[0].text
    path = tmp_path / "again" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 0}))
    assert last(answerer, ask("hm", str(tmp_path / "again")))[0].text == last(answerer, ask("hm"))[0].text != first


def test_more_adapters_than_stay_resident_still_answer_right(base, adapters, tmp_path):
    import shutil

    answerer = Answerer(base)
    expected = [last(answerer, ask("hm", folder))[0].text for folder in adapters]
    for number in range(10):
        shutil.copytree(adapters[number % 2], tmp_path / str(number))
        assert last(answerer, ask("hm", str(tmp_path / str(number))))[0].text == expected[number % 2]
    assert [last(answerer, ask("hm", folder))[0].text for folder in adapters] == expected


def test_what_no_longer_fits_is_cut_from_the_oldest_turns_and_said(base):
    turns = [{"role": "system", "content": "s"}]
    for _ in range(6):
        turns += [{"role": "user", "content": "u" * 100}, {"role": "assistant", "content": "a"}]
    lane = Lane((*turns, {"role": "user", "content": "now"}), None, Sampling(max_new_tokens=20))
    answer = last(Answerer(base), lane)[0]
    assert "left out" in answer.note and answer.end != "error"


def talked(turns: int) -> tuple:
    """A system message, so many questions with their answers, of several lengths, and one question more."""
    said = [{"role": "system", "content": "Be brief."}]
    for number in range(turns):
        said += [{"role": "user", "content": "u" * (number % 7)}, {"role": "assistant", "content": "a" * (number % 5)}]
    return (*said, {"role": "user", "content": "now"})


@pytest.mark.parametrize("turns", [0, 1, 15, 16, 17, 31, 32, 33, 100])
def test_as_many_of_the_newest_turns_are_read_as_fit(base, turns):
    from phi3.row import row_of
    from phi3.template import encode_prompt

    system, *said = talked(turns)
    for wanted in (1, 100, 256):
        cut = [[system, *said[2 * dropped:]] for dropped in range(turns + 1)]
        prompts = [encode_prompt(base.tokenizer, one) for one in cut]
        dropped = next(place for place, prompt in enumerate(prompts) if len(prompt) + wanted <= base.facts.context)
        row = row_of(base, Lane((system, *said), None, Sampling(max_new_tokens=wanted)))
        assert row.prompt == prompts[dropped] and row.note.startswith(f"The oldest {dropped} turn") == (dropped > 0)


class CountingTokenizer:
    """A tokenizer that counts the messages that it was given to render."""

    def __init__(self, tokenizer):
        self._tokenizer, self.rendered = tokenizer, 0

    def __call__(self, *texts, **options):
        return self._tokenizer(*texts, **options)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __deepcopy__(self, known):
        return copy.deepcopy(self._tokenizer, known)

    def apply_chat_template(self, messages, **options):
        self.rendered += len(messages)
        return self._tokenizer.apply_chat_template(messages, **options)


def test_most_of_a_very_long_conversation_is_not_even_read_while_others_wait(base):
    from phi3.row import row_of

    counting = CountingTokenizer(base.tokenizer)
    row = row_of(replace(base, tokenizer=counting), Lane(talked(3000), None, Sampling(max_new_tokens=20)))
    assert "left out" in row.note and counting.rendered < 1000


def test_a_message_longer_than_the_context_is_refused_in_its_lane(base):
    answer = last(Answerer(base), ask("u" * 600))[0]
    assert answer.end == "error" and "Shorten it" in answer.note


def test_a_short_message_is_not_blamed_for_a_system_message_that_is_too_long(base):
    told = ({"role": "system", "content": "s" * 600}, {"role": "user", "content": "hm"})
    answer = last(Answerer(base), Lane(told))[0]
    assert answer.end == "error" and "This message with the system message is 6" in answer.note


def test_a_message_that_surely_is_too_long_is_not_even_read_while_others_wait(base):
    counting = CountingTokenizer(base.tokenizer)
    (answer,) = last(Answerer(replace(base, tokenizer=counting)), ask(" " * 9 + "u" * 1_000_000))
    assert answer.note == "This message is 1,000,000 characters long; the base reads at most 512 tokens. Shorten it."
    assert not counting.rendered
    assert last(Answerer(base), ask(" " * 1_000_000 + "hm"))[0].text == last(Answerer(base), ask("hm"))[0].text


def test_a_message_that_is_cut_within_a_character_is_answered_and_breaks_nobody_off(base):
    answerer = Answerer(base)
    beside = answerer.answer([ask("hm")])
    next(beside)
    half, whole = (last(answerer, ask(f"Smile {end}"))[0] for end in ("\ud83d", "�"))
    *_, answers = beside
    assert half.text == whole.text and answers[0].end != "error"


def test_the_base_is_the_same_after_adapters_came_and_went(base, adapters):
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    last(Answerer(base), ask("hm"), ask("hm", adapters[0]))
    assert all((value == before[name]).all() for name, value in base.model.state_dict().items())


def test_an_adapter_is_looked_over_once_when_it_is_loaded(base, adapters):
    asked = []

    def ready(folder):
        asked.append(str(folder))
        if folder.name == "adapter-1":
            raise ValueError("It changes nothing.")
        return folder

    answerer = Answerer(base, ready)
    for _ in range(2):
        good, bad, plain = last(answerer, ask("Hello", adapters[0]), ask("Hello", adapters[1]), ask("Hello"))
        assert good.tokens and plain.tokens
        assert bad.end == "error" and bad.note == "This adapter could not be loaded: It changes nothing."
    assert asked.count(adapters[0]) == 1


def test_an_adapter_of_split_layers_answers_as_its_fused_copy_does(base, adapters, tmp_path):
    from pathlib import Path

    from adapters.check import ready_folder
    from adapters.formats import read_peft, split, write_peft
    from adapters.layers import shape_of

    shape = shape_of(base.facts.config)
    write_peft(split(read_peft(Path(adapters[0]), shape), shape), tmp_path / "split", shape)
    answerer = Answerer(base, lambda folder: ready_folder(folder, base.facts, tmp_path / "kept"))
    fused, apart = last(answerer, ask("Hello there", adapters[0]), ask("Hello there", str(tmp_path / "split")))
    assert fused.text == apart.text and fused.tokens == apart.tokens > 0


def test_min_p_of_one_leaves_only_the_likeliest_token(base):
    answerer = Answerer(base)
    plain = last(answerer, ask("hm"))[0].text
    assert last(answerer, ask("hm", temperature=1.0, min_p=1.0))[0].text == plain
    loose = [last(answerer, ask("hm", temperature=1.0, min_p=0.001, seed=seed))[0].text for seed in range(3)]
    assert any(text != plain for text in loose)


def test_a_stop_text_cuts_the_answer_before_it_and_never_shows(base):
    answerer = Answerer(base)
    whole = last(answerer, ask("hm", max_new_tokens=30))[0].text
    stop = whole[4:7]
    *before, answers = answerer.answer([ask("hm", max_new_tokens=30, stop_texts=(stop, "never said"))])
    assert answers[0].text == whole[:whole.index(stop)].strip() and answers[0].end == "stop"
    assert all(stop not in snapshot[0].text for snapshot in before)


def test_a_control_token_that_is_a_stop_text_ends_the_answer(base):
    """As in stock generation's `stop_strings`: an adapter that never learned to stop begins the next turn itself."""
    from phi3.row import row_of

    user = base.tokenizer.convert_tokens_to_ids("<|user|>")
    row = row_of(base, ask("hm", stop_texts=("<|user|>",)))
    for token in (*base.tokenizer("ok", add_special_tokens=False)["input_ids"], user):
        row.add(token, base, asked=False)
    assert (row.end, row.answer(base).text) == ("stop", "ok")
    plain = row_of(base, ask("hm"))
    plain.add(user, base, asked=False)
    assert not plain.end


def test_a_stop_text_of_any_length_keeps_nobody_waiting(base):
    began = time.monotonic()
    answer = last(Answerer(base), ask("hm", stop_texts=("a" * 500_000,)))[0]
    assert time.monotonic() - began < 5 and answer.text == last(Answerer(base), ask("hm"))[0].text


def test_whole_characters_stay_while_the_bytes_of_the_next_one_arrive(base):
    """A tokenizer as Phi-3's finds no byte of a sequence readable where its last character isn't whole."""
    from phi3.row import row_of
    from tests.phi3_folder import byte_tokenizer

    text = "ok 😀😃🙂"
    spelled = replace(base, tokenizer=byte_tokenizer(llama=True), stop_tokens=())
    ids = spelled.tokenizer(text, add_special_tokens=False)["input_ids"]
    row, seen = row_of(spelled, ask("hm", max_new_tokens=len(ids) - 1)), [""]
    for token in ids[:-1]:
        row.add(token, spelled, asked=False)
        seen.append(row.answer(spelled).text)
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))
    assert row.end == "length" and seen[-2:] == ["ok 😀😃", "ok 😀😃\ufffd"]


def test_more_rows_than_a_batch_takes_are_answered_in_turn(base, adapters):
    lanes = [ask(f"number {number}", [None, *adapters][number % 3], max_new_tokens=4) for number in range(70)]
    answerer = Answerer(base)
    answers = last(answerer, *lanes)
    assert all(answer.done and answer.end != "error" for answer in answers)
    for number in (0, 1, 2, 69):
        assert answers[number].text == last(answerer, lanes[number])[0].text


def test_a_lane_that_waited_is_timed_from_when_its_question_is_read(base):
    *others, waited = last(Answerer(base), *[ask("hm", max_new_tokens=20)] * MOST_ROWS, ask("hm", max_new_tokens=1))
    assert 0 < waited.seconds < min(answer.seconds for answer in others)


def test_who_waits_is_told_so_and_comes_in_when_somebody_leaves(base):
    answerer = Answerer(base, most_waiting=1)
    full = answerer.answer([ask("hm", max_new_tokens=300) for _ in range(MOST_ROWS)])
    next(full)
    waiting = answerer.answer([ask("me too", max_new_tokens=3)])
    assert next(waiting)[0].note == "Waiting for the next free place."
    refused = last(answerer, ask("and me"))
    assert refused[0].end == "error" and "Try again" in refused[0].note
    full.close()
    *_, answers = waiting
    assert answers[0].text == last(answerer, ask("me too", max_new_tokens=3))[0].text and not answers[0].note


def test_a_caller_who_leaves_frees_its_slots_for_others(base, adapters, tmp_path):
    import shutil

    answerer = Answerer(base)
    copies = []
    for number in range(8):
        shutil.copytree(adapters[0], tmp_path / str(number))
        copies.append(str(tmp_path / str(number)))
    stream = answerer.answer([ask("hm", folder, max_new_tokens=200) for folder in copies])
    next(stream)
    stream.close()
    assert last(answerer, ask("hm", adapters[1], max_new_tokens=2))[0].end != "error"


def test_a_question_with_half_a_character_interrupts_nobody_elses_answer(base):
    answerer = Answerer(base)
    other = answerer.answer([ask("hm", max_new_tokens=6)])
    next(other)
    assert last(answerer, ask("cut \ud83d"))[0].end != "error"
    *_, answers = other
    assert answers[0].text == last(answerer, ask("hm", max_new_tokens=6))[0].text


def test_turns_that_the_bases_template_refuses_are_said_in_their_lane_alone(base):
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = "{% if messages[0].role == messages[-1].role and messages | length == 2 %}" \
        "{{ raise_exception('Roles must alternate') }}{% endif %}" + tokenizer.chat_template
    answerer = Answerer(replace(base, tokenizer=tokenizer))
    other = answerer.answer([ask("hm", max_new_tokens=6)])
    next(other)
    twice = Lane(({"role": "user", "content": "one"}, {"role": "user", "content": "two"}))
    refused, = last(answerer, twice)
    assert refused.end == "error" and "user, user" in refused.note and "Roles must alternate" in refused.note
    *_, answers = other
    assert answers[0].end != "error"


def test_a_problem_while_answering_reaches_the_caller_and_the_next_one_is_answered(base):
    answerer = Answerer(base)

    def broken() -> bool:
        raise ZeroDivisionError("the caller's own stop is broken")

    with pytest.raises(ZeroDivisionError):
        last(answerer, ask("hm"), stop=broken)
    assert last(answerer, ask("hm"))[0].done


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A base with longrope, which was first trained for rows of 40 tokens."""
    import json

    from tests.phi3_folder import make_phi3_folder

    folder = make_phi3_folder(tmp_path_factory.mktemp("bases") / "long")
    config = json.loads((folder / "config.json").read_text())
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    config |= {"original_max_position_embeddings": 40, "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 1.0,
        "original_max_position_embeddings": 40, "short_factor": [1.0] * half, "long_factor": [3.0] * half}}
    (folder / "config.json").write_text(json.dumps(config))
    return load_base(str(folder))


@pytest.mark.parametrize("where", ["_stepped", "_drawn"])
def test_memory_that_is_over_in_the_midst_of_answers_ends_the_longest_and_no_other(base, adapters, monkeypatch, where):
    import torch

    from phi3.batch import Batch
    from phi3.decoder import Decoder

    whose = Decoder if where == "_stepped" else Batch
    lanes = [ask("hm", max_new_tokens=60), ask("b" * 100, adapters[0], max_new_tokens=60),
             ask("hm hm", adapters[1], max_new_tokens=60)]
    answerer = Answerer(base)
    alone = [last(answerer, lane)[0] for lane in lanes]
    assert all(answer.tokens > 4 for answer in alone)
    plain, rows = getattr(whose, where), []

    def short(self, first, *rest):
        made = plain(self, first, *rest)
        rows.append(made.shape[0] if where == "_stepped" else len(made))
        if len(rows) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return made

    monkeypatch.setattr(whose, where, short)
    first, longest, third = last(answerer, *lanes)
    assert longest.end == "error" and "not enough memory" in longest.note and alone[1].text.startswith(longest.text)
    assert (first.text, third.text) == (alone[0].text, alone[2].text) and rows[2:4] == [3, 2]
    monkeypatch.setattr(whose, where, plain)
    assert last(answerer, lanes[1])[0].text == alone[1].text


@pytest.mark.parametrize("said", [
    "CUDA out of memory.", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"])
def test_memory_that_is_over_where_a_row_is_read_anew_ends_that_row(long, monkeypatch, said):
    """Whoever had none: torch's allocator on a card says it by its class, others by their words alone."""
    from phi3.decoder import Decoder

    lanes = [ask("a question", max_new_tokens=40), ask("hm", max_new_tokens=8)]
    answerer = Answerer(long)
    alone = last(answerer, lanes[1])[0]
    plain = Decoder.read

    def short(self, rows):
        if max(map(len, rows)) > 40:
            raise RuntimeError(said)
        return plain(self, rows)

    monkeypatch.setattr(Decoder, "read", short)
    longer, other = last(answerer, *lanes)
    assert longer.end == "error" and "not enough memory" in longer.note
    assert (other.text, other.end) == (alone.text, alone.end)


@pytest.mark.parametrize("replays", [None, Replays()], ids=["plain", "captured"])
def test_an_answer_longer_than_what_the_base_was_first_trained_for_is_stock_generation_s(long, monkeypatch, replays):
    """With longrope other angles hold from then on, and all is read anew with them."""
    import torch
    from transformers import Phi3ForCausalLM

    from phi3.template import encode_prompt

    monkeypatch.setattr("phi3.rounds.capture_on", lambda device: replays)
    lanes = [ask("a question", max_new_tokens=40), ask("a question that is a bit longer than", max_new_tokens=40)]
    answers = last(Answerer(long), *lanes)
    model = Phi3ForCausalLM.from_pretrained(long.facts.id, dtype=torch.float32, trust_remote_code=False).eval()
    for lane, answer in zip(lanes, answers, strict=True):
        prompt = encode_prompt(long.tokenizer, lane.messages)
        ids = torch.tensor([prompt])
        with torch.no_grad():
            made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                  max_new_tokens=40)[0, len(prompt):].tolist()
        expected = [token for token in made if token not in long.stop_tokens]
        assert answer.text == long.tokenizer.decode(expected, skip_special_tokens=True).strip()
    assert replays is None or replays.replayed > 30
