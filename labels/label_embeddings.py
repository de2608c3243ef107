"""Label embeddings of a model from a training split: find key words and key frames, write buffers and configuration."""

from collections.abc import Iterator

import numpy as np
import torch
from tqdm.auto import tqdm

from .key_frames import frame_codes, key_codes, tonal_label_embeddings
from .key_words import key_words, semantic_label_embeddings


def build_label_embeddings(
    model, processor, dataset, words: int = 9, codes: int = 100, batch_size: int = 16, progress: bool = True
) -> None:
    """
    Set a model's `semantic_label_embeddings` and `tonal_label_embeddings`, and its config's `label_words` and `label_codes`.

    Args:
        model: A `LemerModel` with label embeddings; what its modality lacks is left out.
        processor: Its `LemerProcessor`.
        dataset: The training split alone, rows of the corpus schema with a label each.
        words, codes: K, number of key words and of key frames a class.
        batch_size: Utterances a batch of the speech pass, which runs the CNN encoder and the quantizer once over the corpus.
        progress: Show a progress bar.

    Raises:
        ValueError: a class has no utterance, no key word or no key frame, or the model has no quantizer.
    """
    config = model.config
    names = list(config.id2label.values())
    with torch.no_grad():
        if model.semantic_label_embeddings is not None:
            config.label_words = key_words(dataset["text"], dataset["label"], names, words)
            embeddings = semantic_label_embeddings(model, processor.tokenizer, config.label_words)
            model.semantic_label_embeddings.copy_(embeddings)
        if model.tonal_label_embeddings is not None:
            pass_over_speech = _codes_of_corpus(model, processor, dataset, batch_size, progress)
            config.label_codes = key_codes(pass_over_speech, names, codes)
            model.tonal_label_embeddings.copy_(tonal_label_embeddings(model, config.label_codes))


def _codes_of_corpus(model, processor, dataset, batch_size: int, progress: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Class and codes of every utterance, in batches of like length."""
    order = np.argsort(-np.asarray(dataset["num_frames"]), kind="stable")
    with tqdm(total=len(order), desc="key frames", unit="utterance", disable=not progress) as bar:
        for start in range(0, len(order), batch_size):
            rows = dataset[order[start : start + batch_size].tolist()]
            batch = processor(audio=rows["audio"], return_tensors="pt").to(model.device)
            yield from zip(rows["label"], frame_codes(model, **batch), strict=True)
            bar.update(len(rows["label"]))
