"""What operators publish for terminals: denylists with their changes, card orders, authority lists; only good
and newer ones, and over HTTP as by hand.
"""

import struct
from pathlib import Path

import pytest

from hardwallet import authorities, certificates, denylist
from hardwallet.certificates import CLASS_ACQUIRING, CLASS_BESIDE, TrustBundle
from hardwallet.denylist import Delta, Denylist
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.clearing import Clearing
from offline_sync.clearing.notices import DELTAS_KEPT, ORDERS_PAGE, note_delivered
from offline_sync.clearing.service import Bounds, application
from offline_sync.errors import ClearingRefused, NoticeRefused
from offline_sync.surface import HandedOrder, LoadReceipt
from tests.offline_sync.asking import InProcess, acquirer_signer, client_of, issuer_signer, terminal_signer
from tests.offline_sync.factory import ACQUIRER, ISSUER, NOW, Scheme, Stream
from tests.offline_sync.test_clearing import Till, own

CARDS = [ISSUER + number.to_bytes(4, "big") for number in range(1, 201)]


class Issuer:
    """Makes the denylists of one scheme, version by version."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.held: Denylist | None = None

    def full(self, version: int, count: int, time_s: int = NOW) -> bytes:
        """The first `count` cards, as a whole list."""
        scheme = self.scheme
        raw = denylist.build_full(
            scheme.suite, scheme.scheme, ISSUER, version, time_s, CARDS[:count], scheme.issuer_key
        )
        made = denylist.parse(raw, scheme.trust)
        assert isinstance(made, Denylist)
        self.held = made
        return raw

    def change(self, version: int, add: int = 0, remove: int = 0) -> bytes:
        """A card more, or less, than in the list before."""
        assert self.held is not None
        scheme = self.scheme
        added, removed = CARDS[add - 1 : add] if add else [], CARDS[remove - 1 : remove] if remove else []
        raw = denylist.build_delta(
            self.held, version, NOW, added, removed, scheme.suite, scheme.scheme, scheme.issuer_key
        )
        change = denylist.parse(raw, scheme.trust)
        assert isinstance(change, Delta)
        self.held = denylist.apply(self.held, change)
        return raw


@pytest.fixture
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture
def issuer(scheme: Scheme) -> Issuer:
    return Issuer(scheme)


@pytest.fixture
def clearing(scheme: Scheme) -> Clearing:
    return Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)


@pytest.fixture
def service(clearing: Clearing) -> InProcess:
    return InProcess(application(clearing, Bounds(signed_rate=1e6, signed_burst=10**6)))


def fetched(clearing: Clearing, held: Denylist | None, trust: TrustBundle) -> tuple[Denylist | None, int]:
    """What a terminal has when it has fetched all, and how many files that took."""
    files = 0
    while (raw := clearing.notices.denylist(ISSUER, held.version if held else 0)) is not None:
        new = denylist.parse(raw, trust)
        if isinstance(new, Delta):
            assert held is not None
            new = denylist.apply(held, new)
        held, files = new, files + 1
        assert files < 50
    return held, files


class TestDenylists:
    def test_none_at_first(self, clearing: Clearing) -> None:
        assert clearing.notices.denylist(ISSUER) is None
        assert clearing.notices.denylist_lines() == []

    def test_the_same_again_changes_nothing(self, clearing: Clearing, issuer: Issuer) -> None:
        raw = issuer.full(1, 50)
        assert [clearing.notices.publish_denylist(raw) for _ in range(3)] == [True, False, False]
        (line,) = clearing.notices.denylist_lines()
        assert line == (ISSUER, 1, 50, NOW)

    def test_changes_lead_from_any_version_to_the_newest(
        self, clearing: Clearing, issuer: Issuer, scheme: Scheme
    ) -> None:
        clearing.notices.publish_denylist(issuer.full(1, 100))
        assert issuer.held is not None
        versions = [issuer.held]
        for step in range(2, 13):
            clearing.notices.publish_denylist(issuer.change(step, add=100 + step, remove=step))
            versions.append(issuer.held)
        newest = versions[-1]
        assert fetched(clearing, newest, scheme.trust) == (newest, 0)
        for steps, held in enumerate(reversed(versions)):
            got, files = fetched(clearing, held, scheme.trust)
            assert (got, got == newest) == (newest, True)
            assert files == steps
        assert fetched(clearing, None, scheme.trust) == (newest, 12)
        # A whole list that is shorter than the changes to it is taken in their place.
        whole = denylist.build_full(
            scheme.suite, scheme.scheme, ISSUER, 12, NOW, list(newest), scheme.issuer_key
        )
        clearing.notices.publish_denylist(whole)
        for begin, files in ((versions[1], 1), (versions[9], 2), (versions[-1], 0), (None, 1)):
            assert fetched(clearing, begin, scheme.trust) == (newest, files)

    def test_a_whole_list_beside_a_change_spares_newcomers_the_way(
        self, clearing: Clearing, issuer: Issuer, scheme: Scheme
    ) -> None:
        clearing.notices.publish_denylist(issuer.full(1, 100))
        first = issuer.held
        clearing.notices.publish_denylist(issuer.change(2, add=150))
        assert fetched(clearing, None, scheme.trust)[1] == 2
        second = issuer.held
        assert second is not None
        whole = denylist.build_full(
            scheme.suite, scheme.scheme, ISSUER, 2, NOW, list(second), scheme.issuer_key
        )
        assert clearing.notices.publish_denylist(whole)
        assert fetched(clearing, None, scheme.trust) == (second, 1)
        assert fetched(clearing, first, scheme.trust) == (second, 1)
        assert len(clearing.notices.denylist(ISSUER, 1) or b"") < len(whole)

    @pytest.mark.parametrize("version", [1, 2])
    def test_older_ones_are_refused(self, clearing: Clearing, issuer: Issuer, version: int) -> None:
        clearing.notices.publish_denylist(issuer.full(3, 10))
        with pytest.raises(NoticeRefused, match="never goes back") as refusal:
            clearing.notices.publish_denylist(issuer.full(version, 10))
        assert refusal.value.code == "older"

    def test_two_lists_of_one_version(self, clearing: Clearing, issuer: Issuer) -> None:
        clearing.notices.publish_denylist(issuer.full(3, 10))
        with pytest.raises(NoticeRefused, match="new number") as refusal:
            clearing.notices.publish_denylist(issuer.full(3, 11))
        assert refusal.value.code == "conflict"

    def test_a_change_that_does_not_follow(self, clearing: Clearing, issuer: Issuer) -> None:
        issuer.full(1, 10)
        first = issuer.change(2, add=20)
        second = issuer.change(3, add=21)
        for raw in (first, second):
            with pytest.raises(NoticeRefused, match="whole list") as refusal:
                clearing.notices.publish_denylist(raw)
            assert refusal.value.code == "base"
        clearing.notices.publish_denylist(issuer.full(1, 10))
        with pytest.raises(NoticeRefused) as refusal:
            clearing.notices.publish_denylist(second)
        assert refusal.value.code == "base"
        assert clearing.notices.publish_denylist(first)
        assert clearing.notices.publish_denylist(second)

    @pytest.mark.parametrize("place", [0, 20, 110, 170, -1])
    def test_altered_ones(self, clearing: Clearing, issuer: Issuer, place: int) -> None:
        raw = bytearray(issuer.full(1, 10))
        raw[place] ^= 1
        with pytest.raises(NoticeRefused):
            clearing.notices.publish_denylist(bytes(raw))
        assert clearing.notices.denylist(ISSUER) is None

    def test_of_another_scheme(self, clearing: Clearing) -> None:
        with pytest.raises(NoticeRefused):
            clearing.notices.publish_denylist(Issuer(Scheme(seed="impostor")).full(1, 10))

    def test_what_is_kept_is_bounded(
        self, clearing: Clearing, issuer: Issuer, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("offline_sync.clearing.notices.DELTAS_KEPT", 3)
        clearing.notices.publish_denylist(issuer.full(1, 60))
        held = []
        for version in range(2, 10):
            held.append(issuer.held)
            clearing.notices.publish_denylist(issuer.change(version, add=60 + version))
            assert issuer.held is not None
            whole = denylist.build_full(
                scheme.suite, scheme.scheme, ISSUER, version, NOW, list(issuer.held), scheme.issuer_key
            )
            clearing.notices.publish_denylist(whole)
        for one in held:
            assert fetched(clearing, one, scheme.trust)[0] == issuer.held
        assert DELTAS_KEPT > 30  # more than a month of days

    def test_it_is_there_after_a_restart(self, tmp_path: Path, scheme: Scheme, issuer: Issuer) -> None:
        url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
        keys = {ACQUIRER: scheme.acquirer_key}
        first = Clearing(url, scheme.trust, keys, lambda: NOW)
        first.notices.publish_denylist(issuer.full(1, 100))
        first.notices.publish_denylist(issuer.change(2, add=150))
        first.close()
        again = Clearing(url, scheme.trust, keys, lambda: NOW)
        assert fetched(again, None, scheme.trust)[0] == issuer.held
        assert again.notices.publish_denylist(issuer.change(3, remove=5))
        assert fetched(again, None, scheme.trust)[0] == issuer.held

    def test_over_http(self, service: InProcess, scheme: Scheme, issuer: Issuer) -> None:
        terminal = terminal_signer(scheme.terminal(1, 1))
        with client_of(service, issuer_signer(scheme)) as publisher, client_of(service, terminal) as reader:
            assert reader.denylist(ISSUER) is None
            whole = issuer.full(1, 40)
            publisher.publish_denylist(whole)
            assert reader.denylist(ISSUER) == whole
            assert reader.denylist(ISSUER, 1) is None
            change = issuer.change(2, add=41)
            second = issuer.held
            assert second is not None
            publisher.publish_denylist(issuer.full(2, 41), change)
            assert reader.denylist(ISSUER, 1) == change
            # A change that clearing cannot use does not keep the whole list away.
            issuer.full(3, 42)
            publisher.publish_denylist(issuer.full(4, 43), issuer.change(5, add=44))
            newest = denylist.parse(reader.denylist(ISSUER, 2) or b"", scheme.trust)
            assert (newest.version, isinstance(newest, Denylist)) == (4, True)
            with pytest.raises(ClearingRefused, match="never goes back"):
                publisher.publish_denylist(issuer.full(1, 40, NOW + 1))


class TestOrders:
    def test_they_wait_until_they_are_delivered(self, clearing: Clearing, scheme: Scheme) -> None:
        raws = [order(scheme, CARDS[0], number) for number in (1, 2)] + [order(scheme, CARDS[1], 1)]
        assert clearing.notices.publish_orders(raws) == 3
        assert clearing.notices.publish_orders(raws) == 0
        assert [raw for _, raw in clearing.notices.orders()] == raws
        shop = scheme.terminal(1, 1)
        with clearing._ledger.write() as connection:
            note_delivered(connection, [(CARDS[0], 1, 0x9000, shop.payee, shop.number)])
        assert [raw for _, raw in clearing.notices.orders()] == raws[1:]
        with clearing._ledger.write() as connection:
            note_delivered(connection, [(CARDS[1], 1, 0x6985, shop.payee, shop.number)])
            note_delivered(connection, [(CARDS[7], 9, 0x9000, shop.payee, shop.number)])
        assert [raw for _, raw in clearing.notices.orders()] == raws[1:2]

    def test_a_terminals_journal_tells_that_one_was_delivered(
        self, clearing: Clearing, scheme: Scheme
    ) -> None:
        """With its upload, beside payments; what it says of orders that nobody knows changes nothing."""
        raws = [order(scheme, CARDS[0], number) for number in (1, 2)]
        clearing.notices.publish_orders(raws)
        card, shop = scheme.card(7), scheme.terminal(1, 1)
        told = [(CARDS[0], 1, 0x9000), (CARDS[7], 9, 0x9000), (CARDS[0], 1, 0x9414)]
        till = Till(shop, [card]).add(
            own(scheme.payment(card, shop)),
            *((Kind.ORDER_DELIVERED, chain.pack_delivered(*one)) for one in told),
        )
        assert clearing.accept(till.batch()).rejections == []
        assert [raw for _, raw in clearing.notices.orders()] == raws[1:]

    def test_signed_again_it_takes_the_old_ones_place(self, clearing: Clearing, scheme: Scheme) -> None:
        scheme.suite._deterministic = False  # type: ignore[attr-defined]
        key = scheme.suite.signing_key(scheme.issuer_key.scalar())
        body = order(scheme, CARDS[0], 1)[:-64]
        first, second = body + key.sign(body), body + key.sign(body)
        assert first != second
        assert clearing.notices.publish_orders([first]) == 1
        assert clearing.notices.publish_orders([second]) == 0
        assert [raw for _, raw in clearing.notices.orders()] == [second]

    def test_another_order_under_the_same_number(self, clearing: Clearing, scheme: Scheme) -> None:
        clearing.notices.publish_orders([order(scheme, CARDS[0], 1)])
        with pytest.raises(NoticeRefused, match="number it anew") as refusal:
            clearing.notices.publish_orders(
                [order(scheme, CARDS[1], 1), order(scheme, CARDS[0], 1, time_s=NOW - 1)]
            )
        assert refusal.value.code == "conflict"
        assert len(clearing.notices.orders()) == 1  # all or none

    @pytest.mark.parametrize(
        ("raw", "code"),
        [
            (b"", "malformed"),
            (bytes(125), "malformed"),
            ("altered", "signature"),
            ("card", "issuer"),
            ("scheme", "scheme"),
            ("acquirer", "issuer"),
        ],
    )
    def test_bad_ones(self, clearing: Clearing, scheme: Scheme, raw: bytes | str, code: str) -> None:
        made = {
            "altered": order(scheme, CARDS[0], 1)[:-1] + b"\x00",
            "card": order(scheme, ACQUIRER + bytes(4), 1),
            "scheme": order(Scheme(scheme=b"abcd"), CARDS[0], 1),
            "acquirer": order(scheme, ACQUIRER + bytes(4), 1, operator=ACQUIRER),
        }
        with pytest.raises(NoticeRefused) as refusal:
            clearing.notices.publish_orders([made[raw] if isinstance(raw, str) else raw])
        assert refusal.value.code == code
        assert clearing.notices.orders() == []

    def test_page_by_page_over_http(
        self, service: InProcess, clearing: Clearing, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("offline_sync.clearing.notices.ORDERS_PAGE", "offline_sync.surface.MAX_ORDERS"):
            monkeypatch.setattr(name, 10)
        raws = [order(scheme, card, 1) for card in CARDS[:25]]
        with client_of(service, issuer_signer(scheme)) as publisher:
            assert publisher.publish_orders(raws) == 25
            assert publisher.publish_orders(raws) == 0
        got, after = [], 0
        with client_of(service, terminal_signer(scheme.terminal(1, 1))) as reader:
            while True:
                page = reader.orders(after)
                got += page.orders
                if not page.last:
                    break
                after = page.last
        assert got == raws
        assert ORDERS_PAGE == 1_000


def order(scheme: Scheme, card: bytes, number: int, *, time_s: int = NOW, operator: bytes = ISSUER) -> bytes:
    """An order to block a card (docs/protocol.md, section 13), 125 bytes, put together by hand."""
    body = struct.pack(
        ">BBBB4s4s8sIIB28s", *(0xF2, 1, 1, 1), scheme.scheme, operator, card, number, time_s, 3, bytes(28)
    )
    body += bytes(61 - len(body))
    key = scheme.issuer_key if operator == ISSUER else scheme.acquirer_key
    return body + key.sign(body)


class TestAuthorities:
    def made(self, scheme: Scheme, version: int, seed: str = "newer") -> bytes:
        newer = scheme.certificate(
            *(certificates.OPERATOR, CLASS_ACQUIRING | CLASS_BESIDE, bytes(4), ACQUIRER + bytes(8)),
            *(scheme.suite.new_signing_key(Stream(seed)), scheme.root_key),
            not_before=NOW - 1,
        )
        listed = [scheme.issuer, scheme.acquirer, newer]
        return authorities.build(scheme.trust, version, NOW, listed, {}, scheme.root_key)

    def test_clearing_follows_and_hands_them_on(self, clearing: Clearing, scheme: Scheme) -> None:
        assert clearing.notices.authorities() is None
        raw = self.made(scheme, 1)
        assert [clearing.notices.publish_authorities(raw) for _ in range(2)] == [True, False]
        assert scheme.trust.version == 1
        assert len(scheme.trust.current(ACQUIRER)) == 2
        assert clearing.notices.authorities() == raw
        assert clearing.notices.authorities(1) is None

    def test_it_never_goes_back(self, clearing: Clearing, scheme: Scheme) -> None:
        clearing.notices.publish_authorities(self.made(scheme, 2))
        for version, code in ((1, "older"), (2, "conflict")):
            with pytest.raises(NoticeRefused) as refusal:
                clearing.notices.publish_authorities(self.made(scheme, version, "another"))
            assert refusal.value.code == code

    def test_what_another_program_published_is_followed(self, tmp_path: Path, scheme: Scheme) -> None:
        url, keys = f"sqlite:///{tmp_path / 'ledger.sqlite'}", {ACQUIRER: scheme.acquirer_key}
        serving = Clearing(url, scheme.trust, keys, lambda: NOW)
        other = Scheme()
        Clearing(url, other.trust, keys, lambda: NOW).notices.publish_authorities(self.made(other, 1))
        assert scheme.trust.version == 0
        ran_s = [0.0]
        service = InProcess(application(serving, stopwatch=lambda: ran_s[0]))
        with client_of(service, acquirer_signer(scheme)) as operator:
            operator.report()
            assert scheme.trust.version == 0
            ran_s[0] += 10
            operator.report()
        assert scheme.trust.version == 1
        # One that is opened later begins with what is published.
        late = Scheme()
        Clearing(url, late.trust, keys, lambda: NOW)
        assert late.trust.version == 1

    def test_one_that_the_scheme_has_is_published_when_it_opens(self, scheme: Scheme) -> None:
        raw = self.made(scheme, 5)
        scheme.trust.update(authorities.parse(raw, scheme.trust))
        opened = Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)
        assert opened.notices.authorities() == raw

    def test_altered_or_of_another_root(self, clearing: Clearing, scheme: Scheme) -> None:
        raw = self.made(scheme, 1)
        for bad in (raw[:-1], raw[:-1] + b"\x00", b"", self.made(Scheme(seed="impostor"), 1)):
            with pytest.raises(NoticeRefused):
                clearing.notices.publish_authorities(bad)
        assert scheme.trust.version == 0

    def test_over_http(self, service: InProcess, scheme: Scheme) -> None:
        raw = self.made(scheme, 1)
        with client_of(service, acquirer_signer(scheme)) as operator:
            assert operator.authorities() is None
            operator.publish_authorities(raw)
            assert operator.authorities() == raw
            assert operator.authorities(1) is None


def test_the_issuers_day_over_http(service: InProcess, clearing: Clearing, scheme: Scheme) -> None:
    """A payment that was not granted is owed; the load that holds it claims it; what arrived is told."""
    card, shop = scheme.card(7), scheme.terminal(1, 1, retail=True)
    card_number = ISSUER + (7).to_bytes(4, "big")
    card.number = card_number
    card.certificate = scheme.certificate(
        certificates.CARD, 2, ISSUER, card_number + bytes(4), card.key, scheme.issuer_key
    )
    card.digest = certificates.digest(scheme.suite, card.certificate)
    load = scheme.load(card, 20_000)
    payment = scheme.payment(card, shop, 500)
    from pos_terminal.sale import SaleState

    clearing.accept(Till(shop, [card]).add(own(payment, SaleState.PAID_NOT_GRANTED)).batch())
    with client_of(service, issuer_signer(scheme)) as issuer:
        first = HandedOrder(scheme.load_order(card, 1, 20_000))
        receipt = LoadReceipt(load.raw, card.raw_certificate)
        booked = issuer.hand_over_loads([first], [receipt])
        assert (booked.orders, booked.receipts, booked.booked) == (1, 1, 1)
        assert (issuer.arrived(card_number).sequence, issuer.arrived(card_number).total_fen) == (2, 500)
        (owed,) = issuer.owed(card_number)
        assert (owed.sequence, owed.amount_fen) == (2, 500)
        issuer.hand_over_loads([HandedOrder(scheme.load_order(card, 2, 1_500), [owed])], [])
        assert issuer.owed(card_number) == []
        with pytest.raises(ClearingRefused) as refusal:
            issuer.hand_over_loads([HandedOrder(scheme.load_order(card, 3, 500), [owed])], [])
        assert refusal.value.code == "return-claimed"


def test_settlements_and_disputes_over_http(service: InProcess, clearing: Clearing, scheme: Scheme) -> None:
    from datetime import UTC, datetime, timedelta

    card, shop = scheme.card(8), scheme.terminal(1, 1)
    twins = [scheme.payment(card, shop, 300, sequence=1), scheme.payment(card, shop, 400, sequence=1)]
    till = Till(shop, [card])
    for one in twins:
        till.add(own(one))
    clearing.accept(till.batch())
    day = (datetime.fromtimestamp(NOW, UTC) + timedelta(hours=8)).date()
    clearing.close_day(day)
    with (
        client_of(service, acquirer_signer(scheme)) as operator,
        client_of(service, terminal_signer(shop)) as terminal,
    ):
        for asking in (operator, terminal):
            (closing,) = asking.settlements()
            assert (closing.number, closing.day, closing.payees) == (1, day.isoformat(), 1)
            assert asking.settlements(after=1) == []
            file = asking.settlement(1, shop.payee)
            assert file == b"".join(clearing.settlement(1, shop.payee))
        clones = [line for line in operator.disputes() if line.kind == "clone"]
        assert len(clones) == 1
        assert operator.dispute(clones[0].digest) == clearing.dispute(bytes.fromhex(clones[0].digest))
        assert operator.disputes(operator.disputes()[-1].digest) == []
        with pytest.raises(ClearingRefused) as refusal:
            operator.dispute("00" * 32)
        assert refusal.value.code == "not-found"
        with pytest.raises(ClearingRefused) as refusal:
            operator.settlement(2, shop.payee)
        assert refusal.value.code == "not-found"
