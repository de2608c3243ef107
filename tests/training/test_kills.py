"""train.py killed with -9 at chosen and at random moments, and on a full disk: nothing is lost, nothing half there."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import warm
from releases import write_release
from tiny import tower_folders
from warm import LOGGED

FOLD = "fold2/seed0"


def start(arguments: list[str], largest_file: int | None = None):
    return warm.start("lemer.train", arguments, largest_file)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    corpus = write_release(folder / "release", sessions=2, dialogs_per_session=4)
    speech, text = tower_folders(folder)
    options = {"data_dir": corpus, "cache_dir": folder / "cache", "speech_model": speech, "text_model": text}
    options |= {"batch_size": 4, "epochs": 3, "warmup_steps": 2, "speech_lr": 1e-3, "text_lr": 1e-3, "checkpoint_steps": 1}
    options |= {"validation_share": 0.3, "codes": 5, "words": 3, "folds": 2}
    return [str(part) for name, value in options.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """An undisturbed run and the seconds it took."""
    output = tmp_path_factory.mktemp("whole") / "run"
    begin = time.monotonic()
    process = start([*arguments, "--output_dir", str(output)])
    process.join(100)
    assert process.exitcode == 0
    return output, time.monotonic() - begin


def same_results(one: Path, other: Path):
    for name in ("predictions.csv", "log.jsonl"):
        assert (one / FOLD / name).read_text() == (other / FOLD / name).read_text()
    stages = [run.parent / "second_stage/fold2/checkpoint/model.safetensors" for run in (one, other)]
    assert stages[0].read_bytes() == stages[1].read_bytes()
    kept = [json.loads((run / "results.json").read_text()) for run in (one, other)]
    assert kept[0] == kept[1]
    assert not list(other.rglob("*.tmp"))


def kill_when(process, folder: Path, pattern: str):
    """Kill a process with -9 as soon as a file is there."""
    while process.is_alive() and not any(folder.glob(pattern)):
        time.sleep(0.0005)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


MOMENTS = {
    "while the second stage is begun": "second_stage/fold2",
    "while a state of the second stage is written": "second_stage/fold2/states/step-*.tmp/*",
    "while the second stage is written": "second_stage/fold2/checkpoint.*.tmp",
    "while the model is prepared": "run/fold2/seed0/start.*.tmp",
    "after the model is prepared": "run/fold2/seed0/start/model.safetensors",
    "while a state is written": "run/fold2/seed0/states/step-*.tmp/*",
    "while the best is written": "run/fold2/seed0/states/best-*.tmp",
    "while the checkpoint is written": "run/fold2/seed0/checkpoint.*.tmp",
    "before the results are written": "run/fold2/seed0/checkpoint/config.json",
}


def test_killed_at_every_stage_the_same_command_ends_alike(arguments, whole, tmp_path):
    output = tmp_path / "run"
    for pattern in MOMENTS.values():
        process = start([*arguments, "--output_dir", str(output)])
        kill_when(process, tmp_path, pattern)
    process = start([*arguments, "--output_dir", str(output)])
    process.join(100)
    assert process.exitcode == 0
    same_results(whole[0], output)


def test_killed_at_random_moments_the_same_command_ends_alike(arguments, whole, tmp_path):
    output, rng = tmp_path / "run", random.Random(0)
    for _ in range(6):
        process = start([*arguments, "--cache_dir", str(tmp_path / "cache"), "--output_dir", str(output)])
        process.join(rng.uniform(0.1, 0.8) * whole[1])
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
    process = start([*arguments, "--cache_dir", str(tmp_path / "cache"), "--output_dir", str(output)])
    process.join(100)
    assert process.exitcode == 0
    same_results(whole[0], output)


@pytest.mark.parametrize("begun", [False, True])
def test_a_full_disk_is_one_clear_error_and_the_same_command_goes_on(begun, arguments, whole, tmp_path):
    output = tmp_path / "run"
    if begun:
        process = start([*arguments, "--output_dir", str(output)])
        kill_when(process, output / FOLD, "states/step-000001/progress.json")
    process = start([*arguments, "--output_dir", str(output)], 60_000)
    process.join(100)
    assert process.exitcode == 1
    (error,) = [line for line in (tmp_path / "run.log").read_text().splitlines() if line.startswith("train.py: ")]
    assert "could not be written" in error and ("run/fold2/seed0/states" if begun else "second_stage/fold2/states") in error
    process = start([*arguments, "--output_dir", str(output)])
    process.join(100)
    assert process.exitcode == 0
    same_results(whole[0], output)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_says_how_it_goes_on_and_does(number, status, arguments, whole, tmp_path):
    output = tmp_path / "run"
    # States are written at the ends of epochs only, but SIGTERM brings one of the update that was running.
    # It has to run for a while, so that it is still running when it gets the signal.
    seldom = ["--checkpoint_steps", "1000", "--second_stage", "none", "--recipe", "A1", "--epochs", "12"]
    undisturbed = start([*arguments, *seldom, "--output_dir", str(tmp_path / "undisturbed")])
    undisturbed.join(100)
    process = start([*arguments, *seldom, "--output_dir", str(output)], LOGGED)
    while process.is_alive() and not (output / FOLD / "log.jsonl").exists():
        time.sleep(0.0005)
    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode == status
    (line,) = [line for line in (tmp_path / "run.log").read_text().splitlines() if line.startswith("train.py: ")]
    assert "stopped by" in line and "the same command goes on" in line
    if number == signal.SIGTERM:
        (state,) = (output / FOLD / "states").glob("step-*")
        updates = [json.loads(text)["step"] for text in (output / FOLD / "log.jsonl").read_text().splitlines()]
        assert json.loads((state / "progress.json").read_text())["step"] == max(updates)
    process = start([*arguments, *seldom, "--output_dir", str(output)])
    process.join(100)
    assert process.exitcode == 0
    for name in ("predictions.csv", "log.jsonl"):
        assert (output / FOLD / name).read_text() == (tmp_path / "undisturbed" / FOLD / name).read_text()


def test_the_same_command_at_the_same_time_is_refused_and_harms_nothing(arguments, whole, tmp_path):
    output = tmp_path / "run"
    first = start([*arguments, "--output_dir", str(output)])
    while first.is_alive() and not (output / FOLD / "log.jsonl").exists():
        time.sleep(0.0005)
    second = start([*arguments, "--output_dir", str(output)], LOGGED)
    second.join(100)
    assert second.exitcode == 1
    (line,) = [line for line in (tmp_path / "run.log").read_text().splitlines() if line.startswith("train.py: ")]
    assert "is being written by another run" in line and f"process {first.pid}" in line
    first.join(100)
    assert first.exitcode == 0
    same_results(whole[0], output)


def test_an_output_folder_that_cannot_be_made_is_one_clear_error(arguments, tmp_path, capsys):
    import lemer.train

    (tmp_path / "file").write_text("")
    assert lemer.train.main([*arguments, "--output_dir", str(tmp_path / "file" / "run")]) == 1
    assert "file" in capsys.readouterr().err.strip().splitlines()[-1]
