"""Moved to `lemer.runtime.process`; this name is kept for one release."""

import warnings

from .runtime.process import EVERYTHING, keep_freed_memory

warnings.warn(
    "lemer.memory has moved: import keep_freed_memory and EVERYTHING from lemer.runtime.process",
    DeprecationWarning,
    stacklevel=2,
)

__all__ = ["EVERYTHING", "keep_freed_memory"]
