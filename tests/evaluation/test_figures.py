"""Figures: label attention over an utterance, key words and key frames of labels, plots of a report."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from fake_runs import NAMES
from tiny import tiny_model, tiny_processor

from lemer.evaluation import attention_figure, label_figure, plots
from lemer.evaluation.attention_figure import draw_label_attentions, frame_times, label_attention_figure
from lemer.evaluation.label_figure import join_sounds, key_frame_sounds, runs_of_codes, training_recordings
from lemer.labels_lemer import frame_codes

SAMPLES = (0.1 * np.random.default_rng(0).normal(size=4000)).astype(np.float32)  # 12 frames
TEXT, HISTORY = "i hate this day", ["hello", "you are late again"]


def opened(png: bytes) -> bool:
    return png.startswith(b"\x89PNG") and len(png) > 2000


# ----------------------------------------------------------------------------------------------- attention to labels


def test_frame_times_by_hand():
    class Published:
        conv_kernel, conv_stride = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)

    class Small:  # a frame reads 4 + 2 * (3 - 1) = 8 samples, and one comes every 2 * 3 = 6
        conv_kernel, conv_stride = (4, 3), (2, 3)

    assert frame_times(Published, 3) == pytest.approx([0.0125, 0.0325, 0.0525])
    assert frame_times(Small, 3, 1000) == pytest.approx([0.004, 0.010, 0.016])


def test_arrays_are_the_models_output():
    model, processor = tiny_model(), tiny_processor()
    _, arrays = label_attention_figure(model, processor, SAMPLES, TEXT, HISTORY)
    batch = processor(audio=SAMPLES, text=TEXT, history=HISTORY, return_tensors="pt")
    with torch.no_grad():
        out = model(**batch)
    np.testing.assert_array_equal(arrays["label_frame_attentions"], out.label_frame_attentions[0].numpy())
    np.testing.assert_array_equal(arrays["label_token_attentions"], out.label_token_attentions[0].numpy())
    np.testing.assert_array_equal(arrays["samples"], SAMPLES)
    assert arrays["scores"] == pytest.approx(out.logits.softmax(-1)[0].numpy())
    assert arrays["labels"].tolist() == list(NAMES)
    assert len(arrays["frame_times"]) == 12 and arrays["frame_times"][-1] == pytest.approx((11 * 320 + 200) / 16_000)
    tokens = arrays["tokens"].tolist()
    assert tokens == ["[CLS]", "hello", "you", "are", "late", "again", "[SEP]", "i", "hate", "this", "day", "[SEP]"]
    assert np.flatnonzero(arrays["is_current"]).tolist() == [7, 8, 9, 10, 11]


def lines_of(ax):
    return [line.get_ydata() for line in ax.get_lines()]


def test_the_figure_draws_the_answered_label_or_another_one():
    _, arrays = label_attention_figure(tiny_model(), tiny_processor(), SAMPLES, TEXT)
    answered = int(arrays["scores"].argmax())
    for label, shown in ((None, answered), ("neu", 2)):
        _, (frames, parts, parts_alone, words, losses, words_alone) = draw_label_attentions(arrays, label)
        for ax, name in ((frames, "label_frame_attentions"), (words, "label_word_attentions")):
            nearness = arrays[name] - arrays[name].mean(1, keepdims=True)
            np.testing.assert_allclose(ax.images[0].get_array(), nearness.T, atol=1e-6)
            assert ax.get_yticklabels()[shown].get_fontweight() == "bold"
        score = arrays["scores"][shown]
        for ax, kind in ((parts, "part"), (losses, "word")):
            assert [bar.get_height() for bar in ax.patches] == pytest.approx(arrays[f"{kind}_evidence"][:, shown])
            without = 100 * (score - arrays[f"{kind}_effects"][:, shown])
            assert [float(text.get_text()) for text in ax.texts] == pytest.approx(without, abs=0.5)
            assert f"the score of {NAMES[shown]} without it" in ax.get_title(loc="left")
            assert f"log$_2$-odds that {NAMES[shown]}\nloses" in ax.get_ylabel()
        for ax, kind in ((parts_alone, "part"), (words_alone, "word")):
            assert [bar.get_height() for bar in ax.patches] == pytest.approx(100 * arrays[f"{kind}_alone"][:, shown])
            assert lines_of(ax) == [pytest.approx([100 * arrays[f"no_{kind}"][shown]] * 2)]
        assert [text.get_text() for text in words_alone.get_xticklabels()] == TEXT.split()
    with pytest.raises(ValueError, match="choose one of ang, hap, neu, sad"):
        draw_label_attentions(arrays, "joy")


def test_earlier_turns_are_drawn_with_their_words():
    history = [*HISTORY, "you are so late again this day we won " * 5]
    fig, arrays = label_attention_figure(tiny_model(modality="text"), tiny_processor(), None, TEXT, history)
    _, (*_, without, alone) = draw_label_attentions(arrays)
    shown = int(arrays["scores"].argmax())
    assert [bar.get_height() for bar in without.patches] == pytest.approx(arrays["turn_evidence"][:, shown])
    assert [bar.get_height() for bar in alone.patches] == pytest.approx(100 * arrays["turn_alone"][:, shown])
    names = [text.get_text() for text in alone.get_xticklabels()]
    assert names[:2] == HISTORY and names[2].count("\n") == 2 and names[2].endswith(" ...")
    assert opened(plots.png(fig))


def test_word_pieces_are_merged_and_special_tokens_and_earlier_turns_left_out():
    text = " hello, zzz   you "  # zzz is spelled, the comma is a piece of its own
    _, arrays = label_attention_figure(tiny_model(), tiny_processor(), None, text, ["you are late"])
    tokens, attention = arrays["tokens"].tolist(), arrays["label_token_attentions"]
    current = tokens.index("[SEP]") + 1
    assert tokens[current:-1] == ["hello", ",", "z", "##z", "##z", "you"]
    assert arrays["words"].tolist() == ["hello,", "zzz", "you"]
    expected = [attention[current : current + 2].mean(0), attention[current + 2 : current + 5].mean(0)]
    np.testing.assert_allclose(arrays["label_word_attentions"], [*expected, attention[current + 5]], atol=1e-6)


def test_words_that_do_not_fit_into_the_model_are_not_drawn():
    fig, arrays = label_attention_figure(tiny_model(), tiny_processor(max_text_length=5), None, TEXT)
    assert arrays["words"].tolist() == TEXT.split()[:3] and arrays["unread"] == 1
    assert arrays["label_word_attentions"].shape == (3, 4) and np.isfinite(arrays["label_word_attentions"]).all()
    assert any("the last 1 of the text are not read" in ax.get_xlabel() for ax in fig.axes)


SPEECH = {"samples", "sampling_rate", "frame_times", "label_frame_attentions"}
SPEECH |= {"part_bounds", "part_effects", "part_evidence", "part_alone", "no_part", "seconds", "heard"}
SPEECH |= {"stretch_bounds", "stretch_effects", "stretch_evidence", "stretch_alone"}
WORDS = {"tokens", "label_token_attentions", "label_word_attentions", "words"}
WORDS |= {"word_effects", "word_evidence", "word_alone", "no_word", "unread"}
TURNS = {"turns", "turn_effects", "turn_evidence", "turn_alone", "no_turn"}


@pytest.mark.parametrize(
    ("modality", "inputs", "drawn"),
    [
        ("multimodal", {"audio": SAMPLES, "text": TEXT}, SPEECH | WORDS),
        ("multimodal", {"audio": SAMPLES}, SPEECH),
        ("multimodal", {"text": TEXT, "history": HISTORY}, WORDS | TURNS),
        ("speech", {"audio": SAMPLES}, SPEECH),
        ("speech", {"audio": SAMPLES, "text": TEXT, "history": HISTORY}, SPEECH),
        ("text", {"text": TEXT}, WORDS),
        ("text", {"audio": SAMPLES, "text": TEXT}, WORDS),
    ],
)
def test_what_a_model_takes_is_drawn(modality, inputs, drawn):
    fig, arrays = label_attention_figure(tiny_model(modality=modality), tiny_processor(), **inputs)
    assert set(arrays) - {"labels", "scores", "is_current"} == drawn
    assert len([ax for ax in fig.axes if ax.get_ylabel() == "label"]) == bool(drawn & SPEECH) + bool(drawn & WORDS)
    assert opened(plots.png(fig))


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="needs a text, got none"):
        label_attention_figure(tiny_model(modality="text"), tiny_processor(), SAMPLES)
    with pytest.raises(ValueError, match="no label embeddings"):
        label_attention_figure(tiny_model(fusion="cross", use_label_embeddings=False), tiny_processor(), SAMPLES)


def test_a_model_in_training_answers_as_in_evaluation_and_stays_in_training():
    model = tiny_model(text={"hidden_dropout_prob": 0.5})
    _, before = label_attention_figure(model, tiny_processor(), SAMPLES, TEXT)
    _, after = label_attention_figure(model.train(), tiny_processor(), SAMPLES, TEXT)
    assert model.training
    np.testing.assert_array_equal(before["label_token_attentions"], after["label_token_attentions"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of session 2 held out, beside its results; some codes of every label occur, one does not."""
    folder = tmp_path_factory.mktemp("run") / "fold2" / "seed0"
    model = tiny_model()
    model.config.label_words = {name: [f"{name}{k}" for k in range(9)] for name in NAMES}
    model.config.label_codes = {name: codes for name, codes in zip(NAMES, some_codes(model), strict=True)}
    model.save_pretrained(folder / "checkpoint")
    tiny_processor().save_pretrained(folder / "checkpoint")
    (folder / "results.json").write_text('{"fold": 2}')
    return folder / "checkpoint"


def some_codes(model) -> list[list[list[int]]]:
    batch = tiny_processor()(SAMPLES, sampling_rate=16_000, return_tensors="pt")
    heard = list(dict.fromkeys(map(tuple, frame_codes(model, **batch)[0].tolist())))
    never = [[a, b] for a in range(6) for b in range(6) if (a, b) not in heard]
    heard = [list(code) for code in heard]
    return [heard[:2], [never[0], heard[-1]], [heard[1], never[1]], never[:1]]


def test_the_command_writes_the_figure_and_its_arrays(checkpoint, tmp_path, capsys):
    soundfile.write(tmp_path / "clip.wav", SAMPLES, 16_000)
    arguments = [str(checkpoint), str(tmp_path / "clip.wav"), "--text", TEXT, "--history", *HISTORY, "--label", "sad"]
    assert attention_figure.main([*arguments, "--output", str(tmp_path / "out/fig.png")]) == 0
    assert opened((tmp_path / "out/fig.png").read_bytes())
    with np.load(tmp_path / "out/fig.npz") as arrays:
        assert arrays["label_frame_attentions"].shape == (12, 4) and len(arrays["tokens"]) == 12
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fig.npz", "fig.png"]
    for change, message in (
        (["--output", str(tmp_path / "fig.jpg")], "must end in .png"),
        (["--label", "joy", "--output", str(tmp_path / "fig.png")], "no label 'joy'"),
    ):
        assert attention_figure.main([*arguments, *change]) == 1
        assert message in capsys.readouterr().err
    assert attention_figure.main([str(checkpoint), "nowhere.wav", "--output", str(tmp_path / "fig.png")]) == 1
    assert "nowhere.wav" in capsys.readouterr().err and not (tmp_path / "fig.png").exists()


# ------------------------------------------------------------------------------------------- key words and key frames


def test_runs_of_codes_by_hand():
    codes = np.array([[1, 2], [1, 2], [1, 3], [1, 2], [0, 0], [0, 0], [0, 0]])
    assert runs_of_codes(codes) == [((1, 2), 0, 2), ((1, 3), 2, 3), ((1, 2), 3, 4), ((0, 0), 4, 7)]
    assert runs_of_codes(codes[:0]) == []


def test_joined_sounds_keep_a_level_and_have_one_fade_between_two():
    level = join_sounds([np.ones(100), np.ones(50), np.ones(80)], 20)
    assert len(level) == 100 + 50 + 80 - 2 * 20 and level == pytest.approx(np.ones(190))
    step = join_sounds([np.zeros(4), np.ones(4)], 2)
    assert step == pytest.approx([0, 0, 0.25, 0.75, 1, 1])
    assert join_sounds([np.zeros(3), np.ones(1)], 2) == pytest.approx([0, 0, 0.5])
    assert join_sounds([], 5).tolist() == [] and join_sounds([np.ones(2)], 0).tolist() == [1, 1]


def test_key_frames_play_the_longest_run_in_rank_order():
    model, processor = tiny_model(), tiny_processor()
    model.config.label_codes = dict(zip(NAMES, some_codes(model), strict=True))
    clips = [SAMPLES, np.concatenate([SAMPLES[:2000], np.zeros(2000, dtype=np.float32)])]
    sounds = key_frame_sounds(model, processor, clips)
    runs = [
        (code, end - begin, number, begin)
        for number, clip in enumerate(clips)
        for code, begin, end in runs_of_codes(
            frame_codes(model, **processor(clip, sampling_rate=16_000, return_tensors="pt"))[0]
        )
    ]
    for name in NAMES:
        sound, wanted = sounds[name], [tuple(code) for code in model.config.label_codes[name]]
        heard = [code for code in wanted if any(run[0] == code for run in runs)]
        assert sound.codes == heard and sound.ranks == [wanted.index(code) + 1 for code in heard]
        stretches = []
        for code, source, (start, seconds) in zip(sound.codes, sound.sources, sound.times, strict=True):
            _, frames, number, begin = max((run for run in runs if run[0] == code), key=lambda run: run[1])
            assert (source, start) == (number, begin * 320 / 16_000)
            assert seconds == pytest.approx(((frames - 1) * 320 + 400) / 16_000)
            stretches.append(clips[number][begin * 320 :][: (frames - 1) * 320 + 400])
        np.testing.assert_array_equal(sound.samples, join_sounds(stretches, 80))
    assert len(sounds["ang"].codes) == 2 and len(sounds["hap"].codes) == 1 and sounds["sad"].samples.size == 0


def test_key_frames_need_codes_and_recordings():
    with pytest.raises(ValueError, match="no key frames"):
        key_frame_sounds(tiny_model(), tiny_processor(), [SAMPLES])
    model = tiny_model()
    model.config.label_codes = dict(zip(NAMES, some_codes(model), strict=True))
    with pytest.raises(ValueError, match="no recording"):
        key_frame_sounds(model, tiny_processor(), iter([]))


def write_corpus(root):
    for session in (1, 2, 3):
        folder = root / f"Session{session}/sentences/wav/Ses0{session}F_impro01"
        folder.mkdir(parents=True)
        for turn in ("F000", "M000"):
            soundfile.write(folder / f"Ses0{session}F_impro01_{turn}.wav", SAMPLES, 16_000)
        (folder / "._Ses.wav").write_bytes(b"\0")
    return root


def test_the_session_held_out_is_never_listened_to(tmp_path):
    write_corpus(tmp_path)
    found = training_recordings(tmp_path, 2, 0)
    assert [path.name[:5] for path in found] == ["Ses01", "Ses01", "Ses03", "Ses03"]
    assert training_recordings(tmp_path, 2, 2) == [found[0], found[-1]]
    assert training_recordings(tmp_path, 2, 9) == found
    with pytest.raises(ValueError, match="of a session but 2"):
        training_recordings(tmp_path / "Session1", 2, 0)


def test_the_command_writes_a_sound_a_label(checkpoint, tmp_path, capsys):
    corpus = write_corpus(tmp_path / "corpus")
    arguments = [str(checkpoint), "--data_dir", str(corpus), "--output", str(tmp_path / "out")]
    assert label_figure.main(arguments) == 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"labels.png", "labels.npz", "ang.wav", "hap.wav", "neu.wav"}  # none of sad's codes was heard
    assert opened((tmp_path / "out/labels.png").read_bytes())
    samples, rate = soundfile.read(tmp_path / "out/ang.wav")
    with np.load(tmp_path / "out/labels.npz") as arrays:
        assert rate == arrays["sampling_rate"] == 16_000 and samples == pytest.approx(arrays["ang_samples"], abs=1e-4)
        assert arrays["ang_words"].tolist() == [f"ang{k}" for k in range(9)] and len(arrays["sad_samples"]) == 0
    assert label_figure.main([str(checkpoint), "--output", str(tmp_path / "out2")]) == 1
    assert "--data_dir is needed" in capsys.readouterr().err and not (tmp_path / "out2").exists()


def test_without_results_beside_it_the_fold_is_asked_for(checkpoint, tmp_path, capsys):
    model, alone = label_figure.load_checkpoint(str(checkpoint))[0], tmp_path / "alone"
    model.save_pretrained(alone)
    tiny_processor().save_pretrained(alone)
    corpus = write_corpus(tmp_path / "corpus")
    arguments = [str(alone), "--data_dir", str(corpus), "--output", str(tmp_path / "out")]
    assert label_figure.main(arguments) == 1
    assert "give --fold" in capsys.readouterr().err
    assert label_figure.main([*arguments, "--fold", "3", "--recordings", "1"]) == 0


def test_labels_of_one_modality_have_one_column():
    words = {name: ["one", "two"] for name in NAMES}
    _, axes = label_figure.label_figure(words, None)
    assert axes.shape == (4, 1)
    sound = label_figure.KeyFrameSound(SAMPLES, 16_000, wanted=3, codes=[(0, 1)])
    _, axes = label_figure.label_figure(None, dict.fromkeys(NAMES, sound))
    assert axes.shape == (4, 1) and axes[-1, 0].get_xlabel().startswith("time (s)")
    with pytest.raises(ValueError, match="nothing to draw"):
        label_figure.label_figure(None, None)


# ------------------------------------------------------------------------------------------------------ report's plots


def test_the_confusion_matrix_shows_shares_of_rows_and_counts():
    fig, ax = plots.confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "$b"], "title")
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in ax.texts] == ["75\n(3)", "25\n(1)", "0\n(0)", "0\n(0)"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "labelled class") and opened(plots.png(fig))


def test_learning_curves_have_a_second_panel_only_with_validation():
    curve = {"epoch": [1, 2], "loss": [2.0, 1.0], "validation_epoch": [], "validation_ua": []}
    _, ax = plots.learning_curves({"fold 1": curve})
    np.testing.assert_array_equal(lines_of(ax)[0], [2.0, 1.0])
    fig, axes = plots.learning_curves({"a": curve, "b": {**curve, "validation_epoch": [1, 2], "validation_ua": [0.5, 0.25]}})
    np.testing.assert_array_equal(lines_of(axes[1])[1], [50, 25])
    assert opened(plots.png(fig))


def test_the_sweep_is_drawn_in_the_order_of_k():
    fig, ax = plots.k_sweep([(100, 80.0, 81.0), (10, 70.0, 71.0)], "key frames a class")
    wa, ua = ax.get_lines()
    assert (wa.get_xdata().tolist(), wa.get_ydata().tolist()) == ([10, 100], [70, 80])
    assert ua.get_ydata().tolist() == [71, 81] and ax.get_xlabel() == "K, key frames a class"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "100"]
    assert opened(plots.png(fig))


def test_no_figure_touches_pyplot():
    code = (
        "import sys, lemer.evaluation.plots as p; p.png(p.new_figure(1, 1)[0]); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_same_figure_is_the_same_file():
    pictures = [plots.png(plots.confusion_matrix(np.eye(2), ["a", "b"])[0]) for _ in range(2)]
    assert pictures[0] == pictures[1]
