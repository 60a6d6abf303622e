# SPDX-License-Identifier: Apache-2.0
"""The pages of a long recording: how large they are, how long they take to make and to open.

Two replays of so many frames are written, whose objects come and go and of which the second loses,
moves and re-scores some; then their pages are made, with pictures of 1080p. Chromium (driven by
chromedriver) opens each page several times, from a file, and tells by its own clock (performance
timing) when it was loaded and when the first of it was drawn.

  nice python3 benchmarks/pages.py --video drive.mp4 --frames 18000 --json pages.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'test')]

SIZE = (1920, 1080)
CLASSES = 20
START = 1_700_000_000 * 1_000_000_000

_ASK = """
const paint = performance.getEntriesByName('first-contentful-paint')[0];
const {loadEventEnd} = performance.getEntriesByType('navigation')[0];
return paint && loadEventEnd ? {load: loadEventEnd, paint: paint.startTime} : null;
"""


def write_replays(folder: Path, frames: int) -> tuple[Path, Path]:
    """Two folders as a replay leaves them."""
    from trt_perception.core import Detections, Stamp
    from trt_perception.core.labels import COCO
    from trt_perception.replay.replay import spreads
    from trt_perception.replay.result import STAGES, ResultWriter, SeenFrame

    random = np.random.default_rng(0)
    topic = '/camera/image_raw'
    paths = folder / 'before', folder / 'after'
    for side, path in enumerate(paths):
        with ResultWriter(path, {topic: '/camera/detections'}, COCO[:CLASSES]) as writer:
            for k in range(frames):
                there = np.random.default_rng(k // 90)  # the same objects for three seconds
                number = int(there.integers(2, 20))
                boxes = np.column_stack(
                    (there.uniform(0, 1700, number), there.uniform(0, 900, number))
                )
                sizes = np.exp(there.uniform(np.log(12), np.log(200), (number, 2)))
                ids = np.minimum(there.geometric(0.25, number) - 1, CLASSES - 1)
                scores = there.uniform(0.3, 0.95, number)
                kept = random.random(number) > 0.02
                boxes += random.normal(0, 0.5 + side, boxes.shape)
                scores = np.clip(scores + random.normal(0, 0.02, number), 0.25, 1)
                found = Detections(
                    np.hstack((boxes, boxes + sizes))[kept].astype(np.float32),
                    scores[kept].astype(np.float32), ids[kept].astype(np.int32),
                )  # fmt: skip
                ms = 8 + random.gamma(2, 0.6 + 0.3 * side) + 30 * (random.random() < 0.002)
                at = START + k * 33_333_333
                times = dict(zip(STAGES, (2, 1, ms, 0.5, ms + 3.5), strict=True))
                writer.add(SeenFrame(topic, Stamp.of(at), at, found, SIZE, times))
            writer.finish(_summary(topic, frames, spreads(writer.times())))
    return paths


def _summary(topic: str, frames: int, latency: Any) -> dict[str, Any]:
    file = {'path': 'nowhere', 'sha256': '0' * 64, 'files': []}
    camera = {'frames': {'rejected': {}, 'looked_at': frames}, 'rejected_because': {}, 'stamps': {},
              'detections': {}, 'detections_topic': '/camera/detections'}  # fmt: skip
    return {
        'date': '', 'bag': file, 'model': file, 'backend': '', 'precision': '', 'device': '',
        'selection': {'score_threshold': 0.25}, 'machine': {'system': ''}, 'versions': {},
        'complete': True, 'damage': [], 'frames': frames, 'frames_per_second': 0.0,
        'latency_ms': latency, 'cameras': {topic: camera},
    }  # fmt: skip


def picture(video: Path) -> bytes:
    """A frame of a video as a camera of 1080p would have it."""
    from trt_perception.build.report.pictures import plain
    from trt_perception.core import Frame
    from trt_perception.replay.sources import open_source

    _, frame = next(iter(open_source(video).frames()))
    large = cv2.resize(frame.pixels(), SIZE, interpolation=cv2.INTER_CUBIC)
    return plain(Frame.from_array(large))


def make_pages(folder: Path, paths: tuple[Path, Path], jpeg: bytes) -> dict[str, dict[str, float]]:
    """Seconds and bytes of each."""
    from trt_perception.build.report.comparison import WORST, ComparisonPage
    from trt_perception.build.report.replay import ReplayPage
    from trt_perception.replay.comparison import Rules
    from trt_perception.replay.matching import compare, paired
    from trt_perception.replay.result import open_result

    def replay_page() -> str:
        page = ReplayPage(open_result(paths[0]))
        return page.to_html(dict.fromkeys(range(len(page.wanted)), jpeg))

    def comparison_page() -> str:
        first, second = (open_result(path) for path in paths)
        comparison = compare(
            paired(first.frames(), second.frames()), (first.class_names, second.class_names),
            ('before', 'after'), Rules(),
        )  # fmt: skip
        images = dict.fromkeys(comparison.worst(WORST), jpeg)
        return ComparisonPage(comparison, [], [], images).to_html()

    figures = {}
    for name, make in (('report', replay_page), ('comparison', comparison_page)):
        begun = time.perf_counter()
        html = make()
        seconds = time.perf_counter() - begun
        file = folder / f'{name}.html'
        file.write_text(html, encoding='utf-8')
        figures[name] = {'seconds': round(seconds, 2), 'bytes': file.stat().st_size}
    return figures


class Browser:
    """A Chromium that chromedriver drives, by WebDriver (https://www.w3.org/TR/webdriver2)."""

    def __init__(self, browser: str, driver: str) -> None:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self._process = subprocess.Popen([driver, f'--port={port}', '--silent'])
        self._url = f'http://127.0.0.1:{port}/session'
        options = {
            'binary': browser,
            'args': ['--headless=new', '--no-sandbox', '--disable-gpu', '--window-size=1200,900'],
        }
        wanted = {'capabilities': {'alwaysMatch': {'goog:chromeOptions': options}}}
        for _ in range(100):  # until it listens
            with contextlib.suppress(urllib.error.URLError):
                self._url += '/' + self._ask('', wanted)['sessionId']
                break
            time.sleep(0.1)

    def _ask(self, what: str, told: Any, method: str = 'POST') -> Any:
        request = urllib.request.Request(
            self._url + what, json.dumps(told).encode(), {'Content-Type': 'application/json'},
            method=method,
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)['value']

    def opened(self, page: Path) -> dict[str, float]:
        """Milliseconds from asking for a page until it was loaded, and until some was drawn."""
        self._ask('/url', {'url': 'about:blank'})
        self._ask('/url', {'url': f'file://{page}'})
        while (told := self._ask('/execute/sync', {'script': _ASK, 'args': []})) is None:
            time.sleep(0.05)
        return dict(told)

    def close(self) -> None:
        """End both."""
        self._ask('', {}, 'DELETE')
        self._process.terminate()
        self._process.wait()


def main() -> None:
    """Print a table, and write JSON where that is asked for."""
    from browser import NAMES, find_browser

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--video', type=Path, required=True, metavar='FILE')
    parser.add_argument('--frames', type=int, default=18_000, metavar='N')
    parser.add_argument('--times', type=int, default=5, metavar='N', help='each page is opened')
    parser.add_argument('--folder', type=Path, metavar='DIR', help='keep the pages there')
    parser.add_argument('--json', type=Path, metavar='FILE')
    arguments = parser.parse_args()
    browser, driver = find_browser(), shutil.which('chromedriver')
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        paths = write_replays(folder, arguments.frames)
        figures: dict[str, Any] = make_pages(folder, paths, picture(arguments.video))
        if browser and driver:
            window = Browser(browser, driver)
            for name, figure in figures.items():
                runs = [window.opened(folder / f'{name}.html') for _ in range(arguments.times)]
                for what in ('load', 'paint'):
                    figure[f'{what}_ms'] = round(statistics.median(run[what] for run in runs), 1)
                    figure[f'most_{what}_ms'] = round(max(run[what] for run in runs), 1)
            window.close()
        else:
            print(f'not opened: that needs chromedriver and one of {", ".join(NAMES)}')
    print(f'{arguments.frames} frames')
    for name, figure in figures.items():
        print(f'{name}: made in {figure["seconds"]} s, {figure["bytes"] / 1e6:.2f} MB')
        for what in ('load', 'paint') if 'load_ms' in figure else ():
            median, most = figure[f'{what}_ms'], figure[f'most_{what}_ms']
            print(f'  {what} after {median:.0f} ms, at most {most:.0f} ms')
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
