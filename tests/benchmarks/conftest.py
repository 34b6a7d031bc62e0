"""What benchmarks share."""

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """As in a run with a play per core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
