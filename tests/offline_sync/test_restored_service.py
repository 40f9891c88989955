"""A clearing as a real process whose books are put back: its terminals bring back what it lost."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from offline_sync.clearing import backup
from offline_sync.clearing.ledger import Ledger
from offline_sync.gateway import Backoff, Gateway
from offline_sync.journal import SqliteJournal
from offline_sync.outbox import Limits
from pos_terminal.ports import CardCertificate
from pos_terminal.sale import SaleState
from tests.offline_sync.asking import nonce
from tests.offline_sync.factory import NOW, SCHEME, Scheme, Terminal, journal_of
from tests.offline_sync.test_service import report_of, serving

PAYMENTS = 12


class Shop:
    """A terminal with its journal, and its way to clearing."""

    def __init__(self, scheme: Scheme, number: int, folder: Path) -> None:
        self.scheme = scheme
        self.terminal: Terminal = scheme.terminal(number, 1, retail=True)
        self.card = scheme.card(number)
        self.journal: SqliteJournal = journal_of(self.terminal, folder / f"{number}.sqlite")
        self.journal.keep_certificate(self.card.digest, CardCertificate(self.card.raw_certificate, b""))

    def sell(self, count: int) -> None:
        for place in range(count):
            state = SaleState.GRANTED if place % 3 else SaleState.PAID_NOT_GRANTED
            payment = self.scheme.payment(self.card, self.terminal, 100 + place)
            self.journal.keep_payment(payment, state, NOW)

    def gateway(self, url: str) -> Gateway:
        return Gateway(
            self.journal,
            self.terminal.uploader,
            self.scheme.trust,
            url,
            clock=lambda: NOW,
            sleep=lambda _: None,
            entropy=lambda length: nonce() if length == 16 else bytes(length),
            backoff=Backoff(tries=3),
            limits=Limits(entries=2),
        )

    def send(self, url: str) -> int:
        with self.gateway(url) as gateway:
            return gateway.send().entries

    def resend(self, url: str) -> int:
        with self.gateway(url) as gateway:
            return gateway.resend_lost()


def money(report: dict[str, Any]) -> dict[str, Any]:
    """Balances and dispositions: what must not depend on what happened to the books."""
    names = ("payees", "cards", "conservation", "float_fen", "paid_not_granted", "payments", "terminals")
    found = {name: report[name] for name in names}
    found["terminals"] = [{**row, "flags": 0} for row in report["terminals"]]
    return found


def test_terminals_bring_back_what_a_backup_lacks(tmp_path: Path) -> None:
    scheme = Scheme()
    ledger, copy = tmp_path / "ledger.sqlite", tmp_path / "backup"
    shops = [Shop(scheme, number, tmp_path) for number in (81, 82, 83)]
    with ExitStack() as stack:
        for shop in shops:
            stack.enter_context(shop.journal)
            shop.sell(PAYMENTS)
        with serving(ledger) as running:
            threads = [threading.Thread(target=shop.send, args=(running.url,)) for shop in shops]
            for thread in threads:
                thread.start()
            # Another process takes the backup, while uploads come in.
            beside = Ledger(f"sqlite:///{ledger}", SCHEME)
            taken = backup.back_up(beside, copy)
            beside.close()
            for thread in threads:
                thread.join()
            shops[0].sell(3)
            assert shops[0].send(running.url) == 3
            never_failed = report_of(running, scheme)
        assert (never_failed["payments"], never_failed["conservation"]["ok"]) == (3 * PAYMENTS + 3, True)
        assert taken.records < never_failed["payments"]

        done = backup.restore(copy, ledger, SCHEME, time_s=NOW, force_older=True)
        assert done.missing["records"] == never_failed["payments"] - taken.records
        with serving(ledger) as running:
            put_back = report_of(running, scheme)
            assert (put_back["payments"], put_back["conservation"]["ok"]) == (taken.records, True)
            sent = [shop.resend(running.url) for shop in shops]
            assert sum(sent) == never_failed["payments"] - taken.records
            assert [shop.resend(running.url) for shop in shops] == [0, 0, 0]
            assert [shop.journal.locked for shop in shops] == [None, None, None]
            filled = report_of(running, scheme)
            shops[1].sell(1)
            assert shops[1].send(running.url) == 1
    assert money(filled) == money(never_failed)
    kinds = {row["subject"]: row["kind"] for row in filled["evidence"]}
    wanted = {bytes(12).hex()}
    wanted |= {
        shop.terminal.uploader.certificate.subject.hex()
        for shop, count in zip(shops, sent, strict=True)
        if count
    }
    assert kinds == dict.fromkeys(wanted, "restored")
