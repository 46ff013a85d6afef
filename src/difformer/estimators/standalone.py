"""A fitted estimator as one module of plain torch operations: rows in, answers and states out.

Each row is a new one, without edges. What the others say is constant: sums over them where those
suffice, else their states, neighbour lists and labels (``difformer.nn.dense_context``).

Letters: N new rows, L fitted ones, F features, K answers, P width of the states.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from difformer.estimators.decoupled import DecoupledEngine
from difformer.estimators.engine import Engine
from difformer.estimators.features import FeatureMap
from difformer.estimators.targets import Target
from difformer.estimators.trained import TrainedEngine
from difformer.nn.conv import DIFFormerConv
from difformer.nn.decoupled import ROW_NORM, scaled_rows
from difformer.nn.dense_context import DenseWeights, dense
from difformer.nn.frozen import FrozenNetwork
from difformer.nn.label_diffusion import WIDTH, LabelDiffusion, Start, with_mass, without_mass


def standalone(engine: Engine) -> nn.Module | None:
    """The module of an engine: (N, F) to (N, K) and (N, P), float32; None where edges count."""
    if isinstance(engine, DecoupledEngine):
        if any(term.support == "edges" for term in engine.context.structure.terms):
            return None
        return Decoupled(engine).eval()
    assert isinstance(engine, TrainedEngine)
    linear = engine.context.network
    network = dense(engine.context) if linear is None else linear.single()
    return None if network is None else Trained(network, engine.target).eval()


class Trained(nn.Module):
    """A network for new rows, and what its outputs mean."""

    def __init__(self, network: FrozenNetwork, target: Target) -> None:
        super().__init__()
        self.network, self.target = network, target

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Answers and last states."""
        states = self.network.encode(x)
        answers = self.target.read(self.network.readout(states).unsqueeze(0))
        return answers.float(), states.float()


class Decoupled(nn.Module):
    """States diffuse, the readout guesses, labels diffuse: a product with constants each time.

    A new row takes its next state from fitted rows alone, so of all diffusion steps the last one
    remains; the states and labels that the fitted rows had before it are constants.
    """

    known_states: Tensor  # (L, P)

    @torch.no_grad()
    def __init__(self, engine: DecoupledEngine) -> None:
        super().__init__()
        model, context, self.target = engine.model, engine.context, engine.target
        structure, last = context.structure, model.encoder.layers[-1]
        assert isinstance(last, DIFFormerConv)
        self.features = _Features(engine.features)
        self.shares = [float(share) for share in last.mix_shares(structure)]
        self.source = last.source
        sides = context.sides("input")
        self.near = nn.ModuleList(map(DenseWeights, sides))
        self.norms = [side.rule.norm for side in sides]
        self.register_buffer("known_states", context.fitted.states[-1].double())
        self.members = copy.deepcopy(model.members).double()
        self.labels = _Labels(engine.labels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Answers and diffused features."""
        rows = self.features(x)
        weights = [near(rows) for near in self.near]
        heard = self._mean(weights, self.norms) @ self.known_states
        states = scaled_rows((1 - self.source) * heard + self.source * rows)
        guess = self.target.read(torch.stack([member(states) for member in self.members]))
        towards = self._mean(weights, ["row"] * len(weights))
        return self.labels(towards, guess).float(), states.float()

    def _mean(self, weights: list[Tensor], norms: list[str]) -> Tensor:
        """The terms' operators together, (N, L)."""
        total = torch.zeros_like(weights[0])
        for near, w, norm, share in zip(self.near, weights, norms, self.shares, strict=True):
            assert isinstance(near, DenseWeights)
            total = total + share * near.normalised(w, norm)
        return total


class _Labels(nn.Module):
    """Labels that reach new rows: of each round of the fitted rows, its last step."""

    def __init__(self, labels: LabelDiffusion) -> None:
        super().__init__()
        self.source, self.typical = labels.rule.source, labels.typical
        self.steps, self.probabilities = labels.rule.steps, labels.start.probabilities
        self.rounds = len(labels.remembered)
        for number, this in enumerate(labels.remembered):
            for step, before in enumerate(this):  # none without steps
                self.register_buffer(f"before_{number}_{step}", before.double())
            self.register_buffer(f"answers_{number}", this.answers.double())

    def forward(self, towards: Tensor, guess: Tensor) -> Tensor:
        """Answers (N, K) from P towards the fitted rows (N, L) and what the readout says (N, K)."""
        if not self.steps:
            return guess
        gamma = Start(guess, probabilities=self.probabilities).gamma(self.source, self.typical)
        begin, said = with_mass(guess), guess
        for number in range(self.rounds):
            weights = self._following(towards, said, number - 1) if number else towards
            heard = weights @ self.get_buffer(f"before_{number}_0")
            said = without_mass((1 - gamma) * heard + gamma * begin)
        return said

    def _following(self, towards: Tensor, said: Tensor, number: int) -> Tensor:
        """Rates that fall with the distance of answers, those of a round, (N, L)."""
        answers = self.get_buffer(f"answers_{number}")
        squared = said.square().sum(1, keepdim=True) + answers.square().sum(1)
        rates = towards * torch.exp((2 * said @ answers.t() - squared) / WIDTH)
        total = rates.sum(1, keepdim=True)
        return rates / torch.where(total > 0, total, 1.0)


class _Features(nn.Module):
    """A fitted feature map, (N, F) to (N, P), float64 with the digits of float32."""

    mean: Tensor
    directions: Tensor

    def __init__(self, features: FeatureMap) -> None:
        super().__init__()
        self.constant, self.reduced = features.constant, features.projection is not None
        if features.projection is not None:
            self.register_buffer("mean", torch.from_numpy(features.projection.mean))
            self.register_buffer("directions", torch.from_numpy(features.projection.directions))

    def forward(self, x: Tensor) -> Tensor:
        x = x.double()
        if self.reduced:
            x = normalize(x, dim=1) @ self.directions - self.mean @ self.directions
        if self.constant is not None:
            x = torch.cat([x, torch.full_like(x[:, :1], self.constant)], 1)
        return (ROW_NORM * normalize(x, dim=1)).float().double()
