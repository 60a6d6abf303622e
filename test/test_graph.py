# SPDX-License-Identifier: Apache-2.0
"""A graph from a file: what it may say, and that it comes up and goes down as one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('composition_interfaces.srv')

from components import Container, write_package
from processes import TIMEOUT
from std_msgs.msg import String
from videos import write_video
from world import LATEST, World

from trt_perception.ros.graph import GraphError, read_graph

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / 'graph.yaml'
        file.write_text(text)
        return file

    return write


# What it may say


def test_all_that_a_component_can_have(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / 'mine.yaml').touch()
    (first, second) = read_graph(
        write(
            """
            components:
            - plugin: a::B
              package: a
              name: eye
              namespace: front/left
              parameters: {n: 1, x: 0.5, on: true, text: '1', list: [a, b], front: {rate: 2}}
              params_file: mine.yaml
              remappings: {image: /camera/image_raw, ~/x: y}
              extra_arguments: {use_intra_process_comms: false}
              log_level: warn
            - plugin: B
        """.replace('on: true', '"on": true')
        )
    )
    assert {p.name: p.value for p in first.parameters} == {
        'n': 1, 'x': 0.5, 'on': True, 'text': '1', 'list': ['a', 'b'], 'front.rate': 2,
    }  # fmt: skip
    assert (first.plugin, first.package, first.name) == ('a::B', 'a', 'eye')
    assert first.namespace == '/front/left'
    assert first.params_file == str(tmp_path / 'mine.yaml')
    assert first.remappings == ('image:=/camera/image_raw', '~/x:=y')
    assert first.extra_arguments == {'use_intra_process_comms': False}
    assert first.log_level == 30
    assert (second.plugin, second.parameters, second.name) == ('B', (), '')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'empty is no graph; begin with components:'),
        ('[1]', 'a list is no graph'),
        ('components: {a: 1}', 'components: a mapping is not a list of components'),
        ('components: []', 'components: a list is not a list'),
        ('component: []', "'component' is not one of components; did you mean 'components'?"),
        ('components: [B]', 'components[0]: text is no component; give plugin: package::Class'),
        ('components: [{name: b}]', 'components[0] (b): plugin is missing'),
        ('components: [{plugin: 3}]', 'components[0] (3): plugin: 3 is a number'),
        ('components: [{plugin: B, nme: c}]', "'nme' is not one of"),
        ('components: [{plugin: B, nme: c}]', "did you mean 'name'?"),
        ('components: [{plugin: B, name: a-b}]', "name: 'a-b' is no name"),
        ('components: [{plugin: B, namespace: a b}]', "namespace: 'a b' is no namespace"),
        ('components: [{plugin: B, log_level: loud}]', "log_level: 'loud' is not one of debug"),
        ('components: [{plugin: B, log_level: [info]}]', "log_level: ['info'] is not one of debug"),
        ('components: [{plugin: 2026-13-99}]', 'cannot be read: month must be in 1..12'),
        ('components: [{plugin: B, remappings: [a]}]', 'remappings: a list; it has to be such as'),
        ('components: [{plugin: B, remappings: {a: 1}}]', 'remappings: 1 is a number'),
        ('components: [{plugin: B, parameters: 3}]', 'parameters: a number; it has to be'),
        ('components: [{plugin: B, parameters: {a: }}]', 'parameters: a is empty; give a value'),
        ('components: [{plugin: B, parameters: {a: []}}]', 'a is [], which has no type'),
        ('components: [{plugin: B, parameters: {a: [1, b]}}]', "a: [1, 'b'] is not a list of"),
        ('components: [{plugin: B, parameters: {a: [{}]}}]', 'is not a list of values of one'),
        ('components: [{plugin: B, parameters: {a: 2026-01-01}}]', 'a is date; give a value'),
        ('components: [{plugin: B, params_file: no.yaml}]', "no.yaml' is not a file"),
        ('components:\n- plugin: B\n  plugin: C', "line 3: 'plugin' is there twice"),
        ('components: [{plugin: B, name: a}, {plugin: B, name: a}]', "two are named '/a'"),
        ('components: [', 'cannot be read: while parsing'),
    ],
)
def test_mistakes(write: Callable[[str], Path], text: str, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        read_graph(write(text))
    assert words in str(caught.value) and '\n' not in str(caught.value)
    assert 'graph.yaml' in str(caught.value)


def test_the_documents_show_a_graph_that_can_be_read(write: Callable[[str], Path]) -> None:
    text = (ROOT / 'docs' / 'composition.md').read_text(encoding='utf-8')
    graphs = re.findall(r'```yaml\n(.*?)```', text, re.DOTALL)
    assert graphs
    for graph in graphs:
        assert read_graph(write(graph))


# As one


@pytest.fixture(scope='module')
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp('packages'))


@pytest.fixture
def run(world: World, hello: Path, write: Callable[[str], Path]) -> Iterator[Any]:
    """Start a container of a graph in YAML."""
    started: list[Container] = []

    def run(text: str, *arguments: str) -> Container:
        container = Container(world, hello, '--config', str(write(text)), *arguments)
        started.append(container)
        return container

    yield run
    for container in started:
        if container.process.poll() is None:
            container.kill()


def staged(name: str, **parameters: str) -> str:
    return f'- plugin: hello::Staged\n  name: {name}\n  parameters: {json.dumps(parameters)}\n'


def test_up_in_order_and_down_in_reverse(run: Any, world: World, tmp_path: Path) -> None:
    container = run(
        'components:\n' + staged('a') + '- plugin: hello::Talker\n' + staged('b')
        + '- plugin: hello::Staged\n  name: left_alone\n  parameters: {autostart: false}\n'
    )  # fmt: skip
    words = world.subscribe(String, 'words')
    container.until_says('/left_alone', 'running')
    world.until(lambda: words, 'words')
    assert list(container.nodes().values()) == ['/a', '/talker', '/b', '/left_alone']
    assert container.end(signal.SIGTERM)[0] == 0
    assert (tmp_path / 'notes').read_text().splitlines() == [
        'a made', 'a configured', 'a activated',
        'b made', 'b configured', 'b activated',
        'left_alone made', 'left_alone destroyed',
        'b deactivated', 'b cleaned up', 'b destroyed',
        'a deactivated', 'a cleaned up', 'a destroyed',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('last', 'words', 'notes'),
    [
        (staged('b', refuse='configured'), '/b: not configured', ['b made', 'b configured']),
        (staged('b', refuse='activated'), '/b: not activated',
         ['b made', 'b configured', 'b activated']),
        ('- plugin: hello::Fails\n', 'constructor raised RuntimeError: no such device', []),
    ],
)  # fmt: skip
def test_it_comes_up_as_a_whole_or_not_at_all(
    run: Any, tmp_path: Path, last: str, words: str, notes: list[str]
) -> None:
    code, said = run('components:\n' + staged('a') + last + '- plugin: hello::Talker\n').ended()
    assert code == 1 and words in said
    written = (tmp_path / 'notes').read_text().splitlines()
    assert written[:3] == ['a made', 'a configured', 'a activated']
    assert written[-3:] == ['a deactivated', 'a cleaned up', 'a destroyed']
    assert written[3 : 3 + len(notes)] == notes
    assert 'talker' not in said


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('components: [{plugin: hello::Talkr}]', "did you mean 'hello::Talker'?"),
        ('components: [{plugin: hello::Talker, extra_arguments: {x: true}}]', "'x' is not supp"),
        ('components: 3', 'is not a list'),
    ],
)
def test_a_mistake_ends_it_with_one_line(run: Any, text: str, words: str) -> None:
    code, said = run(text).ended()
    (line,) = said.splitlines()
    assert code == 2 and line.startswith('error: ') and words in line


@pytest.mark.parametrize(
    'wrong', [['--ros-args', '--params-file', 'absent.yaml'], ['--ros-args', '-r', '__node:=a-b']]
)
def test_wrong_ros_arguments_end_it_with_one_line(run: Any, wrong: list[str]) -> None:
    code, said = run('components: [{plugin: hello::Talker}]', *wrong).ended()
    assert code == 2, said
    assert sum(line.startswith('error: ') for line in said.splitlines()) == 1
    assert 'Traceback' not in said


def test_it_ends_when_all_have_ended(run: Any, tmp_path: Path) -> None:
    """With a recording of all that was played; the paths are relative to the file."""
    write_video(tmp_path / 'drive.mp4', 10)
    code, said = run("""
        components:
        - plugin: trt_perception::RecorderNode
          parameters: {output: kept, idle_timeout: 1.0}
        - plugin: trt_perception::PlayerNode
          parameters: {input: drive.mp4, rate: 20.0, wait_for_subscribers: 1}
    """).ended()
    assert code == 0, said
    frames = json.loads((tmp_path / 'kept' / 'summary.json').read_text())['frames']
    assert (frames['received'], frames['lost']) == (10, 0)


def test_one_that_fails_is_in_the_exit_code(run: Any, world: World) -> None:
    container = run(
        'components:\n- plugin: hello::Raises\n  name: raiser\n- plugin: hello::Talker\n'
    )
    end = world.node.create_publisher(String, 'end', LATEST)
    words = world.subscribe(String, 'words')
    container.until_says('/talker', 'running')
    end.publish(String(data='raise'))
    container.until_says('/raiser', 'ValueError')
    already = len(words)
    world.until(lambda: len(words) > already + 5, 'the other goes on')
    code, said = container.end()
    assert code == 1
    assert 'in fail' in said  # where, for who has to mend it


def test_one_that_shuts_ros_down_ends_all_and_is_blamed(run: Any, world: World) -> None:
    container = run('components: [{plugin: hello::Raises, name: raiser}, {plugin: hello::Staged}]')
    end = world.node.create_publisher(String, 'end', LATEST)
    container.until_says('/staged', 'running')
    end.publish(String(data='shutdown'))
    code, said = container.ended()
    assert code == 1
    assert 'error: a component has called rclpy.shutdown(), which ends all' in said


def test_help() -> None:
    done = subprocess.run(
        [sys.executable, '-c', 'from trt_perception.nodes.main import *; perception_container()',
         '--help'],
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0
    for words in ('--config', 'plugin: trt_perception::DetectorNode', 'autostart', 'exit code'):
        assert words in done.stdout
