"""Honest splits: speakers, dialogs and copies of a recording on one side, the share and the classes as near as can be."""

import itertools

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemer.corpora.any_dataset import load_any_dataset
from lemer.corpora.splits import groups_to_split, hold_out, linked
from lemer.training.folds import split_rows

names = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.sampled_from(["", "x", "y", "z"])), min_size=1)


@given(names)
def test_linked_rows_are_those_that_a_chain_of_shared_names_joins(rows):
    together = np.array([[any(x and x == y for x, y in zip(one, other, strict=True)) for other in rows] for one in rows])
    together |= np.eye(len(rows), dtype=bool)
    for _ in rows:  # paths of every length
        together = together @ together
    groups = linked(zip(*rows, strict=True))
    assert np.array_equal(groups[:, None] == groups[None], together)
    assert set(groups) == set(range(groups.max() + 1))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 2)), min_size=2, max_size=40),
    st.floats(0.05, 0.6),
    st.integers(0, 9),
)
def test_whole_groups_are_held_out_and_something_is_left(rows, share, seed):
    groups = np.unique([group for group, _ in rows], return_inverse=True)[1]
    labels = np.array([label for _, label in rows])
    if len({group for group, label in zip(groups, labels, strict=True) if label >= 0}) < 2:
        return
    held = hold_out(groups, labels, share, np.random.default_rng(seed).permutation(groups.max() + 1).tolist())
    assert not set(groups[held]) & set(groups[~held])
    assert (labels[held] >= 0).any() and (labels[~held] >= 0).any()


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_no_single_speaker_would_be_nearer_to_the_share_and_the_classes(share):
    random = np.random.default_rng(0)
    groups, labels = random.integers(0, 12, 600), random.choice(3, 600, p=[0.7, 0.2, 0.1])
    held = hold_out(groups, labels, share, list(range(12)))

    def distance(mask):
        return sum((mask[labels == label].mean() - share) ** 2 for label in range(3))

    assert all(distance(held) <= distance(groups == group) for group in range(12))
    assert abs(held.mean() - share) < 1 / 12


def test_single_rows_keep_the_share_of_every_class():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    held = hold_out(np.arange(1000), labels, 0.1, np.random.default_rng(0).permutation(1000).tolist())
    assert np.bincount(labels[held]).tolist() == [60, 30, 10]


def test_the_only_speaker_of_a_class_is_not_held_out():
    groups, labels = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 2, 0, 1, 0, 1])
    for order in itertools.permutations(range(3)):
        assert not hold_out(groups, labels, 0.34, order)[0]


def test_speakers_whom_dialogs_join_are_split_by_dialogs_and_it_is_said():
    columns = {"speaker": ["agent", "x", "agent", "y"], "dialog": ["1", "1", "2", "2"], "recording": ["", "", "", ""]}
    groups, unit = groups_to_split(columns)
    assert unit == "dialogs" and groups.tolist() == [0, 0, 1, 1]
    assert groups_to_split({**columns, "speaker": ["a", "x", "b", "y"]})[1] == "speakers"
    assert groups_to_split({**columns, "speaker": [""] * 4, "dialog": list("1234")})[1] == "rows"


# ------------------------------------------------------------------------------------------------------- of a dataset


def corpus(speakers="abcdefgh", clips=6, copies=()):
    """A dataset with `clips` recordings a speaker; (i, j) of `copies` gives row j the samples of row i."""
    rows = [
        {"id": f"{speaker}_{number}", "speaker": speaker, "label": "xyz"[number % 3], "part": "ab"[ord(speaker) % 2]}
        for speaker in speakers
        for number in range(clips)
    ]
    random = np.random.default_rng(0)
    for row in rows:
        row["audio"] = {"array": random.integers(-900, 900, 800).astype(np.float32) / 32768, "sampling_rate": 16_000}
    for one, other in copies:
        rows[other]["audio"] = rows[one]["audio"]
    return rows


def load(rows, tmp_path, **options):
    options = options or {"test_share": 0.25}
    return load_any_dataset(datasets.Dataset.from_list(rows), cache_dir=tmp_path, progress=False, **options)


def sides(dataset):
    return [{row["speaker"] for row in dataset if row["session"] == fold} for fold in (1, 2)]


def test_speakers_are_told_by_a_column_or_by_names(tmp_path):
    dataset, report = load(corpus(), tmp_path)
    assert sides(dataset)[0] and not sides(dataset)[0] & sides(dataset)[1] and "whole speakers" in report.split
    assert not any("no speaker is known" in remark for remark in report.remarks)
    nameless = [{name: value for name, value in row.items() if name != "speaker"} for row in corpus()]
    unknown = load(nameless, tmp_path)[1]
    assert "whole rows" in unknown.split and sum("no speaker is known" in remark for remark in unknown.remarks) == 1
    told, report = load(nameless, tmp_path, test_share=0.25, speaker_pattern=r"^(\w)_")
    assert sides(told) == sides(dataset) and any("tells 8 speakers: a, b" in remark for remark in report.remarks)
    folds, _ = load(nameless, tmp_path, fold_column="speaker", speaker_pattern="^.")
    assert {(row["speaker"], row["session"]) for row in folds} == {(name, 1 + "abcdefgh".index(name)) for name in "abcdefgh"}
    with pytest.raises(ValueError, match=r"finds no speaker in 42 of 48 names, such as b_0"):
        load(nameless, tmp_path, test_share=0.25, speaker_pattern="^a")
    with pytest.raises(ValueError, match="no regular expression"):
        load(nameless, tmp_path, test_share=0.25, speaker_pattern="(")


def test_copies_of_a_recording_are_named_and_on_one_side(tmp_path):
    rows = corpus(copies=[(0, 6), (1, 13)])  # of speaker a in b and c
    dataset, report = load(rows, tmp_path)
    assert report.notes["copied_recording"] == ["b_0 (as a_0)", "c_1 (as a_1)"]
    assert any({"a", "b", "c"} <= side for side in sides(dataset)) and (np.array(dataset["label"]) >= 0).all()
    split = split_rows(dataset, fold=1, share=0.2, seed=0)
    assert not set(split.train["recording"]) & set(split.validation["recording"])


def test_of_a_copy_in_another_fold_the_first_one_stays(tmp_path):
    rows = corpus(copies=[(0, 6)])
    rows[6]["label"] = "y"
    dataset, report = load(rows, tmp_path, fold_column="part")
    label = dict(zip(dataset["id"], dataset["label"], strict=True))
    assert report.notes["copied_recording"] == ["b_0 (as a_0, with another label)"]
    assert report.notes["copied_across"] == ["a_0 (as b_0)"] and label["a_0"] == -1 and label["b_0"] >= 0
    silent = [{**row, "audio": {"array": np.zeros(800, np.float32), "sampling_rate": 16_000}} for row in corpus()[:12]]
    assert load(silent, tmp_path, fold_column="part")[1].notes["copied_recording"] == []


def test_speakers_in_several_folds_are_named(tmp_path):
    rows = corpus()
    rows[0]["part"] = "a"  # the others of this speaker are in b
    assert load(rows, tmp_path, fold_column="part")[1].notes["shared_speaker"] == ["a"]


def test_validation_is_split_by_speakers_in_every_fold(tmp_path):
    dataset, _ = load(corpus(), tmp_path, fold_column="speaker")
    chosen = set()
    for fold in range(1, 9):
        split = split_rows(dataset, fold, share=0.15, seed=0)
        parts = [set(part["speaker"]) for part in (split.train, split.validation, split.test)]
        assert split.unit == "speakers" and len(parts[1]) == 1 and len(set.union(*parts)) == 8 == sum(map(len, parts))
        assert sorted(split.validation["label"]) == [0, 0, 1, 1, 2, 2]
        chosen |= parts[1]
    assert len(chosen) > 1  # another speaker in other folds
    dialogs = split_rows(dataset, 1, share=0.15, seed=0, by="dialog")
    assert dialogs.unit == "rows" and len(set(dialogs.validation["speaker"])) > 1
    one_left = dataset.filter(lambda row: row["session"] in (1, 2))
    assert split_rows(one_left, 1, share=0.3, seed=0).unit == "rows"  # its training rows are of one speaker
