"""The beginning of a fold: what a row needs from elsewhere, and what it says."""

import datasets
import pytest
from tiny import tiny_model, tiny_processor, tower_folders

from lemer import LemerProcessor
from lemer.training.fine_tuning import _load
from lemer.training.folds import prepare_model


def protocol(**config) -> dict:
    labels = {"semantic_labels": "key_words", "tonal_labels": "key_frames", "words": 3, "codes": 3}
    targets = {"class_weights": ["none"], "attributes": []}
    return {"model": "lemer", "config": {"modality": "speech", **config}, "processor": {}, **labels, **targets}


@pytest.fixture(scope="module")
def rows():
    names = datasets.ClassLabel(names=["ang", "hap", "neu", "sad"])
    columns = {"text": ["hello"] * 4, "label": [0, 1, 2, 3]}
    return datasets.Dataset.from_dict(
        columns, features=datasets.Features({"text": datasets.Value("string"), "label": names})
    )


def test_a_row_of_speech_alone_asks_for_no_text_tower(tmp_path, rows):
    speech, _ = tower_folders(tmp_path / "towers")
    prepare_model(protocol(use_label_embeddings=False), str(speech), "nobody/no-such-bert", rows, 0, tmp_path / "start", 2)
    assert LemerProcessor.from_pretrained(tmp_path / "start").max_history == 10


def test_a_text_tower_that_is_needed_and_out_of_reach_is_named(tmp_path, rows):
    speech, _ = tower_folders(tmp_path / "towers")
    with pytest.raises(OSError, match="nobody/no-such-bert is no folder"):
        prepare_model(
            protocol(speech_label_space="semantic"), str(speech), "nobody/no-such-bert", rows, 0, tmp_path / "start", 2
        )


def test_a_training_does_not_say_that_its_start_is_not_trained(tmp_path, caplog):
    model = tiny_model()
    model.forget_labels()
    model.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    assert "classifier" in _load(tmp_path, {"model": "lemer"}).untrained
    assert not caplog.text
