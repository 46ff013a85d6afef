"""Memory that serves again: never twice at once, never after a release, never across a fork."""

import copy
import gc
import os
import pickle
import threading

import pytest
import torch

from difformer.diffusion.workspace import KEPT, LEAST, Workspace

SHAPE = (512, 1024)  # 2 MB in float32


def test_memory_serves_again_once_all_that_shares_it_is_gone():
    workspace = Workspace()
    first = workspace.empty(SHAPE, torch.float32)
    place, part = first.data_ptr(), first[3:5]
    assert workspace.empty(SHAPE, torch.float32).data_ptr() != place
    del first
    assert workspace.empty(SHAPE, torch.float32).data_ptr() != place
    del part
    # Both that were lent are free again; the next two tensors, a little smaller, take them.
    some = [workspace.empty((1024, 500), torch.float32) for _ in range(2)]
    assert place in [x.data_ptr() for x in some]
    assert some[0].shape == (1024, 500)
    assert workspace.held == 2 * 4 * SHAPE[0] * SHAPE[1]


def test_what_is_much_larger_does_not_serve():
    workspace = Workspace()
    place = workspace.empty((1024, 1024), torch.float32).data_ptr()
    assert workspace.empty(SHAPE, torch.float32).data_ptr() != place


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_an_ordinary_tensor(dtype):
    x = Workspace().empty(SHAPE, dtype).fill_(3).requires_grad_()
    (x * 2).sum().backward()
    assert torch.equal(x.grad, torch.full(SHAPE, 2, dtype=dtype))
    again = pickle.loads(pickle.dumps(x.detach()))
    assert torch.equal(again, x)
    assert torch.equal(copy.deepcopy(x), x)
    assert x.is_contiguous()


def test_small_tensors_are_torchs_own():
    workspace = Workspace()
    x = workspace.empty((LEAST // 4 - 1,), torch.float32)
    assert (workspace.held, x.shape) == (0, (LEAST // 4 - 1,))
    assert workspace.empty((0, 3), torch.float32).shape == (0, 3)


def test_what_no_pass_asks_for_is_dropped():
    workspace = Workspace()
    workspace.empty(SHAPE, torch.float32)  # and gone
    for _ in range(KEPT - 1):
        workspace.next_pass()
        assert workspace.held > 0
    workspace.next_pass()
    assert workspace.held == 0


def test_a_release_keeps_nothing():
    workspace = Workspace()
    used, waiting = (workspace.empty(SHAPE, torch.float32).fill_(1) for _ in range(2))
    del waiting
    workspace.release()
    assert workspace.held == 0
    assert bool((used == 1).all())  # what is in use stays as it is
    del used
    others = [workspace.empty(SHAPE, torch.float32) for _ in range(2)]
    assert workspace.held == sum(x.nbytes for x in others)  # both are fresh: nothing came back


def test_a_copy_starts_empty():
    workspace = Workspace()
    used = workspace.empty(SHAPE, torch.float32)
    for other in (copy.deepcopy(workspace), pickle.loads(pickle.dumps(workspace))):
        assert other.held == 0
    assert used.nbytes == workspace.held


def test_no_memory_is_lent_twice_to_threads_that_ask_at_once():
    workspace, wrong = Workspace(), []

    def work(mark):
        for _ in range(60):
            x = workspace.empty(SHAPE, torch.float32).fill_(mark)
            y = workspace.empty(SHAPE, torch.float32).fill_(-mark)
            if not (bool((x == mark).all()) and bool((y == -mark).all())):
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(float(mark),)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    gc.collect()
    assert workspace.held <= 12 * 4 * SHAPE[0] * SHAPE[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_writes_into_memory_of_its_own():
    x = Workspace().empty(SHAPE, torch.float32).zero_()
    child = os.fork()
    if child == 0:
        x.view(-1)[0] = 5.0
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert float(x.view(-1)[0]) == 0
