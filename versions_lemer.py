"""Which versions of transformers this code works with. The first import of every file that transformers opens by itself.

This file travels with every checkpoint.
"""

import re

import transformers

# Before 5.16 the encoders of transformers do not hand `padding` on to their layers: padded rows silently get other scores.
OLDEST_TRANSFORMERS = (5, 16)


def check_transformers(found: str) -> None:
    """
    Refuse a version of transformers that is too old.

    Args:
        found: the version, such as "5.23.0" or "5.16.0.dev0".

    Raises:
        ImportError: it is older than `OLDEST_TRANSFORMERS`.
    """
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST_TRANSFORMERS:
        needed = ".".join(map(str, OLDEST_TRANSFORMERS))
        raise ImportError(f"lemer needs transformers >= {needed}, found {found}: pip install -U transformers")


check_transformers(transformers.__version__)
