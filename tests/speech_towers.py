"""Tiny speech towers of every supported kind, clips and batches for them, and what their answers are compared by."""

import torch
from tiny import tiny_model

CONFORMERS = {
    f"conformer {position} {norm}": {"position_embeddings_type": position, "feat_extract_norm": norm}
    for position in ("relative", "rotary", None)
    for norm in ("group", "layer")
}
PLAIN = {
    f"{family} {norm}{' stable' * stable}": {
        "model_type": family,
        "feat_extract_norm": norm,
        "do_stable_layer_norm": stable,
    }
    for family in ("wav2vec2", "hubert")
    for norm, stable in (("group", False), ("layer", True))
}
TOWERS = {**CONFORMERS, **PLAIN, "wavlm group": {"model_type": "wavlm"}}
LOG_MEL = {
    "front_end": "log_mel",
    "mel_mask_bands": 0,
    "mel_mask_share": 0.0,
    "conv_dim": (80, 12, 8),
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 2, 2),
}
LOG_MELS = {
    "conformer log-Mel group": {**LOG_MEL, "feat_extract_norm": "group"},
    "conformer log-Mel layer": {**LOG_MEL, "feat_extract_norm": "layer"},
    "wav2vec2 log-Mel": {**LOG_MEL, "model_type": "wav2vec2", "feat_extract_norm": "layer"},
}
ALL = {**TOWERS, **LOG_MELS}  # TOWERS are those that transformers has too
LENGTHS = (4000, 2900, 400, 1500)


def clips(lengths=LENGTHS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, generator=generator) for length in lengths]


def pad(waves, extra: int = 0, side: str = "right", fill: float = 0.0) -> dict[str, torch.Tensor]:
    """A padded batch and its mask; `extra` samples of padding beyond the longest."""
    width = max(len(wave) for wave in waves) + extra
    values, mask = torch.full((len(waves), width), fill), torch.zeros(len(waves), width, dtype=torch.long)
    for row, wave in enumerate(waves):
        where = slice(0, len(wave)) if side == "right" else slice(width - len(wave), width)
        values[row, where], mask[row, where] = wave, 1
    return {"input_values": values, "input_values_mask": mask}


def make(name: str, attention: str = "sdpa", train: bool = False, **changes):
    """A speech model; neither dropout, nor LayerDrop, nor SpecAugment in training either."""
    model = tiny_model(modality="speech", speech=ALL[name], **changes)
    model.set_attn_implementation(attention)
    return model.train(train)


@torch.no_grad()
def answers(model, batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For every row the hidden states of its real frames, and its logits."""
    out = model(**batch)
    hidden = out.speech_model_output.last_hidden_state
    return [(hidden[row, mask], out.logits[row]) for row, mask in enumerate(out.frame_mask)]


def assert_same(one, other):
    """Equal shapes, and differences of at most 1e-5 of the largest value."""
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
