"""`lemer evaluate`: the map of labels, what the model reads, the scores of what the model answers, and what is said."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_model, tiny_processor

from lemer import score
from lemer.corpora.emotions import match_classes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    tiny_model().save_pretrained(folder)
    tiny_processor(max_history=3).save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path):
    """Eight recordings with words, two of a label that the model does not have."""
    random, rows = np.random.default_rng(0), []
    for number, label in enumerate(["angry", "joy", "neutral", "Sad", "angry", "fear", "exc", "sad"]):
        samples = random.integers(-5000, 5000, 3000 + 200 * number).astype(np.int16)
        soundfile.write(tmp_path / f"{number}.wav", samples, 16_000)
        rows.append({"path": f"{number}.wav", "text": "so late again", "emotion": label, "speaker": "ab"[number % 2]})
    with open(tmp_path / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "table.csv"


def test_labels_are_matched_by_the_map_by_name_and_by_meaning():
    assert match_classes(["angry", "Joy", "exc", "fear"], ["ang", "joy"], {}) == {
        **{"angry": "ang", "Joy": "joy", "exc": None, "fear": None}
    }
    assert match_classes(["angry", "exc"], ["ang", "hap"], {"EXC": "Hap", "angry": "hap"}) == {"angry": "hap", "exc": "hap"}
    assert match_classes(["happiness"], ["happy", "joy"], {}) == {"happiness": None}  # which of the two is not known
    with pytest.raises(ValueError, match=r"expc=hap: expected LABEL=CLASS with a label of the corpus \(exc\)"):
        match_classes(["exc"], ["hap"], {"expc": "hap"})


def test_scores_are_those_of_the_models_answers(checkpoint, corpus, tmp_path, capsys):
    (checkpoint.parent / "results.json").write_text(json.dumps({"training_speakers": ["b", "c"]}))
    out = tmp_path / "scores"
    options = ["--corpus", str(corpus), "--cache_dir", str(tmp_path / "cache"), "--label_map", "exc=hap"]
    assert score.main([str(checkpoint), *options, "--output_dir", str(out)]) == 0
    page = capsys.readouterr().out
    assert "Sad = sad, angry = ang, exc = hap, joy = hap, neutral = neu" in page and "fear (1)" in page
    assert "1 of the 2 speakers of table.csv have names that the training had too (b)" in page
    scores = json.loads((out / "scores.json").read_text())
    assert scores["utterances"] == 7 and scores["modality"] == "multimodal" and 0 <= scores["calibration_error"] <= 1
    assert {"scores.md", "predictions.csv"} <= {path.name for path in out.iterdir()}
    model, processor = tiny_model(), tiny_processor(max_history=3)
    with open(out / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        with torch.no_grad():
            logits = model(**processor(str(corpus.parent / row["id"]), "so late again", return_tensors="pt")).logits[0]
        np.testing.assert_allclose([float(row[name]) for name in ("ang", "hap", "neu", "sad")], logits, atol=1e-5)
    assert scores["wa"] == pytest.approx(np.mean([row["label"] == row["prediction"] for row in rows]))


def test_without_words_the_speech_branch_answers_and_it_is_said(checkpoint, corpus, tmp_path, capsys):
    corpus.write_text(corpus.read_text().replace("text", "note"))
    options = ["--corpus", str(corpus), "--cache_dir", str(tmp_path / "cache")]
    assert score.main([str(checkpoint), *options]) == 0
    assert "the speech branch of the model answers alone" in capsys.readouterr().out
    assert score.main([str(checkpoint), *options, "--label_map", "rage=ang"]) == 1
    assert "rage=ang: expected LABEL=CLASS" in capsys.readouterr().err


def test_silence_around_the_recordings_is_scored_beside_them(checkpoint, corpus, tmp_path, capsys):
    options = ["--corpus", str(corpus), "--cache_dir", str(tmp_path / "cache"), "--silence", "0.05"]
    assert score.main([str(checkpoint), *options, "--output_dir", str(tmp_path / "scores")]) == 0
    assert "| UA with 0.05 s of silence on both sides |" in capsys.readouterr().out
    scores = json.loads((tmp_path / "scores/scores.json").read_text())
    silent, ids = scores["with_silence"], [f"{number}.wav" for number in (0, 1, 2, 3, 4, 7)]
    model, processor = tiny_model(), tiny_processor(max_history=3)
    confusion = np.zeros((4, 4), dtype=int)
    for name, label in zip(ids, (0, 1, 2, 3, 0, 3), strict=True):
        samples, rate = soundfile.read(corpus.parent / name, dtype="float32")
        zeros = np.zeros(800, np.float32)  # a twentieth of a second
        batch = processor(
            audio=np.concatenate([zeros, samples, zeros]), sampling_rate=rate, text="so late again", return_tensors="pt"
        )
        with torch.no_grad():
            confusion[label, int(model(**batch).logits.argmax())] += 1
    assert silent["confusion"] == confusion.tolist() and silent["seconds"] == 0.05 and 0 <= silent["changed"] <= 1


def test_a_checkpoint_that_is_not_whole_gets_no_scores(checkpoint, corpus, tmp_path, capsys):
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    options = ["--corpus", str(corpus), "--cache_dir", str(tmp_path / "cache")]
    (damaged / "tokenizer.json").unlink()
    assert score.main([str(damaged), *options]) == 1
    assert "tokenizer.json is missing" in capsys.readouterr().err
    shutil.copy(checkpoint / "tokenizer.json", damaged)
    tensors = load_file(damaged / "model.safetensors")
    del tensors["cross_attention.weight"]
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    assert score.main([str(damaged), *options]) == 1
    assert "the weights lack cross_attention.weight" in capsys.readouterr().err
