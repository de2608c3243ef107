"""The paper's front end: log-Mel bands of the waveform, normalised, with SpecAugment in training (section 3.1).

This file travels with every checkpoint. Shapes: B batch, S samples, P positions (10 ms steps).
"""

from functools import cache

import numpy as np
import torch
from torch import nn
from transformers.audio_utils import mel_filter_bank

MEL_RATE = 16_000  # Hz
MEL_BANDS = 80
MEL_WINDOW = 400  # samples, 25 ms
MEL_STEP = 160  # samples, 10 ms
MEL_FFT = 512  # points; with 400 the narrowest bands would fall between two frequencies of the transform
MEL_FLOOR = 1e-5  # the least energy of a band, before the logarithm; samples have unit variance
LEAST_VARIANCE = 1e-8  # of logarithms; less is rounding, which is about 1e-12 of logarithms near -11
MEL_MASKS = 2  # SpecAugment's masks in time, and as many in frequency


@cache
def _mel_filters() -> np.ndarray:
    """Triangular filters (frequencies, 80) from 0 Hz to half the sampling rate."""
    filters = mel_filter_bank(MEL_FFT // 2 + 1, MEL_BANDS, 0.0, MEL_RATE / 2, MEL_RATE, mel_scale="slaney")
    return filters.astype(np.float32)


def log_mel(samples: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of the energy in 80 Mel bands, (B, 80, P) in float32, of samples (B, S) at 16 kHz; Hann window."""
    with torch.autocast(samples.device.type, enabled=False):
        window = torch.hann_window(MEL_WINDOW, device=samples.device)
        spectrum = torch.fft.rfft(samples.float().unfold(-1, MEL_WINDOW, MEL_STEP) * window, MEL_FFT)  # (B, P, frequencies)
        power = torch.view_as_real(spectrum).square().sum(-1)
        filters = torch.from_numpy(_mel_filters()).to(samples.device)
        return (power @ filters).clamp(min=MEL_FLOOR).log().transpose(1, 2)


class LogMelLayer(nn.Module):
    """First layer of a CNN encoder: log-Mel, normalised over the real positions of each utterance, SpecAugment in training.

    The layer stands in the place of a convolution. It keeps that convolution's parameters without using them, so that a
    checkpoint has all the keys that transformers' own classes look for.
    """

    normalization: str  # what gets mean 0 and variance 1: a whole "utterance", each "band" of it, or "none"
    mask_bands: int  # the most bands that a mask hides
    mask_share: float  # the largest share of the utterance that a mask hides

    @torch.no_grad()
    def forward(self, samples: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        values = log_mel(samples)  # (B, 80, P)
        positions = torch.arange(values.shape[-1], device=values.device)
        if lengths is None:
            lengths = torch.full((len(values),), values.shape[-1], device=values.device)
        padding = (positions >= lengths[:, None])[:, None]  # (B, 1, P)
        values = values.masked_fill(padding, 0.0)
        if self.normalization != "none":
            axes = (-1,) if self.normalization == "band" else (-2, -1)
            counts = lengths[:, None, None] * (1 if self.normalization == "band" else MEL_BANDS)
            values = (values - values.sum(axes, keepdim=True) / counts).masked_fill(padding, 0.0)
            variance = values.square().sum(axes, keepdim=True) / counts  # (B, 1 or 80, 1)
            # Of zeros all logarithms are equal, and rounding errors are all that is left of them. The norms of the tower
            # would make an answer of these, another in every batch.
            is_heard = variance.amax((1, 2), keepdim=True) > LEAST_VARIANCE
            values = values * (torch.rsqrt(variance + 1e-5) * is_heard)
        if self.training:
            bands = torch.arange(MEL_BANDS, device=values.device)
            hidden_bands = _spans(bands, torch.full_like(lengths, MEL_BANDS), self.mask_bands / MEL_BANDS)  # (B, 80)
            hidden_positions = _spans(positions, lengths, self.mask_share)  # (B, P)
            values = values.masked_fill(hidden_bands[:, :, None] | hidden_positions[:, None], 0.0)
        return values.to(samples.dtype)


def _spans(positions: torch.Tensor, lengths: torch.Tensor, share: float) -> torch.Tensor:
    """Random spans (B, P) of positions below each row's length, each at most `share` of it long."""
    drawn = torch.rand(2, len(lengths), MEL_MASKS, device=positions.device)
    widths = drawn[0] * share * lengths[:, None]  # (B, masks)
    starts = drawn[1] * (lengths[:, None] - widths)
    distance = positions - starts[..., None]  # (B, masks, P)
    return ((distance >= 0) & (distance < widths[..., None])).any(1)


__all__ = ["LogMelLayer", "log_mel"]
