"""What train.py is made of: batches of like length, one collator, optimiser groups, states that survive a kill, logs.

Everything here is the same with one process and with several: batches are cut for the whole run and split among the
processes, and their order depends on seed and epoch alone.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate.tracking import GeneralTracker, on_main_process
from torch.utils.data import DataLoader, Sampler

from lemer.files import write_atomically, writing
from lemer.processing_lemer import GPU_MULTIPLE

# Processes that prepare batches: on a CPU they would take the cores that train, a GPU would wait for what one core prepares.
NUM_WORKERS = min(4, os.cpu_count() or 1) if torch.accelerator.is_available() else 0
# Samples that a batch is padded to a multiple of: a GPU plans what it runs for every length that it has not seen.
PAD_TO_MULTIPLE_OF = GPU_MULTIPLE if torch.accelerator.is_available() else None
LENGTH_JITTER = 0.1  # standard deviation of the noise on the logarithm of a length


class LengthBuckets(Sampler[list[int]]):
    """
    Batches of utterances of like length, in random order.

    Every epoch sorts by length times a random factor, so that who meets whom changes, and shuffles the batches. All
    batches are full; the few utterances left over are others in every epoch.
    """

    drop_last = False  # read, like batch_size, by accelerate's sharding

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths = np.asarray(lengths, dtype=np.float64)
        self.batch_size = min(batch_size, len(self.lengths))
        self.seed = seed
        self.epoch = self.first_batch = 0

    def start(self, epoch: int, first_batch: int = 0):
        """Set the epoch to come, and how many of its batches a resumed run has done already."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        return len(self.lengths) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        chosen = rng.permutation(len(self.lengths))[: len(self) * self.batch_size]
        jittered = self.lengths[chosen] * np.exp(rng.normal(0.0, LENGTH_JITTER, len(chosen)))
        batches = chosen[np.argsort(jittered, kind="stable")].reshape(len(self), self.batch_size)
        for batch in batches[rng.permutation(len(batches))][self.first_batch :]:
            yield batch.tolist()


class Collator:
    """Rows of the corpus schema -> one batch of the processor, with `labels` and `rows`, their indices in the split."""

    def __init__(self, processor, modality: str, max_seconds: float | None = None):
        self.processor = processor
        self.speech, self.text = modality != "text", modality != "speech"
        self.max_samples = None if max_seconds is None else int(max_seconds * processor.feature_extractor.sampling_rate)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        inputs = {}
        if self.speech:
            inputs["audio"] = [row["audio"] for row in rows]
        if self.text:
            inputs.update(text=[row["text"] for row in rows], history=[row["history"] for row in rows])
        batch = dict(self.processor(**inputs, return_tensors="pt", pad_to_multiple_of=PAD_TO_MULTIPLE_OF))
        if self.max_samples is not None and self.speech:
            for name in ("input_values", "input_values_mask"):
                batch[name] = batch[name][:, : self.max_samples]
        batch["labels"] = torch.tensor([row["label"] for row in rows])
        batch["rows"] = torch.tensor([row["row"] for row in rows])
        return batch


class IndexedRows(torch.utils.data.Dataset):
    """A `datasets.Dataset` whose rows know their index, as `row`."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return {**self.dataset[index], "row": index}


def training_loader(dataset, collator, batch_size: int, seed: int, num_workers: int) -> DataLoader:
    """Batches of [`LengthBuckets`], the loader's `batch_sampler`; `num_workers` processes prepare them ahead."""
    return DataLoader(
        IndexedRows(dataset),
        batch_sampler=LengthBuckets(dataset["num_frames"], batch_size, seed),
        collate_fn=collator,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),  # else a new iterator draws from the stream that dropout uses
    )


def evaluation_loader(dataset, collator: Collator, batch_size: int, num_workers: int = 0) -> DataLoader:
    """All rows once, longest first: like lengths meet, and what does not fit into memory fails at once."""
    order = np.argsort(-np.asarray(dataset["num_frames"]), kind="stable").tolist()
    return DataLoader(
        IndexedRows(dataset),
        batch_size=batch_size,
        sampler=order,
        collate_fn=collator,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def optimizer_groups(model, speech_lr: float, text_lr: float, new_lr: float) -> list[dict]:
    """Parameters that train, with the learning rate of their tower, or of the layers that no checkpoint had."""
    rates = {"speech_model": speech_lr, "text_model": text_lr}
    groups = {name: {"name": name, "params": [], "lr": rates.get(name, new_lr)} for name in (*rates, "new")}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.get(name.split(".")[0], groups["new"])["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def share_pairs(out, config, accelerator) -> None:
    """
    Weight the attention constraint of this process's share, so that the mean over processes is the mean over the batch.

    Eq. 10 is a mean over pairs of tokens and frames, of which the shares of a batch have unequal numbers.
    """
    if out.get("constraint_loss") is None or accelerator.num_processes == 1:
        return
    pairs = (out.token_mask.sum(1) * out.frame_mask.sum(1)).sum().float()
    weight = pairs / accelerator.reduce(pairs.clone(), "mean")
    out.loss = out.loss + config.constraint_loss_weight * (weight - 1) * out.constraint_loss
    out.constraint_loss = out.constraint_loss * weight


@torch.no_grad()
def predict(model, loader: DataLoader, accelerator) -> tuple[np.ndarray, np.ndarray]:
    """
    Logits of every row of a prepared [`evaluation_loader`], each counted once however many processes there are.

    Returns:
        labels (N,) and logits (N, C) in the order of the dataset's rows.
    """
    model.eval()
    gathered = []
    for batch in loader:
        rows = batch.pop("rows")
        labels = batch.pop("labels")
        logits = model(**batch).logits.float()
        gathered.append([part.cpu() for part in accelerator.gather_for_metrics((rows, labels, logits))])
    rows, labels, logits = (torch.cat(parts).numpy() for parts in zip(*gathered, strict=True))
    rows, first = np.unique(rows, return_index=True)
    if len(rows) != len(loader.dataset):
        raise RuntimeError(f"predicted {len(rows)} of {len(loader.dataset)} utterances")
    return labels[first], logits[first]


class States:
    """
    The states of one training run, `step-<n>` folders of which the newest complete one is kept.

    A state is `accelerator.save_state` and `progress.json`: step, epoch, batches of it done, best validation score.
    """

    def __init__(self, folder: Path, accelerator):
        self.folder, self.accelerator = Path(folder), accelerator

    def _complete(self) -> list[Path]:
        found = [path for path in self.folder.glob("step-*") if path.suffix != ".tmp"]
        return sorted(found, key=lambda path: int(path.name.split("-")[1]))

    def load(self) -> dict | None:
        """Go on from the newest state, if there is one; returns its progress."""
        complete = self._complete()
        if not complete:
            return None
        self.accelerator.load_state(str(complete[-1]))
        return json.loads((complete[-1] / "progress.json").read_text())

    def save(self, progress: dict):
        """Write a new state beside the old one, then drop the old one."""
        target = self.folder / f"step-{progress['step']:06d}"
        temporary = target.with_name(target.name + ".tmp")
        if self.accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with writing(target):
            self.accelerator.save_state(str(temporary))
        self.accelerator.wait_for_everyone()  # save_state has no barrier of its own
        if self.accelerator.is_main_process:
            (temporary / "progress.json").write_text(json.dumps(progress))
            shutil.rmtree(target, ignore_errors=True)
            os.replace(temporary, target)
            for old in self._complete()[:-1]:
                shutil.rmtree(old)
            for old in self.folder.glob("best-*"):
                if old.name != f"best-{progress['best_step']}":
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()


class JsonLinesTracker(GeneralTracker):
    """One JSON object an update, in `log.jsonl`: needs no package and is read by the reports."""

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, path: Path):
        super().__init__()
        self.path = Path(path)

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def rewind(self, step: int):
        """Forget what a killed run logged after the state that it goes on from."""
        if self.path.exists():
            lines = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
            write_atomically(self.path, "".join(line for line in lines if json.loads(line)["step"] <= step))

    @on_main_process
    def store_init_configuration(self, values: dict):
        pass  # protocol.json of the run has them

    @on_main_process
    def log(self, values: dict, step: int | None = None, **kwargs):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
