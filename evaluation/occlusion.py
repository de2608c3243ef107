"""What decides an answer: how its scores change when a word or a part of the recording is left out.

A change is told in two ways. The effect is the score of a class minus that without the part. Scores near 1 hardly change,
however much they rest on, so bars show the weight of evidence (Robnik-Sikonja and Kononenko, 2008): the same difference of
the log-odds log2(score / (1 - score)). A weight of 1 means that the odds of the class are half as high without the part, a
weight of 2 that they are a quarter.

Shapes: S samples, N variants of an utterance, W words, P parts of the recording, C classes.
"""

import math

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
        class; and `word_evidence` (W, C), the same of the log-odds. With a recording, `part_bounds` (P + 1,) in seconds,
        `part_effects` and `part_evidence` (P, C).
    """
    clips, texts, bounds = [], [], np.array([0])
    words = [] if text is None else text.split()
    groups = [group for group in np.array_split(np.arange(len(words)), min(MOST, max(1, len(words)))) if len(group)]
    texts = [" ".join([*words[: group[0]], *words[group[-1] + 1 :]]) for group in groups]
    tokens, whole, rate = {}, None, processor.feature_extractor.sampling_rate
    if samples is not None:
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
    logits = _logits(model, clips, tokens, answering_modality(model, samples, text))
    scores, odds = logits.softmax(-1).numpy(), log_odds(logits).numpy()
    arrays = {"scores": scores[0]}
    if text is not None:
        arrays["words"] = np.array(words)
    if samples is not None:
        # Bounds in the recording: long silences were left out of what the model heard.
        arrays["part_bounds"] = (
            in_recording(bounds, processor.heard_spans(samples)) / processor.feature_extractor.sampling_rate
        )
    for kind, changes in (("effects", scores[0] - scores[1:]), ("evidence", odds[0] - odds[1:])):
        if text is not None:
            arrays[f"word_{kind}"] = np.repeat(changes[: len(groups)], [len(group) for group in groups], axis=0)
        if samples is not None:
            of_seconds = changes[len(texts) :]  # (P + 1, C)
            arrays[f"part_{kind}"] = (of_seconds[:-1] + of_seconds[1:]) / 2
    return arrays


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """log2(score / (1 - score)) of every class, (N, C), of logits (N, C) whose softmax is the scores."""
    itself = torch.eye(logits.shape[-1], dtype=torch.bool)
    others = logits.unsqueeze(-2).masked_fill(itself, -math.inf).logsumexp(-1)  # (N, C)
    return (logits - others) / math.log(2)


def _logits(model, clips: list[torch.Tensor], tokens: dict[str, torch.Tensor], modality: str) -> torch.Tensor:
    """
    Logits (N, C) of N variants, divided by the temperature, so that their softmax is the scores.

    Args:
        clips: normalised samples (S,) of each variant, or none.
        tokens: the processor's tokens of each, or none.
    """
    count = len(clips) or len(next(iter(tokens.values())))
    temperature, was_training, logits = model.config.score_temperature(modality), model.training, []
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
        logits.append((model(**batch).logits.float() / temperature).cpu())
    model.train(was_training)
    return torch.cat(logits)
