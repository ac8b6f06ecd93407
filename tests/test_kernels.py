"""Triton's kernels say what plain torch says: on a card as they are, elsewhere through Triton's interpreter."""

import importlib

import pytest
import torch
from torch.nn import functional

from phi3.fused import _turned

pytest.importorskip("triton")  # there is none for a Mac
kernels, programs, check = map(importlib.import_module, ("phi3.kernels", "phi3.programs", "phi3.kernels_check"))

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPSILON = 1e-5
# The interpreter cuts bf16 off where a card rounds.
NEAR = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.bfloat16: {"rtol": 2 ** -7, "atol": 2 ** -12}}


@pytest.fixture(params=NEAR, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request):
    return request.param


@pytest.fixture
def some(dtype):
    torch.manual_seed(0)
    return lambda *shape: torch.randn(shape).to(DEVICE, dtype)


def assert_near(made, expected):
    torch.testing.assert_close(made.double(), expected.double(), **NEAR[made.dtype])


def philox(seed, number, rounds):
    """Four numbers of 32 bits (Salmon et al., 2011, section 3.3), as Python computes."""
    counter, key = [number, 0, 0, 0], [seed % 2 ** 32, seed % 2 ** 64 >> 32]
    for _ in range(rounds):
        high, low = divmod(0xD2511F53 * counter[0], 2 ** 32)
        higher, lower = divmod(0xCD9E8D57 * counter[2], 2 ** 32)
        counter = [higher ^ counter[1] ^ key[0], lower, high ^ counter[3] ^ key[1], low]
        key = [(key[0] + 0x9E3779B9) % 2 ** 32, (key[1] + 0xBB67AE85) % 2 ** 32]
    return counter


def kept_of(count, dropout, seed):
    """Which of so many numbers are left, one by one."""
    quarter = kernels.QUARTER
    kept = []
    for number in range(count):
        block, place = divmod(number, 4 * quarter)
        which, nth = divmod(place, quarter)
        # Counted from the middle, as signed numbers are.
        drawn = (philox(seed, block * quarter + nth, programs.ROUNDS.value)[which] + 2 ** 31) % 2 ** 32
        kept.append(drawn >= dropout * 2 ** 32)
    return torch.tensor(kept, device=DEVICE)


SHAPES = [(1, 3072), (5, 96), (3, 100), (2, 8192), (4, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_sum_and_its_norm_come_together(some, shape):
    hidden, more, weight = some(*shape), some(*shape), some(shape[1])
    total, normed = kernels.added_and_normed(hidden, more, weight, EPSILON)
    assert_near(total, hidden.double() + more.double())
    assert_near(normed, functional.rms_norm(total.double(), shape[1:], weight.double(), EPSILON))


def test_where_nothing_is_added_the_sum_is_what_was_there(some):
    hidden, weight = some(3, 200), some(200)
    total, normed = kernels.added_and_normed(hidden, None, weight, EPSILON)
    assert total is hidden
    assert_near(normed, functional.rms_norm(hidden.double(), (200,), weight.double(), EPSILON))


@pytest.mark.parametrize("with_total", [True, False], ids=["sum used", "norm alone"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_of_a_norm_is_autograds(some, shape, with_total):
    total, weight, of_total, of_normed = some(*shape), some(shape[1]), some(*shape), some(*shape)
    wide = total.double().requires_grad_()
    functional.rms_norm(wide, shape[1:], weight.double(), EPSILON).backward(of_normed.double())
    made = kernels.added_and_normed_back(of_total if with_total else None, of_normed, total, weight, EPSILON)
    assert made.dtype is total.dtype
    assert_near(made, wide.grad + of_total.double() if with_total else wide.grad)


def test_gradients_need_not_be_contiguous(some):
    total, weight, both = some(4, 96), some(96), some(4, 192)
    one = some(1, 1)
    spread, whole = one.expand(4, 96), one.repeat(4, 96)
    assert torch.equal(kernels.added_and_normed_back(spread, spread, total, weight, EPSILON),
                       kernels.added_and_normed_back(whole, whole, total, weight, EPSILON))
    assert torch.equal(kernels.gated_back(spread, both), kernels.gated_back(whole, both))


@pytest.mark.parametrize("shape", [(1, 8192), (3, 100), (2, 2500), (2, 1)], ids=str)
def test_gates_and_their_gradient_are_autograds(some, shape):
    both, grad = some(shape[0], 2 * shape[1]) * 3, some(*shape)
    wide = both.double().requires_grad_()
    gate, up = wide.chunk(2, -1)
    expected = functional.silu(gate) * up
    expected.backward(grad.double())
    assert_near(kernels.gated(both), expected.detach())
    assert_near(kernels.gated_back(grad, both), wide.grad)


def test_gates_far_from_zero_stay_finite(some):
    both = torch.tensor([[-1e4, 1e4, -200.0, 200.0, 2.0, 2.0, 2.0, 2.0]], device=DEVICE).to(some(1).dtype)
    assert_near(kernels.gated(both), torch.tensor([[0.0, 2e4, 0.0, 400.0]], device=DEVICE).to(both.dtype))
    assert kernels.gated_back(both[:, :4].sign(), both).isfinite().all()


# (heads, kept heads, head size, half)
HEADS = [(32, 32, 96, 48), (3, 1, 96, 48), (40, 10, 32, 16), (6, 2, 128, 48), (2, 1, 8, 2)]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("heads", "kept", "size", "half"), HEADS, ids=str)
def test_heads_are_turned_where_they_lie(some, heads, kept, size, half, sign):
    qkv, cos, sin = some(3, heads + 2 * kept, size), some(3, 1, size), some(3, 1, size)
    cos[..., 2 * half:] = 1
    x = qkv[:, :heads + kept]
    made = kernels.turned(x, cos, sin, half, sign)
    assert made.is_contiguous() and made.dtype is x.dtype
    assert_near(made, _turned(x.double(), cos.double(), sin.double(), half, sign))


def test_heads_may_lie_before_tokens(some):
    x, cos, sin = some(4, 5, 96).transpose(0, 1), some(5, 1, 96), some(5, 1, 96)
    assert_near(kernels.turned(x, cos, sin, 48, 1.0), _turned(x.double(), cos.double(), sin.double(), 48, 1.0))
    for other in (some(5, 96, 4).transpose(1, 2), some(1, 1, 1).expand(5, 4, 96)):
        assert torch.equal(kernels.turned(other, cos, sin, 48, 1.0),
                           kernels.turned(other.contiguous(), cos, sin, 48, 1.0))


@pytest.mark.parametrize(("heads", "kept", "size", "half"), HEADS, ids=str)
def test_values_stand_behind_what_is_turned_back(some, heads, kept, size, half):
    turning, cos, sin = some(3, heads + kept, size), some(3, 1, size), some(3, 1, size)
    values = some(kept, 3, size).transpose(0, 1)
    made = kernels.turned_with_rest(turning, values, cos, sin, half)
    assert made.is_contiguous() and made.shape == (3, heads + 2 * kept, size)
    assert_near(made[:, :heads + kept], kernels.turned(turning, cos, sin, half, -1.0))
    assert torch.equal(made[:, heads + kept:], values)


@pytest.mark.parametrize("seed", [0, 7, 2 ** 33 + 5, -3])
def test_each_number_is_dropped_as_philox_says(some, seed):
    x, seeds = some(3, 1511), torch.tensor([1, seed], device=DEVICE)
    kept = kept_of(x.numel(), 0.3, seed).view_as(x)
    made = kernels.dropped(x, 0.3, seeds, 1)
    assert torch.equal(made, x * kept)
    assert abs(float(kept.double().mean()) - 0.7) < 0.04


def test_what_is_added_was_dropped_alike(some):
    x, target, seeds = some(2, 3, 1000), some(2, 3, 1000), torch.arange(5, device=DEVICE)
    left = kernels.dropped(x, 0.05, seeds, 4)
    expected = target.double() + left.double()
    assert kernels.add_dropped(target, x, 0.05, seeds, 4) is target
    assert_near(target, expected)


def test_another_seed_drops_others(some):
    x, seeds = torch.ones_like(some(64, 128)), torch.tensor([5, 6, 5], device=DEVICE)
    first, second, again = (kernels.dropped(x, 0.5, seeds, place) for place in range(3))
    assert torch.equal(first, again)
    assert abs(float((first == second).double().mean()) - 0.5) < 0.05


@pytest.mark.parametrize("dropout", [0.0, 0.001, 0.9, 1.0])
def test_the_share_that_is_dropped_is_the_one_asked_for(some, dropout):
    x = torch.ones_like(some(16, 4096))
    share = float((kernels.dropped(x, dropout, torch.tensor([11], device=DEVICE), 0) == 0).double().mean())
    assert abs(share - dropout) <= 5 * (dropout * (1 - dropout) / x.numel()) ** 0.5


def test_what_is_dropped_is_zero_whatever_it_was(some):
    x = torch.full_like(some(4096), torch.inf)
    made = kernels.dropped(x, 0.5, torch.tensor([2], device=DEVICE), 0)
    assert ((made == 0) | (made == torch.inf)).all()


@pytest.mark.parametrize(("heads", "kept", "size", "half"), HEADS, ids=str)
def test_a_step_writes_one_token_of_each_row(some, heads, kept, size, half):
    rows, room = 3, 7
    qkv, cos, sin = some(rows, (heads + 2 * kept) * size), some(rows, 1, size), some(rows, 1, size)
    cos[..., 2 * half:] = 1
    lengths = torch.tensor([1, room, 4], device=DEVICE)
    keys, values = some(rows + 1, kept, room, size), some(rows + 1, kept, room, size)
    wanted_keys, wanted_values, each = keys.clone(), values.clone(), torch.arange(rows, device=DEVICE)
    parts = qkv.view(rows, -1, size)
    turned = kernels.turned(parts[:, :heads + kept], cos, sin, half, 1.0)
    wanted_keys[each, :, lengths - 1] = turned[:, heads:]
    wanted_values[each, :, lengths - 1] = parts[:, heads + kept:]
    queries = kernels.turned_into_cache(qkv, cos, sin, lengths, keys, values, half)
    assert queries.is_contiguous()
    assert_near(queries, turned[:, :heads])
    assert_near(keys, wanted_keys)
    assert torch.equal(values, wanted_values)


# (rows, inputs, outputs, rank)
SIDES = [(1, 3072, 9216, 16), (8, 256, 300, 5), (2, 1000, 96, 64), (3, 40, 1, 1), (2, 300, 700, 33)]


@pytest.mark.parametrize(("rows", "wide", "out", "rank"), SIDES, ids=str)
def test_each_row_has_the_lora_in_its_slot_beside(some, rows, wide, out, rank):
    inputs, outputs, a, b = some(rows, wide), some(rows, out), some(rows + 2, rank, wide), some(rows + 2, rank, out)
    slots = torch.tensor([(3 * row) % (rows + 2) for row in range(rows)], device=DEVICE)
    strengths = torch.linspace(0.5, 2, rows, device=DEVICE)
    narrow = torch.einsum("ri,rki->rk", inputs.double(), a[slots].double()) * strengths[:, None].double()
    exact = torch.einsum("rk,rko->ro", narrow, b[slots].double()) * (slots > 0)[:, None] + outputs.double()
    assert kernels.beside_up(kernels.beside_down(inputs, a, slots), b, slots, strengths, outputs) is outputs
    # Sums in float32 are as exact as their largest part.
    torch.testing.assert_close(outputs.double(), exact, rtol=NEAR[outputs.dtype]["rtol"], atol=1e-3)


def test_a_device_that_computes_rightly_is_told_from_one_that_does_not(monkeypatch):
    assert check.is_right(DEVICE)
    with torch.inference_mode():
        assert check.is_right(DEVICE)
    plain = kernels.gated
    monkeypatch.setattr(kernels, "gated", lambda both: plain(both) * 1.02)
    assert not check.is_right(DEVICE)


@pytest.mark.skipif(DEVICE == "cpu", reason="A graph is a card's.")
def test_all_of_them_can_be_captured():
    bf16 = {"device": DEVICE, "dtype": torch.bfloat16}
    hidden, weight, both = torch.randn(5, 96, **bf16), torch.randn(96, **bf16), torch.randn(5, 192, **bf16)
    qkv, cos, sin = torch.randn(5, 6 * 96, **bf16), torch.randn(5, 1, 96, **bf16), torch.randn(5, 1, 96, **bf16)
    a, b, strengths = torch.randn(6, 4, 96, **bf16), torch.randn(6, 4, 96, **bf16), torch.ones(5, device=DEVICE)
    keys, values = torch.zeros(2, 5, 2, 8, 96, **bf16)
    seeds, lengths = torch.arange(3, device=DEVICE), torch.arange(1, 6, device=DEVICE)

    def body():
        total, normed = kernels.added_and_normed(hidden, hidden, weight, EPSILON)
        turning, rest = qkv.view(5, 6, 96).split((4, 2), dim=1)
        made = [total, normed, kernels.added_and_normed_back(hidden, normed, total, weight, EPSILON),
                kernels.gated(both), kernels.gated_back(hidden, both), kernels.turned(turning, cos, sin, 48, 1.0),
                kernels.turned_with_rest(turning, rest, cos, sin, 48), kernels.dropped(hidden, 0.5, seeds, 2),
                kernels.add_dropped(hidden.clone(), both[:, :96].contiguous(), 0.5, seeds, 1),
                kernels.turned_into_cache(qkv, cos, sin, lengths, keys, values, 48),
                kernels.beside_up(kernels.beside_down(hidden, a, lengths), b, lengths, strengths, normed.clone())]
        return [*made, keys.clone(), values.clone()]

    expected = body()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = body()
    graph.replay()
    for ours, theirs in zip(made, expected, strict=True):
        assert torch.equal(ours, theirs)
