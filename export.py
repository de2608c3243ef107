"""A checkpoint as an ONNX file, for machines without torch.

    python export.py CHECKPOINT model.onnx

Needs the extra onnx. The file takes what the checkpoint's processor gives, with batch, samples and tokens of any number, and
returns the logits, and those of the label branches where there are any. Only a clip too short for one frame has to be padded
to it, under a mask of 0. Its metadata has the labels in their order, the sampling rate and that least number of samples.

Before the file gets its name it is run in onnxruntime on random batches, alone and padded, and compared with the checkpoint:
the largest differences are printed, and a file that differs by more than 1e-4 is refused. Above 2 GB the weights stand in a
second file beside it, FILE.onnx.data.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from logging import ERROR, getLogger
from pathlib import Path

import torch
from transformers import AutoModel
from transformers.utils import logging

from lemer import LemerProcessor
from lemer.integrity_lemer import refusal
from lemer.runtime.files import writing
from lemer.speech_encoder_lemer import receptive_field

TOLERANCE = 1e-4
OUTPUTS = ("logits", "text_label_logits", "speech_label_logits")


class Answer(torch.nn.Module):
    """A model that takes its inputs by position and returns the outputs that are exported, as the exporter wants it."""

    def __init__(self, model, inputs: list[str]):
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self.model(**dict(zip(self.inputs, values, strict=True)))
        return tuple(out[name] for name in OUTPUTS if name in out)


def random_batch(model, processor, samples: list[int], tokens: list[int]) -> dict[str, torch.Tensor]:
    """Noise of so many samples and tokens an utterance, padded on the right; the second half of the tokens is the turn."""
    config, given = model.config, processor.model_input_names  # a RoBERTa's has no token types
    generator, batch = torch.Generator().manual_seed(0), {}
    if config.uses_speech:
        mask = (torch.arange(max(samples)) < torch.tensor(samples)[:, None]).long()  # (B, S)
        batch.update(input_values=torch.randn(mask.shape, generator=generator) * mask, input_values_mask=mask)
    if config.uses_text:
        mask = (torch.arange(max(tokens)) < torch.tensor(tokens)[:, None]).long()  # (B, T)
        ids = torch.randint(0, config.text_config.vocab_size, mask.shape, generator=generator)
        types = (torch.arange(max(tokens)) >= torch.tensor(tokens)[:, None] // 2).long()
        batch.update(input_ids=ids * mask, attention_mask=mask, token_type_ids=types * mask)
    return {name: values for name, values in batch.items() if name in given}


def export(model, processor, path: Path) -> dict[str, float]:
    """
    Write the model as ONNX, and compare the file's answers with the model's.

    Returns:
        The largest absolute difference of every output, over the batches compared.

    Raises:
        ValueError: something stands between the model's towers and an answer (`untrained`), or the file's answers differ by
            more than 1e-4.
    """
    import onnxruntime

    if model.damage:
        raise ValueError(refusal(model.damage))
    if model.untrained:
        raise ValueError(
            f"{', '.join(model.untrained)} of this checkpoint are untrained: train it, or set its labels, first"
        )
    config, model = model.config, model.float().cpu().eval()
    model.set_attn_implementation("eager")  # the fused attention's memory layout is none that the exporter can follow
    least = receptive_field(config.speech_config) if config.uses_speech else 1
    batch = random_batch(model, processor, [9000, 16000, 4000], [12, 7, 3])
    sizes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},) * len(batch)
    with torch.no_grad():
        outputs = [name for name in OUTPUTS if name in model(**batch)]
        program = torch.export.export(Answer(model, list(batch)), tuple(batch.values()), dynamic_shapes={"values": sizes})
        exported = torch.onnx.export(program, input_names=list(batch), output_names=outputs, verbose=False)
    described = {
        "labels": json.dumps(list(config.id2label.values())),
        "sampling_rate": processor.feature_extractor.sampling_rate,
        "least_samples": least,
    }
    exported.model.metadata_props.update({name: str(value) for name, value in described.items()})

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as staging, writing(path):
        exported.save(Path(staging) / path.name)
        session = onnxruntime.InferenceSession(Path(staging) / path.name, providers=["CPUExecutionProvider"])
        worst = dict.fromkeys(outputs, 0.0)
        for samples, tokens in (([9000, 16000, 4000], [12, 7, 3]), ([least], [2]), ([50000, 10], [3, 40])):
            batch = random_batch(model, processor, samples, tokens)
            answers = session.run(outputs, {name: value.numpy() for name, value in batch.items()})
            with torch.no_grad():
                expected = model(**batch)
            for name, answer in zip(outputs, answers, strict=True):
                worst[name] = max(worst[name], (expected[name] - torch.from_numpy(answer)).abs().max().item())
        if not max(worst.values()) <= TOLERANCE:
            raise ValueError(f"the ONNX model's answers differ from the checkpoint's, by {worst}: not written")
        files = {file.name: file for file in Path(staging).iterdir()}
        if len(files) > 1:  # weights beside it: a kill between the two must not leave an older model over newer weights
            path.unlink(missing_ok=True)
        for name in sorted(files, key=lambda name: name == path.name):  # the model itself last
            os.replace(files[name], path.parent / name)
    return worst


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="export.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder, or name on the Hub")
    parser.add_argument("output", metavar="FILE.onnx", type=Path, help="what is written")
    args = parser.parse_args(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for library in ("torch.onnx", "onnxscript", "onnx_ir"):
        getLogger(library).setLevel(ERROR)
    warnings.simplefilter("ignore")  # of the exporter about itself
    try:
        model = AutoModel.from_pretrained(args.checkpoint)
        processor = LemerProcessor.from_pretrained(args.checkpoint)
        worst = export(model, processor, args.output)
    except ImportError as error:
        print(f"export.py: {error}; it needs the extra onnx: pip install -c constraints.txt -e '.[onnx]'", file=sys.stderr)
        return 1
    except (ValueError, OSError, torch.onnx.OnnxExporterError) as error:
        print(f"export.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    differences = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    print(
        f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MiB; largest difference from the checkpoint: {differences}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
