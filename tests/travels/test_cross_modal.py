"""CrossModalModel, after Krishna 2021: its layers against slow loops, padding, modalities, training, saving."""

import copy
import re

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from tiny import (
    CROSS_MODAL_VARIANTS,
    SPEECH,
    TEXT,
    perturb,
    seeded,
    slow_cross_modal,
    tiny_batch,
    tiny_cross_modal,
    tiny_towers,
)
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    Trainer,
    TrainingArguments,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForPreTraining,
)

from lemer import CrossModalConfig, CrossModalModel, CrossModalOutput, LemerConfig
from lemer.modeling_cross_modal import AttendingBlock, MaskedConvolution, statistics_pooling

MODALITIES = ("multimodal", "speech", "text")
AUTO_CLASSES = (AutoModel, AutoModelForAudioClassification, AutoModelForSequenceClassification)


def make(name: str, labels: bool = False, **changes) -> tuple[CrossModalModel, dict]:
    """A model of one variant, and a batch of its modality."""
    variant = {**CROSS_MODAL_VARIANTS[name], **changes}
    return tiny_cross_modal(**variant), tiny_batch(labels=labels, modality=variant.get("modality", "multimodal"))


def assert_same_answers(one: CrossModalOutput, other: CrossModalOutput, tolerance: float = 1e-6):
    for field in ("logits", "pooler_output", "loss"):
        if field in one:
            torch.testing.assert_close(one[field], other[field], rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------------- by hand


def test_statistics_are_mean_and_deviation_over_real_positions():
    values = torch.tensor([[[1.0, -2.0], [5.0, 4.0], [float("nan"), float("inf")]], [[0.0, 1.0], [0.0, 2.0], [6.0, 3.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    expected = torch.tensor([[3.0, 1.0, 2.0, 3.0], [2.0, 2.0, 8.0**0.5, (2 / 3) ** 0.5]])
    torch.testing.assert_close(statistics_pooling(values, mask, eps=0.0), expected)


def test_deviation_of_one_position_is_the_root_of_eps():
    pooled = statistics_pooling(torch.tensor([[[7.0], [9.0]]]), torch.tensor([[True, False]]), eps=0.25)
    assert pooled.tolist() == [[7.0, 0.5]]


@pytest.mark.parametrize("positions", [1, 3])
def test_gradient_of_the_deviation_of_equal_positions_is_zero(positions):
    values = torch.full((1, positions, 2), 4.0, requires_grad=True)
    statistics_pooling(values, torch.ones(1, positions, dtype=torch.bool))[:, 2:].sum().backward()
    assert values.grad.tolist() == torch.zeros(1, positions, 2).tolist()


def test_gradient_of_padding_is_zero():
    values = torch.tensor([[[1.0], [2.0], [float("nan")]]], requires_grad=True)
    statistics_pooling(values, torch.tensor([[True, True, False]])).sum().backward()
    assert values.grad[0, :2].isfinite().all() and values.grad[0, 2] == 0


def test_statistics_of_bfloat16_are_summed_in_float32():
    values = torch.full((1, 1000, 1), 1.0 + 2**-7, dtype=torch.bfloat16)
    assert statistics_pooling(values, torch.ones(1, 1000, dtype=torch.bool))[0, 0].item() == 1.0 + 2**-7


def test_convolution_reads_zeros_in_the_padding_and_beyond_the_ends():
    convolution = MaskedConvolution(1, 1, 3, padding="same")
    convolution.weight, convolution.bias = nn.Parameter(torch.tensor([[[1.0, 10.0, 100.0]]])), nn.Parameter(torch.ones(1))
    values = torch.tensor([[[1.0], [2.0], [float("nan")]]])
    assert convolution(values, torch.tensor([[True, True, False]])).tolist() == [[[211.0], [22.0], [3.0]]]


def test_what_attends_to_one_position_gets_its_value_whatever_it_asks():
    block = perturb(seeded(lambda: AttendingBlock(4, 2))).eval()
    queries, other = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    value = other @ block.attention.in_proj_weight[8:].T + block.attention.in_proj_bias[8:]
    expected = block.layer_norm(queries + block.attention.out_proj(value))
    hidden, maps = block(queries, other, torch.ones(1, 1, dtype=torch.bool), True)
    torch.testing.assert_close(hidden, expected)
    assert maps.tolist() == torch.ones(1, 2, 3, 1).tolist()


# ------------------------------------------------------------------------------------------------------- slow loops


@pytest.fixture(scope="module", params=CROSS_MODAL_VARIANTS)
def computed(request):
    model, batch = make(request.param, labels=True)
    out = model(**batch, output_attentions=True)
    return out, slow_cross_modal(model, out, batch)


def test_every_field_but_the_towers_outputs_is_the_slow_loops(computed):
    out, expected = computed
    assert {name for name in out if not name.endswith("_model_output")} == set(expected)


def test_every_value_at_real_positions_is_the_slow_loops(computed):
    out, expected = computed
    for name, value in expected.items():
        got = out[name].detach().double().numpy()
        if name.endswith("_attentions"):
            for row, maps in zip(got, value, strict=True):
                real = row[:, : maps.shape[1]]
                np.testing.assert_allclose(real[..., : maps.shape[2]], maps, rtol=1e-5, atol=1e-6, err_msg=name)
                assert not real[..., maps.shape[2] :].any()
        else:
            np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_attention_crosses_or_stays_as_configured():
    shapes = {}
    for name in ("cross", "self"):
        model, batch = make(name)
        out = model(**batch, output_attentions=True)
        shapes[name] = (out.text_attentions.shape, out.speech_attentions.shape)
    assert shapes == {"cross": ((3, 2, 9, 15), (3, 2, 15, 9)), "self": ((3, 2, 9, 9), (3, 2, 15, 15))}


def test_words_move_what_is_heard_only_where_attention_crosses():
    moved = {}
    for name in ("cross", "self"):
        model, batch = make(name)
        before = model(**batch).pooler_output
        after = model(**{**batch, "input_ids": batch["input_ids"].flip(0)}).pooler_output
        moved[name] = [bool((part.abs() > 1e-4).any()) for part in (before - after).split(24, dim=-1)]  # text, speech
    assert moved == {"cross": [True, True], "self": [True, False]}


@pytest.mark.parametrize("name", ["cross", "speech", "text"])
def test_an_utterance_labelled_minus_100_is_left_out_of_the_loss(name):
    model, batch = make(name, labels=True)
    first = model(**{key: value[:2] for key, value in batch.items()}).loss
    batch["labels"][2] = -100
    torch.testing.assert_close(model(**batch).loss, first)


# ---------------------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_what_stands_in_the_padding_changes_nothing(name):
    model, batch = make(name, labels=True)
    clean = model(**batch)
    for values, mask, garbage in (
        ("input_values", "input_values_mask", float("nan")),
        ("input_ids", "attention_mask", 77),
        ("token_type_ids", "attention_mask", 1),
    ):
        if values in batch:
            batch[values] = batch[values].masked_fill(batch[mask] == 0, garbage)
    assert_same_answers(model(**batch), clean)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e4])
@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_what_the_towers_say_at_padding_changes_nothing(name, garbage):
    model, batch = make(name, labels=True)
    clean = model(**batch)
    masks = {"text_model": batch.get("attention_mask"), "speech_model": clean.frame_mask}

    def spoil(part):
        def hook(module, args, output):
            output.last_hidden_state = output.last_hidden_state.masked_fill(~masks[part].bool()[..., None], garbage)

        return hook

    for part in masks:
        if getattr(model, part) is not None:
            getattr(model, part).register_forward_hook(spoil(part))
    assert_same_answers(model(**batch), clean)


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_an_utterance_answers_alone_as_in_any_batch_with_any_padding(name):
    model, batch = make(name)
    parts = (("input_values", "input_values_mask"), ("input_ids", "attention_mask"), ("token_type_ids", "attention_mask"))
    parts = [(part, mask) for part, mask in parts if part in batch]
    padded = {key: nn.functional.pad(value, (0, 1500 if "values" in key else 4)) for key, value in batch.items()}
    together, longer = model(**batch).logits, model(**padded).logits
    for row in range(3):
        alone = model(**{part: batch[part][row : row + 1, batch[mask][row].bool()] for part, mask in parts}).logits
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(longer, together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_the_order_of_the_utterances_means_nothing(name):
    model, batch = make(name)
    order = torch.tensor([2, 0, 1])
    permuted = model(**{key: value[order] for key, value in batch.items()})
    torch.testing.assert_close(permuted.logits, model(**batch).logits[order], rtol=1e-5, atol=1e-6)


def test_the_order_of_the_classes_means_nothing():
    model, batch = make("cross", labels=True)
    order = torch.tensor([2, 0, 3, 1])
    other = copy.deepcopy(model)
    with torch.no_grad():
        for one, another in zip(model.classifier[-1].parameters(), other.classifier[-1].parameters(), strict=True):
            another.copy_(one[order])
    permuted = {**batch, "labels": order.argsort()[batch["labels"]]}
    torch.testing.assert_close(other(**permuted).loss, model(**batch).loss)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_masks_of_any_type_say_the_same(dtype):
    model, batch = make("cross")
    masks = {name: batch[name].to(dtype) for name in ("input_values_mask", "attention_mask")}
    assert torch.equal(model(**{**batch, **masks}).logits, model(**batch).logits)


# ------------------------------------------------------------------------------------------------ modalities, output


@pytest.mark.parametrize(
    ("modality", "given", "message"),
    [
        ("speech", "text", "modality='speech' takes input_values, got input_ids"),
        ("text", "speech", "modality='text' takes input_ids, got input_values"),
        ("speech", "multimodal", "takes input_values, got input_values and input_ids"),
        ("multimodal", "speech", "modality='multimodal' takes input_values and input_ids, got input_values"),
        ("multimodal", "text", "takes input_values and input_ids, got input_ids"),
    ],
)
def test_inputs_that_are_not_the_modalitys_are_refused(modality, given, message):
    with pytest.raises(ValueError, match=f"{message}(: give both.*)?$"):
        tiny_cross_modal(modality=modality)(**tiny_batch(modality=given))


def test_nothing_given_is_refused():
    with pytest.raises(ValueError, match="takes input_ids, got neither"):
        tiny_cross_modal(modality="text")(attention_mask=torch.ones(1, 3))


@pytest.mark.parametrize("modality", MODALITIES)
def test_fields_come_in_the_documented_order(modality):
    model, batch = tiny_cross_modal(modality=modality), tiny_batch(labels=True, modality=modality)
    out = model(**batch, output_attentions=True)
    assert list(out) == [field for field in CrossModalOutput.__dataclass_fields__ if field in out]


def test_tuple_holds_what_the_dataclass_holds_and_no_dataclass():
    model, batch = make("cross", labels=True)
    flat = [value for value in model(**batch).values() if isinstance(value, torch.Tensor)]
    values = model(**batch, return_dict=False)
    in_tuple = [value for value in values if isinstance(value, torch.Tensor)]
    assert {type(value) for value in values} == {tuple, torch.Tensor}
    assert all(map(torch.equal, flat, in_tuple)) and len(flat) == len(in_tuple)


@pytest.mark.parametrize("asked", ["argument", "config"])
def test_attentions_come_when_asked_for_and_change_no_answer(asked):
    model, batch = make("cross")
    model.set_attn_implementation("eager")  # transformers refuses the config's switch with any other
    without = model(**batch)
    model.config.output_attentions = asked == "config"
    out = model(**batch, **({"output_attentions": True} if asked == "argument" else {}))
    assert {"text_attentions", "speech_attentions"} == set(out) - set(without)
    assert [len(tower.attentions) for tower in (out.text_model_output, out.speech_model_output)] == [2, 2]
    assert_same_answers(out, without)


@pytest.mark.parametrize("asked", ["argument", "config"])
def test_hidden_states_of_both_towers_come_when_asked_for(asked):
    model, batch = make("cross")
    assert model(**batch).text_model_output.hidden_states is None
    model.config.output_hidden_states = asked == "config"
    out = model(**batch, **({"output_hidden_states": True} if asked == "argument" else {}))
    assert [len(out.text_model_output.hidden_states), len(out.speech_model_output.hidden_states)] == [3, 3]


# --------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_exactly_the_trainable_parameters_get_a_gradient(name):
    model, batch = make(name, labels=True)
    model.train()(**batch).loss.backward()
    grown = {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    # Adding one number to all keys of an attention changes nothing: their biases' gradients are rounding errors.
    keys = {name for name, _ in model.named_parameters() if name.endswith(("key.bias", "linear_k.bias"))}
    assert grown - keys == {name for name, parameter in model.named_parameters() if parameter.requires_grad} - keys


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_gradients_of_one_token_and_one_frame_are_there_and_finite(name):
    model, _ = make(name)
    modality = model.config.modality
    batch = tiny_batch(samples=(400,), tokens=(1,), labels=True, modality=modality)
    model.train()(**batch).loss.backward()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trainable)


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_one_step_lowers_the_loss(name):
    model, batch = make(name, labels=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model.train()(**batch).loss
    before.backward()
    optimizer.step()
    assert model(**batch).loss < before


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_is_in_the_classifier_and_in_training_alone(dropout):
    model, batch = make("cross", dropout=dropout)
    evaluated = model(**batch)
    trained = seeded(lambda: model.train()(**batch))
    torch.testing.assert_close(trained.pooler_output, evaluated.pooler_output)
    assert torch.allclose(trained.logits, evaluated.logits) == (dropout == 0)


def test_gradient_checkpointing_gives_equal_gradients():
    model, batch = make("cross", labels=True)
    other = copy.deepcopy(model)
    other.gradient_checkpointing_enable()
    for each in (model, other):
        each.train()(**batch).loss.backward()
    for (name, one), another in zip(model.named_parameters(), other.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(another.grad, one.grad, rtol=1e-5, atol=1e-7, msg=name)


def test_a_new_model_is_untrained_until_its_first_update():
    model = seeded(lambda: CrossModalModel(CrossModalConfig(**tiny_towers("multimodal"))))
    assert model.untrained == ["classifier"]
    model(**tiny_batch(labels=True)).loss.backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert model.untrained == []


def test_trainer_evaluates_batches_of_unlike_lengths(tmp_path):
    batches = [tiny_batch(labels=True), tiny_batch(samples=(2000, 900, 400), tokens=(5, 4, 2), labels=True)]
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", per_device_eval_batch_size=1)
    trainer = Trainer(tiny_cross_modal(), arguments, data_collator=lambda rows: rows[0], eval_dataset=batches)
    predictions = trainer.predict(batches)
    assert predictions.predictions.shape == (6, 4) and np.isfinite(predictions.metrics["test_loss"])


# ------------------------------------------------------------------------------------------------- ways of computing


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_inference_without_gradients_answers_alike(name):
    model, batch = make(name, labels=True)  # torch has another path through an attention onto itself
    with torch.no_grad():
        assert_same_answers(model(**batch), model(**batch, output_attentions=True))
        without = model(**batch)
    assert_same_answers(without, model(**batch))


def test_eager_and_sdpa_towers_answer_alike():
    model, batch = make("cross", labels=True)
    sdpa = model(**batch)
    model.set_attn_implementation("eager")
    assert_same_answers(model(**batch), sdpa, 1e-5)


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_bfloat16_stays_within_a_twentieth_of_the_largest_logit(name):
    model, batch = make(name)
    full = model(**batch).logits
    half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in batch.items()}
    assert (model.bfloat16()(**half).logits.float() - full).abs().max() < 0.05 * full.abs().max()


@pytest.mark.parametrize("name", CROSS_MODAL_VARIANTS)
def test_autocast_stays_within_a_twentieth_of_the_loss(name):
    model, batch = make(name, labels=True)
    full = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        assert abs(model(**batch).loss - full) < 0.05 * full


# ---------------------------------------------------------------------------------------------------- configuration


def test_defaults_are_the_documented_ones():
    config = CrossModalConfig()
    assert (config.modality, config.attention, config.padding_safe) == ("multimodal", "cross", True)
    assert (config.hidden_size, config.kernel_size, config.num_attention_heads, config.dropout) == (256, 3, 8, 0.1)
    assert (config.speech_config.model_type, config.text_config.model_type) == ("wav2vec2-conformer", "bert")


def test_labels_are_those_of_le_mer():
    config = CrossModalConfig()
    assert (config.id2label, config.label2id) == (LemerConfig().id2label, LemerConfig().label2id)


def test_every_output_but_loss_and_logits_is_left_out_of_evaluation():
    fields = set(CrossModalOutput.__dataclass_fields__)
    assert set(CrossModalConfig.keys_to_ignore_at_inference) == fields - {"loss", "logits"}


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"modality": "video"}, "got video"),
        ({"attention": "none"}, "got none"),
        ({"kernel_size": 4}, "got 4"),
        ({"kernel_size": -1}, "got -1"),
        ({"hidden_size": 100}, "got 100 and 8"),
        ({"num_attention_heads": 0}, "got 256 and 0"),
        ({"dropout": 1.0}, "got 1.0"),
        ({"id2label": {0: "ang"}}, "{0: 'ang'}"),
        ({"id2label": {0: "ang", 2: "sad"}}, "{0: 'ang', 2: 'sad'}"),
        ({"speech_config": {"model_type": "bert"}}, "'bert'"),
        ({"speech_config": {"model_type": "wav2vec2", "add_adapter": True}}, "add_adapter=True"),
        ({"text_config": {"model_type": "hubert"}}, "'hubert'"),
    ],
)
def test_refusal_names_what_was_got(changes, got):
    with pytest.raises(StrictDataclassError, match=re.escape(got)):
        CrossModalConfig(**changes)


@pytest.mark.parametrize("modality", MODALITIES)
def test_save_and_load_gives_the_same_config(tmp_path, modality):
    config = CrossModalConfig(**tiny_towers(modality), modality=modality, attention="self", id2label={0: "no", 1: "yes"})
    config.save_pretrained(tmp_path)
    loaded = CrossModalConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict() and loaded.label2id == {"no": 0, "yes": 1}


@pytest.mark.parametrize("modality", MODALITIES)
def test_modality_decides_what_is_built(modality):
    parts = {name.split("_")[0] for name, _ in tiny_cross_modal(modality=modality).named_children()} - {"classifier"}
    assert parts == ({"speech", "text"} if modality == "multimodal" else {modality})


# ----------------------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("auto", AUTO_CLASSES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_every_tensor_survives_and_every_auto_class_opens_it(tmp_path, modality, auto):
    model = tiny_cross_modal(modality=modality)
    model.save_pretrained(tmp_path)
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is CrossModalModel and not any(info.values())
    own, others = model.state_dict(), loaded.state_dict()
    assert own.keys() == others.keys() and all(torch.equal(own[name], others[name]) for name in own)


def test_what_forward_never_calls_is_frozen_again_after_loading(tmp_path):
    model = tiny_cross_modal()
    model.save_pretrained(tmp_path)
    frozen = [
        {name for name, parameter in each.named_parameters() if not parameter.requires_grad}
        for each in (model, CrossModalModel.from_pretrained(tmp_path))
    ]
    assert frozen[0] == frozen[1] and frozen[0]


def test_what_a_checkpoint_lacks_starts_as_in_a_new_model(tmp_path):
    model = tiny_cross_modal()
    model.save_pretrained(tmp_path)
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(("text_", "classifier"))}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = seeded(lambda: CrossModalModel.from_pretrained(tmp_path))
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in kept.items())
    assert all(tensor.isfinite().all() for tensor in loaded.state_dict().values())
    attention = loaded.text_attends.attention
    assert attention.in_proj_weight.std() > 0.1 and not attention.in_proj_bias.any() and loaded.untrained


def test_a_checkpoint_loads_with_other_labels(tmp_path, caplog):
    tiny_cross_modal().save_pretrained(tmp_path)
    loaded = CrossModalModel.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert loaded(**tiny_batch()).logits.shape == (3, 5) and len(loaded.config.label2id) == 5
    assert "never trained" in caplog.text


def test_a_new_model_starts_finite():
    model = seeded(lambda: CrossModalModel(CrossModalConfig(**tiny_towers("multimodal"))))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    speech, text = ({name: value for name, value in each.items() if name != "model_type"} for each in (SPEECH, TEXT))
    perturb(seeded(lambda: Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig(**speech)))).save_pretrained(
        folder / "speech"
    )
    perturb(seeded(lambda: BertModel(BertConfig(**text)))).save_pretrained(folder / "text")
    return folder


@pytest.mark.parametrize("modality", MODALITIES)
def test_from_towers_copies_the_towers_and_takes_fields(towers, modality):
    paths = [str(towers / name) if modality in ("multimodal", name) else None for name in ("speech", "text")]
    model = CrossModalModel.from_towers(*paths, modality=modality, attention="self", hidden_size=16)
    assert not model.training and (model.config.attention, model.config.hidden_size) == ("self", 16)
    assert str(towers) not in model.config.to_json_string(use_diff=False)
    sources = {"speech_model": AutoModel.from_pretrained(towers / "speech")}
    sources["text_model"] = AutoModel.from_pretrained(towers / "text", add_pooling_layer=False)
    for name, source in sources.items():
        tower = getattr(model, name)
        if tower is not None:
            assert tower.state_dict().keys() == source.state_dict().keys()
            assert all(torch.equal(tensor, source.state_dict()[key]) for key, tensor in tower.state_dict().items())


def test_from_towers_changes_fields_of_the_towers(towers):
    model = CrossModalModel.from_towers(str(towers / "speech"), str(towers / "text"), speech_config={"hidden_dropout": 0.25})
    assert model.speech_model.config.hidden_dropout == 0.25


def test_from_towers_refuses_a_modality_without_its_tower(towers):
    with pytest.raises(ValueError, match="needs a text tower, got None"):
        CrossModalModel.from_towers(str(towers / "speech"), None)
