"""Scores of predicted attributes: Lin's concordance correlation coefficient (CCC)."""

from collections.abc import Sequence

import datasets
import numpy as np


def ccc(predicted: np.ndarray, target: np.ndarray) -> float:
    """CCC of two vectors (N,), from -1 to 1: 2 cov / (var + var + (mean - mean)^2); 0 where one of them is constant."""
    covariance = np.mean((predicted - predicted.mean()) * (target - target.mean()))
    spread = predicted.var() + target.var() + (predicted.mean() - target.mean()) ** 2
    return float(2 * covariance / spread) if spread > 0 else 0.0


def attribute_scores(dataset: datasets.Dataset, names: Sequence[str], predicted: np.ndarray | None) -> dict:
    """
    CCC of each attribute over the utterances that have it.

    Args:
        dataset: N rows of the corpus schema.
        names: the A attributes.
        predicted: (N, A) on the scale of the corpus; None without a head.

    Returns:
        `ccc`: by name, None where less than two utterances have the attribute. Nothing without a head.
    """
    if predicted is None:
        return {}
    scores = {}
    for place, name in enumerate(names):
        values = dataset[name] if name in dataset.column_names else [None] * len(dataset)
        target = np.array([np.nan if value is None else value for value in values])
        known = np.isfinite(target)
        scores[name] = ccc(predicted[known, place].astype(np.float64), target[known]) if known.sum() > 1 else None
    return {"ccc": scores}
