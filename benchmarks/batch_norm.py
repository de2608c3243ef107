"""Batch norm of the conformer block in training: running statistics kept, or statistics of the batch's real frames.

    python benchmarks/batch_norm.py FOLDER

Trains row C1 with small towers on the demo corpus of seed 1 twice, session 4 held out, and prints the scores of both. lemer
keeps the statistics; the other side stands here only, to be measured.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from lemer.corpora.demo import make_demo
from lemer.speech_encoder_lemer import PaddingSafeConvolutionModule
from lemer.train import main as train


def forward_with_batch_statistics(self, hidden_states: torch.Tensor) -> torch.Tensor:
    """`PaddingSafeConvolutionModule.forward` with the mean and variance of the batch's real frames in training."""
    hidden_states = self.layer_norm(hidden_states)
    hidden_states = self.glu(self.pointwise_conv1(hidden_states.transpose(1, 2)))  # (B, D, F)
    mask = self.frame_mask[:, None]  # (B, 1, F)
    hidden_states = self.depthwise_conv(hidden_states.masked_fill(~mask, 0.0))
    norm = self.batch_norm
    mean, variance = norm.running_mean, norm.running_var
    if self.training:
        real = hidden_states.transpose(1, 2)[self.frame_mask]  # (real frames, D)
        mean, variance = real.mean(0), real.var(0, unbiased=False)
        if torch.is_grad_enabled():
            norm.running_mean.lerp_(mean.detach(), norm.momentum)
            norm.running_var.lerp_(variance.detach(), norm.momentum)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    hidden_states = (hidden_states - mean[:, None]) * scale[:, None] + norm.bias[:, None]
    hidden_states = self.pointwise_conv2(self.activation(hidden_states))
    return self.dropout(hidden_states).transpose(1, 2)


def run(side: str, folder: Path) -> int:
    if side == "batch":
        PaddingSafeConvolutionModule.forward = forward_with_batch_statistics
    options = ["--data_dir", str(folder / "corpus"), "--cache_dir", str(folder / "cache"), "--folds", "4"]
    options += ["--speech_model", "small", "--text_model", "small", "--validation_share", "0", "--epochs", "20"]
    return train([*options, "--set", "max_history=3", "--output_dir", str(folder / side)])


def main() -> None:
    folder = Path(sys.argv[1])
    if len(sys.argv) == 3:
        sys.exit(run(sys.argv[2], folder))
    folder.mkdir(parents=True, exist_ok=True)
    make_demo(folder / "corpus", seed=1, dialogs=8)
    sides = ("kept", "batch")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, __file__, folder, side], env=environment) for side in sides]
    if any([process.wait() for process in processes]):
        sys.exit("a training failed, see above")
    for side in sides:
        results = json.loads((folder / side / "fold4" / "seed0" / "results.json").read_text())
        print(f"{side:<6} WA {100 * results['wa']:.1f}  UA {100 * results['ua']:.1f}  of {results['utterances']} utterances")


if __name__ == "__main__":
    main()
