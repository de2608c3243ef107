"""LemerModel: its equations against slow loops, what padding and missing modalities do, training, ways of computing."""

import copy
import math

import numpy as np
import pytest
import torch
from tiny import VARIANTS, slow_forward, tiny_batch, tiny_model, tiny_variant
from torch import nn

from lemer import LemerOutput
from lemer.modeling_lemer import (
    BilinearAlignment,
    attention_constraint,
    centered_labels,
    current_tokens,
    label_attention,
    masked_max,
    masked_mean,
)

MULTIMODAL = [name for name in VARIANTS if name.startswith("C")]
WITH_LABELS = [name for name in VARIANTS if "without" not in name]


# -------------------------------------------------------------------------------------------------- by hand, on 2x2


def test_label_attention_is_the_cosine():
    hidden = torch.tensor([[[3.0, 4.0], [-2.0, 0.0]]])
    attention = label_attention(hidden, torch.tensor([[5.0, 0.0], [0.0, 0.1]]))
    torch.testing.assert_close(attention, torch.tensor([[[0.6, 0.8], [-1.0, 0.0]]]))


def test_label_attention_of_a_zero_vector_is_zero():
    assert label_attention(torch.zeros(1, 1, 2), torch.eye(2)).tolist() == [[[0.0, 0.0]]]


def test_centered_labels_are_those_that_are_set_without_their_mean():
    labels = torch.tensor([[1.0, 5.0], [0.0, 0.0], [3.0, 1.0]])
    assert centered_labels(labels).tolist() == [[-1.0, 2.0], [0.0, 0.0], [1.0, -2.0]]
    assert centered_labels(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


def test_a_vector_that_all_labels_share_changes_nothing_once_they_are_centred():
    model, batch = tiny_variant("C1 centered branches", labels=True)
    before = model(**batch)
    model.tonal_label_embeddings += 100 * torch.randn(10, generator=torch.Generator().manual_seed(3))
    after = model(**batch)
    torch.testing.assert_close(after.speech_label_logits, before.speech_label_logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(after.loss, before.loss, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("modality", "dropped"), [("speech", "input_ids"), ("text", "input_values")])
def test_branch_classifiers_answer_where_a_modality_is_missing(modality, dropped):
    model, batch = tiny_variant("C1 centered branches", labels=True)
    both = model(**batch)
    masks = {"input_ids": ("attention_mask", "token_type_ids"), "input_values": ("input_values_mask",)}[dropped]
    alone = model(**{name: values for name, values in batch.items() if name not in (dropped, *masks)})
    torch.testing.assert_close(alone.logits, both[f"{modality}_branch_logits"])
    expected = nn.functional.cross_entropy(alone.logits, batch["labels"])
    torch.testing.assert_close(alone.branch_loss, expected)


def test_branch_classifiers_change_nothing_of_the_answer_from_both():
    model, batch = tiny_variant("C1")
    with_branches = tiny_model(branch_loss_weight=0.5)
    with_branches.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(with_branches(**batch).logits, model(**batch).logits)
    assert set(with_branches.state_dict()) - set(model.state_dict()) == {
        f"{branch}_classifier.{part}" for branch in ("text", "speech") for part in ("weight", "bias")
    }


def test_a_new_branch_classifier_is_untrained_until_its_bias_moves():
    model = tiny_model(branch_loss_weight=0.5)
    model.forget_labels()
    assert {"text_classifier", "speech_classifier"} < set(model.untrained)


def test_masked_mean_is_over_real_positions():
    values = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[5.0, 7.0], [float("nan"), float("inf")]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert masked_mean(values, mask).tolist() == [[2.0, 4.0], [5.0, 7.0]]


def test_masked_max_is_over_real_positions():
    values = torch.tensor([[[-1.0, 2.0], [-3.0, 6.0]], [[-5.0, -7.0], [9.0, float("inf")]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert masked_max(values, mask).tolist() == [[-1.0, 6.0], [-5.0, -7.0]]


def test_bilinear_alignment_is_the_softmax_over_real_frames():
    alignment = BilinearAlignment(2, 2)
    alignment.weight = nn.Parameter(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))  # rows speech, columns text
    text = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    speech = torch.tensor([[[0.0, math.log(3.0) / 2], [math.log(4.0), 0.0], [50.0, 50.0]]])
    attention = alignment(text, speech, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(attention, torch.tensor([[[0.75, 0.25, 0.0], [0.2, 0.8, 0.0]]]))


def test_attention_constraint_is_the_mean_square_over_real_pairs():
    guided = torch.tensor([[[1.0, 0.5], [float("nan"), 9.0]], [[0.0, 7.0], [1.0, 7.0]]])
    cross = torch.tensor([[[0.5, 0.5], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    tokens = torch.tensor([[True, False], [True, True]])
    frames = torch.tensor([[True, True], [True, False]])
    assert attention_constraint(guided, cross, tokens, frames).item() == (0.25 + 0 + 1 + 0) / 4


# ------------------------------------------------------------------------------------------------------- slow loops


@pytest.fixture(scope="module", params=VARIANTS)
def computed(request):
    model, batch = tiny_variant(request.param, labels=True)
    out = model(**batch, output_attentions=True)
    return out, slow_forward(model, out, batch), batch


def test_every_field_but_the_towers_outputs_is_the_slow_loops(computed):
    out, expected, _ = computed
    assert {name for name in out if not name.endswith("_model_output")} == set(expected)


def test_every_value_at_real_positions_is_the_slow_loops(computed):
    out, expected, batch = computed
    real = {"T": batch.get("attention_mask"), "F": expected.get("frame_mask")}
    tokens = None if real["T"] is None else real["T"].bool().numpy()
    masks = {
        "label_token_attentions": tokens,
        "label_frame_attentions": real["F"],
        "cross_attentions": None if tokens is None or real["F"] is None else tokens[..., None] & real["F"][:, None],
    }
    masks["label_guided_attentions"] = masks["cross_attentions"]
    for name, value in expected.items():
        mask = masks.get(name, ...)
        got = out[name].detach().double().numpy()
        np.testing.assert_allclose(got[mask], np.asarray(value)[mask], rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_is_the_sum_of_its_parts_with_the_configs_weights(name):
    weights = {"classification": 0.7, "constraint": 3, "text_label": 0.0, "speech_label": 1.9}
    weights["branch"] = 0.6 if "branches" in name else 0.0
    model, batch = tiny_variant(name, labels=True, **{f"{part}_loss_weight": weight for part, weight in weights.items()})
    out = model(**batch)
    parts = [weight * out[f"{part}_loss"] for part, weight in weights.items() if f"{part}_loss" in out]
    torch.testing.assert_close(out.loss, sum(parts))


@pytest.mark.parametrize("name", ["C1", "speech", "text"])
def test_without_labels_there_are_no_losses(name):
    model, batch = tiny_variant(name)
    assert not [field for field in model(**batch) if "loss" in field]


def test_an_utterance_labelled_minus_100_is_left_out_of_the_cross_entropies():
    model, batch = tiny_variant("C4", labels=True)
    first = model(**{name: value[:2] for name, value in batch.items()}).loss
    batch["labels"][2] = -100
    torch.testing.assert_close(model(**batch).loss, first)


# ---------------------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize("name", VARIANTS)
def test_what_stands_in_the_padding_changes_no_logits_and_no_loss(name):
    model, batch = tiny_variant(name, labels=True)
    clean = model(**batch)
    for values, mask, garbage in (
        ("input_values", "input_values_mask", float("nan")),
        ("input_ids", "attention_mask", 77),
        ("token_type_ids", "attention_mask", 1),
    ):
        if values in batch:
            batch[values] = batch[values].masked_fill(batch[mask] == 0, garbage)
    dirty = model(**batch)
    for field in clean:
        if "loss" in field or field.endswith("logits"):
            torch.testing.assert_close(dirty[field], clean[field], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e4])
@pytest.mark.parametrize("name", VARIANTS)
def test_what_the_towers_say_at_padding_changes_no_logits_and_no_loss(name, garbage):
    model, batch = tiny_variant(name, labels=True)
    clean = model(**batch)
    masks = {"text_model": batch.get("attention_mask"), "speech_model": clean.frame_mask}

    def spoil(part):
        def hook(module, args, output):
            output.last_hidden_state = output.last_hidden_state.masked_fill(~masks[part].bool()[..., None], garbage)

        return hook

    for part in masks:
        if getattr(model, part) is not None:
            getattr(model, part).register_forward_hook(spoil(part))
    dirty = model(**batch)
    for field in clean:
        if "loss" in field or field.endswith("logits"):
            torch.testing.assert_close(dirty[field], clean[field], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_utterance_answers_alone_as_in_a_batch(name):
    model, batch = tiny_variant(name)
    together = model(**batch).logits
    for row in range(3):
        alone = {}
        for part, mask in (
            ("input_values", "input_values_mask"),
            ("input_ids", "attention_mask"),
            ("token_type_ids", "attention_mask"),
        ):
            if part in batch:
                real = batch[mask][row].bool()
                alone[part] = batch[part][row : row + 1, real]
        torch.testing.assert_close(model(**alone).logits[0], together[row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_masks_of_any_type_say_the_same(dtype):
    model, batch = tiny_variant("C2")
    masks = {name: batch[name].to(dtype) for name in ("input_values_mask", "attention_mask")}
    assert torch.equal(model(**{**batch, **masks}).logits, model(**batch).logits)


def test_padded_frames_have_no_weight():
    model, batch = tiny_variant("C1")
    out = model(**batch, output_attentions=True)
    assert out.cross_attentions.masked_select(~out.frame_mask[:, None]).abs().max() == 0


def test_weights_of_a_token_sum_to_one_over_frames():
    model, batch = tiny_variant("C1")
    torch.testing.assert_close(model(**batch, output_attentions=True).cross_attentions.sum(-1), torch.ones(3, 9))


@pytest.mark.parametrize("wrong", [torch.ones(2, 5, dtype=torch.long), torch.ones(500), torch.ones(1, 1, 500)])
def test_what_are_no_samples_is_named(wrong):
    model, batch = tiny_variant("C1")
    with pytest.raises(ValueError, match=r"samples \(B, S\).*input_ids="):
        model(wrong, batch["input_ids"])


# --------------------------------------------------------------------------------------------- the current utterance


def test_current_tokens_are_those_of_the_second_segment_or_all_where_there_is_one():
    real = torch.tensor([[True, True, True, True], [True, True, False, False], [True, True, True, False]])
    types = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1]])
    kept = [[False, False, True, True], [True, True, False, False], [False, True, True, False]]
    assert current_tokens(real, types).tolist() == kept


def test_current_tokens_without_token_types_are_refused():
    model, batch = tiny_variant("text current tokens")
    del batch["token_type_ids"]
    with pytest.raises(ValueError, match="token_type_ids"):
        model(**batch)


# ------------------------------------------------------------------------------------------------------- modalities


@pytest.mark.parametrize("name", [name for name in MULTIMODAL if name in WITH_LABELS and "branches" not in name])
@pytest.mark.parametrize(("modality", "field"), [("speech", "speech_label_logits"), ("text", "text_label_logits")])
def test_a_missing_modality_is_answered_by_the_other_ones_label_branch(name, modality, field):
    model, batch = tiny_variant(name)
    alone = model(**tiny_batch(modality=modality))
    torch.testing.assert_close(alone.logits, model(**batch)[field])


@pytest.mark.parametrize("modality", ["speech", "text"])
def test_loss_of_one_modality_alone_is_its_label_loss_weighted(modality):
    model, _ = tiny_variant("C1")
    out = model(**tiny_batch(modality=modality, labels=True))
    torch.testing.assert_close(out.loss, 0.2 * out[f"{modality}_label_loss"])


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("speech", "text", "modality='speech' takes input_values, got input_ids$"),
        ("text", "speech", "modality='text' takes input_ids, got input_values$"),
        ("speech", "multimodal", "modality='speech' takes input_values, got input_values and input_ids$"),
        ("text", "multimodal", "modality='text' takes input_ids, got input_values and input_ids$"),
        ("C4 without labels", "speech", "takes input_values and input_ids, got input_values: give both.*label embeddings"),
        ("C4 without labels", "text", "takes input_values and input_ids, got input_ids: give both.*label embeddings"),
    ],
)
def test_a_modality_that_the_model_cannot_use_is_refused(name, given, message):
    with pytest.raises(ValueError, match=message):
        tiny_variant(name)[0](**tiny_batch(modality=given))


@pytest.mark.parametrize(("name", "takes"), [("C1", "input_values.*input_ids"), ("text", "takes input_ids, got neither$")])
def test_nothing_given_is_refused_with_what_the_model_takes(name, takes):
    with pytest.raises(ValueError, match=takes):
        tiny_variant(name)[0](attention_mask=torch.ones(1, 3))


# ----------------------------------------------------------------------------------------------------------- output


@pytest.mark.parametrize("name", ["C1", "speech", "text"])
def test_fields_come_in_the_documented_order(name):
    model, batch = tiny_variant(name, labels=True)
    out = model(**batch, output_attentions=True)
    assert list(out) == [field for field in LemerOutput.__dataclass_fields__ if field in out]


@pytest.mark.parametrize("name", ["C1", "speech", "text"])
def test_tuple_holds_what_the_dataclass_holds(name):
    model, batch = tiny_variant(name, labels=True)
    out = model(**batch)
    flat = [value for value in out.values() if isinstance(value, torch.Tensor)]
    in_tuple = [value for value in model(**batch, return_dict=False) if isinstance(value, torch.Tensor)]
    assert all(map(torch.equal, flat, in_tuple)) and len(flat) == len(in_tuple)


def test_no_dataclass_is_left_inside_the_tuple():
    model, batch = tiny_variant("C1")
    assert {type(value) for value in model(**batch, return_dict=False)} == {tuple, torch.Tensor}


def test_return_dict_from_the_config_is_the_argument():
    model, batch = tiny_variant("C1")
    model.config.return_dict = False
    assert isinstance(model(**batch), tuple)


@pytest.mark.parametrize("asked", ["argument", "config"])
def test_attentions_come_when_asked_for(asked):
    model, batch = tiny_variant("C1")
    model.set_attn_implementation("eager")  # transformers refuses the config's switch with any other
    model.config.output_attentions = asked == "config"
    out = model(**batch, **({"output_attentions": True} if asked == "argument" else {}))
    assert out.cross_attentions.shape == out.label_guided_attentions.shape == (3, 9, 15)


def test_attentions_stay_out_unasked():
    model, batch = tiny_variant("C1")
    assert {"cross_attentions", "label_guided_attentions"}.isdisjoint(model(**batch))


@pytest.mark.parametrize("asked", ["argument", "config"])
def test_hidden_states_of_both_towers_come_when_asked_for(asked):
    model, batch = tiny_variant("C1")
    model.config.output_hidden_states = asked == "config"
    out = model(**batch, **({"output_hidden_states": True} if asked == "argument" else {}))
    assert [len(out.text_model_output.hidden_states), len(out.speech_model_output.hidden_states)] == [3, 3]


def test_hidden_states_stay_out_unasked():
    model, batch = tiny_variant("C1")
    out = model(**batch)
    assert out.text_model_output.hidden_states is out.speech_model_output.hidden_states is None


def test_towers_own_attentions_come_with_eager():
    model, batch = tiny_variant("C1")
    model.set_attn_implementation("eager")
    out = model(**batch, output_attentions=True)
    assert (len(out.text_model_output.attentions), len(out.speech_model_output.attentions)) == (2, 2)


# --------------------------------------------------------------------------------------------------------- training


def grown(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}


@pytest.mark.parametrize("trained", [False, True], ids=["buffers", "trained labels"])
@pytest.mark.parametrize("name", VARIANTS)
def test_exactly_the_trainable_parameters_get_a_gradient(name, trained):
    model, batch = tiny_variant(name, labels=True, train_label_embeddings=trained)
    model.train()(**batch).loss.backward()
    # Adding one number to all keys of an attention changes nothing: their biases' gradients are rounding errors.
    keys = {name for name, _ in model.named_parameters() if name.endswith(("key.bias", "linear_k.bias"))}
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert grown(model) - keys == trainable - keys


def test_masked_embedding_is_trained_where_time_is_masked():
    model, batch = tiny_variant("C1", labels=True, speech={"mask_time_prob": 0.05})
    model.train()(**batch).loss.backward()
    assert "speech_model.masked_spec_embed" in grown(model)


def test_quantizer_and_its_projection_are_frozen():
    model, _ = tiny_variant("C1")
    frozen = {name.split(".")[0] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"speech_quantizer", "speech_code_projection", "speech_model"}


def test_only_the_unused_positional_convolution_of_the_conformer_is_frozen():
    tower = tiny_model(modality="speech").speech_model
    frozen = {name for name, parameter in tower.named_parameters() if not parameter.requires_grad}
    assert {name.rsplit(".", 2)[0].removesuffix(".conv") for name in frozen} <= {
        "encoder.pos_conv_embed",
        "encoder.pos_conv_embed.conv.parametrizations",
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_one_step_lowers_the_loss(name):
    model, batch = tiny_variant(name, labels=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model.train()(**batch).loss
    before.backward()
    optimizer.step()
    assert model(**batch).loss < before


@pytest.mark.parametrize("speech", [{}, {"feat_extract_norm": "layer"}, {"model_type": "wav2vec2"}], ids=str)
def test_gradient_checkpointing_gives_equal_gradients(speech):
    model, batch = tiny_variant("C1", labels=True, speech=speech)
    other = copy.deepcopy(model)
    other.gradient_checkpointing_enable()
    for each in (model, other):
        each.train()(**batch).loss.backward()
    for (name, one), another in zip(model.named_parameters(), other.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(another.grad, one.grad, rtol=1e-5, atol=1e-7, msg=name)


# ------------------------------------------------------------------------------------------------- ways of computing


@pytest.mark.parametrize("speech", [{}, {"model_type": "wav2vec2"}], ids=["conformer", "wav2vec2"])
def test_eager_and_sdpa_answer_alike(speech):
    model, batch = tiny_variant("C1", speech=speech)
    sdpa = model(**batch).logits
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(**batch).logits, sdpa, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_stays_within_a_twentieth_of_the_largest_logit(name):
    model, batch = tiny_variant(name, labels=True)
    full = model(**batch)
    half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in batch.items()}
    out = model.bfloat16()(**half)
    assert (out.logits.float() - full.logits).abs().max() < 0.05 * full.logits.abs().max()


@pytest.mark.parametrize("name", VARIANTS)
def test_autocast_stays_within_a_twentieth_of_the_loss(name):
    model, batch = tiny_variant(name, labels=True)
    full = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        half = model(**batch).loss
    assert abs(half - full) < 0.05 * full


@pytest.mark.parametrize("name", WITH_LABELS)
def test_the_order_of_the_classes_means_nothing(name):
    model, batch = tiny_variant(name, labels=True)
    order = torch.tensor([2, 0, 3, 1])
    other = copy.deepcopy(model)
    with torch.no_grad():
        for rows, values in model.state_dict().items():
            if "label_embeddings" in rows or "classifier." in rows:
                other.state_dict()[rows].copy_(values[order])
    permuted = {**batch, "labels": order.argsort()[batch["labels"]]}
    one, another = model(**batch), other(**permuted)
    for field in one:
        if field.endswith("logits"):
            torch.testing.assert_close(another[field], one[field][:, order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(another.loss, one.loss, rtol=1e-5, atol=1e-6)
