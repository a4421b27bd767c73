"""How the site is built: ``make docs``. Nothing is fetched while it is."""

from __future__ import annotations

from whence import __version__

project = "whence"
author = "The whence authors"
copyright = "The whence authors, Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click",
              "sphinx_copybutton", "sphinx_design"]  # fmt: skip
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 3
highlight_language = "none"
smartquotes = False  # --option stays what is typed
copybutton_prompt_text = r"\$ |>>> "  # only what follows a prompt is copied
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_mock_imports = ["transformers", "peft", "lightning", "cleanlab"]  # pages about them are built without them
napoleon_use_ivar = True  # several attributes share a line of their docstring
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "whence"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False  # nor a link to it
