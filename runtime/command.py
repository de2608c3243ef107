"""How a command is called: `lemer predict` and `python predict.py` run the same code, and each says its own name."""

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

_called_as: ContextVar[str | None] = ContextVar("called_as", default=None)

# `make demo` writes a checkpoint to this folder.
DEMO_CHECKPOINT = "demo/runs/speech_and_words/fold5/seed0/checkpoint"


@contextmanager
def called_as(name: str) -> Iterator[None]:
    """Inside this context a command calls itself `name`, such as "lemer predict"."""
    token = _called_as.set(name)
    try:
        yield
    finally:
        _called_as.reset(token)


def program(name: str) -> str:
    """Return how the user called this command: "lemer predict" and the like, or `name` where its file was run."""
    return _called_as.get() or name


def command_parser(name: str, example: str, description: str | None) -> argparse.ArgumentParser:
    """
    Make the parser of a command, whose help begins with an example that can be run.

    Args:
        name: the command without `lemer`, such as "predict.py" or "python -m lemer.evaluation.report".
        example: arguments of the example.
        description: the text below the example. Where it says `python predict.py`, it will say how the user called it.
    """
    typed = name if name.startswith("python ") else f"python {name}"
    return argparse.ArgumentParser(
        prog=program(name),
        usage=f"{program(typed)} {example} [options]",
        description=description and description.replace(typed, program(typed)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def check_checkpoint(parser: argparse.ArgumentParser, checkpoint: str | None, hint: str = "") -> None:
    """End the process and say how to get a checkpoint, where none is named or its placeholder was copied from a page."""
    if not checkpoint or (checkpoint == "CHECKPOINT" and not Path(checkpoint).exists()):
        parser.error(
            "name a checkpoint. `lemer train` writes one for every fold and seed, `make demo` in a clone trains a small one "
            f"in minutes ({DEMO_CHECKPOINT}), and a published one has a name on the Hub, such as user/name"
            + (f". {hint}" if hint else "")
        )


class Share(NamedTuple):
    """
    The part of a work that one of several processes does.

    Attributes:
        index: of the process, from 0.
        count: of the processes.
    """

    index: int
    count: int

    def name(self, path: Path) -> Path:
        """The file of this part: answers.jsonl -> answers-00003-of-00008.jsonl."""
        return path.with_name(f"{path.stem}-{self.index:05d}-of-{self.count:05d}{path.suffix}")


def read_share(text: str | None) -> Share | None:
    """
    The part that an option such as "3/8" names; without one, that of a process of torchrun or `accelerate launch`.

    Returns:
        None where all is done by one process.

    Raises:
        ValueError: the option is no I/N with I from 0 to N - 1.
    """
    if text is None:
        count = int(os.environ.get("WORLD_SIZE", 1))
        return Share(int(os.environ["RANK"]), count) if count > 1 and "RANK" in os.environ else None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    share = Share(int(match[1]), int(match[2])) if match else None
    if share is None or share.index >= share.count:
        raise ValueError(f"--shard must be I/N with I from 0 to N - 1, such as 0/8 to 7/8, got {text}")
    return share


def device_of_process() -> str | None:
    """The accelerator of this process, where torchrun or `accelerate launch` started several on one machine."""
    import torch  # loaded late, since a command that only shows its help need not wait for it

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or "LOCAL_RANK" not in os.environ:
        return None
    return f"{accelerator.type}:{os.environ['LOCAL_RANK']}"
