"""The words that programs use for kinds and states, as people read them."""

from tui.text import say, told


def term(word: str) -> str:
    """A kind or state, such as "paid_not_granted" or "only-ours", in the chosen language.

    One that is not known here is shown as it is, without underscores.
    """
    found = _sales().get(word) or _books().get(word) or _things().get(word)
    return found or told(word.replace("_", " "))


def _sales() -> dict[str, str]:
    """States of sales, kinds of records, parts of a tap."""
    return {
        "open": say("open"),
        "unresolved": say("unresolved"),
        "granted": say("granted"),
        "declined": say("declined"),
        "given_up": say("given up"),
        "paid_not_granted": say("paid not granted"),
        "refunded": say("refunded"),
        "payment": say("payment"),
        "load": say("load"),
        "refund": say("refund"),
        "arrival": say("arrival"),
        "select": say("select"),
        "certificates": say("certificates"),
        "ask": say("ask"),
        "pay": say("pay"),
        "keep": say("keep"),
        "decide": say("decide"),
        "ratify": say("ratify"),
        "look": say("look"),
        "authenticate": say("authenticate"),
        "remedy": say("remedy"),
        "orders": say("orders"),
        "carry": say("carry"),
        "left": say("left"),
    }


def _books() -> dict[str, str]:
    """What clearing's books and settlement files tell apart."""
    return {
        "return": say("return"),
        "return-reversed": say("return-reversed"),
        "only-ours": say("only-ours"),
        "only-theirs": say("only-theirs"),
        "amount-differs": say("amount-differs"),
        "duplicate": say("duplicate"),
        "late": say("late"),
        "clone": say("clone"),
        "load-twice": say("load-twice"),
        "fork": say("fork"),
        "behind": say("behind"),
        "granted-after-return": say("granted-after-return"),
        "refunded-after-return": say("refunded-after-return"),
        "returned-twice": say("returned-twice"),
        "refund-receipt": say("refund-receipt"),
    }


def _things() -> dict[str, str]:
    """Cards, terminals, operators."""
    return {
        "retail": say("retail"),
        "transit": say("transit"),
        "anonymous": say("anonymous"),
        "phone number known": say("phone number known"),
        "issuer": say("issuer"),
        "acquirer": say("acquirer"),
        "issue": say("issue"),
        "acquire": say("acquire"),
        "block": say("block"),
        "unblock": say("unblock"),
        "raise": say("raise"),
        "ok": say("ok"),
        "note": say("note"),
        "problem": say("problem"),
    }
