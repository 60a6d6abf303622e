# SPDX-License-Identifier: Apache-2.0
"""Write lock/: every package that the desk installs, with its version and the hashes of its files.

pip installs nothing then that is not, to the bit, what the index held when this was run. Run it
when a list or a version in constraints.txt has changed; it needs uv (`pip install uv`) and the
network.

  python3 tools/desk/lock.py

Versions are those of constraints.txt, whichever are newer. One file serves all three Pythons.
PyTorch is not locked: there are other files of the same version, without CUDA, elsewhere than on
PyPI, and whoever has no GPU wants those.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DESK = Path(__file__).resolve().parent
LOCK = DESK / 'lock'
#: Each file, and the lists that it is made of.
LISTS = {
    'desk-jazzy.txt': ('ros-jazzy.txt', 'requirements.txt'),
    'desk-kilted.txt': ('ros-kilted.txt', 'requirements.txt'),
    'test.txt': ('requirements-test.txt',),
    'stubs.txt': ('requirements-stubs.txt',),
}
#: What the ROS wheels are made for, as uv writes it.
ENVIRONMENT = (
    "python_full_version < '3.13'", "platform_machine == 'x86_64'", "sys_platform == 'linux'"
)  # fmt: skip
HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Written by tools/desk/lock.py from {lists} and constraints.txt.
"""


def lock(name: str, lists: tuple[str, ...], project: Path) -> str:
    """What a file of hashes holds.

    Args:
        project: a folder whose pyproject.toml tells uv for which machines.
    """
    command = [
        'uv', 'pip', 'compile', '--quiet', '--universal', '--python-version', '3.10',
        '--generate-hashes', '--no-header', '--no-annotate',
        '--constraint', str(DESK / 'constraints.txt'), *(str(DESK / each) for each in lists),
    ]  # fmt: skip
    if name == 'stubs.txt':  # what they ask for is on no public index
        command.append('--no-deps')
    done = subprocess.run(command, cwd=project, stdout=subprocess.PIPE, text=True, check=True)
    return HEAD.format(lists=' and '.join(lists)) + _without_environment(done.stdout)


def _without_environment(text: str) -> str:
    # It would stand in every line, and check.py has seen to it.
    for part in map(re.escape, ENVIRONMENT):
        text = re.sub(rf' and {part}|(?<= ; ){part} and |(?<= ;) {part}(?= \\)', '', text)
    return text.replace(' ; \\', ' \\')


def unpinned(text: str) -> list[str]:
    """Packages of a lock that constraints.txt does not know."""
    pins = {_name(line) for line in (DESK / 'constraints.txt').read_text().splitlines()}
    pins |= {_name(line) for each in DESK.glob('ros-*.txt') for line in each.read_text().split()}
    names = re.findall(r'^([\w.-]+)==', text, re.MULTILINE)
    return sorted(n for n in names if _name(n) not in pins and not n.startswith('ros-'))


def _name(line: str) -> str:
    return re.sub(r'[-_.]+', '-', re.split(r'[=\[; ]', line.strip())[0]).lower()


def main() -> int:
    """Write all of them."""
    if shutil.which('uv') is None:
        print('error: uv is not installed; pip install uv', file=sys.stderr)
        return 2
    LOCK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = f'[tool.uv]\nenvironments = ["{" and ".join(ENVIRONMENT)}"]\n'
        Path(folder, 'pyproject.toml').write_text(settings, encoding='utf-8')
        for name, lists in LISTS.items():
            text = lock(name, lists, Path(folder))
            (LOCK / name).write_text(text, encoding='utf-8')
            print(f'lock/{name}: {text.count("==")} pins, {text.count("--hash")} hashes')
            for package in unpinned(text):
                print(f'warning: {package} has no version in constraints.txt', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main())
