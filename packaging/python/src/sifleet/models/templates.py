"""Job templates: what they need."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class TemplateMistake:
    """Something wrong with a file of templates; ``file`` is empty for the directory itself."""

    file: str
    line: Optional[int]
    column: Optional[int]
    message: str


@dataclass(frozen=True)
class TemplateBody:
    """What a job template needs; ``signer`` is the fingerprint of a key that must have signed the image."""

    image: str
    partition: str
    name: Optional[str] = None
    description: Optional[str] = None
    require: Optional[str] = None
    digest: Optional[str] = None
    signer: Optional[str] = None


@dataclass(frozen=True)
class Template:
    """A job template, from a ``file`` or put over the ``api``; with a mistake, it is what the file said before."""

    id: str
    image: str
    partition: str
    source: str
    changed: str
    name: Optional[str] = None
    description: Optional[str] = None
    require: Optional[str] = None
    digest: Optional[str] = None
    signer: Optional[str] = None
    file: Optional[str] = None
    mistake: Optional[TemplateMistake] = None


@dataclass(frozen=True)
class TemplateList:
    """All job templates, and what is wrong with their files."""

    templates: tuple[Template, ...]
    mistakes: tuple[TemplateMistake, ...]
    as_of: str
