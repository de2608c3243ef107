"""Emotions of recordings: a table on the terminal, or a file.

    python predict.py CHECKPOINT recording.wav interviews/            files, and folders with all that is in them
    python predict.py CHECKPOINT recording.wav --text "I was so happy!" --history "Did they call you?"
    python predict.py CHECKPOINT utterances.csv --output out.csv      a table of recordings and words
    python predict.py CHECKPOINT --dialog one.wav two.wav --asr openai/whisper-base
    python predict.py CHECKPOINT long.wav --window_seconds 5 --output long.srt --figure long.png

CHECKPOINT is a folder that train.py wrote, an ONNX file of export.py, or a name on the Hub. INPUT is any number of
    audio files and folders     the words are not known, unless --asr hears them, so the speech branch answers alone
    tables                      .csv, .tsv, .json, .jsonl or .parquet with a row for each utterance. Columns are known by
                                name: audio (path, file ...), text (transcript ...), id, start and end in seconds, dialog
                                and order, history (a list of earlier turns, oldest first). --audio_column and
                                --text_column name others. A line of JSON that is no row is left out and named
    datasets                    a folder that `save_to_disk` wrote, a folder of parquet files, or a name on the Hub, with
                                such columns; all splits are answered, of one --subset where there are several
Of both, other columns go into the output where their cells are text, numbers or dates; a ClassLabel as the class's name.
Paths in a table are relative to it. Rows with the same dialog are its turns, and each is answered with the turns before it
as its history.

A recording without words that is longer than --window_seconds is cut into windows, and each window is a row of the output.
A row has: id; start and end in seconds; window and windows, its number and how many the recording has; text, the words that
were read; modality, which is multimodal, or the one branch that answered (speech or text); prediction; one score for each
class, which sum to 1, or with --top_k the highest alone; and checkpoint, dtype, asr and window_seconds, which say how it was
made. Where the checkpoint leaves out long silences, heard names the parts that were heard, in seconds. Where one branch of a
multimodal model answered, a sentence at the end says what its scores mean: without a temperature of the training they are
flat, and only their order counts.

A command that was stopped goes on when it is given again: rows that are in --output already are not computed again. An
input that cannot be answered is left out and named at the end with the reason. Exit status: 0 for success, 1 if an input
was left out, 2 if nothing could be begun, 130 and 143 if it was stopped.
"""

import argparse
import re
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from lemer.runtime.command import check_checkpoint, command_parser, device_of_process, read_share
from lemer.runtime.files import write_atomically
from lemer.runtime.locks import hold

if TYPE_CHECKING:  # imported where they are used, since that takes seconds: `--help` answers at once
    from lemer import LemerPipeline
    from lemer.corpora.manifest import Utterance
    from lemer.corpora.shards import Shard
    from lemer.prediction.output import Lines, Output, Table
    from lemer.prediction.subtitles import Subtitles

OUTPUTS = (".csv", ".jsonl", ".srt", ".vtt")
FIGURES = (".png", ".svg", ".pdf")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the inputs, what is read of them, how they are answered and where the answers go."""
    # Optional for argparse alone: without them `check_checkpoint` says how to get a checkpoint.
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help="folder, or name on the Hub")
    parser.add_argument("inputs", metavar="INPUT", nargs="*", help="audio file, folder, table, or dataset")
    parser.add_argument("--text", metavar="WORDS", help="the words of the one recording, or without one the whole input")
    parser.add_argument(
        "--history", action="append", metavar="WORDS", help="an earlier turn before --text; once for each, oldest first"
    )
    parser.add_argument("--audio_column", metavar="NAME", help="column of tables with the recordings (default: by its name)")
    parser.add_argument("--text_column", metavar="NAME", help="column of tables with the words (default: by its name)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write a .csv or .jsonl instead of printing; the windows of one recording also as subtitles, .srt or .vtt",
    )
    parser.add_argument(
        "--format",
        choices=("table", "csv", "jsonl"),
        default="table",
        help="what is printed where there is no --output (default: table)",
    )
    parser.add_argument("--top_k", type=int, metavar="K", help="give the K highest scores alone (default: all)")
    parser.add_argument(
        "--dialog", action="store_true", help="all inputs together are the turns of one dialog, in this order"
    )
    parser.add_argument("--subset", help="of datasets that have several, the one to answer (its configuration)")
    parser.add_argument("--asr", metavar="MODEL", help="speech recognition model that hears the words where none are given")
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="PATH",
        help="a .png, .svg or .pdf: draw how the scores go on over long recordings and dialogs. A folder: draw there the "
        "attention of each utterance to the labels",
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
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="answer one of N parts of the inputs, I from 0 to N - 1, and name --output after it. Dialogs stay whole. "
        "Processes of torchrun and accelerate launch take a part each by themselves",
    )


def parse_args(argv=None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read and check the options; a mistake ends the process with a message."""
    parser = command_parser("predict.py", "CHECKPOINT INPUT", __doc__)
    add_options(parser)
    args = parser.parse_intermixed_args(argv)
    check_checkpoint(parser, args.checkpoint)
    try:
        args.shard = read_share(args.shard)
    except ValueError as error:
        parser.error(str(error))
    if args.shard is not None and args.output is None:
        parser.error("a part of the inputs needs --output: the parts are joined by their files")
    if not args.inputs and args.text is None:
        parser.error(f"no input: give recordings, folders or tables after the checkpoint {args.checkpoint}, or --text")
    if args.history and args.text is None:
        parser.error("--history goes before the words of --text: give both")
    if args.text is not None and len(args.inputs) > 1:
        parser.error(f"--text is for one recording, got {len(args.inputs)} inputs: give a table with a column text")
    if args.top_k is not None and args.top_k < 1:
        parser.error(f"--top_k must be at least 1, got {args.top_k}")
    if args.batch_size is not None and args.batch_size < 1:
        parser.error(f"--batch_size must be at least 1, got {args.batch_size}")
    if args.output is not None and args.output.suffix not in OUTPUTS:
        parser.error(f"--output must end with {', '.join(OUTPUTS)}, got {args.output}")
    return parser, args


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
        figures: folder of the figures of attention, or None.
        timeline: file of the figure of all scores, or None.
        top_k: how many scores a row has; None: all.
        skipped: a sentence for each line of the inputs that is no row.
        panels: rows of each dialog, by the name of the dialog, for the figure.
        failed: id of an input -> why it was left out.
        branches: how many rows each modality answered.
        answered: how many utterances were answered now.
        told: what was said before in a dialog that goes on from the shard before.
    """

    dialogs: "list[list[Utterance]]"
    pipe: "LemerPipeline"
    settings: dict
    batch_size: int
    made: dict[str, str]
    output: "Output | Lines | Table | Subtitles"
    figures: Path | None
    timeline: Path | None = None
    top_k: int | None = None
    skipped: list[str] = field(default_factory=list)
    panels: dict[str, list[dict]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    branches: Counter = field(default_factory=Counter)
    answered: int = 0
    told: list[str] = field(default_factory=list)

    @cached_property
    def _dialog_names(self) -> dict[str, str]:
        """Id of an utterance -> what its dialog is called, which is the id of its first turn."""
        return {turn.id: dialog[0].id for dialog in self.dialogs for turn in dialog}

    def run(self) -> int:
        """Answer all inputs that are not in the output yet; returns 1 if one was left out, else 0."""
        from lemer.corpora.shards import shards

        count, number = sum(map(len, self.dialogs)), 0
        with tqdm(total=count, unit="utterance") as bar:
            for shard in shards(self.dialogs, self.batch_size):
                turns = [turn for dialog in shard.dialogs for turn in dialog]
                # The next shard needs the words of a dialog that goes on there, also where its turns are done.
                done = self.timeline is None and all(turn.id in self.output.done for turn in turns)
                if done and not shard.goes_on:
                    bar.update(len(turns))
                    self.told = []
                else:
                    self._answer(shard, turns, number, bar)
                number += len(turns)
        self.output.append([])  # where a part of the inputs is empty, its file is there all the same
        self._write_whole_files()
        self._report(count)
        return 1 if self.failed or self.skipped else 0

    def _write_whole_files(self) -> None:
        """Write the files that are not appended to."""
        from lemer.prediction.subtitles import Subtitles

        if isinstance(self.output, Subtitles):
            write_atomically(self.output.path, self.output.content())
        if self.timeline is not None and self.panels:
            import io

            from lemer.prediction.timeline import timeline

            panels = [(self._title(name, rows), rows) for name, rows in self.panels.items()]
            figure, file = timeline(panels, list(self.pipe.model.config.id2label.values())), io.BytesIO()
            figure.savefig(file, format=self.timeline.suffix[1:], dpi=150)
            write_atomically(self.timeline, file.getvalue())

    def _answer(self, shard: "Shard", turns: "list[Utterance]", number: int, bar) -> None:
        """Answer the dialogs of a shard, whose first utterance has `number` others before it, and write their rows."""
        from lemer.prediction.answering import predict_shard, rows_of

        pieces, told = predict_shard(self.pipe, shard.dialogs, self.settings, self.batch_size, self.failed, bar, self.told)
        self.told = told if shard.goes_on else []
        labels, rows = list(self.pipe.model.config.id2label.values()), []
        for place, turn in enumerate(turns, number + 1):
            if turn.id not in pieces:
                continue
            if self.timeline is not None:
                shown = rows_of(turn, pieces[turn.id], labels, self.made, None)
                self.panels.setdefault(self._dialog_names[turn.id], []).extend(shown)
            if turn.id in self.output.done:
                continue
            self.answered += 1
            rows += rows_of(turn, pieces[turn.id], labels, self.made, self.top_k)
            if self.figures is not None:
                stem = re.sub(r"[^\w.-]+", "_", turn.id)[-80:]
                try:
                    save_figures(self.pipe, pieces[turn.id], f"{place:05d}_{stem}", self.figures)
                except (OSError, ValueError, RuntimeError) as error:
                    self.failed[turn.id] = f"answered, but not drawn: {error}"
        self.output.append(rows)
        self.branches.update(row["modality"] for row in rows)

    def _title(self, name: str, rows: list[dict]) -> str:
        """The title of a dialog or recording in the figure, with what has to be known of its scores."""
        alone = {row["modality"] for row in rows} - {self.pipe.model.config.modality}
        flat = [branch for branch in sorted(alone) if "flat" in self.pipe.meaning_of_scores(branch)]
        called = f"dialog from {name}" if len({row["id"] for row in rows}) > 1 else name
        return called + "".join(f". The {branch} branch alone: flat scores, only their order counts" for branch in flat)

    def _report(self, count: int) -> None:
        path = getattr(self.output, "path", None)
        if path is not None:
            print(f"{path}: {self.answered} new of {count} utterances")
        for branch, missing in (("speech", "words (--text, a table or --asr gives them)"), ("text", "recordings")):
            if self.pipe.model.config.modality == "multimodal" and self.branches[branch]:
                print(
                    f"{self.branches[branch]} rows are of the {branch} branch alone, for want of {missing}. "
                    + self.pipe.meaning_of_scores(branch),
                    file=sys.stderr,
                )
        if self.skipped:
            print(f"lines of the inputs that are no rows and were left out: {len(self.skipped)}", file=sys.stderr)
            for sentence in self.skipped:
                print(f"  {sentence}", file=sys.stderr)
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
    if args.checkpoint.endswith(".onnx"):
        from lemer.prediction.onnx_model import OnnxModel

        if args.dtype != "float32" or (args.device or "cpu") != "cpu":
            raise ValueError("an ONNX file is computed on the CPU in its own precision: leave out --device and --dtype")
        model = OnnxModel(args.checkpoint)
        pipe = LemerPipeline(model, model.processor, device="cpu", **settings)
    else:
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
    from lemer.corpora.manifest import read_inputs, share_of
    from lemer.pipeline_lemer import WINDOW_SECONDS
    from lemer.prediction.answering import largest

    skipped: list[str] = []
    wanted = {use: getattr(args, f"{use}_column") for use in ("audio", "text") if getattr(args, f"{use}_column") is not None}
    dialogs = read_inputs(args.inputs, args.dialog, wanted, skipped, args.subset)
    if args.text is not None:
        dialogs = [[one_utterance(args, dialogs)]]
    utterances = [turn for dialog in dialogs for turn in dialog]
    if args.shard is not None:
        dialogs, args.output = share_of(dialogs, *args.shard), args.shard.name(args.output)
        args.device = args.device or device_of_process()
    if args.output is not None:
        if args.output.is_dir():
            raise ValueError(f"--output {args.output} is a folder: name a file in it")
        locks.enter_context(hold(args.output))  # before the model is loaded: a place that cannot be written is found here
    pipe, settings = open_pipeline(args, has_words=any(turn.text for turn in utterances))

    window = args.window_seconds or min(WINDOW_SECONDS, pipe.processor.max_audio_seconds)
    made = {"checkpoint": args.checkpoint, "dtype": args.dtype, "asr": args.asr or "none", "window_seconds": f"{window:g}"}
    if args.top_k is not None:  # rows of another number of scores are not joined to a file
        made["top_k"] = str(args.top_k)
    output = make_output(args, utterances, pipe, made)
    if args.figure and args.figure.suffix not in FIGURES and args.checkpoint.endswith(".onnx"):
        raise ValueError("an ONNX file gives no attention to draw: give the checkpoint, or a .png for the scores over time")
    figures, timeline = (None, args.figure) if args.figure and args.figure.suffix in FIGURES else (args.figure, None)
    if args.figure is not None:
        import matplotlib

        matplotlib.use("agg")
        locks.enter_context(hold(args.figure))
        (args.figure if timeline is None else timeline.parent).mkdir(parents=True, exist_ok=True)
    batch_size = args.batch_size or largest(pipe)[0]
    return Job(dialogs, pipe, settings, batch_size, made, output, figures, timeline, args.top_k, skipped)


def one_utterance(args: argparse.Namespace, dialogs: "list[list[Utterance]]") -> "Utterance":
    """
    The input that --text gives words to.

    Raises:
        ValueError: the input is not one recording.
    """
    from lemer.corpora.manifest import Utterance

    turns = [turn for dialog in dialogs for turn in dialog]
    if len(turns) > 1 or any(turn.text is not None for turn in turns):
        raise ValueError(
            f"--text is for one recording, and {args.inputs[0]} has {len(turns)} inputs: give a table with a column text"
        )
    turn = turns[0] if turns else Utterance(id="text")
    return turn._replace(text=args.text, history=args.history)


def make_output(
    args: argparse.Namespace, utterances: "list[Utterance]", pipe, made: dict[str, str]
) -> "Output | Lines | Table | Subtitles":
    """
    Where the rows go.

    Raises:
        OSError, ValueError: the output is a file of something else, or these inputs cannot be written in this form.
    """
    from lemer.prediction.output import Layout, Lines, Output, Table
    from lemer.prediction.subtitles import SUFFIXES, Subtitles

    labels, kind = list(pipe.model.config.id2label.values()), args.format
    if args.output is not None and args.output.suffix in SUFFIXES:
        return Subtitles(args.output, [turn.audio for turn in utterances])
    if args.output is None and kind == "table":
        return Table([turn.id for turn in utterances], labels)
    extra = list(dict.fromkeys(name for turn in utterances for name in turn.extra))
    is_csv = (args.output.suffix == ".csv") if args.output else kind == "csv"
    layout = Layout(labels, made, extra, pipe.processor.max_silence is not None, is_csv)
    return Output(args.output, layout) if args.output else Lines(layout)


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
