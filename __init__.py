"""lemer: label-enhanced multimodal emotion recognition from speech and words.

Names load on first use, so `import lemer` takes no time, and a test runner that imports this file under another name does
not load the package twice. Importing any of the classes also tells the Auto classes of transformers about the models of both
papers. So checkpoints need no remote code where the package is installed.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker and an editor read; at run time the names load on first use
    from .configuration_cross_modal import CrossModalConfig
    from .configuration_lemer import LemerConfig
    from .modeling_cross_modal import CrossModalModel, CrossModalOutput
    from .modeling_lemer import LemerModel, LemerOutput
    from .pipeline_lemer import LemerPipeline
    from .processing_lemer import LemerProcessor

    __version__: str

# The module that each public name comes from.
_HOME = {
    "CrossModalConfig": "configuration_cross_modal",
    "CrossModalModel": "modeling_cross_modal",
    "CrossModalOutput": "modeling_cross_modal",
    "LemerConfig": "configuration_lemer",
    "LemerModel": "modeling_lemer",
    "LemerOutput": "modeling_lemer",
    "LemerPipeline": "pipeline_lemer",
    "LemerProcessor": "processing_lemer",
}
__all__ = [
    "CrossModalConfig",
    "CrossModalModel",
    "CrossModalOutput",
    "LemerConfig",
    "LemerModel",
    "LemerOutput",
    "LemerPipeline",
    "LemerProcessor",
]


def _register_auto_classes() -> None:
    """Make the Auto classes of transformers open lemer checkpoints without remote code, and `pipeline` know ours."""
    import transformers
    from transformers.pipelines import PIPELINE_REGISTRY

    from .configuration_cross_modal import CrossModalConfig
    from .configuration_lemer import LemerConfig
    from .modeling_cross_modal import CrossModalModel
    from .modeling_lemer import LemerModel
    from .pipeline_lemer import LemerPipeline
    from .processing_lemer import LemerProcessor

    for config, model in ((LemerConfig, LemerModel), (CrossModalConfig, CrossModalModel)):
        transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
        for auto in ("AutoModel", "AutoModelForAudioClassification", "AutoModelForSequenceClassification"):
            getattr(transformers, auto).register(config, model, exist_ok=True)
        transformers.AutoProcessor.register(config, LemerProcessor, exist_ok=True)
    if "speech-emotion-recognition" not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            "speech-emotion-recognition",
            pipeline_class=LemerPipeline,
            pt_model=transformers.AutoModelForAudioClassification,
            type="multimodal",
        )


def __getattr__(name: str):
    if name == "__version__":  # setup.cfg is the one place that has it
        return importlib.metadata.version("lemer")
    if name not in _HOME:
        raise AttributeError(f"module 'lemer' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    _register_auto_classes()
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
