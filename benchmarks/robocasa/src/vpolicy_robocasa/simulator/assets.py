"""Writes RoboCasa's assets: its package as the checkout has it, and stand-ins for the files that it does not have.

``python assets.py FOLDER [--stand-in]`` with the checkout in ``VPOLICY_ROBOCASA_SOURCE``; FOLDER gets a package
``robocasa``.

RoboCasa's repository holds its fixtures without meshes and textures, and no objects. All that physics needs of fixtures
is there: collision shapes, joints and sites. A fixture of stand-ins looks like its collision shapes in one colour, and
objects are seen and grasped otherwise than the real ones.
"""

from __future__ import annotations

import argparse
import ast
import colorsys
import os
import re
import shutil
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import Any, Iterable, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image

MARKER = "stand-in.txt"
"""File in the assets' folder that says what they are."""
SOURCE = "VPOLICY_ROBOCASA_SOURCE"

INSTANCES = 6
"""Objects of every category; half of them are in each split."""
FIRST_NUMBER = 100
"""Of instances; the real ones that RoboCasa leaves out have smaller numbers."""
FACETS = 12
SPECK = 0.005
"""Half the side, in metres, of what is drawn for a mesh without a collision shape."""

FLAT = ("plate", "pan", "tray", "cutting_board", "bowl", "pot", "baking_sheet", "basket", "colander", "saucepan")
TALL = (
    *(
        "bottle",
        "can",
        "cup",
        "liquor",
        "wine",
        "beer",
        "water",
        "jug",
        "kettle",
        "blender",
        "shaker",
        "milk",
        "candle",
    ),
    *("spray", "soap", "boxed", "coffee"),
)
"""Words in names of categories that are dishes, and of those that stand upright."""

COLORS = {
    "black": (25, 25, 25),
    "blue_gray": (110, 125, 145),
    "brass": (180, 150, 80),
    "bricks": (165, 85, 65),
    "concrete": (150, 150, 145),
    "dark_blue": (40, 60, 110),
    "dark_gray": (70, 70, 70),
    "gray": (130, 130, 130),
    "green": (90, 140, 90),
    "light_blue": (150, 190, 220),
    "light_gray": (190, 190, 190),
    "light_green": (160, 200, 160),
    "lighter_gray": (215, 215, 215),
    "marble": (225, 225, 220),
    "metal": (175, 175, 180),
    "red": (170, 60, 50),
    "tile": (200, 200, 195),
    "warm_white": (240, 232, 215),
    "white": (240, 240, 240),
    "wood": (150, 105, 65),
}
"""By words in a texture's path."""

_NAMED_TEXTURE = re.compile(r"(?<![A-Za-z_])textures/[A-Za-z0-9_/. -]+?\.png")
_FIXTURE_TEXTURE = re.compile(r"fixtures/[A-Za-z0-9_/.-]+?\.png")

Faces = Sequence[Tuple[int, int, int]]


class Shape(NamedTuple):
    """A mesh: corners ``(n, 3)`` in metres, and triples of their indices."""

    corners: np.ndarray
    faces: Faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stand-in", action="store_true")
    options = parser.parse_args()
    package = options.folder / "robocasa"
    shutil.copytree(
        Path(os.environ[SOURCE]) / "robocasa", package, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    if options.stand_in:
        write_stand_ins(package)
        (options.folder / MARKER).write_text(
            "Written by vpolicy-robocasa; no official asset is among them.\n", encoding="utf-8"
        )


def write_stand_ins(package: Path) -> None:
    """Write every file that a package refers to and does not have.

    Args:
        package: The folder ``robocasa``.
    """
    assets = package / "models" / "assets"
    for path in sorted((assets / "fixtures").rglob("*.xml")):
        write_fixture(path, package)
    for path in sorted([*package.rglob("*.yaml"), *(package / "models").rglob("*.py")]):
        text = path.read_text(encoding="utf-8", errors="replace")
        found = set(_NAMED_TEXTURE.findall(text))
        if path.suffix == ".yaml":
            found |= set(_FIXTURE_TEXTURE.findall(text))
        for name in sorted(found):
            write_texture(assets / name, package)
    for category, facts in categories(package).items():
        for registry, place in (("objaverse", "objaverse"), ("aigen", "aigen_objs")):
            if registry in facts:
                scale = float(np.mean(facts[registry].get("scale", 1.0)))
                for folder in facts[registry].get("model_folders") or [f"{place}/{category}"]:
                    write_objects(assets / "objects" / folder, category, scale)


def categories(package: Path) -> dict[str, Any]:
    """RoboCasa's categories of objects, read without importing it: what it finds when it is imported is fixed then."""
    path = package / "models" / "objects" / "kitchen_objects.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "OBJ_CATEGORIES":
            names = {"__builtins__": {}, "dict": dict, "list": list, "range": range, "set": set}
            return eval(compile(ast.Expression(node.value), str(path), "eval"), names)
    raise ValueError(f"{path} has no OBJ_CATEGORIES")


def color(name: str) -> tuple[int, int, int]:
    """A colour for a texture or an object: of the longest colour or material in its name, or any."""
    low = name.lower()
    for word in sorted(COLORS, key=len, reverse=True):
        if word in low:
            return COLORS[word]
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(name.encode()) % 360 / 360, 0.25, 0.7)
    return int(255 * red), int(255 * green), int(255 * blue)


def write_texture(path: Path, package: Path) -> None:
    """A picture of one colour, where there is none and the path stays inside the package."""
    path = Path(os.path.normpath(path))
    if path.exists() or package not in path.parents:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), color(path.relative_to(package).as_posix()[-60:])).save(path)


def write_fixture(path: Path, package: Path) -> None:
    """The textures and meshes that a fixture's file refers to.

    The first mesh of a body that is drawn looks like all collision shapes of the body, others are too small to be seen.
    """
    root = ET.parse(path).getroot()
    for texture in root.iter("texture"):
        if texture.get("file"):
            write_texture(path.parent / str(texture.get("file")), package)
    drawn: dict[str, tuple[ET.Element, ET.Element, bool]] = {}
    for body in root.iter("body"):
        meshes = [geom for geom in body.findall("geom") if geom.get("mesh")]
        for number, geom in enumerate(meshes):
            drawn.setdefault(str(geom.get("mesh")), (body, geom, number == 0))
    for mesh in root.iter("mesh"):
        file = Path(os.path.normpath(path.parent / str(mesh.get("file"))))
        if mesh.get("file") and not file.exists() and package in file.parents:
            name = mesh.get("name") or file.stem
            write_mesh(file, _looks(drawn.get(name)), numbers(mesh.get("scale"), (1.0, 1.0, 1.0)))


def _looks(drawn: tuple[ET.Element, ET.Element, bool] | None) -> list[Shape]:
    """What a mesh looks like, in metres and in the frame of its geom."""
    if drawn is None:
        return []
    body, geom, first = drawn
    place, turn = pose(geom)
    found = []
    for other in body.findall("geom"):
        if other.get("mesh") is None and (other.get("class") == "collision" or other.get("group") == "0"):
            shape = primitive(other)
            if shape is not None:
                position, rotation = pose(other)
                corners = (shape.corners * (1.0 if first else 0.01)) @ rotation.T + position
                found.append(Shape((corners - place) @ turn, shape.faces))
    return found if first else found[:1]


def write_mesh(path: Path, shapes: Iterable[Shape], scale: np.ndarray) -> None:
    """A Wavefront file; what it holds is divided by the scale (3,) by which it is multiplied when it is loaded."""
    parts = list(shapes) or [box(np.full(3, SPECK))]
    lines, base = [], 1
    for corners, faces in parts:
        low, high = corners.min(0), corners.max(0)
        lines += ["v {:.6f} {:.6f} {:.6f}".format(*corner) for corner in corners / scale]
        lines += ["vt {:.4f} {:.4f}".format(*((c - low) / np.maximum(high - low, 1e-9))[:2]) for c in corners]
        lines += ["f " + " ".join(f"{base + i}/{base + i}" for i in face) for face in faces]
        base += len(corners)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def numbers(text: str | None, otherwise: Sequence[float]) -> np.ndarray:
    """Numbers of an XML attribute."""
    return np.array([float(word) for word in text.split()] if text else otherwise, np.float64)


def pose(geom: ET.Element) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) in metres and rotation (3, 3) of a geom in its body; angles are radians."""
    rotation = np.eye(3)
    if geom.get("quat"):
        rotation = _turn(*numbers(geom.get("quat"), ()))
    elif geom.get("axisangle"):
        x, y, z, angle = numbers(geom.get("axisangle"), ())
        rotation = _about(np.array([x, y, z]), angle)
    elif geom.get("euler"):
        first, second, third = numbers(geom.get("euler"), ())
        x, y, z = np.eye(3)
        rotation = _about(x, first) @ _about(y, second) @ _about(z, third)
    return numbers(geom.get("pos"), (0.0, 0.0, 0.0)), rotation


def _about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation (3, 3) about an axis (3,)."""
    axis = axis / np.linalg.norm(axis)
    return _turn(np.cos(angle / 2), *(np.sin(angle / 2) * axis))


def _turn(w: float, x: float, y: float, z: float) -> np.ndarray:
    """Rotation (3, 3) of a quaternion, which need not have length 1."""
    w, x, y, z = np.array([w, x, y, z]) / np.linalg.norm([w, x, y, z])
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def primitive(geom: ET.Element) -> Shape | None:
    """The shape of a collision geom; None for a kind that has none."""
    kind, size = geom.get("type", "sphere"), numbers(geom.get("size"), (0.01, 0.01, 0.01))
    if kind == "box" and len(size) >= 3:
        return box(size[:3])
    if kind in ("cylinder", "capsule"):
        return cylinder(size[0], size[1] if len(size) > 1 else size[0])
    if kind in ("sphere", "ellipsoid"):
        return cylinder(size[0], size[2] if kind == "ellipsoid" else size[0])
    return None


def box(half: np.ndarray) -> Shape:
    """A box of half sides (3,)."""
    signs = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    sides = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = [face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))]
    return Shape(np.array(signs) * half, faces)


def cylinder(radius: float, half_height: float) -> Shape:
    """An upright cylinder around the origin."""
    angles = np.arange(FACETS) * 2 * np.pi / FACETS
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
    low, high = (np.c_[ring, np.full(FACETS, height)] for height in (-half_height, half_height))
    corners = np.concatenate([low, high, [[0, 0, -half_height], [0, 0, half_height]]])
    faces = []
    for one in range(FACETS):
        two = (one + 1) % FACETS
        faces += [(one, two, FACETS + two), (one, FACETS + two, FACETS + one)]
        faces += [(2 * FACETS, two, one), (2 * FACETS + 1, FACETS + one, FACETS + two)]
    return Shape(corners, faces)


def write_objects(folder: Path, category: str, scale: float) -> None:
    """Instances of a category: simple shapes of a dish's, a bottle's or a fruit's size.

    Args:
        folder: Gets a folder for every instance.
        category: Its name.
        scale: What RoboCasa multiplies the sizes of its models by.
    """
    for number in range(INSTANCES):
        place = folder / f"{folder.name}_{FIRST_NUMBER + number}"
        place.mkdir(parents=True, exist_ok=True)
        geoms, radius, half_height = _parts(category, number)
        red, green, blue = np.array(color(f"{category}{number}")) / 255
        seen = f'group="1" contype="0" conaffinity="0" rgba="{red:.2f} {green:.2f} {blue:.2f} 1"'
        lines = [_geom(kind, position, quat, size, scale, look) for kind, position, quat, size in geoms
                 for look in (seen, 'group="0" rgba="0.5 0 0 0.3"')]  # fmt: skip
        sites = {
            "bottom_site": (0.0, 0.0, -half_height),
            "top_site": (0.0, 0.0, half_height),
            "horizontal_radius_site": (radius, radius, 0.0),
        }
        marks = [
            f'<site rgba="0 0 0 0" size="0.005" pos="{_words(np.array(at) / scale)}" name="{name}"/>'
            for name, at in sites.items()
        ]
        (place / "model.xml").write_text(
            f'<mujoco model="{category}"><compiler angle="radian"/><asset/><worldbody><body><body name="object">\n'
            + "\n".join([*lines, "</body>", *marks])
            + "\n</body></worldbody></mujoco>\n"
        )


def _parts(category: str, number: int) -> tuple[list[tuple[str, Any, Any, Any]], float, float]:
    """Geoms of an instance (type, position, quaternion, size), its radius and half its height, in metres."""
    upright = (1.0, 0.0, 0.0, 0.0)
    if any(word in category for word in FLAT):
        radius, rim, floor = 0.07 + 0.002 * number, 0.012, 0.0025
        found: list[tuple[str, Any, Any, Any]] = [("cylinder", (0.0, 0.0, floor - rim), upright, (radius, floor))]
        for side in range(8):
            angle = side * np.pi / 4
            at, turn = (
                (radius * np.cos(angle), radius * np.sin(angle), 0.0),
                (np.cos(angle / 2), 0, 0, np.sin(angle / 2)),
            )
            found.append(("box", at, turn, (0.004, radius * np.tan(np.pi / 8), rim)))
        return found, radius, rim
    radius = 0.03 + 0.002 * number
    if "mug" in category:  # it must fit under the lowest coffee machine
        return [("cylinder", (0, 0, 0), upright, (radius, 0.03))], radius, 0.03
    if any(word in category for word in TALL):
        return [("cylinder", (0, 0, 0), upright, (radius, 0.06))], radius, 0.06
    kind = "box" if number % 2 else "ellipsoid"
    return [(kind, (0, 0, 0), upright, (radius, radius, 0.025))], radius, 0.025


def _geom(kind: str, position: Any, quat: Any, size: Any, scale: float, look: str) -> str:
    at, half = _words(np.array(position) / scale), _words(np.array(size) / scale)
    return f'<geom type="{kind}" pos="{at}" quat="{_words(quat)}" size="{half}" {look}/>'


def _words(values: Iterable[float]) -> str:
    return " ".join(f"{value:.5f}" for value in values)


if __name__ == "__main__":
    main()
