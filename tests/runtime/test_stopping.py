"""How a command ends: one line and a status for what the user can mend, a traceback for what is a mistake of ours."""

import ast

import datasets.exceptions
import huggingface_hub.constants
import pytest
import safetensors
import torch
from huggingface_hub.errors import StrictDataclassError

from lemer.__main__ import COMMANDS
from lemer.runtime.stopping import Terminated, run_command


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (OSError(28, "No space left on device", "a.csv"), "[Errno 28] No space left on device: 'a.csv'"),
        (FloatingPointError("nan"), "nan"),
        (MemoryError(), "there is not enough memory"),
        (datasets.exceptions.DatasetsError("wrapped"), "wrapped"),
        (StrictDataclassError("a field"), "a field"),
        (safetensors.SafetensorError("a header"), "a header"),
        (torch.OutOfMemoryError("of a GPU"), "of a GPU"),
        (ImportError("our words"), "our words"),
        (
            ModuleNotFoundError("No module named 'onnx.helper'", name="onnx.helper"),
            "No module named 'onnx.helper': this needs the library onnx (pip install 'lemer[onnx]')",
        ),
        (ValueError(), "ValueError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_user_can_mend_is_one_line(capsys, error, line):
    assert run_command("lemer x", raising(error), "safe", failure=3) == 3
    assert capsys.readouterr().err == f"lemer x: {line}\n"


def test_the_cause_of_an_error_of_datasets_is_told(capsys):
    error = datasets.exceptions.DatasetGenerationError("An error occurred")
    error.__cause__ = OSError("disk full")
    assert run_command("lemer x", raising(error), "safe") == 1
    assert capsys.readouterr().err == "lemer x: disk full\n"


def test_a_cache_that_cannot_be_written_is_told_with_its_name(capsys):
    home = huggingface_hub.constants.HF_HOME
    run_command("lemer x", raising(PermissionError(13, "Permission denied", f"{home}/token")), "safe")
    assert f"{home}/token" in (line := capsys.readouterr().err) and "set HF_HOME to a folder" in line


@pytest.mark.parametrize("error", [KeyError("x"), TypeError(), RuntimeError(), ImportError("x", name="lemer.gone")])
def test_a_mistake_of_ours_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_command("lemer x", raising(error), "safe")


@pytest.mark.parametrize(("error", "status", "name"), [(KeyboardInterrupt, 130, "Ctrl-C"), (Terminated, 143, "SIGTERM")])
def test_a_stop_says_what_is_safe(capsys, error, status, name):
    assert run_command("lemer x", raising(error()), "All is safe") == status
    assert capsys.readouterr().err == f"lemer x: stopped by {name}. All is safe\n"


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_ends_so(words):
    """No command catches errors by a list of its own."""
    import importlib
    from pathlib import Path

    tree = ast.parse(Path(importlib.import_module(COMMANDS[words][0]).__file__).read_text(encoding="utf-8"))
    (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    calls = {node.func.id for node in ast.walk(main) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "run_command" in calls and not [node for node in ast.walk(main) if isinstance(node, ast.Try)]
