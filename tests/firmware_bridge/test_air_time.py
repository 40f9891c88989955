"""Modelled air and card time, against figures worked by hand from the standard's formulas."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.air_time import (
    CJ2A081,
    FRAME_SIZES,
    J3H145,
    J3R180,
    P71D321,
    PROFILES,
    SMARTCAFE_7,
    BadModel,
    Gap,
    Operation,
    OperationKind,
    activation_ms,
    block_count,
    card_ms,
    card_profile,
    exchange_air_ms,
    frame_waiting_ms,
    hash_blocks,
)

WORKED = [(20, 60), (60, 110), (40, 10), (5, 220)]
RATES = (106, 212, 424, 848)


@pytest.mark.parametrize(
    ("fsc", "rate_kbps", "total_ms"),
    [
        (256, 106, 47.5),
        (256, 212, 24.2),
        (256, 424, 12.5),
        (256, 848, 6.7),
        (64, 106, 50.4),
        (64, 212, 26.2),
        (64, 424, 13.9),
        (64, 848, 7.8),
    ],
)
def test_the_worked_examples(fsc: int, rate_kbps: int, total_ms: float) -> None:
    # The second row has 64 both ways: a reader that takes as little as the card.
    modelled = sum(exchange_air_ms(sent, answered, rate_kbps, fsc, fsc) for sent, answered in WORKED)
    assert round(modelled, 1) == total_ms


def test_one_exchange_by_hand() -> None:
    # Ten bytes there, two back, at 106 kbit/s: (9·13 + 3)·128 + 1172 + (9·5 + 2)·128 + 1172 carrier periods.
    assert exchange_air_ms(10, 2) == pytest.approx((120 * 128 + 1172 + 47 * 128 + 1172) / 13_560)
    assert exchange_air_ms(10, 2, gap=Gap.EMV) - exchange_air_ms(10, 2) == pytest.approx(
        (6780 - 1172) / 13_560
    )


def test_each_further_block_costs_an_acknowledgement() -> None:
    # FSC 16 leaves 13 bytes a block; the R(ACK) has no INF.
    one_block, acknowledged = exchange_air_ms(13, 2, fsc=16), exchange_air_ms(26, 2, fsc=16)
    assert acknowledged - one_block == pytest.approx(
        ((9 * 16 + 3) * 128 + 1172 + (9 * 3 + 2) * 128 + 1172) / 13_560
    )
    assert exchange_air_ms(2, 26, fsd=16) - exchange_air_ms(2, 13, fsd=16) == pytest.approx(
        ((9 * 16 + 2) * 128 + 1172 + (9 * 3 + 3) * 128 + 1172) / 13_560
    )


@pytest.mark.parametrize(
    ("length", "frame", "blocks"),
    [(0, 256, 1), (253, 256, 1), (254, 256, 2), (13, 16, 1), (14, 16, 2), (261, 64, 5)],
)
def test_blocks_are_counted(length: int, frame: int, blocks: int) -> None:
    assert block_count(length, frame) == blocks


@given(
    st.integers(0, 600),
    st.integers(2, 600),
    st.sampled_from(FRAME_SIZES),
    st.sampled_from(FRAME_SIZES),
)
def test_faster_and_larger_is_never_slower(sent: int, answered: int, fsd: int, fsc: int) -> None:
    times = [exchange_air_ms(sent, answered, rate, fsd, fsc) for rate in RATES]
    assert times == sorted(times, reverse=True)
    assert exchange_air_ms(sent, answered, 106, 256, 256) <= times[0]
    assert exchange_air_ms(sent + 1, answered, 106, fsd, fsc) > times[0]


def test_activation() -> None:
    assert activation_ms() == 6.5
    assert activation_ms(424) == pytest.approx(7.4)


@pytest.mark.parametrize(("fwi", "ms"), [(4, 4.83), (8, 77.3)])
def test_frame_waiting_time(fwi: int, ms: float) -> None:
    assert frame_waiting_ms(fwi) == pytest.approx(ms, abs=0.05)


@pytest.mark.parametrize(
    ("kind", "size", "ms"),
    [
        (OperationKind.SIGN, 32, 28.1),
        (OperationKind.SIGN_INIT, 0, 8.1),
        (OperationKind.VERIFY, 256, 30.2),
        (OperationKind.ECDH, 0, 20.0),
        (OperationKind.AES, 0, 1.93),
        (OperationKind.AES_MAC, 0, 2.14),
        (OperationKind.AES_KEY_CHANGE, 0, 3.2),
        (OperationKind.SHA256, 256, 7.9),
        (OperationKind.NVM_WRITE, 16, 1.4),
        (OperationKind.NVM_WRITE, 256, 5.6),
        (OperationKind.NVM_WRITE, 1, 1.4),
        (OperationKind.NVM_WRITE, 136, 3.5),
        (OperationKind.SIGN, 96, 28.1 + 7.9 / 5),
        (OperationKind.VERIFY, 96, 30.2),
    ],
)
def test_a_j3r180(kind: OperationKind, size: int, ms: float) -> None:
    assert J3R180.operation_ms(Operation(kind, size)) == pytest.approx(ms)


def test_every_kind_of_operation_has_a_figure_on_every_card() -> None:
    for profile in PROFILES.values():
        for kind in OperationKind:
            assert profile.operation_ms(Operation(kind, 64)) > 0


@pytest.mark.parametrize(
    ("profile", "figures"),
    [
        (P71D321, (33.1, 31.3, 21.6, 1.93, 2.30)),
        (J3H145, (56.3, 50.3, 55.1, 8.98, 10.3)),
        (SMARTCAFE_7, (52.3, 67.9, 63.7, 6.51, 7.08)),
        (CJ2A081, (76.7, 118, 103, 61.6, 10.9)),
    ],
)
def test_the_published_figures(profile: object, figures: tuple[float, ...]) -> None:
    kinds = (
        OperationKind.SIGN,
        OperationKind.VERIFY,
        OperationKind.ECDH,
        OperationKind.AES,
        OperationKind.AES_MAC,
    )
    assert tuple(profile.operation_ms(Operation(kind, 256)) for kind in kinds) == figures  # type: ignore[attr-defined]


def test_assumed_figures_are_named() -> None:
    assert J3R180.assumed == frozenset()
    assert "sign_init_ms" not in J3H145.assumed
    assert {"sign_init_ms", "nvm_write_16_ms"} <= CJ2A081.assumed
    assert all(hasattr(profile, name) for profile in PROFILES.values() for name in profile.assumed)


def test_a_tap_is_the_sum_of_its_operations() -> None:
    sign, write = Operation(OperationKind.SIGN, 96), Operation(OperationKind.NVM_WRITE, 160)
    one_by_one = card_ms(J3R180, [sign, write, write])
    assert one_by_one == pytest.approx(J3R180.operation_ms(sign) + 2 * J3R180.operation_ms(write))
    assert card_ms(J3R180, Counter({sign: 1, write: 2})) == pytest.approx(one_by_one)
    assert card_ms(J3R180, []) == 0


@pytest.mark.parametrize(
    ("size", "blocks"), [(0, 1), (55, 1), (56, 2), (64, 2), (96, 2), (119, 2), (120, 3), (256, 5)]
)
def test_hash_blocks(size: int, blocks: int) -> None:
    assert hash_blocks(size) == blocks


def test_what_the_model_does_not_know() -> None:
    with pytest.raises(BadModel, match="106, 212, 424, 848"):
        exchange_air_ms(1, 2, 1695)
    with pytest.raises(BadModel):
        exchange_air_ms(1, 2, fsc=100)
    with pytest.raises(BadModel):
        exchange_air_ms(-1, 2)
    with pytest.raises(BadModel):
        frame_waiting_ms(15)
    with pytest.raises(BadModel):
        J3R180.operation_ms(Operation(OperationKind.SIGN, -1))
    with pytest.raises(BadModel, match="J3R180"):
        card_profile("J9")
    assert card_profile("J3R180") is J3R180
