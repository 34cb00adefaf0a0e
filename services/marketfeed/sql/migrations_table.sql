CREATE TABLE IF NOT EXISTS marketfeed_migrations (
    number     integer     PRIMARY KEY,
    name       text        NOT NULL,
    dialect    text        NOT NULL,
    checksum   text        NOT NULL,  -- SHA-256 of the file's text
    applied_at timestamptz NOT NULL DEFAULT now()
);
