"""The beginning of a fold: its split, and the model before training."""

import shutil
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import torch
from accelerate.utils import set_seed
from transformers import AutoFeatureExtractor, AutoTokenizer, Wav2Vec2FeatureExtractor

from .. import CrossModalModel, LemerModel, LemerProcessor
from ..corpora.splits import groups_to_split, hold_out
from ..integrity_lemer import opening
from ..labels.label_embeddings import build_label_embeddings, format_cosines, label_cosines
from ..runtime.files import whole_folder, writing
from ..towers_lemer import tower_config
from .small_towers import SMALL_SPEECH_TOWERS, make_small_speech_tower, make_small_text_tower, make_tokenizer
from .targets import attribute_scales, class_weights

MODELS = {"lemer": LemerModel, "cross_modal": CrossModalModel}


class Splits(NamedTuple):
    """
    The corpus split for one fold.

    Attributes:
        train, validation, test: rows of the corpus schema.
        unit: what was kept whole between training and validation: speakers, dialogs or rows; else what validation is; None
            without validation.
    """

    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    unit: str | None


def split_rows(dataset, fold: int, share: float, seed: int, by: str = "speaker") -> Splits:
    """
    Split the corpus for one fold.

    Args:
        dataset: utterances of all sessions, rows of the corpus schema. Those without a label are trained on alone.
        fold: the session that is held out for the test.
        share: about what share of the training sessions' utterances, and of every class, is for validation; 0 for none.
        seed: of the choice among groups of one size.
        by: "speaker" cuts validation off by whole speakers, where they are known and there are several in training, and by
            whole dialogs; "dialog" by whole dialogs alone. Copies of a recording are always kept together.

    Raises:
        ValueError: the training or the test split is empty.
    """
    sessions = np.asarray(dataset["session"][:])
    test, rows = np.flatnonzero(sessions == fold), np.flatnonzero(rows_to_train_on(dataset, fold))
    if len(rows) == 0 or len(test) == 0:
        raise ValueError(
            f"fold {fold} has {len(rows)} training and {len(test)} test utterances (sessions of the corpus: "
            f"{sorted(set(sessions.tolist()))}): a fold needs its own session and another"
        )
    labelled = np.asarray(dataset["label"][:]) >= 0  # others have votes, which a training may learn from
    test = test[labelled[test]]
    if share == 0:
        return Splits(dataset.select(rows), dataset.select([]), dataset.select(test), None)
    validation, unit = _given_validation(dataset, fold)
    if len(validation := validation[labelled[validation]]):
        return Splits(dataset.select(rows), dataset.select(validation), dataset.select(test), unit)
    names = [name for name in ("speaker", "dialog", "recording") if name in dataset.column_names]
    groups, unit = groups_to_split({name: np.asarray(dataset[name][:])[rows].tolist() for name in names}, by == "speaker")
    if groups.max() == 0:
        raise ValueError(
            f"fold {fold}: all training utterances share a dialog or a recording, so none can be kept for validation: give "
            "--validation_share 0"
        )
    order = np.random.default_rng([seed, fold]).permutation(groups.max() + 1).tolist()
    validation = hold_out(groups, np.asarray(dataset["label"][:])[rows], share, order)
    train, validation = rows[~validation], rows[validation & labelled[rows]]
    return Splits(dataset.select(train), dataset.select(validation), dataset.select(test), unit)


def rows_to_train_on(dataset, fold: int) -> np.ndarray:
    """
    (N,) which of N rows may be trained on when a fold is tested: those of other folds, but no turn of a dialog that has a
    turn in the test (its history, or that of the test, would carry words across), and of an official split `train` alone.
    """
    train = np.asarray(dataset["session"][:]) != fold
    if "split" in dataset.column_names:
        return train & (np.asarray(dataset["split"][:]) == "train")
    return train & ~_beside_test(dataset, fold)


def _beside_test(dataset, fold: int) -> np.ndarray:
    """(N,) which rows of other folds have a turn of their dialog in the test."""
    sessions, dialogs = np.asarray(dataset["session"][:]), np.asarray(dataset["dialog"][:])
    return (sessions != fold) & np.isin(dialogs, dialogs[sessions == fold])


def _given_validation(dataset, fold: int) -> tuple[np.ndarray, str]:
    """
    The rows that are validation by the protocol, if there are any, and what they are: the publisher's validation split, or
    the other speakers' turns of the dialogs that are tested on. The latter are never trained on, and what is chosen by them
    is chosen on other speakers than those of the test.
    """
    if "split" in dataset.column_names:
        return np.flatnonzero(np.asarray(dataset["split"][:]) == "validation"), "official split"
    return np.flatnonzero(_beside_test(dataset, fold)), "other speakers of the test dialogs"


def prepare_model(protocol: dict, speech: str, text: str, dataset, seed: int, folder: Path, batch_size: int) -> None:
    """
    Write the model that training starts from, with its label embeddings, and its processor.

    Args:
        protocol: settings of the run: `model`, `config`, `processor`, `semantic_labels`, `tonal_labels`, `words`, `codes`,
            `class_weights`, `attributes`.
        speech, text: the towers: folders, Hub names, or names of small towers.
        dataset: the training split alone.
        seed: of the new layers, and of small towers.
        folder: where to write.
        batch_size: utterances of a batch, while the label embeddings are computed.
    """
    config = protocol["config"]
    modality = config.get("modality", "multimodal")
    with whole_folder(folder) as temporary:
        if speech in SMALL_SPEECH_TOWERS and modality != "text":
            speech = str(make_small_speech_tower(temporary / "towers" / "speech", seed, speech))
        # A model that reads no words needs no BERT, which may be out of reach. Its processor has a tokenizer all the same.
        reads_words = modality != "speech" or config.get("speech_label_space") == "semantic"
        if text == "small" and reads_words:
            text = str(make_small_text_tower(temporary / "towers" / "text", dataset["text"], seed))
        set_seed(seed)  # for the new layers
        names = dataset.features["label"].names
        config = {
            "id2label": dict(enumerate(names)),
            "class_weights": class_weights(protocol["class_weights"], dataset["label"], names),
            "attributes": attribute_scales(protocol["attributes"], dataset),
            **config,
        }
        if config.get("speech_label_space") == "semantic":
            config["semantic_size"] = tower_config(text, "text").hidden_size
        towers = (None if modality == "text" else speech, None if modality == "speech" else text)
        model = MODELS[protocol["model"]].from_towers(*towers, **config)
        feature_extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
        if modality != "text":
            with opening(speech):
                feature_extractor = AutoFeatureExtractor.from_pretrained(speech)
        with opening(text):
            tokenizer = AutoTokenizer.from_pretrained(text) if reads_words else make_tokenizer([])
        processor = LemerProcessor(feature_extractor, tokenizer, **protocol["processor"])
        processor.check_fits(model.config)
        if getattr(model.config, "use_label_embeddings", False):
            model.to("cuda" if torch.cuda.is_available() else "cpu")
            build_label_embeddings(
                model,
                processor,
                dataset.select(np.flatnonzero(np.asarray(dataset["label"][:]) >= 0)),
                semantic=protocol["semantic_labels"],
                tonal=protocol["tonal_labels"],
                words=protocol["words"],
                codes=protocol["codes"],
                text_tower=text,
                batch_size=batch_size,
            )
            print(format_cosines(label_cosines(model), dataset.features["label"].names), flush=True)
        with writing(folder):
            model.save_pretrained(temporary)
            processor.save_pretrained(temporary)
        shutil.rmtree(temporary / "towers", ignore_errors=True)
