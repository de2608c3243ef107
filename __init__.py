"""lemer: label-enhanced multimodal emotion recognition from speech and words.

Names load on first use, so that `import lemer` costs nothing and a test runner that imports this
file under another name does not load the package twice. Importing any of the classes also makes the
Auto classes of transformers know the model type "lemer", so that no remote code is needed where the package is installed.
"""

import importlib

_HOME = {
    "LemerConfig": "configuration_lemer",
    "LemerModel": "modeling_lemer",
    "LemerOutput": "modeling_lemer",
    "LemerProcessor": "processing_lemer",
}
__all__ = sorted(_HOME)


def _register_auto_classes():
    """Make the Auto classes of transformers open lemer checkpoints without remote code."""
    import transformers

    from .configuration_lemer import LemerConfig
    from .modeling_lemer import LemerModel
    from .processing_lemer import LemerProcessor

    transformers.AutoConfig.register("lemer", LemerConfig, exist_ok=True)
    for auto in ("AutoModel", "AutoModelForAudioClassification", "AutoModelForSequenceClassification"):
        getattr(transformers, auto).register(LemerConfig, LemerModel, exist_ok=True)
    transformers.AutoProcessor.register(LemerConfig, LemerProcessor, exist_ok=True)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'lemer' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    _register_auto_classes()
    globals()[name] = value  # found directly from now on
    return value


def __dir__():
    return sorted([*globals(), *__all__])
