"""Official weights of a small size in our modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recordings import recorded
from torch import Tensor, nn

from videopolicy import EncodedText, RowGenerator, TextEncoder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for every recorded case of UVA, and for every number of VPP's and UVA's steps."""
    asked = {
        "uva_case": lambda: list(recorded("uva")["meta"]["cases"]),
        "uva_steps": lambda: [int(name) for name in recorded("uva")["outputs"]["diffusion"] if name.isdigit()],
        "vpp_steps": lambda: [
            int(name.removeprefix("sched_")) for name in recorded("vpp")["outputs"] if name.startswith("sched_")
        ],
        "vpp_sampler": lambda: list(recorded("vpp")["meta"]["samplers"]),
    }
    for name in asked.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(name, asked[name]())


@pytest.fixture(scope="session")
def vpp_oracle() -> dict[str, Any]:
    """Recorded inputs, weights and outputs of the official Video Prediction Policy code."""
    return recorded("vpp")


@pytest.fixture(scope="session")
def video_policy_oracle() -> dict[str, Any]:
    """Recorded inputs, weights and outputs of the official Video Policy code."""
    return recorded("video_policy")


@pytest.fixture(scope="session")
def uva_oracle() -> dict[str, Any]:
    """Recorded inputs, weights and outputs of the official Unified Video Action model."""
    return recorded("uva")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """The recordings were made with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class RecordedNoise(RowGenerator):
    """Gives recorded draws in their order."""

    def __init__(self, *draws: Tensor) -> None:
        super().__init__([torch.Generator() for _ in range(len(draws[0]))])
        self.draws = list(draws)

    def randn(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        draw = self.draws.pop(0).to(like)
        assert draw.shape[1:] == shape
        return draw


class RecordedTokens(TextEncoder):
    """A CLIP text model behind recorded token ids instead of a tokenizer.

    Args:
        model: transformers' ``CLIPTextModelWithProjection``.
        sentences: What the ids are of.
        ids: ``(B, L)``.
        mask: ``(B, L)``.
    """

    def __init__(self, model: nn.Module, sentences: list[str], ids: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.model, self.rows = model, {text: row for row, text in enumerate(sentences)}
        self.ids, self.mask = ids, mask

    @torch.no_grad()
    def forward(self, sentences: list[str]) -> EncodedText:
        rows = [self.rows[sentence] for sentence in sentences]
        output = self.model(input_ids=self.ids[rows], attention_mask=self.mask[rows])
        return EncodedText(output.last_hidden_state, output.text_embeds)


@pytest.fixture(scope="session")
def recorded_noise() -> type[RecordedNoise]:
    return RecordedNoise


@pytest.fixture(scope="session")
def clip_tokens(vpp_oracle: dict[str, Any]) -> RecordedTokens:
    """The official token encoder: hub CLIP, 20 tokens, padding masked."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    meta, inputs = vpp_oracle["meta"]["text_encoder"], vpp_oracle["inputs"]
    model = CLIPTextModelWithProjection(
        CLIPTextConfig(**{key: value for key, value in meta.items() if key != "n_merges"})
    ).eval()
    model.load_state_dict(floats(vpp_oracle["state"]["text_encoder"]))
    ids = inputs["token_ids"]
    ended = (ids == meta["eos_token_id"]).long().cumsum(dim=1)
    mask = (ended - (ids == meta["eos_token_id"]).long() == 0).long()
    return RecordedTokens(model, inputs["texts"], ids, mask)


@pytest.fixture(scope="session")
def clip_goal(vpp_oracle: dict[str, Any]) -> RecordedTokens:
    """The official goal encoder, OpenAI's CLIP, under transformers' names."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    meta, inputs = vpp_oracle["meta"]["goal_text_encoder"], vpp_oracle["inputs"]
    width = meta["transformer_width"]
    model = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=meta["vocab_size"],
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=meta["embed_dim"],
            num_hidden_layers=meta["transformer_layers"],
            num_attention_heads=meta["transformer_heads"],
            max_position_embeddings=meta["context_length"],
            eos_token_id=meta["vocab_size"] - 1,
        )
    ).eval()
    state = {
        key.removeprefix("clip_rn50."): value for key, value in floats(vpp_oracle["state"]["language_goal"]).items()
    }
    model.load_state_dict(_transformers_names(state, meta["transformer_layers"]))
    ids = inputs["goal_token_ids"]
    return RecordedTokens(model, inputs["texts"], ids, torch.ones_like(ids))


def _transformers_names(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    named = {
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.final_layer_norm.weight": state["ln_final.weight"],
        "text_model.final_layer_norm.bias": state["ln_final.bias"],
        "text_projection.weight": state["text_projection"].T.contiguous(),
    }
    twins = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for layer in range(layers):
        theirs, ours = f"transformer.resblocks.{layer}", f"text_model.encoder.layers.{layer}"
        for part in ("weight", "bias"):
            for their_name, our_name in twins.items():
                named[f"{ours}.{our_name}.{part}"] = state[f"{theirs}.{their_name}.{part}"]
            split = state[f"{theirs}.attn.in_proj_{part}"].chunk(3)
            for name, value in zip(("q_proj", "k_proj", "v_proj"), split, strict=True):
                named[f"{ours}.self_attn.{name}.{part}"] = value
    return named


def floats(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies in single precision."""
    return {key: value.float() if value.is_floating_point() else value.clone() for key, value in state.items()}
