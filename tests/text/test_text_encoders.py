"""Reading instructions: the small encoder without downloads, and CLIP from local files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from videopolicy.components.text import ClipText, WordText
from videopolicy.components.text_encoders import word_buckets
from videopolicy.errors import WeightsError
from videopolicy.testing import TextContract


class TestWordText(TextContract):
    @pytest.fixture
    def component(self) -> WordText:
        return WordText(width=16, words=6, buckets=64)


class TestWordTextWithoutLayers(TextContract):
    @pytest.fixture
    def component(self) -> WordText:
        return WordText(width=16, words=6, buckets=64, layers=0)


class TestClipText(TextContract):
    @pytest.fixture
    def component(self, clip_folder: Path) -> ClipText:
        return ClipText(weights=str(clip_folder), max_length=8, width=32, pooled_width=16)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP checkpoint in the files that the hub's checkpoints have, image tower included."""
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    folder = tmp_path_factory.mktemp("clip")
    characters = [*map(chr, range(ord("!"), ord("~") + 1))]
    tokens = [*characters, *(f"{c}</w>" for c in characters), "op</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\no p</w>\n")
    end = len(tokens) - 1
    text = {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    torch.manual_seed(0)
    CLIPTextModelWithProjection(CLIPTextConfig(**text, projection_dim=16)).save_pretrained(folder)
    whole = load_file(folder / "model.safetensors") | {
        "logit_scale": torch.ones(()),
        "vision_model.post_layernorm.weight": torch.ones(16),
        "visual_projection.weight": torch.ones(16, 16),
    }
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def clip(folder: Path, **options: object) -> torch.nn.Module:
    return ClipText(weights=str(folder), width=32, pooled_width=16, **options).build()


def test_words_that_were_never_seen_change_the_encoding() -> None:
    encoder = WordText().build()
    known, new = encoder(["open the drawer", "unlatch the wombat"]).pooled
    assert torch.isfinite(new).all()
    assert (known - new).abs().max() > 0.1


def test_case_and_punctuation_do_not_matter_and_word_order_does() -> None:
    encoder = WordText().build()
    plain, shouted, turned = encoder(["open the drawer", "Open the DRAWER!", "drawer the open"]).pooled
    torch.testing.assert_close(plain, shouted)
    assert (plain - turned).abs().max() > 1e-3


def test_words_of_one_stem_share_buckets_and_the_hash_is_stable() -> None:
    drawer, drawers, button = (set(word_buckets(word, 4096, 3, 5)) for word in ("drawer", "drawers", "button"))
    assert len(drawer & drawers) >= 8
    assert len(drawer & button) <= 1
    assert word_buckets("open", 4096, 3, 3) == (1085, 947, 2351, 768, 2908)


def test_the_word_encoder_learns_to_tell_sentences_apart() -> None:
    torch.manual_seed(0)
    encoder = WordText(width=32, words=8).build()
    sentences = ["open the drawer", "close the drawer", "open the window", "close the window"]
    head = torch.nn.Linear(32, 4)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(encoder(sentences).pooled), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    rewordings = ["please open the drawer", "now close that window"]
    assert head(encoder(rewordings).pooled).argmax(dim=1).tolist() == [0, 3]


def test_clip_tokens_and_vector_are_those_of_transformers(clip_folder: Path) -> None:
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    encoded = clip(clip_folder, max_length=12)(["op op op"])
    ids = CLIPTokenizer.from_pretrained(clip_folder)(
        ["op op op"], padding="max_length", max_length=12, return_tensors="pt"
    )
    model = CLIPTextModelWithProjection.from_pretrained(clip_folder).eval()
    with torch.no_grad():
        expected = model(**ids)
    torch.testing.assert_close(encoded.tokens, expected.last_hidden_state)
    torch.testing.assert_close(encoded.pooled, expected.text_embeds)
    assert encoded.pooled.norm() != pytest.approx(1, abs=0.01)


def test_loading_clip_says_nothing(clip_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clip(clip_folder)
    assert capfd.readouterr() == ("", "")


def test_padding_never_reaches_the_clip_vector(clip_folder: Path) -> None:
    short, long = (clip(clip_folder, max_length=length)(["op"]).pooled for length in (8, 77))
    torch.testing.assert_close(short, long)


def test_clip_stays_frozen_and_what_it_remembers_can_be_trained_on(clip_folder: Path) -> None:
    encoder = clip(clip_folder, max_length=8).train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    with torch.inference_mode():
        encoder(["op"])
    weight = torch.ones(16, requires_grad=True)
    (encoder(["op"]).pooled * weight).sum().backward()
    torch.testing.assert_close(weight.grad, encoder(["op"]).pooled[0])


def test_clip_forgets_what_it_remembered_when_weights_are_loaded(clip_folder: Path) -> None:
    holder = torch.nn.ModuleList([clip(clip_folder, max_length=8)])
    before = holder[0](["op"]).pooled
    holder.load_state_dict({name: value * 2 for name, value in holder.state_dict().items()})
    assert (holder[0](["op"]).pooled - before).abs().max() > 1e-3


def test_clip_of_another_width_is_refused(clip_folder: Path) -> None:
    with pytest.raises(WeightsError, match="has width 32 and pooled width 16; the recipe says 512 and 512") as caught:
        ClipText(weights=str(clip_folder)).build()
    assert "width: 32" in caught.value.hint


def test_a_folder_without_tokenizer_or_with_damaged_weights_is_explained(clip_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((clip_folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((clip_folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(WeightsError, match="CLIP's text encoder cannot be loaded") as caught:
        clip(tmp_path)
    assert str(tmp_path) in caught.value.message and "cut short" in caught.value.hint


def test_missing_weights_are_listed(clip_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((clip_folder / name).read_bytes())
    state = load_file(clip_folder / "model.safetensors")
    del state["text_model.final_layer_norm.weight"]
    state["text_model.surplus"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"1 keys are missing \(text_model.final_layer_norm.weight\)") as caught:
        clip(tmp_path)
    assert "text_model.surplus" in caught.value.message


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist") as caught:
        clip(tmp_path / "nowhere")
    assert "vocab.json" in caught.value.hint


def test_an_unreachable_hub_says_what_to_download_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"the hub cannot give it \(Name or service not known\)") as caught:
        ClipText(weights="nobody/no-such-clip").build()
    assert "hf download nobody/no-such-clip --local-dir FOLDER" in caught.value.hint
    assert "weights: FOLDER" in caught.value.hint


def test_the_paper_size_is_built_without_weights_on_the_meta_device() -> None:
    with torch.device("meta"):
        encoder = ClipText().build()
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 63_428_096
