"""LemerConfig: defaults, towers of each modality, refusals that name what was got, round trips."""

import copy
import json
import re

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny import SPEECH, TEXT, tiny_config
from transformers import (
    AutoConfig,
    BertConfig,
    HubertConfig,
    RobertaConfig,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    WavLMConfig,
)

from lemer import CrossModalConfig, LemerConfig, LemerModel, LemerOutput

DEFAULTS = {
    "modality": "multimodal",
    "fusion": "constraint",
    "use_label_embeddings": True,
    "train_label_embeddings": False,
    "speech_label_space": "projected",
    "keep_quantizer": True,
    "padding_safe": True,
    "pooled_tokens": "all",
    "classification_loss_weight": 1.0,
    "constraint_loss_weight": 0.5,
    "text_label_loss_weight": 0.2,
    "speech_label_loss_weight": 0.2,
    "label_words": None,
    "label_codes": None,
}
WORDS = {"ang": ["hate"], "hap": ["great"], "neu": ["table"], "sad": ["cry"]}
CODES = {"ang": [[0, 1], [2, 3]], "hap": [[1, 1]], "neu": [[2, 0]], "sad": [[3, 3]]}


# --------------------------------------------------------------------------------------------------------- defaults


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_is_the_papers_best_row(name):
    assert getattr(LemerConfig(), name) == DEFAULTS[name]


def test_default_towers_are_a_conformer_and_bert():
    config = LemerConfig()
    assert (config.speech_config.model_type, config.text_config.model_type) == ("wav2vec2-conformer", "bert")


def test_model_type_is_lemer():
    assert LemerConfig.model_type == "lemer"


def test_default_labels_are_in_the_order_of_the_logits():
    assert LemerConfig().id2label == {0: "ang", 1: "hap", 2: "neu", 3: "sad"}


def test_label2id_is_the_inverse_of_id2label():
    assert LemerConfig(id2label={0: "calm", 1: "cross"}).label2id == {"calm": 0, "cross": 1}


@pytest.mark.parametrize("config_class", [LemerConfig, CrossModalConfig])
def test_indices_may_be_strings(tmp_path, config_class):
    names = {0: "calm", 1: "cross"}
    given = {"id2label": {"0": "calm", "1": "cross"}, "label2id": {"calm": "0", "cross": "1"}}
    for fields in (given, {"id2label": given["id2label"]}, {"label2id": given["label2id"]}):
        config = config_class(**fields)
        assert (config.id2label, config.label2id, config.num_labels) == (names, {"calm": 0, "cross": 1}, 2)
    config.save_pretrained(tmp_path)
    opened = config_class.from_pretrained(tmp_path)
    assert (opened.id2label, opened.label2id) == (names, {"calm": 0, "cross": 1})
    renamed = config_class.from_pretrained(tmp_path, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})
    assert (renamed.id2label, renamed.label2id) == ({0: "no", 1: "yes"}, {"no": 0, "yes": 1})


def test_an_index_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="'zero'"):
        LemerConfig(id2label={"zero": "calm", "1": "cross"})


def test_num_labels_alone_names_the_labels_by_number():
    assert LemerConfig(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


def test_num_labels_of_four_keeps_the_emotions():
    assert LemerConfig(num_labels=4).id2label == LemerConfig().id2label


def test_every_auto_class_is_mapped_whatever_was_saved():
    assert LemerConfig().auto_map == {
        "AutoConfig": "configuration_lemer.LemerConfig",
        "AutoModel": "modeling_lemer.LemerModel",
        "AutoModelForAudioClassification": "modeling_lemer.LemerModel",
        "AutoModelForSequenceClassification": "modeling_lemer.LemerModel",
    }


def test_foreign_entries_of_the_auto_map_are_kept():
    assert LemerConfig(auto_map={"AutoProcessor": "processing_lemer.LemerProcessor"}).auto_map.keys() >= {
        "AutoProcessor",
        "AutoModel",
    }


def test_every_output_but_loss_and_logits_is_left_out_of_evaluation():
    fields = set(LemerOutput.__dataclass_fields__)
    assert set(LemerConfig.keys_to_ignore_at_inference) == fields - {"loss", "logits"}


# ----------------------------------------------------------------------------------------------------------- towers


@pytest.mark.parametrize(
    ("modality", "speech", "text"), [("multimodal", True, True), ("speech", True, False), ("text", False, True)]
)
def test_modality_decides_which_tower_configs_exist(modality, speech, text):
    config = LemerConfig(modality=modality)
    assert (config.speech_config is not None, config.text_config is not None) == (speech, text)


@pytest.mark.parametrize("modality", ["speech", "text"])
def test_a_tower_config_that_the_modality_has_no_use_for_is_dropped(modality):
    config = LemerConfig(modality=modality, speech_config=dict(SPEECH), text_config=dict(TEXT))
    assert getattr(config, "text_config" if modality == "speech" else "speech_config") is None


@pytest.mark.parametrize(
    ("modality", "speech", "text"), [("multimodal", True, True), ("speech", True, False), ("text", False, True)]
)
def test_modality_decides_which_towers_are_built(modality, speech, text):
    with torch.device("meta"):
        model = LemerModel(tiny_config(modality=modality))
    assert (model.speech_model is not None, model.text_model is not None) == (speech, text)


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("wav2vec2-conformer", Wav2Vec2ConformerConfig),
        ("wav2vec2", Wav2Vec2Config),
        ("hubert", HubertConfig),
        ("wavlm", WavLMConfig),
    ],
)
def test_speech_config_as_a_dict_becomes_a_config_of_its_family(model_type, expected):
    config = LemerConfig(speech_config={"model_type": model_type, "hidden_size": 48})
    assert type(config.speech_config) is expected


def test_speech_config_as_a_dict_without_model_type_is_a_conformer():
    assert type(LemerConfig(speech_config={"hidden_size": 48}).speech_config) is Wav2Vec2ConformerConfig


def test_values_of_a_tower_dict_arrive():
    assert LemerConfig(speech_config={"hidden_size": 48}).speech_config.hidden_size == 48


@pytest.mark.parametrize(("model_type", "expected"), [("bert", BertConfig), ("roberta", RobertaConfig)])
def test_text_config_as_a_dict_becomes_a_config_of_its_family(model_type, expected):
    assert type(LemerConfig(text_config={"model_type": model_type}).text_config) is expected


def test_tower_configs_may_be_objects():
    config = LemerConfig(speech_config=Wav2Vec2Config(hidden_size=48), text_config=RobertaConfig(hidden_size=24))
    assert (config.speech_config.hidden_size, config.text_config.hidden_size) == (48, 24)


@pytest.mark.parametrize(("model_type", "kept"), [("wav2vec2-conformer", True), ("wav2vec2", True), ("hubert", False)])
def test_only_families_with_a_codebook_keep_a_quantizer(model_type, kept):
    assert LemerConfig(speech_config={"model_type": model_type}).keep_quantizer is kept


def test_folder_that_a_tower_was_read_from_is_forgotten():
    tower = Wav2Vec2Config()
    tower._name_or_path = "/home/somebody/tower"
    assert "somebody" not in LemerConfig(speech_config=tower).to_json_string(use_diff=False)


@pytest.mark.parametrize(
    ("speech", "space", "size"),
    [
        ({"model_type": "wav2vec2", "proj_codevector_dim": 7}, "projected", 7),
        ({"model_type": "wav2vec2", "codevector_dim": 48, "hidden_size": 48}, "codebook", 48),
        ({"model_type": "hubert", "hidden_size": 48}, "projected", 48),
    ],
)
def test_tonal_label_size_is_the_width_of_the_label_space(speech, space, size):
    assert LemerConfig(speech_config=speech, speech_label_space=space).tonal_label_size == size


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"modality": "video"}, "got video"),
        ({"fusion": "gate"}, "got gate"),
        ({"speech_label_space": "both"}, "got both"),
        ({"id2label": {0: "ang"}}, "{0: 'ang'}"),
        ({"problem_type": "multi_label_classification"}, "'multi_label_classification'"),
        ({"id2label": {0: "ang", 2: "sad"}}, "{0: 'ang', 2: 'sad'}"),
        ({"id2label": {0: "ang", 1: "ang"}}, "{0: 'ang', 1: 'ang'}"),
        ({"num_labels": 1}, "LABEL_0"),
        ({"label_words": {"ang": ["hate"]}}, "['ang']"),
        ({"label_codes": {**CODES, "fru": [[0, 0]]}}, "'fru'"),
        ({"speech_config": {"model_type": "bert"}}, "'bert'"),
        ({"speech_config": {"model_type": "wav2vec2", "add_adapter": True}}, "add_adapter=True"),
        ({"text_config": {"model_type": "hubert"}}, "'hubert'"),
        (
            {"speech_label_space": "codebook", "speech_config": {"hidden_size": 48, "codevector_dim": 24}},
            "codevector_dim=24 and hidden_size=48",
        ),
        ({"speech_label_space": "codebook", "speech_config": {"model_type": "hubert"}}, "codevector_dim=None"),
        ({"use_label_embeddings": False}, "fusion='constraint'"),
        ({"use_label_embeddings": False, "fusion": "label"}, "fusion='label'"),
        ({"pooled_tokens": "last"}, "got last"),
        ({"constraint_loss_weight": -0.5}, "'constraint_loss_weight': -0.5"),
        ({"classification_loss_weight": float("nan")}, "nan"),
        ({"use_label_embeddings": "yes"}, "yes"),
        ({"text_label_loss_weight": "0.2"}, "0.2"),
    ],
)
def test_refusal_names_what_was_got(changes, got):
    with pytest.raises(StrictDataclassError, match=re.escape(got)):
        LemerConfig(**changes)


def test_a_value_assigned_later_is_checked_too():
    config = LemerConfig()
    with pytest.raises(StrictDataclassError, match="got gate"):
        config.fusion = "gate"


@pytest.mark.parametrize("modality", ["speech", "text"])
def test_a_unimodal_model_needs_no_label_embeddings_whatever_the_fusion(modality):
    assert LemerConfig(modality=modality, use_label_embeddings=False).fusion == "constraint"


def test_weights_may_be_integers_and_zero():
    assert LemerConfig(classification_loss_weight=1, constraint_loss_weight=0).constraint_loss_weight == 0


# ------------------------------------------------------------------------------------------------------ round trips


def changed_config(**changes):
    return tiny_config(
        fusion="sum",
        pooled_tokens="current",
        constraint_loss_weight=0.0,
        text_label_loss_weight=0.3,
        train_label_embeddings=True,
        label_words=WORDS,
        label_codes=CODES,
        **changes,
    )


@pytest.mark.parametrize("modality", ["multimodal", "speech", "text"])
def test_save_and_load_gives_the_same_config(tmp_path, modality):
    config = changed_config(modality=modality)
    config.save_pretrained(tmp_path)
    assert LemerConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize("label_scale", [1, 1.0, 7.0, 0.5])
def test_a_config_saved_with_a_label_scale_opens_without_it(tmp_path, caplog, label_scale):
    changed_config().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**saved, "label_scale": label_scale}))
    loaded = LemerConfig.from_pretrained(tmp_path)
    assert not hasattr(loaded, "label_scale") and "label_scale" not in loaded.to_dict()
    assert loaded.to_dict() == changed_config().to_dict()
    warned = f"label_scale={label_scale!r} of this configuration is not applied any more" in caplog.text
    assert warned == (label_scale != 1)


def test_labels_and_order_survive_save_and_load(tmp_path):
    LemerConfig(id2label={0: "zeal", 1: "calm", 2: "bored"}).save_pretrained(tmp_path)
    assert list(LemerConfig.from_pretrained(tmp_path).id2label.items()) == [(0, "zeal"), (1, "calm"), (2, "bored")]


def test_other_families_survive_save_and_load(tmp_path):
    LemerConfig(speech_config={"model_type": "hubert"}, text_config={"model_type": "roberta"}).save_pretrained(tmp_path)
    loaded = LemerConfig.from_pretrained(tmp_path)
    assert (type(loaded.speech_config), type(loaded.text_config)) == (HubertConfig, RobertaConfig)


def test_deepcopy_gives_the_same_config():
    config = changed_config()
    assert copy.deepcopy(config).to_dict() == config.to_dict()


def test_dict_of_a_config_makes_the_same_config():
    config = changed_config()
    assert LemerConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_saved_file_is_the_whole_auto_map(tmp_path):
    LemerConfig().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["auto_map"] == LemerConfig().auto_map


def test_auto_config_opens_a_saved_config_without_remote_code(tmp_path):
    changed_config().save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is LemerConfig


def test_fields_given_on_loading_override_the_saved_ones(tmp_path):
    changed_config().save_pretrained(tmp_path)
    assert LemerConfig.from_pretrained(tmp_path, fusion="label").fusion == "label"


def test_labels_may_be_given_either_way_round():
    assert tiny_config(label2id={"no": 0, "yes": 1}).id2label == {0: "no", 1: "yes"}
    assert tiny_config(id2label={0: "no", 1: "yes"}).label2id == {"no": 0, "yes": 1}


def test_labels_given_both_ways_must_agree():
    with pytest.raises(ValueError, match="disagree"):
        tiny_config(id2label={0: "no", 1: "yes"}, label2id={"no": 1, "yes": 0})


@pytest.mark.parametrize("temperatures", [{"speech": 0.0}, {"text": -1.0}, {"words": 1.0}, {"speech": float("inf")}])
def test_temperatures_are_positive_numbers_of_modalities(temperatures):
    with pytest.raises(StrictDataclassError, match="temperatures must give"):
        LemerConfig(temperatures=temperatures)
