"""Configuration of LE-MER: the two towers, the variant, the labels and their descriptions, the weights of the losses.

This file travels with every checkpoint.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import logging

if TYPE_CHECKING:  # a checkpoint gets the files that its configuration's file names, and so the pipeline too
    from .pipeline_lemer import LemerPipeline  # noqa: F401

    # A type checker cannot know a tower's fields: they depend on its model_type.
    TowerConfig = Any
    ConfigBase = PreTrainedConfig  # what `TowersAndLabels` is mixed into
else:
    TowerConfig = dict | PreTrainedConfig | None
    ConfigBase = object

logger = logging.get_logger(__name__)

# Every saved config has all of it, whichever class was saved, so that a checkpoint opens through each of these Auto classes.
AUTO_MAP = {
    "AutoConfig": "configuration_lemer.LemerConfig",
    "AutoModel": "modeling_lemer.LemerModel",
    "AutoModelForAudioClassification": "modeling_lemer.LemerModel",
    "AutoModelForSequenceClassification": "modeling_lemer.LemerModel",
}

# Order of the classes in logits, label embeddings and metrics. "hap" holds IEMOCAP's happy and excited.
EMOTIONS = ("ang", "hap", "neu", "sad")

# Speech towers whose frames `speech_encoder_lemer.py` keeps free of padding. The tests try each of them.
PADDING_SAFE = ("wav2vec2-conformer", "wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")


# The settings of a log-Mel as fields of a speech tower's configuration, for functionals. No layer is built from them.
LOG_MEL_POSITIONS = {
    "front_end": "log_mel",
    "mel_mask_bands": 0,
    "mel_mask_share": 0.0,
    "conv_dim": (80,),
    "conv_kernel": (400,),
    "conv_stride": (160,),
}


def _check_front_end(speech: PreTrainedConfig, padding_safe: bool) -> None:
    """Check the fields of a log-Mel front end, which transformers' own configurations lack; a `ValueError` if wrong."""
    front_end = getattr(speech, "front_end", "waveform")
    if front_end == "waveform":
        return
    if front_end != "log_mel":
        raise ValueError(f"speech_config.front_end must be 'waveform' or 'log_mel', got {front_end!r}")
    first = speech.conv_dim[0], speech.conv_kernel[0], speech.conv_stride[0]
    if first != (80, 400, 160):
        raise ValueError(
            "speech_config.front_end='log_mel' has 80 bands, a window of 400 samples and a step of 160: conv_dim, "
            f"conv_kernel and conv_stride must begin with them, and begin with {first}"
        )
    if not padding_safe:
        raise ValueError("speech_config.front_end='log_mel' needs padding_safe=True: the stock encoder has no log-Mel")
    normalization = getattr(speech, "mel_normalization", "band")
    if normalization not in ("utterance", "band", "none"):
        raise ValueError(f"speech_config.mel_normalization must be 'utterance', 'band' or 'none', got {normalization!r}")
    bands, share = (getattr(speech, name, None) for name in ("mel_mask_bands", "mel_mask_share"))
    if bands is None or share is None or not (0 <= bands <= 80 and 0 <= share <= 1):
        raise ValueError(
            "speech_config.front_end='log_mel' needs mel_mask_bands (0 to 80) and mel_mask_share (0 to 1), what a mask of "
            f"SpecAugment may hide, got {bands} and {share}"
        )


def _as_index(index: int | str) -> int:
    """The index of a class, which may be written as a string."""
    try:
        return int(index)
    except (TypeError, ValueError):
        raise ValueError(f"id2label and label2id must number the classes from 0, got the index {index!r}") from None


class TowersAndLabels(ConfigBase):
    """
    Part of both papers' configurations: the towers that `modality` needs, and the classes.

    Mixed into a `PreTrainedConfig` with the fields `speech_config`, `text_config`, `modality` and `padding_safe`.
    `auto_classes` is the whole auto_map.
    """

    auto_classes: ClassVar[dict[str, str]]
    if TYPE_CHECKING:  # at run time they would be fields
        speech_config: TowerConfig
        text_config: TowerConfig
        modality: Any
        padding_safe: bool
        class_weights: Any
        attributes: Any
        temperatures: dict[str, float] | None
        id2label: Any = None  # a dict once it is made
        label2id: Any = None
        num_labels: Any

    def __setattr__(self, name, value):
        # A saved configuration has its names in the order of the alphabet, and the head's outputs have that of the names.
        if name == "attributes" and isinstance(value, dict):
            value = dict(sorted(value.items()))
        # Indices are strings in JSON and in the examples of transformers' own guide.
        if name == "id2label" and isinstance(value, dict):
            value = {_as_index(index): label for index, label in value.items()}
        elif name == "label2id" and isinstance(value, dict):
            value = {label: _as_index(index) for label, index in value.items()}
        super().__setattr__(name, value)

    def __post_init__(self, **kwargs):
        auto_map = kwargs.pop("auto_map", None)
        kwargs.pop("custom_pipelines", None)  # a property here
        given = self.label2id
        if self.id2label is None and given is not None:
            self.id2label = {index: label for label, index in given.items()}
        if self.id2label is None:
            count = kwargs.pop("num_labels", None) or len(EMOTIONS)
            names = EMOTIONS if count == len(EMOTIONS) else [f"LABEL_{i}" for i in range(count)]
            self.id2label = dict(enumerate(names))
        elif kwargs.get("num_labels") not in (None, len(self.id2label)):  # a checkpoint loaded with another number of them
            given = None
        # None means the default tower where the modality has one, and no tower where it has not.
        self.speech_config = ({} if self.speech_config is None else self.speech_config) if self.uses_speech else None
        self.text_config = ({} if self.text_config is None else self.text_config) if self.uses_text else None
        super().__post_init__(**kwargs)
        self.label2id = {label: index for index, label in self.id2label.items()}
        if given is not None and given != self.label2id:
            raise ValueError(f"id2label {self.id2label} and label2id {given} disagree: give one of them")
        for tower in (self.speech_config, self.text_config):
            if tower is not None:
                tower._name_or_path = ""  # else a folder of the machine that trained would be published
        self.auto_map = {**self.auto_classes, **(auto_map or {})}

    @property
    def custom_pipelines(self) -> dict:
        """The entry by which `pipeline` finds ours. Every call makes a new one, since `pipeline` writes into it."""
        ours = {"impl": "pipeline_lemer.LemerPipeline", "pt": ["AutoModelForAudioClassification"], "type": "multimodal"}
        return {"speech-emotion-recognition": ours}

    def to_dict(self) -> dict:
        return {**super().to_dict(), "custom_pipelines": self.custom_pipelines}

    @property
    def uses_speech(self) -> bool:
        return self.modality != "text"

    @property
    def uses_text(self) -> bool:
        return self.modality != "speech"

    @property
    def uses_speech_tower(self) -> bool:
        """Whether the speech is read by a tower, and not by functionals."""
        return self.uses_speech and getattr(self, "speech_encoder", "tower") == "tower"

    @property
    def answers_from_one_modality(self) -> bool:
        """Whether speech alone or text alone is enough. A multimodal model answers by a branch, if it has one."""
        has_branches = getattr(self, "use_label_embeddings", False) or getattr(self, "branch_loss_weight", 0) > 0
        return self.modality != "multimodal" or has_branches

    def score_temperature(self, modality: str) -> float:
        """What the logits of an answer from "multimodal", "speech" or "text" are divided by before the softmax."""
        return (self.temperatures or {}).get(modality, 1.0)

    def scores_are_flat(self, modality: str) -> bool:
        """Whether the scores of an answer are a softmax of bare cosines. Only their order counts then."""
        of_label_branch = modality != self.modality and not getattr(self, "branch_loss_weight", 0)
        return of_label_branch and modality not in (self.temperatures or {})

    def validate_labels(self):
        """Part of `@strict` validation: every class has an index and a name of its own."""
        if self.num_labels is None or self.num_labels < 2:
            raise ValueError(f"id2label must name at least two classes, got {self.id2label}")
        if sorted(self.id2label) != list(range(self.num_labels)) or len(set(self.id2label.values())) < self.num_labels:
            raise ValueError(f"id2label must give 0..{self.num_labels - 1} one name each, got {self.id2label}")
        if self.problem_type not in (None, "single_label_classification"):  # else the loss would stay one of single labels
            raise ValueError(f"problem_type {self.problem_type!r} is not supported: an utterance has one label")

    def validate_targets(self):
        """Part of `@strict` validation: weights of classes and scales of attributes that a loss can use."""
        weights, attributes = self.class_weights, self.attributes
        if weights is not None and (len(weights) != self.num_labels or not all(weight >= 0 for weight in weights)):
            raise ValueError(f"class_weights must be {self.num_labels} numbers of at least 0, one a class, got {weights}")
        for name, scale in (attributes or {}).items():
            if len(scale) != 2 or not scale[1] > 0:
                raise ValueError(f"attributes must name a mean and a deviation above 0 each, got {scale} for {name}")
        if attributes is not None and not attributes:
            raise ValueError("attributes must name at least one, or be None")

    def validate_temperatures(self):
        """Part of `@strict` validation: temperatures are positive numbers of modalities."""
        for modality, temperature in (self.temperatures or {}).items():
            if modality not in ("multimodal", "speech", "text") or not 0 < temperature < float("inf"):
                raise ValueError(
                    f"temperatures must give 'multimodal', 'speech' or 'text' a number above 0, got {self.temperatures}"
                )

    def validate_towers(self):
        """Part of `@strict` validation: every tower that the modality needs is there and can do what is asked."""
        if self.uses_speech and hasattr(self.speech_config, "model_type"):
            speech = self.speech_config
            if not hasattr(speech, "conv_kernel"):
                raise ValueError(
                    f"speech_config must be of the wav2vec 2.0 family (wav2vec2-conformer, wav2vec2, hubert, wavlm), "
                    f"got {speech.model_type!r}"
                )
            leaks = speech.model_type not in PADDING_SAFE or getattr(speech, "conv_pos_batch_norm", False)
            if self.padding_safe and leaks:
                raise ValueError(
                    f"padding cannot be kept out of a {speech.model_type} tower, conv_pos_batch_norm="
                    f"{getattr(speech, 'conv_pos_batch_norm', False)}: use one of {', '.join(PADDING_SAFE)} without it, or "
                    "padding_safe=False, with answers that depend on the batch"
                )
            _check_front_end(speech, self.padding_safe)
            if getattr(speech, "add_adapter", False):
                raise ValueError("speech_config.add_adapter=True is not supported: the adapter mixes padding into frames")
        if self.uses_text and hasattr(self.text_config, "model_type") and hasattr(self.text_config, "conv_kernel"):
            raise ValueError(f"text_config must be a text encoder, got {self.text_config.model_type!r}")


@strict
class LemerConfig(TowersAndLabels, PreTrainedConfig):
    r"""
    Configuration of `LemerModel`; section and equation numbers are those of the LE-MER paper (arXiv 2309.02106).

    Args:
        speech_config (dict or PreTrainedConfig, optional, defaults to a wav2vec 2.0 conformer):
            The speech tower: `wav2vec2-conformer`, `wav2vec2` or another encoder of that family.
            Its own field `front_end="log_mel"` (see `speech_encoder_lemer.py`) makes it read a log-Mel of the waveform. Then
            its field `mel_normalization` says what gets mean 0 and variance 1: all values of an `"utterance"`, as in the
            paper, each `"band"` of it (where the field is missing), or nothing (`"none"`).
        text_config (dict or PreTrainedConfig, optional, defaults to BERT):
            The text tower: `bert` or another bidirectional encoder. Its width may differ from the speech tower's.
        modality (str, defaults to "multimodal"):
            `"multimodal"`, `"speech"` or `"text"`. A unimodal model has no tower for the other modality.
        fusion (str, defaults to "constraint"):
            What weights the speech frames of each token: `"constraint"` A_r, pulled towards A_l by a loss (row C1),
            `"sum"` A_r + A_l (C2), `"label"` A_l alone (C3), `"cross"` A_r alone (C4). Unused by a unimodal model.
        use_label_embeddings (bool, defaults to True):
            Compare tokens and frames with label embeddings (sections 2.1 and 2.2).
        train_label_embeddings (bool, defaults to False):
            Label embeddings are parameters instead of buffers, under the same names.
        speech_label_space (str, defaults to "projected"):
            Where frames meet tonal labels: `"projected"`, in the space of wav2vec 2.0's contrastive loss
            (`proj_codevector_dim` wide), `"codebook"`, among the code vectors themselves, which needs
            `codevector_dim` equal to the speech tower's width, or `"semantic"`, among BERT's hidden states, where the
            semantic labels serve as tonal ones (row B4); the projection into it is new.
        semantic_size (int, optional, defaults to the text tower's width):
            Width of the semantic space, to be given where `speech_label_space="semantic"` and there is no text tower.
        label_centering (str, defaults to "none"):
            What is subtracted from the label embeddings before anything is compared with them: `"none"`, as the paper
            prints it, or `"labels"`, the mean of the labels of the branch. Means of many code vectors are nearly one
            vector, and what they share says nothing about the class.
        keep_quantizer (bool, defaults to True):
            The model carries the codebook that the speech tower was pre-trained with, so that label embeddings and key
            frames can be made with any checkpoint. `False` where the tower has none.
        padding_safe (bool, defaults to True):
            Keep padding out of every speech frame (see `speech_encoder_lemer.py`). `False` restores the stock encoder,
            in which an utterance's answer depends on the batch it is in.
        speech_encoder (str, defaults to "tower"):
            What reads the speech: `"tower"`, or `"functionals"`, fixed statistics of the log-Mel (`functionals_lemer.py`)
            for corpora too small for a tower, in a model of `modality="speech"` without label embeddings.
        pooled_tokens (str, defaults to "all"):
            Which tokens are compared with the labels, aligned and pooled: `"all"`, the paper's, or `"current"`, those of the
            current utterance, which earlier turns reach through BERT's attention alone.
        classification_loss_weight (float, defaults to 1.0): Weight of loss_m (eq. 11, 12).
        constraint_loss_weight (float, defaults to 0.5): Weight of loss_c (eq. 10, 12).
        text_label_loss_weight (float, defaults to 0.2): Weight of loss_gt (eq. 3, 12).
        speech_label_loss_weight (float, defaults to 0.2): Weight of loss_gs (eq. 6, 12).
        class_weights (list[float], optional):
            How often an utterance of each class counts in the losses, in the order of the classes; None: once.
        attributes (dict[str, list[float]], optional):
            Attributes that a head on the classifier's input predicts beside the classes, such as valence: name -> mean and
            deviation of the training split, which its outputs are scaled by. They come in alphabetical order. None: no head.
        attribute_loss_weight (float, defaults to 1.0): Weight of 1 - CCC of the attributes.
        branch_loss_weight (float, defaults to 0.0):
            Weight of the cross-entropies of two classifiers that a multimodal model has then beside its own, one for each
            modality alone: the maximum of the tower's hidden states, classified as in a unimodal model. They answer where a
            modality is not given. The paper has none.
        temperatures (dict[str, float], optional):
            For "multimodal", "speech" and "text" the number that the logits of such an answer are divided by before their
            softmax is shown as scores. Fitted on validation utterances by `train.py`; the order of the scores stays.
        label_words (dict[str, list[str]], optional):
            For every label its key words, best first. Written when the label embeddings are built.
        label_codes (dict[str, list[list[int]]], optional):
            For every label its key frames' codes, best first; a code is one index for each group of the codebook.
        checksums (dict, optional): Of the files of a saved checkpoint; see `integrity_lemer.py`. None in a loaded model.
        id2label, label2id (dict, optional, default to ang, hap, neu, sad): The classes, in the order of the logits.
    """

    model_type = "lemer"
    auto_classes = AUTO_MAP
    sub_configs_defaults: ClassVar[dict] = {
        "speech_config": SubConfigSpec(AutoConfig, model_type="wav2vec2-conformer", optional=True),
        "text_config": SubConfigSpec(AutoConfig, model_type="bert", optional=True),
    }
    # Un-annotated: annotated it would become a field. Trainer.evaluate stacks every other output over batches, which
    # fails where their lengths differ.
    keys_to_ignore_at_inference = [  # noqa: RUF012
        "text_label_logits",
        "speech_label_logits",
        "text_branch_logits",
        "speech_branch_logits",
        "classification_loss",
        "constraint_loss",
        "text_label_loss",
        "speech_label_loss",
        "branch_loss",
        "pooler_output",
        "attributes",
        "attribute_loss",
        "label_token_attentions",
        "label_frame_attentions",
        "token_mask",
        "frame_mask",
        "cross_attentions",
        "label_guided_attentions",
        "text_model_output",
        "speech_model_output",
    ]

    speech_config: TowerConfig = None
    text_config: TowerConfig = None
    modality: Literal["multimodal", "speech", "text"] = "multimodal"
    fusion: Literal["constraint", "sum", "label", "cross"] = "constraint"
    use_label_embeddings: bool = True
    train_label_embeddings: bool = False
    speech_label_space: Literal["projected", "codebook", "semantic"] = "projected"
    semantic_size: int | None = None
    label_centering: Literal["none", "labels"] = "none"
    keep_quantizer: bool = True
    padding_safe: bool = True
    speech_encoder: Literal["tower", "functionals"] = "tower"
    pooled_tokens: Literal["all", "current"] = "all"
    classification_loss_weight: float | int = 1.0
    constraint_loss_weight: float | int = 0.5
    text_label_loss_weight: float | int = 0.2
    speech_label_loss_weight: float | int = 0.2
    class_weights: list | None = None
    attributes: dict[str, list] | None = None
    attribute_loss_weight: float | int = 1.0
    branch_loss_weight: float | int = 0.0
    temperatures: dict[str, float] | None = None
    label_words: dict[str, list] | None = None
    label_codes: dict[str, list] | None = None
    checksums: dict | None = None

    def __post_init__(self, **kwargs):
        labels = self.label2id if self.id2label is None else self.id2label
        if labels is not None and kwargs.get("num_labels") not in (None, len(labels)):
            self.label_words = self.label_codes = self.temperatures = None  # loaded with another number of labels
        label_scale = kwargs.pop("label_scale", 1.0)  # a field of checkpoints saved by earlier versions
        if label_scale != 1.0:
            logger.warning(
                f"label_scale={label_scale!r} of this configuration is not applied any more: the label branches return "
                "plain mean cosines (eq. 2 and 5)"
            )
        if self.speech_encoder == "functionals" and not self.speech_config:
            self.speech_config = dict(LOG_MEL_POSITIONS)
        super().__post_init__(**kwargs)
        if not hasattr(self.speech_config, "num_codevector_groups"):
            self.keep_quantizer = False  # hubert's family was pre-trained without one
        if self.uses_text and self.speech_label_space == "semantic":
            self.semantic_size = self.text_config.hidden_size

    def wrongly_described(self) -> list[str]:
        """Which of `label_words` and `label_codes` describe other labels than there are."""
        described = {field: getattr(self, field) for field in ("label_words", "label_codes")}
        labels = set(self.id2label.values())
        return [field for field, lists in described.items() if lists is not None and set(lists) != labels]

    @property
    def tonal_label_size(self) -> Any:
        """d_q: width of the space in which frames are compared with tonal labels."""
        speech = self.speech_config
        if self.speech_label_space == "semantic":
            return self.semantic_size
        if self.speech_label_space == "codebook":
            return speech.codevector_dim
        return getattr(speech, "proj_codevector_dim", speech.hidden_size)  # towers without a codebook name no such size

    def validate_descriptions(self):
        """Part of `@strict` validation: the descriptions are of these classes."""
        for field in self.wrongly_described():
            raise ValueError(
                f"{field} describes {sorted(getattr(self, field))}, but the labels are {sorted(self.id2label.values())}: "
                "give one list for each label, or None until the label embeddings are built"
            )

    def validate_variant(self):
        """Part of `@strict` validation: the switches do not contradict each other."""
        if self.speech_encoder == "functionals" and (self.modality != "speech" or self.use_label_embeddings):
            raise ValueError(
                "speech_encoder='functionals' has no frames to fuse or to compare with labels: it needs modality='speech' "
                f"and use_label_embeddings=False, got {self.modality!r} and {self.use_label_embeddings}"
            )
        if self.modality == "multimodal" and not self.use_label_embeddings and self.fusion != "cross":
            raise ValueError(
                f"fusion={self.fusion!r} is guided by label embeddings, but use_label_embeddings=False: use fusion='cross'"
            )
        if self.uses_speech and self.use_label_embeddings and self.speech_label_space == "codebook":
            width, hidden = (getattr(self.speech_config, name, None) for name in ("codevector_dim", "hidden_size"))
            if width != hidden:
                raise ValueError(
                    f"speech_label_space='codebook' needs code vectors as wide as the speech tower's hidden states, "
                    f"got codevector_dim={width} and hidden_size={hidden}: use 'projected'"
                )
        if self.speech_label_space == "semantic" and not self.semantic_size:
            raise ValueError(
                "speech_label_space='semantic' without a text tower needs semantic_size, the width of the BERT that makes "
                "the labels"
            )
        weights = {name: getattr(self, name) for name in vars(self) if name.endswith("_loss_weight")}
        negative = {name: weight for name, weight in weights.items() if not weight >= 0}
        if negative:
            raise ValueError(f"weights of losses must be at least 0, got {negative}")


LemerConfig.register_for_auto_class()

__all__ = ["LemerConfig"]
