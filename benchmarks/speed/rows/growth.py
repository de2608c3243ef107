"""Rows i and j: memory of a training step, and how costs grow with length, corpus and processes."""

import os
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from lemer import LemerModel, LemerProcessor
from lemer.corpora.any_dataset import load_any_dataset
from lemer.labels.label_embeddings import build_label_embeddings

from .. import children
from ..children import call_in_child, child, memory_of_a_step
from ..setup import Bench, make_model, write_recordings
from ..timing import DEVICE, Entry, alternate, as_entry, forward


def memory_of(*settings) -> float:
    """`memory_of_a_step`; on a CPU in a process of its own, whose memory is what is measured."""
    if DEVICE == "cuda":
        return memory_of_a_step(*settings)
    return float(call_in_child(memory_of_a_step, *settings))


def peak_memory(bench: Bench) -> Iterator[Entry]:
    """Peak memory of a training step over that of the towers alone, with and without gradient checkpointing."""
    for checkpointing in (False, True):
        settings = (checkpointing, bench.size, 1.0 if bench.quick else 8.0)
        pairs = bench.pairs(4) if DEVICE == "cpu" else 1  # a GPU's allocator counts bytes, the same in every run
        peaks = [[memory_of(whole, *settings) for whole in (True, False)] for _ in range(pairs)]
        ours, theirs = np.median(peaks, axis=0)
        yield Entry(
            "i",
            f"memory of a training step, model / towers{', gradient checkpointing' if checkpointing else ''}",
            [whole / towers for whole, towers in peaks],
            ("at most", 1.05),
            "as row a",
            measured=f"{ours:.0f} and {theirs:.0f} MiB, a batch of 4",
        )


def growth(bench: Bench) -> Iterator[Entry]:
    """Cost and memory against the utterance's length, the longest that fits, and two processes over one."""
    model = make_model(bench.size)
    yield from growth_with_length(bench, model)
    yield memory_with_length(bench)
    yield from growth_with_corpus(bench, model)
    if DEVICE == "cuda" and torch.cuda.device_count() < 2:
        tqdm.write("j  without two processes: this machine has one GPU", file=sys.stderr)
        return
    yield two_processes(bench)


def growth_with_length(bench: Bench, model: LemerModel) -> Iterator[Entry]:
    """Cost of a second of speech in a forward pass, against the utterance's length."""
    batches = {seconds: bench.batch([float(seconds)]) for seconds in (4, 2, 8, 16, 32)}
    calls = {seconds: forward(lambda batch=batch: model(**batch)) for seconds, batch in batches.items()}
    for seconds in (2, 8, 16, 32):
        times = alternate(calls[seconds], calls[4], bench.pairs(3))
        per_second = [(ours / seconds, theirs / 4) for ours, theirs in times]
        what = f"forward of a second of speech, in {seconds} s / in 4 s"
        yield as_entry("j", what, per_second, same="one utterance, alone")


def memory_with_length(bench: Bench) -> Entry:
    """Memory of a training step against the utterances' length, and the length that fills this machine."""
    lengths = np.array([1, 2, 4] if bench.quick else [8, 16, 32])
    peaks = [memory_of(True, False, bench.size, float(seconds)) for seconds in lengths]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    if DEVICE == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**20
    longest = max((np.polynomial.Polynomial.fit(lengths, peaks, 2) - memory).roots().real)
    return Entry(
        "j",
        f"memory of a training step, four utterances of {lengths[2]} s / of {lengths[1]} s",
        [peaks[2] / peaks[1]],
        same="as row i",
        measured=f"{', '.join(f'{peak:.0f}' for peak in peaks)} MiB for {', '.join(map(str, lengths))} s; by the parabola "
        f"through them {memory:.0f} MiB are full at {longest:.0f} s",
    )


def growth_with_corpus(bench: Bench, model: LemerModel) -> Iterator[Entry]:
    """Cost of an utterance in preparing a corpus and making its tonal label embeddings, against the corpus's size."""
    sizes = (8, 16) if bench.quick else (64, 256, 1024)
    rows = write_recordings(bench.folder / "corpus", np.ones(sizes[-1]))
    processor = LemerProcessor.from_pretrained(bench.checkpoint / "whole")
    sources = {size: bench.folder / f"corpus_{size}.jsonl" for size in sizes}
    for size, source in sources.items():
        Dataset.from_list(rows[:size]).select_columns(["audio", "text", "label"]).to_json(source)
    prepared: dict[int, Dataset] = {}

    def prepare(size):
        cache = tempfile.mkdtemp(dir=bench.folder)
        prepared[size], _ = load_any_dataset(sources[size], test_share=0.5, cache_dir=cache, progress=False)

    def make_labels(size):
        build_label_embeddings(model, processor, prepared[size], semantic="random", progress=False)

    for what, run in (("preparing", prepare), ("tonal label embeddings of", make_labels)):
        for size in sizes[1:]:
            times = alternate(lambda run=run, size=size: run(size), lambda run=run: run(sizes[0]), bench.pairs(1))
            per_utterance = [(ours / size, theirs / sizes[0]) for ours, theirs in times]
            name = f"{what} an utterance, of {size} / of {sizes[0]}"
            yield as_entry("j", name, per_utterance, same="utterances of 1 s")


def two_processes(bench: Bench) -> Entry:
    """Utterances a second of training on two processes over those on one."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    script = ["-m", children.__name__, bench.size, "3.6"]
    rates = [[float(child(*torchrun, count, *script)) for count in "12"] for _ in range(bench.pairs(1))]
    single, double = np.median(rates, axis=0)
    return Entry(
        "j",
        "training, two processes / one",
        [after / before for before, after in rates],
        same="the same batch of 4 a process",
        measured=f"{double:.2f} and {single:.2f} utterances a second, one thread a process",
    )
