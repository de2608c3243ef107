"""The IEMOCAP loader from outside: the folder, options, cache, report, manifest and command line."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets.exceptions import ManualDownloadError
from dialogs import (
    ALL,
    DIALOG,
    TRANSCRIPTS,
    TURNS,
    ZEROS,
    append,
    load,
    names,
    recording,
    replace_in,
    samples,
    wav,
)
from releases import (
    Turn,
    label_file,
    transcript_file,
    wav_file,
    write_dialog,
    write_release,
)
from warm import start

from lemer.corpora import iemocap
from lemer.corpora.iemocap import Iemocap, load_iemocap, main, manifest
from lemer.corpora.release import KINDS, find_release

# The door


def test_the_folder_above_and_a_session_are_the_release_too(small, monkeypatch):
    assert find_release(small) == str(small)
    assert find_release(small.parent) == str(small)
    assert find_release(small / "Session1") == str(small)
    monkeypatch.setenv("HOME", str(small.parent))
    assert find_release("~/small") == str(small)
    monkeypatch.chdir(small.parent)
    assert find_release("./small/") == str(small)


def test_two_releases_in_one_folder_are_refused(small):
    write_dialog(small.parent / "other", DIALOG, TURNS)
    with pytest.raises(ValueError, match="several releases: other, small"):
        load_iemocap(small.parent)


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; expected the IEMOCAP release"):
        load_iemocap(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="empty"):
        load_iemocap("")


def test_a_file_in_place_of_the_folder_says_so(tmp_path):
    (tmp_path / "release.tar").write_text("")
    with pytest.raises(NotADirectoryError, match="release.tar is a file"):
        load_iemocap(tmp_path / "release.tar")


def test_another_folder_names_what_was_looked_for_and_who_gives_the_corpus_out(tmp_path):
    (tmp_path / "Session1").mkdir()
    with pytest.raises(ManualDownloadError, match=r"Session1 to Session5.*dialog/EmoEvaluation.*USC SAIL.*request"):
        load_iemocap(tmp_path)
    with pytest.raises(ManualDownloadError, match="USC SAIL"):
        Iemocap()


def test_a_corpus_without_a_usable_sample_is_an_error(small):
    for turn in ALL:
        wav(turn)(small).unlink()
    with pytest.raises(ValueError, match="no usable turn .* 4 evaluated turns, .*3 audio_missing"):
        load(small)


def test_a_corpus_without_labels_is_an_error(small):
    label_file(small, DIALOG).write_bytes(b"")
    with pytest.raises(ValueError, match="no evaluated turn in .*1 label_file_empty"):
        load(small)
    label_file(small, DIALOG).unlink()
    with pytest.raises(ValueError, match="no evaluated turn in .*1 label_file_missing"):
        load(small)


def test_a_session_without_evaluated_turns_leaves_the_others(tmp_path):
    root = write_release(tmp_path / "r", sessions=2)
    for path in (root / "Session1" / "dialog" / "EmoEvaluation").iterdir():
        path.write_bytes(b"")
    dataset, report = load(root)
    assert set(dataset["session"]) == {2} and len(report.notes["label_file_empty"]) == 2


def test_max_bad_counts_damage_but_no_dropped_classes(five_sessions, tmp_path):
    load(five_sessions, max_bad=0)
    root = write_release(tmp_path / "r", sessions=4)
    next(root.glob("Session1/sentences/wav/*_impro01/*_F000.wav")).write_text("")
    append(label_file(root, DIALOG), "[broken\n[broken\n")
    with pytest.raises(ValueError, match=r"damaged items .* max_bad allows 1; commonest: 2 malformed_label_line, "):
        load(root, max_bad=1)
    _, report = load(root, max_bad=4)
    assert report.notes["session_missing"] == ["Session5"]


@pytest.mark.parametrize("options", [{"num_proc": 0}, {"max_bad": -1}])
def test_options_out_of_range_are_refused(small, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        load(small, **options)


# Cache and processes


def test_two_processes_give_the_rows_of_one(five_sessions, tmp_path):
    one, report = load_iemocap(five_sessions, cache_dir=tmp_path / "1", num_proc=1)
    two, report_of_two = load_iemocap(five_sessions, cache_dir=tmp_path / "2", num_proc=2)
    assert one.to_list() == two.to_list() and one.features == two.features
    assert report == report_of_two


def test_the_second_load_decodes_nothing(small, monkeypatch):
    first, report = load(small)
    monkeypatch.setattr(iemocap, "check_audio", None)
    second, report_of_second = load(small)
    assert first.to_list() == second.to_list() and report == report_of_second
    assert first._fingerprint == second._fingerprint


def test_a_changed_corpus_is_read_again(small):
    load(small)
    replace_in(label_file(small, DIALOG), "\tang\t", "\tsad\t")
    assert load(small)[0]["emotion"][1] == "sad"
    replace_in(transcript_file(small, DIALOG), "one", "changed")
    assert load(small)[0]["text"][0] == "changed"
    recording("F000", ZEROS[:7000])(small)
    assert load(small)[0]["num_frames"][0] == 7000
    wav_file(small, f"{DIALOG}_F000").unlink()
    assert load(small)[0]["label"][0] == -1


def test_relative_paths_of_two_corpora_do_not_share_a_cache(tmp_path, monkeypatch):
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_dialog(Path("corpus"), DIALOG, [Turn("F000", 0, 0.5, "neu", name)])
        texts += load_iemocap("corpus", cache_dir=tmp_path / "cache")[0]["text"]
    assert texts == ["a", "b"]


def test_after_a_kill_the_next_run_starts_cleanly(small):
    script = (
        "import os, sys\nfrom lemer.corpora import iemocap\n"
        "iemocap.check_audio = lambda path, span: os._exit(9)\n"
        "iemocap.load_iemocap(sys.argv[1], cache_dir=sys.argv[2])\n"
    )
    cache = small.parent / "cache"
    killed = subprocess.run([sys.executable, "-c", script, str(small), str(cache)], capture_output=True)
    assert killed.returncode == 9
    dataset, _ = load(small)
    assert samples(dataset) == names(*ALL)


def test_the_builder_has_a_split_per_session(five_sessions, tmp_path):
    builder = Iemocap(data_dir=five_sessions, cache_dir=str(tmp_path))
    builder.download_and_prepare()
    assert set(builder.as_dataset(split="session2+session4")["session"]) == {2, 4}


# Report and command line


def test_the_standard_counts_add_up():
    assert sum(map(sum, iemocap.STANDARD_SAMPLES.values())) == 5531
    assert sum(iemocap.STANDARD_TURNS.values()) == 10_039
    assert [sum(column) for column in zip(*iemocap.STANDARD_SAMPLES.values(), strict=True)] == [1103, 1636, 1708, 1084]


def test_the_report_compares_with_the_standard_by_digest(five_sessions, tmp_path, monkeypatch):
    _, report = load(five_sessions)
    assert report.verdict == "Not the standard 5,531 subset: differs in sessions 1, 2, 3, 4, 5."
    known = {name: digest for name, digest in report.fingerprints.items() if name != "ids"}
    monkeypatch.setattr(iemocap, "STANDARD", iemocap.STANDARD._replace(fingerprints=known))
    _, report = load(five_sessions)
    assert report.verdict == "The samples are the standard 5,531 subset." and report.is_standard
    root = write_release(tmp_path / "r")
    labels = next((root / "Session3" / "dialog" / "EmoEvaluation").glob("*.txt"))
    replace_in(labels, "\tsad\t", "\tang\t")
    _, other = load(root)
    assert other.verdict == "Not the standard 5,531 subset: differs in session 3."
    monkeypatch.setattr(iemocap, "STANDARD", iemocap.STANDARD._replace(ids_fingerprint=report.fingerprints["ids"]))
    _, other = load(root)
    assert other.verdict.endswith("differs in session 3 (labels only).")


def test_the_fingerprint_is_the_sha256_of_sorted_lines(small):
    expected = f"{DIALOG}_F000 neu\n{DIALOG}_M000 ang\n{DIALOG}_M001 sad\n"
    _, report = load(small)
    assert report.fingerprints["all"] == hashlib.sha256(expected.encode()).hexdigest() == report.fingerprints["Session1"]


def test_the_printed_report_names_kinds_three_examples_and_missing_sessions(small):
    append(transcript_file(small, DIALOG), "bad\n" * 5)
    text = load(small)[1].format()
    assert "      5  malformed_transcript_line: transcript lines without" in text
    assert f"{TRANSCRIPTS}:5, {TRANSCRIPTS}:6, {TRANSCRIPTS}:7, ...\n" in text and f"{TRANSCRIPTS}:8" not in text
    assert "Missing: Session2, Session3, Session4, Session5." in text
    assert "1 / 229" in text and "3 / 5,531" in text and "4 / 10,039" in text


def test_the_manifest_is_the_one_computed_by_hand(small, capsys):
    replace_in(transcript_file(small, DIALOG), "one", "één")
    out = small.parent / "out"
    out.mkdir()
    arguments = [str(small), "--manifest", str(out / "m.jsonl"), "--counters", str(out / "c.json")]
    assert main([*arguments, "--cache_dir", str(small.parent / "cache")]) == 0
    common = {"session": 1, "dialog": DIALOG}
    expected = [
        {"id": f"{DIALOG}_F000", **common, "gender": "F", "speaker": "Ses01_F", "start": 0.0, "end": 0.5}
        | {"label": "neu", "text": "één", "num_frames": 8000, "history_ids": []},
        {"id": f"{DIALOG}_M000", **common, "gender": "M", "speaker": "Ses01_M", "start": 0.4, "end": 0.9}
        | {"label": "ang", "text": "two: with a colon", "num_frames": 8000, "history_ids": names("F000")},
        {"id": f"{DIALOG}_M001", **common, "gender": "M", "speaker": "Ses01_M", "start": 1.2, "end": 1.7}
        | {"label": "sad", "text": "four", "num_frames": 8000, "history_ids": names("F000", "M000", "F001")},
    ]
    written = (out / "m.jsonl").read_text(encoding="utf-8")
    assert written == "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in expected)
    counters = json.loads((out / "c.json").read_text(encoding="utf-8"))
    assert counters["dropped_fru"] == {"count": 1, "items": names("F001")}
    assert counters["audio_missing"] == {"count": 0, "items": []}
    assert counters["samples"]["Session1"] == {"ang": 1, "hap": 0, "neu": 1, "sad": 1}
    assert set(counters) == {*KINDS, "turns", "samples", "fingerprints", "standard"}
    assert "1  dropped_fru" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["c.json", "m.jsonl"]


def test_the_manifest_has_the_newest_ten_of_the_history(tmp_path):
    turns = [Turn(f"F{i:03d}", i / 2, i / 2 + 0.4, "neu") for i in range(13)]
    dataset, _ = load(write_dialog(tmp_path / "r", DIALOG, turns))
    *_, last = manifest(dataset)
    assert last["history_ids"] == names(*(f"F{i:03d}" for i in range(2, 12)))
    assert len(dataset[-1]["history_ids"]) == 12


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{root}/nowhere"], "no folder"),
        (["{root}/Session1/dialog"], "USC SAIL"),
        (["{root}", "--max_bad", "0"], "damaged items"),
        (["{root}", "--num_proc", "0"], "num_proc"),
        (["{root}", "--manifest", "{root}/nowhere/m.jsonl"], "its folder is not there"),
        (["{root}", "--counters", "{root}/Session1"], "no regular file"),
        (["{root}", "--manifest", "{root}/m", "--counters", "{root}/m"], "same file"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(small, capsys, arguments, message):
    arguments = [argument.format(root=small) for argument in arguments]
    if "--manifest" not in arguments:
        arguments += ["--manifest", str(small / "m.jsonl")]
    before = sorted(small.rglob("*"))
    assert main([*arguments, "--cache_dir", str(small.parent / "cache")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert sorted(small.rglob("*")) == before


def test_the_command_reads_with_two_processes(five_sessions, tmp_path, capsys):
    arguments = [five_sessions, "--cache_dir", tmp_path / "cache", "--num_proc", "2", "--manifest", tmp_path / "m.jsonl"]
    process = start("lemer.corpora.iemocap", arguments)
    process.join(60)
    assert process.exitcode == 0
    assert len((tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()) == 60
    assert main([str(tmp_path / "no")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "USC SAIL" in capsys.readouterr().out
