"""A card that the page's answers and its runs share: which run gets all of it, and what its trainer is told."""

import threading
from types import SimpleNamespace

import pytest

from phi3.machine import Machine
from phi3.models import load_tokenizer
from training.planning import is_alone
from training.runs import Runs
from training.sharing import KEPT_FOR_ANSWERS, Sharing, has_the_card, wanted_for_answers

SETTINGS = {"max_length": 64}
# Gibibytes of two that answers have: beside them the small base's run fits, or only in their place.
BESIDE, IN_PLACE = 0.5, 1.5


class Page:
    """Counts how often its answers made room, and keeps what each trainer was told."""

    def __init__(self, kept: float) -> None:
        self.made_room, self.told = 0, []
        card = Machine("cuda", "a small card", 2, 8.0, card_memory=2.0, card_taken=kept)
        self.sharing = Sharing(card, load_tokenizer, self.make_room, self.start)

    def make_room(self):
        self.made_room += 1

    def start(self, run, environment):
        self.told.append((run.id, environment[KEPT_FOR_ANSWERS]))

    def begin(self, run):
        self.sharing.start(run).join(60)


def test_a_run_that_fits_beside_the_answers_leaves_them_where_they_are(new_run):
    page, run = Page(BESIDE), new_run("beside")
    page.begin(run)
    assert page.told == [(run.id, "0.5")] and not page.made_room
    assert not is_alone(run) and not has_the_card(Runs(run.home))


def test_a_run_that_fits_only_alone_has_the_card_until_it_ends(new_run):
    page, run = Page(IN_PLACE), new_run("alone")
    page.begin(run)
    assert page.made_room == 1 and page.told == [(run.id, "1.5")]
    runs = Runs(run.home)
    assert is_alone(run) and has_the_card(runs)
    run.append("finished", adapter="alone")
    assert not has_the_card(runs)


def test_a_run_that_can_not_be_planned_is_left_to_its_trainer(new_run, monkeypatch):
    monkeypatch.setattr("training.planning.tokens_of", lambda *_: ([], []))  # no answer is within the limit
    page, run = Page(IN_PLACE), new_run("short")
    page.begin(run)
    assert page.told and not page.made_room


def test_a_run_that_can_not_be_begun_says_why(new_run):
    page, run = Page(BESIDE), new_run("stuck")
    page.sharing._start = lambda *_: (_ for _ in ()).throw(OSError(12, "Cannot allocate memory"))
    page.begin(run)
    assert run.state() == "failed" and "Cannot allocate memory" in run.events()[-1].values["message"]


@pytest.mark.parametrize(("said", "told"), [(None, 0.0), ("", 0.0), ("8.7", 8.7)])
def test_a_trainer_hears_what_its_page_keeps(said, told, monkeypatch):
    monkeypatch.delenv(KEPT_FOR_ANSWERS, raising=False)
    if said is not None:
        monkeypatch.setenv(KEPT_FOR_ANSWERS, said)
    assert wanted_for_answers() == told


def test_the_studio_of_a_shared_card_starts_runs_so_and_its_answers_make_room(home, new_run, monkeypatch):
    from adapters.library import Library
    from phi3.models import base_facts
    from tabs.studio import Studio

    run, page = new_run("alone"), Page(IN_PLACE)
    facts = base_facts(run.config.base)
    studio = Studio(home, page.sharing._machine, facts, {}, Runs(home), Library(home))
    monkeypatch.setattr("training.lease.trainer", lambda *folder, **options: page.start(run, options["environment"]))
    monkeypatch.setattr("training.lease.watched", lambda run, begin: begin())
    given_up = threading.Event()
    studio.tokenizer.set_result(load_tokenizer(facts))
    studio.answerer.set_result(SimpleNamespace(give_up=given_up.set))
    studio._start(run).join(60)
    assert given_up.is_set() and is_alone(run)
