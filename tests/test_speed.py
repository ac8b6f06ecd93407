"""What runs took is kept for the next plan, by machine, base and method."""

from phi3.machine import Machine
from training.config import RunConfig
from training.speed import FILE, keep, slower_than_guessed

CPU = Machine("cpu", "CPU", 2, 24.0)
LARGE = Machine("cpu", "CPU", 64, 512.0)


def test_the_newest_run_of_its_kind_counts(tmp_path):
    config, other = RunConfig(), RunConfig(method="qlora")
    assert slower_than_guessed(tmp_path, CPU, config) is None
    keep(tmp_path, CPU, config, 2.0)
    keep(tmp_path, CPU, other, 3.0)
    keep(tmp_path, CPU, config, 1.5)
    assert slower_than_guessed(tmp_path, CPU, config) == 1.5
    assert slower_than_guessed(tmp_path, CPU, other) == 3.0
    assert slower_than_guessed(tmp_path, LARGE, config) is None


def test_a_damaged_file_costs_only_the_correction(tmp_path):
    for text in ("{half", "[]", '{"a": null}'):
        (tmp_path / FILE).write_text(text)
        assert slower_than_guessed(tmp_path, CPU, RunConfig()) is None
    keep(tmp_path, CPU, RunConfig(), 2.0)
    assert slower_than_guessed(tmp_path, CPU, RunConfig()) == 2.0
