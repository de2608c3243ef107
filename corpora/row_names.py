"""Ids and names of rows: every one there once, and those of several tables or splits kept apart."""

from collections import Counter
from collections.abc import Sequence


def keep_apart(names: Sequence[str | None], groups: Sequence[str], what: str, remarks: list[str]) -> list[str | None]:
    """Names with their group before them, where a name occurs in several groups, which is said; else as they are."""
    if len(set(groups)) < 2:
        return list(names)
    group_of: dict[str, str] = {}
    named = [(name, group) for name, group in zip(names, groups, strict=True) if name is not None]
    shared = {name for name, group in named if group_of.setdefault(name, group) != group}
    if not shared:
        return list(names)
    remarks.append(
        f"{len(shared)} {what} occur in several splits or tables, such as {sorted(shared)[0]}, and are kept apart"
    )
    return [name if name is None else f"{group}/{name}" for name, group in zip(names, groups, strict=True)]


def number_twins(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of which every one is there once, since a number stands behind a second one (a.wav#2); and those second ones."""
    taken, seen = set(names), Counter()
    numbered, twins = [], []
    for name in names:
        seen[name] += 1
        unlike = name
        if seen[name] > 1:
            twins.append(name)
            while (unlike := f"{name}#{seen[name]}") in taken:
                seen[name] += 1
            taken.add(unlike)
        numbered.append(unlike)
    return numbered, twins


def refuse_twins(name: str, ids: Sequence[str | None], groups: Sequence[str]) -> None:
    """Raise a `ValueError` where a table or split, which `groups` tell, has an id in several rows. None is no id."""
    seen: dict[str, set[str]] = {}
    twice: Counter[tuple[str, str]] = Counter()  # how often after the first time
    for group, row_id in zip(groups, ids, strict=True):
        if row_id is not None and row_id in seen.setdefault(group, set()):
            twice[group, row_id] += 1
        elif row_id is not None:
            seen[group].add(row_id)
    if twice:
        ((group, row_id), count), *_ = twice.items()
        count += 1
        raise ValueError(
            f"{name} has {len(twice)} ids in several rows, such as {row_id!r} in {count} rows of {group}: every id must be "
            "there once. Remove rows that are there twice, or rename the column of ids if it means something else"
        )
