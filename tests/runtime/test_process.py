"""What a process does with the memory that it frees."""

import platform
import subprocess
import sys

import pytest

# Pages that sixty tensors of so many MiB, one after the other, make the system find.
CODE = """
import resource, sys
import torch
from lemer.runtime.process import EVERYTHING, keep_freed_memory
assert sys.argv[1] == "given back" or keep_freed_memory(*eval(sys.argv[1]))
make = lambda: torch.ones(int(sys.argv[2]) * 2**18)
make()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(60):
    make()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
@pytest.mark.parametrize(("arguments", "size"), [("(EVERYTHING,)", "80"), ("()", "40")])
def test_kept_memory_is_used_again(arguments, size):
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", CODE, mode, size], capture_output=True, check=True).stdout)
        for mode in (arguments, "given back")
    )
    assert kept * 4 < given_back  # not for the first few: small pieces between them are not joined at once
