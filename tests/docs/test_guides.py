"""The guides quote files that keep the contracts of their kinds; what else pages show runs, exists or leads on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from pages import FENCES, QUOTE, named_command, options
from PIL import Image
from safetensors.torch import save_file
from vpolicy_pusht.components import PushT

from videopolicy import (
    ActionSpace,
    Batch,
    Branch,
    Checkpoint,
    DataError,
    FeatureLayout,
    RowGenerator,
    StaticStream,
    WeightsError,
    Window,
)
from videopolicy.components.plugins import file_plugin
from videopolicy.recipes.recipe import load_recipe
from videopolicy.scaffold.writing import KINDS
from videopolicy.simulators.environments import interpreter, is_ready
from videopolicy.simulators.workers import WorkerPool
from videopolicy.testing import (
    BackboneContract,
    BenchmarkContract,
    DatasetContract,
    DecoderContract,
    ExtractorContract,
    ImporterContract,
    PolicyContract,
    toy_observation,
    toy_spaces,
)
from videopolicy.testing.toys import ToyPolicy

ROOT = Path(__file__).resolve().parents[2]
DOCS, EXAMPLES = ROOT / "docs", ROOT / "docs" / "examples"
PAGES = sorted(
    [
        *(page for folder in ("guides", "methods", "coming-from") for page in (DOCS / folder).glob("*.md")),
        *(DOCS / name for name in ("plugins.md", "protocols.md", "troubleshooting.md")),
    ]
)
COMMAND = r"^(?:\w+=\S+ )*vpolicy (.*?)(?: {2,}#.*)?$"
RECIPES = sorted([*EXAMPLES.glob("*.yaml"), *EXAMPLES.glob("*/recipe.yaml")])


def component(name: str):
    """The class that an example's file defines."""
    (cls,) = file_plugin(EXAMPLES / name).components
    return cls


CausalVideo, FrozenTimm = component("causal_video.py"), component("frozen_timm.py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_shows_what_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, quoted in QUOTE.findall(text):
        assert quoted == (page.parent / name).read_text(encoding="utf-8"), f"{page} differs from {name}"
    names: dict[str, object] = {}
    for language, block in FENCES.findall(QUOTE.sub("", text)):
        if language == "python":
            exec(compile(block, str(page), "exec"), names)  # what follows may use what came before
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page.name} leads to {link}"
    for recipe in re.findall(r"recipes/[\w/]+\.yaml", text):
        assert (ROOT / recipe).is_file(), f"{page.name} names {recipe}"


def test_there_is_a_guide_to_every_kind_that_can_be_begun() -> None:
    """A new package's README names it."""
    assert {page.stem for page in PAGES if page.parent.name == "guides"} == {"index", *KINDS}


def test_every_example_is_quoted() -> None:
    """Whole, on some page; of a package its two files that are written by hand."""
    pages = {page: QUOTE.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    quoted = {(page.parent / name).resolve() for page, quotes in pages.items() for name, _ in quotes}
    package = EXAMPLES / "vpolicy-my-decoder"
    assert quoted == {
        *(path for path in EXAMPLES.rglob("*") if path.is_file() and not path.is_relative_to(package)),
        *(package / name for name in ("pyproject.toml", "src/vpolicy_my_decoder/__init__.py")),
    } - {path for path in quoted | set(EXAMPLES.rglob("*")) if "__pycache__" in path.parts}


def test_commands_on_the_pages_exist() -> None:
    shown = 0
    for page in PAGES:
        for language, block in FENCES.findall(page.read_text(encoding="utf-8")):
            for line in re.findall(COMMAND, block if not language else "", re.MULTILINE):
                named = line.split()
                command, words = named_command(named)
                assert len(words) < len(named), f"{page.name}: vpolicy {line}"
                known = options(command) | {"--help"}
                wrong = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
                assert not wrong, f"{page.name}: vpolicy {line} has no {wrong}"
                shown += 1
    assert shown > 40


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: str(recipe.relative_to(EXAMPLES)))
def test_recipes_of_the_examples_are_valid(recipe: Path) -> None:
    load_recipe(recipe)


class TestFlow(DecoderContract):
    @pytest.fixture
    def component(self):
        return component("flow_decoder.py")(horizon=4, width=16, steps=3)


def test_flow_goes_from_noise_to_the_actions() -> None:
    """Where the velocity is exact, three steps end at the actions."""
    spaces, layout = toy_spaces(), FeatureLayout(4)
    decoder = component("flow_decoder.py")(horizon=2, width=8, steps=3).build(layout, spaces)
    actions = torch.full((3, 2, 4), 0.5)
    decoder.velocity = lambda chunk, time, branches: (chunk - actions) / time[:, None, None]
    stream = StaticStream(toy_observation(spaces, Window(), batch_size=3), layout, [Branch(1.0, torch.zeros(3, 1, 4))])
    found = decoder.sample(stream, RowGenerator.from_seeds([0, 1, 2]))
    assert torch.allclose(found, actions, atol=1e-5)


class TestFrozenTimm(ExtractorContract):
    @pytest.fixture
    def component(self):
        return FrozenTimm(model="test_resnet", image_size=32, width=8)


def test_a_local_folder_gives_the_frozen_network_its_weights(tmp_path: Path) -> None:
    published = timm.create_model("test_resnet")  # with its classifier, as they are published
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    extractor = FrozenTimm(model="test_resnet", weights=str(tmp_path), image_size=32).build(toy_spaces())
    for name, value in extractor.net.state_dict().items():
        assert torch.equal(value, published.state_dict()[name])


class TestCausalVideo(BackboneContract):
    @pytest.fixture
    def component(self):
        return CausalVideo(image_size=8, frames=3, width=8)


def test_causal_convolutions_do_not_see_later_frames() -> None:
    model = CausalVideo(image_size=8, frames=4, width=8).build(toy_spaces(size=8))
    observation = toy_observation(toy_spaces(size=8), model.window)
    one = torch.randn(2, *model.latent_shape)
    other = one.clone()
    other[:, :, 2:] += 1  # the last two of four frames
    with torch.no_grad():
        maps = [
            model.denoise(noisy, torch.ones(2), model.condition(observation), ["late"]).taps["late"]
            for noisy in (one, other)
        ]
    assert torch.equal(maps[0][:, :, :2], maps[1][:, :, :2]) and not torch.equal(maps[0][:, :, 2], maps[1][:, :, 2])


class TestCausalWeights(ImporterContract):
    @pytest.fixture
    def component(self):
        return component("causal_weights.py")()

    @pytest.fixture
    def checkpoint(self) -> Checkpoint:
        ours = CausalVideo(width=8).build(toy_spaces()).state_dict()
        names = {"first": "net.0", "second": "net.2", "last": "head"}
        state = {f"{names[name.partition('.')[0]]}.{name.partition('.')[2]}": value for name, value in ours.items()}
        return Checkpoint(Path("published.pt"), {"state_dict": {**state, "step": torch.tensor(7)}})

    def test_the_weights_are_those_of_the_model(self, component, checkpoint) -> None:
        imported = component.convert(checkpoint)
        model = CausalVideo(**imported.options).build(toy_spaces())
        model.load_state_dict(imported.parts["video model"])  # all names, and no others
        assert torch.equal(model.second.weight, checkpoint.state["net.2.weight"])
        assert imported.dropped == {"step": "counts training steps"}

    def test_a_file_of_something_else_is_named(self, component) -> None:
        with pytest.raises(WeightsError, match=r"other\.pt holds no causal video model"):
            component.convert(Checkpoint(Path("other.pt"), {"some.weight": torch.zeros(1)}))


class TestEnsembled(PolicyContract):
    @pytest.fixture
    def component(self):
        return component("ensembled.py")(policy=ToyPolicy(horizon=4), execute=2)


def test_overlapping_plans_are_averaged() -> None:
    policy = component("ensembled.py")(policy=ToyPolicy(horizon=4), execute=3, decay=0.0).build(toy_spaces())
    plans = iter([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    policy.inner.act = lambda observation, generator: next(plans)
    observation, noise = toy_observation(toy_spaces(), Window(), batch_size=1), RowGenerator.from_seeds([0])
    policy.act(observation, noise)
    assert policy.act(observation, noise)[0, :, 0].tolist() == [0.5, 1, 1, 1]  # one step is in both


class TestPngEpisodes(DatasetContract):
    @pytest.fixture
    def component(self, tmp_path: Path):
        record(tmp_path / "recorded")
        return opened(tmp_path / "recorded")

    def test_gives_back_what_was_recorded(self, component) -> None:
        batch: Batch = component.build(None).windows(Window(observed=(-1, 0), horizon=2)).batch([2])
        assert batch.actions is not None and batch.observation.state is not None
        folder = component.build(None).folders[component.build(None)._split["train"][0]]
        rows = np.loadtxt(folder / "log.csv", delimiter=",", skiprows=1, dtype=np.float32)
        assert np.allclose(batch.actions[0].numpy(), rows[2:4, :2])
        assert np.allclose(batch.observation.state[0].numpy(), rows[1:3, 2:])
        assert batch.observation.images["top"][0, :, 0, 0, 0].tolist() == [1, 2]  # frame n is of the grey n

    def test_a_missing_picture_is_named(self, tmp_path: Path) -> None:
        record(tmp_path / "cut")
        (tmp_path / "cut" / "episode_1" / "top" / "0002.png").unlink()
        with pytest.raises(DataError, match="episode_1 has 6 pictures of 'top' and 7 rows"):
            opened(tmp_path / "cut").build(None)


def opened(folder: Path):
    actions = ActionSpace(names=("x", "y"), low=(-1.0, -1.0), high=(1.0, 1.0), control="delta_position", rate=10.0)
    return component("png_episodes.py")(path=folder, cameras=("top",), actions=actions, state=("px", "py"))


def record(folder: Path) -> None:
    """Four episodes of 6, 7, ... steps whose frame n is of the grey n."""
    for number in range(4):
        place = folder / f"episode_{number}"
        (place / "top").mkdir(parents=True)
        rows = np.random.default_rng(number).uniform(-1, 1, (6 + number, 4))
        np.savetxt(place / "log.csv", rows, delimiter=",", header="x,y,px,py", comments="")
        (place / "instruction.txt").write_text(f"do thing {number}\n")
        for step in range(len(rows)):
            Image.new("RGB", (8, 8), (step, step, step)).save(place / "top" / f"{step:04d}.png")


@pytest.mark.simulator
def test_the_car_climbs_where_the_expert_drives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the environment of PushT, which has the same gymnasium and pygame."""
    pusht = PushT().launch()
    if not is_ready(pusht):
        pytest.skip("the environment of 'pusht' is not installed")
    monkeypatch.setenv("VPOLICY_MOUNTAIN_CAR_PYTHON", str(interpreter(pusht)))
    benchmark = component("mountain_car/benchmark.py")()
    spec = benchmark.launch()
    with WorkerPool(spec, interpreter(spec), 1, tmp_path, benchmark.spaces(), benchmark.max_steps) as pool:
        shown = pool.call(0, "demonstrate", task="climb", attempt=0, action_noise=0.0)
        reset = pool.call(0, "reset", task="climb", episode=0)
        answer = pool.call(0, "step", actions=np.zeros((5, 1), np.float32), frames=[5])
    assert shown["success"] and 50 < len(shown["actions"]) < 150
    assert shown["initial_state"] != reset["initial_state"]
    assert answer["steps"] == 5 and not answer["done"] and -1 <= answer["score"] < -0.5
    dark = shown["images"]["side"].mean(-1) < 128
    place = [float(np.mean(np.nonzero(picture)[1])) for picture in (dark[0], dark[-1])]
    assert place[0] < place[1]  # what is dark, the car, has moved to the right


@pytest.mark.simulator
class TestMountainCar(BenchmarkContract):
    """Its simulator runs where VPOLICY_MOUNTAIN_CAR_PYTHON names an environment."""

    @pytest.fixture
    def component(self):
        return component("mountain_car/benchmark.py")()

    def test_means_are_over_successes(self, component) -> None:
        records = [{"success": True, "steps": 80}, {"success": True, "steps": 100}, {"success": False, "steps": 200}]
        assert component.metrics(records) == {"steps to the top": 90}
        assert component.metrics(records[2:]) == {}
