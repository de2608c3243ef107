"""Which rows are held out together: a speaker, a dialog and a recording never lie on two sides of a split.

    groups, unit = groups_to_split({"speaker": speakers, "dialog": dialogs, "recording": digests})
    held = hold_out(groups, labels, 0.2, order=range(groups.max() + 1))

`corpora/any_dataset.py` makes the folds of a dataset with it, `training/folds.py` the validation split of a fold.

Letters of shapes: N rows, G groups, C classes.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def linked(columns: Iterable[Sequence[str | None]]) -> np.ndarray:
    """
    Numbers of groups, (N,) from 0: rows that share a name in one of the columns are in one group, and so are rows that a
    chain of such rows joins. An empty name is shared with nobody.
    """
    columns = [list(column) for column in columns]
    rows, names = [], []
    number: dict[tuple[int, str], int] = {}
    for place, column in enumerate(columns):
        for row, name in enumerate(column):
            if name:
                rows.append(row)
                names.append(len(columns[0]) + number.setdefault((place, name), len(number)))
    nodes = len(columns[0]) + len(number)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, names)), shape=(nodes, nodes))
    _, groups = connected_components(graph, directed=False)
    return np.unique(groups[: len(columns[0])], return_inverse=True)[1]


def groups_to_split(columns: Mapping[str, Sequence[str | None]], by_speaker: bool = True) -> tuple[np.ndarray, str]:
    """
    The groups of rows that a split must not part.

    Args:
        columns: what rows may have in common, by name: `speaker`, `dialog`, `recording` and others.
        by_speaker: whether speakers are kept together, where they are known and can be.

    Returns:
        Numbers of groups (N,), and what they are: "speakers"; "dialogs", where no speaker is known or where all speakers are
        joined by dialogs or recordings that they share; "rows" where no row shares a dialog.
    """
    if by_speaker and any(columns["speaker"]):
        groups = linked(columns.values())
        if groups.max() > 0:
            return groups, "speakers"
    groups = linked(column for name, column in columns.items() if name != "speaker")
    return groups, "dialogs" if len(set(columns["dialog"])) < len(groups) else "rows"


def hold_out(groups: np.ndarray, labels: np.ndarray, share: float, order: Sequence[int]) -> np.ndarray:
    """
    Choose whole groups that together have about this share of the samples, and of every class as far as the groups allow.

    Each group is taken if it brings the shares of the classes nearer to `share`, larger groups first. Where a single group
    comes nearer than all these, it is taken alone. At least one group is held out and one is left. A group that has all
    samples of a class stays in the training split if another one can be held out.

    Args:
        groups: (N,) number of every row's group, from 0.
        labels: (N,) class of every row, below 0 where it has none.
        share: from 0 to 1.
        order: numbers of all groups; among groups of one size the first ones are taken first.

    Returns:
        (N,) whether a row is held out.
    """
    labelled = labels >= 0
    counts = np.zeros((groups.max() + 1, labels.max(initial=0) + 1))
    np.add.at(counts, (groups[labelled], labels[labelled]), 1)
    counts = counts[:, counts.sum(0) > 0]  # (G, C)
    sizes, shares = counts.sum(1) / counts.sum(), counts / counts.sum(0)

    def distance(held: np.ndarray) -> float:
        return float(((held - share) ** 2).sum())

    chosen, held = [], np.zeros(counts.shape[1])
    for group in sorted(order, key=lambda group: -sizes[group]):
        more = held + shares[group]  # (C,)
        if sizes[group] <= share and distance(more) < distance(held) and (more < 1).all():
            chosen.append(group)
            held = more
    single = [group for group in order if sizes[group]]
    best = min([group for group in single if (shares[group] < 1).all()] or single, key=lambda group: distance(shares[group]))
    if not chosen or distance(shares[best]) < distance(held):
        chosen = [best]
    return np.isin(groups, chosen)


def hold_share_out(columns: Mapping[str, Sequence[str | None]], labels: np.ndarray, share: float) -> tuple[np.ndarray, str]:
    """
    Hold a share of a corpus out for the test. Which groups these are depends on names alone, in whatever order rows come.

    Args:
        columns: as in [`groups_to_split`], with `speaker` and `dialog`; every row has a dialog.
        labels: (N,) class of every row, below 0 where it has none.
        share: from 0 to 1.

    Returns:
        (N,) whether a row is held out, and what was kept whole.

    Raises:
        ValueError: all rows are linked.
    """
    groups, unit = groups_to_split(columns)
    if groups.max() == 0:
        raise ValueError(f"to hold something out there must be at least two {unit} that share no dialog and no recording")
    names: dict[int, str] = {}
    for group, *parts in zip(groups.tolist(), columns["speaker"], columns["dialog"], strict=True):
        name = next(part for part in parts if part)
        names[group] = min(name, names.get(group, name))
    order = sorted(names, key=lambda group: hashlib.sha256(names[group].encode()).digest())
    return hold_out(groups, labels, share, order), unit


def copies_across(recordings: Sequence[str | None], folds: Sequence[int]) -> dict[int, int]:
    """The rows whose recording is in an earlier fold too, and a row of that fold with it."""
    kept: dict[str, tuple[int, int]] = {}
    copies = {}
    for index in sorted(range(len(folds)), key=lambda index: (folds[index], index)):
        if recording := recordings[index]:
            fold, first = kept.setdefault(recording, (folds[index], index))
            if fold != folds[index]:
                copies[index] = first
    return copies
