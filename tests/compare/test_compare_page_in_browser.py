"""The comparison's page in a real browser: sorted, filtered, played together, from one file and without a network."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videopolicy import PublishedNumber
from videopolicy.compare.model import Comparison, Cost, Entry, Pair, SetApart, VideoQuality
from videopolicy.compare.page.films import INDEX, Scene, facts_of, films_folder, scenes
from videopolicy.compare.page.page import write_page
from videopolicy.outcomes.intervals import Interval
from videopolicy.outcomes.records import EpisodeRecord, summarise
from videopolicy.report.media import enlarge, write_mp4, write_png

EPISODES = 20
TASKS = {
    "push-block": ("easy", "push the block to the goal"),
    "open-drawer": ("easy", "open the drawer"),
    "press-button": ("medium", "press the button from the top"),
    "turn-dial": ("medium", "turn the dial"),
    "insert-peg": ("hard", "insert the peg into the hole"),
    "stack-cups": ("hard", "stack the cups"),
}
FILMED = ("push-block", "insert-peg")
METHODS = {  # successes by task; letters; cost; PSNR and SSIM of predictions and of the still picture
    "features-of-one-step": ((19, 18, 15, 12, 6, 3), "a", Cost(0.042, 0.051, 8, 5_018_116, 4000, 1290), (25.1, 0.86)),
    "joint-diffusion": ((18, 19, 12, 10, 5, 0), "ab", Cost(0.61, 0.7, 8, 7_400_000, 4200, 1305), (24.2, 0.84)),
    "masked-latent": ((16, 15, 12, 9, 2, 0), "b", Cost(0.11, 0.13, 8, 6_100_000, 5100, 1288), (21.9, 0.77)),
    "image-baseline": ((18, 17, 14, 11, 4, 1), "ab", Cost(0.035, 0.04, 8, 4_300_000, 9000, 1299), None),
    "random": ((1, 0, 0, 0, 0, 0), "c", Cost(), None),
}
LINEUP = list(METHODS)


def entry(name: str, folder: Path) -> Entry:
    solved, letters, cost, video = METHODS[name]
    policy = "random" if name == "random" else "trained"
    records = tuple(
        EpisodeRecord(
            policy=policy,
            task=task,
            episode=episode,
            # Which episodes a method solves is shifted a little, so that methods differ in some and agree in others.
            success=(success := (episode + LINEUP.index(name)) % EPISODES < solved[index]),
            score=float(success),
            steps=30 if success else 60,
            seconds=1.0,
            initial_state=f"{task}-{episode}",
            protocol="5f0e6d2c9b1a7f34",
            error="The worker died." if (name, index, episode) == ("masked-latent", 4, 7) else None,
        )
        for index, task in enumerate(TASKS)
        for episode in range(EPISODES)
    )
    summary = summarise(records)[policy]
    values = {"psnr": video[0], "psnr_still": 19.4, "ssim": video[1], "ssim_still": 0.71} if video else {}
    tiers = {}
    for task, rate in zip(TASKS.values(), summary.tasks, strict=True):
        tiers.setdefault(task[0], []).append(rate)
    return Entry(
        name,
        policy,
        (folder / name,),
        (0,),
        summary.tasks,
        tuple(replace(rates[0], name=tier) for tier, rates in tiers.items()),
        summary.mean,
        letters=letters,
        cost=replace(cost, processor_seconds=2400.0, device="Xeon, 2 cores") if cost.parameters else cost,
        quality=VideoQuality(48, "48 clips of 12 held-out episodes", (4, 8, 12, 16), values) if video else None,
        records=(records,),
    )


def scene_picture(size: int, time: float, color: int) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] / size
    image = np.full((size, size, 3), 190, np.uint8)
    image[rows > 0.6] = (140, 102, 66)
    image[(abs(rows - 0.6) < 0.08) & (abs(columns - 0.75) < 0.08)] = (190, 40, 30)
    image[(rows < 0.62) & (abs(columns - 0.15 - 0.5 * time) < 0.04)] = (40 * color, 90, 200 - 40 * color)
    return image


def filmed_scenes(comparison: Comparison) -> list[Scene]:
    return [scene for scene in scenes(comparison) if scene.task in FILMED]


def film(comparison: Comparison, page: Path) -> None:
    """Put films of two tasks' scenes where the page looks for them."""
    folder, index = films_folder(page), {}
    for scene in filmed_scenes(comparison):
        for number, (method, record) in enumerate(scene.records.items()):
            name = f"{scene.task}-{scene.episode}-{number}.mp4"
            count = record.steps // 2
            write_mp4(folder / name, [scene_picture(96, t / 30, number) for t in range(count)], 20, 31)
            index[name] = {"key": name, "control_rate": 40, "differences": ""} | facts_of(method, record)
    (folder / INDEX).write_text(json.dumps(index))


def predict(folder: Path, tasks: list[str]) -> None:
    offsets, index = list(range(0, 16, 2)), {}
    for task in tasks:
        real = [scene_picture(48, t / 16, 1) for t in offsets]
        predicted = [scene_picture(48, 0.8 * t / 16, 1) for t in offsets]
        write_png(
            folder / "videos" / f"{task}-prediction.png",
            np.concatenate([np.concatenate(row, axis=1) for row in (real, predicted)]),
        )
        pairs = [enlarge(np.concatenate(pair, axis=1), 96) for pair in zip(real, predicted, strict=True)]
        write_mp4(folder / "videos" / f"{task}-prediction.mp4", pairs, 4)
        index[task] = {
            "key": "k",
            "task": task,
            "episode": 0,
            "success": True,
            "now": 24,
            "control_rate": 40,
            "offsets": offsets,
            "shown": offsets,
            "height": 48,
            "width": 48,
            "psnr": 24.31,
            "psnr_still": 19.02,
        }
    (folder / "videos" / "predictions.json").write_text(json.dumps(index))


def compare(folder: Path) -> Comparison:
    entries = tuple(sorted((entry(name, folder) for name in METHODS), key=lambda one: -(one.mean.value or 0)))
    pairs = tuple(
        Pair(
            a.name, b.name, a.mean.value - b.mean.value, "McNemar, exact", "success", 120, 9 + i, i, 0.01 * i, 0.02 * i
        )
        for i, a in enumerate(entries)
        for b in entries[i + 1 :]
    )
    note = "The paper does not say how many episodes."
    published = [
        PublishedNumber(method=m, metric="success", group=g, value=v, source="Made-up et al. 2025, table 2", note=note)
        for m, g, v in (("A", "easy", 0.8), ("A", "mean", 0.68), ("B", "easy", 0.5), ("B", "mean", 0.415))
    ]
    ablation = PublishedNumber(
        method="A without video", metric="success", group="mean", value=0.4, source="Table 5", kind="ablation"
    )
    return Comparison(
        "tabletop",
        {"simulator": "tabletop 3.1.1", "max_steps": 200, "cameras": ["corner"]},
        "5f0e6d2c9b1a7f34",
        tuple(TASKS),
        {name: text for name, (_, text) in TASKS.items()},
        {name: tier for name, (tier, _) in TASKS.items()},
        entries,
        pairs,
        0.12,
        (*published, ablation),
        (SetApart("older-run", folder / "older-run", ("max_steps: 500 instead of 200",), entries[0].mean),),
        ("masked-latent has 1 episode that the simulator could not finish.",),
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> tuple[Comparison, Path]:
    folder = tmp_path_factory.mktemp("runs")
    comparison = compare(folder)
    page = folder / "comparison.html"
    film(comparison, page)
    for name in LINEUP[:3]:
        predict(folder / name, list(TASKS)[:2])
    return comparison, write_page(comparison, page)


@pytest.fixture
def opened(browser, template, tmp_path):
    # Alone in another folder, so that nothing beside it can be used.
    page = Path(shutil.copy(template[1], tmp_path / "page.html"))
    browser.offline(True)
    browser.open(page.as_uri())
    yield browser
    assert browser.log("browser") == []
    assert browser.requests_beyond(page.as_uri()) == []
    browser.offline(False)


def scroll_to(browser, selector: str) -> None:
    browser.run(f"document.querySelector('{selector}').scrollIntoView()")


@pytest.mark.parametrize("width", [1440, 1280, 700])
def test_everything_is_there_and_nothing_overflows(opened, width):
    opened.resize(width)
    assert opened.run("return document.title") == "tabletop: comparison"
    sections = opened.run("return [...document.querySelectorAll('header[id], section[id]')].map(e => e.id)")
    expected = "headline methods tasks pairs tradeoffs films forecasts published apart protocol"
    assert sections == expected.split()
    assert opened.run("return document.documentElement.scrollWidth <= window.innerWidth")
    for drawing in opened.run("return [...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect())"):
        assert drawing["width"] > 250 and drawing["height"] > 100
    assert opened.run("return document.querySelectorAll('svg').length") == 5
    text = opened.run("return document.body.innerText")
    for said in ("12.0 percentage points", "not measured here", "max_steps: 500 instead of 200", "could not finish"):
        assert said in text


def test_labels_of_a_plot_do_not_cover_one_another(opened):
    boxes = opened.run(
        """return [...document.querySelectorAll('#tradeoffs svg')].map(svg => [...svg.querySelectorAll('text')]
        .map(t => [t.textContent, t.getBoundingClientRect()])
        .map(([name, box]) => [name, box.left, box.right, box.top, box.bottom]))"""
    )
    assert len(boxes) == 3
    for plot in boxes:
        assert {name for name, *_ in plot} >= set(LINEUP[:3])
        for index, (name, left, right, top, bottom) in enumerate(plot):
            for other, left2, right2, top2, bottom2 in plot[index + 1 :]:
                apart = right <= left2 or right2 <= left or bottom <= top2 + 2 or bottom2 <= top + 2
                assert apart, (name, other)


def test_a_click_on_a_header_sorts(opened):
    def names() -> list[str]:
        return opened.run("return [...document.querySelectorAll('#methods tbody th')].map(e => e.dataset.v)")

    def click(text: str) -> None:
        opened.run(
            f"[...document.querySelectorAll('#methods thead button')].find(b => b.innerText === '{text}').click()"
        )

    assert names()[0] == "features-of-one-step" and names()[-1] == "random"
    click("per chunk")
    assert names() == ["joint-diffusion", "masked-latent", "features-of-one-step", "image-baseline", "random"]
    click("per chunk")
    assert names() == ["image-baseline", "features-of-one-step", "masked-latent", "joint-diffusion", "random"]
    sorts = "return [...document.querySelectorAll('#methods th[aria-sort]')].map(e => e.getAttribute('aria-sort'))"
    assert opened.run(sorts) == ["ascending"]
    click("method")
    assert names() == sorted(LINEUP)


def test_tasks_give_way_to_tiers(opened):
    rows = "[...document.querySelectorAll('#by-task tbody tr')].filter(r => r.offsetHeight)"
    shown = f"return {rows}.map(r => r.cells[0].dataset.v)"
    assert opened.run(shown) == list(TASKS)
    opened.run("document.querySelector('input[name=rows][value=tier]').click()")
    assert opened.run(shown) == ["easy", "medium", "hard"]


def test_filters_hide_and_show_scenes(opened, template):
    count = "return [...document.querySelectorAll('.scene')].filter(s => s.offsetHeight).length"
    filmed = filmed_scenes(template[0])
    assert opened.run(count) == sum(scene.task == "push-block" for scene in filmed)

    def choose(selector: str, value: str) -> None:
        opened.run(
            f"const s = document.querySelector('{selector}'); s.value = '{value}'; s.dispatchEvent(new Event('change'))"
        )

    choose("#film-task", "insert-peg")
    assert opened.run(count) == sum(scene.task == "insert-peg" for scene in filmed)
    choose("#film-outcome", "pattern:differ")
    expected = sum(scene.task == "insert-peg" and scene.pattern == "differ" for scene in filmed)
    assert opened.run(count) == expected > 0
    assert opened.run("return document.querySelector('#film-count').textContent") == (
        f"{expected} of {len(filmed)} episodes"
    )
    choose("#film-task", "")
    first = next(iter(filmed[0].records))
    choose("#film-outcome", "missed:0")
    assert opened.run(count) == sum(not scene.records[first].success for scene in filmed)
    choose("#film-outcome", "")
    opened.run("document.querySelector('.chips input').click()")
    figures = (
        "return [...document.querySelectorAll('.scene figure')].filter(f => f.offsetHeight).map(f => f.dataset.method)"
    )
    assert set(opened.run(figures)) == {"1", "2", "3"}


def test_films_of_a_scene_play_together(opened):
    scroll_to(opened, "#films")
    scene = "document.querySelector('.scene')"
    videos = f"[...{scene}.querySelectorAll('video')]"
    opened.wait_for(f"return {videos}.every(v => v.readyState >= 3 && v.videoWidth > 80 && v.duration > 0.5)")
    assert opened.run(f"return {videos}.length") == 4
    opened.run(f"{scene}.querySelector('.play').click()")
    opened.wait_for(f"return {videos}.every(v => v.currentTime > 0.2)")
    times = opened.run(f"return {videos}.filter(v => !v.ended).map(v => v.currentTime)")
    assert max(times, default=0) - min(times, default=0) < 0.3
    opened.wait_for(f"return {videos}.every(v => v.ended)")
    opened.wait_for(f"return {scene}.querySelector('.play').innerText === 'Play again'")
    opened.run(f"const s = {scene}.querySelector('input'); s.value = 0.5; s.dispatchEvent(new Event('input'))")
    opened.wait_for(f"return {videos}.every(v => Math.abs(v.currentTime - 0.5) < 0.05)")


def test_only_films_in_sight_are_held_and_predictions_play(opened):
    scroll_to(opened, "#forecasts")
    opened.wait_for("return !document.querySelector('.scene video').hasAttribute('src')")
    videos = "[...document.querySelectorAll('.forecasts:not([hidden]) video')]"
    opened.wait_for(f"return {videos}.every(v => v.currentTime > 0.1)")
    assert opened.run(f"return {videos}.length") == 3
    assert opened.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_controls_are_reached_by_the_keyboard(opened):
    names = "button, select, input, a[href], summary"
    assert opened.run(
        f"return [...document.querySelectorAll('{names}')].every(e => e.tabIndex >= 0 && "
        "(e.innerText || e.getAttribute('aria-label') || e.labels?.length))"
    )


def test_a_page_without_films_says_how_to_get_them(browser, template, tmp_path):
    browser.open(write_page(template[0], tmp_path / "bare.html").as_uri())
    assert "Nothing has been filmed" in browser.run("return document.querySelector('#films').innerText")
    assert browser.log("browser") == []


def test_a_benchmark_of_which_nothing_was_measured(browser, template, tmp_path):
    empty = replace(template[0], entries=(), pairs=(), set_apart=(), warnings=(), detectable=None, fingerprint="")
    browser.open(write_page(empty, tmp_path / "empty.html").as_uri())
    sections = browser.run("return [...document.querySelectorAll('header[id], section[id]')].map(e => e.id)")
    assert sections == ["headline", "published", "protocol"]
    assert browser.log("browser") == []


def test_an_interval_of_seeds_and_an_ordinal_score_have_their_place(browser, template, tmp_path):
    first, *others = template[0].entries
    first = replace(
        first, seeds=(0, 1), seed_interval=Interval(0.5, 0.7), scores={"chain length": (2.31, Interval(2.1, 2.5))}
    )
    page = write_page(replace(template[0], entries=(first, *others)), tmp_path / "scores.html")
    browser.open(page.as_uri())
    text = browser.run("return document.querySelector('#methods').innerText")
    for said in ("2\N{NO-BREAK SPACE}seeds", "seeds 50\N{EN DASH}70", "chain length", "2.31", "2.10\N{EN DASH}2.50"):
        assert said in text
