"""Moved to `lemer.runtime.onednn`; this name is kept for one release."""

import warnings

from .runtime.onednn import multiply_by_onednn

warnings.warn(
    "lemer.onednn has moved: import multiply_by_onednn from lemer.runtime.onednn", DeprecationWarning, stacklevel=2
)

__all__ = ["multiply_by_onednn"]
