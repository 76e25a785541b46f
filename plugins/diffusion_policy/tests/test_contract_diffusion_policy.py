"""Extractor and decoders keep what every extractor and decoder promises."""

import pytest
from vpolicy_diffusion_policy.components import Image, TransformerDiffusion, UNetDiffusion
from vpolicy_diffusion_policy.options import Average, ClassToken, ColorJitter, Diffusion, Grid, ResNet, Timm

from videopolicy.components.text import WordText
from videopolicy.testing import DecoderContract, ExtractorContract

SMALL = ResNet(layers=(1, 1), channels=(16, 32), strides=(1, 2))
TEXT = WordText(width=16, buckets=64)
FAST = {"training_steps": 10, "sampling_steps": 10}
UNET = {"horizon": 4, "down_dims": (8, 16), "groups": 4, "step_dim": 8}
TRANSFORMER = {"horizon": 3, "width": 16, "layers": 2, "heads": 2}


class TestKeypoints(ExtractorContract):
    @pytest.fixture
    def component(self):
        return Image(encoder=SMALL, crop=(28, 24))


class TestGridOfEveryCamera(ExtractorContract):
    @pytest.fixture
    def component(self):
        jitter = ColorJitter()
        return Image(
            encoder=SMALL,
            pool=Grid(dim=8),
            text=TEXT,
            views="apart",
            observed=(0,),
            color_jitter=jitter,
            resize=(24, 16),
        )


class TestVisionTransformer(ExtractorContract):
    @pytest.fixture
    def component(self):
        vit = Timm(model="test_vit", dim=64)
        return Image(
            encoder=vit, pool=ClassToken(), scaling="imagenet", proprioception=False, crop=(30, 30), restore=True
        )


class TestConvolutionalNetworkOfTimm(ExtractorContract):
    @pytest.fixture
    def component(self):
        return Image(encoder=Timm(model="test_resnet", dim=96, stride=32, group_norm=True), pool=Average())


class TestUNetDiffusion(DecoderContract):
    @pytest.fixture
    def component(self):
        return UNetDiffusion(**UNET, diffusion=Diffusion(**FAST))


class TestUNetDiffusionWithWords(DecoderContract):
    @pytest.fixture
    def component(self):
        options = Diffusion(
            training_steps=10,
            sampling_steps=4,
            sampler="ddim",
            predict="sample",
            clip=None,
            noise_samples=2,
            input_perturbation=0.1,
        )
        return UNetDiffusion(**UNET, text=TEXT, scale=False, diffusion=options)


class TestTransformerDiffusion(DecoderContract):
    @pytest.fixture
    def component(self):
        return TransformerDiffusion(**TRANSFORMER, diffusion=Diffusion(**FAST))


class TestTransformerDiffusionWithWords(DecoderContract):
    @pytest.fixture
    def component(self):
        options = Diffusion(**FAST, sampler="ddim")
        return TransformerDiffusion(
            **TRANSFORMER,
            text=TEXT,
            condition_layers=1,
            causal=False,
            causal_cross_attention=True,
            initial_deviation=None,
            diffusion=options,
        )
