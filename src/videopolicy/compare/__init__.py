"""Compares runs on one benchmark: fair tables, tests, published numbers beside them."""

from typing import Literal

Format = Literal["table", "markdown", "latex", "csv", "json", "html"]
"""How tables are written, here and by whoever else has some."""
