# SPDX-License-Identifier: Apache-2.0
"""What pip and colcon install, and that package.xml names all that the code imports."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

import trt_perception

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    'camera', 'detector', 'overlay', 'perception_container', 'perception_container_mt', 'player',
    'recorder', 'replay', 'trt-perception',
}  # fmt: skip

# Import name to rosdep key, where they differ.
ROSDEP = {'cuda': 'cuda-bindings', 'cv2': 'python3-opencv', 'gi': 'PyGObject',
          'numpy': 'python3-numpy', 'pynvml': 'nvidia-ml-py', 'rich': 'python3-rich',
          'yaml': 'python3-yaml'}  # fmt: skip


def python(*args: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run this Python on its own, with one more folder of modules; its output."""
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    if path:
        env['PYTHONPATH'] = str(path)
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the sources: building leaves its traces beside them."""
    copy = tmp_path_factory.mktemp('source')
    for file in ('setup.py', 'setup.cfg', 'pyproject.toml', 'package.xml', 'LICENSE'):
        shutil.copy(ROOT / file, copy)
    for folder in ('trt_perception', 'launch', 'config', 'resource', 'test'):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns('__pycache__'))
    return copy


@pytest.fixture(scope='module')
def pip_prefix(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install as ``pip install .`` does."""
    prefix = tmp_path_factory.mktemp('pip')
    pip = ['-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation', '--no-index']
    python(*pip, '--ignore-installed', '--prefix', prefix, source, cwd=source)
    return prefix


@pytest.fixture(scope='module')
def colcon_prefix(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install with the commands that ``colcon build`` runs."""
    prefix = tmp_path_factory.mktemp('colcon')
    build = tmp_path_factory.mktemp('build')
    python(
        'setup.py', '--quiet',
        'egg_info', '--egg-base', build,
        'build', '--build-base', build,
        'install', '--single-version-externally-managed',
        '--prefix', prefix, '--record', build / 'record',
        cwd=source,
    )  # fmt: skip
    return prefix


def site(prefix: Path) -> Path:
    """Where the modules went under a prefix."""
    (folder,) = prefix.glob('lib/python3*/site-packages')
    return folder


def installed(prefix: Path) -> Distribution:
    (distribution,) = distributions(path=[str(site(prefix))])
    return distribution


def files(folder: Path, pattern: str = '*') -> dict[str, bytes]:
    """Name and content of all files under a folder."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in folder.rglob(pattern)
        if f.is_file() and f.suffix != '.pyc'
    }


@pytest.fixture(params=['pip_prefix', 'colcon_prefix'])
def prefix(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_modules(prefix: Path) -> None:
    assert files(site(prefix) / 'trt_perception', '*.py') == files(ROOT / 'trt_perception', '*.py')
    others = {p.name for p in site(prefix).iterdir()} - {'trt_perception'}
    assert all('-info' in name for name in others), others


def test_share(prefix: Path) -> None:
    share = files(prefix / 'share' / 'trt_perception')
    wanted = {'package.xml': (ROOT / 'package.xml').read_bytes()}
    for folder in ('launch', 'config', 'resource/demo', 'resource/models'):
        wanted |= {f'{folder}/{k}': v for k, v in files(ROOT / folder).items()}
    assert share == wanted
    assert (prefix / 'share/ament_index/resource_index/packages/trt_perception').is_file()


def test_share_is_found(pip_prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = pytest.importorskip('ament_index_python')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(pip_prefix))
    share = Path(index.get_package_share_directory('trt_perception'))
    assert share == pip_prefix / 'share' / 'trt_perception'


def test_commands(pip_prefix: Path, colcon_prefix: Path) -> None:
    assert {f.name for f in (pip_prefix / 'bin').iterdir()} == COMMANDS
    # Where `ros2 run` looks.
    executables = list((colcon_prefix / 'lib' / 'trt_perception').iterdir())
    assert {f.name for f in executables} == COMMANDS
    assert all(os.access(f, os.X_OK) for f in executables)


def test_command_targets(prefix: Path) -> None:
    """Each command's function and each component can be imported from what was installed."""
    points = installed(prefix).entry_points
    commands = {e.name: e.value for e in points if e.group == 'console_scripts'}
    components = {e.name: e.value for e in points if e.group == 'rclpy_components'}
    assert set(commands) == COMMANDS
    assert all(name == f'trt_perception::{v.partition(":")[2]}' for name, v in components.items())
    for target in (*commands.values(), *components.values()):
        module, function = target.split(':')
        code = f'import {module} as m; assert callable(m.{function}); print(m.__file__)'
        where = python('-c', code, cwd=prefix, path=site(prefix)).strip()
        assert Path(where).is_relative_to(site(prefix))


def test_command_runs(pip_prefix: Path, colcon_prefix: Path) -> None:
    for script in (pip_prefix / 'bin', colcon_prefix / 'lib' / 'trt_perception'):
        prefix = pip_prefix if script.name == 'bin' else colcon_prefix
        usage = python(script / 'trt-perception', '--help', cwd=prefix, path=site(prefix))
        assert 'demo' in usage


def test_requires_nothing_at_start(pip_prefix: Path) -> None:
    """See setup.cfg: a requirement would break ``ros2 run`` on a robot."""
    assert all('extra ==' in r for r in installed(pip_prefix).requires or [])


def test_colcon_reads_setup(source: Path) -> None:
    """Colcon reads the options back with literal_eval; an object among them ends its build."""
    code = (
        'import setuptools; from distutils.core import run_setup\n'
        "d = run_setup('setup.py', script_args=('--dry-run',), stop_after='config')\n"
        'print({k: v for k, v in vars(d).items() if not k.startswith("_") and not callable(v)'
        " and k not in ('cmdclass', 'distclass', 'ext_modules', 'metadata')"
        ' and k not in d.display_option_names})'
    )
    options = ast.literal_eval(python('-c', code, cwd=source))
    assert options['data_files']
    assert 'trt_perception.core.decoders' in options['packages']


def test_manifest() -> None:
    parse = pytest.importorskip('catkin_pkg.package').parse_package
    warnings: list[str] = []
    package = parse(str(ROOT / 'package.xml'), warnings=warnings)
    assert not warnings
    assert package.package_format == 3
    assert package.get_build_type() == 'ament_python'
    assert (package.name, package.version) == ('trt_perception', trt_perception.__version__)
    assert package.licenses == ['Apache-2.0']


def imported() -> Iterator[tuple[str, str]]:
    """Top-level name of each module that the package or a launch file imports, and by which."""
    for folder in ('trt_perception', 'launch'):
        for file in (ROOT / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or '']
                else:
                    continue
                for name in names:
                    yield name.partition('.')[0], str(file.relative_to(ROOT))


def test_manifest_covers_imports() -> None:
    """All third-party imports are run dependencies, or of an extra that brings a feature."""
    tree = ET.parse(ROOT / 'package.xml')
    covered = {e.text for tag in ('depend', 'exec_depend') for e in tree.iter(tag)}
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    for extra in ('host', 'replay', 'gstreamer', 'evaluate', 'tensorrt', 'cuda', 'profile'):
        wanted = config['options.extras_require'][extra].split()
        covered |= {re.split('[<>=.]', requirement)[0] for requirement in wanted}
    ours = {*sys.stdlib_module_names, 'trt_perception', 'pytest'}  # which loads its plugins itself
    lacking = {
        f'{name} (imported by {file})'
        for name, file in imported()
        if name not in ours and ROSDEP.get(name, name) not in covered
    }
    assert not lacking
