"""Rows c and f: batches of like length over random order, and the time that training waits for data.

Shapes: N utterances, C classes.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from lemer import LemerModel, LemerProcessor
from lemer.training.batches import (
    NUM_WORKERS,
    PAD_TO_MULTIPLE_OF,
    Collator,
    LengthBuckets,
    evaluation_loader,
    training_loader,
)

from ..setup import (
    BATCH,
    IEMOCAP_SECONDS,
    RATE,
    Bench,
    make_batch,
    make_model,
    make_optimizer,
    train_step,
    without_labels,
    write_recordings,
)
from ..timing import DEVICE, Entry, as_entry, clock, difference, forward

Batches = list[list[int]]  # the indices of the utterances of every batch


def logits_in_order(model: LemerModel, singles: list[dict], batches: Batches) -> torch.Tensor:
    """Logits (N, C) of utterances (each a batch of one) that are put together to padded batches by their indices."""
    logits = torch.zeros(len(singles), model.config.num_labels)
    for rows in batches:
        parts = {name: [singles[row][name][0] for row in rows] for name in singles[0]}
        batch = {name: nn.utils.rnn.pad_sequence(values, batch_first=True) for name, values in parts.items()}
        with torch.no_grad():
            logits[rows] = model(**batch).logits.cpu()
    return logits


def spaced(batches: Batches, frames: np.ndarray, count: int, offset: float) -> Batches:
    """Some of the full batches, evenly spaced by their longest utterance: their time is that of all, scaled down."""
    full = sorted((rows for rows in batches if len(rows) == BATCH), key=lambda rows: max(frames[rows]))
    return [full[int((index + offset) * len(full) / count)] for index in range(count)]


@dataclass
class Corpus:
    """Utterances of IEMOCAP's lengths: seconds, samples at 16 kHz (`frames`) and tokens of each, (N,)."""

    size: str
    seconds: np.ndarray
    frames: np.ndarray
    tokens: np.ndarray

    def batch(self, rows: list[int], seed: int, multiple: int | None = None) -> dict[str, torch.Tensor]:
        emotions = np.zeros(len(rows), dtype=int)
        return make_batch(self.seconds[rows], self.tokens[rows], self.size, seed, emotions, multiple)

    def random_order(self, seed: int) -> Batches:
        order = np.random.default_rng(seed).permutation(len(self.seconds))
        return [order[start : start + BATCH].tolist() for start in range(0, len(order), BATCH)]

    def in_buckets(self, training: bool, seed: int) -> Batches:
        """Batches of like length as train.py makes them, for training or for evaluation."""
        if training:
            return [list(rows) for rows in LengthBuckets(self.frames.tolist(), BATCH, seed=seed)]
        lengths = Dataset.from_dict({"num_frames": self.frames.tolist()})
        return [list(rows) for rows in evaluation_loader(lengths, None, BATCH).batch_sampler]


def check_orders(model: LemerModel, corpus: Corpus) -> str:
    """Check that 32 utterances get the same predictions in both orders, and say how far their logits differ."""
    singles = [without_labels(corpus.batch([row], row)) for row in range(32)]
    by_length = Dataset.from_dict({"num_frames": corpus.frames[:32].tolist()})
    orders = (evaluation_loader(by_length, None, BATCH).batch_sampler, [list(range(16)), list(range(16, 32))])
    answers = [logits_in_order(model, singles, batches) for batches in orders]
    assert torch.equal(answers[0].argmax(1), answers[1].argmax(1)), "predictions differ between the orders"
    return f"logits of 32 utterances in both orders: {difference(*answers):.0e}, predictions all equal"


def time_batches(sides: list[Batches], run: Callable, corpus: Corpus, trial: int) -> tuple[float, float]:
    """Seconds that all batches of ours and of theirs take together, run in turn; the first trial warms up."""
    spent = [0.0, 0.0]
    for pair in zip(*sides, strict=True):
        for side, rows in enumerate(pair):
            batch = corpus.batch(rows, trial, None if side else PAD_TO_MULTIPLE_OF)
            call = lambda batch=batch: run(batch)  # noqa: E731
            if trial == 0 and not spent[side]:
                call()  # warm-up
            spent[side] += clock(call)
    return spent[0], spent[1]


def in_buckets(bench: Bench) -> Iterator[Entry]:
    """Utterances a second at IEMOCAP's lengths, batches of 16: ours over random order padded to the longest."""
    model, rng = make_model(bench.size), np.random.default_rng(0)
    seconds = IEMOCAP_SECONDS if not bench.quick else IEMOCAP_SECONDS[:64].clip(max=4.0)
    corpus = Corpus(bench.size, seconds, (seconds * RATE).astype(int), rng.integers(60, 151, len(seconds)))
    same = check_orders(model, corpus)
    counted, trials, optimizer = (2 if bench.quick else 6), bench.pairs(4, on_gpu=2), make_optimizer(model)
    runs = {
        "prediction": (lambda batch: forward(lambda: model(**batch))(), 2.8),
        "training": (lambda batch: train_step(lambda: model(**batch).loss, optimizer), 2.5),
    }
    for what, (run, target) in runs.items():
        model.train(what == "training")
        times, padded = [], []
        for trial in range(trials):
            sides = [corpus.in_buckets(model.training, trial), corpus.random_order(trial)]
            samples = [sum(len(rows) * max(corpus.frames[rows]) for rows in side) for side in sides]
            padded.append(samples[1] / samples[0])
            chosen = [spaced(side, corpus.frames, counted, (trial + 0.5) / trials) for side in sides]
            times.append(time_batches(chosen, run, corpus, trial))
        name = f"batches of like length / random order, {what}"
        entry = as_entry("c", name, times, ("at least", target), same, speed=True)
        entry.measured = (
            f"padded samples of all {len(seconds)} utterances: random order {np.median(padded):.2f} times ours; "
            f"{counted} batches timed of each order, evenly spaced by length"
        )
        if PAD_TO_MULTIPLE_OF:
            entry.measured += f"; ours timed padded to a multiple of {PAD_TO_MULTIPLE_OF} samples, which that leaves out"
        yield entry


def waiting_for_data(bench: Bench) -> Iterator[Entry]:
    """Share of a training step that goes into decoding, resampling, processing and waiting for data."""
    processor = LemerProcessor.from_pretrained(bench.checkpoint / "whole")
    model = make_model(bench.size).train()
    optimizer, batches = make_optimizer(model), bench.pairs(3, on_gpu=16)
    ahead = 2 * NUM_WORKERS  # batches that the workers make while the first one is waited for
    for rate, channels in ((16_000, 1), (44_100, 2)):
        folder = bench.folder / f"recordings_{rate}"
        count = 8 * (batches + 1 + ahead)
        seconds = np.quantile(IEMOCAP_SECONDS, (np.arange(count) + 0.5) / count)
        rows = Dataset.from_list(write_recordings(folder, seconds.clip(max=2.0 if bench.quick else None), rate, channels))
        loader = training_loader(rows, Collator(processor, "multimodal"), 8, 0, NUM_WORKERS)
        shares, begin = [], time.perf_counter()
        for batch in loader:
            batch.pop("rows")
            batch = {name: values.to(DEVICE, non_blocking=True) for name, values in batch.items()}
            ready = time.perf_counter()
            clock(lambda batch=batch: train_step(lambda: model(**batch).loss, optimizer))
            shares.append((ready - begin) / (time.perf_counter() - begin))
            begin = time.perf_counter()
        yield Entry(
            "f",
            f"data / training step, {rate} Hz files, {channels} channel{'s' if channels > 1 else ''}",
            shares[1 + ahead :],
            ("at most", 0.02),
            "one loop, train.py's loader",
            measured=f"batches of 8, {NUM_WORKERS} workers",
        )
