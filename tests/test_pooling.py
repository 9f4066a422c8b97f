"""A vector of the first token: the last layer works for it alone, and gives what the whole layer gives."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from classifier.network import Network, masked_mean, pool

CONFIG = BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32
)
SIZES = {"category": 5, "unit": 3}


def bert(seed: int = 0) -> BertModel:
    torch.manual_seed(seed)
    model = BertModel(CONFIG, add_pooling_layer=False)
    model.train(False)
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of 9, 4 and 1 tokens."""
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(9)[None, :] < torch.tensor([[9], [4], [1]])).long()
    return ids, mask


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_spared_layer_gives_what_the_whole_one_gives(attention: str) -> None:
    ids, mask = batch()
    whole = bert()
    whole.set_attn_implementation(attention)
    with torch.no_grad():
        expected = whole(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        network = Network(whole, 16, SIZES, 0.0, "first").eval()
        got = network.embed(ids, mask)
    assert torch.allclose(got, expected, atol=1e-6)
    assert network.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.shape == (3, 1, 16)


def test_weights_keep_their_names() -> None:
    first, mean = Network(bert(), 16, SIZES, 0.0, "first"), Network(bert(), 16, SIZES, 0.0)
    assert list(first.state_dict()) == list(mean.state_dict())


def test_the_spared_layer_learns() -> None:
    ids, mask = batch()
    network = Network(bert(), 16, SIZES, 0.0, "first")
    sum(each.sum() for each in network(ids, mask).values()).backward()
    last = network.encoder.encoder.layer[-1]  # type: ignore[union-attr,index]
    grads = [p.grad for p in last.parameters()]  # type: ignore[union-attr]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_pooling() -> None:
    states = torch.arange(12.0).reshape(1, 3, 4)
    mask = torch.tensor([[1, 1, 0]])
    assert torch.equal(pool(states, mask, "first"), states[:, 0])
    assert torch.equal(pool(states, mask, "mean"), masked_mean(states, mask))
    assert torch.equal(pool(states, mask, "mean"), states[:, :2].mean(1))
