# SPDX-License-Identifier: Apache-2.0
"""TensorRT found or told missing; where its releases differ.

The releases that cannot be installed here are stood in for by the names that they have.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trt_perception.build.engine import differences
from trt_perception.build.engine.tuning import Tuning, TuningError, parse_device
from trt_perception.runtime.engine import EngineError
from trt_perception.runtime.tensorrt import api
from trt_perception.runtime.tensorrt import library as library_module
from trt_perception.runtime.tensorrt.gpu import Gpu
from trt_perception.runtime.tensorrt.library import Library, library

find = library_module.library.__wrapped__  # not the one that this process has found


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives what puts a module named tensorrt where Python finds it first."""

    def install(code: str | None) -> None:
        folder = tmp_path / 'site' / 'tensorrt'
        folder.mkdir(parents=True)
        if code is None:
            (folder / '__init__.pyi').write_text('class Builder: ...')
        else:
            (folder / '__init__.py').write_text(code)
        monkeypatch.syspath_prepend(folder.parent)

    monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)
    yield install
    sys.modules.pop('tensorrt', None)


def test_found(install: Any) -> None:
    install('__version__ = "10.3.0"\nclass Runtime: ...')
    found = find()
    assert (str(found), found.number, found.is_rtx) == ('TensorRT 10.3.0', (10, 3, 0), False)


def test_too_old(install: Any) -> None:
    install('__version__ = "8.6.1"\nclass Runtime: ...')
    with pytest.raises(EngineError, match=r'TensorRT 8\.6\.1 is too old; install 10\.3'):
        find()


MISSING = 'cannot open shared object file: No such file or directory'


@pytest.mark.parametrize(
    'code, text',
    [
        (f'raise ImportError("libnvdla_compiler.so: {MISSING}")', 'JetPack 7.2 no longer has'),
        (f'raise OSError("libnvinfer.so.10: {MISSING}")', r'libnvinfer\.so\.10 cannot be loaded'),
        ('raise RuntimeError("of\\n  its own")', 'installed but broken: of its own$'),
    ],
)
def test_broken(install: Any, code: str, text: str) -> None:
    """It is said, and TensorRT-RTX does not take its place unasked."""
    install(code)
    with pytest.raises(EngineError, match=text) as raised:
        find()
    assert '\n' not in str(raised.value)


def test_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(EngineError, match='TensorRT is not installed; on a Jetson: sudo apt'):
        find()


def test_rtx_where_there_is_nothing_else(install: Any) -> None:
    """Also where a folder of type stubs goes by the name of tensorrt."""
    pytest.importorskip('tensorrt_rtx_bindings')
    install(None)
    found = find()
    assert (found.name, found.is_rtx) == ('TensorRT-RTX', True)
    assert found.number >= (1, 7)
    assert found.module.Builder


def use(monkeypatch: pytest.MonkeyPatch, name: str, version: str, **names: Any) -> None:
    """Let this release be the one that was found."""
    found = Library(name, version, SimpleNamespace(**names))
    for module in (api, differences):
        monkeypatch.setattr(module, 'library', lambda: found)


def trt(monkeypatch: pytest.MonkeyPatch, version: str, **names: Any) -> None:
    use(monkeypatch, 'TensorRT', version, **names)


def rtx(monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    use(monkeypatch, 'TensorRT-RTX', '1.7.1.116', **names)


GPU = Gpu('Orin', (8, 7), 16)


def gpu(monkeypatch: pytest.MonkeyPatch, found: Gpu | None) -> None:
    monkeypatch.setattr(differences, 'find_gpu', lambda: found)


def test_strong_types(monkeypatch: pytest.MonkeyPatch) -> None:
    trt(monkeypatch, '10.3.0', NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1))
    assert differences.network_flags() == 2
    trt(monkeypatch, '12.0.0', NetworkDefinitionCreationFlag=SimpleNamespace())
    assert differences.network_flags() == 0


def test_target_of_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    trt(monkeypatch, '10.16.2')
    gpu(monkeypatch, GPU)
    assert differences.target() == 'Orin, SM 8.7, 16 multiprocessors'
    differences.set_target(SimpleNamespace())  # which has nothing to set
    gpu(monkeypatch, None)
    with pytest.raises(TuningError, match=r'no usable NVIDIA GPU here, and TensorRT 10\.16\.2'):
        differences.target()


class RtxConfig:
    num_compute_capabilities = 0

    def __init__(self) -> None:
        self.set: dict[int, str] = {}

    def set_compute_capability(self, capability: str, index: int) -> bool:
        assert index < self.num_compute_capabilities
        self.set[index] = capability
        return True


def test_target_of_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(SM75='7.5', SM80='8.0', SM86='8.6', SM120='12.0', CURRENT='this')
    rtx(monkeypatch, ComputeCapability=known)
    gpu(monkeypatch, None)
    config = RtxConfig()
    differences.set_target(config)
    assert (differences.target(), config.set) == (
        'SM80, SM86, SM120',
        {0: '8.0', 1: '8.6', 2: '12.0'},
    )
    gpu(monkeypatch, GPU)
    config = RtxConfig()
    differences.set_target(config)
    assert (differences.target(), config.set) == (str(GPU), {0: 'this'})


def test_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    trt(monkeypatch, '10.3.0')
    assert differences.keeps_timings()
    rtx(monkeypatch)
    assert not differences.keeps_timings()


def test_tiling(monkeypatch: pytest.MonkeyPatch) -> None:
    trt(monkeypatch, '10.3.0')
    with pytest.raises(TuningError, match=r'TensorRT 10\.3\.0 knows no tiling'):
        differences.set_tiling(SimpleNamespace(), 'full')
    trt(monkeypatch, '10.16.2', TilingOptimizationLevel=SimpleNamespace(FULL='all'))
    config = SimpleNamespace(tiling_optimization_level=None)
    differences.set_tiling(config, 'full')
    assert config.tiling_optimization_level == 'all'


def test_hardware_compatibility(monkeypatch: pytest.MonkeyPatch) -> None:
    older = SimpleNamespace(NONE=0, AMPERE_PLUS=1)
    newer = SimpleNamespace(**vars(older), SAME_COMPUTE_CAPABILITY=2)
    config = SimpleNamespace(hardware_compatibility_level=0)
    trt(monkeypatch, '10.3.0', HardwareCompatibilityLevel=older)
    differences.set_hardware_compatibility(config, 'ampere_plus')
    assert config.hardware_compatibility_level == 1
    with pytest.raises(TuningError, match="has no hardware compatibility 'same_compute"):
        differences.set_hardware_compatibility(config, 'same_compute_capability')
    trt(monkeypatch, '11.0.0', HardwareCompatibilityLevel=newer)
    differences.set_hardware_compatibility(config, 'same_compute_capability')
    assert config.hardware_compatibility_level == 2
    rtx(monkeypatch, HardwareCompatibilityLevel=newer)
    with pytest.raises(TuningError, match=r'TensorRT-RTX 1\.7\.1\.116 has no hardware'):
        differences.set_hardware_compatibility(config, 'ampere_plus')


class Flags:
    """A builder's configuration, or a parser, as far as flags go."""

    def __init__(self) -> None:
        self.flags: set[str] = set()

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)


def test_version_compatible(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = SimpleNamespace(VERSION_COMPATIBLE='vc')
    trt(monkeypatch, '10.3.0', BuilderFlag=flags)
    config = Flags()
    differences.set_version_compatible(config)
    assert config.flags == {'vc'}
    rtx(monkeypatch, BuilderFlag=flags)
    with pytest.raises(TuningError, match='makes no version compatible engines'):
        differences.set_version_compatible(config)


def test_fp32_is_not_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Flags()
    config.flags |= {'tf32', 'debug'}
    trt(monkeypatch, '12.0.0', BuilderFlag=SimpleNamespace())
    differences.forbid_tf32(config)
    assert config.flags == {'tf32', 'debug'}
    trt(monkeypatch, '10.3.0', BuilderFlag=SimpleNamespace(TF32='tf32'))
    differences.forbid_tf32(config)
    assert config.flags == {'debug'}


def test_rtx_multiplies_in_tf32_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('tensorrt_rtx_bindings')
    from trt_perception.runtime.tensorrt.log import Log

    log = Log()
    config = api.Builder(log).create_builder_config()
    assert config.get_flag(api.BuilderFlag.TF32)
    differences.forbid_tf32(config)
    assert not config.get_flag(api.BuilderFlag.TF32)


DLA = {
    'DeviceType': SimpleNamespace(DLA='dla'),
    'BuilderFlag': SimpleNamespace(GPU_FALLBACK='fallback'),
    'OnnxParserFlag': SimpleNamespace(ADJUST_FOR_DLA='adjust'),
}


@pytest.mark.parametrize(
    'version, int8, cores, refusal',
    [
        ('10.3.0', False, 2, ''),
        ('10.3.0', True, 2, 'takes no network quantized with Q/DQ'),
        ('10.7.0', False, 0, r'no DLA core 1 here \(this machine has 0\)'),
        ('10.8.0', False, 2, '10.7 was the last with it'),
        ('10.16.2', False, 2, r'TensorRT 10\.16\.2 has no DLA'),
        ('11.3.0', False, 2, '11.4.1 has it again'),
        ('11.4.1', True, 2, ''),
        ('rtx', False, 2, 'has no DLA; take device gpu'),
    ],
)
def test_dla(
    version: str, int8: bool, cores: int, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == 'rtx':
        rtx(monkeypatch, **DLA)
    else:
        trt(monkeypatch, version, **DLA)
    builder, config, parser = SimpleNamespace(num_DLA_cores=cores), Flags(), Flags()
    if refusal:
        with pytest.raises(TuningError, match=refusal):
            differences.set_dla(builder, config, parser, 1, int8)
        assert not config.flags
        return
    differences.set_dla(builder, config, parser, 1, int8)
    assert (config.default_device_type, config.DLA_core) == ('dla', 1)
    assert (config.flags, parser.flags) == ({'fallback'}, {'adjust'})


def test_dla_without_the_parser_s_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    trt(monkeypatch, '10.3.0', **DLA | {'OnnxParserFlag': SimpleNamespace()})
    config, parser = Flags(), Flags()
    differences.set_dla(SimpleNamespace(num_DLA_cores=1), config, parser, 0, False)
    assert (config.flags, parser.flags) == ({'fallback'}, set())


@pytest.mark.parametrize('device, core', [('gpu', None), ('0', None), ('dla0', 0), ('dla1', 1)])
def test_devices(device: str, core: int | None) -> None:
    assert parse_device(device) == core


def test_no_such_device() -> None:
    with pytest.raises(TuningError, match="device 'dla7' is not one of gpu, dla0, dla1"):
        parse_device('dla7')


@pytest.mark.parametrize(
    'wish',
    [
        {'optimization_level': 6}, {'workspace_mib': 0}, {'auxiliary_streams': -1},
        {'tiling': 'wild'}, {'hardware_compatibility': 'all'}, {'profiling': 'much'},
        {'batch': (2, 1, 4)}, {'batch': (0, 1, 1)},
    ],
)  # fmt: skip
def test_wishes_out_of_range(wish: dict[str, Any]) -> None:
    with pytest.raises(TuningError):
        Tuning(**wish)


def test_wishes_are_what_was_asked() -> None:
    assert Tuning().wishes() == {}
    assert Tuning(tiling='full', sparsity=True).wishes() == {'tiling': 'full', 'sparsity': True}


def test_the_log_keeps_reasons() -> None:
    pytest.importorskip('tensorrt_rtx_bindings')
    from trt_perception.runtime.tensorrt.log import Log

    log = Log()
    severity = api.ILogger.Severity
    assert log.why() == 'it gave no reason'
    log.log(severity.WARNING, 'mind\nthis')
    log.log(severity.WARNING, 'mind this')
    log.log(severity.ERROR, 'Target GPU SM 87 is not supported by this TensorRT release.')
    assert list(log.warnings) == ['mind this']
    assert log.why().startswith(f'{library()} does not know GPUs of architecture SM 87; install')
    log.log(severity.VERBOSE, 'Engine Layer Information:\nLayer(A): a\nLayer(B): b')
    assert log.layers == ['Layer(A): a', 'Layer(B): b']
    for i in range(1000):
        log.log(severity.ERROR, f'error {i}')
    assert log.why() == 'error 997; error 998; error 999'
