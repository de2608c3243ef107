"""Calibration: whether scores mean what they say, the table of a reliability diagram, and the temperature that helps.

Shapes: N utterances, C classes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
TEMPERATURES = (0.02, 50.0)  # what is searched; cosines need low ones, overconfident logits high ones


class Bin(NamedTuple):
    """
    The utterances whose highest score lies in one part of the range from 0 to 1.

    Attributes:
        count: their number.
        confidence: mean of their highest scores.
        accuracy: share of them that was answered right.
    """

    count: int
    confidence: float
    accuracy: float


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[Bin]:
    """
    The bins that hold an utterance, from low to high scores.

    Args:
        probabilities: (N, C), each row sums to 1.
        labels: (N,) class indices.
        bins: parts of equal width. A score on a border belongs to the lower part (Guo et al. 2017).
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        Bin(int(chosen.sum()), float(confidence[chosen].mean()), float(right[chosen].mean()))
        for number in range(bins)
        if (chosen := place == number).any()
    ]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Mean over the utterances of the gap between confidence and accuracy of their bin, from 0 to 1 (Guo et al. 2017)."""
    table = reliability(probabilities, labels, bins)
    return sum(part.count * abs(part.confidence - part.accuracy) for part in table) / len(labels)


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

    best: Any = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(best.x))
