"""Let oneDNN multiply by weights that are packed once, for inference on a CPU.

Shapes: B batch, F frames, D channels.
"""

import platform
from functools import cache
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging


def _refuse(*_, **__):
    raise RuntimeError(
        "multiply_by_onednn has packed the weights of this model, so it can only be used for inference: load the model "
        "again to train, copy, move or save it"
    )


def _packed_weight(layer: nn.Module) -> torch.Tensor:
    """The weight in oneDNN's layout; the property `weight` of a packed layer gives it in torch's."""
    return cast(torch.Tensor, layer._parameters["weight"])


def _multiply(values: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    if values.requires_grad:  # the operation has no gradient and would silently leave it out
        _refuse()
    return torch.ops.mkldnn._linear_pointwise(values, _packed_weight(layer), layer.bias, "none", [], "")


def _pack(weight: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous()), requires_grad=False)


def _is_pointwise(conv: nn.Conv1d) -> bool:
    return conv.kernel_size == conv.stride == (1,) and conv.padding == (0,) and conv.groups == 1


class PackedLinear(nn.Linear):
    """A linear layer whose weight is stored in oneDNN's layout, which saves oneDNN a copy in every call."""

    __deepcopy__ = _apply = _save_to_state_dict = _refuse  # torch would fail too, but without saying why

    @property
    def weight(self) -> torch.Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]  read-only on purpose
        """The weight in torch's layout, for attentions that read it without calling the layer, such as WavLM's."""
        return _packed_weight(self).to_dense()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _multiply(values, self)


class PackedPointwise(nn.Conv1d):
    """A convolution of (B, D, F) with a kernel of one frame, as a packed linear layer that does not copy its frames."""

    __deepcopy__ = _apply = _save_to_state_dict = _refuse

    @property
    def weight(self) -> torch.Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]  read-only on purpose
        return _packed_weight(self).to_dense()[:, :, None]

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _multiply(values.transpose(1, 2), self).transpose(1, 2)  # (B, D out, F)


@cache
def on_amd() -> bool:
    """Whether this is a Linux system with a processor of AMD, for which MKL does not use AVX-512."""
    return platform.system() == "Linux" and "AuthenticAMD" in Path("/proc/cpuinfo").read_text(errors="replace")


def onednn_leads(dtype: torch.dtype) -> bool:
    """
    Whether packed weights are the fastest way to multiply on this processor, which must have AVX-512.

    In bf16 torch uses oneDNN anyway but packs the weights in every call. In float32 torch uses MKL, which is slower if
    `on_amd`.
    """
    if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 and on_amd()


def multiply_by_onednn(model: PreTrainedModel) -> bool:
    """
    Let oneDNN multiply in a transformers model on a CPU, in place, if `onednn_leads` in the precision of the model.

    The weights of linear layers and pointwise convolutions are packed. The model can then no longer be trained, copied,
    moved or saved; each of these is an error. In bf16 and `on_amd`, the attention changes from torch's kernel ("sdpa") to
    two products and a softmax ("eager"). Outputs change by rounding errors. `benchmarks/LOG.md` says how much faster it is.

    Returns:
        whether the model was changed.
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
        logging.set_verbosity_error()  # WavLM has its own attention and would warn that it keeps it
        model.set_attn_implementation("eager")
        logging.set_verbosity(verbosity)
    return True
