"""Emotions of recordings: a table on the terminal, or a file.

    python predict.py CHECKPOINT recording.wav interviews/            files, and folders with all that is in them
    python predict.py CHECKPOINT utterances.csv --output out.csv      a table of recordings and words
    python predict.py CHECKPOINT --dialog one.wav two.wav --asr openai/whisper-base

CHECKPOINT is a folder that train.py wrote, or a name on the Hub. INPUT is any number of
    audio files and folders     the words are not known, unless --asr hears them, so the speech branch answers alone
    tables                      .csv, .tsv, .json, .jsonl or .parquet with a row for each utterance. Columns are known by
                                name: audio (path, file ...), text (transcript ...), id, start and end in seconds, dialog
                                and order, history (a list of earlier turns, oldest first)
    datasets                    a folder that `save_to_disk` wrote, a folder of parquet files, or a name on the Hub, with
                                such columns; all splits are answered, of one --subset where there are several
Paths in a table are relative to it. Rows with the same dialog are its turns, and each is answered with the turns before it
as its history.

A recording without words that is longer than --window_seconds is cut into windows, and each window is a row of the output.
A row has: id; start and end in seconds; window and windows, its number and how many the recording has; text, the words that
were read; modality, which is multimodal, or the one branch that answered (speech or text); prediction; one score for each
class, which sum to 1; and checkpoint, dtype, asr and window_seconds, which say how it was made. Where one branch of a
multimodal model answered and the training fitted no temperature, the scores are flat: only their order counts.

A command that was stopped goes on when it is given again: rows that are in --output already are not computed again. An
input that cannot be answered is left out and named at the end with the reason. Exit status: 0 for success, 1 if an input
was left out, 2 if nothing could be begun, 130 and 143 if it was stopped.
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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from lemer.runtime.command import check_checkpoint, command_parser
from lemer.runtime.files import format_csv, from_cell
from lemer.runtime.locks import hold

if TYPE_CHECKING:
    from lemer import LemerPipeline
    from lemer.corpora.manifest import Utterance

SHARD_BATCHES, SHARD_SECONDS = 8, 2_100  # of recordings that are in memory at once: batches, and seconds of speech
# Utterances of one forward pass, and seconds of speech with their padding, by device. On a CPU more is slower and takes
# gigabytes. A GPU waits for its next kernel with less (benchmarks/LOG.md).
LARGEST = {"cpu": (8, 60.0), "cuda": (64, 240.0)}


def parse_args(argv=None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read and check the options; a mistake ends the process with a message."""
    parser = command_parser("predict.py", "CHECKPOINT INPUT", __doc__)
    # Optional for argparse alone: without them `check_checkpoint` says how to get a checkpoint.
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help="folder, or name on the Hub")
    parser.add_argument("inputs", metavar="INPUT", nargs="*", help="audio file, folder, table, or dataset")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write a .csv or .jsonl instead of printing a table")
    parser.add_argument(
        "--dialog", action="store_true", help="all inputs together are the turns of one dialog, in this order"
    )
    parser.add_argument("--subset", help="of datasets that have several, the one to answer (its configuration)")
    parser.add_argument("--asr", metavar="MODEL", help="speech recognition model that hears the words where none are given")
    parser.add_argument(
        "--figure", type=Path, metavar="DIR", help="draw the attention of each utterance to the labels there, as PNG"
    )
    parser.add_argument(
        "--window_seconds", type=float, metavar="SECONDS", help="cut longer recordings without words (default: 30)"
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help="utterances in one forward pass (default: 8, on a GPU 64). They have at most a minute of speech together, on a "
        "GPU four minutes. What does not fit into the memory of a GPU is answered in parts",
    )
    parser.add_argument("--device", help="cpu, cuda:1, ... (default: the first accelerator, else cpu)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the weights. bfloat16 takes half the memory, is faster where the machine has units for it, and "
        "changes scores in the second or third digit (default: float32)",
    )
    args = parser.parse_intermixed_args(argv)
    check_checkpoint(parser, args.checkpoint)
    if not args.inputs:
        parser.error(f"no input: give recordings, folders or tables after the checkpoint {args.checkpoint}")
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f"--batch_size must be at least 1, got {args.batch_size}")
    if args.output is not None and args.output.suffix not in (".csv", ".jsonl"):
        parser.error(f"--output must end with .csv or .jsonl, got {args.output}")
    return parser, args


def shards(dialogs: "list[list[Utterance]]", batch_size: int) -> "Iterator[list[list[Utterance]]]":
    """
    Groups of whole dialogs whose decoded recordings fit into memory together.

    They depend on all inputs and not on what is done already, so that a command that goes on makes the same batches.
    """
    shard, utterances, seconds = [], 0, 0.0
    for dialog in dialogs:
        more = sum(turn.seconds() for turn in dialog)
        if shard and (utterances + len(dialog) > SHARD_BATCHES * batch_size or seconds + more > SHARD_SECONDS):
            yield shard
            shard, utterances, seconds = [], 0, 0.0
        shard.append(dialog)
        utterances, seconds = utterances + len(dialog), seconds + more
    yield shard


# ------------------------------------------------------------------------------------------------------------ output


class Output:
    """
    A .csv or .jsonl file that is only ever appended to, by whole utterances.

    In a .csv, a text that a spreadsheet would take for a formula begins with an apostrophe, which it hides.
    """

    def __init__(self, path: Path, labels: list[str], made: dict[str, str]):
        self.path, self.is_csv = path, path.suffix == ".csv"
        self.made = made  # columns that are the same in every row: what was made otherwise is not joined to it
        self.columns = ["id", "start", "end", "window", "windows", "text", "modality", "prediction"]
        if self.is_csv and set(labels) & {*self.columns, *made}:
            raise ValueError(f"classes {', '.join(labels)} are called like a column: write .jsonl")
        self.columns += [*labels, *made] if self.is_csv else ["scores", *made]
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
        """Cut off what a killed run left in parts; ids of what stands there whole."""
        content = self.path.read_bytes()
        begin = self._format([]).encode("utf-8") if self.is_csv else b'{"id": '
        if content[: len(begin)] != begin[: len(content)]:
            raise ValueError(f"it begins with {content[:80]!r}, not with {begin!r}")
        lines = io.StringIO(content[: content.rfind(b"\n") + 1].decode("utf-8"), newline="").readlines()
        rows = self._whole_rows(lines)
        for _, row in rows:
            made = {name: row.get(name) for name in self.made}
            if list(row) != self.columns or made != self.made:
                sentence = "{checkpoint} in {dtype}, asr {asr}, window_seconds {window_seconds}"
                got, expected = sentence.format(**made), sentence.format(**self.made)
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
        """Every row, and the number of lines to its end."""
        if not self.is_csv:
            return [(number, json.loads(line)) for number, line in enumerate(lines, 1)]
        rows, reader = [], csv.DictReader(lines, strict=True)
        try:
            for row in reader:
                texts = {from_cell(name or ""): from_cell(text) if text else text for name, text in row.items()}
                rows.append((reader.line_num, texts))
        except csv.Error as error:
            if reader.reader.line_num < len(lines):  # else cut at a line feed in quotes
                raise ValueError(f"line {reader.reader.line_num}: {error}") from error
        return rows

    def _format(self, rows: list[dict]) -> str:
        """Lines of some rows; of a .csv after the header."""
        if self.is_csv:
            cells = ({**row, **row["scores"]} for row in rows)
            # All texts in quotes, since a carriage return alone would get none.
            return format_csv(self.columns, ([row[name] for name in self.columns] for row in cells), csv.QUOTE_NONNUMERIC)
        lines = (json.dumps({name: row[name] for name in self.columns}, ensure_ascii=False) for row in rows)
        return "".join(f"{line}\n" for line in lines)

    def append(self, rows: list[dict]):
        text = self._format(rows)
        if self.path.exists() and self.path.stat().st_size > 0:
            text = text.removeprefix(self._format([]))
        try:
            with open(self.path, "ab") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                f"{self.path} cannot be written: {error}. The rows of before are whole; free some space or change the "
                "permissions, and the same command goes on from there"
            ) from error


class Table:
    """The same rows on the terminal."""

    done = frozenset()

    def __init__(self, ids: list[str], labels: list[str]):
        self.labels = labels
        self.folder = len(os.path.commonprefix(ids).rpartition("/")[0]) + 1 if "/" in os.path.commonprefix(ids) else 0
        self.width = max(2, min(48, max(map(len, ids)) - self.folder))
        scores = "  ".join(f"{label:>5}" for label in labels)
        tqdm.write(f"{'id':{self.width}}  {'seconds':>13}  {'answer':>6}  {scores}  {'by':10}  text")

    def append(self, rows: list[dict]):
        lines = []
        for row in rows:
            name = row["id"][self.folder :]
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
    import torch

    try:
        return pipe.forward(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            return [None]
    torch.cuda.empty_cache()  # out here, where the error no longer holds tensors
    half = len(batch) // 2
    return answer(pipe, batch[:half]) + answer(pipe, batch[half:])


def predict_shard(
    pipe, dialogs: "list[list[Utterance]]", settings: dict, batch_size: int, failed: dict[str, str], bar
) -> dict[str, list[dict]]:
    """Pieces of every utterance that can be answered, with `scores`; `failed` gets the reasons of the others."""
    from lemer.corpora.recordings import printable

    pieces = {}
    for dialog in dialogs:
        history = []
        for turn in dialog:
            inputs = {"text": turn.text, "history": history if turn.history is None else turn.history}
            try:
                inputs["audio"], offset = turn.recording()
                pieces[turn.id] = list(pipe.preprocess(inputs, **settings))
                for piece in pieces[turn.id]:  # times in the file, also of a part of it
                    piece.update({name: piece[name] + offset for name in ("start", "end") if piece[name] is not None})
                text = " ".join(piece["text"] for piece in pieces[turn.id] if piece["text"])
            except (OSError, ValueError, RuntimeError) as error:
                failed[turn.id] = printable(error)
                text = turn.text if isinstance(turn.text, str) else ""
                bar.update()
            history = [*history, text] if text.strip() else history
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
    return pieces


def rows_of(name: str, pieces: list[dict], labels: list[str], made: dict[str, str]) -> list[dict]:
    """The rows of an utterance: one for each of its windows."""
    rows = []
    for number, piece in enumerate(pieces, 1):
        scores = {score["label"]: score["score"] for score in piece["scores"]}
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
                **made,
            }
        )
    return rows


def save_figures(pipe, pieces: list[dict], stem: str, folder: Path) -> None:
    """Draw every window of an utterance."""
    from matplotlib import pyplot

    from lemer.evaluation.attention_figure import label_attention_figure

    rate = pipe.processor.feature_extractor.sampling_rate
    for number, piece in enumerate(pieces, 1):
        audio = None if piece["audio"] is None else {"array": piece["audio"], "sampling_rate": rate}
        figure, _ = label_attention_figure(pipe.model, pipe.processor, audio, piece["text"], piece["history"])
        figure.savefig(folder / (f"{stem}-{number}.png" if len(pieces) > 1 else f"{stem}.png"), bbox_inches="tight")
        pyplot.close(figure)


@dataclass
class Job:
    """
    A prediction that is ready to run.

    Attributes:
        dialogs: the inputs; an utterance that belongs to no dialog is one of a single turn.
        pipe: the pipeline.
        settings: its arguments.
        batch_size: utterances of one forward pass.
        made: columns that say how the rows were made.
        output: where the rows go.
        figures: folder of the figures, or None.
        failed: id of an input -> why it was left out.
        branches: how many rows each modality answered.
        answered: how many utterances were answered now.
    """

    dialogs: "list[list[Utterance]]"
    pipe: "LemerPipeline"
    settings: dict
    batch_size: int
    made: dict[str, str]
    output: "Output | Table"
    figures: Path | None
    failed: dict[str, str] = field(default_factory=dict)
    branches: Counter = field(default_factory=Counter)
    answered: int = 0

    def run(self) -> int:
        """Answer all inputs that are not in the output yet; returns 1 if one was left out, else 0."""
        count, number = sum(map(len, self.dialogs)), 0
        with tqdm(total=count, unit="utterance") as bar:
            for shard in shards(self.dialogs, self.batch_size):
                turns = [turn for dialog in shard for turn in dialog]
                if all(turn.id in self.output.done for turn in turns):
                    bar.update(len(turns))
                else:
                    self._answer(shard, turns, number, bar)
                number += len(turns)
        self._report(count)
        return 1 if self.failed else 0

    def _answer(self, shard: "list[list[Utterance]]", turns: "list[Utterance]", number: int, bar) -> None:
        """Answer the dialogs of a shard, whose first utterance has `number` others before it, and write their rows."""
        pieces = predict_shard(self.pipe, shard, self.settings, self.batch_size, self.failed, bar)
        labels, rows = list(self.pipe.model.config.id2label.values()), []
        for place, turn in enumerate(turns, number + 1):
            if turn.id in self.output.done or turn.id not in pieces:
                continue
            self.answered += 1
            rows += rows_of(turn.id, pieces[turn.id], labels, self.made)
            if self.figures is not None:
                stem = re.sub(r"[^\w.-]+", "_", turn.id)[-80:]
                try:
                    save_figures(self.pipe, pieces[turn.id], f"{place:05d}_{stem}", self.figures)
                except (OSError, ValueError, RuntimeError) as error:
                    self.failed[turn.id] = f"answered, but not drawn: {error}"
        self.output.append(rows)
        self.branches.update(row["modality"] for row in rows)

    def _report(self, count: int) -> None:
        if isinstance(self.output, Output):
            print(f"{self.output.path}: {self.answered} new of {count} utterances")
        for branch, missing in (("speech", "words (a table or --asr gives them)"), ("text", "recordings")):
            if self.pipe.model.config.modality == "multimodal" and self.branches[branch]:
                flat = ". Its scores are flat: only their order counts"
                print(
                    f"{self.branches[branch]} rows are of the {branch} branch alone, for want of {missing}"
                    + (flat if self.pipe.model.config.scores_are_flat(branch) else ""),
                    file=sys.stderr,
                )
        if self.failed:
            print(f"{len(self.failed)} of {count} inputs failed:", file=sys.stderr)
            for name, reason in self.failed.items():
                print(f"  {name}: {reason}", file=sys.stderr)


def check_device(name: str | None) -> None:
    """Raise a `ValueError` where this machine has no such device."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from error


def open_pipeline(args: argparse.Namespace, has_words: bool) -> tuple["LemerPipeline", dict]:
    """
    The pipeline of the checkpoint, and the settings that it was made with.

    Raises:
        OSError, ValueError: it is no checkpoint, or it cannot answer these inputs.
    """
    from transformers import pipeline

    from lemer import LemerPipeline
    from lemer.integrity_lemer import opening
    from lemer.runtime.onednn import multiply_by_onednn

    check_device(args.device)
    settings = {} if args.window_seconds is None else {"window_seconds": args.window_seconds}
    if args.asr is not None:
        settings["asr"] = pipeline("automatic-speech-recognition", model=args.asr, device=args.device)
    with opening(args.checkpoint):
        pipe = pipeline(
            "speech-emotion-recognition",
            model=args.checkpoint,
            pipeline_class=LemerPipeline,
            device=args.device,
            dtype=args.dtype,
            **settings,
        )
    multiply_by_onednn(pipe.model)
    if not pipe.model.config.uses_speech and args.asr is None and not has_words:
        raise ValueError(f"{args.checkpoint} reads words only, and no input has any: give a table with words, or --asr")
    return pipe, settings


def prepare(args: argparse.Namespace, locks: ExitStack) -> Job:
    """
    All that has to be right before the first utterance is computed; `locks` holds the output.

    Raises:
        OSError, ValueError, ImportError: an input, the checkpoint or the output is none.
    """
    from lemer.corpora.manifest import read_inputs
    from lemer.pipeline_lemer import WINDOW_SECONDS

    dialogs = read_inputs(args.inputs, args.dialog, args.subset)
    utterances = [turn for dialog in dialogs for turn in dialog]
    if args.output is not None:
        if args.output.is_dir():
            raise ValueError(f"--output {args.output} is a folder: name a file in it")
        locks.enter_context(hold(args.output))  # before the model is loaded: a place that cannot be written is found here
    pipe, settings = open_pipeline(args, has_words=any(turn.text for turn in utterances))

    window = args.window_seconds or min(WINDOW_SECONDS, pipe.processor.max_audio_seconds)
    made = {"checkpoint": args.checkpoint, "dtype": args.dtype, "asr": args.asr or "none", "window_seconds": f"{window:g}"}
    labels = list(pipe.model.config.id2label.values())
    output = Output(args.output, labels, made) if args.output else Table([turn.id for turn in utterances], labels)
    if args.figure is not None:
        import matplotlib

        matplotlib.use("agg")
        locks.enter_context(hold(args.figure))
        args.figure.mkdir(parents=True, exist_ok=True)
    return Job(dialogs, pipe, settings, args.batch_size or largest(pipe)[0], made, output, args.figure)


def main(argv=None) -> int:
    parser, args = parse_args(argv)
    # Loaded after the options are read: this takes seconds.
    from transformers.utils import logging

    from lemer.runtime.process import EVERYTHING, set_up_process
    from lemer.runtime.stopping import run_command

    logging.disable_progress_bar()
    set_up_process(EVERYTHING)
    with ExitStack() as locks:
        safe = f"The rows in {args.output} are whole" if args.output else "Nothing was written to a file"
        safe, jobs = f"{safe}, and the same command goes on from there", []
        status = run_command(parser.prog, lambda: jobs.append(prepare(args, locks)), safe, failure=2)
        return status or run_command(parser.prog, jobs[0].run, safe)


if __name__ == "__main__":
    sys.exit(main())
