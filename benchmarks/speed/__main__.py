"""Measure how fast the models are: one table of ratios, each from one run on one machine.

    python -m lemer.benchmarks.speed                          every row, to benchmarks/results/speed-cpu.md and .json
    python -m lemer.benchmarks.speed --rows a,b --repeats 2   some rows, printed; written only with --output FOLDER

Each ratio compares two sides. They are run in turn after a warm-up of each, and every other pair begins with the other
side. A row gives the median over the pairs and their quartiles. Before a row is timed, its two sides are checked to do the
same work, and the column "same work" says how. Where a target is missed, the last column names the operations whose time
differs most between the sides. The towers have random weights; the table gives their size. Freed memory is kept on both
sides as predict.py keeps it; in the processes of rows i and j, which train, as train.py keeps it. With a GPU everything
runs there in bf16, and the files are called speed-cuda. Rows m, n and o need a GPU and are left out without one; they were
not measured yet.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from lemer.runtime.process import EVERYTHING, set_up_process

from .results import ROOT, describe_run, format_table, write_table
from .rows import ROWS
from .setup import SIZES, Bench
from .timing import DEVICE, Entry

# The papers' towers are "base". On a CPU a row takes them where its ratio depends on the size and its time allows it.
SIZES_OF_ROWS = {"c": "narrow", **dict.fromkeys("bdekl", "base")}
SIZE_OF_OTHER_ROWS = "small"
GPU_SIZES_OF_ROWS = {"k": ("base", "large")}  # the other rows: "base" alone


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lemer.benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    rows = "; ".join(f"{letter}: {row.__doc__.strip().splitlines()[0]}" for letter, row in ROWS.items())
    parser.add_argument("--rows", default=",".join(ROWS), help=f"letters with commas between (default: all). {rows}")
    parser.add_argument(
        "--size",
        choices=SIZES,
        help="size of the towers (default: each row has its own; with a GPU base, and in row k large too)",
    )
    parser.add_argument("--repeats", type=int, help="pairs of runs for every ratio (default: each row has its own number)")
    parser.add_argument(
        "--output", type=Path, help="folder to write to (default: benchmarks/results if all rows are run, else none)"
    )
    args = parser.parse_args(argv)
    args.rows = args.rows.split(",")
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"--rows has {', '.join(sorted(unknown))}; the rows are {', '.join(ROWS)}")
    if args.repeats is not None and args.repeats < 1:
        parser.error(f"--repeats must be 1 or more, got {args.repeats}")
    if args.output is None and set(args.rows) == set(ROWS):
        args.output = ROOT / "benchmarks" / "results"
    return args


def sizes_of_row(letter: str) -> tuple[str, ...]:
    """Sizes of the towers that a row is measured with on this machine."""
    if DEVICE == "cuda":
        return GPU_SIZES_OF_ROWS.get(letter, ("base",))
    return (SIZES_OF_ROWS.get(letter, SIZE_OF_OTHER_ROWS),)


class Table:
    """The table so far. It is written after every ratio, so that a kill loses nothing that was measured."""

    def __init__(self, output: Path | None):
        self.output = output
        self.about = describe_run()
        self.entries: list[Entry] = []
        self.broken: dict[str, str] = {}
        self.begin = time.monotonic()

    def write(self) -> str:
        """Write the table to the output folder, where there is one, and return it."""
        self.about["seconds"] = round(time.monotonic() - self.begin)
        if hasattr(os, "getloadavg"):
            self.about["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
        text = format_table(self.entries, self.about, self.broken)
        if self.output is not None:
            write_table(self.output, text, self.entries, self.about, self.broken)
        return text


def run_row(letter: str, bench: Bench, table: Table) -> None:
    """Measure one row. An error goes into the table: the other rows are still worth their hour."""
    begin = time.monotonic()
    try:
        for entry in ROWS[letter](bench):
            entry.towers = bench.size
            table.entries.append(entry)
            table.write()
            seconds = time.monotonic() - begin
            tqdm.write(f"{letter}  {entry.median:7.3f}  {entry.what}, {bench.size}  ({seconds:.0f} s)", file=sys.stderr)
    except Exception as error:
        table.broken[f"{letter}, {bench.size}"] = " ".join(f"{type(error).__name__}: {error}".split())
        tqdm.write(traceback.format_exc(), file=sys.stderr)


def main(argv=None) -> int:
    args = parse_args(argv)
    set_up_process(EVERYTHING)  # as predict.py does, for both sides
    logging.set_verbosity_error()  # loading a tower alone would warn about the other parts of the checkpoint
    logging.disable_progress_bar()
    table = Table(args.output)
    parts = [(letter, size) for letter in args.rows for size in ([args.size] if args.size else sizes_of_row(letter))]
    with tempfile.TemporaryDirectory() as folder, tqdm(parts, unit="row") as bar:
        for letter, size in bar:
            bar.set_postfix_str(letter)
            run_row(letter, Bench(size, args.repeats, Path(folder) / f"{letter}_{size}"), table)
            if DEVICE == "cuda":
                gc.collect()  # models that refer to themselves
                torch.cuda.empty_cache()
    print(table.write())
    if args.output is not None:
        print(f"{args.output}/speed-{DEVICE}.md, .json")
    return 1 if table.broken else 0


if __name__ == "__main__":
    sys.exit(main())
