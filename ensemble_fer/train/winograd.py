"""3x3 convolutions with a fraction of the multiplications, for training in float32 on the CPU.

Winograd's minimal filtering (Lavin & Gray 2016): a tile of m x m outputs needs (m + 2)^2 products for each pair of
channels instead of 9 m^2, so tiles of 5 need 4.6 times fewer. Everything is a product of matrices, for which
processors have fast routines; where they multiply bfloat16 in hardware, training uses that instead.

Rounding: with 256 channels outputs are off by up to 7e-6 of their spread (root mean square), a direct convolution by
1e-6 and bfloat16 by 3e-3. Scores are always computed by direct convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ensemble_fer.train.toom_cook import POINTS, matrices

# Below, what is saved in products is lost in transforming tiles.
LEAST_CHANNELS, LEAST_GAIN = 64, 2.0
# Products of a direct convolution of a batch; with fewer, it takes no time worth saving.
LEAST_PRODUCTS = 1e9
# The transformed weights cost as much as so many tiles more (measured with 256 and 512 channels).
WEIGHT_TILES = 64
# Tiles are worked on so many numbers at a time, not all at once, for the sake of memory; but so many tiles at least,
# for the product with the weights.
PIECE, PIECE_TILES = 1_000_000, 256


def eligible(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, int] | None:
    """What ``Convolution`` takes, the side of its tiles last, if it gains; else None."""
    if weight.shape[2:] != (3, 3) or groups != 1 or input.dim() != 4 or min(weight.shape[:2]) < LEAST_CHANNELS:
        return None
    if any(given not in (wanted, (wanted, wanted)) for given, wanted in ((stride, 1), (padding, 1), (dilation, 1))):
        return None
    if input.device.type != "cpu" or not input.dtype == weight.dtype == torch.float32:
        return None
    if torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
        return None
    if 9 * input.numel() * len(weight) < LEAST_PRODUCTS:
        return None
    side, gain = best_tile(len(input), *input.shape[2:])
    return (input, weight, bias, side) if gain >= LEAST_GAIN else None


@lru_cache(maxsize=256)
def best_tile(faces: int, height: int, width: int) -> tuple[int, float]:
    """Side of the tiles that need the fewest products for maps of this size, and how many times fewer they are."""
    cost = {
        side: (faces * _count(height, side) * _count(width, side) + WEIGHT_TILES) * (side + 2) ** 2 for side in POINTS
    }
    side = min(cost, key=lambda side: cost[side])
    return side, 9 * faces * height * width / cost[side]


def _count(length: int, side: int) -> int:
    return -(-length // side)


@dataclass(frozen=True)
class Transforms:
    """Matrices of tiles of m outputs; a = m + 2. Of pictures d and weights g, outputs are A ((G g) * (B d))."""

    inputs: Tensor  # B [a, a]
    weights: Tensor  # G [a, 3]
    outputs: Tensor  # A [m, a]


@lru_cache(maxsize=len(POINTS))
def transforms(side: int) -> Transforms:
    """The matrices for tiles of ``side`` outputs, in float32."""
    return Transforms(*(torch.tensor(matrix, dtype=torch.float32) for matrix in matrices(side)))


def _both(matrix: Tensor, tiles: Tensor, spare: Tensor, out: Tensor) -> Tensor:
    """A matrix [q, p] on rows and on columns of tiles [p p, n], into ``out`` [q q, n]."""
    (q, p), n = matrix.shape, tiles.shape[1]
    half = spare[: p * q * n]
    torch.bmm(matrix.expand(p, q, p), tiles.view(p, p, n), out=half.view(p, q, n))
    torch.mm(matrix, half.view(p, q * n), out=out.view(q, q * n))
    return out


class Rooms:
    """Memory by name, which grows to the largest size asked for and holds whatever was left there."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def of(self, name: str, *sizes: int) -> Tensor:
        wanted = math.prod(sizes)
        if name not in self._kept or self._kept[name].numel() < wanted:
            self._kept.pop(name, None)
            self._kept[name] = torch.empty(wanted)
        return self._kept[name][:wanted].view(sizes)


class _Shape:
    """Sizes of a convolution, and how many faces at a time are worked on."""

    def __init__(self, images: Tensor, weight: Tensor, side: int, rooms: Rooms) -> None:
        self.rooms = rooms
        self.n, self.inputs, self.height, self.width = images.shape
        self.outputs, self.side, self.outer = len(weight), side, side + 2
        self.down, self.across = _count(self.height, side), _count(self.width, side)
        self.tiles, self.area = self.down * self.across, (side + 2) ** 2
        self.channels = max(self.inputs, self.outputs)
        fitting = max(PIECE // (self.area * self.tiles * self.channels), _count(PIECE_TILES, self.tiles))
        self.faces = max(1, min(self.n, fitting))

    def spares(self, count: int) -> list[Tensor]:
        """Room for the tiles of a piece."""
        size = self.area * self.faces * self.tiles * self.channels
        return [self.rooms.of(f"tiles {number}", size) for number in range(count)]

    def border(self) -> Tensor:
        """Room for the faces of a piece within zeros, as far as tiles reach."""
        side = self.side
        return self.rooms.of("border", self.faces, side * self.down + 2, side * self.across + 2, self.inputs).zero_()

    def overlapping(self, images: Tensor, border: Tensor, out: Tensor) -> Tensor:
        """Tiles [a a, faces * tiles * channels] that share two rows or columns with the next, of pictures n h w c."""
        faces, a, m = len(images), self.outer, self.side
        padded = border[:faces]
        padded[:, 1 : self.height + 1, 1 : self.width + 1].copy_(images)
        face, row, column, _ = padded.stride()
        sizes = (a, a, faces, self.down, self.across, self.inputs)
        tiles = padded.as_strided(sizes, (row, column, face, m * row, m * column, 1))
        return out.view(sizes).copy_(tiles).view(a * a, -1)

    def piece(self, kept: Tensor | None, start: int, count: int, spare: Tensor) -> Tensor:
        """Where the transformed tiles [a a, count, inputs] of a piece are; in ``spare`` if nothing is kept."""
        size, tile = self.area * count * self.inputs, self.area * self.inputs * self.tiles
        room = spare[:size] if kept is None else kept[tile * start : tile * start + size]
        return room.view(self.area, count, self.inputs)

    def laid_out(self, maps: Tensor) -> Tensor:
        """Maps faces h w c as a view [m, m, faces, down, across, c]; they must be whole tiles."""
        m, channels = self.side, maps.shape[-1]
        return maps.view(len(maps), self.down, m, self.across, m, channels).permute(2, 4, 0, 1, 3, 5)

    def padded(self, maps: Tensor) -> Tensor:
        """Maps faces h w c with zeros up to whole tiles, contiguous."""
        more = (self.side * self.down - self.height, self.side * self.across - self.width)
        return torch.nn.functional.pad(maps, (0, 0, 0, more[1], 0, more[0])) if any(more) else maps.contiguous()


class Convolution(torch.autograd.Function):
    """A 3x3 convolution with stride and padding 1, in tiles of ``side`` outputs."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, side: int, rooms: Rooms) -> Tensor:
        shape, to = _Shape(images, weight, side, rooms), transforms(side)
        moved = _moved(weight, to, rooms)
        pictures = images.permute(0, 2, 3, 1)
        # Not a view of something else, since a ReLU may change it in place.
        out = torch.empty(shape.n, shape.outputs, shape.height, shape.width, memory_format=torch.channels_last)
        maps = out.permute(0, 2, 3, 1)
        exact = (side * shape.down, side * shape.across) == (shape.height, shape.width)
        room = rooms.of("maps", shape.faces, side * shape.down, side * shape.across, shape.outputs)
        one, two, three = shape.spares(3)
        border = shape.border()
        # The gradient of the weights takes the transformed tiles; to make them again costs more than to keep them.
        kept = torch.empty(shape.area * shape.n * shape.tiles * shape.inputs) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(weight, kept, moved if ctx.needs_input_grad[0] else None)
        ctx.shape = shape
        for start in range(0, shape.n, shape.faces):
            some = slice(start, min(shape.n, start + shape.faces))
            count = (some.stop - start) * shape.tiles
            first, second = shape.area * count * shape.inputs, shape.area * count * shape.outputs
            tiles = shape.overlapping(pictures[some], border, one[:first])
            tiles = _both(to.inputs, tiles, three, shape.piece(kept, start, count, two).view(shape.area, -1))
            products = one[:second].view(shape.area, count, shape.outputs)
            torch.bmm(tiles.view(shape.area, count, shape.inputs), moved.transpose(1, 2), out=products)
            made = two[: side * side * count * shape.outputs].view(side * side, -1)
            _both(to.outputs, products.view(shape.area, -1), three, made)
            whole = maps[some] if exact else room[: some.stop - start]
            target = shape.laid_out(whole)
            torch.add(made.view(target.shape), 0 if bias is None else bias, out=target)
            if not exact:
                maps[some] = whole[:, : shape.height, : shape.width]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        weight, kept, back = ctx.saved_tensors
        of_images, of_weight, of_bias = ctx.needs_input_grad[:3]
        shape: _Shape = ctx.shape
        side, rooms, to = shape.side, shape.rooms, transforms(shape.side)
        maps = gradient.permute(0, 2, 3, 1)
        out = torch.empty(shape.n, shape.height, shape.width, shape.inputs) if of_images else None
        total = rooms.of("total", shape.area, shape.outputs, shape.inputs) if of_weight else None
        one, two, three, four = shape.spares(4)
        sums = rooms.of("sums", shape.faces, shape.down + 1, side, shape.across + 1, side, shape.inputs)
        for start in range(0, shape.n, shape.faces):
            some = slice(start, min(shape.n, start + shape.faces))
            count = (some.stop - start) * shape.tiles
            first, second = shape.area * count * shape.inputs, shape.area * count * shape.outputs
            given = shape.laid_out(shape.padded(maps[some]))
            tiles = one[: given.numel()].view(given.shape).copy_(given).view(side * side, -1)
            above = _both(to.outputs.T.contiguous(), tiles, three, four[:second].view(shape.area, -1))
            above = above.view(shape.area, count, shape.outputs)
            if total is not None:
                tiles = shape.piece(kept, start, count, two)
                torch.baddbmm(total, above.transpose(1, 2), tiles, beta=0 if start == 0 else 1, out=total)
            if out is not None and back is not None:
                below = two[:first].view(shape.area, count, shape.inputs)
                torch.bmm(above, back, out=below)
                tiles = _both(
                    to.inputs.T.contiguous(), below.view(shape.area, -1), three, one[:first].view(shape.area, -1)
                )
                _add_up(shape, tiles, sums[: some.stop - start], out[some])
        return (
            None if out is None else out.permute(0, 3, 1, 2),
            None if total is None else _gathered(total, weight, to, rooms),
            maps.sum((0, 1, 2)) if of_bias else None,
            None,
            None,
        )


def _moved(weight: Tensor, to: Transforms, rooms: Rooms) -> Tensor:
    """Transformed weights [a a, outputs, inputs] of weights [outputs, inputs, 3, 3]."""
    (a, _), (outputs, inputs) = to.weights.shape, weight.shape[:2]
    # Weights lie in memory with the inputs of a pixel side by side, and stay so.
    pixels = weight.permute(2, 3, 0, 1).reshape(9, -1)
    spare = rooms.of("half of weights", 3 * a * outputs * inputs)
    return _both(to.weights, pixels, spare, torch.empty(a * a, outputs * inputs)).view(-1, outputs, inputs)


def _gathered(total: Tensor, weight: Tensor, to: Transforms, rooms: Rooms) -> Tensor:
    """The gradient of the weights from that of the transformed ones."""
    outputs, inputs = weight.shape[:2]
    spare = rooms.of("half of weights", 3 * len(to.weights) * outputs * inputs)
    made = _both(to.weights.T.contiguous(), total.view(len(total), -1), spare, torch.empty(9, outputs * inputs))
    return torch.empty_like(weight).copy_(made.view(3, 3, outputs, inputs).permute(2, 3, 0, 1))


def _add_up(shape: _Shape, tiles: Tensor, sums: Tensor, out: Tensor) -> None:
    """Gradients of faces from those of overlapping tiles: what tiles share is added."""
    a, m, down, across = shape.outer, shape.side, shape.down, shape.across
    parts = tiles.view(a, a, len(sums), down, across, -1).permute(2, 3, 0, 4, 1, 5)
    sums[:, down].zero_()
    sums[:, :, :, across].zero_()
    sums[:, :down, :, :across] = parts[:, :, :m, :, :m]
    # The last two rows and columns of a tile are the first two of the next.
    sums[:, 1:, :2, :across] += parts[:, :, m:, :, :m]
    sums[:, :down, :, 1:, :2] += parts[:, :, :m, :, m:]
    sums[:, 1:, :2, 1:, :2] += parts[:, :, m:, :, m:]
    whole = sums.view(len(sums), m * (down + 1), m * (across + 1), -1)
    out.copy_(whole[:, 1 : shape.height + 1, 1 : shape.width + 1])
