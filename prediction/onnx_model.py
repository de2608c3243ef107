"""An ONNX file of `lemer export` in the place of a model, computed by onnxruntime.

Shapes: B batch, S samples, T text tokens, C emotion classes.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..processing_lemer import LemerProcessor


class OnnxModel(torch.nn.Module):
    """
    What the pipeline asks of a model, answered by an ONNX file.

    The graph of a multimodal model takes both modalities. Where one is not given, a frame of zeros or an empty text stands
    in for it, and the logits are those of the other branch, which does not see it.

    Attributes:
        config: The configuration of the checkpoint that was exported.
        least_samples: Samples of one frame, to which shorter recordings are padded.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: it is no ONNX file, or not one of `lemer export`.
    """

    damage: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()  # an untrained checkpoint is not exported
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, path: str | Path):
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("an ONNX file is run by onnxruntime: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime, whose errors have no common class
            raise ValueError(f"{path} cannot be opened as an ONNX file: {str(error).splitlines()[0]}") from error
        facts = self.session.get_modelmeta().custom_metadata_map
        if "files" not in facts:
            raise ValueError(f"{path} has no processor in it: write it anew with lemer export CHECKPOINT {path}")
        self.files: dict[str, str] = json.loads(facts["files"])
        self.least_samples = int(facts["least_samples"])
        self.inputs = [taken.name for taken in self.session.get_inputs()]
        self.outputs = [given.name for given in self.session.get_outputs()]
        self.name_or_path = str(path)
        self.config, self.processor = self._read_settings()

    def _read_settings(self) -> tuple[Any, LemerProcessor]:
        from transformers import AutoConfig

        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files.items():
                Path(folder, name).write_text(content, encoding="utf-8")
            return AutoConfig.from_pretrained(folder), LemerProcessor.from_pretrained(folder)

    def answering_field(self, modality: str) -> str:
        return "logits"

    def can_generate(self) -> bool:
        return False

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """What a model's `forward` returns of logits (B, C), of inputs as the processor returns them."""
        given = {name: values.numpy() for name, values in batch.items()}
        rows = len(next(iter(given.values())))
        missing = [name for name in self.inputs if name not in given]
        stand_in: dict[str, Any] = {}
        if "input_ids" in missing:
            stand_in = dict(self.processor(text=[""] * rows, return_tensors="np"))
        elif "input_values" in missing:
            stand_in = {"input_values": torch.zeros(rows, self.least_samples).numpy()}
            stand_in["input_values_mask"] = torch.ones(rows, self.least_samples, dtype=torch.int64).numpy()
        given = {**stand_in, **given}
        short = self.least_samples - given["input_values"].shape[1] if "input_values" in given else 0
        if short > 0:
            for name in ("input_values", "input_values_mask"):
                given[name] = torch.nn.functional.pad(torch.from_numpy(given[name]), (0, short)).numpy()
        answers = self.session.run(self.outputs, {name: given[name] for name in self.inputs})
        outputs = {name: torch.from_numpy(values) for name, values in zip(self.outputs, answers, strict=True)}
        if stand_in:
            branch = "speech" if "input_ids" in missing else "text"
            field = next(f"{branch}_{kind}_logits" for kind in ("branch", "label") if f"{branch}_{kind}_logits" in outputs)
            outputs["logits"] = outputs[field]
        return outputs


__all__ = ["OnnxModel"]
