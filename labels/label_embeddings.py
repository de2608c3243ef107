"""Make the label embeddings of a model from a training split."""

import math
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers.utils import logging

from ..audio_lemer import GPU_MULTIPLE
from ..corpora.in_place import longest_first
from ..labels_lemer import frame_codes, semantic_label_embeddings, tonal_label_embeddings
from ..recipes import SEMANTIC, TONAL
from ..towers_lemer import load_towers
from .descriptions import key_codes, key_words, name_words

logger = logging.get_logger(__name__)

# From this cosine on, two labels are hardly told apart: the mean cosines of an utterance with them differ by at most 0.32.
ALIKE = 0.95


# long: what each branch may be described by
def build_label_embeddings(
    model,
    processor,
    dataset,
    semantic: str = "key_words",
    tonal: str = "key_frames",
    words: int = 9,
    codes: int = 100,
    text_tower: str | None = None,
    batch_size: int = 16,
    progress: bool = True,
) -> None:
    """
    Set a model's `semantic_label_embeddings` and `tonal_label_embeddings`, and its config's `label_words` and `label_codes`.

    Args:
        model: a `LemerModel`. Label embeddings of a modality that it does not have are left out.
        processor: its `LemerProcessor`.
        dataset: the training split, a dataset in the corpus schema in which every utterance has a label.
        semantic: from what the embeddings of the text branch are made: "key_words" (by TF-IDF), "names" (the words of the
            label names), or "random" numbers: those that training starts from, or fixed ones where they are not trained.
        tonal: from what the embeddings of the speech branch are made: "key_frames" (codes of the codebook), "semantic" (the
            semantic label embeddings, with `speech_label_space="semantic"`), or "random".
        words, codes: the number K of key words and of key frames of a class.
        text_tower: folder or Hub name of the BERT that makes semantic label embeddings for a model without text tower.
        batch_size: number of utterances in a batch of the pass that encodes all speech as codes.
        progress: whether to show a progress bar.

    Raises:
        ValueError: a class has no utterance, no key word or no key frame; the model has no quantizer; or `tonal` does not
            fit `speech_label_space` of the model.
    """
    config = model.config
    names = list(config.id2label.values())
    for name, value, choices in (("semantic", semantic, SEMANTIC), ("tonal", tonal, TONAL)):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    # The buffers that are set here; None for those that are left as they are.
    semantic_buffer = None if semantic == "random" else model.semantic_label_embeddings
    tonal_buffer = None if tonal == "random" else model.tonal_label_embeddings
    if tonal_buffer is not None and (tonal == "semantic") != (config.speech_label_space == "semantic"):
        raise ValueError(f"tonal labels from {tonal!r} do not fit speech_label_space={config.speech_label_space!r}")
    with torch.no_grad():
        for source, embeddings in ((semantic, model.semantic_label_embeddings), (tonal, model.tonal_label_embeddings)):
            if source == "random" and embeddings is not None and not config.train_label_embeddings:
                embeddings.normal_()  # trained ones are drawn with the other weights
        if semantic_buffer is not None or (tonal_buffer is not None and tonal == "semantic"):
            if semantic == "names":
                config.label_words = name_words(names)
            else:
                config.label_words = key_words(dataset["text"], dataset["label"], names, words, dataset["dialog"])
            text_model = model.text_model
            if text_model is None:
                text_model = cast(nn.Module, load_towers(None, text_tower, {"modality": "text"}).text_model).to(model.device)
            embeddings = semantic_label_embeddings(text_model, processor.tokenizer, config.label_words, names)
            if semantic_buffer is not None:
                semantic_buffer.copy_(embeddings)
            if tonal_buffer is not None and tonal == "semantic":
                tonal_buffer.copy_(embeddings)
        if tonal_buffer is not None and tonal != "semantic":
            codes_of_utterances = _codes_of_corpus(model, processor, dataset, batch_size, progress)
            config.label_codes = key_codes(codes_of_utterances, names, codes)
            tonal_buffer.copy_(tonal_label_embeddings(model, config.label_codes, names))
    _warn_of_labels_alike(model)


@torch.no_grad()
def label_cosines(model) -> dict[str, list[list[float]]]:
    """
    How alike the labels of a model are: cosines of each label with each, as the model compares them with tokens and frames.

    Returns:
        "semantic" and "tonal", where the model has such label embeddings -> C lists of C cosines, in the order of the
        logits. A label that is not set has 0.
    """
    cosines = {}
    for kind in ("semantic", "tonal"):
        name = f"{kind}_label_embeddings"
        if getattr(model, name, None) is not None:
            labels = nn.functional.normalize(model.compared_labels(name).float(), dim=-1)  # (C, d)
            cosines[kind] = [[round(value, 4) for value in row] for row in (labels @ labels.T).tolist()]
    return cosines


def format_cosines(cosines: dict[str, list[list[float]]], names: list[str]) -> str:
    """The result of `label_cosines` as lines of text, each pair of labels once."""
    lines = []
    for kind, rows in cosines.items():
        pairs = [f"{names[a]}-{names[b]} {rows[a][b]:.3f}" for a in range(len(names)) for b in range(a + 1, len(names))]
        lines.append(f"cosines of the {kind} labels: {', '.join(pairs)}")
    return "\n".join(lines)


def _warn_of_labels_alike(model) -> None:
    names = list(model.config.id2label.values())
    for kind, rows in label_cosines(model).items():
        pairs = [(rows[a][b], a, b) for a in range(len(names)) for b in range(a + 1, len(names))]
        alike = [pair for pair in pairs if pair[0] > ALIKE]
        if alike:
            cosine, first, second = max(alike)
            reach = math.sqrt(max(0.0, 2 - 2 * cosine))  # of the difference of two cosines with any one vector
            logger.warning(
                f"{len(alike)} of {len(pairs)} pairs of {kind} labels have a cosine above {ALIKE}, so the label branch "
                f"hardly tells them apart: {names[first]} and {names[second]} have {cosine:.3f}, and their scores before "
                f"the softmax can never differ by more than {reach:.2f}. label_centering='labels' subtracts what they share"
            )


def _codes_of_corpus(model, processor, dataset, batch_size: int, progress: bool) -> Iterator[tuple[int, np.ndarray]]:
    """The class index and the codes (F, G) of every utterance; utterances of similar length share a batch."""
    order = longest_first(dataset)
    multiple = None if model.device.type == "cpu" else GPU_MULTIPLE
    with tqdm(total=len(order), desc="key frames", unit="utterance", disable=not progress) as bar:
        for start in range(0, len(order), batch_size):
            rows = dataset[order[start : start + batch_size].tolist()]
            batch = processor(audio=rows["audio"], return_tensors="pt", pad_to_multiple_of=multiple).to(model.device)
            yield from zip(rows["label"], frame_codes(model, **batch), strict=True)
            bar.update(len(rows["label"]))
