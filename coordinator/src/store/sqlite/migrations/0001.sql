-- Unsigned numbers of 64 bits are stored as the signed number with the same bits.

CREATE TABLE node (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    build      TEXT    NOT NULL,
    arch       TEXT    NOT NULL,
    partitions TEXT    NOT NULL,             -- JSON list of names its own settings declare
    last_seen  INTEGER NOT NULL,             -- milliseconds since 1970
    stream     INTEGER NOT NULL DEFAULT 0,   -- life of the agent process; 0 with generation 0: nothing is known
    generation INTEGER NOT NULL DEFAULT 0,
    digest     BLOB    NOT NULL DEFAULT (zeroblob(32)) -- of the inventory: the roots and replicas below
) STRICT;

CREATE TABLE root (
    node    INTEGER NOT NULL REFERENCES node (id) ON DELETE CASCADE,
    root    INTEGER NOT NULL,
    path    TEXT    NOT NULL,
    library INTEGER NOT NULL,
    state   TEXT    NOT NULL,                -- watched, degraded, unknown, partial
    reason  TEXT,                            -- of all but watched
    PRIMARY KEY (node, root)
) STRICT, WITHOUT ROWID;

CREATE TABLE replica (
    node     INTEGER NOT NULL REFERENCES node (id) ON DELETE CASCADE,
    root     INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    modified INTEGER NOT NULL,               -- milliseconds since 1970
    state    TEXT    NOT NULL,               -- being_written, hashing, image, or a code of what is unusable
    detail   TEXT,                           -- of what is unusable
    digest   BLOB,                           -- these four of an image
    format   TEXT,
    arch     TEXT,
    mutable  INTEGER,
    PRIMARY KEY (node, root, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE image_metadata (
    digest   BLOB    PRIMARY KEY,
    noted    INTEGER NOT NULL,               -- counts up: the oldest go first
    bytes    INTEGER NOT NULL,               -- of both texts
    metadata TEXT    NOT NULL,               -- JSON
    sidecar  TEXT
) STRICT;
CREATE INDEX image_metadata_by_age ON image_metadata (noted, bytes);

CREATE TABLE partition_source (
    source TEXT    PRIMARY KEY,              -- file, slurm
    at     INTEGER NOT NULL                  -- when it was last heard, milliseconds since 1970
) STRICT, WITHOUT ROWID;

CREATE TABLE partition (
    source TEXT NOT NULL REFERENCES partition_source (source) ON DELETE CASCADE,
    name   TEXT NOT NULL,                    -- a partition may have no members
    PRIMARY KEY (source, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE member (
    source    TEXT NOT NULL,
    partition TEXT NOT NULL,
    node      TEXT NOT NULL,                 -- need not have an agent
    PRIMARY KEY (source, partition, node),
    FOREIGN KEY (source, partition) REFERENCES partition (source, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE heard_of (
    id   INTEGER PRIMARY KEY,                -- counts up: the oldest go first
    name TEXT    NOT NULL UNIQUE
) STRICT;
