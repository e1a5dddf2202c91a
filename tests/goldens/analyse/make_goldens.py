#!/usr/bin/env python3
"""Writes statistics.json beside this file: figures of scipy, statsmodels and numpy that
src/analyse/goldens_test.cc compares with. Needs numpy 2.2.6, scipy 1.15.3, statsmodels 0.14.4."""

import json
import pathlib

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

Z = stats.norm.ppf(0.975)


def tango(lost, gained, n):
    """Tango 1998 by maximizing the restricted likelihood numerically, not by the closed form."""

    def restricted(delta):
        # p21 = share lost, p12 = p21 + delta share gained; maximize the multinomial likelihood.
        low, high = max(0.0, -delta), (1 - delta) / 2

        def minus_log_likelihood(p):
            total = 0.0
            for count, share in ((gained, p + delta), (lost, p), (n - lost - gained, 1 - 2 * p - delta)):
                if count:
                    total -= count * np.log(max(share, 1e-300))
            return total

        if high - low < 1e-15:
            return low
        found = optimize.minimize_scalar(minus_log_likelihood, bounds=(low, high), method="bounded",
                                         options={"xatol": 1e-13})
        return min((low, found.x, high), key=minus_log_likelihood)

    def score(delta):
        p = restricted(delta)
        variance = n * (2 * p + delta - delta * delta)
        return (gained - lost - n * delta) / np.sqrt(max(variance, 1e-300))

    edge = 1 - 1e-9
    return [optimize.brentq(lambda d: score(d) - Z, -edge, edge, xtol=1e-12),
            optimize.brentq(lambda d: score(d) + Z, -edge, edge, xtol=1e-12)]


def clustered_error(values, clusters):
    """Miller 2024 (arXiv 2411.00640), the double sum written out."""
    values, clusters = np.asarray(values), np.asarray(clusters)
    centred = values - values.mean()
    same = clusters[:, None] == clusters[None, :]
    n = len(values)
    products = np.outer(centred, centred)
    np.fill_diagonal(products, 0)
    return float(np.sqrt(values.std(ddof=1) ** 2 / n + products[same].sum() / n**2))


def digits(scores):
    return "".join(str(int(score)) for score in scores)


def normalized(a, b, chance):
    """Score of a leaderboard task in several subtasks; a, b: one array a subtask."""
    def score(lists, axis=-1):
        return np.mean([np.maximum(0, (s.mean(axis=axis) - g) / (1 - g)) for s, g in zip(lists, chance)], axis=0)
    rng = np.random.default_rng(3)
    draws = [rng.integers(0, len(x), (40_000, len(x))) for x in a]
    drawn_a = score([x[d] for x, d in zip(a, draws)])
    drawn_b = score([x[d] for x, d in zip(b, draws)])
    ends = lambda values: list(map(float, np.quantile(values, [0.025, 0.975])))
    return {"score": {"value": float(score(b)), "interval": ends(drawn_b)},
            "difference": {"value": float(score(b) - score(a)), "interval": ends(drawn_b - drawn_a)},
            "recovery": {"value": float(score(b) / score(a)), "interval": ends(drawn_b / drawn_a)}}


def contrast(a, b, loss):
    """Interval of mean b - (1 - loss) mean a, averaged over tasks of 0/1 scores: Zou and Donner's
    recovery of variances from Tango's interval of the difference and Wilson's of mean a."""
    value, below, above = 0.0, 0.0, 0.0
    for x, y in zip(a, b):
        n, d, m = len(x), (y - x).mean(), x.mean()
        low, high = tango(int(((x == 1) & (y == 0)).sum()), int(((x == 0) & (y == 1)).sum()), n)
        wilson_low, wilson_high = proportion_confint(x.sum(), n, method="wilson")
        value += d + loss * m
        below += (d - low) ** 2 + (loss * (m - wilson_low)) ** 2
        above += (high - d) ** 2 + (loss * (wilson_high - m)) ** 2
    k = len(a)
    return [float((value - np.sqrt(below)) / k), float((value + np.sqrt(above)) / k)]


def bca(a, b, statistic):
    found = stats.bootstrap((a, b), statistic, paired=True, vectorized=True, method="BCa",
                            n_resamples=200_000, batch=2000, rng=np.random.default_rng(1))
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]


def main():
    rng = np.random.default_rng(7)
    golden = {}
    golden["normal_quantile"] = [[p, float(stats.norm.ppf(p))]
                                 for p in (1e-12, 1e-5, 0.001, 0.025, 0.3, 0.5, 0.9, 0.975, 1 - 1e-9)]
    golden["normal_cdf"] = [[x, float(stats.norm.cdf(x))] for x in (-8, -3.3, -1, 0, 0.5, 1.96, 6)]
    golden["wilson"] = [[k, n, *map(float, proportion_confint(k, n, method="wilson"))]
                        for k, n in ((0, 10), (1, 10), (5, 10), (10, 10), (57, 60), (700, 1319), (1, 14042))]
    golden["mcnemar"] = [[b, c, float(mcnemar([[5, b], [c, 7]], exact=True).pvalue)]
                         for b, c in ((0, 0), (5, 0), (0, 6), (3, 4), (10, 2), (40, 60), (300, 390))]
    golden["tango"] = [[b, c, n, *map(float, tango(b, c, n))]
                       for b, c, n in ((0, 0, 60), (1, 0, 60), (3, 7, 60), (12, 2, 100), (5, 5, 1319),
                                       (20, 8, 164), (0, 29, 200))]
    p_values = [0.01, 0.04, 0.03, 0.5, 0.0004, 1.0, 0.03]
    golden["holm"] = {"p": p_values, "adjusted": list(map(float, multipletests(p_values, method="holm")[1]))}

    sample = np.round(rng.gamma(2.0, 1.0, 41), 6)
    golden["quantile"] = {"values": list(map(float, sorted(sample))),
                          "at": [[q, float(np.quantile(sample, q))] for q in (0, 0.1, 0.5, 0.9, 0.99, 1)]}
    values = np.round(rng.random(60), 6)
    labels = rng.integers(0, 35, 60)
    golden["standard_error"] = {"values": list(map(float, values)), "clusters": list(map(int, labels)),
                                "independent": float(stats.sem(values)),
                                "clustered": clustered_error(values, labels)}

    golden["bca"] = []
    difference = lambda a, b, axis=-1: b.mean(axis=axis) - a.mean(axis=axis)
    ratio = lambda a, b, axis=-1: b.mean(axis=axis) / a.mean(axis=axis)
    for n, flip, graded in ((250, 0.2, False), (60, 0.5, True), (400, 0.3, True)):
        a = np.round(rng.beta(2, 1, n), 4) if graded else (rng.random(n) < 0.6).astype(float)
        if graded:
            b = np.where(rng.random(n) < flip, np.round(rng.beta(2, 1.5, n), 4), a)
        else:
            b = np.where(rng.random(n) < flip, 1 - a, a)
        golden["bca"].append({"a": list(map(float, a)), "b": list(map(float, b)),
                              "difference": bca(a, b, difference), "ratio": bca(a, b, ratio)})

    # Paired permutation of 12 graded differences, all 2^12 signs.
    signed = np.round(rng.normal(0.3, 0.6, 12), 3)
    exact = stats.permutation_test((signed, np.zeros(12)), lambda x, y, axis=-1: (x - y).mean(axis=axis),
                                   permutation_type="samples", vectorized=True, n_resamples=np.inf)
    golden["sign_flips"] = {"differences": list(map(float, signed)), "p": float(exact.pvalue)}

    subtasks = []
    for name, n, count, accuracy in (("x", 300, 2, 0.7), ("y", 400, 5, 0.55), ("z", 350, 0, 0.4)):
        a = (rng.random(n) < accuracy).astype(float)
        b = np.where(rng.random(n) < 0.35, (rng.random(n) < accuracy).astype(float), a)
        subtasks.append((name, count, a, b))
    golden["normalized"] = {
        "subtasks": [{"name": name, "choices": count, "a": digits(a), "b": digits(b)}
                     for name, count, a, b in subtasks],
        **normalized([s[2] for s in subtasks], [s[3] for s in subtasks],
                     [1 / s[1] if s[1] > 1 else 0.0 for s in subtasks])}

    tasks_a = [(rng.random(n) < 0.6).astype(float) for n in (60, 150, 90)]
    tasks_b = [np.where(rng.random(len(a)) < 0.08, 1 - a, a) for a in tasks_a]
    golden["loss_contrast"] = {"tasks": [{"a": digits(a), "b": digits(b)}
                                         for a, b in zip(tasks_a, tasks_b)],
                               "at": [[loss, contrast(tasks_a, tasks_b, loss)] for loss in (0.0, 0.01, 0.1, 0.5)],
                               "bound": float(optimize.brentq(lambda m: contrast(tasks_a, tasks_b, m)[0], 0, 1))}

    path = pathlib.Path(__file__).with_name("statistics.json")
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
