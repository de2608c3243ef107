"""Locks: one run at a time, the holder is named, and a kill leaves nothing behind."""

import os
import subprocess
import sys
import threading
import time

import pytest

from lemer.runtime.locks import InUse, hold, hold_for_all

HOLD = """
import sys, time
from lemer.runtime.locks import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `out.csv`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out.csv"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_another_run_is_refused_by_the_name_of_the_one_that_holds_it(other, tmp_path):
    with pytest.raises(InUse, match=rf"out.csv is being written by another run \(process {other.pid} on .* since "):
        hold(tmp_path / "out.csv").__enter__()
    with hold(tmp_path / "other.csv"):
        assert not (tmp_path / "out.csv").exists()


def test_a_kill_releases_it(other, tmp_path):
    other.kill()
    other.wait()
    with hold(tmp_path / "out.csv"):
        assert f'"process": {os.getpid()}' in (tmp_path / ".out.csv.lock.json").read_text()
    assert not (tmp_path / ".out.csv.lock.json").exists()


def test_it_is_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), hold(tmp_path / "out.csv"):
        raise KeyError
    with hold(tmp_path / "out.csv"):
        pass


@pytest.mark.parametrize("holding", [hold, lambda path: hold_for_all(path, True, wait=True)])
def test_a_run_may_wait_for_another(holding, tmp_path):
    order = []

    def wait():
        with hold(tmp_path / "stage", patience=30) if holding is hold else holding(tmp_path / "stage"):
            order.append("second")

    with hold(tmp_path / "stage"):
        second = threading.Thread(target=wait)
        second.start()
        time.sleep(0.2)
        order.append("first")
    second.join(30)
    assert order == ["first", "second"]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        hold(tmp_path / "file" / "out.csv").__enter__()
    with pytest.raises(InUse, match="cannot be written"):
        hold_for_all(tmp_path / "file" / "out.csv", True).__enter__()
