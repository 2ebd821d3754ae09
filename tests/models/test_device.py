"""oneDNN computes what PyTorch computes, gradients included."""

import pytest
import torch

from rmtransfer.models import device

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(8, 16, bias=False), torch.nn.Tanh(), torch.nn.Sequential(torch.nn.Linear(16, 4, bias=False))
    )


def test_training_products_and_gradients():
    stock, ours = network(), network()
    device.train_with_onednn(ours, CPU)
    assert {type(m).__name__ for m in ours.modules()} >= {"_OneDnnLinear"}
    results = []
    for model in (stock, ours):
        x = torch.linspace(-1, 1, 2 * 3 * 8).reshape(2, 3, 8).requires_grad_()
        out = model(x)
        out.square().sum().backward()
        results.append([out, x.grad, *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    assert stock.state_dict().keys() == ours.state_dict().keys()


def test_frozen_layers_get_no_gradient():
    model = network()
    model[0].requires_grad_(False)
    device.train_with_onednn(model, CPU)
    model(torch.ones(2, 8)).sum().backward()
    assert model[0].weight.grad is None
    assert model[2][0].weight.grad is not None


def test_packed_for_inference_with_and_without_bias():
    model = torch.nn.Sequential(network(), torch.nn.Linear(4, 2))
    x = torch.randn(3, 8)
    with torch.inference_mode():
        expected = model(x)
        device.pack_for_cpu(model, CPU)
        torch.testing.assert_close(model(x), expected)
    assert not any(type(m) is torch.nn.Linear for m in model.modules())


def test_nothing_changes_on_a_gpu():
    model = network()
    device.pack_for_cpu(model, torch.device("cuda"))
    device.train_with_onednn(model, torch.device("cuda"))
    assert sum(type(m) is torch.nn.Linear for m in model.modules()) == 2


@pytest.mark.parametrize(
    "x", [torch.randn(5, 8), torch.randn(8, 5).t(), torch.randn(1, 8).expand(5, 8), torch.randn(5, 16)[:, ::2]]
)
def test_a_product_of_whatever_strides(x):
    for weight in (torch.randn(3, 8), torch.randn(8, 3).t(), torch.randn(3, 16)[:, ::2]):
        torch.testing.assert_close(device.product(x, weight), x @ weight.t())


def test_a_layer_without_outputs_stays_as_it_is():
    model = torch.nn.Sequential(torch.nn.Linear(8, 0), torch.nn.Linear(0, 4))
    device.pack_for_cpu(model, CPU)
    assert model(torch.randn(3, 8)).shape == (3, 4)
