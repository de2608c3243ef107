"""Small towers: the same files every time, and a tokenizer that reads any word."""

import torch
from transformers import AutoTokenizer, Wav2Vec2ConformerConfig, Wav2Vec2ConformerForPreTraining

from lemer.training.small_towers import LOG_MEL_BASE, make_small_speech_tower, make_small_text_tower

TEXTS = [f"some words, {word} and {word}s again: it's so" for word in ("angry", "happy", "sad", "plain", "zebra", "quick")]


def test_the_same_texts_and_seed_give_the_same_files(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        for name in ("small", "small-log-mel"):
            make_small_speech_tower(folder / name, seed=3, name=name)
        make_small_text_tower(folder / "text", TEXTS, seed=3)
    for path in sorted(path.relative_to(folders[0]) for path in folders[0].rglob("*.*")):
        assert (folders[0] / path).read_bytes() == (folders[1] / path).read_bytes()


def test_known_words_are_whole_and_others_are_spelled(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_small_text_tower(tmp_path, TEXTS))
    assert tokenizer.tokenize("Angry again, pad") == ["angry", "again", ",", "p", "##a", "##d"]


def test_the_tower_of_the_papers_size():
    with torch.device("meta"):
        model = Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig(**LOG_MEL_BASE))
    tower = model.wav2vec2_conformer
    assert (len(tower.encoder.layers), tower.config.hidden_size) == (12, 768)
    assert 150e6 < sum(parameter.numel() for parameter in tower.parameters()) < 250e6
