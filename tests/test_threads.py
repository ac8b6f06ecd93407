"""Threads that wait leave the cores to others, and one answer of a small base takes one."""

import os
import subprocess
import sys

import pytest
import torch

from phi3 import SPINS
from phi3.generate import Answerer, Lane
from phi3.models import load_base

PRINTS = "import os, sys; import {}; assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'])"


@pytest.mark.parametrize("entrance", ["phi3.terminal", "training.__main__", "chat.__main__", "adapters.__main__"])
def test_waiting_threads_spin_for_a_moment_only(entrance):
    """OpenMP reads it when torch is loaded, so it has to be there before."""
    assert _printed(entrance, {}) == SPINS


def test_who_knows_better_is_listened_to():
    assert _printed("phi3", {"GOMP_SPINCOUNT": "7"}) == "7"


def test_one_answer_of_a_small_base_takes_one_thread_and_leaves_the_others_as_they_were(small_base, monkeypatch):
    answerer, seen = Answerer(load_base(str(small_base))), []
    own = torch.nn.functional.scaled_dot_product_attention

    def watched(query, *rest, **options):
        seen.append((query.shape[-2] > 1, torch.get_num_threads()))
        return own(query, *rest, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        *_, (answer,) = answerer.answer([Lane(({"role": "user", "content": "Who are you?"},))])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert answer.tokens > 1
    assert {threads for is_reading, threads in seen if is_reading} == {3}
    assert {threads for is_reading, threads in seen if not is_reading} == {1}


def _printed(entrance: str, more: dict[str, str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run([sys.executable, "-c", PRINTS.format(entrance)], env={**environment, **more},
                          capture_output=True, text=True, check=True)
    return done.stdout.strip()
