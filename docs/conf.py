"""The documentation site: `make docs` builds it, with warnings as errors."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "extension"), str(Path(__file__).parents[1])]

from fedlaf.core.version import VERSION  # noqa: E402 (from this checkout)

project = "fedlaf"
author = "The fedlaf developers"
project_copyright = "2026, The fedlaf developers"
version = release = VERSION

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "fedlaf_docs.directives",
]
exclude_patterns = ["_build", "extension", "**.ipynb_checkpoints"]
nitpicky = False  # types of torch and numpy have no page here, and a build takes nothing from a network

# Markdown: links to headings by their slug, as code hosts have them.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# The notebook is run anew in each build; a cell that fails, fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell, on a machine that is much too busy
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"  # fonts of the system, light and dark; nothing is taken from a network
html_title = f"fedlaf {VERSION}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "static/favicon.svg"
html_show_sourcelink = False
html_copy_source = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
nb_execution_in_temp = True  # what a run writes does not stay
