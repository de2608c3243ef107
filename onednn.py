"""Matrix products of linear layers by oneDNN, on processors for which MKL has no fast ones."""

import platform
from pathlib import Path

import torch
from torch import nn


class ConvolvedLinear(nn.Linear):
    """A linear layer, run as a convolution over an image of one row: oneDNN multiplies for those, MKL for linear layers."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        image = values.reshape(1, 1, -1, values.shape[-1]).permute(0, 3, 1, 2)  # (1, D, 1, N), and as it lies (1, 1, N, D)
        image = nn.functional.conv2d(image, self.weight[:, :, None, None], self.bias)
        return image.permute(0, 2, 3, 1).reshape(*values.shape[:-1], self.out_features)


def mkl_lags() -> bool:
    """Whether this is a processor with AVX-512 for which torch's MKL has none: one of AMD's (Linux)."""
    if platform.system() != "Linux" or not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(errors="replace")
    return amd and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def multiply_by_onednn(model: nn.Module) -> bool:
    """
    Let oneDNN multiply for the linear layers of a model that answers on a CPU in float32, in place.

    A forward pass takes two thirds of its time so (`benchmarks/LOG.md`). Answers change by rounding; parameters, their names
    and what is saved do not. In 16 bits oneDNN multiplies anyway.

    Returns:
        Whether anything was changed: only where `mkl_lags`.
    """
    layers = [
        module
        for module in model.modules()
        if type(module) is nn.Linear and module.weight.device.type == "cpu" and module.weight.dtype == torch.float32
    ]
    if not layers or not mkl_lags():
        return False
    for layer in layers:
        layer.__class__ = ConvolvedLinear
    return True
