"""Recognise the emotions of recordings, and print them as a table or write them to a file.

    python predict.py CHECKPOINT recording.wav interviews/            files, and folders with all that is in them
    python predict.py CHECKPOINT utterances.csv --output out.csv      a table of recordings and words
    python predict.py CHECKPOINT --dialog first.wav second.wav --asr openai/whisper-base

CHECKPOINT is a folder that train.py wrote, or a name on the Hub. INPUT is any number of
    audio files and folders     without words, unless --asr transcribes them: the speech branch answers alone
    .csv                        columns audio (or path) and text, at least one of them; id; dialog and order
    .jsonl                      the same as one JSON object a line, and history, a list of earlier turns, oldest first
Paths in a .csv or .jsonl are relative to its folder. Rows with the same dialog are its turns. They are ordered by the column
order, or stay as they are without it, and each is answered with the turns before it as history. A row with an empty dialog
stands alone.

A recording without words that is longer than --window_seconds is cut into windows, and each has a row. A row has id, start
and end in seconds, window and windows (its number, and how many windows the recording has), text, modality (what answered:
multimodal, speech or text), prediction, one score for each class, and how it was made: checkpoint, dtype, asr and
window_seconds. The scores of a row sum to 1. Where one branch of a multimodal model answers alone, only their order counts.

A command that was killed goes on when it is given again: rows that --output has already are kept. An input that cannot be
answered is left out, and named with the reason at the end. Exit status: 0; 1 when an input was left out; 2 when nothing was
begun.
"""

import argparse
import csv
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lemer.corpora.manifest import MANIFEST_SUFFIXES, Utterance, printable, read_inputs
from lemer.runtime.command import check_checkpoint, command_parser

# torch and transformers are imported where they are used, since that takes seconds: `--help` answers at once.

# Recordings are held in memory up to this many batches, or this many bytes of files.
SHARD_BATCHES, SHARD_BYTES = 8, 64 * 2**20
# The largest batch of each kind of device: its utterances, and its seconds of speech with padding. On a CPU a larger one is
# slower and takes gigabytes; a GPU waits between smaller ones (benchmarks/LOG.md).
LARGEST = {"cpu": (8, 60.0), "cuda": (64, 240.0)}


def parse_args(argv=None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read and check the options; a mistake ends the process with a message."""
    parser = command_parser("predict.py", "CHECKPOINT INPUT", __doc__)
    # Optional for argparse alone: without them `check_checkpoint` says how to get a checkpoint.
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help="folder, or name on the Hub")
    parser.add_argument("inputs", metavar="INPUT", nargs="*", help="audio file, folder, .csv or .jsonl")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write .csv or .jsonl instead of the table")
    parser.add_argument(
        "--dialog", action="store_true", help="all inputs together are the turns of one dialog, in this order"
    )
    parser.add_argument("--asr", metavar="MODEL", help="speech recognition model that transcribes where no words are given")
    parser.add_argument(
        "--figure", type=Path, metavar="DIR", help="draw the attention of each utterance to the labels, as png files in DIR"
    )
    parser.add_argument("--window_seconds", type=float, help="cut longer recordings without words (default: 30)")
    parser.add_argument(
        "--batch_size",
        type=int,
        help="utterances in a batch (default: 8, on a GPU 64). A batch has at most one minute of speech, on a GPU four "
        "minutes; one that does not fit into the memory of the GPU is answered in parts",
    )
    parser.add_argument("--device", help="cpu, cuda:1 and so on (default: the first accelerator, else cpu)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the weights (default: float32). bfloat16 takes half the memory, is faster on hardware that has "
        "units for it, and changes scores in the second or third digit",
    )
    args = parser.parse_intermixed_args(argv)
    check_checkpoint(parser, args.checkpoint)
    if not args.inputs:
        parser.error("give at least one INPUT after the checkpoint: an audio file, a folder, a .csv or a .jsonl")
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f"--batch_size cannot be {args.batch_size}: give 1 or more")
    if args.output is not None and args.output.suffix not in MANIFEST_SUFFIXES:
        parser.error(f"--output must end with .csv or .jsonl, got {args.output}")
    return parser, args


def shards(dialogs: list[list[Utterance]], batch_size: int) -> Iterator[list[list[Utterance]]]:
    """
    Yield groups of whole dialogs whose recordings fit into memory together.

    They depend on all inputs and not on the rows that are written already, so that a resumed run makes the same batches.
    """
    shard, count, size = [], 0, 0
    for dialog in dialogs:
        more = sum(os.path.getsize(turn.audio) for turn in dialog if turn.audio and os.path.isfile(turn.audio))
        if shard and (count + len(dialog) > SHARD_BATCHES * batch_size or size + more > SHARD_BYTES):
            yield shard
            shard, count, size = [], 0, 0
        shard.append(dialog)
        count, size = count + len(dialog), size + more
    yield shard


# ------------------------------------------------------------------------------------------------------------ output


class Output:
    """
    A .csv or .jsonl that grows by whole utterances.

    Args:
        path: the file. What a killed run left there is kept, but for an utterance that is not complete.
        labels: the classes.
        origin: columns that are the same in every row. Rows of another origin are refused.

    Raises:
        ValueError: the file has other columns, another origin, or was not written by this command.
    """

    def __init__(self, path: Path, labels: list[str], origin: dict[str, str]):
        self.path, self.is_csv = path, path.suffix == ".csv"
        self.origin = origin
        self.columns = ["id", "start", "end", "window", "windows", "text", "modality", "prediction"]
        if self.is_csv and set(labels) & {*self.columns, *origin}:
            raise ValueError(f"one of the classes {', '.join(labels)} has the name of a column: write .jsonl instead")
        self.columns += [*labels, *origin] if self.is_csv else ["scores", *origin]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done = set()
        if path.exists():
            try:
                self.done = self._mend()
            except ValueError as error:
                raise ValueError(
                    f"{path} was not written by this command: {error}. Give another --output, or remove it"
                ) from error

    def _mend(self) -> set[str]:
        """Cut off an utterance that a killed run left incomplete, and return the ids of the others."""
        content = self.path.read_bytes()
        begin = self._format([]).encode("utf-8") if self.is_csv else b'{"id": '
        if content[: len(begin)] != begin[: len(content)]:
            raise ValueError(f"it begins with {content[:80]!r}, not with {begin!r}")
        lines = io.StringIO(content[: content.rfind(b"\n") + 1].decode("utf-8"), newline="").readlines()
        rows = self._whole_rows(lines)
        for _, row in rows:
            origin = {name: row.get(name) for name in self.origin}
            if list(row) != self.columns or origin != self.origin:
                text = "{checkpoint} in {dtype}, asr {asr}, window_seconds {window_seconds}"
                got, expected = text.format(**origin), text.format(**self.origin)
                raise ValueError(
                    f"a row has {', '.join(map(str, row))} of {got}, expected {', '.join(self.columns)} of {expected}"
                )
        if rows and int(rows[-1][1]["window"]) < int(rows[-1][1]["windows"]):
            last = rows[-1][1]["id"]
            rows = [row for row in rows if row[1]["id"] != last]
        end = rows[-1][0] if rows else 0
        os.truncate(self.path, len("".join(lines[:end]).encode("utf-8")))
        return {row["id"] for _, row in rows}

    def _whole_rows(self, lines: list[str]) -> list[tuple[int, dict]]:
        """Return every complete row with the number of lines up to its end."""
        if not self.is_csv:
            return [(number, json.loads(line)) for number, line in enumerate(lines, 1)]
        rows, reader = [], csv.DictReader(lines, strict=True)
        try:
            for row in reader:
                rows.append((reader.line_num, row))
        except csv.Error as error:
            if reader.reader.line_num < len(lines):  # else cut at a line feed in quotes
                raise ValueError(f"line {reader.reader.line_num}: {error}") from error
        return rows

    def _format(self, rows: list[dict]) -> str:
        """Format rows as lines; those of a .csv come after the header."""
        text = io.StringIO(newline="")
        if self.is_csv:
            # Every text gets quotes: csv would give none to a text with a carriage return.
            settings = {"extrasaction": "ignore", "lineterminator": "\n", "quoting": csv.QUOTE_NONNUMERIC}
            writer = csv.DictWriter(text, self.columns, **settings)
            writer.writeheader()
            writer.writerows({**row, **row["scores"]} for row in rows)
        else:
            for row in rows:
                text.write(json.dumps({name: row[name] for name in self.columns}, ensure_ascii=False) + "\n")
        return text.getvalue()

    def append(self, rows: list[dict]) -> None:
        """Write rows of whole utterances to the end of the file and to the disk."""
        text = self._format(rows)
        if self.path.exists() and self.path.stat().st_size > 0:
            text = text.removeprefix(self._format([]))
        with open(self.path, "ab") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())


class Table:
    """The same rows as a table on the terminal."""

    done: frozenset[str] = frozenset()

    def __init__(self, ids: list[str], labels: list[str]):
        self.labels = labels
        # Characters of the folder that all have in common, which is not printed.
        self.skipped = os.path.commonprefix(ids).rfind("/") + 1
        self.width = max(2, min(48, max(map(len, ids)) - self.skipped))
        scores = "  ".join(f"{label:>5}" for label in labels)
        tqdm.write(f"{'id':{self.width}}  {'seconds':>13}  {'answer':>6}  {scores}  {'by':10}  text")

    def append(self, rows: list[dict]) -> None:
        """Print rows, above the progress bar."""
        lines = []
        for row in rows:
            name = row["id"][self.skipped :]
            name = name if len(name) <= self.width else "..." + name[3 - self.width :]
            span = "" if row["start"] is None else f"{row['start']:.2f}-{row['end']:.2f}"
            scores = "  ".join(f"{row['scores'][label]:{max(5, len(label))}.3f}" for label in self.labels)
            text = " ".join((row["text"] or "").split())
            line = f"{name:{self.width}}  {span:>13}  {row['prediction']:>6}  {scores}  {row['modality']:10}  {text}"
            lines.append(line.rstrip())
        if lines:
            tqdm.write("\n".join(lines))


# -------------------------------------------------------------------------------------------------------- prediction


def batches(pieces: list[dict], batch_size: int, samples: float) -> Iterator[list[dict]]:
    """
    Cut pieces of recordings, longest first, into batches.

    A batch has at most `batch_size` pieces and, with padding, at most this many samples. A longer piece is a batch alone.
    """
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
    """Return the utterances and the seconds of speech of the largest batch on the pipeline's device."""
    return LARGEST["cpu" if pipe.device.type == "cpu" else "cuda"]


def answer(pipe, batch: list[dict]) -> list[dict | None]:
    """
    Run the model; a piece that alone does not fit into the memory of the GPU is answered with None.

    A batch that does not fit is answered in halves: an answer does not depend on the batch.
    """
    import torch

    try:
        return pipe.forward(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            return [None]
    torch.cuda.empty_cache()  # not in the except block, where the error still holds tensors
    half = len(batch) // 2
    return answer(pipe, batch[:half]) + answer(pipe, batch[half:])


def predict_shard(
    pipe, dialogs: list[list[Utterance]], settings: dict, batch_size: int, failed: dict[str, str], bar
) -> dict[str, list[dict]]:
    """
    Answer some dialogs.

    Args:
        pipe: a `LemerPipeline`.
        dialogs: the turns of each dialog, oldest first.
        settings: `asr` and `window_seconds` of the pipeline, where they are given.
        batch_size: the largest number of pieces in a batch.
        failed: gets the reason of every utterance that cannot be answered.
        bar: progress, updated by the number of utterances.

    Returns:
        By id, the pieces (windows) of every utterance that was answered, each with `scores`.
    """
    pieces = _cut(pipe, dialogs, settings, failed, bar)
    # Longest first: pieces of like length meet in a batch, and a batch that does not fit into memory fails early.
    in_order = [piece for windows in pieces.values() for piece in windows]
    in_order.sort(key=lambda piece: 0 if piece["audio"] is None else -len(piece["audio"]))
    rate = pipe.processor.feature_extractor.sampling_rate
    for batch in batches(in_order, batch_size, largest(pipe)[1] * rate):
        for piece, output in zip(batch, answer(pipe, batch), strict=True):
            piece.update(scores=None) if output is None else piece.update(output, scores=pipe.scores(output))
            bar.update(piece["is_last"])
    for name in [name for name, windows in pieces.items() if any(piece["scores"] is None for piece in windows)]:
        failed[name] = f"too long for the memory of {pipe.device}: give --device cpu, or a lower --window_seconds"
        del pieces[name]
    return pieces


def _cut(pipe, dialogs: list[list[Utterance]], settings: dict, failed: dict[str, str], bar) -> dict[str, list[dict]]:
    """Read the recordings and cut them into pieces, by id; each turn has the words of the turns before it as history."""
    pieces = {}
    for dialog in dialogs:
        history = []
        for turn in dialog:
            inputs = {"audio": turn.audio, "text": turn.text}
            inputs["history"] = history if turn.history is None else turn.history
            try:
                pieces[turn.id] = list(pipe.preprocess(inputs, **settings))
                text = " ".join(piece["text"] for piece in pieces[turn.id] if piece["text"])
            except (OSError, ValueError, RuntimeError) as error:
                failed[turn.id] = printable(error)
                text = turn.text if isinstance(turn.text, str) else ""
                bar.update()
            history = [*history, text] if text.strip() else history
    return pieces


def rows_of(name: str, pieces: list[dict], labels: list[str], origin: dict[str, str]) -> list[dict]:
    """Make the rows of an utterance, one for each of its windows."""
    rows = []
    for number, piece in enumerate(pieces, 1):
        scores = {entry["label"]: entry["score"] for entry in piece["scores"]}
        rows.append(
            {
                "id": name,
                "start": piece["start"],
                "end": piece["end"],
                "window": number,
                "windows": len(pieces),
                "text": piece["text"],
                "modality": piece["modality"],
                "prediction": piece["scores"][0]["label"],
                "scores": {label: round(scores[label], 6) for label in labels},
                **origin,
            }
        )
    return rows


class Figures:
    """Drawings of every utterance's attention to the labels, as png files in a folder."""

    def __init__(self, pipe, folder: Path):
        import matplotlib

        matplotlib.use("agg")
        from lemer.evaluation.attention_figure import label_attention_figure

        self.pipe, self.folder, self.draw = pipe, folder, label_attention_figure
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, number: int, name: str, pieces: list[dict]) -> None:
        """Draw each window of an utterance; `number` is its place among all inputs."""
        from matplotlib import pyplot

        safe_name = re.sub(r"[^\w.-]+", "_", name)[-80:]
        stem = f"{number:05d}_{safe_name}"
        rate = self.pipe.processor.feature_extractor.sampling_rate
        for window, piece in enumerate(pieces, 1):
            audio = None if piece["audio"] is None else {"array": piece["audio"], "sampling_rate": rate}
            figure, _ = self.draw(self.pipe.model, self.pipe.processor, audio, piece["text"], piece["history"])
            file = f"{stem}-{window}.png" if len(pieces) > 1 else f"{stem}.png"
            figure.savefig(self.folder / file, bbox_inches="tight")
            pyplot.close(figure)


# ------------------------------------------------------------------------------------------------------------ command


@dataclass
class Run:
    """What a prediction needs, and what it counts."""

    pipe: Any  # a `LemerPipeline`
    dialogs: list[list[Utterance]]
    settings: dict  # of the pipeline: asr and window_seconds, where they are given
    batch_size: int
    origin: dict[str, str]
    output: Output | Table
    figures: Figures | None
    failed: dict[str, str] = field(default_factory=dict)  # reasons by id
    modalities: Counter = field(default_factory=Counter)  # rows by what answered
    new: int = 0  # utterances that were answered and not in the output before


def prepare(args: argparse.Namespace) -> Run:
    """
    Read the inputs, load the checkpoint and open the output.

    Raises:
        OSError, ValueError, RuntimeError, ImportError: nothing can be begun; the message says why.
    """
    from transformers import pipeline
    from transformers.utils import logging

    from lemer import LemerPipeline
    from lemer.pipeline_lemer import WINDOW_SECONDS
    from lemer.runtime.onednn import multiply_by_onednn
    from lemer.runtime.process import EVERYTHING, set_up_process

    logging.disable_progress_bar()
    set_up_process(EVERYTHING)
    dialogs = read_inputs(args.inputs, args.dialog)
    utterances = [turn for dialog in dialogs for turn in dialog]
    settings = {} if args.window_seconds is None else {"window_seconds": args.window_seconds}
    if args.asr is not None:
        settings["asr"] = pipeline("automatic-speech-recognition", model=args.asr, device=args.device)
    pipe = pipeline(
        "speech-emotion-recognition",
        model=args.checkpoint,
        pipeline_class=LemerPipeline,
        device=args.device,
        dtype=args.dtype,
        **settings,
    )
    multiply_by_onednn(pipe.model)
    if not pipe.model.config.uses_speech and args.asr is None and not any(turn.text for turn in utterances):
        raise ValueError(f"{args.checkpoint} reads words only, and no input has any: give a manifest, or --asr")
    labels = list(pipe.model.config.id2label.values())
    window = args.window_seconds or min(WINDOW_SECONDS, pipe.processor.max_audio_seconds)
    origin = {
        "checkpoint": args.checkpoint,
        "dtype": args.dtype,
        "asr": args.asr or "none",
        "window_seconds": f"{window:g}",
    }
    output = Output(args.output, labels, origin) if args.output else Table([turn.id for turn in utterances], labels)
    figures = Figures(pipe, args.figure) if args.figure is not None else None
    return Run(pipe, dialogs, settings, args.batch_size or largest(pipe)[0], origin, output, figures)


def predict(run: Run) -> None:
    """Answer all utterances that are not in the output yet."""
    number, labels = 0, list(run.pipe.model.config.id2label.values())
    with tqdm(total=sum(map(len, run.dialogs)), unit="utterance") as bar:
        for shard in shards(run.dialogs, run.batch_size):
            turns = [turn for dialog in shard for turn in dialog]
            first, number = number + 1, number + len(turns)
            if all(turn.id in run.output.done for turn in turns):
                bar.update(len(turns))
                continue
            pieces = predict_shard(run.pipe, shard, run.settings, run.batch_size, run.failed, bar)
            rows = []
            for place, turn in enumerate(turns, first):
                if turn.id in pieces and turn.id not in run.output.done:
                    rows += rows_of(turn.id, pieces[turn.id], labels, run.origin)
                    run.new += 1
                    draw(run, place, turn.id, pieces[turn.id])
            run.output.append(rows)
            run.modalities.update(row["modality"] for row in rows)


def draw(run: Run, number: int, name: str, pieces: list[dict]) -> None:
    """Draw an utterance where figures are wanted; one that cannot be drawn counts as failed."""
    if run.figures is None:
        return
    try:
        run.figures.save(number, name, pieces)
    except (OSError, ValueError, RuntimeError) as error:
        run.failed[name] = f"answered, but not drawn: {error}"


def report(run: Run, output: Path | None) -> None:
    """Print how many utterances were answered, by which branch alone, and the reasons of those that failed."""
    total = sum(map(len, run.dialogs))
    if output:
        print(f"{output}: {run.new} new of {total} utterances")
    for branch, missing in (("speech", "words (a manifest or --asr gives them)"), ("text", "recordings")):
        if run.pipe.model.config.modality == "multimodal" and run.modalities[branch]:
            print(
                f"{run.modalities[branch]} rows are of the {branch} branch alone, for want of {missing}. Its scores are "
                "flat: only their order counts",
                file=sys.stderr,
            )
    if run.failed:
        print(f"{len(run.failed)} of {total} inputs failed:", file=sys.stderr)
        for name, reason in run.failed.items():
            print(f"  {name}: {reason}", file=sys.stderr)


def main(argv=None) -> int:
    parser, args = parse_args(argv)
    try:
        run = prepare(args)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        parser.error(" ".join(str(error).split()))
    predict(run)
    report(run, args.output)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
