"""Make the label embeddings of a model from a training split."""

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..audio_lemer import GPU_MULTIPLE
from ..labels_lemer import frame_codes, semantic_label_embeddings, tonal_label_embeddings
from ..recipes import SEMANTIC, TONAL
from ..towers_lemer import load_towers
from .descriptions import key_codes, key_words, name_words


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
            label names), or "random", which keeps the initial embeddings.
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
        if semantic_buffer is not None or (tonal_buffer is not None and tonal == "semantic"):
            if semantic == "names":
                config.label_words = name_words(names)
            else:
                config.label_words = key_words(dataset["text"], dataset["label"], names, words)
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


def _codes_of_corpus(model, processor, dataset, batch_size: int, progress: bool) -> Iterator[tuple[int, np.ndarray]]:
    """The class index and the codes (F, G) of every utterance; utterances of similar length share a batch."""
    order = np.argsort(-np.asarray(dataset["num_frames"][:]), kind="stable")
    multiple = None if model.device.type == "cpu" else GPU_MULTIPLE
    with tqdm(total=len(order), desc="key frames", unit="utterance", disable=not progress) as bar:
        for start in range(0, len(order), batch_size):
            rows = dataset[order[start : start + batch_size].tolist()]
            batch = processor(audio=rows["audio"], return_tensors="pt", pad_to_multiple_of=multiple).to(model.device)
            yield from zip(rows["label"], frame_codes(model, **batch), strict=True)
            bar.update(len(rows["label"]))
