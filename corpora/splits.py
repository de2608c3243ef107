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


def hold_named_out(groups: np.ndarray, labels: Sequence[int], share: float, names: Sequence[str], unit: str) -> np.ndarray:
    """
    `hold_out` for a test, which depends on names alone, in whatever order the rows come.

    Args:
        names: of the speaker or dialog of every row.
        unit: what the groups are, for the message.

    Raises:
        ValueError: there is one group only.
    """
    if groups.max() == 0:
        raise ValueError(f"to hold something out there must be at least two {unit} that share no dialog and no recording")
    called: dict[int, str] = {}
    for group, name in zip(groups.tolist(), names, strict=True):
        called[group] = min(name, called.get(group, name))
    order = sorted(called, key=lambda group: hashlib.sha256(called[group].encode()).digest())
    return hold_out(groups, np.asarray(labels), share, order)


def copies_across(recordings: Sequence[str | None], folds: Sequence[int]) -> dict[int, int]:
    """
    Rows whose recording is in an earlier fold as well, which must not be trained on or tested.

    Args:
        recordings: digest of every row's samples, None or "" where it is not known.

    Returns:
        Row -> the first row of the recording in the earliest fold.
    """
    first: dict[str, int] = {}
    copies = {}
    for row in sorted(range(len(folds)), key=lambda row: (folds[row], row)):
        recording = recordings[row]
        if recording and folds[first.setdefault(recording, row)] != folds[row]:
            copies[row] = first[recording]
    return copies
