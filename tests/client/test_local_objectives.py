"""Local steps on logits and their teachers: the obvious loop, and what a teacher says."""

from __future__ import annotations

import pytest
import torch
from flwr.app import Message
from support.federations import furthest, same_bits, small_spec

from fedlaf.client.context import ClientContext
from fedlaf.client.steps.local_objectives import Side, steps
from fedlaf.client.steps.teachers import across, random_model
from fedlaf.data import LabelledRows, Rows
from fedlaf.models import SmallCnn
from fedlaf.models.arrays import weights_of
from fedlaf.objectives.logit_objectives import DistilBoth
from fedlaf.protocol.messages import Instruction, encode_instruction
from fedlaf.simulation import flower_compat
from fedlaf.simulation.grid import new_context


def rows(count: int) -> LabelledRows:
    draw = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (count, 1, 8, 8), generator=draw, dtype=torch.uint8)
    return LabelledRows(x, torch.randint(0, 10, (count,), generator=draw))


def test_the_loop_of_local_steps_is_the_obvious_one() -> None:
    retain, forget = rows(40).unlabelled(), Rows(rows(60).x[40:])
    teachers = [
        torch.randn(len(side), 10, generator=torch.Generator().manual_seed(5)) for side in (retain, forget)
    ]
    model, plain = (SmallCnn().build((1, 8, 8), 10, 1) for _ in range(2))
    settings = DistilBoth(optimizer="sgd", lr=0.5, momentum=0.9, batch_size=64, steps=3, clip=0.1)
    kinds = (Side(retain, teachers[0]), Side(forget, teachers[1]))
    _, cost = steps(model, kinds, settings, torch.Generator().manual_seed(7))
    assert cost.gradient_passes == 3 * 60  # batches hold all rows, in some order
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.5, momentum=0.9)
    both, targets = torch.cat([retain.x, forget.x]).float() / 255, torch.cat(teachers).softmax(1)
    for _ in range(3):
        loss = torch.nn.functional.kl_div(plain(both).logits.log_softmax(1), targets, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        optimiser.step()
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_nearest_wrong_class_of_a_linear_model_is_found_across_the_boundary() -> None:
    """Two pixels and three classes, logits Wx: the step changes each pixel by epsilon towards the loss."""

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[3.0, 0.0], [0.0, 3.0], [1.0, 1.0]]))

        def forward(self, x: torch.Tensor) -> object:
            logits = x.flatten(1) @ self.weight.T
            return type("Out", (), {"logits": logits})

    x = torch.tensor([[[[204, 51]]]], dtype=torch.uint8)  # 0.8, 0.2: logits 2.4, 0.6, 1.0
    moved = across(Linear(), LabelledRows(x, torch.tensor([0])), 0.5)  # type: ignore[arg-type]
    least = torch.finfo(torch.float32).min
    assert moved[0].tolist() == pytest.approx([least, 3 * 0.7, 0.3 + 0.7])  # at 0.3, 0.7
    retain = across(Linear(), LabelledRows(x, torch.tensor([0])), 0.1)  # type: ignore[arg-type]
    assert (moved.argmax(1).item(), retain.argmax(1).item()) == (1, 2)


def context_of(client: int, stage: str) -> ClientContext:
    message = Message(encode_instruction(Instruction({}, {}, 0, stage, 1)), 1001 + client, "train.push")
    return ClientContext(small_spec(4), message, new_context(client, 4))


def test_the_random_teacher_is_one_for_all_clients_of_a_request() -> None:
    flower_compat.identify(1)  # no Message can be made before Flower knows for whom
    first, second, other = (
        weights_of(random_model(context_of(client, stage)))
        for client, stage in ((0, "request-1"), (1, "request-1"), (0, "request-2"))
    )
    assert same_bits(first, second)
    assert furthest(first, other) > 0.01
