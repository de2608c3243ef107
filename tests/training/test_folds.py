"""The beginning of a fold: what a row needs from elsewhere, and what it says."""

import os

import datasets
import pytest
from safetensors.torch import load_file, save_file
from tiny import tiny_model, tiny_processor, tower_folders

from lemer import LemerProcessor
from lemer.training.fine_tuning import _load
from lemer.training.folds import prepare_model
from lemer.training.small_towers import make_tokenizer


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


def _edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    name = max(name for name in tensors if "encoder.layer" in name and tensors[name].is_floating_point())
    change(tensors, name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGE = {
    "a missing tensor": (lambda folder: _edit_tensors(folder, dict.pop), "is not whole.* its weights lack encoder.layer"),
    "NaN": (
        lambda folder: _edit_tensors(folder, lambda tensors, name: tensors[name].view(-1)[:1].fill_(float("nan"))),
        "is not whole.* NaN or infinity stands in encoder.layer",
    ),
    "a cut file": (
        lambda folder: os.truncate(folder / "model.safetensors", 1000),
        "cannot be opened: model.safetensors cannot be read",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
}
OF_TEXT = {
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer has only 5 tokens and .* knows 50"),
    "a cut tokenizer": (
        lambda folder: os.truncate(folder / "tokenizer.json", 1000),
        "cannot be opened: tokenizer.json cannot be read",
    ),
    "another tokenizer": (
        lambda folder: make_tokenizer(["only a few"]).save_pretrained(folder),
        "tokens and the model's text tower knows 50",
    ),
}
OF_SPEECH = {
    "no feature extractor": (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    "a cut feature extractor": (
        lambda folder: os.truncate(folder / "preprocessor_config.json", 20),
        "cannot be opened: preprocessor_config.json cannot be read",
    ),
}
KINDS = {f"text: {name}": case for name, case in {**DAMAGE, **OF_TEXT}.items()}
KINDS |= {f"speech: {name}": case for name, case in {**DAMAGE, **OF_SPEECH}.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_that_is_not_whole_is_refused_before_training(kind, tmp_path, rows):
    change, message = KINDS[kind]
    speech, text = tower_folders(tmp_path / "towers")
    change(tmp_path / "towers" / kind.partition(":")[0])
    settings = protocol(modality="multimodal", use_label_embeddings=False, fusion="cross")
    with pytest.raises((ValueError, OSError), match=message):
        prepare_model(settings, str(speech), str(text), rows, 0, tmp_path / "start", 2)
    assert not (tmp_path / "start").exists()
