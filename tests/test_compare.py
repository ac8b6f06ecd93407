"""Runs beside each other: what differs, what each reached, and who won, claimed only where that can be known."""

import json
import re

import pytest

from adapters.library import SHIPPED_FOLDER, Library
from phi3.machine import Machine
from phi3.models import EMBEDDED, base_facts
from tabs import compare, compare_view, several
from tabs.openings import begin_group
from tabs.studio import Studio
from tabs.visitor import visitor_of
from tests.staged import StagedRun, few_conversations
from tests.test_evaluate import made_up
from training.compare import compared, rows_of
from training.compare_terminal import told, tried_of
from training.config import RunConfig
from training.data import split
from training.evaluate import Question, evaluation_of
from training.group import TRYABLE, Group, group_of, members_of, named, on_one_side, runs_of, values_of
from training.limits import Limits
from training.measured import Yardsticks
from training.run import Run
from training.runs import Runs

MANY = 120  # conversations, of which 12 are held out: enough to choose by


def finished(home, name: str, above: float = 0.0, **settings) -> Run:
    """A run that is over, `above` the others' held-out loss."""
    staged = StagedRun(home, above, settings.pop("data", None) or few_conversations(MANY), name=name, **settings)
    staged.begin()
    for step in (1, 20, 40, 60):
        staged.train(step, step)
    staged.end("finished")
    return staged.run


def side_by_side(*runs: Run):
    return compared(runs, Yardsticks())


# ---- What differs, and what was reached -----------------------------------------------------------------------------


def test_only_the_settings_that_differ_are_told(home):
    whole = side_by_side(finished(home, "low", learning_rate=1e-4), finished(home, "high", learning_rate=3e-4, r=8))
    assert whole.differing == {"learning_rate": [1e-4, 3e-4], "r": [16, 8]}
    same = side_by_side(finished(home, "one"), finished(home, "two"))
    assert same.differing == {} and "Nothing: they learned from the same" in compare_view.tables(same)


def test_what_they_learned_from_is_told_where_it_differs(home):
    whole = side_by_side(finished(home, "many"), finished(home, "few", data=few_conversations(40)))
    assert whole.differing == {"data": ["sums: 108 and 12 held out", "sums: 36 and 4 held out"]}


def test_each_result_is_told_from_its_folder(home):
    first, second = finished(home, "first"), finished(home, "second", above=0.1)
    pairs = made_up(1)
    asked = [Question(({"role": "user", "content": "?"},), pair.reference) for pair in pairs]
    evaluation = evaluation_of(asked, [one.before for one in pairs], [one.adapter for one in pairs])
    evaluation.write(first.folder)
    whole = side_by_side(first, second)
    cells = dict(rows_of(whole))
    assert cells["Steps"] == ["60 of 60"] * 2 and cells["Time"] == ["20.4 s"] * 2
    assert cells["Held-out loss"] == ["2.8000 → 0.3892 (lowest)", "2.8000 → 0.4892"]
    assert re.fullmatch(r"[\d.]+ → [\d.]+, \+[\d.]+ \(\+[\d.]+ to \+[\d.]+\)", cells["chrF"][0])
    assert cells["chrF"][1] == ""
    assert whole.results[0].verdict == evaluation.verdict and whole.results[1].verdict == ""
    plain = json.loads(json.dumps(whole.as_json(), allow_nan=False))
    assert plain["best"] == first.id and plain["runs"][0]["measures"][0]["measure"] == "chrF"


def test_a_run_that_went_back_counts_with_the_step_that_it_went_back_to(home):
    one = finished(home, "one")
    one.append("finished", 60, adapter="one", folder="x", steps=60, seconds=3.0, loss_before=2.8, loss=0.3,
               went_back_to=40)
    assert side_by_side(one, finished(home, "two")).results[0].loss_at == 40


# ---- Who won --------------------------------------------------------------------------------------------------------


def test_the_lowest_held_out_loss_wins_whatever_the_order(home):
    runs = [finished(home, "b", above=0.2), finished(home, "a"), finished(home, "c", above=0.1)]
    for order in (runs, runs[::-1]):
        ranking = side_by_side(*order).ranking
        assert ranking.best == runs[1].id
        assert ranking.sentence == "a has the lowest loss on the same 12 held-out conversations: 0.3892."


def test_a_lead_that_may_be_chance_is_called_so(home):
    runs = finished(home, "a"), finished(home, "b", above=0.005), finished(home, "c", above=0.3)
    assert side_by_side(*runs).ranking.sentence.endswith("b is within 3 % of it, which may be chance.")
    few = few_conversations(24)
    few_rows = side_by_side(finished(home, "d", data=few), finished(home, "e", above=1, data=few)).ranking.sentence
    assert few_rows.endswith("2 conversations are too few to choose by.")


def test_nobody_wins_where_both_are_the_same(home):
    ranking = side_by_side(finished(home, "a"), finished(home, "b")).ranking
    assert ranking.best == "" and ranking.sentence.startswith("a and b have the lowest loss")


def test_runs_that_were_measured_on_other_rows_are_not_compared_by_loss(home):
    runs = finished(home, "a"), finished(home, "b", above=0.5, data=few_conversations(40)), finished(home, "c", above=1)
    ranking = side_by_side(*runs).ranking
    assert ranking.best == ""
    assert ranking.sentence == ("These runs can't be compared by loss: they were measured on different held-out "
                                "conversations (a and c on 12; b on 4).")
    assert "(lowest)" not in str(rows_of(side_by_side(*runs)))


def test_another_seed_holds_other_rows_out_and_says_so(home):
    ranking = side_by_side(finished(home, "a"), finished(home, "b", above=1, seed=7)).ranking
    assert ranking.best == "" and "different held-out conversations (a on 12; b on 12)" in ranking.sentence


def test_another_limit_cuts_the_same_rows_elsewhere_but_not_where_the_tokens_are_the_same(home):
    runs = finished(home, "a"), finished(home, "b", above=1, max_length=64)
    assert "max_length" in side_by_side(*runs).ranking.sentence and side_by_side(*runs).ranking.best == ""
    for run in runs:
        write_tokens(run, [[1, 2, 3], [4, 5]])
    assert side_by_side(*runs).ranking.best == runs[0].id
    write_tokens(runs[1], [[1, 2], [4, 5]])
    assert side_by_side(*runs).ranking.best == ""


def write_tokens(run: Run, held: list[list[int]]) -> None:
    """The rows as a trainer keeps them."""
    import pyarrow
    import pyarrow.parquet as parquet

    rows = [{"held_out": True, "input_ids": ids, "labels": ids} for ids in held]
    trained = {"held_out": False, "input_ids": [len(run.config.name)], "labels": []}
    parquet.write_table(pyarrow.Table.from_pylist([*rows, trained]), run.folder / "tokens.parquet")


def test_runs_that_do_no_better_than_the_base_are_no_victory(home):
    runs = finished(home, "a", above=3), finished(home, "b", above=4)
    assert side_by_side(*runs).ranking.sentence.startswith("None of them does better than the base on the same 12")


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_run_that_diverged_never_wins(home, loss):
    runs = finished(home, "a"), finished(home, "b", above=1), finished(home, "c")
    runs[2].append("finished", 60, adapter="c", folder="x", steps=60, seconds=3.0, loss_before=2.8, loss=loss)
    whole = side_by_side(*runs)
    assert whole.ranking.best == runs[0].id
    assert whole.ranking.sentence.endswith("c has no held-out loss to compare.")
    assert compare_view.chart(whole) and json.dumps(whole.as_json(), allow_nan=False)


def test_a_failed_run_never_wins_and_runs_that_go_on_lead_so_far(home):
    failed = StagedRun(home, -0.1, few_conversations(MANY), name="failed")
    failed.begin()
    failed.train(20, 40)
    failed.fail()
    done = finished(home, "done", above=0.5)
    going = StagedRun(home, 0.1, few_conversations(MANY), name="going")
    going.begin()
    going.train(20, 40)
    going.run.append("resuming")
    ranking = side_by_side(failed.run, done, going.run).ranking
    assert ranking.best == going.run.id
    assert ranking.sentence == (
        "So far, with 2 of 3 runs over, going has the lowest loss on the same 12 held-out conversations: 0.6709 at "
        "step 40. failed has no held-out loss to compare.")


def test_before_there_are_two_losses_nobody_is_ahead(home):
    done = finished(home, "done")
    begun = StagedRun(home, data=few_conversations(MANY), name="begun")
    begun.run.append("created", rows=1, held_out=1, data="x")
    assert "Held-out loss was measured in 1 of 2 runs so far." in side_by_side(done, begun.run).ranking.sentence
    begun.fail()
    assert "nothing to compare it with" in side_by_side(done, begun.run).ranking.sentence
    without = finished(home, "without", held_out=0), finished(home, "out", held_out=0)
    assert side_by_side(*without).ranking.sentence.startswith("None of these runs held conversations out")


def test_too_few_too_many_and_the_same_run_twice_are_refused(home):
    runs = [finished(home, f"run-{number}") for number in range(7)]
    for some in ([], runs[:1], runs):
        with pytest.raises(ValueError, match="2 to 6 can be compared"):
            side_by_side(*some)
    with pytest.raises(ValueError, match="compared with itself"):
        side_by_side(runs[0], runs[0])


# ---- Groups ---------------------------------------------------------------------------------------------------------


def test_values_are_read_as_their_setting_wants_them():
    assert values_of("learning_rate", "1e-4, 3e-4,0.001 , 1e-3") == (1e-4, 3e-4, 1e-3)
    assert values_of("use_dora", "yes, no") == (True, False)
    assert values_of("target_modules", "all-linear; qkv_proj, o_proj") == ("all-linear", "qkv_proj, o_proj")
    assert tried_of(["r=8,16", "method=lora,loralib"]) == {"r": (8, 16), "method": ("lora", "loralib")}
    assert "held_out" not in TRYABLE and "learning_rate" in TRYABLE


@pytest.mark.parametrize(("tries", "words"), [
    (["r=8"], "Rank (r) is '8', and needs at least two different values, such as 16, 32."),
    (["r=8,8.0"], "at least two different values"), (["r"], "--try r names no values"),
    (["r=8,0"], "Rank (r) is 0, and must be between 1 and 512"), (["rank=8,16"], "There is no setting named rank"),
    (["held_out=0.1,0.2"], "Held-out share (held_out) can't be tried"),
    (["base=a,b"], "Base model (base) can't be tried"),
    (["r=1,2", "r=3,4"], "--try names r twice")])
def test_what_can_not_be_tried_is_refused_in_a_sentence(tries, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        tried_of(tries)


def test_a_product_makes_at_most_eight_runs_that_differ_in_nothing_else():
    config = RunConfig(name="mine", num_train_epochs=2.0)
    members = members_of(config, {"learning_rate": (1e-4, 3e-4), "r": (8, 16, 32)})
    assert [one.config.learning_rate for one in members] == [1e-4] * 3 + [3e-4] * 3
    assert [one.config.r for one in members] == [8, 16, 32] * 2
    assert [one.group.place for one in members] == [1, 2, 3, 4, 5, 6]
    assert len({one.group.id for one in members}) == 1 and all(one.config.num_train_epochs == 2 for one in members)
    with pytest.raises(ValueError, match="3 times 3 values are 9 runs, and one Start begins 8 at most"):
        members_of(config, {"learning_rate": (1e-4, 3e-4, 1e-3), "r": (8, 16, 32)})
    with pytest.raises(ValueError, match="3 settings are to be tried"):
        members_of(config, {"learning_rate": (1e-4, 3e-4), "r": (8, 16), "seed": (1, 2)})
    with pytest.raises(ValueError, match="its rank and layers are kept"):
        members_of(RunConfig(start_from="pirate"), {"r": (8, 16)})
    with pytest.raises(ValueError, match=r"Epochs \(num_train_epochs\) .* while Steps at most \(max_steps\) is 60"):
        members_of(RunConfig(max_steps=60), {"num_train_epochs": (1.0, 3.0)})
    with pytest.raises(ValueError, match="while Steps at most"):
        members_of(RunConfig(), {"num_train_epochs": (1.0, 3.0), "max_steps": (-1, 60)})
    assert len(members_of(RunConfig(), {"num_train_epochs": (1.0, 3.0)})) == 2


@pytest.mark.parametrize(("tried", "tails"), [
    ({"learning_rate": (1e-4, 1e-5)}, ["-0.0001", "-1e-05"]),
    ({"use_dora": (True, False)}, ["-use_dora-yes", "-use_dora-no"]),
    ({"learning_rate": (1e-4, 0.001), "r": (8,)}, ["-0.0001-8", "-0.001-8"]),
    ({"target_modules": ("qkv_proj, o_proj, gate_up_proj", "qkv_proj, o_proj, gate_up_proj, down_proj")},
     ["-1-qkv_proj-o_proj-gate", "-2-qkv_proj-o_proj-gate"])])
def test_names_say_what_is_tried_and_are_all_different(home, tried, tails):
    def names(name):
        members = named(members_of(RunConfig(name=name), tried), few_conversations(), Runs(home), [])
        return [one.config.name for one in members]

    assert names("mine") == [f"mine{one}" for one in tails]
    assert names("") == [f"sums-1{one}" for one in tails]
    assert len(set(names("x" * 64))) == 2


def test_all_runs_of_a_group_hold_the_same_rows_out_whatever_their_seed():
    data = on_one_side(few_conversations(MANY), RunConfig(seed=3))
    sides = [split(data, 0.1, seed) for seed in (3, 4)]
    assert sides[0] == sides[1] == split(few_conversations(MANY), 0.1, 3)
    assert on_one_side(data, RunConfig(held_out=0.0)) is data


def test_a_runs_first_event_says_where_it_belongs_and_old_folders_belong_nowhere(home):
    group = Group("mine-1", 2, 3, {"r": 8})
    run = StagedRun(home, group=group, name="two", r=8).run
    assert group_of(run) == group and run.state() == "queued"
    Runs(home).begin(run)
    assert group_of(run) == group
    first = StagedRun(home, group=Group("mine-1", 1, 3, {"r": 4}), name="one", r=4).run
    other = StagedRun(home, group=Group("other", 1, 2, {"r": 8}), name="other").run
    assert runs_of("mine-1", [run, other, first]) == [first, run]


def test_a_run_of_its_own_belongs_to_no_group(home):
    run = finished(home, "alone")
    assert group_of(run) is None and compare_view.siblings(run, [run]) == ""
    run.folder.joinpath("events.jsonl").write_text('{"type": "created", "run": "x", "time": 1, "group": "odd"}\n')
    assert group_of(run) is None
    run.folder.joinpath("events.jsonl").unlink()
    assert group_of(run) is None


def test_limits_count_a_whole_group_before_any_of_it_is_begun(home):
    data, runs = few_conversations(), Runs(home)
    configs = [one.config for one in members_of(RunConfig(), {"r": (8, 16, 32)})]
    for limits, words in ((Limits(runs_at_once=2), "These are 3 runs, and 2 of each visitor's may go or wait here"),
                          (Limits(runs_kept=2), "You have 0 runs, these are 3 more, and 2 are kept"),
                          (Limits(waiting=2), "0 runs are waiting already, 2 may, and these are 3 more"),
                          (Limits(free_mebibytes=10**9), "and 3 runs need 3,000,000,000 MB"),
                          (Limits(tokens_at_once=100), "may be computed at once here")):
        with pytest.raises(ValueError, match=words):
            limits.check_runs(configs, data, [], runs)
    Limits(runs_at_once=3, runs_kept=3, waiting=3).check_runs(configs, data, [], runs)


def studio_of(home, **more) -> Studio:
    facts = base_facts(EMBEDDED)
    return Studio(home, Machine("cpu", "CPU", 2, 24.0), facts, {}, Runs(home), Library(home), **more)


def test_one_start_queues_a_run_for_each_value_all_on_the_same_rows(home):
    studio = studio_of(home)
    config = RunConfig(name="mine", seed=3)
    _, begun = begin_group(visitor_of(studio, None), config, {"r": (8, 16), "seed": (1, 2)}, few_conversations(MANY))
    assert [run.id for run in studio.queue.waiting()] == [run.id for run in begun]
    assert [run.config.name for run in begun] == ["mine-8-1", "mine-8-2", "mine-16-1", "mine-16-2"]
    assert runs_of(group_of(begun[0]).id, begun[::-1]) == begun
    held = [run.conversations()[1] for run in begun]
    assert len(held[0]) == 12 and all(one == held[0] for one in held)


def test_a_name_that_is_taken_begins_no_run_of_the_group(home):
    Library(home).put("mine-16", SHIPPED_FOLDER / "pirate", {})
    with pytest.raises(ValueError, match="There is already an adapter named mine-16"):
        begin_group(visitor_of(studio_of(home), None), RunConfig(name="mine"), {"r": (8, 16)}, few_conversations())
    assert Runs(home).all() == []


def test_where_a_gpu_is_lent_or_one_may_go_at_a_time_no_group_is_begun(home):
    lent = studio_of(home, lend=lambda run_id, seconds: None)
    many = studio_of(home, many_visitors=True)
    for studio, words in ((lent, "The GPU is lent here for one run"), (many, "These are 2 runs, and 1 of each")):
        with pytest.raises(ValueError, match=words):
            begin_group(visitor_of(studio, None), RunConfig(), {"r": (8, 16)}, few_conversations())
    assert Runs(home).all() == []


# ---- As the page and a terminal show it -----------------------------------------------------------------------------


def test_the_drawing_tells_runs_apart_by_letter_and_dashes(home):
    whole = side_by_side(finished(home, "one"), finished(home, "other", above=1))
    drawn = compare_view.chart(whole)
    assert drawn.count('class="series-0 held"') == 2 and drawn.count('class="series-1 training"') == 1
    assert "<b>A</b>" in drawn and "B, conversations it never saw" in drawn
    assert compare_view.loss_table(whole).count("<th scope=\"col\">") == 5


def test_the_winner_is_marked_in_words_in_its_cell_and_links_lead_to_the_runs(home):
    best = finished(home, "best")
    shown = compare_view.tables(side_by_side(finished(home, "other", above=1), best))
    assert '<td class="best">2.8000 → 0.3892 (lowest)</td>' in shown and f'href="?run={best.id}"' in shown


def test_a_terminal_prints_both_tables_and_the_winner(home):
    lines = list(told(side_by_side(finished(home, "low", learning_rate=1e-4), finished(home, "high", above=1,
                                                                                    learning_rate=3e-4))))
    assert lines[0].split() == ["What", "differs", "A", "low", "B", "high"]
    assert lines[1].split() == ["learning_rate", "0.0001", "0.0003"]
    assert "low has the lowest loss on the same 12 held-out conversations" in lines[-1]


def test_a_group_is_shown_by_what_its_runs_try(home):
    runs = [StagedRun(home, group=Group("g", place, 2, {"learning_rate": rate}), name=f"g-{rate}").run
            for place, rate in enumerate((1e-4, 3e-4), 1)]
    shown = compare_view.siblings(runs[1], runs)
    assert "One of 2 runs that try <b>Learning rate</b>" in shown and "0.0003 (this one)" in shown
    assert f'<a href="?run={runs[0].id}">0.0001</a>' in shown
    assert [label for label, _ in compare_view.choices(runs)] == ["g-0.0001 (waiting)", "g-0.0003 (waiting)"]


def test_a_form_is_read_and_left_without_what_is_tried():
    form = {"r": 8, **dict(zip(several.NAMES, ("learning_rate", "", "1e-4, 3e-4", ""), strict=True))}
    assert several.taken(form) == {"learning_rate": (1e-4, 3e-4)} and form == {"r": 8}
    assert several.taken({"r": 8}) == {}
    for said, words in ((("", "", "1, 2", ""), "no setting that they are for"),
                        (("r", "r", "1, 2", "3, 4"), "chosen twice")):
        with pytest.raises(ValueError, match=words):
            several.taken(dict(zip(several.NAMES, said, strict=True)))


def test_a_page_that_knows_how_runs_stand_is_sent_nothing(home):
    import gradio as gr

    with gr.Blocks():
        part = compare.build()
    runs = [finished(home, "a"), finished(home, "b", above=1)]
    first = compare._shown(part, runs, Yardsticks())
    assert "a has the lowest loss" in first[part.standing] and first[part.picked] == [run.id for run in runs]
    assert compare._shown(part, runs, Yardsticks(), first[part.seen]) == {part.seen: first[part.seen]}
    assert compare.theme.COMPARE_WAITING in compare._shown(part, runs[:1], Yardsticks())[part.standing]
