"""Losses of both papers' models: classes, given as an index or as a distribution, and attributes such as valence.

This file travels with every checkpoint.

Letters of shapes: B batch, C emotion classes, A attributes.
"""

from collections.abc import Sequence

import torch
from torch import nn


def class_loss(logits: torch.Tensor, labels: torch.Tensor, class_weights: Sequence[float] | None = None) -> torch.Tensor:
    """
    Mean over the utterances of the cross-entropy with a class, or of the KL divergence from a distribution of classes.

    The two are the same for a distribution that has all in one class. With weights, a class counts so many times, and a
    distribution is weighted and made to sum to 1 again, as if each of its votes were an utterance. The sum is divided by the
    number of utterances and not by their weights, so that an utterance counts the same in every batch and process.

    Args:
        logits: (B, C).
        labels: (B,) class indices, where -100 is left out; or (B, C) distributions or counts, where a row of zeros is left
            out.
        class_weights: C numbers, None for 1.
    """
    logits = logits.float()
    weights = None if class_weights is None else logits.new_tensor(class_weights)  # (C,)
    if labels.ndim == 1:
        if weights is None:
            return nn.functional.cross_entropy(logits, labels)
        losses = nn.functional.cross_entropy(logits, labels, weight=weights, reduction="none")  # (B,)
        return losses.sum() / (labels != -100).sum()
    shares = _sum_to_one(labels.to(logits.dtype))  # (B, C)
    weighted = shares if weights is None else shares * weights  # (B, C)
    divergences = nn.functional.kl_div(logits.log_softmax(1), _sum_to_one(weighted), reduction="none").sum(1)  # (B,)
    return (weighted.sum(1) * divergences).sum() / shares.sum()


def _sum_to_one(rows: torch.Tensor) -> torch.Tensor:
    """Rows (B, C) divided by their sums; rows of zeros stay so."""
    total = rows.sum(1, keepdim=True)
    return rows / total.masked_fill(total == 0, 1.0)


def concordance(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """
    Lin's concordance correlation coefficient of two vectors, from -1 to 1: 2 cov / (var + var + (mean - mean)^2).

    1 for two equal vectors, and 0 where one of them is constant.
    """
    difference = predicted.mean() - target.mean()
    covariance = ((predicted - predicted.mean()) * (target - target.mean())).mean()
    spread = predicted.var(unbiased=False) + target.var(unbiased=False) + difference.square()
    return 2 * covariance / spread.clamp(min=1e-12)


def concordance_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """
    Mean over the attributes of 1 - CCC in the batch.

    Args:
        predicted: (B, A).
        target: (B, A), NaN where it is not known. An attribute that less than two utterances of the batch have is left out.
    """
    predicted, known = predicted.float(), ~target.isnan()
    losses = [
        1 - concordance(predicted[known[:, column], column], target[known[:, column], column].float())
        for column in range(target.shape[1])
        if known[:, column].sum() > 1
    ]
    return torch.stack(losses).mean() if losses else 0.0 * predicted.sum()
