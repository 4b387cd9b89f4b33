-- Who may be which node. Tokens are kept as hashes of their secrets; times in milliseconds since 1970.

CREATE TABLE standing (
    node     TEXT    PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    enrolled INTEGER,
    revoked  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE enrol_token (
    id        INTEGER PRIMARY KEY,           -- 64 random bits
    hash      BLOB    NOT NULL,
    node      TEXT    NOT NULL,
    networks  TEXT    NOT NULL,              -- separated by blanks; none: from anywhere
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    used      INTEGER,
    used_from TEXT
) STRICT;
