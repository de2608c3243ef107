"""Tables as people write them, after public bug reports: what is read, what is refused; training and prediction agree.

Every case is read by both doors: `load_any_dataset` for training, `read_inputs` for prediction.
"""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from doors import RATE, SPEECH, answer, by_id

from lemer.audio_lemer import load_audio
from lemer.corpora.columns import choose_columns, order_keys
from lemer.corpora.manifest import read_inputs
from lemer.corpora.tables import read_table

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write_clip(path: Path, samples: np.ndarray = SPEECH[:RATE], rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16", format="WAV")
    return path


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder `set` with the recordings a.wav and b.wav, of other content; the working folder is another."""
    write_clip(tmp_path / "set" / "a.wav")
    write_clip(tmp_path / "set" / "b.wav", SPEECH[RATE:])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "set"


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_table(path).rows()]


# ---------------------------------------------------------------------------------------------------------- text tables

PLAIN = "id,audio,text,label\n1,a.wav,hello,sad\n2,b.wav,you,ang\n"
WRITTEN = {  # what a program wrote -> how it names itself
    "pandas": PLAIN,
    "pandas with its index": ",id,audio,text,label\n0,1,a.wav,hello,sad\n1,2,b.wav,you,ang\n",
    "Excel in Germany": "id;audio;text;label\r\n1;a.wav;hello;sad\r\n2;b.wav;you;ang\r\n",
    "Excel with a sep line": "sep=;\r\nid;audio;text;label\r\n1;a.wav;hello;sad\r\n2;b.wav;you;ang\r\n",
    "Excel with empty columns and rows": "id,audio,text,label,,\n1,a.wav,hello,sad,,\n2,b.wav,you,ang,,\n,,,,,\n",
    "LibreOffice with all in quotes": '"id","audio","text","label"\n"1","a.wav","hello","sad"\n"2","b.wav","you","ang"\n',
    "tabs in a .csv": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "old Mac line ends": PLAIN.replace("\n", "\r"),
    "no line end at the end, and blank lines before it": PLAIN.replace("ang\n", "ang") + "\n\n\n",
    "blanks after commas": PLAIN.replace(",", ", "),
    "a comma at the end of each row but the first": PLAIN.replace("sad\n", "sad,\n").replace("ang\n", "ang,\n"),
    "a byte order mark": "\ufeff" + PLAIN,
    "two byte order marks": "\ufeff\ufeff" + PLAIN,
    "capitals": PLAIN.replace("id,audio,text,label", "ID, File Name , Transcript,Emotion"),
}


@pytest.mark.parametrize("program", WRITTEN)
def test_the_same_table_is_read_from_every_program(program, place, train):
    (place / "m.csv").write_bytes(WRITTEN[program].encode())
    turns = answer(place / "m.csv")
    assert [(turn.id, turn.text.strip()) for turn in turns] == [("1", "hello"), ("2", "you")]
    assert [turn.audio for turn in turns] == [str(place / "a.wav"), str(place / "b.wav")]
    dataset, report = train(place / "m.csv")
    rows = by_id(dataset)
    assert {name: (row["text"], row["label"]) for name, row in rows.items()} == {"1": ("hello", 1), "2": ("you", 0)}
    assert report.classes == ["ang", "sad"] and rows["2"]["num_frames"] == 2 * RATE


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV"])
def test_tabs_and_capital_endings(suffix, place):
    (place / f"m{suffix}").write_text("audio\ttext\na.wav\thello; you, there\n")
    assert [turn.text for turn in answer(place / f"m{suffix}")] == ["hello; you, there"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_of_unicode(encoding, place, train):
    (place / "m.csv").write_bytes("audio,text,label\na.wav,schön “so”,ärger\nb.wav,naïve,freude\n".encode(encoding))
    assert [turn.text for turn in answer(place / "m.csv")] == ["schön “so”", "naïve"]
    assert train(place / "m.csv")[1].classes == ["freude", "ärger"]


def test_cp1252_is_read_and_said(place, train, caplog):
    (place / "meld.csv").write_bytes("audio,text,label\r\na.wav,I’m “fine”…,joy\r\nb.wav,No,anger\r\n".encode("cp1252"))
    assert answer(place / "meld.csv")[0].text == "I’m “fine”…"
    assert "meld.csv: not UTF-8, read as cp1252" in caplog.text
    dataset, report = train(place / "meld.csv")
    assert by_id(dataset)["a.wav"]["text"] == "I’m “fine”…" and "cp1252" in report.format()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("audio,text\na.wav,Привет как дела\n".encode("cp1251"), "neither UTF-8 nor UTF-16 nor cp1252"),
        ("audio,text\na.wav,你好吗朋友\n".encode("gbk"), "neither UTF-8 nor UTF-16 nor cp1252"),
        (b"audio,text\na.wav,\x81\n", "neither UTF-8 nor UTF-16 nor cp1252"),
        (b"PK\x03\x04\x14\x00rest of a workbook", "an archive or a workbook"),
        (b"audio,text\na.wav,hel\0lo\n", "zero bytes"),
        (b"", "has no rows"),
        (b"audio,text\n", "has no rows"),
        (b"audio,text\n\n,\n", "has no rows"),
        (b"audio,text,text\na.wav,b,c\n", "'text' is there twice"),
        (b"audio,text\na.wav,hello, you\n", "line 2 has 3"),
        (b"audio,text\na.wav,hello\na.wav\n", "after 1 rows.* line 3 has 1"),
        (b'audio,text\na.wav,hello\nb.wav,"you\n', "after 1 rows: unexpected end of data, in the row from line 3"),
        (b'audio,text\na.wav,"she said \\"no\\""\n', "line 2"),
        (b"a.wav,hello\nb.wav,you\n", "no column audio, path or text, but a.wav, hello"),
        (b"audio,path,text\na.wav,b.wav,hello\n", "2 columns that could be the audio: 'audio', 'path'"),
        (b"audio,text,Transcript\na.wav,a,b\n", "2 columns that could be the text: 'text', 'Transcript'"),
    ],
)
def test_what_is_no_table_is_refused_with_its_name_by_both(content, reason, place, train):
    (place / "bad.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.csv.*{reason}"):
        answer(place / "bad.csv")
    if "no column" not in reason:
        with pytest.raises(ValueError, match=f"bad.csv.*{reason}"):
            train(place / "bad.csv")


def test_quotes_and_line_breaks_in_cells(place):
    (place / "m.csv").write_bytes(b'id,text\n1,"hello, ""you"""\n2,"two\nlines"\n3,5" tall\n4,"a\r\nb"\n')
    assert [turn.text for turn in answer(place / "m.csv")] == ['hello, "you"', "two\nlines", '5" tall', "a\r\nb"]


def test_the_line_of_a_bad_row_counts_line_breaks_in_cells(place):
    (place / "m.csv").write_text('id,text\n1,"two\nlines"\n2,a,b\n')
    with pytest.raises(ValueError, match="after 1 rows.*line 4 has 3"):
        answer(place / "m.csv")


def test_quotes_that_are_not_paired_are_characters_in_common_voice(place, train):
    lines = ["path\tsentence\tage", 'a.wav\t"Yes, he said.\t', 'b.wav\tThe "blue" one"\ttwenties']
    (place / "validated.tsv").write_text("\n".join(lines) + "\n")
    turns = answer(place / "validated.tsv")
    assert [turn.text for turn in turns] == ['"Yes, he said.', 'The "blue" one"']
    (place / "quoted.tsv").write_text('path\tsentence\na.wav\t"a ""b"" c"\nb.wav\tplain\n')
    assert [turn.text for turn in answer(place / "quoted.tsv")] == ['a "b" c', "plain"]


NOT_NUMBERS = ["None", "NA", "null", "nan", "NaN", "N/A", "01", "007", "inf", "-inf", "1e5", "1.0", "True", "#N/A", "1_000"]


def test_cells_are_text_as_written(place, train):
    lines = [f"{index},{word},{word}x" for index, word in enumerate(NOT_NUMBERS)]
    (place / "m.csv").write_text("id,text,label\n" + "\n".join(lines) + "\n")
    assert [turn.text for turn in answer(place / "m.csv")] == NOT_NUMBERS
    rows = by_id(train(place / "m.csv")[0])
    assert [rows[str(index)]["text"] for index in range(len(NOT_NUMBERS))] == NOT_NUMBERS


def test_labels_are_text_as_written(place, train):
    (place / "m.csv").write_text("id,text,label\na,x,01\nb,x,None\nc,x,inf\nd,x,1\ne,x,\nf,x,-1\n")
    dataset, report = train(place / "m.csv")
    assert report.classes == ["01", "1", "None", "inf"]
    assert sorted(report.notes["unlabelled"]) == ["e", "f"]


def test_labels_whose_accents_are_encoded_otherwise_are_one_class(place, train):
    rows = [{"audio": "a.wav", "label": "fro\u0308hlich"}, {"audio": "b.wav", "label": "fr\u00f6hlich"}]
    rows.append({"audio": "a.wav", "label": "sad"})
    (place / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, report = train(place / "m.jsonl")
    assert len(report.classes) == 2 and len(report.notes["label_spelling"]) == 1


@pytest.mark.parametrize("encoding", ["cp1251", "shift_jis", "gb18030"])
def test_other_encodings_are_not_taken_for_cp1252(encoding, place):
    words = {"cp1251": "Привет", "shift_jis": "こんにちは", "gb18030": "你好吗"}[encoding]
    line = "this is a long line of plain English,sad\n" * 20
    (place / "m.csv").write_bytes(f"text,label\n{line}{words},ang\n".encode(encoding))
    with pytest.raises(ValueError, match="neither UTF-8 nor UTF-16 nor cp1252"):
        answer(place / "m.csv")


def test_quotes_that_pair_over_lines_by_chance_swallow_no_row(place):
    (place / "m.tsv").write_text('id\ttext\tlabel\n1\t"hello\tsad\n2\tyou"\tang\n')
    assert [turn.text for turn in answer(place / "m.tsv")] == ['"hello', 'you"']


def test_half_a_surrogate_pair_names_its_row(place, train):
    (place / "m.jsonl").write_text('{"text": "ok", "label": "x"}\n{"text": "a \\ud83d", "label": "y"}\n')
    with pytest.raises(ValueError, match="line 2.*half a surrogate pair"):
        train(place / "m.jsonl")


def test_labels_that_differ_by_case_and_blanks_are_one_class_and_it_is_said(place, train):
    labels = ["Happy", "happy ", "Happy", " HAPPY", "sad", "Sad", "sad"]
    (place / "m.csv").write_text("text,label\n" + "".join(f"t{i},{label}\n" for i, label in enumerate(labels)))
    dataset, report = train(place / "m.csv")
    assert report.classes == ["Happy", "sad"] and sorted(dataset["label"]) == [0] * 4 + [1] * 3
    assert sorted(report.notes["label_spelling"]) == ["HAPPY (1 as Happy)", "Sad (1 as sad)", "happy (1 as Happy)"]
    assert report.format().count("label_spelling") == 1
    assert train(place / "m.csv", labels=["SAD", "happy"])[1].classes == ["SAD", "happy"]


# ----------------------------------------------------------------------------------------------------------------- JSON

OBJECTS = [{"audio": "a.wav", "text": "hello", "label": "sad"}, {"audio": "b.wav", "text": "you", "label": "ang"}]
COLUMNS = {name: [row[name] for row in OBJECTS] for name in OBJECTS[0]}
JSON = {
    "lines": ("m.jsonl", "\n".join(map(json.dumps, OBJECTS))),
    "lines with blank ones and Windows ends": ("m.jsonl", "\r\n\r\n".join(map(json.dumps, OBJECTS)) + "\r\n\r\n"),
    "lines in .json": ("m.json", "\n".join(map(json.dumps, OBJECTS))),
    "lines in .ndjson": ("m.ndjson", "\n".join(map(json.dumps, OBJECTS))),
    "a list": ("m.json", json.dumps(OBJECTS, indent=1)),
    "a list with a byte order mark": ("m.json", "\ufeff" + json.dumps(OBJECTS)),
    "a list in a field": ("m.json", json.dumps({"version": 1, "data": OBJECTS})),
    "a list in the only field": ("m.json", json.dumps({"data": OBJECTS})),
    "lists of columns": ("m.json", json.dumps(COLUMNS)),
    "pandas' to_json": ("m.json", json.dumps({name: {"0": a, "1": b} for name, (a, b) in COLUMNS.items()})),
    "a row under every id": ("m.json", json.dumps({row["audio"]: row for row in OBJECTS})),
    "a list in .jsonl": ("m.jsonl", json.dumps(OBJECTS)),
}


@pytest.mark.parametrize("form", JSON)
def test_every_form_of_json(form, place, train):
    name, content = JSON[form]
    (place / name).write_text(content)
    assert [(turn.id, turn.text) for turn in answer(place / name)] == [("a.wav", "hello"), ("b.wav", "you")]
    assert {row["id"]: row["text"] for row in train(place / name)[0]} == {"a.wav": "hello", "b.wav": "you"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m.jsonl", '{"text": "a"}\n{"text": "b"', "after 1 rows: .*line 2"),
        ("m.jsonl", '{"text": "a", "text": "b"}', "'text' is there twice"),
        ("m.jsonl", '["a"]', "must be a JSON object"),
        ("m.json", '{"a.wav": {"said": "x"}, "b.wav": {"as": "y"}}', "expected a list of objects"),
        ("m.json", "[]", "has no rows"),
        ("m.json", "3", "expected a list of objects"),
        ("m.json", '[{"data": {"audio": "a.wav"}, "annotations": []}]', "data, annotations"),
        ("m.jsonl", '{"id": 1, "text": 3}', "text must be a string"),
        ("m.jsonl", '{"text": "a", "history": "b"}', "history must be a list"),
        ("m.xlsx", "", "no file of .csv"),
        ("m.parquet", "no parquet", "no parquet file"),
    ],
)
def test_json_that_is_no_table_is_refused(name, content, reason, place, train):
    (place / name).write_text(content)
    with pytest.raises(ValueError, match=f"(?s){reason}|no label"):
        train(place / name)
    if name != "m.xlsx" and "string" not in reason:  # a file of another kind, and a text of another type, fail alone
        with pytest.raises(ValueError, match=reason):
            answer(place / name)


def test_zero_is_something(place, train):
    rows = [
        {"id": 2 * dialog + turn, "text": f"turn {turn}", "dialog": dialog, "turn": turn, "label": turn}
        for dialog in (0, 1)
        for turn in (0, 1)
    ]
    (place / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dialogs = read_inputs([str(place / "m.jsonl")], False)
    assert [[turn.id for turn in dialog] for dialog in dialogs] == [["0", "1"], ["2", "3"]]
    dataset, report = train(place / "m.jsonl", dialog_column="dialog", order_column="turn")
    assert [row["history"] for row in by_id(dataset).values()] == [[], ["turn 0"]] * 2
    assert report.classes == ["0", "1"] and set(dataset["dialog"]) == {"0", "1"}


# -------------------------------------------------------------------------------------------------------------- parquet


def test_parquet_keeps_types_names_of_classes_and_recordings(place, train):
    audio = [{"bytes": (place / name).read_bytes(), "path": None} for name in ("a.wav", "b.wav")]
    data = {"id": ["007", "None"], "text": ["NA", "null"], "label": [1, 0], "audio": audio}
    dataset = datasets.Dataset.from_dict(data).cast_column("label", datasets.ClassLabel(names=["zeal", "awe"]))
    dataset.cast_column("audio", datasets.Audio()).to_parquet(place / "m.parquet")
    rows, report = train(place / "m.parquet")
    assert report.classes == ["zeal", "awe"]
    assert {row["id"]: (row["text"], row["label"]) for row in rows} == {"007": ("NA", 1), "None": ("null", 0)}
    turns = answer(place / "m.parquet")
    assert [turn.id for turn in turns] == ["007", "None"]
    np.testing.assert_array_equal(load_audio(turns[0].recording()[0]), SPEECH[:RATE])


def test_parquet_of_pandas_categories(place, train):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b", None], "emotion": pandas.Categorical(["joy", "rage", "joy"])})
    frame.to_parquet(place / "m.parquet")
    _, report = train(place / "m.parquet")
    assert report.classes == ["joy", "rage"] and len(report.notes["text_missing"]) == 1


# -------------------------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("name", ["Text", " text", "TEXT ", "transcript", "Transcription", "sentence", "Utterance"])
def test_names_of_the_text(name, place, train, caplog):
    (place / "m.csv").write_text(f"{name},label\nhello,a\nyou,b\n")
    assert [turn.text for turn in answer(place / "m.csv")] == ["hello", "you"]
    assert f"text from {name.strip()!r}" in caplog.text or name.strip() == "text"
    assert "columns passed on to the output: 'label'" in caplog.text
    _, report = train(place / "m.csv")
    assert report.has_text and ("columns taken: text from" in report.format()) == (name.strip() != "text")


@pytest.mark.parametrize(
    "name",
    ["audio", "path", "File", "filename", "file_name", "File Name", "wav", "audio_path", "audio_filepath", "FilePath"],
)
def test_names_of_the_recording(name, place, train):
    (place / "m.csv").write_text(f"{name},label\na.wav,x\nb.wav,y\n")
    assert [turn.audio for turn in answer(place / "m.csv")] == [str(place / "a.wav"), str(place / "b.wav")]
    assert sorted(train(place / "m.csv")[0]["num_frames"]) == [RATE, 2 * RATE]


def test_what_is_not_used_and_what_there_is_are_named(place, train):
    (place / "m.csv").write_text("audio,Emotion,speaker_id,mood,notes\na.wav,x,s,1,n\nb.wav,y,t,2,n\n")
    dataset, report = train(place / "m.csv")
    assert "columns taken: label from 'Emotion', speaker from 'speaker_id'" in report.format()
    assert "columns not used: 'mood', 'notes'" in report.format() and sorted(dataset["speaker"]) == ["s", "t"]
    with pytest.raises(ValueError, match="label_column 'emotoin': its columns are audio, Emotion.*mean 'Emotion'"):
        train(place / "m.csv", label_column="emotoin")
    assert train(place / "m.csv", label_column="emotion")[1].classes == ["x", "y"]
    (place / "none.csv").write_text("audio,mood\na.wav,x\n")
    with pytest.raises(ValueError, match="no label_column 'label': its columns are audio, mood"):
        train(place / "none.csv")
    (place / "neither.csv").write_text("mood,label\na.wav,x\n")
    with pytest.raises(ValueError, match="neither audio_column nor text_column.*mood, label"):
        train(place / "neither.csv")


def test_an_option_decides_between_two_columns(place, train):
    (place / "m.csv").write_text("text,transcript,label\nhello,hallo,a\nyou,du,b\n")
    with pytest.raises(ValueError, match="could be the text: 'text', 'transcript'; say which with --text_column"):
        train(place / "m.csv")
    assert set(train(place / "m.csv", text_column="transcript")[0]["text"]) == {"hallo", "du"}


def test_a_column_of_audio_is_the_recording_whatever_others_are_called(place, train):
    audio = [{"bytes": (place / name).read_bytes(), "path": None} for name in ("a.wav", "b.wav")]
    data = {"path": ["x.mp3", "y.mp3"], "audio": audio, "label": ["a", "b"]}
    dataset = datasets.Dataset.from_dict(data).cast_column("audio", datasets.Audio())
    assert sorted(train(dataset)[0]["num_frames"]) == [RATE, 2 * RATE]


def test_one_column_is_not_taken_twice():
    assert choose_columns(["path"], ("audio", "text"), {"text": "path"}).names == {"text": "path", "audio": None}
    assert choose_columns(["speaker"], ("speaker",), {"fold": "speaker"}).names == {"fold": "speaker", "speaker": "speaker"}


# ------------------------------------------------------------------------------------------------------ dialogs, history


def test_the_order_of_turns_is_numbers_also_as_text(place, train):
    numbers = [10, 2, 12, 1, 11, 3, 9, 4, 8, 5, 7, 6]
    lines = [f"u{number},text {number},d,{number},{'ab'[number % 2]}" for number in numbers]
    lines += [f"v{number},text {number},e,{number},{'ab'[number % 2]}" for number in numbers]
    (place / "m.csv").write_text("id,text,dialog,order,label\n" + "\n".join(lines) + "\n")
    first, second = read_inputs([str(place / "m.csv")], False)
    assert [turn.id for turn in first] == [f"u{number}" for number in range(1, 13)]
    dataset, _ = train(place / "m.csv", dialog_column="dialog", order_column="order")
    told = by_id(dataset)["u12"]["history"]
    assert told == [f"text {number}" for number in range(1, 12)]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["10", "9.5", "-1"], [2, 1, 0]),
        (["turn10", "turn2", "Turn1"], [2, 1, 0]),
        (["00:16:16,059", "00:01:02,000"], [1, 0]),
        (["2024-02-01T10:00", "2023-12-31"], [1, 0]),
        (["1", "10a", "2b"], [0, 2, 1]),
    ],
)
def test_places_are_sorted_by_the_numbers_in_them(places, expected):
    keys = order_keys(places)
    assert sorted(range(len(places)), key=lambda index: keys[index]) == expected


def test_places_without_numbers_are_refused_by_both(place, train):
    (place / "m.csv").write_text("id,text,dialog,order,label\n1,a,d,first,x\n2,b,d,second,y\n3,c,e,third,y\n")
    with pytest.raises(ValueError, match="order must be a number, got 'first'"):
        answer(place / "m.csv")
    with pytest.raises(ValueError, match="order must be a number, got 'first'"):
        train(place / "m.csv", dialog_column="dialog", order_column="order")
    (place / "m.csv").write_text("id,text,dialog,order,label\n1,a,d,1,x\n2,b,d,,y\n")
    with pytest.raises(ValueError, match="row 2: order is missing"):
        answer(place / "m.csv")


def test_histories_that_are_given_are_obeyed_by_both(place, train):
    rows = [{"text": "a", "history": ["x", None, "y"], "label": "p"}, {"text": "b", "history": None, "label": "q"}]
    (place / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [turn.history for turn in answer(place / "m.jsonl")] == [["x", "y"], None]
    dataset, report = train(place / "m.jsonl")
    assert {row["text"]: row["history"] for row in dataset} == {"a": ["x", "y"], "b": []}
    assert report.history == "the earlier turns of the column history"
    (place / "m.csv").write_text('text,history,label\na,"[""x"", ""y""]",p\nb,,q\n')
    assert [turn.history for turn in answer(place / "m.csv")] == [["x", "y"], None]
    assert {row["text"]: row["history"] for row in train(place / "m.csv")[0]} == {"a": ["x", "y"], "b": []}


def write_meld(folder: Path) -> Path:
    """MELD's three tables: dialogs and utterances numbered from 0 in each, curly quotes in cp1252, Windows line ends."""
    folder.mkdir()
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
    for split in ("train", "dev", "test"):
        lines = [
            f'{number},"{split} {dialog} {turn}, it\u2019s",Joey,{("joy", "anger")[turn % 2]},positive,{dialog},{turn},8,21,'
            f'"00:16:1{turn},059","00:16:1{turn + 1},731"\r\n'
            for number, (dialog, turn) in enumerate((d, t) for d in range(2) for t in range(3))
        ]
        (folder / f"{split}_sent_emo.csv").write_bytes((header + "".join(lines)).encode("cp1252"))
    return folder


def test_dialogs_are_local_to_their_split_in_meld(tmp_path, train):
    folder = write_meld(tmp_path / "meld")
    dataset, report = train(folder, test_split="test", dialog_column="Dialogue_ID", order_column="Utterance_ID")
    assert len(dataset) == 18 and len(set(dataset["dialog"])) == 6
    for row in dataset:
        split, dialog, turn = row["text"].split(",")[0].split()
        assert row["history"] == [f"{split} {dialog} {number}, it\u2019s" for number in range(int(turn))]
        assert row["session"] == (1 if split == "test" else 2) and row["dialog"].startswith(
            {"dev": "validation"}.get(split, split)
        )
    assert "2 dialogs occur in several splits or tables" in report.format() and report.notes["shared_speaker"] == ["Joey"]
    turns = read_inputs([str(folder / "dev_sent_emo.csv")], False)
    assert [[turn.text.split(",")[0] for turn in dialog] for dialog in turns] == [
        [f"dev {dialog} {turn}" for turn in range(3)] for dialog in range(2)
    ]


def test_ids_are_local_to_their_split_and_twins_are_refused_by_both_in_the_same_words(tmp_path, train):
    folder = tmp_path / "set"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(f"id,text,label\n0,{split} a,x\n1,{split} b,y\n")
    assert sorted(train(folder, test_split="test")[0]["id"]) == ["test/0", "test/1", "train/0", "train/1"]
    assert sorted(turn.id for turn in answer(folder)) == ["test/0", "test/1", "train/0", "train/1"]
    (folder / "test.csv").write_text("id,text,label\n0,a,x\n1,b,y\n1,c,y\n")
    for read in (lambda: train(folder, test_split="test"), lambda: answer(folder)):
        with pytest.raises(ValueError, match="has 1 ids in several rows, such as '1' in 2 rows of test: every id must be"):
            read()


def test_rows_that_share_a_recording_without_an_id_are_numbered_by_both(place, train, caplog):
    (place / "m.csv").write_text("audio,text,label\na.wav,hello,x\na.wav,you,y\nb.wav,late,x\n")
    names = ["a.wav", "a.wav#2", "b.wav"]
    dataset, report = train(place / "m.csv")
    assert sorted(dataset["id"]) == names and report.notes["duplicate_id"] == ["a.wav"]
    assert [(turn.id, turn.text) for turn in answer(place / "m.csv")] == list(
        zip(names, ["hello", "you", "late"], strict=True)
    )
    assert "1 rows without an id are called like another row, and got a number: a.wav#2" in caplog.text


# ------------------------------------------------------------------------------------------------------- real exports


@pytest.mark.skipif(not (SHARED / "ravdess" / "metadata.csv").is_file(), reason="no real recordings beside the checkout")
def test_ravdess_is_read_whole_by_both(train):
    rows = rows_of(SHARED / "ravdess" / "metadata.csv")
    dataset, report = train(SHARED / "ravdess", fold_column="fold")
    assert len(dataset) == len(rows) == report.num_samples and not report.num_damaged
    assert {row["id"] for row in dataset} == {row["file_name"] for row in rows}
    assert {turn.id for turn in answer(SHARED / "ravdess")} == {row["file_name"] for row in rows}


def test_label_studio(place, train):
    rows = [
        {"audio": "/data/upload/1/a.wav", "id": 1, "label": "Happy", "transcription": "hello", "annotator": 1},
        {"audio": "a.wav", "id": 2, "label": {"choices": ["Happy", "Sad"]}, "transcription": "you", "annotator": 1},
    ]
    (place / "min.json").write_text(json.dumps(rows, indent=1))
    with pytest.raises(ValueError, match="row train-000001 .min.json, row 2.: label .*choices.*: expected a name"):
        train(place / "min.json")
    rows[1]["label"] = "Sad"
    (place / "min.json").write_text(json.dumps(rows, indent=1))
    with pytest.raises(ValueError, match="no row of Happy has a recording.*no file /data/upload/1/a.wav; paths are taken"):
        train(place / "min.json")
