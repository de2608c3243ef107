"""Tables and figures of a report as Markdown, and as one HTML page: no script, no network, every text from data escaped."""

import base64
import html
from dataclasses import dataclass, field

from jinja2 import Environment, StrictUndefined


@dataclass
class Table:
    """A heading, a header, rows of text (the first cell names the row), and a note on how to read them."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass
class Figure:
    """A PNG with its caption, and in words what it shows."""

    caption: str
    png: bytes
    said: str

    @property
    def source(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass
class Section:
    """One protocol or one second stage: its tables, its figures, and the command of every row as (row, command)."""

    title: str
    tables: list[Table]
    figures: list[Figure] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)


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
<img src="{{ figure.source }}" alt="{{ figure.caption }}; {{ figure.said }}"></figure>
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


def render_page(title: str, notes: list[str], left_out: list[str], before: list, sections: list, after: list) -> str:
    """
    The report as one HTML page.

    Args:
        notes: paragraphs that open it.
        left_out: what is not in the tables and why.
        before, after: tables that belong to no protocol.
        sections: one for each protocol and each second stage.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE).render(
        title=title, notes=notes, left_out=left_out, before=before, sections=sections, after=after
    )
    return page.lstrip()


def render_markdown(title: str, notes: list[str], left_out: list[str], before: list, sections: list, after: list) -> str:
    """The same as Markdown; of the figures only what they say in words."""
    lines = [f"# {_plain(title)}", ""]
    for note in notes:
        lines += [_plain(note), ""]
    if left_out:
        lines += ["Left out:", "", *(f"- {_plain(line)}" for line in left_out), ""]
    for table in before:
        lines += _markdown_table(table)
    for section in sections:
        lines += [f"## {_plain(section.title)}", ""]
        for table in section.tables:
            lines += _markdown_table(table)
        if section.figures:
            lines += ["### Figures, drawn in report.html", ""]
            lines += [*(f"- {_plain(figure.caption)}; {_plain(figure.said)}" for figure in section.figures), ""]
        lines += ["### Commands", ""] if section.commands else []
        for row, command in section.commands:
            lines += [f"{_plain(row)}:", "", *(f"    {line}" for line in command.splitlines()), ""]
    for table in after:
        lines += _markdown_table(table)
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    """Text that is neither HTML nor a cell's border."""
    return " ".join(html.escape(str(text), quote=False).replace("|", "\\|").split())


def _markdown_table(table: Table) -> list[str]:
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    lines = [f"### {_plain(table.title)}", "", *("| " + " | ".join(map(_plain, row)) + " |" for row in rows), ""]
    return [*lines, _plain(table.note), ""] if table.note else lines
