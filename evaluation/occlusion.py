"""What decides an answer: how its scores change when a word, a part of the recording or a turn is left out, or kept alone.

A change is told in two ways. The effect is the score of a class minus that without the part. Scores near 1 hardly change,
however much they rest on, so bars show the weight of evidence (Robnik-Sikonja and Kononenko, 2008): the same difference of
the log-odds log2(score / (1 - score)). A weight of 1 means that the odds of the class are half as high without the part, a
weight of 2 that they are a quarter.

Shapes: S samples, N variants of an utterance, W words, P parts of the recording, G stretches of it that are left out,
K spans of it that are heard, H earlier turns, C classes.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from ..activity_lemer import in_recording
from ..processing_lemer import tokenize

PART_SECONDS = 0.5
# A long utterance has longer parts, and neighbouring words that are left out together, so that it is answered in time.
MOST = 24  # groups of words, and parts
BATCH_SIZE, BATCH_SECONDS = 8, 60  # variants of one forward pass, and seconds of speech
# Scripts without blanks: kana and the ideographs. A character is a word there, with the signs after it.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
WORD = re.compile(rf"[{UNSPACED}][^\s\w]*|[^\s{UNSPACED}]+")


def answering_modality(model, audio, text) -> str:
    """Which modality a model answers from, given a recording, words, or both: "multimodal", "speech" or "text"."""
    if model.config.modality != "multimodal":
        return model.config.modality
    return "speech" if text is None else "text" if audio is None else "multimodal"


def parts_of(length: int, rate: int) -> np.ndarray:
    """Bounds (P + 1,), in samples, of equal parts of about `PART_SECONDS`, or of more where there would be too many."""
    count = min(MOST, max(1, round(length / rate / PART_SECONDS)))
    return np.linspace(0, length, count + 1).round().astype(int)


def stretches_of(bounds: np.ndarray) -> np.ndarray:
    """
    First and last bound (G, 2) of the stretches that are left out, of the bounds (P + 1,) of the parts.

    They are two neighbouring parts each, and the first and the last part once more by themselves: G is P + 1. Of one or two
    parts each is left out by itself.
    """
    if len(bounds) <= 3:
        return np.stack([bounds[:-1], bounds[1:]], 1)
    return np.stack([[bounds[0], *bounds[:-1]], [*bounds[1:], bounds[-1]]], 1)


def word_spans(text: str) -> np.ndarray:
    """First character and the one after the last (W, 2) of each word, of neighbours together above `MOST` words."""
    words = [match.span() for match in WORD.finditer(text)]
    groups = np.array_split(np.arange(len(words)), max(1, min(MOST, len(words))))
    return np.array([(words[group[0]][0], words[group[-1]][1]) for group in groups if len(group)]).reshape(-1, 2)


def read_part(processor, text: str, turns: list[str]) -> tuple[str, list[str]]:
    """
    The words of a text and the newest of its earlier turns of which the processor reads a token or more.

    What is too long to be read is no evidence. Were it kept, then leaving out a word would let another one in.
    """
    tokenizer = processor.tokenizer
    limit = min(processor.max_text_length, tokenizer.model_max_length)

    def length(text: str) -> int:
        return len(tokenize(tokenizer, [text], add_special_tokens=False)["input_ids"][0])

    room = limit - tokenizer.num_special_tokens_to_add(pair=True) - length(text)
    if room > 0:
        newest = bisect_left(range(1, len(turns) + 1), room, key=lambda count: length(" ".join(turns[-count:])))
        return text, turns[max(0, len(turns) - newest - 1) :]
    room = limit - tokenizer.num_special_tokens_to_add(pair=False)
    ends = [match.end() for match in WORD.finditer(text)]
    last = bisect_left(ends, room, key=lambda end: length(text[:end]))
    return text[: ends[min(last, len(ends) - 1)]], []


class Variant(NamedTuple):
    """An utterance of which something was left out."""

    clip: torch.Tensor | None  # (S,) normalised samples
    text: str | None
    history: list[str]


class Trial(NamedTuple):
    """The variants for one kind of piece of an utterance, its words, stretches of its recording or the earlier turns."""

    without: list[Variant]  # without each piece
    alone: list[Variant]  # with nothing else of that kind
    nothing: Variant  # with nothing of that kind


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
    recording is normalised, so that what is left stays as it was. Where nothing would be left there is silence. There
    are at most `MOST` parts, which are longer in a long recording. A text of more words has neighbours that are left out
    together, and count as one word here. In scripts without blanks each character is a word.

    Args:
        samples: (S,) at the processor's rate, or None.
        text: the current utterance, or None. A blank one counts as none.
        history: the earlier turns, oldest first. Those that the processor reads are left out in turn.

    Returns:
        `scores` (C,) of the whole utterance, as the pipeline shows them. With a text, `words` (W,), as far as the processor
        reads them; `unread` (), how many it does not read; `word_effects` (W, C), the score of each class minus that
        without the word, so above 0 where the word speaks for the class; `word_evidence` (W, C), the same of the log-odds;
        `word_alone` (W, C), the scores with no other word; and `no_word` (C,), the scores without any. With a recording,
        `seconds` () of it; `heard` (K, 2), the first and last second of each span of it that is left where long silences
        are cut; `part_bounds` (P + 1,) in seconds, `part_effects`, `part_evidence` and `part_alone` (P, C), and `no_part`
        (C,), the scores of silence; and of the stretches that were left out, `stretch_bounds` (G, 2), `stretch_effects`,
        `stretch_evidence` and `stretch_alone` (G, C). With earlier turns, `turns` (H,), `turn_effects`, `turn_evidence` and
        `turn_alone` (H, C), and `no_turn` (C,), the scores without history.

    Raises:
        ValueError: there is nothing that the model takes.
    """
    rate = processor.feature_extractor.sampling_rate
    text = text if text is not None and processor.has_words(text) else None
    turns = [] if text is None else [turn for turn in history or [] if turn.strip() and processor.has_words(turn)]
    turns, arrays = turns[max(0, len(turns) - processor.max_history) :], {}
    if text is not None:
        count = len(WORD.findall(text))
        text, turns = read_part(processor, text, turns)
        arrays["unread"] = np.array(count - len(WORD.findall(text)))
        arrays["words"] = np.array([" ".join(text[begin:end].split()) for begin, end in word_spans(text)])
    clip, bounds = None, np.array([0])
    if samples is not None:
        clip = processor(audio=samples, sampling_rate=rate, return_tensors="pt")["input_values"][0]  # (S,)
        bounds = parts_of(len(clip), rate)
        arrays.update(_times(bounds, processor.heard_spans(samples), rate), seconds=np.array(len(samples) / rate))
    if turns:
        arrays["turns"] = np.array(turns)
    whole = Variant(clip, text, turns)
    trials = _trials(whole, stretches_of(bounds))
    variants = [variant for trial in trials.values() for variant in (*trial.without, *trial.alone, trial.nothing)]
    logits = _logits(model, processor, [whole, *variants], answering_modality(model, samples, text))
    return {**arrays, "scores": logits[0].softmax(-1).numpy(), **_changes_of(trials, logits)}


def _changes_of(trials: dict[str, Trial], logits: torch.Tensor) -> dict[str, np.ndarray]:
    """The arrays of each kind of piece, from logits (1 + N, C) of the whole utterance and of the variants of all trials."""
    arrays, lengths = {}, [2 * len(trial.without) + 1 for trial in trials.values()]
    for kind, of_trial in zip(trials, logits[1:].split(lengths), strict=True):
        changes = _changes(logits[0], of_trial)
        arrays.update({f"{kind}_{name}": of_pieces for name, of_pieces in changes.items()})
        arrays[f"no_{'part' if kind == 'stretch' else kind}"] = of_trial[-1].softmax(-1).numpy()
        if kind == "stretch":  # a part gets the mean of the two stretches that it lies in; of one or two parts each is one
            if len(of_trial) > 2 * 2 + 1:
                changes = {name: (rows[:-1] + rows[1:]) / 2 for name, rows in changes.items()}
            arrays.update({f"part_{name}": of_parts for name, of_parts in changes.items()})
    return arrays


def _times(bounds: np.ndarray, spans: list[tuple[int, int]], rate: int) -> dict[str, np.ndarray]:
    """Times in the recording, in seconds, of bounds (P + 1,) in what the model heard: long silences were left out of it."""
    stretches = stretches_of(bounds)
    ends = in_recording(stretches[:, 1] - 1, spans) + 1  # at a silence a stretch ends before it and not behind it
    return {
        "heard": np.array(spans) / rate,
        "part_bounds": in_recording(bounds, spans) / rate,
        "stretch_bounds": np.stack([in_recording(stretches[:, 0], spans), ends], 1) / rate,
    }


def _changes(whole: torch.Tensor, logits: torch.Tensor) -> dict[str, np.ndarray]:
    """`effects`, `evidence` and `alone` of each piece, from logits (C,) of the whole and those (N, C) of a trial."""
    without, alone = logits[:-1].chunk(2)
    return {
        "effects": (whole.softmax(-1) - without.softmax(-1)).numpy(),
        "evidence": (log_odds(whole) - log_odds(without)).numpy(),
        "alone": alone.softmax(-1).numpy(),
    }


def _trials(whole: Variant, stretches: np.ndarray) -> dict[str, Trial]:
    trials = {}
    if whole.text is not None:
        trials["word"] = _leave_out_words(whole, whole.text)
    if whole.clip is not None:
        trials["stretch"] = _leave_out_stretches(whole, whole.clip, stretches)
    if whole.history:
        trials["turn"] = _leave_out_turns(whole)
    return trials


def _leave_out_words(whole: Variant, text: str) -> Trial:
    spans = word_spans(text)
    before = [0, *spans[:-1, 1]]  # the blank before a word goes with it
    return Trial(
        [whole._replace(text=(text[:begin] + text[end:]).strip()) for begin, end in zip(before, spans[:, 1], strict=True)],
        [whole._replace(text=text[begin:end]) for begin, end in spans],
        whole._replace(text=""),
    )


def _leave_out_stretches(whole: Variant, clip: torch.Tensor, stretches: np.ndarray) -> Trial:
    silence = torch.zeros_like(clip)
    rests = [torch.cat([clip[:begin], clip[end:]]) for begin, end in stretches]
    return Trial(
        [whole._replace(clip=rest if len(rest) else silence) for rest in rests],
        [whole._replace(clip=clip[begin:end]) for begin, end in stretches],
        whole._replace(clip=silence),
    )


def _leave_out_turns(whole: Variant) -> Trial:
    turns = whole.history
    return Trial(
        [whole._replace(history=turns[:index] + turns[index + 1 :]) for index in range(len(turns))],
        [whole._replace(history=[turn]) for turn in turns],
        whole._replace(history=[]),
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
