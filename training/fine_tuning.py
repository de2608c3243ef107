"""Fine-tuning of one fold with one seed: split, model, loop, score, save."""

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import get_scheduler
from transformers.utils import logging

from .. import LemerProcessor
from ..evaluation.attribute_scores import attribute_scores
from ..evaluation.run_folder import format_predictions
from ..evaluation.ser_metrics import emotion_scores
from ..labels.label_embeddings import label_cosines
from ..runtime.files import whole_folder, write_atomically, writing
from ..towers_lemer import TwoTowerModel
from .answers import Answers
from .batches import NUM_WORKERS, Collator, evaluation_loader, training_loader
from .folds import MODELS, Splits, prepare_model, split_rows
from .loop import (
    LoopSettings,
    Task,
    best_weights,
    check_batch_size,
    count_updates,
    load_weights,
    make_accelerator,
    train,
    unwrap,
)
from .lora import add_lora
from .memory_estimate import describe_memory, estimate_memory, free_memory
from .options import SCORES


# long: the steps of a fold in their order
def train_fold(args, protocol: dict, dataset, fold: int, seed: int, folder: Path, speech: str, text: str) -> None:
    """
    Train and score one fold with one seed; `folder` gets what train.py describes.

    Args:
        args: options of train.py, with the defaults filled in.
        protocol: settings of the run, see `prepare_model`.
        dataset: labelled utterances of all sessions, rows of the corpus schema.
        fold: the session held out.
        speech, text: folders or names of the towers.
    """
    begin = time.monotonic()
    accelerator = make_accelerator(folder, args.mixed_precision, args.gradient_accumulation_steps, tensorboard=True)
    check_batch_size(args.batch_size, accelerator)
    split = split_rows(dataset, fold, args.validation_share, seed, args.validation_by)
    if accelerator.is_main_process:
        _say_unit(split.unit, fold, args.validation_by)
    start = folder / "start"
    if accelerator.is_main_process and not start.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepare_model(protocol, speech, text, split.train, seed, start, args.batch_size)
    accelerator.wait_for_everyone()
    model, processor = _load(start, protocol), LemerProcessor.from_pretrained(start)
    workers = NUM_WORKERS if args.num_workers is None else args.num_workers
    whole = Collator(processor, model.config.modality)
    cut = training_collator(args, processor, model.config)
    lora = prepare_to_train(model, args, seed)
    say_memory(model, args, cut, split.train, accelerator)
    if args.gradient_checkpointing:
        model.activation_checkpointing_enable()
    loader = training_loader(split.train, cut, args.batch_size, seed, workers)
    validation_loader = None
    if len(split.validation):
        validation_loader = evaluation_loader(split.validation, whole, args.batch_size, workers)
    settings = LoopSettings(args.epochs, args.max_grad_norm, args.checkpoint_steps, seed, args.select_by)
    task = FineTuning(f"fold {fold} seed {seed}", model, args, loader, accelerator)
    progress = train(task, accelerator, loader, folder, settings, validation_loader)

    if validation_loader is not None:
        load_weights(unwrap(task.model, accelerator), best_weights(folder, progress))
    if lora is not None:
        lora.merge_and_unload()
    answers = Answers(task.model, model.config, processor, accelerator, args.batch_size, workers)
    temperatures = answers.temperatures(split.validation)
    labels, logits, attributes, by_modality = answers.score(split.test, temperatures)
    unwrap(task.model, accelerator).config.temperatures = temperatures
    for tracker in accelerator.trackers:
        tracker.finish()
    if accelerator.is_main_process:
        names = list(model.config.id2label.values())
        results = {
            **{"fold": fold, "seed": seed},
            **score_rows(split.test, labels, logits.argmax(1), names),
            "fold_name": protocol.get("fold_names", {}).get(str(fold), str(fold)),
            **attribute_scores(split.test, cut.attributes, attributes),
            **_describe_training(model, split, progress, accelerator, args.select_by),
            "by_modality": by_modality,
            "label_cosines": label_cosines(unwrap(task.model, accelerator)),
            "seconds_since_start_or_resume": round(time.monotonic() - begin, 1),
        }
        predictions = format_predictions(split.test["id"], labels, logits, names)
        save_fold(folder, unwrap(task.model, accelerator), processor, predictions, results)
    accelerator.wait_for_everyone()
    accelerator.free_memory(task.model, task.optimizer, task.scheduler)


def _say_unit(unit: str | None, fold: int, wanted: str) -> None:
    if wanted == "speaker" and unit in ("dialogs", "rows"):
        print(f"note: fold {fold} cuts validation off by whole {unit}, so it may share speakers with training")


def prepare_to_train(model, args, seed: int):
    """Freeze what does not train, and add LoRA's adapters if they are asked for; returns peft's tuner, or None."""
    if args.freeze_feature_encoder and model.speech_model is not None:
        model.speech_model.feature_extractor._freeze_parameters()  # HuBERT's model has no method of its own that calls this
    return None if args.lora is None else add_lora(model, args.lora, seed)


def say_memory(model, args, collator: Collator, rows, accelerator: Accelerator) -> None:
    """Print the estimate of this training's memory, in one line of the main process."""
    if not accelerator.is_main_process:
        return
    share = args.batch_size // accelerator.num_processes
    memory = estimate_memory(model, collator, rows, min(share, len(rows)), args.mixed_precision)
    print(describe_memory(memory, free_memory(accelerator.device), args.gradient_checkpointing), flush=True)


def score_rows(test, labels, predicted, names: list[str]) -> dict:
    """The scores of the test rows, and `by_corpus` of each corpus where they are of several that are known by name."""
    scores = emotion_scores(labels, predicted, names)
    if "corpus" not in test.column_names:
        return scores
    corpora = np.asarray(test["corpus"])
    masks = {str(name): corpora == name for name in dict.fromkeys(corpora.tolist())}
    by_corpus = {name: emotion_scores(labels[mask], predicted[mask], names) for name, mask in masks.items()}
    return {**scores, "by_corpus": by_corpus}


def training_collator(args, processor: LemerProcessor, config) -> Collator:
    """The collator of the training split: with `--max_seconds`, votes and attributes."""
    votes = config.num_labels if args.targets == "votes" else 0
    return Collator(processor, config.modality, args.max_seconds, votes, list(config.attributes or ()))


def _describe_training(model, split: Splits, progress: dict, accelerator: Accelerator, select_by: str) -> dict:
    """What results.json says beside the scores."""
    best = progress["best_step"]
    return {
        "labels": list(model.config.id2label.values()),
        "selected": "last update" if best is None else f"best {SCORES[select_by]} on validation, update {best}",
        f"validation_{select_by}": progress["best_score"],
        "split": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        "validation_by": split.unit,
        "training_speakers": sorted({*split.train["speaker"], *split.validation["speaker"]} - {""}),
        "parameters": model.num_parameters(),
        "trained_parameters": model.num_parameters(only_trainable=True),
        "updates": progress["step"],
        "processes": accelerator.num_processes,
    }


def _load(folder: Path, protocol: dict):
    """The model of a folder, in float32 and without a warning that its classifier is new, as it has to be."""
    loggers = [logging.get_logger(name) for name in ("transformers", TwoTowerModel.__module__)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    model = MODELS[protocol["model"]].from_pretrained(folder, dtype=torch.float32)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    return model


def save_fold(folder: Path, model, processor: LemerProcessor, predictions: str, results: dict) -> None:
    """Write what a finished fold leaves; results.json comes last, since it says that the fold is finished."""
    with whole_folder(folder / "checkpoint") as checkpoint, writing(folder / "checkpoint"):
        model.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
    write_atomically(folder / "predictions.csv", predictions)
    write_atomically(folder / "results.json", json.dumps(results, indent=1))
    for leftover in ("states", "start"):
        shutil.rmtree(folder / leftover, ignore_errors=True)


class FineTuning(Task):
    """
    Fine-tuning of a `LemerModel` or a `CrossModalModel` with the losses that the model computes itself.

    Args:
        name: of the progress bar.
        args: options of train.py: learning rates, `schedule` and `warmup_steps`.
        loader: the training loader, for the number of updates.
    """

    def __init__(self, name: str, model, args: argparse.Namespace, loader: DataLoader, accelerator: Accelerator):
        updates = count_updates(loader, args.epochs, args.gradient_accumulation_steps)
        if accelerator.is_main_process and args.warmup_steps >= updates:
            print(f"note: the warm-up of {args.warmup_steps} updates is not over at the end of training, after {updates}")
        self.name, self.model, self.config, self.accelerator = name, model, model.config, accelerator
        self.optimizer = torch.optim.Adam(optimizer_groups(model, args.speech_lr, args.text_lr, args.new_lr), fused=True)
        self.scheduler = get_scheduler(args.schedule, self.optimizer, args.warmup_steps, updates)

    def step(self, batch: dict, rows: list[int], epoch: int, update: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        output = self.model(**batch)
        share_pairs(output, self.config, self.accelerator)
        return output.loss, {name: value.detach().float() for name, value in output.items() if name.endswith("loss")}

    def describe_update(self) -> dict[str, float]:
        return {f"lr_{group['name']}": group["lr"] for group in self.optimizer.param_groups}


def optimizer_groups(model, speech_lr: float, text_lr: float, new_lr: float) -> list[dict]:
    """Parameters that train, with the learning rate of their tower, or of the layers that no checkpoint had."""
    rates = {"speech_model": speech_lr, "text_model": text_lr}
    groups = {name: {"name": name, "params": [], "lr": rates.get(name, new_lr)} for name in (*rates, "new")}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.get(name.split(".")[0], groups["new"])["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def share_pairs(output, config, accelerator: Accelerator) -> None:
    """
    Weight the attention constraint of this process's share of a batch, in place, so that the mean over the processes is the
    mean over the whole batch.

    Eq. 10 of the LE-MER paper is a mean over pairs of tokens and frames, of which the shares of a batch have different
    numbers.
    """
    if output.get("constraint_loss") is None or accelerator.num_processes == 1:
        return
    pairs = (output.token_mask.sum(1) * output.frame_mask.sum(1)).sum().float()
    weight = pairs / accelerator.reduce(pairs.clone(), "mean")
    output.loss = output.loss + config.constraint_loss_weight * (weight - 1) * output.constraint_loss
    output.constraint_loss = output.constraint_loss * weight
