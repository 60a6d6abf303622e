# SPDX-License-Identifier: Apache-2.0
"""The Makefile and its check: what is missing is the first thing that one reads."""

from __future__ import annotations

import ast
import itertools
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
DESK = ROOT / 'tools' / 'desk'
PYTHONS = ('3.10', '3.11', '3.12')

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ('Linux', 'x86_64'),
    reason='the desk is for x86-64 Linux',
)


def run(*command: str | Path, **env: str) -> tuple[int, list[str]]:
    """Run in a shell of a user who has set nothing but `env`; exit code and lines printed."""
    # Without what this test run itself was started with, by make and by the ROS wheels.
    bare = {'PATH': os.environ['PATH'], 'HOME': os.environ.get('HOME', '/')}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=bare | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout.splitlines()


def check(distro: str = 'kilted', **env: str) -> tuple[int, list[str]]:
    return run(sys.executable, DESK / 'check.py', distro, **env)


def check_where(fake: str) -> tuple[int, list[str]]:
    """Run the check after a line that makes the machine look like another one."""
    code = f'import os, platform, runpy, sys, sysconfig\n{fake}\n'
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    script = f'import sys; sys.argv = {[str(DESK / "check.py"), "kilted"]}\n{code}'
    return run(sys.executable, '-c', script)


def make(*args: str, **env: str) -> tuple[int, list[str]]:
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    return run('make', *args, **env)


def test_this_machine_passes() -> None:
    """These tests run on such a machine, or they would have no ROS to run with."""
    assert check() == (0, [])
    assert check(ROS_DISTRO='humble') == (0, [])


def test_no_compiler(tmp_path: Path) -> None:
    code, lines = check(PATH=str(tmp_path))
    assert code == 1
    assert lines == ['g++ missing on this machine: sudo apt install g++']


@pytest.mark.parametrize(
    'fake, package',
    [
        ("sysconfig.get_paths = lambda: {'include': '/nowhere'}", 'dev'),
        ("sys.modules['ensurepip'] = None", 'venv'),
    ],
)
def test_parts_of_python(fake: str, package: str) -> None:
    """Debian ships Python's headers and ensurepip apart."""
    code, lines = check_where(fake)
    assert code == 1
    assert lines[0].endswith('sudo apt install python{}.{}-'.format(*sys.version_info) + package)


@pytest.mark.parametrize(
    'fake, words',
    [
        ("platform.machine = lambda: 'aarch64'", ('aarch64', 'Jetson', 'colcon')),
        ("os.confstr = lambda name: 'glibc 2.27'", ('glibc 2.27', '2.28')),
        ('def musl(name): raise ValueError(name)\nos.confstr = musl', ('no glibc', '2.28')),
        ("sys.version_info = (3, 8, 18, 'final', 0)", ('Python 3.8', '3.10 to 3.12', 'PYTHON=')),
        ("sys.version_info = (3, 13, 0, 'final', 0)", ('Python 3.13', '3.10 to 3.12', 'PYTHON=')),
    ],
)
def test_unfit_machine(fake: str, words: tuple[str, ...]) -> None:
    code, lines = check_where(fake)
    assert code == 1
    assert all(word in lines[0] for word in words), lines


def test_check_is_readable_by_old_pythons() -> None:
    ast.parse((DESK / 'check.py').read_text(encoding='utf-8'), feature_version=(3, 6))


@pytest.mark.parametrize(
    'env',
    [
        {'AMENT_PREFIX_PATH': '/opt/ros/humble', 'ROS_DISTRO': 'humble'},
        {'PYTHONPATH': '/home/me/lib:/opt/ros/jazzy/lib/python3.12/site-packages'},
    ],
)
def test_sourced_ros(env: dict[str, str]) -> None:
    code, lines = check(**env)
    assert code == 1
    assert '/opt/ros/' in lines[0]
    assert 'open a new shell' in lines[0]


def test_sourced_workspace(tmp_path: Path) -> None:
    (tmp_path / 'rclpy').mkdir()
    code, lines = check(PYTHONPATH=str(tmp_path))
    assert code == 1
    assert str(tmp_path) in lines[0]


def test_our_own_environment_is_no_sourced_ros() -> None:
    assert check(AMENT_PREFIX_PATH=str(ROOT / '.venv' / 'kilted-3.11'))[0] == 0


def test_unknown_distribution() -> None:
    code, lines = check('humble')
    assert code == 1
    assert "'humble'" in lines[0]
    assert 'jazzy or kilted' in lines[0]


def test_demo_passes_on_what_is_given_and_nothing_else() -> None:
    """The command alone knows the defaults."""
    options = {'MODEL': '--model', 'INPUT': '--input', 'OUTPUT': '--output', 'LABELS': '--labels'}
    for count in range(len(options) + 1):
        for given in itertools.combinations(options, count):
            code, lines = make('--dry-run', 'demo', *(f'{name}=a b' for name in given))
            assert code == 0
            wanted = ' '.join(f"{options[name]} 'a b'" for name in given)
            assert ' '.join(lines[-1].partition('trt-perception demo')[2].split()) == wanted


def test_demo_passes_on_any_name_of_a_file() -> None:
    name = """it's "$HOME" of $x $$ `a` \\ ü.onnx"""
    code, lines = make('--dry-run', 'demo', f'MODEL={name}')
    assert code == 0
    assert shlex.split(lines[-1].partition('trt-perception demo')[2]) == ['--model', name]


def test_a_shell_is_set_up_as_make_itself_is(tmp_path: Path) -> None:
    """By the file that make leaves: its command is the one of the distribution asked for."""
    tmp_path /= 'it\'s "here"'
    tmp_path.mkdir()
    for name in ('Makefile', 'tools', 'trt_perception', 'launch', 'config', 'resource'):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = tmp_path / '.venv' / 'jazzy-{}.{}'.format(*sys.version_info)
    (environment / 'bin').mkdir(parents=True)
    shutil.copy('/bin/echo', environment / 'bin' / 'trt-perception')
    code, lines = make('-C', tmp_path, 'setup.bash', 'ROS_DISTRO=jazzy')
    assert (code, lines[1:-1]) == (0, [])
    show = 'source .venv/setup.bash; trt-perception "$ROS_DISTRO" "$AMENT_PREFIX_PATH"'
    script = f'cd {shlex.quote(str(tmp_path))}; {show}'
    code, lines = run('bash', '-ec', script, PYTHONPATH='/elsewhere')
    assert (code, lines) == (0, [f'jazzy {environment}'])


def test_check_comes_first() -> None:
    code, lines = make('test', AMENT_PREFIX_PATH='/opt/ros/humble')
    assert code == 2
    assert 'open a new shell' in lines[0]
    code, lines = make('demo', 'MODEL=m', 'INPUT=i', 'PYTHON=python2.99')
    assert code == 2
    assert 'PYTHON=python2.99' in lines[0]


def test_command_line_chooses_distribution() -> None:
    """A sourced ROS leaves a ROS_DISTRO in the environment that must not choose the wheels."""
    for args, env, distro in (
        ([], {'ROS_DISTRO': 'jazzy'}, 'kilted'),
        (['ROS_DISTRO=jazzy'], {'ROS_DISTRO': 'kilted'}, 'jazzy'),
    ):
        code, lines = make('--dry-run', '--always-make', 'demo', 'MODEL=m', 'INPUT=i', *args, **env)
        assert code == 0
        assert any(f'-r tools/desk/lock/desk-{distro}.txt' in line for line in lines)
        assert f'.venv/{distro}-{sys.version_info[0]}.' in lines[-1]


@pytest.mark.parametrize('python', PYTHONS)
def test_requirements_are_pinned(python: str) -> None:
    def read(name: str) -> list[Requirement]:
        lines = (DESK / name).read_text(encoding='utf-8').splitlines()
        return [Requirement(line) for line in lines if line and not line.startswith('#')]

    def key(requirement: Requirement) -> str:
        return requirement.name.lower().replace('_', '-')

    pinned = [
        key(pin)
        for pin in read('constraints.txt')
        if pin.marker is None or pin.marker.evaluate({'python_version': python})
        if [s.operator for s in pin.specifier] == ['==']
    ]
    assert len(pinned) == len(set(pinned))
    wanted = [r for file in DESK.glob('requirements*.txt') for r in read(file.name)]
    assert {key(r) for r in wanted} <= set(pinned)


#: Each lock, and the lists that it is made of.
LOCKS = {
    'desk-jazzy.txt': ('ros-jazzy.txt', 'requirements.txt'),
    'desk-kilted.txt': ('ros-kilted.txt', 'requirements.txt'),
    'test.txt': ('requirements-test.txt',),
    'stubs.txt': ('requirements-stubs.txt',),
}


@pytest.mark.parametrize('python', PYTHONS)
@pytest.mark.parametrize('lock', LOCKS)
def test_locks_hold_what_is_asked_for_with_hashes(lock: str, python: str) -> None:
    """After a change of a list or a version: tools/desk/lock.py."""

    def read(lines: list[str]) -> dict[str, Requirement]:
        wanted = [Requirement(line) for line in lines if line and not line.startswith('#')]
        environment = {'python_version': python, 'python_full_version': f'{python}.1'}
        return {
            re.sub('[-_.]+', '-', r.name).lower(): r
            for r in wanted
            if r.marker is None or r.marker.evaluate(environment)
        }

    entries = (DESK / 'lock' / lock).read_text(encoding='utf-8').replace('\\\n', '').splitlines()
    assert all('--hash=sha256:' in line for line in entries if not line.startswith('#'))
    locked = read([line.partition('--hash')[0].strip() for line in entries])
    pins = read((DESK / 'constraints.txt').read_text(encoding='utf-8').splitlines())
    for name in LOCKS[lock]:
        asked = read((DESK / name).read_text(encoding='utf-8').splitlines())
        assert set(asked) <= set(locked)
        pins |= {k: r for k, r in asked.items() if r.specifier}
    different = {k for k in locked if k in pins and pins[k].specifier != locked[k].specifier}
    assert not different
    unknown = {k for k in locked if k not in pins and not k.startswith('ros-')}
    assert not unknown, 'they have no version in constraints.txt'
