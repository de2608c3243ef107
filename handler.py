"""Answers requests of a Hugging Face inference endpoint. `lemer publish --endpoint` puts this file into the repository.

A request is JSON, or the bytes of a recording with a content type of audio. In JSON, `inputs` is one input or a list:

    {"inputs": {"audio": "<base64 of an audio file>", "text": "I was so happy!", "history": ["Did they call you?"]}}
    {"inputs": "I was so happy!", "parameters": {"top_k": 1}}

All that `LemerPipeline` takes may be given, but audio only as base64: a path or an address would be read from the machine of
the endpoint. The answer is that of the pipeline, or {"error": why} for a request that cannot be answered.
"""

import base64
import binascii
from typing import Any

from transformers import pipeline

BATCH_SIZE = 8  # inputs of one request that are answered together
KEYS = {"audio", "text", "history", "segments", "turns", "speaker"}  # of an input; the pipeline would also take a path
PARAMETERS = ("top_k", "window_seconds")


def decode_input(value: Any) -> Any:
    """
    Make one input of the pipeline from one of a request.

    Raises:
        ValueError: it has audio that is no base64, or it is no text, object of `KEYS` or bytes.
    """
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise ValueError(f"an input must be a text or an object with audio, text or turns, got {value!r:.80}")
    unknown = sorted(set(value) - KEYS)
    if unknown:
        raise ValueError(f"an input has {', '.join(sorted(KEYS))}, got {', '.join(unknown)}")
    decoded = dict(value)
    if decoded.get("audio") is not None:
        try:
            decoded["audio"] = base64.b64decode(decoded["audio"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise ValueError(f"audio must be base64 of an audio file, got {value['audio']!r:.80}") from None
    if isinstance(decoded.get("turns"), list):
        decoded["turns"] = [decode_input(turn) for turn in decoded["turns"]]
    return decoded


class EndpointHandler:
    """
    What an endpoint loads once and calls for every request.

    Args:
        path: folder of the repository.
    """

    def __init__(self, path: str = ""):
        self.pipeline = pipeline(model=path, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> Any:
        """The answer to a request; see the beginning of this file."""
        parameters = data.get("parameters") or {}
        try:
            unknown = sorted(set(parameters) - set(PARAMETERS))
            if unknown:
                raise ValueError(f"no parameters {', '.join(unknown)}: there are {', '.join(PARAMETERS)}")
            inputs = data.get("inputs")
            if isinstance(inputs, list):
                return self.pipeline([decode_input(value) for value in inputs], batch_size=BATCH_SIZE, **parameters)
            return self.pipeline(decode_input(inputs), **parameters)
        except (ValueError, TypeError) as error:
            return {"error": str(error)}
