"""Whether all money is accounted for, computed from the cards, the queues and the ledger; never from what was
expected.

    loaded = on cards + signed, not yet in the ledger + credited to payees
"""

from dataclasses import dataclass

from fleet.world import World
from hardwallet.limits import JOURNAL_ENTRIES
from hardwallet.records import LOAD, PAYMENT, Record, parse
from hardwallet.errors import Malformed
