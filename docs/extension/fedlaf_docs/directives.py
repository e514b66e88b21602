"""Directives of the site: keys of the configuration, and drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fedlaf.experiment import config
from fedlaf_docs import keys, pages

SCHEMAS = {
    "job": lambda: pages.schema_page(config.Config, "config.yaml"),
    "compare": lambda: pages.schema_page(config.CompareConfig, "compare.yaml"),
    "shared": pages.shared_page,
}


class Keys(SphinxDirective):
    """`{keys} job` has the keys of a schema, `{keys} group forget` the options of a group and their keys."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Markdown, parsed where it stands. Raises what the directive's argument has no page for."""
        self.env.note_dependency(str(keys.ROOT / "docs" / "keys.toml"))
        self.env.note_reread()
        name = self.arguments[0]
        text = pages.group_page(self.arguments[1]) if name == "group" else SCHEMAS[name]()
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Drawing(SphinxDirective):
    """An SVG of `docs/drawings`, in the page itself: so it has the page's colours, in light and in dark."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"label": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """A region that scrolls on its own where the page is narrow."""
        svg = (Path(__file__).parents[2] / "drawings" / f"{self.arguments[0]}.svg").read_text()
        opening = f'<div class="drawing" role="region" tabindex="0" aria-label="{self.options["label"]}">'
        return [nodes.raw("", f"{opening}{svg}</div>", format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("keys", Keys)
    app.add_directive("drawing", Drawing)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
