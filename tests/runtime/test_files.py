"""Files and folders that are complete or not there, also when several processes write them."""

import csv
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lemer.runtime.files import as_cell, format_csv, from_cell, replace_files, whole_folder, write_atomically, writing

CONTENTS = ["text with ü and\r\nline ends of both\nkinds", b"\x89PNG\r\n\x00\xff", "", b""]


@pytest.mark.parametrize("content", CONTENTS, ids=repr)
def test_text_and_bytes_are_written_as_they_are(content, tmp_path):
    path = tmp_path / "file"
    for target in (path, str(path)):
        write_atomically(target, content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode("utf-8"))
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("bad", ["folder", "missing/file"])
def test_of_several_files_all_are_written_or_none(bad, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match=bad):
        replace_files({tmp_path / "a": "new", tmp_path / bad: "new"})
    assert (tmp_path / "a").read_text() == "old" and sorted(os.listdir(tmp_path)) == ["a", "folder"]
    replace_files({tmp_path / "a": "new", tmp_path / "b": b"new"})
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new"


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file", "new \ud800")
    assert (tmp_path / "file").read_text() == "old" and os.listdir(tmp_path) == ["file"]


def write_often(path: str, letter: str):
    for _ in range(30):
        write_atomically(path, letter * 100_000)


def test_processes_that_write_the_same_file_never_mix_it(tmp_path):
    path = tmp_path / "file"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_often, args=(str(path), letter)) for letter in "abc"]
    for process in processes:
        process.start()
    seen = set()
    while any(process.is_alive() for process in processes):
        if path.exists():
            seen.add(path.read_text())
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert seen and all(len(text) == 100_000 and len(set(text)) == 1 for text in seen)
    assert os.listdir(tmp_path) == ["file"]


def test_processes_that_fill_the_same_folder_have_a_temporary_one_each(tmp_path):
    code = "import sys, lemer.runtime.files as f\n"
    code += "with f.whole_folder(sys.argv[1]) as folder:\n  print(folder, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "folder")]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    names = [Path(other.stdout.readline().strip()) for other in others]
    assert len(set(names)) == 2 and all(name.is_dir() and name.suffix == ".tmp" for name in names)
    for other in others:
        other.communicate()
        assert other.returncode == 0
    assert os.listdir(tmp_path) == ["folder"]


CUT = {
    "file": "import sys, os, lemer.runtime.files as f\nos.fsync = lambda _: (print(flush=True), sys.stdin.read())\n"
    "f.write_atomically(sys.argv[1], 'new')",
    "folder": "import sys, lemer.runtime.files as f\nwith f.whole_folder(sys.argv[1]) as folder:\n"
    "  (folder / 'new').touch(); print(flush=True); sys.stdin.read()",
}


@pytest.mark.parametrize("kind", CUT)
def test_what_a_killed_process_left_is_removed_by_the_next_writer(kind, tmp_path):
    path = tmp_path / "target"
    other = subprocess.Popen(
        [sys.executable, "-c", CUT[kind], str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    other.stdout.readline()
    left = f"target.{socket.gethostname()}.{other.pid}.tmp"
    elsewhere = f"target.other-machine.{other.pid}.tmp"
    (tmp_path / elsewhere).touch()
    assert left in os.listdir(tmp_path)
    write_atomically(tmp_path / "target", "mine")  # the other process lives, so its work is left alone
    assert left in os.listdir(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    write_atomically(tmp_path / "target", "mine")
    assert sorted(os.listdir(tmp_path)) == ["target", elsewhere] and path.read_text() == "mine"


def test_a_folder_is_replaced_only_when_the_block_has_ended_well(tmp_path):
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "old").touch()
    with pytest.raises(KeyError), whole_folder(tmp_path / "folder") as folder:
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("no space left")])
def test_every_error_of_saving_names_the_path_and_what_to_do(error):
    with (
        pytest.raises(OSError, match=r"model could not be written: no space left\. .* same command again"),
        writing("model"),
    ):
        raise error


def test_files_of_a_folder_have_the_permissions_that_the_umask_says(tmp_path):
    """safetensors writes for its owner alone."""
    (tmp_path / "usual").touch()
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "deep").mkdir()
        save_file({"a": torch.zeros(2)}, folder / "deep" / "model.safetensors")
        (folder / "run").touch(mode=0o700)
    usual = (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "folder/deep/model.safetensors").stat().st_mode == usual
    assert (tmp_path / "folder/run").stat().st_mode & 0o777 == 0o700 | usual & 0o666


CELLS = st.text(alphabet="=+-@'\t\r\n,\" 1.aé", max_size=6)


@given(CELLS)
def test_no_cell_is_a_formula_and_every_text_comes_back(text):
    assert from_cell(as_cell(text)) == text and as_cell(text)[:1] not in ("=", "+", "-", "@", "\t", "\r")


def test_a_csv_file_has_texts_that_nobody_computes_and_numbers_as_they_are():
    text = format_csv(["id", "-x"], [["=1+1", -0.5], ["@sum(1)", "-0.5"], ["a", None]])
    assert text == "id,'-x\n'=1+1,-0.5\n'@sum(1),'-0.5\na,\n"
    assert [[from_cell(cell) for cell in row] for row in csv.reader(text.splitlines())][1] == ["=1+1", "-0.5"]
