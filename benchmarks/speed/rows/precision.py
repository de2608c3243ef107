"""Row d: what lower precision and other runtimes gain, and whether the answers stay the same.

Shapes: N utterances, C classes, D pooled features.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn
from transformers import AutoProcessor

from lemer import LemerModel

from ..setup import Bench, as_predicted, make_model, run_onnxruntime, start_onnxruntime, without_labels
from ..timing import DEVICE, Entry, compare

LOWER = "bf16 / float32"
AS_PREDICTED = "bf16 / float32, both as predict.py runs them"


@torch.no_grad()
def fit_classifier(model: LemerModel, bench: Bench, fitted: int, tested: int) -> tuple[list[dict], torch.Tensor, float]:
    """
    Set the classifier to the ridge regression of the classes on `fitted` utterances of a second.

    Returns:
        Batches of `tested` other utterances, the logits (N, C) that the model gives them, and the share that is right.
    """
    batches = []
    for part in np.array_split(np.arange(fitted + tested) % 4, (fitted + tested) // 4):
        batches.append(bench.batch([1.0] * len(part), seed=len(batches), emotions=part))
    labels = torch.cat([batch.pop("labels") for batch in batches])
    vectors = torch.cat([model(**batch).pooler_output for batch in batches])  # (N, D)
    mean, deviation = vectors[:fitted].mean(0), vectors[:fitted].std(0) + 1e-6
    standard = (vectors[:fitted] - mean) / deviation
    targets = nn.functional.one_hot(labels[:fitted], model.config.num_labels).float()
    gram = standard @ standard.T + fitted * torch.eye(fitted, device=vectors.device)
    weight = (standard.T @ torch.linalg.solve(gram, targets - targets.mean(0))).T / deviation  # (C, D)
    model.classifier.weight.copy_(weight)
    model.classifier.bias.copy_(targets.mean(0) - weight @ mean)
    logits = model.classifier(vectors[fitted:])
    return batches[fitted // 4 :], logits, (logits.argmax(1) == labels[fitted:]).float().mean().item()


def in_bfloat16(model: LemerModel) -> Callable[[dict], torch.Tensor]:
    """A call of a model that is in bf16 already: batch -> logits (B, C)."""
    return lambda batch: model(**{**batch, "input_values": batch["input_values"].bfloat16()}).logits


def ways_to_run(model: LemerModel, bench: Bench) -> dict[str, tuple]:
    """By name: a call batch -> logits, the context to make it in, and the target of its ratio."""
    ways = {
        LOWER: (
            in_bfloat16(copy.deepcopy(model).to(torch.bfloat16)),
            nullcontext,
            ("at least", 2.8) if DEVICE == "cpu" else None,
        ),
        "bf16 autocast / float32": (
            lambda batch: model(**batch).logits,
            lambda: torch.autocast(DEVICE, torch.bfloat16),
            None,
        ),
    }
    if DEVICE == "cpu":
        with warnings.catch_warnings(action="ignore"):  # deprecated, and torch itself has no successor for the CPU
            int8 = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
        ways["int8 linear layers / float32"] = (lambda batch: int8(**batch).logits, nullcontext, None)
        processor = AutoProcessor.from_pretrained(bench.checkpoint / "whole")
        session = start_onnxruntime(copy.deepcopy(model), processor, bench.folder / "model.onnx")
        ways["onnxruntime / float32"] = (lambda batch: run_onnxruntime(session, batch), nullcontext, None)
        ways[AS_PREDICTED] = (in_bfloat16(as_predicted(model, torch.bfloat16)), nullcontext, None)
    return ways


def agreement(logits: torch.Tensor, expected: torch.Tensor, fitted: int, right: float) -> Entry:
    """The share of labels that bf16 and float32 agree on. `right` is the share of float32's labels that is right."""
    tested = len(expected)
    agreed = (logits.argmax(1) == expected.argmax(1)).float().mean().item()
    off = (logits - expected).abs().mean().item()
    first, second = expected.topk(2, dim=1).values.T
    return Entry(
        "d",
        "labels that bf16 and float32 agree on",
        [agreed],
        ("at least", 0.995),
        f"classifier fitted on {fitted} other utterances; float32 has {100 * right:.0f} % of {tested} right",
        measured=f"logits {off:.4f} off in the mean; {(first - second < 2 * off).sum()} of {tested} utterances have "
        "less than twice that between their first two classes",
    )


def in_reduced_precision(bench: Bench) -> Iterator[Entry]:
    """Other ways to run a checkpoint over torch in float32: bf16 weights, autocast, int8, onnxruntime."""
    model = make_model(bench.size)
    fitted, tested = (8, 16) if bench.quick else (100, 1000)
    batches, expected, right = fit_classifier(model, bench, fitted, tested)
    batch = without_labels(bench.batch())
    for name, (run, context, target) in ways_to_run(model, bench).items():
        full = as_predicted(model) if name == AS_PREDICTED else model

        def call(batch=batch, run=run, context=context):
            with torch.no_grad(), context():
                return run(batch)

        def full_precision(full=full):
            with torch.no_grad():
                return full(**batch)

        logits = torch.cat([call(tested_batch).float() for tested_batch in batches])
        agreed = (logits.argmax(1) == expected.argmax(1)).float().mean().item()
        same = f"labels of {tested} utterances agree: {100 * agreed:.1f} %"
        yield compare("d", f"{name}, forward", call, full_precision, bench.pairs(7), target, same, speed=True)
        if name == LOWER:
            yield agreement(logits, expected, fitted, right)
