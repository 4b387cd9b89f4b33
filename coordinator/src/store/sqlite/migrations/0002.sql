-- Pushes: what was wanted, and how it ended for each node. A node without a phase has not come to an end.

CREATE TABLE push (
    id          INTEGER PRIMARY KEY,
    image       TEXT    NOT NULL,
    digest      BLOB    NOT NULL,
    size        INTEGER NOT NULL,
    source      TEXT,                        -- the only node it may be taken from at first
    root        TEXT,                        -- path, if one was named
    completion  TEXT    NOT NULL,            -- all, best_effort, or such as 80%
    created     INTEGER NOT NULL,            -- these three in milliseconds since 1970
    ended       INTEGER,
    deadline    INTEGER NOT NULL,
    patience    INTEGER NOT NULL,            -- milliseconds
    rate        INTEGER,                     -- bytes a second
    priority    INTEGER NOT NULL,
    cancelled   INTEGER NOT NULL,
    key         TEXT,                        -- the caller's Idempotency-Key
    fingerprint BLOB                         -- of the body that came with it
) STRICT;

CREATE TABLE push_node (
    push    INTEGER NOT NULL REFERENCES push (id) ON DELETE CASCADE,
    place   INTEGER NOT NULL,                -- in the order of the nodes
    node    TEXT    NOT NULL,                -- need not have an agent
    phase   TEXT,                            -- done, failed, cancelled
    code    TEXT,
    message TEXT,
    root    TEXT,
    fetched INTEGER NOT NULL DEFAULT 0,
    reused  INTEGER NOT NULL DEFAULT 0,
    resumed INTEGER NOT NULL DEFAULT 0,
    wasted  INTEGER NOT NULL DEFAULT 0,
    present INTEGER NOT NULL DEFAULT 0,
    started INTEGER,                         -- milliseconds since 1970
    ended   INTEGER,
    PRIMARY KEY (push, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunk_map (
    image BLOB PRIMARY KEY,
    map   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
