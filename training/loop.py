"""The training loop of fine-tuning and of the second stage.

    accelerator = make_accelerator(folder)
    progress = train(task, accelerator, loader, folder, LoopSettings(epochs=50))

A `Task` says what a step computes. All else is here: several processes, gradient accumulation, clipping, the log, validation
and the choice of the best epoch, and states from which a killed run goes on and ends alike to the last bit.
"""

import math
import threading
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import TorchDynamoPlugin, is_tensorboard_available, set_seed
from safetensors.torch import load_model, save_model
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..evaluation.ser_metrics import emotion_scores
from ..runtime.files import whole_folder, writing
from ..runtime.stopping import Terminated, terminating
from .batches import LengthBuckets
from .states import JsonLinesTracker, States
from .update_log import UpdateLog

WEIGHTS = "model.safetensors"  # in the folder of the best weights


@dataclass(frozen=True)
class LoopSettings:
    """
    Settings of the loop.

    Attributes:
        epochs: passes over the training split.
        max_grad_norm: gradients are clipped to this norm.
        state_steps: updates between two states; there is one at the end of every epoch as well.
        seed: of dropout and everything else that is random in the model.
        select_by: the score on the validation split that chooses the epoch: "ua", "wa" or "macro_f1".
    """

    epochs: int
    max_grad_norm: float = 1.0
    state_steps: int = 200
    seed: int = 0
    select_by: str = "ua"


class Task:
    """
    What a training does in its own way. The loop calls these methods.

    Attributes:
        name: what the training is called, in the progress bar and in messages.
        model, optimizer, scheduler: the loop prepares them for several processes and puts the prepared ones in their place.
    """

    name: str
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler

    def step(self, batch: dict, rows: list[int], epoch: int, update: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Run the model on this process's share of a batch.

        Args:
            batch: what the collator made, without `rows`.
            rows: indices of the utterances in the training split.
            epoch, update: how many epochs and updates are done.

        Returns:
            The loss to differentiate, and numbers to log. The loop averages these over the batches of an update and
            over the processes.
        """
        raise NotImplementedError

    def describe_update(self) -> dict[str, float]:
        """Further numbers to log, called after every update."""
        return {}

    def end_epoch(self, epoch: int, update: int) -> None:
        """Called after the last update of an epoch, before the validation."""

    def state(self) -> dict:
        """What the task has to remember within an epoch, as JSON values."""
        return {}

    def load_state(self, state: dict) -> None:
        """Go on from what `state()` returned; from {} at the beginning of an epoch."""


def make_accelerator(
    folder: Path, mixed_precision: str | None = None, accumulation_steps: int = 1, tensorboard: bool = False
) -> Accelerator:
    """
    The `Accelerator` of a training that logs to `folder`.

    Args:
        mixed_precision: "no", "bf16", "fp16"; None for what the launcher says.
        accumulation_steps: batches of an update.
        tensorboard: also log for TensorBoard, where it is installed.
    """
    tracker = JsonLinesTracker(folder / "log.jsonl")
    return Accelerator(
        cpu=not torch.accelerator.is_available(),
        gradient_accumulation_steps=accumulation_steps,
        mixed_precision=mixed_precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
        log_with=[tracker, "tensorboard"] if tensorboard and is_tensorboard_available() else [tracker],
        project_dir=folder,
        step_scheduler_with_optimizer=True,
        dynamo_plugin=TorchDynamoPlugin(dynamic=True),  # lengths differ from batch to batch
    )


def check_batch_size(batch_size: int, accelerator: Accelerator) -> None:
    """Raise a `ValueError` if a batch cannot be split evenly among the processes."""
    if batch_size % accelerator.num_processes:
        raise ValueError(
            f"--batch_size {batch_size} cannot be split among {accelerator.num_processes} processes: give a multiple of "
            f"{accelerator.num_processes}"
        )


def count_updates(loader: DataLoader, epochs: int, accumulation_steps: int = 1) -> int:
    """Updates of a whole training; the last update of an epoch may be of fewer batches."""
    return math.ceil(len(loader) / accumulation_steps) * epochs


def train(
    task: Task,
    accelerator: Accelerator,
    loader: DataLoader,
    folder: Path,
    settings: LoopSettings,
    validation_loader: DataLoader | None = None,
) -> dict:
    """
    Train to the last epoch, from the newest state in `folder`/states if there is one.

    Args:
        loader: a `training_loader` whose batches have `rows`, the indices of their utterances.
        folder: gets log.jsonl and states.
        validation_loader: an `evaluation_loader`. After every epoch it is scored, and the weights of the epoch with the
            best score are kept in `best_weights(folder, progress)`.

    Returns:
        The progress at the end: `step` (updates), `epoch`, `batches`, and `best_score` and `best_step`, which are None
        without validation.

    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: every update had the learning rate 0.
        OSError: a state cannot be written.
        Terminated: the process got SIGTERM. The update that was running is finished, and a state of it is saved.
    """
    sampler = cast(LengthBuckets, loader.batch_sampler)
    total = count_updates(loader, settings.epochs, accelerator.gradient_accumulation_steps)
    prepared = accelerator.prepare(task.model, task.optimizer, loader, task.scheduler)
    task.model, task.optimizer, loader, task.scheduler = prepared
    accelerator.init_trackers("tensorboard")
    states = States(folder / "states", accelerator, task.model, task.optimizer, task.scheduler)
    set_seed(settings.seed)
    progress = {"step": 0, "epoch": 0, "batches": 0, "best_score": None, "best_step": None, "learned": False}
    progress |= states.load() or {}
    progress.pop("sizes", None)  # of the state's files
    task.load_state(progress.pop("task", {}))
    JsonLinesTracker(folder / "log.jsonl").rewind(progress["step"])
    if validation_loader is not None:
        validation_loader = accelerator.prepare(validation_loader)

    stop, shown = threading.Event(), {"desc": task.name, "unit": "update", "disable": not accelerator.is_main_process}
    with terminating(stop.set), tqdm(total=total, initial=progress["step"], **shown) as bar:
        for epoch in range(progress["epoch"], settings.epochs):
            sampler.start(epoch, progress["batches"])
            _train_epoch(task, accelerator, loader, states, progress, settings, bar, stop)
            progress.update(epoch=epoch + 1, batches=0)
            task.end_epoch(epoch, progress["step"])
            if validation_loader is not None:
                _validate(task, accelerator, validation_loader, folder, epoch, progress, settings.select_by)
            states.save(progress)
            if _any_process(stop.is_set(), accelerator):
                raise Terminated
    if total and not progress["learned"]:
        raise ValueError(
            f"{task.name}: nothing was learned, since all {total} updates had the learning rate 0, which a warm-up begins "
            "with: give more epochs, a smaller --batch_size, or --warmup_steps 0"
        )
    return progress


def _train_epoch(
    task: Task,
    accelerator: Accelerator,
    loader,
    states: States,
    progress: dict,
    settings: LoopSettings,
    bar: tqdm,
    stop: threading.Event,
) -> None:
    """
    Train on the batches of an epoch that are not done yet; `progress` and `bar` go along.

    Raises:
        Terminated: `stop` was set in one of the processes; a state of the last update is saved.
    """
    batches, epoch = len(loader.batch_sampler), progress["epoch"]
    task.model.train()
    log = UpdateLog(task.name, accelerator, loader.dataset.dataset["id"], bar)
    norm = torch.tensor(torch.nan)  # of the gradients, set in the last batch of every update
    for batch in loader:
        rows = batch.pop("rows")
        with accelerator.accumulate(task.model):
            loss, values = task.step(batch, rows, epoch, progress["step"])
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                # The first update of a warm-up has the learning rate 0, and leaves the model as it was.
                progress["learned"] |= any(group["lr"] > 0 for group in task.optimizer.param_groups)
                norm = cast(torch.Tensor, accelerator.clip_grad_norm_(task.model.parameters(), settings.max_grad_norm))
            task.optimizer.step()
            task.scheduler.step()
            task.optimizer.zero_grad()
        log.add_batch(loss, values, rows)
        progress["batches"] += 1
        if not accelerator.sync_gradients:
            continue
        progress["step"] += 1
        log.end_update(progress["step"], epoch, norm, task.describe_update())
        bar.update()
        stopping = _any_process(stop.is_set(), accelerator)
        if (stopping or progress["step"] % settings.state_steps == 0) and progress["batches"] < batches:
            log.flush()  # a state is only saved of a training whose losses are finite
            states.save({**progress, "task": task.state()})
            if stopping:
                raise Terminated
    log.flush()


def reduce(tensor: torch.Tensor, accelerator: Accelerator, reduction: str = "sum") -> torch.Tensor:
    """The sum, or the "mean", of a tensor over the processes."""
    return cast(torch.Tensor, accelerator.reduce(tensor, reduction))


def _any_process(condition: bool, accelerator: Accelerator) -> bool:
    """Whether a condition holds in one of the processes, which learn it from each other."""
    if accelerator.num_processes == 1:
        return condition
    return bool(reduce(torch.tensor(float(condition), device=accelerator.device), accelerator).item())


def _validate(task: Task, accelerator: Accelerator, loader, folder: Path, epoch: int, progress: dict, select_by: str):
    """Score the validation split, and keep the weights if its score is the best so far."""
    labels, logits, _ = predict(task.model, loader, accelerator)
    names = loader.dataset.dataset.features["label"].names
    scores = emotion_scores(labels, logits.argmax(1), names)
    values = {f"validation_{name}": scores[name] for name in dict.fromkeys(("wa", "ua", select_by))}
    accelerator.log({"epoch": epoch, **values}, step=progress["step"])
    if progress["learned"] and (progress["best_score"] is None or scores[select_by] > progress["best_score"]):
        progress.update(best_score=scores[select_by], best_step=progress["step"])
        if accelerator.is_main_process:
            target = best_weights(folder, progress)
            with whole_folder(target) as temporary, writing(target):
                save_model(unwrap(task.model, accelerator), str(temporary / WEIGHTS))


def best_weights(folder: Path, progress: dict) -> Path:
    """The folder of the weights that were the best on the validation split."""
    return folder / "states" / f"best-{progress['best_step']}"


def load_weights(model: torch.nn.Module, folder: Path) -> None:
    """Load what `best_weights` names into a model that has the same modules."""
    load_model(model, folder / WEIGHTS)


def unwrap(model: torch.nn.Module, accelerator: Accelerator) -> PreTrainedModel:
    """The model as it was before it was prepared, not compiled either, which would rename its weights."""
    return cast(PreTrainedModel, accelerator.unwrap_model(model, keep_torch_compile=False))


@torch.no_grad()
def predict(model, loader: DataLoader, accelerator: Accelerator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """
    Answers for every row of a prepared `evaluation_loader`, each counted once however many processes there are.

    Returns:
        labels (N,), logits (N, C), and attributes (N, A) of a model that predicts some, in the order of the N rows.
    """
    model.eval()
    gathered = []
    for batch in loader:
        labels = batch.pop("labels")
        rows = torch.tensor(batch.pop("rows"), device=labels.device)
        output = model(**batch)
        answers = [part.float() for part in (output.logits, output.get("attributes")) if part is not None]
        gathered.append([part.cpu() for part in accelerator.gather_for_metrics((rows, labels, *answers))])
    rows, labels, logits, *attributes = (torch.cat(parts).numpy() for parts in zip(*gathered, strict=True))
    rows, first = np.unique(rows, return_index=True)
    utterances = len(cast(Sized, loader.dataset))
    if len(rows) != utterances:
        raise RuntimeError(f"predicted {len(rows)} of {utterances} utterances")
    return labels[first], logits[first], attributes[0][first] if attributes else None
