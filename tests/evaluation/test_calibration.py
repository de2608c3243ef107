"""Calibration errors by hand, and the temperature that has the highest likelihood."""

import numpy as np
import pytest

from lemer.evaluation.calibration import TEMPERATURES, expected_calibration_error, fit_temperature


def test_calibration_error_by_hand():
    # Scores of 0.8 twice, once right, and of 0.6 once, right: gaps |1.6 - 1| and |0.6 - 1| of three utterances.
    logits = np.log([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]])
    assert expected_calibration_error([0, 1, 1], logits) == pytest.approx((0.6 + 0.4) / 3)


def test_scores_that_are_sure_and_right_have_no_error():
    assert expected_calibration_error([0, 1], [[99.0, 0.0], [0.0, 99.0]]) == pytest.approx(0.0, abs=1e-9)


def test_errors_of_one_bin_cancel():
    logits = np.log([[0.75, 0.25]] * 4)
    assert expected_calibration_error([0, 0, 0, 1], logits) == pytest.approx(0.0)


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
