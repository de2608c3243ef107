"""Score fusion of two run folders: sums, scores, refusals."""

import json

import numpy as np
import pytest
from fake_runs import NAMES, random_answers, write_part, write_run

from lemer.evaluation.report.rows import make_row
from lemer.evaluation.run_folder import read_predictions, read_run
from lemer.evaluation.score_fusion import add_logits, fuse_runs
from lemer.evaluation.ser_metrics import emotion_scores

PAPER = {"wa": 81.32, "ua": 82.18}


@pytest.fixture
def runs(tmp_path):
    settings = {"folds": (1, 2), "seeds": (0, 1)}
    return write_run(tmp_path / "A5", "A5", **settings), write_run(
        tmp_path / "B5", "B5", **settings, epochs=9, second_stage="done"
    )


def test_fused_logits_are_the_sums(runs, tmp_path):
    fuse_runs(*runs, tmp_path / "fused")
    for part in ("fold1/seed0", "fold1/seed1", "fold2/seed0", "fold2/seed1"):
        first, second, fused = (read_predictions(run / part / "predictions.csv") for run in (*runs, tmp_path / "fused"))
        assert (fused.ids, fused.names) == (first.ids, list(NAMES))
        np.testing.assert_array_equal(fused.labels, first.labels)
        np.testing.assert_array_equal(fused.logits, first.logits + second.logits)


def test_a_sum_by_hand_turns_two_wrong_answers_into_a_right_one(tmp_path):
    ids, labels = ["u"], np.array([1])
    for name, logits in (("A5", [3.0, 2.0, 0.0, 0.0]), ("B5", [0.0, 2.0, 3.0, 0.0])):
        answers = {(1, 0): (ids, labels, np.array([logits]))}
        write_run(tmp_path / name, name, folds=(1,), answers=answers, second_stage="done")
    assert not any(read_run(tmp_path / name).parts[1, 0].predictions.right for name in ("A5", "B5"))
    summary = fuse_runs(tmp_path / "A5", tmp_path / "B5", tmp_path / "fused")
    assert summary["mean"]["wa"] == 1.0 and summary["paper"] == PAPER


@pytest.mark.parametrize("change", [{"words": 3}, {"set": ["modality=text"]}, {"second_stage": None}])
def test_the_papers_figure_is_not_beside_a_fusion_of_changed_rows(tmp_path, change):
    write_run(tmp_path / "A5", "A5", words=9)
    write_run(tmp_path / "B5", "B5", **{"second_stage": "done", "words": 9, **change})
    assert fuse_runs(tmp_path / "A5", tmp_path / "B5", tmp_path / "fused")["paper"] == {"wa": None, "ua": None}


def test_a_fusion_of_other_rows_is_said_to_be_one_and_has_no_figure_of_the_paper(tmp_path):
    for name in ("A5", "B5", "small_corpus"):
        write_run(tmp_path / name, name, comparable=True, folds=(1, 2, 3, 4, 5), words=9, second_stage="done")
    for first, second, is_papers in (("A5", "B5", True), ("B5", "A5", True), ("A5", "small_corpus", False)):
        summary = fuse_runs(tmp_path / first, tmp_path / second, tmp_path / f"{first}_{second}")
        row = make_row(read_run(tmp_path / f"{first}_{second}"), tmp_path)
        assert row.description == f"sum of the logits of {first} and {second}"
        assert (row.paper is not None) == (summary["paper"]["wa"] is not None) == is_papers
        assert ("fuses A5 and small_corpus" in row.changes) == (not is_papers)


def test_utterances_meet_by_id_not_by_line(tmp_path):
    ids, labels, logits = random_answers("x", 1, 0)
    order = np.random.default_rng(0).permutation(len(ids))
    write_run(tmp_path / "A5", "A5", folds=(1,), answers={(1, 0): (ids, labels, logits)})
    shuffled = ([ids[i] for i in order], labels[order], logits[order])
    write_run(tmp_path / "B5", "B5", folds=(1,), answers={(1, 0): shuffled})
    first, second = (read_run(tmp_path / name).parts[1, 0].predictions for name in ("A5", "B5"))
    np.testing.assert_array_equal(add_logits(first, second).logits, 2 * first.logits)


def test_the_fused_run_is_read_like_a_trained_one(runs, tmp_path):
    summary = fuse_runs(*runs, tmp_path / "fused")
    run = read_run(tmp_path / "fused")
    assert run.protocol["recipe"] == "score_fusion" and run.protocol["corpus_fingerprint"] == "f1"
    assert [one["recipe"] for one in run.protocol["fused"]] == ["A5", "B5"]
    assert "epochs" not in run.protocol  # 3 and 9: of neither
    scores = [emotion_scores(p.predictions.labels, p.predictions.predicted, NAMES)["ua"] for p in run.parts.values()]
    assert summary["mean"]["ua"] == pytest.approx(np.mean(scores))
    assert run.parts[1, 0].results["parameters"] == 2000
    row = json.loads((tmp_path / "fused/results.json").read_text())
    assert row["recipe"] == "score_fusion" and not row["comparable"]
    table = (tmp_path / "fused/results.md").read_text()
    assert "A5 and B5" in table and "not this corpus" in table


def test_fusing_again_gives_the_same_files(runs, tmp_path):
    fuse_runs(*runs, tmp_path / "fused")
    files = {path: path.read_bytes() for path in (tmp_path / "fused").rglob("*") if path.is_file()}
    fuse_runs(*runs, tmp_path / "fused")
    assert files == {path: path.read_bytes() for path in (tmp_path / "fused").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus_fingerprint": "f2"}, r"corpus_fingerprint \('f1' and 'f2'\)"),
        ({"transcripts": "asr"}, r"transcripts \(None and 'asr'\)"),
        ({"selection": "best UA"}, "selection"),
        ({"validation_share": 0.1}, "validation_share"),
        ({"split": "random"}, "split"),
        ({"folds": (1,)}, r"folds \(\[1, 2\] and \[1\]\)"),
        ({"seeds": (0, 1)}, r"seeds \(\[0\] and \[0, 1\]\)"),
        ({"names": ("ang", "hap", "sad", "neu")}, "classes"),
    ],
)
def test_runs_that_differ_where_they_must_not_are_refused(changes, message, tmp_path):
    write_run(tmp_path / "A5", "A5")
    write_run(tmp_path / "B5", "B5", **changes)
    with pytest.raises(ValueError, match=message):
        fuse_runs(tmp_path / "A5", tmp_path / "B5", tmp_path / "fused")
    assert not (tmp_path / "fused").exists()


def test_other_utterances_labels_or_splits_are_refused(tmp_path):
    ids, labels, logits = random_answers("x", 1, 0)
    write_run(tmp_path / "A5", "A5", folds=(1,), answers={(1, 0): (ids, labels, logits)})
    write_run(tmp_path / "ids", folds=(1,), answers={(1, 0): (["other", *ids[1:]], labels, logits)})
    write_run(tmp_path / "labels", folds=(1,), answers={(1, 0): (ids, (labels + (np.arange(24) == 5)) % 4, logits)})
    part = write_run(tmp_path / "split", folds=(1,)) / "fold1/seed0/results.json"
    part.write_text(part.read_text().replace('"train": 9', '"train": 8'))
    for name, message in (("ids", "2, such as Ses01F"), ("labels", f"1, such as {ids[5]}"), ("split", "'train': 8")):
        with pytest.raises(ValueError, match=message):
            fuse_runs(tmp_path / "A5", tmp_path / name, tmp_path / "fused")


def test_an_unfinished_missing_or_repeated_run_is_refused(runs, tmp_path):
    first, second = runs
    with pytest.raises(ValueError, match="twice"):
        fuse_runs(first, first, tmp_path / "fused")
    with pytest.raises(ValueError, match="no run folder"):
        fuse_runs(first, tmp_path / "nowhere", tmp_path / "fused")
    (second / "fold2/seed1/results.json").unlink()
    with pytest.raises(ValueError, match=r"not finished: 3 of the 4 .* fold2/seed1 in epoch 3 of 9"):
        fuse_runs(first, second, tmp_path / "fused")


def test_a_folder_that_holds_something_else_is_left_alone(runs, tmp_path):
    first, second = runs
    for folder, keep in ((first, "protocol.json"), (tmp_path / "mine", "notes.txt")):
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("mine")
        with pytest.raises(ValueError, match="give another --output_dir"):
            fuse_runs(*runs, folder)
        assert (folder / keep).exists() and (folder / "notes.txt").read_text() == "mine"
    write_run(tmp_path / "third", "A5", folds=(1, 2), seeds=(0, 1), epochs=3, set=["x=1"])
    fuse_runs(first, second, tmp_path / "fused")
    with pytest.raises(ValueError, match="fusion of other runs"):
        fuse_runs(tmp_path / "third", second, tmp_path / "fused")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u9,ang,ang,1,0,0", "line 3 is damaged"),
        ("u9,ang,ang,1,0,0,nan", "line 3 is damaged"),
        ("u9,ang,hap,1,0,0,0", "line 3 is damaged"),
        ("u9,joy,ang,1,0,0,0", "line 3 is damaged"),
        ("u0,ang,ang,1,0,0,0", "more than once"),
    ],
)
def test_damaged_predictions_are_an_error(line, message, tmp_path):
    part = write_part(tmp_path, 1, 0, ["u0"], np.array([0]), np.array([[1.0, 0, 0, 0]]))
    path = part / "predictions.csv"
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(ValueError, match=message):
        read_predictions(path)


def test_predictions_survive_writing_and_reading_to_the_last_bit(tmp_path):
    ids, labels, logits = random_answers("x", 1, 0)
    logits = logits.astype(np.float32)
    read = read_predictions(write_part(tmp_path, 1, 0, ids, labels, logits) / "predictions.csv")
    assert read.ids == ids and np.array_equal(read.labels, labels) and np.array_equal(read.logits, logits)
