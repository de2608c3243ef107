"""The real script: files, folders, manifests and dialogs in, CSV and JSON lines out, bad files, kills."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import tiny_model, tiny_processor
from tiny_asr import write_tiny_asr
from transformers import pipeline
from warm import start

import lemer.predict
from lemer import LemerPipeline
from lemer.corpora import shards
from lemer.corpora.manifest import Utterance
from lemer.prediction.answering import batches
from lemer.runtime.files import from_cell
from lemer.runtime.locks import hold
from lemer.runtime.stopping import Terminated

RATE = 16_000  # Hz
NOISE = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
LENGTHS = {"a.wav": 4000, "b.wav": 9000, "deep/c.flac": 2000, "deep/d.wav": 32_000, "e.wav": 5000}  # samples
TEXTS = ["hello, you", 'i "hate" this\nday', "", "we won the day", "so late"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Checkpoints of every modality, a folder of recordings and a manifest of them, all in the working folder."""
    place = tmp_path_factory.mktemp("predict")
    for modality in ("multimodal", "speech", "text"):
        LemerPipeline(tiny_model(modality=modality), tiny_processor(), device="cpu").save_pretrained(place / modality)
    (place / "clips" / "deep").mkdir(parents=True)
    for name, length in LENGTHS.items():
        soundfile.write(place / "clips" / name, NOISE[:length], RATE, subtype="PCM_16")
    (place / "clips" / "notes.txt").write_text("no recording")
    with open(place / "clips" / "all.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "audio", "text", "label"])
        rows.writerows([f"u{i}", name, text, "sad"] for i, (name, text) in enumerate(zip(LENGTHS, TEXTS, strict=True)))
    return place


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def pipe(place):
    return pipeline(
        "speech-emotion-recognition", model=str(place / "multimodal"), pipeline_class=LemerPipeline, device="cpu"
    )


def predict(*arguments) -> int:
    return lemer.predict.main([*map(str, arguments), "--device", "cpu"])


def refused(capsys, *arguments) -> str:
    """The one line of a command that could not begin."""
    capsys.readouterr()
    try:
        status = predict(*arguments)
    except SystemExit as stopped:  # a wrong option
        status = stopped.code
    said = capsys.readouterr().err
    assert status == 2 and said.splitlines()[-1].startswith("predict.py: ")
    return said


def read(path: Path) -> list[dict]:
    """Rows of either form, with `scores`."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().removesuffix("\n").split("\n")]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    labels = ("ang", "hap", "neu", "sad")
    return [{**row, "scores": {label: float(row[label]) for label in labels}} for row in rows]


def assert_answers(rows: list[dict], answers: list[list[dict]]):
    assert len(rows) == len(answers)
    for row, answer in zip(rows, answers, strict=True):
        expected = {one["label"]: one["score"] for one in answer}
        assert row["scores"] == pytest.approx(expected, abs=2e-5)
        assert row["prediction"] == max(row["scores"], key=row["scores"].get)
        assert row["modality"] == answer[0]["modality"]


# ------------------------------------------------------------------------------------------------------------- inputs


def test_files_and_folders_are_answered_as_by_the_pipeline(pipe, tmp_path):
    assert predict("multimodal", "clips/e.wav", "clips/deep", "--output", tmp_path / "out.csv") == 0
    rows = read(tmp_path / "out.csv")
    names = ["clips/e.wav", "clips/deep/c.flac", "clips/deep/d.wav"]
    assert [row["id"] for row in rows] == names
    assert_answers(rows, [pipe(name) for name in names])
    assert [(float(row["start"]), float(row["end"])) for row in rows] == [(0, 0.3125), (0, 0.125), (0, 2)]


def test_a_folder_is_searched_to_its_ground_for_recordings_alone(tmp_path):
    assert predict("speech", "clips", "--output", tmp_path / "out.csv") == 0
    assert [row["id"] for row in read(tmp_path / "out.csv")] == sorted(f"clips/{name}" for name in LENGTHS)


def test_16_bits_change_the_scores_a_little(pipe, tmp_path):
    assert predict("multimodal", "clips/all.csv", "--dtype", "bfloat16", "--output", tmp_path / "out.jsonl") == 0
    for row, name, text in zip(read(tmp_path / "out.jsonl"), LENGTHS, TEXTS, strict=True):
        expected = {one["label"]: one["score"] for one in pipe({"audio": f"clips/{name}", "text": text})}
        assert row["scores"] == pytest.approx(expected, abs=0.05)
        assert row["scores"] != pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_manifest_gives_words_and_its_paths_are_relative_to_it(pipe, tmp_path, form):
    assert predict("multimodal", "clips/all.csv", "--output", tmp_path / f"out.{form}") == 0
    rows = read(tmp_path / f"out.{form}")
    assert [row["id"] for row in rows] == ["u0", "u1", "u2", "u3", "u4"]
    assert [row["text"] or "" for row in rows] == TEXTS
    inputs = [{"audio": f"clips/{name}", "text": text} for name, text in zip(LENGTHS, TEXTS, strict=True)]
    assert_answers(rows, [pipe(one) for one in inputs])


def test_a_file_whose_name_is_no_text_is_answered_under_a_name_that_can_be_printed(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path / "clips") + b"\xff.wav")
    try:
        Path(path).write_bytes(Path("clips/a.wav").read_bytes())
    except OSError:
        pytest.skip("this file system takes text alone")
    assert predict("speech", path, "clips/a.wav", "--output", tmp_path / "out.csv") == 0
    first, second = read(tmp_path / "out.csv")
    assert first["id"].endswith("clips\\udcff.wav") and second["id"] == "clips/a.wav"
    assert first["ang"] == second["ang"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_any_text_comes_back_as_it_was_and_is_resumed(tmp_path, form):
    texts = ["a\rb", "a\nb", "a\r\nb", 'a,"b"', "ä\u2028b\x85", "\\n"]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    output = tmp_path / f"out.{form}"
    for _ in range(2):
        assert predict("text", tmp_path / "m.jsonl", "--output", output) == 0
        assert [row["text"] for row in read(output)] == texts


def test_json_lines_may_name_the_history(pipe, tmp_path):
    lines = [{"id": 7, "text": "hello", "history": ["i hate this"]}, {"path": str(Path("clips/a.wav").resolve())}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert predict("multimodal", tmp_path / "m.jsonl", "--output", tmp_path / "out.jsonl") == 0
    rows = read(tmp_path / "out.jsonl")
    assert rows[0]["id"] == "7" and rows[0]["start"] is None
    assert_answers(rows, [pipe({"text": "hello", "history": ["i hate this"]}), pipe("clips/a.wav")])


def test_turns_of_a_dialog_have_the_turns_before_them_as_history(pipe, tmp_path):
    (tmp_path / "m.csv").write_text(
        "id,text,dialog,order\nx3,you won,x,10\ny1,hello,y,1\nx1,i hate this,x,2\nalone,hello,,\nx2,so late,x,9.5\n"
    )
    assert predict("multimodal", tmp_path / "m.csv", "--output", tmp_path / "out.csv") == 0
    expected = {
        "x1": {"text": "i hate this"},
        "x2": {"text": "so late", "history": ["i hate this"]},
        "x3": {"text": "you won", "history": ["i hate this", "so late"]},
        "y1": {"text": "hello"},
        "alone": {"text": "hello"},
    }
    rows = read(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == list(expected)
    assert_answers(rows, [pipe(one) for one in expected.values()])


def test_all_inputs_may_be_one_dialog(pipe, tmp_path):
    (tmp_path / "m.csv").write_text("id,text\none,i hate this\ntwo,you won\n")
    assert predict("multimodal", "--dialog", tmp_path / "m.csv", "--output", tmp_path / "out.csv") == 0
    assert_answers(read(tmp_path / "out.csv"), pipe({"turns": [{"text": "i hate this"}, {"text": "you won"}]}))


def test_rows_with_start_and_end_are_parts_of_their_recording(pipe, tmp_path):
    (tmp_path / "call.wav").write_bytes(Path("clips/deep/d.wav").read_bytes())
    lines = ["call.wav,0,0.5,hello", "call.wav,0.5,2,", "call.wav,1.5,2,you won"]
    (tmp_path / "m.csv").write_text("\n".join(["file,start,end,text", *lines]))
    command = ("multimodal", tmp_path / "m.csv", "--window_seconds", "1", "--output", tmp_path / "out.csv")
    assert predict(*command) == 0
    rows = read(tmp_path / "out.csv")
    names = ["call.wav[0-0.5]", "call.wav[0.5-2]", "call.wav[0.5-2]", "call.wav[1.5-2]"]
    assert [row["id"] for row in rows] == names
    assert [(float(row["start"]), float(row["end"])) for row in rows] == [(0, 0.5), (0.5, 1.25), (1.25, 2), (1.5, 2)]
    samples, _ = soundfile.read("clips/deep/d.wav", dtype="float32")
    parts = [(0, 8000, "hello"), (8000, 20_000, None), (20_000, 32_000, None), (24_000, 32_000, "you won")]
    inputs = [{"audio": {"array": samples[a:b], "sampling_rate": RATE}, "text": text} for a, b, text in parts]
    assert_answers(rows, [pipe(one) for one in inputs])


def test_a_part_that_lies_outside_of_its_recording_is_named(tmp_path, capsys):
    (tmp_path / "m.csv").write_text("id,file,start,end\ngone,clips/a.wav,0,9\ngood,clips/a.wav,0,0.1\n")
    assert predict("speech", tmp_path / "m.csv", "--output", tmp_path / "out.csv") == 1
    assert [row["id"] for row in read(tmp_path / "out.csv")] == ["good"]
    assert "gone: 0 to 9 s is no part of a recording of 0.25 s" in capsys.readouterr().err


def test_words_are_heard_where_none_are_given_and_are_history(pipe, tmp_path):
    asr = write_tiny_asr(tmp_path / "asr")
    heard = pipeline("automatic-speech-recognition", model=asr, device="cpu")
    turns = ["clips/a.wav", "clips/e.wav"]
    assert predict("multimodal", "--dialog", *turns, "--asr", asr, "--output", tmp_path / "out.csv") == 0
    rows = read(tmp_path / "out.csv")
    assert_answers(rows, pipe({"turns": [{"audio": turn} for turn in turns]}, asr=heard))
    assert rows[0]["text"] and {row["modality"] for row in rows} == {"multimodal"}


def test_a_long_recording_has_a_row_for_each_window(pipe, tmp_path):
    assert predict("multimodal", "clips/deep/d.wav", "--window_seconds", 0.75, "--output", tmp_path / "out.csv") == 0
    rows = read(tmp_path / "out.csv")
    windows = pipe("clips/deep/d.wav", window_seconds=0.75)
    assert [(row["window"], row["windows"]) for row in rows] == [("1", "3"), ("2", "3"), ("3", "3")]
    assert [float(row["start"]) for row in rows] == pytest.approx([one["start"] for one in windows])
    assert_answers(rows, [one["scores"] for one in windows])


def test_without_an_output_there_is_a_table(capsys):
    assert predict("multimodal", "clips/all.csv") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["id", "seconds", "answer", "ang", "hap", "neu", "sad", "by", "text"]
    assert [line.split()[0] for line in lines[1:]] == ["u0", "u1", "u2", "u3", "u4"]
    assert lines[2].endswith('i "hate" this day') and "1 row is of the speech branch alone" in err


def test_figures_are_drawn_of_every_row(tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "figures"
    assert predict("multimodal", "clips/a.wav", "clips/deep/d.wav", "--window_seconds", 1, "--figure", folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "00001_clips_a.wav.png",
        "00002_clips_deep_d.wav-1.png",
        "00002_clips_deep_d.wav-2.png",
    ]


# ---------------------------------------------------------------------------------------------------------- bad inputs


def test_bad_inputs_are_named_with_their_reasons_and_the_others_are_answered(pipe, tmp_path, capsys):
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    lines = [{"id": "number", "text": 3}, {"id": "nothing", "audio": ""}, {"id": "good", "text": "hello"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    inputs = ["clips/a.wav", tmp_path / "bad.wav", "gone.wav", tmp_path / "m.jsonl", "clips/e.wav"]
    assert predict("multimodal", *inputs, "--output", tmp_path / "out.csv") == 1
    rows = read(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == ["clips/a.wav", "good", "clips/e.wav"]
    assert_answers(rows, [pipe("clips/a.wav"), pipe({"text": "hello"}), pipe("clips/e.wav")])
    err = capsys.readouterr().err
    assert "4 of 7 inputs failed:" in err
    for name, reason in {
        str(tmp_path / "bad.wav"): "cannot be read as audio",
        "gone.wav": "no audio file",
        "number": "text must be a string",
        "nothing": "neither audio nor words",
    }.items():
        assert [line for line in err.splitlines() if line.startswith(f"  {name}: ") and reason in line]


def test_the_words_of_a_turn_that_failed_are_still_history(pipe, tmp_path):
    (tmp_path / "m.csv").write_text("id,audio,text,dialog\none,gone.wav,i hate this,x\ntwo,,you won,x\n")
    assert predict("multimodal", tmp_path / "m.csv", "--output", tmp_path / "out.csv") == 1
    assert_answers(read(tmp_path / "out.csv"), [pipe({"text": "you won", "history": ["i hate this"]})])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["multimodal"], "INPUT"),
        (["multimodal", "clips", "--output", "out.txt"], "--output must end with"),
        (["multimodal", "clips", "--batch_size", "0"], "--batch_size must be at least 1, got 0"),
        (["multimodal", "clips", "--window_seconds", "200"], "window_seconds must be above 0"),
        (["multimodal", "clips", "clips/a.wav"], "'clips/a.wav': every id must be there once"),
        (["multimodal", "multimodal"], "multimodal holds neither recordings nor tables"),
        (["clips", "clips"], "clips"),
        (["text", "clips"], "reads words only, and no input has any"),
        (["multimodal", "gone.csv"], "no file or folder gone.csv"),
        (["multimodal", "m.csv", "name,words\na,b\n"], "no column audio, path or text, but name, words"),
        (["multimodal", "m.csv", "n,my clip\n1,a.WAV\n"], "names of recordings: --audio_column 'my clip'"),
        (["multimodal", "m.csv", "id,text\na,hello, you\n"], "m.csv, after 0 rows: not as many fields as the header has"),
        (["multimodal", "m.csv", "id,text\na\n"], "not as many fields"),
        (["multimodal", "m.csv", "id,text\n"], "has no rows"),
        (["multimodal", "m.csv", 'id,text\na,"hello\n'], "m.csv, after 0 rows: unexpected end of data"),
        (["multimodal", "m.csv", "id,text\na,\udce4x\udc81\n"], "can't decode byte 0xe4"),
        (["multimodal", "m.csv", "text,dialog,order\nhello,x,first\n"], "row 1: order must be a number, got 'first'"),
        (["multimodal", "m.csv", "text,dialog\nhello,x\n", "--dialog"], "leave --dialog out"),
        (["multimodal", "m.jsonl", '{"text":'], "m.jsonl: no line of it is a JSON object: "),
        (["multimodal", "m.jsonl", "3\n"], "every line must be a JSON object"),
        (["multimodal", "m.jsonl", '{"text": "hello", "dialog": "x", "history": ["you"]}'], "both dialog and history"),
    ],
)
def test_what_cannot_begin_ends_with_status_2(place, capsys, tmp_path, arguments, message):
    if arguments[1:] and arguments[1].startswith("m."):
        (tmp_path / arguments[1]).write_bytes(os.fsencode(arguments.pop(2)))
        arguments[1] = tmp_path / arguments[1]
    assert message in refused(capsys, *arguments)


def test_help_ends_with_status_0(capsys):
    with pytest.raises(SystemExit) as stopped:
        predict("--help")
    assert stopped.value.code == 0 and "CHECKPOINT INPUT" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------ resuming

# Small batches, so that there are several shards of them, and windows.
SEVERAL = ["multimodal", "clips/all.csv", "--batch_size", "2", "--window_seconds", "0.1"]


@pytest.fixture
def several(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BATCHES", 1)
    return SEVERAL


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_run_that_was_cut_anywhere_ends_with_the_same_bytes(several, tmp_path, form):
    whole, cut = tmp_path / f"whole.{form}", tmp_path / f"cut.{form}"
    assert predict(*several, "--output", whole) == 0
    content = whole.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for size in {0, 5, *ends[:4], ends[2] + 7, ends[-2], ends[-2] + 20, len(content) - 1, len(content)}:
        cut.write_bytes(content[:size])
        assert predict(*several, "--output", cut) == 0
        assert cut.read_bytes() == content, size


def test_what_is_there_is_not_done_again(several, tmp_path, monkeypatch):
    assert predict(*several, "--output", tmp_path / "out.csv") == 0
    monkeypatch.setattr(LemerPipeline, "preprocess", lambda *_, **__: pytest.fail("done again"))
    assert predict(*several, "--output", tmp_path / "out.csv") == 0


def test_more_inputs_may_join_later(pipe, tmp_path):
    assert predict("multimodal", "clips/a.wav", "--output", tmp_path / "out.csv") == 0
    assert predict("multimodal", "clips/a.wav", "clips/e.wav", "--output", tmp_path / "out.csv") == 0
    assert_answers(read(tmp_path / "out.csv"), [pipe("clips/a.wav"), pipe("clips/e.wav")])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("out.csv", "id,text\na,hello\n"),
        ("out.csv", "id,text\n"),
        ("out.csv", "nothing of ours"),
        ("out.jsonl", '{"id": "a"}\n'),
        ("out.jsonl", '{"id": "a"\n'),
        ("out.jsonl", "3\n"),
        ("out.jsonl", "nothing of ours\n"),
    ],
)
def test_a_file_that_is_not_ours_is_left_as_it_is(tmp_path, capsys, name, content):
    (tmp_path / name).write_text(content)
    assert "was not written by this command" in refused(capsys, "multimodal", "clips/a.wav", "--output", tmp_path / name)
    assert (tmp_path / name).read_text() == content


def test_answers_of_another_checkpoint_are_not_joined(tmp_path, capsys):
    assert predict("speech", "clips/a.wav", "--output", tmp_path / "out.csv") == 0
    assert "of multimodal" in refused(capsys, "multimodal", "clips", "--output", tmp_path / "out.csv")


def test_answers_in_another_precision_are_not_joined(tmp_path, capsys):
    assert predict("speech", "clips/a.wav", "--dtype", "bfloat16", "--output", tmp_path / "out.csv") == 0
    assert "of speech in bfloat16" in refused(capsys, "speech", "clips", "--output", tmp_path / "out.csv")


def test_a_batch_has_a_number_of_utterances_and_of_samples():
    lengths = [90, 60, 40, 30, 20, 20, 20, 10, 10, 10, 10, 10, None, None, None, None, None]
    pieces = [{"audio": length and [0.0] * length} for length in lengths]
    found = [[piece["audio"] and len(piece["audio"]) for piece in batch] for batch in batches(pieces, 4, 80)]
    expected = [[90], [60], [40, 30], [20, 20, 20, 10], [10, 10, 10, 10], [None] * 4, [None]]
    assert found == expected
    assert list(map(len, batches(pieces, 4, float("inf")))) == [4, 4, 4, 4, 1]
    assert list(batches([], 4, 80)) == []


@pytest.mark.parametrize("fit", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_answered_in_parts(fit, tmp_path, monkeypatch):
    predict("multimodal", "clips/all.csv", "--output", tmp_path / "whole.csv")
    forward, sizes = LemerPipeline.forward, []

    def small_memory(pipe, pieces):
        sizes.append(len(pieces))
        if len(pieces) > fit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(pipe, pieces)

    monkeypatch.setattr(LemerPipeline, "forward", small_memory)
    assert predict("multimodal", "clips/all.csv", "--output", tmp_path / "parts.csv") == 0
    assert max(sizes) == len(LENGTHS)
    for part, whole in zip(read(tmp_path / "parts.csv"), read(tmp_path / "whole.csv"), strict=True):
        assert part["id"] == whole["id"] and part["prediction"] == whole["prediction"]
        for label in ("ang", "hap", "neu", "sad"):
            assert float(part[label]) == pytest.approx(float(whole[label]), abs=2e-5)


def test_what_does_not_fit_alone_is_named_and_the_others_are_answered(tmp_path, monkeypatch, capsys):
    forward = LemerPipeline.forward

    def small_memory(pipe, pieces):
        if max(len(piece["audio"]) for piece in pieces) > 10_000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(pipe, pieces)

    monkeypatch.setattr(LemerPipeline, "forward", small_memory)
    assert predict("speech", "clips", "--output", tmp_path / "out.csv") == 1
    assert len(read(tmp_path / "out.csv")) == len(LENGTHS) - 1
    assert "deep/d.wav: too long for the memory of cpu" in capsys.readouterr().err


def test_windows_of_another_length_are_not_joined(tmp_path, capsys):
    assert predict("speech", "clips/a.wav", "--window_seconds", "1", "--output", tmp_path / "out.csv") == 0
    assert read(tmp_path / "out.csv")[0]["window_seconds"] == "1"
    assert "asr none, window_seconds 30." in refused(capsys, "speech", "clips", "--output", tmp_path / "out.csv")


def test_windows_are_no_longer_than_the_processor_takes(tmp_path):
    tiny_model(modality="speech").save_pretrained(tmp_path / "model")
    processor = tiny_processor()
    processor.max_audio_seconds = 1.5
    processor.save_pretrained(tmp_path / "model")
    assert predict(tmp_path / "model", "clips/deep/d.wav", "--output", tmp_path / "out.csv") == 0
    assert [(row["window"], row["window_seconds"]) for row in read(tmp_path / "out.csv")] == [("1", "1.5"), ("2", "1.5")]


def test_figures_are_drawn_in_16_bits_too(tmp_path):
    pytest.importorskip("matplotlib")
    assert predict("multimodal", "clips/a.wav", "--dtype", "bfloat16", "--figure", tmp_path / "figures") == 0
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["00001_clips_a.wav.png"]


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(place, tmp_path):
    clips = tmp_path / "many"
    clips.mkdir()
    for number in range(48):
        soundfile.write(clips / f"{number:03d}.wav", NOISE[: 4000 + 50 * number], RATE)
    output = tmp_path / "killed.csv"
    command = [place / "multimodal", clips, "--batch_size", "1", "--device", "cpu"]
    process = start("lemer.predict", [*command, "--output", output])
    while process.is_alive() and not (output.exists() and output.stat().st_size):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(read(output)) < 48
    assert predict(*command, "--output", output) == 0
    assert predict(*command, "--output", tmp_path / "whole.csv") == 0
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


# ----------------------------------------------------------------------------------- others who write, stop, or read


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_a_run_that_was_stopped_says_so_and_goes_on_to_the_same_bytes(several, tmp_path, monkeypatch, capsys, error, status):
    assert predict(*several, "--output", tmp_path / "whole.csv") == 0
    forward, calls = LemerPipeline.forward, []

    def stop(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 4:
            raise error
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LemerPipeline, "forward", stop)
    assert predict(*several, "--output", tmp_path / "out.csv") == status
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "predict.py: stopped by" in line and "out.csv are whole, and the same command goes on" in line
    monkeypatch.setattr(LemerPipeline, "forward", forward)
    assert predict(*several, "--output", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_two_runs_at_once_do_not_write_into_one_file(tmp_path, capsys):
    with hold(tmp_path / "out.csv"):
        assert "is being written by another run" in refused(
            capsys, "multimodal", "clips/a.wav", "--output", tmp_path / "out.csv"
        )
    assert predict("multimodal", "clips/a.wav", "--output", tmp_path / "out.csv") == 0
    assert len(read(tmp_path / "out.csv")) == 1


@pytest.mark.parametrize("where", ["a folder", "below a file"])
def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch, capsys, where):
    monkeypatch.setattr(lemer.predict, "open_pipeline", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    output = {"a folder": tmp_path / "folder.csv", "below a file": tmp_path / "file" / "out.csv"}[where]
    assert str(output) in refused(capsys, "multimodal", "clips/a.wav", "--output", output)


def test_a_full_disk_is_one_clear_error(several, tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert predict(*several, "--output", tmp_path / "out.csv") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "out.csv cannot be written" in line and "No space left on device" in line and "goes on from there" in line


def test_no_cell_is_a_formula_and_every_text_comes_back(tmp_path):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "'=1+1", "'quoted'", "plain"]
    (tmp_path / "m.jsonl").write_text("\n".join(json.dumps({"id": text, "text": f"{text} hello"}) for text in texts))
    for _ in range(2):  # the ids of the second run are found to be there
        assert predict("text", tmp_path / "m.jsonl", "--output", tmp_path / "out.csv") == 0
    rows = read(tmp_path / "out.csv")
    assert len(rows) == len(texts)
    assert not [row for row in rows for name in ("id", "text") if row[name].startswith(("=", "+", "-", "@", "\t"))]
    assert [from_cell(row["id"]) for row in rows] == texts


def test_a_shard_counts_decoded_seconds(tmp_path, monkeypatch):
    for name in "abc":  # small files of long silence
        soundfile.write(tmp_path / f"{name}.flac", np.zeros(600 * 8_000, dtype=np.int16), 8_000)
    dialogs = [[Utterance(name, str(tmp_path / f"{name}.flac"))] for name in "abc"]
    monkeypatch.setattr(shards, "SHARD_SECONDS", 1_300)
    assert [len(shard.dialogs) for shard in shards.shards(dialogs, 8)] == [2, 1]
