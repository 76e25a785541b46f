from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("encoder_files", Path(__file__).with_name("encoder_files.py"))
files = sys.modules["encoder_files"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)


@pytest.fixture(scope="session")
def distilbert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DistilBERT in the hub's layout."""
    return files.distilbert(tmp_path_factory.mktemp("distilbert"))
