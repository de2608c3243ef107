"""torch.compile: a compiled model answers as it is, whatever the padding, and its graphs fit any length.

What is compared is what torch makes of the model before any code is generated: generating it takes minutes.
"""

import csv
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.utils import compile_regions
from releases import write_release
from safetensors.torch import load_file
from tiny import alone, tiny_batch, tiny_model, tower_folders

import lemer.train
from lemer import convolutions_lemer

ONE_LAYER = {"text": {"num_hidden_layers": 1}, "speech": {"num_hidden_layers": 1, "feat_extract_norm": "layer"}}
LENGTHS = (((9000, 2500), (9, 4)), ((4000, 12000), (3, 14)), ((700, 8123), (6, 5)))  # samples and tokens of each row


@pytest.fixture(autouse=True)
def without_graphs_of_other_tests():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_answers_as(model, compiled, batch):
    """Every row of a padded batch, by the compiled model, has the logits that the model gives to the row alone."""
    with torch.no_grad():
        logits = compiled(**batch).logits
        for row, answer in enumerate(logits):
            torch.testing.assert_close(answer, model(**alone(batch, row)).logits[0], rtol=1e-4, atol=1e-5)


def test_a_compiled_model_answers_each_row_as_alone_and_new_lengths_need_no_new_graph():
    model = tiny_model(**ONE_LAYER)
    lengths: list[set[str]] = []

    def note(graph, inputs):
        values = [node.meta.get("example_value") for node in graph.graph.nodes]
        tensors = [value for value in [*values, *inputs] if isinstance(value, torch.Tensor)]
        lengths.append({str(size) for tensor in tensors for size in tensor.shape})
        return graph.forward

    compiled = torch.compile(model, backend=note, dynamic=True)
    assert_answers_as(model, compiled, tiny_batch(*LENGTHS[0]))
    graphs = len(lengths)
    for samples, tokens in LENGTHS[1:]:
        assert_answers_as(model, compiled, tiny_batch(samples, tokens))
    assert len(lengths) == graphs > 0
    # The frames as an expression of the samples, divided by every stride, would keep the compiler busy without end.
    assert not [size for sizes in lengths for size in sizes if re.search(r"//\s*\d", size)]


def test_no_convolution_is_compiled():
    """Inductor compiles the backward pass of one for a single length, and every other length then needs a new graph."""
    model = tiny_model(modality="speech", speech=ONE_LAYER["speech"]).train()
    compiled: set[str] = set()

    def note(graph, inputs):
        compiled.update(str(node.target) for node in graph.graph.nodes)
        compiled.update(type(graph.get_submodule(node.target)).__name__ for node in graph.graph.find_nodes(op="call_module"))
        return graph.forward

    torch.compile(model, backend=note, dynamic=True)(**tiny_batch(labels=True, modality="speech")).loss.backward()
    assert any("depthwise" in name for name in compiled)
    assert not [name for name in compiled if "conv1d" in name.lower() or "conv2d" in name.lower()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiled_depthwise_convolution_is_the_convolution(dtype):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 9, 6, generator=generator).to(dtype).requires_grad_()
    kernel = torch.randn(6, 1, 5, generator=generator).to(dtype).requires_grad_()
    weights = torch.randn(2, 9, 6, generator=generator)
    found = convolutions_lemer.depthwise_operation(frames, kernel)
    expected = torch.conv1d(frames.transpose(1, 2), kernel, padding=2, groups=6).transpose(1, 2)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad((one * weights).sum(), (frames, kernel)) for one in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=10 * tolerance)
    if dtype == torch.float32:
        torch.library.opcheck(convolutions_lemer.depthwise_operation, (frames, kernel))


def test_the_file_can_be_loaded_again_as_every_checkpoint_does():
    source = Path(convolutions_lemer.__file__)
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("a_copy_of_it", source))
    module.__spec__.loader.exec_module(module)
    frames, kernel = torch.randn(1, 4, 3), torch.randn(3, 1, 3)
    again, first = (one.depthwise_operation(frames, kernel) for one in (module, convolutions_lemer))
    assert torch.equal(again, first)


def test_a_model_whose_layers_are_compiled_one_by_one_answers_each_row_as_alone():
    """Each layer is then an instance of another class, and has to get its mask all the same."""
    model = tiny_model(speech={"feat_extract_norm": "group"})
    assert_answers_as(model, compile_regions(model, backend="eager", dynamic=True), tiny_batch(*LENGTHS[0]))


def test_a_compiled_training_leaves_the_same_checkpoint(tmp_path, monkeypatch):
    """`accelerate launch --dynamo_backend` says it by an environment variable."""
    corpus = write_release(tmp_path / "corpus", sessions=2, dialogs_per_session=2)
    options = ["--text_model", str(tower_folders(tmp_path)[1]), "--set", "text_config.hidden_dropout_prob=0"]
    options += ["--set", "text_config.attention_probs_dropout_prob=0", "--validation_share", "0.3", "--words", "3"]
    options += ["--recipe", "A1", "--folds", "1", "--epochs", "2", "--batch_size", "4", "--text_lr", "1e-3"]
    leaves = []
    for backend in ("no", "eager"):
        monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
        output = tmp_path / backend
        arguments = [*options, "--data_dir", str(corpus), "--cache_dir", str(tmp_path / "cache")]
        assert lemer.train.main([*arguments, "--output_dir", str(output)]) == 0
        part = output / "fold1/seed0"
        with open(part / "predictions.csv", newline="") as file:
            rows = [[float(row[name]) for name in ("ang", "hap", "neu", "sad")] for row in csv.DictReader(file)]
        leaves.append((load_file(part / "checkpoint/model.safetensors"), np.array(rows)))
    (weights, logits), (compiled_weights, compiled_logits) = leaves
    assert weights.keys() == compiled_weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(compiled_weights[name], tensor, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(compiled_logits, logits, rtol=1e-3, atol=1e-4)
