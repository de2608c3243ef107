"""Set up a process that runs models, and end its part in a run of several processes."""

import ctypes
import time

import torch

# Parameters of mallopt, from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

EVERYTHING = 2**31 - 1  # bytes: the largest number that glibc takes


def keep_freed_memory(largest: int = 2**26) -> bool:
    """
    Let the C library keep the memory of freed tensors for new ones, in this process and in processes forked from it.

    By default glibc returns a large block to the system when it is freed, so that every large activation needs new pages,
    which the system must find and clear: this takes a fifth of a forward pass (`benchmarks/LOG.md`). In exchange, the
    process keeps the memory that it holds at its peak until it ends.

    Args:
        largest: keep blocks of up to this many bytes. `EVERYTHING` is faster for long recordings, but the gaps between
            blocks can take half as much memory again in a training step, and as much again in a forward pass over minutes
            of speech. With the default of 64 MiB they take a hundredth.

    Returns:
        Whether the C library could be set up, which needs glibc, so most Linux systems. Elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    never = -1  # as a size, the largest there is
    return bool(mallopt(M_TRIM_THRESHOLD, never) and mallopt(M_MMAP_THRESHOLD, largest))


def share_freed_memory(arenas: int = 2) -> bool:
    """
    Let the threads of this process share few pools of memory (arenas), so that a server's memory does not grow with them.

    By default glibc gives every thread a pool, up to eight for each core, and a pool keeps what was freed in it. A server
    whose requests run in changing threads fills them all (`docs/using.md` has what that takes). To be called before threads
    are started.

    Returns:
        Whether the C library could be set up, which needs glibc. Elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_ARENA_MAX, arenas))


def return_freed_memory() -> None:
    """Give back to the system what glibc keeps of freed memory. It takes about a millisecond; elsewhere nothing happens."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass


def set_up_process(largest: int | None = 2**26) -> None:
    """
    Set up a process that runs models: it keeps freed memory, and on a GPU it does not use the attention of cuDNN.

    Args:
        largest: keep blocks of up to this many bytes, see `keep_freed_memory`; None leaves the C library as it is.
    """
    if largest is not None:
        keep_freed_memory(largest)
    # cuDNN plans its attention for every new length, which takes about a second each time (benchmarks/LOG.md).
    torch.backends.cuda.enable_cudnn_sdp(False)


def leave_process_group() -> None:
    """End the part of this process in a run of several processes. In a run of one process it does nothing."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        time.sleep(0.3)  # gloo's worker threads must end first: one that outlives the interpreter aborts the process
        torch.distributed.destroy_process_group()
