"""The speed table: its ratios are those of the times, and real rows run. Nothing here asserts a speed."""

import json
import math
from pathlib import Path

import pytest
import torch

from lemer import pretrain, train
from lemer.benchmarks import real_data, table
from lemer.benchmarks.speed import __main__ as speed
from lemer.benchmarks.speed import setup, speechbrain
from lemer.benchmarks.speed.results import format_table
from lemer.benchmarks.speed.rows import ROWS, gpu
from lemer.benchmarks.speed.rows.data import spaced
from lemer.benchmarks.speed.rows.prediction import over_speechbrain
from lemer.benchmarks.speed.timing import DEVICE, Entry, alternate, as_entry, compare, difference, flops
from lemer.recipes import RECIPES

ABOUT = {"commit": "0123456789", "date": "2026-01-01", "machine": {"cores": 2, "versions": {"torch": "2"}}}


def fake_timer(seconds: dict[str, list[float]], calls: list[str]):
    """A timer that gives the next of a side's seconds and notes who was called."""
    left = {side: iter(values) for side, values in seconds.items()}

    def timer(side):
        calls.append(side)
        return next(left[side])

    return timer


def test_sides_alternate_after_a_warm_up_of_each():
    calls = []
    timer = fake_timer({"ours": [9.0, 1.0, 2.0, 3.0], "theirs": [9.0, 4.0, 5.0, 6.0]}, calls)
    assert alternate("ours", "theirs", 3, timer) == [(1.0, 4.0), (2.0, 5.0), (3.0, 6.0)]
    assert sorted(calls[:2]) == ["ours", "theirs"]
    assert calls[2:] == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_ratio_is_the_median_of_the_pairs_not_of_the_sides():
    times = [(1.0, 2.0), (3.0, 3.0), (2.0, 1.0), (8.0, 2.0), (9.0, 3.0)]  # ratios 0.5, 1, 2, 4, 3
    entry = as_entry("a", "x / y", times)
    assert (entry.median, entry.quartiles) == (2.0, (1.0, 3.0))
    assert (entry.ours, entry.theirs) == (3.0, 2.0)


def test_a_ratio_of_speeds_is_the_other_way_round():
    entry = as_entry("c", "x / y", [(1.0, 3.0), (2.0, 6.0)], speed=True)
    assert entry.values == [3.0, 3.0]


@pytest.mark.parametrize(
    "target, met", [(None, None), (("at most", 1.0), True), (("at most", 0.9), False), (("at least", 1.1), False)]
)
def test_a_target_is_met_on_its_side(target, met):
    assert Entry("a", "x / y", [1.0], target).met is met


def test_a_missed_target_says_what_took_the_time():
    matrix = torch.ones(200, 200)
    missed = compare("a", "x / y", lambda: [matrix @ matrix for _ in range(20)], lambda: None, 1, ("at most", 0.0))
    assert missed.met is False and "mm +" in missed.measured
    assert compare("a", "x / y", lambda: matrix @ matrix, lambda: None, 1).measured == ""


def test_sides_that_differ_are_refused():
    states = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    assert difference(states, states) == 0.0
    with pytest.raises(AssertionError, match="differ by"):
        difference(states, states + 0.1)
    with pytest.raises(AssertionError, match="give"):
        difference(states, states[:1])


def test_the_table_has_every_figure():
    table = format_table(
        [Entry("a", "x / y", [1.0, 2.0, 3.0], ("at most", 1.5), "same", 0.25, 0.125, "why", "base")], ABOUT, {}
    )
    assert "| a | x / y | base | 2.000 | 1.500 to 2.500 | 3 | at most 1.5 | **no** | 0.25, 0.125 | same | why |" in table
    assert "commit 0123456789" in table and "torch 2" in table and "cores 2" in table


def test_a_row_that_fails_is_named_and_the_others_are_written(tmp_path, monkeypatch):
    def failing(bench):
        """A row that ends in the middle."""
        yield Entry("a", "x / y", [1.0])
        raise RuntimeError("no\nmemory")

    monkeypatch.setitem(ROWS, "a", failing)
    assert speed.main(["--rows", "a,e", "--size", "tiny", "--repeats", "1", "--output", str(tmp_path)]) == 1
    written = json.loads((tmp_path / f"speed-{DEVICE}.json").read_text())
    assert [row["row"] for row in written["rows"]] == ["a", "e", "e"]
    assert written["broken"] == {"a, tiny": "RuntimeError: no memory"}
    assert "- a, tiny: RuntimeError: no memory" in (tmp_path / f"speed-{DEVICE}.md").read_text()


def test_operations_are_counted_with_those_of_the_attention():
    query = torch.ones(1, 2, 3, 4)
    assert flops(lambda: torch.ones(5, 6) @ torch.ones(6, 7)) == 2 * 5 * 6 * 7
    with torch.no_grad():
        counted = flops(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
    assert counted == 2 * (2 * 2 * 3 * 3 * 4)  # scores and weighted sums, two heads


def test_lengths_are_those_of_the_corpus():
    lengths = setup.iemocap_seconds()
    assert len(lengths) == 5531 and lengths.max() <= 34.0
    for measured, expected in (
        (float(lengths.mean()), 4.55),
        *zip(map(float, _quantiles(lengths)), (3.58, 8.69), strict=True),
    ):
        assert measured == pytest.approx(expected, rel=0.03)


def _quantiles(lengths):
    return sorted(lengths)[len(lengths) // 2], sorted(lengths)[len(lengths) * 9 // 10]


def test_batches_are_spaced_evenly_by_their_longest_utterance():
    frames = torch.arange(160).numpy()
    batches = [list(range(16 * index, 16 * index + 16)) for index in range(10)]
    assert spaced(batches[::-1], frames, 2, 0.5) == [batches[2], batches[7]]


def test_rows_run_and_are_written(tmp_path, capsys):
    assert speed.main(["--rows", "a,e", "--size", "tiny", "--repeats", "1", "--output", str(tmp_path)]) == 0
    written = json.loads((tmp_path / f"speed-{DEVICE}.json").read_text())
    assert [row["row"] for row in written["rows"]] == ["a", "a", "e", "e"]
    assert {row["towers"] for row in written["rows"]} == {"tiny"}
    assert all(math.isfinite(row["median"]) and row["median"] > 0 and row["same"] for row in written["rows"])
    assert (tmp_path / f"speed-{DEVICE}.md").read_text() in capsys.readouterr().out


def test_on_a_gpu_the_matrix_rate_is_that_of_base_and_large_towers(monkeypatch):
    monkeypatch.setattr(speed, "DEVICE", "cuda")
    assert (speed.sizes_of_row("k"), speed.sizes_of_row("a")) == (("base", "large"), ("base",))
    sizes = {size for row in "abcdefghijk" for size in speed.sizes_of_row(row)}
    assert sizes < set(setup.SIZES)


@pytest.mark.parametrize("row, ratios", [("m", 2), ("n", 1), ("o", 3)])
def test_rows_for_a_gpu_have_a_trial_on_any_machine(row, ratios, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "call_in_child", lambda function, *arguments, **_: function(*arguments))
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    entries = list(ROWS[row](setup.Bench("tiny", 1, tmp_path)))
    assert len(entries) == ratios
    assert all(math.isfinite(entry.median) and entry.median > 0 and entry.same for entry in entries)


@pytest.mark.parametrize("row", "mno")
def test_rows_for_a_gpu_are_left_out_without_one_and_it_is_said(row, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    assert list(ROWS[row](setup.Bench("small", 1, tmp_path))) == []
    assert f"{row}  not measured: it needs a GPU" in capsys.readouterr().err


def test_master_weights_keep_what_rounding_would_lose():
    """Adam's updates are here of the size of the learning rate, and less than half of the step from 1 to the next bf16."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    optimizer, masters, weights = gpu.MasterWeights(layer, learning_rate=1e-3), [], []
    for _ in range(4):
        optimizer.update(layer(torch.ones(1, 1, dtype=torch.bfloat16)).sum())
        masters.append(optimizer.masters[0].item())
        weights.append(layer.weight.item())
    assert layer.weight.dtype == torch.bfloat16
    assert masters == pytest.approx([0.999, 0.998, 0.997, 0.996])
    assert weights == [1.0, 1 - 2**-8, 1 - 2**-8, 1 - 2**-8]


def test_without_speechbrain_its_rows_are_left_out_and_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speechbrain, "FOLDER", tmp_path / "nowhere")
    assert list(over_speechbrain(setup.Bench("tiny", 1, tmp_path), [])) == []
    assert "make bench" in capsys.readouterr().err


@pytest.mark.skipif(not (speechbrain.FOLDER / "ready").exists(), reason="`make bench` installs SpeechBrain")
def test_speechbrain_runs_on_the_same_tower(tmp_path):
    rows = setup.write_recordings(tmp_path / "recordings", [1.0, 0.7])
    entries = list(over_speechbrain(setup.Bench("tiny", 2, tmp_path), [row["audio"] for row in rows]))
    assert len(entries) == 3 and all(len(entry.values) == 2 and "frames" in entry.same for entry in entries)


def test_some_rows_do_not_replace_the_whole_table():
    assert speed.parse_args(["--rows", "a"]).output is None
    assert speed.parse_args([]).output is not None


@pytest.mark.parametrize("given", [["--rows", "a,z"], ["--repeats", "0"]])
def test_what_cannot_be_run_is_refused(given):
    with pytest.raises(SystemExit):
        speed.parse_args(given)


def test_commands_of_the_tables_can_be_given():
    voices = real_data.commands_of_voices(Path("release"), "bert", Path("out"))
    dialogs = real_data.commands_of_dialogs("bert", Path("out"))
    assert set(RECIPES) - {"score_fusion", "small_corpus"} <= set(table.commands(Path("out")))
    for made in (table.commands(Path("out")), voices, dialogs):
        for name, (script, *arguments) in made.items():
            args = {"train.py": train, "pretrain.py": pretrain}[script].parse_args(arguments)
            assert Path(args.output_dir) == Path("out/runs") / name
