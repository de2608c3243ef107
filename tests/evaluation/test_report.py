"""The report of all runs: figures, protocols, significance, and a page that is safe to open."""

import base64
import csv
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_runs import NAMES, random_answers, write_run
from PIL import Image

import lemer.evaluation
from lemer.evaluation import plots, significance
from lemer.evaluation.report import main, write_report
from lemer.evaluation.report.rows import find_runs, find_sweeps, group_rows, learning_curve, make_row
from lemer.evaluation.report.tables import history_of, second_stage_of
from lemer.evaluation.run_folder import Predictions, read_run
from lemer.evaluation.significance import compare, mcnemar, ua_permutation_test
from lemer.evaluation.summary import tower_name

IN_WORDS = ("recall: ang", "training loss of the last epoch", "small dots are the seeds; C2 ")  # of each figure
NASTY = "<script>alert('x')</script>|\"&"

# ------------------------------------------------------------------------------------------------------ significance


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(1, 5, 2 * (1 + 6) / 2**6), (0, 4, 2 / 2**4), (3, 3, 1.0), (0, 0, 1.0), (1, 0, 1.0)],
)
def test_mcnemar_by_hand(only_first, only_second, p):
    assert mcnemar(only_first, only_second) == pytest.approx(p)
    assert mcnemar(only_second, only_first) == pytest.approx(p)


def brute_force(gains, labels):
    """Every way to turn the signs of the gains, one at a time."""

    def ua(turned):
        return np.mean([np.mean([g for g, y in zip(turned, labels, strict=True) if y == c]) for c in set(labels)])

    seen = abs(ua(gains))
    turned = [
        ua([g * s for g, s in zip(gains, signs, strict=True)]) for signs in itertools.product((1, -1), repeat=len(gains))
    ]
    return ua(gains), np.mean([abs(value) >= seen - 1e-12 for value in turned])


@pytest.mark.parametrize("step", [1.0, 0.5, 1 / 3])
def test_the_permutation_test_counts_every_outcome(step):
    rng = np.random.default_rng(0)
    for _ in range(5):
        labels = [0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
        gains = rng.integers(-round(1 / step), round(1 / step) + 1, len(labels)) * step
        difference, p, exact = ua_permutation_test(gains, np.array(labels))
        expected = brute_force(gains.tolist(), labels)
        assert exact and (difference, p) == pytest.approx(expected)
        assert ua_permutation_test(-gains, np.array(labels)) == pytest.approx((-difference, p, True))


def test_with_classes_of_one_size_it_is_mcnemars_test():
    rng = np.random.default_rng(1)
    gains, labels = rng.integers(-1, 2, 80), np.arange(80) % 4
    assert ua_permutation_test(gains, labels)[1] == pytest.approx(mcnemar((gains < 0).sum(), (gains > 0).sum()))


def test_random_outcomes_are_near_the_exact_ones(monkeypatch):
    rng = np.random.default_rng(2)
    gains, labels = rng.choice([-1, 0, 1], 60), rng.integers(0, 3, 60)
    difference, p, exact = ua_permutation_test(gains, labels)
    monkeypatch.setattr(significance, "MAX_OUTCOMES", 0)
    assert exact and 0.05 < p < 0.95
    assert ua_permutation_test(gains, labels) == (difference, pytest.approx(p, abs=0.01), False)


def of_answers(right: list[bool], labels=(0, 0, 1, 1)) -> Predictions:
    predicted = [label if fine else 1 - label for label, fine in zip(labels, right, strict=True)]
    return Predictions([f"u{n}" for n in range(len(right))], np.array(labels), np.eye(2)[predicted], ["a", "b"])


def test_an_utterance_counts_once_however_many_seeds_there_are():
    first = {(1, seed): of_answers(right) for seed, right in enumerate(([1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]))}
    second = {(1, seed): of_answers(right) for seed, right in enumerate(([1, 0, 1, 1], [1, 1, 1, 0], [1, 0, 1, 1]))}
    test = compare(first, second)  # gains of the utterances over three seeds: 0, -1, 3, 2
    assert (test.utterances, test.only_first, test.only_second) == (4, 1, 2)
    assert test.ua_difference == pytest.approx(((0 - 1) / 2 + (3 + 2) / 2) / 3 / 2)
    assert (test.ua_difference, test.ua_p) == pytest.approx(brute_force([0, -1 / 3, 1, 2 / 3], [0, 0, 1, 1]))
    back = compare(second, first)
    assert (back.only_first, back.only_second, back.wa_p, back.ua_p) == (2, 1, test.wa_p, pytest.approx(test.ua_p))


def test_a_row_does_not_differ_from_itself():
    row = {(1, 0): of_answers([1, 0, 1, 0])}
    test = compare(row, row)
    assert (test.only_first, test.only_second, test.wa_p, test.ua_difference, test.ua_p) == (0, 0, 1.0, 0.0, 1.0)


def test_rows_of_other_utterances_cannot_be_paired():
    row = {(1, 0): of_answers([1, 0, 1, 0])}
    with pytest.raises(ValueError, match="folds and seeds"):
        compare(row, {(2, 0): row[1, 0]})
    with pytest.raises(ValueError, match="utterances or labels"):
        compare(row, {(1, 0): of_answers([1, 0, 1, 0], (0, 1, 1, 1))})


# -------------------------------------------------------------------------------------------------------------- rows


@pytest.fixture
def no_figures(monkeypatch):
    """For speed: tables alone."""
    monkeypatch.setattr("lemer.evaluation.report.draw_figures", lambda *arguments: [])


def rows_of(root):
    runs, unfinished, damaged = find_runs(root)
    return group_rows([make_row(run, root) for run in runs]), unfinished, damaged


def test_figures_are_those_of_the_predictions(tmp_path):
    write_run(tmp_path / "C1", folds=(1, 2), seeds=(0, 1))
    ((row,),) = [group.rows for group in rows_of(tmp_path)[0]]
    by_seed, pooled, scripted, recalls = [], [], [], []
    for seed in (0, 1):
        folds, everything = [], []
        for fold in (1, 2):
            with open(tmp_path / f"C1/fold{fold}/seed{seed}/predictions.csv", newline="") as file:
                lines = [(line["id"], line["label"], line["prediction"]) for line in csv.DictReader(file)]
            folds.append(np.mean([label == predicted for _, label, predicted in lines]))
            everything += lines
        by_seed.append(np.mean(folds))
        recalls.append([np.mean([p == name for _, y, p in everything if y == name]) for name in NAMES])
        pooled.append(np.mean(recalls[-1]))
        scripted.append(np.mean([label == predicted for name, label, predicted in everything if "_script" in name]))
    assert row.summary["mean"]["wa"] == pytest.approx(np.mean(by_seed))
    assert row.summary["deviation"]["wa"] == pytest.approx(np.std(by_seed, ddof=1))
    assert row.pooled["ua"] == pytest.approx(np.mean(pooled)) == pytest.approx(row.summary["pooled"]["ua"])
    assert list(row.pooled["recall"].values()) == pytest.approx(np.mean(recalls, axis=0))
    assert row.styles["scripted"]["wa"] == pytest.approx(np.mean(scripted))
    assert row.styles["scripted"]["utterances"] == row.styles["improvised"]["utterances"] == 24
    assert row.pooled["confusion"].sum() == 48


def test_ids_that_tell_no_style_have_no_styles(tmp_path):
    _, labels, logits = random_answers("x", 1, 0)
    write_run(tmp_path / "C1", folds=(1,), answers={(1, 0): ([f"u{n}" for n in range(24)], labels, logits)})
    assert rows_of(tmp_path)[0][0].rows[0].styles == {}


def test_rows_stand_in_the_papers_order_with_the_sweep_behind(tmp_path):
    order = ["A1", "B5", "score_fusion", "C1", "C4", "cross_modal", "K20", "K100", "K5-words", "K20-words", "mine"]
    for name in sorted(order):
        write_run(tmp_path / "deep" / name, name)
    assert [row.recipe for row in rows_of(tmp_path)[0][0].rows] == order


@pytest.mark.parametrize(
    "changes",
    [
        {"corpus_fingerprint": "f2"},
        {"corpus": "other"},
        {"transcripts": "asr"},
        {"split": "random"},
        {"selection": "best UA"},
        {"validation_share": 0.2},
        {"folds": (1,)},
        {"seeds": (0, 1)},
        {"names": ("a", "b", "c", "d")},
    ],
)
def test_rows_of_other_protocols_never_share_a_table(changes, tmp_path, no_figures):
    write_run(tmp_path / "A1", "A1", epochs=5)
    write_run(tmp_path / "B1", "B1", epochs=9)
    write_run(tmp_path / "C1", "C1", **changes)
    groups = rows_of(tmp_path)[0]
    assert [[row.name for row in group.rows] for group in groups] == [["A1", "B1"], ["C1"]]
    write_report(tmp_path, tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text()
    (name,) = changes
    name = "classes" if name == "names" else name.replace("_", " ")
    between = text[: text.index("## Protocol 1")]
    assert f"| {name} |" in between and "not comparable" in between
    assert "epochs: differs between rows" in text  # a setting of training, within the first table


def test_the_papers_figure_stands_only_beside_what_it_is_of(tmp_path, no_figures):
    write_run(tmp_path / "a/C1", comparable=True, folds=(1, 2, 3, 4, 5), second_stage="done")
    write_run(tmp_path / "b/C1", comparable=True, folds=(1, 2))  # not the mean of five folds
    write_run(tmp_path / "c/C1", comparable=False, folds=(1, 2, 3))
    write_run(tmp_path / "d/C2", "C2", comparable=True, folds=(1, 2, 3, 4, 5), set=["fusion=label"])
    groups = rows_of(tmp_path)[0]
    assert [group.comparable for group in groups] == [True, False, False]
    assert [row.paper for row in groups[0].rows] == [(82.40, 83.11), None]
    assert groups[0].rows[0].changes == [] and groups[0].rows[1].changes == ["fusion=label", "no second stage"]
    write_report(tmp_path, tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text()
    assert text.count("paper, on IEMOCAP (WA / UA)") == 1
    assert text.count("paper, on IEMOCAP: not comparable (WA / UA)") == 2
    assert "Li et al., Interspeech 2022 | 80.36 | 81.70" in text


def test_the_sweep_takes_c1_and_the_rows_of_k_with_the_seeds_that_all_have(tmp_path):
    common = {"codes": 100, "words": 9, "set": ["max_history=3"]}
    for name, k in (("K20", 20), ("K50", 50)):
        write_run(tmp_path / name, name, **{**common, "codes": k}, seeds=(1,))
    write_run(tmp_path / "C1", "C1", **common, seeds=(0, 1))
    write_run(tmp_path / "changed", "C1", **{**common, "codes": 7, "set": ["fusion=sum"]})
    write_run(tmp_path / "C1_halves", "C1", **common, seeds=(0, 1), speech_model="runs/B5")
    write_run(tmp_path / "elsewhere", "K70", **{**common, "codes": 70}, transcripts="asr")
    write_run(tmp_path / "B5", "B5", **common)
    groups = rows_of(tmp_path)[0]
    ((number, (sweep,)),) = find_sweeps(groups).items()
    assert [row.recipe for row in groups[number - 1].rows] == ["K20", "K50"]
    assert (sweep.name, sweep.changes, sweep.seeds) == ("key frames a class", "max_history=3", [1])
    assert [k for k, _, _ in sweep.points] == [20, 50, 100]
    run = read_run(tmp_path / "C1")
    assert sweep.points[2][1] == pytest.approx(100 * np.mean([run.parts[fold, 1].results["wa"] for fold in (1, 2)]))


def test_a_row_with_silence_has_its_mean_and_what_it_loses(tmp_path, no_figures):
    for name, seconds in (("C1", 1.0), ("C2", None), ("C3", 2.0)):
        run = read_run(write_run(tmp_path / name, name, folds=(1, 2), seeds=(0, 1)))
        for (fold, seed), part in run.parts.items():
            if seconds is None or (name, fold, seed) == ("C3", 2, 1):  # C3 is scored so in three of four folds and seeds
                continue
            silent = {"seconds": seconds, "wa": 0.5, "ua": 0.2 * fold + 0.1 * seed, "macro_f1": 0.5, "changed": 0.25}
            (part.folder / "results.json").write_text(
                json.dumps({**part.results, "confusion": None, "with_silence": silent})
            )
    ((row, *others),) = (group.rows for group in rows_of(tmp_path)[0])
    assert (row.silent["ua"], row.silent["deviation"]) == pytest.approx((0.35, np.std([0.3, 0.4], ddof=1)))
    assert [other.silent for other in others] == [None, None]
    write_report(tmp_path, tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text()
    before = row.summary["mean"]["ua"], row.summary["deviation"]["ua"]
    line = next(line for line in text[text.index("With silence") :].splitlines() if line.startswith("| C1 |"))
    assert line == (
        f"| C1 | 1 | {100 * before[0]:.2f} ± {100 * before[1]:.2f} | 35.00 ± 7.07 | {35 - 100 * before[0]:+.2f} | 25.00 |"
    )


def test_towers_of_each_fold_are_said(tmp_path):
    towers = {"speech_model": "runs/B5/fold{fold}", "text_model": "bert", "second_stage": None}
    write_run(tmp_path / "C1", "C1", **towers)
    ((row,),) = (group.rows for group in rows_of(tmp_path)[0])
    assert "speech tower of B5" in row.changes and "no second stage" not in row.changes


def test_a_row_of_another_modality_is_another_row_and_stands_apart(tmp_path):
    write_run(tmp_path / "C1", "C1", comparable=True, folds=(1, 2, 3, 4, 5), second_stage="done")
    words = {"set": ["modality=text"], "config": {"modality": "text"}}
    write_run(tmp_path / "words", "C1", comparable=True, folds=(1, 2, 3, 4, 5), **words)
    write_run(tmp_path / "C4", "C4", comparable=True, folds=(1, 2, 3, 4, 5))
    write_run(tmp_path / "A1", "A1", comparable=True, folds=(1, 2, 3, 4, 5), config={"modality": "text"})
    (group,) = rows_of(tmp_path)[0]
    assert [row.name for row in group.rows] == ["A1", "C1", "C4", "C1, words alone (words)"]
    assert [row.paper is None for row in group.rows] == [False, False, True, True]


@pytest.mark.parametrize(
    ("tower", "name"),
    [
        ("small", "small"),
        ("facebook/wav2vec2-base", "facebook/wav2vec2-base"),
        ("table/runs/B5/fold{fold}/seed{seed}/checkpoint", "B5"),
        ("/srv/models/tower", "tower"),
    ],
)
def test_long_paths_of_towers_are_folded(tower, name):
    assert tower_name(tower) == name


def test_one_value_of_k_is_no_sweep(tmp_path):
    write_run(tmp_path / "K9-words", "K9-words", words=9)
    write_run(tmp_path / "C1", "C1", words=9)
    assert find_sweeps(rows_of(tmp_path)[0]) == {}


def test_the_learning_curve_is_the_mean_of_each_epoch(tmp_path):
    part = read_run(write_run(tmp_path / "C1", folds=(1,))).parts[1, 0]
    with open(part.folder / "log.jsonl", "a") as log:
        log.write('{"step": 6, "epoch": 2, "validation_ua": 0.5}\n{"step": 7, "epo')
    curve = learning_curve(part)
    assert curve["epoch"].tolist() == [1, 2, 3] and curve["loss"] == pytest.approx([1.95, 1.75, 1.55])
    assert (curve["validation_epoch"].tolist(), curve["validation_ua"].tolist()) == ([3], [0.5])
    (part.folder / "log.jsonl").unlink()
    assert learning_curve(part) is None


# ------------------------------------------------------------------------------------------------ what is left out


def test_unfinished_and_damaged_runs_are_named_and_left_out(tmp_path, capsys):
    write_run(tmp_path / "C1")
    (write_run(tmp_path / "open") / "fold2/seed0/results.json").unlink()
    (write_run(tmp_path / "untold") / "results.json").unlink()
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh/protocol.json").write_text('{"recipe": "C2"}')
    (write_run(tmp_path / "cut") / "fold1/seed0/predictions.csv").unlink()
    part = write_run(tmp_path / "edited") / "fold1/seed0/results.json"
    part.write_text(json.dumps({**json.loads(part.read_text()), "wa": 0.99}))
    (write_run(tmp_path / "garbled") / "protocol.json").write_text('{"recipe"')
    (write_run(tmp_path / "bare") / "protocol.json").unlink()
    (write_run(tmp_path / "uneven", seeds=(0, 1)) / "fold2/seed1").rename(tmp_path / "uneven/fold2/seed9.tmp")
    (write_run(tmp_path / "copied") / "fold1/seed0").rename(tmp_path / "copied/fold1/seed1")
    (tmp_path / "second_stage/fold1").mkdir(parents=True)  # of pretrain.py: no run of a row
    (tmp_path / "second_stage/protocol.json").write_text('{"steps": 9}')
    groups, unfinished, damaged = rows_of(tmp_path)
    assert [row.name for group in groups for row in group.rows] == ["C1"]
    found = " ".join(unfinished)
    assert "open is not finished: 1 of the 2 folds and seeds begun are done; fold2/seed0 in epoch 3 of 3" in found
    assert "untold is not finished" in found and "fresh is not finished: no fold is begun" in found
    assert "uneven has no fold 2, seed 1" in found
    found = " ".join(damaged)
    assert "cut/fold1/seed0 has results but no predictions.csv" in found and "says WA 99.00" in found
    assert "garbled/protocol.json cannot be read as JSON" in found and "bare has no protocol.json" in found
    assert "copied/fold1/seed1 holds the results of fold 1, seed 0" in found
    assert (len(unfinished), len(damaged)) == (4, 5)
    assert str(tmp_path) not in f"{unfinished}{damaged}"  # no path of the machine in a page that is passed on
    assert main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    page = (tmp_path / "report/report.html").read_text()
    for text in (told, page):
        assert "unfinished: " in text and "skipped: " in text and "says WA 99.00" in text


def test_without_a_finished_run_it_says_why(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 1 and "no folder" in capsys.readouterr().err
    (write_run(tmp_path / "C1") / "results.json").unlink()
    assert main([str(tmp_path)]) == 1
    assert "no finished run" in (error := capsys.readouterr().err) and "C1 is not finished" in error
    assert not (tmp_path / "report").exists()


def test_a_report_is_the_same_again_and_is_no_run_itself(tmp_path):
    write_run(tmp_path / "C1")
    write_run(tmp_path / "C2", "C2")
    write_report(tmp_path, tmp_path / "report")
    files = files_of(tmp_path / "report")
    write_report(tmp_path, tmp_path / "report")
    assert files == files_of(tmp_path / "report")
    pictures = {f"figures/protocol-1-{row}-{kind}.png" for row in ("c1", "c2") for kind in ("confusion", "curves")}
    pictures.add("figures/protocol-1-ranking.png")
    assert set(files) == {"report.md", "report.csv", "report.html", *pictures}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_report_removes_the_figures_of_the_old_one_and_nothing_else(tmp_path):
    write_run(tmp_path / "C1")
    folder = write_run(tmp_path / "C2", "C2")
    write_report(tmp_path, tmp_path / "report")
    (tmp_path / "report/figures/mine.png").write_bytes(b"mine")
    shutil.rmtree(folder)
    write_report(tmp_path, tmp_path / "report")
    names = {path.name for path in (tmp_path / "report/figures").iterdir()}
    assert names == {"mine.png", "protocol-1-c1-confusion.png", "protocol-1-c1-curves.png"}


def test_any_two_rows_can_be_tested_against_each_other(tmp_path, capsys):
    for name in ("A1", "B1", "C1"):
        write_run(tmp_path / name, name)
    assert main([str(tmp_path), "--rows", "C1", "A1"]) == 0
    assert not (tmp_path / "report").exists()  # the one of all rows would be lost
    text = (tmp_path / "report_C1_A1/report.md").read_text()
    assert "2 finished rows" in text and "| A1 | C1 |" in text and "B1" not in text.split("### Earlier")[0]
    assert main([str(tmp_path), "--rows", "C1", "C9"]) == 1
    assert "no finished run C9" in capsys.readouterr().err


def test_one_run_folder_is_a_report_too(tmp_path):
    write_run(tmp_path / "C1")
    write_report(tmp_path / "C1", tmp_path / "out")
    assert "| C1 | LE-MER" in (tmp_path / "out/report.md").read_text()


# -------------------------------------------------------------------------------------------------------- the page


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [("", {})], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data if self.tags[-1][0] != "style" else ""


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A report of runs whose every text tries to become a part of the page."""
    root = tmp_path_factory.mktemp("runs")
    names = (f"ang{NASTY}", "hap$x$", "neu", "sad")
    changes = {"names": names, "set": [f"a={NASTY}"], "history": NASTY, "command": f"python {NASTY}\nsecond line"}
    write_run(root / "C1", recipe=NASTY, **changes, speech_model=NASTY, selection=NASTY, corpus=NASTY)
    write_run(root / "C2", "C2", **changes, speech_model="x", selection=NASTY, corpus=NASTY)
    (write_run(root / "<b>open", recipe=NASTY) / "results.json").unlink()
    write_report(root, root / "report")
    return root / "report"


def test_nothing_from_data_becomes_a_part_of_the_page(nasty):
    page = Page((nasty / "report.html").read_text())
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags and "b" not in tags and "iframe" not in tags
    assert page.text.count("<script>") > 10 and "<b>open" in page.text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_page_loads_nothing(nasty):
    text = (nasty / "report.html").read_text()
    page = Page(text)
    links = [(name, value) for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(value.startswith("#" if name == "href" else "data:image/png;base64,") for name, value in links)
    assert sum(name == "src" for name, _ in links) == 5  # all rows; confusion and learning curves of two
    assert not re.search(r"https?:|@import|url\(", text)
    policy = [attributes for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_every_picture_says_what_it_shows(nasty):
    pictures = [attributes for tag, attributes in Page((nasty / "report.html").read_text()).tags if tag == "img"]
    assert all(any(words in p["alt"] for words in IN_WORDS) for p in pictures)


def links_of(markdown: str) -> dict[str, str]:
    """Path -> alternative text of every image."""
    return {path: text for text, path in re.findall(r"!\[((?:[^\[\]\\]|\\.)*)\]\(([^)]*)\)", markdown)}


def test_markdown_shows_every_figure_with_its_numbers_in_words(nasty):
    text = (nasty / "report.md").read_text()
    links = links_of(text)
    assert text.count("![") == len(links) == 5
    assert set(links) == {f"figures/{path.name}" for path in (nasty / "figures").iterdir()}
    assert all(re.fullmatch(r"figures/[a-z0-9-]+\.png", path) for path in links)
    assert all(any(words in alt for words in IN_WORDS) for alt in links.values())
    for path in links:  # the same pictures as in the page
        content = (nasty / path).read_bytes()
        assert Image.open(io.BytesIO(content)).format == "PNG"
        assert base64.b64encode(content).decode() in (nasty / "report.html").read_text()


def test_markdown_has_tables_then_figures_then_commands(tmp_path):
    for name, seeds in (("C1", (0,)), ("C2", (0, 1))):
        write_run(tmp_path / name, name, seeds=seeds)
    write_report(tmp_path, tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text()
    heads = re.findall(r"^## (.*)", text, flags=re.MULTILINE)
    assert heads == ["Protocol 1", "Protocol 2", "Earlier systems", "Figures", "Commands"]
    assert text.rindex("### Protocol") < text.index("## Figures") < text.index("![") < text.rindex("![")
    assert text.rindex("![") < text.index("## Commands") < text.index("    python train.py")


def test_rows_of_like_names_have_figures_of_their_own(tmp_path):
    for name in ("a b", "a-b", "A_B"):
        write_run(tmp_path / name, "C1")
    write_report(tmp_path, tmp_path / "report")
    links = links_of((tmp_path / "report/report.md").read_text())
    assert len(links) == 7 and all((tmp_path / "report" / path).is_file() for path in links)


def test_figures_of_five_folds_and_two_seeds_are_small(tmp_path):
    write_run(tmp_path / "C1", folds=(1, 2, 3, 4, 5), seeds=(0, 1))
    write_report(tmp_path, tmp_path / "report")
    sizes = [path.stat().st_size for path in (tmp_path / "report/figures").iterdir()]
    assert len(sizes) == 2 and max(sizes) < 30_000


def test_the_report_runs_as_a_module_without_a_warning(tmp_path):
    write_run(tmp_path / "C1")
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "lemer.evaluation.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path / "report/report.md") in done.stdout and (tmp_path / "report/report.md").is_file()


def test_markdown_has_no_html_and_tables_keep_their_columns(nasty):
    text = (nasty / "report.md").read_text()
    outside_code = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert "<" not in outside_code
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_the_csv_has_a_line_a_row_and_says_how_to_repeat_it(nasty):
    with open(nasty / "report.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["recipe"] for line in lines] == ["C2", NASTY]
    assert all(line["command"] == f"python {NASTY}\nsecond line" for line in lines)
    assert all(0 <= float(line["wa"]) <= 100 and line["comparable_with_paper"] == "no" for line in lines)
    assert lines[0]["wa_p_against_previous"] == "" and 0 < float(lines[1]["wa_p_against_previous"]) <= 1


def test_without_matplotlib_the_tables_are_written_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lemer.evaluation.plots", None)
    monkeypatch.delattr(lemer.evaluation, "plots", raising=False)
    write_run(tmp_path / "C1")
    told = write_report(tmp_path, tmp_path / "report")
    assert any("There are no figures" in line for line in told)
    assert "<img" not in (page := (tmp_path / "report/report.html").read_text()) and "There are no figures" in page


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert "report.html" in told and "RUNS_DIR" in told and "lemer[plot]" in told


def test_a_fused_row_has_the_history_and_the_second_stage_of_its_runs():
    words = {"config": {"modality": "text"}, "processor": {"max_history": 0}, "second_stage": None}
    speech = {"config": {"modality": "speech"}, "processor": {}, "second_stage": "on the training sessions"}
    for runs in ([words, speech], [speech, words]):
        fused = {"history": "every earlier turn", "fused": runs}
        assert (history_of(fused), second_stage_of(fused)) == ("none", "on the training sessions")
    longer = {"history": "every earlier turn", "fused": [speech, {**words, "processor": {"max_history": 3}}]}
    assert history_of(longer) == "every earlier turn; the newest 3"
    assert history_of({"fused": [speech, speech]}) == "none: speech alone"


def write_stage(folder: Path, folds=(1, 2)) -> Path:
    """A second stage as pretrain.py leaves it."""
    first_last = {"contrastive_loss": (3.5, 3.0), "accuracy": (0.05, 0.25), "code_perplexity": (58.04, 61.0)}
    means = {f"{when}_{name}": pair[n] for name, pair in first_last.items() for n, when in enumerate(("first", "last"))}
    folder.mkdir(parents=True)
    protocol = {"speech_model": "tower", "split": "utterances", "settings": {"negatives": 30}}
    (folder / "protocol.json").write_text(json.dumps(protocol))
    for fold in folds:
        (folder / f"fold{fold}").mkdir()
        results = {"fold": fold, "utterances": 1512, "updates": 800, **means, "codes_in_use": 66.5}
        results.update(parameters=2000, trained_parameters=1000)
        (folder / f"fold{fold}/results.json").write_text(json.dumps(results))
        fig, ax = plots.new_figure(1, 1)
        ax.set_title(f"fold {fold}")
        fig.savefig(folder / f"fold{fold}/curve.png")
    return folder


def test_a_second_stage_shows_what_it_learned_and_its_curves(tmp_path):
    write_run(tmp_path / "C1")
    stage = write_stage(tmp_path / "second_stage")
    (stage / "fold2/results.json").write_text('{"fold": 2}')
    notes = write_report(tmp_path, tmp_path / "report")
    assert any("skipped: second_stage/fold2/results.json" in line for line in notes)
    text = (tmp_path / "report/report.md").read_text()
    assert "| 1 | 1,512 | 800 | 3.500 to 3.000 | 0.050 to 0.250 | 58.0 to 61.0 | 66.5 | 1,000 of 2,000 |" in text
    assert "By chance the accuracy is 0.032." in text
    page = (tmp_path / "report/report.html").read_text()
    drawn = plots.with_palette((stage / "fold1/curve.png").read_bytes())
    assert base64.b64encode(drawn).decode() in page and "Second stage without session 1" in page
    assert (tmp_path / "report/figures/second-stage-second-stage-session-1.png").read_bytes() == drawn
    assert "Second stage without session 2" not in page


def test_a_figure_with_a_palette_looks_the_same_and_is_smaller():
    fig, _ = plots.confusion_matrix(np.arange(16).reshape(4, 4), NAMES)
    whole = io.BytesIO()
    fig.savefig(whole, format="png", dpi=130)
    small = plots.with_palette(whole.getvalue())
    assert len(small) < len(whole.getvalue()) / 2
    pixels = [np.asarray(Image.open(file).convert("RGB"), float) for file in (whole, io.BytesIO(small))]
    assert pixels[0].shape == pixels[1].shape and np.abs(pixels[0] - pixels[1]).mean() < 0.5
    assert Image.open(io.BytesIO(plots.png(fig))).mode == "P"
