"""Batches of utterances of like length, for training and for prediction.

With several processes, every batch is split among them. The batches and their order depend on seed and epoch alone, so they
are the same with any number of processes.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ..audio_lemer import GPU_MULTIPLE, load_audio
from ..corpora.in_place import BUFFER, blocks_in_place, longest_first
from .targets import attribute_rows, distributions

# Processes that prepare batches. On a CPU they would take cores from the training; a GPU would wait for a single one.
NUM_WORKERS = min(4, os.cpu_count() or 1) if torch.accelerator.is_available() else 0
# Batches are padded to a multiple of this many samples, since a GPU plans its work anew for every length.
PAD_TO_MULTIPLE_OF = GPU_MULTIPLE if torch.accelerator.is_available() else None
TOKEN_MULTIPLE = 8 if torch.accelerator.is_available() else None  # the same of tokens
LENGTH_JITTER = 0.1  # standard deviation of the noise on the logarithm of a length


class LengthBuckets(Sampler[list[int]]):
    """
    Batches of utterances of like length, in random order.

    Every epoch sorts by length times a random factor, so that an utterance meets others in every epoch, and shuffles the
    batches. All batches are full. The few utterances that are left over in an epoch are others in every epoch.

    Utterances of shards are shuffled as far as a buffer goes, so that not every one needs a part of a shard of its own: the
    blocks come in random order, and batches are made of about `BUFFER` utterances of blocks that follow one another.

    Args:
        lengths: of the utterances, in any unit.
        batch_size: utterances of a batch, of all processes together.
        seed: of the order.
        blocks: the utterances in the blocks that are read together (`corpora/in_place.py`). None: any can be read alone.
    """

    drop_last = False  # read, like batch_size, by accelerate's sharding

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, blocks: Sequence[np.ndarray] | None = None):
        self.blocks = blocks
        self.lengths = np.asarray(lengths, dtype=np.float64)
        self.batch_size = min(batch_size, len(self.lengths))
        self.seed = seed
        self.epoch = self.first_batch = 0

    def start(self, epoch: int, first_batch: int = 0):
        """Set the next epoch, and how many of its batches a resumed run has done already."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        return len(self.lengths) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.blocks is None:
            order, buffer = rng.permutation(len(self.lengths)), len(self)
        else:
            order = np.concatenate([self.blocks[block] for block in rng.permutation(len(self.blocks))])
            buffer = max(1, BUFFER // self.batch_size)
        chosen = order[: len(self) * self.batch_size]
        jittered = self.lengths[chosen] * np.exp(rng.normal(0.0, LENGTH_JITTER, len(chosen)))
        for first in range(0, len(self), buffer):  # a number of batches
            part = slice(first * self.batch_size, (first + buffer) * self.batch_size)
            batches = chosen[part][np.argsort(jittered[part], kind="stable")].reshape(-1, self.batch_size)
            for batch in batches[rng.permutation(len(batches))][max(0, self.first_batch - first) :]:
                yield batch.tolist()


class Collator:
    """
    Makes a batch of rows of the corpus schema: the processor's inputs, `labels`, and `rows`, a list of the rows' indices in
    the split.

    Args:
        processor: a `LemerProcessor`.
        modality: "multimodal", "speech" or "text".
        max_seconds: longer recordings are cut; None for no cut.
        votes: make `labels` distributions (B, C) of this many classes, of the column `votes`; 0 for class indices (B,).
        attributes: names of columns that become `attribute_values` (B, A).
        silence: seconds of digital zeros to put before and after every recording.
    """

    def __init__(
        self,
        processor,
        modality: str,
        max_seconds: float | None = None,
        votes: int = 0,
        attributes: Sequence[str] = (),
        silence: float = 0.0,
    ):
        self.votes, self.attributes, self.silence = votes, tuple(attributes), silence
        self.processor = processor
        self.speech, self.text = modality != "text", modality != "speech"
        self.audio_padding = {"pad_to_multiple_of": PAD_TO_MULTIPLE_OF}
        self.text_padding = {"pad_to_multiple_of": token_multiple(processor) if self.text else None}
        self.max_samples = None if max_seconds is None else int(max_seconds * processor.feature_extractor.sampling_rate)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        inputs = {}
        if self.speech:
            rate, recordings = self.processor.feature_extractor.sampling_rate, [row["audio"] for row in rows]
            padded = [with_silence(audio, self.silence, rate) for audio in recordings] if self.silence else recordings
            inputs["audio"] = padded
        if self.text:
            inputs.update(text=[row["text"] for row in rows], history=[row["history"] for row in rows])
        padding = {"audio_kwargs": self.audio_padding, "text_kwargs": self.text_padding}
        batch = dict(self.processor(**inputs, return_tensors="pt", **padding))
        if self.max_samples is not None and self.speech:
            for name in ("input_values", "input_values_mask"):
                batch[name] = batch[name][:, : self.max_samples]
        batch["labels"] = torch.tensor([row["label"] for row in rows])
        if self.votes:
            batch["labels"] = distributions(rows, self.votes)
        if self.attributes:
            batch["attribute_values"] = attribute_rows(rows, self.attributes)
        batch["rows"] = [row["row"] for row in rows]  # a list stays on the CPU, so that no step waits for it
        return batch


def with_silence(audio, seconds: float, rate: int) -> dict:
    """A recording at `rate` Hz with so many seconds of digital zeros before and after it."""
    return {"array": np.pad(load_audio(audio, target_rate=rate), round(seconds * rate)), "sampling_rate": rate}


def token_multiple(processor) -> int | None:
    """Number of tokens of which the length of a batch is a multiple; None where the longest text then had no positions."""
    if TOKEN_MULTIPLE is None:
        return None
    longest = math.ceil(processor.max_text_length / TOKEN_MULTIPLE) * TOKEN_MULTIPLE
    return TOKEN_MULTIPLE if longest <= processor.tokenizer.model_max_length else None


class IndexedRows(torch.utils.data.Dataset):
    """A `datasets.Dataset` whose rows have their index as `row`."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return {**self.dataset[index], "row": index}


def training_loader(dataset, collator, batch_size: int, seed: int, num_workers: int) -> DataLoader:
    """A loader of `LengthBuckets`, its `batch_sampler`; `num_workers` processes prepare the batches ahead."""
    return DataLoader(
        IndexedRows(dataset),
        batch_sampler=LengthBuckets(dataset["num_frames"][:], batch_size, seed, blocks_in_place(dataset)),
        collate_fn=collator,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(
            seed
        ),  # without it, a new iterator would draw from the generator that dropout uses
    )


def evaluation_loader(dataset, collator: Callable, batch_size: int, num_workers: int = 0) -> DataLoader:
    """A loader of every row once, longest first: lengths are alike, and a batch too large for the memory comes first."""
    return DataLoader(
        IndexedRows(dataset),
        batch_size=batch_size,
        sampler=longest_first(dataset).tolist(),
        collate_fn=collator,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )
