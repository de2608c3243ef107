"""Training without a tower: functionals of the recordings and of warped copies of them, and a linear classifier.

Nothing is trained by gradients, and nothing is chosen: the classifier is a linear discriminant analysis whose covariances
are shrunk. A corpus of a few hundred recordings takes seconds.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from .. import LemerConfig, LemerModel, LemerProcessor
from ..evaluation.run_folder import format_predictions
from ..functionals_lemer import FUNCTIONALS, log_mel_functionals
from ..log_mel_lemer import log_mel
from ..recipes import get_recipe
from ..runtime.locks import hold_for_all
from ..speech_encoder_lemer import prepare_samples
from .batches import Collator, evaluation_loader
from .fine_tuning import save_fold, score_rows
from .folds import rows_to_train_on, split_rows
from .loop import predict
from .settings import LOG_ALONE
from .small_towers import make_tokenizer

# Chosen on speakers of the training sessions that were left out in turn (benchmarks/LOG.md).
COPIES = 9  # of every recording: as it is, and eight warped ones
MAX_SHIFT = 4.0  # Mel bands, up or down, as between longer and shorter vocal tracts
MAX_TEMPO = 0.15  # share by which a warped copy is longer or shorter
SHRINKAGE = 0.2  # of the covariances, towards a multiple of the identity
TEMPERATURE = 3.0  # by which logits are divided: copies and 840 dependent numbers make the analysis too sure of itself
# Options of train.py that only a training by gradients reads, and that are refused here.
GRADIENT_OPTIONS = ("speech_lr", "text_lr", "new_lr", "warmup_steps", "epochs", "freeze_feature_encoder", "second_stage")
OTHER_TARGETS = {
    "targets": "label",
    "class_weights": ["none"],
    "attributes": [],
    "lora": None,
    "gradient_checkpointing": False,
    "report_to": [LOG_ALONE],
}


def check_options(args: argparse.Namespace, config: dict) -> None:
    """Raise a `ValueError` for an option or a field that a training of functionals does not read."""
    given = [f"--{name}" for name in GRADIENT_OPTIONS if getattr(args, name) not in (None, "none")]
    given += [f"--{name}" for name, default in OTHER_TARGETS.items() if getattr(args, name) != default]
    given += [f"--set speech_config.{name}" for name in config["speech_config"] if name != "layerdrop"]
    if given:
        raise ValueError(
            f"{', '.join(given)}: a model of functionals has no tower, and nothing in it is trained by gradients, so leave "
            "these out"
        )


def fit_runs(args: argparse.Namespace, protocol: dict, samples, folds: list[int], output: Path) -> None:
    """
    Fit and score every fold with every seed that is not finished.

    Args:
        args: options of train.py.
        protocol: settings of the run, with `config` and `processor`.
        samples: labelled utterances of all sessions, rows of the corpus schema.
        folds: the sessions to hold out.
        output: folder of the run.
    """
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    processor = make_processor(protocol, samples)
    for seed in args.seeds:
        todo = [fold for fold in folds if not (output / f"fold{fold}" / f"seed{seed}" / "results.json").exists()]
        if not todo:
            continue
        # Functionals of an utterance depend on nothing else, so they are computed once for all folds.
        copies = describe(samples, processor, seed)
        for fold in todo:
            folder = output / f"fold{fold}" / f"seed{seed}"
            with hold_for_all(folder, accelerator.is_main_process):
                _fit_fold(args, protocol, samples, copies, fold, seed, folder, accelerator)


def _fit_fold(
    args: argparse.Namespace,
    protocol: dict,
    samples,
    copies: np.ndarray,
    fold: int,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
) -> None:
    begin = time.monotonic()
    test_rows, names = split_rows(samples, fold, 0.0, seed).test, samples.features["label"].names
    train = np.flatnonzero(rows_to_train_on(samples, fold) & (np.asarray(samples["label"][:]) >= 0))
    train_rows = samples.select(train)
    labels = np.asarray(train_rows["label"][:])

    processor = make_processor(protocol, train_rows)
    config = {name: value for name, value in protocol["config"].items() if not name.endswith("_config")}
    model = LemerModel(LemerConfig(id2label=dict(enumerate(names)), **config)).eval()
    processor.check_fits(model.config)
    set_classifier(model, fit(copies[:, train], labels))
    prepared = accelerator.prepare_model(model, evaluation_mode=True)
    loader = evaluation_loader(test_rows, Collator(processor, "speech"), args.batch_size)
    labels, logits, _ = predict(prepared, accelerator.prepare(loader), accelerator)
    if accelerator.is_main_process:
        results = {
            "fold": fold,
            "seed": seed,
            **score_rows(test_rows, labels, logits.argmax(1), names),
            "labels": names,
            "selected": "nothing, one fit",
            "fold_name": protocol.get("fold_names", {}).get(str(fold), str(fold)),
            "split": {"train": len(train_rows), "validation": 0, "test": len(test_rows)},
            "training_speakers": sorted({*train_rows["speaker"]} - {""}),
            "parameters": model.num_parameters(),
            "trained_parameters": model.num_parameters(),
            "updates": 0,
            "processes": accelerator.num_processes,
            "seconds_since_start_or_resume": round(time.monotonic() - begin, 1),
        }
        predictions = format_predictions(test_rows["id"], labels, logits, names)
        save_fold(folder, model, processor, predictions, results)
    accelerator.wait_for_everyone()


def make_processor(protocol: dict, rows) -> LemerProcessor:
    """A processor for speech. Its tokenizer, which every processor has, knows the words of these rows and is never used."""
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return LemerProcessor(extractor, make_tokenizer(rows["text"]), **protocol["processor"])


@torch.no_grad()
def describe(samples, processor: LemerProcessor, seed: int) -> np.ndarray:
    """Functionals (`COPIES`, N, 840) of N utterances; the first copy of each is the recording as it is."""
    rng = np.random.default_rng(seed)
    described = np.empty((COPIES, len(samples), FUNCTIONALS), dtype=np.float32)
    positions = LemerConfig(**get_recipe("small_corpus").config).speech_config
    for row, sample in enumerate(samples):
        inputs = processor(audio=[sample["audio"]], return_tensors="pt")
        values = log_mel(prepare_samples(positions, inputs["input_values"])[0])  # (1, 80, P)
        warps = [(0.0, 1.0)]
        warps += [(rng.uniform(-MAX_SHIFT, MAX_SHIFT), rng.uniform(1 - MAX_TEMPO, 1 + MAX_TEMPO)) for _ in range(COPIES - 1)]
        copies = [warp(values, shift, tempo) for shift, tempo in warps]
        lengths = torch.tensor([copy.shape[-1] for copy in copies])
        padded = [nn.functional.pad(copy, (0, int(lengths.max()) - copy.shape[-1])) for copy in copies]
        described[:, row] = log_mel_functionals(torch.cat(padded), lengths).numpy()
    return described


def warp(values: torch.Tensor, shift: float, tempo: float) -> torch.Tensor:
    """
    Move a log-Mel along its bands and change its length, by linear interpolation.

    Args:
        values: log-Mels (B, 80, P).
        shift: bands by which every sound moves down; the outermost bands are repeated.
        tempo: factor of the number of positions, of which at least one is left.
    """
    bands = values.shape[1]
    places = (torch.arange(bands) + shift).clamp(0, bands - 1)
    low = places.floor().long().clamp(max=bands - 2)
    weight = (places - low)[:, None]
    values = values[:, low] * (1 - weight) + values[:, low + 1] * weight
    if tempo == 1.0:
        return values
    return nn.functional.interpolate(values, max(1, round(values.shape[-1] * tempo)), mode="linear", align_corners=True)


def fit(copies: np.ndarray, labels: np.ndarray) -> Pipeline:
    """Fit a discriminant analysis to functionals (copies, N, 840) of classes (N,), each of which counts alike."""
    classes = len(set(labels.tolist()))
    analysis = LinearDiscriminantAnalysis("lsqr", shrinkage=SHRINKAGE, priors=np.full(classes, 1 / classes))
    return make_pipeline(StandardScaler(), analysis).fit(np.concatenate(list(copies)), np.tile(labels, len(copies)))


@torch.no_grad()
def set_classifier(model: LemerModel, fitted: Pipeline) -> None:
    """Copy the standardisation and the linear classifier into a model of functionals."""
    scaler: Any = fitted[0]
    linear: Any = fitted[-1]
    weight, bias = linear.coef_ / TEMPERATURE, linear.intercept_ / TEMPERATURE
    if len(linear.classes_) == 2:  # scikit-learn has one row for two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    functionals = model.speech_functionals
    assert functionals is not None
    functionals.mean.copy_(torch.from_numpy(scaler.mean_))
    functionals.scale.copy_(torch.from_numpy(scaler.scale_))
    model.classifier.weight.zero_()
    model.classifier.bias.fill_(-20.0)  # a class without a training utterance is never the answer
    model.classifier.weight[linear.classes_] = torch.from_numpy(weight).float()
    model.classifier.bias[linear.classes_] = torch.from_numpy(bias).float()
