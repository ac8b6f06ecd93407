"""The run that a click on the Chat tab begins with what was corrected there."""

from dataclasses import replace

import pytest

from adapters.library import Library
from chat.conversation import BASE
from phi3.machine import Machine
from phi3.models import EMBEDDED, base_facts, load_tokenizer
from tabs.hub import Reach
from tabs.lengths import lengths_in
from tabs.studio import Studio
from tabs.teaching import corrections_of, found_first, taught
from tabs.visitor import visitor_of
from tests.test_signin import NOBODY, request_of
from training.conversations import digest
from training.corrections import LEAST_OLD_ROWS, TIMES_EACH, Correction
from training.data import split
from training.evaluate import PROMPTS_AT_THE_END, read_evaluation
from training.lowest import better_checkpoint
from training.presets import Task, steps_of
from training.runs import Beginning, Runs
from training.train import run_lease


@pytest.fixture
def reach(home):
    facts = base_facts(EMBEDDED)
    studio = Studio(home, Machine("cpu", "CPU", 2, 24.0), facts, {}, Runs(home), Library(home))
    studio.tokenizer.set_result(load_tokenizer(facts))
    return Reach(visitor_of(studio, None), "local")


def corrected(reach, adapter, number):
    kept = corrections_of(reach, adapter)
    for one in range(number):
        kept.add(Correction(({"role": "user", "content": f"Ask {one}"},), f"Answer {one}. So be it!", f"Answer {one}."))


def test_corrections_are_found_on_a_page_that_does_not_know_whose_they_are(reach):
    assert found_first(reach, BASE).adapter == BASE
    corrected(reach, "pirate", 2)
    assert found_first(reach, BASE).adapter == found_first(reach, "json").adapter == "pirate"
    corrected(reach, "json", 1)
    assert found_first(reach, "json").adapter == "json"


def test_a_lesson_goes_on_from_the_adapter_for_as_many_steps_as_its_rows_ask(reach):
    corrected(reach, "pirate", 10)
    config, data = taught(reach, "pirate")
    assert (config.start_from, config.name, config.base) == ("pirate", "pirate-taught", EMBEDDED)
    facts = reach.visitor.studio.facts
    lengths = lengths_in(data, reach.visitor.studio.tokenizer.result())
    assert len(lengths) == LEAST_OLD_ROWS + 10 * TIMES_EACH + PROMPTS_AT_THE_END
    assert steps_of(config, Task(facts.config, reach.visitor.studio.machine, lengths)) >= 90


def test_a_lesson_of_what_a_lane_names_by_its_repository_goes_on_from_what_was_fetched(reach):
    library = reach.visitor.library
    library.put("captain", library.get("pirate").folder, {"hub": {"repository": "ada/captain", "revision": "0" * 40}})
    corrected(reach, "ada/captain", 2)
    config, _ = taught(reach, "ada/captain")
    assert (config.start_from, config.name) == ("captain", "captain-taught")


def test_a_second_lesson_has_a_name_of_its_own_while_the_first_one_waits(reach):
    corrected(reach, "pirate", 10)
    runs = reach.visitor.studio.runs
    first, second = (runs.create(*taught(reach, "pirate"), beginning=Beginning("in turn")) for _ in range(2))
    assert (first.config.name, second.config.name) == ("pirate-taught", "pirate-taught-2")


def test_every_correction_is_trained_on_each_time_that_it_is_in_the_lesson(reach):
    corrected(reach, "pirate", 10)
    config, data = taught(reach, "pirate")
    train, held = split(data, config.held_out, config.seed)
    assert sum(one.messages[0]["content"].startswith("Ask ") for one in train) == 10 * TIMES_EACH
    learned = {digest(one.messages) for one in train}
    assert len(held) == PROMPTS_AT_THE_END and not any(digest(one.messages) in learned for one in held)


@pytest.mark.slow
def test_a_lesson_shows_what_was_corrected_and_says_what_became_of_the_rest(reach):
    corrected(reach, "pirate", 10)
    config, data = taught(reach, "pirate")
    run = reach.visitor.studio.runs.create(replace(config, max_steps=40, eval_steps=5), data)
    end = run_lease(run)
    shown = [event.values["prompts"] for event in run.events() if event.type == "sampled"]
    assert shown and all(prompts == ["Ask 0", "Ask 1", "Ask 2"] for prompts in shown)
    evaluation = read_evaluation(run.folder)
    assert evaluation.continued and evaluation.comparisons[0].count == PROMPTS_AT_THE_END
    # Losses on what it held out are those of another kind than what it learns: they tell of no overfitting.
    assert "overfit" not in end.values["verdict"] and better_checkpoint(run) is None


def test_a_lesson_of_the_base_begins_afresh_and_has_no_old_rows(reach):
    corrected(reach, BASE, 2)
    config, data = taught(reach, BASE)
    assert (config.start_from, config.name) == ("", "base-taught")
    assert len(data.conversations) == 2 * TIMES_EACH


def test_what_was_corrected_before_signing_in_is_the_names_from_then_on(reach):
    studio = replace(reach.visitor.studio, many_visitors=True)

    def kept(request, keys=None):
        return corrections_of(Reach(*visitor_of(studio, request, keys).fetching()), "pirate")

    before = Reach(*visitor_of(studio, NOBODY).fetching())
    corrected(before, "pirate", 3)
    keys = dict(before.visitor.keys)
    kept(request_of("ada")).add(Correction(({"role": "user", "content": "Ask 9"},), "Answer 9. Aye!"))
    asked = [one.asked[0]["content"] for one in kept(request_of("ada"), keys).all()]
    assert sorted(asked) == ["Ask 0", "Ask 1", "Ask 2", "Ask 9"]
    assert len(kept(request_of("ada")).all()) == 4  # in another browser as well
    assert kept(NOBODY, keys).all() == kept(request_of("bob"), keys).all() == []


def test_a_lesson_of_nothing_is_refused(reach):
    with pytest.raises(ValueError, match="no correction"):
        taught(reach, "pirate")
