"""A run to take away: what is in it, and that it is whole."""

import os
import time
import zipfile

import pytest

from adapters.files import WANTED
from tests.staged import StagedRun
from training.checkpoint import seal
from training.parcel import SECONDS_KEPT, pack


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


def test_what_was_taken_away_is_kept_for_an_hour_and_holds_nobodys_rows_after_that(run, tmp_path):
    other = tmp_path / "another-run.zip"
    other.write_bytes(b"rows of a run that was deleted since")
    pack(run, tmp_path)
    assert other.is_file()
    old = time.time() - SECONDS_KEPT - 1
    os.utime(other, (old, old))
    assert [one.name for one in pack(run, tmp_path).parent.glob("*.zip")] == [f"{run.id}.zip"]


def test_a_parcel_that_can_not_be_written_leaves_nothing_behind(run, tmp_path):
    (run.folder / "start").mkdir()
    (run.folder / "start" / "about.json").symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError):
        pack(run, tmp_path / "parcels")
    assert list((tmp_path / "parcels").iterdir()) == []


def test_a_file_that_seems_older_than_zip_files_can_say_is_packed(run, tmp_path):
    os.utime(run.folder / "data.json", (0, 0))
    assert "sums-1/data.json" in names(pack(run, tmp_path))
