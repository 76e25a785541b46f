"""Whatever a recipe file or an override holds: one message with file and line, exit code 2, and in little time."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from tests.recipe.test_recipe_errors import RECIPE
from tests.support.command import vpolicy
from videopolicy.recipes.recipe import load_recipe
from videopolicy.storage import plain_yaml
from videopolicy.storage.plain_yaml import YamlError, read_yaml

PARTS = Path(__file__).with_name("parts.py")
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join(['*' + before] * 9)}]\n" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)

OVERRIDES = [
    *("name=2025-02-30", "name=2025-01-30", "a.b=[1", "=x", "=", "name", "a..b=1", ".a=1", "a.=1", "seed=0x_"),
    *("seed=!!int abc", "seed=!!python/object/apply:os.getcwd []", "name={{ x }}", "name={[a]: 1}", "x=&a [*a]"),
    *("name=a\0b", "name=\x1b[31m", "train.\u00b2.steps=1", "train.99999999999999999999.steps=1", "train.-1.steps=1"),
    *("a=" + "[" * 100_000, ".".join("a" * 5000) + "=1", "a" * 5000 + "=1", "seed=" + "9" * 5000, "name=" + "a" * 256),
    *("name=..", "name=.", "name=a/b", "name=/a", "name=", "name=~", "plugins=5", "plugins=['a\\0']", "train=[]"),
    *("plugins=[~nobody-at-all/x.py]", "eval={1: 2}", "1=2", "train.video.init_from=/dev/zero", "extends=ok.yaml"),
    *("train.video.init_from=$NOT_A_VARIABLE_HERE/x", "train.video.init_from=" + "a" * 256),
    *("train.video.optimizer.learning_rate=.inf", "train.video.optimizer.learning_rate=.nan"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(PARTS, tmp_path)
    (tmp_path / "ok.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


@pytest.fixture(params=["c", "python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both loaders: the one in C is not everywhere."""
    if request.param == "python":
        monkeypatch.setattr(plain_yaml, "_Loader", plain_yaml._PythonLoader)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("no loader in C")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("seed: 1\n\0", 2, "control character '\\x00'"),
        ("# \x08\nseed: 1\n", 1, "control character '\\x08'"),
        ('seed: 1\nname: "a\\0b"\n', 2, "control character '\\x00'"),
        ("seed: 1\nname: 2025-02-30\n", 2, "'2025-02-30' is read as a date"),
        ("seed: 1\nname: 2025-01-30\n", 2, "'2025-01-30' is read as a date"),
        ("2025-02-30: 1\n", 1, "is read as a date"),
        ("name: 12:30:45\n", 1, "a whole number to base 60"),
        ("seed: 1\n[a, b]: 1\n", 2, "a list stands where a key is needed"),
        ("seed: 1\n? {a: b}\n: 1\n", 2, "a mapping stands where a key is needed"),
        ("seed: 1\npath: {{ folder }}\n", 2, "a mapping stands where a key is needed"),
        ("seed: 1\n~: 1\n", 2, "the key '~' is read as None"),
        ("seed: 1\nyes: 1\n", 2, "the key 'yes' is read as True"),
        ("seed: !!int abc\n", 1, "'abc' is not a whole number"),
        ("seed: 0x_\n", 1, "'0x_' is not a whole number"),
        ("seed: !!float abc\n", 1, "'abc' is not a number"),
        ("seed: !!bool perhaps\n", 1, "'perhaps' is not true or false"),
        ("seed: " + "9" * 5000 + "\n", 1, "is not a whole number"),
        ("seed: !!timestamp 1\n", 1, "is read as a date"),
        ("seed: !!binary YQ==\n", 1, "the tag !!binary"),
        ("seed: !!set {a, b}\n", 1, "the tag !!set"),
        ("seed: !!python/object/apply:os.getcwd []\n", 1, "the tag !!python/object/apply:os.getcwd"),
        ("seed: !!python/name:os.getcwd\n", 1, "the tag !!python/name:os.getcwd"),
        ("seed: !other 1\n", 1, "the tag !other"),
        ("eval:\n\tepisodes: 1\n", 2, "YAML"),
        ("seed: 1\nx: &a [*a]\n", 2, "an alias lies inside what it stands for"),
        ("x: *nowhere\n", 1, "undefined alias"),
        ("seed: 1\n---\nseed: 2\n", 2, "another document"),
        ("seed: 1\n<<: 3\n", 2, "<< merges a mapping"),
        ("a: &a {b: 1}\n<<: *a\n<<: *a\n", 3, "'<<' stands twice, in line 2 and in line 3"),
        ("seed: 1\nname: a\nseed: 2\n", 3, "'seed' stands twice, in line 1 and in line 3"),
        ("eval: {episodes: 1,\n  episodes: 2}\n", 2, "'episodes' stands twice, in line 1 and in line 2"),
        ("a: " + "[" * 5000 + "]" * 5000, 1, "lie inside each other"),
        (BOMB, 4, "more than 1,000 values"),
        ("a: [" + "1, " * 1500 + "]\n", 1, "more than 1,000 values"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_a_text_that_is_no_recipe_is_told_with_its_line(
    loader, monkeypatch: pytest.MonkeyPatch, text: str, line: int, says: str
) -> None:
    monkeypatch.setattr(plain_yaml, "MOST_VALUES", 1000)
    with pytest.raises(YamlError) as caught:
        read_yaml(text, "recipe.yaml")
    told = caught.value.at("recipe.yaml")
    assert told.startswith(f"recipe.yaml:{line}")
    assert says in told and len(told) < 400
    assert caught.value.hint


def test_anchors_and_merge_keys_work(loader) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: *a, y: 5}\nd: {<<: [*b, *a]}\ne: [*a, *a]\nf: {z: '<<'}\n"
    data, place = read_yaml(text, "f")
    assert data["c"] == {"x": 1, "y": 5}
    assert data["d"] == {"x": 1, "y": 3, "z": 4}
    assert data["e"][0] == data["e"][1] and data["e"][0] is not data["e"][1]
    assert (place.inner["c"].inner["x"].text, place.inner["c"].inner["y"].text) == ("f:1", "f:3")


def test_stages_may_share_values(folder: Path) -> None:
    text = RECIPE.replace("- name: video", "- &video\n    name: video").replace(
        "- {name: act", "- {<<: *video, name: act"
    )
    text = text.replace("batch_size: 2}", "batch_size: 2, target: policy}")
    (folder / "merged.yaml").write_text(text, encoding="utf-8")
    recipe = load_recipe(folder / "merged.yaml", ["train.video.batch_size=9"])
    assert [stage.optimizer.learning_rate for stage in recipe.train] == [1e-3, 1e-3]
    assert [(stage.batch_size, stage.steps) for stage in recipe.train] == [(9, 10), (2, 5)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (RECIPE.encode("utf-16"), "file.yaml:1: it is written in UTF-16"),
        (b"seed: 1\n# caf\xe9\n", "file.yaml:2: the byte 0xe9 is not UTF-8"),
        (b"", "file.yaml: benchmark: this field is required"),
        (b"seed: 1\nrows: 2", "is not a valid ablation"),
        (b"extends: .", "is a folder, not a file"),
        (b"extends: [a]", "file.yaml:1: extends is ['a'], not the path of a recipe"),
        (b"extends: file.yaml", "itself extends file.yaml"),
        (b"seed: 1\nextends: " + b"a" * 300, "file.yaml:2: extends: the path aaa"),
        (b"plugins: ['" + b"a" * 300 + b"']", "which no file can have"),
        (b"plugins: [.]", "is a folder, not a file"),
        (b"plugins: [/dev/zero]", "/dev/zero is a device, not a file"),
    ],
)
def test_a_file_that_is_no_recipe_is_told(folder: Path, content: bytes, says: str) -> None:
    (folder / "file.yaml").write_bytes(content)
    result = vpolicy(folder, "check", "file.yaml")
    assert result.returncode == 2
    assert says in result.stderr


def test_a_recipe_with_a_byte_order_mark_is_one(folder: Path) -> None:
    (folder / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + RECIPE.replace("\n", "\r\n").encode())
    assert load_recipe(folder / "bom.yaml").seed == 0


def test_only_files_are_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.yaml")
    (folder / "folder.yaml").mkdir()
    (folder / "zeros.yaml").symlink_to("/dev/zero")
    (folder / "loop.yaml").symlink_to("loop.yaml")
    for name, what in (("pipe", "a named pipe"), ("folder", "a folder"), ("zeros", "a device")):
        result = vpolicy(folder, "run", f"{name}.yaml")
        assert (result.returncode, f"{name}.yaml is {what}, not a file." in result.stderr) == (2, True)
    for verb in ("check", "run", "ablate", "bench"):
        for name in ("loop.yaml", "a" * 256 + ".yaml", "pipe.yaml"):
            assert vpolicy(folder, verb, name).returncode == 2
    assert vpolicy(folder, "check", "a" * 256).returncode == 2


def test_a_large_recipe_is_read_and_a_huge_one_is_not(folder: Path) -> None:
    large = RECIPE + "# " + "x" * 10_000_000 + "\n"
    (folder / "large.yaml").write_text(large, encoding="utf-8")
    began = time.process_time()
    assert load_recipe(folder / "large.yaml").name == "large"
    assert time.process_time() - began < 10
    (folder / "huge.yaml").write_text(large * 2, encoding="utf-8")
    result = vpolicy(folder, "check", "huge.yaml")
    assert result.returncode == 2 and "more than 16 MiB" in result.stderr


def test_many_mistakes_are_cut_short(folder: Path) -> None:
    (folder / "many.yaml").write_text(RECIPE.replace("train:", "train:\n" + "  - 1\n" * 5000), encoding="utf-8")
    result = vpolicy(folder, "check", "many.yaml")
    assert result.returncode == 2 and "and 4980 more" in result.stderr
    assert len(result.stderr.splitlines()) < 30


@pytest.mark.parametrize(
    "text",
    OVERRIDES,
    ids=lambda text: text[:24].encode("unicode_escape").decode(),
)
def test_overrides_that_mean_nothing_are_told(folder: Path, text: str) -> None:
    result = vpolicy(folder, "check", "ok.yaml", text)
    assert result.returncode == 2
    assert any(word in result.stderr for word in ("verride", "plugin"))
    assert len(result.stderr) < 1500


def test_a_file_whose_name_is_no_run_folder_is_told_so(folder: Path) -> None:
    shutil.copy(folder / "ok.yaml", folder / "my recipe.yaml")
    result = vpolicy(folder, "check", "my recipe.yaml", "name=fine")
    assert result.returncode == 0
    result = vpolicy(folder, "check", "my recipe.yaml")
    assert result.returncode == 2 and "a run is called like its file unless `name` says otherwise" in result.stderr
