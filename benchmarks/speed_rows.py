"""The rows of speed.py: what is over what, how the sides are checked to do the same work, and the target.

Shapes: B batch, F frames.
"""

import copy
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import soundfile
import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import AutoProcessor, set_seed

from lemer import LemerPipeline, LemerProcessor
from lemer.benchmarks import speed_setup, speed_speechbrain
from lemer.benchmarks.speed import DEVICE, Entry, alternate, as_entry, clock, compare, difference, flops, forward, own_times
from lemer.benchmarks.speed_setup import (
    BATCH,
    LIKE_LENGTHS,
    MIXED_LENGTHS,
    Bench,
    as_predicted,
    child,
    fit_classifier,
    iemocap_seconds,
    logits_in_order,
    make_batch,
    make_model,
    make_optimizer,
    matrices,
    memory_of_a_step,
    run_onnxruntime,
    run_towers,
    spaced,
    start_onnxruntime,
    stock_pipelines,
    towers_loss,
    train_step,
    write_recordings,
)
from lemer.corpora.any_dataset import load_any_dataset
from lemer.corpora.manifest import Utterance
from lemer.labels.label_embeddings import build_label_embeddings
from lemer.labels_lemer import frame_codes
from lemer.predict import predict_shard
from lemer.speech_encoder_lemer import encode_speech, extract_features
from lemer.training.batches import (
    NUM_WORKERS,
    PAD_TO_MULTIPLE_OF,
    Collator,
    LengthBuckets,
    evaluation_loader,
    training_loader,
)

IEMOCAP = iemocap_seconds()
AS_PREDICTED = "bf16 / float32, both as predict.py runs them"


def over_its_towers(bench: Bench) -> Iterator[Entry]:
    """LemerModel over its two towers alone, forward and training step."""
    model, batch = make_model(bench.size).train(), bench.batch()
    set_seed(0)  # of dropout and SpecAugment
    states = run_towers(model, batch)
    set_seed(0)
    out = model(**batch)
    both = zip((out.text_model_output, out.speech_model_output), states, strict=True)
    worst = max(difference(ours.last_hidden_state, theirs) for ours, theirs in both)
    same = f"hidden states of both towers, in training mode: {worst:.0e}"
    inputs = {name: values for name, values in batch.items() if name != "labels"}
    model.eval()
    ours, theirs = forward(lambda: model(**inputs)), forward(lambda: run_towers(model, batch))
    yield compare("a", "model / towers, forward", ours, theirs, bench.pairs(15), ("at most", 1.02), same)
    model.train()
    whole = make_optimizer(model)
    towers = make_optimizer(model.speech_model, model.text_model)
    yield compare(
        "a",
        "model / towers, training step",
        lambda: train_step(lambda: model(**batch).loss, whole),
        lambda: train_step(lambda: towers_loss(run_towers(model, batch)), towers),
        bench.pairs(25),
        ("at most", 1.03),
        same,
    )


def over_the_stock_encoder(bench: Bench) -> Iterator[Entry]:
    """Padding-safe encoder over transformers' stock encoder, the same padded batch, forward and training step."""
    for norm in ("layer", "group"):
        yield from _with_norm(bench, norm)


def _with_norm(bench: Bench, norm: str) -> Iterator[Entry]:
    ours, theirs = (make_model(bench.size, norm, safe).speech_model for safe in (True, False))
    theirs.load_state_dict(ours.state_dict())
    whole, padded = bench.batch([2.0, 2.0]), bench.batch(MIXED_LENGTHS)

    def run_ours(batch=padded):
        return encode_speech(ours, batch["input_values"], batch["input_values_mask"])[0].last_hidden_state

    def run_theirs(batch=padded):
        return theirs(batch["input_values"], attention_mask=batch["input_values_mask"]).last_hidden_state

    with torch.no_grad():
        worst = difference(run_ours(whole), run_theirs(whole))
        counts = [flops(run) for run in (run_ours, run_theirs)]
    same = f"frames where nothing is padded: {worst:.0e}; operations of the padded batch {counts[0] / counts[1]:.4f}"
    what = f"padding-safe / stock encoder, {norm} norm"
    at_most = ("at most", 1.0)
    yield compare("b", f"{what}, forward", forward(run_ours), forward(run_theirs), bench.pairs(5), at_most, same)
    our_optimizer, their_optimizer = make_optimizer(ours.train()), make_optimizer(theirs.train())
    yield compare(
        "b",
        f"{what}, training step",
        lambda: train_step(lambda: towers_loss([run_ours()]), our_optimizer),
        lambda: train_step(lambda: towers_loss([run_theirs()]), their_optimizer),
        bench.pairs(3),
        at_most,
        same,
    )


def in_buckets(bench: Bench) -> Iterator[Entry]:
    """Utterances a second at IEMOCAP's lengths, batches of 16: ours over random order padded to the longest."""
    model, rng = make_model(bench.size), np.random.default_rng(0)
    seconds = IEMOCAP if not bench.quick else IEMOCAP[:64].clip(max=4.0)
    frames = (seconds * speed_setup.RATE).astype(int)
    tokens = rng.integers(60, 151, len(seconds))
    lengths = Dataset.from_dict({"num_frames": frames.tolist()})

    def batch_of(rows, seed, multiple=None):
        return make_batch(seconds[rows], tokens[rows], bench.size, seed, np.zeros(len(rows), dtype=int), multiple)

    def random_order(seed):
        order = np.random.default_rng(seed).permutation(len(seconds))
        return [order[start : start + BATCH].tolist() for start in range(0, len(order), BATCH)]

    some = [{name: values for name, values in batch_of([row], row).items() if name != "labels"} for row in range(32)]
    by_length = Dataset.from_dict({"num_frames": frames[:32].tolist()})
    orders = (evaluation_loader(by_length, None, BATCH).batch_sampler, [list(range(16)), list(range(16, 32))])
    answers = [logits_in_order(model, some, batches) for batches in orders]
    assert torch.equal(answers[0].argmax(1), answers[1].argmax(1)), "predictions differ between the orders"
    same = f"logits of 32 utterances in both orders: {difference(*answers):.0e}, predictions all equal"
    counted, trials, optimizer = (2 if bench.quick else 6), bench.pairs(4, on_gpu=2), make_optimizer(model)
    for what, target in (("prediction", 2.8), ("training", 2.5)):
        model.train(what == "training")
        times, padded = [], []
        for trial in range(trials):
            sampler = LengthBuckets(frames.tolist(), BATCH, seed=trial)
            ordered = evaluation_loader(lengths, None, BATCH).batch_sampler if what == "prediction" else sampler
            sides = [[list(rows) for rows in ordered], random_order(trial)]
            padded.append(np.divide(*[sum(len(rows) * max(frames[rows]) for rows in side) for side in reversed(sides)]))
            spent = [0.0, 0.0]
            chosen = [spaced(side, frames, counted, (trial + 0.5) / trials) for side in sides]
            for rows in zip(*chosen, strict=True):
                for side in (0, 1):
                    batch = batch_of(rows[side], trial, None if side else PAD_TO_MULTIPLE_OF)
                    if what == "training":
                        call = lambda batch=batch: train_step(lambda: model(**batch).loss, optimizer)  # noqa: E731
                    else:
                        call = forward(lambda batch=batch: model(**batch))
                    if trial == 0 and not spent[side]:
                        call()  # warm-up
                    spent[side] += clock(call)
            times.append(tuple(spent))
        entry = as_entry(
            "c", f"batches of like length / random order, {what}", times, ("at least", target), same, speed=True
        )
        entry.measured = (
            f"padded samples of all {len(seconds)} utterances: random order {np.median(padded):.2f} times ours; "
            f"{counted} batches timed of each order, evenly spaced by length"
        )
        if PAD_TO_MULTIPLE_OF:
            entry.measured += f"; ours timed padded to a multiple of {PAD_TO_MULTIPLE_OF} samples, which that leaves out"
        yield entry


def in_reduced_precision(bench: Bench) -> Iterator[Entry]:
    """Other ways to run a checkpoint over torch in float32: bf16 weights, autocast, int8, onnxruntime."""
    model = make_model(bench.size)
    fitted, tested = (8, 16) if bench.quick else (100, 1000)
    batches, expected, right = fit_classifier(model, bench, fitted, tested)
    half = copy.deepcopy(model).to(torch.bfloat16)

    def lower(one, half=half):
        return half(**{**one, "input_values": one["input_values"].bfloat16()}).logits

    sides = {
        "bf16 / float32": (lower, nullcontext, ("at least", 2.8) if DEVICE == "cpu" else None),
        "bf16 autocast / float32": (lambda one: model(**one).logits, lambda: torch.autocast(DEVICE, torch.bfloat16), None),
    }
    if DEVICE == "cpu":
        with warnings.catch_warnings(action="ignore"):  # deprecated, and without a successor for the CPU in torch itself
            int8 = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
        sides["int8 linear layers / float32"] = (lambda one: int8(**one).logits, nullcontext, None)
        processor = AutoProcessor.from_pretrained(bench.checkpoint / "whole")
        session = start_onnxruntime(copy.deepcopy(model), processor, bench.folder / "model.onnx")
        sides["onnxruntime / float32"] = (lambda one: run_onnxruntime(session, one), nullcontext, None)
        predicted = as_predicted(model, torch.bfloat16)
        sides[AS_PREDICTED] = (lambda one: lower(one, predicted), nullcontext, None)
    batch = {name: values for name, values in bench.batch().items() if name != "labels"}
    for name, (run, context, target) in sides.items():
        other = as_predicted(model) if name == AS_PREDICTED else model

        def call(one=batch, run=run, context=context):
            with torch.no_grad(), context():
                return run(one)

        def full_precision(other=other):
            with torch.no_grad():
                return other(**batch)

        logits = torch.cat([call(one).float() for one in batches])
        agreed = (logits.argmax(1) == expected.argmax(1)).float().mean().item()
        same = f"labels of {tested} utterances agree: {100 * agreed:.1f} %"
        yield compare("d", f"{name}, forward", call, full_precision, bench.pairs(7), target, same, speed=True)
        if name == "bf16 / float32":
            off = (logits - expected).abs().mean().item()
            first, second = expected.topk(2, dim=1).values.T
            yield Entry(
                "d",
                "labels that bf16 and float32 agree on",
                [agreed],
                ("at least", 0.995),
                f"classifier fitted on {fitted} other utterances; float32 has {100 * right:.0f} % of {tested} right",
                measured=f"logits {off:.4f} off in the mean; {(first - second < 2 * off).sum()} of {tested} utterances have "
                "less than twice that between their first two classes",
            )


def compiled(bench: Bench) -> Iterator[Entry]:
    """torch.compile over the model as it is: forward, and with a GPU a training step."""
    model = make_model(bench.size)
    torch._dynamo.reset()
    generated = torch.compile(model, dynamic=True, backend="eager" if bench.quick else "inductor")
    batch, other = bench.batch(), bench.batch(MIXED_LENGTHS)
    ours, theirs = (forward(lambda one=one: one(**batch).logits) for one in (generated, model))
    first, worst = clock(ours), difference(ours(), theirs())
    again = clock(forward(lambda: generated(**other)))
    same = f"logits: {worst:.0e}"
    entry = compare("l", "torch.compile / as it is, forward", ours, theirs, bench.pairs(7), None, same, speed=True)
    entry.measured = f"first call {first:.0f} s, first call with other lengths {again:.1f} s"
    yield entry
    if DEVICE == "cuda":
        model.train()
        optimizer = make_optimizer(model)
        ours, theirs = (lambda one=one: train_step(lambda: one(**batch).loss, optimizer) for one in (generated, model))
        first = clock(ours)
        entry = compare("l", "torch.compile / as it is, training step", ours, theirs, bench.pairs(7), None, same, speed=True)
        entry.measured = f"first call {first:.0f} s"
        yield entry


def pass_for_labels(bench: Bench) -> Iterator[Entry]:
    """The speech pass of the label embeddings over the CNN encoder alone, and over the whole conformer."""
    model, batch = make_model(bench.size), bench.batch()
    speech, values, mask = model.speech_model, batch["input_values"], batch["input_values_mask"]
    ours = forward(lambda: frame_codes(model, values, mask))
    cnn = forward(lambda: speech.feature_extractor(values))
    conformer = forward(lambda: encode_speech(speech, values, mask)[0])
    with torch.no_grad():
        normed = speech.feature_projection.layer_norm(speech.feature_extractor(values).transpose(1, 2))
        worst = difference(extract_features(speech, values, mask)[0], normed)
    same = f"features of the CNN encoder: {worst:.0e}"
    yield compare("e", "frame codes / CNN encoder", ours, cnn, bench.pairs(11), ("at most", 1.1), same)
    yield compare("e", "frame codes / whole conformer", ours, conformer, bench.pairs(7), ("at most", 0.4), same)


def waiting_for_data(bench: Bench) -> Iterator[Entry]:
    """Share of a training step spent on decoding, resampling, processing and waiting for data."""
    processor = LemerProcessor.from_pretrained(bench.checkpoint / "whole")
    model = make_model(bench.size).train()
    optimizer, batches = make_optimizer(model), bench.pairs(3, on_gpu=16)
    ahead = 2 * NUM_WORKERS  # batches that are made while the first is waited for
    for rate, channels in ((16_000, 1), (44_100, 2)):
        folder = bench.folder / f"recordings_{rate}"
        count = 8 * (batches + 1 + ahead)
        seconds = np.quantile(IEMOCAP, (np.arange(count) + 0.5) / count)
        rows = Dataset.from_list(write_recordings(folder, seconds.clip(max=2.0 if bench.quick else None), rate, channels))
        loader = training_loader(rows, Collator(processor, "multimodal"), 8, 0, NUM_WORKERS)
        shares, begin = [], time.perf_counter()
        for batch in loader:
            batch.pop("rows")
            batch = {name: values.to(DEVICE, non_blocking=True) for name, values in batch.items()}
            ready = time.perf_counter()
            clock(lambda batch=batch: train_step(lambda: model(**batch).loss, optimizer))
            shares.append((ready - begin) / (time.perf_counter() - begin))
            begin = time.perf_counter()
        what = f"data / training step, {rate} Hz files, {channels} channel{'s' if channels > 1 else ''}"
        yield Entry(
            "f",
            what,
            shares[1 + ahead :],
            ("at most", 0.02),
            "one loop, train.py's loader",
            measured=f"batches of 8, {NUM_WORKERS} workers",
        )


def first_prediction(bench: Bench) -> Iterator[Entry]:
    """Process start to first prediction over loading the two towers with transformers alone."""
    recording = write_recordings(bench.folder / "first", [2.0])[0]["audio"]
    arguments = [str(bench.checkpoint), recording, DEVICE]

    def timer(code):
        begin = time.time()
        return float(child("-c", code, *arguments)) - begin

    times = alternate(speed_setup.OURS_STARTS, speed_setup.THEIRS_STARTS, bench.pairs(9, on_gpu=2), timer)
    same = "the same weights of both towers are loaded; ours answers too"
    entry = as_entry("g", "start to first prediction / loading the towers", times, ("at most", 1.15), same)
    if not entry.met:
        entry.measured = speed_setup.import_times(speed_setup.OURS_STARTS, speed_setup.THEIRS_STARTS, arguments)
    yield entry


def over_a_folder(bench: Bench) -> Iterator[Entry]:
    """Prediction over a folder of recordings with words over transformers' audio and text classification pipelines."""
    many = speed_setup.PREDICTED  # utterances in a batch
    count = 4 if bench.quick else 2 * many
    seconds = np.random.default_rng(0).permutation(np.quantile(IEMOCAP, (np.arange(count) + 0.5) / count))
    rows = write_recordings(bench.folder / "folder", seconds.clip(max=2.0 if bench.quick else None))
    model = make_model(bench.size)
    processor = AutoProcessor.from_pretrained(bench.checkpoint / "whole")
    prepared, half = as_predicted(model), as_predicted(model, torch.bfloat16)
    ours, predicted, halved = (LemerPipeline(one, processor) for one in (model, prepared, half))
    hear, read = stock_pipelines(bench.checkpoint)
    inputs = [{"audio": row["audio"], "text": row["text"]} for row in rows]
    samples = soundfile.read(rows[0]["audio"], dtype="float32")[0]
    alone = ours.processor(audio=samples, sampling_rate=16_000, return_tensors="pt").to(DEVICE)
    theirs = {name: values.to(DEVICE) for name, values in hear.preprocess(samples).items()}
    with torch.no_grad():
        states = hear.model.wav2vec2_conformer(theirs["input_values"]).last_hidden_state
        of_both = [encode_speech(one.speech_model, alone["input_values"])[0].last_hidden_state for one in (model, prepared)]
        worst = max(difference(one, states) for one in of_both)
    same = f"frames of a recording alone: {worst:.0e}"

    def clips(some):  # without ffmpeg the audio pipeline cannot read a file
        for row in some:
            samples, rate = soundfile.read(row["audio"], dtype="float32")
            yield {"array": samples, "sampling_rate": rate}

    def run_theirs(batch_size):
        some = rows[:few] if batch_size == 1 else rows
        heard = list(hear(clips(some), batch_size=batch_size))
        return heard, read([row["text"] for row in some], batch_size=batch_size)

    def run_predict(pipe=predicted):
        dialogs = [[Utterance(row["audio"], row["audio"], row["text"])] for row in rows]
        failed: dict[str, str] = {}
        predict_shard(pipe, dialogs, {}, many, failed, tqdm(disable=True))
        assert not failed, failed

    few = 16  # recordings that are enough one by one
    together = f"transformers' pipelines, batches of {many}"
    for what, run, size, target, pairs in (
        ("LemerPipeline / transformers' pipelines, one by one", lambda: ours(inputs[:few]), 1, 1.0, 9),
        (f"LemerPipeline / {together}", lambda: ours(inputs, batch_size=many), many, 1.0, 3),
        (f"predict.py / {together}", run_predict, many, 1.0, 3),
        (f"predict.py --dtype bfloat16 / {together}", lambda: run_predict(halved), many, 2.0, 3),
    ):
        run_stock = lambda size=size: run_theirs(size)  # noqa: E731
        yield compare("h", what, run, run_stock, bench.pairs(pairs), ("at least", target), same, speed=True)
    yield from over_speechbrain(bench, [row["audio"] for row in rows])


def over_speechbrain(bench: Bench, files: list[str]) -> Iterator[Entry]:
    """Speech alone: ours over SpeechBrain's wav2vec 2.0 emotion classifier, same tower, if `make bench` has put it here."""
    if not (speed_speechbrain.FOLDER / "ready").exists():  # written last
        tqdm.write(f"h  without SpeechBrain, which `make bench` puts into {speed_speechbrain.FOLDER.name}", file=sys.stderr)
        return
    if DEVICE == "cuda":
        torch.cuda.empty_cache()  # the other process needs it
    command = [speed_speechbrain.__file__, bench.size, str(bench.pairs(7)), str(bench.folder), *files]
    found = json.loads(child(*command))
    same = f"frames of a recording alone, speech alone: {found['difference']:.0e}"
    for what, times in found["seconds"].items():
        target = ("at least", 2.0 if "bfloat16" in what else 1.0)
        yield as_entry("h", f"{what} / SpeechBrain's classifier", times, target, same, speed=True)


def peak_memory(bench: Bench) -> Iterator[Entry]:
    """Peak memory of a training step over that of the towers alone, with and without gradient checkpointing."""
    for checkpointing in (False, True):
        settings = (checkpointing, bench.size, 1.0 if bench.quick else 8.0)
        pairs = bench.pairs(4) if DEVICE == "cpu" else 1  # a GPU's allocator counts bytes, the same in every run
        peaks = [[memory_of(whole, *settings) for whole in (True, False)] for _ in range(pairs)]
        ours, theirs = np.median(peaks, axis=0)
        yield Entry(
            "i",
            f"memory of a training step, model / towers{', gradient checkpointing' if checkpointing else ''}",
            [one / other for one, other in peaks],
            ("at most", 1.05),
            "as row a",
            measured=f"{ours:.0f} and {theirs:.0f} MiB, a batch of 4",
        )


def memory_of(*settings) -> float:
    """`memory_of_a_step`, on a CPU in a process of its own."""
    if DEVICE == "cuda":
        return memory_of_a_step(*settings)
    return float(
        child("-c", f"from lemer.benchmarks.speed_setup import memory_of_a_step; print(memory_of_a_step{settings})")
    )


def growth(bench: Bench) -> Iterator[Entry]:
    """Cost and memory against utterance length, the longest that fits, and two processes over one."""
    model = make_model(bench.size)
    batches = {seconds: bench.batch([float(seconds)]) for seconds in (4, 2, 8, 16, 32)}
    calls = {seconds: forward(lambda one=one: model(**one)) for seconds, one in batches.items()}
    for seconds in (2, 8, 16, 32):
        times = alternate(calls[seconds], calls[4], bench.pairs(3))
        per_second = [(ours / seconds, theirs / 4) for ours, theirs in times]
        yield as_entry(
            "j", f"forward of a second of speech, in {seconds} s / in 4 s", per_second, same="one utterance, alone"
        )
    lengths = np.array([1, 2, 4] if bench.quick else [8, 16, 32])
    peaks = [memory_of(True, False, bench.size, float(seconds)) for seconds in lengths]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    if DEVICE == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**20
    longest = max((np.polynomial.Polynomial.fit(lengths, peaks, 2) - memory).roots().real)
    yield Entry(
        "j",
        f"memory of a training step, four utterances of {lengths[2]} s / of {lengths[1]} s",
        [peaks[2] / peaks[1]],
        same="as row i",
        measured=f"{', '.join(f'{peak:.0f}' for peak in peaks)} MiB for {', '.join(map(str, lengths))} s; by the parabola "
        f"through them {memory:.0f} MiB are full at {longest:.0f} s",
    )
    yield from growth_with_corpus(bench)
    if DEVICE == "cuda" and torch.cuda.device_count() < 2:
        tqdm.write("j  without two processes: there is one GPU", file=sys.stderr)
        return
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    steps = [str(Path(speed_setup.__file__)), bench.size, "3.6"]
    rates = [[float(child(*torchrun, count, *steps)) for count in "12"] for _ in range(bench.pairs(1))]
    one, two = np.median(rates, axis=0)
    yield Entry(
        "j",
        "training, two processes / one",
        [after / before for before, after in rates],
        same="the same batch of 4 a process",
        measured=f"{two:.2f} and {one:.2f} utterances a second, one thread a process",
    )


def growth_with_corpus(bench: Bench) -> Iterator[Entry]:
    """Cost of an utterance in preparing a corpus and making its tonal label embeddings, against the corpus's size."""
    sizes = (8, 16) if bench.quick else (64, 256, 1024)
    rows = write_recordings(bench.folder / "corpus", np.ones(sizes[-1]))
    processor = LemerProcessor.from_pretrained(bench.checkpoint / "whole")
    model = make_model(bench.size)
    sources = {size: bench.folder / f"corpus_{size}.jsonl" for size in sizes}
    for size, source in sources.items():
        Dataset.from_list(rows[:size]).select_columns(["audio", "text", "label"]).to_json(source)
    prepared: dict[int, Dataset] = {}

    def prepare(size):
        cache = tempfile.mkdtemp(dir=bench.folder)
        prepared[size], _ = load_any_dataset(sources[size], test_share=0.5, cache_dir=cache, progress=False)

    def make_labels(size):
        build_label_embeddings(model, processor, prepared[size], semantic="random", progress=False)

    for what, run in (("preparing", prepare), ("tonal label embeddings of", make_labels)):
        for size in sizes[1:]:
            times = alternate(lambda run=run, size=size: run(size), lambda run=run: run(sizes[0]), bench.pairs(1))
            each = [(ours / size, theirs / sizes[0]) for ours, theirs in times]
            yield as_entry("j", f"{what} an utterance, of {size} / of {sizes[0]}", each, same="utterances of 1 s")


def of_the_matrix_rate(bench: Bench) -> Iterator[Entry]:
    """Fraction of the rate of a large matrix product, measured in turn with it: our and stock towers."""
    batch = bench.batch()
    samples, mask = batch["input_values"], batch["input_values_mask"]
    words = {name: batch[name] for name in ("input_ids", "attention_mask")}
    ours, stock = make_model(bench.size), make_model(bench.size, padding_safe=False)
    half, stock_half = (copy.deepcopy(model).to(torch.bfloat16) for model in (ours, stock))
    runs = []
    for name, model, lower in (("ours", ours, half), ("stock", stock, stock_half)):
        for kind, one, values in (("float32 forward", model, samples), ("bf16 forward", lower, samples.bfloat16())):
            call = lambda one=one, values=values: one.speech_model(values, attention_mask=mask)  # noqa: E731
            if name == "ours":
                call = lambda one=one, values=values: encode_speech(one.speech_model, values, mask)  # noqa: E731
            runs.append((f"{name}, conformer, {kind}", torch.no_grad()(call), one.dtype, None))
    if DEVICE == "cpu":
        for (name, unprepared, dtype, _), values in zip(runs[:2], (samples, samples.bfloat16()), strict=True):
            tower = as_predicted(ours, dtype).speech_model
            call = torch.no_grad()(lambda tower=tower, values=values: encode_speech(tower, values, mask))
            runs.append((f"{name}, as predict.py runs it", call, dtype, unprepared))  # what oneDNN multiplies is not counted
    for kind, one in (("float32 forward", ours), ("bf16 forward", half)):
        runs.append((f"BERT, {kind}", torch.no_grad()(lambda one=one: one.text_model(**words)), one.dtype, None))
    if DEVICE == "cpu":
        whole = {name: values for name, values in batch.items() if name != "labels"}
        processor = AutoProcessor.from_pretrained(bench.checkpoint / "whole")
        session = start_onnxruntime(make_model(bench.size), processor, bench.folder / "rate.onnx")
        counted = torch.no_grad()(lambda: ours(**whole))  # torch's: onnxruntime counts nothing
        runs.append(("ours, whole model, float32 forward", counted, torch.float32, None))
        call = lambda: run_onnxruntime(session, whole)  # noqa: E731
        runs.append(("onnxruntime, whole model, float32 forward", call, torch.float32, counted))
    larger = {name: values.repeat(4, 1) if values.ndim == 2 else values.repeat(4) for name, values in batch.items()}
    for name, model in (("ours", ours), ("stock", stock)):
        trained = copy.deepcopy(model).train()  # a copy: the forward passes above are run later, in evaluation mode
        optimizer = make_optimizer(trained)
        step = lambda model=trained, optimizer=optimizer: train_step(lambda: model(**batch).loss, optimizer)  # noqa: E731
        dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
        runs.append((f"{name}, whole model, training step", step, dtype, None))
        if name == "ours" and DEVICE == "cuda":
            step = lambda model=trained, optimizer=optimizer: train_step(lambda: model(**larger).loss, optimizer)  # noqa: E731
            runs.append((f"ours, whole model, training step, {len(larger['labels'])} utterances", step, dtype, None))
    if DEVICE == "cpu":
        code = "from lemer.benchmarks.speed_setup import seconds_of_a_forward; seconds_of_a_forward"
        calls = [f"{code}({keep}, {bench.size!r}, {LIKE_LENGTHS if not bench.quick else [0.5]})" for keep in (True, False)]
        times = [tuple(float(child("-c", call)) for call in calls) for _ in range(bench.pairs(3))]
        what = "forward, freed memory kept / given back to the system"
        yield as_entry("k", what, times, ("at most", 1.0), "the same call in two processes")
    targets = {}
    if DEVICE == "cpu":
        targets = {"ours, conformer, float32 forward": 0.88, "ours, conformer, bf16 forward": 0.70}
        targets["ours, conformer, bf16 forward, as predict.py runs it"] = 0.70
        targets["ours, whole model, training step"] = 0.80
    for name, run, dtype, counted in runs:
        one, other = matrices(dtype)
        product, work = lambda one=one, other=other: one @ other, flops(counted or run)
        pairs = bench.pairs(5 if "training" in name else 11, on_gpu=5)
        times = alternate(run, lambda product=product: [product() for _ in range(4)], pairs)
        rates = [(work / spent, 4 * 2 * one.shape[0] ** 3 / matrix) for spent, matrix in times]
        mine, peak = np.median(rates, axis=0) / 1e9
        target = ("at least", targets[name]) if name in targets else None
        measured = f"{mine:.0f} of {peak:.0f} GFLOP/s; {work / 1e9:.1f} GFLOP"
        if DEVICE == "cuda":
            busy, kernels = np.sum(list(own_times(run).values()), axis=0)
            measured += f"; {kernels:.0f} kernels, which take {busy:.1f} of {1000 * np.median(times, axis=0)[0]:.1f} ms"
        yield Entry("k", f"{name} / matrix rate", [rate / top for rate, top in rates], target, "counted", measured=measured)


ROWS = {
    "a": over_its_towers,
    "b": over_the_stock_encoder,
    "c": in_buckets,
    "d": in_reduced_precision,
    "e": pass_for_labels,
    "f": waiting_for_data,
    "g": first_prediction,
    "h": over_a_folder,
    "i": peak_memory,
    "j": growth,
    "k": of_the_matrix_rate,
    "l": compiled,
}
