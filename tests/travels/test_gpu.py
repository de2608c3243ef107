"""What holds on a CPU holds on a GPU: answers, gradients, padding, the scripts. `make test-gpu` runs them."""

import csv
import json
import warnings

import numpy as np
import pytest
import torch
from releases import write_release
from speech_towers import TOWERS as FAMILIES
from tiny import VARIANTS, alone, tiny_batch, tiny_cross_modal, tiny_model, tiny_variant, tower_folders
from transformers import set_seed

import lemer.predict
import lemer.pretrain
import lemer.train
from lemer import LemerModel
from lemer.benchmarks.speed import __main__ as speed
from lemer.benchmarks.speed.rows.gpu import capture
from lemer.benchmarks.speed.setup import write_recordings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and `make test-gpu`")

TOWERS = {
    "relative, layer norm": {"feat_extract_norm": "layer"},
    "rotary, group norm": {"feat_extract_norm": "group", "position_embeddings_type": "rotary"},
    "log-Mel": {
        "front_end": "log_mel",
        "mel_mask_bands": 0,
        "mel_mask_share": 0.0,
        "conv_dim": (80, 12, 8),
        "conv_kernel": (400, 3, 3),
        "conv_stride": (160, 2, 2),
        "feat_extract_norm": "layer",
    },
}


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    """By default cuDNN rounds what a float32 convolution reads to TF32's ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def on_gpu(batch: dict) -> dict:
    return {name: values.cuda() for name, values in batch.items()}


def assert_close(one: torch.Tensor, other: torch.Tensor, relative: float):
    one, other = one.float().cpu(), other.float().cpu()
    assert one.shape == other.shape
    assert (one - other).abs().max() <= relative * other.abs().max()


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_gradients_are_those_of_a_cpu(name):
    model, batch = tiny_variant(name, labels=True)
    model.train()
    answers = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        out = model(**{key: values.to(device) for key, values in batch.items()})
        out.loss.backward()
        gradients = {key: p.grad.cpu().clone() for key, p in model.named_parameters() if p.grad is not None}
        answers.append((out.logits.detach(), gradients))
    (logits, gradients), (gpu_logits, gpu_gradients) = answers
    assert_close(gpu_logits, logits, 1e-4)
    assert gpu_gradients.keys() == gradients.keys()
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for key, gradient in gradients.items():
        assert (gpu_gradients[key] - gradient).abs().max() <= 1e-4 * scale, key


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("tower", TOWERS)
def test_an_utterance_has_the_same_logits_alone_and_in_a_batch(tower, train):
    model, batch = tiny_model(speech=TOWERS[tower]).cuda().train(train), on_gpu(tiny_batch())
    with torch.no_grad():
        together = model(**batch).logits
        for row, logits in enumerate(together):
            assert_close(model(**alone(batch, row)).logits[0], logits, 2e-5)


@pytest.mark.parametrize("tower", TOWERS)
def test_with_convolutions_as_torch_runs_them_the_same_to_their_ten_bits(tower, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    model, batch = tiny_model(speech=TOWERS[tower]).cuda(), on_gpu(tiny_batch())
    with torch.no_grad():
        for row, logits in enumerate(model(**batch).logits):
            assert_close(model(**alone(batch, row)).logits[0], logits, 3e-3)


@pytest.mark.parametrize("tower", TOWERS)
def test_in_16_bits_answers_are_near_those_in_32(tower):
    model, batch = tiny_model(speech=TOWERS[tower]).cuda(), on_gpu(tiny_batch())
    with torch.no_grad():
        logits = model(**batch).logits
        with torch.autocast("cuda", torch.bfloat16):
            assert_close(model(**batch).logits, logits, 0.05)
        batch["input_values"] = batch["input_values"].bfloat16()
        assert_close(model.to(torch.bfloat16)(**batch).logits, logits, 0.05)


MASKING = {"mask_time_prob": 0.5, "mask_time_length": 2}


@pytest.mark.parametrize("name", ["conformer relative layer", "wav2vec2 group", "hubert group", "wavlm group"])
def test_spec_augment_masks_the_frames_that_it_masks_on_a_cpu(name):
    model = tiny_model(modality="speech", speech={**FAMILIES[name], **MASKING}).train()
    batch = {name: values for name, values in tiny_batch().items() if name.startswith("input_values")}
    answers = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        set_seed(0)
        model(**{key: values.to(device) for key, values in batch.items()}).logits.sum().backward()
        answers.append(model.speech_model.masked_spec_embed.grad.cpu().clone())
    assert answers[0].any()
    assert_close(answers[1], answers[0], 1e-4)


@pytest.mark.parametrize("masking, waits", [({"apply_spec_augment": False}, 1), (MASKING, 2)], ids=["plain", "masked"])
def test_a_step_waits_for_the_mask_of_the_text_and_for_spec_augment(masking, waits):
    """transformers reads of the mask of the tokens whether any is padded; SpecAugment needs the numbers of frames."""
    model, batch = tiny_model(speech={**TOWERS["relative, layer norm"], **masking}).cuda().train(), on_gpu(tiny_batch())

    def step():
        model(**batch, labels=torch.zeros(len(batch["input_ids"]), dtype=torch.long, device="cuda")).loss.backward()

    step()  # tables of positions
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = [f"{warning.filename}:{warning.lineno}" for warning in said if "synchroniz" in str(warning.message)]
    assert len(places) == waits, places


def test_a_step_that_was_recorded_as_a_graph_reads_the_batch_of_the_moment():
    model, batch = tiny_model(speech=TOWERS["relative, layer norm"]).cuda(), on_gpu(tiny_batch())
    labels = torch.zeros(len(batch["input_ids"]), dtype=torch.long, device="cuda")

    def step():
        loss = model(**batch, labels=labels).loss
        loss.backward()
        model.zero_grad()
        return loss.detach()

    replay = capture(step)
    before = replay().clone()
    assert_close(before, step(), 1e-5)
    batch["input_values"].mul_(-2.0)
    labels.fill_(1)
    assert_close(replay(), step(), 1e-5)
    assert not torch.equal(before, replay())


def test_rows_of_the_speed_table_that_need_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)  # minutes
    assert speed.main(["--rows", "m,n,o", "--size", "tiny", "--repeats", "1", "--output", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "speed-cuda.json").read_text())
    assert [row["row"] for row in written["rows"]] == ["m", "m", "n", "o", "o", "o"]


def test_the_cross_modal_model_answers_as_on_a_cpu():
    model, batch = tiny_cross_modal(), tiny_batch()
    with torch.no_grad():
        logits = model(**batch).logits
        assert_close(model.cuda()(**on_gpu(batch)).logits, logits, 1e-4)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    corpus = write_release(folder / "release", sessions=2, dialogs_per_session=4)
    speech, text = tower_folders(folder)
    options = {"data_dir": corpus, "cache_dir": folder / "cache", "speech_model": speech, "text_model": text}
    options |= {"batch_size": 4, "epochs": 2, "warmup_steps": 2, "speech_lr": 1e-3, "text_lr": 1e-3}
    options |= {"validation_share": 0.3, "codes": 5, "words": 3, "folds": 2, "mixed_precision": "bf16"}
    return [str(part) for name, value in options.items() for part in (f"--{name}", value)]


def test_a_training_in_16_bits_leaves_a_checkpoint_that_a_cpu_opens(arguments, tmp_path):
    """With its second stage, and with processes that load audio."""
    output = tmp_path / "run"
    assert lemer.train.main([*arguments, "--output_dir", str(output), "--num_workers", "2"]) == 0
    part = output / "fold2/seed0"
    lines = [json.loads(line) for line in (part / "log.jsonl").read_text().splitlines()]
    assert np.isfinite([line["loss"] for line in lines if "loss" in line]).all()
    model = LemerModel.from_pretrained(part / "checkpoint")
    assert model.device.type == "cpu" and model.dtype == torch.float32 and not model.untrained


def test_predictions_are_those_of_a_cpu(arguments, tmp_path):
    output = tmp_path / "run"
    assert lemer.train.main([*arguments, "--output_dir", str(output), "--second_stage", "none"]) == 0
    rows = write_recordings(tmp_path / "recordings", [1.0, 0.4, 2.0])
    with open(tmp_path / "utterances.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["audio", "text"])
        writer.writeheader()
        writer.writerows({name: row[name] for name in ("audio", "text")} for row in rows)
    scores = []
    for device in ("cpu", "cuda"):
        answers = tmp_path / f"{device}.csv"
        command = [str(output / "fold2/seed0/checkpoint"), str(tmp_path / "utterances.csv"), "--output", str(answers)]
        assert lemer.predict.main([*command, "--device", device]) == 0
        with open(answers, newline="") as file:
            scores.append([[float(row[label]) for label in ("ang", "hap", "neu", "sad")] for row in csv.DictReader(file)])
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-4)
