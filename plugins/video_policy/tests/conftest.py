"""A small video model whose views are one clip, and which embeds its level."""

import pytest
from pydantic import TypeAdapter

from videopolicy import AnyBackbone, BackboneComponent


@pytest.fixture(scope="session")
def views_in_one_clip() -> BackboneComponent:
    """Two levels: taps of 4 x 4 and 2 x 2."""
    return TypeAdapter(AnyBackbone).validate_python(
        {
            "type": "svd",
            "image_size": (16, 16),
            "frames": 3,
            "views": "concatenated",
            "pad_frame": True,
            "latent": {"type": "space-to-depth", "patch": 4},
            "text": {"type": "word-text", "width": 16, "buckets": 64},
            "text_tokens": "pooled",
            "double_text": False,
            "unet": {
                "channels": (32, 32),
                "heads": (2, 2),
                "attention": (False, True),
                "layers": 1,
                "time_ids_width": 8,
                "norm_epsilon": "sgm",
            },
        }
    )
