"""Whose runs and adapters are whose: by key, by link, and what an owner's visitor never sees of others."""

import pytest

from adapters.library import Library
from training.config import RunConfig
from training.data import read_data
from training.owners import LOCAL, new_key, owner_by_key, owner_by_name, owners_by_keys
from training.runs import Beginning, Runs


def made(home, chats, owner, name="one", **more):
    config = RunConfig.from_settings({"name": name})
    return Runs(home).create(config, read_data(chats), owner, beginning=Beginning("in turn"), **more)


def put(home, made_at, run):
    """The adapter that this run would have made."""
    made_at.mkdir(exist_ok=True)
    (made_at / "adapter_config.json").write_text('{"base_model_name_or_path": "phi3/tiny"}', encoding="utf-8")
    return Library(home, {run.owner}).put(run.config.name, made_at, {"run": run.id}, run.owner)


@pytest.fixture
def keys():
    return new_key(), new_key()


def test_a_run_opens_to_its_key_and_to_no_other(home, chats, keys):
    mine, other = (owners_by_keys([key]) for key in keys)
    run = made(home, chats, owner_by_key(keys[0]))
    runs = Runs(home)
    assert runs.get(run.id, mine) == run and runs.of(mine) == [run]
    assert runs.of(other) == [] and runs.of({LOCAL}) == []
    for strangers in (other, {LOCAL}, frozenset()):
        with pytest.raises(ValueError, match=r"no run .* here that you may open"):
            runs.get(run.id, strangers)


def test_who_may_not_open_a_run_learns_nothing_of_whether_it_is_there(home, chats, keys):
    run = made(home, chats, owner_by_key(keys[0]))
    said = []
    for name in (run.id, run.id[:-1] + "0", "nothing-there", "../" + run.id):
        with pytest.raises(ValueError) as refused:
            Runs(home).get(name, owners_by_keys([keys[1]]))
        said.append(str(refused.value).replace(name, "RUN"))
    assert len(set(said)) == 1


def test_on_ones_own_machine_nobody_is_told_of_keys_that_there_are_none_of(home):
    with pytest.raises(ValueError, match="It may have been deleted") as refused:
        Runs(home).readable("pirate-1", {LOCAL})
    assert "key" not in str(refused.value)


def test_whoever_comes_back_to_a_claimed_run_is_told_to_sign_in(home, chats, keys):
    run = made(home, chats, owner_by_key(keys[0]))
    run.give_to(owner_by_name("ada"))
    with pytest.raises(ValueError, match="or sign in where it belongs to your name"):
        Runs(home).readable(run.id, owners_by_keys([keys[0]]), keys[0])


def test_the_key_itself_is_kept_nowhere(home, chats, keys):
    run = made(home, chats, owner_by_key(keys[0]))
    assert all(keys[0].encode() not in path.read_bytes() for path in run.folder.rglob("*") if path.is_file())


def test_a_shared_run_opens_to_its_link_until_it_is_taken_back(home, chats, keys):
    runs, run = Runs(home), made(home, chats, owner_by_key(keys[0]))
    assert not run.is_opened_by("")
    with pytest.raises(ValueError, match="may open"):
        runs.readable(run.id, frozenset(), "")
    link = run.share()
    assert run.share() == link
    assert runs.readable(run.id, frozenset(), link) == run
    with pytest.raises(ValueError, match="may open"):
        runs.get(run.id, owners_by_keys([link]))  # it is for looking only
    with pytest.raises(ValueError, match="may open"):
        runs.readable(run.id, frozenset(), link + "x")
    run.unshare()
    with pytest.raises(ValueError, match="may open"):
        runs.readable(run.id, frozenset(), link)
    assert run.share() != link


def test_two_visitors_may_use_one_name_and_see_their_own_adapter(home, chats, tmp_path, keys):
    owners = [owner_by_key(key) for key in keys]
    for place, owner in enumerate(owners):
        put(home, tmp_path / str(place), made(home, chats, owner))
    libraries = [Library(home, {owner}) for owner in owners]
    folders = [library.get("one").folder for library in libraries]
    assert folders[0] != folders[1]
    assert [library.get("one").name for library in libraries] == ["one", "one"]
    assert "one" not in Library(home).names()
    with pytest.raises(ValueError, match="no adapter named"):
        Library(home).get("one")
    with pytest.raises(ValueError, match="no adapter named"):
        libraries[0].get(folders[1].name)
    with pytest.raises(ValueError, match="already an adapter named one"):
        made(home, chats, owners[0])


def test_an_adapter_that_is_trained_further_must_be_ones_own(home, chats, tmp_path, keys):
    put(home, tmp_path / "made", made(home, chats, owner_by_key(keys[0])))
    config = RunConfig.from_settings({"name": "further", "start_from": "one"})
    with pytest.raises(ValueError, match="no adapter named one"):
        Runs(home).create(config, read_data(chats), owner_by_key(keys[1]), beginning=Beginning("in turn"))


def test_a_deleted_run_takes_only_its_own_adapter_with_it(home, chats, tmp_path, keys):
    runs = [made(home, chats, owner_by_key(key)) for key in keys]
    for place, run in enumerate(runs):
        put(home, tmp_path / str(place), run)
        run.append("failed", message="", advice="")
    Runs(home).delete(runs[0])
    assert not Library(home, {runs[0].owner}).has("one")
    assert Library(home, {runs[1].owner}).has("one")


def test_a_run_that_is_claimed_belongs_to_the_name_with_its_adapter(home, chats, tmp_path, keys):
    run = made(home, chats, owner_by_key(keys[0]))
    put(home, tmp_path / "made", run)
    name = owner_by_name("ada")
    run.give_to(name)
    assert Runs(home).get(run.id, {name}).owner == name
    assert Library(home, {name}).get("one").provenance["run"] == run.id
    assert not Library(home, owners_by_keys([keys[0]])).has("one")
    with pytest.raises(ValueError, match="may open"):
        Runs(home).get(run.id, owners_by_keys([keys[0]]))


def test_a_claimed_run_brings_every_adapter_that_was_made_of_it(home, chats, tmp_path, keys):
    run = made(home, chats, owner_by_key(keys[0]))
    library = Library(home, {run.owner})
    for name in ("one", "one-step-4"):
        library.put(name, put(home, tmp_path / "made", run).folder, {"run": run.id}, run.owner)
    library.put("another", tmp_path / "made", {"run": "another"}, run.owner)
    name = owner_by_name("ada")
    run.give_to(name)
    own = [one.name for one in Library(home, {name}).all() if not one.shipped]
    assert sorted(own) == ["one", "one-step-4"]
    assert [one.name for one in library.all() if not one.shipped] == ["another"]


def test_a_claimed_run_whose_name_is_taken_goes_on_under_another_with_its_own_adapter(home, chats, tmp_path, keys):
    name = owner_by_name("ada")
    older = made(home, chats, name)
    put(home, tmp_path / "older", older)
    run = made(home, chats, owner_by_key(keys[0]))
    put(home, tmp_path / "made", run)
    run.append("finished", 4, adapter="one", folder="", loss=0.5)
    run.give_to(name)
    library = Library(home, {name})
    assert library.get("one").provenance["run"] == older.id
    assert run.config.name == Runs(home).get(run.id, {name}).config.name == "one-2"
    assert library.get("one-2").provenance["run"] == run.id
    end = run.last_event()
    assert (end.type, end.step, end.values["adapter"], end.values["loss"]) == ("finished", 4, "one-2", 0.5)
    Runs(home).delete(run)
    assert library.has("one") and not library.has("one-2")


def test_a_run_that_is_claimed_while_it_waits_gets_a_name_that_it_can_keep(home, chats, tmp_path, keys):
    name = owner_by_name("ada")
    put(home, tmp_path / "older", made(home, chats, name))
    run = made(home, chats, owner_by_key(keys[0]))
    run.give_to(name)
    assert run.config.name == "one-2" and [event.type for event in run.events()] == ["queued"]
