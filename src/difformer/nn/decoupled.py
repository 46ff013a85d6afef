r"""Decoupled diffusion: states diffuse first, a small readout learns from them, labels diffuse.

Nothing is back-propagated through the diffusion and no map is learnt inside it, so the theorem
holds for what it does. Three stages on fixed operators S (symmetric) and P (row) normalised:

    states   Z <- (1 - beta) S Z + beta X       lowers |Z - X|^2 + (1 - beta)/beta tr Z'(I - S)Z
    readout  an ensemble: one linear map, and MLPs softmax(V LN(relu(W z))), labelled rows only
    labels   Q <- (1 - gamma) P Q + gamma Q_0   Q_0: the labels where known, else the readout's
                                                (``difformer.nn.label_diffusion``)

This is what works with few labels (docs/decisions.md): the fixed operators come from neighbours in
input space and in centred principal components, and from the observed graph where there is one.

Letters: N instances, F features, M members of the ensemble, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from difformer.diffusion import Diffusivity, Neighbourhood, SparseWeights
from difformer.diffusion.penalty import resolve_all
from difformer.errors import ConfigError, whole_number
from difformer.nn.conv import DIFFormerConv, is_number
from difformer.nn.encoder import DIFFormer
from difformer.nn.label_diffusion import LabelDiffusion, LabelRule, Start, mean_operator
from difformer.nn.structure import Structure, arrange, restore

ROW_NORM = 4.0  # length of every row of features and of what the readout sees

IN_INPUT_SPACE = Neighbourhood(weights="self-tuned", self_loops=False, norm="sym")
IN_COMPONENTS = Neighbourhood(weights="self-tuned", self_loops=False, norm="sym", components=50)


class DecoupledDIFFormer(nn.Module):
    """Diffusion of states, an ensemble readout, diffusion of class probabilities.

    Args:
        in_channels: Features F.
        out_channels: Classes C.
        diffusivity: The fixed terms; each must be a neighbourhood in input space or ``graph``.
        mix_weights: As for :class:`DIFFormer`, the observed graph last. None: three quarters on the
            observed graph where there is one, the rest shared.
        steps: Diffusion steps of the states, at least 1.
        source: beta, the pull of the states towards the features.
        readout_channels: Width of the MLPs.
        members: Number of MLPs beside the linear map.
        label_steps: Diffusion steps of the class probabilities; 0 leaves them out.
        label_source: gamma.
        label_rounds: Rounds of label steps with rates that fall with the distance of two rows'
            answers, after the first one (``difformer.nn.label_diffusion``); for classes alone.

    Raises:
        ConfigError: If a value is out of range, or a term is not fixed.

    Example:
        >>> model = DecoupledDIFFormer(4, 2, steps=3)
        >>> states = model.states(torch.randn(30, 4))
        >>> model(states).shape
        torch.Size([4, 30, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        diffusivity: Sequence[Neighbourhood | str] = (IN_INPUT_SPACE, IN_COMPONENTS),
        mix_weights: Sequence[float] | None = None,
        steps: int = 40,
        source: float = 0.02,
        readout_channels: int = 64,
        members: int = 3,
        label_steps: int = 20,
        label_source: float = 0.1,
        label_rounds: int = 2,
    ) -> None:
        super().__init__()
        terms = resolve_all(diffusivity)
        for term in terms:
            if not term.fixed:
                raise ConfigError(
                    "decoupled diffusion needs fixed rates on few pairs ('local' or 'graph'), "
                    f"found diffusivity {term.name!r}."
                )
        for name, count, least in (
            ("steps", steps, 1),
            ("members", members, 0),
            ("label_steps", label_steps, 0),
            ("label_rounds", label_rounds, 0),
            ("readout_channels", readout_channels, 1),
        ):
            whole_number(count, least, name)
        if not (is_number(label_source) and 0 <= label_source <= 1):
            raise ConfigError(f"label_source must lie in [0, 1], found {label_source!r}.")
        if mix_weights is None:
            mix_weights = default_mix(terms)
        self.encoder = _fixed_encoder(in_channels, terms, steps, source, mix_weights)
        self.label_steps, self.label_source = label_steps, label_source
        self.label_rounds = label_rounds
        self.members = nn.ModuleList([nn.Linear(in_channels, out_channels)])
        for _ in range(members):
            self.members.append(
                nn.Sequential(
                    nn.Linear(in_channels, readout_channels),
                    nn.ReLU(),
                    nn.LayerNorm(readout_channels),
                    nn.Linear(readout_channels, out_channels),
                )
            )

    @torch.no_grad()
    def states(
        self, x: Tensor, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Diffused features, every row of norm 4, (N, F). Nothing is learnt here."""
        return scaled_rows(self.encoder.encode(x, edge_index, edge_weight))

    @torch.no_grad()
    def states_by_source(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        *,
        sources: Sequence[float],
    ) -> list[Tensor]:
        r"""What :meth:`states` gives for each beta of ``sources``, at the cost of one, (N, F) each.

        After T steps :math:`Z = \sum_{t<T} \beta (1-\beta)^t S^t X + (1-\beta)^T S^T X`, so
        all need the same products. Memory: a tensor of N x F for each.
        """
        encoder, steps = self.encoder, len(self.encoder.layers)
        structure = encoder.operators(x, edge_index, edge_weight)
        power = arrange(x, structure)
        totals = [torch.zeros_like(power) for _ in sources]
        for step in range(steps + 1):
            for total, beta in zip(totals, sources, strict=True):
                last = step == steps
                total.add_(power, alpha=(1 - beta) ** step * (1.0 if last else beta))
            if step < steps:
                power = self._spread(power, structure)
        return [scaled_rows(restore(total, structure)) for total in totals]

    def _spread(self, z: Tensor, structure: Structure) -> Tensor:
        """S z, the mean over the terms, (N, F)."""
        return self._layer.influence(z, structure)

    @property
    def _layer(self) -> DIFFormerConv:
        """The first of the layers, which are alike."""
        layer = self.encoder.layers[0]
        assert isinstance(layer, DIFFormerConv)
        return layer

    def diffuse_by(
        self,
        *,
        source: float | None = None,
        mix_weights: Sequence[float] | None = None,
        label_steps: int | None = None,
    ) -> None:
        """Change how instances diffuse. The readout's weights stay, and so do found neighbours.

        Args:
            source, mix_weights, label_steps: As in the constructor; None: as it is.
        """
        if label_steps is not None:
            self.label_steps = whole_number(label_steps, 0, "label_steps")
        if source is None and mix_weights is None:
            return
        old = self.encoder
        self.encoder = _fixed_encoder(
            old.config["in_channels"],
            old.config["diffusivity"],
            old.config["num_layers"],
            old.config["source"] if source is None else source,
            old.config["mix_weights"] if mix_weights is None else mix_weights,
        )
        self.encoder.keep_structure_of(old)

    def forward(self, states: Tensor) -> Tensor:
        """Logits of every member, (M, N, C)."""
        return torch.stack([member(states) for member in self.members])

    def label_operator(self, structure: Structure) -> SparseWeights:
        """P: how instances listen to each other when labels diffuse, (N, N)."""
        return mean_operator(
            structure, [float(share) for share in self._layer.mix_shares(structure)]
        )

    def label_diffusion(self, operator: SparseWeights, start: Start) -> LabelDiffusion:
        """Labels or guesses (Q_0) that diffuse by P, as :meth:`label_operator` makes it."""
        return LabelDiffusion(operator, start, self.label_rule)

    @property
    def label_rule(self) -> LabelRule:
        """Steps and rounds of the diffusion of labels."""
        return LabelRule(self.label_steps, self.label_source, self.label_rounds)


def _fixed_encoder(
    channels: int,
    terms: Sequence[Diffusivity],
    steps: int,
    source: float,
    mix_weights: Sequence[float],
) -> DIFFormer:
    """Steps of fixed diffusion: nothing in it is learnt."""
    return DIFFormer(
        channels,
        channels,
        channels,
        num_layers=steps,
        diffusivity=terms,
        step_size=1.0,
        graph_norm="sym",
        mix_weights=mix_weights,
        source=source,
        maps=False,
        norm=None,
        dropout=0.0,
        input_map=False,
        output_map=False,
    )


def default_mix(terms: Sequence[Diffusivity], graph: float = 3.0) -> tuple[float, ...]:
    """Weights 1 for neighbours and, for the graph, three times as much as for all of them.

    ``graph`` is another number than three.

    Example:
        >>> from difformer.diffusion import resolve
        >>> default_mix((resolve("local"), resolve("local")))
        (1.0, 1.0, 6.0)
    """
    on_graph = graph * max(1, sum(term.neighbours is not None for term in terms))
    weights = tuple(on_graph if term.neighbours is None else 1.0 for term in terms)
    return weights if on_graph in weights else (*weights, on_graph)


def scaled_rows(z: Tensor) -> Tensor:
    """Rows of norm 4; zero rows stay zero."""
    return ROW_NORM * normalize(z, dim=1)
