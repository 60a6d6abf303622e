# SPDX-License-Identifier: Apache-2.0
"""Generate and compile ROS 2 interface packages with the generators of the ROS wheels.

For each package the generators write C, C++ and Python; all of its objects are linked into one
Python extension, which is also installed as the two libraries that the type support dispatcher of
rosidl opens by name.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from setuptools.command.build_ext import build_ext

DISTRIBUTION = 'trt-perception-ros-interfaces'
ROS_WHEELS = "'ros-rclpy[fastrtps]==9.1.2' ros-common-interfaces==5.5.1"
#: Fast DDS serves the messages; Jazzy's also wants to look into their fields.
TYPE_SUPPORTS = ('rosidl_typesupport_fastrtps_c', 'rosidl_typesupport_introspection_c')


@dataclass(frozen=True)
class InterfacePackage:
    """One ROS package of definitions, in the folder of its name.

    Attributes:
        kind: ``msg`` or ``srv``.
        depends: packages whose messages its own hold, directly or further down.
    """

    name: str
    kind: str
    depends: tuple[str, ...]

    def definitions(self, root: Path) -> list[Path]:
        return sorted((root / self.name / self.kind).glob(f'*.{self.kind}'))

    def index_entries(self, root: Path) -> dict[str, str]:
        """Files of the ament index, by resource type."""
        listed = [f'{self.kind}/{p.name}' for p in self.definitions(root)]
        return {
            'packages': '',
            'rosidl_interfaces': '\n'.join(listed) + '\n',
            'package_run_dependencies': ';'.join(self.depends),
        }


PACKAGES = (
    InterfacePackage('vision_msgs', 'msg', ('builtin_interfaces', 'geometry_msgs', 'std_msgs')),
    InterfacePackage(
        'composition_interfaces',
        'srv',
        ('builtin_interfaces', 'rcl_interfaces', 'service_msgs'),
    ),
    InterfacePackage('bond', 'msg', ('builtin_interfaces', 'std_msgs')),
)


class BuildInterfaces(build_ext):
    """``build_ext`` that compiles all packages, into the wheel's ``purelib`` and ``lib``."""

    def run(self) -> None:
        prefix = ros_prefix()
        check_machine()
        check_not_there()
        os.environ['AMENT_PREFIX_PATH'] = str(prefix)  # where the generators find their templates
        root = Path.cwd()
        for package in PACKAGES:
            work = Path(self.build_temp).resolve() / package.name
            shutil.rmtree(work, ignore_errors=True)
            generated = generate(package, root, work, prefix)
            target = Path(self.build_lib) / package.name
            copy_python(generated, target)
            suffix = sysconfig.get_config_var('EXT_SUFFIX')
            extension = target / f'{package.name}_s__rosidl_typesupport_c{suffix}'
            compile_extension(package, work, prefix, extension)
            libraries = [work / f'lib{package.name}__{t}.so' for t in TYPE_SUPPORTS]
            for library in libraries:
                shutil.copy(extension, library)
            relative = [os.path.relpath(p, root) for p in libraries]
            self.distribution.data_files.append(('lib', relative))

    def get_outputs(self) -> list[str]:
        return []

    def get_source_files(self) -> list[str]:
        return []

    def copy_extensions_to_source(self) -> None:
        """Nothing to do: an editable install has no use here."""


def fail(message: str) -> None:
    """End with one line: nobody reads the traceback of a build."""
    sys.exit(f'{DISTRIBUTION}: {message}')


def ros_prefix() -> Path:
    """The environment that holds the ROS wheels."""
    spec = importlib.util.find_spec('rosidl_adapter')
    if spec is None or spec.origin is None:
        fail(
            'no ROS wheels in this environment; first: pip install setuptools wheel numpy'
            f' catkin_pkg {ROS_WHEELS}, then pip install --no-build-isolation'
        )
    for module in ('catkin_pkg', 'numpy'):
        if importlib.util.find_spec(module) is None:
            fail(f'{module} is missing; pip install {module}')
    return Path(sys.prefix)


def check_machine() -> None:
    """What compiling needs."""
    if platform.machine() != 'x86_64':
        fail(f'the ROS wheels are for x86_64 only, this is {platform.machine()}')
    if shutil.which('g++') is None:
        fail('g++ is missing; sudo apt install g++')
    headers = Path(sysconfig.get_path('include'))
    if not (headers / 'Python.h').is_file():
        version = f'{sys.version_info.major}.{sys.version_info.minor}'
        fail(f'{headers}/Python.h is missing; sudo apt install python{version}-dev')


def check_not_there() -> None:
    """A real package must win over this one."""
    # An earlier build of ours may be replaced. What it left beside its sources says nothing.
    root = Path.cwd()
    sys.path[:] = [p for p in sys.path if Path(p or '.').resolve() != root]
    try:
        files = importlib.metadata.distribution(DISTRIBUTION).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    ours = {Path(f.locate()).resolve() for f in files}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package.name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve() in ours:
            continue
        fail(f'{package.name} is there already, from {spec.origin}; nothing to install')


def generate(package: InterfacePackage, root: Path, work: Path, prefix: Path) -> Path:
    """Write C, C++ and Python of a package; returns the folder with its Python modules."""
    from rosidl_adapter.cli import TranslateMsgToIDL, TranslateSrvToIDL
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_generator_type_description.cli import HashTypeDescription
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    name, share = package.name, str(prefix / 'share')
    main, introspection, idl = (work / f / name for f in ('main', 'introspection', 'idl'))
    for folder in (main, introspection):
        folder.mkdir(parents=True)
    translate = {'msg': TranslateMsgToIDL, 'srv': TranslateSrvToIDL}[package.kind]('translate')
    # The generators take an interface as 'root:relative path' and read package.xml at the root.
    source = root / name
    files = [f'{source}:{p.relative_to(source)}' for p in package.definitions(root)]
    idls = [str(p) for p in translate.translate(name, files, [share], idl)]
    includes = [share, str(idl.parent)]
    hashes = HashTypeDescription('hash').generate_type_hashes(name, idls, includes, main)
    descriptions = [str(p) for p in hashes]
    GenerateC('c').generate(name, idls, includes, main, type_description_files=descriptions)
    python = GeneratePython('py', typesupport_implementations=['rosidl_typesupport_c'])
    python.generate(name, idls, includes, main)
    GenerateFastRTPSCTypesupport('fastrtps').generate(name, idls, includes, main)
    # Of its own, for it writes a file of the C generator's name.
    GenerateIntrospectionCTypesupport('look').generate(name, idls, includes, introspection)
    dispatch = GenerateCTypesupport('dispatch', typesupport_implementations=list(TYPE_SUPPORTS))
    dispatch.generate(name, idls, includes, main)
    return main


def copy_python(generated: Path, target: Path) -> None:
    """The message classes."""
    for module in generated.rglob('*.py'):
        copy = target / module.relative_to(generated)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, copy)
    (target / '__init__.py').touch()


def compile_extension(package: InterfacePackage, work: Path, prefix: Path, extension: Path) -> None:
    """Compile all generated sources and link them into one Python extension."""
    import numpy

    roots = [work / 'main', work / 'introspection']
    include = prefix / 'include'
    ros = [include, *(d for d in include.iterdir() if d.is_dir())]
    folders = [*roots, sysconfig.get_path('include'), numpy.get_include(), *ros]
    includes = [f'-I{d}' for d in folders]
    units = translation_units(work)

    def compile_one(unit: Path) -> Path:
        compiler = ['gcc', '-std=gnu11'] if unit.suffix == '.c' else ['g++', '-std=c++17']
        target = unit.with_name(unit.name + '.o')
        run([*compiler, '-O1', '-fPIC', '-w', '-c', str(unit), '-o', str(target), *includes])
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [str(o) for o in pool.map(compile_one, units)]
    kinds = ('generator_c', 'generator_py', 'typesupport_c', 'typesupport_fastrtps_c',
             'typesupport_introspection_c')  # fmt: skip
    libraries = [f'-l{d}__rosidl_{k}' for d in package.depends for k in kinds]
    libraries += [f'-l{name}' for name in (
        'rosidl_runtime_c', 'rosidl_typesupport_c', 'rosidl_typesupport_fastrtps_c',
        'rosidl_typesupport_fastrtps_cpp', 'rosidl_typesupport_introspection_c', 'rmw', 'rcutils',
        'fastcdr')]  # fmt: skip
    run(['g++', '-shared', '-o', str(extension), *objects, f'-L{prefix}/lib',
         f'-Wl,-rpath-link,{prefix}/lib', '-Wl,--as-needed', *libraries])  # fmt: skip


def translation_units(work: Path) -> list[Path]:
    """A few large sources that include the many small ones: their common headers cost the time."""
    units = []
    for suffix in ('.c', '.cpp'):
        found = sorted(p for f in ('main', 'introspection') for p in (work / f).rglob(f'*{suffix}'))
        # The descriptions' static names repeat from file to file; they include next to nothing.
        alone = [p for p in found if p.stem.endswith('__description')]
        units += alone
        together = [p for p in found if p not in alone]
        half = (len(together) + 1) // 2
        for i, part in enumerate((together[:half], together[half:])):
            unit = work / f'unit{i}{suffix}'
            unit.write_text(''.join(f'#include "{p}"\n' for p in part))
            units.insert(0, unit)  # the longest first
    return units


def run(command: list[str]) -> None:
    """Run a compiler; its own words say what is wrong."""
    if subprocess.run(command).returncode:
        fail(f'{command[0]} failed; see above')
