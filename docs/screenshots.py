"""The pictures of README and documents, taken anew: `.venv/bin/python docs/screenshots.py [FOLDER]`, soon after `make run`.

Belongs here: which page at which size makes which picture. Does not belong here: making the demo (`make run`).

With `make dev` running beside it and ROUTING_PIPELINE_DAGSTER_URL set to its address, pictures of the Dagster UI as well. Needs chromium and the packages of the tests, whose browser it is.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from browser import opened, running  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402

from routing_pipeline.parameters import Parameters  # noqa: E402
from routing_pipeline.serving.dashboard.app import serve  # noqa: E402
from routing_pipeline.serving.dashboard.data import Follower  # noqa: E402
from routing_pipeline.storage.home import Home  # noqa: E402

DEMO = Path("demo")
"""As `make run` names it, so that a picture holds no path of this machine."""
PAGE = (1180, 1440)
LIVE = (1280, 1000)
GRAPH = (1180, 470)
DAGSTER = (1400, 800)
DAGSTER_PAGES = {
    "dagster-checks.png": "assets/analysis_scope?view=checks",
    "dagster-metadata.png": "assets/routing_costs?view=events",
    "dagster-days.png": "assets/request_log_days?view=partitions",
    "dagster-run.png": "runs",
}
LARGER = 4
"""Turns of the wheel after which the graph is as wide as the page."""


LEFT_OF_IT = 58
"""Pixels from the words of one button to the middle of the one before it."""


def taken(folder: Path) -> list[Path]:
    """Page one of the demo's report, the live page on its home, and pages of the Dagster UI where it runs."""
    os.chdir(ROOT)
    report = DEMO / "report" / "report.html"
    if not report.exists():
        raise SystemExit("make run first: it makes the report that is shown")
    ready: Queue[str] = Queue()
    follower = Follower(Home(DEMO / "home").create(), Parameters())
    threading.Thread(target=lambda: serve(follower, "127.0.0.1", 0, token=None, ready=ready.put), daemon=True).start()
    pages = {"report.png": (report.absolute().as_uri(), PAGE), "live-page.png": (ready.get(timeout=120), LIVE)}
    with running() as browser:
        for name, (address, size) in pages.items():
            with opened(browser, address, size=size) as found:
                if name == "live-page.png":
                    found.page.locator("[data-figure=quality]").wait_for(timeout=120_000)
                    found.page.locator("#rules ~ *", has_text="Promised").first.wait_for(timeout=120_000)
                found.page.wait_for_timeout(3_000)
                found.page.screenshot(path=folder / name)
        if dagster := os.environ.get("ROUTING_PIPELINE_DAGSTER_URL"):
            pages["dagster.png"] = (dagster, GRAPH)
            graph_of(browser, dagster, folder / "dagster.png")
            for name, path in DAGSTER_PAGES.items():
                pages[name] = (f"{dagster}/{path}", DAGSTER)
                with opened(browser, pages[name][0], size=DAGSTER) as found:
                    if path == "runs":
                        # The newest run, by its short id, on a page of its own; the button before this one gives its steps the whole of it.
                        found.page.locator("a[href*='/runs/']").first.click()
                        again = found.page.get_by_text("Re-execute all")
                        again.wait_for()
                        box = again.bounding_box()
                        if box is not None:
                            found.page.mouse.click(box["x"] - LEFT_OF_IT, box["y"] + box["height"] / 2)
                    found.page.wait_for_timeout(8_000)
                    found.page.screenshot(path=folder / name)
    return [folder / name for name in pages]


def graph_of(browser: Browser, dagster: str, path: Path) -> None:
    """All groups of assets with nothing beside them, so large that their names can be read."""
    with opened(browser, f"{dagster}/asset-groups", size=GRAPH) as found:
        page = found.page
        page.get_by_text("recommendation").first.wait_for()
        page.wait_for_timeout(2_000)
        page.get_by_text("Hide navigation").click()
        page.wait_for_timeout(1_000)
        listed = page.get_by_placeholder("Jump to…").bounding_box()
        if listed is None:
            raise SystemExit(f"{dagster}: the page of the asset graph is not what it was")
        # The button beside it folds the list of groups away.
        page.mouse.click(listed["x"] + listed["width"] + 24, listed["y"] + listed["height"] / 2)
        page.wait_for_timeout(1_000)
        page.mouse.move(90, 300)
        page.keyboard.down("Control")
        for _ in range(LARGER):
            page.mouse.wheel(0, -60)
            page.wait_for_timeout(200)
        page.keyboard.up("Control")
        page.mouse.wheel(0, -50)
        page.wait_for_timeout(1_000)
        page.screenshot(path=path)


if __name__ == "__main__":
    for path in taken(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else ROOT / "docs" / "images"):
        sys.stdout.write(f"{path}\n")
