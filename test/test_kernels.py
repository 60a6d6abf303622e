# SPDX-License-Identifier: Apache-2.0
"""The kernels compiled for every GPU that is supported, without one; and what is kept of that."""

from __future__ import annotations

import multiprocessing
import os
import stat
import sys
from pathlib import Path

import pytest

from trt_perception.runtime.cuda import compiler
from trt_perception.runtime.cuda.compiler import compile_file, compile_kernels, default_folder
from trt_perception.runtime.engine import EngineError

pytest.importorskip('cuda.bindings.nvrtc', reason='no cuda-bindings; pip install cuda-bindings')

#: Orin, Hopper, Thor, and the GeForce and RTX PRO of Blackwell.
ARCHITECTURES = ('sm_87', 'sm_90', 'sm_110', 'sm_120')

SMALL = """
#include "small.h"
extern "C" __global__ void twice(float *values) { values[threadIdx.x] *= FACTOR; }
"""
HEADERS = {'small.h': '#define FACTOR 2.0f\n'}

# More live values than 16 warps a scheduler leave registers for; and an array with a free index.
GREEDY = """
extern "C" __global__ void __launch_bounds__(1024, 2) greedy(float *values, int n) {
  float v[96];
#pragma unroll
  for (int i = 0; i < 96; i++) v[i] = values[i * 1024 + threadIdx.x];
  for (int k = 0; k < n; k++)
#pragma unroll
    for (int i = 0; i < 96; i++) v[i] = v[i] * v[(i + 7) % 96] + 1.0f;
#pragma unroll
  for (int i = 0; i < 96; i++) values[i * 1024 + threadIdx.x] = v[i];
}
extern "C" __global__ void indexed(const int *where, float *values) {
  float v[64];
  for (int i = 0; i < 64; i++) v[i] = values[i];
  v[where[0]] = 1.0f;
  for (int i = 0; i < 64; i++) values[i] = v[where[i]];
}
extern "C" __global__ void modest(float *values) {
  __shared__ float v[32];
  v[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = v[31 - threadIdx.x];
}
"""


@pytest.fixture
def compilations(monkeypatch) -> list[str]:
    """The files that NVRTC is given."""
    given: list[str] = []
    really = compiler._compile

    def counted(name, *rest):
        given.append(name)
        return really(name, *rest)

    monkeypatch.setattr(compiler, '_compile', counted)
    return given


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_no_kernel_spills_or_uses_local_memory(arch, tmp_path):
    compiled = compile_kernels(arch, tmp_path)
    assert {c.name for c in compiled} == {p.name for p in compiler._KERNELS.glob('*.cu')}
    names = [name for c in compiled for name in c.kernels]
    assert len(names) == len(set(names)), 'one name for two kernels'
    assert 'preprocess_color3' in names
    for file in compiled:
        assert file.cubin.startswith(b'\x7fELF')
        for name, resources in file.kernels.items():
            assert (resources.spill_bytes, resources.stack_bytes) == (0, 0), f'{name} {resources}'
            assert 0 < resources.registers <= 128
            assert resources.shared_bytes <= 48 * 1024
            assert name.encode() in file.cubin


def test_the_report_tells_of_spills_and_local_memory(tmp_path):
    kernels = compile_file('greedy.cu', GREEDY, {}, 'sm_90', tmp_path).kernels
    assert set(kernels) == {'greedy', 'indexed', 'modest'}
    assert kernels['greedy'].spill_bytes > 0
    assert kernels['greedy'].registers <= 32
    assert kernels['indexed'].spill_bytes == 0
    assert kernels['indexed'].stack_bytes == 256
    modest = kernels['modest']
    assert (modest.spill_bytes, modest.stack_bytes, modest.shared_bytes) == (0, 0, 128)


def test_what_was_compiled_is_not_compiled_again(tmp_path, compilations):
    first = compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path)
    assert compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path) == first
    assert compilations == ['small.cu']
    assert list(first.kernels) == ['twice']


def test_whatever_changes_the_code_has_it_compiled_again(tmp_path, compilations, monkeypatch):
    compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path)
    compile_file('small.cu', SMALL + '// changed\n', HEADERS, 'sm_90', tmp_path)
    compile_file('small.cu', SMALL, {'small.h': '#define FACTOR 3.0f\n'}, 'sm_90', tmp_path)
    compile_file('small.cu', SMALL, HEADERS, 'sm_87', tmp_path)
    monkeypatch.setattr(compiler, '_OPTIONS', (*compiler._OPTIONS, '--maxrregcount=32'))
    compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path)
    monkeypatch.setattr(compiler, '_version', lambda: [99, 9])
    compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path)
    assert len(compilations) == len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize('harm', ['flip', 'cut', 'empty', 'junk'])
def test_a_damaged_file_is_made_anew(tmp_path, compilations, harm):
    first = compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            'flip': whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            'cut': whole[:middle],
            'empty': b'',
            'junk': os.urandom(200),
        }[harm]
    )
    assert compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path) == first
    assert len(compilations) == 2
    assert compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path) == first
    assert len(compilations) == 2


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, compilations):
    blocked = tmp_path / 'file'
    blocked.write_text('in the way')
    for _ in range(2):
        compiled = compile_file('small.cu', SMALL, HEADERS, 'sm_90', blocked / 'kernels')
        assert list(compiled.kernels) == ['twice']
    assert len(compilations) == 2
    assert blocked.read_text() == 'in the way'


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_read_only_folder_stops_nothing(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path).cubin
    assert not list(tmp_path.iterdir())


def test_the_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_folder() == tmp_path / 'trt_perception' / 'kernels'
    compile_file('small.cu', SMALL, HEADERS, 'sm_90')
    assert len(list(default_folder().iterdir())) == 1
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert default_folder() == tmp_path / '.cache' / 'trt_perception' / 'kernels'


def _compile_at_once(folder: Path, barrier, results) -> None:
    barrier.wait(60)
    for arch in ARCHITECTURES:
        results.put(compile_file('small.cu', SMALL, HEADERS, arch, folder).cubin)


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context('spawn')
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_compile_at_once, args=(tmp_path, barrier, results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    cubins = {results.get(timeout=120) for _ in range(2 * len(ARCHITECTURES))}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(cubins) == len(ARCHITECTURES)
    assert len(list(tmp_path.iterdir())) == len(ARCHITECTURES)


def test_faults_are_told_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(
        EngineError, match=r'^wrong\.cu does not compile for sm_90: .*error'
    ) as told:
        compile_file(
            'wrong.cu', 'extern "C" __global__ void f() { return 1 }', {}, 'sm_90', tmp_path
        )
    assert '\n' not in str(told.value)
    with pytest.raises(EngineError, match=r'makes no code for sm_10 .it knows .*sm_87'):
        compile_file('small.cu', SMALL, HEADERS, 'sm_10', tmp_path)
    assert not list(tmp_path.iterdir())
    compiler._nvrtc.cache_clear()
    monkeypatch.setitem(sys.modules, 'cuda.bindings.nvrtc', None)
    monkeypatch.delattr('cuda.bindings.nvrtc', raising=False)
    with pytest.raises(EngineError, match=r'NVRTC is not usable .*pip install') as told:
        compile_file('small.cu', SMALL, HEADERS, 'sm_90', tmp_path)
    assert '\n' not in str(told.value)
