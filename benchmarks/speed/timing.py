"""Clocks and comparisons of the speed table: every ratio comes from two calls that are timed in turn."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass
class Entry:
    """
    One ratio of the table.

    Attributes:
        row: Letter of the row.
        what: The two things that are compared, "ours / theirs".
        values: The ratio of every pair of runs.
        target: ("at most" or "at least", number), or None where the ratio has no target.
        same: How the two sides were checked to do the same work.
        ours, theirs: Median seconds of each side, or None where the ratio does not compare times.
        measured: What was measured about a missed target, and other figures of the row.
        towers: Size of the towers.
        median, quartiles: Of `values`; computed.
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
        """Whether the median meets the target; None without a target."""
        if self.target is None:
            return None
        bound, number = self.target
        return self.median <= number if bound == "at most" else self.median >= number


# ------------------------------------------------------------------------------------------------------------- times


def clock(run: Callable) -> float:
    """Seconds that a call takes, with everything that it has started on a GPU."""
    begin = time.perf_counter()
    run()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def alternate(ours: Callable, theirs: Callable, pairs: int, timer: Callable = clock) -> list[tuple[float, float]]:
    """
    Time two calls in turn, after one warm-up of each. Every other pair begins with theirs.

    Returns:
        The seconds (ours, theirs) of every pair.
    """
    timer(theirs), timer(ours)
    times = []
    for pair in range(pairs):
        if pair % 2:
            their_seconds = timer(theirs)
            times.append((timer(ours), their_seconds))
        else:
            times.append((timer(ours), timer(theirs)))
    return times


def as_entry(
    row: str, what: str, times: list[tuple[float, float]], target=None, same: str = "", speed: bool = False
) -> Entry:
    """An entry from the seconds (ours, theirs) of every pair: a ratio of times, or with `speed` a ratio of speeds."""
    values = [theirs / ours if speed else ours / theirs for ours, theirs in times]
    ours, theirs = np.median(times, axis=0).tolist()
    return Entry(row, what, values, target, same, ours, theirs)


def compare(
    row: str, what: str, ours: Callable, theirs: Callable, pairs: int, target=None, same: str = "", speed: bool = False
) -> Entry:
    """
    Time two calls and make an entry of them, a ratio of times, or with `speed` a ratio of speeds.

    Where the target is missed, both calls are profiled, and the entry says which operations differ most.
    """
    entry = as_entry(row, what, alternate(ours, theirs, pairs), target, same, speed)
    if entry.met is False:
        entry.measured = compare_operations(ours, theirs)
    return entry


# -------------------------------------------------------------------------------------------------------- operations


def operation_times(run: Callable) -> dict[str, tuple[float, int]]:
    """Milliseconds that every operation (on a GPU: every kernel) of a call takes by itself, and how often it ran."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # without this the profiler prints lines of its own
    cuda = DEVICE == "cuda"
    activity = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profile:
        clock(run)
    times = {
        event.key: ((event.self_device_time_total if cuda else event.self_cpu_time_total) / 1000, event.count)
        for event in profile.key_averages()
    }
    return {name: (spent, count) for name, (spent, count) in times.items() if spent > 0}


def compare_operations(ours: Callable, theirs: Callable, runs: int = 2, shown: int = 4) -> str:
    """Say which operations differ most in time between two calls, and on a GPU how many kernels each call starts."""
    more: dict[str, float] = {}  # our milliseconds less theirs
    kernels = {1: 0, -1: 0}
    for sign, run in ((1, ours), (-1, theirs)) * runs:
        for name, (spent, count) in operation_times(run).items():
            more[name] = more.get(name, 0.0) + sign * spent / runs
            kernels[sign] += count
    largest = sorted(more, key=lambda name: -more[name])[:shown]
    parts = [f"{name.removeprefix('aten::')[:60]} {more[name]:+.1f} ms" for name in largest if more[name] > 0.05]
    parts += [f"all {sum(more.values()):+.1f} ms"]
    started = f"{kernels[1] / runs:.0f} and {kernels[-1] / runs:.0f} kernels; " if DEVICE == "cuda" else ""
    return f"{started}own time, ours less theirs: {', '.join(parts)}".replace("|", "/")


def flops(run: Callable) -> int:
    """Multiplications and additions in the matrix products, convolutions and attentions of a call."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # torch's counter does not know this one
    mapping = {attention: lambda query, key, value, *_, out_shape=None, **__: sdpa_flop(query, key, value)}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


# -------------------------------------------------------------------------------------------------------- both sides


def precision() -> AbstractContextManager:
    """Autocast to bf16 on a GPU; float32 on a CPU."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda")


def forward(run: Callable) -> Callable:
    """The same call without gradients, in the precision of the device."""

    def call():
        with torch.no_grad(), precision():
            return run()

    return call


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """
    Largest difference between two results, relative to the root mean square of theirs.

    Raises:
        AssertionError: if the shapes differ, or if the difference is too large to come from rounding.
    """
    ours, theirs = ours.detach().float(), theirs.detach().float()
    if ours.shape != theirs.shape:
        raise AssertionError(f"the two sides give {tuple(ours.shape)} and {tuple(theirs.shape)}")
    largest = ((ours - theirs).abs().max() / theirs.square().mean().sqrt()).item()
    if not largest < (2e-3 if DEVICE == "cpu" else 0.2):
        raise AssertionError(f"the two sides differ by {largest:.2g} of the root mean square")
    return largest
