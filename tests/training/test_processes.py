"""Processes that cannot train together are told so at the start, in one sentence."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from lemer.training import processes as module
from lemer.training.processes import ENGINES, check_same_corpus, start_processes


@pytest.mark.parametrize("variable", ENGINES)
def test_an_engine_that_cuts_the_model_is_refused(variable, monkeypatch):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ValueError, match=f"{ENGINES[variable]} is not supported: .*torchrun"):
        start_processes()


def test_one_process_where_several_were_asked_for_is_said(monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert start_processes().num_processes == 1
    assert "this run has one process" in capsys.readouterr().out


def test_one_process_alone_says_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("MASTER_PORT", raising=False)
    start_processes([tmp_path])
    assert capsys.readouterr().out == ""


@pytest.fixture
def two(monkeypatch):
    """
    Two processes in one. `two(theirs)` gives the main process, and what the other one answers.

    What the main process broadcasts is kept in `two.sent`.
    """
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    sent = []

    def processes(theirs):
        monkeypatch.setattr(module, "broadcast_object_list", sent.append)
        monkeypatch.setattr(module, "gather_object", lambda mine: [*mine, (1, "other", theirs)])
        return SimpleNamespace(num_processes=2, is_main_process=True, process_index=0)

    return SimpleNamespace(processes=processes, sent=sent)


def test_a_folder_that_both_processes_see_is_left_as_it_was(two, tmp_path):
    module._check_shared(tmp_path / "runs", two.processes(True))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_that_one_process_does_not_see_is_named_with_its_machine(two, tmp_path):
    with pytest.raises(ValueError, match=r"runs is another folder for process 1 on other than for process 0 on .*one file"):
        module._check_shared(tmp_path / "runs", two.processes(False))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_to_all_processes(two, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        module._check_shared(Path(tmp_path / "file" / "runs"), two.processes(True))
    assert two.sent[0][1] is not None


def test_another_corpus_in_one_process_is_refused(two):
    with pytest.raises(ValueError, match="process 1 on other loaded another corpus"):
        check_same_corpus("a", two.processes("b"))
    check_same_corpus("a", two.processes("a"))
