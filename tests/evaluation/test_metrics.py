"""WA, UA, macro-F1 and the summary of folds and seeds, by hand."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from lemer.evaluation import ser_metrics
from lemer.evaluation.ser_metrics import SerMetrics, emotion_scores
from lemer.evaluation.summary import format_summary, summarise

NAMES = ["ang", "hap", "neu", "sad"]
REFERENCES = [0, 0, 0, 0, 1, 1, 2, 2]
PREDICTIONS = [0, 0, 0, 1, 1, 3, 0, 1]
# Right: 3 of 4 ang, 1 of 2 hap, 0 of 2 neu; there is no sad. F1: ang 2*3/(2*3+1+1), hap 2*1/(2*1+2+1), neu 0.
SCORES = {
    "wa": 4 / 8,
    "ua": (3 / 4 + 1 / 2 + 0) / 3,
    "macro_f1": (6 / 8 + 2 / 5 + 0) / 3,
    "recall": {"ang": 0.75, "hap": 0.5, "neu": 0.0, "sad": None},
    "confusion": [[3, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]],
    "missing": ["sad"],
    "utterances": 8,
}


@pytest.mark.parametrize("name", SCORES)
def test_score_by_hand_with_a_class_missing_from_the_references(name):
    got, expected = emotion_scores(REFERENCES, PREDICTIONS, NAMES)[name], SCORES[name]
    assert got == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_there_are_no_other_scores():
    assert emotion_scores(REFERENCES, PREDICTIONS, NAMES).keys() == SCORES.keys()


def test_all_right_is_one():
    scores = emotion_scores([0, 1, 2, 3], [0, 1, 2, 3], NAMES)
    assert (scores["wa"], scores["ua"], scores["macro_f1"]) == (1.0, 1.0, 1.0)


def test_ua_does_not_know_how_large_a_class_is():
    scores = emotion_scores([0] * 98 + [1, 1], [0] * 99 + [1], ["ang", "hap"])
    assert (scores["wa"], scores["ua"]) == (0.99, 0.75)


def test_ua_is_the_balanced_accuracy_of_scikit_learn():
    rng = np.random.default_rng(0)
    references, predictions = rng.integers(0, 4, (2, 200))
    assert emotion_scores(references, predictions, NAMES)["ua"] == pytest.approx(
        balanced_accuracy_score(references, predictions)
    )


@pytest.mark.parametrize(
    ("references", "predictions", "message"),
    [
        ([], [], r"not empty, got \(0,\)"),
        ([0, 1], [0], r"\(2,\), \(1,\)"),
        ([[0], [1]], [[0], [1]], r"\(2, 1\)"),
        ([0, 4], [0, 0], "0 to 3"),
        ([0, -1], [0, 0], "0 to 3"),
        ([0, 1], [0, 7], "0 to 3"),
        ([0, 1], [0, 0.5], "0 to 3"),
    ],
)
def test_what_has_no_score_is_an_error(references, predictions, message):
    with pytest.raises(ValueError, match=message):
        emotion_scores(references, predictions, NAMES)


# -------------------------------------------------------------------------------------------------------- evaluate


def in_batches(metric) -> dict:
    for start in range(0, 8, 3):
        batch = slice(start, start + 3)
        metric.add_batch(references=REFERENCES[batch], predictions=PREDICTIONS[batch])
    return metric.compute(label_names=NAMES)


def test_ser_metrics_in_batches_are_emotion_scores(tmp_path):
    assert in_batches(SerMetrics(cache_dir=str(tmp_path))) == emotion_scores(REFERENCES, PREDICTIONS, NAMES)


def test_ser_metrics_load_from_their_file_without_a_network(tmp_path):
    metric = evaluate.load(str(Path(ser_metrics.__file__)), cache_dir=str(tmp_path))
    assert in_batches(metric) == emotion_scores(REFERENCES, PREDICTIONS, NAMES)


# --------------------------------------------------------------------------------------------------------- summaries


def run(fold: int, seed: int, confusion: list[list[int]]) -> dict:
    """Results of one fold and seed; macro-F1 is any number."""
    right, counts = np.diag(confusion), np.sum(confusion, axis=1)
    return {
        "fold": fold,
        "seed": seed,
        "wa": right.sum() / counts.sum(),
        "ua": np.mean(right / counts),
        "macro_f1": 0.5,
        "confusion": confusion,
        "utterances": int(counts.sum()),
    }


RUNS = [
    run(1, 0, [[4, 0], [1, 1]]),  # WA 5/6, UA 3/4
    run(2, 0, [[1, 1], [0, 2]]),  # WA 3/4, UA 3/4
    run(1, 7, [[4, 0], [2, 0]]),  # WA 4/6, UA 1/2
    run(2, 7, [[2, 0], [0, 2]]),  # WA 1, UA 1
]
PAPER = {"wa": 82.4, "ua": 83.11}
# Means over folds: WA 19/24 and 20/24, UA 3/4 and 3/4. Pooled: seed 0 [[5, 1], [1, 3]], seed 7 [[6, 0], [2, 2]].
SUMMARY = {
    "folds": [1, 2],
    "seeds": [0, 7],
    "mean": {"wa": 19.5 / 24, "ua": 0.75, "macro_f1": 0.5},
    "deviation": {"wa": (1 / 24) / 2**0.5, "ua": 0.0, "macro_f1": 0.0},
    "pooled": {"wa": (8 / 10 + 8 / 10) / 2, "ua": ((5 / 6 + 3 / 4) / 2 + (1 + 1 / 2) / 2) / 2},
    "paper": PAPER,
}


@pytest.mark.parametrize("name", SUMMARY)
def test_summary_by_hand(name):
    got, expected = summarise(RUNS, PAPER)[name], SUMMARY[name]
    assert got == (pytest.approx(expected) if isinstance(expected, dict) else expected)


def test_one_seed_has_no_deviation():
    assert set(summarise(RUNS[:2], PAPER)["deviation"].values()) == {None}


def test_the_order_of_runs_means_nothing():
    assert summarise(RUNS[::-1], PAPER) == summarise(RUNS, PAPER)


def test_pooled_ua_leaves_out_a_class_without_references():
    assert summarise([run_without_second_class()], PAPER)["pooled"]["ua"] == 0.75


def run_without_second_class() -> dict:
    return {**run(1, 0, [[3, 1], [1, 1]]), "confusion": [[3, 1], [0, 0]]}


def test_table_by_hand():
    table = format_summary("C1", RUNS, summarise(RUNS, PAPER), comparable=True)
    assert table.splitlines() == [
        "## C1",
        "",
        "| | WA | UA | macro-F1 | utterances |",
        "|---|---|---|---|---|",
        "| fold 1, seed 0 | 83.33 | 75.00 | 50.00 | 6 |",
        "| fold 1, seed 7 | 66.67 | 50.00 | 50.00 | 6 |",
        "| fold 2, seed 0 | 75.00 | 75.00 | 50.00 | 4 |",
        "| fold 2, seed 7 | 100.00 | 100.00 | 50.00 | 4 |",
        "| **mean over folds** | 81.25 ± 2.95 | 75.00 ± 0.00 | 50.00 ± 0.00 | 10 |",
        "| pooled | 80.00 | 77.08 | | 10 |",
        "| paper | 82.40 | 83.11 | | 5531 |",
    ]


def test_table_of_a_row_that_is_not_the_papers_has_no_line_of_it():
    table = format_summary("own", RUNS, summarise(RUNS, {"wa": None, "ua": None}), comparable=False)
    assert "paper" not in table


def test_table_of_one_seed_has_no_deviation():
    assert "±" not in format_summary("C1", RUNS[:2], summarise(RUNS[:2], PAPER), comparable=True)


def test_the_papers_figures_are_marked_beside_another_corpus():
    table = format_summary("C1", RUNS, summarise(RUNS, PAPER), comparable=False)
    assert "| paper, on IEMOCAP: not this corpus | 82.40 | 83.11 | | 5531 |" in table
