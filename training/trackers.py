"""Where a training shows its losses and scores while it runs: log.jsonl always, and accelerate's trackers on request."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import LoggerType

from .settings import LOG_ALONE
from .states import JsonLinesTracker

PROJECT = "lemer"  # in which a tracker puts all runs together


def check_trackers(names: Sequence[str]) -> None:
    """Raise a `ValueError` for a tracker whose package is not installed, which accelerate leaves out without a word."""
    available = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    for name in names:
        if name != LOG_ALONE and name not in available:
            raise ValueError(f"--report_to {name}: the package {name} is not installed. Try `pip install {name}`")


def trackers_of(folder: Path, names: Sequence[str]) -> list[str | LoggerType | GeneralTracker]:
    """What `Accelerator(log_with=...)` takes: the log of `folder`, which the reports read, and the named trackers."""
    return [JsonLinesTracker(folder / "log.jsonl"), *(name for name in names if name != LOG_ALONE)]


def start_trackers(accelerator: Accelerator, folder: Path, step: int, settings: dict) -> None:
    """
    Start the trackers of a training, and cut off its log what comes after the state that it goes on from.

    Args:
        folder: RUN/fold<k>/seed<s>, whose three names become the name of the tracker's run.
        step: updates that are done.
        settings: shown beside the run.
    """
    name = "-".join(folder.resolve().parts[-3:])
    ours = {
        "tensorboard": {"purge_step": step + 1} if step else {},
        # A training that goes on writes into the tracker's run of before.
        "trackio": {"name": name, "resume": "allow" if step else "never"},
        "wandb": {"name": name},
        "mlflow": {"run_name": name},
    }
    accelerator.init_trackers(PROJECT, settings, ours)
    JsonLinesTracker(folder / "log.jsonl").rewind(step)


def scalar_settings(args: Namespace, left_out: set[str]) -> dict[str, str | int | float | bool]:
    """The options that are one number or word, which is what every tracker can show; without those of `left_out`."""
    return {
        name: value for name, value in vars(args).items() if name not in left_out and isinstance(value, str | int | float)
    }
