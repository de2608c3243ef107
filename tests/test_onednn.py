"""Linear layers by oneDNN: the same products, only where they are wanted."""

import pytest
import torch
from test_speech_encoder import answers, assert_same, clips, make, pad
from tiny import tiny_batch, tiny_model
from torch import nn

from lemer import onednn
from lemer.onednn import ConvolvedLinear, multiply_by_onednn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (3, 6), (2, 5, 6), (2, 1, 3, 6)])
def test_it_is_the_linear_layer_with_its_gradients(shape, bias):
    torch.manual_seed(0)
    layer, values = nn.Linear(6, 4, bias=bias), torch.randn(shape, requires_grad=True)
    expected = layer(values)
    layer.__class__ = ConvolvedLinear
    found = layer(values)
    torch.testing.assert_close(found, expected)
    wanted = (values, *layer.parameters())
    gradients = [torch.autograd.grad(one.square().sum(), wanted) for one in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.fixture
def lagging(monkeypatch):
    monkeypatch.setattr(onednn, "mkl_lags", lambda: True)


def test_a_model_answers_the_same_and_saves_the_same(lagging):
    model, batch = tiny_model(), tiny_batch()
    with torch.no_grad():
        expected, names = model(**batch).logits, list(model.state_dict())
        assert multiply_by_onednn(model)
        torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-5)
    assert list(model.state_dict()) == names
    assert not [module for module in model.modules() if type(module) is nn.Linear]


def test_an_utterance_has_the_same_answer_alone_and_in_a_batch(lagging):
    model = make("conformer relative layer")
    multiply_by_onednn(model)
    for wave, in_batch in zip(clips(), answers(model, pad(clips())), strict=True):
        assert_same(in_batch, answers(model, {"input_values": wave[None]})[0])


def test_nothing_changes_in_16_bits_or_where_mkl_is_as_fast(monkeypatch):
    for lags, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(onednn, "mkl_lags", lambda lags=lags: lags)
        model = tiny_model().to(dtype)
        assert not multiply_by_onednn(model)
        assert not [module for module in model.modules() if isinstance(module, ConvolvedLinear)]


def test_this_processor_is_asked_without_an_error():
    assert onednn.mkl_lags() in (True, False)
