"""What a training aims at: classes or votes, weights of classes, attributes; computed from the training split alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch


def class_weights(asked: Sequence[str], labels: Sequence[int], names: Sequence[str]) -> list[float] | None:
    """
    The weights of `--class_weights`, in the order of the classes.

    Args:
        asked: ["none"], ["balanced"], or a number for each class.
        labels: of the training split; -1 where there is none.
        names: of the C classes.

    Returns:
        None for "none"; for "balanced" N / (C n), which is 1 for a class of average size n and whose mean over the
        utterances is 1 (a class without utterances has 0).

    Raises:
        ValueError: they are something else.
    """
    if list(asked) == ["none"]:
        return None
    if list(asked) == ["balanced"]:
        counts = np.bincount([label for label in labels if label >= 0], minlength=len(names))
        present = counts > 0
        return [float(counts.sum() / (present.sum() * count)) if count else 0.0 for count in counts]
    try:
        weights = [float(weight) for weight in asked]
    except ValueError:
        weights = []
    if len(weights) != len(names):
        raise ValueError(
            f"--class_weights {' '.join(asked)}: expected none, balanced, or {len(names)} numbers, one for each of "
            f"{', '.join(names)}"
        )
    return weights


def attribute_scales(wanted: Sequence[str], dataset: datasets.Dataset) -> dict[str, list[float]] | None:
    """
    Mean and deviation of the attributes of `--attributes` in the training split, by name; None without any.

    Raises:
        ValueError: an attribute is not in the corpus, or the same everywhere.
    """
    scales = {}
    for name in wanted:
        values = dataset[name] if name in dataset.column_names else []
        values = np.array([value for value in values if value is not None])
        if len(values) < 2 or not values.std() > 0:
            raise ValueError(
                f"--attributes {name}: {len(values)} training utterances have a number in the column {name}, and a head "
                "needs several different ones"
            )
        scales[name] = [float(values.mean()), float(values.std())]
    return scales or None


def distributions(rows: Sequence[Mapping[str, Any]], count: int) -> torch.Tensor:
    """(B, C) shares of the votes of every row; all in its label where it has no votes."""
    targets = torch.zeros(len(rows), count)
    for target, row in zip(targets, rows, strict=True):
        votes = row.get("votes") or []
        if sum(votes) > 0:
            target += torch.tensor(votes) / sum(votes)
        elif row["label"] >= 0:
            target[row["label"]] = 1.0
    return targets


def attribute_rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> torch.Tensor:
    """(B, A) attributes of every row, NaN where one is not known."""
    values = [[torch.nan if row.get(name) is None else row[name] for name in names] for row in rows]
    return torch.tensor(values, dtype=torch.float32)
