"""A run that starts from an adapter of the Hub's: pinned, checked, copied, and named by its commit."""

import json
from types import SimpleNamespace

import pytest

from adapters.card import Card
from adapters.hub import Hub
from adapters.library import Library
from adapters.publish import publish
from phi3.machine import Machine
from phi3.models import base_facts
from tabs.openings import begin_run
from tabs.studio import Studio
from tabs.visitor import visitor_of
from tests.adapter_folder import write_random
from training.config import RunConfig
from training.data import read_data
from training.limits import Limits
from training.run import START
from training.runs import Beginning, Runs
from training.start import start_of

CARD = Card("---\nlibrary_name: peft\n---\n")


@pytest.fixture
def ada(test_hub):
    return test_hub.token("ada")


@pytest.fixture
def captain(test_hub, ada, small_base, tmp_path):
    """A public adapter for the small base, and what `publish` said of it."""
    base = base_facts(str(small_base))
    made = write_random(tmp_path / "made", base.config, base=base.id)
    return publish(Hub(), made, "captain", ada, CARD, private=False)


def config_of(small_base, start_from, **settings):
    return RunConfig.from_settings({"base": str(small_base), "name": "further", "start_from": start_from,
                                    "max_steps": 2, "eval_steps": 2, "r": 32, **settings})


def begun(home, chats, config, token=None):
    with start_of(config, token) as (pinned, start):
        return Runs(home).create(pinned, read_data(chats), beginning=Beginning(start=start))


def test_the_run_has_its_own_copy_of_a_pinned_commit_and_says_which(home, chats, small_base, captain, test_hub):
    from training.train import run_lease

    run = begun(home, chats, config_of(small_base, "ada/captain"))
    assert run.config.start_from == f"ada/captain@{captain.revision}" and run.config.r == 4
    test_hub.repositories.clear()
    run_lease(run)
    told = Library(home).get("further").provenance["started_from"]
    assert told["name"] == "ada/captain"
    assert told["hub"] == {"repository": "ada/captain", "revision": captain.revision, "address": test_hub.address}
    assert [one.name for one in Library(home).all() if not one.shipped] == ["further"]


def test_a_revision_and_a_page_name_what_it_starts_from(home, chats, small_base, captain, test_hub, ada, tmp_path):
    other = write_random(tmp_path / "other", base_facts(str(small_base)).config, base=str(small_base), seed=7)
    publish(Hub(), other, "captain", ada, CARD, private=False)
    first = (tmp_path / "made" / "adapter_model.safetensors").read_bytes()
    for place, text in enumerate((f"ada/captain@{captain.revision[:12]}",
                                  f"{test_hub.address}/ada/captain/tree/{captain.revision}")):
        run = begun(home / str(place), chats, config_of(small_base, text))
        assert (run.folder / START / "adapter_model.safetensors").read_bytes() == first
        assert run.config.start_from == f"ada/captain@{captain.revision}"


def test_a_private_one_comes_with_the_token_that_may_read_it_alone(home, chats, small_base, test_hub, ada, tmp_path):
    base = base_facts(str(small_base))
    publish(Hub(), write_random(tmp_path / "made", base.config, base=base.id), "secret", ada, CARD)
    for token in (None, test_hub.token("bo")):
        with pytest.raises(ValueError, match="or it is private"):
            begun(home, chats, config_of(small_base, "ada/secret"), token)
    assert Runs(home).all() == []
    run = begun(home, chats, config_of(small_base, "ada/secret"), ada)
    assert not any(ada.encode() in path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert json.loads((run.folder / START / "about.json").read_text())["name"] == "ada/secret"


@pytest.mark.parametrize(("files", "words"), [
    ({"adapter_config.json": b"{}", "adapter_model.bin": b"x"}, "a pickle"), ({"README.md": b"x"}, "no adapter"),
    ({"adapter_config.json": b'{"peft_type": "IA3"}', "adapter_model.safetensors": b"x" * 9}, "IA3")])
def test_what_is_no_safe_adapter_begins_no_run(home, chats, small_base, test_hub, files, words):
    test_hub.repository("bo/bad", files)
    with pytest.raises(ValueError, match=words):
        begun(home, chats, config_of(small_base, "bo/bad"))
    assert Runs(home).all() == []


def test_an_adapter_for_another_base_begins_no_run(home, chats, small_base, captain):
    with pytest.raises(ValueError, match=r"names .* as the base|made for|Fits|is an adapter for"):
        begun(home, chats, config_of("phi3/tiny", "ada/captain"))
    assert Runs(home).all() == []


def test_a_visitors_run_starts_from_what_their_token_may_read(home, chats, small_base, test_hub, ada, tmp_path):
    base = base_facts(str(small_base))
    publish(Hub(), write_random(tmp_path / "made", base.config, base=base.id), "secret", ada, CARD)
    studio = Studio(home, Machine("cpu", "CPU", 2, 24.0), base, {}, Runs(home), Library(home), many_visitors=True)
    nobody = visitor_of(studio, SimpleNamespace(headers={}, request=SimpleNamespace(scope={})))
    with pytest.raises(ValueError, match="or it is private"):
        begin_run(nobody, config_of(small_base, "ada/secret"), read_data(chats))
    _, run = begin_run(nobody, config_of(small_base, "ada/secret"), read_data(chats), ada)
    assert run.config.start_from.startswith("ada/secret@") and run.state() == "queued"


class Narrow(Studio):
    """A studio that takes no adapter of more than a mebibyte."""

    @property
    def limits(self):
        return Limits(adapter_mebibytes=1)


def test_what_is_larger_than_may_be_fetched_begins_no_run_and_never_travels(home, chats, small_base, test_hub):
    test_hub.repository("bo/large", {"adapter_config.json": b"{}", "adapter_model.safetensors": bytes(2 * 1024**2)})
    studio = Narrow(home, Machine("cpu", "CPU", 2, 24.0), base_facts(str(small_base)), {}, Runs(home), Library(home))
    with pytest.raises(ValueError, match="bo/large has 2 MB, and 1 MB are taken here"):
        begin_run(visitor_of(studio, None), config_of(small_base, "bo/large"), read_data(chats))
    assert not any("/resolve/" in one.path for one in test_hub.requests) and Runs(home).all() == []
