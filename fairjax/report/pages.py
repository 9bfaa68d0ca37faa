"""Templates: what every page and Markdown file of the report is rendered with."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from fairjax import __version__
from fairjax.report import words
from fairjax.report.tables import row_id

_HERE = Path(__file__).parent


def write_pages(folder: Path, context: dict[str, Any], names: dict[str, str]) -> None:
    """Renders templates of this package into a folder, each file whole or not at all.

    Args:
      folder: made if missing.
      context: what the templates name, beside `css` and `version`.
      names: template -> file.
    """
    room = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    room.filters["markdown"] = markdown
    room.filters["whole"] = whole
    room.filters["linked"] = linked
    own = {"css": (_HERE / "page.css").read_text("utf-8"), "version": __version__}
    folder.mkdir(parents=True, exist_ok=True)
    for template, name in names.items():
        draft = folder / f"{name}.draft"
        draft.write_text(room.get_template(template).render(own | context), "utf-8")
        os.replace(draft, folder / name)


def markdown(text: object) -> str:
    """Text of the user's files as one line of Markdown that holds no markup of its own."""
    line = " ".join(str(text).split())
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "'")):
        line = line.replace(mark, instead)
    return line


def linked(text: str, rows: Collection[str]) -> markupsafe.Markup:
    """A sentence, escaped and `whole`, whose numbers lead to their rows among all figures.

    Args:
      rows: names of the figures that have a row; the number of another stays a number.
    """

    def link(escaped: str, number: str) -> str:
        name = markupsafe.Markup(escaped).unescape()
        there = markupsafe.escape(row_id(name))
        return f'<a href="#{there}">{number}</a>' if name in rows else number

    return markupsafe.Markup(whole(words.linked(str(markupsafe.escape(text)), link)))


def whole(text: str) -> str:
    """The same text, in which no line breaks within `86 % [84, 88]`."""
    return re.sub(r" (?=[\[%])|(?<=,) (?=-?[\d.]+\])", "\u00a0", text)
