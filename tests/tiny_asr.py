"""A tiny speech recogniser of random weights, which hears letters at random, always the same ones in a recording."""

import json
from pathlib import Path

import torch
from tiny import seeded
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": (8,) * 7}


def write_tiny_asr(folder: Path) -> str:
    """A checkpoint for `pipeline("automatic-speech-recognition", model=folder)`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"aeiou"]
    vocab = folder / "vocab.json"
    vocab.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    config = Wav2Vec2Config(
        vocab_size=len(tokens), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, pad_token_id=0, **SIZES
    )
    model = seeded(lambda: Wav2Vec2ForCTC(config))
    with torch.no_grad():  # letters that change with the sound, and no silence
        model.lm_head.weight.mul_(100)
        model.lm_head.bias[:5] = -1000
    model.save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(vocab)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return str(folder)
