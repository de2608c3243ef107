"""Train one recipe and score it on the sessions held out.

    python train.py --recipe C1 --data_dir IEMOCAP_full_release --output_dir runs/C1
    torchrun --nproc_per_node 2 train.py ...        two processes (`accelerate launch --cpu` silently runs one)

Each fold and seed ends as OUTPUT_DIR/fold<k>/seed<s>/:
    checkpoint/        opens with `AutoModel.from_pretrained(..., trust_remote_code=True)`
    predictions.csv    id, label, prediction and one logit a class of every test utterance
    results.json       the scores, the split, what was selected how
    log.jsonl          losses and learning rates of every update; TensorBoard's files too where it is installed
OUTPUT_DIR itself gets protocol.json (the settings), results.json and results.md (means, deviation, pooled figures).
The same command goes on where it was killed, and leaves alone what is finished.
"""

import argparse
import json
import math
import shlex
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration, PartialState
from accelerate.utils import TorchDynamoPlugin, is_tensorboard_available, set_seed
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import StrictDataclassError
from tqdm.auto import tqdm
from transformers import get_scheduler
from transformers.utils import logging

from lemer import LemerProcessor
from lemer.corpora import command_line
from lemer.evaluation.run_folder import format_predictions
from lemer.evaluation.score_fusion import fuse_runs
from lemer.evaluation.ser_metrics import emotion_scores
from lemer.evaluation.summary import format_summary, summarise
from lemer.files import whole_folder, write_atomically, writing
from lemer.folds import MODELS, check_protocol, check_unseen, prepare_model, split_rows
from lemer.labels.label_embeddings import SEMANTIC, TONAL
from lemer.memory import keep_freed_memory
from lemer.pretraining import second_stage
from lemer.recipes import format_recipes, get_recipe
from lemer.small_towers import SMALL_SPEECH_TOWERS
from lemer.training import (
    NUM_WORKERS,
    Collator,
    JsonLinesTracker,
    States,
    evaluation_loader,
    optimizer_groups,
    predict,
    share_pairs,
    training_loader,
)

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
FREE = command_line.FREE | {"output_dir", "fuse", "second_stage", "seeds", "num_workers", "checkpoint_steps", "list"}


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
    command_line.add_corpus_options(data)
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


def train_fold(args, protocol: dict, dataset, fold: int, seed: int, folder: Path, speech: str, text: str) -> None:
    """Train and score one fold with one seed, from the towers `speech` and `text`."""
    begin = time.monotonic()
    tracker = JsonLinesTracker(folder / "log.jsonl")
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
        log_with=[tracker, "tensorboard"] if is_tensorboard_available() else [tracker],
        project_dir=folder,
        step_scheduler_with_optimizer=True,
        dynamo_plugin=TorchDynamoPlugin(dynamic=True),  # lengths differ from batch to batch
    )
    # `accelerate launch --dynamo_backend` compiles the model, which gives its parameters other names.
    unwrap = partial(accelerator.unwrap_model, keep_torch_compile=False)
    main = accelerator.is_main_process
    if args.batch_size % accelerator.num_processes:
        raise ValueError(f"--batch_size {args.batch_size} cannot be split among {accelerator.num_processes} processes")
    train_rows, validation_rows, test_rows = split_rows(dataset, fold, args.validation_share, seed)
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "start").exists():
            prepare_model(protocol, speech, text, train_rows, seed, folder / "start", args.batch_size)
    accelerator.wait_for_everyone()

    model_class = MODELS[protocol["model"]]
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a warning that the classifier is new, as it must be
    model = model_class.from_pretrained(folder / "start", dtype=torch.float32)
    logging.set_verbosity(verbosity)
    processor = LemerProcessor.from_pretrained(folder / "start")
    model_config = model.config
    if args.freeze_feature_encoder and model.speech_model is not None:
        model.speech_model.feature_extractor._freeze_parameters()  # HuBERT's model has no method of its own that calls this
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    collator = Collator(processor, model.config.modality)
    cut = Collator(processor, model.config.modality, args.max_seconds)
    loader = training_loader(train_rows, cut, args.batch_size, seed, args.num_workers)
    sampler = loader.batch_sampler
    optimizer = torch.optim.Adam(optimizer_groups(model, args.speech_lr, args.text_lr, args.new_lr), fused=True)
    updates_per_epoch = math.ceil(len(sampler) / args.gradient_accumulation_steps)
    total = updates_per_epoch * args.epochs
    if main and args.warmup_steps >= total:
        print(f"note: the warm-up of {args.warmup_steps} updates is not over at the end of training, after {total}")
    scheduler = get_scheduler(args.schedule, optimizer, args.warmup_steps, total)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    accelerator.init_trackers("tensorboard")
    states = States(folder / "states", accelerator)
    set_seed(seed)
    progress = states.load() or {"step": 0, "epoch": 0, "batches": 0, "best_score": None, "best_step": None}
    tracker.rewind(progress["step"])
    validation_loader = None
    if len(validation_rows):
        validation_loader = evaluation_loader(validation_rows, collator, args.batch_size, args.num_workers)
        validation_loader = accelerator.prepare(validation_loader)

    bar = tqdm(total=total, initial=progress["step"], desc=f"fold {fold} seed {seed}", unit="update", disable=not main)
    for epoch in range(progress["epoch"], args.epochs):
        model.train()
        sampler.start(epoch, progress["batches"])
        parts: dict[str, list] = {}
        for batch in loader:
            rows = batch.pop("rows")
            with accelerator.accumulate(model):
                out = model(**batch)
                share_pairs(out, model_config, accelerator)
                if not torch.isfinite(out.loss):
                    stop_on_loss(out, [train_rows[int(row)]["id"] for row in rows], progress["step"])
                accelerator.backward(out.loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            for name, value in out.items():
                if name.endswith("loss"):
                    parts.setdefault(name, []).append(value.detach().float())
            progress["batches"] += 1
            if not accelerator.sync_gradients:
                continue
            progress["step"] += 1
            values = accelerator.reduce(torch.stack([torch.stack(one).mean() for one in parts.values()]), "mean").tolist()
            means = dict(zip(parts, values, strict=True))
            rates = {f"lr_{group['name']}": group["lr"] for group in optimizer.param_groups}
            accelerator.log({"epoch": epoch, **means, **rates}, step=progress["step"])
            bar.update()
            bar.set_postfix(loss=f"{means['loss']:.3f}")
            parts = {}
            if progress["step"] % args.checkpoint_steps == 0 and progress["batches"] < len(sampler):
                states.save(progress)
        progress.update(epoch=epoch + 1, batches=0)
        if validation_loader is not None:
            score = score_split(model, validation_loader, accelerator, validation_rows)
            accelerator.log({"epoch": epoch, **{f"validation_{n}": score[n] for n in ("wa", "ua")}}, step=progress["step"])
            if progress["best_score"] is None or score["ua"] > progress["best_score"]:
                progress.update(best_score=score["ua"], best_step=progress["step"])
                if main:
                    name = f"best-{progress['step']}"
                    with whole_folder(folder / "states" / name) as best, writing(folder / "states" / name):
                        unwrap(model).save_pretrained(best)
        states.save(progress)
    bar.close()

    if validation_loader is not None:
        best = folder / "states" / f"best-{progress['best_step']}"
        weights = model_class.from_pretrained(best, dtype=torch.float32).state_dict()
        unwrap(model).load_state_dict(weights)
    loader = accelerator.prepare(evaluation_loader(test_rows, collator, args.batch_size, args.num_workers))
    labels, logits = predict(model, loader, accelerator)
    for one in accelerator.trackers:
        one.finish()
    if main:
        with whole_folder(folder / "checkpoint") as checkpoint, writing(folder / "checkpoint"):
            unwrap(model).save_pretrained(checkpoint)
            processor.save_pretrained(checkpoint)
        names = list(unwrap(model).config.id2label.values())
        write_atomically(folder / "predictions.csv", format_predictions(test_rows["id"], labels, logits, names))
        results = {
            "fold": fold,
            "seed": seed,
            **emotion_scores(labels, logits.argmax(1), names),
            "labels": names,
            "selected": "last update"
            if validation_loader is None
            else f"best UA on validation, update {progress['best_step']}",
            "validation_ua": progress["best_score"],
            "split": {"train": len(train_rows), "validation": len(validation_rows), "test": len(test_rows)},
            "parameters": unwrap(model).num_parameters(),
            "trained_parameters": trained,
            "updates": progress["step"],
            "processes": accelerator.num_processes,
            "seconds_since_start_or_resume": round(time.monotonic() - begin, 1),
        }
        write_atomically(folder / "results.json", json.dumps(results, indent=1))
        for leftover in ("states", "start"):
            shutil.rmtree(folder / leftover, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.free_memory(model, optimizer, scheduler)


def towers_of_fold(args, fold: int, seed: int) -> tuple[str, str]:
    """Folders or names of the speech and the text tower, with the numbers in them."""
    return tuple(
        name.replace("{fold}", str(fold)).replace("{seed}", str(seed)) for name in (args.speech_model, args.text_model)
    )


def stop_on_loss(out, ids: list[str], step: int):
    parts = {name: value.item() for name, value in out.items() if name.endswith("loss")}
    raise FloatingPointError(
        f"loss is not finite after {step} updates: {parts}; utterances of the batch: {', '.join(ids)}. "
        "Try a lower learning rate, or --mixed_precision no"
    )


def score_split(model, loader, accelerator, rows) -> dict:
    labels, logits = predict(model, loader, accelerator)
    return emotion_scores(labels, logits.argmax(1), rows.features["label"].names)


def run(args: argparse.Namespace, command: str) -> None:
    logging.disable_progress_bar()  # of loading and saving weights: they take moments
    recipe = get_recipe(args.recipe)
    if recipe.fuses:
        first, second = args.fuse or [Path(args.output_dir).parent / name for name in recipe.fuses]
        paper = {"wa": recipe.paper_wa, "ua": recipe.paper_ua}
        fuse_runs(Path(first), Path(second), Path(args.output_dir), paper)
        results = Path(args.output_dir) / "results.md"
        print(f"{results.read_text()}\n{results}")
        return
    config, processor_settings = changed_settings(args.set, recipe)
    set_defaults(args, recipe, config.get("modality", "multimodal"))
    processes = PartialState(cpu=not torch.accelerator.is_available())  # else torchrun's processes do not find each other
    with processes.main_process_first():
        dataset, report, folds, described = command_line.load_corpus(args, config.get("modality", "multimodal"))
    if processes.is_main_process:
        print(report.format(), flush=True)
    output = Path(args.output_dir)
    protocol = {name: value for name, value in vars(args).items() if name not in FREE}
    protocol.update(
        **described,
        selection="best UA on validation dialogs of the training sessions" if args.validation_share else "last update",
        second_stage=None if args.second_stage is None else "on the utterances of the training sessions, without labels",
        model=recipe.model,
        config=config,
        processor=processor_settings,
        corpus_fingerprint=report.fingerprints["all"],
        command=command,
    )
    towers = {(fold, seed): towers_of_fold(args, fold, seed) for fold in folds for seed in args.seeds}
    unused = {"text": 0, "speech": 1}.get(config.get("modality"))  # of the pair
    for (fold, _), pair in towers.items():
        for tower in (name for index, name in enumerate(pair) if index != unused):
            check_unseen(tower, fold, protocol["corpus_fingerprint"])
    if processes.is_main_process:
        check_protocol(output, protocol)
    processes.wait_for_everyone()

    for fold in folds:
        for seed in args.seeds:
            folder = output / f"fold{fold}" / f"seed{seed}"
            if not (folder / "results.json").exists():
                speech, text = towers[fold, seed]
                if args.second_stage is not None:  # before the fold's own Accelerator is made: the last one made rules
                    stage, corpus = Path(args.second_stage), protocol["corpus_fingerprint"]
                    speech = str(second_stage(stage, dataset, fold, speech, corpus, mixed_precision=args.mixed_precision))
                train_fold(args, protocol, dataset, fold, seed, folder, speech, text)
    if processes.is_main_process:
        runs = [json.loads(path.read_text()) for path in sorted(output.glob("fold*/seed*/results.json"))]
        summary = summarise(runs, {"wa": recipe.paper_wa, "ua": recipe.paper_ua})
        text = format_summary(f"{args.recipe}: {recipe.description}", runs, summary, report.is_standard)
        row = {"recipe": args.recipe, "comparable": report.is_standard, **summary}
        write_atomically(output / "results.json", json.dumps(row, indent=1))
        write_atomically(output / "results.md", text)
        print(f"\n{text}\n{output / 'results.md'}")
    processes.wait_for_everyone()
    if processes.num_processes > 1:
        time.sleep(0.3)  # a worker thread of gloo that outlives the interpreter aborts the process
        processes.destroy_process_group()


def main(argv=None) -> int:
    args = parse_args(argv)
    command = shlex.join(["python", "train.py", *(sys.argv[1:] if argv is None else argv)])
    if args.list:
        print(format_recipes())
        return 0
    keep_freed_memory()
    torch.backends.cuda.enable_cudnn_sdp(False)  # on a GPU it would plan every new length anew (benchmarks/LOG.md)
    try:
        run(args, command)
    except (ValueError, OSError, FloatingPointError, DatasetsError, StrictDataclassError) as error:
        tqdm.write(f"train.py: {' '.join(str(error).split())}", file=sys.stderr)  # above the bar of what was stopped
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
