"""Nothing that is fitted or chosen sees the session held out: other recordings, words and labels there change no weight."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from releases import label_file, transcript_file, wav_file, write_release
from tiny import tower_folders

import lemer.train
from lemer.corpora.iemocap import load_iemocap

FOLD = 3


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A release, and one that differs from it in everything that session 3 holds."""
    folder = tmp_path_factory.mktemp("leaks")
    whole = write_release(folder / "whole", sessions=3, dialogs_per_session=4)
    other = folder / "other"
    shutil.copytree(whole, other)
    shutil.rmtree(other / f"Session{FOLD}")
    shutil.copytree(
        write_release(folder / "third", sessions=3, dialogs_per_session=2, seed=9) / "Session3", other / "Session3"
    )
    dialog = f"Ses0{FOLD}F_impro01"
    transcript_file(other, dialog).write_text(transcript_file(other, dialog).read_text().replace("cry", "zyzzyva furious"))
    label_file(other, dialog).write_text(label_file(other, dialog).read_text().replace("\tneu\t", "\tang\t"))
    for turn in ("F000", "M000"):
        soundfile.write(wav_file(other, f"{dialog}_{turn}"), np.random.default_rng(0).normal(0, 0.3, 8000), 16_000)
    return whole, other


@pytest.fixture(scope="module")
def runs(corpora, tmp_path_factory):
    """LE-MER on both: second stage, key words, key frames, validation, three epochs."""
    folder = tmp_path_factory.mktemp("runs")
    speech, text = tower_folders(folder / "towers")
    options = {"cache_dir": folder / "cache", "speech_model": speech, "text_model": "small", "batch_size": 4, "epochs": 3}
    options |= {"warmup_steps": 2, "validation_share": 0.3, "codes": 5, "words": 3, "folds": FOLD, "new_lr": 1e-2}
    outputs = []
    for corpus in corpora:
        output = folder / corpus.name / "C1"
        arguments = {**options, "data_dir": corpus, "output_dir": output}
        assert lemer.train.main([str(part) for name, value in arguments.items() for part in (f"--{name}", value)]) == 0
        outputs.append(output)
    return outputs


def test_the_session_held_out_differs_in_all(corpora, tmp_path):
    rows = [[row for row in load_iemocap(corpus, cache_dir=tmp_path)[0] if row["session"] == FOLD] for corpus in corpora]
    assert len(rows[0]) != len(rows[1]) and not {row["text"] for row in rows[0]} & {row["text"] for row in rows[1]}


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_the_model_is_the_same_to_the_last_bit(runs, file):
    one, other = ((run / f"fold{FOLD}/seed0/checkpoint" / file).read_bytes() for run in runs)
    assert one == other


def test_the_second_stage_is_the_same_to_the_last_bit(runs):
    one, other = ((run.parent / f"second_stage/fold{FOLD}/checkpoint/model.safetensors").read_bytes() for run in runs)
    assert one == other


def test_losses_and_the_choice_of_the_epoch_are_the_same(runs):
    logs = [(run / f"fold{FOLD}/seed0/log.jsonl").read_text() for run in runs]
    assert logs[0] == logs[1]
    results = [json.loads((run / f"fold{FOLD}/seed0/results.json").read_text()) for run in runs]
    assert results[0]["selected"] == results[1]["selected"] and results[0]["validation_ua"] == results[1]["validation_ua"]
    assert results[0]["utterances"] != results[1]["utterances"]


def test_no_test_speaker_is_trained_on(corpora, tmp_path):
    dataset, _ = load_iemocap(corpora[0], cache_dir=tmp_path)
    speakers = {
        session: {row["speaker"] for row in dataset if (row["session"] == FOLD) == session} for session in (True, False)
    }
    assert not speakers[True] & speakers[False]


def test_history_is_of_the_same_dialog_and_earlier(corpora, tmp_path):
    dataset, _ = load_iemocap(corpora[0], cache_dir=tmp_path)
    rows = {row["id"]: row for row in dataset}
    assert any(row["history_ids"] for row in dataset)
    for row in dataset:
        for earlier in row["history_ids"]:
            assert rows[earlier]["dialog"] == row["dialog"] and rows[earlier]["start"] <= row["start"]
