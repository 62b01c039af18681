"""Gymnasium's car with the same forces, computed without NumPy's scalars and without skid marks.

The stock car spends as long on its four wheels as Box2D on the world. Arithmetic follows it operation by
operation, so that the world stays bit-equal.
"""

from math import sqrt

from gymnasium.envs.box2d import car_dynamics as stock

GRASS = stock.FRICTION_LIMIT * 0.6
STIFFNESS = 205000 * stock.SIZE * stock.SIZE
BRAKES = 15  # radians per second


class QuickCar(stock.Car):
    """Takes over the bodies of a stock car; its skid marks, which the agent's picture lacks, are not kept."""

    def __init__(self, car: stock.Car) -> None:
        self.__dict__.update(car.__dict__)

    def gas(self, gas: float) -> None:
        """Rear wheel drive: more gas comes gradually, less at once."""
        gas = min(max(float(gas), 0.0), 1.0)
        for wheel in self.wheels[2:4]:
            wheel.gas += min(gas - wheel.gas, 0.1)

    def brake(self, b: float) -> None:
        super().brake(float(b))

    def steer(self, s: float) -> None:
        super().steer(float(s))

    def step(self, dt: float) -> None:
        """Turn the front wheels, accelerate, and apply each wheel's friction to it."""
        for wheel in self.wheels:
            error = wheel.steer - wheel.joint.angle
            turn = min(50.0 * abs(error), 3.0)
            wheel.joint.motorSpeed = turn if error > 0 else -turn
            grip = GRASS
            for tile in wheel.tiles:
                grip = max(grip, stock.FRICTION_LIMIT * tile.road_friction)
            omega = _accelerated(wheel, dt)
            wheel.phase += omega * dt

            # sideways is R (1, 0), forwards R (0, 1)
            cos, sin = wheel.GetWorldVector((1, 0)).tuple
            ahead = 0.0 - sin
            x, y = wheel.linearVelocity.tuple
            forward = (-(ahead * x + cos * y) + omega * wheel.wheel_rad) * STIFFNESS
            sideways = -(cos * x + sin * y) * STIFFNESS
            force = sqrt(forward * forward + sideways * sideways)
            if force > grip:
                forward = forward / force * grip
                sideways = sideways / force * grip
            wheel.omega = omega - dt * forward * wheel.wheel_rad / stock.WHEEL_MOMENT_OF_INERTIA
            wheel.ApplyForceToCenter((sideways * cos + forward * ahead, sideways * sin + forward * cos), True)


def _accelerated(wheel: "stock.Box2D.b2Body", dt: float) -> float:
    """The wheel's rotation after gas and brakes, radians per second."""
    omega: float = wheel.omega
    # 5.0, so that nothing is divided by zero
    omega += dt * stock.ENGINE_POWER * wheel.gas / stock.WHEEL_MOMENT_OF_INERTIA / (abs(omega) + 5.0)
    if wheel.brake >= 0.9:
        return 0.0
    if wheel.brake > 0:
        less = min(BRAKES * wheel.brake, abs(omega))
        omega += -less if omega > 0 else less
    return omega
