"""What the tabs say, without a browser: a run's picture, curves, datasets, and text made safe."""

import html
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.utils import deep_hash
from hypothesis import given
from hypothesis import strategies as some

from adapters.library import Library
from phi3.machine import Machine
from phi3.models import EMBEDDED, base_facts, load_tokenizer
from tabs import (
    code_view,
    curves,
    data_view,
    describe,
    describe_view,
    form,
    openings,
    plan_view,
    run_panel,
    run_view,
    text,
    theme,
    train,
)
from tabs.data_rows import Looked, Place, place_in, to_others, to_row
from tabs.lengths import Lengths
from tabs.page import build as build_page
from tabs.plainly import plainly
from tabs.progress import progress_of
from tabs.stopping import Stops
from tabs.studio import Studio
from tabs.visitor import visitor_of
from tests.staged import PIRATE_ANSWERS, PROMPTS, StagedRun, few_conversations
from training.compare import result_of
from training.config import RunConfig
from training.data import DroppedRow
from training.describe import Corrections, Described, Row
from training.plan import make_plan
from training.presets import USUAL_PRESET, preset_of
from training.runs import Beginning, Runs
from training.script import script_of

CPU = Machine("cpu", "CPU", 2, 24.0)
TINY = {"num_hidden_layers": 6, "hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 6,
        "intermediate_size": 512, "vocab_size": 2000}


@pytest.fixture
def staged(home):
    return StagedRun(home)


def seen(staged: StagedRun, state: str = ""):
    return progress_of(staged.run, staged.run.events(), state or staged.run.state())


# ---- A run ----------------------------------------------------------------------------------------------------------


def test_a_run_that_has_not_begun_says_that_the_base_is_loading(staged):
    picture = seen(staged)
    assert picture.state == "preparing"
    assert "Loading the base" in run_view.bar(picture)
    assert theme.SAYS_WAITING in run_view.said(picture)


def test_a_run_that_goes_on_says_how_far_it_is_and_what_the_model_says(staged):
    with staged.held():
        staged.begin()
        staged.train(1, 40)
        picture = seen(staged, "running")
    assert run_view.standing(picture) == "Step 40 of 60, about 6 s left"
    assert PIRATE_ANSWERS[0].split("'")[0] in run_view.said(picture)
    assert run_view.announcement(picture) == "sums-1 is training, 50 % done."
    assert [step for step, _ in picture.held_out] == [0, 20, 40]
    at_its_end = replace(picture, step=60)
    assert run_view.standing(at_its_end) == "Step 60 of 60; what was learned is measured and kept, about 6 s left"


def test_a_run_whose_loss_is_seldom_logged_is_as_far_as_the_newest_thing_that_it_said(staged):
    staged.begin()
    staged.train(1, 1)
    staged.run.append("sampled", 20, prompts=PROMPTS, answers=PIRATE_ANSWERS)
    assert run_view.standing(seen(staged, "running")).startswith("Step 20 of 60")
    staged.end("stopped", step=33)
    assert "was stopped after step 33" in run_view.outcome(seen(staged))
    staged.run.append("resumed", 30, checkpoint="step-30", steps=60, device="cpu", trainable_parameters=1)
    assert run_view.standing(seen(staged, "running")).startswith("Step 30 of 60")
    staged.end("finished")
    assert run_view.standing(seen(staged)).startswith("Step 60 of 60")


def test_a_run_that_waits_for_a_gpu_says_why_and_what_to_do(staged):
    staged.begin()
    staged.train(1, 20)
    staged.run.append("lease_ended", 20, reason="time")
    assert theme.GOES_ON in run_view.outcome(seen(staged))
    staged.run.append("lease_ended", 20, reason="quota", message="Your GPU time is used up.",
                      advice="Come back in 3:22:11.", again_in="3:22:11")
    assert "after step 20. Your GPU time is used up. Come back in 3:22:11." in run_view.outcome(seen(staged))


def test_a_run_is_stopped_between_two_turns_that_the_page_takes_of_a_gpu(staged, home):
    studio = Studio(home, CPU, base_facts(EMBEDDED), {}, Runs(home), Library(home))
    staged.begin()
    staged.run.append("lease_ended", 20, reason="time")
    with pytest.raises(ValueError, match="is not being trained: it is paused"):
        openings.stop(studio, staged.run, "")  # whoever took turns has left
    openings.stop(studio, staged.run, "taken")
    assert staged.run.is_asked_to_stop() and staged.run.state() == "paused"
    staged.run.append("lease_ended", 20, reason="quota", message="", advice="", again_in="")
    with pytest.raises(ValueError, match="is not being trained: it is paused"):
        openings.stop(studio, staged.run, "taken")


def test_what_the_browser_keeps_outlives_a_restart_after_a_start_on_a_full_disk(home):
    home.mkdir()
    (home / "browser_secret").touch(mode=0o600)
    studio = Studio(home, CPU, base_facts(EMBEDDED), {}, Runs(home), Library(home))
    assert studio.browser_secret() and studio.browser_secret() == replace(studio).browser_secret()
    assert (home / "browser_secret").stat().st_mode & 0o777 == 0o600


def test_a_page_opens_with_the_run_that_is_trained_and_not_with_a_newer_one_that_waits(staged, home):
    studio = Studio(home, CPU, base_facts(EMBEDDED), {}, Runs(home), Library(home))
    visitor = visitor_of(studio, SimpleNamespace(headers={}, request=SimpleNamespace(scope={})))
    later = replace(staged.run.config, name="sums-2")
    waiting = Runs(home).create(later, few_conversations(), beginning=Beginning("in turn"))
    assert waiting.state() == "queued"
    assert visitor.going().id == staged.run.id
    staged.begin()
    staged.end("finished")
    assert visitor.going().id == waiting.id


def test_a_run_that_is_begun_before_the_page_has_read_its_data_is_set_up_for_it(home):
    """Long data takes a while to read: what the form holds by then follows from the data before it."""
    facts = base_facts(EMBEDDED)
    # Lent, the run waits for its first turn, and nothing is trained.
    studio = Studio(home, CPU, facts, {}, Runs(home), Library(home), lend=lambda *asked: None)
    studio.tokenizer.set_result(load_tokenizer(facts))
    start = next(one for one in build_page(studio).fns.values() if one.name == "start")
    values = {name: part.value for name, part in zip(start.input_keyword_names, start.inputs, strict=True)}
    rows = "\n".join(f'{{"prompt": "Ask {one}", "completion": "Yes"}}' for one in range(12))
    before = {**values, "source": theme.OWN_DATA, "text": rows, "seed": 7, "lengths": Lengths([49] * 300)}
    start.fn(request=SimpleNamespace(headers={}, request=SimpleNamespace(scope={})), **before)
    config = Runs(home).all()[0].config
    suited = preset_of(USUAL_PRESET, form.task_of(studio, Lengths([7] * 12)), {"seed": 7}).values
    assert values["num_train_epochs"] != suited["num_train_epochs"] == config.num_train_epochs
    assert config.seed == 7


def test_an_adapter_to_start_from_is_looked_at_before_start(home):
    visitor = visitor_of(Studio(home, CPU, base_facts(EMBEDDED), {}, Runs(home), Library(home)), None)

    def going_on(name):
        return train._going_on(visitor, RunConfig.from_settings({"start_from": name, "r": 2}))

    assert going_on("").r == 2 and going_on("pirate").r != 2
    assert going_on("ada/pirate").r == 2, "nobody asks the Hub at each change of the form"
    for wrong, said in (("pirat", "There is no adapter named pirat. Adapters here:"), ("ada/pi/rate", "ada/pi/rate")):
        with pytest.raises(ValueError, match=said):
            going_on(wrong)


def test_a_run_that_is_shown_to_others_offers_to_be_taken_back(staged):
    with gr.Blocks():
        panel = run_panel.build()
    staged.begin()
    assert panel.show(staged.run, run_panel.Standing())[panel.share] == theme.SHARE_RUN
    key = staged.run.share()
    changes = panel.show(staged.run, run_panel.Standing())
    assert changes[panel.share] == theme.UNSHARE_RUN != theme.SHARE_RUN
    assert key in changes[panel.link]


def test_turns_of_a_gpu_are_shown_as_one_run_by_the_page_that_takes_them(staged):
    with gr.Blocks():
        panel = run_panel.build()
    staged.begin()
    staged.run.append("lease_ended", 5, reason="time")
    assert panel.show(staged.run, run_panel.Standing(), turn="now")[panel.seen].split()[0] == "preparing"
    assert panel.show(staged.run, run_panel.Standing())[panel.seen].split()[0] == "paused"
    staged.run.append("lease_ended", 5, reason="quota")
    assert panel.show(staged.run, run_panel.Standing(), turn="now")[panel.seen].split()[0] == "paused"


def test_before_the_first_change_the_base_stands_alone(staged):
    staged.begin()
    shown = run_view.said(seen(staged, "running"))
    assert "The first words come soon" in shown
    assert shown.count("<article") == len(PROMPTS)


def test_a_run_that_ended_before_the_model_was_asked_again_promises_no_words(staged):
    staged.begin()
    staged.train(1, 5)
    staged.fail()
    shown = run_view.said(seen(staged))
    assert "soon" not in shown and theme.NEVER_ASKED in shown


def test_a_run_that_ended_before_its_first_step_promises_no_numbers(staged):
    assert theme.LOSS_WAITING in run_view.losses(seen(staged)) and theme.LOSS_WAITING in run_view.speed(seen(staged))
    staged.fail()
    assert theme.NO_LOSS in run_view.losses(seen(staged)) and theme.NO_LOSS in run_view.speed(seen(staged))


def test_what_the_answers_are_judged_by_is_explained_where_it_is_named(staged):
    staged.begin()
    staged.run.append("finished", 60, adapter="sums-1", loss_before=0.5, loss=0.4, seconds=3, steps=60, folder="x",
                      verdict="Better than the base: chrF 71.6 against 49.9.")
    assert theme.CHRF in run_view.outcome(seen(staged))
    few = replace(seen(staged), ending={**seen(staged).ending, "verdict": "2 conversations are too few."})
    assert theme.CHRF not in run_view.outcome(few)


def test_a_finished_run_says_what_it_gained_and_where_it_is(staged):
    staged.begin()
    staged.train(1, 60)
    staged.end("finished")
    picture = seen(staged)
    assert "fell from 2.80 to 0.39" in run_view.outcome(picture)
    assert "adapters/sums-1" in run_view.kept(picture, "studio_home")
    assert picture.over


def test_a_run_that_learned_nothing_says_so(staged):
    staged.begin()
    staged.run.append("finished", 60, adapter="sums-1", loss_before=0.5, loss=0.6, seconds=3, steps=60, folder="x")
    picture = seen(staged)
    assert "no better than the base" in run_view.outcome(picture)
    assert "no better than before" in run_view.outcome(replace(picture, continued=True))
    taught = run_view.outcome(replace(picture, continued=True, is_lesson=True))
    assert "its loss was 0.50 and is 0.60 now" in taught and "may help" not in taught


def test_what_an_adapter_said_before_it_was_trained_further_is_not_called_the_bases(staged):
    staged.begin()
    staged.train(1, 6)
    picture = seen(staged)
    assert "The base said" in run_view.said(picture)
    shown = run_view.said(replace(picture, continued=True))
    assert "It said before" in shown and "The base said" not in shown


def test_a_stopped_run_keeps_what_it_learned(staged):
    staged.begin()
    staged.train(1, 6)
    staged.end("stopped", step=6)
    assert "stopped after step 6" in run_view.outcome(seen(staged))


def test_a_run_leads_on_by_one_button_at_a_time(staged):
    with gr.Blocks():
        panel = run_panel.build()
    staged.begin()
    staged.train(1, 6)
    assert panel.show(staged.run, run_panel.Standing())[panel.resume]["variant"] == "primary"
    staged.end("stopped", step=6)
    shown = panel.show(staged.run, run_panel.Standing())
    assert shown[panel.compare]["visible"] and shown[panel.resume]["variant"] == "secondary"


def test_a_failed_run_gives_its_reason_and_advice(staged):
    staged.fail()
    assert run_view.announcement(seen(staged)).startswith("sums-1: failed. The machine")
    assert run_view.outcome(seen(staged)) == "The machine ran out of memory. Use a smaller batch size."
    assert run_view.kept(seen(staged), "studio_home") == ""


def test_what_a_model_said_can_not_become_markup(staged):
    staged.run.append("started", steps=9, device="cpu", trainable_parameters=1, base="b", method="lora", pid=1)
    staged.run.append("sampled", 0, prompts=["<b>?"], answers=["<script>alert(1)</script>"])
    shown = run_view.said(seen(staged))
    assert "<script" not in shown and "<b>" not in shown


def test_every_run_is_listed_with_its_state(staged):
    staged.begin()
    listed = run_view.listed([staged.run])
    assert f"?run={staged.run.id}" in listed and "interrupted" in listed
    assert run_view.listed([]) == f'<p class="empty">{theme.NO_RUNS}</p>'


def test_the_list_of_runs_is_wanted_anew_only_where_one_stands_otherwise(staged, home):
    studio = Studio(home, CPU, base_facts(EMBEDDED), {}, Runs(home), Library(home))
    visitor = visitor_of(studio, None)
    with gr.Blocks():
        runs = openings.Openings(gr.Column(), run_panel.build(), gr.HTML(), gr.Textbox(), gr.Textbox(),
                                 gr.BrowserState(), gr.Textbox(), studio)

    def listed_and_looked():
        listed = runs.list_of(visitor)[runs.listed]
        return listed, runs.look(visitor, listed)[runs.unlisted]

    with staged.held():
        staged.begin()
        listed, stays = listed_and_looked()
        staged.train(1, 20)
        assert stays == runs.look(visitor, listed)[runs.unlisted] == gr.skip(), "each step is not a new list"
    staged.end("finished")
    wanted = [runs.look(visitor, listed)[runs.unlisted] for _ in range(2)]
    assert gr.skip() not in wanted and wanted[0] != wanted[1], "what was wanted and never came is wanted again"
    listed, stays = listed_and_looked()
    assert stays == gr.skip()
    studio.runs.delete(staged.run)
    assert runs.look(visitor, listed)[runs.unlisted] != gr.skip()


# ---- Curves ---------------------------------------------------------------------------------------------------------


@given(some.floats(min_value=1e-6, max_value=1e6))
def test_marks_reach_the_highest_value_in_few_even_steps(highest):
    marks = curves.nice_marks(highest)
    assert marks[0] == 0 and marks[-1] >= highest * (1 - 1e-6)
    assert 2 <= len(marks) <= 6


@given(some.lists(some.tuples(some.integers(0, 5000), some.floats(allow_nan=True, allow_infinity=True)), max_size=30))
def test_any_values_can_be_drawn(points):
    line = curves.Curve("learned", "loss", points)
    drawn = curves.drawing([line], 100, "Loss") + curves.table([line])
    assert "Traceback" not in drawn and "nan" not in drawn.partition("</svg>")[0].partition("<svg")[2]


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    line = curves.Curve("learned", "loss", [(step, math.exp(-step / 1000)) for step in range(5000)])
    rows = curves.table([line])
    assert rows.count("<tr>") == curves.LISTED_ROWS + 1
    assert '<th scope="row">0</th>' in rows and '<th scope="row">4999</th>' in rows


def test_a_drawing_says_in_words_what_it_shows():
    line = curves.Curve("learned", "loss", [(1, 2.5), (9, 0.25)])
    assert "loss: 2.5 at step 1, 0.25 at step 9." in curves.drawing([line], 10, "Loss")
    fast = curves.Curve("learned", "tokens per second", [(1, 12686), (9, 20000)])
    assert "tokens per second: 12,686 at step 1, 20,000 at step 9." in curves.drawing([fast], 10, "Speed")
    assert "<td>12,686</td>" in curves.table([fast])


# ---- Data -----------------------------------------------------------------------------------------------------------


def test_learned_text_is_marked_and_control_tokens_are_set_apart():
    shown = data_view.conversation(3, [("<|user|>Hi<|end|>", False), ("Ahoy<|end|>", True)])
    assert '<mark class="trained">Ahoy<span class="control">&lt;|end|&gt;</span></mark>' in shown
    assert "Row 3" in shown
    assert "&lt;a&gt;.csv, row 3" in data_view.conversation(3, [], "<a>.csv")


def test_a_very_long_conversation_is_cut_on_the_page_and_says_so():
    assert "and 500 characters more" in data_view.conversation(1, [("x" * 2000, False)])


def test_rows_that_were_left_out_have_number_and_reason():
    shown = data_view.left_out([DroppedRow(7, "no answer by the assistant")], 1)
    assert ">7<" in shown and "no answer by the assistant" in shown


def test_a_place_belongs_to_its_data_and_outlives_what_is_changed_in_it():
    first, mended, other = Looked("a", "1"), Looked("a", "2"), Looked("b", "1")
    place = to_others(first, to_others(first, None))
    assert place == Place("a", turned=2) == place_in(mended, place)
    at_row = to_row(mended, place, 21)
    assert at_row == Place("a", 2, 21) and to_row(mended, place, None).row == 0
    assert to_others(mended, at_row) == Place("a", 3)
    assert place_in(other, at_row) == Place("b") and to_row(other, at_row, 4) == Place("b", 0, 4)
    assert to_others(None, at_row) == to_row(None, at_row, 4) == at_row, "a click that comes after the data has gone"


def test_lengths_are_hashed_once_however_often_the_page_asks(monkeypatch):
    lengths, others = Lengths([3, 1, 2]), Lengths([3, 2, 1])
    assert list(lengths) == [3, 1, 2] and len(lengths) == 3 and lengths[-1] == 2 and max(lengths) == 3
    assert lengths == Lengths((3, 1, 2)) != others and not Lengths(())
    assert deep_hash(lengths) == deep_hash(Lengths([3, 1, 2])) != deep_hash(others)
    assert lengths != Lengths([3, 1, 2], own_held=1) and deep_hash(lengths) != deep_hash(Lengths([3, 1, 2], 1))

    def read(self):
        raise AssertionError("the numbers were read to be hashed")

    monkeypatch.setattr(Lengths, "__iter__", read)
    deep_hash(lengths)


def test_few_conversations_are_data():
    assert len(few_conversations().conversations) == 24


# ---- Described answers ----------------------------------------------------------------------------------------------

ROWS = tuple(Row(f"{number}?", f"Arr, {number}!") for number in range(7))
DESCRIBED = Described("like a pirate", 12, tuple(f"{number}?" for number in range(12)), ROWS,
                      {"repeated": 2, "manner not followed": 3})


def on_the_page(**values):
    rows = {f"answer_{place}": None for place in range(5)} | {f"struck_{place}": False for place in range(5)}
    return {"gathered": DESCRIBED.as_json(), "corrected": None, "shown": None, **rows, **values}


def test_what_was_left_out_and_what_the_visitor_changed_is_counted():
    corrections = Corrections({"0?": "Ahoy!", "1?": " "}, frozenset({"2?"}))
    told = describe_view.gathered(DESCRIBED, corrections)
    assert "7 answers of 12" in told
    assert "5 left out: 3 didn't follow the description, 2 repeated." in told
    assert "By you: 1 edited, 1 struck out, 1 emptied" in told


@pytest.mark.parametrize(("kept", "words"), [(7, ""), (1, theme.HARDLY_FOLLOWED), (0, theme.NOBODY_FOLLOWED)])
def test_a_manner_that_is_hardly_followed_is_said(kept, words):
    told = describe_view.gathered(replace(DESCRIBED, rows=ROWS[:kept]), Corrections())
    assert words in told and ("warning" in told) == bool(words)


def test_rows_on_the_page_are_newer_than_what_is_kept():
    values = on_the_page(shown=["5?", "6?"], answer_0="Ahoy!", answer_1="Arr, 6!", struck_1=True,
                         corrected={"edited": {"5?": "Old"}, "struck": ["0?"]})
    _, now = describe.corrections(values)
    assert now == Corrections({"5?": "Ahoy!"}, frozenset({"0?", "6?"}))
    assert [row.question for row in describe.chosen(values).rows] == ["1?", "2?", "3?", "4?", "5?"]


def test_nothing_written_and_everything_struck_out_are_said():
    with pytest.raises(ValueError, match="When the answers are written"):
        describe.chosen(on_the_page(gathered=None))
    with pytest.raises(ValueError, match="Every answer is struck out"):
        describe.chosen(on_the_page(corrected={"edited": {}, "struck": [row.question for row in ROWS]}))


# ---- Text -----------------------------------------------------------------------------------------------------------


def test_markdown_keeps_lists_and_code_and_nothing_that_reaches_out():
    shown = text.as_markdown("- a\n- `b`\n\n![x](http://example.org/x.png) <img src=x> [go](http://example.org)")
    assert "<li>a</li>" in shown and "<code>b</code>" in shown
    assert "<img" not in shown and "<a " not in shown


@pytest.mark.parametrize("formula", [r"\( a_{1} \, b_{2} \)", r"\[ \{ x \} \\ y \]", r"$$\int_0^1 x^2\,dx < 1$$"])
def test_a_formula_stays_as_the_model_wrote_it(formula):
    assert f"<p>So {text.escaped(formula)} is <em>it</em> *.</p>" in text.as_markdown(rf"So {formula} is *it* \*.")


@given(some.text())
def test_any_text_is_safe_inside_an_attribute(anything):
    assert not set('<>"') & set(text.escaped(anything))


@pytest.mark.parametrize(("seconds", "words"), [(-1, "0 s"), (8.4, "8 s"), (100, "2 min"), (7500, "2 h 5 min")])
def test_durations_are_read_as_people_say_them(seconds, words):
    assert text.duration(seconds) == words


# ---- Whatever goes wrong --------------------------------------------------------------------------------------------


def test_a_value_error_reaches_the_visitor_in_its_own_words():
    def refuse() -> None:
        raise ValueError("r is 0, and must be between 1 and 512.")

    with pytest.raises(gr.Error, match="r is 0, and must be between"):
        plainly(refuse)()


@pytest.mark.parametrize("text", ["Use <bot> or </s>, not <!-- it.", "1 < 2 & 3 > 2", "&lt;b&gt; &#60; AT&T;", "<?"])
def test_a_notice_that_is_read_as_html_shows_what_it_says(text):
    def refuse() -> None:
        raise ValueError(text)

    with pytest.raises(gr.Error) as raised:
        plainly(refuse)()
    shown: list[str] = []
    reader = HTMLParser()
    reader.handle_data = shown.append
    reader.feed(raised.value.message)
    reader.close()
    assert "".join(shown).replace("\u2060", "") == text


def test_anything_else_reaches_the_visitor_as_a_number_of_the_log(caplog):
    def stream():
        yield 1
        raise KeyError("/a/secret/path")

    with pytest.raises(gr.Error) as raised:
        list(plainly(stream)())
    assert "secret" not in raised.value.message
    number = raised.value.message.rstrip(".").split()[-1]
    assert number in caplog.text and "secret" in caplog.text


def test_a_full_disk_reaches_the_visitor_as_such():
    def keep():
        raise OSError(28, "No space left on device", "/a/secret/path")

    with pytest.raises(gr.Error) as raised:
        plainly(keep)()
    assert "disk of the machine that this app runs on is full" in raised.value.message


def test_a_stop_reaches_the_answers_of_its_own_tab_only():
    stops = Stops()
    stops.begin("one")
    stops.begin("two")
    first = stops.of("one")
    stops.ask("one")
    assert first.is_set() and not stops.of("two").is_set()
    stops.begin("one")
    assert not stops.of("one").is_set()
    stops.forget("two")


def test_answers_are_given_once_and_are_late_where_nobody_begins():
    stops = Stops()
    assert not stops.of("tab").goes_on and not stops.of("tab").begins()
    asked = stops.begin("tab", waiting=("a lane",))
    assert asked.goes_on and asked.is_late(0) and not asked.is_late(60)
    with asked.prepared():
        assert not asked.is_late(0), "what is fetched meanwhile takes its time"
    assert asked.begins() and not asked.begins(), "two events may ask, one answers"
    assert asked.goes_on and not asked.is_late(0)
    asked.ends()
    assert not asked.goes_on and asked.newest == ("a lane",)
    assert stops.begin("tab", waiting=("another",)).goes_on and asked.is_set()


@pytest.mark.parametrize("state_of", [
    lambda run: run_panel._Moment.of(run, run_panel.Standing(), "").state, lambda run: result_of(run).state],
    ids=["page", "comparison"])
def test_a_run_that_ends_while_its_events_are_read_still_goes_on_for_whoever_looks(staged, monkeypatch, state_of):
    """Nobody looks again at one that has ended, and how it did would never be seen."""
    staged.begin()
    staged.train(1, 20)
    read = type(staged.run).events

    def events(self):
        found = read(self)
        if found[-1].type != "finished":
            staged.end("finished")
        return found

    monkeypatch.setattr(type(staged.run), "is_held", lambda self: True)
    monkeypatch.setattr(type(staged.run), "events", events)
    assert [state_of(staged.run) for _ in range(2)] == ["running", "finished"]


def test_a_run_is_drawn_anew_only_where_something_is_new(staged):
    with gr.Blocks():
        panel = run_panel.build()
    staged.begin()
    staged.train(1, 20)
    standing = run_panel.Standing()
    shown = panel.show(staged.run, standing)
    assert set(panel.outputs()) >= set(shown)
    seen, drawn = shown[panel.seen], shown[panel.drawn]
    assert panel.follow(staged.run, standing, seen, drawn) == {panel.drawn: drawn}
    staged.train(21, 22)
    followed = panel.follow(staged.run, standing, seen, drawn)
    assert set(followed) <= set(panel.followed()) and followed[panel.drawn] != drawn
    assert "Step 22" in followed[panel.bar] and panel.wanted not in followed
    staged.end("finished")
    wanted = [panel.follow(staged.run, standing, seen, drawn) for _ in range(2)]
    assert all(set(one) == {panel.wanted} for one in wanted)
    assert wanted[0] != wanted[1], "what was wanted and never came is wanted again"


# ---- Code -----------------------------------------------------------------------------------------------------------


def test_a_script_is_coloured_and_its_text_unchanged():
    code = script_of(RunConfig(), "training/examples/pirate.jsonl")
    shown = code_view.coloured(code)
    assert '<span class="keyword">import</span> torch' in shown
    assert html.unescape(re.sub(r"</?span[^>]*>", "", shown)) == code


# ---- The plan -------------------------------------------------------------------------------------------------------


def planned(**settings):
    return make_plan(RunConfig(**settings), TINY, [100] * 80, [100] * 8, CPU)


def test_a_plan_is_a_line_with_its_numbers_behind_it():
    text = plan_view.planned(planned())
    assert "30 steps" in text and theme.PLAN_GUESSED in text and "GB of memory" in text
    assert text.count("<table") == len(theme.PLAN_TABLES) and theme.PLAN_MEMORY["activations"] in text
    assert "warning" not in text


def test_a_plan_that_does_not_fit_says_by_how_much_and_what_takes_less():
    huge = make_plan(RunConfig(), {**TINY, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80},
                     [1000] * 80, [], CPU)
    assert "This needs about" in plan_view.planned(huge) and "QLoRA" in plan_view.planned(huge)


def test_a_plan_that_needs_the_whole_card_says_what_that_costs():
    shared = replace(CPU, kind="cuda", card_memory=2.0, card_taken=1.5)
    alone = make_plan(RunConfig(), TINY, [100] * 80, [], shared)
    assert alone.fits and theme.PLAN_ALONE in plan_view.planned(alone)
    beside = make_plan(RunConfig(), TINY, [100] * 80, [], replace(shared, card_taken=0.5))
    assert theme.PLAN_ALONE not in plan_view.planned(beside)


def test_what_was_changed_to_make_it_fit_is_said_by_label():
    said = plan_view.changed(RunConfig(), {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4})
    assert said == "Now it fits. Batch size: 8 → 2; Gradient accumulation: 1 → 4."


def test_without_rows_there_is_no_plan():
    assert plan_view.planned(None) == ""


def test_a_run_tells_its_settings_its_data_and_what_became_of_the_plan(staged):
    staged.begin()
    staged.run.append("finished", 60, adapter="sums-1", seconds=12.0, planned_seconds=90.0, loss_before=None, loss=None,
                      planned_peak_bytes=2 * 1024**3, peak_bytes=1024**3)
    (staged.run.folder / "log.txt").write_text("a <warning> of torch", encoding="utf-8")
    shown = run_view.about(staged.run, seen(staged), staged.run.log())
    for words in ("Learning rate", "<td dir=\"auto\">sums</td>", "2 min", "12 s", "2.00 GB", "1.00 GB",
                  "a &lt;warning&gt; of torch"):
        assert words in shown, words
    assert "Left out" in shown and "Row" in shown
