# SPDX-License-Identifier: Apache-2.0
"""``trt-perception doctor``: what it finds on machines of known ills, and that nothing stops it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sysfs_trees
from sysfs_trees import AGX_ORIN_JETPACK_6, AGX_ORIN_JETPACK_7, ORIN_NANO, THOR, Tree

from trt_perception.cli.doctor import SCHEMA
from trt_perception.cli.doctor.checks import CHECKS, PROBES, Told, examine
from trt_perception.cli.doctor.finding import Finding
from trt_perception.cli.doctor.machine import Machine
from trt_perception.cli.doctor.probing import probe

COMMAND = [sys.executable, '-m', 'trt_perception.cli.main', 'doctor']
GIB = 1 << 30

#: Files of each machine, as they are there.
ORIN = {
    'proc/device-tree/model': 'NVIDIA Jetson AGX Orin Developer Kit\0',
    'proc/cpuinfo': ''.join(f'processor\t: {n}\nmodel name\t: ARMv8\n\n' for n in range(12)),
    'proc/meminfo': 'MemTotal:       64349512 kB\n',
    'proc/sys/kernel/osrelease': '5.15.148-tegra\n',
    'proc/sys/net/core/rmem_max': '212992\n',
    'etc/os-release': 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    'etc/nv_tegra_release': '# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI:'
    ' aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n',
    'etc/nvpmodel.conf': '< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n'
    '< POWER_MODEL ID=1 NAME=MODE_15W >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n'
    '< PM_CONFIG DEFAULT=2 >\n',
    'var/lib/nvpmodel/status': 'pmode:0002 fmode:quiet\n',
    'sys/class/devfreq/17000000.gpu/min_freq': '306000000\n',
    'sys/class/devfreq/17000000.gpu/max_freq': '1300500000\n',
    'sys/class/devfreq/15340000.vic/min_freq': '1\n',
    'sys/class/devfreq/15340000.vic/max_freq': '2\n',
    'sys/class/video4linux/video0/name': 'vi-output, imx219 9-0010\n',
    'dev/nvmap': '',
    'dev/nvhost-gpu': '',
    'dev/nvgpu/igpu0/ctrl': '',
    'dev/video0': '',
    'opt/ros/humble/setup.bash': '',
    'opt/ros/humble/share/ament_index/resource_index/rmw_typesupport/rmw_fastrtps_cpp': '',
    'opt/ros/humble/share/ament_index/resource_index/rmw_typesupport/rmw_cyclonedds_cpp': '',
    'ws/install/share/ament_index/resource_index/packages/trt_perception': '',
    'run/systemd/timesync/synchronized': '',
}
JETPACK_7_2 = {
    'etc/nv_tegra_release': '# R39 (release), REVISION: 2.0, GCID: 41000000, BOARD: generic\n',
    'etc/os-release': 'PRETTY_NAME="Ubuntu 24.04.2 LTS"\n',
}
HUMBLE = {
    'ROS_DISTRO': 'humble',
    'AMENT_PREFIX_PATH': '/ws/install:/opt/ros/humble',
    'PYTHONPATH': '/opt/ros/humble/lib/python3.10/site-packages',
}
PC = {
    'proc/meminfo': 'MemTotal:       32349512 kB\n',
    'proc/sys/kernel/osrelease': '6.8.0-60-generic\n',
    'sys/bus/pci/devices/0000:00:02.0/vendor': '0x8086\n',
    'sys/bus/pci/devices/0000:00:02.0/class': '0x030000\n',
}
NVIDIA = {
    'sys/bus/pci/devices/0000:01:00.0/vendor': '0x10de\n',
    'sys/bus/pci/devices/0000:01:00.0/class': '0x030000\n',
    'sys/bus/pci/devices/0000:01:00.1/vendor': '0x10de\n',
    'sys/bus/pci/devices/0000:01:00.1/class': '0x040300\n',
}
#: What the probe finds where all is there.
ON_ORIN: dict[str, dict[str, Any]] = {
    'cuda': {'driver': 12060, 'gpus': [{'name': 'Orin', 'sm': [8, 7], 'integrated': True}]},
    'cuda.bindings': {'version': '12.9.1'},
    'nvrtc': {'version': '12.6', 'archs': ['sm_80', 'sm_87', 'sm_90']},
    'tensorrt': {'name': 'TensorRT', 'version': '10.3.0'},
    'builder': {'dla_cores': 2},
    'numpy': {'version': '1.26.4'},
    'cv2': {'version': '4.8.0'},
}
NO_GPU: dict[str, dict[str, Any]] = {
    'cuda': {'error': 'libcuda.so.1: cannot open shared object file', 'missing': True},
    'cuda.bindings': {'error': "No module named 'cuda'", 'missing': True},
    'nvrtc': {'error': 'EngineError: NVRTC is not usable (no); pip install it'},
    'tensorrt': {'error': 'EngineError: TensorRT is not installed; on a Jetson: this; else: that'},
    'builder': {'error': 'EngineError: TensorRT is not installed'},
}

Look = Callable[..., dict[str, list[Finding]]]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Examine a machine that is told of: findings by check."""

    def examined(
        files: dict[str, str],
        probed: dict[str, dict[str, Any]],
        environment: dict[str, str] | None = None,
        shut: tuple[str, ...] = (),
        **given: Any,
    ) -> dict[str, list[Finding]]:
        root = tmp_path / 'root'
        for name, text in {**files, 'dev/shm/x': ''}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        machine = Machine(
            root=root,
            environment={'XDG_CACHE_HOME': str(tmp_path / 'cache'), **(environment or {})},
            probed=probed,
            may=lambda path, mode: not str(path).endswith(shut) if shut else True,
            **{'python': (3, 10), 'managed': False, 'space': lambda path: (16 * GIB, 8 * GIB)}
            | given,
        )
        found: dict[str, list[Finding]] = {}
        for told in examine(machine):
            assert told.finding.text and '\n' not in told.finding.text + told.finding.cure
            assert 'could not be checked' not in told.finding.text, told
            found.setdefault(told.check, []).append(told.finding)
        return found

    return examined


def wrong(found: dict[str, list[Finding]]) -> dict[str, tuple[str, str]]:
    """Checks that found something wrong: what, and its cure."""
    return {
        check: (f.text, f.cure)
        for check, findings in found.items()
        for f in findings
        if f.level in ('warning', 'problem')
    }


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


# Jetsons


def test_an_orin_where_all_is_well_but_for_its_choices(look: Look, tmp_path: Path) -> None:
    profile = tmp_path / 'p.xml'
    profile.write_text('<segment_size>67108864</segment_size>')
    found = look(ORIN, ON_ORIN, {**HUMBLE, 'FASTRTPS_DEFAULT_PROFILES_FILE': str(profile)})
    assert wrong(found) == {}
    assert only(found['board']).text == (
        'NVIDIA Jetson AGX Orin Developer Kit, 12 cores, 61 GiB, Ubuntu 22.04.5 LTS, Linux'
        ' 5.15.148-tegra'
    )
    assert only(found['jetpack']).text == 'JetPack 6.2 (Jetson Linux 36.4.3)'
    mode, clock = only(found['power_mode']), only(found['clocks'])
    assert (mode.level, mode.cure) == ('note', 'sudo nvpmodel -m 0')
    assert 'MODE_30W' in mode.text and 'MAXN is the fastest' in mode.text
    assert (clock.level, clock.cure) == ('note', 'sudo jetson_clocks')
    assert '306 to 1300 MHz (17000000.gpu)' in clock.text
    assert only(found['gpu']).text == 'GPU 0: Orin, SM 8.7, driver for CUDA 12.6'
    assert only(found['tensorrt']) == ('ok', 'TensorRT 10.3.0', '')
    assert only(found['dla']).text == '2 DLA cores: device dla0 to dla1'
    assert only(found['cameras']).text == '/dev/video0: vi-output, imx219 9-0010'
    assert only(found['distribution']) == ('ok', 'ROS 2 humble', '')


def test_the_fastest_mode_with_clocks_held(look: Look) -> None:
    fast = {
        'var/lib/nvpmodel/status': 'pmode:0000 fmode:quiet\n',
        'sys/class/devfreq/17000000.gpu/min_freq': '1300500000\n',
    }
    found = look({**ORIN, **fast}, ON_ORIN)
    assert only(found['power_mode']) == ('ok', 'power mode MAXN', '')
    assert 'held at 1300 MHz' in only(found['clocks']).text


def test_a_nano_goes_to_its_super_mode(look: Look) -> None:
    nano = {
        'proc/device-tree/model': 'NVIDIA Jetson Orin Nano Engineering Reference Developer Kit\0',
        'etc/nvpmodel.conf': '< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n'
        '< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n',
        'var/lib/nvpmodel/status': 'pmode:0001',
    }
    found = look({**ORIN, **nano}, {**ON_ORIN, 'builder': {'dla_cores': 0}})
    assert only(found['power_mode']).cure == 'sudo nvpmodel -m 2'
    assert 'dla' not in found  # it has none


@pytest.mark.parametrize(
    ('version', 'fits'), [('10.3.0', True), ('10.13.3.9', False), ('10.16.2.10', True)]
)
def test_a_tensorrt_without_orin_is_named(look: Look, version: str, fits: bool) -> None:
    """10.13 has no SM 8.7: https://github.com/NVIDIA-ISAAC-ROS/isaac_ros_cli, issue 22."""
    probed = {**ON_ORIN, 'tensorrt': {'name': 'TensorRT', 'version': version}}
    found = look({**ORIN, **JETPACK_7_2}, probed, python=(3, 12))
    assert only(found['jetpack']).text == 'JetPack 7.2 (Jetson Linux 39.2.0)'
    finding = only(found['tensorrt'])
    assert finding.level == ('ok' if fits else 'problem')
    if not fits:
        assert 'no code for Orin (SM 8.7)' in finding.text
        assert finding.cure == 'sudo apt update && sudo apt install tensorrt python3-libnvinfer'
    assert ('no DLA' in only(found['dla']).text) == (version != '10.3.0')


def test_orin_is_known_where_cuda_shows_nothing(look: Look) -> None:
    probed = {
        **ON_ORIN,
        'cuda': {'driver': 13020, 'gpus': [], 'error': 'CUDA_ERROR_NO_DEVICE'},
        'tensorrt': {'name': 'TensorRT-RTX', 'version': '1.7.1'},
    }
    found = look({**ORIN, **JETPACK_7_2, '.dockerenv': ''}, probed)
    assert 'TensorRT-RTX 1.7.1 has no code for Orin' in only(found['tensorrt']).text
    gpu = only(found['gpu'])
    assert 'CUDA_ERROR_NO_DEVICE' in gpu.text and gpu.cure.startswith('docker run --runtime nvidia')


def test_a_tensorrt_that_does_not_start(look: Look) -> None:
    probed = {**ON_ORIN, 'builder': {'error': 'TensorRT 10.3 does not know SM 110'}}
    found = look(ORIN, probed)
    assert only(found['tensorrt']).level == 'problem'
    assert 'does not start: TensorRT 10.3 does not know SM 110' in only(found['tensorrt']).text


def test_a_container_of_an_older_jetpack(look: Look) -> None:
    error = (
        'EngineError: TensorRT is installed but broken: it needs libnvdla_compiler.so, which'
        ' JetPack 7.2 no longer has; use the TensorRT of this JetPack (10.16 or later)'
    )
    found = look({**ORIN, **JETPACK_7_2}, {**ON_ORIN, 'tensorrt': {'error': error}})
    assert 'it needs libnvdla_compiler.so' in only(found['tensorrt']).text
    assert (
        only(found['tensorrt']).cure == 'sudo apt update && sudo apt install --reinstall tensorrt'
    )


def test_a_venv_that_hides_the_system_s_tensorrt(look: Look) -> None:
    probed = {**ON_ORIN, 'tensorrt': NO_GPU['tensorrt']}
    seen = {'usr/lib/python3.10/dist-packages/tensorrt/__init__.py': ''}
    assert '--system-site-packages' in only(look({**ORIN, **seen}, probed)['tensorrt']).cure


def test_old_and_wrong_jetpacks(look: Look) -> None:
    old = {**ORIN, 'etc/nv_tegra_release': '# R35 (release), REVISION: 4.1, GCID: 1\n'}
    finding = only(look(old, ON_ORIN)['jetpack'])
    assert finding.level == 'problem' and 'JetPack 5 (Jetson Linux 35.4.1)' in finding.text
    thors = {**ORIN, 'etc/nv_tegra_release': '# R38 (release), REVISION: 4.0, GCID: 1\n'}
    assert 'for Thor only' in only(look(thors, ON_ORIN)['jetpack']).text
    hidden = {**ORIN, 'etc/nv_tegra_release': '', '.dockerenv': ''}
    assert only(look(hidden, ON_ORIN)['jetpack']).cure.startswith('docker run -v')


def test_a_thor(look: Look) -> None:
    thor = {
        'proc/device-tree/model': 'NVIDIA Jetson AGX Thor Developer Kit\0',
        'etc/nv_tegra_release': '# R38 (release), REVISION: 4.0, GCID: 1\n',
        'sys/class/devfreq/gpu-gpc-0/min_freq': '1575000000\n',
        'sys/class/devfreq/gpu-gpc-0/max_freq': '1575000000\n',
        'dev/nvidia0': '',
    }
    probed = {
        **ON_ORIN,
        'cuda': {'driver': 13000, 'gpus': [{'name': 'Thor', 'sm': [11, 0], 'integrated': True}]},
        'nvrtc': {'version': '13.0', 'archs': ['sm_110']},
        'tensorrt': {'name': 'TensorRT', 'version': '10.13.3.9'},
        'builder': {'dla_cores': 0},
    }
    found = look(thor, probed, python=(3, 12))
    assert wrong(found) == {}
    assert only(found['jetpack']).text == 'JetPack 7.1 (Jetson Linux 38.4.0)'
    assert 'dla' not in found and 'held at 1575 MHz' in only(found['clocks']).text


@pytest.mark.parametrize(
    ('tree', 'release', 'mode', 'hottest'),
    [
        (AGX_ORIN_JETPACK_6, 'JetPack 6.2.1 (Jetson Linux 36.4.7)', 'MAXN', '52.9 C'),
        (AGX_ORIN_JETPACK_7, 'JetPack 7.2 (Jetson Linux 39.2.0)', 'MODE_30W', '64.5 C'),
        (ORIN_NANO, 'cannot be seen', 'MAXN_SUPER', '61.2 C'),
        (THOR, 'JetPack 7.1 (Jetson Linux 38.4.0)', 'MAXN', '55.1 C'),
        (sysfs_trees.PC, '', '', '54.0 C'),
    ],
)
def test_boards_whole(
    look: Look, tmp_path: Path, tree: Any, release: str, mode: str, hottest: str
) -> None:
    files = Tree(tmp_path / 'root', *tree)
    found = look({}, ON_ORIN)
    files.close()
    assert hottest in only(found['heat']).text and only(found['heat']).level == 'ok'
    for check, told in (('jetpack', release), ('power_mode', mode)):
        assert (told in only(found[check]).text) if told else check not in found


def test_a_board_near_its_end(look: Look) -> None:
    hot = {
        'sys/class/thermal/thermal_zone0/type': 'tj-thermal\n',
        'sys/class/thermal/thermal_zone0/temp': '96500\n',
        'sys/class/thermal/thermal_zone0/trip_point_0_type': 'passive\n',
        'sys/class/thermal/thermal_zone0/trip_point_0_temp': '99000\n',
    }
    finding = only(look({**ORIN, **hot}, ON_ORIN)['heat'])
    assert finding.level == 'warning' and '2.5 below where it is slowed down' in finding.text


# Fitting together


@pytest.mark.parametrize(
    ('name', 'probed', 'said'),
    [
        ('cuda_bindings', {'version': '13.0.1'}, 'newer driver than CUDA 12'),
        ('cuda_bindings', {'version': '12.6.0'}, 'stops all threads'),
        ('cuda_bindings', {'error': "No module named 'cuda'", 'missing': True}, 'not usable'),
        ('nvrtc', {'version': '13.0', 'archs': ['sm_87']}, 'newer driver than CUDA 12'),
        ('nvrtc', {'version': '12.6', 'archs': ['sm_90']}, 'makes no code for SM 8.7'),
        ('nvrtc', {'error': 'EngineError: NVRTC is not usable (x); pip'}, 'NVRTC is not usable'),
    ],
)
def test_cuda_python_of_another_cuda(
    look: Look, name: str, probed: dict[str, Any], said: str
) -> None:
    found = look(ORIN, {**ON_ORIN, name.replace('cuda_', 'cuda.'): probed})
    finding = only(found[name])
    assert finding.level != 'ok' and said in finding.text
    assert finding.cure == 'pip install "cuda-bindings>=12.9.1,<13" nvidia-cuda-nvrtc-cu12'


def test_permissions(look: Look) -> None:
    found = look(ORIN, ON_ORIN, shut=('nvmap', 'ctrl', 'video0'))
    assert only(found['device_files']) == (
        'problem', 'no permission for /dev/nvgpu/igpu0/ctrl, /dev/nvmap',
        'sudo usermod -aG video,render $USER    # and log in again',
    )  # fmt: skip
    assert only(found['cameras']).level == 'problem'


# PCs


def test_a_pc_without_a_gpu_lacks_nothing(look: Look) -> None:
    found = look(PC, NO_GPU)
    assert wrong(found) == {}
    assert only(found['gpu']).level == 'note' and 'tensorrt' not in found
    assert not {'jetpack', 'power_mode', 'clocks', 'device_files', 'nvrtc', 'dla'} & set(found)
    assert only(found['distribution']).level == 'note'
    broken = {'tensorrt': {'error': 'it ended the process (SIGABRT)'}}
    told = only(look(PC, {**NO_GPU, **broken})['tensorrt'])
    assert told.level == 'note' and 'TensorRT cannot be imported: it ended' in told.text


def test_a_pc_whose_gpu_has_no_driver(look: Look) -> None:
    found = look({**PC, **NVIDIA}, NO_GPU)
    assert only(found['gpu']).cure == 'sudo ubuntu-drivers install && reboot'
    assert only(found['tensorrt']).cure == 'pip install tensorrt'
    inside = look({**PC, **NVIDIA, 'run/.containerenv': ''}, NO_GPU)
    assert only(inside['gpu']).cure.startswith('docker run --gpus all')


def test_pip_where_it_refuses(look: Look) -> None:
    found = look(PC, {**NO_GPU, 'av': {'error': 'no', 'missing': True}}, managed=True)
    assert found['libraries'][1].cure == (
        'python3 -m venv --system-site-packages ~/venv && source ~/venv/bin/activate &&'
        ' pip install av'
    )


@pytest.mark.parametrize(
    ('name', 'error', 'level', 'cure'),
    [
        ('numpy', {'missing': True, 'error': ''}, 'problem', 'sudo apt install python3-numpy'),
        ('onnxruntime', {'missing': True, 'error': ''}, 'problem', 'pip install onnxruntime'),
        ('rosbags', {'missing': True, 'error': ''}, 'note', 'pip install rosbags'),
        (
            'cv2', {'error': 'ImportError: numpy.core.multiarray failed to import'}, 'problem',
            'pip install "numpy<2"',
        ),
        (
            'cv2', {'error': 'ImportError: libGL.so.1: cannot open shared object file'}, 'problem',
            'sudo apt install libgl1',
        ),
        (
            'onnx', {'error': 'it ended the process (SIGSEGV)'}, 'problem',
            'pip install --force-reinstall onnx',
        ),
    ],
)  # fmt: skip
def test_libraries(look: Look, name: str, error: dict[str, Any], level: str, cure: str) -> None:
    found = look(PC, {**NO_GPU, name: error})
    assert found['libraries'][0].level == 'ok' and f'{name} ' not in found['libraries'][0].text
    (finding,) = found['libraries'][1:]
    assert (finding.level, finding.cure) == (level, cure)


def test_python_of_another_time(look: Look) -> None:
    assert only(look(PC, NO_GPU, python=(3, 13))['python']).level == 'problem'
    assert only(look(PC, NO_GPU, python=(3, 12))['python']).level == 'ok'


# ROS


def test_ros_that_is_not_sourced(look: Look) -> None:
    finding = only(look(ORIN, ON_ORIN)['distribution'])
    assert (finding.level, finding.cure) == ('warning', 'source /opt/ros/humble/setup.bash')


def test_two_ros_in_one_shell_and_a_workspace_forgotten(look: Look) -> None:
    mixed = {**HUMBLE, 'AMENT_PREFIX_PATH': '/opt/ros/humble:/opt/ros/jazzy'}
    found = look(ORIN, ON_ORIN, mixed)['distribution']
    assert [f.level for f in found] == ['problem', 'warning']
    assert 'mixes ROS 2 humble with jazzy' in found[0].text
    assert found[1].cure.startswith('colcon build')


def test_a_python_that_ros_is_not_made_for(look: Look) -> None:
    error = {'error': "ImportError: No module named 'rclpy._rclpy_pybind11'"}
    found = look(ORIN, {**ON_ORIN, 'rclpy': error}, HUMBLE, python=(3, 12))
    assert 'made for Python 3.10, and this is 3.12' in found['distribution'][0].text
    assert found['messages'][0].level == 'problem'


def test_messages_and_middleware(look: Look) -> None:
    gone: dict[str, Any] = {'missing': True, 'error': ''}
    probed = {**ON_ORIN, 'vision_msgs.msg': gone, 'bond.msg': gone}
    found = look(ORIN, probed, {**HUMBLE, 'RMW_IMPLEMENTATION': 'rmw_connextdds'})
    told = {f.text.split()[0]: (f.level, f.cure) for f in found['messages']}
    assert told == {
        'vision_msgs': ('problem', 'sudo apt install ros-humble-vision-msgs'),
        'bond': ('note', 'sudo apt install ros-humble-bond'),
    }
    assert only(found['middleware']).cure == 'sudo apt install ros-humble-rmw-connextdds'


@pytest.mark.parametrize(
    ('domain', 'level'), [('0', 'ok'), ('101', 'ok'), ('142', 'warning'), ('robot', 'problem')]
)
def test_domains(look: Look, domain: str, level: str) -> None:
    found = look(ORIN, ON_ORIN, {**HUMBLE, 'ROS_DOMAIN_ID': domain})
    assert found['middleware'][-1].level == level


@pytest.mark.parametrize(
    ('environment', 'level', 'said'),
    [
        ({}, 'warning', 'loses most images of 1080p'),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': 'large.xml'}, 'ok', 'large.xml'),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': 'small.xml'}, 'warning', 'no 16 MiB'),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': 'gone.xml'}, 'problem', 'there is no such file'),
        ({'FASTDDS_DEFAULT_PROFILES_FILE': 'large.xml'}, 'warning', 'not FASTDDS_DEFAULT'),
        (
            {'ROS_DISTRO': 'kilted', 'FASTDDS_DEFAULT_PROFILES_FILE': 'large.xml'}, 'ok',
            'large.xml',
        ),
        (
            {'ROS_DISTRO': 'jazzy', 'FASTDDS_BUILTIN_TRANSPORTS': 'LARGE_DATA'}, 'ok', 'LARGE_DATA',
        ),
        ({'FASTDDS_BUILTIN_TRANSPORTS': 'LARGE_DATA'}, 'warning', 'loses most images of 1080p'),
    ],
)  # fmt: skip
def test_fast_dds(
    look: Look, tmp_path: Path, environment: dict[str, str], level: str, said: str
) -> None:
    pytest.importorskip('ament_index_python')
    (tmp_path / 'large.xml').write_text('<segment_size> 67108864 </segment_size>')
    (tmp_path / 'small.xml').write_text('<segment_size>524288</segment_size>')
    given = {k: str(tmp_path / v) if '.xml' in v else v for k, v in environment.items()}
    finding = only(look(ORIN, ON_ORIN, {**HUMBLE, **given})['large_images'])
    assert finding.level == level and said in finding.text
    if level != 'ok':
        assert finding.cure.startswith('export FASTRTPS_DEFAULT_PROFILES_FILE=/')
        assert finding.cure.endswith('/config/fastdds_large_images.xml')


BUFFERS = '<SocketReceiveBufferSize min="10MB"/>'


@pytest.mark.parametrize(
    ('limit', 'uri', 'level', 'said'),
    [
        ('212992', '', 'warning', 'net.core.rmem_max is 212992 bytes'),
        ('2147483647', '', 'warning', '1 MiB only'),
        ('2147483647', f'<CycloneDDS>{BUFFERS}</CycloneDDS>', 'ok', 'SocketReceiveBufferSize set'),
        ('2147483647', 'file://{folder}/c.xml', 'ok', 'SocketReceiveBufferSize set'),
        ('2147483647', 'file://{folder}/gone.xml', 'problem', 'there is no such file'),
    ],
)
def test_cyclone(look: Look, tmp_path: Path, limit: str, uri: str, level: str, said: str) -> None:
    (tmp_path / 'c.xml').write_text(BUFFERS)
    environment = {
        **HUMBLE,
        'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp',
        'CYCLONEDDS_URI': uri.format(folder=tmp_path),
    }
    found = look({**ORIN, 'proc/sys/net/core/rmem_max': limit}, ON_ORIN, environment)
    finding = only(found['large_images'])
    assert finding.level == level and said in finding.text
    assert 'shared_memory' not in found


@pytest.mark.parametrize(
    ('total', 'free', 'files', 'cure'),
    [
        (64 << 20, 60 << 20, {'.dockerenv': ''}, 'docker run --shm-size 1g ...'),
        (64 << 20, 60 << 20, {}, 'sudo mount -o remount,size=1G /dev/shm'),
        (GIB, 10 << 20, {}, 'fastdds shm clean'),
    ],
)
def test_shared_memory(look: Look, total: int, free: int, files: dict[str, str], cure: str) -> None:
    def space(path: Path) -> tuple[int, int]:
        return (total, free) if path.name == 'shm' else (16 * GIB, 8 * GIB)

    found = look({**ORIN, **files}, ON_ORIN, HUMBLE, space=space)
    assert only(found['shared_memory']).cure == cure


# Files


def test_a_cache_that_is_full_or_somebody_elses(look: Look, tmp_path: Path) -> None:
    found = look(PC, NO_GPU, space=lambda path: (16 * GIB, 50 << 20))
    assert only(found['caches'])[::2] == ('problem', 'trt-perception engines prune')
    (tmp_path / 'cache').mkdir()
    engines, kernels, _ = look(PC, NO_GPU, shut=('cache',))['caches']
    assert (engines.level, kernels.level) == ('problem', 'problem')
    assert engines.cure == f'sudo chown -R $USER {tmp_path / "cache"}'
    (tmp_path / 'cache').rmdir()
    (tmp_path / 'cache').touch()
    assert look(PC, NO_GPU)['caches'][0].cure == f'rm {tmp_path / "cache"}'


def test_engines_that_are_broken_or_of_another_tensorrt(look: Look, tmp_path: Path) -> None:
    import hashlib

    from trt_perception.runtime.tensorrt.manifest import Manifest, manifest_path

    folder = tmp_path / 'cache/trt_perception/engines'
    folder.mkdir(parents=True)
    for key, library, digest in (
        ('a', 'TensorRT 10.3.0', hashlib.sha256(b'plan').hexdigest()),
        ('b', 'TensorRT 8.6.1', hashlib.sha256(b'plan').hexdigest()),
        ('c', 'TensorRT 10.3.0', '0' * 64),
    ):
        path = folder / f'{key}.engine'
        path.write_bytes(b'plan')
        manifest = Manifest(sha256=digest, bytes=4, key=key, library=library)
        manifest_path(path).write_text(manifest.to_json())
    broken, foreign = look(ORIN, ON_ORIN)['engines']
    assert broken.level == 'warning' and "c.engine' is not what its manifest" in broken.text
    assert foreign.level == 'note' and foreign.text.startswith('1 of 2 engines are of another')
    folder.chmod(0o777)
    assert 'everybody may write' in wrong(look(ORIN, ON_ORIN))['caches'][0]


def test_a_clock_that_nobody_sets(look: Look) -> None:
    files = {k: v for k, v in ORIN.items() if 'timesync' not in k}
    finding = only(look({**files, 'run/systemd/timesync/other': ''}, ON_ORIN)['time'])
    assert finding.cure == 'sudo timedatectl set-ntp true'


# Nothing stops it


def test_a_check_that_breaks_is_a_finding() -> None:
    def clear_sky(machine: Machine) -> Any:
        yield Finding('ok', 'blue')
        raise KeyError('rain')

    def after(machine: Machine) -> Any:
        yield Finding('ok', 'dry')

    told = list(examine(Machine(), {'Weather': (clear_sky, after)}))
    assert told == [
        Told('Weather', 'clear_sky', Finding('warning', 'clear sky could not be checked: KeyError:'
                                             " 'rain'")),
        Told('Weather', 'after', Finding('ok', 'dry')),
    ]  # fmt: skip


def test_no_machine_at_all(tmp_path: Path) -> None:
    """An empty tree, an empty environment, nothing probed: every check still ends by itself."""
    machine = Machine(tmp_path, {'XDG_CACHE_HOME': str(tmp_path)}, may=lambda path, mode: False)
    told = list(examine(machine))
    assert {t.section for t in told} == set(CHECKS)
    assert [t for t in told if 'could not be checked' in t.finding.text] == []


def test_a_probe_outlives_what_it_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in {
        'good': '__version__ = "1.2"; print("noise"); import sys; sys.stderr.write("noise")',
        'dies': 'import os, signal; os.kill(os.getpid(), signal.SIGSEGV)',
        'leaves': 'import sys; sys.exit(3)',
        'ends': 'import os; os._exit(4)',
        'hangs': 'import time; time.sleep(600)',
        'lacks': 'import good_but_not_there',
        'fails': 'raise RuntimeError("two\\nlines")',
    }.items():
        (tmp_path / f'doctored_{name}.py').write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ('good', 'dies', 'leaves', 'ends', 'hangs', 'lacks', 'fails', 'absent')
    begun: list[str] = []
    found = probe([f'doctored_{name}' for name in names], begun.append, longest=2.0)
    assert [name.removeprefix('doctored_') for name in begun] == list(names)
    assert {name.removeprefix('doctored_'): what for name, what in found.items()} == {
        'good': {'version': '1.2'},
        'dies': {'error': 'it ended the process (SIGSEGV)'},
        'leaves': {'error': 'SystemExit: 3'},
        'ends': {'error': 'it ended the process (exit code 4)'},
        'hangs': {'error': 'it did not come back within 2 s'},
        'lacks': {'error': "ModuleNotFoundError: No module named 'good_but_not_there'"},
        'fails': {'error': 'RuntimeError: two lines'},
        'absent': {'error': "No module named 'doctored_absent'", 'missing': True},
    }


# The command


def test_the_command_on_this_machine(tmp_path: Path) -> None:
    environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path), 'COLUMNS': '40'}
    done = subprocess.run(
        [*COMMAND, '--json'], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.stderr == ''
    report = json.loads(done.stdout)
    assert report['schema'] == SCHEMA
    findings = report['findings']
    assert sum(report['counts'].values()) == len(findings)
    assert done.returncode == int(report['counts']['warning'] + report['counts']['problem'] > 0)
    assert [f for f in findings if 'could not be checked' in f['text']] == []
    libraries = next(f['text'] for f in findings if f['check'] == 'libraries')
    assert 'numpy ' in libraries and 'onnx ' in libraries
    told = subprocess.run(COMMAND, capture_output=True, text=True, timeout=240, env=environment)
    assert (told.returncode, told.stderr) == (done.returncode, '')
    lines = told.stdout.splitlines()
    assert set(CHECKS) <= set(lines)
    texts = {_without_numbers(line.partition(' ')[2].lstrip()) for line in map(str.lstrip, lines)}
    for finding in findings:  # each on one line, however narrow the terminal
        assert _without_numbers(finding['text']) in texts, finding


def _without_numbers(text: str) -> str:
    """How much room a disk has left changes from one look to the next."""
    return re.sub(r'[\d.]+', '#', text)


@pytest.mark.parametrize('missing', ['numpy', 'rich'])
def test_the_command_where_the_package_itself_cannot_run(tmp_path: Path, missing: str) -> None:
    (tmp_path / f'{missing}.py').write_text('raise ImportError("libnope.so: cannot open")')
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        COMMAND, capture_output=True, text=True, timeout=240, env={**os.environ, 'PYTHONPATH': path}
    )
    assert (done.returncode, done.stderr) == (1, '')
    assert f'{missing} is installed but broken: ImportError: libnope.so' in done.stdout


def test_usage() -> None:
    done = subprocess.run([*COMMAND, '--nope'], capture_output=True, text=True, timeout=240)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    done = subprocess.run([*COMMAND, '--help'], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and 'Exit code 0: ' in done.stdout


def test_everything_that_is_looked_up_is_probed() -> None:
    asked: set[str] = set()

    class Noting(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return ON_ORIN.get(key, default)

    environment = {'ROS_DISTRO': 'humble', 'XDG_CACHE_HOME': '/nowhere'}
    list(examine(Machine(environment=environment, probed=Noting())))
    assert asked and asked <= set(PROBES)
