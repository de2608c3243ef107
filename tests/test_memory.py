"""What a process does with the memory that it frees."""

import platform
import subprocess
import sys

import pytest

# Pages that sixty tensors of 64 MiB, one after the other, make the system find.
CODE = """
import resource, sys
import torch
from lemer.memory import keep_freed_memory
assert sys.argv[1] == "given back" or keep_freed_memory()
make = lambda: torch.ones(2**24)
make()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(60):
    make()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_kept_memory_is_used_again():
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", CODE, mode], capture_output=True, check=True).stdout)
        for mode in ("kept", "given back")
    )
    assert kept * 4 < given_back  # not for the first few: small pieces between them are not joined at once
