"""Inputs in parts: those that several processes answer, and the shards that one process has in memory."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model, tiny_processor

import lemer.predict
from lemer.corpora import shards
from lemer.corpora.manifest import Utterance, share_of


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a checkpoint that reads words, called text."""
    place = tmp_path_factory.mktemp("parts")
    tiny_model(modality="text").save_pretrained(place / "text")
    tiny_processor().save_pretrained(place / "text")
    return place


@pytest.fixture(autouse=True)
def inside(place, monkeypatch):
    monkeypatch.chdir(place)


def predict(*arguments) -> int:
    return lemer.predict.main([*map(str, arguments), "--device", "cpu"])


def read(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def dialogs_file(tmp_path):
    lines = [{"id": f"t{turn}", "dialog": f"d{turn % 5}", "text": f"hello {turn} you won"} for turn in range(17)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "m.jsonl"


@pytest.mark.parametrize("start", ["option", "torchrun"])
def test_parts_are_together_what_one_process_answers(dialogs_file, tmp_path, monkeypatch, start):
    arguments = ["text", dialogs_file, "--output", tmp_path / "out.jsonl"]
    assert predict(*arguments) == 0
    whole = {row["id"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    joined = []
    for part in range(3):
        if start == "torchrun":
            monkeypatch.setenv("RANK", str(part))
            monkeypatch.setenv("WORLD_SIZE", "3")
        assert predict(*arguments, *([] if start == "torchrun" else ["--shard", f"{part}/3"])) == 0
        joined += map(json.loads, (tmp_path / f"out-0000{part}-of-00003.jsonl").read_text().splitlines())
    assert len(joined) == len(whole) and {row["id"] for row in joined} == set(whole)
    for row in joined:
        assert row.pop("scores") == pytest.approx(whole[row["id"]].pop("scores"), abs=2e-6) and row == whole[row["id"]]


def test_a_part_without_inputs_has_a_file_with_its_header(dialogs_file, tmp_path):
    for part in range(20):  # more parts than dialogs
        assert predict("text", dialogs_file, "--output", tmp_path / "out.csv", "--shard", f"{part}/20") == 0
    rows = [read(path) for path in sorted(tmp_path.glob("out-*-of-00020.csv"))]
    assert len(rows) == 20 and sum(map(len, rows)) == 17 and min(map(len, rows)) == 0


@given(st.lists(st.text(max_size=9), unique=True, max_size=30), st.integers(1, 9))
def test_every_dialog_is_in_one_part_which_depends_on_its_name_alone(names, count):
    dialogs = [[Utterance(name)] for name in names]
    parts = [share_of(dialogs, index, count) for index in range(count)]
    assert sorted(turn.id for part in parts for (turn,) in part) == sorted(names)
    assert [share_of(dialogs[::-1], index, count)[::-1] for index in range(count)] == parts


@pytest.mark.parametrize("text", ["3/3", "-1/3", "1", "a/b", "1/0", "1/3/5"])
def test_a_part_that_is_none_is_refused(text, dialogs_file, tmp_path, capsys):
    with pytest.raises(SystemExit):
        predict("text", dialogs_file, "--output", tmp_path / "out.csv", f"--shard={text}")
    assert "I/N with I from 0 to N - 1" in capsys.readouterr().err.replace("\n", " ")


def test_a_part_needs_a_file(dialogs_file, capsys):
    with pytest.raises(SystemExit):
        predict("text", dialogs_file, "--shard", "0/2")
    assert "needs --output" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [1, 2, 3, 20])
def test_a_long_dialog_lies_in_several_shards_and_every_turn_in_one(monkeypatch, batch_size):
    monkeypatch.setattr(shards, "SHARD_BATCHES", 2)
    dialogs = [
        [Utterance(f"{dialog}.{turn}", text="hello") for turn in range(size)] for dialog, size in enumerate((1, 9, 2, 5))
    ]
    cut = list(shards.shards(dialogs, batch_size))
    together = []
    for shard in cut:
        assert sum(map(len, shard.dialogs)) <= 2 * batch_size and all(shard.dialogs)
        goes_on = together and together[-1][-1].id.split(".")[0] == shard.dialogs[0][0].id.split(".")[0]
        together += shard.dialogs if not goes_on else [together.pop() + shard.dialogs[0], *shard.dialogs[1:]]
    assert together == dialogs
    assert [shard.goes_on for shard in cut] == [
        one.dialogs[-1][-1].id.split(".")[0] == next_one.dialogs[0][0].id.split(".")[0]
        for one, next_one in zip(cut, cut[1:], strict=False)
    ] + [False]


@pytest.mark.parametrize("cut_off", [0, 1, 3])
def test_a_dialog_of_many_shards_is_answered_as_in_one(tmp_path, monkeypatch, cut_off):
    lines = [{"id": f"t{turn}", "dialog": "d", "text": f"hello {turn} you won" if turn % 3 else "..."} for turn in range(7)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = ["text", tmp_path / "m.jsonl", "--batch_size", "2", "--output"]
    assert predict(*arguments, tmp_path / "whole.jsonl") == 0
    monkeypatch.setattr(shards, "SHARD_BATCHES", 1)
    whole = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(whole[:cut_off]))
    assert predict(*arguments, tmp_path / "cut.jsonl") == 0
    for one, other in zip(whole, (tmp_path / "cut.jsonl").read_text().splitlines(), strict=True):
        one, other = json.loads(one), json.loads(other)
        assert one["scores"] == pytest.approx(other["scores"], abs=2e-6) and one["id"] == other["id"]
