"""Every recipe by the real script on a tiny corpus, and the report over all of them."""

import csv
import json

import numpy as np
import pytest
from releases import write_release
from tiny import tower_folders
from transformers import AutoModel

import lemer.train
from lemer.evaluation import report
from lemer.recipes import RECIPES

TRAINED = [name for name in RECIPES if not RECIPES[name].fuses and name != "small_corpus"]  # which has no tower


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One epoch of every recipe, fold 2 of two sessions, with one second stage for all."""
    folder = tmp_path_factory.mktemp("table")
    corpus = write_release(folder / "release", sessions=2, dialogs_per_session=1)
    speech, text = tower_folders(folder)
    options = {"data_dir": corpus, "cache_dir": folder / "cache", "speech_model": speech, "text_model": text}
    options |= {"batch_size": 4, "epochs": 1, "warmup_steps": 0, "codes": 5, "words": 3, "folds": 2, "validation_share": 0}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    for name in TRAINED:
        assert lemer.train.main(["--recipe", name, *arguments, "--output_dir", str(folder / "runs" / name)]) == 0, name
    assert lemer.train.main(["--recipe", "score_fusion", "--output_dir", str(folder / "runs/score_fusion")]) == 0
    return folder / "runs"


def results(runs, name) -> dict:
    return json.loads((runs / name / "fold2/seed0/results.json").read_text())


@pytest.mark.parametrize("name", TRAINED)
def test_every_recipe_ends_with_a_checkpoint_of_its_size(runs, name):
    model = AutoModel.from_pretrained(runs / name / "fold2/seed0/checkpoint")
    modality = RECIPES[name].config.get("modality")
    assert (model.text_model is None) == (modality == "speech") and (model.speech_model is None) == (modality == "text")
    assert results(runs, name)["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert 0 < results(runs, name)["trained_parameters"] <= results(runs, name)["parameters"]
    assert model.untrained == []


def test_score_fusion_adds_the_logits(runs):
    rows = {}
    for name in ("A5", "B5", "score_fusion"):
        with open(runs / name / "fold2/seed0/predictions.csv", newline="") as file:
            rows[name] = [[float(row[label]) for label in ("ang", "hap", "neu", "sad")] for row in csv.DictReader(file)]
    np.testing.assert_allclose(np.array(rows["A5"]) + np.array(rows["B5"]), rows["score_fusion"])


def test_the_second_stage_is_made_once_for_all(runs):
    assert [path.name for path in (runs / "second_stage").glob("fold*/checkpoint/config.json")] == ["config.json"]


def test_every_recipe_lands_in_the_report(runs):
    assert report.main([str(runs)]) == 0
    with open(runs / "report/report.csv", newline="") as file:
        assert {row["recipe"] for row in csv.DictReader(file)} == {*TRAINED, "score_fusion"}
