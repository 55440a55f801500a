-- Streams whose exact copies are still there: few, and looked for often.
CREATE INDEX stream_keys_working ON stream_keys (stream) WHERE copy = 1 AND destroyed_at IS NULL;
