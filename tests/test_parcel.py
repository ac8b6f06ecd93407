"""A run to take away: what is in it, and that it is whole."""

import zipfile

import pytest

from adapters.files import WANTED
from tests.staged import StagedRun
from training.checkpoint import seal
from training.parcel import pack


@pytest.fixture
def run(home):
    return StagedRun(home).run


def names(path):
    with zipfile.ZipFile(path) as parcel:
        assert parcel.testzip() is None
        return set(parcel.namelist())


def made(folder):
    folder.mkdir(parents=True)
    for name in (*WANTED, "optimizer.pt"):
        (folder / name).write_text(f"{name} in {folder.name}")
    return folder


def test_settings_script_rows_and_story_are_always_in_it(run, tmp_path):
    path = pack(run, tmp_path / "parcels")
    assert path.name == f"{run.id}.zip"
    assert names(path) == {f"sums-1/{name}" for name in
                           ("train.py", "config.yaml", "data.parquet", "data.json", "events.jsonl")}
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_finished_adapter_comes_before_a_checkpoint(run, tmp_path):
    seal(made(run.folder / "checkpoints" / "checkpoint-5"), 5)
    with zipfile.ZipFile(pack(run, tmp_path)) as parcel:
        assert parcel.read("sums-1/adapter/adapter_config.json") == b"adapter_config.json in checkpoint-5"
        assert "sums-1/adapter/optimizer.pt" not in parcel.namelist()
    made(run.folder / "adapter")
    with zipfile.ZipFile(pack(run, tmp_path)) as parcel:
        assert parcel.read("sums-1/adapter/adapter_config.json") == b"adapter_config.json in adapter"
