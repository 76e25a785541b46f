"""A part that breaks its contract ends in one sentence with its name and both sides, while it runs and when checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import vpolicy

from videopolicy.components.modular import Modular
from videopolicy.components.plugins import file_plugin
from videopolicy.components.registry import Registry
from videopolicy.console.progress import Reporter
from videopolicy.contracts.dataset import FieldStatistics, Statistics
from videopolicy.contracts.samples import ensure_sound_sample
from videopolicy.errors import PluginError
from videopolicy.evaluation.acting import PolicyActor
from videopolicy.evaluation.forecasting import Forecaster
from videopolicy.recipes.recipe import Normalization, load_recipe
from videopolicy.storage.store import Store
from videopolicy.testing import run_contract, toy_batch, toy_observation, toy_spaces
from videopolicy.testing.toy_models import ToyReflex
from videopolicy.testing.toys import ToyBackbone, ToyDecoder, ToyExtractor, ToyPolicy
from videopolicy.training.normalization import Normalizer
from videopolicy.training.planning import plan
from videopolicy.training.session import Session
from videopolicy.training.stages import train
from videopolicy.types import RowGenerator, Window

FILE = Path(__file__).with_name("hostile.py")
PARTS = {part.name(): part for part in file_plugin(FILE).components}
SPACES = toy_spaces()


def seeded(rows: int = 2) -> RowGenerator:
    return RowGenerator.from_seeds(list(range(rows)))


def policy(**parts: Any) -> Any:
    chosen = {"extractor": ToyExtractor(), "decoder": ToyDecoder(), **parts}
    return Modular.model_construct(type="modular", **chosen).build(SPACES)


def ends(ended: pytest.ExceptionInfo[PluginError], kind: str, name: str, says: str) -> None:
    message = ended.value.message
    assert f"{kind} '{name}' of " in message and str(FILE) in message, message
    assert says in message and "; expected " in message and "\n" not in message, message
    assert ended.value.hint


CHUNKS = {
    "short": "a tensor of shape (2, 3, 4) and type float32; expected a floating-point tensor of shape (2, 4, 4)",
    "wide": "a tensor of shape (2, 4, 8)",
    "flat": "a tensor of shape (2, 16)",
    "whole": "and type int64",
    "an array": "an object of type numpy.ndarray",
    "nothing": "returned None",
    "one row": "a tensor of shape (1, 4, 4)",
}


@pytest.mark.parametrize(("fault", "says"), CHUNKS.items(), ids=CHUNKS)
def test_a_decoders_chunk(fault: str, says: str) -> None:
    acting = policy(decoder=PARTS["hostile-decoder"](fault=fault))
    with pytest.raises(PluginError) as ended:
        acting.act(toy_observation(SPACES, acting.window), seeded())
    ends(ended, "decoder", "hostile-decoder", says)
    assert "`sample` returned" in ended.value.message and "rows, horizon, actions" in ended.value.message


LOSSES = {
    "a vector": "a tensor of shape (2,)",
    "a number": "0.5 of type float",
    "detached": "a loss without gradient",
    "whole": "type int64",
}


@pytest.mark.parametrize(("fault", "says"), LOSSES.items(), ids=LOSSES)
def test_a_decoders_loss(fault: str, says: str) -> None:
    learner = policy(decoder=PARTS["hostile-decoder"](fault=fault)).train()
    learner.extractor.requires_grad_(False)
    with pytest.raises(PluginError) as ended:
        learner.loss(toy_batch(SPACES, learner.window))
    ends(ended, "decoder", "hostile-decoder", says)


FEATURES = {
    "features": "a tensor of shape (2, 32, 16) and type float32; expected a videopolicy.FeatureStream",
    "layout": "`stream` returned features of one vector of width 3; expected 2 views x 4 height x 4 width of width 16",
    "narrow": "as `tokens` a tensor of shape (2, 32, 15)",
    "few": "as `tokens` a tensor of shape (2, 31, 16)",
    "tensors": "a tensor of shape (2, 32, 16) and type float32; expected a videopolicy.Branch",
    "none": "returned no branch",
    "one": "an object of type videopolicy.types.Branch; expected a list",
    "weight": "a branch whose weight is a tensor of shape ()",
}  # fmt: skip


@pytest.mark.parametrize(("fault", "says"), FEATURES.items(), ids=FEATURES)
def test_an_extractors_features(fault: str, says: str) -> None:
    made = policy(extractor=PARTS["hostile-extractor"](fault=fault))
    for use in (
        lambda: made.loss(toy_batch(SPACES, made.window)),
        lambda: made.act(toy_observation(SPACES, made.window), seeded()),
    ):
        with pytest.raises(PluginError) as ended:
            use()
        ends(ended, "extractor", "hostile-extractor", says)


DENOISED = {
    "cropped": "as `prediction` a tensor of shape (2, 2, 3, 3, 4, 3)",
    "no taps": "the taps []; expected a dictionary of ['hidden']",
    "thin taps": "as tap 'hidden' a tensor of shape (2, 2, 3, 7, 4, 4)",
    "prediction": "expected a videopolicy.Denoised",
}


@pytest.mark.parametrize(("fault", "says"), DENOISED.items(), ids=DENOISED)
def test_a_video_models_forward(fault: str, says: str) -> None:
    model = PARTS["hostile-backbone"](fault=fault).build(SPACES)
    condition = model.condition(toy_observation(SPACES, model.window))
    with pytest.raises(PluginError) as ended:
        model.denoise(torch.zeros(2, *model.latent_shape), torch.ones(2), condition, taps=["hidden"])
    ends(ended, "backbone", "hostile-backbone", says)


def test_a_video_models_clip() -> None:
    model = PARTS["hostile-backbone"](fault="short clip").build(SPACES)
    with pytest.raises(PluginError) as ended:
        model.loss(toy_batch(SPACES, model.window))
    ends(ended, "backbone", "hostile-backbone", "as `latents` a tensor of shape (2, 2, 2, 3, 4, 4)")


TEXTS = {
    "a tensor": "expected a videopolicy.EncodedText",
    "long": "as `tokens` a tensor of shape (2, 6, 4)",
    "wide": "as `tokens` a tensor of shape (2, 3, 8)",
    "vectors": "as `pooled` a tensor of shape (2, 3, 4)",
    "one": "as `pooled` a tensor of shape (1, 4)",
}


@pytest.mark.parametrize(("fault", "says"), TEXTS.items(), ids=TEXTS)
def test_a_text_encoders_widths(fault: str, says: str) -> None:
    with pytest.raises(PluginError) as ended:
        PARTS["hostile-text"](fault=fault).build()(["push", "open it"])
    ends(ended, "text", "hostile-text", says)


BUILT = {
    ("decoder", "hostile-decoder", "a layer"): "an object of type Linear; expected a videopolicy.ActionDecoder",
    ("extractor", "hostile-extractor", "other layout"): "a part whose `layout` is one vector of width 3",
    ("extractor", "hostile-extractor", "other window"): "a part whose `window` is Window(observed=(-1, 0)",
    ("policy", "hostile-policy", "other window"): "horizon=5",
    ("dataset", "hostile-data", "a list"): "an object of type list; expected a videopolicy.Dataset",
}


@pytest.mark.parametrize(("part", "says"), BUILT.items(), ids=[" ".join(part) for part in BUILT])
def test_what_is_built(part: tuple[str, str, str], says: str) -> None:
    kind, name, fault = part
    component = PARTS[name](fault=fault)
    arguments = {"decoder": (ToyExtractor().layout(SPACES), SPACES), "dataset": (None,)}.get(kind, (SPACES,))
    with pytest.raises(PluginError) as ended:
        component.build(*arguments)
    ends(ended, kind, name, says)
    assert f"vpolicy check {name}" in ended.value.hint


POLICY_LOSSES = {
    "a tensor": "a tensor of shape ()",
    "empty": "an empty dictionary",
    "a list": "an object of type list",
    "numbered": "a loss named 0",
    "a vector": "as 'action' a tensor of shape (1,)",
    "a number": "of type float",
    "detached": "a loss without gradient",
}


@pytest.mark.parametrize(("fault", "says"), POLICY_LOSSES.items(), ids=POLICY_LOSSES)
def test_a_policys_losses(fault: str, says: str) -> None:
    learner = PARTS["hostile-policy"](fault=fault).build(SPACES).train()
    with pytest.raises(PluginError) as ended:
        learner.loss(toy_batch(SPACES, learner.window))
    ends(ended, "policy", "hostile-policy", says)


def actor(made: Any, deviation: float = 1.0) -> PolicyActor:
    one = FieldStatistics([-1.0] * 4, [1.0] * 4, [0.0] * 4, [deviation] * 4)
    state = FieldStatistics([-1.0] * 3, [1.0] * 3, [0.0] * 3, [1.0] * 3)
    normalizer = Normalizer(Normalization(actions="standard"), Statistics(one, state))
    return PolicyActor(made, normalizer, SPACES.actions, torch.device("cpu"))


NOT_FINITE = {
    "policy": (lambda: PARTS["hostile-policy"](fault="NaN").build(SPACES), "act"),
    "decoder": (lambda: policy(decoder=PARTS["hostile-decoder"](fault="NaN")), "sample"),
    "extractor": (lambda: policy(extractor=PARTS["hostile-extractor"](fault="NaN")), "descend"),
}


@pytest.mark.parametrize("kind", NOT_FINITE)
def test_actions_that_are_no_numbers_are_traced_to_the_part(kind: str) -> None:
    make, method = NOT_FINITE[kind]
    made = make()
    with pytest.raises(PluginError) as ended:
        actor(made).act(toy_observation(SPACES, made.window), seeded())
    ends(ended, kind, f"hostile-{kind}", "")
    assert f"`{method}` returned" in ended.value.message and "NaN or infinity" in ended.value.message


def test_scaling_that_is_no_number_is_not_the_policys_fault() -> None:
    made = ToyPolicy().build(SPACES)
    with pytest.raises(PluginError, match="the scaling of actions: `physical` returned NaN or infinity"):
        actor(made, float("inf")).act(toy_observation(SPACES, made.window), seeded())


def test_a_sound_policy_is_asked_once_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = ToyPolicy().build(SPACES), []
    monkeypatch.setattr(ToyReflex, "act", lambda self, seen, generator: asked.append(1) or torch.zeros(2, 4, 4))
    assert actor(made).act(toy_observation(SPACES, made.window), seeded()).shape == (2, 4, 4)
    assert asked == [1]


def test_checks_follow_copies_and_read_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    import copy

    made = copy.deepcopy(policy(decoder=PARTS["hostile-decoder"](fault="short")))
    with pytest.raises(PluginError, match="decoder 'hostile-decoder' of"):
        made.act(toy_observation(SPACES, made.window), seeded())
    meta = policy().to("meta")
    seen = toy_observation(SPACES, meta.window).to(torch.device("meta"))
    assert meta.extractor.stream(seen).at(torch.ones(2, device="meta"))[0].tokens.is_meta


class Seer(ToyReflex):
    clip_offsets = (0, 2)
    predicted_cameras = ("front",)
    clip: Any = None

    def predict_video(self, observation, generator, actions=None, steps=30, guidance=None):
        return self.clip


def test_a_predicted_clip() -> None:
    seer = Seer(Window(horizon=4), 2, 4)
    forecaster = Forecaster.of(seer)
    batch = toy_batch(SPACES, Window(future=(2,)))
    seer.clip = torch.zeros(2, 1, 2, 3, 8, 8, dtype=torch.uint8)
    assert forecaster.predict(batch, [0, 1]).shape == (2, 1, 2, 3, 8, 8)
    for clip in (seer.clip.float(), seer.clip[:, :, :1], seer.clip[:, 0], None):
        seer.clip = clip
        with pytest.raises(PluginError, match=r"Seer: `predict_video` returned .*; expected a tensor of shape \(2, 1"):
            forecaster.predict(batch, [0, 1])


SAMPLES = {
    "a dictionary": "an object of type dict; expected a videopolicy.Batch",
    "wide actions": "as `actions` a tensor of shape (2, 4, 4) and type float32; expected a tensor of shape (2, 4, 2)",
    "double actions": "as `actions` a tensor of shape (2, 4, 2) and type float64",
    "no actions": "as `actions` None",
    "NaN actions": "NaN or infinity in `actions`",
    "whole mask": "as `action_mask` a tensor of shape (2, 4) and type int64",
    "float images": "as `images['top']` a tensor of shape (2, 1, 3, 16, 16) and type float32",
    "images last": "as `images['top']` a tensor of shape (2, 1, 16, 16, 3)",
    "no camera": "as `images['top']` None",
    "one sentence": "the instructions 'push'",
    "listed sentences": "the instructions [['push'], ['push']]",
    "no state": "as `state` None",
    "NaN state": "NaN or infinity in `state`",
}
RECIPE = f"""\
plugins: [{FILE}]
benchmark: {{type: toy, task_names: [red], max_steps: 3}}
data: {{type: hostile-data, fault: "%s"}}
policy: %s
train: [{{name: policy, steps: 2, batch_size: 2}}]
eval: {{episodes: 1, workers: 1, batch_size: 1}}
tracking: []
"""


@pytest.mark.parametrize(("fault", "says"), SAMPLES.items(), ids=SAMPLES)
def test_a_datasets_sample(fault: str, says: str) -> None:
    dataset = PARTS["hostile-data"](fault=fault).build(None)
    window = Window(horizon=4)
    with pytest.raises(PluginError, match="dataset 'x'") as ended:
        ensure_sound_sample(dataset.windows(window), window, dataset.spaces, "dataset 'x'")
    assert says in ended.value.message and ended.value.hint
    sound = PARTS["hostile-data"]().build(None)
    for window in (Window(), Window((-2, 0), (1, 3), 2, past_actions=2, future_states=(1,))):
        ensure_sound_sample(sound.windows(window), window, sound.spaces, "dataset 'x'")


TRAINED = {
    "data": ("wide actions", "{type: toy}", "dataset 'hostile-data' of"),
    "a loss": ("", "{type: hostile-policy, fault: detached}", "policy 'hostile-policy' of"),
    "features": (
        "",
        "{type: modular, extractor: {type: hostile-extractor, fault: narrow}, decoder: {type: toy}}",
        "extractor 'hostile-extractor' of",
    ),
}


@pytest.mark.parametrize(("data", "part", "says"), TRAINED.values(), ids=TRAINED)
def test_training_says_it_too(tmp_path: Path, data: str, part: str, says: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE % (data, part))
    recipe, store = load_recipe(tmp_path / "recipe.yaml"), Store(tmp_path / "home")
    dataset = recipe.data.build(None)
    session = Session(recipe, store, torch.device("cpu"), Reporter(quiet=True))
    with pytest.raises(PluginError, match=says):
        train(session, plan(recipe, dataset, store)[0], dataset)


@pytest.mark.parametrize("fault", ["short", "NaN"])
def test_a_run_ends_with_one_message(tmp_path: Path, fault: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE % ("", f"{{type: hostile-policy, fault: {fault}}}"))
    done = vpolicy(tmp_path, "run", "recipe.yaml", "--quiet", VPOLICY_HOME=str(tmp_path / "home"))
    assert done.returncode == 2, done.stderr
    assert f"vpolicy: policy 'hostile-policy' of {FILE}: `act` returned" in done.stderr
    assert "Traceback" not in done.stderr


CHECKED = {
    ("decoder", "hostile-decoder", "fault=short"): "`sample` returned a tensor of shape (3, 3, 4)",
    ("decoder", "hostile-decoder", "fault=NaN"): "contains NaN or infinity",
    ("decoder", "unguided", "last=false"): "the scale of guidance is ignored",
    ("decoder", "unguided", "last=true"): "`last_weight` changes nothing",
    ("extractor", "hostile-extractor", "fault=narrow"): "as `tokens` a tensor of shape (3, 32, 15)",
    ("extractor", "hostile-extractor", "fault=NaN"): "contains NaN or infinity",
    ("backbone", "hostile-backbone", "fault=thin taps"): "as tap 'hidden' a tensor of shape",
    ("backbone", "hostile-backbone", "fault=unguided"): "guidance would change nothing",
    ("text", "hostile-text", "fault=wide"): "as `tokens` a tensor of shape (4, 3, 8)",
    ("policy", "hostile-policy", "fault=a vector"): "as 'action' a tensor of shape (1,)",
    ("policy", "hostile-policy", "fault=NaN"): "The chunk of actions contains NaN or infinity",
    ("dataset", "hostile-data", "fault=double actions"): "`actions` is (3, 3, 2) torch.float64",
}


@pytest.mark.parametrize(("part", "says"), CHECKED.items(), ids=[" ".join(part) for part in CHECKED])
def test_a_check_says_it_too(part: tuple[str, str, str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind, name, option = part
    key, _, value = option.partition("=")
    options = {key: {"true": True, "false": False}.get(value, value)}
    assert run_contract(kind, name, options, Registry([file_plugin(FILE)])) == 1
    said = capsys.readouterr().out
    assert says in said and "Traceback" not in said, said


@pytest.mark.parametrize(
    ("kind", "name"),
    [("decoder", "hostile-decoder"), ("extractor", "hostile-extractor"), ("backbone", "hostile-backbone"),
     ("text", "hostile-text"), ("policy", "hostile-policy")],
)  # fmt: skip
def test_without_a_fault_they_pass(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_contract(kind, name, {}, Registry([file_plugin(FILE)])) == 0, capsys.readouterr().out


def test_the_toys_are_still_sound() -> None:
    assert ToyBackbone().build(SPACES)._origin.plugin == "videopolicy"
