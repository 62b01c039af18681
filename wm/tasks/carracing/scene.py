"""What stands in CarRacing's picture: polygons in the world, the camera, the car's parts.

Gymnasium draws a background, 400 patches of grass, the road's tiles and borders, then the car, each over
the last. All of that is constant in an episode but the camera, the poses of five bodies, and a tile's
shade (a tile once touched takes the road's plain colour); `Scene` keeps the constants in arrays and reads
the rest once a step. Arithmetic follows the stock code operation by operation, so that both renderers
see the very same numbers.

P polygons (background, grass, road), B bodies (4 wheels, then the hull).
"""

import math

import numpy as np
from gymnasium.envs.box2d import car_dynamics
from gymnasium.envs.box2d import car_racing as stock

from wm.tasks.compiled import compiled

BACKGROUND, GRASS, ROAD, ROAD_2, ROAD_3, WHITE, RED, HULL, WHEEL, WHEEL_WHITE, BLACK = range(11)
COLORS = np.array(
    [
        (102, 204, 102), (102, 230, 102), (102, 102, 102), (104, 104, 104), (107, 107, 107),
        (255, 255, 255), (255, 0, 0), (204, 0, 0), (0, 0, 0), (77, 77, 77), (0, 0, 0),
    ],
    np.uint8,
)  # fmt: skip
"""The palette, RGB uint8: BLACK is what the surface holds before anything is drawn."""

EPSILON = 1e-6  # of pygame's Vector2
REACH = math.hypot(stock.WINDOW_W / 2, stock.WINDOW_H * 3 / 4)  # pixels from the hull to the farthest corner
WIDEST = stock.GRASS_DIM * math.sqrt(2)  # a polygon's corner lies within this of its first corner
PARTS = 4 * 2 + 4
"""Polygons of the car in drawing order: each wheel and its white mark, then four of the hull."""


class Scene:
    """The polygons of one episode and the camera upon them."""

    def __init__(self) -> None:
        self.corners = np.zeros((0, 4, 2))  # [P, 4, 2] world units
        self.paints = np.zeros(0, np.uint8)  # [P] index into COLORS
        self.shades = np.zeros((0, 3))  # [P, 3] the environment's own colours of the road's tiles
        self.camera = np.zeros(5)  # zoom, x and y of the origin in pixels, cos and sin of the angle
        self.poses = np.zeros((5, 4), np.float32)  # [B, (x, y, cos, sin)]
        self.phases = np.zeros(4)  # the wheels' rotation, radians
        self.hull = np.zeros((4, 8, 2), np.float32)  # the hull's parts, up to 8 corners
        self.hull_sizes = np.zeros(4, np.int64)
        self.wheel, self.mark = np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32)
        self._car: car_dynamics.Car | None = None
        self._polygons = _room(0)

    def new_track(self, env: stock.CarRacing) -> None:
        """Take over the polygons of the road that `env` has made."""
        ground = [_field(), *_grass()]
        paints = [BACKGROUND] + [GRASS] * (len(ground) - 1)
        self.shades = np.zeros((len(ground) + len(env.road_poly), 3))
        for k, (_, color) in enumerate(env.road_poly):
            self.shades[len(ground) + k] = color
            paints.append(_paint(color))
        self.paints = np.array(paints, np.uint8)
        self.corners = np.array(ground + [corners for corners, _ in env.road_poly])
        self._share_shades(env, len(ground))
        self._polygons = _room(len(self.corners) + PARTS)

    def _share_shades(self, env: stock.CarRacing, first: int) -> None:
        """Let the tiles write their shade into `shades`: gymnasium changes it in place on a contact."""
        assert env.road is not None
        tiles = iter(env.road)
        for k, (corners, color) in enumerate(env.road_poly):
            if isinstance(color, np.ndarray):  # a tile; a border's colour is a tuple
                shade = self.shades[first + k]
                next(tiles).color = shade
                env.road_poly[k] = (corners, shade)

    def look(self, env: stock.CarRacing) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
        """What may be seen now, in drawing order, in arrays that the next look overwrites.

        Corners float64 [N, 8, 2] (window pixels, x to the right, y upwards), their numbers int64 [N], paints
        uint8 [N]; how many polygons are of the ground (quadrilaterals all), and how many there are with the
        car's.
        """
        self._read(env)
        ground = self.corners, self.paints, self.shades
        car = (self.poses, self.phases, self.wheel, self.hull, self.hull_sizes, self.mark)
        quads, count = _place_all(*ground, *car, self.camera, *self._polygons)
        corners, sizes, paints = self._polygons
        return corners, sizes, paints, quads, count

    def _read(self, env: stock.CarRacing) -> None:
        """Read the camera and the bodies' poses."""
        car = env.car
        assert car is not None
        if car is not self._car:
            self._measure(car)
        bodies = [*car.wheels, car.hull]
        self.poses[:] = [(*body.position.tuple, *body.GetWorldVector((1, 0)).tuple) for body in bodies]
        self.phases[:] = [wheel.phase for wheel in car.wheels]
        angle = -car.hull.angle
        # The opening second zooms in (CarRacing._render).
        zoom = 0.1 * stock.SCALE * max(1 - env.t, 0) + stock.ZOOM * stock.SCALE * min(env.t, 1)
        x, y = float(self.poses[4, 0]), float(self.poses[4, 1])
        cos, sin = _rotation(angle)
        scroll_x, scroll_y = -x * zoom, -y * zoom
        self.camera[:] = (
            zoom,
            stock.WINDOW_W / 2 + (cos * scroll_x - sin * scroll_y),
            stock.WINDOW_H / 4 + (sin * scroll_x + cos * scroll_y),
            cos,
            sin,
        )

    def _measure(self, car: car_dynamics.Car) -> None:
        """Read the parts' corners as Box2D keeps them (it may reorder them)."""
        for k, fixture in enumerate(car.hull.fixtures):
            corners = fixture.shape.vertices
            self.hull_sizes[k] = len(corners)
            self.hull[k, : len(corners)] = corners
        self.wheel[:] = car.wheels[0].fixtures[0].shape.vertices
        self._car = car


def _field() -> list[tuple[float, float]]:
    bounds = stock.PLAYFIELD
    return [(bounds, bounds), (bounds, -bounds), (-bounds, -bounds), (-bounds, bounds)]


def _grass() -> list[list[tuple[float, float]]]:
    """Every second square of the field, in gymnasium's order and arithmetic (`_render_road`)."""
    side = stock.GRASS_DIM
    return [
        [
            (side * x + side, side * y + 0),
            (side * x + 0, side * y + 0),
            (side * x + 0, side * y + side),
            (side * x + side, side * y + side),
        ]
        for x in range(-20, 20, 2)
        for y in range(-20, 20, 2)
    ]


def _paint(color: object) -> int:
    """The palette's index of a colour of the road; its channels are cut to integers as in drawing."""
    rgb = np.asarray(color).astype(np.uint8)
    for paint in (ROAD, ROAD_2, ROAD_3, WHITE, RED):
        if (COLORS[paint] == rgb).all():
            return paint
    raise AssertionError(f"gymnasium drew a road of colour {rgb}")


def _rotation(angle: float) -> tuple[float, float]:
    """Cosine and sine as in pygame's `Vector2.rotate_rad`, which rounds to right angles within 1e-6."""
    angle = math.fmod(angle, 2 * math.pi)
    if angle < 0:
        angle += 2 * math.pi
    if math.fmod(angle + EPSILON, math.pi / 2) < 2 * EPSILON:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int((angle + EPSILON) / (math.pi / 2)) % 4]
    return math.cos(angle), math.sin(angle)


def _room(polygons: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((polygons, 8, 2)), np.zeros(polygons, np.int64), np.zeros(polygons, np.uint8)


@compiled
def _place_all(
    corners, paints, shades, poses, phases, wheel, hull, hull_sizes, mark, camera, out, out_sizes, out_paints
):
    """The ground, then the car; `Scene.look`."""
    quads = _place_ground(corners, paints, shades, camera, out, out_sizes, out_paints)
    count = quads
    for w in range(4):
        _place(wheel, 4, poses[w], camera, out[count])
        out_sizes[count], out_paints[count] = 4, WHEEL
        count += 1
        if _wheel_mark(phases[w], mark):
            _place(mark, 4, poses[w], camera, out[count])
            out_sizes[count], out_paints[count] = 4, WHEEL_WHITE
            count += 1
    for k in range(4):
        _place(hull[k], hull_sizes[k], poses[4], camera, out[count])
        out_sizes[count], out_paints[count] = hull_sizes[k], HULL
        count += 1
    return quads, count


@compiled
def _place_ground(corners, paints, shades, camera, out, out_sizes, out_paints):
    """Background, grass and road as far as they may be seen; a tile with the road's shade takes its paint.

    What lies wholly off the window is left out. Gymnasium's own test (MAX_SHAPE_DIM) keeps every polygon
    that could leave a trace, so nothing is lost.
    """
    zoom, tx, ty, cos, sin = camera
    # the hull, in world units
    hx, hy = 500 - tx, 200 - ty
    x0, y0 = (cos * hx + sin * hy) / zoom, (cos * hy - sin * hx) / zoom
    reach = (REACH + 4) / zoom + WIDEST
    count = 0
    for k in range(len(corners)):
        dx, dy = corners[k, 0, 0] - x0, corners[k, 0, 1] - y0
        if k > 0 and dx * dx + dy * dy > reach * reach:
            continue
        for i in range(4):
            x, y = corners[k, i, 0], corners[k, i, 1]
            out[count, i, 0] = (cos * x - sin * y) * zoom + tx
            out[count, i, 1] = (sin * x + cos * y) * zoom + ty
        paint = paints[k]
        if ROAD_2 <= paint <= ROAD_3 and int(shades[k, 0]) == 102:
            paint = np.uint8(ROAD)
        out_sizes[count], out_paints[count] = 4, paint
        count += 1
    return count


@compiled
def _place(points, n, pose, camera, out):
    """Body coordinates to window pixels: Box2D's transform in float32, the camera in float64."""
    zoom, tx, ty, cos, sin = camera
    px, py, c, s = pose
    for i in range(n):
        x = (c * points[i, 0] - s * points[i, 1]) + px
        y = (s * points[i, 0] + c * points[i, 1]) + py
        out[i, 0] = (cos * np.float64(x) - sin * np.float64(y)) * zoom + tx
        out[i, 1] = (sin * np.float64(x) + cos * np.float64(y)) * zoom + ty


@compiled
def _wheel_mark(phase, out):
    """Corners of the white mark on a turning wheel, float32 [4, 2]; False while it is underneath."""
    s1, s2 = math.sin(phase), math.sin(phase + 1.2)
    c1, c2 = math.cos(phase), math.cos(phase + 1.2)
    if s1 > 0 and s2 > 0:
        return False
    if s1 > 0:
        c1 = np.sign(c1)
    if s2 > 0:
        c2 = np.sign(c2)
    half, radius = WHEEL_HALF, WHEEL_RADIUS
    out[0, 0], out[0, 1] = -half * SIZE, radius * c1 * SIZE
    out[1, 0], out[1, 1] = half * SIZE, radius * c1 * SIZE
    out[2, 0], out[2, 1] = half * SIZE, radius * c2 * SIZE
    out[3, 0], out[3, 1] = -half * SIZE, radius * c2 * SIZE
    return True


WHEEL_HALF, WHEEL_RADIUS, SIZE = car_dynamics.WHEEL_W, car_dynamics.WHEEL_R, car_dynamics.SIZE
