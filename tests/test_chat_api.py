"""/chat and /compare as another program calls them, as tools of an MCP client, and by many at once."""

import asyncio
import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from adapters.cache import SECONDS_IN_USE, fetched
from adapters.library import Library
from phi3.generate import Answer, Answerer, Lane, Sampling
from phi3.machine import this_machine
from phi3.models import EMBEDDED, base_facts, load_base
from tabs import chat_api
from tabs.plainly import plainly
from tabs.studio import Studio
from training.owners import owner_by_key
from training.runs import Runs

QUESTIONS = ("Who are you?", "What is the capital of France?", "How much is 7 plus 5?", "Tell me a story.")
SHIPPED = ("pirate", "json", "shop")
SHORT = {"max_new_tokens": 12}


@pytest.fixture(scope="module")
def answerer():
    return Answerer(load_base(EMBEDDED, "fp32", "cpu"))


def studio_in(home: Path, answers, many: bool = False) -> Studio:
    studio = Studio(home, this_machine(), base_facts(EMBEDDED), {}, Runs(home), Library(home), many_visitors=many)
    studio.answerer.set_result(answers)
    return studio


@pytest.fixture
def studio(home, answerer):
    return studio_in(home, answerer)


def call(studio: Studio, name: str, **given):
    """The snapshots of one call, as Gradio makes it."""
    return plainly(chat_api.with_sampling(getattr(chat_api._Calls(studio), name)))(None, **given)


def refused(studio: Studio, name: str, **given) -> str:
    with pytest.raises(gr.Error) as problem:
        list(call(studio, name, **given))
    return str(problem.value.message)


def alone(answerer, question: str, folder: Path | None, **drawn) -> str:
    lane = Lane(({"role": "user", "content": question},), str(folder) if folder else None, Sampling(**drawn))
    *_, (answer,) = answerer.answer([lane])
    return answer.text


def folder_of(studio: Studio, name: str) -> Path | None:
    return None if name == "base" else studio.library.get(name).folder


def test_an_answer_grows_to_what_the_answerer_says(studio, answerer):
    snapshots = list(call(studio, "chat", message=QUESTIONS[3], adapter="pirate"))
    assert len(snapshots) > 2 and snapshots[0] == ""
    assert snapshots[-1] == alone(answerer, QUESTIONS[3], folder_of(studio, "pirate"))
    assert all(snapshots[-1].startswith(said.strip()) for said in snapshots)


class Noting:
    """An answerer that says yes, and something of its answer."""

    def __init__(self, note: str) -> None:
        self.note = note

    def answer(self, lanes) -> Iterator[list[Answer]]:
        yield [Answer("ye", 1, 0.1, "", self.note) for _ in lanes]
        yield [Answer("yes", 1, 0.1, "stop", self.note) for _ in lanes]


def test_history_and_system_message_are_read_before_the_message(home):
    class Listener:
        def answer(self, lanes) -> Iterator[list[Answer]]:
            self.lanes = lanes
            yield [Answer("yes", 1, 0.1, "stop") for _ in lanes]

    listener = Listener()
    said = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    list(call(studio_in(home, listener), "chat", message="three", history=said, system="Be brief.", adapter="json",
              strength=0.5, temperature=0.7, seed=3, stop_texts=["\n\n", ""]))
    lane = listener.lanes[0]
    assert [turn["content"] for turn in lane.messages] == ["Be brief.", "one", "two", "three"]
    assert lane.sampling == Sampling(temperature=0.7, seed=3, stop_texts=("\n\n",)) and lane.strength == 0.5
    assert lane.adapter.endswith("json")


def test_eight_are_compared_and_who_is_not_there_says_so_in_its_own_place(studio, answerer):
    names = ["base", "pirate", "json", "shop", "nobody", "pirate", "base", "../../etc/passwd"]
    strengths = [1, 1, 1, 1, 1, 0, 2, 1]
    *_, last = call(studio, "compare", message=QUESTIONS[0], adapters=names, strengths=strengths, **SHORT)
    assert [one["adapter"] for one in last] == names and all(one["done"] for one in last)
    for one, strength in zip(last[:4], strengths, strict=False):
        assert one["text"] == alone(answerer, QUESTIONS[0], folder_of(studio, one["adapter"]), **SHORT), strength
        assert one["tokens"] > 0 and one["seconds"] > 0 and not one["note"]
    assert "There is no adapter named nobody" in last[4]["note"] and last[7]["note"] and not last[7]["text"]
    assert last[5]["text"] == last[6]["text"] == last[0]["text"] != last[1]["text"]


@pytest.mark.parametrize(("name", "given"), [("chat", {"system": None, "key": None, "history": None}),
                                             ("compare", {"adapters": ["base"], "system": None, "keys": None})])
def test_none_is_what_was_left_out(home, name, given):
    *_, last = call(studio_in(home, Noting("")), name, message="Hello", **given)
    assert last == "yes" or last[0]["text"] == "yes"


def test_a_note_stands_below_the_answer_of_who_wants_it(home):
    studio = studio_in(home, Noting("The oldest 2 turns no longer fit and were left out."))
    assert list(call(studio, "chat", message="Hello"))[-1] == "yes"
    *growing, last = call(studio, "chat", message="Hello", notes=True)
    assert growing == ["", "ye"] and last == "yes\n\n[The oldest 2 turns no longer fit and were left out.]"
    assert list(call(studio_in(home, Noting("")), "chat", message="Hello", notes=True))[-1] == "yes"


def test_nobody_at_all_who_can_answer_is_told_without_asking(home):
    (only,) = call(studio_in(home, None), "compare", message="Hello", adapters=["nobody"])
    assert only[0]["done"] and "no adapter named nobody" in only[0]["note"]


@pytest.mark.parametrize(("given", "said"), [
    ({"temperature": -1}, "Temperature is -1, and must be between 0 and 5."),
    ({"temperature": "hot"}, "Temperature is 'hot'"), ({"temperature": float("nan")}, "Temperature is nan"),
    ({"top_p": 0}, "Top-p is 0, and must be between 0.01 and 1."), ({"top_k": 1.5}, "Top-k is 1.5"),
    ({"min_p": 2}, "Min-p is 2"), ({"repetition_penalty": True}, "Repetition penalty is True"),
    ({"seed": -1}, "Seed is -1"), ({"max_new_tokens": 0}, "must be a whole number between 1 and 100,000"),
    ({"stop_texts": ["a"] * 9}, "Stop texts are 9, and can be 8 at most"), ({"stop_texts": [1]}, "must be texts"),
    ({"strength": 2.1}, "strength is 2.1, and must be a number between 0 and 2."), ({"strength": None}, "strength is"),
    ({"message": "  "}, "message is empty"), ({"message": 3}, "message is 3"), ({"system": 3}, "system is 3"),
    ({"history": "before"}, "history is 'before', and must be a list."),
    ({"history": [{"role": "system", "content": "x"}]}, "Turn 1 of history is"),
    ({"message": "x" * 600_001}, "600,001 characters, and 600,000 can be read"),
    ({"adapter": "nobody"}, "There is no adapter named nobody"), ({"key": 3}, "A key is 3"),
    ({"adapter": 3}, "An adapter is 3"),
])
def test_a_wrong_value_is_a_sentence_with_the_value(home, given, said):
    assert said in refused(studio_in(home, None), "chat", **{"message": "Hello", **given})


@pytest.mark.parametrize(("given", "said"), [
    ({"adapters": []}, "0 adapters were named, and 1 to 8 answer at once"),
    ({"adapters": ["base"] * 9}, "9 adapters were named"), ({"adapters": "base"}, "Give a list of names"),
    ({"adapters": [None]}, "An adapter is None"), ({"strengths": [1, 1]}, "one number for each of the 1 adapters"),
    ({"strengths": [3]}, "strength is 3"), ({"keys": [1]}, "A key is 1"),
    ({"keys": 1}, "keys is 1, and must be a list."), ({"keys": "its own key"}, "keys is 'its own key', and must be"),
])
def test_a_wrong_list_is_a_sentence_with_the_value(home, given, said):
    assert said in refused(studio_in(home, None), "compare", **{"message": "Hello", "adapters": ["base"], **given})


def test_visitors_are_answered_with_their_own_adapters_alone(home, answerer):
    studio, key = studio_in(home, answerer, many=True), "a key of twenty letters or more"
    shipped = studio.library.get("pirate")
    studio.library.of({owner_by_key(key)}).put("mine", shipped.folder, {"run": "r"}, owner_by_key(key))
    *_, said = call(studio, "chat", message=QUESTIONS[0], adapter="mine", key=key, **SHORT)
    assert said == alone(answerer, QUESTIONS[0], shipped.folder, **SHORT)
    for other in ("", "another key of twenty letters"):
        assert "no adapter named mine" in refused(studio, "chat", message="Hello", adapter="mine", key=other)
    *_, two = call(studio, "compare", message="Hello", adapters=["mine", "base"], keys=["", key], **SHORT)
    assert all(one["text"] for one in two)
    said = refused(studio, "chat", message="Hello", adapter="ada/pirate", key="short")
    assert "fetched for whoever has a key" in said


def test_an_adapter_of_the_hub_is_brought_once_and_belongs_to_the_key(home, answerer, test_hub):
    studio, key = studio_in(home, answerer, many=True), "a key of twenty letters or more"
    shipped = studio.library.get("pirate").folder
    test_hub.repository("ada/captain", {name: (shipped / name).read_bytes() for name in (
        "adapter_config.json", "adapter_model.safetensors")})
    for name in ("ada/captain", f"{test_hub.address}/ada/captain"):
        *_, said = call(studio, "chat", message=QUESTIONS[0], adapter=name, key=key, **SHORT)
        assert said == alone(answerer, QUESTIONS[0], folder_of(studio, "pirate"), **SHORT)
    assert "captain" in studio.library.of({owner_by_key(key)}).names() and "captain" not in studio.library.names()


def test_a_fetched_adapter_that_programs_ask_for_is_in_use_and_makes_no_room_for_others(studio):
    put = studio.library.put("captain", folder_of(studio, "pirate"), {"hub": {"repository": "ada/captain"}})
    os.utime(put.folder / "provenance.json", (1e9, 1e9))
    list(call(studio, "chat", message=QUESTIONS[0], adapter="captain", **SHORT))
    (one,) = fetched(studio.library.folder)
    assert one.used > time.time() - SECONDS_IN_USE


def test_who_goes_away_frees_their_lanes(studio, answerer):
    with closing(call(studio, "compare", message=QUESTIONS[3], adapters=["base", "pirate"])) as snapshots:
        next(snapshots)
        assert any(one["text"] for one in next(snapshots)) or answerer._requests
    assert not answerer._requests and not answerer._rounds._shared.rows


def test_sixteen_visitors_with_adapters_that_come_and_go_are_each_answered_as_alone(home, answerer, tmp_path):
    """Each visitor's adapters are copies under names of their own, so slots are wanted by more than there are."""
    studio = studio_in(home, answerer, many=True)
    expected = {(name, question): alone(answerer, question, folder_of(studio, name), **SHORT)
                for name in ("base", *SHIPPED) for question in QUESTIONS}
    wrong = []

    def visit(number: int) -> None:
        key, name = f"{number} is the key of this visitor", SHIPPED[number % 3]
        own = studio.library.of({owner_by_key(key)})
        for time_around in range(2):
            put = own.put(f"mine-{time_around}", studio.library.get(name).folder, {"run": f"{number}"},
                          owner_by_key(key))
            question = QUESTIONS[(number + time_around) % len(QUESTIONS)]
            *_, last = call(studio, "compare", message=question, adapters=["base", put.name, name], keys=[key], **SHORT)
            said = [one["text"] for one in last]
            if said != [expected[who, question] for who in ("base", name, name)] or any(one["note"] for one in last):
                wrong.append((number, question, last))
            own.remove(put.name)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not wrong and not any(thread.is_alive() for thread in threads)


@pytest.fixture(scope="module")
def served(tmp_path_factory, answerer):
    """Both endpoints served by themselves in this process, as tools too; the studio is beside them."""
    studio = studio_in(tmp_path_factory.mktemp("served"), answerer)
    with gr.Blocks(analytics_enabled=False) as page:
        chat_api.build(studio)
        hidden = gr.Button()
        hidden.click(lambda: None, api_visibility="private")
    _, address, _ = page.queue(max_size=64).launch(prevent_thread_lock=True, quiet=True, mcp_server=True)
    yield address
    page.close()


def test_a_program_sees_the_text_grow(served, studio, answerer):
    program = Client(served, verbose=False)
    job = program.submit(message=QUESTIONS[3], adapter="pirate", api_name="/chat")
    seen = list(job)
    assert len(set(seen)) > 2 and seen[-1] == job.result() == alone(answerer, QUESTIONS[3],
                                                                   folder_of(studio, "pirate"))
    two = program.predict(message=QUESTIONS[0], adapters=["base", "json"], api_name="/compare", **SHORT)
    assert [one["text"] for one in two] == [alone(answerer, QUESTIONS[0], folder_of(studio, name), **SHORT)
                                            for name in ("base", "json")]
    with pytest.raises(AppError, match="Temperature is 9"):
        program.predict(message="Hello", temperature=9, api_name="/chat")


def test_what_a_program_may_set_is_described_with_its_default(served):
    named = Client(served, verbose=False).view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/chat", "/compare"}
    set_by = {one["parameter_name"]: one for one in named["/chat"]["parameters"]}
    assert list(set_by)[:2] == ["message", "adapter"] and "request" not in set_by
    assert set_by["max_new_tokens"]["parameter_default"] == Sampling().max_new_tokens
    assert set_by["temperature"]["type"] == {"type": "number"}


def test_a_program_that_is_gone_keeps_no_lane(served, answerer):
    call_at = f"{served}gradio_api/call/v2/chat"
    given = {"message": QUESTIONS[3], "repetition_penalty": 9, "max_new_tokens": 100_000}
    asked = urllib.request.Request(call_at, json.dumps(given).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        place = f"{served}gradio_api/call/chat/{json.load(answer)['event_id']}"
    with urllib.request.urlopen(place, timeout=60) as stream:
        assert stream.readline() == b"event: generating\n"
    give_up = time.monotonic() + 60
    while answerer._requests and time.monotonic() < give_up:
        threading.Event().wait(0.05)
    assert not answerer._requests


async def as_a_client(address: str, ask):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async with streamable_http_client(f"{address.rstrip('/')}/gradio_api/mcp/") as (incoming, outgoing, _), \
            ClientSession(incoming, outgoing) as session:
        await session.initialize()
        return await ask(session)


def test_the_endpoints_are_tools_that_are_described_and_can_be_called(served, studio, answerer):
    async def ask(session):
        return (await session.list_tools()).tools, \
            await session.call_tool("chat", {"message": QUESTIONS[1], "adapter": "pirate", "system": None}), \
            await session.call_tool("compare", {"message": QUESTIONS[1], "adapters": ["base", "nobody"]}), \
            await session.call_tool("chat", {"message": QUESTIONS[1], "top_p": 7})

    with ThreadPoolExecutor(1) as apart:  # a browser that other tests have open keeps this thread's loop
        tools, chat, compared, wrong = apart.submit(asyncio.run, as_a_client(served, ask)).result()
    assert {tool.name for tool in tools} == {"chat", "compare"}
    for tool in tools:
        assert len(tool.description) > 60 and tool.inputSchema["required"]
        assert all(one.get("description") for one in tool.inputSchema["properties"].values()), tool.inputSchema
    assert chat.content[0].text == alone(answerer, QUESTIONS[1], folder_of(studio, "pirate"))
    assert "no adapter named nobody" in compared.content[0].text
    assert wrong.isError and "Top-p is 7, and must be between 0.01 and 1." in wrong.content[0].text
