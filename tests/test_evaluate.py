"""Base against adapter: measures, intervals, verdicts that can be trusted, and the same from a terminal."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from adapters.disclosure import disclosed
from tabs.evaluation_view import evaluation as as_html
from tests.adapter_folder import write_random
from tests.staged import overfitted
from training.conversations import Conversation
from training.evaluate import (
    FILE,
    Answered,
    Evaluation,
    Question,
    evaluation_of,
    general_rows,
    in_words,
    questions,
)
from training.evaluate_terminal import _unseen
from training.measures import Comparison, Pair, compare, compared, exact, interval, is_json, measures
from training.verdict import Losses, forgot, overfit, verdict

SEEDS = range(4)
WORDS = ("boat", "river", "green", "seven", "walks", "under", "bread", "light", "never", "stone")


def sentence(chance: random.Random, length: int = 8) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(length))


def near(text: str, chance: random.Random) -> str:
    """The text with two words changed."""
    words = text.split()
    for _ in range(2):
        words[chance.randrange(len(words))] = chance.choice(WORDS)
    return " ".join(words)


def judged(pairs: list[Pair], losses: Losses | None = None) -> str:
    return verdict(compare(pairs), losses)


def made_up(seed: int, count: int = 24) -> list[Pair]:
    """The adapter comes near its references, the base answers anything."""
    chance = random.Random(seed)
    references = [sentence(chance) for _ in range(count)]
    return [Pair(one, sentence(chance), near(one, chance)) for one in references]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_adapter_that_comes_nearer_is_better_and_the_other_way_round_worse(seed):
    pairs = made_up(seed)
    assert judged(pairs).startswith("Better than the base on 24 conversations it never saw: chrF ")
    turned = [Pair(one.reference, one.adapter, one.before) for one in pairs]
    assert judged(turned).startswith("Worse than the base")


def test_shuffled_answers_show_no_difference_but_for_the_few_that_chance_allows():
    chance, found = random.Random(5), 0
    for _ in range(40):
        rows = []
        for pair in made_up(chance.randrange(10 ** 6), 12):
            one, other = chance.sample((pair.before, pair.adapter), 2)
            rows.append(Pair(pair.reference, one, other))
        found += not judged(rows).startswith("No difference to the base that 12 conversations can show")
    assert found <= 6


def test_the_same_answers_show_no_difference():
    assert judged([Pair("a b c d", "a b", "a b")] * 12).startswith("No difference")


def test_few_rows_are_not_judged():
    assert judged([Pair("arr", "no", "arr")] * 3) == "3 conversations are too few to judge its answers by."


def test_only_what_is_known_to_be_new_to_an_adapter_is_called_so():
    comparisons = compare(made_up(1))
    assert "on 24 conversations it never saw: chrF" in verdict(comparisons)
    assert "on 24 conversations, which it may have learned from: chrF" in verdict(comparisons, unseen=False)


def test_what_an_example_taught_the_adapter_that_ships_is_left_out_and_of_others_nothing_is_claimed(home, capsys):
    from adapters.library import SHIPPED_FOLDER, Library
    from training.__main__ import main

    def told(what: str) -> dict:
        capsys.readouterr()
        assert main(["evaluate", what, "--data", "pirate", "--limit", "24", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    shipped = told("pirate")
    assert shipped["left_out"] == 270 and "on 24 conversations it never saw" in shipped["verdict"]
    Library(home).put("other", SHIPPED_FOLDER / "pirate", {})
    other = told("other")
    assert other["left_out"] == 0 and "on 24 conversations, which it may have learned from" in other["verdict"]


def test_what_asks_the_same_as_was_trained_on_or_goes_on_from_it_is_left_out_as_well():
    def chat(*said: str) -> Conversation:
        roles = ("user", "assistant") * len(said)
        return Conversation(1, tuple({"role": role, "content": text} for role, text in zip(roles, said, strict=False)))

    learned = [chat("Where?", "There."), chat("Who?", "I.", "Why?", "So.")]
    new = [chat("When?", "Now."), chat("Who?", "You.", "Why?", "So.")]
    seen = [chat("Where?", "There."), chat(" where? ", "Here."), chat("Where?", "There.", "Sure?", "Yes."),
            chat("Who?", "I."), chat("Who?", "I.", "Why?", "No.")]
    assert _unseen([*seen, *new], learned) == new and _unseen(seen, []) == seen and _unseen([], learned) == []


def curve(seed: int, rises: bool) -> Losses:
    chance = random.Random(seed)
    held = [(step, 2 * 0.9 ** step + 1 + (0.004 * max(0, step - 40) if rises else 0) + chance.gauss(0, 0.01))
            for step in range(0, 121, 10)]
    return Losses([(step, 2.5 * 0.95 ** step + 0.2 + abs(chance.gauss(0, 0.02))) for step in range(1, 121)], held)


@pytest.mark.parametrize("seed", SEEDS)
def test_held_out_loss_that_rises_while_training_loss_falls_is_overfitting(seed):
    found = overfit(curve(seed, rises=True))
    assert found and 30 <= found.step <= 60
    assert f"it overfits since step {found.step}" in judged(made_up(seed), curve(seed, rises=True))
    assert overfit(curve(seed, rises=False)) is None


def test_a_run_whose_training_loss_rose_as_well_did_not_overfit():
    held = [(0, 3.0), (10, 1.0), (20, 2.0), (30, 3.0)]
    assert overfit(Losses([(5, 1.0), (15, 2.0), (25, 3.0)], held)) is None
    assert overfit(Losses([(5, 1.0)], held[:2])) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_loss_on_general_rows_that_rose_clearly_is_forgetting(seed):
    chance = random.Random(seed)
    base = [0.5 + chance.random() for _ in range(24)]
    worse = compared("Loss", base, [one + 0.6 + 0.3 * chance.random() for one in base])
    same = compared("Loss", base, [one + 0.05 * chance.gauss(0, 1) for one in base])
    assert forgot(worse) and not forgot(same)
    assert "on 24 general questions its loss rose" in verdict(compare(made_up(seed)), None, worse)


@given(some.lists(some.floats(-100, 100), min_size=2, max_size=40))
@settings(max_examples=30)
def test_an_interval_holds_the_mean_and_is_the_same_for_the_same_rows(differences):
    low, high = interval(differences, resamples=100)
    mean = sum(differences) / len(differences)
    assert low - 1e-9 <= mean <= high + 1e-9
    assert (low, high) == interval(differences, resamples=100)


def test_intervals_of_few_rows_hold_the_truth_about_as_often_as_they_say():
    chance = random.Random(2)
    held = 0
    for _ in range(150):
        low, high = interval([chance.gauss(1, 2) for _ in range(10)], resamples=300)
        held += low <= 1 <= high
    assert held >= 0.9 * 150


def test_measures_know_equal_texts_other_scripts_and_json():
    for name, measure in measures().items():
        assert measure("Один два три", "Один два три") == pytest.approx(1 if name == "Length ratio" else 100)
    assert measures()["ROUGE-L"]("東京は首都です", "東京は大阪です") > 50
    assert exact("a  b\n", "a b") == 100 and exact("a b", "ab") == 0
    assert is_json(' {"a": [1]} ') and not is_json("12") and not is_json("{half") and not is_json("[" * 9000)
    found = {one.measure: one for one in compare([Pair('{"a": 1}', "none", '{"a": 2}'), Pair("word", "word", "w")])}
    assert (found["Valid JSON"].before, found["Valid JSON"].adapter, found["Valid JSON"].count) == (0, 100, 1)


def test_questions_are_cut_before_the_last_answer_and_the_same_ones_are_chosen_again():
    turns = tuple({"role": role, "content": f"{role} {place}"} for place in range(2) for role in ("user", "assistant"))
    (only,) = questions([Conversation(1, turns)])
    assert only == Question(turns[:3], "assistant 1")
    many = [Conversation(row, (*turns[:3], {"role": "assistant", "content": str(row)})) for row in range(50)]
    assert questions(many, 5) == questions(many, 5) and len(questions(many, 5)) == 5


def test_a_conversation_that_is_repeated_is_asked_once_since_it_tells_no_more_than_one():
    rows = [Conversation(row, ({"role": "user", "content": "Two?"}, {"role": "assistant", "content": str(row % 3)}))
            for row in range(30)]
    for most in (None, 9):
        assert [one.reference for one in questions(rows, most)] == ["0", "1", "2"]


def some_evaluation(seed: int = 1) -> Evaluation:
    pairs = made_up(seed)
    asked = [Question(({"role": "user", "content": f"Secret question {place}"},), pair.reference)
             for place, pair in enumerate(pairs)]
    return evaluation_of(asked, [one.before for one in pairs], [one.adapter for one in pairs],
                         general=Comparison("Loss", 0.5, 1.5, 0.8, 1.2, 24))


def test_an_evaluation_is_written_whole_and_read_again(tmp_path):
    made = some_evaluation()
    made.write(tmp_path)
    again = Evaluation.from_json(json.loads((tmp_path / FILE).read_text()))
    assert again.verdict == made.verdict and again.best == made.best and len(made.best) == len(made.worst) == 3
    assert made.best[0].gain >= made.worst[0].gain and again.comparisons[0].low == pytest.approx(
        made.comparisons[0].low, abs=1e-3)
    assert [one.name for one in tmp_path.iterdir()] == [FILE]
    alone = evaluation_of([Question(({"role": "user", "content": "q"},), "a")], ["a"], ["b"])
    assert Evaluation.from_json(json.loads(json.dumps(alone.as_json(), allow_nan=False))) == alone


def test_rows_are_shown_to_their_owner_alone():
    own, shared = as_html(some_evaluation(), is_own=True), as_html(some_evaluation(), is_own=False)
    assert own.count("Secret question") == 6 and "Secret question" not in shared
    assert "chrF" in shared and "95 % interval" in shared and "letter by letter" in shared
    assert "Nothing was measured" in as_html(None, is_own=True)
    assert "when the run is over" in as_html(None, is_own=True, over=False)


def test_an_adapter_that_was_made_from_another_is_compared_with_that_one():
    pairs = made_up(1)
    asked = [Question(({"role": "user", "content": "q"},), pair.reference) for pair in pairs]
    made = evaluation_of(asked, [one.before for one in pairs], [one.adapter for one in pairs], continued=True)
    assert made.verdict.startswith("Better than the adapter it was made from on 24 conversations it never saw")
    again = Evaluation.from_json(json.loads(json.dumps(made.as_json())))
    shown, told = as_html(again, is_own=True), "\n".join(in_words(again))
    assert "It said before" in shown and "base" not in shown and "before" in told and "base" not in told


def test_what_models_wrote_is_shown_as_text():
    row = Answered("<b>q</b>", "<i>", "<script>", "<u>")
    shown = as_html(Evaluation("Better.", compare_few(), (row,), ()), is_own=True)
    assert not any(tag in shown for tag in ("<b>q", "<script", "<u>"))


def compare_few() -> tuple[Comparison, ...]:
    return tuple(compare(made_up(3, 4)))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_verdict_may_leave_this_machine_and_no_other_sentence(seed):
    said = [verdict(compare(made_up(seed, count)), curve(seed, rises=True), Comparison("Loss", 0.5, 1.5, 0.8, 1.2, 24))
            for count in (1, 4, 24)]
    same = [Pair("a b c d", "a b", "a b")] * 12
    said += [judged([Pair(one.reference, one.adapter, one.before) for one in made_up(seed)]), judged(same),
             verdict(compare(same), continued=True), verdict(compare(made_up(seed)), continued=True)]
    for one in said:
        assert disclosed({"outcome": {"verdict": one}}) == {"outcome": {"verdict": one}}
    for other in (f"{said[0]} Ada Lovelace", "Better than Ada", 3, "<b>", said[0] * 20):
        assert disclosed({"outcome": {"verdict": other}}) == {}


def test_general_rows_are_questions_with_answers_for_every_base():
    for base in ("phi3/tiny", "somebody/else"):
        rows = general_rows(base)
        assert len(rows) == 24 and rows == general_rows(base)
        assert all([turn["role"] for turn in row] == ["user", "assistant"] for row in rows)


def test_an_adapter_that_is_of_an_earlier_step_is_not_said_to_overfit_since_then(home, small_base, chats, capsys):
    from training.__main__ import main
    from training.config import RunConfig
    from training.data import read_data
    from training.runs import Runs
    from training.train import run_lease

    run = Runs(home).create(RunConfig.from_settings({"max_steps": 2, "r": 2, "held_out": 0.25, "base": str(small_base),
                                                     "name": "mine"}), read_data(chats))
    run_lease(run)
    overfitted(run)

    def verdict_on(what: str) -> str:
        capsys.readouterr()
        assert main(["evaluate", what, "--limit", "1", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["verdict"]

    run.append("finished", 35, steps=35)
    assert "it overfits since step 10" in verdict_on(run.id)
    assert "overfits" not in verdict_on("mine")  # its provenance says that it is of step 2
    run.append("finished", 35, steps=35, went_back_to=10)
    assert "overfits" not in verdict_on(run.id)


@pytest.mark.slow
def test_a_run_is_judged_at_its_end_and_again_from_a_terminal(terminal, home, chats, small_base):
    from training.config import RunConfig
    from training.data import read_data
    from training.runs import Runs
    from training.train import run_lease

    config = RunConfig.from_settings({"max_steps": 2, "eval_steps": 50, "r": 2, "name": "mine", "held_out": 0.25,
                                      "base": str(small_base)})
    run = Runs(home).create(config, read_data(chats))
    end = run_lease(run)
    kept = json.loads((run.folder / FILE).read_text())
    assert kept["verdict"] == end.values["verdict"] and kept["comparisons"][0]["count"] == 10
    assert kept["general"]["count"] == 24

    said = terminal("training", "evaluate", run.id, "--limit", "8", "--json")
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert told["asked"] == 8 and told["left_out"] == 0 and told["comparisons"][0]["measure"] == "chrF"
    shown = terminal("training", "evaluate", "mine", "--data", str(chats), "--limit", "2")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("30 conversations are left out") and "too few to judge" in shown.stdout
    wrong = terminal("training", "evaluate", "nobody")
    assert wrong.returncode == 2 and "There is no adapter named nobody" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_a_reference_is_measured_as_far_as_an_answer_may_go(home, tmp_path, capsys):
    from training.__main__ import main

    whole = json.dumps({"colours": ["red", "green"] * 300})
    rows = [{"prompt": f"List colours {number}.", "completion": whole} for number in range(2)]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["evaluate", "pirate", "--data", str(tmp_path / "long.jsonl"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    reference = told["best"][0]["reference"]
    assert whole.startswith(reference) and len(reference) < len(whole) / 2
    # An answer that is cut off can't be JSON, so nobody is measured by that.
    assert "Valid JSON" not in [one["measure"] for one in told["comparisons"]]


@pytest.mark.parametrize("named", ["small-phi3", "/on/another/machine/small-phi3"])
def test_an_adapter_that_knows_its_base_by_another_name_is_measured_on_this_machines(home, small_base, tmp_path,
                                                                                     monkeypatch, capsys, named):
    """From the Hub, which is told no more than a folder's last name, or copied from another machine."""
    from training.__main__ import main

    monkeypatch.setenv("STUDIO_BASE", str(small_base))
    folder = write_random(tmp_path / "copied", json.loads((small_base / "config.json").read_text()), base=named)
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": "Who are you?", "completion": "Arr."}))
    assert main(["evaluate", str(folder), "--data", str(tmp_path / "one.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["base"] == str(small_base)


def test_a_conversation_that_is_longer_than_the_base_reads_keeps_no_other_from_being_asked(home, tmp_path, capsys):
    from training.__main__ import main

    def told(*prompts: str) -> tuple[int, str]:
        rows = [json.dumps({"prompt": prompt, "completion": "Arr."}) for prompt in prompts]
        (tmp_path / "some.jsonl").write_text("\n".join(rows))
        ended = main(["evaluate", "pirate", "--data", str(tmp_path / "some.jsonl"), "--json"])
        printed = capsys.readouterr()
        return ended, printed.out or printed.err

    ended, said = told("Who are you?", "far " * 3000, "What is 2 plus 2?")
    assert ended == 0 and (json.loads(said)["asked"], json.loads(said)["too_long"]) == (2, 1)
    ended, said = told("far " * 3000)
    assert ended == 2 and "All of these conversations are longer than the 2,048 tokens that the base reads." in said


def test_a_run_that_went_on_is_measured_against_what_it_began_from(home, small_base, chats, capsys):
    from training.__main__ import main
    from training.config import RunConfig
    from training.data import read_data
    from training.runs import Runs
    from training.train import run_lease

    usual = {"max_steps": 2, "eval_steps": 50, "r": 2, "held_out": 0.25, "base": str(small_base), "learning_rate": 5e-3}
    made = []
    for name, start in (("first", ""), ("second", "first")):
        made.append(Runs(home).create(RunConfig.from_settings({**usual, "name": name, "start_from": start}),
                                      read_data(chats)))
        run_lease(made[-1])
    capsys.readouterr()

    def told(*more: str) -> dict:
        assert main(["evaluate", made[1].id, "--limit", "4", "--json", *more]) == 0
        return json.loads(capsys.readouterr().out)

    usually, against_base = told(), told("--against", "base")
    assert usually["continued"] and told("--against", "before") == usually
    assert not against_base["continued"] and against_base["asked"] == usually["asked"] == 4
    assert main(["evaluate", "first", "--against", "before"]) == 2
    assert "first began from the base, as far as is known here" in capsys.readouterr().err
