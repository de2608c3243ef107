"""The log-Mel front end: its numbers, its normalisation, SpecAugment, and that all around it stays as with the waveform."""

import logging

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny import perturb, seeded, tiny_config, tiny_model
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForPreTraining

from lemer import LemerModel
from lemer.labels_lemer import frame_codes
from lemer.log_mel_lemer import LogMelLayer, log_mel
from lemer.speech_encoder_lemer import receptive_field
from lemer.training.small_towers import make_small_speech_tower

LOG_MEL = {
    "front_end": "log_mel",
    "mel_mask_bands": 27,
    "mel_mask_share": 0.3,
    "conv_dim": (80, 12, 8),
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 2, 2),
    "feat_extract_norm": "layer",
}


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def layer_of(model) -> LogMelLayer:
    return model.speech_model.feature_extractor.conv_layers[0]


# ------------------------------------------------------------------------------------------------------- the numbers


def slaney(mel: float) -> float:
    """Hz of a Mel on Slaney's scale: linear below 1 kHz, 15 to the first, logarithmic above."""
    return 200 / 3 * mel if mel < 15 else 1000.0 * 6.4 ** ((mel - 15) / 27)


def slow_log_mel(samples: np.ndarray) -> np.ndarray:
    """(80, P), one window and one band at a time."""
    top = 15 + 27 * np.log(8000 / 1000) / np.log(6.4)
    edges = [slaney(top * i / 81) for i in range(82)]
    bins = np.arange(257) * 16_000 / 512
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    rows = []
    for start in range(0, len(samples) - 399, 160):
        power = np.abs(np.fft.rfft(samples[start : start + 400] * window, 512)) ** 2
        row = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            triangle = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
            row.append(np.log(max(sum(power * np.maximum(triangle, 0)), 1e-5)))
        rows.append(row)
    return np.array(rows).T


def test_equals_a_slow_loop_with_filters_made_by_hand():
    samples = noise(2000)
    samples[900:1500] = 0.0  # the floor too
    np.testing.assert_allclose(log_mel(samples[None])[0].numpy(), slow_log_mel(samples.double().numpy()), atol=2e-4)


@pytest.mark.parametrize(("samples", "positions"), [(400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_windows_of_25_ms_every_10_ms_have_80_bands(samples, positions):
    assert log_mel(noise(samples)[None]).shape == (1, 80, positions)


def test_a_click_is_in_the_windows_that_hold_it():
    samples = torch.zeros(1, 4000)
    samples[0, 1000] = 1.0  # windows from 640, 800 and 960 hold it; at the start of a window the Hann weight is 0
    loud = (log_mel(samples)[0] > np.log(2e-5)).any(0).nonzero().flatten()
    assert loud.tolist() == [4, 5, 6]


@pytest.mark.parametrize("hertz", [100, 440, 1000, 3000, 7000])
def test_a_tone_is_loudest_in_its_band(hertz):
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(4000) / 16_000)
    top = 15 + 27 * np.log(8) / np.log(6.4)
    nearest = np.argmin([abs(slaney(top * (band + 1) / 81) - hertz) for band in range(80)])
    assert (log_mel(tone[None])[0].mean(-1).argmax() - nearest).abs() <= 1


def test_every_band_hears_white_noise():
    assert log_mel(noise(16_000)[None]).min() > -3


# ------------------------------------------------------------------------------------- normalisation and SpecAugment


def test_bands_have_mean_0_and_variance_1_over_the_real_positions():
    layer = layer_of(tiny_model(modality="speech", speech=LOG_MEL))
    lengths = torch.tensor([48, 30])
    values = layer(torch.stack([noise(8000), noise(8000, 1)]), lengths)
    for row, length in zip(values, lengths, strict=True):
        assert row[:, :length].mean(-1).abs().max() < 1e-5
        assert (row[:, :length].var(-1, correction=0) - 1).abs().max() < 1e-3
        assert not row[:, length:].any()


def test_over_the_utterance_all_values_share_one_mean_and_variance():
    layer = layer_of(tiny_model(modality="speech", speech={**LOG_MEL, "mel_normalization": "utterance"}))
    samples, lengths = torch.stack([noise(8000), noise(8000, 1)]), torch.tensor([48, 30])
    for row, plain, length in zip(layer(samples, lengths), log_mel(samples), lengths, strict=True):
        real = plain[:, :length]
        expected = (real - real.mean()) / (real.var(correction=0) + 1e-5).sqrt()  # the tilt over the bands stays
        torch.testing.assert_close(row[:, :length], expected, atol=1e-4, rtol=1e-4)
        assert not row[:, length:].any()


def test_without_normalisation_the_logarithms_stay():
    layer = layer_of(tiny_model(modality="speech", speech={**LOG_MEL, "mel_normalization": "none"}))
    samples = noise(8000)[None]
    assert torch.equal(layer(samples, torch.tensor([30]))[..., :30], log_mel(samples)[..., :30])
    assert not layer(samples, torch.tensor([30]))[..., 30:].any()


def test_a_checkpoint_without_the_field_normalises_each_band():
    samples = noise(8000)[None]
    old, band = (
        layer_of(tiny_model(modality="speech", speech={**LOG_MEL, **field})) for field in ({}, {"mel_normalization": "band"})
    )
    assert torch.equal(old(samples), band(samples))


def test_gain_changes_nothing():
    layer = layer_of(tiny_model(modality="speech", speech=LOG_MEL))
    torch.testing.assert_close(layer(4 * noise(8000)[None]), layer(noise(8000)[None]), atol=1e-4, rtol=1e-4)


def test_silence_is_finite():
    model = tiny_model(modality="speech", speech=LOG_MEL)
    assert model(input_values=torch.zeros(1, 4000)).logits.isfinite().all()


@pytest.mark.parametrize("normalization", ["utterance", "band"])
def test_zeros_have_the_same_answer_alone_and_in_any_batch(normalization):
    model = tiny_model(modality="speech", speech={**LOG_MEL, "mel_normalization": normalization})
    zeros = [torch.zeros(length) for length in (4000, 9000, 14_321)]
    with torch.no_grad():
        alone = [model(input_values=clip[None]).logits[0] for clip in zeros]
        batch = torch.nn.utils.rnn.pad_sequence([*zeros, noise(16_000)], batch_first=True)
        mask = torch.arange(16_000) < torch.tensor([4000, 9000, 14_321, 16_000])[:, None]
        together = model(input_values=batch, input_values_mask=mask.long()).logits
    torch.testing.assert_close(together[:3], torch.stack(alone), atol=1e-5, rtol=0)
    assert not layer_of(model)(zeros[2][None]).any()


def hidden_by_spec_augment(seed: int = 0, **changes) -> tuple[torch.Tensor, torch.Tensor]:
    """Where training hides a band (B, 80) and a real position (B, P) that evaluation shows; the rest must be equal."""
    layer = layer_of(tiny_model(modality="speech", speech={**LOG_MEL, **changes}))
    samples, lengths = torch.stack([noise(16_000, i) for i in range(8)]), torch.tensor([98, 60] * 4)
    shown = layer(samples, lengths)
    layer.train()
    torch.manual_seed(seed)
    values = layer(samples, lengths)
    differs = values != shown
    assert not values[differs].any()
    real = torch.arange(98) < lengths[:, None]
    bands = (differs | ~real[:, None]).all(-1)
    return bands, (differs | bands[..., None]).all(1)


def test_spec_augment_hides_at_most_two_masks_of_bands_and_positions():
    bands, positions = hidden_by_spec_augment()
    assert (bands.sum(-1) <= 2 * 28).all() and bands.any()
    assert (positions.sum(-1) <= 2 * (0.3 * torch.tensor([98, 60] * 4) + 1)).all() and positions.any()


def test_utterances_have_different_masks_and_a_seed_repeats_them():
    bands, positions = hidden_by_spec_augment(seed=1)
    again = hidden_by_spec_augment(seed=1)
    assert torch.equal(bands, again[0]) and torch.equal(positions, again[1])
    assert len({tuple(row.tolist()) for row in bands}) > 4


@pytest.mark.parametrize("off", [{"apply_spec_augment": False}, {"mel_mask_bands": 0, "mel_mask_share": 0.0}], ids=str)
def test_spec_augment_can_be_off(off):
    bands, positions = hidden_by_spec_augment(**off)
    assert not bands.any() and not positions.any()


# --------------------------------------------------------------------------------------------------- in a whole model


def test_a_frame_of_two_halvings_comes_every_40_ms():
    model = tiny_model(modality="speech", speech=LOG_MEL)
    assert receptive_field(model.config.speech_config) == 1360  # 85 ms
    frames = model(input_values=noise(16_000)[None]).frame_mask.sum().item()
    assert frames == 1 + (16_000 - 1360) // 640


def test_saved_and_loaded_it_answers_the_same(tmp_path):
    model = tiny_model(modality="speech", speech=LOG_MEL)
    model.save_pretrained(tmp_path)
    loaded = LemerModel.from_pretrained(tmp_path)
    values = noise(8000)[None]
    torch.testing.assert_close(loaded(values).logits, model(values).logits)
    assert not any(parameter.requires_grad for parameter in layer_of(loaded).parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_reduced_precision_the_log_mel_is_computed_in_float32(dtype):
    samples = noise(4000)[None]
    assert torch.equal(log_mel(samples.to(dtype)), log_mel(samples.to(dtype).float()))
    model = tiny_model(modality="speech", speech=LOG_MEL).to(dtype)
    assert model(samples.to(dtype)).logits.isfinite().all()


def test_autocast_leaves_the_log_mel_in_float32():
    samples = noise(4000)[None]
    expected = log_mel(samples)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_mel(samples), expected)


def test_activation_checkpointing_gives_the_same_gradients():
    speech = {**LOG_MEL, "mel_mask_bands": 0, "mel_mask_share": 0.0}
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(modality="speech", speech=speech).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(noise(8000)[None], labels=torch.tensor([1])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_every_parameter_that_trains_has_a_gradient():
    model = tiny_model(modality="speech", use_label_embeddings=False, speech=LOG_MEL).train()
    model(noise(8000)[None], labels=torch.tensor([1])).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_a_pretraining_checkpoint_opens_without_a_warning_and_gives_codes(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    folder = make_small_speech_tower(tmp_path / "tower", name="small-log-mel")
    model = LemerModel.from_towers(str(folder), None, modality="speech")
    assert not caplog.messages and isinstance(layer_of(model), LogMelLayer)
    codes = frame_codes(model, noise(16_000)[None])
    assert codes[0].shape == (23, model.config.speech_config.num_codevector_groups)


def test_codes_are_those_of_the_quantizer_on_the_normalised_features(tmp_path):
    config = tiny_config(modality="speech", speech=LOG_MEL).speech_config
    perturb(seeded(lambda: Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig(**config.to_dict())))).save_pretrained(
        tmp_path
    )
    model = LemerModel.from_towers(str(tmp_path), None, modality="speech")
    padded = torch.stack([noise(8000), noise(8000, 1)])
    mask = torch.ones(2, 8000)
    mask[1, 5000:] = 0
    together = frame_codes(model, padded * mask, mask)
    alone = frame_codes(model, padded[1:, :5000])
    assert np.array_equal(together[1], alone[0]) and len({tuple(code) for code in together[0]}) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"front_end": "mfcc"}, "'waveform' or 'log_mel', got 'mfcc'"),
        ({"conv_dim": (64, 12, 8)}, "80 bands"),
        ({"conv_stride": (200, 2, 2)}, "step of 160"),
        ({"mel_mask_bands": 81}, "0 to 80"),
        ({"mel_normalization": "frame"}, "'utterance', 'band' or 'none', got 'frame'"),
        ({"mel_mask_share": None}, "mel_mask_share"),
    ],
)
def test_a_front_end_that_cannot_be_is_refused(changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(modality="speech", speech={**LOG_MEL, **changes})


def test_the_stock_encoder_has_no_log_mel():
    with pytest.raises(StrictDataclassError, match="padding_safe=True"):
        tiny_config(modality="speech", speech=LOG_MEL, padding_safe=False)
