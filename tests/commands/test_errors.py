"""Whatever is wrong with a checkpoint: one line that names the file and the cause, at every entry point, and no answer."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from runs import write_run
from tiny import perturb, tiny_config, tiny_model, tiny_processor

import lemer.app
import lemer.export
import lemer.predict
import lemer.publish
from lemer import LemerPipeline
from lemer.corpora import dialogs, iemocap
from lemer.evaluation import attention_figure, report
from lemer.runtime.locks import hold


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint without checksums, as an earlier version would have saved it, and a recording beside it."""
    place = tmp_path_factory.mktemp("whole")
    LemerPipeline(tiny_model(), tiny_processor(), device="cpu").save_pretrained(place / "checkpoint")
    change(place / "checkpoint/config.json", lambda fields: fields.pop("checksums"))
    soundfile.write(place / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16_000)
    return place


@pytest.fixture
def place(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "place")


def change(path, edit):
    fields = json.loads(path.read_text())
    edit(fields)
    path.write_text(json.dumps(fields))


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def said(capsys, main, *arguments) -> str:
    """The one line of a command that fails."""
    capsys.readouterr()
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        status = stopped.code
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if ": " in line]
    assert status in (1, 2) and out == "" and len(lines) == 1 and "Traceback" not in err
    return lines[0]


DAMAGES = {
    "a cut header": (lambda folder: cut(folder / "model.safetensors", 40), "model.safetensors cannot be read"),
    "cut weights": (lambda folder: cut(folder / "model.safetensors", 4000), "model.safetensors cannot be read"),
    "no object": (lambda folder: (folder / "config.json").write_text("[]"), "config.json holds no JSON object"),
    "cut JSON": (lambda folder: cut(folder / "config.json", 200), "config.json cannot be read"),
    "a wrong type": (
        lambda folder: change(folder / "config.json", lambda fields: fields["text_config"].update(hidden_size="x")),
        "config.json cannot be used: StrictDataclassFieldValidationError",
    ),
    "a wrong value": (
        lambda folder: change(folder / "config.json", lambda fields: fields["text_config"].update(num_attention_heads=0)),
        "config.json or its weights cannot be used: ZeroDivisionError",
    ),
    "an unknown function": (
        lambda folder: change(folder / "config.json", lambda fields: fields["text_config"].update(hidden_act="x")),
        "config.json or its weights cannot be used: KeyError: 'x'",
    ),
    "wrong labels": (
        lambda folder: change(folder / "config.json", lambda fields: fields.update(id2label={"x": "ang"})),
        "cannot be opened: id2label and label2id must number the classes",
    ),
    "other sizes": (
        lambda folder: change(folder / "config.json", lambda fields: fields["text_config"].update(intermediate_size=5)),
        "",
    ),
    "a cut tokenizer": (lambda folder: cut(folder / "tokenizer.json", 100), "tokenizer.json cannot be read"),
    "an empty tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        "processor_config.json or its tokenizer cannot be used",
    ),
    "a wrong setting": (
        lambda folder: change(folder / "processor_config.json", lambda fields: fields.update(max_history="x")),
        "processor_config.json or its tokenizer cannot be used: TypeError",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_named_with_the_cause(place, capsys, name):
    damage, message = DAMAGES[name]
    damage(place / "checkpoint")
    line = said(capsys, lemer.predict.main, place / "checkpoint", place / "a.wav", "--device", "cpu")
    assert line.startswith(f"predict.py: {place / 'checkpoint'} cannot be opened: ") and message in line and len(line) < 600


def test_every_command_says_it_alike(place, capsys, tmp_path):
    cut(place / "checkpoint/model.safetensors", 40)
    run = write_run(tmp_path / "C1", folds=(5,), seeds=(0,))
    cut(run / "fold5/seed0/checkpoint/model.safetensors", 40)
    checkpoint, commands = place / "checkpoint", (lemer.export, lemer.app, attention_figure)
    arguments = ([place / "m.onnx"], [], [place / "a.wav", "--output", place / "a.png"])
    lines = [said(capsys, one.main, checkpoint, *rest) for one, rest in zip(commands, arguments, strict=True)]
    lines.append(said(capsys, lemer.publish.main, run, "ann/x", "--dry-run", "--output_dir", tmp_path / "out"))
    assert all("model.safetensors cannot be read: Error while deserializing header" in line for line in lines)
    assert not (place / "m.onnx").exists() and not (place / "a.png").exists() and not (tmp_path / "out").exists()


def test_every_command_refuses_a_checkpoint_that_was_changed_after_it_was_saved(capsys, tmp_path):
    """By its checksums alone: nothing else tells that a row of the vocabulary's file was moved."""
    run = write_run(tmp_path / "C1", folds=(5,), seeds=(0,), model=perturb(tiny_model(tiny_config())))
    checkpoint = run / "fold5/seed0/checkpoint"
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16_000)
    tokenizer = (checkpoint / "tokenizer.json").read_text()
    (checkpoint / "tokenizer.json").write_text(tokenizer + "\n")
    for main, arguments in (
        (lemer.export.main, [checkpoint, tmp_path / "m.onnx"]),
        (lemer.app.main, [checkpoint]),
        (lemer.predict.main, [checkpoint, tmp_path / "a.wav"]),
        (attention_figure.main, [checkpoint, tmp_path / "a.wav", "--output", tmp_path / "a.png"]),
        (lemer.publish.main, [run, "ann/x", "--dry-run", "--output_dir", tmp_path / "out"]),
    ):
        assert "tokenizer.json is not the file that was saved" in said(capsys, main, *arguments)
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"C1", "a.wav"}


def test_a_second_command_is_told_who_writes(whole, capsys, tmp_path):
    run = write_run(tmp_path / "C1", folds=(5,), seeds=(0,))
    (tmp_path / "dialogs.jsonl").write_text('{"turns": [{"text": "hello", "emotion": "ang"}]}\n')
    for output, main, arguments in (
        (tmp_path / "m.onnx", lemer.export.main, [whole / "checkpoint", tmp_path / "m.onnx"]),
        (tmp_path / "out", lemer.publish.main, [run, "ann/x", "--dry-run", "--output_dir", tmp_path / "out"]),
        (tmp_path / "report", report.main, [tmp_path, "--output", tmp_path / "report"]),
        (
            tmp_path / "a.png",
            attention_figure.main,
            [whole / "checkpoint", whole / "a.wav", "--output", tmp_path / "a.png"],
        ),
        (tmp_path / "t.jsonl", dialogs.main, [tmp_path / "dialogs.jsonl", tmp_path / "t.jsonl", "--max_per_class", "1"]),
        (tmp_path / "m.jsonl", iemocap.main, [tmp_path, "--manifest", tmp_path / "m.jsonl"]),
    ):
        with hold(output):
            line = said(capsys, main, *arguments)
        assert f"{output} is being written by another run (process " in line
        assert not output.exists()
