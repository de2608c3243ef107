"""Label embeddings: rows of L_t from words, rows of L_s from the codes of frames, and labels set from a few examples.

This file travels with every checkpoint.

Shapes: B batch, F frames, G groups of the codebook, V code vectors a group, C classes, d_t text width, d_q width of the
space in which frames meet tonal labels.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from transformers.utils import logging

from .processing_lemer import encode
from .speech_encoder_lemer import extract_features

logger = logging.get_logger(__name__)

SHOWN_CODES = 100  # how many codes of a label made from recordings are written to the configuration


@contextmanager
def _in_evaluation(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while. Nothing is written to one that is: other threads may use it."""
    was_training = module.training
    if was_training:
        module.eval()
    try:
        yield
    finally:
        if was_training:
            module.train()


def check_quantizer(model) -> None:
    """Raise a `ValueError` where a model has no codebook, and so frames have no codes."""
    if model.speech_quantizer is None:
        raise ValueError(
            "the model has no quantizer, so frames have no codes: start from a ...ForPreTraining checkpoint of wav2vec 2.0, "
            "or describe its labels otherwise: tonal_labels=random with train_label_embeddings=true, as recipe B3, or "
            "tonal_labels=semantic with speech_label_space=semantic, as B4"
        )


@torch.no_grad()
def frame_codes(model, input_values: torch.Tensor, input_values_mask: torch.Tensor | None = None) -> list[np.ndarray]:
    """
    The code of every real frame of a padded batch: the index of the best code vector of each group.

    Runs the CNN encoder and the quantizer only.

    Returns:
        For every utterance an integer array (F, G).
    """
    check_quantizer(model)
    quantizer = model.speech_quantizer
    # Only the CNN encoder computes differently in training; to set the mode of the whole model takes long.
    with _in_evaluation(model.speech_model.feature_extractor):
        features, frame_mask = extract_features(model.speech_model, input_values, input_values_mask)  # (B, F, conv_dim)
    scores = quantizer.weight_proj(features)  # (B, F, G * V)
    codes = scores.unflatten(-1, (quantizer.num_groups, quantizer.num_vars)).argmax(-1).cpu().numpy()  # (B, F, G)
    return [row[:length] for row, length in zip(codes, frame_mask.sum(-1).tolist(), strict=True)]


@torch.no_grad()
def tonal_label_embeddings(model, codes: Mapping[str, Sequence | np.ndarray], label_names: Sequence[str]) -> torch.Tensor:
    """L_s (C, d_q): the mean of each label's K code vectors, projected where the model compares projected frames."""
    check_quantizer(model)
    quantizer = model.speech_quantizer
    vectors = quantizer.codevectors[0].unflatten(0, (quantizer.num_groups, quantizer.num_vars))  # (G, V, d / G)
    groups = torch.arange(quantizer.num_groups, device=vectors.device)
    rows = []
    for name in label_names:
        chosen = vectors[groups, torch.as_tensor(codes[name], device=vectors.device)]  # (K, G, d / G)
        rows.append(chosen.flatten(1).mean(0))
    embeddings = torch.stack(rows)  # (C, codevector_dim)
    if model.speech_code_projection is not None:
        embeddings = model.speech_code_projection(embeddings)  # (C, d_q)
    return embeddings


@torch.no_grad()
def semantic_label_embeddings(
    text_model, tokenizer, words: Mapping[str, Sequence[str]], label_names: Sequence[str]
) -> torch.Tensor:
    """
    L_t (C, d_t): the text tower's last hidden states over each class's words in rank order, averaged over word pieces.

    Special tokens are left out of the average. One sequence at a time, so that no class depends on the others.
    """
    rows = []
    with _in_evaluation(text_model):
        for name in label_names:
            row = encode(tokenizer, [" ".join(words[name])], limit=tokenizer.model_max_length)[0]
            inputs = {field: torch.tensor([values], device=text_model.device) for field, values in row.items()}  # (1, T)
            word_pieces = inputs.pop("special_tokens_mask")[0] == 0  # (T,)
            hidden = text_model(**inputs).last_hidden_state[0]  # (T, d_t)
            rows.append(hidden[word_pieces].mean(0))
    return torch.stack(rows)


# ------------------------------------------------------------------------------------ labels from words and recordings


@torch.no_grad()
def set_labels(model, labels: Sequence[str], words: Mapping, recordings: Mapping, processor) -> None:
    """
    Give a model other labels, as `LemerModel.set_labels` documents.

    It changes the model, so no other thread may use the model at the same time.
    """
    labels, config = list(labels), model.config
    words = {name: list(given) if not isinstance(given, str) else given for name, given in (words or {}).items()}
    recordings = dict(recordings or {})
    _check_descriptions(model, labels, words, recordings, processor)
    before = list(config.id2label.values())
    kept = [before.index(name) if name in before else None for name in labels]

    # Everything that can fail is computed first, so that a model is changed as a whole or not at all.
    tonal_from_words = config.uses_speech and config.speech_label_space == "semantic"
    new_rows = {"semantic_label_embeddings": {}, "tonal_label_embeddings": {}}
    if words:
        rows = semantic_label_embeddings(model.text_model, processor.tokenizer, words, list(words))
        if not rows.isfinite().all():
            raise ValueError(f"some of the words {words} are no word pieces of the checkpoint's tokenizer")
        new_rows["semantic_label_embeddings"] = dict(zip(words, rows, strict=True))
        if tonal_from_words:
            new_rows["tonal_label_embeddings"] = dict(zip(words, rows, strict=True))
    codes = {name: _codes_of_recordings(model, processor, clips) for name, clips in recordings.items()}
    if codes:
        new_rows["tonal_label_embeddings"] = dict(zip(codes, tonal_label_embeddings(model, codes, list(codes)), strict=True))

    for field, rows in new_rows.items():
        _replace_rows(model, field, labels, kept, rows)
    rows_kept = [index for index in kept if index is not None]
    for classifier in ("classifier", *model.branch_classifiers):
        if len(rows_kept) < len(labels):
            _new_classifier(model, classifier, len(labels))
        else:
            _select_classes(getattr(model, classifier), rows_kept)
    config.temperatures = None  # they were fitted to the old labels
    described = {"label_words": words, "label_codes": {name: _commonest(frames) for name, frames in codes.items()}}
    described = {field: {**(getattr(config, field) or {}), **new} for field, new in described.items()}
    config.label_words = config.label_codes = None  # they describe the old labels, which the next line replaces
    config.id2label, config.label2id = dict(enumerate(labels)), {name: index for index, name in enumerate(labels)}
    for field, lists in described.items():
        if any(lists.get(name) for name in labels):
            setattr(config, field, {name: lists.get(name, []) for name in labels})


def _check_descriptions(model, labels: list[str], words: dict, recordings: dict, processor) -> None:
    config = model.config
    if not config.use_label_embeddings:
        raise ValueError(
            "this model has no label embeddings (use_label_embeddings=False), so no label can be described to it: load it "
            "with id2label=... and ignore_mismatched_sizes=True, and train it"
        )
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(isinstance(name, str) and name for name in labels):
        raise ValueError(f"labels must be at least two different names, got {labels}")
    for argument, given in (("words", words), ("recordings", recordings)):
        if set(given) - set(labels):
            raise ValueError(f"{argument} describes {sorted(set(given) - set(labels))}, which labels={labels} does not name")
        for name, examples in given.items():
            if isinstance(examples, (str, bytes)) or not len(examples):
                raise ValueError(f"{argument}[{name!r}] must be a list with at least one example, got {examples!r:.80}")
    if words and model.text_model is None:
        raise ValueError("this model has no text tower to read words with: describe its labels by recordings")
    for name, given in words.items():
        if not all(isinstance(word, str) and word.strip() for word in given):
            raise ValueError(f"words[{name!r}] must be strings, none of them empty, got {given!r:.80}")
    if recordings and model.speech_model is None:
        raise ValueError("this model has no speech tower to hear recordings with: describe its labels by words")
    if recordings and config.speech_label_space == "semantic":
        raise ValueError("the speech labels of this model are those of its words: describe its labels by words alone")
    if recordings:
        check_quantizer(model)
    undescribed = [name for name in labels if name not in {*words, *recordings, *config.id2label.values()}]
    if undescribed:
        raise ValueError(
            f"nothing describes the new labels {undescribed}: give each a list in words, in recordings, or in both (labels "
            f"that the model has already are {list(config.id2label.values())})"
        )
    if (words or recordings) and processor is None:
        raise ValueError("words and recordings are read with the checkpoint's processor: give processor=")


def _codes_of_recordings(model, processor, clips: Sequence) -> np.ndarray:
    """Codes (F, G) of all frames of all clips, one clip at a time."""
    batches = (processor(audio=[clip], return_tensors="pt").to(model.device, model.dtype) for clip in clips)
    return np.concatenate([frame_codes(model, **batch)[0] for batch in batches])


def _commonest(codes: np.ndarray) -> list[list[int]]:
    return [list(code) for code, _ in Counter(map(tuple, codes.tolist())).most_common(SHOWN_CODES)]


def _replace_rows(model, field: str, labels: list[str], kept: list[int | None], new: dict[str, torch.Tensor]) -> None:
    """Replace a label embedding by one with a row for each of `labels`: a new row, a kept one, or 0 (random if trained)."""
    old = getattr(model, field)
    if old is None:
        return
    trained = isinstance(old, nn.Parameter)
    values = (torch.randn if trained else torch.zeros)(len(labels), old.shape[1], dtype=old.dtype, device=old.device)
    unset = []
    for index, (name, before) in enumerate(zip(labels, kept, strict=True)):
        if name in new:
            values[index] = new[name].to(values)
        elif before is not None and old[before].any():
            values[index] = old[before]
        else:
            unset.append(name)
    if unset:
        branch = "text" if field.startswith("semantic") else "speech"
        rows = "drawn at random until they are trained" if trained else "0"
        missing = "words" if branch == "text" or model.config.speech_label_space == "semantic" else "recordings"
        logger.warning(
            f"the {branch} branch cannot answer for {', '.join(unset)}: their {field} are {rows}. Give {missing} of them"
        )
    setattr(model, field, nn.Parameter(values, requires_grad=old.requires_grad) if trained else values)


def _new_classifier(model, name: str, labels: int) -> None:
    old = getattr(model, name)
    new = nn.Linear(old.in_features, labels, device=old.weight.device, dtype=old.weight.dtype)
    model._init_weights(new)
    setattr(model, name, new.train(model.training))


def _select_classes(classifier: nn.Linear, kept: list[int]) -> None:
    for name in ("weight", "bias"):
        rows = getattr(classifier, name)
        setattr(classifier, name, nn.Parameter(rows[kept].clone(), requires_grad=rows.requires_grad))
    classifier.out_features = len(kept)


__all__ = ["frame_codes", "semantic_label_embeddings", "set_labels", "tonal_label_embeddings"]
