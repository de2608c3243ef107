"""Memory before a training: what is kept is counted by hand, the model stays as it was, and what would fit does fit."""

import pytest
import torch
from tiny import tiny_batch, tiny_model
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from lemer.training.memory_estimate import Memory, _kept, describe_memory, estimate_memory, what_would_fit


class Layer(GradientCheckpointingLayer):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 10)

    def forward(self, values):
        return self.linear(values).exp()


class Two(nn.Module):
    """Two layers: each keeps the result of `exp`, which is the input of the next linear one."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])

    def forward(self, values):
        for layer in self.layers:
            values = layer(values)
        return values.sum()


def test_what_is_kept_by_hand():
    kept = _kept(Two(), {"values": torch.ones(5, 10)}, "no")
    each = 5 * 10 * 4
    assert kept == (3 * each, 3 * each, 2 * each, 2 * each)  # the input, and two results
    assert kept.checkpointed() == 4 * each


class Rows:
    """A training split of utterances of these lengths."""

    def __init__(self, *samples):
        self.samples = samples

    def __getitem__(self, key):
        return list(self.samples) if key == "num_frames" else {"samples": self.samples[key]}


def collate(rows):
    return {**tiny_batch(samples=(rows[0]["samples"],), tokens=(6,), labels=True), "rows": torch.tensor([0])}


def test_the_parabola_meets_what_is_counted_and_the_model_stays_as_it_was():
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    memory = estimate_memory(model, collate, Rows(3000, 160_000), batch_size=4)
    batch = collate([{"samples": 160_000}])
    batch.pop("rows")
    assert memory.utterance == pytest.approx(_kept(model, batch, "no").all, rel=0.02)
    assert memory.checkpointed < memory.utterance and memory.seconds == 10
    assert torch.equal(state, torch.get_rng_state()) and not model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_layers_that_layerdrop_leaves_out_at_random_are_counted():
    estimates = []
    for layerdrop in (0.0, 0.95):
        model = tiny_model(speech={"layerdrop": layerdrop})
        estimates.append(estimate_memory(model, collate, Rows(3000, 20_000), batch_size=4))
        assert model.speech_model.config.layerdrop == layerdrop
    assert estimates[0] == estimates[1]


def test_what_would_fit_does():
    memory = Memory(1e9, 1e9, 2e9, utterance=1e9, checkpointed=0.25e9, batch_size=16, seconds=10)
    assert (
        memory.total() == 1.25 * 20e9 + 0.4e9 and memory.total(4) == memory.total(checkpointing=True) == 1.25 * 8e9 + 0.4e9
    )
    text = describe_memory(memory, 26e9)
    assert "(weights 1.0, gradients 1.0, Adam 2.0, activations 16.0, beside them 5.4); 26.0 GB are free: fits" in text
    text = describe_memory(memory, 11e9)
    assert "does not fit. What would: --batch_size 4 --gradient_accumulation_steps 4; or --gradient_checkpointing" in text
    assert what_would_fit(memory, 7e9) == [
        "--batch_size 1 --gradient_accumulation_steps 16",
        "--gradient_checkpointing --batch_size 4 --gradient_accumulation_steps 4",
    ]
    assert "Take smaller towers" in describe_memory(memory, 3e9)
