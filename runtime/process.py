"""Memory of a process that computes on a CPU."""

import ctypes

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
