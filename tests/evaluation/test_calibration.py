"""Calibration and intervals by hand, and the temperature that has the highest likelihood."""

import numpy as np
import pytest

from lemer.evaluation.calibration import TEMPERATURES, expected_calibration_error, fit_temperature, reliability
from lemer.evaluation.intervals import bootstrap_intervals
from lemer.evaluation.ser_metrics import emotion_scores


def test_expected_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 0])
    assert reliability(probabilities, labels) == [(1, 0.55, 0.0), (1, 0.65, 1.0), (2, 0.9, 0.5)]
    assert expected_calibration_error(probabilities, labels) == pytest.approx((0.55 + 0.35 + 2 * 0.4) / 4)
    assert expected_calibration_error(np.eye(2)[labels], labels) == 0


def test_intervals_hold_the_scores_and_narrow_with_more_utterances():
    random = np.random.default_rng(1)
    widths = []
    for count in (60, 600):
        labels = np.arange(count) % 3
        predicted = np.where(random.random(count) < 0.7, labels, random.integers(0, 3, count))
        scores = emotion_scores(labels, predicted, ["a", "b", "c"])
        intervals = bootstrap_intervals(scores["confusion"], draws=2000)
        assert all(low <= scores[name] <= high for name, (low, high) in intervals.items())
        widths.append(intervals["wa"][1] - intervals["wa"][0])
        deviation = np.sqrt(scores["wa"] * (1 - scores["wa"]) / count)
        assert 0.6 * 3.92 * deviation < widths[-1] < 1.2 * 3.92 * deviation
    assert widths[1] < 0.5 * widths[0]


def test_scores_of_a_draw_are_those_of_its_utterances():
    """One draw of a matrix that can only be drawn as it is."""
    confusion = [[3, 0, 0], [0, 0, 2], [0, 0, 0]]
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 2, 2])
    scores = emotion_scores(labels, predicted, ["a", "b", "c"])
    assert scores["confusion"] == confusion
    for name, ends in bootstrap_intervals(confusion, draws=1).items():
        assert ends == pytest.approx((scores[name], scores[name]))


def test_errors_of_one_bin_cancel():
    assert expected_calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1])) == pytest.approx(0.0)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 7.0])
def test_the_temperature_that_drew_the_labels_is_found(temperature):
    random = np.random.default_rng(0)
    scores = random.normal(size=(4000, 4))
    labels = (scores + random.gumbel(size=scores.shape)).argmax(1)  # drawn from the softmax of the scores
    assert fit_temperature(labels, scores * temperature) == pytest.approx(temperature, rel=0.1)


def test_a_temperature_never_leaves_its_bounds():
    sure = 3 * np.eye(4)
    assert fit_temperature([0, 1, 2, 3], sure) >= TEMPERATURES[0]
    assert fit_temperature([1, 2, 3, 0], sure) <= TEMPERATURES[1]
