"""Processes of their own: for start-up times, for the memory of a process, and for training on two processes.

torchrun --nproc_per_node 2 -m lemer.benchmarks.speed.children SIZE SECONDS       training steps of several processes
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lemer.prediction.answering import batches
from lemer.runtime.process import EVERYTHING, keep_freed_memory, leave_process_group
from lemer.training.batches import PAD_TO_MULTIPLE_OF, LengthBuckets

from .setup import (
    BATCH,
    IEMOCAP_SECONDS,
    RATE,
    make_batch,
    make_model,
    make_optimizer,
    run_towers,
    towers_loss,
    train_step,
)
from .timing import DEVICE, clock, forward

# Arguments of both: folder of `write_checkpoint`, recording, device. Printed is the time at which all is ready.
OURS_STARTS = """
import sys, time
from transformers import pipeline
from transformers.utils import logging
logging.disable_progress_bar(), logging.set_verbosity_error()
pipe = pipeline("speech-emotion-recognition", model=sys.argv[1] + "/whole", trust_remote_code=True)
pipe({"audio": sys.argv[2], "text": "you never said that"})
print(time.time())
"""
THEIRS_STARTS = """
import sys, time
from transformers import AutoModel
from transformers.utils import logging
logging.disable_progress_bar(), logging.set_verbosity_error()
for tower in ("speech", "text"):
    AutoModel.from_pretrained(f"{sys.argv[1]}/{tower}").to(sys.argv[3])
print(time.time())
"""


# --------------------------------------------------------------------------------------------- in the parent process


@cache
def _home() -> tempfile.TemporaryDirectory:
    """Where transformers copies remote code to; removed when this process ends."""
    return tempfile.TemporaryDirectory(prefix="lemer_speed_")


def _environment() -> dict[str, str]:
    """Environment of a child: no network, and nothing left behind in the user's cache."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": _home().name}


def child(*command: str, **environment: str) -> str:
    """
    Run Python with a command in a process of its own, and return the last line that it prints.

    Args:
        environment: Variables of its environment beside ours.

    Raises:
        RuntimeError: if the process fails; the end of its errors is printed.
    """
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=_environment() | environment)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        last = (done.stderr.splitlines() or [""])[-1]
        raise RuntimeError(f"a process failed: `python {' '.join(command)[:200]}`: {last}")
    return done.stdout.strip().splitlines()[-1]


def call_in_child(function, *arguments, **environment: str) -> str:
    """Call a function of this file in a process of its own, and return what it returned, as text."""
    name = function.__name__
    return child("-c", f"from {__name__} import {name}; print({name}(*{arguments!r}))", **environment)


def import_times(ours: str, theirs: str, arguments: list[str]) -> str:
    """Say which packages take more seconds to import in our code than in theirs."""
    sides = []
    for code in (ours, theirs):
        command = [sys.executable, "-X", "importtime", "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        seconds: dict[str, float] = {}
        for line in done.stderr.splitlines():
            if line.startswith("import time:") and "self [us]" not in line:
                spent, _, name = line.removeprefix("import time:").split("|")
                package = name.strip().split(".")[0]
                seconds[package] = seconds.get(package, 0.0) + float(spent) / 1e6
        sides.append(seconds)
    more = {name: spent - sides[1].get(name, 0.0) for name, spent in sides[0].items()}
    largest = sorted(more, key=lambda name: -more[name])[:4]
    return "imports, ours less theirs: " + ", ".join(f"{name} {more[name]:+.2f} s" for name in largest)


# ---------------------------------------------------------------------------------------------- in the child process


def _process_status(field: str) -> float:
    """A field of /proc/self/status in MiB. (`ru_maxrss` would begin with the memory of the parent.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def _memory_now() -> float:
    """MiB in use, of the GPU (as torch counts them) or of the process. The peak of a GPU is counted from here on."""
    if DEVICE == "cpu":
        return _process_status("VmRSS")
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 2**20


def _peak_memory() -> float:
    """The largest number of MiB that was in use so far."""
    return _process_status("VmHWM") if DEVICE == "cpu" else torch.cuda.max_memory_allocated() / 2**20


def memory_of_a_step(whole: bool, checkpointing: bool, size: str, seconds: float) -> float:
    """
    MiB that a training step on four utterances needs at its peak: weights, gradients, Adam's moments, activations.

    On a CPU this is the memory of the process, so that the process must not do anything else.

    Args:
        whole: Train the whole model, or else its two towers alone.
        checkpointing: Use gradient checkpointing.
    """
    if DEVICE == "cpu":
        keep_freed_memory()
    batch = make_batch([seconds] * 4, [100] * 4, size)
    before = _memory_now()
    model = make_model(size).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = make_optimizer(model if whole else nn.ModuleList([model.speech_model, model.text_model]))
    for _ in range(2):  # Adam's moments exist from the second step on
        train_step(lambda: model(**batch).loss if whole else towers_loss(run_towers(model, batch)), optimizer)
    return _peak_memory() - before


def memory_of_predictions(seconds_of_a_batch: float, keep: bool, size: str) -> None:
    """Print the memory in MiB that forward passes over windows and utterances take at their peak, and their time."""
    if keep:
        keep_freed_memory(EVERYTHING)
    model, rng = make_model(size), np.random.default_rng(0)
    before, spent, heard = _memory_now(), 0.0, 0.0
    for lengths in ([30.0] * 8, sorted(rng.uniform(2, 30, 8), reverse=True), [30.0] * 8):
        for part in batches([{"audio": range(int(length * RATE))} for length in lengths], 8, seconds_of_a_batch * RATE):
            seconds = [len(piece["audio"]) / RATE for piece in part]
            batch = make_batch(seconds, [100] * len(part), size)
            spent += clock(forward(lambda batch=batch: model(**batch)))
            heard += sum(seconds)
    print(f"{_peak_memory() - before:.0f} MiB, {1000 * spent / heard:.2f} ms a second of speech")


def seconds_of_a_forward(keep: bool, size: str, seconds: list[float], passes: int = 3) -> float:
    """Median seconds of a forward pass, with freed memory kept or given back to the system."""
    if keep and not keep_freed_memory(EVERYTHING):
        raise RuntimeError("this system's C library cannot be told to keep freed memory")
    model, batch = make_model(size), make_batch(seconds, [100] * len(seconds), size)
    times = [clock(forward(lambda: model(**batch))) for _ in range(passes + 1)]
    return float(np.median(times[1:]))


def train_on_mixed_lengths(size: str, updates: int) -> str:
    """
    Make updates on batches in IEMOCAP's lengths, in the order of a training, after one that warms up.

    Returns:
        JSON with `seconds`, and the most MiB that were `reserved` by the GPU's allocator and `allocated` in them; on a CPU
        both are those of the process.
    """
    model, seconds = make_model(size).train(), IEMOCAP_SECONDS if size != "tiny" else IEMOCAP_SECONDS.clip(max=1.0)
    optimizer = make_optimizer(model)
    batches = iter(LengthBuckets((seconds * RATE).astype(int).tolist(), BATCH, seed=0))

    def update() -> float:
        rows = next(batches)
        batch = make_batch(seconds[rows], [100] * len(rows), size, multiple=PAD_TO_MULTIPLE_OF)
        return clock(lambda: train_step(lambda: model(**batch).loss, optimizer))

    update()
    spent = sum(update() for _ in range(updates))
    reserved = torch.cuda.max_memory_reserved() / 2**20 if DEVICE == "cuda" else _peak_memory()
    return json.dumps({"seconds": spent, "reserved": reserved, "allocated": _peak_memory()})


def train_on_processes(size: str, seconds: float, steps: int = 3) -> None:
    """Print the utterances a second of all processes of torchrun together: 4 utterances and one thread a process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    cuda = DEVICE == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = nn.parallel.DistributedDataParallel(make_model(size).train())
    batch, optimizer = make_batch([seconds] * 4, [100] * 4, size, seed=rank), make_optimizer(model)
    for step in range(steps + 1):
        train_step(lambda: model(**batch).loss, optimizer)
        torch.distributed.barrier()
        if step == 0:  # warm-up
            begin = time.perf_counter()
    if rank == 0:
        print(json.dumps(4 * processes * steps / (time.perf_counter() - begin)), flush=True)
    torch.distributed.barrier()
    leave_process_group()


if __name__ == "__main__":
    train_on_processes(sys.argv[1], float(sys.argv[2]))
