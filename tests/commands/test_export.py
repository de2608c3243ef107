"""export.py: a checkpoint as ONNX answers as the checkpoint does."""

import json

import numpy as np
import pytest
import torch
from tiny import tiny_batch, tiny_cross_modal, tiny_model, tiny_processor

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from lemer import LemerConfig, LemerModel, export  # noqa: E402

# A conversion takes long, so each of these has several things that the others have not. A_r + A_l has the way of A_r too.
MODELS = {
    "LE-MER, A_r + A_l, current tokens": lambda: tiny_model(fusion="sum", pooled_tokens="current"),
    "text": lambda: tiny_model(modality="text"),
    "functionals": lambda: tiny_model(
        LemerConfig(modality="speech", use_label_embeddings=False, speech_encoder="functionals")
    ),
    "cross-modal, rotary, layer norm": lambda: tiny_cross_modal(
        speech={"feat_extract_norm": "layer", "position_embeddings_type": "rotary"}
    ),
}


def save(model, folder):
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def text_program():
    """The text model, converted."""
    model = tiny_model(modality="text")
    model.set_attn_implementation("eager")
    return export.to_onnx(model, tiny_processor(), ["logits", "text_label_logits"], 1)


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
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["model.onnx"]


def test_what_was_never_trained_is_refused(tmp_path, capsys):
    tiny = tiny_model()
    fresh = LemerModel(
        LemerConfig(**{name: getattr(tiny.config, name).to_dict() for name in ("speech_config", "text_config")})
    )
    assert export.main([save(fresh, tmp_path / "checkpoint"), str(tmp_path / "model.onnx")]) == 1
    assert "classifier" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_answers_otherwise_is_not_left(tmp_path, capsys, monkeypatch, text_program):
    monkeypatch.setattr(export, "to_onnx", lambda *arguments: text_program)
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").write_text("an older one")
    checkpoint = save(tiny_model(modality="text"), tmp_path / "checkpoint")
    assert export.main([checkpoint, str(tmp_path / "out" / "model.onnx")]) == 1
    assert "answers differ" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "out").glob("[!.]*")] == ["an older one"]


def test_a_text_tower_without_token_types_is_given_none(tmp_path):
    roberta = {"model_type": "roberta", "type_vocab_size": 1, "max_position_embeddings": 170}
    processor = tiny_processor()
    processor.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    worst = export.export(tiny_model(modality="text", text=roberta), processor, tmp_path / "model.onnx")
    assert max(worst.values()) < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [taken.name for taken in session.get_inputs()] == ["input_ids", "attention_mask"]


def test_weights_beside_the_file_come_before_it(tmp_path, monkeypatch, text_program):
    """As above 2 GB: a kill between the two files leaves no older model over newer weights."""
    monkeypatch.setattr(export, "to_onnx", lambda *arguments: text_program)
    save_all = torch.onnx.ONNXProgram.save
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", lambda self, path: save_all(self, path, external_data=True))
    (tmp_path / "model.onnx").write_text("an older one")
    replace = export.os.replace

    def stop_at_the_model(source, target):
        if target == tmp_path / "model.onnx":
            raise OSError("killed")
        replace(source, target)

    model = tiny_model(modality="text")
    with monkeypatch.context() as patch:
        patch.setattr(export.os, "replace", stop_at_the_model)
        with pytest.raises(OSError, match="killed"):
            export.export(model, tiny_processor(), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    export.export(model, tiny_processor(), tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
