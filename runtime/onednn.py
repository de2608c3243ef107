"""Matrix products by oneDNN of weights packed once, for a model that does nothing but answer, on a CPU.

Shapes: B batch, F frames, D channels.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import nn
from transformers.utils import logging


def _refuse(*_, **__):
    raise RuntimeError(
        "this model does nothing but answer since multiply_by_onednn was called on it: load it anew for gradients, or to "
        "copy, move or save it"
    )


def _multiply(values: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    if values.requires_grad:  # the operation knows no gradient, and would leave it out without a word
        _refuse()
    return torch.ops.mkldnn._linear_pointwise(values, layer._parameters["weight"], layer.bias, "none", [], "")


def _pack(weight: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous()), requires_grad=False)


def _is_pointwise(conv: nn.Conv1d) -> bool:
    return conv.kernel_size == conv.stride == (1,) and conv.padding == (0,) and conv.groups == 1


class PackedLinear(nn.Linear):
    """A linear layer whose weight lies as oneDNN reads it, which otherwise copies it so in every call."""

    __deepcopy__ = _apply = _save_to_state_dict = _refuse  # torch would refuse too, but not say why

    @property
    def weight(self) -> torch.Tensor:
        """As it was, for attentions that read it past this layer, such as WavLM's."""
        return self._parameters["weight"].to_dense()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _multiply(values, self)


class PackedPointwise(nn.Conv1d):
    """A convolution of (B, D, F) whose kernel is one frame long, likewise; nor are its frames copied."""

    __deepcopy__ = _apply = _save_to_state_dict = _refuse

    @property
    def weight(self) -> torch.Tensor:
        return self._parameters["weight"].to_dense()[:, :, None]

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _multiply(values.transpose(1, 2), self).transpose(1, 2)  # (B, D', F)


@cache
def on_amd() -> bool:
    """Whether this is a processor of AMD's (asked on Linux), which MKL, torch's choice in float32, runs without AVX-512."""
    return platform.system() == "Linux" and "AuthenticAMD" in Path("/proc/cpuinfo").read_text(errors="replace")


def onednn_leads(dtype: torch.dtype) -> bool:
    """
    Whether oneDNN is the fastest to multiply on this processor: with AVX-512 in bf16, where torch leaves it the products
    anyway but packs weights in every call, and in float32 if `on_amd`, where torch leaves them to MKL.
    """
    if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 and on_amd()


def multiply_by_onednn(model: nn.Module) -> bool:
    """
    Let oneDNN multiply for a transformers model that answers on a CPU, in place, where `onednn_leads` in its precision.

    Weights of linear layers and pointwise convolutions are packed, so the model can no longer be trained, copied, moved or
    saved; each of these is an error. In bf16, `on_amd`, attention is two products and a softmax as well ("eager") where it
    was torch's kernel ("sdpa"). Answers change by rounding. `benchmarks/LOG.md` says what it gains.

    Returns:
        Whether anything was changed.
    """
    if model.device.type != "cpu" or not onednn_leads(model.dtype):
        return False
    model.requires_grad_(False)
    for module in model.modules():
        if type(module) is nn.Linear:
            module.weight, module.__class__ = _pack(module.weight), PackedLinear
        elif type(module) is nn.Conv1d and _is_pointwise(module):
            module.weight, module.__class__ = _pack(module.weight[:, :, 0]), PackedPointwise
    if model.dtype == torch.bfloat16 and on_amd() and model.config._attn_implementation == "sdpa":
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # WavLM keeps an attention of its own, which is worth no warning
        model.set_attn_implementation("eager")
        logging.set_verbosity(verbosity)
    return True
