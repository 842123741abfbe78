-- Which seeds were planted, so that they are planted once.

CREATE TABLE seeds (
    name       text PRIMARY KEY,
    orders     integer NOT NULL,
    planted_at timestamptz NOT NULL DEFAULT now()
);
