# SPDX-License-Identifier: Apache-2.0
"""Faults to inject into a running detector, for the tests and for ``benchmarks/faults.py``."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import NoReturn

import pytest
from fake_gpu import FakeGpu
from models import constant_detector
from processes import TIMEOUT, parameters, start
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rig import RATE, Outcome, Rig
from world import NO_BUDGET, World

from trt_perception.build.engine import store
from trt_perception.build.engine.cache import EngineCache

#: Of the detectors of `DEVICES` and `FILES`.
TWO_GPUS = {'devices': ['0', '1'], 'watchdog': 0.6}
#: Of that of `CAMERAS`, whose model is too slow for a flood. What the middleware overwrites it
#: does not tell of, so that it has to keep more.
TWO_CAMERAS = {'frozen_after': 0.5, 'image_depth': 100}


@dataclass
class Lab:
    """What faults are injected into.

    Attributes:
        gpu: stands in for two of them; None where the model runs on the processor.
        patch: undone when the disk is not full any more.
    """

    rig: Rig
    model: Path
    gpu: FakeGpu
    patch: pytest.MonkeyPatch

    def endure(self, fault: Fault) -> Outcome:
        """Inject a fault, wait until it is named, end it, wait until all is well."""
        return self.rig.endure(
            lambda: fault.inject(self), fault.words, lambda: fault.end(self), fault.task
        )


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: what is wrong.
        how: it is injected.
        words: a pattern that the message on diagnostics fits.
        inject, end: begin and end it.
        task: whose status names it.
        spares: the images that are none of its business: of ``both`` cameras, of the ``rear`` one,
            or of none. Those of the front one may be dropped for newer ones even so.
    """

    name: str
    how: str
    words: str
    inject: Callable[[Lab], object]
    end: Callable[[Lab], object] = lambda lab: None
    task: str = 'inference'
    spares: str = ''


def _break(*devices: int) -> Callable[[Lab], None]:
    return lambda lab: lab.gpu.break_context(*devices)


def _vanish(lab: Lab) -> None:
    lab.gpu.gone |= {0, 1}
    lab.gpu.break_context(0, 1)


def _corrupt(lab: Lab) -> None:
    for path in EngineCache().folder.glob('*.engine'):
        path.write_bytes(path.read_bytes()[:-9])
    lab.gpu.break_context(0, 1)


DEVICES = (
    Fault('the CUDA context of one GPU of two is lost (a sticky error)',
          'all of its calls fail from then on; it can be opened again at once',
          'the CUDA context is lost', _break(0), spares='both'),
    Fault('the CUDA contexts of all GPUs are lost', 'the same, of both', 'the CUDA context is lost',
          _break(0, 1)),
    Fault('all GPUs are lost for a while', 'the same, and none can be opened until it is named',
          '; runs on ONNX Runtime', _vanish, lambda lab: lab.gpu.gone.clear()),
    Fault('no memory is left on any GPU', 'every image fails with CUDA_ERROR_OUT_OF_MEMORY',
          'OUT_OF_MEMORY.*; runs on ONNX Runtime', lambda lab: lab.gpu.full.update({0, 1}),
          lambda lab: lab.gpu.full.clear()),
    Fault('an inference on one GPU of two hangs (watchdog: 0.6 s)',
          'its call does not return until it is named', 'has not come back for 0.6 s',
          lambda lab: lab.gpu.stuck.add(0), lambda lab: lab.gpu.let_go()),
    Fault('the engines on disk are corrupt, and the contexts are lost',
          'engine files cut short, then as above', 'the CUDA context is lost', _corrupt),
)  # fmt: skip


def _replace(lab: Lab) -> None:
    constant_detector(lab.model.with_suffix('.new'), scores=[0.7]).replace(lab.model)


def _refuse(descriptor: int) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _fill(lab: Lab) -> None:
    lab.patch.setattr(store.os, 'fsync', _refuse)
    constant_detector(lab.model, scores=[0.8])
    lab.rig.configure_anew()


def _empty(lab: Lab) -> None:
    lab.patch.undo()
    lab.rig.configure_anew()


FILES = (
    Fault("the model's file is deleted", 'it is moved away, and back when that is named',
          "' is gone on disk", lambda lab: lab.model.rename(lab.model.with_suffix('.away')),
          lambda lab: lab.model.with_suffix('.away').rename(lab.model), spares='both'),
    Fault("the model's file is replaced", 'by another; the node is configured anew then',
          "' is replaced on disk", _replace, lambda lab: lab.rig.configure_anew()),
    Fault('the disk is full where engines are kept',
          'fsync fails with ENOSPC, the node is configured with a new model',
          'cannot be written: No space left on device', _fill, _empty),
)  # fmt: skip


def _front(name: str, value: object) -> Callable[[Lab], None]:
    return lambda lab: setattr(lab.rig.front, name, value)


CAMERAS = (
    Fault('a camera is unplugged', 'its publisher is destroyed', 'nobody publishes /front/image',
          lambda lab: lab.rig.front.leave(), lambda lab: lab.rig.front.come_back(),
          'front', 'rear'),
    Fault('a camera is frozen (frozen_after: 0.5 s)', 'it repeats its last image, with new stamps',
          'the same image for ', _front('frozen', True), _front('frozen', False), 'front', 'rear'),
    Fault('stamps from the future', 'a clock 3 s ahead',
          r'stamped ahead of this clock, by up to (2\.|3\.0)', _front('skew', 3.0),
          _front('skew', 0.0),
          'front', 'rear'),
    Fault('stamps from the past', 'a clock 60 s behind', 'old when they came, up to 60 s',
          _front('skew', -60.0), _front('skew', 0.0), 'front', 'rear'),
    Fault('a stamp twice', 'one image more with the last stamp', '1 image with the stamp of the',
          lambda lab: lab.rig.front.send(lab.rig.front.sent[-1]), task='front', spares='rear'),
    Fault('a stamp that goes back', 'one image more with a stamp 0.3 s before the last',
          '1 image stamped before the one before, by up to 0.3',
          lambda lab: lab.rig.front.send(lab.rig.front.sent[-1] - 300_000_000),
          task='front', spares='rear'),
    Fault('a flood of ten times the rate', f'{10 * RATE:.0f} images a second, not {RATE:.0f}',
          r', [1-9]\d* of \d+ dropped', _front('rate', 10 * RATE), _front('rate', RATE),
          'front', 'rear'),
)  # fmt: skip


def _jump_back(lab: Lab) -> None:
    before = lab.rig.simulation.now()
    lab.rig.simulation.jump(-60.0)
    lab.rig.front.send(before)  # it was on its way


#: Of a detector with ``use_sim_time``. It is counted, and nothing is wrong.
JUMP = Fault(
    '/clock jumps', 'ahead by 100 s, then back by 60 s; counted, and no warning', '',
    lambda lab: lab.rig.simulation.jump(100.0), _jump_back, spares='rear',
)  # fmt: skip


def storm(world: World, thresholds: list[float]) -> int:
    """Set a parameter to these, as fast as it can be; how many were refused."""
    client = world.node.create_client(SetParameters, 'detector/set_parameters')
    world.until(client.service_is_ready, 'the service')
    refused, waves = 0, [thresholds[n : n + 8] for n in range(0, len(thresholds), 8)]
    for wave in waves:  # no more at once than the middleware keeps
        futures = [
            client.call_async(
                SetParameters.Request(
                    parameters=[Parameter('front.score_threshold', value=v).to_parameter_msg()]
                )
            )
            for v in wave
        ]
        world.until(lambda: all(future.done() for future in futures), 'an answer')  # noqa: B023
        refused += sum(not future.result().results[0].successful for future in futures)
    world.node.destroy_client(client)
    return refused


@dataclass
class Processes:
    """A detector and its front camera as processes of their own; the rear one is the rig's."""

    rig: Rig
    camera: subprocess.Popen[str]
    detector: subprocess.Popen[str]

    def stop(self, process: subprocess.Popen[str], seconds: float = 0.0) -> None:
        """Stop one as Ctrl-Z does, for so many seconds or until `resume`."""
        process.send_signal(signal.SIGSTOP)
        if seconds:
            sleep(seconds)
            self.resume(process)

    @staticmethod
    def resume(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGCONT)


@contextmanager
def processes(world: World, model: Path) -> Iterator[Processes]:
    """Start them; they end cleanly, or the test fails."""
    rig = Rig(world, model, node=False)
    options = {**NO_BUDGET, 'watchdog': 1.0, 'image_depth': 100}
    camera = start(
        'camera', world.domain_id, '-r', 'image:=front/image',
        *parameters(source='pattern', width=64, height=64, rate=RATE),
    )  # fmt: skip
    detector = start(
        'detector', world.domain_id,
        *parameters(model=model, threads=1, cameras='[front, rear]', **options),
    )  # fmt: skip
    try:
        rig.start(sources=[rig.rear])
        yield Processes(rig, camera, detector)
    finally:
        rig.close()
        for process in (camera, detector):
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIMEOUT)
    assert (camera.returncode, detector.returncode) == (0, 0)
