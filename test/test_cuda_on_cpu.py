# SPDX-License-Identifier: Apache-2.0
"""What stands in for a GPU in the tests of the kernels notices what a GPU would not forgive."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from cuda_on_cpu import Cpu, build

from trt_perception.runtime.cuda.launch import Launch, pointer

SOURCE = """
extern "C" __global__ void reversed(int *values, int step) {
  __shared__ int kept[32];
  kept[threadIdx.x] = values[threadIdx.x] + step;
  __syncthreads();
  values[threadIdx.x] = kept[31 - threadIdx.x];
}
extern "C" __global__ void early(int *values) {
  if (threadIdx.x == 7) return;
  __syncthreads();
}
extern "C" __global__ void apart(int *values) {
  if (threadIdx.x == 7)
    __syncthreads();
  else
    __syncthreads();
}
template <int N>
static __device__ inline void remember(int *values) {
  __shared__ int kept[N];
  values[blockIdx.x] = kept[threadIdx.x];
  kept[threadIdx.x] = 0;
}
extern "C" __global__ void remembers(int *values) { remember<32>(values); }
"""


@pytest.fixture(scope='module')
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp('small')
    (folder / 'small.cu').write_text(SOURCE)
    return build(folder / 'small.cu', folder)


def run(kernels: dict[str, Any], name: str, *more: Any, seed: int = 0) -> np.ndarray:
    cpu = Cpu(kernels, seed)
    values = cpu.upload(np.arange(32, dtype=np.int32))
    cpu.run([Launch(name, (2, 1, 1), (32, 1, 1), (pointer(values), *more))])
    return cpu.download(values, np.dtype([('values', np.int32, 32)]))['values']


@pytest.mark.parametrize('seed', range(3))
def test_threads_wait_for_one_another(kernels, seed):
    found = run(kernels, 'reversed', ctypes.c_int(5), seed=seed)
    assert found.tolist() == [n + 10 for n in range(32)]  # turned by either block


@pytest.mark.parametrize('name', ['early', 'apart'])
@pytest.mark.parametrize('seed', range(3))
def test_a_barrier_that_not_all_threads_reach(kernels, name, seed):
    with pytest.raises(AssertionError, match=f'{name}: not all threads reach the same'):
        run(kernels, name, seed=seed)
    assert run(kernels, 'reversed', ctypes.c_int(0)).tolist() == list(range(32))


def test_shared_memory_is_garbage_in_every_block(kernels):
    assert (run(kernels, 'remembers')[:2] == np.uint32(0xCBCBCBCB).astype(np.int32)).all()


@pytest.mark.parametrize('more', [(), (ctypes.c_longlong(0),), (ctypes.c_int(0),) * 2])
def test_arguments_of_the_wrong_size(kernels, more):
    with pytest.raises(AssertionError, match="reversed: the arguments have not the parameters'"):
        run(kernels, 'reversed', *more)
