"""LE-MER: label-enhanced multimodal emotion recognition (arXiv 2309.02106), one section of code per section of the paper.

This file travels with every checkpoint.

Shapes: B batch, S samples, T text tokens, F speech frames, C emotion classes, d_t text width, d_s speech width,
d_q width of the space in which frames meet tonal labels. The paper's letters stand in comments: H hidden states,
L label embeddings, G label attention, A_r cross-modal attention, A_l label-guided attention.
"""

import inspect
from dataclasses import dataclass, fields

import torch
from torch import nn
from transformers import (
    MODEL_FOR_PRETRAINING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, ModelOutput
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, logging

from .configuration_lemer import LemerConfig
from .speech_encoder_lemer import encode_speech, make_padding_safe

logger = logging.get_logger(__name__)


@dataclass
class LemerOutput(ModelOutput):
    """
    What [`LemerModel`] returns. Values at padded tokens or frames mean nothing; no mean, maximum, softmax or loss saw them.

    Attributes:
        loss: eq. 12, the weighted sum of the losses below; with `labels`.
        logits (B, C): classification scores; of the one branch that could answer where a modality was not given.
        text_label_logits, speech_label_logits (B, C): mean of G_t over tokens, of G_s over frames; cosines, -1 to 1.
        classification_loss, constraint_loss, text_label_loss, speech_label_loss: eq. 11, 10, 3 and 6, unweighted.
        pooler_output (B, d_t + d_s): the vector v that is classified; (B, d_t) or (B, d_s) in a unimodal model.
        label_token_attentions (B, T, C): G_t, eq. 1.
        label_frame_attentions (B, F, C): G_s, eq. 4.
        frame_mask (B, F): True where a frame is real; `attention_mask` says it of tokens.
        cross_attentions (B, T, F): A_r, eq. 7, each row sums to 1 over real frames; with `output_attentions`.
        label_guided_attentions (B, T, F): A_l, eq. 9; with `output_attentions`.
        text_model_output, speech_model_output: what the towers returned, `last_hidden_state` H_t (B, T, d_t) and
            H_s (B, F, d_s).
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    text_label_logits: torch.FloatTensor | None = None
    speech_label_logits: torch.FloatTensor | None = None
    classification_loss: torch.FloatTensor | None = None
    constraint_loss: torch.FloatTensor | None = None
    text_label_loss: torch.FloatTensor | None = None
    speech_label_loss: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    label_token_attentions: torch.FloatTensor | None = None
    label_frame_attentions: torch.FloatTensor | None = None
    frame_mask: torch.BoolTensor | None = None
    cross_attentions: torch.FloatTensor | None = None
    label_guided_attentions: torch.FloatTensor | None = None
    text_model_output: BaseModelOutput | None = None
    speech_model_output: BaseModelOutput | None = None

    def to_tuple(self) -> tuple:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in super().to_tuple())


# --------------------------------------------------------------------- sections 2.1 and 2.2: attention to the labels


def label_attention(hidden_states: torch.Tensor, label_embeddings: torch.Tensor) -> torch.Tensor:
    """Eq. 1 and 4: cosine of every position (B, N, d) with every label (C, d), (B, N, C) from -1 to 1."""
    hidden_states = nn.functional.normalize(hidden_states, dim=-1)
    label_embeddings = nn.functional.normalize(label_embeddings.to(hidden_states.dtype), dim=-1)
    return hidden_states @ label_embeddings.T  # (B, N, C)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of (B, N, d) over the positions where `mask` (B, N) is True, (B, d)."""
    total = values.masked_fill(~mask[..., None], 0.0).sum(1)  # (B, d)
    return total / mask.sum(1, keepdim=True)


def masked_max(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Maximum of (B, N, d) over the positions where `mask` (B, N) is True, (B, d)."""
    return values.masked_fill(~mask[..., None], torch.finfo(values.dtype).min).amax(1)


# -------------------------------------------------------------------------------- section 2.3: label-guided fusion


class BilinearAlignment(nn.Module):
    """
    Cross-modal attention of tokens to frames (eq. 7), A_r = softmax over frames of H_t W^T H_s^T with W (d_s, d_t).

    As printed, H_t H_s^T W, the shapes do not multiply; this is the bilinear form that the text describes.
    """

    def __init__(self, speech_size: int, text_size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(speech_size, text_size))

    def forward(self, text: torch.Tensor, speech: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
        scores = nn.functional.linear(text, self.weight) @ speech.transpose(1, 2)  # (B, T, F)
        return scores.masked_fill(~frame_mask[:, None], torch.finfo(scores.dtype).min).softmax(-1)


def attention_constraint(
    label_guided: torch.Tensor, cross: torch.Tensor, token_mask: torch.Tensor, frame_mask: torch.Tensor
) -> torch.Tensor:
    """Eq. 10: mean square of A_l - A_r (B, T, F) over the batch's real pairs of a token and a frame."""
    pairs = token_mask[:, :, None] & frame_mask[:, None]  # (B, T, F)
    return (label_guided - cross).masked_fill(~pairs, 0.0).square().sum() / pairs.sum()


# ------------------------------------------------------------------------------------------------------- the model


class LemerPreTrainedModel(PreTrainedModel):
    config: LemerConfig
    config_class = LemerConfig
    base_model_prefix = "lemer"
    main_input_name = "input_values"
    input_modalities = ("audio", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the losses are means over the batch: Trainer has to divide by accumulation steps
    _supports_sdpa = True
    _supports_flex_attn = True
    _no_split_modules = ["Wav2Vec2ConformerEncoderLayer", "PaddingSafeConformerLayer"]

    @classmethod
    def is_custom_code(cls) -> bool:
        # Else the towers' own initialisation is skipped for modules that own no tensor themselves. Safe, since
        # `_init_weights` below uses only functions that leave loaded tensors alone.
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, LemerModel):
            if module.config.use_label_embeddings:  # rows A3 and B3; every other row sets them from the training split
                for name in ("semantic_label_embeddings", "tonal_label_embeddings"):
                    if getattr(module, name) is not None:
                        init.normal_(getattr(module, name))
        elif isinstance(module, BilinearAlignment):
            # Scores of unit variance for layer-normed towers of any width: neither uniform nor saturated at the start.
            init.normal_(module.weight, std=module.weight.numel() ** -0.5)
        elif isinstance(module, Wav2Vec2GumbelVectorQuantizer):
            init.normal_(module.weight_proj.weight, mean=0.0, std=1.0)
            init.zeros_(module.weight_proj.bias)
            init.uniform_(module.codevectors)


class LemerModel(LemerPreTrainedModel):
    """
    LE-MER, whole: a wav2vec 2.0 tower, a BERT tower, attention of both to the labels, fusion, classifier and losses.

    Modules and buffers (None where the configuration does not need them):
        speech_model, text_model: the towers.
        speech_label_projection: Linear d_s -> d_q, the pre-training checkpoint's `project_hid`; trainable.
        speech_quantizer, speech_code_projection: the checkpoint's codebook and `project_q`; frozen, not run by `forward`,
            kept so that label embeddings and key frames can be made with any checkpoint.
        cross_attention: W of eq. 7, (d_s, d_t).
        classifier: Linear to the C classes.
        semantic_label_embeddings (C, d_t), tonal_label_embeddings (C, d_q): L_t and L_s, buffers
            (parameters with `train_label_embeddings`).
    """

    def __init__(self, config: LemerConfig):
        super().__init__(config)
        # A checkpoint may have been loaded with other labels than its own.
        config.label2id = {label: index for index, label in config.id2label.items()}
        for field in config.wrongly_described():
            logger.warning(f"{field} of the configuration are of other labels and dropped: build the label embeddings anew")
            setattr(config, field, None)
        text_size = config.text_config.hidden_size if config.uses_text else 0
        speech_size = config.speech_config.hidden_size if config.uses_speech else 0
        labels = config.num_labels

        self.text_model = None
        if config.uses_text:
            self.text_model = AutoModel.from_config(config.text_config, **_without_pooler(config.text_config))
        self.speech_model = AutoModel.from_config(config.speech_config) if config.uses_speech else None
        self.speech_label_projection = self.speech_quantizer = self.speech_code_projection = None
        if config.uses_speech:
            if config.padding_safe:
                make_padding_safe(self.speech_model)
            if config.use_label_embeddings:
                projected = config.speech_label_space == "projected"
                if projected:
                    self.speech_label_projection = nn.Linear(speech_size, config.tonal_label_size)
                if config.keep_quantizer:
                    self.speech_quantizer = Wav2Vec2GumbelVectorQuantizer(config.speech_config)
                if config.keep_quantizer and projected:
                    code_size = config.speech_config.codevector_dim
                    self.speech_code_projection = nn.Linear(code_size, config.tonal_label_size)
        multimodal = config.modality == "multimodal"
        self.cross_attention = None
        if multimodal and config.fusion != "label":
            self.cross_attention = BilinearAlignment(speech_size, text_size)
        self.classifier = nn.Linear(text_size + speech_size, labels)
        with_labels = config.use_label_embeddings
        self._register_labels("semantic_label_embeddings", labels, text_size if with_labels else 0)
        self._register_labels(
            "tonal_label_embeddings", labels, config.tonal_label_size if with_labels and config.uses_speech else 0
        )
        self.main_input_name = "input_values" if config.uses_speech else "input_ids"
        self.post_init()
        self._freeze_uncalled()

    def _freeze_uncalled(self):
        """Freeze what `forward` never calls: a parameter without a gradient stops training on several processes."""
        for module in (self.speech_quantizer, self.speech_code_projection):
            if module is not None:
                module.requires_grad_(False)
        if self.speech_model is not None:
            config = self.speech_model.config
            if config.model_type == "wav2vec2-conformer":
                self.speech_model.encoder.pos_conv_embed.requires_grad_(False)
            masks_time = getattr(config, "apply_spec_augment", True) and config.mask_time_prob > 0
            if hasattr(self.speech_model, "masked_spec_embed") and not masks_time:
                self.speech_model.masked_spec_embed.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._freeze_uncalled()  # loading puts new parameters in the place of the frozen ones
        return loaded

    def _register_labels(self, name: str, labels: int, size: int):
        if size == 0:
            setattr(self, name, None)
        elif self.config.train_label_embeddings:
            setattr(self, name, nn.Parameter(torch.empty(labels, size)))
        else:
            self.register_buffer(name, torch.empty(labels, size))

    def get_input_embeddings(self) -> nn.Module | None:
        return self.text_model.get_input_embeddings() if self.text_model is not None else None

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)

    @classmethod
    def from_towers(cls, speech: str | None, text: str | None, **config) -> "LemerModel":
        """
        A model over two pre-training checkpoints, in evaluation mode; classifier, alignment and labels are new.

        The projections and the codebook of wav2vec 2.0's quantizer are kept for the tonal labels. What a checkpoint lacks
        is said in a warning, and `keep_quantizer` of the configuration tells it afterwards.

        Args:
            speech: Folder or Hub name of a wav2vec 2.0 checkpoint, best a `...ForPreTraining` one; None for
                `modality="text"`.
            text: Folder or Hub name of a BERT checkpoint; None for `modality="speech"`.
            **config: Fields of [`LemerConfig`]; `speech_config` and `text_config` are dicts of changes to the towers' own.
        """
        modality = config.get("modality", "multimodal")
        changes = {name: config.pop(name, None) or {} for name in ("speech_config", "text_config")}
        for name, tower, needed in (("speech", speech, modality != "text"), ("text", text, modality != "speech")):
            if needed and tower is None:
                raise ValueError(f"modality={modality!r} needs a {name} tower, got None: give a folder or a Hub name")
        quantized = None
        if modality != "text":
            speech_config = _changed_config(speech, changes["speech_config"])
            speech_model, quantized = _load_speech_tower(speech, speech_config)
            config["speech_config"] = speech_config
            config["keep_quantizer"] = quantized is not None and config.get("keep_quantizer", True)
        if modality != "speech":
            config["text_config"] = _changed_config(text, changes["text_config"])
            text_model = AutoModel.from_pretrained(
                text, config=config["text_config"], dtype=torch.float32, **_without_pooler(config["text_config"])
            )

        model = cls(LemerConfig(**config))
        if model.speech_model is not None:
            model.speech_model.load_state_dict(speech_model.state_dict())
        if model.text_model is not None:
            model.text_model.load_state_dict(text_model.state_dict())
        if quantized is not None:
            for module, source in (
                (model.speech_label_projection, quantized.project_hid),
                (model.speech_quantizer, quantized.quantizer),
                (model.speech_code_projection, quantized.project_q),
            ):
                if module is not None:
                    module.load_state_dict(source.state_dict())
        return model.eval()

    def _check_inputs(self, input_values, input_ids):
        given = {"input_values": input_values is not None, "input_ids": input_ids is not None}
        taken = {"input_values": self.config.uses_speech, "input_ids": self.config.uses_text}
        for name in given:
            if given[name] and not taken[name]:
                raise ValueError(f"a model with modality={self.config.modality!r} takes no {name}: leave it out")
        if not any(given.values()):
            raise ValueError(f"got neither input_values nor input_ids; this model takes {[n for n in taken if taken[n]]}")
        if given != taken and not self.config.use_label_embeddings:
            raise ValueError(
                "one modality is missing, and without label embeddings (use_label_embeddings=False) no branch can answer "
                "alone: give both input_values and input_ids"
            )

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        input_values_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LemerOutput:
        r"""
        Args:
            input_values (B, S): samples at 16 kHz, normalised per utterance as [`LemerProcessor`] does.
            input_ids (B, T): tokens of the earlier turns and the current one.
            input_values_mask (B, S): nonzero where a sample is real. None: all are.
            attention_mask (B, T): nonzero where a token is real. None: all are.
            token_type_ids (B, T): 0 for the earlier turns, 1 for the current one.
            labels (B,): index of the class; -100 is left out of the cross-entropies.
            output_attentions: return A_r and A_l, and the towers' own attentions where they run with "eager".
            output_hidden_states: return the hidden states of every layer of the towers.

        A unimodal model takes only its own modality. A multimodal one answers from the label branch of the one given.
        """
        self._check_inputs(input_values, input_ids)
        config = self.config
        if output_attentions is None:
            output_attentions = config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = config.output_hidden_states
        kwargs.pop("num_items_in_batch", None)
        out = LemerOutput()

        # 2.1 text branch
        text = token_mask = None
        if input_ids is not None:
            token_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            if token_type_ids is not None:
                kwargs_text = {**kwargs, "token_type_ids": token_type_ids}
            else:
                kwargs_text = kwargs
            out.text_model_output = self.text_model(
                input_ids=input_ids,
                attention_mask=token_mask,
                output_attentions=output_attentions and config.text_config._attn_implementation == "eager",
                output_hidden_states=output_hidden_states,
                return_dict=True,
                **kwargs_text,
            )
            text, token_mask = out.text_model_output.last_hidden_state, token_mask.bool()  # H_t (B, T, d_t), (B, T)
            if config.use_label_embeddings:
                out.label_token_attentions = label_attention(text, self.semantic_label_embeddings)  # G_t (B, T, C)
                out.text_label_logits = masked_mean(out.label_token_attentions, token_mask)  # (B, C)

        # 2.2 speech branch
        speech = frame_mask = None
        if input_values is not None:
            out.speech_model_output, frame_mask = encode_speech(
                self.speech_model,
                input_values,
                input_values_mask,
                padding_safe=config.padding_safe,
                output_attentions=output_attentions and config.speech_config._attn_implementation == "eager",
                output_hidden_states=output_hidden_states,
                **kwargs,
            )
            speech, out.frame_mask = out.speech_model_output.last_hidden_state, frame_mask  # H_s (B, F, d_s), (B, F)
            if config.use_label_embeddings:
                project = self.speech_label_projection
                projected = speech if project is None else project(speech)  # (B, F, d_q)
                out.label_frame_attentions = label_attention(projected, self.tonal_label_embeddings)  # G_s (B, F, C)
                out.speech_label_logits = masked_mean(out.label_frame_attentions, frame_mask)  # (B, C)

        # 2.3 fusion
        if config.modality == "multimodal" and (text is None or speech is None):
            out.logits = out.speech_label_logits if text is None else out.text_label_logits
        else:
            if config.modality == "multimodal":
                out.pooler_output = self._fuse(out, text, speech, token_mask, frame_mask, labels, output_attentions)
            elif config.modality == "text":
                out.pooler_output = masked_max(text, token_mask)  # (B, d_t)
            else:
                out.pooler_output = masked_max(speech, frame_mask)  # (B, d_s)
            out.logits = self.classifier(out.pooler_output)  # (B, C)

        # 2.4 losses
        if labels is not None:
            self._add_losses(out, labels)
        # A ModelOutput keeps the order of assignment; as a tuple it has to begin with the loss and the logits.
        return LemerOutput(**{field.name: getattr(out, field.name) for field in fields(out)})

    def _fuse(self, out, text, speech, token_mask, frame_mask, labels, output_attentions) -> torch.Tensor:
        """Eq. 7 to 10: align speech with the tokens and pool both, (B, d_t + d_s)."""
        fusion = self.config.fusion
        cross = guided = None
        if self.cross_attention is not None:
            cross = self.cross_attention(text, speech, frame_mask)  # A_r (B, T, F)
        if self.config.use_label_embeddings and (output_attentions or fusion != "cross"):
            guided = out.label_token_attentions @ out.label_frame_attentions.transpose(1, 2)  # A_l (B, T, F)
        if fusion in ("constraint", "cross"):
            weights = cross
        else:
            weights = guided.masked_fill(~frame_mask[:, None], 0.0)
            if fusion == "sum":
                weights = weights + cross
        # Padded frames have weight 0, but 0 times a value that is not finite would still spread.
        aligned = weights @ speech.masked_fill(~frame_mask[..., None], 0.0)  # H_s' (B, T, d_s)
        if fusion == "constraint" and labels is not None:
            out.constraint_loss = attention_constraint(guided, cross, token_mask, frame_mask)
        if output_attentions:
            out.cross_attentions, out.label_guided_attentions = cross, guided
        return masked_max(torch.cat([text, aligned], dim=-1), token_mask)  # v (B, d_t + d_s)

    def _add_losses(self, out: LemerOutput, labels: torch.Tensor):
        """Eq. 3, 6, 11 and 12, of whatever branches answered."""
        config = self.config
        loss = 0.0
        if out.pooler_output is not None:
            out.classification_loss = nn.functional.cross_entropy(out.logits.float(), labels)
            loss = config.classification_loss_weight * out.classification_loss
        if out.constraint_loss is not None:
            loss = loss + config.constraint_loss_weight * out.constraint_loss
        if out.text_label_logits is not None:
            out.text_label_loss = nn.functional.cross_entropy(out.text_label_logits.float(), labels)
            loss = loss + config.text_label_loss_weight * out.text_label_loss
        if out.speech_label_logits is not None:
            out.speech_label_loss = nn.functional.cross_entropy(out.speech_label_logits.float(), labels)
            loss = loss + config.speech_label_loss_weight * out.speech_label_loss
        out.loss = loss


def _changed_config(tower: str, changes: dict):
    """Configuration of a tower's checkpoint with fields changed; a field that it does not have is an error."""
    try:
        config = AutoConfig.from_pretrained(tower)
    except OSError as error:
        raise OSError(f"{tower} is no folder with a checkpoint, and no Hub name that can be reached: {error}") from error
    unknown = [name for name in changes if not hasattr(config, name)]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such field in the configuration of {tower} ({config.model_type})")
    return AutoConfig.from_pretrained(tower, **changes)


def _without_pooler(text_config) -> dict:
    """Arguments that leave out BERT's pooler, which is not used: an unused parameter stops training on several processes."""
    accepted = inspect.signature(MODEL_MAPPING[type(text_config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepted else {}


def _load_speech_tower(speech: str, config) -> tuple[nn.Module, nn.Module | None]:
    """The speech tower of a checkpoint, and the pre-training model around it if that has a trained quantizer."""
    if type(config) in MODEL_FOR_PRETRAINING_MAPPING and hasattr(config, "num_codevector_groups"):
        model, info = AutoModelForPreTraining.from_pretrained(
            speech, config=config, dtype=torch.float32, output_loading_info=True
        )
        missing = sorted(
            key for key in info["missing_keys"] if key.split(".")[0] in ("quantizer", "project_q", "project_hid")
        )
        if not missing:
            return model.base_model, model
        tower = model.base_model
    else:
        tower = AutoModel.from_pretrained(speech, config=config, dtype=torch.float32)
        missing = ["quantizer", "project_hid", "project_q"]
    logger.warning(
        f"{speech} has no {', '.join(missing)}: tonal labels cannot be taken from a codebook, and the projection of frames "
        "into the label space starts at random. Use a ...ForPreTraining checkpoint, or label embeddings from another source."
    )
    return tower, None


LemerModel.register_for_auto_class("AutoModel")

__all__ = ["LemerModel", "LemerOutput", "LemerPreTrainedModel"]
