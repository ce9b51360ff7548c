r"""Latents given what was observed, and the mixture given the latents; compiled.

*Posterior.* Prior ``z ~ N(0, I)``. Transitions have the log-likelihood ``sum_e c_e log P_e(z)``, concave because ``P_e`` is linear; outcomes of n
episodes of policy j from initial state b have the mean ``mu_jb(z)`` and, on average, the covariance ``noise_jb / n + residual_jb^2``: what the fit
misses does not average out. Newton's method (Gauss-Newton for outcomes) gives the mode ``z`` and the precision ``H`` there.

*Mixture.* With ``m_jf`` the expected values, ``u_j = L' grad V_j`` for ``H^-1 = L L'`` and residuals on the diagonal, a mixture of policies
a and b has costs of mean ``(1-w) m_a + w m_b`` and variance ``|(1-w) u_a + w u_b|^2 + (1-w)^2 r_a^2 + w^2 r_b^2``. For every pair whose
first policy meets

    mean + boldness * standard deviation <= limit        for every constraint

the largest such w is a root of a quadratic (the left side is convex in w); the pair of largest expected return is played. One constraint needs
no more than two policies; with several, pairs may return less than a larger mixture would, and they remain within the same rule.

Letters: d latents, E transitions, J policies, B initial states, F outcomes, V = 1 + I values.
"""

from __future__ import annotations

import numpy as np

from surefoot.kernels import kernel

__all__ = ["accumulate", "innovation", "misfit", "mixture", "moments", "posterior"]

FLOOR = 0.02
"""Probabilities are not taken below this share of their centre."""
LONGEST_STEP = 2.0
"""Of one Newton step, in any latent."""


@kernel
def accumulate(index, columns, values, seen, sums):  # type: ignore[no-untyped-def]
    """Add outcomes (n, F) of policies (n,) from columns (n,) to ``seen`` (J, B) and ``sums`` (J, B, F), one after the other."""
    for k in range(index.size):
        j, b = index[k], columns[k]
        seen[j, b] += 1.0
        for f in range(values.shape[1]):
            sums[j, b, f] += values[k, f]


@kernel
def _quadratic(center, slope, curve, z, gradient):  # type: ignore[no-untyped-def]
    """``center + slope z + sum curve_ik z_i z_k``; its gradient is written to ``gradient``."""
    d = z.size
    total = center
    for i in range(d):
        gradient[i] = slope[i]
        total += slope[i] * z[i]
    if curve.size:
        k = 0
        for i in range(d):
            for l in range(i, d):
                c = curve[k]
                k += 1
                total += c * z[i] * z[l]
                gradient[i] += c * z[l]
                gradient[l] += c * z[i]
    return total


@kernel
def posterior(  # type: ignore[no-untyped-def]
    start, moves, kernel_center, kernel_slope, seen, sums, center, slope, curve, residual, noise, informative, steps
):
    """Mode (d,) and precision (d, d) of the latents after ``steps`` Newton steps from ``start``."""
    d = start.size
    z = start.copy()
    n_outcomes = center.shape[2]
    precision = np.eye(d)
    jacobian = np.empty((n_outcomes, d))
    gap = np.empty(n_outcomes)
    for _ in range(steps):
        precision = np.eye(d)
        score = -z
        for e in range(moves.size):
            c = moves[e]
            if c > 0.0:
                p = kernel_center[e]
                for i in range(d):
                    p += kernel_slope[e, i] * z[i]
                p = max(p, FLOOR * kernel_center[e])
                first = c / p
                second = first / p
                for i in range(d):
                    g = kernel_slope[e, i]
                    if g != 0.0:
                        score[i] += first * g
                        h = second * g
                        for l in range(i + 1):
                            precision[i, l] += h * kernel_slope[e, l]
        if informative:
            for j in range(seen.shape[0]):
                for b in range(seen.shape[1]):
                    n = seen[j, b]
                    if n <= 0.0:
                        continue
                    spread = noise[j, b] / n
                    for f in range(n_outcomes):
                        gap[f] = sums[j, b, f] / n - _quadratic(
                            center[j, b, f], slope[j, b, f], curve[j, b, f], z, jacobian[f]
                        )
                        spread[f, f] += residual[j, b, f] ** 2
                    weighted = np.linalg.solve(spread, jacobian)
                    for i in range(d):
                        for f in range(n_outcomes):
                            score[i] += weighted[f, i] * gap[f]
                        for l in range(i + 1):
                            for f in range(n_outcomes):
                                precision[i, l] += jacobian[f, i] * weighted[f, l]
        for i in range(d):
            for l in range(i):
                precision[l, i] = precision[i, l]
        step = np.linalg.solve(precision, score)
        largest = np.abs(step).max()
        if largest > LONGEST_STEP:
            step *= LONGEST_STEP / largest
        z = z + step
    return z, precision


@kernel
def innovation(z, precision, seen, sums, center, slope, curve, residual, noise):  # type: ignore[no-untyped-def]
    """``sum_f (t_f^2 - 1)`` over the standardised totals of new outcomes, predicted from latents that had not seen them."""
    d = z.size
    n_outcomes = center.shape[2]
    gap = np.zeros(n_outcomes)
    spread = np.zeros(n_outcomes)
    total = np.zeros((n_outcomes, d))
    gradient = np.empty(d)
    for j in range(seen.shape[0]):
        for b in range(seen.shape[1]):
            n = seen[j, b]
            if n <= 0.0:
                continue
            for f in range(n_outcomes):
                gap[f] += sums[j, b, f] - n * _quadratic(center[j, b, f], slope[j, b, f], curve[j, b, f], z, gradient)
                spread[f] += n * noise[j, b, f, f] + (n * residual[j, b, f]) ** 2
                total[f] += n * gradient
    found = 0.0
    for f in range(n_outcomes):
        variance = spread[f] + total[f] @ np.linalg.solve(precision, total[f])
        found += gap[f] ** 2 / variance - 1.0
    return found


@kernel
def misfit(z, moves, row, kernel_center, kernel_slope):  # type: ignore[no-untyped-def]
    """Standardised Pearson statistic of transitions (E,), whose entries of one pair of state and action share ``row`` (E,), against ``P(z)``."""
    rows = row.max() + 1
    visits = np.zeros(rows)
    for e in range(moves.size):
        visits[row[e]] += moves[e]
    statistic, freedom = 0.0, 0.0
    last = -1
    for e in range(moves.size):
        n = visits[row[e]]
        p = kernel_center[e]
        for i in range(z.size):
            p += kernel_slope[e, i] * z[i]
        p = max(p, FLOOR * kernel_center[e])
        if n * p < 1.0:
            continue
        statistic += (moves[e] - n * p) ** 2 / (n * p)
        freedom += 1.0 - p
        last = row[e]
    if last < 0:
        return 0.0
    return (statistic - freedom) / np.sqrt(2.0 * freedom + 10.0)


@kernel
def _largest_share(mean_a, mean_b, limit, boldness, va, vab, vb):  # type: ignore[no-untyped-def]
    """Largest w with ``(1-w) mean_a + w mean_b + boldness sd(w) <= limit``, which holds at w = 0 and not at w = 1."""
    square = boldness * boldness
    rise = mean_b - mean_a
    room = limit - mean_a
    a = square * (va - 2.0 * vab + vb) - rise * rise
    b = 2.0 * square * (vab - va) + 2.0 * room * rise
    c = square * va - room * room
    scale = abs(a) + abs(b) + abs(c)
    if abs(a) <= 1e-13 * scale:
        w = -c / b if b > 0.0 else 0.0
    else:
        root = np.sqrt(max(b * b - 4.0 * a * c, 0.0))
        # Without cancellation: q / a and c / q are the two roots.
        q = -0.5 * (b + root) if b >= 0.0 else -0.5 * (b - root)
        first = q / a
        second = c / q if q != 0.0 else first
        low, high = min(first, second), max(first, second)
        w = low if low >= 0.0 else high
    return min(max(w, 0.0), 1.0)


@kernel
def moments(z, precision, center, slope, curve):  # type: ignore[no-untyped-def]
    """Expected values (J, V) and, per cost, ``L' grad`` (J, I, d) with ``L L'`` the covariance of the latents."""
    n_policies, n_values, d = slope.shape
    covariance = np.linalg.inv(precision)
    root = np.linalg.cholesky(0.5 * (covariance + covariance.T))
    mean = np.empty((n_policies, n_values))
    axes = np.empty((n_policies, n_values - 1, d))
    gradient = np.empty(d)
    for j in range(n_policies):
        for f in range(n_values):
            m = _quadratic(center[j, f], slope[j, f], curve[j, f], z, gradient)
            if curve.shape[2]:
                k = 0
                for i in range(d):
                    for l in range(i, d):
                        m += curve[j, f, k] * covariance[i, l]
                        k += 1
            mean[j, f] = m
            if f:
                for i in range(d):
                    s = 0.0
                    for l in range(i, d):
                        s += root[l, i] * gradient[l]
                    axes[j, f - 1, i] = s
    return mean, axes


@kernel
def mixture(mean, axes, residual, limits, boldness):  # type: ignore[no-untyped-def]
    """The pair (a, b), the weight w of b, and whether any policy meets the rule on its own; a = b = 0 where none does.

    Args:
        mean: (J, V).
        axes: (J, I, d).
        residual: (J, V) standard deviations of what the fit of values misses.
        limits: (I,).
        boldness: standard deviations.
    """
    n_policies, n_costs, d = axes.shape
    variance = np.empty((n_policies, n_costs))
    allowed = np.ones(n_policies, dtype=np.bool_)
    for j in range(n_policies):
        for i in range(n_costs):
            total = residual[j, 1 + i] ** 2
            for l in range(d):
                total += axes[j, i, l] ** 2
            variance[j, i] = total
            if not mean[j, 1 + i] + boldness * np.sqrt(total) <= limits[i]:
                allowed[j] = False
    best_a, best_b, best_w, best = 0, 0, 0.0, -np.inf
    for a in range(n_policies):
        if allowed[a] and mean[a, 0] > best:
            best_a, best_b, best_w, best = a, a, 0.0, mean[a, 0]
    for a in range(n_policies):
        if not allowed[a]:
            continue
        for b in range(n_policies):
            if allowed[b] or not mean[b, 0] > best:
                continue
            w = 1.0
            for i in range(n_costs):
                if mean[b, 1 + i] + boldness * np.sqrt(variance[b, i]) <= limits[i]:
                    continue
                shared = 0.0
                for l in range(d):
                    shared += axes[a, i, l] * axes[b, i, l]
                share = _largest_share(
                    mean[a, 1 + i], mean[b, 1 + i], limits[i], boldness, variance[a, i], shared, variance[b, i]
                )
                w = min(w, share)
            value = (1.0 - w) * mean[a, 0] + w * mean[b, 0]
            if value > best:
                best_a, best_b, best_w, best = a, b, w, value
    return best_a, best_b, best_w, allowed.any()
