"""One training at a time: who waits, in which order, and that nobody is forgotten."""

import threading

import pytest

from training.config import RunConfig
from training.data import read_data
from training.queue import Queue
from training.run import Run
from training.runs import Beginning, Runs


class Trainers:
    """Sets nobody to work, and remembers whom it was asked to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.came = threading.Condition()

    def start(self, run: Run) -> None:
        with self.came:
            self.begun.append(run.id)
            self.came.notify_all()

    def wait_for(self, count: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: len(self.begun) >= count, 30), self.begun


@pytest.fixture
def trainers():
    return Trainers()


@pytest.fixture
def queue(home, trainers):
    return Queue(Runs(home), trainers.start)


@pytest.fixture
def waiting(home, chats):
    def one(name):
        config = RunConfig.from_settings({"name": name})
        return Runs(home).create(config, read_data(chats), beginning=Beginning("in turn"))
    return one


def end(run):
    run.append("failed", message="It ended.", advice="")


def test_who_comes_first_is_trained_first(queue, trainers, waiting):
    first, second, third = (waiting(name) for name in ("first", "second", "third"))
    assert [queue.before(run) for run in (first, second, third)] == [0, 1, 2]
    assert queue.begin_next() == first and first.state() == "preparing"
    assert [queue.before(run) for run in (first, second, third)] == [0, 1, 2]
    assert queue.begin_next() is None
    end(first)
    assert queue.begin_next() == second
    assert queue.before(third) == 1
    end(second)
    assert queue.begin_next() == third and queue.waiting() == []
    assert trainers.begun == [first.id, second.id, third.id]


def test_a_begun_run_says_what_it_trains_on(queue, waiting):
    run = waiting("one")
    assert [event.type for event in run.events()] == ["queued"]
    queue.begin_next()
    begun = run.events()[-1]
    assert begun.type == "created" and begun.values == {"rows": 36, "held_out": 4, "data": "chats.jsonl"}


def test_who_leaves_the_queue_lets_the_others_pass_and_can_come_back(queue, waiting, home):
    first, second = waiting("first"), waiting("second")
    Runs(home).stop(first)
    assert first.state() == "paused"
    assert queue.begin_next() == second
    assert Runs(home).resume(first, goes="in turn") and first.state() == "queued"
    end(second)
    assert queue.begin_next() == first and first.state() == "preparing"
    assert first.events()[-1].type == "created"


def test_a_run_that_is_stopped_while_its_turn_comes_stops_after_its_first_step(home, trainers, waiting):
    class StoppedMeanwhile(Runs):
        """Runs of which each is stopped by its visitor in the moment in which it is to begin."""

        def begin(self, run):
            stopping.start()
            stopping.join(0.2)
            super().begin(run)

    run = waiting("one")
    stopping = threading.Thread(target=Runs(home).stop, args=[run])
    assert Queue(StoppedMeanwhile(home), trainers.start).begin_next() == run
    stopping.join()
    assert run.state() == "preparing" and run.is_asked_to_stop()


def test_looking_goes_on_until_nobody_waits(queue, trainers, waiting):
    runs = [waiting(name) for name in ("first", "second", "third")]
    queue.look()
    for place, run in enumerate(runs, 1):
        trainers.wait_for(place)
        end(run)
    queue.look()
    assert trainers.begun == [run.id for run in runs]


def test_a_run_elsewhere_blocks_nobody_here(home, trainers, waiting):
    elsewhere = waiting("elsewhere")
    Runs(home).begin(elsewhere)
    here = waiting("here")
    assert Queue(Runs(home), trainers.start).begin_next() is None
    assert Queue(Runs(home), trainers.start, lambda run: run.id != elsewhere.id).begin_next() == here


def test_of_runs_that_are_over_no_settings_are_read_at_each_look(home, waiting):
    asked = []

    def is_here(run):
        asked.append(run.id)
        return True

    runs = [waiting(f"run-{number}") for number in range(4)]
    for run in runs[1:]:
        end(run)
    Runs(home).begin(runs[0])
    queue = Queue(Runs(home), Trainers().start, is_here)
    assert queue.begin_next() is None and asked == [runs[0].id]


def test_two_apps_on_one_folder_begin_one_run(home, waiting):
    waiting("one")
    trainers = Trainers()
    queues = [Queue(Runs(home), trainers.start) for _ in range(8)]
    threads = [threading.Thread(target=queue.begin_next) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trainers.begun) == 1


def test_a_run_that_can_not_be_begun_says_so_and_lets_the_others_pass(home, trainers, waiting):
    class Fails(Trainers):
        def start(self, run):
            if run.config.name == "first":
                raise OSError(12, "Cannot allocate memory")
            super().start(run)

    first, second = waiting("first"), waiting("second")
    trainers = Fails()
    Queue(Runs(home), trainers.start).look()
    trainers.wait_for(1)
    assert trainers.begun == [second.id] and first.state() == "failed"
    assert "Cannot allocate memory" in first.last_event().values["message"]


def test_a_disk_that_is_full_for_a_while_ends_no_looking(home, waiting):
    class Full(Runs):
        """Whose disk takes nothing, at three looks."""

        looks = 0

        def all(self):
            self.looks += 1
            if 3 < self.looks < 7:
                raise OSError(28, "No space left on device")
            return super().all()

    run, trainers = waiting("one"), Trainers()
    Runs(home).begin(before := waiting("before"))
    Queue(Full(home), trainers.start).look()
    end(before)
    trainers.wait_for(1)
    assert trainers.begun == [run.id]
