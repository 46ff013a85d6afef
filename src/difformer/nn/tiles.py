"""Candidates for the nearest rows on an accelerator: tiles of distances, the best of each row.

On a processor a library proposes them (``difformer.data.candidates``); either way they are then
measured exactly, so the neighbours do not depend on the device.

Letters: N rows asked for, M rows searched, F features, c candidates.
"""

from typing import Any

import torch
from scipy import sparse
from torch import Tensor

from difformer.data.candidates import Candidates, Propose, in_float32, propose

NUMBERS = 1 << 26  # in one tile of distances: 256 MB


def proposer(device: torch.device) -> Propose:
    """Who proposes candidates for rows that live on a device."""
    return propose if device.type == "cpu" else by_tiles(device)


def by_tiles(device: torch.device, numbers: int = NUMBERS) -> Propose:
    """Candidates by products on ``device``; sparse rows are left to the processor."""

    def nearest(q: Any, k: Any, count: int) -> tuple[Any, Any]:
        # Where the user has allowed float32 products with fewer digits, they take float64.
        exact = torch.get_float32_matmul_precision() == "highest"
        dtype = torch.float32 if exact else torch.float64
        queries, keys = (torch.from_numpy(rows).to(device, dtype) for rows in (q, k))
        index, squared = nearest_in_tiles(queries, keys, count, numbers)
        return index.cpu().numpy(), squared.cpu().numpy()

    def candidates(queries: Any, keys: Any, count: int) -> Candidates:
        if sparse.issparse(keys):
            return propose(queries, keys, count)
        return in_float32(queries, keys, count, nearest)

    return candidates


def nearest_in_tiles(
    queries: Tensor,  # (N, F)
    keys: Tensor,  # (M, F)
    count: int,
    numbers: int = NUMBERS,
) -> tuple[Tensor, Tensor]:
    """Index (N, c) and squared distance (N, c) of the nearest keys, in any order, to rounding.

    Cost O(N M F) time; memory one tile of ``numbers`` distances.
    """
    own = keys.square().sum(1)
    index = queries.new_empty(len(queries), count, dtype=torch.long)
    squared = queries.new_empty(len(queries), count)
    step = max(1, numbers // max(len(keys), 1))
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        tile = torch.addmm(own, rows, keys.t(), alpha=-2).add_(rows.square().sum(1, keepdim=True))
        best = tile.topk(count, dim=1, largest=False, sorted=False)
        squared[start : start + step], index[start : start + step] = best
    return index, squared
