"""Fine-tune a published checkpoint on other emotions with `Trainer`; the package is not needed, only the checkpoint.

    python finetune_with_trainer.py --checkpoint NAME --dataset NAME --output_dir tuned --num_train_epochs 5
    torchrun --nproc_per_node 2 finetune_with_trainer.py ... --push_to_hub --hub_model_id me/tuned

The dataset has splits train, test, perhaps validation, and columns audio, text, label (a ClassLabel), perhaps history. It
is a name on the Hub, a folder of recordings or of parquet files, or what `save_to_disk` wrote.
"""

import mimetypes
import time
from dataclasses import make_dataclass
from pathlib import Path

import evaluate
import numpy as np
import torch
from datasets import Audio, load_dataset, load_from_disk
from transformers import AutoModelForAudioClassification, AutoProcessor, HfArgumentParser, Trainer, TrainingArguments

parser = HfArgumentParser((make_dataclass("Arguments", [("checkpoint", str), ("dataset", str)]), TrainingArguments))
parser.set_defaults(eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="ua")
parser.set_defaults(remove_unused_columns=False, ddp_find_unused_parameters=False, hub_strategy="end")  # code comes last
names, args = parser.parse_args_into_dataclasses()
torch.manual_seed(args.seed)  # of the new classifier
torch.backends.cuda.enable_cudnn_sdp(False)  # on a GPU it would plan the attention anew for every new length
Audio.encode_example = lambda _, file: file if isinstance(file, dict) else {"path": file}  # its own needs torchcodec
place = Path(names.dataset)
data = (load_from_disk if (place / "dataset_dict.json").is_file() else load_dataset)(names.dataset)
data = data.cast_column("audio", Audio(decode=False))  # decoded by the processor
# `datasets` overlooks endings that it does not know, such as .m4a, and all files but those with "test" in their names.
media = [file for file in place.rglob("[!.]*") if (mimetypes.guess_type(file)[0] or "").startswith(("audio", "video"))]
read = {Path(row["path"] or "").resolve() for split in data.values() for row in (split["audio"] if media else [])}
if unread := [str(file) for file in media if file.resolve() not in read]:
    raise SystemExit(
        f"{len(unread)} recordings were not read, such as {unread[0]}: make them .wav, in folders train and test"
    )
if not hasattr(data["train"].features["label"], "names"):
    raise SystemExit("label must be a ClassLabel, which gives the classes an order: class_encode_column makes one")
data = data.filter(lambda label: label is not None and label >= 0, input_columns="label")
if "validation" not in data:
    data["train"], data["validation"] = data["train"].train_test_split(0.1, seed=args.seed).values()
# A model without label embeddings is loaded with id2label=..., ignore_mismatched_sizes=True instead of `set_labels`.
model = AutoModelForAudioClassification.from_pretrained(names.checkpoint, trust_remote_code=True, dtype=torch.float32)
processor = AutoProcessor.from_pretrained(names.checkpoint, trust_remote_code=True)
classes, labels = data["train"].features["label"].names, np.array(data["train"]["label"])
words = {name: name.replace("_", " ").split() for name in classes}  # better: several words that tell the emotion
clips = {name: data["train"][np.flatnonzero(labels == index)[:16]]["audio"] for index, name in enumerate(classes)}
model.set_labels(classes, words if model.text_model else None, clips if model.speech_model else None, processor)
towers = {"audio": model.speech_model, "text": model.text_model, "history": model.text_model}
columns = [name for name in data["train"].column_names if towers.get(name)]
if "text" in columns and any(not isinstance(text, str) for split in data.values() for text in split["text"]):  # None, NA, 01
    raise SystemExit("some texts are missing or numbers, as `datasets` reads None, NA and 01 in a .csv: give a parquet file")
metric = evaluate.load(str(Path(__file__).parents[1] / "evaluation" / "ser_metrics.py"), keep_in_memory=True)


def collate(rows):
    inputs = {name: [row[name] for row in rows] for name in columns}
    batch = processor(**inputs, return_tensors="pt", pad_to_multiple_of=4000)  # samples: a GPU plans every new length anew
    return {**batch, "labels": torch.tensor([row["label"] for row in rows])}


def scores(prediction):  # weighted and unweighted accuracy, macro-F1
    answers = prediction.predictions.argmax(-1)
    result = metric.compute(predictions=answers, references=prediction.label_ids, label_names=classes)
    return {name: result[name] for name in ("wa", "ua", "macro_f1")}


trainer = Trainer(model, args, collate, data["train"], data["validation"], processor, compute_metrics=scores)
trainer.train()
trainer.save_metrics("test", trainer.evaluate(data["test"], metric_key_prefix="test"))
trainer.save_model()  # and pushes it, with --push_to_hub
trainer.accelerator.wait_for_everyone()
time.sleep(0.3)  # gloo's worker threads would abort a process that ends at once
trainer.accelerator.end_training()
