"""Captured steps say what plain ones say, whatever comes, goes and grows; and where they can't, plain ones go on."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3 import captured, decoder
from phi3 import slots as slots_module
from phi3.batch import Batch
from phi3.cache import TOKENS_AT_A_TIME
from phi3.captured import MOST_CAPTURED_ROWS, STEPS_BEFORE, capture_on
from phi3.decoder import Decoder
from phi3.generate import Answerer, Lane, Sampling
from phi3.lending import answered_within
from phi3.models import load_base
from phi3.row import row_of
from phi3.slots import Slots
from tests import plain_kernels
from tests.adapter_folder import write_random
from tests.phi3_folder import make_phi3_folder
from tests.replayed import Replays

CLOSE = {"rtol": 2e-4, "atol": 2e-4}
SHAPES = {
    "usual": {},
    "a short window": {"sliding_window": 24},
    "grouped keys": {"num_key_value_heads": 2},
}


@pytest.fixture(scope="module")
def plain(small_base):
    return load_base(str(small_base), "fp32", "cpu")


@pytest.fixture(scope="module")
def folders(plain, tmp_path_factory):
    """Adapters of several ranks, on all layers and on some."""
    kinds = {"rank 2": {"ranks": (2,)}, "rank 16": {"ranks": (16,)}, "rank 40": {"ranks": (40,)},
             "one kind of layer": {"ranks": (4,), "targets": ("o_proj",)}}
    made = tmp_path_factory.mktemp("adapters")
    return {kind: write_random(made / str(place), plain.facts.config, seed=place, **options)
            for place, (kind, options) in enumerate(kinds.items())}


@pytest.fixture(autouse=True, params=["a card's kernels", pytest.param("plain torch", marks=pytest.mark.slow)])
def kernels(request, monkeypatch):
    """What lies between the products of captured steps is computed by these, which are plain here."""
    made = None if request.param == "plain torch" else plain_kernels
    monkeypatch.setattr(Pair, "kernels", made)


class Pair:
    """The same rows twice: in a batch whose steps are captured, and in one whose steps are not."""

    kernels = None

    def __init__(self, base) -> None:
        self.base, self.replays, self.slots, self.batches = base, Replays(), [], []
        for capture, kernels in ((self.replays, self.kernels), (None, None)):
            with pytest.MonkeyPatch.context() as patch:
                for module in (slots_module, decoder):
                    patch.setattr(module, "kernels_on", lambda device, kernels=kernels: kernels)
                self.slots.append(Slots(base))
                self.batches.append(Batch(self.slots[-1].model, self.slots[-1], capture))

    @property
    def captures(self):
        return self.batches[0]._decoder.captures

    def join(self, text, folder=None, strength=1.0):
        for slots, batch in zip(self.slots, self.batches, strict=True):
            row = row_of(self.base, Lane(({"role": "user", "content": text},), strength=strength))
            if folder is not None:
                row.slot = slots.held(folder) or slots.load(folder, folder)
            batch.join([row])
            row.tokens.append(7)

    def leave(self, place):
        for batch in self.batches:
            batch.keep([one for one in range(len(batch.rows)) if one != place])

    def strengthen(self, place, strength):
        for batch in self.batches:
            row = batch.rows[place]
            row.lane = Lane(row.lane.messages, strength=strength)

    def step(self, count=1):
        """Both say the same, and go on with the same tokens."""
        for _ in range(count):
            said = [self._said(batch) for batch in self.batches]
            torch.testing.assert_close(*said, **CLOSE)
            for batch in self.batches:
                for row, token in zip(batch.rows, said[1].argmax(-1).tolist(), strict=True):
                    row.tokens.append(token)

    def _said(self, batch) -> torch.Tensor:
        """The logits of a batch's step, of which nothing is drawn."""
        said = []
        batch._drawn = lambda rows, logits: said.append(logits.clone()) or []
        batch.step()
        del batch._drawn
        return said[0]


@pytest.fixture(scope="module", params=SHAPES)
def shaped(request, tmp_path_factory):
    """A base of each shape that attends in its own way."""
    return load_base(str(make_phi3_folder(tmp_path_factory.mktemp("shaped") / "base", **SHAPES[request.param])), "fp32",
                     "cpu")


def test_a_step_is_captured_at_its_third_and_then_replayed_whatever_the_rows_say(shaped):
    pair = Pair(shaped)
    pair.join("a question")
    pair.join("another, and a longer one")
    pair.step(STEPS_BEFORE)
    assert (pair.replays.made, pair.replays.replayed, len(pair.captures)) == (1, 1, 1)
    pair.step(40)  # past the short window
    assert (pair.replays.made, pair.replays.replayed) == (1, 41)
    assert pair.replays.operations and not pair.replays.reads()


def test_an_adapter_takes_anothers_place_and_the_step_stays_captured(plain, folders):
    pair = Pair(plain)
    pair.join("a question", folders["rank 2"])
    pair.join("another", folders["rank 16"])
    pair.step(5)
    assert pair.replays.made == 1
    pair.leave(0)
    pair.join("a third", folders["one kind of layer"], strength=0.5)
    pair.step(5)
    pair.leave(1)
    pair.join("a fourth, of the base")
    pair.step(5)
    pair.strengthen(0, 1.7)
    pair.step(5)
    assert pair.replays.made == 1, "the same number of rows, at the same places"
    assert pair.replays.replayed == 1 + 2 + 5 + 5 + 5


def test_what_lies_elsewhere_is_captured_anew(plain, folders):
    pair = Pair(plain)
    pair.join("a question", folders["rank 2"])
    pair.step(5)
    pair.join("another", folders["rank 40"])  # beyond the capacity of every slot
    pair.step(5)
    pair.step(TOKENS_AT_A_TIME)  # the cache grows
    pair.leave(1)
    pair.step(5)
    assert pair.replays.made == 4


def test_rows_that_are_done_leave_their_places_to_the_next(plain):
    pair = Pair(plain)
    for text in ("a question", "the next", "and one more"):
        pair.join(text)
        pair.step(5)
        pair.leave(0)
    assert pair.replays.made == 1
    pair.join("many words " * 30)  # more than there is room for
    pair.step(5)
    assert pair.replays.made == 2


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_whatever_comes_goes_and_changes_both_say_the_same(plain, folders, data):
    pair = Pair(plain)
    pair.join("the first")
    for _ in range(data.draw(st.integers(1, 8))):
        rows = len(pair.batches[0].rows)
        what = data.draw(st.sampled_from(["join", "leave", "strengthen", "step"]))
        if what == "join" and rows < MOST_CAPTURED_ROWS + 1:
            pair.join("word " * data.draw(st.integers(1, 40)),
                      data.draw(st.sampled_from([None, *folders.values()])), data.draw(st.sampled_from([1.0, 0.3])))
        elif what == "leave" and rows > 1:
            pair.leave(data.draw(st.integers(0, rows - 1)))
        elif what == "strengthen":
            pair.strengthen(data.draw(st.integers(0, rows - 1)), data.draw(st.sampled_from([0.0, 1.0, 1.9])))
        pair.step(data.draw(st.integers(1, 6)))
    assert not pair.captures.is_given_up


def test_more_rows_than_have_places_go_one_kernel_at_a_time(plain, folders):
    pair = Pair(plain)
    for _ in range(MOST_CAPTURED_ROWS + 1):
        pair.join("hm", folders["rank 2"])
    pair.step(STEPS_BEFORE + 2)
    assert pair.replays.made == 0
    pair.leave(0)
    pair.step(STEPS_BEFORE + 2)
    assert pair.replays.made == 1


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_lanes_of_an_answerer_say_what_they_say_without(small_base, folders, monkeypatch, precision):
    base = load_base(str(small_base), precision, "cpu")
    lanes = [Lane(({"role": "user", "content": text},), str(folder) if folder else None,
                  Sampling(max_new_tokens=20, temperature=heat, seed=3), strength)
             for text, folder, heat, strength in (("a", None, 0, 1.0), ("two", folders["rank 2"], 0, 1.0),
                                                  ("a third one", folders["rank 16"], 0.8, 0.6))]
    *_, without = Answerer(base).answer(lanes)
    replays = Replays()
    monkeypatch.setattr("phi3.rounds.capture_on", lambda device: replays)
    answerer = Answerer(base)
    for _ in range(2):
        *_, answers = answerer.answer(lanes)
        assert [answer.text for answer in answers] == [answer.text for answer in without]
    assert replays.replayed > 20


def test_an_answer_on_a_lent_card_captures_nothing(plain, monkeypatch):
    replays = Replays()
    monkeypatch.setattr("phi3.rounds.capture_on", lambda device: replays)
    one = Lane(({"role": "user", "content": "hm"},), None, Sampling(max_new_tokens=12))
    *_, (answer,) = answered_within(plain, [one], "no such file", 60)
    assert answer.tokens > STEPS_BEFORE and not replays.made


def failing(problem):
    def capture(body):
        body()
        raise problem
    return capture


def lying(body):
    made = body().clone()
    return lambda: made.neg_(), made


def wordless(body):
    made = body().clone()
    return lambda: made.fill_(float("nan")), made


@pytest.mark.parametrize("capture, said", [
    (failing(RuntimeError("operation not permitted when stream is capturing")), "not permitted"),
    (lying, "says something else"), (wordless, "says something else")])
def test_a_capture_that_fails_or_lies_leaves_the_plain_step(plain, folders, caplog, capture, said):
    pair = Pair(plain)
    pair.batches[0] = Batch(pair.slots[0].model, pair.slots[0], capture)
    pair.join("a question", folders["rank 2"])
    with caplog.at_level(logging.WARNING, "studio"):
        pair.step(8)
    assert pair.captures.is_given_up and len(pair.captures) == 0
    assert said in caplog.text and caplog.text.count("can't be captured") == 1


@pytest.mark.parametrize("problem", [
    torch.OutOfMemoryError("CUDA out of memory."), torch.AcceleratorError("CUDA error: out of memory")])
def test_where_memory_is_short_it_is_tried_again_later(plain, caplog, monkeypatch, problem):
    monkeypatch.setattr(captured, "STEPS_UNTIL_AGAIN", 4)
    pair, replays, tries = Pair(plain), Replays(), []

    def capture(body):
        tries.append(1)
        if len(tries) == 1:
            raise problem
        return replays(body)

    pair.batches[0] = Batch(pair.slots[0].model, pair.slots[0], capture)
    pair.join("a question")
    pair.step(STEPS_BEFORE + 1)
    assert len(tries) == 1 and "no memory left" in caplog.text
    pair.step(4 + STEPS_BEFORE)
    assert len(tries) == 2 and replays.replayed > 1


def test_captures_make_room_for_each_other(plain, monkeypatch):
    monkeypatch.setattr(captured, "MOST_CAPTURES", 2)
    pair = Pair(plain)
    for count in range(3):
        pair.join(f"number {count}")
    for _ in range(3):
        pair.step(5)
        pair.leave(0)
    assert (pair.replays.made, len(pair.captures)) == (3, 2)
    for made in (3, 3, 4):  # one row and two are still known, three are not
        pair.join("again")
        pair.step(5)
        assert pair.replays.made == made


def test_a_processor_captures_nothing():
    assert capture_on(torch.device("cpu")) is None


def test_what_a_broken_row_leaves_in_its_place_reaches_nobody_who_takes_it(plain):
    decoder = Decoder(plain.model)
    with torch.inference_mode():
        alone = Decoder(plain.model)
        alone.read([[5, 6, 7]])
        expected = alone.step([8])
        decoder.read([list(range(5, 45))])
        decoder.read([list(range(5, 40))])
        for held in (*decoder.cache._keys, *decoder.cache._values):
            held[1] = torch.nan  # as an adapter leaves it whose numbers grow beyond all bounds
        decoder.cache.keep([0])
        decoder.read([[5, 6, 7]])
        torch.testing.assert_close(decoder.step([9, 8])[1:], expected, **CLOSE)
