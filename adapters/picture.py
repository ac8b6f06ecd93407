"""Loss curves as a small PNG, drawn with nothing but the standard library: a model card shows no SVG dependably."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]
Colour = tuple[int, int, int]

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 36
WHITE, GREY, INK, TRAIN, HELD_OUT = (255,) * 3, (222, 222, 226), (70, 70, 80), (101, 116, 205), (196, 88, 17)
# Five rows of three dots for each character, a row an octal digit.
_GLYPHS = {"0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757",
           "7": "71111", "8": "75757", "9": "75717", ".": "00002"}
_DOT = 2
MOST_DRAWN = 300


def loss_picture(train: Sequence[Point], held_out: Sequence[Point]) -> bytes | None:
    """A PNG of 640 x 260: loss while training as a thin line, held-out loss as a thick one with dots.

    Points are (step, loss). None where fewer than two were measured. The axes carry their largest and least values.
    """
    points = [*train, *held_out]
    if len(points) < 2:
        return None
    canvas = _Canvas()
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    first, last = min(steps), max(max(steps), min(steps) + 1)
    low, high = min(0.0, *losses), max(*losses, 1e-9)

    def place(point: Point) -> Point:
        return (LEFT + (point[0] - first) / (last - first) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - (point[1] - low) / (high - low) * (HEIGHT - TOP - BOTTOM))

    for share in (0.0, 0.5, 1.0):
        level = low + share * (high - low)
        canvas.line(place((first, level)), place((last, level)), GREY, 1.0)
        canvas.write(f"{level:.2f}", LEFT - 8, place((first, level))[1], to_the_left=True)
    canvas.write(f"{first:.0f}", LEFT, HEIGHT - BOTTOM + 18)
    canvas.write(f"{last:.0f}", WIDTH - RIGHT, HEIGHT - BOTTOM + 18, to_the_left=True)
    canvas.curve([place(one) for one in thinned(train)], TRAIN, 1.6)
    canvas.curve([place(one) for one in thinned(held_out)], HELD_OUT, 2.6, dots=4.0)
    return canvas.as_png()


def thinned(points: Sequence[Point], most: int = MOST_DRAWN) -> list[Point]:
    """At most that many of the points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


class _Canvas:
    """Pixels in RGB, a row after the other."""

    def __init__(self) -> None:
        self.pixels = bytearray(WHITE * (WIDTH * HEIGHT))

    def curve(self, points: Sequence[Point], colour: Colour, width: float, dots: float = 0.0) -> None:
        """A line through the points, and a dot of that radius on each."""
        for begin, end in pairwise(points):
            self.line(begin, end, colour, width)
        for point in points if dots else ():
            self.line(point, point, colour, 2 * dots)

    def line(self, begin: Point, end: Point, colour: Colour, width: float) -> None:
        """A line with round ends; pixels on its edge are mixed by how far they are from its middle."""
        (ax, ay), (bx, by) = begin, end
        along_x, along_y = bx - ax, by - ay
        length = along_x**2 + along_y**2
        reach = width / 2 + 1
        for y in range(max(0, int(min(ay, by) - reach)), min(HEIGHT, int(max(ay, by) + reach) + 1)):
            for x in range(max(0, int(min(ax, bx) - reach)), min(WIDTH, int(max(ax, bx) + reach) + 1)):
                share = ((x - ax) * along_x + (y - ay) * along_y) / length if length else 0.0
                share = min(1.0, max(0.0, share))
                away = ((x - ax - share * along_x) ** 2 + (y - ay - share * along_y) ** 2) ** 0.5
                self._mix(x, y, colour, min(1.0, width / 2 + 0.5 - away))

    def write(self, text: str, x: float, y: float, to_the_left: bool = False) -> None:
        """Digits and points, their middle at height y, beginning or ending at x."""
        start = round(x) - (len(text) * 4 * _DOT if to_the_left else 0)
        top = round(y) - 5 * _DOT // 2
        for place, character in enumerate(text):
            for row, dots in enumerate(_GLYPHS.get(character, "00000")):
                for column in range(3):
                    if int(dots) >> (2 - column) & 1:
                        self._square(start + (place * 4 + column) * _DOT, top + row * _DOT)

    def _square(self, left: int, top: int) -> None:
        for y in range(top, top + _DOT):
            for x in range(left, left + _DOT):
                if 0 <= x < WIDTH and 0 <= y < HEIGHT:
                    self._mix(x, y, INK, 1.0)

    def _mix(self, x: int, y: int, colour: Colour, share: float) -> None:
        if share <= 0:
            return
        start = (y * WIDTH + x) * 3
        for channel, value in enumerate(colour, start):
            self.pixels[channel] = round(self.pixels[channel] * (1 - share) + value * share)

    def as_png(self) -> bytes:
        """The PNG file (W3C, Portable Network Graphics, third edition): eight bits a channel, no filter."""
        rows = b"".join(b"\0" + self.pixels[start:start + WIDTH * 3]
                        for start in range(0, len(self.pixels), WIDTH * 3))
        header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + \
            _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
