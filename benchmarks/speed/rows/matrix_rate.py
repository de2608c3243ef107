"""Row k: the rate of operations of towers and models, as a fraction of that of a large matrix product."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from transformers import AutoProcessor

from lemer import LemerModel
from lemer.speech_encoder_lemer import encode_speech

from ..children import call_in_child, seconds_of_a_forward
from ..setup import (
    LIKE_LENGTHS,
    Bench,
    as_predicted,
    make_model,
    make_optimizer,
    run_onnxruntime,
    start_onnxruntime,
    train_step,
    without_labels,
)
from ..timing import DEVICE, Entry, alternate, as_entry, flops, operation_times

# At least these fractions, on a CPU.
TARGETS = {
    "ours, conformer, float32 forward": 0.88,
    "ours, conformer, bf16 forward": 0.70,
    "ours, conformer, bf16 forward, as predict.py runs it": 0.70,
    "ours, whole model, training step": 0.80,
}


@dataclass
class Run:
    """
    A call whose rate is measured.

    Attributes:
        name: Name in the table.
        call: What is timed.
        dtype: Of the matrix product that it is compared with.
        counted: A call that does the same operations, where torch cannot count those of `call`.
    """

    name: str
    call: Callable
    dtype: torch.dtype
    counted: Callable | None = None


@cache
def matrices(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Two square matrices whose product runs at the machine's rate."""
    side = 2048 if DEVICE == "cpu" else 8192
    left, right = (torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))
    return left, right


def run_conformer(model: LemerModel, values: torch.Tensor, mask: torch.Tensor) -> Callable:
    """A forward pass of the padding-safe speech tower, without gradients."""
    return torch.no_grad()(lambda: encode_speech(model.speech_model, values, mask))


def run_stock_conformer(model: LemerModel, values: torch.Tensor, mask: torch.Tensor) -> Callable:
    """A forward pass of transformers' own speech tower, without gradients."""
    return torch.no_grad()(lambda: model.speech_model(values, attention_mask=mask))


def conformer_runs(ours: LemerModel, stock: LemerModel, batch: dict) -> list[Run]:
    """Forward passes of the speech tower: ours, transformers' own, and on a CPU ours as predict.py runs it."""
    values, mask = batch["input_values"], batch["input_values_mask"]
    runs = []
    for name, model, run in (("ours", ours, run_conformer), ("stock", stock, run_stock_conformer)):
        half = copy.deepcopy(model).to(torch.bfloat16)
        runs.append(Run(f"{name}, conformer, float32 forward", run(model, values, mask), torch.float32))
        runs.append(Run(f"{name}, conformer, bf16 forward", run(half, values.bfloat16(), mask), torch.bfloat16))
    if DEVICE == "cpu":
        for loaded in runs[:2]:  # torch does not count what oneDNN multiplies, so the runs as loaded are counted
            prepared = as_predicted(ours, loaded.dtype)
            call = run_conformer(prepared, values.to(loaded.dtype), mask)
            runs.append(Run(f"{loaded.name}, as predict.py runs it", call, loaded.dtype, loaded.call))
    return runs


def bert_runs(ours: LemerModel, batch: dict) -> list[Run]:
    """Forward passes of the text tower."""
    words = {name: batch[name] for name in ("input_ids", "attention_mask")}
    runs = []
    for kind, model in (("float32 forward", ours), ("bf16 forward", copy.deepcopy(ours).to(torch.bfloat16))):
        call = torch.no_grad()(lambda model=model: model.text_model(**words))
        runs.append(Run(f"BERT, {kind}", call, model.dtype))
    return runs


def whole_model_runs(bench: Bench, ours: LemerModel, batch: dict) -> list[Run]:
    """Forward passes of the whole model on a CPU, in torch and in onnxruntime."""
    inputs = without_labels(batch)
    processor = AutoProcessor.from_pretrained(bench.checkpoint / "whole")
    session = start_onnxruntime(make_model(bench.size), processor, bench.folder / "rate.onnx")
    forward = torch.no_grad()(lambda: ours(**inputs))
    return [
        Run("ours, whole model, float32 forward", forward, torch.float32),
        Run(
            "onnxruntime, whole model, float32 forward",
            lambda: run_onnxruntime(session, inputs),
            torch.float32,
            counted=forward,
        ),
    ]


def training_runs(ours: LemerModel, stock: LemerModel, batch: dict) -> list[Run]:
    """Training steps of the whole model, and on a GPU also of ours with four times the utterances."""
    larger = {name: values.repeat(4, 1) if values.ndim == 2 else values.repeat(4) for name, values in batch.items()}
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    runs = []
    for name, model in (("ours", ours), ("stock", stock)):
        trained = copy.deepcopy(model).train()  # a copy: the forward passes are run later, in evaluation mode
        optimizer = make_optimizer(trained)

        def step(batch=batch, model=trained, optimizer=optimizer):
            train_step(lambda: model(**batch).loss, optimizer)

        runs.append(Run(f"{name}, whole model, training step", step, dtype))
        if name == "ours" and DEVICE == "cuda":
            what = f"ours, whole model, training step, {len(larger['labels'])} utterances"
            runs.append(Run(what, lambda step=step: step(larger), dtype))
    return runs


def kept_memory(bench: Bench) -> Entry:
    """The gain of keeping freed memory, each side in a process of its own."""
    seconds = LIKE_LENGTHS if not bench.quick else [0.5]
    times = [
        tuple(float(call_in_child(seconds_of_a_forward, keep, bench.size, seconds)) for keep in (True, False))
        for _ in range(bench.pairs(3))
    ]
    what = "forward, freed memory kept / given back to the system"
    return as_entry("k", what, times, ("at most", 1.0), "the same call in two processes")


def measure_rate(bench: Bench, run: Run) -> Entry:
    """The rate of a call over that of four matrix products, timed in turn with it."""
    left, right = matrices(run.dtype)
    operations = flops(run.counted or run.call)
    pairs = bench.pairs(5 if "training" in run.name else 11, on_gpu=5)
    times = alternate(run.call, lambda: [left @ right for _ in range(4)], pairs)
    rates = [(operations / ours, 4 * 2 * left.shape[0] ** 3 / products) for ours, products in times]
    rate, peak = np.median(rates, axis=0) / 1e9
    measured = f"{rate:.0f} of {peak:.0f} GFLOP/s; {operations / 1e9:.1f} GFLOP"
    if DEVICE == "cuda":
        busy, kernels = np.sum(list(operation_times(run.call).values()), axis=0)
        measured += f"; {kernels:.0f} kernels, which take {busy:.1f} of {1000 * np.median(times, axis=0)[0]:.1f} ms"
    target = ("at least", TARGETS[run.name]) if DEVICE == "cpu" and run.name in TARGETS else None
    ratios = [ours / products for ours, products in rates]
    return Entry("k", f"{run.name} / matrix rate", ratios, target, "counted", measured=measured)


def of_the_matrix_rate(bench: Bench) -> Iterator[Entry]:
    """Fraction of the rate of a large matrix product, measured in turn with it: our towers and transformers' own."""
    batch = bench.batch()
    ours, stock = make_model(bench.size), make_model(bench.size, padding_safe=False)
    runs = [*conformer_runs(ours, stock, batch), *bert_runs(ours, batch)]
    if DEVICE == "cpu":
        runs += whole_model_runs(bench, ours, batch)
    runs += training_runs(ours, stock, batch)
    if DEVICE == "cpu":
        yield kept_memory(bench)
    for run in runs:
        yield measure_rate(bench, run)
