"""Write a checkpoint as an ONNX file, for machines without torch.

    python export.py CHECKPOINT model.onnx            then: lemer predict model.onnx recording.wav
    python export.py CHECKPOINT small.onnx --int8     a smaller file

This needs the extra onnx. The file takes what the checkpoint's processor returns, with any number of utterances, samples and
tokens, and returns the logits, and those of the branches where the model has them. A recording too short for one frame
must be padded to one, with a mask of 0 there. The metadata of the file has the labels in their order (labels), the sampling
rate in Hz (sampling_rate), the number of samples of one frame (least_samples), and what the processor consists of, its
tokenizer too (files), so that nothing else is needed beside it. examples/onnx_without_torch.py answers with the file alone.

Before the file gets its name, onnxruntime runs it on random batches, with and without padding, and the logits are compared
with the checkpoint's. The largest differences are printed, and a file that differs by more than 1e-4 is not written. With
--int8 the weights of matrix products are rounded to 8 bits. The differences are larger then: they are printed, and the file
is written. Above 2 GB the weights are in a second file beside it, FILE.onnx.data.
"""

import json
import os
import sys
import tempfile
import warnings
from contextlib import contextmanager
from logging import ERROR, getLogger
from pathlib import Path
from typing import TYPE_CHECKING

from lemer.runtime.command import check_checkpoint, command_parser
from lemer.runtime.files import writing
from lemer.runtime.locks import hold
from lemer.runtime.stopping import run_command

if TYPE_CHECKING:  # imported where they are used, since that takes seconds: `--help` answers at once
    from collections.abc import Iterator

    import torch

TOLERANCE = 1e-4
OUTPUTS = ("logits", "text_label_logits", "speech_label_logits", "text_branch_logits", "speech_branch_logits")
# Samples and tokens of each utterance of the batch that is exported.
EXAMPLE_SIZES = ([9000, 16000, 4000], [12, 7, 3])


def by_position(model, inputs: list[str]) -> "torch.nn.Module":
    """Wrap a model for the exporter: it takes these inputs by position and returns the outputs that are exported."""
    import torch

    class ByPosition(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *values):
            outputs = self.model(**dict(zip(inputs, values, strict=True)))
            return tuple(outputs[name] for name in OUTPUTS if name in outputs)

    return ByPosition()


def random_batch(model, processor, samples: list[int], tokens: list[int]) -> dict[str, "torch.Tensor"]:
    """
    Make a batch of noise and random tokens, padded on the right; the second half of the tokens is the current turn.

    Args:
        samples: the number of samples of each of the B utterances; the longest has S.
        tokens: the number of tokens of each; the longest has T.
    """
    import torch

    config, given = model.config, processor.model_input_names  # a RoBERTa takes no token types
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


def to_onnx(model, processor, outputs: list[str], least: int):
    """Convert a model to an ONNX program that takes any number of utterances, samples and tokens."""
    import torch

    batch = random_batch(model, processor, *EXAMPLE_SIZES)
    sizes = ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},) * len(batch)
    with torch.no_grad():
        wrapped = by_position(model, list(batch))
        program = torch.export.export(wrapped, tuple(batch.values()), dynamic_shapes={"values": sizes})
        exported = torch.onnx.export(program, input_names=list(batch), output_names=outputs, verbose=False)
    metadata = {
        "labels": json.dumps(list(model.config.id2label.values())),
        "sampling_rate": str(processor.feature_extractor.sampling_rate),
        "least_samples": str(least),
        "files": json.dumps(settings_of(model, processor)),
    }
    exported.model.metadata_props.update(metadata)
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # the lines of code that it comes from, with the folders of this machine
    return exported


@contextmanager
def only_errors() -> "Iterator[None]":
    """Leave out what libraries say below an error, for a while: the exporters warn about their own code."""
    from transformers.utils import logging

    loggers = [getLogger(name) for name in ("", "torch.onnx", "onnxscript", "onnx_ir")]
    levels, verbosity = [logger.level for logger in loggers], logging.get_verbosity()
    try:
        for logger in loggers:
            logger.setLevel(ERROR)
        logging.set_verbosity_error()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        logging.set_verbosity(verbosity)


def settings_of(model, processor) -> dict[str, str]:
    """Contents of a checkpoint's files that are no weights, by their names, so that an ONNX file can be used by itself."""
    from lemer.integrity_lemer import PROCESSOR_FILES

    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        processor.save_pretrained(folder)
        files = {file for pattern in ("config.json", *PROCESSOR_FILES) for file in Path(folder).glob(pattern)}
        return {file.name: file.read_text(encoding="utf-8") for file in sorted(files) if file.suffix in (".json", ".txt")}


def round_weights(path: Path) -> None:
    """Round the weights of all matrix products of an ONNX file to 8 bits, in place."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded = path.with_name("rounded.onnx")
    large = path.with_name(f"{path.name}.data").exists()
    model = onnx.load(path)
    del model.graph.value_info[:]  # sizes of intermediate values, of which a few contradict those that are inferred anew
    # The filters of a log-Mel multiply a power spectrum, whose quiet bands 8 bits would round to nothing. Since they are no
    # weights of the model, they are called lifted tensors.
    filters = [node.name for node in model.graph.node if any("lifted_tensor" in name for name in node.input)]
    with only_errors():  # it advises a step that torch's exporter has done already
        quantize_dynamic(
            model,
            rounded,
            nodes_to_exclude=filters,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,  # processors without instructions for 8 bits would overflow
            weight_type=QuantType.QInt8,
            use_external_data_format=large,
        )
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    os.replace(rounded, path)


def compare(model, processor, path: Path, outputs: list[str], least: int) -> dict[str, float]:
    """Return the largest absolute difference of each output between the file and the model, over several batches."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(outputs, 0.0)
    for samples, tokens in (EXAMPLE_SIZES, ([least], [2]), ([50000, 10], [3, 40])):
        batch = random_batch(model, processor, samples, tokens)
        answers = session.run(outputs, {name: value.numpy() for name, value in batch.items()})
        with torch.no_grad():
            expected = model(**batch)
        for name, answer in zip(outputs, answers, strict=True):
            worst[name] = max(worst[name], (expected[name] - torch.from_numpy(answer)).abs().max().item())
    return worst


def export(model, processor, path: Path, int8: bool = False) -> dict[str, float]:
    """
    Write the model as ONNX, after the file's answers were compared with the model's.

    With `int8` the weights of matrix products are rounded to 8 bits.

    Returns:
        The largest absolute difference of each output, over the batches compared.

    Raises:
        ValueError: weights that the answer depends on were never trained (`untrained`), or the answers of a file without
            `int8` differ by more than 1e-4.
    """
    import onnxruntime  # noqa: F401  where it is missing, that is said before the work
    import torch

    from lemer.integrity_lemer import check_ready
    from lemer.speech_encoder_lemer import receptive_field

    check_ready(model, processor)
    config, model = model.config, model.float().cpu().eval()
    model.set_attn_implementation("eager")  # the exporter cannot follow the memory layout of the fused attention
    least = receptive_field(config.speech_config) if config.uses_speech else 1
    with torch.no_grad():
        answered = model(**random_batch(model, processor, *EXAMPLE_SIZES))
    outputs = [name for name in OUTPUTS if name in answered]
    exported = to_onnx(model, processor, outputs, least)

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as staging, writing(path):
        exported.save(Path(staging) / path.name)
        if int8:
            round_weights(Path(staging) / path.name)
        worst = compare(model, processor, Path(staging) / path.name, outputs, least)
        if not max(worst.values()) <= (float("inf") if int8 else TOLERANCE):  # also where a difference is not a number
            raise ValueError(f"the ONNX model's answers differ from the checkpoint's, by {worst}: not written")
        files = {file.name: file for file in Path(staging).iterdir()}
        if len(files) > 1:  # weights beside it: a kill between the two must not leave an older model over newer weights
            path.unlink(missing_ok=True)
        for name in sorted(files, key=lambda name: name == path.name):  # the model itself last
            os.replace(files[name], path.parent / name)
    return worst


def main(argv=None) -> int:
    parser = command_parser("export.py", "CHECKPOINT model.onnx", __doc__)
    # Optional for argparse alone: without them `check_checkpoint` says how to get a checkpoint.
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help="folder, or name on the Hub")
    parser.add_argument("output", metavar="FILE.onnx", type=Path, nargs="?", help="the file to write")
    parser.add_argument("--int8", action="store_true", help="round the weights of matrix products to 8 bits")
    args = parser.parse_args(argv)
    check_checkpoint(parser, args.checkpoint)
    if args.output is None:
        parser.error("name the file to write after the checkpoint, such as model.onnx")

    safe = f"{args.output} is what it was before"
    return run_command(parser.prog, lambda: write(args.checkpoint, args.output, args.int8), safe)


def write(checkpoint: str, output: Path, int8: bool) -> None:
    """Open a checkpoint, write it as ONNX, and say how well the file answers; errors as in `export` and of opening."""
    with hold(output):
        from transformers import AutoModel
        from transformers.utils import logging

        from lemer import LemerProcessor
        from lemer.integrity_lemer import opening

        logging.disable_progress_bar()
        with only_errors():
            with opening(checkpoint):
                model = AutoModel.from_pretrained(checkpoint)
                processor = LemerProcessor.from_pretrained(checkpoint)
            worst = export(model, processor, output, int8)
    differences = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    size = output.stat().st_size / 2**20
    print(f"{output}: {size:.1f} MiB; largest difference from the checkpoint: {differences}")


if __name__ == "__main__":
    sys.exit(main())
