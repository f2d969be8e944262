import pytest
import torch

from sightline.models import arithmetic as measuring
from sightline.models.arithmetic import DTYPES, WORKS, arithmetic, autocast_of, dtype_of, measured, one_thread_below

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is asked, not measured")


@on_cpu
@pytest.mark.parametrize(
    ("float32", "bfloat16", "line"),
    [
        (1.0, 0.5, "arithmetic: bfloat16 (2.0 times as fast as float32 on this processor)"),
        (1.0, 0.9, "arithmetic: float32 (bfloat16 is hardly faster or slower on this processor)"),
        (1.0, 1.1, "arithmetic: float32 (bfloat16 is hardly faster or slower on this processor)"),
        (0.01, 1.9, "arithmetic: float32 (bfloat16 is 190 times slower on this processor)"),
    ],
)
def test_bfloat16_is_taken_only_where_it_is_clearly_faster(float32: float, bfloat16: float, line: str):
    assert str(arithmetic(measure=lambda: {"float32": float32, "bfloat16": bfloat16})) == line


def test_weights_in_four_bits_are_computed_with_in_bfloat16():
    assert dtype_of("auto", quantised=True) == "bfloat16"


@pytest.mark.parametrize("asked", DTYPES)
def test_what_is_asked_for_is_taken_unmeasured(asked: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "measured", lambda: pytest.fail("was measured"))
    assert dtype_of(asked) == asked


def test_both_are_measured_once_for_a_process_and_no_random_state_moves():
    before = torch.get_rng_state()
    found = measured()
    assert set(found) == set(DTYPES)
    assert all(seconds > 0 for seconds in found.values())
    assert measured() is found
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_a_gpu_that_multiplies_in_bfloat16_computes_in_it():
    wanted = "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float32"
    assert arithmetic(measure=lambda: pytest.fail("was measured")).dtype == wanted


def test_only_bfloat16_is_cast_to():
    assert [autocast_of(dtype) for dtype in ("float32", "bfloat16")] == [None, torch.bfloat16]


@on_cpu
def test_where_threads_begin_to_help_is_measured_and_torch_gets_its_number_back():
    before = torch.get_num_threads()
    assert one_thread_below("float32", 2) in WORKS
    assert torch.get_num_threads() == before


def test_one_thread_is_never_too_few_where_there_is_one():
    assert one_thread_below("float32", 1) == 0
