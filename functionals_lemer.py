"""Functionals of the log-Mel: 840 numbers that describe how an utterance sounds, in the place of a speech tower.

They are means, deviations and covariances over the positions in which somebody speaks, so nothing in them is trained. A few
hundred recordings are too few for a tower of random weights, and enough for a linear classifier of these.

This file travels with every checkpoint. Shapes: B batch, S samples, P positions (10 ms steps), G groups of bands.
"""

import math
from typing import Any

import torch
from torch import nn

from .log_mel_lemer import MEL_BANDS, log_mel
from .speech_encoder_lemer import prepare_samples

# A position counts as speech if its energy is at most this much below that of the utterance's loudest position.
ACTIVE_RANGE = 40.0  # dB
GROUPS = 20  # of four bands each, for what is compared between bands or over longer times
LAGS = (1, 4, 8, 16, 32)  # positions between the two values of a difference, 10 to 320 ms
PAIRS = GROUPS * (GROUPS + 1) // 2
FUNCTIONALS = 4 * MEL_BANDS + len(LAGS) * GROUPS + 2 * PAIRS  # 840
EPSILON = 1e-5  # added to variances before the square root


def active_positions(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Where somebody speaks in log-Mels (B, 80, P) of `lengths` (B,) real positions: (B, P), True in at least one each."""
    real = torch.arange(values.shape[-1], device=values.device) < lengths[:, None]
    energy = values.logsumexp(1).masked_fill(~real, -torch.inf)  # (B, P)
    return real & (energy >= energy.amax(-1, keepdim=True) - ACTIVE_RANGE * math.log(10) / 10)


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of (B, D, P) where the mask (B, P) is True, (B, D); 0 where it is True nowhere."""
    return values.masked_fill(~mask[:, None], 0.0).sum(-1) / mask.sum(-1, keepdim=True).clamp(min=1)


def _covariance(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Covariances (B, D, D) of the rows of (B, D, P) where the mask (B, P) is True."""
    centred = (values - _mean(values, mask)[..., None]).masked_fill(~mask[:, None], 0.0)
    return centred @ centred.transpose(1, 2) / mask.sum(-1).clamp(min=1)[:, None, None]


def _root(variance: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(variance + EPSILON)


def log_mel_functionals(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """
    Describe each utterance of a batch. Padding and silence around the speech change nothing, nor does the level.

    All functionals are over active positions, and differences are between two of them. In this order: mean and deviation of
    each band, after the mean of all bands was taken away; deviation and mean absolute value of each band's difference over
    two positions; root mean square of the difference over each of `LAGS` in each group of bands; covariances of the groups;
    covariances of their differences over two positions.

    Args:
        values: log-Mels (B, 80, P), not normalised.
        lengths: number of real positions of each utterance (B,), at least 1.

    Returns:
        Functionals (B, 840).
    """
    active = active_positions(values, lengths)
    level = _mean(values, active).mean(1)[:, None, None]
    # Positions are added so that every lag leaves some, however short the batch is. None of them is active.
    values = nn.functional.pad(values - level, (0, max(LAGS)))
    active = nn.functional.pad(active, (0, max(LAGS)))
    groups = values.unflatten(1, (GROUPS, -1)).mean(2)  # (B, G, P)
    around = active[:, 2:] & active[:, :-2]
    steps, group_steps = values[..., 2:] - values[..., :-2], groups[..., 2:] - groups[..., :-2]
    parts = [_mean(values, active), _root(_variance(values, active))]
    parts += [_root(_variance(steps, around)), _mean(steps.abs(), around)]
    for lag in LAGS:
        both = active[:, lag:] & active[:, :-lag]
        parts.append(_root(_mean((groups[..., lag:] - groups[..., :-lag]).square(), both)))
    first, second = torch.triu_indices(GROUPS, GROUPS, device=values.device)
    parts += [_covariance(groups, active)[:, first, second], _covariance(group_steps, around)[:, first, second]]
    return torch.cat(parts, dim=-1)


def _variance(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Variance (divided by N) of (B, D, P) where the mask (B, P) is True, (B, D)."""
    return _mean((values - _mean(values, mask)[..., None]).square(), mask)


class SpeechFunctionals(nn.Module):
    """
    Standardised functionals of recordings, computed in float32.

    Buffers: `mean` and `scale` (840,), those of the training recordings; 0 and 1 until training sets them.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, speech_config: Any):
        super().__init__()
        self.speech_config = speech_config
        self.register_buffer("mean", torch.zeros(FUNCTIONALS))
        self.register_buffer("scale", torch.ones(FUNCTIONALS))

    def forward(self, input_values: torch.Tensor, input_values_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Functionals (B, 840) of samples (B, S), whose mask is nonzero where a sample is real. None: all are."""
        samples, _, lengths = prepare_samples(self.speech_config, input_values, input_values_mask)
        with torch.autocast(samples.device.type, enabled=False):
            functionals = log_mel_functionals(log_mel(samples), lengths)
            return (functionals - self.mean.float()) / self.scale.float()


__all__ = ["FUNCTIONALS", "SpeechFunctionals", "log_mel_functionals"]
