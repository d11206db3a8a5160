"""A page in headless Chromium, served from this machine: what it asks for, and what the browser has to say."""

import html
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(address of `folder` on this machine, the paths that were asked for)."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_LOOK = """<!doctype html><iframe id="page" src="report.html" style="width:%dpx;height:900px"></iframe><script>
document.getElementById("page").onload = function () {
  const page = this.contentDocument;
  const seen = [...page.querySelectorAll("svg")].map(function (svg) {
    const box = svg.getBoundingClientRect(), shape = svg.querySelector("path, use").getBoundingClientRect();
    return [svg.getAttribute("aria-label"), box.width, box.height, shape.width + shape.height];
  });
  document.body.textContent = "SEEN" + JSON.stringify([page.documentElement.scrollWidth, seen]) + "END";
};</script>"""


def figures_seen(folder: Path, profile: Path, width: int) -> tuple[int, list[list[Any]]]:
    """(how wide `report.html` of `folder` is at a window of `width`, and label, width, height and size of something drawn of each
    figure), in pixels."""
    assert CHROMIUM is not None
    (folder / "look.html").write_text(_LOOK % width)
    with served(folder) as (address, _):
        switches = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=10000",
        ]
        command = [CHROMIUM, *switches, "--dump-dom", f"{address}/look.html"]
        page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    (folder / "look.html").unlink()
    page_width, seen = json.loads(html.unescape(page.partition("SEEN")[2].partition("END")[0]))
    return page_width, seen


def browse(address: str, profile: Path, *options: str) -> str:
    """What Chromium says on its console while it shows `address`."""
    assert CHROMIUM is not None
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr"]
    command = [CHROMIUM, *switches, f"--user-data-dir={profile}", *options, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
