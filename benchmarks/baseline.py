"""What anyone would try first on a small corpus, beside the recipe `small_corpus`: a table of UA.

    python -m lemer.benchmarks.baseline --corpus FOLDER --label_column emotion --fold_column fold
    python -m lemer.benchmarks.baseline --data_dir RELEASE [--words]

The options on the corpus are those of train.py. This needs the extra `baseline` (openSMILE). Every row is a classifier
that scikit-learn fits to one vector for each recording:

- eGeMAPS: the 88 functionals of openSMILE's eGeMAPSv02, standardised; a support vector machine (RBF) or a logistic
  regression;
- log-Mel statistics: mean and deviation of each of 80 bands, with the same classifiers;
- small_corpus: what `train.py --recipe small_corpus` fits, computed here again.

`--words` adds TF-IDF of the transcripts with a logistic regression, and for each row the mean of its log-probabilities and
those of the words. Rows "by speaker" are standardised over all recordings of each speaker, those of the test fold among
them. That needs many recordings of everyone who is to be recognised, so these rows are compared with each other alone.

One fold is held out at a time. Classifiers and their strengths have the best UA on speakers of the training folds that are
left out in turn; in small_corpus nothing is chosen. The seed draws which speakers are left out together, and the warped
copies of small_corpus.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm.auto import tqdm

from lemer.audio_lemer import load_audio
from lemer.corpora.load import load_corpus
from lemer.corpora.options import add_corpus_options
from lemer.evaluation.run_folder import Predictions
from lemer.evaluation.significance import Comparison, compare
from lemer.log_mel_lemer import MEL_RATE, log_mel
from lemer.recipes import get_recipe
from lemer.runtime.process import set_up_process
from lemer.training.functional_fit import describe, fit, make_processor
from lemer.training.options import changed_settings

# Functions that fit copies (copies, N, ...) of the recordings to their labels (N,).
Candidates = list[Callable]
SPEAKER_SPLITS = 4  # parts of the training speakers that are left out in turn


def _candidates(first_step, make: Callable, strengths: tuple[float, ...]) -> Candidates:
    """Of a classifier whose classes count alike, one candidate for each strength C; `first_step` is not fitted."""
    return [
        lambda copies, labels, strength=strength: make_pipeline(
            clone(first_step), make(C=strength, class_weight="balanced")
        ).fit(np.concatenate(list(copies)), np.tile(labels, len(copies)))
        for strength in strengths
    ]


_REGRESSION = partial(LogisticRegression, max_iter=1000)
PRACTITIONER = _candidates(StandardScaler(), _REGRESSION, (0.003, 0.01, 0.03, 0.1))
PRACTITIONER += _candidates(StandardScaler(), SVC, (1, 3, 10))
OURS: Candidates = [fit]
WORDS = _candidates(TfidfVectorizer(sublinear_tf=True), _REGRESSION, (0.1, 1, 10, 100))


def log_probabilities(fitted, rows: np.ndarray, classes: int) -> np.ndarray:
    """
    Log-probabilities of every class for every row, (N, C), very small for a class without a training utterance.

    The decision values of a support vector machine are taken for logits.
    """
    logits = np.full((len(rows), classes), -20.0)
    scores = fitted.decision_function(rows)
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1) / 2
    logits[:, fitted.classes_] = scores
    return torch.from_numpy(logits).log_softmax(-1).numpy()


def speakers(rows) -> np.ndarray:
    """The speaker of every row, or its dialog where the speaker is not known."""
    known = zip(rows["speaker"], rows["dialog"], strict=True)
    return np.asarray([speaker or f"dialog {dialog}" for speaker, dialog in known])


def speaker_splits(labels: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    Leave parts of the speakers out in turn.

    Args:
        labels: classes (N,), of which every part gets a like share as far as this can be.
        groups: speakers (N,).
        seed: of the parts that the speakers are split into.

    Returns:
        Indices of the rows to train on and of those to score, for every part; none where there is one speaker, or one class.
    """
    parts = min(SPEAKER_SPLITS, len(set(groups)))
    if parts < 2:
        return []
    splits = StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(labels, labels, groups)
    return [(train, test) for train, test in splits if len(set(labels[train])) > 1 and len(test)]


def choose(candidates: Candidates, copies: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> Callable:
    """The candidate with the best UA on speakers (N,) that are left out in turn; `copies` has the shape (copies, N, ...)."""
    if len(candidates) == 1:
        return candidates[0]
    splits = speaker_splits(labels, groups, seed)
    expected = np.concatenate([labels[test] for _, test in splits])

    def score(candidate: Callable) -> float:
        answers = [candidate(copies[:, train], labels[train]).predict(copies[0, test]) for train, test in splits]
        return balanced_accuracy_score(expected, np.concatenate(answers))

    return max(candidates, key=score)


def cross_validate(
    candidates: Candidates, copies: np.ndarray, samples, folds: list[int], seed: int
) -> dict[int, np.ndarray]:
    """Log-probabilities (N_k, C) for each fold k, of a classifier that saw neither its utterances nor their speakers."""
    sessions, labels, groups = np.asarray(samples["session"]), np.asarray(samples["label"]), speakers(samples)
    answers = {}
    for fold in folds:
        train, test = np.flatnonzero(sessions != fold), np.flatnonzero(sessions == fold)
        fitted = choose(candidates, copies[:, train], labels[train], groups[train], seed)(copies[:, train], labels[train])
        answers[fold] = log_probabilities(fitted, copies[0, test], len(samples.features["label"].names))
    return answers


def egemaps(samples) -> np.ndarray:
    """openSMILE's eGeMAPSv02 functionals of every recording, (N, 88)."""
    try:
        import opensmile  # pyright: ignore[reportMissingImports]  # of the extra `baseline`
    except ImportError:
        raise SystemExit("baseline.py needs openSMILE: pip install 'lemer[baseline]'") from None
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    clips = (load_audio(sample["audio"]) for sample in tqdm(samples, desc="eGeMAPS"))
    return np.stack([np.nan_to_num(smile.process_signal(clip, MEL_RATE).to_numpy()[0]) for clip in clips])


def log_mel_statistics(samples, processor) -> np.ndarray:
    """Mean and deviation of every band over the recording, (N, 160)."""
    rows = []
    for sample in samples:
        values = log_mel(processor(audio=[sample["audio"]], return_tensors="pt")["input_values"])[0]
        rows.append(torch.cat([values.mean(-1), values.std(-1, correction=0)]).numpy())
    return np.stack(rows)


def by_speaker(copies: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Standardise (copies, N, n) over the recordings of each of the speakers (N,)."""
    copies = copies.copy()
    for speaker in set(groups):
        rows = groups == speaker
        mean, deviation = copies[:, rows].mean(1, keepdims=True), copies[:, rows].std(1, keepdims=True)
        copies[:, rows] = (copies[:, rows] - mean) / (deviation + 1e-6)
    return copies


def all_rows(samples, folds: list[int], seeds: list[int], with_words: bool) -> dict[str, dict[tuple[int, int], np.ndarray]]:
    """Log-probabilities of every row, by (fold, seed)."""
    groups = speakers(samples)
    processor = make_processor({"processor": {}}, samples)
    as_trained = make_processor({"processor": changed_settings([], get_recipe("small_corpus"))[1]}, samples)
    plain = {"eGeMAPS": egemaps(samples)[None], "log-Mel statistics": log_mel_statistics(samples, processor)[None]}
    rows: dict[str, dict[tuple[int, int], np.ndarray]] = {}

    def add(name: str, candidates: Candidates, copies: np.ndarray, seed: int) -> None:
        answers = cross_validate(candidates, copies, samples, folds, seed)
        rows.setdefault(name, {}).update({(fold, seed): answer for fold, answer in answers.items()})

    for seed in tqdm(seeds, desc="seeds"):
        ours = describe(samples, as_trained, seed)
        for name, vectors in plain.items():
            add(name, PRACTITIONER, vectors, seed)
        add("small_corpus", OURS, ours, seed)
        add("eGeMAPS, by speaker", PRACTITIONER, by_speaker(plain["eGeMAPS"], groups), seed)
        add("small_corpus, by speaker", OURS, by_speaker(ours, groups), seed)
        if with_words:
            add("words", WORDS, np.asarray(samples["text"], dtype=object)[None], seed)
    if with_words:
        for name in ("eGeMAPS", "log-Mel statistics", "small_corpus"):
            rows[f"{name} and words"] = {key: (rows[name][key] + rows["words"][key]) / 2 for key in rows[name]}
    return rows


def format_table(rows: dict[str, dict[tuple[int, int], Predictions]]) -> str:
    """The rows as a Markdown table, each compared with eGeMAPS in the same setting."""
    lines = ["| row | UA | over folds | folds | against eGeMAPS |", "|---|---|---|---|---|"]
    for name, answers in rows.items():
        scores = {key: 100 * balanced_accuracy_score(row.labels, row.logits.argmax(1)) for key, row in answers.items()}
        folds, seeds = sorted({fold for fold, _ in scores}), sorted({seed for _, seed in scores})
        of_seeds = [np.mean([scores[fold, seed] for fold in folds]) for seed in seeds]
        of_folds = [np.mean([scores[fold, seed] for seed in seeds]) for fold in folds]
        deviation = f" ± {np.std(of_seeds, ddof=1):.1f}" if len(seeds) > 1 else ""
        cells = [name, f"{np.mean(of_seeds):.1f}{deviation}", f"± {np.std(of_folds):.1f}"]
        cells += [" ".join(f"{score:.1f}" for score in of_folds), _against(rows, name)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _against(rows: dict[str, dict[tuple[int, int], Predictions]], name: str) -> str:
    """Difference of pooled UA of a row and its baseline, with the p-value of the paired permutation test."""
    ours, _, setting = name.partition(",") if "," in name else name.partition(" and")
    baseline = name.replace(ours, "eGeMAPS")
    if name == baseline or baseline not in rows or (name == "words"):
        return ""
    comparison: Comparison = compare(rows[baseline], rows[name])
    return f"{100 * comparison.ua_difference:+.1f}, p = {comparison.ua_p:.2g}"


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_corpus_options(parser)
    parser.add_argument("--words", action="store_true", help="add rows with the words of the transcripts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    args = parser.parse_args(argv)
    set_up_process()
    corpus = load_corpus(args)
    samples, names = corpus.samples, corpus.samples.features["label"].names
    sessions, labels, ids = np.asarray(samples["session"]), np.asarray(samples["label"]), np.asarray(samples["id"])
    rows = {
        name: {
            (fold, seed): Predictions(list(ids[sessions == fold]), labels[sessions == fold], answer, names)
            for (fold, seed), answer in answers.items()
        }
        for name, answers in all_rows(samples, corpus.folds, args.seeds, args.words).items()
    }
    table = format_table(rows)
    print(table)
    if args.output is not None:
        args.output.write_text(f"{table}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
