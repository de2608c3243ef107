"""What the name of a corpus stands for: folders, paths, parts of recordings, columns of audio; both doors agree."""

import json
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from doors import RATE, SPEECH, answer, by_id, wav, write_clips
from releases import write_release

from lemer.audio_lemer import load_audio
from lemer.corpora import any_source
from lemer.corpora.columns import as_seconds
from lemer.corpora.iemocap import load_iemocap
from lemer.corpora.recordings import choose_part
from lemer.corpora.sources import table_split_name

# ------------------------------------------------------------------------------------------------- parts of a recording


@pytest.mark.parametrize(
    ("seconds", "start", "end", "shared", "part"),
    [
        (3, None, None, False, None),
        (3, 0, 1, False, (0, 1)),
        (3, 1, 2, True, (1, 2)),
        (3, 2, 3.04, True, (2, 3)),  # times are rounded
        (3, 0, 3.04, False, (0, 3)),
        (3, 0.05, 3.05, False, None),
        (3, 0.05, 3, False, (0.05, 3)),
        (3, 1, None, False, None),  # no part without both
        (3, None, 2, True, "no part"),
        (3, 976.1, 979.0, False, None),  # the clip was cut from an episode
        (3, 2, 5, False, None),  # as long as the time between them
        (3, 2, 5, True, "no part"),
        (3, 976.1, 979.0, True, "no part"),
        (3, 1, None, True, "start without end"),
        (0.4, 100, 300, False, "milliseconds"),
        (4, 1000, 2000, True, "milliseconds"),
        (3, 2, 8, False, "no part"),
        (3, 0, 8, False, "no part"),
        (3, 2, 2, False, "not before"),
        (3, 2, 1, False, "not before"),
    ],
)
def test_which_part_of_a_recording_times_mean(seconds, start, end, shared, part):
    if isinstance(part, str):
        with pytest.raises(ValueError, match=part):
            choose_part(seconds, start, end, shared)
    else:
        assert choose_part(seconds, start, end, shared) == part


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1.5", 1.5), ("1,5", 1.5), (2, 2.0), ("00:16:16,059", 976.059), ("1:02.5", 62.5), ("", None), (None, None), (0, 0.0)],
)
def test_times_are_seconds_or_clock_times(written, seconds):
    assert as_seconds(written, "start") == (seconds if seconds is None else pytest.approx(seconds))
    for bad in ("soon", "-1", "nan", "inf", True):
        with pytest.raises(ValueError, match="start must be seconds"):
            as_seconds(bad, "start")


TIMES = {
    "start and end": ("file,start,end,label", ["call.wav,0,1,x", "call.wav,1,2,y", "call.wav,2,3,x"]),
    "clock times": (
        "File,Start_Time,End_Time,label",
        ["call.wav,0:00,0:01,x", "call.wav,0:01,0:02,y", "call.wav,0:02,0:03.0,x"],
    ),
    "commas": ("file;begin;end;label", ["call.wav;0,0;1,0;x", "call.wav;1,0;2,0;y", "call.wav;2,0;3,0;x"]),
    "NeMo": ("audio_filepath,offset,duration,label", ["call.wav,0,1,x", "call.wav,1,1,y", "call.wav,2,1,x"]),
}


@pytest.mark.parametrize("form", TIMES)
def test_rows_of_one_file_are_its_parts(form, tmp_path, train):
    header, lines = TIMES[form]
    (tmp_path / "call.wav").write_bytes(wav())
    (tmp_path / "m.csv").write_text("\n".join([header, *lines]) + "\n")
    dataset, report = train(tmp_path / "m.csv")
    names = [f"call.wav[{second}-{second + 1}]" for second in range(3)]
    rows = by_id(dataset)
    turns = answer(tmp_path / "m.csv")
    assert [turn.id for turn in turns] == names == sorted(rows)
    for second, (name, turn) in enumerate(zip(names, turns, strict=True)):
        part = SPEECH[second * RATE : (second + 1) * RATE]
        row = rows[name]
        assert (row["start"], row["end"], row["num_frames"]) == (second, second + 1, RATE)
        np.testing.assert_array_equal(load_audio(row["audio"]), part)
        audio, offset = turn.recording()
        np.testing.assert_array_equal(load_audio(audio), part)
        assert offset == second
    assert "start and end cut 3 rows out of 1 recordings" in report.format() and not report.num_damaged


def test_columns_in_milliseconds_are_read_so(tmp_path, train):
    (tmp_path / "call.wav").write_bytes(wav())
    (tmp_path / "m.csv").write_text("file,start_ms,end_ms,label\ncall.wav,0,1000,x\ncall.wav,1000,1500,y\n")
    assert {row["id"]: row["num_frames"] for row in train(tmp_path / "m.csv")[0]} == {
        "call.wav[0-1]": 16_000,
        "call.wav[1-1.5]": 8000,
    }
    assert [(turn.start, turn.end) for turn in answer(tmp_path / "m.csv")] == [(0, 1), (1, 1.5)]


def test_a_start_alone_does_not_give_every_row_the_whole_recording(tmp_path, train):
    (tmp_path / "call.wav").write_bytes(wav())
    soundfile.write(tmp_path / "other.wav", SPEECH[:8000], 16_000)
    (tmp_path / "m.csv").write_text("file,start,label\ncall.wav,0,x\ncall.wav,1,y\nother.wav,,x\n")
    with pytest.raises(ValueError, match="2 part_damaged.*start without end.*is no part of a recording, which 2 rows"):
        train(tmp_path / "m.csv")
    with pytest.raises(ValueError, match="start without end"):
        answer(tmp_path / "m.csv")[0].recording()


def test_parts_of_8_khz_and_of_floats_are_exact_to_both(tmp_path, train):
    soundfile.write(tmp_path / "slow.wav", SPEECH[: 2 * 8000], 8000, subtype="PCM_16")
    (tmp_path / "m.csv").write_text("id,file,start,end,label\n1,slow.wav,0.5,1.25,x\n2,slow.wav,1.25,2,y\n")
    rows, turns = by_id(train(tmp_path / "m.csv")[0]), answer(tmp_path / "m.csv")
    whole = load_audio(tmp_path / "slow.wav")
    for name, turn, (first, last) in zip("12", turns, [(8000, 20000), (20000, 32000)], strict=True):
        np.testing.assert_array_equal(load_audio(rows[name]["audio"]), whole[first:last])
        np.testing.assert_array_equal(load_audio(turn.recording()[0]), whole[first:last])
        assert rows[name]["num_frames"] == 12000


def test_a_long_file_is_decoded_once_for_its_parts(tmp_path, train, monkeypatch):
    heard = []
    monkeypatch.setattr(
        "lemer.corpora.recordings.load_and_check_audio", lambda path: heard.append(path) or (load_audio(path), [])
    )
    (tmp_path / "call.wav").write_bytes(wav())
    lines = [f"call.wav,{index / 10},{(index + 1) / 10},{'xy'[index % 2]}" for index in range(30)]
    (tmp_path / "m.csv").write_text("\n".join(["file,start,end,label", *lines]))
    assert train(tmp_path / "m.csv")[0]["num_frames"] == [1600] * 30 and len(heard) == 1
    (tmp_path / "call.wav").write_bytes(wav(SPEECH[::-1]))  # a changed file is read again
    assert train(tmp_path / "m.csv")[0]["num_frames"] == [1600] * 30 and len(heard) == 2


def test_times_in_a_dialog_do_not_cut_clips_that_were_cut(tmp_path, train):
    """As in the project's own schema, and in MELD with StartTime and EndTime in the episode."""
    write_clips(tmp_path, "a.wav", "b.wav", "c.wav")
    (tmp_path / "m.csv").write_text("file,start,end,label\na.wav,0,0.0625,x\nb.wav,0.1,0.225,y\nc.wav,00:16:16,00:16:18,x\n")
    dataset, report = train(tmp_path / "m.csv")
    assert sorted(dataset["num_frames"]) == [1000, 2000, 3000] and not report.num_damaged
    assert by_id(dataset)["b.wav"]["start"] == 0.1 and sorted(report.notes["whole_recording"]) == ["b.wav", "c.wav"]
    lengths = {turn.id: len(load_audio(turn.recording()[0])) for turn in answer(tmp_path / "m.csv")}
    assert lengths == {"a.wav": 1000, "b.wav": 2000, "c.wav": 3000} and by_id(dataset).keys() == lengths.keys()


def test_times_outside_of_a_recording_are_damage(tmp_path, train):
    (tmp_path / "call.wav").write_bytes(wav())
    lines = ["1,call.wav,0,1000,x", "2,call.wav,1000,2000,y", "3,call.wav,2,1,x", "4,call.wav,0,1,x", "5,call.wav,1,2,y"]
    (tmp_path / "ms.csv").write_text("\n".join(["id,file,start,end,label", *lines]))
    dataset, report = train(tmp_path / "ms.csv")
    assert [name.split()[0] for name in sorted(report.notes["part_damaged"])] == ["1", "2", "3"]
    assert {row["id"]: row["num_frames"] for row in dataset} == {"1": 0, "2": 0, "3": 0, "4": RATE, "5": RATE}
    for turn in answer(tmp_path / "ms.csv")[:3]:
        with pytest.raises(ValueError, match="no part of a recording of 3.00 s|not before"):
            turn.recording()
    (tmp_path / "bad.csv").write_text("file,start,label\ncall.wav,soon,x\n")
    for read in (train, answer):
        with pytest.raises(ValueError, match="start must be seconds.*'soon'"):
            read(tmp_path / "bad.csv")


def test_rows_that_share_a_file_without_times_are_said(tmp_path, train):
    write_clips(tmp_path, "a.wav", "b.wav")
    (tmp_path / "m.csv").write_text("file,label\na.wav,x\na.wav,y\nb.wav,x\n")
    _, report = train(tmp_path / "m.csv")
    assert len(report.notes["shared_recording"]) == 2 and "shared_recording" in report.format()


def test_parts_survive_a_kill(tmp_path, train, monkeypatch):
    (tmp_path / "call.wav").write_bytes(wav())
    lines = [f"call.wav,{index / 10},{(index + 1) / 10},{'xy'[index % 2]}" for index in range(30)]
    (tmp_path / "m.csv").write_text("\n".join(["file,start,end,label", *lines]))
    monkeypatch.setattr(any_source, "SHARD", 4)
    monkeypatch.setattr(any_source, "PROCESSES", 1)  # all parts are cut by this one
    cut, count = any_source.cut_part, []

    def stop(samples, part):
        count.append(part)
        if len(count) == 15:
            raise KeyboardInterrupt
        return cut(samples, part)

    monkeypatch.setattr(any_source, "cut_part", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "m.csv")
    monkeypatch.setattr(any_source, "cut_part", lambda *given: count.append(given) or cut(*given))
    dataset, _ = train(tmp_path / "m.csv")
    assert len(count) == 15 + 30 - 12 and len(set(dataset["id"])) == 30


# ---------------------------------------------------------------------------------------------------------------- paths


def test_where_paths_lead(tmp_path, train, monkeypatch):
    write_clips(tmp_path, "set/clips/a b.wav", "set/c.wav", "here/d.wav", "set/ü.wav")
    (tmp_path / "here" / "c.wav").write_bytes(b"another one")  # the table's folder comes first
    monkeypatch.chdir(tmp_path / "here")
    os.symlink(tmp_path / "set" / "c.wav", tmp_path / "set" / "link.wav")
    paths = {
        "relative": "clips/a b.wav",
        "windows": "clips\\a b.wav",
        "dots": "./clips/../clips/a b.wav",
        "absolute": str(tmp_path / "set" / "clips" / "a b.wav"),
        "address": (tmp_path / "set" / "clips" / "a b.wav").as_uri(),
        "table first": "c.wav",
        "current folder": "d.wav",
        "link": "link.wav",
        "letters": "ü.wav",
    }
    lines = [f"{name}\t{path}\t{'xy'[index % 2]}" for index, (name, path) in enumerate(paths.items())]
    (tmp_path / "set" / "m.tsv").write_text("\n".join(["id\tpath\tlabel", *lines]) + "\n")
    dataset, report = train(tmp_path / "set" / "m.tsv")
    expected = dict.fromkeys(paths, 1000) | {"table first": 2000, "current folder": 3000, "link": 2000, "letters": 4000}
    assert {row["id"]: row["num_frames"] for row in dataset} == expected
    assert {turn.id: len(load_audio(turn.recording()[0])) for turn in answer(tmp_path / "set" / "m.tsv")} == expected


def test_recordings_that_were_not_there_are_looked_for_again(tmp_path, train, monkeypatch):
    write_clips(tmp_path, "here/a.wav", "here/b.wav", "set/c.wav", "set/d.wav")
    (tmp_path / "set" / "m.csv").write_text("path,label\na.wav,x\nb.wav,y\nc.wav,x\nd.wav,y\n")
    monkeypatch.chdir(tmp_path)
    assert train(tmp_path / "set" / "m.csv")[1].num_samples == 2
    monkeypatch.chdir(tmp_path / "here")
    assert train(tmp_path / "set" / "m.csv")[1].num_samples == 4
    monkeypatch.chdir(tmp_path)
    assert train(tmp_path / "set" / "m.csv")[1].num_samples == 4
    (tmp_path / "set" / "a.wav").write_bytes(wav(SPEECH[:700]))
    os.remove(tmp_path / "here" / "a.wav")
    assert 700 in train(tmp_path / "set" / "m.csv")[0]["num_frames"]


def test_paths_that_lead_nowhere_say_from_where_they_were_taken_and_what_lies_near(tmp_path, train):
    write_clips(tmp_path, "clips/a.wav", "clips/b.wav")
    (tmp_path / "validated.tsv").write_text("path\tsentence\tlabel\na.wav\thello\tx\nb.wav\tyou\ty\n")
    with pytest.raises(ValueError, match=r"no row of x, y has a recording.*2 audio_damaged.*such as clips/a.wav"):
        train(tmp_path / "validated.tsv")
    (tmp_path / "windows.csv").write_text("path,label\nC:\\Users\\me\\clips\\a.wav,x\n,y\nclips/b.wav,y\nclips/a.wav,x\n")
    _, report = train(tmp_path / "windows.csv")
    assert len(report.notes["audio_damaged"]) == len(report.notes["audio_missing"]) == 1
    assert "such as clips/a.wav" in report.notes["audio_damaged"][0]


# -------------------------------------------------------------------------------------------------------------- folders


def test_no_recording_in_class_folders_is_left_out(tmp_path, train):
    """Whatever its name says, and whatever its ending."""
    names = ["joy/test_1.wav", "joy/train_2.WAV", "joy/3.flac", "rage/dev-4.wav", "rage/5.wav", "rage/validation.ogg"]
    endings = [f"joy/{ending}.{ending}" for ending in ("m4a", "mp4", "aac", "amr", "webm", "3gp", "wma")]
    folder = write_clips(tmp_path / "set", *names)
    for name in endings:
        (folder / name).write_bytes(b"no recording")
    dataset, report = train(folder)
    assert sorted(dataset["id"]) == sorted([*names, *endings])
    assert sorted(name.split(" ")[0] for name in report.notes["audio_damaged"]) == sorted(endings)
    assert report.classes == ["joy", "rage"] and report.num_samples == 6
    assert sorted(turn.id for turn in answer(folder)) == sorted(str(folder / name) for name in [*names, *endings])


def test_hidden_and_other_files_are_counted_and_named(tmp_path, train, caplog):
    folder = write_clips(tmp_path / "set", "joy/a.wav", "rage/b.wav", "joy/._a.wav", "__MACOSX/joy/a.wav", ".git/c.wav")
    (folder / "joy" / "notes.txt").write_text("x")
    (folder / "LICENSE").write_text("x")
    dataset, report = train(folder)
    assert sorted(dataset["id"]) == ["joy/a.wav", "rage/b.wav"]
    text = report.format()
    assert "3 hidden files left out" in text and "joy/._a.wav" in text
    assert "2 files that are no recordings left out: without an ending (1), .txt (1)" in text
    assert len(answer(folder)) == 2 and "3 hidden files left out" in caplog.text


def test_folders_named_like_splits_are_splits(tmp_path, train):
    folder = write_clips(tmp_path / "set", "train/joy/a.wav", "train/rage/b.wav", "test/joy/a.wav", "test/rage/c.wav")
    dataset, report = train(folder, test_split="test")
    assert {row["id"]: row["session"] for row in dataset} == {
        "train/joy/a.wav": 2,
        "train/rage/b.wav": 2,
        "test/joy/a.wav": 1,
        "test/rage/c.wav": 1,
    }
    assert report.classes == ["joy", "rage"]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["0001/Angry/a.wav", "0001/Happy/b.wav", "0002/Angry/c.wav"], ["Angry", "Happy", "Angry"]),
        (["joy/act1/a.wav", "joy/act2/b.wav", "sad/act1/c.wav"], ["joy", "joy", "sad"]),
        (["x/p/a.wav", "y/p/b.wav", "y/q/c.wav"], ["p", "p", "q"]),
    ],
)
def test_of_folders_within_folders_emotions_are_the_label(names, labels, tmp_path, train):
    dataset, report = train(write_clips(tmp_path / "set", *names))
    rows = by_id(dataset)
    assert [report.classes[rows[name]["label"]] for name in names] == labels
    assert f"{labels[0]} in {names[0].rpartition('/')[0]} is taken as the label" in report.format()


def test_links_to_folders_are_followed_and_circles_end(tmp_path, train):
    write_clips(tmp_path / "real", "joy/a.wav")
    folder = write_clips(tmp_path / "set", "rage/b.wav")
    (folder / "rage" / "b.wav").write_bytes(wav(SPEECH[:1500]))
    os.symlink(tmp_path / "real" / "joy", folder / "joy")
    os.symlink(folder, folder / "rage" / "circle")
    dataset, _ = train(folder)
    assert sorted(dataset["id"]) == ["joy/a.wav", "rage/b.wav"]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "labels.csv", "all_train.tsv"])
def test_recordings_that_no_row_names_are_counted(name, tmp_path, train):
    folder = write_clips(tmp_path / "set", *(f"clips/train_{number}.wav" for number in range(10)))
    rows = [{"file_name": f"clips/train_{number}.wav", "emotion": "xy"[number % 2]} for number in range(4)]
    if name.endswith("jsonl"):
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    else:
        between = "\t" if name.endswith("tsv") else ","
        (folder / name).write_text("\n".join(map(between.join, [rows[0], *(row.values() for row in rows)])))
    dataset, report = train(folder)
    assert len(dataset) == 4 and "6 recordings in the folder have no row" in report.format()


def test_splits_may_lie_in_a_folder_of_their_own(tmp_path, train):
    folder = write_clips(tmp_path / "set", *(f"data/{split}/{label}/a.wav" for split in ("train", "Test") for label in "xy"))
    rows, report = train(folder, test_split="test")
    assert report.classes == ["x", "y"] and rows["session"] == [1, 1, 2, 2]


def test_two_tables_called_metadata_in_one_folder_are_refused(tmp_path, train):
    folder = write_clips(tmp_path / "set", "a.wav")
    (folder / "metadata.csv").write_text("file_name,label\na.wav,x\n")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.wav", "label": "x"}')
    for read in (train, answer):
        with pytest.raises(ValueError, match="has metadata.csv, metadata.jsonl: expected one"):
            read(folder)


def test_accents_in_paths_may_be_encoded_otherwise_than_on_disk(tmp_path, train):
    write_clips(tmp_path, "fro\u0308h.wav", "sp\u00e4t.wav")
    (tmp_path / "m.csv").write_text("file,label\nfr\u00f6h.wav,x\nspa\u0308t.wav,y\n")
    assert sorted(train(tmp_path / "m.csv")[0]["num_frames"]) == [1000, 2000]
    assert [len(load_audio(turn.recording()[0])) for turn in answer(tmp_path / "m.csv")] == [1000, 2000]


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("A.WAV", "a file a.wav lies there"),
        ("a", "a file a.wav lies there"),
        (".", "that is a folder"),
        ("l.wav", "a link to"),
    ],
)
def test_prediction_says_what_lies_in_the_place_of_a_missing_recording(written, hint, tmp_path):
    folder = write_clips(tmp_path / "set", "a.wav")
    (folder / "l.wav").symlink_to("/gone.wav")
    (folder / "m.csv").write_text(f"file\n{written}\n")
    with pytest.raises(FileNotFoundError, match=hint):
        answer(folder / "m.csv")[0].recording()


def test_a_table_without_labels_does_not_hide_class_folders(tmp_path, train):
    folder = write_clips(tmp_path / "set", "joy/a.wav", "rage/b.wav")
    (folder / "sizes.csv").write_text("file,size\njoy/a.wav,3\n")
    _, report = train(folder)
    assert report.num_samples == 2 and "1 tables are not read, since they have no label: sizes.csv" in report.format()


def test_a_folder_with_metadata_is_answered_with_its_words(tmp_path):
    folder = write_clips(tmp_path / "set", "a.wav", "b.wav")
    (folder / "metadata.csv").write_text("file_name,transcription\na.wav,hello\n")
    assert [(turn.id, turn.text) for turn in answer(folder)] == [("a.wav", "hello")]


def test_a_repository_of_the_hub_is_read_as_its_readme_says_and_without_guesses(tmp_path, train):
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: words\n  data_files:\n  - split: train\n    path: data/a*.csv\n"
        "  - split: test\n    path: data/b.csv\n---\n"
    )
    for name in ("a_test.csv", "b.csv", "c.csv"):
        (tmp_path / "set" / "data" / name).write_text("id,text,label\n01,None,x\n02,NA,y\n")
    dataset, _ = train(tmp_path / "set", test_split="test")
    assert by_id(dataset).keys() == {"train/01", "train/02", "test/01", "test/02"}
    assert set(dataset["text"]) == {"None", "NA"}


@pytest.mark.parametrize("cells", [("0", "1", "-1"), ("sad", "ang", "")])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_classes_that_a_readme_names_are_known_by_number_and_by_name(tmp_path, train, cells, suffix):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files: train.{suffix}\ndataset_info:\n  features:\n"
        "  - name: text\n    dtype: string\n  - name: label\n    dtype:\n      class_label:\n        names:\n"
        "          '0': sad\n          '1': ang\n---\n"
    )
    rows = [{"text": f"words {number}", "label": cells[number % 3]} for number in range(9)]
    if suffix == "csv":
        text = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)
    else:
        text = "".join(
            json.dumps(row | {"label": int(row["label"]) if cells[0] == "0" else row["label"]}) + "\n" for row in rows
        )
    (tmp_path / "set" / f"train.{suffix}").write_text(text)
    dataset, _ = train(tmp_path / "set", test_share=0.5)
    names = dataset.features["label"].names
    labels = {row["text"]: names[row["label"]] for row in dataset if row["label"] >= 0}
    assert names == ["sad", "ang"]
    assert labels == {f"words {number}": names[number % 3] for number in range(9) if number % 3 < 2}


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train_sent_emo.csv", "train"),
        ("dev_sent_emo.csv", "validation"),
        ("data/test/0000.parquet", "test"),
        ("train-00000-of-00002.parquet", "train"),
        ("session1-00000-of-00001.parquet", "session1"),
        ("contest.csv", "train"),
        ("trained.csv", "train"),
        ("valid.tsv", "validation"),
        ("emotions.csv", "train"),
    ],
)
def test_splits_of_tables(path, split):
    assert table_split_name(Path(path)) == split


def test_shards_of_a_table_are_one(tmp_path, train):
    for shard, texts in enumerate([["a", "b"], ["c", "d"]]):
        rows = {"text": texts, "label": ["x", "y"], "dialog": ["d", "e"], "turn": [shard, shard]}
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "set" / f"train-{shard:05d}-of-00002.parquet")
    dataset, _ = train(tmp_path / "set", dialog_column="dialog", order_column="turn")
    assert {row["text"]: row["history"] for row in dataset} == {"a": [], "b": [], "c": ["a"], "d": ["b"]}


def test_tables_of_one_split_must_have_the_same_columns(tmp_path, train):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "one.csv").write_text("text,label\na,x\n")
    (tmp_path / "set" / "two.csv").write_text("text,emotion\na,x\n")
    with pytest.raises(ValueError, match="one.csv has the columns text, label, and .*two.csv has text, emotion"):
        train(tmp_path / "set")


# ----------------------------------------------------------------------------------------------------- columns of audio


@pytest.mark.parametrize("form", ["loaded", "splits", "save_to_disk", "parquet", "paths"])
def test_columns_of_audio_need_no_torchcodec(form, tmp_path, train):
    content = [{"bytes": wav(SPEECH[: 1000 * number]), "path": None} for number in (1, 2)]
    if form == "paths":
        write_clips(tmp_path, "1.wav", "2.wav")
        content = [str(tmp_path / f"{number}.wav") for number in (1, 2)]
    dataset = datasets.Dataset.from_dict({"clip_of_it": content, "other": content, "label": ["x", "y"]})
    dataset = dataset.cast_column("clip_of_it", datasets.Audio()).cast_column("other", datasets.Audio(decode=False))
    source = dataset
    if form == "splits":
        source = datasets.DatasetDict(train=dataset, test=dataset)
    elif form == "save_to_disk":
        source = tmp_path / "saved"
        dataset.save_to_disk(source)
    elif form == "parquet":
        source = tmp_path / "m.parquet"
        dataset.to_parquet(source)
    rows, _ = train(source, audio_column="clip_of_it")
    assert sorted(set(rows["num_frames"])) == [1000, 2000]
    assert {len(load_audio(audio)) for audio in rows["audio"]} == {1000, 2000}


def test_recordings_with_nothing_to_hear_are_counted(tmp_path, train):
    write_clips(tmp_path / "set", "joy/a.wav", "rage/b.wav")
    soundfile.write(tmp_path / "set" / "joy" / "muted.wav", np.zeros(1000), RATE)
    soundfile.write(tmp_path / "set" / "joy" / "opposite.wav", np.stack([SPEECH, -SPEECH], axis=1), RATE)
    _, report = train(tmp_path / "set")
    assert sorted(report.notes["audio_silent"]) == ["joy/muted.wav", "joy/opposite.wav"] and report.num_samples == 4


def test_what_a_loaded_dataset_may_hold(train):
    forms = [wav(SPEECH[:1000]), wav(SPEECH[:2000])]
    assert train(datasets.Dataset.from_dict({"audio": forms, "label": ["x", "y"]}))[0].num_rows == 2
    samples = [{"array": SPEECH[first : first + 500].tolist(), "sampling_rate": 8000} for first in (0, 500)]
    rows, _ = train(datasets.Dataset.from_dict({"audio": samples, "label": ["x", "y"]}))
    assert rows["num_frames"] == [1000, 1000]
    refused = {
        "samples without their rate": datasets.Dataset.from_dict({"audio": [[0.1, 0.2]] * 2, "label": ["x", "y"]}),
        "the dataset has no rows": datasets.Dataset.from_dict({"audio": [], "label": []}),
        "got IterableDataset": datasets.Dataset.from_dict({"text": ["a"], "label": ["x"]}).to_iterable_dataset(),
    }
    for reason, source in refused.items():
        with pytest.raises(ValueError, match=reason):
            train(source)


def test_num_frames_are_samples_at_16_khz_in_every_loader(tmp_path, train):
    root = write_release(tmp_path / "release", sessions=1, dialogs_per_session=1)
    for rate in (8000, 44_100):
        for path in root.rglob("*.wav"):
            samples, _ = soundfile.read(path, dtype="float32")
            soundfile.write(path, samples, rate)
        dataset, report = load_iemocap(root, cache_dir=tmp_path / "cache")
        used = [row["label"] >= 0 or any(row["votes"]) for row in dataset]  # by a training on classes or on votes
        heard = [len(load_audio(row["audio"])) if taken else 0 for row, taken in zip(dataset, used, strict=True)]
        assert dataset["num_frames"] == heard and max(heard) > 0 and len(report.notes["audio_other_rate"]) == 6


# ------------------------------------------------------------------------------------------------------------ bad input


def test_what_is_not_there_is_refused_at_once(tmp_path, train):
    for name in (tmp_path / "gone", str(tmp_path / "gone.csv"), "./gone", "gone.csv", "a/b/c", "C:\\clips"):
        with pytest.raises(FileNotFoundError, match="no file or folder .*; expected a table, a folder, or a name"):
            train(name)


def test_another_corpus_is_named(tmp_path, train):
    release = write_release(tmp_path / "release", sessions=1)
    with pytest.raises(ValueError, match="has IEMOCAP's layout .*give --corpus iemocap --data_dir"):
        train(release)
    write_clips(release, "joy/a.wav", "rage/b.wav")  # a mixture
    with pytest.raises(ValueError, match="If another corpus lies beside it, give that one's own folder"):
        train(release)
    folder = write_clips(tmp_path / "other", "joy/a.wav", "rage/b.wav")
    with pytest.raises(Exception, match="no IEMOCAP release in .*Any other corpus.*--corpus .*other"):
        load_iemocap(folder)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "holds neither recordings nor tables .*It is empty"),
        (["notes.txt"], r"holds neither recordings nor tables .*\.txt \(1\), such as notes.txt"),
        (["a.wav", "b.wav"], "the 2 recordings in .* have no labels: expected a folder for every class"),
        (["joy/a.wav", "joy/b.wav"], "at least two labels, the rows have joy"),
        (["._a.wav"], "1 hidden files left out"),
    ],
)
def test_folders_that_are_no_corpus(names, reason, tmp_path, train):
    (tmp_path / "set").mkdir()
    with pytest.raises(ValueError, match=reason):
        train(write_clips(tmp_path / "set", *names))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("text,label\na,\nb,\n", "at least two labels, the rows have none"),
        ("text,label\na,x\nb,X\n", "at least two labels, the rows have X"),
        ("audio,label\n,x\n,y\n", "no row of x, y has a recording that can be used: 2 audio_missing"),
        ("audio,label\ngone.wav,x\ngone.wav,y\n", "no row of x, y has a recording that can be used: 2 audio_damaged"),
    ],
)
def test_tables_without_labels_or_recordings(content, reason, tmp_path, train):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(ValueError, match=reason):
        train(tmp_path / "m.csv")


def test_a_class_of_the_test_fold_alone_is_counted_and_cannot_be_trained(tmp_path, train):
    (tmp_path / "m.csv").write_text("text,label,speaker\na,x,1\nb,y,1\nc,x,2\nd,y,2\ne,z,2\n")
    _, report = train(tmp_path / "m.csv", fold_column="speaker")
    assert report.notes["untrained_class"] == ["z (fold 2)"]
    report.check_folds([1])
    with pytest.raises(ValueError, match=r"nowhere else: z \(fold 2\).*--labels"):
        report.check_folds([1, 2])


def test_speakers_of_one_name_in_both_parts_are_counted(tmp_path, train):
    for split, speakers in (("train", "ab"), ("test", "bc")):
        lines = [f"{split} {name},{label},{name}" for name in speakers for label in "xy"]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label,speaker", *lines]))
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    _, report = train(tmp_path, test_split="test")
    assert report.notes["shared_speaker"] == ["b"] and "shared_speaker" in report.format()
