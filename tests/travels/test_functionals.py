"""Functionals in the place of a speech tower: their numbers, what changes nothing, and a model of them."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny import perturb, seeded, tiny_processor

from lemer import LemerConfig, LemerModel
from lemer.functionals_lemer import FUNCTIONALS, LAGS, active_positions, log_mel_functionals
from lemer.log_mel_lemer import log_mel

FIELDS = {"modality": "speech", "use_label_embeddings": False, "speech_encoder": "functionals"}


def model_of_functionals() -> LemerModel:
    model = perturb(seeded(lambda: LemerModel(LemerConfig(**FIELDS))))
    model.speech_functionals.scale.abs_().add_(0.5)
    return model.eval()


def speech(samples: int, seed: int = 0) -> torch.Tensor:
    """Noise without an offset whose level and colour change over time, between silences."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples + 2, generator=generator).diff()
    time = torch.arange(samples) / 16_000
    return (noise[1:] + noise[:-1] * torch.sin(7 * time)) * torch.sin(5 * time).clamp(min=0.0)


def slow_functionals(values: np.ndarray) -> np.ndarray:
    """The functionals of one log-Mel (80, P), position by position."""
    energy = np.log(np.exp(values).sum(0))
    active = energy >= energy.max() - 4 * np.log(10)
    values = values - values[:, active].mean()
    groups = np.stack([values[4 * g : 4 * g + 4].mean(0) for g in range(20)])
    middle = [p for p in range(1, values.shape[1] - 1) if active[p - 1] and active[p + 1]]
    steps, group_steps = (np.stack([rows[:, p + 1] - rows[:, p - 1] for p in middle], 1) for rows in (values, groups))
    parts = [values[:, active].mean(1), np.sqrt(values[:, active].var(1) + 1e-5)]
    parts += [np.sqrt(steps.var(1) + 1e-5), np.abs(steps).mean(1)]
    for lag in LAGS:
        pairs = [p for p in range(lag, values.shape[1]) if active[p] and active[p - lag]]
        squares = [(groups[:, p] - groups[:, p - lag]) ** 2 for p in pairs] or [np.zeros(20)]
        parts.append(np.sqrt(np.mean(squares, 0) + 1e-5))
    for rows in (groups[:, active], group_steps):
        covariance = np.cov(rows, bias=True)
        parts.append([covariance[i, j] for i in range(20) for j in range(i, 20)])
    return np.concatenate(parts)


def test_equals_a_slow_loop():
    values = log_mel(speech(24_000)[None])
    functionals = log_mel_functionals(values, torch.tensor([values.shape[-1]]))[0].numpy()
    assert functionals.shape == (FUNCTIONALS,)
    np.testing.assert_allclose(functionals, slow_functionals(values[0].double().numpy()), atol=1e-3, rtol=1e-3)


def test_a_position_40_db_below_the_loudest_is_silence():
    values = torch.zeros(1, 80, 4)
    values[0, :, 1], values[0, :, 2], values[0, :, 3] = -3.9 * np.log(10), -4.1 * np.log(10), 5.0
    assert active_positions(values, torch.tensor([3])).tolist() == [[True, True, False, False]]  # the last is padding


def test_an_utterance_has_the_same_answer_alone_and_in_a_batch_padded_on_either_side():
    model, clips = model_of_functionals(), [speech(samples, samples) for samples in (16_000, 30, 5000, 23_456)]
    values, mask = torch.zeros(2, len(clips), 30_000)
    for row, clip in enumerate(clips):
        start = 30_000 - len(clip) if row % 2 else 0
        values[row, start : start + len(clip)], mask[row, start : start + len(clip)] = clip, 1.0
    with torch.no_grad():
        together = model(input_values=values, input_values_mask=mask).logits
        alone = torch.cat([model(input_values=clip[None]).logits for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gain", [0.03, 1.0, 2.0])
def test_silence_around_the_speech_and_its_level_change_nothing(gain):
    clip = speech(32_000).numpy()
    clip[:560] = clip[-560:] = 0.0  # so that no window has a part of the clip that it had not before
    padded = np.concatenate([np.zeros(16_000), gain * clip, np.zeros(24_000)]).astype(np.float32)
    described = []
    for audio in (clip, padded):
        values = log_mel(tiny_processor()(audio=[audio], return_tensors="pt")["input_values"])
        described.append(log_mel_functionals(values, torch.tensor([values.shape[-1]]))[0])
    torch.testing.assert_close(*described, atol=0.05, rtol=0.02)


def test_a_saved_model_answers_alike(tmp_path):
    model, values = model_of_functionals(), speech(9000)[None]
    model.save_pretrained(tmp_path)
    loaded = LemerModel.from_pretrained(tmp_path)
    assert loaded.speech_model is None and not loaded.damage and not loaded.untrained
    torch.testing.assert_close(loaded(input_values=values).logits, model(input_values=values).logits)


def test_a_new_model_is_neutral_and_untrained():
    model = LemerModel(LemerConfig(**FIELDS))
    functionals = model.speech_functionals
    assert functionals is not None and not functionals.mean.any() and (functionals.scale == 1).all()
    assert model.untrained == ["classifier"]


def test_the_loss_is_that_of_the_logits():
    model, labels = model_of_functionals(), torch.tensor([2, 0])
    out = model(input_values=torch.stack([speech(8000), speech(8000, 1)]), labels=labels)
    torch.testing.assert_close(out.loss, torch.nn.functional.cross_entropy(out.logits, labels))
    assert out.pooler_output.shape == (2, FUNCTIONALS)


@pytest.mark.parametrize("change", [{"modality": "multimodal"}, {"modality": "text"}, {"use_label_embeddings": True}])
def test_what_needs_frames_is_refused(change):
    with pytest.raises((ValueError, StrictDataclassError), match="functionals' has no frames"):
        LemerConfig(**{**FIELDS, **change})
