# SPDX-License-Identifier: Apache-2.0
"""Train a detector on a labelled data set: minutes on a GPU, a small training without one."""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from command import imports, run, whole

with imports():
    import torch
    from augment import Amount, augment
    from checkpoint import Trained, save
    from curves import Epoch, draw_curves
    from data import Samples, class_names, load_samples, open_dataset
    from loss import detection_loss
    from network import STRIDES, Detector
    from torch import Tensor, nn
    from torch.optim.swa_utils import get_ema_multi_avg_fn
    from validate import device_name, measure, spec

    from trt_perception.core import PerceptionError
    from trt_perception.core.files import check_writable

#: While most is learnt; and in the last passes, which show whole pictures as a camera does: an
#: object that a tile cuts has a box that is no longer tight.
_WILD = Amount(mosaic=0.4, scale=(0.6, 1.4))
_CALM = Amount(mosaic=0.0, scale=(0.85, 1.0))
_CALM_SHARE = 0.25
_WARM_UP_SHARE = 0.05
_LAST_RATE = 0.01
_WEIGHT_DECAY = 0.05
_MOST_GRADIENT = 10.0
#: Memory of the averaged weights, in steps: 1 / (1 - decay).
_DECAY = 0.9995
#: What a training is like that is there to see that all works, in a minute on a CPU.
_TINY = {
    'width': 256, 'height': 160, 'epochs': 30, 'batch': 8, 'pictures': 64,
    'validation_pictures': 32, 'measurements': 3, 'mosaic': False,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What to train on, and how.

    Attributes:
        train, validation: folders with ``instances.json`` and ``images/``.
        output: folder for ``model.pt`` and ``curves.png``.
        width, height: of the network's input, pixels; multiples of 32.
        epochs: passes over the pictures.
        batch: pictures of one step.
        learning_rate: the highest.
        seed: of weights, order and augmentation.
        pictures: train on the first so many; None for all.
        validation_pictures: measure on the first so many.
        measurements: how often to measure, spread over the training; the last is at its end.
        mosaic: put pictures together from four.
    """

    train: Path
    validation: Path
    output: Path
    width: int = 640
    height: int = 384
    epochs: int = 100
    batch: int = 128
    learning_rate: float = 2e-3
    seed: int = 0
    pictures: int | None = None
    validation_pictures: int = 200
    measurements: int = 8
    mosaic: bool = True


class Average:
    """The mean of a network's last states, which does better than any of them."""

    def __init__(self, detector: Detector) -> None:
        self.detector = copy.deepcopy(detector).eval().requires_grad_(False)
        self._means, self._values = _floats(self.detector), _floats(detector)
        self._steps = 0

    def update(self) -> None:
        """Take in the network's present state."""
        self._steps += 1
        decay = min(_DECAY, self._steps / (self._steps + 9))  # the first states are soon forgotten
        get_ema_multi_avg_fn(decay)(self._means, self._values, self._steps)


class Step:
    """From the numbers of some pictures to the gradients of the network's weights.

    On a GPU the kernels are recorded once and replayed: a network as small as this one takes the
    GPU less time than Python takes to ask for a thousand kernels.
    """

    def __init__(
        self,
        detector: Detector,
        samples: Samples,
        amount: Amount,
        random: torch.Generator,
        batch: int,
    ) -> None:
        self._detector, self._samples = detector, samples
        self._amount, self._random = amount, random
        self._graph: torch.cuda.CUDAGraph | None = None
        if samples.images.is_cuda:
            self._record(batch)

    def __call__(self, indices: Tensor) -> Tensor:
        """Find the gradients; the parts of the loss (3,)."""
        if self._graph is None:
            return self._run(indices)
        self._indices.copy_(indices)
        self._graph.replay()
        return self._loss.clone()

    def _run(self, indices: Tensor) -> Tensor:
        batch = augment(self._samples, indices, self._amount, self._random)
        images = batch.images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            raw = self._detector(images)
        loss = torch.stack(detection_loss(self._detector, raw, batch.boxes, batch.labels))
        self._detector.zero_grad()
        loss.sum().backward()
        return loss.detach()

    def _record(self, batch: int) -> None:
        self._indices = torch.arange(batch, device=self._samples.images.device)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # whatever is only done the first time is done here
            for _ in range(3):
                self._run(self._indices)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._random)
        with torch.cuda.graph(graph):
            self._loss = self._run(self._indices)
        self._graph = graph


def train(settings: Settings, device: torch.device) -> list[Epoch]:
    """Train, and leave the averaged network and the curves in the output folder.

    Returns:
        One entry for each pass.

    Raises:
        PerceptionError: the settings or the data cannot be used, or the loss is no number any more.
    """
    _check(settings)
    size = settings.width, settings.height
    validation = open_dataset(settings.validation, settings.validation_pictures)
    samples = load_samples(settings.train, *size, settings.pictures).to(device)
    names = class_names(settings.train)  # the files are known to be whole by now
    validation.match(spec(names, *size))  # or it would not fit hours from now
    print(f'{len(samples.images)} pictures, {int((samples.labels >= 0).sum())} objects of', *names)

    torch.manual_seed(settings.seed)
    random = torch.Generator(device).manual_seed(settings.seed)
    detector = Detector(len(names), *size).to(device, memory_format=torch.channels_last)
    average = Average(detector)
    optimizer = _optimizer(detector, settings.learning_rate)
    batch = min(settings.batch, len(samples.images))
    steps = len(samples.images) // batch
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step / (steps * settings.epochs))
    )
    wild = round((1 - _CALM_SHARE) * settings.epochs) if settings.mosaic else 0
    measured_after = _spread(settings.epochs, settings.measurements)
    epochs: list[Epoch] = []
    start = time.perf_counter()
    for number in range(1, settings.epochs + 1):
        if number in (1, wild + 1):
            step = Step(detector, samples, _WILD if number <= wild else _CALM, random, batch)
        order = torch.randperm(len(samples.images), generator=random, device=device)
        losses = []
        for indices in order.split(batch)[:steps]:
            losses.append(step(indices))
            nn.utils.clip_grad_norm_(detector.parameters(), _MOST_GRADIENT)
            optimizer.step()
            scheduler.step()
            average.update()
        epoch = Epoch(*torch.stack(losses).mean(0).tolist())
        if not math.isfinite(epoch.loss):  # and never will be again
            raise PerceptionError(
                f'the loss is {epoch.loss} in pass {number}; lower the learning rate'
            )
        if number in measured_after:
            accuracy = measure(average.detector, names, validation, device)
            epoch = epoch._replace(map=accuracy.map, map50=accuracy.map50)
            save(settings.output / 'model.pt', Trained(average.detector, names))
        epochs.append(epoch)
        _report(number, settings.epochs, epoch, time.perf_counter() - start)
    draw_curves(settings.output / 'curves.png', epochs)
    return epochs


def _optimizer(detector: Detector, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW; only kernels decay, not what shifts or scales."""
    kernels = [p for p in detector.parameters() if p.ndim > 1]
    others = [p for p in detector.parameters() if p.ndim <= 1]
    groups = [
        {'params': kernels, 'weight_decay': _WEIGHT_DECAY},
        {'params': others, 'weight_decay': 0.0},
    ]
    return torch.optim.AdamW(groups, learning_rate, fused=True)


def _rate(progress: float) -> float:
    """Share of the highest learning rate, 0..1 into the training: up in a line, down in a wave."""
    if progress < _WARM_UP_SHARE:
        return max(progress / _WARM_UP_SHARE, _LAST_RATE)
    down = (progress - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE)
    return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * down)) / 2


def _spread(epochs: int, count: int) -> set[int]:
    return {math.ceil(epochs * k / count) for k in range(1, count + 1)}


def _floats(detector: Detector) -> list[Tensor]:
    return [value for value in detector.state_dict().values() if value.is_floating_point()]


def _report(number: int, epochs: int, epoch: Epoch, seconds: float) -> None:
    line = f'{number:4}/{epochs} {seconds:6.1f} s  loss {epoch.loss:.3f}'
    line += f' (box {epoch.box:.3f}, step {epoch.step:.3f}, classes {epoch.classes:.3f})'
    if epoch.map is not None:
        line += f'  mAP50 {epoch.map50:.3f}, mAP50-95 {epoch.map:.3f}'
    print(line, flush=True)


def _check(settings: Settings) -> None:
    for side in (settings.width, settings.height):
        if side < STRIDES[-1] or side % STRIDES[-1]:
            raise PerceptionError(f'size {side} is not a multiple of {STRIDES[-1]}; give one')
    if settings.epochs < 1 or settings.batch < 1:
        raise PerceptionError('epochs and batch must be 1 or more')
    if not settings.learning_rate > 0:
        raise PerceptionError(f'learning rate {settings.learning_rate} is not above 0; give one')
    settings.output.mkdir(parents=True, exist_ok=True)
    for name in ('model.pt', 'curves.png'):
        check_writable(settings.output / name)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cuda', 'cpu'):
        raise PerceptionError(f"device '{name}' is neither cuda nor cpu; give one")
    if device.type == 'cuda':
        if (device.index or 0) >= torch.cuda.device_count():
            raise PerceptionError(f"device '{name}': PyTorch finds no such GPU here; give cpu")
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
    return device


def main() -> int:
    """Read the arguments and train; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--train', type=Path, required=True, help='folder with instances.json and images/')
    add('--validation', type=Path, required=True, help='such a folder of other pictures')
    add('--output', type=Path, default=Path('training'), help='for model.pt and curves.png')
    add(
        '--size',
        type=int,
        nargs=2,
        metavar=('WIDTH', 'HEIGHT'),
        help='of the input (default: 640 384)',
    )
    add('--epochs', type=whole(1), help=f'passes over the pictures (default: {Settings.epochs})')
    add('--batch', type=whole(1), help=f'pictures of one step (default: {Settings.batch})')
    add('--learning-rate', type=float, help=f'the highest (default: {Settings.learning_rate})')
    add('--seed', type=whole(0), help='of weights, order and augmentation (default: 0)')
    add('--device', help='cuda or cpu (default: cuda, or without a GPU --tiny on cpu)')
    add('--tiny', action='store_true', help='few pictures, small input, few passes: for a look')
    given = vars(parser.parse_args())
    output, name, tiny = given['output'], given.pop('device'), given.pop('tiny')
    if size := given.pop('size'):
        given['width'], given['height'] = size
    if name is None and not torch.cuda.is_available():
        name, tiny = 'cpu', True
        print('no GPU here: a small training for a look; --device cpu does a whole one, in a day')
    chosen = {key: value for key, value in given.items() if value is not None}
    try:
        device = _device(name or 'cuda')
        print('training on', device_name(device), flush=True)
        train(Settings(**{**(_TINY if tiny else {}), **chosen}), device)
    except PerceptionError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f"wrote '{output / 'model.pt'}' and curves.png beside it")
    return 0


if __name__ == '__main__':
    run(main)
