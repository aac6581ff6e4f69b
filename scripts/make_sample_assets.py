"""Draw the sample portrait and speak the sample sentence that OmniRT ships.

Both are made here from nothing: every stroke of the portrait is below, and the sentence is ours, spoken by
espeak-ng. They are dedicated to the public domain (CC0 1.0).

    python scripts/make_sample_assets.py [DIRECTORY]

needs numpy, Pillow and espeak-ng. The same versions give the same bytes.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ASSETS = Path(__file__).resolve().parents[1] / "omnirt_cli" / "miniature" / "assets"
SENTENCE = (
    "Hello, and welcome. OmniRT takes one portrait and one recording, starts the model, "
    "watches every step, and checks the video before you see it."
)

WIDTH, HEIGHT, SCALE = 768, 1024, 2  # drawn twice as large, then reduced
MIDDLE = 384
EYE_Y, EYE_APART = 452, 150
MOUTH_Y = 615

SKIN, SKIN_LIGHT, SKIN_SHADE, SKIN_DEEP = (233, 188, 160), (250, 216, 191), (199, 142, 115), (150, 94, 78)
HAIR, HAIR_LIGHT, HAIR_DARK = (74, 48, 38), (142, 98, 72), (40, 25, 22)
LIP, LIP_LIGHT, LIP_LINE = (190, 96, 92), (222, 140, 132), (112, 44, 46)
JUMPER, JUMPER_LIGHT, JUMPER_SHADE = (58, 92, 112), (92, 132, 150), (34, 58, 74)

Points = list[tuple[float, float]]


def spline(points: Points, *, closed: bool = True, steps: int = 14) -> Points:
    """A smooth line through ``points`` (Catmull-Rom)."""
    p = np.array(points, float)
    ends = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    p = np.concatenate([ends[0], p, ends[1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        curve.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return [tuple(q) for q in np.concatenate(curve)]


def mirrored(right_half: Points) -> Points:
    """A closed outline from its right half, top to bottom."""
    left = [(2 * MIDDLE - x, y) for x, y in reversed(right_half) if x != MIDDLE]
    return right_half + left


class Canvas:
    """The picture, painted over and over through soft masks."""

    def __init__(self) -> None:
        self.pixels = np.zeros((HEIGHT * SCALE, WIDTH * SCALE, 3), np.float32)

    def shape(self, points: Points, blur: float = 0.6) -> np.ndarray:
        """The mask (0..1) of a polygon with its edge softened over ``blur`` pixels."""
        mask = Image.new("L", (WIDTH * SCALE, HEIGHT * SCALE))
        ImageDraw.Draw(mask).polygon([(x * SCALE, y * SCALE) for x, y in points], fill=255)
        return self._blurred(mask, blur)

    def ellipse(self, x: float, y: float, rx: float, ry: float, blur: float = 0.6) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        return self.shape(list(zip(x + rx * np.cos(angle), y + ry * np.sin(angle), strict=True)), blur)

    def line(self, points: Points, width: float, blur: float = 0.5) -> np.ndarray:
        return self.lines([points], [width], blur)

    def lines(self, paths: Iterable[Points], widths: Iterable[float], blur: float) -> np.ndarray:
        mask = Image.new("L", (WIDTH * SCALE, HEIGHT * SCALE))
        draw = ImageDraw.Draw(mask)
        for points, width in zip(paths, widths, strict=True):
            path = [(x * SCALE, y * SCALE) for x, y in spline(points, closed=False)]
            draw.line(path, fill=255, width=max(1, round(width * SCALE)), joint="curve")
        return self._blurred(mask, blur)

    def paint(self, color: tuple[int, int, int], mask: np.ndarray, opacity: float = 1.0) -> None:
        cover = (mask * opacity)[..., None]
        self.pixels += cover * (np.array(color, np.float32) - self.pixels)

    def picture(self) -> Image.Image:
        large = Image.fromarray(np.clip(self.pixels + 0.5, 0, 255).astype(np.uint8))
        return large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)

    @staticmethod
    def _blurred(mask: Image.Image, blur: float) -> np.ndarray:
        return np.asarray(mask.filter(ImageFilter.GaussianBlur(blur * SCALE)), np.float32) / 255


def background(canvas: Canvas) -> None:
    rows = np.linspace(0, 1, HEIGHT * SCALE, dtype=np.float32)[:, None, None]
    canvas.pixels += (1 - rows) * np.array((176, 190, 190), np.float32) + rows * np.array((122, 138, 142), np.float32)
    canvas.paint((218, 224, 214), canvas.ellipse(190, 300, 260, 330, 120), 0.75)
    canvas.paint((96, 112, 120), canvas.ellipse(760, 820, 240, 420, 110), 0.6)
    for x, y, r, strength in ((90, 170, 60, 0.22), (660, 210, 84, 0.20), (706, 470, 46, 0.16), (60, 560, 74, 0.14)):
        canvas.paint((240, 236, 214), canvas.ellipse(x, y, r, r, 7), strength)


def hair_behind(canvas: Canvas) -> None:
    outline = mirrored(
        [
            (MIDDLE, 162),
            (476, 180),
            (554, 248),
            (592, 352),
            (604, 470),
            (612, 580),
            (606, 690),
            (566, 760),
            (470, 786),
            (MIDDLE, 780),
        ]
    )
    mass = canvas.shape(spline(outline), 1.5)
    canvas.paint(HAIR_DARK, mass)
    canvas.paint(HAIR, mass * canvas.ellipse(MIDDLE, 300, 230, 160, 30), 0.8)


def shoulders(canvas: Canvas) -> None:
    neck = mirrored([(MIDDLE, 600), (456, 610), (462, 700), (470, 780), (520, 830), (480, 930), (MIDDLE, 960)])
    canvas.paint(SKIN_SHADE, canvas.shape(spline(neck), 1.5))
    canvas.paint(SKIN, canvas.ellipse(362, 800, 74, 120, 34), 0.75)
    canvas.paint(SKIN_DEEP, canvas.ellipse(MIDDLE + 6, 712, 104, 62, 24), 0.62)
    for side in (-1, 1):
        bone = [(MIDDLE + side * 20, 868), (MIDDLE + side * 60, 850), (MIDDLE + side * 120, 838)]
        canvas.paint(SKIN_DEEP, canvas.line(bone, 9, 7), 0.35)
    jumper = mirrored(
        [
            (MIDDLE, 918),
            (430, 902),
            (474, 862),
            (500, 812),
            (560, 826),
            (650, 856),
            (730, 900),
            (770, 980),
            (780, 1040),
            (MIDDLE, 1040),
        ]
    )
    body = canvas.shape(jumper[:4] + spline(jumper[3:-3], closed=False) + jumper[-3:], 1.2)
    canvas.paint(JUMPER, body)
    canvas.paint(JUMPER_LIGHT, body * canvas.ellipse(200, 930, 150, 70, 46), 0.7)
    canvas.paint(JUMPER_SHADE, body * canvas.ellipse(700, 1010, 170, 110, 50), 0.8)
    canvas.paint(JUMPER_SHADE, body * canvas.ellipse(MIDDLE, 1040, 120, 90, 40), 0.5)
    collar = [(268, 812), (300, 868), (340, 906), (MIDDLE, 920), (428, 906), (468, 868), (500, 812)]
    canvas.paint(JUMPER_SHADE, canvas.line([(x, y + 13) for x, y in collar], 5, 3), 0.7)
    canvas.paint(JUMPER_LIGHT, canvas.line(collar, 16, 1.2), 0.55)
    canvas.paint(JUMPER, canvas.line([(x, y + 4) for x, y in collar], 12, 1.5), 0.8)


FACE = mirrored(
    [
        (MIDDLE, 246),
        (462, 258),
        (520, 312),
        (545, 392),
        (546, 468),
        (538, 536),
        (520, 602),
        (484, 660),
        (438, 702),
        (408, 716),
        (MIDDLE, 719),
    ]
)


def face(canvas: Canvas) -> np.ndarray:
    skin = canvas.shape(spline(FACE), 1.0)
    canvas.paint(SKIN, skin)
    inner = canvas.shape(spline([((x - MIDDLE) * 0.86 + MIDDLE - 14, (y - 470) * 0.94 + 462) for x, y in FACE]), 34)
    canvas.paint(SKIN_SHADE, skin * (1 - inner), 0.85)
    canvas.paint(SKIN_SHADE, skin * canvas.ellipse(552, 560, 60, 170, 34), 0.55)
    canvas.paint(SKIN_LIGHT, skin * canvas.ellipse(350, 352, 96, 52, 32), 0.75)
    canvas.paint(SKIN_LIGHT, skin * canvas.ellipse(290, 540, 46, 36, 22), 0.6)
    canvas.paint(SKIN_LIGHT, skin * canvas.ellipse(458, 536, 34, 28, 20), 0.35)
    for x in (282, 484):
        canvas.paint((226, 138, 122), skin * canvas.ellipse(x, 566, 52, 34, 24), 0.36)
    canvas.paint(SKIN_LIGHT, skin * canvas.ellipse(378, 684, 34, 16, 12), 0.55)
    canvas.paint(SKIN_SHADE, skin * canvas.ellipse(MIDDLE, 656, 46, 8, 7), 0.55)
    canvas.paint(SKIN_DEEP, skin * canvas.ellipse(MIDDLE, 732, 110, 16, 10), 0.35)
    return skin


def nose(canvas: Canvas) -> None:
    canvas.paint(
        SKIN_SHADE,
        canvas.shape(spline([(402, 448), (414, 500), (424, 548), (412, 562), (400, 530), (394, 480)]), 9),
        0.62,
    )
    canvas.paint(SKIN_SHADE, canvas.ellipse(346, 556, 14, 12, 7), 0.4)
    canvas.paint(SKIN_LIGHT, canvas.line([(379, 440), (378, 490), (379, 538)], 14, 7), 0.6)
    canvas.paint((255, 232, 214), canvas.ellipse(378, 546, 12, 9, 5), 0.75)
    canvas.paint(SKIN_SHADE, canvas.ellipse(MIDDLE, 577, 34, 8, 6), 0.75)
    for side in (-1, 1):
        x = MIDDLE + side * 18
        canvas.paint((116, 62, 54), canvas.ellipse(x, 570, 9, 4, 1.8), 0.8)
        wing = [(MIDDLE + side * 30, 540), (MIDDLE + side * 37, 556), (MIDDLE + side * 30, 571)]
        canvas.paint(SKIN_DEEP, canvas.line(wing, 3, 2.2), 0.5)
    for side in (-1, 1):
        canvas.paint(SKIN_SHADE, canvas.line([(MIDDLE + side * 7, 582), (MIDDLE + side * 8, 596)], 3, 3), 0.35)


def eye(canvas: Canvas, side: int) -> None:
    """``side`` is -1 for the one on the left of the picture; drawn outwards from the nose."""

    def at(points: Points) -> Points:
        return [(MIDDLE + side * (EYE_APART / 2 + x), EYE_Y + y) for x, y in points]

    upper = [(-37, 7), (-26, -7), (-6, -17), (14, -16), (32, -5), (40, 2)]
    lower = [(40, 2), (26, 12), (4, 17), (-20, 14), (-37, 7)]
    x = MIDDLE + side * EYE_APART / 2
    canvas.paint(SKIN_SHADE, canvas.ellipse(x, EYE_Y - 16, 48, 20, 13), 0.5)
    canvas.paint(SKIN_SHADE, canvas.ellipse(x - side * 4, EYE_Y + 24, 36, 9, 8), 0.3)
    opening = canvas.shape(spline(at(upper), closed=False) + spline(at(lower), closed=False), 0.7)
    canvas.paint((243, 238, 233), opening)
    canvas.paint((172, 152, 148), opening * canvas.ellipse(x, EYE_Y - 20, 52, 17, 5), 0.7)
    canvas.paint((214, 178, 168), opening * canvas.ellipse(x - side * 38, EYE_Y + 6, 9, 8, 4), 0.6)
    iris_x, iris_y = x + 1, EYE_Y - 1
    canvas.paint((44, 30, 24), opening * canvas.ellipse(iris_x, iris_y, 18.5, 18.5, 0.8))
    canvas.paint((108, 72, 44), opening * canvas.ellipse(iris_x, iris_y + 1, 15.5, 15.5, 2.2), 0.95)
    canvas.paint((160, 112, 66), opening * canvas.ellipse(iris_x, iris_y + 8, 10, 7, 3), 0.75)
    canvas.paint((16, 11, 11), opening * canvas.ellipse(iris_x, iris_y, 7.8, 7.8, 0.8))
    canvas.paint((30, 18, 16), opening * canvas.ellipse(iris_x, iris_y - 17, 24, 9, 4), 0.65)
    canvas.paint((255, 255, 255), canvas.ellipse(iris_x - 6, iris_y - 6, 4.4, 4.0, 0.8), 0.95)
    canvas.paint((255, 255, 255), canvas.ellipse(iris_x + 6, iris_y + 7, 2.2, 1.8, 0.8), 0.5)
    canvas.paint((38, 22, 20), canvas.line(at(upper), 4.6, 0.8), 0.95)
    canvas.paint((38, 22, 20), canvas.line(at([(26, -9), (40, 1), (49, -5)]), 3.4, 0.8), 0.9)
    canvas.paint((134, 82, 70), canvas.line(at(lower), 2.2, 1.0), 0.55)
    canvas.paint((138, 84, 68), canvas.line(at([(-34, -9), (-14, -27), (12, -28), (38, -13)]), 2.6, 1.6), 0.6)
    brow = [(-45, -57), (-20, -64), (12, -67), (38, -60), (58, -44), (38, -53), (12, -58), (-18, -54), (-43, -47)]
    canvas.paint((70, 44, 36), canvas.shape(spline(at(brow)), 2.4), 0.85)


def mouth(canvas: Canvas) -> None:
    half, y = 56, MOUTH_Y
    upper = mirrored(
        [
            (MIDDLE, y - 15),
            (MIDDLE + 13, y - 20),
            (MIDDLE + 36, y - 9),
            (MIDDLE + half, y - 2),
            (MIDDLE + 30, y + 1),
            (MIDDLE, y + 3),
        ]
    )
    lower = mirrored(
        [
            (MIDDLE, y + 3),
            (MIDDLE + 30, y + 1),
            (MIDDLE + half - 2, y - 1),
            (MIDDLE + 38, y + 17),
            (MIDDLE + 17, y + 26),
            (MIDDLE, y + 27),
        ]
    )
    canvas.paint(LIP, canvas.shape(spline(lower), 1.4), 0.95)
    canvas.paint((168, 78, 78), canvas.shape(spline(upper), 1.4), 0.95)
    canvas.paint(LIP_LIGHT, canvas.ellipse(MIDDLE - 5, y + 14, 26, 6, 5), 0.8)
    canvas.paint((244, 190, 180), canvas.ellipse(MIDDLE - 8, y + 13, 13, 2.6, 2.2), 0.7)
    canvas.paint(
        LIP_LIGHT,
        canvas.line([(MIDDLE - 30, y - 10), (MIDDLE - 11, y - 17), (MIDDLE, y - 13), (MIDDLE + 11, y - 17)], 2.4, 2),
        0.45,
    )
    line = [
        (MIDDLE - half - 1, y - 4),
        (MIDDLE - 30, y + 1),
        (MIDDLE - 9, y + 2),
        (MIDDLE, y + 4),
        (MIDDLE + 9, y + 2),
        (MIDDLE + 30, y + 1),
        (MIDDLE + half + 1, y - 4),
    ]
    canvas.paint(LIP_LINE, canvas.line(line, 3.2, 1.1), 0.95)
    for side in (-1, 1):
        canvas.paint(SKIN_DEEP, canvas.ellipse(MIDDLE + side * (half + 4), y - 3, 6, 5, 4), 0.5)


def hair_front(canvas: Canvas) -> None:
    """Hair parted on the right of the picture: a wide sweep to the left, a narrow one to the right, and strands."""
    left = [(436, 190), (356, 174), (270, 204), (206, 290), (176, 400), (164, 520), (160, 640), (178, 742), (216, 762)]
    left += [(232, 690), (222, 600), (218, 520), (228, 440), (252, 380), (300, 336), (362, 296), (414, 250), (440, 214)]
    right = [(430, 196), (500, 204), (562, 262), (594, 360), (606, 470), (612, 590), (606, 690), (580, 758), (550, 756)]
    right += [
        (546, 690),
        (556, 600),
        (554, 520),
        (548, 440),
        (532, 372),
        (500, 312),
        (468, 266),
        (446, 236),
        (434, 216),
    ]
    for outline in (left, right):
        shadow = [(x + (10 if outline is left else -10), y + 10) for x, y in outline]
        canvas.paint(SKIN_DEEP, canvas.shape(spline(shadow), 9) * canvas.shape(spline(FACE), 1), 0.5)
    for outline in (left, right):
        canvas.paint(HAIR, canvas.shape(spline(outline), 1.2))
    lock = np.maximum(canvas.shape(spline(left), 1.2), canvas.shape(spline(right), 1.2))
    canvas.paint(HAIR_DARK, lock * canvas.ellipse(176, 690, 60, 130, 26), 0.55)
    canvas.paint(HAIR_DARK, lock * canvas.ellipse(592, 660, 50, 160, 26), 0.6)
    strands(canvas, lock, left, np.random.default_rng(7))
    strands(canvas, lock, right, np.random.default_rng(8))
    canvas.paint(HAIR_LIGHT, lock * canvas.line([(212, 380), (252, 300), (322, 250)], 26, 15), 0.45)
    canvas.paint(HAIR_LIGHT, lock * canvas.line([(520, 262), (562, 320), (578, 400)], 18, 12), 0.3)
    canvas.paint(HAIR_DARK, canvas.line([(436, 194), (434, 214), (440, 240)], 3, 2), 0.5)


def strands(canvas: Canvas, lock: np.ndarray, outline: Points, random: np.random.Generator) -> None:
    """Fine lines from the parting to the tips, between the outer and the inner edge of a lock."""
    outer, inner = np.array(outline[:9]), np.array(outline[:8:-1])
    for color, count, strength in ((HAIR_DARK, 70, 0.5), (HAIR_LIGHT, 46, 0.34)):
        shares = random.uniform(0.03, 0.97, count)[:, None, None] + random.normal(0, 0.02, (count, 9, 1))
        paths = outer + (inner - outer) * np.clip(shares, 0, 1)
        canvas.paint(color, lock * canvas.lines(paths, random.uniform(0.7, 1.8, count), 0.8), strength)


def portrait() -> Image.Image:
    canvas = Canvas()
    background(canvas)
    hair_behind(canvas)
    shoulders(canvas)
    face(canvas)
    nose(canvas)
    for side in (-1, 1):
        eye(canvas, side)
    mouth(canvas)
    hair_front(canvas)
    return canvas.picture()


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS
    target.mkdir(parents=True, exist_ok=True)
    portrait().save(target / "portrait.png", optimize=True)
    command = ["espeak-ng", "-v", "en-gb+f2", "-s", "158", "-p", "45", "-w", str(target / "speech.wav"), SENTENCE]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
