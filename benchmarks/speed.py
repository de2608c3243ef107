"""How fast it is: one table of ratios, each from one run on one machine.

    python benchmarks/speed.py                          every row, to benchmarks/results/speed-cpu.md and .json
    python benchmarks/speed.py --rows a,b --repeats 2   some rows, printed; written where --output names a folder

The two sides of a ratio are run in turn, the first of a pair being the one and the other by turns, after a warm-up of each.
A row gives the median over the pairs and their quartiles. Before a row is timed, its two sides are checked to do the same
work; the column says how. Where a target is missed, the last column says what was measured about it: the operations whose
own time differs most between the sides. Towers have random weights; the table says which. Freed memory is kept on
both sides, as predict.py keeps it, and in the processes of rows i and j, which train, as train.py does. With a GPU
everything runs there, in bf16, and the files are called speed-cuda.
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop
from tqdm.auto import tqdm
from transformers.utils import logging

from lemer.runtime.files import write_atomically
from lemer.runtime.process import EVERYTHING, set_up_process

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HERE = Path(__file__).resolve().parents[1]
# Of the towers; the papers' are base. On a CPU a row takes them where its ratio depends on them and its time allows it.
SIZES_OF_ROWS = {"c": "narrow", **dict.fromkeys("bdekl", "base")}
OTHER_ROWS = "small"
GPU_SIZES = {"k": ("base", "large")}  # other rows: base alone
LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "numpy", "soundfile", "soxr")


@dataclass
class Entry:
    """
    One ratio of the table.

    Attributes:
        row: Letter of the row.
        what: What is over what.
        values: The ratio of every pair.
        target: ("at most" or "at least", number), None where there is none.
        same: How the two sides were checked to do the same work.
        ours, theirs: Median seconds of a side, None where the ratio is not one of times.
        measured: What was measured about a missed target, and other figures of the row.
        towers: Size of the towers.
    """

    row: str
    what: str
    values: list[float]
    target: tuple[str, float] | None = None
    same: str = ""
    ours: float | None = None
    theirs: float | None = None
    measured: str = ""
    towers: str = ""
    median: float = field(init=False)
    quartiles: tuple[float, float] = field(init=False)

    def __post_init__(self):
        low, self.median, high = np.quantile(self.values, [0.25, 0.5, 0.75]).tolist()
        self.quartiles = (low, high)

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        bound, number = self.target
        return self.median <= number if bound == "at most" else self.median >= number


def precision():
    """bf16 where a GPU is, float32 else."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda")


def forward(run):
    """A call without gradients."""

    def call():
        with torch.no_grad(), precision():
            return run()

    return call


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference relative to the root mean square; raises where it is no rounding."""
    one, other = one.detach().float(), other.detach().float()
    if one.shape != other.shape:
        raise AssertionError(f"the two sides give {tuple(one.shape)} and {tuple(other.shape)}")
    found = ((one - other).abs().max() / other.square().mean().sqrt()).item()
    if not found < (2e-3 if DEVICE == "cpu" else 0.2):
        raise AssertionError(f"the two sides differ by {found:.2g} of the root mean square")
    return found


def flops(run) -> int:
    """Multiplications and additions of the matrix products, convolutions and attentions of a call."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mapping = {attention: lambda query, key, value, *_, out_shape=None, **__: sdpa_flop(query, key, value)}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


def clock(run: Callable) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    run()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def alternate(ours: Callable, theirs: Callable, pairs: int, timer: Callable = clock) -> list[tuple[float, float]]:
    """Seconds of (ours, theirs) of every pair, after a warm-up of each; every other pair begins with theirs."""
    timer(theirs), timer(ours)
    times = []
    for pair in range(pairs):
        if pair % 2:
            second = timer(theirs)
            times.append((timer(ours), second))
        else:
            times.append((timer(ours), timer(theirs)))
    return times


def compare(
    row: str, what: str, ours: Callable, theirs: Callable, pairs: int, target=None, same: str = "", speed: bool = False
) -> Entry:
    """An entry from two calls: our seconds over theirs, or, with `speed`, our speed over theirs."""
    entry = as_entry(row, what, alternate(ours, theirs, pairs), target, same, speed)
    if entry.met is False:
        entry.measured = compare_operations(ours, theirs)
    return entry


def as_entry(
    row: str, what: str, times: list[tuple[float, float]], target=None, same: str = "", speed: bool = False
) -> Entry:
    """An entry from the seconds of every pair."""
    values = [theirs / ours if speed else ours / theirs for ours, theirs in times]
    ours, theirs = np.median(times, axis=0).tolist()
    return Entry(row, what, values, target, same, ours, theirs)


def own_times(run: Callable) -> dict[str, tuple[float, int]]:
    """Own milliseconds and number of an operation, or on a GPU of a kernel, under torch's profiler."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it prints lines of its own
    cuda = DEVICE == "cuda"
    activity = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profile:
        clock(run)
    own = {
        one.key: ((one.self_device_time_total if cuda else one.self_cpu_time_total) / 1000, one.count)
        for one in profile.key_averages()
    }
    return {name: found for name, found in own.items() if found[0] > 0}


def compare_operations(ours: Callable, theirs: Callable, runs: int = 2, shown: int = 4) -> str:
    """The operations whose own time differs most between two calls, and on a GPU how many kernels each call starts."""
    difference: dict[str, float] = {}
    count = {1: 0, -1: 0}
    for sign, run in ((1, ours), (-1, theirs)) * runs:
        for name, (own, number) in own_times(run).items():
            difference[name] = difference.get(name, 0.0) + sign * own / runs
            count[sign] += number
    largest = sorted(difference, key=lambda name: -difference[name])[:shown]
    parts = [f"{name.removeprefix('aten::')[:60]} {difference[name]:+.1f} ms" for name in largest if difference[name] > 0.05]
    parts += [f"all {sum(difference.values()):+.1f} ms"]
    kernels = f"{count[1] / runs:.0f} and {count[-1] / runs:.0f} kernels; " if DEVICE == "cuda" else ""
    return f"{kernels}own time, ours less theirs: {', '.join(parts)}".replace("|", "/")


# ---------------------------------------------------------------------------------------------------------- the table


def machine() -> dict:
    """What the table was measured on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    found = {"processor": processor, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    found["system"], found["python"] = platform.system(), platform.python_version()
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    if hasattr(os, "getloadavg"):
        found["load_at_start"] = round(os.getloadavg()[0], 2)
    return found


def commit() -> str:
    """Commit of the checkout, with + where files differ from it."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if git("status", "--porcelain") else "")


def format_table(entries: list[Entry], about: dict, broken: dict[str, str]) -> str:
    """The table and what it was measured on, as Markdown; `broken` are rows that ended with an error."""
    shown = {name: value for name, value in {**about, **about["machine"]}.items() if name not in ("machine", "versions")}
    said = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())
    versions = ", ".join(f"{name} {number}" for name, number in about["machine"]["versions"].items())
    lines = [
        "# Speed",
        "",
        f"{said}; {versions}.",
        "",
        "Made by `make bench`; what a row is, `benchmarks/speed_rows.py` says.",
        "",
    ]
    head = [
        "row",
        "what",
        "towers",
        "median",
        "quartiles",
        "pairs",
        "target",
        "met",
        "seconds of a side",
        "same work",
        "measured",
    ]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for entry in sorted(entries, key=lambda entry: entry.row):
        target = "" if entry.target is None else f"{entry.target[0]} {entry.target[1]:g}"
        sides = "" if entry.ours is None else f"{entry.ours:.4g}, {entry.theirs:.4g}"
        met = {True: "yes", False: "**no**", None: ""}[entry.met]
        quartiles = f"{entry.quartiles[0]:.3f} to {entry.quartiles[1]:.3f}"
        cells = [
            entry.row,
            entry.what,
            entry.towers,
            f"{entry.median:.3f}",
            quartiles,
            str(len(entry.values)),
            target,
            met,
            sides,
        ]
        lines.append(f"| {' | '.join([*cells, entry.same, entry.measured])} |")
    if broken:
        lines += ["", "Ended with an error:", "", *(f"- {row}: {error}" for row, error in broken.items())]
    return "\n".join(lines) + "\n"


def parse_args(argv=None) -> argparse.Namespace:
    from lemer.benchmarks.speed_rows import ROWS  # imports this file
    from lemer.benchmarks.speed_setup import SIZES

    parser = argparse.ArgumentParser(
        prog="speed.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    rows = "; ".join(f"{letter}: {row.__doc__.strip().splitlines()[0]}" for letter, row in ROWS.items())
    parser.add_argument("--rows", default=",".join(ROWS), help=f"letters with commas between (default: all). {rows}")
    of_rows = "default: each row's own; with a GPU base, in row k large too"
    parser.add_argument("--size", choices=SIZES, help=f"of the towers ({of_rows})")
    parser.add_argument("--repeats", type=int, help="pairs of every ratio (default: what each row needs)")
    parser.add_argument("--output", type=Path, help="folder to write to (default: benchmarks/results, if all rows are run)")
    args = parser.parse_args(argv)
    args.rows = args.rows.split(",")
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"--rows has {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if args.repeats is not None and args.repeats < 1:
        parser.error(f"--repeats cannot be {args.repeats}")
    if args.output is None and set(args.rows) == set(ROWS):
        args.output = HERE / "benchmarks" / "results"
    return args


def own_sizes(letter: str) -> tuple[str, ...]:
    """Sizes of towers that a row is measured with on this machine."""
    return GPU_SIZES.get(letter, ("base",)) if DEVICE == "cuda" else (SIZES_OF_ROWS.get(letter, OTHER_ROWS),)


def main(argv=None) -> int:
    args = parse_args(argv)
    from lemer.benchmarks.speed_rows import ROWS, Bench

    set_up_process(EVERYTHING)  # as predict.py does, for both sides
    logging.set_verbosity_error()  # of towers whose other parts are not loaded
    logging.disable_progress_bar()
    about = {"commit": commit(), "date": str(date.today()), "machine": machine()}
    about["machine"]["versions"] = {name: version(name) for name in LIBRARIES}
    entries, broken, begin = [], {}, time.monotonic()
    parts = [(letter, size) for letter in args.rows for size in ([args.size] if args.size else own_sizes(letter))]

    def table() -> str:
        """The table so far, written where it is to be: a kill loses nothing that was measured."""
        about["seconds"] = round(time.monotonic() - begin)
        if hasattr(os, "getloadavg"):
            about["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
        text = format_table(entries, about, broken)
        if args.output is not None:
            args.output.mkdir(parents=True, exist_ok=True)
            write_atomically(args.output / f"speed-{DEVICE}.md", text)
            rows = [{**asdict(entry), "met": entry.met} for entry in entries]
            write_atomically(
                args.output / f"speed-{DEVICE}.json", json.dumps({**about, "rows": rows, "broken": broken}, indent=1)
            )
        return text

    with tempfile.TemporaryDirectory() as folder, tqdm(parts, unit="row") as bar:
        for letter, size in bar:
            bar.set_postfix_str(letter)
            part_begin = time.monotonic()
            try:
                for entry in ROWS[letter](Bench(size, args.repeats, Path(folder) / f"{letter}_{size}")):
                    entry.towers = size
                    entries.append(entry)
                    table()
                    seconds = time.monotonic() - part_begin
                    tqdm.write(f"{letter}  {entry.median:7.3f}  {entry.what}, {size}  ({seconds:.0f} s)", file=sys.stderr)
            except Exception as error:  # the other rows are worth their hour all the same
                broken[f"{letter}, {size}"] = " ".join(f"{type(error).__name__}: {error}".split())
                tqdm.write(traceback.format_exc(), file=sys.stderr)
            if DEVICE == "cuda":
                gc.collect()  # models that refer to themselves
                torch.cuda.empty_cache()
    print(table())
    if args.output is not None:
        print(f"{args.output}/speed-{DEVICE}.md, .json")
    return 1 if broken else 0


if __name__ == "__main__":
    from lemer.benchmarks import speed  # under its name in the package, as the rows know it

    sys.exit(speed.main())
