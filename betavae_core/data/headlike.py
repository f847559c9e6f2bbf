"""Head-like shapes rendered here: azimuth, elevation and lighting, with nothing to license.

A stand-in of its own for 3D faces, not the Basel Face Model and no real person: a smooth surface
around a point, whose radius in the direction d is that of an ellipsoid plus bumps and hollows,

    r(d) = 1 / |d / axes| + sum_k a_k exp(s_k (d · c_k - 1))        (d, c_k unit vectors)

for brows, eye sockets, nose, cheeks, lips, chin, ears and the back of the head. x points to the
viewer's right, y up, z to the viewer. The head is turned by azimuth about y, then by elevation
about x, seen from far away (parallel rays) and lit by one distant lamp that stays where it is:

    pixel = 255 (0.1 + 0.9 max(0, n · l)) on the surface, 0 beside it

Rays march by the height above the surface until they meet it, four to a pixel. Heads are
symmetric, so a picture turned left is the mirror image of one turned right, lit from the other
side. Rendering is in float32: another machine may round a pixel to the next level.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from betavae_core.data.dataset import Dataset
from betavae_core.data.sources import Source

SIDE = 64
FACTOR_VALUES: dict[str, NDArray[np.float64]] = {
    "shape": np.arange(4.0),  # four heads, from narrow to broad
    "azimuth": np.linspace(-70.0, 70.0, 15),  # degrees; positive turns the nose to the right
    "elevation": np.linspace(-30.0, 30.0, 9),  # degrees; positive looks up
    "lighting": np.linspace(-80.0, 80.0, 9),  # degrees; positive lights from the right
}
CLASSES = tuple(len(values) for values in FACTOR_VALUES.values())
COUNT = int(np.prod(CLASSES))

_OVERSAMPLING = 2  # rays a pixel, each way
_STEPS = 24  # of a ray
_NEAR = 2e-3  # how close to the surface a ray has met it
_GRAZING = 3e-2  # how close it must be when its steps are used up
_REACH = 1.3  # the picture shows -_REACH … _REACH; nothing of a head is farther out
_AMBIENT = 0.1
_LAMP_HEIGHT = np.radians(20.0)
# azimuth and elevation of the direction c in degrees, height a, sharpness s; both sides are made.
_BUMPS = (
    (0.0, 12.0, 0.07, 60.0),  # bridge of the nose
    (0.0, 2.0, 0.16, 70.0),
    (0.0, -8.0, 0.26, 90.0),  # tip of the nose
    (8.0, -11.0, 0.06, 160.0),  # nostrils
    (20.0, 12.0, -0.13, 45.0),  # eye sockets
    (20.0, 11.0, 0.06, 220.0),  # eyes
    (17.0, 24.0, 0.06, 60.0),  # brows
    (36.0, -6.0, 0.07, 20.0),  # cheekbones
    (36.0, -28.0, -0.06, 25.0),  # hollows below them
    (0.0, -23.0, 0.07, 120.0),  # lips
    (8.0, -27.0, 0.05, 160.0),
    (0.0, -33.0, -0.05, 150.0),
    (0.0, -44.0, 0.14, 30.0),  # chin
    (94.0, 6.0, 0.10, 40.0),  # ears
    (94.0, -6.0, 0.08, 60.0),
    (180.0, 15.0, 0.18, 3.0),  # back of the head
)


def load() -> Dataset:
    """All images with their four factors as class indices, lighting the fastest."""
    return Dataset(
        name="headlike",
        pixels=draw(),
        levels=255,
        image_shape=(1, SIDE, SIDE),
        factors=np.indices(CLASSES, dtype=np.uint8).reshape(len(CLASSES), COUNT).T.copy(),
        factor_names=tuple(FACTOR_VALUES),
        factor_values=FACTOR_VALUES,
    )


@cache
def draw() -> NDArray[np.uint8]:
    """(N, 64, 64, 1) in the order of the factors; rendered once a process."""
    images = np.zeros((*CLASSES, SIDE, SIDE), np.uint8)
    turns = CLASSES[1]
    for h, breadth in enumerate(np.linspace(0.0, 1.0, CLASSES[0])):
        head = Head(float(breadth))
        for a in range(turns // 2, turns):
            for e, elevation in enumerate(FACTOR_VALUES["elevation"]):
                pictures = head.render(FACTOR_VALUES["azimuth"][a], elevation)
                images[h, turns - 1 - a, e] = pictures[::-1, :, ::-1]
                images[h, a, e] = pictures
    return images.reshape(COUNT, SIDE, SIDE, 1)


class Head:
    """The surface of one head; `breadth` goes from 0, narrow with a long nose, to 1, broad."""

    def __init__(self, breadth: float) -> None:
        self.axes = np.array((0.70 + 0.14 * breadth, 1.02 - 0.08 * breadth, 0.86), np.float32)
        both = [
            (side * x, y, a, s) for x, y, a, s in _BUMPS for side in ((1, -1) if x % 180 else (1,))
        ]
        x, y, heights, self.sharpness = np.array(both, np.float32).T
        nose = (x == 0) & (np.abs(y) < 15)
        self.heights = np.where(nose, heights * (1.1 - 0.35 * breadth), heights)
        self.centres = _direction(np.radians(x), np.radians(y)).astype(np.float32)

    def render(self, azimuth: float, elevation: float) -> NDArray[np.uint8]:
        """(lightings, 64, 64): the head turned by these degrees, under every lamp."""
        turn = _rotation(np.radians(azimuth), np.radians(elevation))
        hit, points = self._meet(turn)
        normals = self._normals(points) @ turn.T
        shades = np.zeros((CLASSES[3], len(_rays())), np.float32)
        lamps = _direction(np.radians(FACTOR_VALUES["lighting"]), _LAMP_HEIGHT).astype(np.float32)
        shades[:, hit] = _AMBIENT + (1 - _AMBIENT) * np.maximum(lamps.T @ normals.T, 0)
        n = _OVERSAMPLING
        pixels = shades.reshape(-1, SIDE, n, SIDE, n).mean(axis=(2, 4))
        return np.rint(255 * pixels).astype(np.uint8)

    def _meet(self, turn: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which rays meet the turned head, and where, in the coordinates of the head."""
        rays = _rays()
        moving = np.flatnonzero((rays[:, :2] ** 2).sum(axis=1) < _REACH**2)
        points = rays[moving] @ turn
        towards = -turn[2]  # the rays run along -z; in the head's own coordinates
        hits, places = [], []
        for step in range(_STEPS):
            above = self._above(points)
            met = above < (_NEAR if step < _STEPS - 1 else _GRAZING)
            gone = (points @ turn[2] < -0.3) & (above > 0.1)
            hits.append(moving[met])
            places.append(points[met])
            on = ~(met | gone)
            moving, points = moving[on], points[on] + 0.75 * above[on, None] * towards
        return np.concatenate(hits), np.concatenate(places)

    def _above(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far `points` (n, 3) are above the surface, along the radius."""
        distance = np.linalg.norm(points, axis=1)
        d = points / distance[:, None]
        bumps = np.exp(self.sharpness * (d @ self.centres - 1)) @ self.heights
        return distance - 1 / np.linalg.norm(d / self.axes, axis=1) - bumps

    def _normals(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit normals (n, 3): the gradient of |p| - r(p / |p|)."""
        distance = np.linalg.norm(points, axis=1, keepdims=True)
        d = points / distance
        bumps = np.exp(self.sharpness * (d @ self.centres - 1)) * (self.heights * self.sharpness)
        slope = bumps @ self.centres.T
        slope -= d / self.axes**2 / np.linalg.norm(d / self.axes, axis=1, keepdims=True) ** 3
        slope -= (slope * d).sum(axis=1, keepdims=True) * d
        gradient = d - slope / distance
        return gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


@cache
def _rays() -> NDArray[np.float32]:
    """(rays, 3) where the rays start, in front of everything, row by row from the top left."""
    n = SIDE * _OVERSAMPLING
    at = _REACH * ((np.arange(n, dtype=np.float32) + 0.5) * 2 / n - 1)
    y, x = np.meshgrid(-at, at, indexing="ij")
    z = np.sqrt(np.maximum(_REACH**2 - x**2 - y**2, 0))
    return np.stack((x, y, z), axis=-1).reshape(-1, 3)


def _direction(azimuth: NDArray[np.floating], elevation: float | NDArray[np.floating]) -> NDArray:
    """(3, …) unit vectors: azimuth 0 looks at the viewer, positive azimuth to the right."""
    level = np.cos(elevation)
    up = np.sin(elevation) * np.ones_like(azimuth)
    return np.array((np.sin(azimuth) * level, up, np.cos(azimuth) * level))


def _rotation(azimuth: float, elevation: float) -> NDArray[np.float32]:
    """(3, 3): about y by the azimuth, then about x by the elevation, positive looks up."""
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    about_y = np.array(((ca, 0, sa), (0, 1, 0), (-sa, 0, ca)))
    about_x = np.array(((1, 0, 0), (0, ce, se), (0, -se, ce)))
    return (about_x @ about_y).astype(np.float32)


ENTRIES = (
    Source(
        "headlike",
        COUNT,
        (1, SIDE, SIDE),
        COUNT * SIDE * SIDE,
        "head-like shapes, rendered here; 4 factors",
        load,
    ),
)
