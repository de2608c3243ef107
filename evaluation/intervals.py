"""Confidence intervals of scores on one test set: how much they would change with other utterances of the same kind."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

DRAWS = 10_000


def bootstrap_intervals(confusion: ArrayLike, level: float = 0.95, draws: int = DRAWS) -> dict[str, tuple[float, float]]:
    """
    Percentile bootstrap of WA, UA and macro-F1.

    Utterances are drawn again within each class, so that every draw has every class as often as the test set: each row of
    the confusion matrix is a multinomial number. Utterances are taken as independent, which those of one speaker are not:
    with few speakers the intervals are too narrow.

    Args:
        confusion: (C, C) counts, rows are labels, columns are predictions.

    Returns:
        `wa`, `ua` and `macro_f1` -> lower and upper end.
    """
    confusion = np.asarray(confusion)
    counts = confusion.sum(1)  # (C,)
    there = counts > 0
    random = np.random.default_rng(0)
    drawn = np.zeros((draws, *confusion.shape))
    for label in np.flatnonzero(there):
        drawn[:, label] = random.multinomial(counts[label], confusion[label] / counts[label], draws)
    right = np.diagonal(drawn, axis1=1, axis2=2)[:, there]  # (draws, classes that occur)
    f1 = 2 * right / (counts[there] + drawn.sum(1)[:, there])
    scores = {"wa": right.sum(1) / counts.sum(), "ua": (right / counts[there]).mean(1), "macro_f1": f1.mean(1)}
    ends = {name: np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) for name, values in scores.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def share_intervals(right: ArrayLike, labels: ArrayLike, level: float = 0.95) -> dict[str, tuple[float, float]]:
    """
    The same of WA and UA where several trainings answered every utterance, by the normal approximation.

    Args:
        right: (N,) the share of the trainings that have an utterance right.
        labels: (N,) class indices.

    Returns:
        `wa` and `ua` -> lower and upper end, within 0 and 1.
    """
    right, labels = np.asarray(right, dtype=np.float64), np.asarray(labels)
    of_class = [right[labels == label] for label in np.unique(labels)]
    means = np.array([values.mean() for values in of_class])
    variances = np.array([values.var() / len(values) for values in of_class])  # of the means
    counts = np.array([len(values) for values in of_class]) / len(labels)
    reach = float(norm.ppf((1 + level) / 2))
    ends = {}
    for name, weights in (("wa", counts), ("ua", np.full(len(means), 1 / len(means)))):
        mean, deviation = float(weights @ means), float(np.sqrt(weights**2 @ variances))
        ends[name] = (max(0.0, mean - reach * deviation), min(1.0, mean + reach * deviation))
    return ends
