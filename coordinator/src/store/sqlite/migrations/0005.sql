-- Who may ask what: tokens, of whose secrets only the hash is kept; and what was asked. Times in milliseconds since 1970.

CREATE TABLE token (
    id        INTEGER PRIMARY KEY,
    name      TEXT    NOT NULL,
    role      TEXT    NOT NULL,            -- viewer, operator, admin
    hash      BLOB    NOT NULL,            -- BLAKE3 of the secret
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    last_used INTEGER,
    revoked   INTEGER
) STRICT;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    refused INTEGER NOT NULL,              -- whether nobody acted on it: refusals never crowd out changes
    kind    TEXT    NOT NULL,              -- token, user, anonymous
    actor   INTEGER,                       -- number of the token or of the user
    name    TEXT,
    origin  TEXT    NOT NULL,
    method  TEXT    NOT NULL,
    route   TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    status  INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    request TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_refused ON audit (refused, id);
