-- Job templates that were put over the API; those of files are read from the files. Times in milliseconds since 1970.

CREATE TABLE template (
    id          TEXT    PRIMARY KEY,
    name        TEXT,
    description TEXT,
    image       TEXT    NOT NULL,
    partition   TEXT    NOT NULL,
    require     TEXT    NOT NULL,            -- all, any or a number
    digest      TEXT,
    signer      TEXT,                        -- fingerprint of a key
    changed     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
