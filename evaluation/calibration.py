"""Calibration: whether scores mean what they say, and the temperature that makes them.

Shapes: N utterances, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
TEMPERATURES = (0.02, 50.0)  # what is searched; cosines need low ones, overconfident logits high ones


def expected_calibration_error(labels: ArrayLike, logits: ArrayLike, temperature: float = 1.0) -> float:
    """
    Expected calibration error (Guo et al. 2017): how far the highest score is from the share of right answers, on average.

    The utterances are sorted into [`BINS`] bins of equal width by their highest score. The absolute differences of the mean
    score and the share of right answers in a bin are averaged, weighted by the number of utterances.

    Args:
        labels: (N,) class indices.
        logits: (N, C).
        temperature: divides the logits.

    Returns:
        A share between 0, where the scores are right, and 1.
    """
    scores = softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)  # (N, C)
    confidence, right = scores.max(1), scores.argmax(1) == np.asarray(labels)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == number].sum() - right[bins == number].sum()) for number in np.unique(bins)]
    return float(sum(gaps) / len(right))


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """
    The temperature with the highest likelihood of the labels (Guo et al. 2017).

    The order of the scores, and so every answer, stays as it is.

    Args:
        labels: (N,) class indices of validation utterances.
        logits: (N, C) of the same.
    """
    values, rows, labels = np.asarray(logits, dtype=np.float64), np.arange(len(np.asarray(labels))), np.asarray(labels)

    def loss(log_temperature: float) -> float:
        return -log_softmax(values / np.exp(log_temperature), axis=1)[rows, labels].mean()

    found: Any = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))
