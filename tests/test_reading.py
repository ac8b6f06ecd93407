"""Files of every container, good, partly bad and hopeless, and damaged ones: always rows, a report or a sentence."""

import gzip
import io
import json
import random
import zipfile

import pyarrow
import pyarrow.parquet as parquet
import pytest
from openpyxl import Workbook

from training.columns import Columns
from training.data import UnknownColumns, read_data, read_text
from training.reading.delimited import sniffed
from training.reading.rows import Bounds

PAIRS = [(f"Question {number}, with a comma?", f"Answer \"{number}\"\nin two lines; grüße 😀") for number in range(6)]
COLUMNS = ("prompt", "completion")


def as_jsonl(pairs=PAIRS) -> bytes:
    return "\n".join(json.dumps(dict(zip(COLUMNS, pair, strict=True)), ensure_ascii=False) for pair in pairs).encode()


def as_csv(delimiter=",", encoding="utf-8", header=COLUMNS, pairs=PAIRS) -> bytes:
    import csv

    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([header, *pairs] if header else pairs)
    return out.getvalue().encode(encoding, "replace")


def as_arrow(rows, compression=None) -> bytes:
    """A stream in two batches, as `datasets` writes it."""
    out, table = io.BytesIO(), pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(out, table.schema, options=pyarrow.ipc.IpcWriteOptions(compression=compression)) as to:
        to.write_table(table, max_chunksize=4)
    return out.getvalue()


def as_parquet(rows) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def as_xlsx(rows) -> bytes:
    book, out = Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(out)
    return out.getvalue()


def as_zip(files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


ROWS = [dict(zip(COLUMNS, pair, strict=True)) for pair in PAIRS]
GOOD = {
    "a.jsonl": as_jsonl(), "a.ndjson": as_jsonl(), "bom.jsonl": b"\xef\xbb\xbf" + as_jsonl(),
    "wide.jsonl": as_jsonl().decode().encode("utf-16"), "crlf.jsonl": as_jsonl().replace(b"\n", b"\r\n"),
    "a.json": json.dumps(ROWS).encode(), "pretty.json": json.dumps(ROWS, indent=2).encode(),
    "key.json": json.dumps({"version": 1, "data": ROWS}).encode(), "lines.json": as_jsonl(),
    "list.jsonl": json.dumps(ROWS, indent=1).encode(), "oneline.jsonl": json.dumps(ROWS).encode(),
    "broken.jsonl": json.dumps(ROWS).replace("}, {", "},\n{").encode(),
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in COLUMNS}).encode(),
    "pandas.json": json.dumps({name: {str(place): row[name] for place, row in enumerate(ROWS)}
                               for name in COLUMNS}).encode(),
    "a.csv": as_csv(), "semicolon.csv": as_csv(";"), "tab.csv": as_csv("\t"), "pipe.csv": as_csv("|"),
    "a.tsv": as_csv("\t"), "comma.tsv": as_csv(), "bom.csv": as_csv(encoding="utf-8-sig"),
    "wide.csv": as_csv(encoding="utf-16"), "excel.csv": b"sep=;\r\n" + as_csv(";"), "shouting.csv": as_csv(
        header=("Prompt", "COMPLETION")),
    "a.parquet": as_parquet(ROWS), "a.arrow": as_arrow(ROWS), "b.arrow.gz": gzip.compress(as_arrow(ROWS)),
    "a.xlsx": as_xlsx([COLUMNS, *PAIRS]), "a.jsonl.gz": gzip.compress(as_jsonl()),
    "a.csv.gz": gzip.compress(as_csv()), "a.parquet.gz": gzip.compress(as_parquet(ROWS)),
    "comma.jsonl": as_jsonl().replace(b"}\n", b"},\n"), "jq.json": b"\n".join(
        json.dumps(row, indent=2).encode() for row in ROWS), "jq.jsonl": b"\n".join(
        json.dumps(row, indent=2).encode() for row in ROWS) + b"\n",
    "a.zip": as_zip({"folder/a.jsonl": as_jsonl(), "README.md": "hello", "__MACOSX/._a.jsonl": b"\x00"}),
    "unicode.txt": as_csv("\t", "utf-16"),
    "gz.zip": as_zip({"a.csv.gz": gzip.compress(as_csv())}), "noname": as_jsonl(), "a.txt": as_jsonl(),
}


@pytest.fixture
def saved(tmp_path):
    def save(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path
    return save


def texts(data):
    return [tuple(turn["content"] for turn in one.messages) for one in data.conversations]


@pytest.mark.parametrize("name", GOOD)
def test_every_container_gives_the_same_conversations(saved, name):
    data = read_data(saved(name, GOOD[name]))
    assert texts(data) == PAIRS
    assert [one.row for one in data.conversations] == list(range(1, 7)) and not data.dropped


def test_windows_1252_is_read_and_said(saved):
    data = read_data(saved("old.csv", "frage;answer\nWas heißt „café“?;Kaffee – groß\n".replace("frage", "question")
                           .encode("cp1252")))
    assert texts(data) == [("Was heißt „café“?", "Kaffee – groß")]
    assert "Windows-1252" in data.notes[0]


@pytest.mark.parametrize(("encoding", "pair", "said"), [
    ("cp1250", ("Jak się masz?", "Dziękuję, bardzo dobrze. Wczoraj byłem w Łodzi."), "Windows-1250"),
    ("cp1250", ("Jaké je počasí?", "Dnes je hezky, děkuji. Příští týden bude pršet."), "Windows-1250"),
    ("cp1250", ("Hogy vagy?", "Köszönöm, jól. Őszintén szólva fáradt vagyok, űrhajós és erős lettem, hűséges."),
     "Windows-1250"),
    ("cp1251", ("Как дела?", "Спасибо, хорошо."), "Windows-1251"),
    ("cp1251", ("Как настроить?", "Откройте «Настройки» — пункт №5 — и выберите «Сеть»."), "Windows-1251"),
    ("cp1250", ("Kako si?", "Hvala. Sviđa mi se čaj."), "1250"), ("cp1250", ("Ce?", "Mulţumesc, ăsta."), "1250"),
    ("cp1254", ("Nasılsın?", "İyiyim, teşekkür ederim, çok güzel."), "Windows-1254"),
    ("koi8_r", ("Как дела?", "Спасибо."), "KOI8-R"),
    ("cp932", ("日本の首都はどこですか", "東京です。人口は約千四百万人です。"), "Shift JIS"),
    ("gbk", ("中国的首都是哪里？", "北京。北京是中国的首都。"), "GBK"),
    ("big5", ("台灣的首都是哪裡？", "台北。"), "Big5"),
    ("cp949", ("한국의 수도는 어디인가요?", "서울입니다."), "EUC-KR"),
    ("cp1253", ("Τι κάνεις;", "Είμαι καλά."), "1253"),
    ("cp1252", ("Hur mår du?", "Jag mår bra, tack. Vi ses på lördag."), "Windows-1252"),
    ("cp1252", ("¿Qué tal?", "Ça va très bien, l’été était beau – à l’hôpital, 3 m³, Größe ½."), "Windows-1252")])
def test_older_encodings_are_told_apart_and_a_word_shows_what_came_of_it(saved, encoding, pair, said):
    pairs = [*[("Hi", "Ho")] * 200, pair]
    for name, content in (("old.csv", as_csv(encoding=encoding, pairs=pairs)),
                          ("old.jsonl", as_jsonl(pairs).decode().encode(encoding))):
        data = read_data(saved(name, content))
        assert texts(data)[-1] == pair and said in data.notes[0]
        word = data.notes[0].split("as in '")[1].split("'")[0]
        assert word in " ".join(pair) and not word.isascii()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("pair", [("Как дела?", "Спасибо, хорошо."), ("日本の首都は", "東京です。"), ("Hi", "Ho")])
def test_utf_16_that_does_not_say_so_is_known_in_every_script(saved, encoding, pair):
    data = read_data(saved("a.csv", as_csv(encoding=encoding, pairs=[pair] * 3)))
    assert texts(data) == [pair] * 3 and data.notes == ("a.csv was read as UTF-16.",)


def test_one_damaged_line_of_utf8_is_dropped_and_the_others_keep_their_letters(saved):
    lines = as_jsonl().split(b"\n")
    lines[2] = lines[2].replace("ü".encode(), b"\xfc")
    data = read_data(saved("a.jsonl", b"\n".join(lines)))
    assert [drop.row for drop in data.dropped] == [3] and "not UTF-8" in data.dropped[0].reason
    assert "grüße" in texts(data)[0][1]
    whole = "2\"\"\nin two lines; grü".encode()
    data = read_data(saved("a.csv", as_csv().replace(whole, whole.decode().encode("latin-1"))))
    assert [drop.row for drop in data.dropped] == [3] and data.dropped[0].reason == "not UTF-8 text"


def test_rows_are_counted_as_a_person_would(saved):
    data = read_data(saved("a.csv", b"question,answer\na,b\n\n,\nc,d,e\nf\ng,h\n"))
    assert [one.row for one in data.conversations] == [1, 5]
    assert {drop.row: drop.reason for drop in data.dropped} == {
        2: "an empty row", 3: "3 cells, and the header has 2", 4: "an empty answer"}
    sheet = [("question", "answer"), ("a", "b"), (None, None), ("c", 7), (None, None)]
    data = read_data(saved("a.xlsx", as_xlsx(sheet)))
    assert texts(data) == [("a", "b"), ("c", "7")]
    assert [drop.row for drop in data.dropped] == [2]


def test_quotes_in_a_tsv_that_quotes_nothing_are_text_and_join_no_rows(saved):
    pairs = [('"Hello" means what', "A greeting"), ('"Sit down', "Yes"), ("Who?", 'I, "Ann"'), ('"Go', 'Where, "Bo"?')]
    data = read_data(saved("a.tsv", "\n".join("\t".join(pair) for pair in (COLUMNS, *pairs)).encode()))
    assert [tuple(turn["content"] for turn in one.messages) for one in data.conversations] == pairs
    assert not data.dropped
    quoted = [('say "a"', 'one\n"two" more\nthree'), ("tab\there", "a\nb"), ("plain", '"four"'), ("e\nf", "g\nh")]
    data = read_data(saved("b.tsv", as_csv("\t", pairs=quoted)))
    assert [tuple(turn["content"] for turn in one.messages) for one in data.conversations] == quoted
    careless = as_csv("\t", pairs=quoted) + b'"an" end\tall the same\n'
    assert len(read_data(saved("c.tsv", careless)).conversations) == 5


def test_a_sheet_of_notes_and_a_title_above_the_header_are_no_rows(saved):
    book, out = Workbook(), io.BytesIO()
    book.active.append(["Read me first."])
    for row in [("Our questions",), (), COLUMNS, *PAIRS]:
        book.create_sheet("Table") if "Table" not in book.sheetnames else None
        book["Table"].append(row)
    book.save(out)
    data = read_data(saved("a.xlsx", out.getvalue()))
    assert texts(data) == texts(read_data(saved("b.xlsx", as_xlsx([COLUMNS, *PAIRS]))))
    assert [one.row for one in data.conversations][:2] == [1, 2]
    assert any("'Table'" in note and "'Sheet'" in note for note in data.notes)
    assert any("'Our questions'" in note for note in data.notes)


@pytest.mark.parametrize("above", ["Exported 2026-05-01\n", "# made by Ann\n\n", "Report,\n,\n", '"Our questions"\n'])
def test_a_title_above_a_csvs_header_is_no_header(saved, above):
    data = read_data(saved("a.csv", above.encode() + as_csv()))
    assert texts(data) == PAIRS and "has a title above its header, '" in data.notes[0]
    for none in (b"\n\n" + as_csv(), b"sep=;\n" + as_csv(";")):
        assert read_data(saved("b.csv", none)).notes == ()
    with pytest.raises(UnknownColumns) as refused:
        read_data(saved("a.csv", above.encode() + b"Frage;Antwort\na;b\nc;d\n"))
    assert refused.value.columns == ("Frage", "Antwort")


def test_texts_with_a_comma_here_and_there_are_no_table_under_a_title(saved):
    with pytest.raises(ValueError, match="Columns seen: text"):
        read_data(saved("a.csv", b"text\nHello there.\nGo, on\nNow\n"))


def test_text_that_a_parquet_keeps_as_bytes_is_text_and_pictures_are_none(saved):
    picture = {"picture": b"\x89PNG\xff", "none": None}
    rows = [{name: text.encode() for name, text in row.items()} | picture for row in ROWS]
    assert texts(read_data(saved("a.parquet", as_parquet(rows)))) == PAIRS
    with pytest.raises(ValueError, match="Columns seen: more"):
        read_data(saved("b.parquet", as_parquet([{"picture": b"\x89PNG\xff", "more": "x"}])))


def as_sheets(**sheets) -> bytes:
    book, out = Workbook(), io.BytesIO()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(out)
    return out.getvalue()


def test_sheets_with_the_columns_of_the_one_that_is_read_are_read_too(saved):
    about = [("Setting", "Value"), ("owner", "Ann"), ("year", 2026)]
    sheets = {"About": about, "Jan": [COLUMNS, *PAIRS[:2]], "Feb": [COLUMNS, *PAIRS[2:], ("x",)]}
    data = read_data(saved("a.xlsx", as_sheets(**sheets)))
    assert texts(data) == PAIRS and data.files == ("a.xlsx, Jan", "a.xlsx, Feb")
    assert [(drop.row, drop.file) for drop in data.dropped] == [(5, "a.xlsx, Feb")]
    assert data.notes == ("Of a.xlsx the sheets 'Jan' and 'Feb' were read, not 'About'.",)


def test_sheets_called_like_splits_are_splits(saved):
    from training.data import split

    sheets = {name: [COLUMNS, (name, "a")] for name in ("test", "Validation", "train")}
    data = read_data(saved("a.xlsx", as_sheets(**sheets)))
    assert [side[0].messages[0]["content"] for side in split(data, 0.1, seed=0)] == ["train", "Validation"]


def test_a_sheet_has_the_columns_that_are_written_in_it_and_no_more(saved):
    with pytest.raises(UnknownColumns) as refused:
        read_data(saved("a.xlsx", as_xlsx([("frage", "antwort"), ("a", "b"), ("c", "d")])))
    assert list(refused.value.columns) == ["frage", "antwort"]


def test_a_quote_that_is_never_closed_is_named(saved):
    data = read_data(saved("a.csv", b'question,answer\na,b\n"c,d\ne,f\ng,h\n'))
    assert texts(data) == [("a", "b")] and data.dropped[0].reason == "a quote that is never closed, over 3 lines"


@pytest.mark.parametrize(("rows", "read"), [
    (['"Where?","C:\\temp\\"', '"Next, please?","b, c"', '"d","e"'], ("Where?", "C:\\temp\\")),
    (['"Where?","Say \\"here\\", please"', '"d","e"'], ("Where?", 'Say "here", please')),
    (['"Where?","Say \\"here\\" please"', '"d","e"'], ("Where?", 'Say "here" please'))])
def test_a_backslash_before_a_quote_escapes_it_only_where_that_fits_every_record(saved, rows, read):
    data = read_data(saved("a.csv", "\n".join(["question,answer", *rows]).encode()))
    assert texts(data)[0] == read and len(data.conversations) == len(rows)


def test_a_table_that_names_its_columns_apart_is_read_by_their_names(saved):
    table = {"columns": ["topic", "answer", "question"], "index": [0, 1], "data": [["x", "a", "q"], ["y", "b", 7]]}
    assert texts(read_data(saved("a.json", json.dumps(table).encode()))) == [("q", "a"), ("7", "b")]


@pytest.mark.parametrize("held", [
    {"about": {"made": 2026}, "result": {"items": ROWS}}, {"status": "ok", "payload": {"data": ROWS}},
    {"faqs": ROWS, "tags": ["a", "b"]}, {"general": ROWS[:3], "billing": ROWS[3:]},
    {"general": ROWS[:2], "billing": ROWS[2:]},
    {"input": [{"text": row["prompt"]} for row in ROWS], "output": [{"text": row["completion"]} for row in ROWS]}])
def test_rows_are_found_wherever_an_object_holds_them_and_none_is_lost(saved, held):
    assert texts(read_data(saved("a.json", json.dumps(held).encode()))) == PAIRS


def test_a_file_of_one_logged_answer_is_a_row_and_no_list_of_its_tools(saved):
    row = {"input": {"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function", "function": {}}]},
           "output": {"role": "assistant", "content": "Ho"}}
    assert texts(read_data(saved("a.json", json.dumps(row).encode()))) == [("Hi", "Ho")]


def test_an_object_with_a_name_for_each_list_of_turns_loses_none(saved):
    talks = {f"talk {number}": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
             for number, (asked, said) in enumerate(PAIRS)}
    assert texts(read_data(saved("a.json", json.dumps(talks).encode()))) == PAIRS
    assert len(read_data(saved("b.json", json.dumps({"chosen": talks["talk 0"], "rejected": talks["talk 1"]}).encode()))
               .conversations) == 1


def test_conversations_of_a_text_file_part_where_a_text_begins(saved):
    for begin, turn, end in (("<|begin_of_text|>", "<|start_header_id|>{}<|end_header_id|>\n\n{}", "<|eot_id|>"),
                             ("<bos>", "<start_of_turn>{}\n{}", "<end_of_turn>\n")):
        said = [[("user", "q"), ("model", "a")], [("user", "r"), ("model", "b"), ("user", "s"), ("model", "c")]]
        text = "\n".join(begin + "".join(turn.format(*one) + end for one in turns) for turns in said)
        assert texts(read_data(saved("a.txt", text.encode()))) == [("q", "a"), ("r", "b", "s", "c")]


@pytest.mark.parametrize("turn", ["<|im_start|>{}\n{}<|im_end|>\n\n", "<|{}|>\n{}<|end|>\n \n"])
def test_a_blank_line_parts_no_answer_from_its_question_nor_a_system_turn_from_both(saved, turn):
    said = [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")]
    data = read_data(saved("a.txt", "".join(turn.format(*one) for one in said).encode()))
    assert texts(data) == [("s", "q", "a"), ("r", "b")] and not data.dropped


def test_a_json_that_does_not_parse_is_refused_whole(saved):
    for content in (json.dumps(ROWS)[:-20], as_jsonl().decode() + "\n{", "[1, 2", "{}]", "[1,]", "[" * 100_000):
        with pytest.raises(ValueError, match="is not whole JSON"):
            read_data(saved("a.json", content.encode()))


@pytest.mark.parametrize(("sample", "delimiter"), [
    ("question;answer\n\"a; b\";c\n", ";"), ("a,b\n1;2,3;4\n5;6,7;8\n", ","), ("text\nhello, you\n", ","),
    ("q\ta\nx, y\tz, w\n", "\t"), ("q|a\n\"many\nlines, | here\"|b\n", "|")])
def test_the_delimiter_is_the_one_that_fits_every_record(sample, delimiter):
    assert sniffed(sample).delimiter == delimiter


def test_a_table_without_known_columns_is_asked_about_with_a_guess(saved):
    path = saved("a.csv", b"id,Kundenfrage,Unsere Antwort\n1,Hi?,Hello there\n2,Ho?,Hello again\n")
    with pytest.raises(UnknownColumns) as asked:
        read_data(path)
    assert asked.value.columns == ("id", "Kundenfrage", "Unsere Antwort")
    assert asked.value.guess.answer == "Unsere Antwort"
    assert texts(read_data(path, columns=Columns("Kundenfrage", "Unsere Antwort")))[0] == ("Hi?", "Hello there")


@pytest.mark.parametrize("text", [as_jsonl().decode(), as_csv().decode()])
def test_a_pasted_text_may_begin_with_a_byte_order_mark(text):
    assert len(read_text(f"\ufeff{text}").conversations) == len(PAIRS)


NAMED = ("User: Hi, you\nAssistant: Ho, me", "[INST] Hi, you [/INST] Ho, me </s>\n",
         "A task, as it is.\n\n### Instruction:\nHi, you\n\n### Response:\nHo, me")


@pytest.mark.parametrize("text", NAMED)
def test_a_conversation_that_begins_like_a_table_or_a_list_is_text(saved, text):
    assert texts(read_text(text)) == texts(read_data(saved("a.txt", text.encode()))) == [("Hi, you", "Ho, me")]


@pytest.mark.parametrize("pair", ["User: {}\nBot: {}\n", "### Instruction:\n{}\n\n### Response:\n{}\n",
                                  "A task.\n\n### Instruction: {}\n### Input:\n\n### Response: {}\n"])
def test_pairs_of_a_text_file_are_no_one_conversation(saved, pair):
    written = "\n".join(pair.format(*one) for one in (("q", "a"), ("r", "b\n\nc")))
    assert texts(read_data(saved("a.txt", written.encode()))) == [("q", "a"), ("r", "b\n\nc")]
    whole = "Human: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: b"
    assert texts(read_data(saved("b.txt", whole.encode()))) == [("q", "a", "r", "b")]
    told = "System: s\nUser: q\nBot: a\nUser: r\nBot: b\n\nSystem: s\n\nUser: t\nBot: c"
    assert texts(read_data(saved("c.txt", told.encode()))) == [("s", "q", "a", "r", "b"), ("s", "t", "c")]


@pytest.mark.parametrize("text", ["Once upon a time.", "Q: Who?\nA: Me.", "[12/05/24, 10:01:02] Ann: Hi\n"])
def test_text_without_turns_is_called_that_and_no_broken_json(saved, text):
    for read in (lambda: read_text(text), lambda: read_data(saved("a.txt", text.encode()))):
        with pytest.raises(ValueError, match=r"plain text without turns\. Begin each question"):
            read()


@pytest.mark.parametrize("header", ["prompt,completion,note,note", "note,Question,note,Answer"])
def test_a_header_with_a_name_twice_is_a_header_where_it_names_question_and_answer(saved, header):
    data = read_data(saved("a.csv", f"{header}\nWho?,I.,x,y\nYou?,No.,x,y\n".encode()))
    assert len(data.conversations) == 2 and not data.notes


def test_a_table_without_a_header_loses_no_row(saved):
    with pytest.raises(UnknownColumns) as asked:
        read_data(saved("a.csv", as_csv(header=None)))
    assert asked.value.columns == ("column 1", "column 2")
    data = read_data(saved("a.csv", as_csv(header=None)), columns=asked.value.guess)
    assert len(data.conversations) == 6 and "no header" in data.notes[0]


def test_cards_of_anki_are_a_table_without_a_header(saved):
    path = saved("cards.txt", b"#separator:Semicolon\n#html:true\n#tags column:3\n"
                              b"Who;I;me\nWhat?;\"It; that.\";it\nWhen;7;\n")
    data = read_data(path, columns=Columns("column 1", "column 2"))
    assert texts(data) == [("Who", "I"), ("What?", "It; that."), ("When", "7")] and "no header" in data.notes[0]
    with pytest.raises(ValueError, match="plain text without turns"):
        read_data(saved("a.txt", b"Once\tupon a time\nthere was\na\tking.\n"))


def test_a_sheet_without_a_header_loses_no_row(saved):
    path = saved("a.xlsx", as_xlsx([("Who are you?", "I am I."), ("And where?", "Here."), ("When", 7)]))
    with pytest.raises(UnknownColumns) as asked:
        read_data(path)
    assert asked.value.columns == ("column 1", "column 2")
    data = read_data(path, columns=Columns("column 1", "column 2"))
    assert [one.row for one in data.conversations] == [1, 2, 3] and texts(data)[0] == ("Who are you?", "I am I.")
    assert "no header" in data.notes[0]


def test_a_cell_beside_a_sheets_table_is_counted_as_it_is_written(saved):
    data = read_data(saved("a.xlsx", as_xlsx([COLUMNS, *PAIRS, ("x", "y", None, "a note")])))
    assert data.dropped[0].reason == "4 cells, and the header has 2"


def test_a_datasets_own_validation_rows_are_held_out(saved, tmp_path):
    from training.data import split

    saved("train.jsonl", as_jsonl())
    saved("validation.jsonl", as_jsonl([*PAIRS[:1], ("new", "held")]))
    saved("test.csv", as_csv())
    data = read_data(tmp_path)
    train, held = split(data, 0.1, seed=0)
    assert (len(train), len(held)) == (6, 1) and held[0].messages[0]["content"] == "new"
    assert "left out" in data.notes[0]


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_split_is_known_by_its_folder_as_by_its_name(saved, tmp_path, is_zip):
    from training.data import split

    parts = {f"data/{name}/0000.jsonl": as_jsonl([(name, "a")]) for name in ("train", "validation", "test")}
    for name, content in ({"all.zip": as_zip(parts)} if is_zip else parts).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        saved(name, content)
    data = read_data(tmp_path)
    assert [side[0].messages[0]["content"] for side in split(data, 0.1, seed=0)] == ["train", "validation"]
    assert "test/0000.jsonl" in data.notes[0] and data.files[0].endswith("train/0000.jsonl")


def test_what_datasets_saves_to_disk_is_read_with_its_splits(tmp_path):
    from datasets import Dataset, DatasetDict

    from training.data import split

    some = {name: Dataset.from_list([{"messages": [{"role": "user", "content": f"{name} {number}"},
                                                   {"role": "assistant", "content": "a"}], "picture": b"x", "more": []}
                                     for number in range(3)]) for name in ("train", "test")}
    DatasetDict(some).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "train" / "cache-0123.arrow").write_bytes(as_arrow(ROWS))
    data = read_data(tmp_path / "saved")
    assert [[one.messages[0]["content"] for one in side] for side in split(data, 0.1, seed=0)] == [
        [f"{name} {number}" for number in range(3)] for name in ("train", "test")]


def test_where_only_validation_rows_can_be_used_they_are_divided(saved, tmp_path):
    from training.data import split

    saved("train.jsonl", b'{"x": 1}')
    saved("validation.jsonl", as_jsonl())
    data = read_data(tmp_path)
    assert [len(side) for side in split(data, 0.2, seed=0)] == [5, 1]
    assert any("No row for training can be used" in note for note in data.notes)


def test_several_files_keep_their_names_with_their_rows(saved):
    data = read_data([saved("a.jsonl", as_jsonl()), saved("b.csv", b"question,answer\nx,\n")])
    assert data.dropped[0].file == "b.csv" and data.files == ("a.jsonl", "b.csv")


STRAYS = {"notes.txt": b"Ask Ann about these.", "LICENSE": b"MIT", "README.md": b"# Chats", "empty.csv": b"",
          "logo.png": b"\x89PNG", "images.zip": as_zip({"a.png": b"x"}),
          "blank.xlsx": as_xlsx([]), "cover.jsonl": b"\x89PNG\r\n", "old.xls": b"\xd0\xcf\x11\xe0"}


@pytest.mark.parametrize("is_zip", [False, True])
def test_what_holds_no_rows_beside_files_that_do_is_left_out_and_named(saved, tmp_path, is_zip):
    files = {"all.zip": as_zip({"a.jsonl": as_jsonl(), **STRAYS})} if is_zip else {"a.jsonl": as_jsonl(), **STRAYS}
    for name, content in files.items():
        saved(name, content)
    data = read_data(tmp_path)
    assert texts(data) == PAIRS and not data.dropped
    told = " ".join(data.notes).replace("all.zip/", "")
    for said in ("blank.xlsx (empty)", "cover.jsonl (a PNG picture)", "images.zip (an archive of no file that can be ",
                 "empty.csv (empty)", "notes.txt (plain text without turns)", "by their names: logo.png, old.xls."):
        assert said in told
    assert "LICENSE" not in told and "README" not in told


def test_of_many_files_that_have_each_the_same_to_be_said_a_few_say_it(saved):
    paths = [saved(f"{number:02}.csv", "question,answer\nCafé?,Thé\n".encode("cp1252")) for number in range(30)]
    notes = read_data(paths).notes
    assert len(notes) == 11 and notes[0].startswith("00.csv") and notes[-1] == "20 more such notes, of other files."


def test_a_damaged_file_beside_others_is_refused_and_not_left_out(saved, tmp_path):
    for name, content in (("a.jsonl", as_jsonl()), ("b.parquet", b"PAR1" + b"x" * 40)):
        saved(name, content)
    with pytest.raises(ValueError, match=r"b\.parquet .* damaged"):
        read_data(tmp_path)


def zip_that_leads_out():
    return as_zip({"../../evil.jsonl": as_jsonl()})


def zip_bomb():
    return as_zip({"a.jsonl": b" " * 30_000_000})


def workbook_with_entities():
    source = zipfile.ZipFile(io.BytesIO(as_xlsx([COLUMNS, *PAIRS])))
    files = {name: source.read(name) for name in source.namelist()}
    files["xl/workbook.xml"] = b'<!DOCTYPE a [<!ENTITY b "c">]>' + files["xl/workbook.xml"]
    return as_zip(files)


# A text that many rows share stands in a file of Parquet or Excel once.
SHARED = "x" * 20_000


def workbook_that_shares(text, rows):
    source = zipfile.ZipFile(io.BytesIO(as_xlsx([COLUMNS, *[("shared", "y")] * rows])))
    files = {name: source.read(name) for name in source.namelist()}
    sheet, types = "xl/worksheets/sheet1.xml", "[Content_Types].xml"
    files[sheet] = files[sheet].replace(b't="inlineStr"><is><t>shared</t></is>', b't="s"><v>0</v>')
    files["xl/sharedStrings.xml"] = (b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>'
                                     + text.encode() + b"</t></si></sst>")
    files[types] = files[types].replace(b"</Types>", b'<Override PartName="/xl/sharedStrings.xml" ContentType='
                                        b'"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings'
                                        b'+xml"/></Types>')
    return as_zip(files)


DEEP = as_zip({"a.zip": as_zip({"b.zip": as_zip({"c.zip": as_zip({"a.jsonl": as_jsonl()})})})})


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.zip", zip_that_leads_out(), "leads out of it"), ("a.zip", zip_bomb(), "unpacks to more than"),
    ("a.jsonl.gz", gzip.compress(b" " * 30_000_000), "unpacks to more than"),
    ("a.xlsx", workbook_with_entities(), "declares entities"),
    ("a.zip", as_zip({"photo.png": b"x"}), "no file that can"), ("deep.zip", DEEP, "archive in"),
    ("a.jsonl.gz", gzip.compress(as_jsonl())[:-20], "cut off or damaged"),
    ("a.parquet", b"PAR1" + b"x" * 40, "damaged"), ("a.arrow", as_arrow(ROWS)[:-200], "can't be read as Arrow"),
    ("a.arrow", as_arrow(ROWS, compression="zstd"), "compressed or holds categories"),
    ("a.parquet", as_parquet([{"prompt": SHARED, "completion": "y"}] * 2000), "more than 19 MB of text"),
    ("a.xlsx", workbook_that_shares(SHARED, 1100), "more than 19 MB of text"),
    ("a.parquet", as_parquet([{"messages": [{"role": "user", "content": "x"}] * 200_000}] * 20), "can be read here"),
    ("a.arrow", b"ARROW1\0\0", "a Feather file"), ("a.arrow", as_csv(), "isn't one"), ("a.xlsx", as_csv(), "isn't one"),
    ("a.pdf", b"%PDF-1.4", "a PDF"), ("a.xls", b"\xd0\xcf\x11\xe0\xa1", "old Office"),
    ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    ("a.json", b"\n<!DOCTYPE html><html></html>", "a web page"),
    ("a.txt", b"Once upon a time.", "plain text without turns"), ("a.csv", b"prompt,completion\n", "It holds no rows"),
    ("a.csv", b"alone\nx\n", "Columns seen: alone"), ("a.xlsx", as_xlsx([]), "no sheet holds anything"),
])
def test_what_can_not_be_read_is_refused_in_a_sentence(saved, name, content, said, tmp_path):
    bounds = Bounds(unpacked_bytes=20_000_000)
    with pytest.raises(ValueError, match=said):
        read_data(saved(name, content), bounds=bounds)
    assert [*tmp_path.rglob("evil*"), *tmp_path.parent.glob("evil*")] == []


@pytest.mark.parametrize(("bounds", "said"), [
    (Bounds(file_bytes=10), "MB can be read"), (Bounds(rows=3), "more than 3 rows"), (Bounds(columns=1), "columns")])
def test_bounds_are_held_with_their_number(saved, bounds, said):
    with pytest.raises(ValueError, match=said):
        read_data(saved("a.csv", as_csv()), bounds=bounds)


@pytest.mark.parametrize("column", [
    pyarrow.array([SHARED] * 512).dictionary_encode(), pyarrow.array([SHARED] * 512),
    pyarrow.array([[{"role": "user", "content": SHARED}]] * 512),
    pyarrow.array([[("user", SHARED)]] * 512, pyarrow.map_(pyarrow.string(), pyarrow.string()))])
def test_rows_that_a_few_bytes_of_parquet_stand_for_are_refused_before_they_take_memory(saved, column):
    out = io.BytesIO()
    parquet.write_table(pyarrow.table({"messages": column}), out)
    assert len(out.getvalue()) < 50_000
    with pytest.raises(ValueError, match="holds rows that are too long"):
        read_data(saved("a.parquet", out.getvalue()), bounds=Bounds(cell=20_000))


def test_categories_of_parquet_are_their_texts(saved):
    out, table = io.BytesIO(), pyarrow.Table.from_pylist([{"prompt": question, "completion": answer}
                                                          for question, answer in PAIRS])
    for place, name in enumerate(table.column_names):
        table = table.set_column(place, name, table.column(name).dictionary_encode())
    parquet.write_table(table, out)
    assert texts(read_data(saved("a.parquet", out.getvalue()))) == texts(read_data(saved("b.csv", as_csv())))


def test_a_cell_that_is_too_long_drops_its_row(saved):
    data = read_data(saved("a.csv", as_csv(pairs=[*PAIRS, ("long", "x" * 2000)])), bounds=Bounds(cell=1000))
    assert "more than 1,000 characters" in data.dropped[0].reason
    data = read_data(saved("a.jsonl", as_jsonl([("long", "x" * 9000), *PAIRS])), bounds=Bounds(cell=1000))
    assert [drop.row for drop in data.dropped] == [1] and len(data.conversations) == 6


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_damaged_file_ends_in_a_report_or_a_sentence(saved, name):
    """Cut off, with bits flipped, with bytes put in: nothing else than data or a ValueError comes of it."""
    dice = random.Random(name)
    content = GOOD[name]
    for _ in range(25):
        damaged = bytearray(content)
        what = dice.randrange(3)
        if what == 0:
            damaged = damaged[:dice.randrange(len(damaged))]
        elif what == 1:
            for _ in range(dice.choice((1, 1, 5, 50))):
                damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        else:
            place = dice.randrange(len(damaged))
            damaged[place:place] = dice.randbytes(dice.choice((1, 8, 300)))
        try:
            data = read_data(saved(f"damaged-{name}", bytes(damaged)), bounds=Bounds(unpacked_bytes=10_000_000))
            assert data.rows_read
        except ValueError as refusal:
            assert str(refusal).strip() and "\n" not in str(refusal)


def test_turns_with_a_tab_after_who_speaks_are_no_table(tmp_path):
    (tmp_path / "said.txt").write_text("User:\tHi\nAssistant:\tHo\n\nUser:\tWho?\nAssistant:\tI.\n", encoding="utf-8")
    assert [[turn["content"] for turn in one.messages] for one in read_data(tmp_path / "said.txt").conversations] == [
        ["Hi", "Ho"], ["Who?", "I."]]


def repository(folder, about, **files):
    """A folder with a README that says this, and files of one conversation each, named by their place."""
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(f"---\n{about}\n---\n# Rows\n", encoding="utf-8")
    for name, place in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(json.dumps({"prompt": name, "completion": "Yes."}) + "\n", encoding="utf-8")
    return folder


def learned_and_held(folder):
    data = read_data(folder)
    asked = [one.messages[0]["content"] for one in data.conversations]
    held = [asked[place] for place in data.own_held]
    return sorted(set(asked) - set(held)), held, data.notes


def test_the_readme_of_a_datasets_folder_says_which_files_are_for_what(tmp_path):
    some = repository(tmp_path / "some", "configs:\n- config_name: default\n  data_files:\n  - split: train\n"
                      "    path: data/a*\n  - split: test\n    path: [data/b.jsonl]",
                      learned="data/a1.jsonl", too="data/a2.jsonl", held="data/b.jsonl", aside="data/other.jsonl")
    assert learned_and_held(some) == (["learned", "too"], ["held"], ())
    plain = repository(tmp_path / "plain", "configs:\n- config_name: x\n  data_files: rows/*.jsonl",
                       test="rows/test.jsonl", more="rows/more.jsonl", aside="aside.jsonl")
    assert learned_and_held(plain) == (["more", "test"], [], ())
    of_a_folder = repository(tmp_path / "of_a_folder", "configs:\n- config_name: x\n  data_dir: rows",
                             learned="rows/train.jsonl", held="rows/test.jsonl", aside="aside.jsonl")
    assert learned_and_held(of_a_folder) == (["learned"], ["held"], ())


def test_of_several_sets_of_rows_the_usual_one_is_read_and_the_others_are_named(tmp_path):
    sets = ("configs:\n- config_name: small\n  data_files: small.jsonl\n- config_name: large{usual}\n  data_files:\n"
            "    train_sft: large.jsonl\n    train_gen: gen.jsonl\n    validation: held.jsonl")
    files = {"small": "small.jsonl", "large": "large.jsonl", "gen": "gen.jsonl", "held": "held.jsonl"}
    usual = repository(tmp_path / "usual", sets.format(usual="\n  default: true"), **files)
    assert learned_and_held(usual) == (["large"], ["held"],
                                       ("README.md names other rows, which aren't read: small, train_gen.",))
    with pytest.raises(ValueError, match=r"holds several sets of rows: small, large. Name the files of one of them."):
        read_data(repository(tmp_path / "none", sets.format(usual=""), **files))


@pytest.mark.parametrize("about", ["configs: 3", "configs: [3]", "title: [", "- a", *(
    f"configs:\n- data_files: {files}"
    for files in ("../outside.jsonl", "3", "/etc/*", "hf://a/b", "{train: none.jsonl}", "[[]]", "''"))])
def test_a_readme_that_names_no_file_of_the_folder_changes_nothing(tmp_path, about):
    (tmp_path / "outside.jsonl").write_text('{"prompt": "out", "completion": "Yes."}\n', encoding="utf-8")
    folder = repository(tmp_path / "folder", about, learned="train.jsonl", held="test.jsonl")
    assert learned_and_held(folder) == (["learned"], ["held"], ())
