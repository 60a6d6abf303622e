# SPDX-License-Identifier: Apache-2.0
"""Style, types, floors and licence lines."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
#: TensorRT's types, which must not lie among the packages; see the Makefile.
STUBS = Path(sys.prefix) / 'stubs'

# No place for a comment, or nothing in them.
BARE = {'.csv', '.gif', '.jpg', '.json', '.mp4', '.onnx', '.png'}
LICENCE = 'SPDX-License-Identifier: Apache-2.0'


def check(module: str, *command: str | Path) -> None:
    """Run a tool on the checkout; a robot that has only the package may lack it."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f'{module} is not installed')
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, 'MYPYPATH': str(STUBS)}, capture_output=True,
        text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint() -> None:
    check('ruff', sys.executable, '-m', 'ruff', 'check')


def test_format() -> None:
    check('ruff', sys.executable, '-m', 'ruff', 'format', '--check')


def test_types() -> None:
    """Older NumPy and rclpy carry fewer types, or others: the newest that the desk has decide."""
    for package, oldest in (('numpy', 2), ('rclpy', 9)):
        found = int(version(package).partition('.')[0])
        if found < oldest:
            pytest.skip(f'types are checked with {package} {oldest} or newer, and this is {found}')
    if not STUBS.is_dir():
        pytest.skip(f'tensorrt-stubs is not in {STUBS}')
    check('mypy', sys.executable, '-m', 'mypy')


def test_tensorrt_s_types_are_known(tmp_path: Path) -> None:
    """Else the names of `runtime.tensorrt.api` would pass whatever they are."""
    if not STUBS.is_dir():
        pytest.skip(f'tensorrt-stubs is not in {STUBS}')
    (tmp_path / 'a.py').write_text(
        'from trt_perception.runtime.tensorrt import api as trt\n'
        'good: trt.BuilderFlag = trt.BuilderFlag.GPU_FALLBACK\n'
        'bad = trt.BuilderFlag.NO_SUCH_FLAG\n'
    )
    done = subprocess.run(
        [sys.executable, '-m', 'mypy', '--config-file', ROOT / 'pyproject.toml', tmp_path / 'a.py'],
        cwd=ROOT, env={**os.environ, 'MYPYPATH': f'{STUBS}:{ROOT}'}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ': error:' in line]
    assert len(errors) == 1 and 'a.py:3' in errors[0] and 'NO_SUCH_FLAG' in errors[0]


def test_floors() -> None:
    check('importlinter', BIN / 'lint-imports', '--no-cache')


def test_licence_lines() -> None:
    git = ['git', 'ls-files', '--cached', '--others', '--exclude-standard']
    try:
        listing = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'git cannot tell what belongs to the project: {error}')
    files = [ROOT / name for name in listing.stdout.splitlines()]
    assert files
    without = [
        str(file.relative_to(ROOT))
        for file in files
        if file.is_file() and file.name != 'LICENSE' and file.suffix not in BARE
        if (text := file.read_text(encoding='utf-8'))
        if not any(LICENCE in line for line in text.splitlines()[:3])
    ]
    assert not without
