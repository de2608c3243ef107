"""Render the tables and figures of a report as Markdown and as one HTML page.

The HTML page has no script and loads nothing. Every text that comes from the data is escaped, in both.
"""

import base64
import html
import re
from dataclasses import dataclass, field

from jinja2 import Environment, StrictUndefined


@dataclass
class Table:
    """A title, a header, rows of text (the first cell names the row), and a note on how to read them."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass
class Figure:
    """
    A figure of a report.

    Attributes:
        name: a short name, from which the name of its file is made.
        png: the picture.
        description: its main numbers in words, for readers who do not see it.
    """

    name: str
    caption: str
    png: bytes
    description: str

    @property
    def source(self) -> str:
        """The picture as a URL that holds its content."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass
class Section:
    """One protocol or one second stage: its tables, its figures, and the command of every row as (row, command)."""

    title: str
    tables: list[Table]
    figures: list[Figure] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Page:
    """
    A whole report.

    Attributes:
        notes: paragraphs at its beginning.
        left_out: a line for each run that is not in the tables, and why.
        before, after: tables that belong to no section.
        sections: one for each protocol and each second stage.
    """

    title: str
    notes: list[str]
    left_out: list[str]
    before: list[Table]
    sections: list[Section]
    after: list[Table]


TEMPLATE = """\
{% macro show(table) %}
<h3>{{ table.title }}</h3>
<div class="wide" tabindex="0" role="region" aria-label="{{ table.title }}">
<table>
<thead><tr>{% for cell in table.header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr><th scope="row"{% if row[0]|length > 20 %} class="long"{% endif %}>{{ row[0] }}</th>\
{% for cell in row[1:] %}<td{% if cell|length > 30 %} class="long"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% if table.note %}<p class="note">{{ table.note }}</p>{% endif %}
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }}</title>
<style>
:root { color-scheme: light; --line: #d5d9de; --soft: #f4f6f8; --ink: #1c2733; --link: #00507d; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.2rem clamp(.8rem, 3vw, 2.5rem) 4rem; background: #fff;
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "Liberation Sans", Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .4rem 0 .8rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .4rem; border-bottom: 2px solid var(--ink); padding-bottom: .2rem; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; }
a { color: var(--link); }
nav a { margin-right: 1.1rem; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; min-width: 4.2rem; max-width: 34rem; }
td, tbody th { white-space: nowrap; }
.long { white-space: normal; overflow-wrap: anywhere; }
td.long { min-width: 15rem; }
thead th { background: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; position: sticky; left: 0; background: #fff; max-width: 14rem; }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover > * { background: var(--soft); }
.note { font-size: .85rem; color: #48535f; max-width: 62rem; margin: .4rem 0 0; }
.figures { display: grid; gap: 1rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0; padding: .6rem; border: 1px solid var(--line); border-radius: 6px; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { font-size: .85rem; font-weight: 600; margin-bottom: .4rem; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem;
  margin: .2rem 0 .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
.command { font-size: .88rem; font-weight: 600; margin: .6rem 0 0; }
@media print { .wide { overflow: visible; border: 0; } body { max-width: none; } }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for note in notes %}<p>{{ note }}</p>{% endfor %}
{% if left_out %}
<h3>Left out</h3>
<ul>{% for line in left_out %}<li>{{ line }}</li>{% endfor %}</ul>
{% endif %}
<nav>{% for section in sections %}<a href="#part{{ loop.index }}">{{ section.title }}</a>{% endfor %}\
<a href="#earlier">Earlier systems</a></nav>
{% for table in before %}{{ show(table) }}{% endfor %}
{% for section in sections %}
<section id="part{{ loop.index }}">
<h2>{{ section.title }}</h2>
{% for table in section.tables %}{{ show(table) }}{% endfor %}
{% if section.figures %}
<h3>Figures</h3>
<div class="figures">
{% for figure in section.figures %}
<figure><figcaption>{{ figure.caption }}</figcaption>\
<img src="{{ figure.source }}" alt="{{ figure.caption }}; {{ figure.description }}"></figure>
{% endfor %}
</div>
{% endif %}
{% if section.commands %}
<h3>Commands</h3>
{% for row, command in section.commands %}
<p class="command">{{ row }}</p>
<pre>{{ command }}</pre>
{% endfor %}
{% endif %}
</section>
{% endfor %}
<section id="earlier">
{% for table in after %}{{ show(table) }}{% endfor %}
</section>
</body>
</html>
"""


def render_html(page: Page) -> str:
    """The report as one HTML page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE).render(vars(page)).lstrip()


def figure_paths(sections: list[Section]) -> dict[str, Figure]:
    """The file of every figure, as its path beside report.md: figures/<section>-<name>.png, each path once."""
    paths = {}
    for section in sections:
        for figure in section.figures:
            stem = re.sub(r"[^a-z0-9]+", "-", f"{section.title} {figure.name}".lower()).strip("-")[:80]
            path, number = f"figures/{stem}.png", 2
            while path in paths:
                path, number = f"figures/{stem}-{number}.png", number + 1
            paths[path] = figure
    return paths


def render_markdown(page: Page) -> str:
    """The report as Markdown: all tables first, then the figures, as links to `figure_paths`, then the commands."""
    lines = [f"# {_plain(page.title)}", ""]
    for note in page.notes:
        lines += [_plain(note), ""]
    if page.left_out:
        lines += ["Left out:", "", *(f"- {_plain(line)}" for line in page.left_out), ""]
    for table in page.before:
        lines += _markdown_table(table)
    for section in page.sections:
        lines += [f"## {_plain(section.title)}", ""]
        for table in section.tables:
            lines += _markdown_table(table)
    lines += ["## Earlier systems", ""] if page.after else []
    for table in page.after:
        lines += _markdown_table(table)
    lines += _markdown_figures(page.sections)
    lines += _markdown_commands(page.sections)
    return "\n".join(lines).rstrip() + "\n"


def _markdown_figures(sections: list[Section]) -> list[str]:
    paths = {id(figure): path for path, figure in figure_paths(sections).items()}
    lines = ["## Figures", ""] if paths else []
    for section in sections:
        if not section.figures:
            continue
        lines += [f"### Figures of {_plain(section.title)}", "", "| | |", "| --- | --- |"]
        for left, right in zip(section.figures[::2], [*section.figures[1::2], None], strict=False):
            pair = [figure for figure in (left, right) if figure is not None]
            captions = [_plain(figure.caption) for figure in pair]
            images = [f"![{_alt_text(figure)}]({paths[id(figure)]})" for figure in pair]
            for cells in (captions, images):
                lines.append("| " + " | ".join([*cells, ""][:2]) + " |")
        lines.append("")
    return lines


def _markdown_commands(sections: list[Section]) -> list[str]:
    lines = ["## Commands", ""] if any(section.commands for section in sections) else []
    for section in sections:
        lines += [f"### Commands of {_plain(section.title)}", ""] if section.commands else []
        for row, command in section.commands:
            lines += [f"{_plain(row)}:", "", *(f"    {line}" for line in command.splitlines()), ""]
    return lines


def _plain(text: str) -> str:
    """Text in which nothing is read as HTML or as the border of a table's cell."""
    return " ".join(html.escape(str(text), quote=False).replace("|", "\\|").split())


def escape_markdown(name: str) -> str:
    """A name of somebody else's choice, in which nothing is read as Markdown, as HTML or as the border of a cell."""
    return re.sub(r"[\\`*_{}\[\]()#+!|<>~$&]", r"\\\g<0>", " ".join(str(name).split()))


def _alt_text(figure: Figure) -> str:
    """Alternative text of an image, in which no bracket ends it."""
    return re.sub(r"[\[\]]", r"\\\g<0>", _plain(f"{figure.caption}; {figure.description}"))


def _markdown_table(table: Table) -> list[str]:
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    lines = [f"### {_plain(table.title)}", "", *("| " + " | ".join(map(_plain, row)) + " |" for row in rows), ""]
    return [*lines, _plain(table.note), ""] if table.note else lines
