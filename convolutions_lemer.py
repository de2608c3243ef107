"""The convolutions of wav2vec 2.0's encoders, faster where transformers' own are slow, with the same results.

This file travels with every checkpoint. Shapes: B batch, P positions after the first CNN layer, F frames, D channels,
K positions of a kernel.
"""

from typing import cast

import torch
from torch import nn
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
    Wav2Vec2ConformerLayerNormConvLayer,
    Wav2Vec2ConformerNoLayerNormConvLayer,
)
from transformers.utils import is_tracing


def channels_last(conv: nn.Conv1d, hidden_states: torch.Tensor, in_32_bits: bool) -> bool:
    """
    Whether to run a convolution with its channels last in memory, which is faster in some cases.

    On a GPU it is faster in 16 bits; on a CPU in bf16 without autocast. With `in_32_bits` it is used in float32 too, on a
    CPU only where no gradient is computed, so that a training there stays transformers' to the last bit.
    """
    # The type is checked first. Adapters have another one, and so do layers with packed weights, which are slow to read.
    if type(conv) is not nn.Conv1d or hidden_states.device != conv.weight.device:
        return False
    if hidden_states.is_cuda:
        return in_32_bits or hidden_states.dtype.itemsize == 2 or torch.is_autocast_enabled("cuda")
    half = hidden_states.dtype == conv.weight.dtype == torch.bfloat16
    passed = torch.is_grad_enabled() and (hidden_states.requires_grad or conv.weight.requires_grad)
    pays = half or (in_32_bits and not passed)
    return hidden_states.device.type == "cpu" and pays and not is_tracing(hidden_states)


def pointwise(conv: nn.Conv1d, hidden_states: torch.Tensor) -> torch.Tensor:
    """A convolution of (B, D, F) whose kernel is one frame long."""
    if channels_last(conv, hidden_states, in_32_bits=False):
        return nn.functional.linear(hidden_states.transpose(1, 2), conv.weight[:, :, 0], conv.bias).transpose(1, 2)
    return conv(hidden_states)


def depthwise(conv: nn.Conv1d, hidden_states: torch.Tensor) -> torch.Tensor:
    """A convolution of (B, D, F) with a kernel of its own for every channel."""
    if hidden_states.device.type != "cpu" or is_tracing(hidden_states) or type(conv) is not nn.Conv1d:
        return conv(hidden_states)
    # torch would run this as an image of one row, for which oneDNN is several times slower than for one of one column.
    column = hidden_states[..., None], conv.weight[..., None]  # (B, D, F, 1), (D, 1, kernel, 1)
    padding = cast(int, conv.padding[0]), 0
    return nn.functional.conv2d(*column, conv.bias, padding=padding, groups=conv.groups)[..., 0]


def _as_images(kernel: torch.Tensor, *frames: torch.Tensor) -> tuple[int, list[int], list[torch.Tensor]]:
    """
    Add a dimension to a depthwise kernel (D, 1, K) and to frames (B, F, D), for a convolution of images.

    On a GPU an image is one row, and in 16 bits its frames are not copied. On a CPU it is one column, which is faster, see
    `depthwise`.

    Returns:
        The dimension that was added, the padding of both dimensions, and the kernel and the images.
    """
    on_cpu, padding = kernel.device.type == "cpu", kernel.shape[-1] // 2
    images = [sequence.transpose(1, 2) for sequence in frames]  # (B, D, F)
    if on_cpu or frames[0].dtype.itemsize > 2:
        images = [image.contiguous() for image in images]
    added = 3 if on_cpu else 2
    return added, [padding, 0] if on_cpu else [0, padding], [tensor.unsqueeze(added) for tensor in (kernel, *images)]


def depthwise_by_frames(frames: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Depthwise convolution of frames (B, F, D) with a kernel (D, 1, K), without moving the channels: (B, F, D)."""
    added, padding, (kernel, image) = _as_images(kernel, frames)
    return nn.functional.conv2d(image, kernel, padding=padding, groups=len(kernel)).squeeze(added).transpose(1, 2)


# The same as an operation of its own: inductor compiles the backward pass of a convolution for one length alone.
@torch.library.custom_op("lemer::depthwise", mutates_args=())
def depthwise_operation(frames: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return depthwise_by_frames(frames, kernel).contiguous()


@torch.library.custom_op("lemer::depthwise_backward", mutates_args=())
def _depthwise_backward(
    gradient: torch.Tensor, frames: torch.Tensor, kernel: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    added, padding, (kernel, image, gradient) = _as_images(kernel, frames, gradient)
    once = [1, 1]  # stride, dilation
    of_image, of_kernel, _ = torch.ops.aten.convolution_backward(
        gradient, image, kernel, None, once, padding, once, False, [0, 0], len(kernel), [True, True, False]
    )
    return of_image.squeeze(added).transpose(1, 2).contiguous(), of_kernel.squeeze(added).contiguous()


@depthwise_operation.register_fake
def _(frames, kernel):
    return frames.new_empty(frames.shape)


@_depthwise_backward.register_fake
def _(gradient, frames, kernel):
    return frames.new_empty(frames.shape), kernel.new_empty(kernel.shape)


depthwise_operation.register_autograd(
    lambda ctx, gradient: _depthwise_backward(gradient, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def _dense(conv: nn.Conv1d, hidden_states: torch.Tensor) -> torch.Tensor:
    """A convolution of (B, D, P) without padding, to channels that lie last, (B, P', D')."""
    if conv.in_channels == 1:
        windows = hidden_states[:, 0].unfold(-1, conv.kernel_size[0], conv.stride[0])  # (B, P', samples), overlapping
        return nn.functional.linear(windows, conv.weight[:, 0], conv.bias)
    # With one dimension torch copies the input to rows of channels; with two it takes it as it is.
    image, stride = hidden_states[:, :, None], (1, conv.stride[0])  # (B, D, 1, P)
    image = nn.functional.conv2d(image, conv.weight[:, :, None], conv.bias, stride)  # (B, D', 1, P')
    return image[:, :, 0].transpose(1, 2)


class ChannelsLastConvLayer(Wav2Vec2ConformerLayerNormConvLayer):
    """CNN layer with a layer norm, whose channels lie last from input to output where that pays."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not channels_last(self.conv, hidden_states, in_32_bits=True):
            return super().forward(hidden_states)
        return self.activation(self.layer_norm(_dense(self.conv, hidden_states)).transpose(1, 2))  # (B, D, P')


class PlainChannelsLastConvLayer(Wav2Vec2ConformerNoLayerNormConvLayer):
    """The same without a norm."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not channels_last(self.conv, hidden_states, in_32_bits=True):
            return super().forward(hidden_states)
        return self.activation(_dense(self.conv, hidden_states).transpose(1, 2))  # (B, D, P')


__all__ = [
    "ChannelsLastConvLayer",
    "PlainChannelsLastConvLayer",
    "channels_last",
    "depthwise",
    "depthwise_by_frames",
    "depthwise_operation",
    "pointwise",
]
