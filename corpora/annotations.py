"""What annotators said of an utterance, beside its label: columns that a corpus has where its source does.

    votes                         how many annotators chose each class, or what share of them: numbers in the order of the
                                  classes; an empty list where nothing is known
    valence, arousal, dominance   numbers on the scale of the corpus; None where nothing is known

A row whose label is -1 may have votes, such as a turn whose annotators did not agree. Its `num_frames` is above 0 then, and
a training on votes learns from it. Nothing is tested on it.

    dataset = add_annotations(dataset, votes, attributes)    # every loader adds them so
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import datasets

from .columns import ATTRIBUTES


def add_annotations(
    dataset: datasets.Dataset, votes: Sequence[Sequence[float]], attributes: Mapping[str, Sequence[float | None]]
) -> datasets.Dataset:
    """
    Rows of the corpus schema with what annotators said. A column that holds nothing is not added.

    Args:
        votes: for every row a number for each class, or nothing.
        attributes: by name (of `ATTRIBUTES`), for every row a number or None.
    """
    columns, features = {}, {}
    if any(votes):
        columns["votes"], features["votes"] = list(votes), datasets.List(datasets.Value("float64"))
    for name in ATTRIBUTES:
        values = attributes.get(name, ())
        if any(value is not None for value in values):
            columns[name], features[name] = list(values), datasets.Value("float64")
    if not columns:
        return dataset
    added = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return datasets.concatenate_datasets([dataset, added], axis=1)


def votes_by_class(
    votes: Sequence[str | None], classes: Sequence[str], ids: Sequence[str], notes: dict[str, list[str]]
) -> list[list[float]]:
    """
    Votes of every row in the order of the classes; an empty list where no class has any.

    Args:
        votes: label -> number, as JSON, for every row.
        classes: of the corpus; a vote is for a class whatever its case.
        ids: of the rows.
        notes: `other_vote` gets the rows that have votes for other labels, which do not count.
    """
    places = {name.casefold(): place for place, name in enumerate(classes)}
    rows = []
    for name, written in zip(ids, votes, strict=True):
        counts: Counter = Counter()
        for label, count in json.loads(written).items() if written else ():
            counts[places.get(label.strip().casefold())] += count
        if counts.pop(None, 0):
            notes["other_vote"].append(name)
        rows.append([float(counts[place]) for place in range(len(classes))] if counts else [])
    return rows


def numbers_or_none(name: str, values: Sequence[str | None], remarks: list[str]) -> list[float | None]:
    """An attribute of every row; `remarks` says where the column holds something else, which is then not used."""
    try:
        numbers = [None if value is None else float(value.replace(",", ".")) for value in values]
    except ValueError:
        word = next(value for value in values if value is not None and not _is_number(value))
        remarks.append(f"the column of {name} holds {word!r}, which is no number: it is not used")
        return [None] * len(values)
    return [None if number is None or not math.isfinite(number) else number for number in numbers]


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
