import pytest
import torch

from biounet.networks.dropout import Dropout, drawn_by_sample


def network(p=0.25, layers=1):
    """Nothing but dropout, behind a weight of 1 that tells the device."""
    one = torch.nn.Conv2d(1, 1, 1, bias=False)
    torch.nn.init.ones_(one.weight)
    return torch.nn.Sequential(one, *(Dropout(p) for _ in range(layers)))


def drawn(net, x, seeds):
    with drawn_by_sample(net, seeds):
        return net(x)


@pytest.mark.parametrize("layers", [1, 2])
def test_what_a_sample_loses_depends_on_its_seed_alone(layers):
    net, x = network(layers=layers), torch.rand(3, 1, 40, 50)
    together = drawn(net, x, [5, 6, 7])
    for index, seed in enumerate([5, 6, 7]):
        assert torch.equal(drawn(net, x[index : index + 1], [seed])[0], together[index])
    assert not torch.equal(drawn(net, x, [5, 6, 8])[2], together[2])
    assert torch.equal(drawn(net, x.contiguous(memory_format=torch.channels_last), [5, 6, 7]), together)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_as_many_units_are_kept_as_are_to_be_and_scaled_and_every_layer_draws_others(seeds):
    once, twice = (drawn(network(0.25, layers), torch.ones(len(seeds), 1, 99, 101), seeds) for layers in (1, 2))
    assert once.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((once > 0).float().mean()) == pytest.approx(0.75, abs=0.02)
    assert float((twice > 0).float().mean()) == pytest.approx(0.75**2, abs=0.02)


def test_the_gradient_of_what_is_lost_is_zero_and_of_what_is_kept_scaled():
    x = torch.rand(1, 1, 30, 30, requires_grad=True)
    kept = drawn(network(0.5), x, [3])
    kept.sum().backward()
    assert torch.equal(x.grad, 2.0 * (kept > 0))


def test_nothing_is_lost_in_evaluation_and_torch_draws_outside():
    net, x = network(), torch.rand(2, 1, 9, 9)
    assert torch.equal(drawn(net.eval(), x, [0, 1]), x)
    drawn(net.train(), x, [0, 1])
    torch.manual_seed(0)
    found = net(x)
    torch.manual_seed(0)
    assert torch.equal(found, torch.nn.functional.dropout(x, 0.25))
