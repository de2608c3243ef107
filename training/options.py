"""The options of train.py: what they are, what they default to, and what they change."""

import argparse
import json
from pathlib import Path

from ..corpora import options as corpus_options
from ..labels.label_embeddings import SEMANTIC, TONAL
from .batches import NUM_WORKERS
from .folds import MODELS
from .small_towers import SMALL_SPEECH_TOWERS

# What the paper does not say, and what towers of random weights need instead.
DEFAULTS = {
    "published": {
        "speech_lr": 1e-6,  # paper
        "text_lr": 5e-6,  # paper
        "new_lr": 1e-4,
        "warmup_steps": 8000,  # paper
        "epochs": 50,
        "freeze_feature_encoder": True,
    },
    "small": {
        "speech_lr": 1e-3,
        "text_lr": 1e-3,
        "new_lr": 1e-3,
        "warmup_steps": 50,
        "epochs": 25,
        "freeze_feature_encoder": False,
    },
}
# Settings that do not change what comes out.
FREE = corpus_options.FREE | {"output_dir", "fuse", "second_stage", "seeds", "num_workers", "checkpoint_steps", "list"}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_argument_group("what")
    what.add_argument("--recipe", default="C1", help="row of the paper's tables (default: C1, LE-MER)")
    what.add_argument("--list", action="store_true", help="print the recipes and stop")
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of LemerConfig or of LemerProcessor, as JSON or text: --set fusion=sum --set "
        "speech_config.hidden_dropout=0.2; may be given several times",
    )
    what.add_argument("--output_dir", help="folder of the run, one for each recipe and setting")
    what.add_argument(
        "--fuse",
        nargs=2,
        metavar="RUN",
        help="of --recipe score_fusion: two finished runs whose logits are added (default: A5 and B5 beside --output_dir)",
    )
    data = parser.add_argument_group("data")
    corpus_options.add_corpus_options(data)
    data.add_argument(
        "--validation_share",
        type=float,
        default=0.1,
        help="share of the training sessions, cut off by whole dialogs, on which the best epoch is chosen; 0: none, and "
        "the last epoch is taken. The test session chooses nothing (default: 0.1)",
    )
    data.add_argument("--max_seconds", type=float, help="cut longer training utterances, to save memory; tests stay whole")
    towers = parser.add_argument_group("towers")
    towers.add_argument(
        "--speech_model",
        default="facebook/wav2vec2-conformer-rel-pos-large",
        help="folder or Hub name of a wav2vec 2.0 pre-training checkpoint, or 'small': a tiny conformer of random weights. "
        "A finished model of train.py lends its tower. {fold} and {seed} stand for their numbers: "
        "runs/B5/fold{fold}/seed{seed}/checkpoint",
    )
    towers.add_argument(
        "--text_model",
        default="google-bert/bert-base-uncased",
        help="folder or Hub name of a BERT, 'small' for a tiny one of random weights, or a finished model, as above",
    )
    towers.add_argument(
        "--second_stage",
        metavar="FOLDER",
        help="second-stage pre-training of the speech tower, one for each fold, of recipes that have it: made there "
        "once by pretrain.py, or here where it is missing, and shared by all recipes (default: second_stage beside "
        "--output_dir); 'none': the tower as it is",
    )
    towers.add_argument(
        "--freeze_feature_encoder",
        action=argparse.BooleanOptionalAction,
        help="keep the CNN encoder as it is (default: for published towers)",
    )
    labels = parser.add_argument_group("label embeddings", "default: the recipe's")
    labels.add_argument("--semantic_labels", choices=SEMANTIC, help="what describes the labels of the text branch")
    labels.add_argument("--tonal_labels", choices=TONAL, help="what describes the labels of the speech branch")
    labels.add_argument("--words", type=int, metavar="K", help="key words a class (paper: 9)")
    labels.add_argument("--codes", type=int, metavar="K", help="key frames' codes a class (paper: 100)")
    training = parser.add_argument_group(
        "training",
        "defaults in brackets: with published / 'small' towers, the paper's where it names them; with one of each, each "
        "tower has its own rate, new_lr is the first, warmup_steps and epochs are the second",
    )
    for name, convert, text in (
        ("speech_lr", float, "learning rate of the speech tower"),
        ("text_lr", float, "learning rate of the text tower"),
        ("new_lr", float, "learning rate of the layers that no checkpoint had"),
        ("warmup_steps", int, "updates until the learning rates are reached"),
        ("epochs", int, "passes over the training split"),
    ):
        values = [DEFAULTS[kind][name] for kind in ("published", "small")]
        training.add_argument(f"--{name}", type=convert, help=f"{text} [{values[0]} / {values[1]}]")
    training.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run each (default: 0)")
    training.add_argument("--batch_size", type=int, default=16, help="utterances of all processes together (paper: 16)")
    training.add_argument("--gradient_accumulation_steps", type=int, default=1, help="batches an update")
    training.add_argument("--max_grad_norm", type=float, default=1.0, help="clip gradients to this norm")
    training.add_argument(
        "--schedule", default="linear", choices=["linear", "cosine", "constant_with_warmup"], help="after the warm-up"
    )
    training.add_argument("--mixed_precision", default="no", choices=["no", "bf16", "fp16"])
    training.add_argument(
        "--num_workers",
        type=int,
        default=NUM_WORKERS,
        help="processes that load audio ahead (default: 0 on a CPU, else 4, or one a core where there are fewer)",
    )
    training.add_argument("--checkpoint_steps", type=int, default=200, help="updates between states to go on from")
    args = parser.parse_args(argv)
    if args.list:
        return args
    if args.output_dir is None:
        parser.error("--output_dir is needed")
    if args.recipe != "score_fusion" and args.corpus == "iemocap" and args.data_dir is None:
        parser.error("--data_dir is needed")
    checks = {
        "words": args.words is None or args.words >= 1,
        "codes": args.codes is None or args.codes >= 1,
        "batch_size": args.batch_size >= 1,
        "gradient_accumulation_steps": args.gradient_accumulation_steps >= 1,
        "checkpoint_steps": args.checkpoint_steps >= 1,
        "validation_share": 0 <= args.validation_share < 1,
        "max_seconds": args.max_seconds is None or args.max_seconds > 0,
        "epochs": args.epochs is None or args.epochs >= 1,
    }
    for name, fine in checks.items():
        if not fine:
            parser.error(f"--{name} cannot be {getattr(args, name)}")
    return args


def set_defaults(args: argparse.Namespace, recipe, modality: str) -> None:
    """Fill the options that were not given, from the recipe and the kind of towers."""
    for name in ("semantic_labels", "tonal_labels", "words", "codes"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(recipe, name))
    if not recipe.second_stage or modality == "text" or args.second_stage == "none":
        args.second_stage = None
    elif args.second_stage is None:
        args.second_stage = str(Path(args.output_dir).parent / "second_stage")
    if args.second_stage is not None and towers_of_fold(args, 0, 0)[0] != args.speech_model:
        raise ValueError(
            f"--speech_model {args.speech_model} has a tower for each fold, and a second stage begins with one for all: "
            "give --second_stage none"
        )
    speech, text = args.speech_model in SMALL_SPEECH_TOWERS, args.text_model == "small"
    used = [speech] * (modality != "text") + [text] * (modality != "speech")
    # Each tower has the rate of its kind. New layers over a published tower stay slow: faster ones learn by heart what it
    # says before one of random weights says anything (benchmarks/LOG.md). That one needs the short warm-up.
    small = {"speech_lr": speech, "freeze_feature_encoder": speech, "text_lr": text, "new_lr": all(used)}
    for name in DEFAULTS["small"]:
        if getattr(args, name) is None:
            setattr(args, name, DEFAULTS["small" if small.get(name, any(used)) else "published"][name])


def changed_settings(assignments: list[str], recipe) -> tuple[dict, dict]:
    """Fields of the model's configuration and of `LemerProcessor`: the recipe's, changed by `--set`."""
    config_class = MODELS[recipe.model].config_class
    config, processor = {"speech_config": {}, "text_config": {}, **recipe.config}, dict(recipe.processor)
    config["speech_config"]["layerdrop"] = 0.0  # a layer left out has no gradient, which stops several processes
    known = {name for name in config_class.__annotations__ if name != "sub_configs_defaults"}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        tower, _, inner = name.partition(".")
        if equals and name in ("max_history", "max_text_length", "max_audio_seconds"):
            processor[name] = value
        elif equals and inner and tower in ("speech_config", "text_config"):
            config[tower][inner] = value
        elif equals and name in known:
            config[name] = value
        else:
            raise ValueError(
                f"--set {assignment}: expected FIELD=VALUE with a field of {', '.join(sorted(known))}, speech_config.NAME, "
                "text_config.NAME, max_history, max_text_length or max_audio_seconds"
            )
    semantic = {"semantic_size": 1} if config.get("speech_label_space") == "semantic" else {}  # known when BERT is
    config_class(**semantic, **{name: value for name, value in config.items() if not name.endswith("_config")})
    return config, processor


def towers_of_fold(args, fold: int, seed: int) -> tuple[str, str]:
    """Folders or names of the speech and the text tower, with the numbers in them."""
    return tuple(
        name.replace("{fold}", str(fold)).replace("{seed}", str(seed)) for name in (args.speech_model, args.text_model)
    )
