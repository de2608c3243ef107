"""A saved CrossModalModel opens with transformers alone, in a process that has never heard of the package."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from strangers import run_stranger
from tiny import tiny_batch, tiny_cross_modal, tiny_processor
from transformers import AutoConfig, AutoProcessor

from lemer import CrossModalConfig, LemerProcessor

MODALITIES = ("multimodal", "speech", "text")
INPUTS = {"text": "you won the day", "history": ["i hate this", "hello"], "sampling_rate": 16_000}
STRANGER = """
import json, sys
from pathlib import Path

sys.modules["lemer"] = None  # an import of the package would raise

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

folder = Path(sys.argv[1])
facts = {}
for modality in ("multimodal", "speech", "text"):
    here = folder / modality
    batch = load_file(folder / f"{modality}.safetensors")
    saved = load_file(here / "model.safetensors")
    processor = transformers.AutoProcessor.from_pretrained(here, trust_remote_code=True)
    inputs = processor(audio=np.sin(np.arange(2000, dtype=np.float32)), return_tensors="pt", **json.loads(sys.argv[2]))
    facts[modality] = {"processor": [type(processor).__name__, processor.max_history], "models": []}
    for name in ("AutoModel", "AutoModelForAudioClassification", "AutoModelForSequenceClassification"):
        model = getattr(transformers, name).from_pretrained(here, trust_remote_code=True)
        tensors = model.state_dict()
        with torch.no_grad():
            out = model(**batch)
        facts[modality]["models"].append({
            "class": [type(model).__module__.split(".")[0], type(model).__name__, type(model.config).__name__],
            "same": tensors.keys() == saved.keys() and all(torch.equal(tensors[key], saved[key]) for key in saved),
            "logits": out.logits.tolist(),
        })
    if modality == "multimodal":
        facts["processed"] = model(**inputs).logits.tolist()
    model.save_pretrained(folder / "again" / modality)
    facts[modality]["again"] = sorted(path.name for path in (folder / "again" / modality).glob("*.py"))
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What a process that has never heard of the package found in saved checkpoints, and their models."""
    folder = tmp_path_factory.mktemp("remote")
    models = {}
    for modality in MODALITIES:
        models[modality] = tiny_cross_modal(modality=modality)
        models[modality].save_pretrained(folder / modality)
        tiny_processor(max_history=3).save_pretrained(folder / modality)
        save_file(tiny_batch(modality=modality), folder / f"{modality}.safetensors")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    done = run_stranger(STRANGER, [folder, json.dumps(INPUTS)], elsewhere)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads(done.stdout.splitlines()[-1]), models


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_stranger_opens_a_checkpoint_through_every_auto_class(opened, modality):
    folder, facts, models = opened
    expected = models[modality](**load_file(folder / f"{modality}.safetensors")).logits
    for found in facts[modality]["models"]:
        assert found["class"] == ["transformers_modules", "CrossModalModel", "CrossModalConfig"] and found["same"]
        torch.testing.assert_close(torch.tensor(found["logits"]), expected, rtol=0, atol=1e-6)
    assert facts[modality]["processor"] == ["LemerProcessor", 3]


def test_a_strangers_processor_feeds_its_model(opened):
    _, facts, models = opened
    inputs = tiny_processor(max_history=3)(audio=np.sin(np.arange(2000, dtype=np.float32)), return_tensors="pt", **INPUTS)
    torch.testing.assert_close(torch.tensor(facts["processed"]), models["multimodal"](**inputs).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_all_files_of_the_models_code_are_beside_the_weights_and_again_when_saved_there(opened, modality):
    folder, facts, _ = opened
    names = {path.name for path in (folder / modality).glob("*.py")}
    own = {
        f"{stem}.py" for stem in ("configuration_cross_modal", "modeling_cross_modal", "configuration_lemer", "towers_lemer")
    }
    assert names >= own | {"processing_lemer.py", "speech_encoder_lemer.py"} and set(facts[modality]["again"]) >= own


def test_no_folder_of_the_machine_is_published(opened):
    text = "".join((opened[0] / "multimodal" / f"{name}.json").read_text() for name in ("config", "processor_config"))
    assert str(opened[0].parent) not in text and sys.prefix not in text


def test_with_the_package_config_and_processor_open_without_remote_code(opened):
    folder = opened[0] / "text"
    assert type(AutoConfig.from_pretrained(folder)) is CrossModalConfig
    assert type(AutoProcessor.from_pretrained(folder)) is LemerProcessor
