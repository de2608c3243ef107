"""The split of a fold is that of a slow loop over dialogs, and takes whole dialogs."""

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from lemer.training.folds import split_rows


def slow_split(rows: list[dict], fold: int, share: float, seed: int) -> list[list[int]]:
    """Rows of training, validation and test, dialog by dialog."""
    train = [row["session"] != fold for row in rows]
    chosen: set[str] = set()
    names = sorted({row["dialog"] for row, is_train in zip(rows, train, strict=True) if is_train})
    for name in np.random.default_rng([seed, fold]).permutation(names):
        if sum(row["dialog"] in chosen for row in rows) >= share * sum(train):
            break
        chosen.add(name)
    validation = [share > 0 and row["dialog"] in chosen for row in rows]
    parts = ([], [], [])
    for index, (is_train, is_validation) in enumerate(zip(train, validation, strict=True)):
        parts[1 if is_validation else 0 if is_train else 2].append(index)
    return list(parts)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 7), min_size=2, max_size=30), st.floats(0, 0.9), st.integers(0, 9), st.integers(1, 3))
def test_the_rows_of_every_part_are_those_of_a_slow_loop(sizes, share, seed, fold):
    rows = [
        {"id": f"{dialog}-{turn}", "session": dialog % 3 + 1, "dialog": f"dialog {dialog * 7 % 11} of {dialog}"}
        for dialog, size in enumerate(sizes)
        for turn in range(size)
    ]
    rows = [rows[index] for index in np.random.default_rng(seed).permutation(len(rows))]
    parts = slow_split(rows, fold, share, seed)
    dataset = Dataset.from_list(rows)
    if not parts[0] or not parts[2]:
        with pytest.raises(ValueError, match="training and"):
            split_rows(dataset, fold, share, seed)
        return
    for part, expected in zip(split_rows(dataset, fold, share, seed), parts, strict=True):
        assert part["id"][:] == [rows[index]["id"] for index in expected]
