import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """So small a network gains nothing from threads, and on a busy machine they wait long for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
