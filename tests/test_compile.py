"""torch.compile: a compiled model answers as it is, whatever the padding, and its graphs fit any length.

What is compared is what torch makes of the model before any code is generated: generating it takes minutes.
"""

import csv
import re

import numpy as np
import pytest
import torch
from accelerate.utils import compile_regions
from releases import write_release
from safetensors.torch import load_file
from tiny import alone, tiny_batch, tiny_model, tower_folders

import lemer.train

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
    model = tiny_model(speech={"feat_extract_norm": "layer"})
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
