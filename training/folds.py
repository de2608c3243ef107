"""What a fold of train.py starts from and leaves: its split, the model before training, its protocol."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from transformers import AutoFeatureExtractor, AutoTokenizer, Wav2Vec2FeatureExtractor

from .. import CrossModalModel, LemerModel, LemerProcessor
from ..labels.label_embeddings import build_label_embeddings
from ..runtime.files import whole_folder, write_atomically, writing
from ..towers_lemer import tower_config
from .small_towers import SMALL_SPEECH_TOWERS, make_small_speech_tower, make_small_text_tower

MODELS = {"lemer": LemerModel, "cross_modal": CrossModalModel}


def split_rows(dataset, fold: int, share: float, seed: int):
    """Training, validation and test split of one fold; validation is cut from the training sessions by whole dialogs."""
    sessions, dialogs = np.asarray(dataset["session"]), np.asarray(dataset["dialog"])
    train = sessions != fold
    validation = np.zeros(len(dataset), dtype=bool)
    if share > 0:
        names = sorted(set(dialogs[train]))
        for name in np.random.default_rng([seed, fold]).permutation(names):
            if validation.sum() >= share * train.sum():
                break
            validation |= dialogs == name
    splits = [np.flatnonzero(mask) for mask in (train & ~validation, validation, ~train)]
    if len(splits[0]) == 0 or len(splits[2]) == 0:
        raise ValueError(
            f"fold {fold} has {len(splits[0])} training and {len(splits[2])} test utterances (sessions of the corpus: "
            f"{sorted(set(sessions.tolist()))}): a fold needs its own session and another"
        )
    return [dataset.select(indices) for indices in splits]


def prepare_model(protocol: dict, speech: str, text: str, dataset, seed: int, folder: Path, batch_size: int) -> None:
    """
    Write the model that training starts from, label embeddings built, and its processor.

    Args:
        protocol: Settings of the run: `model`, `config`, `processor`, `semantic_labels`, `tonal_labels`, `words`, `codes`.
        speech, text: Towers: folders, Hub names, or "small".
        dataset: The training split alone.
    """
    config = protocol["config"]
    modality = config.get("modality", "multimodal")
    with whole_folder(folder) as temporary:
        if speech in SMALL_SPEECH_TOWERS and modality != "text":
            speech = make_small_speech_tower(temporary / "towers" / "speech", seed, speech)
        if text == "small":
            text = make_small_text_tower(temporary / "towers" / "text", dataset["text"], seed)
        set_seed(seed)  # of the new layers
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


def check_unseen(tower: str, fold: int, fingerprint: str) -> None:
    """
    Refuse a tower that train.py or pretrain.py trained on this corpus for another fold: it has seen this fold's test.

    Args:
        tower: Folder of a run's checkpoint; anything else is let through.
        fingerprint: What the loader's report calls the corpus.
    """
    results = Path(tower).parent / "results.json"
    if not results.is_file():
        return
    trained = json.loads(results.read_text()).get("fold")
    protocols = [folder / "protocol.json" for folder in results.parents[1:3]]
    corpora = [json.loads(path.read_text()).get("corpus_fingerprint") for path in protocols if path.is_file()]
    if trained not in (None, fold) and fingerprint in corpora:
        raise ValueError(
            f"{tower} was trained on this corpus for fold {trained}, and so on what fold {fold} is tested on: name a tower "
            "for each fold, with {fold} in its path"
        )


def check_protocol(folder: Path, protocol: dict) -> None:
    """
    Refuse to mix runs of different settings in one folder; write down the settings of a new one.

    `command` is not compared, as the same settings can be asked for in several ways and for other folds and seeds; every
    one that was given is kept, a line each.
    """
    path = folder / "protocol.json"
    protocol = json.loads(json.dumps(protocol))
    if path.exists() and any(folder.glob("fold*/seed*/*")):
        old = json.loads(path.read_text())
        differing = [name for name in {**old, **protocol} if name != "command" and old.get(name) != protocol.get(name)]
        if differing:
            changes = "; ".join(f"{name} was {old.get(name)!r}, is {protocol.get(name)!r}" for name in sorted(differing))
            raise ValueError(f"{folder} holds a run with other settings ({changes}): give another --output_dir")
        commands = str(old.get("command", "")).splitlines()
        if protocol["command"] not in commands:
            write_atomically(path, json.dumps({**old, "command": "\n".join([*commands, protocol["command"]])}, indent=1))
    elif folder.exists() and any(entry != path for entry in folder.iterdir() if not entry.name.startswith("fold")):
        raise ValueError(f"{folder} is not empty and holds no run of train.py: give another --output_dir")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(protocol, indent=1))
