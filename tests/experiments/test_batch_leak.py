"""The measurement of leaks between graphs of a batch."""

import pytest
import torch

from difformer.experiments import batch_leak
from difformer.experiments.record import read_record


def test_no_model_of_ours_leaks_and_the_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_leak, "BATCHES", 3)
    state = torch.random.get_rng_state()
    assert batch_leak.main(["--records", str(tmp_path)]) == 0
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_default_dtype() == torch.float32
    figures = {f.label: f.value for f in read_record(tmp_path / "batch-leak.json").figures}
    assert list(figures) == list(batch_leak.MODELS)
    for label, value in figures.items():
        assert (value < 1e-12) == ("GraphDIFFormer" in label), label


@pytest.mark.parametrize("size", [0.0, 1e-3])
def test_a_leak_is_measured(size):
    def model(x, edges, batch):
        sums = torch.zeros(int(batch.max()) + 1, x.shape[1], dtype=x.dtype).index_add(0, batch, x)
        return sums + size * x.sum(0)

    found = batch_leak.leak(model, batch_leak.random_batch(0))
    assert (found > 1e-5) == (size > 0)
