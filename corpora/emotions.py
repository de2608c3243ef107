"""Names of emotions: which words mean the same emotion, and what class the labels of a corpus become.

    standard_name("ang")                                   # "anger"; None for a word that is no emotion here
    classes_of(["W", "L"], {"W": "anger", "L": "boredom"}, {"boredom": "neutral"})   # {"W": "anger", "L": "neutral"}

Corpora write one emotion as `anger`, `angry`, `ang`, `W` or `01`. The words below mean the same in every corpus. Codes
such as `W` mean what their own corpus says, and so stand in its row of `corpora/known.py`.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence

STANDARD_NAMES = {
    "anger": "anger angry ang",
    "boredom": "boredom bored bor",
    "calm": "calm cal",
    "contempt": "contempt contemptuous con",
    "disgust": "disgust disgusted dis",
    "excitement": "excitement excited exc",
    "fear": "fear fearful fea",
    "frustration": "frustration frustrated fru",
    "happiness": "happiness happy hap joy joyful",
    "neutral": "neutral neu",
    "sadness": "sadness sad",
    "surprise": "surprise surprised sur ps",  # ps: the pleasant surprise of TESS
}
_STANDARD_OF = {word: name for name, words in STANDARD_NAMES.items() for word in words.split()}
EMOTION_WORDS = frozenset(_STANDARD_OF)


def standard_name(word: str) -> str | None:
    """The standard name of an emotion, such as "anger" for `ANG`; None for a word that is no emotion here."""
    return _STANDARD_OF.get(word.strip().casefold())


def parse_label_map(assignments: Sequence[str]) -> dict[str, str]:
    """
    The words of `--label_map`, each LABEL=CLASS, as a dict.

    Raises:
        ValueError: one is no LABEL=CLASS, or a label is there twice.
    """
    changes: dict[str, str] = {}
    for assignment in assignments:
        label, equals, name = (part.strip() for part in assignment.partition("="))
        if not (label and equals and name):
            raise ValueError(f"--label_map {assignment}: expected LABEL=CLASS, such as excitement=happiness")
        if changes.get(label, name) != name:
            raise ValueError(f"--label_map gives {label} two classes, {changes[label]} and {name}: give one of them")
        changes[label] = name
    return changes


def classes_of(labels: Iterable[str], names: Mapping[str, str | None], changes: Mapping[str, str]) -> dict[str, str | None]:
    """
    The class of every label of a corpus.

    Args:
        labels: as they are written in the corpus.
        names: label -> class, as the corpus's row says; None for a label that is no class, such as "no agreement".
        changes: what the user wants instead, from `parse_label_map`. A key is a label as it is written, or a word for its
            class (`W`, `anger` and `angry` are all the anger of EmoDB). A value that is another word for one of the classes
            becomes that class, so that "happy" and "happiness" never stand side by side.

    Returns:
        label -> class; None where the row says so, and for a label that the row does not know.
    """
    labels = list(labels)
    classes = {label: names.get(label) for label in labels}
    known = {standard_name(name) or name: name for name in names.values() if name is not None}
    for key, value in changes.items():
        value = known.get(standard_name(value) or value, standard_name(value) or value)
        classes.update(dict.fromkeys(_meant(key, labels, names), value))
    return classes


def check_changes(changes: Mapping[str, str], corpora: Mapping[str, tuple[Iterable[str], Mapping[str, str | None]]]) -> None:
    """
    Refuse a change that no corpus can follow.

    Args:
        corpora: name -> the labels that are written in it, and the map of its row.

    Raises:
        ValueError: a change names no label of any corpus.
    """
    for key, value in changes.items():
        if not any(_meant(key, labels, names) for labels, names in corpora.values()):
            words = [word for labels, names in corpora.values() for word in (*labels, *filter(None, names.values()))]
            words = list(dict.fromkeys(words))
            near = difflib.get_close_matches(key, words, n=1)
            raise ValueError(
                f"--label_map {key}={value}: {', '.join(corpora)} has no label {key}, but {', '.join(words)}"
                + (f". Did you mean {near[0]}?" if near else "")
            )


def _meant(key: str, labels: Iterable[str], names: Mapping[str, str | None]) -> list[str]:
    """The labels that a key of the label map means: one that is written so, else those whose class is called so."""
    labels = list(labels)
    written = [label for label in labels if label.casefold() == key.casefold()]
    if written:
        return written
    return [label for label in labels if (name := names.get(label)) is not None and _is_same(key, name)]


def _is_same(word: str, name: str) -> bool:
    standard = standard_name(word)
    return word.casefold() == name.casefold() or (standard is not None and standard == standard_name(name))


def describe_classes(classes: Mapping[str, str | None]) -> str:
    """The map in words: `anger = W; boredom = L`, without the labels that are their own class."""
    merged: dict[str, list[str]] = {}
    for label, name in classes.items():
        if name is not None:
            merged.setdefault(name, []).append(label)
    return "; ".join(f"{name} = {', '.join(labels)}" for name, labels in merged.items() if labels != [name])


def match_classes(labels: Iterable[str], classes: Sequence[str], changes: Mapping[str, str]) -> dict[str, str | None]:
    """
    The class of a model that every label of another corpus means.

    Args:
        labels: of the corpus.
        classes: of the model.
        changes: label -> class, from `parse_label_map`; it overrules all else.

    Returns:
        label -> the class that is asked for, or is called so, or is another word for the same emotion; None where there is
        none.

    Raises:
        ValueError: a change names no label or no class.
    """
    labels = list(labels)
    spelled = {name.casefold(): name for name in classes}
    standard: dict[str, list[str]] = {}
    for name in classes:
        standard.setdefault(standard_name(name) or name, []).append(name)
    written = {label.casefold(): label for label in labels}
    for label, name in changes.items():
        if label.casefold() not in written or name.casefold() not in spelled:
            raise ValueError(
                f"--label_map {label}={name}: expected LABEL=CLASS with a label of the corpus ({', '.join(labels)}) and a "
                f"class of the model ({', '.join(classes)})"
            )
    asked = {label.casefold(): spelled[name.casefold()] for label, name in changes.items()}
    matched: dict[str, str | None] = {}
    for label in labels:
        same = standard.get(standard_name(label) or label, [])
        alike = spelled.get(label.casefold(), same[0] if len(same) == 1 else None)
        matched[label] = asked.get(label.casefold(), alike)
    return matched
