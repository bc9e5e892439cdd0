"""The record of origin and licence: complete, in every format, and silent about what others made."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from humanoid import humanoid_avatar

from avatar3d.export.binary import split_glb
from avatar3d.export.glb import encode_glb
from avatar3d.export.licences import SOURCES, UNKNOWN, add_xmp, is_free, licence_record, title
from avatar3d.export.vrm import encode_vrm

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "assets"


def shipped() -> set[str]:
    """Files below `assets/` that the package reads; cards and the gallery are for people."""
    files = (p.relative_to(ASSETS) for p in ASSETS.rglob("*") if p.is_file() and p.suffix != ".md")
    return {p.as_posix() for p in files if p.parts[0] != "gallery"}


def test_every_shipped_file_has_a_source():
    assert {file for source in SOURCES for file in source.files} == shipped()


def test_the_table_for_readers_has_every_shipped_file():
    """`THIRD_PARTY.md` names each file, or all of a kind with a star, with the licence that the record says."""
    rows = re.findall(r"^\| (.*`.*) \| (.*) \| (.*) \|$", (ROOT / "THIRD_PARTY.md").read_text("utf-8"), re.M)
    for file in shipped():
        patterns = [(re.findall(r"`([^`]*)`", name), licence) for name, _, licence in rows]
        named = [licence for names, licence in patterns if any(Path(file).match(p) for p in names)]
        assert named, f"{file} is not in THIRD_PARTY.md"
        for source in SOURCES:
            if file in source.files and not source.licence.startswith("LicenseRef"):
                plain = source.licence.replace("CC0-1.0", "CC0 1.0")
                assert any(plain in licence for licence in named), (file, source.licence)


def test_what_is_in_avatars_is_public_domain():
    """Else the record's licence would be wrong."""
    assert {source.licence for source in SOURCES if source.in_avatar} == {"CC0-1.0"}


def test_record_of_our_own():
    avatar = humanoid_avatar(3)
    record = licence_record(avatar, "old man")
    assert json.loads(json.dumps(record)) == json.loads(json.dumps(record | {"spec": asdict(avatar.spec)}))
    assert (record["generated"], record["licence"], record["prompt"], record["seed"]) == (
        True,
        "CC0-1.0",
        "old man",
        3,
    )
    assert record["generator"].startswith("avatar3d ")
    assert len(record["assets"]) == len(SOURCES)
    without_prompt = licence_record(avatar)
    assert all(asset["in_avatar"] for asset in without_prompt["assets"]), "no text model was used"
    assert (title(record), title(without_prompt)) == ("old man", "avatar 3")


@pytest.mark.parametrize(
    ("asset", "licence"),
    [
        ({"version": "2.0", "generator": "Blender", "copyright": "(c) 2020 Jane"}, UNKNOWN),
        ({"version": "2.0", "extras": {"license": "CC-BY-4.0"}}, "CC-BY-4.0"),
        ({"version": "2.0", "extras": ["odd"]}, UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_nothing_is_claimed_of_foreign_avatars(asset, licence):
    record = licence_record(replace(humanoid_avatar(), spec=None), original=asset)
    assert record["licence"] == licence and not is_free(record)
    assert "generated" not in record and "assets" not in record
    assert record["original"] == {k: v for k, v in (asset or {}).items() if k != "version"}
    assert title(record) == "avatar"


def test_our_own_files_keep_their_record():
    """Export of an export says what the first file said."""
    avatar = humanoid_avatar(3)
    first = licence_record(avatar, "old man")
    asset = split_glb(encode_glb(avatar, first))[0]["asset"]
    assert licence_record(replace(avatar, spec=None), original=asset) == json.loads(json.dumps(first))
    assert licence_record(avatar, original=asset) == json.loads(json.dumps(first))


def test_what_users_bring_is_not_given_away():
    """A motion of a user's file makes the whole file less than free, and is listed."""
    avatar = humanoid_avatar(3)
    for original in (None, split_glb(encode_glb(avatar, licence_record(avatar)))[0]["asset"]):
        record = licence_record(avatar, original=original, brought=["motion of dance.bvh"])
        assert record["licence"] == "CC0-1.0 AND LicenseRef-unknown" and not is_free(record)
        assert record["assets"][-1]["name"] == "motion of dance.bvh"
        assert record["assets"][-1]["licence"] == UNKNOWN
        again = licence_record(avatar, original={"extras": record}, brought=["motion of walk.bvh"])
        assert again["licence"] == record["licence"] and len(again["assets"]) == len(record["assets"]) + 1


def test_xmp_packet():
    document: dict = {"asset": {"version": "2.0"}}
    add_xmp(document, licence_record(humanoid_avatar(), "old man"))
    number = document["asset"]["extensions"]["KHR_xmp_json_ld"]["packet"]
    packet = document["extensions"]["KHR_xmp_json_ld"]["packets"][number]
    assert document["extensionsUsed"] == ["KHR_xmp_json_ld"]
    prefixes = {key.split(":")[0] for key in packet if ":" in key}
    assert prefixes <= set(packet["@context"]), "every prefix is declared"
    assert packet["xmpRights:WebStatement"].endswith("/publicdomain/zero/1.0/")
    assert packet["Iptc4xmpExt:DigitalSourceType"].endswith("/algorithmicMedia")
    foreign: dict = {"asset": {"version": "2.0"}}
    add_xmp(foreign, licence_record(replace(humanoid_avatar(), spec=None)))
    assert not {"xmpRights:WebStatement", "Iptc4xmpExt:DigitalSourceType"} & set(
        foreign["extensions"]["KHR_xmp_json_ld"]["packets"][0]
    )


def test_every_glTF_file_says_it():
    avatar = humanoid_avatar(3)
    record = json.loads(json.dumps(licence_record(avatar, "old man")))
    for data in (encode_glb(avatar, record), encode_vrm(avatar, record)):
        document, _ = split_glb(data)
        assert document["asset"]["extras"] == document["scenes"][0]["extras"] == record
