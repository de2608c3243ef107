"""Votes and attributes of annotators: what cells say, and the columns of the corpus that they become."""

import csv

import numpy as np
import pytest

from lemer.corpora.any_dataset import load_any_dataset
from lemer.corpora.columns import as_votes


@pytest.mark.parametrize(
    ("cell", "votes"),
    [
        (["ang", "ang", "neu"], {"ang": 2, "neu": 1}),
        ("ang; ang ;neu", {"ang": 2, "neu": 1}),
        ('["ang", "neu"]', {"ang": 1, "neu": 1}),
        ('{"ang": 0.75, "neu": 0.25, "sad": 0}', {"ang": 0.75, "neu": 0.25}),
        ({"ang": 2, "neu": None}, {"ang": 2}),
        (np.array([0.5, 0.0, 0.5]), {"ang": 0.5, "sad": 0.5}),
        ([0, 0, 0], None),
        ("", None),
        (None, None),
    ],
)
def test_every_way_to_write_votes(cell, votes):
    assert as_votes(cell, ["ang", "neu", "sad"]) == votes


@pytest.mark.parametrize("cell", [3, [0.5, 0.5], {"ang": -1}, {"ang": float("inf")}, '{"ang": 1', ["ang", 2]])
def test_what_is_no_votes_is_refused_with_what_was_got(cell):
    with pytest.raises(ValueError, match=r"votes"):
        as_votes(cell, ["ang", "neu", "sad"])


def write_table(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def load(path, tmp_path):
    return load_any_dataset(path, fold_column="part", cache_dir=tmp_path / "cache", progress=False)


ROWS = [
    {"text": f"line {number}", "label": "Ang" if number % 2 else "neu", "part": "a" if number < 4 else "b"}
    for number in range(8)
]


def test_annotations_become_columns_in_the_order_of_the_classes(tmp_path):
    votes = ["neu", "ang;ang;fru", "neu;ang", "", "ang;neu", "ANG", "fru", "neu"]
    rows = [{**row, "votes": vote, "valence": 2.5, "EmoAct": ""} for row, vote in zip(ROWS, votes, strict=True)]
    rows[2]["label"], rows[3]["valence"] = "", ""  # a tie, and an utterance that nobody rated
    rows[6]["label"] = ""  # nothing but a vote for a label that is no class
    dataset, report = load(write_table(tmp_path / "table.csv", rows), tmp_path)
    assert dataset.features["label"].names == ["Ang", "neu"]
    assert dataset["votes"] == [[0, 1], [2, 0], [1, 1], [], [1, 1], [1, 0], [], [0, 1]]
    assert dataset["valence"] == [2.5, 2.5, 2.5, None, 2.5, 2.5, 2.5, 2.5] and "arousal" not in dataset.column_names
    assert dataset["label"][2] == dataset["label"][6] == -1
    assert dataset["num_frames"][2] == len("line 2") and dataset["num_frames"][6] == 0
    assert len(report.notes["other_vote"]) == 2 and len(report.notes["only_votes"]) == 1
    rows[0]["votes"] = "ang"
    changed = load(write_table(tmp_path / "table.csv", rows), tmp_path)[1]
    assert changed.fingerprints != report.fingerprints


def test_a_corpus_without_annotations_has_no_such_columns(tmp_path):
    rows = [{**row, "valence": "positive"} for row in ROWS]
    dataset, report = load(write_table(tmp_path / "table.csv", rows), tmp_path)
    assert not {"votes", "valence", "arousal", "dominance"} & set(dataset.column_names)
    assert any("valence" in remark and "'positive'" in remark for remark in report.remarks)
    plain = load(write_table(tmp_path / "plain.csv", ROWS), tmp_path)[1]
    assert plain.fingerprints == report.fingerprints
