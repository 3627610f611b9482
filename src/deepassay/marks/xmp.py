"""Marks in an XMP packet: the TC260:AIGC property, and a C2PA reference under dcterms:provenance."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from deepassay.marks.mark import C2PA, GB45438, Carrier

NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"
_PROVENANCE = "{http://purl.org/dc/terms/}provenance"


def in_xmp(packet: bytes, place: str, *, standard_place: bool = True) -> Iterator[Carrier]:
    """Carriers in one packet. A packet that names AIGC but cannot be parsed is itself a carrier with a problem."""
    text = packet.strip(b"\x00 \t\r\n")
    # No document type, hence no entities: nothing to expand and nothing to fetch.
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        if b"AIGC" in text:
            yield Carrier(GB45438, place, "AIGC", text, "the XMP packet declares a document type", standard_place)
        return
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if b"AIGC" in text:
            yield Carrier(GB45438, place, "AIGC", text, f"the XMP packet is not well-formed ({error})", standard_place)
        return
    for element in root.iter():
        properties = [(element.tag, "".join(element.itertext())), *element.attrib.items()]
        for name, value in properties:
            if not isinstance(name, str):  # comments and processing instructions
                continue
            namespace, local = name[1:].split("}", 1) if name.startswith("{") else ("", name)
            if "AIGC" in local:
                right = namespace == NAMESPACE
                key = f"TC260:{local}" if right else f"{{{namespace}}}{local}"
                yield Carrier(GB45438, place, key, value.strip().encode(), "", standard_place and right)
            elif name == _PROVENANCE:
                yield Carrier(C2PA, f"{place} dcterms:provenance", "provenance", b"", "", standard_place)
