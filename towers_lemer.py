"""The speech tower and the text tower, made from a configuration or loaded from checkpoints, for both papers' models.

This file travels with every checkpoint.
"""

import inspect
import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_PRETRAINING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from .integrity_lemer import PROCESSOR_FILES, WEIGHT_FILES, changed_files, not_finite, opening, refusal, write_checksums
from .log_mel_lemer import LogMelLayer
from .speech_encoder_lemer import encode_speech, make_padding_safe

logger = logging.get_logger(__name__)


def mask_of_samples(
    input_ids: torch.Tensor | None, input_values_mask: torch.Tensor | None, attention_mask: torch.Tensor | None
) -> torch.Tensor | None:
    """
    The mask (B, S) of the samples, from the arguments of `forward`.

    Where there are no tokens it may be given as `attention_mask`, as transformers' feature extractors call it.
    """
    return attention_mask if input_ids is None and input_values_mask is None else input_values_mask


class TwoTowerModel(PreTrainedModel):
    """
    Base class of both papers' models: a speech tower and a text tower, and a classifier on top.

    A tower that the modality does not need is None. A subclass builds the rest, ends its constructor with `finish()`, and
    initialises only with the functions of `transformers.initialization`, which leave loaded tensors alone.

    Attributes:
        damage: One sentence for everything that was found wrong with the checkpoint that the model was loaded from. A model
            with any gives answers that mean nothing: pipeline, export and publishing refuse it, also once it is saved again.
    """

    config: Any  # of either paper: a PreTrainedConfig with TowersAndLabels
    # None where the modality has none. Which class it is depends on the tower's model_type.
    text_model: Any
    speech_model: Any
    classifier: Any  # a linear layer, or a sequence that ends with one
    attribute_head: Any  # a linear layer, with `attributes` in the configuration

    main_input_name = "input_values"
    input_modalities = ["audio", "text"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the losses are means over the batch: Trainer has to divide by accumulation steps
    _supports_sdpa = True
    _supports_flex_attn = True
    _no_split_modules = ["Wav2Vec2ConformerEncoderLayer", "PaddingSafeConformerLayer"]

    @classmethod
    def is_custom_code(cls) -> bool:
        return False  # else the towers' own initialisation is skipped for modules that own no tensor themselves

    def __init__(self, config: Any):
        super().__init__(config)
        self.damage: list[str] = []
        # A checkpoint may have been loaded with other labels than its own.
        config.label2id = {label: index for index, label in config.id2label.items()}
        self.text_model = self.speech_model = None
        if config.uses_text:
            self.text_model = AutoModel.from_config(config.text_config, **_without_pooler(config.text_config))
        if config.uses_speech_tower:
            self.speech_model = AutoModel.from_config(config.speech_config)
            if config.padding_safe:
                make_padding_safe(self.speech_model)

    def finish(self):
        """Initialise the weights. A constructor ends with this call."""
        self.main_input_name = "input_values" if self.config.uses_speech else "input_ids"
        self.post_init()
        self.freeze_unused()

    def freeze_unused(self):
        """Freeze the parameters that `forward` never uses: one without a gradient stops training on several processes."""
        if self.speech_model is not None:
            freeze_unused_in_speech_tower(self.speech_model)

    def freeze_feature_encoder(self):
        """
        Freeze the CNN encoder of the speech tower, as the method of that name of transformers' own speech models does.

        Raises:
            ValueError: the model has no speech tower.
        """
        if self.speech_model is None:
            raise ValueError("this model has no speech tower, so there is no feature encoder to freeze")
        self.speech_model.feature_extractor._freeze_parameters()

    def answering_field(self, modality: str) -> str | None:
        """
        The field of the output that answers from "multimodal", "speech" or "text".

        It is None where that answer needs weights or labels that were never trained or set.
        """
        return None if self.untrained else "logits"

    def check_inputs(self, input_values: torch.Tensor | None, input_ids: torch.Tensor | None) -> None:
        """Raise a `ValueError` where the model cannot answer from the inputs that were given."""
        config = self.config
        inputs = {"input_values": (input_values, config.uses_speech), "input_ids": (input_ids, config.uses_text)}
        given = [name for name, (values, _) in inputs.items() if values is not None]
        taken = [name for name, (_, used) in inputs.items() if used]
        if given == taken or (given and set(given) < set(taken) and config.answers_from_one_modality):
            return
        message = (
            f"a model with modality={config.modality!r} takes {' and '.join(taken)}, got {' and '.join(given) or 'neither'}"
        )
        if given and set(given) < set(taken):
            message += (
                ": give both. Only LE-MER with label embeddings (use_label_embeddings=True) or with a branch_loss_weight "
                "above 0 could answer from one modality"
            )
        raise ValueError(message)

    def resolve_outputs(self, output_attentions: bool | None, output_hidden_states: bool | None) -> tuple[bool, bool]:
        """The two arguments of `forward`; where one is None, the configuration's value."""
        config = self.config
        return (
            config.output_attentions if output_attentions is None else output_attentions,
            config.output_hidden_states if output_hidden_states is None else output_hidden_states,
        )

    def run_towers(
        self,
        input_values: torch.Tensor | None,
        input_ids: torch.Tensor | None,
        input_values_mask: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        output_attentions: bool,
        output_hidden_states: bool,
        **kwargs,
    ) -> tuple[BaseModelOutput | None, torch.Tensor | None, BaseModelOutput | None, torch.Tensor | None]:
        """
        Run each tower whose input was given; the arguments are those of `forward`.

        Returns:
            The text tower's output (hidden states (B, T, d_t)), the token mask (B, T), the speech tower's output (hidden
            states (B, F, d_s)) and the frame mask (B, F). A mask is True where a token or a frame is real. All of a tower
            that did not run is None.
        """
        config = self.config
        kwargs.pop("num_items_in_batch", None)  # an argument of Trainer for the loss, which no tower knows
        text_output = token_mask = speech_output = frame_mask = None
        if input_ids is not None:
            token_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            text_output = self.text_model(
                input_ids=input_ids,
                attention_mask=token_mask,
                output_attentions=output_attentions and config.text_config._attn_implementation == "eager",
                output_hidden_states=output_hidden_states,
                return_dict=True,
                **segments,
                **kwargs,
            )
            token_mask = token_mask.bool()
        if input_values is not None:
            speech_output, frame_mask = encode_speech(
                self.speech_model,
                input_values,
                input_values_mask,
                padding_safe=config.padding_safe,
                output_attentions=output_attentions and config.speech_config._attn_implementation == "eager",
                output_hidden_states=output_hidden_states,
                **kwargs,
            )
        return text_output, token_mask, speech_output, frame_mask

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        with_info = kwargs.pop("output_loading_info", False)
        model: Any
        with opening(pretrained_model_name_or_path, kwargs, "config.json or its weights"):
            model, info = super().from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]  # two with output_loading_info
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        model.freeze_unused()  # loading puts new parameters in the place of the frozen ones
        names, saved = list(model.config.id2label.values()), _saved_labels(cls, pretrained_model_name_or_path, kwargs)
        if len(saved) == len(names) and saved != names:
            logger.warning(
                f"the checkpoint tells {saved} apart and is loaded for {names}, so all that belongs to a label starts "
                "anew. To give the same labels other names, load it as it is and change id2label and label2id of its config"
            )
            model.forget_labels()
        if model.untrained:
            logger.warning(
                f"these were never trained or set, so this model's scores mean nothing yet: {', '.join(model.untrained)}"
            )
        model.damage = [*_damaged_tensors(model, info), *changed_files(pretrained_model_name_or_path, kwargs)]
        model.config.checksums = None  # they are of the files, and the model may change from here on
        if model.damage:
            logger.warning(refusal(model.damage))
        return (model, info) if with_info else model

    def save_pretrained(self, save_directory, is_main_process: bool = True, push_to_hub: bool = False, **kwargs):
        """As in transformers; `config.json` gets the checksums of everything that was saved."""
        names = ("repo_id", "commit_message", "private", "create_pr", "revision")
        hub = {name: kwargs.pop(name) for name in names if push_to_hub and name in kwargs}
        if "max_shard_size" in kwargs:
            hub["max_shard_size"] = kwargs["max_shard_size"]
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if not self.should_save_on_this_rank(is_main_process):
            return
        write_checksums(save_directory, (*WEIGHT_FILES, *PROCESSOR_FILES), self.damage, with_settings=True)
        if push_to_hub:  # only now, with the checksums
            hub = {"repo_id": os.path.basename(os.path.abspath(save_directory)), "token": kwargs.get("token"), **hub}
            self.push_to_hub(**hub)

    def make_attribute_head(self, size: int) -> nn.Linear | None:
        """A new head that predicts the attributes of the configuration from what the classifier reads; None without any."""
        return nn.Linear(size, len(self.config.attributes)) if self.config.attributes else None

    def predict_attributes(self, pooled: torch.Tensor) -> torch.Tensor | None:
        """Attributes (B, A) on the scale of the corpus, of what the classifier reads (B, d); None without a head."""
        if self.attribute_head is None:
            return None
        mean, deviation = pooled.new_tensor(list(self.config.attributes.values())).T  # (A,), (A,)
        return mean + deviation * self.attribute_head(pooled)

    @torch.no_grad()
    def forget_labels(self):
        """Make the classifier's last layer new."""
        last = self._last_layer()
        last.weight.normal_(std=getattr(self.config, "initializer_range", 0.02))
        last.bias.zero_()
        self.config.temperatures = None  # of scores that are gone

    def _last_layer(self) -> Any:
        """The linear layer of the logits, or what peft has put in its place, which hands its weight and its bias on."""
        return self.classifier[-1] if isinstance(self.classifier, nn.Sequential) else self.classifier

    @property
    def untrained(self) -> list[str]:
        """
        Names of the parts on top of the towers that were never trained or set. A model with any is not ready for use.

        A new classifier is known by its bias, which is exactly 0 until the first update.
        """
        return [] if self._last_layer().bias.detach().any() else ["classifier"]

    def get_input_embeddings(self) -> nn.Module | None:
        return self.text_model.get_input_embeddings() if self.text_model is not None else None

    def set_input_embeddings(self, value: nn.Module):
        self.text_model.set_input_embeddings(value)


# Not read by `forward`, so a model may be loaded without them.
QUANTIZER = ("speech_quantizer.", "speech_code_projection.")
# Sized by the labels: they start anew where a model is loaded for other labels, and `untrained` names them then.
OF_LABELS = ("classifier.", "text_classifier.", "speech_classifier.", "semantic_label_embeddings", "tonal_label_embeddings")


def _damaged_tensors(model: TwoTowerModel, info: dict) -> list[str]:
    """One sentence for each kind of wrong tensors that transformers' loading report or the weights themselves show."""
    wrong = {
        "the weights lack": info["missing_keys"],
        "the weights have other sizes than the configuration says in": [
            key for key, *_ in info["mismatched_keys"] if not key.startswith(OF_LABELS)
        ],
        "the weights have what the configuration has no place for": [
            key for key in info["unexpected_keys"] if not key.startswith(QUANTIZER)
        ],
        "NaN or infinity stands in": not_finite(model),
    }
    return [f"{what} {_some(sorted(names))}" for what, names in wrong.items() if names]


def _some(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _saved_labels(model_class: type, checkpoint, kwargs: dict) -> list[str]:
    """The labels that a checkpoint was saved with. Empty if the caller did not ask for other labels."""
    if checkpoint is None or not {"config", "id2label", "label2id"} & {name for name in kwargs if kwargs[name] is not None}:
        return []
    hub = ("cache_dir", "local_files_only", "token", "revision", "subfolder")
    saved = model_class.config_class.get_config_dict(checkpoint, **{name: kwargs[name] for name in hub if name in kwargs})[0]
    return [name for _, name in sorted((saved.get("id2label") or {}).items(), key=lambda item: int(item[0]))]


def freeze_unused_in_speech_tower(speech_model: Any) -> None:
    """Freeze the parameters that a speech tower has and never uses."""
    config = speech_model.config
    first = speech_model.feature_extractor.conv_layers[0]
    if isinstance(first, LogMelLayer):
        first.requires_grad_(False)
    if config.model_type == "wav2vec2-conformer":
        speech_model.encoder.pos_conv_embed.requires_grad_(False)
    masks_time = getattr(config, "apply_spec_augment", True) and config.mask_time_prob > 0
    if hasattr(speech_model, "masked_spec_embed") and not masks_time:
        speech_model.masked_spec_embed.requires_grad_(False)


@dataclass
class Towers:
    """Loaded towers and their configurations, None where the modality needs none.

    `pretraining` is the model that the speech tower was pre-trained in, with its quantizer and projections; of a tower out
    of a finished model only these (`quantizer`, `project_hid`, `project_q`); None if one of them is `missing`.
    """

    speech_config: PreTrainedConfig | None = None
    text_config: PreTrainedConfig | None = None
    speech_model: nn.Module | None = None
    text_model: nn.Module | None = None
    pretraining: Any = None
    missing: list[str] = field(default_factory=list)

    def copy_into(self, model: nn.Module) -> None:
        """Copy the weights into a model's `speech_model` and `text_model`."""
        for name in ("speech_model", "text_model"):
            if getattr(self, name) is not None:
                getattr(model, name).load_state_dict(getattr(self, name).state_dict())


def load_towers(speech: Any, text: Any, config: dict) -> Towers:
    """
    Load the towers that a modality needs, in float32.

    Args:
        speech, text: Folders or Hub names of pre-training checkpoints, or of models of either paper whose tower is taken.
        config: Fields of a model's configuration: `modality`, and in `speech_config` and `text_config` what changes in
            the towers' own.

    Raises:
        ValueError: a tower is missing, or a field that it does not have; a model of the other modality.
        OSError: there is no such checkpoint.
    """
    modality = config.get("modality", "multimodal")
    needs_speech = modality != "text" and config.get("speech_encoder", "tower") == "tower"
    for name, tower, needed in (("speech", speech, needs_speech), ("text", text, modality != "speech")):
        if needed and tower is None:
            raise ValueError(f"modality={modality!r} needs a {name} tower, got None: give a folder or a Hub name")
    towers = Towers()
    if needs_speech:
        towers.speech_config = tower_config(speech, "speech", config.get("speech_config"))
        with opening(speech):
            towers.speech_model, towers.pretraining, towers.missing = _load_speech_tower(speech, towers.speech_config)
    if modality != "speech":
        towers.text_config = tower_config(text, "text", config.get("text_config"))
        with opening(text):
            if _is_finished(AutoConfig.from_pretrained(text)):
                towers.text_model = _whole(AutoModel.from_pretrained(text, dtype=torch.float32)).text_model
            else:
                towers.text_model, info = AutoModel.from_pretrained(
                    text,
                    config=towers.text_config,
                    dtype=torch.float32,
                    output_loading_info=True,
                    **_without_pooler(towers.text_config),
                )
                _check_tower(text, towers.text_model, info)
    return towers


def _whole(model: Any) -> Any:
    """The model; a `ValueError` where the checkpoint that it was loaded from is not whole."""
    if model.damage:
        raise ValueError(refusal(model.damage))
    return model


def _check_tower(checkpoint: str, tower: Any, info: dict) -> None:
    """
    Raise a `ValueError` where a tower was loaded from a checkpoint that is not whole.

    Args:
        info: transformers' loading report, perhaps of a larger model that has the tower within it.
    """
    names, within = set(tower.state_dict()), f"{tower.base_model_prefix}."
    # A recogniser that was trained without masks has no vector for them, which starts anew. BERT's pooler is not used.
    missing = {key.removeprefix(within) for key in info["missing_keys"]} & names - {"masked_spec_embed"}
    wrong = {
        "its weights lack": sorted(key for key in missing if not key.startswith("pooler.")),
        "NaN or infinity stands in": sorted(not_finite(tower)),
    }
    damage = [f"{what} {_some(keys)}" for what, keys in wrong.items() if keys]
    if damage:
        raise ValueError(
            f"{checkpoint} is not whole, so nothing can be learnt from it: {'; '.join(damage)}. Get it again from where it "
            "was made"
        )


def _is_finished(config: PreTrainedConfig) -> bool:
    """Whether a configuration is that of a whole model of either paper, and not of a tower alone."""
    return hasattr(config, "modality") and hasattr(config, "text_config")


def tower_config(tower: str, kind: str, changes: dict | None = None) -> PreTrainedConfig:
    """
    The configuration of a tower, with fields changed.

    Args:
        tower: Folder or Hub name of the tower's checkpoint, or of a whole model that has such a tower.
        kind: "speech" or "text".
        changes: Fields of the tower's configuration and their new values.

    Raises:
        ValueError: a field that it does not have; a finished model without such a tower.
        OSError: there is no such checkpoint.
    """
    try:
        with opening(tower):
            config = AutoConfig.from_pretrained(tower)
    except OSError as error:
        raise OSError(f"{tower} is no folder with a checkpoint, and no Hub name that can be reached: {error}") from error
    finished, changes = _is_finished(config), changes or {}
    if finished:
        if getattr(config, f"{kind}_config") is None:
            raise ValueError(f"{tower} has no {kind} tower to take: it is a model with modality={config.modality!r}")
        config = getattr(config, f"{kind}_config")
    unknown = [name for name in changes if not hasattr(config, name)]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such field in the configuration of {tower} ({config.model_type})")
    if finished:
        return type(config).from_dict({**config.to_dict(), **changes})
    return AutoConfig.from_pretrained(tower, **changes)


def _without_pooler(config: PreTrainedConfig) -> dict:
    """Arguments that leave out BERT's pooler, which is not used: an unused parameter stops training on several processes."""
    accepted = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepted else {}


def _load_speech_tower(
    speech: str, config: PreTrainedConfig
) -> tuple[nn.Module, nn.Module | SimpleNamespace | None, list[str]]:
    """The speech tower of a checkpoint, the modules that it was pre-trained with, as in `Towers`, and those it lacks."""
    if _is_finished(AutoConfig.from_pretrained(speech)):
        model = _whole(AutoModel.from_pretrained(speech, dtype=torch.float32))
        # wav2vec 2.0's names of the modules. A model after Krishna 2021 has none of them.
        modules = {
            "quantizer": getattr(model, "speech_quantizer", None),
            "project_hid": getattr(model, "speech_label_projection", None),
            "project_q": getattr(model, "speech_code_projection", None),
        }
        missing = [name for name, module in modules.items() if module is None]
        if not missing:
            return model.speech_model, SimpleNamespace(**modules), []
        tower = model.speech_model
    elif type(config) in MODEL_FOR_PRETRAINING_MAPPING and hasattr(config, "num_codevector_groups"):
        model, info = AutoModelForPreTraining.from_pretrained(
            speech, config=config, dtype=torch.float32, output_loading_info=True
        )
        missing = sorted(
            key for key in info["missing_keys"] if key.split(".")[0] in ("quantizer", "project_q", "project_hid")
        )
        _check_tower(speech, model.base_model, info)
        if not missing:
            return model.base_model, model, []
        tower = model.base_model
    else:
        tower, info = AutoModel.from_pretrained(speech, config=config, dtype=torch.float32, output_loading_info=True)
        _check_tower(speech, tower, info)
        missing = ["quantizer", "project_hid", "project_q"]
    return tower, None, missing
