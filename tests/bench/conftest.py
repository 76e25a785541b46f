"""Recipes of toy size for measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from videopolicy.testing import toy_benchmark, toys

HEAD = f"""\
plugins: [{toys.__file__}, {toy_benchmark.__file__}]
benchmark: {{type: toy, task_names: [red, blue]}}
data: {{type: robomimic-hdf5, episodes_per_task: 3}}
"""
MODULAR = """\
policy: {type: modular, extractor: {type: toy}, decoder: {type: toy}}
train: [{name: policy, steps: 8, batch_size: 4}]
"""
WHOLE = """\
policy: {type: toy, horizon: 5}
train: [{name: policy, steps: 8, batch_size: 4, gradient_clip: 1.0, precision: bf16-mixed}]
"""
# Small, but with everything that is usually pretrained: it names weights that are nowhere.
PRETRAINED = """\
policy:
  type: modular
  extractor:
    type: one-step
    backbone:
      type: svd
      weights: nobody/has-this
      image_size: [16, 16]
      frames: 2
      latent: {type: vae, channels: [32, 32], layers: 1}
      text: {type: clip-text, weights: nobody/has-that, width: 64, pooled_width: 64, max_length: 6}
      double_text: false
      unet: {channels: [32], heads: [2], attention: [true], layers: 1, time_ids_width: 8}
    taps: [up0]
    former: {type: video-former, dim: 32, depth: 1, heads: 2, dim_head: 16, latents_per_frame: 2}
  decoder:
    type: dit-diffusion
    horizon: 4
    text: {type: word-text, width: 16}
    width: 32
    encoder_layers: 1
    decoder_layers: 1
    heads: 2
    sampling_levels: {steps: 2}
train:
  - {name: video, target: policy.extractor.backbone, steps: 2, batch_size: 2}
  - {name: policy, steps: 2, batch_size: 4, cache_features: true}
"""


@pytest.fixture
def recipe_file(tmp_path):
    """Writes one of the recipes of this module."""

    def write(policy: str) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(HEAD + policy, encoding="utf-8")
        return path

    return write


@pytest.fixture
def modular(recipe_file) -> Path:
    return recipe_file(MODULAR)


@pytest.fixture
def whole(recipe_file) -> Path:
    return recipe_file(WHOLE)


@pytest.fixture
def pretrained(recipe_file) -> Path:
    return recipe_file(PRETRAINED)


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to leave this machine is recorded and fails."""
    attempts = []

    def refuse(self, address, *rest):
        attempts.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", lambda *address, **_: refuse(None, address))
    return attempts
