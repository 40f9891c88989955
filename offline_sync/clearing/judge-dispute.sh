#!/bin/sh
# Judges a dispute file of a hardwallet clearing (docs/disputes.md says what such a file is).
#
#     judge-dispute.sh FILE --root SHA256
#
# SHA256 is the fingerprint of the scheme's root certificate, 64 hex digits. Take it from a source that both
# parties accept, never from whoever hands over FILE.
#
# Uses this shell, openssl (3.0 or later) and jq (1.6 or later), and nothing else. No network, no file is written.
# Prints one line for each thing that it has checked, and then a last line:
#
#     PROVEN: what the file proves                          exit code 0
#     NOT PROVEN: why not                                   exit code 1
#
# Exit code 2: it could not judge at all (wrong usage, FILE cannot be read, openssl or jq is missing).

set -u
LC_ALL=C
HOME=/nonexistent        # jq would read definitions from ~/.jq
OPENSSL_CONF=/dev/null   # openssl would read its settings
export LC_ALL HOME OPENSSL_CONF
unset OPENSSL_MODULES OPENSSL_ENGINES

MOST_LINES=5462 # of 48 bytes each: a dispute file has at most 256 KiB

usage() {
    printf '%s\n' "judge-dispute.sh: $1" 'usage: judge-dispute.sh FILE --root SHA256' >&2
    exit 2
}

not_proven() {
    printf 'NOT PROVEN: %s\n' "$1"
    exit 1
}

# ---------------------------------------------------------------------------------------------- arguments

file='' root=''
while [ $# -gt 0 ]; do
    case $1 in
    --root)
        [ $# -ge 2 ] || usage 'a fingerprint has to follow --root'
        root=$2
        shift
        ;;
    --root=*) root=${1#--root=} ;;
    --*) usage 'there is no such option' ;;
    *)
        [ -z "$file" ] || usage 'one file at a time'
        file=$1
        ;;
    esac
    shift
done
[ -n "$file" ] || usage 'which file?'
[ -n "$root" ] || usage 'the fingerprint of the root is missing'
if ! command -v openssl >/dev/null || ! command -v jq >/dev/null; then
    usage 'openssl and jq have to be installed'
fi
case $(openssl version) in
'OpenSSL '[3-9].* | 'OpenSSL '[1-9][0-9].*) ;;
*) usage 'openssl has to be OpenSSL 3.0 or later' ;;
esac
[ -d /dev/fd ] || usage 'this system has no /dev/fd'
case $root in
*[!0-9A-Fa-f]*) usage 'the fingerprint has 64 hex digits' ;;
esac
[ ${#root} -eq 64 ] || usage 'the fingerprint has 64 hex digits'
if [ ! -f "$file" ] || [ ! -r "$file" ]; then
    usage 'the file is missing or cannot be read'
fi

# --------------------------------------------------------------------------------- the file, read only once

# The whole file in base64 lines; reading ends at the limit, however long the file is.
text=$(
    openssl base64 <"$file" 2>/dev/null | {
        lines=0
        while IFS= read -r line; do
            lines=$((lines + 1))
            if [ "$lines" -gt "$MOST_LINES" ]; then
                printf '!\n'
                break
            fi
            printf '%s\n' "$line"
        done
    }
)
case $text in
*!) not_proven 'the file is longer than 256 KiB, so it is no dispute file' ;;
esac

content() { printf '%s\n' "$text" | openssl base64 -d; }

# Written in exactly one way: nothing can hide in spaces, in a second value for a field, or after the end.
found=$(content | openssl dgst -sha256 -r)
canonical=$(content | jq -S --indent 2 . 2>/dev/null | openssl dgst -sha256 -r)
[ "$found" = "$canonical" ] || not_proven 'the file is damaged or was altered: it is not written as dispute files are'

# ------------------------------------------------------------------- what is to be checked, worked out by jq

# Prints what is to be checked, in order, one line each, fields parted by "|":
#     ok|TEXT                          it holds
#     no|REASON                        it does not hold
#     suite|NUMBER                     the suite of all that follows
#     root|HEX|MESSAGE                 SHA-256 of MESSAGE has to be HEX, the fingerprint that was given
#     digest|HEX|MESSAGE|TEXT          the suite's hash of MESSAGE has to begin with HEX
#     signed|KEY|SIGNATURE|MESSAGE|TEXT    SIGNATURE over MESSAGE has to verify under KEY
#     linked|HEX|MESSAGE               SHA-256 of MESSAGE has to be HEX: one entry of a journal follows
#     proven|SENTENCE
# MESSAGE is base64, KEY and SIGNATURE are hex. Offsets are those of docs/protocol.md, sections 3, 4 and 16.
# shellcheck disable=SC2016 # the dollars in it are jq's
program='
def digits: explode | map(if . > 57 then . - 87 else . - 48 end);
def number: reduce digits[] as $digit (0; . * 16 + $digit);
def cut($from; $length): .[2 * $from : 2 * ($from + $length)];
def is_hex: explode | all((. >= 48 and . <= 57) or (. >= 97 and . <= 102)); # 0 to 9, a to f, and no line end
def zero: explode | all(. == 48);
def base64:
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" as $letters
    | digits as $all
    | [ range(0; $all | length; 6) as $at
        | $all[$at : $at + 6] as $some
        | (reduce ($some + [0, 0, 0, 0])[:6][] as $digit (0; . * 16 + $digit)) as $value
        | [262144, 4096, 64, 1]
        | map(($value / . | floor) % 64 | $letters[. : . + 1])
        | join("")
        | if ($some | length) == 2 then .[:2] + "==" elif ($some | length) == 4 then .[:3] + "=" else . end
      ]
    | join("");
def yuan: number | "CNY \((. - . % 100) / 100).\(. % 100 / 10 | floor)\(. % 10)";
def check($holds; $text; $reason): if $holds then "ok|" + $text else "no|" + $reason end;

def certificate: {
    type: cut(0; 1), version: cut(1; 1), suite: cut(2; 1), class: cut(3; 1), scheme: cut(4; 4),
    authority: cut(8; 4), subject: cut(12; 12), currency: cut(24; 2), begin: cut(26; 4), end: cut(30; 4),
    key: cut(34; 64), body: .[:-128], signature: .[-128:] };
def record: {
    body: ., type: cut(0; 1), version: cut(1; 1), suite: cut(2; 1), application: cut(3; 1), scheme: cut(4; 4),
    card: cut(8; 8), certificate: cut(16; 8), sequence: cut(24; 4), payee: cut(28; 8), reference: cut(36; 12),
    amount: cut(48; 4), currency: cut(52; 2), terminal: cut(54; 4), transaction: cut(58; 4), time: cut(78; 4),
    last: cut(95; 1) };
def head: {
    body: ., type: cut(0; 1), version: cut(1; 1), suite: cut(2; 1), zero: cut(3; 1), scheme: cut(4; 4),
    certificate: cut(8; 8), payee: cut(16; 8), terminal: cut(24; 4), first: cut(28; 8), last: cut(36; 8),
    before: cut(44; 32), head: cut(76; 32), time: cut(140; 4), journal: cut(144; 8) };

def named: {"d1": "payment", "d2": "load receipt", "d3": "refund receipt"}[.type];
def refunded: .reference | cut(0; 4);
def total: .reference | cut(4; 4);
def shown: "the \(named) no. \(.sequence | number) of \(.amount | yuan), payee \(.payee), terminal \(.terminal)";

# What every certificate shows by itself, and its signature under the key of its authority.
def good($who; $root; $authority; $type; $classes; $unused):
    . as $c
    | check($c.type == $type and $c.version == "01" and $c.suite == $root.suite and $c.scheme == $root.scheme
            and $c.currency == $root.currency and $c.begin <= $c.end and (($classes == []) or any($classes[]; . == $c.class))
            and ($c.subject | cut(12 - $unused; $unused) | zero);
            "the \($who) certificate is one of this scheme, suite and currency";
            "the \($who) certificate is not one of this scheme, suite, currency and class"),
      "signed|\($authority.key)|\($c.signature)|\($c.body | base64)|the \($who) certificate";
def under_root($who; $root):
    check(.authority | zero; "the \($who) certificate names the root as its authority";
          "the \($who) certificate is not the root`s to sign");
def chain($who; $name; $type; $classes; $unused; $operator; $root):
    . as $c
    | ($operator | good("operator`s"; $root; $root; "c1"; (if $type == "c3" then ["01", "03", "05", "07"] else ["02", "03", "06", "07"] end); 8),
                   under_root("operator`s"; $root)),
      check($c.authority == ($operator.subject | cut(0; 4));
            "the \($who) certificate names this operator as its authority";
            "the \($who) certificate is of another operator"),
      ($c | good($who; $root; $operator; $type; $classes; $unused)),
      "ok|the \($who) certificate is that of \($name)";
def within($time; $certificates):
    all($certificates[]; .begin <= $time and $time <= .end);

# A record, its card`s certificate, and the card`s signature.
def by_card($which; $signature; $card; $operator; $root):
    . as $r
    | check(any("d1", "d2", "d3"; . == $r.type) and $r.version == "01" and $r.suite == $root.suite
            and $r.application == "01" and $r.scheme == $root.scheme and $r.currency == $root.currency
            and ($r.sequence | zero | not) and $r.last == "00";
            "the \($which) record: \($r | shown)";
            "the \($which) body is no record of this scheme, suite and currency"),
      check($r.card == ($card.subject | cut(0; 8)); "the \($which) record is of this card";
            "the \($which) record is of another card than the certificate"),
      check(within($r.time; [$root, $operator, $card]);
            "the certificates were valid at the time in the \($which) record";
            "the certificates were not valid at the time in the \($which) record"),
      "digest|\($r.certificate)|\($card.body | base64)|the \($which) record names this card certificate",
      "signed|\($card.key)|\($signature)|\($r.body | base64)|the \($which) record";

# The signed head of a journal, its terminal`s certificate, and the terminal`s signature.
def by_terminal($which; $signature; $terminal; $operator; $root):
    . as $h
    | check($h.type == "e3" and $h.version == "01" and $h.suite == $root.suite and $h.zero == "00"
            and $h.scheme == $root.scheme and $h.first <= $h.last and $h.last <= $h.journal
            and ($h.first | zero | not);
            "the \($which) head: entries \($h.first | number) to \($h.last | number) of a journal of \($h.journal | number), signed at \($h.time | number | todate)";
            "the \($which) body is no signed head of a journal of this scheme and suite"),
      check($h.payee + $h.terminal == $terminal.subject; "the \($which) head is of this terminal";
            "the \($which) head is of another terminal than the certificate"),
      check($terminal.authority == ($h.payee | cut(0; 4)); "the terminal`s payee belongs to its operator";
            "the terminal`s payee belongs to another operator"),
      check(within($h.time; [$root, $operator, $terminal]);
            "the certificates were valid at the time in the \($which) head";
            "the certificates were not valid at the time in the \($which) head"),
      "digest|\($h.certificate)|\($terminal.body | base64)|the \($which) head names this terminal certificate",
      "signed|\($terminal.key)|\($signature)|\($h.body | base64)|the \($which) head";

# The entries that join a head to an earlier one: index (8), then for each entry after it
# hash before (32), kind (1), time (4), length of the payload (2), payload.
def hex16: . as $n
    | [range(15; -1; -1) as $place | ($n / pow(16; $place) | floor) % 16 | "0123456789abcdef"[. : . + 1]] | join("");
def entries:
    if . == "" then empty
    else (cut(37; 2) | number) as $size
        | { before: cut(0; 32), kind_time: cut(32; 5), payload: cut(39; $size), whole: (length >= 2 * (39 + $size)) },
          (.[2 * (39 + $size) :] | entries)
    end;
def joined: { index: (cut(0; 8) | number), entries: [.[16:] | entries] };
def follows($which; $head):
    .index as $index
    | .entries as $entries
    | check(all($entries[]; .whole) and $index + ($entries | length) == ($head.last | number) and $index > 0;
            "\($entries | length) entries join the \($which) head to entry \($index)";
            "the entries beside the \($which) head do not lead up to it"),
      ( range(0; $entries | length) as $place
        | $entries[$place] as $entry
        | (if $place + 1 < ($entries | length) then $entries[$place + 1].before else $head.head end) as $hash
        | "linked|\($hash)|\($entry.before + ($index + $place + 1 | hex16) + $entry.kind_time + $entry.payload | base64)" ),
      "ok|the hashes from entry \($index) to the \($which) head are worked through";

def different($one; $other):
    check($one != $other; "the two bodies differ"; "the two bodies are the same: one statement that was signed twice");

# ------------------------------------------------------------------------ the kinds: what two statements prove

def clone($one; $two):
    different($one.body; $two.body),
    check($one.sequence == $two.sequence; "both have sequence number \($one.sequence | number)";
          "their sequence numbers differ"),
    "proven|card \($one.card) has signed two different records with the one sequence number \($one.sequence | number): \($one | shown); and \($two | shown). A card uses each number once, so its key is in two places.";

def load_twice($one; $two):
    different($one.body; $two.body),
    check($one.type == "d2" and $two.type == "d2"; "both are load receipts"; "they are not both load receipts"),
    check(($one | refunded) == ($two | refunded); "both answer load no. \($one | refunded | number)";
          "they answer different loads"),
    "proven|card \($one.card) has signed two different receipts for its one load no. \($one | refunded | number). A card counts each load once, so its key is in two places.";

def refund($one; $two):
    different($one.body; $two.body),
    check($two.type == "d3"; "the second is a refund receipt"; "the second is no refund receipt"),
    (if $one.type == "d1" then
        check($one.sequence == ($two | refunded); "it takes back the payment that is the first";
              "it takes back another payment"),
        if ($two | total) > $one.amount then
            "proven|card \($one.card) has credited itself \($two | total | yuan) for a payment of \($one.amount | yuan). No card that works does that."
        elif $one.payee != $two.payee then
            "proven|card \($one.card) has signed a refund by payee \($two.payee) of a payment to payee \($one.payee). No card that works does that."
        else
            "proven|only that card \($one.card) has signed this payment and a receipt by which \($two.amount | yuan) of it went back; whether the merchant ordered that stands in the journal of terminal \($two.terminal) and is not in this file."
        end
     else
        check($one.type == "d3"; "the first is a refund receipt"; "the first is neither payment nor refund receipt"),
        check(($one | refunded) == ($two | refunded); "both take back payment no. \($one | refunded | number)";
              "they take back different payments"),
        ([$one, $two] | sort_by(.sequence)) as [$early, $late]
        | (($late | total | number) - ($early | total | number)) as $rise
        | check($early.sequence == $late.sequence or $rise <= 0 or ($late.amount | number) > $rise
                or $early.payee != $late.payee;
                "the receipts contradict each other"; "the two receipts do not contradict each other"),
        "proven|card \($one.card) has signed two refund receipts of payment no. \($one | refunded | number) that cannot both be true: \($early | shown), total \($early | total | yuan); and \($late | shown), total \($late | total | yuan). No card that works does that."
     end);

# What a head says about the hash of an entry: by itself, and by the entries that join it to an earlier one.
def hashes:
    [[(.first | number) - 1, .before], [(.last | number), .head]]
    + if .joined then [[.joined.index, .joined.entries[0].before]] else [] end;
def contradiction($one; $two):
    [ ($one | hashes[]) as $a | ($two | hashes[]) as $b | select($a[0] == $b[0] and $a[1] != $b[1]) | $a[0] ] | first;
def short($early; $late): $late.journal < $early.last;
def two_journals($one; $two):
    different($one.body; $two.body),
    check($one.payee + $one.terminal == $two.payee + $two.terminal; "both heads are of one terminal";
          "the heads are of different terminals"),
    contradiction($one; $two) as $entry
    | ([$one, $two] | sort_by(.time)) as [$early, $late]
    | if $entry != null then
        "proven|terminal \($one.terminal) of payee \($one.payee) has signed two journals that differ at or before entry \($entry): an old copy was put back, or its key is in two places."
      elif $early.time != $late.time and short($early; $late) then
        "proven|terminal \($one.terminal) of payee \($one.payee) has signed at \($early.time | number | todate) that its journal holds entry \($early.last | number), and at \($late.time | number | todate) that it ends at entry \($late.journal | number): entries are never removed, so an old copy was put back, its key is in two places, or its clock was wrong."
      else
        "no|the two heads do not contradict each other by themselves; the uploads that they head have to be compared"
      end;

# -------------------------------------------------------------------------------------------- the whole file

{ "hardwallet-dispute-1": true } as $formats
| { root_certificate: 162, operator_certificate: 162, card_certificate: 178,
    first_operator_certificate: 162, second_operator_certificate: 162,
    first_terminal_certificate: 162, second_terminal_certificate: 162,
    first_signature: 64, second_signature: 64, scheme: 4, suite: 1 } as $lengths
| ["first_links", "second_links"] as $links
| ["format", "kind", "root_certificate", "scheme", "suite"] as $always
| ["card_certificate", "first_body", "first_signature", "operator_certificate"] as $of_card
| ["first_body", "first_operator_certificate", "first_signature", "first_terminal_certificate"] as $of_terminal
| ["second_body", "second_signature"] as $pair
| { "clone": [$of_card + $pair, 96], "load-twice": [$of_card + $pair, 96], "refund": [$of_card + $pair, 96],
    "refund-receipt": [$of_card, 96], "false-start": [$of_terminal, 152],
    "fork": [$of_terminal + $pair + ["second_operator_certificate", "second_terminal_certificate"], 152],
    "behind": [$of_terminal + $pair + ["second_operator_certificate", "second_terminal_certificate"], 152]
  } as $kinds
| if length != 1 or (.[0] | type) != "object" then "no|this is no dispute file: it does not hold one JSON object"
  elif any(.[0][]; type != "string") then "no|this is no dispute file: a field is no text"
  elif (.[0].format // "" | in($formats) | not) then "no|this is no dispute file of version 1"
  elif (.[0].kind // "" | in($kinds) | not) then "no|this is no dispute file of a known kind"
  else .[0] as $file
  | $kinds[$file.kind] as [$wanted, $size]
  | if (($file | keys) - (if $file.kind == "fork" then $links else [] end)) != ($wanted + $always | sort) then "no|a field is missing or does not belong there"
    elif any($file | del(.format, .kind) | to_entries[];
             (.value | is_hex | not)
             or if .key | in({"first_links": 1, "second_links": 1}) then (.value | length) % 2 == 1 or (.value | length) < 94
                else (.value | length) != 2 * ($lengths[.key] // $size) end) then
        "no|a field is not the hex digits that it should be, or has the wrong length"
    elif ($file.suite | in({"01": 1, "02": 2}) | not) then "no|there is no such suite"
    else
      ($file.root_certificate | certificate) as $root
      | "suite|\($file.suite)",
        "ok|the file is whole and written as dispute files are",
        "ok|the file is a dispute of kind \($file.kind) in scheme \($file.scheme)",
        "root|\($given | ascii_downcase)|\($file.root_certificate | base64)",
        check($root.scheme == $file.scheme and $root.suite == $file.suite; "scheme and suite are the root`s";
              "the file names another scheme or suite than its root certificate"),
        ($root | good("root"; $root; $root; "c0"; ["00"]; 12), under_root("root"; $root)),
        (if $size == 96 then
            ($file.operator_certificate | certificate) as $operator
            | ($file.card_certificate | certificate) as $card
            | ($file.first_body | record) as $one
            | ($card | chain("card`s"; "card " + (.subject | cut(0; 8)); "c3"; []; 4; $operator; $root)),
              ($one | by_card("first"; $file.first_signature; $card; $operator; $root)),
              if $file.kind == "refund-receipt" then
                  check($one.type == "d3"; "it is a refund receipt"; "it is no refund receipt"),
                  "proven|only that card \($one.card) has signed a receipt by which \($one.amount | yuan) of its payment no. \($one | refunded | number) went back; whether the merchant ordered that stands in the journal of terminal \($one.terminal) and is not in this file."
              else
                  ($file.second_body | record) as $two
                  | ($two | by_card("second"; $file.second_signature; $card; $operator; $root)),
                    if $file.kind == "clone" then clone($one; $two)
                    elif $file.kind == "load-twice" then load_twice($one; $two)
                    else refund($one; $two) end
              end
         else
            ($file.first_operator_certificate | certificate) as $operator
            | ($file.first_terminal_certificate | certificate) as $terminal
            | ($file.first_body | head + if $file.first_links then {joined: ($file.first_links | joined)} else {} end) as $one
            | ($terminal | chain("terminal`s"; "terminal " + (.subject | cut(8; 4)); "c2"; ["01", "02"]; 0; $operator; $root)),
              ($one | by_terminal("first"; $file.first_signature; $terminal; $operator; $root)),
              if $file.kind == "false-start" then
                  check(($one.first | number) == 1; "it begins with entry 1"; "it does not begin with entry 1"),
                  "differs|\($one.before)|\("4a01" + $one.scheme + $one.payee + $one.terminal | base64)|the journal does not begin as this terminal`s own",
                  "proven|terminal \($one.terminal) of payee \($one.payee) has signed a journal that does not begin as its own."
              else
                  ($file.second_operator_certificate | certificate) as $other_operator
                  | ($file.second_terminal_certificate | certificate) as $other_terminal
                  | ($file.second_body | head + if $file.second_links then {joined: ($file.second_links | joined)} else {} end) as $two
                  | ($other_terminal
                     | chain("second terminal`s"; "terminal " + (.subject | cut(8; 4)); "c2"; ["01", "02"]; 0; $other_operator; $root)),
                    ($two | by_terminal("second"; $file.second_signature; $other_terminal; $other_operator; $root)),
                    (select($one.joined) | $one.joined | follows("first"; $one)),
                    (select($two.joined) | $two.joined | follows("second"; $two)),
                    two_journals($one; $two)
              end
         end)
    end
  end'

# A quotation mark would end the program above, so that it writes ` for an apostrophe.
plan=$(content | jq -rs --arg given "$root" "$program" 2>/dev/null) || not_proven 'the file cannot be read as a dispute file'

# ------------------------------------------------------------------------------------ the checks, by openssl

suite=''

hash_name() {
    case $suite in
    01) printf 'sha256' ;;
    02) printf 'sm3' ;;
    esac
}

# hashed NAME MESSAGE: the hash in hex.
hashed() {
    printf '%s' "$2" | openssl base64 -d -A | openssl dgst "-$1" -r | {
        read -r value _
        printf '%s' "$value"
    }
}

der() { openssl asn1parse -genconf /dev/stdin -noout -out /dev/stdout 2>/dev/null | openssl base64 -A; }

# public_key X-Y: a point of the suite's curve as SubjectPublicKeyInfo.
public_key() {
    case $suite in
    01) curve=1.2.840.10045.3.1.7 ;;
    02) curve=1.2.156.10197.1.301 ;;
    esac
    der <<END
asn1 = SEQUENCE:key
[key]
algorithm = SEQUENCE:algorithm
point = FORMAT:HEX,BITSTRING:04$1
[algorithm]
type = OID:1.2.840.10045.2.1
curve = OID:$curve
END
}

# signature_der R-S
signature_der() {
    s=${1#????????????????????????????????????????????????????????????????}
    der <<END
asn1 = SEQUENCE:signature
[signature]
r = INTEGER:0x${1%"$s"}
s = INTEGER:0x$s
END
}

# signed KEY SIGNATURE MESSAGE
signed() {
    key=$(public_key "$1")
    signature=$(signature_der "$2")
    [ -n "$key" ] && [ -n "$signature" ] || return 1
    set -- "$3" "-$(hash_name)"
    if [ "$suite" = 02 ]; then
        set -- "$@" -sigopt distid:1234567812345678
    fi
    message=$1
    shift
    told=$(
        # What is refused early is not read to its end, which its writer would complain about.
        printf '%s' "$signature" | openssl base64 -d -A 2>/dev/null | {
            printf '%s' "$message" | openssl base64 -d -A 2>/dev/null |
                openssl dgst "$@" -verify /dev/fd/4 -signature /dev/fd/3 2>/dev/null 4<<END
-----BEGIN PUBLIC KEY-----
$key
-----END PUBLIC KEY-----
END
        } 3<&0
    ) && [ "$told" = 'Verified OK' ]
}

checked() { printf 'checked: %s\n' "$1"; }

tick() { # puts the apostrophes back
    shown=$1
    while :; do
        case $shown in
        *\`*) shown="${shown%%\`*}'${shown#*\`}" ;;
        *) break ;;
        esac
    done
}

while IFS='|' read -r what one two three four; do
    case $what in
    suite)
        suite=$one
        if [ "$suite" = 02 ] && ! openssl ecparam -name SM2 -noout 2>/dev/null; then
            usage 'this openssl does not know SM2'
        fi
        ;;
    ok)
        tick "$one"
        checked "$shown"
        ;;
    no)
        tick "$one"
        not_proven "$shown"
        ;;
    root)
        [ "$(hashed sha256 "$two")" = "$one" ] ||
            not_proven 'the root certificate in the file is another one than --root names'
        checked "the root certificate is the one whose fingerprint was given"
        ;;
    digest)
        tick "$three"
        case $(hashed "$(hash_name)" "$two") in
        "$one"*) checked "$shown" ;;
        *) not_proven "this does not hold: $shown" ;;
        esac
        ;;
    linked)
        [ "$(hashed sha256 "$two")" = "$one" ] || not_proven 'an entry beside a head does not follow from the one before it'
        ;;
    differs)
        tick "$three"
        [ "$(hashed sha256 "$two")" != "$one" ] || not_proven "this does not hold: $shown"
        checked "$shown"
        ;;
    signed)
        tick "$four"
        signed "$one" "$two" "$three" || not_proven "the signature does not verify: $shown"
        checked "the signature verifies: $shown"
        ;;
    proven)
        tick "$one"
        printf 'PROVEN: %s\n' "$shown"
        exit 0
        ;;
    *) break ;;
    esac
done <<END
$plan
END
not_proven 'the checks did not come to an end'
