"""Attention over packed rows: the call for a card's variable-length kernel says what every other way computes."""

from inspect import Parameter, Signature
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from phi3 import packed
from phi3.packed import Attention

LENGTHS, HEADS, KEPT, SIZE = (9, 5, 2), 4, 2, 8


@pytest.fixture(params=[True, False], ids=["heads share keys", "torch 2.11, where they don't"])
def kernel(monkeypatch, request):
    """The kernel as its documentation describes it, in plain products, on any device; what it was called with."""
    calls = []

    def varlen_attn(query, key, value, ends, kept_ends, longest, kept_longest, *, scale, window_size,
                    enable_gqa=False):
        calls.append((query.dtype, ends.tolist(), longest, window_size))
        assert query.shape[1] == key.shape[1] or enable_gqa
        assert ends.dtype is torch.int32 and torch.equal(ends, kept_ends) and longest == kept_longest
        rows = []
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            of_row = [part[start:end].transpose(0, 1) for part in (query, key, value)]
            of_row[1:] = [part.repeat_interleave(len(of_row[0]) // len(part), 0) for part in of_row[1:]]
            back = torch.arange(end - start)[:, None] - torch.arange(end - start)
            left, right = window_size
            seen = (back >= -right) & ((back <= left) if left >= 0 else True)
            rows.append(functional.scaled_dot_product_attention(*of_row, seen, scale=scale).transpose(0, 1))
        return torch.cat(rows)

    def of_torch_2_11(query, key, value, ends, kept_ends, longest, kept_longest, *, scale, window_size):
        return varlen_attn(query, key, value, ends, kept_ends, longest, kept_longest, scale=scale,
                           window_size=window_size)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn if request.param else of_torch_2_11)
    monkeypatch.setattr(packed, "has_varlen", lambda device: True)
    return calls


def parts(dtype):
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    return [torch.randn(tokens, heads, SIZE, dtype=dtype) for heads in (HEADS, KEPT, KEPT)]


@pytest.mark.parametrize("window", [4, 9, 2047])
def test_the_kernel_is_asked_for_what_the_other_ways_compute(kernel, window):
    given = parts(torch.bfloat16)
    found = Attention(LENGTHS, window, given[0])(*given, scaling=0.3)
    assert kernel == [(torch.bfloat16, [0, 9, 14, 16], 9, (window - 1 if window < 9 else -1, 0))]
    expected = Attention(LENGTHS, window, given[0].float(), "eager")(*(one.float() for one in given), scaling=0.3)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)


def test_what_the_kernel_does_not_know_is_computed_without_it(kernel):
    """It has no float32 and no dropout."""
    given = parts(torch.float32)
    whole = Attention(LENGTHS, 2047, given[0])(*given, scaling=0.3)
    half = [one.bfloat16() for one in given]
    dropped = Attention(LENGTHS, 2047, half[0])(*half, scaling=0.3, dropout=0.5)
    assert kernel == [] and whole.dtype is torch.float32 and dropped.shape == (sum(LENGTHS), HEADS * SIZE)
    assert not torch.allclose(dropped.float(), whole, atol=0.1)


@pytest.mark.parametrize(("named", "is_known"), [
    ({"window_size", "scale", "enable_gqa"}, True), ({"window_size", "scale"}, True), ({"is_causal", "scale"}, False)])
def test_a_card_has_the_kernel_where_it_takes_a_window(monkeypatch, named, is_known):
    """torch 2.11's doesn't know of heads that share keys yet, and that of 2.10 of no window."""
    parameters = {name: Parameter(name, Parameter.KEYWORD_ONLY) for name in named}
    kernel = type("Kernel", (), {"__signature__": Signature(list(parameters.values())), "__call__": lambda self: None})
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel())
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    assert packed.has_varlen(torch.device("cuda")) is is_known and not packed.has_varlen(torch.device("cpu"))


@pytest.mark.parametrize(("lengths", "window", "is_even"), [
    ((1500, 1500), 2047, True), ((2047,) * 4, 2047, True), ((1500, 1499), 2047, False), ((2047,), 2047, False),
    ((60, 60), 2047, False), ((1500, 1500), 1024, False)])
def test_long_rows_cut_at_the_same_limit_are_left_to_cudnn(monkeypatch, lengths, window, is_even):
    """But where they are longer than the window, which it would need a mask for."""
    monkeypatch.setattr(packed, "is_one_call", lambda dtype, device, way: True)
    like = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    assert Attention(lengths, window, like, ends=torch.zeros(1)).is_even is is_even
    assert not Attention(lengths, window, like, "flash_attention_2", torch.zeros(1)).is_even


@pytest.mark.parametrize(("capability", "dtype"), [((7, 0), torch.float32), ((7, 5), torch.float32),
                                                   ((8, 0), torch.bfloat16), ((12, 0), torch.bfloat16)])
def test_a_card_older_than_ampere_attends_in_float32(monkeypatch, capability, dtype):
    """Of bf16 its torch has no kernel but the one that keeps each score."""
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert packed.attends_in(torch.bfloat16, torch.device("cuda")) is dtype
    assert packed.attends_in(torch.bfloat16, torch.device("cpu")) is torch.bfloat16
    assert packed.attends_in(torch.float32, torch.device("cuda")) is torch.float32


@pytest.mark.parametrize("window", [2047, 4])
def test_what_is_attended_in_float32_comes_back_as_it_was(monkeypatch, window):
    seen, own = set(), functional.scaled_dot_product_attention

    def watched(query, key, value, *rest, **given):
        seen.update((query.dtype, key.dtype, value.dtype))
        return own(query, key, value, *rest, **given)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    given = parts(torch.bfloat16)
    plain = Attention(LENGTHS, window, given[0])(*given, scaling=0.3)
    seen.clear()
    monkeypatch.setattr(packed, "attends_in", lambda dtype, device: torch.float32)
    wide = Attention(LENGTHS, window, given[0])(*given, scaling=0.3)
    assert seen == {torch.float32} and wide.dtype is torch.bfloat16
    torch.testing.assert_close(wide, plain, atol=0.02, rtol=0.02)
