"""Second-stage self-supervised pre-training of a speech tower (paper, row B2): wav2vec 2.0's own training, continued on the
corpus.

The loss is in `masked_prediction.py`.
"""

import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import TorchDynamoPlugin, broadcast_object_list, set_seed
from filelock import FileLock, Timeout
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedModel, get_scheduler

from ..audio_lemer import load_audio
from ..processing_lemer import pad_clips
from ..runtime.files import whole_folder, write_atomically
from ..speech_encoder_lemer import count_frames
from ..towers_lemer import load_towers
from .batches import NUM_WORKERS, PAD_TO_MULTIPLE_OF, training_loader
from .folds import check_unseen
from .masked_prediction import SEED, MaskedPrediction, PretrainingOutput, draw_batch, usage_perplexity
from .small_towers import SMALL_SPEECH_TOWERS, make_small_speech_tower
from .states import JsonLinesTracker, States

# What the paper does not say. Those of small towers were chosen on session 4 of the demo corpus of seed 1.
SETTINGS = {
    "published": {
        "epochs": 20,
        "batch_size": 16,
        "learning_rate": 5e-5,
        "warmup_share": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "mask_probability": 0.65,
        "mask_length": 10,
        "negatives": 100,
        "diversity_loss_weight": 0.1,
        "gumbel_start": 0.5,
        "gumbel_end": 0.5,
        "freeze_feature_encoder": False,
        "freeze_quantizer": False,
        "max_seconds": 15.0,
    },
}
# A codebook of random weights tells frames apart as well as a random projection does, and is a steadier target than one that
# is being learned from a few hundred recordings.
SETTINGS["small"] = {
    **SETTINGS["published"],
    "epochs": 25,
    "learning_rate": 1e-3,
    "mask_probability": 0.5,
    "negatives": 30,
    "freeze_quantizer": True,
}
SETTINGS["small-log-mel"] = {**SETTINGS["small"], "mask_length": 5}  # frames of 40 ms instead of 20
HELP = {
    "epochs": "passes over the training sessions",
    "batch_size": "utterances of all processes together",
    "learning_rate": "peak of Adam's, after the warm-up; linear to 0",
    "warmup_share": "share of the updates that warm up",
    "weight_decay": "of AdamW",
    "max_grad_norm": "clip gradients to this norm",
    "mask_probability": "share of frames that masked spans would cover if they did not overlap",
    "mask_length": "frames of a masked span",
    "negatives": "distractors of a masked frame",
    "diversity_loss_weight": "weight of the loss that spreads the use of the codes",
    "gumbel_start": "first temperature of the Gumbel softmax over the codes",
    "gumbel_end": "last one; the decay is geometric",
    "freeze_feature_encoder": "keep the CNN encoder as it is",
    "freeze_quantizer": "keep the codes of all frames as they are: codebook, CNN encoder and its norm",
    "max_seconds": "cut longer utterances",
}


# Sums of an update and what their means over the masked frames are called in the log.
LOGGED = {
    "loss": "loss",
    "contrastive_loss": "contrastive_loss",
    "diversity_loss": "diversity_loss",
    "correct": "accuracy",
    "code_perplexity": "code_perplexity",
}


class CodebookCollapse(ValueError):
    """Nearly all frames have the same code: the pre-training has failed."""


# -------------------------------------------------------------------------------------------------------------- one fold


def default_settings(speech_model: str) -> dict:
    """Settings for a tower: those of a small one by its name, or of the published."""
    return SETTINGS.get(speech_model, SETTINGS["published"])


def second_stage_settings(folder: Path) -> dict:
    """The protocol of a second stage: tower, corpus, settings."""
    return json.loads((Path(folder) / "protocol.json").read_text())


def second_stage(
    folder: Path,
    dataset,
    fold: int,
    speech_model: str,
    corpus_fingerprint: str,
    settings: dict | None = None,
    mixed_precision: str | None = None,
) -> Path:
    """
    The speech tower trained further on a fold's training sessions: made if it is not there yet, resumed if it was begun.

    Called by all processes of a run; where two runs ask for the same fold at once, one makes it and the other waits. To be
    called before the run makes an `Accelerator` of its own.

    Args:
        folder: Of the second stage, with a subfolder for each fold.
        dataset: Utterances of all sessions, rows of the corpus schema; labels are not read.
        fold: The session held out.
        speech_model: Folder or Hub name of a `...ForPreTraining` checkpoint, or the name of a small tower.
        corpus_fingerprint: What the loader's report calls the corpus.
        settings: As in `SETTINGS`; None: those that the folder was begun with, or the default ones.
        mixed_precision: "no", "bf16", "fp16"; None: the one of this process's `Accelerator`.

    Returns:
        folder/fold<k>/checkpoint, a pre-training checkpoint with its feature extractor.

    Raises:
        ValueError: the folder holds a second stage of another tower, corpus or settings, or the tower has no quantizer, or
            it has seen the session held out.
        FloatingPointError: a loss is not finite.
    """
    folder = Path(folder)
    target = folder / f"fold{fold}"
    train_rows = dataset.select(np.flatnonzero(np.asarray(dataset["session"]) != fold))
    if len(train_rows) in (0, len(dataset)):
        sessions = sorted(set(dataset["session"]))
        raise ValueError(f"fold {fold}: the corpus has the sessions {sessions}; a fold needs its own session and another")
    check_unseen(str(speech_model), fold, corpus_fingerprint)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision=mixed_precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
        log_with=[JsonLinesTracker(target / "log.jsonl")],
        project_dir=target,
        step_scheduler_with_optimizer=True,
        dynamo_plugin=TorchDynamoPlugin(dynamic=True),  # lengths differ from batch to batch
    )
    with _alone(folder / f"fold{fold}.lock", accelerator):
        protocol = _check_protocol(folder, str(speech_model), corpus_fingerprint, settings, accelerator)
        if not (target / "checkpoint").exists():
            if accelerator.is_main_process:
                target.mkdir(parents=True, exist_ok=True)
                if speech_model in SMALL_SPEECH_TOWERS:
                    with whole_folder(target / "start") as start:
                        make_small_speech_tower(start, SEED, speech_model)
            accelerator.wait_for_everyone()
            start = target / "start" if speech_model in SMALL_SPEECH_TOWERS else speech_model
            _train(target, train_rows, fold, str(start), protocol["settings"], accelerator)
    return target / "checkpoint"


@contextmanager
def _alone(path: Path, accelerator: Accelerator):
    """A lock that the main process takes for all processes of a run; while another run has it, they wait without end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, acquired = FileLock(path), [False]
    while not acquired[0]:
        if accelerator.is_main_process:
            try:
                lock.acquire(timeout=30)
                acquired = [True]
            except Timeout:
                print(f"{path}: another run is making this second stage; waiting for it", flush=True)
        broadcast_object_list(acquired)
    try:
        yield
    finally:
        lock.release()


def _check_protocol(folder: Path, speech_model: str, corpus_fingerprint: str, settings: dict | None, accelerator) -> dict:
    """The protocol of the folder, written if nothing was trained there; refuse one of something else."""
    path = folder / "protocol.json"
    protocol = {
        "speech_model": speech_model,
        "corpus_fingerprint": corpus_fingerprint,
        "split": "labelled utterances of the training sessions, the validation dialogs of a later fine-tuning among them, "
        "since their cut depends on its seed; labels are not read",
        "seed": SEED,
        "settings": settings,
    }
    if accelerator.is_main_process and not any(folder.glob("fold*/log.jsonl")):
        filled = {**protocol, "settings": settings or default_settings(speech_model)}
        with FileLock(folder / "protocol.lock"):
            write_atomically(path, json.dumps(filled, indent=1))
    accelerator.wait_for_everyone()
    old = json.loads(path.read_text())
    if settings is None:
        protocol["settings"] = old["settings"]
    changed = [name for name in protocol if protocol[name] != old.get(name)]
    if changed:
        changes = "; ".join(f"{name} was {old.get(name)!r}, is {protocol[name]!r}" for name in changed)
        raise ValueError(f"{folder} holds another second stage ({changes}): give another folder")
    return old


def load_for_pretraining(speech: str, settings: dict) -> tuple[MaskedPrediction, dict]:
    """The model, and what has to be put back into its configuration when it is saved."""
    # Masks are given, the tower's own need only be on. What SpecAugment hides in a log-Mel, targets would lack too.
    changes = {"layerdrop": 0.0, "mask_time_prob": settings["mask_probability"], "apply_spec_augment": True}
    config = AutoConfig.from_pretrained(speech)
    changes |= {name: 0 for name in ("mel_mask_bands", "mel_mask_share") if hasattr(config, name)}
    towers = load_towers(speech, None, {"modality": "speech", "speech_config": changes})
    if not isinstance(towers.pretraining, PreTrainedModel):
        raise ValueError(
            f"{speech} has no trained quantizer of its own, so it cannot be trained further by itself: use a "
            "...ForPreTraining checkpoint of wav2vec 2.0"
        )
    model = MaskedPrediction(towers.pretraining, settings["diversity_loss_weight"])
    if settings["freeze_quantizer"]:
        model.freeze_codes()
    elif settings["freeze_feature_encoder"]:
        model.model.freeze_feature_encoder()
    return model, {name: getattr(config, name) for name in changes}


class SpeechCollator:
    """Rows -> samples and their mask, and `rows`, the utterances' indices."""

    def __init__(self, feature_extractor, max_seconds: float):
        self.feature_extractor = feature_extractor
        self.max_samples = int(max_seconds * feature_extractor.sampling_rate)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        rate = self.feature_extractor.sampling_rate
        clips = [load_audio(row["audio"], target_rate=rate)[: self.max_samples] for row in rows]
        batch = pad_clips(self.feature_extractor, clips, PAD_TO_MULTIPLE_OF)
        rows = torch.tensor([row["row"] for row in rows])
        return {**{name: torch.from_numpy(values) for name, values in batch.items()}, "rows": rows}


def _train(target: Path, train_rows, fold: int, start: str, settings: dict, accelerator: Accelerator):
    """Train one fold and write its checkpoint, results and figure."""
    begin = time.monotonic()
    main, processes = accelerator.is_main_process, accelerator.num_processes
    if settings["batch_size"] % processes:
        raise ValueError(f"batch_size {settings['batch_size']} cannot be split among {processes} processes")
    model, restore = load_for_pretraining(start, settings)
    pretraining, config = model.model, model.model.config
    feature_extractor = AutoFeatureExtractor.from_pretrained(start)
    collator = SpeechCollator(feature_extractor, settings["max_seconds"])
    loader = training_loader(train_rows, collator, settings["batch_size"], SEED, NUM_WORKERS)
    sampler = loader.batch_sampler
    total = len(sampler) * settings["epochs"]
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=settings["learning_rate"],
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=settings["weight_decay"],
        fused=True,
    )
    scheduler = get_scheduler("linear", optimizer, int(settings["warmup_share"] * total), total)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    accelerator.init_trackers("second_stage")
    states = States(target / "states", accelerator)
    set_seed(SEED)
    progress = states.load() or {"step": 0, "epoch": 0}
    JsonLinesTracker(target / "log.jsonl").rewind(progress["step"])

    bar = tqdm(total=total, initial=progress["step"], desc=f"second stage {fold}", unit="update", disable=not main)
    for epoch in range(progress["epoch"], settings["epochs"]):
        model.train()
        sampler.start(epoch)
        used = 0
        for batch in loader:
            rows = batch.pop("rows").tolist()
            decay = settings["gumbel_end"] / settings["gumbel_start"]
            pretraining.set_gumbel_temperature(settings["gumbel_start"] * decay ** (progress["step"] / total))
            frame_counts = count_frames(config, batch["input_values_mask"].sum(1)).tolist()
            frames = int(count_frames(config, batch["input_values"].shape[1]))
            masked, negatives = draw_batch(rows, frame_counts, frames, epoch, settings)
            count = accelerator.reduce(masked.sum().to(accelerator.device), "sum").clamp(min=1)
            out = model(**batch, masked=masked.to(accelerator.device), negatives=negatives.to(accelerator.device))
            if not torch.isfinite(out.loss):
                _stop_on_loss(out, [train_rows[row]["id"] for row in rows], progress["step"])
            # The mean over the masked frames of all processes, which the averaging of gradients divides by their number.
            accelerator.backward(out.loss * processes / count)
            norm = accelerator.clip_grad_norm_(model.parameters(), settings["max_grad_norm"])
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            used = used + out.best_codes
            progress["step"] += 1
            sums = torch.stack([out[name].detach().float() for name in LOGGED])
            means = dict(zip(LOGGED.values(), (accelerator.reduce(sums, "sum") / count).tolist(), strict=True))
            bar.update()
            bar.set_postfix(loss=f"{means['loss']:.3f}", codes=f"{means['code_perplexity']:.0f}")
            accelerator.log(
                {
                    "epoch": epoch,
                    **means,
                    "gradient_norm": float(norm),
                    "learning_rate": rate,
                    "gumbel_temperature": pretraining.quantizer.temperature,
                },
                step=progress["step"],
            )
        progress["epoch"] = epoch + 1
        codes_in_use = usage_perplexity(accelerator.reduce(used, "sum").float()).item()
        accelerator.log({"epoch": epoch, "codes_in_use": codes_in_use}, step=progress["step"])
        if codes_in_use < 1.5 * config.num_codevector_groups:
            raise CodebookCollapse(
                f"fold {fold}, epoch {epoch}: the codebook has collapsed, {codes_in_use:.1f} of "
                f"{config.num_codevector_groups * config.num_codevectors_per_group} codes are in use. Try a lower learning "
                "rate, a higher diversity_loss_weight, or freeze_quantizer"
            )
        if progress["epoch"] % max(1, settings["epochs"] // 20) == 0:
            states.save(progress)
    bar.close()
    if main:
        for name, value in restore.items():
            setattr(config, name, value)
        log = [json.loads(line) for line in (target / "log.jsonl").read_text().splitlines()]
        updates = [line for line in log if "loss" in line]
        results = {
            "fold": fold,
            "sessions": sorted(set(train_rows["session"])),
            "utterances": len(train_rows),
            "updates": progress["step"],
            **{f"first_{name}": fmean(line[name] for line in updates[: len(sampler)]) for name in LOGGED.values()},
            **{f"last_{name}": fmean(line[name] for line in updates[-len(sampler) :]) for name in LOGGED.values()},
            "codes_in_use": log[-1]["codes_in_use"],
            "parameters": pretraining.num_parameters(),
            "trained_parameters": pretraining.num_parameters(only_trainable=True),
            "processes": processes,
            "mixed_precision": accelerator.mixed_precision,
            "seconds_since_start_or_resume": round(time.monotonic() - begin, 1),
        }
        write_atomically(target / "results.json", json.dumps(results, indent=1))
        draw_curve(log, target / "curve.png", f"second stage without session {fold}")
        with whole_folder(target / "checkpoint") as checkpoint:  # last: the folder says that the fold is finished
            pretraining.save_pretrained(checkpoint)
            feature_extractor.save_pretrained(checkpoint)
        for leftover in ("states", "start"):
            shutil.rmtree(target / leftover, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.free_memory(model, optimizer, scheduler)


def _stop_on_loss(out: PretrainingOutput, ids: list[str], step: int):
    parts = {name: out[name].item() for name in ("contrastive_loss", "diversity_loss")}
    raise FloatingPointError(
        f"loss is not finite after {step} updates of the second stage: {parts}; utterances of the batch: {', '.join(ids)}. "
        "Try a lower learning rate, or --mixed_precision no"
    )


def draw_curve(log: list[dict], path: Path, title: str) -> None:
    """Loss, accuracy and codes in use over the updates, as a picture, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    updates = [line for line in log if "loss" in line]
    for axis, name in zip(axes, ("contrastive_loss", "accuracy", "code_perplexity"), strict=True):
        axis.plot([line["step"] for line in updates], [line[name] for line in updates], linewidth=0.7, label=name)
    epochs = [line for line in log if "codes_in_use" in line]
    axes[2].plot([line["step"] for line in epochs], [line["codes_in_use"] for line in epochs], label="codes_in_use")
    for axis in axes:
        axis.legend()
    axes[0].set_title(title)
    axes[2].set_xlabel("update")
    figure.savefig(path, dpi=120)
