CREATE TABLE {name} (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
CREATE INDEX ON {name} (source, id);
CREATE INDEX ON {name} (contact_id);
CREATE INDEX ON {name} (occurred_at DESC, received_at DESC);
CREATE INDEX ON {name} (left(event, 100), occurred_at DESC, received_at DESC);
CREATE INDEX ON {name} (left(user_id, 100), occurred_at DESC, received_at DESC);
CREATE INDEX ON {name} (source, occurred_at DESC, received_at DESC);
ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ('{begins}') TO ('{ends}');
