"""LemerPipeline: every form of input, alone as in any batch, dialogs, windows and segments, transcripts, saving."""

import gc
import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from datasets import Audio, Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from strangers import run_stranger
from tiny import WORDS, tiny_config, tiny_cross_modal, tiny_model, tiny_processor
from tiny_asr import write_tiny_asr
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from lemer import LemerModel, LemerPipeline
from lemer.pipeline_lemer import cut_evenly

RATE = 16_000  # Hz
NOISE = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
CLIP = NOISE[:6000]
TEXT = "you are so late again"


class Quiet(SimpleHTTPRequestHandler):
    """Gives files without a line in the log for each."""

    def log_message(self, *_):
        pass


def audio(samples) -> dict:
    return {"array": samples, "sampling_rate": RATE}


@pytest.fixture(scope="module")
def pipes():
    made = {}
    for modality in ("multimodal", "speech", "text"):
        made[modality] = LemerPipeline(tiny_model(modality=modality), tiny_processor(), device="cpu")
    return made


@pytest.fixture(scope="module")
def pipe(pipes):
    return pipes["multimodal"]


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    soundfile.write(path, CLIP, RATE, subtype="FLOAT")
    return path


def assert_same(one, other):
    """Equal answers: structure and words equal, numbers within 1e-5; labels may swap where scores are that near."""
    assert type(one) is type(other)
    if isinstance(one, list) and one and "label" in one[0] and "scores" not in one[0]:
        scores, others = ({x["label"]: x["score"] for x in answer} for answer in (one, other))
        assert scores == pytest.approx(others, abs=1e-5)
        assert {x["modality"] for x in one} == {x["modality"] for x in other}
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one.keys() == other.keys() and one["text"] == other["text"]
        assert [one["start"], one["end"]] == pytest.approx([other["start"], other["end"]])
        assert_same(one["scores"], other["scores"])


def modalities(answer) -> set[str]:
    return {one["modality"] for one in answer}


# --------------------------------------------------------------------------------------------------------- the answer


def test_the_answer_is_the_models_softmax_highest_first(pipe):
    answer = pipe({"audio": audio(CLIP), "text": TEXT, "history": ["hello", "i hate this"]})
    batch = pipe.processor(audio=CLIP, text=TEXT, history=["hello", "i hate this"], sampling_rate=RATE, return_tensors="pt")
    expected = pipe.model(**batch).logits.softmax(-1)[0]
    assert [one["label"] for one in answer] == [
        pipe.model.config.id2label[i] for i in expected.argsort(descending=True).tolist()
    ]
    assert [one["score"] for one in answer] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-6)
    assert modalities(answer) == {"multimodal"}


@pytest.mark.parametrize(
    ("one", "modality", "field"),
    [({"audio": audio(CLIP)}, "speech", "speech_label_logits"), ({"text": TEXT}, "text", "text_label_logits")],
)
def test_without_a_modality_the_branch_left_answers_with_its_cosines(pipe, one, modality, field):
    answer = pipe(one)
    inputs = {"audio": CLIP, "sampling_rate": RATE} if modality == "speech" else {"text": TEXT}
    cosines = pipe.model(**pipe.processor(**inputs, return_tensors="pt"))[field][0]
    expected = dict(zip(pipe.model.config.id2label.values(), cosines.softmax(-1).tolist(), strict=True))
    assert {x["label"]: x["score"] for x in answer} == pytest.approx(expected, abs=1e-6)
    assert modalities(answer) == {modality}


@pytest.mark.parametrize("blank", [None, "", "  \n", "\u200b", "\x00\u200b \ufeff"])
def test_blank_words_are_none(pipe, blank):
    assert_same(pipe({"audio": audio(CLIP), "text": blank, "history": ["hello"]}), pipe(audio(CLIP)))


@pytest.mark.parametrize("make", [tuple, np.array, pd.Series])
def test_a_history_may_be_any_container(pipe, make):
    turns = ["i hate this", "great"]
    expected = pipe({"text": TEXT, "history": turns})
    assert pipe({"text": TEXT, "history": make(turns)}) == pipe({"text": TEXT}, history=make(turns)) == expected
    assert pipe({"text": TEXT, "history": make([])}) == pipe({"text": TEXT}) != expected


@pytest.mark.parametrize(
    ("modality", "one"), [("speech", {"audio": audio(CLIP)}), ("text", {"text": TEXT}), ("multimodal", {})]
)
def test_a_temperature_divides_the_logits_of_its_modality_alone(pipe, modality, one):
    one = one or {"audio": audio(CLIP), "text": TEXT}
    plain = pipe(one)
    warm = LemerPipeline(tiny_model(temperatures={modality: 0.5}), tiny_processor(), device="cpu")
    logits = np.log([label["score"] for label in plain])  # up to a constant
    expected = np.exp(2 * logits) / np.exp(2 * logits).sum()
    np.testing.assert_allclose([label["score"] for label in warm(one)], expected, rtol=1e-5)
    assert [label["label"] for label in warm(one)] == [label["label"] for label in plain]
    other = {"text": "hello"} if modality == "speech" else {"audio": audio(CLIP)}
    assert_same(warm(other), pipe(other))


@pytest.mark.parametrize("top_k", [1, 3, 9])
def test_top_k_cuts_the_answer(pipe, top_k):
    assert pipe({"text": TEXT}, top_k=top_k) == pipe({"text": TEXT})[:top_k]


def test_scores_sum_to_one(pipe):
    assert sum(one["score"] for one in pipe({"text": TEXT})) == pytest.approx(1)


# ------------------------------------------------------------------------------------------------------ forms of input

CHANNELS = torch.from_numpy(CLIP)[None]  # (1, N)
FORMS = {
    "path": str,
    "Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "dict of array": lambda _: audio(CLIP),
    "dict of path": lambda path: {"path": str(path), "bytes": None},
    "array": lambda _: CLIP,
    "tensor": lambda _: torch.from_numpy(CLIP),
    "decoder": lambda _: SimpleNamespace(get_all_samples=lambda: SimpleNamespace(data=CHANNELS, sample_rate=RATE)),
    "dict of audio": lambda path: {"audio": str(path)},
    "dict of audio of bytes": lambda path: {"audio": path.read_bytes(), "text": None, "history": None},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_gives_the_same_answer(pipe, wav, form):
    expected = pipe(audio(CLIP))
    assert_same(pipe(FORMS[form](wav), sampling_rate=RATE), expected)
    assert_same(pipe([FORMS[form](wav)], sampling_rate=RATE), [expected])


def test_the_keys_of_a_recording_may_stand_beside_its_words(pipe):
    beside = {"raw": CLIP, "sampling_rate": RATE, "text": TEXT}
    assert pipe(beside) == pipe({"audio": audio(CLIP), "text": TEXT})
    assert pipe({"raw": CLIP, "sampling_rate": RATE}) == pipe(audio(CLIP))


def test_an_address_is_answered_like_the_file_there(pipe, wav):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(wav.parent)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/{wav.name}"
        assert pipe(url) == pipe({"audio": url}) == pipe(str(wav))
    finally:
        server.shutdown()
        server.server_close()


def test_a_speaker_stands_in_the_answer_and_changes_nothing_else(pipe):
    turns = [{"text": "i hate this", "speaker": "A"}, {**audio(CLIP), "speaker": "B"}]
    answer = pipe({"turns": turns})
    assert [{one["speaker"] for one in turn} for turn in answer] == [{"A"}, {"B"}]
    plain = pipe({"turns": [{name: turn[name] for name in turn if name != "speaker"} for turn in turns]})
    assert [[{**one, "speaker": name} for one in turn] for name, turn in zip("AB", plain, strict=True)] == answer
    parts = pipe(audio(NOISE), segments=[{"start": 0, "end": 1, "speaker": "C"}, (1, 2)])
    assert parts[0]["speaker"] == "C" and "speaker" not in parts[1]


def test_named_arguments_are_the_keys_of_one_input(pipe, wav):
    named = pipe(str(wav), text=TEXT, history=["hello"])
    assert_same(named, pipe({"audio": str(wav), "text": TEXT, "history": ["hello"]}))


@pytest.fixture(scope="module")
def rows():
    texts = [TEXT, "hello", None]
    return Dataset.from_dict(
        {"audio": [audio(NOISE[: 2000 * n]) for n in (1, 2, 3)], "text": texts, "history": [["hello"], [], []]}
    )


def test_a_column_a_dataset_and_streams_answer_like_a_list(pipe, rows):
    expected = pipe([rows[i]["audio"] for i in range(3)])
    assert isinstance(expected, list)
    for stream in (rows["audio"], KeyDataset(rows, "audio"), (row["audio"] for row in rows), map(dict, rows["audio"])):
        assert_same(list(pipe(stream, batch_size=2)), expected)
    assert_same(pipe(tuple(rows["audio"])), expected)
    assert_same(pipe(rows, batch_size=2), [pipe(rows[i]) for i in range(3)])


def test_a_column_of_datasets_audio_is_taken_as_it_decodes(pipe, wav):
    dataset = Dataset.from_dict({"audio": [str(wav)] * 2}).cast_column("audio", Audio(decode=False))
    assert_same(pipe(dataset["audio"]), [pipe(str(wav))] * 2)


def test_a_stream_is_read_as_it_is_answered(pipe):
    taken = []
    answers = pipe(taken.append(text) or {"text": text} for text in WORDS)
    next(answers)
    assert len(taken) < len(WORDS)


@pytest.mark.parametrize("nothing", [[], (), iter(())])
def test_of_nothing_comes_nothing(pipe, nothing):
    assert list(pipe(nothing)) == []


# ------------------------------------------------------------------------------------------- alone as in any batch

ONE = st.fixed_dictionaries(
    {
        "audio": st.none() | st.integers(1, 9000).map(lambda n: audio(NOISE[n : 2 * n])),
        "text": st.none() | st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join),
        "history": st.none() | st.lists(st.sampled_from(WORDS), max_size=2),
    }
).filter(lambda one: one["audio"] is not None or one["text"])


@settings(max_examples=40)
@given(st.lists(ONE, min_size=1, max_size=5), st.integers(1, 6))
def test_an_input_is_answered_alone_as_in_any_batch(pipes, inputs, batch_size):
    assert_same(pipes["multimodal"](inputs, batch_size=batch_size), [pipes["multimodal"](one) for one in inputs])


def test_dialogs_recordings_and_words_meet_in_one_batch(pipe):
    inputs = [
        {"turns": [{"text": "hello"}, audio(CLIP), {"audio": audio(CLIP), "text": TEXT}]},
        audio(NOISE),
        {"text": TEXT},
        {"audio": audio(NOISE), "segments": [(0, 1), {"start": 1, "end": 2, "text": "hello"}]},
    ]
    for batch_size in (1, 4, 9):
        answers = pipe(inputs, batch_size=batch_size, window_seconds=1.5)
        assert_same(answers, [pipe(one, window_seconds=1.5) for one in inputs])


# ------------------------------------------------------------------------------------------------------------- dialogs

TURN = st.fixed_dictionaries(
    {
        "audio": st.none() | st.integers(800, 4000).map(lambda n: audio(NOISE[n : 2 * n])),
        "text": st.none() | st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join),
    }
).filter(lambda one: one["audio"] is not None or one["text"])


@settings(max_examples=40)
@given(st.lists(TURN, min_size=1, max_size=5), st.sampled_from(["multimodal", "text", "speech"]))
def test_the_history_of_a_turn_is_every_turn_before_it(pipes, turns, modality):
    pipe = pipes[modality]
    if modality != "multimodal":
        turns = [{"audio": audio(CLIP), "text": turn["text"] or "hello"} for turn in turns]
    texts = [turn["text"] for turn in turns]
    explicit = [pipe({**turn, "history": [x for x in texts[:i] if x]}) for i, turn in enumerate(turns)]
    assert_same(pipe({"turns": turns}, batch_size=3), explicit)


def test_history_changes_the_answer(pipe):
    first, second = pipe({"turns": [{"text": "i hate this"}, {"text": "hello"}]})
    assert_same(first, pipe({"text": "i hate this"}))
    assert second != pipe({"text": "hello"})


# ------------------------------------------------------------------------------------------------ windows and segments


@given(st.integers(1, 10**6), st.integers(10**4, 10**6))
def test_windows_cover_the_recording_and_are_equal(length, longest):
    parts = [(round(part["start"] * RATE), round(part["end"] * RATE)) for part in cut_evenly(length, longest, RATE)]
    assert parts[0][0] == 0 and parts[-1][1] == length
    assert all(one[1] == other[0] for one, other in zip(parts[:-1], parts[1:], strict=True))
    lengths = [end - start for start, end in parts]
    assert max(lengths) <= longest and max(lengths) - min(lengths) <= 1 and len(parts) == -(-length // longest)


def test_a_window_is_answered_as_if_it_were_the_recording(pipe):
    windows = pipe(audio(NOISE), window_seconds=1.5)
    assert len(windows) == 3
    for window in windows:
        alone = NOISE[round(window["start"] * RATE) : round(window["end"] * RATE)]
        assert_same(window["scores"], pipe(audio(alone)))
        assert window["label"] == window["scores"][0]["label"] and window["score"] == window["scores"][0]["score"]


def test_a_recording_of_just_a_window_is_not_cut(pipe):
    assert_same(pipe(audio(NOISE), window_seconds=4), pipe(audio(NOISE)))


def test_a_recording_with_words_is_one_utterance(pipe):
    one = {"audio": audio(NOISE), "text": TEXT}
    assert_same(pipe(one, window_seconds=1), pipe(one))


def test_a_speech_model_reads_no_words_and_so_cuts(pipes):
    answer = pipes["speech"]({"audio": audio(NOISE), "text": TEXT}, window_seconds=2)
    assert [one["text"] for one in answer] == [None, None]


def test_by_default_a_window_has_thirty_seconds_or_what_the_processor_takes(pipe):
    assert "scores" not in pipe(audio(np.tile(NOISE, 7)))[0]
    assert len(pipe(audio(np.tile(NOISE, 8)))) == 2
    short = LemerPipeline(pipe.model, tiny_processor(max_audio_seconds=1.0), device="cpu")
    assert len(short(audio(NOISE))) == 4


def test_a_segment_is_answered_as_if_it_were_the_recording(pipe):
    segments = [(0.5, 1.25), {"start": 2, "end": 4.05, "text": TEXT, "history": ["hello"]}]
    first, second = pipe(audio(NOISE), segments=segments)
    assert_same(first["scores"], pipe(audio(NOISE[8000:20_000])))
    assert_same(second["scores"], pipe({"audio": audio(NOISE[32_000:]), "text": TEXT, "history": ["hello"]}))
    assert (second["start"], second["end"], second["text"]) == (2.0, 4.0, TEXT)


# --------------------------------------------------------------------------------------------------------- transcripts


def heard(given) -> dict:
    """An ASR that hears the hundreds of samples, so that the words tell what it was given."""
    assert given["sampling_rate"] == RATE and given["raw"].dtype == np.float32
    return {"text": " ".join(["hello"] * (len(given["raw"]) // 4000))}


@pytest.mark.parametrize("modality", ["multimodal", "text"])
def test_recordings_without_words_are_transcribed_first(pipes, modality):
    pipe = pipes[modality]
    assert_same(pipe(audio(NOISE[:8000]), asr=heard), pipe({"audio": audio(NOISE[:8000]), "text": "hello hello"}))


def test_words_that_are_given_are_not_heard_again(pipe):
    one = {"audio": audio(CLIP), "text": TEXT}
    assert_same(pipe(one), pipe(one, asr=lambda _: pytest.fail("transcribed")))


def test_where_nothing_is_heard_the_speech_branch_answers(pipe):
    assert_same(pipe(audio(CLIP), asr=lambda _: {"text": " "}), pipe(audio(CLIP)))


def test_windows_are_transcribed_one_by_one(pipe):
    windows = pipe(audio(NOISE), window_seconds=1, asr=heard)
    assert [window["text"] for window in windows] == ["hello hello hello hello"] * 4
    assert {window["modality"] for window in windows} == {"multimodal"}


def test_what_was_heard_is_history_of_the_next_turn(pipe):
    turns = [audio(NOISE[:8000]), {"text": TEXT}]
    assert_same(pipe({"turns": turns}, asr=heard)[1], pipe({"text": TEXT, "history": ["hello hello"]}))


def test_an_asr_pipeline_of_transformers_is_taken(pipe, tmp_path):
    asr = pipeline("automatic-speech-recognition", model=write_tiny_asr(tmp_path / "asr"), device="cpu")
    text = asr({"raw": CLIP, "sampling_rate": RATE})["text"]
    assert text.strip()
    with_asr = LemerPipeline(pipe.model, pipe.processor, asr=asr, device="cpu")
    assert_same(with_asr(audio(CLIP)), pipe({"audio": audio(CLIP), "text": text}))


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("modality", "one", "message"),
    [
        ("multimodal", {}, "got nothing"),
        ("multimodal", {"audio": None, "text": " "}, "neither audio nor words"),
        ("multimodal", {"audio": audio(CLIP), "txt": "hello"}, "got txt. Did you mean 'text'"),
        ("multimodal", {**audio(CLIP), "wrods": "hello"}, "got wrods"),
        ("multimodal", {"text": ["hello"]}, "text must be a string"),
        ("multimodal", {"text": TEXT, "history": "hello"}, "history must be a list"),
        ("multimodal", {"text": "half of \ud83d"}, "has half a surrogate pair .* at position 8"),
        ("multimodal", {"text": TEXT, "history": 3}, "history must be a list"),
        ("multimodal", {"text": TEXT, "history": [3]}, "must be a string"),
        ("multimodal", "gone.wav", "no audio file gone.wav"),
        ("multimodal", b"no sound", "cannot be read as audio"),
        ("multimodal", {"audio": 3}, "audio must be a path"),
        ("multimodal", 3, "must be a recording"),
        ("multimodal", {"audio": audio(np.zeros(0, dtype=np.float32))}, "no samples"),
        ("multimodal", {"audio": audio(np.tile(NOISE, 31)), "text": TEXT}, "124.0 s, above .* max_audio_seconds=120"),
        ("multimodal", {"text": TEXT, "segments": [(0, 1)]}, "put each segment's words into it"),
        ("multimodal", {"segments": [(0, 1)]}, "segments without audio"),
        ("multimodal", {"audio": audio(NOISE), "segments": []}, "at least one"),
        ("multimodal", {"audio": audio(NOISE), "segments": [(2, 1)]}, r"0 <= start < end <= 4.000 s.*got \(2, 1\)"),
        ("multimodal", {"audio": audio(NOISE), "segments": [(0, 4.2)]}, "0 <= start < end <= 4.000 s"),
        ("multimodal", {"audio": audio(NOISE), "segments": [(-1, 2)]}, "0 <= start"),
        ("multimodal", {"audio": audio(NOISE), "segments": [(1, float("nan"))]}, "0 <= start"),
        ("multimodal", {"audio": audio(NOISE), "segments": [3]}, "0 <= start"),
        ("multimodal", {"audio": audio(NOISE), "segments": [{"start": 0, "end": 1, "words": "hello"}]}, "0 <= start"),
        ("multimodal", {"turns": []}, "at least one turn"),
        ("multimodal", {"turns": 3}, "at least one turn"),
        ("multimodal", {"turns": [{"text": TEXT}], "history": ["hello"]}, "beside it history"),
        ("multimodal", {"turns": [{"text": TEXT, "history": ["hello"]}]}, "turn 0 of a dialog has history"),
        ("text", {"audio": audio(CLIP)}, "takes words, and got no words: give text beside"),
        ("speech", {"text": TEXT}, "takes speech, and got no speech: give audio"),
    ],
)
def test_bad_input_is_refused(pipes, modality, one, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pipes[modality](one)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_seconds": 0}, "window_seconds must be above 0"),
        ({"window_seconds": 121}, "at most the processor's max_audio_seconds=120"),
        ({"asr": "whisper"}, "asr must be a pipeline"),
        ({"asr": lambda _: "hello"}, "asr must return"),
        ({"top_k": 0}, "top_k must be"),
    ],
)
def test_bad_settings_are_refused(pipe, settings, message):
    with pytest.raises(ValueError, match=message):
        pipe(audio(CLIP), **settings)


@pytest.mark.parametrize("make", [tiny_cross_modal, lambda: tiny_model(fusion="cross", use_label_embeddings=False)])
def test_a_multimodal_model_without_label_branches_needs_both(make):
    pipe = LemerPipeline(make(), tiny_processor(), device="cpu")
    assert modalities(pipe({"audio": audio(CLIP), "text": TEXT})) == {"multimodal"}
    with pytest.raises(ValueError, match="takes speech and words together, and got no words: give text"):
        pipe(audio(CLIP))
    with pytest.raises(ValueError, match="got no speech: give audio"):
        pipe({"text": TEXT})


def test_named_arguments_beside_several_inputs_are_refused(pipe):
    with pytest.raises(ValueError, match="text beside one input only"):
        pipe([audio(CLIP)], text=TEXT)


def test_a_unimodal_model_ignores_what_it_does_not_take_beside_what_it_takes(pipes):
    both = {"audio": audio(CLIP), "text": TEXT}
    assert_same(pipes["text"](both), pipes["text"]({"text": TEXT}))
    assert_same(pipes["speech"](both), pipes["speech"](audio(CLIP)))


def test_a_checkpoint_that_is_not_trained_is_refused():
    with pytest.raises(ValueError, match="classifier, .*tonal_label_embeddings of this checkpoint are not trained"):
        LemerPipeline(LemerModel(tiny_config()), tiny_processor(), device="cpu")


def test_a_pipeline_without_a_processor_is_refused(pipe):
    with pytest.raises(ValueError, match="processor"):
        LemerPipeline(pipe.model, device="cpu")


# ------------------------------------------------------------------------------------------------ saving and loading

STRANGER = """
import json, sys

sys.modules["lemer"] = None  # an import of the package would raise

import numpy as np
from transformers import AutoFeatureExtractor, AutoTokenizer, pipeline

folder, again = sys.argv[1:]
clip = {"array": np.sin(np.arange(5000, dtype=np.float32)), "sampling_rate": 16_000}
facts = []
for settings in ({"model": folder}, {"task": "speech-emotion-recognition", "model": again}):
    pipe = pipeline(trust_remote_code=True, device="cpu", **settings)
    facts.append([type(pipe).__name__, pipe({"audio": clip, "text": "you won", "history": ["hello"]}), pipe(clip)])
    pipe.save_pretrained(again)
parts = AutoFeatureExtractor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
assert [type(part).__module__.split(".")[0] for part in parts] == ["transformers"] * 2
print(json.dumps(facts))
"""


def test_a_checkpoint_and_a_saved_pipeline_open_in_a_process_that_knows_transformers_alone(pipe, tmp_path):
    pipe.model.save_pretrained(tmp_path / "first")
    pipe.processor.save_pretrained(tmp_path / "first")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run_stranger(STRANGER, [tmp_path / "first", tmp_path / "again"], elsewhere)
    assert done.returncode == 0, done.stderr[-4000:]
    clip = audio(np.sin(np.arange(5000, dtype=np.float32)))
    expected = [pipe({"audio": clip, "text": "you won", "history": ["hello"]}), pipe(clip)]
    for name, *answers in json.loads(done.stdout.splitlines()[-1]):
        assert name == "LemerPipeline"
        assert_same(answers, expected)


@pytest.mark.parametrize("modality", ["multimodal", "speech", "text"])
def test_with_the_package_a_checkpoint_opens_without_remote_code(pipes, tmp_path, modality):
    pipes[modality].save_pretrained(tmp_path)
    opened = pipeline("speech-emotion-recognition", model=str(tmp_path), pipeline_class=LemerPipeline, device="cpu")
    one = {"audio": audio(CLIP), "text": TEXT}
    assert_same(opened(one), pipes[modality](one))


def test_with_the_package_the_task_is_known(pipe):
    made = pipeline("speech-emotion-recognition", model=pipe.model, processor=pipe.processor, device="cpu")
    assert type(made) is LemerPipeline


def test_the_tasks_of_one_modality_answer_as_ours(tmp_path):
    pipe = LemerPipeline(tiny_model(temperatures={"speech": 0.5, "text": 0.25}), tiny_processor(), device="cpu")
    pipe.save_pretrained(tmp_path)
    for task, one, expected in (
        ("audio-classification", {"raw": CLIP, "sampling_rate": RATE}, pipe(audio(CLIP))),
        ("text-classification", TEXT, pipe({"text": TEXT})),
    ):
        opened = pipeline(task, model=str(tmp_path), trust_remote_code=True, device="cpu")
        assert_same(opened(one), expected)
        assert_same(opened([one, one], batch_size=2), [expected] * 2)


def test_a_checkpoint_without_a_processor_says_how_to_get_one(pipe, tmp_path):
    pipe.model.save_pretrained(tmp_path)
    with pytest.raises(
        OSError, match=r"processor_config.json and tokenizer.json is missing.*processing_class.*save_pretrained"
    ):
        pipeline(model=str(tmp_path), trust_remote_code=True)


@pytest.mark.parametrize("make", [tiny_model, tiny_cross_modal])
def test_remote_code_opens_models_of_both_papers_and_leaves_the_config_as_it_was(make, tmp_path):
    pipe = LemerPipeline(make(), tiny_processor(), device="cpu")
    pipe.save_pretrained(tmp_path)
    opened = pipeline(model=str(tmp_path), trust_remote_code=True, device="cpu")
    one = {"audio": audio(CLIP), "text": TEXT}
    assert_same(opened(one), pipe(one))
    opened.save_pretrained(tmp_path / "again")
    saved = [json.loads((folder / "config.json").read_text()) for folder in (tmp_path, tmp_path / "again")]
    assert saved[0]["custom_pipelines"] == saved[1]["custom_pipelines"] == pipe.model.config.custom_pipelines


# -------------------------------------------------------------------------------------------------------------- memory


def test_calls_leave_no_tensors_behind(pipe):
    def live() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    two = [{"audio": audio(CLIP[:800]), "text": "hello"}, audio(CLIP[:400])]
    pipe(two, batch_size=2)
    before = live()
    for _ in range(50):
        pipe(two, batch_size=2)
    assert live() <= before
