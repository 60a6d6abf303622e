# SPDX-License-Identifier: Apache-2.0
"""Figures for Prometheus: the text, the server and whom it puts up with, and a detector's."""

from __future__ import annotations

import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

import numpy as np
import pytest

from trt_perception.health.prometheus import (
    CONTENT_TYPE,
    PATIENCE,
    Family,
    MetricsError,
    MetricsServer,
    exposition,
)

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Figures:
    """The figures of a text, which must be as the format wants it."""
    figures: Figures = {}
    kinds: dict[str, str] = {}
    seen = []
    for line in text.splitlines():
        if found := re.fullmatch(r'# TYPE (\w+) (counter|gauge|summary)', line):
            assert found[1] not in kinds, 'a family is told of once'
            kinds[found[1]] = found[2]
            continue
        if line.startswith('# HELP '):
            continue
        sample = re.fullmatch(r'([a-z_]+)(?:\{(.*)\})? (\S+)', line)
        assert sample, line
        family = next(k for k in (sample[1], re.sub('_(sum|count)$', '', sample[1])) if k in kinds)
        assert not seen or seen[-1] == family or family not in seen, 'a family stands together'
        seen.append(family)
        assert (kinds[family] == 'counter') == sample[1].endswith('_total')
        pairs = re.findall(r'(\w+)="((?:[^"\\\n]|\\[\\"n])*)"', sample[2] or '')
        assert ','.join(f'{k}="{v}"' for k, v in pairs) == (sample[2] or '')
        key = sample[1], frozenset(pairs)
        assert key not in figures
        figures[key] = float(sample[3])
    return figures


def get(url: str, method: str = 'GET') -> str:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
        assert answer.headers['Content-Type'] == CONTENT_TYPE
        return str(answer.read().decode())


def one() -> list[Family]:
    family = Family('things_total', 'counter', 'Things.')
    family.add(3)
    return [family]


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer('127.0.0.1', 0, one)
    yield server
    server.close()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(('127.0.0.1', server.port), timeout=30)


# The text


def test_the_text() -> None:
    family = Family('a_total', 'counter', 'One\\two\nthree.')
    family.add(7)
    family.add(np.int64(2), path='C:\\x "y"\nz', camera='')
    summary = Family('b_seconds', 'summary', 'Time.')
    summary.add(np.float64(0.25), quantile='0.5')
    summary.add(1.5, '_sum')
    summary.add(True, '_count')
    assert exposition([family, Family('none', 'gauge', 'Left out.'), summary]) == (
        '# HELP a_total One\\\\two\\nthree.\n'
        '# TYPE a_total counter\n'
        'a_total 7\n'
        'a_total{path="C:\\\\x \\"y\\"\\nz",camera=""} 2\n'
        '# HELP b_seconds Time.\n'
        '# TYPE b_seconds summary\n'
        'b_seconds{quantile="0.5"} 0.25\n'
        'b_seconds_sum 1.5\n'
        'b_seconds_count 1\n'
    )
    assert exposition([]) == ''
    bad = Family('no name', 'gauge', '')
    bad.add(1)
    with pytest.raises(ValueError, match='no name of a metric'):
        exposition([bad])


# The server


def test_get_and_head(server: MetricsServer) -> None:
    assert get(server.url) == '# HELP things_total Things.\n# TYPE things_total counter\n' + (
        'things_total 3\n'
    )
    assert get(f'{server.url}?x=1').endswith('things_total 3\n')
    assert get(server.url, 'HEAD') == ''


@pytest.mark.parametrize(
    ('path', 'method', 'status'),
    [('/', 'GET', 404), ('/metrics/../x', 'GET', 404), ('/metrics', 'POST', 501)],
)
def test_anything_else_is_refused(
    server: MetricsServer, path: str, method: str, status: int
) -> None:
    with pytest.raises(HTTPError) as refused:
        get(server.url.removesuffix('/metrics') + path, method)
    assert refused.value.code == status


def test_what_cannot_be_collected_is_told_and_the_next_one_may() -> None:
    causes = [ValueError('not\nnow')]

    def collect() -> list[Family]:
        if causes:
            raise causes.pop()
        return one()

    server = MetricsServer('127.0.0.1', 0, collect)
    try:
        with pytest.raises(HTTPError) as failed:
            get(server.url)
        assert (failed.value.code, failed.value.read()) == (500, b'ValueError: not now\n')
        assert 'things_total 3' in get(server.url)
    finally:
        server.close()


def test_bad_clients_are_cut_off(server: MetricsServer, capfd: pytest.CaptureFixture[str]) -> None:
    """One that says nothing, one that drips, one that babbles, one that leaves in the middle."""
    silent, leaving, babbling = (connect(server) for _ in range(3))
    leaving.sendall(b'GET /metrics HTT')
    leaving.close()
    babbling.sendall(b'\x16\x03\x01' + bytes(range(256)) * 300)
    dripping = connect(server)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(PATIENCE / 10):
            try:
                dripping.sendall(b'X-Slow: ')
            except OSError:
                stop.set()

    dripping.sendall(b'GET /metrics HTTP/1.1\r\n')
    thread = threading.Thread(target=drip)
    thread.start()
    assert 'things_total 3' in get(server.url)
    thread.join()  # it was not let go on
    for client in (silent, babbling, dripping):
        client.close()
    assert capfd.readouterr() == ('', '')


def test_the_port_is_free_again_at_once() -> None:
    port = 0
    for _ in range(3):
        server = MetricsServer('127.0.0.1', port, one)
        port = server.port
        waiting = connect(server)  # one that says nothing does not hold it up
        waiting.sendall(b'GET')
        time.sleep(0.05)
        server.close()
        waiting.close()
        with pytest.raises(URLError):
            get(server.url)


def test_addresses(server: MetricsServer) -> None:
    with pytest.raises(
        MetricsError, match=f'metrics_port {server.port} cannot be had on 127.0.0.1'
    ):
        MetricsServer('127.0.0.1', server.port, one)
    with pytest.raises(MetricsError, match="metrics_address 'localhost' is no address in numbers"):
        MetricsServer('localhost', 0, one)
    with pytest.raises(MetricsError, match=r'cannot be had on 192\.0\.2\.1'):  # nobody's, RFC 5737
        MetricsServer('192.0.2.1', 0, one)


# A detector's


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        return int(taken.getsockname()[1])


def test_a_detector_tells_what_diagnostics_tell(world, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from models import constant_detector
    from world import Camera, Robot, picture

    from trt_perception import __version__

    model = constant_detector(tmp_path / 'm.onnx')
    port = free_port()
    told = {'metrics_port': port, 'policy.enabled': True}
    robot = Robot(world, model, **told).until_active()
    url = f'http://127.0.0.1:{port}/metrics'
    silent = socket.create_connection(('127.0.0.1', port))
    camera = Camera(world).until_heard()
    for number in range(3):
        robot.answer(camera, picture(number))
    wrong = picture(9)
    wrong.encoding = 'rgb99'
    camera.send(wrong)
    counts = robot.until_counted(received=4)
    figures = parsed(get(url))
    assert robot.counts() == counts  # the detector is not disturbed
    silent.close()

    def figure(name: str, **labels: str) -> float:
        wanted = {'node': '/detector', **labels}
        return figures[f'trt_perception_{name}', frozenset(wanted.items())]

    assert figure('images_received_total', camera='') == 4
    for fate in ('published', 'dropped', 'rejected', 'failed'):
        assert figure('images_total', camera='', fate=fate) == counts[fate]
    assert figure('images_rejected_total', camera='', cause='encoding') == 1
    for stage in ('queue', 'preprocess', 'infer', 'decode', 'publish', 'total'):
        assert figure('latency_seconds_count', camera='', stage=stage) == counts['published']
        half, most = (
            figure('latency_seconds', camera='', stage=stage, quantile=q) for q in ('0.5', '0.99')
        )
        assert 0 <= half <= most
    assert figure('latency_seconds_sum', camera='', stage='total') > 0
    assert figure('active') == 1
    assert figure('status', task='inference') in (0, 1, 2, 3)
    assert figure('status', task='board') in (0, 1, 2, 3)
    assert figure('status', task='policy') in (0, 1, 2, 3)
    assert figure('policy_level') in (0, 1, 2, 3)
    assert 0 <= figure('policy_share_ratio', camera='') <= 1
    (info,) = [dict(labels) for name, labels in figures if name == 'trt_perception_info']
    assert info['version'] == __version__ and info['backend'].startswith('ONNX Runtime')

    assert robot.change('deactivate') and robot.change('cleanup')
    with pytest.raises(URLError):
        get(url)
    assert robot.change('configure')  # the port can be had again
    assert ('trt_perception_active', frozenset({('node', '/detector')})) in parsed(get(url))

    # What is not told of any more is not served as it was then.
    for cameras in (['front', 'rear'], ['rear']):
        assert robot.change('cleanup')
        assert robot.set(cameras=cameras, board=cameras == ['front', 'rear']) == ''
        assert robot.change('configure')
        robot.next_status()
        tasks = {
            dict(labels)['task'] for name, labels in parsed(get(url)) if name.endswith('_status')
        }
        assert tasks - {'board'} == {'inference', 'device gpu', 'policy', *cameras}
    assert 'board' not in tasks


def test_what_a_board_tells(tmp_path: Path) -> None:
    from sysfs_trees import AGX_ORIN_JETPACK_7, Tree

    from trt_perception.health.observer import Observer
    from trt_perception.nodes.metrics import of_board
    from trt_perception.runtime.sensors import Sensors

    tree = Tree(tmp_path, *AGX_ORIN_JETPACK_7)
    reading = Observer(Sensors((), tree.root)).read()
    tree.close()
    figures = parsed(exposition(of_board('/d', reading)))

    def figure(name: str, **labels: str) -> float:
        wanted = {'node': '/d', **labels}
        return figures[f'trt_perception_board_{name}', frozenset(wanted.items())]

    assert figure('temperature_celsius', zone='gpu') == 63.125
    assert figure('margin_celsius', zone='gpu') == 99 - 63.125
    assert figure('throttled') == 0
    assert figure('clock_hertz', clock='gpu') == 612e6
    assert figure('load_ratio', clock='gpu') == 0.873
    assert figure('power_watts', rail='vdd_gpu_soc') == pytest.approx(19.7 * 0.6)
    assert figure('over_current_events_total', counter='oc1') == 0
    assert exposition(of_board('/d', None)) == ''


def test_no_port_is_opened_unasked_and_a_taken_one_is_told(world, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from models import constant_detector
    from world import Robot

    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        model = constant_detector(tmp_path / 'm.onnx')
        robot = Robot(world, model, metrics_port=port)
        said = f'not configured: metrics_port {port} cannot be had on 127.0.0.1: Address already in'
        robot.until_says(lambda s: s.message.startswith(said), said)
        assert robot.state() == 'unconfigured'
        assert not any(thread.name == 'metrics' for thread in threading.enumerate())
        assert robot.set(metrics_port=0) == ''
        assert robot.change('configure')
        assert not any(thread.name == 'metrics' for thread in threading.enumerate())
