"""Any dataset as a corpus: every form gives the same rows; folds, history, damage, cache by slow loops; the real script."""

import csv
import io
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pytest
import soundfile
from transformers import AutoModel

import lemer.train
import lemer.training.small_towers
from lemer.audio_lemer import load_and_check_audio
from lemer.corpora import any_source
from lemer.corpora.any_dataset import load_any_dataset
from lemer.training.small_towers import make_small_speech_tower, make_small_text_tower

RATE = 16_000
WORDS = {"joy": "we won what a great day", "gloom": "all is lost and gone", "calm": "the table is here"}


# No two recordings are the same.
LOUDNESS = {
    f"{speaker}{dialog}": np.float32(1 + 0.1 * number + 0.05 * dialog)
    for number, speaker in enumerate("abcd")
    for dialog in (1, 2)
}


def clip(emotion: str, number: int) -> np.ndarray:
    time = np.arange(3200 + 160 * number) / RATE
    return (0.3 * np.sin(2 * np.pi * {"joy": 800, "gloom": 100, "calm": 300}[emotion] * time)).astype(np.float32)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def turns() -> list[dict]:
    """Four speakers, two dialogs each, of four turns each; the rows of a dialog are not in its order."""
    rows = []
    for speaker in "abcd":
        for dialog in (f"{speaker}1", f"{speaker}2"):
            for turn in (2, 0, 3, 1):
                emotion = list(WORDS)[(turn + ord(dialog[1])) % 3]
                row = {"id": f"{dialog}-{turn}", "emotion": emotion, "transcript": f"{WORDS[emotion]} {dialog} {turn}"}
                rows.append(
                    {
                        **row,
                        "speaker": speaker,
                        "dialog": dialog,
                        "turn": turn,
                        "samples": clip(emotion, turn) * LOUDNESS[dialog],
                    }
                )
    return rows


COLUMNS = {"text_column": "transcript", "label_column": "emotion", "fold_column": "speaker"}
DIALOGS = {"dialog_column": "dialog", "order_column": "turn"}


def plain(row: dict, **audio) -> dict:
    return {name: value for name, value in row.items() if name != "samples"} | audio


def write_audiofolder(folder, rows, name="metadata.csv"):
    folder.mkdir(parents=True)
    for row in rows:
        (folder / f"{row['id']}.wav").write_bytes(wav(row["samples"]))
    rows = [plain(row, file_name=f"{row['id']}.wav") for row in rows]
    with open(folder / name, "w", newline="") as file:
        if name.endswith("csv"):
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def in_memory(rows) -> datasets.Dataset:
    dataset = datasets.Dataset.from_list([plain(row, audio={"bytes": wav(row["samples"]), "path": None}) for row in rows])
    return dataset.cast_column("audio", datasets.Audio(decode=False))


def write(form: str, folder, rows):
    """The same rows in each of the forms; returns the source and the options that it needs."""
    if form.startswith("audiofolder"):
        return write_audiofolder(folder / "set", rows, form.removeprefix("audiofolder ")), {}
    if form == "save_to_disk":
        in_memory(rows).save_to_disk(folder / "set")
    elif form == "save_to_disk of splits":
        half = len(rows) // 2
        datasets.DatasetDict(train=in_memory(rows[:half]), test=in_memory(rows[half:])).save_to_disk(folder / "set")
    elif form == "parquet":
        (folder / "set").mkdir()
        in_memory(rows).to_parquet(folder / "set" / "data.parquet")
    elif form == "csv of paths":
        write_audiofolder(folder / "clips", rows)
        (folder / "clips" / "metadata.csv").rename(folder / "table.csv")
        table = list(csv.DictReader(open(folder / "table.csv", newline="")))
        with open(folder / "table.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows({**row, "file_name": f"clips/{row['file_name']}"} for row in table)
        return folder / "table.csv", {"audio_column": "file_name"}
    elif form == "json of samples":
        with open(folder / "set.jsonl", "w") as file:
            for row in rows:
                audio = {"array": row["samples"].tolist(), "sampling_rate": RATE}
                file.write(json.dumps(plain(row, audio=audio)) + "\n")
        return folder / "set.jsonl", {}
    return folder / "set", {}


@pytest.fixture
def load(tmp_path):
    def load(source, **options):
        options = {**COLUMNS, "cache_dir": tmp_path / "cache", "progress": False, **options}
        return load_any_dataset(source, **options)

    return load


@pytest.fixture
def rows():
    return turns()


FORMS = ["audiofolder metadata.csv", "audiofolder metadata.jsonl", "save_to_disk", "save_to_disk of splits", "parquet"]
FORMS += ["csv of paths", "json of samples"]


# ------------------------------------------------------------------------------------------------------------ the rows


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form, streaming, rows, load, tmp_path):
    source, options = write(form, tmp_path, rows)
    dataset, report = load(source, **options, **DIALOGS, streaming=streaming)
    by_id = {row["id"]: row for row in rows}
    assert sorted(dataset["id"]) == sorted(by_id) and dataset.features["label"].names == ["calm", "gloom", "joy"]
    assert not report.is_standard and report.has_audio and report.has_text
    for row in dataset:
        written = by_id[row["id"]]
        earlier = [one for one in rows if one["dialog"] == written["dialog"] and one["turn"] < written["turn"]]
        assert row["history"] == [one["transcript"] for one in sorted(earlier, key=lambda one: one["turn"])]
        assert dataset.features["label"].int2str(row["label"]) == written["emotion"]
        assert (row["text"], row["dialog"], row["speaker"]) == tuple(written[n] for n in ("transcript", "dialog", "speaker"))
        assert row["session"] == 1 + "abcd".index(written["speaker"])
        assert row["num_frames"] == len(written["samples"]) and row["end"] == row["num_frames"] / RATE
        np.testing.assert_allclose(load_and_check_audio(row["audio"])[0], written["samples"], atol=1e-6)
    assert dataset["id"] == sorted(dataset["id"])  # by fold, dialog and turn


def test_equal_content_has_one_fingerprint_in_every_form(rows, load, tmp_path):
    found = set()
    for form in ("audiofolder metadata.csv", "parquet", "json of samples"):
        (tmp_path / form).mkdir()
        source, options = write(form, tmp_path / form, rows)
        found.add(load(source, **options, **DIALOGS)[1].fingerprints["all"])
    rows[0]["samples"] = rows[0]["samples"] / 2
    (tmp_path / "other").mkdir()
    other = load(write("parquet", tmp_path / "other", rows)[0], **DIALOGS)[1].fingerprints["all"]
    assert len(found) == 1 and other not in found


def test_folders_of_recordings_are_labels(load, tmp_path):
    for emotion in WORDS:
        (tmp_path / "set" / emotion).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "set" / emotion / f"{number}.wav").write_bytes(wav(clip(emotion, number)))
    options = {"text_column": None, "label_column": None, "fold_column": None, "test_share": 0.4}
    dataset, report = load(tmp_path / "set", **options)
    names = dataset.features["label"].names
    assert sorted(dataset["id"]) == sorted(f"{emotion}/{number}.wav" for emotion in WORDS for number in range(2))
    assert all(row["id"].startswith(names[row["label"]]) and row["text"] == "" for row in dataset)
    assert not report.has_text and report.notes["text_missing"] == []
    with pytest.raises(ValueError, match="no transcripts .* speech alone"):
        report.check_modality("multimodal")
    report.check_modality("speech")


def test_without_recordings_there_are_words_alone(rows, load, tmp_path):
    datasets.Dataset.from_list([plain(row) for row in rows]).to_json(tmp_path / "set.jsonl")
    dataset, report = load(tmp_path / "set.jsonl", **DIALOGS)
    assert not report.has_audio and set(dataset["label"]) == {0, 1, 2} and not report.notes["audio_missing"]
    assert dataset["num_frames"] == [len(text) for text in dataset["text"]]
    report.check_modality("text")
    with pytest.raises(ValueError, match="no recordings .* words alone"):
        report.check_modality("multimodal")


@pytest.mark.parametrize(
    ("labels", "features", "names", "expected"),
    [
        (["b", "a", "", None], None, ["a", "b"], [1, 0, -1, -1]),
        ([10, 9, -1, None], None, ["9", "10"], [1, 0, -1, -1]),
        ([2.0, 0.0, None, 2.0], None, ["0", "2"], [1, 0, -1, 1]),
        ([2, 0, -1, None], datasets.ClassLabel(names=["z", "y", "x"]), ["z", "x"], [1, 0, -1, -1]),
    ],
)
def test_labels_are_names_numbers_or_classes_and_may_be_missing(labels, features, names, expected, load, tmp_path):
    dataset = datasets.Dataset.from_dict({"id": list("0123"), "text": ["w"] * 4, "label": labels})
    if features is not None:
        dataset = dataset.cast_column("label", features)
    dataset.save_to_disk(tmp_path / "set")
    options = {"text_column": None, "label_column": None, "fold_column": None, "test_share": 0.3}
    dataset, report = load(tmp_path / "set", **options)
    assert dataset.features["label"].names == names
    assert [label for _, label in sorted(zip(dataset["id"], dataset["label"], strict=True))] == expected
    assert len(report.notes["unlabelled"]) == expected.count(-1)


def test_labels_that_are_not_asked_for_are_history_only(rows, load, tmp_path):
    dataset, report = load(write("parquet", tmp_path, rows)[0], **DIALOGS, labels=["joy", "calm"])
    assert dataset.features["label"].names == ["joy", "calm"] and len(dataset) == 32
    gone = {row["id"] for row in dataset if row["label"] == -1}
    assert gone == {row["id"] for row in rows if row["emotion"] == "gloom"} == set(report.notes["other_label"])
    assert any(WORDS["gloom"] in turn for row in dataset for turn in row["history"])


# ----------------------------------------------------------------------------------------------------------- the folds


def test_whole_numbers_are_the_folds_own(rows, load, tmp_path):
    rows = [{**row, "fold": 10 * "abcd".index(row["speaker"])} for row in rows]
    dataset, report = load(write("parquet", tmp_path, rows)[0], fold_column="fold")
    assert report.held_out == [0, 10, 20, 30]
    assert all(row["session"] == 10 * "abcd".index(row["speaker"]) for row in dataset)


@pytest.mark.parametrize(
    ("options", "column"),
    [({}, "speaker"), ({"fold_column": None}, "speaker"), ({"fold_column": None, **DIALOGS}, "speaker")],
)
def test_a_share_is_held_out_by_whole_groups(options, column, rows, load, tmp_path):
    source, _ = write("parquet", tmp_path, rows)
    dataset, report = load(source, test_share=0.3, **options)
    groups = {fold: {row[column] for row in dataset if row["session"] == fold} for fold in (1, 2)}
    assert not groups[1] & groups[2] and report.held_out == [1]
    assert abs(dataset["session"].count(1) / 32 - 0.3) <= 4 / 32
    rows.reverse()
    (tmp_path / "again").mkdir()
    again, _ = load(write("parquet", tmp_path / "again", rows)[0], test_share=0.3, **options)
    assert groups[1] == {row[column] for row in again if row["session"] == 1}


def test_a_split_is_held_out(rows, load, tmp_path):
    source, _ = write("save_to_disk of splits", tmp_path, rows)
    dataset, report = load(source, fold_column=None, test_split="test")
    assert {row["id"] for row in dataset if row["session"] == 1} == {row["id"] for row in rows[16:]}
    assert report.held_out == [1]


def test_a_dialog_in_two_folds_is_refused(rows, load, tmp_path):
    rows[0]["dialog"] = "d2"
    source, _ = write("parquet", tmp_path, rows)
    with pytest.raises(ValueError, match="1 dialogs lie in several folds, such as d2 .a, d."):
        load(source, **DIALOGS)


@pytest.mark.parametrize("max_history", [0, 1, 2, 99])
def test_a_bounded_history_is_the_end_of_the_whole_one_and_nothing_else_changes(rows, load, tmp_path, max_history):
    source, _ = write("parquet", tmp_path, rows)
    whole, _ = load(source, **DIALOGS)
    bounded, _ = load(source, **DIALOGS, max_history=max_history)
    assert bounded["history"][:] == [turns[max(0, len(turns) - max_history) :] for turns in whole["history"]]
    others = [name for name in whole.column_names if name not in ("history", "audio")]
    assert bounded.select_columns(others)[:] == whole.select_columns(others)[:]


def test_without_a_dialog_column_there_is_no_history(rows, load, tmp_path):
    dataset, report = load(write("parquet", tmp_path, rows)[0])
    assert not any(dataset["history"]) and dataset["dialog"] == dataset["id"] and "no dialogs" in report.history


# ----------------------------------------------------------------------------------------------------- damage and cache


@pytest.fixture
def damaged(rows, tmp_path):
    folder = write_audiofolder(tmp_path / "set", rows)
    (folder / "a1-0.wav").write_bytes(b"no recording")
    (folder / "b1-0.wav").write_bytes(wav(np.zeros(0, np.float32)))
    (folder / "c1-0.wav").write_bytes(wav(np.full(400, np.nan, np.float32)))
    metadata = folder / "metadata.csv"
    metadata.write_text(metadata.read_text().replace(next(row["transcript"] for row in rows if row["id"] == "d1-0"), ""))
    return folder


def test_damage_is_counted_named_and_kept_out_of_the_samples(damaged, load):
    dataset, report = load(damaged, **DIALOGS)
    assert [name.split(" ")[0] for name in report.notes["audio_damaged"]] == ["a1-0", "b1-0", "c1-0"]
    assert report.notes["text_missing"] == ["d1-0"]
    rows = {row["id"]: row for row in dataset}
    assert [name for name, row in rows.items() if row["label"] == -1] == ["a1-0", "b1-0", "c1-0"]
    assert len(rows["a1-1"]["history"]) == 1 and rows["d1-1"]["history"] == []
    text = report.format()
    assert "3  audio_damaged" in text and "a1-0" in text and "1  text_missing" in text


def test_too_much_damage_is_refused(damaged, load):
    load(damaged, max_bad=4)
    with pytest.raises(
        ValueError,
        match="4 damaged items in set, max_bad allows 3; commonest: 3 audio_damaged.* a1-0",
    ):
        load(damaged, max_bad=3)


def test_a_prepared_corpus_is_not_read_again_until_it_changes(rows, load, tmp_path, monkeypatch):
    source, options = write("csv of paths", tmp_path, rows)
    heard = []
    monkeypatch.setattr(any_source, "load_and_check_audio", lambda audio: heard.append(audio) or load_and_check_audio(audio))
    first = load(source, **options)[1].fingerprints["all"]
    assert load(source, **options)[1].fingerprints["all"] == first and len(heard) == 32
    load(source, **options, labels=["joy", "calm"], test_share=0.5)  # other options of the same rows
    assert len(heard) == 32
    (tmp_path / "clips" / "a1-0.wav").write_bytes(wav(clip("joy", 9)))  # beside the table
    assert load(source, **options)[1].fingerprints["all"] != first and len(heard) == 64
    with open(source, "a") as file:
        file.write("new,joy,words,a,a9,0,clips/a1-1.wav\n")
    assert len(load(source, **options)[0]) == 33


def test_several_processes_read_the_same_rows(rows, load, tmp_path, monkeypatch):
    source, _ = write("csv of paths", tmp_path, rows)
    monkeypatch.setattr(any_source, "SHARD", 5)
    read = []
    for processes in (1, 2):
        monkeypatch.setattr(any_source, "PROCESSES", processes)
        read.append(load(source, **DIALOGS, cache_dir=tmp_path / str(processes)))
    assert read[0][0][:] == read[1][0][:] and read[0][1] == read[1][1]


def test_a_row_that_several_processes_cannot_read_is_named(rows, load, tmp_path, monkeypatch):
    rows[13]["emotion"] = {"not": "a label"}
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps(plain(row)) for row in rows))
    monkeypatch.setattr(any_source, "SHARD", 5)
    monkeypatch.setattr(any_source, "PROCESSES", 2)
    with pytest.raises(ValueError, match=r"row .*-000013 \(set.jsonl, line 14\)"):
        load(tmp_path / "set.jsonl")


def test_a_killed_process_of_several_ends_the_read_which_then_goes_on(rows, load, tmp_path, monkeypatch):
    source, options = write("csv of paths", tmp_path, rows)
    monkeypatch.setattr(any_source, "SHARD", 5)
    monkeypatch.setattr(any_source, "PROCESSES", 2)
    reader = os.getpid()

    def hear(audio):
        if os.getpid() != reader:
            os.kill(os.getpid(), signal.SIGKILL)
        return load_and_check_audio(audio)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed, most likely since the memory is full"):
        patch.setattr(any_source, "load_and_check_audio", hear)
        load(source, **options)
    assert len(load(source, **options)[0]) == 32


@pytest.mark.parametrize("form", ["audiofolder metadata.csv", "save_to_disk of splits", "csv of paths"])
def test_a_killed_read_goes_on_where_it_was(form, rows, load, tmp_path, monkeypatch):
    monkeypatch.setattr(any_source, "SHARD", 5)
    monkeypatch.setattr(any_source, "PROCESSES", 1)  # all recordings are heard by this one
    source, options = write(form, tmp_path, rows)
    heard = []

    def hear(audio, stop_at=22):
        if len(heard) == stop_at:
            raise KeyboardInterrupt
        heard.append(audio)
        return load_and_check_audio(audio)

    monkeypatch.setattr(any_source, "load_and_check_audio", hear)
    with pytest.raises(KeyboardInterrupt):
        load(source, **options)
    kept = len(heard) // 5 * 5 if "splits" not in form else 16 + 5  # 16 rows of the first split, and whole shards
    monkeypatch.setattr(any_source, "load_and_check_audio", lambda audio: hear(audio, None))
    dataset, report = load(source, **options)
    assert len(heard) == 22 + 32 - kept
    whole, expected = load(source, **options, cache_dir=tmp_path / "another")
    assert report.fingerprints == expected.fingerprints and dataset[:] == whole[:]


def test_two_readers_at_once_read_once(rows, load, tmp_path, monkeypatch):
    source, options = write("csv of paths", tmp_path, rows)
    heard = []
    monkeypatch.setattr(any_source, "load_and_check_audio", lambda audio: heard.append(audio) or load_and_check_audio(audio))
    with ThreadPoolExecutor(2) as readers:
        one, other = readers.map(lambda _: load(source, **options), range(2))
    assert len(heard) == 32 and one[0][:] == other[0][:]


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "mood"}, "no label_column 'mood': its columns are .*emotion"),
        ({"audio_column": "sound", "text_column": "words"}, "audio_column 'sound', text_column 'words'"),
        ({"fold_column": None}, "say what is held out"),
        ({"test_share": 1.0}, "between 0 and 1, got 1.0"),
        ({"test_split": "test"}, "neither fold_column nor test_share"),
        ({"fold_column": None, "test_split": "test"}, "one of several splits, those read are train"),
        ({"splits": ["dev"]}, "no split dev: it has train"),
        ({"labels": ["joy", "fury"]}, "must be different ones of those that occur: calm, gloom, joy"),
        ({"fold_column": "same"}, "at least two values of same, there is only x"),
        ({"fold_column": "holes"}, "16 rows have no holes"),
        ({"order_column": "mixed", "dialog_column": "dialog"}, "16 rows have no mixed"),
        ({"label_column": "amount"}, "label 0.5: expected a name or a whole number"),
        ({"label_column": "same"}, "at least two labels, the rows have x"),
    ],
)
def test_bad_options_are_a_clear_error(options, message, rows, load, tmp_path):
    for index, row in enumerate(rows):
        row.update(same="x", holes="x" if index % 2 else None, mixed=None if index % 2 else index, amount=index + 0.5)
    source, _ = write("parquet", tmp_path, rows)
    with pytest.raises(ValueError, match=message):
        load(source, **options)


def test_a_file_of_another_kind_is_refused(load, tmp_path):
    (tmp_path / "set.wav").write_bytes(wav(clip("joy", 0)))
    with pytest.raises(ValueError, match="no file of .csv"):
        load(tmp_path / "set.wav")


# ------------------------------------------------------------------------------------------------------ the real script


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    speech = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "lemer.training.small_towers.SPEECH", {**lemer.training.small_towers.SPEECH, **speech, "conv_dim": (16,) * 7}
        )
        patch.setattr("lemer.training.small_towers.TEXT", text)
        lines = [row["transcript"] for row in turns()] * 3
        return make_small_speech_tower(folder / "speech"), make_small_text_tower(folder / "text", lines)


@pytest.fixture
def train(towers, tmp_path):
    def train(source, *options) -> int:
        towers_ = ("--speech_model", str(towers[0]), "--text_model", str(towers[1]), "--second_stage", "none")
        fast = ("--batch_size", "4", "--epochs", "1", "--warmup_steps", "1", "--words", "3", "--codes", "5")
        columns = ("--label_column", "emotion", "--cache_dir", str(tmp_path / "cache"))
        output = ("--output_dir", str(tmp_path / "run"))
        return lemer.train.main(["--corpus", str(source), *towers_, *fast, *columns, *output, *options])

    return train


DIALOG_OPTIONS = ["--dialog_column", "dialog", "--order_column", "turn"]


@pytest.mark.parametrize(
    ("form", "options", "folds"),
    [
        ("audiofolder metadata.csv", ["--fold_column", "speaker", "--folds", "b", "--text_column", "transcript"], {"fold2"}),
        ("save_to_disk of splits", ["--test_split", "test", "--text_column", "transcript"], {"fold1"}),
        ("parquet", ["--recipe", "B5", "--test_share", "0.3", "--streaming"], {"fold1"}),
    ],
)
def test_the_script_trains_on_any_form(form, options, folds, rows, train, tmp_path):
    source, _ = write(form, tmp_path, rows)
    dialogs = DIALOG_OPTIONS if "--fold_column" in options else []
    assert train(source, *options, *dialogs) == 0
    run = tmp_path / "run"
    assert {path.name for path in run.glob("fold*")} == folds
    protocol = json.loads((run / "protocol.json").read_text())
    assert protocol["corpus"] == "set" and str(source) not in json.dumps({**protocol, "command": None})
    (results,) = (json.loads(path.read_text()) for path in run.glob("fold*/seed0/results.json"))
    assert results["labels"] == ["calm", "gloom", "joy"] and results["split"]["test"] >= 8
    model = AutoModel.from_pretrained(next(run.glob("fold*/seed0/checkpoint")), trust_remote_code=True)
    assert model.config.label2id == {"calm": 0, "gloom": 1, "joy": 2} and model.untrained == []


def test_the_script_trains_on_words_alone(rows, train, tmp_path, capsys):
    datasets.Dataset.from_list([plain(row) for row in rows]).to_json(tmp_path / "set.jsonl")
    options = ["--text_column", "transcript", "--test_share", "0.3", *DIALOG_OPTIONS]
    assert train(tmp_path / "set.jsonl", *options) == 1
    assert "set.jsonl has no recordings" in capsys.readouterr().err
    assert train(tmp_path / "set.jsonl", *options, "--recipe", "A5") == 0
    assert (tmp_path / "run" / "results.json").exists()


def test_the_script_refuses_options_that_do_not_fit(rows, train, tmp_path, capsys):
    source, _ = write("parquet", tmp_path, rows)
    assert train(source, "--fold_column", "speaker", "--folds", "7", "--recipe", "B5") == 1
    message = "--folds [7]: the corpus has utterances in the sessions [1, 2, 3, 4], called a, b, c, d"
    assert message in capsys.readouterr().err
    assert train(source, "--test_share", "0.3", "--data_dir", str(source)) == 1
    assert "--data_dir is of --corpus iemocap" in capsys.readouterr().err
    assert train("iemocap", "--test_share", "0.3", "--data_dir", str(source)) == 1
    assert "--label_column, --test_share: of any dataset" in capsys.readouterr().err and not os.path.exists(tmp_path / "run")
