"""What a process does with the memory that it frees."""

import platform
import resource

import pytest
import torch
from warm import SERVER

from lemer.runtime.process import EVERYTHING, keep_freed_memory


def count_page_faults(arguments: tuple | None, mib: int, connection) -> None:
    """
    The body of a process: send the pages that the system found for ten tensors, one after the other.

    Args:
        arguments: of `keep_freed_memory`; None to give freed memory back.
        mib: size of a tensor in MiB.
    """
    assert arguments is None or keep_freed_memory(*arguments)
    torch.ones(mib * 2**18)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(mib * 2**18)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
@pytest.mark.parametrize(("arguments", "mib"), [((EVERYTHING,), 80), ((), 40)])
def test_kept_memory_is_used_again(arguments, mib):
    faults = []
    for mode in (arguments, None):
        receiver, sender = SERVER.Pipe(duplex=False)
        process = SERVER.Process(target=count_page_faults, args=(mode, mib, sender))
        process.start()
        faults.append(receiver.recv())
        process.join(60)
    kept, given_back = faults
    assert kept * 4 < given_back  # not for the first few: small pieces between them are not joined at once
