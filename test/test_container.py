# SPDX-License-Identifier: Apache-2.0
"""The container as launch and ``ros2 component`` use it: a process, real components, real DDS."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('composition_interfaces.srv')

import rclpy
from components import Container, write_package
from diagnostic_msgs.msg import DiagnosticStatus
from processes import SHM, TIMEOUT, orphans, watch
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray
from world import LATEST, Camera, World, classes, picture, values

from trt_perception.ros.components import ComponentError, Maker, Wanted, find
from trt_perception.ros.domain import free_domain
from trt_perception.ros.executor import GuardedExecutor


@pytest.fixture(scope='module')
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp('packages'))


@pytest.fixture(scope='module', params=['perception_container', 'perception_container_mt'])
def container(request: pytest.FixtureRequest, hello: Path) -> Iterator[Container]:
    """One of each kind for all tests, which must have ended well after all of them."""
    with free_domain() as domain:
        world = World(domain)
        container = Container(world, hello, executable=request.param)
        yield container
        code, said = container.end()
        world.close()
        assert code == 0, said
        assert 'never retrieved' not in said, said


def heard(container: Container, topic: str) -> list[String]:
    words = container.world.subscribe(String, topic)
    container.world.until(lambda: words, topic)
    return words


def until_more(container: Container, words: list[String], number: int = 5) -> None:
    already = len(words)
    container.world.until(lambda: len(words) >= already + number, 'more words')


# What is asked for is honoured


def test_names_parameters_and_remappings(container: Container) -> None:
    given = {
        'yes': True, 'number': 7, 'real': 0.5, 'text': 'on', 'yeses': [True, False],
        'numbers': [1, 2], 'reals': [1.5, 2.0], 'texts': ['a', 'no'], 'bytes': [b'x', b'y'],
    }  # fmt: skip
    response = container.load(
        'hello::Talker',
        node_name='front_talker',
        node_namespace='/robot',
        remap_rules=['words:=/said', 'nothing:=else'],
        parameters=given,
    )
    assert (response.success, response.error_message) == (True, '')
    assert response.full_node_name == '/robot/front_talker'
    assert container.nodes()[response.unique_id] == '/robot/front_talker'
    assert heard(container, '/said')[0].data == repr(list(given.values()))
    assert container.unload(response.unique_id).success
    assert response.unique_id not in container.nodes()
    container.world.until(lambda: not container.world.node.count_publishers('/said'), 'its end')


@pytest.mark.parametrize(
    ('package', 'plugin', 'name'),
    [
        ('hello', 'Talker', '/talker'),
        ('', 'hello::Talker', '/talker'),
        ('hello', 'hello::Bare', '/talker'),
        ('', 'Raises', '/talker'),
        ('trt_perception', 'trt_perception::DetectorNode', '/detector'),
    ],
)
def test_plugins(container: Container, package: str, plugin: str, name: str) -> None:
    response = container.load(plugin, package=package)
    assert response.success, response.error_message
    assert response.full_node_name == name
    assert container.unload(response.unique_id).success


def test_two_of_one_name_are_warned_of(container: Container) -> None:
    log = container.world.log()
    twins = [container.load('Talker', node_name='twin').unique_id for _ in range(2)]
    container.world.until(
        lambda: any('there are 2 components /twin' in line.msg for line in list(log)), 'a warning'
    )
    assert all(container.unload(number).success for number in twins)


def test_extra_arguments(container: Container) -> None:
    response = container.load(
        'Talker',
        node_name='quiet',
        log_level=10,
        extra_arguments={
            'use_intra_process_comms': True, 'enable_rosout': False,
            'forward_global_arguments': False, 'start_parameter_services': False,
            'start_parameter_event_publisher': True, 'enable_topic_statistics': False,
        },
    )  # fmt: skip
    assert response.success, response.error_message
    client = container.world.node.create_client(GetParameters, '/quiet/get_parameters')
    assert not client.wait_for_service(0.0)
    assert not [
        i for i in container.world.node.get_publishers_info_by_topic('/rosout')
        if i.node_name == 'quiet'
    ]  # fmt: skip
    assert container.unload(response.unique_id).success


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        ({'plugin': 'hello::Talkr'}, "no component 'hello::Talkr'"),
        ({'plugin': 'hello::Talkr'}, "did you mean 'hello::Talker'?"),
        ({'plugin': 'x::Y', 'package': 'x'}, "no component 'x::Y' in the entry-point group"),
        ({'plugin': 'Broken'}, "hello_that_is_not_there:Broken cannot be imported"),
        ({'plugin': 'Missing'}, 'hello:Missing cannot be imported'),
        ({'plugin': 'Plain'}, 'Plain makes a Plain, which is no node'),
        ({'plugin': 'Strict'}, 'raised TypeError'),
        ({'plugin': 'Fails'}, 'constructor raised RuntimeError: no such device'),
        ({'plugin': 'Exits'}, 'constructor called sys.exit(not on this robot)'),
        ({'plugin': 'Talker', 'remap_rules': ['a b']}, 'constructor raised'),
        ({'plugin': 'Talker', 'node_name': 'no-name'}, 'constructor raised'),
        ({'plugin': 'Talker', 'log_level': 15}, 'log_level: 15 is not one of 10 debug'),
        ({'plugin': 'Talker', 'parameters': {'number': 'one'}}, 'constructor raised'),
        ({'plugin': 'Talker', 'extra_arguments': {'enable_rosot': True}},
         "extra argument 'enable_rosot' is not supported; did you mean 'enable_rosout'?"),
        ({'plugin': 'Talker', 'extra_arguments': {'enable_rosout': 1}},
         "'enable_rosout' must be true or false, not 1"),
        ({'plugin': 'Talker', 'extra_arguments': {'enable_topic_statistics': True}},
         'rclpy knows it as false only'),
        ({'plugin': 'DetectorNode', 'package': 'trt_perception',
          'parameters': {'score_threshold': 2.0}}, 'score_threshold: 2.0 is not in 0 to 1'),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded(container: Container, wrong: dict[str, Any], words: str) -> None:
    """One line to who asked, an error on diagnostics, and nothing is left of it in the graph."""
    before = container.nodes()
    response = container.load(**wrong)
    assert not response.success and response.unique_id == 0
    assert words in response.error_message and '\n' not in response.error_message
    container.world.until(lambda: words in container.status().message, 'diagnostics')
    assert container.status().level == DiagnosticStatus.ERROR
    assert container.nodes() == before
    names = {'fails', 'exits', 'no_name'}
    container.world.until(lambda: not names & set(container.world.node.get_node_names()), 'gone')
    assert container.world.node.count_publishers('never') == 0


def test_unknown_numbers(container: Container) -> None:
    response = container.unload(999)
    assert not response.success
    assert response.error_message.startswith('no component 999; there are ')


# One goes, the others stay


@pytest.mark.parametrize(
    ('how', 'told'),
    [
        ('raise', 'a callback raised ValueError: no more words'),
        ('exit', 'a callback called sys.exit(7)'),
        ('finish', 'ended with exit code 3'),
    ],
)
def test_a_component_ends_and_takes_nothing_with_it(
    container: Container, how: str, told: str
) -> None:
    world = container.world
    stays = container.load('Talker', node_name='stays', remap_rules=['words:=stays'])
    goes = container.load('Raises', node_name='goes', remap_rules=['words:=goes'])
    assert stays.success and goes.success
    words, last_words = heard(container, 'stays'), heard(container, 'goes')
    end = world.node.create_publisher(String, 'end', LATEST)
    end.publish(String(data=how))
    container.until_says('/goes', told)
    assert container.status().level == DiagnosticStatus.ERROR
    world.until(lambda: not world.node.count_publishers('goes'), 'it is gone')
    assert goes.unique_id not in container.nodes()
    assert last_words
    until_more(container, words)
    assert values(container.status())['/stays'] == 'running'
    # Unloading tells how it ended, and forgets it.
    response = container.unload(goes.unique_id)
    assert response.success == (how == 'finish')
    assert told in response.error_message or response.success
    assert container.unload(goes.unique_id).error_message.startswith('no component')
    # It can be had again, and the other's turn comes too.
    world.node.destroy_publisher(end)
    again = container.load('Raises', node_name='goes')
    assert again.success
    for number in (again.unique_id, stays.unique_id):
        assert container.unload(number).success


def test_a_callback_that_hangs_holds_up_no_other(container: Container, tmp_path: Path) -> None:
    """It is on a thread of its own, in either container."""
    world = container.world
    go = tmp_path / 'go'
    talker = container.load('Talker', node_name='goes_on', remap_rules=['words:=goes_on'])
    hangs = container.load('Raises', node_name='hangs', parameters={'text': str(go)})
    assert talker.success and hangs.success
    end = world.node.create_publisher(String, 'end', LATEST)
    words = heard(container, 'goes_on')
    end.publish(String(data='hang'))
    until_more(container, words, 50)
    go.touch()
    container.until_says('/hangs', 'ended with exit code 3')
    for number in (talker.unique_id, hangs.unique_id):
        assert container.unload(number).success
    world.node.destroy_publisher(end)


def test_loading_holds_up_nobody(container: Container, tmp_path: Path) -> None:
    """While a constructor takes its time, others talk, are listed, loaded and unloaded."""
    go = tmp_path / 'go'
    talker = container.load('Talker', node_name='meanwhile', remap_rules=['words:=meanwhile'])
    words = heard(container, 'meanwhile')
    answer: list[Any] = []
    # Its name is said first, while the constructor runs; another thread asks, for it has to wait.
    asking = threading.Thread(
        target=lambda: answer.append(container.load('Slow', parameters={'file': str(go)}))
    )
    asking.start()
    try:
        container.world.until(
            lambda: 'slow' in container.world.node.get_node_names(), 'it is being made'
        )
        until_more(container, words, 20)
        assert '/slow' not in container.nodes().values()
        other = container.load('Talker', node_name='other')
        assert other.success and container.unload(other.unique_id).success
        assert not answer
    finally:
        go.touch()
        asking.join(TIMEOUT)
    (response,) = answer
    assert response.success
    for number in (response.unique_id, talker.unique_id):
        assert container.unload(number).success


def test_images_go_by_reference_unless_it_is_turned_off(container: Container, two: Path) -> None:
    """Each detector hears all of the camera; the one that may not share gets them over DDS."""
    world = container.world
    ours = {'package': 'trt_perception', 'node_namespace': '/shared'}
    loaded = [
        container.load('CameraNode', parameters={'source': 'pattern', 'rate': 20.0}, **ours)
    ] + [
        container.load(
            'DetectorNode',
            node_name=name,
            parameters={'model': str(two), 'threads': 1},
            extra_arguments={'use_intra_process_comms': shares},
            remap_rules=[f'detections:={name}'],
            **ours,
        )
        for name, shares in (('by_reference', True), ('over_dds', False))
    ]
    assert all(response.success for response in loaded)
    for name, way in (('by_reference', '(in this process)'), ('over_dds', '(Image, reliable)')):
        until_more(container, world.subscribe(Detection2DArray, f'/shared/{name}'))

        def taken(name: str = name) -> str:
            heard = [s for m in list(container.diagnostics) for s in m.status]
            ours = [s for s in heard if s.name == f'shared/{name}: inference']
            return values(ours[-1])['images'] if ours else ''

        world.until(lambda way=way, taken=taken: taken() == f'/shared/image {way}', way)
    for response in reversed(loaded):
        assert container.unload(response.unique_id).success


def test_a_detector_in_it(container: Container, two: Path) -> None:
    response = container.load(
        'DetectorNode',
        package='trt_perception',
        node_namespace='/left',
        parameters={'model': str(two), 'threads': 1},
    )
    assert response.success, response.error_message
    found = container.world.subscribe(Detection2DArray, '/left/detections')
    camera = Camera(container.world, '/left/image').until_heard()

    def answered() -> bool:
        camera.send(picture(3))
        return bool(found)

    container.world.until(answered, 'detections')
    assert classes(found[0]) == ['car', 'person']
    assert container.unload(response.unique_id).success
    camera.close()


# Where a class is found


def test_find(hello: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(hello))
    assert find('hello', 'Talker').value == 'hello:Talker'
    # Listed a second time, by another installation of the same.
    again = tmp_path / 'again'
    again.mkdir()
    monkeypatch.syspath_prepend(str(write_package(again)))
    assert find('hello', 'hello::Talker').value == 'hello:Talker'
    other = tmp_path / 'other' / 'servus-1.dist-info'
    other.mkdir(parents=True)
    (other / 'METADATA').write_text('Metadata-Version: 2.1\nName: servus\nVersion: 1\n')
    (other / 'entry_points.txt').write_text('[rclpy_components]\nservus::Talker = servus:Talker\n')
    monkeypatch.syspath_prepend(str(other.parent))
    with pytest.raises(ComponentError, match=r"'Talker' is in .*servus.*; say in which package"):
        find('', 'Talker')
    assert find('servus', 'Talker').value == 'servus:Talker'


def test_a_logger_s_level(hello: Path, monkeypatch: pytest.MonkeyPatch, domain_id: int) -> None:
    """It counts from the constructor's first word on."""
    import rclpy
    from rclpy.logging import LoggingSeverity

    monkeypatch.syspath_prepend(str(hello))
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    try:
        for level in (10, 40):
            node = Maker(Wanted('hello::Talker', name='w', namespace='/v', log_level=level))(
                context
            )
            assert node.get_logger().get_effective_level() == LoggingSeverity(level)
            node.destroy_node()
    finally:
        context.shutdown()


# Its end


def test_the_end_while_a_camera_is_waited_for(world: World, hello: Path) -> None:
    """Within FFmpeg, where the end of Python would be a crash."""
    with socket.create_server(('127.0.0.1', 0)) as silent:
        container = Container(world, hello)
        address = f'rtsp://127.0.0.1:{silent.getsockname()[1]}/'
        given = {'source': address, 'timeout': 1.5}
        assert container.load('trt_perception::CameraNode', package='', parameters=given).success
        code, said = container.end()
    assert code == 0 and f'{address} does not answer' in said, (code, said)


def test_callbacks_that_are_always_ready_do_not_put_off_the_end(
    domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('trt_perception.ros.executor._LAST_SECONDS', 0.05)
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node = Node('busy', context=context)
    runs: list[None] = []

    def work() -> None:
        runs.append(None)
        time.sleep(0.02)

    node.create_timer(0.001, work)
    executor = GuardedExecutor(context)
    executor.add_node(node)
    while not runs:
        executor.spin_once()
    executor.stop()
    executor.finish()
    assert len(runs) < 10
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_the_end_at_any_moment(world: World, hello: Path, two: Path, tmp_path: Path) -> None:
    """With a detector that comes up or works: code 0, and no shared memory is left."""
    graph = tmp_path / 'graph.yaml'
    graph.write_text(
        f'components:\n- plugin: hello::Talker\n- plugin: trt_perception::DetectorNode\n'
        f"  parameters: {{model: '{two}', threads: 1}}\n"
    )
    camera = Camera(world)
    timer = world.node.create_timer(0.02, lambda: camera.send(picture()))
    moments = random.Random(4)
    before = set(SHM.iterdir())
    used: set[Path] = set()
    clean = 0
    for number in range(5):
        sent = (signal.SIGINT, signal.SIGTERM)[number % 2]
        delay = moments.uniform(0.2, 2.5)
        container = Container(world, hello, '--config', str(graph))
        used |= watch(container.process, delay)
        container.process.send_signal(sent)
        time.sleep(0.05)
        if container.process.poll() is None:
            container.process.send_signal(sent)  # impatience changes nothing
        used |= watch(container.process, TIMEOUT)
        code, said = container.ended()
        in_time = code in (-sent, 130) or 'KeyboardInterrupt' in said
        assert code == 0 or (in_time and 'rclpy' not in said), f'{code} after {delay:.2f} s: {said}'
        assert code != 0 or 'Traceback' not in said, said
        clean += code == 0
    world.node.destroy_timer(timer)
    assert clean >= 2
    used -= before
    world.until(lambda: not orphans(used), 'no shared memory left')
