"""What decides an answer: how its scores change when a word or a part of the recording is left out.

Shapes: S samples, N variants of an utterance, W words, P parts of the recording, C classes.
"""

import numpy as np
import torch

PART_SECONDS = 0.5
BATCH_SIZE = 8  # variants of one forward pass


def answering_modality(model, audio, text) -> str:
    """Which modality a model answers from, given a recording, words, or both: "multimodal", "speech" or "text"."""
    if model.config.modality != "multimodal":
        return model.config.modality
    return "speech" if text is None else "text" if audio is None else "multimodal"


def parts_of(length: int, rate: int) -> np.ndarray:
    """Bounds (P + 1,), in samples, of equal parts of about [`PART_SECONDS`]."""
    count = max(1, round(length / rate / PART_SECONDS))
    return np.linspace(0, length, count + 1).round().astype(int)


@torch.no_grad()
def occlusion(
    model, processor, samples: np.ndarray | None = None, text: str | None = None, history: list[str] | None = None
) -> dict[str, np.ndarray]:
    """
    Leave out each word and each second of an utterance.

    Seconds are left out in steps of half a second, and each half second gets the mean of the two seconds that it lies in:
    one half of a sound may decide as well as both. A second is cut out, so that no silence takes its place, after the
    recording is normalised, so that what is left stays as it was. Where nothing would be left there is silence.

    Args:
        samples: (S,) at the processor's rate, or None.
        text: the current utterance, or None.
        history: the earlier turns, which stay.

    Returns:
        `scores` (C,) of the whole utterance, as the pipeline shows them. With a text, `words` (W,), split at blanks, and
        `word_effects` (W, C): the score of each class minus that without the word, so above 0 where the word speaks for the
        class. With a recording, `part_bounds` (P + 1,) in seconds and `part_effects` (P, C).
    """
    clips, texts, bounds = [], [], np.array([0])
    if text is not None:
        words = text.split()
        texts = [" ".join(words[:left_out] + words[left_out + 1 :]) for left_out in range(len(words))]
    tokens, whole = {}, None
    if samples is not None:
        rate = processor.feature_extractor.sampling_rate
        whole = processor(audio=samples, sampling_rate=rate, return_tensors="pt")["input_values"][0]  # (S,)
        bounds = parts_of(len(whole), rate)
        ends = [bounds[0], *bounds, bounds[-1]]
        for begin, end in zip(ends[:-2], ends[2:], strict=True):  # P + 1 of them, and each part is in two
            rest = torch.cat([whole[:begin], whole[end:]])
            clips.append(rest if len(rest) else torch.zeros_like(whole))
    if text is not None:
        # The whole text first and last, for the variants of the recording.
        every = [text, *texts, *[text] * len(clips)]
        tokens = dict(processor(text=every, history=[history or []] * len(every), return_tensors="pt"))
    clips = [] if whole is None else [whole] * (1 + len(texts)) + clips
    scores = _scores(model, clips, tokens, answering_modality(model, samples, text))
    effects = scores[0] - scores[1:]
    arrays = {"scores": scores[0]}
    if text is not None:
        arrays.update(words=np.array(text.split()), word_effects=effects[: len(texts)])
    if samples is not None:
        of_seconds = effects[len(texts) :]  # (P + 1, C)
        seconds = bounds / processor.feature_extractor.sampling_rate
        arrays.update(part_bounds=seconds, part_effects=(of_seconds[:-1] + of_seconds[1:]) / 2)
    return arrays


def _scores(model, clips: list[torch.Tensor], tokens: dict[str, torch.Tensor], modality: str) -> np.ndarray:
    """Scores (N, C) of N variants: normalised samples (S,) of each, or none, and the processor's tokens, or none."""
    count = len(clips) or len(next(iter(tokens.values())))
    temperature, was_training, scores = model.config.score_temperature(modality), model.training, []
    model.eval()
    for start in range(0, count, BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        batch = {name: rows[part].to(model.device) for name, rows in tokens.items()}
        if clips:
            values = [clip.to(model.device, model.dtype) for clip in clips[part]]
            batch["input_values"] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
            mask = [torch.ones(len(clip), dtype=torch.long, device=model.device) for clip in values]
            batch["input_values_mask"] = torch.nn.utils.rnn.pad_sequence(mask, batch_first=True)
        scores.append((model(**batch).logits.float() / temperature).softmax(-1).cpu().numpy())
    model.train(was_training)
    return np.concatenate(scores)
