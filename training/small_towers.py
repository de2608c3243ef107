"""Towers of random weights: small ones for tests, the demo corpus and offline machines, and one of the paper's size.

They are written as pre-training checkpoints like the public ones, so that all other code takes both in the same way.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForPreTraining,
    Wav2Vec2FeatureExtractor,
)

from .settings import SMALL_SPEECH_TOWERS

SPEECH = {
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "conv_dim": (32, 48, 64, 64, 96, 96, 96),
    "conv_depthwise_kernel_size": 15,
    "feat_extract_norm": "group",
    "num_codevectors_per_group": 64,
    "codevector_dim": 64,
    "proj_codevector_dim": 64,
    # A tower from scratch soon knows a few hundred recordings by heart, so half of their frames are masked in training.
    "mask_time_prob": 0.5,
    "feat_proj_dropout": 0.2,
}
# The same tower on a log-Mel spectrogram, from which two convolutions make a frame every 40 ms.
LOG_MEL_SPEECH = {
    **SPEECH,
    "front_end": "log_mel",
    "mel_normalization": "utterance",
    "mel_mask_bands": 27,
    "mel_mask_share": 0.2,
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 2, 2),
    "conv_dim": (80, 96, 96),
    "feat_extract_norm": "layer",
    # SpecAugment masks the log-Mel only, and leaves some recordings nearly whole. A tower from scratch that sees masked
    # frames in every recording of the training fails on whole recordings (benchmarks/LOG.md).
    "mask_time_prob": 0.0,
}
# The paper's tower: BASE (12 layers of width 768) on 80 log-Mel bands, with the codebook of wav2vec 2.0 BASE.
LOG_MEL_BASE = {
    **LOG_MEL_SPEECH,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "conv_dim": (80, 512, 512),
    "conv_depthwise_kernel_size": 31,
    "num_codevectors_per_group": 320,
    "codevector_dim": 256,
    "proj_codevector_dim": 256,
    "feat_proj_dropout": 0.1,
}
TEXT: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128}
VOCABULARY = 1000  # at most so many whole words


def make_small_speech_tower(folder: Path, seed: int = 0, name: str = "small") -> Path:
    """Write a conformer with quantizer, of random weights, and its feature extractor; return the folder."""
    settings: dict[str, dict] = dict(zip(SMALL_SPEECH_TOWERS, (SPEECH, LOG_MEL_SPEECH, LOG_MEL_BASE), strict=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig(**settings[name])).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return Path(folder)


def make_small_text_tower(folder: Path, texts: Sequence[str], seed: int = 0) -> Path:
    """Write a BERT of random weights, and a tokenizer with the vocabulary of `texts`, transcripts of the training split."""
    tokenizer = make_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(BertConfig(vocab_size=len(tokenizer), **TEXT), add_pooling_layer=False).save_pretrained(folder)
    return Path(folder)


def make_tokenizer(texts: Sequence[str]) -> BertTokenizer:
    """
    A BERT tokenizer that knows the commonest words as wholes and spells the others. Without texts it knows special tokens
    alone.

    It is not trained by `tokenizers`, whose trainer chooses by chance among equally common pieces: no run could be repeated.
    """
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}).backend_tokenizer
    counts = Counter()
    for text in texts:
        words = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
        counts.update(word for word, _ in words)
    letters = sorted(set("".join(counts)))
    common = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:VOCABULARY]]
    pieces += dict.fromkeys([*letters, *(f"##{letter}" for letter in letters), *common])
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, model_max_length=512)
