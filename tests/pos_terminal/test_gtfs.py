"""GTFS feeds: what is read of them, and that no feed, however made, does more than be refused."""

import contextlib
import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hardwallet.riders import Rider
from pos_terminal.errors import FaresRefused, NoSuchFare
from pos_terminal.fares import Network
from pos_terminal.gtfs import Choices, read_gtfs, read_network
from pos_terminal.gtfs_feed import Bounds

FEED = {
    "agency": "agency_id,agency_name,agency_url,agency_timezone\n1,Town,http://example.net,Asia/Shanghai\n",
    "routes": "route_id,route_short_name,route_type,network_id\nR1,1,3,\nR2,2,3,express\nR3,3,3,\n",
    "trips": (
        "route_id,service_id,trip_id,trip_headsign,direction_id\n"
        "R1,all,t1,Park,0\nR1,all,t2,Station,1\nR1,all,t3,Park,0\nR2,all,t4,Airport,0\n"
    ),
    "stops": "stop_id,stop_name,parent_station\na,Alpha,\nb,Beta,\nc,Gamma,hub\nhub,Hub,\n",
    "stop_times": (
        "trip_id,stop_sequence,stop_id,arrival_time,departure_time\n"
        "t1,10,b,08:10:00,08:10:00\nt1,5,a,08:00:00,08:00:00\nt1,20,c,25:00:00,25:00:00\n"
        "t2,1,c,,\nt2,2,b,,\nt2,3,a,,\n"
        "t3,1,a,,\nt3,2,b,,\nt3,3,c,,\n"
        "t4,1,a,,\nt4,2,c,,\n"
    ),
    "stop_areas": "area_id,stop_id\nA,a\nA,b\nB,hub\n",
    "fare_products": (
        "fare_product_id,fare_product_name,rider_category_id,fare_media_id,amount,currency\n"
        "in,Inside,0,,2.00,CNY\nin,Inside,student,,1.00,CNY\nin,Inside,old,,0,CNY\n"
        "over,Between,,,3.5,CNY\nfast,Express,,,10.00,CNY\nmonth,Month,,,90.00,CNY\n"
    ),
    "fare_leg_rules": (
        "leg_group_id,network_id,from_area_id,to_area_id,fare_product_id\n"
        "x,,A,A,in\nx,,A,B,over\nx,,B,A,over\nx,express,,,fast\n"
    ),
    "rider_categories": (
        "rider_category_id,rider_category_name,is_default_fare_category\n0,Normal,1\nstudent,Student,\nold,Old,\n"
    ),
    "calendar": "service_id\nall\n",
}


def packed(files: dict[str, str | bytes], **options: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", options.get("compression", zipfile.ZIP_DEFLATED)) as made:
        for name, text in files.items():
            made.writestr(name if "." in name else f"{name}.txt", text)
    return content.getvalue()


def changed(name: str, old: str, new: str) -> dict[str, str | bytes]:
    text = FEED[name]
    assert old in text
    return {**FEED, name: text.replace(old, new, 1)}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Network]:
    """Reads a feed of these files, or of these bytes."""

    def reading(
        files: dict[str, str | bytes] | bytes, choices: Choices | None = None, **bounds: int
    ) -> Network:
        path = tmp_path / "feed.zip"
        path.write_bytes(files if isinstance(files, bytes) else packed(files))
        return read_gtfs(path, choices, bounds=Bounds(**bounds))

    return reading


Read = Callable[..., Network]
OLD = Choices({"old": Rider.SENIOR})


def test_a_feed_becomes_lines_and_fares(read: Read) -> None:
    network = read(dict(FEED), OLD)
    assert [(line.id, line.is_flat) for line in network.lines] == [("R1", False), ("R2", True)]
    line = network.line("R1")
    assert [(one.id, one.name.en, [stop.id for stop in one.stops]) for one in line.directions] == [
        ("1", "Park", ["a", "b", "c"]),
        ("2", "Station", ["c", "b", "a"]),
    ]
    fare = network.fare_fen
    assert [fare("R1", "1", "a", "b", rider) for rider in Rider] == [200, 100, 0, 200, 200]
    assert [
        fare("R1", way, one, other, Rider.SENIOR) for way, one, other in (("1", "a", "c"), ("2", "c", "a"))
    ] == [
        350,
        350,
    ]
    assert fare("R2", "1", "a", "c", Rider.STUDENT) == 1000
    notes = " / ".join(network.notes)
    assert "route R3 has no trips" in notes
    assert "calendars are not used" in notes


def test_categories_that_nobody_names_are_left_out_and_told(read: Read) -> None:
    network = read(dict(FEED))
    assert network.fare_fen("R1", "1", "a", "b", Rider.SENIOR) == 200
    assert any("old (Old)" in note for note in network.notes)
    with pytest.raises(FaresRefused, match="no category young; it has 0, old, student"):
        read(dict(FEED), Choices({"young": Rider.CHILD}))
    files = {**FEED, "rider_categories": "rider_category_id\n0\nold\n"}
    files["fare_products"] = FEED["fare_products"].replace(",,", ",old,")
    with pytest.raises(FaresRefused, match="no fare is for adults"):
        read(files)
    with pytest.raises(FaresRefused, match="both the default"):
        read(changed("rider_categories", "Student,", "Student,1"))


def test_names_in_both_languages(read: Read) -> None:
    told = (
        "table_name,field_name,language,translation,record_id,field_value\n"
        "stops,stop_name,zh-CN,阿尔法,a,\nstops,stop_name,zh,贝塔,,Beta\n"
        "trips,trip_headsign,zh,公园,,Park\nroutes,route_short_name,zh,1路,R1,\nstops,stop_name,fr,Gamme,c,\n"
    )
    line = read({**FEED, "translations": told}).line("R1")
    assert [stop.name.zh for stop in line.directions[0].stops] == ["阿尔法", "贝塔", "Gamma"]
    assert [stop.name.en for stop in line.directions[0].stops] == ["Alpha", "Beta", "Gamma"]
    assert (line.name.zh, line.name.en, line.directions[0].name.zh) == ("1路", "1", "公园")


def test_another_currency_is_a_choice(read: Read) -> None:
    foreign = {**FEED, "fare_products": FEED["fare_products"].replace("CNY", "PLN")}
    refused = r"fare_products.txt, line 2: the fare is in PLN.*`hardwallet fares`.*--as-cny"
    with pytest.raises(FaresRefused, match=refused):
        read(foreign)
    assert read(foreign, Choices(as_cny=True)).fare_fen("R1", "1", "a", "c", Rider.ADULT) == 350


@pytest.mark.parametrize(
    ("amount", "fen"),
    [("2", 200), ("0.00", 0), ("2.5", 250), ("2.500", 250), ("0.05", 5), ("21474836.47", 2**31 - 1)],
)
def test_amounts_are_exact(read: Read, amount: str, fen: int) -> None:
    network = read(changed("fare_products", "10.00", amount))
    assert network.fare_fen("R2", "1", "a", "c", Rider.ADULT) == fen


@pytest.mark.parametrize(
    "amount", ["", "-1.00", "1e3", "1,00", "2.005", "0x10", "٣", "99999999.00", "NaN", " "]
)
def test_amounts_that_can_not_be_taken(read: Read, amount: str) -> None:
    with pytest.raises(FaresRefused, match=r"fare_products.txt, line 6: .*amount"):
        read(changed("fare_products", "10.00", f'"{amount}"'))


def test_the_medium_most_like_a_card_counts(read: Read) -> None:
    files = changed(
        "fare_products", "fast,Express,,,10.00,CNY", "fast,E,,cash,12.00,CNY\nfast,E,,card,9.00,CNY"
    )
    files["fare_media"] = "fare_media_id,fare_media_type\ncash,0\ncard,2\n"
    assert read(files).fare_fen("R2", "1", "a", "c", Rider.ADULT) == 900


def test_rules_by_priority_and_by_what_is_not_named(read: Read) -> None:
    """Without priorities an empty field means what no other rule names; with them it means anything."""
    plain = changed("fare_leg_rules", "x,,B,A,over\n", "x,,,,in\n")
    network = read(plain)
    with pytest.raises(NoSuchFare, match="no fare is given from Gamma"):
        network.fare_fen("R1", "2", "c", "a", Rider.ADULT)
    ranked = (
        "network_id,from_area_id,to_area_id,fare_product_id,rule_priority\n,A,A,in,1\n,,,over,\n,B,,fast,2\n"
    )
    network = read({**FEED, "fare_leg_rules": ranked})
    fares = [
        network.fare_fen("R1", *way, Rider.ADULT)
        for way in (("1", "a", "b"), ("1", "a", "c"), ("2", "c", "a"))
    ]
    assert fares == [200, 350, 1000]


def test_what_is_left_out_is_noted(read: Read) -> None:
    rules = FEED["fare_leg_rules"].replace(
        "fare_product_id\n", "fare_product_id,from_timeframe_group_id\n", 1
    )
    rules = "\n".join(row + "," if number else row for number, row in enumerate(rules.strip().split("\n")))
    rules += "\nx,,A,A,month,night\n"
    files = {**FEED, "fare_leg_rules": rules, "fare_transfer_rules": "from_leg_group_id\n"}
    files["stop_times"] = (
        "trip_id,stop_sequence,stop_id,location_id\nt1,1,a,\nt1,2,b,\nt4,1,a,\nt4,2,c,\nt3,1,,zone\nt3,2,b,\n"
    )
    notes = " / ".join(read(files).notes)
    assert "1 fare rules that depend on the time of day" in notes
    assert "fare_transfer_rules.txt is not applied" in notes
    assert "1 trips with flexible stops" in notes


@pytest.mark.parametrize(
    "name", ["agency", "routes", "trips", "stops", "stop_times", "fare_products", "fare_leg_rules"]
)
def test_a_missing_file_is_named(read: Read, name: str) -> None:
    with pytest.raises(FaresRefused, match=f"feed.zip: {name}.txt is missing"):
        read({other: text for other, text in FEED.items() if other != name})


def test_fares_of_the_first_kind_are_told_apart(read: Read) -> None:
    files = {name: text for name, text in FEED.items() if not name.startswith("fare")}
    with pytest.raises(FaresRefused, match=r"first kind only"):
        read({**files, "fare_attributes": "fare_id,price\n1,2\n"})


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("routes", "route_id", "route", "routes.txt, line 1: the column route_id is missing"),
        ("trips", "trip_headsign", "trip_id", "trips.txt, line 1: a column is there twice"),
        ("trips", "R1,all,t2", "R9,all,t2", "trips.txt, line 3: routes.txt has no route R9"),
        ("trips", "R1,all,t2", "R1,all,t1", "trips.txt, line 3: trip t1 is there twice"),
        ("trips", "Station,1", "Station,7", "line 3: direction_id"),
        ("trips", "R1,all,t3", "R1,t3", "trips.txt, line 4: 4 fields where the header has 5"),
        ("stops", "b,Beta", "a,Beta", "stops.txt, line 3: stop a is there twice"),
        ("stops", "b,Beta", ",Beta", "stops.txt, line 3: stop_id is empty"),
        ("stops", "Beta", "Be\x1b[2Jta", "stops.txt, line 3: stop_name holds characters"),
        ("stop_times", "t1,10,b", "t1,10,q", "stop_times.txt, line 2: stops.txt has no stop 'q'"),
        ("stop_times", "t1,10,b", "t9,10,b", "stop_times.txt, line 2: trips.txt has no trip t9"),
        ("stop_times", "t1,10,b", "t1,1.5,b", "line 2: stop_sequence"),
        ("stop_times", "t1,10,b", 't1,10,"b', "stop_times.txt, line"),
        (
            "fare_leg_rules",
            "express,,,fast",
            "express,,,slow",
            "line 5: fare_products.txt has no product slow",
        ),
        ("routes", "R2,2", "R1,2", "route R1 is there twice"),
    ],
)
def test_a_wrong_row_is_refused_with_file_and_line(
    read: Read, name: str, old: str, new: str, told: str
) -> None:
    with pytest.raises(FaresRefused, match=told):
        read(changed(name, old, new))


def test_encodings(read: Read) -> None:
    assert read({**FEED, "stops": ("\ufeff" + FEED["stops"].replace("\n", "\r\n")).encode()}, OLD).lines
    for encoding in ("gbk", "latin-1"):
        name = "北京" if encoding == "gbk" else "Zürich"
        wrong = FEED["stops"].replace("Beta", name).encode(encoding)
        with pytest.raises(FaresRefused, match=r"stops.txt, line 3: this is not UTF-8.*GBK or Latin-1"):
            read({**FEED, "stops": wrong})
    with pytest.raises(FaresRefused, match="line 1: this is not UTF-8"):
        read({**FEED, "stops": FEED["stops"].encode("utf-16")})


def test_bounds_are_kept_while_reading(tmp_path: Path) -> None:
    """Rows go by one after the other: the last one that is read is told, and how far it is."""
    head = "trip_id,stop_sequence,stop_id\n"
    rows = "".join(f"t1,{number},a\n" for number in range(60_000))
    path = tmp_path / "feed.zip"
    path.write_bytes(packed({**FEED, "stop_times": head + rows}))
    heard: list[tuple[int, int]] = []
    with pytest.raises(FaresRefused, match=r"stop_times.txt, line 20002: at most 20000 rows"):
        read_gtfs(path, bounds=Bounds(rows=20_000), progress=lambda done, of: heard.append((done, of)))
    assert heard == sorted(heard)
    assert all(done <= of for done, of in heard)
    with pytest.raises(FaresRefused, match=r"trips.txt, line 4: at most 2 rows"):
        read_gtfs(path, bounds=Bounds(trips=2))


@pytest.mark.parametrize(
    ("bound", "told"),
    [
        ({"zip_bytes": 500}, "at most 500 are read"),
        ({"members": 9}, "holds 10 files"),
        ({"directory_bytes": 100}, "directory has"),
        ({"file_bytes": 100}, "bytes; at most 100"),
        ({"all_bytes": 1000}, "in all"),
        ({"line_bytes": 40}, "above 40 bytes long"),
        ({"columns": 3}, "columns; at most 3"),
    ],
)
def test_each_bound_is_told(read: Read, bound: dict[str, int], told: str) -> None:
    with pytest.raises(FaresRefused, match=told):
        read(dict(FEED), **bound)


def test_a_bomb_is_not_unpacked(read: Read) -> None:
    """A gigabyte of zeros is one line above its bound; a directory that lies is a damaged zip."""
    with pytest.raises(FaresRefused, match="above 32768 bytes long"):
        read({**FEED, "stops": b"0" * 20_000_000})
    raw = bytearray(packed({**FEED, "zzz": "0" * 1000}))
    at = raw.rfind(b"PK\x01\x02", 0, raw.find(b"stops.txt", raw.find(b"PK\x01\x02")))
    raw[at + 24 : at + 28] = struct.pack("<I", 2**31)  # the declared size of stops.txt
    with pytest.raises(FaresRefused, match=r"at most|damaged"):
        read(bytes(raw))
    raw[at + 24 : at + 28] = struct.pack("<I", 20)
    with pytest.raises(FaresRefused, match=r"stops\.txt"):
        read(bytes(raw))


def test_rules_and_areas_have_bounds(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file must not make a long computation of many networks, or of a stop in every area."""
    monkeypatch.setattr("pos_terminal.gtfs.MAX_AREAS", 3)
    assert read({**FEED, "stop_areas": FEED["stop_areas"] + "B,a\nC,a\n"}).lines
    with pytest.raises(FaresRefused, match=r"stop_areas.txt, line 7: stop a is in more than 3 areas"):
        read({**FEED, "stop_areas": FEED["stop_areas"] + "B,a\nC,a\nD,a\n"})
    monkeypatch.setattr("pos_terminal.gtfs.MAX_RULES", 3)
    with pytest.raises(FaresRefused, match="too many rules for too many networks; at most 3"):
        read(dict(FEED))


@pytest.mark.parametrize("name", ["../stops.txt", "/etc/stops.txt", "a/../../b.txt", "\\x.txt", "c:x.txt"])
def test_names_that_lead_out(read: Read, name: str) -> None:
    with pytest.raises(FaresRefused, match="leads out of the zip"):
        read({**FEED, name: "x"})


def test_files_in_a_folder_or_twice_or_encrypted(read: Read, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(FaresRefused, match=r"agency.txt lies in a folder \(town/agency.txt\)"):
        read({f"town/{name}.txt": text for name, text in FEED.items()})
    content = io.BytesIO(packed(dict(FEED)))
    with zipfile.ZipFile(content, "a") as made:
        made.writestr("stops.txt", FEED["stops"])
    with pytest.raises(FaresRefused, match="in the zip twice"):
        read(content.getvalue())
    raw = bytearray(packed(dict(FEED)))
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        raw[raw.find(mark) + offset] |= 1
    with pytest.raises(FaresRefused, match="is encrypted"):
        read(bytes(raw))
    assert [str(one.message) for one in recwarn] == ["Duplicate name: 'stops.txt'"]


def test_what_is_no_zip(read: Read, tmp_path: Path) -> None:
    for raw in (b"", b"PK\x03\x04", b"x" * 100, b"PK\x05\x06" + b"\xff" * 18, b"PK\x05\x06" + bytes(10)):
        with pytest.raises(FaresRefused, match="zip"):
            read(raw)
    whole = packed(dict(FEED))
    locator = b"PK\x06\x07" + bytes(16)
    with pytest.raises(FaresRefused, match="zip64"):
        read(whole[:-22] + locator + whole[-22:])
    with pytest.raises(FaresRefused, match="can't be read"):
        read_gtfs(tmp_path / "none.zip")


def test_damaged_feeds_are_refused_and_nothing_else(read: Read) -> None:
    """Bytes altered anywhere, and the zip cut off anywhere."""
    chance = random.Random(11)
    whole = packed(dict(FEED), compression=zipfile.ZIP_STORED)
    for _ in range(150):
        altered = bytearray(whole)
        for _ in range(chance.randrange(1, 5)):
            altered[chance.randrange(len(altered))] = chance.randrange(256)
        if chance.random() < 0.2:
            del altered[chance.randrange(len(altered)) :]
        with contextlib.suppress(FaresRefused):
            assert read(bytes(altered)).lines


def test_either_file_is_told_by_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "fares"
    path.write_bytes(packed(dict(FEED)))
    assert read_network(path, OLD).lines[0].id == "R1"
    path.write_text("version = 1\n")
    with pytest.raises(FaresRefused, match="currency is missing"):
        read_network(path)
