"""What a script sets up when it starts, and how it leaves the other processes of its run."""

import ctypes
import time

import torch

# Of glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

EVERYTHING = 2**31 - 1  # bytes: the largest number that glibc takes


def keep_freed_memory(largest: int = 2**26) -> bool:
    """
    Let the C library keep the memory of freed tensors for the next ones, in this process and those forked from it.

    By itself glibc gives a large block back to the system when it is freed, so that every large activation is made of new
    pages, which the system must find and clear one by one: a fifth of a forward pass (`benchmarks/LOG.md`). What the process
    holds at its peak stays its own until it ends.

    Args:
        largest: blocks of up to so many bytes are kept. [`EVERYTHING`] is faster for long recordings, but leaves gaps
            between the blocks, which cost a training step up to half of its memory, and a forward pass over minutes of
            speech as much as it takes again; up to 64 MiB they cost a hundredth.

    Returns:
        Whether it could be done: with glibc, so on most Linux systems. Elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    never = -1  # as a size, the largest there is
    return bool(mallopt(M_TRIM_THRESHOLD, never) and mallopt(M_MMAP_THRESHOLD, largest))


def set_up_process(largest: int | None = 2**26) -> None:
    """
    Settings of a process that runs models: it keeps freed memory, and on a GPU leaves cuDNN's attention out.

    Args:
        largest: blocks of up to so many bytes are kept, see [`keep_freed_memory`]; None leaves the C library as it is.
    """
    if largest is not None:
        keep_freed_memory(largest)
    # cuDNN's attention plans every length that it has not seen, which takes a second (benchmarks/LOG.md).
    torch.backends.cuda.enable_cudnn_sdp(False)


def leave_process_group() -> None:
    """End this process's part in a run of several processes; of a run of one there is nothing to end."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        time.sleep(0.3)  # a worker thread of gloo that outlives the interpreter aborts the process
        torch.distributed.destroy_process_group()
