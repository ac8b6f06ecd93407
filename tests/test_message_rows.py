"""Tables with one message a row: the messages of each conversation are put together, or a sentence says why not."""

import json

import pytest

from training.data import UnknownColumns, read_data, read_text

OASST = [{"message_id": "a", "parent_id": None, "text": "Hi", "role": "prompter", "rank": None, "deleted": False},
         {"message_id": "b", "parent_id": "a", "text": "No.", "role": "assistant", "rank": 1, "deleted": False},
         {"message_id": "c", "parent_id": "a", "text": "Ho", "role": "assistant", "rank": 0, "deleted": False},
         {"message_id": "d", "parent_id": "a", "text": "!", "role": "assistant", "rank": -1, "deleted": True},
         {"message_id": "e", "parent_id": "c", "text": "And?", "role": "prompter", "rank": None, "deleted": False},
         {"message_id": "f", "parent_id": "e", "text": "So.", "role": "assistant", "rank": None, "deleted": False},
         {"message_id": "g", "parent_id": None, "text": "You?", "role": "prompter", "rank": None, "deleted": False},
         {"message_id": "h", "parent_id": "g", "text": "Me.", "role": "assistant", "rank": 0, "deleted": False}]


def said(data):
    return [tuple(turn["content"] for turn in one.messages) for one in data.conversations]


@pytest.mark.parametrize("table", [
    "conversation_id,turn,role,content\n1,1,user,Hi\n1,2,assistant,Ho\n2,1,user,You?\n2,2,assistant,Me.\n",
    "Role,turn,Dialogue ID,content\nassistant,10,1,Ho\nuser,9,1,Hi\nassistant,1,2,Me.\nuser,0,2,You?\n",
    "session,speaker,message\n1,customer,Hi\n2,customer,You?\n1,agent,Ho\n2,agent,Me.\n",
    "chat_id,text,is_bot,time\n7,Ho,True,2026-05-01T10:00:02Z\n7,Hi,False,2026-05-01 10:00:01\n"
    "8,You?,False,2026-05-02\n8,Me.,True,2026-05-03\n",
    "message_id,parent_id,text,Role\n1,,Hi,prompter\n2,1.0,Ho,assistant\n3,,You?,prompter\n4,3.0,Me.,assistant\n",
    "tweet_id,inbound,text,in_response_to_tweet_id\n2,False,Ho,1\n1,True,Hi,\n3,True,You?,\n4,False,Me.,3\n",
    "ticket_id,author_role,body\n1,end-user,Hi\n1,support agent,Ho\n2,end-user,You?\n2,support agent,Me.\n",
    "conversation_id,author_type,body\n1,lead,Hi\n1,admin,Ho\n2,visitor,You?\n2,bot,Me.\n",
    "call_id,speaker,transcript\n1,caller,Hi\n1,agent,Ho\n2,caller,You?\n2,agent,Me.\n",
    "trace_id,type,content\n1,human,Hi\n1,ai,Ho\n2,human,You?\n2,ai,Me.\n",
    "id,turn,from,value\n1,1,human,Hi\n1,1,gpt,Ho\n2,1,human,You?\n2,1,gpt,Me.\n"])
def test_messages_of_one_conversation_are_put_together_in_their_order(table):
    data = read_text(table)
    assert said(data) == [("Hi", "Ho"), ("You?", "Me.")] and data.rows_read == 2
    assert any("has one message a row: 4 were put together to 2 conversations by " in note for note in data.notes)


def test_messages_in_a_row_of_one_side_are_joined_and_that_is_told():
    data = read_text("thread_id,author,text\n1,user,Hi\n1,user,you\n1,assistant,Ho\n1,assistant,me\n")
    assert said(data) == [("Hi\n\nyou", "Ho\n\nme")]
    assert "in the order of the rows" in data.notes[0] and "turns of one role in a row were joined" in data.notes[1]


def test_of_a_tree_the_best_ranked_branch_is_taken_and_that_is_told(tmp_path):
    path = tmp_path / "oasst.jsonl"
    path.write_text("\n".join(map(json.dumps, OASST)))
    data = read_data(path)
    assert said(data) == [("Hi", "Ho", "And?", "So."), ("You?", "Me.")]
    assert [one.row for one in data.conversations] == [1, 7]
    assert "the best ranked was taken, and 2 were left out" in data.notes[0]


def test_conversations_are_found_where_their_beginnings_come_first_and_a_row_above_is_none():
    asked = [{"conversation_id": place, "turn": 1, "role": "user", "content": f"Q{place}"} for place in range(300)]
    told = [{**row, "turn": 2, "role": "assistant", "content": f"A{row['conversation_id']}"} for row in asked]
    data = read_text("\n".join(map(json.dumps, [{"version": 1, "made": "2026"}, *asked, *told])))
    assert said(data) == [(f"Q{place}", f"A{place}") for place in range(300)] and len(data.dropped) == 1


def test_a_reply_here_and_there_does_not_tear_a_conversation():
    table = ("chat_id,id,reply_to,role,text\n1,1,,user,Hi\n1,2,1,assistant,Ho\n1,3,,user,And?\n1,4,,assistant,So.\n")
    assert said(read_text(table)) == [("Hi", "Ho", "And?", "So.")]


def test_what_stands_beside_a_message_is_kept_with_it():
    rows = [{"conversation_id": 1, "role": "user", "content": "Hi", "system_prompt": "Be brief.", "tool_calls": "[]"},
            {"conversation_id": 1, "role": "assistant", "content": "Ho", "weight": 0, "tool_calls": "[]"},
            {"conversation_id": 1, "role": "user", "content": "[1]", "tool_calls": "[]"},
            {"conversation_id": 1, "role": "assistant", "content": "So.", "tool_calls": "[]"},
            {"conversation_id": 2, "role": "user", "content": "Sum?"},
            {"conversation_id": 2, "role": "assistant", "content": None, "tool_calls": '[{"name": "add"}]'},
            {"conversation_id": None, "role": "user", "content": "Lost"}]
    data = read_text("\n".join(map(json.dumps, rows)))
    assert said(data) == [("Be brief.", "Hi", "Ho", "[1]", "So.")]
    assert data.conversations[0].messages[2]["train"] is False
    assert [(one.row, one.reason[:23]) for one in data.dropped] == [(5, "an answer that calls a "),
                                                                    (7, "one message by itself (")]


def test_questions_and_answers_of_one_conversation_are_put_together_too():
    table = ("conversation_id,turn,system,user,assistant\n1,2,Be brief.,And?,So.\n1,1,Be brief.,Hi,Ho\n2,1,,You?,Me.\n"
             "3,1,,Empty?,\n")
    data = read_text(table)
    assert said(data) == [("Be brief.", "Hi", "Ho", "And?", "So."), ("You?", "Me.")]
    assert [(one.row, one.reason) for one in data.dropped] == [(4, "an empty answer")]
    assert "has one question and answer a row: 3 were put together to 2 conversations by" in data.notes[0]


@pytest.mark.parametrize("table", ["session_id,question,answer\n1,Hi,Ho\n1,You?,Me.\n",
                                   "dialog_id,turn,question,answer\n1,1,Hi,Ho\n1,1,You?,Me.\n",
                                   "turn,question,answer\n1,Hi,Ho\n2,You?,Me.\n"])
def test_questions_of_which_none_follows_another_stay_by_themselves(table):
    assert said(read_text(table)) == [("Hi", "Ho"), ("You?", "Me.")] and not read_text(table).notes


@pytest.mark.parametrize("table", [
    "date,sender,message\n12/05/24,Ann,Hi\n12/05/24,Bob,Ho\n12/05/24,Ann,You?\n",
    "AuthorID,Author,Date,Content,Attachments\n7,ann,2026-05-01,Hi there you all,\n8,bob,2026-05-01,Ho,\n7,ann,,Me,\n",
    "channel,user,text,thread_ts\ngeneral,U1,Hi,1.1\ngeneral,U2,Ho,1.1\ngeneral,U1,You?,1.1\n"])
def test_where_names_do_not_say_who_is_the_assistant_that_is_said(table):
    with pytest.raises(ValueError, match=r"one message by itself, by .* say who is the user and who the a") as info:
        read_text(table)
    assert not isinstance(info.value, UnknownColumns)


def test_messages_of_which_none_says_its_conversation_are_asked_for_it():
    with pytest.raises(ValueError, match=r"one message by itself .* in a column conversation_id"):
        read_text("role,content\nuser,Hi\nassistant,Ho\nuser,You?\nassistant,Me.\n")


def test_a_short_file_of_several_is_one_conversation(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"role,content,time\nassistant,Ho {name},2\n,,\nuser,Hi {name},1\n")
    data = read_data(tmp_path)
    assert [(one.row, one.file, one.reason) for one in data.dropped] == [(2, "a.csv", "an empty row"),
                                                                         (2, "b.csv", "an empty row")]
    assert said(data) == [("Hi a", "Ho a"), ("Hi b", "Ho b")]
    assert data.notes[0] == "a.csv has one message a row, and was read as one conversation."


@pytest.mark.parametrize("table", ["author,date,title,text\nann,2026,A walk in the old town,x\nann,2026,b,y\n",
                                   "author,text\nann,To be.\nann,Not to be.\n",
                                   "name,Kundenfrage,Antwort\nann,Hi,Ho\nann,You?,Me.\n"])
def test_a_table_of_other_texts_is_asked_about_as_before(table):
    with pytest.raises(UnknownColumns):
        read_text(table)
