"""Confidence intervals of scores on one test set: how much they would change with other utterances of the same kind."""

import numpy as np
from numpy.typing import ArrayLike

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
