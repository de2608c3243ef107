"""Datasets, and what is no recording, at the doors of training and prediction: both read or refuse the same."""

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

from lemer.audio_lemer import load_audio
from lemer.corpora.any_dataset import load_any_dataset
from lemer.corpora.manifest import read_inputs

RATE = 16_000
SPEECH = (np.random.default_rng(0).integers(-8000, 8000, 3 * RATE) / 32768).astype(np.float32)


def wav(samples: np.ndarray = SPEECH, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype="PCM_16", format="WAV")
    return file.getvalue()


def write_clips(folder: Path, *names: str) -> Path:
    """Recordings of different lengths."""
    for number, name in enumerate(names, start=1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(wav(SPEECH[: 1000 * number]))
    return folder


@pytest.fixture
def train(tmp_path):
    def train(source, **options):
        if not {"fold_column", "test_split"} & set(options):
            options = {"test_share": 0.5, **options}
        return load_any_dataset(source, cache_dir=tmp_path / "cache", progress=False, **options)

    return train


def answer(*sources) -> list:
    """The utterances that predict.py would answer."""
    return [turn for dialog in read_inputs([str(source) for source in sources], False) for turn in dialog]


def heard(turn) -> int:
    return len(load_audio(turn.recording()[0]))


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
    assert {turn.text: heard(turn) for turn in turns} == {"a": 1000, "b": 2000, "c": 3000, "d": 4000, "e": 5000}
    assert all(not isinstance(turn.audio, dict) for turn in turns)
    dialogs = [[turn.text for turn in dialog] for dialog in read_inputs([str(source)], False)]
    whole = [["e", "c", "a"], ["d", "b"]]
    assert dialogs == ([["c", "a"], ["b"], ["d"], ["e"]] if form == "saved splits" else whole)
    frames = train(source, audio_column="clip")[0]["num_frames"]
    assert sorted(frames) == sorted(map(heard, turns))


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
