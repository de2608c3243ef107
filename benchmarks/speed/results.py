"""The speed table as it is written: Markdown and JSON, with the machine and the commit that it was measured on."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from lemer.runtime.files import write_atomically

from .timing import DEVICE, Entry

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "numpy", "soundfile", "soxr")
COLUMNS = (
    *("row", "what", "towers", "median", "quartiles", "pairs"),
    *("target", "met", "seconds of a side", "same work", "measured"),
)


def machine() -> dict:
    """The processor, the system and the versions that the table is measured with."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    facts = {"processor": processor, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    facts["system"], facts["python"] = platform.system(), platform.python_version()
    if torch.cuda.is_available():
        facts["accelerator"] = torch.cuda.get_device_name()
    if hasattr(os, "getloadavg"):
        facts["load_at_start"] = round(os.getloadavg()[0], 2)
    facts["versions"] = {name: version(name) for name in LIBRARIES}
    return facts


def commit() -> str:
    """Commit of the checkout, followed by + where files differ from it."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if git("status", "--porcelain") else "")


def describe_run() -> dict:
    """Commit, date and machine, as they stand at the top of the table."""
    return {"commit": commit(), "date": str(date.today()), "machine": machine()}


def format_entry(entry: Entry) -> str:
    """One line of the table."""
    cells = [
        entry.row,
        entry.what,
        entry.towers,
        f"{entry.median:.3f}",
        f"{entry.quartiles[0]:.3f} to {entry.quartiles[1]:.3f}",
        str(len(entry.values)),
        "" if entry.target is None else f"{entry.target[0]} {entry.target[1]:g}",
        {True: "yes", False: "**no**", None: ""}[entry.met],
        "" if entry.ours is None else f"{entry.ours:.4g}, {entry.theirs:.4g}",
        entry.same,
        entry.measured,
    ]
    return f"| {' | '.join(cells)} |"


def format_table(entries: list[Entry], about: dict, broken: dict[str, str]) -> str:
    """
    The table as Markdown.

    Args:
        entries: The ratios, in any order; they are sorted by row.
        about: Commit, date and machine, as `describe_run` gives them.
        broken: The error of every row that ended with one, by the name of the row.
    """
    facts = {name: value for name, value in {**about, **about["machine"]}.items() if name not in ("machine", "versions")}
    shown = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    versions = ", ".join(f"{name} {number}" for name, number in about["machine"]["versions"].items())
    lines = ["# Speed", "", f"{shown}; {versions}.", ""]
    lines += ["Made by `make bench`; `benchmarks/speed/rows/` says what each row measures.", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += [format_entry(entry) for entry in sorted(entries, key=lambda entry: entry.row)]
    if broken:
        lines += ["", "Ended with an error:", "", *(f"- {row}: {error}" for row, error in broken.items())]
    return "\n".join(lines) + "\n"


def write_table(folder: Path, text: str, entries: list[Entry], about: dict, broken: dict[str, str]) -> None:
    """Write the table to `speed-cpu.md` (or `speed-cuda.md`) in a folder, and its numbers to the `.json` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(entry), "met": entry.met} for entry in entries]
    write_atomically(folder / f"speed-{DEVICE}.md", text)
    write_atomically(folder / f"speed-{DEVICE}.json", json.dumps({**about, "rows": rows, "broken": broken}, indent=1))
