"""Where the face is, by the contrasts every frontal face has; no detector, no model.

Two dark eyes beside a brighter bridge and above brighter cheeks, a redder and darker mouth below, skin between them:
the eye distance and position with the best sum of these wins. Where there is no skin, usual portrait proportions rule.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

_SEARCH_HEIGHT = 160
_EXACT_HEIGHT = 480
_LEAST_SKIN = 0.25


@dataclass(frozen=True)
class Face:
    """Landmarks in pixels of the picture given; ``d`` is the distance between the eyes, the unit of all proportions."""

    left_eye: tuple[float, float]
    right_eye: tuple[float, float]
    mouth: tuple[float, float]
    mouth_half_width: float
    mouth_curve: float  # how much lower (+) or higher (-) the corners are than the middle
    d: float

    @property
    def center(self) -> tuple[float, float]:
        return (self.left_eye[0] + self.right_eye[0]) / 2, (self.left_eye[1] + self.right_eye[1]) / 2

    @property
    def tilt(self) -> tuple[float, float]:
        """Cosine and sine of the angle by which the line through the eyes is turned."""
        return (self.right_eye[0] - self.left_eye[0]) / self.d, (self.right_eye[1] - self.left_eye[1]) / self.d

    def scaled(self, factor: float) -> "Face":
        def point(p: tuple[float, float]) -> tuple[float, float]:
            return p[0] * factor, p[1] * factor

        return Face(
            point(self.left_eye),
            point(self.right_eye),
            point(self.mouth),
            self.mouth_half_width * factor,
            self.mouth_curve * factor,
            self.d * factor,
        )


def find(picture: Image.Image) -> Face:
    """The landmarks of the one face in ``picture``: found on a coarse copy, made exact on a finer one."""
    coarse, coarse_scale = _Maps.of(picture, _SEARCH_HEIGHT)
    fine, fine_scale = _Maps.of(picture, _EXACT_HEIGHT)
    closer = fine_scale / coarse_scale
    cx, ey, d = (value * closer for value in _best_position(coarse))
    return _refine(fine, cx, ey, d).scaled(1 / fine_scale)


@dataclass(frozen=True)
class _Maps:
    light: np.ndarray
    red: np.ndarray
    skin: np.ndarray

    @classmethod
    def of(cls, picture: Image.Image, height: int) -> tuple["_Maps", float]:
        """The maps of the picture scaled to ``height``, and the scale."""
        scale = height / picture.height
        size = max(16, round(picture.width * scale)), height
        small = picture.resize(size, Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(0.6))
        rgb = np.asarray(small, np.float32)
        y, cb, cr = np.moveaxis(np.asarray(small.convert("YCbCr"), np.float32), 2, 0)
        skin = (cb > 77) & (cb < 130) & (cr > 134) & (cr < 178) & (y > 50)
        return cls(y, rgb[..., 0] - (rgb[..., 1] + rgb[..., 2]) / 2, skin.astype(np.float32)), scale


class _Boxes:
    """Means over boxes around many centres at once, by an integral image."""

    def __init__(self, values: np.ndarray) -> None:
        self.height, self.width = values.shape
        self.sums = np.pad(values.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def mean(self, x: np.ndarray, y: np.ndarray, half_w: float, half_h: float) -> np.ndarray:
        left = np.clip(np.round(x - half_w), 0, self.width - 1).astype(int)
        right = np.clip(np.round(x + half_w) + 1, left + 1, self.width).astype(int)
        top = np.clip(np.round(y - half_h), 0, self.height - 1).astype(int)
        bottom = np.clip(np.round(y + half_h) + 1, top + 1, self.height).astype(int)
        total = self.sums[bottom, right] - self.sums[top, right] - self.sums[bottom, left] + self.sums[top, left]
        return total / ((bottom - top) * (right - left))


def _best_position(maps: _Maps) -> tuple[float, float, float]:
    height, width = maps.light.shape
    light, red, skin = _Boxes(maps.light), _Boxes(maps.red), _Boxes(maps.skin)
    y, x = np.mgrid[height * 0.15 : height * 0.7 : 1.5, width * 0.25 : width * 0.75 : 1.5]
    best = (-np.inf, 0.0, 0.0, 0.0, 0.0)
    for d in min(width, height) * np.geomspace(0.09, 0.42, 26):
        share = skin.mean(x, y + 0.55 * d, 0.65 * d, 0.75 * d)
        score = _contrast(light, red, x, y, d) + 45 * share + _prior(x / width, y / height, d / min(width, height))
        at = np.unravel_index(np.argmax(score), score.shape)
        if score[at] > best[0]:
            best = (float(score[at]), float(x[at]), float(y[at]), float(d), float(share[at]))
    if best[4] < _LEAST_SKIN:
        return width / 2, height * 0.42, 0.2 * min(width, height)
    return best[1:4]


def _contrast(light: _Boxes, red: _Boxes, x: np.ndarray, y: np.ndarray, d: float) -> np.ndarray:
    eyes = [light.mean(x + side * d / 2, y, 0.17 * d, 0.08 * d) for side in (-1, 1)]
    cheeks = [light.mean(x + side * d / 2, y + 0.42 * d, 0.17 * d, 0.10 * d) for side in (-1, 1)]
    lids = [light.mean(x + side * d / 2, y - 0.26 * d, 0.17 * d, 0.06 * d) for side in (-1, 1)]
    bridge = light.mean(x, y, 0.10 * d, 0.10 * d)
    mouth_y = y + 1.08 * d
    mouth = light.mean(x, mouth_y, 0.26 * d, 0.10 * d)
    chin = light.mean(x, mouth_y + 0.36 * d, 0.22 * d, 0.08 * d)
    lips_red = red.mean(x, mouth_y, 0.24 * d, 0.10 * d)
    face_red = (
        red.mean(x - 0.45 * d, y + 0.5 * d, 0.12 * d, 0.12 * d)
        + red.mean(x + 0.45 * d, y + 0.5 * d, 0.12 * d, 0.12 * d)
    ) / 2
    both = np.minimum(cheeks[0] - eyes[0], cheeks[1] - eyes[1])
    under_lids = np.minimum(lids[0] - eyes[0], lids[1] - eyes[1])
    between = bridge - np.maximum(eyes[0], eyes[1])
    uneven = np.abs(eyes[0] - eyes[1]) + 0.5 * np.abs(cheeks[0] - cheeks[1])
    lips = np.clip(chin - mouth, -20, 40) + np.clip(lips_red - face_red, -20, 40)
    return (
        np.clip(both, -60, 60)
        + 0.4 * np.clip(under_lids, -40, 40)
        + 0.6 * np.clip(between, -40, 50)
        - 0.5 * uneven
        + 0.7 * lips
    )


def _prior(x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """How usual it is for a portrait to have its eyes there (shares of the picture)."""
    return -6 * ((x - 0.5) / 0.15) ** 2 - 5 * ((y - 0.4) / 0.15) ** 2 - 8 * (np.log(size / 0.2) / 0.5) ** 2


def _refine(maps: _Maps, cx: float, ey: float, d: float) -> Face:
    left = _eye(maps.light, cx - d / 2, ey, d)
    right = _eye(maps.light, cx + d / 2, ey, d)
    axes = _Axes.between(left, right)
    down = _mouth_row(maps, axes)
    half = _mouth_half_width(maps.red, axes, down)
    down, curve = _mouth_line(maps.light, axes, down, half)
    return Face(left, right, axes.point(0, down), half, curve, axes.d)


@dataclass(frozen=True)
class _Axes:
    """The face's own axes: ``u`` along the eyes and ``v`` down from between them, in pixels."""

    x: float
    y: float
    d: float
    cos: float
    sin: float

    @classmethod
    def between(cls, left: tuple[float, float], right: tuple[float, float]) -> "_Axes":
        dx, dy = right[0] - left[0], right[1] - left[1]
        d = float(np.hypot(dx, dy))
        return cls((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, d, dx / d, dy / d)

    def point(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.x + u * self.cos - v * self.sin, self.y + u * self.sin + v * self.cos

    def sampled(self, values: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return _at(values, *self.point(u, v))


def _eye(light: np.ndarray, x: float, y: float, d: float) -> tuple[float, float]:
    """The centre of what is darkest near the place where the eye should be."""
    ys, xs = np.mgrid[y - 0.17 * d : y + 0.17 * d : 0.5, x - 0.2 * d : x + 0.2 * d : 0.5]
    values = _at(light, xs, ys)
    usual = np.exp(-(((xs - x) / (0.2 * d)) ** 2) - ((ys - y) / (0.17 * d)) ** 2)
    weight = np.clip(values.mean() - values, 0, None) ** 2 * usual + 1e-3
    return float((xs * weight).sum() / weight.sum()), float((ys * weight).sum() / weight.sum())


def _mouth_row(maps: _Maps, axes: _Axes) -> float:
    """How far below the eyes the lips are reddest and darkest."""
    d = axes.d
    v = np.arange(0.8 * d, 1.4 * d, 0.25)
    u = np.linspace(-0.2, 0.2, 21)[None] * d
    light = axes.sampled(maps.light, u, v[:, None]).mean(axis=1)
    red = axes.sampled(maps.red, u, v[:, None]).mean(axis=1)
    contrast = (red - np.median(red)) - 0.8 * (light - np.median(light))
    return float(v[np.argmax(contrast - 14 * ((v - 1.08 * d) / (0.2 * d)) ** 2)])


def _mouth_half_width(red: np.ndarray, axes: _Axes, down: float) -> float:
    """How far the lips' redness reaches to both sides, within what is usual."""
    d = axes.d
    steps = np.arange(0.0, 0.7 * d, 0.25)
    rows = down + np.array([-0.05, 0.0, 0.05])[:, None] * d
    profile = np.minimum(*(axes.sampled(red, side * steps[None], rows).mean(axis=0) for side in (-1, 1)))
    inner, outer = profile[steps < 0.15 * d].mean(), profile[(steps > 0.5 * d) & (steps < 0.62 * d)].mean()
    beyond = steps[profile < outer + 0.38 * (inner - outer)]
    if inner - outer < 6 or not beyond.size:
        return 0.40 * d
    return float(np.clip(beyond.min() * 1.08, 0.30 * d, 0.50 * d))


def _mouth_line(light: np.ndarray, axes: _Axes, down: float, half: float) -> tuple[float, float]:
    """The dark line between the lips as a parabola: its height in the middle, and how much lower the corners are."""
    d = axes.d
    share = np.linspace(-0.75, 0.75, 25)
    v = down + np.linspace(-0.13, 0.13, 41) * d
    values = axes.sampled(light, share[None] * half, v[:, None]) + 60 * ((v[:, None] - down) / (0.13 * d)) ** 2
    curve, _slope, middle = np.polyfit(share, v[np.argmin(values, axis=0)], 2)
    return float(np.clip(middle, down - 0.1 * d, down + 0.1 * d)), float(np.clip(curve, -0.12 * d, 0.08 * d))


def _at(values: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Bilinear samples, clamped to the borders."""
    height, width = values.shape
    xs, ys = np.broadcast_arrays(np.clip(xs, 0, width - 1.001), np.clip(ys, 0, height - 1.001))
    x0, y0 = xs.astype(int), ys.astype(int)
    fx, fy = xs - x0, ys - y0
    top = values[y0, x0] * (1 - fx) + values[y0, x0 + 1] * fx
    return top * (1 - fy) + (values[y0 + 1, x0] * (1 - fx) + values[y0 + 1, x0 + 1] * fx) * fy
