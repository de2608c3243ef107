"""The handler of an inference endpoint answers as the pipeline does, and reads nothing of the endpoint's machine."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile
from tiny import tiny_model, tiny_processor

from lemer.handler import EndpointHandler

CLIP = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)


def wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, CLIP, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


AUDIO = base64.b64encode(wav()).decode()


@pytest.fixture(scope="module")
def handler(tmp_path_factory):
    folder = tmp_path_factory.mktemp("endpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return EndpointHandler(str(folder))


def test_a_request_is_answered_as_by_the_pipeline_in_json(handler):
    request = {"inputs": {"audio": AUDIO, "text": "you won", "history": ["hello"]}}
    expected = handler.pipeline({"audio": wav(), "text": "you won", "history": ["hello"]})
    assert json.loads(json.dumps(handler(request))) == expected and expected[0]["modality"] == "multimodal"


def test_words_a_recording_and_a_list_of_them(handler):
    words, speech = handler({"inputs": "you won"}), handler({"inputs": wav()})
    assert words == handler.pipeline({"text": "you won"}) and speech == handler.pipeline(wav())
    both = handler({"inputs": ["you won", {"audio": AUDIO}]})
    for answers, alone in zip(both, (words, speech), strict=True):
        assert [answer["label"] for answer in answers] == [answer["label"] for answer in alone]
        assert [answer["score"] for answer in answers] == pytest.approx([answer["score"] for answer in alone], abs=1e-6)


def test_a_dialog_and_parameters(handler):
    answer = handler({"inputs": {"turns": [{"audio": AUDIO}, {"text": "you won"}]}, "parameters": {"top_k": 1}})
    assert [len(turn) for turn in answer] == [1, 1]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"inputs": {"audio": "/etc/hostname", "text": "a"}}, "audio must be base64"),
        ({"inputs": {"audio": "https://example.org/a.wav"}}, "audio must be base64"),
        ({"inputs": {"audio": {"path": "/etc/hostname"}}}, "audio must be base64"),
        ({"inputs": {"turns": [{"audio": "file:///etc/hostname"}]}}, "audio must be base64"),
        ({"inputs": {"turns": ["a", 3]}}, "must be a text or an object"),
        ({"inputs": {"path": "/etc/hostname"}}, "got path"),
        ({"inputs": 3}, "must be a text or an object"),
        ({}, "must be a text or an object"),
        ({"inputs": "a", "parameters": {"asr": "x"}}, "no parameters asr: there are top_k, window_seconds"),
    ],
)
def test_what_cannot_be_answered_says_why_and_opens_no_file(handler, request_, message):
    assert message in handler(request_)["error"]
