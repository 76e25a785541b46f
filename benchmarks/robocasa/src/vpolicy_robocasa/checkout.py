"""The version of RoboCasa (MIT) that the simulator runs, and where its authors publish its assets (CC BY 4.0)."""

from __future__ import annotations

from pathlib import Path

from videopolicy import AssetPack, Assets, Checkout

CHECKOUT = Checkout(
    url="https://github.com/robocasa/robocasa",
    commit="756598a5be52e052339bb2d957426e39015c2afb",
    digests={
        "robocasa/environments": "f576fbc593dfac7255bee0b99b5d1d8412f19996e78a4b7bc38f92e3427ebdb2",
        "robocasa/models/fixtures": "373ce58ada62aa178eb5f4fc1ce7442cc3cb7fbd5444a8d6645a5c382b8761de",
        "robocasa/models/objects": "33c5d2ad5092343d543841180b963d46f8e7e5e411549f940c730a73a749f28c",
        "robocasa/models/scenes": "65be8a27cf0f55393a3cdaa759ea40fe880d3a9fd933982fa62ab74456d24743",
        "robocasa/utils": "4ad9a4c93d64d56caaac2bb5932c647eea0742eb46cfa0d5ec901c2acf4b0d45",
    },
)
"""Tag v0.2, of December 2025. The folder of assets is not compared: official packs may have been unpacked into it."""

_SCRIPT = Path(__file__).parent / "simulator" / "assets.py"
_BOX = "https://utexas.box.com/shared/static"

STAND_IN = Assets(name="stand-in", script=_SCRIPT, arguments=("--stand-in",))
"""Flat colours and collision shapes for fixtures, simple shapes for objects: no number on them is RoboCasa's."""

OFFICIAL = Assets(
    name="official",
    script=_SCRIPT,
    packs=(
        AssetPack(name="textures", url=f"{_BOX}/otdsyfjontk17jdp24bkhy2hgalofbh4.zip", folder="robocasa/models/assets"),
        AssetPack(name="fixtures", url=f"{_BOX}/pobhbsjyacahg2mx8x4rm5fkz3wlmyzp.zip", folder="robocasa/models/assets"),
        AssetPack(
            name="objaverse",
            url=f"{_BOX}/ejt1kc2v5vhae1rl4k5697i4xvpbjcox.zip",
            folder="robocasa/models/assets/objects",
        ),
    ),
    size="about 5 GB",
    stand_in=STAND_IN,
)
"""As `robocasa/scripts/download_kitchen_assets.py` names them, without checksums. Generated objects and textures, which
the evaluation does not use, are left out."""
