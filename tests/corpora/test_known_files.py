"""Copies of known corpora, laid out as their publishers do, are read line by line; what is odd or wrong is named."""

import re
from pathlib import Path

import pytest
from known_layouts import (
    WRITERS,
    Expected,
    clip,
    write,
    write_crema_d,
    write_emodb,
    write_esd,
    write_meld,
    write_msp_podcast,
    write_ravdess,
    write_savee,
)

from lemer.corpora.emotions import STANDARD_NAMES, check_changes, classes_of, parse_label_map, standard_name
from lemer.corpora.known import CREMA_D_WOMEN, KNOWN
from lemer.corpora.known_files import KnownFiles, read_known_files
from lemer.corpora.known_row import expand
from lemer.corpora.sources import open_source


def told(found: KnownFiles) -> dict[str, Expected]:
    """What was read, in the form of what was written."""
    uses = ("emotion", "speaker", "gender", "text", "split")
    return {row["id"]: Expected(*(row[use] for use in uses), row["audio"] is not None) for row in found.utterances}


def letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name)


def notes(found: KnownFiles) -> dict[str, list[str]]:
    return {kind: items for kind, items in found.notes.items() if items}


@pytest.mark.parametrize("name", WRITERS)
def test_every_utterance_is_read_as_it_was_written(name, tmp_path):
    expected = WRITERS[name](tmp_path / "copy")
    found = read_known_files(name, tmp_path / "copy")
    assert told(found) == expected
    paths = {row["id"].rpartition("/")[2]: row["audio"] for row in found.utterances if row["audio"]}
    assert all(letters(str(Path(path).with_suffix(""))).endswith(letters(name)) for name, path in paths.items())
    above = read_known_files(name, tmp_path)
    assert told(above) == expected and set(KNOWN) == {*WRITERS, "iemocap"}


def test_copies_videos_songs_and_files_of_macos_are_left_out_by_name(tmp_path):
    write_ravdess(tmp_path)
    found = notes(read_known_files("ravdess", tmp_path))
    assert len(found["other_copy"]) == 12 and all("audio_speech" in name for name in found["other_copy"])
    assert sorted(found["other_file"]) == [
        "Actor_01/01-01-05-01-01-01-01.mp4 (videos and songs)",
        "Actor_01/03-02-05-01-01-01-01.wav (videos and songs)",
    ]
    assert found["hidden"] == [
        "Actor_01/._03-01-05-01-01-01-01.wav",
        "__MACOSX/Actor_01/._03-01-05-01-02-01-01.wav",
    ]
    assert len(found["clip_missing"]) == 1440 - 12 and "03-01-05-01-01-02-01" in found["clip_missing"]


def test_a_copy_that_differs_says_so(tmp_path):
    write_ravdess(tmp_path)
    path = tmp_path / "audio_speech_actors_01-24" / "Actor_01" / "03-01-05-01-01-01-01.wav"
    path.write_bytes(path.read_bytes()[:600])
    items = read_known_files("ravdess", tmp_path).notes["other_copy"]
    assert [item for item in items if "differs" in item] == [
        "audio_speech_actors_01-24/Actor_01/03-01-05-01-01-01-01.wav (differs from Actor_01/03-01-05-01-01-01-01.wav)"
    ]


def test_votes_are_those_of_the_voice_alone(tmp_path):
    write_crema_d(tmp_path)
    found = read_known_files("crema-d", tmp_path)
    assert all(row["votes"] == {"ANG": 7, "FEA": 1, "NEU": 2} for row in found.utterances)
    assert len(notes(found)["other_copy"]) == 8 and found.utterances[0]["audio"].endswith("AudioWAV/1001_DFA_ANG_XX.wav")
    assert "ANG: 2 of 1,271" in found.notes["fewer_than_published"]


def test_votes_and_attributes_of_msp(tmp_path):
    write_msp_podcast(tmp_path / "podcast")
    rows = {row["id"]: row for row in read_known_files("msp-podcast", tmp_path / "podcast").utterances}
    row = rows["MSP-PODCAST_0001_0003"]
    assert row["votes"] == {"A": 2, "H": 1, "Other-proud": 1}
    assert (row["valence"], row["arousal"], row["dominance"]) == ("3.5", "1.5", "2.25")
    WRITERS["msp-improv"](tmp_path / "improv")
    row = read_known_files("msp-improv", tmp_path / "improv").utterances[0]
    assert row["votes"] == {"A": 1, "N": 1} and row["session"] == "01"
    assert (row["valence"], row["arousal"], row["dominance"]) == ("2.000000", "3.50", "NaN")


def test_the_table_nearest_to_the_folder_is_read_and_older_names_too(tmp_path):
    expected = write_msp_podcast(tmp_path, old=True)
    found = read_known_files("msp-podcast", tmp_path)
    assert told(found) == expected
    assert found.notes["other_table"] == ["Previous_releases_information/1.11/Labels/labels_concensus.csv"]
    assert found.notes["speaker_unknown"] == ["MSP-PODCAST_0001_0005"]


def test_meld_keeps_dialogs_apart_and_names_what_does_not_fit(tmp_path):
    write_meld(tmp_path)
    found = read_known_files("meld", tmp_path)
    rows = {row["id"]: row for row in found.utterances}
    assert rows["train/dia0_utt1"]["dialog"] != rows["test/dia0_utt1"]["dialog"]
    assert [rows[f"train/dia0_utt{turn}"]["order"] for turn in range(4)] == ["0", "1", "2", "3"]
    assert found.notes["unlisted"] == ["dev_splits_complete/dia66_utt9.mp4"]
    assert found.notes["other_file"] == [
        "output_repeated_splits_test/final_videos_testdia0_utt0.mp4 "
        "(clips without a line in the tables, called final_videos_test)"
    ]
    assert "train_sent_emo.csv: not UTF-8, read as cp1252 (Windows)" in found.remarks
    assert "validation neutral: 2 of 470" in found.notes["fewer_than_published"]


def test_known_faults_are_named(tmp_path):
    write_meld(tmp_path)
    table = tmp_path / "train_sent_emo.csv"
    text = table.read_bytes().decode("cp1252") + '9,"Ohh.","Ross",joy,x,125,3,1,1,"0:0:1","0:0:2"\n'
    write(table, text, "cp1252")
    clip(tmp_path / "train_splits" / "dia125_utt3.mp4")
    assert read_known_files("meld", tmp_path).notes["known_fault"] == ["train/dia125_utt3 (a broken video)"]


def test_a_line_twice_and_a_label_that_the_row_does_not_know_are_counted(tmp_path):
    write_meld(tmp_path)
    table = tmp_path / "test_sent_emo.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    write(table, "\n".join([*lines, lines[1], lines[2].replace(",0,0,", ",7,0,").replace("sadness", "confused")]))
    found = read_known_files("meld", tmp_path)
    assert found.notes["duplicate_line"] == ["test/dia0_utt2 (test_sent_emo.csv, line 10)"]
    assert found.notes["unknown_label"] == ["confused (1, such as test/dia7_utt0)"]


def test_layouts_of_other_copies(tmp_path):
    expected = write_savee(tmp_path / "flat", flat=True)
    assert told(read_known_files("savee", tmp_path / "flat")) == expected
    expected = write_esd(tmp_path / "esd", splits=False)
    assert told(read_known_files("esd", tmp_path / "esd")) == expected


def test_the_folder_of_one_speaker_is_a_part_of_the_corpus(tmp_path):
    expected = write_savee(tmp_path)
    found = told(read_known_files("savee", tmp_path / "AudioData" / "JK"))
    assert found == {name: fields for name, fields in expected.items() if fields.speaker == "JK"}


def test_a_table_that_is_not_there_may_be_spared_by_names(tmp_path):
    WRITERS["nemo"](tmp_path)
    (tmp_path / "data.tsv").unlink()
    found = read_known_files("nemo", tmp_path)
    assert len(found.utterances) == 9 and found.utterances[0]["emotion"] == "anger"
    assert found.remarks == ["no table data.tsv: labels and speakers are those of the recordings' names"]


# ------------------------------------------------------------------------------------------------------------- bad input


def refused(name: str, folder: Path) -> str:
    with pytest.raises((ValueError, OSError)) as error:
        read_known_files(name, folder)
    return str(error.value)


def test_a_corpus_named_as_another_is_told_by_its_names(tmp_path):
    write_crema_d(tmp_path)
    message = refused("ravdess", tmp_path)
    assert message.startswith(f"nothing of RAVDESS in {tmp_path}: expected files such as Audio_Speech_Actors_01-24")
    assert message.count(f"16 of its 16 recordings are named as those of CREMA-D: give --corpus crema-d={tmp_path}") == 1


def test_of_a_mixture_the_other_corpus_is_counted(tmp_path):
    expected = write_emodb(tmp_path)
    write_ravdess(tmp_path / "more", actors=(3,), emotions=("05",))
    found = read_known_files("emodb", tmp_path)
    assert told(found) == expected and len(found.notes["other_corpus"]) == 8
    assert "more/Actor_03/03-01-05-01-01-01-03.wav (ravdess)" in found.notes["other_corpus"]


def test_recordings_of_other_names_are_counted(tmp_path):
    write_emodb(tmp_path)
    clip(tmp_path / "wav" / "noise.wav")
    assert read_known_files("emodb", tmp_path).notes["other_name"] == ["wav/noise.wav"]


def test_folders_with_nothing_of_the_corpus_say_what_is_there(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "It has 0 files and no recording" in refused("emodb", tmp_path / "empty")
    write(tmp_path / "packed" / "Audio_Speech_Actors_01-24.zip", "PK")
    assert "unpack Audio_Speech_Actors_01-24.zip" in refused("ravdess", tmp_path / "packed")
    clip(tmp_path / "mine" / "hello.wav")
    assert "other names, such as hello.wav. Any folder of recordings can be read as" in refused("tess", tmp_path / "mine")
    assert refused("tess", tmp_path / "nowhere").startswith(f"no folder {tmp_path / 'nowhere'}; expected TESS")
    assert "is a file; expected the folder of TESS" in refused("tess", tmp_path / "mine" / "hello.wav")


def test_recordings_without_the_table_of_their_labels(tmp_path):
    write_meld(tmp_path)
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}_sent_emo.csv").unlink()
    message = refused("meld", tmp_path)
    assert "24 recordings of MELD and no table train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv" in message


def test_a_table_of_another_release_names_its_columns(tmp_path):
    write_msp_podcast(tmp_path)
    table = tmp_path / "Labels" / "labels_consensus.csv"
    write(table, table.read_text().replace("EmoClass", "Emotion"))
    message = refused("msp-podcast", tmp_path)
    assert "has no column EmoClass, as the tables of MSP-Podcast have: its columns are FileName, Emotion" in message


@pytest.mark.parametrize("name", ["ravdess", "crema-d", "tess", "savee", "emovo"])
def test_a_known_corpus_that_is_given_without_its_name_is_told(name, tmp_path):
    """Its folders are speakers or forms of files, and would be taken for labels."""
    WRITERS[name](tmp_path)
    for path in [*tmp_path.rglob("*.csv")]:
        path.unlink()
    with pytest.raises(ValueError, match=f"named as those of {KNOWN[name].title}, in folders that name no emotion"):
        open_source(tmp_path, {})


def test_recordings_of_a_known_corpus_in_folders_of_emotions_are_read_by_folders(tmp_path):
    for name in write_emodb(tmp_path / "all"):
        (tmp_path / "sorted" / ("bad", "good")["F" in name]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / "wav" / f"{name}.wav").rename(tmp_path / "sorted" / ("bad", "good")["F" in name] / f"{name}.wav")
    ((_, table),) = open_source(tmp_path / "sorted", {}).splits["train"].tables
    assert {row["label"] for _, row in table.rows()} == {"bad", "good"}


# -------------------------------------------------------------------------------------------------------------- the rows


def test_every_row_says_where_its_facts_are_from():
    for row in KNOWN.values():
        assert row.sources and all(source.strip() for source in row.sources.values()) and row.page.startswith("http")
        assert set(row.classes) <= set(STANDARD_NAMES) and row.protocols
        named = [split for facts in row.files for split in re.findall(r"\{split\}", facts.id)]
        assert not named or row.splits
        assert not row.clips or re.compile(row.clips)


def test_counts_of_a_row_add_up():
    for row in KNOWN.values():
        total = sum(sum(counts.values()) for counts in row.counts.values())
        assert not row.counts or total == row.num_clips
        assert all(set(counts) <= set(row.emotions) for counts in row.counts.values())
        names = row.complete_names
        assert not names or len(names) == len(set(names)) == row.num_clips
        assert not row.complete or all(
            re.search(rf"(?:^|/)(?:{row.clips})$", name) for name in names if row.id or "/" not in row.layout
        )
    assert len(CREMA_D_WOMEN) == 43
    assert sum(gender == "F" for gender in KNOWN["ravdess"].genders.values()) == 12


def test_a_template_of_names_is_every_choice_in_turn():
    assert list(expand("a{1,2}-{08..10}")) == ["a1-08", "a1-09", "a1-10", "a2-08", "a2-09", "a2-10"]
    assert list(expand("plain")) == ["plain"]


# ----------------------------------------------------------------------------------------------------------- label names


def test_words_of_one_emotion_have_one_name():
    assert {standard_name(word) for word in ("anger", "angry", "ang", "ANG", " Angry ")} == {"anger"}
    assert standard_name("W") is None and standard_name("ps") == "surprise"


def test_labels_become_classes_as_the_row_and_the_user_say():
    names = {"W": "anger", "L": "boredom", "F": "happiness", "X": None}
    assert classes_of(["W", "L", "X", "new"], names, {}) == {"W": "anger", "L": "boredom", "X": None, "new": None}
    assert classes_of(["W", "L"], names, {"bored": "calm"}) == {"W": "anger", "L": "calm"}
    assert classes_of(["W", "F"], names, {"W": "joy"}) == {"W": "happiness", "F": "happiness"}  # not a second happiness
    assert classes_of(["W", "new"], names, {"new": "rage"}) == {"W": "anger", "new": "rage"}


def test_a_label_map_that_no_corpus_can_follow_is_refused():
    corpora = {"EmoDB": (["W"], {"W": "anger"}), "TESS": (["ps"], {"ps": "surprise"})}
    check_changes({"surprised": "joy", "w": "x"}, corpora)
    with pytest.raises(
        ValueError, match="EmoDB, TESS has no label surprize, but W, anger, ps, surprise. Did you mean surprise"
    ):
        check_changes({"surprize": "joy"}, corpora)
    assert parse_label_map(["a=b", "c = d"]) == {"a": "b", "c": "d"}
    for wrong in (["a"], ["a="], ["=b"], ["a=b", "a=c"]):
        with pytest.raises(ValueError, match="--label_map"):
            parse_label_map(wrong)
