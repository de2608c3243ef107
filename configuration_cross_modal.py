"""Configuration of the cross-modal attention model after Krishna 2021: the two towers, and the layers on top of them.

This file travels with every checkpoint.
"""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .configuration_lemer import TowerConfig, TowersAndLabels


@strict
class CrossModalConfig(TowersAndLabels, PreTrainedConfig):
    r"""
    Configuration of `CrossModalModel`, after Krishna 2021 (arXiv 2108.09669). That paper's abstract names the parts; the
    sizes are choices of this package.

    Args:
        speech_config (dict or PreTrainedConfig, optional, defaults to a wav2vec 2.0 conformer):
            The speech tower: `wav2vec2-conformer`, `wav2vec2` or another encoder of that family.
        text_config (dict or PreTrainedConfig, optional, defaults to BERT):
            The text tower: `bert` or another bidirectional encoder. Its width may differ from the speech tower's.
        modality (str, defaults to "multimodal"):
            `"multimodal"`, `"speech"` or `"text"`. A unimodal model has no tower and no branch for the other modality.
        attention (str, defaults to "cross"):
            What a branch attends to: `"cross"` the other branch, `"self"` itself. A unimodal model always attends to itself.
        hidden_size (int, defaults to 256): Width of both branches and of the classifier's hidden layer.
        kernel_size (int, defaults to 3): Positions that the convolution of each branch reads; odd.
        num_attention_heads (int, defaults to 8): Heads of each attention, a divisor of `hidden_size`.
        dropout (float, defaults to 0.1): Dropout after the classifier's hidden layer; there is none in the branches.
        padding_safe (bool, defaults to True):
            Keep padding out of every speech frame (see `speech_encoder_lemer.py`). `False` restores the stock encoder,
            in which an utterance's answer depends on the batch it is in.
        class_weights (list[float], optional):
            How often an utterance of each class counts in the losses, in the order of the classes; None: once.
        attributes (dict[str, list[float]], optional):
            Attributes that a head on the classifier's input predicts beside the classes, such as valence: name -> mean and
            deviation of the training split, which its outputs are scaled by. They come in alphabetical order. None: no head.
        attribute_loss_weight (float, defaults to 1.0): Weight of 1 - CCC of the attributes.
        temperatures (dict[str, float], optional):
            What the logits are divided by before their softmax is shown as scores, by modality, as in `LemerConfig`.
        checksums (dict, optional): Of the files of a saved checkpoint; see `integrity_lemer.py`. None in a loaded model.
        id2label, label2id (dict, optional, default to ang, hap, neu, sad): The classes, in the order of the logits.
    """

    model_type = "lemer_cross_modal"
    # One checkpoint opens through each of these Auto classes.
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_cross_modal.CrossModalConfig",
        "AutoModel": "modeling_cross_modal.CrossModalModel",
        "AutoModelForAudioClassification": "modeling_cross_modal.CrossModalModel",
        "AutoModelForSequenceClassification": "modeling_cross_modal.CrossModalModel",
    }
    sub_configs_defaults: ClassVar[dict] = {
        "speech_config": SubConfigSpec(AutoConfig, model_type="wav2vec2-conformer", optional=True),
        "text_config": SubConfigSpec(AutoConfig, model_type="bert", optional=True),
    }
    # Un-annotated: annotated it would become a field. Trainer.evaluate stacks every other output over batches.
    keys_to_ignore_at_inference = [  # noqa: RUF012
        "classification_loss",
        "pooler_output",
        "attributes",
        "attribute_loss",
        "frame_mask",
        "text_attentions",
        "speech_attentions",
        "text_model_output",
        "speech_model_output",
    ]

    speech_config: TowerConfig = None
    text_config: TowerConfig = None
    modality: Literal["multimodal", "speech", "text"] = "multimodal"
    attention: Literal["cross", "self"] = "cross"
    hidden_size: int = 256
    kernel_size: int = 3
    num_attention_heads: int = 8
    dropout: float | int = 0.1
    padding_safe: bool = True
    class_weights: list | None = None
    attributes: dict[str, list] | None = None
    attribute_loss_weight: float | int = 1.0
    temperatures: dict[str, float] | None = None
    checksums: dict | None = None

    def validate_branches(self):
        """Part of `@strict` validation: the sizes of the branches can be built."""
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that it has a middle, got {self.kernel_size}")
        if self.num_attention_heads < 1 or self.hidden_size < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}"
            )
        if not self.attribute_loss_weight >= 0:
            raise ValueError(f"attribute_loss_weight must be at least 0, got {self.attribute_loss_weight}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")


CrossModalConfig.register_for_auto_class()

__all__ = ["CrossModalConfig"]
