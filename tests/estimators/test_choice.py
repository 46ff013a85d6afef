"""How strongly instances diffuse: the choice against its definition, and what it is for."""

import estimator_cases as cases
import numpy as np
import pytest
import torch

from difformer import DIFFormerClassifier, DIFFormerRegressor
from difformer.errors import ConfigError
from difformer.estimators import choice
from difformer.estimators.choice import Trial, choose
from difformer.estimators.engine import Fitting
from difformer.estimators.targets import Classes, Marks, Numbers, start_of
from difformer.nn import DIFFormer
from difformer.nn.decoupled import DecoupledDIFFormer
from difformer.nn.label_diffusion import Start
from difformer.training import TrainingConfig
from difformer.training.trainer import train

CONFIG = TrainingConfig(epochs=15, learning_rate=0.02, weight_decay=1e-3)


@pytest.fixture(scope="module")
def rows():
    x, y, known = cases.digits(200)
    return torch.from_numpy(4 * cases.unit(x.astype(np.float64))), y, known


def built(seed=0, outputs=10, **options):
    torch.manual_seed(seed)
    return DecoupledDIFFormer(64, outputs, members=2, readout_channels=8, **options).double()


def ring(y):
    edge_index, weight = cases.ring_edges(y)
    return torch.from_numpy(edge_index), torch.from_numpy(weight)


class TestStrengths:
    @pytest.mark.parametrize("with_graph", [False, True])
    def test_one_pass_gives_the_states_of_all(self, rows, with_graph):
        x, y, _ = rows
        edges = ring(y) if with_graph else ()
        sources = (0.0, 0.02, 0.3, 0.9)
        found = built().states_by_source(x, *edges, sources=sources)
        for states, source in zip(found, sources, strict=True):
            wanted = built(source=source).states(x, *edges)
            torch.testing.assert_close(states, wanted, rtol=0, atol=1e-10)

    def test_changed_is_built_anew(self, rows):
        x, y, _ = rows
        edges = ring(y)
        settings = {"source": 0.3, "mix_weights": (1.0, 2.0, 0.5), "label_steps": 3}
        changed, wanted = built(), built(**settings)
        members = [w.clone() for w in changed.members.parameters()]
        changed.diffuse_by(**settings)
        assert all(map(torch.equal, members, changed.members.parameters()))
        assert torch.equal(changed.states(x, *edges), wanted.states(x, *edges))
        start = Start(torch.rand(len(x), 10, dtype=torch.float64))
        said = [answers(m, m.encoder.structure(x, *edges), start) for m in (changed, wanted)]
        assert torch.equal(*said)

    def test_neighbours_are_not_searched_again(self, rows):
        model = built()
        before = model.encoder.structure(rows[0])
        model.diffuse_by(source=0.5)
        assert model.encoder.structure(rows[0]) is before

    def test_a_structure_of_other_terms_is_refused(self):
        own, other = DIFFormer(4, 4, 4, diffusivity="local"), DIFFormer(4, 4, 4)
        with pytest.raises(ConfigError, match="same terms"):
            own.keep_structure_of(other)


def answers(model, structure, start):
    return model.label_diffusion(model.label_operator(structure), start).answers()


def gain_by_definition(x, target, edges, options, hidden, start):
    """Each round on its own: a model of its own, taught without what is hidden by the trainer."""
    labelled = target.known.nonzero().squeeze(1)
    said, judged = [], []
    for row in hidden:
        rest, out = labelled[~row], labelled[row]
        blind = target.without(out)
        model = built(outputs=target.outputs, **options)
        model.load_state_dict(start)
        states = model.states(x, *edges)
        members = model.members[: choice.JUDGES]
        seen = states[rest]
        mask = torch.ones(len(rest), dtype=torch.bool)
        judge = blind.objective(0.0)
        train(
            members,
            lambda members=members, seen=seen: torch.stack([m(seen) for m in members]),
            target.y[rest],
            mask,
            CONFIG,
            objective=lambda o, y, m, judge=judge: len(o) * judge(o, y, m),
            predict=target.read,
        )
        with torch.no_grad():
            guess = target.read(torch.stack([m(states) for m in members]))
        structure = model.encoder.structure(x, *edges)
        said.append(answers(model, structure, start_of(blind, guess))[out])
        judged.append(out)
    found, rows = target.gains(torch.cat(said), torch.cat(judged)), torch.cat(judged)
    mass = torch.ones(len(x)) if target.mass is None else target.mass
    each = [float(mass[row] * found[rows == row].mean()) for row in labelled if (rows == row).any()]
    return np.array(each)


def classes(y, known, weight=None):
    return Classes(torch.from_numpy(known), 10, weight)


def numbers(y, known):
    values = torch.from_numpy(np.stack([np.sin(y), y / 3.0], axis=1))
    values[known < 0] = torch.nan
    return Numbers.of(values)


def marks(y, known):
    values = torch.from_numpy(np.stack([y > 4, y % 2 == 0], axis=1).astype(np.float64))
    values[known < 0] = torch.nan
    return Marks(values)


TARGETS = {
    "classes": classes,
    "weighted": lambda y, known: classes(y, known, torch.linspace(0.5, 2, 10).double()),
    "numbers": numbers,
    "marks": marks,
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("with_graph", [False, True])
def test_gains_are_those_of_rounds_done_one_by_one(rows, kind, with_graph, monkeypatch):
    x, y, known = rows
    monkeypatch.setattr(choice, "SOURCES", (0.02, 0.3))
    target, edges = TARGETS[kind](y, known), ring(y) if with_graph else ()
    model = built(outputs=target.outputs)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    candidates = list(choice._candidates(model, Fitting(x, target, *edges)))
    trials = choose(model, x, Fitting(x, target, *edges, seed=0), CONFIG)
    assert len(trials) == (6 if with_graph else 3)
    hidden = choice._rounds(target, x, 0)
    first = None
    for options in candidates:
        wanted = gain_by_definition(x, target, edges, options, hidden, start)
        first = wanted if first is None else first
        (trial,) = (t for t in trials if t.options == options)
        lead = wanted - first
        error = lead.std(ddof=1) / np.sqrt(len(lead))
        np.testing.assert_allclose(trial.gain, wanted.mean(), rtol=1e-6)
        np.testing.assert_allclose([trial.lead, trial.error], [lead.mean(), error], atol=1e-7)
    after = model.state_dict()
    assert all(torch.equal(start[name], after[name]) for name in start)
    # The model diffuses as chosen.
    chosen = trials[0].options
    assert model.encoder.config["source"] == chosen["source"]
    assert tuple(model.encoder.config["mix_weights"]) == chosen["mix_weights"]


@pytest.mark.parametrize("kind", ["classes", "numbers", "marks"])
def test_losses_of_rows_are_what_training_minimises(rows, kind):
    _, y, known = rows
    target = TARGETS[kind](y, known)
    labelled = target.known.nonzero().squeeze(1)
    outputs = torch.randn(1, len(y), target.outputs, dtype=torch.float64)
    found = target.losses(outputs[:, labelled], labelled).mean()
    torch.testing.assert_close(found, target.objective(0.0)(outputs, target.y, target.known))


def test_hidden_labels_do_not_reach_the_round_that_hides_them(rows):
    x, y, known = rows
    hidden = choice._rounds(classes(y, known), x, 0)
    out = np.flatnonzero(known >= 0)[hidden[0].numpy()]
    other = known.copy()
    other[out] = (other[out] + 1) % 10
    answers = []
    for labels in (known, other):
        target = classes(y, labels)
        judge = choice._Judge(built(), x, Fitting(x, target), CONFIG, hidden[:1])
        seen = []
        target.__class__.gains, real = _spy(seen), target.__class__.gains
        try:
            list(judge.gains(list(choice._candidates(built(), Fitting(x, target)))[:1]))
        finally:
            target.__class__.gains = real
        answers.append(seen[0])
    assert torch.equal(*answers)


def _spy(seen):
    def gains(self, answers, rows):
        seen.append(answers)
        return answers[:, 0]

    return gains


class TestRounds:
    X = torch.rand(60, 2, generator=torch.Generator().manual_seed(0))
    Y = Classes(torch.arange(60) % 3, 3)

    def test_every_label_is_hidden_once(self):
        hidden = choice._rounds(self.Y, self.X, 0)
        assert hidden.shape == (5, 60)
        assert (hidden.sum(0) == 1).all()
        per_class = torch.stack([hidden[:, c::3].sum(1) for c in range(3)])
        assert (per_class == 4).all()

    def test_the_order_of_rows_says_nothing(self):
        order = torch.randperm(60)
        moved = Classes(self.Y.y[order], 3)
        hidden = choice._rounds(moved, self.X[order], 0)
        assert torch.equal(hidden, choice._rounds(self.Y, self.X, 0)[:, order])

    def test_many_labels_get_fewer_rounds(self, monkeypatch):
        monkeypatch.setattr(choice, "MOST_TAUGHT", 150)
        assert len(choice._rounds(self.Y, self.X, 0)) == 2
        monkeypatch.setattr(choice, "MOST_TAUGHT", 10)
        assert len(choice._rounds(self.Y, self.X, 0)) == 1

    @pytest.mark.parametrize("labels", [[-1, -1, -1], [0, 0, 1, -1], [0, 1, 2]])
    def test_a_class_with_one_label_leaves_nothing_to_hide(self, labels):
        target = Classes(torch.tensor(labels), 3)
        assert choice._rounds(target, self.X[: len(labels)], 0) is None


class TestWhatItIsFor:
    def fitted(self, many, edge_index=None, **settings):
        x, _, known = many
        model = DIFFormerClassifier(**settings)
        return model.fit(x.numpy(), known, edge_index=edge_index)

    def right(self, model, many):
        hidden = many[2] < 0
        return (model.transduction_ == many[1])[hidden].mean()

    @pytest.fixture
    def many(self):
        x, y, known = cases.digits(600)
        return torch.from_numpy(x.astype(np.float64)), y, known

    def test_edges_at_random_do_no_harm(self, many):
        draw = np.random.default_rng(0)
        edges = draw.integers(0, 600, (2, 3000))
        edges = np.concatenate([edges, edges[::-1]], axis=1)
        without = self.right(self.fitted(many), many)
        trusting = self.right(self.fitted(many, edges, options={"source": 0.02}), many)
        choosing = self.fitted(many, edges)
        assert trusting < 0.5
        assert self.right(choosing, many) > without - 0.02
        assert "edges hardly used" in choosing.decisions_[0]

    def test_edges_that_tell_are_used(self, many):
        draw = np.random.default_rng(1)
        ends = draw.integers(0, 600, (2, 6000))
        edges = ends[:, many[1][ends[0]] == many[1][ends[1]]]
        edges = np.concatenate([edges, edges[::-1]], axis=1)
        model = self.fitted(many, edges)
        assert self.right(model, many) > self.right(self.fitted(many), many)
        assert "edges used" in model.decisions_[0]

    def test_what_the_user_says_stands(self, many):
        for options in ({"source": 0.3}, {"label_steps": 2}):
            assert self.fitted(many, options=options).engine_.options == options

    def test_a_limit_of_time_leaves_the_default(self, many):
        assert "source" not in self.fitted(many, time_limit=60).engine_.options

    def test_the_user_can_read_it_also_of_a_file(self, many, tmp_path):
        model = self.fitted(many, np.array([[0, 1], [1, 0]]))
        (told,) = model.decisions_
        source = model.engine_.options["source"]
        assert told.startswith(f"Diffusion: source={source:g}, label_steps=")
        assert "among 30 labelled rows" in told
        model.save(tmp_path / "model")
        assert DIFFormerClassifier.load(tmp_path / "model").decisions_ == [told]
        assert self.fitted(many, options={"source": 0.02}).decisions_ == []

    def test_numbers_and_few_labels(self):
        x = np.linspace(0, 1, 50)[:, None]
        y = np.where(np.arange(50) % 5 == 0, x[:, 0], np.nan)
        assert "source" in DIFFormerRegressor().fit(x, y).engine_.options
        y = np.where(np.arange(50) == 0, x[:, 0], np.nan)
        assert "source" not in DIFFormerRegressor().fit(x, y).engine_.options


def test_only_what_convinces_replaces_the_first():
    options = [{"source": s} for s in (0.02, 0.1, 0.3)]
    first = torch.zeros(100)
    noisy, better = torch.randn(100, generator=torch.manual_seed(0)) + 0.05, first + 0.03
    ranked = choice._ranked(list(zip(options, (first, noisy, better), strict=True)))
    by_source = {trial.options["source"]: trial for trial in ranked}
    assert by_source[0.1].gain > by_source[0.3].gain
    assert not by_source[0.1].convinces
    assert ranked[0] is by_source[0.3]
    assert isinstance(ranked[0], Trial)
