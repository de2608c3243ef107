"""Train with one of two ways for the conformer's batch norm: by its saved statistics, or by those of the batch.

    python benchmarks/batch_norm.py kept --recipe B1 ...      train.py as it is: the saved statistics are kept
    python benchmarks/batch_norm.py batch --recipe B1 ...     statistics of the batch

The other arguments are those of train.py. `batch` normalises by the mean and the variance of the batch's real frames, and
updates the saved statistics with them. So in training the frames of an utterance depend on the rest of its batch.
Shapes: B batch, F frames, D channels.
"""

import sys

import torch

import lemer.train
from lemer.speech_encoder_lemer import PaddingSafeConvolutionModule


def forward_with_batch_statistics(self, hidden_states: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
    """The convolution module, (B, F, D) -> (B, F, D), whose batch norm uses the statistics of the batch in training."""
    hidden_states = self.layer_norm(hidden_states)
    hidden_states = self.glu(self.pointwise_conv1(hidden_states.transpose(1, 2)))  # (B, D, F)
    real = torch.ones_like(hidden_states[:, :1], dtype=torch.bool)  # (B, 1, F)
    real = real if padding is None else ~padding[:, None]
    hidden_states = self.depthwise_conv(hidden_states.masked_fill(~real, 0.0))
    norm, mean, variance = self.batch_norm, self.batch_norm.running_mean, self.batch_norm.running_var
    if self.training:
        count = real.sum()
        mean = hidden_states.masked_fill(~real, 0.0).sum((0, 2)) / count  # (D,)
        variance = (hidden_states - mean[:, None]).masked_fill(~real, 0.0).square().sum((0, 2)) / count  # (D,)
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    # By hand: torch's batch norm passes no gradient through statistics that it is given.
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    hidden_states = hidden_states * scale[:, None] + (norm.bias - mean * scale)[:, None]
    hidden_states = self.pointwise_conv2(self.activation(hidden_states))
    return self.dropout(hidden_states).transpose(1, 2)  # (B, F, D)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("kept", "batch"):
        raise SystemExit(__doc__)
    if sys.argv[1] == "batch":
        PaddingSafeConvolutionModule.forward = forward_with_batch_statistics
    raise SystemExit(lemer.train.main(sys.argv[2:]))
