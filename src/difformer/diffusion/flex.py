r"""The exact path on a GPU: the diffusion of any positive rate is a softmax.

.. math:: \mathrm{softmax}_j(\log f(x_{ij})) = f(x_{ij}) / \sum_l f(x_{il}), \quad
    x_{ij} = 2 - 2 \cos_{ij}

So FlexAttention, with :math:`\log f(2 - 2 s)` as the modification of scores s, is the diffusion on
unit vectors, fused into one kernel that never stores N x L numbers: DIFFormer-a is attention with
a log-sigmoid. The log-sum-exp that it returns beside the quotient is the log of the denominator.

For bfloat16 and float16: the kernel multiplies halves and adds in float32. In float32 it would do
without the tensor cores; tiles (``difformer.diffusion.pairwise``) are faster then.

Letters: N queries, L keys, H heads, M width of queries and keys, D width of values.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention
from torch.nn.functional import pad

from difformer.diffusion.penalty import Penalty
from difformer.diffusion.segments import Segments

BLOCK = 128  # rows and columns of FlexAttention's sparse blocks
NARROWEST = 16  # its kernels multiply no narrower rows
# torch's error beyond its limit of compiled kernels, where it would else run unfused, with N x L
# numbers. By name, for the module that holds it takes seconds to load.
TOO_OFTEN = "FailOnRecompileLimitHit"

Score = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def fits(
    penalty: Penalty, sphere: bool, dtype: torch.dtype, q: Tensor, k: Tensor, v: Tensor
) -> bool:
    """Whether :func:`accumulate` takes this: on CUDA, on the sphere, in half precision."""
    return (
        q.is_cuda
        and sphere
        and penalty.log_rate is not None
        and dtype in (torch.bfloat16, torch.float16)
        and min(q.numel(), k.numel(), v.numel()) > 0
        and find_spec("triton") is not None
    )


def accumulate(
    q: Tensor,  # (N, H, M), unit vectors
    k: Tensor,  # (L, H, M)
    v: Tensor,  # (L, H, D)
    penalty: Penalty,
    segments: Segments,
) -> tuple[Tensor, Tensor] | None:
    """Numerator (N, H, D) and denominator (N, H), as ``pairwise.accumulate`` gives them.

    None where too many kernels were compiled already. Where the penalty is shiftable, the
    denominator is 1, for its logarithm may be out of range. The first call of a kind compiles for
    seconds. Cost O(N L (M + D)) time, O(N + L) memory; of a batch of graphs, only blocks of
    128 x 128 that hold pairs of the same graph are visited.
    """
    width = v.shape[-1]
    q, k, v = (_wide_enough(x).transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    score, mask = (
        _score(penalty, torch.promote_types(q.dtype, torch.float32), q.device),
        _mask(segments, q.device),
    )
    try:
        quotient, log_total = attention(q, k, v, score, mask)
    except Exception as error:
        if type(error).__name__ == TOO_OFTEN:
            return None
        raise
    quotient, log_total = quotient[0, ..., :width].transpose(0, 1), log_total[0].transpose(0, 1)
    quotient = quotient.to(log_total.dtype)
    if penalty.shiftable:
        return quotient, (log_total.detach() > -torch.inf).to(quotient.dtype)
    total = log_total.exp()
    return quotient * total.unsqueeze(-1), total


def _wide_enough(x: Tensor) -> Tensor:
    """Zeros beside narrow rows: they change no inner product."""
    return pad(x, (0, max(0, NARROWEST - x.shape[-1])))


@cache  # the same function for the same penalty, or each call would be compiled anew
def _score(penalty: Penalty, dtype: torch.dtype, device: torch.device) -> Score:
    log_rate = penalty.log_rate
    assert log_rate is not None
    # A tensor: a second float would make it a symbol, of which kernels cannot be made.
    scale = torch.tensor(penalty.scale or 1.0, dtype=dtype, device=device)

    def score(cosine: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return log_rate(2 - 2 * cosine, scale)

    return score


def _mask(segments: Segments, device: torch.device) -> BlockMask | None:
    """Pairs of the same graph, as FlexAttention wants them; None where there is one graph.

    Rows are sorted by graph, so a block of queries sees a run of blocks of keys: no N x L mask is
    needed to find them.
    """
    if segments.single:
        return None
    query_graph, key_graph = segments.query_graph(device), segments.key_graph(device)
    starts = torch.arange(0, len(query_graph), BLOCK, device=device)
    last = (starts + BLOCK).clamp_max(len(query_graph)) - 1
    ends = segments.key_counts(device).cumsum(0)
    first_key = (ends - segments.key_counts(device))[query_graph[starts]]
    end_key = ends[query_graph[last]]
    first = first_key // BLOCK
    count = (torch.where(end_key > first_key, -(-end_key // BLOCK) - first, 0)).int()
    blocks = -(-len(key_graph) // BLOCK)
    index = (first.unsqueeze(1) + torch.arange(blocks, device=device)) % blocks

    def same_graph(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query_graph[query] == key_graph[key]

    return BlockMask.from_kv_blocks(
        count[None, None],
        index.int()[None, None].contiguous(),
        BLOCK_SIZE=BLOCK,
        mask_mod=same_graph,
        seq_lengths=(len(query_graph), len(key_graph)),
    )


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, fullgraph=True)


def attention(
    q: Tensor,  # (1, H, N, M)
    k: Tensor,  # (1, H, L, M)
    v: Tensor,  # (1, H, L, D)
    score: Score,
    mask: BlockMask | None,
) -> tuple[Tensor, Tensor]:
    """Quotient (1, H, N, D) and the log of the denominator (1, H, N), by the compiled kernel."""
    out, more = _compiled()(
        q, k, v, score_mod=score, block_mask=mask, scale=1.0, return_aux=AuxRequest(lse=True)
    )
    return out, more.lse
