"""Key frames of every class, and the tonal label embeddings L_s made of their code vectors (paper, section 2.2).

Shapes: B batch, F frames, G groups of the codebook, V code vectors a group, C classes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from lemer.speech_encoder_lemer import extract_features

from .class_tfidf import best_terms, class_tfidf


def _check_quantizer(model):
    if model.speech_quantizer is None:
        raise ValueError(
            "the model has no quantizer, so frames have no codes: start from a ...ForPreTraining checkpoint of wav2vec 2.0, "
            "or use train_label_embeddings=True"
        )


@torch.no_grad()
def frame_codes(model, input_values: torch.Tensor, input_values_mask: torch.Tensor | None = None) -> list[np.ndarray]:
    """
    The code of every real frame of a padded batch: the index of the best code vector of each group.

    Runs the CNN encoder and the quantizer only.

    Returns:
        For every utterance an integer array (F, G).
    """
    _check_quantizer(model)
    quantizer = model.speech_quantizer
    was_training = model.training
    model.eval()
    features, frame_mask = extract_features(model.speech_model, input_values, input_values_mask)  # (B, F, conv_dim)
    scores = quantizer.weight_proj(features)  # (B, F, G * V)
    codes = scores.unflatten(-1, (quantizer.num_groups, quantizer.num_vars)).argmax(-1).cpu().numpy()  # (B, F, G)
    model.train(was_training)
    return [row[:length] for row, length in zip(codes, frame_mask.sum(-1).tolist(), strict=True)]


def key_codes(
    codes: Iterable[tuple[int, np.ndarray]], label_names: Sequence[str], k: int = 100
) -> dict[str, list[list[int]]]:
    """
    The k codes of every class with the highest TF-IDF ([`class_tfidf`]), best first.

    Args:
        codes: class index and codes (F, G) of every training utterance, in any order.
        label_names: names of the classes in the order of their indices.
        k: codes a class; the paper's best is 100.

    Raises:
        ValueError: k below 1, or a class without a frame.
    """
    if k < 1:
        raise ValueError(f"number of key frames must be at least 1, got {k}")
    counters = [Counter() for _ in label_names]
    for label, utterance in codes:
        counters[label].update(map(tuple, utterance.tolist()))
    empty = [name for name, counter in zip(label_names, counters, strict=True) if not counter]
    if empty:
        raise ValueError(f"no training utterance has the label {', '.join(empty)}: its key frames cannot be found")
    terms = sorted(set().union(*counters))
    counts = np.array([[counter[term] for term in terms] for counter in counters])
    best = best_terms(class_tfidf(counts, counts.sum(axis=1)), k)
    chosen = {name: [list(terms[term]) for term in found] for name, found in zip(label_names, best, strict=True)}
    frameless = [name for name, found in chosen.items() if not found]
    if frameless:
        raise ValueError(f"no code is more common in {', '.join(frameless)} than elsewhere: there are no key frames for it")
    return chosen


@torch.no_grad()
def tonal_label_embeddings(model, codes: dict[str, list[list[int]]]) -> torch.Tensor:
    """L_s (C, d_q): the mean code vector of each class's key frames, projected where frames are compared projected."""
    _check_quantizer(model)
    quantizer = model.speech_quantizer
    vectors = quantizer.codevectors[0].unflatten(0, (quantizer.num_groups, quantizer.num_vars))  # (G, V, d / G)
    groups = torch.arange(quantizer.num_groups, device=vectors.device)
    rows = []
    for name in model.config.id2label.values():
        chosen = vectors[groups, torch.tensor(codes[name], device=vectors.device)]  # (K, G, d / G)
        rows.append(chosen.flatten(1).mean(0))
    embeddings = torch.stack(rows)  # (C, codevector_dim)
    if model.speech_code_projection is not None:
        embeddings = model.speech_code_projection(embeddings)  # (C, d_q)
    return embeddings
