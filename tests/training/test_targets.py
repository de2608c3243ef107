"""What a training aims at: weights and scales from the training split alone, votes, and the real script with all of it."""

import json

import datasets
import numpy as np
import pytest
import torch
from tiny import tower_folders
from transformers import AutoModel

import lemer.train
from lemer.training.targets import attribute_rows, attribute_scales, class_weights, distributions

NAMES = ["ang", "neu", "sad"]


def test_balanced_weights_make_all_classes_alike():
    labels = [0] * 6 + [1] * 3 + [-1] * 5 + [2]
    weights = class_weights(["balanced"], labels, NAMES)
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert np.mean([weights[label] for label in labels if label >= 0]) == pytest.approx(1)
    assert class_weights(["balanced"], [0, 0, 1], NAMES) == pytest.approx([0.75, 1.5, 0.0])
    assert class_weights(["none"], labels, NAMES) is None and class_weights(["1", "2", "0.5"], labels, NAMES) == [1, 2, 0.5]
    with pytest.raises(ValueError, match=r"--class_weights 1 2: expected none, balanced, or 3 numbers, one for each of ang"):
        class_weights(["1", "2"], labels, NAMES)


def test_scales_are_mean_and_deviation_of_what_is_known():
    rows = datasets.Dataset.from_dict({"valence": [1.0, None, 4.0], "arousal": [2.0, 2.0, None]})
    assert attribute_scales(["valence"], rows) == {"valence": [2.5, 1.5]} and attribute_scales([], rows) is None
    for name in ("arousal", "dominance"):
        with pytest.raises(ValueError, match=f"--attributes {name}: .* several different ones"):
            attribute_scales([name], rows)


def test_rows_without_votes_aim_at_their_label():
    rows = [{"label": 2, "votes": []}, {"label": -1, "votes": [3.0, 1.0, 0.0]}, {"label": 0}]
    expected = torch.tensor([[0.0, 0.0, 1.0], [0.75, 0.25, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(distributions(rows, 3), expected)
    values = attribute_rows([{"valence": 1.5}, {"valence": None}], ["valence", "arousal"])
    assert values.isnan().tolist() == [[False, True], [True, True]] and values[0, 0] == 1.5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Words of four speakers, each clip with votes and two attributes; the last one of each speaker is a tie."""
    words, rows = {"ang": "i hate this", "neu": "the table is here", "sad": "all is lost"}, []
    for speaker in "abcd":
        for number in range(10):
            label = NAMES[number % 3]
            votes = [label] * 2 + ["neu"]
            row = {"id": f"{speaker}{number}", "speaker": speaker, "text": f"{words[label]} {number}", "label": label}
            rows.append({**row, "votes": votes, "valence": float(number % 5), "arousal": 1.0 + number % 3})
        rows[-1].update(label="", votes=["ang", "sad"])
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "table.jsonl"


def test_the_script_trains_on_votes_weights_and_attributes(corpus, tmp_path):
    _, text = tower_folders(tmp_path)
    options = f"--corpus {corpus} --cache_dir {corpus.parent} --fold_column speaker --folds 1 --recipe cross_modal_text"
    options += f" --text_model {text} --output_dir {tmp_path / 'run'} --epochs 2 --batch_size 8 --warmup_steps 0"
    options += " --validation_share 0.3 --targets votes --class_weights balanced --attributes valence arousal"
    assert lemer.train.main([*options.split(), "--select_by", "macro_f1"]) == 0
    part = tmp_path / "run/fold1/seed0"
    results = json.loads((part / "results.json").read_text())
    # Of ten clips a speaker, the tie has no label: it is trained on alone.
    assert results["split"] == {"train": 20, "validation": 9, "test": 9} and results["validation_by"] == "speakers"
    assert set(results["ccc"]) == {"valence", "arousal"} and "macro-F1" in results["selected"]
    assert results["training_speakers"] == ["b", "c", "d"] and 0 <= results["validation_macro_f1"] <= 1
    log = [json.loads(line) for line in (part / "log.jsonl").read_text().splitlines()]
    assert all(0 <= entry["attribute_loss"] <= 2 for entry in log if "loss" in entry)
    config = AutoModel.from_pretrained(part / "checkpoint").config
    # Each of the two training speakers has 3 utterances of each class.
    assert config.class_weights == pytest.approx([1, 1, 1]) and list(config.attributes) == ["arousal", "valence"]
    assert "| valence | CCC " in (tmp_path / "run/results.md").read_text()
