"""Recognise the emotions of utterances with a checkpoint folder or Hub name; of libraries, only transformers is needed.

    python recognise.py CHECKPOINT < utterances.jsonl

Each line is a JSON object: {"audio": path, "text": words, "history": [earlier turns, oldest first]}. Where "truth" is given,
it is printed beside the answer. Decoding needs soundfile, and soxr where a recording is not at 16 kHz.
"""

import json
import sys

import torch
from transformers import AutoModel, AutoProcessor

checkpoint = sys.argv[1]
model = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)

labels = list(model.config.id2label.values())
print(f"{'truth':>6}  {'answer':>6}  " + "  ".join(f"{label:>5}" for label in labels))
for line in sys.stdin:
    utterance = json.loads(line)
    batch = processor(
        audio=utterance["audio"], text=utterance["text"], history=utterance.get("history"), return_tensors="pt"
    )
    with torch.no_grad():
        scores = model(**batch).logits.softmax(-1)[0]
    print(
        f"{utterance.get('truth', ''):>6}  {labels[scores.argmax()]:>6}  "
        + "  ".join(f"{score:5.2f}" for score in scores.tolist())
        + f"  {utterance['text']}"
    )
