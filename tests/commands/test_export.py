"""export.py: a checkpoint as ONNX answers as the checkpoint does."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import tiny_batch, tiny_cross_modal, tiny_model, tiny_processor

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from lemer import LemerConfig, LemerModel, LemerPipeline, export, predict  # noqa: E402
from lemer.prediction.onnx_model import OnnxModel  # noqa: E402

ONE_LAYER = {"num_hidden_layers": 1}
# A conversion takes long, so each model has several things that the others have not, and none is converted twice.
MODELS = {
    "functionals": lambda: tiny_model(
        LemerConfig(modality="speech", use_label_embeddings=False, speech_encoder="functionals")
    ),
    "cross-modal, rotary, layer norm": lambda: tiny_cross_modal(
        speech={"feat_extract_norm": "layer", "position_embeddings_type": "rotary", **ONE_LAYER}, text=ONE_LAYER
    ),
}


def save(model, folder):
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


def text_model():
    """A text model in which the weights are more than the rest of its file, so that rounding them makes it smaller."""
    return tiny_model(modality="text", text={"intermediate_size": 512, **ONE_LAYER})


@pytest.fixture(scope="module")
def text_program():
    """The text model, converted."""
    model = text_model()
    model.set_attn_implementation("eager")
    return export.to_onnx(model, tiny_processor(), ["logits", "text_label_logits"], 1)


@pytest.fixture(scope="module")
def multimodal(tmp_path_factory):
    """A model with branch classifiers, its processor, and the folder of its ONNX file. A_r + A_l has the way of A_r too."""
    folder = tmp_path_factory.mktemp("onnx")
    settings = {"fusion": "sum", "pooled_tokens": "current", "branch_loss_weight": 0.5, "temperatures": {"speech": 0.5}}
    model, processor = tiny_model(**settings, speech=ONE_LAYER, text=ONE_LAYER), tiny_processor()
    export.export(model, processor, folder / "model.onnx")
    model.set_attn_implementation("sdpa")
    return model, processor, folder


def assert_the_file_answers_as(model, path: Path) -> None:
    """The outputs of an ONNX file are the model's for one utterance and for several, whatever their lengths."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
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


def test_the_file_of_both_modalities_answers_as_the_model_whatever_the_sizes(multimodal):
    model, _, folder = multimodal
    assert_the_file_answers_as(model, folder / "model.onnx")


def test_the_file_of_words_answers_as_the_model_whatever_the_sizes(tmp_path, monkeypatch, text_program):
    monkeypatch.setattr(export, "to_onnx", lambda *arguments: text_program)
    model = text_model()
    export.export(model, tiny_processor(), tmp_path / "model.onnx")
    assert_the_file_answers_as(model, tmp_path / "model.onnx")


@pytest.mark.parametrize("name", MODELS)
def test_the_file_answers_as_the_model_whatever_the_sizes(name, tmp_path, capsys):
    model = MODELS[name]()
    assert export.main([save(model, tmp_path / "checkpoint"), str(tmp_path / "out" / "model.onnx")]) == 0
    assert "largest difference" in capsys.readouterr().out
    assert_the_file_answers_as(model, tmp_path / "out" / "model.onnx")
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
    checkpoint = save(text_model(), tmp_path / "checkpoint")
    assert export.main([checkpoint, str(tmp_path / "out" / "model.onnx")]) == 1
    assert "answers differ" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "out").glob("[!.]*")] == ["an older one"]


def test_a_text_tower_without_token_types_is_given_none(tmp_path):
    roberta = {"model_type": "roberta", "type_vocab_size": 1, "max_position_embeddings": 170, **ONE_LAYER}
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

    model = text_model()
    with monkeypatch.context() as patch:
        patch.setattr(export.os, "replace", stop_at_the_model)
        with pytest.raises(OSError, match="killed"):
            export.export(model, tiny_processor(), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    export.export(model, tiny_processor(), tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])


CLIP = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)


def test_the_file_alone_answers_in_the_pipeline_as_the_checkpoint(multimodal):
    """Also from one modality, and from a recording shorter than a frame."""
    model, processor, folder = multimodal
    file = OnnxModel(folder / "model.onnx")
    pipes = LemerPipeline(file, file.processor, device="cpu"), LemerPipeline(model, processor, device="cpu")
    audio, short = ({"array": samples, "sampling_rate": 16_000} for samples in (CLIP, CLIP[:50]))
    for given in ({"audio": audio, "text": "you are late", "history": ["hello"]}, audio, {"text": "we won"}, short):
        answer, expected = ({one["label"]: (one["score"], one["modality"]) for one in pipe(given)} for pipe in pipes)
        assert answer.keys() == expected.keys()
        for label, (score, modality) in expected.items():
            assert answer[label] == (pytest.approx(score, abs=1e-5), modality)
    both = [{"audio": audio, "text": "hello"}, {"audio": short, "text": "you are so late"}]
    for one, other in zip(pipes[0](both, batch_size=2), pipes[1](both, batch_size=2), strict=True):
        assert {x["label"]: x["score"] for x in one} == pytest.approx({x["label"]: x["score"] for x in other}, abs=1e-5)


def test_predict_answers_with_the_file_as_with_the_checkpoint(multimodal, tmp_path, monkeypatch):
    model, processor, folder = multimodal
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("checkpoint")
    processor.save_pretrained("checkpoint")
    soundfile.write("clip.wav", CLIP, 16_000)
    rows = []
    for name in ("checkpoint", str(folder / "model.onnx")):
        output = f"{Path(name).stem}.jsonl"
        assert predict.main([name, "clip.wav", "--output", output, "--device", "cpu"]) == 0
        rows += map(json.loads, Path(output).read_text().splitlines())
    assert rows[0]["scores"] == pytest.approx(rows[1]["scores"], abs=1e-4)
    assert {**rows[0], "scores": 0, "checkpoint": 0} == {**rows[1], "scores": 0, "checkpoint": 0}


def test_a_batch_of_the_processor_goes_in_as_it_is_and_nothing_names_this_machine(multimodal):
    model, processor, folder = multimodal
    batch = processor(audio=CLIP, text="you are late", sampling_rate=16_000, return_tensors="np")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits
    np.testing.assert_allclose(session.run(["logits"], dict(batch))[0], expected, rtol=1e-4, atol=1e-5)
    content = (folder / "model.onnx").read_bytes()
    assert str(Path(export.__file__).parent.resolve()).encode() not in content and b"site-packages" not in content


def test_rounded_weights_answer_nearly_the_same_from_a_smaller_file(tmp_path, monkeypatch, text_program):
    monkeypatch.setattr(export, "to_onnx", lambda *arguments: text_program)
    model, processor, sizes = text_model(), tiny_processor(), []
    for name, int8 in (("plain.onnx", False), ("int8.onnx", True)):
        export.export(model, processor, tmp_path / name, int8)
        sizes.append((tmp_path / name).stat().st_size)
    batch = {name: values.numpy() for name, values in tiny_batch(modality="text").items()}
    plain, rounded = (
        onnxruntime.InferenceSession(tmp_path / name).run(["logits"], batch)[0] for name in ("plain.onnx", "int8.onnx")
    )
    assert 0 < np.abs(plain - rounded).max() < 0.1 * np.abs(plain).max() and sizes[1] < 0.7 * sizes[0]


def test_what_is_no_file_of_ours_is_refused_by_name(tmp_path):
    (tmp_path / "broken.onnx").write_text("no graph")
    with pytest.raises(ValueError, match="broken.onnx cannot be opened as an ONNX file"):
        OnnxModel(tmp_path / "broken.onnx")


def test_the_example_without_torch_answers_as_the_checkpoint(multimodal, tmp_path, capsys, monkeypatch):
    model, processor, folder = multimodal
    soundfile.write(tmp_path / "clip.wav", CLIP, 16_000, subtype="FLOAT")
    arguments = ["example", folder / "model.onnx", tmp_path / "clip.wav", "you are late"]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    runpy.run_path(str(Path(export.__file__).parent / "examples" / "onnx_without_torch.py"))
    with torch.no_grad():
        batch = processor(audio=CLIP, text="you are late", sampling_rate=16_000, return_tensors="pt")
        expected = model(**batch).logits.softmax(-1)[0].tolist()
    assert list(json.loads(capsys.readouterr().out).values()) == pytest.approx(expected, abs=2e-4)
