"""Known corpora as datasets: labels, columns, folds by every protocol, unions, IEMOCAP's label sets, folds by name."""

import argparse
import json
import re

import numpy as np
import pytest
from known_layouts import WRITERS, clip, write, write_meld, write_ravdess
from releases import Turn, write_dialog
from tiny import tower_folders

import lemer.train
from lemer.corpora.iemocap import load_iemocap
from lemer.corpora.known import KNOWN
from lemer.corpora.known_corpus import load_known, main
from lemer.corpora.load import choose_folds, iemocap_labels, load_corpus, load_named, named_corpora
from lemer.corpora.options import add_corpus_options
from lemer.corpora.release import parse_rater_line
from lemer.evaluation.protocol import check_unseen
from lemer.training.folds import rows_to_train_on, split_rows


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """A small copy of every corpus, and one cache."""
    folder = tmp_path_factory.mktemp("copies")
    for name, writer in WRITERS.items():
        writer(folder / name)
    write_ravdess(folder / "four_actors", actors=(1, 2, 3, 4), emotions=("01", "03", "05"))
    return folder


@pytest.fixture
def load(copies):
    def load(name, folder=None, **options):
        return load_known(name, folder or copies / name, cache_dir=copies / "cache", progress=False, **options)

    return load


def by_fold(dataset, column: str) -> dict[int, set[str]]:
    folds: dict[int, set[str]] = {}
    for fold, value in zip(dataset["session"], dataset[column], strict=True):
        folds.setdefault(fold, set()).add(value)
    return folds


# ------------------------------------------------------------------------------------------------------ rows and report


@pytest.mark.parametrize("name", WRITERS)
def test_labels_have_standard_names_and_speakers_are_in_one_fold_alone(name, load):
    dataset, report = load(name)
    row = KNOWN[name]
    names = dataset.features["label"].names
    assert set(names) <= set(row.classes) and report.published is not None and not report.published.is_complete
    for utterance, label in zip(dataset["emotion"], dataset["label"], strict=True):
        assert label == -1 or names[label] == row.emotions[utterance]
    held_out = [by_fold(dataset, "speaker")[fold] for fold in report.held_out]
    apart = all(not first & second for first in held_out for second in held_out if first is not second)
    assert apart or name == "msp-podcast"  # whose test splits share speakers
    assert report.format().count(row.title) >= 1 and json.loads(report.to_json())["published"]["complete"] is False


def test_a_whole_copy_is_said_to_be_whole(tmp_path, monkeypatch):
    """The counts of a row are those of the release; here the release is made as small as the copy."""
    expected = write_ravdess(tmp_path)
    row = KNOWN["ravdess"]
    counts = {emotion: sum(e.emotion == emotion for e in expected.values()) for emotion in ("01", "05")}
    small = {"counts": {"": counts}, "complete": tuple(expected), "num_clips": len(expected), "num_speakers": 2}
    monkeypatch.setitem(KNOWN, "ravdess", type(row)(**{**row.__dict__, **small}))
    _, report = load_known("ravdess", tmp_path, cache_dir=tmp_path / "cache", progress=False)
    assert report.verdict == "All 12 utterances of RAVDESS are there." and report.num_damaged == 0
    assert re.search(r"^all +4 / 4 +8 / 8 +12 / 12$", report.format(), re.MULTILINE)
    (tmp_path / "Actor_02" / "03-01-05-01-01-01-02.wav").unlink()
    (tmp_path / "audio_speech_actors_01-24" / "Actor_02" / "03-01-05-01-01-01-02.wav").unlink()
    _, report = load_known("ravdess", tmp_path, cache_dir=tmp_path / "cache", progress=False)
    assert report.verdict == "Not the whole RAVDESS: 11 of 12 utterances, 2 of 2 speakers."
    assert report.notes["clip_missing"] == ["03-01-05-01-01-01-02"]
    with pytest.raises(ValueError, match="1 damaged items in ravdess, max_bad allows 0; commonest: 1 clip_missing"):
        load_known("ravdess", tmp_path, max_bad=0, cache_dir=tmp_path / "cache", progress=False)


def test_what_is_said_of_an_utterance_stands_beside_it(load):
    dataset, report = load("crema-d")
    row = next(row for row in dataset if row["id"] == "1002_IEO_SAD_LO")
    assert (row["emotion"], row["gender"], row["intensity"], row["sentence"]) == ("SAD", "F", "LO", "IEO")
    assert dict(zip(report.classes, row["votes"], strict=True)) == {"anger": 7, "happiness": 0, "neutral": 2, "sadness": 0}
    assert any("the same sentences are said in every emotion (12 sentences)" in remark for remark in report.remarks)
    rows = {row["id"]: row for row in load("msp-podcast")[0]}
    row = rows["MSP-PODCAST_0001_0003"]
    assert (row["valence"], row["arousal"], row["dominance"]) == (3.5, 1.5, 2.25) and row["text"] == "words of 3"
    rows = {row["id"]: row for row in load("msp-improv")[0]}
    assert rows["MSP-IMPROV-S01A-F01-P-FM01"]["valence"] == 2.0
    assert "dominance" not in rows["MSP-IMPROV-S01A-F01-P-FM01"]  # NaN in every line


def test_labels_are_mapped_as_the_user_says(load, copies):
    dataset, report = load("emodb", label_map={"L": "sad", "happy": "joy"})
    assert report.classes == ["anger", "happiness", "sadness", "neutral"]
    assert dataset["label"].count(report.classes.index("sadness")) == 1
    _, report = load("tess", labels=["angry", "sad"], protocol="random")
    assert report.classes == ["anger", "sadness"] and len(report.notes["other_label"]) == 2
    with pytest.raises(ValueError, match="EmoDB has no label calm"):
        load("emodb", label_map={"calm": "neutral"})
    with pytest.raises(ValueError, match="labels .* must be different ones of those that occur"):
        load("emodb", labels=["anger", "calm"])


def test_an_unknown_label_is_counted_and_can_be_given_a_class(tmp_path):
    write_meld(tmp_path)
    table = tmp_path / "test_sent_emo.csv"
    write(table, table.read_text(encoding="utf-8").replace("surprise", "confused"))
    _, report = load_known("meld", tmp_path, cache_dir=tmp_path / "cache", progress=False)
    assert (
        report.notes["unknown_label"] == ["confused (2, such as test/dia0_utt1)"] and len(report.notes["other_label"]) == 2
    )
    _, report = load_known(
        "meld", tmp_path, label_map={"confused": "surprise"}, cache_dir=tmp_path / "cache", progress=False
    )
    assert report.samples[1]["surprise"] == 2


def test_a_changed_copy_is_read_again(tmp_path):
    write_ravdess(tmp_path)
    first, _ = load_known("ravdess", tmp_path, cache_dir=tmp_path / "cache", progress=False)
    clip(tmp_path / "Actor_03" / "03-01-05-01-01-01-03.wav")
    second, _ = load_known("ravdess", tmp_path, num_folds=3, cache_dir=tmp_path / "cache", progress=False)
    assert (len(first), len(second)) == (12, 13)


def test_the_command_reports_a_copy(copies, tmp_path, capsys):
    counters = tmp_path / "counters.json"
    assert main(["savee", str(copies / "savee"), "--cache_dir", str(copies / "cache"), "--counters", str(counters)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("savee: leave one speaker out") and "Not the whole SAVEE: 16 of 480 utterances" in out
    assert json.loads(counters.read_text())["clip_missing"]["count"] == 480 - 16
    assert main(["savee", str(copies / "tess")]) == 2
    assert "are named as those of TESS" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["savees", str(copies)])
    assert "no corpus is known as savees; choose one of ravdess" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- protocols


def test_speakers_are_dealt_by_gender_or_left_out_one_by_one(load, copies):
    dataset, report = load("ravdess", copies / "four_actors", num_folds=2)
    assert report.folds == {1: "01+02", 2: "03+04"} and by_fold(dataset, "gender") == {1: {"M", "F"}, 2: {"M", "F"}}
    dataset, report = load("ravdess", copies / "four_actors", protocol="speaker", num_folds=4)
    assert report.folds == {1: "01", 2: "02", 3: "03", 4: "04"} and report.split == "leave one speaker out"
    with pytest.raises(ValueError, match="--num_folds 5: 4 speakers can be dealt into 2 to 4 folds"):
        load("ravdess", copies / "four_actors", num_folds=5)
    with pytest.raises(ValueError, match="--num_folds deals speakers: give --protocol speaker with it, not random"):
        load("ravdess", copies / "four_actors", protocol="random", num_folds=2)
    with pytest.raises(ValueError, match="--protocol official: RAVDESS has speaker, random"):
        load("ravdess", copies / "four_actors", protocol="official")


def test_a_copy_with_one_speaker_says_what_can_be_done(load, copies):
    with pytest.raises(ValueError, match="savee has 1 known speakers .JK.: to hold one out there must be at least two"):
        load("savee", copies / "savee" / "AudioData" / "JK")


def test_official_splits_are_trained_chosen_and_tested_on_as_they_are(load):
    dataset, report = load("meld")
    assert report.folds == {1: "test", 2: "train", 3: "validation"} and report.held_out == [1]
    assert report.notes["shared_speaker"] == ["Guy, with a hat", "Rachel", "Ross"]
    samples = dataset.select(np.flatnonzero(np.asarray(dataset["label"]) >= 0))
    split = split_rows(samples, 1, 0.1, 0)
    for name in ("train", "validation", "test"):
        assert set(getattr(split, name)["split"]) == {name}
    assert split.unit == "official split" and len(split_rows(samples, 1, 0.0, 0).validation) == 0
    # History stays within its dialog, in the order of the turns, which the table has not.
    row = next(row for row in dataset if row["id"] == "test/dia1_utt2")
    assert row["history"] == ["No, “wait”!", "Hey!"] and row["text"] == "What?"


def test_of_several_test_splits_none_is_trained_on(load):
    dataset, report = load("msp-podcast")
    assert [report.folds[fold] for fold in report.held_out] == ["Test1", "Test2"]
    for fold in report.held_out:
        assert set(np.asarray(dataset["split"])[rows_to_train_on(dataset, fold)]) == {"train"}
    assert report.notes["shared_speaker"] == []  # 30 is in two test splits, and in none that is trained on
    assert "no_speaker" in report.kinds.all and report.notes["speaker_unknown"] == ["MSP-PODCAST_0001_0005"]


def test_sessions_and_speakers_of_msp_improv(load):
    dataset, report = load("msp-improv")
    assert report.folds == {1: "01", 2: "02"} and by_fold(dataset, "speaker") == {1: {"F01", "M01"}, 2: {"F02", "M02"}}
    _, report = load("msp-improv", protocol="speaker")
    assert report.folds == {1: "F01", 2: "F02", 3: "M01", 4: "M02"}


def test_a_random_share_keeps_speakers_whole(load):
    dataset, report = load("ravdess", protocol="random", test_share=0.5)
    folds = by_fold(dataset, "speaker")
    assert not folds[1] & folds[2] and report.held_out == [1] and report.notes["shared_speaker"] == []
    with pytest.raises(ValueError, match="--test_share is of --protocol random, not of speaker"):
        load("ravdess", test_share=0.5)


def test_rows_with_the_same_recording_are_never_in_two_folds(tmp_path):
    write_ravdess(tmp_path)
    source = tmp_path / "Actor_01" / "03-01-05-01-01-01-01.wav"
    (tmp_path / "Actor_02" / "03-01-05-01-01-01-02.wav").write_bytes(source.read_bytes())
    dataset, report = load_known("ravdess", tmp_path, cache_dir=tmp_path / "cache", progress=False)
    assert report.notes["copied_across"] == ["03-01-05-01-01-01-02 (as 03-01-05-01-01-01-01)"]
    assert dataset["label"].count(-1) == 1 and sum(sum(counts.values()) for counts in report.samples.values()) == 11


# -------------------------------------------------------------------------------------------------------------- IEMOCAP


def test_label_sets_of_iemocap():
    assert iemocap_labels(None, {}) == {"ang": "ang", "hap": "hap", "exc": "hap", "neu": "neu", "sad": "sad"}
    assert set(iemocap_labels(["four_without_excited"], {})) == {"ang", "hap", "neu", "sad"}
    six = {code: code for code in ("ang", "hap", "exc", "neu", "sad", "fru")}
    assert iemocap_labels(["six"], {}) == six == iemocap_labels(list(six), {})
    assert iemocap_labels(["happy", "sadness"], {}) == {"hap": "hap", "exc": "hap", "sad": "sad"}
    assert iemocap_labels(None, {"frustration": "angry"})["fru"] == "ang"
    for labels in (["five"], ["ang", "calm"]):
        with pytest.raises(ValueError, match="--labels (five|calm): IEMOCAP"):
            iemocap_labels(labels, {})
    with pytest.raises(ValueError, match="IEMOCAP has no label W"):
        iemocap_labels(None, {"W": "ang"})


def test_six_classes_of_iemocap(five_sessions, tmp_path):
    dataset, report = load_named({"iemocap": str(five_sessions)}, labels=["six"], cache_dir=str(tmp_path))
    assert report.classes == ["ang", "exc", "fru", "hap", "neu", "sad"] and report.standard is None
    assert {row["emotion"] for row in dataset if row["label"] >= 0} == set(report.classes)
    four, _ = load_named({"iemocap": str(five_sessions)}, labels=["four_without_excited"], cache_dir=str(tmp_path))
    assert {row["emotion"] for row in four if row["label"] >= 0} == {"ang", "hap", "neu", "sad"}
    usual, report = load_named({"iemocap": str(five_sessions)}, cache_dir=str(tmp_path))
    assert usual["label"] == load_iemocap(five_sessions, cache_dir=tmp_path)[0]["label"] and report.standard is not None


def test_one_speaker_of_iemocap_is_left_out_with_history(five_sessions, tmp_path):
    dataset, report = load_named({"iemocap": str(five_sessions)}, protocol="speaker", cache_dir=str(tmp_path))
    assert report.held_out == list(range(1, 11)) and report.folds[1] == "Ses01_F" and not report.is_standard
    assert report.remarks[-1].startswith("Not the standard 5,531 subset")
    samples = dataset.select(np.flatnonzero(np.asarray(dataset["label"]) >= 0))
    split = split_rows(samples, 1, 0.1, 0)
    assert set(split.test["speaker"]) == {"Ses01_F"} and set(split.validation["speaker"]) == {"Ses01_M"}
    assert "Ses01_M" not in split.train["speaker"] and split.unit == "other speakers of the test dialogs"
    told = {text for row in split.test for text in [*row["history"], row["text"]]}
    assert not told & {text for row in split.train for text in row["history"]}
    assert any(split.test["history"])


def test_what_raters_of_iemocap_said_is_kept(tmp_path):
    root = write_dialog(tmp_path / "release", "Ses01F_impro01", [Turn("F000", 0, 0.5, "neu"), Turn("M000", 0.5, 1, "ang")])
    path = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    head, first, second = path.read_text().split("[2.5000, 2.5000, 2.5000]")
    lines = (
        "[2.0000, 3.5000, 4.0000]\nC-E2:\tNeutral;\t()\nC-E3:\tNeutral; Sadness;\t(x)\nC-E4:\tAnger;\t()\nC-M1:\tFear;\t()\n"
    )
    path.write_text(head + lines + first.partition("\n")[2] + "[2.5000, 2.5000, 2.5000]" + second)
    row, other = load_iemocap(root, cache_dir=tmp_path / "cache")[0]
    assert (row["valence"], row["arousal"], row["dominance"]) == (2.0, 3.5, 4.0)
    assert row["votes"] == [1.0, 0.0, 2.5, 0.5] and other["votes"] == [0.0, 0.0, 1.0, 0.0]  # one more line below the first
    assert parse_rater_line("C-E2:\tNeutral state; Anger;\t(x)") == {"neu": 0.5, "ang": 0.5}
    assert parse_rater_line("C-F1:\tNeutral;\t()") == {} == parse_rater_line("A-E3:\tval 3; act 2; dom  2;\t()")


# --------------------------------------------------------------------------------------------------------------- unions


def unite(copies, *names, **options):
    corpora = {name: str(copies / name) for name in names}
    return load_named(corpora, cache_dir=str(copies / "cache"), **options)


def by_corpus(dataset) -> list[str]:
    return list(dict.fromkeys(dataset["corpus"]))


def test_a_union_has_the_classes_of_all_and_holds_one_corpus_out(copies):
    dataset, report = unite(copies, "crema-d", "emodb")
    assert report.classes == ["anger", "happiness", "neutral"] and report.held_out == [1, 2]
    assert report.folds == {1: "crema-d", 2: "emodb"} and by_corpus(dataset) == ["crema-d", "emodb"]
    assert "samples of each corpus: crema-d 6 (67%), emodb 3 (33%)" in report.remarks
    assert sorted(report.notes["other_class"]) == [
        "crema-d: 1001_IEO_SAD_LO (sadness)",
        "crema-d: 1002_IEO_SAD_LO (sadness)",
        "emodb: 16a05Lc (boredom)",
    ]
    names = report.classes
    for row in dataset:
        corpus, _, written = row["id"].partition("/")
        assert row["corpus"] == corpus and row["speaker"].startswith(f"{corpus}/")
        assert row["session"] == {"crema-d": 1, "emodb": 2}[corpus]
        meant = KNOWN[corpus].emotions[row["emotion"]]
        assert row["label"] == (names.index(meant) if meant in names else -1), written
    row = dataset[0]
    assert row["votes"] == [7.0, 0.0, 2.0] and "Audio" in row["audio"]["path"]


def test_speakers_of_one_name_in_two_corpora_are_kept_apart(copies):
    _, report = unite(copies, "emodb", "cafe", labels=["anger", "neutral"])
    assert report.notes["shared_name"] == []
    _, report = unite(copies, "ravdess", "cafe", labels=["anger", "neutral"], protocol="speaker")
    assert report.notes["shared_name"] == ["01 (ravdess, cafe)", "02 (ravdess, cafe)"]
    assert sorted(report.folds.values()) == ["cafe/01", "cafe/02", "ravdess/01", "ravdess/02"]


def test_iemocap_joins_a_union_in_standard_names(copies, five_sessions):
    corpora = {"iemocap": str(five_sessions), "crema-d": str(copies / "crema-d")}
    dataset, report = load_named(corpora, cache_dir=str(copies / "cache"))
    assert report.classes == ["anger", "happiness", "neutral", "sadness"]
    samples = [row for row in dataset if row["label"] >= 0]
    assert {row["emotion"] for row in samples if row["corpus"] == "iemocap"} == {"ang", "exc", "hap", "neu", "sad"}
    assert any(row["history"] for row in samples)


def test_unions_that_cannot_be_are_refused(copies, five_sessions):
    has = "crema-d: anger, happiness, neutral, sadness; emovo: happiness, neutral, disgust, surprise; cafe: "
    with pytest.raises(ValueError, match=f"1 classes in common, and a classifier needs two .{has}"):
        unite(copies, "crema-d", "emovo", "cafe")
    with pytest.raises(ValueError, match="--labels anger calm: they must be"):
        unite(copies, "emodb", "cafe", labels=["anger", "calm"])
    with pytest.raises(ValueError, match="EmoDB, CaFE has no label calm"):
        unite(copies, "emodb", "cafe", label_map={"calm": "x"})
    with pytest.raises(ValueError, match="leaves one whole corpus out, and nothing would be left to train on"):
        load_named({"iemocap": str(five_sessions)}, protocol="corpus", cache_dir=str(copies / "cache"))


# -------------------------------------------------------------------------------------------------------------- options


def test_names_of_corpora_on_the_command_line(tmp_path):
    assert named_corpora(["iemocap"], "DIR") == {"iemocap": "DIR"}
    assert named_corpora(["ravdess"], "DIR") == {"ravdess": "DIR"}
    assert named_corpora(["ravdess=a", "iemocap=b"], None) == {"ravdess": "a", "iemocap": "b"}
    assert named_corpora(["table.csv"], None) is None and named_corpora(["owner/name"], None) is None
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert named_corpora([str(folder)], None) is None
    wrong = {
        "no corpus is known as ravdes. Did you mean ravdess?": (["ravdes=a"], None),
        "ravdess needs its folder: give --corpus ravdess=DIR": (["ravdess"], None),
        "each is given as NAME=DIR": (["ravdess=a", "table.csv"], None),
        "has ravdess twice": (["ravdess=a", "ravdess=b"], None),
        "give no --data_dir with them": (["ravdess=a"], "b"),
        "--data_dir is of --corpus iemocap": (["table.csv"], "b"),
        "iemocap needs its folder": (["iemocap"], None),
    }
    for message, words in wrong.items():
        with pytest.raises(ValueError) as error:
            named_corpora(*words)
        assert message in str(error.value)


def test_folds_are_chosen_by_name_or_number():
    folds = {1: "03", 2: "08", 8: "15", 9: "spk0"}
    assert choose_folds(None, folds) == [1, 2, 8, 9]
    assert choose_folds(["spk0", "15", "1"], folds) == [9, 8, 1]
    assert choose_folds(["08", "08", "2"], folds) == [2]
    with pytest.raises(ValueError, match="--folds 8 could be 08 .number 2. and 15 .number 8.: give the name"):
        choose_folds(["8"], folds)
    with pytest.raises(
        ValueError, match=r"--folds \[spk1\]: the corpus has utterances in the sessions \[1, 2, 8, 9\], called 03, 08"
    ):
        choose_folds(["spk1"], folds)


def test_the_options_have_no_abbreviation_that_takes_a_corpus_for_another():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_corpus_options(parser)
    args = parser.parse_args(["--corpus", "ravdess=a", "crema-d=b", "--folds", "crema-d", "--label_map", "a=b"])
    assert args.corpus == ["ravdess=a", "crema-d=b"] and args.folds == ["crema-d"] and args.label_map == ["a=b"]
    assert parser.parse_args([]).corpus == ["iemocap"]


def test_the_script_trains_on_a_union_and_scores_each_corpus(copies, tmp_path, towers):
    options = ["--recipe", "B1", "--speech_model", str(towers[0]), "--text_model", str(towers[1]), "--second_stage", "none"]
    options += ["--epochs", "1", "--warmup_steps", "0", "--batch_size", "4", "--cache_dir", str(copies / "cache")]
    corpora = ["--corpus", f"crema-d={copies / 'crema-d'}", f"emodb={copies / 'emodb'}", "--validation_share", "0"]
    assert lemer.train.main([*options, *corpora, "--folds", "emodb", "--output_dir", str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run/fold2/seed0/results.json").read_text())
    assert results["fold_name"] == "emodb" and results["by_corpus"]["emodb"]["utterances"] == 3 == results["utterances"]
    text = (tmp_path / "run/results.md").read_text()
    assert "| fold 2 (emodb), seed 0 |" in text and "| emodb, pooled |" in text
    protocol = json.loads((tmp_path / "run/protocol.json").read_text())
    assert protocol["corpus"] == "crema-d + emodb" and protocol["fold_names"] == {"1": "crema-d", "2": "emodb"}
    assert str(copies) not in json.dumps({**protocol, "command": None, "speech_model": None, "text_model": None})


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    return tower_folders(tmp_path_factory.mktemp("towers"))


def test_other_classes_of_iemocap_are_no_task_of_the_papers(five_sessions, tmp_path):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_corpus_options(parser)
    said = []
    for options in ([], ["--labels", "six"], ["--protocol", "speaker", "--folds", "Ses02_M"]):
        corpus = load_corpus(parser.parse_args(["--data_dir", str(five_sessions), "--cache_dir", str(tmp_path), *options]))
        said.append((corpus.protocol["corpus"], corpus.protocol.get("fold_names", {}).get("4"), corpus.folds))
    six = "iemocap, ang, exc, fru, hap, neu, sad, leave one session out; speakers of a session occur in no other"
    assert said[0] == ("iemocap", None, [1, 2, 3, 4, 5]) and said[1] == (six, "Session4", [1, 2, 3, 4, 5])
    assert said[2] == ("iemocap, ang, hap, neu, sad, leave one speaker out", "Ses02_M", [4])


def test_a_tower_that_may_have_seen_the_test_in_other_folds_is_refused(tmp_path):
    folder = tmp_path / "run" / "fold2" / "seed0"
    folder.mkdir(parents=True)
    tower = str(folder / "checkpoint")
    (folder / "results.json").write_text(json.dumps({"fold": 2}))
    said = {"corpus": "ravdess + emodb", "corpus_fingerprint": "a", "fold_names": {"1": "ravdess", "2": "emodb"}}
    (tmp_path / "run" / "protocol.json").write_text(json.dumps(said))
    check_unseen(tower, 2, "a", "ravdess + emodb")  # the same run's own fold
    check_unseen(tower, 3, "b", "emodb")  # held out whole when the tower was trained
    check_unseen(tower, 3, "b", "crema-d")
    for corpus in ("ravdess", "crema-d + ravdess"):
        with pytest.raises(ValueError, match="was trained on ravdess in other folds or on another copy"):
            check_unseen(tower, 3, "b", corpus)
