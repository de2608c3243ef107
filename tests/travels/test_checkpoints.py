"""LemerModel as a checkpoint: saved and loaded, made from towers, given other labels, not for use yet."""

import pytest
import torch
from tiny import SPEECH, TEXT, VARIANTS, perturb, seeded, tiny_batch, tiny_config, tiny_model, tiny_variant
from torch import nn
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    HubertConfig,
    HubertModel,
    RobertaConfig,
    RobertaModel,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForPreTraining,
    Wav2Vec2ConformerModel,
)

from lemer import CrossModalModel, LemerModel

WITH_LABELS = [name for name in VARIANTS if "without" not in name]


# ----------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("name", WITH_LABELS)
def test_training_the_label_embeddings_keeps_all_names(name):
    assert (
        tiny_variant(name)[0].state_dict().keys() == tiny_variant(name, train_label_embeddings=True)[0].state_dict().keys()
    )


@pytest.mark.parametrize("trained", [False, True], ids=["buffers", "trained labels"])
def test_label_embeddings_are_parameters_only_if_trained(trained):
    parameters = dict(tiny_variant("C1", train_label_embeddings=trained)[0].named_parameters())
    assert ("semantic_label_embeddings" in parameters, "tonal_label_embeddings" in parameters) == (trained, trained)


@pytest.mark.parametrize("trained", [False, True], ids=["buffers", "trained labels"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_tensor_survives_save_and_load(tmp_path, name, trained):
    model, _ = tiny_variant(name, train_label_embeddings=trained)
    model.save_pretrained(tmp_path)
    loaded = LemerModel.from_pretrained(tmp_path).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded[key], tensor), key


def test_nothing_is_missing_or_unexpected_on_loading(tmp_path):
    tiny_variant("C1")[0].save_pretrained(tmp_path)
    _, info = LemerModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())


def test_a_new_model_starts_finite():
    model = seeded(lambda: LemerModel(tiny_config()))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


# ------------------------------------------------------------------------------------------------------ from_towers


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """Checkpoints of tiny towers: `speech` with a quantizer, `bare` and `hubert` without, `bert` and `roberta`."""
    folder = tmp_path_factory.mktemp("towers")
    speech = {name: value for name, value in SPEECH.items() if name != "model_type"}
    text = {name: value for name, value in TEXT.items() if name != "model_type"}
    hubert = {name: value for name, value in speech.items() if "code" not in name and "conformer" not in name}
    models = {
        "speech": lambda: Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig(**speech)),
        "bare": lambda: Wav2Vec2ConformerModel(Wav2Vec2ConformerConfig(**speech)),
        "hubert": lambda: HubertModel(HubertConfig(**hubert)),
        "bert": lambda: BertModel(BertConfig(**text)),
        "roberta": lambda: RobertaModel(RobertaConfig(**text)),
    }
    for name, build in models.items():
        perturb(seeded(build)).save_pretrained(folder / name)
    return folder


def same_tensors(module: nn.Module, source: nn.Module) -> bool:
    own, others = module.state_dict(), source.state_dict()
    return own.keys() == others.keys() and all(torch.equal(own[name], others[name]) for name in own)


def test_from_towers_copies_everything_of_the_pre_training_checkpoint(towers):
    model = LemerModel.from_towers(str(towers / "speech"), str(towers / "bert"))
    source = Wav2Vec2ConformerForPreTraining.from_pretrained(towers / "speech")
    for module, original in (
        (model.speech_model, source.wav2vec2_conformer),
        (model.speech_quantizer, source.quantizer),
        (model.speech_label_projection, source.project_hid),
        (model.speech_code_projection, source.project_q),
    ):
        assert same_tensors(module, original)


@pytest.mark.parametrize("text", ["bert", "roberta"])
def test_from_towers_copies_the_text_tower_without_its_pooler(towers, text):
    model = LemerModel.from_towers(None, str(towers / text), modality="text")
    assert same_tensors(model.text_model, AutoModel.from_pretrained(towers / text, add_pooling_layer=False))


def test_from_towers_takes_fields_and_changes_of_the_towers(towers):
    model = LemerModel.from_towers(
        str(towers / "speech"), str(towers / "bert"), fusion="sum", speech_config={"hidden_dropout": 0.25}
    )
    assert (model.config.fusion, model.speech_model.config.hidden_dropout) == ("sum", 0.25)


def test_from_towers_gives_a_model_in_evaluation_mode(towers):
    assert not LemerModel.from_towers(str(towers / "speech"), None, modality="speech").training


@pytest.mark.parametrize("speech", ["bare", "hubert"])
def test_a_checkpoint_without_quantizer_is_said_and_keeps_none(towers, caplog, speech):
    model = LemerModel.from_towers(str(towers / speech), None, modality="speech")
    assert not model.config.keep_quantizer and model.speech_quantizer is None
    assert "quantizer" in caplog.text and str(towers / speech) in caplog.text


@pytest.mark.parametrize(
    "fields", [{"use_label_embeddings": False}, {"speech_label_space": "semantic", "semantic_size": 20}]
)
def test_a_missing_quantizer_is_not_said_where_none_is_used(towers, caplog, fields):
    LemerModel.from_towers(str(towers / "bare"), None, modality="speech", **fields)
    CrossModalModel.from_towers(str(towers / "hubert"), None, modality="speech")
    assert "tonal labels" not in caplog.text


@pytest.mark.parametrize("speech", ["bare", "hubert"])
def test_a_speech_tower_without_quantizer_is_copied(towers, speech):
    model = LemerModel.from_towers(str(towers / speech), None, modality="speech")
    assert same_tensors(model.speech_model, AutoModel.from_pretrained(towers / speech))


@pytest.fixture(scope="module")
def halves(towers):
    """Finished models of one modality, moved away from what they started from."""
    for name, path in (("speech", towers / "speech"), ("text", towers / "bert")):
        pair = (str(path), None) if name == "speech" else (None, str(path))
        perturb(LemerModel.from_towers(*pair, modality=name), seed=7).save_pretrained(towers / f"finished_{name}")
    return towers


@pytest.mark.parametrize("model_class", [LemerModel, CrossModalModel])
def test_towers_can_be_taken_out_of_finished_models(halves, model_class):
    paths = [str(halves / f"finished_{name}") for name in ("speech", "text")]
    model = model_class.from_towers(*paths, text_config={"hidden_dropout_prob": 0.25})
    speech, text = (LemerModel.from_pretrained(path) for path in paths)
    assert same_tensors(model.speech_model, speech.speech_model)
    assert same_tensors(model.text_model, text.text_model)
    assert model.text_model.config.hidden_dropout_prob == 0.25
    if model_class is LemerModel:
        for name in ("speech_quantizer", "speech_label_projection", "speech_code_projection"):
            assert same_tensors(getattr(model, name), getattr(speech, name))


def test_a_finished_model_of_the_other_modality_is_refused(halves):
    with pytest.raises(ValueError, match="has no text tower to take: it is a model with modality='speech'"):
        LemerModel.from_towers(None, str(halves / "finished_speech"), modality="text")


@pytest.mark.parametrize(("speech", "text", "missing"), [(None, "bert", "speech"), ("speech", None, "text")])
def test_from_towers_refuses_a_modality_without_a_tower(towers, speech, text, missing):
    paths = [None if name is None else str(towers / name) for name in (speech, text)]
    with pytest.raises(ValueError, match=f"needs a {missing} tower, got None"):
        LemerModel.from_towers(*paths)


def test_no_folder_of_the_towers_is_left_in_the_config(towers):
    model = LemerModel.from_towers(str(towers / "speech"), str(towers / "bert"))
    assert str(towers) not in model.config.to_json_string(use_diff=False)


def test_a_checkpoint_loads_with_other_labels_and_forgets_the_words_of_its_own(tmp_path):
    model = tiny_model()
    model.config.label_words = {label: ["word"] for label in model.config.id2label.values()}
    model.save_pretrained(tmp_path / "four")
    loaded = LemerModel.from_pretrained(tmp_path / "four", num_labels=5, ignore_mismatched_sizes=True)
    loaded.save_pretrained(tmp_path / "five")
    assert loaded.config.label_words is None and loaded.semantic_label_embeddings.shape[0] == 5


# ------------------------------------------------------------------------------------------------- not for use yet


def test_a_new_model_says_what_was_never_trained_or_set_and_training_ends_it():
    model = seeded(lambda: LemerModel(tiny_config()))
    assert model.untrained == ["classifier", "semantic_label_embeddings", "tonal_label_embeddings"]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    model(**tiny_batch(labels=True)).loss.backward()
    optimizer.step()
    assert model.untrained == ["semantic_label_embeddings", "tonal_label_embeddings"]
    with torch.no_grad():
        model.semantic_label_embeddings.normal_()
        model.tonal_label_embeddings.normal_()
    assert model.untrained == []


def test_label_embeddings_that_are_trained_need_no_setting():
    assert seeded(lambda: LemerModel(tiny_config(train_label_embeddings=True))).untrained == ["classifier"]


def test_labels_that_nobody_set_give_no_label_more_than_another():
    out = seeded(lambda: LemerModel(tiny_config())).eval()(**tiny_batch())
    assert not out.text_label_logits.any() and not out.speech_label_logits.any()


def test_loading_with_another_number_of_labels_warns_of_the_new_parts(tmp_path, caplog):
    tiny_model().save_pretrained(tmp_path)
    assert LemerModel.from_pretrained(tmp_path).untrained == [] and "never trained" not in caplog.text
    model = LemerModel.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert model.untrained == ["classifier", "semantic_label_embeddings", "tonal_label_embeddings"]
    assert "mean nothing yet: classifier, semantic_label_embeddings, tonal_label_embeddings" in caplog.text


@pytest.mark.parametrize("names", [["sad", "neu", "hap", "ang"], ["calm", "proud", "tired", "bored"]])
def test_loading_for_other_labels_of_the_same_number_starts_what_belongs_to_them_anew(tmp_path, caplog, names):
    tiny_model().save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, id2label=dict(enumerate(names)))
    assert "starts anew" in caplog.text and list(model.config.id2label.values()) == names
    assert model.untrained == ["classifier", "semantic_label_embeddings", "tonal_label_embeddings"]
    assert model.config.label_words is None


def test_loading_for_the_checkpoints_own_labels_changes_nothing(tmp_path, caplog):
    saved = tiny_model()
    saved.save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, id2label=saved.config.id2label)
    assert torch.equal(model.classifier.weight, saved.classifier.weight) and not caplog.text
