"""Shares of blocks among threads: in order, with errors, after a fork, and nothing else changed."""

import os
import threading
import time

import pytest
import torch

from difformer.diffusion.folded import Maps
from difformer.diffusion.parallel import in_threads, team, threads
from difformer.diffusion.rule import StepRule
from difformer.diffusion.step import step

CPU = torch.device("cpu")
CUTS = [slice(i, i + 1) for i in range(7)]


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_shares_are_whole_and_in_order():
    shares = in_threads(list, CUTS, CPU)
    assert len(shares) == 3
    assert [cut for share in shares for cut in share] == CUTS


@pytest.mark.usefixtures("three_threads")
def test_one_thread_an_operation_and_the_settings_stay():
    def look(share):
        return torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    assert in_threads(look, CUTS, CPU) == [(1, False, False)] * 3
    with torch.inference_mode():
        assert in_threads(look, CUTS, CPU) == [(1, False, True)] * 3
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert (torch.get_num_threads(), seen) == (3, [3])


@pytest.mark.usefixtures("three_threads")
def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda share: 1 / 0, CUTS, CPU)


@pytest.mark.usefixtures("three_threads")
def test_an_error_is_raised_once_all_shares_have_ended():
    ended = []

    def work(share):
        if share[0] == CUTS[0]:
            raise ZeroDivisionError
        time.sleep(0.2)
        ended.append(share)

    with pytest.raises(ZeroDivisionError):
        in_threads(work, CUTS, CPU)
    count = len(ended)
    time.sleep(0.5)
    assert len(ended) == count  # those that had begun were waited for, no other began


@pytest.mark.usefixtures("three_threads")
def test_a_team_makes_all_passes_and_knows_its_size():
    def passes():
        shares = in_threads(list, CUTS, CPU)
        return threads(), torch.get_num_threads(), len(shares), torch.is_grad_enabled()

    assert team(passes, 3, CPU) == (3, 1, 3, False)
    assert team(passes, 2, CPU) == (2, 1, 2, False)
    assert team(lambda: (threads(), torch.get_num_threads()), 1, CPU) == (3, 3)
    assert threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_more_leaders_than_threads_do_not_wait_for_each_other():
    found, together = [], threading.Barrier(12)

    def call():
        together.wait()
        found.append(team(lambda: in_threads(len, CUTS, CPU), 3, CPU))

    callers = [threading.Thread(target=call, daemon=True) for _ in range(12)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=30)
    assert found == [[2, 2, 3]] * 12


def run(seed=0):
    generator = torch.Generator().manual_seed(seed)
    z, query, key = (
        torch.randn(shape, generator=generator).requires_grad_()
        for shape in ((20_000, 4), (1, 4, 5), (1, 4, 5))
    )
    out = step(StepRule(0.5, dropout=0.2), z, Maps(query, key, None, torch.tensor(1.0)))
    return [out.detach(), *torch.autograd.grad(out.square().sum(), (z, query, key))]


@pytest.mark.usefixtures("three_threads")
def test_the_same_bits_every_time_and_the_same_numbers_as_with_one_thread():
    first, again = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    torch.set_num_threads(1)
    for a, b in zip(first, run(), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.usefixtures("three_threads")
def test_several_callers_at_once():
    expected, found = run(), {}
    callers = [
        threading.Thread(target=lambda index=index: found.update({index: run()}))
        for index in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for results in found.values():
        for a, b in zip(results, expected, strict=True):
            assert (a - b).abs().max() <= 1e-5 * b.abs().max()
    assert len(found) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.usefixtures("three_threads")
def test_a_forked_process_has_threads_of_its_own():
    in_threads(len, CUTS, CPU)
    child = os.fork()
    if child == 0:
        os._exit(0 if in_threads(len, CUTS, CPU) == [2, 2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
