"""A saved checkpoint opens with transformers alone, in a process that has never heard of lemer, and again from there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from strangers import run_stranger
from tiny import tiny_batch, tiny_model, tiny_processor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

import lemer

MODALITIES = ("multimodal", "speech", "text")
MODEL_CLASSES = ("AutoModel", "AutoModelForAudioClassification", "AutoModelForSequenceClassification")
INPUTS = {"text": "you won the day", "history": ["i hate this", "hello"], "sampling_rate": 16_000}
CLIP = np.sin(np.arange(2000, dtype=np.float32))
WORDS = {"ang": ["hate"], "hap": ["great"], "neu": ["table"], "sad": ["late"]}

STRANGER = """
import json, sys
from pathlib import Path

sys.modules["lemer"] = None  # an import of the package would raise

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

folder, again = map(Path, sys.argv[1:])
facts = {}
for modality in ("multimodal", "speech", "text"):
    here = folder / modality
    batch = load_file(folder / f"{modality}_batch.safetensors")
    saved = load_file(here / "model.safetensors")
    config = transformers.AutoConfig.from_pretrained(here, trust_remote_code=True)
    processor = transformers.AutoProcessor.from_pretrained(here, trust_remote_code=True)
    inputs = json.loads((folder / "inputs.json").read_text())
    processed = processor(audio=np.sin(np.arange(2000, dtype=np.float32)), **inputs)
    facts[modality] = {
        "config": type(config).__name__,
        "fields": [config.model_type, config.modality, config.label_words],
        "processor": [type(processor).__name__, processor.max_history, processor.max_text_length],
        "processed": {name: np.asarray(value).tolist() for name, value in processed.items()},
        "models": {},
    }
    for name in ("AutoModel", "AutoModelForAudioClassification", "AutoModelForSequenceClassification"):
        model = getattr(transformers, name).from_pretrained(here, trust_remote_code=True)
        tensors = model.state_dict()
        with torch.no_grad():
            out = model(**batch)
        facts[modality]["models"][name] = {
            "module": type(model).__module__.split(".")[0],
            "same": tensors.keys() == saved.keys() and all(torch.equal(tensors[key], saved[key]) for key in saved),
            "eval": not model.training,
            "logits": out.logits.tolist(),
            "loss": out.loss.item(),
        }
    model.save_pretrained(again / modality)
    processor.save_pretrained(again / modality)
print(json.dumps(facts))
"""


def write_checkpoints(folder: Path) -> dict:
    """One checkpoint a modality, a batch of inputs beside each; returns the expected outputs."""
    expected = {}
    (folder / "inputs.json").write_text(json.dumps(INPUTS))
    for modality in MODALITIES:
        model = tiny_model(modality=modality, label_words=WORDS)
        model.save_pretrained(folder / modality)
        tiny_processor(max_history=3, max_text_length=9).save_pretrained(folder / modality)
        batch = tiny_batch(modality=modality, labels=True)
        save_file(batch, folder / f"{modality}_batch.safetensors")
        expected[modality] = model(**batch)
    return expected


def open_all(folder: Path, again: Path, in_fresh_process: bool) -> dict:
    """What a process that knows transformers alone reads in `folder`. It saves what it opened in `again`."""
    again.mkdir()
    for file in folder.glob("*.*"):
        (again / file.name).write_bytes(file.read_bytes())
    elsewhere = again / "elsewhere"
    elsewhere.mkdir()
    if in_fresh_process:
        done = subprocess.run(
            [sys.executable, "-I", "-c", STRANGER, folder, again],
            cwd=elsewhere,
            env={**os.environ, "HF_HOME": str(again / "home"), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
    else:
        done = run_stranger(STRANGER, [folder, again], elsewhere)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("remote") / "first"
    folder.mkdir()
    return folder, write_checkpoints(folder)


@pytest.fixture(scope="module")
def found_first(checkpoints):
    """What a stranger found in the checkpoints as they were saved, and the folder in which it saved them again."""
    second = checkpoints[0].with_name("second")
    return open_all(checkpoints[0], second, in_fresh_process=True), second


@pytest.fixture(scope="module", params=["saved here", "saved again there"])
def opened(request, checkpoints, found_first):
    """A folder of checkpoints, what a stranger found in it, and the outputs of the models that were saved."""
    first, expected = checkpoints
    facts, second = found_first
    if request.param == "saved here":
        return first, facts, expected
    return second, open_all(second, first.with_name("third"), in_fresh_process=False), expected


@pytest.mark.parametrize("modality", MODALITIES)
def test_auto_config_finds_every_field(opened, modality):
    facts = opened[1][modality]
    assert (facts["config"], facts["fields"]) == ("LemerConfig", ["lemer", modality, WORDS])


@pytest.mark.parametrize("name", MODEL_CLASSES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_every_tensor_is_equal_to_the_bit(opened, modality, name):
    assert opened[1][modality]["models"][name]["same"]


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_tensor_in_the_file_is_the_saved_models(opened, checkpoints, modality):
    one, other = (load_file(folder / modality / "model.safetensors") for folder in (opened[0], checkpoints[0]))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", MODEL_CLASSES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_logits_and_loss_are_the_saved_models(opened, modality, name):
    facts, expected = opened[1][modality]["models"][name], opened[2][modality]
    torch.testing.assert_close(torch.tensor(facts["logits"]), expected.logits, rtol=0, atol=1e-6)
    assert facts["loss"] == pytest.approx(expected.loss.item(), abs=1e-6)


@pytest.mark.parametrize("name", MODEL_CLASSES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_the_code_is_the_checkpoints_own(opened, modality, name):
    assert opened[1][modality]["models"][name]["module"] == "transformers_modules"


@pytest.mark.parametrize("name", MODEL_CLASSES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_loaded_model_is_in_evaluation_mode(opened, modality, name):
    assert opened[1][modality]["models"][name]["eval"]


@pytest.mark.parametrize("modality", MODALITIES)
def test_auto_processor_keeps_its_settings(opened, modality):
    assert opened[1][modality]["processor"] == ["LemerProcessor", 3, 9]


def test_auto_processor_processes_alike(opened):
    own = tiny_processor(max_history=3, max_text_length=9)(audio=CLIP, **INPUTS)
    got = opened[1]["multimodal"]["processed"]
    assert got.keys() == own.keys()
    for name, values in own.items():
        np.testing.assert_allclose(got[name], values, atol=1e-6)


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("modality", MODALITIES)
def test_no_folder_of_the_machine_is_published(opened, modality, file):
    text = (opened[0] / modality / file).read_text()
    places = (opened[0].parent, Path(sys.prefix), Path(lemer.__file__).parent)
    assert not [place for place in places if str(place) in text]


@pytest.mark.parametrize("modality", MODALITIES)
def test_all_files_of_code_are_beside_the_weights(opened, modality):
    names = {path.name for path in (opened[0] / modality).glob("*.py")}
    assert names >= {"configuration_lemer.py", "modeling_lemer.py", "processing_lemer.py", "speech_encoder_lemer.py"}


# -------------------------------------------------------------------------- with the package, without remote code


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForAudioClassification, AutoModelForSequenceClassification])
def test_with_the_package_a_model_opens_without_remote_code(checkpoints, auto):
    assert type(auto.from_pretrained(checkpoints[0] / "multimodal")) is lemer.LemerModel


def test_with_the_package_a_config_opens_without_remote_code(checkpoints):
    assert type(AutoConfig.from_pretrained(checkpoints[0] / "text")) is lemer.LemerConfig


def test_with_the_package_a_processor_opens_without_remote_code(checkpoints):
    assert type(AutoProcessor.from_pretrained(checkpoints[0] / "speech")) is lemer.LemerProcessor


def test_with_the_package_its_own_classes_win_over_remote_code(checkpoints):
    model = AutoModel.from_pretrained(checkpoints[0] / "speech", trust_remote_code=True)
    assert type(model) is lemer.LemerModel


def test_a_name_that_the_package_lacks_is_refused_with_those_it_has():
    with pytest.raises(AttributeError, match="no attribute 'LemerPipline'.*LemerModel"):
        lemer.LemerPipline  # noqa: B018


@pytest.mark.parametrize("name", ["LemerConfig", "LemerModel", "LemerOutput", "LemerProcessor"])
def test_public_names_are_listed(name):
    assert name in lemer.__all__ and name in dir(lemer)
