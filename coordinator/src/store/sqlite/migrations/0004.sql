-- Limits of transfers, one row if any were ever set, and nodes that somebody marked as busy. Rates in bytes a second.

CREATE TABLE limits (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    total           INTEGER,
    up              INTEGER,
    down            INTEGER,
    concurrent      INTEGER,
    busy_up         INTEGER,
    busy_down       INTEGER,
    busy_concurrent INTEGER
) STRICT;

CREATE TABLE busy_node (
    node TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

ALTER TABLE removal ADD COLUMN key TEXT;            -- the caller's Idempotency-Key
ALTER TABLE removal ADD COLUMN fingerprint BLOB;    -- of the body that came with it
