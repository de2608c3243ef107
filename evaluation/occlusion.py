"""What decides an answer: how its scores change when a word, a part of the recording or a turn is left out, or kept alone.

A change is told in two ways. The effect is the score of a class minus that without the part. Scores near 1 hardly change,
however much they rest on, so bars show the weight of evidence (Robnik-Sikonja and Kononenko, 2008): the same difference of
the log-odds log2(score / (1 - score)). A weight of 1 means that the odds of the class are half as high without the part, a
weight of 2 that they are a quarter.

Shapes: S samples, N variants of an utterance, W words, P parts of the recording, H earlier turns, C classes.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from ..activity_lemer import in_recording

PART_SECONDS = 0.5
# A long utterance has longer parts, and neighbouring words that are left out together, so that it is answered in time.
MOST = 24  # groups of words, and parts
BATCH_SIZE, BATCH_SECONDS = 8, 60  # variants of one forward pass, and seconds of speech
# Of the level of the recording, -80 dB: the noise that stands in its place. As Kaldi's dither it keeps features from being
# all equal. Norms make large numbers of their rounding errors, so that an answer to zeros depends on the batch.
FAINT = 1e-4


def answering_modality(model, audio, text) -> str:
    """Which modality a model answers from, given a recording, words, or both: "multimodal", "speech" or "text"."""
    if model.config.modality != "multimodal":
        return model.config.modality
    return "speech" if text is None else "text" if audio is None else "multimodal"


def parts_of(length: int, rate: int) -> np.ndarray:
    """Bounds (P + 1,), in samples, of equal parts of about `PART_SECONDS`, or of more where there would be too many."""
    count = min(MOST, max(1, round(length / rate / PART_SECONDS)))
    return np.linspace(0, length, count + 1).round().astype(int)


class Variant(NamedTuple):
    """An utterance of which something was left out."""

    clip: torch.Tensor | None  # (S,) normalised samples
    text: str | None
    history: list[str]


class Trial(NamedTuple):
    """The variants for one kind of piece of an utterance, its words, the parts of its recording or the earlier turns."""

    without: list[Variant]  # a variant for each group of pieces
    alone: list[Variant]  # the same, with nothing else of that kind
    nothing: Variant  # with nothing of that kind
    groups: list[list[int]]  # the groups that each piece is in, whose mean it gets


@torch.no_grad()
def occlusion(
    model, processor, samples: np.ndarray | None = None, text: str | None = None, history: list[str] | None = None
) -> dict[str, np.ndarray]:
    """
    Leave out each word, each second and each earlier turn of an utterance, and keep each alone.

    What is left out shows what the answer needs. Of two words that say the same none is needed, and of a sound that lasts
    no single second. So each word is also kept alone, without the other words, each second without the rest of the
    recording, and each turn without the others.

    Seconds are left out in steps of half a second, and each half second gets the mean of the two seconds that it lies in:
    one half of a sound may decide as well as both. A second is cut out, so that no silence takes its place, after the
    recording is normalised, so that what is left stays as it was. Where nothing would be left there is faint noise. There
    are at most `MOST` parts, which are longer in a long recording, and as many groups of words, which share their effect.

    Args:
        samples: (S,) at the processor's rate, or None.
        text: the current utterance, or None.
        history: the earlier turns, oldest first. Those that the processor reads are left out in turn.

    Returns:
        `scores` (C,) of the whole utterance, as the pipeline shows them. With a text, `words` (W,), split at blanks;
        `word_effects` (W, C), the score of each class minus that without the word, so above 0 where the word speaks for the
        class; `word_evidence` (W, C), the same of the log-odds; `word_alone` (W, C), the scores with no other word; and
        `no_word` (C,), the scores without any. With a recording, `part_bounds` (P + 1,) in seconds, `part_effects`,
        `part_evidence` and `part_alone` (P, C), and `no_part` (C,), the scores of faint noise. With earlier turns, `turns`
        (H,), `turn_effects`, `turn_evidence` and `turn_alone` (H, C), and `no_turn` (C,), the scores without history.
    """
    rate = processor.feature_extractor.sampling_rate
    turns = [] if text is None else [turn for turn in history or [] if turn.strip() and processor.has_words(turn)]
    turns = turns[max(0, len(turns) - processor.max_history) :]  # what the processor reads
    clip, bounds = None, np.array([0])
    if samples is not None:
        clip = processor(audio=samples, sampling_rate=rate, return_tensors="pt")["input_values"][0]  # (S,)
        bounds = parts_of(len(clip), rate)
    whole, trials = Variant(clip, text, turns), {}
    if text is not None:
        trials["word"] = _leave_out_words(whole, text.split())
    if clip is not None:
        trials["part"] = _leave_out_parts(whole, clip, bounds)
    if turns:
        trials["turn"] = _leave_out_turns(whole)
    variants = [variant for trial in trials.values() for variant in (*trial.without, *trial.alone, trial.nothing)]
    logits = _logits(model, processor, [whole, *variants], answering_modality(model, samples, text))
    arrays = {"scores": logits[0].softmax(-1).numpy()}
    lengths = [2 * len(trial.without) + 1 for trial in trials.values()]
    for (kind, trial), of_trial in zip(trials.items(), logits[1:].split(lengths), strict=True):
        arrays.update({f"{kind}_{name}": array for name, array in _changes(trial, logits[0], of_trial).items()})
        arrays[f"no_{kind}"] = of_trial[-1].softmax(-1).numpy()
    if text is not None:
        arrays["words"] = np.array(text.split())
    if samples is not None:
        # Bounds in the recording: long silences were left out of what the model heard.
        arrays["part_bounds"] = in_recording(bounds, processor.heard_spans(samples)) / rate
    if turns:
        arrays["turns"] = np.array(turns)
    return arrays


def _changes(trial: Trial, whole: torch.Tensor, logits: torch.Tensor) -> dict[str, np.ndarray]:
    """`effects`, `evidence` and `alone` of each piece, from logits (C,) of the whole and those (N, C) of the variants."""
    without, alone = logits[: len(trial.without)], logits[len(trial.without) : -1]
    rows = {"effects": whole.softmax(-1) - without.softmax(-1), "evidence": log_odds(whole) - log_odds(without)}
    rows["alone"] = alone.softmax(-1)
    means = {name: [of_groups[groups].mean(0) for groups in trial.groups] for name, of_groups in rows.items()}
    return {name: torch.stack(of_pieces).numpy() if of_pieces else rows[name].numpy() for name, of_pieces in means.items()}


def _leave_out_words(whole: Variant, words: list[str]) -> Trial:
    groups = [group for group in np.array_split(np.arange(len(words)), min(MOST, max(1, len(words)))) if len(group)]
    return Trial(
        [whole._replace(text=" ".join([*words[: group[0]], *words[group[-1] + 1 :]])) for group in groups],
        [whole._replace(text=" ".join(words[group[0] : group[-1] + 1])) for group in groups],
        whole._replace(text=""),
        [[index] for index, group in enumerate(groups) for _ in group],
    )


def _leave_out_parts(whole: Variant, clip: torch.Tensor, bounds: np.ndarray) -> Trial:
    """Two neighbouring parts at a time, and the first and the last part once more by themselves: P + 1 groups."""
    ends = [bounds[0], *bounds, bounds[-1]]
    noise = FAINT * torch.randn(len(clip), generator=torch.Generator().manual_seed(0))
    seconds = [clip[begin:end] for begin, end in zip(ends[:-2], ends[2:], strict=True)]
    rests = [torch.cat([clip[:begin], clip[end:]]) for begin, end in zip(ends[:-2], ends[2:], strict=True)]
    return Trial(
        [whole._replace(clip=rest if len(rest) else noise) for rest in rests],
        [whole._replace(clip=second) for second in seconds],
        whole._replace(clip=noise),
        [[part, part + 1] for part in range(len(bounds) - 1)],
    )


def _leave_out_turns(whole: Variant) -> Trial:
    turns = whole.history
    return Trial(
        [whole._replace(history=turns[:index] + turns[index + 1 :]) for index in range(len(turns))],
        [whole._replace(history=[turn]) for turn in turns],
        whole._replace(history=[]),
        [[index] for index in range(len(turns))],
    )


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """log2(score / (1 - score)) of every class, (N, C), of logits (N, C) whose softmax is the scores."""
    itself = torch.eye(logits.shape[-1], dtype=torch.bool)
    others = logits.unsqueeze(-2).masked_fill(itself, -math.inf).logsumexp(-1)  # (N, C)
    return (logits - others) / math.log(2)


def _logits(model, processor, variants: list[Variant], modality: str) -> torch.Tensor:
    """Logits (N, C) of N variants, divided by the temperature, so that their softmax is the scores of the pipeline."""
    tokens, logits = {}, {}
    if variants[0].text is not None:
        texts, histories = [variant.text for variant in variants], [variant.history for variant in variants]
        tokens = dict(processor(text=texts, history=histories, return_tensors="pt"))
    clips = [variant.clip for variant in variants if variant.clip is not None]  # of all, or of none
    temperature, was_training = model.config.score_temperature(modality), model.training
    field = model.answering_field(modality) or "logits"  # labels that are described answer where no classifier is trained
    model.eval()
    for rows, is_one_clip in _batches(model, len(variants), clips, processor.feature_extractor.sampling_rate):
        batch = {name: of_all[rows].to(model.device) for name, of_all in tokens.items()}
        if clips:
            values = [clips[row].to(model.device, model.dtype) for row in (rows[:1] if is_one_clip else rows)]
            batch["input_values"] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
            mask = [torch.ones(len(clip), dtype=torch.long, device=model.device) for clip in values]
            batch["input_values_mask"] = torch.nn.utils.rnn.pad_sequence(mask, batch_first=True)
        logits.update(zip(rows, model(**batch)[field].double().cpu() / temperature, strict=True))
    model.train(was_training)
    return torch.stack([logits[row] for row in range(len(variants))])


def _batches(model, count: int, clips: list[torch.Tensor], rate: int) -> Iterator[tuple[list[int], bool]]:
    """
    The variants of each batch, and whether they have one clip, which is then heard once.

    Most variants have the whole recording, beside other words or turns. One recording beside several texts is broadcast by
    LE-MER's fusion, and not by the attention of the model after Krishna 2021. The others come in the order of their
    lengths, so that little is padded.
    """
    once = [row for row in range(count) if not clips or (clips[row] is clips[0] and model.config.model_type == "lemer")]
    for start in range(0, len(once), BATCH_SIZE):
        yield once[start : start + BATCH_SIZE], True
    rows: list[int] = []
    most = BATCH_SIZE if model.config.padding_safe else 1  # a stock encoder's frames change with what is padded
    for row in sorted(set(range(count)) - set(once), key=lambda row: len(clips[row])):
        if rows and (len(rows) == most or (len(rows) + 1) * len(clips[row]) > BATCH_SECONDS * rate):
            yield rows, False
            rows = []
        rows.append(row)
    if rows:
        yield rows, False
