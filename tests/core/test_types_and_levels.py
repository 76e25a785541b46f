"""Windows, noise that belongs to a row, layouts, and one scale of noise levels."""

from __future__ import annotations

import math

import pytest
import torch

from videopolicy import FeatureLayout, RowGenerator, Window, normal_noise, stack_views, to_bytes
from videopolicy.parts import levels


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"observed": ()}, "must ascend and end with 0"),
        ({"observed": (-1,)}, "must ascend and end with 0"),
        ({"observed": (-1, -2, 0)}, "must ascend and end with 0"),
        ({"observed": (-1, -1, 0)}, "must ascend and end with 0"),
        ({"observed": (0, 1)}, "must ascend and end with 0"),
        ({"future": (0, 1)}, "must ascend and be positive"),
        ({"future": (2, 1)}, "must ascend and be positive"),
        ({"future": (1, 1)}, "must ascend and be positive"),
    ],
)
def test_windows_that_make_no_sense_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Window(**options)
    assert Window((-4, -2, 0), (3, 6), 2).horizon == 2


def test_a_row_draws_the_same_whatever_shares_its_batch() -> None:
    like = torch.zeros(())
    alone = RowGenerator.from_seeds([7])
    crowd = RowGenerator.from_seeds([1, 7, 3])
    for shape in ((2, 3), (5,)):
        assert torch.equal(normal_noise((1, *shape), like, alone)[0], normal_noise((3, *shape), like, crowd)[1])
    torch.manual_seed(0)
    first = normal_noise((2, 3), like)
    torch.manual_seed(0)
    RowGenerator.from_seeds([5]).randn((3,), like)  # leaves the global generator alone
    assert torch.equal(normal_noise((2, 3), like), first)
    with pytest.raises(ValueError, match="3 generators for 2 rows"):
        normal_noise((2, 4), like, crowd)


def test_repeated_rows_draw_one_after_the_other() -> None:
    like = torch.zeros(())
    folded = RowGenerator.from_seeds([1, 2]).repeat(2).randn((3,), like)
    row = torch.randn(6, generator=torch.Generator().manual_seed(2))
    assert torch.equal(folded[2:], torch.stack([row[:3], row[3:]]))


def test_noise_has_device_and_type_of_its_pattern() -> None:
    noise = normal_noise((4, 1000), torch.zeros((), dtype=torch.float64), RowGenerator.from_seeds([0, 1, 2, 3]))
    assert noise.dtype == torch.float64
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
    assert len({float(row.sum()) for row in noise}) == 4


def test_layouts_count_and_describe_their_tokens() -> None:
    layout = FeatureLayout(384, (("frames", 2), ("height", 3), ("width", 5)))
    assert layout.tokens == 30
    assert layout.has("height", "width") and not layout.has("views")
    assert str(layout) == "2 frames x 3 height x 5 width of width 384"
    assert FeatureLayout(8).tokens == 1 and str(FeatureLayout(8)) == "one vector of width 8"


def test_parametrisations_agree_on_the_level() -> None:
    signal = torch.tensor([0.999, 0.5, 0.1])  # x = sqrt(a) x0 + sqrt(1 - a) n
    level = levels.from_alphas_cumprod(signal)
    assert torch.allclose(level, (1 - signal).sqrt() / signal.sqrt())
    time = torch.tensor([0.0, 0.5, 0.9])  # x = (1 - t) x0 + t n
    assert torch.allclose(levels.from_flow_time(time), torch.tensor([0.0, 1.0, 9.0]))


@pytest.mark.parametrize("schedule", [levels.exponential, levels.karras])
def test_schedules_fall_from_high_to_low_to_nothing(schedule) -> None:
    falling = schedule(6, 0.01, 80.0)
    assert len(falling) == 7
    assert falling[0] == pytest.approx(80.0) and falling[5] == pytest.approx(0.01) and falling[6] == 0
    assert (falling[1:] < falling[:-1]).all()


def test_schedules_have_the_published_spacing() -> None:
    ratios = levels.exponential(5, 0.1, 10.0)[:5].log().diff()
    assert torch.allclose(ratios, torch.full((4,), -math.log(100) / 4))
    roots = levels.karras(5, 0.002, 80.0)[:5].double() ** (1 / 7)
    assert torch.allclose(roots.diff(), roots.diff()[:1].expand(4), atol=1e-5)


def test_views_are_stacked_scaled_and_brought_back() -> None:
    images = {
        "front": torch.full((2, 3, 3, 8, 8), 255, dtype=torch.uint8),
        "wrist": torch.zeros((2, 3, 3, 4, 4), dtype=torch.uint8),
    }
    views = stack_views(images, (4, 4))
    assert views.shape == (2, 2, 3, 3, 4, 4)
    assert (views[:, 0] == 1).all() and (views[:, 1] == -1).all()
    picture = torch.randint(0, 256, (1, 1, 3, 5, 5), dtype=torch.uint8)
    assert torch.equal(to_bytes(stack_views({"front": picture}, (5, 5)))[:, 0], picture)
