"""export.py: a checkpoint as ONNX answers as the checkpoint does."""

import json

import numpy as np
import pytest
import torch
from tiny import tiny_batch, tiny_cross_modal, tiny_model, tiny_processor

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from lemer import LemerConfig, LemerModel, export  # noqa: E402

MODELS = {
    "LE-MER": tiny_model,
    "LE-MER, rotary, layer norm, current tokens": lambda: tiny_model(
        fusion="sum",
        pooled_tokens="current",
        label_scale=5.0,
        speech={"feat_extract_norm": "layer", "position_embeddings_type": "rotary"},
    ),
    "text": lambda: tiny_model(modality="text"),
    "cross-modal": tiny_cross_modal,
}


def save(model, folder):
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", MODELS)
def test_the_file_answers_as_the_model_whatever_the_sizes(name, tmp_path, capsys):
    model = MODELS[name]()
    assert export.main([save(model, tmp_path / "checkpoint"), str(tmp_path / "out" / "model.onnx")]) == 0
    assert "largest difference" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    described = session.get_modelmeta().custom_metadata_map
    assert json.loads(described["labels"]) == list(model.config.id2label.values())
    outputs = [output.name for output in session.get_outputs()]
    for samples, tokens in (((20000,), (30,)), ((700, 12345, 5000, 401, 6000), (1, 2, 3, 4, 5))):
        batch = tiny_batch(samples, tokens, modality=model.config.modality)
        answers = session.run(None, {key: value.numpy() for key, value in batch.items()})
        with torch.no_grad():
            expected = model(**batch)
        for output, answer in zip(outputs, answers, strict=True):
            np.testing.assert_allclose(answer, expected[output].numpy(), rtol=1e-4, atol=1e-5, err_msg=output)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.onnx"]


def test_what_was_never_trained_is_refused(tmp_path, capsys):
    tiny = tiny_model()
    fresh = LemerModel(
        LemerConfig(**{name: getattr(tiny.config, name).to_dict() for name in ("speech_config", "text_config")})
    )
    assert export.main([save(fresh, tmp_path / "checkpoint"), str(tmp_path / "model.onnx")]) == 1
    assert "classifier" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_answers_otherwise_is_not_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").write_text("an older one")
    checkpoint = save(tiny_model(modality="text"), tmp_path / "checkpoint")
    assert export.main([checkpoint, str(tmp_path / "out" / "model.onnx")]) == 1
    assert "answers differ" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["an older one"]
