"""The ranking of a report: intervals, corrected tests, and the sentences that the report opens with."""

import numpy as np
import pytest
from fake_runs import write_run

from lemer.evaluation.intervals import bootstrap_intervals, share_intervals
from lemer.evaluation.report import write_report
from lemer.evaluation.report.ranking import holm, rank
from lemer.evaluation.report.rows import find_runs, group_rows, make_row
from lemer.evaluation.significance import compare


def test_holms_correction_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.4]) == [0.8, 0.8] and holm([]) == []


def test_intervals_of_shares_are_near_the_bootstraps_and_shrink_where_seeds_agree_less():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 200, 100])
    right = rng.random(600) < np.array([0.9, 0.6, 0.4])[labels]
    confusion = [
        [np.sum((labels == y) & (right if y == p else ~right & (p == (y + 1) % 3))) for p in range(3)] for y in range(3)
    ]
    for name, ends in bootstrap_intervals(confusion).items():
        if name != "macro_f1":
            assert share_intervals(right, labels)[name] == pytest.approx(ends, abs=0.004)
    low, high = share_intervals(np.where(right, 0.75, 0.25), labels)["ua"]
    assert high - low == pytest.approx(np.subtract(*share_intervals(right, labels)["ua"][::-1]) / 2)


def answers_right(share: float, seeds=(0, 1)) -> dict:
    """Answers of fold 1 of which this share is right, the first ones of each class."""
    ids, labels = [f"Ses01F_impro01_F{n:03d}" for n in range(200)], np.arange(200) % 4
    predicted = np.where(np.arange(200) < 200 * share, labels, (labels + 1) % 4)
    return {(1, seed): (ids, labels, np.eye(4)[predicted]) for seed in seeds}


def test_the_report_opens_with_what_won_and_what_cannot_be_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("lemer.evaluation.report.draw_figures", lambda *arguments: [])  # for speed
    for name, share in (("A1", 0.3), ("B1", 0.58), ("C1", 0.6)):
        write_run(tmp_path / name, name, folds=(1,), seeds=(0, 1), answers=answers_right(share))
    runs, _, _ = find_runs(tmp_path)
    (group,) = group_rows([make_row(run, tmp_path) for run in runs])
    places = rank(group)
    assert [place.row.recipe for place in places] == ["C1", "B1", "A1"]
    assert [place.ua for place in places] == pytest.approx([0.6, 0.58, 0.3]) and places[0].by_seed == pytest.approx(
        [0.6, 0.6]
    )
    assert all(place.low < place.ua < place.high for place in places)
    tests = [
        compare(*({k: p.predictions for k, p in place.row.run.parts.items()} for place in (places[0], other)))
        for other in places[1:]
    ]
    assert [place.p for place in places[1:]] == pytest.approx(holm([test.ua_p for test in tests]))
    assert (places[0].is_apart, places[1].is_apart, places[2].is_apart) == (False, False, True)
    write_report(tmp_path, tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text()
    assert text.split("\n\n")[1] == (
        "C1 has the highest UA of 3 rows, 60.00 % ± 0.00 over 2 seeds on 200 utterances. That is 2.00 points above the next "
        "row, B1, and 30.00 above the last, A1. These cannot be told apart from it: B1."
    )
    assert "| 3. A1 | 30.00 ± 0.00 |" in text and text.index("### Ranking") < text.index("### Results")
