"""The options of train.py: the parser, their defaults, and what they change in a model.

Nothing that takes time is imported, so that `--help` answers at once.
"""

import argparse
import json
from pathlib import Path

from ..corpora import options as corpus_options
from ..recipes import SEMANTIC, TONAL
from ..runtime.command import command_parser
from .settings import FINE_TUNING, LOG_ALONE, MAX_SILENCE, SMALL_SPEECH_TOWERS, TRACKERS

SCORES = {"ua": "UA", "wa": "WA", "macro_f1": "macro-F1"}  # what may choose the epoch
# Options that do not change the results. They are not compared when a run goes on.
FREE = corpus_options.FREE | {
    *("output_dir", "fuse", "second_stage", "seeds", "num_workers", "checkpoint_steps", "report_to", "list", "silence")
}


def parse_args(argv=None, description: str | None = None) -> argparse.Namespace:
    """
    Read and check the options; a mistake ends the process with a message.

    Args:
        argv: the command line, None for that of the process.
        description: text at the head of `--help`.
    """
    example = "--recipe C1 --data_dir IEMOCAP_full_release --output_dir runs/C1"
    parser = command_parser("train.py", example, description)
    _add_run_options(parser.add_argument_group("run"))
    _add_data_options(parser.add_argument_group("data"))
    _add_tower_options(parser.add_argument_group("towers"))
    _add_label_options(parser.add_argument_group("label embeddings", "default of all four: what the recipe says"))
    _add_training_options(
        parser.add_argument_group(
            "training",
            "Defaults in brackets are those for published / for small towers; the paper's where it names them. With one "
            "tower of each kind, each tower has the learning rate of its kind, new_lr is that of published towers, and "
            "warmup_steps and epochs are those of small towers.",
        )
    )
    args = parser.parse_args(argv)
    if not args.list:
        _check_args(parser, args)
    return args


def _add_run_options(group) -> None:
    group.add_argument("--recipe", default="C1", help="row of the papers' tables, see --list (default: C1, LE-MER)")
    group.add_argument("--list", action="store_true", help="print the recipes and stop")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of LemerConfig or of LemerProcessor, as JSON or text: --set fusion=sum --set "
        "speech_config.hidden_dropout=0.2; may be given several times",
    )
    group.add_argument("--output_dir", help="folder of the run, one for each recipe and setting (required)")
    group.add_argument(
        "--fuse",
        nargs=2,
        metavar="RUN",
        help="with --recipe score_fusion: two finished runs whose logits are added (default: A5 and B5 beside --output_dir)",
    )

    group.add_argument(
        "--silence",
        type=float,
        metavar="SECONDS",
        help="score every fold and seed once more with so many seconds of digital zeros before and after every test "
        "recording, also of a run that is finished; the report shows it (default: no)",
    )


def _add_data_options(group) -> None:
    corpus_options.add_corpus_options(group)
    group.add_argument(
        "--validation_share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the training sessions on which the best epoch is chosen; with 0 there is no validation and the last "
        "epoch is taken. The test session never chooses anything (default: 0.1)",
    )
    group.add_argument(
        "--validation_by",
        choices=["speaker", "dialog"],
        help="what validation is cut off by: whole speakers where they are known, or whole dialogs (default: speaker; "
        "dialog for IEMOCAP, where the two speakers of a session would be a quarter of the training utterances)",
    )
    group.add_argument(
        "--max_seconds",
        type=float,
        metavar="SECONDS",
        help="cut longer training utterances to this many seconds, to save memory; validation and test utterances stay "
        "whole (default: no cut)",
    )


def _add_tower_options(group) -> None:
    group.add_argument(
        "--speech_model",
        default="facebook/wav2vec2-conformer-rel-pos-large",
        metavar="TOWER",
        help="folder or Hub name of a wav2vec 2.0 pre-training checkpoint, or of a finished model of train.py, whose tower "
        f"is taken; or a conformer of random weights: {', '.join(SMALL_SPEECH_TOWERS)}. {{fold}} and {{seed}} stand "
        "for their numbers: runs/B5/fold{fold}/seed{seed}/checkpoint (default: facebook/wav2vec2-conformer-rel-pos-large)",
    )
    group.add_argument(
        "--text_model",
        default="google-bert/bert-base-uncased",
        metavar="TOWER",
        help="folder or Hub name of a BERT, or of a finished model, as above; or small: a tiny BERT of random weights "
        "(default: google-bert/bert-base-uncased)",
    )
    group.add_argument(
        "--second_stage",
        metavar="FOLDER",
        help="folder of the second-stage pre-training of the speech tower, for recipes that have one. pretrain.py makes it, "
        "or train.py where it is missing; all recipes share it. none: take the tower as it is (default: second_stage beside "
        "--output_dir)",
    )
    group.add_argument(
        "--lora",
        type=int,
        metavar="RANK",
        help="train adapters of this rank in the attention of the towers (LoRA) instead of their weights; the checkpoint "
        "has them merged. The learning rates of the towers are then those of the adapters: 1e-4 is usual (default: no)",
    )
    group.add_argument(
        "--freeze_feature_encoder",
        action=argparse.BooleanOptionalAction,
        help="do not train the CNN encoder of the speech tower (default: so for published towers)",
    )


def _add_label_options(group) -> None:
    group.add_argument("--semantic_labels", choices=SEMANTIC, help="what describes the labels in the text branch")
    group.add_argument("--tonal_labels", choices=TONAL, help="what describes the labels in the speech branch")
    group.add_argument("--words", type=int, metavar="K", help="key words of each class (paper: 9)")
    group.add_argument("--codes", type=int, metavar="K", help="codes of key frames of each class (paper: 100)")


def _add_training_options(group) -> None:
    for name, convert, text in (
        ("speech_lr", float, "learning rate of the speech tower"),
        ("text_lr", float, "learning rate of the text tower"),
        ("new_lr", float, "learning rate of the layers that no checkpoint had"),
        ("warmup_steps", int, "updates until the learning rates are reached"),
        ("epochs", int, "passes over the training split"),
    ):
        values = [FINE_TUNING[kind][name] for kind in ("published", "small")]
        group.add_argument(f"--{name}", type=convert, metavar="N", help=f"{text} [{values[0]} / {values[1]}]")
    group.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the runs of each fold (default: 0)")
    group.add_argument(
        "--batch_size",
        type=int,
        default=16,
        metavar="N",
        help="utterances of all processes together (default and paper: 16)",
    )
    group.add_argument(
        "--gradient_accumulation_steps", type=int, default=1, metavar="N", help="batches of an update (default: 1)"
    )
    _add_target_options(group)
    group.add_argument(
        "--gradient_checkpointing",
        action="store_true",
        help="keep the inputs of the towers' layers alone, and compute the rest again: less memory, about a third more time",
    )
    group.add_argument(
        "--max_grad_norm", type=float, default=1.0, metavar="NORM", help="clip gradients to this norm (default: 1.0)"
    )
    group.add_argument(
        "--schedule",
        default="linear",
        choices=["linear", "cosine", "constant_with_warmup"],
        help="how the learning rates go on after the warm-up (default: linear, to 0 at the last update)",
    )
    group.add_argument(
        "--mixed_precision", default="no", choices=["no", "bf16", "fp16"], help="precision of the products (default: no)"
    )
    group.add_argument(
        "--num_workers",
        type=int,
        metavar="N",
        help="processes that load audio ahead (default: 0 on a CPU; on a GPU 4, or one per core if there are fewer cores)",
    )
    group.add_argument(
        "--checkpoint_steps",
        type=int,
        default=200,
        metavar="N",
        help="updates between two states that a killed run goes on from; there is one after every epoch too (default: 200)",
    )
    group.add_argument(
        "--report_to",
        nargs="+",
        default=[LOG_ALONE],
        choices=TRACKERS,
        help="trackers of accelerate that show losses and scores while the training runs; each needs its package. log.jsonl "
        "is always written (default: jsonl, that file alone)",
    )


def _add_target_options(group) -> None:
    group.add_argument(
        "--targets",
        choices=["label", "votes"],
        default="label",
        help="what the classes are trained on: the label, or the shares of the annotators' votes (a column votes) by KL "
        "divergence, which also learns from utterances without a label, such as ties (default: label)",
    )
    group.add_argument(
        "--class_weights",
        nargs="+",
        default=["none"],
        metavar="WEIGHT",
        help="how often an utterance of a class counts in the losses: none, balanced (all classes alike), or a number for "
        "each class in their order (default: none)",
    )
    group.add_argument(
        "--attributes",
        nargs="+",
        default=[],
        choices=["valence", "arousal", "dominance"],
        help="columns of numbers that a head beside the classes learns with the loss 1 - CCC (default: none)",
    )
    group.add_argument(
        "--select_by",
        choices=list(SCORES),
        default="ua",
        help="score on the validation utterances that chooses the epoch (default: ua)",
    )


def _check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.output_dir is None:
        parser.error("--output_dir is needed")
    if args.recipe != "score_fusion" and corpus_options.needs_data_dir(args):
        parser.error("--data_dir is needed")
    for name in ("words", "codes", "batch_size", "gradient_accumulation_steps", "checkpoint_steps", "epochs", "lora"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} cannot be {value}: give 1 or more")
    if not 0 <= args.validation_share < 1:
        parser.error(f"--validation_share cannot be {args.validation_share}: give a share from 0 to below 1")
    if args.silence is not None and not 0 < args.silence <= 10:
        parser.error(f"--silence must be above 0 and at most 10 seconds, got {args.silence:g}")
    if args.max_seconds is not None and args.max_seconds <= 0:
        parser.error(f"--max_seconds cannot be {args.max_seconds}: give more than 0 seconds")


def set_defaults(args: argparse.Namespace, recipe, modality: str) -> None:
    """Fill in the options that were not given, from the recipe and the kind of its towers."""
    for name in ("semantic_labels", "tonal_labels", "words", "codes"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(recipe, name))
    if args.validation_by is None:
        args.validation_by = "dialog" if corpus_options.is_iemocap(args) else "speaker"
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
    # Each tower has the rate of its kind. New layers over a published tower stay slow: faster ones would learn its answers
    # by heart before a small tower beside it says anything (benchmarks/LOG.md). The small tower needs the short warm-up.
    small = {"speech_lr": speech, "freeze_feature_encoder": speech, "text_lr": text, "new_lr": all(used)}
    for name in FINE_TUNING["small"]:
        if getattr(args, name) is None:
            setattr(args, name, FINE_TUNING["small" if small.get(name, any(used)) else "published"][name])


def changed_settings(assignments: list[str], recipe) -> tuple[dict, dict]:
    """
    Apply `--set` to the settings of a recipe.

    Args:
        assignments: FIELD=VALUE each.

    Returns:
        Fields of the model's configuration, and settings of `LemerProcessor`.

    Raises:
        ValueError, StrictDataclassError: a field does not exist, or cannot have this value.
    """
    from .. import CrossModalConfig, LemerConfig  # here, because they load transformers

    config_class = {"lemer": LemerConfig, "cross_modal": CrossModalConfig}[recipe.model]
    config, processor = {"speech_config": {}, "text_config": {}, **recipe.config}, {"max_silence": MAX_SILENCE}
    processor |= recipe.processor
    config["speech_config"]["layerdrop"] = 0.0  # a skipped layer has no gradient, which stops a run of several processes
    known = set(config_class.__annotations__)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        tower, _, inner = name.partition(".")
        if equals and name in ("max_history", "max_text_length", "max_audio_seconds", "max_silence"):
            processor[name] = value
        elif equals and inner and tower in ("speech_config", "text_config"):
            config[tower][inner] = value
        elif equals and name in known:
            config[name] = value
        else:
            raise ValueError(
                f"--set {assignment}: expected FIELD=VALUE with a field of {', '.join(sorted(known))}, speech_config.NAME, "
                "text_config.NAME, max_history, max_text_length, max_audio_seconds or max_silence"
            )
    semantic = (
        {"semantic_size": 1} if config.get("speech_label_space") == "semantic" else {}
    )  # the real size is known when BERT is loaded
    config_class(**semantic, **{name: value for name, value in config.items() if not name.endswith("_config")})
    return config, processor


def towers_of_fold(args, fold: int, seed: int) -> tuple[str, str]:
    """Folders or names of the speech and the text tower, with the numbers in the place of {fold} and {seed}."""
    return tuple(
        name.replace("{fold}", str(fold)).replace("{seed}", str(seed)) for name in (args.speech_model, args.text_model)
    )
