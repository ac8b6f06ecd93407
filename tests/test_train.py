"""Training: events, adapters that stock PEFT loads, stops, kills and full disks."""

import json
import signal
import subprocess
import sys
import time
import weakref
from types import SimpleNamespace

import pytest
import torch

from adapters.library import WEIGHTS, Library
from phi3.machine import this_machine
from tests.conftest import ROOT
from training import lease
from training.config import RunConfig
from training.data import read_data
from training.run import Run
from training.runs import Runs

STEPS = {"max_steps": 4, "eval_steps": 2, "save_steps": 2, "learning_rate": 5e-3, "r": 4,
         "per_device_train_batch_size": 4}
LIMITED = """
import resource, signal, sys, pathlib
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from training.run import Run
from training.train import run_lease
run = Run(pathlib.Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
run_lease(run)
"""


@pytest.fixture
def make_run(home, chats, small_base):
    def make(**settings) -> Run:
        config = RunConfig.from_settings({**STEPS, "name": "mine", "base": str(small_base), **settings})
        return Runs(home).create(config, read_data(chats))

    return make


def types(run: Run) -> list[str]:
    return [event.type for event in run.events()]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_run_tells_its_story_and_leaves_an_adapter(make_run, home, method, small_base):
    from training.train import run_lease

    run = make_run(method=method)
    run_lease(run)
    assert run.state() == "finished"
    story = types(run)
    assert story[:4] == ["created", "started", "evaluated", "sampled"] and story[-1] == "finished"
    assert story.count("step") == 4 and story.count("checkpointed") == 2
    steps = [event.step for event in run.events() if event.type == "evaluated"]
    assert steps == [0, 2, 4]
    end = run.events()[-1].values
    assert end["loss"] < end["loss_before"]
    adapter = Library(home).get("mine")
    assert str(adapter.folder) == end["folder"] and end["adapter"] == "mine"
    assert adapter.provenance["run"] == run.id and adapter.provenance["data"]["train"] == 36
    steps = [[event.step, event.values["loss"]] for event in run.events() if event.type == "step"]
    assert adapter.provenance["losses"]["train"] == steps and len(adapter.provenance["losses"]["held_out"]) > 1
    assert adapter.provenance["hardware"] == this_machine().hardware()


def test_only_lora_weights_are_saved_and_stock_peft_loads_them_with_equal_logits(make_run, home, small_base):
    import torch
    from peft import PeftModel
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    from training.train import run_lease

    run = make_run()
    run_lease(run)
    folder = Library(home).get("mine").folder
    with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
        assert weights.keys() and all("lora_" in key for key in weights.keys())  # noqa: SIM118 — not a dict
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(small_base) and config["inference_mode"]
    assert config["target_modules"] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]

    ids = torch.tensor([[5, 6, 7, 8]])
    plain = AutoModelForCausalLM.from_pretrained(small_base, dtype=torch.float32, trust_remote_code=False)
    base_logits = plain(ids).logits
    model = PeftModel.from_pretrained(plain, folder).eval()
    before = model(ids).logits
    assert not torch.allclose(before, base_logits, atol=1e-3)
    # The recipe's own way: the base first, then the LoRA weights with strict=False.
    again = AutoModelForCausalLM.from_pretrained(small_base, dtype=torch.float32, trust_remote_code=False)
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file

    wrapped = get_peft_model(again, LoraConfig.from_pretrained(folder))
    state = {key.replace(".weight", ".default.weight"): value
             for key, value in load_file(folder / "adapter_model.safetensors").items()}
    result = wrapped.load_state_dict(state, strict=False)
    assert not result.unexpected_keys and all("lora_" not in key for key in result.missing_keys)
    assert torch.equal(wrapped.eval()(ids).logits, before)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_adapter(make_run, home):
    from training.train import run_lease

    made = []
    for name in ("one", "two"):
        run_lease(make_run(name=name))
        made.append((Library(home).get(name).folder / "adapter_model.safetensors").read_bytes())
    assert made[0] == made[1]


def test_a_run_without_held_out_rows_still_speaks(make_run):
    from training.train import run_lease

    run = make_run(held_out=0)
    end = run_lease(run)
    assert end.values["loss"] is None and "evaluated" not in types(run)
    assert [event.step for event in run.events() if event.type == "sampled"] == [0, 2, 4]


@pytest.mark.parametrize(("held_out", "looks"), [(0.1, [4, 4, 3, 3]), (0.0, [2, 1, 1, 0])])
def test_the_seconds_left_hold_the_looks_at_the_model_that_are_to_come(make_run, monkeypatch, held_out, looks):
    from training import writer
    from training.train import run_lease

    clock, usual = SimpleNamespace(now=0.0, monotonic=lambda: clock.now), writer.answer_all

    def answered(*given):
        clock.now += 100  # while a step takes no time
        return usual(*given)

    monkeypatch.setattr(writer, "time", clock)
    monkeypatch.setattr(writer, "answer_all", answered)
    run = make_run(held_out=held_out)
    run_lease(run)
    left = [event.values["seconds_left"] for event in run.events() if event.type == "step"]
    # With held-out rows it answers twice more at its end, before and with the adapter.
    assert [round(seconds / 100) for seconds in left] == looks


def test_an_adapter_is_trained_further_and_its_provenance_says_so(make_run, home):
    from training.train import run_lease

    run_lease(make_run(name="first", r=4, lora_alpha=16))
    first = Library(home).get("first")
    run = make_run(name="second", start_from="first", r=32, max_steps=2)
    assert (run.config.r, run.config.lora_alpha) == (4, 16)
    Library(home).remove("first")  # the run has its own copy
    end = run_lease(run)
    losses = [event.values["loss"] for event in run.events() if event.type == "evaluated"]
    assert losses[0] == pytest.approx(first.provenance["outcome"]["loss"], abs=1e-4)
    assert end.values["loss"] < losses[0]
    assert Library(home).get("second").provenance["started_from"]["name"] == "first"


def test_an_adapter_whose_tensors_are_named_otherwise_is_trained_further_and_not_begun_anew(make_run, home):
    from safetensors.torch import load_file, save_file

    from training.train import run_lease

    run_lease(make_run(name="first"))
    first = Library(home).get("first")
    weights = {name.removeprefix("base_model.model."): value
               for name, value in load_file(first.folder / WEIGHTS).items()}
    save_file(weights, first.folder / WEIGHTS)
    run = make_run(name="second", start_from="first", max_steps=1)
    run_lease(run)
    begun = next(event.values["loss"] for event in run.events() if event.type == "evaluated")
    assert begun == pytest.approx(first.provenance["outcome"]["loss"], abs=1e-4)


def test_what_can_not_be_trained_further_is_refused(make_run, home):
    with pytest.raises(ValueError, match="There is no adapter named nobody"):
        make_run(start_from="nobody")
    with pytest.raises(ValueError, match="pirate is an adapter for phi3/tiny, and this run's base is"):
        make_run(start_from="pirate")
    assert Runs(home).all() == []


def test_evaluation_and_saving_beyond_the_last_step_are_legal(make_run):
    from training.train import run_lease

    run = make_run(eval_steps=1000, save_steps=1000)
    assert run_lease(run).type == "finished"
    assert [event.step for event in run.events() if event.type == "evaluated"] == [0, 4]


def test_stop_keeps_what_was_learned(make_run, home):
    from training.train import run_lease

    run = make_run()
    run.ask_to_stop()
    end = run_lease(run)
    assert end.type == run.state() == "stopped" and end.step == 1
    assert Library(home).get("mine").provenance["outcome"]["steps"] == 1


def test_a_run_that_is_claimed_while_it_is_trained_leaves_its_adapter_to_the_name_beside_an_older_one(make_run, home):
    from training.train import run_lease

    class Claimed(Run):
        """A run whose visitor signs in while its last step is made; it was the machine's own before."""

        def append(self, kind, step=None, **values):
            assert self.owner == "local" or kind == "finished"
            if kind == "step" and step == 4:
                Run(self.folder).give_to("name:ada")
            return super().append(kind, step, **values)

    run = make_run(max_steps=4)
    run_lease(run)
    Library(home).give("mine", "name:ada")
    run = make_run(max_steps=4)
    end = run_lease(Claimed(run.folder))
    own = [one for one in Library(home, {"name:ada"}).all() if not one.shipped]
    assert end.values["adapter"] == "mine-2" and sorted(one.name for one in own) == ["mine", "mine-2"]
    assert Library(home, {"name:ada"}).get("mine-2").provenance["run"] == run.id and not Library(home).has("mine")


def test_a_run_that_is_claimed_while_its_adapter_is_checked_says_what_became_of_it(make_run, home, monkeypatch):
    from training.train import check, run_lease

    def claimed(folder, *about):
        Run(run.folder).give_to("name:ada")
        return check(folder, *about)

    run = make_run(max_steps=2)
    run_lease(run)
    Library(home).give("mine", "name:ada")
    run = make_run(max_steps=2)
    monkeypatch.setattr("training.train.check", claimed)
    end = run_lease(run)
    assert end.values["adapter"] == "mine-2" and end.values["check"]["ok"], end.values["check"]["verdict"]
    assert Library(home, {"name:ada"}).get("mine-2").provenance["run"] == run.id


def test_a_clock_that_is_put_back_meanwhile_makes_no_run_end_before_it_began(make_run):
    from training.outcome import seconds_so_far
    from training.writer import Lease

    run = make_run()
    line = run.events()[0].to_json().replace(f'"time": {run.events()[0].time}', f'"time": {time.time() + 3600}')
    (run.folder / "events.jsonl").write_text(line + "\n", encoding="utf-8")
    writer = SimpleNamespace(seconds_before=0.0, lease=Lease(began=time.monotonic() - 7))
    assert 7 <= seconds_so_far(run, writer) < 60


def test_answers_that_the_length_limit_cuts_away_are_said_and_nothing_is_trained(make_run, tmp_path, home, small_base):
    from training.train import run_lease

    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "x" * 100, "completion": "y"}))
    config = RunConfig.from_settings({**STEPS, "base": str(small_base), "max_length": 16})
    run = Runs(home).create(config, read_data(path))
    with pytest.raises(ValueError, match="nothing to train"):
        run_lease(run)
    assert run.state() == "failed"


@pytest.mark.slow
def test_a_full_disk_at_a_checkpoint_ends_in_a_sentence_and_keeps_what_was_there(make_run, home):
    first = make_run(name="before", save_steps=1000)
    lease.start(first)
    assert [*first.follow()][-1].type == "finished"
    run = make_run(name="full", r=16)
    ended = subprocess.run([sys.executable, "-c", LIMITED, str(run.folder)], cwd=ROOT, capture_output=True, text=True,
                           timeout=120, check=False)
    assert ended.returncode == 1 and run.state() == "failed"
    assert run.events()[-1].values["message"].startswith("The disk is full"), ended.stderr[-2000:]
    assert Library(home).get("before").provenance["run"] == first.id
    assert not list((run.folder / "checkpoints").glob("checkpoint-*"))


def test_a_trainer_that_was_killed_shows_as_interrupted_and_a_new_one_may_start(make_run):
    run = make_run(max_steps=100_000, name="endless")
    lease.start(run)
    started = next(event for event in run.follow(0.05) if event.type == "step")
    assert started.step >= 1
    pid = next(event.values["pid"] for event in run.events() if event.type == "started")
    subprocess.run(["kill", f"-{int(signal.SIGKILL)}", str(pid)], check=True)
    deadline = time.monotonic() + 20
    while run.state() == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run.state() == "interrupted"
    assert make_run(name="next").state() == "preparing"


def test_a_trainer_that_can_not_begin_is_reported_by_whoever_started_it(make_run):
    run = make_run()
    (run.folder / "lock").unlink()
    (run.folder / "lock").mkdir()  # so the trainer dies before it can say anything
    lease.start(run)
    end = [*run.follow()][-1]
    assert end.type == "failed" and "before it began" in end.values["message"]
    assert "IsADirectoryError" in end.values["log"]


class _ShortOfMemory(Run):
    """A run whose first step finds no memory."""

    def append(self, kind, step=None, **values):
        if kind == "step":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 24.00 MiB. GPU 0 has a total capacity "
                                         "of 79.10 GiB of which 1.50 MiB is free.")
        return super().append(kind, step, **values)


def test_an_out_of_memory_says_how_far_off_the_plan_was_and_what_to_change(make_run):
    from training.train import run_lease

    run = make_run(per_device_train_batch_size=8)
    with pytest.raises(ValueError, match="and asked for"):
        run_lease(_ShortOfMemory(run.folder))
    told = run.events()[-1].values
    started = next(event.values for event in run.events() if event.type == "started")
    assert run.state() == "failed" and told["message"].startswith("The machine ran out of memory: the plan was")
    assert told["planned_peak_bytes"] == started["planned_peak_bytes"] < told["available_bytes"]
    assert told["asked_bytes"] == 24 * 1024**2 and told["free_bytes"] == 1.5 * 1024**2
    assert told["held_bytes"] > 0 and isinstance(told["changes"], dict)


class _Unforeseen(Run):
    """A run whose first step fails as nobody thought of."""

    def append(self, kind, step=None, **values):
        if kind == "step":
            raise KeyError("of nobody's making")
        return super().append(kind, step, **values)


def test_the_details_of_what_nobody_can_mend_are_where_the_run_says_wherever_it_was_trained(make_run):
    from training.train import run_lease

    run = make_run(max_steps=1)
    with pytest.raises(KeyError):
        run_lease(_Unforeseen(run.folder))
    assert run.events()[-1].values["advice"] == "The run's log.txt holds the details."
    assert run.log().startswith("Traceback") and run.log().rstrip().endswith("""KeyError: "of nobody's making\"""")


@pytest.mark.parametrize("problem", [
    torch.OutOfMemoryError("CUDA out of memory."), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory")])
def test_a_trained_run_is_finished_although_its_evaluation_finds_no_memory(make_run, monkeypatch, problem):
    from training.train import run_lease

    def without_memory(*_, **__):
        raise problem

    monkeypatch.setattr("training.writer.evaluate_trained", without_memory)
    run = make_run(max_steps=1)
    end = run_lease(run)
    assert end.type == run.state() == "finished" and "verdict" not in end.values


def test_what_was_measured_before_a_run_went_on_is_not_said_of_the_adapter_that_it_makes_then(make_run, home,
                                                                                                monkeypatch):
    from training.evaluate import read_evaluation
    from training.train import run_lease

    def without_memory(*_, **__):
        raise MemoryError

    run = make_run(max_steps=2)
    assert read_evaluation(run.folder) is None
    assert run_lease(run).values["verdict"] == read_evaluation(run.folder).verdict
    Runs(home).resume(run, max_steps=4)
    monkeypatch.setattr("training.writer.evaluate_trained", without_memory)
    assert "verdict" not in run_lease(run).values
    assert read_evaluation(run.folder) is None


def test_an_evaluation_that_takes_its_trainer_down_twice_is_left_out_the_third_time(make_run, monkeypatch, home):
    from training.run import EVALUATING
    from training.train import run_lease

    class Killed(KeyboardInterrupt):
        """As when the system ends a process that took too much memory: nobody writes an event any more."""

    def takes_down(*_, **__):
        begun.append(1)
        raise Killed

    begun = []
    monkeypatch.setattr("training.writer.evaluate_trained", takes_down)
    run = make_run(max_steps=1)
    for _ in range(2):
        with pytest.raises(Killed):
            run_lease(run)
    end = run_lease(run)
    assert len(begun) == 2 and end.type == "finished" and "verdict" not in end.values
    assert (home / "adapters" / run.config.name).is_dir()
    monkeypatch.undo()
    sound = make_run(name="sound", max_steps=1)
    assert "verdict" in run_lease(sound).values and not (sound.folder / EVALUATING).exists()


def test_a_4_bit_base_that_was_made_whole_is_held_no_longer(make_run, monkeypatch):
    from training import train

    held, own = [], train.expanded

    class ReachedError(Exception):
        """What is asked for once the base is whole."""

    def watched(base):
        held.append(weakref.ref(base.model.model.layers[0].self_attn.qkv_proj.weight))
        return own(base)

    def reached(*_):
        assert held[0]() is None
        raise ReachedError

    monkeypatch.setattr(train, "expanded", watched)
    monkeypatch.setattr(train, "_trainer", reached)
    with pytest.raises(ReachedError):
        train.run_lease(make_run(method="qlora"))


def test_where_a_machine_has_several_cards_a_run_trains_on_the_first(make_run, monkeypatch):
    from trl import SFTConfig

    from training.train import run_lease

    alone = SFTConfig.__post_init__

    def beside_another(arguments):
        alone(arguments)
        arguments._n_gpu = 2

    monkeypatch.setattr(SFTConfig, "__post_init__", beside_another)
    assert run_lease(make_run(max_steps=1)).type == "finished"


def test_prediction_and_outcome_stand_in_the_last_event_and_are_kept_for_the_next_plan(make_run, home):
    from phi3.machine import this_machine
    from phi3.models import base_facts
    from training.speed import measured
    from training.train import run_lease

    run = make_run()
    end = run_lease(run).values
    assert end["planned_seconds"] > 0 < end["planned_peak_bytes"] and end["seconds"] > 0 < end["peak_bytes"]
    assert not json.loads((run.folder / "plan.json").read_text())["is_measured"]
    base = base_facts(run.config.base).config
    speed = measured(home, this_machine(), run.config, base)
    assert 0 < speed.load < end["seconds"] and min(speed.prices) > 0 < speed.word
    again = make_run(name="again")
    run_lease(again)
    assert json.loads((again.folder / "plan.json").read_text())["is_measured"]
