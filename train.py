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
from lemer.corpora import options as corpus_options
from lemer.evaluation.run_folder import format_predictions
from lemer.evaluation.score_fusion import fuse_runs
from lemer.evaluation.ser_metrics import emotion_scores
from lemer.evaluation.summary import format_summary, summarise
from lemer.recipes import format_recipes, get_recipe
from lemer.runtime.files import whole_folder, write_atomically, writing
from lemer.runtime.process import leave_process_group, set_up_process
from lemer.training.batches import Collator, evaluation_loader, training_loader
from lemer.training.folds import MODELS, check_protocol, check_unseen, prepare_model, split_rows
from lemer.training.loop import optimizer_groups, predict, share_pairs, stop_on_loss
from lemer.training.options import FREE, changed_settings, parse_args, set_defaults, towers_of_fold
from lemer.training.second_stage import second_stage
from lemer.training.states import JsonLinesTracker, States


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
        dataset, report, folds, described = corpus_options.load_corpus(args, config.get("modality", "multimodal"))
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
    leave_process_group()


def main(argv=None) -> int:
    args = parse_args(argv)
    command = shlex.join(["python", "train.py", *(sys.argv[1:] if argv is None else argv)])
    if args.list:
        print(format_recipes())
        return 0
    set_up_process()
    try:
        run(args, command)
    except (ValueError, OSError, FloatingPointError, DatasetsError, StrictDataclassError) as error:
        tqdm.write(f"train.py: {' '.join(str(error).split())}", file=sys.stderr)  # above the bar of what was stopped
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
