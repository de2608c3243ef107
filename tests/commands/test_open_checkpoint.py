"""examples/train_open_checkpoint.py on tiny corpora, to the folder that would be published, and the card."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from known_layouts import write_crema_d, write_ravdess
from runs import PROTOCOL, write_run

import lemer.__main__
from lemer.evaluation.left_out import left_out_section

SCRIPT = Path(__file__).parents[2] / "examples" / "train_open_checkpoint.py"


def test_one_command_ends_with_a_folder_for_the_hub(tmp_path, monkeypatch, capsys):
    write_ravdess(tmp_path / "RAVDESS", actors=(1, 2, 3, 4, 5), emotions=("01", "05"))
    write_crema_d(tmp_path / "CREMA-D")
    script = runpy.run_path(str(SCRIPT))
    monkeypatch.setitem(script["main"].__globals__, "lemer", lambda *words: lemer.__main__.main(list(map(str, words))))
    corpora = [f"ravdess={tmp_path / 'RAVDESS'}", f"crema-d={tmp_path / 'CREMA-D'}"]
    options = ["--recipe", "small_corpus", "--cache_dir", str(tmp_path / "cache"), "--seeds", "0", "1"]
    where = ["--output_dir", str(tmp_path / "open"), "--repository", "ann/open"]
    monkeypatch.setattr(sys, "argv", ["train_open_checkpoint.py", *corpora, *where, *options])
    script["main"]()
    out = capsys.readouterr().out
    assert "RAVDESS: CC BY-NC-SA 4.0, https://zenodo.org/records/1188976\n" in out
    assert out.splitlines()[-1].startswith("lemer publish ") and "--dry-run" not in out.splitlines()[-1]
    card = (tmp_path / "open/publication/README.md").read_text()
    assert "license: cc-by-nc-sa-4.0" in card and "## On a corpus that it never heard" in card
    results = json.loads((tmp_path / "open/corpora_left_out/run/results.json").read_text())
    ua = {name: 100 * scores["ua"] for name, scores in results["by_corpus"].items()}
    assert f"| RAVDESS | {ua['ravdess']:.1f} ±" in card and f"| CREMA-D | {ua['crema-d']:.1f} ±" in card
    assert {"model.safetensors", "modeling_lemer.py"} <= {path.name for path in (tmp_path / "open/publication").iterdir()}


def test_a_run_that_leaves_no_corpus_out_or_is_of_another_model_is_refused(tmp_path):
    run = write_run(tmp_path / "C1", folds=(1,), seeds=(0,))
    with pytest.raises(ValueError, match="not hold whole corpora out: give a run of lemer train with --protocol corpus"):
        left_out_section(run, PROTOCOL, {})
    part, protocol = run / "fold1/seed0/results.json", {**PROTOCOL, "protocol": "corpus"}
    results = {**json.loads(part.read_text()), "fold_name": "ravdess"}
    part.write_text(json.dumps(results))
    (run / "protocol.json").write_text(json.dumps(protocol))
    assert f"| RAVDESS | {100 * results['ua']:.1f} (12 utterances) | none held out |" in left_out_section(run, PROTOCOL, {})
    with pytest.raises(ValueError, match="recipe 'C1', and the run that is published 'B1': its scores"):
        left_out_section(run, {**PROTOCOL, "recipe": "B1"}, {})
    with pytest.raises(ValueError, match="held out ravdess, and the run that is published is of crema-d"):
        left_out_section(run, PROTOCOL, {"by_corpus": {"crema-d": results}})
