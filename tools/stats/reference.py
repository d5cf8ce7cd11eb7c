"""Inputs and independent results for the tests of reports/src/stats. See README.md."""

import json
import sys

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

rng = np.random.default_rng(20241127)


def three(p_of):
    return {f"p_{ours}": float(p_of(theirs)) for ours, theirs in [("greater", "greater"), ("less", "less"), ("two", "two-sided")]}


def sign_flip_scipy(d, resamples=np.inf):
    def p(alternative):
        return stats.permutation_test(
            (d,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", vectorized=True,
            n_resamples=resamples, alternative=alternative, batch=10_000, rng=1,
        ).pvalue

    return three(p)


def subset_sums(d):
    sums, sizes = np.zeros(1), np.zeros(1)
    for v in d:
        sums, sizes = np.concatenate([sums, sums + v]), np.concatenate([sizes, sizes + 1])
    return sums, sizes


def sign_flip_all(d):
    sums, _ = subset_sums(d)
    greater, less = np.mean(sums <= 1e-12), np.mean(sums >= -1e-12)
    return {"p_greater": float(greater), "p_less": float(less), "p_two": float(min(1, 2 * min(greater, less)))}


def shift_interval(d, confidence):
    sums, sizes = subset_sums(d)
    means = np.sort(sums[1:] / sizes[1:])
    k = int(np.floor((1 - confidence) / 2 * 2 ** len(d)))
    return [float(means[k - 1]), float(means[-k])]


def sign_flips():
    cases = []
    for n in [2, 5, 8, 12, 14, 24, 40]:
        for values in [rng.normal(0.4, 1, n), rng.lognormal(0, 1, n) - 1, rng.integers(-3, 5, n).astype(float)]:
            if n <= 14:
                expected, random = sign_flip_scipy(values), False
            elif n <= 24:
                expected, random = sign_flip_all(values), False
            else:
                expected, random = sign_flip_scipy(values, 99_999), True
            intervals = [[c, shift_interval(values, c)] for c in [0.9, 0.95, 0.99] if n in (8, 12, 14, 24)]
            cases.append({"values": values.tolist(), "random": random, "intervals": intervals, **expected})
    return cases


def permutation(x, y, resamples, alternative):
    return stats.permutation_test(
        (y, x), lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis), permutation_type="independent",
        vectorized=True, n_resamples=resamples, alternative=alternative, batch=10_000, rng=1,
    ).pvalue


def difference_interval(x, y, confidence):
    """All shifts whose two-sided p exceeds 1 - confidence: outwards from the estimate, by bisection."""
    ends = []
    for sign in [-1, 1]:
        inside = np.mean(y) - np.mean(x)
        outside = inside + sign * (np.ptp(x) + np.ptp(y) + 1)
        for _ in range(42):
            middle = (inside + outside) / 2
            if permutation(x, y - middle, np.inf, "two-sided") > 1 - confidence:
                inside = middle
            else:
                outside = middle
        ends.append(float(inside))
    return ends


def permutations():
    cases = []
    for m, n in [(2, 3), (4, 4), (6, 5), (10, 10), (24, 20)]:
        for shift, whole in [(0.0, False), (0.8, False), (1.0, True)]:
            x, y = rng.normal(0, 1, m), rng.normal(shift, 1, n)
            if whole:
                x, y = np.round(2 * x), np.round(2 * y)
            random = m == 24
            expected = three(lambda a: permutation(x, y, 99_999 if random else np.inf, a))
            intervals = [[0.9, difference_interval(x, y, 0.9)]] if m in (4, 6) and not whole else []
            cases.append({"base": x.tolist(), "candidate": y.tolist(), "random": random, "intervals": intervals, **expected})
    return cases


def holm():
    cases = [rng.uniform(0, 0.2, m) for m in [1, 2, 5, 10, 40]] + [np.array([0.01, 0.01, 0.03, 0.5, 1.0, 0.0])]
    return [{"p": p.tolist(), "adjusted": multipletests(p, method="holm")[1].tolist()} for p in cases]


def mcnemars():
    cases = []
    for lost, gained in [(0, 1), (3, 3), (10, 2), (2, 10), (25, 40), (300, 250), (1200, 1100)]:
        p = lambda a: stats.binomtest(gained, lost + gained, alternative=a).pvalue
        cases.append({
            "lost": lost, "gained": gained, "p_greater": float(p("greater")), "p_less": float(p("less")),
            "p_two": float(mcnemar([[7, lost], [gained, 9]], exact=True).pvalue),
        })
    return cases


def clusters():
    cases = []
    for count, changed in [(12, None), (40, None), (150, 0.15)]:
        sizes = rng.integers(1, 4, count)
        keys = np.repeat(np.arange(count), sizes)
        if changed is None:
            d = rng.normal(0.2, 1, len(keys)) + rng.normal(0, 0.7, count)[keys]
        else:
            d = rng.choice([-1.0, 0.0, 1.0], len(keys), p=[0.4 * changed, 1 - changed, 0.6 * changed])
        sums = np.bincount(keys, d)

        drawn = rng.integers(0, count, (99_999, count))
        means = sums[drawn].sum(-1) / sizes[drawn].sum(-1)
        # Hesterberg's expanded percentiles.
        tail = stats.norm.cdf(-np.sqrt(count / (count - 1)) * stats.t.ppf(0.975, count - 1))
        low, high = np.quantile(means, [tail, 1 - tail])
        moved = sums[sums != 0]
        order = rng.permutation(len(keys))
        cases.append({
            "differences": d[order].tolist(), "keys": keys[order].tolist(), "interval": [float(low), float(high)],
            "random": bool(len(moved) > 14), **sign_flip_scipy(moved, np.inf if len(moved) <= 14 else 99_999),
        })
    return cases


def mean_distance(a, b):
    return np.abs(a[:, None] - b[None, :]).mean()


def q(x, y):
    m, n = len(x), len(y)
    within = lambda a: mean_distance(a, a) * len(a) / (len(a) - 1)
    return m * n / (m + n) * (2 * mean_distance(x, y) - within(x) - within(y))


def best_split(segments, least):
    best = (-np.inf, 0)
    start = 0
    for segment in segments:
        for i in range(least, len(segment) - least + 1):
            best = max(best, (q(segment[:i], segment[i:]), start + i))
        start += len(segment)
    return best


def e_divisive(values, limit, least, orders):
    ends, found = [], []
    while True:
        segments = np.split(values, sorted(ends))
        seen, index = best_split(segments, least)
        if seen == -np.inf:
            break
        count, tried = 1, 1
        for _ in range(orders):
            shuffled = [rng.permutation(s) for s in segments]
            count += best_split(shuffled, least)[0] >= seen * (1 - 1e-9)
            tried += 1
            if count / (orders + 1) > limit:
                break
        p = count / tried
        if count / (orders + 1) > limit:
            break
        found.append([index, float(p)])
        ends.append(index)
    return sorted(found)


def change_points():
    cases = []
    series = [
        np.concatenate([rng.normal(100, 2, 15), rng.normal(108, 2, 10)]),
        np.concatenate([rng.normal(100, 1, 12), rng.normal(105, 1, 9), rng.normal(96, 1, 11)]),
        np.concatenate([rng.normal(100, 2, 20), rng.normal(103, 2, 8)]),
        rng.normal(100, 2, 25),
    ]
    for values in series:
        cases.append({"values": values.tolist(), "p": 0.01, "changes": e_divisive(values, 0.01, 2, 1_999)})
    return cases


def frontier():
    points, replicates = 6, 40
    draws = rng.integers(1, 12, (replicates, points, 2)).astype(float)
    reference = (10.0, 2.0)
    member, areas = np.zeros(points), []
    for draw in draws:
        for i, (c, s) in enumerate(draw):
            beaten = [(oc <= c and os >= s) and (oc < c or os > s) for oc, os in draw]
            member[i] += not any(beaten)
        # Cells of 1 x 1, by their corner towards the reference.
        cells = [(c, s) for c in range(0, 10) for s in range(3, 14)]
        areas.append(sum(any(oc <= c and os >= s for oc, os in draw) for c, s in cells))
    return {
        "replicates": draws.tolist(), "reference": reference,
        "membership": (member / replicates).tolist(), "hypervolume": [float(a) for a in areas],
    }


def main():
    out = {
        "sign_flips": sign_flips(), "permutations": permutations(), "holm": holm(), "mcnemar": mcnemars(),
        "clusters": clusters(), "change_points": change_points(), "frontier": frontier(),
    }
    with open(sys.argv[1], "w") as file:
        # A case a line: a change shows where it is.
        sections = []
        for name, section in out.items():
            body = json.dumps(section) if isinstance(section, dict) else "[\n" + ",\n".join(json.dumps(c) for c in section) + "\n]"
            sections.append(f'"{name}": {body}')
        file.write("{\n" + ",\n".join(sections) + "\n}\n")


if __name__ == "__main__":
    main()
