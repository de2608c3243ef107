from functools import partial

import pytest
from doors import read


@pytest.fixture
def train(tmp_path):
    """`doors.read` with a cache of the test's own."""
    return partial(read, tmp_path / "cache")
