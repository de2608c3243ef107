"""Second-stage self-supervised pre-training of a speech tower (LE-MER paper, row B2): wav2vec 2.0's own training, continued
on the training sessions of a fold.

The loss is in `masked_prediction.py`, the loop in `loop.py`. Shapes: G groups of the codebook, V code vectors of a group.
"""

import json
import shutil
import time
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import AutoConfig, AutoFeatureExtractor, PreTrainedModel, get_scheduler

from ..activity_lemer import heard_spans, join_spans
from ..audio_lemer import load_audio
from ..evaluation.protocol import check_second_stage, check_unseen
from ..integrity_lemer import opening
from ..processing_lemer import pad_clips
from ..runtime.files import whole_folder, write_atomically
from ..runtime.locks import hold, hold_for_all
from ..speech_encoder_lemer import count_frames
from ..towers_lemer import load_towers
from .batches import NUM_WORKERS, PAD_TO_MULTIPLE_OF, training_loader
from .folds import rows_to_train_on
from .loop import LoopSettings, Task, check_batch_size, count_updates, make_accelerator, reduce, train
from .masked_prediction import SEED, MaskedPrediction, PretrainingModel, draw_batch, usage_perplexity
from .memory_estimate import describe_memory, estimate_memory, free_memory
from .settings import SMALL_SPEECH_TOWERS, second_stage_defaults
from .small_towers import make_small_speech_tower

STATE_STEPS = 200  # updates between two states of an epoch
# The model gives sums over the masked frames. These are logged as means, under the names on the right.
LOGGED = {
    "loss": "loss",
    "contrastive_loss": "contrastive_loss",
    "diversity_loss": "diversity_loss",
    "correct": "accuracy",
    "code_perplexity": "code_perplexity",
}


class CodebookCollapse(ValueError):
    """Nearly all frames have the same code: the pre-training has failed."""


def second_stage_settings(folder: Path) -> dict:
    """The protocol of the second stage in a folder: tower, corpus, settings."""
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
    Train the speech tower further on a fold's training sessions, or take the result if it is there already.

    All processes of a run call this, before the run makes an `Accelerator` of its own. A training that was killed goes on.
    Where two runs ask for the same fold at once, one trains and the other waits.

    Args:
        folder: of the second stage; it has a subfolder for each fold.
        dataset: utterances of all sessions, rows of the corpus schema; labels are not read.
        fold: the session held out.
        speech_model: folder or Hub name of a `...ForPreTraining` checkpoint, or the name of a small tower.
        corpus_fingerprint: the corpus, as the report of its loader identifies it.
        settings: see `SECOND_STAGE` in settings.py; None for those that the folder was begun with, or else the default ones.
        mixed_precision: "no", "bf16", "fp16"; None for what the launcher says.

    Returns:
        folder/fold<k>/checkpoint, a pre-training checkpoint with its feature extractor.

    Raises:
        ValueError: the folder holds a second stage of another tower, corpus or settings; the tower has no quantizer, or has
            seen the session held out; the codebook collapses.
        FloatingPointError: a loss is not finite.
    """
    folder = Path(folder)
    target = folder / f"fold{fold}"
    train_rows = dataset.select(np.flatnonzero(rows_to_train_on(dataset, fold)))
    if len(train_rows) in (0, len(dataset)):
        sessions = sorted(set(dataset["session"]))
        raise ValueError(f"fold {fold}: the corpus has the sessions {sessions}; a fold needs its own session and another")
    check_unseen(str(speech_model), fold, corpus_fingerprint)
    accelerator = make_accelerator(target, mixed_precision)
    protocol = {
        "speech_model": str(speech_model),
        "corpus_fingerprint": corpus_fingerprint,
        "split": "labelled utterances of the training sessions, the validation dialogs of a later fine-tuning among them, "
        "since their cut depends on its seed; labels are not read",
        "seed": SEED,
        "settings": settings,
    }
    with hold_for_all(target, accelerator.is_main_process, wait=True):
        protocol = _check_protocol(folder, protocol, accelerator)
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


def _check_protocol(folder: Path, protocol: dict, accelerator: Accelerator) -> dict:
    """The protocol of the folder, written if nothing was trained there; refuse a folder of something else."""
    if accelerator.is_main_process and not any(folder.glob("fold*/log.jsonl")):
        settings = protocol["settings"] or second_stage_defaults(protocol["speech_model"])
        with hold(folder / "protocol.json", patience=60):
            write_atomically(folder / "protocol.json", json.dumps({**protocol, "settings": settings}, indent=1))
    accelerator.wait_for_everyone()
    return check_second_stage(folder, protocol)


def load_for_pretraining(speech: str, settings: dict) -> tuple[MaskedPrediction, dict]:
    """
    Load a pre-training checkpoint for its second stage.

    Returns:
        The model, and the fields of its configuration as they were, to be put back before it is saved.

    Raises:
        ValueError: the checkpoint has no quantizer of its own.
    """
    # The loop draws the masks, so the tower's own masking only has to be on. Bands that SpecAugment masks in a log-Mel would
    # be missing in the targets too.
    changes = {"layerdrop": 0.0, "mask_time_prob": settings["mask_probability"], "apply_spec_augment": True}
    config = AutoConfig.from_pretrained(speech)
    changes |= {name: 0 for name in ("mel_mask_bands", "mel_mask_share") if hasattr(config, name)}
    towers = load_towers(speech, None, {"modality": "speech", "speech_config": changes})
    if not isinstance(towers.pretraining, PreTrainedModel):
        raise ValueError(
            f"{speech} has no trained quantizer of its own, so it cannot be trained further by itself: use a "
            "...ForPreTraining checkpoint of wav2vec 2.0"
        )
    model = MaskedPrediction(cast(PretrainingModel, towers.pretraining), settings["diversity_loss_weight"])
    if settings["freeze_quantizer"]:
        model.freeze_codes()
    elif settings["freeze_feature_encoder"]:
        model.model.freeze_feature_encoder()
    return model, {name: getattr(config, name) for name in changes}


class SpeechCollator:
    """Make a batch of rows: samples, their mask, and `rows`, a list of the utterances' indices in the training split."""

    def __init__(self, feature_extractor, max_seconds: float, max_silence: float | None = None):
        self.feature_extractor, self.max_silence = feature_extractor, max_silence
        self.max_samples = int(max_seconds * feature_extractor.sampling_rate)

    def __call__(self, rows: list[dict]) -> dict[str, Any]:
        rate = self.feature_extractor.sampling_rate
        clips = [load_audio(row["audio"], target_rate=rate) for row in rows]
        if self.max_silence is not None:
            clips = [join_spans(clip, heard_spans(clip, rate, self.max_silence)) for clip in clips]
        clips = [clip[: self.max_samples] for clip in clips]
        batch = pad_clips(self.feature_extractor, clips, PAD_TO_MULTIPLE_OF)
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        return {**tensors, "rows": [row["row"] for row in rows]}


def _train(target: Path, train_rows, fold: int, start: str, settings: dict, accelerator: Accelerator):
    """Train one fold and write its checkpoint, results and figure."""
    begin = time.monotonic()
    accelerator.gradient_accumulation_steps = settings.get("gradient_accumulation_steps", 1)
    check_batch_size(settings["batch_size"], accelerator)
    set_seed(SEED)  # for what the checkpoint lacks: the embedding of masked frames, in a tower that never masked any
    model, restore = load_for_pretraining(start, settings)
    with opening(start):
        feature_extractor = AutoFeatureExtractor.from_pretrained(start)
    # A stage that an earlier version began leaves silences as they are.
    collator = SpeechCollator(feature_extractor, settings["max_seconds"], settings.get("max_silence"))
    _say_memory(model, collator, train_rows, fold, settings, accelerator)
    if settings.get("gradient_checkpointing"):
        model.model.activation_checkpointing_enable()
    loader = training_loader(train_rows, collator, settings["batch_size"], SEED, NUM_WORKERS)
    updates_per_epoch = count_updates(loader, 1, accelerator.gradient_accumulation_steps)
    task = SecondStage(f"second stage {fold}", model, settings, updates_per_epoch * settings["epochs"], accelerator)
    loop_settings = LoopSettings(settings["epochs"], settings["max_grad_norm"], STATE_STEPS, SEED)
    progress = train(task, accelerator, loader, target, loop_settings)

    if accelerator.is_main_process:
        for name, value in restore.items():
            setattr(model.model.config, name, value)
        log = [json.loads(line) for line in (target / "log.jsonl").read_text().splitlines()]
        updates = [line for line in log if "loss" in line]
        first, last = updates[:updates_per_epoch], updates[-updates_per_epoch:]
        results = {
            "fold": fold,
            "sessions": sorted(set(train_rows["session"])),
            "utterances": len(train_rows),
            "updates": progress["step"],
            **{f"first_{name}": fmean(line[name] for line in first) for name in LOGGED.values()},
            **{f"last_{name}": fmean(line[name] for line in last) for name in LOGGED.values()},
            "codes_in_use": log[-1]["codes_in_use"],
            "parameters": model.model.num_parameters(),
            "trained_parameters": model.model.num_parameters(only_trainable=True),
            "processes": accelerator.num_processes,
            "mixed_precision": accelerator.mixed_precision,
            "seconds_since_start_or_resume": round(time.monotonic() - begin, 1),
        }
        write_atomically(target / "results.json", json.dumps(results, indent=1))
        draw_curve(log, target / "curve.png", f"second stage without session {fold}")
        with whole_folder(target / "checkpoint") as checkpoint:  # last: this folder says that the fold is finished
            model.model.save_pretrained(checkpoint)
            feature_extractor.save_pretrained(checkpoint)
        for leftover in ("states", "start"):
            shutil.rmtree(target / leftover, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.free_memory(task.model, task.optimizer, task.scheduler)


def with_masks(config, batch: dict, rows: list[int], epoch: int, settings: dict) -> dict[str, torch.Tensor]:
    """The batch with `masked` (B, F) and `negatives` (M, K) of these rows in this epoch, see `draw_batch`."""
    frame_counts = cast(torch.Tensor, count_frames(config, batch["input_values_mask"].sum(1))).tolist()
    frames = int(count_frames(config, batch["input_values"].shape[1]))
    masked, negatives = draw_batch(rows, frame_counts, frames, epoch, settings)
    device = batch["input_values"].device
    return {**batch, "masked": masked.to(device), "negatives": negatives.to(device)}


def _say_memory(model: MaskedPrediction, collator, rows, fold: int, settings: dict, accelerator: Accelerator) -> None:
    """Print the estimate of this training's memory, in one line of the main process."""
    if not accelerator.is_main_process:
        return
    batch_size = min(settings["batch_size"] // accelerator.num_processes, len(rows))
    memory = estimate_memory(
        model,
        collator,
        rows,
        batch_size,
        accelerator.mixed_precision,
        complete=lambda batch: with_masks(model.model.config, batch, [0], 0, settings),
    )
    checkpointing = bool(settings.get("gradient_checkpointing"))
    estimate = describe_memory(memory, free_memory(accelerator.device), checkpointing)
    print(f"second stage {fold}, {estimate}", flush=True)


class SecondStage(Task):
    """
    wav2vec 2.0's own training, continued on the corpus.

    Args:
        name: of the progress bar.
        model: from `load_for_pretraining`.
        settings: see `SECOND_STAGE` in settings.py.
        updates: of the whole training.
    """

    def __init__(self, name: str, model: MaskedPrediction, settings: dict, updates: int, accelerator: Accelerator):
        self.name, self.model, self.settings, self.accelerator = name, model, settings, accelerator
        self.pretraining, self.updates = model.model, updates
        self.optimizer = torch.optim.AdamW(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=settings["learning_rate"],
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=settings["weight_decay"],
            fused=True,
        )
        self.scheduler = get_scheduler("linear", self.optimizer, int(settings["warmup_share"] * updates), updates)
        self.code_counts = torch.tensor(0)  # (G, V), frames of the epoch that have each code, over all processes
        self.learning_rate = 0.0  # of the last step

    def step(self, batch: dict, rows: list[int], epoch: int, update: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        settings, accelerator, config = self.settings, self.accelerator, self.pretraining.config
        decay = settings["gumbel_end"] / settings["gumbel_start"]
        self.pretraining.set_gumbel_temperature(settings["gumbel_start"] * decay ** (update / self.updates))
        self.learning_rate = self.optimizer.param_groups[0]["lr"]
        batch = with_masks(config, batch, rows, epoch, settings)
        count = reduce(batch["masked"].sum(), accelerator).clamp(min=1)
        output = self.model(**batch)
        self.code_counts = self.code_counts + reduce(output.best_codes, accelerator)
        sums = reduce(torch.stack([output[name].detach().float() for name in LOGGED]), accelerator)
        # Means over the masked frames of all processes. Their number is in the loss, since gradients are averaged over them.
        return output.loss * accelerator.num_processes / count, dict(zip(LOGGED.values(), sums / count, strict=True))

    def describe_update(self) -> dict[str, float]:
        return {
            "learning_rate": self.learning_rate,
            "gumbel_temperature": self.pretraining.quantizer.temperature,
        }

    def end_epoch(self, epoch: int, update: int) -> None:
        """Log how many codes are in use; raise `CodebookCollapse` if nearly all frames have the same one."""
        config, codes_in_use = self.pretraining.config, usage_perplexity(self.code_counts.float()).item()
        self.code_counts = torch.tensor(0)
        self.accelerator.log({"epoch": epoch, "codes_in_use": codes_in_use}, step=update)
        if codes_in_use < 1.5 * config.num_codevector_groups:
            raise CodebookCollapse(
                f"{self.name}, epoch {epoch}: the codebook has collapsed, {codes_in_use:.1f} of "
                f"{config.num_codevector_groups * config.num_codevectors_per_group} codes are in use. Try a lower learning "
                "rate, a higher diversity_loss_weight, or freeze_quantizer"
            )

    def state(self) -> dict:
        return {"code_counts": self.code_counts.tolist()}

    def load_state(self, state: dict) -> None:
        if "code_counts" in state:
            self.code_counts = torch.tensor(state["code_counts"], device=self.accelerator.device)


def draw_curve(log: list[dict], path: Path, title: str) -> None:
    """Draw loss, accuracy and codes in use over the updates, if matplotlib is installed."""
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
