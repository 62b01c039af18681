"""What lies between M's products of matrices, compiled for the CPU: each a pass over rows, on one core.

Number formats: what a product gives is float32, or bfloat16 as the uint16 of its bits. Sums are taken in one
order and every number is computed alike, so a row's result is that of its inputs alone.

Shapes: B rows, K mixtures, Z latent, A action, H hidden; `outputs` of M's head [B, 3 * K * Z (+ 1)] hold
logits, means and log standard deviations, [K, Z] each, as in `wm.mixture`.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

compiled: Callable[[Any], Any] = numba.njit(  # type: ignore[call-overload]
    cache=True, _nrt=False, error_model="numpy", fastmath={"contract"}
)
"""Compiled on first use, kept on disk; without reference counts, so nothing is allocated. The cache knows
this file alone.

LLVM turns the inner loops into vectors where a loop writes to one array and calls no library: hence an
exponential and a logarithm of our own, and loops that look shorter than they could be.
"""

F = np.float32
U = np.uint32
LOG_ROOT = 0.5 * math.log(2 * math.pi)


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as the functions here take it: its memory where it is contiguous, or else a copy."""
    whole = tensor.detach().contiguous()
    return (whole.view(torch.uint16) if whole.dtype == torch.bfloat16 else whole).numpy()


@compiled
def widen(x: Any) -> Any:
    """A float32, from bfloat16's bits or from itself."""
    if isinstance(x, np.uint16):
        return U(U(x) << U(16)).view(np.float32)
    return x


@compiled
def exp(x: Any) -> Any:
    """e^x in float32, within 1 ulp or so: 0 below -87.3, infinity above 88.3, NaN for NaN.

    2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, `expf`); adding 1.5 * 2^23 rounds to n.
    """
    low = x < F(-87.3)
    x = F(-87.3) if low else x
    x = F(88.6) if x > F(88.6) else x
    shifted = x * F(1.44269504) + F(12582912.0)
    n = shifted - F(12582912.0)
    r = x - n * F(0.693359375) + n * F(2.12194440e-4)
    p = F(1.9875691500e-4) * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * (r * r) + (r + F(1.0))
    scale = U(U(F(shifted).view(np.uint32) << U(23)) + U(0x3F800000)).view(np.float32)
    return F(0.0) if low else p * scale


@compiled
def log(x: Any) -> Any:
    """ln x in float32, within 1 ulp or so, for normal x: minus infinity for 0, and x for infinity and NaN.

    x = 2^e m with m in [sqrt(1/2), sqrt(2)), and a polynomial in m - 1 (Cephes, `logf`).
    """
    shifted = U(F(x).view(np.uint32) - U(0x3F3504F3))
    e = F(np.int32(shifted) >> 23)
    f = U((shifted & U(0x7FFFFF)) + U(0x3F3504F3)).view(np.float32) - F(1.0)
    p = F(7.0376836292e-2) * f - F(1.1514610310e-1)
    p = p * f + F(1.1676998740e-1)
    p = p * f - F(1.2420140846e-1)
    p = p * f + F(1.4249322787e-1)
    p = p * f - F(1.6668057665e-1)
    p = p * f + F(2.0000714765e-1)
    p = p * f - F(2.4999993993e-1)
    p = p * f + F(3.3333331174e-1)
    square = f * f
    small = p * square * f - e * F(2.12194440e-4) - F(0.5) * square
    result = (f + small) + e * F(0.693359375)
    result = result if x < F(np.inf) else x
    return result if x != F(0.0) else F(-np.inf)


@compiled
def sigmoid(x: Any) -> Any:
    return F(1.0) / (F(1.0) + exp(-x))


@compiled
def tanh(x: Any) -> Any:
    """In float32: by the exponential, and for |x| < 0.625 by a polynomial (Cephes, `tanhf`)."""
    square = x * x
    p = F(-5.70498872745e-3) * square + F(2.06390887954e-2)
    p = p * square - F(5.37397155531e-2)
    p = p * square + F(1.33314422036e-1)
    p = p * square - F(3.33332819422e-1)
    near = x + x * square * p
    far = F(1.0) - F(2.0) / (exp(F(2.0) * x) + F(1.0))
    return near if abs(x) < F(0.625) else far


@compiled
def load(row: Any, values: Any) -> None:
    """A row's first numbers, float32 or bfloat16, into float32 `values`."""
    for i in range(len(values)):
        values[i] = widen(row[i])


@compiled
def narrow(x: Any, like: Any) -> Any:
    """A float32 in the format of `like`: itself, or bfloat16 rounded to even as PyTorch does."""
    if isinstance(like, np.uint16):
        bits = F(x).view(np.uint32)
        rounded = U(bits + U(0x7FFF) + U((bits >> U(16)) & U(1))) >> U(16)
        return np.uint16(rounded if x == x else U(0x7FC0))
    return x


@compiled
def store(values: Any, row: Any) -> None:
    """float32 `values` into a row's first numbers, float32 or bfloat16."""
    for i in range(len(values)):
        row[i] = narrow(values[i], row[i])


@compiled
def gates(products: Any, before: Any, h: Any, c: Any) -> None:
    """The LSTM's state from its products [B, 4 * H], in the order i, f, g, o, and c before the step.

    before, h and c float32 [B, H]; h and c are written.
    """
    size = c.shape[1]
    for row in range(len(c)):
        i, f = products[row, :size], products[row, size:]
        g, o = products[row, 2 * size :], products[row, 3 * size :]
        old, new, seen = before[row], c[row], h[row]
        for d in range(size):
            new[d] = sigmoid(widen(f[d])) * old[d] + sigmoid(widen(i[d])) * tanh(widen(g[d]))
        for d in range(size):
            seen[d] = sigmoid(widen(o[d])) * tanh(new[d])


@compiled
def remember(
    t: Any, products: Any, restarts: Any, acts: Any, cells: Any, tanhs: Any, hidden: Any, x: Any
) -> None:
    """Step t of the LSTM along windows, with all that its gradient takes.

    products [B, 4 * H] of the gates i, f, g, o, and restarts bool [B, T + 1] are read. Written are acts
    [T, B, 4 * H], the gates; tanhs float32 [T, B, H], of c; hidden [B, T, H]; and what the next step starts
    from, zeros where it restarts: cells float32 [T + 1, B, H] and the first H of x [T + 1, B, H + ...].
    """
    size = cells.shape[2]
    for row in range(len(products)):
        given, h, following = products[row], hidden[row, t], x[t + 1, row]
        i, f, g, o = acts[t, row], acts[t, row, size:], acts[t, row, 2 * size :], acts[t, row, 3 * size :]
        before, c, seen = cells[t, row], cells[t + 1, row], tanhs[t, row]
        for d in range(2 * size):
            i[d] = narrow(sigmoid(widen(given[d])), i[d])
        for d in range(size):
            g[d] = narrow(tanh(widen(given[2 * size + d])), g[d])
        for d in range(size):
            o[d] = narrow(sigmoid(widen(given[3 * size + d])), o[d])
        for d in range(size):
            c[d] = widen(f[d]) * before[d] + widen(i[d]) * widen(g[d])
        for d in range(size):
            seen[d] = tanh(c[d])
        for d in range(size):
            h[d] = narrow(widen(o[d]) * seen[d], h[d])
        going = F(0.0) if restarts[row, t + 1] else F(1.0)
        for d in range(size):
            following[d] = narrow(going * widen(h[d]), h[d])
        for d in range(size):
            c[d] *= going


@compiled
def recall(
    t: Any, slopes: Any, returned: Any, restarts: Any, acts: Any, cells: Any, tanhs: Any, dc: Any, gates_: Any
) -> None:
    """Back through step t of `remember`: the gradient by its products, gates_ [T, B, 4 * H].

    slopes [B, T, H] is the gradient by hidden, returned [B, H] and dc float32 [B, H] those by the next step's
    h and c; dc becomes that by the c before this one.
    """
    size = cells.shape[2]
    for row in range(len(dc)):
        kept, found, tanh_c, before = acts[t, row], gates_[t, row], tanhs[t, row], cells[t, row]
        i, f, g, o = kept, kept[size:], kept[2 * size :], kept[3 * size :]
        di, df, dg, do = found, found[size:], found[2 * size :], found[3 * size :]
        going = F(0.0) if restarts[row, t + 1] else F(1.0)
        slope, back, carried = slopes[row, t], returned[row], dc[row]
        for d in range(size):
            dh = widen(slope[d]) + going * widen(back[d])
            do[d] = narrow(dh * tanh_c[d] * widen(o[d]) * (F(1.0) - widen(o[d])), do[d])
        for d in range(size):
            dh = widen(slope[d]) + going * widen(back[d])
            carried[d] = going * carried[d] + dh * widen(o[d]) * (F(1.0) - tanh_c[d] * tanh_c[d])
        for d in range(size):
            di[d] = narrow(carried[d] * widen(g[d]) * widen(i[d]) * (F(1.0) - widen(i[d])), di[d])
        for d in range(size):
            df[d] = narrow(carried[d] * before[d] * widen(f[d]) * (F(1.0) - widen(f[d])), df[d])
        for d in range(size):
            dg[d] = narrow(carried[d] * widen(i[d]) * (F(1.0) - widen(g[d]) * widen(g[d])), dg[d])
        for d in range(size):
            carried[d] *= widen(f[d])


@compiled
def highest(logits: Any, top: Any) -> None:
    """The highest of the components' logits [K * Z], float32 [Z]."""
    size = len(top)
    top[:] = F(-np.inf)
    for first in range(0, len(logits), size):
        ours = logits[first:]
        for d in range(size):
            top[d] = ours[d] if ours[d] > top[d] else top[d]


@cache
def drawing(mixtures: int, size: int) -> Callable[..., None]:
    """`draw(outputs, temperature, numbers, z)`, z from each row's mixture: `wm.mixture.sample`.

    Compiled for K `mixtures` and Z = `size`: with these known, all of it stays in registers. outputs
    [B, 3 * K * Z (+ 1)]; numbers float32 [B, 2, Z], uniform in [0, 1) and standard normal; z float32 [B, Z]
    is written.
    """
    many = mixtures * size

    @compiled
    def draw(outputs: Any, temperature: Any, numbers: Any, z: Any) -> None:
        divisor, root = F(temperature), F(math.sqrt(temperature))
        for row in range(len(z)):
            uniform, normal, logits, drawn = numbers[row, 0], numbers[row, 1], outputs[row], z[row]
            means, logstds = logits[many:], logits[2 * many :]
            for d in range(size):
                top = F(-np.inf)
                for k in range(mixtures):
                    logit = widen(logits[k * size + d])
                    top = logit if logit > top else top
                total = F(0.0)
                for k in range(mixtures):
                    total += exp((widen(logits[k * size + d]) - top) / divisor)
                mark, bound = uniform[d] * total, F(0.0)
                mean, logstd = widen(means[d]), widen(logstds[d])
                for k in range(1, mixtures):
                    bound += exp((widen(logits[(k - 1) * size + d]) - top) / divisor)
                    mean = widen(means[k * size + d]) if mark >= bound else mean
                    logstd = widen(logstds[k * size + d]) if mark >= bound else logstd
                drawn[d] = mean + exp(logstd) * (root * normal[d])

    return draw


@compiled
def normalise(logits: Any, top: Any, total: Any) -> None:
    """Logits [K * Z] become shares, exp(logits) over their sum; total [Z]: the sum's logarithm.

    As in `torch.logsumexp`, a sum of nothing but zeros has minus infinity. top float32 [Z] is overwritten.
    """
    many, size = len(logits), len(top)
    highest(logits, top)
    for d in range(size):
        top[d] = top[d] if abs(top[d]) < F(np.inf) else F(0.0)
        total[d] = F(0.0)
    for first in range(0, many, size):
        ours = logits[first:]
        for d in range(size):
            ours[d] = exp(ours[d] - top[d])
        for d in range(size):
            total[d] += ours[d]
    for first in range(0, many, size):
        ours = logits[first:]
        for d in range(size):
            ours[d] = ours[d] / total[d]
    for d in range(size):
        total[d] = top[d] + log(total[d])


@compiled
def likelihood(outputs: Any, z: Any, weights: Any, work: Any, result: Any, gradient: Any) -> None:
    """Each row's mean of log p(z) over latents, `wm.mixture.log_prob`, and the gradient of weights x this.

    The derivative by a logit is the component's share in p(z) less its share in the mixture; by a mean and a
    log standard deviation it is the share in p(z) times d / std and d^2 - 1, where z deviates by d standard
    deviations (Bishop 1994, section 4).

    outputs [B, 3 * K * Z (+ 1)], z float32 [B, Z], weights float32 [B]; result float32 [B] and gradient, as
    outputs, are written (a last column is left alone); work float32 [6 * K * Z + 3 * Z] is overwritten.
    """
    size = z.shape[1]
    many = (len(work) - 3 * size) // 6
    mixture, rest = work[: 3 * many], work[6 * many :]
    logits, means, logstds = mixture[:many], mixture[many : 2 * many], mixture[2 * many :]
    inverses, deviations = work[3 * many : 4 * many], work[4 * many : 5 * many]
    shares = work[5 * many : 6 * many]
    top, total, base = rest[:size], rest[size : 2 * size], rest[2 * size :]
    for row in range(len(outputs)):
        load(outputs[row], mixture)
        for i in range(many):
            inverses[i] = exp(-logstds[i])
        for first in range(0, many, size):
            mean, inverse, deviation, at = means[first:], inverses[first:], deviations[first:], z[row]
            for d in range(size):
                deviation[d] = (at[d] - mean[d]) * inverse[d]
        for i in range(many):
            shares[i] = logits[i] - logstds[i] - F(0.5) * (deviations[i] * deviations[i])
        normalise(shares, top, total)
        normalise(logits, top, base)
        found, weight = 0.0, weights[row] / F(size)
        for d in range(size):
            found += total[d] - base[d]
        result[row] = found / size - LOG_ROOT
        for i in range(many):
            logits[i] = weight * (shares[i] - logits[i])
        for i in range(many):
            means[i] = weight * shares[i] * deviations[i] * inverses[i]
        for i in range(many):
            logstds[i] = weight * shares[i] * (deviations[i] * deviations[i] - F(1.0))
        store(mixture, gradient[row])
