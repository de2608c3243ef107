"""Products by oneDNN of packed weights: the same answers, only where they are wanted, nothing silently wrong."""

import copy

import pytest
import torch
from speech_towers import ALL, answers, assert_same, clips, make, pad
from tiny import tiny_batch, tiny_cross_modal, tiny_model
from torch import nn

from lemer.runtime import onednn
from lemer.runtime.onednn import PackedLinear, PackedPointwise, multiply_by_onednn, onednn_leads

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
PACKED = (PackedLinear, PackedPointwise)


class Holder(nn.Module):
    """A layer where a model is expected."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.device, self.dtype = layer, torch.device("cpu"), torch.float32

    def forward(self, values):
        return self.layer(values)


@pytest.fixture
def leading(monkeypatch):
    monkeypatch.setattr(onednn, "onednn_leads", lambda dtype: True)


def in_bf16(model: nn.Module) -> nn.Module:
    if not onednn_leads(torch.bfloat16):
        pytest.skip("a processor without AVX-512, or without bf16 in oneDNN")
    return model.to(torch.bfloat16)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (0, 6), (1, 6), (3, 6), (2, 5, 6), (2, 1, 3, 6), (2, 0, 6)])
def test_it_is_the_linear_layer(leading, shape, bias):
    torch.manual_seed(0)
    layer, values = nn.Linear(6, 4, bias=bias), torch.randn(shape)
    expected, weight = layer(values).detach(), layer.weight.detach()
    assert multiply_by_onednn(Holder(layer))
    assert type(layer) is PackedLinear
    assert torch.equal(layer.weight, weight)
    torch.testing.assert_close(layer(values), expected)
    across = torch.randn(6, 3).T  # does not lie row by row
    torch.testing.assert_close(layer(across), layer(across.contiguous()))


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution_of_one_frame_and_no_other(leading, bias):
    torch.manual_seed(0)
    values = torch.randn(2, 6, 5)
    pointwise = nn.Conv1d(6, 4, 1, bias=bias)
    others = [
        nn.Conv1d(6, 4, 3),
        nn.Conv1d(6, 4, 1, stride=2),
        nn.Conv1d(6, 4, 1, padding=1),
        nn.Conv1d(6, 4, 1, groups=2),
    ]
    for conv in (pointwise, *others):
        expected, weight = conv(values).detach(), conv.weight.detach()
        multiply_by_onednn(Holder(conv))
        assert torch.equal(conv.weight, weight)
        assert type(conv) is (PackedPointwise if conv is pointwise else nn.Conv1d)
        torch.testing.assert_close(conv(values), expected)


@pytest.mark.parametrize("make_one", [tiny_model, tiny_cross_modal])
def test_a_model_answers_the_same(leading, make_one):
    model, batch = make_one(), tiny_batch()
    with torch.no_grad():
        expected, names = model(**batch).logits, [name for name, _ in model.named_parameters()]
        assert multiply_by_onednn(model)
        torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-5)
    assert [name for name, _ in model.named_parameters()] == names
    assert not [module for module in model.modules() if type(module) is nn.Linear]
    assert [module for module in model.modules() if type(module) is PackedLinear]


@pytest.mark.parametrize("amd", [True, False])
@pytest.mark.parametrize("make_one", [tiny_model, tiny_cross_modal])
@torch.no_grad()
def test_a_model_in_bf16_answers_the_same(make_one, amd, monkeypatch):
    monkeypatch.setattr(onednn, "on_amd", lambda: amd)
    exact, batch = make_one(), tiny_batch()
    expected = exact(**batch).logits
    batch["input_values"] = batch["input_values"].bfloat16()
    before = in_bf16(copy.deepcopy(exact))
    model = copy.deepcopy(before)
    assert multiply_by_onednn(model)
    assert [module for module in model.modules() if type(module) is PackedPointwise]
    of_towers = {tower.config._attn_implementation for tower in (model.speech_model, model.text_model)}
    assert of_towers == {"eager" if amd else "sdpa"}
    rounding = (before(**batch).logits - expected).abs().max()
    assert (model(**batch).logits - expected).abs().max() <= 2 * rounding


def test_an_attention_that_was_asked_for_stays(leading, monkeypatch):
    monkeypatch.setattr(onednn, "on_amd", lambda: True)
    model = tiny_model()
    multiply_by_onednn(model)
    assert model.config._attn_implementation == "sdpa"  # in float32 torch's kernel is as fast
    model = in_bf16(tiny_model())
    model.set_attn_implementation("flex_attention")
    multiply_by_onednn(model)
    assert model.config._attn_implementation == "flex_attention"


def test_a_tower_with_an_attention_of_its_own_is_no_reason_to_warn(monkeypatch, caplog):
    monkeypatch.setattr(onednn, "on_amd", lambda: True)
    model = in_bf16(make("wavlm group"))
    caplog.clear()
    assert multiply_by_onednn(model)
    assert not caplog.records


@pytest.mark.parametrize("name", ALL)
def test_an_utterance_has_the_same_answer_alone_and_in_a_batch(leading, name):
    model = make(name)
    multiply_by_onednn(model)
    for wave, in_batch in zip(clips(), answers(model, pad(clips())), strict=True):
        assert_same(in_batch, answers(model, {"input_values": wave[None]})[0])


def test_a_model_that_only_answers_is_neither_trained_nor_copied_nor_moved_nor_saved(leading, tmp_path):
    model, batch = tiny_model(), tiny_batch()
    multiply_by_onednn(model)
    with pytest.raises(RuntimeError, match="does not require grad"):
        model(**batch).logits.sum().backward()
    of_samples = {**batch, "input_values": batch["input_values"].clone().requires_grad_()}
    for mode, inputs in ((True, batch), (False, of_samples)):
        with pytest.raises(RuntimeError, match="only be used for inference: load the model again to train"):
            model.train(mode)(**inputs)
    for use in (copy.deepcopy, lambda model: model.to(torch.bfloat16), lambda model: model.save_pretrained(tmp_path)):
        with pytest.raises(
            RuntimeError,
            match="multiply_by_onednn has packed the weights .* load the model again to train, copy, move or save it",
        ):
            use(model)
    assert not list(tmp_path.glob("*.safetensors"))


def test_nothing_changes_where_others_multiply_as_fast(monkeypatch):
    monkeypatch.setattr(onednn, "onednn_leads", lambda dtype: False)
    model = tiny_model()
    trained = [values.requires_grad for values in model.parameters()]
    assert not multiply_by_onednn(model)
    assert not [module for module in model.modules() if isinstance(module, PACKED)]
    assert [values.requires_grad for values in model.parameters()] == trained


def test_this_processor_is_asked_without_an_error():
    assert onednn_leads(torch.float16) is False
    assert {onednn.on_amd(), *map(onednn_leads, (torch.float32, torch.bfloat16))} <= {True, False}
