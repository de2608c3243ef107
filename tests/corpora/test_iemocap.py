"""The IEMOCAP loader on hand-made releases: what a row is, every kind of damage, the two line formats."""

import os

import datasets
import numpy as np
import pytest
from dialogs import (
    ALL,
    DIALOG,
    LABELS,
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
from hypothesis import given
from hypothesis import strategies as st
from releases import (
    Turn,
    label_file,
    label_line,
    transcript_file,
    transcript_line,
    wav_file,
    write_dialog,
    write_release,
)

from lemer.corpora.iemocap import CLASSES
from lemer.corpora.release import (
    KEPT,
    KINDS,
    LOST,
    NORMAL,
    LabelLine,
    TranscriptLine,
    check_audio,
    decode,
    parse_label_line,
    parse_transcript_line,
    read_release,
)

# What a row is


def test_rows_are_in_time_order_with_the_history_of_both_speakers(small):
    dataset, _ = load(small)
    assert dataset["id"] == names("F000", "M000", "F001", "M001")  # the label file lists F000, F001, M000, M001
    texts = ["one", "two: with a colon", "three", "four"]
    assert dataset["text"] == texts
    assert dataset["history"] == [texts[:i] for i in range(4)]
    assert dataset["history_ids"] == [names("F000", "M000", "F001", "M001")[:i] for i in range(4)]
    assert dataset["label"] == [CLASSES.index("neu"), CLASSES.index("ang"), -1, CLASSES.index("sad")]
    assert dataset["emotion"] == ["neu", "ang", "fru", "sad"]
    assert dataset["num_frames"] == [8000] * 4  # also of the turn without a class, since it has votes for two
    assert dataset["start"] == [0.0, 0.4, 0.8, 1.2] and dataset["end"] == [0.5, 0.9, 1.3, 1.7]
    assert dataset["problems"] == [[], [], [], []]


def test_a_turn_without_a_class_is_trained_on_by_its_votes_alone(small):
    labels = small / "Session1/dialog/EmoEvaluation" / f"{DIALOG}.txt"
    assert load(small)[0]["votes"][2] == [0.0, 0.0, 1.0, 0.0]
    text = labels.read_text()
    third = text.index(names("F001")[0])
    labels.write_text(text[:third] + text[third:].replace("Neutral", "Surprise"))
    dataset, report = load(small)
    assert dataset["votes"][2] == [] and dataset["num_frames"][2] == 0 and not report.notes["audio_missing"]


def test_the_speaker_is_the_ids_last_part_not_the_dialogs(small):
    dataset, _ = load(small)
    assert dataset["speaker"] == ["Ses01_F", "Ses01_M", "Ses01_F", "Ses01_M"]
    assert dataset["gender"] == ["F", "M", "F", "M"]
    assert dataset["session"] == [1, 1, 1, 1] and set(dataset["dialog"]) == {DIALOG}


def test_features_are_the_documented_ones(small):
    dataset, _ = load(small)
    assert dataset.features["label"].names == ["ang", "hap", "neu", "sad"]
    assert dataset.features["audio"] == datasets.Audio(sampling_rate=16_000, decode=False)
    assert dataset[1]["audio"] == {"bytes": None, "path": str(wav_file(small, names("M000")[0]))}


def test_excitement_is_happiness(tmp_path):
    root = write_dialog(tmp_path / "r", DIALOG, [Turn("F000", 0, 0.5, "exc"), Turn("F001", 1, 1.5, "hap")])
    dataset, report = load(root)
    assert dataset["label"] == [CLASSES.index("hap")] * 2
    assert dataset["emotion"] == ["exc", "hap"]
    assert report.samples[1] == {"ang": 0, "hap": 2, "neu": 0, "sad": 0}


def test_history_never_crosses_dialogs_whose_names_begin_alike(tmp_path):
    for dialog in ("Ses05M_script01_1", "Ses05M_script01_1b"):
        write_dialog(tmp_path / "r", dialog, [Turn(f"F00{i}", i, i + 0.5, "neu", f"{dialog} {i}") for i in range(2)])
    dataset, report = load(tmp_path / "r")
    for row in dataset:
        assert all(earlier.rpartition("_")[0] == row["dialog"] for earlier in row["history_ids"])
        assert len(row["history"]) == int(row["id"][-1])
    assert report.turns[5] == 4


def test_turns_of_the_same_start_are_ordered_by_end_then_id(tmp_path):
    turns = [Turn("M000", 1, 2), Turn("F001", 1, 2), Turn("F000", 1, 3), Turn("M001", 1, 1.5)]
    dataset, _ = load(write_dialog(tmp_path / "r", DIALOG, turns))
    assert dataset["id"] == names("M001", "F001", "M000", "F000")


def test_rows_are_sorted_by_session_dialog_and_time(five_sessions):
    dataset, report = load(five_sessions)
    keys = list(zip(dataset["session"], dataset["dialog"], dataset["start"], dataset["end"], strict=True))
    assert keys == sorted(keys) and len(keys) == 80
    assert report.samples == {n: {"ang": 2, "hap": 4, "neu": 4, "sad": 2} for n in range(1, 6)}
    assert not any(report.notes[kind] for kind in {**LOST, **KEPT})
    assert len(report.notes["dropped_fru"]) == len(report.notes["dropped_xxx"]) == 10


def test_history_equals_a_slow_search_through_all_turns(five_sessions):
    dataset, _ = load(five_sessions)
    rows = list(dataset)
    for row in rows:
        earlier = [r for r in rows if r["dialog"] == row["dialog"] and r["start"] < row["start"]]
        earlier.sort(key=lambda r: r["start"])
        assert row["history_ids"] == [r["id"] for r in earlier]
        assert row["history"] == [r["text"] for r in earlier]


# One damage each: what it is noted as, which samples are left, and what the last turn has before it


def labels_with(old, new):
    return lambda root: replace_in(label_file(root, DIALOG), old, new)


def transcripts_with(old, new):
    return lambda root: replace_in(transcript_file(root, DIALOG), old, new)


def more_labels(text):
    return lambda root: append(label_file(root, DIALOG), text)


def more_transcripts(text):
    return lambda root: append(transcript_file(root, DIALOG), text)


def folder_in_place_of(path):
    def damage(root):
        path(root).unlink()
        path(root).mkdir()

    return damage


NOT_FINITE = np.where(np.arange(8000) == 5000, np.nan, 0.0)
TONE = np.sin(np.arange(8000) / 10) / 2
DAMAGES = {
    # kind: (damage, noted names, turns that are samples, history of M001)
    "malformed_label_line": (
        labels_with(f"{DIALOG}_M000\tang", f"{DIALOG}_M000"),
        [f"{LABELS}:13"],
        ("F000", "M001"),
        ("F000", "F001"),
    ),
    "malformed_label_line times": (
        labels_with("[0.4000 - 0.9000]", "[0.9000 - 0.4000]"),
        [f"{LABELS}:13"],
        ("F000", "M001"),
        ("F000", "F001"),
    ),
    "malformed_label_line negative": (
        labels_with("[0.4000 - 0.9000]", "[-0.4000 - 0.9000]"),
        [f"{LABELS}:13"],
        ("F000", "M001"),
        ("F000", "F001"),
    ),
    "malformed_label_line no bracket": (
        labels_with("[0.4000 - 0.9000]", "0.4000 - 0.9000]"),
        [f"{LABELS}:13"],
        ("F000", "M001"),
        ("F000", "F001"),
    ),
    "unknown_label_code": (
        labels_with("ang", "angry"),
        [f"{DIALOG}_M000 ('angry')"],
        ("F000", "M001"),
        ("F000", "M000", "F001"),
    ),
    "foreign_label": (
        more_labels(label_line("Ses01F_impro02", TURNS[0])),
        [f"Ses01F_impro02_F000 ({LABELS}:23)"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "duplicate_label": (
        more_labels(label_line(DIALOG, Turn("F000", 1.1, 1.2, "sad"))),
        [f"{DIALOG}_F000 ({LABELS}:23)"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "label_file_missing": (
        lambda root: write_dialog(root, "Ses01F_impro02", TURNS) and label_file(root, "Ses01F_impro02").unlink(),
        ["Ses01F_impro02"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "label_file_empty": (
        lambda root: label_file(root, "Ses01F_impro02").write_bytes(b""),
        ["Session1/dialog/EmoEvaluation/Ses01F_impro02.txt"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "label_file_unreadable": (
        lambda root: label_file(root, "Ses01F_impro02").mkdir(),
        ["Session1/dialog/EmoEvaluation/Ses01F_impro02.txt"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "malformed_transcript_line": (
        transcripts_with("[000.4000-000.9000]:", "[000.4000-]:"),
        [f"{TRANSCRIPTS}:2"],
        ("F000", "M001"),
        ("F000", "F001"),
    ),
    "transcript_missing": (
        transcripts_with(transcript_line(DIALOG, TURNS[1]), ""),
        names("M000"),
        ("F000", "M001"),
        ("F000", "F001"),
    ),
    "transcript_missing of another class": (
        transcripts_with(transcript_line(DIALOG, TURNS[2]), ""),
        names("F001"),
        ALL,
        ("F000", "M000"),
    ),
    "transcript_empty": (transcripts_with("two: with a colon", "   "), names("M000"), ALL, ("F000", "F001")),
    "foreign_transcript": (
        more_transcripts(transcript_line("Ses01F_impro02", TURNS[0])),
        [f"Ses01F_impro02_F000 ({TRANSCRIPTS}:5)"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "duplicate_transcript": (
        more_transcripts(transcript_line(DIALOG, TURNS[0]._replace(text="other"))),
        [f"{DIALOG}_F000 ({TRANSCRIPTS}:5)"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "transcript_without_label": (
        more_transcripts(transcript_line(DIALOG, Turn("F009", 0.1, 0.2))),
        names("F009"),
        ALL,
        ("F000", "M000", "F001"),
    ),
    "transcript_file_missing": (
        lambda root: write_dialog(root, "Ses01F_impro02", TURNS) and transcript_file(root, "Ses01F_impro02").unlink(),
        ["Ses01F_impro02"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "transcript_file_unreadable": (
        lambda root: transcript_file(root, DIALOG.replace("1F", "1M")).write_bytes(bytes(range(256)) * 20),
        ["Session1/dialog/transcriptions/Ses01M_impro01.txt"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "idless_line": (
        more_transcripts("M: sorry\nF : what\n"),
        [f"{TRANSCRIPTS}:5", f"{TRANSCRIPTS}:6"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "xx_turn": (
        more_transcripts(f"{DIALOG}_MXX0 [000.1000-000.2000]: yes\n"),
        [f"{TRANSCRIPTS}:5"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "decoded_as_cp1252": (
        lambda root: transcript_file(root, DIALOG).write_bytes(
            transcript_file(root, DIALOG).read_bytes().replace(b"three", b"caf\xe9")
        ),
        [TRANSCRIPTS],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "decoded_with_replacement": (
        lambda root: transcript_file(root, DIALOG).write_bytes(
            transcript_file(root, DIALOG).read_bytes().replace(b"three", b"thr\x81e")
        ),
        [TRANSCRIPTS],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "audio_missing": (
        lambda root: wav("M000")(root).unlink(),
        names("M000"),
        ("F000", "M001"),
        ("F000", "M000", "F001"),
    ),
    "audio_unreadable": (
        lambda root: wav("M000")(root).write_text("no recording"),
        names("M000"),
        ("F000", "M001"),
        ("F000", "M000", "F001"),
    ),
    "audio_unreadable folder": (
        folder_in_place_of(wav("M000")),
        names("M000"),
        ("F000", "M001"),
        ("F000", "M000", "F001"),
    ),
    "audio_empty": (recording("M000", ZEROS[:0]), names("M000"), ("F000", "M001"), ("F000", "M000", "F001")),
    "audio_not_finite": (
        recording("M000", NOT_FINITE),
        names("M000"),
        ("F000", "M001"),
        ("F000", "M000", "F001"),
    ),
    "audio_other_rate": (recording("M000", ZEROS, 15_000), names("M000"), ALL, ("F000", "M000", "F001")),
    "audio_other_channels": (
        recording("M000", np.stack([ZEROS, ZEROS], axis=1)),
        names("M000"),
        ALL,
        ("F000", "M000", "F001"),
    ),
    "audio_silent": (recording("M000", ZEROS), names("M000"), ALL, ("F000", "M000", "F001")),
    "audio_silent in channels that cancel each other": (
        recording("M000", np.stack([TONE, -TONE], axis=1)),
        names("M000"),
        ALL,
        ("F000", "M000", "F001"),
    ),
    "audio_short": (recording("M000", ZEROS[:6000]), names("M000"), ALL, ("F000", "M000", "F001")),
    "dropped_fru": (lambda root: None, names("F001"), ALL, ("F000", "M000", "F001")),
    "unexpected_file_name": (
        lambda root: label_file(root, f"{DIALOG}_e2_cat").write_text("x"),
        [f"Session1/dialog/EmoEvaluation/{DIALOG}_e2_cat.txt"],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "wrong_session_folder": (
        lambda root: (
            (root / "Session2" / "dialog" / "transcriptions").mkdir(parents=True)
            or (root / "Session2" / "dialog" / "transcriptions" / f"{DIALOG}.txt").write_text("")
        ),
        [TRANSCRIPTS.replace("Session1", "Session2")],
        ALL,
        ("F000", "M000", "F001"),
    ),
    "folder_unreadable": (
        lambda root: (
            (root / "Session2" / "dialog").mkdir(parents=True)
            or (root / "Session2" / "dialog" / "transcriptions").write_text("")
        ),
        ["Session2/dialog/transcriptions"],
        ALL,
        ("F000", "M000", "F001"),
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_each_damage_is_noted_by_name_and_stops_nothing(small, case):
    damage, noted, left, before_last = DAMAGES[case]
    damage(small)
    dataset, report = load(small)
    assert report.notes[case.split()[0]] == noted
    own = dataset.filter(lambda dialog: dialog == DIALOG, input_columns="dialog")
    assert samples(own) == names(*left)
    assert own[-1]["history_ids"] == names(*before_last)
    assert len(own[-1]["history"]) == len(before_last)


def test_every_kind_has_a_case_here():
    covered = {case.split()[0] for case in DAMAGES} | {"session_missing"} | set(NORMAL)
    assert covered == set(KINDS)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_files_without_permission_are_noted(small):
    write_dialog(small, "Ses01F_impro02", TURNS)
    label_file(small, "Ses01F_impro02").chmod(0)
    _, report = load(small)
    assert len(report.notes["label_file_unreadable"]) == 1


def test_all_notes_of_an_untouched_release_are_its_dropped_classes_and_missing_sessions(small):
    _, report = load(small)
    assert {kind: names for kind, names in report.notes.items() if names} == {
        "dropped_fru": names("F001"),
        "session_missing": ["Session2", "Session3", "Session4", "Session5"],
    }


def test_hidden_files_and_raters_folders_are_not_read(small):
    before = read_release(str(small))
    evaluation = label_file(small, DIALOG).parent
    for folder in (evaluation, transcript_file(small, DIALOG).parent, wav_file(small, f"{DIALOG}_F000").parent):
        (folder / f"._{DIALOG}.txt").write_bytes(b"\x00\x05\x16\x07")
        (folder / f"._{DIALOG}_F000.wav").write_bytes(b"\x00\x05\x16\x07")
    for name in ("Categorical", "Attribute", "Self-evaluation"):
        (evaluation / name).mkdir()
        (evaluation / name / f"{DIALOG}.txt").write_text(label_line(DIALOG, Turn("F050", 0, 1)))
    (small / ".hidden").mkdir()
    (evaluation / "README.txt").write_text("no dialog")
    (evaluation / f"{DIALOG}.anvil").write_text("no text")
    assert read_release(str(small)) == before


@pytest.mark.parametrize("ending", [b"\r\n", b"\r\r\n", b"\r"])
def test_line_endings_and_byte_order_marks_change_nothing(small, ending):
    rows = list(load(small)[0])
    for path in (label_file(small, DIALOG), transcript_file(small, DIALOG)):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", ending))
    assert list(load(small)[0]) == rows


def test_blanks_for_tabs_and_an_upper_case_extension_change_nothing(small):
    rows = list(load(small)[0])
    replace_in(label_file(small, DIALOG), "\t", "   ")
    recordings = [wav_file(small, name) for name in names("F000", "M000", "F001", "M001")]
    for path in recordings:
        path.rename(path.with_suffix(".WAV"))
    for row, expected in zip(load(small)[0], rows, strict=True):
        assert row["audio"].pop("path").endswith(".WAV") and expected["audio"].pop("path").endswith(".wav")
        assert row == expected


def test_a_copy_of_a_dialog_in_another_session_gives_no_second_rows(small):
    evaluation = small / "Session2" / "dialog" / "EmoEvaluation"
    evaluation.mkdir(parents=True)
    (evaluation / f"{DIALOG}.txt").write_bytes(label_file(small, DIALOG).read_bytes())
    dataset, report = load(small)
    assert len(dataset) == 4 and set(dataset["session"]) == {1}
    assert len(report.notes["duplicate_label"]) == 4 and len(report.notes["wrong_session_folder"]) == 1


def test_a_little_less_audio_than_the_label_says_is_not_short(small):
    assert check_audio(str(wav_file(small, f"{DIALOG}_F000")), 0.59) == (8000, [])
    assert check_audio(str(wav_file(small, f"{DIALOG}_F000")), 0.61) == (8000, ["audio_short"])


def test_damage_of_many_kinds_at_once_keeps_the_rest(five_sessions, tmp_path):
    root = write_release(tmp_path / "r")
    dialogs = sorted(path.stem for path in root.glob("Session*/dialog/EmoEvaluation/*.txt"))
    random = np.random.default_rng(0)
    for dialog in dialogs[:8]:
        for path in (label_file(root, dialog), transcript_file(root, dialog)):
            data = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
            data[random.integers(0, len(data), 20)] = random.integers(0, 256, 20)
            path.write_bytes(data.tobytes())
    whole, broken = load(five_sessions)[0], load(root)[0]
    rows = {row["id"]: row for row in broken}
    for row in whole:
        if row["dialog"] in dialogs[8:]:
            row["audio"] = rows[row["id"]]["audio"]
            assert rows[row["id"]] == row
    assert len(set(broken["id"])) == len(broken)


# The two line parsers


times = st.floats(0, 999).map(lambda time: round(time, 4))
utterances = st.builds(
    "Ses0{}{}_{}_{}{:03d}".format,
    st.integers(1, 5),
    st.sampled_from("FM"),
    st.sampled_from(["impro01", "impro05b", "script01_1", "script01_1b"]),
    st.sampled_from("FM"),
    st.integers(0, 999),
)
pieces = st.sampled_from(
    [
        "[",
        "]",
        " - ",
        "-",
        ":",
        "\t",
        "neu",
        "1.5",
        "[2.5, 2.5, 2.5]",
        "Ses01F_impro01_F000",
        "MXX0",
        "M: ",
        "%",
        "\x85",
    ]
)
lines = st.one_of(st.text(), st.lists(pieces | st.text(max_size=3)).map("".join))


@given(lines)
def test_any_label_line_is_a_turn_a_kind_or_nothing(line):
    parsed = parse_label_line(line)
    assert parsed is None or parsed in KINDS or isinstance(parsed, LabelLine)
    if isinstance(parsed, LabelLine):
        assert 0 <= parsed.start <= parsed.end < float("inf") and parsed.id in line and parsed.emotion in line


@given(lines)
def test_any_transcript_line_is_a_text_a_kind_or_blank(line):
    parsed = parse_transcript_line(line)
    assert (parsed is None) == (not line.strip())
    assert parsed is None or parsed in KINDS or isinstance(parsed, TranscriptLine)


@given(utterances, times, times, st.sampled_from(["neu", "exc", "xxx", "new"]), st.sampled_from(["\t", " ", " \t "]))
def test_a_well_formed_label_line_is_read_whole(utterance, start, length, emotion, gap):
    end = round(start + length, 4)
    line = f"[{start:.4f} - {end:.4f}]{gap}{utterance}{gap}{emotion}{gap}[2.5000, 2.0000, 3.0000]\r"
    assert parse_label_line(line) == LabelLine(utterance, start, end, emotion)


@given(utterances, st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])))
def test_a_well_formed_transcript_line_is_read_whole(utterance, text):
    assert parse_transcript_line(f"{utterance} [006.2901-008.2357]: {text}") == TranscriptLine(utterance, text.strip())


@given(st.binary())
def test_any_bytes_are_decoded(data):
    text, kinds = decode(data)
    assert isinstance(text, str) and set(kinds) <= set(KEPT)


@pytest.mark.parametrize(
    "line",
    [
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
        "[START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
        "C-E2:\tNeutral;\t()",
        "A-E4:\tval 2; act 3; dom  3;\t(mildly aggravated but staying polite, attitude)",
        "",
    ],
)
def test_headers_and_raters_are_no_turns(line):
    assert parse_label_line(line) is None
