"""Speech towers of the wav2vec 2.0 family, conformer and plain, whose frames do not depend on the padding of a batch.

transformers' encoders read padding in two places: the depthwise convolution of every conformer block reads padded frames,
and the group norm of the first CNN layer (`feat_extract_norm="group"`) takes its mean and variance over them. Here both read
only real frames, so that an utterance has the same frames alone and in any batch. `make_padding_safe` swaps the classes of
these modules in place. Parameters and their names stay as they are. Masks travel through arguments: nothing of a call is
stored on a module, so that several threads may use one model, and activation checkpointing computes the same values again.

On a CPU, the feed-forward modules of the conformer leave out the padded frames where these are at least a tenth of a batch.
In 16 bits, and on a GPU, convolutions read frames as they lie in memory, which saves copies. On a CPU the CNN encoder does
so in float32 too where no gradient is needed.

The tables of positions do not remember the precision of an earlier input, as those of transformers do.

In training, the batch norm of the conformer block normalises with its saved statistics, as in evaluation. With the
statistics of a batch, an utterance's frames would depend on the other utterances, and fine-tuning batches are too small to
estimate them.

A tower whose configuration says `front_end="log_mel"` computes the log-Mel of the samples instead of its first CNN layer
(paper, section 3.1). That layer's kernel and stride are the window and the step of the log-Mel, so that the processor, the
inputs and the counting of frames are the same for both.

This file travels with every checkpoint. Shapes: B batch, S samples, P positions after the first CNN layer (10 ms steps in a
log-Mel), F frames, D channels, N real frames of a batch.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
    Wav2Vec2ConformerConvolutionModule,
    Wav2Vec2ConformerEncoderLayer,
    Wav2Vec2ConformerFeedForward,
    Wav2Vec2ConformerLayerNormConvLayer,
    Wav2Vec2ConformerNoLayerNormConvLayer,
    Wav2Vec2ConformerRelPositionalEmbedding,
    Wav2Vec2ConformerRotaryPositionalEmbedding,
    _compute_mask_indices,
)
from transformers.utils import is_torchdynamo_compiling, is_torchdynamo_exporting, is_tracing

from .convolutions_lemer import (
    ChannelsLastConvLayer,
    PlainChannelsLastConvLayer,
    channels_last,
    depthwise,
    depthwise_by_frames,
    depthwise_operation,
    pointwise,
)
from .log_mel_lemer import MEL_STEP, MEL_WINDOW, LogMelLayer

PACKED_FROM = 0.1  # share of padded frames in a batch from which the feed-forward modules leave them out


class PaddingSafeConvolutionModule(Wav2Vec2ConformerConvolutionModule):
    """Convolution module of a conformer block whose depthwise convolution reads zeros at padded frames."""

    def forward(self, hidden_states: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            hidden_states: (B, F, D).
            padding: (B, F), True at padded frames. `None`: all frames are real.
        """
        hidden_states = self.layer_norm(hidden_states)
        plain = type(self.depthwise_conv) is type(self.pointwise_conv1) is type(self.pointwise_conv2) is nn.Conv1d
        compiling = is_torchdynamo_compiling() and not is_torchdynamo_exporting()
        on_gpu = hidden_states.is_cuda and channels_last(self.depthwise_conv, hidden_states, in_32_bits=False)
        if plain and (compiling or on_gpu):
            return self.dropout(self._by_frames(hidden_states, padding, compiling))
        hidden_states = self.glu(pointwise(self.pointwise_conv1, hidden_states.transpose(1, 2)))  # (B, D, F)
        if padding is not None:
            hidden_states = hidden_states.masked_fill(padding[:, None], 0.0)
        # The copy is needed: in bf16, oneDNN's depthwise convolution of 16 channels that lie last never returns.
        hidden_states = self._norm(depthwise(self.depthwise_conv, hidden_states.contiguous()))
        hidden_states = pointwise(self.pointwise_conv2, self.activation(hidden_states))
        return self.dropout(hidden_states).transpose(1, 2)  # (B, F, D)

    def _norm(self, hidden_states: torch.Tensor) -> torch.Tensor:
        norm = self.batch_norm
        return nn.functional.batch_norm(
            hidden_states, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
        )

    def _by_frames(self, hidden_states: torch.Tensor, padding: torch.Tensor | None, compiling: bool) -> torch.Tensor:
        """The module with the channels of a frame side by side in memory, (B, F, D), and no convolution to compile."""
        hidden_states = nn.functional.linear(hidden_states, self.pointwise_conv1.weight[:, :, 0])  # (B, F, 2D)
        hidden_states = nn.functional.glu(hidden_states, -1)  # (B, F, D)
        if padding is not None:
            hidden_states = hidden_states.masked_fill(padding[..., None], 0.0)
        depthwise = depthwise_operation if compiling else depthwise_by_frames
        hidden_states = depthwise(hidden_states, self.depthwise_conv.weight.to(hidden_states.dtype))
        image = self._norm(hidden_states.transpose(1, 2)[:, :, None])  # (B, D, 1, F), and as it lies (B, 1, F, D)
        hidden_states = self.activation(image[:, :, 0].transpose(1, 2))
        return nn.functional.linear(hidden_states, self.pointwise_conv2.weight[:, :, 0])


class PackedFeedForward(Wav2Vec2ConformerFeedForward):
    """Feed-forward module that can leave out padded frames. The two of a block are two thirds of its arithmetic."""

    def forward(self, hidden_states: torch.Tensor, real_frames: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            hidden_states: (B, F, D).
            real_frames: (N,) indices of the real frames among all B * F frames. The result is 0 at the other frames.
                `None`: the module is run on all frames.
        """
        if real_frames is None:
            return super().forward(hidden_states)
        flat = hidden_states.flatten(0, 1)  # (B F, D)
        packed = super().forward(flat.index_select(0, real_frames))  # (N, D)
        return torch.zeros_like(flat, dtype=packed.dtype).index_copy(0, real_frames, packed).view_as(hidden_states)


class PaddingSafeConformerLayer(Wav2Vec2ConformerEncoderLayer):
    """Conformer block that gives its modules the masks of the call. The stock encoder hands them on as keyword arguments."""

    takes_padding = True

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        relative_position_embeddings: torch.Tensor | None = None,
        padding: torch.Tensor | None = None,
        real_frames: torch.Tensor | None = None,
        attended: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """
        The stock block's arithmetic.

        Args:
            padding, real_frames: those of the two modules above.
            attended: (B, 1, 1, F), True at real frames: the mask of the attention, in place of `attention_mask`.
        """
        residual = hidden_states
        hidden_states = self.ffn1(self.ffn1_layer_norm(hidden_states), real_frames)
        hidden_states = hidden_states * 0.5 + residual

        residual = hidden_states
        hidden_states, _ = self.self_attn(
            hidden_states=self.self_attn_layer_norm(hidden_states),
            attention_mask=attention_mask if attended is None else attended,
            relative_position_embeddings=relative_position_embeddings,
            **kwargs,
        )
        hidden_states = self.self_attn_dropout(hidden_states) + residual
        hidden_states = hidden_states + self.conv_module(hidden_states, padding)

        residual = hidden_states
        hidden_states = self.ffn2(self.ffn2_layer_norm(hidden_states), real_frames)
        return self.final_layer_norm(hidden_states * 0.5 + residual)


class ExactRelativePositions(Wav2Vec2ConformerRelPositionalEmbedding):
    """Relative positions from a float32 table. The stock table takes on the precision of the last input."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        frames, table = hidden_states.shape[1], self.pe
        if table.dtype != torch.float32 or table.device != hidden_states.device or table.shape[1] < 2 * frames - 1:
            with torch.inference_mode(False):  # the table outlives this call, and may be trained with later
                table = self.extend_pe(torch.empty(1, max(frames, self.max_len), device=hidden_states.device))
            self.pe = table  # only whole tables are assigned, and this call reads its own: another thread may assign one too
        middle = table.shape[1] // 2
        return table[:, middle - frames + 1 : middle + frames].to(hidden_states.dtype)  # (1, 2F - 1, D)


class UncachedRotaryPositions(Wav2Vec2ConformerRotaryPositionalEmbedding):
    """Rotary positions made in each call. The stock cache ignores dtype and inference mode, and threads would share it."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        times = torch.arange(hidden_states.shape[1], device=self.inv_freq.device).type_as(self.inv_freq)  # (F,)
        angles = times[:, None] * self.inv_freq
        angles = torch.cat((angles, angles), dim=-1)[:, None, None, :]  # (F, 1, 1, head size)
        return torch.stack([angles.cos(), angles.sin()]).type_as(hidden_states)  # (2, F, 1, 1, head size)


class PaddingSafeGroupNormConvLayer(GradientCheckpointingLayer):
    """First CNN layer: a convolution, a group norm of every channel over its real positions only, and the activation."""

    conv: nn.Conv1d
    layer_norm: nn.GroupNorm
    activation: Callable[[torch.Tensor], torch.Tensor]

    def forward(self, hidden_states: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        hidden_states = self.conv(hidden_states)  # (B, D, positions)
        if lengths is None:
            return self.activation(self.layer_norm(hidden_states))
        norm = self.layer_norm
        dtype, hidden_states = hidden_states.dtype, hidden_states.float()  # sums over seconds of samples
        positions = torch.arange(hidden_states.shape[-1], device=hidden_states.device)
        padding = (positions >= lengths[:, None])[:, None]  # (B, 1, positions)
        hidden_states = hidden_states.masked_fill_(padding, 0.0)  # in place: nothing else reads the convolution's result
        # This is the largest tensor of the tower, so no step makes a needless copy. The variance as a difference of
        # moments is exact enough because the samples have zero mean.
        mean = hidden_states.sum(-1) / lengths[:, None]  # (B, D)
        variance = torch.linalg.vector_norm(hidden_states, dim=-1).square() / lengths[:, None] - mean.square()
        scale = norm.weight * torch.rsqrt(variance.clamp(min=0.0) + norm.eps)
        shift = norm.bias - mean * scale
        hidden_states = torch.addcmul(shift[..., None], hidden_states, scale[..., None])
        return self.activation(hidden_states.to(dtype))


class UncompiledFeatureEncoder(nn.Module):
    """CNN encoder of transformers that torch.compile does not compile.

    The number of frames comes from the number of samples by seven nested divisions. With this expression as a length in a
    graph, the compiler does not end. Here a new graph begins behind the CNN encoder, with
    the number of frames as a variable.
    """

    conv_layers: nn.ModuleList
    takes_counts = False  # whether the input is a tuple of the samples and their counts, which the stock model hands on

    @torch.compiler.disable
    def forward(self, input_values: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return self.encode(*input_values) if isinstance(input_values, tuple) else self.encode(input_values)

    def encode(self, samples: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """Features (B, D, F) of samples (B, S). Only subclasses with `takes_counts` read the counts (B,) of samples."""
        return self.run(self.conv_layers, self.prepared(samples[:, None]))

    def prepared(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self._requires_grad and self.training:  # checkpointed layers need an input that requires grad
            hidden_states.requires_grad = True
        return hidden_states

    def run(self, layers: Iterable[nn.Module], hidden_states: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            hidden_states = layer(hidden_states)
        return hidden_states  # (B, D, F)

    def _freeze_parameters(self):
        self.requires_grad_(False)
        self._requires_grad = False


class PaddingSafeFeatureEncoder(UncompiledFeatureEncoder):
    """CNN encoder with a group norm, which needs the counts of the real samples. Layer norms do not read padding."""

    takes_counts = True

    def encode(self, samples: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        layers: list[Any] = list(self.conv_layers)
        first, others = layers[0], layers[1:]
        if counts is not None:
            # The norm removes a constant offset of the samples anyway. Removed here, it costs the moments no precision.
            samples = samples - (samples.sum(-1, keepdim=True) / counts[:, None]).to(samples.dtype)
            counts = _convolved_length(counts, first.conv.kernel_size, first.conv.stride)
        return self.run(others, first(self.prepared(samples[:, None]), counts))


class LogMelFeatureEncoder(UncompiledFeatureEncoder):
    """CNN encoder whose first layer is the log-Mel. Its other layers reduce the number of positions."""

    takes_counts = True

    def encode(self, samples: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        layers: list[Any] = list(self.conv_layers)
        first, others = layers[0], layers[1:]
        if counts is not None:
            counts = _convolved_length(counts, [MEL_WINDOW], [MEL_STEP])
        return self.run(others, self.prepared(first(samples, counts)))  # of a log-Mel (B, 80, P)


def make_padding_safe(speech_model: nn.Module) -> None:
    """Swap the classes of the modules that read padding, in place. Parameters and their names stay as they are."""
    tower: Any = speech_model  # torch declares every attribute of a module as a tensor or a module
    config, feature_encoder = tower.config, tower.feature_extractor
    first = feature_encoder.conv_layers[0]
    if getattr(config, "front_end", "waveform") == "log_mel":
        feature_encoder.__class__, first.__class__ = LogMelFeatureEncoder, LogMelLayer
        first.normalization = getattr(config, "mel_normalization", "band")  # as before there was a choice
        augments = getattr(config, "apply_spec_augment", True)
        first.mask_bands = config.mel_mask_bands if augments else 0
        first.mask_share = config.mel_mask_share if augments else 0.0
    elif isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
        feature_encoder.__class__, first.__class__ = PaddingSafeFeatureEncoder, PaddingSafeGroupNormConvLayer
    else:
        feature_encoder.__class__ = UncompiledFeatureEncoder
    for layer in feature_encoder.conv_layers:
        if type(layer) is Wav2Vec2ConformerLayerNormConvLayer:
            layer.__class__ = ChannelsLastConvLayer
        elif type(layer) is Wav2Vec2ConformerNoLayerNormConvLayer:
            layer.__class__ = PlainChannelsLastConvLayer
    for layer in tower.encoder.layers:
        if type(layer) is Wav2Vec2ConformerEncoderLayer:
            layer.__class__ = PaddingSafeConformerLayer
            layer.conv_module.__class__ = PaddingSafeConvolutionModule
            layer.ffn1.__class__ = layer.ffn2.__class__ = PackedFeedForward
    positions = getattr(tower.encoder, "embed_positions", None)
    if type(positions) is Wav2Vec2ConformerRelPositionalEmbedding:
        positions.__class__ = ExactRelativePositions
    elif type(positions) is Wav2Vec2ConformerRotaryPositionalEmbedding:
        positions.__class__ = UncachedRotaryPositions


def _convolved_length(length, kernels, strides):
    """Number of positions that convolutions without padding leave of `length`, an integer or a tensor of integers."""
    if isinstance(length, torch.Tensor):  # one division by the product of the strides, which starts fewer GPU kernels
        reach, step = 1, 1
        for kernel, stride in zip(kernels, strides, strict=True):
            reach, step = reach + (kernel - 1) * step, step * stride
        return (length - reach) // step + 1
    for kernel, stride in zip(kernels, strides, strict=True):  # as the modules count, so that the symbols of graphs agree
        length = (length - kernel) // stride + 1
    return length


def receptive_field(config, frames: int = 1) -> int:
    """Number of samples that `frames` frames of the CNN encoder read: 400 (25 ms) for one frame of the published towers."""
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        frames = (frames - 1) * stride + kernel
    return frames


def count_frames(config, samples):
    """Number of frames of a clip with `samples` samples (an integer or a tensor), at least 1 as in `prepare_samples`."""
    shortest = receptive_field(config)
    samples = samples.clamp(min=shortest) if isinstance(samples, torch.Tensor) else max(samples, shortest)
    return _convolved_length(samples, config.conv_kernel, config.conv_stride)


def prepare_samples(
    config, input_values: torch.Tensor, input_values_mask: torch.Tensor | None = None, min_frames: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Bring a batch with any padding into the form that the encoder needs, padded on the right with zeros.

    Args:
        input_values: (B, S) samples.
        input_values_mask: (B, S), nonzero at real samples, which are one run in every row. `None`: all samples are real.
        min_frames: The batch is padded until it gives at least as many frames.

    Returns:
        The samples (B, S'), the counts of the real samples (B,), and the counts of their frames (B,). A row that
        is too short for one frame counts as if the silence up to one frame were part of it, in any batch.
    """
    batch_size, samples = input_values.shape
    if input_values_mask is None:
        lengths = torch.full((batch_size,), samples, device=input_values.device)
    else:
        mask = input_values_mask.bool()
        lengths, padded, late = mask.sum(-1), True, True
        # A traced graph has to fit any mask. A mask on a GPU is not read: to read it is to wait until the GPU is idle.
        if mask.device.type == "cpu" and not is_tracing(mask):
            padded, late = (~torch.stack([mask.all(), mask[:, 0].all()])).tolist()
        positions = torch.arange(samples, device=input_values.device)
        if late:  # left padding: roll each row to its first real sample
            start = mask.int().argmax(-1, keepdim=True)
            input_values = input_values.gather(
                1, (positions + start).clamp(max=samples - 1)
            )  # what is read past the end is masked below
        if padded:
            input_values = input_values.masked_fill(positions >= lengths[:, None], 0.0)
    lengths = lengths.clamp(min=receptive_field(config))
    missing = receptive_field(config, min_frames) - samples
    if missing > 0:
        input_values = nn.functional.pad(input_values, (0, missing))
    return input_values, lengths, _convolved_length(lengths, config.conv_kernel, config.conv_stride)


@torch.compiler.disable  # UncompiledFeatureEncoder says why
def _with_masks(config, input_values: torch.Tensor, input_values_mask: torch.Tensor | None, min_frames: int):
    """Samples (B, S) and counts (B,) of `prepare_samples`, and masks (B, S) and (B, F), True at real samples and frames."""
    input_values, lengths, frame_counts = prepare_samples(config, input_values, input_values_mask, min_frames)
    samples = input_values.shape[1]
    frames = _convolved_length(samples, config.conv_kernel, config.conv_stride)  # an integer: exports stay dynamic
    attention_mask = torch.arange(samples, device=input_values.device) < lengths[:, None]
    frame_mask = torch.arange(frames, device=input_values.device) < frame_counts[:, None]
    return input_values, lengths, attention_mask, frame_mask


def _masks_time(tower: Any) -> bool:
    """Whether SpecAugment masks frames of a tower: in training, where the configuration asks for it."""
    return tower.training and getattr(tower.config, "apply_spec_augment", True) and tower.config.mask_time_prob > 0


@torch.compiler.disable  # numpy draws
def _masked_frames(config, frame_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Draw the frames that SpecAugment masks in a training step, as every tower of the family draws them.

    A tower that draws them itself waits for a GPU two times, behind its CNN encoder: for the numbers of frames, and for the
    number of masked frames, since it writes to them by a mask. Here the numbers of frames are read before the tower begins,
    and the tower gets indices, which it writes to without a wait. Numpy's generator is asked for the same numbers.

    Returns:
        Index of the row and index of the frame of every masked frame.
    """
    masked = _compute_mask_indices(
        (frame_mask.shape[0], frame_mask.shape[1]),
        config.mask_time_prob,
        config.mask_time_length,
        None if config.model_type == "hubert" else cast(Any, frame_mask),  # HuBERT draws among the padded frames too
        config.mask_time_min_masks,
    )
    rows, frames = torch.from_numpy(masked).nonzero(as_tuple=True)
    return rows.to(frame_mask.device, non_blocking=True), frames.to(frame_mask.device, non_blocking=True)


def _masks_of_blocks(tower: Any, attention_mask: torch.Tensor, frame_mask: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """`attention_mask` (B, S) of a conformer, and the arguments of its blocks. All are None where no frame is padded."""
    masks: dict[str, torch.Tensor | None] = {"attention_mask": attention_mask, "padding": ~frame_mask}
    # A traced graph has to fit any batch, so it cannot depend on how many frames are real. On a GPU it is not read, as in
    # `prepare_samples`; there to leave out padded frames is slower, too (benchmarks/LOG.md).
    if frame_mask.device.type == "cpu" and not is_tracing(frame_mask):
        if frame_mask.all():
            return {"attention_mask": None}
        real_frames = frame_mask.flatten().nonzero()[:, 0]  # (N,)
        if len(real_frames) <= (1 - PACKED_FROM) * frame_mask.numel():
            masks["real_frames"] = real_frames
    # The stock encoder would read whether anything is padded, for an attention without a mask. In training nearly every
    # batch is padded, and the blocks get the mask without a wait for that answer.
    if tower.training and tower.config._attn_implementation == "sdpa":
        masks |= {"attention_mask": None, "attended": frame_mask[:, None, None]}
    return masks


def encode_speech(
    speech_model: nn.Module,
    input_values: torch.Tensor,
    input_values_mask: torch.Tensor | None = None,
    padding_safe: bool = True,
    **kwargs,
):
    """
    Run a speech tower over a padded batch.

    Args:
        speech_model: A tower of the wav2vec 2.0 family. With `padding_safe`, `make_padding_safe` has prepared it.
        input_values: (B, S) samples at the tower's rate.
        input_values_mask: (B, S), nonzero at real samples, with padding on either side. `None`: all samples are real.
        padding_safe: Whether the frames must not depend on the padding.

    Returns:
        The tower's output with hidden states (B, F, D), padded on the right, and the mask (B, F), True at real frames. The
        values at padded frames have no meaning.

    Raises:
        ValueError: `input_values` are not samples, for example tokens that were passed in their place.
    """
    if input_values.ndim != 2 or not input_values.is_floating_point():
        raise ValueError(
            f"input_values must be samples (B, S) of a floating type, got shape {tuple(input_values.shape)} of "
            f"{input_values.dtype}: tokens are passed as input_ids=..."
        )
    tower: Any = speech_model  # torch declares every attribute of a module as a tensor or a module
    if input_values.dtype in (torch.float32, torch.float64):  # bare samples for a tower in half precision
        input_values = input_values.to(tower.dtype)
    config = tower.config
    masks_time = kwargs.get("mask_time_indices") is None and _masks_time(tower)
    # The type that torch.compiler.disable declares for a function loses its parameters.
    samples, lengths, attention_mask, frame_mask = _with_masks(
        config,
        input_values,  # pyright: ignore[reportCallIssue]
        input_values_mask,
        config.mask_time_length if masks_time and padding_safe else 1,  # SpecAugment refuses less than one masked span
    )
    if masks_time:
        kwargs["mask_time_indices"] = _masked_frames(config, frame_mask)  # pyright: ignore[reportCallIssue]
    if padding_safe:
        # Attributes are read here, not classes, because a compiled layer is an instance of another class.
        if getattr(tower.feature_extractor, "takes_counts", False):
            samples = (samples, lengths)
        if any(getattr(layer, "takes_padding", False) for layer in tower.encoder.layers):
            kwargs |= _masks_of_blocks(tower, attention_mask, frame_mask)
            attention_mask = kwargs.pop("attention_mask")
    output = tower(samples, attention_mask=attention_mask, return_dict=True, **kwargs)
    return output, frame_mask


def extract_features(
    speech_model: nn.Module, input_values: torch.Tensor, input_values_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Run the CNN encoder and its layer norm, without any transformer layer, for the features that a quantizer reads.

    Returns:
        Features (B, F, conv_dim[-1]) and the mask (B, F), True at real frames.
    """
    tower: Any = speech_model
    samples, lengths, frame_counts = prepare_samples(tower.config, input_values, input_values_mask)
    if getattr(tower.feature_extractor, "takes_counts", False):
        samples = (samples, lengths)
    features = tower.feature_extractor(samples).transpose(1, 2)  # (B, F, conv_dim[-1])
    features = tower.feature_projection.layer_norm(features)
    return features, torch.arange(features.shape[1], device=features.device) < frame_counts[:, None]
