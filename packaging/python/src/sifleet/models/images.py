"""Images and what they say of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from sifleet.models.availability import PathNodes, Reason


@dataclass(frozen=True)
class DigestUse:
    """One digest under a name; ``format`` is ``sif``, ``squashfs`` or ``ext3``, ``arch`` as Go names processors."""

    digest: str
    size: int
    arch: str
    format: str
    mutable: bool
    in_library: bool
    count: int
    nodes: str


@dataclass(frozen=True)
class ImageSummary:
    """One name and where it stands; ``drift`` means that nodes disagree about the bytes under it."""

    name: str
    digests: tuple[DigestUse, ...]
    drift: bool
    nodes: str
    count: int
    last_known: str


@dataclass(frozen=True)
class SifPartition:
    """One partition inside a SIF (not one of Slurm's)."""

    id: int
    file_system: str
    role: str
    arch: str
    offset: int
    size: int


@dataclass(frozen=True)
class Signature:
    """One signature as it is written in the SIF: what it claims, not verified."""

    id: int
    kind: str
    hash: str
    fingerprint: Optional[str]
    key_ids: tuple[str, ...]
    group: Optional[int]
    objects: tuple[int, ...]
    covers_data: bool


@dataclass(frozen=True)
class App:
    """One app inside an image (SCIF)."""

    labels: Mapping[str, str]
    environment: Mapping[str, str]
    runscript: Optional[str] = None
    test: Optional[str] = None
    help: Optional[str] = None


@dataclass(frozen=True)
class ImageMetadata:
    """What an image says of itself, read from its file without running anything. Its texts are by strangers."""

    format: str
    runnable: str
    mutable: bool
    arch: str
    size: int
    used: int
    uuid: Optional[str]
    created: Optional[int]
    modified: Optional[int]
    objects: int
    partitions: tuple[SifPartition, ...]
    definition: Optional[str]
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    runscript: Optional[str]
    startscript: Optional[str]
    test: Optional[str]
    help: Optional[str]
    apps: Mapping[str, App]
    signatures: tuple[Signature, ...]
    oci_config: Optional[str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Described:
    """What the image of one digest says of itself; ``sidecar`` is the text of ``NAME.sif.json``, for display only."""

    digest: str
    metadata: ImageMetadata
    sidecar: Optional[str] = None


@dataclass(frozen=True)
class ImageDetail:
    """Everything known of an image."""

    summary: ImageSummary
    paths: tuple[PathNodes, ...]
    problems: tuple[Reason, ...]
    metadata: tuple[Described, ...]
    as_of: str
