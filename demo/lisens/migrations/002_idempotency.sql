-- One row per Idempotency-Key, written in the same transaction as its order:
-- either both exist or neither does. The answer is kept as sent, so that a
-- replay is byte for byte the first answer.

CREATE TABLE idempotency_keys (
    key          text PRIMARY KEY,
    request_hash bytea NOT NULL,
    order_id     bigint REFERENCES orders (id),
    answer       text,
    created_at   timestamptz NOT NULL DEFAULT now()
);
