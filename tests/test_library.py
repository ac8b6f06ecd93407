"""Adapters by name: put whole or not at all, listed, refused in a sentence, removed."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.files import write_whole
from adapters.library import PROVENANCE, Library, adapter_in, checked_name, with_tail
from phi3.models import EMBEDDED
from training.config import RunConfig
from training.data import read_data
from training.leftovers import SECONDS_UNTOUCHED, remove_leftovers
from training.runs import Runs


@pytest.fixture
def made(tmp_path):
    """A folder that looks like an adapter."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "phi3/tiny", "r": 4}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_an_adapter_is_found_by_its_name_with_its_provenance(home, made):
    library = Library(home)
    put = library.put("mine", made, {"run": "r1"})
    assert library.get("mine") == put
    assert put.provenance == {"run": "r1"} and put.base == "phi3/tiny" and not put.shipped
    assert (put.folder / PROVENANCE).is_file()
    assert library.names()[0] == "mine"


def test_a_taken_name_is_refused_and_what_was_there_stays(home, made):
    library = Library(home)
    library.put("mine", made, {"run": "first"})
    with pytest.raises(ValueError, match="already an adapter named mine"):
        library.put("mine", made, {"run": "second"})
    assert library.get("mine").provenance == {"run": "first"}


def test_half_an_adapter_is_never_listed_nor_left_behind(home, made):
    library = Library(home)
    before = library.names()
    (made / "gone.safetensors").symlink_to(made / "nowhere")  # can't be copied, as on a full disk
    with pytest.raises(OSError, match="gone"):
        library.put("mine", made, {})
    assert library.names() == before
    assert list(library.folder.iterdir()) == []


def test_what_a_run_made_before_stays_where_its_new_adapter_can_not_take_its_place(home, made, monkeypatch):
    library = Library(home)
    library.put("mine", made, {"run": "r1"})
    (made / "adapter_model.safetensors").write_bytes(b"others")

    def full(written, place):
        raise OSError("No space left on device")

    monkeypatch.setattr("adapters.library.moved", full)
    with pytest.raises(OSError, match="No space"):
        library.put("mine", made, {"run": "r1"})
    assert (library.get("mine").folder / "adapter_model.safetensors").read_bytes() == b"weights"
    assert [one.name for one in library.folder.iterdir()] == ["mine"]


def test_what_a_replacing_that_broke_off_left_behind_hinders_no_later_one(home, made, monkeypatch):
    library = Library(home)
    library.put("mine", made, {"run": "r1"})
    with monkeypatch.context() as broken:
        broken.setattr("adapters.library.shutil.rmtree", lambda folder, **how: None)
        library.put("mine", made, {"run": "r1", "steps": 2})
    assert library.put("mine", made, {"run": "r1", "steps": 3}).provenance["steps"] == 3


@pytest.fixture
def flushed(monkeypatch):
    """The names of files that went to the disk itself, and of what they were moved to."""
    kept, fsync, rename = [], os.fsync, type(Path()).rename

    def flush(number):
        kept.append(Path(f"/proc/self/fd/{number}").readlink().name)
        fsync(number)

    def renamed(self, target):
        kept.append(f"-> {Path(target).name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(type(Path()), "rename", renamed)
    return kept


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="what is flushed is read from Linux' list of open files")
def test_an_adapter_and_a_run_are_on_the_disk_before_they_have_their_names(home, made, chats, flushed):
    Library(home).put("mine", made, {})
    assert {*flushed[:flushed.index("-> mine")]} >= {one.name for one in made.iterdir()}
    run = Runs(home).create(RunConfig(name="other"), read_data(chats))
    assert {*flushed[:flushed.index(f"-> {run.id}")]} >= {"data.parquet", "data.json", "config.yaml", "owner"}


def test_an_unknown_name_is_refused_with_the_names_there_are(home, made):
    library = Library(home)
    library.put("mine", made, {})
    for name in ("other", "../adapters/mine", "", "."):
        with pytest.raises(ValueError, match=r"Adapters here: mine"):
            library.get(name)


def test_an_adapter_that_somebody_put_there_is_found_by_the_name_that_is_listed(home, made):
    library = Library(home)
    made.rename(library.put("mine", made, {"run": "r1"}).folder.with_name("captain (1)"))
    assert library.has("captain (1)") and library.get("captain (1)").folder == library.folder / "captain (1)"
    library.remove("captain (1)")
    assert not library.has("captain (1)") and library.has("mine")


def test_newest_first_and_shipped_last(home, made):
    library = Library(home)
    library.put("older", made, {})
    library.put("newer", made, {})
    os.utime(library.folder / "older" / "adapter_config.json", (1, 1))
    names = library.names()
    assert names[:2] == ["newer", "older"]
    assert all(adapter.shipped for adapter in library.all()[2:])


def test_ones_own_adapter_is_removed_and_a_shipped_one_is_not(home, made):
    library = Library(home)
    library.put("mine", made, {})
    library.remove("mine")
    assert not library.has("mine")
    with pytest.raises(ValueError, match="ships with the app"):
        library.remove("pirate")


def test_half_a_removed_adapter_is_never_listed(home, made, monkeypatch):
    def killed(folder, **_):
        (folder / "adapter_model.safetensors").unlink()
        raise KeyboardInterrupt

    library = Library(home)
    library.put("mine", made, {})
    monkeypatch.setattr("adapters.library.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        library.remove("mine")
    monkeypatch.undo()
    assert not library.has("mine") and library.put("mine", made, {}).name == "mine"
    assert len(remove_leftovers(home, time.time() + SECONDS_UNTOUCHED + 60)) == 1 and library.has("mine")


def test_a_folder_without_an_adapter_is_refused(tmp_path, made):
    assert adapter_in(made).name == "made"
    with pytest.raises(ValueError, match="holds no adapter"):
        adapter_in(tmp_path)


@pytest.mark.parametrize("name", ["a", "My-adapter_1.2", "9lives"])
def test_ordinary_names_are_fine(name):
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "none", "Base", "ends.", "ä", "a b", "-x", "a\n"])
def test_names_that_could_be_something_else_are_refused(name):
    with pytest.raises(ValueError, match=r"can't be a name\. Use up to 64 letters from a to z.*no spaces"):
        checked_name(name)


def test_a_name_with_something_behind_it_is_still_a_name():
    assert with_tail("mine", "-step-9") == "mine-step-9"
    assert checked_name(with_tail("m" * 64, "-step-1000")).endswith("m-step-1000")


def test_what_ships_is_listed_for_the_base_that_it_was_made_for(home, made):
    """Elsewhere each would be a lane that can't answer."""
    Library(home).put("mine", made, {})
    everything, embedded, other = (Library(home, base=base) for base in ("", EMBEDDED, "somebody/phi-3"))
    shipped = [one.name for one in everything.all() if one.shipped]
    assert shipped and embedded.names() == everything.names() == ["mine", *shipped]
    assert other.names() == ["mine"] and other.of({"local"}).names() == ["mine"]
    assert other.get(shipped[0]).shipped, "by its name it is found, and a lane says what is wrong with it"
    assert [one.name for one in embedded.suited()] == [one.name for one in embedded.all() if one.base == EMBEDDED]
    assert other.suited() == []


def test_a_base_that_is_not_named_is_none_and_not_the_embedded_one(home, made):
    (made / "adapter_config.json").write_text("{}")
    library = Library(home, base=EMBEDDED)
    assert library.put("nobodys", made, {}).base == "" and library.has("nobodys")
    assert "nobodys" not in [one.name for one in library.suited()]


def test_a_file_that_two_threads_write_at_once_is_one_of_theirs_whole(tmp_path):
    texts = {who * 50_000 for who in "ab"}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_whole, [tmp_path / "note.json"] * 200, [*texts] * 100))
    assert (tmp_path / "note.json").read_text() in texts and len(list(tmp_path.iterdir())) == 1
