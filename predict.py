"""Emotions of recordings: a table on the terminal, or a file.

    python predict.py CHECKPOINT recording.wav interviews/            files, and folders with all that is in them
    python predict.py CHECKPOINT utterances.csv --output out.csv      a manifest of recordings and words
    python predict.py CHECKPOINT --dialog one.wav two.wav --asr openai/whisper-base

CHECKPOINT is a folder that train.py wrote, or a name on the Hub. INPUT is any number of
    audio files and folders     words are not known, unless --asr hears them: the speech branch answers alone
    .csv                        columns audio (or path) and text, one of them at least; id; dialog and order
    .jsonl                      the same as one JSON object a line, and history, a list of earlier turns, oldest first
A manifest's paths are relative to it. Rows that share a dialog are its turns, in the order of the column order, else of
the rows, and each is answered with the turns before it as history; a blank dialog is none.

A recording without words of more than --window_seconds is cut into windows, a row each. A row has id, start and end in
seconds, window and windows (its number, and how many of them the recording has), the text that was read, modality (what
answered: multimodal, or speech or text alone), prediction, one score a class (they sum to 1; those of one branch of a
multimodal model are flat, only their order counts), and how it was made: checkpoint, dtype, asr and window_seconds.

The same command goes on where it was killed: what stands in --output is left alone. An input that cannot be answered is
left out, and named with its reason at the end. Exit status: 0, 1 when an input was left out, 2 when nothing was begun.
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
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import pipeline
from transformers.utils import logging

from lemer import LemerPipeline
from lemer.corpora.manifest import MANIFEST_SUFFIXES, Utterance, printable, read_inputs
from lemer.pipeline_lemer import WINDOW_SECONDS
from lemer.runtime.onednn import multiply_by_onednn
from lemer.runtime.process import EVERYTHING, set_up_process

SHARD_BATCHES, SHARD_BYTES = 8, 64 * 2**20  # of recordings that are in memory at once
# Of one forward pass, by device: utterances, and seconds of speech with their padding. On a CPU more is slower and takes
# gigabytes; a GPU waits for its next kernel with less (benchmarks/LOG.md).
LARGEST = {"cpu": (8, 60.0), "cuda": (64, 240.0)}


def parse_args(argv=None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="predict.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder, or name on the Hub")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="audio file, folder, .csv or .jsonl")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write .csv or .jsonl instead of the table")
    parser.add_argument(
        "--dialog", action="store_true", help="all inputs together are the turns of one dialog, in this order"
    )
    parser.add_argument("--asr", metavar="MODEL", help="speech recognition model that hears words where none are given")
    parser.add_argument(
        "--figure", type=Path, metavar="DIR", help="draw each utterance's attention to the labels there, as png"
    )
    parser.add_argument("--window_seconds", type=float, help="cut longer recordings without words (default: 30)")
    parser.add_argument(
        "--batch_size",
        type=int,
        help="utterances in one forward pass (default: 8, on a GPU 64), of at most a minute of speech together, on a GPU "
        "four; what does not fit into its memory is answered in parts",
    )
    parser.add_argument("--device", help="cpu, cuda:1, ... (default: the first accelerator, else cpu)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the weights; 16 bits take half the memory, are faster where the machine has units for them, and "
        "change scores in the second or third digit (default: float32)",
    )
    args = parser.parse_intermixed_args(argv)
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f"--batch_size cannot be {args.batch_size}")
    if args.output is not None and args.output.suffix not in MANIFEST_SUFFIXES:
        parser.error(f"--output must end with .csv or .jsonl, got {args.output}")
    return parser, args


def shards(dialogs: list[list[Utterance]], batch_size: int) -> Iterator[list[list[Utterance]]]:
    """
    Groups of whole dialogs whose recordings fit into memory together.

    They depend on all inputs, not on what is done already, so that a resumed run makes the same batches.
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
    """A .csv or .jsonl that is only ever appended to, by whole utterances."""

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
                said = "{checkpoint} in {dtype}, asr {asr}, window_seconds {window_seconds}"
                got, expected = (said.format(**one) for one in (made, self.made))
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
                rows.append((reader.line_num, row))
        except csv.Error as error:
            if reader.reader.line_num < len(lines):  # else cut at a line feed in quotes
                raise ValueError(f"line {reader.reader.line_num}: {error}") from error
        return rows

    def _format(self, rows: list[dict]) -> str:
        """Lines of some rows; of a .csv after the header."""
        text = io.StringIO(newline="")
        if self.is_csv:
            # All texts in quotes, since a carriage return alone would get none.
            settings = {"extrasaction": "ignore", "lineterminator": "\n", "quoting": csv.QUOTE_NONNUMERIC}
            writer = csv.DictWriter(text, self.columns, **settings)
            writer.writeheader()
            writer.writerows({**row, **row["scores"]} for row in rows)
        else:
            for row in rows:
                text.write(json.dumps({name: row[name] for name in self.columns}, ensure_ascii=False) + "\n")
        return text.getvalue()

    def append(self, rows: list[dict]):
        text = self._format(rows)
        if self.path.exists() and self.path.stat().st_size > 0:
            text = text.removeprefix(self._format([]))
        with open(self.path, "ab") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())


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
    try:
        return pipe.forward(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            return [None]
    torch.cuda.empty_cache()  # out here, where the error no longer holds tensors
    half = len(batch) // 2
    return answer(pipe, batch[:half]) + answer(pipe, batch[half:])


def predict_shard(
    pipe, dialogs: list[list[Utterance]], settings: dict, batch_size: int, failed: dict[str, str], bar
) -> dict[str, list[dict]]:
    """Pieces of every utterance that can be answered, with `scores`; `failed` gets the reasons of the others."""
    pieces = {}
    for dialog in dialogs:
        history = []
        for turn in dialog:
            one = {"audio": turn.audio, "text": turn.text, "history": history if turn.history is None else turn.history}
            try:
                pieces[turn.id] = list(pipe.preprocess(one, **settings))
                text = " ".join(piece["text"] for piece in pieces[turn.id] if piece["text"])
            except (OSError, ValueError, RuntimeError) as error:
                failed[turn.id] = printable(error)
                text = turn.text if isinstance(turn.text, str) else ""
                bar.update()
            history = [*history, text] if text.strip() else history
    # Like lengths meet in a batch, and what does not fit into memory fails at once.
    order = [piece for own in pieces.values() for piece in own]
    order.sort(key=lambda piece: 0 if piece["audio"] is None else -len(piece["audio"]))
    rate = pipe.processor.feature_extractor.sampling_rate
    for batch in batches(order, batch_size, largest(pipe)[1] * rate):
        for piece, answered in zip(batch, answer(pipe, batch), strict=True):
            piece.update(
                scores=None,
                reason=f"too long for the memory of {pipe.device}: give --device cpu, or a lower --window_seconds",
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
    rows = []
    for number, piece in enumerate(pieces, 1):
        scores = {one["label"]: one["score"] for one in piece["scores"]}
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


def save_figures(draw, pipe, pieces: list[dict], stem: str, folder: Path):
    """One png for each window of an utterance."""
    from matplotlib import pyplot

    rate = pipe.processor.feature_extractor.sampling_rate
    for number, piece in enumerate(pieces, 1):
        audio = None if piece["audio"] is None else {"array": piece["audio"], "sampling_rate": rate}
        figure, _ = draw(pipe.model, pipe.processor, audio, piece["text"], piece["history"])
        figure.savefig(folder / (f"{stem}-{number}.png" if len(pieces) > 1 else f"{stem}.png"), bbox_inches="tight")
        pyplot.close(figure)


def main(argv=None) -> int:
    parser, args = parse_args(argv)
    logging.disable_progress_bar()
    set_up_process(EVERYTHING)
    try:
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
        batch_size = args.batch_size or largest(pipe)[0]
        labels = list(pipe.model.config.id2label.values())
        window = args.window_seconds or min(WINDOW_SECONDS, pipe.processor.max_audio_seconds)
        made = {"checkpoint": args.checkpoint, "dtype": args.dtype, "asr": args.asr or "none"}
        made["window_seconds"] = f"{window:g}"
        if args.output:
            output = Output(args.output, labels, made)
        else:
            output = Table([turn.id for turn in utterances], labels)
        if args.figure is not None:
            import matplotlib

            matplotlib.use("agg")
            from lemer.evaluation.attention_figure import label_attention_figure

            args.figure.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        parser.error(str(error))

    failed, branches, number, new = {}, Counter(), 0, 0
    todo = {turn.id for turn in utterances} - output.done
    with tqdm(total=len(utterances), unit="utterance") as bar:
        for shard in shards(dialogs, batch_size):
            turns = [turn for dialog in shard for turn in dialog]
            if not todo & {turn.id for turn in turns}:
                bar.update(len(turns))
                number += len(turns)
                continue
            pieces = predict_shard(pipe, shard, settings, batch_size, failed, bar)
            rows = []
            for turn in turns:
                number += 1
                if turn.id not in todo or turn.id not in pieces:
                    continue
                new += 1
                rows += rows_of(turn.id, pieces[turn.id], labels, made)
                if args.figure is not None:
                    try:
                        stem = re.sub(r"[^\w.-]+", "_", turn.id)[-80:]
                        stem = f"{number:05d}_{stem}"
                        save_figures(label_attention_figure, pipe, pieces[turn.id], stem, args.figure)
                    except (OSError, ValueError, RuntimeError) as error:
                        failed[turn.id] = f"answered, but not drawn: {error}"
            output.append(rows)
            branches.update(row["modality"] for row in rows)
    if args.output:
        print(f"{args.output}: {new} new of {len(utterances)} utterances")
    for branch, missing in (("speech", "words (a manifest or --asr gives them)"), ("text", "recordings")):
        if pipe.model.config.modality == "multimodal" and branches[branch]:
            print(
                f"{branches[branch]} rows are of the {branch} branch alone, for want of {missing}. Its scores are flat: "
                "only their order counts",
                file=sys.stderr,
            )
    if failed:
        print(f"{len(failed)} of {len(utterances)} inputs failed:", file=sys.stderr)
        for name, reason in failed.items():
            print(f"  {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
