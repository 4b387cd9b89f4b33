-- External registries. Credentials are as they have to be sent; the file is its owner's alone. Times in milliseconds since 1970.

CREATE TABLE registry (
    id       TEXT    PRIMARY KEY,
    name     TEXT    NOT NULL,
    url      TEXT    NOT NULL,
    prefix   TEXT    NOT NULL,
    rest     TEXT    NOT NULL,               -- metadata, tags, config and storage_info as JSON
    created  INTEGER NOT NULL,
    changed  INTEGER NOT NULL,
    username TEXT,
    password TEXT,
    origin   TEXT,                           -- where the credentials may go
    realm    TEXT
) STRICT, WITHOUT ROWID;
