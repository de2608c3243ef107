"""Utterances and dialogs -> scores, in batches that fit into memory.

A piece is a dict that the pipeline makes of an input: a whole utterance, or one window of a long recording.
"""

from collections.abc import Iterator, Sequence

import torch

from ..corpora.manifest import Utterance
from ..corpora.recordings import printable
from ..processing_lemer import newest_turns

# Utterances of one forward pass, and seconds of speech with their padding, by device. On a CPU more is slower and takes
# gigabytes. A GPU waits for its next kernel with less (benchmarks/LOG.md).
LARGEST = {"cpu": (8, 60.0), "cuda": (64, 240.0)}


def batches(pieces: list[dict], batch_size: int, samples: float) -> Iterator[list[dict]]:
    """Batches of pieces, which come longest first, of at most so many samples with their padding, or of one piece."""
    batch: list[dict] = []
    for piece in pieces:
        longest = 0 if not batch or batch[0]["audio"] is None else len(batch[0]["audio"])
        if batch and (len(batch) == batch_size or (len(batch) + 1) * longest > samples):
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def largest(pipe) -> tuple[int, float]:
    """Utterances and seconds of speech of one forward pass on the pipeline's device."""
    return LARGEST["cpu" if pipe.device.type == "cpu" else "cuda"]


def answer(pipe, batch: list[dict]) -> list[dict | None]:
    """
    What `forward` gives of every piece, None where one alone does not fit into the memory of a GPU.

    Halves are answered one after the other where a batch does not fit: an answer does not depend on the batch.
    """
    try:
        return pipe.forward(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            return [None]
    torch.cuda.empty_cache()  # out here, where the error no longer holds tensors
    half = len(batch) // 2
    return answer(pipe, batch[:half]) + answer(pipe, batch[half:])


def predict_shard(
    pipe,
    dialogs: list[list[Utterance]],
    settings: dict,
    batch_size: int,
    failed: dict[str, str],
    bar,
    told: Sequence[str] = (),
) -> tuple[dict[str, list[dict]], list[str]]:
    """
    Answer the dialogs of a shard.

    Args:
        failed: gets the reasons of utterances that cannot be answered.
        told: what was said in the first dialog before its first turn here, as this function returned it.

    Returns:
        Pieces of every other utterance, with `scores`; and what was said in the last dialog, as far as it is read.
    """
    pieces, history = {}, list(told)
    for number, dialog in enumerate(dialogs):
        history = [] if number else history
        for turn in dialog:
            inputs = {"text": turn.text, "history": history if turn.history is None else turn.history}
            try:
                inputs["audio"], offset = turn.recording()
                pieces[turn.id] = list(pipe.preprocess(inputs, **settings))
                for piece in pieces[turn.id]:  # times in the file, also of a part of it
                    piece.update({name: piece[name] + offset for name in ("start", "end") if piece[name] is not None})
                    piece.update(heard_in(pipe.processor, piece))
                text = " ".join(piece["text"] for piece in pieces[turn.id] if piece["text"])
            except (OSError, ValueError, RuntimeError) as error:
                failed[turn.id] = printable(error)
                text = turn.text if isinstance(turn.text, str) else ""
                bar.update()
            if text.strip():
                history = newest_turns([*history, text], pipe.processor.max_history)
    # Like lengths meet in a batch, and what does not fit into memory fails at once.
    order = [piece for windows in pieces.values() for piece in windows]
    order.sort(key=lambda piece: 0 if piece["audio"] is None else -len(piece["audio"]))
    rate = pipe.processor.feature_extractor.sampling_rate
    for batch in batches(order, batch_size, largest(pipe)[1] * rate):
        for piece, answered in zip(batch, answer(pipe, batch), strict=True):
            piece.update(
                scores=None, reason=f"too long for the memory of {pipe.device}: give --device cpu, or shorter windows"
            )
            try:
                if answered is not None:
                    piece.update(answered, scores=pipe.scores(answered))
            except ValueError as error:  # scores that are not finite
                piece.update(reason=printable(error))
            bar.update(piece["is_last"])
    for name in list(pieces):
        reasons = [piece["reason"] for piece in pieces[name] if piece["scores"] is None]
        if reasons:
            failed[name] = reasons[0]
            del pieces[name]
    return pieces, history


def heard_in(processor, piece: dict) -> dict:
    """`heard_spans` of a piece, in seconds of its file, where the processor leaves out silence; else nothing."""
    if piece["audio"] is None or processor.max_silence is None:
        return {}
    rate = processor.feature_extractor.sampling_rate
    spans = processor.heard_spans(piece["audio"])
    return {"heard_spans": [[round(piece["start"] + sample / rate, 3) for sample in span] for span in spans]}


def rows_of(turn: Utterance, pieces: list[dict], labels: list[str], made: dict[str, str], top_k: int | None) -> list[dict]:
    """The rows of an utterance: one for each of its windows, with the scores of all classes or of the best."""
    rows = []
    for number, piece in enumerate(pieces, 1):
        scores = {score["label"]: round(score["score"], 6) for score in piece["scores"][:top_k]}
        rows.append(
            {
                "id": turn.id,
                "start": piece["start"],
                "end": piece["end"],
                "window": number,
                "windows": len(pieces),
                "text": piece["text"],
                "modality": piece["modality"],
                "prediction": piece["scores"][0]["label"],
                "scores": {label: scores[label] for label in (labels if top_k is None else scores)},
                **made,
                "heard": piece.get("heard_spans"),
                "extra": turn.extra,
            }
        )
    return rows
