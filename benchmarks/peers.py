# SPDX-License-Identifier: Apache-2.0
"""What a detector is otherwise made of: two pipelines in PyTorch, to be measured beside ours.

Both take a (H, W, 3) BGR image on the host and give boxes on the host, as our pipeline does, with
the same letterbox, thresholds and class-aware suppression; outputs are those of YOLOv8.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from onnx_torch import OnnxModule

PAD = 114
SCORE, OVERLAP, MOST = 0.25, 0.7, 300


def letterbox(
    image: np.ndarray, width: int, height: int, out: np.ndarray
) -> tuple[float, int, int]:
    """Scale an image into the middle of ``out`` (height, width, 3), grey around it.

    Returns:
        The scale, and the columns and rows before the image.
    """
    scale = min(width / image.shape[1], height / image.shape[0])
    w, h = round(image.shape[1] * scale), round(image.shape[0] * scale)
    left, top = (width - w) // 2, (height - h) // 2
    out[:] = PAD
    cv2.resize(image, (w, h), dst=out[top : top + h, left : left + w])
    return scale, left, top


class UsualPeer:
    """As tutorials write it: eager FP16, a new tensor at every step."""

    name = 'PyTorch eager FP16 (cv2 letterbox, eager model, torchvision batched_nms)'

    def __init__(self, model: Path, width: int, height: int, device: str = 'cuda') -> None:
        """Load a model; on a CPU it computes in FP32."""
        self._dtype = torch.float16 if device == 'cuda' else torch.float32
        self._model = OnnxModule(model).to(device, self._dtype).eval()
        self._size, self._device = (width, height), device

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4) in the image's pixels, scores and classes (N,), best first."""
        width, height = self._size
        canvas = np.empty((height, width, 3), np.uint8)
        placed = letterbox(image, width, height, canvas)
        chw = np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1))
        tensor = torch.from_numpy(chw).to(self._device).to(self._dtype)[None] / 255
        return boxes_on_host(self._model(tensor), placed)


class CarefulPeer:
    """As one does it with care: pinned buffers that are kept, the model in a CUDA graph."""

    name = 'PyTorch CUDA graph FP16 (cv2 letterbox, pinned copy, graphed model, torchvision NMS)'

    def __init__(self, model: Path, width: int, height: int) -> None:
        """Load a model and capture it; CUDA only."""
        self._network = OnnxModule(model).to('cuda', torch.float16).eval()
        self._network = self._network.to(memory_format=torch.channels_last)
        self._size = width, height
        self._pinned = torch.empty((height, width, 3), dtype=torch.uint8, pin_memory=True)
        self._canvas = self._pinned.numpy()
        self._pixels = torch.empty((height, width, 3), dtype=torch.uint8, device='cuda')
        self.graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode():
            with torch.cuda.stream(side):
                for _ in range(5):
                    self._run()
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(self.graph):
                self._output = self._run()

    def _run(self) -> torch.Tensor:
        tensor = self._pixels.flip(2).permute(2, 0, 1)[None].to(torch.float16) / 255
        return self._network(tensor.contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `UsualPeer`."""
        placed = letterbox(image, *self._size, self._canvas)
        self._pixels.copy_(self._pinned, non_blocking=True)
        self.graph.replay()
        return boxes_on_host(self._output, placed)


def boxes_on_host(
    output: torch.Tensor, placed: tuple[float, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Threshold and suppress (1, 4 + classes, N) where it lies, and fetch what is left."""
    from torchvision.ops import batched_nms

    rows = output[0].float()
    scores, classes = rows[4:].max(0)
    kept = scores > SCORE
    scores, classes, located = scores[kept], classes[kept], rows[:4, kept].T
    half = located[:, 2:] / 2
    boxes = torch.cat((located[:, :2] - half, located[:, :2] + half), 1)
    best = batched_nms(boxes, scores, classes, OVERLAP)[:MOST]
    found = torch.cat((boxes[best], scores[best, None], classes[best, None].float()), 1)
    host = found.cpu().numpy()
    scale, left, top = placed
    host[:, :4] = (host[:, :4] - (left, top, left, top)) / scale
    return host[:, :4], host[:, 4], host[:, 5].astype(np.int32)
