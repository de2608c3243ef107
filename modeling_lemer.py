"""LE-MER: label-enhanced multimodal emotion recognition (arXiv 2309.02106), one section of code per section of the paper.

This file travels with every checkpoint.

Shapes: B batch, S samples, T text tokens, F speech frames, C emotion classes, d_t text width, d_s speech width,
d_q width of the space in which frames meet tonal labels. The paper's letters stand in comments: H hidden states,
L label embeddings, G label attention, A_r cross-modal attention, A_l label-guided attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, ModelOutput
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, logging

from .configuration_lemer import LemerConfig
from .functionals_lemer import FUNCTIONALS, SpeechFunctionals
from .labels_lemer import set_labels
from .losses_lemer import class_loss, concordance_loss
from .towers_lemer import TwoTowerModel, load_towers, mask_of_samples

logger = logging.get_logger(__name__)


@dataclass
class LemerOutput(ModelOutput):
    """
    What `LemerModel` returns.

    Values at padded tokens and frames mean nothing, and no mean, maximum, softmax or loss reads them.

    Attributes:
        loss: eq. 12, the weighted sum of the losses below; with `labels`.
        logits (B, C): classification scores. Where one modality was not given, those of the other one's branch.
        text_label_logits, speech_label_logits (B, C): mean of G_t over tokens, of G_s over frames (eq. 2 and 5),
            cosines from -1 to 1.
        text_branch_logits, speech_branch_logits (B, C): scores of the branch classifiers, each from one modality alone.
        classification_loss, constraint_loss, text_label_loss, speech_label_loss: eq. 11, 10, 3 and 6, unweighted.
        attributes (B, A): predicted attributes on the scale of the corpus; with `attributes` in the configuration.
        attribute_loss: 1 - CCC of them, unweighted.
        branch_loss: the cross-entropies of the branch classifiers, added up, unweighted.
        pooler_output (B, d_t + d_s): the vector v that is classified; (B, d_t) or (B, d_s) in a unimodal model, and the
            standardised functionals (B, 840) of a model that reads speech by them.
        label_token_attentions (B, T, C): G_t, eq. 1.
        label_frame_attentions (B, F, C): G_s, eq. 4.
        token_mask (B, T), frame_mask (B, F): True where a token is pooled (see `pooled_tokens`), where a frame is real.
        cross_attentions (B, T, F): A_r, eq. 7, each row sums to 1 over real frames; with `output_attentions`.
        label_guided_attentions (B, T, F): A_l, eq. 9; with `output_attentions`.
        text_model_output, speech_model_output: what the towers returned, `last_hidden_state` H_t (B, T, d_t) and
            H_s (B, F, d_s).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    text_label_logits: torch.Tensor | None = None
    speech_label_logits: torch.Tensor | None = None
    text_branch_logits: torch.Tensor | None = None
    speech_branch_logits: torch.Tensor | None = None
    classification_loss: torch.Tensor | None = None
    constraint_loss: torch.Tensor | None = None
    text_label_loss: torch.Tensor | None = None
    speech_label_loss: torch.Tensor | None = None
    attributes: torch.Tensor | None = None
    attribute_loss: torch.Tensor | None = None
    branch_loss: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    label_token_attentions: torch.Tensor | None = None
    label_frame_attentions: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None
    cross_attentions: torch.Tensor | None = None
    label_guided_attentions: torch.Tensor | None = None
    text_model_output: BaseModelOutput | None = None
    speech_model_output: BaseModelOutput | None = None

    def to_tuple(self) -> tuple:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in super().to_tuple())


# --------------------------------------------------------------------- sections 2.1 and 2.2: attention to the labels


def _classify_branch(classifier: nn.Linear | None, tower_output: Any, mask: Any) -> torch.Tensor | None:
    """Logits (B, C) of one tower's states pooled by maximum over the real ones; None without a classifier."""
    return None if classifier is None else classifier(masked_max(_hidden_states(tower_output), mask))


def _hidden_states(tower_output: Any) -> torch.Tensor:
    """The last hidden states (B, N, d) of a tower that ran."""
    return tower_output.last_hidden_state


def label_attention(hidden_states: torch.Tensor, label_embeddings: torch.Tensor) -> torch.Tensor:
    """Eq. 1 and 4: cosine of every position (B, N, d) with every label (C, d), (B, N, C) from -1 to 1."""
    hidden_states = nn.functional.normalize(hidden_states, dim=-1)
    label_embeddings = nn.functional.normalize(label_embeddings.to(hidden_states.dtype), dim=-1)
    return hidden_states @ label_embeddings.T  # (B, N, C)


def centered_labels(label_embeddings: torch.Tensor) -> torch.Tensor:
    """Label embeddings (C, d) without the mean of those that are set; a label that is not set stays 0."""
    is_set = label_embeddings.any(1, keepdim=True)  # (C, 1)
    mean = label_embeddings.sum(0) / is_set.sum().clamp(min=1)  # (d,)
    return torch.where(is_set, label_embeddings - mean, label_embeddings)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of (B, N, d) over the positions where `mask` (B, N) is True, (B, d)."""
    total = values.masked_fill(~mask[..., None], 0.0).sum(1)  # (B, d)
    return total / mask.sum(1, keepdim=True)


def masked_max(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Maximum of (B, N, d) over the positions where `mask` (B, N) is True, (B, d)."""
    return values.masked_fill(~mask[..., None], torch.finfo(values.dtype).min).amax(1)


def current_tokens(token_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
    """Of the real tokens (B, T) those of the second segment, the current utterance; where there is one segment, all."""
    current = token_mask & token_type_ids.bool()
    return current | (token_mask & ~current.any(1, keepdim=True))


# -------------------------------------------------------------------------------- section 2.3: label-guided fusion


class BilinearAlignment(nn.Module):
    """
    Cross-modal attention of tokens to frames (eq. 7), A_r = softmax over frames of H_t W^T H_s^T with W (d_s, d_t).

    The paper prints H_t H_s^T W, whose shapes do not multiply. This is the bilinear form that its text describes.
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


class LemerModel(TwoTowerModel):
    """
    The LE-MER model: a wav2vec 2.0 tower, a BERT tower, attention of both to the labels, fusion, classifier and losses.

    Modules and buffers (None where the configuration does not need them):
        speech_model, text_model: the towers.
        speech_label_projection: Linear d_s -> d_q, the pre-training checkpoint's `project_hid`; trainable.
        speech_quantizer, speech_code_projection: the checkpoint's codebook and `project_q`; frozen, not run by `forward`,
            kept so that label embeddings and key frames can be made with any checkpoint.
        speech_functionals: reads the speech in the place of a tower, with `speech_encoder="functionals"`.
        cross_attention: W of eq. 7, (d_s, d_t).
        classifier: Linear to the C classes.
        attribute_head: Linear to the attributes, with `attributes` in the configuration.
        text_classifier, speech_classifier: Linear from one tower's pooled states to the C classes, in a multimodal model
            with `branch_loss_weight`: they answer where the other modality is not given.
        semantic_label_embeddings (C, d_t), tonal_label_embeddings (C, d_q): L_t and L_s, buffers
            (parameters with `train_label_embeddings`).
    """

    config: LemerConfig
    # None where the configuration does not need them.
    speech_label_projection: nn.Linear | None
    speech_quantizer: Wav2Vec2GumbelVectorQuantizer | None
    speech_code_projection: nn.Linear | None
    speech_functionals: SpeechFunctionals | None
    cross_attention: BilinearAlignment | None
    classifier: nn.Linear
    attribute_head: nn.Linear | None
    text_classifier: nn.Linear | None
    speech_classifier: nn.Linear | None
    semantic_label_embeddings: torch.Tensor
    tonal_label_embeddings: torch.Tensor
    config_class = LemerConfig
    base_model_prefix = "lemer"

    def __init__(self, config: LemerConfig):
        super().__init__(config)
        for field in config.wrongly_described():
            logger.warning(
                f"{field} of the configuration describes other labels and is dropped: build the label embeddings anew"
            )
            setattr(config, field, None)
        text_size = config.text_config.hidden_size if config.uses_text else 0
        speech_size = config.speech_config.hidden_size if config.uses_speech else 0
        self.speech_functionals = None
        if config.speech_encoder == "functionals":
            self.speech_functionals, speech_size = SpeechFunctionals(config.speech_config), FUNCTIONALS
        labels = config.num_labels

        self.speech_label_projection = self.speech_quantizer = self.speech_code_projection = None
        if config.uses_speech and config.use_label_embeddings:
            if config.speech_label_space != "codebook":
                self.speech_label_projection = nn.Linear(speech_size, config.tonal_label_size)
            if config.keep_quantizer:
                self.speech_quantizer = Wav2Vec2GumbelVectorQuantizer(config.speech_config)
            if config.keep_quantizer and config.speech_label_space == "projected":
                self.speech_code_projection = nn.Linear(config.speech_config.codevector_dim, config.tonal_label_size)
        multimodal = config.modality == "multimodal"
        self.cross_attention = None
        if multimodal and config.fusion != "label":
            self.cross_attention = BilinearAlignment(speech_size, text_size)
        self.classifier = nn.Linear(text_size + speech_size, labels)
        self.attribute_head = self.make_attribute_head(text_size + speech_size)
        with_branches = multimodal and config.branch_loss_weight > 0
        self.text_classifier = nn.Linear(text_size, labels) if with_branches else None
        self.speech_classifier = nn.Linear(speech_size, labels) if with_branches else None
        with_labels = config.use_label_embeddings
        self._register_labels("semantic_label_embeddings", labels, text_size if with_labels else 0)
        self._register_labels(
            "tonal_label_embeddings", labels, config.tonal_label_size if with_labels and config.uses_speech else 0
        )
        self.finish()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, LemerModel):
            # Label embeddings that are trained start at random (rows A3 and B3). The others are 0 until they are set.
            start = init.normal_ if module.config.train_label_embeddings else init.zeros_
            for embeddings in module._label_embeddings().values():
                start(embeddings)
        elif isinstance(module, SpeechFunctionals):
            init.zeros_(module.mean)
            init.ones_(module.scale)
        elif isinstance(module, BilinearAlignment):
            # Scores have unit variance over towers of any width that end in a layer norm. So the attention is neither
            # uniform nor saturated at the start.
            init.normal_(module.weight, std=module.weight.numel() ** -0.5)
        elif isinstance(module, Wav2Vec2GumbelVectorQuantizer):
            init.normal_(module.weight_proj.weight, mean=0.0, std=1.0)
            init.zeros_(module.weight_proj.bias)
            init.uniform_(module.codevectors)

    def freeze_unused(self):
        super().freeze_unused()
        for module in (self.speech_quantizer, self.speech_code_projection):
            if module is not None:
                module.requires_grad_(False)

    def _label_embeddings(self) -> dict[str, torch.Tensor]:
        names = ("semantic_label_embeddings", "tonal_label_embeddings")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @torch.no_grad()
    def forget_labels(self):
        """Make the classifiers and the label embeddings new."""
        super().forget_labels()
        for classifier in self.branch_classifiers.values():
            classifier.weight.normal_(std=getattr(self.config, "initializer_range", 0.02))
            classifier.bias.zero_()
        self.config.label_words = self.config.label_codes = None
        for embeddings in self._label_embeddings().values():
            embeddings.normal_() if self.config.train_label_embeddings else embeddings.zero_()

    @property
    def untrained(self) -> list[str]:
        """
        Names of the parts on top of the towers that were never trained or set. A model with any is not ready for use.

        A new classifier is known by its bias, which is exactly 0 until the first update. A label embedding is 0 until it is
        set.
        """
        branches = [name for name, branch in self.branch_classifiers.items() if not branch.bias.detach().any()]
        rows = self._label_embeddings().items()
        return super().untrained + branches + [name for name, row in rows if not row.detach().any(1).all()]

    def answering_field(self, modality: str) -> str | None:
        """
        The field of the output that answers from "multimodal", "speech" or "text"; None where none can.

        After `set_labels` with a new label the classifiers are new. A branch whose labels are all described can answer then
        by its comparison with them (eq. 2 and 5). Label embeddings that are trained start at random, so they have to be.
        """
        if not self.untrained:
            return "logits"
        if modality == "multimodal":
            return None
        branch = self.branch_classifiers.get(f"{modality}_classifier")
        if branch is not None and branch.bias.detach().any():
            return "logits"
        labels = self._label_embeddings().get(
            "semantic_label_embeddings" if modality == "text" else "tonal_label_embeddings"
        )
        described = labels is not None and not self.config.train_label_embeddings and labels.any(1).all()
        return f"{modality}_label_logits" if described else None

    @property
    def branch_classifiers(self) -> dict[str, nn.Linear]:
        """The classifiers of one modality alone, by name; none without `branch_loss_weight`."""
        named = {"text_classifier": self.text_classifier, "speech_classifier": self.speech_classifier}
        return {name: classifier for name, classifier in named.items() if classifier is not None}

    def set_labels(
        self,
        labels: Sequence[str],
        words: dict[str, Sequence[str]] | None = None,
        recordings: dict[str, Sequence] | None = None,
        processor=None,
    ) -> None:
        """
        Give the model other emotions, described by a few words, a few recordings, or both; in place, without training.

            model.set_labels(["ang", "neu", "proud"], words={"proud": ["proud", "pride"]}, recordings={"proud": ["a.wav"]},
                             processor=processor)

        `text_label_logits` and `speech_label_logits` answer for the new labels at once. `logits` of a model with both
        modalities do not: where a label is new, so is every classifier, and `untrained` says it until it is trained.
        Without a new label the classifier's rows follow their labels. Make optimisers after this, not before.

        Args:
            labels: All labels from now on, in the order of the logits. Those that the model has already keep their
                embeddings, unless described anew; those that are not named are dropped.
            words: For a label its words, best first: the mean of the text tower's states over their word pieces is its row
                of L_t (and of L_s, where that is made of words).
            recordings: For a label its clips, in any form that the processor takes (bare samples are taken as 16 kHz): the
                mean code vector of all their frames is its row of L_s. Its `label_codes` are the commonest codes.
            processor: The checkpoint's `LemerProcessor`.

        A label described to one branch only has a row of 0 in the other (drawn at random with `train_label_embeddings`,
        which training ends): that branch cannot answer for it, a warning says so, and `untrained` names the embeddings.

        Raises:
            ValueError: a new label without a description, a description without a label, or of a modality that the model
                does not have; the model has no label embeddings, or no quantizer to hear recordings with.
        """
        set_labels(self, labels, words or {}, recordings or {}, processor)

    def compared_labels(self, name: str) -> torch.Tensor:
        """The label embeddings (C, d) of that name as tokens or frames meet them: centered, if so configured."""
        embeddings = getattr(self, name)
        return centered_labels(embeddings) if self.config.label_centering == "labels" else embeddings

    def _register_labels(self, name: str, labels: int, size: int):
        if size == 0:
            setattr(self, name, None)
        elif self.config.train_label_embeddings:
            setattr(self, name, nn.Parameter(torch.empty(labels, size)))
        else:
            self.register_buffer(name, torch.zeros(labels, size))  # unset

    @classmethod
    def from_towers(cls, speech: str | None, text: str | None, **config) -> "LemerModel":
        """
        A model over the towers of two checkpoints, in evaluation mode; classifier, alignment and labels are new.

        The projections and the codebook of wav2vec 2.0's quantizer are kept for the tonal labels. What a checkpoint lacks
        is said in a warning, and `keep_quantizer` of the configuration tells it afterwards.

        Args:
            speech: Folder or Hub name of a wav2vec 2.0 checkpoint, best a `...ForPreTraining` one, or of a finished model
                whose speech tower, codebook and projections are taken; None for `modality="text"`.
            text: Folder or Hub name of a BERT checkpoint, or of a finished model; None for `modality="speech"`.
            **config: Fields of `LemerConfig`; `speech_config` and `text_config` are dicts of changes to the towers' own.
        """
        towers = load_towers(speech, text, config)
        with_codes = config.get("use_label_embeddings", True) and config.get("speech_label_space") != "semantic"
        if towers.missing and with_codes:
            logger.warning(
                f"{speech} has no {', '.join(towers.missing)}: tonal labels cannot be taken from a codebook, and the "
                "projection of frames into the label space starts at random. Use a ...ForPreTraining checkpoint, or label "
                "embeddings from another source."
            )
        if towers.speech_config is not None:
            keep = towers.pretraining is not None and config.get("keep_quantizer", True)
            config = {**config, "speech_config": towers.speech_config, "keep_quantizer": keep}
        if towers.text_config is not None:
            config = {**config, "text_config": towers.text_config}
        model = cls(LemerConfig(**config))
        towers.copy_into(model)
        if towers.pretraining is not None:
            projected = model.config.speech_label_space == "projected"  # else it leads into another space
            for module, source in (
                (model.speech_label_projection if projected else None, towers.pretraining.project_hid),
                (model.speech_quantizer, towers.pretraining.quantizer),
                (model.speech_code_projection, towers.pretraining.project_q),
            ):
                if module is not None:
                    module.load_state_dict(source.state_dict())
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
    ) -> LemerOutput:
        r"""
        Args:
            input_values (B, S): samples at 16 kHz, normalised per utterance as `LemerProcessor` does.
            input_ids (B, T): tokens of the earlier turns and the current one.
            input_values_mask (B, S): nonzero where a sample is real. None: all are.
            attention_mask (B, T): nonzero where a token is real; without tokens, the mask of the samples. None: all are.
            token_type_ids (B, T): 0 for the earlier turns, 1 for the current one.
            labels (B,): index of the class; -100 is left out of the cross-entropies. Or (B, C): a distribution of classes,
                such as votes; a row of zeros is left out.
            attribute_values (B, A): attributes on the scale of the corpus, NaN where they are not known.
            output_attentions: return A_r and A_l, and the towers' own attentions where they run with "eager".
            output_hidden_states: return the hidden states of every layer of the towers.

        A unimodal model takes only its own modality. A multimodal one that gets one answers from that branch.
        """
        self.check_inputs(input_values, input_ids)
        self._check_token_types(input_ids, token_type_ids)
        input_values_mask = mask_of_samples(input_ids, input_values_mask, attention_mask)
        output_attentions, output_hidden_states = self.resolve_outputs(output_attentions, output_hidden_states)
        out = LemerOutput()
        if self.speech_functionals is not None:
            functionals = self.speech_functionals(input_values, input_values_mask)  # (B, 840)
            out.pooler_output = functionals.to(self.classifier.weight.dtype)
            input_values = None  # there is no tower to read them
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
        if input_ids is not None:
            self._compare_tokens_with_labels(out, token_mask, token_type_ids)  # section 2.1
            out.text_branch_logits = _classify_branch(self.text_classifier, out.text_model_output, out.token_mask)
        if input_values is not None:
            self._compare_frames_with_labels(out, out.frame_mask)  # section 2.2
            out.speech_branch_logits = _classify_branch(self.speech_classifier, out.speech_model_output, out.frame_mask)
        self._fuse_and_classify(out, with_constraint=labels is not None, with_attentions=output_attentions)  # section 2.3
        if labels is not None:
            self._add_losses(out, labels, attribute_values)  # section 2.4
        # A ModelOutput keeps the order of assignment; as a tuple it has to begin with the loss and the logits.
        return LemerOutput(**{field.name: getattr(out, field.name) for field in fields(out)})

    def _compare_tokens_with_labels(self, out: LemerOutput, token_mask: Any, token_type_ids: Any) -> None:
        """Section 2.1: attention of the tokens to the semantic labels, and its mean over the tokens (eq. 1 and 2)."""
        if self.config.pooled_tokens == "current":
            token_mask = current_tokens(token_mask, token_type_ids)
        out.token_mask = token_mask  # (B, T)
        if self.config.use_label_embeddings:
            text = _hidden_states(out.text_model_output)  # H_t (B, T, d_t)
            out.label_token_attentions = label_attention(
                text, self.compared_labels("semantic_label_embeddings")
            )  # G_t (B, T, C)
            out.text_label_logits = masked_mean(out.label_token_attentions, token_mask)  # (B, C)

    def _compare_frames_with_labels(self, out: LemerOutput, frame_mask: Any) -> None:
        """Section 2.2: attention of the frames to the tonal labels, and its mean over the frames (eq. 4 and 5)."""
        if self.config.use_label_embeddings:
            frames = _hidden_states(out.speech_model_output)  # H_s (B, F, d_s)
            if self.speech_label_projection is not None:
                frames = self.speech_label_projection(frames)  # (B, F, d_q)
            out.label_frame_attentions = label_attention(
                frames, self.compared_labels("tonal_label_embeddings")
            )  # G_s (B, F, C)
            out.speech_label_logits = masked_mean(out.label_frame_attentions, frame_mask)  # (B, C)

    def _check_token_types(self, input_ids: torch.Tensor | None, token_type_ids: torch.Tensor | None) -> None:
        """Raise a `ValueError` where the tokens of the current utterance are pooled and nothing says which these are."""
        if input_ids is not None and token_type_ids is None and self.config.pooled_tokens == "current":
            raise ValueError(
                'pooled_tokens="current" needs token_type_ids, 1 at the current utterance: pass what the processor returns'
            )

    def _fuse_and_classify(self, out: Any, with_constraint: bool, with_attentions: bool) -> None:
        """Section 2.3: the vector v of both modalities and its classification; of one modality, what it can answer alone."""
        if out.pooler_output is not None:
            pass  # the functionals are classified as they are
        elif out.text_model_output is not None and out.speech_model_output is not None:
            out.pooler_output = self._fuse(out, with_constraint, with_attentions)  # v (B, d_t + d_s)
        elif self.config.modality == "text":
            out.pooler_output = masked_max(_hidden_states(out.text_model_output), out.token_mask)  # (B, d_t)
        elif self.config.modality == "speech":
            out.pooler_output = masked_max(_hidden_states(out.speech_model_output), out.frame_mask)  # (B, d_s)
        else:  # one modality of a multimodal model was not given: the branch of the other one answers
            branch = "speech" if out.text_model_output is None else "text"
            out.logits = out[f"{branch}_{'label' if self.speech_classifier is None else 'branch'}_logits"]
            return
        out.logits = self.classifier(out.pooler_output)  # (B, C)
        out.attributes = self.predict_attributes(out.pooler_output)  # (B, A)

    def _fuse(self, out: Any, with_constraint: bool, with_attentions: bool) -> torch.Tensor:
        """Eq. 7 to 10: align the speech frames with the tokens and pool both, (B, d_t + d_s)."""
        fusion = self.config.fusion
        token_mask: Any = out.token_mask
        frame_mask: Any = out.frame_mask
        text, speech = _hidden_states(out.text_model_output), _hidden_states(out.speech_model_output)
        with_constraint = with_constraint and fusion == "constraint"
        cross: Any = None
        guided: Any = None
        if self.cross_attention is not None:
            cross = self.cross_attention(text, speech, frame_mask)  # A_r (B, T, F)
        if self.config.use_label_embeddings and (with_attentions or with_constraint or fusion in ("sum", "label")):
            guided = out.label_token_attentions @ out.label_frame_attentions.transpose(1, 2)  # A_l (B, T, F)
        if fusion in ("constraint", "cross"):
            weights = cross
        else:
            weights = guided.masked_fill(~frame_mask[:, None], 0.0)
            if fusion == "sum":
                weights = weights + cross
        # Padded frames have weight 0, but 0 times a value that is not finite would still spread.
        aligned = weights @ speech.masked_fill(~frame_mask[..., None], 0.0)  # H_s' (B, T, d_s)
        if with_constraint:
            out.constraint_loss = attention_constraint(guided, cross, token_mask, frame_mask)
        if with_attentions:
            out.cross_attentions, out.label_guided_attentions = cross, guided
        return masked_max(torch.cat([text, aligned], dim=-1), token_mask)  # v (B, d_t + d_s)

    def _add_losses(self, out: Any, labels: torch.Tensor, attribute_values: torch.Tensor | None) -> None:
        """Section 2.4: the losses of the branches that answered, and their weighted sum (eq. 3, 6, 11 and 12)."""
        config = self.config
        weights = config.class_weights
        loss: Any = 0.0
        if out.pooler_output is not None:
            out.classification_loss = class_loss(out.logits, labels, weights)
            loss = config.classification_loss_weight * out.classification_loss
        if out.constraint_loss is not None:
            loss = loss + config.constraint_loss_weight * out.constraint_loss
        if out.text_label_logits is not None:
            out.text_label_loss = class_loss(out.text_label_logits, labels, weights)
            loss = loss + config.text_label_loss_weight * out.text_label_loss
        if out.speech_label_logits is not None:
            out.speech_label_loss = class_loss(out.speech_label_logits, labels, weights)
            loss = loss + config.speech_label_loss_weight * out.speech_label_loss
        if out.attributes is not None and attribute_values is not None:
            out.attribute_loss = concordance_loss(out.attributes, attribute_values)
            loss = loss + config.attribute_loss_weight * out.attribute_loss
        branches = [logits for logits in (out.text_branch_logits, out.speech_branch_logits) if logits is not None]
        if branches:
            out.branch_loss = sum(class_loss(logits, labels, weights) for logits in branches)
            loss = loss + config.branch_loss_weight * out.branch_loss
        out.loss = loss


LemerModel.register_for_auto_class("AutoModel")

__all__ = ["LemerModel", "LemerOutput"]
