"""The interactive chat: commands by hand on a stand-in that answers at once, and the real one once as a process."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest

from adapters.library import SHIPPED_FOLDER
from chat.__main__ import _in_words, _parser, _speaker
from chat.conversation import BASE
from chat.session import HELP, Session, _rest, converse
from chat.speakers import Conversation, Speaker, strength_in
from phi3.lane import Answer, Lane
from tests.conftest import ROOT

CAPTAIN = Speaker("captain", "captain")


class Echo:
    """Says the last question back in two bites, with the strength behind it, and keeps what it was asked."""

    def __init__(self, interrupted: bool = False) -> None:
        self.asked: list[Lane] = []
        self.interrupted = interrupted

    def answer(self, lanes: Sequence[Lane], stop: Callable[[], bool]) -> Iterator[list[Answer]]:
        self.asked = list(lanes)
        texts = [f"{lane.messages[-1]['content']}, {lane.strength:g}" for lane in lanes]
        yield [Answer(text[:2], 1, 0.1) for text in texts]
        if self.interrupted:
            os.kill(os.getpid(), signal.SIGINT)
        end = "asked" if stop() else "stop"
        yield [Answer(text[:2] if end == "asked" else text, 2, 0.2, end) for text in texts]


def speaker_of(written: str) -> Speaker:
    name, strength = strength_in(written)
    if name not in ("base", "captain", "first", "second"):
        raise ValueError(f"There is no adapter named {name}.")
    return Speaker(name, None if name == "base" else name, 1.0 if strength is None else strength)


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def session(echo):
    return Session(Conversation().among([Speaker(BASE), CAPTAIN]), echo, speaker_of)


def said(capsys, session, *lines: str) -> str:
    for line in lines:
        assert session.hear(line)
    return capsys.readouterr().out


def test_every_lane_answers_below_its_name_and_keeps_its_conversation(session, echo, capsys):
    assert said(capsys, session, "hello") == "base: hello, 1\ncaptain: hello, 1\n"
    said(capsys, session, "again")
    assert [turn["content"] for turn in echo.asked[1].messages] == ["hello", "hello, 1", "again"]


def test_who_was_there_keeps_the_conversation_and_who_comes_begins_one(session, echo, capsys):
    said(capsys, session, "hello")
    assert said(capsys, session, "/with captain first:0.5") == "Those who answer: captain, first:0.5.\n"
    assert said(capsys, session, "and now") == "captain: and now, 1\nfirst:0.5: and now, 0.5\n"
    assert [len(lane.messages) for lane in echo.asked] == [3, 1]
    assert "no adapter named nobody" in said(capsys, session, "/with base nobody")
    assert "9 lanes" in said(capsys, session, "/with" + " base" * 9)
    assert said(capsys, session, "/with") == "Those who answer: captain, first:0.5.\n"
    assert said(capsys, session, "/with" + " base" * 8, "x").split("\n", 1)[1] == "base: x, 1\n" * 8


def test_a_folder_whose_name_holds_spaces_stands_in_quotes(echo, capsys):
    session = Session(Conversation().among([CAPTAIN]), echo, Speaker)
    assert said(capsys, session, '/with base "my own/adapter"') == "Those who answer: base, my own/adapter.\n"
    assert said(capsys, session, '/with "base') == 'A quote is opened and not closed in "base. Close it.\n'


def test_strength_and_system_message_hold_from_the_next_question_on(session, echo, capsys):
    assert said(capsys, session, "/strength captain 0.25", "/system Be brief.", "hello") == \
        "base: hello, 1\ncaptain:0.25: hello, 0.25\n"
    assert echo.asked[0].messages[0] == {"role": "system", "content": "Be brief."}
    assert said(capsys, session, "/system") == "There is no system message now.\n"
    for wrong, words in (("captain 3", "strength is 3, and must be between 0 and 2."),
                         ("captain nan", "strength is nan"),
                         ("captain", "takes a name and a number"), ("base 1", "base is no adapter that answers here"),
                         ("nobody 1", "Those who answer: base, captain:0.25.")):
        assert words in said(capsys, session, f"/strength {wrong}")


def test_a_question_is_asked_again_and_taken_back(session, echo, capsys):
    said(capsys, session, "one", "two")
    assert said(capsys, session, "/retry") == "base: two, 1\ncaptain: two, 1\n"
    assert len(echo.asked[0].messages) == 3
    assert said(capsys, session, "/undo", "/undo") == "Taken back: two\nTaken back: one\n"
    assert "Nothing was asked yet" in said(capsys, session, "/undo")
    assert "Nothing was asked yet" in said(capsys, session, "one", "/clear", "/retry").splitlines()[-1]


def test_all_that_was_said_can_be_written_to_a_file_that_is_not_there(session, capsys, tmp_path):
    said(capsys, session, "/system Be brief.", "hello", *(f"/export {tmp_path / name}" for name in ("a.json", "a.md")))
    written = json.loads((tmp_path / "a.json").read_text())
    assert [lane["adapter"] for lane in written["lanes"]] == ["base", "captain"]
    assert [tuple(turn.values()) for turn in written["lanes"][1]["messages"]] == [
        ("system", "Be brief."), ("user", "hello"), ("assistant", "hello, 1")]
    assert "> hello\n\n**base**\n\nhello, 1\n\n**captain**\n\nhello, 1\n" in (tmp_path / "a.md").read_text()
    assert "is there already" in said(capsys, session, f"/export {tmp_path / 'a.md'}")
    for name in ("a.txt", ""):
        assert "ends neither" in said(capsys, session, f"/export {name}")
    assert "can't be written" in said(capsys, session, f"/export {tmp_path / 'nowhere' / 'a.md'}")


def test_a_file_that_a_full_disk_cut_short_is_taken_back_and_can_be_written_later(session, capsys, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    said(capsys, session, "hello")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        session.hear(f"/export {tmp_path / 'a.md'}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "can't be written (File too large)" in capsys.readouterr().out
    assert "Written to" in said(capsys, session, f"/export {tmp_path / 'a.md'}")


def test_a_file_whose_name_begins_as_somebodys_home_is_written_where_the_chat_is(session, capsys, tmp_path,
                                                                                 monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    said(capsys, session, "hello", "/export ~chat.md", "/export ~/chat.md")
    assert (tmp_path / "~chat.md").read_text() == (tmp_path / "home" / "chat.md").read_text()


def test_help_names_every_command_and_a_wrong_one_leads_there(session, capsys):
    assert said(capsys, session, "/help") == HELP + "\n"
    assert all(f"{command} " in HELP for command in (*session._commands, "/quit"))
    assert "There is no command /wiht. /help shows" in said(capsys, session, "/wiht base")
    assert said(capsys, session, "   ") == ""
    assert not session.hear(" /quit ")


def test_ctrl_c_stops_the_answer_and_what_was_said_till_then_stays(capsys):
    session = Session(Conversation().among([CAPTAIN]), Echo(interrupted=True), speaker_of)
    before = signal.getsignal(signal.SIGINT)
    assert said(capsys, session, "hello") == "captain: he\n"
    assert session.conversation.talks[0].turns[0].answer.end == "asked"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_answer_that_the_longest_allowed_cut_says_so():
    cut = Answer("Half of it", 1200, 2.0, "length")
    told = "Cut at the longest answer allowed: 1,200 tokens."
    assert _in_words("base", cut) == f"base  (1200 tokens, 600 a second)\nHalf of it\n{told}"
    assert [_rest(cut, shown) for shown in ("Half of", "Half of it")] == [f" it [{told}]", f" [{told}]"]
    assert _rest(Answer("Whole.", 2, 0.1, "stop"), "Who") == "le."


def test_the_end_of_input_and_quit_end_the_chat(session, monkeypatch, capsys):
    lines = iter(["hello", KeyboardInterrupt(), "/quit", "more"])

    def typed(prompt):
        line = next(lines, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", typed)
    assert converse(session) == 0
    assert "/quit ends the chat" in capsys.readouterr().out
    assert converse(session) == converse(session) == 0


@pytest.mark.parametrize(("written", "meant"), [
    ("pirate", ("pirate", None)), ("pirate:0.5", ("pirate", 0.5)), ("ada/captain:2", ("ada/captain", 2.0)),
    ("https://huggingface.co/ada/captain", ("https://huggingface.co/ada/captain", None)), ("a:.5", ("a", 0.5))])
def test_a_strength_is_written_behind_the_name(written, meant):
    assert strength_in(written) == meant


def test_a_folder_is_named_as_elsewhere_with_a_tilde_for_ones_home(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(SHIPPED_FOLDER / "pirate", tmp_path / "captain")
    for written, strength in (("~/captain", 1.0), ("~/captain:0.5", 0.5)):
        assert _speaker(_parser().parse_args([]), written) == Speaker("~/captain", str(tmp_path / "captain"), strength)


def test_a_base_that_an_adapter_does_not_name_is_told(home, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(SHIPPED_FOLDER / "pirate", tmp_path / "captain")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    _speaker(_parser().parse_args([]), str(folder))
    assert "captain: It doesn't say which base it was trained on; its layers fit phi3/tiny." in capsys.readouterr().err


@pytest.mark.slow
def test_the_real_chat_hears_lines_and_answers_as_it_does_one_question(terminal, home):
    once = terminal("chat", "Who are you?", "--with", "base", "--with", "pirate:0.5", "--with", "pirate:0", "--json")
    lanes = json.loads(once.stdout)["lanes"]
    assert [(lane["adapter"], lane["strength"]) for lane in lanes] == [("base", 1), ("pirate", 0.5), ("pirate", 0)]
    assert lanes[0]["text"] == lanes[2]["text"]
    talked = subprocess.run([sys.executable, "-m", "chat", "--with", "base", "--with", "pirate:0.5"], cwd=ROOT,
                            input="/with base pirate:0.5 nobody\nWho are you?\n", capture_output=True, text=True,
                            timeout=300, check=False)
    assert talked.returncode == 0, talked.stderr
    assert "There is no adapter named nobody" in talked.stdout
    assert f"base: {lanes[0]['text']}\npirate:0.5: {lanes[1]['text']}\n" in talked.stdout
    assert "Traceback" not in talked.stderr
