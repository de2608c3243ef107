"""The walls of the house: what may import what, how long a file may be, which names the root may not have.

The rules are read off the tree: a file's room is its folder, files that travel are known by their endings, and every file of
a room is checked, whatever it is called.
"""

import ast
import re
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_imports

ROOT = Path(__file__).parents[2]
NOT_ROOMS = {"tests", "docs", "build", "dist", "site"}
ROOMS = sorted(
    path.name
    for path in ROOT.iterdir()
    if path.is_dir() and path.name.isidentifier() and path.name not in NOT_ROOMS and any(path.glob("*.py"))
)
HOMES = [room for room in ROOMS if (ROOT / room / "__init__.py").exists()]  # in the wheel; the others run from a checkout
SOURCES = sorted([*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))])
# What transformers copies beside a checkpoint: these, and every sibling that they import.
REMOTE = sorted({path.stem for pattern in ("*_lemer.py", "*_cross_modal.py") for path in ROOT.glob(pattern)})
LIBRARIES = {"numpy", "torch", "transformers", "huggingface_hub", "safetensors"}  # of remote files, beside Python itself
OPTIONAL = {"soundfile", "soxr", "av", "fsspec"}  # of remote files, inside a try only
# Rooms from the ground up: a file imports its own room and those below. Commands are the files at the root that are run.
BELOW = {
    "travels": set(),
    "leaf": set(),
    "corpora": {"travels", "leaf"},
    "labels": {"travels", "leaf", "corpora"},
    "evaluation": {"travels", "leaf", "corpora", "labels"},
    "training": {"travels", "leaf", "corpora", "labels", "evaluation"},
    "prediction": {"travels", "leaf", "corpora", "evaluation"},
    "command": {"travels", "leaf", "corpora", "labels", "evaluation", "training", "prediction"},
    "benchmarks": {"travels", "leaf", "corpora", "labels", "evaluation", "training", "prediction", "command"},
    "examples": {"travels", "leaf", "corpora", "prediction"},
}
MAX_LINES = 600
MAX_FUNCTION_LINES = 60


def name_of(path: Path) -> str:
    """Dotted name of a source inside the package, such as labels.descriptions; of a package's `__init__` the package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in SOURCES}


def room_of(module: str) -> str:
    """The room of a module, as `BELOW` calls it."""
    first = module.split(".")[0]
    if first in ("runtime", "recipes"):
        return "leaf"
    if first in REMOTE or first == "__init__":
        return "travels"
    return first if first in ROOMS else "command"


def imports(path: Path) -> list[tuple[ast.stmt, str, bool]]:
    """
    Every import anywhere in a file, late ones and those for type checkers included.

    Returns:
        The statement, the absolute name of the module (ours without `lemer.`), and whether it stands in a try.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    in_try = {
        id(node) for outer in ast.walk(tree) if isinstance(outer, ast.Try) for part in outer.body for node in ast.walk(part)
    }
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    package = [] if package == ["__init__"] else package
    statements = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            statements += [(node, alias.name.removeprefix("lemer."), id(node) in in_try) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - (node.level - 1)] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            base = "" if base == "lemer" else base.removeprefix("lemer.")
            for alias in node.names:  # `from . import pages` names a module, `from .pages import Page` one of its parts
                whole = f"{base}.{alias.name}".removeprefix(".")
                if whole in MODULES:
                    statements.append((node, whole, id(node) in in_try))
                elif base or node.level:
                    statements.append((node, base or "__init__", id(node) in in_try))
                else:
                    statements.append((node, "__init__", id(node) in in_try))
    return statements


def imported_names(path: Path) -> set[str]:
    return {name for _, name, _ in imports(path)}


REMOTE_FILES = [ROOT / f"{name}.py" for name in REMOTE]


def test_the_files_of_the_design_card_travel():
    assert {"configuration_lemer", "modeling_lemer", "processing_lemer"} <= set(REMOTE)


@pytest.mark.parametrize("path", REMOTE_FILES, ids=name_of)
def test_a_remote_file_imports_libraries_and_siblings_alone(path):
    allowed = set(sys.stdlib_module_names) | LIBRARIES | set(REMOTE)
    outside = {name for _, name, optional in imports(path) if not (optional and name in OPTIONAL)}
    assert {name.split(".")[0] for name in outside} <= allowed


@pytest.mark.parametrize("path", REMOTE_FILES, ids=name_of)
def test_a_remote_file_imports_its_siblings_relatively_and_by_name(path):
    for node, name, _ in imports(path):
        if name.split(".")[0] in REMOTE:
            assert isinstance(node, ast.ImportFrom) and node.level == 1 and node.module == name


@pytest.mark.parametrize("path", REMOTE_FILES, ids=name_of)
def test_a_remote_file_never_imports_from_dot_alone(path):
    assert not [node for node, _, _ in imports(path) if isinstance(node, ast.ImportFrom) and node.level and not node.module]


@pytest.mark.parametrize("path", REMOTE_FILES, ids=name_of)
def test_what_transformers_takes_for_a_relative_import_is_one(path):
    # It searches the text, docstrings included.
    assert set(get_relative_imports(path)) == imported_names(path) & set(REMOTE)


@pytest.mark.parametrize("name", ["configuration_lemer", "configuration_cross_modal", "processing_lemer"])
def test_what_an_old_transformers_opens_first_names_every_file_that_it_needs(name):
    """Version 4 copies the files that the first one names, and no further ones: then the refusal of its version is read."""
    direct = imported_names(MODULES[name]) & set(REMOTE)
    assert set().union(*(imported_names(MODULES[other]) & set(REMOTE) for other in direct)) <= direct


@pytest.mark.parametrize("name", ["configuration_lemer", "processing_lemer"])
def test_the_version_is_checked_before_any_other_import(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    modules = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    first = next(module for module in modules if module.split(".")[0] not in sys.stdlib_module_names)
    assert first == "versions_lemer"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_run_one_way(path):
    here = room_of(name_of(path))
    rooms = {room_of(name) for name in imported_names(path) if name in MODULES}
    assert rooms <= BELOW[here] | {here}


def test_there_is_no_circle():
    """Not even one that a late import hides. The package itself is left out: its names load on first use."""
    graph = {name: {other for other in imported_names(path) if other in MODULES} for name, path in MODULES.items()}
    graph.pop("__init__")
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]):
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done and name in graph:
            for other in sorted(graph[name] - {name}):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert done == set(graph)


@pytest.mark.parametrize("path", [path for path in SOURCES if name_of(path).split(".")[0] in HOMES], ids=name_of)
def test_a_home_imports_relatively(path):
    """Static tools see the house without an installation."""
    absolute = [node.lineno for node, name, _ in imports(path) if name in MODULES and not getattr(node, "level", 0)]
    assert not absolute


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nobody_imports_a_command(path):
    """But the command `lemer` and the benchmarks, which run them."""
    commands = {name for name in imported_names(path) if name in MODULES and room_of(name) == "command"}
    allowed = name_of(path).split(".")[0] in ("__main__", "benchmarks")
    assert allowed or not commands


def test_every_csv_file_is_made_by_format_csv():
    """Which sees to it that no spreadsheet computes a text."""
    writers = ("csv.writer", "csv.DictWriter", ".to_csv(")
    using = {name_of(path) for path in SOURCES if any(writer in path.read_text(encoding="utf-8") for writer in writers)}
    assert using == {"runtime.files"}


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=name_of)
def test_a_file_has_at_most_600_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def long_functions(text: str) -> list[str]:
    """
    Functions of a source text that have more than `MAX_FUNCTION_LINES` lines from `def` on, and no reason for it.

    The reason is a comment `# long: ...` on the line of `def`, or on the line before the function and its decorators.
    """
    lines, names = text.splitlines(), []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            before = lines[begin - 2].strip() if begin > 1 else ""
            has_reason = re.match(r"# long: \S", before) or re.search(r"# long: \S", lines[node.lineno - 1])
            if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES and not has_reason:
                names.append(node.name)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_has_at_most_60_lines_or_a_reason(path):
    functions = long_functions(path.read_text(encoding="utf-8"))
    assert not functions, "split them, or write `# long: <reason>` on the line before"


@pytest.mark.parametrize(
    ("before", "after", "lines", "is_refused"),
    [
        ("", "", 60, False),
        ("", "", 61, True),
        ("# long: a table\n", "", 61, False),
        ("", "  # long: a table", 61, False),
        ("# long: a table\n@cache\n", "", 61, False),
        ("# long:\n", "", 61, True),
        ("# a table\n", "", 61, True),
        ("# long: a table\n\n", "", 61, True),
    ],
)
def test_a_long_function_needs_a_reason(before, after, lines, is_refused):
    function = f"{before}def f():{after}\n" + "    x = 1\n" * (lines - 1)
    assert long_functions(function) == (["f"] if is_refused else [])
    method = "class A:\n" + "".join(f"    {line}\n" if line else "\n" for line in function.splitlines())
    assert long_functions(method) == (["f"] if is_refused else [])


def test_every_home_is_in_the_package():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    packages = set(setup["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for home in HOMES for path in (ROOT / home).rglob("__init__.py")}
    assert packages == {"lemer", *(".".join(("lemer", *folder.parts)) for folder in folders)}


def test_nothing_in_the_root_is_called_like_a_library():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    required = {line.split(">")[0].strip().lower().replace("_", "-") for lines in wanted for line in lines.split()}
    libraries = {
        module
        for module, distributions in packages_distributions().items()
        if required & {name.lower().replace("_", "-") for name in distributions}
    }
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name.isidentifier()}
    ours = (folders - {"build", "dist", "site"}) | {path.stem for path in ROOT.glob("*.py")}
    assert {"torch", "evaluate", "datasets"} <= libraries
    assert not ours & (libraries | set(sys.stdlib_module_names))
