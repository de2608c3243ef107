"""What decides an answer: how its scores change when a word or a part of the recording is left out.

Shapes: S samples, N variants of an utterance, W words, P parts of the recording, C classes.
"""

import numpy as np
import torch

from ..activity_lemer import in_recording

PART_SECONDS = 0.5
# A long utterance has longer parts, and neighbouring words that are left out together, so that it is answered in time.
MOST = 24  # groups of words, and parts
BATCH_SIZE, BATCH_SECONDS = 8, 60  # variants of one forward pass, and seconds of speech


def answering_modality(model, audio, text) -> str:
    """Which modality a model answers from, given a recording, words, or both: "multimodal", "speech" or "text"."""
    if model.config.modality != "multimodal":
        return model.config.modality
    return "speech" if text is None else "text" if audio is None else "multimodal"


def parts_of(length: int, rate: int) -> np.ndarray:
    """Bounds (P + 1,), in samples, of equal parts of about `PART_SECONDS`, or of more where there would be too many."""
    count = min(MOST, max(1, round(length / rate / PART_SECONDS)))
    return np.linspace(0, length, count + 1).round().astype(int)


@torch.no_grad()
def occlusion(
    model, processor, samples: np.ndarray | None = None, text: str | None = None, history: list[str] | None = None
) -> dict[str, np.ndarray]:
    """
    Leave out each word and each second of an utterance.

    Seconds are left out in steps of half a second, and each half second gets the mean of the two seconds that it lies in:
    one half of a sound may decide as well as both. A second is cut out, so that no silence takes its place, after the
    recording is normalised, so that what is left stays as it was. Where nothing would be left there is silence. There are
    at most `MOST` parts, which are longer in a long recording, and as many groups of words, which share their effect.

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
    words = [] if text is None else text.split()
    groups = [group for group in np.array_split(np.arange(len(words)), min(MOST, max(1, len(words)))) if len(group)]
    texts = [" ".join([*words[: group[0]], *words[group[-1] + 1 :]]) for group in groups]
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
        of_words = np.repeat(effects[: len(groups)], [len(group) for group in groups], axis=0)
        arrays.update(words=np.array(words), word_effects=of_words)
    if samples is not None:
        of_seconds = effects[len(texts) :]  # (P + 1, C)
        # Bounds in the recording: long silences were left out of what the model heard.
        seconds = in_recording(bounds, processor.heard_spans(samples)) / processor.feature_extractor.sampling_rate
        arrays.update(part_bounds=seconds, part_effects=(of_seconds[:-1] + of_seconds[1:]) / 2)
    return arrays


def _scores(model, clips: list[torch.Tensor], tokens: dict[str, torch.Tensor], modality: str) -> np.ndarray:
    """Scores (N, C) of N variants: normalised samples (S,) of each, or none, and the processor's tokens, or none."""
    count = len(clips) or len(next(iter(tokens.values())))
    temperature, was_training, scores = model.config.score_temperature(modality), model.training, []
    model.eval()
    fit = BATCH_SECONDS * 16_000 // max(map(len, clips)) if clips else BATCH_SIZE
    size = min(BATCH_SIZE, max(1, fit))
    for start in range(0, count, size):
        part = slice(start, start + size)
        batch = {name: rows[part].to(model.device) for name, rows in tokens.items()}
        if clips:
            values = [clip.to(model.device, model.dtype) for clip in clips[part]]
            batch["input_values"] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
            mask = [torch.ones(len(clip), dtype=torch.long, device=model.device) for clip in values]
            batch["input_values_mask"] = torch.nn.utils.rnn.pad_sequence(mask, batch_first=True)
        scores.append((model(**batch).logits.float() / temperature).softmax(-1).cpu().numpy())
    model.train(was_training)
    return np.concatenate(scores)
