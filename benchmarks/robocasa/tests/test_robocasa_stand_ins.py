"""Stand-ins for assets: what the script writes, from a checkout made up of a few files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vpolicy_robocasa import components

SCRIPT = Path(components.__file__).parent / "simulator" / "assets.py"
FIXTURE = """
<mujoco><asset>
  <texture file="visuals/wood_3.png" name="t"/><texture file="../../../../../../outside.png" name="o"/>
  <mesh file="visuals/one.obj" name="one" scale="2 2 2"/><mesh file="visuals/two.obj" name="two"/>
</asset><worldbody><body><body name="object">
  <geom type="mesh" mesh="one" class="visual" pos="0.1 0 0"/><geom type="mesh" mesh="two" class="visual"/>
  <geom type="box" class="collision" pos="0.1 0 0" size="0.2 0.4 0.6"/>
  <geom type="cylinder" class="collision" size="0.1 0.3" axisangle="1 0 0 1.5707963"/>
</body></body></worldbody></mujoco>
"""
OBJECTS = """
import os
BASE = os.getcwd()
OBJ_CATEGORIES = dict(
    apple=dict(types=("fruit"), objaverse=dict(scale=0.5, exclude=list(f"apple_{i}" for i in range(2)))),
    mug=dict(types=("cup"), aigen=dict(model_folders=["aigen_objs/cups"]), objaverse=dict(scale=[2.0, 2.0, 2.0])),
)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("assets") / "made"
    fixtures = source / "robocasa" / "models" / "assets" / "fixtures"
    for path, text in (
        (fixtures / "stoves" / "gas" / "model.xml", FIXTURE),
        (
            fixtures / "fixture_registry" / "stove.yaml",
            "a: textures/marble/m 1.png\nb: fixtures/stoves/gas/brass.png",
        ),
        (source / "robocasa" / "models" / "objects" / "kitchen_objects.py", OBJECTS),
        (source / "robocasa" / "models" / "walls.py", 'texture = "textures/flat/dark_gray.png"\n'),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), "--stand-in"],
        check=True,
        env={"VPOLICY_ROBOCASA_SOURCE": str(source)},
    )
    return folder


def test_every_texture_that_is_named_is_there_in_the_colour_of_its_name(written):
    assets = written / "robocasa" / "models" / "assets"
    colors = {
        "fixtures/stoves/gas/visuals/wood_3.png": (150, 105, 65),
        "textures/marble/m 1.png": (225, 225, 220),
        "fixtures/stoves/gas/brass.png": (180, 150, 80),
        "textures/flat/dark_gray.png": (70, 70, 70),
    }
    for name, color in colors.items():
        assert Image.open(assets / name).getpixel((3, 3)) == color
    assert not list(written.parent.rglob("outside.png"))


def corners(path: Path) -> np.ndarray:
    return np.array([line.split()[1:] for line in path.read_text().splitlines() if line.startswith("v ")], float)


def test_a_fixture_looks_like_its_collision_shapes_whatever_its_meshes_scale_and_place(written):
    visuals = written / "robocasa" / "models" / "assets" / "fixtures" / "stoves" / "gas" / "visuals"
    first = 2 * corners(visuals / "one.obj")
    # The box is where the mesh's geom is; the cylinder lies along y, 10 cm to the left.
    assert np.allclose(first.min(0), [-0.2, -0.4, -0.6]) and np.allclose(first.max(0), [0.2, 0.4, 0.6])
    lying = first[8:] + np.array([0.1, 0, 0])
    assert np.allclose(np.abs(lying).max(0), [0.1, 0.3, 0.1], atol=1e-4)
    other = corners(visuals / "two.obj")
    assert np.ptp(other, 0).max() < 0.02 and np.ptp(other, 0).min() > 0


def test_objects_have_real_sizes_after_robocasas_scale_and_fit_where_they_must(written):
    objects = written / "robocasa" / "models" / "assets" / "objects"
    models = sorted(path.relative_to(objects).as_posix() for path in objects.rglob("model.xml"))
    assert len(models) == 18 and models[0] == "aigen_objs/cups/cups_100/model.xml"
    heights = {}
    for name, scale in (("objaverse/apple/apple_100", 0.5), ("objaverse/mug/mug_100", 2.0)):
        root = ET.parse(objects / name / "model.xml").getroot()
        sites = {site.get("name"): np.array(site.get("pos").split(), float) * scale for site in root.iter("site")}
        assert sites.keys() == {"bottom_site", "top_site", "horizontal_radius_site"}
        assert abs(sites["horizontal_radius_site"][0] - 0.03) < 1e-4
        heights[name] = sites["top_site"][2] - sites["bottom_site"][2]
        groups = [geom.get("group") for geom in root.iter("geom")]
        assert sorted(groups) == ["0", "1"]
    assert heights["objaverse/mug/mug_100"] == pytest.approx(0.06)
    assert (written / "stand-in.txt").is_file()


def test_the_official_assets_begin_with_the_package_alone(written, tmp_path):
    spec = importlib.util.spec_from_file_location("assets", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.color("textures/light_gray_tiles.png") == (190, 190, 190)
    assert module.color("a") == module.color("a") != module.color("b")
    assert components.OFFICIAL.arguments == () and components.STAND_IN.arguments == ("--stand-in",)
