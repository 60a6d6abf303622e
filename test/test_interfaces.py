# SPDX-License-Identifier: Apache-2.0
"""The message packages: what is compiled here is what every other ROS 2 machine speaks."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip('vision_msgs.msg')

from rclpy.serialization import deserialize_message, serialize_message
from rclpy.type_support import check_for_type_support
from world import World

SOURCES = Path(__file__).resolve().parents[1] / 'tools' / 'ros_interfaces'
DISTRIBUTION = 'trt-perception-ros-interfaces'

#: Of the official definitions: vision_msgs 4.1.1, bond and composition_interfaces, which have not
#: changed since Humble. rosidl's generators and rosbags' type store agree on all of them.
HASHES = {
    'bond/msg/Constants':
        '347874ac7a49af69eb313fc911d72cd59152a5a157b6577cafad31ad43a8d63e',
    'bond/msg/Status':
        '87eaccffa254ffffadc0b61600452e8251740f06c25659a2dbda4927fdb1f70a',
    'vision_msgs/msg/BoundingBox2D':
        '008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f',
    'vision_msgs/msg/BoundingBox2DArray':
        '2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691',
    'vision_msgs/msg/BoundingBox3D':
        'bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698',
    'vision_msgs/msg/BoundingBox3DArray':
        'a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6',
    'vision_msgs/msg/Classification':
        'f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143',
    'vision_msgs/msg/Detection2D':
        '0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea',
    'vision_msgs/msg/Detection2DArray':
        '214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'vision_msgs/msg/Detection3D':
        'ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b',
    'vision_msgs/msg/Detection3DArray':
        '793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018',
    'vision_msgs/msg/LabelInfo':
        '3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
    'vision_msgs/msg/ObjectHypothesis':
        '51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90',
    'vision_msgs/msg/ObjectHypothesisWithPose':
        '41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc',
    'vision_msgs/msg/Point2D':
        'eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247',
    'vision_msgs/msg/Pose2D':
        'b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648',
    'vision_msgs/msg/VisionClass':
        '1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a',
    'vision_msgs/msg/VisionInfo':
        '95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284',
    'composition_interfaces/srv/ListNodes':
        '13f30d73a74c844ee4bacf78f3680f08777cad137f10fbd6a648544cc7b59d2a',
    'composition_interfaces/srv/LoadNode':
        '2e521ef6066fba6d7fc3a3b175d486709f01b4d738d9a59188858546fc8e5acd',
    'composition_interfaces/srv/UnloadNode':
        'dce562f83adc735ddcfe9dfb927b89293d4dd0fe2b8fc91e772fb83e970a43b0',
}  # fmt: skip
MESSAGES = [name for name in HASHES if '/msg/' in name]
SERVICES = [name for name in HASHES if '/srv/' in name]


def definitions() -> list[Path]:
    """Find the files that the messages and services are made from."""
    return [p for kind in ('msg', 'srv') for p in SOURCES.glob(f'*/{kind}/*.{kind}')]


def load(name: str) -> Any:
    """Find the Python class of a message or service."""
    module, _, leaf = name.replace('/', '.').rpartition('.')
    return getattr(importlib.import_module(module), leaf)


# Types


def test_every_definition_is_pinned() -> None:
    assert {str(p.relative_to(SOURCES).with_suffix('')) for p in definitions()} == set(HASHES)


@pytest.mark.parametrize('name', MESSAGES)
def test_message_type_is_the_official_one(world: World, name: str) -> None:
    """As the graph shows it to others, who compare it."""
    world.node.create_publisher(load(name), 'topic', 1)
    (info,) = world.until(lambda: world.node.get_publishers_info_by_topic('topic'))
    if not hasattr(info, 'topic_type_hash'):
        pytest.skip('ROS 2 has had type hashes since Iron')
    assert info.topic_type == name
    assert str(info.topic_type_hash) == f'RIHS01_{HASHES[name]}'


class TypeHash(ctypes.Structure):
    """``rosidl_type_hash_t``."""

    _fields_ = (('version', ctypes.c_uint8), ('value', ctypes.c_uint8 * 32))


class ServiceTypeSupport(ctypes.Structure):
    """``rosidl_service_type_support_t``, up to what is wanted of it."""

    _fields_ = (
        ('before', ctypes.c_void_p * 8),
        ('get_type_hash', ctypes.CFUNCTYPE(ctypes.POINTER(TypeHash), ctypes.c_void_p)),
    )


@pytest.mark.parametrize('name', SERVICES)
def test_service_type_is_the_official_one(name: str) -> None:
    """As the middleware gets it; the graph shows it in the newest distributions only."""
    service = load(name)
    if importlib.util.find_spec('rclpy.type_hash') is None:
        pytest.skip('ROS 2 has had type hashes since Iron')
    check_for_type_support(service)
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(
        ('PyCapsule_GetName', ctypes.pythonapi)
    )
    pointer_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ('PyCapsule_GetPointer', ctypes.pythonapi)
    )
    capsule = service.__class__._TYPE_SUPPORT
    address = pointer_in(capsule, name_of(capsule))
    found = ServiceTypeSupport.from_address(address).get_type_hash(address).contents
    assert (found.version, bytes(found.value).hex()) == (1, HASHES[name])


# Values


class Filler:
    """Fills messages with values that are all different."""

    def __init__(self) -> None:
        self._number = 0

    def fill(self, message: Any) -> Any:
        for name, kind in message.get_fields_and_field_types().items():
            old = getattr(message, name)
            if kind.startswith('sequence<'):
                setattr(message, name, [self._value(kind[9:-1], None) for _ in range(3)])
            elif '[' in kind:
                setattr(message, name, [self._value(kind.partition('[')[0], None) for _ in old])
            else:
                setattr(message, name, self._value(kind, old))
        return message

    def _value(self, kind: str, old: Any) -> Any:
        self._number += 1
        if '/' in kind:
            return self.fill(old if old is not None else load(kind.replace('/', '/msg/'))())
        if kind == 'string':
            return f'{self._number}' + 'äöü'[: self._number % 4]  # of every length
        if kind == 'boolean':
            return bool(self._number % 2)
        if kind == 'octet':
            return bytes([self._number % 256])
        return self._number + 0.25 if kind in ('float', 'double') else self._number


@pytest.fixture(scope='module')
def typestore() -> Any:
    """All types here, in an implementation that shares no line with rosidl's."""
    typesys = pytest.importorskip('rosbags.typesys')
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    types = {}
    for file in SOURCES.glob('*/msg/*.msg'):
        name = f'{file.parts[-3]}/msg/{file.stem}'
        types |= typesys.get_types_from_msg(file.read_text(), name)
    store.register(types)
    return store


@pytest.mark.parametrize('name', MESSAGES)
def test_hash_is_that_of_the_definition(typestore: Any, name: str) -> None:
    assert typestore.hash_rihs01(name) == f'RIHS01_{HASHES[name]}'


@pytest.mark.parametrize('name', MESSAGES)
def test_message_values_arrive(typestore: Any, name: str) -> None:
    """Every field, through the bytes, in another implementation and back."""
    message_type = load(name)
    sent = Filler().fill(message_type())
    there = typestore.deserialize_cdr(serialize_message(sent), name)
    check_same(sent, there)
    back = bytes(typestore.serialize_cdr(there, name))
    assert deserialize_message(back, message_type) == sent


def check_same(message: Any, other: Any) -> None:
    """Compare a message with rosbags' own, field by field."""
    fields = getattr(message, 'get_fields_and_field_types', None)
    if fields is not None:
        for name in fields():
            check_same(getattr(message, name), getattr(other, name))
    elif isinstance(message, (str, bool, int, float)):
        assert message == other
    else:
        assert len(message) == len(other) > 0
        for item, other_item in zip(message, other, strict=True):
            check_same(item, other_item)


@pytest.mark.parametrize('name', SERVICES)
def test_service_values_arrive(world: World, name: str) -> None:
    kind = load(name)
    request, response = Filler().fill(kind.Request()), Filler().fill(kind.Response())
    asked = []
    world.node.create_service(kind, 'service', lambda r, _: asked.append(r) or response)
    assert world.call(kind, 'service', request) == response
    assert asked == [request]


# What is installed


def our_files() -> list[Path]:
    """Files of the desk's own message packages."""
    try:
        files = importlib.metadata.distribution(DISTRIBUTION).files
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the desk's message packages are not used here, but those of the distribution")
    return [Path(f.locate()).resolve() for f in files or []]


@pytest.mark.parametrize('package', ['bond', 'vision_msgs', 'composition_interfaces'])
def test_interfaces_are_in_the_index(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ros2 interface`` and ``ros2 pkg`` find packages and definitions this way."""
    index = pytest.importorskip('ament_index_python')
    if 'AMENT_PREFIX_PATH' not in os.environ:
        monkeypatch.setenv('AMENT_PREFIX_PATH', sys.prefix)
    listed, prefix = index.get_resource('rosidl_interfaces', package)
    ours = {str(p.relative_to(SOURCES / package)) for p in definitions() if package in p.parts}
    assert ours <= set(listed.split())
    share = Path(prefix) / 'share' / package
    assert share == Path(index.get_package_share_directory(package))
    for name in ['package.xml', *listed.split()]:
        assert (share / name).is_file()
    depends, _ = index.get_resource('package_run_dependencies', package)
    for name in depends.split(';'):
        assert index.get_package_prefix(name)


def test_definitions_are_installed_as_they_are() -> None:
    installed = {
        str(Path(*p.parts[-3:])): p.read_bytes()
        for p in our_files()
        if p.suffix in ('.msg', '.srv')
    }
    assert installed == {str(p.relative_to(SOURCES)): p.read_bytes() for p in definitions()}


# What is refused


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip('setuptools')
    monkeypatch.syspath_prepend(str(SOURCES))
    monkeypatch.chdir(SOURCES)
    monkeypatch.delitem(sys.modules, 'interfaces', raising=False)
    return importlib.import_module('interfaces')


def refusal(call: Callable[..., object], *args: object) -> str:
    """Read the one line that a call ends the build with."""
    with pytest.raises(SystemExit) as caught:
        call(*args)
    line = caught.value.code
    assert isinstance(line, str)
    assert '\n' not in line
    start = f'{DISTRIBUTION}: '
    assert line.startswith(start)
    return line[len(start) :]


@pytest.mark.parametrize('package', ['bond', 'vision_msgs', 'composition_interfaces'])
def test_a_real_package_wins(
    interfaces: ModuleType, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / package / '__init__.py'
    real.parent.mkdir()
    real.touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package, raising=False)
    line = refusal(interfaces.check_not_there)
    assert line == f'{package} is there already, from {real}; nothing to install'


def test_an_earlier_build_may_be_replaced(interfaces: ModuleType) -> None:
    assert our_files()
    interfaces.check_not_there()


def test_traces_of_an_earlier_build_are_not_one(
    interfaces: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip leaves beside the sources names the distribution too."""
    sources, elsewhere = tmp_path / 'sources', tmp_path / 'elsewhere'
    (sources / 'trt_perception_ros_interfaces.egg-info').mkdir(parents=True)
    (sources / 'trt_perception_ros_interfaces.egg-info' / 'PKG-INFO').write_text(
        f'Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 0.1.0\n'
    )
    (elsewhere / 'vision_msgs').mkdir(parents=True)
    (elsewhere / 'vision_msgs' / '__init__.py').touch()
    monkeypatch.chdir(sources)
    monkeypatch.setattr(sys, 'path', [str(sources), str(elsewhere)])
    monkeypatch.delitem(sys.modules, 'vision_msgs', raising=False)
    assert 'vision_msgs is there already' in refusal(interfaces.check_not_there)


def test_pip_passes_the_refusal_on(tmp_path: Path) -> None:
    """As a user meets it, who has sourced a workspace with the real package."""
    our_files()
    shutil.copytree(
        SOURCES, tmp_path / 'sources', ignore=shutil.ignore_patterns('build', '*.egg-info')
    )
    real = tmp_path / 'workspace' / 'vision_msgs' / '__init__.py'
    real.parent.mkdir(parents=True)
    real.touch()
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '--no-index',
         '--wheel-dir', tmp_path, tmp_path / 'sources'],
        env=os.environ | {'PYTHONPATH': str(real.parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert f'{DISTRIBUTION}: vision_msgs is there already, from {real}' in done.stdout
    assert not list(tmp_path.glob('*.whl'))


def test_no_ros_wheels(interfaces: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'rosidl_adapter', None)
    line = refusal(interfaces.ros_prefix)
    assert line.startswith('no ROS wheels')
    assert interfaces.ROS_WHEELS in line


@pytest.mark.parametrize('module', ['catkin_pkg', 'numpy'])
def test_parts_of_the_generators(
    interfaces: ModuleType, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('rosidl_adapter')
    monkeypatch.setitem(sys.modules, module, None)
    assert refusal(interfaces.ros_prefix) == f'{module} is missing; pip install {module}'


def test_other_processor(interfaces: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, 'machine', lambda: 'aarch64')
    line = refusal(interfaces.check_machine)
    assert line == 'the ROS wheels are for x86_64 only, this is aarch64'


def test_no_compiler(
    interfaces: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, 'machine', lambda: 'x86_64')
    monkeypatch.setenv('PATH', str(tmp_path))
    assert refusal(interfaces.check_machine) == 'g++ is missing; sudo apt install g++'


def test_no_python_headers(
    interfaces: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, 'machine', lambda: 'x86_64')
    (tmp_path / 'g++').touch(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(sysconfig, 'get_path', lambda name: str(tmp_path))
    version = '{}.{}'.format(*sys.version_info)
    assert refusal(interfaces.check_machine) == (
        f'{tmp_path}/Python.h is missing; sudo apt install python{version}-dev'
    )


def test_compiler_fails(interfaces: ModuleType) -> None:
    assert refusal(interfaces.run, ['false']) == 'false failed; see above'
