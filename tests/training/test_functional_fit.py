"""The recipe small_corpus: warped copies, speakers kept apart, the fitted classifier in the model, and the real script."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel

import lemer.train
from lemer import LemerConfig, LemerModel, LemerProcessor
from lemer.audio_lemer import load_audio
from lemer.benchmarks import baseline
from lemer.corpora.iemocap import load_iemocap
from lemer.evaluation.run_folder import Predictions, read_run
from lemer.functionals_lemer import FUNCTIONALS
from lemer.training.functional_fit import COPIES, TEMPERATURE, fit, set_classifier, warp


def test_a_shift_moves_every_band_down_and_repeats_the_outermost():
    values = torch.arange(80.0)[None, :, None].expand(1, 80, 3)
    assert warp(values, 2.0, 1.0)[0, :, 0].tolist() == [*range(2, 80), 79, 79]
    torch.testing.assert_close(warp(values, -0.25, 1.0)[0, :3, 1], torch.tensor([0.0, 0.75, 1.75]))


def test_a_tempo_stretches_the_positions_and_keeps_the_ends():
    values = torch.arange(5.0).expand(1, 80, 5)
    torch.testing.assert_close(warp(values, 0.0, 1.8)[0, 7], torch.arange(9.0) / 2)
    assert warp(values[..., :1], 0.0, 0.3).shape == (1, 80, 1)


def test_no_speaker_is_on_both_sides_of_a_split():
    groups, labels = np.repeat(list("abcdef"), 8), np.tile([0, 1], 24)
    splits = baseline.speaker_splits(labels, groups, seed=0)
    assert len(splits) == 4
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(48))
    assert all(not set(groups[train]) & set(groups[test]) for train, test in splits)


@pytest.mark.parametrize("known", [[0, 1, 2, 3], [1, 3], [0, 2, 3]])
def test_the_model_answers_as_the_fitted_classifier(known):
    rng = np.random.default_rng(0)
    labels = np.asarray(known)[np.arange(24) % len(known)]
    copies = rng.normal(3.0, 2.0, size=(2, 24, FUNCTIONALS))
    fitted = fit(copies, labels)
    model = LemerModel(LemerConfig(modality="speech", use_label_embeddings=False, speech_encoder="functionals"))
    set_classifier(model, fitted)
    functionals = model.speech_functionals
    standardised = (torch.from_numpy(copies[0]).float() - functionals.mean) / functionals.scale
    answers = (TEMPERATURE * model.classifier(standardised)).softmax(-1).detach().numpy()
    np.testing.assert_allclose(answers[:, known], fitted.predict_proba(copies[0]), atol=1e-4)
    assert not model.untrained


@pytest.fixture(scope="module")
def run(five_sessions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small_corpus")
    options = ["--recipe", "small_corpus", "--data_dir", str(five_sessions), "--cache_dir", str(folder / "cache")]
    options += ["--folds", "1", "2", "--output_dir", str(folder / "run")]
    assert lemer.train.main(options) == 0
    return folder / "run", options


def test_the_script_needs_no_tower_and_leaves_a_finished_run(run, five_sessions):
    folder, _ = run
    results = json.loads((folder / "fold1" / "seed0" / "results.json").read_text())
    assert results["selected"].startswith("nothing") and results["split"]["validation"] == 0
    model = AutoModel.from_pretrained(folder / "fold1" / "seed0" / "checkpoint")
    assert model.config.speech_encoder == "functionals" and not model.untrained and not model.damage
    assert len(read_run(folder).folds) == 2
    protocol = json.loads((folder / "protocol.json").read_text())
    assert protocol["speech_model"] is None and protocol["selection"] == "last update"  # so that it can be fused


def test_the_same_command_again_leaves_what_is_finished(run):
    folder, options = run
    path = folder / "fold1" / "seed0" / "checkpoint" / "model.safetensors"
    before = path.stat().st_mtime_ns
    assert lemer.train.main(options) == 0
    assert path.stat().st_mtime_ns == before


def test_a_finished_run_is_scored_once_more_with_silence(run, five_sessions):
    folder, options = run
    checkpoint = folder / "fold1" / "seed0" / "checkpoint"
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert lemer.train.main([*options, "--silence", "0.5"]) == 0
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == before
    part = read_run(folder).parts[1, 0]
    samples, _ = load_iemocap(five_sessions, cache_dir=folder.parent / "cache")
    recordings = dict(zip(samples["id"], samples["audio"], strict=True))
    model, processor = AutoModel.from_pretrained(checkpoint).eval(), LemerProcessor.from_pretrained(checkpoint)
    predicted = []
    for name in part.predictions.ids:
        inputs = processor(audio=np.pad(load_audio(recordings[name]), 8000), sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            predicted.append(int(model(**inputs).logits.argmax()))
    silent = part.results["with_silence"]
    assert silent["seconds"] == 0.5
    assert silent["wa"] == pytest.approx(np.mean(predicted == part.predictions.labels))
    assert silent["changed"] == pytest.approx(np.mean(predicted != part.predictions.predicted))
    assert "| with 0.5 s of silence on both sides |" in (folder / "results.md").read_text()


@pytest.mark.parametrize("option", [["--recipe", "A1"], ["--recipe", "score_fusion"]])
def test_silence_is_refused_where_nothing_is_heard(option, five_sessions, tmp_path, capsys):
    options = ["--data_dir", str(five_sessions), "--output_dir", str(tmp_path / "run"), "--silence", "1"]
    assert lemer.train.main([*option, *options]) == 1
    assert "leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--epochs", "3"], ["--speech_lr", "1e-3"], ["--set", "speech_config.hidden_size=8"]])
def test_an_option_of_a_training_by_gradients_is_refused(option, five_sessions, tmp_path, capsys):
    options = ["--recipe", "small_corpus", "--data_dir", str(five_sessions), "--output_dir", str(tmp_path / "run")]
    assert lemer.train.main([*options, *option]) == 1
    assert "no tower" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- the baseline


def test_the_baselines_classifiers_see_neither_the_fold_nor_its_speakers(five_sessions, tmp_path):
    samples, _ = load_iemocap(five_sessions, cache_dir=tmp_path)
    samples = samples.select(np.flatnonzero(np.asarray(samples["label"]) >= 0))
    sessions = np.asarray(samples["session"])
    copies = np.random.default_rng(0).normal(size=(1, len(samples), 6))
    seen = []

    class Recorder:
        classes_ = np.arange(4)

        def __init__(self, copies, labels):
            seen.append(copies[0, :, 0])

        def predict(self, rows):
            return np.zeros(len(rows), dtype=int)

        def decision_function(self, rows):
            return np.zeros((len(rows), 4))

    answers = baseline.cross_validate([Recorder, Recorder], copies, samples, [2], seed=0)
    held_out = set(copies[0, sessions == 2, 0])
    assert all(not held_out & set(rows) for rows in seen) and len(seen) > 1
    np.testing.assert_allclose(answers[2], np.log(0.25))


def test_by_speaker_every_speaker_has_mean_0_and_deviation_1():
    copies, groups = np.random.default_rng(0).normal(5.0, 3.0, size=(2, 12, 4)), np.repeat(["a", "b"], 6)
    for copy in baseline.by_speaker(copies, groups):
        for speaker in "ab":
            np.testing.assert_allclose(copy[groups == speaker].mean(0), 0.0, atol=1e-6)
            np.testing.assert_allclose(copy[groups == speaker].std(0), 1.0, atol=1e-4)


def test_the_table_has_means_deviations_and_the_difference_to_the_baseline():
    ids, labels, names = ["a", "b", "c", "d"], np.array([0, 0, 1, 1]), ["x", "y"]

    def answers(*predicted):
        return Predictions(ids, labels, np.eye(2)[list(predicted)], names)

    rows = {
        "eGeMAPS": {(1, 0): answers(0, 1, 1, 0), (1, 1): answers(0, 1, 1, 0)},
        "small_corpus": {(1, 0): answers(0, 0, 1, 1), (1, 1): answers(0, 0, 1, 0)},
    }
    lines = baseline.format_table(rows).splitlines()
    assert lines[2].startswith("| eGeMAPS | 50.0 ± 0.0 | ± 0.0 | 50.0 |")
    assert lines[3].startswith("| small_corpus | 87.5 ± 17.7 | ± 0.0 | 87.5 | +37.5, p = ")


def test_a_recording_has_one_copy_as_it_is_and_warped_ones(five_sessions, tmp_path):
    from lemer.training.functional_fit import describe, make_processor

    samples, _ = load_iemocap(five_sessions, cache_dir=tmp_path)
    samples = samples.select(np.flatnonzero(np.asarray(samples["label"]) >= 0)[:3])
    processor = make_processor({"processor": {}}, samples)
    first, second = (describe(samples, processor, seed) for seed in (0, 1))
    assert first.shape == (COPIES, 3, FUNCTIONALS)
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[1:] != second[1:]).any() and (first[0] != first[1]).any()
    model = LemerModel(LemerConfig(modality="speech", use_label_embeddings=False, speech_encoder="functionals"))
    inputs = processor(audio=[sample["audio"] for sample in samples], return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(model(**inputs).pooler_output.numpy(), first[0], atol=1e-4)
