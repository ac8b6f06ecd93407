"""Runs that are kept on the Hub: private, without a pickle, back on an empty disk, and trained on to the same bytes."""

import json
import logging
import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.hub import Hub
from adapters.library import Library
from tabs import afar as page
from tabs.visitor import token_of, visitor_of
from tests.hub import Blob
from tests.interrupted import Interrupted
from tests.test_signin import ADA, NOBODY, request_of
from training import arrival
from training.afar import PREFIX, Note, keep, kept_runs, note_of, write_note
from training.arrival import ABOUT, CHECKPOINT, EVALUATION, EVENTS, ROWS, Home, bring_back, told_evaluation, told_events
from training.checkpoint import newest
from training.config import RunConfig
from training.data import read_text
from training.evaluate import read_evaluation
from training.group import Group, group_of
from training.limits import ONES_OWN, Limits
from training.numbers import STATE, TENSORS, write_numbers, write_state
from training.runs import USUAL_BEGINNING, Beginning, Runs
from training.train import Lease, run_lease

CANARY = "canary-2b81"
CHATS = "\n".join(json.dumps({"messages": [
    {"role": "user", "content": f"Say {number} {CANARY}."}, {"role": "assistant", "content": f"Arr, {number}!"},
]}) for number in range(24))
SETTINGS = {"max_steps": 6, "eval_steps": 3, "save_steps": 2, "learning_rate": 5e-3, "r": 4, "lora_dropout": 0.1,
            "per_device_train_batch_size": 4}


# Answers that follow from nothing are learned by heart: held-out loss soon rises.
BY_HEART = "\n".join(json.dumps({"messages": [
    {"role": "user", "content": f"{word}?"}, {"role": "assistant", "content": f"{word} {(7 * place + 3) % 24}"},
]}) for place, word in enumerate("abcdefghijklmnopqrstuvwx"))
EARLY = {"early_stopping": 1, "eval_steps": 2, "learning_rate": 0.02, "warmup_steps": 0, "max_steps": 40,
         "lr_scheduler_type": "constant", "lora_dropout": 0.0, "r": 16, "held_out": 0.4}
GROUP = {"id": "cut-20260101-120000-ab12", "place": 1, "of": 2, "tried": {"r": 4, "learning_rate": 5e-3}}


class Kept:
    """A run that was interrupted and is kept on the Hub."""

    def __init__(self, hub, run, note):
        self.hub, self.run, self.note = hub, run, note

    @property
    def there(self):
        return self.hub.repositories[self.note.repository]

    def files(self):
        return {path: blob.content for path, blob in self.there.head.files.items()}

    def with_files(self, **changes):
        """Another repository of ada's with the same files but for these, sealed again; None takes one away."""
        files = {**self.files(), **{name.replace("__", "/"): content for name, content in changes.items()}}
        files = {name: content for name, content in files.items() if content is not None}
        about = json.loads(files[ABOUT])
        about["files"] = {name: {"bytes": len(files[name]), "sha256": Blob(files[name]).sha256}
                          for name in files if name in arrival.Files.bounds() and name != ABOUT}
        files[ABOUT] = json.dumps(about).encode()
        self.hub.repository("ada/other", files, private=True)
        return "ada/other"


def begun(home, base, beginning=USUAL_BEGINNING, chats=CHATS, **settings):
    config = RunConfig.from_settings({**SETTINGS, "base": str(base), **settings})
    return Runs(home).create(config, read_text(chats), ADA, beginning=beginning)


def interrupted(run, after):
    with pytest.raises(KeyboardInterrupt):
        run_lease(Interrupted(run.folder, after), Lease(checkpoint_every=0))
    return run


@pytest.fixture(scope="module", params=["lora", "qlora", "loralib"])
def trained(request, tmp_path_factory, small_base):
    """(a run interrupted after some checkpoints, the bytes of its adapter where nothing interrupts it)."""
    home = tmp_path_factory.mktemp("kept")
    straight = begun(home, small_base, name="straight", method=request.param)
    run_lease(straight)
    wanted = (Library(home, {ADA}).get("straight").folder / "adapter_model.safetensors").read_bytes()
    return interrupted(begun(home, small_base, name="cut", method=request.param), 9), wanted


@pytest.fixture(scope="module")
def simply_trained(tmp_path_factory, small_base):
    return interrupted(begun(tmp_path_factory.mktemp("simply"), small_base, name="cut"), 9)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, small_base):
    """A finished run of a group, with what was measured at its end."""
    run = begun(tmp_path_factory.mktemp("measured"), small_base, Beginning(group=GROUP), name="cut", max_steps=2)
    assert run_lease(run).type == "finished"
    return run


@pytest.fixture
def hub(test_hub):
    return Hub()


@pytest.fixture
def ada(test_hub):
    return test_hub.token("ada", "contribute-repos")


@pytest.fixture
def kept(simply_trained, hub, test_hub, ada):
    return Kept(test_hub, simply_trained, keep(hub, simply_trained, "ada", ada))


@pytest.fixture
def elsewhere(home, small_base):
    """A studio whose disk is empty."""
    return Home(Runs(home), ONES_OWN, ADA, {ADA}, [str(small_base)])


def refused(hub, repository, token, elsewhere, words):
    with pytest.raises(ValueError, match=words) as refusal:
        bring_back(hub, repository, token, elsewhere)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 500
    assert elsewhere.runs.all() == []
    left = [one.name for one in elsewhere.runs.home.rglob("*")] if elsewhere.runs.home.exists() else []
    assert left in ([], ["runs"]), "something was left behind"


# ---- There and back -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_lost_its_disk_goes_on_to_the_same_bytes(trained, hub, test_hub, ada, elsewhere):
    run, wanted = trained
    note = keep(hub, run, "ada", ada)
    assert test_hub.repositories[note.repository].private
    back, revision = bring_back(hub, note.repository, ada, elsewhere)
    assert revision == note.revision and back.id != run.id and back.owner == ADA
    assert back.state() == "paused" and "was brought back from ada/" in back.events()[-1].values["message"]
    assert newest(back.folder / "checkpoints")[0].step == note.step > 0
    assert back.conversations() == run.conversations()
    assert [one.values["loss"] for one in back.course() if one.type == "evaluated"]
    assert elsewhere.runs.resume(back)
    assert run_lease(back).type == "finished"
    assert next(one for one in back.events() if one.type == "resumed").step == note.step
    made = Library(elsewhere.runs.home, {ADA}).get("cut").folder
    assert (made / "adapter_model.safetensors").read_bytes() == wanted


def test_no_pickle_travels_and_nothing_but_what_going_on_needs(kept):
    files = kept.files()
    inside = {"adapter_config.json", "adapter_model.safetensors", "trainer_state.json", STATE, TENSORS}
    assert files.keys() == {".gitattributes", "README.md", ABOUT, ROWS, EVENTS,
                            *(f"{CHECKPOINT}/{name}" for name in inside)}
    assert not any(content[:2] in (b"PK", b"\x80\x02", b"\x80\x04") for content in files.values())
    assert CANARY.encode() in files[ROWS]
    everything = b"".join(files.values())
    for secret in ((kept.run.folder / "owner").read_text(), str(os.getpid()), str(kept.run.folder)):
        assert f'"{secret}"'.encode() not in everything


def test_the_rows_travel_to_private_repositories_alone(kept, hub, test_hub, ada):
    kept.there.private = False
    commits = len(kept.there.commits)
    with pytest.raises(ValueError, match="is public on the Hub, and conversations are kept in private repositories"):
        keep(hub, kept.run, "ada", ada)
    assert len(kept.there.commits) == commits


def test_only_the_newest_checkpoint_is_listed_and_each_time_is_one_commit(hub, test_hub, ada, home, small_base):
    run = interrupted(begun(home, small_base, name="again"), 9)
    first = keep(hub, run, "ada", ada)
    write_note(run.folder, first)
    run_lease(run)
    second = keep(hub, run, "ada", ada)
    there = test_hub.repositories[first.repository]
    assert second.repository == first.repository and second.step == 6 > first.step
    assert [one.message for one in there.commits] == ["initial commit", "Keep the run", "Keep the run"]
    assert there.commits[1].files.keys() | {EVALUATION} == there.head.files.keys()
    assert json.loads(there.head.files[ABOUT].content)["step"] == 6


def test_a_finished_run_comes_back_paused_at_its_end_and_is_finished_again(hub, ada, home, small_base, elsewhere):
    run = begun(home, small_base, name="whole")
    run_lease(run)
    made = (Library(home, {ADA}).get("whole").folder / "adapter_model.safetensors").read_bytes()
    note = keep(hub, run, "ada", ada)
    Runs(home).delete(run)
    back, _ = bring_back(hub, note.repository, ada, elsewhere)
    assert elsewhere.runs.resume(back) and run_lease(back).type == "finished"
    assert (Library(home, {ADA}).get("whole").folder / "adapter_model.safetensors").read_bytes() == made


def test_one_that_stopped_early_goes_back_as_far_when_it_has_come_back(hub, ada, home, small_base, elsewhere):
    run = begun(home, small_base, chats=BY_HEART, name="early", **EARLY)
    end = run_lease(run)
    assert end.values["went_back_to"] < end.step == newest(run.folder / "checkpoints")[0].step
    made = (Library(home, {ADA}).get("early").folder / "adapter_model.safetensors").read_bytes()
    back, _ = bring_back(hub, keep(hub, run, "ada", ada).repository, ada, elsewhere)
    assert newest(back.folder / "checkpoints")[0].step == end.step
    assert elsewhere.runs.resume(back)
    assert run_lease(back).values["went_back_to"] == end.values["went_back_to"]
    again = Library(home, {ADA}).get(back.config.name).folder / "adapter_model.safetensors"
    assert back.config.name != "early" and again.read_bytes() == made
    # That one holds what was learned alone, so it is never what a trainer goes on from.
    whole, _ = newest(back.folder / "checkpoints")
    (whole.folder / "trainer_state.json").unlink()
    found, skipped = newest(back.folder / "checkpoints")
    assert found is None and skipped == [f"{whole.folder.name}: trainer_state.json is missing"]


def test_a_name_that_is_taken_here_gets_a_number(kept, hub, ada, elsewhere):
    names = [bring_back(hub, kept.note.repository, ada, elsewhere)[0].config.name for _ in range(2)]
    assert names == ["cut", "cut-2"]


def test_where_it_started_from_comes_along(hub, test_hub, ada, home, small_base, elsewhere, tmp_path):
    run_lease(begun(home, small_base, name="first", max_steps=2))
    config = RunConfig.from_settings({**SETTINGS, "base": str(small_base), "name": "second", "start_from": "first"})
    run = interrupted(Runs(home).create(config, read_text(CHATS), ADA), 9)
    note = keep(hub, run, "ada", ada)
    empty = replace(elsewhere, runs=Runs(tmp_path / "empty"))
    back, _ = bring_back(hub, note.repository, ada, empty)
    run_lease(back)
    assert Library(empty.runs.home, {ADA}).get("second").provenance["started_from"]["name"] == "first"


def test_a_run_without_a_checkpoint_is_not_kept_yet(hub, test_hub, ada, home, small_base):
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        keep(hub, begun(home, small_base, name="new"), "ada", ada)
    assert not test_hub.repositories


def test_a_repository_that_holds_something_else_is_not_buried(kept, hub, test_hub, ada):
    test_hub.repository(kept.note.repository, {"thesis.md": b"mine"}, private=True, made_by_app=True)
    with pytest.raises(ValueError, match=r"holds something else already \(thesis.md\)"):
        keep(hub, kept.run, "ada", ada)


def test_kept_runs_are_listed_for_their_owner_alone(kept, hub, test_hub, ada):
    test_hub.repository("ada/an-adapter", {"README.md": b"---\ntags: [peft]\n---"}, private=True)
    found = kept_runs(hub, "ada", ada)
    assert [(one.repository, one.name, one.step) for one in found] == [(kept.note.repository, "cut", kept.note.step)]
    assert kept.note.repository.startswith(f"ada/{PREFIX}cut-") and len(found[0].changed) == 10
    bo = test_hub.token("bo")
    assert kept_runs(hub, "bo", bo) == [] == kept_runs(hub, "ada", bo)
    with pytest.raises(ValueError, match="or it is private"):
        bring_back(hub, kept.note.repository, bo, Home(Runs(kept.run.home), ONES_OWN, "name:bo", {"name:bo"}, []))


def test_a_token_is_written_nowhere(kept, hub, test_hub, ada, elsewhere, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    bring_back(hub, kept.note.repository, ada, elsewhere)
    test_hub.fault("status", "GET", "/api/models/")
    with pytest.raises(ValueError, match="trouble of its own") as refusal:
        keep(hub, kept.run, "ada", ada)
    homes = (elsewhere.runs.home, kept.run.home)
    written = b"".join(path.read_bytes() for home in homes for path in home.rglob("*") if path.is_file())
    assert written and ada.encode() not in written + test_hub.everything_that_came()
    assert ada not in caplog.text + str(refusal.value) + "".join(capfd.readouterr()) + str(vars(hub))
    assert not any(ada in thread.name for thread in threading.enumerate())


def test_what_was_measured_and_the_group_come_along(measured, hub, test_hub, ada, elsewhere):
    note = keep(hub, measured, "ada", ada)
    back, _ = bring_back(hub, note.repository, ada, elsewhere)
    found = read_evaluation(back.folder)
    assert found == read_evaluation(measured.folder) and found.best and found.comparisons
    assert group_of(back) == group_of(measured) == Group(**GROUP)


def test_a_run_that_was_kept_before_it_was_measured_is_kept_again(measured, hub, test_hub, ada):
    note = keep(hub, measured, "ada", ada)
    assert note.evaluation and page.due_step(measured, note) == 0
    assert page.due_step(measured, replace(note, evaluation="")) == note.step == 2


# ---- What comes back is not trusted ----------------------------------------------------------------------------------


class Mischief:
    """Pickles as a shell command that leaves a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("name", ["checkpoint/optimizer.pt", "checkpoint/rng_state.pth", "checkpoint/scheduler.pt",
                                  "checkpoint/training_args.bin", "start/optimizer.pt", "x.pkl"])
def test_a_repository_that_holds_a_pickle_is_refused_and_the_pickle_never_fetched(kept, hub, test_hub, ada, elsewhere,
                                                                                 tmp_path, name):
    torch.save(Mischief(tmp_path / "trace"), tmp_path / "hostile")
    test_hub.requests.clear()
    refused(hub, kept.with_files(**{name: (tmp_path / "hostile").read_bytes()}), ada, elsewhere,
            "a pickle, which can run code when it is opened")
    assert not any("/resolve/" in one.path for one in test_hub.requests)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", [f"{CHECKPOINT}/{TENSORS}", f"{CHECKPOINT}/{STATE}", ABOUT, ROWS,
                                  f"{CHECKPOINT}/adapter_model.safetensors", f"{CHECKPOINT}/trainer_state.json"])
def test_a_pickle_under_a_name_of_ours_is_refused_and_not_run(kept, hub, ada, elsewhere, tmp_path, name):
    torch.save(Mischief(tmp_path / "trace"), tmp_path / "hostile")
    hostile = (tmp_path / "hostile").read_bytes()
    if name == ABOUT:
        kept.there.head.files[ABOUT] = replace(kept.there.head.files[ABOUT], content=hostile)
        repository = kept.note.repository
    else:
        repository = kept.with_files(**{name: hostile})
    refused(hub, repository, ada, elsewhere, r"can't be read|no JSON|cut off|declares a header|damaged")
    assert not (tmp_path / "trace").exists()


def changed_about(kept, **changes):
    about = json.loads(kept.files()[ABOUT])
    return {ABOUT: json.dumps({**about, **changes}).encode()}


def with_settings(kept, **changes):
    return changed_about(kept, settings={**json.loads(kept.files()[ABOUT])["settings"], **changes})


@pytest.mark.parametrize(("settings", "words"), [
    ({"base": "evil/base"}, "The run's base is evil/base"), ({"name": "../../x"}, "can't be a name"),
    ({"r": 100_000}, r"Rank \(r\) is 100000"), ({"surprise": 1}, "no setting named surprise"),
    ({"name": [["x"] * 9]}, "can't be read by this version"), ({"method": "loralib"}, "is missing"),
    ({"start_from": "x"}, "is missing"), ({"start_from": "x\nimport os"}, "can't be a name"),
    ({"start_from": "https://x\nimport os\n#/ada/y"}, "names no adapter"), ({"start_from": "ada/y@main\n"}, "names no"),
    ({"max_steps": 10**9}, r"Steps at most \(max_steps\) is")])
def test_settings_are_checked_as_those_of_a_visitor(kept, hub, ada, elsewhere, settings, words):
    refused(hub, kept.with_files(**with_settings(kept, **settings)), ada, elsewhere, words)


@pytest.mark.parametrize(("files", "words"), [
    ({ROWS: b"{}"}, "no row of a run"), ({ROWS: b""}, "has 0 bytes"), ({ROWS: b'{"row": 1, "held_out": true, '
     b'"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}'}, "no conversation to"),
    ({ROWS: b'{"row": 1, "held_out": false, "messages": 3}'}, "Row 1 of rows.jsonl"), ({EVENTS: b"[]"}, "JSON list"),
    ({f"{CHECKPOINT}/{STATE}": b'{"optimizer": 1}'}, "should hold optimizer, schedule, random"),
    ({f"{CHECKPOINT}/{STATE}": json.dumps({"optimizer": {"os.system": ["x"]}, "schedule": 1, "random": 1}).encode()},
     "no trainer wrote"),
    ({f"{CHECKPOINT}/{STATE}": json.dumps({"optimizer": {"tensor": "../x"}, "schedule": 1, "random": 1}).encode()},
     "names a tensor"),
    ({f"{CHECKPOINT}/{STATE}": None}, "is missing"), ({EVENTS: None}, "is missing"), ({ABOUT: b"{}"}, "this version"),
    ({f"{CHECKPOINT}/trainer_state.json": b'{"global_step": 999}'}, "no trainer wrote"),
    ({f"{CHECKPOINT}/trainer_state.json": b'{"global_step": 1e999}'}, "no trainer wrote")], ids=lambda value: "")
def test_what_no_trainer_wrote_is_refused_in_a_sentence(kept, hub, ada, elsewhere, files, words):
    repository = kept.with_files(**{name: content for name, content in files.items() if name != ABOUT})
    if ABOUT in files:
        there = kept.hub.repositories[repository]
        there.head.files[ABOUT] = replace(there.head.files[ABOUT], content=files[ABOUT])
    refused(hub, repository, ada, elsewhere, words)


def test_a_file_that_is_not_as_it_was_sealed_is_refused(kept, hub, ada, elsewhere):
    blob = kept.there.head.files[ROWS]
    kept.there.head.files[ROWS] = replace(blob, content=blob.content.replace(b"Arr", b"Err"))
    refused(hub, kept.note.repository, ada, elsewhere, "not as it was sealed")


def test_names_that_leave_the_folder_are_never_asked_for(kept, hub, test_hub, ada, elsewhere):
    strange = {"../../evil": b"1", "/etc/passwd": b"1", f"{CHECKPOINT}/../../evil": b"1", "evil.py": b"1"}
    test_hub.requests.clear()
    back, _ = bring_back(hub, kept.with_files(**strange), ada, elsewhere)
    asked = {one.path.split("/resolve/")[1].split("/", 1)[1] for one in test_hub.requests if "/resolve/" in one.path}
    assert asked <= arrival.Files.bounds().keys() and not list(elsewhere.runs.home.parent.rglob("evil*"))
    assert back.state() == "paused"


def test_limits_hold_for_what_comes_back_too(kept, hub, ada, elsewhere):
    small = replace(elsewhere, limits=Limits(kept_mebibytes=0, free_mebibytes=0))
    refused(hub, kept.note.repository, ada, small, "0 MB may be brought back here")
    refused(hub, kept.note.repository, ada, replace(elsewhere, limits=Limits(rows=3, free_mebibytes=0)),
            "24 conversations, and a run here may use 3")


def test_what_an_older_commit_left_behind_counts_for_no_limit(kept, hub, ada, elsewhere):
    repository = kept.with_files()
    head = kept.hub.repositories[repository].head
    head.files["lowest/adapter_model.safetensors"] = Blob(bytes(4 * 1024**2))
    back, _ = bring_back(hub, repository, ada, replace(elsewhere, limits=Limits(kept_mebibytes=3)))
    assert back.state() == "paused"


def test_a_run_that_is_too_large_with_what_it_may_have_besides_comes_back_without_that(kept, hub, ada, elsewhere):
    config = kept.files()[f"{CHECKPOINT}/adapter_config.json"]
    repository = kept.with_files(**{**changed_about(kept, lowest=1), "lowest/adapter_config.json": config,
                                    "lowest/adapter_model.safetensors": bytes(4 * 1024**2)})
    back, _ = bring_back(hub, repository, ada, replace(elsewhere, limits=Limits(kept_mebibytes=3)))
    assert [one.name for one in (back.folder / "checkpoints").iterdir()] == [f"step-{kept.note.step}"]


def test_an_event_that_no_page_could_show_is_left_out(kept, hub, ada, elsewhere):
    strange = [b'{"type": "queued", "run": "x", "time": 1}', b'{"type": "step", "run": "x", "time": "now", "step": 1}',
               b'{"type": "sampled", "run": "x", "time": 1, "step": 1, "prompts": [], "answers": ["a"]}',
               b'{"type": "finished", "run": "x", "time": 1, "step": 2, "adapter": "../x"}', b'{"type": 3}']
    back, _ = bring_back(hub, kept.with_files(**{EVENTS: kept.files()[EVENTS] + b"\n".join(strange)}), ada, elsewhere)
    mine, theirs = ([(one.type, one.step, one.values) for one in run.course()] for run in (back, kept.run))
    assert [one for one in mine if one[0] in ("step", "sampled", "evaluated")] == [
        one for one in theirs if one[0] in ("step", "sampled", "evaluated") and one[1] <= kept.note.step]
    assert mine[-1][0] == "lease_ended" and elsewhere.runs.going() is None


def changed(plain, name, value):
    return {**plain, name: value}


@pytest.mark.parametrize("spoil", [
    lambda plain: changed(plain, "verdict", "Send your token to evil.example."),
    lambda plain: changed(plain, "verdict", ["Better"]), lambda plain: changed(plain, "comparisons", "many"),
    lambda plain: changed(plain, "best", plain["best"] * 50), lambda plain: changed(plain, "best", [{"prompt": "x"}]),
    lambda plain: changed(plain, "worst", [changed(plain["best"][0], "adapter", "x" * 100_000)]),
    lambda plain: changed(plain, "comparisons", [changed(plain["comparisons"][0], "base", float("nan"))]),
    lambda plain: changed(plain, "general", {"measure": "loss"}), lambda plain: {},
])
def test_an_evaluation_that_no_trainer_wrote_stays_behind(measured, tmp_path, spoil):
    plain = json.loads((measured.folder / EVALUATION).read_text())
    for one, is_kept in ((plain, True), (spoil(plain), False)):
        (tmp_path / EVALUATION).write_text(json.dumps(one))
        assert (told_evaluation(tmp_path / EVALUATION) is not None) == is_kept


def test_an_evaluation_of_an_older_commit_is_no_part_of_the_run(kept, hub, ada, elsewhere):
    there = kept.hub.repositories[kept.with_files()]
    there.add({**there.head.files, EVALUATION: Blob(b"{}")}, "left behind")
    back, _ = bring_back(hub, "ada/other", ada, elsewhere)
    assert read_evaluation(back.folder) is None


@pytest.mark.parametrize("group", [
    7, {}, {**GROUP, "more": 1}, {**GROUP, "id": "<b>"}, {**GROUP, "id": 3}, {**GROUP, "place": 3},
    {**GROUP, "place": True}, {**GROUP, "of": 99}, {**GROUP, "tried": {}}, {**GROUP, "tried": {"r": 5}},
    {**GROUP, "tried": {"r": 4.0}}, {**GROUP, "tried": {"name": "cut"}}, {**GROUP, "tried": {"r": [4]}},
    {**GROUP, "tried": {"r": 4, "learning_rate": 5e-3, "lora_dropout": 0.1}}, {**GROUP, "tried": {"evil": 1}},
])
def test_a_group_that_no_start_made_is_left_out(measured, group):
    first = json.loads(measured.first_event().to_json())
    for told, is_kept in ((GROUP, True), (group, False)):
        found, = told_events([{**first, "group": told}], 1, measured.config)
        assert found["type"] == "created" and ("group" in found) == is_kept


def test_the_group_of_a_run_that_waited_for_its_turn_comes_along(home, small_base):
    run = begun(home, small_base, Beginning("in turn", group=GROUP), name="cut")
    Runs(home).begin(run)
    first, second = told_events([json.loads(one.to_json()) for one in run.course()], 1, run.config)
    assert (first["type"], second["type"]) == ("queued", "created") and first["group"] == GROUP


def test_numbers_become_the_trainers_files_again(simply_trained, tmp_path):
    from transformers.trainer_pt_utils import safe_globals

    found, _ = newest(simply_trained.folder / "checkpoints")
    for name in ("numbers", "again"):
        (tmp_path / name).mkdir()
    write_numbers(found.folder, tmp_path / "numbers")
    write_state(tmp_path / "numbers", tmp_path / "again")
    with safe_globals():
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            one, other = (torch.load(folder / name, weights_only=True) for folder in (found.folder, tmp_path / "again"))
            assert repr(one) == repr(other)
    tensors = load_file(tmp_path / "numbers" / TENSORS)
    save_file(dict(list(tensors.items())[1:]), tmp_path / "numbers" / TENSORS)
    with pytest.raises(ValueError, match="names a tensor"):
        write_state(tmp_path / "numbers", tmp_path / "again")


# ---- The page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def studio(home, small_base):
    from phi3.machine import Machine
    from phi3.models import base_facts
    from tabs.studio import Studio

    return Studio(home, Machine("cpu", "CPU", 2, 24.0), base_facts(str(small_base)), {}, Runs(home), Library(home),
                  many_visitors=True, signs_in=True)


def signed_in(token, name="ada"):
    request = request_of(name)
    request.request.scope["session"]["oauth_info"]["access_token"] = token
    return request


def test_a_token_counts_only_where_the_sign_in_does(studio, ada, monkeypatch):
    other_page = signed_in(ada)
    other_page.headers["sec-fetch-site"] = "cross-site"
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    assert token_of(studio, signed_in(ada)) == ada
    assert token_of(studio, NOBODY) == token_of(studio, None) == token_of(studio, other_page) == ""
    own = replace(studio, many_visitors=False, signs_in=False)
    assert token_of(own, NOBODY) == "hf_of_the_machine" and token_of(own, other_page) == ""


def test_a_run_is_kept_when_its_owner_wants_it_and_comes_back_as_theirs(studio, kept, ada, small_base):
    visitor = visitor_of(studio, signed_in(ada))
    found = page.kept_elsewhere(visitor, kept_runs(Hub(), "ada", ada))
    run = page.brought_back(visitor, found[0].repository, ada)
    assert page.kept_by(visitor, run.id) == run and note_of(run).wanted
    assert page.kept_by(visitor_of(studio, signed_in("x", "bo")), run.id) is None
    assert page.kept_by(visitor_of(studio, NOBODY), run.id) is None
    assert page.kept_elsewhere(visitor, found) == []
    assert page.due_step(run, note_of(run)) == 0
    run_lease(run)
    assert page.due_step(run, note_of(run)) == 6 and page.due_step(run, replace(note_of(run), wanted=False)) == 0
    note = page.sent(run, visitor, ada)
    assert note.step == 6 and note.wanted and note == note_of(run) and kept.note.repository in page.standing(note)
    with pytest.raises(ValueError, match="Choose a kept run first"):
        page.brought_back(visitor, "bo/phi3-run-x", ada)


def test_what_goes_wrong_while_keeping_is_said_and_not_tried_at_every_step(studio, kept, test_hub, ada):
    visitor = visitor_of(studio, signed_in(ada))
    run = page.brought_back(visitor, kept.note.repository, ada)
    run_lease(run)
    test_hub.fault("status", "POST", "/commit/")
    note = page.sent(run, visitor, ada)
    assert "trouble of its own" in page.standing(note) and note.step == kept.note.step
    assert page.due_step(run, note) == 0 and page.due_step(run, note, note.tried + page.SECONDS_BETWEEN) == 6


def test_nothing_of_it_is_on_the_page_of_ones_own_machine(studio):
    assert page.build(SimpleNamespace(signs_in=False)) is None


def test_a_run_that_nobody_wants_kept_is_not_sent(simply_trained):
    assert page.due_step(simply_trained, Note()) == 0 and page.standing(Note()) == ""


def test_what_went_wrong_is_looked_at_again_though_the_run_has_ended(studio):
    """Nothing of it changes any more, so the page's seldom looks are all that comes."""
    import gradio as gr

    from tabs.openings import Openings
    from tabs.run_panel import build

    with gr.Blocks(analytics_enabled=False) as blocks:
        panel, part = build(), page.build(studio)
        keys, address = gr.State(), gr.Textbox()
        page._connect_keeping(part, Openings(gr.Column(), panel, gr.HTML(), gr.Textbox(), gr.Textbox(), keys, address,
                                             studio))
    looks = [one for one in blocks.fns.values() if (panel.looks.again._id, "tick") in one.targets]
    assert [part.due in one.outputs for one in looks] == [True]
