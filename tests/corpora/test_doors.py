"""All doors read or refuse the same and answer alike: training, prediction, pipeline, page and the example for Trainer."""

import json
import re
import runpy
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import torch
import transformers
from dialogs import REAL
from doors import RATE, SPEECH, answer, by_id, heard, wav, write_clips
from tiny import perturb, tiny_model, tiny_processor

import lemer.corpora.shards
import lemer.predict
from lemer import LemerPipeline, app
from lemer.corpora.iemocap import load_iemocap
from lemer.corpora.manifest import Stored, read_inputs
from lemer.corpora.sources import open_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "finetune_with_trainer.py"
CLIPS = [SPEECH[: 4000 * number] for number in (1, 2, 3, 4)]
NAMES = ("a.wav", "b.wav", "c.wav", "d.wav")
TEXTS, HISTORIES = ["hello you", "None", "we won the day", "you are late"], [[], ["hello"], ["i hate this", "late"], []]
REPOSITORY = """---
configs:
- {config_name: one, data_files: one/train.parquet}
- {config_name: two, data_files: two/train.parquet}
---
"""


# ---------------------------------------------------------------------------------------------- the same answers at all


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkpoint, and recordings with words and history as a table and as a saved dataset."""
    place = tmp_path_factory.mktemp("doors")
    perturb(tiny_model()).save_pretrained(place / "checkpoint")
    tiny_processor().save_pretrained(place / "checkpoint")
    for name, clip in zip(NAMES, CLIPS, strict=True):
        (place / name).write_bytes(wav(clip))
    columns = {"audio": list(NAMES), "text": TEXTS, "history": HISTORIES, "label": [0, 1, 0, 1]}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    (place / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns["audio"] = [{"path": str(place / name), "bytes": None} for name in NAMES]
    saved = datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(decode=False))
    saved = saved.cast_column("label", datasets.ClassLabel(names=["x", "y"]))
    splits = {"train": range(2), "validation": range(2, 3), "test": range(3, 4)}
    datasets.DatasetDict({name: saved.select(rows) for name, rows in splits.items()}).save_to_disk(place / "saved")
    return place


@pytest.fixture(scope="module")
def expected(place):
    """Scores of every recording by model and processor alone."""
    model, processor = (
        transformers.AutoModel.from_pretrained(place / "checkpoint"),
        transformers.AutoProcessor.from_pretrained(place / "checkpoint"),
    )
    scores = []
    for clip, text, history in zip(CLIPS, TEXTS, HISTORIES, strict=True):
        batch = processor(clip, text, history, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            scores.append(model(**batch).logits.softmax(-1)[0].tolist())
    return np.array(scores)


def in_order(answers: list[list[dict]], pipe) -> np.ndarray:
    """The pipeline's answers as scores in the order of the model's classes."""
    labels = list(pipe.model.config.id2label.values())
    return np.array([[{one["label"]: one["score"] for one in scores}[label] for label in labels] for scores in answers])


@pytest.mark.parametrize("form", ["table.jsonl", "saved"])
def test_training_prediction_pipeline_and_page_hear_and_answer_the_same(form, place, expected, train, tmp_path):
    pipe = LemerPipeline(
        transformers.AutoModel.from_pretrained(place / "checkpoint"),
        transformers.AutoProcessor.from_pretrained(place / "checkpoint"),
        device="cpu",
    )
    dataset, _ = train(place / form)
    rows = sorted(dataset, key=lambda row: row["num_frames"])
    assert [(row["text"], row["history"]) for row in rows] == list(zip(TEXTS, HISTORIES, strict=True))
    of_training = pipe([{name: row[name] for name in ("audio", "text", "history")} for row in rows], batch_size=3)
    np.testing.assert_allclose(in_order(of_training, pipe), expected, atol=1e-6)
    command = [str(place / "checkpoint"), str(place / form), "--output", str(tmp_path / "out.jsonl"), "--device", "cpu"]
    assert lemer.predict.main(command) == 0
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([list(row["scores"].values()) for row in written], expected, atol=2e-6)
    assert [row["text"] for row in written] == TEXTS
    if form == "table.jsonl":  # what the page reads
        assert {row["id"] for row in written} == set(by_id(dataset)) == set(NAMES)
        answers = [app.recognise(pipe, None, **example)["scores"] for example in app.read_examples(place / form)]
        np.testing.assert_allclose(in_order(answers, pipe), expected, atol=1e-6)


def test_the_example_for_trainer_reads_the_same_rows(place, expected, tmp_path, monkeypatch):
    class Read(Exception):
        """Stands for `Trainer`: it gets the model, the batches and the rows."""

    monkeypatch.setattr(transformers, "Trainer", lambda *given, **_: (_ for _ in ()).throw(Read(*given)))
    monkeypatch.setattr(datasets.Audio, "encode_example", datasets.Audio.encode_example)  # put back afterwards
    options = ["--checkpoint", place / "checkpoint", "--dataset", place / "saved", "--output_dir", tmp_path, "--use_cpu"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, options)])
    with pytest.raises(Read) as read:
        runpy.run_path(str(EXAMPLE))
    _, _, collate, rows, validation, processor = read.value.args
    batch = collate([*rows, *validation])
    model = transformers.AutoModel.from_pretrained(place / "checkpoint")
    with torch.no_grad():
        scores = model(**{name: batch[name] for name in batch if name != "labels"}).logits.softmax(-1).numpy()
    np.testing.assert_allclose(scores, expected[:3], atol=1e-6)
    assert batch["labels"].tolist() == [0, 1, 0]


# ------------------------------------------------------------------------------------------------------ real recordings

TURN = re.compile(r"(\S+) \[([\d.]+)-([\d.]+)\]: (.*)")
LABEL = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w+)\t")


def read_slowly(release: Path) -> list[dict]:
    """The turns of a release of IEMOCAP's layout whose lines are all well formed, oldest first in their dialog."""
    rows = []
    for file in sorted(release.glob("Session*/dialog/transcriptions/*.txt")):
        labels = dict(LABEL.findall((file.parents[1] / "EmoEvaluation" / file.name).read_text()))
        folder, history = file.parents[2] / "sentences" / "wav" / file.stem, []
        turns = [TURN.fullmatch(line).groups() for line in file.read_text().splitlines()]
        for name, start, end, text in sorted(turns, key=lambda turn: float(turn[1])):
            row = {"id": name, "dialog": file.stem, "session": int(name[4]), "text": text, "label": labels[name]}
            row.update(start=float(start), end=float(end), audio=str(folder / f"{name}.wav"))
            rows.append({**row, "earlier": list(history)})
            history.append(text)
    return rows


@pytest.mark.skipif(not REAL.is_dir(), reason="no real recordings beside the checkout")
def test_a_real_release_is_the_same_at_every_door(tmp_path, train):
    expected = read_slowly(REAL)
    release, report = load_iemocap(REAL, cache_dir=tmp_path, max_bad=0)
    assert len(release) == report.num_samples == len(expected) == 339 and not any(report.notes.values())
    assert len(set(release["speaker"])) == 10
    names = [name for name in expected[0] if name not in ("earlier", "audio")]  # as a table, newest turns first
    lines = [json.dumps({name: row[name] for name in [*names, "audio"]}) for row in reversed(expected)]
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    table, report = train(tmp_path / "table.jsonl", fold_column="session", dialog_column="dialog", order_column="start")
    assert not report.num_damaged and len(report.notes["whole_recording"]) == 339  # times in the dialog, of clips
    dialogs = read_inputs([str(tmp_path / "table.jsonl")], False)
    assert len(dialogs) == 20 and all(len({turn.id[:14] for turn in dialog}) == 1 for dialog in dialogs)
    said = {turn.id: turn for dialog in dialogs for turn in dialog}
    clips = {Path(turn.id).stem: turn for turn in answer(REAL)}
    rows = by_id(release), by_id(table)
    for row in expected:
        samples = soundfile.read(row["audio"], dtype="float32")[0]
        for found, dataset in zip(rows, (release, table), strict=True):
            found = found[row["id"]]
            assert (found["text"], found["history"], found["session"]) == (row["text"], row["earlier"], row["session"])
            assert dataset.features["label"].int2str(found["label"]) == row["label"]
            assert (found["start"], found["end"], found["num_frames"]) == (row["start"], row["end"], len(samples))
        assert said[row["id"]].text == row["text"]
        np.testing.assert_array_equal(heard(clips[row["id"]]), samples)
        np.testing.assert_array_equal(heard(said[row["id"]]), samples)


# --------------------------------------------------------------------------------------------- sources and what is none


@pytest.mark.parametrize("form", ["saved", "saved splits", "shards", "parquet"])
def test_datasets_are_answered_without_holding_their_recordings(form, tmp_path, train):
    rows = {"clip": [{"bytes": wav(SPEECH[: 1000 * number]), "path": None} for number in (1, 2, 3, 4, 5)]}
    rows.update(text=list("abcde"), label=[0, 1, 0, 1, 0], dialog=[1, 0, 1, 0, 1], order=[5, 4, 3, 2, 1])
    dataset = datasets.Dataset.from_dict(rows).cast_column("clip", datasets.Audio(decode=False))
    source = tmp_path / "set"
    if form == "saved":
        dataset.save_to_disk(source)
    elif form == "saved splits":
        datasets.DatasetDict(train=dataset.select(range(3)), test=dataset.select(range(3, 5))).save_to_disk(source)
    else:  # row groups are not the order of the turns
        (source / "data").mkdir(parents=True)
        cuts = [range(0, 2), range(2, 5)] if form == "shards" else [range(5)]
        for number, cut in enumerate(cuts):
            path = source / "data" / f"train-{number:05d}-of-{len(cuts):05d}.parquet"
            dataset.select(cut).to_parquet(path, batch_size=2)
        source = path if form == "parquet" else source
    turns = answer(source)
    assert {turn.text: len(heard(turn)) for turn in turns} == {"a": 1000, "b": 2000, "c": 3000, "d": 4000, "e": 5000}
    assert all(not isinstance(turn.audio, dict) for turn in turns)
    dialogs = [[turn.text for turn in dialog] for dialog in read_inputs([str(source)], False)]
    whole = [["e", "c", "a"], ["d", "b"]]
    assert dialogs == ([["c", "a"], ["b"], ["d"], ["e"]] if form == "saved splits" else whole)
    frames = train(source, audio_column="clip")[0]["num_frames"]
    assert sorted(frames) == sorted(len(heard(turn)) for turn in turns)


def test_ids_of_an_audiofolder_are_kept_apart_by_its_splits_in_both(tmp_path, train):
    folder = write_clips(tmp_path / "set", "train/0.wav", "train/1.wav", "test/0.wav", "test/1.wav")
    for split in ("train", "test"):
        (folder / split / "metadata.csv").write_text("file_name,label\n0.wav,x\n1.wav,y\n")
    names = ["test/0.wav", "test/1.wav", "train/0.wav", "train/1.wav"]
    assert [turn.id for turn in answer(folder)] == names
    assert train(folder, test_split="test")[0]["id"] == names


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        ({"array": [0.1]}, "needs 'sampling_rate'"),
        ({"array": [0.1], "sampling_rate": "16k"}, "sampling_rate must be a number"),
        ({"array": [0.1], "sampling_rate": 0}, "sampling rate of audio must be from"),
        ({"array": [1, 2], "sampling_rate": 16000}, "samples must be floats"),
        ({"url": "x"}, "an object with url: expected"),
        (["a.wav"], "audio is a list"),
    ],
)
def test_cells_that_are_no_recording_are_refused_by_both_in_the_same_words(audio, reason, tmp_path, train):
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps({"audio": audio, "label": label}) for label in "xy"))
    with pytest.raises(ValueError, match=reason):
        train(tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match=reason):
        heard(answer(tmp_path / "m.jsonl")[0])


@pytest.mark.parametrize("name", ["m.xlsx", "m.txt", "m.tar", "m.csv.gz", "owner/name", "nowhere/at/all"])
def test_what_is_neither_recording_nor_table_is_refused_by_both_in_the_same_words(name, tmp_path, train):
    source = tmp_path / name if name.startswith("m.") else name
    if name.startswith("m."):
        source.write_bytes(b"PK\3\4")
    messages = []
    for read in (train, answer):
        with pytest.raises((ValueError, OSError)) as error:
            read(source)
        messages.append(str(error.value))
    assert messages[0] == messages[1] and name.split("/")[0] in messages[0]


@pytest.fixture
def repository(tmp_path):
    """A folder as of a repository of the Hub, with two subsets of recordings in parquet files."""
    for subset in ("one", "two"):
        clips = [{"bytes": wav(SPEECH[: 1000 * number]), "path": None} for number in (1, 2)]
        rows = datasets.Dataset.from_dict({"audio": clips, "text": [f"{subset} a", f"{subset} b"], "label": ["x", "y"]})
        (tmp_path / "set" / subset).mkdir(parents=True)
        rows.cast_column("audio", datasets.Audio(decode=False)).to_parquet(tmp_path / "set" / subset / "train.parquet")
    (tmp_path / "set" / "README.md").write_text(REPOSITORY)
    return tmp_path / "set"


def test_a_subset_is_chosen_by_both_and_its_streamed_recordings_are_not_held(repository, train):
    for subset in ("one", "two"):  # each has rows of its own in the cache too
        texts = [f"{subset} a", f"{subset} b"]
        assert sorted(train(repository, subset=subset)[0]["text"]) == texts
        turns = answer(repository, subset=subset)
        assert [turn.text for turn in turns] == texts
        assert all(isinstance(turn.audio, Stored) for turn in turns)
        for turn, number in zip(turns[::-1], (2, 1), strict=True):  # in any order
            np.testing.assert_array_equal(heard(turn), SPEECH[: 1000 * number])
    assert open_source(repository, {}, "one").content != open_source(repository, {}, "two").content


@pytest.mark.parametrize(
    ("subset", "message"), [(None, "has several subsets: choose one by --subset, of one, two"), ("three", "no subset three")]
)
def test_a_subset_that_is_not_there_is_refused_by_both(subset, message, repository, train):
    for read in (train, answer):
        with pytest.raises(ValueError, match=message):
            read(repository, subset=subset)


def test_a_subset_of_what_has_none_is_refused_by_both(tmp_path, train):
    write_clips(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text("text,label\na,x\nb,y\n")
    for read in (train, answer):
        with pytest.raises(ValueError, match="m.csv has no subset one"):
            read(tmp_path / "m.csv", subset="one")
    with pytest.raises(ValueError, match="--subset one is of datasets, and there is none among the inputs"):
        answer(tmp_path / "a.wav", subset="one")


def test_samples_in_a_table_are_kept_as_they_are_and_count_by_their_seconds(tmp_path):
    samples = [(0.25 * np.ones(32_000)).tolist(), [[0.5] * 8_000, [0.25] * 8_000], [0.5, "x"]]
    rows = [{"id": str(number), "audio": {"array": array, "sampling_rate": RATE}} for number, array in enumerate(samples)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    turns = answer(tmp_path / "m.jsonl")
    assert [turn.seconds() for turn in turns] == [2.0, 0.5, 0.0]
    np.testing.assert_array_equal(heard(turns[1]), np.full(8_000, 0.375, np.float32))
    np.testing.assert_array_equal(heard(turns[0]), np.full(32_000, 0.25, np.float32))
    with pytest.raises(ValueError, match="samples must be floats"):
        heard(turns[2])


def test_a_shard_counts_the_seconds_of_recordings_within_a_dataset(tmp_path, monkeypatch):
    clips = [{"bytes": wav(np.zeros(600 * 100), 100), "path": None}] * 3 + [{"bytes": b"no audio", "path": None}]
    rows = datasets.Dataset.from_dict({"audio": clips}).cast_column("audio", datasets.Audio(decode=False))
    rows.to_parquet(tmp_path / "long.parquet")
    dialogs = read_inputs([str(tmp_path / "long.parquet")], False)
    assert [dialog[0].seconds() for dialog in dialogs] == [600, 600, 600, 0.008]
    monkeypatch.setattr(lemer.corpora.shards, "SHARD_SECONDS", 1_300)
    assert [len(shard.dialogs) for shard in lemer.corpora.shards.shards(dialogs, 8)] == [2, 2]


def test_parts_of_a_recording_count_by_their_own_seconds(tmp_path):
    write_clips(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text("audio,start,end\na.wav,0,0.02\na.wav,0.02,0.05\n")
    assert [turn.seconds() for turn in answer(tmp_path / "m.csv")] == pytest.approx([0.02, 0.03])


def test_a_row_with_damaged_times_still_shares_its_recording_at_both(tmp_path, train):
    write_clips(tmp_path, "a.wav", "b.wav", "c.wav")
    lines = ["id,audio,start,end,label", "0,a.wav,,0.05,x", "1,a.wav,0,900,x", "2,b.wav,,,y", "3,c.wav,,,x"]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    rows = by_id(train(tmp_path / "m.csv")[0])
    turns = {turn.id: turn for turn in answer(tmp_path / "m.csv")}
    for name in "01":
        assert rows[name]["label"] == -1
        with pytest.raises(ValueError, match="is no part of a recording"):
            turns[name].recording()
    assert rows["2"]["num_frames"] == len(heard(turns["2"])) == 2000


def test_times_that_cannot_be_read_are_refused_by_both_without_a_recording_too(tmp_path, train):
    (tmp_path / "m.csv").write_text("text,start,label\nhello,soon,x\nyou,0,y\n")
    for read in (train, answer):
        with pytest.raises(ValueError, match="start must be seconds.*got 'soon'"):
            read(tmp_path / "m.csv")
