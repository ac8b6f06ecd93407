"""The endpoints as another program calls them, on an app to which many visitors come."""

import json
import time
import urllib.request

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.browser import running_app
from tests.hub import Blob, Repository
from tests.hub_server import running_hub
from training.config import RunConfig
from training.data import read_data
from training.owners import owner_by_key
from training.runs import Runs

FEW_STEPS = {"max_steps": 2, "eval_steps": 100, "r": 2, "held_out": 0.02}


# Columns whose names say nothing, so that a program has to.
ROWS = [b'{"Frage": "Wie hoch ist %d?", "Antwort": "%d Meter."}\n' % (one, one) for one in range(60)]
TABLE = b"".join(ROWS).decode()
CARD = b"""---
configs:
- config_name: heights
  default: true
  data_files: [{split: train, path: heights.jsonl}, {split: few, path: few.jsonl}]
- {config_name: words, data_files: words.jsonl}
---
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The app as a Space runs it: each visitor sees what is theirs. Its Hub has a dataset of two configurations."""
    folder = tmp_path_factory.mktemp("many")
    with running_hub() as hub:
        heights = hub.repositories["datasets/ada/heights"] = Repository("ada/heights")
        heights.add({"README.md": Blob(CARD), "heights.jsonl": Blob(b"".join(ROWS)),
                     "few.jsonl": Blob(b"".join(ROWS[:9])),
                     "words.jsonl": Blob(b'{"prompt": "a", "completion": "b"}\n')}, "rows")
        with running_app(folder / "studio", folder / "app.log", STUDIO_VISITORS="many", HF_ENDPOINT=hub.address,
                         HF_HOME=str(folder / "hub")) as app:
            yield app


@pytest.fixture(scope="module")
def client(many):
    return Client(many.address, verbose=False)


def call(client, name, **values):
    return client.predict(api_name=f"/{name}", **values)


def refused(client, name, **values):
    with pytest.raises(AppError) as problem:
        call(client, name, **values)
    assert "Traceback" not in str(problem.value)
    return str(problem.value)


def ended(client, begun):
    """Follow the run until nothing more happens by itself."""
    give_up = time.monotonic() + 180
    while True:
        seen = call(client, "run", run=begun["run"], key=begun["key"])
        if seen["state"] in ("finished", "failed", "stopped", "paused", "interrupted"):
            return seen
        assert time.monotonic() < give_up, seen
        time.sleep(0.2)


def test_every_call_is_named_and_says_what_it_is_for(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/inspect", "/plan", "/train", "/run", "/runs", "/stop", "/resume", "/chat", "/compare"}
    assert all(one["description"] for one in named.values())


def test_the_same_calls_and_no_others_are_tools_for_mcp_clients(many):
    with urllib.request.urlopen(f"{many.address}gradio_api/mcp/schema", timeout=60) as answer:
        tools = json.load(answer)
    assert {tool["name"] for tool in tools} == {"inspect", "plan", "train", "run", "runs", "stop", "resume", "chat",
                                                "compare"}
    assert all(tool["description"] and "request" not in tool["inputSchema"]["properties"] for tool in tools)
    assert not [(tool["name"], name) for tool in tools for name, part in tool["inputSchema"]["properties"].items()
                if not part.get("description")]
    asked = next(tool["inputSchema"]["properties"] for tool in tools if tool["name"] == "train")
    assert "OWNER/NAME" in asked["hub"]["description"] and "README" in asked["settings"]["description"]


def test_data_is_inspected_by_example_by_text_and_by_file(client, chats):
    assert call(client, "inspect", example="pirate")["rows_kept"] == 300
    assert call(client, "inspect", text='{"prompt": "a", "completion": "b"}\nnothing')["dropped_total"] == 1
    assert call(client, "inspect", file=handle_file(str(chats)))["rows_read"] == 40


COLUMNS = {"prompt_column": "Frage", "answer_column": "Antwort"}


@pytest.mark.slow
def test_a_dataset_on_the_hub_is_inspected_planned_and_trained(client):
    assert call(client, "inspect", hub="ada/heights", **COLUMNS)["rows_kept"] == 60
    assert call(client, "inspect", hub="ada/heights", split="few", **COLUMNS)["rows_kept"] == 9
    assert call(client, "inspect", hub="ada/heights", subset="words")["rows_kept"] == 1
    plan = call(client, "plan", hub="ada/heights", settings={"held_out": 0.1, "num_train_epochs": 1}, **COLUMNS)
    assert plan["batches"]["epochs"] == 1 and plan["fits"]
    begun = call(client, "train", hub="ada/heights", settings=FEW_STEPS, **COLUMNS)
    seen = ended(client, begun)
    assert seen["state"] == "finished" and seen["about_data"]["kind"] == "hub"
    assert seen["about_data"]["name"] == "ada/heights"


def test_columns_are_chosen_of_a_text_too(client):
    assert call(client, "inspect", text=TABLE, **COLUMNS)["rows_kept"] == 60
    assert "Frage" in refused(client, "inspect", text=TABLE)


@pytest.mark.parametrize(("given", "said"), [
    ({"hub": "ada/heights"}, "Frage"),
    ({"hub": "ada/heights", "prompt_column": "Frage"}, "Give two different columns"),
    ({"hub": "ada/heights", "prompt_column": "Frage", "answer_column": "Frage"}, "Give two different columns"),
    ({"hub": "ada/heights", "split": "dev"}, "has no split dev"),
    ({"hub": "ada/nothing"}, "There is no dataset ada/nothing"),
    ({"hub": "../../etc"}, "is no dataset's id"),
    ({"text": "{}", "split": "train"}, "are those of a dataset on the Hub"),
    ({"example": "pirate", "hub": "ada/heights"}, "Given: example, hub. Give one of"),
    ({}, "Given: nothing. Give one of example, text, file, hub."),
    ({"text": 5}, "text is 5, and must be a text."), ({"hub": None}, "Given: nothing."),
    ({"file": "chats.jsonl"}, "file is 'chats.jsonl', and must be an object"),
    ({"example": "pirate", "max_length": -5}, "(max_length) is -5, and must be between 16 and 131,072."),
    ({"example": "pirate", "max_length": "long"}, "(max_length) is 'long', and must be a whole number."),
])
def test_what_a_program_says_wrong_of_its_data_is_a_sentence(client, given, said):
    assert said in refused(client, "inspect", **given)


@pytest.mark.parametrize(("name", "given", "said"), [
    ("run", {"run": 5}, "run is 5, and must be a text."),
    ("run", {"run": "captain", "key": ["k"]}, "key is ['k'], and must be a text."),
    ("runs", {"keys": "one"}, "keys is 'one', and must be a list of texts."),
    ("runs", {"keys": [5]}, "keys is [5], and must be a list of texts."),
    ("plan", {"example": "pirate", "settings": [1]}, "settings is [1], and must be an object"),
    ("train", {"example": "pirate", "tries": "r=8,16"}, "tries is 'r=8,16', and must be an object"),
])
def test_what_is_of_another_kind_than_it_should_be_is_named(client, name, given, said):
    assert said in refused(client, name, **given)


@pytest.mark.parametrize("given", [
    {"example": "/etc/passwd"}, {"example": "../pirate"}, {"file": {"path": "/etc/passwd"}},
    {"file": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}}])
def test_no_path_on_this_machine_is_read(client, given):
    said = refused(client, "inspect", **given)
    assert "root:" not in said


def test_a_plan_follows_the_data_the_preset_and_the_settings(client):
    plan = call(client, "plan", example="pirate", settings={"preset": "quick", "lora_dropout": 0.7})
    assert plan["batches"]["steps"] == 34 and plan["settings"]["r"] == 8
    assert len(plan["warnings"]) == 1 and plan["warnings"][0].startswith("LoRA dropout is 0.7")
    assert call(client, "plan", example="pirate")["settings"]["r"] == 16
    assert "There is no preset named" in refused(client, "plan", example="pirate", settings={"preset": "best"})


def test_a_plan_follows_the_settings(client):
    one = call(client, "plan", example="pirate", settings={"num_train_epochs": 1})
    two = call(client, "plan", example="pirate", settings={"num_train_epochs": 2})
    assert two["batches"]["steps"] == 2 * one["batches"]["steps"] > 0
    assert "learning_rte" in refused(client, "plan", example="pirate", settings={"learning_rte": 1})


@pytest.mark.parametrize(("settings", "said"), [
    ({"name": "pirate"}, "There is already an adapter named pirate."), ({"name": "../x"}, "can't be a name"),
    ({"start_from": "nobody"}, "There is no adapter named nobody."),
    ({"start_from": "ada/nothing"}, "ada/nothing")])
def test_a_plan_refuses_what_no_run_can_have(client, settings, said):
    assert said in refused(client, "plan", example="json", settings=settings)
    assert said in refused(client, "train", example="json", settings=settings)


def test_a_plan_tells_the_name_and_what_is_kept_of_the_adapter_that_is_trained_further(client):
    settings = call(client, "plan", example="json", settings={"start_from": "pirate", "r": 2})["settings"]
    assert settings["name"] == "json-1" and settings["r"] == 16


@pytest.mark.slow
def test_a_run_is_begun_followed_and_resumed_by_its_key_alone(client, many):
    begun = call(client, "train", example="pirate", settings={**FEW_STEPS, "name": "mine"})
    assert begun["key"] and begun["state"] in ("queued", "preparing", "running")
    assert call(client, "runs") == [] and call(client, "runs", keys=["another"]) == []
    assert [one["run"] for one in call(client, "runs", keys=[begun["key"]])] == [begun["run"]]
    for name in ("run", "stop", "resume"):
        assert "may open" in refused(client, name, run=begun["run"], key="another")
        assert "may open" in refused(client, name, run=begun["run"])
    end = ended(client, begun)
    assert end["state"] == "finished" and end["events"][-1]["adapter"] == "mine"
    assert str(many.home) not in str(end)
    job = client.submit(message="Tell me a story.", adapter="mine", key=begun["key"], api_name="/chat")
    assert len(set(job)) > 1 and job.result()
    assert "no adapter named mine" in refused(client, "chat", message="Hello", adapter="mine")
    assert "is not being trained" in refused(client, "stop", run=begun["run"], key=begun["key"])
    further = {"example": "pirate", "settings": {**FEW_STEPS, "name": "further", "start_from": "mine"}}
    assert "no adapter named mine" in refused(client, "train", **further)
    assert "no adapter named mine" in refused(client, "plan", **further)
    assert call(client, "plan", **further, key=begun["key"])["settings"]["start_from"] == "mine"
    second = call(client, "train", **further, key=begun["key"])
    assert second["key"] not in ("", begun["key"])
    assert ended(client, second)["state"] == "finished"
    assert call(client, "resume", run=begun["run"], key=begun["key"], max_steps=3)["state"] != "finished"
    assert ended(client, begun)["events"][-1]["step"] == 3
    assert "5,000 steps, and 3,000 are allowed" in refused(client, "resume", run=begun["run"], key=begun["key"],
                                                           max_steps=5000)
    assert "and 3,000 are allowed" in refused(client, "resume", run=begun["run"], key=begun["key"],
                                              num_train_epochs=1000)


@pytest.mark.slow
def test_who_comes_second_waits_and_can_leave_the_queue(client, many):
    first = call(client, "train", example="pirate", settings={**FEW_STEPS, "max_steps": 2000})
    second = call(client, "train", example="shop", settings=FEW_STEPS)
    third = call(client, "train", example="json", settings=FEW_STEPS)
    assert (second["state"], second["before"], third["before"]) == ("queued", 1, 2)
    assert call(client, "stop", run=second["run"], key=second["key"])["state"] == "paused"
    assert call(client, "run", run=third["run"], key=third["key"])["before"] == 1
    call(client, "stop", run=first["run"], key=first["key"])
    assert ended(client, first)["state"] == "stopped"
    assert ended(client, third)["state"] == "finished"


@pytest.mark.slow
def test_several_values_are_a_group_of_runs_one_after_another(client, tmp_path):
    settings = {**FEW_STEPS, "name": "ranked"}
    assert "These are 2 runs, and 1" in refused(client, "train", example="pirate", tries={"r": [2, 4]})
    with running_app(tmp_path / "studio", tmp_path / "app.log") as app:
        own = Client(app.address, verbose=False)
        assert "Rank (r) is '4', and needs at least two" in refused(own, "train", example="pirate", tries={"r": [4]})
        assert "learning_rte" in refused(own, "train", example="pirate", tries={"learning_rte": "1, 2"})
        assert not Runs(app.home).all()
        begun = call(own, "train", example="pirate", settings=settings, tries={"r": [2, 4]})
        first, second = begun["runs"]
        assert begun["run"] == first["run"] and begun["group"].startswith("ranked-")
        ends = [ended(own, one) for one in (first, second)]
    assert [end["settings"]["r"] for end in ends] == [2, 4]
    assert [end["state"] for end in ends] == ["finished", "finished"]
    assert [end["events"][0]["group"]["id"] for end in ends] == [begun["group"]] * 2


@pytest.mark.slow
def test_a_run_that_was_shown_can_be_looked_at_and_nothing_else(client, many):
    begun = call(client, "train", example="pirate", settings=FEW_STEPS)
    ended(client, begun)
    link = Runs(many.home).get(begun["run"]).share()
    assert call(client, "run", run=begun["run"], key=link)["state"] == "finished"
    for name in ("stop", "resume"):
        assert "may open" in refused(client, name, run=begun["run"], key=link)
    assert call(client, "runs", keys=[link]) == []


def test_who_may_look_at_a_run_reads_nothing_of_what_its_trainer_printed(client, many):
    run = Runs(many.home).create(RunConfig(name="broken"), read_data("pirate"), owner_by_key("its own key"))
    run.append("failed", message="It failed.", advice="", log='File "/home/ada/app/training/train.py"')
    own, shared = (call(client, "run", run=run.id, key=key)["events"][-1] for key in ("its own key", run.share()))
    assert "/home/ada" in own["log"] and shared == {name: own[name] for name in own if name != "log"}


@pytest.mark.parametrize(("settings", "words"), [
    ({"max_steps": 5000}, "3,000 are allowed"), ({"max_length": 100_000}, "may be computed at once"),
    ({"base": "somebody/else"}, "trains adapters for phi3/tiny, and somebody/else is asked for")])
def test_limits_are_said(client, settings, words):
    assert words in refused(client, "train", example="pirate", settings=settings)


def test_another_base_than_the_apps_is_not_silently_replaced(client):
    assert "somebody/else is asked for" in refused(client, "plan", example="pirate", settings={"base": "somebody/else"})
    assert call(client, "plan", example="pirate", settings={"base": "phi3/tiny"})["fits"]
