"""What all tests share: no network, no progress bars, caches of their own, no deadlines, and no GPU but for test_gpu.py."""

import logging
import os
import tempfile

_HOME = tempfile.TemporaryDirectory(prefix="lemer_tests_")  # removed at exit
os.environ.update(
    HF_HOME=_HOME.name,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    DO_NOT_TRACK="1",
    OMP_NUM_THREADS="1",  # a file of tests runs on every core, and the last bits depend on the number of threads
)
if "LEMER_TEST_GPU" not in os.environ:  # `make test-gpu`; the other tests compare bits, and run two processes on a device
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import datasets  # noqa: E402
import evaluate  # noqa: E402
import pytest  # noqa: E402
import transformers  # noqa: E402
from dialogs import DIALOG, TURNS  # noqa: E402
from hypothesis import settings  # noqa: E402
from releases import write_dialog, write_release  # noqa: E402
from tiny import shorten_second_stage  # noqa: E402

datasets.disable_progress_bars()
evaluate.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()
# The same examples in every run, so that a failure is one for everybody, and none for a slow machine.
settings.register_profile("lemer", deadline=None, derandomize=True)
settings.load_profile("lemer")
shorten_second_stage()


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Commands say less than libraries do, and their processes end; here they are functions, and the next test goes on."""
    verbosity, level = transformers.utils.logging.get_verbosity(), logging.getLogger().level
    yield
    transformers.utils.logging.set_verbosity(verbosity)
    logging.getLogger().setLevel(level)


@pytest.fixture
def small(tmp_path):
    """A release of one dialog: neu, ang, fru, sad."""
    return write_dialog(tmp_path / "small", DIALOG, TURNS)


@pytest.fixture(scope="module")
def five_sessions(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("release") / "five")
