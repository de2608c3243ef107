"""Answer with an ONNX file of `lemer export`, without torch and transformers: for any old environment.

    python onnx_without_torch.py model.onnx recording.wav "I was so happy!"

This needs numpy, onnxruntime, soundfile and tokenizers. The tokenizer stands in the file. The recording must have the rate
that the file names, 16 kHz.
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile
from tokenizers import Tokenizer

path, recording, text = sys.argv[1:]
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map

samples, rate = soundfile.read(recording, dtype="float32", always_2d=True)
if rate != int(facts["sampling_rate"]):
    sys.exit(f"{recording} has {rate} Hz, and the model takes {facts['sampling_rate']} Hz: resample it first")
samples = samples.mean(1)
samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
padding = max(0, int(facts["least_samples"]) - len(samples))

encoding = Tokenizer.from_str(json.loads(facts["files"])["tokenizer.json"]).encode(text)
given = {
    "input_values": np.pad(samples, (0, padding))[None].astype(np.float32),
    "input_values_mask": np.pad(np.ones(len(samples), np.int64), (0, padding))[None],
    "input_ids": np.array([encoding.ids]),
    "attention_mask": np.array([encoding.attention_mask]),
    "token_type_ids": np.array([encoding.type_ids]),
}
inputs = {taken.name: given[taken.name] for taken in session.get_inputs()}
logits = session.run(["logits"], inputs)[0][0]
scores = np.exp(logits - logits.max())
scores /= scores.sum()
print(json.dumps({label: round(float(score), 4) for label, score in zip(json.loads(facts["labels"]), scores, strict=True)}))
