"""predict.py: one recording with its words, columns of tables, and every form of the answers."""

import csv
import datetime
import json
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
from tiny import tiny_model, tiny_processor

import lemer.predict
from lemer import LemerPipeline
from lemer.audio_lemer import load_audio
from lemer.prediction.subtitles import format_subtitles
from lemer.prediction.timeline import timeline

RATE = 16_000  # Hz
NOISE = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two checkpoints and a folder of recordings, in the working folder."""
    place = tmp_path_factory.mktemp("predict")
    for modality in ("multimodal", "speech"):
        LemerPipeline(tiny_model(modality=modality), tiny_processor(), device="cpu").save_pretrained(place / modality)
    (place / "clips" / "deep").mkdir(parents=True)
    for name, length in {"a.wav": 4000, "deep/c.wav": 2000, "deep/d.wav": 32_000, "e.wav": 5000}.items():
        soundfile.write(place / "clips" / name, NOISE[:length], RATE, subtype="PCM_16")
    return place


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def pipe():
    return LemerPipeline(tiny_model(), tiny_processor(), device="cpu")


def predict(*arguments) -> int:
    return lemer.predict.main([*map(str, arguments), "--device", "cpu"])


def refused(capsys, *arguments) -> str:
    """What a command says that could not begin."""
    try:
        status = predict(*arguments)
    except SystemExit as stopped:  # a wrong option
        status = stopped.code
    assert status == 2
    return capsys.readouterr().err


def read(path: Path) -> list[dict]:
    """Rows of either form."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def assert_answers(rows: list[dict], answers: list[list[dict]]):
    for row, answer in zip(rows, answers, strict=True):
        assert row["scores"] == pytest.approx({one["label"]: one["score"] for one in answer}, abs=2e-5)
        assert row["modality"] == answer[0]["modality"]


def test_words_and_history_of_one_recording_may_be_options(pipe, tmp_path):
    both = ("--text", "we won the day", "--history", "hello, you", "--history", "so late")
    assert predict("multimodal", "clips/a.wav", *both, "--output", tmp_path / "one.jsonl") == 0
    given = {"text": "we won the day", "history": ["hello, you", "so late"]}
    assert_answers(read(tmp_path / "one.jsonl"), [pipe({"audio": "clips/a.wav", **given})])
    assert predict("multimodal", *both, "--output", tmp_path / "words.jsonl") == 0
    assert_answers(read(tmp_path / "words.jsonl"), [pipe(given)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clips/a.wav", "clips/e.wav", "--text", "hello"), "--text is for one recording, got 2 inputs"),
        (("clips/deep", "--text", "hello"), "--text is for one recording, and clips/deep has 2 inputs"),
        (("clips/a.wav", "--history", "hello"), "--history goes before the words of --text"),
        (("clips/a.wav", "--top_k", "0"), "--top_k must be at least 1"),
        (("clips/a.wav", "--output", "out.txt"), ".csv, .jsonl, .srt, .vtt, got out.txt"),
        (("clips/deep", "--output", "out.srt"), ".srt files are for one recording, got 2"),
    ],
)
def test_options_that_do_not_fit_the_inputs_are_refused(capsys, arguments, message):
    assert message in " ".join(refused(capsys, "multimodal", *arguments).split())


def test_columns_may_be_named_and_others_are_passed_on(tmp_path, place):
    row = {"clip_of": str(place / "clips" / "a.wav"), "said": "so late", "speaker": "A", "take": 3, "modality": "own"}
    (tmp_path / "table.jsonl").write_text(json.dumps(row))
    named = ("--audio_column", "clip_of", "--text_column", "said")
    for form in ("csv", "jsonl"):
        output = tmp_path / f"out.{form}"
        assert predict("multimodal", tmp_path / "table.jsonl", *named, "--output", output) == 0
        row = read(output)[0]
        assert (row["text"], row["modality"], row["input_modality"]) == ("so late", "multimodal", "own")
        assert (row["speaker"], str(row["take"])) == ("A", "3")
        before = output.read_bytes()
        assert predict("multimodal", tmp_path / "table.jsonl", *named, "--output", output) == 0
        assert output.read_bytes() == before


@pytest.mark.parametrize("form", ["saved", "table.parquet"])
def test_other_columns_of_a_dataset_are_passed_on_as_those_of_a_table(tmp_path, place, caplog, form):
    columns = {
        "audio": [{"path": None, "bytes": (place / "clips" / name).read_bytes()} for name in ("a.wav", "e.wav")],
        "id": ["a", "e"],
        "take": [3, None],
        "loudness": [0.5, float("nan")],
        "day": [datetime.date(2026, 1, 31)] * 2,
        "emotion": [1, -1],
        "modality": ["own", "own too"],
        "notes": [["a", "list"], []],
    }
    features = datasets.Features(
        {
            "audio": {"path": datasets.Value("string"), "bytes": datasets.Value("binary")},
            "id": datasets.Value("string"),
            "take": datasets.Value("int32"),
            "loudness": datasets.Value("float64"),
            "day": datasets.Value("date32"),
            "emotion": datasets.ClassLabel(names=["calm", "angry"]),
            "modality": datasets.Value("string"),
            "notes": datasets.List(datasets.Value("string")),
        }
    )
    dataset = datasets.Dataset.from_dict(columns, features=features).cast_column("audio", datasets.Audio(decode=False))
    (dataset.save_to_disk if form == "saved" else dataset.to_parquet)(tmp_path / form)
    assert predict("speech", tmp_path / form, "--output", tmp_path / "out.jsonl") == 0
    passed = ("take", "loudness", "day", "emotion", "input_modality")
    assert [[row[name] for name in passed] for row in read(tmp_path / "out.jsonl")] == [
        [3, 0.5, "2026-01-31", "angry", "own"],
        [None, None, "2026-01-31", None, "own too"],
    ]
    assert "'notes'" in caplog.text and "passed on to the output: 'take', 'loudness', 'day', 'emotion'" in caplog.text


def test_a_bad_line_of_json_is_left_out_named_and_counted(tmp_path, capsys):
    lines = ['{"id": "a", "text": "so late"}', '{"id": "b", "text"', "", "3", '{"id": "c", "text": "hello, you"}']
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    assert predict("multimodal", tmp_path / "table.jsonl", "--output", tmp_path / "out.jsonl") == 1
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["a", "c"]
    said = capsys.readouterr().err
    assert "no rows and were left out: 2" in said
    assert (
        "table.jsonl, line 2: Expecting" in said and "table.jsonl, line 4: every line must be a JSON object, got 3" in said
    )


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_what_a_file_would_hold_is_printed(tmp_path, capsys, form):
    arguments = ("multimodal", "clips/a.wav", "clips/e.wav", "--batch_size", "1")
    assert predict(*arguments, "--output", tmp_path / f"out.{form}") == 0
    capsys.readouterr()
    assert predict(*arguments, "--format", form) == 0
    assert capsys.readouterr().out == (tmp_path / f"out.{form}").read_text()


def test_the_highest_scores_alone(tmp_path, capsys):
    arguments = ("multimodal", "clips/a.wav", "--top_k", "2")
    for form in ("csv", "jsonl"):
        assert predict(*arguments[:2], "--output", tmp_path / f"all.{form}") == 0
        assert predict(*arguments, "--output", tmp_path / f"two.{form}") == 0
        before = (tmp_path / f"two.{form}").read_bytes()  # rows of another number of scores are not joined to it
        assert predict(*arguments[:2], "--top_k", "3", "--output", tmp_path / f"two.{form}") == 2
        assert "was not written by this command" in capsys.readouterr().err
        assert (tmp_path / f"two.{form}").read_bytes() == before
    whole, two = read(tmp_path / "all.jsonl")[0]["scores"], read(tmp_path / "two.jsonl")[0]["scores"]
    assert list(two.items()) == sorted(whole.items(), key=lambda score: -score[1])[:2]
    with open(tmp_path / "two.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert {label: row[label] for label in whole} == {label: str(two.get(label, "")) for label in whole}
    capsys.readouterr()
    assert predict(*arguments) == 0
    assert len(re.findall(r"0\.\d{3}\b", capsys.readouterr().out.splitlines()[1])) == 2


def test_one_branch_says_what_its_scores_mean(capsys):
    assert predict("multimodal", "clips/a.wav") == 0
    assert "for want of words" in (said := capsys.readouterr().err) and "only their order counts" in said


def test_parts_that_were_heard_are_named(tmp_path):
    processor = tiny_processor(max_silence=0.2)
    LemerPipeline(tiny_model(), processor, device="cpu").save_pretrained(tmp_path / "model")
    clip = np.concatenate([NOISE[:8000] * np.linspace(1, 2, 8000), np.zeros(16_000), NOISE[:8000] * np.linspace(2, 1, 8000)])
    soundfile.write(tmp_path / "clip.wav", clip, RATE, subtype="FLOAT")
    assert predict(tmp_path / "model", tmp_path / "clip.wav", "--output", tmp_path / "out.jsonl") == 0
    spans = processor.heard_spans(load_audio(str(tmp_path / "clip.wav")))
    assert len(spans) > 1
    assert read(tmp_path / "out.jsonl")[0]["heard"] == [[start / RATE, end / RATE] for start, end in spans]


def test_windows_become_subtitles(tmp_path):
    rows = [
        {"id": "a", "start": 61.5, "end": 3723.25, "prediction": "hap", "scores": {"hap": 0.626}, "text": "a < b --> c"},
        {"id": "a", "start": 0.0, "end": 61.5, "prediction": "neu", "scores": {"neu": 0.4}, "text": None},
    ]
    srt = "1\n00:00:00,000 --> 00:01:01,500\nneu 40 %\n\n2\n00:01:01,500 --> 01:02:03,250\nhap 63 %\na < b -> c\n"
    assert format_subtitles(rows, ".srt") == srt
    vtt = "WEBVTT\n\n" + srt.replace(",500", ".500").replace(",250", ".250").replace(",000", ".000").replace("<", "&lt;")
    assert format_subtitles(rows, ".vtt") == vtt
    assert predict("speech", "clips/deep/d.wav", "--window_seconds", "1", "--output", tmp_path / "out.srt") == 0
    assert (tmp_path / "out.srt").read_text().count(" --> ") == 2
    with pytest.raises(ValueError, match="a has no recording"):
        format_subtitles([{**rows[0], "start": None}], ".srt")


def test_scores_over_time_are_drawn_in_one_figure(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "table.jsonl").write_text(
        "\n".join(json.dumps({"id": name, "text": name * 9, "dialog": "d"}) for name in ("one ", "two ", "three "))
    )
    inputs = ("multimodal", "clips/deep/d.wav", tmp_path / "table.jsonl", "--window_seconds", "0.5")
    for _ in range(2):  # also where all rows are there already
        assert predict(*inputs, "--figure", tmp_path / "all.png", "--output", tmp_path / "out.csv") == 0
        assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "all.png").unlink()
    rows = [
        {"start": 0.5 * n, "end": 0.5 * n + 0.5, "prediction": "a", "text": "", "scores": {"a": 0.75, "b": 0.25}}
        for n in range(3)
    ]
    ax = timeline([("clip", rows)], ["a", "b"]).axes[0]
    bars = {(round(bar.get_x(), 2), round(bar.get_y(), 2), round(bar.get_height(), 2)) for bar in ax.patches}
    assert {(start, *span) for start in (0, 0.5, 1) for span in ((0, 0.75), (0.75, 0.25))} <= bars
    assert ax.get_xlabel() == "time in the recording, in seconds"
    turns = timeline([("dialog", [{**row, "start": None, "end": None} for row in rows])], ["a", "b"]).axes[0]
    assert turns.get_xlabel() == "turn of the dialog" and turns.get_xlim() == (0.5, 3.5)
    with pytest.raises(ValueError, match="at most 20 recordings or dialogs, got 21"):
        timeline([("clip", rows)] * 21, ["a", "b"])


@pytest.mark.parametrize("checkpoint", [(), ("CHECKPOINT", "clips/a.wav")])
def test_without_a_checkpoint_it_says_how_to_get_one(capsys, checkpoint):
    said = " ".join(refused(capsys, *checkpoint).split())
    assert "lemer train" in said and "make demo" in said and "on the Hub" in said
