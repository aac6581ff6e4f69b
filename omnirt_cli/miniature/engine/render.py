"""The picture itself: a still portrait with a mouth that opens, lids that close and a head that sways a little.

Every frame is the portrait warped. The mouth splits along the line between the lips: the upper lip rises a
little, the lower lip and the chin fall, and the gap shows teeth and tongue. Lids slide over the eyes. At last
a coarse mesh moves the head against its background. All of it fades to nothing at the edges: there are no seams.
"""

import numpy as np
from PIL import Image

from engine.face import Face, find
from engine.motion import Pose

_GAP_DARK = np.array([52, 18, 20], np.float32)
_TEETH = np.array([226, 218, 208], np.float32)
_TONGUE = np.array([158, 74, 74], np.float32)
_LASH = np.array([0.75, 0.8, 0.8], np.float32)  # how much darker a lash line makes red, green and blue


def cover(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The picture scaled to cover height x width and cut at its centre, as the models do."""
    factor = max(height / picture.height, width / picture.width)
    size = (max(width, round(picture.width * factor)), max(height, round(picture.height * factor)))
    scaled = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return scaled.crop((left, top, left + width, top + height))


class Renderer:
    """Draws poses of one portrait, already at the size of the video."""

    def __init__(self, portrait: Image.Image) -> None:
        self.face = find(portrait)
        self._still = np.asarray(portrait)
        pixels = self._still.astype(np.float32)
        self._mouth = _Mouth(pixels, self.face)
        self._eyes = [_Eye(pixels, at, self.face) for at in (self.face.left_eye, self.face.right_eye)]
        self._head = _Head(portrait.size, self.face)

    def frame(self, pose: Pose) -> np.ndarray:
        """The frame as (height, width, 3) uint8."""
        canvas = self._still.copy()
        self._mouth.draw(canvas, pose.opening, pose.width)
        for eye in self._eyes:
            eye.draw(canvas, pose.lids)
        return np.asarray(self._head.moved(Image.fromarray(canvas), pose))


class _Region:
    """A rectangle of the picture, clipped to it, in the axes of the face.

    ``u`` and ``v`` are every pixel's place from ``at`` along and across the line through the eyes.
    """

    def __init__(
        self, still: np.ndarray, at: tuple[float, float], face: Face, sides: tuple[float, float, float]
    ) -> None:
        height, width = still.shape[:2]
        beside, above, below = (side * face.d for side in sides)
        self.rows = slice(int(np.clip(at[1] - above, 0, height - 2)), int(np.clip(at[1] + below, 2, height)))
        self.columns = slice(int(np.clip(at[0] - beside, 0, width - 2)), int(np.clip(at[0] + beside, 2, width)))
        self.y, self.x = np.mgrid[self.rows, self.columns].astype(np.float32)
        self.cos, self.sin = (np.float32(value) for value in face.tilt)
        self.u = (self.x - at[0]) * self.cos + (self.y - at[1]) * self.sin
        self.v = (self.y - at[1]) * self.cos - (self.x - at[0]) * self.sin
        self._flat = still.reshape(-1, 3)
        self._size = height, width

    def moved(self, du: np.ndarray, dv: np.ndarray) -> np.ndarray:
        """The still picture at every pixel's place plus (du, dv), bilinearly."""
        height, width = self._size
        xs = np.clip(self.x + du * self.cos - dv * self.sin, 0, width - 1.01)
        ys = np.clip(self.y + du * self.sin + dv * self.cos, 0, height - 1.01)
        x0, y0 = np.floor(xs), np.floor(ys)
        fx, fy = (xs - x0)[..., None], (ys - y0)[..., None]
        at = y0.astype(np.int32) * width + x0.astype(np.int32)
        top, top_right = self._flat.take(at, axis=0), self._flat.take(at + 1, axis=0)
        below, below_right = self._flat.take(at + width, axis=0), self._flat.take(at + width + 1, axis=0)
        top += (top_right - top) * fx
        below += (below_right - below) * fx
        top += (below - top) * fy
        return top

    def paste(self, canvas: np.ndarray, drawn: np.ndarray) -> None:
        canvas[self.rows, self.columns] = (drawn + 0.5).astype(np.uint8)


def _smooth(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, without a corner between."""
    values = np.clip(values, 0, 1)
    return values * values * (3 - 2 * values)


class _Mouth:
    """Splits the lips along their line, lets the jaw fall, and paints what shows between."""

    def __init__(self, still: np.ndarray, face: Face) -> None:
        self.d, self.half = face.d, face.mouth_half_width
        self.region = _Region(still, face.mouth, face, (0.88, 0.38, 1.15))
        self.u = self.region.u
        self.v = self.region.v - face.mouth_curve * np.minimum(np.abs(self.u / self.half), 1.25) ** 2
        # The jaw is as wide as the cheeks, the lips only as wide as the mouth.
        self.jaw = _smooth(1.2 - np.abs(self.u) / (0.72 * self.d)) * 0.6
        self.around = np.exp(-((self.u / (1.1 * self.half)) ** 2) - (self.v / (0.42 * self.d)) ** 2)
        self.side = np.clip(1 - (self.u / (0.86 * self.half)) ** 2, 0, 1)
        self.soft = max(0.7, 0.012 * self.d)

    def draw(self, canvas: np.ndarray, opening: float, width: float) -> None:
        drop, lift = self.d * 0.25 * opening * (1 - 0.15 * width), self.d * 0.05 * opening
        if drop < 0.3 and abs(width) < 0.02:
            return
        stretch = 0.15 * width - 0.08 * opening
        lips = np.clip(1 - (self.u / (self.half * (0.92 + stretch))) ** 2, 0, 1) ** 0.85
        upper, lower = -lift * lips, drop * lips
        fall = np.where(self.v < (upper + lower) / 2, self._above(upper), self._below(lower, drop))
        drawn = self.region.moved(-stretch * self.u * self.around, -fall)
        gap = self._gap(upper, lower)
        drawn += gap[..., None] * (self._inside(upper, lower, opening) - drawn)
        self.region.paste(canvas, drawn)

    def _above(self, upper: np.ndarray) -> np.ndarray:
        return upper * _smooth(1 + (self.v - upper) / (0.34 * self.d))

    def _below(self, lower: np.ndarray, drop: float) -> np.ndarray:
        """How far down: the lip's own drop at the lip, the jaw's at the chin, nothing at the collar."""
        depth = (self.v - lower) / self.d
        at_chin = _smooth(depth / 0.42)
        falls = lower + (drop * self.jaw - lower) * at_chin
        return falls * _smooth((1.1 - depth) / 0.65)

    def _gap(self, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        inside = np.minimum(self.v - upper, lower - self.v)
        return _smooth(inside / (2 * self.soft) + 0.3) * _smooth((lower - upper) / (1.5 * self.soft) - 0.2)

    def _inside(self, upper: np.ndarray, lower: np.ndarray, opening: float) -> np.ndarray:
        """The mouth's inside: dark, with upper teeth in the shade of the lip and, when wide open, a tongue."""
        d, side = self.d, self.side
        teeth = _smooth((upper + 0.07 * d - self.v) / (0.03 * d)) * _smooth((self.v - upper) / (0.05 * d) + 0.45)
        teeth *= _smooth(side * 1.5) * min(0.85, 2.0 * opening)
        tongue = (
            _smooth((self.v - lower + 0.10 * d * side) / (0.07 * d)) * side * min(0.75, 1.5 * max(0, opening - 0.2))
        )
        inside = _GAP_DARK + tongue[..., None] * (_TONGUE - _GAP_DARK)
        return inside + teeth[..., None] * (_TEETH * (0.5 + 0.5 * side)[..., None] - inside)


class _Eye:
    """Draws the upper lid down over the eye."""

    def __init__(self, still: np.ndarray, at: tuple[float, float], face: Face) -> None:
        d = self.d = face.d
        self.region = _Region(still, at, face, (0.36, 0.3, 0.24))
        share = np.clip(1 - (self.region.u / (0.29 * d)) ** 2, 0, 1)
        self.top = -0.15 * d * share**0.8
        self.bottom = 0.125 * d * share**0.6
        self.weight = _smooth(share * 2.5)

    def draw(self, canvas: np.ndarray, closed: float) -> None:
        if closed <= 0:
            return
        d, v = self.d, self.region.v
        edge = self.top + closed * (self.bottom - self.top)
        covered = (
            _smooth((edge - v) / max(1.0, 0.02 * d) + 0.5) * _smooth((v - self.top) / (0.06 * d) + 0.5) * self.weight
        )
        # The lid is the skin above the eye, drawn out downwards.
        share = np.clip((v - self.top) / np.maximum(edge - self.top, 1), 0, 1)
        lid = self.region.moved(np.zeros_like(v), self.top - 0.03 * d - 0.04 * d * (1 - share) - v)
        lid *= 1 - 0.12 * closed * share[..., None]
        lash = np.exp(-(((v - edge) / max(0.9, 0.02 * d)) ** 2)) * self.weight * 0.6 * min(1.0, 2 * closed)
        part = canvas[self.region.rows, self.region.columns].astype(np.float32)
        part += covered[..., None] * (lid - part)
        part *= 1 - lash[..., None] * _LASH
        self.region.paste(canvas, part)


class _Head:
    """Moves the head over a background that yields softly, by a coarse mesh."""

    _CELL = 30

    def __init__(self, size: tuple[int, int], face: Face) -> None:
        self.size, self.d = size, face.d
        width, height = size
        self.pivot = (face.center[0], face.mouth[1] + 1.1 * face.d)
        self.xs = np.linspace(0, width, max(4, width // self._CELL) + 1).round()
        self.ys = np.linspace(0, height, max(4, height // self._CELL) + 1).round()
        self.x, self.y = np.meshgrid(self.xs, self.ys)
        self.weight = self._weight(face)

    def _weight(self, face: Face) -> np.ndarray:
        """1 on the head, fading to 0 well outside, on the shoulders and at the picture's border."""
        d, (width, height) = face.d, self.size
        center_y = (face.center[1] + face.mouth[1]) / 2 - 0.2 * d
        far = np.hypot((self.x - face.center[0]) / (1.5 * d), (self.y - center_y) / (1.9 * d))
        border = np.minimum(np.minimum(self.x, width - self.x), np.minimum(self.y, height - self.y))
        return _smooth(2.0 - far) * _smooth(border / (0.06 * min(self.size)))

    def moved(self, picture: Image.Image, pose: Pose) -> Image.Image:
        away_x, away_y = self.x - self.pivot[0], self.y - self.pivot[1]
        source_x = self.x - self.weight * (pose.head_x * self.d - pose.roll * away_y)
        source_y = self.y - self.weight * (pose.head_y * self.d + pose.roll * away_x)
        mesh = self._mesh(source_x, source_y)
        return picture.transform(self.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)

    def _mesh(self, xs: np.ndarray, ys: np.ndarray) -> list:
        """Every cell of the result with the four corners it is taken from, as Pillow wants them."""
        corners = np.stack([xs, ys], axis=-1)
        around = (corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:])
        quads = np.concatenate(around, axis=-1).tolist()
        edges_x, edges_y = self.xs.astype(int).tolist(), self.ys.astype(int).tolist()
        return [
            ((edges_x[i], edges_y[j], edges_x[i + 1], edges_y[j + 1]), quad)
            for j, row in enumerate(quads)
            for i, quad in enumerate(row)
        ]
