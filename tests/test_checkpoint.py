"""Checkpoints: whole or not there, and a damaged one is never taken for whole."""

import json

import pytest

from training.checkpoint import KEPT, MANIFEST, newest, prune, remove_unsealed, seal


def written(folder, step, text="weights"):
    """A checkpoint as a trainer leaves it, not sealed yet."""
    half = folder / f"checkpoint-{step}"
    (half / "part").mkdir(parents=True)
    (half / "adapter_model.safetensors").write_text(f"{text} of {step}")
    (half / "part" / "optimizer.pt").write_bytes(bytes(1000))
    return half


def test_a_sealed_checkpoint_is_found_with_its_step(tmp_path):
    sealed = seal(written(tmp_path, 12), 12)
    assert sealed.folder.name == "step-12" and sealed.damage() == ""
    assert newest(tmp_path) == (sealed, [])
    assert not (tmp_path / "checkpoint-12").exists()


def test_one_that_was_not_sealed_does_not_exist(tmp_path):
    written(tmp_path, 3)
    assert newest(tmp_path) == (None, [])
    remove_unsealed(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_no_checkpoint(tmp_path):
    assert newest(tmp_path / "nowhere") == (None, [])


def lose(folder):
    (folder / "part" / "optimizer.pt").unlink()


def change(folder):
    (folder / "adapter_model.safetensors").write_text("weightz of 20")


def shorten(folder):
    (folder / "adapter_model.safetensors").write_text("w")


def tear(folder):
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:30])


def forget(folder):
    (folder / MANIFEST).unlink()


@pytest.mark.parametrize(("harm", "words"), [(lose, "optimizer.pt is missing"), (change, "is damaged"),
                                             (shorten, "is damaged"), (tear, "manifest"), (forget, "manifest")])
def test_a_damaged_newest_one_is_skipped_and_named(tmp_path, harm, words):
    older = seal(written(tmp_path, 10), 10)
    damaged = seal(written(tmp_path, 20), 20)
    harm(damaged.folder)
    found, skipped = newest(tmp_path)
    assert found == older
    assert len(skipped) == 1 and "step-20" in skipped[0] and words in skipped[0]


def test_the_same_step_sealed_twice_keeps_the_whole_one(tmp_path):
    first = seal(written(tmp_path, 5, "first"), 5)
    seal(written(tmp_path, 5, "second"), 5)
    assert (first.folder / "adapter_model.safetensors").read_text() == "first of 5"
    change(first.folder)
    seal(written(tmp_path, 5, "third"), 5)
    assert (first.folder / "adapter_model.safetensors").read_text() == "third of 5"
    assert [one.name for one in tmp_path.iterdir()] == ["step-5"]


def test_only_the_newest_few_are_kept(tmp_path):
    for step in (9, 10, 100):
        seal(written(tmp_path, step), step)
    prune(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["step-10", "step-100"] and KEPT == 2


def test_the_manifest_holds_sizes_and_hashes_of_all_files(tmp_path):
    sealed = seal(written(tmp_path, 7), 7)
    manifest = json.loads((sealed.folder / MANIFEST).read_text())
    assert manifest["step"] == 7
    assert set(manifest["files"]) == {"adapter_model.safetensors", "part/optimizer.pt"}
    assert manifest["files"]["part/optimizer.pt"]["bytes"] == 1000
    assert all(len(file["sha256"]) == 64 for file in manifest["files"].values())
