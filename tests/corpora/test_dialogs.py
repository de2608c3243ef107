"""Written dialogs as a table of turns: folds of whole dialogs, nothing told twice on both sides, every turn kept."""

import json
from collections import Counter, defaultdict

import pytest

from lemer.corpora.any_dataset import load_any_dataset
from lemer.corpora.dialogs import group_dialogs, main, make_turns, read_dialogs


def dialog(name, *turns):
    return {
        "id": name,
        "turns": [{"speaker": "FM"[n % 2], "text": text, "emotion": emotion} for n, (text, emotion) in enumerate(turns)],
    }


def many(count=20):
    """Dialogs of six turns that share only a greeting."""
    lines = [("hello?", "neu")] + [
        (f"this is long line number {n} of {{}}", ["neu", "neu", "sad", "neu", "hap"][n]) for n in range(5)
    ]
    return [dialog(f"d{i}", *((text.format(f"dialog {i}"), label) for text, label in lines)) for i in range(count)]


def write(path, dialogs):
    path.write_text("".join(json.dumps(one) + "\n" for one in dialogs))
    return path


def test_every_turn_is_there_once_in_its_order_and_dialogs_are_whole():
    dialogs = many()
    rows = make_turns(dialogs)
    assert [(row["dialog"], row["text"], row["label"]) for row in rows] == [
        (one["id"], turn["text"], turn["emotion"]) for one in dialogs for turn in one["turns"]
    ]
    assert [row["order"] for row in rows] == list(range(6)) * 20
    assert {tuple(row) for row in rows} == {("id", "dialog", "order", "label", "speaker", "text", "fold")}
    folds = defaultdict(set)
    for row in rows:
        folds[row["dialog"]].add(row["fold"])
    assert all(len(found) == 1 for found in folds.values())
    sizes = Counter(row["fold"] for row in rows)
    assert set(sizes) == {1, 2, 3, 4, 5} and set(sizes.values()) == {24}


def test_dialogs_that_share_lines_share_the_fold_also_by_way_of_others():
    one, two, three, four = many(4)
    two["turns"][1:3] = one["turns"][1:3]  # two long lines of the first
    three["turns"][3:5] = two["turns"][3:5]  # two of the second, none of the first
    assert group_dialogs([one, two, three, four]) == [0, 0, 0, 3]
    short = [dialog("a", ("no.", "neu"), ("yes.", "hap")), dialog("b", ("No.", "neu"), ("yes.", "hap"))]
    assert group_dialogs([*short, dialog("c", ("no.", "neu"), ("oh.", "neu"))]) == [0, 0, 2]
    for others in range(5, 10):  # whichever they are
        rows = make_turns([*many(30)[others:], one, two, three], folds=3)
        assert len({row["fold"] for row in rows if row["dialog"] in ("d0", "d1", "d2")}) == 1


def test_labels_over_the_limit_are_history_only_and_the_same_ones_every_time():
    dialogs = many()
    rows = make_turns(dialogs, labels=["neu", "sad"], max_per_class=15)
    assert Counter(row["label"] for row in rows) == {"neu": 15, "sad": 15, None: 90}
    assert len(rows) == 120
    again = make_turns(dialogs[::-1], labels=["neu", "sad"], max_per_class=15)
    assert {row["id"]: row["label"] for row in rows} == {row["id"]: row["label"] for row in again}


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="no turn is labelled angry: the labels are hap, neu, sad"):
        make_turns(many(), labels=["angry", "sad"])
    with pytest.raises(ValueError, match="3 dialogs .* 5 folds"):
        make_turns(many(3))


def test_damaged_lines_are_counted_and_named_and_the_rest_is_read(tmp_path, capsys):
    path = write(tmp_path / "dialogs.jsonl", many())
    broken = ['{"turns": []}', "{", '{"turns": [{"text": 5}]}', '{"turns": [{"text": " "}]}', '{"lines": []}', "[]", ""]
    path.write_text(path.read_text() + "\n".join(broken))
    dialogs, damaged = read_dialogs(path)
    assert len(dialogs) == 20 and len(damaged) == 6
    assert damaged[0].startswith("line 21: ") and damaged[-1].startswith("line 26: ")
    assert main([str(path), str(tmp_path / "turns.jsonl")]) == 0
    printed = capsys.readouterr()
    assert "20 dialogs, 120 turns" in printed.out and "left out: 6 damaged lines in all" in printed.err
    write(path, [*many(2), many(1)[0]])
    with pytest.raises(ValueError, match="1 ids stand for several dialogs, such as d0"):
        read_dialogs(path)
    assert main([str(tmp_path / "none.jsonl"), str(tmp_path / "turns.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err


def test_the_table_is_a_corpus_with_history(tmp_path):
    source, turns = write(tmp_path / "dialogs.jsonl", many()), tmp_path / "turns.jsonl"
    assert main([str(source), str(turns), "--labels", "sad", "hap", "--max_per_class", "10"]) == 0
    dataset, report = load_any_dataset(
        turns, fold_column="fold", dialog_column="dialog", order_column="order", cache_dir=tmp_path / "cache", progress=False
    )
    assert report.classes == ["hap", "sad"] and not report.has_audio and report.has_dialogs
    assert Counter(dataset["label"])[-1] == 100
    row = next(row for row in dataset if row["id"] == "d7_003")
    assert row["history"] == [turn["text"] for turn in many()[7]["turns"][:3]]
    assert len(set(dataset["session"])) == 5
