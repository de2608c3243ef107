"""The padding-safe speech encoder: the same frames alone and in any batch, and the stock model wherever that is right."""

import copy
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_towers import ALL, CONFORMERS, PLAIN, TOWERS, answers, assert_same, clips, make, pad
from tiny import SPEECH, perturb, seeded, tiny_config, tiny_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, masking_utils, set_seed

import lemer.speech_encoder_lemer
from lemer.convolutions_lemer import depthwise, pointwise
from lemer.speech_encoder_lemer import encode_speech, extract_features, make_padding_safe, receptive_field

# ------------------------------------------------------------------------------------------------ alone = in a batch


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ALL)
def test_an_utterance_has_the_same_frames_and_logits_alone_and_in_a_batch(name, attention, train):
    model = make(name, attention, train)
    together = answers(model, pad(clips()))
    for wave, in_batch in zip(clips(), together, strict=True):
        assert_same(in_batch, answers(model, {"input_values": wave[None]})[0])


@pytest.mark.parametrize("extra", [1, 319, 320, 5000])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ALL)
def test_padding_of_any_amount_on_either_side_changes_nothing(name, side, extra):
    model, wave = make(name), clips()[1]
    alone = answers(model, {"input_values": wave[None]})[0]
    assert_same(answers(model, pad([wave], extra, side, fill=9.0))[0], alone)


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_a_batch_changes_nothing(name):
    model, waves = make(name), clips()
    turned = answers(model, pad(waves[::-1]))[::-1]
    for one, other in zip(turned, answers(model, pad(waves)), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "name", ["conformer relative group", "conformer rotary layer", "wav2vec2 group", "conformer log-Mel layer"]
)
@settings(max_examples=12)
@given(
    lengths=st.lists(st.integers(1, 2500), min_size=1, max_size=4),
    extra=st.integers(0, 700),
    side=st.sampled_from(["right", "left"]),
    train=st.booleans(),
)
def test_any_lengths_answer_alone_as_together(name, lengths, extra, side, train):
    model = make(name, train=train)
    for wave, in_batch in zip(clips(lengths), answers(model, pad(clips(lengths), extra, side)), strict=True):
        assert_same(in_batch, answers(model, {"input_values": wave[None]})[0])


@pytest.mark.parametrize(
    "tower",
    [
        {"model_type": "unispeech"},
        {"model_type": "unispeech-sat"},
        {"model_type": "wavlm", "feat_extract_norm": "layer", "do_stable_layer_norm": True},
        {"model_type": "data2vec-audio"},
        {"model_type": "hubert", "conv_pos_batch_norm": True},
    ],
    ids=lambda tower: " ".join(map(str, tower.values())),
)
def test_another_family_is_refused_or_padding_safe_too(tower):
    try:
        config = tiny_config(modality="speech", speech=tower)
    except StrictDataclassError as refusal:
        assert tower["model_type"] in str(refusal)
    else:
        model = tiny_model(config)
        for wave, in_batch in zip(clips(), answers(model, pad(clips())), strict=True):
            assert_same(in_batch, answers(model, {"input_values": wave[None]})[0])


# ----------------------------------------------------------------------------------------------------- short clips


def test_one_frame_reads_400_samples():
    assert receptive_field(tiny_config().speech_config) == 400


@pytest.mark.parametrize("samples", [1, 2, 399, 400, 719])
@pytest.mark.parametrize("name", TOWERS)
def test_under_720_samples_make_one_frame(name, samples):
    assert answers(make(name), {"input_values": clips([samples])[0][None]})[0][0].shape[0] == 1


@pytest.mark.parametrize("samples", [1, 399])
@pytest.mark.parametrize("name", TOWERS)
def test_a_clip_too_short_for_a_frame_is_followed_by_silence(name, samples):
    model, wave = make(name), clips([samples])[0]
    silent = torch.cat([wave, torch.zeros(400 - samples)])
    assert_same(answers(model, {"input_values": wave[None]})[0], answers(model, {"input_values": silent[None]})[0])


@pytest.mark.parametrize("samples", [1, 399])
@pytest.mark.parametrize("name", ALL)
def test_a_clip_too_short_for_a_frame_answers_the_same_in_a_batch(name, samples):
    model, (long, short) = make(name), clips([3000, samples])
    assert_same(answers(model, pad([long, short]))[1], answers(model, {"input_values": short[None]})[0])


@pytest.mark.parametrize("samples", [1, 400, 1000])
@pytest.mark.parametrize("name", TOWERS)
def test_spec_augment_takes_a_batch_shorter_than_one_masked_span(name, samples):
    masking = {**TOWERS[name], "mask_time_prob": 0.5, "mask_time_length": 10}
    model = tiny_model(modality="speech", speech=masking).train()
    out = model(input_values=clips([samples])[0][None], labels=torch.tensor([0]))
    assert out.loss.isfinite()


class OneDevice(TorchDispatchMode):
    """Refuses every operation that copies between devices."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        assert len({tensor.device for tensor in tensors}) <= 1, function
        return result


@pytest.mark.parametrize("name", ["conformer relative layer", "conformer rotary group", "wav2vec2 group"])
def test_a_training_step_reads_nothing_from_its_device(name, monkeypatch):
    """To read from a GPU is to wait for it. What is on the device "meta" has no values, so reading them is an error."""
    if not name.startswith("conformer"):  # of another tower, transformers reads whether anything is padded
        monkeypatch.setattr(masking_utils, "is_tracing", lambda *_: True)
    model = make(name, train=True).to("meta")
    batch = {key: values.to("meta") for key, values in pad(clips(), extra=100).items()}
    with OneDevice():
        model(**batch, labels=torch.zeros(4, dtype=torch.long, device="meta")).loss.backward()
    assert model.classifier.weight.grad.is_meta


@pytest.mark.parametrize("position", ["relative", "rotary", None])
def test_in_training_the_attention_of_a_block_has_the_mask_of_the_stock_encoder(position, monkeypatch):
    answers, masks_of_blocks = [], lemer.speech_encoder_lemer._masks_of_blocks
    for training in (True, False):  # with the mask for the blocks, and with that of the stock encoder
        tower = SimpleNamespace(training=training, config=SimpleNamespace(_attn_implementation="sdpa"))
        monkeypatch.setattr(
            lemer.speech_encoder_lemer, "_masks_of_blocks", lambda _, *masks, tower=tower: masks_of_blocks(tower, *masks)
        )
        model = seeded(lambda: make(f"conformer {position} layer", train=True))
        out = model(**pad(clips()), labels=torch.tensor([0, 1, 2, 3]))
        out.loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        answers.append([out.loss, out.speech_model_output.last_hidden_state[out.frame_mask], *gradients])
    for found, expected in zip(*answers, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["conformer rotary layer", "wav2vec2 group", "hubert layer stable", "wavlm group"])
def test_spec_augment_masks_what_the_tower_would_mask_by_itself(name, monkeypatch):
    answers, masked_frames = [], lemer.speech_encoder_lemer._masked_frames
    for draw in (masked_frames, lambda *_: None):  # ours, and the tower's own
        monkeypatch.setattr(lemer.speech_encoder_lemer, "_masked_frames", draw)
        masking = {**TOWERS[name], "mask_time_prob": 0.5, "mask_time_length": 2}
        model = seeded(lambda masking=masking: tiny_model(modality="speech", speech=masking)).train()
        model.set_attn_implementation("eager")  # with "sdpa", a conformer's tower gets no mask to draw by
        set_seed(0)
        hidden = [encode_speech(model.speech_model, **pad(clips()))[0].last_hidden_state for _ in range(2)]
        (hidden[0].square().sum() + hidden[1].square().sum()).backward()
        gradients = [parameter.grad for parameter in model.speech_model.parameters() if parameter.grad is not None]
        answers.append([*hidden, model.speech_model.masked_spec_embed.grad, *gradients])
    assert answers[0][2].any() and not torch.equal(*answers[0][:2])
    for found, expected in zip(*answers, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_leaving_padding_out_of_the_feed_forward_saves_arithmetic_and_changes_nothing(monkeypatch, checkpointing):
    results = []
    for share in (2.0, 0.0):  # never, always
        monkeypatch.setattr(lemer.speech_encoder_lemer, "PACKED_FROM", share)
        model = seeded(lambda: make("conformer relative layer", train=True))
        if checkpointing:
            model.gradient_checkpointing_enable()
        batch = {**pad(clips()), "labels": torch.tensor([0, 1, 2, 3])}
        with FlopCounterMode(display=False) as counter:
            out = model(**batch)
            out.loss.backward()
        hidden = out.speech_model_output.last_hidden_state[out.frame_mask]
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        results.append((counter.get_total_flops(), [out.loss, hidden, *gradients]))
    (all_frames, expected), (real_frames, found) = results
    assert real_frames < 0.95 * all_frames
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["conformer relative group", "conformer relative layer"])
def test_training_leaves_the_running_statistics_alone(name):
    model = make(name, train=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(**pad(clips()))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# ------------------------------------------------------------------------------------------------- the stock model


def stock(name: str):
    """The library's own tower, and the same one made padding-safe."""
    config = tiny_config(modality="speech", speech=TOWERS[name]).speech_config
    tower = perturb(seeded(lambda: AutoModel.from_config(config))).eval()
    safe = copy.deepcopy(tower)
    make_padding_safe(safe)
    return tower, safe


@pytest.mark.parametrize("name", TOWERS)
def test_state_dict_has_the_stock_models_keys(name):
    tower, safe = stock(name)
    assert list(safe.state_dict()) == list(tower.state_dict())


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_padding_safe_false_is_the_stock_model_exactly(name):
    tower, _ = stock(name)
    batch = pad(clips())
    output, _ = encode_speech(tower, **batch, padding_safe=False)
    expected = tower(batch["input_values"], attention_mask=batch["input_values_mask"])
    assert torch.equal(output.last_hidden_state, expected.last_hidden_state)


@pytest.mark.parametrize("name", ["conformer relative group", "wav2vec2 group"])
@torch.no_grad()
def test_a_model_with_padding_safe_false_holds_the_stock_tower(name):
    model = make(name, padding_safe=False)
    expected = AutoModel.from_config(model.config.speech_config).eval()
    expected.load_state_dict(model.speech_model.state_dict())
    batch = pad(clips())
    hidden = expected(batch["input_values"], attention_mask=batch["input_values_mask"]).last_hidden_state
    assert torch.equal(model(**batch).speech_model_output.last_hidden_state, hidden)


@pytest.mark.parametrize("name", ["conformer relative group", "conformer relative layer", "wav2vec2 group"])
def test_the_stock_model_does_answer_otherwise_in_a_batch(name):
    model = make(name, padding_safe=False)
    hidden = answers(model, pad(clips()))[1][0]
    assert (hidden - answers(model, {"input_values": clips()[1][None]})[0][0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_with_nothing_padded_the_safe_encoder_is_the_stock_one(name):
    tower, safe = stock(name)
    values = torch.stack(clips([2000, 2000, 2000]))
    output, _ = encode_speech(safe, values)
    assert_same([output.last_hidden_state], [tower(values).last_hidden_state])


@pytest.mark.parametrize("name", TOWERS)
def test_called_without_masks_a_safe_tower_is_the_stock_one(name):
    tower, safe = stock(name)
    values = torch.stack(clips([2000, 2000]))
    expected = tower(values).last_hidden_state
    assert torch.equal(safe(values).last_hidden_state, expected)
    with torch.no_grad():  # where no gradient passes the CNN encoder, by sums in another order
        assert_same(safe(values).last_hidden_state, expected)
    safe.feature_extractor._freeze_parameters()
    assert_same(safe(values).last_hidden_state, expected)


@pytest.mark.parametrize("name", [*CONFORMERS, "wav2vec2 group", "wav2vec2 layer stable"])
@torch.no_grad()
def test_extracted_features_are_the_stock_models(name):
    tower, safe = stock(name)
    values = torch.stack(clips([2000, 2000]))
    assert_same([extract_features(safe, values)[0]], [tower(values).extract_features])


@pytest.mark.parametrize("name", [*CONFORMERS, *PLAIN])
@torch.no_grad()
def test_extracted_features_ignore_padding(name):
    _, safe = stock(name)
    features, mask = extract_features(safe, **pad(clips()))
    for row, wave in enumerate(clips()):
        assert_same([features[row, mask[row]]], [extract_features(safe, wave[None])[0][0]])


@pytest.mark.parametrize("name", TOWERS)
def test_freezing_the_cnn_encoder_freezes_all_of_it(name):
    model = make(name)
    model.speech_model.feature_extractor._freeze_parameters()
    assert not any(parameter.requires_grad for parameter in model.speech_model.feature_extractor.parameters())


def test_tiny_towers_have_the_published_kernels_and_strides():
    kernels = tiny_config().speech_config.conv_kernel, tiny_config().speech_config.conv_stride
    assert "conv_kernel" not in SPEECH and kernels == ((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))


@pytest.mark.parametrize("position", ["relative", "rotary"])
def test_a_reduced_precision_pass_leaves_no_trace(position):
    model = make(f"conformer {position} group")
    batch = pad(clips())
    before = answers(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answers(model, batch)
    for (hidden, logits), (hidden_after, logits_after) in zip(before, answers(model, batch), strict=True):
        assert torch.equal(hidden, hidden_after) and torch.equal(logits, logits_after)


def test_relative_positions_are_exact_again_after_half_precision():
    model = make("conformer relative layer").to(torch.bfloat16)
    batch = pad(clips())
    answers(model, {**batch, "input_values": batch["input_values"].bfloat16()})
    table = model.speech_model.encoder.embed_positions
    expected = copy.deepcopy(table).float()
    expected.pe = expected.extend_pe(torch.empty(1, 60))
    middle = expected.pe.shape[1] // 2
    assert torch.equal(table(torch.empty(1, 50, 1)), expected.pe[:, middle - 49 : middle + 50])


@pytest.mark.parametrize("name", ["conformer relative layer", "conformer rotary group", "conformer log-Mel layer"])
def test_in_bf16_the_frames_of_an_utterance_differ_by_rounding_alone(name):
    model, batch = make(name), pad(clips())
    exact = answers(model, batch)
    model.to(torch.bfloat16)
    batch["input_values"] = batch["input_values"].bfloat16()
    for wave, (hidden, _), (in_batch, _) in zip(clips(), exact, answers(model, batch), strict=True):
        alone, _ = answers(model, {"input_values": wave[None].bfloat16()})[0]
        for frames in (alone, in_batch):
            assert frames.dtype == torch.bfloat16 and (frames - hidden).abs().mean() < 0.06 * hidden.abs().mean()


@torch.no_grad()
def test_channels_that_lie_last_give_what_the_stock_layer_gives():
    tower, safe = stock("conformer relative layer")
    waves = torch.stack(clips([2000, 2000]))
    module, features = safe.encoder.layers[0].conv_module.bfloat16(), torch.randn(2, 50, 16)
    pairs = [
        (safe.feature_extractor.bfloat16()(waves.bfloat16()), tower.feature_extractor(waves)),
        (module(features.bfloat16()), tower.encoder.layers[0].conv_module(features)),
    ]
    for found, expected in pairs:
        assert found.dtype == torch.bfloat16 and found.shape == expected.shape
        assert (found - expected).abs().mean() < 0.02 * expected.abs().mean()


@torch.no_grad()
def test_a_convolution_of_another_class_is_called_and_not_only_read():
    class Adapted(nn.Conv1d):
        def forward(self, values):
            return super().forward(values) + 1.0

    conv = Adapted(16, 32, 1).bfloat16()
    frames = torch.randn(2, 16, 5).bfloat16()
    assert torch.equal(pointwise(conv, frames), conv(frames))
    conv = Adapted(16, 16, 3, padding=1, groups=16)
    assert torch.equal(depthwise(conv, frames.float()), conv(frames.float()))


@pytest.mark.parametrize("channels, frames, kernel", [(16, 97, 31), (64, 184, 31), (20, 5, 31), (3, 1, 5)])
def test_a_depthwise_convolution_of_a_column_is_that_of_a_row(channels, frames, kernel):
    conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
    values, upstream = torch.randn(2, channels, frames, requires_grad=True), torch.randn(2, channels, frames)
    wanted = [values, *conv.parameters()]
    found, expected = depthwise(conv, values), conv(values)
    assert torch.equal(found, expected)
    for ours, theirs in zip(*(torch.autograd.grad(one, wanted, upstream) for one in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", ["relative", "rotary"])
def test_positions_of_another_precision_and_the_same_length_fit(position):
    model = make(f"conformer {position} layer")
    batch = pad(clips())
    answers(model, batch)
    model.to(torch.bfloat16)
    batch["input_values"] = batch["input_values"].bfloat16()
    assert all(hidden.dtype == torch.bfloat16 for hidden, _ in answers(model, batch))


@pytest.mark.parametrize("position", ["relative", "rotary"])
def test_training_goes_on_after_inference_mode_with_the_same_length(position):
    model = make(f"conformer {position} group", train=True)
    batch = pad(clips())
    model.speech_model.encoder.embed_positions.max_len = 1  # the table has to grow
    if position == "relative":
        model.speech_model.encoder.embed_positions.pe = torch.zeros(1, 1, 1)
    with torch.inference_mode():
        model(**batch)
    model(**batch, labels=torch.tensor([0, 1, 2, 3])).loss.backward()
    assert model.speech_model.encoder.layers[0].self_attn.linear_q.weight.grad.isfinite().all()
