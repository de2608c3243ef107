"""Cross-modal attention with statistics pooling for emotion recognition, after Krishna 2021 (arXiv 2108.09669).

Only that paper's abstract was at hand: two pre-trained towers, attention in both directions between speech and words,
statistics pooling, early fusion, and unimodal models to compare with. All details are this package's choice.

This file travels with every checkpoint.

Shapes: B batch, S samples, T text tokens, F speech frames, N positions of either, M those attended to, h attention heads,
C emotion classes, D `hidden_size`, d a tower's width.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput, ModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, logging

from .configuration_cross_modal import CrossModalConfig
from .losses_lemer import class_loss, concordance_loss
from .towers_lemer import TwoTowerModel, load_towers, mask_of_samples

logger = logging.get_logger(__name__)


@dataclass
class CrossModalOutput(ModelOutput):
    """
    What `CrossModalModel` returns.

    Values at padded tokens and frames mean nothing, and no softmax or statistic reads them.

    Attributes:
        loss: the cross-entropy, and the weighted attribute loss if there is one; with `labels`.
        logits (B, C): classification scores.
        classification_loss: the cross-entropy alone.
        attributes (B, A): predicted attributes on the scale of the corpus; with `attributes` in the configuration.
        attribute_loss: 1 - CCC of them, unweighted.
        pooler_output (B, 4 D): mean and standard deviation over tokens, then over frames; (B, 2 D) in a unimodal model.
        frame_mask (B, F): True where a frame is real. For tokens `attention_mask` says so.
        text_attentions (B, h, T, M), speech_attentions (B, h, F, M): what tokens and frames attend to; each row sums to 1
            over real positions. M is F and T with cross-modal attention, T and F with self-attention. With
            `output_attentions`.
        text_model_output, speech_model_output: what the towers returned, `last_hidden_state` (B, T, d) and (B, F, d).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    classification_loss: torch.Tensor | None = None
    attributes: torch.Tensor | None = None
    attribute_loss: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None
    text_attentions: torch.Tensor | None = None
    speech_attentions: torch.Tensor | None = None
    text_model_output: BaseModelOutput | None = None
    speech_model_output: BaseModelOutput | None = None

    def to_tuple(self) -> tuple:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in super().to_tuple())


def statistics_pooling(values: torch.Tensor, mask: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """
    Mean and standard deviation of (B, N, D) over the positions where `mask` (B, N) is True, (B, 2 D).

    The deviation is the square root of `eps` plus the variance, which is the mean square (divided by N, not by N - 1). So it
    exists for a single position, and its gradient is finite where all positions are equal. Sums run in float32.
    """
    padding, count = ~mask[..., None], mask.sum(1, keepdim=True)  # (B, N, 1), (B, 1)
    hidden = values.float().masked_fill(padding, 0.0)
    mean = hidden.sum(1) / count  # (B, D)
    variance = (hidden - mean[:, None]).masked_fill(padding, 0.0).square().sum(1) / count  # (B, D)
    return torch.cat([mean, torch.sqrt(variance + eps)], dim=-1).to(values.dtype)  # (B, 2 D)


class MaskedConvolution(nn.Conv1d):
    """Convolution over positions that reads zeros where padding is, (B, N, d) -> (B, N, D)."""

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states.masked_fill(~mask[..., None], 0.0)
        return super().forward(hidden_states.transpose(1, 2)).transpose(1, 2)


class AttendingBlock(nn.Module):
    """Multi-head attention of one sequence (B, N, D) onto another (B, M, D) or itself, residual and layer norm."""

    def __init__(self, hidden_size: int, num_attention_heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(hidden_size, num_attention_heads, batch_first=True)
        self.layer_norm = nn.LayerNorm(hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, others: torch.Tensor, others_mask: torch.Tensor, output_attentions: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        attended, weights = self.attention(
            hidden_states,
            others,
            others,
            key_padding_mask=~others_mask,
            need_weights=output_attentions,
            average_attn_weights=False,
        )  # (B, N, D), (B, h, N, M)
        return self.layer_norm(hidden_states + attended), weights


class CrossModalModel(TwoTowerModel):
    """
    Two towers, a branch on each, early fusion and a classifier.

    A branch is a convolution to the common width, attention onto the other branch (or itself), and statistics pooling.

    Modules (None where the modality has none): `speech_model` and `text_model`, the towers; `speech_convolution`,
    `text_convolution`, `speech_attends`, `text_attends`, the branches; `classifier`.
    """

    config: CrossModalConfig
    # None where the modality has none.
    attribute_head: nn.Linear | None
    text_convolution: Any
    text_attends: Any
    speech_convolution: Any
    speech_attends: Any
    classifier: nn.Sequential
    config_class = CrossModalConfig
    base_model_prefix = "cross_modal"

    def __init__(self, config: CrossModalConfig):
        super().__init__(config)
        size, multimodal = config.hidden_size, config.modality == "multimodal"

        self.text_convolution = self.text_attends = None
        if config.uses_text:
            self.text_convolution = self._convolution(config.text_config.hidden_size)
            self.text_attends = AttendingBlock(size, config.num_attention_heads)
        self.speech_convolution = self.speech_attends = None
        if config.uses_speech:
            self.speech_convolution = self._convolution(config.speech_config.hidden_size)
            self.speech_attends = AttendingBlock(size, config.num_attention_heads)
        self.classifier = nn.Sequential(
            nn.Linear((4 if multimodal else 2) * size, size),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(size, config.num_labels),
        )
        self.attribute_head = self.make_attribute_head((4 if multimodal else 2) * size)
        self.finish()

    def _convolution(self, tower_size: int) -> MaskedConvolution:
        return MaskedConvolution(tower_size, self.config.hidden_size, self.config.kernel_size, padding="same")

    @classmethod
    def from_towers(cls, speech: str | None, text: str | None, **config) -> "CrossModalModel":
        """
        A model over the towers of two checkpoints, in evaluation mode; branches and classifier are new.

        Args:
            speech: Folder or Hub name of a wav2vec 2.0 checkpoint or of a finished model; None for `modality="text"`.
            text: Folder or Hub name of a BERT checkpoint or of a finished model; None for `modality="speech"`.
            **config: Fields of `CrossModalConfig`; `speech_config` and `text_config` are dicts of changes to the towers'
                own.
        """
        towers = load_towers(speech, text, config)
        configs = {"speech_config": towers.speech_config, "text_config": towers.text_config}
        model = cls(CrossModalConfig(**{**config, **configs}))
        towers.copy_into(model)
        return model.eval()

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        input_values_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        attribute_values: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],  # pyright: ignore[reportGeneralTypeIssues]  # it names output_attentions too
    ) -> CrossModalOutput:
        r"""
        Args:
            input_values (B, S): samples at 16 kHz, normalised per utterance as `LemerProcessor` does.
            input_ids (B, T): tokens of the earlier turns and the current one.
            input_values_mask (B, S): nonzero where a sample is real. None: all are.
            attention_mask (B, T): nonzero where a token is real; without tokens, the mask of the samples. None: all are.
            token_type_ids (B, T): 0 for the earlier turns, 1 for the current one.
            labels (B,): index of the class; -100 is left out of the cross-entropy. Or (B, C): a distribution of classes,
                such as votes; a row of zeros is left out.
            attribute_values (B, A): attributes on the scale of the corpus, NaN where they are not known.
            output_attentions: return the branches' attentions, and the towers' own where they run with "eager".
            output_hidden_states: return the hidden states of every layer of the towers.

        A unimodal model takes only its own modality, a multimodal one needs both.
        """
        self.check_inputs(input_values, input_ids)
        input_values_mask = mask_of_samples(input_ids, input_values_mask, attention_mask)
        output_attentions, output_hidden_states = self.resolve_outputs(output_attentions, output_hidden_states)
        out: Any = CrossModalOutput()
        out.text_model_output, token_mask, out.speech_model_output, out.frame_mask = self.run_towers(
            input_values,
            input_ids,
            input_values_mask,
            attention_mask,
            token_type_ids,
            output_attentions,
            output_hidden_states,
            **kwargs,  # pyright: ignore[reportCallIssue]  # it names output_attentions too
        )

        # Each branch has hidden states (B, N, D), and a mask (B, N) of the positions that are real.
        text: Any = None
        speech: Any = None
        if input_ids is not None:
            text = self.text_convolution(out.text_model_output.last_hidden_state, token_mask), token_mask
        if input_values is not None:
            speech = self.speech_convolution(out.speech_model_output.last_hidden_state, out.frame_mask), out.frame_mask

        out.pooler_output = self._attend_and_pool(out, text, speech, output_attentions)  # (B, 4 D) or (B, 2 D)
        # Early fusion: the classifier reads both branches at once.
        out.logits = self.classifier(out.pooler_output)  # (B, C)
        out.attributes = self.predict_attributes(out.pooler_output)  # (B, A)
        if labels is not None:
            self._add_losses(out, labels, attribute_values)
        # A ModelOutput keeps the order of assignment; as a tuple it has to begin with the loss and the logits.
        return CrossModalOutput(**{field.name: getattr(out, field.name) for field in fields(out)})

    def _add_losses(self, out: Any, labels: torch.Tensor, attribute_values: torch.Tensor | None) -> None:
        """The loss of the classes, and the weighted one of the attributes where there are some."""
        out.loss = out.classification_loss = class_loss(out.logits, labels, self.config.class_weights)
        if out.attributes is not None and attribute_values is not None:
            out.attribute_loss = concordance_loss(out.attributes, attribute_values)
            out.loss = out.loss + self.config.attribute_loss_weight * out.attribute_loss

    def _attend_and_pool(self, out: Any, text: Any, speech: Any, output_attentions: bool) -> torch.Tensor:
        """
        Attention of each branch onto the other one or itself, then statistics pooling, (B, 4 D) or (B, 2 D).

        `text` and `speech` are hidden states (B, N, D) and masks (B, N), or None; `out` gets the attentions.
        """
        crossed = self.config.modality == "multimodal" and self.config.attention == "cross"
        others: Any
        pooled = []
        if text is not None:
            others = speech if crossed else text
            hidden_states, out.text_attentions = self.text_attends(text[0], *others, output_attentions)  # (B, T, D)
            pooled.append(statistics_pooling(hidden_states, text[1]))
        if speech is not None:
            others = text if crossed else speech
            hidden_states, out.speech_attentions = self.speech_attends(speech[0], *others, output_attentions)  # (B, F, D)
            pooled.append(statistics_pooling(hidden_states, speech[1]))
        return torch.cat(pooled, dim=-1)


CrossModalModel.register_for_auto_class("AutoModel")

__all__ = ["CrossModalModel", "CrossModalOutput"]
