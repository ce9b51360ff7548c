"""Sphinx: ``make docs`` builds the site into build/docs, without network; warnings are errors."""

from __future__ import annotations

from surefoot.version import VERSION

project, author, version, release = "surefoot", "the surefoot developers", VERSION, VERSION
copyright = "the surefoot developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme, html_title = "furo", f"surefoot {VERSION}"
html_theme_options = {"navigation_with_keys": True}
exclude_patterns = ["conf.py"]
myst_heading_anchors = 4
# Pages are read in the repository as well, where they link to files beside docs/: those links are made good below.
suppress_warnings = ["myst.xref_missing"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("FloatArray", "IntArray", "IndexArray", "ArrayLike")}
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
