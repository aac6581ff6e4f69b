"""Views drawn as HTML: one document with everything in it but the video.

The document needs no network and runs no script, and its own policy forbids both, whatever text a report carries.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from typing import Any

import jinja2

from omnirt_cli import __version__
from omnirt_cli.picture.chunks import WORDS, Part
from omnirt_cli.picture.comparison_view import ComparisonView
from omnirt_cli.picture.run_view import RunView
from omnirt_cli.picture.words import number, printable, span


def run_document(view: RunView) -> str:
    """One run as an HTML document."""
    return _template("run.html.j2").render(view=view)


def comparison_document(view: ComparisonView) -> str:
    """Two runs side by side as an HTML document."""
    return _template("comparison.html.j2").render(view=view)


@functools.cache
def style_source() -> str:
    """The documents' one style element as a Content-Security-Policy names it.

    For a server that sends a document, or shows one in a frame: a frame inherits the policy of the page around it.
    """
    empty = _template("page.html.j2").render(view={"title": ""})
    style = empty.partition("<style>")[2].partition("</style>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


def _template(name: str) -> jinja2.Template:
    return _templates().get_template(name)


@functools.cache
def _templates() -> jinja2.Environment:
    """The templates: everything that they print is escaped, made printable and cut to a bounded length."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("omnirt_cli.picture"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(span=span, number=number)
    found.globals.update(part_words=WORDS, Part=Part, version=__version__)
    return found


def _shown(value: Any) -> Any:
    """Text as a page can carry it; what a template made itself stays as it is."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return printable(value)
    return value
