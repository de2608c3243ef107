"""The beginning of a fold: its split, and the model before training."""

import shutil
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from transformers import AutoFeatureExtractor, AutoTokenizer, Wav2Vec2FeatureExtractor

from .. import CrossModalModel, LemerModel, LemerProcessor
from ..labels.label_embeddings import build_label_embeddings
from ..runtime.files import whole_folder, writing
from ..towers_lemer import tower_config
from .small_towers import SMALL_SPEECH_TOWERS, make_small_speech_tower, make_small_text_tower

MODELS = {"lemer": LemerModel, "cross_modal": CrossModalModel}


def split_rows(dataset, fold: int, share: float, seed: int):
    """
    Split the corpus for one fold.

    Args:
        dataset: labelled utterances of all sessions, rows of the corpus schema.
        fold: the session that is held out for the test.
        share: share of the training sessions' utterances that are for validation, cut off by whole dialogs; 0 for none.
        seed: of the choice of these dialogs.

    Returns:
        Training, validation and test split.

    Raises:
        ValueError: the training or the test split is empty.
    """
    sessions = np.asarray(dataset["session"][:])
    train = sessions != fold
    validation = np.zeros(len(dataset), dtype=bool)
    if share > 0 and train.any():
        names, dialogs = np.unique(np.asarray(dataset["dialog"][:]), return_inverse=True)  # the number of each row's dialog
        sizes = np.bincount(dialogs[train], minlength=len(names))
        order = np.random.default_rng([seed, fold]).permutation(np.flatnonzero(sizes))
        before = np.cumsum(sizes[order]) - sizes[order]  # rows of the dialogs that are drawn earlier
        drawn = np.zeros(len(names), dtype=bool)
        drawn[order[before < share * train.sum()]] = True
        validation = train & drawn[dialogs]
    splits = [np.flatnonzero(mask) for mask in (train & ~validation, validation, ~train)]
    if len(splits[0]) == 0 or len(splits[2]) == 0:
        raise ValueError(
            f"fold {fold} has {len(splits[0])} training and {len(splits[2])} test utterances (sessions of the corpus: "
            f"{sorted(set(sessions.tolist()))}): a fold needs its own session and another"
        )
    return [dataset.select(indices) for indices in splits]


def prepare_model(protocol: dict, speech: str, text: str, dataset, seed: int, folder: Path, batch_size: int) -> None:
    """
    Write the model that training starts from, with its label embeddings, and its processor.

    Args:
        protocol: settings of the run: `model`, `config`, `processor`, `semantic_labels`, `tonal_labels`, `words`, `codes`.
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
        if text == "small":
            text = str(make_small_text_tower(temporary / "towers" / "text", dataset["text"], seed))
        set_seed(seed)  # for the new layers
        config = {"id2label": dict(enumerate(dataset.features["label"].names)), **config}
        if config.get("speech_label_space") == "semantic":
            config["semantic_size"] = tower_config(text, "text").hidden_size
        towers = (None if modality == "text" else speech, None if modality == "speech" else text)
        model = MODELS[protocol["model"]].from_towers(*towers, **config)
        feature_extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
        if modality != "text":
            feature_extractor = AutoFeatureExtractor.from_pretrained(speech)
        processor = LemerProcessor(feature_extractor, AutoTokenizer.from_pretrained(text), **protocol["processor"])
        processor.check_fits(model.config)
        if getattr(model.config, "use_label_embeddings", False):
            model.to("cuda" if torch.cuda.is_available() else "cpu")
            build_label_embeddings(
                model,
                processor,
                dataset,
                semantic=protocol["semantic_labels"],
                tonal=protocol["tonal_labels"],
                words=protocol["words"],
                codes=protocol["codes"],
                text_tower=text,
                batch_size=batch_size,
            )
        with writing(folder):
            model.save_pretrained(temporary)
            processor.save_pretrained(temporary)
        shutil.rmtree(temporary / "towers", ignore_errors=True)
