"""The first card as CUDA's driver tells of it: what torch would use, and a warning where torch can't."""

import logging

import pytest

from phi3.driver import CLOCK, GENERATION, NO_CARD, PROCESSORS, VERSION, _operations, card_of


class Driver:
    """CUDA's library, as far as it is asked; of its card a part is given to this process."""

    def __init__(self, version=13_000, starts=0, told=0, capability=(8, 0)):
        self.version, self.starts, self.told = version, starts, told
        self.generation, self.minor = capability

    def cuInit(self, flags):
        return self.starts

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuDeviceGet(self, device, number):
        device._obj.value = number
        return self.told

    def cuDeviceGetName(self, name, room, device):
        name.value = b"NVIDIA A30 MIG 2g.12gb"
        return 0

    def cuDeviceGetAttribute(self, number, what, device):
        number._obj.value = {CLOCK: 1_440_000, PROCESSORS: 28, GENERATION: self.generation, VERSION: self.minor}[what]
        return 0

    def cuDeviceTotalMem_v2(self, size, device):
        size._obj.value = 12 * 1024**3
        return 0


def test_a_card_has_the_memory_that_cuda_gives_this_process():
    card = card_of(Driver(), 13)
    assert (card.name, card.memory) == ("NVIDIA A30 MIG 2g.12gb", 12.0)
    assert card.teraflops == pytest.approx(28 * 1.44e9 * 2048 / 1e12)


# Of NVIDIA's data sheets: multiprocessors, the clock in MHz, and teraflops of bf16, dense, summed in float32.
@pytest.mark.parametrize(("capability", "processors", "clock", "teraflops"), [
    ((8, 0), 108, 1410, 312), ((8, 6), 82, 1695, 71), ((8, 9), 128, 2520, 165), ((9, 0), 132, 1830, 989),
    ((10, 0), 148, 1850, 2250), ((12, 0), 170, 2407, 209.5), ((7, 5), 40, 1590, 8.1)])
def test_a_cards_rate_is_that_of_its_data_sheet(capability, processors, clock, teraflops):
    assert processors * clock * 1e6 * _operations(*capability) / 1e12 == pytest.approx(teraflops, rel=0.02)


@pytest.mark.parametrize("version", [12_000, 12_080, 13_000])
def test_a_driver_serves_every_torch_of_its_cuda_and_older_ones(version):
    assert card_of(Driver(version), 12)


def test_a_driver_that_is_too_old_for_torch_is_told_of(caplog):
    assert card_of(Driver(12_020), 13) is None
    assert "knows CUDA 12.2 at most" in caplog.text and "made for CUDA 13" in caplog.text


def test_a_card_that_torch_has_no_kernels_for_is_refused_with_two_ways_out():
    """CUDA 13 makes none for cards before Turing, though its driver still serves them."""
    with pytest.raises(ValueError, match=r"older .* CUDA 12\.6 .* CUDA_VISIBLE_DEVICES= "):
        card_of(Driver(capability=(6, 1)), 13)
    assert card_of(Driver(capability=(6, 1)), 12) and card_of(Driver(capability=(7, 5)), 13)


def test_a_driver_that_does_not_start_is_told_of_and_a_machine_without_a_card_is_not(caplog):
    caplog.set_level(logging.WARNING)
    assert card_of(Driver(starts=NO_CARD), 13) is None and not caplog.text
    assert card_of(Driver(starts=999), 13) is None and "error 999" in caplog.text
    assert card_of(Driver(told=101), 13) is None
