"""The run folder: what its events say is its state, whoever asks and whatever happened."""

import json
import signal
import subprocess
import sys
import threading

import pytest

from adapters.library import Library
from tests.conftest import ROOT
from training.checkpoint import seal
from training.config import RunConfig
from training.data import read_data
from training.run import SECONDS_TO_BEGIN, Event, Run
from training.runs import Beginning, Runs

HOLDER = """
import sys, pathlib
from training.run import Run
run = Run(pathlib.Path(sys.argv[1]))
with run.held():
    run.append("started", steps=3)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(home, chats) -> Run:
    return Runs(home).create(RunConfig(name="mine"), read_data(chats))


@pytest.fixture
def trainer(run):
    """A process that holds the run as a trainer does."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.folder)], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_new_run_holds_its_config_its_rows_and_its_split(run):
    assert run.state() == "preparing"
    assert run.config.name == "mine"
    train, held = run.conversations()
    assert (len(train), len(held)) == (36, 4)
    assert train[0].messages[0]["role"] == "user"
    assert run.about_data["rows"] == 40


def test_an_answer_that_is_spared_is_frozen_as_one(home, tmp_path):
    turns = [{"role": "user", "content": "Two?"}, {"role": "assistant", "content": "Three.", "weight": 0},
             {"role": "user", "content": "No."}, {"role": "assistant", "content": "Two.", "weight": 1}]
    path = tmp_path / "spared.jsonl"
    path.write_text("".join(json.dumps({"messages": [{**turns[0], "content": f"{number}?"}, *turns[1:]]}) + "\n"
                            for number in range(20)))
    data = read_data(path)
    assert data.notes == ("In 20 conversations, an answer that is marked not to be learned is read and not trained "
                          "on.",)
    run = Runs(home).create(RunConfig(name="mine"), data)
    train, held = run.conversations()
    assert run.spares and run.about_data["unlearned"] == 20
    assert sorted([*train, *held], key=lambda one: one.row) == list(data.conversations)
    assert train[0].messages[1:] == ({"role": "assistant", "content": "Three.", "train": False},
                                     {"role": "user", "content": "No."}, {"role": "assistant", "content": "Two."})
    plain = tmp_path / "plain.jsonl"
    plain.write_text(path.read_text().replace('"weight": 0', '"weight": 1'))
    signs = [set(some.conversations.keys("digest").tolist()) for some in (data, read_data(plain))]
    assert not signs[0] & signs[1]
    assert not Runs(home / "other").create(RunConfig(name="mine"), read_data(plain)).spares


def test_a_held_run_is_running_and_a_killed_one_is_interrupted(run, trainer):
    assert run.state() == "running"
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    assert run.state() == "interrupted"


def test_two_trainers_can_not_hold_one_run(run, trainer):
    with pytest.raises(ValueError, match="being trained already"), run.held():
        pass


def test_runs_stay_newest_first_whatever_becomes_of_an_older_one(home, chats):
    runs, data = Runs(home), read_data(chats)
    first, second = (runs.create(RunConfig(name=name), data, beginning=Beginning("in turn"))
                     for name in ("first", "second"))
    first.share()
    assert [one.id for one in runs.all()] == [second.id, first.id]


def test_a_second_start_is_refused_while_one_is_going(run, trainer, home, chats):
    with pytest.raises(ValueError, match="still training"):
        Runs(home).create(RunConfig(name="other"), read_data(chats))
    assert [one.id for one in Runs(home).all()] == [run.id]


@pytest.mark.parametrize(("last", "state"), [
    ("queued", "queued"), ("created", "preparing"), ("step", "interrupted"), ("lease_ended", "paused"),
    ("stopped", "stopped"), ("finished", "finished"), ("failed", "failed"),
])
def test_the_last_event_says_the_state(run, last, state):
    run.append(last)
    assert run.state() == state


def test_half_a_last_line_is_no_event_and_the_next_one_starts_afresh(run):
    run.append("step", 1, loss=2.0)
    with (run.folder / "events.jsonl").open("a") as lines:
        lines.write('{"type": "step", "ru')
    assert [event.type for event in run.events()] == ["created", "step"]
    run.append("step", 2, loss=1.0)
    assert [event.step for event in run.events()][-1] == 2


def test_the_last_event_is_read_without_the_rest_however_long_it_is(run):
    assert run.last_event() == run.events()[-1]
    for text in ("a", "b" * 4095, "c" * 20_000, "ä€" * 5000, "d"):
        run.append("sampled", 1, answers=[text])
        assert run.last_event() == run.events()[-1]
    with (run.folder / "events.jsonl").open("ab") as lines:
        lines.write(b'{"type": "step", "half')
    assert run.last_event().values["answers"] == ["d"]


def test_an_event_survives_its_line():
    event = Event("sampled", "id", 1.5, 3, {"answers": ["å\u2028\n"], "prompts": ["?"]})
    assert Event.from_json(event.to_json()) == event
    assert "\n" not in event.to_json()


def test_following_ends_when_the_run_does(run):
    run.append("step", 1, loss=1.0)
    run.append("finished", 1, adapter="mine")
    assert [event.type for event in run.follow()] == ["created", "step", "finished"]


def test_a_name_that_is_taken_or_can_be_no_folder_is_refused(home, chats, run):
    run.append("failed", message="x", advice="y")
    for name in ("../up", "a/b", ".hidden", "base", "x" * 65, "nul\x00"):
        with pytest.raises(ValueError, match="can't be a name"):
            Runs(home).create(RunConfig(name=name), read_data(chats))


def test_a_run_without_a_name_gets_one_that_is_free(home, chats):
    names = []
    for _ in range(2):
        run = Runs(home).create(RunConfig(), read_data(chats))
        run.append("failed", message="x", advice="y")
        names.append(run.config.name)
    assert names == ["chats-1", "chats-2"]


def test_a_name_that_a_waiting_run_will_take_is_refused_before_anything_is_trained(home, chats):
    waits = Runs(home).create(RunConfig(name="mine"), read_data(chats), beginning=Beginning("in turn"))
    with pytest.raises(ValueError, match=f"{waits.id} is about to make an adapter named mine. Choose another name"):
        Runs(home).create(RunConfig(name="mine"), read_data(chats), beginning=Beginning("in turn"))
    Runs(home).stop(waits)
    Runs(home).create(RunConfig(name="mine"), read_data(chats), beginning=Beginning("in turn"))
    with pytest.raises(ValueError, match="is about to make an adapter named mine"):
        Runs(home).resume(waits, "in turn")


def test_a_run_whose_name_is_anothers_by_now_is_not_resumed(home, run, made):
    run.append("failed", message="x", advice="y")
    Library(home).put("mine", made, {"run": "another"})
    with pytest.raises(ValueError, match="There is an adapter named mine by now that this run didn't make"):
        Runs(home).resume(run)
    assert run.state() == "failed"
    Library(home).remove("mine")
    Library(home).put("mine", made, {"run": run.id})
    assert Runs(home).resume(run)


def test_a_run_starts_from_an_adapter_whose_config_leaves_out_what_is_usual(home, chats, run, made):
    run.append("failed", message="x", advice="y")
    (made / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "base_model_name_or_path": RunConfig().base, "r": 4, "target_modules": ["qkv_proj"]}))
    Library(home).put("older", made, {"run": "another"})
    config = Runs(home).create(RunConfig(name="next", start_from="older", use_rslora=True), read_data(chats)).config
    assert (config.r, config.lora_alpha, config.use_rslora, config.use_dora) == (4, 8, False, False)


def test_an_unknown_run_is_refused_and_no_path_leaves_the_folder(home, run):
    for name in ("nothing", "../runs/" + run.id, "", "."):
        with pytest.raises(ValueError, match="There is no run"):
            Runs(home).get(name)


def test_a_run_that_can_not_be_written_leaves_nothing_behind(home, chats, monkeypatch):
    data = read_data(chats)
    Runs(home).folder.mkdir(parents=True)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(OSError, match="No space left"):
        Runs(home).create(RunConfig(name="mine"), data)
    assert list(Runs(home).folder.iterdir()) == []


def test_a_run_whose_first_event_the_disk_has_no_room_for_leaves_nothing_behind(home, chats, monkeypatch):
    data = read_data(chats)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Event, "to_json", full)
    with pytest.raises(OSError, match="No space left"):
        Runs(home).create(RunConfig(name="mine"), data)
    assert list(Runs(home).folder.iterdir()) == []


def test_a_run_that_was_never_told_of_keeps_no_other_waiting(run, home):
    (run.folder / "events.jsonl").write_bytes(b"")
    assert run.state() == "interrupted" and Runs(home).going() is None
    assert Runs(home).resume(run) and run.state() == "preparing"


def test_a_run_that_is_deleted_while_it_is_followed_ends_the_following(run, home):
    following = run.follow(pause=0)
    next(following)
    run.append("failed", message="x", advice="y")
    Runs(home).delete(run)
    assert list(following) == []


@pytest.mark.parametrize("ago", [SECONDS_TO_BEGIN + 1, -86_400])  # and after the clock was put back by a day
def test_a_run_whose_trainer_never_began_is_interrupted_after_a_while(run, home, ago):
    line = Event("created", run.id, run.events()[0].time - ago).to_json()
    (run.folder / "events.jsonl").write_text(line + "\n")
    assert run.state() == "interrupted" and Runs(home).going() is None


def test_a_trainer_that_is_killed_before_its_first_word_keeps_nobody_waiting(run, home):
    quiet = HOLDER.replace('    run.append("started", steps=3)\n', "")
    with subprocess.Popen([sys.executable, "-c", quiet, str(run.folder)], cwd=ROOT, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert run.state() == "preparing"
        assert process.stdout.readline() == "held\n"
        assert run.state() == "preparing"
        process.kill()
    assert run.state() == "interrupted" and Runs(home).going() is None
    assert Runs(home).resume(run) and run.state() == "preparing"


class EndsMeanwhile(Run):
    """A run whose trainer says how it ended, and goes, between two looks at it."""

    def is_held(self):
        self.append("failed", message="x", advice="y")
        return False


def test_a_trainer_that_ends_while_it_is_looked_at_is_not_taken_for_an_interrupted_one(run):
    run.append("step", 1, loss=1.0)
    assert EndsMeanwhile(run.folder).state() == "failed"


def test_a_trainer_begins_although_somebody_just_looks_whether_there_is_one(run, trainer):
    # Whoever looks takes the lock for a moment, as this process does until its input ends.
    letting_go = threading.Timer(0.1, trainer.stdin.close)
    letting_go.start()
    with run.held(patience=60):
        assert trainer.wait(20) == 0
    letting_go.join()


def test_somebody_else_who_just_looks_is_not_taken_for_a_trainer(run):
    looker = ("import fcntl, sys; lock = open(sys.argv[1]); fcntl.lockf(lock, fcntl.LOCK_SH)\n"
              "print('looks', flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", looker, str(run.folder / "lock")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "looks\n"
        run.append("step", 1, loss=1.0)
        assert run.state() == "interrupted"
        process.stdin.close()


def test_a_run_that_may_only_be_read_hides_no_other(run, home):
    """As one that root has made; who runs this as root may write everything."""
    run.append("step", 1, loss=1.0)
    (run.folder / "lock").chmod(0o444)
    assert run.summary()["state"] == "interrupted" and Runs(home).going() is None


def test_a_resume_undoes_what_came_after_its_checkpoint(run):
    for step in (1, 2, 3):
        run.append("step", step, loss=1.0)
    run.append("resumed", 2, checkpoint="step-2", skipped=[])
    run.append("step", 3, loss=0.5)
    assert [(event.step, event.values["loss"]) for event in run.course() if event.type == "step"] == [
        (1, 1.0), (2, 1.0), (3, 0.5)]
    run.append("resumed", 0, checkpoint=None, skipped=[])
    assert [event.type for event in run.course()] == ["created", "resumed", "resumed"]


def test_a_resume_is_announced_before_its_trainer_begins(run, home):
    run.append("stopped", 2, adapter="mine")
    run.ask_to_stop()
    assert Runs(home).resume(run)
    assert run.state() == "preparing" and not run.is_asked_to_stop()
    with pytest.raises(ValueError, match="being trained already"):
        Runs(home).resume(run)


@pytest.mark.parametrize(("more", "steps"), [({"num_train_epochs": 5}, -1), ({"max_steps": 90}, 90),
                                             ({"num_train_epochs": 5, "max_steps": 90}, 90)])
def test_a_run_of_so_many_steps_goes_on_for_the_epochs_that_are_asked_for(home, chats, more, steps):
    run = Runs(home).create(RunConfig(name="mine", max_steps=60), read_data(chats))
    run.append("finished", 60, adapter="mine")
    assert Runs(home).resume(run, **more) and Run(run.folder).config.max_steps == steps
    assert Run(run.folder).config.num_train_epochs == more.get("num_train_epochs", 3)


@pytest.mark.parametrize("name", ["config.yaml", "data.json"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_run_whose_files_are_damaged_hides_no_other(run, home, chats, name, damage):
    other = Runs(home).create(RunConfig(name="other"), read_data(chats), beginning=Beginning("in turn"))
    damage(other.folder / name)
    assert [one.id for one in Runs(home).all()] == [run.id]
    with pytest.raises(ValueError, match="There is no run"):
        Runs(home).get(other.id)


@pytest.mark.parametrize(("name", "content"), [
    ("config.yaml", "\0" * 900), ("config.yaml", "r: 99999\n"), ("config.yaml", "of_a_later_version: 1\n"),
    ("config.yaml", "name: [\n"), ("config.yaml", "- r\n"), ("data.json", '{"name": "cha'), ("data.json", "[]"),
    ("owner", None)])
def test_a_run_whose_files_say_what_can_not_be_read_hides_no_other(run, home, chats, caplog, name, content):
    runs = Runs(home)
    other = runs.create(RunConfig(name="other"), read_data(chats), beginning=Beginning("in turn"))
    assert len(runs.all()) == 2
    if content is None:
        (other.folder / name).unlink()
    else:
        (other.folder / name).write_text(content)
    for studio in (runs, Runs(home)):
        assert [one.summary()["run"] for one in studio.of({"local"})] == [run.id] == [studio.going().id]
        assert studio.free_names("", read_data(chats), {"local"}) == ["chats-1"]
    assert [f"The run {other.id} can't be read" in one.message for one in caplog.records] == [True, True]


@pytest.mark.parametrize("line", [b"\0" * 200, b"damaged", b"[1]", b'{"type": "step"}', b'{"step": 3}', b"null"])
def test_a_line_that_is_no_event_hides_no_other(run, line):
    run.append("step", 1, loss=1.0)
    with (run.folder / "events.jsonl").open("ab") as lines:
        lines.write(line + b"\n")
    assert run.state() == "interrupted" and run.last_event().type == "step"
    run.append("stopped", 1, adapter="mine")
    assert [one.type for one in run.events()] == ["created", "step", "stopped"] and run.state() == "stopped"


@pytest.mark.parametrize("logged", [15, 10])
@pytest.mark.parametrize("more", [{"num_train_epochs": 2}, {"num_train_epochs": 3}, {"max_steps": 15}])
def test_a_finished_run_is_not_given_less_than_it_has_seen(run, home, more, logged):
    run.append("step", logged, loss=1.0, epoch=round(3 * logged / 15, 3))
    run.append("finished", 15, adapter="mine")
    with pytest.raises(ValueError, match=rf"{run.id} has made 15 steps, 3 epochs, already. Ask for more than that."):
        Runs(home).resume(run, **more)
    assert run.state() == "finished" and Run(run.folder).config == RunConfig(name="mine")


@pytest.mark.parametrize(("more", "is_refused"), [
    ({"num_train_epochs": 1}, True), ({"max_steps": 5}, True), ({"max_steps": 6}, False), ({"max_steps": 7}, False),
    ({"num_train_epochs": 1.2}, False)])
def test_a_run_that_was_stopped_or_interrupted_is_not_given_less_than_it_goes_on_from(run, home, more, is_refused):
    written = run.folder / "checkpoints" / "checkpoint-6"
    written.mkdir(parents=True)
    seal(written, 6)
    run.append("step", 8, loss=1.0, epoch=1.6)
    if is_refused:
        with pytest.raises(ValueError, match=rf"{run.id} has made 6 steps, 1.2 epochs, already. Ask for more"):
            Runs(home).resume(run, **more)
    assert is_refused or Runs(home).resume(run, **more)
    assert (Run(run.folder).config == RunConfig(name="mine")) == is_refused


def test_a_run_that_waits_is_not_said_to_be_trained(run, home):
    run.append("queued")
    with pytest.raises(ValueError, match="waits for its turn already"):
        Runs(home).resume(run)
    Runs(home).stop(run)
    assert Runs(home).resume(run) and run.state() == "preparing"


def test_a_deleted_run_takes_its_rows_and_its_adapter_with_it(run, home, made):
    library = Library(home)
    library.put("mine", made, {"run": run.id})
    library.put("other", made, {"run": "another"})
    with pytest.raises(ValueError, match="Stop it first"):
        Runs(home).delete(run)
    run.append("stopped", 1, adapter="mine")
    Runs(home).delete(run)
    assert Runs(home).all() == [] and list(Runs(home).folder.iterdir()) == []
    assert not library.has("mine") and library.has("other")
