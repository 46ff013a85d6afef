"""Sets that several tests fit, and the recipe of the decoupled engine in plain numpy."""

import numpy as np
from scipy.special import softmax
from sklearn.datasets import load_digits


def digits(rows=300, per_class=3, skip=0):
    """Rows of the digits, all labels, and labels of which few are known."""
    x, y = load_digits(return_X_y=True)
    x, y = x[skip : skip + rows].astype(np.float32), y[skip : skip + rows]
    return x, y, partly(y, per_class)


def partly(y, per_class):
    known = np.full(len(y), -1)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)[:per_class]
        known[rows] = label
    return known


def ring_edges(y, seed=0):
    """Undirected, weighted: each row with a few later ones, mostly of its own class."""
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(len(y) - 1):
        later = np.arange(i + 1, len(y))
        like = later[y[later] == y[i]]
        pool = like if len(like) and rng.random() < 0.8 else later
        pairs.append((i, int(rng.choice(pool))))
    pairs = np.array(sorted(set(pairs))).T
    weight = rng.uniform(0.2, 2.0, pairs.shape[1])
    return np.hstack([pairs, pairs[::-1]]), np.concatenate([weight, weight])


def unit(x):
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def components(x, count=50):
    """Centred PCA: the projected rows, and how to project others."""
    mean = x.mean(axis=0)
    _, sizes, directions = np.linalg.svd(x - mean, full_matrices=False)
    kept = directions[:count][sizes[:count] ** 2 > 1e-12 * sizes[0] ** 2]
    return (x - mean) @ kept.T, lambda new: (new - mean) @ kept.T


def cosine_distances(a, b):
    return ((unit(a)[:, None] - unit(b)[None]) ** 2).sum(-1)


def self_tuned(points, k=15, bandwidth=10):
    """A = (W + W')/2 with w_ij = exp(-4 d_ij^2 / (s_i s_j)) for the k neighbours j of i."""
    squared = cosine_distances(points, points)
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")
    nearest = np.take_along_axis(squared, order, axis=1)
    s = np.sqrt(nearest[:, bandwidth - 1])
    w = np.zeros_like(squared)
    for i, near in enumerate(order[:, :k]):
        w[i, near] = np.exp(-4 * squared[i, near] / (s[i] * s[near]))
    return (w + w.T) / 2


def self_tuned_towards(points, new, k=15, bandwidth=10):
    """The same between new rows and fixed ones: neither reach nor bandwidth of these changes."""
    among = cosine_distances(points, points)
    np.fill_diagonal(among, np.inf)
    among.sort(axis=1)
    reach, s = among[:, k - 1], np.sqrt(among[:, bandwidth - 1])
    w = np.zeros((len(new), len(points)))
    for i, d in enumerate(cosine_distances(new, points)):
        order = np.argsort(d, kind="stable")
        s_new = np.sqrt(d[order[bandwidth - 1]])
        for j in range(len(points)):
            votes = int(j in order[:k]) + int(d[j] <= reach[j])
            w[i, j] = votes / 2 * np.exp(-4 * d[j] / (s_new * s[j]))
    return w


def observed(edge_index, edge_weight, count):
    """Row i holds what i receives; a self-loop of weight 1 where there is none."""
    a = np.zeros((count, count))
    np.add.at(a, (edge_index[1], edge_index[0]), edge_weight)
    return a + np.diag((np.diag(a) == 0).astype(float))


def symmetric(a):
    d = a.sum(axis=1)
    return a / np.sqrt(d[:, None] * d[None])


def by_row(a):
    return a / a.sum(axis=1, keepdims=True)


def mixed(matrices, normalise, shares):
    return sum(w * normalise(a) for a, w in zip(matrices, shares, strict=True)) / sum(shares)


def diffused(s, x, steps=40, source=0.02):
    z = x
    for _ in range(steps):
        z = (1 - source) * (s @ z) + source * x
    return 4 * unit(z)


def surety(q):
    """1 - H / log K of each row."""
    logs = np.log(np.where(q > 0, q, 1))
    return 1 + (q * logs).sum(axis=1) / np.log(q.shape[1])


def typical_surety(q):
    """The lower median."""
    return np.sort(surety(q))[(len(q) - 1) // 2]


def gammas(q, typical, source=0.1):
    """How strongly rows hold on to what they start from, (N, 1)."""
    return np.minimum(source * np.clip(surety(q) / typical, 0.1, 5), 1)[:, None]


def following(p, rows, columns):
    """Rates that fall with the distance of answers, rows of sum 1."""
    squared = ((rows[:, None] - columns[None]) ** 2).sum(axis=2)
    return by_row(p * np.exp(-squared / 0.5))


def labels_diffused(p, start, guessed, steps=20, source=0.1, rounds=2):
    """Answers, with ``guessed`` the rows that are no labels."""
    gamma = gammas(start, typical_surety(start[guessed]), source)
    weights = p
    for _ in range(rounds + 1):
        q = start
        for _ in range(steps):
            q = (1 - gamma) * (weights @ q) + gamma * start
        answers = q / q.sum(axis=1, keepdims=True)
        weights = following(p, answers, answers)
    return answers


def readout(model, states):
    """Mean of softmax(W z + b) and of softmax(V LN(relu(W z + b)) + c), from the weights alone."""
    parts = {name: t.detach().double().numpy() for name, t in model.members.state_dict().items()}
    answers = [softmax(states @ parts["0.weight"].T + parts["0.bias"], axis=1)]
    for member in range(1, len(model.members)):
        w = {name[2:]: t for name, t in parts.items() if name.startswith(f"{member}.")}
        h = np.maximum(states @ w["0.weight"].T + w["0.bias"], 0)
        spread = np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
        h = (h - h.mean(axis=1, keepdims=True)) / spread * w["2.weight"] + w["2.bias"]
        answers.append(softmax(h @ w["3.weight"].T + w["3.bias"], axis=1))
    return np.mean(answers, axis=0)


def clamped(probabilities, y):
    """Q_0: labels where known."""
    return np.where((y >= 0)[:, None], np.eye(probabilities.shape[1])[y], probabilities)
