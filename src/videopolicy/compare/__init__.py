"""Compares runs on one benchmark: fair tables, tests, published numbers beside them; `page` is the same as HTML.

May import `report`, `quality` and below; `ablate` gets comparisons and their formats from it.
"""

from typing import Literal

Format = Literal["table", "markdown", "latex", "csv", "json", "html"]
"""How tables are written, here and by whoever else has some."""
