"""The processes of a training: how they were started, and whether they see the same files.

`torchrun --nproc_per_node 2 train.py ...` starts two. Every process calls the functions of this file at the same places.
"""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, str_to_bool

PATIENCE = 5.0  # seconds until a file that one machine wrote has to be seen on another one
# Variables by which `accelerate launch` asks for an engine that cuts the model itself into parts.
ENGINES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "A parallelism config of accelerate",
}


def start_processes(folders: Sequence[Path] = ()) -> PartialState:
    """
    Connect the processes of this run, and check that they can train together.

    Args:
        folders: that every process has to see, since one of them writes there what all of them read.

    Raises:
        ValueError: an engine was asked for that cuts the model into parts, or a process does not see a folder.
        OSError: a folder cannot be written. Every process raises the same error.
    """
    for variable, engine in ENGINES.items():
        if str_to_bool(os.environ.get(variable, "false")):
            raise ValueError(
                f"{engine} is not supported: every process needs the whole model. Start the processes by torchrun; "
                "docs/training.md says how a large tower fits"
            )
    processes = PartialState(cpu=not torch.accelerator.is_available())  # without it, torchrun's processes stay apart
    # accelerate's launcher for one process sets these addresses where it was asked for several.
    if processes.num_processes == 1 and {"ACCELERATE_MIXED_PRECISION", "MASTER_PORT"} <= set(os.environ):
        print(
            "note: this run has one process. `accelerate launch --cpu` starts one, whatever --num_processes says: "
            "`torchrun --nproc_per_node 2 train.py ...` starts two",
            flush=True,
        )
    for folder in folders:
        _check_shared(Path(folder), processes)
    return processes


def _check_shared(folder: Path, processes: PartialState) -> None:
    """Check that all processes see one folder, by a file that the main process writes there for a moment."""
    if processes.num_processes == 1:
        return
    note = [f".shared-{uuid4().hex}", None]
    if processes.is_main_process:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / note[0]).touch()
        except OSError as error:
            note[1] = str(error)
    broadcast_object_list(note)
    name, error = note
    if error is not None:
        raise OSError(f"{folder} cannot be written: {error}")
    end = time.monotonic() + PATIENCE
    while not (is_seen := (folder / name).exists()) and time.monotonic() < end:
        time.sleep(0.1)
    answers = gather_object([(processes.process_index, socket.gethostname(), is_seen)])
    if processes.is_main_process:
        (folder / name).unlink()
    blind = [f"process {index} on {machine}" for index, machine, is_seen in answers if not is_seen]
    if blind:
        raise ValueError(
            f"{folder} is another folder for {', '.join(blind)} than for process 0 on {answers[0][1]}: all machines of a "
            "run need one file system, and the same path to this folder on it"
        )


def check_same_corpus(fingerprint: str, processes: PartialState) -> None:
    """Raise a `ValueError` in every process where one of them has loaded other rows than the main process."""
    answers = gather_object([(processes.process_index, socket.gethostname(), fingerprint)])
    others = [f"process {index} on {machine}" for index, machine, theirs in answers if theirs != answers[0][2]]
    if others:
        raise ValueError(
            f"{', '.join(others)} loaded another corpus than process 0 on {answers[0][1]}: every machine of a run needs the "
            "same files"
        )
